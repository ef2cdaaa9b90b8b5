"""The plan and the converted model: geometry, modes, options, what is refused, provenance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conversions import converted
from nets import net
from onnx import helper, numpy_helper

import onnxscope
from onnxscope.analysis.shapes import infer
from onnxscope.errors import UsageError
from onnxscope.files.read import load, loads
from onnxscope.files.write import dumps
from onnxscope.graph import Model
from onnxscope.rewrite.fc_to_conv import plan
from onnxscope.rewrite.plan import PROVENANCE, Options

MODELS = Path(__file__).parents[2] / "models"
RNG = np.random.default_rng(5)


def run(model: Model | bytes, *arrays: np.ndarray) -> list[np.ndarray]:
    data = model if isinstance(model, bytes) else dumps(model)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [info.name for info in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to the order of sums: of 200 products, up to 2e-6 of the largest was seen over seeds."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * max(1.0, float(np.abs(expected).max())))


def shapes(model: Model) -> dict[str, tuple[object, ...]]:
    return {info.name: info.type.shape or () for info in (*model.graph.inputs, *model.graph.outputs)}


POOL = "p = MaxPool(x) kernel_shape=[2,2] strides=[2,2]"
HEAD = [POOL, "f = Flatten(p)", "a = Gemm(f, w, b)", "r = Relu(a)", "y = Gemm(r, v)"]


def small(lines: list[str] = HEAD, x: str = "N,3,8,8", opset: int = 17, **more: object) -> Model:
    given = {"w": normal(48, 6), "b": normal(6), "v": normal(6, 5), **more}
    used = " ".join(lines)
    read = {k: v for k, v in given.items() if f"{k}," in used or f"{k})" in used}
    untyped = onnx.load_from_string(dumps(net(lines, opset=opset, x=x, **read)))
    return loads(onnx.shape_inference.infer_shapes(untyped, strict_mode=True).SerializeToString())


def test_lenet_on_a_larger_image_is_the_classifier_at_every_place() -> None:
    original = load(MODELS / "lenet5.onnx")
    made, candidate = converted(original)
    assert shapes(candidate)["output"][1:] == (10, "(height - 28)//4", "(width - 28)//4")
    (geometry,) = made.geometry
    assert (geometry.stride, geometry.offset, geometry.field) == ((4, 4), (0, 0), (32, 32))
    assert geometry.minimum == {"height": 32, "width": 32}
    image = normal(1, 1, 60, 52)
    (found,) = run(candidate, image)
    assert found.shape == (1, 10, 8, 6)
    for row in range(8):
        for column in range(6):
            crop = image[:, :, 4 * row : 4 * row + 32, 4 * column : 4 * column + 32]
            (expected,) = run(original, np.ascontiguousarray(crop))
            assert_near(found[:, :, row, column], expected)


def test_vector_mode_is_a_drop_in() -> None:
    model = small()
    made, candidate = converted(model, output="vector")
    assert shapes(candidate) == shapes(model)
    assert [n.op for n in candidate.graph.nodes] == ["MaxPool", "Conv", "Relu", "Conv", "Flatten"]
    assert made.geometry == ()
    x = normal(3, 3, 8, 8)
    assert_near(run(candidate, x)[0], run(model, x)[0])


def test_fixed_size_keeps_the_declared_input() -> None:
    _, candidate = converted(small(), size="fixed")
    assert shapes(candidate) == {"x": ("N", 3, 8, 8), "y": ("N", 5, 1, 1)}


def test_a_free_batch() -> None:
    model = small(x="1,3,8,8", lines=[POOL, "f = Reshape(p, s)", "y = Gemm(f, w)"], s=np.array([1, -1]))
    _, kept = converted(model)
    _, freed = converted(model, batch="free")
    assert (shapes(kept)["x"][0], shapes(freed)["x"][0], shapes(freed)["y"][0]) == (1, "batch", "batch")
    assert run(freed, normal(4, 3, 10, 8))[0].shape == (4, 6, 2, 1)


def test_names_of_values_stay() -> None:
    _, candidate = converted(small())
    assert [n.outputs for n in candidate.graph.nodes] == [("p",), ("a",), ("r",), ("y",)]


def test_same_bytes_are_the_very_bytes(tmp_path: Path) -> None:
    model = small(["f = Flatten(x)", "y = Gemm(f, w, b) transB=1"], w=normal(6, 192))
    made, candidate = converted(model)
    (layer,) = made.conversions
    assert (layer.weight, layer.after) == ("same bytes", "Conv 8x8x3 -> 6")
    before, after = model.graph.initializers["w"], candidate.graph.initializers["w"]
    assert after.storage is before.storage  # streamed by the writer, never read
    assert after.dims == (6, 3, 8, 8)


def test_a_shared_weight_is_copied_only_for_the_layer_that_stays() -> None:
    lines = ["f = Flatten(x)", "a = Gemm(f, w)", "s = ReduceSum(w) keepdims=0", "y = Add(a, s)"]
    _, candidate = converted(small(lines, w=normal(192, 6)))
    assert candidate.graph.initializers["w"].dims == (192, 6)  # the ReduceSum still reads it
    assert candidate.graph.initializers["w_map"].dims == (6, 3, 8, 8)


def test_a_second_conversion_finds_nothing() -> None:
    _, candidate = converted(small())
    again = plan(loads(dumps(candidate)))
    assert (again.conversions, again.edit) == ((), None)


def test_chosen_layers_only() -> None:
    made, candidate = converted(small(), layers=("y",), size="fixed")
    assert [c.layer for c in made.conversions] == ["y"]
    assert [(r.layer, r.reason) for r in made.refusals] == [("a", "not asked for (--layer)")]
    x = normal(2, 3, 8, 8)
    assert [n.op for n in candidate.graph.nodes] == ["MaxPool", "Flatten", "Gemm", "Reshape", "Relu", "Conv"]
    assert run(candidate, x)[0].shape == (2, 5, 1, 1)


def test_an_unknown_layer_is_an_error() -> None:
    with pytest.raises(UsageError, match="--layer names 'z'"):
        plan(small(), Options(layers=("z",)))


def test_a_layer_that_stays_fixes_the_size() -> None:
    made = plan(small(), Options(layers=("a",)))
    assert made.edit is None
    why = (
        "y stays fully connected; name it too (--layer y), or take --output vector or --size fixed "
        "(behind this layer)"
    )
    assert ("a", why) in [(r.layer, r.reason) for r in made.refusals]
    for options in ({"output": "vector"}, {"size": "fixed"}):
        assert [c.layer for c in plan(small(), Options(layers=("a",), **options)).conversions] == ["a"]


def test_a_layer_behind_one_that_stays_is_told_what_to_name() -> None:
    """The error is about a layer that was asked for, not about those that weren't."""
    made = plan(small(), Options(layers=("y",)))
    (reason,) = [r.reason for r in made.refusals if r.layer == "y"]
    assert reason.startswith("a stays fully connected; name it too (--layer a), or take")
    with pytest.raises(onnxscope.ConversionFailed, match=r"2 FC layers can become a convolution: y: a stays"):
        onnxscope.convert(small(), "nowhere.onnx", layers=("y",))


def test_a_refusal_says_where_windows_as_rows_would_do() -> None:
    model = small([POOL, "f = Flatten(p)", "a = Gemm(f, w)", "y = CumSum(a, i)"], i=np.array(1))
    (refusal,) = plan(model).refusals
    assert refusal.reason == (
        "CumSum y has no convolutional twin here (behind this layer); --output vector or --size fixed "
        "converts it; --form rows converts it to a map"
    )
    assert [c.layer for c in plan(model, Options(form="rows")).conversions] == ["a"]
    batch = small([POOL, "f = Flatten(p)", "a = Gemm(f, w)", "y = CumSum(a, i)"], i=np.array(0))
    (refusal,) = plan(batch).refusals
    assert "--form rows" not in refusal.reason  # sums over images


GATE = [
    "g = GlobalAveragePool(x)", "f = Flatten(g)", "e = Gemm(f, w)", "s = Sigmoid(e)", "u = Reshape(s, t)",
    "m = Mul(x, u)", "h = GlobalAveragePool(m)", "k = Flatten(h)", "y = Gemm(k, v)",
]  # fmt: skip


def test_a_gate_inside_the_network_stays_global() -> None:
    model = small(GATE, w=normal(3, 3), v=normal(3, 5), t=np.array([-1, 3, 1, 1]))
    made, candidate = converted(model)
    ops = [n.op for n in candidate.graph.nodes]
    assert ops == ["GlobalAveragePool", "Conv", "Sigmoid", "Mul", "AveragePool", "Conv"]
    assert any("stays global" in note for note in made.notes)
    x = normal(2, 3, 8, 8)
    assert_near(run(candidate, x)[0][:, :, 0, 0], run(model, x)[0])
    assert run(candidate, normal(1, 3, 10, 12))[0].shape == (1, 5, 3, 5)


def test_a_global_pool_on_a_free_size_stays_one_cell_unless_told() -> None:
    model = small(
        ["g = GlobalAveragePool(x)", "f = Flatten(g)", "y = Gemm(f, w)"], x="N,3,H,W", w=normal(3, 6)
    )
    made, candidate = converted(model)
    assert shapes(candidate)["y"] == ("N", 6, 1, 1)
    assert any("--native" in note for note in made.notes)
    _, windowed = converted(model, native=(6, 4))
    assert shapes(windowed)["y"] == ("N", 6, "H - 5", "W - 3")
    x = normal(1, 3, 6, 4)
    assert_near(run(windowed, x)[0][:, :, 0, 0], run(model, x)[0])


def test_a_weight_tells_the_native_size_of_a_free_input() -> None:
    made, candidate = converted(small(x="N,3,H,W"))
    assert made.conversions[0].kernel == (4, 4)
    assert shapes(candidate)["y"] == ("N", 5, "(H - 6)//2", "(W - 6)//2")


def test_a_size_that_the_backbone_bakes_is_lifted() -> None:
    lines = [
        "u = Reshape(x, s)", "t = Transpose(u) perm=[0,2,1,3,4]", "c = Reshape(t, q)",
        "f = Flatten(c)", "y = Gemm(f, w)",
    ]  # fmt: skip
    sizes = {"s": np.array([-1, 2, 2, 4, 3]), "q": np.array([-1, 4, 4, 3])}
    model = small(lines, x="N,4,4,3", w=normal(48, 6), **sizes)  # a channel shuffle traced at 4x3
    made, candidate = converted(model)
    assert any("u, c fixed" in note for note in made.notes)
    x = normal(2, 4, 7, 5)
    (found,) = run(candidate, x)
    assert found.shape == (2, 6, 4, 3)
    expected = run(model, np.ascontiguousarray(x[:, :, 2:6, 1:4]))[0]
    assert_near(found[:, :, 2, 1], expected)


def test_a_size_that_can_not_be_lifted_is_named() -> None:
    lines = ["t = Add(x, c)", "f = Flatten(t)", "y = Gemm(f, w)"]
    model = small(lines, w=normal(192, 6), c=normal(1, 3, 8, 8))
    made = plan(model)
    assert made.edit is None
    assert [r.reason for r in made.refusals] == [
        "with other sizes, Add t meets c, whose size is fixed: [1, 3, 8, 8]; --size fixed converts it"
    ]
    converted(model, size="fixed")


def test_what_else_the_image_gives_refuses_the_map_and_keeps_the_vector() -> None:
    lines = ["f = Flatten(x)", "a = Gemm(f, w)", "h = Shape(x)", "s = Slice(h, o, e)", "t = Cast(s) to=1",
             "d = Div(a, t)", "y = Gemm(d, v)"]  # fmt: skip
    model = small(lines, w=normal(192, 6), v=normal(6, 5), o=np.array([2]), e=np.array([3]))
    refusals = {r.layer: r.reason for r in plan(model).refusals}
    assert refusals["a"] == (
        "Div d joins the features with t, which comes from x by another way and may change with its size; "
        "--size fixed converts it (behind this layer)"
    )
    made, candidate = converted(model, output="vector")
    assert [c.layer for c in made.conversions] == ["a", "y"]
    x = normal(2, 3, 8, 8)
    assert_near(run(candidate, x)[0], run(model, x)[0])


def test_a_decoder_needs_its_vector() -> None:
    lines = ["f = Flatten(x)", "e = Gemm(f, w)", "d = Gemm(e, v)", "r = Reshape(d, s)", "y = Relu(r)"]
    model = small(lines, w=normal(192, 6), v=normal(6, 48), s=np.array([-1, 3, 4, 4]))
    reasons = [r.reason for r in plan(model).refusals]
    assert (
        reasons
        == [
            "Reshape r makes [N, 3, 4, 4] of [N, 48]: of a vector a map again, as a decoder does "
            "(behind this layer); --output vector or --size fixed converts it"
        ]
        * 2
    )
    made, candidate = converted(model, output="vector")
    x = normal(2, 3, 8, 8)
    assert len(made.conversions) == 2
    assert_near(run(candidate, x)[0], run(model, x)[0])


def test_float64_has_no_kernel() -> None:
    model = small(
        ["c = Cast(x) to=11", "f = Flatten(c)", "y = Gemm(f, w)"], w=normal(192, 4).astype(np.float64)
    )
    assert "no float64 kernel" in plan(model).refusals[0].reason


def test_provenance_names_what_became_what() -> None:
    made, candidate = converted(small())
    record = json.loads(dict(candidate.metadata)[PROVENANCE])
    assert record == json.loads(json.dumps(made.provenance))
    (head,) = record["heads"]
    assert (head["feature_map"], head["channels"], head["window"], head["pool"]) == ("p", 3, [4, 4], None)
    first, second = head["layers"]
    assert (first["node"], first["input"], first["output"]) == ("a", "f", "a")
    assert (first["candidate_input"], first["candidate_output"], first["kernel"]) == ("p", "a", [4, 4])
    assert first["weight"] == {"original": "w", "candidate": "w", "move": "permuted", "axes": [1, 2, 3]}
    assert first["bias"] == {"original": "b", "candidate": "b", "move": "same bytes"}
    assert (second["candidate_input"], second["kernel"], second["bias"]) == ("r", [1, 1], None)


def test_the_bias_behind_a_matmul_belongs_to_the_layer() -> None:
    made, candidate = converted(
        small(["f = Flatten(x)", "m = MatMul(f, w)", "y = Add(b, m)"], w=normal(192, 6))
    )
    assert [n.op for n in candidate.graph.nodes] == ["Conv"]
    (layer,) = made.provenance["heads"][0]["layers"]  # type: ignore[index]
    assert (layer["node"], layer["output"], layer["bias"]["original"]) == ("m", "y", "b")


def test_weights_that_a_node_generates_below_ir_4() -> None:
    fill = helper.make_node(
        "ConstantOfShape", ["s"], ["w"], value=numpy_helper.from_array(np.array([0.5], np.float32))
    )
    given = [
        helper.make_tensor_value_info(n, t, d)
        for n, t, d in (("x", 1, ["N", 2, 3, 3]), ("s", 7, [2]), ("b", 1, [4]))
    ]
    ops = (("Flatten", ["x"], ["f"]), ("Gemm", ["f", "w", "b"], ["g"]), ("Softmax", ["g"], ["y"]))
    nodes = [fill, *(helper.make_node(*op) for op in ops)]
    stored = [numpy_helper.from_array(np.array([18, 4]), "s"), numpy_helper.from_array(normal(4), "b")]
    graph = helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info("y", 1, ["N", 4])], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=3)
    original = loads(model.SerializeToString())
    _, candidate = converted(original)
    x = normal(1, 2, 3, 3)
    assert_near(run(candidate, x)[0][:, :, 0, 0], run(original, x)[0])
    assert run(candidate, normal(1, 2, 5, 4))[0].shape == (1, 4, 3, 2)


def test_stale_declarations_go() -> None:
    model = small()
    assert {v.name for v in model.graph.values} >= {"p", "f", "a"}
    _, candidate = converted(model)
    facts = infer(candidate)
    for info in candidate.graph.values:
        declared = [d for d in info.type.shape or () if isinstance(d, int)]
        assert declared == [d for d in facts.value(info.name).shape or () if isinstance(d, int)]


def test_params_are_the_same_before_and_after() -> None:
    made, _ = converted(small())
    assert (made.params_before, made.params_after) == (48 * 6 + 6 + 30, 48 * 6 + 6 + 30)
