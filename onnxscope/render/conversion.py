"""A conversion or its plan as text: what becomes what, what stays and why, where a map's cells look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxscope.documents.conversion import ConversionDocument, ExampleEntry, MapEntry
from onnxscope.documents.schema import PlainShape
from onnxscope.render import measures, words
from onnxscope.render.blocks import (
    LEAST_WIDTH,
    WIDTH,
    Styled,
    assembled,
    fields,
    hanging,
    notes,
    plural,
    table,
)
from onnxscope.render.table import Column
from onnxscope.render.words import clean, number, times

SQUEEZE = (("layer", 20), ("layer", 10), ("becomes", 20), ("was", 16))


def text(document: ConversionDocument, *, width: int = WIDTH, color: bool = False) -> str:
    """The conversion in lines of at most `width` columns, ending in a newline."""
    width = max(width, LEAST_WIDTH)
    parts = [_header(document, width), _converted(document, width), _refused(document, width)]
    if document["converted"]:
        parts.append(_interfaces(document, width))
    parts += [_map(names, entry, width) for names, entry in _alike(document["maps"])]
    parts.append(_closing(document, width))
    parts.append(notes([clean(note) for note in document["notes"]], width))
    return assembled(parts, color)


def _header(document: ConversionDocument, width: int) -> Iterator[Styled]:
    source = clean(document["input"]) or "model"
    if document["output"] is not None:
        title = f"{source} -> {clean(document['output'])}"
    else:
        title = f"{source}: nothing to convert" if not document["converted"] else f"{source}: a plan, no file"
    yield from hanging(title, width, "", "  ", "title")
    yield from hanging(headline(document), width, "  ")


def headline(document: ConversionDocument) -> str:
    """How many layers, and the mode."""
    done, kept = len(document["converted"]), len(document["refused"])
    if not done + kept:
        return "it has no fully connected (FC) layer"
    if not done:
        return f"none of {plural(kept, 'FC layer')} can become a convolution"
    counts = plural(done, "FC layer") if not kept else f"{done} of {plural(done + kept, 'FC layer')}"
    what = "becomes a convolution" if done == 1 else "become convolutions"
    return f"{counts} {what}; {_mode(document)}"


def _mode(document: ConversionDocument) -> str:
    options = document["options"]
    if options["output"] == "vector":
        return "inputs and outputs stay as they are (--output vector)"
    size = "the input may be larger" if options["size"] == "dynamic" else "the input size stays"
    return f"the output is a map, {size}"


def _converted(document: ConversionDocument, width: int) -> Iterator[Styled]:
    found = document["converted"]
    if not found:
        return
    columns = [
        Column("layer", tuple(clean(row["layer"]) for row in found), name=True),
        Column("was", tuple(clean(row["from"]) for row in found)),
        Column("becomes", tuple(clean(row["to"]) for row in found)),
        Column("form", tuple(clean(row["form"]) for row in found)),
        Column("weight", tuple(clean(row["weight"]) for row in found)),
    ]
    yield from table(columns, width, SQUEEZE)
    yield from _forms(document, width)


def _forms(document: ConversionDocument, width: int) -> Iterator[Styled]:
    """Why each form was taken, where it isn't simply the one asked for."""
    asked = document["options"]["form"]
    reasons: dict[tuple[str, str], None] = {}
    for row in document["converted"]:
        if row["form_reason"] and row["form"] != asked:
            reasons[row["form"], row["form_reason"]] = None
    for form, reason in reasons:
        yield from hanging(f"form {clean(form)}: {clean(reason)}", width, "  ", "    ")


def _refused(document: ConversionDocument, width: int) -> Iterator[Styled]:
    found = document["refused"]
    if not found:
        return
    yield "title", f"{plural(len(found), 'FC layer')} {'stays' if len(found) == 1 else 'stay'}"
    by_reason: dict[str, list[str]] = {}
    for row in found:
        by_reason.setdefault(row["reason"], []).append(clean(row["layer"]))
    for reason, layers in by_reason.items():
        named = (
            ", ".join(layers)
            if len(layers) < 4
            else f"{plural(len(layers), 'layer')}, {layers[0]} to {layers[-1]}"
        )
        yield from hanging(f"{named}: {clean(reason)}", width, "  ", "    ")


def _interfaces(document: ConversionDocument, width: int) -> Iterator[Styled]:
    rows = [("input", row) for row in document["io"]["inputs"]]
    rows += [("output", row) for row in document["io"]["outputs"]]
    space = max((words.display_width(clean(row["name"])) for _, row in rows), default=0)
    space = min(space, width // 3)
    for role, row in rows:
        name = words.clean(row["name"])
        pad = " " * max(space - words.display_width(name), 0)
        start = f"{role:6}  {name}{pad}  {clean(row['dtype'] or '?')}  "
        yield from hanging(change(row["shape_before"], row["shape"]), width, start, " " * 10)


def change(before: PlainShape | None, after: PlainShape | None) -> str:
    """`[1, 10] -> [1, 10, (H - 28)//4, (W - 28)//4]`, or one shape where nothing changes."""
    was, now = words.shape(before), words.shape(after)
    return now if was == now else f"{was} -> {now}"


def _alike(maps: Sequence[MapEntry]) -> list[tuple[list[str], MapEntry]]:
    """Outputs whose cells look at the same places together."""
    found: list[tuple[list[str], MapEntry]] = []
    for entry in maps:
        same = next((names for names, other in found if {**other, "output": entry["output"]} == entry), None)
        if same is None:
            found.append(([entry["output"]], entry))
        else:
            same.append(entry["output"])
    return found


def _map(names: Sequence[str], entry: MapEntry, width: int) -> Iterator[Styled]:
    yield from hanging(f"map of {', '.join(map(clean, names))}", width, "", "  ", "title")
    yield from fields(geometry(entry), width)


NO_DISTANCE = "no fixed distance: a resize, or branches with different strides, lie in front"
"""Where no stride is known; a resize ends the trace of receptive fields."""


def geometry(entry: MapEntry) -> list[tuple[str, str]]:
    """Rows of word and text: size, distance of cells, what a cell sees, smallest input."""
    size = " x ".join(clean(str(part)) for part in entry["size"]) or "one"
    shown = [_example(example) for example in entry["examples"]]
    rows = [("cells", f"{size}: {', '.join(shown)}" if shown else size)]
    if entry["stride"] is None and any(part != 1 for part in entry["size"]):
        rows.append(("one cell every", NO_DISTANCE))
    elif entry["stride"] is not None:
        rows.append(("one cell every", _distance(entry["stride"])))
    if entry["field"] is not None:
        rows.append(("a cell sees", _pixels(entry["field"])))
    if entry["offset"] is not None:
        rows.append(("the first from", _start(entry["offset"])))
    if entry["minimum"]:
        least = ", ".join(f"{clean(name)} {number(value)}" for name, value in entry["minimum"].items())
        rows.append(("smallest input", least))
    return rows


def _example(example: ExampleEntry) -> str:
    sizes = list(example["input"].values())
    if len(sizes) == 1 and len(example["map"]) > 1:
        sizes *= len(example["map"])
    return f"{times([*example['map']])} for {times([*sizes])}"


def _pixels(sizes: Sequence[int]) -> str:
    return f"{times([*sizes])} {'pixel' if set(sizes) == {1} else 'pixels'}"


def _distance(sizes: Sequence[int]) -> str:
    return _pixels(sizes[:1] if len(set(sizes)) == 1 else sizes)


def _start(offsets: Sequence[int]) -> str:
    shown = ", ".join(map(str, offsets[:1] if len(set(offsets)) == 1 else offsets))
    padded = " (negative: in the padding)" if min(offsets) < 0 else ""
    return f"pixel {shown}{padded}"


def _closing(document: ConversionDocument, width: int) -> Iterator[Styled]:
    params = document["params"]
    before, after = number(params["before"]), number(params["after"])
    rows = [("parameters", f"{before}, unchanged" if before == after else f"{before} -> {after}")]
    if document["exactness"] is not None:
        rows.append(("exactness", EXACTNESS.get(document["exactness"], clean(document["exactness"]))))
    if document["proof"] is not None:
        rows.append(("proof", measures.summary(document["proof"])))
    elif document["output"] is not None:
        rows.append(("proof", "none was asked for (--no-verify)"))
    if document["converted"]:
        yield from fields(rows, width, indent="")


EXACTNESS = {
    "bit-equal": "the same numbers, bit for bit",
    "reassociated": "the same products, summed in another order: equal up to rounding",
    "approximate": "approximate; the notes say where",
}
"""The classes of an edit in words."""
