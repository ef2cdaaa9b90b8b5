"""Activation memory: the bytes of every value that a run computes, and the most that is alive at once.

A value lives from the node that makes it (the start, for a graph input) to the last node that reads it (the
end, for a graph output). No in-place reuse, weights apart. A model-local function counts as if its body stood
in the place of the call. What an If, Loop or Scan makes inside is alive while the node runs, on top of what
is alive around it: the larger branch, one turn of a body; inputs and results of such a graph are its node's.
Real runtimes reuse buffers and add workspaces, so this is the graph's own figure, not a promise about one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact, Place, Step
from onnxscope.expr import (
    Coefficient,
    Monomial,
    Size,
    TooComplex,
    at_least,
    ceil_div,
    maximum,
    product,
    size_from,
    terms_of,
)
from onnxscope.ops.value import Shape, ValueFact


class Memory(NamedTuple):
    """Activation memory of one run, in bytes."""

    activation_bytes: Size
    """Sum over graph inputs and node outputs of known size, each once."""
    peak_activation_bytes: Size | None
    """Largest sum of live values at one node; None where sizes are unknown or symbols leave it undecided."""
    peak_node: str
    """Label of that node."""
    unknown: int
    """Values whose size isn't known; they are left out of the sums."""


class _Tally:
    """A running sum of sizes; adding to it costs the terms of the addend, not of the sum."""

    def __init__(self, number: int = 0, terms: dict[Monomial, Coefficient] | None = None) -> None:
        self.number = number
        self.terms = dict(terms or {})
        """What depends on symbols."""

    def add(self, size: Size, sign: int = 1) -> None:
        if isinstance(size, int):
            self.number += sign * size
            return
        for monomial, coefficient in terms_of(size):
            self.terms[monomial] = self.terms.get(monomial, 0) + sign * coefficient

    def copy(self) -> _Tally:
        return _Tally(self.number, self.terms)

    def size(self) -> Size:
        return self.number + size_from(self.terms)

    def at_least(self, other: _Tally) -> bool:
        """Whether this sum is never smaller: at a glance where no term is smaller, else by bounds."""
        mine, theirs = self.terms, other.terms
        if not mine and not theirs:
            return self.number >= other.number
        keys = mine.keys() | theirs.keys()
        if self.number >= other.number and all(mine.get(key, 0) >= theirs.get(key, 0) for key in keys):
            return True
        alike = len(keys) == 1 and self.number == other.number == 0
        return not alike and at_least(self.size(), other.size())


@dataclass
class _Graph:
    """What one graph has come to so far."""

    total: Size = 0
    peak: _Tally = field(default_factory=_Tally)
    peak_node: str = ""
    decided: bool = True
    """Whether free sizes leave no doubt about the peak."""
    unknown: int = 0

    def reach(self, live: _Tally, label: str) -> None:
        """Take note of what is alive at a node."""
        if live.at_least(self.peak):
            self.peak, self.peak_node = live.copy(), label
        elif not self.peak.at_least(live):
            self.decided = False


def measure(facts: Facts) -> Memory:
    """Walk the main graph in execution order, and what is inside its nodes."""
    graph = facts.main.graph
    given = [info.name for info in graph.inputs if info.name not in graph.initializers]
    found = _measured(facts, "", given, [info.name for info in graph.outputs], frozenset())
    peak = found.peak.size() if found.decided and not found.unknown else None
    return Memory(found.total, peak, found.peak_node, found.unknown)


def _measured(
    facts: Facts, path: str, given: Sequence[Place], results: Sequence[Place], handed_on: frozenset[Place]
) -> _Graph:
    """The sums over one graph; values `handed_on` are in the peak only, being outputs of the graph's node."""
    found, live, sizes = _Graph(), _Tally(), {}
    total = _Tally()
    steps = list(facts.steps(path))
    deaths = _deaths(steps, results)

    def make(places: Iterable[Place], values: Iterable[ValueFact | None]) -> None:
        for place, value in zip(places, values, strict=True):
            if value is None or value.constant or place in sizes:
                continue
            sizes[place] = size = nbytes(value)
            live.add(size or 0)

    make(given, map(facts.at, given))
    found.peak = live.copy()
    for step, dying in zip(steps, deaths, strict=True):
        for inside in _inside(facts, step.fact, total) if facts.owners else ():
            inside.peak.add(live.size())
            found.reach(inside.peak, inside.peak_node)
            found.decided &= inside.decided
            found.unknown += inside.unknown
        make(step.outputs, step.fact.outputs)
        found.reach(live, step.fact.label)
        for place in dying:
            live.add(sizes.get(place) or 0, -1)
    for place, size in sizes.items():
        if size is None:
            found.unknown += 1
        elif place not in handed_on:
            total.add(size)
    found.total = total.size()
    return found


def _inside(facts: Facts, fact: NodeFact, total: _Tally) -> list[_Graph]:
    """The graphs inside a node; what the larger one makes in one run of it is added to `total`."""
    found = []
    for path in facts.children.get((fact.scope, fact.node.index), ()):
        results: list[Place] = [(path, info.name) for info in facts.scopes[path].graph.outputs]
        own = results[1:] if fact.node.op == "Loop" else results  # the first tells the loop to go on
        handed_on = frozenset(place for place, name in zip(own, fact.node.outputs, strict=False) if name)
        found.append(_measured(facts, path, (), results, handed_on))
    try:
        total.add(maximum(*(graph.total for graph in found)) if found else 0)
    except TooComplex:
        found[0].unknown += 1
    return found


def _deaths(steps: Sequence[Step], results: Sequence[Place]) -> list[list[Place]]:
    """Per step: the values that nobody reads after it."""
    last: dict[Place, int] = {}
    for position, step in enumerate(steps):
        for place in (*step.outputs, *step.inputs, *step.captured):
            last[place] = position
    for place in results:
        last.pop(place, None)
    deaths: list[list[Place]] = [[] for _ in steps]
    for place, position in last.items():
        deaths[position].append(place)
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
    try:
        count = product(shape)
        return ceil_div(count * dtype.bits, 8) if partial else count * whole
    except TooComplex:
        return None
