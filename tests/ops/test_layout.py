"""Reshape, Transpose, Expand and kin. Expected sizes by hand from the specification."""

from dataclasses import replace

import pytest
from rules import answer, build

from onnxscope.analysis.shapes import infer
from onnxscope.errors import FileError

SHAPES = [
    # --- Reshape
    ("reshape numbers", "Reshape", 14, ["2,3,4", "i64:[4,6]"], {}, "4,6"),
    ("reshape rest", "Reshape", 14, ["2,3,4", "i64:[-1,8]"], {}, "3,8"),
    ("reshape copies", "Reshape", 14, ["N,3,4", "i64:[0,-1]"], {}, "N,12"),
    ("reshape copies two", "Reshape", 14, ["N,C,H,W", "i64:[0,0,-1]"], {}, "N,C,H*W"),
    ("reshape to all", "Reshape", 14, ["N,C,H,W", "i64:[-1]"], {}, "C*H*N*W"),
    ("reshape cancels", "Reshape", 14, ["N,C,H,W", "size:[N,-1]"], {}, "N,C*H*W"),
    ("reshape cancels a symbol elsewhere", "Reshape", 14, ["N,C,H,W", "size:[H,-1,N]"], {}, "H,C*W,N"),
    ("reshape divides exactly", "Reshape", 14, ["N,6,H", "size:[-1,2*H]"], {}, "3*N,2*H"),
    ("reshape free batch", "Reshape", 14, ["N,512,7,7", "i64:[-1,25088]"], {}, "N,25088"),
    ("reshape floors", "Reshape", 14, ["N,C", "i64:[-1,10]"], {}, "(C*N)//10,10"),
    ("reshape pins the batch", "Reshape", 14, ["N,3,4", "i64:[1,12]"], {}, "1,12"),
    ("reshape splits heads", "Reshape", 14, ["N,S,768", "size:[N,S,12,64]"], {}, "N,S,12,64"),
    ("reshape to scalar", "Reshape", 14, ["1,1", "i64:[]"], {}, "()"),
    ("reshape from scalar", "Reshape", 14, ["()", "i64:[-1]"], {}, "1"),
    ("reshape empty", "Reshape", 14, ["0,4", "i64:[-1,2]"], {}, "0,2"),
    ("reshape zero is a size", "Reshape", 14, ["0,4", "i64:[3,0]"], {"allowzero": 1}, "3,0"),
    ("reshape zero as a size and the rest", "Reshape", 14, ["2,3", "i64:[0,-1]"], {"allowzero": 1}, "*"),
    ("reshape zero beside the rest", "Reshape", 14, ["0,4", "i64:[0,-1]"], {}, "0,y0.dim1"),
    ("reshape attribute", "Reshape", 1, ["N,3,4"], {"shape": [0, -1]}, "N,12"),
    ("reshape attribute, last version", "Reshape", 4, ["2,3"], {"shape": [6]}, "6"),
    ("reshape unknown content", "Reshape", 14, ["N,3,4", "i64 3"], {}, "y0.dim0,y0.dim1,y0.dim2"),
    ("reshape unknown length", "Reshape", 14, ["N,3,4", "i64 K"], {}, "*"),
    ("reshape unknown input", "Reshape", 14, ["*", "i64:[2,-1]"], {}, "2,y0.dim1"),
    ("reshape unknown input, copied", "Reshape", 14, ["*", "i64:[0,5]"], {}, "y0.dim0,5"),
    ("reshape unnamed axis", "Reshape", 14, ["?,3", "i64:[0,3]"], {}, "x0.dim0,3"),
    # --- Flatten
    ("flatten", "Flatten", 13, ["N,C,H,W"], {}, "N,C*H*W"),
    ("flatten 0", "Flatten", 9, ["N,3,4"], {"axis": 0}, "1,12*N"),
    ("flatten 2", "Flatten", 1, ["N,3,4,5"], {"axis": 2}, "3*N,20"),
    ("flatten rank", "Flatten", 13, ["2,3"], {"axis": 2}, "6,1"),
    ("flatten -1", "Flatten", 11, ["2,3,4"], {"axis": -1}, "6,4"),
    ("flatten -rank", "Flatten", 11, ["2,3,4"], {"axis": -3}, "1,24"),
    ("flatten scalar", "Flatten", 13, ["()"], {"axis": 0}, "1,1"),
    ("flatten outside", "Flatten", 13, ["2,3"], {"axis": 3}, "*"),
    ("flatten unknown", "Flatten", 13, ["*"], {}, "*"),
    # --- Transpose
    ("transpose", "Transpose", 13, ["N,C,H,W"], {"perm": [0, 2, 3, 1]}, "N,H,W,C"),
    ("transpose default", "Transpose", 1, ["N,C,H"], {}, "H,C,N"),
    ("transpose scalar", "Transpose", 21, ["()"], {}, "()"),
    ("transpose bad perm", "Transpose", 13, ["2,3"], {"perm": [0, 0]}, "*"),
    ("transpose wrong rank", "Transpose", 13, ["2,3"], {"perm": [0, 2, 1]}, "*"),
    # --- Squeeze, Unsqueeze
    ("squeeze attribute", "Squeeze", 11, ["N,1,H,1"], {"axes": [1, -1]}, "N,H"),
    ("squeeze input", "Squeeze", 13, ["N,1,H,1", "i64:[-1]"], {}, "N,1,H"),
    ("squeeze all", "Squeeze", 13, ["1,3,1,1"], {}, "3"),
    ("squeeze all, empty list", "Squeeze", 13, ["1,3,1,1", "i64:[]"], {}, "3"),
    ("squeeze symbol named", "Squeeze", 13, ["N,3", "i64:[0]"], {}, "3"),
    ("squeeze all, may be 1", "Squeeze", 13, ["N,3,1"], {}, "*"),
    ("squeeze a large axis", "Squeeze", 13, ["2,3", "i64:[0]"], {}, "*"),
    ("squeeze unknown axes", "Squeeze", 13, ["2,3", "i64 1"], {}, "*"),
    ("unsqueeze attribute", "Unsqueeze", 1, ["N,C"], {"axes": [2, 0]}, "1,N,1,C"),
    ("unsqueeze input", "Unsqueeze", 13, ["N,C", "i64:[-1,1]"], {}, "N,1,C,1"),
    ("unsqueeze scalar", "Unsqueeze", 13, ["()", "i64:[0]"], {}, "1"),
    ("unsqueeze twice", "Unsqueeze", 13, ["N,C", "i64:[0,0]"], {}, "*"),
    ("unsqueeze outside", "Unsqueeze", 13, ["N,C", "i64:[3]"], {}, "*"),
    # --- Expand, Tile
    ("expand", "Expand", 13, ["1,3,1", "i64:[2,1,4]"], {}, "2,3,4"),
    ("expand new axes", "Expand", 8, ["3,1", "size:[N,1,W]"], {}, "N,3,W"),
    ("expand shorter target", "Expand", 13, ["N,3,1", "i64:[5]"], {}, "N,3,5"),
    ("expand number beats symbol", "Expand", 13, ["N,C", "i64:[1,8]"], {}, "N,8"),
    ("expand same symbol", "Expand", 13, ["N,1", "size:[N,K]"], {}, "N,K"),
    ("expand two symbols", "Expand", 13, ["N", "size:[M]"], {}, "max(M, N)"),
    ("expand unknown content", "Expand", 13, ["N,3", "i64 3"], {}, "y0.dim0,y0.dim1,3"),
    ("expand misfit", "Expand", 13, ["2,3", "i64:[2,4]"], {}, "*"),
    ("expand negative", "Expand", 13, ["2,3", "i64:[-1,3]"], {}, "*"),
    ("expand empty", "Expand", 13, ["1,3", "i64:[0,3]"], {}, "0,3"),
    ("tile", "Tile", 13, ["N,3,H", "i64:[1,2,3]"], {}, "N,6,3*H"),
    ("tile symbolic", "Tile", 6, ["2,3", "size:[N,1]"], {}, "2*N,3"),
    ("tile one axis", "Tile", 1, ["N,3", "f32:4.0", "f32:1.0"], {}, "N,12"),
    ("tile one axis, no whole number", "Tile", 1, ["N,3", "f32:1.5", "f32:1.0"], {}, "*"),
    ("tile unknown", "Tile", 13, ["N,3", "i64 2"], {}, "y0.dim0,y0.dim1"),
    ("tile wrong length", "Tile", 13, ["N,3", "i64:[2]"], {}, "*"),
    # --- blocks
    ("depth to space", "DepthToSpace", 13, ["N,8,H,W"], {"blocksize": 2}, "N,2,2*H,2*W"),
    ("depth to space, symbol", "DepthToSpace", 1, ["N,C,2,3"], {"blocksize": 2}, "N,C//4,4,6"),
    ("depth to space, CRD", "DepthToSpace", 11, ["1,9,2,3"], {"blocksize": 3, "mode": "CRD"}, "1,1,6,9"),
    ("depth to space, misfit", "DepthToSpace", 13, ["1,9,2,3"], {"blocksize": 2}, "*"),
    ("depth to space, no block", "DepthToSpace", 13, ["1,8,2,3"], {}, "*"),
    ("depth to space, rank 3", "DepthToSpace", 13, ["8,2,3"], {"blocksize": 2}, "*"),
    ("space to depth", "SpaceToDepth", 1, ["N,2,4,6"], {"blocksize": 2}, "N,8,2,3"),
    ("space to depth, symbol", "SpaceToDepth", 13, ["N,2,H,6"], {"blocksize": 2}, "N,8,H//2,3"),
    ("space to depth, misfit", "SpaceToDepth", 13, ["1,2,5,6"], {"blocksize": 2}, "*"),
    # --- shape of the data
    ("scatter", "Scatter", 9, ["N,3", "i64 2,2", "2,2"], {}, "N,3"),
    ("scatter elements", "ScatterElements", 18, ["N,3", "i64 2,2", "2,2"], {"axis": 1}, "N,3"),
    ("scatter nd", "ScatterND", 11, ["N,3,4", "i64 5,1", "5,3,4"], {}, "N,3,4"),
    ("tensor scatter", "TensorScatter", 24, ["N,8,S,64", "N,8,T,64", "i64 N"], {}, "N,8,S,64"),
    ("reverse sequence", "ReverseSequence", 10, ["T,N,3", "i64 N"], {}, "T,N,3"),
    ("scatter unknown", "ScatterND", 11, ["*", "i64 5,1", "5,3,4"], {}, "*"),
    # --- sampling
    ("grid sample", "GridSample", 16, ["N,C,H,W", "N,P,Q,2"], {}, "N,C,P,Q"),
    ("grid sample 3-D", "GridSample", 20, ["N,C,D,H,W", "N,4,5,6,3"], {}, "N,C,4,5,6"),
    ("grid sample, ranks differ", "GridSample", 16, ["N,C,H", "N,P,Q,2"], {}, "*"),
    ("affine grid", "AffineGrid", 20, ["N,2,3", "size:[N,C,H,W]"], {}, "N,H,W,2"),
    ("affine grid 3-D", "AffineGrid", 20, ["N,3,4", "i64:[2,3,4,5,6]"], {}, "2,4,5,6,3"),
    ("affine grid, unknown size", "AffineGrid", 20, ["N,2,3", "i64 4"], {}, "N,y0.dim1,y0.dim2,2"),
    ("image", "ImageDecoder", 20, ["u8 K"], {}, "y0.dim0,y0.dim1,3"),
    ("image, gray", "ImageDecoder", 20, ["u8 K"], {"pixel_format": "Grayscale"}, "y0.dim0,y0.dim1,1"),
]


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "expected"), [r[1:] for r in SHAPES],
                         ids=[r[0] for r in SHAPES])  # fmt: skip
def test_shape(name, opset, inputs, attributes, expected):
    found = answer(name, opset, inputs, attributes)
    assert found.shape == expected
    assert any(text.startswith(f"{name}:") for text in found.problems) == (expected == "*")


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "expected"),
    [
        ("Reshape", ["size:[N,H//2]", "i64:[1,-1]"], {}, "[[N, H//2]]"),
        ("Reshape", ["size:[N,H]", "i64:[]"], {}, None),  # two elements don't fit a scalar
        ("Flatten", ["size:[N,H]"], {"axis": 0}, "[[N, H]]"),
        ("Transpose", ["size:[[N,1],[C,2],[H,3]]"], {}, "[[N, C, H], [1, 2, 3]]"),
        ("Transpose", ["size:[[[1,2],[3,4]]]"], {"perm": [2, 0, 1]}, "[[[1, 3]], [[2, 4]]]"),
        ("Squeeze", ["size:[[N]]", "i64:[0]"], {}, "[N]"),
        ("Unsqueeze", ["size:N*2", "i64:[0]"], {}, "[2*N]"),
        ("Expand", ["size:[[N],[C]]", "i64:[2,3]"], {}, "[[N, N, N], [C, C, C]]"),
        ("Expand", ["size:[N]", "i64:[2,2]"], {}, "[[N, N], [N, N]]"),
        ("Expand", ["size:[N]", "size:[M]"], {}, None),
        ("Tile", ["size:[[N,C]]", "i64:[2,2]"], {}, "[[N, C, N, C], [N, C, N, C]]"),
        ("Tile", ["size:[N]", "i64:[5000]"], {}, None),  # beyond the limit
        ("Reshape", ["f32:[0.5,2.0]", "i64:[2,1]"], {}, "[[0.5], [2.0]]"),
    ],
)
def test_content_moves_along(name, inputs, attributes, expected):
    assert answer(name, 13, inputs, attributes).value == expected


def test_element_counts_must_agree():
    found = answer("Reshape", 14, ["2,3", "i64:[4,2]"])
    assert (found.shape, found.problems) == (
        "4,2",
        ("Reshape: element counts of input and output don't match: 6 and 8",),
    )


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (["2,3", "i64:[4,-1]"], "6 elements can't be divided by 4"),
        (["2,3", "i64:[-1,-1]"], "no shape: -1, -1"),
        (["2,3", "i64:[-2,3]"], "no shape: -2, 3"),
        (["2,3", "i64:[3,2,0]"], "target 2 copies an axis that the input (rank 2) doesn't have"),
        (["2,3"], "input 1 is missing"),
    ],
)
def test_impossible_reshape(inputs, reason):
    found = answer("Reshape", 14, inputs)
    assert (found.shape, found.problems) == ("*", (f"Reshape: {reason}",))


@pytest.mark.parametrize("name", ["Reshape", "Transpose", "Expand", "Tile"])
def test_type_is_kept(name):
    second = {"Transpose": []}.get(name, ["i64:[2,1]"])
    assert answer(name, 13, ["f16 1,2", *second]).dtype == "float16"


class Unreadable:
    """Numbers in an external file that isn't there."""

    kind = "external"
    location = "weights.bin"

    def view(self):
        raise FileError("no such file", where=self.location)


@pytest.mark.parametrize(
    ("name", "inputs", "expected", "reason"),
    [
        ("Transpose", ["f32:[[1.0,2.0]]"], (2, 1), None),  # the numbers aren't needed
        ("Reshape", ["2,3", "i64:[3,2]"], None, "Reshape: weights.bin: no such file"),
    ],
)
def test_numbers_that_cannot_be_read(name, inputs, expected, reason):
    model = build(name, 14, inputs)
    tensors = tuple(replace(tensor, storage=Unreadable()) for tensor in model.graph.tensors)
    facts = infer(replace(model, graph=replace(model.graph, tensors=tensors)))
    if expected is None:
        assert [problem.message for problem in facts.problems] == [reason]
    else:
        assert (facts.main.values["y0"].shape, facts.problems) == (expected, ())
