"""Execution providers as a table for a terminal: the usable ones first."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.documents.providers import ProvidersDocument, SupportEntry
from onnxscope.render.blocks import LEAST_WIDTH, WIDTH, Styled, assembled, hanging
from onnxscope.render.words import clean, display_width


def text(document: ProvidersDocument, *, width: int = WIDTH, color: bool = False) -> str:
    """The table in lines of at most `width` columns, ending in a newline."""
    return assembled([_table(document, max(width, LEAST_WIDTH))], color)


def _table(document: ProvidersDocument, width: int) -> Iterator[Styled]:
    others = [name.partition(" ")[0] for name in document["packages"] if name != document["runtime"]]
    yield "title", clean(document["runtime"] + "".join(f" ({name})" for name in others[:1]))
    for problem in document["problems"]:
        yield from hanging(clean(problem), width, "  ", style="bad")
    rows = sorted(document["providers"], key=lambda row: (not row["usable"], not row["installed"]))
    first = max((display_width(clean(row["short"])) for row in rows), default=0)
    second = max((display_width(_state(row)) for row in rows), default=0)
    for row in rows:
        name, state = clean(row["short"]), _state(row)
        start = f"  {name}{' ' * (first - display_width(name))}  {state}{' ' * (second - len(state))}  "
        yield from hanging(_said(row), width, start, style="good" if row["usable"] else "")


def _state(row: SupportEntry) -> str:
    if row["usable"]:
        return "usable"
    return "does not load" if row["installed"] else "not installed"


def _said(row: SupportEntry) -> str:
    name = f"{row['name']} (plugin {row['plugin']})" if row["plugin"] else row["name"]
    if row["usable"]:
        return clean(name)
    if not row["installed"] and row["install"]:
        return clean(f"{name}; {row['install']}")
    return clean(": ".join(part for part in (name, row["reason"]) if part))
