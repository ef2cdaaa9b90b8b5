"""Ops that add or cut elements at the ends of axes: Pad and CenterCropPad.

Source: ONNX Operators.md, Pad-1..25, CenterCropPad-18; onnxruntime ContribOperators.md, com.microsoft.Pad.
"""

from __future__ import annotations

from onnxscope.expr import Size
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import Inferred, Unanswered, one

Ints = tuple[int, ...]


@op("Pad")
@op("Pad", domain="com.microsoft")
def pad(n: View, *, pads: Ints = (), paddings: Ints = ()) -> Inferred:
    """Y[i] = begin[i] + X[i] + end[i] in every mode; negative pads cut.

    The pads, all begins then all ends, are the attribute `paddings` in Pad-1, `pads` in Pad-2, input 1 from
    Pad-11 on; input 3 (Pad-18) names the axes that they belong to. Unknown pads: these axes are unknown.
    Source: Pad-1, -2, -11, -18.
    """
    x = n.shape(0)
    axes = _axes(n, 3, len(x))
    if not n.has(1):
        given: tuple[Size, ...] | None = pads or paddings or (0,) * (2 * len(x))
    else:
        given = None if n.content(1) is None else n.sizes(1)
    y = list(x)
    if given is None:
        for axis in axes:
            y[axis] = n.unknown(axis)
        return one(y, n.dtype(0))
    if len(given) != 2 * len(axes):
        raise Unanswered(f"{len(given)} pads for {len(axes)} axes, each needs a begin and an end")
    for place, axis in enumerate(axes):
        y[axis] = x[axis] + given[place] + given[place + len(axes)]
    return one(y, n.dtype(0))


def _axes(n: View, index: int, rank: int) -> Ints:
    """Axes in an optional input, all axes where it isn't given."""
    if not n.has(index):
        return tuple(range(rank))
    return tuple(axis_of(axis, rank) for axis in n.ints(index))


@op("CenterCropPad", since=18)
def center_crop_pad(n: View, *, axes: Ints = ()) -> Inferred:
    """X with the axes in `axes` (default: all) cut or padded to the sizes in input 1.

    Unknown content of input 1: these axes are unknown. Source: CenterCropPad-18.
    """
    x = n.shape(0)
    places = [axis_of(axis, len(x)) for axis in axes] or list(range(len(x)))
    wanted = [n.unknown(axis) for axis in places] if n.content(1) is None else list(n.sizes(1))
    if len(wanted) != len(places):
        raise Unanswered(f"{len(wanted)} sizes for {len(places)} axes")
    y = list(x)
    for axis, size in zip(places, wanted, strict=True):
        y[axis] = size
    return one(y, n.dtype(0))
