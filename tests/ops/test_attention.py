"""Attention ops. MACs by hand: two products, B*H*L*T*(D + Dv)."""

import pytest
from rules import answer, attribute

from onnxscope.graph import Graph, Node, Type, ValueInfo

MS, PREVIEW = "com.microsoft", "ai.onnx.preview"
PACKED = {"q_num_heads": 4, "kv_num_heads": 2}

ROWS = [
    ("4-D", 23, ["B,4,L,8", "B,4,T,8", "B,4,T,10"], {}, ("B,4,L,10", "B,4,T,8", "B,4,T,10", "B,4,L,T"),
     "B*4*L*T*(8 + 10) = 72*B*L*T"),
    ("grouped heads", 24, ["2,4,3,8", "2,2,5,8", "2,2,5,8"], {}, ("2,4,3,8",), "2*4*3*5*(8 + 8) = 1920"),
    ("3-D", 23, ["2,3,32", "2,5,16", "2,5,20"], PACKED, ("2,3,40", "2,2,5,8", "2,2,5,10", "2,4,3,5"),
     "2*4*3*5*(8 + 10) = 2160"),
    ("cache", 25, ["2,4,1,8", "2,4,1,8", "2,4,1,8", None, "2,4,P,8", "2,4,P,8"], {},
     ("2,4,1,8", "2,4,P + 1,8", "2,4,P + 1,8", "2,4,1,P + 1"), "2*4*1*(P + 1)*(8 + 8) = 128*P + 128"),
    ("mask", 24, ["2,4,3,8", "2,4,5,8", "2,4,5,8", "bool 3,5"], {}, ("2,4,3,8",), "2*4*3*5*(8 + 8) = 1920"),
    ("external cache", 24, ["2,4,3,8", "2,4,9,8", "2,4,9,8", None, None, None, "i64 2"], {}, ("2,4,3,8",),
     "2*4*3*9*(8 + 8) = 3456"),
    ("3-D symbols", 23, ["B,L,E", "B,T,E", "B,T,E"], {"q_num_heads": 1, "kv_num_heads": 1}, ("B,L,E",),
     "B*1*L*T*(E + E) = 2*B*E*L*T"),
    ("3-D without heads", 23, ["2,3,32", "2,5,32", "2,5,32"], {}, ("*",), "unknown"),
    ("heads don't divide", 23, ["2,3,32", "2,5,32", "2,5,32"], {"q_num_heads": 5, "kv_num_heads": 5}, ("*",),
     "unknown"),
    ("rank 2", 23, ["3,32", "5,32", "5,32"], PACKED, ("*",), "unknown"),
    ("unknown", 23, ["*", "5,32", "5,32"], {}, ("*",), "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("opset", "inputs", "attributes", "shapes", "macs"), [r[1:] for r in ROWS],
                         ids=[r[0] for r in ROWS])  # fmt: skip
def test_attention(opset, inputs, attributes, shapes, macs):
    found = answer("Attention", opset, inputs, attributes, outputs=len(shapes))
    assert (found.shapes, found.macs) == (shapes, macs)


def test_types_and_sizes_that_must_agree():
    inputs = ["f16 2,4,3,8", "f16 2,4,5,9", "bf16 2,4,6,8"]
    found = answer("Attention", 23, inputs, outputs=4)
    assert found.dtypes == ("float16", "float16", "bfloat16", "float16")
    assert found.problems == (
        "Attention: head size of query and key don't match: 8 and 9",
        "Attention: length of key and value don't match: 5 and 6",
    )


@pytest.mark.parametrize(
    ("domain", "opset", "inputs", "shape"),
    [
        ("", 23, ["B,8,L,64", "512,32", "512,32", "i64 B,L"], "B,8,L,64"),
        ("", 23, ["B,L,512", "512,32", "512,32"], "B,L,512"),
        (MS, 1, ["B,L,512", "i64 B,L", "512,32", "512,32"], "B,L,512"),
    ],
)
def test_rotary_embedding(domain, opset, inputs, shape):
    found = answer("RotaryEmbedding", opset, inputs, domain=domain)
    assert (found.shape, found.macs) == (shape, None)


# per token: D*Dv = 8*10 per head that reads the state, and per state for its update; twice for delta rules
LINEAR = [
    ("", 27, ["2,3,32", "2,3,16", "2,3,20", None, "2,3,2", "2,3,2"], PACKED, ("2,3,40", "2,2,8,10"),
     "2*3*8*10*(4 + 2*2) = 3840"),
    ("", 27, ["2,3,32", "2,3,16", "2,3,20"], {**PACKED, "update_rule": "linear"}, ("2,3,40", "2,2,8,10"),
     "2*3*8*10*(4 + 1*2) = 2880"),
    ("", 27, ["B,L,32", "B,L,16", "B,L,20", "f16 B,2,8,10"], PACKED, ("B,L,40", "B,2,8,10"),
     "B*L*8*10*(4 + 2*2) = 640*B*L"),
    (MS, 1, ["2,3,16", "2,3,32", "2,3,40"], {"q_num_heads": 2, "kv_num_heads": 4, "state_window": 3},
     ("2,3,40", "3,2,4,8,10"), "2*3*8*10*(4 + 2*4) = 5760"),
    ("", 27, ["2,3,32", "2,3,16", "2,3,20"], {}, ("*", "*"), "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("domain", "opset", "inputs", "attributes", "shapes", "macs"), LINEAR)
def test_linear_attention(domain, opset, inputs, attributes, shapes, macs):
    found = answer("LinearAttention", opset, inputs, attributes, outputs=2, domain=domain)
    assert (found.shapes, found.macs) == (shapes, macs)


def modifier(*nodes):
    """A score_mod graph from s to p."""
    return Graph("g", (ValueInfo("s", Type("tensor", 1)),), (ValueInfo("p", Type("")),), nodes)


# scores [2, 4, 3, 5] multiplied with themselves over the query axis: 2*4*3*5*5 = 600 more
GRAM = Node(0, "m", "Einsum", "", ("s", "s"), ("p",), (attribute("equation", "bhlt,bhls->bhts"),))


@pytest.mark.parametrize(
    ("attributes", "macs"),
    [
        ({}, "2*4*3*5*(8 + 10) = 2160"),
        ({"score_mod": modifier(Node(0, "t", "Tanh", "", ("s",), ("p",)))}, "2*4*3*5*(8 + 10) = 2160"),
        ({"score_mod": modifier(GRAM)}, "2*4*3*5*(8 + 10) + 600 = 2760"),
        ({"prob_mod": modifier(Node(0, "c", "Custom", "vendor", ("s",), ("p",)))}, "unknown"),
    ],
)
def test_flex_attention_counts_its_graphs(attributes, macs):
    found = answer("FlexAttention", 1, ["2,4,3,8", "2,4,5,8", "2,4,5,10"], attributes, domain=PREVIEW)
    assert (found.shape, found.macs) == ("2,4,3,10", macs)


MICROSOFT = [
    # projection 2*3*6*72, then 2*4*3*3*(6 + 6)
    ("Attention", ["2,3,6", "6,72", "72"], {"num_heads": 4}, ("2,3,24", "2,2,4,3,6"),
     "2*3*6*72 + 2*4*3*3*(6 + 6) = 3456"),
    ("Attention", ["2,3,6", "6,72", "72", None, "2,2,4,P,6"], {"num_heads": 4}, ("2,3,24", "2,2,4,P + 3,6"),
     "2*3*6*72 + 2*4*3*(P + 3)*(6 + 6) = 288*P + 3456"),
    ("Attention", ["2,3,6", "6,64", "64"], {"num_heads": 4, "qkv_hidden_sizes": [16, 16, 32]}, ("2,3,32",),
     "2*3*6*64 + 2*4*3*3*(4 + 8) = 3168"),
    ("Attention", ["2,3,6", "6,72", "72", None, "2,2,4,9,6"],
     {"num_heads": 4, "past_present_share_buffer": 1},
     ("2,3,24", "2,2,4,9,6"), "unknown"),
    ("Attention", ["2,3,6", "6,71", "71"], {"num_heads": 4}, ("*",), "unknown"),
    ("QAttention", ["u8 2,3,6", "u8 6,72", "72", "f32:0.1", "f32:0.1"], {"num_heads": 4}, ("2,3,24",),
     "2*3*6*72 + 2*4*3*3*(6 + 6) = 3456"),
    ("MultiHeadAttention", ["B,L,32", "B,T,32", "B,T,40"], {"num_heads": 4},
     ("B,L,40", "B,4,T,8", "B,4,T,10", "B,4,L,T"), "B*4*L*T*(8 + 10) = 72*B*L*T"),
    ("MultiHeadAttention", ["B,L,4,3,8"], {"num_heads": 4}, ("B,L,32",), "B*4*L*L*(8 + 8) = 64*B*L*L"),
    ("MultiHeadAttention", ["2,3,32", "2,5,4,2,8"], {"num_heads": 4}, ("2,3,32",), "2*4*3*5*(8 + 8) = 1920"),
    ("MultiHeadAttention", ["2,3,32", "2,4,5,8", "2,4,5,8"], {"num_heads": 4}, ("2,3,32",),
     "2*4*3*5*(8 + 8) = 1920"),
    ("MultiHeadAttention", ["2,1,32", "2,1,32", "2,1,32", None, None, None, "2,4,P,8", "2,4,P,8"],
     {"num_heads": 4}, ("2,1,32", "2,4,P + 1,8", "2,4,P + 1,8"), "2*4*1*(P + 1)*(8 + 8) = 128*P + 128"),
    ("MultiHeadAttention", ["2,1,32", "2,1,32", "2,1,32", None, None, None, "2,4,9,8", "2,4,9,8", "i32 1"],
     {"num_heads": 4}, ("2,1,32", "2,4,9,8", "2,4,9,8"), "unknown"),
    ("MultiHeadAttention", ["2,32", "2,1,32", "2,1,32"], {"num_heads": 4}, ("*",), "unknown"),
    ("MultiHeadAttention", ["2,1,32", "2,32", "2,1,32"], {"num_heads": 4}, ("*",), "unknown"),
    ("DecoderMaskedMultiHeadAttention", ["2,1,32", "2,1,32", "2,1,32", None, None, "2,4,9,8", "2,4,9,8"],
     {"num_heads": 4, "past_present_share_buffer": 1}, ("2,1,32", "2,4,9,8", "2,4,9,8"), "unknown"),
    ("DecoderMaskedMultiHeadAttention", ["2,1,96"], {"num_heads": 4}, ("2,1,32",), "2*4*1*1*(8 + 8) = 128"),
    ("GroupQueryAttention", ["2,3,32", "2,3,16", "2,3,16", None, None, "i32 2", "i32:3"],
     {"num_heads": 4, "kv_num_heads": 2}, ("2,3,32", "2,2,3,8", "2,2,3,8"), "2*4*3*3*(8 + 8) = 1152"),
    ("GroupQueryAttention", ["2,3,64", None, None, "2,2,9,8", "2,2,9,8", "i32 2", "i32:3"],
     {"num_heads": 4, "kv_num_heads": 2}, ("2,3,32", "2,2,9,8", "2,2,9,8"), "2*4*3*3*(8 + 8) = 1152"),
    ("GroupQueryAttention", ["2,3,64", None, None, "2,2,P,8", "2,2,P,8", "i32 2", "i32 ()"],
     {"num_heads": 4, "kv_num_heads": 2}, ("2,3,32", "2,2,y1.dim2,8", "2,2,y2.dim2,8"), "unknown"),
    ("SparseAttention", ["2,3,32", "2,3,16", "2,3,16", "2,2,9,8", "2,2,9,8"],
     {"num_heads": 4, "kv_num_heads": 2},
     ("2,3,32", "2,2,9,8", "2,2,9,8"), "unknown"),
    ("LongformerAttention", ["2,3,32"], {"num_heads": 4, "window": 2}, ("2,3,32",), "unknown"),
    ("PackedAttention", ["T,6", "6,72", "72"], {"num_heads": 4}, ("T,24",), "unknown"),
    ("MoE", ["T,64", "T,8"], {"k": 2}, ("T,64",), "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inputs", "attributes", "shapes", "macs"), MICROSOFT)
def test_onnxruntime_ops(name, inputs, attributes, shapes, macs):
    found = answer(name, 1, inputs, attributes, outputs=len(shapes), domain=MS)
    assert (found.shapes, found.macs) == (shapes, macs)
