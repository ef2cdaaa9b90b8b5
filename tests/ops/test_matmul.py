"""Gemm, MatMul and kin, Einsum. Expected sizes by hand from the specification and numpy's rules."""

import pytest
from rules import answer

from onnxscope.ops.einsum import parse
from onnxscope.ops.value import Unanswered

MS = "com.microsoft"
Q = ["f32:0.1", "u8:1"]

SHAPES = [
    ("gemm", "Gemm", 13, ["1,800", "800,256", "256"], {}, "1,256", "1*256*800 = 204800"),
    ("gemm opset 1", "Gemm", 1, ["2,3", "3,4", "4"], {"broadcast": 1}, "2,4", "2*4*3 = 24"),
    ("gemm opset 6", "Gemm", 6, ["2,3", "3,4", "2,4"], {}, "2,4", "2*4*3 = 24"),
    ("gemm opset 7", "Gemm", 7, ["2,3", "4,3", "4"], {"transB": 1}, "2,4", "2*4*3 = 24"),
    ("gemm without C", "Gemm", 11, ["2,3", "3,4"], {}, "2,4", "2*4*3 = 24"),
    ("gemm absent C", "Gemm", 11, ["2,3", "3,4", None], {}, "2,4", "2*4*3 = 24"),
    ("gemm transA", "Gemm", 13, ["3,2", "3,4"], {"transA": 1}, "2,4", "2*4*3 = 24"),
    ("gemm both", "Gemm", 13, ["3,2", "4,3"], {"transA": 1, "transB": 1}, "2,4", "2*4*3 = 24"),
    ("gemm scales add nothing", "Gemm", 13, ["2,3", "3,4", "()"], {"alpha": 0.5, "beta": 0.0}, "2,4",
     "2*4*3 = 24"),
    ("gemm symbols", "Gemm", 13, ["N,K", "K,10"], {}, "N,10", "N*10*K = 10*K*N"),
    ("gemm empty batch", "Gemm", 13, ["0,3", "3,4"], {}, "0,4", "0*4*3 = 0"),
    ("gemm unknown A", "Gemm", 13, ["*", "4,3"], {"transB": 1}, "y0.dim0,4", "unknown"),
    ("gemm unknown B", "Gemm", 13, ["N,3", "*"], {}, "N,y0.dim1", "unknown"),
    ("gemm rank 4", "Gemm", 13, ["1,2,3,4", "24,4"], {}, "*", "unknown"),
    # --- MatMul
    ("matmul", "MatMul", 13, ["N,S,768", "768,3072"], {}, "N,S,3072", "N*S*3072*768 = 2359296*N*S"),
    ("matmul opset 1", "MatMul", 1, ["2,3", "3,4"], {}, "2,4", "2*4*3 = 24"),
    ("matmul opset 9", "MatMul", 9, ["2,3", "3,4"], {}, "2,4", "2*4*3 = 24"),
    ("matmul batches broadcast", "MatMul", 13, ["5,1,2,3", "7,3,4"], {}, "5,7,2,4", "5*7*2*4*3 = 840"),
    ("matmul heads", "MatMul", 13, ["N,12,S,64", "N,12,64,T"], {}, "N,12,S,T", "N*12*S*T*64 = 768*N*S*T"),
    ("matmul left weight", "MatMul", 13, ["4,3", "N,3,5"], {}, "N,4,5", "N*4*5*3 = 60*N"),
    ("matmul row", "MatMul", 13, ["3", "3,4"], {}, "4", "4*3 = 12"),
    ("matmul column", "MatMul", 13, ["2,3", "3"], {}, "2", "2*3 = 6"),
    ("matmul row, batches", "MatMul", 13, ["3", "5,3,4"], {}, "5,4", "5*4*3 = 60"),
    ("matmul column, batches", "MatMul", 13, ["5,2,3", "3"], {}, "5,2", "5*2*3 = 30"),
    ("matmul dot", "MatMul", 13, ["3", "3"], {}, "()", "3"),
    ("matmul scalar", "MatMul", 13, ["()", "3,4"], {}, "*", "unknown"),
    ("matmul batches differ", "MatMul", 13, ["2,2,3", "5,3,4"], {}, "*", "unknown"),
    ("matmul unknown", "MatMul", 13, ["*", "3,4"], {}, "*", "unknown"),
    ("integer", "MatMulInteger", 10, ["u8 2,3", "i8 3,4"], {}, "2,4", "2*4*3 = 24"),
    ("qlinear", "QLinearMatMul", 10, ["u8 2,2,3", *Q, "u8 2,3,4", *Q, *Q], {}, "2,2,4", "2*2*4*3 = 48"),
    ("qlinear 21", "QLinearMatMul", 21, ["u8 3", *Q, "u8 3,4", *Q, *Q], {}, "4", "4*3 = 12"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "shape", "macs"), [r[1:] for r in SHAPES],
                         ids=[r[0] for r in SHAPES])  # fmt: skip
def test_shape_and_macs(name, opset, inputs, attributes, shape, macs):
    found = answer(name, opset, inputs, attributes)
    assert (found.shape, found.macs) == (shape, macs)


MICROSOFT = [
    ("FusedGemm", ["2,3", "4,3", "4"], {"transB": 1, "activation": "Relu"}, "2,4", "2*4*3 = 24"),
    ("QGemm", ["u8 2,3", *Q, "u8 3,4", *Q, "i32 4", *Q], {}, "2,4", "2*4*3 = 24"),
    ("QGemm", ["u8 2,3", *Q, "u8 4,3", *Q], {"transB": 1}, "2,4", "2*4*3 = 24"),
    ("FusedMatMul", ["2,3", "3,4"], {"alpha": 0.125}, "2,4", "2*4*3 = 24"),
    ("FusedMatMul", ["N,12,S,64", "N,12,S,64"], {"transB": 1}, "N,12,S,S", "N*12*S*S*64 = 768*N*S*S"),
    ("FusedMatMul", ["5,3,2", "5,3,4"], {"transA": 1}, "5,2,4", "5*2*4*3 = 120"),
    # transBatch: [3,4,2,5] -> [4,2,3,5]
    ("FusedMatMul", ["3,4,2,5", "4,2,5,7"], {"transBatchA": 1}, "4,2,3,7", "4*2*3*7*5 = 840"),
    ("FusedMatMul", ["4,2,3,5", "7,4,2,5"], {"transBatchB": 1, "transB": 1}, "4,2,3,7", "4*2*3*7*5 = 840"),
    ("FusedMatMul", ["4,2,3", "2,4,5"], {"transBatchA": 1, "transA": 1}, "2,3,5", "2*3*5*4 = 120"),
    ("FusedMatMul", ["4", "4,5"], {"transA": 1}, "5", "5*4 = 20"),
    ("TransposeMatMul", ["2,5,4", "2,5,3"], {"transA": 1}, "2,4,3", "2*4*3*5 = 120"),
    ("MatMulIntegerToFloat", ["u8 2,3", "u8 3,4", "f32:0.1", "f32:0.1"], {}, "2,4", "2*4*3 = 24"),
    ("DynamicQuantizeMatMul", ["N,S,3", "i8 3,4", "f32:0.1"], {}, "N,S,4", "N*S*4*3 = 12*N*S"),
    ("GemmFastGelu", ["2,5,3", "3,4", "4"], {}, "2,5,4", "2*5*4*3 = 120"),
    ("MatMulNBits", ["N,S,32", "u8 5,2,8", "5,2"], {"K": 32, "N": 5, "bits": 4, "block_size": 16}, "N,S,5",
     "N*S*5*32 = 160*N*S"),
    ("MatMulNBits", ["N,S,32", "u8 5,2,8", "5,2"], {}, "*", "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inputs", "attributes", "shape", "macs"), MICROSOFT)
def test_onnxruntime_forms(name, inputs, attributes, shape, macs):
    found = answer(name, 1, inputs, attributes, domain=MS)
    assert (found.shape, found.macs) == (shape, macs)


@pytest.mark.parametrize(
    ("name", "inputs", "problem"),
    [
        ("Gemm", ["2,3", "4,5"], "Gemm: inner dimensions K of A and B don't match: 3 and 4"),
        ("Gemm", ["2,3", "3,4", "5"], "Gemm: C and the output don't match: 5 and 4"),
        ("MatMul", ["2,3", "4,5"], "MatMul: inner dimensions K of A and B don't match: 3 and 4"),
        ("MatMul", ["N,3", "4,5"], "MatMul: inner dimensions K of A and B don't match: 3 and 4"),
    ],
)
def test_operands_that_do_not_fit(name, inputs, problem):
    assert answer(name, 13, inputs).problems == (problem,)


@pytest.mark.parametrize("c", ["()", "1", "4", "1,4", "2,1", "2,4", "1,1"])
def test_every_legal_bias_of_gemm(c):
    assert answer("Gemm", 13, ["2,3", "3,4", c]).problems == ()


@pytest.mark.parametrize(
    ("name", "domain", "inputs", "attributes", "dtype"),
    [
        ("Gemm", "", ["f16 2,3", "f16 3,4"], {}, "float16"),
        ("MatMul", "", ["i64 2,3", "i64 3,4"], {}, "int64"),
        ("MatMulInteger", "", ["u8 2,3", "i8 3,4"], {}, "int32"),
        ("QLinearMatMul", "", ["u8 2,3", *Q, "u8 3,4", *Q, "f32:0.1", "i8:0"], {}, "int8"),
        ("QGemm", MS, ["u8 2,3", *Q, "u8 3,4", *Q, None, "f32:0.1", "i8:0"], {}, "int8"),
        ("QGemm", MS, ["u8 2,3", *Q, "u8 3,4", *Q], {}, "float32"),
        ("MatMulIntegerToFloat", MS, ["u8 2,3", "u8 3,4", "f16:0.1", "f16:0.1"], {}, "float16"),
        ("MatMulInteger16", MS, ["i16 2,3", "i16 3,4"], {}, "int32"),
        ("MatMulInteger16", MS, ["u16 2,3", "u16 3,4"], {}, "uint32"),
        ("GemmFloat8", MS, ["f8 2,3", "f8 3,4"], {}, "float32"),
        ("GemmFloat8", MS, ["f8 2,3", "f8 3,4"], {"dtype": 10}, "float16"),
    ],
)
def test_dtype(name, domain, inputs, attributes, dtype):
    assert answer(name, 21 if not domain else 1, inputs, attributes, domain=domain).dtype == dtype


EINSUM = [
    ("ij,jk->ik", ["2,3", "3,4"], "2,4", "2*3*4 = 24"),
    ("ij,jk", ["2,3", "3,4"], "2,4", "2*3*4 = 24"),
    ("ij , jk -> ki", ["2,3", "3,4"], "4,2", "2*3*4 = 24"),
    ("bhqd,bhkd->bhqk", ["N,12,S,64", "N,12,T,64"], "N,12,S,T", "N*12*S*64*T = 768*N*S*T"),
    ("...ij,...jk->...ik", ["N,7,2,3", "N,7,3,4"], "N,7,2,4", "N*7*2*3*4 = 168*N"),
    ("...ij,jk", ["N,7,2,3", "3,4"], "N,7,2,4", "N*7*2*3*4 = 168*N"),
    ("i...,i...->...", ["4,3", "4,3"], "3", "3*4 = 12"),
    ("...,...->", ["2,3", "2,3"], "()", "2*3 = 6"),
    ("i,i", ["5", "5"], "()", "5"),
    ("ij,jk,kl->il", ["2,3", "3,4", "4,5"], "2,5", "2*3*4*5 = 120"),
    ("Ab,bC->AC", ["2,3", "3,4"], "2,4", "2*3*4 = 24"),
    ("ba", ["2,3"], "3,2", None),  # alphabetical without an arrow
    ("...ba", ["5,2,3"], "5,3,2", None),
    ("ij->ji", ["2,H"], "H,2", None),
    ("ij->", ["2,3"], "()", None),
    ("ii->i", ["3,3"], "3", None),
    ("ii", ["3,3"], "()", None),
    ("...ii->...i", ["2,3,3"], "2,3", None),
    ("i,j->ij", ["2", "3"], "2,3", None),  # nothing is summed
    ("ij,ij->ij", ["2,3", "2,3"], "2,3", None),
    ("ij,ij->i", ["2,1", "2,3"], "2", "2*3 = 6"),
    ("ij,jk->ik", ["2,3", "4,5"], "*", "unknown"),
    ("ij,jk->ik", ["2,3"], "*", "unknown"),
    ("ijk->i", ["2,3"], "*", "unknown"),
    ("ij->ik", ["2,3"], "*", "unknown"),
    ("ij->ii", ["2,3"], "*", "unknown"),
    ("i1->i", ["2,3"], "*", "unknown"),
    ("ij,jk->ik", ["*", "3,4"], "*", "unknown"),
]


@pytest.mark.parametrize("opset", [12, 28])
@pytest.mark.parametrize(("equation", "inputs", "shape", "macs"), EINSUM)
def test_einsum(opset, equation, inputs, shape, macs):
    found = answer("Einsum", opset, inputs, {"equation": equation})
    assert (found.shape, found.macs) == (shape, macs)


def test_einsum_notation_is_checked():
    with pytest.raises(Unanswered, match="not in einsum's notation"):
        parse("......i->i")
