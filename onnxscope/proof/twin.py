"""The float32 twin of a half-precision model: the same numbers in a wider type, so that roundings get small.

Every float16 and bfloat16 number is a float32 number, so the twin's weights are the same values. What changes
is the arithmetic: results are no longer rounded to the narrow type, and two twins can be compared with the
limits of float32. A cast inside the model to the narrow type becomes one to float32, and no longer rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from onnxscope import dtypes
from onnxscope.graph import (
    Attribute,
    AttributeValue,
    Function,
    Graph,
    Model,
    Node,
    SparseTensor,
    Tensor,
    Type,
    ValueInfo,
)

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array

NARROW = (dtypes.FLOAT16, dtypes.BFLOAT16)
_TYPE_ATTRIBUTES = frozenset(("to", "dtype", "output_dtype", "stash_type", "output_datatype"))
"""Attributes that name an element type."""


@dataclass(frozen=True, slots=True)
class Widened:
    """The numbers of a narrow tensor in float32, computed when they are asked for."""

    tensor: Tensor

    @property
    def kind(self) -> str:
        """`raw`."""
        return "raw"

    @property
    def location(self) -> str:
        """In memory."""
        return f"widened {self.tensor.name}"

    def view(self) -> memoryview:
        """Little-endian float32."""
        wide = self.tensor.array().astype("<f4")
        return np.ascontiguousarray(wide).reshape(-1).view(np.uint8).data


@dataclass(frozen=True, slots=True)
class Rounded:
    """The numbers of a wide tensor rounded to a narrow type, in the wide one, when they are asked for."""

    tensor: Tensor
    narrow: int
    """Element type that they are rounded to."""

    @property
    def kind(self) -> str:
        """`raw`."""
        return "raw"

    @property
    def location(self) -> str:
        """In memory."""
        return f"rounded {self.tensor.name}"

    def view(self) -> memoryview:
        """Little-endian numbers of the tensor's own type."""
        wide = self.tensor.array()
        with np.errstate(over="ignore"):
            rounded = wide.astype(dtypes.BY_CODE[self.narrow].numpy).astype(wide.dtype)
        return np.ascontiguousarray(rounded).reshape(-1).view(np.uint8).data


def rounded_like(model: Model, other: Model) -> Model:
    """The model with each weight rounded to the type of its namesake in `other`, where that is narrower.

    So a conversion to half precision is compared with what it had to make of the weights.
    """
    theirs = other.graph.initializers

    def changed(tensor: Tensor) -> Tensor:
        twin = theirs.get(tensor.name)
        if twin is None or twin.dtype not in NARROW or tensor.dtype not in (dtypes.FLOAT, dtypes.DOUBLE):
            return tensor
        return replace(tensor, storage=Rounded(tensor, twin.dtype), external=(), origin=None)

    tensors = tuple(changed(tensor) for tensor in model.graph.tensors)
    return replace(model, graph=replace(model.graph, tensors=tensors))


def is_narrow(model: Model) -> bool:
    """Whether any weight, input or output is float16 or bfloat16."""
    graph = model.graph
    declared = any(value.type.dtype in NARROW for value in (*graph.inputs, *graph.outputs))
    return declared or any(tensor.dtype in NARROW for tensor in graph.tensors) or _casts(graph)


def _casts(graph: Graph) -> bool:
    return any(node.op == "Cast" and node.attribute("to") in NARROW for node in graph.nodes)


def float32_twin(model: Model) -> Model:
    """The model with float32 in place of float16 and bfloat16 everywhere: weights, types, casts, bodies."""
    functions = tuple(_function(function) for function in model.functions)
    return replace(model, graph=_graph(model.graph), functions=functions, path="")


def feeds(values: dict[str, Array]) -> dict[str, Array]:
    """Inputs of a model as its twin takes them: narrow floats become float32, exactly."""
    return {name: _wide(value) for name, value in values.items()}


def _wide(value: Array) -> Array:
    narrow = value.dtype == np.float16 or value.dtype.name == "bfloat16"
    return value.astype(np.float32) if narrow else value


def _graph(graph: Graph) -> Graph:
    return replace(
        graph,
        inputs=tuple(_info(value) for value in graph.inputs),
        outputs=tuple(_info(value) for value in graph.outputs),
        values=tuple(_info(value) for value in graph.values),
        nodes=tuple(_node(node) for node in graph.nodes),
        tensors=tuple(_tensor(tensor) for tensor in graph.tensors),
        sparse=tuple(_sparse(item) for item in graph.sparse),
    )


def _function(function: Function) -> Function:
    defaults = tuple(_attribute(attribute) for attribute in function.defaults)
    return replace(function, body=_graph(function.body), defaults=defaults)


def _info(value: ValueInfo) -> ValueInfo:
    return replace(value, type=_type(value.type))


def _type(kind: Type) -> Type:
    element = None if kind.element is None else _type(kind.element)
    narrow = kind.dtype in NARROW
    if not narrow and element == kind.element:
        return kind
    return replace(kind, dtype=dtypes.FLOAT if narrow else kind.dtype, element=element)


def _tensor(tensor: Tensor) -> Tensor:
    if tensor.dtype not in NARROW:
        return tensor
    return Tensor(tensor.name, dtypes.FLOAT, tensor.dims, Widened(tensor), tensor.doc)


def _sparse(item: SparseTensor) -> SparseTensor:
    return replace(item, values=_tensor(item.values))


def _node(node: Node) -> Node:
    attributes = tuple(_attribute(attribute) for attribute in node.attributes)
    same = all(new is old for new, old in zip(attributes, node.attributes, strict=True))
    return node if same else replace(node, attributes=attributes)


def _attribute(attribute: Attribute) -> Attribute:
    value = attribute.value
    if attribute.name in _TYPE_ATTRIBUTES and value in NARROW:
        return replace(attribute, value=dtypes.FLOAT)
    changed = tuple(_item(item) for item in value) if isinstance(value, tuple) else _item(value)
    return attribute if changed == value else replace(attribute, value=cast("AttributeValue", changed))


def _item(item: object) -> object:
    if isinstance(item, Tensor):
        return _tensor(item)
    if isinstance(item, SparseTensor):
        return _sparse(item)
    if isinstance(item, Graph):
        return _graph(item)
    return _type(item) if isinstance(item, Type) else item
