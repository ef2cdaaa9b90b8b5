"""`onnxscope rules`."""

from __future__ import annotations

import click

from onnxscope.cli.options import Settings, general

FORMATS = ("text", "markdown", "json")


@click.command(name="rules", short_help="The rules of the audit; one rule's page.")
@click.argument("code", required=False)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Form.")
@general
@click.pass_obj
def rules(settings: Settings, code: str | None, form: str) -> None:
    """The rules that `onnxscope audit` runs, or the page of the one with this CODE or name.

    \N{BACKSPACE}
    onnxscope rules
    onnxscope rules OX301
    onnxscope rules OX3          every rule whose code begins so
    """
    from onnxscope.checks.registry import chosen
    from onnxscope.cli.output import color, deliver, width
    from onnxscope.documents.rules import rules as document

    found = document(chosen(code)) if code else document()
    if form == "json":
        from onnxscope.render.json import json

        deliver(json(found), None, "-")
        return
    from onnxscope.render import rules as render

    if form == "markdown":
        deliver(render.markdown(found), None, "-")
    else:
        text = render.text(found, width=width(False), color=color(False, settings.no_color))
        deliver(text, None, "-")
