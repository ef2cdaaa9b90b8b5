"""Pointwise ops: broadcasting, folding, types. Expected by hand from Broadcasting.md and Operators.md.

Rows without symbols are also run in onnxruntime.
"""

import pytest
from rules import answer, is_concrete, measured

SHAPES = [
    # --- multidirectional broadcasting
    ("same", "Add", 14, ["N,3,H,W", "N,3,H,W"], {}, "N,3,H,W"),
    ("one stretches", "Add", 14, ["2,1,4", "1,3,1"], {}, "2,3,4"),
    ("ranks differ", "Sub", 14, ["2,3,4", "4"], {}, "2,3,4"),
    ("scalar", "Mul", 14, ["()", "2,3"], {}, "2,3"),
    ("scalars", "Mul", 14, ["()", "()"], {}, "()"),
    ("empty against one", "Add", 14, ["0,3", "1,3"], {}, "0,3"),
    ("empty against scalar", "Add", 14, ["0", "()"], {}, "0"),
    ("one against a symbol", "Div", 14, ["1,C", "N,1"], {}, "N,C"),
    ("a number against a symbol", "Add", 14, ["N,5", "3,H"], {}, "3,5"),
    ("two symbols", "Add", 14, ["N,H", "N,W"], {}, "N,max(H, W)"),
    ("two symbols and a number", "Max", 13, ["H", "W", "7"], {}, "7"),
    ("three symbols, once each", "Sum", 13, ["H", "W", "H"], {}, "max(H, W)"),
    ("numbers that differ", "Add", 14, ["2,3", "2,4"], {}, "*"),
    ("empty against two", "Add", 14, ["0", "2"], {}, "*"),
    ("unknown operand", "Add", 14, ["2,3", "*"], {}, "*"),
    ("unnamed axis", "Add", 14, ["?,3", "1"], {}, "x0.dim0,3"),
    ("newest", "Add", 28, ["N,1", "1,3"], {}, "N,3"),
    ("first with numpy's rules", "Add", 7, ["3,1", "1,4"], {}, "3,4"),
    ("pow", "Pow", 15, ["2,1", "3"], {}, "2,3"),
    ("pow 7", "Pow", 7, ["2,1", "3"], {}, "2,3"),
    ("mod", "Mod", 10, ["i64 2,1", "i64 3"], {}, "2,3"),
    ("mod 28", "Mod", 28, ["i64 2,1", "i64 3"], {}, "2,3"),
    ("bit shift", "BitShift", 11, ["u8 2,1", "u8 3"], {"direction": "LEFT"}, "2,3"),
    ("bitwise", "BitwiseAnd", 18, ["i32 2,1", "i32 3"], {}, "2,3"),
    ("bitwise or", "BitwiseOr", 18, ["i32 2", "i32 ()"], {}, "2"),
    ("bitwise xor", "BitwiseXor", 18, ["i32 1,2", "i32 2,1"], {}, "2,2"),
    # --- below opset 7: B is stretched to A
    ("A's shape", "Add", 6, ["2,3,4,5", "3,4"], {"broadcast": 1, "axis": 1}, "2,3,4,5"),
    ("A's shape 1", "Mul", 1, ["2,3", "3"], {"broadcast": 1}, "2,3"),
    ("A's shape, B unknown", "Div", 6, ["N,C", "*"], {"broadcast": 1}, "N,C"),
    ("A unknown", "Sub", 6, ["*", "3"], {"broadcast": 1}, "*"),
    ("pow 1", "Pow", 1, ["2,3", "2,3"], {}, "2,3"),
    ("equal 1", "Equal", 1, ["i64 2,3", "i64 3"], {"broadcast": 1}, "2,3"),
    ("and 1", "And", 1, ["bool 2,3", "bool 3"], {"broadcast": 1}, "2,3"),
    # --- comparisons and logic
    ("equal", "Equal", 13, ["2,1", "3"], {}, "2,3"),
    ("equal 7", "Equal", 7, ["i64 2,1", "i64 3"], {}, "2,3"),
    ("greater", "Greater", 13, ["2,1", "3"], {}, "2,3"),
    ("greater or equal", "GreaterOrEqual", 16, ["2,1", "3"], {}, "2,3"),
    ("less", "Less", 9, ["2,1", "3"], {}, "2,3"),
    ("less or equal", "LessOrEqual", 12, ["N,1", "3"], {}, "N,3"),
    ("and", "And", 7, ["bool 2,1", "bool 3"], {}, "2,3"),
    ("or", "Or", 7, ["bool 2", "bool ()"], {}, "2"),
    ("xor", "Xor", 7, ["bool 2", "bool 1,2"], {}, "1,2"),
    # --- any number of operands
    ("max of one", "Max", 13, ["2,3"], {}, "2,3"),
    ("min of three", "Min", 13, ["2,1", "3", "()"], {}, "2,3"),
    ("mean", "Mean", 13, ["2,1", "3"], {}, "2,3"),
    ("sum 8", "Sum", 8, ["2,1", "3"], {}, "2,3"),
    ("sum 6 has one shape", "Sum", 6, ["N,3", "2,3"], {}, "2,3"),
    ("sum 6 of two ranks", "Sum", 6, ["2,3", "3"], {}, "*"),
    ("max 7 of two numbers", "Max", 7, ["2,3", "2,1"], {}, "*"),
    ("where", "Where", 16, ["bool 2,1", "3", "4,1,1"], {}, "4,2,3"),
    ("where 9, symbols", "Where", 9, ["bool N,1", "()", "N,C"], {}, "N,C"),
    ("where, unknown condition", "Where", 16, ["bool *", "3", "3"], {}, "*"),
    # --- one operand
    *(
        (name, name, 22, ["2,3"], {}, "2,3")
        for name in "Acos Acosh Asin Asinh Atan Atanh Cos Cosh Sin Sinh Tan Exp Log Erf Abs Ceil Floor Neg "
        "Reciprocal Relu Round Sign Sqrt IsInf IsNaN Identity".split()
    ),
    ("not", "Not", 1, ["bool 2,3"], {}, "2,3"),
    ("bitwise not", "BitwiseNot", 18, ["i32 2,3"], {}, "2,3"),
    ("abs 1", "Abs", 1, ["N,C"], {"consumed_inputs": [0]}, "N,C"),
    ("unknown rank", "Exp", 13, ["*"], {}, "*"),
    ("scalar operand", "Sqrt", 13, ["()"], {}, "()"),
    ("cumsum", "CumSum", 14, ["2,3", "i64:1"], {}, "2,3"),
    ("cumprod", "CumProd", 26, ["N,3", "i64:1"], {}, "N,3"),
    ("trilu", "Trilu", 14, ["N,3,4"], {"upper": 0}, "N,3,4"),
    ("cast", "Cast", 13, ["N,3"], {"to": 7}, "N,3"),
    ("cast like", "CastLike", 15, ["2,3", "i32 *"], {}, "2,3"),
    ("bit cast", "BitCast", 26, ["N,3"], {"to": 6}, "N,3"),
]

TYPES = [
    ("arithmetic", "Add", 14, ["f16 2", "f16 2"], {}, "float16"),
    ("type of the other operand", "Mul", 14, ["i32 2", "i32 2"], {}, "int32"),
    ("pow keeps the base", "Pow", 15, ["f64 2", "i64 2"], {}, "float64"),
    ("equal", "Equal", 19, ["i64 2", "i64 2"], {}, "bool"),
    ("less", "Less", 13, ["i64 2", "i64 2"], {}, "bool"),
    ("and", "And", 7, ["bool 2", "bool 2"], {}, "bool"),
    ("isnan", "IsNaN", 20, ["2"], {}, "bool"),
    ("isinf", "IsInf", 10, ["2"], {}, "bool"),
    ("where takes X", "Where", 16, ["bool 2", "i64 2", "i64 2"], {}, "int64"),
    ("cast by number", "Cast", 13, ["2"], {"to": 6}, "int32"),
    ("cast to half", "Cast", 9, ["2"], {"to": 10}, "float16"),
    ("cast to string", "Cast", 9, ["2"], {"to": 8}, "string"),
    ("cast 1 by name", "Cast", 1, ["2"], {"to": "FLOAT16"}, "float16"),
    ("cast 1 to FLOAT", "Cast", 1, ["i64 2"], {"to": "FLOAT"}, "float32"),
    ("cast 1 to DOUBLE", "Cast", 5, ["2"], {"to": "DOUBLE"}, "float64"),
    ("cast 1 to BOOL", "Cast", 1, ["2"], {"to": "BOOL"}, "bool"),
    ("cast to a type of tomorrow", "Cast", 25, ["2"], {"to": 99}, "type 99"),
    ("cast like", "CastLike", 19, ["2", "u8 1"], {}, "uint8"),
    ("bit cast", "BitCast", 26, ["2"], {"to": 6}, "int32"),
    ("identity", "Identity", 14, ["i4 2"], {}, "int4"),
]

CONTENT = [
    # --- numbers, in the arithmetic of their type
    ("add", "Add", 14, ["i64:[1,2]", "i64:[10]"], {}, "[11, 12]"),
    ("broadcast", "Mul", 14, ["i64:[[1],[2]]", "i64:[3,4]"], {}, "[[3, 4], [6, 8]]"),
    ("legacy axis", "Add", 6, ["i64:[[1],[2]]", "i64:[3,4]"], {"broadcast": 1, "axis": 0}, "[[4], [6]]"),
    ("div toward zero", "Div", 14, ["i64:[-7,7,-7]", "i64:[2,-2,-2]"], {}, "[-3, -3, 3]"),
    ("div by zero", "Div", 14, ["i64:[1]", "i64:[0]"], {}, None),
    ("div of floats", "Div", 14, ["f32:[1.0]", "f32:[4.0]"], {}, "[0.25]"),
    ("float32 rounds", "Mul", 14, ["f32:[10.0]", "f32:[0.7]"], {}, "[7.0]"),
    ("int32 overflow stays out", "Mul", 14, ["i32:[65536]", "i32:[65536]"], {}, None),
    ("uint8 below zero stays out", "Sub", 14, ["u8:[1]", "u8:[2]"], {}, None),
    ("mod has the divisor's sign", "Mod", 13, ["i64:[-7,7]", "i64:[3,-3]"], {}, "[2, -2]"),
    ("fmod has the dividend's sign", "Mod", 13, ["i64:[-7,7]", "i64:[3,-3]"], {"fmod": 1}, "[-1, 1]"),
    ("fmod of floats", "Mod", 13, ["f32:[-7.5]", "f32:[2.0]"], {"fmod": 1}, "[-1.5]"),
    ("pow", "Pow", 15, ["i64:[2,3]", "i64:[10,0]"], {}, "[1024, 1]"),
    ("pow to a negative", "Pow", 15, ["i64:[2]", "i64:[-1]"], {}, None),
    ("square root by pow", "Pow", 15, ["f32:[9.0]", "f32:[0.5]"], {}, "[3.0]"),
    ("bit shift left", "BitShift", 11, ["u8:[1,4]", "u8:[3,0]"], {"direction": "LEFT"}, "[8, 4]"),
    ("bit shift right", "BitShift", 11, ["u8:[9,4]", "u8:[1,2]"], {"direction": "RIGHT"}, "[4, 1]"),
    ("bits and", "BitwiseAnd", 18, ["i32:[6]", "i32:[3]"], {}, "[2]"),
    ("bits xor", "BitwiseXor", 18, ["i32:[6]", "i32:[3]"], {}, "[5]"),
    ("max", "Max", 13, ["i64:[1,5]", "i64:[3]"], {}, "[3, 5]"),
    ("min", "Min", 13, ["i64:[1,5]", "i64:[3]", "i64:[4]"], {}, "[1, 3]"),
    ("mean", "Mean", 13, ["f32:[1.0]", "f32:[4.0]"], {}, "[2.5]"),
    ("sum", "Sum", 13, ["f32:[1.0]", "f32:[4.0]", "f32:[0.5]"], {}, "[5.5]"),
    ("equal", "Equal", 13, ["i64:[1,2]", "i64:[1,3]"], {}, "[True, False]"),
    ("greater", "Greater", 13, ["i64:[2,3]", "i64:2"], {}, "[False, True]"),
    ("greater or equal", "GreaterOrEqual", 16, ["f32:[1.0,2.0]", "f32:2.0"], {}, "[False, True]"),
    ("less or equal", "LessOrEqual", 16, ["f32:[1.0,3.0]", "f32:2.0"], {}, "[True, False]"),
    ("xor", "Xor", 7, ["bool:[True,False]", "bool:True"], {}, "[False, True]"),
    ("where", "Where", 16, ["bool:[True,False]", "i64:[1,2]", "i64:[3,4]"], {}, "[1, 4]"),
    ("where on one side", "Where", 16, ["bool:[True,True]", "i64:[1,2]", "i64 1"], {}, "[1, 2]"),
    ("where on a side that stretches", "Where", 16, ["bool:[True]", "i64:[1]", "i64 2"], {}, None),
    ("not", "Not", 1, ["bool:[True,False]"], {}, "[False, True]"),
    ("floor", "Floor", 13, ["f32:[1.5,-1.5]"], {}, "[1.0, -2.0]"),
    ("ceil", "Ceil", 13, ["f32:[1.5,-1.5]"], {}, "[2.0, -1.0]"),
    ("round half to even", "Round", 11, ["f32:[0.5,1.5,2.5,-2.5]"], {}, "[0.0, 2.0, 2.0, -2.0]"),
    ("sqrt", "Sqrt", 13, ["f32:[9.0]"], {}, "[3.0]"),
    ("sqrt of a negative", "Sqrt", 13, ["f32:[-1.0]"], {}, None),
    ("reciprocal", "Reciprocal", 13, ["f32:[4.0]"], {}, "[0.25]"),
    ("abs", "Abs", 13, ["i64:[-4]"], {}, "[4]"),
    ("neg", "Neg", 13, ["i64:[-4]"], {}, "[4]"),
    ("sign", "Sign", 13, ["i64:[-4,0,9]"], {}, "[-1, 0, 1]"),
    ("relu", "Relu", 14, ["i32:[-4,9]"], {}, "[0, 9]"),
    ("cast cuts toward zero", "Cast", 13, ["f32:[1.9,-1.9]"], {"to": 7}, "[1, -1]"),
    ("cast to bool", "Cast", 13, ["i64:[0,5]"], {"to": 9}, "[False, True]"),
    ("cast from bool", "Cast", 13, ["bool:[False,True]"], {"to": 1}, "[0.0, 1.0]"),
    ("cast rounds to half", "Cast", 13, ["f32:[2049.0]"], {"to": 10}, "[2048.0]"),
    ("identity", "Identity", 16, ["i64:[3]"], {}, "[3]"),
    ("no content", "Add", 14, ["i64 2", "i64:[1,2]"], {}, None),
    ("empty", "Add", 14, ["i64:[]", "i64:[1]"], {}, "[]"),
]  # fmt: skip

SYMBOLS = [
    ("add", "Add", 14, ["size:[N,H]", "i64:[1]"], {}, "[N + 1, H + 1]"),
    ("mul", "Mul", 14, ["size:[H]", "size:[W]"], {}, "[H*W]"),
    ("div", "Div", 14, ["size:[H]", "i64:[2]"], {}, "[H//2]"),
    ("div exactly", "Div", 14, ["size:[6*H*W]", "size:[2*W]"], {}, "[3*H]"),
    ("div, sign open", "Div", 14, ["size:[H-3]", "i64:[2]"], {}, "[max((H - 3)//2, min(0, (H - 2)//2))]"),
    ("div by a negative", "Div", 14, ["size:[H]", "i64:[-2]"], {}, "[-(H//2)]"),
    ("div by an unknown sign", "Div", 14, ["size:[H]", "size:[H-3]"], {}, None),
    ("mod", "Mod", 13, ["size:[H]", "i64:[4]"], {}, "[H - 4*(H//4)]"),
    ("fmod", "Mod", 13, ["size:[H]", "i64:[4]"], {"fmod": 1}, "[H - 4*(H//4)]"),
    ("square", "Pow", 15, ["size:[H]", "i64:2"], {}, "[H*H]"),
    ("max decided", "Max", 13, ["size:[H]", "i64:[1]"], {}, "[H]"),
    ("max open", "Max", 13, ["size:[H]", "i64:[8]"], {}, "[max(8, H)]"),
    ("min open", "Min", 13, ["size:[H]", "size:[W]"], {}, "[min(H, W)]"),
    ("sum", "Sum", 13, ["size:[H]", "i64:[1]", "size:[W]"], {}, "[H + W + 1]"),
    ("equal to -1 is false", "Equal", 13, ["size:[N,3]", "i64:[-1]"], {}, "[False, False]"),
    ("equal to itself", "Equal", 13, ["size:[2*N]", "size:[N+N]"], {}, "[True]"),
    ("equal to 1 is open", "Equal", 13, ["size:[N]", "i64:[1]"], {}, None),
    ("one open answer hides all", "Equal", 13, ["size:[N,3]", "i64:[1]"], {}, None),
    ("greater than 0", "Greater", 13, ["size:[N]", "i64:[0]"], {}, "[True]"),
    ("greater than 1 is open", "Greater", 13, ["size:[N]", "i64:[1]"], {}, None),
    ("less", "Less", 13, ["size:[N]", "size:[N+1]"], {}, "[True]"),
    ("less or equal", "LessOrEqual", 16, ["size:[N//2]", "size:[N]"], {}, "[True]"),
    ("greater or equal", "GreaterOrEqual", 16, ["size:[N]", "i64:[1]"], {}, "[True]"),
    ("where", "Where", 16, ["bool:[True,False]", "size:[N,H]", "i64:[-1]"], {}, "[N, -1]"),
    ("abs decided", "Abs", 13, ["size:[H]"], {}, "[H]"),
    ("abs open", "Abs", 13, ["size:[H-3]"], {}, "[max(-H + 3, H - 3)]"),
    ("neg", "Neg", 13, ["size:[H]"], {}, "[-H]"),
    ("sign", "Sign", 13, ["size:[H]"], {}, "[1]"),
    ("sign open", "Sign", 13, ["size:[H-1]"], {}, None),
    ("relu", "Relu", 14, ["size:[H-3]"], {}, "[max(0, H - 3)]"),
    ("cast to float and bool", "Cast", 13, ["size:[H]"], {"to": 1}, "[H]"),
    ("cast to bool", "Cast", 13, ["size:[H]"], {"to": 9}, "[True]"),
    ("cast to half is not exact", "Cast", 13, ["size:[H]"], {"to": 10}, None),
    ("identity", "Identity", 16, ["size:[H]"], {}, "[H]"),
]  # fmt: skip


COLUMNS = ("_", "op", "opset", "inputs", "attributes", "expected")


def ids(rows):
    return [row[0].replace(" ", "-") for row in rows]


@pytest.mark.parametrize(COLUMNS, SHAPES, ids=ids(SHAPES))
def test_shape(_, op, opset, inputs, attributes, expected):
    found = answer(op, opset, inputs, attributes)
    assert found.shape == expected
    assert found.answered == (expected != "*")


@pytest.mark.parametrize(COLUMNS, TYPES, ids=ids(TYPES))
def test_type(_, op, opset, inputs, attributes, expected):
    assert answer(op, opset, inputs, attributes).dtype == expected


@pytest.mark.parametrize(COLUMNS, CONTENT + SYMBOLS, ids=ids(CONTENT + SYMBOLS))
def test_content(_, op, opset, inputs, attributes, expected):
    assert answer(op, opset, inputs, attributes).value == expected


MEASURED = [row for row in SHAPES + CONTENT if is_concrete(row[3]) and row[5] != "*" and 7 <= row[2] <= 22]


@pytest.mark.parametrize(COLUMNS, MEASURED, ids=ids(MEASURED))
def test_onnxruntime_agrees(_, op, opset, inputs, attributes, expected):
    if expected is None and op == "Div":
        pytest.skip("a division by zero stops onnxruntime")
    found = answer(op, opset, inputs, attributes)
    shape, dtype, items = measured(op, opset, inputs, attributes)[0]
    assert (found.shape, found.dtype) == (shape, dtype)
    known = found.facts.value("y0").known()
    assert known is None or list(known.items) == items


def test_type_of_an_absent_rank_is_unknown():
    found = answer("Add", 14, ["*", "*"])
    assert (found.shape, found.value) == ("*", None)


def test_large_contents_are_not_followed():
    limit = "i64:" + repr([1] * 4096)
    assert answer("Add", 14, [limit, "i64:[1]"]).value is not None
    assert answer("Add", 14, [limit, "i64:[[1],[1]]"]).value is None
