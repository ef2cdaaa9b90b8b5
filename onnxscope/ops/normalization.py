"""Normalizations: batch, instance, layer, group, RMS, Lp, local response, and onnxruntime's fusions of them.

The output has the shape of X; further outputs hold the statistics. None has MACs: nothing is a matrix
product. Source: ONNX Operators.md, each op's latest version; onnxruntime ContribOperators.md.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Size
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import Inferred, Unanswered, one

MICROSOFT, NHWC = "com.microsoft", "com.ms.internal.nhwc"


@op("InstanceNormalization", "LpNormalization", "LRN", "MeanVarianceNormalization", kind="norm")
@op("GroupNormalization", since=18, kind="norm")
@op("GroupNorm", "QOrderedLayerNormalization", "BranchwiseRMSNorm", domain=MICROSOFT, kind="norm")
@op("GatedRMSNorm", domain=MICROSOFT, kind="norm")
@op("InstanceNormalization", "LRN", domain=NHWC, kind="norm")
def normalized(n: View) -> Inferred:
    """Y has the shape and type of X.

    Source: InstanceNormalization-22, LpNormalization-22, LRN-13, MeanVarianceNormalization-13,
    GroupNormalization-21.
    """
    return one(n.shape(0), n.dtype(0))


@op("BatchNormalization", kind="norm")
@op("BatchNormalization", domain=NHWC, kind="norm")
def batch_normalization(n: View, *, spatial: int = 1) -> Inferred:
    """Y of X's shape; the running mean and var [C]; until opset 13 also saved_mean and saved_var [C].

    X is [N, C, *S], or [N] with C = 1; with spatial=0 (until opset 8) the statistics are [C, *S]. The
    statistics have the shape and type of input 3. Source: BatchNormalization-1..15.
    """
    x, statistics = n.shape(0), n.shape_or_none(3)
    channels: Size = 1 if len(x) < 2 else x[-1] if n.node.domain == NHWC else x[1]
    scale = n.shape_or_none(1)
    agree = () if not spatial or not scale else (("channels and scale", channels, scale[0]),)
    kinds = (n.dtype(0), *(n.dtype(3),) * 4)
    return Inferred(shapes=(x, *(statistics,) * 4), dtypes=kinds, agree=agree)


@op("LayerNormalization", kind="norm")
def layer_normalization(n: View, *, axis: int = -1, stash_type: int = dtypes.FLOAT) -> Inferred:
    """Y of X's shape; Mean and InvStdDev [d0, ..., d(axis-1), 1, ...] of type `stash_type`.

    Before opset 17 onnxruntime's op of the same name and outputs. Source: LayerNormalization-17.
    """
    x = n.shape(0)
    return Inferred(shapes=(x, *(_kept(x, axis),) * 2), dtypes=(n.dtype(0), stash_type, stash_type))


@op("RMSNormalization", since=23, kind="norm")
@op("SimplifiedLayerNormalization", kind="norm")
@op("SimplifiedLayerNormalization", domain=MICROSOFT, kind="norm")
def rms_normalization(n: View, *, axis: int = -1, stash_type: int = dtypes.FLOAT) -> Inferred:
    """Y of X's shape and scale's type; onnxruntime's SimplifiedLayerNormalization also gives the inverse RMS.

    Source: RMSNormalization-23; onnxruntime's operator schemas.
    """
    x = n.shape(0)
    return Inferred(shapes=(x, _kept(x, axis)), dtypes=(n.dtype(1), stash_type))


def _kept(x: tuple[Size, ...], axis: int) -> tuple[Size, ...]:
    """Shape of a statistic over the axes from `axis` on: those become 1."""
    first = axis_of(axis, len(x))
    return (*x[:first], *(1 for _ in x[first:]))


@op("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT, kind="norm")
def skip_layer_normalization(n: View) -> Inferred:
    """Normalizes input + skip (+ bias): Y [B, S, H], mean and 1/std [B, S, 1] in float32, the sum [B, S, H].

    The skip may broadcast to the input [B, S, H], never beyond it. Source: onnxruntime ContribOperators.md.
    """
    x, kind = n.shape(0), n.dtype(0)
    statistic = _kept(x, -1)
    return Inferred(shapes=(x, statistic, statistic, x), dtypes=(kind, dtypes.FLOAT, dtypes.FLOAT, kind))


@op("SkipGroupNorm", domain=MICROSOFT, kind="norm")
def skip_group_norm(n: View) -> Inferred:
    """Normalizes X + skip + bias: Y and the sum, both of X's shape. Source: ContribOperators.md."""
    return Inferred(shapes=(n.shape(0),) * 2, dtypes=(n.dtype(0),) * 2)


@op("EmbedLayerNormalization", "QEmbedLayerNormalization", domain=MICROSOFT, kind="norm")
def embed_layer_normalization(n: View) -> Inferred:
    """Y [B, S, H], mask_index [B] and the embeddings' sum [B, S, H], of input_ids [B, S].

    word_embedding (input 2) is [V, H]. Source: onnxruntime ContribOperators.md.
    """
    ids, table = n.shape(0, 2), n.shape(2, 2)
    kind = n.dtype(8) if n.node.op.startswith("Q") else n.dtype(2)
    y = (*ids, table[1])
    return Inferred(shapes=(y, (ids[0],), y), dtypes=(kind, dtypes.INT32, kind))


@op("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "BiasAdd", "BiasSoftmax", "ScaledSiLU", domain=MICROSOFT)
@op("QOrderedGelu", "Inverse", "Trilu", domain=MICROSOFT)
def fused_pointwise(n: View) -> Inferred:
    """Y has the shape and type of the first input; biases and residuals broadcast to it.

    Source: onnxruntime ContribOperators.md.
    """
    return one(n.shape(0), n.dtype(0))


@op("BiasDropout", domain=MICROSOFT, deterministic=False)
def bias_dropout(n: View) -> Inferred:
    """Y and a boolean mask, both of the data's shape. Source: onnxruntime ContribOperators.md."""
    return Inferred(shapes=(n.shape(0),) * 2, dtypes=(n.dtype(0), dtypes.BOOL))


@op("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(n: View) -> Inferred:
    """X [N, S, D] -> Y [N, S, D/2]: one half times the Gelu of the other. Source: ContribOperators.md."""
    x = n.shape(0)
    if not x:
        raise Unanswered("a scalar can't be split")
    return one((*x[:-1], x[-1] // 2), n.dtype(0))
