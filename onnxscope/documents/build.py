"""From a model to its report document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from onnxscope.analysis import cost, memory, params, receptive_field, spatial
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.documents.arrange import Selection, arranged, grouped
from onnxscope.documents.layers import Layers, Row
from onnxscope.documents.plain import plain, plain_or_none, shape, value_entry
from onnxscope.documents.problems import problems
from onnxscope.documents.schema import (
    REPORT,
    FullyConnectedEntry,
    ModelEntry,
    ReportDocument,
    SpatialEntry,
    TotalsEntry,
    ViewEntry,
)
from onnxscope.graph import Graph, Model, Node, ValueInfo, domain_of
from onnxscope.rewrite.layout import is_fully_connected

if TYPE_CHECKING:
    from onnxscope.rewrite.heads import HeadLayer


class Analysis(NamedTuple):
    """Everything that the analysis says about one model."""

    facts: Facts
    params: params.Params
    cost: cost.Cost
    memory: memory.Memory
    fields: receptive_field.ReceptiveFields
    spatial: spatial.Spatial
    heads: tuple[HeadLayer, ...]


def report(
    model: Model,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    dims: Mapping[str, int] | None = None,
    selection: Selection | None = None,
    *,
    formulas: bool = True,
) -> ReportDocument:
    """The report on a model; `shapes` (input -> sizes) and `dims` (symbol -> size) bind its free sizes.

    `selection` picks and orders rows; without `formulas` the worked texts, which take time, are left out. A
    model that can't be analysed in parts still gets its report: unknown entries are None, and `problems` says
    why. Raises UsageError for a binding or selection that doesn't fit.
    """
    (selection or Selection()).check()
    return document(analyse(model, shapes, dims), selection, formulas=formulas)


def document(found: Analysis, selection: Selection | None = None, *, formulas: bool = True) -> ReportDocument:
    """The report on what `analyse` found, as `report` gives it. Raises UsageError for a bad selection."""
    selection = selection or Selection()
    selection.check()
    model = found.facts.model
    rows = list(Layers(found.facts, found.params, found.fields, formulas).rows(all_ops=selection.all_ops))
    written: ReportDocument = {
        "schema": REPORT,
        "model": _model(model, found.params.weight_bytes),
        "inputs": [value_entry(info.name, found.facts.value(info.name)) for info in _inputs(model)],
        "outputs": [value_entry(info.name, found.facts.value(info.name)) for info in model.graph.outputs],
        "layers": [row.entry for row in rows],
        "totals": _totals(found),
        "spatial": _spatial(found.spatial),
        "fully_connected": [_head(layer) for layer in found.heads],
        "problems": problems(found.facts, found.params, found.fields, found.memory, found.heads),
    }
    _arrange(written, rows, selection)
    return written


def analyse(
    model: Model,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Analysis:
    """Everything that a report says about a model. Raises UsageError for a binding that doesn't fit."""
    facts = infer(model, shapes, dims)
    counted = params.count(facts)
    layers = _heads(facts, counted)
    return Analysis(
        facts,
        counted,
        cost.count(facts),
        memory.measure(facts),
        receptive_field.trace(facts),
        spatial.closed_forms(facts, [layer.feature_map for layer in layers if layer.feature_map]),
        layers,
    )


def _heads(facts: Facts, counted: params.Params) -> tuple[HeadLayer, ...]:
    if not any(is_fully_connected(facts, fact) for fact in facts.nodes()):
        return ()
    from onnxscope.rewrite import heads  # brings in what plans a conversion

    return heads.find(facts, counted)


def _arrange(document: ReportDocument, rows: list[Row], selection: Selection) -> None:
    """Sort, cut or group the rows as asked, and say so in the document."""
    if selection.plain:
        return
    if selection.depth is None:
        shown = arranged(rows, selection)
        document["layers"] = [row.entry for row in shown]
        document["view"] = _view(selection, len(shown), len(rows))
    else:
        groups = grouped(rows, selection.depth)
        picked = arranged(groups, selection)
        document["groups"] = [group.entry for group in picked]
        document["view"] = _view(selection, len(picked), len(groups))


def _view(selection: Selection, rows: int, of: int) -> ViewEntry:
    return {"depth": selection.depth, "sort": selection.sort, "top": selection.top, "rows": rows, "of": of}


def _inputs(model: Model) -> Iterator[ValueInfo]:
    """Inputs that a caller must give: initializers among them are constants or defaults (ONNX IR)."""
    return (info for info in model.graph.inputs if info.name not in model.graph.initializers)


def _model(model: Model, weight_bytes: int) -> ModelEntry:
    nodes = _nodes(model.graph, *(function.body for function in model.functions))
    counts = Counter([node.op for node in nodes])
    return {
        "path": model.path,
        "bytes": model.file_bytes,
        "weight_bytes": weight_bytes,
        "ir_version": model.ir_version,
        "opsets": {domain_of(domain) or "ai.onnx": version for domain, version in model.opsets},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "functions": len(model.functions),
        "nodes": counts.total(),
        "op_counts": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
    }


def _nodes(*graphs: Graph) -> Iterator[Node]:
    for graph in graphs:
        yield from graph.nodes
        for node in graph.holders:
            yield from _nodes(*(inner for _, inner in node.subgraphs()))


def _totals(found: Analysis) -> TotalsEntry:
    counted, macs, used = found.params, found.cost, found.memory
    return {
        "params": plain(counted.total),
        "trainable_params": plain(counted.trainable),
        "buffers": plain(counted.buffers),
        "params_by_kind": {kind: plain(size) for kind, size in counted.by_kind.items()},
        "macs": plain(macs.total) if macs.known or not macs.possible else None,
        "macs_coverage": macs.coverage,
        "weight_bytes": counted.weight_bytes,
        "weight_bytes_by_dtype": dict(counted.bytes_by_dtype),
        "activation_bytes": None if used.unknown else plain(used.activation_bytes),
        "peak_activation_bytes": plain_or_none(used.peak_activation_bytes),
    }


def _spatial(found: spatial.Spatial) -> SpatialEntry:
    return {
        "closed_form": {name: shape(sizes) or [] for name, sizes in found.closed_form.items()},
        "minimum_input": dict(found.minimum_input),
        "exact_input_step": dict(found.exact_input_step),
    }


def _head(layer: HeadLayer) -> FullyConnectedEntry:
    return {
        "layer": layer.layer,
        "replaceable": layer.replaceable,
        "kernel": None if layer.kernel is None else list(layer.kernel),
        "becomes": layer.becomes,
        "reason": layer.reason,
        "share_of_params": None if layer.share_of_params is None else round(layer.share_of_params, 6),
    }
