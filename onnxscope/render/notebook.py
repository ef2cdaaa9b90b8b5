"""A report as an HTML fragment for notebooks: self-contained, no scripts, every name escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from onnxscope.documents.schema import ReportDocument
from onnxscope.documents.verdict import percent, verdict
from onnxscope.render import words
from onnxscope.render.words import clean, number

_TABLE = '<table style="font-variant-numeric: tabular-nums">'


def notebook(document: ReportDocument) -> str:
    """Table of layers with totals, the FC verdict and the problems."""
    parts = (_title(document), _layers(document), _verdict(document), _problems(document))
    return f"<div>{''.join(piece for part in parts for piece in part)}</div>"


def _text(value: str) -> str:
    return escape(clean(value))


def _row(cells: Iterable[str], tag: str = "td", *, right: int = 0) -> str:
    """A row of escaped cells; the last `right` of them hold numbers."""
    row = list(cells)
    first = len(row) - right
    styled = (
        f'<{tag} style="text-align: {"left" if place < first else "right"}">{cell}</{tag}>'
        for place, cell in enumerate(row)
    )
    return f"<tr>{''.join(styled)}</tr>"


def _title(document: ReportDocument) -> Iterator[str]:
    model = document["model"]
    size = words.size_in_bytes(model["bytes"])
    yield f"<p><b>{_text(model['path'] or 'model')}</b>, {size}, {number(model['nodes'])} nodes, "
    yield f"opset {escape(words.opsets(model['opsets']))}</p>"


def _layers(document: ReportDocument) -> Iterator[str]:
    totals = document["totals"]
    sums = (number(totals["trainable_params"]), escape(number(totals["macs"])))
    if "groups" in document:
        yield from _groups(document, sums)
        return
    yield _TABLE
    yield _row(("layer", "op", "output", "window", "params", "MACs"), "th", right=2)
    for layer in document["layers"]:
        names = (_text(layer["name"]), _text(layer["op"]), escape(words.shape(layer["output_shape"])))
        numbers = (words.count(layer["params"]["total"]), escape(words.count(layer["macs"])))
        yield _row((*names, escape(words.window(layer)), *numbers), right=2)
    yield _row(("total", "", "", "", *sums), "th", right=2)
    yield f"</table>{_cut(document)}"


def _groups(document: ReportDocument, sums: tuple[str, str]) -> Iterator[str]:
    yield _TABLE
    yield _row(("layer", "output", "layers", "params", "MACs"), "th", right=3)
    for group in document["groups"]:
        names = (_text(group["name"]), escape(words.shape(group["output_shape"])))
        numbers = (words.count(group["params"]), escape(words.count(group["macs"])))
        yield _row((*names, number(group["layers"]), *numbers), right=3)
    yield _row(("total", "", "", *sums), "th", right=3)
    yield f"</table>{_cut(document)}"


def _cut(document: ReportDocument) -> str:
    """How many rows `top` left, where it left some out."""
    view = document.get("view")
    if view is None or view["rows"] == view["of"]:
        return ""
    return f"<p>{view['rows']} of {view['of']} rows shown; the totals are those of the whole model.</p>"


def _verdict(document: ReportDocument) -> Iterator[str]:
    yield f"<p>{escape(verdict(document))}.</p>"
    if not document["fully_connected"]:
        return
    yield _TABLE
    for layer in document["fully_connected"]:
        share = "?" if layer["share_of_params"] is None else percent(layer["share_of_params"])
        what = layer["becomes"] if layer["replaceable"] else f"no: {layer['reason']}"
        yield _row((_text(layer["layer"]), share, _text(what or "")))
    yield "</table>"


def _problems(document: ReportDocument) -> Iterator[str]:
    if document["problems"]:
        rows = (f"<li>{_text(p['where'])}: {_text(p['message'])}</li>" for p in document["problems"])
        yield f"<p>Problems</p><ul>{''.join(rows)}</ul>"
