"""The audit document: what the rules find in one or several models."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from onnxscope.checks import baseline, runner, suppress
from onnxscope.checks.finding import SEVERITIES, Finding
from onnxscope.checks.registry import find
from onnxscope.checks.settings import Settings
from onnxscope.errors import FileError
from onnxscope.files.read import load
from onnxscope.graph import Model

AUDIT = "onnxscope.audit/1"
"""Name and version of the audit document; the number grows when a key changes its meaning or goes."""
UNREADABLE = "OX002"
"""Code of the finding that stands for a file that can't be read."""
Known = Collection[str]
"""Fingerprints of a baseline."""


class FindingEntry(TypedDict):
    """One finding."""

    code: str
    name: str
    severity: str
    where: str
    """Node, tensor, value or metadata key by its own name; "" for the file."""
    message: str
    help: str
    data: dict[str, object]
    """The numbers of the message, `fingerprint` (stable when names are renumbered) and, where the place is
    known, `offset` and `length` of its message in the file, in bytes."""


class ModelFindings(TypedDict):
    """One model."""

    path: str
    findings: list[FindingEntry]
    """Worst first, then by code, then in the order of the file."""
    summary: dict[str, int]
    """Severity -> number of findings."""
    allowed: NotRequired[int]
    """Findings that the model's own metadata allows; absent where there is none."""
    known: NotRequired[int]
    """Findings that the baseline holds; absent without one."""


class AuditDocument(TypedDict):
    """The whole audit."""

    schema: str
    models: list[ModelFindings]


@dataclass(frozen=True, slots=True)
class Task:
    """One file to audit."""

    path: str
    settings: Settings = field(default_factory=Settings)
    known: frozenset[str] | None = None
    """Fingerprints of the baseline; None without one."""


def audit(entries: Iterable[ModelFindings]) -> AuditDocument:
    """The document of several models."""
    return {"schema": AUDIT, "models": list(entries)}


def of_task(task: Task) -> ModelFindings:
    """The findings in a file; one that can't be read gets a finding that says why. Never raises."""
    try:
        model = load(task.path)
    except FileError as error:
        return _single(task, error.message, error.where, error.help)
    except Exception as error:  # a bug of ours must not cost the audit of the other files
        return _single(task, f"{type(error).__name__}: {error}", "", "this is a bug in onnxscope")
    return of_model(model, task.settings, task.known)


def of_model(
    model: Model, settings: Settings | None = None, known: frozenset[str] | None = None
) -> ModelFindings:
    """The findings in a model, without those that its metadata allows or the baseline holds."""
    found = runner.audit(runner.Context(model, settings or Settings()))
    places = baseline.spots(model) if found else {}
    allowing = suppress.entries(model)
    rows = [
        (_entry(finding, fingerprint, places), suppress.allowed(finding, allowing))
        for finding, fingerprint in zip(found, baseline.fingerprints(found, places), strict=True)
    ]
    return _listed(model.path, rows, known)


def _listed(
    path: str, rows: Iterable[tuple[FindingEntry, bool]], known: frozenset[str] | None
) -> ModelFindings:
    rows = list(rows)
    kept = [row for row, allowed in rows if not allowed]
    fresh = [row for row in kept if known is None or row["data"]["fingerprint"] not in known]
    counts = Counter(row["severity"] for row in fresh)
    entry: ModelFindings = {
        "path": path,
        "findings": fresh,
        "summary": {severity: counts[severity] for severity in SEVERITIES},
    }
    if len(kept) < len(rows):
        entry["allowed"] = len(rows) - len(kept)
    if known is not None:
        entry["known"] = len(kept) - len(fresh)
    return entry


def _entry(finding: Finding, fingerprint: str, places: dict[str, baseline.Spot]) -> FindingEntry:
    data: dict[str, object] = {key: _plain(value) for key, value in finding.data.items()}
    spot = places.get(finding.where)
    if finding.offset is not None:
        data["offset"] = finding.offset
    elif spot and spot.span:
        data |= {"offset": spot.span.offset, "length": spot.span.length}
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity,
        "where": finding.where,
        "message": finding.message,
        "help": finding.help,
        "data": {**data, "fingerprint": fingerprint},
    }


def _plain(value: object) -> object:
    """A value as JSON holds it: numbers of other kinds and expressions become text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    item = getattr(value, "item", None)  # a scalar of numpy
    return _plain(item()) if callable(item) else str(value)


def _single(task: Task, message: str, where: str, help: str) -> ModelFindings:
    """The entry of a file that can't be read."""
    rule = find(UNREADABLE)
    assert rule is not None
    place = where.removeprefix(task.path).lstrip(", ")
    finding = rule.finding("", f"{place}: {message}" if place else message, help)
    fingerprint = baseline.fingerprints([finding], {})[0]
    return _listed(task.path, [(_entry(finding, fingerprint, {}), False)], task.known)


def unreadable(entry: ModelFindings) -> bool:
    """Whether the file of an entry could not be read."""
    return any(finding["code"] == UNREADABLE for finding in entry["findings"])


def worst_reaches(document: AuditDocument, threshold: str) -> bool:
    """Whether a finding other than an unreadable file is as bad as the threshold, or worse."""
    if threshold == "never":
        return False
    limit = SEVERITIES.index(threshold)
    return any(
        SEVERITIES.index(finding["severity"]) <= limit
        for entry in document["models"]
        for finding in entry["findings"]
        if finding["code"] != UNREADABLE
    )


def run(
    tasks: list[Task], jobs: int = 1, done: Callable[[ModelFindings], None] | None = None
) -> Iterator[ModelFindings]:
    """The entries of several files, in their order; `jobs` processes share the work, `done` hears of each."""
    if jobs <= 1 or len(tasks) <= 1:
        for task in tasks:
            entry = of_task(task)
            if done:
                done(entry)
            yield entry
        return
    from onnxscope.documents.processes import spread

    yield from spread(tasks, min(jobs, len(tasks)), done)


def crashed(task: Task) -> ModelFindings:
    """The entry of a file whose audit took its process with it."""
    return _single(task, "the process that audited it ended suddenly (out of memory?)", "", "audit it alone")


ENDINGS = (".onnx", ".onnxtxt")
"""Endings of the files that are audited in a folder."""


def files_in(folder: str) -> list[str]:
    """The models in a folder and the folders in it, sorted; hidden folders are left out."""
    found: list[str] = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(path, name) for name in sorted(names) if name.lower().endswith(ENDINGS)]
    return found
