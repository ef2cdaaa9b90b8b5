"""onnx's own inference for ops without a rule. The rule is called directly: no standard op is left to it."""

import pytest
from rules import answer, attribute, constant

from onnxscope.expr import symbol
from onnxscope.graph import Node, SparseTensor, Tensor, Type
from onnxscope.ops import fallback
from onnxscope.ops.registry import View
from onnxscope.ops.value import Data, Unanswered, ValueFact

N, H = symbol("N"), symbol("H")
X = ValueFact(1, (N, 3, H // 2))
TWO = ValueFact(7, (1,), data=Data((1,), (2,)))
REPEATS = ValueFact(7, (2,), data=Data((2,), (N, 3)))
TARGET = ValueFact(7, (2,), tensor=constant("i64:[0,-1]"))
SPARSE = SparseTensor(Tensor("v", 1, (1,), None), Tensor("i", 7, (1,), None), (9,))


def infer(name, inputs, attributes=None, *, domain="", version=17, outputs=1, ir_version=8):
    names = tuple(f"x{i}" if fact else "" for i, fact in enumerate(inputs))
    results = tuple(f"y{i}" for i in range(outputs))
    given = tuple(attribute(key, value) for key, value in (attributes or {}).items())
    view = View(
        Node(0, "node", name, domain, names, results, given), version, tuple(inputs), lambda *_: None, []
    )
    return fallback.infer(view, ir_version)


def text(shape):
    return "*" if shape is None else ",".join(map(str, shape)) or "()"


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "shapes", "dtypes"),
    [
        ("Relu", [X], {}, ["N,3,H//2"], [1]),
        ("Bernoulli", [X], {"dtype": 7}, ["N,3,H//2"], [7]),
        ("Dropout", [X], {}, ["N,3,H//2", "N,3,H//2"], [1, 9]),
        ("Gemm", [ValueFact(1, (N, 3)), ValueFact(1, (3, H))], {}, ["N,H"], [1]),
        ("Concat", [X, X], {"axis": -1}, ["N,3,y0.dim2"], [1]),
        ("TopK", [X, TWO], {"axis": 1}, ["N,2,H//2", "N,2,H//2"], [1, 7]),
        ("Tile", [ValueFact(1, (2, 3)), REPEATS], {}, ["y0.dim0,y0.dim1"], [1]),
        ("Reshape", [X, TARGET], {}, ["N,y0.dim1"], [1]),
        ("Relu", [ValueFact(1, None)], {}, ["*"], [1]),
        ("Clip", [X, None, ValueFact(1, ())], {}, ["N,3,H//2"], [1]),
        ("Constant", [], {"value": constant("f32:[1.5,2.5]")}, ["2"], [1]),
        ("Constant", [], {"value": Tensor("big", 1, (5000, 2), None)}, ["5000,2"], [1]),
        ("Upsample", [ValueFact(1, (1, 2))], {"scales": [2.0, 3.0]}, ["2,6"], [1]),
    ],
)  # fmt: skip
def test_tensors(name, inputs, attributes, shapes, dtypes):
    version = 8 if name == "Upsample" else 17
    found = infer(name, inputs, attributes, outputs=len(shapes), version=version)
    assert ([text(shape) for shape in found.shapes], list(found.dtypes)) == (shapes, dtypes)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "domain", "expected"),
    [
        ("SequenceConstruct", [X, X], {}, "", ("sequence", 1, "N,3,H//2")),
        ("SequenceAt", [ValueFact(1, (N,), "sequence"), ValueFact(7, ())], {}, "", ("", 1, "N")),
        ("Optional", [ValueFact(1, (N,), "sequence")], {}, "", ("optional of sequence", 1, "N")),
        ("Optional", [], {"type": Type("sequence", element=Type("tensor", 1, (3,)))}, "",
         ("optional of sequence", 1, "3")),
        ("OptionalGetElement", [ValueFact(1, (N,), "optional of sequence")], {}, "", ("sequence", 1, "N")),
        ("ZipMap", [ValueFact(1, (N, 2))], {"classlabels_int64s": [1, 2]}, "ai.onnx.ml",
         ("sequence of map", None, "*")),
        ("CastMap", [ValueFact(7, None, "map")], {}, "ai.onnx.ml", ("", 1, "*")),
    ],
)  # fmt: skip
def test_containers(name, inputs, attributes, domain, expected):
    found = infer(name, inputs, attributes, domain=domain, version=1 if domain else 17)
    assert (found.containers[0], found.dtypes[0], text(found.shapes[0])) == expected


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "options", "reason"),
    [
        ("Bar", [X], {}, {"domain": "com.foo"}, "no rule for com.foo:Bar; its shapes and MACs are unknown"),
        ("Bar", [X], {}, {}, "no rule for Bar; its shapes and MACs are unknown"),
        ("Mish", [X], {}, {"version": 17}, "opset 17 of domain 'ai.onnx' has no Mish"),
        ("Split", [], {}, {}, "onnx's shape inference fails: "),
        ("If", [ValueFact(9, ())], {}, {}, "onnx's shape inference"),
        ("Constant", [], {"sparse_value": SPARSE}, {},
         "attribute 'sparse_value' holds a graph or sparse tensor, which onnx alone can't judge"),
        ("Optional", [], {"type": Type("map", 7, element=Type("tensor", 1))}, {},
         "an attribute holds a map type, which no standard op takes"),
    ],
)  # fmt: skip
def test_refusals(name, inputs, attributes, options, reason):
    with pytest.raises(Unanswered) as caught:
        infer(name, inputs, attributes, **options)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


def test_symbols_of_equal_sizes_stay_one():
    """Both inputs have the size H//2; onnx must see one token, or it couldn't match them."""
    found = infer("Add", [ValueFact(1, (N, H // 2)), ValueFact(1, (1, H // 2))])
    assert text(found.shapes[0]) == "N,H//2"


@pytest.mark.parametrize("ir_version", [3, 4, 13])
def test_any_ir_version(ir_version):
    data = ValueFact(7, (2,), data=Data((2,), (6, 4)))
    assert text(infer("Expand", [ValueFact(1, (1, 4)), data], ir_version=ir_version).shapes[0]) == "6,4"


@pytest.mark.parametrize(("name", "unknown"), [("Gemm", True), ("Relu", False)])
def test_macs_of_products_are_unknown(name, unknown):
    facts = [ValueFact(1, (N, 3)), ValueFact(1, (3, 4))] if unknown else [X]
    found = infer(name, facts)
    assert (found.unknown_macs, found.macs) == (unknown, None)


def test_a_custom_op_is_a_problem_row_and_its_macs_are_unknown():
    found = answer("Bar", 1, ["N,3"], domain="com.foo")
    assert (found.shape, found.macs) == ("*", "unknown")
    assert found.problems == ("Bar: no rule for com.foo:Bar; its shapes and MACs are unknown",)


def test_a_name_that_is_no_utf8_is_refused():
    """As a damaged file has it; onnx's messages take none."""
    with pytest.raises(Unanswered, match="no UTF-8"):
        infer("Relu", [X], {"a\udcb7": 1})
