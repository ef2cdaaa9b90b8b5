"""Ops that keep the shape and type of their first input: activations and pointwise functions of one value.

Source: ONNX Operators.md, each op's latest version.
"""

from __future__ import annotations

from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, one


@op("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Hardmax", "Elu", "Selu", "Celu", "Softplus")
@op("Softsign", "HardSigmoid", "HardSwish", "Mish", "Gelu", "Swish", "ThresholdedRelu", "Shrink", "PRelu", "Clip")
def same_shape(n: View) -> Inferred:
    """Y has the shape and type of X. Clip's bounds and PRelu's slope broadcast to X, never beyond it."""
    return one(n.shape(0), n.dtype(0))
