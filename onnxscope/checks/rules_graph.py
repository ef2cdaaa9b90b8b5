"""OX501-OX509: nodes that do nothing, and pairs that undo each other."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import items, nodes, producer
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, count_of, places, several
from onnxscope.checks.registry import RuleInfo, check
from onnxscope.graph import Model, Node, captures


def together(info: RuleInfo, facts: list[NodeFact], text: str) -> Iterator[Finding]:
    """One finding for all nodes with a defect, placed at the first; none where there are none."""
    if facts:
        message = f"{text} ({count_of(len(facts), 'node')}): {several(fact.label for fact in facts)}"
        yield at(info.finding(facts[0].label, message, nodes=len(facts)), facts[0].node)


@check("OX501", "dead-node", severity="warning", fix="onnxslim MODEL OUT")
def dead_node(model: Model) -> Iterator[Finding]:
    """Nodes whose results nobody uses.

    What it flags:
        Nodes from which no path leads to an output of their graph; one finding per graph.

    Why it matters:
        Left-overs of an edit or export: they cost size, and time in tools that run them.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            y = Relu(x)
            z = Neg(x)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            z = Neg(x)
            y = Relu(z)
        }

    Fix and its safety:
        Remove them; no output depends on them. If one should have been an output, the export is wrong.

    Source:
        onnx-doctor SIM; onnxruntime removes them when it loads the model.
    """
    for place in places(model):
        needed = {info.name for info in place.graph.outputs}
        dead: list[Node] = []
        for node in reversed(place.graph.order):
            if needed.isdisjoint(node.outputs) and any(node.outputs):
                dead.append(node)
            else:
                needed.update((*node.inputs, *captures(node)))
        if dead and place.graph.outputs:
            dead.reverse()
            text = f"{count_of(len(dead), 'dead node')} without a path to an output: "
            labels = several(f"{place.path}{node.label}" for node in dead)
            finding = dead_node.finding(f"{place.path}{dead[0].label}", text + labels, nodes=len(dead))
            yield at(finding, dead[0])


@check("OX502", "identity-node", severity="note", fix="onnxslim MODEL OUT")
def identity_node(facts: Facts) -> Iterator[Finding]:
    """Nodes that hand on their input unchanged.

    What it flags:
        Identity, and Concat, Sum, Max, Min and Mean with a single input; one finding. Those between an input
        or initializer and an output of the graph are left out: they give it a second name.

    Why it matters:
        A copy per run where the runtime doesn't remove them; noise for every tool and reader.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            h = Identity(x)
            y = Relu(h)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Remove them and let readers read the input; exact.

    Source:
        ONNX Operators.md, Identity; onnxruntime, EliminateIdentity.
    """
    single = ("Concat", "Sum", "Max", "Min", "Mean")
    found = []
    for fact in nodes(facts, "Identity", *single):
        graph = facts.scopes[fact.scope].graph
        outer = fact.node.inputs[0] not in graph.producers
        handed_out = any(info.name in fact.node.outputs for info in graph.outputs)
        if len(fact.node.inputs) == 1 and not (outer and handed_out):
            found.append(fact)
    yield from together(identity_node, found, "node that hands on its input unchanged")


@check("OX503", "cast-to-same-type", severity="note")
def cast_to_same_type(facts: Facts) -> Iterator[Finding]:
    """Casts that change nothing.

    What it flags:
        Cast and CastLike nodes whose input already has the type they cast to; one finding.

    Why it matters:
        A copy per run where the runtime doesn't remove them.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Cast <to = 1> (x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (int64[N] x) => (float[N] y) { y = Cast <to = 1> (x) }

    Fix and its safety:
        Remove them; exact.

    Source:
        ONNX Operators.md, Cast.
    """
    found = []
    for fact in nodes(facts, "Cast", "CastLike"):
        before = facts.value(fact.node.inputs[0], fact.scope).dtype if fact.node.inputs else None
        if before is not None and before == facts.value(fact.node.outputs[0], fact.scope).dtype:
            found.append(fact)
    yield from together(cast_to_same_type, found, "cast to the type that the value has already")


@check("OX504", "cast-round-trip", severity="warning")
def cast_round_trip(facts: Facts) -> Iterator[Finding]:
    """A value is cast to another type and straight back.

    What it flags:
        Cast after Cast where the second restores the type before the first; the types are named.

    Why it matters:
        Through a narrower type (float32 to float16 and back) it loses digits without saving anything; through
        a wider one it is pure cost.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            h = Cast <to = 10> (x)
            y = Cast <to = 1> (h)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float16[N] x) => (int64[N] y) {
            h = Cast <to = 1> (x)
            y = Cast <to = 7> (h)
        }

    Fix and its safety:
        Remove both; exact through a wider type, else the result gains the digits that were lost.

    Source:
        ONNX Operators.md, Cast: rounding and saturation.
    """
    for fact in nodes(facts, "Cast"):
        first = producer(facts, fact.scope, fact.node.inputs[0])
        if first is None or first.op != "Cast":
            continue
        names = (first.inputs[0], fact.node.inputs[0], fact.node.outputs[0])
        before, between, after = (facts.value(name, fact.scope).dtype for name in names)
        if None not in (before, between) and before == after != between:
            kinds = " -> ".join(str(dtypes.name_of(kind)) for kind in (before, between, after))
            yield at(
                cast_round_trip.finding(fact.label, f"cast and back: {kinds} behind {first.label}"), fact.node
            )


def _perm(fact_or_node: Node, rank: int) -> tuple[int, ...]:
    perm = fact_or_node.attribute("perm")
    if isinstance(perm, tuple):
        return tuple(axis for axis in perm if isinstance(axis, int))
    return tuple(range(rank))[::-1]


@check("OX505", "transpose-pair", severity="warning", fix="onnxslim MODEL OUT")
def transpose_pair(facts: Facts) -> Iterator[Finding]:
    """Two transposes that cancel.

    What it flags:
        A Transpose of a Transpose whose permutations undo each other.

    Why it matters:
        Two copies of a whole map per run for nothing.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 2, 3, 4] x) => (float[1, 2, 3, 4] y) {
            h = Transpose <perm = [0, 2, 3, 1]> (x)
            y = Transpose <perm = [0, 3, 1, 2]> (h)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 2, 3, 4] x) => (float[1, 3, 4, 2] y) { y = Transpose <perm = [0, 2, 3, 1]> (x) }

    Fix and its safety:
        Remove both where nobody else reads the value between; exact.

    Source:
        ONNX Operators.md, Transpose; tensorflow-onnx, transpose optimizer.
    """
    for fact in nodes(facts, "Transpose"):
        first = producer(facts, fact.scope, fact.node.inputs[0])
        shape = facts.value(fact.node.inputs[0], fact.scope).shape
        if first is None or first.op != "Transpose" or shape is None:
            continue
        one, two = _perm(first, len(shape)), _perm(fact.node, len(shape))
        if len(one) == len(two) and tuple(one[axis] for axis in two) == tuple(range(len(two))):
            text = f"transposes cancel: {list(one)} at {first.label}, then {list(two)}"
            yield at(transpose_pair.finding(fact.label, text), fact.node)


@check("OX506", "transpose-without-effect", severity="note")
def transpose_without_effect(facts: Facts) -> Iterator[Finding]:
    """Transposes that move no numbers.

    What it flags:
        Transpose nodes whose permutation leaves every axis in place, or only moves axes of size 1.

    Why it matters:
        A Reshape (free) does the same; some runtimes copy.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 1, 1, 8] x) => (float[N, 8, 1, 1] y) { y = Transpose <perm = [0, 3, 1, 2]> (x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 2, 2, 8] x) => (float[N, 8, 2, 2] y) { y = Transpose <perm = [0, 3, 1, 2]> (x) }

    Fix and its safety:
        Remove it, or write a Reshape; exact.

    Source:
        ONNX Operators.md, Transpose.
    """
    found = []
    for fact in nodes(facts, "Transpose"):
        shape = facts.value(fact.node.inputs[0], fact.scope).shape
        perm = _perm(fact.node, len(shape or ()))
        if shape is None or sorted(perm) != list(range(len(shape))):
            continue
        moving = [axis for axis in perm if shape[axis] != 1]
        if moving == sorted(moving):
            found.append(fact)
    yield from together(transpose_without_effect, found, "transpose that moves no numbers")


@check("OX507", "reshape-chain", severity="note", fix="onnxslim MODEL OUT")
def reshape_chain(facts: Facts) -> Iterator[Finding]:
    """Reshapes right behind each other.

    What it flags:
        Reshape, Flatten, Squeeze and Unsqueeze nodes that only such a node feeds and that alone read it; one
        finding with their number.

    Why it matters:
        The last one alone gives the same; each is a node more for every tool.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3, 4] x) => (float[24] y) <int64[2] s = {2, 12}, int64[1] t = {24}> {
            h = Reshape(x, s)
            y = Reshape(h, t)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3, 4] x) => (float[24] y) <int64[1] t = {24}> { y = Reshape(x, t) }

    Fix and its safety:
        Keep the last one with its final shape; exact, but a target with 0 or -1 must be written for the first
        input.

    Source:
        ONNX Operators.md, Reshape.
    """
    ops = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
    found = []
    for fact in nodes(facts, *ops):
        graph = facts.scopes[fact.scope].graph
        first = graph.producers.get(fact.node.inputs[0]) if fact.node.inputs else None
        known = facts.value(fact.node.outputs[0], fact.scope).data is not None
        if first is not None and first.op in ops and not known:
            alone = len(graph.consumers.get(fact.node.inputs[0], ())) == 1
            if alone and not any(info.name == fact.node.inputs[0] for info in graph.outputs):
                found.append(fact)
    yield from together(reshape_chain, found, "reshape right behind another one")


@check("OX508", "reshape-without-effect", severity="note")
def reshape_without_effect(facts: Facts) -> Iterator[Finding]:
    """Reshapes to the shape that the value has.

    What it flags:
        Reshape, Flatten, Squeeze, Unsqueeze and Expand nodes whose output shape is their input shape,
        whatever the free sizes are.

    Why it matters:
        They do nothing; a Reshape with a constant target may still pin a size.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 12] x) => (float[N, 12] y) { y = Flatten(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 3, 4] x) => (float[N, 12] y) { y = Flatten(x) }

    Fix and its safety:
        Remove them; exact.

    Source:
        ONNX Operators.md, Reshape, Flatten.
    """
    found = []
    for fact in nodes(facts, "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"):
        before = facts.value(fact.node.inputs[0], fact.scope).shape if fact.node.inputs else None
        same = before is not None and before == facts.value(fact.node.outputs[0], fact.scope).shape
        target = fact.node.inputs[1:2] if fact.node.op in ("Reshape", "Expand") else ()
        if same and all(items(facts, fact.scope, name) is not None for name in target):
            found.append(fact)  # a shape that only the declaration tells proves nothing
    yield from together(reshape_without_effect, found, "reshape to the shape that the value has")


@check("OX509", "repeated-activation", severity="warning")
def repeated_activation(facts: Facts) -> Iterator[Finding]:
    """An activation right behind one that leaves it nothing to do, or behind itself.

    What it flags:
        Relu behind Relu, Sigmoid, Softmax, HardSigmoid, Softplus or Abs; Softmax behind Softmax; Sigmoid
        behind Sigmoid or Softmax; Tanh behind Tanh; Abs behind Relu.

    Why it matters:
        Relu there has no effect. A Softmax or Sigmoid twice flattens the probabilities: usually the model
        already ended with one and the exporter's wrapper added a second.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 10] x) => (float[N, 10] y) {
            p = Softmax(x)
            y = Softmax(p)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 10] x) => (float[N, 10] y) {
            p = Relu(x)
            y = Softmax(p)
        }

    Fix and its safety:
        Remove the second one: exact for Relu and Abs; for the others the outputs change (to what was meant?).

    Source:
        Definitions of the functions: Relu(v) = v for v >= 0; softmax and sigmoid are not idempotent.
    """
    positive = {"Relu", "Sigmoid", "Softmax", "HardSigmoid", "Softplus", "Abs"}
    behind = {
        "Relu": positive, "Abs": {"Relu", "Abs"}, "Softmax": {"Softmax"},
        "Sigmoid": {"Sigmoid", "Softmax"}, "Tanh": {"Tanh"},
    }  # fmt: skip
    for fact in nodes(facts, *behind):
        first = producer(facts, fact.scope, fact.node.inputs[0])
        if first is not None and first.op in behind[fact.node.op] and not first.domain:
            text = f"{fact.node.op} right behind {first.op} {first.label}"
            effect = "has no effect" if fact.node.op in ("Relu", "Abs") else "changes the values once more"
            yield at(repeated_activation.finding(fact.label, f"{text} {effect}"), fact.node)
