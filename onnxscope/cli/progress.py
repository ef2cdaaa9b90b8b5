"""A line on a terminal that says what is going on and for how long; nothing anywhere else."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

_EVERY = 0.5
"""Seconds between two updates; a shorter job shows nothing."""


class _Line:
    """What stands on the line; `say` changes the part behind the colon."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.part = ""
        self.done = threading.Event()

    def say(self, part: str) -> None:
        self.part = part

    def tick(self) -> None:
        from onnxscope.render.table import middle
        from onnxscope.render.words import clean

        started = monotonic()
        shown = False
        while not self.done.wait(_EVERY):
            text = f"{self.text}: {self.part}" if self.part else self.text
            room = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 8
            sys.stderr.write(
                f"\r\x1b[K{middle(clean(text), max(room, 8), 0.4)} {monotonic() - started:.0f} s"
            )
            sys.stderr.flush()
            shown = True
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def working(text: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Show `text` and the seconds while the block runs, on a terminal's standard error; then take it away.

    The block gets a function to say what it is doing just now.
    """
    line = _Line(text)
    if quiet or not sys.stderr.isatty():
        yield line.say
        return
    ticker = threading.Thread(target=line.tick, daemon=True)
    ticker.start()
    try:
        yield line.say
    finally:
        line.done.set()
        ticker.join()
