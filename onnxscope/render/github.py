"""An audit as workflow commands of GitHub Actions, which become annotations.

Source: GitHub documentation, "Workflow commands for GitHub Actions", setting a notice, warning or error.
"""

from __future__ import annotations

from onnxscope.documents.audit import AuditDocument
from onnxscope.render.audit import told
from onnxscope.render.words import clean

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def github(document: AuditDocument) -> str:
    """One line per finding, then one per model that says how many there are; ends in a newline."""
    lines = [
        f"::{COMMANDS[finding['severity']]} file={_property(entry['path'])},"
        f"title={_property(clean(finding['code'] + ' ' + finding['name']))}"
        f"::{_data(_message(finding['where'], finding['message'], finding['help']))}"
        for entry in document["models"]
        for finding in entry["findings"]
    ]
    # A line that begins with a colon would be a command.
    lines += [f"onnxscope audit: {clean(entry['path'])}: {told(entry)}" for entry in document["models"]]
    return "\n".join(lines) + "\n"


def _message(where: str, message: str, help: str) -> str:
    text = f"{clean(where)}: {clean(message)}" if where else clean(message)
    return f"{text}\n{clean(help)}" if help else text


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
