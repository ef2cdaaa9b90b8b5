"""A dense pass beside the original on image crops: what padding changes, and the time of both."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from onnxscope.errors import RuntimeFailure
from onnxscope.proof import dense, speed
from onnxscope.proof.inputs import Array, Draw, Feeds
from onnxscope.proof.result import DenseSpeed
from onnxscope.proof.setting import Pair

if TYPE_CHECKING:
    from onnxscope.proof.larger import Larger


def compared(
    pair: Pair, larger: Larger, given: Feeds, native: Draw, outputs: Mapping[str, Array], notes: list[str]
) -> tuple[float | None, DenseSpeed | None]:
    """Border effect and times for the first of the maps; None, with a note, for what can't be measured.

    `given` are the inputs at the larger size, `native` a trial at the size that the original takes.
    """
    name, cells = next(iter(outputs.items()))
    size, steps = _places(larger, native, cells)
    if not steps:
        return None, None
    effect = _border(pair, larger, given[larger.image], (name, cells), size, steps, notes)
    return effect, _timed(pair, larger, given, cells, native, steps, notes)


def _places(larger: Larger, native: Draw, cells: Array) -> tuple[tuple[int, ...], list[int]]:
    """(size of the crop that a cell sees, pixels from one to the next); no steps where there are no crops."""
    size = tuple(native.shapes[larger.image][axis] for axis in larger.axes)
    grown = [n - s for n, s in zip(larger.size, size, strict=True)]
    steps = [g // (c - 1) if c > 1 else 1 for g, c in zip(grown, cells.shape[2:], strict=True)]
    return size, [] if any(g < 0 for g in grown) or any(step < 1 for step in steps) else steps


def _timed(
    pair: Pair,
    larger: Larger,
    given: Feeds,
    cells: Array,
    native: Draw,
    steps: list[int],
    notes: list[str],
) -> DenseSpeed | None:
    """One dense pass against all crops in time."""
    pair.setting.progress(f"dense {larger.text}: speed")
    try:
        return speed.measured(
            pair, larger, given, native, cells.shape[2:], steps, batch=pair.setting.baked_batch
        )
    except RuntimeFailure as error:
        if not pair.first.worker.alive:
            raise
        notes.append(f"dense {larger.text}: speed not measured: {error}")
        return None


def _border(
    pair: Pair,
    larger: Larger,
    value: Array,
    cells: tuple[str, Any],
    size: tuple[int, ...],
    steps: list[int],
    notes: list[str],
) -> float | None:
    """Largest difference between the map and the original on crops: what padding does, never a verdict."""
    try:
        effect = dense.border_effect(
            pair.setting.request.original,
            larger.image,
            value,
            *cells,
            size,
            steps,
            pair.first,
            batch=pair.setting.baked_batch,
            axes=larger.axes,
        )
    except (RuntimeFailure, ValueError) as error:
        notes.append(f"border effect not measured: {error}")
        return None
    text = (
        f"{effect.equal} of {effect.by_cell.size} cells equal, argmax agreement {effect.argmax_agreement:.2f}"
    )
    notes.append(f"dense {larger.text} against image crops: {text}")
    return effect.largest if effect.largest < inf else None
