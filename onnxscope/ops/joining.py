"""Ops that join and cut tensors along an axis: Concat and Split.

Small known values keep their content, symbols included, so that shape arithmetic flows through.
Source: ONNX Operators.md and Changelog.md, the versions named at each rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxscope.expr import Size, ceil_div
from onnxscope.ops._content import joined, plain, take
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import Data, Inferred, Unanswered, one

Ints = tuple[int, ...]


@op("Concat")
def concat(n: View, *, axis: int | None = None) -> Inferred:
    """Y's size along `axis` is the sum over the inputs, the other sizes are theirs.

    In Concat-1 the axis defaults to 1. Stays unknown: the sum, where the shape of one input is unknown.
    Source: Concat-1, -4, -11, -13.
    """
    shapes = [n.shape_or_none(i) for i in range(len(n.inputs))]
    known = [shape for shape in shapes if shape is not None]
    if not known:
        raise Unanswered("the shape of every input is unknown")
    rank = len(known[0])
    if any(len(shape) != rank for shape in known):
        raise Unanswered(f"inputs of ranks {', '.join(str(len(shape)) for shape in known)} can't be joined")
    place = axis_of(1 if axis is None else axis, rank)
    y = [_common([shape[i] for shape in known]) for i in range(rank)]
    total: Size = 0
    for shape in known:
        total = total + shape[place]
    y[place] = total if len(known) == len(shapes) else n.unknown(place)
    agree = tuple(
        (f"sizes of axis {i}", shape[i], y[i]) for shape in known for i in range(rank) if i != place
    )
    dtype = next((found for i in range(len(n.inputs)) if (found := n.dtype(i)) is not None), None)
    return one(y, dtype, _joined(n, place), agree=agree)


def _common(sizes: Sequence[Size]) -> Size:
    """A size that equals all of them in a valid model: a number where there is one."""
    return next((size for size in sizes if isinstance(size, int)), sizes[0])


def _joined(n: View, axis: int) -> Data | None:
    parts: list[Data] = []
    for i in range(len(n.inputs)):
        data = n.known(i)
        if data is None:
            return None
        parts.append(data)
    return joined(parts, axis)


@op("Split")
def split(n: View, *, axis: int = 0, split: Ints = (), num_outputs: int = 0) -> Inferred:
    """One output per entry of `split` (an attribute, from Split-13 on input 1), else equal parts.

    Equal parts of S into n: S/n, which must be whole before Split-18; from then on ceil(S/n), the last one
    smaller. Unknown content of input 1: the sizes along the axis are unknown. Source: Split-1, -2, -11, -13,
    -18.
    """
    x = n.shape(0)
    place = axis_of(axis, len(x))
    count = len(n.node.outputs)
    if n.has(1) and n.content(1) is None:
        parts: Sequence[Size] = [n.unknown(place, i) for i in range(count)]
        agree: tuple[tuple[str, Size, Size], ...] = ()
    else:
        given = n.sizes(1) if n.has(1) else split
        parts = given or _equal(x[place], num_outputs or count, uneven=n.version >= 18)
        total: Size = 0
        for part in parts:
            total = total + part
        agree = (("the axis and the sum of its parts", x[place], total),)
    shapes = tuple((*x[:place], size, *x[place + 1 :]) for size in parts)
    data = _parts(n.known(0), place, parts)
    return Inferred(shapes, (n.dtype(0),) * len(shapes), data, agree=agree)


def _equal(size: Size, count: int, *, uneven: bool) -> tuple[Size, ...]:
    if isinstance(size, int) and size % count and not uneven:
        raise Unanswered(f"an axis of size {size} can't be split into {count} equal parts")
    part = ceil_div(size, count) if uneven else size // count
    last = size - part * (count - 1)
    if isinstance(last, int) and last < 0:
        raise Unanswered(f"an axis of size {size} is too small for {count} parts")
    return (part,) * (count - 1) + (last if uneven else part,)


def _parts(data: Data | None, axis: int, parts: Sequence[Size]) -> tuple[Data | None, ...]:
    sizes = plain(parts)
    if data is None or sizes is None or sum(sizes) != data.shape[axis]:
        return ()
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    pieces: list[Data | None] = [
        take(data, axis, range(start, start + size)) for start, size in zip(starts, sizes, strict=True)
    ]
    return tuple(pieces)
