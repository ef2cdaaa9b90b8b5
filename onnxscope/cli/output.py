"""Where results go: standard output, or a file that appears whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress

import click

from onnxscope.errors import UsageError

BROKEN_PIPE = 141
"""Exit code when the reader of a pipe is gone: 128 + SIGPIPE, as other tools end."""
WIDTH = 100
"""Columns of text that goes to a pipe or file, where COLUMNS isn't set."""


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def width(to_file: bool) -> int:
    """Columns for text: COLUMNS where it is set, the terminal's, else a fixed number, for stable text."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns):
        return int(columns)
    if not to_file and on_terminal():
        with suppress(OSError, ValueError):
            return os.get_terminal_size(sys.stdout.fileno()).columns or WIDTH
    return WIDTH


def color(to_file: bool, no_color: bool) -> bool:
    """Whether to use colors: on a terminal that can, unless the user wants none (https://no-color.org)."""
    wanted = not no_color and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and not to_file and on_terminal()


def deliver(text: str, path: str | None, source: str) -> None:
    """Write a result to `path`, or to standard output for None and "-"; `source` is the model it is about.

    Raises UsageError where the file can't be written, or is the model itself.
    """
    if path is None or path == "-":
        _to_stdout(text)
        return
    target = os.path.realpath(path)
    try:
        if source != "-" and os.path.exists(target) and os.path.samefile(target, source):
            raise UsageError("the output would replace the model", where=path, help="give -o another name")
        if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            with open(
                target, "w", encoding="utf-8", newline=""
            ) as file:  # a pipe or device: nothing to replace
                file.write(text)
        else:
            _replace(target, text)
    except OSError as error:
        raise UsageError(
            f"can't be written: {error.strerror}", where=path, help="give -o another name"
        ) from error


def _replace(target: str, text: str) -> None:
    """Write beside the target, then rename: a reader sees the old file or the whole new one."""
    folder, name = os.path.split(target)
    part = os.path.join(folder, f".{name[:100]}.{os.getpid()}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        if os.path.exists(target):
            os.chmod(part, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _to_stdout(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit; that must not find the broken pipe again.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(BROKEN_PIPE) from None
