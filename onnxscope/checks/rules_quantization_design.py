"""Rules about how weights and activations are quantized: axes, symmetry, ranges."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import nodes, numbers, operand, producer, tensor, whole
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check
from onnxscope.checks.rules_quantization import quantizers
from onnxscope.checks.rules_quantization_graph import HEAVY, inner
from onnxscope.checks.weights import Weights
from onnxscope.ops.value import ValueFact


@check("OX416", "per-channel-axis-not-outputs", severity="warning")
def wrong_axis(facts: Facts) -> Iterator[Finding]:
    """A weight is quantized per channel along another axis than its outputs.

    What it flags:
        A stored weight of Conv (axis 0), ConvTranspose (axis 1), Gemm (axis 0 with transB, else 1) or MatMul
        (last axis), dequantized with several scales along another axis.

    Why it matters:
        Integer kernels need one scale per output: such a weight can't be fused and runs in float, or is
        refused (TensorRT).

    Bad: see tests/checks/test_rules_quantization.py

    Good: see tests/checks/test_rules_quantization.py

    Fix and its safety:
        Quantize the float weight again along the output axis.

    Source:
        onnxruntime, "Quantize ONNX models", per-channel; TensorRT, "Explicit quantization".
    """
    for fact in nodes(facts, *HEAVY):
        maker = producer(facts, fact.scope, fact.node.inputs[1]) if len(fact.node.inputs) > 1 else None
        if maker is None or maker.op != "DequantizeLinear" or whole(maker.attribute("block_size"), 0):
            continue
        shape = facts.value(operand(maker), fact.scope).shape
        scale = numbers(facts, inner(fact, maker), 1)
        if shape is None or not scale or len(scale) == 1:
            continue
        axis, wanted = whole(maker.attribute("axis"), 1) % len(shape), _output_axis(fact, len(shape))
        if axis != wanted:
            message = f"weight {operand(maker)} has scales along axis {axis}, outputs lie along axis {wanted}"
            yield wrong_axis.finding(
                fact.label, message, "quantize it along the outputs", axis=axis, wanted=wanted
            )


def _output_axis(fact: NodeFact, rank: int) -> int:
    if fact.node.op == "Conv":
        return 0
    if fact.node.op == "ConvTranspose":
        return 1
    return rank - 2 if fact.node.op == "Gemm" and fact.node.attribute("transB") else rank - 1


@check("OX417", "asymmetric-weights", severity="note")
def asymmetric(facts: Facts) -> Iterator[Finding]:
    """Quantized weights have a zero point off the middle.

    What it flags:
        A stored weight of Conv, Gemm or MatMul, dequantized with a zero point other than 0 (int8) or 128
        (uint8).

    Why it matters:
        The kernel must subtract the zero point times the sum of the inputs: slower on CPUs, not supported at
        all by TensorRT and most NPUs.

    Bad: see tests/checks/test_rules_quantization.py

    Good: see tests/checks/test_rules_quantization.py

    Fix and its safety:
        Quantize weights symmetrically (`WeightSymmetric`); costs up to one bit of range.

    Source:
        onnxruntime, "Quantize ONNX models", weight symmetric; TensorRT: zero points must be 0.
    """
    middles = {dtypes.INT8: 0, dtypes.UINT8: 128, 22: 0, 21: 8}
    for fact in nodes(facts, *HEAVY):
        maker = producer(facts, fact.scope, fact.node.inputs[1]) if len(fact.node.inputs) > 1 else None
        if maker is None or maker.op != "DequantizeLinear" or len(maker.inputs) < 3:
            continue
        stored, zero = tensor(facts, inner(fact, maker), 0), numbers(facts, inner(fact, maker), 2)
        off = [z for z in zero or () if stored is not None and z != middles.get(stored.dtype, z)]
        if off and stored is not None:
            message = f"weight {stored.name} ({dtypes.name_of(stored.dtype)}) has zero point {off[0]:g}"
            yield asymmetric.finding(fact.label, message, "quantize weights symmetrically", zero_point=off[0])


@check("OX418", "saturating-byte-products", severity="note")
def saturating(facts: Facts, weights: Weights) -> Iterator[Finding]:
    """Unsigned activations times full-range signed weights saturate on older CPUs.

    What it flags:
        A layer with uint8 activations and a stored int8 weight that exceeds 64, once per model.

    Why it matters:
        CPUs with AVX2 or AVX-512 but without VNNI add two such products in 16 bits and saturate: outputs
        differ from newer machines, by a lot for large activations.

    Bad: see tests/checks/test_rules_quantization.py

    Good: see tests/checks/test_rules_quantization.py

    Fix and its safety:
        Quantize with reduce_range=True (7-bit weights), or int8 activations; costs half a bit of accuracy.

    Source:
        onnxruntime, "Quantize ONNX models": U8S8 and saturation on AVX2/AVX512.
    """
    places = {id(found.tensor): found for found in weights}
    layers = []
    for fact in facts.nodes():
        pair = _byte_operands(facts, fact)
        found = places.get(id(pair[1].tensor)) if pair is not None else None
        if pair is not None and pair[0].dtype == dtypes.UINT8 and found is not None and found.largest > 64:
            layers.append(fact.label)
    if layers:
        yield saturating.finding(
            layers[0],
            f"{len(layers)} layers multiply uint8 activations with int8 weights beyond 64: saturates on CPUs "
            "without VNNI",
            "quantize with reduce_range, or int8 activations",
            layers=layers[:64],
        )


_BYTES = {
    "QLinearConv": (0, 3), "QLinearMatMul": (0, 3), "QGemm": (0, 3), "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
}  # fmt: skip
"""Op -> positions of its integer activation and weight."""


def _byte_operands(facts: Facts, fact: NodeFact) -> tuple[ValueFact, ValueFact] | None:
    """(activation, stored weight) of an integer layer, or of a float one between dequantizations."""
    places = _BYTES.get(fact.node.op)
    if places is not None and len(fact.node.inputs) > places[1]:
        names = [fact.node.inputs[index] for index in places]
    elif fact.node.op in HEAVY and len(fact.node.inputs) > 1:
        makers = [producer(facts, fact.scope, name) for name in fact.node.inputs[:2]]
        names = [operand(node) for node in makers if node is not None and node.op == "DequantizeLinear"]
    else:
        return None
    if len(names) != 2:
        return None
    activation, weight = (facts.value(name, fact.scope) for name in names)
    return (activation, weight) if weight.tensor is not None and weight.dtype == dtypes.INT8 else None


@check("OX419", "depthwise-with-one-scale", severity="note")
def depthwise_one_scale(facts: Facts) -> Iterator[Finding]:
    """A depthwise convolution is quantized with one scale for all channels.

    What it flags:
        A grouped convolution with one filter per group whose weight is dequantized with a single scale.

    Why it matters:
        The channels' ranges differ by orders of magnitude (each has its own folded BatchNorm): with one scale
        the small ones round to 0. It is the usual reason for a MobileNet that loses its accuracy in int8.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,2,2] x) => (float[1,2,2,2] y)
        <int8[2,1,1,1] w = {1, 2}, float s = {0.1}> {
          d = DequantizeLinear (w, s)
          y = Conv <group = 2> (x, d)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,2,2] x) => (float[1,2,2,2] y)
        <int8[2,1,1,1] w = {1, 2}, float[2] s = {0.1, 0.7}> {
          d = DequantizeLinear <axis = 0> (w, s)
          y = Conv <group = 2> (x, d)
        }

    Fix and its safety:
        Quantize per channel (per_channel=True).

    Source:
        Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, section 3.1.
    """
    for fact in nodes(facts, "Conv"):
        maker = producer(facts, fact.scope, fact.node.inputs[1]) if len(fact.node.inputs) > 1 else None
        if maker is None or maker.op != "DequantizeLinear" or whole(fact.node.attribute("group"), 1) < 2:
            continue
        shape, scale = facts.value(operand(maker), fact.scope).shape, numbers(facts, inner(fact, maker), 1)
        if shape is not None and len(shape) > 2 and shape[1] == 1 and scale is not None and len(scale) == 1:
            message = f"one scale for the {shape[0]} depthwise filters of {operand(maker)}"
            yield depthwise_one_scale.finding(fact.label, message, "quantize it per channel")


@check("OX420", "half-range-after-relu", severity="note")
def half_range(facts: Facts) -> Iterator[Finding]:
    """Values that are never negative are quantized with a range for both signs.

    What it flags:
        A QuantizeLinear to int8 with zero point 0 (or uint8 with 128) of a Relu, Sigmoid or Softmax.

    Why it matters:
        Half of the 256 steps are never used: one bit of accuracy lost. TensorRT demands this form; elsewhere
        it is a calibration setting.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (int8[2] y) <float s = {0.1}, int8 z = {0}> {
          a = Relu (x)
          y = QuantizeLinear (a, s, z)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (int8[2] y) <float s = {0.1}, int8 z = {-128}> {
          a = Relu (x)
          y = QuantizeLinear (a, s, z)
        }

    Fix and its safety:
        Quantize activations asymmetrically (`ActivationSymmetric` off); measure.

    Source:
        Nagel et al., "A White Paper on Neural Network Quantization", 2021, section 2.2.
    """
    middles = {dtypes.INT8: 0.0, dtypes.UINT8: 128.0}
    for fact in quantizers(facts, "QuantizeLinear"):
        maker = producer(facts, fact.scope, fact.node.inputs[0])
        zero = numbers(facts, fact, 2)
        middle = middles.get(facts.value(fact.node.outputs[0], fact.scope).dtype or 0)
        if maker is not None and maker.op in ("Relu", "Sigmoid", "Softmax") and zero and middle == zero[0]:
            message = (
                f"{maker.op} ({maker.label}) is never negative: zero point {zero[0]:g} wastes half the range"
            )
            yield half_range.finding(fact.label, message, "calibrate activations asymmetrically")
