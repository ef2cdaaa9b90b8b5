"""`onnxscope convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from onnxscope.cli.options import Settings, bindings, extent, file_argument, general
from onnxscope.errors import ConversionFailed, UsageError

if TYPE_CHECKING:
    from onnxscope.results import Plan

FORMATS = ("text", "json")


@click.command(name="convert", short_help="Turn fully connected layers into convolutions.")
@file_argument("model")
@click.option("-o", "out", metavar="OUT", type=click.Path(), help="The file to write.")
@click.option(
    "--output",
    type=click.Choice(("map", "vector")),
    default="map",
    show_default=True,
    help="map: outputs become [N, classes, H', W']; vector: inputs and outputs stay as they are.",
)
@click.option(
    "--size",
    type=click.Choice(("dynamic", "fixed")),
    help="dynamic: any input from the native size up; fixed: sizes stay.  [default: dynamic; fixed with"
    " --output vector]",
)
@click.option(
    "--native", metavar="HxW", callback=extent, help="Native input size, where the model doesn't tell."
)
@click.option(
    "--pool",
    type=click.Choice(("window", "global")),
    help="A global pool becomes a window of the native size, or stays.  [default: window; global with"
    " --output vector]",
)
@click.option(
    "--batch",
    type=click.Choice(("keep", "free")),
    default="keep",
    show_default=True,
    help="keep: a declared batch number stays; free: any batch.",
)
@click.option(
    "--form",
    type=click.Choice(("conv", "auto", "fold", "interleave", "rows")),
    default="conv",
    show_default=True,
    help="How the convolution is written; conv is the plain one.",
)
@click.option("--target", metavar="P", default="cpu", show_default=True, help="Provider that auto is for.")
@click.option(
    "--stride", type=click.IntRange(min=1), metavar="N", help="A cell every N input pixels (a denser map)."
)
@click.option("--layer", "layers", metavar="NAME", multiple=True, help="Convert only this layer.")
@click.option("--dry-run", is_flag=True, help="Show what would be converted; write nothing.")
@bindings
@click.option("--external-data", is_flag=True, help="Put weights into OUT.data.")
@click.option("--force", is_flag=True, help="Replace OUT where it exists.")
@click.option("--no-verify", is_flag=True, help="Write without comparing the result in onnxruntime.")
@click.option(
    "--provider", metavar="P", default="cpu", show_default=True, help="Where the proof runs (see providers)."
)
@click.option(
    "--format", "form_of_text", type=click.Choice(FORMATS), default="text", show_default=True, help="Form."
)
@general
@click.pass_obj
def convert(
    settings: Settings,
    /,
    model: str,
    out: str | None,
    dry_run: bool,
    external_data: bool,
    force: bool,
    no_verify: bool,
    provider: str,
    form_of_text: str,
    **given: Any,
) -> None:
    """Turn the fully connected layers of MODEL into convolutions and write the result to OUT.

    The new model takes larger inputs and answers with a map, one cell per window. It is compared with MODEL
    in onnxruntime before it gets its name; where that fails no file appears and OUT.proof.json says why.

    \N{BACKSPACE}
    onnxscope convert model.onnx --dry-run
    onnxscope convert model.onnx -o fcn.onnx
    onnxscope convert model.onnx -o same.onnx --output vector      a drop-in: same inputs and outputs
    """
    if out is None and not dry_run:
        raise UsageError("no output file", help="give -o OUT, or --dry-run to see the plan")
    options = {key: value for key, value in given.items() if value is not None}
    from onnxscope import api
    from onnxscope.cli.progress import working
    from onnxscope.results import Plan

    try:
        with working(f"converting {model}", quiet=settings.quiet) as say:
            if out is None or dry_run:
                from onnxscope.runtime import parse_pair

                parse_pair(provider)  # a dry run exits as the conversion would
                found: Plan = api.plan(model, **options)
            else:
                found = api.convert(
                    model,
                    out,
                    external_data=external_data,
                    force=force,
                    verify=not no_verify,
                    provider=provider,
                    progress=say,
                    **options,
                )
    except ConversionFailed as failure:
        if isinstance(failure.conversion, Plan):
            _deliver(failure.conversion, form_of_text, settings)
        raise
    _deliver(found, form_of_text, settings)
    if not found.converted:
        raise api.nothing_converts(found)


def _deliver(found: Plan, form: str, settings: Settings) -> None:
    from onnxscope.cli.output import color, deliver, width

    if form == "json":
        shown = found.to_json()
    else:
        shown = found.to_text(width=width(False), color=color(False, settings.no_color))
    deliver(shown, None, "-")
