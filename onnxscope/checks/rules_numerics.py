"""Rules about domains of functions and ranges of types: where a formula breaks for some inputs."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import nodes, number, numbers, operand, producer
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check
from onnxscope.checks.rules_numerics_norm import clip_bounds
from onnxscope.graph import Node

_SIGNED = frozenset(
    "Conv ConvTranspose Gemm MatMul Sub Tanh Sin Cos BatchNormalization InstanceNormalization "
    "LayerNormalization LeakyRelu Elu Neg RandomNormal".split()
)
"""Ops whose results are of both signs in any trained network."""
_MAY_BE_ZERO = frozenset({"Relu", "Abs", "ReduceL1", "ReduceL2", "ReduceSumSquare"})


def _maker(facts: Facts, fact: NodeFact, index: int = 0) -> Node | None:
    return producer(facts, fact.scope, fact.node.inputs[index]) if index < len(fact.node.inputs) else None


@check("OX331", "clip-with-min-above-max", severity="error")
def empty_clip(facts: Facts) -> Iterator[Finding]:
    """A Clip whose minimum exceeds its maximum.

    What it flags:
        Clip with known bounds and min > max.

    Why it matters:
        Before opset 13 the result is undefined and runtimes differ; since then every value becomes max: the
        node is a constant. The bounds were swapped.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float lo = {6}, float hi = {0}> { y = Clip (x, lo, hi) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float lo = {0}, float hi = {6}> { y = Clip (x, lo, hi) }

    Fix and its safety:
        Swap the bounds where that was meant; the outputs change.

    Source:
        ONNX Operators.md, Clip-13.
    """
    for fact in nodes(facts, "Clip"):
        low, high = clip_bounds(facts, fact)
        if low > high:
            message = f"Clip with min {low:g} above max {high:g}: every value becomes {high:g} or undefined"
            yield empty_clip.finding(fact.label, message, "swap the bounds", min=low, max=high)


@check("OX332", "division-by-zero", severity="error")
def zero_divisor(facts: Facts) -> Iterator[Finding]:
    """A stored divisor is 0.

    What it flags:
        Div or Mod with a constant second operand that holds a 0.

    Why it matters:
        Floats become infinite or NaN; integers crash the process on most CPUs.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float[2] d = {1, 0}> { y = Div (x, d) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float[2] d = {1, 2}> { y = Div (x, d) }

    Fix and its safety:
        Correct the constant (often a standard deviation of 0 in a preprocessing step).

    Source:
        IEEE 754, section 7.3; C11 6.5.5 for integers.
    """
    for fact in nodes(facts, "Div", "Mod"):
        divisors = numbers(facts, fact, 1)
        if divisors is not None and 0 in divisors:
            zeros = divisors.count(0)
            message = (
                f"{fact.node.op} by {fact.node.inputs[1]}, which holds {zeros} zeros among {len(divisors)}"
            )
            yield zero_divisor.finding(fact.label, message, zeros=zeros)


@check("OX333", "log-of-zero", severity="warning")
def log_of_zero(facts: Facts) -> Iterator[Finding]:
    """A Log whose input can be 0.

    What it flags:
        Log of a Relu, Abs, norm, Softmax, or of a Clip from 0 or below, without a floor above 0.

    Why it matters:
        A Relu or a norm is exactly 0 for ordinary inputs, a Softmax underflows to 0 when one logit leads by
        more than 104: the answer is -inf, and NaN behind the next subtraction.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y) {
          a = Softmax (x)
          y = Log (a)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y) { y = LogSoftmax (x) }

    Fix and its safety:
        LogSoftmax in place of Log(Softmax) is exact and safe; elsewhere add an epsilon before the Log.

    Source:
        Blanchard, Higham, Higham, "Accurately computing the log-sum-exp and softmax functions", 2021.
    """
    for fact in nodes(facts, "Log"):
        maker = _maker(facts, fact)
        if maker is None:
            continue
        clipped = maker.op == "Clip" and _clip_reaches_zero(facts, fact, maker)
        if maker.op in _MAY_BE_ZERO or maker.op == "Softmax" or clipped:
            advice = "use LogSoftmax" if maker.op == "Softmax" else "add an epsilon before the Log"
            yield log_of_zero.finding(
                fact.label, f"Log of {maker.op} ({maker.label}), which can be 0: -inf", advice
            )


def _clip_reaches_zero(facts: Facts, fact: NodeFact, maker: Node) -> bool:
    low, _ = clip_bounds(facts, NodeFact(maker, fact.scope, None, fact.inferred, True, maker.label))
    return -1e38 < low <= 0


@check("OX334", "root-or-log-of-signed", severity="warning")
def root_of_signed(facts: Facts) -> Iterator[Finding]:
    """A root, logarithm or fractional power of a value that takes both signs.

    What it flags:
        Sqrt, Log, or Pow with a fractional exponent, of the output of a layer whose results have both signs
        (convolution, matrix product, Sub, Tanh, normalization).

    Why it matters:
        Every negative number becomes NaN. A difference of two averages as a variance is the classic: it is
        negative by rounding.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x, float[2] m) => (float[2] y) {
          d = Sub (x, m)
          y = Sqrt (d)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x, float[2] m) => (float[2] y) {
          d = Sub (x, m)
          a = Abs (d)
          y = Sqrt (a)
        }

    Fix and its safety:
        Clamp at 0 first (Relu or Clip): exact for every input that was right before.

    Source:
        IEEE 754, section 7.2; Higham, "Accuracy and Stability of Numerical Algorithms", section 1.9.
    """
    for fact in nodes(facts, "Sqrt", "Log", "Pow"):
        maker = _maker(facts, fact)
        if maker is None or maker.op not in _SIGNED:
            continue
        if fact.node.op == "Pow":
            exponent = number(facts, fact, 1)
            if exponent is None or exponent == int(exponent):
                continue
        yield root_of_signed.finding(
            fact.label,
            f"{fact.node.op} of {maker.op} ({maker.label}), which takes both signs: NaN for negative numbers",
            "clamp it at 0 first",
        )


@check("OX335", "norm-without-epsilon", severity="warning")
def norm_without_epsilon(facts: Facts) -> Iterator[Finding]:
    """A division by a norm that is 0 for a zero input.

    What it flags:
        Div whose divisor is a ReduceL1, ReduceL2 or Sqrt of a ReduceSum / ReduceMean / ReduceSumSquare, with
        no epsilon, Clip or Max between them.

    Why it matters:
        A zero vector (a blank image, a dead embedding) gives 0/0 = NaN.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4] x) => (float[1,4] y) {
          n = ReduceL2 <axes = [1]> (x)
          y = Div (x, n)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4] x) => (float[1,4] y) <float e = {0.000001}> {
          n = ReduceL2 <axes = [1]> (x)
          m = Max (n, e)
          y = Div (x, m)
        }

    Fix and its safety:
        Max(norm, 1e-12), as torch's `normalize` does: equal for every longer vector.

    Source:
        PyTorch, torch.nn.functional.normalize, parameter eps.
    """
    for fact in nodes(facts, "Div"):
        maker = _maker(facts, fact, 1)
        if maker is None:
            continue
        inner = producer(facts, fact.scope, operand(maker))
        rooted = maker.op == "Sqrt" and inner is not None
        squares = rooted and inner is not None and inner.op in ("ReduceSum", "ReduceMean", "ReduceSumSquare")
        if maker.op in ("ReduceL1", "ReduceL2") or squares:
            yield norm_without_epsilon.finding(
                fact.label,
                f"divides by {maker.op} ({maker.label}) without an epsilon: 0/0 for a zero vector",
                "put Max(norm, 1e-12) in between",
            )


@check("OX336", "softmax-without-maximum", severity="warning")
def raw_softmax(facts: Facts) -> Iterator[Finding]:
    """A softmax written out without subtracting the maximum overflows.

    What it flags:
        Exp divided by its own ReduceSum, where the exponent isn't a difference.

    Why it matters:
        exp(89) is infinite in float32 and exp(12) in float16: Inf/Inf = NaN for a confident network.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4] x) => (float[1,4] y) {
          e = Exp (x)
          s = ReduceSum (e)
          y = Div (e, s)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4] x) => (float[1,4] y) { y = Softmax (x) }

    Fix and its safety:
        Use Softmax, or subtract ReduceMax first: equal up to rounding where nothing overflowed.

    Source:
        Blanchard, Higham, Higham, "Accurately computing the log-sum-exp and softmax functions", 2021.
    """
    for fact in nodes(facts, "Div"):
        top, total = _maker(facts, fact, 0), _maker(facts, fact, 1)
        if top is None or total is None or top.op != "Exp" or total.op != "ReduceSum":
            continue
        source = producer(facts, fact.scope, operand(top))
        if operand(total) in top.outputs and (source is None or source.op not in ("Sub", "Clip", "Min")):
            message = f"a softmax without maximum: {top.label} overflows beyond 88.7 (float16: 11.1)"
            yield raw_softmax.finding(fact.label, message, "use Softmax, or subtract ReduceMax first")
