import numpy as np
import onnx
import proof_kit as kit
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.proof import twin

OPSETS = [helper.make_opsetid("", 18)]


def narrow_model(code):
    dtype = helper.tensor_dtype_to_np_dtype(code)
    weight = numpy_helper.from_array(np.arange(6).reshape(2, 3).astype(dtype) / dtype.type(8), "w")
    value = numpy_helper.from_array(np.array([0.5]).astype(dtype))
    then = helper.make_graph(
        [helper.make_node("Constant", [], ["t"], value=value)],
        "then",
        [],
        [helper.make_tensor_value_info("t", code, [1])],
    )
    other = helper.make_graph(
        [helper.make_node("Cast", ["k"], ["e"], to=code)],
        "else",
        [],
        [helper.make_tensor_value_info("e", code, [1])],
    )
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], to=code),
        helper.make_node("MatMul", ["n", "w"], ["m"]),
        helper.make_node("If", ["c"], ["i"], then_branch=then, else_branch=other),
        helper.make_node("Add", ["m", "i"], ["y"]),
    ]
    stored = [weight, numpy_helper.from_array(np.array([2.0], np.float32), "k")]
    given = [helper.make_tensor_value_info("x", 1, ["N", 2]), helper.make_tensor_value_info("c", 9, [])]
    outputs = [helper.make_tensor_value_info("y", code, ["N", 3])]
    graph = helper.make_graph(nodes, "g", given, outputs, stored)
    return loads(helper.make_model(graph, opset_imports=OPSETS, ir_version=9).SerializeToString())


@pytest.mark.parametrize("code", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_the_twin_has_the_same_numbers_in_float32(code):
    model = narrow_model(code)
    assert twin.is_narrow(model)
    found = twin.float32_twin(model)
    assert not twin.is_narrow(found)
    proto = onnx.load_from_string(dumps(found))
    onnx.checker.check_model(proto, full_check=True)
    before, after = (each.graph.initializers["w"].array() for each in (model, found))
    assert np.array_equal(before.astype(np.float32), after)
    given = {"x": np.array([[1, 2]], np.float32)}
    for choice, offset in ((True, 0.5), (False, 2.0)):
        result = kit.Runner().run(dumps(found), {**given, "c": np.array(choice)})["y"]
        assert result.dtype == np.float32
        assert np.allclose(result, np.array([[6, 9, 12]]) / 8 + offset)


def test_a_float32_model_has_no_narrow_part():
    assert not twin.is_narrow(kit.original(kit.head("small", 4, (3, 3), "CHW", (6,))))


def test_feeds_become_float32():
    found = twin.feeds({"x": np.array([0.1], np.float16), "i": np.array([3])})
    assert found["x"].dtype == np.float32
    assert found["x"][0] == np.float16(0.1)
    assert found["i"].dtype == np.int64
