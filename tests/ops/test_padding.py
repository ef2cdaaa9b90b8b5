"""Pad and CenterCropPad. Expected sizes by hand from the specification."""

import pytest
from rules import answer

SHAPES = [
    ("paddings", "Pad", 1, ["N,3,H,W"], {"paddings": [0, 0, 1, 2, 0, 0, 3, 4]}, "N,3,H + 4,W + 6"),
    ("pads attribute", "Pad", 2, ["N,3,8"], {"pads": [0, 0, 1, 0, 0, 2]}, "N,3,11"),
    ("pads attribute, last version", "Pad", 10, ["2,3"], {"pads": [1, 1, 1, 1], "mode": "edge"}, "4,5"),
    ("pads input", "Pad", 11, ["N,3,H", "i64:[0,0,1,0,0,2]"], {"mode": "reflect"}, "N,3,H + 3"),
    ("negative pads cut", "Pad", 13, ["N,3,H", "i64:[0,-1,-2,0,0,1]", "f32:0.0"], {}, "N,2,H - 1"),
    ("symbolic pads", "Pad", 13, ["2,3", "size:[0,0,H,0]"], {}, "H + 2,3"),
    ("axes", "Pad", 18, ["N,3,H,W", "i64:[1,2,3,4]", None, "i64:[-1,2]"], {}, "N,3,H + 6,W + 4"),
    ("unknown pads", "Pad", 13, ["N,3", "i64 4"], {}, "y0.dim0,y0.dim1"),
    ("unknown pads on known axes", "Pad", 18, ["N,3,8", "i64 2", None, "i64:[2]"], {}, "N,3,y0.dim2"),
    ("wrong length", "Pad", 13, ["2,3", "i64:[1,1]"], {}, "*"),
    ("unknown axes", "Pad", 18, ["2,3", "i64:[1,1]", None, "i64 1"], {}, "*"),
    ("unknown input", "Pad", 13, ["*", "i64:[1,1]"], {}, "*"),
    ("crop", "CenterCropPad", 18, ["20,8,3", "i64:[10,9]"], {"axes": [0, 1]}, "10,9,3"),
    ("crop all", "CenterCropPad", 18, ["20,8", "size:[H,W]"], {}, "H,W"),
    ("crop from the back", "CenterCropPad", 18, ["N,3,20", "i64:[9]"], {"axes": [-1]}, "N,3,9"),
    ("crop unknown", "CenterCropPad", 18, ["N,3,20", "i64 1"], {"axes": [-1]}, "N,3,y0.dim2"),
    ("crop misfit", "CenterCropPad", 18, ["N,3,20", "i64:[9]"], {}, "*"),
]


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "expected"), [r[1:] for r in SHAPES],
                         ids=[r[0] for r in SHAPES])  # fmt: skip
def test_shape(name, opset, inputs, attributes, expected):
    found = answer(name, opset, inputs, attributes)
    assert found.shape == expected
    assert any(text.startswith(f"{name}:") for text in found.problems) == (expected == "*")


def test_pad_of_microsoft_takes_its_pads_from_an_input():
    assert answer("Pad", 1, ["2,3", "i64:[0,1,0,2]"], domain="com.microsoft").shape == "2,6"
