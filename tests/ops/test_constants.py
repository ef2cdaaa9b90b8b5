"""Constants, ranges, and shapes as content. Expected by hand; concrete rows of Range also in onnxruntime."""

import pytest
from rules import answer, constant, measured

from onnxscope.expr import symbol
from onnxscope.graph import SparseTensor

INT64 = constant("i64:[[7],[8]]")
SPARSE = SparseTensor(constant("f32:[1.0]"), constant("i64:[3]"), (4, 5))

CONSTANTS = [
    ("tensor", 1, {"value": INT64}, "2,1", "int64", "[[7], [8]]"),
    ("scalar tensor", 13, {"value": constant("f32:0.5")}, "()", "float32", "0.5"),
    ("empty tensor", 13, {"value": constant("i64:[]")}, "0", "int64", "[]"),
    ("text tensor", 13, {"value": constant("str:['a','b']")}, "2", "string", None),
    ("int", 12, {"value_int": 3}, "()", "int64", "3"),
    ("zero", 12, {"value_int": 0}, "()", "int64", "0"),
    ("ints", 12, {"value_ints": [3, 4]}, "2", "int64", "[3, 4]"),
    ("no ints", 12, {"value_ints": []}, "0", "int64", "[]"),
    ("float", 12, {"value_float": 0.5}, "()", "float32", "0.5"),
    ("floats", 25, {"value_floats": [0.5, 2.0]}, "2", "float32", "[0.5, 2.0]"),
    ("string", 12, {"value_string": "a"}, "()", "string", "a"),
    ("strings", 12, {"value_strings": ["a", "b"]}, "2", "string", "[a, b]"),
    ("sparse", 11, {"sparse_value": SPARSE}, "4,5", "float32", None),
    ("nothing", 13, {}, "*", None, None),
]  # fmt: skip

SHAPES = [
    ("fill", "ConstantOfShape", 9, ["i64:[2,3]"], {}, "2,3"),
    ("fill a symbol", "ConstantOfShape", 9, ["size:[N,H//2]"], {}, "N,H//2"),
    ("fill a scalar", "ConstantOfShape", 25, ["i64:[]"], {}, "()"),
    ("fill, nothing known", "ConstantOfShape", 9, ["i64 2"], {}, "y0.dim0,y0.dim1"),
    ("fill, rank unknown", "ConstantOfShape", 9, ["i64 R"], {}, "*"),
    ("fill by a matrix", "ConstantOfShape", 9, ["i64 2,2"], {}, "*"),
    ("eye", "EyeLike", 9, ["N,4"], {}, "N,4"),
    ("eye of a vector", "EyeLike", 22, ["4"], {}, "*"),
    ("range", "Range", 11, ["i64:0", "i64:10", "i64:3"], {}, "4"),
    ("range down", "Range", 11, ["i64:10", "i64:4", "i64:-2"], {}, "3"),
    ("range of none", "Range", 11, ["i64:10", "i64:4", "i64:2"], {}, "0"),
    ("range of floats", "Range", 11, ["f32:1.0", "f32:5.0", "f32:1.5"], {}, "3"),
    ("range to a size", "Range", 11, ["i64:0", "size:N", "i64:1"], {}, "N"),
    ("range by twos", "Range", 27, ["i64:1", "size:N", "i64:2"], {}, "N//2"),
    ("range may be empty", "Range", 11, ["i64:5", "size:N", "i64:1"], {}, "max(0, N - 5)"),
    ("range down from a size", "Range", 11, ["size:N-1", "i64:-1", "i64:-1"], {}, "N"),
    ("range by a size", "Range", 11, ["i64:0", "size:6*N", "size:N"], {}, "6"),
    ("range, unknown end", "Range", 11, ["i64:0", "i64 ()", "i64:1"], {}, "y0.dim0"),
    ("range, unknown direction", "Range", 11, ["i64:0", "i64:9", "size:N-5"], {}, "y0.dim0"),
    ("range by zero", "Range", 11, ["i64:0", "i64:9", "i64:0"], {}, "y0.dim0"),
    ("shape", "Shape", 13, ["N,3,H"], {}, "3"),
    ("shape of unknown rank", "Shape", 13, ["*"], {}, "y0.dim0"),
    ("size", "Size", 13, ["N,3"], {}, "()"),
    ("size of unknown rank", "Size", 13, ["*"], {}, "()"),
]

CONTENT = [
    ("zeros", "ConstantOfShape", 9, ["i64:[2]"], {}, "[0.0, 0.0]"),
    ("sevens", "ConstantOfShape", 9, ["i64:[2]"], {"value": constant("i64:[7]")}, "[7, 7]"),
    ("symbolic fill", "ConstantOfShape", 9, ["size:[N]"], {}, None),
    ("large fill", "ConstantOfShape", 9, ["i64:[64,65]"], {}, None),
    ("range", "Range", 11, ["i64:1", "i64:8", "i64:3"], {}, "[1, 4, 7]"),
    ("range from a size", "Range", 11, ["size:N", "size:N+4", "i64:2"], {}, "[N, N + 2]"),
    ("range of floats", "Range", 11, ["f32:1.0", "f32:2.0", "f32:0.5"], {}, None),
    ("shape", "Shape", 1, ["N,3,H"], {}, "[N, 3, H]"),
    ("shape of a scalar", "Shape", 13, ["()"], {}, "[]"),
    ("shape from 1", "Shape", 15, ["N,3,H"], {"start": 1}, "[3, H]"),
    ("shape to -1", "Shape", 15, ["N,3,H"], {"end": -1}, "[N, 3]"),
    ("shape, both", "Shape", 19, ["N,3,H,W"], {"start": -3, "end": 3}, "[3, H]"),
    ("shape beyond", "Shape", 15, ["N,3"], {"start": -9, "end": 9}, "[N, 3]"),
    ("shape backwards", "Shape", 15, ["N,3"], {"start": 2, "end": 1}, "[]"),
    ("size", "Size", 1, ["N,3,H"], {}, "3*H*N"),
    ("size of a scalar", "Size", 13, ["()"], {}, "1"),
    ("size of unknown rank", "Size", 13, ["*"], {}, None),
]

COLUMNS = ("_", "op", "opset", "inputs", "attributes", "expected")


def ids(rows):
    return [row[0].replace(" ", "-") for row in rows]


@pytest.mark.parametrize(
    ("_", "opset", "attributes", "shape", "dtype", "value"), CONSTANTS, ids=ids(CONSTANTS)
)
def test_constant(_, opset, attributes, shape, dtype, value):
    found = answer("Constant", opset, (), attributes)
    assert (found.shape, found.dtype, found.value) == (shape, dtype, value)
    assert found.facts.value("y0").constant == (shape != "*")


def test_constant_hands_on_the_stored_tensor_unread():
    fact = answer("Constant", 13, (), {"value": INT64}).facts.value("y0")
    assert fact.tensor is INT64
    assert fact.data is None
    assert fact.origin == "stored"


@pytest.mark.parametrize(COLUMNS, SHAPES, ids=ids(SHAPES))
def test_shape(_, op, opset, inputs, attributes, expected):
    found = answer(op, opset, inputs, attributes)
    assert found.shape == expected
    assert found.answered == (expected != "*")


@pytest.mark.parametrize(COLUMNS, CONTENT, ids=ids(CONTENT))
def test_content(_, op, opset, inputs, attributes, expected):
    assert answer(op, opset, inputs, attributes).value == expected


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "expected"),
    [
        ("ConstantOfShape", ["i64:[2]"], {}, "float32"),
        ("ConstantOfShape", ["i64:[2]"], {"value": constant("bool:[True]")}, "bool"),
        ("EyeLike", ["i32 3,3"], {}, "int32"),
        ("EyeLike", ["i32 3,3"], {"dtype": 11}, "float64"),
        ("Range", ["i32:0", "i32 ()", "i32:1"], {}, "int32"),
        ("Shape", ["*"], {}, "int64"),
        ("Size", ["f16 2"], {}, "int64"),
    ],
)
def test_type(op, inputs, attributes, expected):
    assert answer(op, 13, inputs, attributes).dtype == expected


RANGES = [
    (0, 10, 1), (0, 10, 3), (10, 0, -3), (-5, 5, 2), (5, -5, 2), (3, 3, 1), (0.0, 1.0, 0.1), (0.0, 0.3, 0.1),
    (1.0, 2.0, 0.3), (0.0, 5.0, 0.7), (2.5, -2.5, -0.5), (0.0, 100.0, 3.3),
]  # fmt: skip


@pytest.mark.parametrize("limits", RANGES, ids=str)
def test_range_has_the_length_that_onnxruntime_gives(limits):
    kind = "f32" if isinstance(limits[0], float) else "i64"
    inputs = [f"{kind}:{limit}" for limit in limits]
    found = answer("Range", 11, inputs)
    shape, dtype, items = measured("Range", 11, inputs)[0]
    assert (found.shape, found.dtype) == (shape, dtype)
    assert found.value in (None, str(items))


def test_shape_keeps_symbols_as_they_are():
    assert answer("Shape", 13, ["batch size,3"]).facts.value("y0").data.items == (symbol("batch size"), 3)
