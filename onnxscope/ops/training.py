"""Losses, and the optimizers and gradients of the training preview.

Source: ONNX Operators.md, NegativeLogLikelihoodLoss-12, SoftmaxCrossEntropyLoss-12; ai.onnx.preview.training.
"""

from __future__ import annotations

from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered

_DOMAIN = "ai.onnx.preview.training"


@op("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", since=12)
def loss(n: View, *, reduction: str = "mean") -> Inferred:
    """Y is a scalar, or [N, *D] with reduction "none", for scores [N, C, *D] and labels [N, *D].

    SoftmaxCrossEntropyLoss also gives the logarithms of the probabilities, in the shape of the scores.
    """
    scores = n.shape_or_none(0)
    y: Shape | None = ()
    if reduction == "none":
        y = n.shape_or_none(1)
        if y is None:
            y = (scores or n.shape(0))[:1] + n.shape(0)[2:]
    return Inferred((y, scores), (n.dtype(0), n.dtype(0)))


@op("Gradient", domain=_DOMAIN)
def gradient(n: View, *, xs: tuple[str, ...] = ()) -> Inferred:
    """Output i is dy/dx_i in the shape and type of x_i; the inputs are the values of `xs`, then of `zs`."""
    return _followed(n, range(len(xs)))


@op("Adagrad", domain=_DOMAIN)
def adagrad(n: View) -> Inferred:
    """Inputs: rate, count, then all X, all gradients, all squared gradients. Outputs: new X, new squares."""
    return _optimizer(n, 3, (0, 2))


@op("Momentum", domain=_DOMAIN)
def momentum(n: View) -> Inferred:
    """Inputs: rate, count, then all X, all gradients, all momenta. Outputs: new X, new momenta."""
    return _optimizer(n, 3, (0, 2))


@op("Adam", domain=_DOMAIN)
def adam(n: View) -> Inferred:
    """Inputs: rate, count, then all X, gradients, averages, squares. Outputs: these but the gradients."""
    return _optimizer(n, 4, (0, 2, 3))


def _optimizer(n: View, groups: int, kept: tuple[int, ...]) -> Inferred:
    """Every output has the shape of the input it renews; `kept` are the groups of inputs that are renewed."""
    count, rest = divmod(len(n.inputs) - 2, groups)
    if rest or count < 1:
        raise Unanswered(f"{len(n.inputs)} inputs are not a rate, a count and {groups} lists of one length")
    return _followed(n, [2 + group * count + i for group in kept for i in range(count)])


def _followed(n: View, places: range | list[int]) -> Inferred:
    return Inferred(tuple(n.shape_or_none(i) for i in places), tuple(n.dtype(i) for i in places))
