"""Pointwise arithmetic, comparisons and logic of one or more values, and changes of type.

Shapes broadcast in both directions (from opset 7 on; Max, Min, Mean and Sum from 8 on). Small contents are
folded, so that shape arithmetic stays known, in symbols too: `_folding` has the rules.
Source: ONNX Operators.md and Changelog.md, each op's versions; Broadcasting.md.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from functools import partial

from onnxscope import dtypes
from onnxscope.expr import Expr, at_least, floor
from onnxscope.ops import _folding as folding
from onnxscope.ops._broadcast import broadcast as broadcast_shapes
from onnxscope.ops._broadcast import unified
from onnxscope.ops._folding import Function, Number, integral, pointwise
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Data, Inferred, Shape, one

# --- two operands ---


@op("Add", "Sub", "Mul", "Div", "Pow", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
def arithmetic(n: View, *, broadcast: int = 0, axis: int | None = None) -> Inferred:
    """C = broadcast(A, B) with the type of A. Below opset 7 C has the shape of A, and B is stretched to it.

    Integer Div truncates toward zero. Source: Add-1, -7, -14, Pow-15, Broadcasting.md.
    """
    dtype = n.dtype(0) or (None if n.node.op == "Pow" else n.dtype(1))
    return one(_pair_shape(n), dtype, _pair_data(n, _ARITHMETIC[n.node.op], dtype, axis))


@op("Mod", since=10)
def mod(n: View, *, fmod: int = 0) -> Inferred:
    """C = broadcast(A, B); the remainder has the sign of B, with fmod=1 that of A. Source: Mod-10, -28."""
    dtype = n.dtype(0) or n.dtype(1)
    function = folding.c_modulo if fmod else folding.modulo
    return one(_pair_shape(n), dtype, pointwise(n, function, dtype, 0, 1))


@op("BitShift", since=11)
def bit_shift(n: View, *, direction: str = "") -> Inferred:
    """Z = broadcast(X, Y). Source: BitShift-11."""
    dtype = n.dtype(0) or n.dtype(1)
    function = partial(_shifted, direction == "LEFT")
    return one(_pair_shape(n), dtype, pointwise(n, function, dtype, 0, 1) if direction else None)


@op("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor")
def comparison(n: View, *, broadcast: int = 0, axis: int | None = None) -> Inferred:
    """C = broadcast(A, B), bool. Folded only where the answer is the same for all values of the symbols.

    Source: Equal-1, -7, Less-9, And-7.
    """
    return one(_pair_shape(n), dtypes.BOOL, _pair_data(n, _COMPARISONS[n.node.op], dtypes.BOOL, axis))


def _pair_shape(n: View) -> Shape:
    if 0 < n.version < 7:
        return n.shape(0)
    return broadcast_shapes(n.shape(0), n.shape(1))


def _pair_data(n: View, function: Function, dtype: int | None, axis: int | None) -> Data | None:
    """Content of a pair; `axis` is where B starts in A below opset 7 (its end where it isn't given)."""
    operands = folding.content(n, 0, 1)
    if operands is None or dtype is None:
        return None
    a, b = operands
    if 0 < n.version < 7 and axis is not None and axis >= 0:
        b = Data(b.shape + (1,) * max(len(a.shape) - axis - len(b.shape), 0), b.items)
    quotient = n.node.op == "Div"
    return folding.combine(_divider(dtype) if quotient else function, (a, b), dtype, quotient=quotient)


def _divider(dtype: int) -> Function:
    found = dtypes.BY_CODE.get(dtype)
    return folding.truncated_div if found and found.kind in ("int", "uint") else folding.true_div


def _power(a: Number, b: Number) -> Number | None:
    """A whole power of a number or size, and the square root of a number."""
    exponent = folding.exact(b)
    if isinstance(a, str) or isinstance(exponent, (str, Expr)) or exponent is None:
        return None
    if exponent == 0.5 and isinstance(a, float) and a >= 0:
        return math.sqrt(a)
    if not isinstance(exponent, int) or not 0 <= exponent <= 64:
        return None
    if isinstance(a, Expr):
        return math.prod([a] * exponent) if exponent <= 8 else None
    return a**exponent


def _shifted(left: bool, a: Number, b: Number) -> Number | None:
    if not isinstance(a, int) or not isinstance(b, int) or not 0 <= b < 64:
        return None
    return a << b if left else a >> b


def _bitwise(function: Function) -> Function:
    return lambda a, b: function(a, b) if isinstance(a, int) and isinstance(b, int) else None


def _greater_or_equal(a: Number, b: Number) -> bool | None:
    if isinstance(a, Expr) or isinstance(b, Expr):
        return folding.negated(folding.less(a, b))
    return None if isinstance(a, str) or isinstance(b, str) else a >= b  # not the negation of a < b: NaN


_ARITHMETIC: dict[str, Function] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": folding.true_div,
    "Pow": _power,
    "BitwiseAnd": _bitwise(operator.and_),
    "BitwiseOr": _bitwise(operator.or_),
    "BitwiseXor": _bitwise(operator.xor),
}
_COMPARISONS: dict[str, Function] = {
    "Equal": folding.equal,
    "Greater": lambda a, b: folding.less(b, a),
    "GreaterOrEqual": _greater_or_equal,
    "Less": folding.less,
    "LessOrEqual": lambda a, b: _greater_or_equal(b, a),
    "And": _bitwise(operator.and_),
    "Or": _bitwise(operator.or_),
    "Xor": _bitwise(operator.xor),
}


# --- any number of operands ---


@op("Max", "Min", "Mean", "Sum")
def variadic(n: View) -> Inferred:
    """Y = broadcast of all inputs; below opset 8 they all have one shape. Source: Max-1, -8, -13, Sum-8."""
    shapes = [n.shape(index) for index in range(len(n.inputs))]
    shape = unified(*shapes) if 0 < n.version < 8 else broadcast_shapes(*shapes)
    dtype = next((fact.dtype for fact in n.inputs if fact is not None and fact.dtype), None)
    return one(shape, dtype, pointwise(n, _VARIADIC[n.node.op], dtype))


@op("Where", since=9)
def where(n: View) -> Inferred:
    """Y = broadcast(condition, X, Y), type of X; a known condition chooses content. Source: Where-16."""
    shape = broadcast_shapes(n.shape(0), n.shape(1), n.shape(2))
    dtype = n.dtype(1) or n.dtype(2)
    return one(shape, dtype, pointwise(n, _chosen, dtype, 0, 1, 2) or _one_sided(n, shape, dtype))


def _chosen(condition: Number, x: Number, y: Number) -> Number | None:
    return (x if condition else y) if isinstance(condition, bool) else None


def _one_sided(n: View, shape: Shape, dtype: int | None) -> Data | None:
    """Content where the condition is the same everywhere: the other side need not be known."""
    condition = folding.content(n, 0)
    if condition is None or len(set(condition[0].items)) != 1 or dtype is None:
        return None
    side = folding.content(n, 1 if condition[0].items[0] else 2)
    if side is None:
        return None
    data = folding.combine(lambda _, x: x, (condition[0], side[0]), dtype, quotient=True)
    return data if data is not None and data.shape == shape else None


def _mean(*items: Number) -> Number | None:
    numbers = [item for item in items if isinstance(item, float)]
    return math.fsum(numbers) / len(numbers) if len(numbers) == len(items) else None


_VARIADIC: dict[str, Function] = {
    "Max": folding.largest,
    "Min": folding.smallest,
    "Sum": lambda *items: sum(items),
    "Mean": _mean,
}


# --- one operand ---


@op("Abs", "Ceil", "Floor", "Neg", "Not", "Reciprocal", "Relu", "Round", "Sign", "Sqrt")
def folded(n: View) -> Inferred:
    """Y has the shape and type of X; small contents are folded. Source: Floor-13, Relu-14, Round-22."""
    quotient = n.node.op in ("Ceil", "Floor")
    return one(n.shape(0), n.dtype(0), pointwise(n, _UNARY[n.node.op], n.dtype(0), 0, quotient=quotient))


@op(
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cos",
    "Cosh",
    "Sin",
    "Sinh",
    "Tan",
    "Exp",
    "Log",
    "Erf",
)
@op("BitwiseNot", "CumSum", "CumProd", "Trilu")
@op("Affine", "ImageScaler", "Scale")  # experimental ops of opset 1, still run by onnxruntime
def same_shape(n: View) -> Inferred:
    """Y has the shape and type of X, whatever the axis or diagonal. Source: Erf-13, CumSum-14, Trilu-14."""
    return one(n.shape(0), n.dtype(0))


@op("IsInf", "IsNaN")
def classified(n: View) -> Inferred:
    """Y has the shape of X and is bool. Source: IsInf-20, IsNaN-20."""
    return one(n.shape(0), dtypes.BOOL)


@op("Identity")
def identity(n: View) -> Inferred:
    """Y is X: a tensor with its content, a sequence, an optional or a map. Source: Identity-16."""
    fact = n.fact(0)
    return Inferred((fact.shape,), (fact.dtype,), (fact.data,), (fact.container,), tensors=(fact.tensor,))


def _rounded(x: Number) -> Number | None:
    """To the nearest whole number, halves to the even one."""
    if isinstance(x, Expr):
        return x if integral(x) else None
    return _whole(round, x)


def _whole(function: Callable[[int | float | Fraction], int], x: Number) -> Number | None:
    if isinstance(x, float) and not math.isfinite(x):
        return x
    return None if isinstance(x, (str, Expr)) else function(x)


def _floor(x: Number) -> Number | None:
    return floor(x) if isinstance(x, Expr) else _whole(math.floor, x)


def _ceil(x: Number) -> Number | None:
    return -floor(-x) if isinstance(x, Expr) else _whole(math.ceil, x)


def _absolute(x: Number) -> Number | None:
    if isinstance(x, Expr):
        return folding.largest(x, -x)
    if isinstance(x, str):
        return None
    return -x if x < 0 else x


def _sign(x: Number) -> Number | None:
    below, above = folding.less(x, 0), folding.less(0, x)
    return None if below is None or above is None else above - below


_UNARY: dict[str, Function] = {
    "Abs": _absolute,
    "Ceil": _ceil,
    "Floor": _floor,
    "Neg": operator.neg,
    "Not": lambda x: not x if isinstance(x, bool) else None,
    "Reciprocal": lambda x: folding.true_div(1.0, x),
    "Relu": lambda x: folding.largest(x, 0),
    "Round": _rounded,
    "Sign": _sign,
    "Sqrt": lambda x: math.sqrt(x) if isinstance(x, float) and x >= 0 else None,
}


# --- types ---

_PROTO_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}
"""Names of `TensorProto.DataType` that aren't ours in upper case; Cast-1 names its target by them."""


@op("Cast")
def cast(n: View, *, to: int | str = 0) -> Inferred:
    """Y has the shape of X and the type `to` (a number, below opset 6 a name).

    Content goes from float to int toward zero. Source: Cast-1, -6, -25.
    """
    if isinstance(to, str):
        found = dtypes.BY_NAME.get(_PROTO_NAMES.get(to.upper(), to.lower()))
        to = found.code if found else 0
    return _converted(n, to or None)


@op("CastLike", since=15)
def cast_like(n: View) -> Inferred:
    """Y has the shape of X and the type of the second input. Source: CastLike-15."""
    return _converted(n, n.dtype(1))


@op("BitCast", since=26)
def bit_cast(n: View, *, to: int = 0) -> Inferred:
    """Y has the shape of X and the type `to`, which has as many bits. Source: BitCast-26."""
    return one(n.shape(0), to or None)


def _converted(n: View, to: int | None) -> Inferred:
    kind = dtypes.BY_CODE[to].kind if to in dtypes.BY_CODE else ""
    function = _CONVERSIONS.get(kind)
    data = None if function is None else pointwise(n, function, to, 0, quotient=kind in ("int", "uint"))
    return one(n.shape(0), to, data)


def _truncated(x: Number) -> Number | None:
    """Toward zero; a size whose sign isn't known can't be told."""
    if isinstance(x, Expr):
        if integral(x):
            return x
        return floor(x) if at_least(x, 0) else -floor(-x) if at_least(0, x) else None
    return None if isinstance(x, str) or not math.isfinite(x) else int(x)


_CONVERSIONS: dict[str, Function] = {
    "int": _truncated,
    "uint": _truncated,
    "float": lambda x: x if isinstance(x, Expr) else None if isinstance(x, str) else float(x),
    "bool": lambda x: folding.negated(folding.equal(x, 0)),
}
