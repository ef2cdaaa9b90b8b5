"""Constants of the original put where the twins want them: moved bytes, or nodes where none are stored."""

from __future__ import annotations

from collections.abc import Sequence

from onnxscope import dtypes
from onnxscope.graph import Tensor
from onnxscope.rewrite.lift import Lift, Tensors
from onnxscope.rewrite.weights import FOLDED, SAME, Recipe, Source, moved, source_of


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
        made = moved(source.tensor, recipe, dims, _plain_name(lift, source.tensor, name))
        return Tensors(name, lift.builder.tensor(made), recipe.move)
    if source.filled and recipe.scale == 1.0:
        producer = lift.model.graph.producers[name]
        shape = lift.builder.ints(dims, "shape")
        value = producer.attribute("value")
        made_by = lift.builder.emit(place, "ConstantOfShape", (shape,), value=value, hint=name)
        return Tensors(name, made_by, SAME)
    return _by_nodes(lift, place, source, recipe, dims)


def _plain_name(lift: Lift, tensor: Tensor, name: str) -> str:
    return tensor.name or name


def _by_nodes(lift: Lift, place: int, source: Source, recipe: Recipe, dims: Sequence[int]) -> Tensors:
    """For numbers that a node makes at run time; the runtime folds these nodes once."""
    value, builder = source.name, lift.builder
    if recipe.scale != 1.0:
        dtype = lift.native.value(value).dtype or dtypes.FLOAT
        value = builder.emit(place, "Mul", (value, builder.constant((recipe.scale,), dtype, (), "scale")))
    if recipe.axes is not None:
        value = transpose(lift, place, reshape(lift, place, value, recipe.dims), recipe.axes)
    if recipe.fill > 1:
        ones = builder.ints((recipe.fill,), "shape")
        value = builder.emit(place, "Expand", (reshape(lift, place, value, (1,)), ones), hint=source.name)
    move = FOLDED if recipe.move == FOLDED else recipe.move
    return Tensors(source.name, reshape(lift, place, value, dims), move)


def source(lift: Lift, name: str) -> Source | None:
    """The stored numbers behind a constant of the main graph."""
    return source_of(lift.native, name)
