"""Activation memory: the bytes of every value that a run computes, and the most that is alive at once.

A value lives from the node that makes it (the start, for a graph input) to the last node that reads it (the
end, for a graph output). No in-place reuse, weights apart, values inside subgraphs apart. Real runtimes reuse
buffers and add workspaces, so this is the graph's own figure, not a promise about one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts
from onnxscope.expr import Coefficient, Monomial, Size, at_least, ceil_div, product, size_from, terms_of
from onnxscope.graph import captures
from onnxscope.ops.value import Shape, ValueFact


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


class _Tally:
    """A running sum of sizes; adding to it costs the terms of the addend, not of the sum."""

    def __init__(self, terms: dict[Monomial, Coefficient] | None = None) -> None:
        self.terms = dict(terms or {})

    def add(self, size: Size, sign: int = 1) -> None:
        for monomial, coefficient in terms_of(size):
            self.terms[monomial] = self.terms.get(monomial, 0) + sign * coefficient

    def size(self) -> Size:
        return size_from(self.terms)

    def at_least(self, other: _Tally) -> bool:
        """Whether this sum is never smaller: at a glance where no term is smaller, else by bounds."""
        mine, theirs = self.terms, other.terms
        extra = (value for key, value in mine.items() if key not in theirs)
        if all(mine.get(key, 0) >= value for key, value in theirs.items()) and all(v >= 0 for v in extra):
            return True
        return max(len(mine), len(theirs)) > 1 and at_least(self.size(), other.size())


def measure(facts: Facts) -> Memory:
    """Walk the main graph in execution order."""
    values, nodes = facts.main.values, facts.main.nodes
    deaths = _deaths(facts)
    stored = facts.main.graph.initializers
    born = [info.name for info in facts.main.graph.inputs if info.name not in stored]
    sizes = {name: nbytes(values[name]) for name in born if name in values}
    live, total = _Tally(), _Tally()
    for size in sizes.values():
        live.add(size or 0)
        total.add(size or 0)
    peak, peak_node, decided = _Tally(live.terms), "", True
    for position, fact in enumerate(nodes):
        made = [
            name for name in fact.node.outputs if name and not values[name].constant and name not in sizes
        ]
        for name in made:
            sizes[name] = size = nbytes(values[name])
            live.add(size or 0)
            total.add(size or 0)
        if live.at_least(peak):
            peak, peak_node = _Tally(live.terms), fact.label
        elif not peak.at_least(live):
            decided = False
        for name in deaths[position]:
            live.add(sizes.get(name) or 0, -1)
    unknown = sum(size is None for size in sizes.values())
    return Memory(total.size(), peak.size() if decided and not unknown else None, peak_node, unknown)


def _deaths(facts: Facts) -> list[list[str]]:
    """Per node of the main graph: the values that nobody reads after it."""
    nodes = facts.main.nodes
    last: dict[str, int] = {}
    for position, fact in enumerate(nodes):
        last.update(
            (name, position) for name in (*fact.node.outputs, *fact.node.inputs, *captures(fact.node))
        )
    last.update((info.name, len(nodes)) for info in facts.main.graph.outputs)
    deaths: list[list[str]] = [[] for _ in range(len(nodes) + 1)]
    for name, position in last.items():
        deaths[position].append(name)
    return deaths


def nbytes(value: ValueFact) -> Size | None:
    """Bytes of a value (sub-byte types packed); None where its shape or type is unknown."""
    return None if value.shape is None or value.container else _packed(value.shape, value.dtype or 0)


@lru_cache(maxsize=1024)
def _packed(shape: Shape, code: int) -> Size | None:
    """A network has few distinct shapes, so the product is worth keeping."""
    dtype = dtypes.BY_CODE.get(code)
    if dtype is None or dtype.bits is None:
        return None
    whole, partial = divmod(dtype.bits, 8)
    count = product(shape)
    return ceil_div(count * dtype.bits, 8) if partial else count * whole
