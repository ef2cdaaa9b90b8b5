"""Ops whose result depends on which elements are largest, equal or not zero.

Source: ONNX Operators.md and Changelog.md, each op's versions.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Size, product
from onnxscope.ops import _folding as folding
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import DATA_LIMIT, Data, Inferred, Shape, one


@op("TopK")
def top_k(n: View, *, axis: int = -1, k: int | None = None) -> Inferred:
    """Values and int64 indices have the shape of X with K along `axis`; K is an attribute below opset 10.

    Stays unknown: a K computed from data. Source: TopK-1, -10, -11, -24.
    """
    x = n.shape(0)
    place = axis_of(axis, len(x))
    count: Size | None = k if k is not None else folding.size_in(n, 1)
    shape = (*x[:place], n.unknown(place) if count is None else count, *x[place + 1 :])
    return Inferred((shape, shape), (n.dtype(0), dtypes.INT64))


@op("OneHot", since=9)
def one_hot(n: View, *, axis: int = -1) -> Inferred:
    """Y has the shape of the indices with a new axis of size `depth` at `axis`, and the type of the values.

    Stays unknown: a depth computed from data. Source: OneHot-9, -11.
    """
    x = n.shape(0)
    place = axis_of(axis, len(x) + 1)
    depth = _depth(n)
    return one((*x[:place], n.unknown(place) if depth is None else depth, *x[place:]), n.dtype(2))


def _depth(n: View) -> Size | None:
    """The depth as a whole number; floats are allowed and cut."""
    found = folding.content(n, 1)
    if found is not None and len(found[0].items) == 1 and isinstance(found[0].items[0], float):
        return int(found[0].items[0])
    return folding.size_in(n, 1)


@op("NonZero", since=9)
def non_zero(n: View) -> Inferred:
    """Y [rank, count] int64: the places of the elements that aren't zero, a column each.

    Stays unknown: their count, where the content is; the rows for a scalar, which the specification (0) and
    onnxruntime (1) see differently. Source: NonZero-9, -13.
    """
    x = n.shape(0)
    known = folding.content(n, 0)
    data = _places(known[0]) if known is not None and x else None
    rows: Size = len(x) if x else n.unknown(0)
    return one((rows, n.unknown(1)), dtypes.INT64, data)


def _places(data: Data) -> Data | None:
    answers = [folding.equal(item, 0) for item in data.items]
    if any(answer is None for answer in answers):
        return None
    places = [at for at, zero in enumerate(answers) if not zero]
    rows: list[int] = []
    step = len(data.items)
    for size in data.shape:
        step = step // size if size else 0
        rows += [at // step % size for at in places]
    return Data((len(data.shape), len(places)), tuple(rows)) if len(rows) <= DATA_LIMIT else None


@op("Unique", since=11)
def unique(n: View, *, axis: int | None = None) -> Inferred:
    """The U different elements, or slices along `axis`; then their places, the way back, their counts.

    Shapes: Y [U], or X with U along `axis`; indices [U]; inverse_indices [elements of X, or slices]; counts
    [U]. Stays unknown: U. Source: Unique-11.
    """
    kinds = (n.dtype(0), dtypes.INT64, dtypes.INT64, dtypes.INT64)
    found: Size = n.unknown(axis or 0) if axis is None or axis >= 0 else n.unknown(0)
    x = n.fact(0).shape
    if axis is None:
        everything = (n.unknown(0, 2),) if x is None else (product(x),)
        return Inferred(((found,), (found,), everything, (found,)), kinds)
    sizes: Shape = n.shape(0)
    place = axis_of(axis, len(sizes))
    y = (*sizes[:place], found, *sizes[place + 1 :])
    return Inferred((y, (found,), (sizes[place],), (found,)), kinds)
