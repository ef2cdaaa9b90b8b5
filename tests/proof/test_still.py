"""Outputs that no rounding moves say nothing of what is inside: values of a conversion are compared then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import net

import onnxscope
from onnxscope.files.write import save
from onnxscope.proof.result import Request, Verification
from onnxscope.proof.verify import verify

LAST = {"saturated": "y = Softmax(h)", "indices": "y = ArgMax(h) axis=1 keepdims=0"}


def proved(folder: Path, last: str, activation: str = "Sigmoid") -> Verification:
    """The proof of a conversion whose backbone has `activation` where the original has Sigmoid."""
    draw = np.random.default_rng(2)
    lines = [
        "c = Conv(x, k)",
        "a = Sigmoid(c)",
        "b = Conv(a, l)",
        "f = Flatten(b)",
        "h = Gemm(f, w, v)",
        LAST[last],
    ]
    stored = {
        "k": draw.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "l": draw.standard_normal((4, 4, 3, 3)).astype(np.float32),
        "w": draw.standard_normal((64, 5)).astype(np.float32),
        "v": np.float32([1e6, 0, 0, 0, 0]),  # so the first class has everything, whatever the image
    }
    original, converted = folder / "original.onnx", folder / "converted.onnx"
    save(net(lines, opset=13, x="N,3,8,8", **stored), original)
    onnxscope.convert(original, converted, verify=False)
    model = onnx.load(converted)
    (node,) = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    node.op_type = activation
    onnx.save(model, converted)
    return verify(Request(str(original), str(converted), trials=1))


@pytest.mark.parametrize("last", LAST)
def test_a_right_conversion_passes_and_says_what_was_compared(last: str, tmp_path: Path) -> None:
    found = proved(tmp_path, last)
    assert found.equivalent, found
    assert any("no output moves under jitter" in note for note in found.notes)


@pytest.mark.parametrize("last", LAST)
def test_another_activation_is_caught_and_named(last: str, tmp_path: Path) -> None:
    found = proved(tmp_path, last, "Tanh")
    assert (found.equivalent, found.reason, found.runs[0].first_divergence) == (False, "layers", "a")
