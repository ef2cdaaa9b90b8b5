"""Exact checks: inputs for which the order of additions can't matter, so that the limit is 0.

With zeros at its input a layer gives its bias, bit for bit. With a single 1, every product but one is 0 and
it gives fl(w + b) of one weight, bit for bit, whatever order a runtime adds in: that proves the layout
(channels first or last, height and width exchanged) without a tolerance. It holds for kernels that multiply
and add; Winograd and FFT kernels of some GPU runtimes transform their inputs first, so these checks are run
on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnxscope import dtypes
from onnxscope.graph import Attribute, Model, Node
from onnxscope.proof.extract import cut, runnable
from onnxscope.proof.layers import FullyConnected, fully_connected
from onnxscope.proof.limits import Comparison, compare
from onnxscope.proof.links import HeadLink, LayerLink
from onnxscope.proof.windows import rows

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array
    from onnxscope.proof.runner import Runnable, Runner

IMPULSES = 40
"""Impulses per layer: corners and middle first, then seeded ones."""


@dataclass(frozen=True, slots=True)
class ExactResult:
    """One layer."""

    layer: str
    """The original's output value."""
    zeros: Comparison
    """Zeros in against the bias."""
    impulses: Comparison
    """Single ones in against fl(w + b)."""
    wrong: tuple[int, ...] | None
    """(channel, *position) of the first impulse that gave something else; None where all were right."""
    limit_from: str

    @property
    def ok(self) -> bool:
        """Whether both agree."""
        return self.zeros.ok and self.impulses.ok


def check(
    original: Model,
    candidate: Model,
    heads: Sequence[HeadLink],
    runner: Runner,
    *,
    folder: str,
    seed: int = 0,
    impulses: int = IMPULSES,
) -> tuple[ExactResult, ...]:
    """Zeros and impulses through every float layer of the conversion, each layer on its own.

    All layers run as one model without edges between them, in `folder` (a scratch directory) where it has
    to be written; plain convolutions once, with all their inputs side by side. Layers that aren't plain float
    matrices are left out.
    """
    links = [link for head in heads for link in head.layers if not link.parts]
    layers = [(link, fully_connected(original, link, runner)) for link in links]
    found = [(link, layer) for link, layer in layers if layer is not None and _plain(layer)]
    results: dict[str, ExactResult] = {}
    for group in _apart(found):
        for result in _group(candidate, group, runner, folder, seed, impulses):
            results[result.layer] = result
    return tuple(results[link.output] for link, _ in found)


_Layers: TypeAlias = "Sequence[tuple[LayerLink, FullyConnected]]"


def _apart(found: _Layers) -> list[_Layers]:
    """The layers in groups in which none reads what another makes (two layers with nothing in between)."""
    groups: list[list[tuple[LayerLink, FullyConnected]]] = []
    for link, layer in found:
        for group in groups:
            reads = {other.candidate_input for other, _ in group}
            makes = {other.candidate_output for other, _ in group}
            if link.candidate_output not in reads and link.candidate_input not in makes:
                group.append((link, layer))
                break
        else:
            groups.append([(link, layer)])
    return list(groups)


def _group(
    candidate: Model, found: _Layers, runner: Runner, folder: str, seed: int, impulses: int
) -> tuple[ExactResult, ...]:
    part = cut(
        candidate,
        {link.candidate_input: _code(layer) for link, layer in found},
        [link.candidate_output for link, _ in found],
    )
    shapes = {link.candidate_input: _shape(link, layer) for link, layer in found}
    places = {name: positions(shape, impulses, seed) for name, shape in shapes.items()}
    turns: list[_Places | None] = [None]
    turns += [_nth(places, turn) for turn in range(max(map(len, places.values())))]
    if all(_alone(candidate, link) for link, _ in found):
        runs = _in_a_row(part, found, turns, runner, folder)
    else:
        model = runnable(part, folder)
        runs = [_run(model, found, turn, runner) for turn in turns]
    return tuple(_result(link, layer, runs, places[link.candidate_input], seed) for link, layer in found)


_Places: TypeAlias = "dict[str, tuple[int, ...]]"
_NO_PAD = (None, b"NOTSET", b"VALID")


def _alone(candidate: Model, link: LayerLink) -> bool:
    """Whether a layer is one Conv over every window of its input, without padding or strides."""
    node = candidate.graph.producers.get(link.candidate_output)
    if node is None or node.op != "Conv" or node.inputs[0] != link.candidate_input:
        return False
    ones = (1,) * len(link.kernel)
    plain = all(set(_ints(node, name)) <= {usual} for name, usual in (("strides", 1), ("pads", 0)))
    steps = (_ints(node, "dilations") or ones) == (link.dilations or ones)
    whole = node.attribute("group") in (None, 1) and node.attribute("auto_pad") in _NO_PAD
    return plain and steps and whole and _ints(node, "kernel_shape") in ((), link.kernel)


def _ints(node: Node, name: str) -> tuple[object, ...]:
    value = node.attribute(name)
    return tuple(value) if isinstance(value, tuple | list) else ()


def _in_a_row(
    part: Model, layers: _Layers, turns: Sequence[_Places | None], runner: Runner, folder: str
) -> list[dict[str, Array]]:
    """Every turn's window beside the others in one map, and a Conv that strides from one to the next.

    One run instead of one for each turn: a runtime then reads the weights once for all of them.
    """
    feeds, strides = {}, {}
    for link, layer in layers:
        name, channels = link.candidate_input, _shape(link, layer)[0]
        drawn = [_impulse(link, turn[name] if turn else None, channels) for turn in turns]
        feeds[name] = np.concatenate(drawn, axis=-1).astype(layer.weight.dtype)
        strides[link.candidate_output] = (*(1,) * (len(link.kernel) - 1), _span(link)[-1])
    nodes = tuple(_striding(node, strides.get(node.outputs[0])) for node in part.graph.nodes)
    model = runnable(replace(part, graph=replace(part.graph, nodes=nodes)), folder)
    found = runner.run(model, feeds, list(strides), optimization="none")
    tables = {name: rows(np.asarray(value)) for name, value in found.items()}
    return [{name: table[turn : turn + 1] for name, table in tables.items()} for turn in range(len(turns))]


def _striding(node: Node, strides: tuple[int, ...] | None) -> Node:
    if strides is None:
        return node
    kept = tuple(attribute for attribute in node.attributes if attribute.name != "strides")
    return replace(node, attributes=(*kept, Attribute("strides", strides)), origin=None)


def _plain(layer: FullyConnected) -> bool:
    return layer.weight.dtype in (np.float32, np.float16)


def _code(layer: FullyConnected) -> int:
    return dtypes.FLOAT if layer.weight.dtype == np.float32 else dtypes.FLOAT16


def _shape(link: LayerLink, layer: FullyConnected) -> tuple[int, ...]:
    """(C, *kernel): a window of the layer's input."""
    return (layer.inputs // prod(link.kernel), *link.kernel)


def _nth(places: dict[str, list[tuple[int, ...]]], turn: int) -> _Places:
    """One place per input; inputs with fewer begin anew."""
    return {name: found[turn % len(found)] for name, found in places.items()}


def _run(model: Runnable, layers: _Layers, places: _Places | None, runner: Runner) -> dict[str, Array]:
    """Every layer's result as rows [images, F], with a 1 at its input's place, or zeros."""
    feeds = {
        link.candidate_input: _impulse(
            link, places[link.candidate_input] if places else None, _shape(link, layer)[0]
        ).astype(layer.weight.dtype)
        for link, layer in layers
    }
    outputs = [link.candidate_output for link, _ in layers]
    found = runner.run(model, feeds, outputs, optimization="none")
    return {name: rows(np.asarray(value)) for name, value in found.items()}


def _tainted(layer: FullyConnected) -> Array:
    """How many weights of each output are NaN or infinite: times 0 they are NaN."""
    parts = [np.count_nonzero(~np.isfinite(layer.weight[a:b]), axis=1) for a, b in layer.held()]
    return np.concatenate(parts)


def _spoilt(value: Array, tainted: Array | None, row: Array | None = None) -> Array:
    """A result with NaN where 0 meets such a weight; the one that meets 1 is in `row`."""
    if tainted is None:
        return value
    met = 0 if row is None else ~np.isfinite(row)
    return np.where(tainted > met, np.asarray(np.nan, value.dtype), value)


@np.errstate(invalid="ignore", over="ignore")
def _result(
    link: LayerLink,
    layer: FullyConnected,
    runs: Sequence[dict[str, Array]],
    places: Sequence[tuple[int, ...]],
    seed: int,
) -> ExactResult:
    bias = np.zeros(layer.outputs, np.float32) if layer.bias is None else layer.bias.astype(np.float32)
    resting = _finished(layer, bias)
    moves = (link.weight, link.bias)
    folded = layer.alpha != 1.0 or any(move is not None and move.how == "folded" for move in moves)
    slack = 2.0**-22 if folded else 0.0
    weights = _columns(link, layer, places)
    tainted = _tainted(layer) if any(np.isnan(run[link.candidate_output]).any() for run in runs) else None
    outcomes = [
        compare(
            run[link.candidate_output],
            _spoilt(_finished(layer, np.asarray(row + bias, np.float32)), tainted, row)[None],
            slack * (np.abs(row) + np.abs(bias)),
        )
        for run, row in zip(runs[1:], weights, strict=False)
    ]
    total = Comparison()
    for outcome in outcomes:
        total = total.merged(outcome)
    wrong = next((place for place, outcome in zip(places, outcomes, strict=True) if not outcome.ok), None)
    text = f"zeros give b and {len(places)} single ones give fl(w + b), seed {seed}: " + (
        "within 4u (|w| + |b|), since a factor is multiplied in" if folded else "bit for bit, limit 0"
    )
    expected = _spoilt(resting, tainted)[None]
    zeros = compare(runs[0][link.candidate_output], expected, slack * np.abs(resting))
    return ExactResult(link.output, zeros, total, wrong, text)


def positions(shape: tuple[int, ...], count: int, seed: int) -> list[tuple[int, ...]]:
    """Up to `count` places of a map [C, *S].

    First, middle and last channel at every corner and at one place off the symmetry axes, then seeded ones.
    """
    channels, spatial = shape[0], shape[1:]
    corners = [
        tuple((size - 1) * (code >> axis & 1) for axis, size in enumerate(spatial))
        for code in range(2 ** len(spatial))
    ]
    off = tuple(min(axis, size - 1) for axis, size in enumerate(spatial))
    chosen = {(c, *place): None for c in (0, channels - 1, channels // 2) for place in (*corners, off)}
    generator = np.random.default_rng([seed, *shape])
    for flat in generator.permutation(min(prod(shape), 4 * count))[: 2 * count]:
        flat = int(flat) if prod(shape) <= 4 * count else int(generator.integers(prod(shape)))
        chosen[tuple(int(i) for i in np.unravel_index(flat, shape))] = None
    return list(chosen)[:count]


def _span(link: LayerLink) -> tuple[int, ...]:
    steps = link.dilations or (1,) * len(link.kernel)
    return tuple(step * (size - 1) + 1 for size, step in zip(link.kernel, steps, strict=True))


def _impulse(link: LayerLink, place: tuple[int, ...] | None, channels: int) -> Array:
    """[images, C, *span]: zeros, with a 1 at `place` (channel, *cell of the window) of every image."""
    steps = link.dilations or (1,) * len(link.kernel)
    value = np.zeros((link.images, channels, *_span(link)), np.float32)
    if place is not None:
        cell: Any = (slice(None), place[0], *(step * at for step, at in zip(steps, place[1:], strict=True)))
        value[cell] = 1
    return value


def _columns(link: LayerLink, layer: FullyConnected, places: Sequence[tuple[int, ...]]) -> Array:
    """The weights times alpha, for every place, [places, F]."""
    shape = _shape(link, layer)
    order = tuple(axis - 1 for axis in link.weight.axes) if prod(link.kernel) > 1 else ()
    order = order or tuple(range(len(shape)))
    stored = tuple(shape[axis] for axis in order)
    columns = [int(np.ravel_multi_index(tuple(place[axis] for axis in order), stored)) for place in places]
    return np.asarray(np.asarray(layer.columns(columns), np.float32).T * np.float32(layer.alpha), np.float32)


def _finished(layer: FullyConnected, value: Array) -> Array:
    """A sum as it is stored, rounded to the element type of the layer."""
    return value.astype(layer.weight.dtype)
