"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Settings:
    """What the general options say; one object per run, found as `ctx.obj`."""

    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    debug: bool = False
    held: list[object] = field(default_factory=list)
    """What the run has made and nobody asks for again: kept to its end, since freeing it takes time."""

    def note(self, text: str) -> None:
        """A remark on standard error, unless the user wants none."""
        if not self.quiet:
            click.echo(f"onnxscope: {text}", err=True)

    def detail(self, text: str) -> None:
        """A remark on standard error for `--verbose`."""
        if self.verbose:
            click.echo(f"onnxscope: {text}", err=True)


def _keep(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    settings = ctx.ensure_object(Settings)
    if value and param.name:
        setattr(settings, param.name, True)


_GENERAL = (
    (("-q", "--quiet"), "No remarks, errors only."),
    (("-v", "--verbose"), "Say on standard error what is done and how long it takes."),
    (("--no-color",), "No colors (so does the variable NO_COLOR)."),
    (("--debug",), "Show the traceback of an error."),
)


def general(command: Command) -> Command:
    """Add the general options; they may stand before or behind the command's name."""
    for names, text in reversed(_GENERAL):
        option = click.option(*names, is_flag=True, expose_value=False, callback=_keep, help=text)
        command = option(command)
    return command


def bindings(command: Command) -> Command:
    """Add `--shape` and `--dim`."""
    dim = click.option(
        "--dim",
        "dims",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_dims,
        help="Give a free size of the model a number.",
    )
    shape = click.option(
        "--shape",
        "shapes",
        metavar="INPUT=1,3,224,224",
        multiple=True,
        callback=_shapes,
        help="Give an input its sizes; a name in place of a number makes that axis free.",
    )
    return shape(dim(command))


def _split(text: str, form: str) -> tuple[str, str]:
    """Name and value; the last `=` divides them, so a name may hold `=` and `:`."""
    name, sign, value = text.rpartition("=")
    if not sign or not name:
        raise click.BadParameter(f"{text!r} is not of the form {form}")
    return name, value


def _shapes(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> dict[str, tuple[int | str, ...]]:
    found: dict[str, tuple[int | str, ...]] = {}
    for text in given:
        name, value = _split(text, "INPUT=1,3,224,224")
        if name in found:
            raise click.BadParameter(f"input {name!r} is given twice")
        found[name] = tuple(_size(part.strip(), text) for part in value.split(",")) if value.strip() else ()
    return found


def _size(text: str, whole: str) -> int | str:
    if _is_number(text):
        return int(text)
    if not text:
        raise click.BadParameter(f"{whole!r} has an empty size")
    if text[0] in "+-." or text[0].isdigit():
        raise click.BadParameter(f"{text!r} in {whole!r} is neither a whole number of at least 0 nor a name")
    return text


def _is_number(text: str) -> bool:
    """Whether the text is a whole number of a length that `int` reads; later ones check what it may be."""
    return text.isascii() and text.isdigit() and len(text) < 100


def _dims(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in given:
        name, value = _split(text, "NAME=VALUE")
        if name in found:
            raise click.BadParameter(f"size {name!r} is given twice")
        if not _is_number(value.strip()):
            raise click.BadParameter(f"{value!r} in {text!r} is not a whole number of at least 0")
        found[name] = int(value)
    return found


def file_argument(name: str) -> Callable[[Command], Command]:
    """An argument that names a model file; standard input won't do, as a runtime has to open the file."""
    return click.argument(name, type=click.Path(), callback=_no_stdin)


def _no_stdin(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value == "-":
        raise click.BadParameter("standard input can't be used here; give a file")
    return value


def extent(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """`224x224` as numbers; one for audio, three for video."""
    return None if value is None else _extent(value)


def extents(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[int, ...], ...]:
    """Sizes `HxW`, each of two numbers."""
    found = tuple(map(_extent, values))
    for text, sizes in zip(values, found, strict=True):
        if len(sizes) != 2:
            raise click.BadParameter(f"{text!r} is not of the form HxW")
    return found


def _extent(text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise click.BadParameter(f"{text!r} is not of the form HxW")
    return tuple(map(int, parts))
