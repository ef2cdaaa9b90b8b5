"""An open file whose structure is read byte by byte and whose payloads are handed out as views.

Small files are read whole (indexing `bytes` is twice as fast as indexing a map), large ones are memory-mapped: their
payloads then cost neither time nor memory until someone looks at them.
"""

from __future__ import annotations

import mmap
import os
import stat
import weakref

from onnxscope.errors import FileError

WHOLE = 16 << 20
"""Files below this many bytes are read whole."""
PIPE_LIMIT = 1 << 31
"""A pipe may deliver at most this many bytes, protobuf's own limit for one message."""
_CHUNK = 1 << 20


class Source:
    """The bytes of one file, or of a model that came from memory or a pipe.

    `payload_bytes` counts what `view` handed out: a report on a large model leaves it at the few bytes of its shape
    tensors. The file stays open, and mapped, until the last value that refers to it is gone or `close` is called.
    """

    __slots__ = ("__weakref__", "_finalizer", "data", "fd", "folders", "name", "payload_bytes", "real", "size")

    def __init__(self, data: bytes | mmap.mmap, name: str, *, real: str = "", fd: int | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.name = name
        """As the user gave it; for messages."""
        self.real = real
        """Path with every symbolic link resolved; "" for a model from memory or a pipe."""
        self.folders = tuple(dict.fromkeys(os.path.dirname(os.path.abspath(p)) for p in (name, real))) if real else ()
        """Where external data may be: beside the path as given, and beside the file behind its links."""
        self.fd = fd
        self.payload_bytes = 0
        self._finalizer = weakref.finalize(self, os.close, fd) if fd is not None else None

    @classmethod
    def open(cls, path: str) -> Source:
        """Open a model file; a pipe (for example `<(cat model.onnx)`) is read whole.

        Raises FileError with one line for a path that is missing, a directory, a device, unreadable or empty.
        """
        real = os.path.realpath(path)
        fd = _open(path)
        try:
            status = os.fstat(fd)
            _refuse_kind(path, status.st_mode)
            if stat.S_ISREG(status.st_mode):
                return cls._of_file(path, real, fd, status.st_size)
            data = _read_pipe(path, fd)
        except OSError as error:
            os.close(fd)
            raise FileError(f"can't be read: {error.strerror}", where=path) from error
        except FileError:
            os.close(fd)
            raise
        os.close(fd)
        return cls(data, path)

    @classmethod
    def _of_file(cls, path: str, real: str, fd: int, size: int) -> Source:
        if not size:
            raise FileError("the file is empty", where=path, help="export or download the model again")
        if size >= WHOLE:
            return cls(mmap.mmap(fd, 0, access=mmap.ACCESS_READ), path, real=real, fd=fd)
        with open(fd, "rb", closefd=False) as file:
            data = file.read()
        return cls(data, path, real=real, fd=fd)

    def view(self, start: int, end: int) -> memoryview:
        """A read-only view of payload bytes, without a copy; counted in `payload_bytes`."""
        self.payload_bytes += end - start
        return memoryview(self.data)[start:end].toreadonly()

    def close(self) -> None:
        """Let go of the file. A map that arrays still look into stays until they are gone."""
        if self._finalizer is not None:
            self._finalizer()
            self.fd = None
        if isinstance(self.data, mmap.mmap):
            try:
                self.data.close()
            except BufferError:  # views are alive; the map goes with the last of them
                return
        self.data = b""


def _open(path: str) -> int:
    try:
        # Not `real`: the link of a shell's `<(command)` leads to a name that exists only inside the kernel.
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise FileError("no such file", where=path, help="check the path") from None
    except ValueError:  # a null byte in the path
        raise FileError("no such file", where=repr(path)) from None
    except OSError as error:
        if os.path.isdir(path):
            raise FileError("this is a directory", where=path, help="name the .onnx file in it") from None
        raise FileError(f"can't be opened: {error.strerror}", where=path) from None


def _refuse_kind(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise FileError("this is a directory", where=path, help="name the .onnx file in it")
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise FileError("this is a device, not a file", where=path)


def _read_pipe(path: str, fd: int) -> bytes:
    data = bytearray()
    while chunk := os.read(fd, _CHUNK):
        data += chunk
        if len(data) > PIPE_LIMIT:
            raise FileError("the pipe holds more than 2 GiB", where=path, help="save it to a file first")
    if not data:
        raise FileError("nothing came through the pipe", where=path)
    return bytes(data)
