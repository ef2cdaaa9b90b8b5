"""A candidate that doesn't run where the original does: at another batch, or at another size of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxscope
from onnxscope.files.read import load
from onnxscope.proof import dense
from onnxscope.proof.worker import Worker
from onnxscope.runtime import parse


def weight(name: str, *dims: int) -> onnx.TensorProto:
    draw = np.random.default_rng(len(name) + sum(dims))
    return numpy_helper.from_array(draw.standard_normal(dims).astype(np.float32), name)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A net of 6x6 images in batches of any size, whose head reads a map of 3x4x4."""
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], name="fc", transB=1),
    ]
    tensors = [weight("k", 3, 2, 3, 3), weight("w", 5, 48), weight("b", 5)]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["N", 2, 6, 6])],
        [helper.make_tensor_value_info("y", 1, ["N", 5])],
        tensors,
    )
    path = tmp_path / "original.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def reshaped(path: Path, shape: list[int]) -> Path:
    """The conversion with a Reshape of the feature map to these sizes (0: as it is) in front of its head."""
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "sizes"))
    place = next(place for place, node in enumerate(model.graph.node) if "r" in node.output)
    for node in model.graph.node:
        node.input[:] = ["r2" if name == "r" else name for name in node.input]
    model.graph.node.insert(place + 1, helper.make_node("Reshape", ["r", "sizes"], ["r2"], name="fixed"))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("output", ["map", "vector"])
def test_a_batch_that_the_original_alone_takes(original: Path, tmp_path: Path, output: str) -> None:
    converted = tmp_path / "converted.onnx"
    onnxscope.convert(original, converted, output=output, verify=False)
    good = onnxscope.verify(original, converted)
    batches = {trial["shapes"]["x"][0] for trial in good.document["runs"][0]["trials"]}
    assert good.equivalent
    assert len(batches) > 1
    bad = onnxscope.verify(original, reshaped(converted, [1, 0, 0, 0])).document
    assert (bad["equivalent"], bad["reason"]) == (False, "outputs")
    (row,) = bad["runs"][0]["outputs"]
    assert not row["ok"]
    assert "the candidate doesn't run on x [3, 2, 6, 6]" in row["limit_from"]


def test_a_map_that_runs_at_its_native_size_only(original: Path, tmp_path: Path) -> None:
    converted = tmp_path / "converted.onnx"
    onnxscope.convert(original, converted, verify=False)
    bad = onnxscope.verify(original, reshaped(converted, [0, 0, 4, 4])).document
    assert (bad["equivalent"], bad["reason"]) == (False, "dense")
    (row,) = bad["runs"][0]["dense"]
    assert (row["ok"], row["windows"]) == (False, 0)
    assert any("not run at 7x8" in note for note in bad["notes"])


def test_what_the_original_refuses_too_is_no_failure(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that can't do the original's layers at that size either says nothing of the candidate."""
    converted = tmp_path / "converted.onnx"
    onnxscope.convert(original, converted, verify=False)
    reshaped(converted, [0, 0, 4, 4])
    asked = []

    def refused(*arguments: object) -> bool:
        asked.append(arguments[1])
        return False

    monkeypatch.setattr(dense, "front_runs", refused)
    found = onnxscope.verify(original, converted)
    assert found.equivalent
    assert asked == ["x"]
    assert any("not run at 7x8" in note for note in found.document["notes"])


def test_whether_the_original_makes_its_map_of_a_larger_image(original: Path, tmp_path: Path) -> None:
    model = load(original)
    with Worker(60) as worker:
        runner = worker.runner(parse("cpu"))
        sizes = {(1, 2, 7, 8): True, (1, 9, 7, 8): False}  # the convolution takes 2 channels
        for size, runs in sizes.items():
            feeds = {"x": np.zeros(size, np.float32)}
            assert dense.front_runs(model, "x", feeds, ["r"], runner, str(tmp_path)) is runs
