"""OX530-OX532: softmax axes, results nobody reads, arithmetic on shapes that are known."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import CARRIERS, nodes, operand, producer, whole
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at
from onnxscope.checks.registry import check
from onnxscope.checks.rules_graph import together
from onnxscope.expr import product


@check("OX530", "softmax-over-image-axis", severity="warning")
def softmax_over_image_axis(facts: Facts) -> Iterator[Finding]:
    """A Softmax over a feature map doesn't normalize over the channels alone.

    What it flags:
        Softmax and LogSoftmax (not Hardmax) on the map [N, C, *S] of a convolution, with more than one cell:
        over the image's width (the default axis from opset 13 on), or, below opset 13, over all axes from
        the given one on.

    Why it matters:
        Class probabilities are wrong: below opset 13 axis 1 sums to 1 over classes and pixels together.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 3, 8, 8] x, float[5, 3, 1, 1] w) => (float[1, 5, 8, 8] y) {
            h = Conv(x, w)
            y = Softmax(h)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 3, 8, 8] x, float[5, 3, 1, 1] w) => (float[1, 5, 8, 8] y) {
            h = Conv(x, w)
            y = Softmax <axis = 1> (h)
        }

    Fix and its safety:
        axis=1 with opset 13 or more; the outputs change to what was meant. Where a softmax over positions is
        meant, allow this rule.

    Source:
        ONNX Changelog.md, Softmax-11 (coerced to two axes) and Softmax-13 (default axis -1).
    """
    old = facts.model.opset.get("", 13) < 13
    for fact in nodes(facts, "Softmax", "LogSoftmax"):
        shape = facts.value(fact.node.inputs[0], fact.scope).shape
        if shape is None or len(shape) < 3 or not _of_convolution(facts, fact):
            continue
        axis = whole(fact.node.attribute("axis"), 1 if old else -1)
        axis += len(shape) if axis < 0 else 0
        if old and axis <= 1 and product(shape[2:]) != 1:
            text = f"Softmax of opset {facts.model.opset.get('', 0)} over all axes from {axis} on"
        elif axis >= 2 and shape[axis : axis + 1] != (1,):
            text = f"Softmax over axis {axis}, an axis of the image"
        else:
            continue
        sizes = ", ".join(map(str, shape))
        yield at(
            softmax_over_image_axis.finding(fact.label, f"{text}, of a feature map [{sizes}]"), fact.node
        )


def _of_convolution(facts: Facts, fact: NodeFact) -> bool:
    """Whether the input is a convolution's map, perhaps normalized or activated."""
    name = fact.node.inputs[0]
    for _ in range(8):
        found = producer(facts, fact.scope, name)
        if found is None:
            return False
        if found.op in ("Conv", "ConvTranspose"):
            return True
        if found.op not in CARRIERS and found.op != "Add":
            return False
        name = operand(found)
    return False


@check("OX531", "unread-result", severity="note")
def unread_result(facts: Facts) -> Iterator[Finding]:
    """An optional result is asked for and never read.

    What it flags:
        Second and later outputs of MaxPool, Dropout, BatchNormalization and LayerNormalization that have a
        name and no reader; one finding.

    Why it matters:
        Asking for pool indices or a dropout mask costs time and memory, and picks slower kernels.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y) {
            y, places = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y) {
            y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        }

    Fix and its safety:
        Remove the output's name; exact.

    Source:
        ONNX IR.md, "Optional Inputs and Outputs".
    """
    found = []
    for fact in nodes(facts, "MaxPool", "Dropout", "BatchNormalization", "LayerNormalization"):
        graph = facts.scopes[fact.scope].graph
        outputs = {info.name for info in graph.outputs}
        extra = [name for name in fact.node.outputs[1:] if name]
        if extra and not any(name in graph.consumers or name in outputs for name in extra):
            found.append(fact)
    yield from together(unread_result, found, "node with an optional result that nobody reads")


@check("OX532", "known-shape-arithmetic", severity="note")
def known_shape_arithmetic(facts: Facts) -> Iterator[Finding]:
    """The graph computes sizes that are known beforehand.

    What it flags:
        Shape and Size nodes of values whose sizes are all numbers; one finding.

    Why it matters:
        Every node behind them (Gather, Concat, Reshape's target) could be a constant: small work, but many
        nodes, and converters with static shapes stumble over them.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3] x) => (int64[2] y) { y = Shape(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 3] x) => (int64[2] y) { y = Shape(x) }

    Fix and its safety:
        Fold them (onnxsim, onnxslim); exact for the declared sizes, and only for those.

    Source:
        onnxsim README; onnxruntime, ConstantFolding of Shape.
    """
    found = []
    for fact in nodes(facts, "Shape", "Size"):
        shape = facts.value(fact.node.inputs[0], fact.scope).shape if fact.node.inputs else None
        if shape is not None and all(isinstance(size, int) for size in shape):
            found.append(fact)
    yield from together(known_shape_arithmetic, found, "node that asks for a shape that is known")
