"""Parameters: which stored numbers each layer uses, each number stored once, buffers and scales apart.

A parameter is a stored number that training would change: weights, biases, normalization scales, embeddings,
learned constants. Not parameters: shapes, axes and other integers, quantization scales and zero points,
BatchNorm's running mean and variance (these are counted as buffers), and single-number constants such as the
0.5 of a Gelu. A weight reached through a chain of constant nodes (Transpose, Reshape, Cast, DequantizeLinear,
Identity, ...) belongs to the layer at the end of the chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.analysis.roles import BIAS, STATISTIC, WEIGHT, roles_of
from onnxscope.expr import Size, TooComplex, Worked, product, worked_product
from onnxscope.graph import Node, SparseTensor, Tensor
from onnxscope.ops.value import Shape

Key: TypeAlias = "tuple[str, int]"
"""(scope path, node index)."""


class Parameter(NamedTuple):
    """One stored tensor as a layer uses it."""

    key: tuple[str, str] | int
    """Identity of the stored numbers: the tensor object, or (scope, value) of the node that generates
    them."""
    name: str
    role: str
    """weight, bias or statistic."""
    shape: Shape
    dtype: int
    elements: Size
    generated: str = ""
    """Op that makes the numbers at run time (ConstantOfShape); "" where the file stores them."""

    @property
    def nbytes(self) -> int | None:
        """Bytes of the stored numbers, packed; None where unknown."""
        return dtypes.byte_size(self.dtype, self.elements) if isinstance(self.elements, int) else None


class LayerParams(NamedTuple):
    """What one layer uses."""

    weight: Size
    bias: Size
    total: Size
    """weight + bias; running statistics apart."""
    statistics: Size
    """BatchNorm's running mean and variance."""
    shared_with: tuple[str, ...]
    """Labels of other layers that use one of its tensors, in execution order."""
    dtype: str | None
    """Element type of the weights as stored (int8 for a quantized layer)."""
    nbytes: int
    parameters: tuple[Parameter, ...]
    fact: NodeFact
    """The layer itself."""

    @property
    def formula(self) -> str:
        """Worked count, for example `(5*5*1 + 1)*32 = 832`."""
        learned = tuple([(p.role, p.shape) for p in self.parameters if p.role != STATISTIC])
        across = self.fact.node.op in _ACROSS and self.fact.node.attribute("transB")
        return _formula(kind_of(self.fact), bool(across), learned)


class Params(NamedTuple):
    """Parameter counts of a model."""

    layers: dict[Key, LayerParams]
    """(scope, node index) -> counts, for layers that use any, in execution order."""
    total: Size
    """Each stored number once, running statistics apart."""
    trainable: Size
    """Sum over layers of what each uses: torch's `parameters()` where no BatchNorm was folded."""
    buffers: Size
    """Running statistics, each stored number once."""
    by_kind: dict[str, Size]
    """Kind of layer -> its part of `trainable`, sorted by name."""
    weight_bytes: int
    """Bytes of parameters and buffers, each stored once (0 for generated ones)."""
    bytes_by_dtype: dict[str, int]
    notes: tuple[str, ...]
    """What a reader must know: generated weights, merged tensors."""


def count(facts: Facts) -> Params:
    """Count the parameters of every layer."""
    found: dict[Key, tuple[NodeFact, tuple[Parameter, ...]]] = {}
    moved: dict[Key, tuple[Parameter, ...]] = {}
    for fact in facts.nodes():
        parameters = () if fact.fixed else tuple(_parameters(facts, fact))
        if not parameters:
            continue
        owner = _biased_layer(facts, fact, parameters)
        if owner is not None:
            moved[owner] = tuple(parameter._replace(role=BIAS) for parameter in parameters)
        else:
            found[fact.scope, fact.node.index] = fact, parameters
    found = {key: (fact, (*own, *moved.get(key, ()))) for key, (fact, own) in found.items()}
    users: dict[tuple[str, str] | int, list[str]] = {}
    for fact, parameters in found.values():
        for parameter in parameters:
            users.setdefault(parameter.key, []).append(fact.label)
    layers = {key: _layer(fact, parameters, users) for key, (fact, parameters) in found.items()}
    return _totals(found, layers)


def _biased_layer(facts: Facts, fact: NodeFact, parameters: tuple[Parameter, ...]) -> Key | None:
    """The matrix product or convolution whose bias an Add is: exporters write MatMul, then Add.

    Only where nobody else reads the product and the constant has one number per output feature.
    """
    if fact.node.op != "Add" or len(parameters) != 1:
        return None
    graph, values = facts.scopes[fact.scope].graph, facts.scopes[fact.scope].values
    for name in fact.node.inputs:
        producer = graph.producers.get(name)
        if (
            producer is None
            or producer.op not in ("MatMul", "Conv", "MatMulInteger")
            or len(producer.inputs) > 2
        ):
            continue
        shape = values[name].shape
        if len(graph.consumers[name]) > 1 or shape is None or values[name].fixed:
            continue
        features = shape[1] if producer.op == "Conv" else shape[-1]
        weighted = any(facts.value(source, fact.scope).fixed for source in producer.inputs)
        if weighted and parameters[0].elements == features:
            return fact.scope, producer.index
    return None


def _totals(
    found: dict[Key, tuple[NodeFact, tuple[Parameter, ...]]],
    layers: dict[Key, LayerParams],
) -> Params:
    stored = {p.key: p for _, parameters in found.values() for p in parameters}
    learned = [p for p in stored.values() if p.role != STATISTIC]
    by_kind: dict[str, Size] = {}
    for key, layer in layers.items():
        kind = kind_of(found[key][0])
        by_kind[kind] = by_kind.get(kind, 0) + layer.total
    by_code: dict[int, int] = {}
    for parameter in stored.values():
        size = None if parameter.generated else parameter.nbytes
        if size is not None:
            by_code[parameter.dtype] = by_code.get(parameter.dtype, 0) + size
    by_dtype = {dtypes.name_of(code) or "unknown": size for code, size in by_code.items()}
    total: Size = sum([p.elements for p in learned], 0)
    trainable: Size = sum([layer.total for layer in layers.values()], 0)
    return Params(
        layers=layers,
        total=total,
        trainable=trainable,
        buffers=sum([p.elements for p in stored.values() if p.role == STATISTIC], 0),
        by_kind=dict(sorted(by_kind.items())),
        weight_bytes=sum(by_dtype.values()),
        bytes_by_dtype=dict(sorted(by_dtype.items())),
        notes=tuple(_notes(learned, total, trainable)),
    )


def _notes(learned: list[Parameter], total: Size, trainable: Size) -> Iterator[str]:
    generated: Size = sum([p.elements for p in learned if p.generated], 0)
    if generated:
        makers = ", ".join(sorted({p.generated for p in learned if p.generated}))
        yield f"{generated} of {total} parameters are generated by {makers}, not stored in the file"
    if total != trainable:
        yield (
            f"layers use {trainable} parameters, the file stores {total}: "
            "several layers share tensors (tied weights, or equal tensors that the exporter merged)"
        )


def kind_of(fact: NodeFact) -> str:
    """Kind of a layer in reports: conv, conv_transpose, pool, global_pool, fc, norm or other."""
    return fact.rule.kind if fact.rule else "other"


def _parameters(facts: Facts, fact: NodeFact) -> Iterator[Parameter]:
    constant = [(i, v) for i, v in enumerate(fact.inputs) if v and (v.constant or v.overridable)]
    if not constant or (fact.scope, fact.node.index) in facts.children:  # the nodes inside use them
        return
    roles = roles_of(fact)
    seen: set[tuple[str, str] | int] = set()
    for index, value in constant:
        role = WEIGHT if roles is None else roles.get(index)
        if role is None:
            continue
        name = fact.node.inputs[index]
        direct = value.tensor and (_parameter(value.tensor, name, role),)
        for parameter in direct or trace(facts, fact.scope, name, role):
            if parameter.key not in seen and (roles is not None or _learnable(parameter)):
                seen.add(parameter.key)
                yield parameter


def _learnable(parameter: Parameter) -> bool:
    """Whether a constant in an unlisted place counts: floats or small integers, stored, more than one."""
    dtype = dtypes.BY_CODE.get(parameter.dtype)
    quantized = bool(dtype and dtype.kind in ("int", "uint") and (dtype.bits or 0) <= 8)
    return (
        bool(dtype and (dtype.kind == "float" or quantized))
        and parameter.elements != 1
        and not parameter.generated
    )


_THROUGH = frozenset(
    "DequantizeLinear QuantizeLinear Transpose Reshape Cast CastLike Identity Squeeze Unsqueeze Flatten "
    "Expand Slice Tile Pad Gather".split()
)
"""Ops that move or convert the numbers of their first input."""


def trace(facts: Facts, scope: str, name: str, role: str) -> Iterator[Parameter]:
    """The stored tensors at the end of the constant nodes that make a value, each once, in order.

    Ops that only move or convert numbers hand on their first input; behind any other op (a weight computed
    from several tensors) only what training would change counts.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [(scope, name, False)]
    while waiting:
        place, value_name, mixed = waiting.pop()
        path, producer = _producer(facts, place, value_name)
        if (path, value_name) in seen:
            continue
        seen.add((path, value_name))
        found = _stored(facts, path, value_name, role, producer)
        if found is not None:
            if not mixed or _learnable(found):
                yield found
        elif producer is not None:
            through = producer.op in _THROUGH
            sources = producer.inputs[:1] if through else producer.inputs[::-1]
            waiting += [(path, source, mixed or not through) for source in sources if source]


def _parameter(tensor: Tensor, name: str, role: str) -> Parameter:
    return Parameter(id(tensor), name, role, tensor.dims, tensor.dtype, tensor.count)


def _stored(facts: Facts, path: str, name: str, role: str, producer: Node | None) -> Parameter | None:
    """The parameter that a value is: a stored tensor, or one that ConstantOfShape generates."""
    value = facts.value(name, path)
    tensor = value.tensor or value.default
    if tensor is not None:
        return _parameter(tensor, name, role)
    if producer is not None and producer.op == "Constant":
        return _constant(producer, name, role)
    if producer is None or producer.op != "ConstantOfShape" or value.shape is None:
        return None
    try:
        count = product(value.shape)
    except TooComplex:
        return None
    return Parameter((path, name), name, role, value.shape, value.dtype or 1, count, producer.op)


def _constant(node: Node, name: str, role: str) -> Parameter | None:
    """The numbers that a Constant holds as a list or sparse tensor: those of `value` come as a tensor."""
    for attribute in node.attributes:
        if isinstance(attribute.value, SparseTensor):
            return _parameter(attribute.value.values, name, role)
        if attribute.name == "value_floats" and isinstance(attribute.value, tuple):
            count = len(attribute.value)
            return Parameter(id(attribute), name, role, (count,), dtypes.FLOAT, count)
    return None


def _producer(facts: Facts, scope: str, name: str) -> tuple[str, Node | None]:
    """(scope, node) that makes a value as seen from a scope; node None for an input or initializer."""
    path: str | None = scope
    while path is not None:
        inside = facts.scopes[path]
        if name in inside.values:
            return path, inside.graph.producers.get(name)
        path = inside.parent
    return scope, None


def _layer(
    fact: NodeFact, parameters: tuple[Parameter, ...], users: dict[tuple[str, str] | int, list[str]]
) -> LayerParams:
    shared: dict[str, None] = {}
    for parameter in parameters:
        if len(users[parameter.key]) > 1:
            shared.update((label, None) for label in users[parameter.key] if label != fact.label)
    weight, bias, statistics, dtype, stored = _sums(
        tuple([(p.role, p.elements, p.dtype) for p in parameters])
    )
    total = weight + bias
    return LayerParams(weight, bias, total, statistics, tuple(shared), dtype, stored, parameters, fact)


@lru_cache(maxsize=1024)
def _sums(parts: tuple[tuple[str, Size, int], ...]) -> tuple[Size, Size, Size, str | None, int]:
    """Weights, biases, statistics, element type and bytes of a layer; most layers are like others."""
    sums: dict[str, Size] = {WEIGHT: 0, BIAS: 0, STATISTIC: 0}
    stored = 0
    for role, elements, dtype in parts:
        sums[role] = sums[role] + elements
        stored += dtypes.byte_size(dtype, elements) or 0 if isinstance(elements, int) else 0
    main = next((dtype for role, _, dtype in parts if role == WEIGHT), parts[0][2])
    return sums[WEIGHT], sums[BIAS], sums[STATISTIC], dtypes.name_of(main), stored


@lru_cache(maxsize=1024)
def _formula(kind: str, across: bool, learned: tuple[tuple[str, Shape], ...]) -> str:
    """The textbook form where the shapes have it, else the sum of the tensors' sizes."""
    weights = [shape for role, shape in learned if role == WEIGHT]
    biases = [product(shape) for role, shape in learned if role == BIAS]
    plain = _sum_formula([shape for _, shape in learned])
    if len(weights) != 1 or len(biases) > 1:
        return str(plain)
    outputs, inputs = _fan(kind, across, weights[0])
    if not inputs or biases not in ([], [outputs]):
        return str(plain)
    worked = worked_product(inputs)
    worked = (worked + 1 if biases else worked) * outputs
    return str(worked if worked.value == plain.value else plain)


_ACROSS = frozenset(("Gemm", "FusedGemm", "QGemm", "FusedMatMul"))
"""Matrix products whose attribute `transB` says that each row of the weight makes one output."""


def _fan(kind: str, across: bool, shape: Shape) -> tuple[Size, Shape]:
    """(outputs, factors of the inputs of each) of a weight: kernel first, then channels."""
    if kind == "conv" and len(shape) >= 3:
        return shape[0], (*shape[2:], shape[1])
    if kind == "conv_transpose" and len(shape) >= 3:
        return shape[1], (*shape[2:], shape[0])
    if kind == "fc" and len(shape) == 2:
        return (shape[0], shape[1:]) if across else (shape[1], shape[:1])
    return 0, ()


def _sum_formula(shapes: list[Shape]) -> Worked:
    if len(shapes) == 2 and shapes[0] == shapes[1] and len(shapes[0]) == 1:
        return 2 * Worked.of(shapes[0][0])
    total: Worked | None = None
    for shape in shapes:
        size = worked_product(shape)
        total = size if total is None else total + size
    return total or Worked.of(0)
