"""Sizes that remember their derivation."""

from __future__ import annotations

from collections.abc import Iterable

from onnxscope.expr.bounds import minimum
from onnxscope.expr.polynomial import Size, floor_div, product
from onnxscope.expr.text import bracketed

_RANK = {"+": 1, "-": 1, "*": 2, "//": 2}


class Worked:
    """A size that remembers its derivation. Arithmetic on it computes value and text from one tree.

    >>> n = Worked.of(5)
    >>> (n*n*1 + 1)*32
    Worked('(5*5*1 + 1)*32 = 832')
    """

    __slots__ = ("args", "op", "value")

    op: str
    """Operator, `min`, or "" for a leaf."""
    args: tuple[Worked, ...]
    """Two operands; a product may have more."""
    value: Size
    """Result."""

    def __init__(self, op: str, args: tuple[Worked, ...], value: Size) -> None:
        self.op = op
        self.args = args
        self.value = value

    @classmethod
    def of(cls, size: Size | Worked) -> Worked:
        """A leaf: a number or size that is given, not computed here."""
        return size if isinstance(size, Worked) else cls("", (), size)

    def __add__(self, other: Size | Worked) -> Worked:
        right = Worked.of(other)
        return Worked("+", (self, right), self.value + right.value)

    def __radd__(self, other: Size) -> Worked:
        return Worked.of(other) + self

    def __sub__(self, other: Size | Worked) -> Worked:
        right = Worked.of(other)
        return Worked("-", (self, right), self.value - right.value)

    def __rsub__(self, other: Size) -> Worked:
        return Worked.of(other) - self

    def __mul__(self, other: Size | Worked) -> Worked:
        right = Worked.of(other)
        return Worked("*", (self, right), self.value * right.value)

    def __rmul__(self, other: Size) -> Worked:
        return Worked.of(other) * self

    def __floordiv__(self, other: Size | Worked) -> Worked:
        right = Worked.of(other)
        return Worked("//", (self, right), floor_div(self.value, right.value))

    @property
    def text(self) -> str:
        """The derivation without its result."""
        if not self.op:
            return str(self.value)
        if self.op in ("min", "max"):
            return f"{self.op}({', '.join(arg.text for arg in self.args)})"
        sign = f" {self.op} " if _RANK[self.op] == 1 else self.op
        return sign.join(arg._operand(self.op, place > 0) for place, arg in enumerate(self.args))

    def _operand(self, outer: str, right: bool) -> str:
        if not self.op:
            return self._leaf()
        if self.op in ("min", "max"):
            return self.text
        if _RANK[self.op] != _RANK[outer]:
            return self.text if _RANK[self.op] > _RANK[outer] else f"({self.text})"
        chained = outer == self.op and outer in "+*" if right else (self.op, outer) != ("//", "*")
        return self.text if chained else f"({self.text})"

    def _leaf(self) -> str:
        negative = isinstance(self.value, int) and self.value < 0
        return f"({self.value})" if negative else bracketed(self.value)

    def __str__(self) -> str:
        result = str(self.value)
        return result if self.text == result else f"{self.text} = {result}"

    def __repr__(self) -> str:
        return f"Worked({str(self)!r})"


def worked_min(*sizes: Worked) -> Worked:
    """The smallest of several derivations, with `min(...)` in the text."""
    return Worked("min", sizes, minimum(*(size.value for size in sizes)))


def worked_product(factors: Iterable[Size | Worked]) -> Worked:
    """The product of all factors, in order; 1 where there are none.

    >>> from onnxscope.expr import symbol
    >>> worked_product([2, 3, symbol("N")])
    Worked('2*3*N = 6*N')
    """
    args = tuple(Worked.of(factor) for factor in factors)
    if len(args) == 1:
        return args[0]
    return Worked("*", args, product(arg.value for arg in args)) if args else Worked.of(1)
