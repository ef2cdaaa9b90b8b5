"""Quantization and onnxruntime's QLinear ops. Expected sizes and types by hand from the specification."""

import pytest
from rules import answer

MS = "com.microsoft"
Q = ["f32:0.1", "u8:1"]


@pytest.mark.parametrize(
    ("opset", "inputs", "attributes", "shape", "dtype"),
    [
        (10, ["N,3,H,W", "f32:0.1"], {}, "N,3,H,W", "uint8"),
        (10, ["N,3,H,W", "f32:0.1", "i8:0"], {}, "N,3,H,W", "int8"),
        (13, ["N,3", "f32:[0.1,0.2,0.3]", "i8:[0,0,0]"], {"axis": 1}, "N,3", "int8"),
        (19, ["2,3", "f32:0.1", "f8 ()"], {}, "2,3", "float8_e4m3fn"),
        (21, ["2,3", "f32:0.1"], {"output_dtype": 22}, "2,3", "int4"),
        (21, ["6,3", "2,3", "u16 2,3"], {"axis": 0, "block_size": 3}, "6,3", "uint16"),
        (25, ["2,3", "f16:0.1"], {"output_dtype": 3}, "2,3", "int8"),
        (13, ["()", "f32:0.1"], {}, "()", "uint8"),
        (13, ["*", "f32:0.1"], {}, "*", None),
    ],
)
def test_quantize_linear(opset, inputs, attributes, shape, dtype):
    found = answer("QuantizeLinear", opset, inputs, attributes)
    assert (found.shape, found.dtype) == (shape, dtype)


@pytest.mark.parametrize(
    ("opset", "inputs", "attributes", "shape", "dtype"),
    [
        (10, ["u8 N,3,H,W", *Q], {}, "N,3,H,W", "float32"),
        (13, ["i8 N,3", "f32:[0.1,0.2,0.3]", "i8:[0,0,0]"], {"axis": 1}, "N,3", "float32"),
        (19, ["i32 2,3", "f16:0.1"], {}, "2,3", "float16"),
        (21, ["i4 6,3", "f16 2,3"], {"axis": 0, "block_size": 3}, "6,3", "float16"),
        (23, ["i8 2,3", "f32:0.1"], {"output_dtype": 16}, "2,3", "bfloat16"),
        (13, ["u8 0,3", *Q], {}, "0,3", "float32"),
        (13, ["u8 *", *Q], {}, "*", None),
    ],
)
def test_dequantize_linear(opset, inputs, attributes, shape, dtype):
    found = answer("DequantizeLinear", opset, inputs, attributes)
    assert (found.shape, found.dtype) == (shape, dtype)


def test_dynamic_quantize_linear_gives_scalars():
    found = answer("DynamicQuantizeLinear", 11, ["N,256"], outputs=3)
    assert (found.shapes, found.dtypes) == (("N,256", "()", "()"), ("uint8", "float32", "uint8"))


ROWS = [
    ("QuantizeLinear", ["N,3", "f32:0.1", "i8:0"], {}, "N,3", "int8"),
    ("DequantizeLinear", ["u16 N,3", "f16:0.1", "u16:0"], {}, "N,3", "float16"),
    ("QLinearLeakyRelu", ["u8 N,3", *Q, *Q], {"alpha": 0.1}, "N,3", "uint8"),
    ("QLinearSigmoid", ["i8 N,3", "f32:0.1", "i8:0", "f32:0.1", "i8:0"], {}, "N,3", "int8"),
    ("QLinearSoftmax", ["u8 N,3", *Q, *Q], {"axis": -1, "opset": 13}, "N,3", "uint8"),
    ("QLinearAdd", ["u8 N,8,7,7", *Q, "u8 8,1,1", *Q, *Q], {}, "N,8,7,7", "uint8"),
    ("QLinearMul", ["u8 3,1", "f32:0.1", None, "u8 4", *Q, *Q], {}, "3,4", "uint8"),
    ("QLinearAdd", ["u8 2", *Q, "u8 3", *Q, *Q], {}, "*", None),
    ("MulInteger", ["u8 2,3", None, "u8 3"], {}, "2,3", "int32"),
    ("QLinearWhere", ["bool 2,1,3", "u8 5,3", *Q, "u8 3", *Q, *Q], {}, "2,5,3", "uint8"),
    ("QLinearConcat", [*Q, "u8 N,3,H", *Q, "u8 N,5,H", *Q], {"axis": 1}, "N,8,H", "uint8"),
    ("QLinearConcat", [*Q, "u8 2,3", *Q, "u8 7,3", *Q, "u8 1,3", *Q], {"axis": -2}, "10,3", "uint8"),
    ("QLinearConcat", [*Q, "u8 2,3", *Q, "u8 2,4", *Q], {"axis": 0}, "*", None),
    ("QLinearConcat", Q, {"axis": 0}, "*", None),
    ("QLinearReduceMean", ["u8 N,5,3", *Q, *Q], {"axes": [1], "keepdims": 0}, "N,3", "uint8"),
    ("QLinearReduceMean", ["u8 N,5,3", *Q, *Q], {"axes": [-1], "keepdims": 1}, "N,5,1", "uint8"),
    ("QLinearReduceMean", ["u8 N,5,3", *Q, *Q], {"axes": [3], "keepdims": 1}, "*", None),
    ("ReduceSumInteger", ["u8 2,3"], {"axes": [1], "keepdims": 1}, "2,1", "uint32"),
    ("ReduceSumInteger", ["i8 2,3"], {"axes": [0, 1], "keepdims": 0}, "()", "int32"),
    # two 4-bit numbers per byte along the last axis
    ("GatherBlockQuantized", ["u8 32,64", "i64 N,S", "f16 32,8"], {"bits": 4, "block_size": 16}, "N,S,128",
     "float16"),
    ("GatherBlockQuantized", ["u8 32,64", "i64 N,S", "32,4"], {"bits": 8, "block_size": 16}, "N,S,64",
     "float32"),
    ("GatherBlockQuantized", ["u8 32,64", "i64 N,S", "32,16"], {"bits": 2, "block_size": 16}, "N,S,256",
     "float32"),
    ("GatherBlockQuantized", ["i4 32,64", "i64 3", "32,4"], {"block_size": 16}, "3,64", "float32"),
    ("GatherBlockQuantized", ["i4 32,64", "i64 ()", "32,4"], {"gather_axis": 1}, "32", "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inputs", "attributes", "shape", "dtype"), ROWS)
def test_onnxruntime_ops(name, inputs, attributes, shape, dtype):
    found = answer(name, 1, inputs, attributes, domain=MS)
    assert (found.shape, found.dtype) == (shape, dtype)
