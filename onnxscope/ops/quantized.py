"""Quantization: from and to integers, and onnxruntime's ops on quantized values (QLinear...).

Quantized convolutions, pools and products are with their families. Source: ONNX Operators.md,
QuantizeLinear-10..28, DequantizeLinear-10..28, DynamicQuantizeLinear-11; onnxruntime ContribOperators.md.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Size
from onnxscope.ops._broadcast import broadcast, unified
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import Inferred, Unanswered, one

MICROSOFT = "com.microsoft"


@op("QuantizeLinear", since=10)
@op("QuantizeLinear", domain=MICROSOFT)
def quantize_linear(n: View, *, output_dtype: int = 0) -> Inferred:
    """Y = saturate(X / y_scale + y_zero_point), the shape of X; per tensor, axis or block alike.

    Type: y_zero_point's, else `output_dtype` (from opset 21), else uint8. Source: QuantizeLinear-28.
    """
    return one(n.shape(0), n.dtype(2) if n.has(2) else output_dtype or dtypes.UINT8)


@op("DequantizeLinear", since=10)
@op("DequantizeLinear", domain=MICROSOFT)
def dequantize_linear(n: View, *, output_dtype: int = 0) -> Inferred:
    """Y = (X - x_zero_point) * x_scale, the shape of X.

    Type: `output_dtype` (from opset 23), else x_scale's. Source: DequantizeLinear-28.
    """
    return one(n.shape(0), output_dtype or n.dtype(1))


@op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(n: View) -> Inferred:
    """Y uint8 of X's shape, scalar y_scale float32, scalar y_zero_point uint8.

    Source: DynamicQuantizeLinear-11.
    """
    kinds = (dtypes.UINT8, dtypes.FLOAT, dtypes.UINT8)
    return Inferred(shapes=(n.shape(0), (), ()), dtypes=kinds)


@op("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", domain=MICROSOFT)
def qlinear_pointwise(n: View) -> Inferred:
    """Y has the shape and type of X. Source: onnxruntime ContribOperators.md."""
    return one(n.shape(0), n.dtype(0))


@op("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def qlinear_binary(n: View) -> Inferred:
    """C = A op B with A (input 0) and B (input 3) broadcast. Source: onnxruntime ContribOperators.md."""
    return one(broadcast(n.shape(0), n.shape(3)), n.dtype(0))


@op("MulInteger", domain=MICROSOFT)
def mul_integer(n: View) -> Inferred:
    """C = A * B in int32, A (input 0) and B (input 2) broadcast. Source: onnxruntime ContribOperators.md."""
    return one(broadcast(n.shape(0), n.shape(2)), dtypes.INT32)


@op("QLinearWhere", domain=MICROSOFT)
def qlinear_where(n: View) -> Inferred:
    """Z = X (input 1) where the condition (input 0) holds, else Y (input 4); all three broadcast.

    Source: onnxruntime ContribOperators.md.
    """
    return one(broadcast(n.shape(0), n.shape(1), n.shape(4)), n.dtype(1))


@op("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(n: View, *, axis: int = 0) -> Inferred:
    """Inputs 2, 5, 8, ... one after the other along `axis`; Y has the type of Y_zero_point (input 1).

    Source: onnxruntime ContribOperators.md.
    """
    shapes = [n.shape(i) for i in range(2, len(n.inputs), 3)]
    if not shapes:
        raise Unanswered("nothing to concatenate")
    at = axis_of(axis, len(shapes[0]))
    others = unified(*((*shape[:at], *shape[at + 1 :]) for shape in shapes))
    total: Size = 0
    for shape in shapes:
        total = total + shape[at]
    return one((*others[:at], total, *others[at:]), n.dtype(1))


@op("QLinearReduceMean", "ReduceSumInteger", domain=MICROSOFT)
def qlinear_reduce(n: View, *, axes: tuple[int, ...] = (), keepdims: int = 1) -> Inferred:
    """The axes become 1, or disappear with keepdims=0. ReduceSumInteger sums to 32 bits of the same sign.

    Source: onnxruntime ContribOperators.md.
    """
    x = n.shape(0)
    reduced = {axis_of(axis, len(x)) for axis in axes}
    sizes = [1 if i in reduced else size for i, size in enumerate(x) if keepdims or i not in reduced]
    if n.node.op == "QLinearReduceMean":
        return one(sizes, n.dtype(0))
    wide = {dtypes.INT8: dtypes.INT32, dtypes.UINT8: dtypes.BY_NAME["uint32"].code}
    return one(sizes, wide.get(n.dtype(0) or 0))


@op("GatherBlockQuantized", domain=MICROSOFT)
def gather_block_quantized(n: View, *, gather_axis: int = 0, bits: int = 4) -> Inferred:
    """Gather of block-quantized rows: data [..., G, ...], indices [*I] -> Y [..., *I, ...], dequantized.

    uint8 data holds 8/bits numbers per byte along its last axis. Y has the type of the scales (input 2).
    Source: onnxruntime ContribOperators.md.
    """
    data, indices = n.shape(0), n.shape(1)
    if n.dtype(0) is None:
        raise Unanswered("the element type of the data is unknown, and with it how it is packed")
    if n.dtype(0) == dtypes.UINT8 and bits in (2, 4):
        data = (*data[:-1], data[-1] * (8 // bits))
    at = axis_of(gather_axis, len(data))
    return one((*data[:at], *indices, *data[at + 1 :]), n.dtype(2))
