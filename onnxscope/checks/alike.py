"""Tensors that differ by rounding only: samples tell which pairs are worth a look at every number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from onnxscope import dtypes
from onnxscope.checks.weights import TensorStatistics
from onnxscope.errors import FileError
from onnxscope.files.mapped import Pages

if TYPE_CHECKING:
    import numpy as np

RELATIVE = 2.0**-8
"""Twice the rounding of bfloat16."""
ABSOLUTE = 2.0**-24
"""The smallest number of float16: below, its rounding is no share of the number."""
SAMPLE = 16
"""Numbers of a tensor, evenly spread, that are compared first."""
MOST = 8
"""Tensors with almost equal samples that one is compared with, so that the cost stays linear."""
BLOCK = 1 << 18
"""Numbers that are compared together."""

Group: TypeAlias = tuple[TensorStatistics, list[tuple[TensorStatistics, float]]]
"""(tensor, [(one that is alike, largest absolute difference of the two)])."""


def groups(stored: Iterable[TensorStatistics]) -> Iterator[Group]:
    """Groups of float tensors of one type and shape with |a - b| <= RELATIVE |a| + ABSOLUTE throughout.

    `a` is the group's first. Of tensors with equal bytes one counts; tensors that hold NaN or infinity, or
    can't be read, are left out. Reads a sample of each, and the whole of pairs whose samples are alike.
    """
    buckets: dict[tuple[int, tuple[int, ...]], dict[str, TensorStatistics]] = defaultdict(dict)
    for found in stored:
        if found.tensor is not None and _floats(found.tensor.dtype) and not found.nan + found.inf:
            buckets[found.tensor.dtype, found.tensor.dims].setdefault(found.digest, found)
    for bucket in buckets.values():
        if len(bucket) > 1:
            yield from _alike([*bucket.values()])


def _floats(code: int) -> bool:
    return code in (dtypes.FLOAT, dtypes.DOUBLE, dtypes.FLOAT16, dtypes.BFLOAT16)


def _alike(bucket: list[TensorStatistics]) -> Iterator[Group]:
    """The groups of one type and shape: each tensor meets those just below it by the sum of its sample."""
    samples = [pair for found in bucket if (pair := _sample(found)) is not None]
    ranked = sorted(samples, key=lambda item: float(abs(item[1]).sum()))
    copies: dict[int, list[tuple[TensorStatistics, float]]] = defaultdict(list)
    firsts: list[tuple[TensorStatistics, np.ndarray]] = []
    for found, sample in ranked:
        for other, near in firsts[: -MOST - 1 : -1]:
            difference = _difference(other, found) if _close(near, sample) else None
            if difference is not None:
                copies[id(other)].append((found, difference))
                break
        else:
            firsts.append((found, sample))
    yield from ((found, copies[id(found)]) for found in bucket if id(found) in copies)


def _sample(found: TensorStatistics) -> tuple[TensorStatistics, np.ndarray] | None:
    try:
        numbers, pages = _numbers(found)
    except (FileError, TypeError, ValueError):
        return None
    sample = numbers[:: max(numbers.size // SAMPLE, 1)].astype("<f8")
    pages.release(0, numbers.nbytes)  # the system maps far more around each number than was asked for
    return found, sample


def _numbers(found: TensorStatistics) -> tuple[np.ndarray, Pages]:
    """The flat numbers of a tensor, in place, and their pages. Raises FileError where they can't be read."""
    import numpy as np

    tensor = found.tensor
    if tensor is None or tensor.storage is None:
        raise FileError(f"tensor {found.name!r} holds no numbers")
    kind, data = dtypes.BY_CODE[tensor.dtype].numpy, tensor.storage.view()
    little = kind if tensor.dtype == dtypes.BFLOAT16 else kind.newbyteorder("<")
    return np.frombuffer(data, little), Pages(data)


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether every number is near its fellow: |a - b| <= RELATIVE |a| + ABSOLUTE."""
    return one.shape == other.shape and bool((abs(one - other) <= RELATIVE * abs(one) + ABSOLUTE).all())


def _difference(one: TensorStatistics, other: TensorStatistics) -> float | None:
    """The largest |a - b| of two tensors that are alike; None for others."""
    held = (_numbers(one), _numbers(other))
    largest = 0.0
    for start in range(0, one.count, BLOCK):
        left, right = (numbers[start : start + BLOCK].astype("<f8") for numbers, _ in held)
        for numbers, pages in held:
            pages.release(start * numbers.itemsize, (start + BLOCK) * numbers.itemsize)
        if not _close(left, right):
            return None
        largest = max(largest, float(abs(left - right).max()))
    return largest
