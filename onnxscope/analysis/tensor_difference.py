"""How the numbers of two tensors differ, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxscope import dtypes, packing
from onnxscope.files.mapped import Pages
from onnxscope.graph import Tensor

if TYPE_CHECKING:
    import numpy as np

BLOCK = 3 << 18
"""Bytes compared together; a whole number of elements of every type."""


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """What changed between two tensors of one type."""

    changed: int
    """Elements with other bits."""
    max_change: float
    """Largest absolute difference of finite elements; 0 where only signs of zero or NaN bits differ."""
    nonfinite: int
    """Changed elements that are NaN or infinite on one side."""


def compare(old: Tensor, new: Tensor) -> TensorDifference | None:
    """None where elements have no counterparts: other types, other shapes unless every bit is the same.

    Raises FileError where the bytes of one can't be read, TypeError for strings.
    """
    if (old.dtype, old.count) != (new.dtype, new.count):
        return None
    left = old.storage.view() if old.storage else memoryview(b"")
    right = new.storage.view() if new.storage else memoryview(b"")
    pages = Pages(left), Pages(right)
    changed, largest, nonfinite = 0, 0.0, 0
    for start in range(0, max(len(left), len(right)), BLOCK):
        end = start + BLOCK
        if _differ(left[start:end], right[start:end]):
            if old.dims != new.dims:
                return None
            count = _count(old, start, min(len(left), end))
            found = _block(left[start:end], right[start:end], old.dtype, count)
            changed, nonfinite = changed + found.changed, nonfinite + found.nonfinite
            largest = max(largest, found.max_change)
        for each in pages:
            each.release(start, min(end, len(left)))
    return TensorDifference(changed, largest, nonfinite)


def _differ(left: memoryview, right: memoryview) -> bool:
    import numpy as np

    return not np.array_equal(np.frombuffer(left, np.uint8), np.frombuffer(right, np.uint8))


def _count(tensor: Tensor, start: int, end: int) -> int:
    """Elements in a stretch of bytes; padding bits at the end are none."""
    bits = dtypes.BY_CODE[tensor.dtype].bits or 8
    return min(end * 8 // bits, tensor.count) - start * 8 // bits


def _block(left: memoryview, right: memoryview, dtype: int, count: int) -> TensorDifference:
    import numpy as np

    one, two = (packing.array(data, dtype, count) for data in (left, right))
    other = _bits(one) != _bits(two)
    old, new = _numbers(one[other]), _numbers(two[other])
    with np.errstate(all="ignore"):
        change = np.abs(new - old)
    finite = np.isfinite(old) & np.isfinite(new)
    return TensorDifference(
        int(np.count_nonzero(other)),
        float(change[finite].max()) if finite.any() else 0.0,
        int(np.count_nonzero(~finite)),
    )


def _bits(array: np.ndarray) -> np.ndarray:
    """The bit patterns, to compare NaN with NaN and 0 with -0."""
    import numpy as np

    size = array.dtype.itemsize
    return array.view(f"<u{size}") if size <= 8 else array.view(np.uint64).reshape(-1, 2).view("V16")[:, 0]


def _numbers(array: np.ndarray) -> np.ndarray:
    import numpy as np

    return array if array.dtype.kind == "c" else array.astype(np.float64)
