"""TopK, OneHot, NonZero, Unique. Expected by hand from Operators.md; concrete rows also in onnxruntime."""

import pytest
from rules import answer, measured

SHAPES = [
    ("k attribute", "TopK", 1, ["N,10"], {"k": 3}, ("N,3", "N,3")),
    ("k attribute, axis", "TopK", 1, ["N,10,4"], {"k": 3, "axis": 1}, ("N,3,4", "N,3,4")),
    ("k input", "TopK", 10, ["N,10", "i64:[3]"], {}, ("N,3", "N,3")),
    ("k input, axis", "TopK", 11, ["N,10", "i64:[1]"], {"axis": -2}, ("1,10", "1,10")),
    ("k as scalar", "TopK", 24, ["2,10", "i64:3"], {}, ("2,3", "2,3")),
    ("k is a size", "TopK", 11, ["N,C", "size:[min(C, 100)]"], {}, ("N,min(100, C)", "N,min(100, C)")),
    ("k from data", "TopK", 11, ["N,10", "i64 1"], {}, ("N,y0.dim1", "N,y0.dim1")),
    ("k, unknown rank", "TopK", 11, ["*", "i64:[3]"], {}, ("*", "*")),
    ("k, axis outside", "TopK", 11, ["N,10", "i64:[3]"], {"axis": 2}, ("*", "*")),
    ("one hot", "OneHot", 9, ["i64 2,3", "i64:5", "f32:[0.0,1.0]"], {}, ("2,3,5",)),
    ("one hot first", "OneHot", 11, ["i64 N,3", "i64:[5]", "f32:[0.0,1.0]"], {"axis": 0}, ("5,N,3",)),
    ("one hot before the last", "OneHot", 11, ["i64 N,3", "i64:5", "2"], {"axis": -2}, ("N,5,3",)),
    ("one hot, depth as float", "OneHot", 11, ["i64 N", "f32:5.0", "2"], {}, ("N,5",)),
    ("one hot, depth a size", "OneHot", 11, ["i64 N", "size:K", "2"], {}, ("N,K",)),
    ("one hot, depth from data", "OneHot", 28, ["i64 N", "i64 ()", "2"], {}, ("N,y0.dim1",)),
    ("one hot, axis outside", "OneHot", 11, ["i64 N", "i64:5", "2"], {"axis": 2}, ("*",)),
    ("non-zero", "NonZero", 13, ["N,3,4"], {}, ("3,y0.dim1",)),
    ("non-zero of a scalar", "NonZero", 9, ["()"], {}, ("y0.dim0,y0.dim1",)),
    ("non-zero content", "NonZero", 13, ["i64:[[1,0],[1,1]]"], {}, ("2,3",)),
    ("unique", "Unique", 11, ["N,3"], {}, ("y0.dim0", "y0.dim0", "3*N", "y0.dim0")),
    ("unique slices", "Unique", 11, ["N,3"], {"axis": 1}, ("N,y0.dim1", "y0.dim1", "3", "y0.dim1")),
    ("unique rows", "Unique", 28, ["N,3"], {"axis": -2}, ("y0.dim0,3", "y0.dim0", "N", "y0.dim0")),
    ("unique of unknown rank", "Unique", 11, ["*"], {}, ("y0.dim0", "y0.dim0", "y2.dim0", "y0.dim0")),
    ("unique slices of unknown rank", "Unique", 11, ["*"], {"axis": 0}, ("*", "*", "*", "*")),
]  # fmt: skip

CONTENT = [
    ("places", ["i64:[[1,0],[1,1]]"], "[[0, 1, 1], [0, 0, 1]]"),
    ("places of truth", ["bool:[False,True,True]"], "[[1, 2]]"),
    ("nowhere", ["i64:[0,0]"], "[[]]"),
    ("sizes are not zero", ["size:[N,0,H]"], "[[0, 2]]"),
    ("a size that may be zero", ["size:[N-1]"], None),
    ("of nothing", ["i64:[]"], "[[]]"),
]


def ids(rows):
    return [row[0].replace(" ", "-") for row in rows]


COLUMNS = ("_", "op", "opset", "inputs", "attributes", "expected")


@pytest.mark.parametrize(COLUMNS, SHAPES, ids=ids(SHAPES))
def test_shapes(_, op, opset, inputs, attributes, expected):
    found = answer(op, opset, inputs, attributes, outputs=len(expected))
    assert found.shapes == expected
    assert found.answered == (expected[0] != "*")


@pytest.mark.parametrize(("_", "inputs", "expected"), CONTENT, ids=ids(CONTENT))
def test_places_that_are_not_zero(_, inputs, expected):
    assert answer("NonZero", 13, inputs).value == expected


def test_types():
    assert answer("TopK", 11, ["f16 9", "i64:[3]"], outputs=2).dtypes == ("float16", "int64")
    assert answer("OneHot", 11, ["i64 2", "i64:3", "f16 2"]).dtype == "float16"
    assert answer("NonZero", 13, ["2"]).dtype == "int64"
    assert answer("Unique", 11, ["u8 2"], outputs=4).dtypes == ("uint8", "int64", "int64", "int64")


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "outputs"),
    [
        ("TopK", ["4,9", "i64:[3]"], {"axis": 0}, 2),
        ("OneHot", ["i64 2,3", "i64:5", "f32:[0.0,1.0]"], {"axis": 1}, 1),
        ("NonZero", ["i64:[[1,0],[1,1]]"], {}, 1),
        ("NonZero", ["bool:[False,False]"], {}, 1),
    ],
)
def test_onnxruntime_agrees(op, inputs, attributes, outputs):
    found = answer(op, 11, inputs, attributes, outputs=outputs)
    results = measured(op, 11, inputs, attributes, outputs=outputs)
    assert list(zip(found.shapes, found.dtypes, strict=True)) == [result[:2] for result in results]
    known = found.facts.value("y0").known()
    assert known is None or list(known.items) == results[0][2]
