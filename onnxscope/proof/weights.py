"""Weights: moved, not changed. Bits of stored tensors are compared, in pieces, so memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxscope import dtypes
from onnxscope.errors import OnnxscopeError
from onnxscope.graph import Model, Node, Tensor
from onnxscope.proof.extract import constant, sources
from onnxscope.proof.fingerprint import fingerprint, fingerprint_of, same
from onnxscope.proof.layers import fully_connected
from onnxscope.proof.result import WeightCounts
from onnxscope.proof.windows import completed

if TYPE_CHECKING:
    from onnxscope.proof.links import HeadLink, LayerLink, Move
    from onnxscope.proof.runner import Runner

_FC = frozenset("Gemm MatMul FusedGemm FusedMatMul".split())
_QUANTIZING = frozenset(("QuantizeLinear", "DequantizeLinear"))
_INTEGERS = frozenset({dtypes.INT64, dtypes.INT32, dtypes.BOOL, dtypes.STRING})
"""Element types of shapes, indices and texts, which are no weights."""
_BYTES = frozenset((dtypes.UINT8, dtypes.INT8))


@dataclass(frozen=True, slots=True)
class WeightCheck:
    """How many weight tensors kept their bits, and which didn't."""

    counts: WeightCounts
    changed: tuple[str, ...]
    """Names in the original of tensors with other bits."""
    binding: bool
    """Whether the candidate is a conversion of the original, so that a changed bit decides."""

    @property
    def ok(self) -> bool:
        """False where a weight of a conversion changed."""
        return not (self.binding and self.changed)


def compare(original: Model, candidate: Model, heads: Sequence[HeadLink], runner: Runner) -> WeightCheck:
    """Compare the weights of two models; `heads` are what a conversion's provenance entry declares.

    The layers of the heads are compared tensor by tensor; every other stored tensor by name, else with any
    tensor of the same numbers. A conversion leaves the rest of the network alone: only what its heads'
    weights are made of may stand in another order. `runner` computes weights that are constant expressions.
    Raises ExternalDataError where numbers can't be read.
    """
    marks: dict[str, str] = {}
    for head in heads:
        for layer in head.layers:
            marks.update(_layer(original, candidate, layer, runner))
    turned = sources(candidate, [layer.weight.candidate for head in heads for layer in head.layers])
    for name, kind in _stored(original, candidate, frozenset(marks) | _consumed(original, candidate, heads)):
        stays = bool(heads) and name in candidate.graph.initializers and name not in turned
        marks[name] = "changed" if stays and kind == "permuted" else kind
    marks.update(_rescaled(original, candidate) if heads else ())
    kinds = list(marks.values())
    counts = WeightCounts(kinds.count("identical"), kinds.count("permuted"), kinds.count("changed"))
    changed = tuple(name for name, kind in marks.items() if kind == "changed")
    return WeightCheck(counts, changed, bool(heads) or converted(original, candidate))


def _consumed(original: Model, candidate: Model, heads: Sequence[HeadLink]) -> set[str]:
    """Tensors that only a layer's weight or bias is made of, which were compared as that; and C times 0.

    A candidate that has one of them under its name, for other readers, is asked for it like for any other.
    """
    layers = [layer for head in heads for layer in head.layers]
    moves = [move for layer in layers for move in (layer.weight, layer.bias) if move is not None]
    made = {move.candidate for move in moves}
    made |= {part.weight.candidate for layer in layers for part in layer.parts}
    read = [move.original for move in moves] + [_unread(original, layer) for layer in layers]
    names = sources(original, [name for name in read if name])
    return {name for name in names if name in made or name not in candidate.graph.initializers}


def _rescaled(original: Model, candidate: Model) -> Iterator[tuple[str, str]]:
    """Scales and zero points that a quantization of a conversion no longer reads, with other numbers instead.

    A small change of a scale hides inside the steps of the outputs.
    """
    for node in candidate.graph.nodes:
        twin = original.graph.producers.get(node.outputs[0]) if node.outputs else None
        if twin is None or twin.op != node.op or node.op not in _QUANTIZING:
            continue
        for before, after in zip(twin.inputs[1:3], node.inputs[1:3], strict=False):
            pair = original.graph.initializers.get(before), candidate.graph.initializers.get(after)
            held = [bytes(t.storage.view()) for t in pair if t is not None and t.storage is not None]
            if before != after and len(held) == 2 and held[0] != held[1]:
                yield before, "changed"


def _unread(model: Model, layer: LayerLink) -> str:
    """The C of a Gemm that takes it times 0; "" for any other layer."""
    node = _product(model, layer)
    times_zero = node is not None and node.attribute("beta") == 0.0 and len(node.inputs) > 2
    return node.inputs[2] if node is not None and times_zero else ""


def _layer(original: Model, candidate: Model, layer: LayerLink, runner: Runner) -> Iterator[tuple[str, str]]:
    for move, attribute in ((layer.weight, "alpha"), (layer.bias, "beta")):
        if move is not None and move is layer.weight and layer.parts:
            yield move.original, _pieces(original, candidate, layer, runner)
        elif move is not None:
            factor = _factor(original, layer, attribute, move.original) if move.how == "folded" else 1.0
            found = _moved(original, candidate, move, factor, runner)
            if found == "permuted" and factor == 1.0 and move is layer.weight:
                found = "permuted" if _in_order(original, candidate, layer, runner) else "changed"
            yield move.original, found


def _pieces(original: Model, candidate: Model, layer: LayerLink, runner: Runner) -> str:
    """What became of a weight (permuted or changed) whose columns several convolutions share."""
    factor = _factor(original, layer, "alpha", layer.weight.original) if layer.weight.how == "folded" else 1.0
    try:
        before = constant(original, layer.weight.original, runner)
        parts = [constant(candidate, part.weight.candidate, runner) for part in layer.parts]
    except OnnxscopeError:
        return "changed"
    if factor != 1.0:
        before = (before * np.asarray(factor, before.dtype)).astype(before.dtype)
    after = np.concatenate([part.reshape(-1) for part in parts])
    same = fingerprint_of(np.ascontiguousarray(before)).same_multiset(fingerprint_of(after))
    return "permuted" if same else "changed"


def _moved(original: Model, candidate: Model, move: Move, factor: float, runner: Runner) -> str:
    """identical, permuted or changed."""
    try:
        tensors = (
            original.graph.initializers.get(move.original),
            candidate.graph.initializers.get(move.candidate),
        )
        if factor == 1.0 and tensors[0] and tensors[1] and tensors[0].count == tensors[1].count:
            found = _relation(tensors[0], tensors[1])
            return "changed" if found == "permuted" and move.how == "same bytes" else found
        before, after = constant(original, move.original, runner), constant(candidate, move.candidate, runner)
    except OnnxscopeError:
        return "changed"
    if factor != 1.0:
        before = (before * np.asarray(factor, before.dtype)).astype(before.dtype)
    if before.size != after.size and before.size and after.size % before.size == 0:
        before = np.broadcast_to(before.reshape(-1, 1), (before.size, after.size // before.size))  # scalar C
    marks = [fingerprint_of(np.ascontiguousarray(array)) for array in (before, after)]
    if marks[0].ordered == marks[1].ordered:
        return "identical" if factor == 1.0 else "permuted"
    return "permuted" if marks[0].same_multiset(marks[1]) else "changed"


def _in_order(original: Model, candidate: Model, layer: LayerLink, runner: Runner) -> bool:
    """Whether a permuted weight is in the order that its axes ask for, in blocks of rows.

    True also where that can't be told: a form that stores the weight in another shape than [F, C, *kernel].
    """
    matrix, stored = (
        fully_connected(original, layer, runner),
        candidate.graph.initializers.get(layer.weight.candidate),
    )
    weight = _integers(original, layer) if matrix is None else matrix.weight
    channels = weight.shape[1] // prod(layer.kernel) if weight is not None else 0
    sizes, axes = (channels, *layer.kernel), layer.weight.axes
    if weight is None or stored is None or stored.dims != (len(weight), *sizes):
        return True
    axes = completed(axes if prod(layer.kernel) > 1 else (), len(sizes))
    written = tuple(sizes[axis - 1] for axis in axes)
    kernel = stored.array()
    for start, stop in matrix.held() if matrix else ((0, len(weight)),):
        rows = np.ascontiguousarray(weight[start:stop])
        turned = np.moveaxis(rows.reshape(len(rows), *written), range(1, 1 + len(axes)), axes)
        if not np.array_equal(_bits(turned), _bits(kernel[start:stop])):
            return False
    return True


def _integers(original: Model, layer: LayerLink) -> npt.NDArray[Any] | None:
    """The stored weight [F, K] of a layer in integer arithmetic; None where it isn't one stored matrix."""
    tensor = original.graph.initializers.get(layer.weight.original)
    readers = original.graph.consumers.get(layer.weight.original, ())
    if tensor is None or len(tensor.dims) != 2 or len(readers) != 1 or tensor.dtype not in _BYTES:
        return None
    stored = tensor.array()
    return stored if readers[0].attribute("transB") else stored.T


def _bits(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The numbers as integers, so that NaN equals itself and -0 isn't 0."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def _factor(model: Model, layer: LayerLink, attribute: str, name: str) -> float:
    """Alpha or beta by which a layer multiplies a constant: a bias that is added behind it has none."""
    node = _product(model, layer)
    if node is None or (attribute == "beta" and name not in sources(model, node.inputs[2:])):
        return 1.0
    value = node.attribute(attribute)
    return float(value) if isinstance(value, int | float) else 1.0


def _product(model: Model, layer: LayerLink) -> Node | None:
    """The matrix product that a layer ends in, or behind which its bias is added."""
    node = model.graph.producers.get(layer.output)
    while node is not None and node.op not in _FC:
        made = [model.graph.producers.get(name) for name in node.inputs]
        node = next((found for found in made if found is not None and found.op in _FC), None)
    return node


def _stored(original: Model, candidate: Model, done: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Every weight tensor of the original that no head names."""
    theirs = weights_of(candidate)
    missing: list[tuple[str, Tensor]] = []
    for name, tensor in weights_of(original).items():
        if name in done:
            continue
        if name in theirs and theirs[name].count == tensor.count:
            yield name, _relation(tensor, theirs[name])
        else:
            missing.append((name, tensor))
    if missing:
        yield from _by_content(missing, theirs)


def _by_content(missing: list[tuple[str, Tensor]], theirs: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Tensors without a namesake: another name may hold the same numbers."""
    counts = {tensor.count for _, tensor in missing}
    marks = [fingerprint(tensor) for tensor in theirs.values() if tensor.count in counts]
    ordered = {mark.ordered for mark in marks}
    loose = {(mark.dtype, mark.count, mark.sums) for mark in marks}
    for name, tensor in missing:
        mark = fingerprint(tensor)
        same = (mark.dtype, mark.count, mark.sums) in loose
        yield name, "identical" if mark.ordered in ordered else "permuted" if same else "changed"


def weights_of(model: Model) -> dict[str, Tensor]:
    """Stored tensors of the main graph that may be weights, by value name; shapes and indices left out."""
    found = dict(model.graph.initializers)
    for node in model.graph.nodes:
        value = node.attribute("value") if node.op == "Constant" else None
        if isinstance(value, Tensor) and node.outputs:
            found[node.outputs[0]] = value
    return {
        name: tensor
        for name, tensor in found.items()
        if tensor.dtype not in _INTEGERS and tensor.storage is not None and tensor.nbytes
    }


def _relation(before: Tensor, after: Tensor) -> str:
    if before.dtype != after.dtype or before.nbytes != after.nbytes:
        return "changed"
    if same(before, after):
        return "identical"
    return "permuted" if fingerprint(before).same_multiset(fingerprint(after)) else "changed"


def converted(original: Model, candidate: Model) -> bool:
    """Whether fully connected layers of the original stand as convolutions in the candidate."""
    before, after = _fully_connected(original), _fully_connected(candidate)
    gone = [shape for name, shape in before.items() if name not in after]
    if len(before) <= len(after) or not gone:
        return False
    known = {node.outputs[0] for node in original.graph.nodes if node.op == "Conv"}
    weights = weights_of(candidate)
    fresh = [n for n in candidate.graph.nodes if n.op == "Conv" and n.outputs[0] not in known]
    sizes = {weights[node.inputs[1]].count for node in fresh if node.inputs[1] in weights}
    return any(count in sizes for count in gone)


def _fully_connected(model: Model) -> dict[str, int]:
    """Output value -> number of weights, for products with a stored matrix."""
    weights = weights_of(model)

    def matrix(node: Node) -> Tensor | None:
        return next((weights[name] for name in node.inputs[1:2] if name in weights), None)

    nodes = [(node, matrix(node)) for node in model.graph.nodes if node.op in _FC]
    return {node.outputs[0]: tensor.count for node, tensor in nodes if tensor is not None}
