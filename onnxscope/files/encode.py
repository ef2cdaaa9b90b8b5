"""Values of `graph` in the wire format, as chunks: small bytes, and stretches of files that are copied later.

A value that still says what its `origin` says is copied byte for byte, with everything that `graph` has no
room for (denotations, device configurations, unknown fields). Whether it does is found by decoding the origin
again, so an edit that forgets to drop it does no harm. A changed value is encoded anew and keeps the unknown
fields of its origin.
Source: onnx.proto (field numbers); protobuf's "Encoding" page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, cast

from onnxscope.errors import FileError
from onnxscope.files import decode as kinds
from onnxscope.files.chunks import (
    Chunk,
    Numbers,
    Part,
    encode_type,
    in_order,
    message,
    opset,
    pairs,
    text,
    utf8,
)
from onnxscope.files.decode import Decoder
from onnxscope.files.external import ExternalData
from onnxscope.files.source import Source
from onnxscope.files.storage import RawData, StringData
from onnxscope.files.wire import Field, encode_bytes, encode_float, encode_header, encode_int, fields
from onnxscope.graph import (
    Attribute,
    AttributeValue,
    Function,
    Graph,
    Model,
    Node,
    Span,
    SparseTensor,
    Tensor,
    Type,
    ValueInfo,
)

Entries: TypeAlias = tuple[tuple[str, str], ...]
INLINE: Entries = ()
"""Placement of a tensor whose numbers must move into the model file."""
Placement: TypeAlias = Callable[[Tensor], "Entries | None"]
"""Where a tensor's numbers go: None as it is, `INLINE`, or the entries of its place in an external file."""


def tensors_of(node: Node) -> Iterator[tuple[Tensor, bool]]:
    """Every tensor in the attributes of a node, nested graphs included, and whether it is an initializer."""
    for attribute in node.attributes:
        value = attribute.value
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Tensor):
                yield item, False
            elif isinstance(item, SparseTensor):
                yield item.values, False
                yield item.indices, False
            elif isinstance(item, Graph):
                yield from graph_tensors(item)


def graph_tensors(graph: Graph) -> Iterator[tuple[Tensor, bool]]:
    """Every tensor of a graph, nested graphs included, and whether it is an initializer."""
    for tensor in graph.tensors:
        yield tensor, True
    for sparse in graph.sparse:
        yield sparse.values, False
        yield sparse.indices, False
    for node in graph.nodes:
        yield from tensors_of(node)


def model_tensors(model: Model) -> Iterator[tuple[Tensor, bool]]:
    """Every tensor of a model, functions included, and whether it is an initializer."""
    yield from graph_tensors(model.graph)
    for function in model.functions:
        yield from graph_tensors(function.body)


class Encoder:
    """Encodes a model; `place` says where each tensor's numbers go (None: all stay as they are)."""

    def __init__(self, place: Placement | None = None) -> None:
        self._place = place
        self._decoders: dict[Source, Decoder] = {}

    def model(self, model: Model) -> list[Chunk]:
        """A ModelProto, its fields in the order of their numbers."""
        parts = self._rest(model.rest, _model_head(model), self._old_model_head)
        parts.append((7, message(7, self.graph(model.graph))))
        parts += [(25, message(25, self.function(function))) for function in model.functions]
        return in_order(parts)

    def graph(self, graph: Graph) -> list[Chunk]:
        """A GraphProto."""
        head: Head = {2: (graph.name, text(2, graph.name)), 10: (graph.doc, text(10, graph.doc))}
        head[16] = graph.metadata, pairs(16, graph.metadata)
        both = [(tensor, False) for sparse in graph.sparse for tensor in (sparse.values, sparse.indices)]
        sparse = [chunk for item in graph.sparse for chunk in message(15, self.sparse(item))]
        head[15] = None if self._moves(both) else graph.sparse, sparse
        parts = self._rest(graph.rest, head, self._old_graph_head)
        parts += [(1, message(1, self.node(node))) for node in graph.nodes]
        parts += [(5, message(5, self.tensor(tensor))) for tensor in graph.tensors]
        for number, values in ((11, graph.inputs), (12, graph.outputs), (13, graph.values)):
            parts += [(number, message(number, self.value_info(value))) for value in values]
        return in_order(parts)

    def node(self, node: Node) -> list[Chunk]:
        """A NodeProto."""
        origin, old = node.origin, None
        if origin is not None:
            decoder = self._decoder(origin)
            old = decoder.node(origin.offset, origin.offset + origin.length, node.index)
            if old == node and not self._moves(tensors_of(node)):
                return [origin]
        parts: list[Part] = [(1, [encode_bytes(1, utf8(name))]) for name in node.inputs]
        parts += [(2, [encode_bytes(2, utf8(name))]) for name in node.outputs]
        texts = ((3, node.name), (6, node.doc), (7, node.domain), (8, node.overload))
        parts += [(number, text(number, value)) for number, value in texts]
        parts.append((4, [encode_bytes(4, utf8(node.op))]))
        parts += [(5, chunks) for chunks in self._attributes(node)]
        parts.append((9, pairs(9, node.metadata)))
        return in_order(parts + _unknown(origin, range(1, 10)))

    def _attributes(self, node: Node) -> Iterator[list[Chunk]]:
        """The attributes of a changed node: those that it had before as they stood, docs included."""
        old: list[tuple[Attribute, Span]] = []
        if node.origin is not None:
            decoder = self._decoder(node.origin)
            for tag, a, b, _ in _fields(node.origin):
                if tag == 0x2A:
                    old.append((decoder.attribute(a, b), Span(node.origin.source, a, b - a)))
        for attribute in node.attributes:
            same = [span for former, span in old if former == attribute]
            if same and not self._place:
                yield message(5, [same[0]])
            else:
                yield message(5, self.attribute(attribute))

    def attribute(self, attribute: Attribute) -> list[Chunk]:
        """An AttributeProto. Raises ValueError for an empty list of no declared type."""
        kind = attribute.type or _kind_of(attribute.value)
        parts: list[Part] = [(1, [encode_bytes(1, utf8(attribute.name))])]
        if kind:
            parts.append((20, [encode_int(20, kind)]))
        if attribute.reference:
            parts.append((21, text(21, attribute.reference)))
        elif attribute.value is not None:
            value = attribute.value
            number = kinds.ATTRIBUTE_TAGS[kind][0] >> 3
            items = value if isinstance(value, tuple) else (value,)
            parts += [(number, self._value(number, kind, item)) for item in items]
        return in_order(parts)

    def _value(self, number: int, kind: int, item: object) -> list[Chunk]:
        if isinstance(item, Tensor):
            return message(number, self.tensor(item))
        if isinstance(item, Graph):
            return message(number, self.graph(item))
        if isinstance(item, SparseTensor):
            return message(number, self.sparse(item))
        if isinstance(item, Type):
            return message(number, [encode_type(item)])
        if isinstance(item, bytes):
            return [encode_bytes(number, item)]
        if kind in (kinds.FLOAT, kinds.FLOATS):
            return [encode_float(number, float(cast(float, item)))]
        return [encode_int(number, cast(int, item))]

    def tensor(self, tensor: Tensor) -> list[Chunk]:
        """A TensorProto. Typed numbers of a changed tensor become raw_data, strings stay strings."""
        place = self._place(tensor) if self._place else None
        origin = tensor.origin
        if place is None and origin is not None:
            end = origin.offset + origin.length
            if self._decoder(origin).tensor(((origin.offset, end),)) == tensor:
                return [origin]
        parts: list[Part] = [(1, [encode_int(1, size)]) for size in tensor.dims]
        parts.append((2, [encode_int(2, tensor.dtype)]))
        parts += [(8, text(8, tensor.name)), (12, text(12, tensor.doc))]
        if place is None and isinstance(tensor.storage, ExternalData):
            place = tensor.external
        if place:
            parts += [(13, pairs(13, place)), (14, [encode_int(14, 1)])]
        else:
            parts.append(_numbers(tensor))
        return in_order(parts + _unknown(origin, (1, 2, *range(4, 15))))

    def sparse(self, sparse: SparseTensor) -> list[Chunk]:
        """A SparseTensorProto."""
        dims: list[Chunk] = [encode_int(3, size) for size in sparse.dims]
        return [*message(1, self.tensor(sparse.values)), *message(2, self.tensor(sparse.indices)), *dims]

    def value_info(self, value: ValueInfo) -> list[Chunk]:
        """A ValueInfoProto. Denotations of a changed type are lost: `graph` has no room for them."""
        origin = value.origin
        if origin is not None:
            old = self._decoder(origin).value_info(origin.offset, origin.offset + origin.length)
            if old == value:
                return [origin]
        parts: list[Part] = [(1, [encode_bytes(1, utf8(value.name))])]
        if value.type.kind:
            parts.append((2, [encode_bytes(2, encode_type(value.type))]))
        return in_order(parts + _unknown(origin, (1, 2)))

    def function(self, function: Function) -> list[Chunk]:
        """A FunctionProto."""
        origin, body = function.origin, function.body
        if origin is not None:
            old = self._decoder(origin).function(origin.offset, origin.offset + origin.length)
            if old == function and not self._moves(graph_tensors(body)):
                return [origin]
        parts = [(1, text(1, function.name)), (8, text(8, body.doc)), (10, text(10, function.domain))]
        parts += [(13, text(13, function.overload)), (14, pairs(14, body.metadata))]
        names = ((4, function.inputs), (5, function.outputs), (6, function.attributes))
        parts += [(number, [encode_bytes(number, utf8(name))]) for number, group in names for name in group]
        parts += [(7, message(7, self.node(node))) for node in body.nodes]
        parts += [(9, opset(9, domain, version)) for domain, version in function.opsets]
        parts += [(11, message(11, self.attribute(attribute))) for attribute in function.defaults]
        parts += [(12, message(12, self.value_info(value))) for value in body.values]
        return in_order(parts + _unknown(origin, (1, *range(4, 15))))

    def _decoder(self, span: Span) -> Decoder:
        source = cast(Source, span.source)
        found = self._decoders.get(source)
        if found is None:
            found = self._decoders[source] = Decoder(source)
        return found

    def _moves(self, tensors: Iterable[tuple[Tensor, bool]]) -> bool:
        """Whether any of the tensors must change its place."""
        place = self._place
        return place is not None and any(place(tensor) is not None for tensor, _ in tensors)

    def _rest(
        self,
        rest: Sequence[Span],
        head: Head,
        old_head: Callable[[Span, Sequence[Field]], dict[int, object]],
    ) -> list[Part]:
        """The small fields of a model or graph (as they stood where that still holds), and unknown ones."""
        groups: dict[int, list[Span]] = {}
        for span in rest:
            groups.setdefault(_number_of(span), []).append(span)
        found = [field for span in rest for field in _fields(span)]
        alone = len({id(span.source) for span in rest}) == 1
        old = old_head(rest[0], found) if alone else {}
        parts: list[Part] = []
        for number, (value, chunks) in head.items():
            same = number in groups and old.get(number, self) == value
            parts.append((number, list[Chunk](groups[number]) if same else chunks))
        parts += [(number, list[Chunk](spans)) for number, spans in groups.items() if number not in head]
        return parts

    def _old_model_head(self, span: Span, found: Sequence[Field]) -> dict[int, object]:
        old = self._decoder(span).model_head(found)
        return {number: value for number, (value, _) in _model_head(old).items()}

    def _old_graph_head(self, span: Span, found: Sequence[Field]) -> dict[int, object]:
        old = self._decoder(span).graph_head(found)
        return {2: old.name, 10: old.doc, 15: old.sparse, 16: old.metadata}


Head: TypeAlias = dict[int, tuple[object, list[Chunk]]]
"""Field number -> the value as it is now, and its encoding."""


def _model_head(model: Model) -> Head:
    opsets = [chunk for domain, version in model.opsets for chunk in opset(8, domain, version)]
    head: Head = {8: (model.opsets, opsets), 14: (model.metadata, pairs(14, model.metadata))}
    texts = ((2, model.producer_name), (3, model.producer_version), (4, model.domain), (6, model.doc))
    head |= {number: (value, text(number, value)) for number, value in texts}
    for number, value in ((1, model.ir_version), (5, model.model_version)):
        head[number] = value, [encode_int(number, value)] if value else []
    return head


def _fields(span: Span) -> Iterator[Field]:
    return fields(cast(Source, span.source).data, ((span.offset, span.offset + span.length),))


def _number_of(span: Span) -> int:
    """Field number of a span that starts at a tag."""
    return next(_fields(span))[0] >> 3


def _unknown(origin: Span | None, known: Iterable[int]) -> list[Part]:
    """The fields of an origin that `graph` has no room for, tags included."""
    if origin is None:
        return []
    numbers = frozenset(known)
    return [
        (tag >> 3, [Span(origin.source, begin, end - begin)])
        for tag, _, end, begin in _fields(origin)
        if tag >> 3 not in numbers
    ]


def _numbers(tensor: Tensor) -> tuple[int, list[Chunk]]:
    """Field number and chunks of a tensor's numbers. Raises FileError where they don't fit type and dims."""
    stored = tensor.storage
    if stored is None:
        return 9, []
    if isinstance(stored, StringData):
        return 6, [encode_bytes(6, item) for item in stored.strings()]
    size = tensor.nbytes
    if size is None:
        raise FileError(f"tensor {tensor.name!r} has an unknown element type", where=stored.location)
    if isinstance(stored, RawData) and stored.length == size:
        return 9, [encode_header(9, size), Span(stored.source, stored.offset, size)]
    return 9, [encode_header(9, size), Numbers(tensor, size)]


def _kind_of(value: AttributeValue) -> int:
    """The attribute type of a Python value, for attributes that are made without one."""
    single = {int: 2, bool: 2, float: 1, bytes: 3, Tensor: 4, Graph: 5, SparseTensor: 11, Type: 13}
    several = {int: 7, bool: 7, float: 6, bytes: 8, Tensor: 9, Graph: 10, SparseTensor: 12, Type: 14}
    if value is None:
        return 0
    if not isinstance(value, tuple):
        return single[value.__class__]
    if not value:
        raise ValueError("an empty list needs its attribute type")
    return several[value[0].__class__]
