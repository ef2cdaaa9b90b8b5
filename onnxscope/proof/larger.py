"""`--dense`: a conversion at a larger input size, its head on every window of the feature map."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope.analysis.shapes import infer
from onnxscope.errors import RuntimeFailure, UsageError
from onnxscope.expr import bind
from onnxscope.proof import dense, inputs
from onnxscope.proof.inputs import Draw
from onnxscope.proof.interface import InputPair, fed
from onnxscope.proof.result import DenseResult
from onnxscope.proof.setting import Pair

if TYPE_CHECKING:
    from onnxscope.proof.links import HeadLink


CELLS = (2, 3)
"""Map size of the check that runs unasked; unlike, so that height and width can't change places unseen."""
SEARCHED = 4096
"""Input size in pixels up to which a map of that size is looked for."""


def unasked(pair: Pair, native: Draw, notes: list[str]) -> tuple[DenseResult, ...]:
    """The check on a small map, for a conversion whose input may be larger: what the native size can't show.

    A softmax over the wrong axis, for one, is right while the map has one cell. Not for heavy models.
    """
    size = None if pair.setting.heavy or pair.setting.request.dense else _map_size(pair)
    if size is None:
        return ()
    try:
        return (check(pair, size, native, notes, border=False),)
    except (RuntimeFailure, UsageError) as error:
        notes.append(f"not run at {size[0]}x{size[1]}: {error}")
        return ()


def _map_size(pair: Pair) -> tuple[int, int] | None:
    """The smallest input whose map has CELLS cells; None where there is no map of a free NCHW input."""
    candidate = pair.setting.candidate
    declared = [info.type.shape for info in candidate.graph.inputs if len(info.type.shape or ()) == 4]
    if not pair.setting.heads or len(declared) != 1 or declared[0] is None:
        return None
    names = declared[0][2:]
    if isinstance(declared[0][1], str) or not all(isinstance(name, str) for name in names):
        return None
    facts = infer(candidate)
    maps = [facts.value(info.name).shape for info in candidate.graph.outputs]
    found = next((shape for shape in maps if shape is not None and len(shape) == 4), None)
    if found is None:
        return None
    sizes = tuple(
        next((n for n in range(1, SEARCHED) if bind(form, {str(name): n}) == cells), None)
        for form, name, cells in zip(found[2:], names, CELLS, strict=True)
    )
    return (sizes[0], sizes[1]) if sizes[0] and sizes[1] else None


def check(
    pair: Pair, size: tuple[int, int], native: Draw, notes: list[str], *, border: bool = True
) -> DenseResult:
    """The candidate at one input size against the original's head on all windows, and on all image crops.

    `native` is a trial at the size that the original takes. Raises UsageError where the candidate is no
    conversion to a map, or has no input with two spatial axes.
    """
    setting = pair.setting
    if not setting.heads:
        raise UsageError(
            "--dense needs a candidate that onnxscope converted", where=setting.request.candidate
        )
    image = _image(pair)
    head = setting.heads[0]
    shape = (1, native.shapes[image.name][1], *size)
    value = _drawn(pair, image, shape)
    names = [info.name for info in setting.original.graph.outputs if info.name in setting.interface.outputs]
    setting.progress(f"dense {size[0]}x{size[1]}")
    others = {
        n: a for n, a in inputs.feeds(native, setting.inputs, setting.ranges).items() if n != image.name
    }
    found = pair.candidate({image.name: value, **others}, [head.feature_map, *names], pair.level)
    outputs = {name: found[name] for name in names if _is_map(found[name], head)}
    if not outputs:
        raise UsageError(
            "no output of the candidate is a map at this size",
            where=setting.request.candidate,
            help="convert with --output map --size dynamic",
        )
    batch = _baked_batch(pair)
    result = dense.window_check(
        setting.original,
        head,
        found[head.feature_map],
        outputs,
        pair.first,
        folder=setting.folder,
        seed=setting.request.seed,
        batch=batch,
        others=others,
        arithmetic=setting.arithmetic(tf32=pair.tf32),
    )
    outcome = result.comparison
    effect = _border(pair, image, value, outputs, native, batch, notes) if border else None
    return DenseResult(size, result.windows, outcome.max_abs, outcome.limit, effect, outcome.ok)


def _image(pair: Pair) -> InputPair:
    found = [p for p in pair.setting.inputs if len(p.sizes) == 4]
    if len(found) != 1:
        raise UsageError("--dense needs exactly one input with height and width")
    return found[0]


def _drawn(pair: Pair, image: InputPair, shape: tuple[int, ...]) -> Any:
    draw = Draw(pair.setting.request.seed, "signed", {image.name: shape})
    return inputs.feeds(draw, [image], pair.setting.ranges)[image.name]


def _is_map(value: Any, head: HeadLink) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 2 + len(head.window)


def _baked_batch(pair: Pair) -> int | None:
    """The batch number that the original declares; None where it is free."""
    for info in fed(pair.setting.original).values():
        if info.type.shape and isinstance(info.type.shape[0], int):
            return info.type.shape[0]
    return None


def _border(
    pair: Pair,
    image: InputPair,
    value: Any,
    outputs: dict[str, Any],
    native: Draw,
    batch: int | None,
    notes: list[str],
) -> float | None:
    """Largest difference between the map and the original on crops: what padding does, never a verdict."""
    name, cells = next(iter(outputs.items()))
    size = native.shapes[image.name][2:]
    grown = [n - s for n, s in zip(value.shape[2:], size, strict=True)]
    steps = [g // (c - 1) if c > 1 else 1 for g, c in zip(grown, cells.shape[2:], strict=True)]
    if any(g < 0 for g in grown) or any(step < 1 for step in steps):
        return None
    try:
        effect = dense.border_effect(
            pair.setting.request.original,
            image.name,
            value,
            name,
            cells,
            size,
            steps,
            pair.first,
            batch=batch,
        )
    except (RuntimeFailure, ValueError) as error:
        notes.append(f"border effect not measured: {error}")
        return None
    text = (
        f"{effect.equal} of {effect.by_cell.size} cells equal, argmax agreement {effect.argmax_agreement:.2f}"
    )
    notes.append(f"dense {value.shape[2]}x{value.shape[3]} against image crops: {text}")
    return effect.largest if effect.largest < inf else None
