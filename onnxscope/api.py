"""The Python API: load a model, report on it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnxscope import documents
from onnxscope.documents.schema import (
    FullyConnectedEntry,
    LayerEntry,
    ProblemEntry,
    ReportDocument,
    SpatialEntry,
    TotalsEntry,
)
from onnxscope.graph import Model

Source: TypeAlias = "Model | str | os.PathLike[str]"


def load(path: str | os.PathLike[str]) -> Model:
    """The model in a file; "-" is standard input. Weights stay on disk until one is touched.

    Raises FileError where there is no such file, or it is no ONNX model.
    """
    from onnxscope.files.read import load as read

    return read(path)


def report(
    model_or_path: Source,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    dims: Mapping[str, int] | None = None,
    *,
    all_ops: bool = False,
    depth: int | None = None,
    sort: str = "order",
    top: int | None = None,
) -> Report:
    """Shapes, parameters, MACs, memory and receptive fields of a model, with the formulas that gave them.

    `shapes` gives whole inputs their sizes: `{"x": (1, 3, 224, 224)}`; a name in place of a number makes that
    axis a symbol. `dims` binds the model's own symbols: `{"batch": 1}`. What neither binds stays a symbol in
    the answer. `all_ops` lists every node, `depth` groups layers by the first components of their names,
    `sort` (see `onnxscope.documents.SORT_KEYS`) and `top` order and cut the rows; totals always cover the
    whole model.

    Raises FileError for a file that can't be used, UsageError for a binding or option that doesn't fit. A
    model that can be answered only in parts still gets its report: `problems` says what is missing.
    """
    model = model_or_path if isinstance(model_or_path, Model) else load(model_or_path)
    selection = documents.Selection(all_ops=all_ops, depth=depth, sort=sort, top=top)
    return Report(documents.report(model, shapes, dims, selection))


@dataclass(frozen=True, slots=True)
class Report:
    """A report that shows itself: `print(report)`, a notebook cell, or one of the `to_...` methods.

    `document` is the whole of it as plain dicts, lists, strings and numbers (docs/report.md describes the
    keys). A size is an int wherever every size it depends on is known, else a string with an expression.
    """

    document: ReportDocument

    @property
    def layers(self) -> list[LayerEntry]:
        """One entry per layer, in execution order unless sorted otherwise."""
        return self.document["layers"]

    @property
    def totals(self) -> TotalsEntry:
        """Parameters (count), MACs (multiply-accumulates of one run), memory (bytes) of the whole model."""
        return self.document["totals"]

    @property
    def problems(self) -> list[ProblemEntry]:
        """What could not be answered, doesn't fit, or must be known; empty for most models."""
        return self.document["problems"]

    @property
    def fully_connected(self) -> list[FullyConnectedEntry]:
        """Each fully connected layer, and the convolution it could become."""
        return self.document["fully_connected"]

    @property
    def spatial(self) -> SpatialEntry:
        """Map sizes as expressions of free input sizes."""
        return self.document["spatial"]

    def to_text(self, *, width: int = 100, color: bool = False, explain: bool = False) -> str:
        """Aligned text of at most `width` columns; `explain` adds the worked formulas under each row."""
        from onnxscope.render.text import text

        return text(self.document, width=width, color=color, explain=explain)

    def to_markdown(self, *, explain: bool = False) -> str:
        """Markdown tables, as GitHub shows them."""
        from onnxscope.render.markdown import markdown

        return markdown(self.document, explain=explain)

    def to_json(self) -> str:
        """The document as JSON text; docs/report.schema.json is its schema."""
        from onnxscope.render.json import json

        return json(self.document)

    def to_csv(self, *, explain: bool = False) -> str:
        """One line per layer, with a header line."""
        from onnxscope.render.csv import csv

        return csv(self.document, explain=explain)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        model, totals = self.document["model"], self.document["totals"]
        counts = f"{len(self.layers)} layers, {totals['params']} parameters, {totals['macs']} MACs"
        return f"<Report {model['path']!r}: {counts}>"

    def _repr_html_(self) -> str:
        from onnxscope.render.notebook import notebook

        return notebook(self.document)
