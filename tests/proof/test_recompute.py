"""A fully connected layer in float64, block by block: what each block, tile and limit decides."""

import numpy as np
import pytest

from onnxscope.proof import layers, limits, recompute
from onnxscope.proof.layers import FullyConnected
from onnxscope.proof.links import LayerLink, Move

RNG = np.random.default_rng(5)
FACTOR = limits.confidence(1000)


def link(how: str = "same bytes") -> LayerLink:
    return LayerLink("n", "x", "y", "x", "y", (1, 1), Move("w", "w", how), None)


def checked(layer: FullyConnected, rows: np.ndarray, result: np.ndarray, how: str = "same bytes") -> object:
    pairs = [(rows[:, :, None, None], result[:, :, None, None])]
    return recompute.connected(layer, link(how), pairs, limits.FLOAT32, FACTOR)


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of 4 outputs, 8 of them held at once, tiles of 2 rows: 21 outputs are three stretches."""
    monkeypatch.setattr(layers, "_BLOCK", 4 * 100)
    monkeypatch.setattr(layers, "_HELD", 8 * 100 * 4)
    monkeypatch.setattr(recompute, "_TILE", 2 * 4 * 100 // limits.pieces_of(100))


@pytest.mark.parametrize("alpha", [1.0, -0.5])
@pytest.mark.parametrize("bias", [False, True])
def test_a_right_result_passes_and_every_wrong_number_shows(blocks, alpha, bias):
    weight = RNG.standard_normal((21, 100)).astype(np.float32)
    rows = RNG.standard_normal((5, 100)).astype(np.float32)
    offset = RNG.standard_normal(21) if bias else None
    layer = FullyConnected(weight, offset, alpha)
    right = alpha * (rows.astype(np.float64) @ weight.T.astype(np.float64)) + (offset if bias else 0)
    found = checked(layer, rows, right)
    assert (found.ok, found.values) == (True, 5 * 21)
    assert found.ratio < 1e-6
    for place in np.ndindex(right.shape):
        wrong = right.copy()
        wrong[place] += 1e-4
        assert not checked(layer, rows, wrong).ok, place


def halves(outputs: int) -> tuple[FullyConnected, np.ndarray]:
    """Sums that go far up and come down again: in the stored order they round more than in a random one."""
    weight = np.repeat([[1.0, -1.0]], 500, axis=1).reshape(1, -1)
    weight = np.concatenate([weight[:, ::2], weight[:, 1::2]], axis=1).repeat(outputs, axis=0)
    weight *= 1 + 0.01 * RNG.standard_normal(weight.shape)
    return FullyConnected(weight.astype(np.float32), None, 1.0), np.ones((1, 1000), np.float32)


def test_the_wider_limit_counts_where_the_sharper_one_is_broken():
    layer, rows = halves(3)
    weight, row = layer.block(0, 3), limits.prepared(rows.astype(np.float64), (1000, 1))
    wide = limits.of_sums(limits.weighted(weight, None, row), limits.FLOAT32, FACTOR)
    y = limits.weighted(weight, None, row).y
    sharp = limits.of_sums(limits.shuffled(weight, None, row), limits.FLOAT32, FACTOR)
    assert (sharp < 0.5 * wide).all()
    between = checked(layer, rows, y + (sharp + wide) / 2)
    assert between.ok
    assert 0.5 < between.ratio < 1
    assert not checked(layer, rows, y + 1.01 * wide).ok


def test_a_factor_folded_into_the_weights_rounds_each_of_them_once_more():
    weight, rows = np.ones((1, 16), np.float32), np.zeros((1, 16), np.float32)
    rows[0, 3] = 1.0
    layer = FullyConnected(weight, None, 1.0)
    # y = 1, n = 1, P = 1, Q = 1/6 + 1/3 + P + y^2 = 2.5, and P more for the factor
    for how, quadratic in (("same bytes", 2.5), ("folded", 3.5)):
        limit = FACTOR * 2.0**-24 * quadratic**0.5
        assert checked(layer, rows, np.array([[1 + 0.99 * limit]]), how).ok
        assert not checked(layer, rows, np.array([[1 + 1.01 * limit]]), how).ok
