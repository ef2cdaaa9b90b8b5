"""Outputs side by side: aligned shapes, NaN and Inf counted apart, limits, texts, lists and maps."""

from math import inf, nan

import numpy as np
import pytest

from onnxscope.proof.compare import Tally, aligned, tolerance


def tally(original, candidate, limit=0.5):
    found = Tally("y")
    found.add(original, candidate, limit)
    return found.result()


def floats(*values):
    return np.array(values, np.float32)


def test_differences_relative_differences_and_the_tolerance_that_passes():
    found = tally(floats(1, -2, 4), floats(1, -2.25, 5), np.array([1, 0.5, 4.0]))
    assert (found.max_abs, found.max_rel, found.max_value) == (1.0, 0.25, 4.0)
    assert (found.would_pass_at, found.limit, found.ok) == (0.5, 4.0, True)
    assert not tally(floats(10), floats(19), 0.1).ok


def test_difference_and_limit_shown_agree_with_the_verdict():
    """Kept: both from the element of the largest difference. Broken: the limit that is broken most."""
    kept = tally(floats(0, 0), floats(8, 1), np.array([16.0, 1.25]))
    assert (kept.max_abs, kept.limit, kept.would_pass_at, kept.ok) == (8, 16, 0.8, True)
    broken = tally(floats(0, 0), floats(8, 1), np.array([16.0, 0.25]))
    assert (broken.max_abs, broken.limit, broken.would_pass_at, broken.ok) == (8, 0.25, 4, False)
    trials = Tally("y")
    for candidate, limit in ((3.0, 0.5), (4.0, 8.0), (1.0, 0.25)):
        trials.add(floats(0), floats(candidate), limit)
    found = trials.result()
    assert (found.max_abs, found.limit, found.would_pass_at) == (4, 0.5, 6)


def test_a_limit_of_zero_is_kept_only_by_equal_bits():
    assert tally(floats(1), floats(1), 0.0).would_pass_at == 0
    found = tally(floats(1), floats(np.nextafter(np.float32(1), np.float32(2))), 0.0)
    assert (found.ok, found.would_pass_at) == (False, inf)


@pytest.mark.parametrize(
    ("original", "candidate", "nans", "infs", "ok"),
    [
        ((nan, 1), (nan, 1), (1, 0, 0), (0, 0, 0), True),
        ((nan, 1), (1, 1), (0, 1, 0), (0, 0, 0), False),
        ((1, 1), (nan, 1), (0, 0, 1), (0, 0, 0), False),
        ((inf, -inf), (inf, -inf), (0, 0, 0), (2, 0, 0), True),
        ((inf, 1), (-inf, 1), (0, 0, 0), (0, 1, 1), False),
        ((inf, 1), (1, 1), (0, 0, 0), (0, 1, 0), False),
        ((1, 1), (1, inf), (0, 0, 0), (0, 0, 1), False),
        ((nan, 1), (inf, 1), (0, 1, 0), (0, 0, 0), False),
    ],
)
def test_nan_and_inf_are_counted_apart(original, candidate, nans, infs, ok):
    found = tally(floats(*original), floats(*candidate))
    assert (found.nan, found.inf, found.ok) == (nans, infs, ok)
    assert found.max_abs == 0


def test_trailing_axes_of_size_one_are_no_difference():
    a, b = np.ones((2, 3)), np.ones((2, 3, 1, 1))
    assert [part.shape for part in aligned(a, b)] == [(2, 3)] * 2
    assert tally(a, b).ok
    assert tally(b, a, np.full((2, 3, 1, 1), 0.1)).ok
    assert aligned(np.ones((2, 3)), np.ones((2, 3, 2, 1))) is None
    assert aligned(np.ones((3, 2)), np.ones((2, 3))) is None


def test_another_shape_fails_and_is_named():
    found = tally(np.ones((2, 3)), np.ones((3, 2)))
    assert not found.ok
    assert "[2, 3] against [3, 2]" in found.limit_from


def test_argmax_agreement_counts_rows_and_cells():
    original = np.zeros((1, 2, 2, 2), np.float32)
    candidate = original.copy()
    original[0, 1, 0, 0] = candidate[0, 1, 0, 0] = 1  # one cell of four says class 1 in both
    candidate[0, 1, 1, 1] = 1  # one only in the candidate
    assert tally(original, candidate, 2.0).argmax_agreement == 0.75
    assert tally(floats(1, 2), floats(1, 2)).argmax_agreement is None


def test_empty_outputs_are_equal():
    found = tally(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    assert (found.ok, found.max_abs) == (True, 0.0)
    assert not tally(np.zeros((0, 4)), np.zeros((4, 0))).ok


def test_large_integers_are_compared_exactly():
    a = np.array([2**60, 5])
    assert tally(a, a, 0.0).ok
    assert tally(np.array([3, 250], np.uint8), np.array([4, 250], np.uint8), 1.0).ok
    assert not tally(np.array([3], np.uint8), np.array([5], np.uint8), 1.0).ok


def test_strings():
    a = np.array(["a", "b"], object)
    assert tally(a, a.copy(), 0.0).ok
    found = tally(a, np.array(["a", "c"], object), 0.0)
    assert not found.ok
    assert "1 of 2 strings differ" in found.limit_from


def test_complex_numbers_by_part():
    a = np.array([1 + 2j], np.complex64)
    assert tally(a, a + np.complex64(0.25j), 0.5).max_abs == 0.25


@pytest.mark.parametrize(
    ("original", "candidate", "ok"),
    [
        ([floats(1), floats(2)], [floats(1), floats(2)], True),
        ([floats(1), floats(2)], [floats(1), floats(9)], False),
        ([floats(1), floats(2)], [floats(1)], False),
        ([{0: 0.25, 1: 0.75}], [{1: 0.75, 0: 0.25}], True),
        ([{0: 0.25, 1: 0.75}], [{0: 0.25, 1: 1.75}], False),
        ([{0: 0.25}], [{2: 0.25}], False),
        (["a"], ["b"], False),
        (None, None, True),
        (None, floats(1), False),
    ],
)
def test_sequences_maps_and_optionals(original, candidate, ok):
    assert tally(original, candidate).ok is ok


def test_several_trials_add_up():
    found = Tally("y")
    found.add(floats(nan, 1), floats(nan, 1.5), 1.0)
    found.add(floats(inf, 1), floats(inf, 1.25), 0.5)
    result = found.result()
    assert (result.nan, result.inf) == ((1, 0, 0), (1, 0, 0))
    assert (result.max_abs, result.would_pass_at) == (0.5, 0.5)


def test_tolerances_as_asked_for():
    assert tolerance(floats(-2, 0), 0.5, 0.25).tolist() == [1.25, 0.25]
    assert tolerance(floats(-2, inf), 0.5, None).tolist() == [1.0, 0.0]
    assert tolerance(["a"], 0.5, None) == 0
