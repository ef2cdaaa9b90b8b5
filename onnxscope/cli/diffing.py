"""`onnxscope diff`."""

from __future__ import annotations

import click

from onnxscope.cli.options import Settings, general

FORMATS = ("text", "markdown", "json")


@click.command(name="diff", short_help="What differs between two models.")
@click.argument("old", type=click.Path(allow_dash=True))
@click.argument("new", type=click.Path(allow_dash=True))
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Form.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where the models differ.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(allow_dash=True), help="Write to FILE.")
@general
@click.pass_context
def diff(ctx: click.Context, /, old: str, new: str, form: str, exit_code: bool, output: str | None) -> None:
    """What differs between the models OLD and NEW: interface, nodes, weights, shapes, totals and findings.

    Nodes are paired by structure and by weights, so that renamed or renumbered ones stay the same.

    \N{BACKSPACE}
    onnxscope diff old.onnx new.onnx
    onnxscope diff old.onnx new.onnx --format markdown -o review.md
    onnxscope diff old.onnx new.onnx --exit-code
    """
    from onnxscope.cli.output import color, deliver, width
    from onnxscope.cli.progress import working
    from onnxscope.documents.diff import diff as document
    from onnxscope.files.read import load

    settings: Settings = ctx.obj
    with working(f"comparing {old} and {new}", quiet=settings.quiet):
        found = document(load(old), load(new))
    if form == "json":
        from onnxscope.render.json import json

        shown = json(found)
    else:
        from onnxscope.render import diff as render

        to_file = output not in (None, "-")
        shown = (
            render.markdown(found)
            if form == "markdown"
            else render.text(found, width=width(to_file), color=color(to_file, settings.no_color))
        )
    deliver(shown, output, new)
    if exit_code and not found["equal"]:
        ctx.exit(1)
