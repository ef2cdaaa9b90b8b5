"""Facts as plain numbers and text."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from onnxscope import dtypes
from onnxscope.documents.schema import PlainShape, PlainSize, ValueEntry
from onnxscope.expr import Size
from onnxscope.ops.value import ValueFact


def plain(size: Size) -> PlainSize:
    """The number, or the text of the expression."""
    return size if isinstance(size, int) else str(size)


def plain_or_none(size: Size | None) -> PlainSize | None:
    """As `plain`; None stays None."""
    return None if size is None else plain(size)


def shape(sizes: Sequence[Size] | None) -> PlainShape | None:
    """One entry per axis; None where the rank is unknown."""
    return None if sizes is None else [plain(size) for size in sizes]


def ratio(value: int | Fraction) -> PlainSize:
    """A whole number, or text such as `1/2`.

    >>> ratio(Fraction(4, 2)), ratio(Fraction(1, 2))
    (2, '1/2')
    """
    return value.numerator if value.denominator == 1 else str(value)


def value_entry(name: str, fact: ValueFact) -> ValueEntry:
    """A graph input or output; the type of a container is written as `sequence(float32)`."""
    dtype = dtypes.name_of(fact.dtype)
    if fact.container:
        dtype = f"{fact.container}({dtype or '?'})"
    return {"name": name, "dtype": dtype, "shape": shape(fact.shape)}
