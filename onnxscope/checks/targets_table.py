"""Tables of what providers took when they were asked: `data/<target>.txt`, written by benchmarks/targets.py.

A line is `op|versions taken|versions not taken|types taken|types not taken`; versions are those in which the
op changed, types those of its first input. What no line says is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Line:
    """What is known of one op."""

    versions: frozenset[int]
    """Versions of which the provider took a case."""
    refused: frozenset[int]
    """Versions of which it took none."""
    types: frozenset[str]
    """Element types of the first input of which it took a case."""
    refused_types: frozenset[str]


@dataclass(frozen=True, slots=True)
class Table:
    """One provider's table."""

    source: str
    """The runtime and the cases, with their versions."""
    lines: dict[str, Line]
    """By op of the default domain."""

    def refusal(self, op: str, since: int | None, kind: str) -> str | None:
        """Why the provider leaves a node to the CPU: "" where it takes it, None where nothing is known.

        `since` is the version of the op, None where it isn't known; `kind` the element type of the node's
        first input, "" likewise.
        """
        line = self.lines.get(op)
        if line is None:
            return None
        if not line.versions and (since is None or since in line.refused):
            return op
        if since in line.refused:
            return f"{op} as of opset {since}"
        if kind in line.refused_types:
            return f"{op} of {kind}"
        return "" if kind in line.types and (since is None or since in line.versions) else None


@cache
def table(target: str) -> Table | None:
    """The table of a target; None where there is none.

    >>> table("webgpu").refusal("Conv", 11, "float32"), table("abacus")
    ('', None)
    """
    file = files("onnxscope.checks").joinpath("data", f"{target}.txt")
    if not file.is_file():
        return None
    source, *rows = file.read_text(encoding="utf-8").splitlines()
    lines = {op: _line(cells) for op, *cells in (row.split("|") for row in rows)}
    return Table(source.removeprefix("# "), lines)


def _line(cells: list[str]) -> Line:
    taken, refused, types, refused_types = (frozenset(cell.split()) for cell in cells)
    return Line(frozenset(map(int, taken)), frozenset(map(int, refused)), types, refused_types)
