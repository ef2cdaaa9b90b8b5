"""Jitter of large weights by way of what they multiply: none of their numbers is drawn, copied or written.

For one row of inputs x, jittering each weight of a sum y = w x by w (1 + a g) moves y by a normal number of
variance a^2 sum (w x)^2. Jittering the inputs instead, x (1 + a g), moves every y by just as much, and costs
K random numbers in place of K F. The part that an output's weights share, w (1 + b h), moves y by b h y: a
factor on the sum itself. What differs is that the moves of two outputs are no longer independent in g (they
are in h), so more runs are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from onnxscope import dtypes
from onnxscope.graph import Attribute, Model, Node, Tensor
from onnxscope.proof import jitter
from onnxscope.proof.means import Scalar

if TYPE_CHECKING:
    from onnxscope.analysis.facts import Facts
    from onnxscope.proof.jitter import WeightUse
    from onnxscope.proof.limits import Arithmetic, Floats

LARGE = 1 << 20
"""Numbers in a weight from which on it is moved by way of its inputs."""
WORDS = (
    f"; weights of {LARGE >> 20}M numbers and more stay, the inputs of their sums are jittered by "
    "(1 + u sqrt(K/6) g), and the sums by (1 + u sqrt(K/3) h)"
)
_WIDE = (dtypes.FLOAT, dtypes.DOUBLE)
_POINTWISE = frozenset(("Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Dropout", "Identity", "Clip"))
_OPTIONAL_BIAS = 11
"""First opset in which Gemm's C may be left out."""


@dataclass(frozen=True, slots=True)
class _Draws:
    """Factors 1 + spread * normal for one weight, for one run or for several at once."""

    tensor: Tensor
    generators: Sequence[np.random.Generator]
    """One per run."""
    rows: int
    """Rows of each run where several are stacked; 0 for one run, whose factors are those of any row."""

    def factors(self, name: str, count: int, spread: float) -> Tensor:
        """Factors for `count` columns, [count] or [runs rows, count], in the type of the weight."""
        value: Floats = 1.0 + spread * np.stack([own.standard_normal(count) for own in self.generators])
        value = np.repeat(value, self.rows, 0) if self.rows else value[0]
        kind = dtypes.BY_CODE[self.tensor.dtype].numpy
        return Tensor(name, self.tensor.dtype, value.shape, Scalar(value.astype(kind)))


def jittered(model: Model, arithmetic: Arithmetic, *, seed: int = 0, run: int = 0) -> tuple[Model, str]:
    """The model jittered, its large weights by way of their inputs, and what `limit_from` must say of that.

    The same seed and run give the same model on any machine.
    """
    uses = {use.name: use for use in jitter.weights(model) if _eligible(model, use)}
    changed = jitter.jittered(model, arithmetic, seed=seed, run=run, kept=frozenset(uses))
    return (_with(changed, uses, arithmetic, seed, (run,), 0), WORDS) if uses else (changed, "")


def stacked(
    model: Model, facts: Facts, arithmetic: Arithmetic, *, seed: int, runs: int, rows: int
) -> Model | None:
    """One model for that many runs of `jittered`: it takes the inputs of each, `rows` rows, run after run.

    Large weights are then read once. None where some weight isn't moved by way of its inputs, or an op may
    mix rows. `facts` tell the ranks of values.
    """
    uses = {use.name: use for use in jitter.weights(model) if _eligible(model, use)}
    apart = all(_by_row(model, facts, node) for node in model.graph.nodes)
    if not apart or not uses or len(uses) < len(jitter.weights(model)):
        return None
    return _with(model, uses, arithmetic, seed, range(runs), rows)


def _with(
    model: Model,
    uses: Mapping[str, WeightUse],
    arithmetic: Arithmetic,
    seed: int,
    runs: Sequence[int],
    rows: int,
) -> Model:
    """The model with factors around the products with these weights."""
    nodes: list[Node] = []
    added: list[Tensor] = []
    for node in model.graph.nodes:
        use = uses.get(node.inputs[1]) if _product(node) else None
        if use is None:
            nodes.append(node)
            continue
        generators = [np.random.default_rng((seed, run, len(nodes))) for run in runs]
        found, tensors = _moved(node, use, _Draws(use.tensor, generators, rows), arithmetic)
        nodes += found
        added += tensors
    placed = tuple(replace(node, index=place) for place, node in enumerate(nodes))
    return replace(model, graph=replace(model.graph, nodes=placed, tensors=(*model.graph.tensors, *added)))


def _by_row(model: Model, facts: Facts, node: Node) -> bool:
    """Whether an op gives every row of its first axis what it would give that row alone."""
    if node.domain not in ("", "ai.onnx"):
        return False
    constants = [model.graph.initializers[name] for name in node.inputs if name in model.graph.initializers]
    order = node.attribute("perm")
    if node.op == "Reshape":  # the number of rows is taken over, or what is left
        target: list[int] = constants[0].array().tolist() if constants else []
        return len(target) > 1 and target[0] in (0, -1) and all(size > 0 for size in target[1:])
    if node.op == "Transpose":
        return isinstance(order, tuple) and order[:1] == (0,)
    if node.op in ("Flatten", "Softmax", "LogSoftmax"):
        return node.attribute("axis") in (None, 1)
    if node.op == "Add" or _product(node):
        matrix = len(facts.value(node.inputs[0]).shape or ()) == 2
        biases = constants[1:] if _product(node) else constants
        return matrix and bool(constants) and all(len(b.dims) < 2 or b.dims[0] == 1 for b in biases)
    return node.op in _POINTWISE and len(node.outputs) == 1


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
    node: Node, use: WeightUse, draw: _Draws, arithmetic: Arithmetic
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
