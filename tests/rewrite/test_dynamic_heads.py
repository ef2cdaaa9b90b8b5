"""Heads whose scales are computed as they run: dynamic quantization on maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conversions import converted
from quantized_nets import CELLS, F32, MAP, RNG, equal_on_windows, integers, quantized, run, scales

from onnxscope.files.write import save
from onnxscope.graph import Model
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify
from onnxscope.rewrite.fc_to_conv import plan
from onnxscope.rewrite.plan import Options

DYNAMIC = [
    "f = Flatten(x)",
    "q, qs, qz = DynamicQuantizeLinear(f)",
    "m = Mul(qs, ws)",
    "i = MatMulInteger(q, wi, qz, wz)",
    "c = Cast(i) to=1",
    "p = Mul(c, m)",
    "a = Add(p, b)",
    "y = Relu(a)",
]


def dynamic(channels: bool, zero: int = 0) -> Model:
    return quantized(
        DYNAMIC,
        wi=integers(CELLS, 6),
        ws=scales(6) if channels else np.array(0.01, F32),
        wz=np.zeros(6, np.int8) if channels else np.array(zero, np.int8),
        b=RNG.standard_normal(6).astype(F32),
    )


def test_dynamic_quantization_per_channel_is_refused_as_a_convolution() -> None:
    made = plan(dynamic(True), Options(form="conv"))
    assert made.edit is None
    assert made.refusals[0].reason == (
        "MatMulInteger i has several zero points, a ConvInteger takes one; --form rows keeps it"
    )


@pytest.mark.parametrize("zero", [0, 7])
def test_dynamic_quantization_is_an_integer_convolution(zero: int) -> None:
    """At the native size bit for bit: the same integers, the same scale."""
    model = dynamic(False, zero)
    made, candidate = converted(model, form="conv")
    (conv,) = [node for node in candidate.graph.nodes if node.op == "ConvInteger"]
    weight = candidate.graph.initializers[conv.inputs[1]]
    expected = model.graph.initializers["wi"].array().T.reshape(6, *MAP)
    np.testing.assert_array_equal(weight.array(), expected)
    assert made.edit is not None
    assert made.edit.exactness == "approximate"
    assert "scale from all windows together" in made.notes[0]
    x = RNG.standard_normal((2, 3, 4, 5)).astype(F32)
    np.testing.assert_array_equal(run(candidate, x).reshape(2, 6), run(model, x))
    equal_on_windows(model, candidate, steps=0.02 * CELLS**0.5 * 2)


def test_dynamic_quantization_in_a_drop_in_is_exact() -> None:
    made, candidate = converted(dynamic(False), output="vector")
    assert made.edit is not None
    assert (made.edit.exactness != "approximate", made.notes) == (True, ())
    assert {node.op for node in candidate.graph.nodes} >= {"ConvInteger", "Flatten"}


@pytest.mark.parametrize(("form", "channels"), [("conv", False), ("rows", False), ("rows", True)])
def test_a_dynamic_head_is_proved_at_its_native_size(form: str, channels: bool, tmp_path: Path) -> None:
    model = dynamic(channels)
    _, candidate = converted(model, form=form)
    save(model, tmp_path / "a.onnx")
    save(candidate, tmp_path / "b.onnx")
    found = verify(Request(str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"), trials=1))
    assert found.equivalent, found.notes
    assert any("takes one scale from all windows together" in note for note in found.notes)


def test_signed_activations_are_no_integer_convolution() -> None:
    lines = ["q = QuantizeLinear(x, s, zs)", "f = Flatten(q)", "i = MatMulInteger(f, wi)", "y = Cast(i) to=1"]
    model = quantized(lines, wi=integers(CELLS, 6), zs=np.array(3, np.int8))
    made = plan(model, Options(form="conv"))
    assert "signed integers" in made.refusals[0].reason
    _, candidate = converted(model, form="rows")
    equal_on_windows(model, candidate)


@pytest.mark.parametrize("channels", [False, True])
def test_dynamic_quantize_mat_mul_on_rows(channels: bool) -> None:
    lines = ["f = Flatten(x)", "a = com.microsoft:DynamicQuantizeMatMul(f, wi, ws, wz, b)", "y = Relu(a)"]
    model = quantized(
        lines, wi=integers(CELLS, 6), ws=scales(6) if channels else np.array(0.01, F32),
        wz=np.zeros(6, np.int8) if channels else np.array(0, np.int8), b=RNG.standard_normal(6).astype(F32),
    )  # fmt: skip
    assert "has its scales inside" in plan(model).refusals[0].reason
    made, candidate = converted(model, form="rows")
    assert "scale from all windows together" in made.notes[0]
    x = RNG.standard_normal((2, 3, 4, 5)).astype(F32)
    np.testing.assert_array_equal(run(candidate, x).reshape(2, 6), run(model, x))
    equal_on_windows(model, candidate, steps=0.02 * CELLS**0.5 * 2)


@pytest.mark.parametrize("channels", [False, True])
def test_dynamic_quantization_on_rows(channels: bool) -> None:
    """Per channel the scale of the map is multiplied by a vector, which serves all rows."""
    model = dynamic(channels)
    made, candidate = converted(model, form="rows")
    assert made.edit is not None
    assert made.edit.exactness == "approximate"
    assert "scale from all windows together" in made.notes[0]
    x = RNG.standard_normal((2, 3, 4, 5)).astype(F32)
    np.testing.assert_array_equal(run(candidate, x).reshape(2, 6), run(model, x))  # native: bit for bit
    steps = 0.02 * CELLS**0.5 * 2  # rounding of 60 inputs, each weight below 1.28
    equal_on_windows(model, candidate, steps=steps)


def test_a_scale_from_the_map_in_front_serves_all_rows() -> None:
    lines = ["q, qs, qz = DynamicQuantizeLinear(x)", "f = Flatten(q)", "i = MatMulInteger(f, wi, qz, wz)",
             "c = Cast(i) to=1", "y = Mul(c, qs)"]  # fmt: skip
    model = quantized(lines, wi=integers(CELLS, 6), wz=np.array(0, np.int8))
    _, candidate = converted(model, form="rows")
    x = RNG.standard_normal((1, 3, 4, 8)).astype(F32)
    left, right = x.copy(), x.copy()
    found = run(candidate, x)
    assert found.shape == (1, 6, 1, 4)
    # the same range in every window, so the same scale: the crops are exact
    for image in (left, right):
        image[..., 3, 3] = [[4.0, -4.0, 1.0]]
    found = run(candidate, left)
    for j in range(4):
        np.testing.assert_array_equal(found[:, :, 0, j], run(model, left[..., j : j + 5]))
