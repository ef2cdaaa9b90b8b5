"""Sequences and optionals. The shape of a sequence is that of its elements, with unknowns where they differ.

Containers are named from the outside in: "sequence", "optional", "optional of sequence".
Source: ONNX Operators.md, the versions named at each rule.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Size, exact_div
from onnxscope.graph import Type
from onnxscope.ops._merging import fresh, merged_shape
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import Data, Inferred, Shape, Unanswered, one

SEQUENCE = "sequence"
OPTIONAL = "optional"


def _contained(shape: Shape | None, dtype: int | None, container: str) -> Inferred:
    return Inferred((shape,), (dtype,), containers=(container,))


@op("SequenceConstruct", since=11)
def sequence_construct(n: View) -> Inferred:
    """The inputs as a sequence. Source: SequenceConstruct-11."""
    shape = n.shape_or_none(0)
    for i in range(1, len(n.inputs)):
        shape = merged_shape(shape, n.shape_or_none(i), n.unknown)
    return _contained(shape, n.dtype(0), SEQUENCE)


@op("SequenceEmpty", since=11)
def sequence_empty(n: View, *, dtype: int = dtypes.FLOAT) -> Inferred:
    """A sequence without elements, whose shape is unknown until some come. Source: SequenceEmpty-11."""
    return _contained(None, dtype, SEQUENCE)


@op("SequenceInsert", since=11)
def sequence_insert(n: View) -> Inferred:
    """The sequence with one tensor more. Source: SequenceInsert-11."""
    shape = merged_shape(n.shape_or_none(0), n.shape_or_none(1), n.unknown)
    return _contained(shape, n.dtype(0) or n.dtype(1), SEQUENCE)


@op("SequenceErase", since=11)
def sequence_erase(n: View) -> Inferred:
    """The sequence with one tensor less. Source: SequenceErase-11."""
    return _contained(n.shape_or_none(0), n.dtype(0), SEQUENCE)


@op("SequenceAt", since=11)
def sequence_at(n: View) -> Inferred:
    """One element; sizes that differ from element to element are unknown. Source: SequenceAt-11."""
    return Inferred((fresh(n.shape_or_none(0), n.unknown),), (n.dtype(0),))


@op("SequenceLength", since=11)
def sequence_length(n: View) -> Inferred:
    """The number of elements, an int64 scalar of unknown content. Source: SequenceLength-11."""
    return one((), dtypes.INT64)


@op("SplitToSequence", since=11)
def split_to_sequence(n: View, *, axis: int = 0, keepdims: int = 1) -> Inferred:
    """X cut along an axis: into parts of `split` (input 1; a scalar: equal parts, the last may be smaller).

    Without input 1 the parts have size 1, and keepdims = 0 drops the axis. Stays unknown: the size along the
    axis where the parts differ or the split isn't known. Source: SplitToSequence-11, -24.
    """
    x = n.shape(0)
    place = axis_of(axis, len(x))
    if not n.has(1):
        middle: tuple[Size, ...] = (1,) if keepdims else ()
    else:
        size = _part(n, x[place])
        middle = (n.unknown(place) if size is None else size,)
    return _contained((*x[:place], *middle, *x[place + 1 :]), n.dtype(0), SEQUENCE)


def _part(n: View, size: Size) -> Size | None:
    """The size that all parts share, or None."""
    if n.content(1) is None:
        return None
    parts = n.sizes(1)
    if n.shape(1) == ():
        return parts[0] if parts[0] != 0 and exact_div(size, parts[0]) is not None else None
    return parts[0] if len(set(parts)) == 1 else None


@op("ConcatFromSequence", since=11)
def concat_from_sequence(n: View, *, axis: int = 0, new_axis: int = 0) -> Inferred:
    """The elements joined along an axis, or stacked along a new one; that size is unknown.

    Source: ConcatFromSequence-11.
    """
    x = n.shape(0)
    place = axis_of(axis, len(x) + (1 if new_axis else 0))
    rest = x[place:] if new_axis else x[place + 1 :]
    return one((*x[:place], n.unknown(place), *rest), n.dtype(0))


@op("Optional", since=15)
def optional(n: View, *, type: Type | None = None) -> Inferred:
    """An optional that holds the input, or an empty one of the declared type. Source: Optional-15."""
    if n.has(0):
        fact = n.fact(0)
        return _contained(
            fact.shape, fact.dtype, f"{OPTIONAL} of {fact.container}" if fact.container else OPTIONAL
        )
    if type is None:
        raise Unanswered("an optional without value or type")
    inner = type.element if type.kind == SEQUENCE and type.element else type
    container = f"{OPTIONAL} of {SEQUENCE}" if type.kind == SEQUENCE else OPTIONAL
    return _contained(None, inner.dtype or None, container)


@op("OptionalGetElement", since=15)
def optional_get_element(n: View) -> Inferred:
    """What the optional holds; from OptionalGetElement-18 on a tensor or sequence passes as it is."""
    fact = n.fact(0)
    outer, _, inner = fact.container.partition(" of ")
    if outer == OPTIONAL:
        return _contained(fact.shape, fact.dtype, inner)
    return Inferred((fact.shape,), (fact.dtype,), (n.known(0),), (fact.container,))


@op("OptionalHasElement", since=15)
def optional_has_element(n: View) -> Inferred:
    """A bool scalar: false without input, true for what is no optional, else unknown.

    Source: OptionalHasElement-18.
    """
    if not n.has(0):
        return one((), dtypes.BOOL, Data((), (False,)))
    fact = n.fact(0)
    sure = fact.shape is not None and not fact.container.startswith(OPTIONAL)
    return one((), dtypes.BOOL, Data((), (True,)) if sure else None)
