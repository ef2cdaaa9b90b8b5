"""Reductions: axes as attribute and input, keepdims, unknown axes, content. Concrete rows also run."""

import pytest
from rules import answer, is_concrete, measured

OPS = [f"Reduce{name}" for name in "Max Min Sum Prod Mean L1 L2 LogSum LogSumExp SumSquare".split()]

SHAPES = [
    *((f"{name} {opset}", name, opset, ["N,C,H,W"], {"axes": [2, 3]}, "N,C,1,1")
      for name in OPS for opset in (1, 11)),
    *((f"{name} 18", name, 18, ["2,3,4", "i64:[-1]"], {"keepdims": 0}, "2,3") for name in OPS),
    ("keepdims by default", "ReduceMean", 13, ["2,3,4"], {"axes": [1]}, "2,1,4"),
    ("no keepdims", "ReduceMean", 13, ["2,3,4"], {"axes": [0, -1], "keepdims": 0}, "3"),
    ("all axes", "ReduceMean", 13, ["2,3,4"], {}, "1,1,1"),
    ("all axes gone", "ReduceMean", 13, ["2,3,4"], {"keepdims": 0}, "()"),
    ("empty attribute means all", "ReduceMean", 13, ["N,C"], {"axes": []}, "1,1"),
    ("scalar", "ReduceMean", 18, ["()"], {}, "()"),
    ("sum takes an input at 13", "ReduceSum", 13, ["N,C,H", "i64:[1]"], {}, "N,1,H"),
    ("sum takes an attribute at 11", "ReduceSum", 11, ["N,C,H"], {"axes": [1]}, "N,1,H"),
    ("mean takes an input at 18", "ReduceMean", 18, ["N,C,H,W", "i64:[2,3]"], {}, "N,C,1,1"),
    ("max 20", "ReduceMax", 20, ["N,C", "i64:[0]"], {"keepdims": 0}, "C"),
    ("no axes given", "ReduceMean", 18, ["2,3"], {}, "1,1"),
    ("empty axes", "ReduceMean", 18, ["2,3", "i64:[]"], {}, "1,1"),
    ("empty axes, no operation", "ReduceMean", 18, ["2,3", "i64:[]"], {"noop_with_empty_axes": 1}, "2,3"),
    ("no axes, no operation", "ReduceSum", 13, ["2,3"], {"noop_with_empty_axes": 1, "keepdims": 0}, "2,3"),
    ("absent axes", "ReduceSum", 13, ["2,3", None], {"keepdims": 0}, "()"),
    ("axes twice", "ReduceSum", 13, ["N,3", "i64:[1,-1]"], {"keepdims": 0}, "N"),
    ("axis outside", "ReduceSum", 13, ["N,3", "i64:[2]"], {}, "*"),
    ("empty input", "ReduceSum", 13, ["0,3", "i64:[0]"], {}, "1,3"),
    ("unknown axes keep the rank", "ReduceSum", 13, ["N,1,H", "i64 K"], {}, "y0.dim0,1,y0.dim2"),
    ("one unknown axis", "ReduceSum", 13, ["N,C,H", "i64 1"], {"keepdims": 0}, "y0.dim0,y0.dim1"),
    ("as many unknown axes as axes", "ReduceSum", 13, ["N,C", "i64 2"], {}, "1,1"),
    ("as many, no keepdims", "ReduceSum", 13, ["N,C", "i64 2"], {"keepdims": 0}, "()"),
    ("unknown number of axes", "ReduceSum", 13, ["N,C", "i64 K"], {"keepdims": 0}, "*"),
    ("zero unknown axes", "ReduceSum", 13, ["N,C", "i64 0"], {"noop_with_empty_axes": 1}, "N,C"),
    ("unknown rank, all axes", "ReduceMean", 13, ["*"], {"keepdims": 0}, "()"),
    ("unknown rank", "ReduceMean", 13, ["*"], {}, "*"),
    ("unknown rank, axes", "ReduceMean", 13, ["*"], {"axes": [1], "keepdims": 0}, "*"),
    # --- places of extremes
    ("argmax", "ArgMax", 13, ["N,C,H"], {}, "1,C,H"),
    ("argmax -1", "ArgMax", 11, ["2,3,4"], {"axis": -1, "keepdims": 0}, "2,3"),
    ("argmin 1", "ArgMin", 1, ["N,C"], {"axis": 1}, "N,1"),
    ("argmin 12", "ArgMin", 12, ["2,3"], {"axis": 1, "select_last_index": 1}, "2,1"),
    ("argmax outside", "ArgMax", 13, ["2,3"], {"axis": 2}, "*"),
    # --- determinants
    ("det", "Det", 11, ["5,3,3"], {}, "5"),
    ("det of one", "Det", 22, ["3,3"], {}, "()"),
    ("det of symbols", "Det", 11, ["N,C,M,M"], {}, "N,C"),
    ("det of a vector", "Det", 11, ["3"], {}, "*"),
]  # fmt: skip

CONTENT = [
    ("product", "ReduceProd", 11, ["i64:[2,3,4]"], {"axes": [0], "keepdims": 0}, "24"),
    ("product of nothing", "ReduceProd", 11, ["i64:[]"], {"axes": [0], "keepdims": 0}, "1"),
    ("rows", "ReduceSum", 13, ["i64:[[1,2],[3,4]]", "i64:[1]"], {}, "[[3], [7]]"),
    ("columns", "ReduceSum", 13, ["i64:[[1,2],[3,4]]", "i64:[0]"], {"keepdims": 0}, "[4, 6]"),
    ("all", "ReduceMax", 18, ["i64:[[1,2],[3,4]]"], {"keepdims": 0}, "4"),
    ("smallest", "ReduceMin", 18, ["i64:[[1,2],[3,4]]", "i64:[0]"], {}, "[[1, 2]]"),
    ("whole floats", "ReduceSum", 13, ["f32:[1.0,2.0]"], {"keepdims": 0}, "3.0"),
    ("floats that round", "ReduceSum", 13, ["f32:[0.1,0.2]"], {"keepdims": 0}, None),
    ("no operation", "ReduceSum", 13, ["i64:[1,2]"], {"noop_with_empty_axes": 1}, "[1, 2]"),
    ("largest bool", "ReduceMax", 20, ["bool:[True,False]"], {"keepdims": 0}, "True"),
    ("elements of a shape", "ReduceProd", 18, ["size:[N,3,H]"], {"keepdims": 0}, "3*H*N"),
    ("largest size", "ReduceMax", 18, ["size:[H,W]"], {}, "[max(H, W)]"),
    ("mean is not followed", "ReduceMean", 18, ["f32:[1.0,3.0]"], {}, None),
]

COLUMNS = ("_", "op", "opset", "inputs", "attributes", "expected")


def ids(rows):
    return [row[0].replace(" ", "-") for row in rows]


@pytest.mark.parametrize(COLUMNS, SHAPES, ids=ids(SHAPES))
def test_shape(_, op, opset, inputs, attributes, expected):
    found = answer(op, opset, inputs, attributes)
    assert found.shape == expected
    assert found.answered == (expected != "*")
    if expected != "*":
        assert found.dtype == ("int64" if op.startswith("Arg") else "float32")


@pytest.mark.parametrize(COLUMNS, CONTENT, ids=ids(CONTENT))
def test_content(_, op, opset, inputs, attributes, expected):
    assert answer(op, opset, inputs, attributes).value == expected


MEASURED = [row for row in SHAPES + CONTENT if is_concrete(row[3]) and row[5] != "*" and 7 <= row[2] <= 22]


@pytest.mark.parametrize(COLUMNS, MEASURED, ids=ids(MEASURED))
def test_onnxruntime_agrees(_, op, opset, inputs, attributes, expected):
    found = answer(op, opset, inputs, attributes)
    shape, dtype, items = measured(op, opset, inputs, attributes)[0]
    assert (found.shape, found.dtype) == (shape, dtype)
    known = found.facts.value("y0").known()
    assert known is None or list(known.items) == items


def test_det_needs_square_matrices():
    found = answer("Det", 11, ["5,3,4"])
    assert "Det: rows and columns don't match: 3 and 4" in found.problems
