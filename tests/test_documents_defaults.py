"""Initializers that are listed among the inputs: constants up to IR 3, defaults from IR 4 on (IR.md)."""

import pytest
from onnx import TensorProto, helper

from onnxscope import documents
from onnxscope.files.read import loads


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
