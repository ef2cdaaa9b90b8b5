"""Broadcasting against numpy, with numbers and with symbols that stand for the same numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscope.expr import bind, symbol
from onnxscope.ops._broadcast import broadcast, unified
from onnxscope.ops.value import Unanswered

N, H, W = symbol("N"), symbol("H"), symbol("W")
SIZES = st.sampled_from([1, 1, 2, 3, 7])
SHAPES = st.lists(st.lists(SIZES, max_size=4).map(tuple), min_size=1, max_size=3)


def numpy_shape(shapes):
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


@given(SHAPES)
def test_numbers_broadcast_as_in_numpy(shapes):
    expected = numpy_shape(shapes)
    if expected is None:
        with pytest.raises(Unanswered, match="don't broadcast"):
            broadcast(*shapes)
    else:
        assert broadcast(*shapes) == expected


@given(SHAPES, st.data())
def test_symbols_for_some_sizes_give_the_same_shape(shapes, data):
    expected = numpy_shape(shapes)
    if expected is None:
        return
    values = {"N": 1, "H": 2, "W": 3}
    names = {1: N, 2: H, 3: W}
    free = [tuple(names.get(s, s) if data.draw(st.booleans()) else s for s in shape) for shape in shapes]
    assert tuple(bind(size, values) for size in broadcast(*free)) == expected


def test_a_size_above_one_decides():
    assert broadcast((H,), (W + 1,)) == (W + 1,)
    assert broadcast((0, H), (1, W)) == (0, broadcast((H,), (W,))[0])


def test_unified_takes_numbers_before_symbols():
    assert unified((N, 3, H), (2, 3, W)) == (2, 3, H)


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((2, 3), (2, 1))])
def test_unified_refuses_other_shapes(shapes):
    with pytest.raises(Unanswered, match="must have one shape"):
        unified(*shapes)
