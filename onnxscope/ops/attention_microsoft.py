"""onnxruntime's fused attention ops: projections included or not, key and value caches, grouped heads.

B sequences, H heads, L queries, T keys (past and new), D and Dv head sizes; MACs as in `attention`.
Source: onnxruntime ContribOperators.md.
"""

from __future__ import annotations

from typing import NamedTuple

from onnxscope.expr import Size, worked_product
from onnxscope.ops.attention import attention_macs, share
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered

MICROSOFT = "com.microsoft"


@op("Attention", "QAttention", domain=MICROSOFT, multiplies=True)
def attention(
    n: View, *, num_heads: int = 0, qkv_hidden_sizes: tuple[int, ...] = (), past_present_share_buffer: int = 0
) -> Inferred:
    """Input [B, L, E], weights [E, 3*H*D] -> Y [B, L, H*Dv], present [2, B, H, T, D]; T = past + L.

    `qkv_hidden_sizes` gives the widths of Q, K and V where they differ; past is input 4 (QAttention: 8).
    MACs: the projection B*L*E*width and the two products; with a shared cache buffer T is not known from
    shapes.
    """
    quantized = n.node.op == "QAttention"
    x, w = n.shape(0, 3), n.shape(1, 2)
    widths = tuple(qkv_hidden_sizes) if len(qkv_hidden_sizes) == 3 else (share(w[1], 3, "weight"),) * 3
    head, value_head = share(widths[0], num_heads, "query"), share(widths[2], num_heads, "value")
    place = 8 if quantized else 4
    past = n.shape(place, 5) if n.has(place) else None
    kind = n.dtype(3) if quantized else n.dtype(0)
    y = (*x[:2], widths[2])
    if past_present_share_buffer:
        return Inferred((y, past), (kind, kind), unknown_macs=True)
    total = x[1] if past is None else past[3] + x[1]
    macs = worked_product((*x, w[1])) + attention_macs(x[0], num_heads, x[1], total, head, value_head)
    agree = (("input width and weight", x[2], w[0]),)
    return Inferred((y, (2, x[0], num_heads, total, head)), (kind, kind), macs=macs, agree=agree)


class _Heads(NamedTuple):
    """Sizes of one multi-head attention."""

    batch: Size
    queries: Size
    keys: Size
    head: Size
    value_head: Size


@op("MultiHeadAttention", domain=MICROSOFT, multiplies=True)
def multi_head_attention(n: View, *, num_heads: int = 0) -> Inferred:
    """Query [B, L, H*D], key [B, T', H*D], value [B, T', H*Dv] -> Y [B, L, H*Dv].

    Also query [B, L, H, 3, D] with all three packed, key [B, T', H, 2, D] with key and value packed, or key
    and value [B, H, T', D] of a cross-attention cache. present_key [B, H, T, D] and present_value [B, H, T,
    Dv], T = past + T'; with a shared buffer (input 8) they have the size of the past, and T is not known.
    MACs: B*H*L*T*(D + Dv).
    """
    sizes = _head_sizes(n, num_heads)
    return _with_cache(n, num_heads, sizes, past=n.shape_or_none(6), shared=n.has(8))


@op("DecoderMaskedMultiHeadAttention", domain=MICROSOFT, multiplies=True)
def decoder_masked_attention(n: View, *, num_heads: int = 0, past_present_share_buffer: int = 0) -> Inferred:
    """One decoding step of MultiHeadAttention; past_key is input 5 and the cache may be shared by attribute.

    query [B, 1, H*D], or [B, 1, 2*H*D + H*Dv] with all three packed (Dv = D is assumed, as the op's kernel
    does).
    """
    if not n.has(1):
        query = n.shape(0, 3)
        head = share(query[2], 3 * num_heads, "packed query")
        sizes = _Heads(query[0], query[1], query[1], head, head)
    else:
        sizes = _head_sizes(n, num_heads)
    return _with_cache(n, num_heads, sizes, past=n.shape_or_none(5), shared=bool(past_present_share_buffer))


def _head_sizes(n: View, heads: int) -> _Heads:
    """Sizes from whichever of the packed forms the inputs have."""
    query = n.shape(0)
    if len(query) == 5:  # query, key and value packed
        return _Heads(query[0], query[1], query[1], query[4], query[4])
    if len(query) != 3:
        raise Unanswered(f"the query has rank {len(query)}, neither 3 nor 5")
    key = n.shape(1)
    head = share(query[2], heads, "query")
    if len(key) == 5:  # key and value packed
        return _Heads(query[0], query[1], key[1], head, head)
    value = n.shape(2)
    if len(key) == 4 and len(value) == 4:  # a cache
        return _Heads(query[0], query[1], key[2], head, value[3])
    if len(key) != 3 or len(value) != 3:
        raise Unanswered(f"key and value have ranks {len(key)} and {len(value)}")
    return _Heads(query[0], query[1], key[1], head, share(value[2], heads, "value"))


def _with_cache(n: View, heads: int, sizes: _Heads, *, past: Shape | None, shared: bool) -> Inferred:
    """Output, present key and value, and QK^T."""
    y = (sizes.batch, sizes.queries, heads * sizes.value_head)
    kinds = (*(n.dtype(0),) * 3, None)  # QK^T may be kept in another type
    if shared and past is not None:
        return Inferred((y, past, (*past[:3], sizes.value_head), None), kinds, unknown_macs=True)
    total = sizes.keys if past is None else past[2] + sizes.keys
    cache = (sizes.batch, heads, total)
    shapes = (y, (*cache, sizes.head), (*cache, sizes.value_head), (sizes.batch, heads, sizes.queries, total))
    macs = attention_macs(sizes.batch, heads, sizes.queries, total, sizes.head, sizes.value_head)
    return Inferred(shapes, kinds, macs=macs)


@op("GroupQueryAttention", "SparseAttention", domain=MICROSOFT, multiplies=True)
def group_query_attention(n: View, *, num_heads: int = 0, kv_num_heads: int = 0) -> Inferred:
    """Query [B, L, H*D], or [B, L, (H + 2*Hkv)*D] with key and value packed -> Y [B, L, H*D].

    present_key and present_value [B, Hkv, T, D]: T is the larger of the past's length and
    total_sequence_length (input 6), known where both are numbers; SparseAttention's caches keep their size.
    MACs: B*H*L*total*2*D where the total is known, counting masked keys.
    """
    query = n.shape(0, 3)
    packed = not n.has(1)
    head = share(query[2], num_heads + 2 * kv_num_heads if packed else num_heads, "query")
    y = (*query[:2], num_heads * head)
    past, kind = n.shape_or_none(3), n.dtype(3) if n.has(3) else n.dtype(0)
    kinds = (n.dtype(0), kind, kind)
    if n.node.op == "SparseAttention":
        return Inferred((y, past, n.shape_or_none(4)), kinds, unknown_macs=True)
    known = n.known(6)
    total = known.items[0] if known is not None and len(known.items) == 1 else None
    width = head if past is None else past[3]
    length = total if past is None else past[2]
    if not isinstance(total, int) or not isinstance(
        length, int
    ):  # an empty past is legal: no maximum of symbols
        caches = tuple((query[0], kv_num_heads, n.unknown(2, output), width) for output in (1, 2))
        return Inferred((y, *caches), kinds, unknown_macs=True)
    cache = (query[0], kv_num_heads, max(length, total), width)
    macs = attention_macs(query[0], num_heads, query[1], total, head, head)
    return Inferred((y, cache, cache), kinds, macs=macs)


@op("LongformerAttention", "MoE", "QMoE", domain=MICROSOFT, multiplies=True)
def same_shape_uncounted(n: View) -> Inferred:
    """Y has the shape and type of the input; what is multiplied depends on data (global tokens, experts)."""
    return Inferred((n.shape(0),), (n.dtype(0),), unknown_macs=True)


@op("PackedAttention", domain=MICROSOFT, multiplies=True)
def packed_attention(n: View, *, qkv_hidden_sizes: tuple[int, ...] = ()) -> Inferred:
    """Input [tokens, E], weights [E, width] -> Y [tokens, H*Dv]; MACs depend on the sequences' lengths."""
    x, w = n.shape(0, 2), n.shape(1, 2)
    width = qkv_hidden_sizes[2] if len(qkv_hidden_sizes) == 3 else share(w[1], 3, "weight")
    return Inferred(((x[0], width),), (n.dtype(0),), unknown_macs=True)
