"""Defects in the bytes of a file, which ONNX text can't express."""

import onnx
import pytest
from audited import found, model_of
from onnx import TensorProto, helper

from onnxscope.files.read import loads


def model(**changes):
    """y = x + w with two numbers in w, one change made to the protos."""
    w = TensorProto(name="w", data_type=1, dims=[2], raw_data=bytes(8))
    x = helper.make_tensor_value_info("x", 1, [2])
    y = helper.make_tensor_value_info("y", 1, [2])
    node = helper.make_node("Add", ["x", "w"], ["y"], name="add")
    proto = helper.make_model(helper.make_graph([node], "g", [x], [y], [w]), ir_version=8)
    for field, value in changes.items():
        setattr(proto.graph.initializer[0], field, value)
    return proto


def hollow(proto):
    proto.graph.initializer[0].ClearField("raw_data")


def in_two_fields(proto):
    proto.graph.initializer[0].float_data.extend([1, 2])


def in_wrong_field(proto):
    hollow(proto)
    proto.graph.initializer[0].int64_data.extend([1, 2])


def segmented(proto):
    proto.graph.initializer[0].segment.begin = 0


def too_short(proto):
    proto.graph.initializer[0].raw_data = bytes(7)


def too_few_floats(proto):
    hollow(proto)
    proto.graph.initializer[0].float_data.extend([1])


def negative(proto):
    proto.graph.initializer[0].dims[0] = -2


def untyped(proto):
    proto.graph.initializer[0].data_type = 0


def unheard_of(proto):
    proto.graph.initializer[0].data_type = 77


def mistyped_attribute(proto):
    attribute = proto.graph.node[0].attribute.add(name="alpha", type=onnx.AttributeProto.INT)
    attribute.f = 0.5


DEFECTS = [
    ("OX134", hollow, "hollow"),
    ("OX137", in_two_fields, "float_data and raw_data"),
    ("OX137", in_wrong_field, "int64_data, which float32 doesn't use"),
    ("OX137", segmented, "segments"),
    ("OX135", too_short, "7 bytes of raw_data where its type and dims ask for 8"),
    ("OX135", too_few_floats, "4 bytes of float_data where its dims ask for 8"),
    ("OX135", negative, "negative size"),
    ("OX136", untyped, "undefined"),
    ("OX136", unheard_of, "77"),
    ("OX138", mistyped_attribute, "says that its type is 2 but holds a value of type 1"),
]


@pytest.mark.parametrize(("code", "plant", "words"), DEFECTS, ids=[row[1].__name__ for row in DEFECTS])
def test_defect_in_the_bytes(code, plant, words):
    proto = model()
    assert found(code, proto) == []
    plant(proto)
    (finding,) = found(code, proto)
    assert words in finding.message
    assert finding.code == code


def test_text_that_is_not_utf8_OX133():
    data = model().SerializeToString()
    assert found("OX133", loads(data)) == []
    (finding,) = found("OX133", loads(data.replace(b"\x03add", b"\x03\xff\xfed")))
    assert "UTF-8" in finding.message


def test_cycle_is_not_called_unsorted():
    text = "g (float[N] x) => (float[N] y) { h = Add(x, y) y = Relu(h) }"
    assert found("OX130", text) == []
    (finding,) = found("OX131", text)
    assert finding.data["nodes"] == 2


def test_functions_that_call_each_other():
    text = """<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
    g (float[N] x) => (float[N] y) { y = my.f(x) }
    <domain: "my", opset_import: ["" : 17, "my" : 1]> f (a) => (b) { b = my.g(a) }
    <domain: "my", opset_import: ["" : 17, "my" : 1]> g (a) => (b) { b = my.f(a) }
    <domain: "my", opset_import: ["" : 17]> h (a) => (b) { b = Relu(a) }"""
    (finding,) = found("OX132", text)
    assert finding.data["functions"] == ["my.f", "my.g"]


def test_an_offset_tells_where_the_node_is():
    read = model_of("g (float[N] x) => (float[N] y) { y = Add(x, lost) }")
    (finding,) = found("OX127", read)
    assert finding.offset == read.graph.nodes[0].origin.offset
