"""Whole files on seeded inputs: sizes that both models take, every trial, limits from the jitter check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope.analysis.spatial import closed_forms
from onnxscope.errors import RuntimeFailure
from onnxscope.expr import Expr, bind, symbols
from onnxscope.proof import given, inputs, jitter
from onnxscope.proof.compare import Tally, aligned, tolerance
from onnxscope.proof.extract import runnable
from onnxscope.proof.inputs import Draw, Feeds
from onnxscope.proof.limits import DELTA, Arithmetic
from onnxscope.proof.result import OutputResult, Trial
from onnxscope.proof.setting import Pair, Setting

USUAL_SIZES = (224, 32, 28, 64, 48, 24, 96, 112, 128, 160, 192, 227, 240, 256, 299, 320, 384, 512)
"""Input heights and widths to try where a file doesn't tell which it takes."""
_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class Drawn:
    """A trial with its inputs and what both models made of them."""

    draw: Draw
    feeds: Feeds
    original: dict[str, Any]
    candidate: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outputs of all trials, compared."""

    trials: tuple[Trial, ...]
    outputs: tuple[OutputResult, ...]
    drawn: tuple[Drawn, ...]
    values: int
    """N, the number of values compared."""
    worst: int = 0
    """Index of the trial in which an output came nearest to its limit, or went farthest beyond it."""


def planned(pair: Pair) -> list[Draw]:
    """Every trial: the user's files, else seeded draws at every size that both models take."""
    setting = pair.setting
    if setting.request.inputs is not None:
        return list(given.trials(setting.request.inputs, setting.inputs, setting.request.seed))
    sizes = usable_sizes(pair)
    count, seed = setting.request.trials, setting.request.seed
    found = list(inputs.draws(setting.inputs, count, seed, sizes))
    return _with_free_batch(pair, found)


def _with_free_batch(pair: Pair, found: list[Draw]) -> list[Draw]:
    """Where a declared batch symbol is in truth baked into the graph, only the batch that runs is kept."""
    accepted: dict[tuple[object, ...], bool] = {}
    for draw in found:
        if draw.key not in accepted:
            accepted[draw.key] = _runs(pair, draw) is not None
    kept = [draw for draw in found if accepted[draw.key]]
    return kept or found


def usable_sizes(pair: Pair) -> list[dict[str, int]]:
    """Sizes of the free axes: the first at which both models give outputs of one shape, and a larger one."""
    setting = pair.setting
    axes = inputs.axes_of(setting.inputs)
    base = dict.fromkeys(axes.batch, 1) | dict.fromkeys(axes.other, inputs.LENGTH)
    if not axes.spatial:
        return [base]
    tried = [base | sizes for sizes in _spatial_sizes(setting, axes.spatial)]
    agreed = next((sizes for sizes in tried if _agree(pair, sizes)), None)
    if agreed is None:
        runs = next((sizes for sizes in tried if _runs(pair, _probe(pair, sizes)) is not None), tried[0])
        return [runs]
    larger = {name: agreed[name] + 32 * (1 + place % 2) for place, name in enumerate(axes.spatial)}
    return [agreed, *([agreed | larger] if _agree(pair, agreed | larger) else [])]


def _spatial_sizes(setting: Setting, names: Sequence[str]) -> Iterator[dict[str, int]]:
    """Candidates, likeliest first: the size that the head's window implies, the smallest, usual ones."""
    implied = _implied(setting, names)
    if implied:
        yield implied
    if not setting.heads:
        smallest = closed_forms(setting.facts).minimum_input
        yield {name: max(32, smallest.get(name) or 0) for name in names}
    for size in USUAL_SIZES:
        yield dict.fromkeys(names, size)


def _implied(setting: Setting, names: Sequence[str]) -> dict[str, int]:
    """The input size at which the feature map of the first head is as large as its window; {} if unknown."""
    found: dict[str, int] = {}
    for head in setting.heads[:1]:
        shape = setting.facts.value(head.feature_map).shape
        for size, wanted in zip((shape or ())[2:], head.window, strict=False):
            free = [s.name for s in symbols(size)] if isinstance(size, Expr) else []
            if len(free) == 1 and free[0] in names:
                fits = (n for n in range(1, _LARGEST) if bind(size, {free[0]: n}) == wanted)
                native = next(fits, None)
                found.update({free[0]: native} if native else {})
    return found if set(found) == set(names) else {}


def _probe(pair: Pair, sizes: Mapping[str, int]) -> Draw:
    family = "signed" if any(p.dtype in (1, 10, 11) for p in pair.setting.inputs) else "integers"
    return Draw(pair.setting.request.seed, family, inputs.shapes_at(pair.setting.inputs, sizes))


def _agree(pair: Pair, sizes: Mapping[str, int]) -> bool:
    found = _runs(pair, _probe(pair, sizes))
    return found is not None and all(_same_shape(*values) for values in found)


def _same_shape(left: Any, right: Any) -> bool:
    return not isinstance(left, np.ndarray) or aligned(left, np.asarray(right)) is not None


def _runs(pair: Pair, draw: Draw) -> list[tuple[Any, Any]] | None:
    """Both models' outputs, or None where either refuses the size (a crash or time-out is raised)."""
    setting = pair.setting
    feeds = inputs.feeds(draw, setting.inputs, setting.ranges)
    names = list(setting.interface.outputs)
    try:
        left, right = _both(pair, feeds, names)
    except RuntimeFailure:
        if not pair.first.worker.alive:
            raise
        return None
    return [(left[name], right[name]) for name in names]


def _both(pair: Pair, feeds: Feeds, names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both models' outputs; of a denser map the cells that the original has."""
    left, right = (run(feeds, names, pair.level) for run in (pair.original, pair.candidate))
    return left, pair.setting.at_common(right)


def compared(pair: Pair) -> Outcome:
    """Run and compare every trial. Raises RuntimeFailure where the runtime can't."""
    setting = pair.setting
    names = list(setting.interface.outputs)
    drawn: list[Drawn] = []
    for draw in planned(pair):
        setting.progress(f"{draw.family}, seed {draw.seed}")
        feeds = inputs.feeds(draw, setting.inputs, setting.ranges)
        left, right = _both(pair, feeds, names)
        drawn.append(Drawn(draw, feeds, left, right))
    values = sum(_size(trial.original[name]) for trial in drawn for name in names)
    tallies = {name: Tally(name) for name in names}
    bounds = _bounds(pair, drawn, names, max(1, values))
    shares: list[float] = []
    for number, trial in enumerate(drawn):
        for name in names:
            limit, source = bounds(name, number)
            tallies[name].limit_from = source
            tallies[name].add(trial.original[name], trial.candidate[name], limit)
        shares.append(max((tally.result().would_pass_at for tally in tallies.values()), default=0.0))
    worst = shares.index(max(shares)) if shares else 0
    trials = tuple(Trial(t.draw.seed, t.draw.family, dict(t.draw.shapes)) for t in drawn)
    return Outcome(trials, tuple(tally.result() for tally in tallies.values()), tuple(drawn), values, worst)


def _size(value: Any) -> int:
    return int(value.size) if isinstance(value, np.ndarray) else 1


class _Limits:
    """The limit of one output in one trial, and where it comes from."""

    def __init__(self, pair: Pair, drawn: Sequence[Drawn], names: Sequence[str], values: int) -> None:
        self._drawn, self._values = drawn, values
        request = pair.setting.request
        self._rtol, self._atol = request.rtol, request.atol
        self._own = request.rtol is not None or request.atol is not None
        self._steps = pair.setting.quantized and not self._own
        self._runs: list[list[dict[str, Any]]] = []
        self._arithmetic = pair.setting.arithmetic(tf32=pair.tf32)
        self._source = "0 steps at optimisation level none: 4u max|y|, u = 2^-24"
        if not (self._own or self._steps):
            self._runs = jittered_runs(pair, drawn, names, self._arithmetic)
            self._source = jitter.limit_from(
                pair.setting.original,
                len(self._runs),
                request.seed,
                values=values,
                arithmetic=self._arithmetic,
            )
            if pair.level == "basic":
                self._source += "; basic optimisation, no prepacking"

    def __call__(self, name: str, number: int) -> tuple[Any, str]:
        value = self._drawn[number].original[name]
        if self._own:
            return tolerance(value, self._rtol, self._atol), "atol + rtol |original|, as asked for"
        base, picks = _numeric(value), [_numeric(run[number][name]) for run in self._runs]
        if base is None:
            return 0.0, "exact: no numbers"
        usable = [pick for pick in picks if pick is not None and pick.shape == base.shape]
        if self._steps or not usable:
            finite = np.abs(base.astype(np.float64))[np.isfinite(base.astype(np.float64))]
            floor = 4 * self._arithmetic.unit * float(finite.max()) if finite.size else 0.0
            return 0.0 if base.dtype.kind in "iub" else floor, self._source
        limit = jitter.limit(base, usable, values=self._values, arithmetic=self._arithmetic, delta=DELTA)
        return limit if isinstance(value, np.ndarray) else float(limit.max(initial=0.0)), self._source


def _bounds(pair: Pair, drawn: Sequence[Drawn], names: Sequence[str], values: int) -> _Limits:
    return _Limits(pair, drawn, names, values)


def _numeric(value: Any) -> Any:
    """The numbers of an output as one array; None for texts. Lists and maps are flattened."""
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "fiub" or value.dtype.name == "bfloat16" else None
    parts = [_numeric(item) for item in _items(value)]
    if isinstance(value, int | float):
        return np.asarray([value])
    if not parts or any(part is None for part in parts):
        return None
    return np.concatenate([np.reshape(part, -1) for part in parts])


def _items(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def jittered_runs(
    pair: Pair, drawn: Sequence[Drawn], names: Sequence[str], arithmetic: Arithmetic
) -> list[list[dict[str, Any]]]:
    """Outputs of the jittered originals, by run and trial; [] where no weight can be jittered."""
    setting = pair.setting
    if not drawn or not jitter.weights(setting.original):
        return []
    smallest = min((_size(drawn[0].original[name]) for name in names), default=0)
    pair.relieve()
    found: list[list[dict[str, Any]]] = []
    for run in range(jitter.runs_for(smallest)):
        setting.progress(f"jittered weights, run {run + 1}")
        changed = jitter.jittered(setting.original, arithmetic, seed=setting.request.seed, run=run)
        model = runnable(changed, setting.folder)
        found.append([pair.first.run(model, trial.feeds, names, optimization=pair.level) for trial in drawn])
        discard(model)
        pair.relieve()
    return found


def discard(model: bytes | str) -> None:
    """Remove the files of a model that `runnable` wrote."""
    import contextlib
    import os

    if isinstance(model, str):
        for path in (model, f"{model}.data"):
            with contextlib.suppress(OSError):
                os.unlink(path)
