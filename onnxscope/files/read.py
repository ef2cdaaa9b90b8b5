"""From a path, standard input or bytes to a `Model`."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from onnxscope.errors import FileError
from onnxscope.files import textual
from onnxscope.files.decode import Decoder
from onnxscope.files.foreign import foreign
from onnxscope.files.source import Source
from onnxscope.files.wire import WireError
from onnxscope.graph import Model

_HEAD = 512


def load(path: str | os.PathLike[str], *, stdin: BinaryIO | None = None) -> Model:
    """The model in a file; "-" is standard input (`stdin`, or the process's own).

    Weights stay in the file until a tensor's `view`, `items` or `array` is asked for. Textual models are read
    too: by the ending of their name (`textual.FORMATS`), or because they begin as one.
    Raises FileError with one line: no such file, a directory, empty, truncated (with the byte), not ONNX.
    """
    name = os.fspath(path)
    return _model(Source.standard_input(stdin) if name == "-" else Source.open(name))


def loads(data: bytes, name: str = "") -> Model:
    """The model in `data`; `name` is for messages. Raises FileError where it is no ONNX model."""
    if not data:
        raise FileError("no bytes at all", where=name)
    return _model(Source(data, name))


def _model(source: Source) -> Model:
    text_format = textual.format_of(source)
    if text_format is None:
        return _decode(source)
    model = _decode(textual.binary(source, text_format))
    return replace(model, file_bytes=source.size)


def _decode(source: Source) -> Model:
    decoder = Decoder(source)
    try:
        with _without_collector():
            model, whole = decoder.model()
    except WireError as error:
        raise _unreadable(source, error) from None
    if not whole or not (model.ir_version or model.opsets or model.graph.nodes):
        found = foreign(source.data[:_HEAD])
        raise FileError(f"this is {found}, not an ONNX model" if found else _NO_GRAPH, where=source.label)
    return replace(model, oddities=tuple(decoder.oddities))


_NO_GRAPH = "this is no ONNX model, or one that is cut off early: it holds no graph"


def _unreadable(source: Source, error: WireError) -> FileError:
    """What to say about bytes that can't be read: another kind of file, a cut one, or a damaged one."""
    head = source.data[:_HEAD]
    found = foreign(head)
    where = f"{source.label}, {error.where}"
    if found:
        return FileError(f"this is {found}, not an ONNX model", where=source.label)
    if head[:1] != b"\x08":  # every exporter writes the IR version first
        return FileError(f"this is not an ONNX model, or a damaged one: {error.message}", where=where)
    if error.cut:
        return FileError(
            f"the file is truncated: {error.message}", where=where, help="export or download it again"
        )
    return FileError(
        f"the file is damaged, or no ONNX model: {error.message}",
        where=where,
        help="export or download it again",
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Tens of thousands of values are made at once and all stay: looking for garbage among them is waste."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
