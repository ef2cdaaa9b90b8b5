"""An audit as aligned text: per model its findings, worst first, then one line per model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from onnxscope.documents.audit import AuditDocument, FindingEntry, ModelFindings
from onnxscope.render.blocks import LEAST_WIDTH, WIDTH, Styled, assembled, hanging, plural, table
from onnxscope.render.table import Column, middle
from onnxscope.render.words import clean, count

MOST = 10
"""Findings of one rule that are shown per model; JSON, Markdown and SARIF have all."""
STYLES = {"error": "bad", "warning": "warning", "note": "faint"}
SQUEEZE = (("model", 20),)


def text(document: AuditDocument, *, width: int = WIDTH, color: bool = False) -> str:
    """The findings in lines of at most `width` columns, ending in a newline."""
    width = max(width, LEAST_WIDTH)
    models = document["models"]
    loud = [entry for entry in models if entry["findings"]]
    parts = [part for entry in loud for part in _model(entry, width)]
    parts.append(_summary(models, width) if len(models) != 1 else _single(models[0]))
    return assembled(parts, color)


def told(entry: ModelFindings) -> str:
    """How many findings of each severity, and what isn't shown.

    >>> told({"path": "m", "findings": [], "summary": {"error": 2, "warning": 1, "note": 0}, "known": 3})
    '2 errors, 1 warning, 3 known from the baseline'
    """
    parts = [plural(found, severity) for severity, found in entry["summary"].items() if found]
    parts = parts or ["no findings"]
    if entry.get("known"):
        parts.append(f"{entry['known']} known from the baseline")
    if entry.get("allowed"):
        parts.append(f"{entry['allowed']} allowed by the model's metadata")
    return ", ".join(parts)


def _single(entry: ModelFindings) -> Iterator[Styled]:
    yield "good" if not entry["findings"] else "title", f"{clean(entry['path'])}: {told(entry)}"


def _model(entry: ModelFindings, width: int) -> Iterator[Iterator[Styled]]:
    yield iter([("title", middle(clean(entry["path"]), width))])
    shown: Counter[str] = Counter()
    left: dict[str, int] = {}
    for finding in entry["findings"]:
        shown[finding["code"]] += 1
        if shown[finding["code"]] > MOST:
            left[finding["code"]] = shown[finding["code"]] - MOST
        else:
            yield _finding(finding, width)
    if left:
        yield _left(left, width)


def _finding(finding: FindingEntry, width: int) -> Iterator[Styled]:
    title = f"{finding['severity']} {finding['code']} {finding['name']}"
    where = clean(finding["where"])
    room = width - len(title) - 2
    if where and room >= min(len(where), 16):
        yield STYLES[finding["severity"]], f"{title}: {middle(where, room)}"
    else:
        yield STYLES[finding["severity"]], title
        if where:
            yield "", f"  at {middle(where, width - 5)}"
    yield from hanging(clean(finding["message"]), width, "  ")
    if finding["help"]:
        yield from hanging(clean(finding["help"]), width, "  = ", style="faint")


def _left(left: dict[str, int], width: int) -> Iterator[Styled]:
    listed = ", ".join(f"{number} of {code}" for code, number in left.items())
    yield from hanging(f"... and {listed} (--format json lists all)", width, "")


def _summary(models: list[ModelFindings], width: int) -> Iterator[Styled]:
    if not models:
        yield "", "no models"
        return
    columns = [
        Column("model", tuple(clean(entry["path"]) for entry in models), name=True),
        *(
            Column(f"{severity}s", tuple(count(entry["summary"][severity]) for entry in models), right=True)
            for severity in ("error", "warning", "note")
        ),
    ]
    for title, key in (("known", "known"), ("allowed", "allowed")):
        if any(key in entry for entry in models):
            cells = tuple(count(int(str(entry.get(key, 0)))) for entry in models)
            columns.append(Column(title, cells, right=True))
    yield from table(columns, width, SQUEEZE)
    totals = Counter[str]()
    for entry in models:
        totals.update(entry["summary"])
    clean_ones = sum(not entry["findings"] for entry in models)
    found = ", ".join(plural(totals[severity], severity) for severity in totals if totals[severity])
    yield "title", f"{plural(len(models), 'model')}: {found or 'no findings'}; {clean_ones} without findings"
