"""Give the memory of a mapped file back to the system once it was looked at."""

from __future__ import annotations

import mmap
from contextlib import suppress

_LEAST = 1 << 16
"""Bytes below which letting go isn't worth the call."""


class Pages:
    """The pages behind a view of a mapped file; a view of plain memory has none, and nothing happens."""

    def __init__(self, data: memoryview) -> None:
        self._map = data.obj if isinstance(data.obj, mmap.mmap) and len(data) >= _LEAST else None
        self._offset = _offset(data, self._map) if self._map is not None else 0

    def release(self, start: int, end: int) -> None:
        """Let go of the pages that lie wholly between two places of the view: they are read again on need."""
        if self._map is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first = (self._offset + start) // mmap.PAGESIZE * mmap.PAGESIZE
        with suppress(OSError, ValueError):
            self._map.madvise(mmap.MADV_DONTNEED, first, self._offset + end - first)


def _offset(data: memoryview, whole: mmap.mmap) -> int:
    """Where in the map the view begins."""
    import numpy as np

    begin, base = (
        int(np.frombuffer(buffer, np.uint8, 1).__array_interface__["data"][0]) for buffer in (data, whole)
    )
    return begin - base
