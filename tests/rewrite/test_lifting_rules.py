"""Each lifting rule on a case where the naive rewrite (the same node on the 4-D value) is wrong.

A row is a head behind `f = Flatten(x)` with x [N, 3, 2, 2], `a = Gemm(f, w)` with 6 features. The converted
map on a larger input must equal the original head on every 2x2 window of it.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from nets import net
from onnx import helper

from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.graph import Model
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options

RNG = np.random.default_rng(11)
VECTOR = np.linspace(-1.5, 1.5, 6).astype(np.float32)
GAMMA, BETA = VECTOR + 3, VECTOR - 1
FLAT = "f = Flatten(x)"


def run(model: Model, x: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(dumps(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def typed(lines: list[str], opset: int, outputs: list[str], **values: object) -> Model:
    made = net(lines, opset=opset, ir=8 if opset > 14 else 4, outputs=outputs, x="N,3,2,2", **values)
    proto = onnx.load_from_string(dumps(made))
    results = run(made, np.zeros((5, 3, 2, 2), np.float32))
    for info, result in zip(proto.graph.output, results, strict=True):
        sizes = ["N" if axis == 0 and size == 5 else size for axis, size in enumerate(result.shape)]
        kind = helper.np_dtype_to_tensor_dtype(result.dtype)
        info.CopyFrom(helper.make_tensor_value_info(info.name, kind, sizes))
    return loads(proto.SerializeToString())


def check(model: Model, layers: int) -> Model:
    """Convert, and compare every cell of a 5x4 input with the original on the window there."""
    made = plan(model)
    assert (len(made.conversions), made.refusals) == (layers, ())
    candidate = convert(made)
    onnx.checker.check_model(onnx.load_from_string(dumps(candidate)), full_check=True)
    x = RNG.standard_normal((3, 3, 5, 4)).astype(np.float32)
    maps = run(candidate, x)
    for row, column in itertools.product(range(4), range(3)):
        window = np.ascontiguousarray(x[:, :, row : row + 2, column : column + 2])
        for expected, found in zip(run(model, window), maps, strict=True):
            assert found.shape[2:] == (4, 3)
            cell = found[:, :, row, column].reshape(expected.shape)
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(cell, expected, rtol=0, atol=2e-6 * max(1, np.abs(expected).max()))
            else:
                np.testing.assert_array_equal(cell, expected)
    return candidate


AXIS = np.array([1])
AFTER_FC = [
    # id, opset, lines behind `a` [N, 6], constants; why the naive node is wrong
    ("a vector broadcasts over the width", 13, ["y = Add(a, v)"], {"v": VECTOR}),
    ("a row broadcasts over height and width", 13, ["y = Mul(v, a)"], {"v": VECTOR[None]}),
    ("a number in two axes", 13, ["s = Sub(a, v)", "y = Relu(s)"], {"v": VECTOR[:1, None]}),
    ("PRelu slopes", 11, ["y = PRelu(a, v)"], {"v": VECTOR}),
    (
        "Where and Greater",
        13,
        ["g = Greater(a, z)", "y = Where(g, a, v)"],
        {"v": VECTOR, "z": VECTOR[::-1].copy()},
    ),
    ("Pow with an exponent per feature", 13, ["b = Abs(a)", "y = Pow(b, v)"], {"v": np.abs(VECTOR) + 1}),
    ("Softmax below 13 takes all axes from 1 on", 11, ["y = Softmax(a)"], {}),
    ("Softmax below 13, axis -1", 12, ["y = LogSoftmax(a) axis=-1"], {}),
    ("Softmax from 13 on is over the width", 13, ["y = Softmax(a)"], {}),
    ("Hardmax", 13, ["y = Hardmax(a) axis=1"], {}),
    ("ArgMax axis -1", 13, ["y = ArgMax(a) axis=-1 keepdims=0"], {}),
    ("ReduceMax over axis -1", 13, ["y = ReduceMax(a) axes=[-1] keepdims=0"], {}),
    ("ReduceMean, axes as input", 18, ["y = ReduceMean(a, k) keepdims=1"], {"k": np.array([-1])}),
    ("ReduceSum, axes as input", 13, ["y = ReduceSum(a, k) keepdims=0"], {"k": AXIS}),
    ("LpNormalization axis -1", 11, ["y = LpNormalization(a)"], {}),
    (
        "LayerNormalization over the features",
        17,
        ["y = LayerNormalization(a, g, b)"],
        {"g": GAMMA, "b": BETA},
    ),
    (
        "BatchNormalization",
        9,
        ["y = BatchNormalization(a, g, b, m, s)"],
        {"g": GAMMA, "b": BETA, "m": VECTOR, "s": GAMMA},
    ),
    ("Concat axis -1", 13, ["t = Tanh(a)", "y = Concat(a, t) axis=-1"], {}),
    ("Split axis -1", 13, ["s, t = Split(a, k) axis=-1", "y = Concat(t, s) axis=1"], {"k": np.array([2, 4])}),
    (
        "Slice axis -1",
        13,
        ["y = Slice(a, s, e, k)"],
        {"s": np.array([1]), "e": np.array([5]), "k": np.array([-1])},
    ),
    (
        "Slice of two axes, the batch whole",
        13,
        ["y = Slice(a, s, e, k, t)"],
        {"s": np.array([0, 1]), "e": np.array([2**63 - 1, 6]), "k": np.array([0, -1]), "t": np.array([1, 2])},
    ),
    ("Slice without axes", 9, ["y = Slice(a) starts=[0,1] ends=[2147483647,-1]"], {}),
    ("Slice by attributes", 9, ["y = Slice(a) starts=[1] ends=[4] axes=[1]"], {}),
    ("Gather on the features", 13, ["y = Gather(a, k) axis=-1"], {"k": np.array([4, 0, 1])}),
    ("Gather of one feature drops the axis", 13, ["y = Gather(a, k) axis=1"], {"k": np.array(2)}),
    ("TopK axis -1", 13, ["y, i = TopK(a, k)"], {"k": np.array([2])}),
    ("an axis comes and goes", 13, ["u = Unsqueeze(a, k)", "r = Relu(u)", "y = Squeeze(r, k)"], {"k": AXIS}),
    ("a residual add", 13, ["t = Tanh(a)", "y = Add(a, t)"], {}),
    ("Clip, Sqrt", 13, ["c = Clip(a, l)", "y = Sqrt(c)"], {"l": np.array(0.25, np.float32)}),
]


@pytest.mark.parametrize(
    ("opset", "lines", "values"), [row[1:] for row in AFTER_FC], ids=[row[0] for row in AFTER_FC]
)
def test_behind_a_layer(opset: int, lines: list[str], values: dict[str, np.ndarray]) -> None:
    outputs = ["y", "i"] if "y, i" in lines[-1] else ["y"]
    w = RNG.standard_normal((12, 6)).astype(np.float32)
    check(typed([FLAT, "a = Gemm(f, w, o)", *lines], opset, outputs, w=w, o=BETA, **values), 1)


def weight(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


LAYERS = [
    # id, opset, lines from x [N, 3, 2, 2] on, constants
    (
        "channels last: height, width, channel",
        13,
        ["t = Transpose(x) perm=[0,2,3,1]", FLAT.replace("x", "t"), "y = Gemm(f, w)"],
        {"w": weight(12, 6)},
    ),
    (
        "width, height, channel, as in the MTCNN nets",
        13,
        ["t = Transpose(x) perm=[0,3,2,1]", "f = Flatten(t)", "y = Gemm(f, w) transB=1"],
        {"w": weight(6, 12)},
    ),
    ("beta 0 is no 1", 13, [FLAT, "y = Gemm(f, w, c) beta=0.0"], {"w": weight(12, 6), "c": weight(6)}),
    (
        "alpha and beta",
        13,
        [FLAT, "y = Gemm(f, w, c) alpha=0.5 beta=2.0"],
        {"w": weight(12, 6), "c": weight(6)},
    ),
    ("a scalar bias", 13, [FLAT, "y = Gemm(f, w, c)"], {"w": weight(12, 6), "c": weight()}),
    ("a bias [1, M]", 13, [FLAT, "y = Gemm(f, w, c)"], {"w": weight(12, 6), "c": weight(1, 6)}),
    ("no bias before opset 11 is none", 11, [FLAT, "y = Gemm(f, w)"], {"w": weight(12, 6)}),
    (
        "the bias is the first operand of the Add",
        13,
        [FLAT, "m = MatMul(f, w)", "y = Add(c, m)"],
        {"w": weight(12, 6), "c": weight(6)},
    ),
    (
        "a scalar behind a MatMul",
        13,
        [FLAT, "m = MatMul(f, w)", "y = Add(m, c)"],
        {"w": weight(12, 6), "c": weight(1)},
    ),
    (
        "one weight, two uses of the product",
        13,
        [FLAT, "m = MatMul(f, w)", "b = Add(m, c)", "r = Relu(m)", "y = Add(b, r)"],
        {"w": weight(12, 6), "c": weight(6)},
    ),
    (
        "FusedGemm with its activation",
        13,
        [FLAT, "y = com.microsoft:FusedGemm(f, w, c) activation=LeakyRelu activation_alpha=0.25"],
        {"w": weight(12, 6), "c": weight(6)},
    ),
    (
        "FusedMatMul",
        13,
        [FLAT, "y = com.microsoft:FusedMatMul(f, w) transB=1 alpha=0.5"],
        {"w": weight(6, 12)},
    ),
    (
        "an average over the map is a window",
        13,
        ["g = GlobalAveragePool(x)", "f = Flatten(g)", "y = Gemm(f, w)"],
        {"w": weight(3, 6)},
    ),
    (
        "a sum over the map",
        13,
        ["f = ReduceSum(x, k) keepdims=0", "y = Gemm(f, w)"],
        {"w": weight(3, 6), "k": np.array([2, 3])},
    ),
    (
        "a maximum, axes from the end",
        13,
        ["f = ReduceMax(x) axes=[-1,-2] keepdims=0", "y = Gemm(f, w)"],
        {"w": weight(3, 6)},
    ),
    (
        "a pool of a channels-last map",
        13,
        ["t = Transpose(x) perm=[0,2,3,1]", "f = ReduceMean(t) axes=[1,2] keepdims=0", "y = MatMul(f, w)"],
        {"w": weight(3, 6)},
    ),
    (
        "a scalar on the flattened map",
        13,
        [FLAT, "s = Mul(f, c)", "y = Gemm(s, w)"],
        {"w": weight(12, 6), "c": weight()},
    ),
    (
        "shapes computed in the graph",
        13,
        [
            "h = Shape(x)",
            "n = Slice(h, o, l)",
            "q = Concat(n, m) axis=0",
            "f = Reshape(x, q)",
            "y = Gemm(f, w)",
        ],
        {"w": weight(12, 6), "o": np.array([0]), "l": np.array([1]), "m": np.array([-1])},
    ),
]


@pytest.mark.parametrize(
    ("opset", "lines", "values"), [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS]
)
def test_a_layer(opset: int, lines: list[str], values: dict[str, np.ndarray]) -> None:
    candidate = check(typed(lines, opset, ["y"], **values), 1)
    assert not {n.op for n in candidate.graph.nodes} & {
        "Shape",
        "Slice",
        "Reshape",
        "Flatten",
        "Gemm",
        "MatMul",
    }


REFUSED = [
    # id, opset, lines behind `a` [N, 6], constants, the reason
    (
        "CumSum",
        13,
        ["c = CumSum(a, k)", "y = Relu(c)"],
        {"k": np.array(1)},
        "CumSum c has no convolutional twin here",
    ),
    ("Softmax over the batch", 13, ["y = Softmax(a) axis=0"], {}, "Softmax y has no convolutional twin here"),
    (
        "ReduceMax over everything",
        13,
        ["y = ReduceMax(a) keepdims=1"],
        {},
        "ReduceMax y has no convolutional twin",
    ),
    ("Gather on the batch", 13, ["y = Gather(a, k) axis=0"], {"k": np.array([0])}, "Gather y has no"),
    (
        "Slice of the batch",
        13,
        ["y = Slice(a, s, e, k)"],
        {"s": np.array([0, 1]), "e": np.array([1, 6]), "k": np.array([0, 1])},
        "Slice y has no convolutional twin",
    ),
    ("Expand", 13, ["y = Expand(a, k)"], {"k": np.array([2, 1, 6])}, "Expand y has no convolutional twin"),
]


@pytest.mark.parametrize(
    ("opset", "lines", "values", "reason"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_a_barrier_refuses_the_map(
    opset: int, lines: list[str], values: dict[str, np.ndarray], reason: str
) -> None:
    w = RNG.standard_normal((12, 6)).astype(np.float32)
    model = typed([FLAT, "a = Gemm(f, w)", *lines], opset, ["y"], w=w, **values)
    made = plan(model)
    assert made.edit is None
    assert reason in made.refusals[0].reason
    vector = convert(plan(model, Options(output="vector")))
    x = RNG.standard_normal((2, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(run(vector, x)[0], run(model, x)[0], rtol=0, atol=1e-5)


def test_a_constant_per_position_fits_one_size_only() -> None:
    model = typed([FLAT, "s = Mul(f, c)", "y = Gemm(s, w)"], 13, ["y"], w=weight(12, 6), c=weight(12))
    assert "a constant differs from cell to cell of the map" in plan(model).refusals[0].reason
    fixed = convert(plan(model, replace(Options(), size="fixed")))
    x = RNG.standard_normal((2, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(run(fixed, x)[0][:, :, 0, 0], run(model, x)[0], rtol=0, atol=1e-5)
