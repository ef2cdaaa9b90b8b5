"""Walks over everything a model file holds: every graph, every stored tensor, every text."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from typing import TypeVar

from onnxscope.checks.finding import Finding
from onnxscope.graph import Function, Graph, Model, Node, Span, Tensor, ValueInfo

Item = TypeVar("Item")


def once_per_model(walk: Callable[[Model], Iterator[Item]]) -> Callable[[Model], tuple[Item, ...]]:
    """Keep the result of a walk until another model is asked for: many rules take the same walk.

    Nothing outlives the model: what is kept goes with it.
    """
    kept: list[tuple[weakref.ref[Model], tuple[Item, ...]]] = []

    @wraps(walk)
    def walked(model: Model) -> tuple[Item, ...]:
        for known, found in tuple(kept):
            if known() is model:
                return found
        found = tuple(walk(model))
        kept[:] = [(weakref.ref(model, lambda _: kept.clear()), found)]
        return found

    return walked


@dataclass(frozen=True, slots=True)
class Place:
    """One graph of a file: the main graph, a branch or loop body, or the body of a function."""

    path: str
    """As in `analysis.facts`: "" for the main graph, `if_3.then_branch/` for a branch of it."""
    graph: Graph
    outer: frozenset[str] = frozenset()
    """Names that the graphs around it define before the node that holds it."""
    function: Function | None = None
    """The function whose body this is, or lies in; None in the main graph."""


@once_per_model
def places(model: Model) -> Iterator[Place]:
    """Every graph of the file, each right before those inside it; function bodies come last."""
    yield from _inside(Place("", model.graph))
    for function in model.functions:
        yield from _inside(Place(f"{function.domain}.{function.name}/", function.body, function=function))


def _inside(place: Place) -> Iterator[Place]:
    yield place
    holders = {id(node) for node in place.graph.holders}
    if not holders:
        return
    known = set(place.outer) | given(place.graph)
    for node in place.graph.nodes:
        if id(node) in holders:
            for attribute, graph in node.subgraphs():
                path = f"{place.path}{node.label}.{attribute}/"
                yield from _inside(Place(path, graph, frozenset(known), place.function))
        known.update(name for name in node.outputs if name)


def given(graph: Graph) -> set[str]:
    """Names that exist before the first node runs: inputs and initializers."""
    names = {info.name for info in graph.inputs} | {tensor.name for tensor in graph.tensors}
    return names | {sparse.values.name for sparse in graph.sparse}


def real_inputs(model: Model) -> list[ValueInfo]:
    """Inputs that the caller must give: those without an initializer."""
    stored = given(replace(model.graph, inputs=()))
    return [info for info in model.graph.inputs if info.name not in stored]


@once_per_model
def tensors(model: Model) -> Iterator[tuple[str, Tensor]]:
    """(label, tensor) of every stored tensor: initializers, attributes, those of inner graphs."""
    for place in places(model):
        for tensor in place.graph.tensors:
            yield f"{place.path}{tensor.name}", tensor
        for sparse in place.graph.sparse:
            yield f"{place.path}{sparse.values.name}", sparse.values
            yield f"{place.path}{sparse.values.name} (indices)", sparse.indices
        for node in place.graph.nodes:
            for attribute in node.attributes:
                items = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
                for item in items:
                    if isinstance(item, Tensor):
                        yield f"{place.path}{item.name or node.label}", item


@once_per_model
def metadata(model: Model) -> Iterator[tuple[str, str, str]]:
    """(where, key, value) of every metadata entry of the model, its graphs and nodes."""
    yield from (("model", key, value) for key, value in model.metadata)
    for place in places(model):
        where = place.path or "graph"
        yield from ((where, key, value) for key, value in place.graph.metadata)
        for node in place.graph.nodes:
            if node.metadata:
                yield from ((f"{place.path}{node.label}", key, value) for key, value in node.metadata)


@once_per_model
def docs(model: Model) -> Iterator[tuple[str, str]]:
    """(where, text) of every documentation string that isn't empty."""
    found = [("model", model.doc)]
    for place in places(model):
        found.append((place.path or "graph", place.graph.doc))
        found += [(f"{place.path}{node.label}", node.doc) for node in place.graph.nodes if node.doc]
        found += [(tensor.name, tensor.doc) for tensor in place.graph.tensors if tensor.doc]
    yield from ((where, text) for where, text in found if text)


@once_per_model
def names(model: Model) -> Iterator[tuple[str, str]]:
    """(kind, name) of every name in the file, empty ones left out, each once per kind."""
    seen: dict[tuple[str, str], None] = {}
    for place in places(model):
        graph = place.graph
        infos = (*graph.inputs, *graph.outputs, *graph.values)
        seen.update((("value", info.name), None) for info in infos)
        seen.update((("initializer", tensor.name), None) for tensor in graph.tensors)
        seen[("graph", graph.name)] = None
        for node in graph.nodes:
            seen[("node", node.name)] = None
            seen[("op", node.op)] = None
            seen[("domain", node.domain)] = None
            seen.update((("value", name), None) for name in node.outputs)
    seen.update((("metadata key", key), None) for _, key, _ in metadata(model))
    yield from ((kind, name) for kind, name in seen if name)


def several(items: Iterable[object], most: int = 3) -> str:
    """A list for a message: the first few, and how many more.

    >>> several(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = [str(item) for item in items]
    if len(shown) <= most:
        return ", ".join(shown)
    return f"{', '.join(shown[:most])} and {len(shown) - most} more"


def count_of(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count_of(1, "node"), count_of(3, "node"), count_of(2, "web address")
    ('1 node', '3 nodes', '2 web addresses')
    """
    many = "es" if noun.endswith(("s", "ch", "sh", "x")) else "s"
    return f"{number} {noun}{'' if number == 1 else many}"


def at(finding: Finding, thing: Node | Tensor | ValueInfo) -> Finding:
    """The finding with the byte offset of a node, tensor or value, where the file tells it."""
    origin = thing.origin
    return replace(finding, offset=origin.offset) if isinstance(origin, Span) else finding
