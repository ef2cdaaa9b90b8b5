"""A rule's page: its docstring, taken apart into sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import dedent

from onnxscope.checks.registry import RuleInfo

SECTIONS = ("What it flags", "Why it matters", "Bad", "Good", "Fix and its safety", "Source")
"""Every page has these, in this order."""
_HEADING = re.compile(rf"^({'|'.join(SECTIONS)}):[ \t]*(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Example:
    """A model that breaks the rule, or one that doesn't."""

    text: str
    """ONNX text for onnx.parser; "" where a test written by hand shows it."""
    targets: tuple[str, ...] = ()
    """Targets that the text is audited for."""
    test: str = ""
    """Path of the test that shows it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One rule's page."""

    summary: str
    """First line of the docstring."""
    sections: dict[str, str]
    """Heading -> text, without indentation."""
    bad: Example
    good: Example


def page_of(info: RuleInfo) -> Page:
    """The page of a rule. Raises ValueError where its docstring lacks a section."""
    pieces = _HEADING.split(info.page)
    found, notes = {}, {}
    for heading, note, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        notes[heading], found[heading] = note.strip(), dedent(body.strip("\n")).strip()
    if tuple(found) != SECTIONS:
        raise ValueError(f"the page of {info.code} has the sections {', '.join(found)}")
    examples = [_example(notes[heading], found[heading]) for heading in ("Bad", "Good")]
    texts = {heading: f"{notes[heading]}\n{body}".strip() for heading, body in found.items()}
    return Page(pieces[0].strip(), texts, *examples)


def _example(note: str, body: str) -> Example:
    if note.startswith("see "):
        return Example("", test=note.removeprefix("see ").split()[0].rstrip(".,"))
    targets = tuple(re.findall(r"--target[ =](\S+)", note))
    return Example(body, targets)
