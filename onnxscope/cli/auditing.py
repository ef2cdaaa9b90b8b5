"""`onnxscope audit`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from onnxscope.cli.options import Settings, general
from onnxscope.errors import FileError, UsageError

if TYPE_CHECKING:
    from onnxscope.config import Config
    from onnxscope.documents.audit import AuditDocument, Task

FORMATS = ("text", "markdown", "json", "sarif", "github")
THRESHOLDS = ("error", "warning", "note", "never")
_ENDINGS = {".md": "markdown", ".json": "json", ".sarif": "sarif"}


@click.command(name="audit", short_help="What must be known about a model before it ships.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option(
    "--fail-on",
    type=click.Choice(THRESHOLDS),
    help="Exit with 1 where a finding is at least this bad.  [default: error]",
)
@click.option("--select", metavar="CODES", multiple=True, help="Only these rules: codes, prefixes or names.")
@click.option("--ignore", metavar="CODES", multiple=True, help="Not these rules.")
@click.option(
    "--target", "targets", metavar="P", multiple=True, help="Also audit for this deployment target."
)
@click.option(
    "--config", metavar="FILE", type=click.Path(), help="Configuration; else the nearest one counts."
)
@click.option(
    "--baseline", metavar="FILE", type=click.Path(), help="Only findings that this audit (JSON) lacks count."
)
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes that share the models.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Form of the findings.  [default: by the ending of FILE, else text]",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(allow_dash=True), help="Write to FILE.")
@click.option(
    "--also",
    metavar="FILE",
    type=click.Path(),
    multiple=True,
    help="Write FILE too, in the form of its ending: .md, .json or .sarif.",
)
@general
@click.pass_context
def audit(
    ctx: click.Context,
    /,
    models: tuple[str, ...],
    fail_on: str | None,
    form: str | None,
    output: str | None,
    also: tuple[str, ...],
    jobs: int | None,
    **given: Any,
) -> None:
    """Look for what goes wrong once MODELs are deployed; a folder stands for every model in it.

    Exit codes: 0 nothing as bad as --fail-on, 1 a finding that is, 3 a model could not be read. Settings come
    from [tool.onnxscope.audit] in pyproject.toml or [audit] in onnxscope.toml; options go before them.

    \N{BACKSPACE}
    onnxscope audit model.onnx
    onnxscope audit models/ --fail-on warning --jobs 4
    onnxscope audit model.onnx --select OX3,batch-baked-in
    onnxscope audit models/ --format json -o known.json
    onnxscope audit models/ --baseline known.json         only what is new counts
    onnxscope rules OX301                                 what a rule means
    """
    from onnxscope.cli.output import deliver
    from onnxscope.config import read

    settings: Settings = ctx.obj
    form = form or _ENDINGS.get(_ending(output), "text")
    config = read(given["config"])
    paths = _paths(models)
    _protect(paths, output, *also)
    outputs = [(output, form), *((path, _ENDINGS.get(_ending(path), "text")) for path in also)]
    document = _document(_tasks(paths, config, given), jobs or config.jobs or _jobs(len(paths)), settings)
    for path, kind in outputs:
        deliver(_rendered(document, kind, path not in (None, "-"), settings), path, "-")
    _end(ctx, document, fail_on or config.fail_on or "error")


def _ending(path: str | None) -> str:
    return os.path.splitext(path or "")[1].lower()


def _jobs(models: int) -> int:
    """Processes: worth their start where each has a few models."""
    return max(1, min(os.cpu_count() or 1, models // 4))


def _paths(models: tuple[str, ...]) -> list[str]:
    """The files; each once, those of a folder in its place."""
    from onnxscope.documents.audit import files_in

    found: list[str] = []
    for model in models:
        inside = files_in(model) if model != "-" and os.path.isdir(model) else [model]
        if not inside:
            raise UsageError("there is no .onnx file in this folder", where=model)
        found += inside
    return list(dict.fromkeys(found))


def _tasks(paths: list[str], config: Config, given: dict[str, Any]) -> list[Task]:
    from onnxscope.checks.registry import chosen
    from onnxscope.checks.settings import Settings as Choice
    from onnxscope.config import target_names
    from onnxscope.documents.audit import Task
    from onnxscope.documents.baseline import read as read_baseline

    base = Choice(
        select=_codes(given["select"]),
        ignore=_codes(given["ignore"]),
        targets=target_names(_codes(given["targets"])),
    )
    for code in (*base.select, *base.ignore):
        chosen(code)
    known = read_baseline(given["baseline"] or config.baseline)
    return [Task(path, config.settings(path, base), known.of(path) if known else None) for path in paths]


def _codes(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code for text in given for code in text.replace(",", " ").split())


def _document(tasks: list[Task], jobs: int, settings: Settings) -> AuditDocument:
    from onnxscope.cli.progress import working
    from onnxscope.documents import audit as documents

    done = 0
    what = tasks[0].path if len(tasks) == 1 else f"{len(tasks)} models"
    with working(f"auditing {what}", quiet=settings.quiet) as say:

        def count(entry: documents.ModelFindings) -> None:
            nonlocal done
            done += 1
            say(f"{done} done")

        return documents.audit(documents.run(tasks, jobs, count))


def _protect(paths: list[str], *outputs: str | None) -> None:
    """Refuse to write over a model."""
    for output in outputs:
        if output is None or not os.path.exists(output):
            continue
        for path in paths:
            if path != "-" and os.path.exists(path) and os.path.samefile(output, path):
                raise UsageError("the output would replace a model", where=path, help="give -o another name")


def _rendered(document: AuditDocument, form: str, to_file: bool, settings: Settings) -> str:
    if form == "json":
        from onnxscope.render.json_audit import json

        return json(document)
    if form == "markdown":
        from onnxscope.render.markdown_audit import markdown

        return markdown(document)
    if form == "github":
        from onnxscope.render.github import github

        return github(document)
    if form == "sarif":
        from onnxscope import __version__
        from onnxscope.documents.rules import rules
        from onnxscope.render.sarif import sarif

        return sarif(document, {rule["code"]: rule for rule in rules()["rules"]}, __version__)
    from onnxscope.cli.output import color, width
    from onnxscope.render.audit import text

    return text(document, width=width(to_file), color=color(to_file, settings.no_color))


def _end(ctx: click.Context, document: AuditDocument, threshold: str) -> None:
    """Leave with 1 or 3 where the findings ask for it."""
    from onnxscope.documents.audit import unreadable, worst_reaches

    if worst_reaches(document, threshold):
        ctx.exit(1)
    broken = [entry for entry in document["models"] if unreadable(entry)]
    if broken:
        first = next(finding for finding in broken[0]["findings"] if finding["code"] == "OX002")
        more = f" (and {len(broken) - 1} more that can't be read)" if len(broken) > 1 else ""
        raise FileError(f"{first['message']}{more}", where=broken[0]["path"], help=first["help"])
