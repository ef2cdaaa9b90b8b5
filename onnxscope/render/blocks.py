"""Lines of text with hanging indents, grouped into blocks: what the text renderers share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import TypeAlias

from onnxscope.render.table import Column, fitted, lines, total_width
from onnxscope.render.words import display_width, number

WIDTH = 100
"""Columns where the width isn't known (a pipe or file): fixed, so that saved texts can be compared."""
LEAST_WIDTH = 60
STYLES = {
    "title": "\x1b[1m",
    "faint": "\x1b[2m",
    "warning": "\x1b[33m",
    "good": "\x1b[32m",
    "bad": "\x1b[31m",
}

Styled: TypeAlias = tuple[str, str]
"""(style, line)."""


def assembled(parts: Iterable[Iterable[Styled]], color: bool) -> str:
    """The blocks that hold anything, an empty line between them, ending in a newline."""
    blocks = ["\n".join(_styled(*line, color) for line in part) for part in map(list, parts) if part]
    return "\n\n".join(blocks) + "\n"


def _styled(style: str, line: str, color: bool) -> str:
    return f"{STYLES[style]}{line}\x1b[0m" if color and style else line


def hanging(text: str, width: int, first: str, rest: str | None = None, style: str = "") -> Iterator[Styled]:
    """The text behind `first`, its further lines under it (or behind `rest`)."""
    margin = " " * display_width(first) if rest is None else rest
    if not text:
        yield style, first.rstrip()
        return
    for line in wrap(text, width, initial_indent=first, subsequent_indent=margin, break_on_hyphens=False):
        yield style, line


def fields(rows: Sequence[tuple[str, str]], width: int, indent: str = "  ") -> Iterator[Styled]:
    """One line per (word, text), the texts under each other."""
    space = max((display_width(word) for word, _ in rows), default=0)
    for word, text in rows:
        yield from hanging(text, width, f"{indent}{word}{' ' * (space - display_width(word))}  ")


def table(columns: Sequence[Column], width: int, squeeze: Sequence[tuple[str, int]]) -> Iterator[Styled]:
    """A header, a rule and the rows; columns give way in the order of `squeeze` (title, least width)."""
    widths = fitted(columns, width, squeeze)
    header, rows = lines(columns, widths)
    yield "title", header
    yield "faint", "-" * total_width(widths)
    yield from (("", line) for row in rows for line in row)


def notes(found: Sequence[str], width: int) -> Iterator[Styled]:
    """A list of remarks."""
    if not found:
        return
    yield "title", "notes"
    for note in found:
        yield from hanging(note, width, "  - ", "    ")


def plural(number_of: int, noun: str) -> str:
    """Number and noun.

    >>> plural(1, "window"), plural(1200, "window")
    ('1 window', '1,200 windows')
    """
    return f"{number(number_of)} {noun}{'' if number_of == 1 else 's'}"
