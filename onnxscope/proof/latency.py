"""How long both models take, at several batch sizes: interleaved runs in one process, medians, quartiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxscope.errors import RuntimeFailure
from onnxscope.graph import Model, Node
from onnxscope.proof import inputs, timing
from onnxscope.proof.inputs import Draw
from onnxscope.proof.links import HeadLink
from onnxscope.proof.result import BatchLatency, Latency
from onnxscope.proof.setting import Pair

BATCHES = (1, 8)
"""Sizes that a free batch takes."""
SLOWER = 1.05
"""Ratio from which a candidate counts as slower, if the quartiles are apart, too."""
_CONVOLUTIONS = frozenset("Conv FusedConv ConvInteger QLinearConv".split())
_PASSING = frozenset("DequantizeLinear Cast Identity".split())
_REREAD = (
    "onnxruntime's Conv on the CPU reads its weights anew for every image of a batch; convert --form auto"
    " writes a head that reads them once (measured: docs/forms.md)"
)
_INTEGERS = (
    "onnxruntime's integer Conv is slower than the matrix product that it stands for; convert --form rows"
    " keeps that (measured: docs/forms.md)"
)
_ELSEWHERE = (
    "a Conv whose kernel is as large as its map can be slower on this provider than the matrix product that"
    " it stands for; convert --form rows keeps that"
)
_MOVED = (
    "its head lays maps out anew before the first layer and after the last, which shows where that layer is"
    " small; convert --form conv doesn't, but is slower in batches (measured: docs/forms.md)"
)


def measure(pair: Pair, draw: Draw, notes: list[str]) -> Latency:
    """Both models as deployed (all optimisations), at each batch size that they take.

    Inputs are bound once and outputs stay where they arise, alike for both; a batch size that doesn't run is
    said in `notes`. Raises RuntimeFailure where none does.
    """
    found: list[BatchLatency] = []
    for batch, trial in _trials(pair, draw):
        pair.setting.progress("latency" if batch is None else f"latency at batch {batch}")
        try:
            found.append(_measured(pair, batch, trial))
        except RuntimeFailure as error:
            if not found or not pair.first.worker.alive:
                raise
            notes.append(f"latency at batch {batch} not measured: {error}")
    first = found[0]
    return Latency(first.original.median_ms, first.candidate.median_ms, first.ratio, tuple(found))


def _trials(pair: Pair, draw: Draw) -> Iterator[tuple[int | None, Draw]]:
    """(batch size, what to draw): BATCHES where the batch is free, else the one that it has."""
    given = pair.setting.inputs
    free = inputs.axes_of(given).batch
    if not free or draw.given:
        yield next((shape[0] for shape in draw.shapes.values() if shape), None), draw
        return
    for batch in BATCHES:
        shapes = {
            one.name: tuple(
                batch
                if not isinstance(one.sizes[axis], int) and inputs.symbol_of(one, axis) in free
                else size
                for axis, size in enumerate(draw.shapes[one.name])
            )
            for one in given
        }
        yield batch, replace(draw, shapes=shapes)


def _measured(pair: Pair, batch: int | None, trial: Draw) -> BatchLatency:
    setting = pair.setting
    feeds = inputs.feeds(trial, setting.inputs, setting.ranges)
    times = timing.compared(pair, [feeds], [feeds])
    original, candidate = (timing.timing(part) for part in times)
    ratio = candidate.median_ms / original.median_ms if original.median_ms else float("inf")
    slower = ratio > SLOWER and candidate.low_ms > original.high_ms
    return BatchLatency(
        batch, len(times[0]), original, candidate, ratio, (_why(pair, batch) or None) if slower else None
    )


def _why(pair: Pair, batch: int | None) -> str:
    """Why a conversion is slower, and which form would help; "" where that isn't known."""
    setting = pair.setting
    heads = setting.heads
    if not heads or any(head.dilations for head in heads):  # a denser map does more, and has one form
        return ""
    plain = any(_plain(setting.candidate, head) for head in heads)
    if not plain:
        return _MOVED if batch == 1 else ""
    if not pair.on_cpu:
        return _ELSEWHERE
    if setting.quantized:
        return _INTEGERS
    return _REREAD if batch is not None and batch > 1 else ""


def _plain(candidate: Model, head: HeadLink) -> bool:
    """Whether a head is written as convolutions on maps that nothing folds."""
    weights = {part.weight.candidate for layer in head.layers for part in (layer, *layer.parts)}
    return head.folding is None and any(
        node.op in _CONVOLUTIONS for name in weights for node in _readers(candidate, name)
    )


def _readers(model: Model, name: str) -> Iterator[Node]:
    """Nodes that read a weight, be it dequantized first."""
    for node in model.graph.consumers.get(name, ()):
        if node.op in _PASSING:
            yield from _readers(model, node.outputs[0])
        else:
            yield node
