"""Quantized heads on an input that is their map, and their comparison on every window."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime as ort
from nets import net

from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.graph import Model
from onnxscope.proof import saturation

RNG = np.random.default_rng(12)
F32 = np.float32


def run(model: Model, x: np.ndarray) -> np.ndarray:
    """The output as written, with exact sums of bytes on CPUs that cut them off."""
    settings, levels, more = ort.SessionOptions(), ort.GraphOptimizationLevel, {}
    settings.graph_optimization_level = levels.ORT_DISABLE_ALL
    if saturation.found(ort):
        settings.graph_optimization_level = levels.ORT_ENABLE_EXTENDED
        settings.add_session_config_entry(*saturation.PRECISE)
        model, more = saturation.unshared(model), {"disabled_optimizers": saturation.OTHERS}
    session = ort.InferenceSession(dumps(model), settings, providers=["CPUExecutionProvider"], **more)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def integers(*shape: int) -> np.ndarray:
    return RNG.integers(-128, 128, shape).astype(np.int8)


def scales(count: int) -> np.ndarray:
    return RNG.uniform(0.005, 0.02, count).astype(F32)


S, Z = np.array(0.04, F32), np.array(117, np.uint8)
MAP = (3, 4, 5)
CELLS = 60


def quantized(lines: list[str], *, opset: int = 17, x: str = "N,3,4,5", **values: np.ndarray) -> Model:
    """A head on the input itself; `s`, `z` quantize activations."""
    given = {"s": S, "z": Z, **values}
    read = set(re.findall(r"\w+", " ".join(lines)))
    used = {k: v for k, v in given.items() if k in read}
    built = net(lines, x=x, opset=opset, **used)
    proto = onnx.load_from_string(dumps(built))
    if all(not node.domain for node in proto.graph.node):
        proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    else:
        proto.graph.output[0].CopyFrom(
            onnx.helper.make_tensor_value_info(proto.graph.output[0].name, 1, None)
        )
    return loads(proto.SerializeToString())


def equal_on_windows(original: Model, candidate: Model, *, batch: int = 2, steps: float = 0.0) -> None:
    """Every cell of a 7x8 input's map is the original on its 4x5 window, up to `steps`."""
    x = RNG.standard_normal((batch, 3, 7, 8)).astype(F32)
    found = run(candidate, x)
    assert found.shape[2:] == (4, 4)
    for i, j in np.ndindex(4, 4):
        expected = run(original, x[:, :, i : i + 4, j : j + 5])
        np.testing.assert_allclose(found[:, :, i, j], expected, rtol=0, atol=steps)
