"""What a rule finds."""

from __future__ import annotations

from dataclasses import dataclass, field

SEVERITIES = ("error", "warning", "note")
"""From worst to mildest."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect, or one thing worth knowing, in a model."""

    code: str
    """Code of the rule, for example `OX201`."""
    name: str
    """Name of the rule: what is bad, so that it reads well after "allow"."""
    severity: str
    """error, warning or note."""
    where: str
    """Node label, tensor, value or metadata key by its own name; "" for the file."""
    message: str
    """The defect by its plain term, with both values where two disagree."""
    help: str = ""
    """What to do next; names the command that fixes it where there is one."""
    data: dict[str, object] = field(default_factory=dict)
    """The numbers of the message, typed."""
    offset: int | None = None
    """Byte offset of the message in the file, where it is known."""
