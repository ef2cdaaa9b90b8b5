"""Values made from nothing or from a shape: constants, ranges, and the shape of a value as content.

Source: ONNX Operators.md and Changelog.md, each op's versions.
"""

from __future__ import annotations

import math
from typing import TypeGuard

from onnxscope import dtypes
from onnxscope.expr import Expr, Size, at_least, ceil_div, maximum, product
from onnxscope.graph import SparseTensor, Tensor
from onnxscope.ops import _folding as folding
from onnxscope.ops._folding import Number
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import DATA_LIMIT, Data, Inferred, Scalar, Shape, Unanswered, one

Ints = tuple[int, ...]


@op("Constant")
def constant(
    n: View,
    *,
    value: Tensor | None = None,
    sparse_value: SparseTensor | None = None,
    value_int: int | None = None,
    value_ints: Ints | None = None,
    value_float: float | None = None,
    value_floats: tuple[float, ...] | None = None,
    value_string: str | None = None,
    value_strings: tuple[str, ...] | None = None,
) -> Inferred:
    """Y is the attribute that is given: a tensor (not read here), a sparse tensor, a number, text, or a list.

    Source: Constant-1, -11 (sparse_value), -12 (numbers and text).
    """
    if value is not None:
        return Inferred((value.dims,), (value.dtype,), tensors=(value,))
    if sparse_value is not None:
        return one(sparse_value.dims, sparse_value.values.dtype)
    forms = (
        (value_int, value_ints, dtypes.INT64),
        (value_float, value_floats, dtypes.FLOAT),
        (value_string, value_strings, dtypes.STRING),
    )
    for single, many, dtype in forms:
        if single is not None:
            return one((), dtype, Data((), (single,)))
        if many is not None:
            return one(
                (len(many),), dtype, Data((len(many),), tuple(many)) if len(many) <= DATA_LIMIT else None
            )
    raise Unanswered("it has none of the attributes that hold a value")


@op("ConstantOfShape", since=9)
def constant_of_shape(n: View, *, value: Tensor | None = None) -> Inferred:
    """Y has the shape that the input holds, every element `value` (float32 zero where it isn't given).

    Where only the length of the input is known, the rank is known. Source: ConstantOfShape-9, -25.
    """
    dtype = value.dtype if value is not None else dtypes.FLOAT
    if n.known(0) is None:
        (rank,) = n.shape(0, rank=1)
        return one(n.unknowns(rank), dtype)
    shape = n.sizes(0)
    return one(shape, dtype, _filled(shape, value))


def _filled(shape: Shape, value: Tensor | None) -> Data | None:
    sizes = tuple(size for size in shape if isinstance(size, int))
    if len(sizes) < len(shape) or not 0 <= math.prod(sizes) <= DATA_LIMIT:
        return None
    kind = dtypes.BY_CODE[value.dtype].kind if value is not None else "float"
    if kind in ("string", "complex"):
        return None
    item = value.items()[0] if value is not None and value.count else 0.0
    return Data(sizes, (item,) * math.prod(sizes))


@op("EyeLike", since=9)
def eye_like(n: View, *, dtype: int = 0) -> Inferred:
    """Y has the shape of X and the type `dtype`, else that of X. Source: EyeLike-9."""
    return one(n.shape(0, rank=2), dtype or n.dtype(0))


@op("Range", since=11)
def range_(n: View) -> Inferred:
    """Y [max(ceil((limit - start)/delta), 0)], Y[i] = start + i*delta. Source: Range-11, -27."""
    dtype = n.dtype(0) or n.dtype(1) or n.dtype(2)
    operands = folding.content(n, 0, 1, 2)
    if operands is None or any(len(data.items) != 1 for data in operands):
        return one((n.unknown(0),), dtype)
    start, limit, delta = (data.items[0] for data in operands)
    size = _range_size(start, limit, delta, dtype)
    if size is None:
        return one((n.unknown(0),), dtype)
    return one((size,), dtype, _range_data(size, start, delta, dtype))


def _range_size(start: Scalar, limit: Scalar, delta: Scalar, dtype: int | None) -> Size | None:
    """Number of elements; None where rounding or an unknown sign of delta decides."""
    if isinstance(start, float) and isinstance(limit, float) and isinstance(delta, float):
        rounded = folding.settled(limit - start, dtype or dtypes.FLOAT)
        return max(math.ceil(rounded / delta), 0) if isinstance(rounded, float) else None
    begin, end, step = (folding.exact(item) for item in (start, limit, delta))
    if not (_is_size(begin) and _is_size(end) and _is_size(step)):
        return None
    if at_least(-1, step):
        begin, end, step = end, begin, -step
    return maximum(ceil_div(end - begin, step), 0) if at_least(step, 1) else None


def _is_size(item: Number | None) -> TypeGuard[Size]:
    return isinstance(item, (int, Expr)) and folding.integral(item)


def _range_data(size: Size, start: Scalar, delta: Scalar, dtype: int | None) -> Data | None:
    if not isinstance(start, (int, Expr)) or not isinstance(delta, (int, Expr)):
        return None  # floats: the runtime's rounding of start + i*delta isn't specified
    if not isinstance(size, int) or size > DATA_LIMIT or dtype is None:
        return None
    items = [folding.settled(start + i * delta, dtype) for i in range(size)]
    known = tuple(item for item in items if item is not None)
    return Data((size,), known) if len(known) == size else None


# --- shapes as content ---


@op("Shape")
def shape(n: View, *, start: int = 0, end: int | None = None) -> Inferred:
    """Y [r] int64 holds the sizes of X from axis `start` to `end`, both cut to the rank.

    Its length is unknown where the rank is. Source: Shape-1, -15.
    """
    x = n.fact(0).shape
    if x is None:
        return one((n.unknown(0),), dtypes.INT64)
    kept = x[start:end]
    return one((len(kept),), dtypes.INT64, Data((len(kept),), tuple(kept)))


@op("Size")
def size(n: View) -> Inferred:
    """Y is the number of elements of X, an int64 scalar. Source: Size-1, -13."""
    x = n.fact(0).shape
    return one((), dtypes.INT64, None if x is None else Data((), (product(x),)))
