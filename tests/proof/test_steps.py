"""Quantized pairs: no step as written, one where every optimisation is on."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import net
from onnx import numpy_helper

import onnxscope
from onnxscope.files.read import load
from onnxscope.files.write import save
from onnxscope.proof import steps
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify

SCALE = np.float32(0.05)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return quantized(tmp_path)


def quantized(tmp_path: Path, front: tuple[str, ...] = ("f = Flatten(xd)",)) -> Path:
    """A head in QDQ form: weights in int8, the output dequantized with one scale."""
    draw = np.random.default_rng(4)
    lines = [
        "xq = QuantizeLinear(x, s, z)",
        "xd = DequantizeLinear(xq, s, z)",
        *front,
        "wd = DequantizeLinear(w, ws, wz)",
        "g = Gemm(f, wd) transB=1",
        "h = Identity(g)",
        "q = QuantizeLinear(h, ys, z)",
        "y = DequantizeLinear(q, ys, z)",
    ]
    stored = {
        "s": np.float32(0.02), "z": np.uint8(128), "ys": SCALE, "ws": np.float32(0.01), "wz": np.int8(0),
        "w": draw.integers(-100, 100, (5, 36)).astype(np.int8),
    }  # fmt: skip
    save(net(lines, opset=13, x="1,4,3,3", **stored), tmp_path / "qdq.onnx")
    return tmp_path / "qdq.onnx"


def test_a_step_is_the_scale_of_the_output(original):
    model = load(original)
    assert steps.step_of(model, "y") == pytest.approx(float(SCALE))
    assert steps.step_of(model, "g") is None


def test_a_right_conversion_has_no_step_as_written_and_at_most_one_fused(original, tmp_path):
    target = tmp_path / "map.onnx"
    onnxscope.convert(str(original), str(target), verify=False)
    found = verify(Request(str(original), str(target), trials=3))
    written, fused = found.runs[0].outputs
    assert found.equivalent, found
    assert (written.name, written.max_abs, fused.name) == ("y", 0.0, "y (all optimisations)")
    assert fused.limit == pytest.approx(float(SCALE), rel=2e-3)
    assert "1 step of 0.05" in fused.limit_from
    assert all(row.ok and row.max_abs == 0 for row in found.runs[0].dense)
    assert not [note for note in found.notes if note.startswith("not run")]


@pytest.mark.parametrize(("worth", "ok"), [(1, [False, True]), (2, [False, False])])
def test_steps_in_every_value_fail_where_the_graph_runs_as_written(original, tmp_path, worth, ok):
    """A bias of one step: allowed to a fused kernel, not to a graph as written. Two: never."""
    model = onnx.load(original)
    quantize = next(node for node in model.graph.node if node.output[0] == "q")
    quantize.input[0] = "moved"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(worth) * SCALE, "step"))
    model.graph.node.insert(6, onnx.helper.make_node("Add", ["h", "step"], ["moved"]))
    other = tmp_path / "moved.onnx"
    onnx.save(model, other)
    found = verify(Request(str(original), str(other), trials=1))
    assert not found.equivalent
    assert [row.ok for row in found.runs[0].outputs] == ok


def test_a_flattened_value_is_no_divergence_of_its_map(tmp_path):
    """The vector that is quantized behind the flatten has its name on a map in the conversion."""
    front = ("v = Flatten(xd)", "fq = QuantizeLinear(v, s, z)", "f = DequantizeLinear(fq, s, z)")
    before, after = quantized(tmp_path, front), tmp_path / "map.onnx"
    onnxscope.convert(str(before), str(after), verify=False)
    assert {"fq"} <= {name for node in onnx.load(after).graph.node for name in node.output}
    assert verify(Request(str(before), str(after), trials=1, layers=True)).equivalent
