"""The columns of a report's table in several degrees of brevity, and the choice of one for a width."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from onnxscope.documents.arrange import components
from onnxscope.documents.schema import GroupEntry, LayerEntry, PlainShape, PlainSize, ReportDocument
from onnxscope.render import words
from onnxscope.render.table import Column, fitted, total_width
from onnxscope.render.words import clean, number

SQUEEZE = (
    ("layer", 24), ("MACs", 24), ("output", 18), ("op", 12), ("layer", 16), ("MACs", 16), ("output", 15),
    ("op", 9), ("window", 9), ("layer", 14), ("output", 10), ("MACs", 10), ("layer", 10), ("params", 10),
    ("op", 6), ("window", 6),
)  # fmt: skip
"""Columns in the order in which they give way, with the width they keep."""
_MULTIPLE = re.compile(r"(\d+)\*([^\s()]{1,20})")
"""A number times a symbol or a product of symbols; longer factors would make a title of their own."""


class Brevity(NamedTuple):
    """How much of the text is left out."""

    sizes: bool = False
    """A first axis that all outputs share, and a factor that all MACs share, move to the column's title."""
    names: bool = False
    """`/layer1/layer1.0/conv1/Conv` is written as `layer1.0.conv1`, where that stays unique."""


def chosen(document: ReportDocument, width: int) -> tuple[list[Column], list[int]]:
    """The wordiest columns that fit `width`, and their widths; the last cell of each column is the total."""
    make = _group_columns if "groups" in document else _layer_columns
    for brevity in (Brevity(), Brevity(sizes=True), Brevity(sizes=True, names=True)):
        needed, more = make(document, brevity)
        if total_width([column.natural for column in needed]) <= width:
            for title, make_column in more.items():
                free = width - total_width([column.natural for column in (*needed, Column("", ()))])
                if len(title) > free:
                    continue
                column = make_column()
                if column.natural <= free and any(column.cells):
                    needed.append(column)
            return needed, [column.natural for column in needed]
    return needed, fitted(needed, width, SQUEEZE)


Further: TypeAlias = dict[str, Callable[[], Column]]
"""Title -> how to make a column that is shown where there is room, in order of preference."""


def _layer_columns(document: ReportDocument, brevity: Brevity) -> tuple[list[Column], Further]:
    layers, totals = document["layers"], document["totals"]

    def column(title: str, cell: Callable[[LayerEntry], str]) -> Column:
        return Column(title, (*map(cell, layers), ""))

    names = _brief_names(layers) if brevity.names else [clean(row["name"]) for row in layers]
    needed = [
        Column("layer", (*names, "total"), name=True),
        Column("op", (*(clean(row["op"]) for row in layers), ""), name=True),
        _shapes([row["output_shape"] for row in layers], brevity),
        column("window", words.window),
        _numbers("params", [row["params"]["total"] for row in layers], totals["trainable_params"]),
        _macs([row["macs"] for row in layers], totals["macs"], brevity),
    ]
    more: Further = {}
    dtypes = [clean(row["params"]["dtype"] or "") for row in layers]
    if len({*dtypes, ""}) > 2:
        more["weights"] = lambda: Column("weights", (*dtypes, ""))
    more["receptive field"] = lambda: column(
        "receptive field", lambda row: words.field(row["receptive_field"])
    )
    more["input"] = lambda: column(
        "input", lambda row: words.shape(row["input_shape"]) if row["input"] else ""
    )
    return [c for c in needed if c.title != "window" or any(c.cells)], more


def _group_columns(document: ReportDocument, brevity: Brevity) -> tuple[list[Column], Further]:
    groups, totals = document["groups"], document["totals"]

    def ops(row: GroupEntry) -> str:
        return ", ".join(f"{n} {clean(op)}" if n > 1 else clean(op) for op, n in row["ops"].items())

    needed = [
        Column("layer", (*(clean(row["name"]) for row in groups), "total"), name=True),
        Column("layers", (*(number(row["layers"]) for row in groups), ""), right=True),
        _shapes([row["output_shape"] for row in groups], brevity),
        _numbers("params", [row["params"] for row in groups], totals["trainable_params"]),
        _macs([row["macs"] for row in groups], totals["macs"], brevity),
    ]
    return needed, {"ops": lambda: Column("ops", (*map(ops, groups), ""))}


def _numbers(title: str, sizes: Sequence[PlainSize | None], total: PlainSize | None) -> Column:
    return Column(title, (*map(words.count, sizes), number(total)), right=True)


def _shapes(shapes: Sequence[PlainShape | None], brevity: Brevity) -> Column:
    first = _common_axis(shapes) if brevity.sizes else None
    if first is None:
        cells = [words.shape(sizes, tight=brevity.sizes) for sizes in shapes]
        return Column("output", (*cells, ""))
    cells = [_rest(sizes) for sizes in shapes]
    return Column("output", (*cells, ""), per=f"{clean(str(first))} x ")


def _rest(sizes: PlainShape | None) -> str:
    """All axes but the first: `64x112x112`, or a list where one is an expression."""
    if sizes is None:
        return words.shape(sizes)
    simple = all(isinstance(size, int) or size.isidentifier() for size in sizes[1:])
    return words.times(sizes[1:]) if simple else words.shape(sizes[1:])


def _common_axis(shapes: Sequence[PlainShape | None]) -> PlainSize | None:
    """The first axis of all known shapes, if it is the same and further axes are left of each."""
    known = [sizes for sizes in shapes if sizes is not None]
    firsts = {sizes[0] for sizes in known if len(sizes) > 1}
    return next(iter(firsts)) if len(firsts) == 1 and all(len(sizes) > 1 for sizes in known) else None


def _macs(sizes: Sequence[PlainSize | None], total: PlainSize | None, brevity: Brevity) -> Column:
    found = [_MULTIPLE.fullmatch(size) if isinstance(size, str) else None for size in (*sizes, total)]
    factors = {match[2] for match in found if match}
    plain = all(match or size in (0, None) for match, size in zip(found, (*sizes, total), strict=True))
    if not brevity.sizes or len(factors) != 1 or not plain:
        return _numbers("MACs", sizes, total)
    cells = [int(match[1]) if match else size for match, size in zip(found, (*sizes, total), strict=True)]
    column = _numbers("MACs", cells[:-1], cells[-1])
    return Column("MACs", column.cells, right=True, per=f"{clean(factors.pop())} x ")


def _brief_names(layers: Sequence[LayerEntry]) -> list[str]:
    """Names as torch writes module paths, without a last component that only repeats the op."""
    paths = [[clean(part) for part in components(row["name"])] for row in layers]
    whole = [".".join(path) for path in paths]
    short = [
        ".".join(path[:-1]) if len(path) > 1 and path[-1] == row["op"] else name
        for path, row, name in zip(paths, layers, whole, strict=True)
    ]
    return list(_unique((row["name"] for row in layers), short, whole))


def _unique(names: Iterator[str], *forms: Sequence[str]) -> Iterator[str]:
    """Per name its first form that no other name has in any form, else the name itself."""
    taken = Counter(form for row in zip(*forms, strict=True) for form in set(row))
    for name, *row in zip(names, *forms, strict=True):
        yield next((form for form in row if taken[form] == 1), clean(name))
