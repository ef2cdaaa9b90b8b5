"""Spectra and windows. Expected by hand from Operators.md; concrete rows also in onnxruntime."""

import pytest
from rules import answer, is_concrete, measured

MEL = ("i64:16", "f32:0.0", "f32:9.0")

ROWS = [
    ("real", "DFT", 20, ["2,8,6,1"], {}, "2,8,6,2"),
    ("complex", "DFT", 20, ["2,8,6,2"], {}, "2,8,6,2"),
    ("one-sided", "DFT", 20, ["2,8,6,1"], {"onesided": 1}, "2,8,4,2"),
    ("one-sided, odd", "DFT", 20, ["2,8,7,1"], {"onesided": 1}, "2,8,4,2"),
    ("one-sided and inverse", "DFT", 20, ["2,8,4,2"], {"onesided": 1, "inverse": 1}, "2,8,6,1"),
    ("inverse", "DFT", 20, ["2,8,4,2"], {"inverse": 1}, "2,8,4,2"),
    ("length", "DFT", 20, ["2,8,6,1", "i64:10"], {}, "2,8,10,2"),
    ("length, one-sided", "DFT", 20, ["2,8,6,1", "i64:10"], {"onesided": 1}, "2,8,6,2"),
    ("length, inverse", "DFT", 20, ["2,8,6,2", "i64:10"], {"onesided": 1, "inverse": 1}, "2,8,10,1"),
    ("axis input", "DFT", 20, ["2,8,6,1", None, "i64:1"], {"onesided": 1}, "2,5,6,2"),
    ("symbols", "DFT", 20, ["N,L,1"], {"onesided": 1}, "N,(L + 2)//2,2"),
    ("unknown axis, all sizes kept", "DFT", 20, ["2,8,6,1", None, "i64 ()"], {}, "2,8,6,2"),
    ("unknown axis", "DFT", 20, ["2,8,6,1", None, "i64 ()"], {"onesided": 1}, "*"),
    ("unknown length", "DFT", 20, ["2,8,1", "i64 ()"], {}, "2,y0.dim1,2"),
    ("axis attribute", "DFT", 17, ["2,8,6,1"], {"onesided": 1}, "2,5,6,2"),
    ("axis attribute given", "DFT", 17, ["2,8,6,1"], {"onesided": 1, "axis": 2}, "2,8,4,2"),
    ("negative axis attribute", "DFT", 17, ["2,8,6,1"], {"onesided": 1, "axis": -2}, "2,8,4,2"),
    ("axis outside", "DFT", 17, ["2,8,6,1"], {"axis": 4}, "*"),
    ("window", "STFT", 17, ["2,100,1", "i64:10", "16"], {}, "2,9,9,2"),
    ("window and length", "STFT", 17, ["2,100,1", "i64:10", "16", "i64:16"], {}, "2,9,9,2"),
    ("length only", "STFT", 17, ["2,100,1", "i64:10", None, "i64:15"], {}, "2,9,8,2"),
    ("two-sided", "STFT", 17, ["2,100,2", "i64:10", None, "i64:15"], {"onesided": 0}, "2,9,15,2"),
    ("signal in symbols", "STFT", 17, ["N,L,1", "i64:160", "400"], {}, "N,(L - 240)//160,201,2"),
    ("unknown step", "STFT", 17, ["N,100,1", "i64 ()", "16"], {}, "N,y0.dim1,9,2"),
    ("unknown frames", "STFT", 17, ["N,100,1", "i64:10", None, "i64 ()"], {}, "N,y0.dim1,y0.dim2,2"),
    ("whole signal", "STFT", 17, ["N,100,1", "i64:10"], {"onesided": 0}, "N,1,100,2"),
    ("hann", "HannWindow", 17, ["i64:8"], {}, "8"),
    ("hamming", "HammingWindow", 17, ["i64:[8]"], {"periodic": 0}, "8"),
    ("blackman", "BlackmanWindow", 17, ["i32:8"], {}, "8"),
    ("window of a size", "HannWindow", 17, ["size:L"], {}, "L"),
    ("unknown window", "HannWindow", 17, ["i64 ()"], {}, "y0.dim0"),
    ("mel", "MelWeightMatrix", 17, ["i64:8", "i64:16", "i64:8192", "f32:0.0", "f32:4096.0"], {}, "9,8"),
    ("mel of sizes", "MelWeightMatrix", 17, ["size:M", "size:L", *MEL], {}, "(L + 2)//2,M"),
    ("unknown mel", "MelWeightMatrix", 17, ["i64 ()", "i64 ()", *MEL], {}, "y0.dim0,y0.dim1"),
]  # fmt: skip

COLUMNS = ("_", "op", "opset", "inputs", "attributes", "expected")


def ids(rows):
    return [row[0].replace(" ", "-") for row in rows]


@pytest.mark.parametrize(COLUMNS, ROWS, ids=ids(ROWS))
def test_shape(_, op, opset, inputs, attributes, expected):
    found = answer(op, opset, inputs, attributes)
    assert found.shape == expected
    assert found.answered == (expected != "*")


@pytest.mark.parametrize("op", ["HannWindow", "MelWeightMatrix"])
@pytest.mark.parametrize(("attributes", "expected"), [({}, "float32"), ({"output_datatype": 11}, "float64")])
def test_type(op, attributes, expected):
    inputs = ["i64:8", "i64:16", "i64:16", "f32:0.0", "f32:9.0"]
    assert answer(op, 17, inputs, attributes).dtype == expected


MEASURED = [row for row in ROWS if is_concrete(row[3]) and ".dim" not in row[5] and row[5] != "*"]


@pytest.mark.parametrize(COLUMNS, MEASURED, ids=ids(MEASURED))
def test_onnxruntime_agrees(_, op, opset, inputs, attributes, expected):
    assert measured(op, opset, inputs, attributes)[0][:2] == (expected, "float32")
