"""The jitter check: how much rounding can move a model's outputs, measured by moving its weights as much.

The backward view of rounding: what a runtime computes is exact for slightly different weights (Higham and
Mary, "A New Approach to Probabilistic Rounding Error Analysis", 2019). So the original is run again with each
weight replaced by w (1 + u sqrt(K/6) g + u sqrt(K/3) h), g and h standard normal, h shared by an output, K
terms per output. Per layer that has variance u^2 (K P/6 + K s^2/3), as sums in random order have; the runtime
carries it through the graph, whatever its ops are. `means` moves the results of global pools.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import TYPE_CHECKING

import numpy as np

from onnxscope import dtypes
from onnxscope.graph import Graph, Model, Node, Tensor
from onnxscope.proof import means
from onnxscope.proof.extract import stored_tensor
from onnxscope.proof.limits import DELTA, FLOAT32, Arithmetic, confidence

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array, Floats

RUNS, FEW_RUNS, MANY_OUTPUTS = 6, 2, 100
"""Draws; fewer suffice where an output has many elements, since they are pooled."""
WEIGHT_INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "FusedConv", "NhwcConv", "ConvTranspose"), (1,)),
    **dict.fromkeys(("Gemm", "FusedGemm", "MatMul", "FusedMatMul"), (0, 1)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
}
"""Op -> places of the operands that may be weights."""
_FLOATS = (dtypes.FLOAT, dtypes.DOUBLE, dtypes.FLOAT16, dtypes.BFLOAT16)
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class WeightUse:
    """A weight and the sums that it takes part in."""

    name: str
    """Value name."""
    tensor: Tensor
    terms: int
    """K, products per output."""
    axis: int
    """Axis that tells the outputs apart: h is shared along all others."""


def weights(model: Model) -> tuple[WeightUse, ...]:
    """The stored float weights of every convolution, matrix product and recurrent cell of the main graph.

    A weight that DequantizeLinear makes of stored integers counts as the floats that it makes.
    """
    found: dict[str, WeightUse] = {}
    for node in model.graph.nodes:
        for place in WEIGHT_INPUTS.get(node.op, ()):
            name = node.inputs[place] if place < len(node.inputs) else ""
            tensor = (stored_tensor(model, name) or _dequantized(model, name)) if name else None
            if tensor is not None and tensor.dtype in _FLOATS and len(tensor.dims) >= 2 and name not in found:
                found[name] = WeightUse(name, tensor, *_sums(node, place, tensor.dims))
    return tuple(found.values())


def _sums(node: Node, place: int, dims: tuple[int, ...]) -> tuple[int, int]:
    """(K, axis of the outputs) of a weight."""
    if node.op == "ConvTranspose":
        return prod(dims) // max(1, dims[1]), 1
    if "Mat" in node.op or "Gemm" in node.op:
        turned = bool(node.attribute("transA" if place == 0 else "transB"))
        inner = len(dims) - (1 if (place == 0) != turned else 2)
        return dims[inner], 2 * len(dims) - 3 - inner
    if node.op in ("LSTM", "GRU", "RNN"):
        return dims[-1], len(dims) - 2
    return prod(dims[1:]), 0


@dataclass(frozen=True, slots=True)
class Dequantized:
    """(q - zero point) scale, computed when it is asked for; scale and zero point lie along one axis."""

    integers: Tensor
    scale: Tensor
    zero: Tensor | None
    axis: int

    @property
    def kind(self) -> str:
        """`raw`."""
        return "raw"

    @property
    def location(self) -> str:
        """In memory."""
        return f"dequantized {self.integers.name}"

    def view(self) -> memoryview:
        """Little-endian floats of the scale's type."""
        shape = [1] * len(self.integers.dims)
        if self.scale.count > 1:
            shape[self.axis] = -1
        scale = self.scale.array().reshape(shape)
        zero = 0 if self.zero is None else self.zero.array().reshape(shape).astype(scale.dtype)
        return _bytes(((self.integers.array().astype(scale.dtype) - zero) * scale).astype(scale.dtype))


def _dequantized(model: Model, name: str) -> Tensor | None:
    """The floats of a DequantizeLinear of stored integers; None for anything else, blocks included."""
    node = model.graph.producers.get(name)
    if node is None or node.op != "DequantizeLinear" or len(node.inputs) < 2:
        return None
    integers, scale, zero = (
        stored_tensor(model, source) if source else None for source in (*node.inputs, "")[:3]
    )
    axis = node.attribute("axis")
    blocks = scale is not None and (len(scale.dims) > 1 or bool(node.attribute("block_size")))
    if integers is None or scale is None or blocks or scale.dtype not in _FLOATS:
        return None
    place = axis if isinstance(axis, int) else 1
    return Tensor(name, scale.dtype, integers.dims, Dequantized(integers, scale, zero, place))


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@dataclass(frozen=True, slots=True)
class Jittered:
    """Numbers of a tensor, jittered when they are asked for, so that one weight is in memory at a time."""

    use: WeightUse
    seed: tuple[int, ...]
    arithmetic: Arithmetic

    @property
    def kind(self) -> str:
        """`raw`."""
        return "raw"

    @property
    def location(self) -> str:
        """In memory."""
        return f"jittered {self.use.name}"

    @np.errstate(invalid="ignore", over="ignore")
    def view(self) -> memoryview:
        """The jittered numbers, in the element type of the weight."""
        stored = self.use.tensor.array()
        moved = np.moveaxis(stored, self.use.axis, 0)
        changed = np.empty(stored.shape, stored.dtype)
        target = np.moveaxis(changed, self.use.axis, 0)
        generator = np.random.default_rng(self.seed)
        own, shared = spreads(self.use.terms, self.arithmetic)
        rows = max(1, _BLOCK // max(1, moved[:1].size))
        wide = np.float64 if stored.dtype.itemsize == 8 else np.float32
        for start in range(0, len(moved), rows):
            block: Array = np.asarray(moved[start : start + rows], wide)
            common: Array = generator.standard_normal((len(block), *(1,) * (block.ndim - 1)), wide)
            factor: Array = generator.standard_normal(block.shape, wide)
            target[start : start + rows] = block + block * (own * factor + shared * common)
        return _bytes(changed)


def spreads(terms: int, arithmetic: Arithmetic) -> tuple[float, float]:
    """Standard deviations of a weight's own and of its output's shared relative jitter, for K terms.

    u sqrt(K/6) and u sqrt(K/3); rounded operands and stored results add their own roundings.
    """
    u, v, stored = arithmetic.unit, arithmetic.operands, arithmetic.stored
    return sqrt(u * u * terms / 6 + 2 * v * v + stored**2), sqrt(u * u * terms / 3 + stored**2)


def jittered(
    model: Model,
    arithmetic: Arithmetic = FLOAT32,
    *,
    seed: int = 0,
    run: int = 0,
    kept: frozenset[str] = frozenset(),
) -> Model:
    """The model with every weight and global pool jittered; nothing is read or drawn before it is written.

    The same seed and run give the same weights on any machine. Weights named in `kept` stay as they are.
    """
    uses = {use.name: use for use in weights(model) if use.name not in kept}

    def changed(tensor: Tensor, name: str) -> Tensor:
        storage = Jittered(uses[name], (seed, run, list(uses).index(name)), arithmetic)
        return replace(tensor, storage=storage, external=(), origin=None)

    graph = model.graph
    tensors = tuple(
        changed(tensor, tensor.name) if tensor.name in uses else tensor for tensor in graph.tensors
    )
    pooled, steps = means.moved(model, list(_without_constant(graph, uses)), arithmetic, (seed, run))
    added = tuple(
        replace(changed(use.tensor, use.name), name=use.name)
        for use in uses.values()
        if use.name not in graph.initializers
    )
    nodes = tuple(replace(node, index=place) for place, node in enumerate(pooled))
    changed_graph = replace(graph, nodes=nodes, tensors=(*tensors, *added, *steps))
    return replace(model, graph=changed_graph, path="")


def _without_constant(graph: Graph, uses: dict[str, WeightUse]) -> Iterator[Node]:
    """Nodes that hold or dequantize a weight go: it becomes an initializer."""
    for node in graph.nodes:
        if node.op not in ("Constant", "DequantizeLinear") or node.outputs[0] not in uses:
            yield node


def runs_for(outputs: int) -> int:
    """How many jittered runs an output with that many elements needs."""
    return FEW_RUNS if outputs >= MANY_OUTPUTS else RUNS


def sigma(base: Array, runs: Sequence[Array]) -> Floats:
    """Spread of each element of one trial's output: its own rms over the runs, at least the pooled rms.

    `base` is the original's output and every one of `runs` one of a jittered original, all of one shape.
    NaN and infinite elements count as no spread.
    """
    center = np.asarray(base, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = [np.asarray(run, np.float64) - center for run in runs]
        squares = np.mean([np.where(np.isfinite(gap), gap, 0.0) ** 2 for gap in gaps], axis=0)
    pooled = float(np.mean(squares)) if squares.size else 0.0
    spread: Floats = np.sqrt(np.maximum(squares, pooled))
    return spread


def limit(
    base: Array,
    runs: Sequence[Array],
    *,
    values: int,
    arithmetic: Arithmetic = FLOAT32,
    delta: float = DELTA,
) -> Floats:
    """Largest allowed |candidate - original| per element of one trial's output.

    sqrt(2) lambda sigma + 4 u max|y|: both models are computed, so the variances add, and the last term is
    the rounding of outputs that hardly move (a saturated softmax). `values` is N. Integer outputs may differ
    by what the jittered runs differ by, which is 0 unless two classes tie. Without `runs` that last term is
    the limit.
    """
    if base.dtype.kind in "iub":
        gaps = [np.abs(np.asarray(run, np.float64) - base) for run in runs]
        return np.max(gaps, axis=0) if gaps else np.zeros(base.shape)
    finite = np.abs(np.asarray(base, np.float64)[np.isfinite(np.asarray(base, np.float64))])
    largest = float(finite.max()) if finite.size else 0.0
    unit = max(arithmetic.unit, arithmetic.stored)
    floor = 4 * unit * largest + (2.0**-126 if unit > 2.0**-40 else 0.0)
    if not runs:
        return np.full(base.shape, floor)
    spread = sqrt(2) * confidence(values, delta) * sigma(base, runs)
    found: Floats = spread + floor
    return found


def limit_from(
    model: Model,
    runs: int,
    seed: int,
    *,
    values: int,
    arithmetic: Arithmetic = FLOAT32,
    delta: float = DELTA,
) -> str:
    """How `limit` was computed, in words."""
    if not runs:
        return f"4u max|y|, the rounding of outputs: there are no weights to jitter; {arithmetic.text}"
    widest = max((use.terms for use in weights(model)), default=0)
    return (
        "jitter: sqrt(2) lambda sigma + 4u max|y|, sigma the spread of the original over "
        f"r = {runs} runs with weights w (1 + u sqrt(K/6) g + u sqrt(K/3) h); "
        f"lambda = {confidence(values, delta):.2f}, {arithmetic.text}, K <= {widest}, N = {values}, "
        f"delta = {delta:g}, seed {seed}"
    )
