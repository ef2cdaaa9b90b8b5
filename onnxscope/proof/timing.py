"""Timings of jobs that take turns in the worker."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles
from typing import TYPE_CHECKING

from onnxscope.proof.inputs import Feeds
from onnxscope.proof.result import Timing

if TYPE_CHECKING:
    from onnxscope.proof.setting import Pair

RUNS = 15
"""Timed turns at most, after WARM that are not counted."""
WARM = 2
SECONDS = 20.0
"""When these are over no new turn begins, once there were a few."""


def compared(pair: Pair, first: Sequence[Feeds], second: Sequence[Feeds]) -> tuple[list[float], list[float]]:
    """Milliseconds that the original takes for its inputs and the candidate for its own, turn by turn.

    Raises RuntimeFailure.
    """
    request = pair.setting.request
    jobs = (
        (request.original, first, pair.first.provider),
        (request.candidate, second, pair.second.provider),
    )
    name = pair.second.provider.name
    times: list[list[float]] = pair.first.worker.call("timed", jobs, RUNS, WARM, SECONDS, provider=name)
    return times[0], times[1]


def timing(times: Sequence[float], factor: float = 1.0) -> Timing:
    """Median and quartiles, each times a factor.

    >>> timing([1, 2, 3, 4, 9], 2)
    Timing(median_ms=6, low_ms=4.0, high_ms=8.0)
    """
    low, _, high = quantiles(times, n=4, method="inclusive")
    return Timing(factor * median(times), factor * low, factor * high)
