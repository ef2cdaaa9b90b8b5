"""Slice, Gather and kin. Expected sizes by hand; sweeps against onnxruntime, in numbers and in symbols."""

import random

import numpy as np
import pytest
from rules import answer

from onnxscope.expr import bind

FAR, FAR32 = 2**63 - 1, 2**31 - 1
END, START = f"i64:[{FAR}]", f"i64:[-{FAR}]"

SHAPES = [
    # --- Slice
    ("slice attribute", "Slice", 1, ["N,10,H"], {"starts": [2], "ends": [5], "axes": [1]}, "N,3,H"),
    ("slice attribute, no axes", "Slice", 9, ["20,10,5"], {"starts": [0, 1], "ends": [20, 9]}, "20,8,5"),
    ("slice to the end", "Slice", 13, ["N,S", "i64:[1]", END, "i64:[1]"], {}, "N,S - 1"),
    ("slice to the end, 32 bits", "Slice", 10, ["N,S", "i32:[0]", f"i32:[{FAR32}]", "i32:[1]"], {}, "N,S"),
    ("slice from far before", "Slice", 13, ["N,S", START, "i64:[-1]", "i64:[1]"], {}, "N,S - 1"),
    ("slice last", "Slice", 13, ["N,S", "i64:[-1]", END, "i64:[1]"], {}, "N,1"),
    ("slice maybe too short", "Slice", 13, ["N,S", "i64:[0]", "i64:[4]", "i64:[1]"], {}, "N,min(4, S)"),
    ("slice the rest", "Slice", 13, ["N,S", "i64:[4]", END, "i64:[1]"], {}, "N,S - min(4, S)"),
    ("slice symbolic end", "Slice", 13, ["N,S", "i64:[0]", "size:[S//2]", "i64:[1]"], {}, "N,S//2"),
    ("slice half", "Slice", 13, ["N,S", "size:[S//2]", END, "i64:[1]"], {}, "N,S - S//2"),
    ("slice symbolic negative", "Slice", 13, ["8,S", "i64:[0]", "size:[-N]", "i64:[1]"], {},
     "8,-N + S - min(0, -N + S)"),
    ("slice of unclear sign", "Slice", 13, ["N,S", "i64:[0]", "size:[K-5]", "i64:[1]"], {}, "N,y0.dim1"),
    ("slice every second", "Slice", 10, ["N,S", "i64:[0]", END, "i64:[1]", "i64:[2]"], {}, "N,(S + 1)//2"),
    ("slice odd ones", "Slice", 10, ["N,S", "i64:[1]", END, "i64:[1]", "i64:[2]"], {}, "N,S//2"),
    ("slice backwards", "Slice", 13, ["N,S", "i64:[-1]", START, "i64:[1]", "i64:[-1]"], {}, "N,S"),
    ("slice backwards from far", "Slice", 13, ["9", END, START, "i64:[0]", "i64:[-2]"], {}, "5"),
    ("slice empty", "Slice", 13, ["N,10", "i64:[5]", "i64:[3]", "i64:[1]"], {}, "N,0"),
    ("slice out of bounds", "Slice", 13, ["N,10", "i64:[20]", "i64:[30]", "i64:[1]"], {}, "N,0"),
    ("slice no axes input", "Slice", 10, ["20,10", "i64:[0,0]", "i64:[3,10]"], {}, "3,10"),
    ("slice negative axes", "Slice", 13, ["20,10,5", "i64:[0]", "i64:[3]", "i64:[-2]"], {}, "20,3,5"),
    ("slice backwards to far", "Slice", 13, ["9", "i64:[5]", END, "i64:[0]", "i64:[-1]"], {}, "y0.dim0"),
    ("slice of nothing", "Slice", 13, ["0,3", "i64:[-1]", START, "i64:[0]", "i64:[-1]"], {}, "0,3"),
    ("slice unknown start", "Slice", 13, ["N,S", "i64 1", "i64:[3]", "i64:[1]"], {}, "N,y0.dim1"),
    ("slice unknown step", "Slice", 13, ["N,S", "i64:[0]", "i64:[3]", "i64:[1]", "i64 1"], {}, "N,y0.dim1"),
    ("slice unknown axes", "Slice", 13, ["N,S", "i64:[0]", "i64:[3]", "i64 1"], {}, "y0.dim0,y0.dim1"),
    ("slice unknown count", "Slice", 13, ["N,S", "i64 K", "i64 K"], {}, "*"),
    ("slice step 0", "Slice", 13, ["N,S", "i64:[0]", "i64:[3]", "i64:[1]", "i64:[0]"], {}, "*"),
    ("slice lengths differ", "Slice", 13, ["N,S", "i64:[0,0]", "i64:[3]", "i64:[1]"], {}, "*"),
    ("slice unknown input", "Slice", 13, ["*", "i64:[0]", "i64:[3]", "i64:[1]"], {}, "*"),
    # --- Gather
    ("gather", "Gather", 13, ["V,D", "i64 N,S"], {}, "N,S,D"),
    ("gather scalar", "Gather", 1, ["N,S,D", "i64:-1"], {"axis": 1}, "N,D"),
    ("gather negative axis", "Gather", 11, ["N,S,D", "i64:[0,1]"], {"axis": -1}, "N,S,2"),
    ("gather outside", "Gather", 13, ["N,S", "i64:0"], {"axis": 2}, "*"),
    ("gather unknown indices", "Gather", 13, ["N,S", "i64 *"], {}, "*"),
    ("gather elements", "GatherElements", 13, ["N,S,D", "i64 N,5,D"], {"axis": 1}, "N,5,D"),
    ("gather elements, ranks differ", "GatherElements", 11, ["N,S,D", "i64 N,5"], {"axis": 1}, "*"),
    ("gather nd", "GatherND", 11, ["N,S,D", "i64 5,2"], {}, "5,D"),
    ("gather nd, all axes", "GatherND", 12, ["2,2", "i64 5,2"], {}, "5"),
    ("gather nd, batch", "GatherND", 13, ["N,S,D", "i64 N,5,1"], {"batch_dims": 1}, "N,5,D"),
    ("gather nd, symbolic depth", "GatherND", 13, ["N,S,D", "i64 5,K"], {}, "*"),
    ("gather nd, too deep", "GatherND", 13, ["N,S", "i64 5,3"], {}, "*"),
    # --- Compress
    ("compress", "Compress", 9, ["N,3,4", "bool:[True,False,True]"], {"axis": 1}, "N,2,4"),
    ("compress flattened", "Compress", 11, ["3,2", "bool:[False,True,True,True,False]"], {}, "3"),
    ("compress from the back", "Compress", 11, ["N,3", "bool:[True]"], {"axis": -1}, "N,1"),
    ("compress unknown", "Compress", 9, ["N,3", "bool 3"], {"axis": 1}, "N,y0.dim1"),
    ("compress unknown input", "Compress", 9, ["*", "bool 3"], {}, "y0.dim0"),
    ("compress outside", "Compress", 9, ["N,3", "bool 3"], {"axis": 2}, "*"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "expected"),
                         [r[1:] for r in SHAPES], ids=[r[0] for r in SHAPES])  # fmt: skip
def test_shape(name, opset, inputs, attributes, expected):
    found = answer(name, opset, inputs, attributes)
    assert found.shape == expected
    assert any(text.startswith(f"{name}:") for text in found.problems) == (expected == "*")


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "expected"),
    [
        ("Slice", ["size:[N,C,H,W]", "i64:[2]", END, "i64:[0]"], {}, "[H, W]"),
        ("Slice", ["size:[N,C,H,W]", "i64:[-1]", START, "i64:[0]", "i64:[-2]"], {}, "[W, C]"),
        ("Slice", ["size:[[N,C],[H,W]]", "i64:[0,1]", "i64:[2,2]"], {}, "[[C], [W]]"),
        ("Slice", ["size:[N,C]", "i64:[2]", "i64:[1]", "i64:[0]"], {}, "[]"),
        ("Slice", ["size:[N,C]", "size:[K]", "i64:[2]", "i64:[0]"], {}, None),
        ("Gather", ["size:[N,C,H,W]", "i64:2"], {}, "H"),
        ("Gather", ["size:[N,C,H,W]", "i64:[-1,0]"], {}, "[W, N]"),
        ("Gather", ["size:[[N,C],[H,W]]", "i64:[1]"], {"axis": 1}, "[[C], [W]]"),
        ("Gather", ["size:[N,C,H,W]", "size:K"], {}, None),
        ("Gather", ["i64:[5,6,7]", "i64:[[0,2],[1,1]]"], {}, "[[5, 7], [6, 6]]"),
    ],
)
def test_content_moves_along(name, inputs, attributes, expected):
    assert answer(name, 13, inputs, attributes).value == expected


def test_an_index_outside_its_axis_is_a_problem():
    found = answer("Gather", 13, ["size:[N,C]", "i64:2"])
    assert found.problems == ("Gather: an index is outside an axis of size 2",)


def test_a_cut_axis_adds_up_again():
    """A cyclic shift by 4 (swin): the rest and the first part, joined, are the whole axis."""
    for first, second in [((4, FAR), (0, 4)), ((-4, FAR), (0, -4))]:
        sizes = [
            answer("Slice", 13, ["N,S", f"i64:[{a}]", f"i64:[{b}]", "i64:[1]"]).inferred.shapes[0][1]
            for a, b in (first, second)
        ]
        assert str(sizes[0] + sizes[1]) == "S"


def test_slice_against_onnxruntime():
    ort = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    names = ("starts", "ends", "axes", "steps")
    infos = [helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in names]
    infos.insert(0, helper.make_tensor_value_info("x", TensorProto.FLOAT, ["S"]))
    node = helper.make_node("Slice", ["x", *names], ["y"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    graph = helper.make_graph([node], "g", infos, [y])
    model = helper.make_model_gen_version(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString())
    rng = random.Random(0)
    for _ in range(400):
        step = rng.choice([1, 1, 2, 3, -1, -2])
        far = FAR if step > 0 else -FAR
        start, end = rng.randint(-14, 14), rng.choice([rng.randint(-14, 14), far])
        texts = [f"i64:[{start}]", f"i64:[{end}]", "i64:[0]", f"i64:[{step}]"]
        size = rng.randint(1, 10)
        values = [np.array([number]) for number in (start, end, 0, step)]
        feed = {"x": np.zeros(size, np.float32), **dict(zip(names, values, strict=True))}
        (result,) = session.run(None, feed)
        symbolic = answer("Slice", 13, ["S", *texts]).inferred.shapes[0][0]
        row = (size, start, end, step)
        assert (answer("Slice", 13, [str(size), *texts]).shape, row) == (str(len(result)), row)
        assert (bind(symbolic, {"S": size}), row) == (len(result), row)
