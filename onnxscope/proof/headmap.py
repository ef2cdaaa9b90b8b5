"""The head of a large conversion alone, on a map with more cells than the native one.

What a map of one cell can't show (`larger`) shows on any larger map, so the layers in front need not run:
the map is made of the cells that a trial gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope import dtypes
from onnxscope.errors import RuntimeFailure
from onnxscope.graph import Model
from onnxscope.proof import larger, local
from onnxscope.proof.extract import cut, runnable

if TYPE_CHECKING:
    from onnxscope.proof.inputs import Array
    from onnxscope.proof.setting import Pair
    from onnxscope.proof.trials import Drawn


def values(pair: Pair, trial: Drawn, notes: list[str]) -> list[dict[str, Any]]:
    """The candidate's values behind such a map, for the local check.

    [] where no free input grows the map, or the head reads others, too. `notes` is told how far it goes.
    """
    setting = pair.setting
    found = larger.small_cells(setting)
    own = trial.candidate.get(found[0].read_map) if found else None
    if found is None or setting.common or not isinstance(own, np.ndarray):
        return []
    head, size = found
    wanted = [name for name in local.names(setting.steps) if name != head.read_map]
    names = list(_behind(setting.candidate, head.read_map, wanted))
    missing = [
        name
        for name in larger.outputs_behind(setting.original, head, setting.interface.outputs)
        if not any(step.name == name and step.output in names for step in setting.steps)
    ]
    where = f"a map of {larger.shown(size)} cells"
    if not names or head.several:
        notes.append(f"large weights: the head reads more than one map, so it was not compared on {where}")
        return []
    given = enlarged(own, size, setting.request.seed)
    part = cut(setting.candidate, {head.read_map: dtypes.BY_NAME[own.dtype.name].code}, names)
    pair.relieve()  # an exact check's session maps the same weights
    try:
        made = pair.second.run(
            runnable(part, setting.folder), {head.read_map: given}, names, optimization=pair.level
        )
    except RuntimeFailure as error:
        if not pair.second.worker.alive:
            raise
        notes.append(f"large weights: the head doesn't run on {where}: {error.message}")
        return []
    left = f"; {', '.join(missing)} behind them at the native size only" if missing else ""
    notes.append(f"large weights: the head alone was compared on {where}, too, layer by layer{left}")
    return [{head.read_map: given, **made}]


def _behind(candidate: Model, map_: str, names: Iterable[str]) -> Iterable[str]:
    """Those of the names that need the map and nothing else from outside."""
    for name in names:
        part = cut(candidate, {map_: dtypes.FLOAT}, [name])
        fed = {info.name for info in part.graph.inputs} - set(part.graph.initializers)
        if fed == {map_} and any(map_ in node.inputs for node in part.graph.nodes):
            yield name


def enlarged(native: Array, size: Sequence[int], seed: int) -> Array:
    """A map [N, C, *size] of cells [N, C] of `native`, drawn at random, each times a factor in [1/2, 3/2)."""
    draw = np.random.default_rng([seed, *size])
    value = native
    for axis, count in enumerate(size, 2):
        value = np.take(value, draw.integers(native.shape[axis], size=count), axis)
    factor: Array = draw.uniform(0.5, 1.5, size=tuple(size)).astype(native.dtype)
    return np.asarray(value * factor)
