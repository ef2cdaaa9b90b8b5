"""What TensorFloat-32 does to a model: the same file on the same inputs, with it and without.

TF32 keeps 10 mantissa bits of every operand (source: NVIDIA, "TensorFloat-32 in the A100"), so three digits
go. It is off unless the user asks for it (`runtime.KNOWN`), and then its effect is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxscope.proof.setting import Pair, named
from onnxscope.proof.trials import Drawn
from onnxscope.proof.worker import ProviderRunner


def note(pair: Pair, drawn: Sequence[Drawn]) -> str:
    """The largest change of an output over all trials, in one line; "" where TF32 is off.

    The candidate's where it runs with TF32, else the original's. Raises RuntimeFailure.
    """
    if not pair.tf32:
        return ""
    on_candidate = pair.second.provider.tf32
    runner = pair.second if on_candidate else pair.first
    request = pair.setting.request
    path = request.candidate if on_candidate else request.original
    plain = _without(runner)
    largest, share, where = 0.0, 0.0, ""
    for trial in drawn:
        rounded = trial.candidate if on_candidate else trial.original
        exact = named(plain, path, trial.feeds, None, pair.level)
        for name, value in rounded.items():
            moved, relative = _moved(value, exact.get(name))
            if relative >= share:
                largest, share, where = moved, relative, name
    return (
        "TF32 is on: operands are rounded to 11 bits, and the limits are those of TF32; it moves "
        f"{where} by up to {largest:.2g}, {share:.2g} of the largest value there"
    )


def _without(runner: ProviderRunner) -> ProviderRunner:
    """The same provider and device with TF32 off."""
    provider = runner.provider
    options = provider.options | {"use_tf32": "0"}
    return runner.worker.runner(replace(provider, asked=f"{provider.asked} without TF32", options=options))


def _moved(value: object, exact: object) -> tuple[float, float]:
    """Largest difference, and its share of the largest exact value; (0, 0) for what is no float tensor."""
    if not isinstance(value, np.ndarray) or not isinstance(exact, np.ndarray) or value.dtype.kind != "f":
        return 0.0, 0.0
    both = np.isfinite(value) & np.isfinite(exact)
    gap = np.abs(value.astype(np.float64) - exact.astype(np.float64))
    largest = float(gap.max(initial=0.0, where=both))
    size = float(np.abs(exact.astype(np.float64)).max(initial=0.0, where=both))
    return largest, largest / size if size else 0.0
