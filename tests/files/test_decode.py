"""Every field that `graph` knows, against protobuf: its builder, its parser, its rules for odd messages."""

from __future__ import annotations

import glob
import os

import numpy as np
import onnx
import pytest
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    StringStringEntryProto,
    TensorProto,
    TensorShapeProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from protos import same_model, type_of

from onnxscope.errors import FileError
from onnxscope.files.read import load, loads
from onnxscope.graph import Attribute, Model, Tensor

LIGHT = sorted(
    glob.glob(os.path.join(os.path.dirname(onnx.__file__), "backend/test/data/**/*.onnx"), recursive=True)
)


def decoded(graph: GraphProto, **fields: object) -> Model:
    return loads(ModelProto(ir_version=10, graph=graph, **fields).SerializeToString())


def attribute(proto: AttributeProto) -> Attribute:
    return decoded(GraphProto(node=[NodeProto(op_type="X", attribute=[proto])])).graph.nodes[0].attributes[0]


def test_a_model_with_every_field() -> None:
    types = [
        helper.make_tensor_type_proto(1, [1, "N", None]),
        helper.make_tensor_type_proto(7, None),
        helper.make_tensor_type_proto(0, []),
        helper.make_sparse_tensor_type_proto(1, [2, "batch size"]),
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(9, [-1])),
        helper.make_optional_type_proto(
            helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["?"]))
        ),
        helper.make_map_type_proto(8, helper.make_tensor_type_proto(1, ["é"])),
        TypeProto(opaque_type=TypeProto.Opaque(domain="d", name="n")),
        TypeProto(denotation="IMAGE"),
    ]
    values = [helper.make_value_info(f"v{place}", item) for place, item in enumerate(types)]
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    text = helper.make_tensor("s", TensorProto.STRING, [2], [b"a", "ü".encode()])
    positions = helper.make_tensor("i", TensorProto.INT64, [2], [1, 5])
    sparse = helper.make_sparse_tensor(helper.make_tensor("v", 1, [2], [1.0, 2.0]), positions, [2, 3])
    inner = helper.make_graph(
        [helper.make_node("Relu", ["outer"], ["r"])], "inner", [], values[:1], [weight], doc_string="body"
    )
    plain = helper.make_node(
        "Many", ["", "x", ""], ["y", ""], "name", "doc", "my.domain", "over",
        f=1.5, i=-3, s="text", b=b"\xff\x00", fs=[0.1, -0.0], ii=[1, 2**62, -(2**63)], ss=["a", b"\xfe"],
        t=weight, g=inner, ts=[weight, text], gs=[inner, inner], tp=types[0], tps=types,
        sp=sparse, sps=[sparse, sparse],
    )  # fmt: skip
    plain.metadata_props.add(key="k", value="v")
    plain.attribute.append(helper.make_attribute("none", [], attr_type=AttributeProto.INTS))
    graph = helper.make_graph([plain], "main", values, values[:2], [weight, text], "a doc", values, [sparse])
    graph.metadata_props.add(key="graph key", value="")
    body = helper.make_node("Elu", ["a"], ["b"])
    body.attribute.add(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT)
    function = helper.make_function(
        "f.domain", "F", ["a"], ["b"], [body], [helper.make_opsetid("", 20)], ["slope"],
        [helper.make_attribute("beta", 2.0)], "what it does", "v2", values[:1],
    )  # fmt: skip
    function.metadata_props.add(key="origin", value="here")
    model = helper.make_model(
        graph, functions=[function], producer_name="p", producer_version="1", ir_version=10
    )
    model.domain, model.model_version, model.doc_string = "org", -7, "über"
    model.metadata_props.add(key="a", value="b")
    read = loads(model.SerializeToString())
    assert read.oddities == ()
    same_model(read, model)


@pytest.mark.parametrize("path", LIGHT, ids=os.path.basename)
def test_models_of_the_onnx_package(path: str) -> None:
    model = load(path)
    assert model.oddities == ()
    same_model(model, onnx.load(path))


def test_old_attributes_have_no_type() -> None:
    for value, kind in ((1.5, 1), (3, 2), (b"s", 3), ([1.5, 2.5], 6), ([1, 2], 7), ([b"a"], 8)):
        proto = helper.make_attribute("a", value)
        proto.ClearField("type")
        mine = attribute(proto)
        assert (mine.type, mine.value) == (kind, tuple(value) if isinstance(value, list) else value)
    assert attribute(AttributeProto(name="a")) == Attribute("a", None, 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (1, 0.0),
        (2, 0),
        (3, b""),
        (4, None),
        (5, None),
        (6, ()),
        (7, ()),
        (8, ()),
        (9, ()),
        (13, None),
        (14, ()),
    ],
)
def test_an_attribute_whose_value_is_not_written_has_its_default(kind: int, value: object) -> None:
    mine = attribute(AttributeProto(name="a", type=kind))
    assert (mine.type, mine.value) == (kind, value)


def test_attributes_that_contradict_their_type() -> None:
    proto = AttributeProto(name="a", type=AttributeProto.INT, f=1.5)
    model = decoded(GraphProto(node=[NodeProto(op_type="X", attribute=[proto])]))
    assert model.graph.nodes[0].attribute("a") == 0
    assert model.oddities[0].message == "says that its type is 2 but holds a value of type 1"
    unknown = AttributeProto(name="a").SerializeToString() + bytes.fromhex("a00163")  # type = 99
    node = NodeProto(op_type="X").SerializeToString() + b"\x2a" + bytes([len(unknown)]) + unknown
    graph = b"\x0a" + bytes([len(node)]) + node
    model = loads(b"\x08\x0a\x3a" + bytes([len(graph)]) + graph + b"\x42\x02\x10\x0d")
    assert model.graph.nodes[0].attributes[0] == Attribute("a", None, 99)
    assert "type 99" in model.oddities[0].message


def test_of_scalars_given_twice_the_last_wins_and_messages_merge() -> None:
    first = ModelProto(
        ir_version=3, producer_name="old", graph=GraphProto(name="a", node=[NodeProto(op_type="A")])
    )
    second = ModelProto(ir_version=8, graph=GraphProto(name="b", node=[NodeProto(op_type="B")]))
    data = first.SerializeToString() + second.SerializeToString()
    model = loads(data)
    same_model(model, ModelProto.FromString(data))
    assert [node.op for node in model.graph.nodes] == ["A", "B"]
    assert (model.graph.name, model.ir_version) == ("b", 8)


def test_of_a_type_given_twice_the_same_kind_merges_and_another_replaces() -> None:
    tensor = TypeProto(tensor_type=TypeProto.Tensor(elem_type=1)).SerializeToString()
    shape = TypeProto(tensor_type=TypeProto.Tensor(shape=TensorShapeProto(dim=[{"dim_value": 4}])))
    sequence = TypeProto(sequence_type=TypeProto.Sequence()).SerializeToString()
    for data in (
        tensor + shape.SerializeToString(),
        sequence + tensor,
        tensor + sequence,
        tensor + sequence + shape.SerializeToString(),
    ):
        value = ValueInfoProto(name="x").SerializeToString() + b"\x12" + bytes([len(data)]) + data
        graph = b"\x5a" + bytes([len(value)]) + value
        body = b"\x08\x08\x3a" + bytes([len(graph)]) + graph
        kind = type_of(ModelProto.FromString(body).graph.input[0].type)
        # protobuf gives a sequence without elements an empty type, the graph says that there is none
        mine = loads(body).graph.inputs[0].type
        assert (mine.kind, mine.dtype, mine.shape) == (kind.kind, kind.dtype, kind.shape)


def test_a_tensor_attribute_given_twice_merges() -> None:
    parts = [AttributeProto(name="a", type=4, t=TensorProto(data_type=1, dims=[1])), AttributeProto()]
    parts[1].t.float_data.append(2.5)
    data = b"".join(part.SerializeToString() for part in parts)
    node = NodeProto(op_type="X").SerializeToString() + b"\x2a" + bytes([len(data)]) + data
    graph = b"\x0a" + bytes([len(node)]) + node
    tensor = loads(b"\x08\x08\x3a" + bytes([len(graph)]) + graph).graph.nodes[0].attribute("a")
    assert isinstance(tensor, Tensor)
    assert (tensor.dims, tensor.items(), tensor.origin) == ((1,), (2.5,), None)


def packed_node(attribute_body: bytes) -> bytes:
    node = (
        NodeProto(op_type="X").SerializeToString() + b"\x2a" + bytes([len(attribute_body)]) + attribute_body
    )
    graph = b"\x0a" + bytes([len(node)]) + node
    return b"\x08\x08\x3a" + bytes([len(graph)]) + graph


def test_packed_and_unpacked_lists_in_one_attribute() -> None:
    # proto2 writers leave these lists unpacked, but every parser must take both, in the order of the file
    ints = AttributeProto(name="a", type=7, ints=[5]).SerializeToString()
    data = packed_node(ints + b"\x42\x03\x01\xac\x02" + b"\x40\x07")
    assert loads(data).graph.nodes[0].attribute("a") == (5, 1, 300, 7)
    assert list(ModelProto.FromString(data).graph.node[0].attribute[0].ints) == [5, 1, 300, 7]
    floats = AttributeProto(name="a", type=6, floats=[1.5]).SerializeToString()
    data = packed_node(floats + b"\x3a\x08" + np.float32([2.5, -1]).tobytes())
    assert loads(data).graph.nodes[0].attribute("a") == (1.5, 2.5, -1.0)
    with pytest.raises(FileError, match="a packed list of floats has 7 bytes"):
        loads(packed_node(floats + b"\x3a\x07" + bytes(7)))


def test_packed_dims() -> None:
    body = TensorProto(name="w", data_type=1, raw_data=bytes(12)).SerializeToString() + b"\x0a\x02\x03\x01"
    graph = b"\x2a" + bytes([len(body)]) + body
    data = b"\x08\x08\x3a" + bytes([len(graph)]) + graph
    assert (
        loads(data).graph.tensors[0].dims
        == (3, 1)
        == tuple(ModelProto.FromString(data).graph.initializer[0].dims)
    )


def test_dimensions_are_numbers_names_or_nothing_and_the_last_given_holds() -> None:
    dims = [
        {"dim_value": 0},
        {"dim_value": -1},
        {"dim_param": "N"},
        {"dim_param": ""},
        {"denotation": "BATCH"},
    ]
    shape = TensorShapeProto(dim=dims)
    shape.dim.add().MergeFromString(b"\x08\x03\x12\x01N")
    shape.dim.add().MergeFromString(b"\x12\x01N\x08\x03")
    value = ValueInfoProto(name="x", type=TypeProto(tensor_type=TypeProto.Tensor(elem_type=1, shape=shape)))
    model = decoded(GraphProto(input=[value]))
    assert model.graph.inputs[0].type.shape == (0, -1, "N", None, None, "N", 3)


def test_bytes_that_are_no_utf8_are_kept_and_noted() -> None:
    graph = GraphProto(node=[NodeProto(op_type="X", name="caf?", input=["caf?"])])
    data = ModelProto(ir_version=8, graph=graph).SerializeToString().replace(b"caf?", b"caf\xe9")
    model = loads(data)
    assert model.graph.nodes[0].name.encode("utf-8", "surrogateescape") == b"caf\xe9"
    assert (
        len([oddity for oddity in model.oddities if "UTF-8" in oddity.message]) == 1
    )  # noted once, used twice
    assert r"caf\xe9" in model.oddities[0].message


def test_fields_of_another_wire_type_are_unknown_fields() -> None:
    # ir_version (field 1) as a string, then as it should be
    data = b"\x0a\x03abc" + ModelProto(ir_version=8, graph=GraphProto(name="g")).SerializeToString()
    assert loads(data).ir_version == ModelProto.FromString(data).ir_version == 8


def test_repeats_are_noted() -> None:
    weight = numpy_helper.from_array(np.float32([1]), "w")
    nodes = [NodeProto(op_type="X", output=["y", ""]), NodeProto(op_type="X", output=["y", ""])]
    value = ValueInfoProto(name="x")
    graph = GraphProto(
        name="g", node=nodes, initializer=[weight, weight, weight], input=[value, value], output=[value]
    )
    graph.metadata_props.extend([StringStringEntryProto(key="k"), StringStringEntryProto(key="k")])
    opsets = [OperatorSetIdProto(version=1), OperatorSetIdProto(domain="ai.onnx", version=2)]
    functions = [FunctionProto(name="f", domain="d"), FunctionProto(name="f", domain="d")]
    keys = [StringStringEntryProto(key="author", value=value) for value in "ab"]
    model = decoded(graph, opset_import=opsets, functions=functions, metadata_props=keys)
    assert {(oddity.where, oddity.message) for oddity in model.oddities} == {
        ("graph 'g'", "initializer 'w' is given 3 times"),
        ("graph 'g'", "node output 'y' is given 2 times"),
        ("graph 'g'", "input 'x' is given 2 times"),
        ("graph 'g'", "metadata key 'k' is given 2 times"),
        ("model", "opset import of domain '' is given 2 times"),
        ("model", "metadata key 'author' is given 2 times"),
        ("model", "function 'd.f.' is given 2 times"),
    }
    assert model.opsets == (("", 1), ("ai.onnx", 2))
    assert model.metadata == (("author", "a"), ("author", "b"))


def test_a_model_without_opsets_or_version_is_noted() -> None:
    assert [oddity.message for oddity in decoded(GraphProto(name="g")).oddities] == ["imports no opset"]
    data = ModelProto(graph=GraphProto(name="g"), opset_import=[OperatorSetIdProto(version=1)])
    assert [oddity.message for oddity in loads(data.SerializeToString()).oddities] == ["gives no IR version"]


def test_every_part_knows_its_bytes() -> None:
    weight = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    value = helper.make_tensor_value_info("x", 1, ["N"])
    node = helper.make_node("Add", ["x", "w"], ["y"])
    data = helper.make_model(helper.make_graph([node], "g", [value], [], [weight])).SerializeToString()
    graph = loads(data).graph
    for part, proto in ((graph.nodes[0], node), (graph.tensors[0], weight), (graph.inputs[0], value)):
        assert part.origin is not None
        assert data[part.origin.offset :][: part.origin.length] == proto.SerializeToString()
