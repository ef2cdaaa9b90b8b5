"""An audit as SARIF 2.1.0, the exchange format of static analysis.

Regions are byte ranges of the model file; the node or tensor is the logical location.
Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
"""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from typing import Any
from urllib.parse import quote

from onnxscope.documents.audit import AuditDocument, FindingEntry
from onnxscope.documents.rules import RuleEntry

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "onnxscope/v1"
"""Key of our fingerprints; the number grows when they are made in another way."""


def sarif(document: AuditDocument, rules: Mapping[str, RuleEntry], version: str) -> str:
    """One run with the rules that found something; `rules` by code. Ends in a newline."""
    found = [(entry["path"], finding) for entry in document["models"] for finding in entry["findings"]]
    codes = sorted({finding["code"] for _, finding in found})
    places = {code: index for index, code in enumerate(codes)}
    driver = {
        "name": "onnxscope",
        "version": version,
        "rules": [_rule(rules[code]) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "artifacts": [{"location": {"uri": _uri(entry["path"])}} for entry in document["models"]],
        "results": [_result(path, finding, places[finding["code"]]) for path, finding in found],
    }
    return dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def _uri(path: str) -> str:
    """A relative or absolute reference, percent-encoded; standard input has no place on disk."""
    plain = path.replace("\\", "/")
    encoded = quote(plain.encode("utf-8", "surrogateescape"), safe="/")
    return f"file://{encoded}" if plain.startswith("/") else encoded or "model"


def _rule(rule: RuleEntry) -> dict[str, Any]:
    return {
        "id": rule["code"],
        "name": "".join(part.capitalize() for part in rule["name"].split("-")),
        "shortDescription": {"text": rule["summary"]},
        "fullDescription": {"text": " ".join(rule["flags"].split())},
        "help": {"text": f"{rule['why']}\n\n{rule['fix']}"},
        "defaultConfiguration": {"level": rule["severity"]},
        "properties": {"name": rule["name"]},
    }


def _result(path: str, finding: FindingEntry, place: int) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(path)}}
    data = finding["data"]
    if isinstance(data.get("offset"), int):
        physical["region"] = {"byteOffset": data["offset"]}
        if isinstance(data.get("length"), int):
            physical["region"]["byteLength"] = data["length"]
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding["where"]:
        location["logicalLocations"] = [{"name": finding["where"], "fullyQualifiedName": finding["where"]}]
    text = f"{finding['where']}: {finding['message']}" if finding["where"] else finding["message"]
    return {
        "ruleId": finding["code"],
        "ruleIndex": place,
        "level": finding["severity"],
        "message": {"text": f"{text}\n{finding['help']}" if finding["help"] else text},
        "locations": [location],
        "partialFingerprints": {FINGERPRINT: str(data.get("fingerprint", ""))},
        "properties": {key: value for key, value in data.items() if key != "fingerprint"},
    }
