"""Concat and Split. Expected sizes by hand from the specification."""

import pytest
from rules import answer

CONCAT = [
    ("channels", 13, ["N,3,H", "N,5,H"], {"axis": 1}, "N,8,H"),
    ("symbols", 13, ["N,C", "N,D"], {"axis": 1}, "N,C + D"),
    ("from the back", 11, ["N,3", "N,5"], {"axis": -1}, "N,8"),
    ("one input", 4, ["N,3"], {"axis": 0}, "N,3"),
    ("default axis of Concat-1", 1, ["N,3", "N,5"], {}, "N,8"),
    ("a number tells a symbol", 13, ["N,3,H", "2,5,7"], {"axis": 1}, "2,8,7"),
    ("an empty part", 13, ["0,3", "N,3"], {"axis": 0}, "N,3"),
    ("one unknown input", 13, ["N,3,H", "*"], {"axis": 1}, "N,y0.dim1,H"),
    ("all unknown", 13, ["*", "*"], {"axis": 1}, "*"),
    ("ranks differ", 13, ["N,3", "N,3,4"], {"axis": 0}, "*"),
    ("outside", 13, ["N,3", "N,3"], {"axis": 2}, "*"),
]


@pytest.mark.parametrize(
    ("opset", "inputs", "attributes", "expected"), [r[1:] for r in CONCAT], ids=[r[0] for r in CONCAT]
)
def test_concat(opset, inputs, attributes, expected):
    assert answer("Concat", opset, inputs, attributes).shape == expected


def test_concat_reports_sizes_that_differ():
    assert answer("Concat", 13, ["2,3,4", "2,5,6"], {"axis": 1}).problems == (
        "Concat: sizes of axis 2 don't match: 6 and 4",
    )


SPLIT = [
    ("equal", 2, 2, ["N,6,H"], {"axis": 1}, ["N,3,H", "N,3,H"]),
    ("default axis", 2, 2, ["6,H"], {}, ["3,H", "3,H"]),
    ("equal, symbolic", 11, 2, ["N,C"], {"axis": -1}, ["N,C//2", "N,C//2"]),
    ("equal, even symbol", 13, 3, ["size:[[1,2,3]]"], {"axis": 1}, ["1,1", "1,1", "1,1"]),
    ("attribute", 2, 2, ["N,6"], {"axis": 1, "split": [2, 4]}, ["N,2", "N,4"]),
    ("input", 13, 2, ["N,6", "i64:[1,5]"], {"axis": 1}, ["N,1", "N,5"]),
    ("input of Split-1", 1, 2, ["N,6", "i64:[1,5]"], {"axis": 1}, ["N,1", "N,5"]),
    ("symbolic input", 13, 2, ["N,S", "size:[4,S-4]"], {"axis": 1}, ["N,4", "N,S - 4"]),
    ("unknown input", 13, 2, ["N,6", "i64 2"], {"axis": 1}, ["N,y0.dim1", "N,y1.dim1"]),
    ("number", 18, 2, ["N,6"], {"axis": 1, "num_outputs": 2}, ["N,3", "N,3"]),
    ("uneven", 18, 3, ["N,7"], {"axis": 1, "num_outputs": 3}, ["N,3", "N,3", "N,1"]),
    ("uneven, symbolic", 18, 2, ["N,S"], {"axis": 1, "num_outputs": 2}, ["N,(S + 1)//2", "N,S - (S + 1)//2"]),
    ("an empty part", 13, 2, ["N,6", "i64:[0,6]"], {"axis": 1}, ["N,0", "N,6"]),
    ("not whole", 13, 2, ["N,7"], {"axis": 1}, ["*", "*"]),
    ("too many parts", 18, 4, ["5"], {"num_outputs": 4}, ["*", "*", "*", "*"]),
    ("outside", 13, 2, ["N,6"], {"axis": 2}, ["*", "*"]),
    ("unknown", 13, 2, ["*"], {}, ["*", "*"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("opset", "outputs", "inputs", "attributes", "expected"),
    [r[1:] for r in SPLIT],
    ids=[r[0] for r in SPLIT],
)
def test_split(opset, outputs, inputs, attributes, expected):
    assert list(answer("Split", opset, inputs, attributes, outputs=outputs).shapes) == expected


def test_split_reports_parts_that_miss_the_axis():
    found = answer("Split", 13, ["N,6", "i64:[1,4]"], {"axis": 1}, outputs=2)
    assert found.problems == ("Split: the axis and the sum of its parts don't match: 6 and 5",)


@pytest.mark.parametrize(
    ("inputs", "axis", "expected"),
    [
        (["size:[N]", "i64:[3,-1]"], 0, "[N, 3, -1]"),
        (["size:[[N],[C]]", "size:[[H],[W]]"], 1, "[[N, H], [C, W]]"),
        (["size:[[N],[C]]", "size:[[H],[W]]"], 0, "[[N], [C], [H], [W]]"),
        (["size:[N]", "i64 1"], 0, None),
        (["i64:[]", "size:[N]"], 0, "[N]"),
    ],
)
def test_joined_content(inputs, axis, expected):
    assert answer("Concat", 13, inputs, {"axis": axis}).value == expected


def test_split_content():
    found = answer("Split", 13, ["size:[N,C,H,W]", "i64:[1,3]"], outputs=2)
    assert found.data == ("[N]", "[C, H, W]")
    assert answer("Split", 13, ["size:[[N,C],[H,W]]"], {"axis": 1}, outputs=2).data == (
        "[[N], [H]]",
        "[[C], [W]]",
    )
    assert answer("Split", 13, ["size:[N,C]", "size:[K,2]"], outputs=2).data == (None, None)
