"""Layers in integer arithmetic (QGemm, QLinearMatMul): sums are exact, one rounding to a step comes behind.

Source: onnxruntime's ContribOperators.md, com.microsoft.QGemm; ONNX specification, QLinearMatMul.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from onnxscope.errors import UsageError
from onnxscope.graph import Model, Node
from onnxscope.proof import limits
from onnxscope.proof.extract import constant
from onnxscope.proof.limits import Comparison
from onnxscope.proof.links import HeadLink, LayerLink
from onnxscope.proof.recompute import misfit, placed
from onnxscope.proof.windows import row_blocks, rows, rows_of, windows

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array, Floats
    from onnxscope.proof.runner import Runner

PLACES: dict[str, tuple[int, int, int, int | None]] = {
    "QGemm": (0, 3, 7, 6),
    "QLinearMatMul": (0, 3, 6, None),
}
"""Op -> where its input, its weight, the scale of its output and its bias stand.

Scale and zero point stand behind each of the first two, a zero point behind the third.
"""
ROUNDINGS = 8
"""Float32 roundings between a sum and its step: of the sum, of up to three scales and their products."""
_WINDOWS = 64
TEXT = (
    "exact integer sums in float64, then one rounding: 0 steps, 1 where the sum lies within 8u of itself, "
    "u = 2^-24, from the middle of two"
)


@dataclass(frozen=True, slots=True)
class IntegerLayer:
    """y = round(factor ((W - zw) (a - za) + b)) + zero, cut off at the ends of the output's type."""

    weight: Array
    """[F, K] as stored."""
    zeros: Floats
    """zw, [F] or [1]."""
    zero_input: float
    bias: Floats
    """[F] or [1], in units of the sum."""
    factor: Floats
    """[F] or [1], steps of the output per unit of the sum."""
    zero: float
    """Zero point of the output."""

    def results(self, given: Floats, start: int, stop: int) -> Floats:
        """Steps of rows [R, K] before they are rounded, outputs `start` to `stop`."""
        weight = self.weight[start:stop].astype(np.float64) - _part(self.zeros, start, stop)[:, None]
        sums = (given - self.zero_input) @ weight.T + _part(self.bias, start, stop)
        found: Floats = sums * _part(self.factor, start, stop)
        return found


def _part(values: Floats, start: int, stop: int) -> Floats:
    return values if len(values) == 1 else values[start:stop]


def layer(model: Model, link: LayerLink, runner: Runner) -> IntegerLayer | None:
    """The layer that ends in the original value `link.output`; None for any other form than those above.

    Nor for a layer that gives floats, or whose scales or zero points depend on the input.
    """
    node = model.graph.producers.get(link.output)
    if node is None or node.op not in PLACES or link.parts or node.attribute("transA"):
        return None
    try:
        return _read(model, node, runner)
    except UsageError:  # no constant
        return None


def _read(model: Model, node: Node, runner: Runner) -> IntegerLayer | None:
    given, weight, result, bias = PLACES[node.op]

    def numbers(place: int | None, otherwise: float) -> Floats:
        name = node.inputs[place] if place is not None and place < len(node.inputs) else ""
        found = constant(model, name, runner) if name else otherwise
        return np.asarray(found, np.float64).reshape(-1)

    matrix = constant(model, node.inputs[weight], runner)
    if matrix.ndim != 2 or result >= len(node.inputs) or not node.inputs[result]:
        return None
    alpha = node.attribute("alpha")
    scale = numbers(given + 1, 1) * numbers(weight + 1, 1) * (alpha if isinstance(alpha, float) else 1.0)
    return IntegerLayer(
        matrix if node.attribute("transB") else matrix.T,
        numbers(weight + 2, 0),
        float(numbers(given + 2, 0)[0]),
        numbers(bias, 0),
        scale / numbers(result, 1),
        float(numbers(result + 1, 0)[0]),
    )


def check(found: IntegerLayer, link: LayerLink, pairs: Sequence[tuple[Array, Array]]) -> Comparison:
    """The layer against pairs of (map [N, C, *S], result [N, F, *S']), each window a row."""
    fits = placed(link, pairs, found.weight.shape)
    if fits is None:
        return misfit(pairs[0][1])
    total = Comparison()
    axes = link.weight.axes if prod(link.kernel) > 1 else ()
    outputs, width = found.weight.shape
    step = rows_of(width)
    for view, table in zip(*fits, strict=True):
        for first, block in row_blocks(view, axes, outputs):
            numbers = np.asarray(block, np.float64)
            for start in range(0, outputs, step):
                part = table[first : first + len(block), start : start + step]
                total = total.merged(_compared(found, found.results(numbers, start, start + step), part))
    return total


def pool(
    model: Model, node: Node, head: HeadLink, pair: tuple[Array, Array], runner: Runner
) -> Comparison | None:
    """A QLinearGlobalAveragePool over each window, or the whole map: (map [N, C, *S], result [N, C, *S']).

    None where its scales are computed.

    The mean is exact but for its two scales, and ties are frequent: four numbers of eight bits have one in
    four times. onnxruntime's kernels for a whole map and for windows round them their own way.
    """
    given, result = pair
    kernel = head.pool_kernel or given.shape[2:]
    try:
        scales = [np.asarray(constant(model, name, runner), np.float64) for name in node.inputs[1:]]
    except UsageError:  # no constant
        return None
    size, zero, out, zero_out = (float(value.reshape(-1)[0]) for value in scales)
    view = windows(given, kernel, head.dilations).reshape(-1, given.shape[1], prod(kernel))
    table = rows(result)
    if view.shape[:2] != table.shape:
        return misfit(result)
    total = Comparison()
    for start in range(0, len(view), _WINDOWS):
        steps = (view[start : start + _WINDOWS].astype(np.float64) - zero) * (size / out)
        rounding = (ROUNDINGS + view.shape[-1]) * 2.0**-24 * np.abs(steps).mean(-1)
        part = table[start : start + _WINDOWS]
        total = total.merged(_nearest(part, steps.mean(-1), zero_out, rounding))
    return total


def _compared(found: IntegerLayer, exact: Floats, part: Array) -> Comparison:
    return _nearest(part, exact, found.zero, ROUNDINGS * 2.0**-24 * np.abs(exact))


def _nearest(part: Array, exact: Floats, zero: float, rounding: Floats) -> Comparison:
    """Results against `exact` steps from `zero`: the nearest; also the next where `rounding` spans a tie."""
    ends, place = np.iinfo(part.dtype), exact + zero
    tie = np.abs(place - np.floor(place) - 0.5) <= rounding
    return limits.compare(part, np.clip(np.rint(place), ends.min, ends.max), tie.astype(np.float64))
