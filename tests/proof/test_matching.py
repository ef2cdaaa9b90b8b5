"""Conversions that don't say what they converted: heads by structure, and all checks that need them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import net
from onnx import helper, numpy_helper

import onnxscope
from onnxscope.files.read import load
from onnxscope.files.write import save
from onnxscope.proof import links, matching
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify

MODELS = Path(__file__).parents[2] / "models"


def silent(tmp_path, name, **options):
    """A conversion without its metadata entry, and what that declared."""
    source, target = MODELS / f"{name}.onnx", tmp_path / "silent.onnx"
    onnxscope.convert(str(source), str(target), verify=False, force=True, **options)
    declared = links.read(load(target))
    model = onnx.load(target)
    del model.metadata_props[:]
    onnx.save(model, target)
    return str(source), str(target), declared


@pytest.mark.parametrize("output", ["map", "vector"])
@pytest.mark.parametrize("name", ["lenet5", "onet", "video3d", "net32"])
def test_structure_tells_what_the_entry_declares(tmp_path, name, output):
    source, target, declared = silent(tmp_path, name, output=output)
    assert matching.heads(load(source), load(target)) == declared


def test_the_original_itself_has_no_converted_head():
    original = load(MODELS / "lenet5.onnx")
    assert matching.heads(original, original) == ()


def test_a_changed_weight_is_named_without_the_entry(tmp_path):
    source, target, _ = silent(tmp_path, "lenet5")
    assert verify(Request(source, target, trials=1)).equivalent
    model = onnx.load(target)
    conv = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == conv.input[1])
    weight = numpy_helper.to_array(tensor).copy()
    weight.flat[7] = 0
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, target)
    found = verify(Request(source, target, trials=1))
    assert (found.reason, found.runs[0].equivalent) == ("weights", False)
    assert found.runs[0].first_divergence.startswith(conv.output[0])


def test_names_of_another_tool_are_matched_by_shape(tmp_path):
    """A conversion by hand: other names, a weight of its own, no metadata."""
    draw = np.random.default_rng(3)
    w, b = draw.standard_normal((5, 36)).astype(np.float32), draw.standard_normal(5).astype(np.float32)
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    save(net(["r = Relu(x)", "f = Flatten(r)", "y = Gemm(f, w, b) transB=1"], x="1,4,3,3", w=w, b=b), before)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Conv", ["r", "kernel", "offset"], ["map"]),
        helper.make_node("Flatten", ["map"], ["y"]),
    ]
    stored = [numpy_helper.from_array(w.reshape(5, 4, 3, 3), "kernel"), numpy_helper.from_array(b, "offset")]
    shape = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [shape("x", 1, (1, 4, 3, 3))], [shape("y", 1, (1, 5))], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, after)
    (head,) = matching.heads(load(before), load(after))
    (layer,) = head.layers
    assert (layer.output, layer.candidate_output, layer.weight.candidate) == ("y", "map", "kernel")
    found = verify(Request(str(before), str(after), trials=1))
    assert found.equivalent
    assert {row.name for row in found.runs[0].layers} >= {"y (zeros)", "y (impulses)", "y"}


def test_an_entry_whose_values_an_optimizer_renamed_is_not_believed(tmp_path):
    source, target = str(MODELS / "lenet5.onnx"), tmp_path / "renamed.onnx"
    onnxscope.convert(source, str(target), verify=False)
    text = target.read_bytes()
    (head,) = links.read(load(target))
    conv = head.layers[0].candidate_output
    model = onnx.load_from_string(text)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["fused" if name == conv else name for name in names]
    onnx.save(model, target)
    assert matching.heads(load(source), load(target))[0].layers[0].candidate_output == "fused"
    assert verify(Request(source, str(target), trials=1)).equivalent
