"""Small nodes whose form depends on the opset: Slice, Squeeze, Unsqueeze, Shape."""

from __future__ import annotations

from onnxscope.rewrite.lift import Lift

LAST = 2**63 - 1
"""End of a Slice that goes to the end of the axis."""


def sliced(lift: Lift, place: int, value: str, axis: int, start: int, end: int) -> str:
    """Stretch start..end of one axis; bounds are attributes below opset 10. Source: Slice-1, Slice-10."""
    starts, ends, axes = (start,), (end,), (axis,)
    if lift.opset < 10:
        return lift.builder.emit(place, "Slice", (value,), hint=value, starts=starts, ends=ends, axes=axes)
    inputs = (lift.builder.ints(starts, "starts"), lift.builder.ints(ends, "ends"), lift.builder.ints(axes))
    return lift.builder.emit(place, "Slice", (value, *inputs), hint=value)


def split(lift: Lift, place: int, value: str, parts: int, size: int) -> tuple[str, ...]:
    """Equal parts of the first axis; sizes are an attribute below opset 13. Source: Split-2, -13."""
    sizes = (size // parts,) * parts
    inputs = (value,) if lift.opset < 13 else (value, lift.builder.ints(sizes, "sizes"))
    given = sizes if lift.opset < 13 else None
    first = lift.builder.emit(place, "Split", inputs, outputs=parts, axis=0, split=given, hint=value)
    return lift.builder.outputs_of(first)


def squeezed(lift: Lift, place: int, value: str, axis: int) -> str:
    """Without an axis of size 1; the axis is an attribute below opset 13. Source: Squeeze-1, Squeeze-13."""
    return _axis(lift, place, "Squeeze", value, axis)


def unsqueezed(lift: Lift, place: int, value: str, axis: int) -> str:
    """With a new axis of size 1, counted in the result. Source: Unsqueeze-1, Unsqueeze-13."""
    return _axis(lift, place, "Unsqueeze", value, axis)


def _axis(lift: Lift, place: int, op: str, value: str, axis: int) -> str:
    if lift.opset < 13:
        return lift.builder.emit(place, op, (value,), axes=(axis,), hint=value)
    return lift.builder.emit(place, op, (value, lift.builder.ints((axis,))), hint=value)


def sizes(lift: Lift, place: int, value: str, start: int, end: int) -> str:
    """Sizes of the axes start..end as a 1-D tensor; Shape takes bounds from opset 15 on. Source: Shape-15."""
    if lift.opset >= 15:
        return lift.builder.emit(place, "Shape", (value,), start=start, end=end, hint="sizes")
    return sliced(lift, place, lift.builder.emit(place, "Shape", (value,), hint="sizes"), 0, start, end)


def shifted(lift: Lift, place: int, value: str, axis: int, count: int, into: int) -> str:
    """`count` stretches of an axis, each one position further, concatenated along the axis `into`.

    Ends count from the back, so that the size of the axis needn't be known: it shrinks by count - 1.
    """
    parts = [
        sliced(lift, place, value, axis, i, LAST if i == count - 1 else i - count + 1) for i in range(count)
    ]
    return lift.builder.emit(place, "Concat", parts, axis=into, hint=value)


def reshaped_to(lift: Lift, place: int, value: str, shape: str, *, like: str = "") -> str:
    """A Reshape to sizes that the model computes; from opset 5 on."""
    return lift.builder.emit(place, "Reshape", (value, shape), like=like, hint=value)


def sizes_joined(lift: Lift, place: int, parts: list[str]) -> str:
    """1-D tensors of sizes one after the other."""
    return lift.builder.emit(place, "Concat", parts, axis=0, hint="shape")
