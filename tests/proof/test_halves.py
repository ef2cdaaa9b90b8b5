"""Half-precision pairs are verified twice: as saved, and as float32 twins."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify


def saved(path, dtype, weight, kind):
    cast = helper.make_node("Cast", ["x"], ["h"], to=dtype)
    back = helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT)
    product = helper.make_node("MatMul", ["h", "w"], ["m"])
    info = helper.make_tensor_value_info
    tensor = (
        numpy_helper.from_array(weight.astype(np.float16), "w")
        if kind == "float16"
        else helper.make_tensor("w", TensorProto.BFLOAT16, weight.shape, weight.ravel())
    )
    graph = helper.make_graph(
        [cast, product, back], "g", [info("x", 1, ["N", 64])], [info("y", 1, ["N", 8])], [tensor]
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "dtype", "outputs"),
    [
        ("float16", TensorProto.FLOAT16, ["y", "y (float32 twin)"]),
        ("bfloat16", TensorProto.BFLOAT16, ["y (float32 twin)"]),
    ],
)
def test_twins_see_what_half_precision_hides(tmp_path, kind, dtype, outputs):
    weight = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    right = saved(tmp_path / "a.onnx", dtype, weight, kind)
    found = verify(Request(right, right, trials=1))
    assert found.equivalent
    assert [output.name for output in found.runs[0].outputs] == outputs
    assert any(kind in note for note in found.notes)
    changed = weight.copy()
    changed.flat[np.argmin(np.abs(weight))] = 0  # hidden among the roundings of a half
    wrong = saved(tmp_path / "b.onnx", dtype, changed, kind)
    found = verify(Request(right, wrong, trials=1))
    assert not found.equivalent
    assert not found.runs[0].outputs[-1].ok


def wide(path, weight):
    """The same product in float32."""
    info = helper.make_tensor_value_info
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    tensor = numpy_helper.from_array(weight, "w")
    graph = helper.make_graph([node], "g", [info("x", 1, ["N", 64])], [info("y", 1, ["N", 8])], [tensor])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return str(path)


def test_a_conversion_to_half_precision_is_compared_with_rounded_weights(tmp_path):
    """Every weight is off by its rounding, which float32 limits would fail; a wrong weight still shows."""
    weight = np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)
    original = wide(tmp_path / "a.onnx", weight)
    found = verify(Request(original, saved(tmp_path / "b.onnx", 10, weight, "float16"), trials=1))
    saved_row, twin_row = found.runs[0].outputs
    assert found.equivalent
    assert saved_row.max_abs > 0
    assert twin_row.max_abs == 0
    assert any("rounded as its are" in note for note in found.notes)
    wrong = weight.copy()
    wrong.flat[np.argmin(np.abs(weight))] = 0
    found = verify(Request(original, saved(tmp_path / "c.onnx", 10, wrong, "float16"), trials=1))
    assert [row.ok for row in found.runs[0].outputs] == [True, False]


def test_weights_through_float16_in_a_float32_file_are_a_change(tmp_path):
    weight = np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)
    narrow = weight.astype(np.float16).astype(np.float32)
    pair = wide(tmp_path / "a.onnx", weight), wide(tmp_path / "b.onnx", narrow)
    assert not verify(Request(*pair, trials=1)).equivalent
