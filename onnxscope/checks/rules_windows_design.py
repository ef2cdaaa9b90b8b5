"""Rules about the design of convolutions: work that another arrangement saves, or that buys nothing."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import by, by_place, next_layer, nodes, operand, whole
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import several
from onnxscope.checks.registry import check


@check("OX619", "gridding-dilations", severity="note")
def gridding(facts: Facts) -> Iterator[Finding]:
    """Dilated convolutions in a row with a common factor read a grid, not an area.

    What it flags:
        Two convolutions in a row (activations between them don't count) whose dilations on an axis share a
        factor above 1.

    Why it matters:
        Each output depends only on every second (third, ...) pixel: neighbours come from separate sub-images,
        and small things fall between the holes.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,12,12] x) => (float[1,1,4,4] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          a = Conv <dilations = [2, 2]> (x, w)
          y = Conv <dilations = [2, 2]> (a, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,12,12] x) => (float[1,1,4,4] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          a = Conv <dilations = [1, 1]> (x, w)
          y = Conv <dilations = [3, 3]> (a, w)
        }

    Fix and its safety:
        Use dilations without a common factor (1, 2, 5, ...); needs retraining.

    Source:
        Wang et al., "Understanding Convolution for Semantic Segmentation", 2018, section 3.2.
    """
    places = by_place(facts)
    for fact in nodes(facts, "Conv"):
        window, after = fact.inferred.window, next_layer(facts, places, fact)
        other = after.inferred.window if after is not None and after.node.op == "Conv" else None
        if window is None or other is None or len(other.kernel) != len(window.kernel) or after is None:
            continue
        for axis, (first, second) in enumerate(zip(window.dilations, other.dilations, strict=True)):
            wide = window.kernel[axis] != 1 and other.kernel[axis] != 1 and window.strides[axis] == 1
            if wide and gcd(first, second) > 1:
                yield gridding.finding(
                    after.label,
                    f"dilation {second} after dilation {first} ({fact.label}): only every "
                    f"{gcd(first, second)}. "
                    "pixel is read",
                    dilations=[first, second],
                )
                break


@check("OX620", "bottleneck-that-costs", severity="note")
def bottleneck(facts: Facts) -> Iterator[Finding]:
    """A 1x1 convolution in front of a larger one costs more than it saves.

    What it flags:
        A 1x1 convolution (no groups) whose only reader is a larger convolution (no groups, activations
        between them don't count), that lowers the channels by so little that both together multiply more than
        the larger one alone would.

    Why it matters:
        A bottleneck from C to R channels in front of a KxK layer with M outputs pays where C*R + R*M*K*K is
        below C*M*K*K. Above, it adds work, a layer and its latency. It may still be wanted for its
        activation.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,8,8,8] x, float[7,8,1,1] v, float[4,7,3,3] w) => (float[1,4,6,6] y) {
          a = Conv (x, v)
          y = Conv (a, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,8,8,8] x, float[2,8,1,1] v, float[4,2,3,3] w) => (float[1,4,6,6] y) {
          a = Conv (x, v)
          y = Conv (a, w)
        }

    Fix and its safety:
        Lower the channels further, or drop the 1x1 layer; needs retraining. With no activation between them
        the two are one convolution (its weights are their product, exact up to rounding, padding apart).

    Source:
        Lin et al., "Network In Network", 2014; Szegedy et al., "Going Deeper with Convolutions", 2015;
        cs231n.
    """
    places = by_place(facts)
    for fact in nodes(facts, "Conv"):
        after = next_layer(facts, places, fact)
        if after is None or after.node.op != "Conv":
            continue
        first, second = _plain_shape(facts, fact), _plain_shape(facts, after)
        if first is None or second is None or any(n != 1 for n in first[2:]):
            continue
        window = fact.inferred.window
        taps, (reduced, channels) = _count(second[2:]), first[:2]
        if taps == 1 or reduced >= channels or second[1] != reduced or window is None:
            continue
        with_it, without = channels * reduced + reduced * second[0] * taps, channels * second[0] * taps
        if with_it >= without and set(window.strides) == {1}:
            yield bottleneck.finding(
                fact.label,
                f"1x1 bottleneck {channels} -> {reduced} in front of {after.label} ({by(second[2:])}, "
                f"{reduced} -> {second[0]}) doesn't pay: {with_it} MACs per position with it, {without} "
                "without",
                "lower its channels, or drop it",
                with_bottleneck=with_it,
                without=without,
            )


def _plain_shape(facts: Facts, fact: NodeFact) -> tuple[int, ...] | None:
    """Shape [M, C, *K] of an ungrouped convolution's weight; None where unknown."""
    shape = facts.value(fact.node.inputs[1], fact.scope).shape if len(fact.node.inputs) > 1 else None
    if shape is None or len(shape) < 3 or whole(fact.node.attribute("group"), 1) != 1:
        return None
    plain = tuple(size for size in shape if isinstance(size, int))
    return plain if len(plain) == len(shape) else None


def _count(kernel: tuple[int, ...]) -> int:
    taps = 1
    for size in kernel:
        taps *= size
    return taps


@check("OX621", "pool-right-after-convolution", severity="note")
def pool_after_conv(facts: Facts) -> Iterator[Finding]:
    """A strided pool throws away most of what the convolution before it computed.

    What it flags:
        A stride-1 convolution that only a pool with stride 2 or more reads (an activation between them
        doesn't count), with the multiply-accumulates that a strided convolution would need instead; one
        finding, for the layer with most to save.

    Why it matters:
        A convolution with the pool's stride has the same parameters, the same output size and 1/stride**2 of
        the work. Many networks lose little accuracy by it.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,8,8] x) => (float[1,1,3,3] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          a = Conv (x, w)
          b = Relu (a)
          y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,8,8] x) => (float[1,1,3,3] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          a = Conv <strides = [2, 2]> (x, w)
          y = Relu (a)
        }

    Fix and its safety:
        Give the convolution the stride and drop the pool; the outputs change, so retrain.

    Source:
        Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015; cs231n, "Getting rid
        of pooling".
    """
    found = sorted(_pooled_at_once(facts), key=_work, reverse=True)
    if not found:
        return
    fact, after, saved = found[0]
    macs = fact.inferred.macs.value if fact.inferred.macs else 0
    strided = macs // saved if isinstance(macs, int) else f"1/{saved} of that"
    more = f"; {len(found) - 1} more such: {several(row[0].label for row in found[1:])}" if found[1:] else ""
    yield pool_after_conv.finding(
        fact.label,
        f"its map goes to {after.label} only, which keeps 1 of {saved} positions: {macs} MACs, {strided} "
        f"with the pool's stride in the convolution{more}",
        "a strided convolution has the same parameters; retrain to try it",
        macs=macs if isinstance(macs, int) else str(macs),
        factor=saved,
        layers=[row[0].label for row in found],
    )


def _pooled_at_once(facts: Facts) -> Iterator[tuple[NodeFact, NodeFact, int]]:
    """(convolution, pool, positions per cell of the pool's map) of convolutions that only a pool reads."""
    places = by_place(facts)
    for fact in nodes(facts, "Conv"):
        window, after = fact.inferred.window, next_layer(facts, places, fact)
        if window is None or after is None or after.node.op not in ("MaxPool", "AveragePool"):
            continue
        saved = _count(after.inferred.window.strides) if after.inferred.window is not None else 1
        counted = fact.inferred.macs is not None and not _is_pointwise(window.kernel)
        if set(window.strides) == {1} and saved > 1 and counted:
            yield fact, after, saved


def _work(row: tuple[NodeFact, NodeFact, int]) -> int:
    """What the stride would save, where sizes are known."""
    macs = row[0].inferred.macs
    return macs.value - macs.value // row[2] if macs and isinstance(macs.value, int) else 0


def _is_pointwise(kernel: tuple[object, ...]) -> bool:
    return all(size == 1 for size in kernel)


@check("OX622", "depthwise-without-pointwise", severity="note")
def depthwise_alone(facts: Facts) -> Iterator[Finding]:
    """Two depthwise convolutions in a row: the channels never meet.

    What it flags:
        A depthwise convolution whose next layer (activations and normalizations don't count) is depthwise
        too.

    Why it matters:
        A depthwise layer filters each channel alone; without a 1x1 layer behind it nothing mixes channels.
        Two in a row are one depthwise layer with a larger kernel, computed in two passes over memory.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,5,5] x, float[2,1,3,3] v, float[2,1,3,3] w) => (float[1,2,1,1] y) {
          a = Conv <group = 2> (x, v)
          y = Conv <group = 2> (a, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,5,5] x, float[2,1,3,3] v, float[4,2,1,1] w) => (float[1,4,3,3] y) {
          a = Conv <group = 2> (x, v)
          y = Conv (a, w)
        }

    Fix and its safety:
        Add a 1x1 convolution between them, or join them into one larger kernel; needs retraining.

    Source:
        Howard et al., "MobileNets", 2017, section 3.1; Chollet, "Xception", 2017.
    """
    places = by_place(facts)
    for fact in nodes(facts, "Conv"):
        if not _depthwise(facts, fact):
            continue
        after = next_layer(facts, places, fact)
        if after is not None and after.node.op == "Conv" and _depthwise(facts, after):
            yield depthwise_alone.finding(
                fact.label,
                f"depthwise convolution followed by another, {after.label}: nothing mixes the channels",
            )


def _depthwise(facts: Facts, fact: NodeFact) -> bool:
    group = whole(fact.node.attribute("group"), 1)
    shape = facts.value(fact.node.inputs[0], fact.scope).shape
    kernel = fact.inferred.window.kernel if fact.inferred.window is not None else (1,)
    per_channel = group > 1 and shape is not None and len(shape) > 2 and shape[1] == group
    return per_channel and not _is_pointwise(kernel)


@check("OX623", "chain-of-plain-convolutions", severity="note")
def linear_chain(facts: Facts) -> Iterator[Finding]:
    """Two convolutions without an activation between them are one linear map.

    What it flags:
        A convolution (no groups) whose only reader is directly another ungrouped convolution, where the two
        multiply more than one joined convolution would.

    Why it matters:
        Depth without a non-linearity adds no power: the pair computes what one layer with the joined kernel
        does, and where that is smaller the pair wastes work at inference.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4,8,8] x, float[8,4,3,3] v, float[4,8,1,1] w) => (float[1,4,6,6] y) {
          a = Conv (x, v)
          y = Conv (a, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4,8,8] x, float[8,4,3,3] v, float[4,8,1,1] w) => (float[1,4,6,6] y) {
          a = Conv (x, v)
          b = Relu (a)
          y = Conv (b, w)
        }

    Fix and its safety:
        Multiply the two weights into one (exact up to rounding where the second layer has no padding), or add
        the missing activation and retrain.

    Source:
        cs231n, "Prefer a stack of small filter CONV", which needs non-linearities between the layers.
    """
    places = by_place(facts)
    for fact in nodes(facts, "Conv"):
        after = next_layer(facts, places, fact)
        if after is None or after.node.op != "Conv" or operand(after.node) not in fact.node.outputs:
            continue
        first, second, window = _plain_shape(facts, fact), _plain_shape(facts, after), after.inferred.window
        if first is None or second is None or window is None or set(window.strides) != {1}:
            continue
        taps = 1
        for a, b, dilation in zip(first[2:], second[2:], window.dilations, strict=False):
            taps *= a + dilation * (b - 1)
        pair = _count(first) + _count(second)
        joined = first[1] * second[0] * taps
        if joined < pair:
            yield linear_chain.finding(
                fact.label,
                f"no activation between {fact.label} and {after.label}: {pair} weights where one "
                "convolution has "
                f"{joined}",
                "join them, or add the activation that is missing",
                pair=pair,
                joined=joined,
            )


@check("OX607", "group-that-does-not-divide", severity="error")
def uneven_groups(facts: Facts) -> Iterator[Finding]:
    """The group count doesn't divide the channels.

    What it flags:
        A convolution whose input or output channels aren't a multiple of `group`.

    Why it matters:
        No runtime can split the channels; loading or the first run fails.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4,4,4] x) => (float[1,3,4,4] y) <float[3,2,1,1] w = {1,2,3,4,5,6}> {
          y = Conv <group = 2> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4,4,4] x) => (float[1,2,4,4] y) <float[2,2,1,1] w = {1,2,3,4}> {
          y = Conv <group = 2> (x, w)
        }

    Fix and its safety:
        Correct `group` or the weight's shape in the exporter; nothing can be saved in the file.

    Source:
        ONNX Operators.md, Conv: C and M are divisible by group.
    """
    for fact in facts.nodes():
        if fact.node.op not in ("Conv", "ConvTranspose", "ConvInteger") or len(fact.node.inputs) < 2:
            continue
        group = whole(fact.node.attribute("group"), 1)
        x, w = (facts.value(name, fact.scope).shape for name in fact.node.inputs[:2])
        if x is None or w is None or len(x) < 3 or len(w) < 3:
            continue
        channels = (x[1], w[0] if fact.node.op != "ConvTranspose" else None)
        uneven = [n for n in channels if isinstance(n, int) and (group < 1 or n % group)]
        if uneven:
            message = f"group {group} does not divide {uneven[0]} channels"
            yield uneven_groups.finding(fact.label, message, group=group, channels=uneven[0])
