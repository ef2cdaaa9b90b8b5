"""The `problems` rows: what could not be answered, what doesn't fit, and what a reader must know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from onnxscope.analysis.facts import Facts
from onnxscope.analysis.memory import Memory
from onnxscope.analysis.params import Params
from onnxscope.analysis.receptive_field import ReceptiveFields
from onnxscope.documents.schema import ProblemEntry
from onnxscope.expr import Expr, Size, larger_of
from onnxscope.graph import Graph, Tensor

if TYPE_CHECKING:
    from onnxscope.rewrite.heads import HeadLayer


def problems(
    facts: Facts, params: Params, fields: ReceptiveFields, memory: Memory, heads: Sequence[HeadLayer]
) -> list[ProblemEntry]:
    """Every row once, those of the file first."""
    rows = [
        *_storage(facts),
        *_listed_twice(facts),
        *_namesakes(facts),
        *((p.where, p.message) for p in (*facts.problems, *fields.problems)),
        *_conditions(facts),
    ]
    rows += [(fact.label, fact.inferred.note) for fact in facts.nodes() if fact.inferred.note]
    rows += [(layer.layer, layer.size_note) for layer in heads if layer.size_note]
    rows += [("parameters", note) for note in params.notes]
    if memory.unknown:
        known = memory.activation_bytes
        count = (
            f"{memory.unknown} values have an unknown size"
            if memory.unknown > 1
            else "1 value has an unknown size"
        )
        rows.append(
            ("memory", f"{count}; the others take {known} bytes, activation memory in all is unknown")
        )
    return [{"where": where, "message": message} for where, message in dict.fromkeys(rows)]


def _conditions(facts: Facts) -> Iterator[tuple[str, str]]:
    """Free sizes that meet in a broadcast: the report holds where they fit, and only there."""
    seen: set[Size] = set()
    shared: set[int] = set()
    for fact in facts.nodes():
        if id(fact.inferred) in shared:  # the answer of an alike node
            continue
        shared.add(id(fact.inferred))
        for size in (size for shape in fact.inferred.shapes for size in shape or ()):
            if isinstance(size, Expr) and size not in seen:
                seen.add(size)
                larger = larger_of(size)
                if larger and not any(isinstance(one, int) for one in larger):
                    listed = " and ".join(map(str, larger))
                    yield fact.label, f"sizes {listed} must be equal or one of them 1; {size} stands for both"


def _listed_twice(facts: Facts) -> Iterator[tuple[str, str]]:
    """Initializers that are inputs too: constants up to IR 3, which demands it, defaults from IR 4 on."""
    model = facts.model
    names = [info.name for info in model.graph.inputs if info.name in model.graph.initializers]
    if not names:
        return
    start = "1 initializer is" if len(names) == 1 else f"{len(names)} initializers are"
    if model.ir_version < 4:
        yield names[0], f"{start} listed as input too, as IR {model.ir_version} demands; taken as constant"
    else:
        yield (
            names[0],
            f"{start} listed as input too: a default that a caller may override (IR {model.ir_version}), "
            "so what its numbers decide is left open; export without initializers as inputs to have it known",
        )


def _namesakes(facts: Facts) -> Iterator[tuple[str, str]]:
    """Node names that stand for more than one node; ONNX wants them unique, and every tool shows them."""
    places: dict[str, list[str]] = {}
    for fact in facts.nodes():
        if fact.node.label != fact.label:  # else it has the name for itself
            places.setdefault(f"{fact.scope}{fact.node.label}", []).append(fact.label)
    for label, found in places.items():
        if len(found) > 1:
            listed = [*found[:3], *["..."] * bool(found[3:])]
            yield label, f"{len(found)} nodes have this name; they are listed as {', '.join(listed)}"


def _storage(facts: Facts) -> Iterator[tuple[str, str]]:
    """Tensors whose numbers can't be had: one row per reason, the first tensor and how many more."""
    said = {(problem.where, problem.message) for problem in facts.problems}
    found: dict[str, list[str]] = {}
    for tensor in _tensors(facts.model.graph, *(function.body for function in facts.model.functions)):
        reason = _reason(tensor)
        if reason and (f"tensor {tensor.name!r}", reason) not in said:
            found.setdefault(reason, []).append(tensor.name)
    for reason, names in found.items():
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        yield names[0], f"{reason}{more}"


def _reason(tensor: Tensor) -> str:
    """Why the numbers of a tensor can't be had, without its name; nothing of a payload is read."""
    check = getattr(tensor.storage, "problem", None)
    reason = check() if check is not None else None
    return "" if reason is None else str(reason).removeprefix(f"tensor {tensor.name!r}: ")


def _tensors(*graphs: Graph) -> Iterator[Tensor]:
    for graph in graphs:
        yield from graph.tensors
        for attributes in {id(node.attributes): node.attributes for node in graph.nodes}.values():
            yield from (a.value for a in attributes if isinstance(a.value, Tensor))
        for node in graph.holders:
            yield from _tensors(*(inner for _, inner in node.subgraphs()))
