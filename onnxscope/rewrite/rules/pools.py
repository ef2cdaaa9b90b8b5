"""Global pools: a stride-1 window of the native size, or one cell."""

from __future__ import annotations

from dataclasses import replace

from onnxscope import dtypes
from onnxscope.ops.value import Shape
from onnxscope.rewrite.lift import Answer, Lift, Step, Unliftable, rule
from onnxscope.rewrite.views import Groups, View, canonical

QUANTIZED = "QLinearGlobalAveragePool"
_OPS = {
    QUANTIZED: "QLinearAveragePool",
    "GlobalAveragePool": "AveragePool", "GlobalMaxPool": "MaxPool",
    "ReduceMean": "AveragePool", "ReduceMax": "MaxPool", "ReduceSum": "AveragePool",
}  # fmt: skip


@rule("GlobalAveragePool GlobalMaxPool QLinearGlobalAveragePool", moves=True)
def global_pool(lift: Lift, step: Step) -> Answer:
    """[N, C, *S] -> [N, C, 1...]: mean or maximum over all of S."""
    view = step.view
    if not view.plain or step.integer("channels_last", 0):
        raise Unliftable
    return pooled(lift, step, view, tuple(() if i > 1 else group for i, group in enumerate(view.groups)))


def pooled(lift: Lift, step: Step, view: View, groups: Groups) -> View:
    """The view of a global pool's result: windowed where the options say so and nothing forbids it."""
    single = lift.options.pool == "global" or step.place in lift.still
    kernel = tuple(size for size in view.spatial if isinstance(size, int))
    ones = (1,) * len(view.spatial)
    if single or len(kernel) < len(view.spatial):
        twin = _global(lift, step, view)
        return _after(step, view, groups, twin, ones)
    twin = lift.builder.emit(
        step.place,
        _OPS[step.node.op],
        (view.twin, *step.node.inputs[1:]) if step.node.op == QUANTIZED else (view.twin,),
        domain=step.node.domain,
        kernel_shape=kernel,
        strides=ones,
        like=step.output,
    )
    if step.node.op == "ReduceSum":
        cells = 1
        for size in kernel:
            cells *= size
        dtype = lift.native.value(step.output).dtype or dtypes.FLOAT
        factor = lift.builder.constant((float(cells),), dtype, (), "cells")
        twin = lift.builder.emit(step.place, "Mul", (twin, factor), like=step.output)
    free = tuple(size - k + 1 for size, k in zip(view.free, kernel, strict=True))
    made = _after(step, view, groups, twin, free)
    return replace(made, pools=view.pools | {step.place})


def _global(lift: Lift, step: Step, view: View) -> str:
    if step.node.op == QUANTIZED:
        node = replace(step.node, inputs=(view.twin, *step.node.inputs[1:]), origin=None)
        return lift.builder.add(step.place, node, like=step.output)
    names = {"AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool"}
    if step.node.op != "ReduceSum":
        return lift.builder.emit(step.place, names[_OPS[step.node.op]], (view.twin,), like=step.output)
    axes = tuple(range(2, view.rank))
    if lift.opset < 13:
        return lift.builder.emit(
            step.place, "ReduceSum", (view.twin,), axes=axes, keepdims=1, like=step.output
        )
    inputs = (view.twin, lift.builder.ints(axes))
    return lift.builder.emit(step.place, "ReduceSum", inputs, keepdims=1, like=step.output)


def _after(step: Step, view: View, groups: Groups, twin: str, free: Shape) -> View:
    ones = (1,) * len(view.spatial)
    made = replace(view, twin=twin, groups=groups, spatial=ones, free=free, pooled=step.node.inputs[0])
    return canonical(made)
