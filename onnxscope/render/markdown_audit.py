"""An audit as Markdown, for a comment on a pull request: the table of models, then each model's findings."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.documents.audit import AuditDocument, ModelFindings
from onnxscope.render.audit import told
from onnxscope.render.markdown import code, escaped, table
from onnxscope.render.words import count


def markdown(document: AuditDocument) -> str:
    """Headings and tables, ending in a newline; every finding is there."""
    models = document["models"]
    parts = [_head(models)]
    parts += [_findings(entry) for entry in models if entry["findings"]]
    blocks = ["\n".join(part) for part in map(list, parts) if part]
    return "\n\n".join(blocks) + "\n"


def _head(models: list[ModelFindings]) -> Iterator[str]:
    yield "# Audit"
    yield ""
    if len(models) == 1:
        yield f"{code(models[0]['path'])}: {told(models[0])}"
        return
    titles = ("model", "errors", "warnings", "notes")
    rows = [
        (code(entry["path"]), *(count(entry["summary"][name]) for name in ("error", "warning", "note")))
        for entry in models
    ]
    yield from table(titles, rows, titles[1:])


def _findings(entry: ModelFindings) -> Iterator[str]:
    yield f"## {code(entry['path'])}"
    yield ""
    rows = [
        (
            finding["severity"],
            f"{finding['code']} {escaped(finding['name'])}",
            code(finding["where"]),
            escaped(finding["message"]),
            escaped(finding["help"]),
        )
        for finding in entry["findings"]
    ]
    yield from table(("severity", "rule", "where", "what", "next"), rows)
