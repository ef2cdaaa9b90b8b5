"""Defects of external data, each planted into a sound pair of files; sizes of files."""

import hashlib
from dataclasses import replace

import pytest
from audited import found, model_of
from onnx import TensorProto, helper

from onnxscope.files.read import load

SIZE = 1 << 16


def entries(tensor, **fields):
    del tensor.external_data[:]
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=str(value))


@pytest.fixture
def pair(tmp_path):
    """Plants a change into a sound model with two tensors of 64 KiB in w.bin and reads it."""

    def make(plant=None):
        (tmp_path / "w.bin").write_bytes(bytes(2 * SIZE))
        tensors = []
        for place, name in enumerate("ab"):
            tensor = TensorProto(name=name, data_type=1, dims=[SIZE // 4], data_location=1)
            entries(tensor, location="w.bin", offset=place * SIZE, length=SIZE)
            tensors.append(tensor)
        infos = [helper.make_tensor_value_info(name, 1, [SIZE // 4]) for name in "xy"]
        nodes = [helper.make_node("Sum", ["x", "a", "b"], ["y"], name="sum")]
        proto = helper.make_model(helper.make_graph(nodes, "g", infos[:1], infos[1:], tensors), ir_version=8)
        if plant:
            plant(*proto.graph.initializer, tmp_path)
        (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
        return load(tmp_path / "m.onnx")

    return make


def lost(_a, _b, folder):
    (folder / "w.bin").unlink()


def beyond(_a, b, _folder):
    entries(b, location="w.bin", offset=SIZE + 4096, length=SIZE)


def wrong_length(_a, b, _folder):
    entries(b, location="w.bin", offset=SIZE, length=SIZE // 2)


def no_number(_a, b, _folder):
    entries(b, location="w.bin", offset="-1", length=SIZE)


def askew(_a, b, folder):
    (folder / "w.bin").write_bytes(bytes(2 * SIZE + 64))
    entries(b, location="w.bin", offset=SIZE + 64, length=SIZE)


def overlapping(_a, b, _folder):
    entries(b, location="w.bin", offset=4096, length=SIZE)


def other_checksum(a, _b, _folder):
    entries(a, location="w.bin", offset=0, length=SIZE, checksum="0" * 40)


def padded(_a, _b, folder):
    (folder / "w.bin").write_bytes(bytes(4 * SIZE))


def absolute(a, _b, folder):
    entries(a, location=str(folder / "w.bin"), offset=0, length=SIZE)


def parent(a, _b, folder):
    entries(a, location=f"../{folder.name}/w.bin", offset=0, length=SIZE)


def linked(a, _b, folder):
    (folder / "l.bin").symlink_to("/dev/null")
    entries(a, location="l.bin", offset=0, length=SIZE)


def nowhere(a, _b, _folder):
    entries(a, location="", offset=0, length=SIZE)


def folder_itself(a, _b, _folder):
    entries(a, location=".", offset=0, length=SIZE)


DEFECTS = [
    ("OX150", nowhere, "without a location"),
    ("OX150", folder_itself, "'.' is not a regular file"),
    ("OX150", lost, "missing"),
    ("OX151", beyond, "not the range"),
    ("OX151", wrong_length, "ask for"),
    ("OX151", no_number, "natural number"),
    ("OX152", askew, "unaligned"),
    ("OX153", overlapping, "bytes 4096 to 69632"),
    ("OX154", other_checksum, "0" * 40),
    ("OX155", padded, "131072 of 262144 bytes"),
    ("OX801", absolute, "absolute path"),
    ("OX801", parent, ".."),
    ("OX801", linked, "symbolic link"),
]


@pytest.mark.parametrize(("code", "plant", "words"), DEFECTS, ids=[row[1].__name__ for row in DEFECTS])
def test_defect_of_external_data(pair, code, plant, words):
    assert found(code, pair()) == []
    (finding,) = found(code, pair(plant))
    assert words in finding.message


def test_a_right_checksum_is_silent(pair):
    def right(a, _b, folder):
        digest = hashlib.sha1((folder / "w.bin").read_bytes()).hexdigest()
        entries(a, location="w.bin", offset=0, length=SIZE, checksum=digest)

    assert found("OX154", pair(right)) == []


def test_a_shared_range_is_no_overlap(pair):
    def shared(_a, b, _folder):
        entries(b, location="w.bin", offset=0, length=SIZE)

    assert found("OX153", pair(shared)) == []


def test_near_2_gib_OX156():
    model = model_of("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    assert found("OX156", model) == []
    (finding,) = found("OX156", replace(model, file_bytes=2_000_000_000))
    assert "2000000000 bytes, 93%" in finding.message


def test_documentation_bloat_OX157():
    model = model_of("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    assert found("OX157", model) == []
    (finding,) = found("OX157", replace(model, doc="d" * 17000, file_bytes=18000))
    assert "94%" in finding.message
