"""What is known of a value that is one of two: a branch's or the other's, this turn's or the last one's.

Not an op family: it registers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnxscope.expr import Expr, Size, Worked, symbols
from onnxscope.ops.value import Inferred, Shape, ValueFact

NewSize = Callable[[int], Expr]
"""Makes a new unknown size for an axis."""


def merged(one: ValueFact, other: ValueFact, unknown: NewSize) -> ValueFact:
    """What holds for both: equal sizes stay, different ones are unknown, different ranks leave no shape."""
    if one.container != other.container:
        return ValueFact()
    return ValueFact(
        dtype=one.dtype if one.dtype == other.dtype else None,
        shape=merged_shape(one.shape, other.shape, unknown),
        container=one.container,
        constant=one.constant and other.constant,
        data=one.data if one.data == other.data else None,
    )


def merged_shape(one: Shape | None, other: Shape | None, unknown: NewSize) -> Shape | None:
    """The shape that both have, with an unknown size wherever they differ.

    >>> from onnxscope.expr import symbol
    >>> merged_shape((1, 3), (1, 4), lambda axis: symbol(f"new{axis}"))
    (1, Expr('new1'))
    """
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(a if a == b else unknown(axis) for axis, (a, b) in enumerate(zip(one, other, strict=True)))


def fresh(shape: Shape | None, unknown: NewSize) -> Shape | None:
    """The shape with a new unknown wherever a size contains an invented symbol.

    Such a symbol may stand for another number in each element of a sequence or turn of a loop.
    """
    if shape is None:
        return None
    return tuple(unknown(axis) if invented(size) else size for axis, size in enumerate(shape))


def invented(size: Size) -> bool:
    """Whether a size depends on something that only running the model tells."""
    return any(atom.invented for atom in symbols(size))


def answer(facts: Sequence[ValueFact], macs: Worked | None, note: str = "") -> Inferred:
    """The facts as a rule's answer, one output each; `macs` None means unknown."""
    counted = macs is not None and macs.value != 0
    return Inferred(
        shapes=tuple(fact.shape for fact in facts),
        dtypes=tuple(fact.dtype for fact in facts),
        data=tuple(fact.data for fact in facts),
        containers=tuple(fact.container for fact in facts),
        macs=macs if counted else None,
        note=note,
        unknown_macs=macs is None,
    )
