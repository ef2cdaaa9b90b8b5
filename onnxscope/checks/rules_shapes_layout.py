"""OX226-OX228: shapes nobody can tell, pools that tools disagree on, channels-last inputs."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.analysis.facts import Facts
from onnxscope.checks._walk import by, nodes
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at
from onnxscope.checks.registry import check
from onnxscope.expr import Size


@check("OX226", "unknown-shapes", severity="note")
def unknown_shapes(facts: Facts) -> Iterator[Finding]:
    """Some shapes can't be told before the model runs.

    What it flags:
        Node outputs without a rank, with their share and the first node that can't be answered.

    Why it matters:
        Costs and memory are lower bounds; converters with static shapes stop there.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[] y) { y = my.Mystery(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Give the inputs shapes; inline or replace custom ops.

    Source:
        onnxruntime#21120.
    """
    total, unknown, first = 0, 0, None
    for fact in facts.nodes():
        values = [facts.value(name, fact.scope) for name in fact.node.outputs if name]
        lost = sum(value.shape is None and not value.container for value in values)
        total, unknown = total + len(values), unknown + lost
        first = fact if lost and first is None else first
    if first is not None:
        text = f"unknown shapes: {unknown} of {total} values ({unknown / total:.0%}), the first at "
        finding = unknown_shapes.finding(
            first.label, f"{text}{first.label} ({first.node.op})", unknown=unknown, values=total
        )
        yield at(finding, first.node)


@check("OX227", "pool-ceil-drift", severity="warning")
def pool_ceil_drift(facts: Facts) -> Iterator[Finding]:
    """A pool's size depends on who computes it.

    What it flags:
        Pools with ceil_mode below opset 22 whose last window would start in the padding: shape inference of
        the onnx package counts it, onnxruntime drops it; both sizes are named.

    Why it matters:
        Declared shapes are one cell too large: buffers, Concat and Reshape behind it don't fit.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 3, 3] x) => (float[1, 1, 2, 2] y) {
            y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1, pads = [1, 1, 1, 1]> (x)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 5, 5] x) => (float[1, 1, 2, 2] y) {
            y = MaxPool <kernel_shape = [2, 2], strides = [3, 3], ceil_mode = 1> (x)
        }

    Fix and its safety:
        Choose pads so that no window starts outside, or use opset 22; compare with `onnxscope verify`.

    Source:
        ONNX Operators.md, MaxPool-22; onnx PR#5741; measured with onnx 1.23 and onnxruntime 1.32.
    """
    if facts.model.opset.get("", 0) >= 22:
        return
    for fact in nodes(facts, "MaxPool", "AveragePool", "LpPool"):
        window = fact.inferred.window
        before = facts.value(fact.node.inputs[0], fact.scope).shape
        if window is None or before is None or not fact.node.attribute("ceil_mode"):
            continue
        rank = len(window.kernel)
        simple: list[Size] = [
            -(-(before[2 + i] + window.pads[i] + window.pads[i + rank] - cover) // window.strides[i]) + 1
            for i, cover in enumerate(
                d * (k - 1) + 1 for d, k in zip(window.dilations, window.kernel, strict=True)
            )
        ]
        ours = [axis.value for axis in fact.inferred.axes]
        plain = all(isinstance(size, int) for size in (*simple, *ours))
        if plain and simple != ours:
            text = f"ceil_mode: shape inference says {by(tuple(simple))}, runtimes give {by(tuple(ours))}"
            yield at(pool_ceil_drift.finding(fact.label, text), fact.node)


@check("OX228", "channels-last-sandwich", severity="note")
def channels_last_sandwich(facts: Facts) -> Iterator[Finding]:
    """The input comes channels-last and is transposed first.

    What it flags:
        A graph input that a Transpose turns from [N, H, W, C] into [N, C, H, W].

    Why it matters:
        One copy of the image per run; tools that guess the layout from the input take H for the channels.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 8, 8, 3] x) => (float[1, 3, 8, 8] y) { y = Transpose <perm = [0, 3, 1, 2]> (x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y) { y = Relu(x) }

    Fix and its safety:
        Export channels-first (tf2onnx: `--inputs-as-nchw x:0`); callers must feed the other layout then.

    Source:
        tensorflow-onnx#117; tf2onnx README, `--inputs-as-nchw`.
    """
    inputs = {info.name for info in facts.main.graph.inputs}
    for fact in nodes(facts, "Transpose"):
        perm = fact.node.attribute("perm")
        if perm in ((0, 3, 1, 2), (0, 4, 1, 2, 3)) and fact.node.inputs[0] in inputs:
            text = f"channels-last input: {fact.node.inputs[0]!r} is transposed first"
            yield at(channels_last_sandwich.finding(fact.label, text), fact.node)
