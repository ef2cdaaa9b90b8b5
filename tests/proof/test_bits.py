"""Equality bit by bit of values that stay in the worker: marks stand for them."""

import numpy as np
import pytest

from onnxscope.proof.bits import Kept, Mark, same_bits

A = np.array([[0.0, np.nan], [1.0, 2.0]], np.float32)
OTHERS = {
    "the sign of a zero": np.array([[-0.0, np.nan], [1.0, 2.0]], np.float32),
    "the sign of a NaN": np.array([[0.0, -np.nan], [1.0, 2.0]], np.float32),
    "a shape": A.reshape(4),
    "a type": A.view(np.int32),
    "a number": np.array([[0.0, np.nan], [1.0, np.nextafter(np.float32(2), np.float32(3))]], np.float32),
}


def test_marks_of_equal_values_are_equal_in_two_runs_on_end() -> None:
    kept = Kept()
    first, second = (kept.marked({"a": value, "b": A}, ["a"]) for value in (A, A.copy()))
    assert isinstance(first["a"], Mark)
    assert same_bits(first["a"], second["a"])
    assert first["b"] is A  # not asked for


@pytest.mark.parametrize("what", OTHERS)
def test_marks_of_unequal_values_differ(what: str) -> None:
    kept = Kept()
    first, second = (kept.marked({"a": value}, ["a"])["a"] for value in (A, OTHERS[what]))
    assert not same_bits(first, second)


def test_a_mark_is_no_value_and_texts_have_none() -> None:
    text = np.array(["x"], object)
    marked = Kept().marked({"a": A, "t": text}, ["a", "t"])
    assert marked["t"] is text
    assert not same_bits(marked["a"], A)
