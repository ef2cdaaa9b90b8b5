"""A conversion at an input larger than the native one: what a map of one cell can't show.

A softmax over the wrong axis, for one, or a stride in the head, is right while the map has one cell.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope.analysis.spatial import closed_forms
from onnxscope.errors import RuntimeFailure, UsageError
from onnxscope.expr import Expr, symbols
from onnxscope.graph import Model
from onnxscope.proof import crops, dense, inputs, rounded
from onnxscope.proof.extract import cut, reads, sources
from onnxscope.proof.inputs import Array, Draw, Feeds
from onnxscope.proof.interface import InputPair, declared, fed
from onnxscope.proof.limits import Comparison
from onnxscope.proof.result import DenseResult
from onnxscope.proof.setting import Pair, Setting

if TYPE_CHECKING:
    from onnxscope.proof.links import HeadLink


CELLS: dict[int, tuple[int, ...]] = {1: (3,), 2: (2, 3), 3: (2, 3, 2)}
"""Spatial axes -> map size of the check that runs unasked; neighbours are unlike, so that they can't change
places unseen."""


@dataclass(frozen=True, slots=True)
class Larger:
    """An input size at which the candidate makes a map."""

    image: str
    """The input that grows."""
    axes: tuple[int, ...]
    """Its spatial axes, in the order of the map's."""
    draw: Draw

    @property
    def size(self) -> tuple[int, ...]:
        """The image's spatial size."""
        return tuple(self.draw.shapes[self.image][axis] for axis in self.axes)

    @property
    def text(self) -> str:
        """The size as it is typed: 384x384."""
        return shown(self.size)


def small_map(pair: Pair, native: Draw) -> Larger | None:
    """The smallest input whose feature map makes CELLS cells; None where no free input grows it.

    `native` is a trial at the size that the original takes: it gives every other size. Not for heavy models.
    """
    setting = pair.setting
    cells = None if setting.heavy else small_cells(setting)
    found = _grown(setting, cells[1]) if cells else []
    if not found:
        return None
    (image, *others), axes = {name for name, _, _ in found}, tuple(axis for _, axis, _ in found)
    return None if others else _larger(pair, native, image, axes, [number for _, _, number in found])


def small_cells(setting: Setting) -> tuple[HeadLink, tuple[int, ...]] | None:
    """The head whose answers need its map alone, and the size of the map of which it makes CELLS cells.

    None where no free input grows that map.
    """
    if not setting.heads:
        return None
    head = _head(setting)
    spatial = len(setting.candidate_facts.value(head.read_map).shape or ()) - 2
    cells = CELLS.get(spatial)
    wanted = _map_of(head, cells) if cells else ()
    return (head, wanted) if len(wanted) == spatial and _grown(setting, wanted) else None


def _grown(setting: Setting, wanted: Sequence[int]) -> list[tuple[str, int, int]]:
    """(input, axis, size) for each axis of the map to be as long as wanted; [] where that can't be."""
    sizes = (setting.candidate_facts.value(_head(setting).read_map).shape or ())[2:]
    bound = [inputs.solved(size, number) for size, number in zip(sizes, wanted, strict=True)]
    found = _places(setting, [place for place in bound if place is not None])
    return found if len(found) == len(sizes) else []


def _head(setting: Setting) -> HeadLink:
    """The last head behind whose map the outputs need nothing else of the image; the last where none is so.

    Layers inside the backbone (squeeze-excitation, blocks with a residual) are heads, too.
    """
    heads = setting.heads
    return next((head for head in reversed(heads) if not _read_beside(setting, head)), heads[-1])


def _read_beside(setting: Setting, head: HeadLink) -> list[str]:
    """Inputs that the map of a head is made from, and whose numbers the outputs read beside it as well."""
    original = setting.original
    part = _part(setting, head)
    made_from = sources(original, [head.feature_map]) - set(original.graph.initializers)
    names = [info.name for info in part.graph.inputs if info.name in made_from - {head.feature_map}]
    return [name for name in names if not _sizes_only(part, name)]


def _part(setting: Setting, head: HeadLink) -> Model:
    """The original behind the map of a head."""
    names = outputs_behind(setting.original, head, setting.interface.outputs)
    return cut(setting.original, {head.feature_map: 1}, names)


def _sizes_only(part: Model, name: str) -> bool:
    """Whether nothing but the sizes of an input is asked for."""
    return all(node.op in ("Shape", "Size") for node in part.graph.nodes if name in reads(node))


def _map_of(head: HeadLink, cells: tuple[int, ...]) -> tuple[int, ...]:
    """The feature map of which the head makes that many cells (one, where its pool stays global)."""
    if head.pool is not None and head.pool_kernel is None:
        return cells
    window = head.window or head.layers[0].kernel
    steps = head.dilations or (1,) * len(cells)
    return tuple(step * (size + more - 2) + 1 for size, more, step in zip(window, cells, steps, strict=False))


def _places(setting: Setting, bound: Sequence[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """(input, axis, number) of each symbol, where it stands for one axis of one input."""
    infos = fed(setting.candidate).values()
    given = (InputPair(info.name, info.type.dtype, declared(info) or ()) for info in infos)
    free = {
        (one.name, axis): inputs.symbol_of(one, axis)
        for one in given
        for axis, size in enumerate(one.sizes)
        if not isinstance(size, int)
    }
    found: list[tuple[str, int, int]] = []
    for name, number in bound:
        where = [place for place, symbol in free.items() if symbol == name]
        found += [(*where[0], number)] if len(where) == 1 else []
    return found


def _larger(
    pair: Pair, native: Draw, image: str, axes: tuple[int, ...], size: Sequence[int]
) -> Larger | None:
    if image not in native.shapes:
        return None
    grown = dict(zip(axes, size, strict=True))
    shape = tuple(grown.get(axis, number) for axis, number in enumerate(native.shapes[image]))
    draw = Draw(pair.setting.request.seed, "signed", {**native.shapes, image: shape})
    return Larger(image, axes, draw)


def feeds(pair: Pair, larger: Larger, native: Draw) -> Feeds:
    """The inputs at the larger size: a seeded image, every other input as in the native trial."""
    setting = pair.setting
    grown = [p for p in setting.inputs if p.name == larger.image]
    others = inputs.feeds(native, setting.inputs, setting.ranges)
    return {**others, **inputs.feeds(larger.draw, grown, setting.ranges)}


def unasked(pair: Pair, larger: Larger | None, native: Draw, notes: list[str]) -> tuple[DenseResult, ...]:
    """The check on a small map, for a conversion whose input may be larger."""
    if larger is None or pair.setting.request.dense:
        return ()
    shared = _shared_scale(pair)
    if shared:
        notes.append(
            f"not run at {larger.text}: {shared} takes one scale from all windows together, so "
            "no limit holds for one of them; the native size was compared"
        )
        return ()
    try:
        return (_checked(pair, larger, native, notes, border=False),)
    except (RuntimeFailure, UsageError) as error:
        if not pair.second.worker.alive:
            raise
        own = _refusal(pair, larger, native)
        notes.append(f"not run at {larger.text}: {(own or error).message}")
        missed = DenseResult(larger.size, 0, inf, 0.0, None, False, inf, "where the original runs")
        return () if own is None else (missed,)


def _refusal(pair: Pair, larger: Larger, native: Draw) -> RuntimeFailure | None:
    """Why the candidate doesn't run at a larger size at which the original's layers in front of heads do."""
    setting, given = pair.setting, feeds(pair, larger, native)
    try:
        pair.candidate(given, list(setting.interface.outputs), pair.level)
    except RuntimeFailure as error:
        maps = list(dict.fromkeys(head.feature_map for head in setting.heads))
        runs = dense.front_runs(setting.original, larger.image, given, maps, pair.first, setting.folder)
        return error if runs else None
    return None


def _shared_scale(pair: Pair) -> str:
    """A node behind the feature map that quantizes by the numbers it meets; "" where there is none."""
    head, original = _head(pair.setting), pair.setting.original
    part = cut(original, {head.feature_map: 1}, [info.name for info in original.graph.outputs])
    found = (node for node in part.graph.nodes if node.op.startswith("DynamicQuantize"))
    return next((f"{node.op} {node.name or node.outputs[0]}" for node in found), "")


def shown(size: Sequence[int]) -> str:
    """Sizes as they are typed: 384x384."""
    return "x".join(map(str, size))


def require(setting: Setting) -> None:
    """Raise UsageError where a size can't be checked, or none: no conversion of a head on one map."""
    where = setting.request.candidate
    if not setting.heads:
        raise UsageError("--dense needs a candidate that onnxscope converted", where=where)
    image, axes = _image(setting)
    _windowed(setting)
    least = _least(setting, image, axes)
    for size in setting.request.dense:
        if any(number < smallest for number, smallest in zip(size, least, strict=True)):
            said = f"--dense {shown(size)}: the smallest input is {shown(least)}"
            raise UsageError(said, where=where)


def _least(setting: Setting, image: str, axes: Sequence[int]) -> tuple[int, ...]:
    """The smallest size that the candidate takes; 1 for an axis of which it isn't known."""
    known = closed_forms(setting.candidate_facts).minimum_input
    found = _places(setting, [(name, number) for name, number in known.items() if number])
    least = {axis: number for name, axis, number in found if name == image}
    return tuple(least.get(axis, 1) for axis in axes)


def _windowed(setting: Setting) -> HeadLink:
    """The head whose windows tell its outputs. Raises UsageError where those of no one map do."""
    head, where = _head(setting), setting.request.candidate
    beside = _read_beside(setting, head)
    if beside:
        raise UsageError(
            f"behind the map {head.feature_map} the outputs read {beside[0]} in another way, too, so "
            "windows of that map alone don't give them",
            where=where,
            help="without --dense the native size is compared",
        )
    if head.several:
        raise UsageError("the head reads several maps, and windows are cut from one", where=where)
    return head


def check(pair: Pair, size: tuple[int, int], native: Draw, notes: list[str]) -> DenseResult:
    """The candidate at one input size against the original's head on all windows, and on all image crops.

    `native` is a trial at the size that the original takes. Raises UsageError where no output is a map there.
    """
    image, axes = _image(pair.setting)
    larger = _larger(pair, native, image, axes, size)
    if larger is None:
        raise UsageError(f"--dense: no trial has the input {image}")
    return _checked(pair, larger, native, notes, border=True)


def _image(setting: Setting) -> tuple[str, tuple[int, ...]]:
    """The input with height and width, and where these are: free axes that the map depends on, else NCHW."""
    found = [p for p in setting.inputs if len(p.sizes) == 4]
    if len(found) != 1:
        raise UsageError("--dense needs exactly one input with height and width")
    shape = setting.candidate_facts.value(_head(setting).read_map).shape or ()
    free = [(s.name, 0) for size in shape[2:] if isinstance(size, Expr) for s in symbols(size)]
    places = _places(setting, list(dict.fromkeys(free)))
    axes = tuple(axis for name, axis, _ in places if name == found[0].name)
    return found[0].name, axes if len(axes) == 2 else (2, 3)


def _checked(pair: Pair, larger: Larger, native: Draw, notes: list[str], *, border: bool) -> DenseResult:
    setting, head = pair.setting, _windowed(pair.setting)
    names = outputs_behind(setting.original, head, setting.interface.outputs)
    setting.progress(f"dense {larger.text}")
    parts = rounded.pieces(setting.original, setting.candidate, head, names) if setting.quantized else ()
    given = feeds(pair, larger, native)
    read = list(dict.fromkeys([head.read_map, *rounded.names(parts), *names]))
    found = pair.candidate(given, read, pair.level)
    outputs = {name: found[name] for name in names if _is_map(setting, name, found[name], head)}
    if not outputs:
        raise UsageError(
            "no output of the candidate is a map at this size",
            where=setting.request.candidate,
            help="convert with --output map --size dynamic",
        )
    options: dict[str, Any] = {
        "folder": setting.folder,
        "seed": setting.request.seed,
        "batch": pair.setting.baked_batch,
        "others": _others(setting, head, larger, given, native),
        "arithmetic": setting.arithmetic(tf32=pair.tf32),
        "quantized": setting.quantized,
    }
    result = dense.window_check(setting.original, head, found[head.read_map], outputs, pair.first, **options)
    if parts and not result.comparison.ok:
        result = rounded.judged(pair, head, parts, found, result, f"dense {larger.text}", notes)
    outcome = result.comparison
    if head.dilations:
        image = {larger.image: given[larger.image]}
        compared = [head.read_map, *([] if parts else outputs)]
        cells = setting.at_common({name: found[name] for name in compared})
        cells[head.feature_map] = cells.pop(head.read_map)
        outcome = outcome.merged(_common(pair, image, cells, options, larger.text, notes))
    effect, timed = crops.compared(pair, larger, given, native, outputs, notes) if border else (None, None)
    numbers = outcome.max_abs, outcome.limit, effect, outcome.ok, outcome.ratio, result.limit_from
    return DenseResult(larger.size, result.windows, *numbers, timed)


def _others(setting: Setting, head: HeadLink, larger: Larger, given: Feeds, native: Draw) -> dict[str, Array]:
    """What else the head reads: other inputs, and a blank image of the native size, if it asks for sizes."""
    found = {name: value for name, value in given.items() if name != larger.image}
    asked = {info.name for info in _part(setting, head).graph.inputs} - {head.feature_map}
    if larger.image in asked:
        found[larger.image] = np.zeros((1, *native.shapes[larger.image][1:]), given[larger.image].dtype)
    return found


def outputs_behind(original: Model, head: HeadLink, outputs: Collection[str]) -> list[str]:
    """Outputs behind the head: the map itself, or one made in front of it, is no answer about windows."""
    made = {layer.output for layer in head.layers}
    names = (info.name for info in original.graph.outputs if info.name in outputs)
    return [name for name in names if made & sources(original, [name])]


def _common(
    pair: Pair,
    image: dict[str, Any],
    cells: dict[str, Any],
    options: dict[str, Any],
    size: str,
    notes: list[str],
) -> Comparison:
    """A denser map at the cells that the original has, too, from the image on."""
    try:
        found = dense.common_check(
            pair.setting.original, _head(pair.setting), image, cells, pair.first, **options
        )
    except RuntimeFailure:
        if not pair.first.worker.alive:
            raise
        notes.append(f"dense {size}: the original doesn't run in front of its head, which alone was compared")
        return Comparison()
    equal = "equal" if found.comparison.ok else "differ from"
    notes.append(f"dense {size}: {found.windows} cells {equal} the original's own map, from the image on")
    return found.comparison


def _is_map(setting: Setting, name: str, value: Any, head: HeadLink) -> bool:
    """Whether an output has the spatial axes of the feature map; not those of the original's own sequence."""
    own = setting.facts.value(name).shape or ()
    spatial = len(head.window or head.layers[0].kernel)
    sequence = len(own) == 2 + spatial and any(size != 1 for size in own[2:])
    return isinstance(value, np.ndarray) and value.ndim == 2 + spatial and not sequence
