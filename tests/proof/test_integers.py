"""Layers in integer arithmetic, recomputed: exact sums, one rounding."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from proof_kit import converted_map, saved

from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify

FRONT, BACK = "q = QuantizeLinear(x, s, z)", "y = DequantizeLinear(g, o, p)"
NETS = {
    "QGemm": (FRONT, "f = Flatten(q)", "g = com.microsoft:QGemm(f, s, z, w, t, v, b, o, p) transB=1", BACK),
    "QLinearMatMul": (FRONT, "f = Flatten(q)", "g = QLinearMatMul(f, s, z, w, t, v, o, p)", BACK),
}


def quantized(folder: Path, form: str) -> Path:
    """A head of 36 -> 5 in 8 bits, a scale and zero point for each of its outputs where that is allowed."""
    draw = np.random.default_rng(3)
    weight = draw.integers(-90, 90, (5, 36)).astype(np.int8)
    each = form == "QLinearMatMul"
    stored = {
        "s": np.float32(0.02),
        "z": np.uint8(120),
        "w": weight.T.copy() if each else weight,
        "t": draw.uniform(0.01, 0.02, 5).astype(np.float32) if each else np.float32(0.01),
        "v": np.zeros(5, np.int8) if each else np.int8(0),
        "b": draw.integers(-2000, 2000, 5).astype(np.int32),
        "o": np.float32(0.05),
        "p": np.uint8(130),
    }
    return saved(folder, NETS[form], "1,4,3,3", **stored)


@pytest.mark.parametrize("form", NETS)
def test_a_right_conversion_gives_every_step(tmp_path: Path, form: str) -> None:
    original = quantized(tmp_path, form)
    found = verify(Request(str(original), str(converted_map(original)), trials=2))
    assert found.equivalent, found
    (row,) = [row for row in found.runs[0].layers if row.name == "g"]
    assert "exact integer sums" in row.limit_from
    assert row.max_abs <= row.limit
    assert not any("not recomputed" in note for note in found.notes)


@pytest.mark.parametrize("form", NETS)
@pytest.mark.parametrize("name", ["w", "o", "t"])
def test_a_changed_number_is_named_by_its_layer(tmp_path: Path, form: str, name: str) -> None:
    """A thousandth of a scale moves some values over the middle of two steps."""
    original = quantized(tmp_path, form)
    model = onnx.load(converted_map(original))
    (stored,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    array = numpy_helper.to_array(stored).copy()
    if name == "w":
        array.flat[7] = -array.flat[7] or 64
    else:
        array = (array * np.float32(1.001)).astype(np.float32)
    stored.CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "wrong.onnx")
    found = verify(Request(str(original), str(tmp_path / "wrong.onnx"), trials=20))
    assert (found.equivalent, found.runs[0].first_divergence) == (False, "g")
