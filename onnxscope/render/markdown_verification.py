"""A verification as Markdown (GitHub's dialect), to paste into a pull request; nothing is cut."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.documents.verification import RunEntry, VerificationDocument
from onnxscope.render import measures
from onnxscope.render.markdown import code, escaped, table
from onnxscope.render.measures import error
from onnxscope.render.words import number, times

_OUTPUTS = ("max abs diff", "max abs", "relative", "limit", "of limit", "same class")
_NUMBERS = (*_OUTPUTS, "windows", "border effect")

FOLDED = 20
"""Longer tables of values are folded."""


def markdown(document: VerificationDocument) -> str:
    """Headings and tables, ending in a newline."""
    parts = [_head(document)]
    for run in document["runs"]:
        parts += [_run(run), _layers(run), _dense(run), _limits(run), _latency(run)]
    parts.append(f"- {escaped(note)}" for note in document["notes"])
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part) + "\n"


def _head(document: VerificationDocument) -> Iterator[str]:
    answer = measures.answer(document)
    yield f"## {escaped(f'{answer[:1].upper()}{answer[1:]}')}"
    yield ""
    rows = [
        ("original", code(document["original"])),
        ("candidate", code(document["candidate"])),
        ("weights", escaped(measures.weights(document))),
        ("runtime", escaped(document["runtime"])),
    ]
    yield from table(("", ""), [row for row in rows if row[1]])


def _run(run: RunEntry) -> Iterator[str]:
    yield from (f"### {escaped(measures.provider(run))}", "", f"{escaped(measures.trials(run['trials']))}.")
    if measures.elsewhere(run):
        yield from ("", f"**{escaped(measures.elsewhere(run))}**")
    if run["first_divergence"]:
        yield from ("", f"**First divergence:** {code(run['first_divergence'])}")
    rows = [
        (
            code(row["name"]),
            error(row["max_abs"]),
            error(row["max_value"]),
            error(row["max_rel"]),
            error(row["limit"]),
            measures.multiple(row["would_pass_at"]),
            measures.agreement(row["argmax_agreement"]),
            _verdict(row["ok"]),
            escaped(measures.specials(row)),
        )
        for row in run["outputs"]
    ]
    passing = [(row["name"], measures.passing(row)) for row in run["outputs"]]
    if rows:
        titles = ("output", *_OUTPUTS, "", "NaN, Inf")
        yield ""
        yield from table(titles, rows, _NUMBERS)
    for name, tolerance in passing:
        yield from ("", f"{code(name)} {tolerance}.") if tolerance else ()
    if measures.limits_differ(run["outputs"]) or measures.limits_differ(run["layers"]):
        yield from ("", f"Note: {escaped(measures.PER_ELEMENT)}.")


def _layers(run: RunEntry) -> Iterator[str]:
    found = run["layers"]
    if not found:
        return
    rows = [
        (
            code(row["name"]),
            error(row["max_abs"]),
            error(row["limit"]),
            measures.multiple(row["would_pass_at"]),
            _verdict(row["ok"]),
        )
        for row in measures.most_telling(found)
    ]
    failing = sum(not row["ok"] for row in found)
    if len(rows) > FOLDED:
        told = f"{number(len(found))} values, {failing} beyond their limit"
        yield from (f"<details><summary>{told}</summary>", "")
    yield from table(("value", "max abs diff", "limit", "of limit", ""), rows, _NUMBERS)
    if len(found) > len(rows):
        yield from ("", f"... and {number(len(found) - len(rows))} more (--format json lists all)")
    if len(rows) > FOLDED:
        yield from ("", "</details>")


def _dense(run: RunEntry) -> Iterator[str]:
    if run["dense"]:
        rows = [
            (
                times(row["size"]),
                number(row["windows"]),
                error(row["max_abs"]),
                error(row["limit"]),
                measures.multiple(row["would_pass_at"]),
                _verdict(row["ok"]),
                "-" if row["border_effect"] is None else error(row["border_effect"]),
            )
            for row in run["dense"]
        ]
        titles = ("input", "windows", "max abs diff", "limit", "of limit", "", "border effect")
        yield from table(titles, rows, _NUMBERS)
    for row in run["dense"]:
        if row["speed"] is not None:
            yield from ("", f"{times(row['size'])}: {escaped(measures.speed(row['speed']))}.")


def _latency(run: RunEntry) -> Iterator[str]:
    found = run["latency"]
    if found is None:
        return
    yield from ("**Latency**", "")
    yield from table(measures.LATENCY, measures.latency(found), measures.LATENCY)
    for told in measures.pace(found):
        yield from ("", f"{escaped(told[:1].upper() + told[1:])}.")


def _limits(run: RunEntry) -> Iterator[str]:
    """How each limit was computed."""
    for place, (account, names) in enumerate(measures.accounts(run).items()):
        yield from ("",) * bool(place)
        yield f"Limit of {escaped(', '.join(names))}: {escaped(account)}"


def _verdict(ok: bool) -> str:
    return "ok" if ok else "**FAIL**"
