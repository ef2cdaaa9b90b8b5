"""Ops on rows with several outputs: a number for every row is a column of the matrix, not one for all."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from nets import net

from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options

RNG = np.random.default_rng(2)
LINES = ["f = Flatten(x)", "a = Gemm(f, w)", "l, m, d = LayerNormalization(a, g)"]


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def run(model, x):
    session = ort.InferenceSession(dumps(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(
    "lines",
    [
        ["y = Mul(m, d)"],  # both from rows, and the map of that
        ["t = ReduceSum(m, one) keepdims=1", "y = Neg(t)"],  # no op on rows: it reads the map of the mean
        ["s = Sub(a, m)", "y = Mul(s, d)"],
        ["y = Concat(l, m) axis=1"],
    ],
)
def test_means_and_deviations_of_a_layer_normalization(lines):
    untyped = net([*LINES, *lines], x="N,3,4,4", opset=17, w=normal(48, 6), g=normal(6), one=np.array([1]))
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(dumps(untyped)), strict_mode=True)
    model = loads(proto.SerializeToString())
    made = plan(model, Options(form="rows"))
    assert made.edit is not None, made.refusals
    candidate = convert(made)
    onnx.checker.check_model(onnx.load_from_string(dumps(candidate)), full_check=True)
    x = normal(2, 3, 6, 5)
    found = run(candidate, x)
    for row in range(3):
        for column in range(2):
            crop = np.ascontiguousarray(x[:, :, row : row + 4, column : column + 4])
            np.testing.assert_allclose(found[:, :, row, column], run(model, crop), rtol=0, atol=1e-4)
