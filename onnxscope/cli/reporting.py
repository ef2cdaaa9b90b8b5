"""`onnxscope report`."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from onnxscope.cli.options import Settings, bindings, general

if TYPE_CHECKING:
    from onnxscope.documents import ReportDocument

FORMATS = ("text", "markdown", "json", "csv")
SORT_KEYS = ("order", "name", "op", "kind", "params", "macs", "bytes")
"""Those of `documents.SORT_KEYS`, which would take too long to import for `--help`."""
_ENDINGS = {".md": "markdown", ".json": "json", ".csv": "csv"}


@click.command(name="report", short_help="Shapes, parameters and MACs of a model.")
@click.argument("model", type=click.Path(allow_dash=True))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Form of the report.  [default: by the ending of FILE, else text]",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(allow_dash=True), help="Write to FILE.")
@bindings
@click.option("--explain", is_flag=True, help="Show how every size, parameter and MAC count is worked out.")
@click.option("--all-ops", is_flag=True, help="List every node, not only the layers that count.")
@click.option(
    "--depth", type=click.IntRange(min=1), metavar="N", help="Group by the first N components of the names."
)
@click.option(
    "--sort", type=click.Choice(SORT_KEYS), default="order", show_default=True, help="Order of the rows."
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show only the first N rows.")
@general
@click.pass_obj
def report(
    settings: Settings,
    model: str,
    form: str | None,
    output: str | None,
    shapes: dict[str, tuple[int | str, ...]],
    dims: dict[str, int],
    explain: bool,
    all_ops: bool,
    depth: int | None,
    sort: str,
    top: int | None,
) -> None:
    """Shapes, parameters, multiply-accumulates (MACs) and memory of MODEL, layer by layer.

    MODEL is an ONNX file, or - for standard input. Sizes that the file leaves free stay symbols unless
    --shape or --dim gives them a number.

    \N{BACKSPACE}
    onnxscope report model.onnx
    onnxscope report model.onnx --dim batch=1 --explain
    onnxscope report model.onnx --shape input=N,3,H,W      map sizes as formulas of H and W
    onnxscope report model.onnx --format json -o report.json
    """
    form = form or _ENDINGS.get(os.path.splitext(output or "")[1].lower(), "text")
    choice = {"all_ops": all_ops, "depth": depth, "sort": sort, "top": top}
    with _undisturbed():
        document = _document(settings, model, shapes, dims, choice, formulas=explain or form == "json")
        _deliver(document, form, output, explain, settings)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without the garbage collector: a short run keeps what it makes, and looking for garbage takes time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # nor looks it there on the way out
        if enabled:
            gc.enable()


def _document(
    settings: Settings,
    model: str,
    shapes: dict[str, tuple[int | str, ...]],
    dims: dict[str, int],
    choice: dict[str, Any],
    *,
    formulas: bool,
) -> ReportDocument:
    from onnxscope import documents
    from onnxscope.files.read import load

    started = perf_counter()
    loaded = load(model)
    read = perf_counter()
    settings.detail(f"opened a model of {loaded.file_bytes:,} bytes in {read - started:.3f} s")
    selection = documents.Selection(**choice)
    selection.check()
    found = documents.analyse(loaded, shapes, dims)
    document = documents.document(found, selection, formulas=formulas)
    settings.held += [found, document]
    settings.detail(f"analysed {document['model']['nodes']:,} nodes in {perf_counter() - read:.3f} s")
    return document


def _deliver(
    document: ReportDocument, form: str, output: str | None, explain: bool, settings: Settings
) -> None:
    from onnxscope.cli.output import deliver

    to_file = output not in (None, "-")
    deliver(_rendered(document, form, to_file, explain, settings), output, document["model"]["path"])
    count = len(document["problems"])
    if form == "csv" and count:
        settings.note(
            f"{count} problem{'s' if count > 1 else ''} that a CSV can't hold; --format json lists them"
        )


def _rendered(document: ReportDocument, form: str, to_file: bool, explain: bool, settings: Settings) -> str:
    if form == "json":
        from onnxscope.render.json import json

        return json(document)
    if form == "markdown":
        from onnxscope.render.markdown import markdown

        return markdown(document, explain=explain)
    if form == "csv":
        from onnxscope.render.csv import csv

        return csv(document, explain=explain)
    from onnxscope.cli.output import color, width
    from onnxscope.render.text import text

    return text(document, width=width(to_file), color=color(to_file, settings.no_color), explain=explain)
