import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxscope.proof import limits

RNG = np.random.default_rng(3)


def in_order(weight, bias, row):
    """Sum of squared partial sums of W a, adding in the stored order: the definition that Q estimates."""
    partial = np.cumsum(weight * row, axis=1)
    return (partial**2).sum(1) + (partial[:, -1] + bias) ** 2


def test_lambda_is_the_factor_of_azumas_inequality():
    for count in (1, 1000, 10**6):
        factor = limits.confidence(count, 1e-6)
        assert count * 2 * math.exp(-(factor**2) / 2) == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("code", "name"), [(1, "float32"), (10, "float16"), (11, "float64"), (16, "bfloat16"), (7, None)]
)
def test_arithmetic_by_element_type(code, name):
    found = limits.arithmetic_of(code)
    assert (found.name if found else None) == name


def test_tf32_rounds_operands():
    found = limits.arithmetic_of(1, tf32=True)
    assert (found.operands, found.unit) == (2.0**-11, 2.0**-24)
    assert found.text == "TF32 (u = 2^-24, v = 2^-11)"


def test_sums_by_hand():
    weight, bias = np.array([[1.0, 2.0, 3.0]]), np.array([4.0])
    found = limits.sums(weight, bias, np.array([[2.0, 0.0, -1.0]]), (1, 3))
    assert found.y == [[1 * 2 - 3 + 4]]
    assert found.squares == [[4 + 9]]
    assert found.terms == [[2]]
    # one piece: 2 terms on the line from 0 to -1, and their random walk; against 2 terms in random order
    piece = 2 * (0 + 0 + 1) / 3 + 2 / 1 * 13 / 6
    assert found.quadratic[0, 0] == pytest.approx(piece + 13 + (2 / 16 + 1) * 16 + 9)


def test_sums_in_a_random_order_by_hand():
    rows = limits.prepared(np.array([[2.0, 0.0, -1.0]]), (1, 3))
    found = limits.shuffled(np.array([[1.0, 2.0, 3.0]]), np.array([4.0]), rows)
    assert (found.y, found.squares, found.terms) == ([[3.0]], [[4.0 + 9.0]], [[2.0]])
    walk = 2 * 13 / 6 + 2 * (2 - 3) ** 2 / 3
    assert found.quadratic[0, 0] == pytest.approx(walk + 13 + (2 / 16 + 1) * 16 + 3**2)


@pytest.mark.parametrize("split", [(1, 1000), (40, 25), (25, 41)])
def test_a_random_order_is_the_sharper_limit(split):
    weight, row = RNG.standard_normal((8, math.prod(split))), RNG.standard_normal((3, math.prod(split)))
    rows = limits.prepared(row, split)
    walked = limits.weighted(weight, None, rows)
    found = limits.shuffled(weight.copy(), None, rows)
    np.testing.assert_allclose(found.y, row @ weight.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.squares, (row**2) @ (weight**2).T)
    assert (found.quadratic <= walked.quadratic * (1 + 1e-12)).all()


@pytest.mark.parametrize("signs", ["mixed", "positive", "halves"])
@pytest.mark.parametrize("shape", [(16, 25), (3, 100), (100, 3), (400, 1)])
def test_q_covers_the_partial_sums_of_both_orders(shape, signs):
    groups, members = shape
    count = groups * members
    weight = RNG.standard_normal((8, count))
    bias = RNG.standard_normal(8)
    for _ in range(10):
        row = np.abs(RNG.standard_normal(count)) * np.sign(weight[0])
        if signs == "mixed":
            row = RNG.standard_normal(count)
        elif signs == "halves":
            row.reshape(groups, members)[: groups // 2] *= -1
        turns = (slice(None), np.arange(count).reshape(groups, members).T.ravel())
        truth = np.max([in_order(weight[:, turn], bias, row[turn]) for turn in turns], axis=0)
        found = limits.sums(weight, bias, row[None], shape).quadratic[0]
        assert (found > 0.5 * truth).all()
        assert found[0] < 4 * truth.max()


def test_zeros_add_no_noise():
    weight = RNG.standard_normal((4, 200))
    dense, sparse = RNG.standard_normal((1, 200)), np.zeros((1, 200))
    sparse[0, :3] = dense[0, :3]
    found = [limits.sums(weight, None, rows, (1, 200)).quadratic for rows in (dense, sparse)]
    assert (found[1] < 0.1 * found[0]).all()


@pytest.mark.parametrize("count", [1, 7, 64, 1000, 25088])
def test_float32_sums_keep_the_limit_in_any_order(count):
    factor = limits.confidence(64 * 4)
    for _ in range(4):
        weight = RNG.standard_normal((16, count)).astype(np.float32)
        row = RNG.standard_normal(count).astype(np.float32)
        found = limits.sums(weight.astype(np.float64), None, row[None].astype(np.float64), (1, count))
        allowed = limits.of_sums(found, limits.FLOAT32, factor)
        for order in (slice(None), slice(None, None, -1), RNG.permutation(count)):
            terms = weight[:, order] * row[order]
            computed = np.add.accumulate(terms, axis=1, dtype=np.float32)[
                :, -1
            ]  # strictly one after the other
            assert limits.compare(computed[None], found.y, allowed).ok


def test_float16_allows_one_rounding_of_the_result():
    weight = np.array([[1.0]])
    found = limits.sums(weight, None, np.array([[1.0]]), (1, 1))
    allowed = limits.of_sums(found, limits.FLOAT16, 0.0)
    assert allowed[0, 0] == pytest.approx(2.0**-11 + 2.0**-24)


def test_tf32_counts_both_operands():
    found = limits.sums(np.array([[3.0]]), None, np.array([[1.0]]), (1, 1))
    narrow = limits.of_sums(found, limits.FLOAT32, 1.0)[0, 0]
    wide = limits.of_sums(found, limits.TF32, 1.0)[0, 0]
    assert wide == pytest.approx(math.sqrt(narrow**2 + 2 * 2.0**-22 * 9), rel=1e-6)


@pytest.mark.parametrize(
    ("computed", "expected", "limit", "max_abs", "ratio"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0, 0.0, 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25, 0.5, 2.0),
        ([1.0, 2.5], [1.0, 2.0], [0.1, 1.0], 0.5, 0.5),
        ([np.nan, np.inf], [np.nan, np.inf], 0.1, 0.0, 0.0),
        ([np.nan], [1.0], 0.1, np.inf, np.inf),
        ([np.inf], [-np.inf], 0.1, np.inf, np.inf),
        ([1.0], [2.0], 0.0, 1.0, np.inf),
        ([1.0], [2.0], np.nan, 1.0, np.inf),
        ([], [], 0.1, 0.0, 0.0),
    ],
)
def test_comparison(computed, expected, limit, max_abs, ratio):
    found = limits.compare(np.array(computed), np.array(expected), np.array(limit))
    assert (found.max_abs, found.ratio, found.ok) == (max_abs, ratio, ratio <= 1)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=2, max_size=12), st.integers(1, 11))
def test_merged_comparisons_are_the_comparison_of_all(rows, cut):
    gaps, bounds = (np.array(column) for column in zip(*rows, strict=True))
    whole = limits.compare(gaps, np.zeros(len(gaps)), bounds)
    parts = [
        limits.compare(gaps[part], np.zeros(len(gaps[part])), bounds[part])
        for part in (slice(cut), slice(cut, None))
    ]
    merged = parts[0].merged(parts[1])
    assert (merged.values, merged.max_abs, merged.ratio) == (whole.values, whole.max_abs, whole.ratio)


def test_steps_of_quantized_values():
    found, share = limits.steps(np.array([3, 5, 7, 8]), np.array([3, 5, 7, 9]), allowed=0)
    assert (found.ok, found.max_abs, share) == (False, 1.0, 0.25)
    assert limits.steps(np.array([3, 5, 7, 8]), np.array([3, 5, 7, 9]), allowed=1)[0].ok
    assert limits.steps(np.array([0.3]), np.array([0.300001]), scale=0.1)[0].max_abs == 0
