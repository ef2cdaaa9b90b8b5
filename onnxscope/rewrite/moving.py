"""Constants of the original put where the twins want them: moved bytes, or nodes where none are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxscope import dtypes
from onnxscope.graph import Attribute, Node, Tensor
from onnxscope.rewrite import opsets
from onnxscope.rewrite.lift import Lift, Tensors
from onnxscope.rewrite.weights import SAME, Recipe, Source, moved, source_of


def reshape(lift: Lift, place: int, value: str, dims: Sequence[int], *, like: str = "") -> str:
    """A Reshape to fixed dims (0 copies, -1 infers); the dims are an attribute below opset 5."""
    if lift.opset < 5:
        return lift.builder.emit(place, "Reshape", (value,), shape=tuple(dims), like=like, hint=value)
    shape = lift.builder.ints(dims, "shape")
    return lift.builder.emit(place, "Reshape", (value, shape), like=like, hint=value)


def transpose(lift: Lift, place: int, value: str, perm: Sequence[int], *, like: str = "") -> str:
    """A Transpose."""
    return lift.builder.emit(place, "Transpose", (value,), perm=tuple(perm), like=like, hint=value)


def place_constant(lift: Lift, place: int, source: Source, recipe: Recipe, dims: Sequence[int]) -> Tensors:
    """The constant with its numbers moved by `recipe`, under `dims`."""
    name = source.name
    if source.tensor is not None:
        made = moved(source.tensor, recipe, dims, _plain_name(lift, source.tensor, name), source.piece)
        return Tensors(name, lift.builder.tensor(made), source.moved_by(recipe))
    integers = _dequantized(lift, place, source, recipe, dims)
    if integers is not None:
        return integers
    if source.filled and recipe.scale == 1.0:
        producer = lift.model.graph.producers[name]
        shape = lift.builder.ints(dims, "shape")
        value = producer.attribute("value")
        made_by = lift.builder.emit(place, "ConstantOfShape", (shape,), value=value, hint=name)
        return Tensors(name, made_by, SAME)
    return _by_nodes(lift, place, source, recipe, dims)


def _dequantized(
    lift: Lift, place: int, source: Source, recipe: Recipe, dims: Sequence[int]
) -> Tensors | None:
    """Stored integers behind a DequantizeLinear: they move, and their scales with them.

    None where the scales lie along an axis that doesn't stay whole.
    """
    node = lift.model.graph.producers.get(source.name)
    if node is None or node.op != "DequantizeLinear" or recipe.scale != 1.0 or recipe.fill > 1:
        return None
    stored = source_of(lift.native, node.inputs[0])
    if stored is None or stored.tensor is None or stored.turned or source.turned:
        return None
    kept = tuple(attribute for attribute in node.attributes if attribute.name not in ("axis", "block_size"))
    if lift.native.value(node.inputs[1]).shape not in ((), (1,)):
        axis = _scales_axis(lift, node, stored.dims, recipe, dims)
        if axis is None:
            return None
        kept = (*kept, Attribute("axis", axis))
    made = moved(stored.tensor, recipe, dims, _plain_name(lift, stored.tensor, stored.name), source.piece)
    inputs = (lift.builder.tensor(made), *node.inputs[1:])
    twin = replace(node, inputs=inputs, attributes=kept, origin=None)
    return Tensors(source.name, lift.builder.add(place, twin, hint=source.name), source.moved_by(recipe))


def _scales_axis(
    lift: Lift, node: Node, stored: tuple[int, ...], recipe: Recipe, dims: Sequence[int]
) -> int | None:
    """The axis of the moved integers along which the scales lie; None where it isn't one of them."""
    given = node.attribute("axis")
    axis = (given if isinstance(given, int) else 1) % max(len(stored), 1)
    seen = recipe.dims
    place = 0 if axis == 0 else len(seen) - 1 if axis == len(stored) - 1 else None
    if node.attribute("block_size") or place is None or seen[place] != stored[axis]:
        return None
    moved_to = place if recipe.axes is None else recipe.axes.index(place)
    return moved_to if len(dims) == len(seen) and dims[moved_to] == stored[axis] else None


def _plain_name(lift: Lift, tensor: Tensor, name: str) -> str:
    return tensor.name or name


def _by_nodes(lift: Lift, place: int, source: Source, recipe: Recipe, dims: Sequence[int]) -> Tensors:
    """For numbers that a node makes at run time; the runtime folds these nodes once."""
    value, builder, piece = source.name, lift.builder, source.piece
    if piece is not None:
        value = opsets.sliced(lift, place, value, piece.axis, piece.start, piece.stop)
    if recipe.scale != 1.0:
        dtype = lift.native.value(value).dtype or dtypes.FLOAT
        value = builder.emit(place, "Mul", (value, builder.constant((recipe.scale,), dtype, (), "scale")))
    if recipe.axes is not None:
        value = transpose(lift, place, reshape(lift, place, value, recipe.dims), recipe.axes)
    if recipe.fill > 1:
        ones = builder.ints((recipe.fill,), "shape")
        value = builder.emit(place, "Expand", (reshape(lift, place, value, (1,)), ones), hint=source.name)
    return Tensors(source.name, reshape(lift, place, value, dims), source.moved_by(recipe))


def source(lift: Lift, name: str) -> Source | None:
    """The stored numbers behind a constant of the main graph."""
    return source_of(lift.native, name)
