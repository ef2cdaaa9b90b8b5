"""Activation memory: the bytes of every value that a run computes, and the most that is alive at once.

A value lives from the node that makes it (the start, for a graph input) to the last node that reads it (the
end, for a graph output). No in-place reuse, weights apart, values inside subgraphs apart. Real runtimes reuse
buffers and add workspaces, so this is the graph's own figure, not a promise about one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts
from onnxscope.expr import Size, at_least, ceil_div, product
from onnxscope.graph import captures
from onnxscope.ops.value import ValueFact


@dataclass(frozen=True, slots=True)
class Memory:
    """Activation memory of one run, in bytes."""

    activation_bytes: Size
    """Sum over graph inputs and node outputs of known size."""
    peak_activation_bytes: Size | None
    """Largest sum of live values at one node; None where sizes are unknown or symbols leave it undecided."""
    peak_node: str
    """Label of that node."""
    unknown: int
    """Values whose size isn't known; they are left out of the sums."""


def measure(facts: Facts) -> Memory:
    """Walk the main graph in execution order."""
    graph, values = facts.main.graph, facts.main.values
    last: dict[str, int] = {}
    for position, fact in enumerate(facts.main.nodes):
        for name in (*fact.node.inputs, *captures(fact.node)):
            last[name] = position
    last.update((info.name, len(facts.main.nodes)) for info in graph.outputs)
    stored = graph.initializers
    born = [info.name for info in graph.inputs if info.name not in stored]
    sizes = {name: nbytes(values[name]) for name in born if name in values}
    live: Size = sum((size for size in sizes.values() if size is not None), 0)
    total, peak, peak_node = live, live, ""
    decided = True
    for position, fact in enumerate(facts.main.nodes):
        made = [
            n for n in dict.fromkeys(fact.node.outputs) if n and not values[n].constant and n not in sizes
        ]
        for name in made:
            sizes[name] = size = nbytes(values[name])
            live, total = live + (size or 0), total + (size or 0)
        if at_least(live, peak):
            peak, peak_node = live, fact.label
        elif not at_least(peak, live):
            decided = False
        for name in {*made, *fact.node.inputs, *captures(fact.node)}:
            if last.get(name, position) == position and name in sizes:
                live = live - (sizes[name] or 0)
                sizes[name] = 0 if sizes[name] is not None else None
    unknown = sum(size is None for size in sizes.values())
    return Memory(total, peak if decided and not unknown else None, peak_node, unknown)


def nbytes(value: ValueFact) -> Size | None:
    """Bytes of a value (sub-byte types packed); None where its shape or type is unknown."""
    dtype = dtypes.BY_CODE.get(value.dtype or 0)
    if value.shape is None or dtype is None or dtype.bits is None or value.container:
        return None
    count = product(value.shape)
    return ceil_div(count * dtype.bits, 8)
