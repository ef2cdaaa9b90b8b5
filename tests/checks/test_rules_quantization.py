"""Rules about quantization: cases of several nodes. Names: q* integers, s* scales, z* zero points."""

import onnx.parser
import pytest

from onnxscope.checks.registry import find
from onnxscope.checks.runner import Context, run_rule
from onnxscope.files.read import loads

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'


def found(code, body):
    model = loads(onnx.parser.parse_model(HEAD + body).SerializeToString(), "example.onnx")
    return run_rule(find(code), Context(model))


@pytest.mark.parametrize(
    ("kinds", "zero", "flagged"),
    [("uint8", "0", False), ("int8", "0", True), ("int32", "5", True), ("int32", "0", True)],
)
def test_zero_point_type(kinds, zero, flagged):
    """OX404, with a uint8 input."""
    body = f"""g (uint8[2] q) => (float[2] y) <float s = {{1}}, {kinds} z = {{{zero}}}> {{
      y = DequantizeLinear (q, s, z)
    }}"""
    assert bool(found("OX404", body)) is flagged


@pytest.mark.parametrize(("zero", "flagged"), [("0", False), ("5", True)])
def test_zero_point_of_int32(zero, flagged):
    """OX404: int32 values have zero point 0."""
    body = f"""g (int32[2] q) => (float[2] y) <float s = {{1}}, int32 z = {{{zero}}}> {{
      y = DequantizeLinear (q, s, z)
    }}"""
    assert bool(found("OX404", body)) is flagged


LAYER = """g (uint8[1,2] qx) => (float[1,2] y)
<float sx = {{0.5}}, uint8 zx = {{0}}, int8[2,2] qw = {weights}, float{n} sw = {sw}, int8{n} zw = {zw},
 int32[2] qb = {{1, 2}}, float{n} sb = {sb}> {{
  x = DequantizeLinear (qx, sx, zx)
  w = DequantizeLinear <axis = {axis}> (qw, sw, zw)
  b = DequantizeLinear <axis = 0> (qb, sb)
  y = Gemm <transB = 1> (x, w, b)
}}"""


def layer(**changes):
    given = {"n": "", "sw": "{0.25}", "zw": "{0}", "sb": "{0.125}", "axis": 0, "weights": "{1, 2, 3, 64}"}
    return LAYER.format(**{**given, **changes})


PER_CHANNEL = {"n": "[2]", "sw": "{0.25, 0.5}", "zw": "{0, 0}", "sb": "{0.125, 0.25}"}


@pytest.mark.parametrize("code", ["OX407", "OX411", "OX416", "OX417", "OX418"])
@pytest.mark.parametrize("changes", [{}, PER_CHANNEL])
def test_sound_layer(code, changes):
    assert found(code, layer(**changes)) == []


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("OX407", {"sb": "{0.25}"}),
        ("OX407", {**PER_CHANNEL, "sb": "{0.125, 0.125}"}),
        ("OX416", {**PER_CHANNEL, "axis": 1}),
        ("OX417", {"zw": "{3}"}),
        ("OX418", {"weights": "{1, 2, 3, 65}"}),
    ],
)
def test_unsound_layer(code, changes):
    assert [finding.code for finding in found(code, layer(**changes))] == [code]


def test_bias_scale_names_both_numbers():
    (finding,) = found("OX407", layer(**{**PER_CHANNEL, "sb": "{0.125, 0.125}"}))
    assert "bias scale 0.125" in finding.message
    assert "0.25 (channel 1, 1 in all)" in finding.message
    assert finding.data == {"channels": [1]}


def test_layer_left_in_float():
    """OX411: the second of two equal layers (4 MACs each) isn't quantized."""
    body = """g (uint8[1,2] qx) => (float[1,2] y)
    <float s = {0.5}, uint8 z = {0}, int8[2,2] qw = {1, 2, 3, 4}, float[2,2] v = {1, 2, 3, 4}> {
      x = DequantizeLinear (qx, s, z)
      w = DequantizeLinear (qw, s)
      a = MatMul (x, w)
      y = MatMul (a, v)
    }"""
    (finding,) = found("OX411", body)
    assert finding.data["share"] == 0.5


def test_float_models_have_no_layer_left():
    body = "g (float[1,2] x) => (float[1,2] y) <float[2,2] v = {1, 2, 3, 4}> { y = MatMul (x, v) }"
    assert found("OX411", body) == []


@pytest.mark.parametrize(("rows", "flagged"), [(512, True), (511, False)])
def test_float_weights_behind_quantize(rows, flagged):
    """OX415, from 1,024 numbers on."""
    numbers = ", ".join(["1"] * rows * 2)
    body = f"""g () => (uint8[{rows},2] y)
    <float[{rows},2] w = {{{numbers}}}, float s = {{0.5}}, uint8 z = {{0}}> {{
      y = QuantizeLinear (w, s, z)
    }}"""
    assert bool(found("OX415", body)) is flagged


@pytest.mark.parametrize(("weights", "flagged"), [("{100, 1, 2, 3}", True), ("{64, 1, 2, 3}", False)])
def test_bytes_saturate_in_the_fused_head_too(weights, flagged):
    """OX418: onnxruntime's QGemm multiplies uint8 by int8 like QLinearConv."""
    body = f"""g (uint8[1,2] qx) => (uint8[1,2] y)
    <float s = {{0.5}}, uint8 z = {{0}}, int8[2,2] w = {weights}, int8 zw = {{0}}> {{
      y = com.microsoft.QGemm <transB = 1> (qx, s, z, w, s, zw, , s, z)
    }}"""
    head = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>\n'
    model = loads(onnx.parser.parse_model(head + body).SerializeToString(), "example.onnx")
    findings = run_rule(find("OX418"), Context(model))
    assert bool(findings) is flagged
