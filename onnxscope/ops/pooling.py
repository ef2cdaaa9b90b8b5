"""Pools: windows that take a maximum, mean or norm, and global pools over all spatial axes.

Source: ONNX Operators.md, MaxPool-1..22, AveragePool-1..22, LpPool-1..22, Global*Pool-1..22.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.ops._windows import resolve, window_sizes
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Unanswered, one

Ints = tuple[int, ...]


@op("AveragePool", "LpPool", kind="pool")
def average_pool(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Inferred:
    """Y [N, C, *S'] for X [N, C, *S]; count_include_pad changes the divisor, not the shape. Source: AveragePool-22."""
    x = n.shape(0)
    if len(x) < 3:
        raise Unanswered(f"a pool needs a batch, a channel and a spatial axis; got rank {len(x)}")
    window = resolve(x[2:], tuple(kernel_shape), strides, pads, dilations, auto_pad)
    axes = window_sizes(x[2:], window, auto_pad=auto_pad, ceil_mode=bool(ceil_mode))
    return one((*x[:2], *(axis.value for axis in axes)), n.dtype(0), axes=axes, window=window)


@op("MaxPool", kind="pool")
def max_pool(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Inferred:
    """As AveragePool; the optional second output holds the int64 index of each maximum. Source: MaxPool-12."""
    values = average_pool(
        n, kernel_shape=kernel_shape, strides=strides, pads=pads, dilations=dilations, auto_pad=auto_pad, ceil_mode=ceil_mode
    )
    return Inferred(
        shapes=values.shapes * 2,
        dtypes=(n.dtype(0), dtypes.INT64),
        axes=values.axes,
        window=values.window,
    )


@op("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", kind="global_pool")
def global_pool(n: View) -> Inferred:
    """Y [N, C, 1...] for X [N, C, *S]: one number per channel. Source: GlobalAveragePool-1."""
    x = n.shape(0)
    return one((*x[:2], *(1 for _ in x[2:])), n.dtype(0))
