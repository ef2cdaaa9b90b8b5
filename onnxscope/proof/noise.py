"""Jitter of large weights by way of what they multiply: none of their numbers is drawn, copied or written.

For one row of inputs x, jittering each weight of a sum y = w x by w (1 + a g) moves y by a normal number of
variance a^2 sum (w x)^2. Jittering the inputs instead, x (1 + a g), moves every y by just as much, and costs
K random numbers in place of K F. The part that an output's weights share, w (1 + b h), moves y by b h y: a
factor on the sum itself. What differs is that the moves of two outputs are no longer independent in g (they
are in h), so more runs are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from onnxscope import dtypes
from onnxscope.graph import Attribute, Model, Node, Tensor
from onnxscope.proof import jitter
from onnxscope.proof.means import Scalar

if TYPE_CHECKING:
    from onnxscope.proof.jitter import WeightUse
    from onnxscope.proof.limits import Arithmetic, Floats

LARGE = 1 << 20
"""Numbers in a weight from which on it is moved by way of its inputs."""
WORDS = (
    f"; weights of {LARGE >> 20}M numbers and more stay, the inputs of their sums are jittered by "
    "(1 + u sqrt(K/6) g), and the sums by (1 + u sqrt(K/3) h)"
)
_WIDE = (dtypes.FLOAT, dtypes.DOUBLE)
_OPTIONAL_BIAS = 11
"""First opset in which Gemm's C may be left out."""


@dataclass(frozen=True, slots=True)
class _Draw:
    """Factors 1 + spread * normal for one weight."""

    tensor: Tensor
    generator: np.random.Generator

    def factors(self, name: str, count: int, spread: float) -> Tensor:
        """`count` factors as a tensor in the type of the weight."""
        value: Floats = 1.0 + spread * self.generator.standard_normal(count)
        kind = dtypes.BY_CODE[self.tensor.dtype].numpy
        return Tensor(name, self.tensor.dtype, (count,), Scalar(value.astype(kind)))


def jittered(model: Model, arithmetic: Arithmetic, *, seed: int = 0, run: int = 0) -> tuple[Model, str]:
    """The model jittered, its large weights by way of their inputs, and what `limit_from` must say of that.

    The same seed and run give the same model on any machine.
    """
    uses = {use.name: use for use in jitter.weights(model) if _eligible(model, use)}
    changed = jitter.jittered(model, arithmetic, seed=seed, run=run, kept=frozenset(uses))
    if not uses:
        return changed, ""
    nodes: list[Node] = []
    added: list[Tensor] = []
    for node in changed.graph.nodes:
        use = uses.get(node.inputs[1]) if _product(node) else None
        if use is None:
            nodes.append(node)
            continue
        key = (seed, run, len(nodes))
        found, tensors = _moved(node, use, _Draw(use.tensor, np.random.default_rng(key)), arithmetic)
        nodes += found
        added += tensors
    placed = tuple(replace(node, index=place) for place, node in enumerate(nodes))
    graph = replace(changed.graph, nodes=placed, tensors=(*changed.graph.tensors, *added))
    return replace(changed, graph=graph), WORDS


def _eligible(model: Model, use: WeightUse) -> bool:
    """Whether every reader of a large weight is a plain product of rows with it."""
    readers = model.graph.consumers.get(use.name, ())
    plain = all(_product(node) and node.inputs.count(use.name) == 1 for node in readers)
    large = use.tensor.count >= LARGE and len(use.tensor.dims) == 2 and use.tensor.dtype in _WIDE
    stored = use.name in model.graph.initializers
    return large and stored and plain and model.opset.get("", 0) >= _OPTIONAL_BIAS


def _product(node: Node) -> bool:
    """Gemm or MatMul with rows on the left."""
    known = node.op in ("Gemm", "MatMul") and node.domain in ("", "ai.onnx")
    return known and not node.attribute("transA") and len(node.inputs) > 1


def _moved(
    node: Node, use: WeightUse, draw: _Draw, arithmetic: Arithmetic
) -> tuple[Sequence[Node], Sequence[Tensor]]:
    """Inputs times g, product, times h, bias: under the names of the node."""
    own, shared = jitter.spreads(use.terms, arithmetic)
    name = f"onnxscope_{node.outputs[0]}"
    inner, outer = use.tensor.dims if not node.attribute("transB") else use.tensor.dims[::-1]
    tensors = [draw.factors(f"{name}_g", inner, own), draw.factors(f"{name}_h", outer, shared)]
    bias = node.inputs[2] if node.op == "Gemm" and len(node.inputs) > 2 else ""
    beta = node.attribute("beta")
    if bias and isinstance(beta, float) and beta != 1.0:
        tensors.append(Tensor(f"{name}_beta", use.tensor.dtype, (1,), Scalar(_number(use, beta))))
    return list(_chain(node, name, bias, len(tensors) > 2)), tensors


def _number(use: WeightUse, value: float) -> Floats:
    return np.array([value], dtypes.BY_CODE[use.tensor.dtype].numpy)


def _chain(node: Node, name: str, bias: str, scaled: bool) -> Iterator[Node]:
    def made(op: str, inputs: tuple[str, ...], output: str, *attributes: Attribute) -> Node:
        return Node(0, "", op, "", inputs, (output,), attributes)

    last = node.outputs[0]
    yield made("Mul", (node.inputs[0], f"{name}_g"), f"{name}_x")
    kept = tuple(attribute for attribute in node.attributes if attribute.name != "beta")
    product = (f"{name}_x", node.inputs[1])
    yield replace(node, inputs=product, outputs=(f"{name}_y",), attributes=kept, origin=None)
    yield made("Mul", (f"{name}_y", f"{name}_h"), f"{name}_z" if bias else last)
    if bias and scaled:
        yield made("Mul", (bias, f"{name}_beta"), f"{name}_b")
        bias = f"{name}_b"
    if bias:
        yield made("Add", (f"{name}_z", bias), last)
