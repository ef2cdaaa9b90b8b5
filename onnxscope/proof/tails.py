"""What follows a fully connected layer, in float64, with the rounding error that a runtime may add.

Each rule gives the exact h of its op and an error bound in units of u. The factors are measured, not derived:
about twice the largest error that onnxruntime's CPU kernels showed (benchmarks/tails.py measures them again).
Values are rows [R, F]: the class axis is the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnxscope.graph import Node

if TYPE_CHECKING:
    from onnxscope.proof.limits import Arithmetic, Floats

Rule: TypeAlias = "Callable[[Node, Sequence[Floats]], tuple[Floats, Floats]]"
"""(node, its inputs as float64) -> (h, allowed error in units of u)."""

ROUNDED, TANH, SIGMOID, BATCH_NORM, SOFTMAX, SMOOTH = 2, 10, 18, 8, 16, 16
"""Factors of the error bounds; see `RULES` for what each multiplies."""


def evaluate(node: Node, values: Sequence[Floats], arithmetic: Arithmetic) -> tuple[Floats, Floats] | None:
    """(h, limit) of an op in float64; None for an op that no rule covers.

    Where results are stored in a coarser format (v), half an ulp of it is added for h and for the input,
    which the runtime may or may not have rounded before the op.
    """
    rule = RULES.get(node.op)
    if rule is None or node.domain not in ("", "ai.onnx", "com.microsoft"):
        return None
    with np.errstate(all="ignore"):
        h, error = rule(node, values)
        if arithmetic.absolute and node.op in ABSOLUTE:
            error = np.maximum(error, SMOOTH)
        limit = arithmetic.unit * error + (2.0**-126 if arithmetic.unit > 2.0**-40 else 0.0)
        if arithmetic.stored:
            spread = _spread(rule, node, values, h, arithmetic.stored)
            limit = limit + spread + arithmetic.stored * np.abs(h) + 2.0**-24
    return h, limit


def _spread(rule: Rule, node: Node, values: Sequence[Floats], h: Floats, unit: float) -> Floats:
    """Largest change of h when its inputs are off by `unit`, relative to each of their elements."""
    if node.op in ("Softmax", "LogSoftmax"):
        moved = unit * np.abs(values[0])
        share = h if node.op == "Softmax" else np.exp(h)
        change = moved + (share * moved).sum(-1, keepdims=True)
        return np.asarray(share * change if node.op == "Softmax" else change, np.float64)
    total = np.zeros_like(h)
    for place, value in enumerate(values):
        around = [[*values[:place], value * (1 + sign * unit), *values[place + 1 :]] for sign in (-1, 1)]
        total += np.max([np.abs(rule(node, changed)[0] - h) for changed in around], axis=0)
    return total


def _number(node: Node, name: str, default: float) -> float:
    value = node.attribute(name)
    return float(value) if isinstance(value, int | float) else default


def _exact(function: Callable[..., Any]) -> Rule:
    def rule(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
        h = function(*values)
        return h, np.zeros_like(h)

    return rule


def _relative(function: Callable[..., Any], factor: float) -> Rule:
    """An error relative to the result."""

    def rule(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
        h = function(*values)
        return h, factor * np.abs(h)

    return rule


def _clip(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    low = float(values[1].ravel()[0]) if len(values) > 1 and values[1].size else _number(node, "min", -np.inf)
    high = float(values[2].ravel()[0]) if len(values) > 2 and values[2].size else _number(node, "max", np.inf)
    h = np.clip(values[0], np.float32(low), np.float32(high))
    return h, np.zeros_like(h)


def _leaky(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    z = values[0]
    slope = values[1] if node.op == "PRelu" else np.float64(np.float32(_number(node, "alpha", 0.01)))
    h = np.where(z < 0, z * slope, z)
    return h, ROUNDED * np.abs(h)


def _sigmoid(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The runtime's rational approximation has an absolute error."""
    h = 1 / (1 + np.exp(-values[0]))
    return h, SIGMOID * np.maximum(np.abs(h), 0.25)


def _hard_sigmoid(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    slope, offset = (
        np.float64(np.float32(_number(node, name, d))) for name, d in (("alpha", 0.2), ("beta", 0.5))
    )
    h = np.clip(slope * values[0] + offset, 0, 1)
    return np.asarray(h, np.float64), np.full(h.shape, 2.0 * ROUNDED)


def _hard_swish(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    z = values[0]
    h = z * np.clip(z / 6 + 0.5, 0, 1)
    return h, 2 * ROUNDED * np.abs(z)


def _elu(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    z, alpha = values[0], _number(node, "alpha", 1.0)
    h = np.where(z < 0, alpha * np.expm1(np.minimum(z, 0)), z)
    return h, np.where(z < 0, SMOOTH * abs(alpha), 0.0)


def _erf(z: Floats) -> Floats:
    from math import erf

    found: Floats = np.vectorize(erf, otypes=[np.float64])(z)
    return found


def _gelu(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    z = values[0]
    if node.attribute("approximate") == b"tanh":
        h = 0.5 * z * (1 + np.tanh(sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    else:
        h = 0.5 * z * (1 + _erf(z / sqrt(2)))
    return h, SMOOTH * np.abs(z)


def _absolute(function: Callable[[Floats], Floats], floor: float) -> Rule:
    def rule(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
        h = function(values[0])
        return h, SMOOTH * np.maximum(np.abs(h), floor)

    return rule


def _sum(sign: int) -> Rule:
    def rule(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
        h = values[0] + sign * values[1]
        return h, ROUNDED * np.abs(h)

    return rule


def _batch_norm(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    z, gain, bias, mean, variance = values[:5]
    slope = gain / np.sqrt(variance + _number(node, "epsilon", 1e-5))
    h = (z - mean) * slope + bias
    return h, BATCH_NORM * (np.abs(slope * z) + np.abs(slope * mean) + np.abs(bias))


def _softmax(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    below = values[0] - values[0].max(-1, keepdims=True)
    shares = np.exp(below)
    h = shares / shares.sum(-1, keepdims=True)
    return h, (SOFTMAX + 2 * np.abs(below) + sqrt(h.shape[-1])) * h


def _log_softmax(node: Node, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    z = values[0]
    below = z - z.max(-1, keepdims=True)
    h = below - np.log(np.exp(below).sum(-1, keepdims=True))
    return h, SOFTMAX + 2 * np.abs(z).max(-1, keepdims=True) + 2 * np.abs(h)


RULES: dict[str, Rule] = {
    "Relu": _exact(lambda z: np.maximum(z, 0)),
    "Identity": _exact(lambda z: z),
    "Dropout": _exact(lambda z, *_: z),
    "Abs": _exact(np.abs),
    "Neg": _exact(np.negative),
    "Clip": _clip,
    "LeakyRelu": _leaky,
    "PRelu": _leaky,
    "Tanh": _relative(np.tanh, TANH),
    "Sigmoid": _sigmoid,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Elu": _elu,
    "Gelu": _gelu,
    "Erf": _absolute(_erf, 0.25),
    "Softplus": _absolute(lambda z: np.logaddexp(0, z), 1.0),
    "Sqrt": _relative(np.sqrt, ROUNDED),
    "Add": _sum(1),
    "Sub": _sum(-1),
    "Mul": _relative(np.multiply, ROUNDED),
    "Div": _relative(np.divide, ROUNDED),
    "BatchNormalization": _batch_norm,
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
}
"""Op -> rule. Error bounds in units of u: Relu, Identity and the like 0; PRelu, sums, products 2 |h|;
tanh 10 |h|; sigmoid 18 max(|h|, 1/4); BatchNormalization 8 (|s z| + |s mean| + |b|); softmax
(16 + 2 |z - max| + sqrt(classes)) h; log-softmax 16 + 2 max |z| + 2 |h|; other smooth ones 16."""
ABSOLUTE = frozenset(("Tanh", "Erf"))
"""Ops whose error near 0 is relative to 1 on providers other than onnxruntime's CPU kernels. Measured over
16,384 normal values of spread 0.001 to 1000: tanh 2.3 u on WebGPU (1.27.0, software Vulkan) and 1.2 u on
OpenVINO (1.24.1); erf 8.1 u and 6.9 u. The other rules hold there as they are."""
_BOUNDS = {
    **dict.fromkeys(("PRelu", "LeakyRelu", "Sqrt", "Add", "Sub", "Mul", "Div"), f"{ROUNDED} u |h|"),
    "Tanh": f"{TANH} u |h|",
    "Sigmoid": f"{SIGMOID} u max(|h|, 1/4)",
    "BatchNormalization": f"{BATCH_NORM} u (|s z| + |s mean| + |b|), s = scale/sqrt(var + eps)",
    "Softmax": f"({SOFTMAX} + 2 |z - max| + sqrt(classes)) u h",
    "LogSoftmax": f"({SOFTMAX} + 2 max|z| + 2 |h|) u",
    "HardSigmoid": f"{2 * ROUNDED} u",
    "HardSwish": f"{2 * ROUNDED} u |z|",
    "Elu": f"{SMOOTH} u |alpha| where z < 0",
    "Gelu": f"{SMOOTH} u |z|",
    "Erf": f"{SMOOTH} u max(|h|, 1/4)",
    "Softplus": f"{SMOOTH} u max(|h|, 1)",
}


def bound_of(op: str) -> str:
    """The allowed error of an op in words, u |h| being one unit roundoff of the result."""
    return f"{_BOUNDS[op]}, measured" if op in _BOUNDS else "exact, 2^-126"


LAST_AXIS = frozenset(("Softmax", "LogSoftmax"))
"""Ops that a rule computes along the last axis."""
