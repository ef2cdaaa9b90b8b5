"""What a deployment target runs of a model.

Asked are the kernels of the installed onnxruntime, tables measured with others (`targets_table`), and
documents (`targets_known`). What none of them says is unknown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from onnxscope import dtypes, runtime
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks import targets_table
from onnxscope.checks.targets_known import Target
from onnxscope.errors import RuntimeFailure
from onnxscope.graph import domain_of

_PATIENCE = 60
"""Seconds that onnxruntime may take to list its kernels."""
_IR_VERSIONS = range(4, 100)
"""Those that are tried; every onnxruntime loads the first."""
_IDENTITY = (
    b':9\n\x12\n\x01x\x12\x01y"\x08Identity:\x00\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""A model of one Identity, as bytes, without its IR version."""
_NEVER_LAST = 2**31 - 1
"""Last version of a kernel that is registered for its first one only."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel that the installed onnxruntime registers."""

    first: int
    last: int
    types: dict[str, frozenset[str]]
    """Type parameter -> types as onnxruntime writes them, for example `tensor(float)`."""

    def serves(self, since: int) -> bool:
        """Whether it runs the op as of opset `since`: an open end means that version only."""
        if self.last == _NEVER_LAST:
            return self.first == since
        return self.first <= since <= self.last


@dataclass(frozen=True, slots=True)
class Signature:
    """Type parameters of an op as of one opset."""

    since: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    variadic: bool
    """Whether the last input repeats."""


@dataclass(frozen=True)
class Registry:
    """Kernels and signatures of the installed onnxruntime."""

    kernels: dict[tuple[str, str, str], tuple[Kernel, ...]]
    """(provider, domain, op) -> kernels."""
    signatures: dict[tuple[str, str], tuple[Signature, ...]]
    """(domain, op) -> newest first."""
    newest_ir: int
    """Newest IR version that it loads; 0 where that can't be told."""

    @property
    def newest(self) -> int:
        """Newest opset of the default domain in which an op changed."""
        return max(rows[0].since for (domain, _), rows in self.signatures.items() if domain == "")

    def providers(self) -> set[str]:
        """Providers with registered kernels."""
        return {provider for provider, _, _ in self.kernels}

    def signature(self, domain: str, op: str, version: int | None) -> Signature | None:
        """The op's signature at an opset; None for an op that onnxruntime doesn't know there."""
        rows = self.signatures.get((domain, op), ())
        return next((row for row in rows if version is None or row.since <= version), None)


@cache
def registry() -> Registry | None:
    """What the installed onnxruntime registers; None where there is none, or one that can't be asked.

    It is asked in a process of its own: the question ends the process with a segmentation fault in the wheels
    for OpenVINO (1.24.1) and for CUDA without its libraries (1.31.1).
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from onnxscope.checks.targets import tell; tell()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, timeout=_PATIENCE, check=False
        )
        lines = done.stdout.splitlines()
        told = json.loads(lines[-1]) if done.returncode == 0 and lines else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if told is None:
        return None
    rows, schemas, newest_ir = told
    kernels: dict[tuple[str, str, str], list[Kernel]] = {}
    for provider, domain, op, first, last, types in rows:
        found = {name: frozenset(kinds) for name, kinds in types.items()}
        kernels.setdefault((provider, domain, op), []).append(Kernel(first, last, found))
    signatures: dict[tuple[str, str], list[Signature]] = {}
    for domain, op, since, given, made, variadic in schemas:
        row = Signature(since, tuple(given), tuple(made), variadic)
        signatures.setdefault((domain, op), []).append(row)
    return Registry(
        {key: tuple(found) for key, found in kernels.items()},
        {key: tuple(sorted(found, key=lambda row: -row.since)) for key, found in signatures.items()},
        newest_ir,
    )


def tell() -> None:
    """Print what the installed onnxruntime knows as JSON, or null: what `registry` starts."""
    try:
        state = runtime.require().capi.onnxruntime_pybind11_state
        defined, schemas = state.get_all_opkernel_def(), state.get_all_operator_schema()
    except (RuntimeFailure, AttributeError):
        print("null")
        return
    kernels = [
        (one.provider, domain_of(one.domain), one.op_name, *one.version_range, one.type_constraints)
        for one in defined
    ]
    signatures = [
        (
            domain_of(one.domain),
            one.name,
            one.since_version,
            [given.typeStr for given in one.inputs],
            [made.typeStr for made in one.outputs],
            bool(one.inputs) and str(one.inputs[-1].option).endswith("Variadic"),
        )
        for one in schemas
    ]
    print(json.dumps((kernels, signatures, _newest_ir())), flush=True)


def _newest_ir() -> int:
    """The newest IR version that the installed onnxruntime loads: no list tells, so it is tried."""
    onnxruntime = runtime.require()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    newest = 0
    for version in _IR_VERSIONS:
        try:
            model = b"\x08" + bytes([version]) + _IDENTITY
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception:  # it has no class of its own for this
            break
        newest = version
    return newest


FUNCTIONS = frozenset(
    "AffineGrid Attention Bernoulli BlackmanWindow CastLike CausalConvWithState Celu CenterCropPad Clip "
    "DepthToSpace "
    "DynamicQuantizeLinear Elu Gelu GreaterOrEqual GroupNormalization HammingWindow HannWindow "
    "HardSigmoid HardSwish "
    "LayerNormalization LeakyRelu LessOrEqual LinearAttention LogSoftmax MeanVarianceNormalization Mish "
    "NegativeLogLikelihoodLoss PRelu RMSNormalization Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp "
    "ReduceSumSquare Relu RotaryEmbedding Selu SequenceMap Shrink Softmax SoftmaxCrossEntropyLoss "
    "Softplus Softsign "
    "SpaceToDepth Swish ThresholdedRelu Constant".split()
)
"""Ops with a function body in the ONNX specification (1.23): runtimes expand them where they lack a kernel,
so nothing is said about these."""
EXPANDED = frozenset(
    "Bernoulli CastLike CenterCropPad Constant Dropout GroupNormalization HardSwish Identity Mish "
    "SequenceMap Swish "
    "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss".split()
)
"""Ops that onnxruntime 1.32 expands (having no kernel) or removes before it asks a provider."""
_SPELLED = {
    "float32": "float",
    "float64": "double",
    "float4_e2m1fn": "float4e2m1",
    "float8_e8m0fnu": "float8e8m0",
}


def spelled(code: int) -> str:
    """An element type as onnxruntime writes it.

    >>> spelled(1), spelled(17)
    ('tensor(float)', 'tensor(float8e4m3fn)')
    """
    name = dtypes.name_of(code) or ""
    return f"tensor({_SPELLED.get(name, name.replace('_e', 'e'))})"


def lacking(facts: Facts, fact: NodeFact, provider: str, *, widened: bool = False) -> str | None:
    """Why the installed onnxruntime has no kernel of a provider for a node; None where it has, or unknown.

    `widened` takes float16 for float32, as onnxruntime does by inserting casts on the CPU.
    """
    found, domain = registry(), domain_of(fact.node.domain)
    if found is None or any(
        f.name == fact.node.op and domain_of(f.domain) == domain for f in facts.model.functions
    ):
        return None
    known = {name for name, _ in found.signatures}
    signature = found.signature(domain, fact.node.op, _version(facts, fact, domain))
    if signature is None:
        return None if domain in known else f"domain {domain} is registered nowhere"
    if domain == "" and fact.node.op in FUNCTIONS:
        return None
    rows = [
        row for row in found.kernels.get((provider, domain, fact.node.op), ()) if row.serves(signature.since)
    ]
    if not rows:
        return f"no kernel for {fact.node.op} as of opset {signature.since}"
    types = list(_types(facts, fact, signature, widened))
    if any(all(kind in row.types.get(name, (kind,)) for name, kind in types) for row in rows):
        return None
    shown = ", ".join(dict.fromkeys(kind.removeprefix("tensor(").rstrip(")") for _, kind in types))
    return f"no kernel for {fact.node.op} as of opset {signature.since} with types {shown}"


def _version(facts: Facts, fact: NodeFact, domain: str) -> int | None:
    """Opset of a node's domain: the model's, or that of the function whose body holds it."""
    return facts.model.opset.get(domain)


def _types(facts: Facts, fact: NodeFact, row: Signature, widened: bool) -> Iterator[tuple[str, str]]:
    """(type parameter, type) of every input and output whose type is known."""
    inputs = list(row.inputs)
    if row.variadic:
        inputs += inputs[-1:] * (len(fact.node.inputs) - len(inputs))
    pairs = [*zip(fact.node.inputs, inputs, strict=False), *zip(fact.node.outputs, row.outputs, strict=False)]
    for name, parameter in pairs:
        value = facts.value(name, fact.scope) if name else None
        if value is not None and value.dtype and not value.container:
            code = dtypes.FLOAT if widened and value.dtype == dtypes.FLOAT16 else value.dtype
            yield parameter, spelled(code)


def refusal(facts: Facts, fact: NodeFact, target: Target) -> str | None:
    """What a target leaves to the CPU, in words: "" where it takes the node, None where nothing is known.

    Asked are, in this order, the installed onnxruntime's kernels, the measured table, the document's list.
    """
    op = fact.node.op
    if op in ("If", "Loop", "Scan") and not target.control_flow:
        return op
    known = registry()
    if known is not None and target.provider in known.providers():
        return lacking(facts, fact, target.provider) or ""
    if domain_of(fact.node.domain) or op in EXPANDED:
        return None
    measured = targets_table.table(target.name)
    if measured is not None:
        return measured.refusal(op, since(facts, fact), _kind(facts, fact))
    if target.listed is None and not target.unlisted:
        return None
    listed = op in target.listed if target.listed is not None else op not in target.unlisted
    return "" if listed else op


def since(facts: Facts, fact: NodeFact) -> int | None:
    """The version of a node's op by its opset; None where no onnxruntime is there to tell."""
    found, domain = registry(), domain_of(fact.node.domain)
    row = found.signature(domain, fact.node.op, facts.model.opset.get(domain)) if found is not None else None
    return row.since if row is not None else None


def named(facts: Facts, fact: NodeFact, target: Target) -> str:
    """A node as the target's table tells ops apart: `Add as of opset 6 of float32`."""
    domain, version, kind = domain_of(fact.node.domain), since(facts, fact), _kind(facts, fact)
    table = targets_table.table(target.name)
    told = version is not None and not domain and table is not None
    parts = [f"{domain}.{fact.node.op}" if domain else fact.node.op]
    parts += [f"as of opset {version}"] if told else []
    return " ".join([*parts, *([f"of {kind}"] if kind else [])])


def _kind(facts: Facts, fact: NodeFact) -> str:
    """Name of the element type of the first input; "" where there is none or it isn't known."""
    value = facts.value(fact.node.inputs[0], fact.scope) if any(fact.node.inputs[:1]) else None
    return dtypes.name_of(value.dtype) or "" if value is not None and value.dtype else ""


def source_of(target: Target) -> str:
    """Where the knowledge of a target's ops comes from: table or document, with version or date."""
    measured = targets_table.table(target.name)
    return measured.source if measured is not None else target.source


def computed(facts: Facts) -> list[NodeFact]:
    """Nodes that run for every input: those of the main graph that aren't folded when the model loads.

    Shape arithmetic is left out: onnxruntime keeps it on the CPU for every provider, at no cost to speak of.
    """
    return [fact for fact in facts.main.nodes if not fact.folded and not _sizes(facts, fact)]


def running(facts: Facts) -> list[NodeFact]:
    """As `computed`, with the bodies of the model's own functions in place of their calls."""
    return [s.fact for s in facts.steps() if not s.fact.folded and not _sizes(facts, s.fact)]


def _sizes(facts: Facts, fact: NodeFact) -> bool:
    """Whether a node only computes sizes: its outputs are followed as content, not as maps."""
    outputs = [facts.value(name, fact.scope) for name in fact.node.outputs if name]
    return fact.node.op in ("Shape", "Size") or all(value.data is not None for value in outputs)
