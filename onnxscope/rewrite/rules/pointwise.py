"""Elementwise ops: the twin of the output is the same op on the twins, with constants put on the right axes.

A vector of F numbers broadcasts over the last axis of [N, F]; on the twin [N, F, *S] it must be [F, 1...].
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from onnxscope.expr import Expr
from onnxscope.graph import Node
from onnxscope.ops.value import Shape
from onnxscope.rewrite.lift import Answer, Layer, Lift, Step, Unliftable, lost_at, rule
from onnxscope.rewrite.moving import place_constant, source
from onnxscope.rewrite.rules.connected import bias_of, convolution
from onnxscope.rewrite.rules.joined import check_outside, foreign
from onnxscope.rewrite.views import Group, Groups, Joined, View
from onnxscope.rewrite.weights import Recipe, Source

UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid "
    "HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not QuickGelu Reciprocal Relu Round Selu "
    "Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
BROADCAST = (
    "Add And BitwiseAnd BitwiseOr BitwiseXor CastLike Clip Div Equal Greater GreaterOrEqual Less LessOrEqual "
    "Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor"
)


@rule(UNARY)
def unary(lift: Lift, step: Step) -> Answer:
    """f(x) on the twin of x, attributes as they are; on joined parts, on each."""
    whole = step.views[0]
    if isinstance(whole, Joined):
        return Joined(tuple(_applied(lift, step, part) for part in whole.parts))
    view = step.view
    return replace(view, twin=lift.builder.add(step.place, _with(step.node, (view.twin,)), like=step.output))


def _applied(lift: Lift, step: Step, part: View) -> View:
    return replace(part, twin=lift.builder.add(step.place, _with(step.node, (part.twin,)), hint=step.output))


@rule("Dropout")
def dropout(lift: Lift, step: Step) -> tuple[Answer, ...]:
    """Nothing at inference; in training mode a barrier."""
    if step.has(2) and not _is_false(step):
        raise Unliftable("Dropout in training mode is random")
    whole = step.views[0]
    if isinstance(whole, Joined):
        return (whole, *(lost_at(step) for _ in step.node.outputs[1:]))
    view = step.view
    twin = lift.builder.emit(step.place, "Identity", (view.twin,), like=step.output)
    return (replace(view, twin=twin), *(lost_at(step) for _ in step.node.outputs[1:]))


def _is_false(step: Step) -> bool:
    data = step.known(2)
    return data is not None and not any(data.items)


@rule(BROADCAST)
def broadcast(lift: Lift, step: Step) -> Answer:
    """f(x, y, ...) with numpy broadcasting; constants go to the twin's axes."""
    absorbed = _bias(lift, step)
    if absorbed is not None:
        return absorbed
    target = step.target
    if all(isinstance(view, View) and not view.groups for view in step.views if view is not None):
        return _numbers(lift, step)
    if target is None or (lift.opset < 7 and any(step.constant(i) for i in range(len(step.node.inputs)))):
        raise Unliftable(f"opset {lift.opset} broadcasts by attributes" if target is not None else "")
    joined = join(lift, step, len(target))
    inputs: list[str] = []
    for index, name in enumerate(step.node.inputs):
        view = step.views[index]
        if isinstance(view, View):
            inputs.append(view.twin)
        elif not name:
            inputs.append("")
        elif step.constant(index):
            inputs.append(constant_twin(lift, step, name, joined, target))
        elif step.shape(index) in ((), (1,)):
            check_outside(lift, step, name)
            inputs.append(name)
        elif joined.groups == ((0,), (1,)):
            inputs.append(foreign(lift, step, index, joined.rank).twin)
            joined = replace(joined, channels=target[1])
        else:
            raise Unliftable(_foreign(step))
    twin = lift.builder.add(step.place, _with(step.node, tuple(inputs)), like=step.output)
    return replace(joined, twin=twin)


def _numbers(lift: Lift, step: Step) -> Answer:
    """An op on single numbers that come from a map: the scales of a dynamic quantization."""
    view = next(view for view in step.views if isinstance(view, View))
    names = zip(step.node.inputs, step.views, strict=True)
    if step.target not in ((), (1,)):
        raise Unliftable
    inputs = tuple(v.twin if isinstance(v, View) else name for name, v in names)
    return replace(view, twin=lift.builder.add(step.place, _with(step.node, inputs), like=step.output))


def _foreign(step: Step) -> str:
    return f"{step.node.op} {step.fact.label} joins the features with values that come from no feature map"


def _with(node: Node, inputs: tuple[str, ...]) -> Node:
    return replace(node, inputs=inputs, origin=None)


def join(lift: Lift, step: Step, rank: int) -> View:
    """The common view of all inputs that have one: same axes, sizes equal or 1."""
    views = [view for view in step.views if isinstance(view, View) and view.groups]
    if not views:
        raise Unliftable
    joined = max(views, key=lambda view: (sum(map(bool, view.groups)), len(view.groups)))
    if len(joined.groups) != rank:
        raise Unliftable
    for view in views:
        joined = _joined(lift, joined, view)
    return joined


def _joined(lift: Lift, one: View, other: View) -> View:
    if other.rank != one.rank or not _aligned(one.groups, other.groups):
        raise Unliftable("maps of different layouts meet")
    if not _meet(one.free, other.free) or not _meet(one.spatial, other.spatial):
        _global_again(lift, one, other)
        raise Unliftable("it meets a map of another size")
    if other.spatial != one.spatial and (one.pools or other.pools):
        _global_again(lift, one, other)
    wide = _wider(one, other)
    return replace(
        one,
        channels=one.channels if other.channels == 1 else other.channels,
        spatial=wide.spatial,
        free=wide.free,
        layers=one.layers | other.layers,
        pools=one.pools | other.pools,
    )


def _global_again(lift: Lift, one: View, other: View) -> None:
    """A window over a pooled gate doesn't fit the map that it gates: the pool must stay global."""
    lift.meetings |= one.pools | other.pools


def _wider(one: View, other: View) -> View:
    return one if other.single or all(size == 1 for size in other.spatial) else other


def _aligned(wide: Groups, narrow: Groups) -> bool:
    """Whether the axes of two values lie alike, counted from the last one; axes of size 1 fit any."""
    tail = wide[len(wide) - len(narrow) :]
    return all(a == b or not b for a, b in zip(tail, narrow, strict=True)) and len(narrow) == len(wide)


def _meet(one: Shape, other: Shape) -> bool:
    return all(a == b or a == 1 or b == 1 for a, b in zip(one, other, strict=True))


class _Axis(NamedTuple):
    """One axis of a constant as the twin sees it."""

    size: int
    group: Group


def constant_twin(lift: Lift, step: Step, name: str, view: View, target: Shape, scale: float = 1.0) -> str:
    """A constant, times `scale`, that broadcasts to an original value: so that it does to the twin."""
    stored = source(lift, name)
    if stored is None:
        raise Unliftable("the shape of a constant is unknown")
    if scale == 1.0 and all(size == 1 for size in stored.dims) and len(stored.dims) <= view.rank:
        lift.builder.dims[name] = stored.dims
        return name
    groups = view.groups[len(target) - len(stored.dims) :]
    axes = [_Axis(size, group) for size, group in zip(stored.dims, groups, strict=True)]
    sizes = _sizes(lift, axes, view)
    order = [axis for axis in sizes if sizes[axis] != 1]
    dims = tuple(sizes[axis] for axis in order)
    recipe = Recipe(dims, tuple(sorted(range(len(order)), key=lambda i: order[i])), scale)
    full = [1] * view.rank
    for axis in order:
        full[axis] = sizes[axis]
    final = full if full[0] != 1 else full[1:]
    if stored.turned:
        stored = Source(name, None, stored.dims)
    made = place_constant(lift, step.place, stored, recipe, final).candidate
    lift.builder.dims[made] = tuple(final)
    return made


def _sizes(lift: Lift, axes: list[_Axis], view: View) -> dict[int, int]:
    """Twin axis -> size of the constant along it, in the constant's own order."""
    native = {1: view.channels, **{2 + i: size for i, size in enumerate(view.spatial)}}
    sizes: dict[int, int] = {}
    for axis in axes:
        if axis.size == 1:
            continue
        inside = (native | {0: axis.size}) if axis.group == (0,) else native
        parts = {a: inside.get(a) for a in axis.group}
        product = 1
        for part in parts.values():
            product *= part if isinstance(part, int) else 0
        if product != axis.size:
            raise Unliftable("a constant widens the value")
        sizes |= {a: part for a, part in parts.items() if isinstance(part, int)}
    _same_everywhere(sizes, view)
    return sizes


def _same_everywhere(sizes: dict[int, int], view: View) -> None:
    """A constant that differs from cell to cell fits one map size only."""
    if any(axis > 1 and size != 1 and isinstance(view.free[axis - 2], Expr) for axis, size in sizes.items()):
        raise Unliftable("a constant differs from cell to cell of the map")


def _bias(lift: Lift, step: Step) -> Answer:
    """MatMul, then Add of one number per feature: the Conv takes it as its bias."""
    if step.node.op != "Add" or len(step.node.inputs) != 2:
        return None
    for index, other in ((0, 1), (1, 0)):
        view = step.views[index]
        layer = lift.layers.get(lift.builder.inner(view.twin)) if isinstance(view, View) else None
        if layer is None or not isinstance(view, View) or not step.constant(other):
            continue
        if _takes(lift, step, layer, view, other):
            bias = bias_of(lift, step, step.node.inputs[other], layer.features)
            return convolution(
                lift, step, layer.source, layer.kernel, layer.features, (layer.weight, bias), layer
            )
    return None


def _takes(lift: Lift, step: Step, layer: Layer, view: View, other: int) -> bool:
    graph = lift.model.graph
    shape = lift.native.value(step.node.inputs[other]).shape
    mine = layer.output
    used_once = len(graph.consumers.get(mine, ())) == 1 and all(info.name != mine for info in graph.outputs)
    last = view.groups[-1:] == ((1,),) and len(view.groups) == len(step.target or ())
    per_feature = shape is not None and shape[-1:] == (layer.features,) and all(s == 1 for s in shape[:-1])
    return (
        layer.bias is None
        and not layer.parts
        and used_once
        and last
        and (per_feature or shape in ((), (1,)))
        and _is_float(lift, layer)
    )


def _is_float(lift: Lift, layer: Layer) -> bool:
    return layer.fact.node.op in ("MatMul", "FusedMatMul", "Gemm")
