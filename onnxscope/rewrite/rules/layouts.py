"""Ops that move no number of a twin: reshapes and transposes change the view only."""

from __future__ import annotations

from dataclasses import replace

from onnxscope.expr import Expr, Size
from onnxscope.ops.value import Shape
from onnxscope.rewrite.lift import Answer, Lift, Step, Unliftable, rule
from onnxscope.rewrite.moving import reshape
from onnxscope.rewrite.views import Groups, View, canonical, reshaped


@rule("Flatten Reshape Squeeze Unsqueeze", moves=True)
def regroup(lift: Lift, step: Step) -> Answer:
    """The same numbers in row-major order under other axes: the twin stays, its axes are grouped anew.

    [N, C, *S] -> [N, C*prod(S)] is the flattening. A map that stays a map, [N, C, *S'], is taken as it is.
    """
    view, target, before = step.view, step.target, step.shape()
    untouched = not view.layers and not view.pools
    groups = None
    if target is not None and before is not None:
        batch = _batch(view, before)
        groups = None if batch is None else reshaped(view, batch, target) or _baked(view, target)
    if groups is None and target is not None and before is not None:
        groups = _freed(view, before, target)
    if groups is None:
        if untouched and view.plain and step.mapped and target is not None:
            return lift.fresh(step.output, target)
        raise Unliftable
    made = canonical(view.regrouped(groups))
    if untouched and target is not None and step.mapped and (_in_order(made) or _mixed(made)):
        return lift.fresh(step.output, target, view.pooled)
    return made


def _batch(view: View, before: Shape) -> Size | None:
    """Size of the twin's batch, from the original axis that holds it alone."""
    for place, group in enumerate(view.groups):
        if group == (0,):
            return before[place]
    return None


def _baked(view: View, target: Shape) -> Groups | None:
    """A flattening [N, C, *S] -> [M, K] that bakes the size in, on a map whose size is free: K tells it."""
    sizes = [view.spatial[axis - 2] for group in view.groups for axis in group if axis > 1]
    free = any(isinstance(size, Expr) for size in sizes)
    if not free or view.groups[0] != (0,) or len(target) != 2 or isinstance(target[1], Expr):
        return None
    return (view.groups[0], tuple(axis for group in view.groups[1:] for axis in group))


def _freed(view: View, before: Shape, target: Shape) -> Groups | None:
    """A flattening whose batch is baked in, on a free batch: [N, ...] -> [1, K] with K numbers per image."""
    if len(target) != 2 or view.groups[0] != (0,) or not isinstance(before[0], Expr):
        return None
    rest = tuple(axis for group in view.groups[1:] for axis in group)
    whole = reshaped(replace(view, groups=((0,), rest)), before[0], (before[0], target[1]))
    return whole


def _in_order(view: View) -> bool:
    """Whether the value is [N, C, ...] with the spatial axes in order."""
    if view.groups[:1] != ((0,),) or view.groups[1] != (1,):
        return False
    rest = [axis for group in view.groups[2:] for axis in group]
    return rest == sorted(rest)


def _mixed(view: View) -> bool:
    """Whether axes are merged and others remain beside them: a shuffle of channels, not a flattening."""
    wide = [group for group in view.groups[1:] if group]
    return len(wide) > 1 and any(len(group) > 1 for group in wide)


@rule("Transpose", moves=True)
def transpose(lift: Lift, step: Step) -> Answer:
    """Axes change places, in the view alone."""
    view = step.view
    perm = step.node.attribute("perm")
    order = perm if isinstance(perm, tuple) else tuple(range(len(view.groups)))[::-1]
    if sorted(int(axis) for axis in order if isinstance(axis, int)) != list(range(len(view.groups))):
        raise Unliftable
    made = view.regrouped(tuple(view.groups[axis] for axis in order if isinstance(axis, int)))
    if not view.layers and not view.pools and made.plain and step.target is not None and step.mapped:
        return lift.fresh(step.output, step.target, view.pooled)
    return made


def unflattened(lift: Lift, step: Step) -> View:
    """A vector [N, F] of the original as [N, F, 1...]: the entry of a layer behind one that stays."""
    target = step.target or ()
    features = target[1]
    rank = max((view.rank for view in step.views if isinstance(view, View)), default=4)
    if not isinstance(features, int):
        raise Unliftable
    twin = reshape(lift, step.place + 1, step.output, (0, features, *(1,) * (rank - 2)))
    ones = (1,) * (rank - 2)
    return View(twin, ((0,), (1,)), features, ones, ones, base=step.output)
