"""Rules about windows and receptive fields: cases with more than one node around the window."""

import onnx.parser
import pytest

from onnxscope.checks.registry import find
from onnxscope.checks.runner import Context, run_rule
from onnxscope.files.read import loads


def found(code, body):
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]>\n' + body)
    return run_rule(find(code), Context(loads(model.SerializeToString(), "example.onnx")))


# Kernel 3, stride s: windows end at (cells - 1)*s + 3 - pad; what lies behind is lost.
@pytest.mark.parametrize(
    ("size", "stride", "pads", "lost"),
    [
        (7, 2, "0, 0, 0, 0", 0),
        (8, 2, "0, 0, 0, 0", 1),
        (9, 3, "0, 0, 0, 0", 0),
        (11, 3, "0, 0, 0, 0", 2),
        (8, 2, "1, 1, 1, 1", 0),
        (8, 2, "0, 0, 1, 1", 0),
        (9, 3, "1, 1, 1, 1", 1),
        (9, 3, "2, 2, 0, 0", 2),
    ],
)
def test_lost_pixels(size, stride, pads, lost):
    """OX601."""
    body = f"""g (float[1,1,{size},{size}] x) => (float[1,1,h,w] y) {{
      y = MaxPool <kernel_shape = [3, 3], strides = [{stride}, {stride}], pads = [{pads}]> (x)
    }}"""
    assert [f.data["lost"] for f in found("OX601", body)] == [lost, lost] * bool(lost)


@pytest.mark.parametrize(("end", "flagged"), [(1, False), (0, True)])
def test_lost_padding_is_no_loss(end, flagged):
    """OX601: 6 + 1 + end pixels, the last of which is padding where end is 1 (Keras writes pads apart)."""
    size = 7 - end
    body = f"""g (float[1,1,{size},{size}] x) => (float[1,1,3,3] y)
    <int64[8] p = {{0, 0, 1, 1, 0, 0, {end}, {end}}}> {{
      a = Pad (x, p)
      y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (a)
    }}"""
    assert bool(found("OX601", body)) is flagged


@pytest.mark.parametrize(("other", "flagged"), [("Relu (x)", False), ("Relu (a)", True)])
def test_another_reader_loses_nothing(other, flagged):
    """OX602 in a residual block: the other branch reads the pixels that a strided 1x1 skips."""
    body = f"""g (float[1,1,8,8] x) => (float[1,1,4,4] y, float[1,1,h,w] z) <float[1,1,1,1] w = {{2}}> {{
      y = Conv <strides = [2, 2]> (x, w)
      a = Relu (y)
      z = {other}
    }}"""
    assert bool(found("OX602", body)) is flagged


@pytest.mark.parametrize(("size", "flagged"), [(3, False), (4, True)])
def test_image_behind_a_transpose(size, flagged):
    """OX631: the image of a channels-last model is what its first window reads, not the declared axes."""
    body = f"""g (float[1,{size},{size},1] x) => (float[1,1,1,1] y)
    <float[1,1,3,3] w = {{1,2,3,4,5,6,7,8,9}}> {{
      a = Transpose <perm = [0, 3, 1, 2]> (x)
      b = Conv (a, w)
      y = GlobalAveragePool (b)
    }}"""
    assert bool(found("OX631", body)) is flagged
    assert found("OX632", body) == []


# Taps of a 3-wide kernel with dilation d and pad d on a map of n pixels: the outer two live where n > d.
@pytest.mark.parametrize(("size", "dilation", "live"), [(1, 1, 1), (2, 1, None), (4, 4, 1), (5, 4, None)])
def test_live_part_of_a_kernel(size, dilation, live):
    """OX603."""
    body = f"""g (float[1,1,{size},{size}] x) => (float[1,1,{size},{size}] y)
    <float[1,1,3,3] w = {{1,2,3,4,5,6,7,8,9}}> {{
      y = Conv <dilations = [D, D], pads = [D, D, D, D]> (x, w)
    }}""".replace("D", str(dilation))
    assert [f.data["live"] for f in found("OX603", body)] == ([] if live is None else [[live, live]])


def test_bottleneck_counts():
    """OX620: 8*7 + 7*4*9 = 308 products per position with the bottleneck, 8*4*9 = 288 without."""
    body = """g (float[1,8,8,8] x, float[7,8,1,1] v, float[4,7,3,3] w) => (float[1,4,6,6] y) {
      a = Conv (x, v)
      y = Conv (a, w)
    }"""
    (finding,) = found("OX620", body)
    assert finding.data == {"with_bottleneck": 308, "without": 288}


POOLED_TWICE = """g (float[1,1,20,20] x) => (float[1,1,3,3] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
  [small] a = Conv (x, w)
  b = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)
  [again] c = Conv (b, w)
  y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
}"""


def test_one_finding_for_all_pooled_convolutions_OX621():
    """18*18*9 = 2916 MACs, a quarter of them 729; the second layer has 7*7*9 = 441."""
    (finding,) = found("OX621", POOLED_TWICE)
    assert finding.where == "small"
    assert "2916 MACs, 729 with" in finding.message
    assert finding.data["layers"] == ["small", "again"]


PINNING = """g (float[1,1,SIZE] x) => (float[1,2] y) <float[2,4] f = {1,2,3,4,5,6,7,8}> {
  a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
  b = Flatten (a)
  [head] y = Gemm <transB = 1> (b, f)
}"""


def test_a_head_pins_only_what_is_declared_free_OX634():
    (finding,) = found("OX634", PINNING.replace("SIZE", "H,W"))
    assert (finding.where, finding.data["kernel"]) == ("head", [2, 2])
    assert found("OX634", PINNING.replace("SIZE", "4,4")) == []
    (convertible,) = found("OX521", PINNING.replace("SIZE", "4,4"))
    assert "pins the input size" in convertible.message


def test_a_small_field_says_who_joins_the_parts_OX631():
    pooled = """g (float[1,1,16,16] x) => (float[1,1,1,1] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
      a = Conv (x, w)
      y = GlobalAveragePool (a)
    }"""
    (finding,) = found("OX631", pooled)
    assert finding.message.startswith("receptive field 3 is smaller than the input of 16 pixels")
    assert "nothing puts them together" in finding.message
    (finding,) = found("OX631", PINNING.replace("SIZE", "4,4"))
    assert "only the head puts the parts" in finding.message
