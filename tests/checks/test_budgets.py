"""Budgets OX901 to OX907 on a Gemm with 3*4 + 4 = 16 parameters and 12 MACs per row."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope.checks.registry import find
from onnxscope.checks.runner import Context, run_rule
from onnxscope.checks.settings import Budget, Settings
from onnxscope.files.read import loads


def gemm(batch, metadata=(), opset=17):
    weights = [
        numpy_helper.from_array(np.ones((3, 4), np.float32), "w"),
        numpy_helper.from_array(np.ones(4, np.float32), "b"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")
    graph = helper.make_graph([node], "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    helper.set_model_props(model, dict(metadata))
    return loads(model.SerializeToString())


# Activations of batch 2: x 2*3 and y 2*4 floats, alive together: 14 * 4 = 56 bytes.
ROWS = [
    ("OX901", {"max_params": 15}, {"max_params": 16}),
    ("OX902", {"max_macs": 23}, {"max_macs": 24}),
    ("OX904", {"max_peak_activation": 55}, {"max_peak_activation": 56}),
    ("OX905", {"opset_min": 18}, {"opset_min": 17}),
    ("OX906", {"required_metadata": ("licence", "author")}, {"required_metadata": ("author",)}),
]


@pytest.mark.parametrize(("code", "bad", "good"), ROWS, ids=[row[0] for row in ROWS])
def test_budget(code, bad, good):
    model = gemm(2, {"author": "me"})
    assert [f.code for f in run_rule(find(code), Context(model, Settings(budget=Budget(**bad))))] == [code]
    assert run_rule(find(code), Context(model, Settings(budget=Budget(**good)))) == []
    assert run_rule(find(code), Context(model)) == []


def test_bytes_of_the_file_count_for_ox903():
    model = gemm(2)
    below, at = (Settings(budget=Budget(max_bytes=model.file_bytes - less)) for less in (1, 0))
    assert run_rule(find("OX903"), Context(model, below))[0].data["actual"] == model.file_bytes
    assert run_rule(find("OX903"), Context(model, at)) == []


def test_free_size_is_undecided_until_bound():  # 12*N MACs
    model = gemm("N")
    budget = Budget(max_macs=24)
    found = run_rule(find("OX907"), Context(model, Settings(budget=budget)))
    assert [finding.where for finding in found] == ["max-macs"]
    assert "12*N" in found[0].message
    assert run_rule(find("OX902"), Context(model, Settings(budget=budget))) == []
    bound = Context(model, Settings(budget=budget, dims={"N": 3, "absent": 9}))
    assert run_rule(find("OX907"), bound) == []
    assert run_rule(find("OX902"), bound)[0].data == {"actual": 36, "limit": 24}


def test_free_size_that_can_only_be_too_large_is_over():  # N is at least 1: at least 12 MACs
    found = run_rule(find("OX902"), Context(gemm("N"), Settings(budget=Budget(max_macs=11))))
    assert found[0].data == {"actual": 12, "limit": 11}
    assert "12*N" in found[0].message


def test_empty_metadata_value_is_missing():
    settings = Settings(budget=Budget(required_metadata=("author",)))
    assert "empty" in run_rule(find("OX906"), Context(gemm(1, {"author": " "}), settings))[0].message
