"""Forms: each gives the map that a plain Conv gives, on native and larger sizes; what `auto` takes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conversions import converted
from nets import net

from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.graph import Model
from onnxscope.rewrite import forms
from onnxscope.rewrite.fc_to_conv import plan
from onnxscope.rewrite.plan import Options, Plan

FORMS = ("fold", "interleave", "rows")
OPSETS = (7, 9, 10, 11, 12, 13, 15, 17, 18, 22)
RNG = np.random.default_rng(31)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(model: Model, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(dumps(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def typed(model: Model) -> Model:
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(dumps(model)), strict_mode=True)
    return loads(proto.SerializeToString())


HEAD = ["f = Flatten(p)", "a = Gemm(f, w, b)", "r = Relu(a)", "y = Gemm(r, v, c)"]


def network(
    spatial: tuple[int, ...],
    *,
    batch: str = "N",
    opset: int = 17,
    lines: list[str] = HEAD,
    **more: np.ndarray,
) -> Model:
    """A 2-channel input, a max-pool that halves it, and a head of 6 and 4 features."""
    d = len(spatial)
    pool = f"p = MaxPool(x) kernel_shape={[2] * d} strides={[2] * d}".replace(", ", ",")
    cells = int(np.prod([size // 2 for size in spatial]))
    given = {"w": normal(2 * cells, 6), "b": normal(6), "v": normal(6, 4), "c": normal(4), **more}
    read = " ".join(lines)
    used = {k: v for k, v in given.items() if f" {k}," in read or f" {k})" in read}
    sizes = ",".join(map(str, (batch, 2, *spatial)))
    return typed(net([pool, *lines], x=sizes, opset=opset, **used))


def same(found: np.ndarray, expected: np.ndarray, *, exactly: bool = False) -> None:
    if exactly:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * float(np.abs(expected).max()))


def check(model: Model, form: str, sizes: list[tuple[int, ...]], batch: int) -> tuple[Plan, Model]:
    """The form against `conv` at each spatial size; the first one is the native one."""
    _, plain = converted(model, form="conv")
    made, other = converted(model, form=form)
    assert {layer.form for layer in made.conversions} == {form}
    shapes = [tuple(o.type.shape or ()) for m in (plain, other) for o in m.graph.outputs]
    assert shapes[0] == shapes[1]  # the same closed forms are declared
    for spatial in sizes:
        x = normal(batch, 2, *spatial)
        same(run(other, x), run(plain, x))
    native = normal(batch, 2, *sizes[0])
    same(run(other, native).reshape(batch, -1), run(model, native))
    return made, other


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("opset", OPSETS)
def test_every_form_gives_the_map_of_a_convolution_in_every_opset(form: str, opset: int) -> None:
    model = network((8, 6), batch="3", opset=opset)
    check(model, form, [(8, 6), (14, 9), (8, 13)], 3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("native", "larger"), [((10,), (17,)), ((6, 4), (9, 12)), ((4, 6, 8), (7, 9, 13))])
def test_in_one_two_and_three_dimensions(form: str, native: tuple[int, ...], larger: tuple[int, ...]) -> None:
    check(network(native, batch="2"), form, [native, larger], 2)


@pytest.mark.parametrize("form", ["fold", "rows"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_free_batch(form: str, batch: int) -> None:
    check(network((8, 6)), form, [(8, 6), (15, 10)], batch)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("perm", [[0, 2, 3, 1], [0, 3, 2, 1], [0, 2, 1, 3], [0, 3, 1, 2]])
def test_whatever_order_the_map_is_flattened_in(form: str, perm: list[int]) -> None:
    order = f"t = Transpose(p) perm={perm}".replace(", ", ",")
    lines = [order, "f = Flatten(t)", "a = Gemm(f, w, b)", "y = Softmax(a)"]
    check(network((8, 6), batch="2", lines=lines), form, [(8, 6), (11, 12)], 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_behind_a_global_pool(form: str, op: str) -> None:
    lines = [f"g = {op}(p)", "f = Flatten(g)", "y = Gemm(f, w, b)"]
    check(network((8, 6), batch="2", lines=lines, w=normal(2, 6)), form, [(8, 6), (12, 9)], 2)


@pytest.mark.parametrize("form", FORMS)
def test_an_image_never_reaches_its_neighbour(form: str) -> None:
    _, candidate = converted(network((8, 6), batch="3"), form=form)
    x = normal(3, 2, 13, 11)
    clean = run(candidate, x)
    x[1] = np.nan
    found = run(candidate, x)
    same(found[[0, 2]], clean[[0, 2]], exactly=True)
    assert np.isnan(found[1]).all()


def test_fold_and_interleave_sum_in_the_order_of_the_convolution() -> None:
    model = network((6, 6), batch="2")
    x = normal(2, 2, 16, 14)
    plain, fold, interleave = (run(converted(model, form=f)[1], x) for f in ("conv", "fold", "interleave"))
    same(fold, plain, exactly=True)
    same(interleave, plain, exactly=True)


@pytest.mark.parametrize(("native", "dims"), [((8, 6), (6, 4, 2, 3)), ((6, 6), (6, 2, 3, 3))])
def test_fold_halves_a_small_even_kernel_on_twice_the_channels(
    native: tuple[int, int], dims: tuple[int, ...]
) -> None:
    """4x3 places become 2x3 on the rows and those two below; the numbers of the weight keep their order."""
    model = network(native)
    _, candidate = check(model, "fold", [native, (13, 9)], 3)
    conv = next(node for node in candidate.graph.nodes if node.op == "Conv")
    weight = candidate.graph.initializers[conv.inputs[1]]
    assert weight.dims == dims
    expected = model.graph.initializers["w"].array().T
    np.testing.assert_array_equal(weight.array().reshape(6, -1), expected)


CHAIN = ["f = Flatten(p)", "a = Gemm(f, w, b)", "r = Relu(a)", "q = Gemm(r, v, c)", "s = Mul(q, k)",
         "y = Softmax(s) axis=1"]  # fmt: skip


TURNED = {"fold": 4, "interleave": 2}
"""Transposes of a chain: fold cuts with the channels last, swaps N and S1, and brings the channels back."""


def ops(model: Model, names: str) -> list[str]:
    return [node.op for node in model.graph.nodes if node.op in names.split()]


@pytest.mark.parametrize(("form", "shapes"), [("fold", 1), ("interleave", 0)])
@pytest.mark.parametrize("opset", [9, 13, 17])
def test_a_chain_is_folded_once_and_unfolded_once(form: str, shapes: int, opset: int) -> None:
    model = network((8, 6), batch="2", opset=opset, lines=CHAIN, k=normal(1, 4))
    _, candidate = check(model, form, [(8, 6), (13, 9)], 2)
    turned = TURNED[form] + (2 if opset < 13 else 0)  # below 13 the softmax runs on a channels-last copy
    order = ops(candidate, "Transpose Conv Relu Mul Softmax")
    assert order.count("Transpose") == turned
    assert len(ops(candidate, "Shape")) == shapes
    assert order[0] == order[-1] == "Transpose"  # nothing of the chain lies outside
    assert [op for op in order if op != "Transpose"] == ["Conv", "Relu", "Conv", "Mul", "Softmax"]


@pytest.mark.parametrize("form", ["fold", "interleave"])
@pytest.mark.parametrize(
    "tail",
    [
        ["z = MatMul(f, w)", "a = Add(z, b)", "y = LogSoftmax(a)"],
        ["a = Gemm(f, w, b)", "n = Gemm(f, w2, b)", "y = Concat(a, n) axis=1"],
        ["a = Gemm(f, w, b)", "n = Gemm(f, w2, b)", "m = Add(a, n)", "y = Gemm(m, v, c)"],
        ["a = Gemm(f, w, b)", "n = LayerNormalization(a, b)", "y = Gemm(n, v, c)"],
        ["a = Gemm(f, w, b)", "g, h = Split(a) axis=1", "y = Mul(g, h)"],
        ["a = Gemm(f, w, b)", "m = ReduceMax(a) axes=[1] keepdims=1", "y = Sub(a, m)"],
        ["a = Gemm(f, w, b)", "t, i = TopK(a, two) axis=1", "y = Exp(t)"],
        ["a = Gemm(f, w, b)", "s = Slice(a, one, two, one)", "y = Relu(s)"],
        ["a = Gemm(f, w, b)", "y = ArgMax(a) axis=1 keepdims=1"],
    ],
)
def test_what_acts_on_positions_stays_in_the_chain(form: str, tail: list[str]) -> None:
    read = " ".join(tail)
    given = {"w2": normal(24, 6), "one": np.array([1]), "two": np.array([2])}
    given = {name: array for name, array in given.items() if f" {name})" in read or f" {name}," in read}
    model = network((8, 6), batch="2", lines=["f = Flatten(p)", *tail], **given)
    _, candidate = check(model, form, [(8, 6), (13, 9)], 2)
    inner = 2 if "LayerNorm" in read else 0  # channels-last inside the chain
    assert len(ops(candidate, "Transpose")) == TURNED[form] + inner


@pytest.mark.parametrize("form", ["fold", "interleave"])
def test_what_leaves_a_chain_is_unfolded_there(form: str) -> None:
    """Two outputs, and a constant that differs from image to image, which no long image can take."""
    lines = ["f = Flatten(p)", "a = Gemm(f, w, b)", "r = Relu(a)", "z = Add(r, e)", "y = Gemm(z, v, c)"]
    given = {"w": normal(24, 6), "b": normal(6), "v": normal(6, 4), "c": normal(4), "e": normal(2, 1)}
    pool = "p = MaxPool(x) kernel_shape=[2,2] strides=[2,2]"
    model = typed(net([pool, *lines], x="2,2,8,6", outputs=["y", "a"], opset=17, **given))
    (_, plain), (_, other) = (converted(model, form=name) for name in ("conv", form))
    x = normal(2, 2, 13, 9)
    for name, expected in outputs(plain, x).items():
        same(outputs(other, x)[name], expected)
    for name, expected in outputs(model, x[:, :, :8, :6]).items():
        same(outputs(other, x[:, :, :8, :6])[name].reshape(2, -1), expected)


def outputs(model: Model, x: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(dumps(model), providers=["CPUExecutionProvider"])
    names = [info.name for info in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": x}), strict=True))


def test_rows_keeps_the_nodes_and_weights_of_the_head() -> None:
    model = network((8, 6))
    _, candidate = converted(model, form="rows")
    kept = [node for node in candidate.graph.nodes if node.op in ("Gemm", "Relu")]
    original = [node for node in model.graph.nodes if node.op in ("Gemm", "Relu")]
    assert [n.op for n in kept] == ["Gemm", "Relu", "Gemm"]
    assert [n.inputs[1:] for n in kept] == [n.inputs[1:] for n in original]
    assert [n.outputs[0] for n in kept[:2]] == ["a", "r"]  # values in between keep their names
    for name in "wbvc":
        assert candidate.graph.initializers[name] == model.graph.initializers[name]


@pytest.mark.parametrize(
    "tail",
    [
        ["z = MatMul(f, w)", "a = Add(z, b)", "y = LogSoftmax(a)"],
        ["a = Gemm(f, w, b)", "s = Sigmoid(a)", "m = Mul(a, s)", "y = Gemm(m, v, c)"],
        ["a = Gemm(f, w, b)", "m = ReduceMax(a) axes=[1] keepdims=1", "y = Sub(a, m)"],
        ["a = Gemm(f, w, b)", "n = Gemm(f, w2, b)", "y = Concat(a, n) axis=1"],
        ["a = Gemm(f, w, b)", "n = LayerNormalization(a, b)", "y = Gemm(n, v, c)"],
        ["a = Gemm(f, w, b)", "g, h = Split(a) axis=1", "y = Mul(g, h)"],
    ],
)
def test_rows_mixes_with_ops_that_have_a_form_on_maps(tail: list[str]) -> None:
    given = {"w2": normal(24, 6)} if "w2" in " ".join(tail) else {}
    model = network((8, 6), lines=["f = Flatten(p)", *tail], **given)
    check(model, "rows", [(8, 6), (13, 9)], 2)


def test_rows_carries_a_row_wise_op_that_no_map_has() -> None:
    lines = ["f = Flatten(p)", "a = Gemm(f, w, b)", "y = CumSum(a, k)"]
    model = network((8, 6), lines=lines, k=np.array(1, np.int64))
    assert plan(model, Options(form="conv")).edit is None
    made, candidate = converted(model, form="auto")
    assert made.conversions[0].form_reason == "CumSum y acts on rows and has no form on maps"
    x = normal(2, 2, 12, 8)
    found = run(candidate, x)
    for i, j in np.ndindex(3, 2):
        same(found[:, :, i, j], run(model, x[:, :, 2 * i : 2 * i + 8, 2 * j : 2 * j + 6]))


def test_rows_leaves_an_op_across_the_batch_alone() -> None:
    lines = ["f = Flatten(p)", "a = Gemm(f, w, b)", "y = CumSum(a, k)"]
    model = network((8, 6), lines=lines, k=np.array(0, np.int64))
    made = plan(model, Options(form="rows"))
    assert made.edit is None
    assert "CumSum y" in made.refusals[0].reason


def test_rows_keeps_a_float64_head() -> None:
    lines = ["d = Cast(p) to=11", "f = Flatten(d)", "a = Gemm(f, w, b)", "y = Cast(a) to=1"]
    double = {"w": RNG.standard_normal((24, 6)), "b": RNG.standard_normal(6)}
    model = network((8, 6), lines=lines, **double)
    assert "float64" in plan(model, Options(form="conv")).refusals[0].reason
    made, candidate = converted(model, form="auto")
    assert made.conversions[0].form == "rows"
    x = normal(1, 2, 10, 6)
    same(run(candidate, x)[:, :, 1, 0], run(model, x[:, :, 2:]))


@pytest.mark.parametrize("form", ["fold", "rows"])
def test_vector_mode(form: str) -> None:
    model = network((8, 6))
    _, candidate = converted(model, form=form, output="vector")
    x = normal(3, 2, 8, 6)
    same(run(candidate, x), run(model, x))
    assert candidate.graph.outputs[0].type.shape == model.graph.outputs[0].type.shape


BIG = {"w": normal(24, 50_000), "b": normal(50_000), "v": normal(50_000, 4)}


@pytest.mark.parametrize(
    ("batch", "lines", "weights", "options", "form", "reason"),
    [
        ("1", HEAD, {}, {}, "conv", "the batch is 1"),
        ("N", HEAD, {}, {}, "conv", "small (below 4 MB)"),
        ("N", HEAD, BIG, {}, "fold", "the batch is free"),
        ("4", HEAD, BIG, {}, "interleave", "the batch is 4"),
        ("4", HEAD, BIG, {"batch": "free"}, "fold", "the batch is free"),
        ("N", [*HEAD, "q = Relu(y)", "l = Gemm(q, u)"], BIG | {"u": normal(4, 3)}, {}, "fold", "the batch"),
        ("N", ["f = Flatten(p)", "a = MatMul(f, w)", "y = Add(a, b)"], BIG, {}, "fold", "the batch is free"),
        ("N", HEAD, {}, {"target": "cuda"}, "rows", "for cuda"),
        ("N", ["g = GlobalAveragePool(p)", "f = Flatten(g)", "y = Gemm(f, w)"], {"w": normal(2, 6)}, {},
         "rows", "a pool in front"),
    ],
)  # fmt: skip
def test_auto_says_what_it_takes_and_why(
    batch: str, lines: list[str], weights: dict, options: dict, form: str, reason: str
) -> None:
    made, _ = converted(network((8, 6), batch=batch, lines=lines, **weights), form="auto", **options)
    assert {layer.form for layer in made.conversions} == {form}
    assert all(reason in layer.form_reason for layer in made.conversions)


@pytest.mark.parametrize(
    ("batch", "lines", "weights", "expected"),
    [
        ("N", HEAD, BIG, "--form auto would write a as fold (the batch is free"),
        ("4", HEAD, BIG, "--form auto would write a as interleave (the batch is 4"),
        ("1", HEAD, BIG, ""),
        ("N", HEAD, {}, ""),
        ("N", ["f = Flatten(p)", "a = Gemm(f, w, b)", "z = Gemm(f, w, b)", "y = Add(a, z)"], BIG,
         "write a, z as fold"),
        ("N", ["g = GlobalMaxPool(p)", "f = Flatten(g)", "y = Gemm(f, w)"], {"w": normal(2, 600_000)},
         "--form auto would write y as rows (a pool in front"),
    ],
)  # fmt: skip
def test_a_plain_convolution_says_what_another_form_gains(
    batch: str, lines: list[str], weights: dict, expected: str
) -> None:
    model = network((8, 6), batch=batch, lines=lines, **weights)
    notes = plan(model, Options(form="conv")).notes
    assert ([expected in note for note in notes] == [True]) if expected else notes == ()
    assert plan(model, Options(form="auto")).notes == ()


@pytest.mark.parametrize("form", ["fold", "interleave"])
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_convolutions_share_the_features_of_a_heavy_weight(
    form: str, opset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weight stays one tensor, which a Split takes apart: a session writes it anew part by part."""
    monkeypatch.setattr(forms, "HEAVY", 24 * 512 * 4)
    given = {"w": normal(24, 512), "b": normal(512), "v": normal(512, 4)}
    model = network((8, 6), batch="2", opset=opset, **given)
    _, candidate = check(model, form, [(8, 6), (13, 9)], 2)
    assert ops(candidate, "Split Conv Relu") == ["Split", "Split", *("Conv",) * 4, "Relu", "Conv"]
    split = next(node for node in candidate.graph.nodes if node.op == "Split")
    assert candidate.graph.initializers[split.inputs[0]].dims[0] == 512


@pytest.mark.parametrize(("form", "target", "more", "less"), [
    ("conv", "cpu", 0, "1.4 with --form fold, 1.0 with rows"), ("conv", "cpu", 1, "; 1.0 with --form rows"),
    ("fold", "cpu", 0, None), ("rows", "cpu", 0, None), ("conv", "cuda", 0, None), ("rows", "cpu", 1, None),
    ("fold", "cpu", 1, "; 1.0 with --form rows"), ("interleave", "cpu", 1, "; 1.0 with --form rows"),
])  # fmt: skip
def test_a_plan_says_what_memory_a_session_with_heavy_convolutions_starts_with(
    form: str, target: str, more: int, less: str | None
) -> None:
    """24 inputs and 1,048,576 outputs in float32: 101 MB. One more, and no four Convs can share them."""
    heavy = {"w": np.zeros((24, 2**20 + more), np.float32)}
    lines = ["f = Flatten(p)", "a = MatMul(f, w)", "y = Relu(a)"]
    notes = plan(network((8, 6), batch="2", lines=lines, **heavy), Options(form=form, target=target)).notes
    said = [n for n in notes if "weights of a anew" in n and "--external-data" in n]
    assert [note.endswith(less or "") for note in said] == ([] if less is None else [True])


def test_where_interleave_cant_be_written_a_convolution_is_and_says_so() -> None:
    made, _ = converted(network((8, 6)), form="interleave")
    assert [(c.form, c.form_reason) for c in made.conversions] == [
        ("conv", "interleave needs a batch that is a number above 1")
    ] * 2


def test_below_opset_5_shapes_cant_be_computed() -> None:
    lines = ["f = Flatten(p)", "y = Gemm(f, w, b) broadcast=1"]
    model = network((8, 6), lines=lines, opset=4)
    made = plan(model, Options(form="rows"))
    assert [(c.form, "from opset 5 on" in c.form_reason) for c in made.conversions] == [("conv", True)]


@pytest.mark.parametrize("form", ["fold", "interleave"])
def test_a_long_image_is_joined_with_maps_on_maps(form: str) -> None:
    """Features of a layer beside those of a window's mean, which lie in maps: both are joined as maps."""
    lines = [
        *("f = Flatten(p)", "a = Gemm(f, w, b)", "g = GlobalAveragePool(p)", "m = Flatten(g)"),
        *("j = Concat(a, m) axis=1", "y = Relu(j)"),
    ]
    check(network((8, 6), batch="2", lines=lines), form, [(8, 6), (13, 9)], 2)
