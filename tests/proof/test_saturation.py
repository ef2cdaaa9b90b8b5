"""Sums of uint8 x int8 products, which onnxruntime cuts off at 16 bits on CPUs without VNNI."""

import platform
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from nets import net
from proof_kit import converted_map

from onnxscope import runtime
from onnxscope.files.write import save
from onnxscope.proof import saturation
from onnxscope.proof.result import Request
from onnxscope.proof.session import Sessions
from onnxscope.proof.verify import verify

FLAGS = Path("/proc/cpuinfo")
FRONT, BACK = "q = QuantizeLinear(x, s, z)", "y = DequantizeLinear(g, o, p)"
NETS = {
    "QGemm": (FRONT, "f = Flatten(q)", "g = com.microsoft:QGemm(f, s, z, w, t, v, , o, p)", BACK),
    "QLinearMatMul": (FRONT, "f = Flatten(q)", "g = QLinearMatMul(f, s, z, w, t, v, o, p)", BACK),
    "two": (
        FRONT,
        "f = Flatten(q)",
        "g = QLinearMatMul(f, s, z, w, t, v, o, p)",
        "h = QLinearMatMul(g, o, p, u, t, v, o, p)",
        "y = DequantizeLinear(h, o, p)",
    ),
    "MatMulInteger": (FRONT, "f = Flatten(q)", "g = MatMulInteger(f, w, z)", "y = Cast(g) to=1"),
}


def quantized(folder: Path, form: str) -> Path:
    """A head of 64 -> 6 whose weights use all of int8: two products add up to 64,770, 16 bits hold 32,767."""
    draw = np.random.default_rng(1)
    stored = {
        "s": np.float32(0.01),
        "z": np.uint8(0),
        "w": draw.choice(np.array([-127, 127], np.int8), (64, 6), p=(0.3, 0.7)),
        "u": draw.choice(np.array([-127, 127], np.int8), (6, 5)),
        "t": np.float32(0.01),
        "v": np.int8(0),
        "o": np.float32(1),
        "p": np.uint8(60),
    }
    read = " ".join(NETS[form])
    used = {name: value for name, value in stored.items() if f" {name}," in read or f" {name})" in read}
    save(net(NETS[form], opset=13, x="1,16,2,2", **used), folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("form", NETS)
def test_sums_past_16_bits_are_no_false_alarm(tmp_path: Path, form: str) -> None:
    original = quantized(tmp_path, form)
    found = verify(Request(str(original), str(converted_map(original)), trials=3, layers=True))
    assert found.equivalent, found
    assert (saturation.NOTE in found.notes) == saturation.found(onnxruntime)


@pytest.mark.parametrize("form", NETS)
def test_another_weight_of_full_range_is_found(tmp_path: Path, form: str) -> None:
    import onnx

    original = quantized(tmp_path, form)
    model = onnx.load(converted_map(original))
    (weight,) = [tensor for tensor in model.graph.initializer if tensor.dims and len(tensor.raw_data) == 384]
    data = bytearray(weight.raw_data)
    data[5] ^= 1
    weight.raw_data = bytes(data)
    onnx.save(model, tmp_path / "wrong.onnx")
    assert not verify(Request(str(original), str(tmp_path / "wrong.onnx"), trials=1)).equivalent


KNOWN = platform.machine() == "x86_64" and FLAGS.exists()


@pytest.mark.skipif(not KNOWN, reason="the CPU's flags are those of Linux on x86-64")
def test_a_cpu_without_vnni_is_known() -> None:
    assert saturation.found(onnxruntime) == ("vnni" not in FLAGS.read_text())


def test_an_optimizer_that_fails_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = runtime.open_session

    def refusing(ort, model, options, provider, without=()):
        if without:
            raise RuntimeError("Attempt to replace the existing tensor")
        return real(ort, model, options, provider)

    monkeypatch.setattr(runtime, "open_session", refusing)
    monkeypatch.setattr(saturation, "found", lambda ort: True)
    given = {"x": np.zeros((1, 16, 2, 2), np.float32)}
    path, cpu = str(quantized(tmp_path, "QGemm")), runtime.Provider("cpu", "CPUExecutionProvider")
    found = Sessions(lambda phase: None).run(path, given, ["y"], "steps", cpu, "")
    assert found["y"].tolist() == [[0.0] * 6]


def test_float_models_are_not_asked(tmp_path: Path) -> None:
    save(net(["y = MatMul(x, w)"], x="1,4", w=np.ones((4, 2), np.float32)), tmp_path / "net.onnx")
    found = verify(Request(str(tmp_path / "net.onnx"), str(tmp_path / "net.onnx"), trials=1))
    assert saturation.NOTE not in found.notes
