"""Conversions as `convert` writes them are proved: folded batches layer by layer, filled biases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import net

import onnxscope
from onnxscope.files.write import save
from onnxscope.proof.links import Folding
from onnxscope.proof.result import Request, Verification
from onnxscope.proof.verify import verify

LINES = ["f = Flatten(x)", "a = Gemm(f, w, b)", "r = Relu(a)", "q = Gemm(r, v, c)", "y = Softmax(q) axis=1"]
SIZES = {"w": (36, 6), "b": (6,), "v": (6, 5), "c": (5,)}


def converted(folder: Path, form: str) -> tuple[str, str]:
    """A head on maps 4x3x3, batch 3, and its conversion, unproved."""
    draw = np.random.default_rng(3)
    stored = {name: draw.standard_normal(size).astype(np.float32) for name, size in SIZES.items()}
    paths = str(folder / "net.onnx"), str(folder / "map.onnx")
    save(net(LINES, x="3,4,3,3", **stored), paths[0])
    onnxscope.convert(paths[0], paths[1], form=form, verify=False)
    return paths


def layers(found: Verification) -> dict[str, bool]:
    return {layer.name: layer.ok for run in found.runs for layer in run.layers}


@pytest.mark.parametrize("form", ["conv", "fold", "interleave", "rows"])
def test_every_layer_is_recomputed_in_every_form(tmp_path: Path, form: str) -> None:
    original, candidate = converted(tmp_path, form)
    found = verify(Request(original, candidate, trials=1))
    assert found.equivalent, found.reason
    local = {name for name in layers(found) if "(" not in name}
    assert local == {"a", "r", "q", "y"}


@pytest.mark.parametrize("form", ["fold", "interleave"])
def test_a_changed_op_inside_the_chain_is_named(tmp_path: Path, form: str) -> None:
    original, candidate = converted(tmp_path, form)
    model = onnx.load(candidate)
    (relu,) = [node for node in model.graph.node if node.op_type == "Relu"]
    relu.op_type = "LeakyRelu"
    onnx.save(model, candidate)
    found = verify(Request(original, candidate, trials=1))
    assert not found.equivalent
    outcome = layers(found)
    assert (outcome["a"], outcome["r"]) == (True, False)


def test_unfolding_by_hand() -> None:
    long = np.arange(12).reshape(1, 1, 2, 6)  # two rows of 3 images with 2 cells each
    fold, interleave = (Folding(name, {}).unfolded(long, 3) for name in ("fold", "interleave"))
    assert fold.tolist() == [[[[0, 1], [6, 7]]], [[[2, 3], [8, 9]]], [[[4, 5], [10, 11]]]]
    assert interleave.tolist() == [[[[0, 3], [6, 9]]], [[[1, 4], [7, 10]]], [[[2, 5], [8, 11]]]]


@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 6)])
def test_a_bias_of_one_number_fills_every_feature(tmp_path: Path, shape: tuple[int, ...]) -> None:
    stored = {"w": np.ones((36, 6), np.float32), "b": np.full(shape, 0.5, np.float32)}
    save(net(["f = Flatten(x)", "y = Gemm(f, w, b)"], x="3,4,3,3", **stored), tmp_path / "net.onnx")
    assert onnxscope.convert(tmp_path / "net.onnx", tmp_path / "map.onnx").proof
