"""External data: weights in other files, reached only inside the model's own folder.

A location is a POSIX path relative to the folder of the model. It is refused where it leaves that folder
(absolute, `..`, a symbolic link to elsewhere), where it is no regular file, where it has another name
somewhere else (a hard link could be anybody's file), and where the range doesn't lie in the file or doesn't
fit type and dims.
Source: ONNX "External Data" document; onnx.proto, TensorProto.external_data.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from onnxscope.errors import ExternalDataError, FileError
from onnxscope.files.source import Source
from onnxscope.graph import Tensor


class ExternalData(NamedTuple):
    """A range of another file."""

    source: Source
    """The model file that refers to it."""
    entries: tuple[tuple[str, str], ...]
    """As written: location, offset, length, checksum."""
    expected: int | None
    """Bytes that dims and type ask for; None where they can't be told, negative for impossible dims."""
    tensor: str

    @property
    def kind(self) -> str:
        """`external`."""
        return "external"

    @property
    def location(self) -> str:
        """File as written, and byte offset."""
        entries = dict(self.entries)
        return f"{entries.get('location', '?')}, byte {entries.get('offset', 0)}"

    def failure(self) -> ExternalDataError | None:
        """Why the bytes can't be had, or None; looks at the file's status, reads none of its bytes."""
        try:
            self.resolve()
        except ExternalDataError as error:
            return error
        return None

    def problem(self) -> str | None:
        """The words of `failure`."""
        failure = self.failure()
        return None if failure is None else failure.message

    def view(self) -> memoryview:
        """The bytes, as a view into the mapped file. Raises ExternalDataError where they can't be had."""
        source, offset, length = self.place()
        return source.view(offset, offset + length) if length else memoryview(b"")

    def place(self) -> tuple[Source, int, int]:
        """The file that holds the bytes, offset and length. Raises ExternalDataError as `view` does."""
        path, offset, length = self.resolve()
        if not length:
            return self.source, 0, 0
        try:
            found = self.source.neighbour(path)
        except FileError as error:
            raise self._error(f"its external file {path!r} {error.message}") from None
        if offset + length > found.size:
            raise self._error(f"its external file {path!r} has changed since it was opened")
        return found, offset, length

    def resolve(self) -> tuple[str, int, int]:
        """Real path, offset and length. Raises ExternalDataError for anything that isn't allowed."""
        entries = dict(self.entries)
        location = entries.get("location", "")
        path, status = self._find(location)
        if not stat.S_ISREG(status.st_mode):
            kind = "missing" if stat.S_ISDIR(status.st_mode) else "outside"
            raise self._error(f"external data {location!r} is not a regular file", kind)
        if status.st_nlink > 1:
            raise self._error(
                f"external data {location!r} has a second name (a hard link), so it may lie elsewhere",
                "outside",
            )
        offset, length = self._range(entries, status.st_size)
        if length < 0 or offset + length > status.st_size:
            end = f"{offset} to {offset + length}"
            raise self._error(f"external data {location!r} has {status.st_size} bytes, not the range {end}")
        return path, offset, length

    def _range(self, entries: dict[str, str], size: int) -> tuple[int, int]:
        """Offset and length in a file of `size` bytes."""
        expected = self.expected
        if expected is not None and expected < 0:
            raise self._error("has a negative size in its dims")
        offset = self._number(entries, "offset") or 0
        length = self._number(entries, "length")
        if length is None:
            length = size - offset if expected is None else expected
        if expected not in (None, length):
            raise self._error(f"external data has {length} bytes where its type and dims ask for {expected}")
        return offset, length

    def _find(self, location: str) -> tuple[str, os.stat_result]:
        if not self.source.folders:
            kind = "outside" if _leaves(location) else "missing"
            raise self._error(
                f"external data {location!r} can't be found: the model came without a folder", kind
            )
        if not location:
            raise self._error("external data without a location", "missing")
        if "\0" in location or os.path.isabs(location) or _is_absolute(location):
            raise self._error(
                f"external data {location!r} is an absolute path, not one relative to the model", "outside"
            )
        if _leaves(location):
            raise self._error(f"external data {location!r} leaves the model's folder by '..'", "outside")
        allowed = [os.path.realpath(folder) for folder in self.source.folders]
        for folder in self.source.folders:
            path = os.path.realpath(os.path.join(folder, location))
            try:
                status = os.stat(path)
            except OSError:
                continue
            if path not in allowed and not any(_inside(path, root) for root in allowed):
                raise self._error(
                    f"external data {location!r} leaves the model's folder by a symbolic link", "outside"
                )
            return path, status
        raise self._error(f"external data {location!r} is missing from the model's folder", "missing")

    def _number(self, entries: dict[str, str], key: str) -> int | None:
        text = entries.get(key)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise self._error(f"external data has the {key} {text!r}, which is no natural number")
        return int(text[:30])

    def _error(self, message: str, kind: str = "range") -> ExternalDataError:
        help = "put the file beside the model, or export again"
        text = f"tensor {self.tensor!r}: {message}"
        return ExternalDataError(text, kind=kind, where=self.source.label, help=help)


def problem(tensor: Tensor) -> str | None:
    """Why the numbers of a tensor can't be had, or None; reads none of them, so a report may ask for all."""
    if tensor.storage is None:
        return f"tensor {tensor.name!r} holds no numbers" if tensor.count else None
    check = getattr(tensor.storage, "problem", None)
    found = check() if check else None
    if found is None or found.startswith("tensor "):
        return found
    return f"tensor {tensor.name!r} {found}"


def _is_absolute(location: str) -> bool:
    return location.startswith(("/", "\\")) or location[1:2] == ":"


def _leaves(location: str) -> bool:
    """Whether a location leads out of the model's folder by its text alone, on any system."""
    return _is_absolute(location) or ".." in location.replace("\\", "/").split("/")


def _inside(path: str, root: str) -> bool:
    return path.startswith(root.rstrip(os.sep) + os.sep)
