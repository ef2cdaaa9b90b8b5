"""Statistics of stored numbers, gathered in one streaming pass over the mapped file."""

from __future__ import annotations

from dataclasses import dataclass


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
    """Finite numbers that float16 turns to infinity (above 65504)."""
    fp16_underflow: int
    """Nonzero numbers that float16 turns to zero (below 2**-25)."""
    zero_filters: tuple[int, ...]
    """Output channels (first axis) of a tensor with at least 2 axes whose numbers are all zero; at most 64
    listed."""
    zero_filter_count: int
    duplicate_filters: int
    """Output channels that repeat an earlier one bit for bit."""
    digest: str
    """SHA-256 of the packed bytes: equal tensors have equal digests."""
    crushed: float | None
    """Share of numbers that symmetric int8 quantization per tensor rounds to zero though they aren't; None
    for integers."""
