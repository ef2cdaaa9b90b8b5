"""How errors, limits and trials of a verification are written for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from onnxscope.documents.verification import (
    LatencyEntry,
    OutputEntry,
    RunEntry,
    SpecialsEntry,
    SpeedEntry,
    TimingEntry,
    TrialEntry,
    VerificationDocument,
    VerifiedLayerEntry,
)
from onnxscope.render.blocks import plural
from onnxscope.render.words import clean, number, shape, times

MOST_SHAPES = 3
MOST_LAYERS = 30
"""Intermediate values that are shown, and as many failing ones behind; JSON has all."""
_REASONS = {
    "weights": "a converted layer has other weights",
    "interface": "the inputs or outputs differ",
    "outputs": "an output differs by more than its limit",
    "layers": "an intermediate value differs by more than its limit",
    "random": "random numbers are drawn, so the outputs can't be compared",
    "dense": "the head differs on a window of a larger map",
}


def most_telling(found: Sequence[VerifiedLayerEntry]) -> list[VerifiedLayerEntry]:
    """The first MOST_LAYERS values, and those beyond their limit, twice as many at most.

    A comment on a pull request holds 65,536 characters.
    """
    told = [row for place, row in enumerate(found) if place < MOST_LAYERS or not row["ok"]]
    return told[: 2 * MOST_LAYERS]


def error(value: float | None) -> str:
    """Two digits; `?` for NaN and infinity, which JSON can't hold.

    >>> error(0.0), error(4.77e-06), error(None)
    ('0', '4.8e-06', '?')
    """
    if value is None:
        return "?"
    return "0" if value == 0 else f"{value:.1e}"


def multiple(value: float | None) -> str:
    """A multiple of the limit.

    >>> multiple(0.044), multiple(312.0), multiple(0.0), multiple(None)
    ('0.044', '310', '0', '?')
    """
    if value is None:
        return "?"
    if value == 0:
        return "0"
    digits = f"{value:.2g}"
    return f"{float(digits):,.0f}" if 100 <= value < 1e7 else digits


def agreement(value: float | None) -> str:
    """Share of rows with the same largest class; never 100 % where one differs.

    >>> agreement(1.0), agreement(0.99999), agreement(None)
    ('100 %', '99.9 %', '-')
    """
    if value is None:
        return "-"
    return (
        f"{value:.0%}".replace("%", " %")
        if value in (0, 1)
        else f"{min(value, 0.999):.1%}".replace("%", " %")
    )


def verdict(ok: bool) -> str:
    """One word for a row."""
    return "ok" if ok else "FAIL"


def answer(document: VerificationDocument) -> str:
    """The first line of every form."""
    if document["equivalent"]:
        return "equivalent"
    return f"NOT equivalent: {why(document['reason'])}"


def why(reason: str | None) -> str:
    """The reason as a clause."""
    return _REASONS.get(reason or "", clean(reason or "no reason given"))


def weights(document: VerificationDocument) -> str:
    """Counts of weight tensors; permuted ones are named only where there are some."""
    counts = document["weights"]
    if not any(counts.values()):
        return "no tensors to compare"
    parts = [f"{number(counts[key])} {key}" for key in ("identical", "permuted", "changed")]
    return f"{', '.join(parts)} (tensors, compared bit by bit)"


def provider(run: RunEntry) -> str:
    """What was asked for and what ran: `cpu: CPUExecutionProvider, 24 nodes`."""
    use = run["provider"]
    options = ", ".join(f"{key}={value}" for key, value in use["options"].items())
    asked = clean(use["asked"])
    used = clean(use["used"]) + (f" ({clean(options)})" if options else "")
    parts = [f"{asked}: {used}"]
    if use["nodes_on_provider"]:
        parts.append(plural(use["nodes_on_provider"], "node"))
    return ", ".join(parts)


def elsewhere(run: RunEntry) -> str:
    """Nodes that another provider ran; empty where there are none."""
    found = run["provider"]["nodes_elsewhere"]
    if not found:
        return ""
    shown = ", ".join(map(clean, found[:5])) + (", ..." if len(found) > 5 else "")
    return f"{plural(len(found), 'node')} elsewhere: {shown}"


def trials(found: Sequence[TrialEntry]) -> str:
    """How many, of which families, seeds and sizes."""
    if not found:
        return "no trials"
    families = Counter(clean(trial["family"]) for trial in found)
    even = set(families.values())
    each = f"{families.most_common(1)[0][1]} of each family: " if len(even) == 1 and even != {1} else ""
    named = each + ", ".join(name if len(even) == 1 else f"{n} {name}" for name, n in families.items())
    seeds = sorted({trial["seed"] for trial in found})
    span = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return f"{plural(len(found), 'trial')} ({named}; {span}) on {_sizes(found)}"


def _sizes(found: Sequence[TrialEntry]) -> str:
    distinct = list(dict.fromkeys(_size(trial) for trial in found))
    more = f" and {len(distinct) - MOST_SHAPES} more" if len(distinct) > MOST_SHAPES else ""
    return "; ".join(distinct[:MOST_SHAPES]) + more


def _size(trial: TrialEntry) -> str:
    shown = ", ".join(f"{clean(name)} {shape([*sizes])}" for name, sizes in trial["shapes"].items())
    return shown or "no inputs"


PER_ELEMENT = (
    'limits differ from element to element: the one shown is that of the largest difference; "of limit" is'
    " the largest share of its own limit that any element reaches"
)


def limits_differ(rows: Sequence[OutputEntry] | Sequence[VerifiedLayerEntry]) -> bool:
    """Whether an element comes nearer to its limit than the one with the largest difference."""
    return any(
        row["ok"] and (row["max_abs"] or 0) < 0.99 * (row["limit"] or 0) * (row["would_pass_at"] or 0)
        for row in rows
    )


def passing(row: OutputEntry) -> str:
    """For an output that fails: the tolerance that would just have passed; "" where none would."""
    tolerable = not row["ok"] and not specials(row) and row["max_abs"]
    return f"would pass with --atol {_above(row['max_abs'] or 0)}" if tolerable else ""


def _above(value: float) -> str:
    """Three digits, rounded up.

    >>> _above(0.0012341), _above(3.0)
    ('0.00124', '3')
    """
    shown = f"{value:.3g}"
    return shown if float(shown) >= value else f"{value * (1 + 5e-3):.3g}"


def specials(output: OutputEntry) -> str:
    """NaN and infinities, where there are any: `NaN 3 in both, 1 in the candidate only`."""
    parts = (_special("NaN", output["nan"]), _special("Inf", output["inf"]))
    return "; ".join(part for part in parts if part)


def _special(word: str, counts: SpecialsEntry) -> str:
    named: tuple[tuple[Literal["both", "original", "candidate"], str], ...] = (
        ("both", "in both"),
        ("original", "in the original only"),
        ("candidate", "in the candidate only"),
    )
    shown = [f"{number(counts[key])} {text}" for key, text in named if counts[key]]
    return f"{word} {', '.join(shown)}" if shown else ""


LATENCY = ("batch", "original ms", "quartiles", "candidate ms", "quartiles", "ratio")
"""Titles of the columns of `latency`."""


def latency(found: LatencyEntry) -> list[tuple[str, ...]]:
    """One row per batch size: medians and quartiles of both in milliseconds, and their ratio."""
    return [
        (
            "-" if row["batch"] is None else number(row["batch"]),
            milliseconds(row["original"]["median_ms"]),
            _quartiles(row["original"]),
            milliseconds(row["candidate"]["median_ms"]),
            _quartiles(row["candidate"]),
            f"{row['ratio']:.2f}",
        )
        for row in found["batches"]
    ]


def pace(found: LatencyEntry) -> list[str]:
    """What the ratios say: how they were taken, then each batch size at which the candidate is slower."""
    runs = sorted({row["runs"] for row in found["batches"]})
    span = f"{runs[0]} to {runs[-1]}" if len(runs) > 1 else "".join(map(str, runs))
    told = [f"medians and quartiles of {span} interleaved runs each; ratio: candidate / original"]
    reasons: dict[str, list[str]] = {}
    for row in found["batches"]:
        if row["reason"] is not None:
            reasons.setdefault(row["reason"], []).append(f"batch {row['batch']}")
    told += [f"slower at {' and '.join(sizes)}: {reason}" for reason, sizes in reasons.items()]
    return told


def speed(found: SpeedEntry) -> str:
    """What a dense map gains, as predicted and as measured."""
    foreseen = found["predicted"]
    predicted = "not predicted (MACs unknown)" if foreseen is None else f"predicted {foreseen:.1f}x from MACs"
    scaled = f" (scaled from {number(found['timed'])})" if found["timed"] < found["crops"] else ""
    one, all_ = (
        f"{milliseconds(part['median_ms'])} ms ({_quartiles(part)})"
        for part in (found["dense"], found["on_crops"])
    )
    return (
        f"speed-up {predicted}, measured {found['measured']:.1f}x: one pass {one}, the original on"
        f" {plural(found['crops'], 'crop')} {all_}{scaled}; medians and quartiles of {found['runs']}"
        " interleaved runs"
    )


def milliseconds(value: float) -> str:
    """Three digits.

    >>> milliseconds(0.04711), milliseconds(41.7), milliseconds(12345.6)
    ('0.0471', '41.7', '12,300')
    """
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def _quartiles(found: TimingEntry) -> str:
    return f"{milliseconds(found['low_ms'])} to {milliseconds(found['high_ms'])}"


NAMED = 4
"""Names that an account of limits lists before it counts the rest."""


def accounts(run: RunEntry) -> dict[str, list[str]]:
    """How limits were computed -> what it holds for: outputs, intermediate values, larger inputs."""
    found: dict[str, list[str]] = {}
    named = [(row["limit_from"], clean(row["name"])) for row in (*run["outputs"], *run["layers"])]
    named += [(row["limit_from"], f"input {times(row['size'])}") for row in run["dense"]]
    for account, name in named:
        if account:
            found.setdefault(account, []).append(name)
    return {
        account: [*names[:NAMED], *([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])]
        for account, names in found.items()
    }


def summary(document: VerificationDocument) -> str:
    """One line, for a conversion's report."""
    head = answer(document)
    run = next((run for run in document["runs"] if not run["equivalent"]), None) or next(
        iter(document["runs"]), None
    )
    if run is None:
        return head
    asked = f"on {clean(run['provider']['asked'])} ({clean(document['runtime'])})"
    worst = max(run["outputs"], key=_severity, default=None)
    parts = [f"{head} {asked}: {plural(len(run['trials']), 'trial')}"]
    if worst is not None:
        found = f"largest difference {error(worst['max_abs'])} in {clean(worst['name'])}"
        parts.append(f"{found}, {_against(worst)}")
    if run["first_divergence"]:
        parts.append(f"first divergence at {clean(run['first_divergence'])}")
    return ", ".join(parts)


def _against(output: OutputEntry) -> str:
    if output["would_pass_at"] is None:
        return "NaN or infinite on one side" if specials(output) else "where none is allowed"
    share = multiple(output["would_pass_at"])
    return f"at most {share} of the limit" if output["ok"] else f"{share} times the limit"


def _severity(output: OutputEntry) -> float:
    return float("inf") if output["would_pass_at"] is None else output["would_pass_at"]
