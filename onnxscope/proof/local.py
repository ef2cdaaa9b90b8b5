"""The local check: each layer of the original in float64, from the candidate's own input to that layer.

Nothing is propagated, so the limit is the noise of one layer, and the first layer that breaks it is the one
that went wrong. Source of the limits: `limits` for fully connected layers, `tails` for what follows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from onnxscope.analysis.facts import Facts
from onnxscope.graph import Attribute, Model, Node
from onnxscope.proof import integers, limits, recompute, tails
from onnxscope.proof.extract import constant, is_constant
from onnxscope.proof.layers import fully_connected
from onnxscope.proof.limits import Arithmetic, Comparison
from onnxscope.proof.links import HeadLink, LayerLink
from onnxscope.proof.result import LayerResult
from onnxscope.proof.windows import rows

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array, Floats
    from onnxscope.proof.runner import Runner

POOLS = {
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean"), "average"),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "ReduceMax"), "max"),
    "ReduceSum": "sum",
}
INTEGER_POOLS = ("QLinearAveragePool", "QLinearGlobalAveragePool")
"""Means that are rounded to a scale of their own: over windows, over the whole map."""


@dataclass(frozen=True, slots=True)
class Step:
    """One op of the original whose twin in the candidate is checked."""

    name: str
    """The original's output value."""
    output: str
    """The candidate's output value."""
    inputs: tuple[str | None, ...]
    """The candidate's input values, one per input of the original node; None for a constant."""
    node: Node | None = None
    """The original node of a tail op, or of a pool of integers."""
    link: LayerLink | None = None
    """For a fully connected layer."""
    head: HeadLink | None = None
    """For the pool of a head's window."""


@dataclass(frozen=True, slots=True)
class LocalCheck:
    """The outcome of the local check."""

    layers: tuple[LayerResult, ...]
    """In execution order."""
    first_divergence: str | None
    limit_from: str
    comparison: Comparison
    """All layers together."""
    notes: tuple[str, ...]
    """Layers that were not recomputed, and why."""

    @property
    def ok(self) -> bool:
        """Whether every layer keeps its limit."""
        return self.first_divergence is None


def plan(facts: Facts, candidate: Model, heads: Sequence[HeadLink]) -> tuple[Step, ...]:
    """Everything that can be checked, in the original's execution order; `facts` are the original's.

    Those are the pools and layers of `heads` and every op behind them that has a rule in `tails` and whose
    values both models have.
    """
    links = {link.output: link for head in heads for link in head.layers}
    folded = {name: twin for head in heads if head.folding for name, twin in head.folding.values.items()}
    pooled = [head for head in heads if head.pool]
    found = [
        step for head in pooled for step in (*pools(candidate, head), *_integer_pools(facts, candidate, head))
    ]
    made = set(candidate.graph.producers)
    tracked: dict[str, str] = {}
    for node in facts.model.graph.order:
        output = node.outputs[0] if node.outputs else ""
        twin = output if output in made else folded.get(output, "")
        link = links.get(output)
        if link is not None:
            inputs = tuple(part.candidate_input for part in link.parts) or (link.candidate_input,)
            found.append(Step(output, link.candidate_output, inputs, link=link))
            activation = _fused(node, link, twin) if twin in made else None
            found += [activation] if activation else []
            tracked[output] = activation.output if activation else link.candidate_output
        elif twin in made and _recomputable(facts, node, tracked):
            found.append(Step(output, twin, tuple(tracked.get(name) for name in node.inputs), node=node))
            tracked[output] = twin
    return tuple(found)


def unfolded(heads: Sequence[HeadLink], trial: Mapping[str, Array]) -> dict[str, Array]:
    """The candidate's values, those whose batch is one long image as the maps that they stand for."""
    found = dict(trial)
    for head in heads:
        if head.folding is not None:
            for name in set(head.folding.values.values()) & set(trial):
                batch = len(trial[head.read_map if head.read_map in trial else head.feature_map])
                found[name] = head.folding.unfolded(trial[name], batch)
    return found


def _fused(node: Node, link: LayerLink, twin: str) -> Step | None:
    """The activation that the original fuses into a layer and the candidate keeps as a node: `twin`."""
    kind = node.attribute("activation")
    if not isinstance(kind, bytes) or link.candidate_output == twin:
        return None
    alpha = node.attribute("activation_alpha")
    attributes = (Attribute("alpha", alpha),) if isinstance(alpha, float) else ()
    alone = replace(node, op=kind.decode(), inputs=(link.output,), attributes=attributes, origin=None)
    return Step(link.output, twin, (link.candidate_output,), node=alone)


def names(steps: Sequence[Step], heads: Sequence[HeadLink] = ()) -> tuple[str, ...]:
    """The candidate's values that the steps read, and what tells the batch of folded ones: what to fetch."""
    found = {name: None for step in steps for name in (*step.inputs, step.output) if name}
    return tuple(found | {head.feature_map: None for head in heads if head.folding})


def pools(candidate: Model, head: HeadLink) -> list[Step]:
    """The candidate's pool of floats in front of a head; [] where there is none, or it can't be told."""
    for node in candidate.graph.consumers.get(head.read_map, ()):
        if POOLS.get(node.op) == head.pool:
            return [Step(node.outputs[0], node.outputs[0], (head.read_map,), head=head)]
    name = head.pool_output  # of several nodes: a pool that an opset can't dilate
    made_by = candidate.graph.producers.get(name)
    if made_by is None or made_by.op.startswith("QLinear"):  # which rounds what it makes to its own scale
        return []
    return [Step(name, name, (head.read_map,), head=head)]


def _integer_pools(facts: Facts, candidate: Model, head: HeadLink) -> list[Step]:
    """The candidate's pool of integers in front of a head, which rounds what it makes to its own scale."""
    own = [n for n in facts.model.graph.consumers.get(head.feature_map, ()) if n.op == INTEGER_POOLS[1]]
    twins = [n for n in candidate.graph.consumers.get(head.read_map, ()) if n.op in INTEGER_POOLS]
    if len(own) != 1 or len(twins) != 1 or any(node.attribute("channels_last") for node in (*own, *twins)):
        return []
    name = twins[0].outputs[0]
    return [Step(name, name, (head.read_map,), node=own[0], head=head)]


def _recomputable(facts: Facts, node: Node, tracked: Mapping[str, str]) -> bool:
    """Whether an op acts on rows of class vectors and is one that `tails` knows."""
    if node.op not in tails.RULES or not any(name in tracked for name in node.inputs):
        return False
    fixed = [name for name in node.inputs if name and name not in tracked]
    if not all(is_constant(facts.model, name) for name in fixed):
        return False
    shapes = [facts.value(name).shape for name in (node.inputs[0], node.outputs[0])]
    axis = node.attribute("axis")
    flat = all(shape is None or len(shape) == 2 for shape in shapes)
    return flat and (node.op not in tails.LAST_AXIS or axis in (None, 1, -1))


def check(
    original: Model,
    steps: Sequence[Step],
    trials: Sequence[Mapping[str, Array]],
    runner: Runner,
    arithmetic: Arithmetic = limits.FLOAT32,
    *,
    delta: float = limits.DELTA,
    values: int | None = None,
) -> LocalCheck:
    """Compare every step over all trials that have its values: candidate's names -> values.

    `values` is N, the number of values compared in the whole verification; without it those of the steps.
    Weights are read once, in blocks of 32 MB; `runner` computes constant expressions only.
    """
    count = sum(trial[step.output].size for step in steps for trial in _with(trials, step))
    factor = limits.confidence(max(count, values or 0), delta)
    results: list[LayerResult] = []
    notes: list[str] = []
    total, widest = Comparison(), 0
    for step in steps:
        outcome, width = _step(original, step, _with(trials, step), runner, arithmetic, factor)
        if outcome is None:
            notes.append(f"{step.name} was not recomputed in float64: no rule for its form")
            continue
        widest, total = max(widest, width), total.merged(outcome)
        text = _account(step, arithmetic, factor, width, max(count, values or 0), delta)
        results.append(layer_result(step.name, outcome, text))
    broken = next((layer.name for layer in results if not layer.ok), None)
    text = _sums_text(arithmetic, factor, f"K <= {widest}", max(count, values or 0), delta)
    return LocalCheck(tuple(results), broken, text, total, tuple(notes))


def _with(trials: Sequence[Mapping[str, Array]], step: Step) -> list[Mapping[str, Array]]:
    names = {step.output, *filter(None, step.inputs)}
    return [trial for trial in trials if trial.keys() >= names]


def layer_result(name: str, outcome: Comparison, limit_from: str) -> LayerResult:
    """The row of one layer."""
    return LayerResult(name, outcome.max_abs, outcome.limit, outcome.ok, outcome.ratio, limit_from)


def _account(step: Step, arithmetic: Arithmetic, factor: float, width: int, values: int, delta: float) -> str:
    """How the limit of one step was computed."""
    if step.head is not None and step.node is not None:
        return integers.TEXT
    if step.node is not None:
        return f"{step.node.op} in float64: {tails.bound_of(step.node.op)}; {arithmetic.text}"
    if step.link is not None and not width:
        return integers.TEXT
    if step.head is not None:
        size = f"n = {width}" if width > 1 else "n the cells of the map"
        worst = "(n + 1) u sum|p|, the worst case"
        return f"{step.head.pool} pool in float64: {worst}; {arithmetic.text}, {size}"
    return _sums_text(arithmetic, factor, f"K = {width}", values, delta)


def _sums_text(arithmetic: Arithmetic, factor: float, width: str, values: int, delta: float) -> str:
    return (
        "each original layer in float64 from the candidate's own input: lambda u sqrt(Q) + (n + 1) 2^-126, Q "
        "the sum of squared partial sums (in a random order; where that is too little, in the worst of "
        f"three); lambda = {factor:.2f}, {arithmetic.text}, {width}, n the inputs that aren't 0, "
        f"N = {values}, delta = {delta:g}"
    )


def _step(
    original: Model,
    step: Step,
    trials: Sequence[Mapping[str, Array]],
    runner: Runner,
    arithmetic: Arithmetic,
    factor: float,
) -> tuple[Comparison | None, int]:
    """The comparison and K."""
    if step.head is not None:
        return _pool(original, step, step.head, trials, runner, arithmetic), prod(step.head.window)
    if step.node is not None:
        return _tail(original, step, trials, runner, arithmetic), 0
    return (
        (None, 0)
        if step.link is None
        else _layer(original, step, step.link, trials, runner, arithmetic, factor)
    )


def _pool(
    original: Model,
    step: Step,
    head: HeadLink,
    trials: Sequence[Mapping[str, Array]],
    runner: Runner,
    arithmetic: Arithmetic,
) -> Comparison | None:
    """The comparison of a pool in front of a head, of floats or of integers."""
    pairs = [(trial[step.inputs[0] or ""], trial[step.output]) for trial in trials]
    if step.node is None:
        return recompute.pool(head, pairs, arithmetic)
    total = Comparison()
    for pair in pairs:
        found = integers.pool(original, step.node, head, pair, runner)
        if found is None:
            return None
        total = total.merged(found)
    return total


def _layer(
    original: Model,
    step: Step,
    link: LayerLink,
    trials: Sequence[Mapping[str, Array]],
    runner: Runner,
    arithmetic: Arithmetic,
    factor: float,
) -> tuple[Comparison | None, int]:
    """The comparison of a fully connected layer, and K; (None, 0) for a form that isn't recomputed."""
    values = [([trial[name or ""] for name in step.inputs], trial[step.output]) for trial in trials]
    pairs = [(given[0], result) for given, result in values]
    found = fully_connected(original, link, runner)
    if found is not None and link.parts:
        return recompute.joined(found, link, values, arithmetic, factor), found.inputs
    if found is not None:
        return recompute.connected(found, link, pairs, arithmetic, factor), found.inputs
    exact = integers.layer(original, link, runner)
    return (None if exact is None else integers.check(exact, link, pairs)), 0


def _tail(
    original: Model,
    step: Step,
    trials: Sequence[Mapping[str, Array]],
    runner: Runner,
    arithmetic: Arithmetic,
) -> Comparison | None:
    node = step.node
    if node is None:
        return None
    fixed: list[Floats | None] = [
        np.asarray(constant(original, name, runner), np.float64) if name and twin is None else None
        for name, twin in zip(node.inputs, step.inputs, strict=True)
    ]
    total = Comparison()
    for trial in trials:
        result = rows(trial[step.output])
        values = [
            np.asarray(rows(trial[twin]), np.float64) if twin else _flat(value)
            for value, twin in zip(fixed, step.inputs, strict=True)
        ]
        if any(len(value) not in (1, len(result)) for value in values if value.ndim == 2):
            return recompute.misfit(result)
        found = tails.evaluate(node, values, arithmetic)
        if found is None:
            return None
        if found[0].shape != result.shape:
            return recompute.misfit(result)
        total = total.merged(limits.compare(result, *found))
    return total


def _flat(value: Floats | None) -> Floats:
    """A constant as it broadcasts over rows: a vector or one number; an absent input is an empty array."""
    return np.zeros(0) if value is None else value.reshape(-1)
