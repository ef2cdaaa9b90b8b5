"""The commands of `onnxscope`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

import click

from onnxscope import __version__
from onnxscope.cli.options import general

COMMANDS = {
    "audit": "auditing",
    "convert": "converting",
    "diff": "diffing",
    "providers": "verifying",
    "report": "reporting",
    "rules": "ruling",
    "verify": "verifying",
}
"""Name -> module that holds it, imported when it is asked for."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        return cast("click.Command", getattr(import_module(f"onnxscope.cli.{module}"), cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with a word on what may have been meant."""
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = "".join(f" (did you mean {name}?)" for name in get_close_matches(args[0], COMMANDS, 1))
            ctx.fail(f"no command {args[0]!r}{near}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True
)
@click.version_option(__version__, message="onnxscope %(version)s")
@general
@click.pass_context
def app(ctx: click.Context) -> None:
    """Look into ONNX models: every shape, parameter and MAC, with the formula that gave it."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
