"""OX510-OX517: what training left behind, and branches and loops that cost or hide work."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.analysis.cost import Cost
from onnxscope.analysis.facts import Facts
from onnxscope.checks._walk import items, nodes, number, whole
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, count_of, several
from onnxscope.checks.registry import check
from onnxscope.checks.rules_graph import together
from onnxscope.expr import Expr
from onnxscope.graph import domain_of


@check("OX510", "dropout-in-training", severity="error")
def dropout_in_training(facts: Facts) -> Iterator[Finding]:
    """Dropout drops at inference.

    What it flags:
        Dropout whose training_mode input is a constant true (opset 12 and up) with a ratio above 0, or whose
        is_test attribute is 0 (opset 1 to 6).

    Why it matters:
        Results are random and wrong: every run zeroes other values.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) <float r = {0.5}, bool t = {1}> { y = Dropout(x, r, t) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) <float r = {0.5}, bool t = {0}> { y = Dropout(x, r, t) }

    Fix and its safety:
        Export in evaluation mode (torch: `model.eval()`); that is what was meant unless the model samples.

    Source:
        ONNX Operators.md, Dropout-12; onnxscript#1791.
    """
    for fact in nodes(facts, "Dropout"):
        version = facts.model.opset.get("", 0)
        if version >= 12:
            training = bool(number(facts, fact, 2)) and number(facts, fact, 1) != 0
        else:
            training = version < 7 and not whole(fact.node.attribute("is_test"), 0)
        if training:
            text = "Dropout is in training mode: every run drops other values"
            yield at(dropout_in_training.finding(fact.label, text), fact.node)


@check("OX511", "batchnorm-in-training", severity="error")
def batchnorm_in_training(facts: Facts) -> Iterator[Finding]:
    """BatchNormalization uses the statistics of the batch.

    What it flags:
        training_mode=1 (opset 14 and up), or more than one output given (opset 7 to 13).

    Why it matters:
        Each image's result depends on the others in its batch; with a batch of one it is garbage.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 2, 4] x, float[2] s, float[2] b, float[2] m, float[2] v) => (float[N, 2, 4] y) {
            y, m2, v2 = BatchNormalization <training_mode = 1> (x, s, b, m, v)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 2, 4] x, float[2] s, float[2] b, float[2] m, float[2] v) => (float[N, 2, 4] y) {
            y = BatchNormalization(x, s, b, m, v)
        }

    Fix and its safety:
        Export in evaluation mode (torch: `model.eval()`); the running statistics are then used, as trained.

    Source:
        ONNX Operators.md, BatchNormalization-14; onnxruntime#26584.
    """
    version = facts.model.opset.get("", 0)
    for fact in nodes(facts, "BatchNormalization"):
        extra = [name for name in fact.node.outputs[1:] if name]
        training = whole(fact.node.attribute("training_mode"), 0) if version >= 14 else version >= 7 and extra
        if training:
            text = "BatchNormalization is in training mode: results depend on the rest of the batch"
            yield at(batchnorm_in_training.finding(fact.label, text), fact.node)


@check("OX512", "random-op", severity="warning")
def random_op(facts: Facts) -> Iterator[Finding]:
    """The model draws random numbers.

    What it flags:
        RandomNormal, RandomUniform, their Like forms, Bernoulli and Multinomial; one finding with the ops.

    Why it matters:
        Two runs differ; without a seed they can't be repeated, and no two runtimes draw alike.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) {
            r = RandomNormalLike(x)
            y = Add(x, r)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x, float[N] r) => (float[N] y) { y = Add(x, r) }

    Fix and its safety:
        Make the noise an input of the model; callers then decide.

    Source:
        ONNX Operators.md, RandomNormal; onnxsim#175.
    """
    ops = (
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    )
    found = list(nodes(facts, *ops))
    kinds = several(dict.fromkeys(fact.node.op for fact in found))
    seeded = sum(fact.node.attribute("seed") is not None for fact in found)
    yield from together(random_op, found, f"random numbers: {kinds}; {seeded} with a seed")


_TRAINING = frozenset("SoftmaxCrossEntropyLoss NegativeLogLikelihoodLoss".split())
_OPTIMIZERS = frozenset("Gradient Adam Momentum Adagrad GraphCall".split())


@check("OX513", "training-op", severity="warning")
def training_op(facts: Facts) -> Iterator[Finding]:
    """Losses, gradients or optimizers in the graph.

    What it flags:
        Loss ops, ops of ONNX's training domains, and onnxruntime's gradient ops; one finding.

    Why it matters:
        The file is a training graph: it wants labels, and inference runtimes may refuse it.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 10] x, int64[N] t) => (float y) {
            y = SoftmaxCrossEntropyLoss(x, t)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 10] x) => (float[N, 10] y) { y = Softmax(x) }

    Fix and its safety:
        Export the inference graph; cutting this one at the logits gives the same.

    Source:
        ONNX Operators.md; ai.onnx.preview.training.
    """
    found = []
    for fact in facts.nodes():
        domain, op = domain_of(fact.node.domain), fact.node.op
        loss = not domain and op in _TRAINING
        step = domain.endswith("training") and op in _OPTIMIZERS
        if loss or step or (domain == "com.microsoft" and op.endswith(("Grad", "Optimizer", "OptimizerV2"))):
            found.append(fact)
    yield from together(training_op, found, "training node")


@check("OX514", "dropout-left-over", severity="note")
def dropout_left_over(facts: Facts) -> Iterator[Finding]:
    """Dropout that does nothing.

    What it flags:
        Dropout nodes in inference mode; one finding with their number.

    Why it matters:
        They are copies: noise for readers, and a node that some converters don't know.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Dropout(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Remove them; exact as long as nobody asks for training.

    Source:
        ONNX Operators.md, Dropout; onnxruntime, EliminateDropout.
    """
    version = facts.model.opset.get("", 0)
    found = []
    for fact in nodes(facts, "Dropout"):
        given = len(fact.node.inputs) > 2 and bool(fact.node.inputs[2])
        training = given and number(facts, fact, 2) != 0
        if version >= 7 and (not training or number(facts, fact, 1) == 0):
            found.append(fact)
    yield from together(dropout_left_over, found, "Dropout node without effect")


@check("OX515", "constant-condition", severity="warning", fix="onnxslim MODEL OUT")
def constant_condition(facts: Facts) -> Iterator[Finding]:
    """An If that always takes the same branch.

    What it flags:
        If nodes whose condition is a constant; the message names the branch.

    Why it matters:
        The other branch is dead weight, and many converters don't take control flow at all.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) <bool c = {1}> {
            y = If(c) <
                then_branch = yes () => (float[N] a) { a = Relu(x) },
                else_branch = no () => (float[N] b) { b = Neg(x) }
            >
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x, bool c) => (float[N] y) {
            y = If(c) <
                then_branch = yes () => (float[N] a) { a = Relu(x) },
                else_branch = no () => (float[N] b) { b = Neg(x) }
            >
        }

    Fix and its safety:
        Put the branch in place of the If; exact.

    Source:
        ONNX Operators.md, If; onnxruntime, ConstantFolding of If.
    """
    for fact in facts.nodes():
        if fact.node.op != "If" or domain_of(fact.node.domain) or not fact.node.inputs:
            continue
        known = items(facts, fact.scope, fact.node.inputs[0])
        if known is not None and len(known) == 1 and not isinstance(known[0], Expr):
            branch = "then_branch" if known[0] else "else_branch"
            text = f"constant condition: If always takes {branch}"
            yield at(constant_condition.finding(fact.label, text, branch=branch), fact.node)


@check("OX516", "unknown-trip-count", severity="note")
def unknown_trip_count(facts: Facts) -> Iterator[Finding]:
    """How often a Loop runs can't be told.

    What it flags:
        Loop nodes whose trip count is absent or computed from data.

    Why it matters:
        Costs and shapes depend on the data; a Loop without a count may never end on odd inputs.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (int64 m, bool c, float[2] x) => (float[2] y) {
            y = Loop(m, c, x) <body = b (int64 i, bool k, float[2] h) => (bool k2, float[2] h2) {
                k2 = Identity(k)
                h2 = Relu(h)
            }>
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (bool c, float[2] x) => (float[2] y) <int64 m = {3}> {
            y = Loop(m, c, x) <body = b (int64 i, bool k, float[2] h) => (bool k2, float[2] h2) {
                k2 = Identity(k)
                h2 = Relu(h)
            }>
        }

    Fix and its safety:
        Export with a fixed number of turns where the network has one.

    Source:
        ONNX Operators.md, Loop.
    """
    for fact in facts.nodes():
        if fact.node.op != "Loop" or domain_of(fact.node.domain) or not fact.node.inputs:
            continue
        if items(facts, fact.scope, fact.node.inputs[0]) is None:
            text = "the trip count of Loop is computed or absent: its cost depends on data"
            yield at(unknown_trip_count.finding(fact.label, text), fact.node)


@check("OX517", "subgraph-cost", severity="note")
def subgraph_cost(facts: Facts, cost: Cost) -> Iterator[Finding]:
    """Work is hidden in branches and loop bodies.

    What it flags:
        If, Loop and Scan nodes with a body whose MACs are known and not zero; one finding with their share of
        all MACs.

    Why it matters:
        What runs depends on data: totals count the larger branch, and each turn of a loop.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 2] x, bool c) => (float[2, 2] y) {
            y = If(c) <
                then_branch = yes () => (float[2, 2] a) { a = MatMul(x, x) },
                else_branch = no () => (float[2, 2] b) { b = Neg(x) }
            >
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 2] x) => (float[2, 2] y) { y = MatMul(x, x) }

    Fix and its safety:
        None needed where the branch is meant; else export without control flow.

    Source:
        onnxscope, analysis/cost.py: what totals count.
    """
    found = []
    for fact in facts.main.nodes:
        macs = fact.inferred.macs
        if fact.node.op in ("If", "Loop", "Scan") and macs is not None and macs.value != 0:
            found.append((fact, macs.value))
    if found:
        inside, total = sum((value for _, value in found), 0), cost.total
        share = ""
        if isinstance(inside, int) and isinstance(total, int) and total > 0:
            share = f", {inside / total:.0%} of all"
        labels = several(fact.label for fact, _ in found)
        text = f"{inside} MACs{share} are inside {count_of(len(found), 'node')} with subgraphs: {labels}"
        yield at(subgraph_cost.finding(found[0][0].label, text, nodes=len(found)), found[0][0].node)
