"""Rules about numerics: cases that need large tensors or several ops."""

import onnx.parser
import pytest

from onnxscope.checks.registry import find
from onnxscope.checks.runner import Context, run_rule
from onnxscope.files.read import loads

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'


def found(code, body):
    model = loads(onnx.parser.parse_model(HEAD + body).SerializeToString(), "example.onnx")
    return run_rule(find(code), Context(model))


# 2**31 - 1 = 2147483647 >= 66311*255*127 = 2147481735, and 66312 terms exceed it.
@pytest.mark.parametrize(("terms", "flagged"), [(66311, False), (66312, True)])
def test_int32_accumulator_overflow(terms, flagged):
    body = f"g (uint8[1,{terms}] x, int8[{terms},2] w) => (int32[1,2] y) {{ y = MatMulInteger (x, w) }}"
    assert bool(found("OX340", body)) is flagged


def test_clip_bounds_as_attributes():
    text = """<ir_version: 4, opset_import: ["": 9]>
    g (float[2] x) => (float[2] y) { y = Clip <min = 6.0, max = 0.0> (x) }"""
    model = loads(onnx.parser.parse_model(text).SerializeToString(), "example.onnx")
    (finding,) = run_rule(find("OX331"), Context(model))
    assert finding.data == {"min": 6.0, "max": 0.0}


@pytest.mark.parametrize(
    ("makes", "flagged"),
    [
        ("Softmax (x)", True),
        ("Relu (x)", True),
        ("Clip (x, e)", False),
        ("Clip (x, z)", True),
        ("Exp (x)", False),
    ],
)
def test_log_of_zero(makes, flagged):
    body = (
        f"g (float[2] x) => (float[2] y) <float e = {{0.1}}, float z = {{0}}> {{ a = {makes} y = Log (a) }}"
    )
    assert bool(found("OX333", body)) is flagged


@pytest.mark.parametrize(("exponent", "flagged"), [("0.5", True), ("2", False), ("-1.5", True)])
def test_pow_of_signed(exponent, flagged):
    body = f"g (float[2] x) => (float[2] y) <float e = {{{exponent}}}> {{ a = Tanh (x) y = Pow (a, e) }}"
    assert bool(found("OX334", body)) is flagged


# Input in [0, 6]: channel 0 reaches 6*1 - 5 = 1, channel 1 reaches 6*1 - 6 = 0, channel 2 is -1 everywhere.
def test_dead_channels_from_bounds():
    body = """g (float[1,1,2,2] x) => (float[1,3,2,2] y)
    <float lo = {0}, float hi = {6}, float[3,1,1,1] w = {1, 1, 0}, float[3] b = {-5, -6, -1}> {
      a = Clip (x, lo, hi)
      c = Conv (a, w, b)
      y = Relu (c)
    }"""
    (finding,) = found("OX324", body)
    assert finding.data["channels"] == [1, 2]


def test_dead_channels_need_a_bound():
    body = """g (float[1,1,2,2] x) => (float[1,2,2,2] y) <float[2,1,1,1] w = {-1, 0}, float[2] b = {-5, -6}> {
      c = Conv (x, w, b)
      y = Relu (c)
    }"""
    (finding,) = found("OX324", body)
    assert finding.data["channels"] == [1]


@pytest.mark.parametrize(
    ("steps", "flagged"),
    [
        ("Clip (a, lo, hi) c = Round (b)", False),
        ("Round (a) c = Floor (b)", True),
        ("Tanh (a) c = Round (b)", False),
    ],
)
def test_cast_after_rounding(steps, flagged):
    """OX339 looks through roundings at what they round."""
    body = f"""g (float[2] x) => (uint8[2] y) <float s = {{255}}, float lo = {{0}}, float hi = {{255}}> {{
      a = Mul (x, s)
      b = {steps}
      y = Cast <to = 2> (c)
    }}"""
    assert bool(found("OX339", body)) is flagged
