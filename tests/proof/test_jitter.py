import numpy as np
import proof_kit as kit
import pytest
from nets import net
from onnx import helper, numpy_helper

from onnxscope.files.read import loads
from onnxscope.files.write import dumps, save
from onnxscope.proof import jitter, limits, noise
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify

HEADS = {spec.name: spec for spec in kit.heads()}


def outputs(model, spec, given, runner):
    return runner.run(dumps(model), {"map": given}, [spec.last])[spec.last].reshape(len(given), -1)


def worst(spec, candidate, families, count, seed=0):
    """Largest |candidate - original| as a multiple of the jitter limit."""
    runner, original = kit.Runner(), kit.original(spec)
    ratio = limits.Comparison()
    given = {family: kit.inputs(spec, family, count, seed) for family in families}
    size = outputs(original, spec, next(iter(given.values())), runner).size
    moved = [jitter.jittered(original, seed=seed, run=run) for run in range(jitter.runs_for(size))]
    for value in given.values():
        base = outputs(original, spec, value, runner)
        runs = [outputs(model, spec, value, runner) for model in moved]
        allowed = jitter.limit(base, runs, values=size * len(families))
        ratio = ratio.merged(limits.compare(outputs(candidate, spec, value, runner), base, allowed))
    return ratio.ratio


@pytest.mark.parametrize("name", HEADS)
def test_right_conversions_keep_the_limit(name):
    spec = HEADS[name]
    for seed in range(3):
        assert worst(spec, kit.candidate(spec), kit.FAMILIES, 5, seed) < 1


@pytest.mark.parametrize("name", HEADS)
def test_rough_sabotage_breaks_it(name):
    spec = HEADS[name]
    rough = ("largest weight zeroed", "rows permuted", "weights through float16", "bias off by 1e-3")
    families = ("signed", "positive", "zeros")
    caught = {
        label
        for label, wrong, _ in kit.sabotages(spec)
        if label in rough and worst(spec, wrong, families, 10) > 1
    }
    # the largest weight may belong to a unit that never fires: only the local check tells
    assert caught >= set(rough[1:])


def test_a_saturated_softmax_has_no_spread_but_a_limit():
    base = np.array([[1.0, 0.0, 0.0]], np.float32)
    allowed = jitter.limit(base, [base, base], values=3)
    assert np.array_equal(allowed, np.full((1, 3), 4 * 2.0**-24) + 2.0**-126)


def test_integer_outputs_may_move_as_far_as_the_jittered_ones():
    base = np.array([3, 5])
    assert np.array_equal(jitter.limit(base, [base, np.array([3, 7])], values=2), [0, 2])


def test_spread_is_pooled_over_the_elements():
    base = np.zeros(4)
    found = jitter.sigma(base, [np.array([2.0, 0, 0, 0]), np.array([-2.0, 0, 0, 0])])
    assert np.allclose(found, [2.0, 1.0, 1.0, 1.0])  # rms of (2, 0, 0, 0) is 1


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "terms", "axis"),
    [
        ("Gemm", (10, 84), {"transB": 1}, 84, 0),
        ("Gemm", (84, 10), {}, 84, 1),
        ("MatMul", (84, 10), {}, 84, 1),
        ("Conv", (16, 8, 3, 5), {}, 120, 0),
        ("ConvTranspose", (8, 16, 3, 3), {}, 72, 1),
    ],
)
def test_terms_and_outputs_of_a_weight(op, shape, attributes, terms, axis):
    (use,) = jitter.weights(_one(op, shape, attributes))
    assert (use.terms, use.axis) == (terms, axis)


def _one(op, shape, attributes, dtype=np.float32, as_node=False):
    weight = numpy_helper.from_array(np.ones(shape, dtype), "w")
    nodes = [helper.make_node(op, ["x", "w"], ["y"], **attributes)]
    if as_node:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    given = helper.make_tensor_value_info("x", 1, None)
    graph = helper.make_graph(
        nodes, "g", [given], [helper.make_tensor_value_info("y", 1, None)], [] if as_node else [weight]
    )
    return loads(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
        ).SerializeToString()
    )


@pytest.mark.parametrize("as_node", [False, True])
def test_jitter_has_the_variance_of_the_formula_and_is_reproducible(as_node):
    model = _one("Gemm", (400, 600), {"transB": 1}, np.float64, as_node)
    moved = [
        jitter.jittered(model, limits.FLOAT64, seed=7, run=run).graph.initializers["w"] for run in (0, 0, 1)
    ]
    first, again, other = ((tensor.array() - 1) * 2.0**53 for tensor in moved)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    rows = first.mean(1)
    assert np.isclose(rows.std(), np.sqrt(600 / 3), rtol=0.15)  # h, shared by an output
    assert np.isclose((first - rows[:, None]).std(), np.sqrt(600 / 6), rtol=0.02)  # g


def test_dequantized_weights_are_jittered_as_floats():
    stored = [
        numpy_helper.from_array(np.array([[2, -4], [6, 8]], np.int8), "q"),
        numpy_helper.from_array(np.array([0.5, 0.25], np.float32), "s"),
        numpy_helper.from_array(np.array([0, 4], np.int8), "z"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
        helper.make_node("Gemm", ["x", "w"], ["y"], transB=1),
    ]
    values = [helper.make_tensor_value_info(name, 1, ["N", 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    opsets = [helper.make_opsetid("", 17)]
    model = loads(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    moved = jitter.jittered(model)
    assert [node.op for node in moved.graph.nodes] == ["Gemm"]
    assert np.allclose(moved.graph.initializers["w"].array(), [[1, -2], [0.5, 1]], rtol=1e-5)
    found = kit.Runner().run(dumps(moved), {"x": np.ones((1, 2), np.float32)})["y"]
    assert np.allclose(found, [[-1, 1.5]], rtol=1e-5)


def test_the_limit_says_how_it_came_about():
    text = jitter.limit_from(kit.original(HEADS["lenet5"]), 6, 3, values=1000)
    for part in ("lambda = 6.54", "u = 2^-24", "K <= 400", "N = 1000", "r = 6", "delta = 1e-06", "seed 3"):
        assert part in text


@pytest.mark.parametrize("signs", [1, -1], ids=["alike", "cancelling"])
@pytest.mark.parametrize("op", ["GlobalAveragePool", "ReduceMean"])
def test_global_pools_move_by_their_size(op, signs):
    """By that of their terms: a mean that cancels to 0 was rounded on the way as any other."""
    extra = {"axes": [2, 3], "keepdims": 1} if op == "ReduceMean" else {}
    nodes = [helper.make_node(op, ["x"], ["y"], **extra)]
    values = [helper.make_tensor_value_info(name, 1, None) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17)]
    model = loads(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    given = np.ones((2, 3, 64, 64), np.float32)
    given[..., ::2] *= signs
    feeds = {"x": given}
    found = [kit.Runner().run(dumps(jitter.jittered(model, run=run)), feeds)["y"] for run in range(16)]
    steps = {float(value) for moved in found for value in np.unique(moved - given.mean())}
    assert steps == {64 * 64 / 16 * 2.0**-24, -64 * 64 / 16 * 2.0**-24}


def products(folder, step, *lines):
    """120 outputs of a matrix product, and the same with one weight moved by a step."""
    weight = np.random.default_rng(3).standard_normal((64, 120)).astype(np.float32)
    save(net(list(lines), opset=13, x="1,64", w=weight), folder / "before.onnx")
    weight[5, 7] += np.float32(step)
    save(net(list(lines), opset=13, x="1,64", w=weight), folder / "after.onnx")
    return str(folder / "before.onnx"), str(folder / "after.onnx")


STEPS = pytest.mark.parametrize(
    ("step", "runs"), [(0.0, 2), (3e-4, 6), (1.0, 2)], ids=["same", "near", "far"]
)


@STEPS
def test_a_difference_near_the_limit_of_few_runs_is_judged_by_more(tmp_path, step, runs):
    """120 outputs take two runs; an element that both happen to move little would be a false alarm."""
    said = []
    proof = verify(Request(*products(tmp_path, step, "y = MatMul(x, w)"), trials=1), said.append)
    (row,) = proof.runs[0].outputs
    assert row.ok == (step == 0)
    assert f"r = {runs} runs" in row.limit_from, row
    told = [text for text in said if text.startswith("jittered weights")]
    assert told[:runs] == [f"jittered weights, run {number}" for number in range(1, runs + 1)]


@STEPS
def test_a_value_inside_near_the_limit_of_few_runs_is_judged_by_more(tmp_path, step, runs):
    pair = products(tmp_path, step, "z = MatMul(x, w)", "y = Neg(z)")
    (row,) = verify(Request(*pair, trials=1, layers=True)).runs[0].layers
    assert row.ok == (step == 0)
    assert f"r = {runs} runs" in row.limit_from, row


def test_large_weights_take_as_many_runs_as_small_outputs(tmp_path, monkeypatch):
    """Moved by way of their inputs, outputs do not move independently: pooling 120 makes up for no run."""
    monkeypatch.setattr(noise, "LARGE", 1)
    proof = verify(Request(*products(tmp_path, 0, "y = MatMul(x, w)"), trials=1))
    assert "r = 6 runs" in proof.runs[0].outputs[0].limit_from
