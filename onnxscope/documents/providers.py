"""What the installed onnxruntime can run on, as a plain document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from onnxscope.packages import conflict
from onnxscope.runtime import Support

PROVIDERS = "onnxscope.providers/1"
"""Name and version of the document; the number grows when a key changes its meaning or goes."""


class SupportEntry(TypedDict):
    """One execution provider."""

    short: str
    """As `--provider` takes it; the full name works too."""
    name: str
    installed: bool
    """Whether this onnxruntime was built with it, or has a plugin package for it."""
    usable: bool
    """Whether a session really ran on it."""
    reason: str | None
    """Why it isn't usable."""
    install: str | None
    """The command that brings it."""
    plugin: str | None
    """The module that brings it as a plugin; null for a provider that onnxruntime was built with."""


class ProvidersDocument(TypedDict):
    """The whole document."""

    schema: str
    runtime: str
    """For example `onnxruntime 1.32.0`."""
    packages: list[str]
    """The distributions that bring it, with versions: one, or they overwrite each other."""
    problems: list[str]
    """What is wrong with the installation, and what to do."""
    providers: list[SupportEntry]


def providers(runtime: str, packages: Sequence[str], rows: Iterable[Support]) -> ProvidersDocument:
    """The document of what `runtime.providers` and `runtime.packages` found."""
    problem = conflict(tuple(packages))
    return {
        "schema": PROVIDERS,
        "runtime": runtime,
        "packages": list(packages),
        "problems": [problem] if problem else [],
        "providers": [_entry(row) for row in rows],
    }


def _entry(row: Support) -> SupportEntry:
    return {
        "short": row.short,
        "name": row.name,
        "installed": row.installed,
        "usable": row.loads,
        "reason": row.reason or None,
        "install": row.install or None,
        "plugin": row.plugin or None,
    }
