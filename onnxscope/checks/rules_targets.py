"""Rules for a deployment target (`--target`): ops, types and shapes that it doesn't run, or runs badly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from math import inf
from shlex import quote

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks import targets, targets_known
from onnxscope.checks._walk import numbers
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import count_of, several
from onnxscope.checks.registry import check
from onnxscope.expr import Expr
from onnxscope.graph import Node, captures, domain_of

_FIXED = "python -m onnxruntime.tools.make_dynamic_shape_fixed"
_OPERATOR_FORM = re.compile(r"QLinear|QGemm$|QAttention$|DynamicQuantize(MatMul|LSTM)$|\w+Integer(ToFloat)?$")
"""Ops that compute with quantized numbers themselves, ONNX's and onnxruntime's."""


@check("OX701", "op-without-kernel", severity="error")
def without_kernel(facts: Facts, target: str) -> Iterator[Finding]:
    """The installed onnxruntime has no kernel for a node.

    What it flags:
        For a target whose kernels the installed onnxruntime registers (cpu always): ops, versions and types
        without one, once per op and reason. Casts that onnxruntime inserts around float16 nodes on the CPU
        are taken into account.

    Why it matters:
        On the CPU the session fails with NOT_IMPLEMENTED; on another provider the node falls back to the CPU.

    Bad: --target cpu
        <ir_version: 8, opset_import: ["": 17]>
        g (double[1,1,2,2] x, double[1,1,1,1] w) => (double[1,1,2,2] y) { y = Conv (x, w) }

    Good: --target cpu
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,2,2] x, float[1,1,1,1] w) => (float[1,1,2,2] y) { y = Conv (x, w) }

    Fix and its safety:
        Export with another type or opset; opsets go down with onnx.version_converter: check with `onnxscope
        verify`.

    Source:
        The kernel registry of the installed onnxruntime (`get_all_opkernel_def`).
    """
    known, goal = targets.registry(), targets_known.find(target)
    if known is None or goal is None or goal.provider not in known.providers():
        return
    found: dict[str, list[str]] = {}
    for fact in facts.nodes():
        reason = None if fact.folded else targets.lacking(facts, fact, goal.provider, widened=target == "cpu")
        if reason is not None:
            found.setdefault(reason, []).append(fact.label)
    for reason, labels in found.items():
        yield without_kernel.finding(
            labels[0],
            f"{reason} on {target} ({count_of(len(labels), 'node')}: {several(labels)})",
            "export with another type or opset",
            target=target,
            nodes=labels[:64],
        )


@check("OX702", "op-outside-target", severity="warning")
def outside_target(facts: Facts, target: str) -> Iterator[Finding]:
    """The target doesn't take an op of the model, by its documents or by a measured table.

    What it flags:
        Ops, versions and element types that the target leaves to the CPU, once each, with the source: for
        CUDA, WebGPU and OpenVINO a table measured with releases of onnxruntime, for others a published list.
        What is meant is onnxruntime's provider: OpenVINO itself reads a few ops more (QLinearConv).

    Why it matters:
        The nodes run on the CPU with copies between, or the conversion fails.

    Bad: --target coreml
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) { y = Atanh (x) }

    Good: --target coreml
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) { y = Tanh (x) }

    Fix and its safety:
        Replace the op by listed ones where that is exact; else expect a piece on the CPU. Check a newer
        release.

    Source:
        The tables named in the message: onnx-tensorrt operators.md; onnxruntime's lists for CoreML, NNAPI,
        DirectML and QNN; MIGraphX's Supported ONNX Operators; `benchmarks/targets.py` run with the wheels for
        CUDA, WebGPU and OpenVINO.
    """
    goal, known = targets_known.find(target), targets.registry()
    if goal is None or (known is not None and goal.provider in known.providers()):
        return  # a kernel registry that can be asked is OX701's
    found: dict[str, tuple[str, list[str]]] = {}
    for fact in targets.running(facts):
        if domain_of(fact.node.domain):
            continue
        reason = targets.refusal(facts, fact, goal)
        if reason:
            found.setdefault(reason, (fact.node.op, []))[1].append(fact.label)
    for reason, (op, labels) in found.items():
        yield outside_target.finding(
            labels[0],
            f"{reason} isn't run by {target} ({count_of(len(labels), 'node')}; {targets.source_of(goal)})",
            "replace it, or expect it on the CPU",
            target=target,
            op=op,
            nodes=labels[:64],
        )


@check("OX703", "cut-into-partitions", severity="warning")
def partitions(facts: Facts, target: str) -> Iterator[Finding]:
    """The target runs the model in several pieces with the CPU in between.

    What it flags:
        A model whose unsupported nodes cut it into two pieces or more for the target: how many, and how many
        nodes stay on the CPU. A piece is a set of nodes that the target can run without waiting for the CPU
        in between: pieces are counted along the path with the most of them, so a runtime that splits by
        branches makes at least that many (or leaves small ones to the CPU, too). Nodes that nothing is known
        of (OX718) count as running where that joins pieces, and as left to the CPU where they would be one.

    Why it matters:
        Every cut copies maps to the CPU and back and waits for it; many cuts make an accelerator slower than
        the CPU alone.

    Bad: --target coreml
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) {
          a = Relu (x)
          b = Atanh (a)
          y = Relu (b)
        }

    Good: --target coreml
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) {
          a = Relu (x)
          b = Relu (a)
          y = Atanh (b)
        }

    Fix and its safety:
        Replace the ops that cut (OX701 and OX702 name them), or move them to the end of the graph.

    Source:
        onnxruntime, "Execution Providers", graph partitioning; the tables of `onnxscope.checks.targets`.
    """
    goal = targets_known.find(target)
    if goal is None or target == "cpu":
        return
    answers = [(fact, targets.refusal(facts, fact, goal)) for fact in targets.computed(facts)]
    left = [fact.label for fact, reason in answers if reason]
    pieces = _pieces((fact.node, reason) for fact, reason in answers)
    if pieces > 1 and left:
        nodes = f"{count_of(len(left), 'node')} ({several(left)})"
        yield partitions.finding(
            left[0],
            f"what {target} can run lies in at least {pieces} pieces; left to the CPU: {nodes}",
            "replace the ops that cut",
            target=target,
            pieces=pieces,
            on_cpu=len(left),
        )


def _pieces(answers: Iterable[tuple[Node, str | None]]) -> int:
    """The most pieces on one path, from nodes in order, each with why it stays on the CPU.

    The reason is "" for a node that runs, None for one of which nothing is known.

    A value has two counts of pieces up to it: if its node runs, and if it stays; the one that isn't so is
    endless. A node of which nothing is known may do either, and gives what is fewer to each node behind it.
    """
    counts: dict[str, tuple[float, float]] = {}
    most = 0.0
    for node, reason in answers:
        before = [counts[name] for name in (*node.inputs, *captures(node)) if name in counts]
        runs = max((min(on, off + 1) for on, off in before), default=1.0)
        stays = max((min(on, off) for on, off in before), default=0.0)
        found = (inf if reason else runs, inf if reason == "" else stays)
        counts.update((name, found) for name in node.outputs)
        most = max(most, min(found))
    return int(most)


@check("OX704", "free-sizes-on-target", severity="warning")
def free_sizes(facts: Facts, target: str) -> Iterator[Finding]:
    """The model's inputs have free sizes that the target refuses or pays for.

    What it flags:
        A named or unknown size of an input, for targets that need static shapes (QNN, NNAPI) or are slower
        without (CoreML, DirectML).

    Why it matters:
        Such a target leaves every node that depends on the size to the CPU, or compiles again for each new
        size.

    Bad: --target qnn
        <ir_version: 8, opset_import: ["": 17]>
        g (float[N,2] x) => (float[N,2] y) { y = Relu (x) }

    Good: --target qnn
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y) { y = Relu (x) }

    Fix and its safety:
        `python -m onnxruntime.tools.make_dynamic_shape_fixed`, as the finding says: the same numbers at that
        size.

    Source:
        onnxruntime's pages of the providers, named with their date in the message.
    """
    goal = targets_known.find(target)
    if goal is None or not goal.shapes:
        return
    stored = facts.main.graph.initializers
    for info in facts.main.graph.inputs:
        shape = facts.value(info.name).shape or ()
        free = [str(size) for size in shape if isinstance(size, Expr)]
        if free and info.name not in stored:
            does = "takes static shapes only" if goal.shapes == "static" else "is slower with free sizes"
            yield free_sizes.finding(
                info.name,
                f"free sizes {', '.join(free)}: {target} {does} ({goal.source})",
                f"{_FIXED} --input_name {quote(info.name)} --input_shape SIZES MODEL OUT",
                target=target,
                sizes=free,
            )


@check("OX705", "type-outside-target", severity="warning")
def outside_types(facts: Facts, target: str) -> Iterator[Finding]:
    """Values have an element type that the target can't compute with.

    What it flags:
        Computed values of float64, complex or text where the target has no such type, once per type.

    Why it matters:
        These nodes run on the CPU, or are cast to a narrower type without a word.

    Bad: --target coreml
        <ir_version: 8, opset_import: ["": 17]>
        g (double[2] x) => (double[2] y) { y = Relu (x) }

    Good: --target coreml
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) { y = Relu (x) }

    Fix and its safety:
        Export in float32; outputs change by rounding.

    Source:
        The target's documents (see `onnxscope.checks.targets`).
    """
    goal = targets_known.find(target)
    found: dict[int, list[str]] = {}
    for fact in targets.computed(facts) if goal is not None else ():
        codes = {facts.value(name).dtype for name in fact.node.outputs if name}
        for code in sorted(
            code for code in codes if code and goal is not None and code in goal.missing_types
        ):
            found.setdefault(code, []).append(fact.label)
    for code, labels in found.items():
        yield outside_types.finding(
            labels[0],
            f"{dtypes.name_of(code)} in {count_of(len(labels), 'node')}: {target} doesn't compute with it",
            "export in float32",
            target=target,
            type=dtypes.name_of(code),
        )


@check("OX706", "control-flow-on-target", severity="warning")
def control_flow(facts: Facts, target: str) -> Iterator[Finding]:
    """If, Loop or Scan on a target that has no control flow.

    What it flags:
        Such nodes, for targets that don't run them.

    Why it matters:
        The node, and by default its whole body, runs on the CPU.

    Bad: see tests/checks/test_rules_targets.py

    Good: see tests/checks/test_rules_targets.py

    Fix and its safety:
        Resolve constant conditions, unroll loops with a fixed trip count: exact.

    Source:
        onnxruntime's CoreML and NNAPI pages.
    """
    goal = targets_known.find(target)
    for fact in targets.computed(facts) if goal is not None and not goal.control_flow else ():
        if fact.node.op in ("If", "Loop", "Scan"):
            yield control_flow.finding(
                fact.label,
                f"{fact.node.op} doesn't run on {target}",
                "unroll it or fix the condition",
                target=target,
            )


@check("OX707", "integer-ops-on-target", severity="warning")
def integer_ops(facts: Facts, target: str) -> Iterator[Finding]:
    """A quantized model in operator form on a target that wants QDQ.

    What it flags:
        QLinear and Integer ops, and those of onnxruntime that quantize inside (QGemm, QAttention,
        DynamicQuantize...), for targets that only understand QuantizeLinear / DequantizeLinear pairs.

    Why it matters:
        None of these layers runs there.

    Bad: --target tensorrt
        <ir_version: 8, opset_import: ["": 17]>
        g (uint8[1,4] x, int8[4,2] w) => (int32[1,2] y) { y = MatMulInteger (x, w) }

    Good: --target tensorrt
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4] x, float[4,2] w) => (float[1,2] y) { y = MatMul (x, w) }

    Fix and its safety:
        Quantize again with QuantFormat.QDQ; the numbers stay those of the calibration.

    Source:
        TensorRT, "Working with quantized types", explicit quantization.
    """
    goal = targets_known.find(target)
    if goal is None or goal.integer_ops:
        return
    labels = [fact.label for fact in targets.computed(facts) if _OPERATOR_FORM.match(fact.node.op)]
    if labels:
        message = (
            f"{count_of(len(labels), 'node')} in operator form ({several(labels)}): {target} reads QDQ only"
        )
        yield integer_ops.finding(
            labels[0], message, "quantize in QDQ form", target=target, nodes=labels[:64]
        )


@check("OX708", "zero-points-on-target", severity="error")
def zero_points(facts: Facts, target: str) -> Iterator[Finding]:
    """Zero points other than 0 on a target that quantizes symmetrically.

    What it flags:
        QuantizeLinear or DequantizeLinear with a stored zero point that isn't 0, and QuantizeLinear with one
        of type uint8, for targets without zero points, once per model.

    Why it matters:
        The engine isn't built: "non-zero zero point is not supported".

    Bad: --target tensorrt
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (int8[2] y) <float s = {0.1}, int8 z = {3}> { y = QuantizeLinear (x, s, z) }

    Good: --target tensorrt
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (int8[2] y) <float s = {0.1}, int8 z = {0}> { y = QuantizeLinear (x, s, z) }

    Fix and its safety:
        Quantize with ActivationSymmetric and WeightSymmetric; measure the accuracy.

    Source:
        onnx-tensorrt docs/operators.md: zero points must be zero; its pull request 886 for uint8.
    """
    goal = targets_known.find(target)
    if goal is None or goal.zero_points:
        return
    pairs = [f for f in facts.nodes() if f.node.op in ("QuantizeLinear", "DequantizeLinear")]
    labels = [fact.label for fact in pairs if any(numbers(facts, fact, 2) or ()) or _to_uint8(facts, fact)]
    if labels:
        nodes = f"{count_of(len(labels), 'node')} with a zero point other than 0 or to uint8"
        message = f"{nodes} ({several(labels)}): {target} quantizes symmetrically, to int8"
        yield zero_points.finding(
            labels[0], message, "quantize symmetrically", target=target, nodes=labels[:64]
        )


def _to_uint8(facts: Facts, fact: NodeFact) -> bool:
    """Whether a QuantizeLinear has a zero point of type uint8; without one, TensorRT takes int8."""
    names = fact.node.inputs[2:3] if fact.node.op == "QuantizeLinear" else ()
    return any(facts.value(name, fact.scope).dtype == dtypes.UINT8 for name in names if name)
