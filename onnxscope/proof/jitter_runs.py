"""Runs of the jittered original: of the part that can round its own way, at once where rows stay apart."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope import dtypes
from onnxscope.proof import jitter, noise
from onnxscope.proof.bits import same_bits
from onnxscope.proof.extract import cut, runnable

if TYPE_CHECKING:
    from onnxscope.graph import Model
    from onnxscope.proof.inputs import Feeds
    from onnxscope.proof.limits import Arithmetic
    from onnxscope.proof.runner import Runnable
    from onnxscope.proof.setting import Pair, Setting
    from onnxscope.proof.trials import Drawn

STACKED_BYTES = 32 << 20
"""Bytes of feature maps that all jittered runs may take together to be run at once."""


def jittered_runs(
    pair: Pair,
    drawn: Sequence[Drawn],
    names: Sequence[str],
    arithmetic: Arithmetic,
    had: Sequence[list[dict[str, Any]]] = (),
) -> tuple[list[list[dict[str, Any]]], str]:
    """Outputs of the jittered originals, by run and trial, and what was jittered, in words.

    [] where no weight can be jittered. Where both models gave the same bits in front of the heads, rounding
    can differ only behind them, and only that part is jittered. Few runs that another call gave, `had`, are
    made up to as many as small outputs have.
    """
    setting = pair.setting
    if not drawn or not jitter.weights(setting.original):
        return [], ""
    smallest = min((int(np.size(drawn[0].original[name])) for name in names), default=0)
    part, feeds, words = behind(setting, drawn, names)
    count, carried = jitter.RUNS if words or had else jitter.runs_for(smallest), ""
    at_once = _stacked(pair, part, feeds, names, arithmetic) if words and setting.heavy else None
    if at_once is not None:
        return at_once, words + noise.WORDS
    found = list(had)
    while len(found) < count:
        run = len(found)
        setting.progress(f"jittered weights, run {run + 1}")
        changed, carried = noise.jittered(part, arithmetic, seed=setting.request.seed, run=run)
        count = jitter.RUNS if carried else count
        model = runnable(changed, setting.folder)
        found.append(
            [pair.first.run(model, values, list(names), optimization=pair.level) for values in feeds]
        )
        discard(model)
        pair.relieve()
    return found, words + carried


def _stacked(
    pair: Pair, part: Model, feeds: Sequence[Feeds], names: Sequence[str], arithmetic: Arithmetic
) -> list[list[dict[str, Any]]] | None:
    """What `jittered_runs` gives, out of one run in which all rows of all trials lie one on another.

    None for a part that can't be run so.
    """
    taken = list(feeds[0])
    maps = [fed[name] for fed in feeds for name in taken]
    if len(taken) != 1 or len({value.shape[1:] for value in maps}) > 1:
        return None
    rows = sum(len(value) for value in maps)
    seed, runs = pair.setting.request.seed, jitter.RUNS
    model = noise.stacked(part, pair.setting.facts, arithmetic, seed=seed, runs=runs, rows=rows)
    if model is None or runs * sum(value.nbytes for value in maps) > STACKED_BYTES:
        return None
    pair.setting.progress(f"jittered weights, {runs} runs at once")
    given = runnable(model, pair.setting.folder)
    stack = np.concatenate(maps * runs)
    made = pair.first.run(given, {taken[0]: stack}, list(names), optimization=pair.level)
    discard(given)
    pair.relieve()
    if any(len(made[name]) != runs * rows for name in names):
        return None
    ends = np.cumsum([len(value) for value in maps] * runs)[:-1]
    parts = {name: np.split(made[name], ends) for name in names}
    trials = range(len(maps))
    return [
        [{name: parts[name][run * len(maps) + trial] for name in names} for trial in trials]
        for run in range(runs)
    ]


def behind(setting: Setting, drawn: Sequence[Drawn], names: Sequence[str]) -> tuple[Model, list[Feeds], str]:
    """The part of the original that can round its own way, its inputs in every trial, and that in words."""
    heads = [head.feature_map for head in setting.heads]
    maps = [name for name in dict.fromkeys(heads) if all(_same_at_hand(trial, name) for trial in drawn)]
    whole = [trial.feeds for trial in drawn]
    if not maps:
        return setting.original, whole, ""
    codes = {name: dtypes.BY_NAME[drawn[0].original[name].dtype.name].code for name in maps}
    part = cut(setting.original, codes, names)
    asked = {info.name for info in part.graph.inputs}
    feeds = [
        {name: value for name, value in (*trial.feeds.items(), *trial.original.items()) if name in asked}
        for trial in drawn
    ]
    return part, feeds, f"; only behind {', '.join(maps)}, where both models still have the same bits"


def _same_at_hand(trial: Drawn, name: str) -> bool:
    """Whether both models gave a value the same bits, and these are here to be run on, not in the worker."""
    value = trial.original.get(name)
    return isinstance(value, np.ndarray) and same_bits(value, trial.candidate.get(name))


def discard(model: Runnable) -> None:
    """Remove the files of a model that `runnable` wrote."""
    if isinstance(model, str):
        for path in (model, f"{model}.data"):
            with contextlib.suppress(OSError):
                os.unlink(path)
