"""Reductions over axes, and the place of an extreme along an axis.

Source: ONNX Operators.md and Changelog.md: `axes` is an attribute below opset 18 (ReduceSum: below 13), then
an optional input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.expr import Size
from onnxscope.ops import _folding as folding
from onnxscope.ops._folding import Function, settled
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import DATA_LIMIT, Data, Inferred, Scalar, Shape, Unanswered, one

Ints = tuple[int, ...]


@op("ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceLogSum")
@op("ReduceLogSumExp", "ReduceSumSquare")
def reduce(n: View, *, axes: Ints = (), keepdims: int = 1, noop_with_empty_axes: int = 0) -> Inferred:
    """Y = X with the sizes along `axes` set to 1 (keepdims) or taken out; no axes means all of them.

    With noop_with_empty_axes, no axes means none. Stays unknown: which sizes go, where axes are computed from
    data; the rank is known all the same. Source: ReduceSum-1, -11, -13, ReduceMax-18, -20.
    """
    dtype = n.dtype(0)
    chosen = _axes(n, axes)
    if chosen == () and not noop_with_empty_axes and not keepdims:
        return one((), dtype, _reduced(n, None, keepdims))
    x = n.shape(0)
    if chosen is None:
        return one(_some_reduced(n, x, keepdims, noop_with_empty_axes), dtype)
    places = {axis_of(axis, len(x)) for axis in chosen}
    if not chosen:
        places = set() if noop_with_empty_axes else set(range(len(x)))
    return one(_without(x, places, keepdims), dtype, _reduced(n, places, keepdims))


def _axes(n: View, given: Ints) -> tuple[Size, ...] | None:
    """The axes as written, () where there are none, None where only running the model tells them."""
    if given or not n.has(1):
        return tuple(given)
    if n.shape_or_none(1) == (0,):
        return ()
    return None if n.known(1) is None else n.sizes(1)


def _without(x: Shape, places: set[int], keepdims: int) -> Shape:
    if keepdims:
        return tuple(1 if axis in places else size for axis, size in enumerate(x))
    return tuple(size for axis, size in enumerate(x) if axis not in places)


def _some_reduced(n: View, x: Shape, keepdims: int, noop: int) -> Shape:
    """The shape where only the number of axes is known, or not even that."""
    axes = n.shape_or_none(1)
    count = axes[0] if axes is not None and len(axes) == 1 else None
    if count == len(x) and (x or not noop):
        return (1,) * len(x) if keepdims else ()
    if keepdims:
        return tuple(1 if size == 1 else n.unknown(axis) for axis, size in enumerate(x))
    if not isinstance(count, int) or not 0 < count < len(x):
        raise Unanswered("neither the axes nor their number are known")
    return tuple(n.unknown(axis) for axis in range(len(x) - count))


# --- folding ---


def _reduced(n: View, places: set[int] | None, keepdims: int) -> Data | None:
    """Content of the reduction; `places` None means all axes."""
    function = _FUNCTIONS.get(n.node.op)
    known, dtype = folding.content(n, 0), n.dtype(0)
    if function is None or known is None or dtype is None:
        return None
    data = known[0]
    axes = set(range(len(data.shape))) if places is None else places
    if math.prod(_kept(data.shape, axes)) > DATA_LIMIT:  # of an empty value
        return None
    groups: dict[Ints, list[Scalar]] = {key: [] for key in _indices(_kept(data.shape, axes))}
    for index, item in zip(_indices(data.shape) if data.items else (), data.items, strict=True):
        groups[_kept(index, axes)].append(item)
    items: list[Scalar] = []
    for group in groups.values():
        result = _folded(function, group, dtype)
        if result is None:
            return None
        items.append(result)
    shape = (
        tuple(1 if a in axes else s for a, s in enumerate(data.shape))
        if keepdims
        else _kept(data.shape, axes)
    )
    return Data(shape, tuple(items))


def _kept(index: Ints, axes: set[int]) -> Ints:
    return tuple(place for axis, place in enumerate(index) if axis not in axes)


def _indices(shape: Ints) -> Iterator[Ints]:
    """Every index of a tensor, in row-major order."""
    if not shape:
        yield ()
        return
    for rest in range(shape[0]):
        for tail in _indices(shape[1:]):
            yield (rest, *tail)


def _folded(function: Function, group: list[Scalar], dtype: int) -> Scalar | None:
    """One result; of floats only whole numbers, which are summed without rounding in any order."""
    if any(isinstance(item, float) and not item.is_integer() for item in group):
        return None
    exact = [folding.exact(item) for item in group]
    raw = None if any(item is None for item in exact) else function(*exact)
    if raw is None or (isinstance(raw, int) and dtypes.BY_CODE[dtype].kind == "float" and abs(raw) > _WHOLE):
        return None
    return settled(raw, dtype)


_WHOLE = 2048
"""Whole numbers up to here are exact in every float type that content is held in (float16 has 11 bits)."""

_FUNCTIONS: dict[str, Function] = {
    "ReduceMax": lambda *items: folding.largest(*items) if items else None,
    "ReduceMin": lambda *items: folding.smallest(*items) if items else None,
    "ReduceProd": lambda *items: math.prod(items),
    "ReduceSum": lambda *items: sum(items),
}


# --- places along an axis ---


@op("ArgMax", "ArgMin")
def arg_extreme(n: View, *, axis: int = 0, keepdims: int = 1) -> Inferred:
    """Y int64 = X with the size along `axis` set to 1 (keepdims) or taken out. Source: ArgMax-1, -11, -13."""
    x = n.shape(0)
    return one(_without(x, {axis_of(axis, len(x))}, keepdims), dtypes.INT64)


@op("Det", since=11)
def determinant(n: View) -> Inferred:
    """Y [*] for X [*, M, M]. Source: Det-11, -22."""
    x = n.shape(0)
    if len(x) < 2:
        raise Unanswered(f"Det needs square matrices; its input has rank {len(x)}")
    return one(x[:-2], n.dtype(0), agree=(("rows and columns", x[-2], x[-1]),))
