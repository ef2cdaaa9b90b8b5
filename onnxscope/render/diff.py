"""The difference of two models as text and Markdown: one list of rows, two forms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxscope.documents.diff import Change, ChangedWeight, DiffDocument
from onnxscope.render import markdown as marked
from onnxscope.render.blocks import LEAST_WIDTH, WIDTH, Styled, assembled, hanging, plural, table
from onnxscope.render.table import Column
from onnxscope.render.words import clean, number, shape

MOST = 20
"""Rows of one section that text shows; Markdown and JSON have all."""


@dataclass(frozen=True, slots=True)
class Section:
    """One table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def text(document: DiffDocument, *, width: int = WIDTH, color: bool = False) -> str:
    """The difference in lines of at most `width` columns, ending in a newline."""
    width = max(width, LEAST_WIDTH)
    found = sections(document)
    tables = ((_findings_list if each.title == "Findings" else _table)(each, width) for each in found)
    return assembled([_head(document, width), *tables], color)


def markdown(document: DiffDocument) -> str:
    """Headings and tables for a review, ending in a newline."""
    parts = [f"# {verdict(document)}", f"{marked.code(document['old'])} → {marked.code(document['new'])}"]
    for section in sections(document):
        rows = [tuple(marked.escaped(cell) for cell in row) for row in section.rows]
        parts.append(f"## {section.title}")
        parts.append("\n".join(marked.table(section.columns, rows)))
    return "\n\n".join(parts) + "\n"


def verdict(document: DiffDocument) -> str:
    """One line."""
    if document["equal"]:
        renamed = document["nodes"]["renamed"]
        return "No difference" + (f" but the names of {plural(renamed, 'node')}" if renamed else "")
    nodes, weights, found = document["nodes"], document["weights"], document["findings"]
    counts = (
        (len(document["interface"]), "interface change"),
        (len(nodes["added"]), "added node"),
        (len(nodes["removed"]), "removed node"),
        (len(nodes["changed"]), "changed node"),
        (len(weights["changed"]), "changed tensor"),
        (len(found["gained"]), "new finding"),
    )
    told = [plural(count, noun) for count, noun in counts if count]
    return f"Models differ: {', '.join(told) or 'see below'}"


def sections(document: DiffDocument) -> Iterator[Section]:
    """The tables that have rows."""
    for section in (
        _changes("Interface", document["interface"]),
        _changes("Model", document["model"]),
        _totals(document),
        _nodes(document),
        _changed_nodes(document),
        _weights(document),
        _shapes(document),
        _findings(document),
    ):
        if section.rows:
            yield section


def _head(document: DiffDocument, width: int) -> Iterator[Styled]:
    yield "good" if document["equal"] else "title", verdict(document)
    yield from hanging(clean(document["old"]), width, "  old  ")
    yield from hanging(clean(document["new"]), width, "  new  ")
    nodes, weights = document["nodes"], document["weights"]
    paired = f"{plural(nodes['paired'], 'node')} paired, {number(nodes['renamed'])} of them renamed"
    yield from hanging(
        f"{paired}; {plural(weights['identical'], 'tensor')} bit for bit the same", width, "  "
    )


def _changes(title: str, rows: Sequence[Change]) -> Section:
    cells = tuple((clean(row["what"]), _side(row["old"]), _side(row["new"])) for row in rows)
    return Section(title, ("what", "old", "new"), cells)


def _side(text: str | None) -> str:
    return "-" if text is None else clean(text)


def _totals(document: DiffDocument) -> Section:
    rows = []
    for total in document["totals"]:
        old, new = total["old"], total["new"]
        if old != new:
            change = f"{new - old:+,}" if isinstance(old, int) and isinstance(new, int) else ""
            rows.append((total["what"].replace("_", " "), number(old), number(new), change))
    return Section("Totals", ("what", "old", "new", "change"), tuple(rows))


def _nodes(document: DiffDocument) -> Section:
    nodes = document["nodes"]
    rows = [("added", node["op"], clean(node["name"])) for node in nodes["added"]]
    rows += [("removed", node["op"], clean(node["name"])) for node in nodes["removed"]]
    return Section("Nodes added and removed", ("what", "op", "node"), tuple(rows))


def _changed_nodes(document: DiffDocument) -> Section:
    rows = [
        (
            _renamed(node["old"], node["new"]),
            clean(change["what"]),
            _side(change["old"]),
            _side(change["new"]),
        )
        for node in document["nodes"]["changed"]
        for change in node["what"]
    ]
    return Section("Nodes changed", ("node", "what", "old", "new"), tuple(rows))


def _renamed(old: str, new: str) -> str:
    return clean(new) if old == new else f"{clean(old)} → {clean(new)}"


def _weights(document: DiffDocument) -> Section:
    weights = document["weights"]
    rows = [(_renamed(row["old"], row["new"]), *_weight(row)) for row in weights["changed"]]
    for what in ("added", "removed"):
        entries = weights["added"] if what == "added" else weights["removed"]
        rows += [
            (clean(row["name"]), f"{row['dtype']} {shape([*row['shape']])}", what, "", "") for row in entries
        ]
    return Section("Weights", ("tensor", "type", "changed", "max |change|", "note"), tuple(rows))


def _weight(row: ChangedWeight) -> tuple[str, str, str, str]:
    old, new = (f"{row['dtype'][side]} {shape([*row['shape'][side]])}" for side in (0, 1))
    kind = new if old == new else f"{old} → {new}"
    changed = "all" if row["changed"] is None else f"{number(row['changed'])} of {number(row['elements'])}"
    most = "" if row["max_change"] is None else f"{row['max_change']:.3g}"
    return kind, changed, most, clean(row["note"] or "")


def _shapes(document: DiffDocument) -> Section:
    rows = tuple(
        (_renamed(row["old_name"], row["new_name"]), shape(row["old"]), shape(row["new"]))
        for row in document["shapes"]
    )
    return Section("Shapes", ("value", "old", "new"), rows)


def _findings(document: DiffDocument) -> Section:
    found = document["findings"]
    rows = tuple(
        (what, finding["severity"], f"{finding['code']} {finding['name']}", clean(finding["where"]),
         clean(finding["message"]))
        for what, listed in (("gained", found["gained"]), ("lost", found["lost"]))
        for finding in listed
    )  # fmt: skip
    return Section("Findings", ("what", "severity", "rule", "where", "message"), rows)


def _findings_list(section: Section, width: int) -> Iterator[Styled]:
    """Messages are sentences: they need the whole width."""
    yield "title", section.title
    for what, severity, rule, where, message in section.rows[:MOST]:
        title = f"{what} {severity} {rule}{': ' * bool(where)}{where}"
        yield from hanging(title, width, "  ", "    ")
        yield from hanging(message, width, "    ")
    if len(section.rows) > MOST:
        yield "", f"... and {len(section.rows) - MOST} more (--format json lists all)"


def _table(section: Section, width: int) -> Iterator[Styled]:
    shown = section.rows[:MOST]
    names = ("node", "tensor", "value", "where")
    columns = [
        Column(title, tuple(row[place] for row in shown), name=title in names)
        for place, title in enumerate(section.columns)
    ]
    yield "title", section.title
    squeeze = [(title, 14) for title in ("note", "message", "old", "new", *names, "rule", "type", "what")]
    yield from table(columns, width, [*squeeze, *((title, 8) for title, _ in squeeze)])
    if len(section.rows) > MOST:
        yield "", f"... and {len(section.rows) - MOST} more (--format json lists all)"
