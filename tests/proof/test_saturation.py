"""Sums of uint8 x int8 products, which onnxruntime cuts off at 16 bits on CPUs without VNNI."""

import platform
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from nets import net
from proof_kit import converted_map, saved

from onnxscope import runtime
from onnxscope.files.write import save
from onnxscope.proof import saturation
from onnxscope.proof.result import Request
from onnxscope.proof.session import Sessions
from onnxscope.proof.verify import verify

FLAGS = Path("/proc/cpuinfo")
KNOWN = platform.machine() == "x86_64" and FLAGS.exists()
CPU = runtime.Provider("cpu", "CPUExecutionProvider")
ZEROS = {"x": np.zeros((1, 16, 2, 2), np.float32)}
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

QDQ = ["q = QuantizeLinear(x, s, z)", "d = DequantizeLinear(q, s, z)", "f = Flatten(d)", "y = MatMul(f, w)"]


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
    return saved(folder, NETS[form], "1,16,2,2", **stored)


@pytest.mark.parametrize("form", NETS)
def test_sums_past_16_bits_are_no_false_alarm(tmp_path: Path, form: str) -> None:
    original = quantized(tmp_path, form)
    found = verify(Request(str(original), str(converted_map(original)), trials=3, layers=True))
    assert found.equivalent, found
    assert (saturation.NOTES["exact"] in found.notes) == saturation.found(onnxruntime)


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


@pytest.mark.skipif(not KNOWN, reason="the CPU's flags are those of Linux on x86-64")
def test_a_cpu_without_vnni_is_known() -> None:
    assert saturation.found(onnxruntime) == ("vnni" not in FLAGS.read_text())


@pytest.fixture
def cutting(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Sessions of a CPU that cuts sums off, whatever this one does: whether each asked for exact sums."""
    real, asked = runtime.open_session, []

    def opened(ort, model, options, provider, without=()):
        try:
            asked.append(options.get_session_config_entry(saturation.PRECISE[0]) == "1")
        except RuntimeError:  # no such entry
            asked.append(False)
        return real(ort, model, options, provider, without)

    monkeypatch.setattr(runtime, "open_session", opened)
    monkeypatch.setattr(saturation, "found", lambda ort: True)
    return asked


@pytest.mark.parametrize(
    ("level", "exact"), [("steps", True), ("all", True), ("none", False), ("deployed", False)]
)
def test_levels_that_ask_for_exact_sums(tmp_path: Path, cutting: list[bool], level: str, exact: bool) -> None:
    sessions = Sessions(lambda phase: None)
    found = sessions.run(str(quantized(tmp_path, "QGemm")), ZEROS, ["y"], level, CPU, "")
    assert found["y"].tolist() == [[0.0] * 6]  # of zeros the zero point, which stands for 0
    assert (cutting, sessions.sums()) == ([exact], "exact")


@pytest.mark.parametrize(("level", "exact"), [("steps", False), ("all", True)])
def test_floats_between_bytes_are_sums_of_bytes_where_they_are_fused(
    tmp_path: Path, cutting: list[bool], level: str, exact: bool
) -> None:
    path = saved(tmp_path, QDQ, "1,16,2,2", s=np.float32(0.1), z=np.uint8(0), w=np.ones((64, 6), np.float32))
    Sessions(lambda phase: None).run(str(path), ZEROS, ["y"], level, CPU, "")
    assert cutting == [exact]


def test_times_are_those_of_the_default(tmp_path: Path, cutting: list[bool]) -> None:
    Sessions(lambda phase: None).timed([(str(quantized(tmp_path, "QGemm")), [ZEROS], CPU)], 1, 0, 1.0)
    assert cutting == [False]


def test_an_optimizer_that_fails_is_done_without_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runtime.open_session

    def refusing(ort, model, options, provider, without=()):
        if without:
            raise RuntimeError("Attempt to replace the existing tensor")
        return real(ort, model, options, provider)

    monkeypatch.setattr(runtime, "open_session", refusing)
    monkeypatch.setattr(saturation, "found", lambda ort: True)
    sessions = Sessions(lambda phase: None)
    found = sessions.run(str(quantized(tmp_path, "QGemm")), ZEROS, ["y"], "steps", CPU, "")
    assert found["y"].tolist() == [[0.0] * 6]
    assert sessions.sums() == "cut off"
    assert "verify on a CPU with VNNI" in saturation.NOTES["cut off"]


def test_a_model_that_no_session_takes_is_not_told_as_cut_off(tmp_path: Path, cutting: list[bool]) -> None:
    path = saved(tmp_path, ["y = MatMulInteger(x, w)"], "1,64", w=np.ones((64, 6), np.int8))
    sessions = Sessions(lambda phase: None)
    with pytest.raises(Exception, match="MatMulInteger"):  # its input is float
        sessions.run(str(path), {}, ["y"], "steps", CPU, "")
    assert (cutting, sessions.sums()) == ([True, False], "exact")


def test_float_models_are_not_asked(tmp_path: Path) -> None:
    save(net(["y = MatMul(x, w)"], x="1,4", w=np.ones((4, 2), np.float32)), tmp_path / "net.onnx")
    found = verify(Request(str(tmp_path / "net.onnx"), str(tmp_path / "net.onnx"), trials=1))
    assert not any("cuts off sums" in note for note in found.notes)
