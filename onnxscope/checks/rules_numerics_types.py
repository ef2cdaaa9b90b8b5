"""Rules about narrow types: what float16 and small integers do to a formula."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import consumers, nodes, number, operand, producer, whole
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check
from onnxscope.graph import Node

_UNBOUNDED = frozenset({"Mul", "Add", "Conv", "Gemm", "MatMul", "Relu"})
_HALF_EPSILON = 2.0**-25
"""This and smaller numbers become 0 in float16."""


@check("OX337", "epsilon-lost-in-float16", severity="note")
def lost_epsilon(facts: Facts) -> Iterator[Finding]:
    """A small constant that guards a division becomes 0 in float16.

    What it flags:
        Add, Max or Clip with one constant number above 0 and at most 3e-8 in front of Div, Sqrt, Log, Pow or
        Reciprocal.

    Why it matters:
        float16's smallest number is 6e-8: after a conversion the guard is 0, and the division gives infinity.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float e = {0.00000001}> {
          a = Add (x, e)
          y = Sqrt (a)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float e = {0.00001}> {
          a = Add (x, e)
          y = Sqrt (a)
        }

    Fix and its safety:
        Raise it to 1e-5 or keep these nodes in float32; changes results near 0 only.

    Source:
        IEEE 754 binary16; coremltools issue 2669.
    """
    for fact in nodes(facts, "Add", "Max", "Clip"):
        known = [n for i in range(len(fact.node.inputs)) if (n := number(facts, fact, i)) is not None]
        guards = {"Div", "Sqrt", "Log", "Pow", "Reciprocal"} & {node.op for node in consumers(facts, fact)}
        small = [n for n in known if 0 < n <= _HALF_EPSILON]
        if small and guards:
            message = f"epsilon {small[0]:.3g} in front of {min(guards)} becomes 0 in float16"
            yield lost_epsilon.finding(
                fact.label, message, "raise it, or keep these nodes in float32", epsilon=small[0]
            )


@check("OX338", "long-float16-sum", severity="note")
def long_half_sum(facts: Facts) -> Iterator[Finding]:
    """A float16 sum over thousands of numbers.

    What it flags:
        ReduceSum, ReduceMean, ReduceSumSquare or a global average pool in float16 over more than 4,096
        numbers each.

    Why it matters:
        float16 counts exactly to 2,048 only and ends at 65,504: runtimes that accumulate in float16 lose the
        small addends or overflow.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float16[1,8,112,112] x) => (float16[1,8,1,1] y) { y = GlobalAveragePool (x) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float16[1,8,7,7] x) => (float16[1,8,1,1] y) { y = GlobalAveragePool (x) }

    Fix and its safety:
        Keep the node in float32: at least as exact.

    Source:
        Micikevicius et al., "Mixed Precision Training", 2018, section 3.3.
    """
    for fact in nodes(facts, "ReduceSum", "ReduceMean", "ReduceSumSquare", "GlobalAveragePool"):
        before = facts.value(fact.node.inputs[0], fact.scope)
        after = facts.value(fact.node.outputs[0], fact.scope).shape
        if before.dtype != dtypes.FLOAT16 or before.shape is None or after is None:
            continue
        terms = _ratio(before.shape, after)
        if terms is not None and terms > 4096:
            message = f"{fact.node.op} adds {terms} float16 numbers each"
            yield long_half_sum.finding(fact.label, message, "keep it in float32", terms=terms)


def _ratio(before: tuple[object, ...], after: tuple[object, ...]) -> int | None:
    """Elements before over elements after; None where a size that isn't kept is symbolic."""
    ratio, kept = 1, list(after)
    for size in before:
        if size in kept:
            kept.remove(size)
        elif isinstance(size, int):
            ratio *= size
        else:
            return None
    return ratio


@check("OX339", "unclipped-cast-to-integer", severity="note")
def unclipped_cast(facts: Facts) -> Iterator[Finding]:
    """A float is cast to a narrow integer without a Clip.

    What it flags:
        Cast of a float value to (u)int8 or (u)int16 whose input comes from a layer of unbounded range: Mul,
        Add, Round, Conv, Gemm, MatMul, Relu.

    Why it matters:
        Out-of-range numbers are undefined in ONNX: runtimes wrap or saturate differently, so bright pixels
        may turn black on one device only.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (uint8[2] y) <float s = {255}> {
          a = Mul (x, s)
          y = Cast <to = 2> (a)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (uint8[2] y) <float s = {255}, float lo = {0}, float hi = {255}> {
          a = Mul (x, s)
          b = Clip (a, lo, hi)
          y = Cast <to = 2> (b)
        }

    Fix and its safety:
        Clip to the type's range first: equal for every number in range.

    Source:
        ONNX Operators.md, Cast: out of range is undefined.
    """
    narrow = {dtypes.UINT8: "uint8", dtypes.INT8: "int8", 4: "uint16", 5: "int16"}
    for fact in nodes(facts, "Cast"):
        to, maker = whole(fact.node.attribute("to"), 0), _computed_by(facts, fact)
        given = dtypes.BY_CODE.get(facts.value(fact.node.inputs[0], fact.scope).dtype or 0)
        unbounded = maker is not None and maker.op in _UNBOUNDED
        if maker is not None and unbounded and to in narrow and given is not None and given.kind == "float":
            message = f"{given.name} of {maker.op} ({maker.label}) is cast to {narrow[to]} without a Clip"
            yield unclipped_cast.finding(fact.label, message, f"clip it to the range of {narrow[to]}")


def _computed_by(facts: Facts, fact: NodeFact) -> Node | None:
    """The node that makes a Cast's input, seen through roundings."""
    maker = producer(facts, fact.scope, fact.node.inputs[0])
    while maker is not None and maker.op in ("Round", "Floor", "Ceil"):
        maker = producer(facts, fact.scope, operand(maker))
    return maker


@check("OX340", "int32-accumulator-overflow", severity="warning")
def accumulator(facts: Facts) -> Iterator[Finding]:
    """An integer product sums more terms than 32 bits can hold.

    What it flags:
        MatMulInteger, QLinearMatMul, ConvInteger or QLinearConv whose sums have more than 66,311 terms: that
        many products of 255 and 127 exceed 2**31.

    Why it matters:
        The int32 accumulator wraps: large positive sums become negative.

    Bad: see tests/checks/test_rules_numerics.py

    Good: see tests/checks/test_rules_numerics.py

    Fix and its safety:
        Split the sum over two layers and add in float, or keep the layer in float.

    Source:
        onnxruntime, quantized kernels accumulate in int32; 2**31/(255*127) = 66,311.
    """
    for fact in nodes(facts, "MatMulInteger", "QLinearMatMul", "ConvInteger", "QLinearConv"):
        index = 3 if fact.node.op.startswith("QLinear") else 1
        shape = (
            facts.value(fact.node.inputs[index], fact.scope).shape if index < len(fact.node.inputs) else None
        )
        sizes = tuple(n for n in shape or () if isinstance(n, int))
        if shape is None or len(sizes) != len(shape) or len(sizes) < 2:
            continue
        terms = 1
        for size in sizes[1:] if "Conv" in fact.node.op else sizes[-2:-1]:
            terms *= size
        if terms > (1 << 31) // (255 * 127):
            message = f"{terms} products of 8-bit numbers per sum can exceed int32"
            yield accumulator.finding(fact.label, message, "split the sum", terms=terms)
