"""Pools: windows that take a maximum, mean or norm, global pools over all spatial axes, and MaxUnpool.

Layouts: X [N, C, *S], Y [N, C, *S'].
Source: ONNX Operators.md, MaxPool-1..22, AveragePool-1..22, LpPool-1..22, Global*Pool-1..22, MaxUnpool-9..22;
onnxruntime ContribOperators.md.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Worked
from onnxscope.ops._windows import SAME, resolve, spread, window_sizes
from onnxscope.ops.convolution import BLOCKED, MICROSOFT, NHWC, channels_first
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered, Window, one

Ints = tuple[int, ...]


@op("AveragePool", "LpPool", "MaxPool", kind="pool")
@op("NhwcMaxPool", "QLinearAveragePool", "MaxpoolWithMask", domain=MICROSOFT, kind="pool")
@op("AveragePool", "MaxPool", domain=BLOCKED, kind="pool")
@op("AveragePool", "MaxPool", "LpPool", "QLinearAveragePool", domain=NHWC, kind="pool")
def pool(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
) -> Inferred:
    """Y [N, C, *S'] for X [N, C, *S], S' as a convolution's; MaxPool's second output holds int64 indices.

    ceil_mode rounds up and drops windows that start in the end padding; count_include_pad changes the
    divisor, not the shape. Two deprecated forms on which the specification and onnxruntime disagree stay
    unknown, with a note: VALID with ceil_mode where rounding matters, and SAME with dilation. The
    channels-last forms take [N, *S, C]. Source: AveragePool-22, MaxPool-22, LpPool-22.
    """
    last = bool(channels_last) or n.node.domain == NHWC or n.node.op.startswith("Nhwc")
    given = n.shape(0)
    if len(given) < 3:
        raise Unanswered(f"a pool needs a batch, a channel and a spatial axis; got rank {len(given)}")
    x = channels_first(given) if last else given
    window = resolve(x[2:], tuple(kernel_shape), strides, pads, dilations, auto_pad, channels_last=last)
    axes, note = _pool_sizes(n, x[2:], window, auto_pad, bool(ceil_mode))
    sizes = tuple(axis.value for axis in axes)
    y = (x[0], *sizes, x[1]) if last else (x[0], x[1], *sizes)
    return Inferred(shapes=(y, y), dtypes=(n.dtype(0), dtypes.INT64), axes=axes, window=window, note=note)


def _pool_sizes(
    n: View, spatial: Shape, window: Window, auto_pad: str, ceil_mode: bool
) -> tuple[tuple[Worked, ...], str]:
    """(sizes, note), with new symbols where the specification and onnxruntime give different sizes."""
    sizes = window_sizes(spatial, window, auto_pad=auto_pad, ceil_mode=ceil_mode)
    if auto_pad == "VALID" and ceil_mode:
        other = window_sizes(spatial, window)
        agreed = [up.value == down.value for up, down in zip(sizes, other, strict=True)]
        note = "auto_pad VALID with ceil_mode: the specification rounds down, onnxruntime rounds up"
    elif auto_pad in SAME:
        agreed = [k == 1 or d == 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
        note = "auto_pad SAME with dilation: onnxruntime pads for the undilated window, so its map is smaller"
    else:
        return sizes, ""
    if all(agreed):
        return sizes, ""
    first = 1 if window.channels_last else 2
    rows = enumerate(zip(sizes, agreed, strict=True))
    return tuple(size if same else Worked.of(n.unknown(first + i)) for i, (size, same) in rows), note


@op("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", kind="global_pool")
@op("QLinearGlobalAveragePool", domain=MICROSOFT, kind="global_pool")
@op("GlobalAveragePool", "GlobalMaxPool", domain=BLOCKED, kind="global_pool")
@op("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", domain=NHWC, kind="global_pool")
def global_pool(n: View, *, channels_last: int = 0) -> Inferred:
    """Y [N, C, 1...] for X [N, C, *S], or [N, 1..., C] channels-last: one number per channel.

    Source: GlobalAveragePool-22, onnxruntime ContribOperators.md.
    """
    x = n.shape(0)
    if len(x) < 2:
        raise Unanswered(f"a global pool needs a batch and a channel axis; got rank {len(x)}")
    ones = (1,) * (len(x) - 2)
    last = bool(channels_last) or n.node.domain == NHWC
    return one((x[0], *ones, x[-1]) if last else (*x[:2], *ones), n.dtype(0))


@op("MaxUnpool", since=9)
def max_unpool(n: View, *, kernel_shape: Ints = (), strides: Ints = (), pads: Ints = ()) -> Inferred:
    """Y [N, C, *S'] with S' = stride*(S - 1) + kernel - pads, or the sizes that input 2 (output_shape) gives.

    Source: MaxUnpool-22.
    """
    x = n.shape(0)
    if n.has(2):
        return one(n.sizes(2), n.dtype(0))
    rank = len(x) - 2
    if rank < 1 or len(kernel_shape) != rank:
        raise Unanswered(f"kernel_shape has {len(kernel_shape)} entries for {rank} spatial axes")
    steps, sides = spread(strides, rank, 1), spread(pads, 2 * rank, 0)
    axes = tuple(
        Worked.of(steps[i]) * (Worked.of(x[2 + i]) - 1)
        + kernel_shape[i]
        - (Worked.of(sides[i]) + sides[i + rank])
        for i in range(rank)
    )
    return one((x[0], x[1], *(axis.value for axis in axes)), n.dtype(0), axes=axes)
