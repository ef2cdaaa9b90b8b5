"""Ops that draw random numbers: shape and type, from attributes or the input; never constant."""

import pytest
from rules import answer, measured

ROWS = [
    ("RandomNormal", 1, [], {"shape": [2, 3]}, "2,3", "float32"),
    ("RandomNormal", 22, [], {"shape": [2], "dtype": 11}, "2", "float64"),
    ("RandomUniform", 1, [], {"shape": [2, 3], "dtype": 11}, "2,3", "float64"),
    ("RandomUniform", 22, [], {"shape": []}, "()", "float32"),
    ("RandomNormalLike", 1, ["N,3"], {}, "N,3", "float32"),
    ("RandomNormalLike", 22, ["i64 N,3"], {"dtype": 1}, "N,3", "float32"),
    ("RandomUniformLike", 1, ["f64 2,3"], {}, "2,3", "float64"),
    ("RandomUniformLike", 1, ["*"], {}, "*", None),
    ("Bernoulli", 15, ["2,3"], {}, "2,3", "float32"),
    ("Bernoulli", 22, ["N,3"], {"dtype": 9}, "N,3", "bool"),
    ("Multinomial", 7, ["2,5"], {}, "2,1", "int32"),
    ("Multinomial", 7, ["N,C"], {"sample_size": 4, "dtype": 7}, "N,4", "int64"),
    ("Multinomial", 22, ["5"], {}, "*", None),
]


@pytest.mark.parametrize(("op", "opset", "inputs", "attributes", "shape", "dtype"), ROWS)
def test_shape_and_type(op, opset, inputs, attributes, shape, dtype):
    found = answer(op, opset, inputs, attributes)
    assert (found.shape, found.dtype) == (shape, dtype)
    assert found.answered == (shape != "*")


@pytest.mark.parametrize("op", ["RandomNormal", "RandomUniform"])
def test_random_numbers_are_no_constant(op):
    fact = answer(op, 1, [], {"shape": [2]}).facts.value("y0")
    assert not fact.constant
    assert fact.data is None


def test_numbers_like_a_constant_are_no_constant_either():
    assert not answer("RandomNormalLike", 1, ["f32:[1.0]"]).facts.value("y0").constant


CONCRETE = [row for row in ROWS if row[1] < 22 and "N" not in str(row[2]) and row[4] != "*"]


@pytest.mark.parametrize(("op", "opset", "inputs", "attributes", "shape", "dtype"), CONCRETE)
def test_onnxruntime_agrees(op, opset, inputs, attributes, shape, dtype):
    assert measured(op, opset, inputs, attributes)[0][:2] == (shape, dtype)
