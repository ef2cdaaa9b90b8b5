"""Weights that are no initializers of the main graph; counts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import node, value
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnxscope.analysis import cost, params
from onnxscope.analysis.params import Params
from onnxscope.analysis.shapes import infer
from onnxscope.files.read import loads
from onnxscope.graph import Model

MATRIX = numpy_helper.from_array(np.zeros((4, 3), np.float32), "m")
SPARSE = helper.make_sparse_tensor(
    helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]),
    helper.make_tensor("i", TensorProto.INT64, [2], [0, 5]),
    [4, 3],
)


def model(nodes: list[Any], *, x: str = "N,4", functions: tuple[Any, ...] = (), **inputs: str) -> Model:
    ends = [helper.make_empty_tensor_value_info(nodes[-1].output[0])]
    infos = [value("x", x), *(value(name, text) for name, text in inputs.items())]
    graph = helper.make_graph(nodes, "g", infos, ends)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)
    return loads(proto.SerializeToString())


def count(given: Model) -> Params:
    return params.count(infer(given))


@pytest.mark.parametrize(
    ("attributes", "line", "total"),
    [
        ({"value": MATRIX}, "y = MatMul(x, w)", 12),
        ({"value_floats": [1.0, 2.0, 3.0, 4.0]}, "y = Mul(x, w)", 4),
        ({"value_float": 0.5}, "y = Mul(x, w)", 0),  # one number: a setting
        ({"value_ints": [1, 2]}, "y = Reshape(x, w)", 0),
        ({"value_int": 1}, "y = Gather(x, w)", 0),
        ({"sparse_value": SPARSE}, "y = MatMul(x, w)", 2),  # the numbers that it stores
    ],
)
def test_every_form_of_a_constant(attributes: dict[str, Any], line: str, total: int) -> None:
    found = count(model([helper.make_node("Constant", [], ["w"], **attributes), node(line)]))
    assert (found.total, found.trainable) == (total, total)


def test_a_sparse_constant_has_its_dense_shape() -> None:
    facts = infer(
        model([helper.make_node("Constant", [], ["w"], sparse_value=SPARSE), node("y = MatMul(x, w)")])
    )
    assert facts.value("w").shape == (4, 3)
    assert str(cost.count(facts).total) == "12*N"


def _branch(name: str, width: int) -> Any:
    weight = numpy_helper.from_array(np.zeros((4, width), np.float32), f"{name}_w")
    ends = [helper.make_empty_tensor_value_info(name)]
    return helper.make_graph([node(f"{name} = MatMul(x, {name}_w)")], name, [], ends, [weight])


def test_initializers_of_branches() -> None:
    """4*3 and 4*5: both branches are stored and used, the MACs are the larger branch's."""
    choice = node("y = If(c)", then_branch=_branch("t", 3), else_branch=_branch("e", 5))
    condition: NodeProto = helper.make_node("Cast", ["b"], ["c"], to=TensorProto.BOOL)
    facts = infer(model([condition, choice], b=""))
    found = params.count(facts)
    assert (found.total, found.trainable) == (32, 32)
    assert str(cost.count(facts).total) == "20*N"


def _function(name: str, lines: list[Any], opset: int = 17, overload: str = "", attributes: Any = ()) -> Any:
    made = helper.make_function(
        "my", name, ["x"], ["y"], lines, [helper.make_opsetid("", opset)], list(attributes)
    )
    made.overload = overload
    return made


def test_constants_of_a_function_are_stored_once_and_used_by_each_call() -> None:
    square = numpy_helper.from_array(np.zeros((4, 4), np.float32), "m")
    body = [helper.make_node("Constant", [], ["w"], value=square), node("y = MatMul(x, w)")]
    facts = infer(model([node("a = my:F(x)"), node("b = my:F(a)")], functions=(_function("F", body),)))
    found = params.count(facts)
    assert (found.total, found.trainable) == (16, 32)
    assert str(cost.count(facts).total) == "32*N"


def test_functions_are_told_apart_by_their_overload() -> None:
    flat, whole = (
        _function("F", [node("y = Flatten(x)")], overload="a"),
        _function("F", [node("y = Relu(x)")]),
    )
    call = node("y = my:F(x)")
    call.overload = "a"
    assert infer(model([call], x="2,3,4", functions=(whole, flat))).value("y").shape == (2, 12)
    assert infer(model([node("y = my:F(x)")], x="2,3,4", functions=(whole, flat))).value("y").shape == (
        2,
        3,
        4,
    )


def test_a_function_has_its_own_opset() -> None:
    """Up to opset 12 the axes of Squeeze are an attribute; the model's own opset is 17."""
    body = [helper.make_node("Squeeze", ["x"], ["y"], axes=[1])]
    called = model([node("y = my:F(x)")], x="2,1,1", functions=(_function("F", body, opset=11),))
    assert infer(called).value("y").shape == (2, 1)


def test_attributes_of_a_call_reach_the_body() -> None:
    inner = helper.make_node("Flatten", ["x"], ["y"])
    inner.attribute.add(name="axis", ref_attr_name="at", type=2)
    called = model(
        [node("y = my:F(x) at=2")], x="2,3,4,5", functions=(_function("F", [inner], attributes=["at"]),)
    )
    assert infer(called).value("y").shape == (6, 20)
