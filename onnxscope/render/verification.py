"""A verification as text for a terminal or a pull request: the verdict first, then what it rests on."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.documents.verification import RunEntry, VerificationDocument
from onnxscope.render import measures
from onnxscope.render.blocks import LEAST_WIDTH, WIDTH, Styled, assembled, fields, hanging, notes, table
from onnxscope.render.measures import error
from onnxscope.render.table import Column
from onnxscope.render.words import clean, number, times

SQUEEZE = (("output", 16), ("value", 16), ("output", 8), ("value", 8))


def text(document: VerificationDocument, *, width: int = WIDTH, color: bool = False) -> str:
    """The verification in lines of at most `width` columns, ending in a newline."""
    width = max(width, LEAST_WIDTH)
    parts = [_header(document, width)]
    parts += [part for run in document["runs"] for part in _run(run, width)]
    parts.append(notes([clean(note) for note in document["notes"]], width))
    return assembled(parts, color)


def _header(document: VerificationDocument, width: int) -> Iterator[Styled]:
    style = "good" if document["equivalent"] else "bad"
    yield from hanging(measures.answer(document), width, "", "  ", style)
    rows = [
        ("original", clean(document["original"])),
        ("candidate", clean(document["candidate"])),
        ("weights", measures.weights(document)),
        ("runtime", clean(document["runtime"])),
    ]
    yield from fields([row for row in rows if row[1]], width)


def _run(run: RunEntry, width: int) -> Iterator[Iterator[Styled]]:
    yield _outputs(run, width)
    yield _layers(run, width)
    yield _dense(run, width)
    yield _limits(run, width)
    yield _latency(run, width)


def _outputs(run: RunEntry, width: int) -> Iterator[Styled]:
    yield from hanging(measures.provider(run), width, "", "  ", "title")
    yield from hanging(measures.trials(run["trials"]), width, "  ")
    elsewhere = measures.elsewhere(run)
    if elsewhere:
        yield from hanging(elsewhere, width, "  ", style="warning")
    if run["first_divergence"]:
        yield from hanging(f"first divergence: {clean(run['first_divergence'])}", width, "  ", style="bad")
    found = run["outputs"]
    if not found:
        return
    yield "", ""
    columns = [
        Column("output", tuple(clean(row["name"]) for row in found), name=True),
        Column("max |diff|", tuple(error(row["max_abs"]) for row in found), right=True),
        Column("max |y|", tuple(error(row["max_value"]) for row in found), right=True),
        Column("relative", tuple(error(row["max_rel"]) for row in found), right=True),
        Column("limit", tuple(error(row["limit"]) for row in found), right=True),
        Column("of limit", tuple(measures.multiple(row["would_pass_at"]) for row in found), right=True),
        Column("same class", tuple(measures.agreement(row["argmax_agreement"]) for row in found), right=True),
        Column("", tuple(measures.verdict(row["ok"]) for row in found)),
    ]
    yield from table(columns, width, SQUEEZE)
    if measures.limits_differ(found):
        yield from hanging(measures.PER_ELEMENT, width, "  ", "  ", "faint")
    for row in found:
        for special in filter(None, (measures.specials(row), measures.passing(row))):
            yield from hanging(f"{clean(row['name'])}: {special}", width, "  ", style="warning")


def _limits(run: RunEntry, width: int) -> Iterator[Styled]:
    """How each limit was computed; outputs with the same account together."""
    found = measures.accounts(run)
    if not found:
        return
    yield "title", "limits"
    for account, names in found.items():
        yield from hanging(f"{', '.join(names)}: {clean(account)}", width, "  ", "    ")


def _layers(run: RunEntry, width: int) -> Iterator[Styled]:
    found = run["layers"]
    if not found:
        return
    shown = measures.most_telling(found)
    columns = [
        Column("value", tuple(clean(row["name"]) for row in shown), name=True),
        Column("max |diff|", tuple(error(row["max_abs"]) for row in shown), right=True),
        Column("limit", tuple(error(row["limit"]) for row in shown), right=True),
        Column("of limit", tuple(measures.multiple(row["would_pass_at"]) for row in shown), right=True),
        Column("", tuple(measures.verdict(row["ok"]) for row in shown)),
    ]
    yield from table(columns, width, SQUEEZE)
    if measures.limits_differ(shown):
        yield from hanging(measures.PER_ELEMENT, width, "  ", "  ", "faint")
    if len(found) > len(shown):
        yield "", f"  ... and {len(found) - len(shown)} more (--format json lists all)"


def _dense(run: RunEntry, width: int) -> Iterator[Styled]:
    found = run["dense"]
    if not found:
        return
    columns = [
        Column("input", tuple(times(row["size"]) for row in found)),
        Column("windows", tuple(number(row["windows"]) for row in found), right=True),
        Column("max |diff|", tuple(error(row["max_abs"]) for row in found), right=True),
        Column("limit", tuple(error(row["limit"]) for row in found), right=True),
        Column("of limit", tuple(measures.multiple(row["would_pass_at"]) for row in found), right=True),
        Column("", tuple(measures.verdict(row["ok"]) for row in found)),
        Column("border effect", tuple(_border(row["border_effect"]) for row in found), right=True),
    ]
    yield from table(columns, width, ())
    if any(row["border_effect"] is not None for row in found):
        text = (
            "border effect: difference from the original network on the cropped image, which pads where the"
            " larger image has pixels; it is no failure"
        )
        yield from hanging(text, width, "  ", "  ", "faint")
    for row in found:
        if row["speed"] is not None:
            yield from hanging(f"{times(row['size'])}: {measures.speed(row['speed'])}", width, "  ", "    ")


def _latency(run: RunEntry, width: int) -> Iterator[Styled]:
    found = run["latency"]
    if found is None:
        return
    yield "title", "latency"
    cells = zip(measures.LATENCY, zip(*measures.latency(found), strict=True), strict=True)
    yield from table([Column(title, column, right=True) for title, column in cells], width, ())
    for told in measures.pace(found):
        yield from hanging(told, width, "  ", "    ")


def _border(value: float | None) -> str:
    return "-" if value is None else error(value)
