"""Short names for long symbols: `p2o.DynamicDimension.1` in every cell leaves no room for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from typing import Any, cast

from onnxscope.documents.schema import PlainShape, ReportDocument

LONGEST = 7
"""A symbol with more characters than this gets a short name ..."""
LONGEST_IN_EXPRESSIONS = 3
"""... and one with more than this where sizes are expressions, which name it over and over."""
_LETTERS = {1: "N", 2: "NL", 3: "NCL", 4: "NCHW", 5: "NCDHW"}
"""Names by rank and axis: batch, channels, then the spatial axes, as ONNX writes them."""
_NAMES = frozenset(
    ("name", "layer", "where", "scope", "path", "input", "output", "shared_with", "op", "kind", "dtype")
)
"""Keys whose text is a name, not a size."""


def abbreviated(document: ReportDocument) -> tuple[ReportDocument, dict[str, str]]:
    """The document with long symbols of its inputs renamed, and what was renamed: symbol -> short name."""
    chosen = _short_names(document)
    if not chosen:
        return document, {}
    longest_first = sorted(chosen, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest_first))

    def rename(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(lambda found: chosen[found[0]], value)
        if isinstance(value, list):
            return [rename(item) for item in value]
        if isinstance(value, dict):
            return {key: item if key in _NAMES else rename(item) for key, item in value.items()}
        return value

    changed = cast("dict[str, Any]", copy(document))
    for key in ("inputs", "outputs", "layers", "groups", "totals"):
        if key in changed:
            changed[key] = rename(changed[key])
    spatial = document["spatial"]
    changed["spatial"] = {
        "closed_form": {name: rename(sizes) for name, sizes in spatial["closed_form"].items()},
        "minimum_input": {rename(name): size for name, size in spatial["minimum_input"].items()},
        "exact_input_step": {rename(name): size for name, size in spatial["exact_input_step"].items()},
    }
    return cast("ReportDocument", changed), chosen


def _short_names(document: ReportDocument) -> dict[str, str]:
    """Symbol -> letter of its axis, or `s1`, `s2`, ... where that is taken."""
    shapes = [value["shape"] for value in document["inputs"] if value["shape"] is not None]
    taken = {size for shape in shapes for size in shape if isinstance(size, str)}
    chosen: dict[str, str] = {}
    longest = LONGEST_IN_EXPRESSIONS if _has_expressions(document) else LONGEST
    for shape in shapes:
        for size, letter in _lettered(shape):
            if isinstance(size, str) and len(size) > longest and size not in chosen:
                free = (f"s{number}" for number in range(1, len(taken) + 2))
                chosen[size] = (
                    letter if letter and letter not in taken else next(n for n in free if n not in taken)
                )
                taken.add(chosen[size])
    return chosen


def _has_expressions(document: ReportDocument) -> bool:
    shapes = (layer["output_shape"] for layer in document["layers"])
    return any(isinstance(size, str) and "//" in size for shape in shapes for size in shape or ())


def _lettered(shape: PlainShape) -> Iterator[tuple[int | str, str]]:
    letters = _LETTERS.get(len(shape), "")
    for axis, size in enumerate(shape):
        yield size, letters[axis : axis + 1]
