"""Whole files on seeded inputs: sizes that both models take, every trial, limits from the jitter check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxscope.analysis.spatial import closed_forms
from onnxscope.errors import RuntimeFailure
from onnxscope.graph import Model
from onnxscope.proof import given, inputs, jitter, local
from onnxscope.proof.bits import same_bits
from onnxscope.proof.compare import ASKED, Tally, aligned, tolerance
from onnxscope.proof.extract import sources
from onnxscope.proof.inputs import Draw, Feeds
from onnxscope.proof.jitter_runs import jittered_runs
from onnxscope.proof.limits import DELTA
from onnxscope.proof.result import OutputResult, Trial
from onnxscope.proof.setting import Pair, Setting

USUAL_SIZES = (224, 32, 28, 64, 48, 24, 96, 112, 128, 160, 192, 227, 240, 256, 299, 320, 384, 512)
"""Input heights and widths to try where a file doesn't tell which it takes."""
INNER_BYTES = 256 << 20
"""Values of a heavy model that one run may have to hold at once, all layers compared."""
UNSURE = 100.0
"""Up to so many times a limit out of few jittered runs, the verdict waits for as many as small outputs have.

Two runs that both move an element by less than 1/q of its spread happen once in q^2: of a saturated softmax,
where few elements move at all, pooling doesn't make up for that.
"""
HEADS = 4
"""Up to so many heads of a heavy conversion, the values that their checks need come from the trials' runs."""


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
    still: bool = False
    """Whether no output moved in any jittered run: a saturated softmax, an index of a class."""
    jittered: tuple[dict[str, Any], ...] = ()
    """What the jittered runs made of the first trial; of a heavy model also values that --layers compares."""
    limit_from: str = ""
    """How limits are computed."""


def planned(pair: Pair) -> list[Draw]:
    """Every trial: the user's files, else seeded draws at every size that both models take."""
    setting = pair.setting
    if setting.request.inputs is not None:
        return list(given.trials(setting.request.inputs, setting.inputs, setting.request.seed))
    count, seed = setting.request.trials, setting.request.seed
    return list(inputs.draws(setting.inputs, count, seed, usable_sizes(pair)))


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
            native = inputs.solved(size, wanted)
            found.update([native] if native and native[0] in names else [])
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
    names = list(pair.setting.interface.outputs)
    drawn, refused = _drawn(pair, planned(pair))
    values = sum(_size(trial.original[name]) for trial in drawn for name in names)
    bounds = _Limits(pair, drawn, names, max(1, values))
    tallies, shares = _tallied(drawn, names, bounds)
    if bounds.few and 1 < max(shares, default=0.0) <= UNSURE:
        bounds = _Limits(pair, drawn, names, max(1, values), bounds.runs)
        tallies, shares = _tallied(drawn, names, bounds)
    for tally in tallies.values() if refused else ():
        tally.differs = tally.differs or refused
    worst = shares.index(max(shares)) if shares else 0
    trials = tuple(Trial(t.draw.seed, t.draw.family, dict(t.draw.shapes)) for t in drawn)
    outputs = tuple(tally.result() for tally in tallies.values())
    return Outcome(trials, outputs, tuple(drawn), values, worst, bounds.still, bounds.jittered, bounds.source)


def _tallied(
    drawn: Sequence[Drawn], names: Sequence[str], bounds: _Limits
) -> tuple[dict[str, Tally], list[float]]:
    """Every output over all trials, and the largest share of a limit up to each of them."""
    tallies = {name: Tally(name) for name in names}
    shares: list[float] = []
    for number, trial in enumerate(drawn):
        for name in names:
            limit, source = bounds(name, number)
            tallies[name].limit_from = source
            tallies[name].add(trial.original[name], trial.candidate[name], limit)
        shares.append(max((tally.result().would_pass_at for tally in tallies.values()), default=0.0))
    return tallies, shares


def _inner(pair: Pair, drawn: Sequence[Drawn], names: Sequence[str]) -> list[str]:
    """Values whose limits --layers will ask for, where the first trial has them: one run then serves both."""
    if not (drawn and pair.setting.request.layers and pair.mapped):
        return []
    first, fed = drawn[0], {len(value) for value in drawn[0].feeds.values() if np.ndim(value)}
    values = {name: first.original.get(name) for name in pair.setting.shared if name not in names}
    return [
        name
        for name, value in values.items()
        if isinstance(value, np.ndarray)
        and {len(value) if value.ndim else 0} == fed
        and isinstance(first.candidate.get(name), np.ndarray)
        and not same_bits(value, first.candidate[name])
    ]


def _drawn(pair: Pair, draws: Sequence[Draw]) -> tuple[list[Drawn], str]:
    """Both models on every draw, one model after the other: only one has its weights in memory.

    Where a declared batch symbol is in truth baked into the original, only the batches that run are kept.
    Also what to say of a draw that the original takes and the candidate refuses; "" where there is none.
    """
    setting = pair.setting
    feeds = [inputs.feeds(draw, setting.inputs, setting.ranges) for draw in draws]
    asked = _asked(pair, _watched(pair, setting.original))
    left = _outputs(pair, pair.original, draws, feeds, asked)
    kept = [place for place, found in enumerate(left) if not isinstance(found, RuntimeFailure)]
    draws, feeds = [draws[place] for place in kept], [feeds[place] for place in kept]
    names = _watched(pair, setting.candidate)
    if setting.heavy and len(setting.heads) <= HEADS and not setting.common:
        names = list(dict.fromkeys([*names, *local.names(setting.steps, setting.heads)]))
    right = _outputs(pair, pair.candidate, draws, feeds, _asked(pair, names))
    drawn, refused = [], ""
    for draw, fed, place, values in zip(draws, feeds, kept, right, strict=True):
        own = left[place]
        if isinstance(values, RuntimeFailure):
            refused = refused or _refusal(draw, values)
        elif not isinstance(own, RuntimeFailure):
            drawn.append(Drawn(draw, fed, own, setting.at_common(values)))
    return drawn, refused


def _refusal(draw: Draw, error: RuntimeFailure) -> str:
    given = ", ".join(f"{name} {list(shape)}" for name, shape in draw.shapes.items())
    return f"the candidate doesn't run on {given}, the original does ({error.message})"


def _watched(pair: Pair, model: Model) -> list[str]:
    """What to fetch of a model: its outputs; of a heavy conversion also the maps in front of its heads."""
    setting = pair.setting
    names = list(setting.interface.outputs)
    if setting.heavy and len(setting.heads) <= HEADS:
        names += [head.feature_map for head in setting.heads if head.feature_map in model.graph.producers]
    return list(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What to fetch of a model."""

    names: list[str]
    first: list[str]
    """Of the first draw, too: what --layers compares."""
    marked: list[str]
    """Those of `first` of which equality is enough."""


def _asked(pair: Pair, names: list[str]) -> _Asked:
    """`names`, and for --layers of a heavy model the values behind its heads, marks of those in front.

    One run then serves outputs and values. Nothing more where all values together may be too large for that.
    """
    setting = pair.setting
    wanted = setting.request.layers and pair.mapped and not setting.common
    if not wanted or sum(map(setting.size_of, setting.shared)) > INNER_BYTES:
        return _Asked(names, [], [])
    maps = [head.feature_map for head in setting.heads]
    front = sources(setting.original, maps) if maps else set(setting.shared)
    first = [name for name in setting.shared if name not in names]
    return _Asked(names, first, [name for name in first if name in front])


def _outputs(
    pair: Pair,
    run: Callable[..., dict[str, Any]],
    draws: Sequence[Draw],
    feeds: Sequence[Feeds],
    asked: _Asked,
) -> list[dict[str, Any] | RuntimeFailure]:
    """Values of every draw; the error for a draw whose shapes the model refuses, where it takes others.

    Raises RuntimeFailure where it takes none, where a file of the user's doesn't run, or after a crash.
    """
    found: list[dict[str, Any] | RuntimeFailure] = []
    taken: dict[tuple[object, ...], RuntimeFailure | None] = {}
    for draw, values in zip(draws, feeds, strict=True):
        pair.setting.progress(f"{draw.family}, seed {draw.seed}")
        known = taken.get(draw.key)
        if known is not None:
            found.append(known)
            continue
        try:
            names = [*asked.names, *asked.first]
            found.append(run(values, names, pair.level, watch=True, marked=asked.marked))
        except RuntimeFailure as error:
            if draw.key in taken or draw.given or not pair.first.worker.alive:
                raise
            taken[draw.key] = error
            found.append(error)
        else:
            taken[draw.key] = None
        if asked.first:
            asked = _Asked(asked.names, [], [])
            pair.relieve()  # the next draw's session is another one
    pair.relieve()
    refused = [answer for answer in found if isinstance(answer, RuntimeFailure)]
    if refused and len(refused) == len(found):
        raise refused[0]
    return found


def _size(value: Any) -> int:
    return int(value.size) if isinstance(value, np.ndarray) else 1


class _Limits:
    """The limit of one output in one trial, and where it comes from."""

    def __init__(
        self,
        pair: Pair,
        drawn: Sequence[Drawn],
        names: Sequence[str],
        values: int,
        had: Sequence[list[dict[str, Any]]] = (),
    ) -> None:
        self._drawn, self._values = drawn, values
        request = pair.setting.request
        self._rtol, self._atol = request.rtol, request.atol
        self._own = request.rtol is not None or request.atol is not None
        self._steps = pair.setting.quantized and not self._own
        self.runs: list[list[dict[str, Any]]] = []
        self._arithmetic = pair.setting.arithmetic(tf32=pair.tf32)
        self.source = "0 steps at optimisation level none: 4u max|y|, u = 2^-24"
        if not (self._own or self._steps):
            asked = [*names, *_inner(pair, drawn, names)]
            self.runs, words = jittered_runs(pair, drawn, asked, self._arithmetic, had)
            self.source = jitter.limit_from(
                pair.setting.original,
                len(self.runs),
                request.seed,
                values=values,
                arithmetic=self._arithmetic,
            )
            self.source += words
            if pair.mapped:
                self.source += "; basic optimisation, no prepacking"

        self.still = bool(self.runs) and all(
            same_bits(trial.original[name], run[number][name])
            for run in self.runs
            for number, trial in enumerate(drawn)
            for name in names
        )
        """Whether no output moved in any run."""

    @property
    def few(self) -> bool:
        """Whether more runs can make the limits surer."""
        return 0 < len(self.runs) < jitter.RUNS

    @property
    def jittered(self) -> tuple[dict[str, Any], ...]:
        """What every run made of the first trial."""
        return tuple(run[0] for run in self.runs)

    def __call__(self, name: str, number: int) -> tuple[Any, str]:
        value = self._drawn[number].original[name]
        if self._own:
            return tolerance(value, self._rtol, self._atol), ASKED
        base, picks = _numeric(value), [_numeric(run[number][name]) for run in self.runs]
        if base is None:
            return 0.0, "exact: no numbers"
        usable = [pick for pick in picks if pick is not None and pick.shape == base.shape]
        limit = jitter.limit(base, usable, values=self._values, arithmetic=self._arithmetic, delta=DELTA)
        return limit if isinstance(value, np.ndarray) else float(limit.max(initial=0.0)), self.source


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
