"""A report as Markdown (GitHub's dialect), for pull requests and wikis; nothing is cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from onnxscope.documents.schema import ReportDocument
from onnxscope.documents.verdict import percent, verdict
from onnxscope.render import words
from onnxscope.render.words import clean, number

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#!])")


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is; names come from the file and may hold anything.

    >>> escaped("a|b_c <i>")
    'a\\|b\\_c \\<i\\>'
    """
    return _SPECIAL.sub(r"\\\1", clean(text))


def code(text: str) -> str:
    r"""Text as a code span that a table cell may hold: with a longer fence where it has backticks itself.

    >>> code("conv1"), code("a`b|c")
    ('`conv1`', '``a`b\\|c``')
    """
    plain = clean(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    space = " " if plain[:1] == "`" or plain[-1:] == "`" else ""
    return f"{fence}{space}{plain}{space}{fence}" if plain else ""


def markdown(document: ReportDocument, *, explain: bool = False) -> str:
    """Headings and tables, ending in a newline; `explain` adds the worked formulas of each layer."""
    parts = [
        _head(document),
        _values(document),
        _rows(document),
        _totals(document),
        _fully_connected(document),
    ]
    parts += [_spatial(document), _formulas(document) if explain else iter(()), _problems(document)]
    blocks = ["\n".join(part) for part in map(list, parts) if part]
    return "\n\n".join(blocks) + "\n"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> Iterator[str]:
    """A table; titles named in `right` are aligned to the right."""
    yield f"| {' | '.join(titles)} |"
    yield f"|{'|'.join(' ---: ' if title in right else ' --- ' for title in titles)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _head(document: ReportDocument) -> Iterator[str]:
    model = document["model"]
    yield f"# {escaped({'': 'model', '-': 'standard input'}.get(model['path'], model['path']))}"
    yield ""
    facts = (
        words.size_in_bytes(model["bytes"]),
        f"{number(model['nodes'])} nodes",
        f"opset {words.opsets(model['opsets'])}",
    )
    yield escaped(", ".join((*facts, f"IR {model['ir_version']}", model["producer"])).rstrip(", "))


def _values(document: ReportDocument) -> Iterator[str]:
    rows = [("input", value) for value in document["inputs"]] + [
        ("output", value) for value in document["outputs"]
    ]
    cells = [
        (role, code(v["name"]), escaped(v["dtype"] or "?"), escaped(words.shape(v["shape"])))
        for role, v in rows
    ]
    yield from table(("", "name", "type", "shape"), cells)


def _rows(document: ReportDocument) -> Iterator[str]:
    yield from ("## Layers", "")
    yield from _groups(document) if "groups" in document else _layers(document)
    view = document.get("view")
    if view is not None and view["rows"] < view["of"]:
        yield from (
            "",
            f"{view['rows']} of {view['of']} rows shown; the totals are those of the whole model.",
        )


def _layers(document: ReportDocument) -> Iterator[str]:
    totals = document["totals"]
    rows = [
        (
            code(layer["name"]),
            escaped(layer["op"]),
            escaped(words.shape(layer["output_shape"])),
            escaped(words.window(layer)),
            words.count(layer["params"]["total"]),
            escaped(words.count(layer["macs"])),
        )
        for layer in document["layers"]
    ]
    rows.append(("total", "", "", "", number(totals["trainable_params"]), escaped(number(totals["macs"]))))
    yield from table(("layer", "op", "output", "window", "params", "MACs"), rows, ("params", "MACs"))


def _groups(document: ReportDocument) -> Iterator[str]:
    totals = document["totals"]
    rows = [
        (
            code(group["name"]),
            number(group["layers"]),
            escaped(words.shape(group["output_shape"])),
            words.count(group["params"]),
            escaped(words.count(group["macs"])),
        )
        for group in document["groups"]
    ]
    rows.append(("total", "", "", number(totals["trainable_params"]), escaped(number(totals["macs"]))))
    yield from table(("layer", "layers", "output", "params", "MACs"), rows, ("layers", "params", "MACs"))


def _totals(document: ReportDocument) -> Iterator[str]:
    totals = document["totals"]
    kinds = ", ".join(f"{kind} {number(size)}" for kind, size in totals["params_by_kind"].items())
    dtypes = ", ".join(
        f"{name} {words.size_in_bytes(size)}" for name, size in totals["weight_bytes_by_dtype"].items()
    )
    peak = totals["peak_activation_bytes"]
    undecided = peak is None and totals["activation_bytes"] is not None
    rows = [
        ("parameters", number(totals["params"]), "each stored number once"),
        (
            "trainable",
            number(totals["trainable_params"]),
            f"as the layers use them: {kinds}" if kinds else "",
        ),
        ("buffers", number(totals["buffers"]), "running means and variances"),
        ("MACs", number(totals["macs"]), words.macs_remark(totals)),
        ("weights", words.size_in_bytes(totals["weight_bytes"]), dtypes),
        ("activations", words.size_in_bytes(totals["activation_bytes"]), "all values of one run"),
        (
            "peak",
            "open" if undecided else words.size_in_bytes(peak),
            words.PEAK_OPEN if undecided else "most activations alive at once, no reuse in place",
        ),
    ]
    yield from ("## Totals", "")
    yield from table(
        ("", "total", ""), [(word, escaped(value), escaped(note)) for word, value, note in rows], ("total",)
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _fully_connected(document: ReportDocument) -> Iterator[str]:
    yield from ("## Fully connected layers", "", escaped(_sentence(verdict(document))))
    if not document["fully_connected"]:
        return
    rows = []
    for layer in document["fully_connected"]:
        share = layer["share_of_params"]
        what = layer["becomes"] if layer["replaceable"] else f"no: {layer['reason']}"
        rows.append((code(layer["layer"]), "?" if share is None else percent(share), escaped(what or "")))
    yield ""
    yield from table(("layer", "share", "becomes"), rows, ("share",))


def _spatial(document: ReportDocument) -> Iterator[str]:
    found = document["spatial"]
    if not found["closed_form"] and not found["minimum_input"]:
        return
    yield from ("## Map sizes for a free input size", "")
    yield from table(
        ("map", "size"), [(code(n), escaped(words.shape(s))) for n, s in found["closed_form"].items() if s]
    )
    rows = [
        (code(name), number(size), number(found["exact_input_step"].get(name)))
        for name, size in found["minimum_input"].items()
    ]
    yield ""
    yield from table(("input size", "smallest", "exact step"), rows, ("smallest", "exact step"))


def _formulas(document: ReportDocument) -> Iterator[str]:
    yield from ("## Worked formulas", "")
    for layer in document["layers"]:
        worked = words.worked(layer)
        if worked:
            yield f"- {code(layer['name'])}"
            yield from (f"  - {word}: {code(text)}" for word, text in worked)


def _problems(document: ReportDocument) -> Iterator[str]:
    if not document["problems"]:
        return
    yield from ("## Problems", "")
    rows = [(code(problem["where"]), escaped(problem["message"])) for problem in document["problems"]]
    yield from table(("where", "what"), rows)
