"""Which rows a reader asked for: grouped by the scopes of their names, sorted, cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from onnxscope.documents.layers import Row
from onnxscope.documents.plain import plain, plain_or_none
from onnxscope.documents.schema import GroupEntry
from onnxscope.errors import UsageError
from onnxscope.expr import Size, bind, symbols
from onnxscope.graph import Node

SORT_KEYS = ("order", "name", "op", "kind", "params", "macs", "bytes")
"""What rows can be sorted by: execution order, text from a to z, or numbers from large to small."""
ASSUMED = 256
"""What a free size counts as when expressions are sorted."""
_TORCH_SCOPES = "pkg.torch.onnx.name_scopes"


class Selection(NamedTuple):
    """Which rows to show. Totals always cover the whole model."""

    all_ops: bool = False
    """Every node, not only the layers that count."""
    depth: int | None = None
    """Group by the first components of the names; None for one row per layer."""
    sort: str = "order"
    """One of SORT_KEYS."""
    top: int | None = None
    """Show only the first rows; None for all."""

    def check(self) -> None:
        """Raise UsageError for a depth or number of rows below 1, or an unknown key."""
        if self.sort not in SORT_KEYS:
            raise UsageError(f"rows can't be sorted by {self.sort!r}", help=f"keys: {', '.join(SORT_KEYS)}")
        for name, number in (("depth", self.depth), ("top", self.top)):
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, not {number}")

    @property
    def plain(self) -> bool:
        """Whether rows stay as they are."""
        return self.depth is None and self.sort == "order" and self.top is None


class Group(NamedTuple):
    """A group entry, and its sizes before they became text."""

    entry: GroupEntry
    params: Size
    macs: Size | None


Item = TypeVar("Item", Row, Group)


def arranged(rows: Sequence[Item], selection: Selection) -> list[Item]:
    """Rows sorted by the key (ties in execution order; unknown numbers last) and cut."""
    found = list(rows)
    key = _KEYS.get(selection.sort)
    if key is not None:
        found.sort(key=key)
    return found[: selection.top]


def _number(size: Size | None) -> int:
    """Sort key: large first, unknown last. Free sizes count as ASSUMED."""
    if size is None:
        return 1
    bound = bind(size, {symbol.name: ASSUMED for symbol in symbols(size)})
    return -bound if isinstance(bound, int) else 0


def _bytes(row: Row | Group) -> int:
    return row.entry["params"]["bytes"] if isinstance(row, Row) else row.entry["bytes"]


def _word(row: Row | Group, key: str) -> str:
    if isinstance(row, Row):
        return row.entry["op"] if key == "op" else row.entry["kind"]
    return ", ".join(row.entry["ops"])


_KEYS: dict[str, Callable[[Row | Group], int | str]] = {
    "name": lambda row: row.entry["name"],
    "op": lambda row: _word(row, "op"),
    "kind": lambda row: _word(row, "kind"),
    "params": lambda row: _number(row.params),
    "macs": lambda row: _number(row.macs),
    "bytes": lambda row: -_bytes(row),
}


def grouped(rows: Sequence[Row], depth: int) -> list[Group]:
    """Groups in order of their first row. A name with fewer components is a group of its own."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(path_of(row)[:depth], []).append(row)
    return [_group(".".join(path), members) for path, members in found.items()]


def _group(name: str, rows: list[Row]) -> Group:
    params: Size = sum((row.params for row in rows), 0)
    macs: Size | None = 0
    outer = [row for row in rows if not row.inner]
    for row in outer:
        macs = None if macs is None or row.macs is None else macs + row.macs
    last = (outer or rows)[-1].entry
    entry: GroupEntry = {
        "name": name,
        "layers": len(rows),
        "ops": dict(Counter(row.entry["op"] for row in rows).most_common()),
        "output": last["output"],
        "output_shape": last["output_shape"],
        "params": plain(params),
        "bytes": sum(row.entry["params"]["bytes"] for row in rows),
        "macs": plain_or_none(macs),
    }
    return Group(entry, params, macs)


def path_of(row: Row) -> tuple[str, ...]:
    """Components of torch's module path where the exporter stored it, else of the layer's name."""
    module = torch_module(row.fact.node)
    if module:
        return (*module.split("."), row.entry["name"])
    return components(row.entry["name"])


def torch_module(node: Node) -> str:
    """Path of the torch module that a node came from, for example `layer1.0.conv1`; "" where none is stored.

    Source: torch.onnx's exporter (dynamo) writes `pkg.torch.onnx.name_scopes`, a list of ever longer module
    paths whose last entry is the operation itself.
    """
    text = dict(node.metadata).get(_TORCH_SCOPES)
    if not text:
        return ""
    import ast

    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if isinstance(scopes, list) and len(scopes) >= 2 and isinstance(scopes[-2], str):
        return scopes[-2]
    return ""


def components(name: str) -> tuple[str, ...]:
    """A name split at `/` and `.`; torch's repetition of the parent (`layer1/layer1.0`) is dropped.

    >>> components("/layer1/layer1.0/conv1/Conv")
    ('layer1', '0', 'conv1', 'Conv')
    >>> components("Conv_12")
    ('Conv_12',)
    """
    found: list[str] = []
    parent = ""
    for part in name.split("/"):
        own = part[len(parent) + 1 :] if parent and part.startswith(f"{parent}.") else part
        found += [piece for piece in own.split(".") if piece]
        parent = part
    return tuple(found) or (name,)
