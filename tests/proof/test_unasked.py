"""What only a map of more than one cell can show is checked without being asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import net

import onnxscope
from onnxscope.files.write import save
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A small classifier of opset 11, whose Softmax coerces to two axes."""
    draw = np.random.default_rng(0)
    lines = ["c = Conv(x, k) strides=[2,2]", "r = Relu(c)", "f = Flatten(r)", "g = Gemm(f, w, b)"]
    weights = {"k": (4, 3, 3, 3), "w": (36, 5), "b": (5,)}
    stored = {name: draw.standard_normal(size).astype(np.float32) for name, size in weights.items()}
    save(net([*lines, "y = Softmax(g) axis=1"], opset=11, x="1,3,7,7", **stored), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def converted(original: Path) -> Path:
    """Its conversion to a map."""
    onnxscope.convert(str(original), str(original.with_name("map.onnx")), verify=False)
    return original.with_name("map.onnx")


def test_a_softmax_over_the_wrong_axis_of_the_map_is_caught(original: Path, converted: Path) -> None:
    """At one cell per image a softmax over (W, C) below opset 13 is the one over C; at 2x3 cells it isn't."""
    model = onnx.load(converted)
    (softmax,) = [node for node in model.graph.node if node.op_type == "Softmax"]
    softmax.attribute[0].i = 2
    wrong = converted.with_name("wrong.onnx")
    onnx.save(model, wrong)
    found = verify(Request(str(original), str(wrong), trials=1))
    assert (found.equivalent, found.reason) == (False, "dense")
    assert all(output.ok for output in found.runs[0].outputs)  # the native size shows nothing


def test_the_right_conversion_passes_on_a_small_map(original: Path, converted: Path) -> None:
    found = verify(Request(str(original), str(converted), trials=1))
    assert found.equivalent
    (dense,) = found.runs[0].dense
    assert (dense.windows, dense.ok, dense.border_effect) == (6, True, None)
