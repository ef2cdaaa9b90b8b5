"""How long both models take: interleaved runs in one process, medians."""

from __future__ import annotations

from statistics import median

from onnxscope.proof import inputs
from onnxscope.proof.inputs import Draw, Feeds
from onnxscope.proof.result import Latency
from onnxscope.proof.setting import Pair

RUNS = 11
"""Timed runs of each model, after one that warms up."""


def measure(pair: Pair, draw: Draw, notes: list[str]) -> Latency:
    """Medians of both models on one input, as deployed (all optimisations).

    Inputs are bound once and outputs stay where they arise, alike for both; what a reader must know is added
    to `notes`. Raises RuntimeFailure.
    """
    setting = pair.setting
    setting.progress("latency")
    feeds = inputs.feeds(draw, setting.inputs, setting.ranges)
    request = setting.request
    worker = pair.first.worker
    times: tuple[list[float], list[float]] = worker.call(
        "latency",
        (request.original, request.candidate),
        (feeds, feeds),
        (pair.first.provider, pair.second.provider),
        RUNS,
        provider=pair.second.provider.name,
    )
    original, candidate = median(times[0]), median(times[1])
    ratio = candidate / original if original else float("inf")
    notes.append(_note(pair, feeds, times, ratio))
    return Latency(original, candidate, ratio)


def _note(pair: Pair, feeds: Feeds, times: tuple[list[float], list[float]], ratio: float) -> str:
    batch = next((array.shape[0] for array in feeds.values() if array.ndim), 1)
    spans = ", ".join(
        f"{name} {min(part):.2f} to {max(part):.2f} ms"
        for name, part in zip(("original", "candidate"), times, strict=True)
    )
    text = f"latency at batch {batch}: {len(times[0])} interleaved runs each, {spans}"
    if ratio <= 1.05:
        return text
    text += f"; the candidate takes {ratio:.2f} times as long"
    if pair.setting.heads and pair.on_cpu and batch > 1:
        text += ", since a Conv on the CPU reads its weights anew for every image of a batch"
    return text
