"""Activations, softmaxes, Clip and Dropout: every opset that changed them. Concrete rows also run."""

import pytest
from rules import answer, is_concrete, measured

SAME = "LeakyRelu Sigmoid Tanh Elu Selu Softplus Softsign HardSigmoid".split()

SHAPES = [
    *((f"{name} {opset}", name, opset, ["N,C,H"], {}, "N,C,H") for name in SAME for opset in (1, 6, 22)),
    *((f"{name} run", name, 16, ["2,3"], {}, "2,3") for name in SAME),
    *((f"{name} {opset}", name, opset, ["N,C,H,W"], {"axis": 1}, "N,C,H,W")
      for name in ("Softmax", "LogSoftmax", "Hardmax") for opset in (1, 11, 13)),
    ("softmax run", "Softmax", 11, ["2,3,4"], {"axis": 1}, "2,3,4"),
    ("hardmax run", "Hardmax", 13, ["2,3"], {}, "2,3"),
    ("softmax of unknown rank", "Softmax", 13, ["*"], {}, "*"),
    ("celu", "Celu", 12, ["2,3"], {}, "2,3"),
    ("celu 28", "Celu", 28, ["N,3"], {}, "N,3"),
    ("hardswish", "HardSwish", 14, ["2,3"], {}, "2,3"),
    ("mish", "Mish", 18, ["2,3"], {}, "2,3"),
    ("gelu", "Gelu", 20, ["2,3"], {}, "2,3"),
    ("swish", "Swish", 24, ["N,3"], {}, "N,3"),
    ("thresholded relu", "ThresholdedRelu", 10, ["2,3"], {}, "2,3"),
    ("shrink", "Shrink", 9, ["2,3"], {}, "2,3"),
    ("empty", "Sigmoid", 13, ["0,3"], {}, "0,3"),
    ("scalar", "Tanh", 13, ["()"], {}, "()"),
    ("prelu 1", "PRelu", 1, ["N,C,H,W", "C"], {}, "N,C,H,W"),
    ("prelu 6", "PRelu", 6, ["N,C,H,W", "1"], {}, "N,C,H,W"),
    ("prelu 16", "PRelu", 16, ["2,3,4,4", "3,1,1"], {}, "2,3,4,4"),
    ("prelu of an unknown slope", "PRelu", 9, ["N,C", "*"], {}, "N,C"),
    ("prelu of an unknown input", "PRelu", 9, ["*", "3"], {}, "*"),
    ("swiglu", "SwiGLU", 28, ["N,8", "2,8"], {}, "2,8"),
    ("swiglu with one shape known", "SwiGLU", 28, ["*", "N,8"], {}, "N,8"),
    ("swiglu does not broadcast", "SwiGLU", 28, ["2,8", "2,1"], {}, "*"),
    ("clip 6", "Clip", 6, ["2,3"], {"min": 0.0, "max": 6.0}, "2,3"),
    ("clip 11", "Clip", 11, ["2,3", "f32:0.0", "f32:6.0"], {}, "2,3"),
    ("clip without a minimum", "Clip", 13, ["N,3", None, "f32:6.0"], {}, "N,3"),
    ("clip 1", "Clip", 1, ["N,3"], {"consumed_inputs": [0]}, "N,3"),
    ("dropout", "Dropout", 13, ["N,3"], {}, "N,3"),
    ("dropout of unknown rank", "Dropout", 13, ["*"], {}, "*"),
]  # fmt: skip

CONTENT = [
    ("clip attributes", "Clip", 6, ["f32:[-1.0,9.0,3.5]"], {"min": 0.0, "max": 6.0}, "[0.0, 6.0, 3.5]"),
    ("clip inputs", "Clip", 12, ["i64:[-1,9]", "i64:0", "i64:6"], {}, "[0, 6]"),
    ("clip above only", "Clip", 12, ["i64:[-1,9]", None, "i64:6"], {}, "[-1, 6]"),
    ("clip, no bounds", "Clip", 12, ["i64:[-1,9]"], {}, "[-1, 9]"),
    ("clip, unknown bound", "Clip", 12, ["i64:[-1,9]", "i64 ()"], {}, None),
    ("clip a size", "Clip", 12, ["size:[H-1]", "i64:0", "i64:6"], {}, "[min(6, H - 1)]"),
    ("dropout 1", "Dropout", 1, ["f32:[2.0]"], {"is_test": 1}, "[2.0]"),
    ("dropout passes on", "Dropout", 13, ["f32:[2.0]", "f32:0.5", "bool:False"], {}, "[2.0]"),
    ("dropout in training", "Dropout", 13, ["f32:[2.0]", "f32:0.5", "bool:True"], {}, None),
    ("dropout, perhaps training", "Dropout", 13, ["f32:[2.0]", "f32:0.5", "bool ()"], {}, None),
]

COLUMNS = ("_", "op", "opset", "inputs", "attributes", "expected")


def ids(rows):
    return [row[0].replace(" ", "-") for row in rows]


@pytest.mark.parametrize(COLUMNS, SHAPES, ids=ids(SHAPES))
def test_shape(_, op, opset, inputs, attributes, expected):
    found = answer(op, opset, inputs, attributes)
    assert found.shape == expected
    assert found.dtype == (None if expected == "*" else "float32")
    assert found.answered == (expected != "*")


@pytest.mark.parametrize(COLUMNS, CONTENT, ids=ids(CONTENT))
def test_content(_, op, opset, inputs, attributes, expected):
    assert answer(op, opset, inputs, attributes).value == expected


@pytest.mark.parametrize(
    ("opset", "mask"),
    [(1, "float32"), (6, "float32"), (7, "float32"), (10, "bool"), (12, "bool"), (22, "bool")],
)
def test_dropout_mask(opset, mask):
    found = answer("Dropout", opset, ["N,3"], outputs=2)
    assert (found.shapes, found.dtypes) == (("N,3", "N,3"), ("float32", mask))


MEASURED = [row for row in SHAPES + CONTENT if is_concrete(row[3]) and row[5] != "*" and 7 <= row[2] <= 22]


@pytest.mark.parametrize(COLUMNS, MEASURED, ids=ids(MEASURED))
def test_onnxruntime_agrees(_, op, opset, inputs, attributes, expected):
    found = answer(op, opset, inputs, attributes)
    shape, dtype, items = measured(op, opset, inputs, attributes)[0]
    assert (found.shape, found.dtype) == (shape, dtype)
    known = found.facts.value("y0").known()
    assert known is None or list(known.items) == items
