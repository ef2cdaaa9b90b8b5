"""An audit as JSON: one line per finding, so that a line-based diff shows what changed."""

from __future__ import annotations

from json import dumps

from onnxscope.documents.audit import AuditDocument, ModelFindings


def json(document: AuditDocument) -> str:
    """The document as it is, ASCII only, ending in a newline."""
    models = ",\n".join(map(_model, document["models"]))
    listed = f"[\n{models}\n  ]" if models else "[]"
    return f'{{\n  "schema": {dumps(document["schema"])},\n  "models": {listed}\n}}\n'


def _model(entry: ModelFindings) -> str:
    parts = [f"      {dumps(key)}: {_value(value)}" for key, value in entry.items()]
    return "    {\n" + ",\n".join(parts) + "\n    }"


def _value(value: object) -> str:
    if isinstance(value, list) and value:
        rows = ",\n".join(f"        {dumps(row, allow_nan=False)}" for row in value)
        return f"[\n{rows}\n      ]"
    return dumps(value, allow_nan=False)
