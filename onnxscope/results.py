"""What the functions of the Python API return: documents that show themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxscope.documents.audit import AuditDocument, FindingEntry
    from onnxscope.documents.conversion import ConversionDocument, ConvertedEntry, MapEntry, RefusedEntry
    from onnxscope.documents.diff import DiffDocument
    from onnxscope.documents.schema import (
        FullyConnectedEntry,
        LayerEntry,
        ProblemEntry,
        ReportDocument,
        SpatialEntry,
        TotalsEntry,
    )
    from onnxscope.documents.verification import RunEntry, VerificationDocument


class _Shown(ABC):
    """A document that shows itself."""

    __slots__ = ()
    document: Mapping[str, Any]

    @abstractmethod
    def to_text(self, *, width: int = 100, color: bool = False) -> str:
        """Text of at most `width` columns."""

    def to_json(self) -> str:
        """The document as JSON text; docs/ has its schema."""
        from onnxscope.render.json import json

        return json(self.document)

    def __str__(self) -> str:
        return self.to_text()


class _ShownAsMarkdown(_Shown):
    """One that a notebook shows as Markdown."""

    __slots__ = ()

    @abstractmethod
    def to_markdown(self) -> str:
        """Markdown tables."""

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


@dataclass(frozen=True, slots=True)
class Report(_Shown):
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

    def to_csv(self, *, explain: bool = False) -> str:
        """One line per layer, with a header line."""
        from onnxscope.render.csv import csv

        return csv(self.document, explain=explain)

    def __repr__(self) -> str:
        model, totals = self.document["model"], self.document["totals"]
        counts = f"{len(self.layers)} layers, {totals['params']} parameters, {totals['macs']} MACs"
        return f"<Report {model['path']!r}: {counts}>"

    def _repr_html_(self) -> str:
        from onnxscope.render.notebook import notebook

        return notebook(self.document)


@dataclass(frozen=True, slots=True)
class Plan(_Shown):
    """What a conversion would do; `print(plan)` shows it.

    `document` is the whole of it as plain dicts, lists, strings and numbers; docs/convert.md describes the
    keys.
    """

    document: ConversionDocument

    @property
    def converted(self) -> list[ConvertedEntry]:
        """One entry per layer that becomes a convolution, in execution order."""
        return self.document["converted"]

    @property
    def refused(self) -> list[RefusedEntry]:
        """Every other fully connected layer, with its reason."""
        return self.document["refused"]

    @property
    def maps(self) -> list[MapEntry]:
        """Per output map: cells as closed forms, and where they look, in input pixels."""
        return self.document["maps"]

    def to_text(self, *, width: int = 100, color: bool = False) -> str:
        """Text of at most `width` columns."""
        from onnxscope.render.conversion import text

        return text(self.document, width=width, color=color)

    def __repr__(self) -> str:
        counts = f"{len(self.converted)} layers become convolutions, {len(self.refused)} stay"
        return f"<{type(self).__name__} {self.document['input']!r}: {counts}>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.to_text())}</pre>"


@dataclass(frozen=True, slots=True, repr=False)
class Conversion(Plan):
    """A conversion that was carried out; `path` is the file, None where none was written."""

    path: str | None
    proof: Proof | None
    """The verification of that file; None where none was asked for."""


@dataclass(frozen=True, slots=True)
class Proof(_ShownAsMarkdown):
    """The verdict on two models, and what it rests on; true where they are equivalent.

    `document` is the whole of it as plain dicts, lists, strings and numbers; docs/verify.md describes
    the keys.
    """

    document: VerificationDocument

    @property
    def equivalent(self) -> bool:
        """Whether every check held on every provider."""
        return self.document["equivalent"]

    @property
    def runs(self) -> list[RunEntry]:
        """One entry per provider: outputs with error and limit, layers, dense windows, latency."""
        return self.document["runs"]

    def __bool__(self) -> bool:
        return self.equivalent

    def to_text(self, *, width: int = 100, color: bool = False) -> str:
        """Text of at most `width` columns."""
        from onnxscope.render.verification import text

        return text(self.document, width=width, color=color)

    def to_markdown(self) -> str:
        """Markdown tables, for a pull request."""
        from onnxscope.render.markdown_verification import markdown

        return markdown(self.document)

    def __repr__(self) -> str:
        from onnxscope.render.measures import summary

        return f"<Proof {summary(self.document)}>"


@dataclass(frozen=True, slots=True)
class Audit(_ShownAsMarkdown):
    """The findings in one or more models, iterable and countable; false where there is none.

    `document` is the whole of it as plain dicts, lists, strings and numbers; docs/audit.md describes the
    keys.
    """

    document: AuditDocument

    @property
    def findings(self) -> list[FindingEntry]:
        """All findings, worst first per model."""
        return [finding for entry in self.document["models"] for finding in entry["findings"]]

    def __iter__(self) -> Iterator[FindingEntry]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def to_text(self, *, width: int = 100, color: bool = False) -> str:
        """Text of at most `width` columns."""
        from onnxscope.render.audit import text

        return text(self.document, width=width, color=color)

    def to_markdown(self) -> str:
        """Markdown tables, for a pull request."""
        from onnxscope.render.markdown_audit import markdown

        return markdown(self.document)

    def to_json(self) -> str:
        """The document as JSON text; docs/audit.schema.json is its schema."""
        from onnxscope.render.json_audit import json

        return json(self.document)

    def to_sarif(self) -> str:
        """The findings as SARIF 2.1.0."""
        from onnxscope import __version__
        from onnxscope.documents.rules import rules
        from onnxscope.render.sarif import sarif

        return sarif(self.document, {rule["code"]: rule for rule in rules()["rules"]}, __version__)

    def __repr__(self) -> str:
        from onnxscope.render.audit import told

        return f"<Audit {'; '.join(map(told, self.document['models']))}>"


@dataclass(frozen=True, slots=True)
class Difference(_ShownAsMarkdown):
    """What differs between two models; true where anything does, names of inner nodes and values apart."""

    document: DiffDocument

    def __bool__(self) -> bool:
        return not self.document["equal"]

    def to_text(self, *, width: int = 100, color: bool = False) -> str:
        """Text of at most `width` columns."""
        from onnxscope.render.diff import text

        return text(self.document, width=width, color=color)

    def to_markdown(self) -> str:
        """Markdown tables, for a review."""
        from onnxscope.render.diff import markdown

        return markdown(self.document)

    def __repr__(self) -> str:
        from onnxscope.render.diff import verdict

        return f"<Difference {verdict(self.document)}>"
