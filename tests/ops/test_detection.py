"""Boxes and regions of interest. Expected sizes by hand from the specification."""

import pytest
from rules import answer

ROWS = [
    ("NonMaxSuppression", 11, ["N,B,4", "N,80,B", "i64:[200]"], {}, "y0.dim0,3"),
    ("NonMaxSuppression", 10, ["N,B,4", "N,80,B", "i64 1"], {}, "y0.dim0,3"),
    ("NonMaxSuppression", 11, ["*", "*", "i64:5"], {}, "y0.dim0,3"),
    ("NonMaxSuppression", 11, ["N,B,4", "N,80,B"], {}, "0,3"),  # by default nothing is kept
    ("NonMaxSuppression", 11, ["N,B,4", "N,80,B", None, "f32:0.5"], {}, "0,3"),
    ("NonMaxSuppression", 11, ["N,B,4", "N,80,B", "i64:[0]"], {}, "0,3"),
    ("RoiAlign", 10, ["1,256,H,W", "R,4", "i64 R"], {"output_height": 7, "output_width": 5}, "R,256,7,5"),
    ("RoiAlign", 16, ["1,256,H,W", "R,4", "i64 R"], {}, "R,256,1,1"),
    ("RoiAlign", 22, ["1,256,H,W", "0,4", "i64 0"], {}, "0,256,1,1"),
    ("RoiAlign", 22, ["1,256,H", "R,4", "i64 R"], {}, "*"),
    ("RoiAlign", 22, ["*", "R,4", "i64 R"], {}, "*"),
    ("MaxRoiPool", 1, ["1,256,H,W", "R,5"], {"pooled_shape": [6, 7]}, "R,256,6,7"),
    ("MaxRoiPool", 22, ["1,256,H,W", "300,5"], {"pooled_shape": [7, 7]}, "300,256,7,7"),
    ("MaxRoiPool", 22, ["1,256,H,W", "R,5"], {}, "*"),
]


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "shape"), ROWS)
def test_shape(name, opset, inputs, attributes, shape):
    assert answer(name, opset, inputs, attributes).shape == shape


@pytest.mark.parametrize(
    ("size", "shape"),
    [("i32:[14,9]", "R,3,14,9"), ("size:[H,W]", "R,3,H,W"), ("i32 2", "*"), ("i32:[14]", "*")],
)
def test_crop_and_resize(size, shape):
    inputs = ["1,3,H,W", "R,4", "i32 R", size]
    assert answer("CropAndResize", 1, inputs, domain="com.microsoft").shape == shape


def test_dtypes():
    assert answer("NonMaxSuppression", 11, ["N,B,4", "N,80,B", "i64:[9]"]).dtype == "int64"
    assert answer("RoiAlign", 22, ["f16 1,2,8,8", "f16 R,4", "i64 R"]).dtype == "float16"


def test_rois_and_their_batch_indices_agree():
    found = answer("RoiAlign", 22, ["1,2,8,8", "5,4", "i64 6"])
    assert found.problems == ("RoiAlign: rois and batch_indices don't match: 5 and 6",)
