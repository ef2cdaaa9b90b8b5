"""Ops without a rule of ours: ask onnx's own inference about a model of that one node.

Our symbols travel through it as made-up `dim_param` tokens, so that an answer such as "the batch of the
input" comes back in the model's own symbols. This is the only module of `ops` that imports onnx, and only
when it is asked. Source: onnx ShapeInference.md; onnx.proto (AttributeProto, TypeProto).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxscope.expr import Expr, Size
from onnxscope.graph import Attribute, Graph, SparseTensor, Tensor, Type, domain_of
from onnxscope.ops.registry import View
from onnxscope.ops.value import DATA_LIMIT, Inferred, Shape, Unanswered, ValueFact

if TYPE_CHECKING:
    import onnx

MULTIPLYING = frozenset(
    "Attention CausalConvWithState Conv ConvInteger ConvTranspose DeformConv Einsum FlexAttention GRU Gemm "
    "LSTM LinearAttention LinearClassifier LinearRegressor MatMul MatMulInteger QLinearConv QLinearMatMul "
    "RNN SVMClassifier SVMRegressor".split()
)
"""Standard ops that do matrix products: without a rule of ours their MACs are unknown, not zero."""

Tokens = dict[str, Expr]
"""Made-up dim_param -> the size it stands for."""


def infer(view: View, ir_version: int) -> Inferred:
    """What onnx's shape inference says of this node, given what we know of its inputs.

    Stays unknown: sizes that onnx can't tell (they become new symbols); MACs of ops that do matrix products.
    Raises Unanswered for an op that onnx doesn't know, or where its inference fails.
    """
    domain, op = domain_of(view.node.domain), view.node.op
    _check_schema(domain, op, view.version)
    tokens: Tokens = {}
    try:
        model = _model(view, domain, max(ir_version, 4), tokens)
    except UnicodeEncodeError:
        raise Unanswered("a name or text of it is no UTF-8") from None
    outputs = _run(model)
    shapes: list[Shape | None] = []
    dtypes: list[int | None] = []
    containers: list[str] = []
    for index in range(len(view.node.outputs)):
        kinds, tensor = _unwrapped(outputs.get(f"out{index}"))
        containers.append(kinds)
        dtypes.append(tensor.elem_type or None if tensor is not None else None)
        shapes.append(_shape(tensor, view, index, tokens))
    if not (any(dtypes) or any(containers)):
        raise Unanswered("onnx's shape inference tells nothing about its outputs")
    unknown_macs = op in MULTIPLYING
    return Inferred(tuple(shapes), tuple(dtypes), containers=tuple(containers), unknown_macs=unknown_macs)


def _check_schema(domain: str, op: str, version: int) -> None:
    import onnx.defs

    name = f"{domain}:{op}" if domain else op
    # A damaged file has names that are no UTF-8 and versions beyond 32 bits; onnx takes neither.
    if not name.isascii() or not onnx.defs.has(op, domain):
        raise Unanswered(f"no rule for {name}; its shapes and MACs are unknown")
    if version and not (0 < version < 1 << 31 and onnx.defs.has(op, version, domain)):
        raise Unanswered(f"opset {version} of domain {domain or 'ai.onnx'!r} has no {op}")


def _model(view: View, domain: str, ir_version: int, tokens: Tokens) -> onnx.ModelProto:
    """A model of the node alone, its values renamed in0, in1, ... and out0, out1, ..."""
    import onnx.defs
    from onnx import helper

    names = [f"in{i}" if fact is not None else "" for i, fact in enumerate(view.inputs)]
    outputs = [f"out{i}" if name else "" for i, name in enumerate(view.node.outputs)]
    node = helper.make_node(view.node.op, names, outputs, domain=domain)
    node.attribute.extend(_attribute(attribute) for attribute in view.node.attributes)
    given = [(name, fact) for name, fact in zip(names, view.inputs, strict=True) if fact is not None]
    infos = [helper.make_value_info(name, _type(fact, tokens)) for name, fact in given]
    stored = [tensor for name, fact in given if (tensor := _constant(name, fact)) is not None]
    graph = helper.make_graph([node], "node", infos, [], stored)
    version = view.version or onnx.defs.get_schema(view.node.op, domain=domain).since_version
    opsets = [helper.make_opsetid(domain, version)]
    if domain:  # ops defined through a function body call standard ops
        opsets.append(helper.make_opsetid("", onnx.defs.onnx_opset_version()))
    return helper.make_model_gen_version(graph, opset_imports=opsets, ir_version=ir_version)


def _run(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Output name -> inferred type. Raises Unanswered where onnx fails."""
    from onnx import shape_inference

    try:
        found = shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except (
        Exception
    ) as bad:  # onnx raises its own InferenceError, but RuntimeError and ValueError from C++ too
        lines = str(bad).strip().splitlines() or [type(bad).__name__]
        raise Unanswered(f"onnx's shape inference fails: {lines[0]}") from bad
    return {info.name: info.type for info in (*found.graph.value_info, *found.graph.output)}


# --- our values -> protos ---


def _type(fact: ValueFact, tokens: Tokens) -> onnx.TypeProto:
    """The type of an input; containers from the outside in."""
    from onnx import helper

    if fact.container:
        outer, _, inner = fact.container.partition(" of ")
        element = ValueFact(fact.dtype, fact.shape, inner)
        if outer == "map":
            return helper.make_map_type_proto(fact.dtype or 0, _type(ValueFact(), tokens))
        wrap = helper.make_sequence_type_proto if outer == "sequence" else helper.make_optional_type_proto
        return wrap(_type(element, tokens))
    dims = None if fact.shape is None else [_dim(size, tokens) for size in fact.shape]
    return helper.make_tensor_type_proto(fact.dtype or 0, dims)


def _dim(size: Size, tokens: Tokens) -> int | str:
    if not isinstance(size, Expr):
        return size
    for token, known in tokens.items():
        if known == size:
            return token
    token = f"size {len(tokens)}"
    tokens[token] = size
    return token


def _constant(name: str, fact: ValueFact) -> onnx.TensorProto | None:
    """The content of an input as an initializer, where it is known, small and free of symbols."""
    from onnx import helper

    data = fact.known()
    if data is None or fact.dtype is None or any(isinstance(item, Expr) for item in data.items):
        return None
    items: list[Any] = [item.encode() if isinstance(item, str) else item for item in data.items]
    return helper.make_tensor(name, fact.dtype, data.shape, items)


def _attribute(attribute: Attribute) -> onnx.AttributeProto:
    """The attribute as onnx knows it. Raises Unanswered for kinds that no op without a rule of ours has."""
    from onnx import helper

    value: Any = attribute.value
    items = list(value) if isinstance(value, tuple) else [value]
    if any(isinstance(item, (Graph, SparseTensor)) for item in items):
        raise Unanswered(
            f"attribute {attribute.name!r} holds a graph or sparse tensor, which onnx alone can't judge"
        )
    items = [_plain(item) for item in items]
    value = items if isinstance(value, tuple) else items[0]
    return helper.make_attribute(attribute.name, value, attr_type=attribute.type or None)


def _plain(item: Any) -> Any:
    if isinstance(item, Tensor):
        return _tensor(item)
    return _declared(item) if isinstance(item, Type) else item


def _tensor(tensor: Tensor) -> onnx.TensorProto:
    """A stored tensor; numbers only where they are few, else dims and type alone."""
    from onnx import TensorProto

    fact = ValueFact(tensor.dtype, tensor.dims, tensor=tensor)
    small = (
        _constant(tensor.name, fact) if tensor.count <= DATA_LIMIT and tensor.storage is not None else None
    )
    return small or TensorProto(name=tensor.name, data_type=tensor.dtype, dims=tensor.dims)


def _declared(kind: Type) -> onnx.TypeProto:
    from onnx import helper

    if kind.kind in ("sequence", "optional") and kind.element is not None:
        wrap = helper.make_sequence_type_proto if kind.kind == "sequence" else helper.make_optional_type_proto
        return wrap(_declared(kind.element))
    if kind.kind != "tensor":
        raise Unanswered(f"an attribute holds a {kind.kind or 'missing'} type, which no standard op takes")
    return helper.make_tensor_type_proto(kind.dtype, kind.shape)


# --- protos -> our values ---


def _unwrapped(kind: onnx.TypeProto | None) -> tuple[str, onnx.TypeProto.Tensor | None]:
    """(containers from the outside in, the tensor type inside); a map's values are not looked into."""
    kinds: list[str] = []
    while kind is not None:
        case = kind.WhichOneof("value")
        if case == "tensor_type":
            return " of ".join(kinds), kind.tensor_type
        if case == "sequence_type":
            kind = kind.sequence_type.elem_type
        elif case == "optional_type":
            kind = kind.optional_type.elem_type
        else:
            if case == "map_type":
                kinds.append("map")
            break
        kinds.append(str(case).removesuffix("_type"))
    return " of ".join(kinds), None


def _shape(tensor: onnx.TypeProto.Tensor | None, view: View, index: int, tokens: Tokens) -> Shape | None:
    if tensor is None or not tensor.HasField("shape"):
        return None
    sizes: list[Size] = []
    for axis, dim in enumerate(tensor.shape.dim):
        known: Size | None = dim.dim_value if dim.HasField("dim_value") else tokens.get(dim.dim_param)
        sizes.append(view.unknown(axis, index) if known is None else known)
    return tuple(sizes)
