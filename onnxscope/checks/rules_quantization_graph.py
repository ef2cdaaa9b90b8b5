"""Rules about where a model is quantized: layers left in float, needless conversions, layouts of scales."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import items, nodes, operand, producer, tensor, whole
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check
from onnxscope.checks.rules_quantization import QDQ, quantizers
from onnxscope.graph import Node

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_INTEGER = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm")
_FUSED = frozenset(
    "Conv ConvTranspose Gemm MatMul Add Mul Concat AveragePool GlobalAveragePool MaxPool LeakyRelu Relu "
    "Clip Sigmoid Softmax Reshape Transpose Squeeze Unsqueeze Flatten Gather Slice Split Resize Pad Where "
    "ReduceMean ReduceMin ReduceMax ArgMax DepthToSpace SpaceToDepth Expand Tile Identity Dropout Sub Div "
    "Tanh HardSwish InstanceNormalization LayerNormalization BatchNormalization HardSigmoid Gelu Einsum TopK "
    "Upsample Exp Sqrt Abs Neg".split()
)
"""Ops that some runtime runs in integers between dequantization and quantization, or moves through them."""


def inner(fact: NodeFact, node: Node) -> NodeFact:
    """A neighbour of a node, as its rules see it."""
    return NodeFact(node, fact.scope, None, fact.inferred, True, node.label)


def _settings(facts: Facts, fact: NodeFact) -> tuple[object, ...] | None:
    """(scales, zero points, axis) of a QuantizeLinear or DequantizeLinear; None where they aren't stored."""
    scale = items(facts, fact.scope, fact.node.inputs[1])
    zero = (
        items(facts, fact.scope, fact.node.inputs[2])
        if len(fact.node.inputs) > 2 and fact.node.inputs[2]
        else (0,)
    )
    if scale is None or zero is None:
        return None
    axis = whole(fact.node.attribute("axis"), 1) if len(scale) > 1 else 0
    return scale, tuple(zero) * (len(scale) if len(zero) == 1 else 1), axis


@check("OX411", "layer-left-in-float", severity="warning")
def left_in_float(facts: Facts) -> Iterator[Finding]:
    """A heavy layer of a quantized model still runs in float.

    What it flags:
        In a model with QuantizeLinear / DequantizeLinear pairs: Conv, Gemm or MatMul with a stored weight
        whose input or weight isn't dequantized, with its share of all multiply-accumulates.

    Why it matters:
        The layer runs in float between two conversions: little of the promised speed, and on integer-only
        targets it can't run at all.

    Bad: see tests/checks/test_rules_quantization.py

    Good: see tests/checks/test_rules_quantization.py

    Fix and its safety:
        Include it in quantization (unless it was left out for accuracy on purpose).

    Source:
        onnxruntime, "Quantize ONNX models", nodes_to_exclude; onnx-tool issue 67.
    """
    layers = [fact for fact in nodes(facts, *HEAVY) if _weighted(facts, fact)]
    floats = [fact for fact in layers if not _is_quantized(facts, fact)]
    integer = [fact for fact in facts.nodes() if fact.node.op in _INTEGER]
    if len(floats) == len(layers) and not integer:
        return
    total = sum(_macs(fact) for fact in (*layers, *integer))
    for fact in floats:
        share = _macs(fact) / total if total else None
        told = f", {share:.1%} of the multiply-accumulates" if share else ""
        yield left_in_float.finding(
            fact.label,
            f"{fact.node.op} runs in float in a quantized model{told}",
            "quantize it too",
            share=share,
        )


def _weighted(facts: Facts, fact: NodeFact) -> bool:
    return len(fact.node.inputs) > 1 and any(
        facts.value(n, fact.scope).constant for n in fact.node.inputs[:2]
    )


def _is_quantized(facts: Facts, fact: NodeFact) -> bool:
    makers = [producer(facts, fact.scope, name) for name in fact.node.inputs[:2]]
    return all(node is not None and _dequantized(facts, fact, node) for node in makers)


def _dequantized(facts: Facts, fact: NodeFact, node: Node | None) -> bool:
    """Whether a value comes from DequantizeLinear, moved by Transpose, Reshape and the like at most."""
    for _ in range(4):
        if node is None:
            return False
        if node.op == "DequantizeLinear":
            return True
        if node.op not in ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast"):
            return False
        node = producer(facts, fact.scope, operand(node))
    return False


def _macs(fact: NodeFact) -> int:
    macs = fact.inferred.macs
    return macs.value if macs is not None and isinstance(macs.value, int) else 0


@check("OX412", "float-island", severity="note")
def float_island(facts: Facts) -> Iterator[Finding]:
    """An op without an integer form sits between a dequantization and a quantization.

    What it flags:
        A node that reads a DequantizeLinear and feeds a QuantizeLinear, with an op that no common runtime
        runs in integers or moves through the pair.

    Why it matters:
        Each island costs two conversions over the whole map, and splits the integer graph for an accelerator.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (uint8[2] x) => (uint8[2] y) <float s = {0.1}, uint8 z = {128}> {
          a = DequantizeLinear (x, s, z)
          b = Erf (a)
          y = QuantizeLinear (b, s, z)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (uint8[2] x) => (uint8[2] y) <float s = {0.1}, uint8 z = {128}> {
          a = DequantizeLinear (x, s, z)
          b = Sigmoid (a)
          y = QuantizeLinear (b, s, z)
        }

    Fix and its safety:
        Leave a whole stretch in float, or replace the op by one with an integer form; measure the accuracy.

    Source:
        onnxruntime, QDQ selectors (optimizer/qdq_transformer); onnx-tool issue 67.
    """
    for fact in facts.nodes():
        if fact.node.op in _FUSED or fact.node.op in QDQ or fact.folded or not fact.node.inputs:
            continue
        before = producer(facts, fact.scope, fact.node.inputs[0])
        graph = facts.scopes[fact.scope].graph
        after = {node.op for name in fact.node.outputs for node in graph.consumers.get(name, ())}
        if before is not None and before.op == "DequantizeLinear" and "QuantizeLinear" in after:
            message = f"{fact.node.op} runs in float between {before.label} and a QuantizeLinear"
            yield float_island.finding(fact.label, message, "leave more around it in float, or replace it")


@check("OX413", "requantized-at-once", severity="warning")
def requantized(facts: Facts) -> Iterator[Finding]:
    """A value is dequantized and quantized again with nothing in between.

    What it flags:
        A QuantizeLinear that reads a DequantizeLinear. With other scales or zero points it rounds twice; with
        equal ones the pair does nothing.

    Why it matters:
        Double quantization loses accuracy on every pass and costs two passes over memory.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (uint8[2] x) => (uint8[2] y) <float s = {0.1}, float t = {0.2}, uint8 z = {128}> {
          a = DequantizeLinear (x, s, z)
          y = QuantizeLinear (a, t, z)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (uint8[2] x) => (uint8[2] y) <float s = {0.1}, float t = {0.2}, uint8 z = {128}> {
          a = DequantizeLinear (x, s, z)
          b = Sigmoid (a)
          y = QuantizeLinear (b, t, z)
        }

    Fix and its safety:
        Equal settings: remove both, bit-equal. Others: let both sides share one scale where accuracy allows.

    Source:
        onnxruntime, QDQ transformers: double QDQ pairs removal.
    """
    for fact in quantizers(facts, "QuantizeLinear"):
        before = producer(facts, fact.scope, fact.node.inputs[0])
        if before is None or before.op != "DequantizeLinear" or fact.folded:
            continue
        first, second = _settings(facts, inner(fact, before)), _settings(facts, fact)
        if first is None or second is None:
            continue
        if first == second:
            message = (
                f"dequantized by {before.label} and quantized again with equal settings: nothing happens"
            )
        else:
            message = f"dequantized by {before.label} and quantized again with other settings: rounded twice"
        yield requantized.finding(
            fact.label, message, "remove the pair or share one scale", equal=first == second
        )


@check("OX414", "mismatched-quantize-pair", severity="error")
def mismatched_pair(facts: Facts) -> Iterator[Finding]:
    """A value is dequantized with another scale than it was quantized with.

    What it flags:
        A DequantizeLinear that directly reads a QuantizeLinear with another scale, zero point or axis.

    Why it matters:
        Every number comes out multiplied by the ratio of the scales, or shifted: the layers behind get wrong
        values. Usually two calibrations were mixed.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float s = {0.1}, float t = {0.2}, uint8 z = {128}> {
          a = QuantizeLinear (x, s, z)
          y = DequantizeLinear (a, t, z)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float s = {0.1}, uint8 z = {128}> {
          a = QuantizeLinear (x, s, z)
          y = DequantizeLinear (a, s, z)
        }

    Fix and its safety:
        Use the settings of the QuantizeLinear on both sides.

    Source:
        ONNX Operators.md, DequantizeLinear: y = (x - zero_point) * scale.
    """
    for fact in quantizers(facts, "DequantizeLinear"):
        before = producer(facts, fact.scope, fact.node.inputs[0])
        if before is None or before.op != "QuantizeLinear":
            continue
        first, second = _settings(facts, inner(fact, before)), _settings(facts, fact)
        if first is not None and second is not None and first != second:
            message = f"dequantized with other settings than {before.label} quantized with"
            yield mismatched_pair.finding(
                fact.label, message, "use the same scale and zero point on both sides"
            )


@check("OX415", "float-weights-behind-quantize", severity="note")
def float_weights(facts: Facts) -> Iterator[Finding]:
    """A quantized weight is still stored in float.

    What it flags:
        QuantizeLinear of a stored float tensor of at least 1,024 numbers.

    Why it matters:
        The file holds 4 bytes per weight where 1 would do, and quantizes at every load; integer-only targets
        refuse it.

    Bad: see tests/checks/test_rules_quantization.py

    Good: see tests/checks/test_rules_quantization.py

    Fix and its safety:
        Fold the QuantizeLinear into the stored tensor: bit-equal.

    Source:
        onnxruntime quantization, QDQ option `AddQDQPairToWeight` (off: weights are stored in integers).
    """
    for fact in quantizers(facts, "QuantizeLinear"):
        stored = tensor(facts, fact, 0)
        if stored is not None and stored.count >= 1024:
            message = (
                f"{stored.name} is stored in {dtypes.name_of(stored.dtype)} and quantized when the model runs"
            )
            yield float_weights.finding(fact.label, message, "store the integers", bytes=stored.nbytes)
