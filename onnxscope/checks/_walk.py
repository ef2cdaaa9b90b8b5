"""Steps that several rules share: neighbours of a node, small constants, numbers of small tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.errors import FileError
from onnxscope.graph import Node, Tensor, domain_of
from onnxscope.ops.value import Scalar, Shape, Window

By: TypeAlias = dict[tuple[str, int], NodeFact]
"""(scope path, node index) -> node."""

ACTIVATIONS = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Clip Mish Softplus Softsign Gelu "
    "Swish ThresholdedRelu".split()
)
CARRIERS = ACTIVATIONS | frozenset(
    "BatchNormalization Identity Dropout Cast QuantizeLinear DequantizeLinear".split()
)
"""Ops between two layers that move no window and mix no channels."""
CONVOLUTIONS = frozenset({"Conv", "FusedConv", "QLinearConv", "ConvInteger"})
POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})


def nodes(facts: Facts, *ops: str) -> Iterator[NodeFact]:
    """Nodes of the default domain with one of these ops, in execution order, constants' nodes left out.

    Each has an input and an output at least: OX112 speaks of those that lack them.
    """
    for fact in facts.nodes():
        if fact.node.op in ops and not domain_of(fact.node.domain) and not fact.folded and connected(fact):
            yield fact


def connected(fact: NodeFact) -> bool:
    """Whether a node has inputs and outputs, as a sound one of most ops has."""
    return bool(fact.node.inputs and fact.node.outputs)


def operand(node: Node, index: int = 0) -> str:
    """Name of an input; "" where the node has none there."""
    return node.inputs[index] if index < len(node.inputs) else ""


def by_place(facts: Facts) -> By:
    """Every node by its place."""
    return {(fact.scope, fact.node.index): fact for fact in facts.nodes()}


def consumers(facts: Facts, fact: NodeFact, output: int = 0) -> tuple[Node, ...]:
    """Nodes of the same graph that read an output."""
    graph = facts.scopes[fact.scope].graph
    if output >= len(fact.node.outputs):
        return ()
    return graph.consumers.get(fact.node.outputs[output], ())


def is_output(facts: Facts, fact: NodeFact, output: int = 0) -> bool:
    """Whether an output is one of its graph's."""
    name = fact.node.outputs[output] if output < len(fact.node.outputs) else ""
    return any(info.name == name for info in facts.scopes[fact.scope].graph.outputs)


def only_reader(facts: Facts, fact: NodeFact) -> Node | None:
    """The one node that reads the first output; None where several do, or the graph hands it out."""
    found = consumers(facts, fact)
    return found[0] if len(found) == 1 and not is_output(facts, fact) else None


def next_layer(facts: Facts, places: By, fact: NodeFact) -> NodeFact | None:
    """The next node that is no activation or normalization, where nothing branches off on the way."""
    here: NodeFact | None = fact
    for _ in range(12):
        reader = only_reader(facts, here) if here else None
        here = places.get((fact.scope, reader.index)) if reader else None
        if here is None or here.node.op not in CARRIERS:
            return here
    return None


def producer(facts: Facts, scope: str, name: str) -> Node | None:
    """The node of the same graph that makes a value."""
    return facts.scopes[scope].graph.producers.get(name)


def tensor(facts: Facts, fact: NodeFact, index: int) -> Tensor | None:
    """The stored tensor that an input is; None where it is computed, absent or holds no numbers."""
    if index >= len(fact.node.inputs) or not fact.node.inputs[index]:
        return None
    value = facts.value(fact.node.inputs[index], fact.scope)
    found = value.tensor if value.constant else None
    return None if found is None or (found.storage is None and found.count) else found


def items(facts: Facts, scope: str, name: str) -> tuple[Scalar, ...] | None:
    """Numbers of a small constant (at most 4,096); None where unknown or unreadable."""
    if not name:
        return None
    try:
        data = facts.value(name, scope).known()
    except (FileError, TypeError, ValueError):
        return None
    return None if data is None else data.items


def numbers(facts: Facts, fact: NodeFact, index: int) -> tuple[float, ...] | None:
    """Plain numbers of a small constant input; None where it is absent, unknown or symbolic."""
    found = items(facts, fact.scope, fact.node.inputs[index]) if index < len(fact.node.inputs) else None
    if found is None or not all(isinstance(item, (int, float)) for item in found):
        return None
    return tuple(float(item) for item in found if isinstance(item, (int, float)))


def number(facts: Facts, fact: NodeFact, index: int) -> float | None:
    """The one number of a constant input (all its numbers equal); None otherwise."""
    found = numbers(facts, fact, index)
    return found[0] if found and all(item == found[0] for item in found) else None


def text(value: object, default: str = "") -> str:
    """A string attribute."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else default


def whole(value: object, default: int) -> int:
    """An integer attribute, or its default where it isn't given."""
    return value if isinstance(value, int) else default


def spatial(shape: Shape | None, window: Window) -> tuple[int | None, ...]:
    """Spatial sizes of a map, None where symbolic; () where the rank doesn't fit."""
    if shape is None or len(shape) != len(window.kernel) + 2:
        return ()
    sizes = shape[1:-1] if window.channels_last else shape[2:]
    return tuple(size if isinstance(size, int) else None for size in sizes)


def dense(values: tuple[object, ...]) -> tuple[int, ...] | None:
    """Plain integers, or None where one is symbolic."""
    return tuple(v for v in values if isinstance(v, int)) if all(isinstance(v, int) for v in values) else None


def by(values: tuple[object, ...]) -> str:
    """Sizes for people: `3x3`.

    >>> by((3, 3))
    '3x3'
    """
    return "x".join(map(str, values))
