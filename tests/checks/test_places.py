"""Walks over a model, and what is kept of them."""

import gc
import weakref

from audited import model_of

from onnxscope.checks import places

NESTED = """g (float[N] x, bool c) => (float[N] y) {
    h = Relu(x)
    [branch] y = If(c) <
        then_branch = yes () => (float[N] a) { a = Neg(h) },
        else_branch = no () => (float[N] b) { b = Abs(h) }
    >
}"""


def test_every_graph_once_with_the_names_around_it():
    found = places.places(model_of(NESTED))
    assert [place.path for place in found] == ["", "branch.then_branch/", "branch.else_branch/"]
    assert found[1].outer == {"x", "c", "h"}


def test_a_walk_is_kept_for_its_own_model_only():
    one, other = model_of(NESTED), model_of("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    assert places.places(one) is places.places(one)
    assert len(places.places(other)) == 1
    assert len(places.places(one)) == 3


def test_nothing_outlives_the_model():
    model = model_of(NESTED)
    graph = weakref.ref(places.places(model)[0].graph)
    del model
    gc.collect()
    assert graph() is None


def test_lists_in_messages():
    assert places.several("abc") == "a, b, c"
    assert places.several("abcde", 2) == "a, b and 3 more"
