"""Run rules over one model: facts are worked out only where a chosen rule wants them.

`Context(model)` holds the facts, `run_rule(info, context)` gives one rule's findings, `audit(context)` all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from onnxscope.analysis import cost, memory, params, receptive_field
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.checks.finding import SEVERITIES, Finding
from onnxscope.checks.registry import EXACT, RuleInfo, find, match, rules
from onnxscope.checks.settings import Settings
from onnxscope.checks.weights import Weights
from onnxscope.graph import Graph, Model
from onnxscope.rewrite import heads

RULE_FAILED = "OX001"
"""Code of the finding that stands for a rule that raised."""


@dataclass(frozen=True)
class Context:
    """One model and everything that rules may want of it; each fact is worked out when first asked for."""

    model: Model
    settings: Settings = field(default_factory=Settings)
    lost: set[str] = field(default_factory=set, compare=False)
    """Facts that could not be worked out: they are tried, and told, once."""

    @property
    def graph(self) -> Graph:
        """The main graph."""
        return self.model.graph

    @cached_property
    def facts(self) -> Facts:
        """Shapes and small constants of every value; free sizes stay symbols unless settings bind them."""
        names = {size for info in self.graph.inputs for size in info.type.shape or ()}
        return infer(self.model, dims={k: v for k, v in self.settings.dims.items() if k in names})

    @cached_property
    def params(self) -> params.Params:
        """Parameters, layer by layer."""
        return params.count(self.facts)

    @cached_property
    def cost(self) -> cost.Cost:
        """Multiply-accumulates."""
        return cost.count(self.facts)

    @cached_property
    def memory(self) -> memory.Memory:
        """Activation memory."""
        return memory.measure(self.facts)

    @cached_property
    def fields(self) -> receptive_field.ReceptiveFields:
        """Receptive fields."""
        return receptive_field.trace(self.facts)

    @cached_property
    def heads(self) -> tuple[heads.HeadLayer, ...]:
        """Fully connected layers and what they could become."""
        return heads.find(self.facts, self.params)

    @cached_property
    def weights(self) -> Weights:
        """Statistics of every stored tensor; reads the payload bytes."""
        from onnxscope.checks.streaming import measure

        return measure(self.model)

    def fact(self, want: str) -> Any:
        """What a rule's parameter of this name gets."""
        return getattr(self, want)


def run_rule(info: RuleInfo, context: Context) -> list[Finding]:
    """The findings of one rule; once per target of the settings for a rule that wants `target`.

    A rule that raises is a bug of ours: it costs its own findings, never the audit, and is itself a finding.
    """
    if context.lost & set(info.wants):
        return []
    found: list[Finding] = []
    targets: Iterable[str | None] = context.settings.targets if "target" in info.wants else (None,)
    for target in targets:
        try:
            wanted = {want: target if want == "target" else _fact(context, want) for want in info.wants}
            found.extend(info.function(**wanted))
        except Exception as error:
            found.append(_failed(info, error))
    return found


def _fact(context: Context, want: str) -> Any:
    try:
        return context.fact(want)
    except Exception:
        context.lost.add(want)
        raise


def _failed(info: RuleInfo, error: Exception) -> Finding:
    failed = find(RULE_FAILED)
    assert failed is not None
    return failed.finding(
        "",
        f"rule {info.code} ({info.name}) stopped: {type(error).__name__}: {error}",
        "this is a bug in onnxscope: please report it; the other rules went on",
        rule=info.code,
    )


def selected(settings: Settings) -> list[RuleInfo]:
    """The rules that the settings leave, by code; the closer of two patterns wins, `ignore` where equal."""
    return [info for info in rules() if _wanted(info, settings) > match(info, settings.ignore)]


def _wanted(info: RuleInfo, settings: Settings) -> float:
    """How closely the settings ask for a rule."""
    closeness = match(info, settings.select) if settings.select else 0.5
    return closeness if info.default or closeness == EXACT else 0


def audit(context: Context) -> list[Finding]:
    """All findings of the chosen rules, worst first, then by code, then in the order of the file."""
    found = [finding for info in selected(context.settings) for finding in run_rule(info, context)]
    found = [_graded(finding, context.settings) for finding in found]
    return sorted(found, key=lambda finding: (SEVERITIES.index(finding.severity), finding.code))


def _graded(finding: Finding, settings: Settings) -> Finding:
    """With the severity that the settings give to its code; the longest matching pattern decides."""
    info = find(finding.code)
    fits = [(match(info, (pattern,)), severity) for pattern, severity in settings.severity.items() if info]
    closeness, severity = max(fits, key=lambda fit: fit[0], default=(0, ""))
    return replace(finding, severity=severity) if closeness else finding
