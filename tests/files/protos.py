"""A small model with everything, and a decoded model against what protobuf says of the same bytes."""

from __future__ import annotations

import numpy as np
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    StringStringEntryProto,
    TensorProto,
    TensorShapeProto,
    TypeProto,
    helper,
    numpy_helper,
)

from onnxscope.graph import Function, Graph, Model, Node, Tensor, Type, ValueInfo


def small() -> ModelProto:
    """Conv, If with two branches, Constant, a function call: every kind of nesting in under a kilobyte."""
    weight = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(2, 4), "w")
    ids = helper.make_tensor("ids", TensorProto.INT64, [2], [1, 300])
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "branch", [], [], [ids])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "dense"),
        helper.make_node("If", ["c"], ["i"], then_branch=branch, else_branch=branch),
        helper.make_node("Constant", [], ["k"], value=weight),
        helper.make_node("F", ["h"], ["y"], domain="local", scale=0.5, axes=[1, 2], mode="same"),
    ]
    body = helper.make_node("Relu", ["a"], ["b"])
    function = helper.make_function("local", "F", ["a"], ["b"], [body], [helper.make_opsetid("", 18)])
    value = helper.make_tensor_value_info("x", 1, ["N", 2])
    graph = helper.make_graph(
        nodes, "g", [value], [helper.make_tensor_value_info("y", 1, None)], [weight, ids]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=9)


def same_model(ours: Model, theirs: ModelProto) -> None:
    names = "ir_version producer_name producer_version domain model_version".split()
    assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]
    assert ours.doc == theirs.doc_string
    assert ours.opsets == tuple((item.domain, item.version) for item in theirs.opset_import)
    assert ours.metadata == pairs(theirs.metadata_props)
    same_graph(ours.graph, theirs.graph)
    for function, proto in zip(ours.functions, theirs.functions, strict=True):
        same_function(function, proto)


def same_graph(ours: Graph, theirs: GraphProto) -> None:
    assert (ours.name, ours.doc, ours.metadata) == (
        theirs.name,
        theirs.doc_string,
        pairs(theirs.metadata_props),
    )
    for mine, protos in (
        (ours.inputs, theirs.input),
        (ours.outputs, theirs.output),
        (ours.values, theirs.value_info),
    ):
        assert mine == tuple(ValueInfo(proto.name, type_of(proto.type)) for proto in protos)
    for tensor, proto in zip(ours.tensors, theirs.initializer, strict=True):
        same_tensor(tensor, proto)
    for sparse, proto in zip(ours.sparse, theirs.sparse_initializer, strict=True):
        assert sparse.dims == tuple(proto.dims)
        same_tensor(sparse.values, proto.values)
        same_tensor(sparse.indices, proto.indices)
    for index, (node, proto) in enumerate(zip(ours.nodes, theirs.node, strict=True)):
        assert node.index == index
        same_node(node, proto)


def same_node(ours: Node, theirs: NodeProto) -> None:
    assert (ours.inputs, ours.outputs) == (tuple(theirs.input), tuple(theirs.output))
    assert (ours.name, ours.op, ours.domain) == (theirs.name, theirs.op_type, theirs.domain)
    assert (ours.overload, ours.doc, ours.metadata) == (
        theirs.overload,
        theirs.doc_string,
        pairs(theirs.metadata_props),
    )
    for mine, proto in zip(ours.attributes, theirs.attribute, strict=True):
        assert (mine.name, mine.type, mine.reference) == (proto.name, proto.type, proto.ref_attr_name)
        if proto.ref_attr_name:
            assert mine.value is None
        else:
            same_value(mine.value, helper.get_attribute_value(proto))


def same_value(ours: object, theirs: object) -> None:
    if isinstance(theirs, (list, tuple)) or theirs.__class__.__name__.startswith("Repeated"):
        assert isinstance(ours, tuple)
        for mine, proto in zip(ours, theirs, strict=True):
            same_value(mine, proto)
    elif isinstance(theirs, TensorProto):
        same_tensor(ours, theirs)
    elif isinstance(theirs, GraphProto):
        same_graph(ours, theirs)
    elif isinstance(theirs, TypeProto):
        assert ours == type_of(theirs)
    elif isinstance(theirs, SparseTensorProto):
        assert ours.dims == tuple(theirs.dims)
        same_tensor(ours.values, theirs.values)
        same_tensor(ours.indices, theirs.indices)
    else:
        assert ours.__class__ is theirs.__class__
        np.testing.assert_equal(ours, theirs)


def same_tensor(ours: Tensor, theirs: TensorProto) -> None:
    assert (ours.name, ours.dtype, ours.dims) == (theirs.name, theirs.data_type, tuple(theirs.dims))
    assert (ours.doc, ours.external) == (theirs.doc_string, pairs(theirs.external_data))
    if theirs.data_type == TensorProto.STRING:
        assert ours.storage.strings() == tuple(theirs.string_data)
    elif theirs.data_type and theirs.data_location != TensorProto.EXTERNAL:
        array = numpy_helper.to_array(theirs)
        assert ours.array().dtype == array.dtype
        assert ours.array().tobytes() == array.tobytes()


def same_function(ours: Function, theirs: FunctionProto) -> None:
    assert (ours.domain, ours.name, ours.overload) == (theirs.domain, theirs.name, theirs.overload)
    assert (ours.inputs, ours.outputs) == (tuple(theirs.input), tuple(theirs.output))
    assert ours.attributes == tuple(theirs.attribute)
    assert ours.opsets == tuple((item.domain, item.version) for item in theirs.opset_import)
    assert (ours.body.doc, ours.body.metadata) == (theirs.doc_string, pairs(theirs.metadata_props))
    assert [value.name for value in ours.body.values] == [proto.name for proto in theirs.value_info]
    assert [item.name for item in ours.defaults] == [proto.name for proto in theirs.attribute_proto]
    for node, proto in zip(ours.body.nodes, theirs.node, strict=True):
        same_node(node, proto)


def pairs(entries: list[StringStringEntryProto]) -> tuple[tuple[str, str], ...]:
    return tuple((entry.key, entry.value) for entry in entries)


def type_of(proto: TypeProto) -> Type:
    kind = proto.WhichOneof("value")
    if kind is None:
        return Type("")
    inner = getattr(proto, kind)
    if kind in ("tensor_type", "sparse_tensor_type"):
        shape = tuple(dim_of(dim) for dim in inner.shape.dim) if inner.HasField("shape") else None
        return Type(kind.split("_")[0], inner.elem_type, shape)
    if kind == "map_type":
        return Type("map", inner.key_type, None, type_of(inner.value_type))
    if kind == "opaque_type":
        return Type("opaque")
    return Type(kind.split("_")[0], 0, None, type_of(inner.elem_type))


def dim_of(dim: TensorShapeProto.Dimension) -> int | str | None:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
