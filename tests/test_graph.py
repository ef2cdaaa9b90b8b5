"""The immutable graph: derived indexes, execution order, captures, stored numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope import dtypes
from onnxscope.files.read import loads
from onnxscope.graph import Attribute, Graph, Node, Tensor, ValueInfo, captures
from onnxscope.graph import Type as ValueType


def node(index: int, text: str) -> Node:
    """`a,b=Op(x,y)` as a node."""
    outputs, call = text.split("=")
    op, inputs = call.rstrip(")").split("(")
    return Node(index, "", op, "", tuple(inputs.split(",")) if inputs else (), tuple(outputs.split(",")))


def graph(*texts: str, inputs: str = "x") -> Graph:
    values = tuple(ValueInfo(name, ValueType()) for name in inputs.split(","))
    return Graph("g", inputs=values, nodes=tuple(node(i, text) for i, text in enumerate(texts)))


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (["a=A(x)", "b=B(a)", "c=C(a,b)"], [0, 1, 2]),
        (["c=C(a,b)", "b=B(a)", "a=A(x)"], [2, 1, 0]),
        (["b=B(a)", "d=D(x)", "a=A(x)", "e=E(x)"], [1, 2, 0, 3]),
        (["a=A(a)", "b=B(x)"], [1]),
        (["a=A(c)", "b=B(a)", "c=C(b)", "d=D(x)", "e=E(c)"], [3]),
        (["a=A(missing)", "b=B(a)"], [0, 1]),
        (["a=A(x)", "a=B(x)", "c=C(a)"], [0, 1, 2]),
        ([], []),
    ],
    ids="sorted reversed stable self-loop cycle dangling duplicate empty".split(),
)
def test_execution_order(texts: list[str], order: list[int]) -> None:
    assert [n.index for n in graph(*texts).order] == order


def test_execution_order_is_linear_enough_for_a_long_reversed_chain() -> None:
    count = 5000
    texts = [f"v{i + 1}=Relu(v{i})" for i in reversed(range(count))]
    found = graph(*texts, inputs="v0").order
    assert [n.outputs[0] for n in found[:2]] == ["v1", "v2"]
    assert len(found) == count


def test_captures_see_through_nested_graphs() -> None:
    inner = Graph("inner", nodes=(node(0, "i=Add(outer,local)"),), outputs=(ValueInfo("i", ValueType()),))
    middle = Graph(
        "middle",
        inputs=(ValueInfo("local", ValueType()),),
        nodes=(dataclasses.replace(node(0, "m=If(cond)"), attributes=(Attribute("then_branch", inner),)),),
        outputs=(ValueInfo("m", ValueType()), ValueInfo("passed", ValueType())),
    )
    outside = dataclasses.replace(node(0, "y=If(c)"), attributes=(Attribute("then_branch", middle),))
    assert captures(outside) == ("cond", "outer", "passed")


def test_a_subgraph_orders_the_node_that_holds_it_behind_what_it_captures() -> None:
    body = Graph("b", nodes=(node(0, "i=Relu(late)"),), outputs=(ValueInfo("i", ValueType()),))
    holder = dataclasses.replace(node(0, "y=If(x)"), attributes=(Attribute("then_branch", body),))
    whole = Graph("g", inputs=(ValueInfo("x", ValueType()),), nodes=(holder, node(1, "late=Relu(x)")))
    assert [n.index for n in whole.order] == [1, 0]
    assert [n.index for n in whole.consumers["late"]] == [0]


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        node(0, "a=A(x)").name = "other"  # type: ignore[misc]


def test_producers_and_labels() -> None:
    g = graph("a=A(x)", "a=B(x)")
    assert g.producers["a"].op == "A"
    assert g.nodes[1].label == "B_1"


@pytest.mark.parametrize("code", sorted(set(dtypes.BY_CODE) - {8}))
@pytest.mark.parametrize("raw", [True, False])
def test_numbers_agree_with_onnx(code: int, raw: bool) -> None:
    """Oracle: onnx.numpy_helper, for every element type, in raw_data and in the typed fields."""
    dtype = dtypes.BY_CODE[code]
    assert TensorProto.DataType.Name(code).lower().replace("float", "float")  # the number exists in onnx
    numbers = np.array([0, 1, 1, 0, 1] if dtype.kind in ("bool", "uint") else [0, 1, -1, 1, -1])
    numbers = np.abs(numbers) + 1 if dtype.name == "float8_e8m0fnu" else numbers
    array = numbers.astype(helper.tensor_dtype_to_np_dtype(code))
    if raw:
        proto = numpy_helper.from_array(array, "t")
    else:
        proto = helper.make_tensor(
            "t", code, [5], array.astype(np.float32) if dtype.bits in (2, 4, 6, 8) else array
        )
    tensor = _stored(proto)
    expected = numpy_helper.to_array(proto)
    assert tensor.array().tolist() == expected.tolist()
    if dtype.kind != "complex":
        assert list(tensor.items()) == expected.tolist()
    assert tensor.nbytes == -(-5 * (dtype.bits or 0) // 8)


def _stored(proto: TensorProto) -> Tensor:
    g = helper.make_graph([], "g", [], [], [proto])
    return loads(helper.make_model(g).SerializeToString()).graph.tensors[0]


def test_arrays_are_read_only() -> None:
    tensor = _stored(numpy_helper.from_array(np.arange(3.0), "t"))
    with pytest.raises(ValueError, match="read-only"):
        tensor.array()[0] = 1


def test_dtype_table_is_onnx_s() -> None:
    """Every number of the installed onnx's enum has a row, and sizes agree with onnx's own numpy types."""
    codes = set(onnx.TensorProto.DataType.values()) - {0}
    assert codes == set(dtypes.BY_CODE)
    for code in codes - {8}:
        dtype = dtypes.BY_CODE[code]
        twin = helper.tensor_dtype_to_np_dtype(code)
        assert dtype.numpy == twin
        if dtype.bits and dtype.bits >= 8:
            assert twin.itemsize * 8 == dtype.bits
