"""What a user asks of an audit: rules chosen, severities changed, targets and budgets."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Budget:
    """Most (or least) that a model may have; None where nothing is asked."""

    max_params: int | None = None
    """Stored numbers, running statistics apart."""
    max_macs: int | None = None
    """Multiply-accumulates of one run."""
    max_bytes: int | None = None
    """Bytes of the model file and its external data."""
    max_peak_activation: int | None = None
    """Bytes of values alive at one node."""
    opset_min: int | None = None
    """Least version of the default domain."""
    required_metadata: tuple[str, ...] = ()
    """Keys that the model's metadata must have."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One model's settings."""

    select: tuple[str, ...] = ()
    """Codes, names or prefixes of codes of the rules to run; all where empty."""
    ignore: tuple[str, ...] = ()
    """Codes, names or prefixes of codes of the rules to leave out; the closer of two patterns wins."""
    severity: dict[str, str] = field(default_factory=dict)
    """Code, name or prefix -> severity that replaces the rule's own."""
    targets: tuple[str, ...] = ()
    """Names of deployment targets, lower case, as given to `--target`."""
    budget: Budget = field(default_factory=Budget)
    dims: dict[str, int] = field(default_factory=dict)
    """Numbers for free sizes by name; names that a model doesn't have are left out."""
