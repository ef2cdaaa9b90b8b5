"""Matrix products: Gemm, MatMul and their quantized, fused and block-quantized forms.

Rows of a "fc" kind are products; whether one is a fully connected layer (a constant weight) is for the
analysis. Source: ONNX Operators.md, Gemm-1..13, MatMul-1..13, MatMulInteger-10, QLinearMatMul-10, -21;
onnxruntime ContribOperators.md.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Size, Worked, worked_product
from onnxscope.ops._broadcast import broadcast
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered, one

MICROSOFT = "com.microsoft"


@op("Gemm", kind="fc", multiplies=True)
@op("FusedGemm", "GemmFloat8", domain=MICROSOFT, kind="fc", multiplies=True)
def gemm(n: View, *, transA: int = 0, transB: int = 0, dtype: int = 0) -> Inferred:
    """Y = alpha * A' B' + beta * C; A' [M, K], B' [K, N], C broadcast to [M, N] -> Y [M, N].

    A' and B' are A and B, transposed where transA or transB say so. MACs: M*N*K; adding C and scaling are
    none. Where A or B is unknown, so are M or N and the MACs. GemmFloat8's `dtype` is the type of Y (default
    float32). Source: Gemm-1..13 (the attribute `broadcast` of Gemm-1 and -6 says what C may be, not what Y
    is).
    """
    kind = n.dtype(0) if n.node.op != "GemmFloat8" else dtype or dtypes.FLOAT
    return _gemm(n, (0, 1, 2), (transA, transB), kind)


@op("QGemm", domain=MICROSOFT, kind="fc", multiplies=True)
def qgemm(n: View, *, transA: int = 0, transB: int = 0) -> Inferred:
    """As Gemm with B as input 3 and C as input 6.

    Y has the type of y_zero_point (input 8), float32 without one. Source: onnxruntime ContribOperators.md.
    """
    return _gemm(n, (0, 3, 6), (transA, transB), n.dtype(8) if n.has(8) else dtypes.FLOAT)


def _gemm(n: View, places: tuple[int, int, int], transposed: tuple[int, int], dtype: int | None) -> Inferred:
    a = n.shape(places[0], 2) if n.shape_or_none(places[0]) is not None else None
    b = n.shape(places[1], 2) if n.shape_or_none(places[1]) is not None else None
    rows, k_a = (None, None) if a is None else a[::-1] if transposed[0] else a
    k_b, columns = (None, None) if b is None else b[::-1] if transposed[1] else b
    y = (n.unknown(0) if rows is None else rows, n.unknown(1) if columns is None else columns)
    if k_a is None or k_b is None:
        return Inferred(shapes=(y,), dtypes=(dtype,), unknown_macs=True)
    agree = (("inner dimensions K of A and B", k_a, k_b), *_bias_agree(n.shape_or_none(places[2]), y))
    return one(y, dtype, macs=worked_product((*y, k_b)), agree=agree)


def _bias_agree(c: Shape | None, y: Shape) -> tuple[tuple[str, Size, Size], ...]:
    """What a bias C must match: its sizes other than 1 are those of Y [M, N]."""
    if c is None or len(c) > len(y):
        return ()
    pairs = zip(c[::-1], y[::-1], strict=False)
    return tuple(("C and the output", size, full) for size, full in pairs if size != 1)


@op("MatMul", kind="fc", multiplies=True)
@op("MatMulInteger", "QLinearMatMul", since=10, kind="fc", multiplies=True)
@op("MatMulIntegerToFloat", "DynamicQuantizeMatMul", domain=MICROSOFT, kind="fc", multiplies=True)
@op("MatMulInteger16", "GemmFastGelu", domain=MICROSOFT, kind="fc", multiplies=True)
def matmul(n: View) -> Inferred:
    """Y = A B as numpy's matmul: A [..., M, K], B [..., K, N] -> Y [..., M, N], leading axes broadcast.

    A 1-D A is a row, a 1-D B a column, whose axis Y then lacks. MACs: prod(Y)*K. QLinearMatMul has B as input
    3 and the type of y_zero_point (input 7), MatMulInteger gives int32, MatMulIntegerToFloat the type of
    a_scale (input 2). Source: MatMul-13, MatMulInteger-10, QLinearMatMul-21; onnxruntime ContribOperators.md.
    """
    name = n.node.op
    if name == "QLinearMatMul":
        return product_of(n.shape(0), n.shape(3), n.dtype(7))
    if name == "MatMulInteger16":
        unsigned = n.dtype(0) == n.dtype(1) == dtypes.BY_NAME["uint16"].code
        return product_of(n.shape(0), n.shape(1), dtypes.BY_NAME["uint32"].code if unsigned else dtypes.INT32)
    kinds = {"MatMulInteger": dtypes.INT32, "MatMulIntegerToFloat": n.dtype(2)}
    return product_of(n.shape(0), n.shape(1), kinds.get(name, n.dtype(0)))


@op("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul", domain=MICROSOFT, kind="fc", multiplies=True)
def fused_matmul(
    n: View, *, transA: int = 0, transB: int = 0, transBatchA: int = 0, transBatchB: int = 0
) -> Inferred:
    """As MatMul of A and B with axes moved first; alpha scales.

    transBatch moves axis 0 behind the other leading axes, [D0, D1, ..., R, C] -> [D1, ..., R, D0, C]; trans
    then swaps the last two. 1-D operands stay. Source: onnxruntime ContribOperators.md.
    """
    a = _moved(n.shape(0), bool(transA), bool(transBatchA))
    b = _moved(n.shape(1), bool(transB), bool(transBatchB))
    return product_of(a, b, n.dtype(0))


def _moved(shape: Shape, last_two: bool, batch: bool) -> Shape:
    if len(shape) < 2:
        return shape
    if batch:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if last_two else shape


def product_of(a: Shape, b: Shape, dtype: int | None) -> Inferred:
    """The answer for a matrix product by numpy's rules. Raises Unanswered for scalars and unfit axes."""
    if not a or not b:
        raise Unanswered("a matrix product needs operands with at least one axis")
    left, right = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    lead = broadcast(left[:-2], right[:-2])
    rows = () if len(a) == 1 else (left[-2],)
    columns = () if len(b) == 1 else (right[-1],)
    y = (*lead, *rows, *columns)
    agree = (("inner dimensions K of A and B", left[-1], right[-2]),)
    return one(y, dtype, macs=worked_product((*y, right[-2])), agree=agree)


@op("MatMulNBits", "MatMulBnb4", "MatMulPacked", domain=MICROSOFT, kind="fc", multiplies=True)
def block_quantized(n: View, *, N: int = 0, K: int = 0) -> Inferred:
    """A [..., K] times a packed weight [K, N] -> Y [..., N]. MACs: prod(Y)*K, with the weight unpacked.

    Source: onnxruntime ContribOperators.md.
    """
    a = n.shape(0)
    if not a or N < 1 or K < 1:
        raise Unanswered("a packed product needs A with an axis and the attributes N and K")
    y = (*a[:-1], N)
    return one(
        y, n.dtype(0), macs=worked_product((*y, Worked.of(K))), agree=(("A's last axis and K", a[-1], K),)
    )
