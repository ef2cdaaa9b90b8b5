"""No rule raises: on the onnx package's own models, on models of the corpus, on damaged models."""

import random
from pathlib import Path

import onnx
import pytest

from onnxscope.checks.runner import RULE_FAILED, Context, audit
from onnxscope.checks.settings import Settings
from onnxscope.errors import FileError
from onnxscope.files.read import load, loads

ROOT = Path(__file__).parents[2]
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))
OURS = sorted((ROOT / "models").glob("*.onnx"))


def failures(model, **settings):
    found = audit(Context(model, Settings(**settings)))
    return [finding.message for finding in found if finding.code == RULE_FAILED]


@pytest.mark.parametrize("path", [*OURS, *LIGHT], ids=lambda path: path.stem)
def test_models(path):
    assert failures(load(path)) == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_damaged_models(path):
    """Bytes changed at random: most such files still can be read, and say nonsense."""
    data = bytearray(path.read_bytes())
    rng = random.Random(7)
    read = 0
    for _ in range(40):
        bad = bytearray(data)
        for _ in range(3):
            bad[rng.randrange(min(len(bad), 4096))] = rng.randrange(256)
        try:
            model = loads(bytes(bad), "bad.onnx")
        except FileError:
            continue
        read += 1
        assert failures(model, ignore=("OX105",)) == []
    assert read


@pytest.mark.corpus
def test_corpus():
    paths = sorted((ROOT / ".cache" / "corpus").glob("*.onnx"))
    if not paths:
        pytest.skip("no corpus; make corpus writes it")
    for path in paths:
        if path.stat().st_size < 60 << 20:
            assert failures(load(path)) == [], path.name


@pytest.mark.parametrize(("inputs", "outputs"), [([], ["y"]), (["x"], []), ([], []), (["x", ""], ["y"])])
def test_nodes_that_lack_inputs_or_outputs(inputs, outputs):
    """One node of every op of ONNX, as a damaged file may hold it."""
    ops = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 2, 5, 5]) for name in "xy"]
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    failed = {}
    for op in ops:
        node = onnx.helper.make_node(op, inputs, outputs, **(window if "Pool" in op or "Conv" in op else {}))
        graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
        found = failures(loads(model.SerializeToString(), "bad.onnx"), targets=("openvino", "coreml"))
        failed |= {op: found} if found else {}
    assert failed == {}


def test_permutations_and_makers_of_damaged_files():
    """An axis beyond the shape; a layer whose weight comes through a Reshape without inputs."""
    ends = [onnx.helper.make_tensor_value_info(name, 1, [2, 2]) for name in "xy"]
    node = onnx.helper.make_node
    graphs = [
        [node("Transpose", ["x"], ["y"], perm=[0, 77])],
        [node("Reshape", [], ["w"]), node("MatMul", ["x", "w"], ["h"]), node("QGemm", ["h"], ["y"])],
    ]
    for nodes in graphs:
        graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
        assert failures(loads(model.SerializeToString(), "bad.onnx")) == []


def test_a_fully_connected_layer_without_outputs():
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 2, 3, 3]) for name in "xy"]
    weight = onnx.helper.make_tensor("w", 1, [18, 1], [1.0] * 18)
    nodes = [onnx.helper.make_node("Flatten", ["x"], ["f"]), onnx.helper.make_node("Gemm", ["f", "w"], [])]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    assert failures(loads(model.SerializeToString(), "bad.onnx")) == []
