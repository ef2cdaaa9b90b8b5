"""Large weights are jittered by way of what they multiply: as much as by moving each of their numbers."""

import numpy as np
import proof_kit as kit
import pytest
from nets import net

from onnxscope.analysis.shapes import infer
from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.proof import jitter, noise
from onnxscope.proof.limits import Arithmetic

COARSE = Arithmetic("coarse", 1e-3)
NONE = Arithmetic("none", 0.0)
K, F = 24, 5
DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((1, K)).astype(np.float32)
W = DRAW.standard_normal((K, F)).astype(np.float32)
B = DRAW.standard_normal(F).astype(np.float32)


@pytest.fixture(autouse=True)
def _every_weight_is_large(monkeypatch):
    monkeypatch.setattr(noise, "LARGE", 1)


def model(line, x="1,24", **weights):
    return loads(dumps(net(line.split("; "), opset=13, x=x, **weights)))


def answer(found):
    return kit.Runner().run(dumps(found), {"x": X}, optimization="none")["y"]


def test_sums_move_as_much_as_by_jittered_weights():
    """Per output the variance is a^2 sum (w x)^2 + b^2 y^2; the bias isn't moved."""
    whole = model("y = Gemm(x, w, b)", w=W, b=B)
    own, shared = jitter.spreads(K, COARSE)
    wanted = np.sqrt(own**2 * ((W * X.T) ** 2).sum(0) + shared**2 * (X @ W)[0] ** 2)
    moves = [answer(noise.jittered(whole, COARSE, run=run)[0])[0] - (X @ W + B)[0] for run in range(400)]
    spread = np.sqrt(np.mean(np.square(moves), axis=0))
    assert spread == pytest.approx(wanted, rel=0.15)  # 400 draws: 3.5 % standard error


@pytest.mark.parametrize(
    ("line", "weights", "wanted"),
    [
        ("y = MatMul(x, w)", {"w": W}, X @ W),
        ("y = Gemm(x, w) transB=1", {"w": W.T.copy()}, X @ W),
        ("y = Gemm(x, w, b) alpha=2.0 beta=0.5", {"w": W, "b": B}, 2 * (X @ W) + B / 2),
    ],
)
def test_with_no_rounding_nothing_moves_and_no_weight_is_drawn(line, weights, wanted):
    whole = model(line, **weights)
    changed, words = noise.jittered(whole, NONE)
    assert answer(changed) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert changed.graph.initializers["w"].storage is whole.graph.initializers["w"].storage
    assert "inputs of their sums" in words


def test_another_use_of_a_weight_keeps_the_jitter_of_its_numbers():
    """A weight that is read twice, once transposed, can't be moved by way of one product's inputs."""
    whole = model("t = Transpose(w) perm=[1,0]; g = MatMul(x, w); y = MatMul(g, t)", w=W)
    changed, words = noise.jittered(whole, COARSE)
    assert words == ""
    assert not np.array_equal(changed.graph.initializers["w"].array(), W)


def test_the_seed_and_run_make_the_noise():
    whole = model("y = MatMul(x, w)", w=W)
    first, again, other = (answer(noise.jittered(whole, COARSE, run=run)[0]) for run in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


SQUARE = DRAW.standard_normal((K, K)).astype(np.float32)
DEEP = (
    "f = Flatten(x) axis=1; h = Gemm(f, v, c); r = Relu(h); m = MatMul(r, w); a = Add(m, b); y = Softmax(a)"
)
STACK = np.concatenate([X, -X, 2 * X])  # rows of two trials, of 1 and 2 images


def stacked(whole, runs=4, rows=3):
    return noise.stacked(whole, infer(whole), COARSE, seed=7, runs=runs, rows=rows)


def test_runs_that_are_stacked_give_what_each_gives_alone():
    """The factors are the same; sums of several rows may only be rounded another way."""
    whole = model(DEEP, "n,24", v=SQUARE, c=np.ones(K, np.float32), w=W, b=B)
    made = kit.Runner().run(dumps(stacked(whole)), {"x": np.concatenate([STACK] * 4)}, optimization="none")
    for run in range(4):
        alone = dumps(noise.jittered(whole, COARSE, seed=7, run=run)[0])
        for row, given in enumerate(STACK):
            found = kit.Runner().run(alone, {"x": given[None]}, optimization="none")["y"]
            assert made["y"][3 * run + row] == pytest.approx(found[0], rel=1e-5)
    assert not np.allclose(made["y"][0], made["y"][3], rtol=1e-5)  # two runs on one row


@pytest.mark.parametrize(
    ("line", "weights"),
    [
        ("g = MatMul(x, w); y = Softmax(g) axis=0", {"w": W}),
        ("g = MatMul(x, w); y = ReduceMean(g) axes=[0]", {"w": W}),
        ("t = Transpose(x) perm=[1,0]; g = MatMul(t, v); y = Identity(g)", {"v": W[:1]}),
        ("r = Reshape(x, s); y = MatMul(r, w)", {"s": np.array([1, K]), "w": W}),
        ("r = Reshape(x, s); y = MatMul(r, w)", {"s": np.array([-1, 1, K]), "w": W}),
        ("g = MatMul(x, w); y = Add(g, c)", {"w": W, "c": np.ones((3, F), np.float32)}),
        ("y = Gemm(x, w, c)", {"w": W, "c": np.ones((3, F), np.float32)}),
        ("t = Transpose(w) perm=[1,0]; g = MatMul(x, w); y = MatMul(g, t)", {"w": W}),
    ],
    ids=[
        "softmax",
        "mean",
        "turned",
        "one row",
        "rank 3",
        "rows of a sum",
        "rows of C",
        "a weight read twice",
    ],
)
def test_what_may_mix_rows_or_tell_them_apart_is_not_stacked(line, weights):
    assert stacked(model(line, **weights)) is None
