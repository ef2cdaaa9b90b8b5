"""The difference of two models: interface, opsets, nodes, weights, shapes, totals and findings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TypedDict

from onnxscope import dtypes
from onnxscope.analysis import cost, memory, params, shapes
from onnxscope.analysis.difference import Level, Pairing, attributes, graph_hash, levels
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.tensor_difference import compare
from onnxscope.checks.settings import Settings
from onnxscope.documents import audit
from onnxscope.documents.audit import FindingEntry
from onnxscope.documents.plain import plain, plain_or_none, shape, value_entry
from onnxscope.documents.schema import PlainShape, PlainSize
from onnxscope.errors import FileError
from onnxscope.graph import Model, Node, Tensor, ValueInfo, domain_of

DIFF = "onnxscope.diff/1"
"""Name and version of the document; the number grows when a key changes its meaning or goes."""


class Change(TypedDict):
    """Something with an old and a new form; None where one side lacks it."""

    what: str
    old: str | None
    new: str | None


class ChangedNode(TypedDict):
    """One node of both models."""

    old: str
    """Its name in the old model."""
    new: str
    op: str
    what: list[Change]


class NodeEntry(TypedDict):
    """A node of one model only."""

    name: str
    op: str


class NodesEntry(TypedDict):
    """Nodes of the main graph and of those nested in paired nodes, named with the path in front."""

    paired: int
    renamed: int
    """Paired nodes whose names differ; no difference by itself."""
    added: list[NodeEntry]
    removed: list[NodeEntry]
    changed: list[ChangedNode]


class ChangedWeight(TypedDict):
    """A tensor of both models with other numbers, type or shape."""

    old: str
    new: str
    dtype: list[str | None]
    """Of the old and the new one."""
    shape: list[list[int]]
    elements: int
    """Of the new one."""
    changed: int | None
    """Elements with other bits; None where they have no counterparts or can't be read."""
    max_change: float | None
    """Largest absolute difference of finite elements."""
    note: str | None


class WeightEntry(TypedDict):
    """A tensor of one model only."""

    name: str
    dtype: str | None
    shape: list[int]


class WeightsEntry(TypedDict):
    """Stored tensors of the main graph and of those nested in paired nodes."""

    identical: int
    """Tensors whose bits are the same, whatever their names."""
    changed: list[ChangedWeight]
    added: list[WeightEntry]
    removed: list[WeightEntry]


class ShapeChange(TypedDict):
    """An output of a paired node."""

    old_name: str
    new_name: str
    old: PlainShape | None
    new: PlainShape | None


class Total(TypedDict):
    """A figure of the whole model."""

    what: str
    old: PlainSize | None
    new: PlainSize | None


class FindingsEntry(TypedDict):
    """What the audit finds in one model only."""

    gained: list[FindingEntry]
    lost: list[FindingEntry]


class DiffDocument(TypedDict):
    """The whole difference."""

    schema: str
    old: str
    new: str
    equal: bool
    """Whether nothing below differs, names of inner nodes and values apart."""
    interface: list[Change]
    model: list[Change]
    """IR version, opsets, functions, producer, metadata."""
    nodes: NodesEntry
    weights: WeightsEntry
    shapes: list[ShapeChange]
    totals: list[Total]
    findings: FindingsEntry


def diff(old: Model, new: Model, settings: Settings | None = None) -> DiffDocument:
    """What differs between two models; free sizes stay symbols."""
    before, after = shapes.infer(old), shapes.infer(new)
    paired = list(levels(old.graph, new.graph))
    pairing = paired[0].pairing
    document: DiffDocument = {
        "schema": DIFF,
        "old": old.path,
        "new": new.path,
        "equal": True,
        "interface": list(_interface(before, after)),
        "model": list(_model(old, new)),
        "nodes": _nodes(old, new, paired),
        "weights": _weights(paired),
        "shapes": list(_shapes(before, after, pairing)),
        "totals": _totals(before, after),
        "findings": _findings(old, new, pairing, settings),
    }
    document["equal"] = _equal(document)
    return document


def _equal(document: DiffDocument) -> bool:
    nodes, weights, found = document["nodes"], document["weights"], document["findings"]
    lists: tuple[list[object], ...] = (
        [*document["interface"]], [*document["model"]], [*document["shapes"]],
        [*nodes["added"]], [*nodes["removed"]], [*nodes["changed"]],
        [*weights["added"]], [*weights["removed"]], [*weights["changed"]],
        [*found["gained"]], [*found["lost"]],
    )  # fmt: skip
    return not any(lists) and all(total["old"] == total["new"] for total in document["totals"])


def _changes(old: dict[str, str], new: dict[str, str]) -> Iterator[Change]:
    for what in dict.fromkeys((*old, *new)):
        if old.get(what) != new.get(what):
            yield {"what": what, "old": old.get(what), "new": new.get(what)}


def _interface(before: Facts, after: Facts) -> Iterator[Change]:
    def told(facts: Facts) -> dict[str, str]:
        graph = facts.model.graph
        inputs = [info for info in graph.inputs if info.name not in graph.initializers]
        rows = [("input", info) for info in inputs] + [("output", info) for info in graph.outputs]
        return {f"{kind} {info.name}": _told(facts, info) for kind, info in rows}

    yield from _changes(told(before), told(after))


def _told(facts: Facts, info: ValueInfo) -> str:
    entry = value_entry(info.name, facts.value(info.name))
    sizes = "?" if entry["shape"] is None else f"[{', '.join(map(str, entry['shape']))}]"
    return f"{entry['dtype'] or '?'} {sizes}"


def _model(old: Model, new: Model) -> Iterator[Change]:
    def told(model: Model) -> dict[str, str]:
        rows = {"IR version": str(model.ir_version)}
        rows |= {f"opset {domain or 'ai.onnx'}": str(version) for domain, version in model.opset.items()}
        rows |= {"producer": f"{model.producer_name} {model.producer_version}".strip()}
        rows |= {
            f"function {f.domain}.{f.name}{':' * bool(f.overload)}{f.overload}": graph_hash(f.body)[:12]
            for f in model.functions
        }
        return rows | {f"metadata {key}": value for key, value in model.metadata}

    yield from _changes(told(old), told(new))


def _nodes(old: Model, new: Model, paired: list[Level]) -> NodesEntry:
    rows = [(level, pair) for level in paired for pair in level.pairing.pairs]
    entries = [_changed(pair, level, (old, new)) for level, pair in rows]
    entries += [_handed_out(level) for level in paired[1:]]
    return {
        "paired": len(rows),
        "renamed": sum(before.name != after.name for _, (before, after) in rows),
        "added": [_node(level.paths[1], node) for level in paired for node in level.pairing.added],
        "removed": [_node(level.paths[0], node) for level in paired for node in level.pairing.removed],
        "changed": [entry for entry in entries if entry["what"]],
    }


def _handed_out(level: Level) -> ChangedNode:
    """What a nested graph hands out, where that isn't the same; the main graph's is the interface."""
    both = enumerate(zip(level.old.outputs, level.new.outputs, strict=False))
    what: list[Change] = [
        {"what": f"output {place}", "old": old.name, "new": new.name}
        for place, (old, new) in both
        if level.names.get(old.name, old.name) != new.name
    ]
    return {"old": level.paths[0].rstrip("/"), "new": level.paths[1].rstrip("/"), "op": "graph", "what": what}


def _node(path: str, node: Node) -> NodeEntry:
    return {"name": f"{path}{node.label}", "op": node.op}


def _changed(pair: tuple[Node, Node], level: Level, models: tuple[Model, Model]) -> ChangedNode:
    (old, new), (before, after) = pair, models
    what = list(_changes(_shown(old, before), _shown(new, after)))
    for place, (one, two) in enumerate(zip_longest(old.inputs, new.inputs, fillvalue="")):
        both_stored = one in level.stored[0] and two in level.stored[1]
        if level.names.get(one, one) != two and not both_stored:  # weights have their own list
            what.append({"what": f"input {place}", "old": one or None, "new": two or None})
    if len(old.outputs) != len(new.outputs):
        what.append({"what": "outputs", "old": str(len(old.outputs)), "new": str(len(new.outputs))})
    labels = f"{level.paths[0]}{old.label}", f"{level.paths[1]}{new.label}"
    return {"old": labels[0], "new": labels[1], "op": new.op, "what": what}


def _shown(node: Node, model: Model) -> dict[str, str]:
    """What a node is apart from its name and edges: op and attributes, large values as a hash."""
    domain = domain_of(node.domain)
    given = attributes(node, model.opset.get(domain))
    rows = {"op": f"{domain}.{node.op}".lstrip(".")}
    return rows | {f"attribute {name}": text for name, text in given.items()}


def _weights(paired: list[Level]) -> WeightsEntry:
    found: WeightsEntry = {"identical": 0, "changed": [], "added": [], "removed": []}
    for level in paired:
        before, after = level.old.initializers, level.new.initializers
        partners = dict(_partners(before, after, level.pairing))
        pairs = [(before[one], after[two]) for two, one in partners.items()]
        rows = [row for one, two in pairs if (row := _weight(one, two, level.paths))]
        kept = set(partners.values())
        found["identical"] += len(partners) - len(rows)
        found["changed"] += rows
        found["added"] += [_entry(t, level.paths[1]) for name, t in after.items() if name not in partners]
        found["removed"] += [_entry(t, level.paths[0]) for name, t in before.items() if name not in kept]
    return found


def _partners(
    before: dict[str, Tensor], after: dict[str, Tensor], pairing: Pairing
) -> Iterator[tuple[str, str]]:
    """(new name, old name) of tensors that take the same place in paired nodes, then of equal name."""
    found: dict[str, str] = {}
    for old, new in pairing.pairs:
        for one, two in zip(old.inputs, new.inputs, strict=False):
            if one in before and two in after:
                found.setdefault(two, one)
    taken = set(found.values())
    for name in after:
        if name in before and name not in found and name not in taken:
            found[name] = name
    yield from found.items()


def _weight(old: Tensor, new: Tensor, paths: tuple[str, str]) -> ChangedWeight | None:
    """The row of a changed tensor; None where the bits are the same."""
    note: str | None = None
    difference = None
    try:
        difference = compare(old, new)
        if difference and not difference.changed:
            if old.dims == new.dims:
                return None
            note = "the same bits in another shape"
        if difference and difference.nonfinite:
            note = f"{difference.nonfinite} of them NaN or infinite on one side"
    except (FileError, TypeError) as error:
        if old.external and old.external == new.external:
            return None
        note = str(error)
    return {
        "old": f"{paths[0]}{old.name}",
        "new": f"{paths[1]}{new.name}",
        "dtype": [dtypes.name_of(old.dtype), dtypes.name_of(new.dtype)],
        "shape": [list(old.dims), list(new.dims)],
        "elements": new.count,
        "changed": difference.changed if difference else None,
        "max_change": difference.max_change if difference else None,
        "note": note,
    }


def _entry(tensor: Tensor, path: str) -> WeightEntry:
    name = f"{path}{tensor.name}"
    return {"name": name, "dtype": dtypes.name_of(tensor.dtype), "shape": list(tensor.dims)}


def _shapes(before: Facts, after: Facts, pairing: Pairing) -> Iterator[ShapeChange]:
    for old, new in pairing.pairs:
        for one, two in zip(old.outputs, new.outputs, strict=False):
            left, right = shape(before.value(one).shape), shape(after.value(two).shape)
            if left != right:
                yield {"old_name": one, "new_name": two, "old": left, "new": right}


def _totals(before: Facts, after: Facts) -> list[Total]:
    old, new = _figures(before), _figures(after)
    return [{"what": what, "old": old[what], "new": new[what]} for what in old]


def _figures(facts: Facts) -> dict[str, PlainSize | None]:
    counted, macs, used = params.count(facts), cost.count(facts), memory.measure(facts)
    return {
        "nodes": len(facts.model.graph.nodes),
        "params": plain(counted.total),
        "weight_bytes": counted.weight_bytes,
        "macs": plain(macs.total) if macs.known or not macs.possible else None,
        "activation_bytes": None if used.unknown else plain(used.activation_bytes),
        "peak_activation_bytes": plain_or_none(used.peak_activation_bytes),
    }


def _findings(old: Model, new: Model, pairing: Pairing, settings: Settings | None) -> FindingsEntry:
    before, after = (audit.of_model(model, settings)["findings"] for model in (old, new))
    names: dict[str, str] = {}
    for one, two in pairing.pairs:
        names |= zip((*one.inputs, *one.outputs), (*two.inputs, *two.outputs), strict=False)
        names[one.label] = two.label
    known = {(finding["code"], names.get(finding["where"], finding["where"])) for finding in before}
    held = {(finding["code"], finding["where"]) for finding in after}
    return {
        "gained": [row for row in after if (row["code"], row["where"]) not in known],
        "lost": [row for row in before if (row["code"], names.get(row["where"], row["where"])) not in held],
    }
