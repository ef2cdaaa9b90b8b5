"""Channel-blocked layout (NCHWc) of onnxruntime's CPU optimizer: into it, out of it, upsampling in it.

Convolutions and pools of that domain are with their families: sizes stay [N, C', *S], only the memory layout
differs, and C' is C rounded up to whole blocks. Source: onnxruntime's NCHWc operator schemas
("com.microsoft.nchwc").
"""

from __future__ import annotations

from onnxscope.expr import ceil_div
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Unanswered, one

BLOCKED = "com.microsoft.nchwc"

BLOCKS = (8, 16)
"""Channels per block: 8 or 16, depending on the vector unit of the machine that ran the optimizer."""


@op("ReorderInput", domain=BLOCKED)
def reorder_input(n: View, *, channels_last: int = 0) -> Inferred:
    """X [N, C, *S] (or [N, *S, C]) -> Y [N, C', *S]; C' is unknown where it depends on the machine."""
    x = n.shape(0)
    if len(x) < 3:
        raise Unanswered(f"a map needs a batch, a channel and a spatial axis; got rank {len(x)}")
    channels, spatial = (x[-1], x[1:-1]) if channels_last else (x[1], x[2:])
    rounded = {ceil_div(channels, block) * block for block in BLOCKS}
    blocked = rounded.pop() if len(rounded) == 1 else n.unknown(1)
    return one((x[0], blocked, *spatial), n.dtype(0))


@op("ReorderOutput", domain=BLOCKED)
def reorder_output(n: View, *, channels: int = 0, channels_last: int = 0) -> Inferred:
    """X [N, C', *S] -> Y [N, channels, *S], or [N, *S, channels]."""
    x = n.shape(0)
    if len(x) < 3 or channels < 1:
        raise Unanswered("the op needs a map and the attribute channels")
    return one((x[0], *x[2:], channels) if channels_last else (x[0], channels, *x[2:]), n.dtype(0))


@op("Upsample", domain=BLOCKED)
def upsample(n: View, *, scales: tuple[int, ...] = ()) -> Inferred:
    """Y has each size of X times its whole scale."""
    x = n.shape(0)
    if len(scales) != len(x):
        raise Unanswered(f"{len(scales)} scales for rank {len(x)}")
    return one([size * scale for size, scale in zip(x, scales, strict=True)], n.dtype(0))
