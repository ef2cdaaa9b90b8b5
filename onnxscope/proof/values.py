"""Every intermediate value that both models have, compared: the first that differs, and whose error it is."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from onnxscope.graph import Model, Node
from onnxscope.proof import jitter, noise
from onnxscope.proof.bits import same_bits
from onnxscope.proof.compare import ASKED, Tally, aligned, tolerance
from onnxscope.proof.extract import runnable, sources
from onnxscope.proof.inputs import Feeds
from onnxscope.proof.jitter_runs import behind, discard
from onnxscope.proof.result import LayerResult, OutputResult
from onnxscope.proof.runner import Optimization, Runnable
from onnxscope.proof.setting import Pair
from onnxscope.proof.trials import UNSURE, Drawn

CHUNK_BYTES = 64 << 20
"""Values of one model that are held at once."""
CHUNK_VALUES = 64
"""Values asked for at once where their sizes aren't known."""


@dataclass(frozen=True, slots=True)
class ValueCheck:
    """The common values in the original's execution order."""

    layers: tuple[LayerResult, ...]
    first_divergence: str | None
    cause: str
    """Whether the node made the error or passed it on; "" where nothing diverges."""


Had: TypeAlias = "tuple[Sequence[Mapping[str, Any]], str]"
"""What jittered runs made of a trial already, and how limits come from them."""


def check(
    pair: Pair, trial: Drawn, values: int, had: Had = ((), ""), outputs: Sequence[OutputResult] = ()
) -> ValueCheck:
    """Compare every common value on one trial, in chunks that bound memory; `outputs` were compared already.

    Limits come from the jitter check, as for outputs; graphs run as they are written (no fusion), so that
    every value exists; heavy ones as in their trials, whose values and marks are taken, and what their
    jittered runs `had`. Raises RuntimeFailure where the runtime can't.
    """
    tallies, few = _tallied(pair, trial, values, had, jitter.FEW_RUNS)
    broken = next((tally.found.ratio for tally in tallies.values() if not tally.result().ok), 0.0)
    if few and 1 < broken <= UNSURE:
        tallies, _ = _tallied(pair, trial, values, ((), ""), jitter.RUNS)
    rows = tuple(_row(name, tally) for name, tally in tallies.items())
    diverged = next((row.name for row in rows if not row.ok), None)
    first = in_front(pair.setting.original, diverged, outputs) if diverged else None
    shares = {row.name: row.would_pass_at for row in rows}
    shares |= {output.name: output.would_pass_at for output in outputs}
    views = {link.input: link.candidate_input for head in pair.setting.heads for link in head.layers}
    given = {info.name for info in pair.setting.interface.inputs}
    cause = _cause(pair.setting.original.graph.producers[first], first, shares, views, given) if first else ""
    return ValueCheck(rows, first, cause)


def _tallied(pair: Pair, trial: Drawn, values: int, had: Had, runs: int) -> tuple[dict[str, Tally], bool]:
    """Every common value against limits of that many jittered runs, or those had; whether there are few."""
    nodes = pair.setting.shared
    tallies: dict[str, Tally] = {}
    models = _Jittered(pair, trial, [name for name in nodes if not _alike(trial, name)], had, runs)
    try:
        for names in _chunks(pair, list(nodes)):
            pair.setting.progress(f"intermediate values {len(tallies) + 1} to {len(tallies) + len(names)}")
            tallies.update(_chunk(pair, trial, names, models, values))
    finally:
        models.discard()
    return tallies, models.few


def in_front(original: Model, name: str, outputs: Sequence[OutputResult]) -> str:
    """The first output that fails of those which a value is made of; where there is none, the value."""
    failed = {output.name for output in outputs if not output.ok} & sources(original, [name])
    made = (output for node in original.graph.order for output in node.outputs)
    return next((output for output in made if output in failed), name)


def _row(name: str, tally: Tally) -> LayerResult:
    found = tally.result()
    return LayerResult(name, found.max_abs, found.limit, found.ok, found.would_pass_at, found.limit_from)


def _cause(
    node: Node, name: str, shares: Mapping[str, float], views: Mapping[str, str], given: Container[str]
) -> str:
    """In words: the errors of the node's inputs as `shares` of their limits, as far as both models have them.

    `views` names the candidate's map that a flattened value of the original is a view of.
    """
    inputs = [source if source in shares else views.get(source, source) for source in node.inputs]
    known = [source for source in inputs if source in shares]
    what = f"{name} diverges first, behind {node.op} {node.label}"
    if not known and not any(source in given for source in inputs):
        return f"{what}, whose inputs only one model has"
    worst = max((shares[source] for source in known), default=0.0)
    errors = f"inputs reach {worst:.2g} of their limits, the output {shares[name]:.3g}"
    made = "the node makes the error" if worst <= 1 else "it passes the error on"
    return f"{what}: {made} ({errors})"


class _Jittered:
    """The jittered originals, made when a value first needs them."""

    def __init__(self, pair: Pair, trial: Drawn, names: list[str], had: Had, runs: int) -> None:
        self._pair, self._trial, self._names, self._runs = pair, trial, names, runs
        self._had, self._words = had
        self._models: list[Runnable] | None = None
        self._feeds: Feeds = {}

    def runs(self, names: list[str]) -> Sequence[Mapping[str, Any]]:
        """Values of every jittered original; [] where limits don't come from them or nothing is asked."""
        if self._had and all(name in self._had[0] for name in names):
            return self._had
        if self._models is None and names:
            self._models, self._had = self._made(), ()
        found: list[dict[str, Any]] = []
        for model in self._models or () if names else ():
            found.append(self._pair.first.run(model, self._feeds, names, optimization=_level(self._pair)))
            self._pair.relieve()
        return found

    @property
    def few(self) -> bool:
        """Whether more runs can make the limits surer."""
        return 0 < len(self._had or self._models or ()) < jitter.RUNS

    def source(self, values: int) -> str:
        """How the limits are computed, in words."""
        setting, request = self._pair.setting, self._pair.setting.request
        if request.rtol is not None or request.atol is not None:
            return ASKED
        if self._had:
            return self._words
        arithmetic, runs = setting.arithmetic(tf32=self._pair.tf32), len(self._models or ())
        words = jitter.limit_from(setting.original, runs, request.seed, values=values, arithmetic=arithmetic)
        return words + self._words

    def _made(self) -> list[Runnable]:
        """Of the part that can round its own way: all of the original, unless it is heavy."""
        setting = self._pair.setting
        request = setting.request
        if request.rtol is not None or request.atol is not None or not jitter.weights(setting.original):
            return []
        arithmetic = setting.arithmetic(tf32=self._pair.tf32)
        part, (self._feeds,), words = behind(setting, [self._trial], self._names)
        made: list[Runnable] = []
        for run in range(self._runs):
            changed, carried = noise.jittered(part, arithmetic, seed=request.seed, run=run)
            made.append(runnable(changed, setting.folder))
            self._words = words + carried
        return made

    def discard(self) -> None:
        """Remove their files."""
        for model in self._models or ():
            discard(model)


def _chunks(pair: Pair, names: Sequence[str]) -> Iterator[list[str]]:
    """Names in order, in groups of at most 64 MB and 64 values."""
    group: list[str] = []
    held = 0
    for name in names:
        size = pair.setting.size_of(name)
        if group and (held + size > CHUNK_BYTES or len(group) >= CHUNK_VALUES):
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group


def _level(pair: Pair) -> Optimization:
    return pair.level if pair.mapped or pair.setting.quantized else "none"


def _alike(trial: Drawn, name: str) -> bool:
    """Whether a trial already shows a value, or its mark, to be the same in both models."""
    return same_bits(trial.original.get(name), trial.candidate.get(name))


def _both(pair: Pair, trial: Drawn, names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of both models: those of the trial, where it has all that differ, else of another run."""
    sides = trial.original, trial.candidate
    if all(_alike(trial, n) or all(isinstance(side.get(n), np.ndarray) for side in sides) for n in names):
        return sides
    left = pair.original(trial.feeds, names, _level(pair))
    pair.relieve()
    right = pair.setting.at_common(pair.candidate(trial.feeds, names, _level(pair)))
    pair.relieve()
    return left, right


def _chunk(pair: Pair, trial: Drawn, names: list[str], models: _Jittered, values: int) -> dict[str, Tally]:
    """The values compared; those of a heavy model that agree in every bit need no limit, and get 0."""
    left, right = _both(pair, trial, names)
    unlike = [n for n in names if not (pair.setting.heavy and same_bits(left[n], right[n]))]
    runs = models.runs(unlike)
    found: dict[str, Tally] = {}
    account = models.source(values)
    for name in names:
        if pair.setting.heads and _viewed(left[name], right[name]):
            continue  # a flattened value of the original is a map in a conversion, in an order of its own
        tally = found[name] = Tally(name, account if name in unlike else "none needed: the same bits")
        if name not in unlike:
            continue
        limit = _limit(pair, left[name], [run[name] for run in runs], values)
        given = right[name]
        if isinstance(given, np.ndarray) and given.dtype.kind == "f" and left[name].dtype.kind == "f":
            given = given.astype(left[name].dtype, copy=False) if given.itemsize < 4 else given
        tally.add(_lifted(left[name], given), given, limit)
    return found


def _viewed(original: Any, candidate: Any) -> bool:
    """Whether both hold as many numbers in other shapes."""
    arrays = isinstance(original, np.ndarray) and isinstance(candidate, np.ndarray)
    return arrays and original.size == candidate.size and aligned(original, candidate) is None


def _lifted(original: Any, candidate: Any) -> Any:
    """The original in the candidate's shape where that only has axes of size 1 more."""
    if isinstance(original, np.ndarray) and isinstance(candidate, np.ndarray):
        pair = aligned(original, candidate)
        return original if pair is None else original.reshape(candidate.shape)
    return original


def _limit(pair: Pair, value: Any, runs: Sequence[Any], values: int) -> Any:
    request = pair.setting.request
    if request.rtol is not None or request.atol is not None:
        return tolerance(value, request.rtol, request.atol)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        return 0.0
    arithmetic = pair.setting.arithmetic(tf32=pair.tf32)
    usable = [run for run in runs if isinstance(run, np.ndarray) and run.shape == value.shape]
    return jitter.limit(value, usable, values=values, arithmetic=arithmetic)
