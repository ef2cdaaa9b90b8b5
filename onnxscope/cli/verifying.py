"""`onnxscope verify` and `onnxscope providers`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from onnxscope.cli.options import Settings, bindings, extents, file_argument, general
from onnxscope.errors import UsageError

if TYPE_CHECKING:
    from onnxscope.results import Proof

FORMATS = ("text", "markdown", "json")
_ENDINGS = {".md": "markdown", ".json": "json"}


@click.command(name="verify", short_help="Are two models equivalent? Run both and compare.")
@file_argument("original")
@file_argument("candidate")
@click.option(
    "--provider",
    metavar="P",
    multiple=True,
    default=("cpu",),
    show_default=True,
    help="Run on P: cpu, cuda:device_id=0, cpu/cuda (original on one, candidate on the other) or all.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    metavar="N",
    default=3,
    show_default=True,
    help="Draws per family.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), metavar="N", default=0, show_default=True, help="Seed of the draws."
)
@click.option(
    "--inputs",
    metavar="FILE.npz|DIR",
    type=click.Path(),
    help="Use these inputs: .npz, .npy, images, a folder.",
)
@bindings
@click.option(
    "--rtol", type=click.FloatRange(min=0), metavar="X", help="Relative tolerance, for computed limits."
)
@click.option("--atol", type=click.FloatRange(min=0), metavar="X", help="Absolute tolerance, likewise.")
@click.option("--layers", is_flag=True, help="Compare every intermediate value that both models have.")
@click.option(
    "--dense",
    metavar="HxW",
    multiple=True,
    callback=extents,
    help="Compare the head on every window of an input of this size; time it.",
)
@click.option("--latency", is_flag=True, help="Time both models, at several batch sizes.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up on a slow runtime.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Form of the answer.  [default: by the ending of FILE, else text]",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(allow_dash=True), help="Write to FILE.")
@general
@click.pass_obj
def verify(
    settings: Settings,
    /,
    original: str,
    candidate: str,
    provider: tuple[str, ...],
    form: str | None,
    output: str | None,
    **given: Any,
) -> int:
    """Run ORIGINAL and CANDIDATE on the same inputs and say whether they are equivalent.

    Exit code 0: equivalent. 1: not. 4: the runtime can't do it, or silently used another provider. Limits
    are computed from the arithmetic of the models, and every number comes from a seed.

    \N{BACKSPACE}
    onnxscope verify model.onnx fcn.onnx
    onnxscope verify model.onnx fcn.onnx --layers --dense 384x384
    onnxscope verify model.onnx model.onnx --provider cpu/cuda --format markdown
    """
    form = form or _ENDINGS.get(os.path.splitext(output or "")[1].lower(), "text")
    for path in (original, candidate):
        if output not in (None, "-") and os.path.exists(str(output)) and os.path.exists(path):
            _not_the_model(str(output), path)
    from onnxscope import api
    from onnxscope.cli.output import deliver
    from onnxscope.cli.progress import working

    with working(f"verifying {candidate}", quiet=settings.quiet) as say:
        proof = api.verify(original, candidate, provider=provider, progress=say, **given)
    to_file = output not in (None, "-")
    deliver(_rendered(proof, form, to_file, settings), output, candidate)
    return 0 if proof.equivalent else 1


def _not_the_model(output: str, path: str) -> None:
    if os.path.samefile(output, path):
        raise UsageError("the output would replace a model", where=output, help="give -o another name")


def _rendered(proof: Proof, form: str, to_file: bool, settings: Settings) -> str:
    if form == "json":
        return proof.to_json()
    if form == "markdown":
        return proof.to_markdown()
    from onnxscope.cli.output import color, width

    return proof.to_text(width=width(to_file), color=color(to_file, settings.no_color))


@click.command(name="providers", short_help="What this onnxruntime can run on.")
@click.option(
    "--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True, help="Form."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=60.0,
    show_default=True,
    help="Give up on a provider that hangs.",
)
@general
@click.pass_obj
def providers(settings: Settings, /, form: str, timeout: float) -> None:
    """List the execution providers of the installed onnxruntime, and which of them really work.

    Each one is tried with a tiny model in a process of its own.
    """
    from onnxscope import runtime
    from onnxscope.cli.output import color, deliver, width
    from onnxscope.cli.progress import working
    from onnxscope.documents.providers import providers as documented
    from onnxscope.packages import packages

    with working("trying each provider", quiet=settings.quiet):
        document = documented(runtime.version(), packages(), runtime.providers(timeout))
    if form == "json":
        from onnxscope.render.json import json

        shown = json(document)
    else:
        from onnxscope.render.providers import text

        shown = text(document, width=width(False), color=color(False, settings.no_color))
    deliver(shown, None, "-")
