"""Quantized outputs in steps, with every optimisation on: as deployed, where integer kernels are fused.

As written (optimisation level none) two quantized models must agree in every step. Fused kernels round ties
their own way, which moves the original itself by D steps from what it gives as written; a conversion with
kernels of its own may be moved as far and a step more (D measured, the step observed; docs/limits.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxscope import dtypes
from onnxscope.graph import Model
from onnxscope.proof import limits
from onnxscope.proof.compare import Tally, aligned
from onnxscope.proof.extract import stored_tensor
from onnxscope.proof.result import OutputResult
from onnxscope.proof.setting import Pair
from onnxscope.proof.trials import Drawn

ALLOWED = 1
"""Steps by which a value may differ more than the original is moved."""
_VIEWS = frozenset("Identity Reshape Flatten Squeeze Unsqueeze Transpose".split())
_SMALL = frozenset((dtypes.UINT8, dtypes.INT8))


def outputs(pair: Pair, drawn: Sequence[Drawn]) -> tuple[OutputResult, ...]:
    """A row for each output that has a step, over all trials; () where the pair isn't quantized.

    Nothing is added where the user gave tolerances. Raises RuntimeFailure where the runtime can't.
    """
    setting, request = pair.setting, pair.setting.request
    if not setting.quantized or request.rtol is not None or request.atol is not None:
        return ()
    sizes = {name: step_of(setting.original, name) for name in setting.interface.outputs}
    names = [name for name, size in sizes.items() if size]
    fused: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for trial in drawn if names else ():
        setting.progress(f"{trial.draw.family}, seed {trial.draw.seed}, all optimisations")
        left = pair.original(trial.feeds, names, "all")
        fused.append((left, setting.at_common(pair.candidate(trial.feeds, names, "all"))))
    return tuple(_judged(name, sizes[name] or 1.0, drawn, fused) for name in names)


def _judged(
    name: str, size: float, drawn: Sequence[Drawn], fused: Sequence[tuple[dict[str, Any], dict[str, Any]]]
) -> OutputResult:
    """One output of all trials: values of both models with every optimisation on."""
    pairs = [(left[name], right[name]) for left, right in fused]
    own = [
        limits.steps(left, trial.original[name], size)[0].max_abs
        for trial, (left, _) in zip(drawn, pairs, strict=True)
    ]
    allowed = ALLOWED + int(max((each for each in own if np.isfinite(each)), default=0))
    tally, differ = Tally(f"{name} (all optimisations)"), 0.0
    for left, right in pairs:
        # two dequantized numbers a step apart are that up to their own rounding
        tally.add(left, right, allowed * size * (1 + 2.0**-10))
        same = aligned(left, right)
        if same is not None:
            differ += limits.steps(same[1], same[0], size)[1] * same[0].size
    moved = f" + {allowed - ALLOWED} that they move the original by" if allowed > ALLOWED else ""
    tally.limit_from = (
        f"{ALLOWED} step of {size:g}{moved}, every optimisation on: fused integer kernels round ties "
        f"their own way (observed, not derived); {differ:.0f} of N = {tally.values} values differ"
    )
    return tally.result()


def step_of(model: Model, name: str) -> float | None:
    """What one step of an output is worth: the scale of its DequantizeLinear, 1 for 8-bit integers.

    None where it has no single step: floats behind other ops, a scale per channel or one that is computed.
    """
    kinds = {info.name: info.type.dtype for info in model.graph.outputs}
    if kinds.get(name) in _SMALL:
        return 1.0
    node = model.graph.producers.get(name)
    while node is not None and node.op in _VIEWS:
        node = model.graph.producers.get(node.inputs[0])
    if node is None or node.op != "DequantizeLinear":
        return None
    scale = stored_tensor(model, node.inputs[1])
    return float(np.asarray(scale.array()).reshape(-1)[0]) if scale is not None and scale.count == 1 else None
