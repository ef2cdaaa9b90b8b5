"""Are two model files equivalent? Every check, in order, and the verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from onnxscope import runtime
from onnxscope.errors import RuntimeFailure
from onnxscope.proof import (
    exact,
    halves,
    headmap,
    larger,
    latency,
    local,
    providers,
    rounded,
    saturation,
    steps,
    tf32,
    trials,
    values,
    weights,
)
from onnxscope.proof.bits import Mark
from onnxscope.proof.inputs import Draw
from onnxscope.proof.local import layer_result
from onnxscope.proof.result import LayerResult, ProviderUse, Request, Run, Verification, WeightCounts
from onnxscope.proof.setting import Pair, Setting, opened
from onnxscope.proof.trials import Drawn, Outcome
from onnxscope.proof.weights import WeightCheck
from onnxscope.proof.worker import Worker, started

Progress = Callable[[str], None]
LOCAL_TRIALS = 8
"""Trials that the local check recomputes in float64: one or two of each family."""


def verify(request: Request, progress: Progress | None = None, worker: Worker | None = None) -> Verification:
    """Run every check that the request asks for.

    `progress` is told, in a few words, what begins; `worker` is one that was `started` already. Raises
    UsageError for a request that doesn't fit the models, FileError for a model that can't be used,
    RuntimeFailure where the runtime lacks the provider, silently replaces it, fails, crashes, hangs or runs
    out of memory.
    """
    asked = _asked(request.providers)
    with nullcontext(worker) if worker else started(request.timeout) as first:
        setting = opened(request, first.folder, progress)
        if not setting.interface.outputs or _unfeedable(setting):
            return _refused(setting)
        if request.dense:
            larger.require(setting)
        return _verified(setting, asked, first)


Asked = tuple[str, tuple[runtime.Provider, runtime.Provider]]


def _asked(names: Sequence[str]) -> list[Asked]:
    """What was asked for, `all` spelled out.

    Raises UsageError, or RuntimeFailure where nothing is usable or a provider is missing.
    """
    spelled: dict[str, None] = {}
    for name in names or ("cpu",):
        usable = runtime.usable() if name == "all" else (name,)
        if not usable:
            raise RuntimeFailure("no provider of this onnxruntime loads", help="try `onnxscope providers`")
        spelled.update(dict.fromkeys(usable))
    pairs = {name: runtime.parse_pair(name) for name in spelled}
    return [(name, (runtime.resolved(a), runtime.resolved(b))) for name, (a, b) in pairs.items()]


def _unfeedable(setting: Setting) -> bool:
    """Whether the inputs differ, so that one input can't be given to both."""
    return any(problem.startswith("input") for problem in setting.interface.problems)


def _refused(setting: Setting) -> Verification:
    problems = setting.interface.problems or ("the models have no output in common",)
    counts = WeightCounts(0, 0, 0)
    return Verification(
        False, runtime.version(), counts, "interface", (), (*problems, *setting.interface.notes)
    )


def _verified(setting: Setting, asked: Sequence[Asked], first_worker: Worker) -> Verification:
    notes = [*setting.interface.problems, *setting.interface.notes]
    runs: list[Run] = []
    home = os.path.dirname(os.path.realpath(setting.request.original))
    with _aside() as aside:
        for name, (first, second) in asked:
            fresh = Worker(setting.request.timeout, folder=setting.folder) if runs else first_worker
            with fresh as worker:
                if not runs:  # bits are read while models run
                    setting.progress("weights")
                    models = setting.original, setting.candidate
                    cpu = worker.runner(runtime.parse("cpu"), home)
                    bits = aside.submit(weights.compare, *models, setting.heads, cpu)
                pair = Pair(setting, worker.runner(first, home), worker.runner(second, home))
                runs.append(_run(pair, name, notes))
                checked = bits.result()
    if not checked.ok:
        notes.append(f"weights changed: {_listed(checked.changed)}")
    reason = _reason(setting, checked, runs)
    return Verification(
        reason is None,
        runtime.version(),
        checked.counts,
        reason,
        tuple(runs),
        tuple(dict.fromkeys(notes)),
    )


@contextmanager
def _aside() -> Iterator[Executor]:
    """A thread for what goes on while models run; an error or Ctrl-C does not wait for it."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _reason(setting: Setting, checked: WeightCheck, runs: Sequence[Run]) -> str | None:
    """Why not, in a word: the check that decides, sharpest first; None where everything holds."""
    if setting.interface.problems:
        return "interface"
    if not checked.ok:
        return "weights"
    if setting.random and not all(output.ok for run in runs for output in run.outputs):
        return "random"
    for run in runs:
        parts = {
            "outputs": all(row.ok for row in run.outputs),
            "layers": all(row.ok for row in run.layers),
            "dense": all(row.ok for row in run.dense),
        }
        for name, ok in parts.items():
            if not ok:
                return name
    return None


def _run(pair: Pair, asked: str, notes: list[str]) -> Run:
    """All checks on one provider or pair of providers; what a reader must know is added to `notes`."""
    setting = pair.setting
    if halves.unrunnable(pair):
        notes.append(halves.UNRUNNABLE)
        pair = halves.twins(pair)
        outcome, layers = _compared(pair, notes)
        outputs = halves.labelled(outcome.outputs)
    else:
        outcome, layers = _compared(pair, notes)
        outputs = outcome.outputs + steps.outputs(pair, outcome.drawn)
        if halves.narrow(pair):
            notes += [halves.NOTE, *([halves.ROUNDED] if halves.mixed(pair) else [])]
            wider, more = _compared(halves.twins(pair), notes)
            outputs += halves.labelled(wider.outputs)
            layers += [replace(layer, name=f"{layer.name} (float32 twin)") for layer in more]
    use = _use(pair, asked, outcome.drawn)
    if setting.random:
        _random_note(setting, notes)
    notes += filter(None, [tf32.note(pair, outcome.drawn)])
    if pair.mapped:
        notes.append("large weights: run with basic optimisation and no prepacking, not as deployed")
    draw = outcome.drawn[0].draw
    wide = larger.unasked(pair, larger.small_map(pair, draw), draw, notes)
    wide += tuple(larger.check(pair, size, draw, notes) for size in setting.request.dense)
    timed = latency.measure(pair, draw, notes) if setting.request.latency else None
    notes += filter(None, [saturation.note(pair)])
    first = _first(pair, outcome, layers)
    ok = first is None and all(output.ok for output in outputs) and all(row.ok for row in wide)
    return Run(ok, use, outcome.trials, outputs, tuple(layers), first, wide, timed)


def _compared(pair: Pair, notes: list[str]) -> tuple[Outcome, list[LayerResult]]:
    """Outputs on every trial, then the layers of a conversion, then every common value if asked for."""
    outcome = trials.compared(pair)
    layers = [*_exact(pair), *_local(pair, outcome, notes)]
    if all(layer.ok for layer in layers):
        outcome = replace(outcome, outputs=rounded.outputs(pair, outcome, notes))
    if pair.setting.request.layers:
        layers += _values(pair, outcome, notes)
    elif all(layer.ok for layer in layers) and not all(output.ok for output in outcome.outputs):
        layers += _located(pair, outcome, notes)
    elif outcome.still and pair.setting.heads and all(layer.ok for layer in layers):
        layers += _inside_still(pair, outcome, notes)
    return outcome, layers


def _values(pair: Pair, outcome: Outcome, notes: list[str]) -> list[LayerResult]:
    """Every value that both models have, on the trial that shows most."""
    failed = not all(output.ok for output in outcome.outputs)
    trial = outcome.worst if failed or not pair.mapped else 0  # the first has the values of heavy models
    had = (outcome.jittered, outcome.limit_from) if trial == 0 and pair.mapped else ((), "")
    found = values.check(pair, outcome.drawn[trial], max(1, outcome.values), had, outcome.outputs)
    if found.cause:
        notes.append(found.cause)
    return list(found.layers)


def _located(pair: Pair, outcome: Outcome, notes: list[str]) -> list[LayerResult]:
    """Outputs that fail though no layer does: the first value that diverges, looked for unasked."""
    if pair.setting.random:
        return []
    if pair.setting.heavy:
        notes.append("--layers names the first value that differs (not done unasked: large weights)")
        return []
    return [row for row in _values(pair, outcome, notes) if not row.ok][:1]


def _inside_still(pair: Pair, outcome: Outcome, notes: list[str]) -> list[LayerResult]:
    """The first value that diverges where outputs can't tell: no rounding moves them."""
    said = "no output moves under jitter (saturated, or indices)"
    if pair.setting.heavy or pair.setting.random:
        notes.append(f"{said}: --layers compares the values inside")
        return []
    found = _values(pair, outcome, notes)
    notes.append(f"{said}: {len(found)} values inside were compared, too")
    return [row for row in found if not row.ok][:1]


def _first(pair: Pair, outcome: Outcome, layers: Sequence[LayerResult]) -> str | None:
    """What diverges first: a layer, a value that both models have, an output in front of it or at the end."""
    found = next((layer.name for layer in layers if not layer.ok), None)
    if found in pair.setting.shared:
        return values.in_front(pair.setting.original, found, outcome.outputs)
    return found or _last(pair, outcome)


def _last(pair: Pair, outcome: Outcome) -> str | None:
    """The output that differs though every value in front of it that both models have agrees."""
    setting = pair.setting
    if setting.random or (setting.heavy and not setting.request.layers):
        return None
    return next((output.name for output in outcome.outputs if not output.ok), None)


def _use(pair: Pair, asked: str, drawn: Sequence[Drawn]) -> ProviderUse:
    """Which provider ran which node, by the profile of one run of each model."""
    request, feeds = pair.setting.request, drawn[0].feeds
    pair.setting.progress("profile")
    placed = (
        pair.first.profile(request.original, feeds, pair.level, pair.setting.folder),
        pair.second.profile(request.candidate, feeds, pair.level, pair.setting.folder),
    )
    original = providers.use_of(asked, pair.first.provider, placed[0])
    candidate = providers.use_of(asked, pair.second.provider, placed[1])
    return providers.combined(asked, original, candidate)


def _exact(pair: Pair) -> list[LayerResult]:
    """Zeros and impulses through the layers of a conversion, on the CPU, where kernels multiply and add."""
    setting = pair.setting
    if not setting.heads or not pair.on_cpu:
        return []
    setting.progress("zeros and impulses")
    found = exact.check(
        setting.original,
        setting.candidate,
        setting.heads,
        pair.second,
        folder=setting.folder,
        seed=setting.request.seed,
    )
    rows: list[LayerResult] = []
    for layer in found:
        for part, outcome in (("zeros", layer.zeros), ("impulses", layer.impulses)):
            rows.append(layer_result(f"{layer.layer} ({part})", outcome, layer.limit_from))
    return rows


def _local(pair: Pair, outcome: Outcome, notes: list[str]) -> list[LayerResult]:
    """Each layer of the original in float64 from the candidate's own input to it."""
    setting = pair.setting
    if not setting.steps:
        return []
    setting.progress("layers in float64")
    names, provider = list(local.names(setting.steps, setting.heads)), pair.second.provider
    drawn = [_inside(pair, trial, names) for trial in outcome.drawn[:LOCAL_TRIALS]]
    if setting.heavy:
        drawn += headmap.values(pair, outcome.drawn[0], notes)
    else:
        drawn += _on_small_map(pair, outcome.drawn[0].draw, names)
    pair.relieve()
    drawn = [local.unfolded(setting.heads, values) for values in drawn]
    found = local.check(
        setting.original,
        setting.steps,
        drawn,
        pair.second,
        replace(setting.arithmetic(tf32=provider.tf32), absolute=not provider.on_cpu),
        values=outcome.values,
    )
    notes.extend(found.notes)
    return list(found.layers)


def _inside(pair: Pair, trial: Drawn, names: list[str]) -> dict[str, Any]:
    """The candidate's values of those names in a trial; a heavy model's run has fetched them already."""
    if not any(isinstance(trial.candidate.get(name), Mark | None) for name in names):
        return trial.candidate
    return pair.candidate(trial.feeds, names, pair.level)


def _on_small_map(pair: Pair, native: Draw, names: list[str]) -> list[dict[str, Any]]:
    """The candidate's values at an input whose map has several cells; [] where it takes none."""
    found = larger.small_map(pair, native)
    if found is None:
        return []
    try:
        return [pair.candidate(larger.feeds(pair, found, native), names, pair.level)]
    except RuntimeFailure:
        if not pair.second.worker.alive:
            raise
        return []  # `larger.unasked` says so


def _random_note(setting: Setting, notes: list[str]) -> None:
    nodes = _listed(list(dict.fromkeys(f"{node.label} ({node.op})" for node in setting.random)))
    notes.append(f"random numbers are drawn by {nodes}: outputs behind them can't be compared")
