"""Constant propagation through pointwise ops: numbers in the arithmetic of their type, sizes as expressions.

Not an op family: it registers nothing. Two dangers are ruled out here. A runtime rounds: results are rounded
to the element type, and a symbolic size in floating point is kept only while every step is exact (fractions
with a small power of two below, sizes up to 2**12); `H * 0.7` is unknown: where it rounds depends on H. And a
comparison of sizes may have no answer: then nothing is folded.
Source: ONNX Operators.md (Div, Mod, Cast truncate toward zero); IEEE 754 for the roundings.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from typing import TypeAlias

from onnxscope import dtypes
from onnxscope.expr import (
    Expr,
    Size,
    at_least,
    ceil_div,
    exact_div,
    floor_div,
    lower_bound,
    maximum,
    minimum,
    terms_of,
)
from onnxscope.ops._broadcast import broadcast
from onnxscope.ops.registry import View
from onnxscope.ops.value import DATA_LIMIT, Data, Scalar, Unanswered

Number: TypeAlias = "int | float | bool | str | Expr | Fraction"
"""An operand or raw result: what `Data` holds, and exact fractions on the way."""
Function: TypeAlias = Callable[..., "Number | None"]
"""Pointwise arithmetic on one element of each operand; None where the result can't be known."""

_EXACT = 1 << 12
"""Largest numerator and denominator beside a symbol in floating point: 2**12 times a size below 2**12 is
exact in the 24 bits of float32."""


def content(n: View, *indices: int) -> list[Data] | None:
    """Content of all these inputs, or None where one is unknown or large. Reads nothing if one is unknown."""
    facts = [n.inputs[i] if i < len(n.inputs) else None for i in indices]
    if any(fact is None or (fact.data is None and fact.tensor is None) for fact in facts):
        return None
    found = [n.content(i) for i in indices]
    return None if any(data is None for data in found) else [data for data in found if data is not None]


def size_in(n: View, index: int) -> Size | None:
    """The one whole number or size that an input holds, as a scalar or a list of one; None where unknown."""
    found = content(n, index)
    if found is None or len(found[0].items) != 1:
        return None
    item = found[0].items[0]
    return item if isinstance(item, (int, Expr)) and integral(item) else None


def pointwise(
    n: View, function: Function, dtype: int | None, *indices: int, quotient: bool = False
) -> Data | None:
    """Content of a pointwise op over these inputs (all where none are named), broadcast; None where unknown.

    `dtype` is the type of the result. `quotient` tells that `function` copes with (or makes) fractions that
    floating point would round, such as H/3.
    """
    operands = content(n, *(indices or range(len(n.inputs))))
    if operands is None or dtype is None:
        return None
    return combine(function, operands, dtype, quotient=quotient)


def combine(
    function: Function, operands: Sequence[Data], dtype: int, *, quotient: bool = False
) -> Data | None:
    """`function` over broadcast operands, each result an element of `dtype`; None where one is unknown."""
    try:
        shape = tuple(size for size in broadcast(*(d.shape for d in operands)) if isinstance(size, int))
    except Unanswered:
        return None
    if math.prod(shape) > DATA_LIMIT:
        return None
    items: list[Scalar] = []
    for row in zip(*(spread(data, shape) for data in operands), strict=True):
        arguments = _lifted(row, quotient)
        raw = None if arguments is None else function(*arguments)
        item = None if raw is None else settled(raw, dtype, quotient=quotient)
        if item is None:
            return None
        items.append(item)
    return Data(shape, tuple(items))


def spread(data: Data, shape: tuple[int, ...]) -> Sequence[Scalar]:
    """Items of the operand broadcast to `shape`, in row-major order."""
    if data.shape == shape:
        return data.items
    if len(data.items) < 2:
        return data.items * math.prod(shape)
    sizes = (1,) * (len(shape) - len(data.shape)) + data.shape
    steps = [0] * len(shape)
    step = 1
    for axis in reversed(range(len(shape))):
        steps[axis] = step if sizes[axis] > 1 else 0
        step *= sizes[axis]
    places = product(
        *(
            range(0, size * step, step) if step else (0,) * size
            for size, step in zip(shape, steps, strict=True)
        )
    )
    return [data.items[sum(place)] for place in places]


def _lifted(row: Sequence[Scalar], quotient: bool) -> Sequence[Number] | None:
    """Operands ready for exact arithmetic: beside a symbol every float becomes the fraction that it is."""
    if not any(isinstance(item, Expr) for item in row):
        return row
    lifted = [exact(item) for item in row]
    if not quotient and any(isinstance(i, Expr) and not (integral(i) or _representable(i)) for i in lifted):
        return None
    return None if any(item is None for item in lifted) else [item for item in lifted if item is not None]


def exact(item: Number) -> Number | None:
    """A float as the whole number or fraction that it is; None for infinities and NaN; others as they are."""
    if isinstance(item, float):
        return _whole(Fraction(item)) if math.isfinite(item) else None
    return item


def _whole(value: int | Fraction) -> int | Fraction:
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


# --- results in the arithmetic of their type ---


def settled(value: Number, dtype: int, *, quotient: bool = False) -> Scalar | None:
    """A result as an element of `dtype`: rounded, or None where it overflows or isn't known exactly."""
    found = dtypes.BY_CODE.get(dtype)
    kind = found.kind if found else ""
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if kind in ("int", "uint"):
        return _whole_number(value, dtypes.BY_CODE[dtype].bits or 64, signed=kind == "int")
    if kind == "float":
        return _symbolic(value, dtype, quotient) if isinstance(value, Expr) else _rounded(value, dtype)
    return value if kind == "string" and isinstance(value, str) else None


def _whole_number(value: Number, bits: int, *, signed: bool) -> int | Expr | None:
    if isinstance(value, Expr):
        return value if integral(value) else None
    if not isinstance(value, int):
        return None
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    return int(value) if low <= value < high else None


def _symbolic(value: Expr, dtype: int, quotient: bool) -> Scalar | None:
    """A size in floating point: only in types wide enough, only with coefficients that are exact there."""
    if dtype not in (dtypes.FLOAT, dtypes.DOUBLE):
        return None
    if not any(monomial for monomial, _ in terms_of(value)):
        return _rounded(Fraction(terms_of(value)[0][1]), dtype)
    return value if _representable(value, any_divisor=quotient) else None


def _representable(value: Expr, *, any_divisor: bool = False) -> bool:
    """Whether floating point computes this exactly or, with `any_divisor`, to the correctly rounded quotient.

    A rounded quotient of small whole numbers still has the floor and ceiling of the exact one: where that is
    not whole, it is at least 1/divisor away from the next whole number.
    """
    for _, coefficient in terms_of(value):
        below = coefficient.denominator
        if (below & (below - 1) and not any_divisor) or max(below, abs(coefficient.numerator)) > _EXACT:
            return False
    return True


def integral(value: Size) -> bool:
    """Whether the expression is a whole number for all whole symbols: no fraction among its coefficients.

    >>> from onnxscope.expr import symbol
    >>> integral(symbol("H")*2 + 1), integral(symbol("H")*Fraction(1, 2))
    (True, False)
    """
    return all(coefficient.denominator == 1 for _, coefficient in terms_of(value))


def _rounded(value: Number, dtype: int) -> float | None:
    """A number rounded to a float type; None where it overflows, or the type has no plain Python form."""
    if isinstance(value, (str, Expr)):
        return None
    letter = {dtypes.FLOAT: "f", dtypes.FLOAT16: "e", dtypes.DOUBLE: "d"}.get(dtype)
    try:
        return (
            None
            if letter is None
            else float(struct.unpack(f"<{letter}", struct.pack(f"<{letter}", float(value)))[0])
        )
    except OverflowError:
        return None


# --- arithmetic that needs care ---


def truncated_div(a: Size, b: Size) -> Size | None:
    """Integer division as C does it, toward zero; None where b is 0 or its sign isn't known.

    Where a may be negative: max(floor(a/b), min(ceil(a/b), 0)), the floor above zero and the ceiling below.

    >>> truncated_div(-7, 2)
    -3
    """
    if b == 0:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    whole = exact_div(a, b)
    if whole is not None and integral(whole):
        return whole
    if at_least(-1, b):
        return truncated_div(-a, -b)
    if not at_least(b, 1):
        return None
    if at_least(0, a):
        return -floor_div(-a, b)
    down = floor_div(a, b)
    return down if at_least(a, 0) else maximum(down, minimum(ceil_div(a, b), 0))


def true_div(a: Number, b: Number) -> Number | None:
    """Division of reals; symbolic where the divisor is a number or divides without remainder."""
    if isinstance(a, str) or isinstance(b, str) or b == 0:
        return None
    if isinstance(b, Expr):
        return _symbolic_ratio(a, b)
    if isinstance(a, Expr):
        return a * (Fraction(1) / Fraction(b))
    return a / b


def _symbolic_ratio(a: Number, b: Expr) -> Number | None:
    if not isinstance(a, (int, Expr)):
        return None
    ratio = exact_div(a, b)
    if ratio is not None:
        return ratio
    inverse = exact_div(b, a) if a != 0 else None
    return Fraction(1, inverse) if isinstance(inverse, int) and inverse else None


def modulo(a: Number, b: Number) -> Number | None:
    """Remainder with the sign of the divisor (Mod with fmod=0)."""
    if isinstance(a, str) or isinstance(b, str) or b == 0:
        return None
    if isinstance(a, Expr) or isinstance(b, Expr):
        return (
            a % b
            if isinstance(a, (int, Expr)) and isinstance(b, (int, Expr)) and integral(a) and integral(b)
            else None
        )
    return a % b


def c_modulo(a: Number, b: Number) -> Number | None:
    """Remainder with the sign of the dividend (Mod with fmod=1)."""
    if isinstance(a, float) and isinstance(b, float):
        return math.fmod(a, b) if b else None
    if not isinstance(a, (int, Expr)) or not isinstance(b, (int, Expr)):
        return None
    quotient = truncated_div(a, b)
    return None if quotient is None else a - b * quotient


def equal(a: Number, b: Number) -> bool | None:
    """Whether a == b, where that is decided for all values of the symbols, else None."""
    if not isinstance(a, Expr) and not isinstance(b, Expr):
        return bool(a == b)
    if a == b:
        return True
    return False if less(a, b) or less(b, a) else None


def less(a: Number, b: Number) -> bool | None:
    """Whether a < b, where that is decided for all values of the symbols (at least 1 each), else None."""
    if isinstance(a, str) or isinstance(b, str):
        return None
    if not isinstance(a, Expr) and not isinstance(b, Expr):
        return bool(a < b)
    if _bound(b, a) > 0:
        return True
    return False if _bound(a, b) >= 0 else None


def _bound(a: Number, b: Number) -> Fraction | float:
    """A number that a - b never falls below; minus infinity where none is known."""
    found = lower_bound(a - b)  # type: ignore[arg-type, operator]  # the callers' numbers include an Expr
    return -math.inf if found is None else Fraction(found)


def largest(*items: Number) -> Number | None:
    """The largest of several; None beside NaN and for fractions of symbols."""
    return _extreme(maximum, max, items)


def smallest(*items: Number) -> Number | None:
    """The smallest of several; None beside NaN and for fractions of symbols."""
    return _extreme(minimum, min, items)


def _extreme(symbolic: Function, plain: Function, items: tuple[Number, ...]) -> Number | None:
    if any(isinstance(item, Expr) for item in items):
        whole = all(isinstance(item, (int, Expr)) and integral(item) for item in items)
        return symbolic(*items) if whole else None  # an expression relies on whole numbers inside min and max
    return None if any(item != item for item in items) else plain(items)


def negated(answer: bool | None) -> bool | None:
    """Not, where there is an answer."""
    return None if answer is None else not answer
