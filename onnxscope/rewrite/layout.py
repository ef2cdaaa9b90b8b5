"""Layout propagation: which vectors are flattened feature maps, and in which order.

A feature map [N, C, *S] that is flattened is only viewed as a vector. This module follows every value of the
main graph and says what it is a view of: the map itself (perhaps transposed), a vector of all its elements,
or a `lifted` vector, computed from such a one by fully connected layers. Everything else is lost, with the op
that lost it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.expr import Expr, Size, product
from onnxscope.ops.value import Shape

MAP, VECTOR, LIFTED, LOST = "map", "vector", "lifted", "lost"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a value is a view of."""

    kind: str
    """map, vector, lifted or lost."""
    base: str = ""
    """Name of the feature map [N, C, *S] behind it."""
    channels: Size = 0
    """C of that map."""
    spatial: Shape = ()
    """S of that map."""
    order: tuple[int, ...] = ()
    """Axes of the base map in this value's order: (0, 2, 3, 1) for a channels-last view, (2, 3, 1) for a
    vector flattened from it, (1, 2, 3) for the usual one."""
    pooled: str = ""
    """The map in front of the global pool, where one lies between."""
    reason: str = ""
    """For a lost value: what stands between it and the feature map."""

    @property
    def plain(self) -> bool:
        """Whether the axes are in the base map's own order."""
        return self.order == tuple(range(len(self.order)))


Layouts: TypeAlias = "dict[str, Layout]"


@dataclass(frozen=True, slots=True)
class Weight:
    """Where a fully connected op keeps its operands."""

    data: int
    """Input with the activations."""
    weight: int
    """Input with the weight."""
    bias: int | None = None


FULLY_CONNECTED: dict[str, Weight] = {
    "Gemm": Weight(0, 1, 2),
    "FusedGemm": Weight(0, 1, 2),
    "MatMul": Weight(0, 1),
    "FusedMatMul": Weight(0, 1),
    "QGemm": Weight(0, 3, 6),
    "QLinearMatMul": Weight(0, 3),
    "MatMulInteger": Weight(0, 1),
    "MatMulIntegerToFloat": Weight(0, 1, 6),
    "DynamicQuantizeMatMul": Weight(0, 1, 4),
    "MatMulNBits": Weight(0, 1, 5),
}


def is_fully_connected(facts: Facts, fact: NodeFact) -> bool:
    """Whether a node multiplies its input by a constant matrix: a fully connected layer."""
    places = FULLY_CONNECTED.get(fact.node.op)
    if places is None or len(fact.node.inputs) <= places.weight:
        return False
    left = facts.value(fact.node.inputs[places.data], fact.scope).fixed
    right = facts.value(fact.node.inputs[places.weight], fact.scope).fixed
    return left != right


def propagate(facts: Facts) -> Layouts:
    """The layout of every value of the main graph that comes from an input or map with spatial axes."""
    found: Layouts = {}
    stored = facts.main.graph.initializers
    for info in facts.main.graph.inputs:
        shape = facts.value(info.name).shape
        if info.name not in stored and shape is not None and len(shape) >= 3:
            found[info.name] = _fresh(info.name, shape)
    for fact in facts.main.nodes:
        if fact.node.outputs and fact.node.outputs[0]:
            layout = _step(facts, fact, found)
            if layout is not None:
                found[fact.node.outputs[0]] = layout
    return found


def _fresh(name: str, shape: Shape, pooled: str = "") -> Layout:
    return Layout(MAP, name, shape[1], shape[2:], tuple(range(len(shape))), pooled)


def _step(facts: Facts, fact: NodeFact, found: Layouts) -> Layout | None:
    output = fact.node.outputs[0]
    shape = facts.value(output).shape
    if shape is None or facts.value(output).fixed or fact.node.op in ("Shape", "Size"):
        return None
    sources = [found[name] for name in fact.node.inputs if name in found]
    if fact.inferred.window is not None or (fact.rule and fact.rule.kind == "global_pool"):
        pooled = sources[0].base if sources and fact.inferred.window is None else ""
        return _fresh(output, shape, pooled) if len(shape) >= 3 else None
    if not sources:
        return None
    lost = next((layout for layout in sources if layout.kind == LOST), None)
    if lost is not None:
        return lost
    result = _rule(facts, fact)(_Step(facts, fact, shape, tuple(sources)))
    return result or Layout(
        LOST, sources[0].base, reason=f"{fact.node.op} {fact.label} has no convolutional twin here"
    )


@dataclass(frozen=True, slots=True)
class _Step:
    facts: Facts
    fact: NodeFact
    shape: Shape
    sources: tuple[Layout, ...]
    """Layouts of the inputs that have one, in order."""

    @property
    def before(self) -> Shape | None:
        """Shape of the first input."""
        return self.facts.value(self.fact.node.inputs[0]).shape

    @property
    def output(self) -> str:
        return self.fact.node.outputs[0]


def _rule(facts: Facts, fact: NodeFact) -> Callable[[_Step], Layout | None]:
    if is_fully_connected(facts, fact):
        return _connected
    return _RULES.get(fact.node.op, _same)


def _same(step: _Step) -> Layout | None:
    """Pointwise ops, and any op that keeps the shape of its tracked input: the view stays what it was."""
    first = step.sources[0]
    alike = all((other.kind, other.order) == (first.kind, first.order) for other in step.sources)
    values = [step.facts.value(name) for name in step.fact.node.inputs if name]
    kept = any(value.shape == step.shape and not value.fixed for value in values)
    if not alike or not kept or step.fact.node.op in _MIXERS:
        return None
    return _fresh(step.output, step.shape, first.pooled) if first.kind == MAP and first.plain else first


def _connected(step: _Step) -> Layout | None:
    first = step.sources[0]
    if first.kind == MAP:
        if first.order[-1] != 1:
            return None
        return replace(first, channels=step.shape[-1])
    return Layout(LIFTED, first.base, step.shape[-1], (1,) * len(first.spatial), (1,))


def _transpose(step: _Step) -> Layout | None:
    first = step.sources[0]
    perm = step.fact.node.attribute("perm")
    order = perm if isinstance(perm, tuple) else range(len(first.order))[::-1]
    if first.kind != MAP or len(order) != len(first.order):
        return None
    turned = tuple(first.order[axis] for axis in order if isinstance(axis, int))
    view = replace(first, order=turned)
    return _fresh(step.output, step.shape, first.pooled) if view.plain else view


def _flatten(step: _Step) -> Layout | None:
    """Flatten, Reshape and Squeeze: all axes but the batch merged into one, or only 1s that come and go."""
    first, before = step.sources[0], step.before
    if before is None:
        return None
    if first.kind == MAP and len(step.shape) == 2:
        return _merged(step, first, before)
    if first.kind == MAP:
        return _reshaped_map(step, first, before)
    return first if len(step.shape) == 2 and step.shape[1] == before[-1] else None


def _merged(step: _Step, first: Layout, before: Shape) -> Layout | None:
    count = product(before[1:])
    whole = step.shape[1] == count and (step.shape[0] == before[0] or isinstance(before[0], Expr))
    if first.order[0] != 0 or not (whole or isinstance(count, Expr)):  # a freed size doesn't fit a baked one
        return None
    return replace(first, kind=VECTOR, order=first.order[1:])


def _reshaped_map(step: _Step, first: Layout, before: Shape) -> Layout | None:
    """Axes of size 1 that come and go; of a 1x1 map they may also change places with the channels."""
    wide, after = [size for size in before[1:] if size != 1], [size for size in step.shape[1:] if size != 1]
    if step.shape[0] != before[0] or wide != after or len(step.shape) < 3:
        return None
    if first.plain and step.shape[1] == first.channels:
        return _fresh(step.output, step.shape, first.pooled)
    if wide == [first.channels] and step.shape[-1] == first.channels:
        spatial = (1,) * (len(step.shape) - 2)
        return replace(first, spatial=spatial, order=(0, *range(2, len(step.shape)), 1))
    return None


def _reduce(step: _Step) -> Layout | None:
    """A mean, maximum or sum over all spatial axes is a global pool; keepdims=0 drops the 1s."""
    first, before = step.sources[0], step.before
    if first.kind != MAP or before is None:
        return _same(step)
    ones = (1,) * len(first.spatial)
    if first.plain and step.shape == (*before[:2], *ones):
        return _fresh(step.output, step.shape, first.base)
    if step.shape == (before[0], first.channels):
        order = (1, *range(2, len(before)))
        return replace(first, kind=VECTOR, spatial=ones, order=order, pooled=first.base)
    return None


def _concat(step: _Step) -> Layout | None:
    if len(step.sources) < len(step.fact.node.inputs):
        return Layout(
            LOST,
            step.sources[0].base,
            reason=f"{step.fact.label} joins the features with values that come from no feature map",
        )
    kinds = {(layout.kind, layout.order) for layout in step.sources}
    if len(kinds) == 1 and step.sources[0].kind == MAP:
        return _fresh(step.output, step.shape) if step.sources[0].plain else None
    pooled = all(layout.kind != MAP and set(layout.spatial) == {1} for layout in step.sources)
    if pooled:
        return Layout(LIFTED, step.sources[0].base, step.shape[-1], step.sources[0].spatial, (1,))
    return Layout(LOST, step.sources[0].base, reason=f"{step.fact.label} joins several flattened maps")


def _part(step: _Step) -> Layout | None:
    """Slice, Split and Pad on a map give a map of another size; on a flat vector the order is lost."""
    first = step.sources[0]
    if first.kind == MAP and first.plain:
        return _fresh(step.output, step.shape)
    if first.kind == LIFTED and len(step.shape) == 2:
        return replace(first, channels=step.shape[1])
    return None


_MIXERS = frozenset(
    "LSTM GRU RNN Attention MultiHeadAttention CumSum CumProd Scan Loop If Gather ReverseSequence".split()
)
_RULES: dict[str, Callable[[_Step], Layout | None]] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _flatten),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum"), _reduce),
    **dict.fromkeys(("Slice", "Split", "Pad", "Resize", "Upsample"), _part),
    **dict.fromkeys(("Concat", "QLinearConcat"), _concat),
    "Transpose": _transpose,
}
