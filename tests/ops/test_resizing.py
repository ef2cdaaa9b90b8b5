"""Resize and Upsample. Expected sizes by hand, and from onnxruntime for the float32 rounding."""

import random

import numpy as np
import pytest
from rules import answer

from onnxscope.expr import bind

SHAPES = [
    ("scales of Resize-10", "Resize", 10, ["N,3,H,W", "f32:[1,1,2,2]"], {}, "N,3,2*H,2*W"),
    ("scales", "Resize", 11, ["N,3,H,W", "f32:[]", "f32:[1,1,2,3]"], {}, "N,3,2*H,3*W"),
    ("scales without roi", "Resize", 13, ["N,3,H,W", None, "f32:[1,1,0.5,1.5]"], {}, "N,3,H//2,(3*W)//2"),
    ("inexact scale of a symbol", "Resize", 13, ["1,3,H,10", None, "f32:[1,1,0.7,0.7]"], {}, "1,3,y0.dim2,7"),
    ("empty sizes", "Resize", 11, ["1,1,4,6", "f32:[]", "f32:[1,1,0.5,0.5]", "i64:[]"], {}, "1,1,2,3"),
    ("sizes", "Resize", 11, ["N,3,H,W", "f32:[]", "f32:[]", "i64:[1,3,7,9]"], {}, "1,3,7,9"),
    ("symbolic sizes", "Resize", 13, ["N,3,H,W", None, None, "size:[N,3,2*H,W//2]"], {}, "N,3,2*H,W//2"),
    ("axes", "Resize", 18, ["N,3,H,W", None, "f32:[2,4]"], {"axes": [-1, 2]}, "N,3,4*H,2*W"),
    ("axes and sizes", "Resize", 18, ["N,3,H,W", None, None, "i64:[7]"], {"axes": [3]}, "N,3,H,7"),
    ("unknown scales", "Resize", 13, ["N,3,H", None, "f32 3"], {}, "y0.dim0,y0.dim1,y0.dim2"),
    ("unknown sizes on axes", "Resize", 18, ["N,3,H", None, None, "i64 1"], {"axes": [2]}, "N,3,y0.dim2"),
    # 7/2 = 3.5 and 8/9 < 1: the smallest scale 8/9 gives round(2*8/9) = 2, round(9*8/9) = 8
    ("not larger", "Resize", 18, ["1,1,2,9", None, None, "i64:[7,8]"],
     {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, "1,1,2,8"),
    ("not smaller", "Resize", 19, ["1,1,2,9", None, None, "i64:[7,8]"],  # 3.5: 7 and round(31.5) = 32
     {"axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller"}, "1,1,7,32"),
    ("policy on symbols", "Resize", 18, ["1,1,H,9", None, None, "i64:[7,8]"],
     {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, "1,1,y0.dim2,y0.dim3"),
    ("crop and sizes", "Resize", 11, ["1,1,4,4", "f32:[0,0,0.5,0.5,1,1,1,1]", "f32:[]", "i64:[1,1,3,3]"],
     {"coordinate_transformation_mode": "tf_crop_and_resize"}, "1,1,3,3"),
    ("crop and scales", "Resize", 18, ["1,1,4,4", "f32:[0.5,1]", None], {"axes": [2]}, "*"),
    ("cropped scales", "Resize", 18, ["1,1,4,4", "f32:[0.5,1]", "f32:[2]"],
     {"axes": [2], "coordinate_transformation_mode": "tf_crop_and_resize"}, "1,1,y0.dim2,4"),
    ("uncropped scales", "Resize", 18, ["1,1,4,4", "f32:[0,1]", "f32:[2]"],
     {"axes": [2], "coordinate_transformation_mode": "tf_crop_and_resize"}, "1,1,8,4"),
    ("wrong length", "Resize", 13, ["1,3,4,4", None, "f32:[2,2]"], {}, "*"),
    ("unknown input", "Resize", 13, ["*", None, "f32:[2,2]"], {}, "*"),
    ("upsample 1", "Upsample", 1, ["N,3,H,W"], {"height_scale": 2.0, "width_scale": 1.5}, "N,3,2*H,(3*W)//2"),
    ("upsample 7", "Upsample", 7, ["N,3,5,W"], {"scales": [1.0, 1.0, 1.5, 2.0]}, "N,3,7,2*W"),
    ("upsample 9", "Upsample", 9, ["N,3,H,W", "f32:[1,1,2,2]"], {}, "N,3,2*H,2*W"),
    ("upsample unknown", "Upsample", 9, ["N,3", "f32 2"], {}, "y0.dim0,y0.dim1"),
    ("upsample misfit", "Upsample", 7, ["N,3"], {"scales": [1.0, 1.0, 1.5]}, "*"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "expected"), [r[1:] for r in SHAPES],
                         ids=[r[0] for r in SHAPES])  # fmt: skip
def test_shape(name, opset, inputs, attributes, expected):
    found = answer(name, opset, inputs, attributes)
    assert found.shape == expected
    assert any(text.startswith(f"{name}:") for text in found.problems) == (expected == "*")


@pytest.fixture(scope="module")
def measured():
    """The size that onnxruntime's Resize gives along a line of `size` elements."""
    ort = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    floats, ints = TensorProto.FLOAT, TensorProto.INT64
    infos = [helper.make_tensor_value_info("x", floats, [1, 1, None, None])]

    def session(scaled, **attributes):
        name, kind = ("scales", floats) if scaled else ("sizes", ints)
        inputs = ["x", "", "scales"] if scaled else ["x", "", "", "sizes"]
        node = helper.make_node("Resize", inputs, ["y"], mode="nearest", axes=[2, 3], **attributes)
        y = helper.make_tensor_value_info("y", floats, [None] * 4)
        graph = helper.make_graph([node], "g", [*infos, helper.make_tensor_value_info(name, kind, [2])], [y])
        opsets = [helper.make_opsetid("", 19)]
        model = helper.make_model_gen_version(graph, opset_imports=opsets, ir_version=9)
        return ort.InferenceSession(model.SerializeToString())

    return session


def run(session, name, size, values):
    feed = {"x": np.zeros((1, 1, *size), np.float32), name: values}
    return session.run(None, feed)[0].shape[2:]


def test_scales_against_onnxruntime(measured):
    session = measured(True)
    rng = random.Random(0)
    scales = [rng.randint(1, 40) / rng.randint(1, 40) for _ in range(150)]
    scales += [rng.uniform(0.1, 4) for _ in range(150)]
    for scale in [*scales, 0.5, 1.5, 2.25, 0.125, 3.0]:
        size = rng.randint(11, 400)
        if int(size * scale) < 1:
            continue
        expected = run(session, "scales", (size, size), np.array([scale, scale], np.float32))
        inputs = [f"1,1,{size},S", None, f"f32:[{scale},{scale}]"]
        shape = answer("Resize", 19, inputs, {"axes": [2, 3]}).inferred.shapes[0]
        assert (shape[2], scale, size) == (expected[0], scale, size)
        if str(shape[3]) != "y0.dim3":
            assert bind(shape[3], {"S": size}) == expected[1]


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_policies_against_onnxruntime(measured, policy):
    session = measured(False, keep_aspect_ratio_policy=policy)
    rng = random.Random(0)
    for _ in range(150):
        size, sizes = [[rng.randint(20, 200) for _ in range(2)] for _ in range(2)]
        expected = run(session, "sizes", size, np.array(sizes))
        inputs = [f"1,1,{size[0]},{size[1]}", None, None, f"i64:{sizes}"]
        found = answer("Resize", 19, inputs, {"axes": [2, 3], "keep_aspect_ratio_policy": policy})
        assert (found.shape, size, sizes) == (f"1,1,{expected[0]},{expected[1]}", size, sizes)
