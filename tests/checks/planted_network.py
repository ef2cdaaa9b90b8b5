"""Defects of weights, quantization, windows and targets, each planted by a change of text or tensors.

The network: Conv 3x3 s2 (3 -> 16), BatchNormalization, Relu, Conv 3x3 (16 -> 32), Relu, global average,
Conv 1x1.
"""

import numpy as np
import onnx.parser
from onnx import numpy_helper

NETWORK = """<ir_version: 10, opset_import: ["": 17]>
g (float[1,3,17,17] x) => (float[1,4,1,1] y) {
  a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b)
  n = BatchNormalization (a, s, t, m, v)
  r = Relu (n)
  c = Conv <pads = [1, 1, 1, 1]> (r, w2, b2)
  q = Relu (c)
  p = GlobalAveragePool (q)
  y = Conv (p, w3, b3)
}"""
FIRST, SECOND = "strides = [2, 2], pads = [1, 1, 1, 1]", "<pads = [1, 1, 1, 1]> (r, w2, b2)"
LAST = "y = Conv (p, w3, b3)"


def tensors():
    random = np.random.default_rng(0)

    def normal(*shape):
        return random.normal(size=shape).astype(np.float32)

    return {
        "w": normal(16, 3, 3, 3), "b": normal(16), "s": np.ones(16, np.float32), "t": normal(16),
        "m": normal(16), "v": np.ones(16, np.float32), "w2": normal(32, 16, 3, 3),
        "b2": normal(32), "w3": normal(4, 32, 1, 1), "b3": normal(4),
    }  # fmt: skip


def put(name, number, *index):
    """Change part of a tensor."""

    def change(stored):
        stored[name][index] = number

    return change


def give(**new):
    """Add or replace tensors; Python numbers become float32."""

    def change(stored):
        stored.update(
            {k: a if isinstance(a, np.ndarray) else np.array(a, np.float32) for k, a in new.items()}
        )

    return change


def share(name, part, number):
    def change(stored):
        flat = stored[name].reshape(-1)
        flat[: int(part * flat.size)] = number

    return change


def first(body):
    """The node r fed by these nodes, which read n."""
    return ("r = Relu (n)", body)


QDQ = (
    "c = Conv <pads",
    "e = QuantizeLinear (r, qs, qz) f = DequantizeLinear (e, ds, dz) c = Conv <pads",
)
READ = ("(r, w2, b2)", "(f, w2, b2)")
BYTE = {"qz": np.array(0, np.uint8), "dz": np.array(0, np.uint8)}

PLANTED = [
    # code, replaced text, change of tensors
    ("OX301", [], put("w2", np.nan, 0, 0, 0, 0)),
    ("OX302", [], put("b2", np.inf, 3)),
    ("OX303", [], share("w2", 0.01, 1e-40)),
    ("OX304", [], put("w2", 7e4, 0, 0, 0, 0)),
    ("OX305", [], share("w2", 0.05, 1e-9)),
    ("OX306", [], share("w2", 1, 0)),
    ("OX307", [], put("w2", 0, 5)),
    ("OX308", [], lambda stored: put("w2", stored["w2"][3], 9)(stored)),
    ("OX309", [], put("w", 4e6, 0, 0, 0, 0)),
    (
        "OX311",
        [("q = Relu (c)", "c2 = Conv <pads = [1, 1, 1, 1]> (r, w4, b2) d = Add (c, c2) q = Relu (d)")],
        lambda stored: stored.update(w4=stored["w2"].copy()),
    ),
    ("OX312", [], give(left=np.ones(4, np.float32))),
    ("OX313", [], put("w2", 500, 0, 0, 0, 0)),
    ("OX314", [], lambda stored: stored.update(w3=stored["w3"].astype(np.float64))),
    ("OX315", [], share("w3", 1, 0.25)),
    ("OX316", [], share("w2", 0.7, 0)),
    ("OX317", [], lambda stored: stored["w"].__setitem__(slice(None), stored["w"][:, :1])),
    ("OX321", [], put("v", -1, 4)),
    ("OX322", [], put("s", 0, 4)),
    ("OX323", [], lambda stored: (put("v", 0, 4)(stored), put("s", 900, 4)(stored))),
    ("OX324", [], lambda stored: (put("s", 0, 4)(stored), put("t", -1, 4)(stored))),
    ("OX331", [first("r = Clip (n, lo, hi)")], give(lo=6, hi=0)),
    ("OX332", [first("e = Div (n, d) r = Relu (e)")], give(d=np.array([1.0, 0.0] * 4 + [1.0], np.float32))),
    ("OX333", [first("e = Relu (n) r = Log (e)")], None),
    ("OX334", [first("r = Sqrt (n)")], None),
    ("OX335", [first("e = ReduceL2 <axes = [1]> (n) r = Div (n, e)")], None),
    ("OX336", [first("e = Exp (n) f = ReduceSum (e) r = Div (e, f)")], None),
    ("OX337", [first("e = Relu (n) f = Add (e, d) r = Log (f)")], give(d=1e-9)),
    ("OX339", [first("e = Mul (n, d) f = Cast <to = 2> (e) r = Cast <to = 1> (f)")], give(d=255)),
    ("OX401", [QDQ, READ], give(qs=0, ds=0, **BYTE)),
    ("OX402", [QDQ, READ], give(qs=1e-40, ds=1e-40, **BYTE)),
    ("OX403", [QDQ, READ], give(qs=1e9, ds=1e9, **BYTE)),
    ("OX404", [QDQ, READ], give(qs=1, ds=1, qz=np.array(0, np.uint8), dz=np.array(0, np.int8))),
    (
        "OX405",
        [QDQ, READ],
        give(qs=np.ones(5, np.float32), ds=1, qz=np.zeros(5, np.uint8), dz=BYTE["dz"]),
    ),
    ("OX406", [QDQ, READ], give(qs=1, ds=1, qz=np.array(0, np.uint16), dz=np.array(0, np.uint16))),
    (
        "OX413",
        [(QDQ[0], QDQ[1].replace("c =", "h = QuantizeLinear (f, hs, dz) i = Identity (h) c =")), READ],
        give(qs=1, ds=1, hs=2, **BYTE),
    ),
    ("OX414", [QDQ, READ], give(qs=1, ds=2, **BYTE)),
    ("OX420", [QDQ, READ], give(qs=1, ds=1, qz=np.array(128, np.uint8), dz=np.array(128, np.uint8))),
    ("OX601", [("17,17] x", "18,18] x"), (FIRST, "strides = [2, 2]")], None),
    ("OX602", [(FIRST, "strides = [4, 4]")], None),
    ("OX603", [(SECOND, "<pads = [9, 9, 9, 9], dilations = [9, 9]> (r, w2, b2)")], None),
    ("OX604", [(SECOND, "<pads = [3, 3, 3, 3]> (r, w2, b2)")], None),
    ("OX605", [(LAST, "y = Conv <pads = [1, 1, 1, 1]> (p, w3, b3)")], None),
    ("OX606", [("q = Relu (c)", "d = Relu (c) q = MaxPool <kernel_shape = [1, 1]> (d)")], None),
    ("OX607", [(FIRST, FIRST + ", group = 2")], None),
    (
        "OX611",
        [(SECOND, '<auto_pad = "SAME_UPPER"> (r, w5, b2)')],
        give(w5=np.ones((32, 16, 2, 2), np.float32)),
    ),
    ("OX612", [(SECOND, "<pads = [0, 0, 2, 2]> (r, w2, b2)")], None),
    ("OX613", [(SECOND, '<pads = [1, 1, 1, 1], auto_pad = "SAME_UPPER"> (r, w2, b2)')], None),
    (
        "OX614",
        [("q = Relu (c)", 'd = Relu (c) q = MaxPool <kernel_shape = [3, 3], auto_pad = "SAME_UPPER"> (d)')],
        None,
    ),
    ("OX615", [(SECOND, '<auto_pad = "SAME_UPPER", dilations = [2, 2]> (r, w2, b2)')], None),
    ("OX616", [(LAST, "o = GlobalAveragePool (p) y = Conv (o, w3, b3)")], None),
    (
        "OX617",
        [
            (
                "q = Relu (c)",
                "q = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (c)",
            )
        ],
        None,
    ),
    (
        "OX618",
        [("q = Relu (c)", "q = ConvTranspose <strides = [2, 2]> (c, w6)")],
        give(w6=np.ones((32, 32, 3, 3), np.float32)),
    ),
    ("OX621", [("q = Relu (c)", "q = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)")], None),
    (
        "OX633",
        [
            ("q = Relu (c)", "d = Conv (r, w7) e = Add (c, d) q = Relu (e)"),
            (SECOND, "<pads = [2, 2, 0, 0]> (r, w2, b2)"),
        ],
        give(w7=np.ones((32, 16, 1, 1), np.float32)),
    ),
]  # fmt: skip
FOR_TARGETS = [
    ("OX701", "cpu", [(LAST, "o = Cast <to = 11> (p) u = Cast <to = 11> (w3) y = Conv (o, u)")]),
    ("OX702", "coreml", [(LAST, "o = Acosh (p) y = Conv (o, w3, b3)")]),
    ("OX703", "coreml", [(LAST, "o = Acosh (p) y = Conv (o, w3, b3)")]),
    ("OX704", "qnn", [("float[1,3", "float[N,3")]),
    (
        "OX705",
        "coreml",
        [(LAST, "o = Cast <to = 11> (p) u = Relu (o) i = Cast <to = 1> (u) y = Conv (i, w3, b3)")],
    ),
    ("OX711", "directml", [('"": 17', '"": 21')]),
    ("OX717", "abacus", []),
]


def network(replaced=(), change=None):
    """The network with parts of its text replaced, and its tensors changed."""
    text, stored = NETWORK, tensors()
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    if change is not None:
        change(stored)
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in stored.items())
    return proto
