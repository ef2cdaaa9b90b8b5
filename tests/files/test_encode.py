"""What is written, against protobuf: copies byte for byte, edits that keep what `graph` has no room for."""

from __future__ import annotations

import glob
import os
import warnings
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    TensorShapeProto,
    TrainingInfoProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from protos import same_model

from onnxscope.errors import FileError
from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.graph import Attribute, Function, Graph, Model, Node, SparseTensor, Tensor, Type, ValueInfo

LIGHT = sorted(
    glob.glob(os.path.join(os.path.dirname(onnx.__file__), "backend/test/data/**/*.onnx"), recursive=True)
)


@dataclass(frozen=True)
class Made:
    """Numbers that a rewrite made."""

    data: bytes
    kind: str = "generated"
    location: str = "a test"

    def view(self) -> memoryview:
        return memoryview(self.data)


# Unchanged


@pytest.mark.parametrize("path", LIGHT, ids=os.path.basename)
def test_models_of_the_onnx_package_come_back_byte_for_byte(path: str) -> None:
    with open(path, "rb") as file:
        data = file.read()
    assert dumps(loads(data)) == data


def test_the_node_cases_of_onnx_read_and_come_back() -> None:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases overflow on purpose
        cases = collect_testcases(None)
    assert len(cases) > 1500
    for case in cases:
        data = case.model.SerializeToString()
        model = loads(data, case.name)
        same_model(model, case.model)
        assert dumps(model) == data
        assert ModelProto.FromString(dumps(forget(model))) == plain(case.model)


def test_what_is_written_but_empty_stays_written() -> None:
    # proto2 tells an empty text from none at all, and so does a comparison of messages
    proto = ModelProto(ir_version=8, producer_name="", doc_string="", model_version=0)
    proto.opset_import.add(version=18)
    proto.opset_import.add(domain="", version=1)
    proto.metadata_props.add(key="only a key")
    proto.graph.name = ""
    proto.graph.doc_string = ""
    proto.graph.node.add(op_type="X", name="", domain="")
    proto.graph.metadata_props.add(value="only a value")
    proto.graph.sparse_initializer.add(dims=[1])
    assert ModelProto.FromString(dumps(loads(proto.SerializeToString()))) == proto


def test_fields_in_any_order() -> None:
    head, tail = ModelProto(ir_version=8, producer_name="p"), ModelProto(graph=GraphProto(name="g"))
    tail.opset_import.add(version=18)
    data = tail.SerializeToString() + head.SerializeToString()
    assert ModelProto.FromString(dumps(loads(data))) == ModelProto.FromString(data)


def test_what_graph_has_no_room_for_is_kept() -> None:
    proto = rich()
    assert ModelProto.FromString(dumps(loads(proto.SerializeToString()))) == proto


def rich() -> ModelProto:
    """A model with training info, annotations, denotations, device configurations, docs, unknown fields."""
    value = helper.make_tensor_value_info("x", 1, ["N"], "the input")
    value.type.denotation = "IMAGE"
    value.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    value.metadata_props.add(key="v", value="1")
    node = helper.make_node("Elu", ["x"], ["y"], alpha=1.0)
    node.attribute[0].doc_string = "slope"
    node.device_configurations.add(configuration_id="gpus", pipeline_stage=1)
    weight = numpy_helper.from_array(np.float32([1, 2]), "w")
    weight.metadata_props.add(key="t", value="2")
    graph = helper.make_graph([node], "g", [value], [value], [weight])
    graph.quantization_annotation.add(tensor_name="x").quant_parameter_tensor_names.add(
        key="SCALE", value="s"
    )
    proto = helper.make_model(graph, ir_version=11)
    proto.training_info.append(TrainingInfoProto(algorithm=GraphProto(name="sgd")))
    proto.configuration.add(name="gpus", num_devices=2)
    proto.graph.MergeFromString(b"\xa2\x06\x03abc")  # field 100
    proto.MergeFromString(b"\xa2\x06\x03abc\xa8\x06\x07")  # fields 100 and 101
    return proto


def test_an_unchanged_function_is_a_copy_and_a_changed_one_keeps_its_unknown_fields() -> None:
    body = helper.make_node("Relu", ["a"], ["b"], doc_string="d")
    function = helper.make_function("d", "F", ["a"], ["b"], [body], [helper.make_opsetid("", 18)])
    function.MergeFromString(b"\xa2\x06\x03abc")  # field 100
    proto = helper.make_model(helper.make_graph([], "g", [], []), functions=[function], ir_version=8)
    model = loads(proto.SerializeToString())
    assert dumps(model) == proto.SerializeToString()
    proto.functions[0].domain = "e"
    changed = replace(model, functions=(replace(model.functions[0], domain="e"),))
    assert ModelProto.FromString(dumps(changed)) == proto


# Changed


def test_a_changed_node_keeps_its_unknown_fields_and_attribute_docs() -> None:
    proto = rich()
    model = loads(proto.SerializeToString())
    node = replace(model.graph.nodes[0], inputs=("other",))
    edited = replace(model, graph=replace(model.graph, nodes=(node,)))
    proto.graph.node[0].input[0] = "other"
    assert ModelProto.FromString(dumps(edited)) == proto


def test_a_renamed_tensor_keeps_its_bytes_and_unknown_fields() -> None:
    proto = rich()
    model = loads(proto.SerializeToString())
    tensor = replace(model.graph.tensors[0], name="v")
    edited = replace(model, graph=replace(model.graph, tensors=(tensor,)))
    proto.graph.initializer[0].name = "v"
    assert ModelProto.FromString(dumps(edited)) == proto


def test_a_renamed_value_keeps_its_doc_and_metadata() -> None:
    model = loads(rich().SerializeToString())
    value = replace(model.graph.inputs[0], name="z")
    written = ModelProto.FromString(
        dumps(replace(model, graph=replace(model.graph, inputs=(value,))))
    ).graph.input[0]
    assert (written.name, written.doc_string, written.metadata_props[0].key) == ("z", "the input", "v")
    assert written.type.tensor_type.shape.dim[0].dim_param == "N"


def test_changed_heads() -> None:
    proto = rich()
    model = loads(proto.SerializeToString())
    edited = replace(
        model, ir_version=12, producer_name="", opsets=(("", 21), ("com.x", 1)), metadata=(("k", "v"),),
        doc="new",        graph=replace(model.graph, name="h", doc="graph doc", metadata=(("a", "b"),)),
    )  # fmt: skip
    proto.ir_version = 12
    proto.doc_string = "new"
    del proto.opset_import[:]
    proto.opset_import.extend([helper.make_opsetid("", 21), helper.make_opsetid("com.x", 1)])
    proto.metadata_props.add(key="k", value="v")
    proto.graph.name, proto.graph.doc_string = "h", "graph doc"
    proto.graph.metadata_props.add(key="a", value="b")
    assert ModelProto.FromString(dumps(edited)) == proto


def test_a_node_moved_to_another_place_is_still_a_copy() -> None:
    nodes = [helper.make_node("A", ["x"], ["y"], doc_string="a"), helper.make_node("B", ["y"], ["z"])]
    model = loads(helper.make_model(helper.make_graph(nodes, "g", [], [])).SerializeToString())
    (last,) = (replace(node, index=0) for node in model.graph.nodes[1:])
    written = ModelProto.FromString(dumps(replace(model, graph=replace(model.graph, nodes=(last,)))))
    assert list(written.graph.node) == nodes[1:]


def test_a_change_deep_inside_is_written() -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "branch", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    proto = helper.make_model(helper.make_graph([node], "g", [], []))
    model = loads(proto.SerializeToString())
    first, second = model.graph.nodes[0].attributes
    assert isinstance(first.value, Graph)
    body = replace(first.value, nodes=(replace(first.value.nodes[0], op="Elu"),))
    changed = replace(model.graph.nodes[0], attributes=(replace(first, value=body), second))
    proto.graph.node[0].attribute[0].g.node[0].op_type = "Elu"
    assert ModelProto.FromString(dumps(replace(model, graph=replace(model.graph, nodes=(changed,))))) == proto


def test_typed_numbers_of_a_changed_tensor_become_raw_and_strings_stay() -> None:
    halves = helper.make_tensor("h", TensorProto.FLOAT16, [2], [1.5, -2.0])
    texts = helper.make_tensor("s", TensorProto.STRING, [2], [b"a", b"\xff"])
    model = loads(helper.make_model(helper.make_graph([], "g", [], [], [halves, texts])).SerializeToString())
    renamed = tuple(replace(tensor, name=tensor.name * 2) for tensor in model.graph.tensors)
    first, second = ModelProto.FromString(
        dumps(replace(model, graph=replace(model.graph, tensors=renamed)))
    ).graph.initializer
    assert (first.name, first.raw_data, list(first.int32_data)) == (
        "hh",
        np.float16([1.5, -2.0]).tobytes(),
        [],
    )
    assert (second.name, list(second.string_data)) == ("ss", [b"a", b"\xff"])


def test_bytes_that_are_no_utf8_come_back() -> None:
    node = NodeProto(op_type="X", name="caf?", input=["caf?"])
    data = (
        ModelProto(ir_version=8, graph=GraphProto(node=[node]))
        .SerializeToString()
        .replace(b"caf?", b"caf\xe9")
    )
    model = loads(data)
    assert dumps(model) == data
    changed = replace(model.graph.nodes[0], op="Y")
    assert dumps(replace(model, graph=replace(model.graph, nodes=(changed,)))) == data.replace(b"X", b"Y")


# New


def test_a_model_made_of_values() -> None:
    weight = Tensor("w", 1, (2, 1), Made(np.float32([1, 2]).tobytes()), doc="weights")
    hollow = Tensor("hollow", 0, (3,), None)
    ids = Tensor("i", 7, (1,), Made(np.int64([1]).tobytes()))
    sparse = SparseTensor(Tensor("v", 1, (1,), Made(np.float32([5]).tobytes())), ids, (2, 2))
    inner = Graph("inner", nodes=(Node(0, "", "Neg", "", ("x",), ("r",)),), outputs=(ValueInfo("r", Type()),))
    types = (Type("sequence", element=Type("tensor", 7)), Type("map", 8, None, Type("tensor", 1, ())))
    attributes = (
        Attribute("f", 1.5), Attribute("i", -3), Attribute("s", b"text"), Attribute("t", weight),
        Attribute("g", inner), Attribute("fs", (0.5, 1.0)), Attribute("is", (1, -1)),
        Attribute("ss", (b"a", b"")), Attribute("ts", (weight,)), Attribute("gs", (inner, inner)),
        Attribute("tp", Type("tensor", 1, (1, "N", None))), Attribute("tps", types), Attribute("nil", None),
        Attribute("sp", sparse), Attribute("sps", (sparse,)), Attribute("none", (), AttributeProto.INTS),
        Attribute("ref", None, AttributeProto.FLOAT, "outer"),
    )  # fmt: skip
    node = Node(0, "n", "Op", "d", ("x", ""), ("y",), attributes, "o", (("k", "v"),), "doc")
    value = ValueInfo("x", Type("optional", element=Type("sparse", 1, (2, "?"))))
    graph = Graph(
        "g", (value,), (ValueInfo("y", Type("")),), (node,), (weight, hollow), (sparse,), (value,), "d"
    )
    body = Graph("F", nodes=(Node(0, "", "Relu", "", ("a",), ("b",)),), doc="fd", metadata=(("m", "n"),))
    function = Function(
        "fd", "F", "v", ("a",), ("b",), ("alpha",), (Attribute("beta", 2.0),), (("", 18),), body
    )
    model = Model(graph, 9, (("", 18), ("fd", 1)), (function,), (("k", "v"),), "p", "1", "dom", 4, "doc")
    data = dumps(model)
    proto = ModelProto.FromString(data)
    theirs = proto.graph.node[0].attribute
    assert [item.type for item in theirs] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 0, 11, 12, 7, 1]
    assert [helper.get_attribute_value(item) for item in theirs[:3]] == [1.5, -3, b"text"]
    assert helper.get_attribute_value(theirs[10]) == helper.make_tensor_type_proto(1, [1, "N", None])
    assert theirs[16].ref_attr_name == "outer"
    assert numpy_helper.to_array(proto.graph.initializer[0]).tolist() == [[1], [2]]
    assert not proto.graph.initializer[1].HasField("raw_data")
    assert not proto.graph.output[0].HasField("type")
    same_model(loads(data), proto)
    again = loads(data)
    assert ModelProto.FromString(dumps(forget(again))) == proto
    assert replace(again.functions[0], origin=None, body=function.body).inputs == function.inputs


@pytest.mark.parametrize("path", LIGHT, ids=os.path.basename)
def test_a_model_encoded_anew_says_the_same(path: str) -> None:
    with open(path, "rb") as file:
        data = file.read()
    assert ModelProto.FromString(dumps(forget(loads(data)))) == plain(ModelProto.FromString(data))


def plain(proto: Message) -> Message:
    """The message without what a new encoding spells differently, such as typed numbers and empty texts."""
    if (
        isinstance(proto, TensorProto)
        and proto.data_type not in (0, TensorProto.STRING)
        and not proto.external_data
    ):
        flat = numpy_helper.from_array(numpy_helper.to_array(proto), proto.name)
        flat.doc_string = proto.doc_string
        proto.CopyFrom(flat)
    if isinstance(proto, OperatorSetIdProto):
        proto.domain = proto.domain  # always written
        return proto
    for field, value in proto.ListFields():
        empty = value == "" or (field.name, value) == ("model_version", 0)
        if field.name in _UNKEPT.get(proto.__class__, ()) or (empty and field.name not in _ALWAYS):
            proto.ClearField(field.name)
        elif field.message_type:
            for item in [value] if isinstance(value, Message) else value:
                plain(item)
    return proto


_UNKEPT = {
    AttributeProto: {"doc_string"},
    ValueInfoProto: {"doc_string", "metadata_props"},
    TypeProto: {"denotation"},
    TensorShapeProto.Dimension: {"denotation"},
}
_ALWAYS = {"op_type", "key", "value"}


def forget(model: Model) -> Model:
    """The model as if a rewrite had made all of it: nothing left to copy."""
    functions = tuple(
        replace(
            function,
            origin=None,
            body=forget_graph(function.body),
            defaults=tuple(map(forget_attribute, function.defaults)),
        )
        for function in model.functions
    )
    return replace(model, graph=forget_graph(model.graph), functions=functions, rest=())


def forget_graph(graph: Graph) -> Graph:
    values = {
        name: tuple(replace(value, origin=None) for value in getattr(graph, name))
        for name in ("inputs", "outputs", "values")
    }
    sparse = tuple(
        SparseTensor(forget_value(s.values), forget_value(s.indices), s.dims) for s in graph.sparse
    )
    nodes = tuple(
        replace(node, origin=None, attributes=tuple(map(forget_attribute, node.attributes)))
        for node in graph.nodes
    )
    tensors = tuple(map(forget_value, graph.tensors))
    return replace(graph, **values, nodes=nodes, tensors=tensors, sparse=sparse, rest=())


def forget_attribute(attribute: Attribute) -> Attribute:
    value = attribute.value
    if isinstance(value, tuple):
        return replace(attribute, value=tuple(map(forget_value, value)))
    return replace(attribute, value=forget_value(value))


def forget_value(value: object) -> object:
    if isinstance(value, Tensor):
        return replace(value, origin=None)
    if isinstance(value, Graph):
        return forget_graph(value)
    if isinstance(value, SparseTensor):
        return SparseTensor(forget_value(value.values), forget_value(value.indices), value.dims)
    return value


def test_what_cannot_be_written() -> None:
    short = Tensor("w", 1, (3,), Made(b"1234"))
    with pytest.raises(FileError, match="'w' holds 4 bytes where its type and dims ask for 12"):
        dumps(Model(Graph("g", tensors=(short,)), 8))
    with pytest.raises(FileError, match="'w' has an unknown element type"):
        dumps(Model(Graph("g", tensors=(replace(short, dtype=99),)), 8))
    with pytest.raises(ValueError, match="empty list"):
        dumps(Model(Graph("g", nodes=(Node(0, "", "X", "", (), (), (Attribute("a", ()),)),)), 8))
