"""What the analysis found, kept beside the graph and never on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import NamedTuple, TypeAlias

from onnxscope.expr import Size
from onnxscope.graph import Graph, Model, Node
from onnxscope.ops.registry import Rule
from onnxscope.ops.value import UNKNOWN, Inferred, ValueFact


class Problem(NamedTuple):
    """Something that could not be answered or doesn't fit; the report goes on without it."""

    where: str
    """Scope and node or value name."""
    message: str
    kind: str = ""
    """`no-window` where the input of a convolution or pool is smaller than its kernel; "" for the rest."""


class NodeFact(NamedTuple):
    """What is known of one node."""

    node: Node
    scope: str
    """Path of the graph that holds it: "" for the main graph, else `if_3.then_branch/`."""
    rule: Rule | None
    """None for an op without a rule of ours (answered by onnx, by a function body, or not at all)."""
    inferred: Inferred
    answered: bool
    """False where the outputs stayed unknown."""
    label: str
    """Unique name for people: scope and node name, its place behind it where several nodes have that name."""
    inputs: tuple[ValueFact | None, ...] = ()
    """What the node reads, one per input; None for an absent optional one."""
    outputs: tuple[ValueFact | None, ...] = ()
    """What it makes, one per output; None where an output has no name."""
    folded: bool = False
    """Whether it only computes constants, which runtimes do once when they load the model."""
    fixed: bool = False
    """Whether it only computes with stored numbers, constants or defaults: weights on their way."""


class ScopeFacts(NamedTuple):
    """One graph: the main graph, a branch or loop body, or one call of a model-local function."""

    path: str
    graph: Graph
    values: dict[str, ValueFact]
    """By name, initializers and inputs included, outer values not."""
    nodes: tuple[NodeFact, ...]
    """In execution order."""
    parent: str | None = None
    """Path of the scope around it; None for the main graph."""


Place: TypeAlias = "str | tuple[str, str]"
"""A value: its name in the main graph, (scope, name) inside a call or a nested graph; "" where absent."""


class Step(NamedTuple):
    """A node as it runs, with its values by place."""

    fact: NodeFact
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    captured: tuple[Place, ...]
    """What its nested graphs read from around them."""


@dataclass(frozen=True)
class Facts:
    """All facts of a model under one binding of its free sizes."""

    model: Model
    scopes: dict[str, ScopeFacts]
    """By path, in order of execution; the main graph is ""."""
    problems: tuple[Problem, ...]
    bindings: dict[str, Size] = field(default_factory=dict)
    """Symbol name -> size the user gave."""

    @property
    def main(self) -> ScopeFacts:
        """The main graph."""
        return self.scopes[""]

    def nodes(self) -> Iterable[NodeFact]:
        """Every node, those of nested graphs right after the node that holds them."""
        return self._nodes_of("") if self.owners else self.main.nodes

    def _nodes_of(self, path: str) -> Iterator[NodeFact]:
        for fact in self.scopes[path].nodes:
            yield fact
            for child in self.children.get((path, fact.node.index), ()):
                yield from self._nodes_of(child)

    @cached_property
    def children(self) -> dict[tuple[str, int], tuple[str, ...]]:
        """(scope path, node index) -> paths of the scopes inside that node."""
        found: dict[tuple[str, int], tuple[str, ...]] = {}
        for path, owner in self.owners.items():
            found[owner] = (*found.get(owner, ()), path)
        return found

    owners: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Scope path -> (path, node index) of the node that holds it."""

    def value(self, name: str, scope: str = "") -> ValueFact:
        """The fact of a value as seen from a scope (outer scopes included); UNKNOWN where there is none."""
        path: str | None = scope
        while path is not None:
            found = self.scopes[path].values.get(name)
            if found is not None:
                return found
            path = self.scopes[path].parent
        return UNKNOWN

    def at(self, place: Place) -> ValueFact:
        """The fact of a value by its place."""
        if isinstance(place, str):
            return self.main.values.get(place, UNKNOWN)
        return self.value(place[1], place[0])

    def called(self, fact: NodeFact) -> str | None:
        """Path of the function body that a node calls; None for any other node."""
        if not self.owners:
            return None
        inside = self.children.get((fact.scope, fact.node.index), ())
        return inside[0] if inside and next(fact.node.subgraphs(), None) is None else None

    @cached_property
    def nested(self) -> frozenset[str]:
        """Paths of the scopes inside an If, Loop or Scan, which stands for what they do."""
        found: set[str] = set()
        for path, (parent, index) in self.owners.items():  # outer ones first
            holder = self.scopes[parent].graph.nodes[index]
            if parent in found or next(holder.subgraphs(), None) is not None:
                found.add(path)
        return frozenset(found)

    def steps(self, path: str = "") -> Iterable[Step]:
        """The nodes of a graph in execution order, calls of model-local functions written out.

        What a body makes as its output is the caller's value, and what it takes as its input too. A node with
        nested graphs is one step: `path` is where to look into them.
        """
        return self._steps(path, {}) if path or self.model.functions else self._plain_steps

    @cached_property
    def _plain_steps(self) -> list[Step]:
        """The steps of a main graph that calls nothing."""
        captured = self.main.graph.captured
        return [
            Step(fact, fact.node.inputs, fact.node.outputs, captured.get(fact.node.index, ()))
            for fact in self.main.nodes
        ]

    def _steps(self, path: str, known: dict[str, Place]) -> Iterator[Step]:
        def places(names: Iterable[str]) -> tuple[Place, ...]:
            return tuple(known.get(n, (path, n) if path and n else n) for n in names)

        for fact in self.scopes[path].nodes:
            node, body = fact.node, self.called(fact)
            if body is None:
                captured = self.scopes[path].graph.captured.get(node.index, ())
                yield Step(fact, places(node.inputs), places(node.outputs), places(captured))
                continue
            graph = self.scopes[body].graph
            formal = [info.name for info in graph.inputs]
            inner: dict[str, Place] = dict(
                zip_longest(formal, places(node.inputs)[: len(formal)], fillvalue="")
            )
            for info, name, place in zip(graph.outputs, node.outputs, places(node.outputs), strict=False):
                if info.name in inner:  # handed through, or listed twice
                    known[name] = inner[info.name]
                elif name:
                    inner[info.name] = place
            yield from self._steps(body, inner)
