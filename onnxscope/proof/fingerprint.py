"""Numbers of stored tensors compared bit by bit, in order or in any, without holding them in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxscope.errors import FileError
from onnxscope.files.external import ExternalData
from onnxscope.files.storage import RawData
from onnxscope.graph import Tensor

_PIECE = 1 << 17
_STRETCH = 1 << 23
"""Bytes of a tensor that one thread compares at a time."""
_THREADS = 4
_SEEKING = Lock()
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What two tensors with the same numbers in any order have in common."""

    dtype: int
    count: int
    sums: tuple[int, int]
    """Sums (mod 2^64) of two hashes of each element's bits; equal for every order."""
    ordered: bytes
    """Digest of the bytes in order."""

    def same_multiset(self, other: Fingerprint) -> bool:
        """Whether the numbers are the same up to their order (a hash collision has odds of 2^-100)."""
        return (self.dtype, self.count, self.sums) == (other.dtype, other.count, other.sums)


def same(before: Tensor, after: Tensor) -> bool:
    """Whether two tensors of as many bytes hold the same; large ones are read by as many threads as run."""

    def stretch(start: int) -> bool:
        stop = start + _STRETCH
        pairs = zip(pieces(before, start, stop), pieces(after, start, stop), strict=True)
        return all(left == right for left, right in pairs)

    starts = range(0, before.nbytes or 0, _STRETCH)
    if len(starts) < 2:
        return all(map(stretch, starts))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return all(pool.map(stretch, starts))


def fingerprint(tensor: Tensor) -> Fingerprint:
    """The fingerprint of a stored tensor, read in pieces of 128 KiB."""
    return _fingerprint(tensor.dtype, tensor.count, tensor.nbytes or 0, pieces(tensor))


def fingerprint_of(array: npt.NDArray[Any]) -> Fingerprint:
    """The fingerprint of an array in memory."""
    data = array.reshape(-1).view(np.uint8).data
    parts = (bytes(data[start : start + _PIECE]) for start in range(0, len(data), _PIECE))
    return _fingerprint(array.dtype.num, array.size, array.nbytes, parts)


def _fingerprint(dtype: int, count: int, size: int, parts: Iterator[bytes]) -> Fingerprint:
    from hashlib import blake2b

    width = size // count if count and size % count == 0 and size // count in (1, 2, 4, 8) else 1
    digest, first, second = blake2b(digest_size=16), 0, 0
    for part in parts:
        digest.update(part)
        bits = np.frombuffer(part, f"<u{width}").astype(np.uint64)
        first += int(_mixed(bits, 0x9E3779B97F4A7C15).sum(dtype=np.uint64))
        second += int(_mixed(bits, 0xD1B54A32D192ED03).sum(dtype=np.uint64))
    return Fingerprint(dtype, count, (first & _MASK, second & _MASK), digest.digest())


def _mixed(bits: npt.NDArray[np.uint64], salt: int) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each element: the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    value = bits + np.uint64(salt)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def pieces(tensor: Tensor, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The packed bytes of a tensor from `start` to `stop`, 128 KiB at a time.

    They are read rather than mapped, so that memory stays flat. Raises ExternalDataError or FileError where
    they can't be had.
    """
    stored = tensor.storage
    if isinstance(stored, ExternalData):
        path, offset, length = stored.resolve()
        with open(path, "rb") as file:
            yield from _read(file.fileno(), offset + start, offset + _end(length, stop))
    elif isinstance(stored, RawData) and stored.source.fd is not None and stored.problem() is None:
        end = stored.offset + _end(stored.length, stop)
        yield from _read(stored.source.fd, stored.offset + start, end)
    elif stored is not None:
        view = stored.view().cast("B")
        end = _end(view.nbytes, stop)
        for first in range(start, end, _PIECE):
            yield bytes(view[first : min(first + _PIECE, end)])


def _end(length: int, stop: int | None) -> int:
    return length if stop is None else min(length, stop)


def _read(fd: int, offset: int, end: int) -> Iterator[bytes]:
    while offset < end:
        count = min(_PIECE, end - offset)
        part = _read_at(fd, count, offset)
        if len(part) < count:
            raise FileError("the file became shorter while it was read", where=f"offset {offset}")
        yield part
        offset += len(part)


def _read_at(fd: int, count: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, count, offset)
    with _SEEKING:  # Windows: the place in a file is shared by all threads
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, count)
