"""Window arithmetic that convolutions and pools share: pads, strides, dilations, auto_pad, ceil_mode.

Not an op family: it registers nothing. Source: ONNX Operators.md, Conv-11 and MaxPool-12, -22.
"""

from __future__ import annotations

from onnxscope.expr import Size, Worked, ceil_div, maximum, worked_min
from onnxscope.ops.value import NoWindow, Shape, Unanswered, Window

Ints = tuple[int, ...]

SAME = ("SAME_UPPER", "SAME_LOWER")


def spread(given: Ints, rank: int, default: int) -> Ints:
    """An attribute with one entry per spatial axis, or its default. Raises Unanswered for another length."""
    if given and len(given) != rank:
        raise Unanswered(f"an attribute has {len(given)} entries for {rank} spatial axes")
    return tuple(given) or (default,) * rank


def resolve(
    spatial: Shape,
    kernel: Shape,
    strides: Ints,
    pads: Ints,
    dilations: Ints,
    auto_pad: str,
    *,
    group: int = 1,
    channels_last: bool = False,
) -> Window:
    """The window with every default and auto_pad filled in. `spatial` are the input sizes per spatial axis.

    SAME pads so that the output is ceil(input/stride): total = max((ceil(S/s) - 1)*s + d*(k - 1) + 1 - S, 0),
    the odd pixel at the end (SAME_UPPER) or the start (SAME_LOWER). Raises Unanswered for attributes of the
    wrong length, for strides and dilations below 1 and for another auto_pad.
    """
    rank = len(spatial)
    if len(kernel) != rank:
        raise Unanswered(f"kernel_shape has {len(kernel)} entries for {rank} spatial axes")
    steps, gaps = spread(strides, rank, 1), spread(dilations, rank, 1)
    if min((*steps, *gaps), default=1) < 1:
        raise Unanswered("strides and dilations must be at least 1")
    if any(isinstance(size, int) and size < 1 for size in kernel):
        raise Unanswered("kernel_shape must be at least 1")
    sides = _sides(spatial, kernel, steps, tuple(pads), gaps, auto_pad)
    return Window(kernel, steps, sides, gaps, group, channels_last=channels_last)


def _sides(spatial: Shape, kernel: Shape, steps: Ints, pads: Ints, gaps: Ints, auto_pad: str) -> Shape:
    """Pads in ONNX order, all begins and then all ends."""
    rank = len(spatial)
    if auto_pad in ("NOTSET", ""):
        if pads and len(pads) != 2 * rank:
            raise Unanswered(f"pads has {len(pads)} entries, {rank} spatial axes need {2 * rank}")
        return pads or (0,) * (2 * rank)
    if auto_pad == "VALID":
        return (0,) * (2 * rank)
    if auto_pad not in SAME:
        raise Unanswered(f"auto_pad {auto_pad!r} is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    totals = [_same_total(*row) for row in zip(spatial, kernel, steps, gaps, strict=True)]
    return halves(totals, auto_pad)


def _same_total(size: Size, kernel: Size, stride: int, dilation: int) -> Size:
    return maximum((ceil_div(size, stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


def halves(totals: list[Size], auto_pad: str) -> Shape:
    """Pads from totals per axis, begins and then ends; the odd pixel is at the end only for SAME_UPPER."""
    small = [total // 2 for total in totals]
    large = [total - half for total, half in zip(totals, small, strict=True)]
    begins, ends = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    return (*begins, *ends)


def window_sizes(
    spatial: Shape, window: Window, *, auto_pad: str = "NOTSET", ceil_mode: bool = False
) -> tuple[Worked, ...]:
    """Worked output size per spatial axis. Raises Unanswered where a window is larger than its input."""
    rank = len(spatial)
    if auto_pad in SAME:
        return tuple(
            (Worked.of(size) + Worked.of(stride) - 1) // stride if stride > 1 else Worked.of(size)
            for size, stride in zip(spatial, window.strides, strict=True)
        )
    return tuple(
        window_size(
            spatial[i],
            window.kernel[i],
            window.pads[i],
            window.pads[i + rank],
            window.strides[i],
            window.dilations[i],
            ceil_mode=ceil_mode,
        )
        for i in range(rank)
    )


def window_size(
    size: Size, kernel: Size, begin: Size, end: Size, stride: int, dilation: int, *, ceil_mode: bool = False
) -> Worked:
    """Positions of a window along one axis: floor((size + pads - dilation*(kernel - 1) - 1)/stride) + 1.

    With ceil_mode the last window may hang over the end, but one that would start in the end padding is
    dropped: min(ceil(...) + 1, floor((size + begin - 1)/stride) + 1). onnxruntime and the reference evaluator
    drop it at every opset; the specification says so from MaxPool-22 on. Raises Unanswered where no window
    fits: runtimes refuse that or differ (C++ division rounds -1/2 to 0, floor to -1).

    >>> window_size(28, 5, 0, 0, 1, 1)
    Worked('(28 + 2*0 - 1*(5 - 1) - 1)//1 + 1 = 24')
    """
    first, last = Worked.of(begin), Worked.of(end)
    padded = Worked.of(size) + (2 * first if begin == end else first + last)
    free = padded - Worked.of(dilation) * (Worked.of(kernel) - 1) - 1
    if not ceil_mode:
        result, fits = free // stride + 1, free.value
    else:
        starts = (Worked.of(size) + first - 1) // stride + 1
        result = worked_min((free + (Worked.of(stride) - 1)) // stride + 1, starts)
        fits = result.value - 1
    if isinstance(fits, int) and fits < 0:
        cover = dilation * (kernel - 1) + 1
        raise NoWindow(f"no window fits: it covers {cover} pixels, the padded input has {padded.value}")
    return result
