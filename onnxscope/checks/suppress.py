"""Findings that the model's own metadata allows.

The key `onnxscope.ignore` in the metadata of the model, its graph or one node holds codes, names or prefixes
of codes, separated by commas or spaces: `OX224, fc-dominates`. `OX224@/head/Reshape` allows it at one
place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from onnxscope.checks.finding import Finding
from onnxscope.graph import Graph, Model

KEY = "onnxscope.ignore"
"""Metadata key."""


def allowed(finding: Finding, entries: Iterable[tuple[str, str]]) -> bool:
    """Whether one of the (pattern, place) entries allows the finding; place "" is everywhere."""
    return any(
        (not place or place == finding.where)
        and (pattern == finding.name or finding.code.startswith(pattern.upper()))
        for pattern, place in entries
    )


def entries(model: Model) -> tuple[tuple[str, str], ...]:
    """(pattern, place) of everything that the model's metadata allows."""
    found = [*_of(model.metadata, ""), *_of(model.graph.metadata, ""), *_of_nodes(model.graph, "")]
    return tuple(dict.fromkeys(found))


def _of(metadata: Iterable[tuple[str, str]], place: str) -> Iterator[tuple[str, str]]:
    for key, value in metadata:
        for entry in re.split(r"[,\s]+", value) if key == KEY else ():
            pattern, _, at = entry.partition("@")
            if pattern:
                yield pattern, place or at


def _of_nodes(graph: Graph, path: str) -> Iterator[tuple[str, str]]:
    for node in graph.nodes:
        if node.metadata:
            yield from _of(node.metadata, f"{path}{node.label}")
        for name, inner in node.subgraphs():
            yield from _of_nodes(inner, f"{path}{node.label}.{name}/")
