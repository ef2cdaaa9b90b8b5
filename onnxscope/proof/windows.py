"""Feature maps as rows: what a fully connected layer reads at each place of a map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array

_BLOCK = 1 << 21
"""Numbers of one block of rows: 16 MB in float64."""


def windows(value: Array, kernel: Sequence[int], dilations: Sequence[int] = ()) -> Array:
    """A view [N, *S', C, *kernel] of every window of a map [N, C, *S], stride 1, S' = S - d (kernel - 1).

    Raises ValueError where the map is smaller than a window.
    """
    axes = tuple(range(2, 2 + len(kernel)))
    steps = tuple(dilations) or (1,) * len(kernel)
    spans = tuple(step * (size - 1) + 1 for size, step in zip(kernel, steps, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(value, spans, axis=axes)
    thin: Any = (..., *(slice(None, None, step) for step in steps))
    return np.moveaxis(view[thin], 1, 1 + len(kernel))


def rows_of(width: int) -> int:
    """Rows of a block of that many numbers each; at least 1."""
    return max(1, _BLOCK // max(1, width))


def completed(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes 1..rank in the order listed, then those of size 1 that the list leaves out."""
    return (*axes, *(axis for axis in range(1, 1 + rank) if axis not in axes))


def row_blocks(view: Array, axes: Sequence[int] = (), outputs: int = 0) -> Iterator[tuple[int, Array]]:
    """Windows [N, *S', C, *kernel] as blocks of rows [r, K]: (index of the first row, block).

    `axes` is the order that the original flattens the map's axes in: (1, 2, 3) is channels first (the
    default), (2, 3, 1) channels last; axes of size 1 may be left out. A block is small enough that its
    `outputs` results are no more than a block either; only one is in memory at a time.
    """
    spatial = (view.ndim - 2) // 2
    places = view.shape[: 1 + spatial]
    inner = view.shape[1 + spatial :]
    order = tuple(axis - 1 for axis in completed(axes, len(inner)))
    count, width = prod(places), prod(inner)
    size = rows_of(max(width, outputs))
    for start in range(0, count, size):
        flat = np.arange(start, min(start + size, count))
        block = view[np.unravel_index(flat, places)]
        yield start, block.transpose(0, *(1 + axis for axis in order)).reshape(len(flat), width)


def rows(value: Array) -> Array:
    """A value [N, F] or [N, F, *S'] as rows [N * prod(S'), F]: one row per cell, cells in row-major order."""
    if value.ndim <= 2:
        return value.reshape(len(value), -1) if value.ndim else value.reshape(1, 1)
    return np.moveaxis(value, 1, -1).reshape(-1, value.shape[1])
