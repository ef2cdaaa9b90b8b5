"""Equality of values bit by bit, also of values that stayed in the worker process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands for a tensor of numbers whose equality alone is asked for: no pipe has to carry it.

    Marks of one worker are equal where the values of that name had the same bits in two runs on end.
    """

    number: int


class Kept:
    """Values that stay in the worker, each until the next one of its name is compared with it."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[Any, Mark]] = {}
        self._marks = 0

    def marked(self, values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """The values, tensors of numbers among `names` as marks."""
        found = {name: self._mark(name, values[name]) for name in names if _numbers(values[name])}
        return {**values, **found}

    def _mark(self, name: str, value: Any) -> Mark:
        before, mark = self._values.pop(name, (None, Mark(0)))
        if same_bits(before, value):
            return mark
        self._marks += 1
        mark = Mark(self._marks)
        self._values[name] = value, mark
        return mark


def same_bits(left: Any, right: Any) -> bool:
    """Whether two values, or their marks, are tensors of numbers alike in shape, type and every bit."""
    if isinstance(left, Mark) or isinstance(right, Mark):
        return bool(left == right) if type(left) is type(right) else False
    if not _numbers(left) or not _numbers(right) or (left.shape, left.dtype) != (right.shape, right.dtype):
        return False
    width = next(size for size in (8, 4, 2, 1) if left.nbytes % size == 0)
    one, two = (np.ascontiguousarray(array).reshape(-1).view(f"u{width}") for array in (left, right))
    return np.array_equal(one, two)


def _numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
