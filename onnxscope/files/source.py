"""An open file whose structure is read byte by byte and whose payloads are handed out as views.

Small files are read whole (indexing `bytes` is faster than indexing a map), large ones are memory-mapped:
their payloads then cost neither time nor memory until someone looks at them.
"""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from collections.abc import Callable
from typing import BinaryIO

from onnxscope.errors import FileError
from onnxscope.files.wire import Buffer

WHOLE = 16 << 20
"""Files below this many bytes are read whole."""
PIPE_LIMIT = 1 << 31
"""A pipe may deliver at most this many bytes, protobuf's own limit for one message."""
_CHUNK = 1 << 20


class Source:
    """The bytes of one file, or of a model that came from memory or a pipe.

    `payload_bytes` counts what `view` handed out: a report on a large model leaves it at the few bytes of its
    shape tensors. The file stays open, and mapped, until the last value that refers to it is gone or `close`
    is called.
    """

    def __init__(self, data: Buffer, name: str, *, real: str = "", fd: int | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.name = name
        """As the user gave it; for messages."""
        self.real = real
        """Path with every symbolic link resolved; "" for a model from memory or a pipe."""
        self.folders = _folders(name, real) if real else ()
        """Where external data may be: beside the path as given, and beside the file behind its links."""
        self.fd = fd
        self.payload_bytes = 0
        self._neighbours: dict[str, Source] = {}
        self._finalizer = weakref.finalize(self, os.close, fd) if fd is not None else None

    @classmethod
    def open(cls, path: str) -> Source:
        """Open a model file; a pipe (for example a shell's `<(cat model.onnx)`) is read whole.

        Raises FileError with one line for a path that is missing, a directory, a device, unreadable or empty.
        """
        return cls._of_descriptor(_open(path), path, os.path.realpath(path))

    @classmethod
    def standard_input(cls, stdin: BinaryIO | None = None) -> Source:
        """Standard input, or `stdin` in its place: a file redirected into it is mapped, a pipe is read whole.

        Raises FileError where nothing comes.
        """
        import sys

        stream = stdin or sys.stdin.buffer
        if stream.isatty():
            raise FileError("standard input is a terminal", where="-", help="redirect a model into it")
        try:
            fd = os.dup(stream.fileno())
        except OSError:  # an object in memory
            return cls(_read_all(stream.read, "-"), "-")
        return cls._of_descriptor(fd, "-", "")

    @classmethod
    def _of_descriptor(cls, fd: int, name: str, real: str) -> Source:
        try:
            status = os.fstat(fd)
            _refuse_kind(name, status.st_mode)
            if stat.S_ISREG(status.st_mode) and not os.lseek(fd, 0, os.SEEK_CUR):
                return cls._of_file(fd, name, real, status.st_size)
            data = _read_all(lambda size: os.read(fd, size), name)
        except OSError as error:
            os.close(fd)
            raise FileError(f"can't be read: {error.strerror}", where=name) from None
        except FileError:
            os.close(fd)
            raise
        os.close(fd)
        return cls(data, name)

    @classmethod
    def _of_file(cls, fd: int, name: str, real: str, size: int) -> Source:
        if not size:
            raise FileError("the file is empty", where=name, help="export or download the model again")
        if size >= WHOLE:
            return cls(mmap.mmap(fd, 0, access=mmap.ACCESS_READ), name, real=real, fd=fd)
        with open(fd, "rb", closefd=False) as file:
            data = file.read()
        return cls(data, name, real=real, fd=fd)

    @property
    def label(self) -> str:
        """The name for messages."""
        return self.name or "model in memory"

    def view(self, start: int, end: int) -> memoryview:
        """A read-only view of payload bytes, without a copy; counted in `payload_bytes`."""
        self.payload_bytes += end - start
        return memoryview(self.data)[start:end].toreadonly()

    def neighbour(self, path: str) -> Source:
        """The external file at a real path, opened once. Raises FileError as `open` does."""
        found = self._neighbours.get(path)
        if found is None:
            found = self._neighbours[path] = Source.open(path)
        return found

    def close(self) -> None:
        """Let go of the file and its external files. A map that arrays look into goes with the last one."""
        for neighbour in self._neighbours.values():
            neighbour.close()
        if self._finalizer is not None:
            self._finalizer()
            self.fd = None
        data, self.data = self.data, b""
        if isinstance(data, mmap.mmap):
            try:
                data.close()
            except BufferError:  # views are alive
                return


def _folders(name: str, real: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.dirname(os.path.abspath(path)) for path in (name, real)))


def _open(path: str) -> int:
    try:
        # Not the resolved path: the link of a shell's `<(command)` leads to a name that is no file.
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise FileError("no such file", where=path, help="check the path") from None
    except ValueError:  # a null byte in the path
        raise FileError("no such file", where=repr(path)) from None
    except OSError as error:
        if os.path.isdir(path):
            raise FileError("this is a directory", where=path, help="name the .onnx file in it") from None
        raise FileError(f"can't be opened: {error.strerror}", where=path) from None


def _refuse_kind(name: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise FileError("this is a directory", where=name, help="name the .onnx file in it")
    if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and name != "-"):
        raise FileError("this is a device, not a file", where=name)


def _read_all(read: Callable[[int], bytes], name: str) -> bytes:
    data = bytearray()
    while chunk := read(_CHUNK):
        data += chunk
        if len(data) > PIPE_LIMIT:
            raise FileError(
                "more than 2 GiB came through the pipe", where=name, help="save it to a file first"
            )
    if not data:
        what = "standard input" if name == "-" else "the pipe"
        raise FileError(f"{what} is empty", where=name)
    return bytes(data)
