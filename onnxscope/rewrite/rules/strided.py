"""`Reshape(x, [-1])`, then a Gather with computed places: torch's `as_strided` of a contiguous view."""

from __future__ import annotations

from onnxscope.analysis.shapes import infer
from onnxscope.errors import UsageError
from onnxscope.expr import Expr, symbols
from onnxscope.ops.value import Data
from onnxscope.rewrite.lift import Answer, Lift, Step, Unliftable
from onnxscope.rewrite.views import View, canonical, reshaped

TRIED = (1, 2)
"""Batch sizes at which the places are worked out, where the batch is free."""


def as_strided(lift: Lift, step: Step, view: View) -> Answer:
    """A Gather from the flat list of all numbers that takes each one in its place: a reshape.

    The places must be 0, 1, 2, ... at every batch size tried; they are affine in the batch, so two sizes and
    the declared shape settle it.
    """
    target = step.target
    if target is None or step.integer("axis", 0) or not _in_place(lift, step):
        raise Unliftable
    groups = reshaped(view, target[0], target)
    if groups is None:
        raise Unliftable
    made = canonical(view.regrouped(groups))
    if not view.layers and not view.pools and made.plain and step.mapped:
        return lift.fresh(step.output, target, view.pooled)
    return made


def _in_place(lift: Lift, step: Step) -> bool:
    places, target = step.node.inputs[1], step.target or ()
    if not isinstance(target[0], Expr):
        return _counts(step.known(1))
    names = {s.name for s in symbols(target[0])}
    if len(names) != 1:
        return False
    shapes, dims = lift.options.shapes, lift.options.dims
    bound = {str(size): declared for declared, size in lift.native.bindings.items()}
    free = [bound.get(name, name) for name in names]
    try:
        tried = [infer(lift.model, shapes, {**dims, **dict.fromkeys(free, size)}) for size in TRIED]
    except UsageError:  # a size that the file fixes and the caller freed: no name of the file stands for it
        return False
    return all(_counts(facts.value(places).known()) for facts in tried)


def _counts(data: Data | None) -> bool:
    return data is not None and data.items == tuple(range(len(data.items)))
