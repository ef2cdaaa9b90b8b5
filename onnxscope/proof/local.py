"""The local check: each layer of the original in float64, from the candidate's own input to that layer.

Nothing is propagated, so the limit is the noise of one layer, and the first layer that breaks it is the one
that went wrong. Source of the limits: `limits` for fully connected layers, `tails` for what follows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from onnxscope.analysis.facts import Facts
from onnxscope.graph import Attribute, Model, Node
from onnxscope.proof import limits, tails
from onnxscope.proof.extract import constant, is_constant
from onnxscope.proof.layers import FullyConnected, fully_connected
from onnxscope.proof.limits import Arithmetic, Comparison
from onnxscope.proof.links import HeadLink, LayerLink
from onnxscope.proof.result import LayerResult
from onnxscope.proof.windows import row_blocks, rows, rows_of, windows

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array, Floats
    from onnxscope.proof.runner import Runner

POOLS = {
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean"), "average"),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "ReduceMax"), "max"),
    "ReduceSum": "sum",
}
_TILE = 1 << 18
"""Multiplications in one product of a piece."""


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
    """The original node of a tail op."""
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
    pools = [step for head in heads if head.pool for step in _pool(candidate, head)]
    made = set(candidate.graph.producers)
    found, tracked = pools, {}
    for node in facts.model.graph.order:
        output = node.outputs[0] if node.outputs else ""
        twin = output if output in made else folded.get(output, "")
        link = links.get(output)
        if link is not None:
            found.append(Step(output, link.candidate_output, (link.candidate_input,), link=link))
            activation = _fused(node, link, twin) if twin in made else None
            found += [activation] if activation else []
            tracked[output] = activation.output if activation else link.candidate_output
        elif twin in made and _recomputable(facts, node, tracked):
            inputs = tuple(tracked.get(name) for name in node.inputs)
            found.append(Step(output, twin, inputs, node=node))
            tracked[output] = twin
    return tuple(found)


def unfolded(heads: Sequence[HeadLink], trial: Mapping[str, Array]) -> dict[str, Array]:
    """The candidate's values, those whose batch is one long image as the maps that they stand for."""
    found = dict(trial)
    for head in heads:
        if head.folding is not None:
            for name in set(head.folding.values.values()) & set(trial):
                found[name] = head.folding.unfolded(trial[name], len(trial[head.feature_map]))
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


def _pool(candidate: Model, head: HeadLink) -> list[Step]:
    for node in candidate.graph.consumers.get(head.read_map, ()):
        if POOLS.get(node.op) == head.pool:
            return [Step(node.outputs[0], node.outputs[0], (head.read_map,), head=head)]
    name = head.pool_output  # of several nodes: a pool that an opset can't dilate
    return [Step(name, name, (head.read_map,), head=head)] if name in candidate.graph.producers else []


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
    """Compare every step over all trials; a trial maps value names of the candidate to its values.

    `values` is N, the number of values compared in the whole verification; without it those of the steps.
    Weights are read once, in blocks of 32 MB; `runner` computes constant expressions only.
    """
    count = sum(trial[step.output].size for step in steps for trial in trials)
    factor = limits.confidence(max(count, values or 0), delta)
    results: list[LayerResult] = []
    notes: list[str] = []
    total, widest = Comparison(), 0
    for step in steps:
        outcome, width = _step(original, step, trials, runner, arithmetic, factor)
        if outcome is None:
            notes.append(f"{step.name} was not recomputed in float64: no rule for its form")
            continue
        widest, total = max(widest, width), total.merged(outcome)
        text = _account(step, arithmetic, factor, width, max(count, values or 0), delta)
        results.append(layer_result(step.name, outcome, text))
    broken = next((layer.name for layer in results if not layer.ok), None)
    text = _sums_text(arithmetic, factor, f"K <= {widest}", max(count, values or 0), delta)
    return LocalCheck(tuple(results), broken, text, total, tuple(notes))


def layer_result(name: str, outcome: Comparison, limit_from: str) -> LayerResult:
    """The row of one layer."""
    return LayerResult(name, outcome.max_abs, outcome.limit, outcome.ok, outcome.ratio, limit_from)


def _account(step: Step, arithmetic: Arithmetic, factor: float, width: int, values: int, delta: float) -> str:
    """How the limit of one step was computed."""
    if step.node is not None:
        return f"{step.node.op} in float64: {tails.bound_of(step.node.op)}; {arithmetic.text}"
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
    if step.node is not None:
        return _tail(original, step, trials, runner, arithmetic), 0
    pairs = [(trial[step.inputs[0] or ""], trial[step.output]) for trial in trials]
    if step.head is not None:
        return pool(step.head, pairs, arithmetic), prod(step.head.window)
    link = step.link
    layer = fully_connected(original, link, runner) if link is not None else None
    if layer is None or link is None:
        return None, 0
    return dense(layer, link, pairs, arithmetic, factor), layer.inputs


def dense(
    layer: FullyConnected,
    link: LayerLink,
    pairs: Sequence[tuple[Array, Array]],
    arithmetic: Arithmetic,
    factor: float,
) -> Comparison:
    """A fully connected layer against pairs of (map [N, C, *S], result [N, F, *S']), each window a row."""
    maps = [_as_map(given, len(link.kernel)) for given, _ in pairs]
    results = [rows(result) for _, result in pairs]
    if any(_smaller(value, link.kernel, link.dilations) for value in maps):
        return _misfit(results[0])
    views = [windows(value, link.kernel, link.dilations) for value in maps]
    spatial = len(link.kernel)
    for view, result in zip(views, results, strict=True):
        places, inner = view.shape[: 1 + spatial], view.shape[1 + spatial :]
        if result.shape != (prod(places), layer.outputs) or prod(inner) != layer.inputs:
            return _misfit(result)
    total, extra = Comparison(), layer.alpha != 1.0 or link.weight.how == "folded"
    split, axes = _split(layer.inputs, link), link.weight.axes if prod(link.kernel) > 1 else ()
    height = tile_rows(layer.inputs, layer.step)
    for stack, given in _stacked(views, results, axes):
        tiles = [
            (limits.prepared(stack[first : first + height], split), given[first : first + height])
            for first in range(0, len(stack), height)
        ]
        for start, stop, weight in layer.blocks():
            bias = None if layer.bias is None else layer.bias[start:stop]
            for tile, part in tiles:
                outcome = Comparison()
                for walked in (False, True):  # the second only where the first, sharper limit is broken
                    found = limits.weighted(weight, bias, tile, walked=walked)
                    if extra:  # a folded factor rounds every weight once more
                        found.quadratic[...] += found.squares
                    limit = limits.of_sums(found, arithmetic, factor)
                    outcome = limits.compare(part[:, start:stop], found.y, limit)
                    if outcome.ok:
                        break
                total = total.merged(outcome)
    return total


def tile_rows(inputs: int, outputs: int) -> int:
    """Rows of a tile, so that the products of its pieces stay small enough for a cache and one thread."""
    return max(1, _TILE * limits.pieces_of(inputs) // max(1, inputs * outputs))


def _stacked(
    views: Sequence[Array], results: Sequence[Array], axes: Sequence[int]
) -> Iterator[tuple[Floats, Array]]:
    """The rows of all trials in float64 with their results, as many at once as fit a block.

    A weight is read once per stack, so a large one, which has few rows, is read once.
    """
    held: list[tuple[Floats, Array]] = []
    count = 0
    for view, result in zip(views, results, strict=True):
        for first, block in row_blocks(view, axes, result.shape[1]):
            if held and count + len(block) > rows_of(max(block.shape[1], result.shape[1])):
                yield _joined(held)
                held, count = [], 0
            held.append((np.asarray(block, np.float64), result[first : first + len(block)]))
            count += len(block)
    if held:
        yield _joined(held)


def _joined(held: Sequence[tuple[Floats, Array]]) -> tuple[Floats, Array]:
    stack, results = zip(*held, strict=True)
    return np.concatenate(stack), np.concatenate(results)


def _smaller(value: Array, kernel: Sequence[int], dilations: Sequence[int]) -> bool:
    """Whether a map [N, C, *S] has no window of a kernel (its result then came from a pad)."""
    steps = dilations or (1,) * len(kernel)
    spans = [step * (wide - 1) + 1 for wide, step in zip(kernel, steps, strict=True)]
    return any(size < span for size, span in zip(value.shape[2:], spans, strict=True))


def _misfit(result: Array) -> Comparison:
    """Shapes that don't fit: different, whatever the limit."""
    return Comparison(result.size, np.inf, np.inf, 0.0)


def _as_map(value: Array, spatial: int) -> Array:
    return value.reshape(*value.shape, *(1,) * (2 + spatial - value.ndim))


def _split(inputs: int, link: LayerLink) -> tuple[int, int]:
    """(groups, members) of the flattened axis: channels and positions, in their stored order."""
    cells = prod(link.kernel)
    channels = inputs // cells
    last = link.weight.axes[-1:] == (1,)
    return (cells, channels) if last else (channels, cells)


def pool(head: HeadLink, pairs: Sequence[tuple[Array, Array]], arithmetic: Arithmetic) -> Comparison:
    """The pool in front of a head: map [N, C, *S] -> [N, C, *S'], over its window or the whole map."""
    total = Comparison()
    for given, result in pairs:
        spatial = given.ndim - 2
        kernel = head.pool_kernel or given.shape[2:]
        if head.pool_kernel is None and result.shape[2:] not in ((), (1,) * spatial):
            return _misfit(result)
        if _smaller(given, kernel, head.dilations):
            return _misfit(result)
        view = windows(given, kernel, head.dilations).reshape(-1, given.shape[1], prod(kernel))
        flat = rows(result)
        if flat.shape != view.shape[:2]:
            return _misfit(result)
        for start in range(0, len(view), 64):
            block = np.asarray(view[start : start + 64], np.float64)
            expected, limit = _pooled(head, block, arithmetic)
            total = total.merged(limits.compare(flat[start : start + 64], expected, limit))
    return total


def _pooled(head: HeadLink, block: Floats, arithmetic: Arithmetic) -> tuple[Floats, Floats]:
    """Result and limit of windows [r, C, n].

    The limit of sums is the worst case (n + 1) u sum |p|: the inputs may be all alike (a constant image), and
    then every addition rounds the same way. There are no weights that a wide limit could hide.
    """
    count = block.shape[-1]
    if head.pool == "max":
        expected: Floats = block.max(-1)
        return expected, arithmetic.stored * np.abs(expected)
    share = 1.0 if head.pool == "sum" else 1.0 / count
    expected = share * block.sum(-1)
    magnitude = share * np.abs(block).sum(-1)
    # a runtime may hand the pool its inputs before they are rounded to the stored format
    limit = ((count + 1) * arithmetic.unit + arithmetic.stored) * magnitude
    limit += arithmetic.stored * np.abs(expected) + (2.0**-24 if arithmetic.stored else limits.TINY)
    return expected, limit


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
            return _misfit(result)
        found = tails.evaluate(node, values, arithmetic)
        if found is None:
            return None
        if found[0].shape != result.shape:
            return _misfit(result)
        total = total.merged(limits.compare(result, *found))
    return total


def _flat(value: Floats | None) -> Floats:
    """A constant as it broadcasts over rows: a vector or one number; an absent input is an empty array."""
    return np.zeros(0) if value is None else value.reshape(-1)
