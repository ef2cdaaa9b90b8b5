"""Convolutions: Conv with its quantized, fused and channels-last forms, DeformConv and CausalConvWithState.

Layouts: X [N, C, *S], W [M, C/group, *K], Y [N, M, *S'].
Source: ONNX Operators.md, Conv-1, -11, -22, ConvInteger-10, QLinearConv-10, DeformConv-19, -22,
CausalConvWithState-27; onnxruntime ContribOperators.md and its NCHWc graph.
"""

from __future__ import annotations

from functools import lru_cache

from onnxscope import dtypes
from onnxscope.expr import Size, Worked, product, worked_product
from onnxscope.ops._windows import resolve, window_sizes
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered, one

Ints = tuple[int, ...]

MICROSOFT, BLOCKED, NHWC = "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"


@op("Conv", kind="conv", multiplies=True)
@op("ConvInteger", "QLinearConv", since=10, kind="conv", multiplies=True)
@op("FusedConv", "NhwcConv", "NhwcFusedConv", "QLinearConv", domain=MICROSOFT, kind="conv", multiplies=True)
@op("Conv", domain=BLOCKED, kind="conv", multiplies=True)
@op("Conv", "QLinearConv", domain=NHWC, kind="conv", multiplies=True)
def conv(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
    channels_last: int = 0,
) -> Inferred:
    """Y [N, M, *S'] with S' = floor((S + pads - dilation*(kernel - 1) - 1)/stride) + 1.

    MACs: N*M*prod(S') outputs, each a sum of C/group*prod(kernel) products. QLinearConv has W as input 3 and
    the type of y_zero_point (input 7); ConvInteger gives int32. The channels-last forms take X [N, *S, C] and
    give [N, *S', M]; their W is [M, C/group, *K], or [M, *K, C/group] where only that fits C. The NCHWc form
    counts the channels that its blocks are padded with. Where W is unknown, kernel_shape still gives S'.
    Source: Conv-22, ConvInteger-10, QLinearConv-10.
    """
    last = bool(channels_last) or n.node.domain == NHWC or n.node.op.startswith("Nhwc")
    weight = 3 if n.node.op == "QLinearConv" else 1
    given, w = n.shape(0), n.shape_or_none(weight) if kernel_shape else n.shape(weight)
    if len(given) < 3 or (w is not None and len(w) != len(given)):
        ranks = f"{len(given)} and {'unknown' if w is None else len(w)}"
        raise Unanswered(f"{n.node.op} needs X and W of one rank, at least 3; got ranks {ranks}")
    x = channels_first(given) if last else given
    if w is not None and last and _kernel_before_channels(w, x[1], group):
        w = channels_first(w)
    kernel: Shape = tuple(kernel_shape) or (w[2:] if w is not None else ())
    window = resolve(x[2:], kernel, strides, pads, dilations, auto_pad, group=group, channels_last=last)
    axes = window_sizes(x[2:], window, auto_pad=auto_pad)
    channels: Size = n.unknown(len(x) - 1 if last else 1) if w is None else w[0]
    y = (x[0], channels, *(axis.value for axis in axes))
    shape = (y[0], *y[2:], y[1]) if last else y
    if w is None:
        return Inferred(shapes=(shape,), dtypes=(_dtype(n),), axes=axes, window=window, unknown_macs=True)
    agree = () if n.node.domain == BLOCKED else conv_agree(x[1], w, group, kernel)
    return one(shape, _dtype(n), macs=conv_macs(y, w), axes=axes, window=window, agree=agree)


def _dtype(n: View) -> int | None:
    if n.node.op == "ConvInteger":
        return dtypes.INT32
    return n.dtype(7) or n.dtype(0) if n.node.op == "QLinearConv" else n.dtype(0)


def channels_first(shape: Shape) -> Shape:
    """[N, *S, C] as [N, C, *S]."""
    return (shape[0], shape[-1], *shape[1:-1])


def _kernel_before_channels(w: Shape, channels: Size, group: int) -> bool:
    """Whether a channels-last op's W is [M, *K, C/group]: only where [M, C/group, *K] doesn't fit."""
    return w[-1] * group == channels and w[1] * group != channels


def conv_agree(channels: Size, w: Shape, group: int, kernel: Shape) -> tuple[tuple[str, Size, Size], ...]:
    """Sizes that must match: C and C/group*group, kernel_shape and W [M, C/group, *K]."""
    agree = (("input channels and weight channels x group", channels, w[1] * group),)
    return agree + tuple(("kernel_shape and the weight", k, s) for k, s in zip(kernel, w[2:], strict=True))


@lru_cache(maxsize=4096)
def conv_macs(y: Shape, w: Shape) -> Worked:
    """Outputs times products per output: prod(Y) * (prod(K) * C/group)."""
    return worked_product(y) * worked_product((*w[2:], w[1]))


@op("DeformConv", since=19, kind="conv", multiplies=True)
def deform_conv(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    group: int = 1,
    offset_group: int = 1,
) -> Inferred:
    """As Conv on pixels moved by offset [N, offset_group*prod(K)*rank, *S'].

    MACs: as Conv; the interpolation of moved pixels is not counted. Source: DeformConv-22.
    """
    x, w = n.shape(0), n.shape(1)
    if len(x) < 3 or len(w) != len(x):
        raise Unanswered(f"DeformConv needs X and W of one rank, at least 3; got ranks {len(x)} and {len(w)}")
    kernel: Shape = tuple(kernel_shape) or w[2:]
    window = resolve(x[2:], kernel, strides, pads, dilations, "NOTSET", group=group)
    axes = window_sizes(x[2:], window)
    y = (x[0], w[0], *(axis.value for axis in axes))
    agree = conv_agree(x[1], w, group, kernel)
    offset = n.shape_or_none(2)
    if offset is not None and len(offset) == len(x):
        agree += (("offset channels", offset[1], product(kernel) * (offset_group * len(kernel))),)
        agree += tuple(("offset and output size", o, s) for o, s in zip(offset[2:], y[2:], strict=True))
    return one(y, n.dtype(0), macs=conv_macs(y, w), axes=axes, window=window, agree=agree)


@op("CausalConvWithState", since=27, kind="conv", multiplies=True)
def causal_conv_with_state(n: View) -> Inferred:
    """X [N, C, L], W [C, 1, k] -> Y [N, C, L], present_state [N, C, k - 1]; depthwise, padded at the start.

    MACs: N*C*L outputs of k products. Source: CausalConvWithState-27.
    """
    x, w = n.shape(0, 3), n.shape(1, 3)
    state = (x[0], x[1], w[2] - 1)
    return _causal(n, x, (x, state), w, (("input channels and weight", x[1], w[0]),))


@op("CausalConvWithState", domain=MICROSOFT, kind="conv", multiplies=True)
def causal_conv_with_state_microsoft(
    n: View,
    *,
    ndim: int = 1,
    dilation: int = 1,
    channels_last: int = 0,
    state_window: int = 0,
    state_length: int = 0,
    state_channels_last: int = -1,
    state_update_capacity: int = 0,
    input_channels: int = 0,
) -> Inferred:
    """As CausalConvWithState-27; the state holds (k - 1)*dilation positions, `state_window` of them in front.

    The state of 2-D and 3-D inputs and the channel-slice forms for CUDA stay unknown.
    Source: onnxruntime ContribOperators.md.
    """
    x, w = n.shape(0), n.shape(1)
    special = (ndim - 1, state_length, state_channels_last + 1, state_update_capacity, input_channels)
    if any(special) or len(x) < 3:
        return Inferred(shapes=(None if input_channels else x,), dtypes=(n.dtype(0),), unknown_macs=True)
    length = (w[2] - 1) * dilation
    state = (x[0], length, *x[2:]) if channels_last else (x[0], x[1], length)
    state = (state_window, *state) if state_window else state
    return _causal(n, x, (x, state), w, ())


def _causal(
    n: View, x: Shape, shapes: tuple[Shape, Shape], w: Shape, agree: tuple[tuple[str, Size, Size], ...]
) -> Inferred:
    macs = worked_product(x) * w[2]
    return Inferred(shapes=shapes, dtypes=(n.dtype(0),) * 2, macs=macs, agree=agree)
