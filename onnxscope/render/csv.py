"""The layers of a report as CSV: one row per layer (or group), for spreadsheets and data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from csv import writer
from io import StringIO

from onnxscope.documents.schema import GroupEntry, LayerEntry, ReportDocument
from onnxscope.render.words import clean

_COLUMNS = (
    "name", "op", "kind", "scope", "input", "output", "input_shape", "output_shape", "kernel", "strides",
    "pads", "dilations", "group", "weight", "bias", "params", "shared_with", "dtype", "bytes", "macs",
    "receptive_field_size", "receptive_field_stride", "receptive_field_start",
)  # fmt: skip
_FORMULAS = ("formula_shape", "formula_params", "formula_macs")
_GROUPS = ("name", "layers", "ops", "output", "output_shape", "params", "bytes", "macs")

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that spreadsheets run."""

Cell = int | str | None
"""An empty cell is an unknown or absent value; 0 is a zero."""


def csv(document: ReportDocument, *, explain: bool = False) -> str:
    r"""Header line and rows, `\\n` between lines; lists are written as `[N, 3, 224, 224]`.

    `explain` adds the worked formulas.
    """
    out = StringIO()
    lines = writer(out, lineterminator="\n")
    if "groups" in document:
        lines.writerow(_GROUPS)
        lines.writerows(_cells(_group(group)) for group in document["groups"])
    else:
        lines.writerow(_COLUMNS + (_FORMULAS if explain else ()))
        lines.writerows(
            _cells((*_layer(layer), *(_formulas(layer) if explain else ()))) for layer in document["layers"]
        )
    return out.getvalue()


def _cells(row: Iterable[Cell]) -> list[Cell]:
    """Cells that neither a terminal nor a spreadsheet acts on; numbers stay numbers."""
    return [_harmless(cell) if isinstance(cell, str) else cell for cell in row]


def _harmless(text: str) -> str:
    """Without control characters, and with an apostrophe in front of what would be a formula.

    Source: OWASP, "CSV Injection"; a leading tab or carriage return is written as an escape by `clean`.
    """
    shown = clean(text)
    return f"'{shown}" if shown[:1] in FORMULA or text[:1] in FORMULA else shown


def _layer(layer: LayerEntry) -> Iterator[Cell]:
    params, field = layer["params"], layer["receptive_field"]
    yield from (layer["name"], layer["op"], layer["kind"], layer["scope"], layer["input"], layer["output"])
    yield from map(_list, (layer["input_shape"], layer["output_shape"]))
    yield from map(_list, (layer["kernel"], layer["strides"], layer["pads"], layer["dilations"]))
    yield from (layer["group"], params["weight"], params["bias"], params["total"])
    yield from (" ".join(params["shared_with"]), params["dtype"], params["bytes"], layer["macs"])
    if field is None:
        yield from (None, None, None)
    else:
        yield from (_list(field["size"]), _list(field["stride"]), _list(field["start"]))


def _formulas(layer: LayerEntry) -> Iterator[Cell]:
    formula = layer["formula"]
    if formula is None:
        yield from (None, None, None)
    else:
        yield from ("; ".join(formula["shape"]), formula["params"], formula["macs"])


def _group(group: GroupEntry) -> Iterator[Cell]:
    ops = ", ".join(f"{count} {op}" for op, count in group["ops"].items())
    yield from (group["name"], group["layers"], ops, group["output"], _list(group["output_shape"]))
    yield from (group["params"], group["bytes"], group["macs"])


def _list(sizes: Sequence[int | str] | None) -> str | None:
    return None if sizes is None else f"[{', '.join(map(str, sizes))}]"
