"""The table of rules.

A rule is a generator function; the names of its parameters say which facts it wants, and the runner hands it
those:

    @check("OX224", "batch-baked-in", severity="warning")
    def batch_baked_in(facts: Facts) -> Iterator[Finding]: ...

Wants: `model`, `graph` (the main graph), `facts`, `params`, `cost`, `memory`, `fields` (receptive fields),
`heads`, `weights` (`weights.Weights`: statistics of every stored tensor, from one pass over the file),
`target` (name of a deployment target as given to `--target`, lower case; the rule runs once per target, not
at all without one), `settings` (`settings.Settings`). Asking for `weights` is what makes an audit read the
payload bytes.

The docstring of a rule has the sections What it flags / Why it matters / Bad / Good / Fix and its safety /
Source, each a line `Bad:` with its text indented by four below it. Bad and Good are ONNX text (onnx.parser);
tests run them, `onnxscope rules CODE` prints them. `Bad: --target tensorrt` runs the text for a target;
`Bad: see tests/checks/test_windows.py` says that a test written by hand shows it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from onnxscope.checks.finding import SEVERITIES, Finding
from onnxscope.errors import UsageError

WANTS = "model graph facts params cost memory fields heads weights target settings".split()
"""Names that a rule's parameters may have."""


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """One row of the table."""

    code: str
    name: str
    severity: str
    function: Callable[..., Iterator[Finding]]
    wants: tuple[str, ...]
    default: bool = True
    """False for a rule that runs only where its own code or name is selected."""
    fix: str = ""
    """The command that mends what it finds, of MODEL to OUT."""

    @property
    def page(self) -> str:
        """The docstring: what `onnxscope rules CODE` prints."""
        from inspect import getdoc

        return getdoc(self.function) or ""

    def finding(self, where: str, message: str, help: str = "", **data: Any) -> Finding:
        """A finding of this rule; its help is the rule's command where none is given."""
        return Finding(self.code, self.name, self.severity, where, message, help or self.fix, data)


EXACT = 5
"""Closeness of a code (its length) or a name."""

_RULES: dict[str, RuleInfo] = {}


def check(
    code: str, name: str, *, severity: str, default: bool = True, fix: str = ""
) -> Callable[[Callable[..., Iterator[Finding]]], RuleInfo]:
    """Register a rule. The decorated name becomes its `RuleInfo`; `RuleInfo.finding` makes its findings.

    A rule that says something of every model, or costs much, is no `default`: `--select CODE` runs it. `fix`
    is a command that mends what is found, from MODEL to OUT: a test runs it on Bad.
    """

    def register(function: Callable[..., Iterator[Finding]]) -> RuleInfo:
        wants = function.__code__.co_varnames[: function.__code__.co_argcount]
        assert severity in SEVERITIES
        assert set(wants) <= set(WANTS), f"{code} wants {set(wants) - set(WANTS)}"
        assert code not in _RULES, f"two rules with code {code}"
        assert name not in {rule.name for rule in _RULES.values()}, f"two rules named {name}"
        _RULES[code] = rule = RuleInfo(code, name, severity, function, tuple(wants), default, fix)
        return rule

    return register


@cache
def _load() -> None:
    """Import every `rules_*` module of this package, so that each registers its rules: no list to keep."""
    for path in sorted(Path(__file__).parent.glob("rules_*.py")):
        importlib.import_module(f"onnxscope.checks.{path.stem}")


def rules() -> tuple[RuleInfo, ...]:
    """Every rule, by code."""
    _load()
    return tuple(rule for _, rule in sorted(_RULES.items()))


def find(code: str) -> RuleInfo | None:
    """The rule of a code or name; None where there is none."""
    return next((rule for rule in rules() if code in (rule.code, rule.name)), None)


def match(info: RuleInfo, patterns: Iterable[str]) -> int:
    """How closely a rule is meant: by its code or name (5), by a prefix of its code (its length), not (0)."""
    fits = (
        EXACT if pattern == info.name else len(pattern) * info.code.startswith(pattern.upper())
        for pattern in patterns
    )
    return max(fits, default=0)


def chosen(pattern: str) -> list[RuleInfo]:
    """The rules that a code, name or prefix of codes means. Raises UsageError where there is none."""
    found = [info for info in rules() if match(info, (pattern,))]
    if found:
        return found
    from difflib import get_close_matches

    words = [word for info in rules() for word in (info.code, info.name)]
    near = get_close_matches(pattern, words, 1) or get_close_matches(pattern.upper(), words, 1)
    hint = f"did you mean {near[0]}?" if near else "onnxscope rules lists them"
    raise UsageError(f"no rule has the code, prefix or name {pattern!r}", help=hint)
