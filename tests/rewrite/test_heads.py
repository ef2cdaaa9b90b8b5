"""Fully connected layers: which convolution each is, and why not."""

from __future__ import annotations

import numpy as np
import onnx.inliner
import onnx.parser
import pytest
from nets import net

from onnxscope.analysis import params
from onnxscope.analysis.shapes import infer
from onnxscope.files.read import loads
from onnxscope.graph import Model
from onnxscope.rewrite.fc_to_conv import plan
from onnxscope.rewrite.heads import HeadLayer, find


def heads(model: Model) -> list[HeadLayer]:
    facts = infer(model)
    return list(find(facts, params.count(facts)))


def verdicts(model: Model) -> list[str | None]:
    return [head.becomes or head.reason for head in heads(model)]


POOL = "p = MaxPool(x) kernel_shape=[2,2] strides=[2,2]"
X = {"x": "N,3,8,8"}
FC = {"w": (48, 10)}


@pytest.mark.parametrize(
    ("lines", "values", "expected"),
    [
        ([POOL, "f = Flatten(p)", "y = Gemm(f, w)"], {**X, **FC}, ["Conv 4x4x3 -> 10"]),
        ([POOL, "f = Flatten(p)", "y = Gemm(f, w) transB=1"], {**X, "w": (10, 48)}, ["Conv 4x4x3 -> 10"]),
        ([POOL, "f = Flatten(p) axis=-3", "y = MatMul(f, w)"], {**X, **FC}, ["Conv 4x4x3 -> 10"]),
        (
            [POOL, "f = Reshape(p, s)", "y = Gemm(f, w)"],
            {**X, **FC, "s": np.array([0, -1])},
            ["Conv 4x4x3 -> 10"],
        ),
        (
            [POOL, "f = Reshape(p, s)", "y = Gemm(f, w)"],
            {**X, **FC, "s": np.array([-1, 48])},
            ["Conv 4x4x3 -> 10"],
        ),
        (
            [POOL, "t = Transpose(p) perm=[0,2,3,1]", "f = Flatten(t)", "y = Gemm(f, w)"],
            {**X, **FC},
            ["Conv 4x4x3 -> 10"],
        ),
        (
            [POOL, "f = Flatten(p)", "a = Gemm(f, w)", "b = Relu(a)", "c = Dropout(b)", "y = Gemm(c, v)"],
            {**X, **FC, "v": (10, 5)},
            ["Conv 4x4x3 -> 10", "Conv 1x1x10 -> 5"],
        ),
        (
            ["g = GlobalAveragePool(x)", "f = Flatten(g)", "y = Gemm(f, w)"],
            {**X, "w": (3, 10)},
            ["Conv 1x1x3 -> 10"],
        ),
        (
            ["g = ReduceMean(x) axes=[2,3] keepdims=0", "y = Gemm(g, w)"],
            {**X, "w": (3, 10)},
            ["Conv 1x1x3 -> 10"],
        ),
        (
            ["p = MaxPool(x) kernel_shape=[2] strides=[2]", "f = Flatten(p)", "y = Gemm(f, w)"],
            {"x": "N,3,8", "w": (12, 10)},
            ["Conv 4x3 -> 10"],
        ),
        (["f = Flatten(x)", "y = Gemm(f, w)"], {"x": "N,2,2,3,4", "w": (48, 10)}, ["Conv 2x3x4x2 -> 10"]),
        (
            ["t = Transpose(x) perm=[0,2,3,1]", "y = MatMul(t, w)"],
            {**X, "w": (3, 10)},
            ["Conv 1x1x3 -> 10"],
        ),
        # H and W free: the weight alone tells the kernel, 48/3 = 16 cells = 4x4
        ([POOL, "f = Flatten(p)", "y = Gemm(f, w)"], {"x": "N,3,H,W", **FC}, ["Conv 4x4x3 -> 10"]),
    ],
    ids=lambda v: (
        " ".join(line.split("=")[1].strip() for line in v) if isinstance(v, list) and "=" in v[0] else ""
    ),
)
def test_replaceable(lines: list[str], values: dict[str, object], expected: list[str]) -> None:
    found = heads(net(lines, **values))
    assert [head.becomes for head in found] == expected
    assert all(head.replaceable and head.reason is None for head in found)


@pytest.mark.parametrize(
    ("lines", "values", "reason"),
    [
        (["y = Gemm(x, w)"], {"x": "N,8", "w": (8, 4)}, "its input x [N, 8] comes from no feature map"),
        (["y = MatMul(x, w)"], {"x": "N,5,8", "w": (8, 4)}, "it already acts on every position"),
        (["f = Flatten(x)", "y = Gemm(f, w) transA=1"], {"x": "4,2,2,2", "w": (4, 3)}, "it sums over the"),
        (["y = MatMul(w, x)"], {"x": "8,5", "w": (4, 8)}, "its input x [8, 5] comes from no feature map"),
        (
            ["f = Flatten(x)", "c = CumSum(f, one)", "y = Gemm(c, w)"],
            {**X, "w": (192, 4), "one": np.array(1)},
            "CumSum c has no convolutional twin here (between x and this layer)",
        ),
        (
            [
                "m = ReduceMax(x) axes=[1] keepdims=0",
                "n = ReduceMax(m) axes=[1] keepdims=0",
                "f = Flatten(x)",
                "c = Concat(f, n) axis=1",
                "s = CumSum(c, one)",
                "y = Gemm(s, w)",
            ],
            {**X, "w": (200, 4), "one": np.array(1)},
            "has no convolutional twin here (between",
        ),
        (
            ["f = Flatten(x)", "y = Gemm(f, w, b)"],
            {**X, "w": (192, 4), "b": "N,4"},
            "computed from the input",
        ),
    ],
)
def test_refused_with_a_reason(lines: list[str], values: dict[str, object], reason: str) -> None:
    (found,) = heads(net(lines, **values))
    assert found.reason is not None
    assert reason in found.reason
    assert (found.replaceable, found.kernel, found.becomes) == (False, None, None)


def test_a_pool_that_does_not_fit_is_told_as_that() -> None:
    """Not as an op without a form on maps, which it has."""
    lines = ["m = MaxPool(x) kernel_shape=[9,9]", "f = Flatten(m)", "h = Gemm(f, w)", "y = Gemm(h, v)"]
    why = "MaxPool: no window fits: it covers 9 pixels, the padded input has 8"
    assert [head.reason for head in heads(net(lines, **X, w=(3, 4), v=(4, 2)))] == [
        f"its shapes are unknown: m: {why}",
        f"MaxPool m makes a value of unknown shape: {why} (between x and this layer)",
    ]


def test_products_of_two_activations_are_no_layers() -> None:
    assert heads(net(["y = MatMul(x, x)"], x="N,8,8")) == []


def test_share_of_all_parameters() -> None:
    model = net(["p = Conv(x, k)", "f = Flatten(p)", "y = Gemm(f, w)"], **X, k=(5, 3, 8, 8), w=(5, 8))
    (found,) = heads(model)
    assert found.share_of_params == pytest.approx(40 / (40 + 5 * 3 * 64))


def test_the_map_in_front_is_named() -> None:
    assert heads(net([POOL, "f = Flatten(p)", "y = Gemm(f, w)"], **X, **FC))[0].feature_map == "p"
    pooled = net(
        ["a = Relu(x)", "g = GlobalAveragePool(a)", "f = Flatten(g)", "y = Gemm(f, w)"], **X, w=(3, 4)
    )
    assert heads(pooled)[0].feature_map == "a"


def test_a_free_size_that_the_weight_does_not_fit_is_said() -> None:
    (found,) = heads(net([POOL, "f = Flatten(p)", "y = Gemm(f, w)"], x="N,3,H,W", **FC))
    assert (
        found.size_note == "its weight fits a 4x4 map only; p is 3x(H//2)x(W//2): convert it for other sizes"
    )


def test_a_batch_that_a_reshape_merges_leaves_the_map_in_front_in_sight() -> None:
    """view(1, -1) on a free batch: no head, but its map still has its closed form."""
    lines = ["m = MaxPool(x) kernel_shape=[2,2] strides=[2,2]", "f = Reshape(m, s)", "y = MatMul(f, w)"]
    model = net(lines, x="N,3,H,W", s=np.array([1, -1]), w=(48, 5))
    facts = infer(model)
    (head,) = find(facts, params.count(facts))
    assert (head.replaceable, head.feature_map) == (False, "m")
    assert head.reason is not None
    assert "merges the batch" in head.reason


@pytest.mark.parametrize("target", [[1, 48], [-1, 48], [0, 48]])
def test_a_flattening_that_bakes_the_size_says_which_one_it_needs(target: list[int]) -> None:
    """3 channels of a 4x4 map: 48 numbers, whatever the size of the input that is asked about."""
    lines = ["m = MaxPool(x) kernel_shape=[2,2] strides=[2,2]", "f = Reshape(m, s)", "y = MatMul(f, w)"]
    model = net(lines, x="1,3,8,8", s=np.array(target), w=(48, 5))
    facts = infer(model, {"x": (1, 3, "H", "W")})
    (head,) = find(facts, params.count(facts))
    assert (head.replaceable, head.kernel, head.feature_map) == (True, (4, 4), "m")
    assert head.size_note is not None


def test_a_layer_in_a_function_is_refused_with_the_way_out() -> None:
    """Inlined as the reason says, it converts."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17, "own": 1]>
        main (float[N,3,4,4] x) => (float[N,5] y) { y = own.head(x, w) }
        <domain: "own", opset_import: ["": 17]>
        head (a, k) => (b) { f = Flatten(a)  b = MatMul(f, k) }
    """)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((48, 5), np.float32), "w"))
    (refusal,) = plan(loads(model.SerializeToString())).refusals
    assert refusal.reason.endswith(
        "not in the main graph; inline the function head first (onnx.inliner.inline_local_functions)"
    )
    inlined = onnx.inliner.inline_local_functions(model)
    assert [layer.after for layer in plan(loads(inlined.SerializeToString())).conversions] == [
        "Conv 4x4x3 -> 5"
    ]


def test_a_layer_in_a_branch_is_refused_without_it() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        main (float[N,3,4,4] x, bool c) => (float[N,5] y) {
            f = Flatten(x)
            y = If(c) <then_branch = a () => (float[N,5] s) { s = MatMul(f, w) },
                       else_branch = b () => (float[N,5] t) { t = MatMul(f, w) }>
        }
    """)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((48, 5), np.float32), "w"))
    refusals = plan(loads(model.SerializeToString())).refusals
    assert len(refusals) == 2
    assert all(refusal.reason.endswith("not in the main graph") for refusal in refusals)
