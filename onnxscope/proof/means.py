"""Rounding of global pools and means, for the jitter check: they have no weights to move.

Inputs that are all alike (a constant image) round the same way at every addition, so the error of a sum of
n terms grows with n, up to n u/2 of the sum, and not with sqrt(n). Each pool's result is moved by n u/16 of
the mean of absolute values, up or down: of itself where no terms cancel; times sqrt(2) lambda, about 10, that
covers it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxscope import dtypes
from onnxscope.graph import Attribute, Model, Node, Tensor
from onnxscope.proof.limits import Arithmetic, Array

POOLS = frozenset(("GlobalAveragePool", "ReduceMean"))
SHARE = 1 / 16
_BROADCASTS = 7
"""First opset in which Mul and Add broadcast."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number in memory."""

    value: Array

    @property
    def kind(self) -> str:
        """`raw`."""
        return "raw"

    @property
    def location(self) -> str:
        """In memory."""
        return "in memory"

    def view(self) -> memoryview:
        """Its little-endian bytes."""
        return self.value.reshape(-1).view(np.uint8).data


def moved(
    model: Model, nodes: Sequence[Node], arithmetic: Arithmetic, seed: Sequence[int]
) -> tuple[list[Node], list[Tensor]]:
    """The nodes with every pool's result moved by n u/16, and the numbers that this takes.

    n is computed in the graph, from the sizes of the pool's input and output. Half-precision models stay as
    they are: storing results moves them more.
    """
    if arithmetic.stored or model.opset.get("", 0) < _BROADCASTS:
        return list(nodes), []
    code = dtypes.DOUBLE if arithmetic.unit < 2.0**-40 else dtypes.FLOAT
    generator = np.random.default_rng([*seed, len(nodes)])
    changed: list[Node] = []
    tensors: list[Tensor] = []
    for place, node in enumerate(nodes):
        if node.op not in POOLS or node.domain not in ("", "ai.onnx"):
            changed.append(node)
            continue
        name = f"onnxscope_pool_{place}"
        sign = 1.0 if generator.integers(2) else -1.0
        value = np.asarray(sign * SHARE * arithmetic.unit, dtypes.BY_CODE[code].numpy)
        tensors.append(Tensor(f"{name}_step", code, (), Scalar(value)))
        changed += _chain(node, name, code)
    return changed, tensors


def _chain(node: Node, name: str, code: int) -> Iterator[Node]:
    """The pool under another name, then result + pool of absolute values * n * step under its own."""

    def made(op: str, inputs: tuple[str, ...], output: str, *attributes: Attribute) -> Node:
        return Node(0, "", op, "", inputs, (output,), attributes)

    yield replace(node, outputs=(f"{name}_raw",), origin=None)
    yield made("Size", (node.inputs[0],), f"{name}_in")
    yield made("Size", (f"{name}_raw",), f"{name}_out")
    yield made("Div", (f"{name}_in", f"{name}_out"), f"{name}_n")
    yield made("Cast", (f"{name}_n",), f"{name}_terms", Attribute("to", code, 2))
    yield made("Mul", (f"{name}_terms", f"{name}_step"), f"{name}_share")
    yield made("Abs", (node.inputs[0],), f"{name}_abs")
    of_sizes = (f"{name}_abs", *node.inputs[1:])
    yield replace(node, name="", inputs=of_sizes, outputs=(f"{name}_size",), origin=None)
    yield made("Mul", (f"{name}_size", f"{name}_share"), f"{name}_by")
    yield made("Add", (f"{name}_raw", f"{name}_by"), node.outputs[0])
