"""Convolutions: Conv, its quantized and fused forms, and ConvTranspose.

Layouts: X [N, C, *S], W [M, C/group, *K], Y [N, M, *S'].
Source: ONNX Operators.md, Conv-1, -11, -22, ConvTranspose-1, -11, -22; onnxruntime ContribOperators.md.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Size, Worked, worked_product
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered, Window, one
from onnxscope.ops._windows import resolve, spread, window_sizes

Ints = tuple[int, ...]


@op("Conv", kind="conv", multiplies=True)
@op("FusedConv", domain="com.microsoft", kind="conv", multiplies=True)
def conv(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Inferred:
    """Y [N, M, *S'] with S' = floor((S + pads - dilation*(kernel - 1) - 1)/stride) + 1.

    MACs: N*M*prod(S') outputs, each a sum of C/group*prod(kernel) products. Source: Conv-11.
    """
    return _conv(n, 0, 1, n.dtype(0), kernel_shape, strides, pads, dilations, group, auto_pad)


@op("ConvInteger", since=10, kind="conv", multiplies=True)
def conv_integer(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Inferred:
    """As Conv on 8-bit integers; Y is int32. Source: ConvInteger-10."""
    return _conv(n, 0, 1, dtypes.INT32, kernel_shape, strides, pads, dilations, group, auto_pad)


@op("QLinearConv", since=10, kind="conv", multiplies=True)
def qlinear_conv(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Inferred:
    """As Conv; W is input 3 and Y has the type of y_zero_point (input 7). Source: QLinearConv-10."""
    return _conv(n, 0, 3, n.dtype(7) or n.dtype(0), kernel_shape, strides, pads, dilations, group, auto_pad)


def _conv(
    n: View,
    x_at: int,
    w_at: int,
    dtype: int | None,
    kernel_shape: Ints,
    strides: Ints,
    pads: Ints,
    dilations: Ints,
    group: int,
    auto_pad: str,
) -> Inferred:
    x, w = n.shape(x_at), n.shape(w_at)
    if len(x) < 3 or len(w) != len(x):
        raise Unanswered(f"Conv needs X and W of one rank, at least 3; got ranks {len(x)} and {len(w)}")
    kernel: Shape = tuple(kernel_shape) or w[2:]
    window = resolve(x[2:], kernel, strides, pads, dilations, auto_pad, group=group)
    axes = window_sizes(x[2:], window, auto_pad=auto_pad)
    y = (x[0], w[0], *(axis.value for axis in axes))
    channels: Size = w[1] * group
    agree = (("input channels and weight channels x group", x[1], channels),)
    agree += tuple(("kernel_shape and the weight", k, s) for k, s in zip(kernel, w[2:], strict=True))
    return one(y, dtype, macs=conv_macs(y, w), axes=axes, window=window, agree=agree)


def conv_macs(y: Shape, w: Shape) -> Worked:
    """Outputs times products per output: prod(Y) * (C/group * prod(K)); every output element of Y [N, M, *S']."""
    return worked_product(y) * worked_product((*w[2:], w[1]))


@op("ConvTranspose", kind="conv_transpose", multiplies=True)
def conv_transpose(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    output_padding: Ints = (),
    output_shape: Ints = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Inferred:
    """Y [N, M, *S'] with S' = stride*(S - 1) + output_padding + dilation*(kernel - 1) + 1 - pads; W [C, M/group, *K].

    MACs: every *input* element meets M/group*prod(K) weights. `output_shape` overrides pads, which are then derived:
    total = the size without pads - output_shape, the odd pixel at the end for SAME_UPPER and NOTSET's begin otherwise.
    Source: ConvTranspose-11.
    """
    x, w = n.shape(0), n.shape(1)
    if len(x) < 3 or len(w) != len(x):
        raise Unanswered(f"ConvTranspose needs X and W of one rank, at least 3; got ranks {len(x)} and {len(w)}")
    rank = len(x) - 2
    steps, gaps = spread(strides, rank, 1), spread(dilations, rank, 1)
    kernel: Shape = tuple(kernel_shape) or w[2:]
    extra = spread(output_padding, rank, 0)
    wanted = tuple(output_shape)[-rank:] if output_shape else ()
    given = tuple(pads) if pads and auto_pad in ("NOTSET", "") else (0,) * (2 * rank)
    axes: list[Worked] = []
    begins: list[Size] = []
    ends: list[Size] = []
    for i in range(rank):
        begin, end = Worked.of(given[i]), Worked.of(given[i + rank])
        full = Worked.of(steps[i]) * (Worked.of(x[2 + i]) - 1) + extra[i] + Worked.of(gaps[i]) * (Worked.of(kernel[i]) - 1) + 1
        if wanted or auto_pad.startswith("SAME"):
            size = Worked.of(wanted[i]) if wanted else Worked.of(x[2 + i]) * steps[i]
            total = full.value - size.value
            small = total // 2
            first, last = (small, total - small) if auto_pad == "SAME_UPPER" else (total - small, small)
        else:
            size = full - (2 * begin if begin.value == end.value else begin + end)
            first, last = begin.value, end.value
        axes.append(size)
        begins.append(first)
        ends.append(last)
    y = (x[0], w[1] * group, *(axis.value for axis in axes))
    macs = worked_product(x) * worked_product((*w[2:], w[1]))
    window = Window(kernel, steps, (*begins, *ends), gaps, group, transposed=True)
    return one(y, n.dtype(0), macs=macs, axes=tuple(axes), window=window, agree=(("input channels and weight", x[1], w[0]),))
