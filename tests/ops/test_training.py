"""Losses and the training preview. Expected by hand from Operators.md; concrete losses also run."""

import pytest
from rules import answer, measured

LOSSES = ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
PREVIEW = "ai.onnx.preview.training"


@pytest.mark.parametrize("op", LOSSES)
@pytest.mark.parametrize(
    ("inputs", "reduction", "expected"),
    [
        (["N,C", "i64 N"], "mean", "()"),
        (["N,C", "i64 N"], "sum", "()"),
        (["N,C", "i64 N"], "none", "N"),
        (["N,C,H,W", "i64 N,H,W"], "none", "N,H,W"),
        (["N,C,H,W", "i64 *"], "none", "N,H,W"),
        (["*", "i64 N,H"], "none", "N,H"),
        (["*", "i64 *"], "mean", "()"),
        (["*", "i64 *"], "none", "*"),
    ],
)
def test_loss(op, inputs, reduction, expected):
    found = answer(op, 13, inputs, {"reduction": reduction})
    assert found.shape == expected
    assert found.answered == (expected != "*")


def test_loss_is_a_mean_by_default_and_keeps_the_type():
    found = answer("SoftmaxCrossEntropyLoss", 12, ["f16 N,C,H", "i64 N,H"], outputs=2)
    assert (found.shapes, found.dtypes) == (("()", "N,C,H"), ("float16", "float16"))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_onnxruntime_agrees(reduction):
    inputs = ["2,3,4", "i64 2,4"]
    found = answer("SoftmaxCrossEntropyLoss", 13, inputs, {"reduction": reduction}, outputs=2)
    results = measured("SoftmaxCrossEntropyLoss", 13, inputs, {"reduction": reduction}, outputs=2)
    assert list(zip(found.shapes, found.dtypes, strict=True)) == [result[:2] for result in results]


@pytest.mark.parametrize(
    ("op", "groups", "expected"),
    [
        ("Adagrad", 3, ("A,2", "B", "A,2", "B")),
        ("Momentum", 3, ("A,2", "B", "A,2", "B")),
        ("Adam", 4, ("A,2", "B", "A,2", "B", "A,2", "B")),
    ],
)
def test_optimizers_renew_what_they_get(op, groups, expected):
    found = answer(op, 1, ["()", "i64 ()", *["A,2", "B"] * groups], outputs=len(expected), domain=PREVIEW)
    assert found.shapes == expected


@pytest.mark.parametrize("inputs", [["()", "i64 ()", "A", "A"], ["()", "i64 ()"]])
def test_optimizer_with_lists_of_different_length(inputs):
    found = answer("Adam", 1, inputs, domain=PREVIEW)
    assert (found.shape, found.answered) == ("*", False)


def test_gradient_has_the_shapes_of_what_it_differentiates_by():
    attributes = {"xs": ["a", "b"], "zs": ["c"], "y": "y"}
    found = answer("Gradient", 1, ["N,2", "f64 3", "5"], attributes, outputs=2, domain=PREVIEW)
    assert (found.shapes, found.dtypes) == (("N,2", "3"), ("float32", "float64"))
