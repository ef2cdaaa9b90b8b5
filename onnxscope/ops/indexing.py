"""Ops that pick elements: Slice, Gather and kin, Compress.

Small known values keep their content, symbols included, so that shape arithmetic flows through.
Source: ONNX Operators.md and Changelog.md, the versions named at each rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from onnxscope.expr import Expr, Size, at_least, ceil_div, minimum
from onnxscope.ops._content import plain, take
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import DATA_LIMIT, MAX_RANK, Data, Inferred, Shape, Unanswered, one

Ints = tuple[int, ...]
Entry = Size | None
"""One start, end or step; None where its content is unknown."""

FAR = 2**31 - 1
"""Exporters write INT32_MAX or INT64_MAX for "to the end" (and their negatives for "to the start")."""


@op("Slice")
def slice_(n: View, *, starts: Ints = (), ends: Ints = (), axes: Ints = ()) -> Inferred:
    """Y[i] = max(0, ceil((end - start)/step)), ends counted from the back where negative, and clamped.

    The starts, ends and axes are attributes before Slice-10, then inputs 1, 2, 3, with the steps in input 4.
    Stays unknown: an axis whose start or end isn't known, or is symbolic and may be negative or not; every
    axis where the axes aren't known. Source: Slice-1, -10, -11, -13.
    """
    x = n.shape(0)
    first, last = _entries(n, 1, starts), _entries(n, 2, ends)
    axes_in = _entries(n, 3, axes) or range(len(first))
    steps = _entries(n, 4, (1,) * len(first))
    if not len(first) == len(last) == len(axes_in) == len(steps):
        raise Unanswered("starts, ends, axes and steps have different lengths")
    if any(axis is None for axis in axes_in):
        return one([n.unknown(i) for i in range(len(x))], n.dtype(0))
    places = [axis_of(axis, len(x)) for axis in axes_in if axis is not None]
    y, data = list(x), n.known(0)
    for axis, *row in zip(places, first, last, steps, strict=True):
        found = _span(x[axis], *row)
        y[axis] = n.unknown(axis) if found is None else found[1]
        data = _picked(data, axis, found, row[2])
    return one(y, n.dtype(0), data)


def _entries(n: View, index: int, default: Sequence[int]) -> Sequence[Entry]:
    """Content of an optional 1-D input, Nones where it is unknown; `default` where it isn't given."""
    if not n.has(index):
        return default
    if n.content(index) is not None:
        return n.sizes(index)
    (length,) = n.shape(index, rank=1)
    if not isinstance(length, int) or length > MAX_RANK:
        raise Unanswered(f"how many axes input {index} ({n.node.inputs[index]}) slices is unknown")
    return [None] * length


def _span(size: Size, start: Entry, end: Entry, step: Entry) -> tuple[Size, Size] | None:
    """(first index, count) along one axis, or None where it can't be told.

    Minima only: `max(H - 4, 0)` is written `H - 4 - min(H - 4, 0)`, so that the two parts of a cut axis
    (a roll) add up to the whole again.
    """
    if start is None or end is None or not isinstance(step, int):
        return None
    if step == 0:
        raise Unanswered("a slice with step 0")
    first, last = _from_front(size, start), _from_front(size, end)
    if size == 0 or first is None or last is None:
        return (0, 0) if size == 0 else None
    if step > 0:
        first, last = first - minimum(first, 0), minimum(last, size)
        return first, ceil_div(last - minimum(first, last), step)
    if isinstance(end, int) and end >= FAR:
        return None  # backwards from the far end: nothing for numpy, everything for onnxruntime
    if isinstance(start, int) and start >= FAR:
        first = size - 1
    else:
        first = minimum(first, size - 1)
        first = first - minimum(first, 0)
    last = last - minimum(last + 1, 0)
    return first, ceil_div(first - minimum(last, first), -step)


def _from_front(size: Size, index: Size) -> Size | None:
    """The index counted from the front; -1 for one far before it, None where its sign isn't known."""
    if isinstance(index, int) and abs(index) >= FAR:
        return size if index > 0 else -1
    if at_least(index, 0):
        return index
    return size + index if at_least(-1, index) else None


def _picked(data: Data | None, axis: int, span: tuple[Size, Size] | None, step: Entry) -> Data | None:
    if data is None or span is None or not isinstance(step, int):
        return None
    first, count = span
    if not isinstance(first, int) or not isinstance(count, int):
        return None
    return take(data, axis, range(first, first + count * step, step))


@op("Gather")
def gather(n: View, *, axis: int = 0) -> Inferred:
    """Y = X[:axis] + indices + X[axis+1:] (sizes); a scalar index removes the axis.

    Source: Gather-1, -11, -13.
    """
    x, indices = n.shape(0), n.shape(1)
    place = axis_of(axis, len(x))
    y = (*x[:place], *indices, *x[place + 1 :])
    return one(y, n.dtype(0), _gathered(n, place, y))


def _gathered(n: View, axis: int, y: Shape) -> Data | None:
    sizes = plain(y)
    if sizes is None or prod(sizes) > DATA_LIMIT:
        return None
    data, picks = n.known(0), n.known(1)
    if data is None or picks is None or any(isinstance(item, Expr) for item in picks.items):
        return None
    return Data(sizes, take(data, axis, _from_fronts(n.ints(1), data.shape[axis])).items)


def _from_fronts(indices: Ints, size: int) -> list[int]:
    if not all(-size <= index < size for index in indices):
        raise Unanswered(f"an index is outside an axis of size {size}")
    return [index % size for index in indices]


@op("GatherElements", since=11)
def gather_elements(n: View, *, axis: int = 0) -> Inferred:
    """Y has the shape of indices and the type of X. Source: GatherElements-11, -13."""
    indices = n.shape(1)
    x = n.shape_or_none(0)
    if x is not None and len(x) != len(indices):
        raise Unanswered(f"input and indices have ranks {len(x)} and {len(indices)}")
    return one(indices, n.dtype(0))


@op("GatherND", since=11)
@op("GatherND", domain="com.microsoft")
def gather_nd(n: View, *, batch_dims: int = 0) -> Inferred:
    """X [*B, *P, *R], indices [*B, *I, k] with k sizes in P -> Y [*B, *I, *R]; batch_dims sizes in B.

    Stays unknown: the rank, where k is symbolic. Source: GatherND-11, -12, -13.
    """
    x, indices = n.shape(0), n.shape(1)
    if not indices or not isinstance(indices[-1], int):
        raise Unanswered("how many axes an index of GatherND covers is unknown")
    covered = batch_dims + indices[-1]
    if covered > len(x) or len(indices) <= batch_dims:
        raise Unanswered(f"an index covers {covered} axes, the input has rank {len(x)}")
    agree = tuple(("batch axes", a, b) for a, b in zip(x[:batch_dims], indices[:batch_dims], strict=True))
    return one((*indices[:-1], *x[covered:]), n.dtype(0), agree=agree)


@op("Compress", since=9)
def compress(n: View, *, axis: int | None = None) -> Inferred:
    """X where the 1-D condition holds, along `axis`, or flattened to 1-D without one.

    Stays unknown: the size, where the condition isn't known. Source: Compress-9, -11.
    """
    condition = n.content(1)
    if axis is None:
        shape: list[Size] = []
        place = 0
    else:
        shape = list(n.shape(0))
        place = axis_of(axis, len(shape))
    if condition is None:
        count: Size = n.unknown(place)
    else:
        count = sum(bool(item) for item in condition.items)
    return one((*shape[:place], count, *shape[place + 1 :]), n.dtype(0))
