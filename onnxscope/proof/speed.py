"""The gain of a dense map: one pass of the candidate against the original on every image crop.

The prediction counts multiplications alone. What a runtime does with them differs: layers that move memory,
and fully connected layers, which read their weights once per run.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from onnxscope.proof import dense, timing
from onnxscope.proof.inputs import Array, Draw, Feeds
from onnxscope.proof.result import DenseSpeed
from onnxscope.proof.setting import Pair

if TYPE_CHECKING:
    from onnxscope.proof.larger import Larger

CROPS = 8
"""Crops that the original takes at once, where its batch is free."""
MOST = 32
"""Crops that are timed; the time of more is that of these, multiplied."""


def measured(
    pair: Pair,
    larger: Larger,
    given: Feeds,
    native: Draw,
    cells: Sequence[int],
    steps: Sequence[int],
    *,
    batch: int | None = None,
) -> DenseSpeed:
    """Times of both, interleaved, and the speed-up that MACs predict.

    `given` are the candidate's inputs at the larger size, `native` a trial at the original's. Cell (i, j) of
    the map, `cells` in size, sees the crop at (i, j) * `steps` pixels. `batch` is the batch size that the
    original bakes in (None: any). Raises RuntimeFailure.
    """
    setting = pair.setting
    places = list(np.ndindex(*cells))
    images = len(given[larger.image])
    at_once = 1 if batch else max(1, CROPS // images)
    chosen = places[: max(1, MOST // images)]
    size = tuple(native.shapes[larger.image][axis] for axis in larger.axes)
    runs = [
        _crops(larger, given, chosen[start : start + at_once], size, steps)
        for start in range(0, len(chosen), at_once)
    ]
    times = timing.compared(pair, runs, [given])
    on_crops = timing.timing(times[0], len(places) / len(chosen))
    whole = timing.timing(times[1])
    shapes = {name: tuple(array.shape) for name, array in given.items()}
    return DenseSpeed(
        crops=prod(cells) * images,
        timed=len(chosen) * images,
        runs=len(times[0]),
        on_crops=on_crops,
        dense=whole,
        measured=on_crops.median_ms / whole.median_ms if whole.median_ms else float("inf"),
        predicted=dense.predicted_speedup(
            setting.original, setting.candidate, native.shapes, shapes, len(places)
        ),
    )


def _crops(
    larger: Larger,
    given: Feeds,
    places: Sequence[Sequence[int]],
    size: Sequence[int],
    steps: Sequence[int],
) -> Feeds:
    """Inputs of one run of the original: crops of all images at some places, other inputs repeated."""
    image = given[larger.image]
    parts = [_crop(image, larger.axes, place, size, steps) for place in places]
    others = {name: _repeated(array, len(places), len(image)) for name, array in given.items()}
    return {**others, larger.image: np.ascontiguousarray(np.concatenate(parts))}


def _crop(
    image: Array, axes: Sequence[int], place: Sequence[int], size: Sequence[int], steps: Sequence[int]
) -> Array:
    cuts: list[slice] = [slice(None)] * image.ndim
    for axis, at, wide, step in zip(axes, place, size, steps, strict=True):
        cuts[axis] = slice(at * step, at * step + wide)
    return image[tuple(cuts)]


def _repeated(array: Array, count: int, images: int) -> Array:
    """An input with one entry per image, for several crops of each."""
    return np.concatenate([array] * count) if array.ndim > 1 and len(array) == images else array
