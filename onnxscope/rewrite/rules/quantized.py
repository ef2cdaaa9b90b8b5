"""Quantized heads: QuantizeLinear and DequantizeLinear on maps, QLinearConv, ConvInteger.

Rounding to integers acts on every number by itself, so it is the same on the twin; a scale per channel moves
to the twin's axis. Source: QuantizeLinear-10, -13, -21, DequantizeLinear-10, -13, -21, QLinearConv-10,
onnxruntime ContribOperators.md (QGemm).
"""

from __future__ import annotations

from dataclasses import replace

from onnxscope import dtypes
from onnxscope.graph import Attribute, Node
from onnxscope.ops.value import Data
from onnxscope.rewrite.form_choice import ASKED
from onnxscope.rewrite.layout import FULLY_CONNECTED
from onnxscope.rewrite.lift import WHOLE, Answer, Layer, Lift, Step, Tensors, Unliftable, rule
from onnxscope.rewrite.rules.connected import bias_of, check_view, kernel_of, matrix_of, stays, weight_of
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
def dynamic(lift: Lift, step: Step) -> tuple[Answer, ...]:
    """Integers on the twin; scale and zero point are one number each, from the whole map."""
    view = step.view
    if lift.options.size != "fixed":
        lift.remarks[step.place] = WHOLE.format(label=step.fact.label)
    node = replace(step.node, inputs=(view.twin,), origin=None)
    first = lift.builder.add(step.place, node, like=step.output, outputs=3)
    number = replace(view, groups=(), channels=1, spatial=(), free=())
    scale, zero = (replace(number, twin=name) for name in lift.builder.outputs_of(first)[1:])
    return replace(view, twin=first), scale, zero


@rule("MatMulInteger")
def integers(lift: Lift, step: Step) -> Answer:
    """[N, K] -> [N, M] in int32: ConvInteger, the same integer weights. Source: ConvInteger-10.

    onnxruntime's takes unsigned activations and one zero point each.
    """
    if step.place in lift.refused:
        return stays(lift, step)
    view, node, label = step.view, step.node, f"MatMulInteger {step.fact.label}"
    check_view(view)
    if lift.native.value(node.inputs[0]).dtype != dtypes.UINT8:
        raise Unliftable(f"{label} reads signed integers, a ConvInteger unsigned ones; --form rows keeps it")
    if not all(step.shape(i) in ((), (1,)) for i in (2, 3) if step.has(i)):
        raise Unliftable(f"{label} has several zero points, a ConvInteger takes one; --form rows keeps it")
    kernel, weight, features = _placed(lift, step, view)
    zeros = [_number(step, i) if step.has(i) else "" for i in (2, 3)]
    while zeros and not zeros[-1]:
        zeros.pop()
    inputs = (view.twin, weight.candidate, *zeros)
    result = lift.builder.emit(step.place, "ConvInteger", inputs, kernel_shape=kernel, like=step.output)
    return _recorded(lift, step, view, result, kernel, features, (weight, None))


def _number(step: Step, index: int) -> str:
    """A scale or zero point in the converted model: a constant, or one number of a dynamic quantization."""
    view = step.views[index]
    if isinstance(view, View) and not view.groups:
        return view.twin
    if view is not None:
        raise Unliftable(f"{step.node.op} {step.fact.label} has a zero point that is computed from a map")
    return step.node.inputs[index]


@rule("MatMulIntegerToFloat DynamicQuantizeMatMul MatMulNBits")
def fused(lift: Lift, step: Step) -> Answer:
    """Products of integers in one op with their scales: no convolution does that; only rows keep them."""
    if step.place in lift.refused:
        return stays(lift, step)
    help_ = "" if step.node.op == "MatMulNBits" else "; --form rows keeps it"
    raise Unliftable(f"{step.node.op} {step.fact.label} has its scales inside, a ConvInteger hasn't{help_}")


@rule("QLinearMatMul")
def q_mat_mul(lift: Lift, step: Step) -> Answer:
    """The product x W on integers: QLinearConv, the same integer weights, scales and zero points."""
    if step.place in lift.refused:
        return stays(lift, step)
    view, node, label = step.view, step.node, f"QLinearMatMul {step.fact.label}"
    check_view(view)
    if not all(step.constant(i) for i in range(1, 8)):
        raise Unliftable(f"{label} has scales that are computed from the input")
    if not all(step.shape(i) in ((), (1,)) for i in (1, 2, 6, 7)):
        raise Unliftable(f"{label} has scales per row, a QLinearConv hasn't")
    if lift.native.value(node.inputs[0]).dtype != lift.native.value(step.output).dtype:
        raise Unliftable(
            f"{label} changes the type of the integers, a QLinearConv doesn't; --form rows keeps it"
        )
    kernel, weight, features = _placed(lift, step, view)
    if not all(step.shape(i) in ((), (1,), (features,)) for i in (4, 5)) or not _alike(step.known(5)):
        raise Unliftable(
            f"{label} has zero points that differ, a QLinearConv takes one; --form rows keeps it"
        )
    inputs = (view.twin, *node.inputs[1:3], weight.candidate, *node.inputs[4:8])
    result = lift.builder.emit(step.place, "QLinearConv", inputs, kernel_shape=kernel, like=step.output)
    return _recorded(lift, step, view, result, kernel, features, (weight, None))


def _alike(data: Data | None) -> bool:
    return data is not None and len(set(data.items)) == 1


def _placed(lift: Lift, step: Step, view: View) -> tuple[tuple[int, ...], Tensors, int]:
    """Kernel, weight as [M, C, *K] and M of an integer layer."""
    matrix = matrix_of(lift, step.node.inputs[FULLY_CONNECTED[step.node.op].weight])
    rows_first = bool(step.node.attribute("transB"))
    kernel = kernel_of(view, matrix.dims[-1 if rows_first else -2])
    return kernel, *weight_of(lift, step, view, matrix, kernel, 1.0, rows_first=rows_first)


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
    kernel, weight, features = _placed(lift, step, view)
    bias = bias_of(lift, step, node.inputs[6], features) if step.has(6) else None
    fixed = (*node.inputs[1:3], weight.candidate, *node.inputs[4:6], *node.inputs[7:9])
    inputs = (view.twin, *fixed, *([bias.candidate] if bias else []))
    result = lift.builder.emit(step.place, "QLinearConv", inputs, kernel_shape=kernel, like=step.output)
    return _recorded(lift, step, view, result, kernel, features, (weight, bias))


def _recorded(
    lift: Lift,
    step: Step,
    view: View,
    result: str,
    kernel: tuple[int, ...],
    features: int,
    tensors: tuple[Tensors, Tensors | None],
) -> View:
    """The layer in the books, and the view of its result."""
    channels = view.channels if isinstance(view.channels, int) else 0
    reason = ASKED if lift.options.form == "conv" else f"{lift.options.form} is for layers on floats"
    lift.layers[result] = Layer(
        step.fact, view, result, step.node.inputs[0], step.output, kernel, channels, features, *tensors,
        "conv", reason,
    )  # fmt: skip
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
