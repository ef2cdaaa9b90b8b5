"""Initializers that are listed among the inputs: constants up to IR 3, defaults from IR 4 on (IR.md)."""

import onnx
import pytest
from nets import net
from onnx import TensorProto, helper

import onnxscope
from onnxscope import documents
from onnxscope.files.read import loads
from onnxscope.files.write import dumps


@pytest.mark.parametrize(("ir", "said", "able"), [(3, "taken as constant", True), (8, "may override", False)])
def test_initializers_that_are_inputs_too_are_said(ir, said, able):
    """Parameters in any case; a weight that a caller may override can't become that of another layer."""
    shapes = {"x": [1, 3, 4, 4], "w": [48, 2]}
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [48, 2], [0.0] * 96)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_empty_tensor_value_info("y")], [tensor])
    imports = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, ir_version=ir, opset_imports=imports)
    document = documents.report(loads(model.SerializeToString()))
    (row,) = [row for row in document["problems"] if row["where"] == "w"]
    assert said in row["message"]
    assert [head["replaceable"] for head in document["fully_connected"]] == [able]
    assert (document["totals"]["params"], document["layers"][0]["input"]) == (96, "f")


@pytest.mark.parametrize(
    ("lines", "bias", "what"),
    [
        (["f = Flatten(x)", "y = Gemm(f, w, b)"], "b", "its bias is also an input"),
        (
            ["f = Flatten(x)", "m = MatMul(f, w)", "y = Add(m, b)"],
            "b",
            "Add y reads b, which is also an input",
        ),
        (["f = Flatten(x)", "y = Gemm(f, w)"], "w", "its weight is also an input"),
    ],
)
def test_a_layer_with_a_default_says_what_to_do(lines, bias, what):
    model = net(lines, x="1,3,4,4", w=(48, 2), b=(2,))
    proto = onnx.load_from_string(dumps(model))
    sizes = {"b": [2], "w": [48, 2]}[bias]
    proto.graph.input.append(helper.make_tensor_value_info(bias, TensorProto.FLOAT, sizes))
    (refused,) = onnxscope.plan(loads(proto.SerializeToString())).refused
    assert what in refused["reason"]
    assert "take it out of the model's inputs" in refused["reason"]
