"""Rules about normalizations and dead channels: numbers of BatchNorm vectors, and what bounds prove."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, isfinite, sqrt

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import by_place, nodes, numbers, only_reader, producer, tensor
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check
from onnxscope.errors import FileError

_AMPLIFIED = 1e4
_MOST = 1 << 21
"""Numbers of a weight that the bounds read."""


def _epsilon(fact: NodeFact, default: float = 1e-5) -> float:
    value = fact.node.attribute("epsilon")
    return float(value) if isinstance(value, (int, float)) else default


def _channels(facts: Facts, fact: NodeFact, *inputs: int) -> list[tuple[float, ...]]:
    """What a BatchNorm's inputs hold for each channel; empty where one isn't stored or lengths differ."""
    vectors = [numbers(facts, fact, index) or () for index in inputs]
    return list(zip(*vectors, strict=True)) if len(set(map(len, vectors))) == 1 else []


def _shown(channels: list[int]) -> str:
    return ", ".join(map(str, channels[:5])) + (", ..." if len(channels) > 5 else "")


@check("OX321", "negative-batchnorm-variance", severity="error")
def negative_variance(facts: Facts) -> Iterator[Finding]:
    """A BatchNorm variance below zero gives NaN.

    What it flags:
        BatchNormalization with a stored variance v for which v + epsilon isn't above 0, or NaN.

    Why it matters:
        The layer divides by the root of it: the channel is NaN or infinite for every image. A variance is
        never negative, so the file is damaged, or two inputs were swapped.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,1,1] x) => (float[1,2,1,1] y)
        <float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, -1}> {
          y = BatchNormalization (x, s, b, m, v)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,1,1] x) => (float[1,2,1,1] y)
        <float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {0, -1}, float[2] v = {1, 1}> {
          y = BatchNormalization (x, s, b, m, v)
        }

    Fix and its safety:
        Export again; check the order scale, bias, mean, variance.

    Source:
        ONNX Operators.md, BatchNormalization: Y = (X - mean) / sqrt(var + epsilon) * scale + B.
    """
    for fact in nodes(facts, "BatchNormalization"):
        variance = _channels(facts, fact, 4)
        bad = [i for i, (v,) in enumerate(variance) if not v + _epsilon(fact) > 0]
        if bad:
            yield negative_variance.finding(
                fact.label,
                f"variance {variance[bad[0]][0]:.6g} + epsilon {_epsilon(fact):.6g} is not above 0 "
                f"(channels {_shown(bad)})",
                "export again",
                channels=bad[:64],
            )


@check("OX322", "dead-batchnorm-channels", severity="note")
def dead_channels(facts: Facts) -> Iterator[Finding]:
    """BatchNorm channels with scale 0 are constant.

    What it flags:
        BatchNormalization with stored scales that are exactly 0.

    Why it matters:
        Such a channel holds its bias for every image: it and what it costs in the layers before and behind
        can be pruned. If all are 0, the layer was never trained (zero-initialized residual branches).

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,1,1] x) => (float[1,2,1,1] y)
        <float[2] s = {1, 0}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}> {
          y = BatchNormalization (x, s, b, m, v)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,1,1] x) => (float[1,2,1,1] y)
        <float[2] s = {1, 0.1}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}> {
          y = BatchNormalization (x, s, b, m, v)
        }

    Fix and its safety:
        Prune the channel and add its constant to the next layer's bias; exact without padding.

    Source:
        Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", 2017.
    """
    for fact in nodes(facts, "BatchNormalization"):
        scale = _channels(facts, fact, 1)
        dead = [i for i, (s,) in enumerate(scale) if s == 0]
        if dead:
            yield dead_channels.finding(
                fact.label,
                f"{len(dead)} of {len(scale)} channels have scale 0 and are constant (channels "
                f"{_shown(dead)})",
                "prune them",
                channels=dead[:64],
                count=len(dead),
            )


@check("OX323", "batchnorm-that-amplifies", severity="note")
def amplifying(facts: Facts) -> Iterator[Finding]:
    """A BatchNorm with almost no variance multiplies its channel by thousands.

    What it flags:
        BatchNormalization whose factor |scale| / sqrt(variance + epsilon) exceeds 10,000 on a channel.

    Why it matters:
        The channel was constant in training; the least deviation at inference is blown up. Folded into the
        convolution, the factor overflows float16 and spoils int8 scales.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,1,1] x) => (float[1,2,1,1] y)
        <float[2] s = {1, 900}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 0}> {
          y = BatchNormalization (x, s, b, m, v)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,1,1] x) => (float[1,2,1,1] y)
        <float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 0}> {
          y = BatchNormalization (x, s, b, m, v)
        }

    Fix and its safety:
        Prune the channel, or set its scale to 0 and keep its bias; measure the difference.

    Source:
        ONNX Operators.md, BatchNormalization.
    """
    for fact in nodes(facts, "BatchNormalization"):
        both, epsilon = _channels(facts, fact, 1, 4), _epsilon(fact)
        factors = [abs(s) / sqrt(v + epsilon) if v + epsilon > 0 else 0.0 for s, v in both]
        large = [i for i, factor in enumerate(factors) if factor > _AMPLIFIED]
        if large:
            yield amplifying.finding(
                fact.label,
                f"channels {_shown(large)} are multiplied by up to {max(factors):.3g} (variance "
                f"{both[large[0]][1]:.3g})",
                channels=large[:64],
                factor=max(factors),
            )


def _interval(facts: Facts, fact: NodeFact, depth: int = 0) -> tuple[float, float]:
    """Bounds of a node's data input, from the node that makes it; infinite where nothing is known."""
    node = producer(facts, fact.scope, fact.node.inputs[0])
    if node is None:
        return -inf, inf
    if node.op in ("Relu", "Abs", "Exp", "Softplus"):
        return 0.0, inf
    if node.op in ("Sigmoid", "Softmax", "HardSigmoid"):
        return 0.0, 1.0
    if node.op in ("Tanh", "Softsign", "Sin", "Cos", "Erf"):
        return -1.0, 1.0
    if node.op == "Clip":
        inner = NodeFact(node, fact.scope, None, fact.inferred, True, node.label)
        low, high = clip_bounds(facts, inner)
        return low, high
    return -inf, inf


def clip_bounds(facts: Facts, fact: NodeFact) -> tuple[float, float]:
    """(min, max) of a Clip, as attributes (below opset 11) or inputs; infinite where absent or unknown."""
    bounds = []
    for index, (name, default) in enumerate((("min", -inf), ("max", inf)), 1):
        given = fact.node.attribute(name)
        stored = numbers(facts, fact, index)
        value = float(given) if isinstance(given, (int, float)) else (stored[0] if stored else default)
        bounds.append(value)
    return bounds[0], bounds[1]


@check("OX324", "channels-dead-before-relu", severity="note")
def dead_before_relu(facts: Facts) -> Iterator[Finding]:
    """Channels that a Relu always turns into 0.

    What it flags:
        A convolution or BatchNormalization that only a Relu reads, with channels whose largest possible value
        is at most 0: bounds of the input (after Relu, Sigmoid, Clip, ...) times the weights, plus the bias.

    Why it matters:
        The channel is 0 for every image: its filter, and all weights behind that read it, are dead.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,2,2] x) => (float[1,2,2,2] y) <float[2,1,1,1] w = {1, -1}, float[2] b = {0, -0.5}> {
          a = Relu (x)
          c = Conv (a, w, b)
          y = Relu (c)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,2,2] x) => (float[1,2,2,2] y) <float[2,1,1,1] w = {1, -1}, float[2] b = {0, 0.5}> {
          a = Relu (x)
          c = Conv (a, w, b)
          y = Relu (c)
        }

    Fix and its safety:
        Prune the channel and the weights that read it: equal, since it only ever adds 0.

    Source:
        Interval arithmetic; Lu et al., "Dying ReLU and Initialization", 2019.
    """
    places = by_place(facts)
    for fact in nodes(facts, "Conv", "BatchNormalization"):
        reader = only_reader(facts, fact)
        if reader is None or reader.op != "Relu" or (fact.scope, reader.index) not in places:
            continue
        tops = _tops(facts, fact)
        dead = [channel for channel, top in enumerate(tops or ()) if top <= 0]
        if dead and tops:
            yield dead_before_relu.finding(
                fact.label,
                f"{len(dead)} of {len(tops)} channels never exceed 0, so {reader.label} makes them 0 "
                f"(channels {_shown(dead)})",
                "prune them",
                channels=dead[:64],
                count=len(dead),
            )


def _tops(facts: Facts, fact: NodeFact) -> list[float] | None:
    """The largest possible value per output channel; None where numbers are missing."""
    low, high = _interval(facts, fact)
    if fact.node.op == "BatchNormalization":
        return _norm_tops(facts, fact, low, high)
    stored = tensor(facts, fact, 1)
    if stored is None or stored.count > _MOST or len(stored.dims) < 3:
        return None
    bias = (
        numbers(facts, fact, 2)
        if len(fact.node.inputs) > 2 and fact.node.inputs[2]
        else (0.0,) * stored.dims[0]
    )
    if bias is None or len(bias) != stored.dims[0]:
        return None
    try:
        rows = stored.array().reshape(stored.dims[0], -1)
    except (FileError, TypeError, ValueError):
        return None
    low, high = min(low, 0.0), max(high, 0.0)  # padding adds zeros
    positive, negative = rows.clip(0, None).sum(axis=1).tolist(), rows.clip(None, 0).sum(axis=1).tolist()
    rows_of = zip(positive, negative, bias, strict=True)
    tops = [_times(up, high) + _times(down, low) + offset for up, down, offset in rows_of]
    return tops if all(top == top for top in tops) else None


def _times(weight: float, bound: float) -> float:
    """weight*bound with 0*inf = 0: a zero weight never lets a value through."""
    return 0.0 if weight == 0 else weight * bound


def _norm_tops(facts: Facts, fact: NodeFact, low: float, high: float) -> list[float] | None:
    tops = []
    for s, b, m, v in _channels(facts, fact, 1, 2, 3, 4):
        if not v + _epsilon(fact) > 0 or not isfinite(s):
            return None
        factor = s / sqrt(v + _epsilon(fact))
        tops.append(max(_times(factor, high - m), _times(factor, low - m)) + b)
    return tops
