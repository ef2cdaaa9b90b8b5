"""Ops that keep the shape and type of their first input: activations, softmaxes, clipping, dropout.

Source: ONNX Operators.md and Changelog.md, each op's versions.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.ops import _folding as folding
from onnxscope.ops._broadcast import unified
from onnxscope.ops._folding import Number, pointwise
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Data, Inferred, one


@op("LeakyRelu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Hardmax", "Elu", "Selu", "Celu", "Softplus")
@op("Softsign", "HardSigmoid", "HardSwish", "Mish", "Gelu", "Swish", "ThresholdedRelu", "Shrink")
@op("ParametricSoftplus", "ScaledTanh")  # experimental ops of opset 1, still run by onnxruntime
def same_shape(n: View) -> Inferred:
    """Y has the shape and type of X. Softmax's axis changes numbers only (2-D coercion below opset 13)."""
    return one(n.shape(0), n.dtype(0))


@op("PRelu")
def prelu(n: View) -> Inferred:
    """Y has the shape of X: the slope is stretched to X, never beyond it. Source: PRelu-1, -7, -16."""
    return one(n.shape(0), n.dtype(0))


@op("SwiGLU", since=28)
def swiglu(n: View) -> Inferred:
    """Y = Swish(A)*B for A and B of one shape, which isn't broadcast. Source: SwiGLU-28."""
    shapes = [shape for index in (0, 1) if (shape := n.shape_or_none(index)) is not None]
    return one(unified(*shapes or [n.shape(0)]), n.dtype(0) or n.dtype(1))


@op("Clip")
def clip(n: View, *, min: float | None = None, max: float | None = None) -> Inferred:
    """Y has the shape and type of X. The bounds are attributes below opset 11, then optional inputs.

    Source: Clip-6, -11, -13.
    """
    return one(n.shape(0), n.dtype(0), _clipped(n, min, max))


def _clipped(n: View, low: float | None, high: float | None) -> Data | None:
    dtype, x = n.dtype(0), folding.content(n, 0)
    if x is None or dtype is None:
        return None
    data: Data | None = x[0]
    for index, given, function in ((1, low, _at_least), (2, high, _at_most)):
        if not n.has(index) and given is None:
            continue
        bound = [Data((), (given,))] if given is not None else folding.content(n, index)
        data = folding.combine(function, (data, bound[0]), dtype) if bound and data is not None else None
    return data


def _at_least(x: Number, bound: Number) -> Number | None:
    return folding.largest(x, bound)


def _at_most(x: Number, bound: Number) -> Number | None:
    return folding.smallest(x, bound)


@op("Dropout")
def dropout(n: View) -> Inferred:
    """Both outputs have the shape of X; the mask has the type of X below opset 10, then bool.

    Inference passes X on. Source: Dropout-1, -7, -10, -12.
    """
    mask = n.dtype(0) if 0 < n.version < 10 else dtypes.BOOL
    training = n.known(2)
    passed = not n.has(2) or (training is not None and training.items == (False,))
    data = pointwise(n, lambda x: x, n.dtype(0), 0, quotient=True) if passed else None
    return Inferred((n.shape(0),) * 2, (n.dtype(0), mask), (data,))
