"""Inputs and outputs by name."""

import onnx
import pytest
from nets import net

from onnxscope.files.read import loads
from onnxscope.proof.interface import InputPair, compare


def model(inputs="float[N,3] x", outputs="float[N,3] y", body="y = Identity(x)"):
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}'
    return loads(onnx.parser.parse_model(text).SerializeToString())


def test_the_same_interface():
    found = compare(model(), model())
    assert found.inputs == (InputPair("x", 1, ("N", 3)),)
    assert (found.outputs, found.problems, found.notes) == (("y",), (), ())


def test_a_negative_size_is_free():
    """Paddle writes -1."""
    free, named, fixed = (net(["y = Relu(x)"], x=sizes) for sizes in ("-1,3", "N,3", "1,3"))
    assert compare(free, free).inputs == (InputPair("x", 1, (None, 3)),)
    assert compare(free, named).inputs == (InputPair("x", 1, ("N", 3)),)
    for pair in ((free, fixed), (fixed, free)):
        assert compare(*pair).inputs == (InputPair("x", 1, (1, 3)),)
        assert compare(*pair).problems == ()


def test_a_fixed_size_wins_over_a_symbol():
    found = compare(model("float[N,3] x"), model("float[1,c] x"))
    assert found.inputs == (InputPair("x", 1, (1, 3)),)
    assert found.problems == ()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (model("float[N,4] x"), "axis 1: 3 in the original, 4 in the candidate"),
        (model("float[N,3,1] x"), "2 axes in the original, 3 in the candidate"),
        (model("double[N,3] x", "double[N,3] y"), "float32 and float64"),
        (model("float[N,3] z", body="y = Identity(z)"), "input x is missing"),
        (model("float[N,3] x, float[N] z"), "input z is not in the original"),
        (model(outputs="float[N,3] p", body="p = Identity(x)"), "output y is missing .*renamed to p"),
        (model(outputs="int64[N,3] y", body="y = Cast<to = 7>(x)"), "output y has different types"),
        (
            model(outputs="seq(float[N,3]) y", body="y = SequenceConstruct(x)"),
            "output y is a tensor in the original, a sequence",
        ),
    ],
)
def test_what_makes_a_candidate_no_replacement(other, words):
    problems = compare(model(), other).problems
    assert len(problems) >= 1
    import re

    assert re.search(words, problems[0])


def test_another_order_and_more_outputs_are_said():
    two = "float[N,3] y, float[N,3] z"
    body = "y = Identity(x) z = Neg(x)"
    turned = compare(model(outputs=two, body=body), model(outputs="float[N,3] z, float[N,3] y", body=body))
    assert turned.problems == ()
    assert turned.outputs == ("y", "z")
    assert "order" in turned.notes[0]
    more = compare(model(), model(outputs=two, body=body))
    assert more.problems == ()
    assert "z" in more.notes[0]
