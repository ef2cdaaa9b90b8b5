"""A change to a graph as data, and the one function that carries it out.

ONNX edges are names, so a replacement that produces the same value names needs no surgery elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from onnxscope.graph import Graph, Model, Node, Tensor, ValueInfo


class Edit(NamedTuple):
    """What is taken from and given to the main graph of a model."""

    removed: frozenset[int] = frozenset()
    """Indexes of nodes that go."""
    added: tuple[tuple[int, Node], ...] = ()
    """(index, node): each goes in front of the node that had that index; several keep their order."""
    tensors: tuple[Tensor, ...] = ()
    """Initializers to add."""
    dropped: frozenset[str] = frozenset()
    """Names of initializers that go, from the list of inputs too."""
    inputs: tuple[ValueInfo, ...] = ()
    """Inputs to declare anew, matched by name; those that weren't there come last (below IR version 4 every
    initializer is listed as an input)."""
    outputs: tuple[ValueInfo, ...] = ()
    """Outputs to declare anew, matched by name."""
    stale: frozenset[str] = frozenset()
    """Values whose declared shape no longer holds: their value_info goes."""
    opsets: tuple[tuple[str, int], ...] | None = None
    """The model's opset imports from now on; None leaves them."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Metadata entries to add; an entry of the same key is replaced."""
    why: str = ""
    exactness: str = "reassociated"
    """bit-equal, reassociated (the same products, summed in another order) or approximate."""


def apply(model: Model, edit: Edit) -> Model:
    """The model after the edit; the given one is untouched.

    Raises ValueError where the edit doesn't fit: a node index or name that isn't there, or a value that two
    nodes would produce.
    """
    graph = model.graph
    _check(graph, edit)
    changed = replace(
        graph,
        nodes=_nodes(graph, edit),
        tensors=(*(t for t in graph.tensors if t.name not in edit.dropped), *edit.tensors),
        inputs=_inputs(graph, edit),
        outputs=_declared(graph.outputs, edit.outputs),
        values=tuple(value for value in graph.values if value.name not in edit.stale),
    )
    given = {key for key, _ in edit.metadata}
    metadata = (*((key, value) for key, value in model.metadata if key not in given), *edit.metadata)
    return replace(model, graph=changed, opsets=edit.opsets or model.opsets, metadata=metadata)


def then(model: Model, first: Edit, second: Edit) -> Edit:
    """One edit of `model` that does what `first` does and then, to the model after it, `second`.

    Declarations, opset imports and exactness are the first one's; both edits' metadata go in.
    """
    graph = model.graph
    inserted: dict[int, list[Node]] = {}
    for place, node in first.added:
        inserted.setdefault(place, []).append(node)
    between: list[tuple[int, Node | None]] = []  # the nodes after `first`; None for one that was there
    for place in range(len(graph.nodes) + 1):
        between += [(place, node) for node in inserted.get(place, ())]
        if place < len(graph.nodes) and place not in first.removed:
            between.append((place, None))
    later: dict[int, list[Node]] = {}
    for place, node in second.added:
        later.setdefault(place, []).append(node)
    added: list[tuple[int, Node]] = []
    removed = set(first.removed)
    for index, (place, made) in enumerate(between):
        added += [(place, node) for node in later.get(index, ())]
        if made is not None and index not in second.removed:
            added.append((place, made))
        elif made is None and index in second.removed:
            removed.add(place)
    added += [(len(graph.nodes), node) for node in later.get(len(between), ())]
    mine = {tensor.name for tensor in first.tensors}
    return first._replace(
        removed=frozenset(removed),
        added=tuple(added),
        tensors=(*(t for t in first.tensors if t.name not in second.dropped), *second.tensors),
        dropped=first.dropped | (second.dropped - mine),
        metadata=(*first.metadata, *second.metadata),
    )


def _check(graph: Graph, edit: Edit) -> None:
    count = len(graph.nodes)
    wrong = [i for i in (*edit.removed, *(place for place, _ in edit.added)) if not 0 <= i <= count]
    if wrong:
        raise ValueError(f"the edit names nodes {sorted(wrong)} of {count}")
    unknown = edit.dropped - {tensor.name for tensor in graph.tensors}
    if unknown:
        raise ValueError(f"the edit drops initializers that aren't there: {', '.join(sorted(unknown))}")
    kept = [node for place, node in enumerate(graph.nodes) if place not in edit.removed]
    made: set[str] = set()
    for node in (*kept, *(node for _, node in edit.added)):
        for name in node.outputs:
            if name and name in made:
                raise ValueError(f"two nodes would produce {name!r} after the edit")
            made.add(name)


def _nodes(graph: Graph, edit: Edit) -> tuple[Node, ...]:
    inserted: dict[int, list[Node]] = {}
    for place, node in edit.added:
        inserted.setdefault(place, []).append(node)
    nodes: list[Node] = []
    for place, node in enumerate(graph.nodes):
        nodes += inserted.get(place, ())
        if place not in edit.removed:
            nodes.append(node)
    nodes += inserted.get(len(graph.nodes), ())
    return tuple(replace(node, index=place) for place, node in enumerate(nodes))


def _inputs(graph: Graph, edit: Edit) -> tuple[ValueInfo, ...]:
    kept = tuple(info for info in graph.inputs if info.name not in edit.dropped)
    known = {info.name for info in kept}
    return (*_declared(kept, edit.inputs), *(info for info in edit.inputs if info.name not in known))


def _declared(before: tuple[ValueInfo, ...], after: tuple[ValueInfo, ...]) -> tuple[ValueInfo, ...]:
    anew = {value.name: value for value in after}
    return tuple(anew.get(value.name, value) for value in before)
