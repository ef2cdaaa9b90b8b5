"""Products with the weight on the left, W x: columns are images, so every naive axis is the wrong one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from test_lifting_rules import FLAT, VECTOR, check, run, typed, weight

from onnxscope.files.read import load, loads
from onnxscope.files.write import dumps, save
from onnxscope.graph import Model
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options

TURN = "t = Transpose(f) perm=[1,0]"
BACK = "y = Transpose(a) perm=[1,0]"
W = {"w": weight(6, 12)}
CASES = [
    ("MatMul(W, X')", [FLAT, TURN, "a = MatMul(w, t)", BACK], W),
    ("Gemm(W, X, transB)", [FLAT, "a = Gemm(w, f) transB=1", BACK], W),
    ("Gemm(W', X, transA, transB)", [FLAT, "a = Gemm(w, f) transA=1 transB=1", BACK], {"w": weight(12, 6)}),
    ("a bias [M, 1]", [FLAT, "a = Gemm(w, f, c) transB=1 beta=2.0", BACK], {**W, "c": weight(6, 1)}),
    ("Add of [M, 1]", [FLAT, TURN, "m = MatMul(w, t)", "a = Add(m, c)", BACK], {**W, "c": weight(6, 1)}),
    ("behind a layer", [FLAT, "h = Gemm(f, v)", "a = Gemm(w, h) transB=1", BACK],
     {"v": weight(12, 5), "w": weight(6, 5)}),
    ("Softmax over axis 0", [FLAT, "m = Gemm(w, f) transB=1", "a = Softmax(m) axis=0", BACK], W),
    ("channels last",
     ["p = Transpose(x) perm=[0,2,3,1]", "f = Flatten(p)", TURN, "a = MatMul(w, t)", BACK], W),
    ("X' W' with transA on the data", [FLAT, TURN, "y = Gemm(t, w) transA=1 transB=1"], W),
    ("the result stays turned", [FLAT, TURN, "a = MatMul(w, t)", "y = Relu(a)"], W),
    ("FusedMatMul", [FLAT, "a = com.microsoft:FusedMatMul(w, f) transB=1 alpha=0.5", BACK], W),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "values"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_window(lines: list[str], values: dict[str, np.ndarray]) -> None:
    model = typed(lines, 13, ["y"], **values)
    layers = sum("Gemm" in line or "MatMul" in line for line in lines)
    if lines[-1] == "y = Relu(a)":  # [M, N]: one image at a time, so that a cell can be compared
        candidate = convert(plan(model))
        x = np.random.default_rng(2).standard_normal((1, 3, 4, 3)).astype(np.float32)
        found = run(candidate, x)[0]
        for row, column in np.ndindex(3, 2):
            expected = run(model, np.ascontiguousarray(x[:, :, row : row + 2, column : column + 2]))[0]
            np.testing.assert_allclose(found[0, :, row, column], expected[:, 0], rtol=0, atol=1e-5)
        return
    check(model, layers)


@pytest.mark.parametrize(("lines", "values"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_drop_in(lines: list[str], values: dict[str, np.ndarray]) -> None:
    model = typed(lines, 13, ["y"], **values)
    made = plan(model, Options(output="vector"))
    assert (made.refusals, {c.after[:4] for c in made.conversions}) == ((), {"Conv"})
    x = np.random.default_rng(3).standard_normal((3, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(run(convert(made), x)[0], run(model, x)[0], rtol=0, atol=1e-5)


def test_the_very_bytes() -> None:
    model = typed([FLAT, "a = Gemm(w, f) transB=1", BACK], 13, ["y"], **W)
    made = plan(model)
    assert made.conversions[0].weight == "same bytes"
    assert convert(made).graph.initializers["w"].storage is model.graph.initializers["w"].storage


def test_on_a_batch_of_columns_it_needs_no_conversion() -> None:
    """[M, C] times [N, C, L]: every position by itself, at every size."""
    model = typed(["r = Reshape(x, s)", "m = MatMul(w, r)", "y = Relu(m)"], 13, ["y"],
                  w=weight(6, 3), s=np.array([0, 3, -1]))  # fmt: skip
    assert "it already acts on every position" in plan(model).refusals[0].reason


def fixed_batch(lines: list[str], **values: np.ndarray) -> Model:
    """The same with a batch of 5 in the file."""
    proto = onnx.load_from_string(dumps(typed(lines, 13, ["y"], **values)))
    for info in (*proto.graph.input, *proto.graph.output):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param == "N":
                dim.dim_value = 5
    return loads(proto.SerializeToString())


PER_IMAGE = [
    ("a column [N, 1]", weight(5, 1)),
    ("a whole matrix [N, M]", weight(5, 6)),
]


@pytest.mark.parametrize("c", [row[1] for row in PER_IMAGE], ids=[row[0] for row in PER_IMAGE])
@pytest.mark.parametrize("form", ["conv", "fold", "interleave"])
def test_a_bias_that_differs_per_image(form: str, c: np.ndarray, tmp_path: Path) -> None:
    """A convolution's bias has one number per feature; this one is added behind it, at every cell."""
    lines = [FLAT, "a = Gemm(f, w, c) beta=0.5", "y = Add(a, v)"]
    model = fixed_batch(lines, w=weight(12, 6), c=c, v=VECTOR)
    candidate = convert(plan(model, Options(form=form)))
    x = np.random.default_rng(5).standard_normal((5, 3, 3, 3)).astype(np.float32)
    found = run(candidate, x)[0]
    for row, column in np.ndindex(2, 2):
        expected = run(model, np.ascontiguousarray(x[:, :, row : row + 2, column : column + 2]))[0]
        np.testing.assert_allclose(found[:, :, row, column], expected, rtol=0, atol=1e-5)
    made = plan(model, Options(batch="free"))
    assert "per row of the batch" in made.refusals[0].reason
    save(model, tmp_path / "a.onnx")
    save(candidate, tmp_path / "b.onnx")
    assert verify(Request(str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"), trials=1)).equivalent
    assert load(tmp_path / "b.onnx").metadata


def test_a_stack_of_matrices_is_no_layer() -> None:
    model = typed([FLAT, "y = MatMul(f, w)"], 13, ["y"], w=weight(2, 12, 6))
    assert "is a stack of matrices" in plan(model, Options(output="vector")).refusals[0].reason


def test_the_sum_over_the_batch_stays() -> None:
    model = fixed_batch([FLAT, "y = Gemm(f, w) transA=1"], w=weight(5, 4))
    assert plan(model).refusals[0].reason == "it sums over the batch"


@pytest.mark.parametrize("form", ["rows", "auto", "fold"])
def test_other_forms(form: str) -> None:
    model = typed([FLAT, "a = Gemm(w, f) transB=1", BACK], 13, ["y"], **W)
    made = plan(model, Options(form=form))
    assert made.conversions[0].form == ("fold" if form == "fold" else "conv")
    x = np.random.default_rng(6).standard_normal((3, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(run(convert(made), x)[0].reshape(3, 6), run(model, x)[0], rtol=0, atol=1e-5)
