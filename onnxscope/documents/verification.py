"""The verification document: the verdict on two files, as plain dicts, lists, strings and numbers.

Source of the keys: docs/verify.md; docs/verification.schema.json is the same as a JSON schema. JSON has
no NaN and no infinity: such a number is None here, and `nan` and `inf` count them.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:  # a conversion without proof needs the keys only
    from onnxscope.proof.result import (
        DenseResult,
        DenseSpeed,
        Latency,
        LayerResult,
        OutputResult,
        ProviderUse,
        Run,
        Timing,
        Trial,
        Verification,
    )

VERIFICATION = "onnxscope.verification/1"
"""Name and version of the document; the number grows when a key changes its meaning or goes."""


class WeightsEntry(TypedDict):
    """Weight tensors by what happened to their bits."""

    identical: int
    permuted: int
    changed: int


class ProviderEntry(TypedDict):
    """Which provider was asked for and which really ran."""

    asked: str
    used: str
    nodes_on_provider: int
    nodes_elsewhere: list[str]
    options: dict[str, str]


class TrialEntry(TypedDict):
    """One input; `seed` and `family` make it again on any machine."""

    seed: int
    family: str
    shapes: dict[str, list[int]]


class SpecialsEntry(TypedDict):
    """How many elements are NaN, or infinite."""

    both: int
    """In the same place of both models: no difference."""
    original: int
    """In the original only."""
    candidate: int
    """In the candidate only."""


class OutputEntry(TypedDict):
    """One output over all trials."""

    name: str
    max_abs: float | None
    max_rel: float | None
    max_value: float | None
    """Largest finite number of the original, its sign left out."""
    limit: float | None
    limit_from: str
    would_pass_at: float | None
    """The tolerance that would just have passed, as a multiple of the limit."""
    argmax_agreement: float | None
    ok: bool
    nan: SpecialsEntry
    inf: SpecialsEntry


class VerifiedLayerEntry(TypedDict):
    """One intermediate value."""

    name: str
    max_abs: float | None
    limit: float | None
    would_pass_at: float | None
    limit_from: str
    ok: bool


class TimingEntry(TypedDict):
    """Milliseconds over interleaved runs: median, first and third quartile."""

    median_ms: float
    low_ms: float
    high_ms: float


class SpeedEntry(TypedDict):
    """One dense pass of the candidate against the original on every image crop."""

    crops: int
    timed: int
    """Crops that were timed; the time of more is scaled."""
    runs: int
    on_crops: TimingEntry
    dense: TimingEntry
    measured: float
    """Speed-up, by medians."""
    predicted: float | None
    """Speed-up, by MACs alone."""


class DenseEntry(TypedDict):
    """The head on every window of a larger map."""

    size: list[int]
    """[H, W] of the input, in pixels; as many axes as it has."""
    windows: int
    max_abs: float | None
    limit: float | None
    would_pass_at: float | None
    limit_from: str
    border_effect: float | None
    speed: SpeedEntry | None
    ok: bool


class BatchEntry(TypedDict):
    """Both models at one batch size."""

    batch: int | None
    """Size of the inputs' first axis."""
    runs: int
    original: TimingEntry
    candidate: TimingEntry
    ratio: float
    """Medians, candidate over original."""
    reason: str | None
    """Why the candidate is slower, where it is and that is known, and what would help."""


class LatencyEntry(TypedDict):
    """Medians over interleaved runs at the first batch size, and each batch size."""

    original_ms: float
    candidate_ms: float
    ratio: float
    batches: list[BatchEntry]


class RunEntry(TypedDict):
    """All checks on one provider."""

    equivalent: bool
    provider: ProviderEntry
    trials: list[TrialEntry]
    outputs: list[OutputEntry]
    layers: list[VerifiedLayerEntry]
    first_divergence: str | None
    dense: list[DenseEntry]
    latency: LatencyEntry | None


class VerificationDocument(TypedDict):
    """The whole document."""

    schema: str
    original: str
    """Path as the user gave it."""
    candidate: str
    equivalent: bool
    runtime: str
    weights: WeightsEntry
    reason: str | None
    runs: list[RunEntry]
    notes: list[str]


def verification(result: Verification, original: str, candidate: str) -> VerificationDocument:
    """The document of a verification; `original` and `candidate` are the paths that readers know."""
    counts = result.weights
    return {
        "schema": VERIFICATION,
        "original": original,
        "candidate": candidate,
        "equivalent": result.equivalent,
        "runtime": result.runtime,
        "weights": {
            "identical": counts.identical,
            "permuted": counts.permuted,
            "changed": counts.changed,
        },
        "reason": result.reason,
        "runs": [_run(run) for run in result.runs],
        "notes": list(result.notes),
    }


def _run(run: Run) -> RunEntry:
    return {
        "equivalent": run.equivalent,
        "provider": _provider(run.provider),
        "trials": [_trial(trial) for trial in run.trials],
        "outputs": [_output(output) for output in run.outputs],
        "layers": [_layer(layer) for layer in run.layers],
        "first_divergence": run.first_divergence,
        "dense": [_dense(dense) for dense in run.dense],
        "latency": None if run.latency is None else _latency(run.latency),
    }


def _latency(latency: Latency) -> LatencyEntry:
    return {
        "original_ms": latency.original_ms,
        "candidate_ms": latency.candidate_ms,
        "ratio": latency.ratio,
        "batches": [
            {
                "batch": row.batch,
                "runs": row.runs,
                "original": _timing(row.original),
                "candidate": _timing(row.candidate),
                "ratio": row.ratio,
                "reason": row.reason,
            }
            for row in latency.batches
        ],
    }


def _timing(timing: Timing) -> TimingEntry:
    return {"median_ms": timing.median_ms, "low_ms": timing.low_ms, "high_ms": timing.high_ms}


def _provider(use: ProviderUse) -> ProviderEntry:
    return {
        "asked": use.asked,
        "used": use.used,
        "nodes_on_provider": use.nodes_on_provider,
        "nodes_elsewhere": list(use.nodes_elsewhere),
        "options": dict(use.options),
    }


def _trial(trial: Trial) -> TrialEntry:
    shapes = {name: list(shape) for name, shape in trial.shapes.items()}
    return {"seed": trial.seed, "family": trial.family, "shapes": shapes}


def _output(output: OutputResult) -> OutputEntry:
    return {
        "name": output.name,
        "max_abs": finite(output.max_abs),
        "max_rel": finite(output.max_rel),
        "max_value": finite(output.max_value),
        "limit": finite(output.limit),
        "limit_from": output.limit_from,
        "would_pass_at": finite(output.would_pass_at),
        "argmax_agreement": finite(output.argmax_agreement),
        "ok": output.ok,
        "nan": _specials(output.nan),
        "inf": _specials(output.inf),
    }


def _specials(counts: tuple[int, int, int]) -> SpecialsEntry:
    both, original, candidate = counts
    return {"both": both, "original": original, "candidate": candidate}


def _layer(layer: LayerResult) -> VerifiedLayerEntry:
    return {
        "name": layer.name,
        "max_abs": finite(layer.max_abs),
        "limit": finite(layer.limit),
        "would_pass_at": finite(layer.would_pass_at),
        "limit_from": layer.limit_from,
        "ok": layer.ok,
    }


def _dense(dense: DenseResult) -> DenseEntry:
    return {
        "size": list(dense.size),
        "windows": dense.windows,
        "max_abs": finite(dense.max_abs),
        "limit": finite(dense.limit),
        "would_pass_at": finite(dense.would_pass_at),
        "limit_from": dense.limit_from,
        "border_effect": finite(dense.border_effect),
        "speed": None if dense.speed is None else _speed(dense.speed),
        "ok": dense.ok,
    }


def _speed(speed: DenseSpeed) -> SpeedEntry:
    return {
        "crops": speed.crops,
        "timed": speed.timed,
        "runs": speed.runs,
        "on_crops": _timing(speed.on_crops),
        "dense": _timing(speed.dense),
        "measured": speed.measured,
        "predicted": speed.predicted,
    }


def finite(value: float | None) -> float | None:
    """The number, or None where it is NaN or infinite.

    >>> finite(0.5), finite(float("inf"))
    (0.5, None)
    """
    return float(value) if value is not None and isfinite(value) else None
