"""Fingerprints: the same after renumbering, different for different places. OX002 has none of its own."""

import onnx.parser

from onnxscope.checks.baseline import fingerprints, spots
from onnxscope.checks.finding import Finding
from onnxscope.checks.suppress import allowed, entries
from onnxscope.files.read import loads

# The same network twice; the second has one node more in front, so that every number behind it moves.
FIRST = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 4] x) => (float[1, 2] o)
<float[4, 3] onnx_MatMul_5 = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3, 2] w2 = {1,2,3,4,5,6}>
{ t1 = MatMul(x, onnx_MatMul_5) t2 = Relu(t1) o = MatMul(t2, w2) }
"""
SECOND = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 4] x) => (float[1, 2] o)
<float[4, 3] onnx_MatMul_6 = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3, 2] w2 = {1,2,3,4,5,6}>
{ t2 = MatMul(x, onnx_MatMul_6) t3 = Relu(t2) t4 = Identity(t3) o = MatMul(t4, w2) }
"""


def read(text):
    return loads(onnx.parser.parse_model(text).SerializeToString(), "m.onnx")


def prints(text, *places):
    found = [Finding("OX500", "some", "note", where, "m") for where in places]
    return fingerprints(found, spots(read(text)))


def test_unnamed_nodes_and_numbered_tensors_keep_theirs():
    first = prints(FIRST, "MatMul_0", "Relu_1", "onnx_MatMul_5")
    second = prints(SECOND, "MatMul_0", "Relu_1", "onnx_MatMul_6")
    assert first[0] == second[0]
    assert first[2] == second[2]


def test_shift_of_the_index_alone_changes_nothing():
    lead = "{ t1 = MatMul"
    more = FIRST.replace(lead, "{ c = Constant<value_float = 1.0>() t1 = MatMul")
    assert prints(FIRST, "MatMul_0", "MatMul_2") == prints(more, "MatMul_1", "MatMul_3")


def test_different_places_and_codes_differ():
    assert len(set(prints(FIRST, "MatMul_0", "MatMul_2", "w2", "", "MatMul_0"))) == 5


def test_spots_know_the_bytes():
    model = read(FIRST)
    data = onnx.parser.parse_model(FIRST).SerializeToString()
    span = spots(model)["MatMul_2"].span
    assert b"MatMul" in data[span.offset : span.offset + span.length]


def test_metadata_allows_findings():
    proto = onnx.parser.parse_model(FIRST)
    onnx.helper.set_model_props(proto, {"onnxscope.ignore": "OX50, some-name OX600@Relu_1"})
    found = entries(loads(proto.SerializeToString()))
    assert allowed(Finding("OX501", "x", "note", "y", "m"), found)
    assert allowed(Finding("OX999", "some-name", "note", "y", "m"), found)
    assert allowed(Finding("OX600", "x", "note", "Relu_1", "m"), found)
    assert not allowed(Finding("OX600", "x", "note", "MatMul_0", "m"), found)
    assert not allowed(Finding("OX510", "x", "note", "y", "m"), found)
