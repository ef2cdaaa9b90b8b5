"""Rules about scales and zero points of quantized models."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import connected, numbers, operand, whole
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check

QDQ = ("QuantizeLinear", "DequantizeLinear")
_TRIPLES = {
    "QuantizeLinear": ((1, 2),),
    "DequantizeLinear": ((1, 2),),
    "QLinearConv": ((1, 2), (4, 5), (6, 7)),
    "QLinearMatMul": ((1, 2), (4, 5), (6, 7)),
    "QLinearAdd": ((1, 2), (4, 5), (6, 7)),
    "QLinearMul": ((1, 2), (4, 5), (6, 7)),
    "QGemm": ((1, 2), (4, 5), (7, 8)),
}
"""Op -> positions of (scale, zero point)."""
_LEAST_NORMAL = 1.17549435e-38
_HUGE = 1e5
_BIAS_TOLERANCE = 0.02
"""Relative; onnxruntime 1.32 fuses layers up to it (measured)."""
_FIRST = {4: 21, 5: 21, 21: 21, 22: 21, 17: 19, 18: 19, 19: 19, 20: 19, 23: 23, 25: 25, 26: 25}
"""Quantized element type -> first opset whose QuantizeLinear and DequantizeLinear take it."""


def quantizers(facts: Facts, *ops: str) -> Iterator[NodeFact]:
    """Nodes that quantize or dequantize, those of weights included."""
    return (fact for fact in facts.nodes() if fact.node.op in (ops or _TRIPLES) and connected(fact))


def scales(facts: Facts, fact: NodeFact) -> Iterator[tuple[str, tuple[float, ...]]]:
    """(name, numbers) of every stored scale of a node."""
    for index, _ in _TRIPLES[fact.node.op]:
        found = numbers(facts, fact, index)
        if found:
            yield fact.node.inputs[index], found


@check("OX401", "scale-not-above-zero", severity="error")
def bad_scale(facts: Facts) -> Iterator[Finding]:
    """A quantization scale is zero, negative, NaN or infinite.

    What it flags:
        A stored scale of QuantizeLinear, DequantizeLinear or a QLinear op that isn't a finite number above 0.

    Why it matters:
        Scale 0 divides by zero on the way in and erases everything on the way out; a negative one flips signs
        and saturates the wrong way. Calibration saw an empty or broken range.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (uint8[2] y) <float s = {0}, uint8 z = {128}> { y = QuantizeLinear (x, s, z) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (uint8[2] y) <float s = {0.1}, uint8 z = {128}> { y = QuantizeLinear (x, s, z) }

    Fix and its safety:
        Calibrate again with data that reaches this value, or leave the layer in float.

    Source:
        ONNX Operators.md, QuantizeLinear: y = saturate(round(x / scale) + zero_point).
    """
    for fact in quantizers(facts):
        for name, found in scales(facts, fact):
            bad = [value for value in found if not (isfinite(value) and value > 0)]
            if bad:
                yield bad_scale.finding(
                    fact.label,
                    f"scale {name} holds {bad[0]:g} ({len(bad)} of {len(found)} not above 0 or not finite)",
                    "calibrate again",
                    count=len(bad),
                )


@check("OX402", "subnormal-scale", severity="warning")
def subnormal_scale(facts: Facts) -> Iterator[Finding]:
    """A quantization scale is so small that its inverse overflows.

    What it flags:
        A stored scale above 0 but below 1.2e-38, the smallest normal float32.

    Why it matters:
        x / scale is infinite and saturates; runtimes that flush subnormal numbers divide by 0. The calibrated
        range was a constant 0.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (uint8[2] y) <float s = {1e-40}, uint8 z = {0}> { y = QuantizeLinear (x, s, z) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (uint8[2] y) <float s = {1e-10}, uint8 z = {0}> { y = QuantizeLinear (x, s, z) }

    Fix and its safety:
        Set the scale to 1 where the value is always 0; else calibrate again.

    Source:
        IEEE 754, binary32: smallest normal number 2**-126.
    """
    for fact in quantizers(facts):
        for name, found in scales(facts, fact):
            small = [value for value in found if 0 < value < _LEAST_NORMAL]
            if small:
                message = f"scale {name} holds {len(small)} subnormal numbers (smallest {min(small):.3g})"
                yield subnormal_scale.finding(fact.label, message, "calibrate again", count=len(small))


@check("OX403", "huge-scale", severity="note")
def huge_scale(facts: Facts) -> Iterator[Finding]:
    """A quantization step is enormous.

    What it flags:
        A stored scale above 100,000.

    Why it matters:
        Every step of the integer is worth that much: ordinary numbers all round to 0. Usually one outlier (a
        mask of -3e38) was calibrated with the rest.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (uint8[2] y) <float s = {1e30}, uint8 z = {0}> { y = QuantizeLinear (x, s, z) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (uint8[2] y) <float s = {12}, uint8 z = {0}> { y = QuantizeLinear (x, s, z) }

    Fix and its safety:
        Exclude the value from quantization, or clip it before calibrating.

    Source:
        onnxruntime, "Quantize ONNX models": calibration methods.
    """
    for fact in quantizers(facts):
        for name, found in scales(facts, fact):
            if isfinite(max(found)) and max(found) > _HUGE:
                message = f"scale {name} reaches {max(found):.3g}: ordinary numbers round to 0"
                yield huge_scale.finding(fact.label, message, "clip before calibrating", scale=max(found))


@check("OX404", "zero-point-of-wrong-type", severity="error")
def zero_point_type(facts: Facts) -> Iterator[Finding]:
    """The zero point's type differs from the quantized value's.

    What it flags:
        A DequantizeLinear whose input and zero point have different types, or one of int32 input with a zero
        point other than 0.

    Why it matters:
        The model doesn't load. An int32 zero point must be absent or 0.

    Bad: see tests/checks/test_rules_quantization.py

    Good: see tests/checks/test_rules_quantization.py

    Fix and its safety:
        Store the zero point in the type of the input; mind that uint8 128 is int8 0.

    Source:
        ONNX Operators.md, DequantizeLinear: x_zero_point has the type of x; for int32 there is none or 0.
    """
    for fact in quantizers(facts, "DequantizeLinear"):
        if len(fact.node.inputs) < 3 or not fact.node.inputs[2]:
            continue
        given, zero = (facts.value(fact.node.inputs[i], fact.scope).dtype for i in (0, 2))
        if given is not None and zero is not None and given != zero:
            types = f"{dtypes.name_of(given)} input, {dtypes.name_of(zero)} zero point"
            yield zero_point_type.finding(
                fact.label, f"types differ: {types}", "store it in the input's type"
            )
        elif given == dtypes.INT32 and any(numbers(facts, fact, 2) or ()):
            yield zero_point_type.finding(
                fact.label, "int32 input with a zero point that isn't 0", "remove it"
            )


@check("OX405", "scale-of-wrong-length", severity="error")
def scale_length(facts: Facts) -> Iterator[Finding]:
    """A per-channel scale doesn't have one number per channel.

    What it flags:
        QuantizeLinear or DequantizeLinear with a 1-D scale of more than one number whose length differs from
        the size of the axis.

    Why it matters:
        Runtimes refuse the node; the axis attribute (default 1) or the scale is wrong.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (int8[2,3] x) => (float[2,3] y) <float[2] s = {0.1, 0.2}> { y = DequantizeLinear (x, s) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (int8[2,3] x) => (float[2,3] y) <float[2] s = {0.1, 0.2}> { y = DequantizeLinear <axis = 0> (x, s) }

    Fix and its safety:
        Set axis to the channel axis that the scale was computed for.

    Source:
        ONNX Operators.md, QuantizeLinear-13: axis.
    """
    for fact in quantizers(facts, *QDQ):
        shape, scale = (facts.value(name, fact.scope).shape for name in fact.node.inputs[:2])
        axis = whole(fact.node.attribute("axis"), 1)
        if (
            shape is None
            or scale is None
            or len(scale) != 1
            or scale[0] == 1
            or not -len(shape) <= axis < len(shape)
        ):
            continue
        size, blocks = shape[axis], whole(fact.node.attribute("block_size"), 0)
        if isinstance(size, int) and isinstance(scale[0], int) and size != scale[0] and not blocks:
            yield scale_length.finding(
                fact.label,
                f"{scale[0]} scales for axis {axis} of size {size}",
                "set axis to the channel axis",
                scales=scale[0],
                size=size,
                axis=axis,
            )


@check("OX406", "quantized-type-above-opset", severity="error")
def type_above_opset(facts: Facts) -> Iterator[Finding]:
    """A quantized type or a per-channel scale that the model's opset doesn't know.

    What it flags:
        QuantizeLinear or DequantizeLinear of the default domain with int16, int4, float8 and the like below
        the opset that brought them, or with a scale per channel below opset 13.

    Why it matters:
        Loading fails ("type is not supported"), or the scale's extra numbers are ignored.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (uint16[2] y) <float s = {0.1}, uint16 z = {0}> { y = QuantizeLinear (x, s, z) }

    Good:
        <ir_version: 10, opset_import: ["": 21]>
        g (float[2] x) => (uint16[2] y) <float s = {0.1}, uint16 z = {0}> { y = QuantizeLinear (x, s, z) }

    Fix and its safety:
        Raise the opset with onnx.version_converter, or use the com.microsoft forms of the ops: same numbers.

    Source:
        ONNX Changelog: QuantizeLinear-10, -13, -19, -21, -23, -25.
    """
    version = facts.model.opset.get("", 0)
    for fact in quantizers(facts, *QDQ):
        if fact.node.domain not in ("", "ai.onnx"):
            continue
        name = fact.node.outputs[0] if fact.node.op == "QuantizeLinear" else fact.node.inputs[0]
        code = facts.value(name, fact.scope).dtype
        scale = facts.value(fact.node.inputs[1], fact.scope).shape
        needed = _FIRST.get(code or 0, 10)
        what = f"{dtypes.name_of(code)} needs"
        if scale is not None and len(scale) == 1 and scale[0] != 1 and version < 13 >= needed:
            needed, what = 13, "a scale per channel needs"
        if 0 < version < needed:
            yield type_above_opset.finding(
                fact.label,
                f"{what} opset {needed}, the model imports {version}",
                "raise the opset",
                needed=needed,
            )


@check("OX407", "bias-scale-mismatch", severity="warning")
def bias_scale(facts: Facts) -> Iterator[Finding]:
    """An int32 bias isn't in the units of the products it is added to.

    What it flags:
        A convolution or Gemm of dequantized input, weight and int32 bias whose bias scale differs from input
        scale * weight scale by more than 2 %.

    Why it matters:
        An integer kernel adds the bias as it is, so the scales must agree. onnxruntime refuses to fuse such a
        layer and runs it in float (measured with 1.32: 29 of 52 convolutions of a MobileNetV2 that its own
        quantizer wrote); runtimes that don't look give wrong answers.

    Bad: see tests/checks/test_rules_quantization.py

    Good: see tests/checks/test_rules_quantization.py

    Fix and its safety:
        Requantize the bias with scale = x_scale * w_scale: exact up to half a step.

    Source:
        onnxruntime, QDQ format: bias_scale = x_scale * w_scale; TensorFlow Lite 8-bit specification, CONV_2D.
    """
    for fact in facts.nodes():
        if fact.node.op not in ("Conv", "Gemm", "ConvTranspose") or len(fact.node.inputs) < 3:
            continue
        found = [_scale_of(facts, fact, index) for index in range(3)]
        x, w, b = found
        if x is None or w is None or b is None or len(x) != 1 or (len(b) not in (1, len(w)) and len(w) != 1):
            continue
        wide = [w[0]] * len(b) if len(w) == 1 else list(w)
        thin = [b[0]] * len(wide) if len(b) == 1 else list(b)
        off = [
            i
            for i, (ws, bs) in enumerate(zip(wide, thin, strict=False))
            if abs(bs - x[0] * ws) > _BIAS_TOLERANCE * abs(x[0] * ws)
        ]
        if off:
            i = off[0]
            yield bias_scale.finding(
                fact.label,
                f"bias scale {thin[i]:.6g}, input scale * weight scale {x[0] * wide[i]:.6g} (channel {i}, "
                f"{len(off)} in all)",
                "requantize the bias",
                channels=off[:64],
            )


def _scale_of(facts: Facts, fact: NodeFact, index: int) -> tuple[float, ...] | None:
    """Scale of the DequantizeLinear that makes an input (of an int32 value for a bias); None otherwise."""
    node = facts.scopes[fact.scope].graph.producers.get(fact.node.inputs[index])
    if node is None or node.op != "DequantizeLinear":
        return None
    if index == 2 and facts.value(operand(node), fact.scope).dtype != dtypes.INT32:
        return None
    return numbers(facts, NodeFact(node, fact.scope, None, fact.inferred, True, node.label), 1)
