"""The commands of `onnxscope`."""

from __future__ import annotations

import click

from onnxscope import __version__
from onnxscope.cli.auditing import audit
from onnxscope.cli.converting import convert
from onnxscope.cli.diffing import diff
from onnxscope.cli.options import general
from onnxscope.cli.reporting import report
from onnxscope.cli.ruling import rules
from onnxscope.cli.verifying import providers, verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, message="onnxscope %(version)s")
@general
@click.pass_context
def app(ctx: click.Context) -> None:
    """Look into ONNX models: every shape, parameter and MAC, with the formula that gave it."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


app.add_command(report)
app.add_command(convert)
app.add_command(verify)
app.add_command(providers)
app.add_command(audit)
app.add_command(rules)
app.add_command(diff)
