"""What documents say of deployment targets: op lists, types, shapes, opsets, each with source and date.

They hold only what the cited documents say; what they don't say is unknown and never flagged.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxscope import dtypes


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
LeakyRelu MatMul Max MaxPool Mul PRelu Pad Pow Range Reciprocal ReduceMax ReduceMean ReduceSum Relu
Reshape Resize Round Shape Sigmoid Sin Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Tile
Transpose Unsqueeze Where"""
_NNAPI = """Abs Add AveragePool BatchNormalization Cast Clip Concat Conv DepthToSpace DequantizeLinear Div
Elu Exp Flatten Floor Gather Gemm GlobalAveragePool GlobalMaxPool Identity LRN LeakyRelu Log MatMul Max
MaxPool Min Mul Neg PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear ReduceMean Relu Reshape
Resize Sigmoid Sin Slice Softmax Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze"""
_NOT_TENSORRT = """
AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im
Compress ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear ImageDecoder MatMulInteger MaxRoiPool
MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement
QLinearConv QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase
SequenceInsert SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringConcat
StringNormalizer StringSplit TfIdfVectorizer Unique"""
_QNN = """Abs Add And ArgMax ArgMin ArrayFeatureExtractor Asin Atan AveragePool BatchNormalization Cast
Ceil Clip Concat Conv ConvInteger ConvTranspose Cos CumSum DepthToSpace DequantizeLinear
DynamicQuantizeLinear Div Einsum Elu Equal Exp Expand Flatten Floor GRU Gather GatherElements GatherND
Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization
HardSigmoid HardSwish Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu
Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool Mean
Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul
QuantizeLinear RMSNormalization RandomNormalLike RandomUniformLike Range Reciprocal ReduceL2
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize RoiAlign
RotaryEmbedding Round STFT ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Slice Softmax Softplus
SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze
Upsample Where Xor"""
_DIRECTML = """
Abs Acos Acosh Add Affine And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Col2Im Concat
ConcatFromSequence ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh Crop CumSum DFT DepthToSpace
DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU
Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
GridSample HardSigmoid Hardmax Identity If ImageScaler InstanceNormalization IsInf IsNaN LRN LSTM
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max
MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization Min Mod Mul Neg NonZero Not OneHot
OptionalGetElement OptionalHasElement Or PRelu Pad ParametricSoftplus Pow QLinearConv QLinearMatMul
QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round STFT
ScaledTanh Scatter ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty SequenceErase
SequenceInsert SequenceLength Shape Shrink Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Size Slice
Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK
Transpose Trilu Unsqueeze Upsample Where Xor"""
_NOT_MIGRAPHX = """Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow CenterCropPad
Col2Im Compress ConcatFromSequence DFT DeformConv Det HammingWindow HannWindow MaxRoiPool MaxUnpool
MelWeightMatrix Mish NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement STFT SequenceAt
SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap
SoftmaxCrossEntropyLoss SplitToSequence StringNormalizer TfIdfVectorizer"""
_COMPLEX_TEXT = (8, 14, 15)
_DOUBLE = (*_COMPLEX_TEXT, dtypes.DOUBLE)

TARGETS = (
    Target("cpu", "CPUExecutionProvider", "kernel registry of the installed onnxruntime"),
    Target("cuda", "CUDAExecutionProvider", "kernel registry of the installed onnxruntime"),
    Target(
        "tensorrt",
        "TensorrtExecutionProvider",
        "onnx-tensorrt docs/operators.md for TensorRT 10.15 (2026-02): up to opset 24",
        missing_types=_COMPLEX_TEXT,
        newest_opset=24,
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
        "onnxruntime's DirectML page and OperatorKernels.md (2025): up to opset 20, fastest with fixed sizes",
        shapes="slow",
        missing_types=_COMPLEX_TEXT,
        newest_opset=20,
        listed=frozenset(_DIRECTML.split()),
    ),
    Target(
        "migraphx",
        "MIGraphXExecutionProvider",
        "MIGraphX, Supported ONNX Operators (2025-10-14): up to opset 19",
        missing_types=_COMPLEX_TEXT,
        newest_opset=19,
        unlisted=frozenset(_NOT_MIGRAPHX.split()),
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
