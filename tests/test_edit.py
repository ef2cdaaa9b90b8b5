"""Edits as data: what `apply` does to a graph, and which edits it refuses."""

from __future__ import annotations

import pytest

from onnxscope import dtypes
from onnxscope.edit import Edit, apply, then
from onnxscope.graph import Graph, Model, Node, Tensor, Type, ValueInfo


def node(index: int, op: str, inputs: str, outputs: str) -> Node:
    return Node(index, op.lower(), op, "", tuple(inputs.split()), tuple(outputs.split()))


def info(name: str, *shape: int | str) -> ValueInfo:
    return ValueInfo(name, Type("tensor", dtypes.FLOAT, shape))


WEIGHT = Tensor("w", dtypes.FLOAT, (2, 3), None)
GRAPH = Graph(
    "g",
    inputs=(info("x", 1, 2), info("w", 2, 3)),
    outputs=(info("y", 1, 3),),
    nodes=(node(0, "Relu", "x", "r"), node(1, "MatMul", "r w", "m"), node(2, "Tanh", "m", "y")),
    tensors=(WEIGHT,),
    values=(info("r", 1, 2), info("m", 1, 3)),
)
MODEL = Model(GRAPH, ir_version=3, opsets=(("", 9),), metadata=(("a", "1"), ("b", "2")))


def ops(model: Model) -> list[str]:
    return [f"{n.index} {n.op} {' '.join(n.inputs)} -> {' '.join(n.outputs)}" for n in model.graph.nodes]


def test_nothing_changes_nothing() -> None:
    assert apply(MODEL, Edit()) == MODEL


def test_nodes_go_and_come_in_order_and_are_numbered_anew() -> None:
    added = ((1, node(0, "Neg", "r", "n")), (1, node(0, "Abs", "n", "m")), (3, node(0, "Exp", "m", "e")))
    changed = apply(MODEL, Edit(removed=frozenset({1}), added=added))
    assert ops(changed) == [
        "0 Relu x -> r", "1 Neg r -> n", "2 Abs n -> m", "3 Tanh m -> y", "4 Exp m -> e",
    ]  # fmt: skip
    assert ops(MODEL) == ["0 Relu x -> r", "1 MatMul r w -> m", "2 Tanh m -> y"]


def test_a_dropped_initializer_leaves_the_inputs_too() -> None:
    edit = Edit(removed=frozenset({1}), added=((1, node(0, "Neg", "r", "m")),), dropped=frozenset({"w"}))
    graph = apply(MODEL, edit).graph
    assert (graph.tensors, [i.name for i in graph.inputs]) == ((), ["x"])


def test_an_initializer_under_new_dims_and_its_input() -> None:
    new = Tensor("w", dtypes.FLOAT, (3, 2), None)
    graph = apply(MODEL, Edit(dropped=frozenset({"w"}), tensors=(new,), inputs=(info("w", 3, 2),))).graph
    assert graph.tensors == (new,)
    assert graph.inputs == (info("x", 1, 2), info("w", 3, 2))


def test_declarations_and_metadata() -> None:
    edit = Edit(
        inputs=(info("x", "N", 2),), outputs=(info("y", "N", 3),), stale=frozenset({"m"}),
        opsets=(("", 13),), metadata=(("a", "3"), ("c", "4")),
    )  # fmt: skip
    changed = apply(MODEL, edit)
    assert changed.graph.inputs[0] == info("x", "N", 2)
    assert changed.graph.outputs == (info("y", "N", 3),)
    assert changed.graph.values == (info("r", 1, 2),)
    assert changed.opsets == (("", 13),)
    assert changed.metadata == (("b", "2"), ("a", "3"), ("c", "4"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit(removed=frozenset({7})), r"nodes \[7\] of 3"),
        (Edit(added=((9, node(0, "Neg", "r", "n")),)), r"nodes \[9\] of 3"),
        (Edit(dropped=frozenset({"v"})), "aren't there: v"),
        (Edit(added=((1, node(0, "Neg", "x", "m")),)), "two nodes would produce 'm'"),
    ],
)
def test_an_edit_that_does_not_fit(edit: Edit, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply(MODEL, edit)


def test_one_edit_for_two_drops_what_either_drops() -> None:
    """Of what the second drops, the tensors that the first brought never come; the file's own go."""
    first = Edit(
        tensors=(Tensor("fresh", 1, (1,), None), Tensor("kept", 1, (1,), None)), dropped=frozenset({"w"})
    )
    second = Edit(tensors=(Tensor("late", 1, (1,), None),), dropped=frozenset({"fresh", "b"}))
    both = then(MODEL, first, second)
    assert both.dropped == {"w", "b"}
    assert [tensor.name for tensor in both.tensors] == ["kept", "late"]
