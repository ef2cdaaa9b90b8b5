"""Attention: ONNX's Attention, LinearAttention, FlexAttention and RotaryEmbedding.

B sequences, H heads (Hq of queries, Hkv of keys and values), L queries, T keys (past and new), D head size of
queries and keys, Dv of values. MACs are those of the two products Q K^T and P V: B*Hq*L*T*(D + Dv); a causal
mask saves none of them here. Source: ONNX Operators.md, Attention-23..25, RotaryEmbedding-23,
LinearAttention-27, FlexAttention-1.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Size, Worked, worked_product
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered, ValueFact, one

PREVIEW = "ai.onnx.preview"


def attention_macs(
    batch: Size, heads: Size, queries: Size, keys: Size, head: Size, value_head: Size
) -> Worked:
    """MACs of Q K^T and P V: B*Hq*L*T*(D + Dv).

    >>> attention_macs(1, 2, 3, 4, 5, 6)
    Worked('1*2*3*4*(5 + 6) = 264')
    """
    return worked_product((batch, heads, queries, keys)) * (Worked.of(head) + value_head)


def share(width: Size, heads: Size, what: str) -> Size:
    """The head size of a packed axis. Raises Unanswered where the heads don't divide it."""
    if heads == 0 or (isinstance(width, int) and isinstance(heads, int) and width % heads):
        raise Unanswered(f"{heads} heads don't divide the {what} width {width}")
    return width // heads


def split_heads(packed: Shape, heads: int, what: str) -> Shape:
    """[B, L, H*D] as [B, H, L, D]; a shape of rank 4 is that already. Raises Unanswered for other ranks."""
    if len(packed) == 4:
        return packed
    if len(packed) != 3:
        raise Unanswered(f"{what} has rank {len(packed)}, neither 3 nor 4")
    return (packed[0], heads, packed[1], share(packed[2], heads, what))


@op("Attention", since=23, multiplies=True)
def attention(n: View, *, q_num_heads: int = 0, kv_num_heads: int = 0) -> Inferred:
    """Q [B, Hq, L, D], K [B, Hkv, T', D], V [B, Hkv, T', Dv] -> Y [B, Hq, L, Dv].

    3-D operands pack heads and head size, [B, L, Hq*D] and so on, and need the head counts; Y is then [B, L,
    Hq*Dv]. present_key [B, Hkv, T, D] and present_value [B, Hkv, T, Dv] with T = past + T'; qk_matmul_output
    [B, Hq, L, T]. MACs: B*Hq*L*T*(D + Dv). Source: Attention-25.
    """
    given = n.shape(0)
    q = split_heads(given, q_num_heads, "query")
    k, v = split_heads(n.shape(1), kv_num_heads, "key"), split_heads(n.shape(2), kv_num_heads, "value")
    past = n.shape(4, 4)[2] if n.has(4) else 0
    total = k[2] + past
    y = (q[0], q[1], q[2], v[3]) if len(given) == 4 else (q[0], q[2], q[1] * v[3])
    shapes = (y, (*k[:2], total, k[3]), (*v[:2], total, v[3]), (*q[:3], total))
    kinds = (n.dtype(0), n.dtype(1), n.dtype(2), n.dtype(0))
    agree = (("head size of query and key", q[3], k[3]), ("length of key and value", k[2], v[2]))
    return Inferred(shapes, kinds, macs=attention_macs(q[0], q[1], q[2], total, q[3], v[3]), agree=agree)


@op("FlexAttention", domain=PREVIEW, multiplies=True)
def flex_attention(n: View, *, softmax_precision: int = 0) -> Inferred:
    """Q [B, Hq, L, D], K [B, Hkv, T, D], V [B, Hkv, T, Dv] -> Y [B, Hq, L, Dv].

    score_mod and prob_mod are graphs from [B, Hq, L, T] to the same. MACs: B*Hq*L*T*(D + Dv), and those of
    the two graphs. Source: FlexAttention-1.
    """
    q, k, v = n.shape(0, 4), n.shape(1, 4), n.shape(2, 4)
    macs: Worked | None = attention_macs(q[0], q[1], q[2], k[2], q[3], v[3])
    kind = softmax_precision or (dtypes.DOUBLE if n.dtype(0) == dtypes.DOUBLE else dtypes.FLOAT)
    scores = ValueFact(kind, (*q[:3], k[2]))
    for name in ("score_mod", "prob_mod"):
        if n.node.attribute(name) is not None:
            inside = n.subgraph(name, (scores,)).macs
            if inside is None or macs is None:
                macs = None
            elif inside.value != 0:
                macs = macs + inside
    agree = (("head size of query and key", q[3], k[3]), ("length of key and value", k[2], v[2]))
    y = (*q[:3], v[3])
    return Inferred((y,), (n.dtype(0),), macs=macs, unknown_macs=macs is None, agree=agree)


@op("RotaryEmbedding", since=23)
@op("RotaryEmbedding", "MRotaryEmbedding", domain="com.microsoft")
def rotary_embedding(n: View) -> Inferred:
    """Y has the shape and type of X; the rotation is elementwise. Source: RotaryEmbedding-23."""
    return one(n.shape(0), n.dtype(0))


@op("LinearAttention", since=27, multiplies=True)
@op("LinearAttention", domain="com.microsoft", multiplies=True)
def linear_attention(
    n: View,
    *,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    update_rule: str = "gated_delta",
    state_window: int = 0,
) -> Inferred:
    """Query [B, L, Hq*D], key [B, L, Hkv*D], value [B, L, Hkv*Dv] -> Y [B, L, Hq*Dv], state [B, Hkv, D, Dv].

    Y has the larger of the two head counts; a `state_window` W of onnxruntime's form puts W in front of the
    state. MACs of the recurrence per token: D*Dv per head that reads the state, D*Dv per state for its
    update, and as many again to look up what the delta rules correct; decay is elementwise. Source:
    LinearAttention-27.
    """
    q, k, v = n.shape(0, 3), n.shape(1, 3), n.shape(2, 3)
    head, value_head = share(k[2], kv_num_heads, "key"), share(v[2], kv_num_heads, "value")
    outputs = max(q_num_heads, kv_num_heads)
    state = (q[0], kv_num_heads, head, value_head)
    shapes = ((*q[:2], outputs * value_head), (state_window, *state) if state_window else state)
    passes = 2 if update_rule in ("delta", "gated_delta") else 1
    macs = worked_product((*q[:2], head, value_head)) * (
        Worked.of(outputs) + Worked.of(passes) * kv_num_heads
    )
    kinds = (n.dtype(0), n.dtype(3) if n.has(3) else n.dtype(0))
    agree = (("head size of query and key", share(q[2], q_num_heads, "query"), head),)
    return Inferred(shapes, kinds, macs=macs, agree=agree)
