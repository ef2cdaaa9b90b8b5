"""A line on a terminal that says what is going on and for how long; nothing anywhere else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

_EVERY = 0.5
"""Seconds between two updates; a shorter job shows nothing."""


@contextmanager
def working(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show `text` and the seconds while the block runs, on a terminal's standard error; then take it away."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(text, done), daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()


def _tick(text: str, done: threading.Event) -> None:
    started = monotonic()
    shown = False
    while not done.wait(_EVERY):
        sys.stderr.write(f"\r\x1b[K{text} {monotonic() - started:.0f} s")
        sys.stderr.flush()
        shown = True
    if shown:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
