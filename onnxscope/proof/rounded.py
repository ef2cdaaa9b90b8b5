"""A head of layers on rounded floats (QDQ) at a larger size, piece by piece.

The sums of a layer come in another order, and of a million sums a few lie so near a tie that they are rounded
to the other integer: a step in the output that says nothing. So each layer, and a mean in front, is compared
in float64 from the candidate's own input to it, and everything between two of them in every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope.graph import Model
from onnxscope.proof import dense, integers, jitter, limits, local, recompute
from onnxscope.proof.bits import same_bits
from onnxscope.proof.extract import cut, sources
from onnxscope.proof.layers import fully_connected
from onnxscope.proof.limits import Comparison
from onnxscope.proof.windows import row_blocks, rows, windows

if TYPE_CHECKING:
    from onnxscope.proof.dense import WindowCheck
    from onnxscope.proof.limits import Arithmetic, Array
    from onnxscope.proof.links import HeadLink, LayerLink
    from onnxscope.proof.result import OutputResult
    from onnxscope.proof.runner import Runner
    from onnxscope.proof.setting import Pair
    from onnxscope.proof.trials import Outcome


_POOLS = local.POOLS | {"QLinearGlobalAveragePool": "average"}
LIMIT = (
    "each layer in float64 from the candidate's own input, lambda u sqrt(Q) + (n + 1) 2^-126; 0 steps between"
)
"""How the limits are computed, in words."""
TIES = (
    "{} differ by up to {:.2g}: sums came in another order, and near a tie are rounded to another integer; "
    "each layer is right in float64, and every step between the layers"
)


@dataclass(frozen=True, slots=True)
class Between:
    """What the original computes between two values that the candidate has as maps."""

    start: str
    """The original's value; `given` is the candidate's."""
    given: str
    window: tuple[int, ...]
    """What the original takes of the map at once; all 1 for one cell."""
    ends: Mapping[str, str]
    """The original's values -> the candidate's."""
    layer: LayerLink | None
    """The layer that reads one of the ends, which is a flattened window; None behind the last."""


def pieces(original: Model, candidate: Model, head: HeadLink, outputs: Sequence[str]) -> tuple[Between, ...]:
    """The head without its pool and layers, in order; () where it isn't one such chain."""
    cell = (1,) * len(head.window)
    start, given, window = head.feature_map, head.read_map, head.window
    if head.pool is not None:
        readers = original.graph.consumers.get(start, ())
        found = [node.outputs[0] for node in readers if _POOLS.get(node.op) == head.pool]
        made = _pooled(candidate, head)
        if len(found) != 1 or not made:
            return ()
        start, given, window = found[0], made, cell
    parts = []
    for layer in head.layers:
        parts.append(Between(start, given, window, {layer.input: layer.candidate_input}, layer))
        start, given, window = layer.output, layer.candidate_output, cell
    parts.append(Between(start, given, window, {}, None))
    parts = [part for part in _with_outputs(original, parts, outputs) if part.ends]
    chained = all(part.start in sources(original, [end]) for part in parts for end in part.ends)
    alone = all(len(cut(original, {p.start: 1}, list(p.ends)).graph.inputs) == 1 for p in parts)
    plain = not head.axes and not any(layer.parts for layer in head.layers)
    return tuple(parts) if chained and alone and plain else ()


def _with_outputs(original: Model, parts: Sequence[Between], outputs: Sequence[str]) -> list[Between]:
    """The pieces, each followed by the outputs that it ends in: the last whose start they are made of.

    An output may be what a layer reads, too: the candidate has that as a map of its own, which stays an end.
    """
    ends: list[dict[str, str]] = [{} for _ in parts]
    for name in outputs:
        made_of = sources(original, [name])
        place = max((i for i, part in enumerate(parts) if part.start in made_of), default=-1)
        ends[place][name] = name
    found: list[Between] = []
    for part, own in zip(parts, ends, strict=True):
        both = any(part.ends.get(name, name) != name for name in own)
        found += [part, replace(part, ends=own, layer=None)] if both else [_with(part, own)]
    return found


def _with(part: Between, ends: Mapping[str, str]) -> Between:
    return replace(part, ends={**part.ends, **ends})


def _pooled(candidate: Model, head: HeadLink) -> str:
    """The candidate's result of the head's pool; "" where there is no one node that makes it."""
    readers = candidate.graph.consumers.get(head.read_map, ())
    integers_ = [node.outputs[0] for node in readers if node.op in local.INTEGER_POOLS]
    floats = [step.output for step in local.pools(candidate, head)]
    return next(iter([*floats, *integers_]), "")


def names(parts: Sequence[Between]) -> list[str]:
    """The candidate's values that the pieces read."""
    return list(dict.fromkeys(n for part in parts for n in (part.given, *part.ends.values())))


def judged(
    pair: Pair,
    head: HeadLink,
    parts: Sequence[Between],
    found: Mapping[str, Any],
    whole: WindowCheck,
    place: str,
    notes: list[str],
) -> WindowCheck:
    """The verdict on a head whose outputs differ by steps: what it was, where a piece differs, too."""
    outcome = _checked(pair, head, parts, found)
    if outcome is None or not outcome.ok:
        return whole
    notes.append(TIES.format(f"{place}: outputs", whole.comparison.max_abs))
    return replace(whole, comparison=outcome, limit_from=LIMIT)


def outputs(pair: Pair, outcome: Outcome, notes: list[str]) -> tuple[OutputResult, ...]:
    """The outputs of all trials; those that differ by steps judged by their pieces, where the maps agree.

    Sums near a tie are as likely at the native size: one in some ten thousand values of a layer. What leaves
    an output as it is: a map that isn't the original's in every bit, a piece that differs, no such chain.
    """
    setting = pair.setting
    wrong = [output.name for output in outcome.outputs if not output.ok]
    if not setting.quantized or not setting.heads or setting.common or not wrong:
        return outcome.outputs
    judged: dict[str, Comparison] = {}
    for head in setting.heads:
        made = {layer.output for layer in head.layers}
        ends = [name for name in wrong if made & sources(setting.original, [name])]
        found = _at_native(pair, head, ends, outcome) if ends else None
        judged.update(dict.fromkeys(ends, found) if found is not None and found.ok else {})
    if set(judged) != set(wrong):
        return outcome.outputs
    worst = max(output.max_abs for output in outcome.outputs)
    notes.append(TIES.format("outputs", worst))
    return tuple(output if output.ok else _excused(output, judged[output.name]) for output in outcome.outputs)


def _excused(output: OutputResult, found: Comparison) -> OutputResult:
    return replace(
        output,
        ok=True,
        max_abs=found.max_abs,
        limit=found.limit,
        would_pass_at=found.ratio,
        limit_from=LIMIT,
    )


def _at_native(pair: Pair, head: HeadLink, ends: Sequence[str], outcome: Outcome) -> Comparison | None:
    """The pieces of every trial in which one of these outputs differs; None where they can't tell."""
    setting = pair.setting
    parts = pieces(setting.original, setting.candidate, head, ends)
    total = Comparison()
    for trial in outcome.drawn if parts else ():
        if all(same_bits(trial.original[name], trial.candidate[name]) for name in ends):
            continue
        own = pair.original(trial.feeds, [head.feature_map], pair.level)
        read = [head.read_map, head.feature_map, *names(parts)]
        found = pair.candidate(trial.feeds, list(dict.fromkeys(read)), pair.level)
        outcome_of = _checked(pair, head, parts, found) if _same_map(own, found, head) else None
        if outcome_of is None:
            return None
        total = total.merged(outcome_of)
    return total if total.values else None


def _same_map(own: Mapping[str, Any], found: Mapping[str, Any], head: HeadLink) -> bool:
    return same_bits(own[head.feature_map], found[head.read_map])


def _checked(
    pair: Pair, head: HeadLink, parts: Sequence[Between], found: Mapping[str, Any]
) -> Comparison | None:
    setting = pair.setting
    return check(
        setting.original,
        head,
        parts,
        found,
        pair.first,
        {part.start: len(setting.facts.value(part.start).shape or ()) for part in parts},
        folder=setting.folder,
        batch=setting.baked_batch,
        arithmetic=setting.arithmetic(tf32=pair.tf32),
    )


def check(
    original: Model,
    head: HeadLink,
    parts: Sequence[Between],
    found: Mapping[str, Any],
    runner: Runner,
    ranks: Mapping[str, int],
    *,
    folder: str,
    batch: int | None,
    arithmetic: Arithmetic,
) -> Comparison | None:
    """Every piece from the candidate's own values; None where a layer isn't recomputed.

    `ranks` tells the axes of the original's values.
    """
    found = local.unfolded((head,), found)
    outcomes = [_layer(original, link, found, runner, arithmetic) for link in head.layers]
    if head.pool is not None:
        pair = found[head.read_map], found[parts[0].given]
        outcomes.append(_pool(original, head, pair, runner, arithmetic))
    total = Comparison()
    for outcome in outcomes:
        if outcome is None:
            return None
        total = total.merged(outcome)
    for part in parts:
        for name, expected in _expected(original, head, part, found, runner, ranks, folder, batch).items():
            reader = part.layer if part.layer and part.layer.input == name else None
            given = _rows(found[part.ends[name]], reader)
            allowed = jitter.limit(expected, [expected], values=expected.size, arithmetic=arithmetic)
            if given.shape != expected.shape:
                return Comparison(given.size, np.inf, np.inf, 0.0)
            total = total.merged(limits.compare(given, expected, allowed))
    return total


def _layer(
    original: Model, link: LayerLink, found: Mapping[str, Any], runner: Runner, arithmetic: Arithmetic
) -> Comparison | None:
    """One layer from the candidate's own input to it; None for a form that isn't recomputed."""
    pairs = [(found[link.candidate_input], found[link.candidate_output])]
    layer = fully_connected(original, link, runner)
    if layer is not None:
        factor = limits.confidence(max(1, pairs[0][1].size), limits.DELTA)
        return recompute.connected(layer, link, pairs, arithmetic, factor)
    exact = integers.layer(original, link, runner)
    return None if exact is None else integers.check(exact, link, pairs)


def _pool(
    original: Model, head: HeadLink, pair: tuple[Array, Array], runner: Runner, arithmetic: Arithmetic
) -> Comparison | None:
    """The pool in front, of floats or of integers."""
    (node, *_) = [n for n in original.graph.consumers[head.feature_map] if _POOLS.get(n.op) == head.pool]
    if node.op in local.POOLS:
        return recompute.pool(head, [pair], arithmetic)
    return integers.pool(original, node, head, pair, runner)


def _expected(
    original: Model,
    head: HeadLink,
    part: Between,
    found: Mapping[str, Any],
    runner: Runner,
    ranks: Mapping[str, int],
    folder: str,
    batch: int | None,
) -> dict[str, Array]:
    """What the original makes of the candidate's value, as rows [R, F]."""
    given, rank = found[part.given], ranks[part.start]
    if prod(part.window) > 1:
        view = dense.rows_of_windows(given, part.window, head.dilations)
    else:
        view = rows(given)
        view = view.reshape(*view.shape, *(1,) * (rank - 2))
    made = dense.on_rows(original, part.start, view, list(part.ends), runner, folder=folder, batch=batch)
    return {name: value.reshape(len(value), -1) for name, value in made.items()}


def _rows(value: Array, layer: LayerLink | None) -> Array:
    """A map as rows: one per cell, or the flattened window that a layer reads there."""
    if layer is None or prod(layer.kernel) == 1:
        return rows(value)
    view = windows(value, layer.kernel, layer.dilations)
    return np.concatenate([block for _, block in row_blocks(view, layer.weight.axes)])
