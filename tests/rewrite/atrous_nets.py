"""Small networks for denser maps, and the comparison of their common cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from conversions import converted
from nets import net

from onnxscope.expr import bind
from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.graph import Model

MODELS = Path(__file__).parents[2] / "models"
RNG = np.random.default_rng(77)


def normal(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def run(model: Model, x: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(dumps(model), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def typed(model: Model) -> Model:
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(dumps(model)), strict_mode=True)
    return loads(proto.SerializeToString())


def network(lines: list[str], size: tuple[int, ...], *, opset: int = 17, head: str = "", **given) -> Model:
    """Layers from x [1, 2, *size] to `f`, and a head of 5 classes on it, flattened or as `head` says."""
    name = lines[-1].split(" = ")[0]
    front = net(lines, x=",".join(map(str, (1, 2, *size))), opset=opset, **given)
    shape = run(front, np.zeros((1, 2, *size), np.float32))[0].shape
    pooled = head or f"v = Flatten({name})"
    count = int(np.prod(shape[1:])) if not head else shape[1]
    rest = [pooled, *(["v = Flatten(g)"] if head else []), "y = Gemm(v, wy, by)"]
    weights = {"wy": normal(count, 5), "by": normal(5)}
    return typed(net([*lines, *rest], x=",".join(map(str, (1, 2, *size))), opset=opset, **given, **weights))


def assert_common(model: Model, stride: int, own: int, *, grown: tuple[int, ...] = (0, 3, 7, 16)) -> Model:
    """The dense map holds the strided one, at the native size and at larger ones, square or not."""
    _, strided = converted(model)
    made, dense = converted(model, stride=stride)
    place = made.geometry[0]
    assert place.stride is not None
    assert set(place.stride) == {stride}
    native = [int(n) for n in model.graph.inputs[0].type.shape[2:]]
    names = [str(n) for n in dense.graph.inputs[0].type.shape[2:]]
    for more in grown:
        size = [n + more * (1 + axis % 2) for axis, n in enumerate(native)]
        x = RNG.standard_normal((1, 2, *size)).astype(np.float32)
        before, after = run(strided, x)[0], run(dense, x)[0]
        assert after.shape[2:] == tuple(bind(e, dict(zip(names, size, strict=True))) for e in place.size)
        common = after[(..., *(slice(None, None, own // stride) for _ in size))]
        assert common.shape == before.shape, (before.shape, after.shape, size)
        np.testing.assert_allclose(common, before, rtol=0, atol=2e-6 * max(1.0, np.abs(before).max()))
    return dense


C3 = {"w1": normal(4, 2, 3, 3), "w2": normal(4, 4, 3, 3), "w3": normal(4, 4, 3, 3)}
TRAPS = {
    # pads behind a lost stride grow with the dilation
    "padded": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "b = Conv(a, w2) strides=[2,2] pads=[1,1,1,1]",
        "f = Conv(b, w3) pads=[1,1,1,1]",
    ],
    "asymmetric": [
        "a = Conv(x, w1) strides=[2,2] pads=[0,1,1,0]",
        "f = Conv(a, w2) strides=[2,2] pads=[1,0,0,1]",
    ],
    # onnxruntime refuses pads as large as the kernel: they become a Pad, of -inf in front of a maximum
    "padded pool": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = MaxPool(a) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1]",
        "c = Conv(b, w2) pads=[1,1,1,1]",
        "f = MaxPool(c) kernel_shape=[3,3] pads=[1,1,1,1]",
    ],
    # a remainder that the strided layer drops is seen by cells in between, never by common ones
    "remainder": ["a = MaxPool(x) kernel_shape=[3,3] strides=[2,2]", "f = Conv(a, w1) strides=[2,2]"],
    # windows that hang over the end are padding
    "ceil_mode": [
        "a = MaxPool(x) kernel_shape=[2,2] strides=[2,2] ceil_mode=1",
        "b = Conv(a, w1) pads=[1,1,1,1]",
        "f = MaxPool(b) kernel_shape=[3,3] strides=[2,2] ceil_mode=1",
    ],
    "ceil_mode, padded": [
        "a = MaxPool(x) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1] ceil_mode=1",
        "f = Conv(a, w1) strides=[2,2] pads=[1,1,1,1]",
    ],
    "ceil_mode mean": [
        "a = AveragePool(x) kernel_shape=[3,3] strides=[2,2] ceil_mode=1",
        "f = Conv(a, w1) strides=[2,2] pads=[1,1,1,1]",
    ],
    "stride above kernel": ["a = Conv(x, p1) strides=[2,2]", "f = Conv(a, w2) strides=[2,2]"],
    "residual": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "b = Conv(a, w2) strides=[2,2] pads=[1,1,1,1]",
        "c = Relu(b)",
        "d = Conv(c, w3) pads=[1,1,1,1]",
        "s = Conv(a, q1) strides=[2,2]",
        "f = Add(d, s)",
    ],
    "branches": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "b = MaxPool(a) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1]",
        "c = Conv(a, w2) strides=[2,2] pads=[1,1,1,1]",
        "f = Concat(b, c) axis=1",
    ],
    "channels last": [
        "a = Conv(x, w1) strides=[2,2]",
        "t = Transpose(a) perm=[0,2,3,1]",
        "u = Mul(t, m1)",
        "b = Transpose(u) perm=[0,3,1,2]",
        "f = Conv(b, w2) strides=[2,2]",
    ],
    # a global mean inside the network is the mean of the common cells
    "gate": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "g = GlobalAveragePool(a)",
        "h = Sigmoid(g)",
        "b = Mul(a, h)",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]",
    ],
    "explicit pad": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = Pad(a, pp)",
        "f = Conv(b, w2) strides=[2,2]",
    ],
    "grouped": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = Conv(a, g1) group=4 strides=[2,2] pads=[1,1,1,1]",
        "f = Conv(b, q1)",
    ],
    "dilated already": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = Conv(a, w2) dilations=[2,2] pads=[2,2,2,2]",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]",
    ],
    "normalized": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "b = LRN(a) size=3",
        "c = BatchNormalization(b, m1, m1, m1, m2)",
        "f = MaxPool(c) kernel_shape=[2,2] strides=[2,2]",
    ],
    "SAME at stride 1, VALID": [
        "a = Conv(x, w1) strides=[2,2] auto_pad=VALID",
        "b = Conv(a, w2) auto_pad=SAME_UPPER",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2] auto_pad=SAME_UPPER",
    ],
    "mean of a padded map": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = AveragePool(a) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1]",
        "f = AveragePool(b) kernel_shape=[3,3] pads=[1,1,1,1]",
    ],
    "mean that counts its padding": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = AveragePool(a) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1] count_include_pad=1",
        "f = AveragePool(b) kernel_shape=[2,2] pads=[1,0,0,1] count_include_pad=1",
    ],
}
EXTRA = {
    "p1": normal(4, 2, 1, 1),
    "q1": normal(4, 4, 1, 1),
    "g1": normal(4, 1, 3, 3),
    "m1": normal(4),
    "m2": np.abs(normal(4)) + 1,
    "pp": np.array([0, 0, 1, 0, 0, 0, 1, 2], np.int64),
}


def built(lines: list[str], **more) -> Model:
    read = " ".join(lines)
    given = {k: v for k, v in {**C3, **EXTRA}.items() if f" {k}," in read or f" {k})" in read}
    return network(lines, (27, 30), **given, **more)
