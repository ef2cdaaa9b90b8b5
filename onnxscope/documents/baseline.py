"""A baseline: the findings of an earlier audit, read from its JSON document."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from onnxscope.documents.audit import AUDIT
from onnxscope.errors import UsageError


@dataclass(frozen=True, slots=True)
class Baseline:
    """Fingerprints by path of the model."""

    models: dict[str, frozenset[str]] = field(default_factory=dict)

    def of(self, path: str) -> frozenset[str]:
        """What is known of a model: by its path, else by its file name where only one model has that."""
        exact = self.models.get(_plain(path))
        if exact is not None:
            return exact
        name = os.path.basename(_plain(path))
        alike = [known for other, known in self.models.items() if os.path.basename(other) == name]
        return alike[0] if len(alike) == 1 else frozenset()


def read(path: str | None) -> Baseline | None:
    """The baseline in a file; None for no path. Raises UsageError where it is no audit document."""
    if path is None:
        return None
    make = "make one with: onnxscope audit MODEL... --format json -o FILE"
    try:
        with open(path, "rb") as file:
            document: Any = json.load(file)
    except OSError as error:
        raise UsageError(f"can't be read: {error.strerror}", where=path, help=make) from None
    except ValueError as error:
        raise UsageError(f"this is no JSON: {error}", where=path, help=make) from None
    try:
        if document["schema"] != AUDIT:
            raise KeyError("schema")
        return Baseline(
            {
                _plain(entry["path"]): frozenset(row["data"]["fingerprint"] for row in entry["findings"])
                for entry in document["models"]
            }
        )
    except (KeyError, TypeError):
        raise UsageError(f"this is no document of the form {AUDIT}", where=path, help=make) from None


def _plain(path: str) -> str:
    return os.path.normpath(path).replace(os.sep, "/")
