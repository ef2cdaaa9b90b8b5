"""The dense check: a converted head on a larger map against the original head on each of its windows.

On windows of the feature map the two must agree, whatever the padding in front. Against the original network
on crops of the image they agree only where nothing in front pads: a crop has borders of its own. That border
effect is measured, never judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING

import numpy as np

from onnxscope import dtypes
from onnxscope.analysis import cost
from onnxscope.analysis.shapes import infer
from onnxscope.errors import RuntimeFailure
from onnxscope.graph import Model
from onnxscope.proof import jitter, noise
from onnxscope.proof.extract import cut, runnable
from onnxscope.proof.interface import fed
from onnxscope.proof.limits import FLOAT32, Arithmetic, Comparison, compare
from onnxscope.proof.links import HeadLink
from onnxscope.proof.windows import windows

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array, Floats
    from onnxscope.proof.runner import Optimization, Runnable, Runner

_CHUNK = 64
"""Windows that the original's head sees at once, where its batch is free."""


@dataclass(frozen=True, slots=True)
class WindowCheck:
    """The head on every window of a map."""

    windows: int
    comparison: Comparison
    limit_from: str


@dataclass(frozen=True, slots=True)
class BorderEffect:
    """Cells of a dense map against the original network on the image crops that they see."""

    largest: float
    """Largest absolute difference."""
    by_cell: Floats
    """Largest absolute difference of each cell, [*S']."""
    equal: int
    """Cells with no more difference than rounding explains: padding didn't reach them."""
    argmax_agreement: float
    """Share of cells with the same largest class."""


def window_check(
    original: Model,
    head: HeadLink,
    feature_map: Array,
    results: Mapping[str, Array],
    runner: Runner,
    *,
    folder: str,
    seed: int = 0,
    batch: int | None = None,
    others: Mapping[str, Array] | None = None,
    arithmetic: Arithmetic = FLOAT32,
    quantized: bool = False,
) -> WindowCheck:
    """The original's head on every window of `feature_map` against the candidate's `results` there.

    `feature_map` [N, C, *S] is the candidate's value of `head.read_map`; `results` maps output names to
    the candidate's values [N, F, *S']. `batch` is the batch size that the original bakes in (None: any);
    `others` are further inputs that its head needs. The limit comes from the jitter check of the head alone,
    over all windows; a `quantized` head runs as it is written, and must give the same steps. `folder` is a
    scratch directory.
    """
    window = _window(head, feature_map)
    view = rows_of_windows(feature_map, window, head.dilations)
    order = _order(len(feature_map), len(view), batch)
    part = cut(original, {head.feature_map: _code(feature_map)}, list(results))
    level: Optimization = "steps" if quantized else "all"

    def over_all(parts: Sequence[Model]) -> dict[str, Array]:
        given = runnable(parts[0], folder)
        given_rows = head.original(view[order])
        found = _chunked(
            given, head.feature_map, given_rows, list(results), runner, batch, others or {}, level
        )
        return {name: value[np.argsort(order)] for name, value in found.items()}

    return _judged((part,), over_all, results, len(window), seed, arithmetic, len(view), quantized)


def common_check(
    original: Model,
    head: HeadLink,
    image: Mapping[str, Array],
    values: Mapping[str, Array],
    runner: Runner,
    *,
    folder: str,
    seed: int = 0,
    batch: int | None = None,
    others: Mapping[str, Array] | None = None,
    arithmetic: Arithmetic = FLOAT32,
    quantized: bool = False,
) -> WindowCheck:
    """The original's own feature map of a larger `image`, its head on each window, against the candidate.

    For a denser map: `values` are the candidate's feature map and outputs at the common cells alone; without
    outputs the maps are compared. Layers in front of the head are compared as well, at every cell that the
    original has. Raises RuntimeFailure where the original's layers in front of the head don't run at that
    size.
    """
    feature_map = values[head.feature_map]
    results = {name: value for name, value in values.items() if name != head.feature_map} or dict(values)
    front = cut(original, {name: _code(value) for name, value in image.items()}, [head.feature_map])
    back = cut(original, {head.feature_map: _code(feature_map)}, list(results))
    window = _window(head, feature_map)
    level: Optimization = "steps" if quantized else "all"

    def own_map(front: Model) -> Array:
        given = {**image, **(others or {})}
        found = runner.run(runnable(front, folder), given, [head.feature_map], optimization=level)
        return head.candidate(np.asarray(found[head.feature_map]))

    def over_all(parts: Sequence[Model]) -> dict[str, Array]:
        own = own_map(parts[0])
        if head.feature_map in results:
            return {head.feature_map: cells(own, len(window))}
        view = head.original(rows_of_windows(own, window, ()))
        given = runnable(parts[1], folder)
        return _chunked(given, head.feature_map, view, list(results), runner, batch, others or {}, level)

    cells_of_map = prod(next(iter(results.values())).shape[2:])
    if any(size < wide for size, wide in zip(own_map(front).shape[2:], window, strict=False)):
        return WindowCheck(
            cells_of_map, Comparison(cells_of_map, inf, inf, 0.0), "the original has no map there"
        )
    return _judged((front, back), over_all, results, len(window), seed, arithmetic, cells_of_map, quantized)


def front_runs(
    original: Model, image: str, feeds: Mapping[str, Array], maps: Sequence[str], runner: Runner, folder: str
) -> bool:
    """Whether the original makes its maps of an image that is larger than the file declares."""
    part = cut(original, {image: _code(feeds[image])}, maps)
    try:
        runner.run(runnable(part, folder), {name: feeds[name] for name in fed(part)}, list(maps))
    except RuntimeFailure:
        return False
    return True


def _judged(
    parts: Sequence[Model],
    over_all: Callable[[Sequence[Model]], dict[str, Array]],
    results: Mapping[str, Array],
    spatial: int,
    seed: int,
    arithmetic: Arithmetic,
    count_of_windows: int,
    quantized: bool,
) -> WindowCheck:
    """What parts of the original give on all windows against `results`, with the limit of their jitter."""
    expected = over_all(parts)
    runs = 0 if quantized else max(jitter.runs_for(value.size) for value in expected.values())
    moved, words = [expected] * quantized, ""
    while len(moved) < runs:
        drawn = [noise.jittered(part, arithmetic, seed=seed, run=len(moved)) for part in parts]
        moved.append(over_all([part for part, _ in drawn]))
        words = max(said for _, said in drawn)
        runs = jitter.RUNS if words else runs
    count = sum(value.size for value in expected.values())
    total = Comparison()
    for name, value in expected.items():
        given = cells(results[name], spatial)
        if given.size != value.size:  # a stride or a pad too many: another number of cells
            total = total.merged(Comparison(given.size, inf, inf, 0.0))
            continue
        allowed = jitter.limit(value, [run[name] for run in moved], values=count, arithmetic=arithmetic)
        total = total.merged(compare(given.reshape(value.shape), value, allowed))
    text = "0 steps at optimisation level none: 4u max|y|, u = 2^-24"
    if not quantized:
        text = jitter.limit_from(parts[-1], runs, seed, values=count, arithmetic=arithmetic) + words
    return WindowCheck(count_of_windows, total, text)


def rows_of_windows(value: Array, window: Sequence[int], dilations: Sequence[int]) -> Array:
    """Every window of a map as one entry, [R, C, *window]."""
    view = windows(value, window, dilations)
    return view.reshape(-1, *view.shape[1 + len(window) :])


def _code(value: Array) -> int:
    """The element type of an array."""
    return dtypes.BY_NAME[value.dtype.name].code


def _order(images: int, windows: int, batch: int | None) -> Array:
    """Windows in the order in which the original sees them: at a baked batch, one of each image at a time."""
    places = np.arange(windows)
    return places.reshape(images, -1).T.reshape(-1) if batch == images else places


def _window(head: HeadLink, feature_map: Array) -> tuple[int, ...]:
    """The native window; the whole map for a global pool, the first kernel where no size is native."""
    if head.pool is not None and head.pool_kernel is None:
        return feature_map.shape[2:]
    return head.window or head.layers[0].kernel


def on_rows(
    original: Model,
    name: str,
    rows: Array,
    outputs: Sequence[str],
    runner: Runner,
    *,
    folder: str,
    batch: int | None,
) -> dict[str, Array]:
    """What the original, as written, makes of many values [R, ...] of one name."""
    part = runnable(cut(original, {name: _code(rows)}, outputs), folder)
    return _chunked(part, name, rows, outputs, runner, batch, {}, "steps")


def _chunked(
    model: Runnable,
    name: str,
    view: Array,
    outputs: Sequence[str],
    runner: Runner,
    batch: int | None,
    others: Mapping[str, Array],
    level: Optimization = "all",
) -> dict[str, Array]:
    """Outputs for all windows [R, C, *window], in chunks; a last chunk is filled up to a baked batch size."""
    size = batch or _CHUNK
    parts: list[dict[str, Array]] = []
    for start in range(0, len(view), size):
        chunk = np.ascontiguousarray(view[start : start + size])
        missing = size - len(chunk) if batch else 0
        filled = np.concatenate([chunk, np.repeat(chunk[-1:], missing, 0)]) if missing else chunk
        given = {n: _repeated(value, len(filled)) for n, value in others.items()}
        found = runner.run(model, {name: filled, **given}, outputs, optimization=level)
        parts.append({output: np.asarray(value)[: len(chunk)] for output, value in found.items()})
    return {output: np.concatenate([part[output] for part in parts]) for output in outputs}


def _repeated(value: Array, count: int) -> Array:
    """An input of one image for each of `count` windows."""
    return np.repeat(value, count, 0) if value.ndim > 1 and len(value) == 1 else value


def cells(value: Array, spatial: int) -> Array:
    """A map [N, F, ..., *S'] as [N * prod(S'), F, ...]: one entry per cell, in row-major order.

    A value without spatial axes behind axis 1 stays as it is: it has one cell per image.
    """
    if value.ndim < 2 + spatial:
        return value
    axes = range(value.ndim - spatial, value.ndim)
    moved = np.moveaxis(value, list(axes), list(range(1, 1 + spatial)))
    return moved.reshape(-1, *moved.shape[1 + spatial :])


def border_effect(
    model: Runnable,
    image: str,
    value: Array,
    output: str,
    dense_map: Array,
    native: Sequence[int],
    stride: Sequence[int],
    runner: Runner,
    *,
    batch: int | None = None,
    others: Mapping[str, Array] | None = None,
    axes: Sequence[int] = (),
) -> BorderEffect:
    """The original `model` on every crop of one image [1, C, *S] against the candidate's map [1, F, *S'].

    `axes` are the image's spatial axes where they aren't the last ones. Cell (i, j) sees the crop of size
    `native` at (i, j) * `stride`, both in pixels. Equal cells are those whose difference is below 1e-4 of the
    largest output: a description, not a verdict.
    """
    spatial = len(native)
    shape = dense_map.shape[-spatial:]
    places = list(np.ndindex(*shape))
    last = tuple(range(value.ndim - spatial, value.ndim))
    image_last = np.moveaxis(value, tuple(axes) or last, last)
    crops = np.stack([_crop(image_last[0], place, native, stride) for place in places])
    crops = np.moveaxis(crops, last, tuple(axes) or last)
    on_crops = _chunked(model, image, crops, [output], runner, batch, others or {})[output]
    on_map = cells(dense_map, spatial).reshape(on_crops.shape)
    gap = np.abs(on_map.astype(np.float64) - on_crops).reshape(len(places), -1)
    worst: Floats = gap.max(1) if gap.size else np.zeros(len(places))
    scale = float(np.abs(on_crops).max()) if on_crops.size else 0.0
    same = _classes(on_map) == _classes(on_crops)
    return BorderEffect(
        float(worst.max()),
        worst.reshape(shape),
        int(np.count_nonzero(worst <= 1e-4 * scale)),
        float(np.mean(same)),
    )


def _classes(value: Array) -> Array:
    return np.asarray(value.reshape(len(value), -1).argmax(1))


def _crop(image: Array, place: Sequence[int], native: Sequence[int], stride: Sequence[int]) -> Array:
    cuts = tuple(
        slice(at * step, at * step + size) for at, step, size in zip(place, stride, native, strict=True)
    )
    crop = image[(slice(None), *cuts)]
    if crop.shape[1:] != tuple(native):
        raise ValueError(f"cell {tuple(place)} sees a crop that leaves the image")
    return crop


def predicted_speedup(
    original: Model,
    candidate: Model,
    crop_shapes: Mapping[str, tuple[int | str, ...]],
    dense_shapes: Mapping[str, tuple[int | str, ...]],
    windows: int,
    dims: Mapping[str, int] | None = None,
) -> float | None:
    """MACs of the original on all crops over MACs of the candidate on the whole image.

    Both by the operator rules; None where either count stays open.
    """
    counts = [
        cost.count(infer(model, shapes=dict(shapes), dims=dict(dims or {})))
        for model, shapes in ((original, crop_shapes), (candidate, dense_shapes))
    ]
    before, after = (found.total for found in counts)
    if not isinstance(before, int) or not isinstance(after, int) or not after:
        return None
    return windows * before / after
