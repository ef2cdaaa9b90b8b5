"""From a `Model` to a file: streamed, and whole or not at all.

Payloads go from file to file in steps of 1 MiB, out of the mapped source, whose pages are let go behind each
step: the kernel copies them once, and nothing is held. The bytes are written under a temporary name in the
target's folder, which is then renamed onto the target: a failure, whenever it comes, leaves nothing behind
and an existing file as it was. There is no fsync, as with `cp`: after a power cut (not after a crash) a fresh
file may be incomplete.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from typing import cast

from onnxscope.errors import FileError, UsageError
from onnxscope.files.chunks import Chunk, Numbers, size_of
from onnxscope.files.encode import INLINE, Encoder, Entries, model_tensors
from onnxscope.files.external import ExternalData
from onnxscope.files.source import Source
from onnxscope.files.storage import RawData, StringData
from onnxscope.graph import Model, Span, Tensor

SINGLE_FILE_LIMIT = (1 << 31) - (1 << 20)
"""Above this many bytes a model gets an external file: protobuf reads no message of 2 GiB, and tools add."""
EXTERNAL_THRESHOLD = 1024
"""Smaller tensors stay in the model file, as in the onnx package."""
ALIGNMENT = 4096
"""Offsets in the external file are multiples of a page, so that it can be mapped (ONNX "External Data")."""
_BUFFER = 1 << 20
_POPULATE_READ = 22
"""MADV_POPULATE_READ of Linux's mman.h: all pages at once; one by one takes a third longer."""
_SMALL = 1 << 16


def save(
    model: Model, path: str | os.PathLike[str], *, external_data: bool = False, force: bool = False
) -> list[str]:
    """Write a model; returns the files written, the model first.

    With `external_data`, or where the file would pass 2 GiB, initializers of 1 kB and more go into
    `<path>.data`. External files of the source are still referred to where the target is in the same folder,
    else their bytes are taken into the new files.
    Raises UsageError where the target exists and `force` isn't given, is the source itself or can't be
    written; ExternalDataError where numbers that must move can't be read.
    """
    target = os.fspath(path)
    refuse(target, model, force)
    folder = os.path.dirname(os.path.abspath(target))
    moves = {id(tensor): INLINE for tensor, _ in model_tensors(model) if _left_behind(tensor, folder)}
    chunks = _encoded(model, moves)
    if external_data or size_of(chunks) > SINGLE_FILE_LIMIT:
        return _save_external(model, target, moves, force)
    with _whole(target) as file:
        _reserve(file, size_of(chunks))
        _write(file, chunks)
    return [target]


def save_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text file, UTF-8, replacing one of that name. Raises UsageError where it can't be written."""
    with _whole(os.fspath(path)) as file:
        _through(file, text.encode())


def dumps(model: Model) -> bytes:
    """The model as bytes, external references as they are. Raises FileError from 2 GiB on."""
    chunks = Encoder().model(model)
    if size_of(chunks) > SINGLE_FILE_LIMIT:
        raise FileError(
            "the model is too large for one message; save it with external data", where=model.path
        )
    return b"".join(bytes(part) for chunk in chunks for part in _parts(chunk))


def _encoded(model: Model, moves: dict[int, Entries]) -> list[Chunk]:
    return Encoder((lambda tensor: moves.get(id(tensor))) if moves else None).model(model)


def _save_external(model: Model, target: str, moves: dict[int, Entries], force: bool) -> list[str]:
    data = f"{target}.data"
    refuse(data, model, force)
    placed = _plan(model, os.path.basename(data), moves)
    chunks = _encoded(model, moves)
    if size_of(chunks) > SINGLE_FILE_LIMIT:
        raise FileError(
            "attributes alone pass 2 GiB; only initializers can go into an external file", where=model.path
        )
    with _whole(target) as file:
        if placed:
            with _whole(data) as beside:
                _reserve(beside, placed[-1][1] + (placed[-1][0].nbytes or 0))
                for tensor, offset in placed:
                    beside.seek(offset)
                    _write(beside, _payload(tensor))
        _write(file, chunks)
    return [target, data] if placed else [target]


def _plan(model: Model, location: str, moves: dict[int, Entries]) -> list[tuple[Tensor, int]]:
    """Offsets of the initializers that go into the external file; their entries are put into `moves`."""
    placed: list[tuple[Tensor, int]] = []
    end = 0
    for tensor, initializer in model_tensors(model):
        size = tensor.nbytes or 0
        kept = isinstance(tensor.storage, ExternalData) and id(tensor) not in moves
        if (
            not initializer
            or size < EXTERNAL_THRESHOLD
            or kept
            or isinstance(tensor.storage, StringData | None)
        ):
            continue
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        moves[id(tensor)] = (("location", location), ("offset", str(offset)), ("length", str(size)))
        placed.append((tensor, offset))
        end = offset + size
    return placed


def _left_behind(tensor: Tensor, folder: str) -> bool:
    """Whether an external tensor of the source can't be referred to from a model in `folder`."""
    stored = tensor.storage
    if not isinstance(stored, ExternalData):
        return False
    return os.path.realpath(folder) not in {os.path.realpath(place) for place in stored.source.folders}


def _payload(tensor: Tensor) -> list[Chunk]:
    stored = tensor.storage
    if isinstance(stored, RawData) and stored.problem() is None:
        return [Span(stored.source, stored.offset, stored.length)]
    return [Numbers(tensor, tensor.nbytes or 0)]


def _parts(chunk: Chunk) -> Iterator[bytes | memoryview]:
    """The bytes of a chunk, in pieces of at most 1 MiB where they come from a file."""
    if isinstance(chunk, bytes):
        yield chunk
    elif isinstance(chunk, Span):
        yield from _copied(cast(Source, chunk.source), chunk.offset, chunk.length)
    elif isinstance(chunk.tensor.storage, ExternalData):
        source, offset, length = chunk.tensor.storage.place()
        yield from _copied(source, offset, _expected(chunk, length))
    else:
        yield from _viewed(chunk)


def _copied(source: Source, offset: int, length: int) -> Iterator[memoryview]:
    """A stretch of a file. Raises FileError where the file has become shorter than that."""
    data, end = source.data, offset + length
    for start in range(offset, end, _BUFFER):
        stop = min(start + _BUFFER, end)
        if isinstance(data, bytes):
            yield memoryview(data)[start:stop]
            continue
        if source.fd is not None and os.fstat(source.fd).st_size < stop:
            raise FileError("the file has shrunk while it was copied", where=source.name)
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        if length > _SMALL and sys.platform == "linux":
            with suppress(OSError):  # Linux before 5.14
                data.madvise(_POPULATE_READ, first, stop - first)
        yield memoryview(data)[start:stop]
        if length > _SMALL and hasattr(mmap, "MADV_DONTNEED"):
            data.madvise(mmap.MADV_DONTNEED, first, stop - first)


def _viewed(numbers: Numbers) -> Iterator[memoryview]:
    stored = numbers.tensor.storage
    flat = (stored.view() if stored else memoryview(b"")).cast("B")
    for start in range(0, _expected(numbers, flat.nbytes), _BUFFER):
        yield flat[start : start + _BUFFER]


def _expected(numbers: Numbers, size: int) -> int:
    """The size in bytes. Raises FileError where it isn't the one that was announced."""
    if size != numbers.length:
        name = numbers.tensor.name
        raise FileError(
            f"tensor {name!r} holds {size} bytes where its type and dims ask for {numbers.length}"
        )
    return size


def _write(file: FileIO, chunks: Iterable[Chunk]) -> None:
    """Small pieces are gathered, large ones go straight from where they lie to the kernel."""
    small = bytearray()
    for chunk in chunks:
        for part in _parts(chunk):
            if len(part) <= _SMALL:
                small += part
            if len(part) > _SMALL or len(small) >= _BUFFER:
                _through(file, small)
                small.clear()
            if len(part) > _SMALL:
                _through(file, part)
    _through(file, small)


def _through(file: FileIO, data: bytes | bytearray | memoryview) -> None:
    """Write all of it: the kernel may take less at a time."""
    with memoryview(data) as left:
        done = 0
        while done < len(left):
            done += file.write(left[done:])


def _reserve(file: FileIO, size: int) -> None:
    """Ask for the whole space at once: quicker to fill, and a full disk is known before any copying."""
    if size <= _SMALL or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise


@contextmanager
def _whole(target: str) -> Iterator[FileIO]:
    """A file that appears under its name when the block ends well, and never otherwise."""
    folder, name = os.path.split(os.path.abspath(target))
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.part")
    try:
        with open(temporary, "xb", buffering=0) as file:
            yield file
        os.replace(temporary, target)
    except BaseException as error:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise UsageError(f"can't be written: {error.strerror}", where=target) from None
        raise


def refuse(target: str, model: Model, force: bool) -> None:
    """Raise UsageError for a target that must not be written."""
    if not os.path.lexists(target):
        if not os.path.isdir(os.path.dirname(os.path.abspath(target))):
            raise UsageError("the folder does not exist", where=target)
        return
    if not os.path.isfile(target):
        raise UsageError("this is no regular file", where=target, help="name a file to write")
    if any(os.path.exists(used) and os.path.samefile(used, target) for used in _used_files(model)):
        raise UsageError("this file belongs to the model that is read; it is never written", where=target)
    if not force:
        raise UsageError("the file exists", where=target, help="give --force to replace it")


def _used_files(model: Model) -> Iterator[str]:
    """Files that the model was read from."""
    if model.path and model.path != "-":
        yield model.path
    seen: set[str] = set()
    for tensor, _ in model_tensors(model):
        stored = tensor.storage
        if isinstance(stored, ExternalData):
            location = dict(stored.entries).get("location", "")
            seen.update(os.path.join(folder, location) for folder in stored.source.folders)
        elif isinstance(stored, RawData) and stored.source.real:
            seen.add(stored.source.real)
    yield from sorted(seen)
