"""What deployment targets run: from the installed onnxruntime where it can be asked, else from dated tables.

The tables hold only what the cited documents say; what they don't say is unknown and never flagged.
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
from onnxscope.errors import RuntimeFailure
from onnxscope.graph import domain_of

_PATIENCE = 60
"""Seconds that onnxruntime may take to list its kernels."""
_NEVER_LAST = 2**31 - 1
"""Last version of a kernel that is registered for its first one only."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is known of one target."""

    name: str
    provider: str
    """onnxruntime's name for it."""
    source: str
    """Document and date of everything below."""
    shapes: str = ""
    """"static" where free sizes are refused, "slow" where they cost speed, "" where they are fine or
    unknown."""
    missing_types: tuple[int, ...] = ()
    """Element types that it can't compute with."""
    control_flow: bool = True
    """Whether If, Loop and Scan run there."""
    integer_ops: bool = True
    """Whether QLinear ops run there (else quantized models must be in QDQ form)."""
    zero_points: bool = True
    """Whether zero points other than 0 are taken."""
    newest_opset: int | None = None
    listed: frozenset[str] | None = None
    """Every op of the default domain that it runs; None where no such list is known."""
    unlisted: frozenset[str] = frozenset()
    """Ops that its document says it doesn't run."""


_COREML = """Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvTranspose Cos
DepthToSpace Div Elu Erf Exp Flatten Gather GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool
GridSample GroupNormalization HardSigmoid Identity InstanceNormalization LRN LayerNormalization
LeakyRelu MatMul Max MaxPool Mul PRelu Pad Pow Reciprocal ReduceMax ReduceMean ReduceSum Relu
Reshape Resize Round Shape Sigmoid Sin Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Tile
Transpose Unsqueeze Where"""
_NNAPI = """Abs Add AveragePool BatchNormalization Cast Clip Concat Conv DepthToSpace DequantizeLinear Div
Elu Exp Flatten Floor Gather Gemm GlobalAveragePool GlobalMaxPool Identity LRN LeakyRelu Log MatMul Max
MaxPool Min Mul Neg PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear ReduceMean Relu Reshape
Resize Sigmoid Sin Slice Softmax Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze"""
_NOT_TENSORRT = """Bernoulli BitShift BlackmanWindow Compress ConcatFromSequence ConvInteger DFT Det
DynamicQuantizeLinear HammingWindow HannWindow MatMulInteger MaxRoiPool MaxUnpool MelWeightMatrix
Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement QLinearConv
QLinearMatMul STFT SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert
SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringNormalizer TfIdfVectorizer
Unique"""
_QNN = """Abs Add And ArgMax ArgMin ArrayFeatureExtractor Asin Atan AveragePool BatchNormalization Cast Ceil
Clip Concat Conv ConvInteger ConvTranspose Cos CumSum DepthToSpace DequantizeLinear DynamicQuantizeLinear Div
Einsum Elu Equal Exp Expand Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Identity If
InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool Mean Min Mod Mul Neg NonMaxSuppression
NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RandomNormalLike
RandomUniformLike Reciprocal ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu
Reshape Resize RoiAlign RotaryEmbedding Round STFT ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Slice
Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose
Unsqueeze Upsample Where Xor"""
_COMPLEX_TEXT = (8, 14, 15)
_DOUBLE = (*_COMPLEX_TEXT, dtypes.DOUBLE)

TARGETS = (
    Target("cpu", "CPUExecutionProvider", "kernel registry of the installed onnxruntime"),
    Target("cuda", "CUDAExecutionProvider", "kernel registry of the installed onnxruntime"),
    Target(
        "tensorrt",
        "TensorrtExecutionProvider",
        "onnx-tensorrt docs/operators.md for TensorRT 8.5 (2022-11); newer releases take more",
        missing_types=_COMPLEX_TEXT,
        integer_ops=False,
        zero_points=False,
        unlisted=frozenset(_NOT_TENSORRT.split()),
    ),
    Target(
        "coreml",
        "CoreMLExecutionProvider",
        "onnxruntime 1.32 (2026), its CoreML page and lists of ops for ML Program and NeuralNetwork",
        shapes="slow",
        missing_types=_DOUBLE,
        control_flow=False,
        listed=frozenset(_COREML.split()),
    ),
    Target(
        "nnapi",
        "NnapiExecutionProvider",
        "onnxruntime 1.32 (2026), nnapi_supported_ops.md",
        shapes="static",
        missing_types=_DOUBLE,
        control_flow=False,
        listed=frozenset(_NNAPI.split()),
    ),
    Target(
        "qnn",
        "QNNExecutionProvider",
        "the op list of onnxruntime-qnn, with the additions of 2.4, 2.5 and 2.7 (2026-10); no dynamic shapes",
        shapes="static",
        missing_types=_DOUBLE,
        listed=frozenset(_QNN.split()),
    ),
    Target(
        "directml",
        "DmlExecutionProvider",
        "onnxruntime's DirectML page (2025): up to opset 20, fastest where all shapes are known",
        shapes="slow",
        missing_types=_COMPLEX_TEXT,
        newest_opset=20,
    ),
    Target(
        "migraphx",
        "MIGraphXExecutionProvider",
        "MIGraphX, Supported ONNX Operators (2025-10-14): up to opset 19",
        missing_types=_COMPLEX_TEXT,
        newest_opset=19,
    ),
    Target(
        "openvino", "OpenVINOExecutionProvider", "OpenVINO supported types (2025)", missing_types=(14, 15)
    ),
    Target("webgpu", "WebGpuExecutionProvider", "WGSL types (2025): no 64-bit floats", missing_types=_DOUBLE),
)
_BY_NAME = {target.name: target for target in TARGETS}


def find(name: str) -> Target | None:
    """The target of a name; None for one that nothing is known of."""
    return _BY_NAME.get(name)


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
    rows, schemas = told
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
    )


def tell() -> None:
    """Print the kernels and schemas of the installed onnxruntime as JSON, or null: what `registry` starts."""
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
    print(json.dumps((kernels, signatures)), flush=True)


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


def _kind(facts: Facts, fact: NodeFact) -> str:
    """Name of the element type of the first input; "" where there is none or it isn't known."""
    value = facts.value(fact.node.inputs[0], fact.scope) if any(fact.node.inputs[:1]) else None
    return dtypes.name_of(value.dtype) or "" if value is not None and value.dtype else ""


def source_of(target: Target) -> str:
    """Where the knowledge of a target's ops comes from: table or document, with version or date."""
    measured = targets_table.table(target.name)
    return measured.source if measured is not None else target.source
