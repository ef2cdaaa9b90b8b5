"""The original's fully connected layers as matrices, taken from the original file alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from onnxscope.files.mapped import Pages
from onnxscope.graph import Model, Node
from onnxscope.proof.extract import constant, is_constant

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array, Floats
    from onnxscope.proof.links import LayerLink
    from onnxscope.proof.runner import Runner

_MATRIX = frozenset(("Gemm", "FusedGemm", "MatMul", "FusedMatMul"))
_BLOCK = 1 << 18
"""Numbers of one block of weights in float64: 2 MB."""
_HELD = 1 << 25
"""Bytes of mapped weights that are held at once."""
_AT_ONCE = 8
"""Blocks that are worked on at once, where there are as many processors."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FullyConnected:
    """y = alpha W a + b, weights as they are stored."""

    weight: Array
    """[F, K], a view of the file in its own element type wherever that is possible."""
    bias: Floats | None
    """[F] in float64, beta folded in; None where there is none."""
    alpha: float

    @property
    def outputs(self) -> int:
        """F."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """K."""
        return int(self.weight.shape[1])

    @property
    def step(self) -> int:
        """Outputs of a block."""
        return max(1, min(self.outputs, _BLOCK // max(1, self.inputs)))

    def block(self, start: int, stop: int) -> Floats:
        """Rows of alpha W from `start` to `stop` in float64, a copy that the caller may spend."""
        part = np.array(self.weight[start:stop], np.float64, order="C")
        if self.alpha != 1.0:
            part *= self.alpha
        return part

    def each(self, work: Callable[[int, int], T]) -> Iterator[list[T]]:
        """The results of `work` for outputs from `start` to `stop`, block after block, 32 MB in a list.

        Blocks are of 2 MB, which stay in a cache, and each processor works on one.
        """
        if self.step >= self.outputs:
            yield [work(0, self.outputs)]
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1)) as pool:
            for first, last in self.held():
                starts = range(first, last, self.step)
                yield list(pool.map(work, starts, (min(start + self.step, last) for start in starts)))

    def columns(self, places: Sequence[int]) -> Array:
        """The weights of some inputs as they are stored, [F, places]."""
        return np.concatenate([self.weight[start:stop, list(places)] for start, stop in self.held()])

    def held(self) -> Iterator[tuple[int, int]]:
        """Outputs from `start` to `stop`, 32 MB at a time; mapped pages are let go again behind them."""
        pages, width = _pages(self.weight), self.inputs * self.weight.itemsize
        step = max(1, _HELD // max(1, width))
        for start in range(0, self.outputs, step):
            stop = min(start + step, self.outputs)
            yield start, stop
            if self.weight.flags.c_contiguous:
                pages.release(start * width, stop * width)
        pages.release(0, self.weight.nbytes)


def _pages(array: Array) -> Pages:
    """The mapped pages that an array looks into; none for one that owns its numbers."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return Pages(base if isinstance(base, memoryview) else memoryview(b""))


def fully_connected(model: Model, link: LayerLink, runner: Runner) -> FullyConnected | None:
    """The layer that ends in the original value `link.output`; None for forms that are not recomputed here.

    Those are integer layers, transposed inputs, weights that are left operands, biases with a number per
    image, and fused activations that the candidate fuses too: elsewhere `link.candidate_output` is the value
    in front of the activation. Of a layer on several maps (`link.parts`) it is the whole.
    """
    node = model.graph.producers.get(link.output)
    bias = None
    if node is not None and node.op == "Add":
        node, bias = _added(model, node)
    if node is None or node.op not in _MATRIX or _odd(model, node, link):
        return None
    weight = constant(model, node.inputs[1], runner)
    if weight.dtype.kind != "f" and weight.dtype.name != "bfloat16":
        return None
    if len(weight.shape) > 2 and prod(weight.shape[:-2]) == 1:
        weight = weight.reshape(weight.shape[-2:])
    if len(weight.shape) != 2:
        return None
    matrix = weight if node.attribute("transB") else weight.T
    own = node.inputs[2] if len(node.inputs) > 2 and "Gemm" in node.op else ""
    beta = _number(node, "beta")
    terms = [(own, beta)] if own and beta else []
    terms += [(bias, 1.0)] if bias else []
    return FullyConnected(matrix, _bias(model, terms, len(matrix), runner), _number(node, "alpha"))


def _odd(model: Model, node: Node, link: LayerLink) -> bool:
    offset = model.graph.initializers.get(node.inputs[2]) if len(node.inputs) > 2 else None
    if offset is not None and len(offset.dims) == 2 and offset.dims[0] != 1:
        return True  # a number per image
    turned = any(node.attribute(name) for name in ("transA", "transBatchA", "transBatchB"))
    fused = bool(node.attribute("activation")) and link.candidate_output == link.output
    return turned or fused or not is_constant(model, node.inputs[1])


def _added(model: Model, node: Node) -> tuple[Node | None, str | None]:
    """The matrix product in front of an Add, and the name of the constant that it adds."""
    for product, offset in (node.inputs, node.inputs[::-1]):
        before = model.graph.producers.get(product)
        if before is not None and before.op in _MATRIX and is_constant(model, offset):
            return before, offset
    return None, None


def _number(node: Node, name: str) -> float:
    value = node.attribute(name)
    return float(value) if isinstance(value, int | float) else 1.0


def _bias(model: Model, terms: list[tuple[str, float]], outputs: int, runner: Runner) -> Floats | None:
    """The sum of all bias terms, broadcast to [F]."""
    if not terms:
        return None
    total = np.zeros(outputs)
    for name, factor in terms:
        value = np.asarray(constant(model, name, runner), np.float64)
        total = (
            total + factor * np.broadcast_to(value, (1, outputs) if value.ndim > 1 else (outputs,)).ravel()
        )
    return total
