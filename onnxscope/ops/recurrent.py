"""Recurrent layers: LSTM, GRU, RNN and onnxruntime's quantized LSTM.

S steps, B sequences, I inputs, H hidden units, D directions (2 if bidirectional), G gates (LSTM 4, GRU 3, RNN
1). Source: ONNX Operators.md, LSTM-1..22, GRU-1..22, RNN-1..22; onnxruntime ContribOperators.md.
"""

from __future__ import annotations

from onnxscope.expr import Size, Worked, worked_product
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered

GATES = {"LSTM": 4, "DynamicQuantizeLSTM": 4, "GRU": 3, "RNN": 1}


@op("LSTM", "GRU", "RNN", multiplies=True)
@op("DynamicQuantizeLSTM", domain="com.microsoft", multiplies=True)
def recurrent(n: View, *, direction: str = "forward", hidden_size: int = 0, layout: int = 0) -> Inferred:
    """X [S, B, I], W [D, G*H, I], R [D, G*H, H] -> Y [S, D, B, H], Y_h and (LSTM) Y_c [D, B, H].

    With layout=1 (opset 14) the batch comes first: X [B, S, I] -> Y [B, S, D, H], Y_h [B, D, H]. MACs: per
    step, sequence and direction the products with W and R, G*H*(I + H); S is the padded length,
    `sequence_lens` may stop earlier; gates and peepholes are elementwise and not counted. The quantized LSTM
    has W [D, I, G*H] and R [D, H, G*H]. Where R is unknown, `hidden_size` is H. Source: LSTM-22, GRU-22,
    RNN-22.
    """
    x = n.shape(0, 3)
    steps, batch = (x[1], x[0]) if layout else (x[0], x[1])
    directions = 2 if direction == "bidirectional" else 1
    hidden, agree = _hidden(n, hidden_size, directions, x[2])
    kind = n.dtype(0)
    state: Shape = (batch, directions, hidden) if layout else (directions, batch, hidden)
    y: Shape = (batch, steps, directions, hidden) if layout else (steps, directions, batch, hidden)
    gates = GATES[n.node.op]
    macs = worked_product((steps, batch, directions, gates, hidden)) * (Worked.of(x[2]) + hidden)
    return Inferred(shapes=(y, state, state), dtypes=(kind,) * 3, macs=macs, agree=agree)


def _hidden(
    n: View, declared: int, directions: int, inputs: Size
) -> tuple[Size, tuple[tuple[str, Size, Size], ...]]:
    """(H, what must match): H from the recurrent weight, else from the attribute."""
    w, r = n.shape_or_none(1), n.shape_or_none(2)
    last, middle = (1, 2) if n.node.op == "DynamicQuantizeLSTM" else (2, 1)
    agree: tuple[tuple[str, Size, Size], ...] = ()
    if w is not None and len(w) == 3:
        agree += (("directions and weight", directions, w[0]), ("inputs and weight", inputs, w[last]))
    if r is not None and len(r) == 3:
        agree += (("gates x hidden size and recurrent weight", GATES[n.node.op] * r[last], r[middle]),)
        return r[last], agree
    if declared < 1:
        raise Unanswered("neither the recurrent weight nor hidden_size gives the hidden size")
    return declared, agree
