"""One row per layer: what the analysis found about a node, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.analysis.params import LayerParams, Params, kind_of
from onnxscope.analysis.receptive_field import ReceptiveFields
from onnxscope.documents.plain import plain, plain_or_none, ratio
from onnxscope.documents.schema import FieldEntry, FormulaEntry, LayerEntry, ParamsEntry, PlainShape
from onnxscope.expr import Size
from onnxscope.ops.value import ValueFact


class Row(NamedTuple):
    """A layer entry, and its sizes before they became text."""

    entry: LayerEntry
    fact: NodeFact
    params: Size
    macs: Size | None
    """None where unknown."""
    inner: bool
    """Whether it is inside an If, Loop or Scan, whose own row has its MACs."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Makes the rows of one model."""

    facts: Facts
    params: Params
    fields: ReceptiveFields
    formulas: bool = True
    seen: dict[int, PlainShape] = field(default_factory=dict)
    """Shapes already written, by identity: most are the output of one layer and the input of the next."""
    worked: dict[int, tuple[list[str], str]] = field(default_factory=dict)
    """Formulas of sizes and MACs already written, by identity of the answer, which alike layers share."""

    def _shape(self, sizes: Sequence[Size] | None) -> PlainShape | None:
        if sizes is None:
            return None
        found = self.seen.get(id(sizes))
        if found is None:
            self.seen[id(sizes)] = found = [plain(size) for size in sizes]
        return [*found]

    def rows(self, *, all_ops: bool = False) -> Iterator[Row]:
        """Rows in execution order: layers that count, or every node."""
        for fact in self.facts.nodes():
            used = self.params.layers.get((fact.scope, fact.node.index))
            macs = self._macs(fact)
            if all_ops or self._counts(fact, used, macs):
                inner = fact.scope in self.facts.nested
                yield Row(self._entry(fact, used, macs), fact, used.total if used else 0, macs, inner)

    def _counts(self, fact: NodeFact, used: LayerParams | None, macs: Size | None) -> bool:
        """Whether a node is a layer: of a named kind, with parameters, or with MACs (or unknown ones)."""
        named = kind_of(fact) not in ("other", "fc")
        return named or used is not None or (macs != 0 and self.facts.called(fact) is None)

    def _macs(self, fact: NodeFact) -> Size | None:
        """MACs of one run of the graph that holds the node: 0 for a call (its body's rows have them)."""
        if fact.folded or (fact.answered and self.facts.called(fact) is not None):
            return 0
        if fact.inferred.unknown_macs:
            return None
        return 0 if fact.inferred.macs is None else fact.inferred.macs.value

    def _entry(self, fact: NodeFact, used: LayerParams | None, macs: Size | None) -> LayerEntry:
        node, window = fact.node, fact.inferred.window
        kind = kind_of(fact)
        source, read = _source(fact)
        shapes = {
            name: self._shape(value.shape)
            for name, value in zip(node.outputs, fact.outputs, strict=True)
            if value is not None
        }
        first = next(iter(shapes), None)
        return {
            "name": fact.label,
            "op": node.op,
            "kind": kind if kind != "fc" or used is not None else "other",
            "scope": fact.scope,
            "input": source,
            "output": first,
            "input_shape": None if read is None else self._shape(read.shape),
            "output_shape": None if first is None else shapes[first],
            "output_shapes": shapes,
            "kernel": None if window is None else self._shape(window.kernel),
            "strides": None if window is None else list(window.strides),
            "pads": None if window is None else self._shape(window.pads),
            "dilations": None if window is None else list(window.dilations),
            "group": None if window is None or kind == "pool" else window.group,
            "params": params_entry(used),
            "macs": plain_or_none(macs),
            "receptive_field": self._field(fact),
            "formula": self._formula(fact, used, macs) if self.formulas else None,
        }

    def _field(self, fact: NodeFact) -> FieldEntry | None:
        found = self.fields.spatial(fact)
        if found is None:
            return None
        entry: FieldEntry = {
            "size": [field.size for field in found],
            "stride": [ratio(field.stride) for field in found],
            "start": [ratio(field.start) for field in found],
        }
        return entry

    def _formula(self, fact: NodeFact, used: LayerParams | None, macs: Size | None) -> FormulaEntry:
        counted = fact.inferred.macs is not None and macs not in (0, None)
        worked = self.worked.get(id(fact.inferred))
        if worked is None:
            worked = [str(axis) for axis in fact.inferred.axes], str(fact.inferred.macs)
            self.worked[id(fact.inferred)] = worked
        return {
            "shape": [*worked[0]],
            "params": None if used is None else used.formula,
            "macs": worked[1] if counted else None,
        }


def _source(fact: NodeFact) -> tuple[str | None, ValueFact | None]:
    """The input that carries the data: the first one that isn't a constant, else the first one given."""
    first: tuple[str | None, ValueFact | None] = None, None
    for name, value in zip(fact.node.inputs, fact.inputs, strict=True):
        if value is not None and not (value.constant or value.overridable):
            return name, value
        if name and first[0] is None:
            first = name, value
    return first


def params_entry(used: LayerParams | None) -> ParamsEntry:
    """Counts of one layer; zeros for a layer without parameters."""
    if used is None:
        return {"weight": 0, "bias": 0, "total": 0, "shared_with": [], "dtype": None, "bytes": 0}
    return {
        "weight": plain(used.weight),
        "bias": plain(used.bias),
        "total": plain(used.total),
        "shared_with": list(used.shared_with),
        "dtype": used.dtype,
        "bytes": used.nbytes,
    }
