"""Where a finding is, in bytes and as a fingerprint that survives renumbering.

A fingerprint is made of the rule's code and the place: the name of a node or tensor where a person gave it,
else what it is and what is around it (op, attributes, shapes, neighbours), because exporters number what has
no name, and one node more renumbers all behind it. Alike places are told apart by their order.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from onnxscope.checks.finding import Finding
from onnxscope.graph import Attribute, Graph, Model, Node, Span, Tensor

_NUMBERED = re.compile(r"[^/]*\d")
"""Names that an exporter may have numbered; those with a path are a module's."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the file."""

    key: str
    """What identifies it in another export of the same model."""
    kind: str
    """node, tensor or value."""
    span: Span | None


def spots(model: Model) -> dict[str, Spot]:
    """Every node label, tensor name and value name, with its scope in front, and what it stands for."""
    found: dict[str, Spot] = {}
    for where, spot in _of_graph("", "", model.graph):
        found.setdefault(where, spot)
    for function in model.functions:
        path = f"{function.domain}.{function.name}/"
        for where, spot in _of_graph(path, path, function.body):
            found.setdefault(where, spot)
    return found


def _of_graph(path: str, key: str, graph: Graph) -> Iterator[tuple[str, Spot]]:
    """`path` is the scope as findings write it, `key` the same without numbers that may change."""
    for node in graph.nodes:
        own = f"{key}{_node_key(graph, node)}"
        yield f"{path}{node.label}", Spot(own, "node", node.origin)
        for name, inner in node.subgraphs():
            yield from _of_graph(f"{path}{node.label}.{name}/", f"{own}.{name}/", inner)
    for tensor in graph.tensors:
        yield f"{path}{tensor.name}", Spot(f"{key}{_value_key(graph, tensor.name)}", "tensor", tensor.origin)
    for info in (*graph.inputs, *graph.outputs, *graph.values):
        yield f"{path}{info.name}", Spot(f"{key}{info.name}", "value", info.origin)
    for node in graph.nodes:
        for name in filter(None, node.outputs):
            yield f"{path}{name}", Spot(f"{key}{_value_key(graph, name)}", "value", node.origin)


def _numbered(name: str) -> bool:
    return not name or _NUMBERED.fullmatch(name) is not None


def _node_key(graph: Graph, node: Node) -> str:
    if not _numbered(node.name):
        return node.name
    around = [_operand(graph, name) for name in node.inputs]
    behind = sorted(user.op for name in node.outputs for user in graph.consumers.get(name, ()))
    attributes = sorted(_attribute(attribute) for attribute in node.attributes)
    return _short(node.domain, node.op, attributes, around, behind)


def _value_key(graph: Graph, name: str) -> str:
    if not _numbered(name):
        return name
    users = [
        (user.op, place)
        for user in graph.consumers.get(name, ())
        for place, given in enumerate(user.inputs)
        if given == name
    ]
    return _short(_operand(graph, name), users)


def _operand(graph: Graph, name: str) -> str:
    tensor = graph.initializers.get(name)
    if tensor is not None:
        return f"{tensor.dtype}{tensor.dims}"
    producer = graph.producers.get(name)
    return f"{producer.op}.{producer.outputs.index(name)}" if producer else ("input" if name else "")


def _attribute(attribute: Attribute) -> str:
    value = attribute.value
    if isinstance(value, Tensor):
        return f"{attribute.name}={value.dtype}{value.dims}"
    if isinstance(value, int | float | bytes):
        return f"{attribute.name}={value!r}"
    if isinstance(value, tuple) and all(isinstance(item, int | float | bytes) for item in value):
        return f"{attribute.name}={value!r}"
    return attribute.name


def _short(*parts: object) -> str:
    return "#" + hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def fingerprints(findings: Sequence[Finding], places: dict[str, Spot]) -> list[str]:
    """One per finding, all different, in the order of the findings."""
    seen: Counter[tuple[str, str]] = Counter()
    found: list[str] = []
    for finding in findings:
        spot = places.get(finding.where)
        key = finding.code, spot.key if spot else finding.where
        seen[key] += 1
        found.append(hashlib.sha256(repr((*key, seen[key])).encode()).hexdigest()[:32])
    return found


def fresh(found: Iterable[str], known: Iterable[str]) -> list[bool]:
    """For each fingerprint whether it is new."""
    old = set(known)
    return [fingerprint not in old for fingerprint in found]
