"""Ops along the feature axis: on the twin that is axis 1."""

from __future__ import annotations

from dataclasses import replace

from onnxscope import dtypes
from onnxscope.graph import Attribute, Node
from onnxscope.rewrite.lift import Answer, Lift, Step, Unliftable, lost_at, rule
from onnxscope.rewrite.moving import transpose
from onnxscope.rewrite.rules.joined import joined
from onnxscope.rewrite.rules.pointwise import join
from onnxscope.rewrite.rules.pools import pooled
from onnxscope.rewrite.rules.strided import as_strided
from onnxscope.rewrite.views import Groups, View


def featured(step: Step, axis: int, view: View | None = None) -> int:
    """The axis from the front, where it is the features'. Raises Unliftable where it is another one."""
    view = view or step.view
    if step.lift.native.value(step.node.inputs[0]).shape is None or view.axis_of(axis) != (1,):
        raise Unliftable
    return axis % len(view.groups)


def changed(step: Step, view: View, twin: str, output: int = 0) -> View:
    """The view of an output whose number of features differs."""
    shape = step.lift.native.value(step.node.outputs[output]).shape
    place = next((i for i, group in enumerate(view.groups) if group == (1,)), None)
    if shape is None or place is None or len(shape) != len(view.groups):
        raise Unliftable
    return replace(view, twin=twin, channels=shape[place])


def _with(node: Node, inputs: tuple[str, ...], **integers: int) -> Node:
    kept = tuple(a for a in node.attributes if a.name not in integers)
    given = tuple(Attribute(key, value) for key, value in integers.items())
    return replace(node, inputs=inputs, attributes=(*kept, *given), origin=None)


@rule("Softmax LogSoftmax Hardmax")
def softmax(lift: Lift, step: Step) -> Answer:
    """Over the features at every cell.

    Below opset 13 the op merges all axes from `axis` on and takes them together, so it runs on a
    channels-last copy; from 13 on with axis=1. Source: Softmax-1, -11, -13.
    """
    view = step.view
    old = lift.opset < 13
    axis = step.integer("axis", 1 if old else -1) % max(len(view.groups), 1)
    if old and axis != len(view.groups) - 1:
        raise Unliftable(f"{step.node.op} {step.fact.label} takes several axes together")
    featured(step, axis)
    if not old:
        return replace(
            view, twin=lift.builder.add(step.place, _with(step.node, (view.twin,), axis=1), like=step.output)
        )
    return replace(view, twin=_channels_last(lift, step, view, _with(step.node, ("",), axis=view.rank - 1)))


def _channels_last(lift: Lift, step: Step, view: View, node: Node) -> str:
    """A node that works on the last axis, between two transposes; its first input is the twin."""
    forth = (0, *range(2, view.rank), 1)
    back = (0, view.rank - 1, *range(1, view.rank - 1))
    folded = lift.builder.folded.get(view.twin)
    turned = transpose(lift, step.place, folded.value if folded else view.twin, forth)
    made = lift.builder.add(step.place, replace(node, inputs=(turned, *node.inputs[1:])), hint=step.output)
    if folded is None:
        return transpose(lift, step.place, made, back, like=step.output)
    value = transpose(lift, step.place, made, back)
    return lift.builder.unfolded(step.place, value, folded.frame, step.output)


@rule("LayerNormalization")
def layer_normalization(lift: Lift, step: Step) -> tuple[Answer, ...]:
    """Over the last axis, the features: between two transposes."""
    view = step.view
    axis = step.integer("axis", -1)
    featured(step, axis)
    if axis % len(view.groups) != len(view.groups) - 1 or any(
        not step.constant(i) for i in range(1, len(step.node.inputs)) if step.has(i)
    ):
        raise Unliftable
    if not view.layers and not view.pools and view.permuted:
        back = tuple(view.groups.index((a,)) for a in range(view.rank))
        return (replace(view, twin=transpose(lift, step.place + 1, step.output, back)),)
    node = _with(step.node, step.node.inputs, axis=-1)
    made = replace(view, twin=_channels_last(lift, step, view, node))
    return (made, *(lost_at(step) for _ in step.node.outputs[1:]))


@rule("BatchNormalization")
def batch_normalization(lift: Lift, step: Step) -> tuple[Answer, ...]:
    """Over axis 1: itself, where that axis is the features'. Below opset 9 only in its spatial form."""
    view = step.view
    featured(step, 1)
    if lift.opset < 9 and step.integer("spatial", 1) == 0:
        raise Unliftable("BatchNormalization with spatial=0 normalizes every cell by itself")
    if step.integer("training_mode", 0) or not all(step.constant(i) for i in range(1, 5)):
        raise Unliftable("BatchNormalization in training mode looks at the whole batch")
    twin = lift.builder.add(
        step.place, _with(step.node, (view.twin, *step.node.inputs[1:])), like=step.output
    )
    return (replace(view, twin=twin), *(lost_at(step) for _ in step.node.outputs[1:]))


@rule("LpNormalization")
def lp_normalization(lift: Lift, step: Step) -> Answer:
    """Over the features."""
    view = step.view
    featured(step, step.integer("axis", -1))
    return replace(
        view, twin=lift.builder.add(step.place, _with(step.node, (view.twin,), axis=1), like=step.output)
    )


@rule("ArgMax ArgMin")
def arg(lift: Lift, step: Step) -> Answer:
    """Index over the features; the twin keeps the axis, with one feature."""
    view = step.view
    axis = featured(step, step.integer("axis", 0))
    node = _with(step.node, (view.twin,), axis=1, keepdims=1)
    twin = lift.builder.add(step.place, node, like=step.output)
    return replace(view, twin=twin, groups=_without(view, axis, step.integer("keepdims", 1)), channels=1)


def _without(view: View, axis: int, keepdims: int) -> Groups:
    kept = () if keepdims else None
    found = [kept if i == axis else group for i, group in enumerate(view.groups)]
    return tuple(group for group in found if group is not None)


@rule(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp "
    "ReduceSumSquare",
    moves=True,
)
def reduce(lift: Lift, step: Step) -> Answer:
    """Over the features: one feature. Over all spatial axes of a map: a global pool."""
    view = step.view
    axes = step.ints("axes", 1)
    if not axes:
        raise Unliftable
    rank = len(view.groups)
    places = sorted({axis % rank for axis in axes})
    groups = [group for place, group in enumerate(view.groups) if place in places]
    keepdims = step.integer("keepdims", 1)
    if groups == [(1,)]:
        return _reduced(lift, step, view, places[0], keepdims)
    kept: Groups = tuple(
        () if i in places else group for i, group in enumerate(view.groups) if keepdims or i not in places
    )
    named = sorted(axis for group in groups for axis in group)
    spatial = [i + 2 for i, size in enumerate(view.spatial) if size != 1]
    if (
        step.node.op in ("ReduceMean", "ReduceMax", "ReduceSum")
        and named == spatial
        and view.pools == frozenset()
    ):
        return pooled(lift, step, view, kept)
    if not view.layers and step.mapped and step.target is not None and view.twin == view.base and view.plain:
        return lift.fresh(step.output, step.target)
    raise Unliftable


def _reduced(lift: Lift, step: Step, view: View, place: int, keepdims: int) -> View:
    by_input = lift.opset >= (13 if step.node.op == "ReduceSum" else 18)
    kept = tuple(a for a in step.node.attributes if a.name not in ("axes", "keepdims"))
    node = replace(step.node, attributes=kept, origin=None)
    if by_input:
        node = _with(node, (view.twin, lift.builder.ints((1,))), keepdims=1)
    else:
        node = replace(
            _with(node, (view.twin,), keepdims=1),
            attributes=(*kept, Attribute("axes", (1,)), Attribute("keepdims", 1)),
        )
    twin = lift.builder.add(step.place, node, like=step.output)
    return replace(view, twin=twin, groups=_without(view, place, keepdims), channels=1)


@rule("TopK")
def top_k(lift: Lift, step: Step) -> tuple[Answer, ...]:
    """The K largest features and their places."""
    view = step.view
    featured(step, step.integer("axis", -1))
    if step.has(1) and not step.constant(1):
        raise Unliftable
    node = _with(step.node, (view.twin, *step.node.inputs[1:]), axis=1)
    twin = lift.builder.add(step.place, node, like=step.output, outputs=2)
    names = lift.builder.outputs_of(twin)
    return tuple(
        changed(step, view, name, i) if step.node.outputs[i] else None
        for i, name in enumerate(names[: len(step.node.outputs)])
    )


@rule("Concat")
def concat(lift: Lift, step: Step) -> Answer:
    """Features after features: on axis 1."""
    views = [view for view in step.views if isinstance(view, View)]
    axis = step.integer("axis", 1)
    if len(views) < len(step.views) or any(len(group) > 1 for view in views for group in view.groups):
        return joined(lift, step)
    for view in views:
        featured(step, axis, view)
    whole = join(lift, step, len(views[0].groups))
    if any(view.free != whole.free for view in views):
        lift.meetings |= whole.pools
        raise Unliftable(f"{step.fact.label} joins maps of different sizes")
    node = _with(step.node, tuple(view.twin for view in views), axis=1)
    return changed(step, whole, lift.builder.add(step.place, node, like=step.output))


@rule("Split")
def split(lift: Lift, step: Step) -> tuple[Answer, ...]:
    """Parts of the features."""
    view = step.view
    featured(step, step.integer("axis", 0))
    if step.has(1) and not step.constant(1):
        raise Unliftable
    node = _with(step.node, (view.twin, *step.node.inputs[1:]), axis=1)
    count = len(step.node.outputs)
    twin = lift.builder.add(step.place, node, like=step.output, outputs=count)
    names = lift.builder.outputs_of(twin)
    return tuple(
        changed(step, view, name, i) if step.node.outputs[i] else None for i, name in enumerate(names)
    )


@rule("Slice")
def slice_(lift: Lift, step: Step) -> Answer:
    """A stretch of the features; other axes must be named whole."""
    view = step.view
    starts, ends, steps = step.ints("starts", 1), step.ints("ends", 2), step.ints("", 4)
    if starts is None or ends is None or (step.has(4) and steps is None):
        raise Unliftable(f"the bounds of {step.node.op} {step.fact.label} are computed from the input")
    axes = step.ints("axes", 3) or tuple(range(len(starts)))
    parts = dict(zip(axes, zip(starts, ends, steps or (1,) * len(axes), strict=True), strict=True))
    places = [axis for axis in axes if view.axis_of(axis) == (1,)]
    if len(places) != 1 or not all(_whole(step, axis, *parts[axis]) for axis in axes if axis not in places):
        raise Unliftable
    featured(step, places[0])
    start, end, stride = parts[places[0]]
    if lift.opset < 10:
        twin = lift.builder.emit(
            step.place, "Slice", (view.twin,), like=step.output, starts=(start,), ends=(end,), axes=(1,)
        )
        return changed(step, view, twin)
    kind = lift.native.value(step.node.inputs[1]).dtype or dtypes.INT64
    numbers = (("starts", start), ("ends", end), ("axes", 1), ("steps", stride))
    given = (lift.builder.constant((number,), kind, (1,), name) for name, number in numbers)
    return changed(step, view, lift.builder.emit(step.place, "Slice", (view.twin, *given), like=step.output))


ALL = 2**31 - 1
"""From here on an end means the end of the axis, whatever its size: exporters write this, or 2^63 - 1."""


def _whole(step: Step, axis: int, start: int, end: int, stride: int) -> bool:
    """Whether a stretch is the whole axis."""
    size = (step.shape() or ())[axis]
    return start == 0 and stride == 1 and end >= (size if isinstance(size, int) else ALL)


@rule("Gather")
def gather(lift: Lift, step: Step) -> Answer:
    """Chosen features; a lone index keeps the axis in the twin, with one feature."""
    view = step.view
    if len(view.groups) == 1 and len(view.groups[0]) > 1:
        return as_strided(lift, step, view)
    axis = featured(step, step.integer("axis", 0))
    indices = step.known(1)
    if indices is None or len(indices.shape) > 1 or not step.constant(1):
        raise Unliftable
    if indices.shape:
        node = _with(step.node, (view.twin, step.node.inputs[1]), axis=1)
        return changed(step, view, lift.builder.add(step.place, node, like=step.output))
    if not isinstance(indices.items[0], int):
        raise Unliftable
    node = _with(step.node, (view.twin, lift.builder.ints((indices.items[0],), "indices")), axis=1)
    twin = lift.builder.add(step.place, node, like=step.output)
    return replace(view, twin=twin, groups=_without(view, axis, 0), channels=1)
