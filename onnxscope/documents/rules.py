"""The audit's rules as a document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from onnxscope.checks.pages import page_of
from onnxscope.checks.registry import RuleInfo
from onnxscope.checks.registry import rules as registered

RULES = "onnxscope.rules/1"
"""Name and version of the document of rules."""


class RuleEntry(TypedDict):
    """One rule and its page."""

    code: str
    name: str
    severity: str
    summary: str
    """First line of the page."""
    flags: str
    """What it flags."""
    why: str
    """Why it matters."""
    bad: str
    """ONNX text that breaks the rule, or the test that shows it."""
    good: str
    """ONNX text that doesn't."""
    fix: str
    """Fix and its safety."""
    source: str
    default: bool
    """False for a rule that runs only where its own code or name is selected."""
    reads_weights: bool
    """Whether it makes an audit read the stored numbers."""


class RulesDocument(TypedDict):
    """The table of rules."""

    schema: str
    rules: list[RuleEntry]


def rules(chosen: Iterable[RuleInfo] | None = None) -> RulesDocument:
    """The rules by code; all where none is named."""
    return {"schema": RULES, "rules": [entry(info) for info in chosen or registered()]}


def entry(info: RuleInfo) -> RuleEntry:
    """One rule's entry."""
    page = page_of(info)
    found = page.sections
    return {
        "code": info.code,
        "name": info.name,
        "severity": info.severity,
        "summary": page.summary,
        "flags": found["What it flags"],
        "why": found["Why it matters"],
        "bad": found["Bad"],
        "good": found["Good"],
        "fix": found["Fix and its safety"],
        "source": found["Source"],
        "default": info.default,
        "reads_weights": "weights" in info.wants,
    }
