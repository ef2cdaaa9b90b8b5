"""Rows of a tensor (filters, output channels) that hold only zeros or repeat an earlier one."""

from __future__ import annotations

import hashlib
from math import prod
from typing import TYPE_CHECKING

from onnxscope import dtypes
from onnxscope.graph import Tensor

if TYPE_CHECKING:
    import numpy as np

MOST = 1 << 18
"""Rows of a tensor that is looked at by rows; of more (large embeddings), none is."""
_MIXERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)


class Rows:
    """What is known of each row while blocks pass by."""

    def __init__(self, count: int, size: int, data: memoryview, block: int) -> None:
        import numpy as np

        self.count = count
        self.size = size
        """Bytes of a row."""
        self.data = data
        self.whole = size <= block
        self.step = block // size * size if self.whole else block
        """Bytes of a block: whole rows where they fit."""
        self.nonzero = np.zeros(count, np.bool_)
        self.keys = np.zeros(count, np.uint64)

    @classmethod
    def of(cls, tensor: Tensor, data: memoryview, block: int) -> Rows | None:
        """None where the tensor has no rows to speak of, or they don't end at whole bytes."""
        if len(tensor.dims) < 2 or not 1 < tensor.dims[0] <= MOST or not data:
            return None
        bits = (dtypes.BY_CODE[tensor.dtype].bits or 0) * prod(tensor.dims[1:])
        if not bits or bits % 8:
            return None
        return cls(tensor.dims[0], bits // 8, data, block)

    def add(self, start: int, block: memoryview, magnitudes: np.ndarray, zeros: int) -> None:
        """Note which rows of a block hold a number other than zero; `zeros`: how many of its numbers do."""
        first = start // self.size
        if not self.whole:
            last = (start + len(block) - 1) // self.size
            self._split(first, last, start, block, magnitudes)
            return
        rows = len(block) // self.size
        held = magnitudes.reshape(rows, -1)
        full = zeros < held.shape[1]
        self.nonzero[first : first + rows] = True if full else held.any(axis=1)
        self.keys[first : first + rows] = self._key(block, rows)

    def _split(self, first: int, last: int, start: int, block: memoryview, magnitudes: np.ndarray) -> None:
        """A block that begins or ends inside a row."""
        each = len(block) / max(magnitudes.size, 1)
        for row in range(first, last + 1):
            begin, end = max(row * self.size - start, 0), min((row + 1) * self.size - start, len(block))
            self.nonzero[row] |= bool(magnitudes[int(begin / each) : int(end / each)].any())

    def _key(self, block: memoryview, rows: int) -> np.ndarray:
        """A number per row from its first, middle and last bytes: equal rows have equal ones."""
        import numpy as np

        table = np.frombuffer(block, np.uint8).reshape(rows, self.size)
        key = np.zeros(rows, np.uint64)
        width = min(8, self.size)
        for place, mixer in zip((0, self.size // 2, self.size - width), _MIXERS, strict=True):
            part = np.zeros((rows, 8), np.uint8)
            piece = table[:, place : place + width]
            part[:, : piece.shape[1]] = piece
            key = (key ^ part.view("<u8")[:, 0]) * np.uint64(mixer)
            key ^= key >> np.uint64(29)
        return key

    def finish(self) -> tuple[tuple[int, ...], int]:
        """(rows of zeros, number of other rows that repeat an earlier one bit for bit)."""
        import numpy as np

        if not self.whole:
            self.keys = np.concatenate([self._key(self._row(row), 1) for row in range(self.count)])
        zero = tuple(int(row) for row in np.flatnonzero(~self.nonzero))
        kept = np.flatnonzero(self.nonzero)
        _, places, counts = np.unique(self.keys[kept], return_inverse=True, return_counts=True)
        seen: set[bytes] = set()
        repeated = 0
        for row in kept[counts[places] > 1]:
            digest = hashlib.blake2b(self._row(int(row)), digest_size=16).digest()
            repeated += digest in seen
            seen.add(digest)
        return zero, repeated

    def _row(self, row: int) -> memoryview:
        return self.data[row * self.size : (row + 1) * self.size]
