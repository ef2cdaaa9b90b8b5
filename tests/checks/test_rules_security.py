"""What hides in bytes and characters."""

import hashlib
import pickle
import zipfile
from dataclasses import replace
from io import BytesIO

import onnx
import pytest
from audited import codes, found, model_of
from onnx import TensorProto, helper

from onnxscope.checks.rules_security_payload import program_in
from onnxscope.files.read import load, loads

PLAIN = "g (float[N] x) => (float[N] y) { [relu] y = Relu(x) }"


def zipped():
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.txt", "hello")
    return data.getvalue()


HEADS = [
    (b"\x7fELF\x02\x01\x01" + bytes(60), "an ELF program"),
    (b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0", "a Windows program"),
    (pickle.dumps(list(range(9)), 4), "a Python pickle"),
    (pickle.dumps({"a": 1.5}, 5), "a Python pickle"),
    (zipped(), "a ZIP archive"),
    (b"#!/usr/bin/env python3\n", "a script"),
    (b"MZ" + bytes(100), ""),
    (b"\x80\x04 no pickle", ""),
    (bytes(64), ""),
    (b"", ""),
]


@pytest.mark.parametrize(("head", "kind"), HEADS)
def test_first_bytes(head, kind):
    assert program_in(head) == kind


@pytest.mark.parametrize("form", ["bytes", "string", "attribute"])
def test_embedded_pickle_OX808(form):
    data = pickle.dumps(["os.system", "id"] * 9, 4)
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[len(data)], raw_data=data)
    if form == "string":
        tensor = TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], string_data=[data])
    if form == "attribute":
        node = helper.make_node("Constant", [], ["y"], value_string=data)
        tensor = None
    else:
        node = helper.make_node("Constant", [], ["y"], value=tensor)
    info = helper.make_empty_tensor_value_info("y")
    proto = helper.make_model(helper.make_graph([node], "g", [], [info]))
    (finding,) = found("OX808", proto)
    assert "a Python pickle" in finding.message


@pytest.mark.parametrize("letter", ["\x1b[31m", "\u202e", "\u200b", "\x07", "\n"])
def test_control_character_in_a_name_OX809(letter):
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{PLAIN}')
    assert found("OX809", proto) == []
    proto.graph.node[0].name = f"relu{letter}"
    (finding,) = found("OX809", proto)
    assert f"U+{ord(letter[0]):04X}" in finding.message
    assert letter not in finding.message
    assert letter not in finding.where


def test_line_ends_are_fine_in_documentation_OX809():
    assert found("OX809", replace(model_of(PLAIN), doc="two\nlines\t")) == []
    assert found("OX809", replace(model_of(PLAIN), doc="an \x1b[2J escape"))


def test_oversized_text_OX810():
    assert found("OX810", replace(model_of(PLAIN), doc="d" * (1 << 20), metadata=(("k" * 1024, ""),))) == []
    assert found("OX810", replace(model_of(PLAIN), doc="d" * ((1 << 20) + 1)))
    assert found("OX810", replace(model_of(PLAIN), metadata=(("k" * 1025, ""),)))


def test_bill_of_materials_OX811(tmp_path):
    data = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{PLAIN}').SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data)
    (finding,) = found("OX811", load(tmp_path / "m.onnx"))
    assert finding.data == {"file": "m.onnx", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert found("OX811", loads(data)) == []


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("OX804", "saved to C:\\\\work\\\\nets\\\\a.py", 1),
        ("OX804", "/model/layer1/conv/Conv_output_0", 0),
        ("OX804", "https://example.com/home/page", 0),
        ("OX805", "/Users/jane/nets", 1),
        ("OX805", "a/home/made net", 0),
        ("OX805", "user at example dot com", 0),
        ("OX806", "see http://example.com/a", 1),
        ("OX807", "ghp_" + "a1B2" * 9, 1),
        ("OX807", "postgres://bob:hunter2@db.example", 1),
        ("OX807", "hf_token goes here", 0),
    ],
)
def test_texts(code, text, expected):
    model = model_of(f'<ir_version: 8, opset_import: ["" : 17], metadata_props: ["k" : "{text}"]> {PLAIN}')
    assert len(found(code, model)) == expected


def test_an_address_ends_before_the_sentence_does():
    """As Ultralytics writes its licence."""
    model = replace(model_of(PLAIN), metadata=(("k", "AGPL (https://example.com/license)."),))
    (finding,) = found("OX806", model)
    assert "'https://example.com/license'" in finding.message


def test_a_secret_is_not_repeated():
    token = "ghp_" + "a1B2" * 9
    model = replace(model_of(PLAIN), metadata=(("k", token),))
    (finding,) = found("OX807", model)
    assert token not in finding.message


def test_plain_model_is_safe():
    assert codes(model_of(PLAIN), ("OX8",)) == set()
