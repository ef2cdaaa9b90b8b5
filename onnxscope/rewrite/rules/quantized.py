"""Quantized heads as convolutions: QuantizeLinear and DequantizeLinear on maps, QGemm as QLinearConv.

Rounding to integers acts on every number by itself, so it is the same on the twin; a scale per channel moves
to the twin's axis. Source: QuantizeLinear-10, -13, -21, DequantizeLinear-10, -13, -21, QLinearConv-10,
onnxruntime ContribOperators.md (QGemm).
"""

from __future__ import annotations

from dataclasses import replace

from onnxscope.graph import Attribute, Node
from onnxscope.rewrite.form_choice import ASKED
from onnxscope.rewrite.lift import Answer, Layer, Lift, Step, Unliftable, rule
from onnxscope.rewrite.moving import source
from onnxscope.rewrite.rules.connected import bias_of, check_view, kernel_of, stays, weight_of
from onnxscope.rewrite.views import View


@rule("QuantizeLinear DequantizeLinear")
def quantize(lift: Lift, step: Step) -> Answer:
    """Per tensor as it is; per channel with the axis of the twin's channels."""
    view = step.view
    if not all(step.constant(i) for i in range(1, len(step.node.inputs)) if step.has(i)):
        raise Unliftable(f"the scale of {step.node.op} {step.fact.label} is computed from the input")
    node = replace(step.node, inputs=(view.twin, *step.node.inputs[1:]), origin=None)
    if not _per_tensor(step):
        if step.integer("block_size", 0) or view.axis_of(step.integer("axis", 1)) != (1,):
            raise Unliftable(f"{step.node.op} {step.fact.label} has scales along no channel axis")
        kept = tuple(attribute for attribute in node.attributes if attribute.name != "axis")
        node = replace(node, attributes=(*kept, Attribute("axis", 1)))
    return replace(view, twin=lift.builder.add(step.place, node, like=step.output))


def _per_tensor(step: Step) -> bool:
    return all(step.shape(i) in ((), (1,)) for i in range(1, len(step.node.inputs)) if step.has(i))


@rule("DynamicQuantizeLinear")
def dynamic(lift: Lift, step: Step) -> Answer:
    """Its scale comes from the whole tensor, so it is no op on single numbers: rows keep it."""
    raise Unliftable(
        f"{step.node.op} {step.fact.label} takes its scale from the whole tensor; --form rows keeps it"
    )


@rule("MatMulInteger MatMulIntegerToFloat DynamicQuantizeMatMul QLinearMatMul MatMulNBits")
def integers(lift: Lift, step: Step) -> Answer:
    """Products of integers as they are: only rows keep them."""
    if step.place in lift.refused:
        return stays(lift, step)
    help_ = "" if step.node.op == "MatMulNBits" else "; --form rows keeps it"
    raise Unliftable(f"{step.node.op} {step.fact.label} has no convolution written here{help_}")


@rule("QGemm")
def q_gemm(lift: Lift, step: Step) -> Answer:
    """Y = A B' + C on integers: QLinearConv with the same integer weights, scales and zero points.

    Without an output scale QGemm gives floats, which QLinearConv doesn't.
    """
    if step.place in lift.refused:
        return stays(lift, step)
    view, node = step.view, step.node
    check_view(view)
    if not (step.has(7) and step.has(8)):
        raise Unliftable(f"QGemm {step.fact.label} gives floats, QLinearConv integers; --form rows keeps it")
    if node.attribute("transA") or node.attribute("alpha") not in (None, 1.0):
        raise Unliftable(f"QGemm {step.fact.label} has transA or alpha, a QLinearConv hasn't")
    if not all(step.constant(i) for i in (1, 2, *range(3, len(node.inputs))) if step.has(i)):
        raise Unliftable(f"QGemm {step.fact.label} has scales that are computed from the input")
    matrix = source(lift, node.inputs[3])
    if matrix is None or len(matrix.dims) != 2:
        raise Unliftable("the shape of its weight is unknown")
    kernel = kernel_of(view, matrix.dims[-1 if node.attribute("transB") else -2])
    rows_first = bool(node.attribute("transB"))
    weight, features = weight_of(lift, step, view, matrix, kernel, 1.0, rows_first=rows_first)
    bias = bias_of(lift, step, node.inputs[6], features) if step.has(6) else None
    fixed = (*node.inputs[1:3], weight.candidate, *node.inputs[4:6], *node.inputs[7:9])
    inputs = (view.twin, *fixed, *([bias.candidate] if bias else []))
    result = lift.builder.emit(step.place, "QLinearConv", inputs, kernel_shape=kernel, like=step.output)
    channels = view.channels if isinstance(view.channels, int) else 0
    lift.layers[result] = Layer(
        step.fact, view, result, node.inputs[0], step.output, kernel, channels, features, weight, bias,
        "conv", ASKED if lift.options.form == "conv" else f"{lift.options.form} is for layers on floats",
    )  # fmt: skip
    return _after(step, view, result, kernel, features)


def _after(step: Step, view: View, result: str, kernel: tuple[int, ...], features: int) -> View:
    taken = view.groups[-1]
    return replace(
        view,
        twin=result,
        groups=(*view.groups[:-1], (1,)),
        channels=features,
        spatial=tuple(1 if 2 + i in taken else size for i, size in enumerate(view.spatial)),
        free=tuple(size - k + 1 for size, k in zip(view.free, kernel, strict=True)),
        layers=view.layers | {step.place},
    )


@rule("QLinearSoftmax")
def q_softmax(lift: Lift, step: Step) -> Answer:
    """Over the features at every cell, on a channels-last copy. Source: onnxruntime ContribOperators.md."""
    view = step.view
    rank, axis = len(view.groups), step.integer("axis", -1)
    if axis % max(rank, 1) != rank - 1 or view.groups[-1] != (1,):
        raise Unliftable
    if not all(step.constant(i) for i in range(1, 5) if step.has(i)):
        raise Unliftable
    kept = tuple(attribute for attribute in step.node.attributes if attribute.name != "axis")
    turned = lift.builder.emit(step.place, "Transpose", (view.twin,), perm=(0, *range(2, view.rank), 1))
    node = Node(
        0, step.node.name, step.node.op, step.node.domain, (turned, *step.node.inputs[1:]), (),
        (*kept, Attribute("axis", view.rank - 1)),
    )  # fmt: skip
    made = lift.builder.add(step.place, node, hint=step.output)
    back = (0, view.rank - 1, *range(1, view.rank - 1))
    return replace(
        view, twin=lift.builder.emit(step.place, "Transpose", (made,), perm=back, like=step.output)
    )
