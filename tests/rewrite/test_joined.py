"""Layers on several things one behind the other: maps of unlike sizes, numbers from outside.

The nets have no padding, so each cell must equal the original on the image crop there, with the same numbers
from outside: a rewrite that reads the joined vector as one map gets every column of W wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from nets import net

from onnxscope.files.read import loads
from onnxscope.files.write import dumps, save
from onnxscope.graph import Model
from onnxscope.proof.result import Request, Verification
from onnxscope.proof.verify import verify
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options

RNG = np.random.default_rng(21)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def typed(lines: list[str], *, opset: int = 13, outputs: int = 2, **values: object) -> Model:
    proto = onnx.load_from_string(dumps(net(lines, opset=opset, **values)))
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, [None] * outputs))
    return loads(onnx.shape_inference.infer_shapes(proto).SerializeToString())


def run(model: Model, **feeds: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(dumps(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


def check(model: Model, size: int, form: str = "conv", stride: int = 1, **outside: np.ndarray) -> Model:
    """Native size, then every crop of an image 3 and 2 strides larger; returns the converted model."""
    made = plan(model, Options(form=form))
    assert all("comes from no feature map" in refusal.reason for refusal in made.refusals)
    candidate = convert(made)
    onnx.checker.check_model(onnx.load_from_string(dumps(candidate)), full_check=True)
    batch = len(next(iter(outside.values()), normal(2, 1)))
    x = normal(batch, 3, size + 3 * stride, size + 2 * stride)
    found = run(candidate, x=x, **outside)
    assert found.shape[2:] == (4, 3)
    for row, column in np.ndindex(4, 3):
        top, left = row * stride, column * stride
        crop = np.ascontiguousarray(x[:, :, top : top + size, left : left + size])
        expected = run(model, x=crop, **outside)
        atol = 2e-6 * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found[:, :, row, column], expected, rtol=0, atol=atol)
    return candidate


TABLE = ["f = Flatten(x)", "c = Concat(f, z) axis=1", "y = Gemm(c, w, b) transB=1"]
Z = normal(2, 5)
CASES = [
    ("W [M, K]", TABLE, {"w": normal(6, 53), "b": normal(6)}),
    ("W [K, M]", [*TABLE[:2], "y = Gemm(c, w) alpha=0.5"], {"w": normal(53, 6)}),
    ("a transposed constant", [*TABLE[:2], "v = Transpose(w) perm=[1,0]", "y = MatMul(c, v)"],
     {"w": normal(6, 53)}),
    ("a constant that nodes compute", [*TABLE[:2], "v = Neg(w)", "y = MatMul(c, v)"], {"w": normal(53, 6)}),
    ("outside first", ["f = Flatten(x)", "c = Concat(z, f) axis=-1", "y = MatMul(c, w)"],
     {"w": normal(53, 6)}),
    ("with an Add behind", [*TABLE[:2], "m = MatMul(c, w)", "y = Add(m, b)"],
     {"w": normal(53, 6), "b": normal(6)}),
    ("an activation between", [*TABLE[:2], "r = Relu(c)", "d = Dropout(r)", "y = MatMul(d, w)"],
     {"w": normal(53, 6)}),
    ("channels last", ["t = Transpose(x) perm=[0,2,3,1]", "f = Flatten(t)", *TABLE[1:]],
     {"w": normal(6, 53), "b": normal(6)}),
    ("behind a layer", ["f = Flatten(x)", "h = Gemm(f, v)", "r = Relu(h)", "c = Concat(r, z) axis=1",
                        "a = Gemm(c, w)", "s = Softmax(a)", "y = Gemm(s, u)"],
     {"v": normal(48, 7), "w": normal(12, 6), "u": normal(6, 4)}),
    ("outside behind layers of its own", ["f = Flatten(x)", "h = Gemm(z, v)", "r = Relu(h)",
                                          "c = Concat(f, r) axis=1", "y = Gemm(c, w)"],
     {"v": normal(5, 7), "w": normal(55, 6)}),
    ("a pool and a flattening", ["g = GlobalMaxPool(x)", "p = Flatten(g)", "f = Flatten(x)",
                                 "c = Concat(p, f, z) axis=1", "y = Gemm(c, w)"], {"w": normal(56, 6)}),
    ("joined twice", ["f = Flatten(x)", "c = Concat(f, z) axis=1", "d = Concat(c, z, f) axis=1",
                      "y = Gemm(d, w)"], {"w": normal(106, 6)}),
    ("a gate from outside", ["f = Flatten(x)", "a = Gemm(f, w)", "g = Sigmoid(z)", "y = Mul(g, a)"],
     {"w": normal(48, 5)}),
    ("a factor from outside", ["f = Flatten(x)", "a = Gemm(f, w)", "k = ReduceMax(z) keepdims=0",
                               "y = Mul(a, k)"], {"w": normal(48, 5)}),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "values"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("form", ["conv", "fold", "rows"])
def test_numbers_from_outside(form: str, lines: list[str], values: dict[str, np.ndarray]) -> None:
    check(typed(lines, x="N,3,4,4", z="N,5", **values), 4, form, z=Z)
    table = typed(lines, x="N,3,4,4", z="N,5", **values)
    vector = plan(table, Options(output="vector"))
    x = normal(2, 3, 4, 4)
    expected = run(table, x=x, z=Z)
    np.testing.assert_allclose(run(convert(vector), x=x, z=Z), expected, rtol=0, atol=2e-5)


def test_the_columns_are_dealt_out_and_nothing_else() -> None:
    model = typed(TABLE, x="N,3,4,4", z="N,5", w=normal(6, 53), b=normal(6))
    made = plan(model)
    (layer,) = made.conversions
    assert (layer.before, layer.after, layer.kernel, layer.weight) == (
        "Gemm 53 -> 6", "Conv 4x4x3 -> 6 + Conv 1x1x5 -> 6", (4, 4), "permuted",
    )  # fmt: skip
    candidate = convert(made)
    before = model.graph.initializers["w"].array()
    convs = [node for node in candidate.graph.nodes if node.op == "Conv"]
    weights = [candidate.graph.initializers[node.inputs[1]].array() for node in convs]
    np.testing.assert_array_equal(weights[0].reshape(6, 48), before[:, :48])
    np.testing.assert_array_equal(weights[1].reshape(6, 5), before[:, 48:])
    assert [len(node.inputs) for node in convs] == [3, 2]  # the bias once


PYRAMID = ["p = MaxPool(x) kernel_shape=[3,3]", "f = Flatten(x)", "g = Flatten(p)", "c = Concat(f, g) axis=1",
           "y = Gemm(c, w, b)"]  # fmt: skip


def pyramid() -> Model:
    return typed(PYRAMID, x="N,3,4,4", w=normal(60, 6), b=normal(6))


def test_maps_that_move_alike() -> None:
    """4x4 and 2x2 windows of a map and of its 3x3 pool: both move by one pixel per cell."""
    candidate = check(pyramid(), 4)
    assert [node.op for node in candidate.graph.nodes] == ["MaxPool", "Conv", "Conv", "Add"]


def test_branches_of_strides_that_agree() -> None:
    lines = ["p = MaxPool(x) kernel_shape=[2,2] strides=[2,2]",
             "q = AveragePool(x) kernel_shape=[4,4] strides=[2,2]",
             "f = Flatten(p)", "g = Flatten(q)", "c = Concat(f, g) axis=1", "y = MatMul(c, w)"]  # fmt: skip
    check(typed(lines, x="N,3,8,8", w=normal(75, 6)), 8, stride=2)


SPATIAL_PYRAMID = ["p = MaxPool(x) kernel_shape=[4,4] strides=[4,4]",
                   "q = MaxPool(x) kernel_shape=[2,2] strides=[2,2]", "f = Flatten(p)", "g = Flatten(q)",
                   "c = Concat(f, g) axis=1", "y = MatMul(c, w)"]  # fmt: skip


def test_branches_of_unlike_strides_fit_one_size_only() -> None:
    """A cell further is 4 pixels in one branch and 2 in the other: no map has both in step."""
    model = typed(SPATIAL_PYRAMID, x="N,3,8,8", w=normal(60, 6))
    (refusal,) = plan(model).refusals
    assert "its maps move in different steps" in refusal.reason
    assert "p has (height - 4)//4 x (width - 4)//4 windows" in refusal.reason
    x = normal(2, 3, 8, 8)
    for options in (Options(output="vector"), Options(size="fixed")):
        candidate = convert(plan(model, options))
        np.testing.assert_allclose(run(candidate, x=x).reshape(2, 6), run(model, x=x), rtol=0, atol=1e-5)


def test_what_comes_from_the_image_by_another_way_is_no_number_from_outside() -> None:
    """Its mean over the pixels: at another size it isn't what the crop gives."""
    lines = ["m = ReduceMean(x) axes=[1,2,3] keepdims=0", "t = Cast(m) to=1", "u = Unsqueeze(t, k)", *TABLE]
    lines[4] = "c = Concat(f, u) axis=1"
    model = typed(lines, x="N,3,4,4", w=normal(6, 49), b=normal(6), k=np.array([1]))
    assert plan(model).edit is None
    x = normal(2, 3, 4, 4)
    candidate = convert(plan(model, Options(output="vector")))
    np.testing.assert_allclose(run(candidate, x=x), run(model, x=x), rtol=0, atol=1e-5)


def test_what_a_branch_captures_of_the_image_is_no_number_from_outside() -> None:
    mean = onnx.helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0)
    body = onnx.helper.make_graph([mean], "body", [], [onnx.helper.make_tensor_value_info("m", 1, ["N", 3])])
    branch = onnx.helper.make_node("If", ["k"], ["u"], then_branch=body, else_branch=body)
    lines = [branch, "f = Flatten(x)", "c = Concat(f, u) axis=1", "y = Gemm(c, w)"]
    (refusal,) = plan(net(lines, opset=13, x="N,3,4,4", w=normal(51, 6), k=np.array(True))).refusals
    assert "joins the features with u, which comes from x by another way" in refusal.reason


def test_numbers_from_outside_keep_the_distance_of_cells_at_a_fixed_size() -> None:
    """Nothing tells the stride of a number from outside; the sum has that of the map."""
    lines = ["s = MaxPool(x) kernel_shape=[2,2] strides=[2,2]", "f = Flatten(s)", *TABLE[1:]]
    model = typed(lines, x="N,3,8,8", z="N,5", w=normal(6, 53), b=normal(6))
    made = plan(model, Options(size="fixed", stride=1))
    assert made.edit is not None, made.refusals
    x, z = normal(2, 3, 8, 8), normal(2, 5)
    found = run(convert(made), x=x, z=z)[:, :, 0, 0]
    np.testing.assert_allclose(found, run(model, x=x, z=z), rtol=0, atol=2e-5)


def test_a_batch_normalization_across_the_parts_stays() -> None:
    lines = [*TABLE[:2], "n = BatchNormalization(c, s, t, t, s)", "y = Gemm(n, w)"]
    model = typed(lines, x="N,3,4,4", z="N,5", w=normal(53, 6), s=np.abs(normal(53)), t=normal(53))
    (refusal,) = plan(model).refusals
    assert "BatchNormalization n" in refusal.reason


def proved(model: Model, folder: Path, **options: Any) -> Verification:
    save(model, folder / "a.onnx")
    save(convert(plan(model, Options(**options))), folder / "b.onnx")
    return verify(Request(str(folder / "a.onnx"), str(folder / "b.onnx"), trials=1))


@pytest.mark.parametrize("form", ["conv", "fold", "rows", "auto"])
def test_the_proof_holds(form: str, tmp_path: Path) -> None:
    table = typed(TABLE, x="N,3,4,4", z="N,5", w=normal(6, 53), b=normal(6))
    found = proved(table, tmp_path, form=form)
    assert found.equivalent, found.notes
    assert found.weights.changed == 0
    assert found.runs[0].dense[0].windows == 6
    assert "y" in {layer.name for layer in found.runs[0].layers}, found.notes  # in float64, as a whole


@pytest.mark.parametrize("name", ["the bias left out", "the parts changed places"])
def test_a_wrong_sum_of_parts_is_caught_in_float64(name: str, tmp_path: Path) -> None:
    """The weights' bits are all there: what is wrong is what they are multiplied with, or left out."""
    table = typed(TABLE, x="N,3,4,4", z="N,48", w=normal(6, 96), b=normal(6))
    candidate = onnx.load_from_string(dumps(convert(plan(table))))
    convs = [node for node in candidate.graph.node if node.op_type == "Conv"]
    if name == "the bias left out":
        (biased,) = [node for node in convs if len(node.input) == 3]
        del biased.input[2]
    else:
        turned = next(t for t in candidate.graph.initializer if list(t.dims) == [6, 48, 1, 1])
        numbers = onnx.numpy_helper.to_array(turned)[:, ::-1].copy()
        turned.CopyFrom(onnx.numpy_helper.from_array(numbers, turned.name))
    save(table, tmp_path / "a.onnx")
    onnx.save_model(candidate, tmp_path / "b.onnx")
    found = verify(Request(str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"), trials=1))
    assert not found.equivalent
    assert [layer.ok for layer in found.runs[0].layers if layer.name == "y"] == [False]


def test_the_proof_of_two_maps_says_what_it_left_out(tmp_path: Path) -> None:
    found = proved(pyramid(), tmp_path)
    assert found.equivalent
    assert any("several maps" in note for note in found.notes)


def test_a_number_changed_in_one_piece_is_seen(tmp_path: Path) -> None:
    table = typed(TABLE, x="N,3,4,4", z="N,5", w=normal(6, 53), b=normal(6))
    candidate = onnx.load_from_string(dumps(convert(plan(table))))
    piece = next(t for t in candidate.graph.initializer if list(t.dims) == [6, 5, 1, 1])
    numbers = onnx.numpy_helper.to_array(piece).copy()
    numbers.flat[7] = np.nextafter(numbers.flat[7], np.float32(9))
    piece.CopyFrom(onnx.numpy_helper.from_array(numbers, piece.name))
    save(table, tmp_path / "a.onnx")
    onnx.save_model(candidate, tmp_path / "b.onnx")
    found = verify(Request(str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"), trials=1))
    assert (found.equivalent, found.reason, found.weights.changed) == (False, "weights", 1)
