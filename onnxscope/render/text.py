"""A report as text for a terminal: header, layers, totals, verdict on the FC layers, problems last."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.documents.schema import FullyConnectedEntry, LayerEntry, PlainSize, ReportDocument
from onnxscope.documents.verdict import percent, verdict
from onnxscope.render import words
from onnxscope.render.blocks import LEAST_WIDTH, WIDTH, Styled, assembled, hanging, plural
from onnxscope.render.columns import chosen
from onnxscope.render.symbols import abbreviated
from onnxscope.render.table import lines, middle, total_width, wrapped
from onnxscope.render.words import clean, number

MOST_PROBLEMS = 20
MOST_FLAGGED = 20
MOST_TOTAL_LINES = 12
"""Rows of these lists, and lines of one total, that are shown; JSON and Markdown have all."""


def text(document: ReportDocument, *, width: int = WIDTH, color: bool = False, explain: bool = False) -> str:
    """The report in lines of at most `width` columns, ending in a newline.

    From 80 on every line fits but for a longer path; narrower, titles of columns may need more.

    `explain` adds the worked formulas under each row; `color` adds ANSI codes.
    """
    width = max(width, LEAST_WIDTH)
    document, renamed = abbreviated(document)
    parts = (
        _header(document, width, renamed),
        _table(document, width, explain),
        _totals(document, width),
        _fully_connected(document, width),
        _spatial(document, width),
        _problems(document, width),
    )
    return assembled(parts, color)


def _header(document: ReportDocument, width: int, renamed: dict[str, str]) -> Iterator[Styled]:
    model = document["model"]
    path = clean(model["path"])
    yield "title", {"": "model", "-": "standard input"}.get(path, path)
    facts = [
        words.size_in_bytes(model["bytes"]) if model["bytes"] else "",
        plural(model["nodes"], "node"),
        plural(model["functions"], "function") if model["functions"] else "",
        f"opset {words.opsets(model['opsets'])}",
        f"IR {model['ir_version']}",
        clean(model["producer"]),
    ]
    yield from hanging(", ".join(fact for fact in facts if fact), width, "  ")
    rows = [("input", value) for value in document["inputs"]] + [
        ("output", value) for value in document["outputs"]
    ]
    names = [middle(clean(value["name"]), max(12, width // 3)) for _, value in rows]
    space = max(map(words.display_width, names), default=0)
    for (role, value), name in zip(rows, names, strict=True):
        padding = " " * (space - words.display_width(name))
        line = f"  {role:6}  {name}{padding}  {clean(value['dtype'] or '?')}  "
        for place, part in enumerate(wrapped(words.shape(value["shape"]), max(20, width - len(line)))):
            yield "", line + part if not place else " " * words.display_width(line) + part
    if renamed:
        legend = ", ".join(f"{short} = {clean(name)}" for name, short in renamed.items())
        yield from hanging(legend, width, "  sizes   ")


def _table(document: ReportDocument, width: int, explain: bool) -> Iterator[Styled]:
    if not document["layers"] and not document.get("groups"):
        yield "", "no layer that counts (--all-ops lists every node)"
        return
    columns, widths = chosen(document, width)
    header, rows = lines(columns, widths)
    rule = "-" * total_width(widths)
    yield "title", header
    yield "faint", rule
    for place, row in enumerate(rows[:-1]):
        yield from (("", line) for line in row)
        if explain and "groups" not in document:
            yield from (("faint", line) for line in _explained(document["layers"][place], width))
    yield "faint", rule
    yield from (("title", line) for line in rows[-1])
    view = document.get("view")
    if view is not None and view["rows"] < view["of"]:
        yield "", f"{view['rows']} of {view['of']} rows shown; the totals are those of the whole model"


def _explained(layer: LayerEntry, width: int) -> Iterator[str]:
    for word, text in words.worked(layer):
        yield from (line for _, line in hanging(clean(text), width, f"    {word:6}  "))


def _totals(document: ReportDocument, width: int) -> Iterator[Styled]:
    totals = document["totals"]
    kinds = ", ".join(f"{kind} {number(size)}" for kind, size in totals["params_by_kind"].items())
    by_dtype = totals["weight_bytes_by_dtype"]
    dtypes = ", ".join(f"{name} {words.size_in_bytes(size)}" for name, size in by_dtype.items())
    merged = totals["params"] == totals["trainable_params"]
    rows = [
        ("parameters", number(totals["params"]), kinds if merged else "each stored number once"),
        (
            "trainable",
            "" if merged else number(totals["trainable_params"]),
            f"as the layers use them: {kinds}",
        ),
        ("buffers", number(totals["buffers"] or ""), "running means and variances"),
        ("MACs", number(totals["macs"]), _coverage(document)),
        (
            "weights",
            words.size_in_bytes(totals["weight_bytes"]),
            dtypes if len(by_dtype) > 1 else "".join(by_dtype),
        ),
        ("activations", *_memory(totals["activation_bytes"], "all values of one run")),
        ("peak", *_peak(document)),
    ]
    rows = [row for row in rows if row[1]]
    space = max(len(value) for _, value, _ in rows if len(value) <= 28)
    yield "title", "totals"
    for word, value, remark in rows:
        start = f"  {word:11}  {value:>{space}}"
        yield from _remarked(start, remark, width, space)


def _peak(document: ReportDocument) -> tuple[str, str]:
    totals = document["totals"]
    if totals["peak_activation_bytes"] is None and totals["activation_bytes"] is not None:
        return "open", words.PEAK_OPEN
    return _memory(totals["peak_activation_bytes"], "most of them alive at once")


def _memory(size: PlainSize | None, remark: str) -> tuple[str, str]:
    return words.size_in_bytes(size), "" if size is None else remark


def _remarked(start: str, remark: str, width: int, space: int) -> Iterator[Styled]:
    """A total and its remark: beside it, or under it where the total is a long expression."""
    margin = " " * (15 + space + 2)
    if len(start) <= 15 + space:
        yield from hanging(remark, width, f"{start}  ", margin)
        return
    for place, part in enumerate(wrapped(start[15:], width - 15, MOST_TOTAL_LINES)):
        yield "", (start[:15] if not place else " " * 15) + part
    yield from hanging(remark, width, " " * 15)


def _coverage(document: ReportDocument) -> str:
    macs = document["totals"]["macs"]
    short = f"{words.scaled(macs, 'MAC')}; " if isinstance(macs, int) and macs > 9999 else ""
    return f"{short}{words.macs_remark(document['totals'])}"


def _fully_connected(document: ReportDocument, width: int) -> Iterator[Styled]:
    yield from (("title", line) for _, line in hanging(verdict(document), width, "", "  "))
    groups = _alike(document["fully_connected"])
    shown = [group for group in groups if len(group) == 1][:MOST_FLAGGED]
    space = max((words.display_width(clean(group[0]["layer"])) for group in shown), default=0)
    left = MOST_FLAGGED
    for group in groups:
        if left and len(group) == 1:
            yield from _flag(group[0], width, min(space, max(16, width * 2 // 5)))
        elif left:
            yield from _flags(group, width)
        left = max(left - 1, 0)
    if len(groups) > MOST_FLAGGED:
        yield "", f"  ... and {sum(map(len, groups[MOST_FLAGGED:]))} more (--format json lists all)"


def _alike(layers: list[FullyConnectedEntry]) -> list[list[FullyConnectedEntry]]:
    """Three or more layers that can't be replaced for the same reason together, every other layer alone."""
    by_reason: dict[str | None, list[FullyConnectedEntry]] = {}
    for layer in layers:
        if not layer["replaceable"]:
            by_reason.setdefault(layer["reason"], []).append(layer)
    found: list[list[FullyConnectedEntry]] = []
    for layer in layers:
        same = by_reason.get(layer["reason"], [])
        if layer["replaceable"] or len(same) < 3:
            found.append([layer])
        elif layer is same[0]:
            found.append(same)
    return found


def _flags(group: list[FullyConnectedEntry], width: int) -> Iterator[Styled]:
    names = f"{number(len(group))} layers, {clean(group[0]['layer'])} to {clean(group[-1]['layer'])}"
    yield from hanging(names, width, "  ")
    yield from hanging(f"no: {clean(group[0]['reason'] or '')}", width, "    ")


def _flag(layer: FullyConnectedEntry, width: int, space: int) -> Iterator[Styled]:
    name = middle(clean(layer["layer"]), space)
    share = layer["share_of_params"]
    part = "" if share is None else percent(share)
    start = f"  {name}{' ' * (space - words.display_width(name))}  {part:>7}  "
    what = layer["becomes"] if layer["replaceable"] else f"no: {layer['reason']}"
    yield from hanging(clean(what or ""), width, start)


def _spatial(document: ReportDocument, width: int) -> Iterator[Styled]:
    found = document["spatial"]
    if not found["closed_form"] and not found["minimum_input"]:
        return
    yield "title", "map sizes for a free input size"
    for name, sizes in found["closed_form"].items():
        if not sizes:  # an output without spatial axes
            continue
        yield from hanging(words.shape(sizes), width, f"  {middle(clean(name), max(16, width // 3))}  ")
    for word, sizes_of in (
        ("smallest input", found["minimum_input"]),
        ("exact step", found["exact_input_step"]),
    ):
        if any(size is not None for size in sizes_of.values()):
            shown = ", ".join(f"{clean(name)} {number(size)}" for name, size in sizes_of.items())
            yield from hanging(shown, width, f"  {word:14}  ")


def _problems(document: ReportDocument, width: int) -> Iterator[Styled]:
    found = document["problems"]
    if not found:
        return
    yield "warning", plural(len(found), "problem")
    for problem in found[:MOST_PROBLEMS]:
        yield from hanging(f"{clean(problem['where'])}: {clean(problem['message'])}", width, "  - ", "    ")
    if len(found) > MOST_PROBLEMS:
        yield "", f"  ... and {len(found) - MOST_PROBLEMS} more (--format json lists all)"
