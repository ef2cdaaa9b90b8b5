"""A document as JSON: one line per layer, value and problem, so that a line-based diff shows what changed."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from typing import Any


def json(document: Mapping[str, Any]) -> str:
    """The document as it is, ASCII only, keys in the order of the document, ending in a newline.

    Raises ValueError for a number that JSON has no form for (NaN, infinity): a document never holds one.
    """
    parts = [f"  {_plain(key)}: {_value(value)}" for key, value in document.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        rows = ",\n".join(f"    {_plain(item)}" for item in value)
        return f"[\n{rows}\n  ]"
    return _plain(value)


def _plain(value: Any) -> str:
    return dumps(value, allow_nan=False)
