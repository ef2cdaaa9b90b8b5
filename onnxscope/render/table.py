"""Aligned columns that fit a width: names are shortened in the middle, expressions are wrapped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from onnxscope.render.words import display_width

GAP = "  "
MOST_LINES = 4
"""Lines of one cell; the rest is cut, with dots."""
_SEPARATORS = re.compile(r"([./])")
_FIRST_AND_NUMBER = re.compile(r"^(.).*?(\d*)$", re.DOTALL)
_REST_OF_WORD = re.compile(r"(?<=[^\W\d_])[^\W\d_]+")
_HEADS = (0.5, 0.35, 0.2, 0.1, 0.65, 0.8, 0.9)
"""Parts of a shortened name that are kept from its start, in order of preference."""


@dataclass(frozen=True)
class Column:
    """One column before it is fitted."""

    title: str
    cells: tuple[str, ...]
    right: bool = False
    """Align to the right (numbers)."""
    name: bool = False
    """Cells are names: shortened in the middle and kept apart; other cells are wrapped."""
    per: str = ""
    """What every cell is to be read with, for example `batch x `; stands in front of the title."""

    @cached_property
    def natural(self) -> int:
        """Width without shortening."""
        return max(map(display_width, {self.header, *self.cells}))

    @property
    def header(self) -> str:
        """First line of the column."""
        return f"{self.per}{self.title}"


def total_width(widths: Sequence[int]) -> int:
    """Width of a line."""
    return sum(widths) + len(GAP) * (len(widths) - 1)


def fitted(columns: Sequence[Column], width: int, squeeze: Sequence[tuple[str, int]]) -> list[int]:
    """Column widths that fit `width`: columns are squeezed by title, in order, down to a least width each.

    A line is longer than `width` only where every column is at its least.
    """
    widths = [column.natural for column in columns]
    for title, least in squeeze:
        excess = total_width(widths) - width
        for place, column in enumerate(columns):
            if excess > 0 and column.title == title:
                widths[place] -= max(0, min(excess, widths[place] - max(least, display_width(column.header))))
    return widths


def lines(columns: Sequence[Column], widths: Sequence[int]) -> tuple[str, list[list[str]]]:
    """The header line, and per row its lines (more than one where a cell was wrapped)."""
    header = GAP.join(
        _padded(column.header, column, width) for column, width in zip(columns, widths, strict=True)
    )
    cells = [_cells(column, width) for column, width in zip(columns, widths, strict=True)]
    empty = [" " * width for width in widths]
    return header.rstrip(), [_row(row, empty) for row in zip(*cells, strict=True)]


def _cells(column: Column, width: int) -> list[list[str]]:
    """Per row the padded lines of its cell; most cells of a column come again, and are written once."""
    if column.name:
        return [[_padded(cell, column, width)] for cell in shortened(column.cells, width)]
    distinct = {
        cell: [_padded(line, column, width) for line in wrapped(cell, width)] for cell in set(column.cells)
    }
    return [distinct[cell] for cell in column.cells]


def _padded(text: str, column: Column, width: int) -> str:
    space = " " * (width - display_width(text))
    return space + text if column.right else text + space


def _row(row: Sequence[list[str]], empty: Sequence[str]) -> list[str]:
    if sum(map(len, row)) == len(row):  # no cell was wrapped
        return [GAP.join([line for (line,) in row]).rstrip()]
    return [GAP.join(line).rstrip() for line in _in_step(row, empty)]


def _in_step(row: Sequence[list[str]], empty: Sequence[str]) -> Iterator[Sequence[str]]:
    """The first line of every cell, then the second, as far as the longest goes."""
    yield [cell[0] for cell in row]
    for place in range(1, max(map(len, row))):
        yield [cell[place] if place < len(cell) else space for cell, space in zip(row, empty, strict=True)]


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Names no wider than `width`; different names stay different.

    Where initials (see `abbreviated`) aren't enough, the same part is cut out of all, the one that tells most
    names apart; where twins are left, a number marks them.

    >>> shortened(["/encoder/layer_0/mlp/MatMul", "/encoder/layer_1/mlp/MatMul"], 18)
    ['/e/l0/mlp/MatMul', '/e/l1/mlp/MatMul']
    >>> shortened(["convolution_0_of_the_encoder", "convolution_1_of_the_encoder"], 10)
    ['conv...der', 'co...der~2']
    """
    distinct = list(dict.fromkeys(names))
    if all(display_width(name) <= width for name in distinct):
        return list(names)
    for cut_part in (_initial, _initials, str):
        initials = {name: abbreviated(name, width, cut_part) for name in distinct}
        if len(set(initials.values())) == len(distinct):
            break
    cut = _cut_alike(list(initials.values()), width)
    return [cut[initials[name]] for name in names]


def _cut_alike(distinct: list[str], width: int) -> dict[str, str]:
    """Each name cut in the middle where it is too wide; twins are numbered."""
    best: dict[str, str] = {}
    fewest = len(distinct) + 1
    for head in _HEADS:
        short = {name: middle(name, width, head) for name in distinct}
        twins = len(distinct) - len(set(short.values()))
        if twins < fewest:
            best, fewest = short, twins
        if not twins:
            break
    return _numbered(best, width) if fewest else best


def _initial(part: str) -> str:
    """`encoder_layer_10` as `e10`."""
    return _FIRST_AND_NUMBER.sub(r"\1\2", part)


def _initials(part: str) -> str:
    """`conv2_block1_3_bn` as `c2_b1_3_b`."""
    return _REST_OF_WORD.sub("", part)


def abbreviated(name: str, width: int, cut_part: Callable[[str], str] = _initial) -> str:
    """The name with as many leading components as needed cut to a letter and their number.

    >>> abbreviated("encoder.layers.encoder_layer_10.mlp.0", 20)
    'e.l.e10.mlp.0'
    """
    parts = _SEPARATORS.split(name)
    for place in range(0, len(parts) - 1, 2):
        if display_width("".join(parts)) <= width:
            break
        parts[place] = cut_part(parts[place])
    return "".join(parts)


def _numbered(short: dict[str, str], width: int) -> dict[str, str]:
    taken = set(short.values())
    seen: Counter[str] = Counter()
    marked: dict[str, str] = {}
    for name, text in short.items():
        seen[text] += 1
        while seen[text] > 1:
            mark = f"~{seen[text]}"
            candidate = middle(text, width - len(mark), 0.5) + mark
            if candidate not in taken:
                taken.add(candidate)
                text = candidate
                break
            seen[text] += 1
        marked[name] = text
    return marked


def middle(text: str, width: int, head: float = 0.5) -> str:
    """The text with its middle replaced by dots where it is wider than `width`.

    >>> middle("/features/features.0/Conv", 15)
    '/featu...0/Conv'
    """
    if display_width(text) <= width:
        return text
    free = max(width - 3, 2)
    first = max(1, round(free * head))
    start, end = _cut(text, first), _cut(text[::-1], free - first)[::-1]
    return f"{start}...{end}"


def _cut(text: str, width: int) -> str:
    """As much of the start as fits."""
    end = min(len(text), width)
    while display_width(text[:end]) > width:
        end -= 1
    return text[:end]


def wrapped(text: str, width: int, most: int = MOST_LINES) -> list[str]:
    """The text in at most `most` lines no wider than `width`; a cut end is marked by dots.

    >>> wrapped("[batch, 512, (H + 15)//16, (W + 15)//16]", 16)
    ['[batch, 512,', '(H + 15)//16,', '(W + 15)//16]']
    """
    found: list[str] = []
    depth, listed = 0, text.startswith("[")
    while display_width(text) > width:
        if len(found) == most - 1:
            return [*found, middle(text, width, 1.0)]
        line = _cut(text, width)
        at = _break(line, depth, listed)
        depth += _brackets(line[:at])
        found.append(line[:at].rstrip())
        text = text[at:].lstrip()
    return [*found, text]


def _brackets(text: str) -> int:
    """Brackets that stay open."""
    return sum((char in "([") - (char in ")]") for char in text)


def _break(line: str, depth: int, listed: bool) -> int:
    """Where to break a line that starts inside `depth` brackets: the outermost place, of these the last.

    Places are those behind `*` and a list's commas and before `+` and `-`, then any space; the end where
    there is none. The first quarter of a line would waste it and is a place in lists only. A comma in front
    of a digit is one of thousands.
    """
    best, best_depth = len(line), len(line) + 99
    for place, char in enumerate(line):
        depth += (char in "([") - (char in ")]")
        after = line[place + 1 : place + 2]
        comma = char == "," and (listed or after == " ")
        good = comma or char == "*" or (char == " " and after in ("+", "-"))
        cost = depth if good else depth + 50
        if (good or char == " ") and cost <= best_depth and (listed or 4 * place >= len(line)):
            best, best_depth = place + 1, cost
    return best
