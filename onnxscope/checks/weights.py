"""Statistics of stored numbers, gathered in one streaming pass over the mapped file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from onnxscope.graph import Tensor

MOST_LISTED = 64
"""Filters that `TensorStatistics.zero_filters` lists."""


@dataclass(frozen=True, slots=True)
class TensorStatistics:
    """Counts over one stored tensor. All are numbers of elements unless said otherwise."""

    name: str
    scope: str
    """Path of the graph that holds it; "" for the main graph."""
    count: int
    nan: int
    inf: int
    subnormal: int
    """Nonzero numbers below the smallest normal one of the stored type."""
    zeros: int
    largest: float
    """Largest absolute finite number; 0 for an empty tensor."""
    smallest: float
    """Smallest absolute nonzero number; 0 where all are zero."""
    fp16_overflow: int
    """Finite numbers that float16 turns to infinity (65520 and above)."""
    fp16_underflow: int
    """Nonzero numbers that float16 turns to zero (2**-25 and below)."""
    zero_filters: tuple[int, ...]
    """Output channels (first axis) of a tensor with at least 2 axes whose numbers are all zero; at most 64
    listed."""
    zero_filter_count: int
    duplicate_filters: int
    """Output channels that repeat an earlier one bit for bit; all-zero ones apart."""
    digest: str
    """Equal within a model where, and only where, the packed bytes are: SHA-256 over the bytes of a tensor
    whose counts another one shares, else over the counts, which spares most bytes the hashing."""
    crushed: float | None
    """Share of numbers that symmetric int8 quantization per tensor rounds to zero though they aren't; None
    for integers."""
    tensor: Tensor | None = field(default=None, compare=False, repr=False)
    """The tensor itself: dtype, dims, bytes."""
    first_bad: int | None = None
    """Flat index of the first NaN or infinity."""

    @property
    def label(self) -> str:
        """Where findings say it lies: path of the graph and name."""
        return f"{self.scope}{self.name}"


@dataclass(frozen=True)
class Weights:
    """Statistics of every stored tensor of a model, in file order.

    Stored are initializers and attributes, those of nested graphs and of functions included.
    """

    tensors: tuple[TensorStatistics, ...]
    unread: tuple[tuple[str, str], ...] = ()
    """(tensor, reason) where the numbers can't be had."""

    def __iter__(self) -> Iterator[TensorStatistics]:
        return iter(self.tensors)

    def find(self, name: str, scope: str = "") -> TensorStatistics | None:
        """Statistics of a tensor by its name (a Constant's: the name of its output); None where unknown."""
        return self._places.get((scope, name))

    @cached_property
    def _places(self) -> dict[tuple[str, str], TensorStatistics]:
        return {(found.scope, found.name): found for found in self.tensors}
