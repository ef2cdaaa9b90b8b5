"""Fully connected layers: which a convolution can replace, with which kernel, and why not where it can't.

A layer y = W x + b on a vector that is a flattened map [C, *S] is a convolution with kernel S: the same
weights, in another shape. On a vector that an earlier such layer computed it is a 1x1 convolution. Source:
Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.analysis.params import Params
from onnxscope.expr import Expr, Size, product
from onnxscope.ops.value import Shape
from onnxscope.rewrite.layout import (
    FULLY_CONNECTED,
    LOST,
    MAP,
    VECTOR,
    Layout,
    Layouts,
    is_fully_connected,
    propagate,
)


@dataclass(frozen=True, slots=True)
class HeadLayer:
    """The verdict on one fully connected layer."""

    layer: str
    """Label of the node."""
    replaceable: bool
    kernel: tuple[int, ...] | None
    """Spatial kernel of the convolution, one entry per spatial axis; None where it isn't replaceable."""
    becomes: str | None
    """For example `Conv 7x7x512 -> 4096`."""
    reason: str | None
    """Why not, in one clause; None where it is replaceable."""
    share_of_params: float | None
    """Its part of all parameters as layers use them, 0..1; None where the count is unknown."""
    feature_map: str | None
    """The map [N, C, *S] whose flattened or globally pooled form it reads; None behind another such layer."""
    size_note: str | None
    """Where the input size is free: the map size that the weights demand."""


def find(facts: Facts, params: Params) -> tuple[HeadLayer, ...]:
    """The verdict on every fully connected layer, in execution order."""
    connected = [fact for fact in facts.nodes() if is_fully_connected(facts, fact)]
    layouts = propagate(facts) if connected else {}
    return tuple(_verdict(facts, fact, layouts, _share(fact, params)) for fact in connected)


def _share(fact: NodeFact, params: Params) -> float | None:
    layer = params.layers.get((fact.scope, fact.node.index))
    if layer is None:
        return 0.0
    if not isinstance(layer.total, int) or not isinstance(params.trainable, int) or not params.trainable:
        return None
    return layer.total / params.trainable


def _verdict(facts: Facts, fact: NodeFact, layouts: Layouts, share: float | None) -> HeadLayer:
    def refuse(reason: str) -> HeadLayer:
        return HeadLayer(fact.label, False, None, None, reason, share, None, None)

    places = FULLY_CONNECTED[fact.node.op]
    operand, weight = fact.node.inputs[places.data], fact.node.inputs[places.weight]
    if facts.value(operand, fact.scope).fixed:
        return refuse("its weight is the left operand")
    if fact.scope:
        return refuse(f"it is inside {fact.scope.rstrip('/')}, not in the main graph")
    if facts.value(weight).overridable:
        return refuse("its weight is also an input of the model, which a caller may override")
    matrix = facts.value(weight).shape
    if matrix is None or facts.value(operand).shape is None:
        return refuse("its shapes are unknown")
    reason = _unfit(facts, fact) or _untracked(facts, operand, layouts)
    if reason:
        return refuse(reason)
    layout, (inputs, outputs) = layouts[operand], _fan(fact, matrix)
    kernel = _kernel(layout, inputs)
    if kernel is None:
        expected = product((layout.channels, *layout.spatial))
        return refuse(
            f"its weight takes {inputs} inputs, the map {layout.base} {_times(layout)} gives {expected}"
        )
    channels = inputs // product(kernel)
    becomes = f"Conv {'x'.join(map(str, kernel))}x{channels} -> {outputs}"
    flattened = layout.kind == VECTOR
    return HeadLayer(
        fact.label,
        True,
        kernel,
        becomes,
        None,
        share,
        (layout.pooled or layout.base) if flattened else None,
        _size_note(layout, kernel),
    )


def _unfit(facts: Facts, fact: NodeFact) -> str | None:
    """Attributes and operands that rule a convolution out."""
    if fact.node.attribute("transA"):
        return "transA=1 makes the batch the inner axis"
    bias_at = FULLY_CONNECTED[fact.node.op].bias
    if bias_at is not None and bias_at < len(fact.node.inputs) and fact.node.inputs[bias_at]:
        bias = facts.value(fact.node.inputs[bias_at])
        if not bias.constant:
            return "its bias is computed from the input"
        if bias.shape is not None and len(bias.shape) == 2 and bias.shape[0] != 1:
            return "its bias differs per row of the batch"
    return None


def _untracked(facts: Facts, operand: str, layouts: Layouts) -> str | None:
    layout, shape = layouts.get(operand), facts.value(operand).shape or ()
    if layout is not None and layout.kind == LOST:
        return f"{layout.reason} (between {layout.base} and this layer)"
    shown = f"{operand} [{', '.join(map(str, shape))}]"
    if len(shape) > 2 and not (layout is not None and layout.kind == MAP and layout.order[-1] == 1):
        return f"its input {shown} is no vector per image: it already acts on every position"
    if layout is None:
        return f"its input {shown} comes from no feature map"
    return None


def _fan(fact: NodeFact, matrix: Shape) -> tuple[Size, Size]:
    """(inputs, outputs) of the weight; leading axes of 1 are ignored."""
    rows, columns = matrix[-2:] if len(matrix) >= 2 else (matrix[0], 1)
    return (columns, rows) if fact.node.attribute("transB") else (rows, columns)


def _kernel(layout: Layout, inputs: Size) -> tuple[int, ...] | None:
    """The spatial kernel that the weight implies; None where weight and map don't fit.

    Where the map's size is free, the weight alone tells it: inputs/channels cells, a square one in 2-D.
    """
    if layout.kind != VECTOR:
        return (1,) * len(layout.spatial) if inputs == layout.channels else None
    if all(isinstance(size, int) for size in layout.spatial):
        return tuple(layout.spatial) if inputs == product((layout.channels, *layout.spatial)) else None  # type: ignore[arg-type]
    if not isinstance(inputs, int) or not isinstance(layout.channels, int) or inputs % layout.channels:
        return None
    return _implied(inputs // layout.channels, layout.spatial)


def _implied(cells: int, spatial: Shape) -> tuple[int, ...] | None:
    free = [size for size in spatial if isinstance(size, Expr)]
    fixed = product(size for size in spatial if isinstance(size, int))
    if not isinstance(fixed, int) or cells % fixed:
        return None
    cells //= fixed
    side = round(cells ** (1 / len(free))) if len(free) != 2 else isqrt(cells)
    if side ** len(free) != cells:
        return None
    return tuple(side if isinstance(size, Expr) else size for size in spatial)


def _size_note(layout: Layout, kernel: tuple[int, ...]) -> str | None:
    if layout.kind != VECTOR or not any(isinstance(size, Expr) for size in layout.spatial):
        return None
    shown = "x".join(map(str, kernel))
    return (
        f"its weight fits a {shown} map only; {layout.base} is {_times(layout)}: convert it for other sizes"
    )


def _times(layout: Layout) -> str:
    return "x".join(
        f"({size})" if isinstance(size, Expr) else str(size) for size in (layout.channels, *layout.spatial)
    )
