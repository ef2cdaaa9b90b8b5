"""From a path, standard input or bytes to a `Model`."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from onnxscope.errors import FileError
from onnxscope.files.decode import Decoder
from onnxscope.files.source import Source
from onnxscope.files.wire import WireError
from onnxscope.graph import Model


def load(path: str | os.PathLike[str], *, stdin: BinaryIO | None = None) -> Model:
    """The model in a file; "-" is standard input (`stdin`, or the process's own).

    Weights stay in the file until a tensor's `view`, `items` or `array` is asked for.
    Raises FileError with one line: no such file, a directory, empty, truncated, not ONNX.
    """
    name = os.fspath(path)
    if name == "-":
        return _decode(Source(_standard_input(stdin), "-"))
    return _decode(Source.open(name))


def loads(data: bytes, name: str = "") -> Model:
    """The model in `data`; `name` is for messages. Raises FileError where it is no ONNX model."""
    return _decode(Source(data, name))


def _standard_input(stdin: BinaryIO | None) -> bytes:
    import sys

    return (stdin or sys.stdin.buffer).read()


def _decode(source: Source) -> Model:
    decoder = Decoder(source)
    try:
        with _without_collector():
            model, whole = decoder.model()
    except WireError as error:
        raise FileError(error.message, where=f"{source.name or 'model'}, {error.where}") from None
    if not whole:
        raise FileError("this is not an ONNX model: it holds no graph", where=source.name)
    return replace(model, oddities=tuple(decoder.oddities))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Tens of thousands of values are made at once and all stay: looking for garbage among them costs a third more."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
