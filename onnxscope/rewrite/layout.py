"""Which ops are fully connected layers, and where they keep their operands."""

from __future__ import annotations

from typing import NamedTuple

from onnxscope.analysis.facts import Facts, NodeFact

OVERRIDABLE = (
    "also an input of the model, which a caller may override: take it out of the model's inputs to make it a "
    "constant"
)
"""What to say of a default, and what to do."""


class Weight(NamedTuple):
    """Where a fully connected op keeps its operands."""

    data: int
    """Input with the activations."""
    weight: int
    """Input with the weight."""
    bias: int | None = None


FULLY_CONNECTED: dict[str, Weight] = {
    "Gemm": Weight(0, 1, 2),
    "FusedGemm": Weight(0, 1, 2),
    "MatMul": Weight(0, 1),
    "FusedMatMul": Weight(0, 1),
    "QGemm": Weight(0, 3, 6),
    "QLinearMatMul": Weight(0, 3),
    "MatMulInteger": Weight(0, 1),
    "MatMulIntegerToFloat": Weight(0, 1, 6),
    "DynamicQuantizeMatMul": Weight(0, 1, 4),
    "MatMulNBits": Weight(0, 1, 5),
}


_EITHER_SIDE = frozenset("Gemm FusedGemm MatMul FusedMatMul".split())
"""Float products, whose weight may be the left operand: W x, with a column of x per image."""


def operands(facts: Facts, fact: NodeFact) -> Weight:
    """Where a fully connected node keeps its operands. Raises KeyError for another op."""
    places = FULLY_CONNECTED[fact.node.op]
    names = fact.node.inputs
    if fact.node.op in _EITHER_SIDE and len(names) > 1 and facts.value(names[0], fact.scope).fixed:
        return Weight(places.weight, places.data, places.bias)
    return places


def is_fully_connected(facts: Facts, fact: NodeFact) -> bool:
    """Whether a node multiplies its input by a stored matrix: a fully connected layer."""
    places = FULLY_CONNECTED.get(fact.node.op)
    if places is None or len(fact.node.inputs) <= places.weight:
        return False
    left = facts.value(fact.node.inputs[places.data], fact.scope).fixed
    right = facts.value(fact.node.inputs[places.weight], fact.scope).fixed
    return left != right
