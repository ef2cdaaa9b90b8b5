"""Rules about versions, precision and speed where a model is deployed."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.cost import Cost
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.memory import Memory
from onnxscope.analysis.params import Params
from onnxscope.checks import targets, targets_known
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import count_of, several
from onnxscope.checks.registry import check
from onnxscope.errors import FileError
from onnxscope.graph import Model, domain_of

_LEAST_INTENSITY = 4.0
"""Multiply-accumulates per byte; below, common CPUs and GPUs wait for memory."""
_INTERNAL = ("com.microsoft.nchwc", "com.ms.internal.nhwc", "com.microsoft.dml")


@check("OX711", "opset-beyond-target", severity="warning")
def opset_beyond(model: Model, target: str) -> Iterator[Finding]:
    """The model's opset or IR version is newer than the target serves.

    What it flags:
        An opset of the default domain above the newest that the installed onnxruntime knows (targets cpu,
        cuda, and others that run through it), or above what the target's documents say (DirectML, MIGraphX,
        TensorRT); an IR version that the installed onnxruntime refuses.

    Why it matters:
        Loading fails, or every changed op runs on the CPU.

    Bad: --target directml
        <ir_version: 10, opset_import: ["": 21]>
        g (float[2] x) => (float[2] y) { y = Relu (x) }

    Good: --target directml
        <ir_version: 9, opset_import: ["": 20]>
        g (float[2] x) => (float[2] y) { y = Relu (x) }

    Fix and its safety:
        Export for that opset; onnx.version_converter goes down for most ops: check with `onnxscope verify`.
        An IR version may be lowered as long as OX141 stays silent.

    Source:
        The installed onnxruntime's schemas, and what it says to a tiny model; onnxruntime's DirectML page;
        MIGraphX, Supported ONNX Operators.
    """
    goal, known, version = targets_known.find(target), targets.registry(), model.opset.get("", 0)
    limits = [(known.newest, "the installed onnxruntime")] if known is not None and goal is not None else []
    if goal is not None and goal.newest_opset is not None:
        limits.append((goal.newest_opset, goal.source))
    if limits and version > min(limits)[0]:
        newest, source = min(limits)
        yield opset_beyond.finding(
            "ai.onnx",
            f"opset {version} is newer than {newest}, the newest that {target} serves ({source})",
            f"export with opset {newest}",
            target=target,
            opset=version,
            newest=newest,
        )
    if known is not None and goal is not None and 0 < known.newest_ir < model.ir_version:
        yield opset_beyond.finding(
            "",
            f"IR version {model.ir_version} is newer than {known.newest_ir}, the newest that the installed "
            "onnxruntime loads",
            f"set ir_version to {known.newest_ir}, or install a newer onnxruntime",
            target=target,
            ir_version=model.ir_version,
            newest=known.newest_ir,
        )


@check("OX712", "float16-on-cpu", severity="warning")
def half_on_cpu(facts: Facts, target: str) -> Iterator[Finding]:
    """Float16 nodes without a CPU kernel run in float32 between casts.

    What it flags:
        For the target cpu: nodes in float16 whose only kernel in the installed onnxruntime is float32's, once
        per model.

    Why it matters:
        onnxruntime puts a cast before and behind each group of them: slower than the float32 model, and
        larger in memory, though the file is half the size.

    Bad: --target cpu
        <ir_version: 8, opset_import: ["": 17]>
        g (float16[1,4] x, float16[4,2] w) => (float16[1,2] y) {
          a = MatMul (x, w)
          y = Erf (a)
        }

    Good: --target cpu
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,4] x, float[4,2] w) => (float[1,2] y) {
          a = MatMul (x, w)
          y = Erf (a)
        }

    Fix and its safety:
        Ship the float32 (or int8) model for CPUs.

    Source:
        onnxruntime, InsertCastTransformer; its kernel registry.
    """
    if target != "cpu":
        return
    labels = []
    for fact in facts.nodes():
        half = any(facts.value(n, fact.scope).dtype == dtypes.FLOAT16 for n in fact.node.outputs if n)
        if half and not fact.folded:
            provider = "CPUExecutionProvider"
            lacks = targets.lacking(facts, fact, provider) is not None
            if lacks and targets.lacking(facts, fact, provider, widened=True) is None:
                labels.append(fact.label)
    if labels:
        shown = f"{count_of(len(labels), 'float16 node')}: {several(labels)}"
        message = f"runs in float32 between casts on the CPU ({shown})"
        yield half_on_cpu.finding(
            labels[0], message, "ship float32 for CPUs", target=target, count=len(labels)
        )


@check("OX713", "hardware-specific-graph", severity="warning")
def hardware_specific(facts: Facts) -> Iterator[Finding]:
    """The file was saved after optimization for one machine.

    What it flags:
        Nodes of onnxruntime's internal layout domains (blocked NCHWc, NHWC, DirectML fusions).

    Why it matters:
        Such a file loads on the same kind of hardware and the same onnxruntime only; the block size is that
        of the CPU which saved it.

    Bad:
        <ir_version: 8, opset_import: ["": 17, "com.microsoft.nchwc": 1]>
        g (float[1,8,4,4] x, float[8,8,1,1] w) => (float[1,8,4,4] y) { y = com.microsoft.nchwc.Conv (x, w) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,8,4,4] x, float[8,8,1,1] w) => (float[1,8,4,4] y) { y = Conv (x, w) }

    Fix and its safety:
        Save the optimized model at level ORT_ENABLE_BASIC or EXTENDED, or ship the original.

    Source:
        onnxruntime, "Graph Optimizations", layout optimizations and offline mode.
    """
    inside = [fact.label for fact in facts.nodes() if fact.node.domain in _INTERNAL]
    if inside:
        message = f"{count_of(len(inside), 'node')} in a layout for one kind of hardware ({several(inside)})"
        yield hardware_specific.finding(inside[0], message, "ship the model before layout optimization")


@check("OX714", "onnxruntime-only-ops", severity="note")
def runtime_only(facts: Facts) -> Iterator[Finding]:
    """The model uses ops that only onnxruntime has.

    What it flags:
        Nodes of the domain com.microsoft without a function body in the file, once per model.

    Why it matters:
        TensorRT, OpenVINO, tract and converters don't load it; it also ties the file to onnxruntime versions
        that have the op.

    Bad:
        <ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        g (float[2] x) => (float[2] y) { y = com.microsoft.QuickGelu (x) }

    Good:
        <ir_version: 10, opset_import: ["": 20]>
        g (float[2] x) => (float[2] y) { y = Gelu (x) }

    Fix and its safety:
        Ship the model before onnxruntime's extended optimizations; equal up to rounding.

    Source:
        onnxruntime ContribOperators.md.
    """
    own = {(function.domain, function.name) for function in facts.model.functions}
    inside = [
        fact
        for fact in facts.nodes()
        if fact.node.domain == "com.microsoft" and (fact.node.domain, fact.node.op) not in own
    ]
    if inside:
        ops = dict.fromkeys(fact.node.op for fact in inside)
        message = f"{count_of(len(inside), 'node')} of com.microsoft ({several(ops)})"
        yield runtime_only.finding(
            inside[0].label, message, "ship the model before extended optimization", ops=[*ops]
        )


@check("OX715", "memory-bound-model", severity="note")
def memory_bound(params: Params, cost: Cost, memory: Memory) -> Iterator[Finding]:
    """The model moves more bytes than it computes with.

    What it flags:
        A model of more than a million multiply-accumulates, all sizes known, that does fewer than 4 of them
        per byte of weights and activations at its declared batch.

    Why it matters:
        Memory, not arithmetic, sets its speed: more cores or a faster accelerator don't help, narrower
        weights and larger batches do.

    Bad: see tests/checks/test_rules_targets.py

    Good: see tests/checks/test_rules_targets.py

    Fix and its safety:
        Quantize weights, fuse elementwise ops, raise the batch size.

    Source:
        Williams, Waterman, Patterson, "Roofline", 2009.
    """
    macs, moved = cost.total, memory.activation_bytes
    if (
        not isinstance(macs, int)
        or not isinstance(moved, int)
        or cost.unknown
        or macs < 1_000_000
        or memory.unknown
    ):
        return
    total = params.weight_bytes + moved
    if total and macs / total < _LEAST_INTENSITY:
        yield memory_bound.finding(
            "",
            f"{macs / total:.2f} multiply-accumulates per byte ({macs:,} over {total:,} bytes): bound by "
            "memory",
            "narrower weights, larger batches",
            intensity=macs / total,
            macs=macs,
            bytes=total,
        )


@check("OX716", "int64-beyond-int32", severity="warning")
def beyond_int32(facts: Facts, target: str) -> Iterator[Finding]:
    """An int64 constant doesn't fit 32 bits on a target that narrows it.

    What it flags:
        For coreml and webgpu: stored int64 numbers outside int32 (apart from Slice and Resize bounds, which
        mean "to the end").

    Why it matters:
        These targets compute indices in 32 bits; the constant is clamped or wraps.

    Bad: --target coreml
        <ir_version: 8, opset_import: ["": 17]>
        g (int64[1] x) => (int64[1] y) <int64[1] c = {3000000000}> { y = Add (x, c) }

    Good: --target coreml
        <ir_version: 8, opset_import: ["": 17]>
        g (int64[1] x) => (int64[1] y) <int64[1] c = {2000000000}> { y = Add (x, c) }

    Fix and its safety:
        Use a smaller constant; masks and hashes need another formula.

    Source:
        Core ML's tensors are int32 at most; WGSL has no int64. (TensorRT has computed in int64 since 10.)
    """
    if target not in ("coreml", "webgpu"):
        return
    for tensor in facts.main.graph.tensors:
        readers = facts.main.graph.consumers.get(tensor.name, ())
        bounds = all(node.op in ("Slice", "Resize", "Gather") for node in readers)
        if tensor.dtype != dtypes.INT64 or tensor.count > 4096 or bounds:
            continue
        try:
            wide = [value for value in tensor.items() if not -(2**31) <= value < 2**31]
        except (FileError, TypeError, ValueError):
            continue
        if wide:
            message = f"holds {wide[0]}, which {target} narrows to 32 bits"
            yield beyond_int32.finding(tensor.name, message, "use a smaller constant", target=target)


@check("OX717", "unknown-target", severity="warning")
def unknown_target(model: Model, target: str) -> Iterator[Finding]:
    """Nothing is known of the target that was asked for.

    What it flags:
        A `--target` that no rule knows; the known ones are listed. And target cpu where no onnxruntime is
        installed that could be asked.

    Why it matters:
        The audit checked nothing for it, and silence would look like a pass.

    Bad: --target abacus
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) { y = Relu (x) }

    Good: --target cpu
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) { y = Relu (x) }

    Fix and its safety:
        Correct the name; install onnxruntime.

    Source:
        `onnxscope.checks.targets_known`.
    """
    if target == "cpu" and targets.registry() is None:
        message = "no onnxruntime is installed that tells its kernels: ops and types weren't checked for cpu"
        yield unknown_target.finding("", message, "pip install 'onnxscope[cpu]'", target=target)
    if targets_known.find(target) is None:
        names = ", ".join(known.name for known in targets_known.TARGETS)
        message = f"target {target!r} is unknown: nothing was checked for it"
        yield unknown_target.finding("", message, f"known targets: {names}", target=target)


@check("OX718", "op-unknown-to-target", severity="note")
def unknown_ops(facts: Facts, target: str) -> Iterator[Finding]:
    """Whether the target runs some ops of the model isn't known.

    What it flags:
        Nodes that neither the installed onnxruntime's kernels nor the target's table or list speak of: custom
        domains, ops or versions newer than the table, those in the bodies of the model's own functions
        included. Ops that onnxruntime expands into others are left out.

    Why it matters:
        OX702 and OX703 say nothing of them, which is no promise that they run there.

    Bad: --target coreml
        <ir_version: 8, opset_import: ["": 17, "my": 1]>
        g (float[2] x) => (float[2] y) { y = my.Swirl (x) }

    Good: --target coreml
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) { y = Relu (x) }

    Fix and its safety:
        Run the model there with a profile, or `onnxscope verify --provider`: both tell which nodes ran where.

    Source:
        `onnxscope.checks.targets`.
    """
    goal = targets_known.find(target)
    if goal is None:
        return
    found: dict[str, int] = {}
    for fact in targets.running(facts):
        expanded = not domain_of(fact.node.domain) and fact.node.op in targets.EXPANDED
        if not expanded and targets.refusal(facts, fact, goal) is None:
            name = targets.named(facts, fact, goal)
            found[name] = found.get(name, 0) + 1
    if found:
        nodes = f"{count_of(sum(found.values()), 'node')} on {target}: {several(list(found))}"
        yield unknown_ops.finding(
            "",
            f"nothing is known of {nodes} ({targets.source_of(goal)})",
            "run it there and look at the profile",
            target=target,
            ops=found,
        )
