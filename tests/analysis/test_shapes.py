"""The shape engine: bindings, unknowns, declared values, subgraphs, functions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import net, node, value
from onnx import helper

from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.errors import UsageError
from onnxscope.files.read import loads

CONV = {"x": "N,3,H,W", "w": (8, 3, 3, 3)}


def shown(facts: Facts, name: str, scope: str = "") -> str:
    shape = facts.value(name, scope).shape
    return "unknown" if shape is None else ",".join(map(str, shape))


@pytest.mark.parametrize(
    ("shapes", "dims", "expected"),
    [
        ({}, {}, "N,8,H - 2,W - 2"),
        ({}, {"N": 4, "H": 32}, "4,8,30,W - 2"),
        ({"x": (1, 3, 32, 64)}, {}, "1,8,30,62"),
        ({"x": ("B", 3, 32, "W")}, {}, "B,8,30,W - 2"),
        ({"x": ("N", 3, "S", "S")}, {"S": 10}, "N,8,8,8"),
    ],
)
def test_bindings(shapes: dict[str, tuple[int | str, ...]], dims: dict[str, int], expected: str) -> None:
    facts = infer(net(["y = Conv(x, w)"], **CONV), shapes, dims)
    assert shown(facts, "y") == expected
    assert facts.problems == ()


def test_a_fixed_size_can_be_freed() -> None:
    model = net(["y = Conv(x, w)"], x="1,3,32,32", w=(8, 3, 3, 3))
    assert shown(infer(model), "y") == "1,8,30,30"
    assert shown(infer(model, {"x": ("N", 3, "H", "W")}), "y") == "N,8,H - 2,W - 2"


def test_one_name_is_one_size_everywhere() -> None:
    model = net(["y = Add(a, b)"], a="N,4", b="N,4")
    assert shown(infer(model, {"a": (7, 4)}), "b") == "7,4"


@pytest.mark.parametrize(
    ("shapes", "dims", "message"),
    [
        ({"z": (1,)}, {}, "'z', which is no input"),
        ({"x": (1, 3)}, {}, "2 sizes given, the input has 4 axes"),
        ({}, {"Q": 3}, "'Q', which is no free size"),
        ({"x": (1, 3, 8, 8)}, {"N": 2}, "bound to both"),
        ({"w": (8, 3, 3, 3)}, {}, "'w', which is no input"),
    ],
)
def test_wrong_bindings(shapes: dict[str, tuple[int | str, ...]], dims: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        infer(net(["y = Conv(x, w)"], **CONV), shapes, dims)


def test_an_axis_without_name_gets_a_symbol_that_can_be_bound() -> None:
    model = net(["y = Relu(x)"], x="?,3")
    assert shown(infer(model), "y") == "x.dim0,3"
    assert shown(infer(model, dims={"x.dim0": 5}), "y") == "5,3"


def test_an_unknown_op_is_a_problem_and_the_rest_goes_on() -> None:
    facts = infer(net(["a = my:Mystery(x)", "b = Relu(a)", "y = Conv(x, w)"], outputs=["b", "y"], **CONV))
    assert shown(facts, "a") == shown(facts, "b") == "unknown"
    assert shown(facts, "y") == "N,8,H - 2,W - 2"
    assert [p.where for p in facts.problems] == ["a", "b"]
    assert "my:Mystery" in facts.problems[0].message


def test_declared_shapes_fill_what_no_rule_answers() -> None:
    proto = helper.make_model(
        helper.make_graph(
            [node("a = my:Mystery(x)"), node("y = Relu(a)")],
            "g",
            [value("x", "N,3")],
            [value("y", "N,7")],
            value_info=[value("a", "N,7")],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my", 1)],
    )
    facts = infer(loads(proto.SerializeToString()))
    assert shown(facts, "y") == "N,7"
    assert facts.value("a").origin == "declared"


def test_a_stale_declared_shape_never_wins() -> None:
    proto = helper.make_model(
        helper.make_graph([node("y = Relu(x)")], "g", [value("x", "2,3")], [value("y", "9,9")]),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    assert shown(infer(loads(proto.SerializeToString())), "y") == "2,3"


def test_a_cycle_is_reported_and_the_rest_answered() -> None:
    facts = infer(net(["a = Add(x, b)", "b = Relu(a)", "y = Relu(x)"], x="2,3"))
    assert shown(facts, "y") == "2,3"
    assert ["cycle" in p.message for p in facts.problems] == [True]
    assert len(facts.main.nodes) == 3


def test_a_dangling_input_is_reported() -> None:
    facts = infer(net(["y = Relu(nowhere)"], x="2,3"))
    assert "'nowhere' is produced by no node" in facts.problems[0].message


def test_initializers_listed_as_inputs() -> None:
    """IR 3 lists every initializer as an input: a constant. From IR 4 on it is a default that may change."""
    for ir, expected in ((3, "2,6"), (8, "y.dim0,y.dim1")):
        model = net(["y = Reshape(x, shape)"], x="3,4", shape=np.array([2, 6]), ir=ir)
        proto = helper.make_model(
            helper.make_graph(
                [node("y = Reshape(x, shape)")],
                "g",
                [value("x", "3,4"), value("shape", "i64:2")],
                [helper.make_empty_tensor_value_info("y")],
                [onnx.numpy_helper.from_array(np.array([2, 6]), "shape")],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=ir,
        )
        assert shown(infer(model), "y") == "2,6"
        assert shown(infer(loads(proto.SerializeToString())), "y") == expected


def _branch(line: str, output: str, name: str) -> onnx.GraphProto:
    return helper.make_graph([node(line)], name, [], [helper.make_empty_tensor_value_info(output)])


def test_subgraphs_see_outer_values() -> None:
    choice = node(
        "y = If(c)",
        then_branch=_branch("t = Relu(x)", "t", "then"),
        else_branch=_branch("e = Tanh(x)", "e", "else"),
    )
    facts = infer(net([choice], x="N,3", c=""))
    assert shown(facts, "y") == "N,3"
    assert shown(facts, "t", "y.then_branch/") == "N,3"
    assert [n.label for n in facts.nodes()] == ["y", "y.then_branch/t", "y.else_branch/e"]


def _with_function(body: list[str], call: str, **attributes: object) -> Facts:
    function = helper.make_function(
        "my",
        "Block",
        ["a"],
        ["b"],
        [node(line) if isinstance(line, str) else line for line in body],
        [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)],
        attributes=["axis"] if "axis" in attributes else [],
    )
    graph = helper.make_graph(
        [node(call, **attributes)], "g", [value("x", "N,3,4")], [helper.make_empty_tensor_value_info("y")]
    )
    model = helper.make_model(
        graph, functions=[function], opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    )
    return infer(loads(model.SerializeToString()))


def test_functions_are_analysed_through_their_bodies() -> None:
    facts = _with_function(["t = Relu(a)", "b = Transpose(t) perm=[2,0,1]"], "y = my:Block(x)")
    assert shown(facts, "y") == "4,N,3"
    assert shown(facts, "t", "y.Block/") == "N,3,4"


def test_function_attributes_reach_the_body() -> None:
    flatten = node("b = Flatten(a)")
    reference = flatten.attribute.add()
    reference.name, reference.ref_attr_name, reference.type = "axis", "axis", onnx.AttributeProto.INT
    assert shown(_with_function([flatten], "y = my:Block(x)", axis=2), "y") == "3*N,4"


def test_a_function_that_calls_itself_is_a_problem() -> None:
    facts = _with_function(["b = my:Block(a)"], "y = my:Block(x)")
    assert shown(facts, "y") == "unknown"
    assert any("nested deeper" in p.message for p in facts.problems)


def test_nodes_out_of_order_are_sorted() -> None:
    facts = infer(net(["y = Relu(a)", "a = Flatten(x)"], outputs=["y"], x="N,3,4"))
    assert shown(facts, "y") == "N,12"


def test_constants_are_told_from_inputs() -> None:
    facts = infer(
        net(["a = Relu(w)", "y = Add(x, a)", "r = RandomNormalLike(w)"], x="3", w=(3,), outputs=["y", "r"])
    )
    assert facts.value("a").constant
    assert not facts.value("y").constant
    assert not facts.value("r").constant


@pytest.mark.parametrize(
    ("body", "constant"),
    [
        ("t = Relu(x)", False),  # captures an input of the model
        ("t = Relu(w)", True),
        ("t = RandomNormal() shape=[2,3]", False),
    ],
)
def test_what_a_graph_inside_reads_decides_whether_its_node_is_constant(body: str, constant: bool) -> None:
    branches = {"then_branch": _branch(body, "t", "then"), "else_branch": _branch("e = Relu(w)", "e", "else")}
    choice = node("y = If(c)", **branches)
    facts = infer(net([choice], x="2,3", w=(2, 3), c=np.array(True)))
    assert shown(facts, "y") == "2,3"
    assert facts.value("y").constant is constant
