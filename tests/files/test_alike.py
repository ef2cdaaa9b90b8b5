"""What the reader keeps of alike nodes and tensors must not leak into those that only look alike.

Each odd message comes behind a usual one that filled what is kept, and is compared with what protobuf reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from onnx import AttributeProto, NodeProto, TensorProto, helper

from onnxscope.errors import FileError
from onnxscope.files.making import maker
from onnxscope.files.read import loads
from onnxscope.files.wire import encode_bytes, encode_int
from onnxscope.graph import Model, Node, Tensor

DIMS = encode_int(1, 2) + encode_int(1, 3)
TYPE = encode_int(2, TensorProto.FLOAT)
RAW = encode_bytes(9, bytes(range(24)))
USUAL = DIMS + TYPE + encode_bytes(8, b"w") + RAW

TENSORS = {
    "as usual": DIMS + TYPE + encode_bytes(8, b"v") + RAW,
    "a dim behind the name": DIMS + TYPE + encode_bytes(8, b"v") + encode_int(1, 1) + RAW,
    "a dim behind the numbers": DIMS + TYPE + encode_bytes(8, b"v") + RAW + encode_int(1, 1),
    "another type at the end": DIMS + TYPE + encode_bytes(8, b"v") + RAW + encode_int(2, 6),
    "type first": TYPE + DIMS + encode_bytes(8, b"v") + RAW,
    "two names": DIMS + TYPE + encode_bytes(8, b"u") + encode_bytes(8, b"v") + RAW,
    "a name of 200 letters": DIMS + TYPE + encode_bytes(8, b"v" * 200) + RAW,
    "an empty name": DIMS + TYPE + encode_bytes(8, b"") + RAW,
    "a doc": DIMS + TYPE + encode_bytes(8, b"v") + RAW + encode_bytes(12, b"doc"),
    "numbers twice": DIMS + TYPE + encode_bytes(8, b"v") + RAW + encode_bytes(9, bytes(24)),
    "packed dims": encode_bytes(1, bytes([2, 3])) + TYPE + encode_bytes(8, b"v") + RAW,
    "no numbers": DIMS + TYPE + encode_bytes(8, b"v"),
    "a field that nobody knows": DIMS + TYPE + encode_bytes(8, b"v") + RAW + encode_int(100, 1),
    "a long dim": encode_int(1, 300) + encode_int(1, 0) + TYPE + encode_bytes(8, b"v") + encode_bytes(9, b""),
    "a negative dim": encode_int(1, -1) + TYPE + encode_bytes(8, b"v") + encode_bytes(9, b""),
}


def model(field: int, *messages: bytes) -> Model:
    """A model whose graph has the messages in one of its lists."""
    graph = b"".join(encode_bytes(field, message) for message in messages)
    return loads(encode_int(1, 10) + encode_bytes(7, graph) + encode_bytes(8, encode_int(2, 17)))


@pytest.mark.parametrize("odd", TENSORS.values(), ids=TENSORS)
def test_tensors(odd: bytes) -> None:
    found = model(5, USUAL, odd, odd, USUAL).graph.tensors
    for tensor, body in zip(found, (USUAL, odd, odd, USUAL), strict=True):
        wanted = TensorProto.FromString(body)
        assert (tensor.name, tensor.dims, tensor.dtype, tensor.doc) == (
            wanted.name,
            tuple(wanted.dims),
            wanted.data_type,
            wanted.doc_string,
        )
        if wanted.HasField("raw_data") and len(wanted.raw_data) == tensor.nbytes:
            assert tensor.storage is not None
            assert bytes(tensor.storage.view()) == wanted.raw_data


def test_a_tensor_with_too_few_bytes_is_noted_behind_a_good_one() -> None:
    short = DIMS + TYPE + encode_bytes(8, b"short") + encode_bytes(9, bytes(20))
    found = model(5, USUAL, short)
    assert [(oddity.where, oddity.message) for oddity in found.oddities] == [
        ("tensor 'short'", "holds 20 bytes of raw_data where its type and dims ask for 24")
    ]
    with pytest.raises(FileError, match="24"):
        found.graph.tensors[1].array()


def test_a_tensor_whose_numbers_are_elsewhere_looks_like_one_with_numbers() -> None:
    entry = encode_bytes(1, b"location") + encode_bytes(2, b"w.bin")
    odd = DIMS + TYPE + encode_bytes(8, b"v") + encode_bytes(13, entry) + encode_int(14, 1)
    bare = DIMS + TYPE + encode_bytes(8, b"v") + encode_int(14, 1)  # says so, and doesn't say where
    found = model(5, USUAL, odd, bare).graph.tensors
    assert [tensor.storage and tensor.storage.kind for tensor in found] == ["raw", "external", "external"]
    assert found[1].external == (("location", "w.bin"),)


def node(**fields: object) -> bytes:
    given = {"input": ["x"], "output": ["y"], "name": "n", "op_type": "Relu", **fields}
    return NodeProto(**given).SerializeToString()


STRIDES = helper.make_attribute("strides", [2, 2])
VALUE = helper.make_attribute("value", helper.make_tensor("t", TensorProto.INT64, [1], [7]))
PLAIN = node(op_type="Conv", attribute=[STRIDES])
NODES = {
    "as usual": node(op_type="Conv", name="m", attribute=[STRIDES]),
    "another output": node(op_type="Conv", output=["z", ""], attribute=[STRIDES]),
    "an input behind the op": node(op_type="Conv", attribute=[STRIDES]) + encode_bytes(1, b"late"),
    "a name behind the op": node(op_type="Conv", attribute=[STRIDES]) + encode_bytes(3, b"late"),
    "two names": encode_bytes(3, b"first") + PLAIN,
    "a long name": node(op_type="Conv", name="n" * 300, attribute=[STRIDES]),
    "a doc": node(op_type="Conv", attribute=[STRIDES], doc_string="doc"),
    "another domain": node(op_type="Conv", attribute=[STRIDES], domain="com.example"),
    "an overload": node(op_type="Conv", attribute=[STRIDES], overload="o"),
    "op first": encode_bytes(4, b"Conv") + encode_bytes(1, b"x") + encode_bytes(2, b"y"),
    "no op": encode_bytes(1, b"x") + encode_bytes(2, b"y"),
    "nothing": b"",
    "a field that nobody knows": PLAIN + encode_int(100, 1),
}


@pytest.mark.parametrize("odd", NODES.values(), ids=NODES)
def test_nodes(odd: bytes) -> None:
    found = model(1, PLAIN, odd, odd, PLAIN).graph.nodes
    for index, (read, body) in enumerate(zip(found, (PLAIN, odd, odd, PLAIN), strict=True)):
        wanted = NodeProto.FromString(body)
        assert (read.index, read.name, read.op, read.domain) == (
            index,
            wanted.name,
            wanted.op_type,
            wanted.domain,
        )
        assert (read.inputs, read.outputs) == (tuple(wanted.input), tuple(wanted.output))
        assert (read.overload, read.doc) == (wanted.overload, wanted.doc_string)
        assert [a.value for a in read.attributes] == [tuple(a.ints) for a in wanted.attribute]


def test_metadata_of_nodes_stays_with_each() -> None:
    entry = helper.make_node("Relu", ["x"], ["y"]).metadata_props.add(key="k", value="v")
    told = node() + encode_bytes(9, entry.SerializeToString())
    assert [read.metadata for read in model(1, told, node(), told).graph.nodes] == [
        (("k", "v"),),
        (),
        (("k", "v"),),
    ]


def test_alike_nodes_share_numbers_but_never_tensors() -> None:
    constant = NodeProto(output=["c"], op_type="Constant", attribute=[VALUE]).SerializeToString()
    first, second, third, fourth = model(1, PLAIN, PLAIN, constant, constant).graph.nodes
    assert first.attributes is second.attributes
    tensors = [attribute.value for read in (third, fourth) for attribute in read.attributes]
    assert tensors[0] is not tensors[1]


def test_a_text_that_is_no_utf8_is_noted_once() -> None:
    odd = node(op_type="Conv", attribute=[AttributeProto(name="a", s=b"\xff", type=AttributeProto.STRING)])
    bad = node().replace(b"Relu", b"\xff\xfelu")
    found = model(1, odd, bad, bad)
    assert [oddity.kind for oddity in found.oddities].count("utf8") == 1
    assert [read.op for read in found.graph.nodes] == ["Conv", "\udcff\udcfelu", "\udcff\udcfelu"]


def test_what_is_made_quickly_is_frozen_and_equal() -> None:
    quick = maker(Tensor)("w", 1, (2,), None, "doc", (), None)
    assert quick == Tensor("w", 1, (2,), None, "doc")
    assert hash(quick) == hash(Tensor("w", 1, (2,), None, "doc"))
    assert type(quick) is Tensor
    with pytest.raises(AttributeError):
        quick.name = "v"  # type: ignore[misc]  # what mypy forbids must fail at run time too
    slow = dataclass(frozen=True)(type("Slow", (), {"__annotations__": {"size": int}}))
    assert maker(slow)(1) == slow(1)
    read = model(1, PLAIN, PLAIN).graph.nodes[1]
    assert type(read) is Node
    with pytest.raises(AttributeError):
        read.op = "Relu"  # type: ignore[misc]  # as above
