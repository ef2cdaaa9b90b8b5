"""OX526-OX529: copies, repeated work, large values, functions nobody calls."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.analysis.memory import Memory
from onnxscope.checks._walk import nodes, number, only_reader
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import places
from onnxscope.checks.registry import check
from onnxscope.checks.rules_graph import together
from onnxscope.graph import Model, domain_of

LARGE_ACTIVATION = 128 << 20
"""Bytes of values alive at once from which a device may run out of memory."""


@check("OX526", "pad-not-folded", severity="note", fix="onnxslim MODEL OUT")
def pad_not_folded(facts: Facts) -> Iterator[Finding]:
    """Zero padding as a node of its own.

    What it flags:
        Pad nodes with zeros whose only reader is a convolution, which has pads of its own; one finding.

    Why it matters:
        The padded map is a copy of the whole map.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <
            int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}, float[1, 1, 3, 3] k = {0, 1, 2, 3, 4, 5, 6, 7, 8}
        > {
            h = Pad(x, p)
            y = Conv(h, k)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y)
        <float[1, 1, 3, 3] k = {0, 1, 2, 3, 4, 5, 6, 7, 8}> {
            y = Conv <pads = [1, 1, 1, 1]> (x, k)
        }

    Fix and its safety:
        Move the pads into the convolution; exact for zeros on spatial axes.

    Source:
        onnxruntime, PadFusion.
    """
    found = []
    for fact in nodes(facts, "Pad"):
        reader = only_reader(facts, fact)
        zeros = number(facts, fact, 2) in (None, 0) and not fact.node.attribute("value")
        constant = fact.node.attribute("mode") in (None, b"constant")
        given = len(fact.node.inputs) > 2 and bool(fact.node.inputs[2])
        known = not given or number(facts, fact, 2) == 0
        if (
            reader is not None
            and reader.op == "Conv"
            and zeros
            and constant
            and known
            and _spatial(facts, fact)
        ):
            found.append(fact)
    yield from together(pad_not_folded, found, "Pad that the convolution behind it could do")


def _spatial(facts: Facts, fact: NodeFact) -> bool:
    before = facts.value(fact.node.inputs[0], fact.scope).shape
    after = facts.value(fact.node.outputs[0], fact.scope).shape
    return before is not None and after is not None and before[:2] == after[:2]


@check("OX527", "duplicate-computation", severity="note", fix="onnxslim MODEL OUT")
def duplicate_computation(facts: Facts) -> Iterator[Finding]:
    """The same thing is computed twice.

    What it flags:
        Nodes with the same op, inputs and attributes as an earlier one (constants and random ops apart); one
        finding.

    Why it matters:
        Work done twice, unless the runtime notices.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            a = Exp(x)
            b = Exp(x)
            y = Add(a, b)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            a = Exp(x)
            y = Add(a, a)
        }

    Fix and its safety:
        Let the readers of the second read the first; exact.

    Source:
        onnxruntime, CommonSubexpressionElimination.
    """
    seen: set[tuple[object, ...]] = set()
    found = []
    for fact in facts.nodes():
        node = fact.node
        if not any(node.inputs) or fact.folded or fact.rule is None or not fact.rule.deterministic:
            continue
        simple = all(isinstance(item.value, (int, float, bytes, tuple)) for item in node.attributes)
        key = (fact.scope, domain_of(node.domain), node.op, node.inputs, len(node.outputs), node.attributes)
        if not simple or node.op in ("Dropout", "Identity") or next(node.subgraphs(), None):
            continue
        if key in seen:
            found.append(fact)
        seen.add(key)
    yield from together(duplicate_computation, found, "node that repeats an earlier one")


@check("OX528", "large-activations", severity="note")
def large_activations(facts: Facts, memory: Memory) -> Iterator[Finding]:
    """The values alive at one node need much memory.

    What it flags:
        A peak of 128 MiB or more of activations at one node, where all sizes are known; the node is named.

    Why it matters:
        On a small device the model doesn't fit, whatever the size of its weights.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 64, 1024, 1024] x) => (float[1, 64, 1024, 1024] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 64, 32, 32] x) => (float[1, 64, 32, 32] y) { y = Relu(x) }

    Fix and its safety:
        A smaller input or batch, or tiles; `onnxscope report` lists the sizes.

    Source:
        onnxscope, analysis/memory.py: what is counted.
    """
    peak = memory.peak_activation_bytes
    if isinstance(peak, int) and peak >= LARGE_ACTIVATION:
        text = f"{peak / (1 << 20):.0f} MiB of activations are alive at {memory.peak_node}"
        yield large_activations.finding(memory.peak_node, text, bytes=peak)


@check("OX529", "unused-function", severity="warning")
def unused_function(model: Model) -> Iterator[Finding]:
    """A function that nobody calls.

    What it flags:
        Model-local functions that no node of the graph reaches, directly or through other functions.

    Why it matters:
        Dead bytes, and possibly ops that a runtime refuses for nothing.

    Bad:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Neg(a) }

    Good:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Neg(a) }

    Fix and its safety:
        Remove it; nothing refers to it.

    Source:
        ONNX IR.md, "Functions"; onnx-doctor SIM.
    """
    calls: dict[tuple[str, str] | None, set[tuple[str, str]]] = {}
    for place in places(model):
        holder = place.function
        key = None if holder is None else (domain_of(holder.domain), holder.name)
        calls.setdefault(key, set()).update((domain_of(node.domain), node.op) for node in place.graph.nodes)
    reached: set[tuple[str, str]] = set()
    waiting = list(calls.get(None, ()))
    while waiting:
        key = waiting.pop()
        if key not in reached:
            reached.add(key)
            waiting += calls.get(key, ())
    for function in model.functions:
        if (domain_of(function.domain), function.name) not in reached:
            name = f"{function.domain}.{function.name}"
            yield unused_function.finding(name, f"unused function: nothing calls {name!r}")
