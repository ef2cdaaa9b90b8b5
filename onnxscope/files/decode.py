"""Nodes, graphs, functions and models of onnx.proto, decoded from the wire into the values of `graph`.

Protobuf's rules hold: fields come in any order, of a scalar that is given twice the last wins, a message that
is given twice is the merge of both, lists of numbers may be packed or not, and fields that nobody knows are
kept for the writer. What a reader would not expect is noted as an `Oddity`; only bytes that can't be read at
all stop the reading.
Source: onnx.proto (field numbers); protobuf's "Encoding" page.

Tags below are `field number << 3 | wire type`, as they stand in the file.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from onnxscope.files.making import maker
from onnxscope.files.messages import Messages
from onnxscope.files.source import Source
from onnxscope.files.wire import Field, Piece, fields, signed
from onnxscope.graph import (
    Attribute,
    AttributeValue,
    Function,
    Graph,
    Model,
    Node,
    Span,
    Type,
    ValueInfo,
    domain_of,
)

FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS = 1, 2, 3, 4, 5, 6, 7, 8
TENSORS, GRAPHS, SPARSE, SPARSES, TYPE, TYPES = 9, 10, 11, 12, 13, 14
ATTRIBUTE_TAGS: dict[int, tuple[int, ...]] = {
    FLOAT: (0x15,), INT: (0x18,), STRING: (0x22,), TENSOR: (0x2A,), GRAPH: (0x32,), FLOATS: (0x3D, 0x3A),
    INTS: (0x40, 0x42), STRINGS: (0x4A,), TENSORS: (0x52,), GRAPHS: (0x5A,), SPARSE: (0xB2,),
    SPARSES: (0xBA,), TYPE: (0x72,), TYPES: (0x7A,),
}  # fmt: skip
"""AttributeProto.AttributeType -> tags of the field that holds such a value, unpacked and packed."""
_HOLDS = {tag: kind for kind, tags in ATTRIBUTE_TAGS.items() for tag in tags}
_PLAIN = frozenset((FLOAT, INT, STRING, FLOATS, INTS, STRINGS))
"""Types whose values have no place in the file."""
_made = maker(Node)
_SHORT = 64
_TAIL = 256
"""Bytes behind the name of a node up to which what they say is kept."""
_NODE_HEAD = frozenset((0x0A, 0x12, 0x1A))
_NODE_TEXTS = frozenset((0x1A, 0x22, 0x32, 0x3A, 0x42))
_FUNCTION_TEXTS = frozenset((0x0A, 0x42, 0x52, 0x6A))


class Decoder(Messages):
    """Decodes a model from one source."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._attributes: dict[bytes, Attribute] = {}
        self._tails: dict[bytes, tuple[str, str, tuple[Attribute, ...], str]] = {}
        """Bytes behind the name of a node -> op, domain, attributes, overload."""

    def attribute(self, start: int, end: int) -> Attribute:
        """An AttributeProto. The same few (`strides = [1, 1]`) come again and again: short ones are kept."""
        if end - start > _SHORT:
            return self._attribute(start, end)
        body = self.data[start:end]
        found = self._attributes.get(body)
        if found is None:
            noted = len(self.oddities)
            found = self._attribute(start, end)
            if found.type in _PLAIN and noted == len(self.oddities):
                self._attributes[body] = found
        return found

    def _attribute(self, start: int, end: int) -> Attribute:
        """Old files give no type: it then is the one whose field is set."""
        found: dict[int, list[Field]] = {}
        for field in fields(self.data, ((start, end),)):
            if field[0] in found:
                found[field[0]].append(field)
            else:
                found[field[0]] = [field]
        name, reference, kind = "", "", 0
        if 0x0A in found:
            _, a, b, _ = found[0x0A][-1]
            name = self.text(a, b)
        if 0xAA in found:
            _, a, b, _ = found[0xAA][-1]
            reference = self.text(a, b)
        if 0xA0 in found:
            kind = found[0xA0][-1][1]
        if not reference:
            kind = self._checked_kind(kind, name, found)
        elif any(tag in _HOLDS for tag in found):
            self._note_attribute(name, f"refers to {reference!r} and holds a value too")
        value = None if reference else self._value(kind, found)
        return Attribute(name, value, kind, reference)

    def _checked_kind(self, kind: int, name: str, found: dict[int, list[Field]]) -> int:
        held = [_HOLDS[tag] for tag in found if tag in _HOLDS]
        if not kind:
            return held[0] if held else 0
        if kind not in ATTRIBUTE_TAGS:
            self._note_attribute(name, f"has the type {kind}, which no ONNX release knows")
        elif held and held != [kind] and set(held) != {kind}:
            self._note_attribute(name, f"says that its type is {kind} but holds a value of type {held[0]}")
        return kind

    def _note_attribute(self, name: str, message: str) -> None:
        self.note(f"attribute {name!r}", message, "attribute")

    def _value(self, kind: int, found: dict[int, list[Field]]) -> AttributeValue:
        if kind not in ATTRIBUTE_TAGS:
            return None
        held: list[Field] = []
        for tag in ATTRIBUTE_TAGS[kind]:
            held += found.get(tag, ())
        held.sort(key=lambda field: field[3])
        return _VALUES[kind](self, held)

    def node(self, start: int, end: int, index: int) -> Node:
        """A NodeProto, which is the `index`-th of its graph.

        Protobuf writes inputs, outputs and name first. The bytes behind them are those of every node with the
        same op and attributes, so what they say is kept.
        """
        inputs: list[str] = []
        outputs: list[str] = []
        name = ""
        data, position = self.data, start
        while position + 1 < end:
            tag = data[position]
            first = position + 2
            behind = first + data[position + 1]
            if behind > end or behind - first >= 0x80:
                break
            if tag == 0x0A:
                inputs.append(self.texts[data[first:behind]])
            elif tag == 0x12:
                outputs.append(self.texts[data[first:behind]])
            elif tag == 0x1A and not name:
                name = self.texts[data[first:behind]]
            else:
                break
            position = behind
        kept = self._tails.get(data[position:end]) if end - position <= _TAIL else None
        if kept is None:
            return self._node(start, end, index, position)
        op, domain, attributes, overload = kept
        origin = Span(self.source, start, end - start)
        return _made(
            index, name, op, domain, tuple(inputs), tuple(outputs), attributes, overload, (), "", origin
        )

    def _node(self, start: int, end: int, index: int, tail: int) -> Node:
        """A NodeProto of any form; `tail` is where its inputs, outputs and name may end."""
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: list[Attribute] = []
        metadata: list[tuple[str, str]] = []
        texts: dict[int, str] = {}
        noted, usual = len(self.oddities), True
        for tag, a, b, begin in fields(self.data, ((start, end),)):
            usual &= (tag in _NODE_HEAD) == (begin < tail)
            if tag == 0x0A:
                inputs.append(self.text(a, b))
            elif tag == 0x12:
                outputs.append(self.text(a, b))
            elif tag == 0x2A:
                attributes.append(self.attribute(a, b))
            elif tag in _NODE_TEXTS:
                texts[tag] = self.text(a, b)
            elif tag == 0x4A:
                metadata.append(self.pair(a, b))
        get, origin = texts.get, Span(self.source, start, end - start)
        found = Node(
            index, get(0x1A, ""), get(0x22, ""), get(0x3A, ""), tuple(inputs), tuple(outputs),
            tuple(attributes), get(0x42, ""), tuple(metadata), get(0x32, ""), origin,
        )  # fmt: skip
        plain = not (found.metadata or found.doc) and all(a.type in _PLAIN for a in attributes)
        if usual and plain and noted == len(self.oddities) and end - tail <= _TAIL:
            kept = found.op, found.domain, found.attributes, found.overload
            self._tails[self.data[tail:end]] = kept
        return found

    def graph(self, pieces: Sequence[Piece]) -> Graph:
        """A GraphProto. `rest` keeps every field but the long lists, tag included."""
        self.descend(3, pieces[0][0] if pieces else 0)
        lists: dict[int, list[Piece]] = {0x0A: [], 0x2A: [], 0x5A: [], 0x62: [], 0x6A: []}
        others: list[Field] = []
        for field in fields(self.data, pieces):
            tag, a, b, _ = field
            if tag in lists:
                lists[tag].append((a, b))
            else:
                others.append(field)
        found = replace(
            self.graph_head(others),
            inputs=tuple([self.value_info(a, b) for a, b in lists[0x5A]]),
            outputs=tuple([self.value_info(a, b) for a, b in lists[0x62]]),
            nodes=tuple([self.node(a, b, index) for index, (a, b) in enumerate(lists[0x0A])]),
            tensors=tuple([self.initializer(a, b) for a, b in lists[0x2A]]),
            values=tuple([self.value_info(a, b) for a, b in lists[0x6A]]),
            rest=self._rest(others),
        )
        self.descend(-3, 0)
        self._note_graph(found)
        return found

    def graph_head(self, others: Sequence[Field]) -> Graph:
        """The small fields of a GraphProto: name, doc, metadata, sparse initializers."""
        return Graph(
            name=self._last(others, 0x12),
            sparse=tuple([self.sparse(((a, b),)) for tag, a, b, _ in others if tag == 0x7A]),
            doc=self._last(others, 0x52),
            metadata=self._pairs(others, 0x82),
        )

    def function(self, start: int, end: int) -> Function:
        """A FunctionProto."""
        self.descend(1, start)
        found: dict[int, list[Piece]] = {tag: [] for tag in (0x22, 0x2A, 0x32, 0x3A, 0x4A, 0x5A, 0x62, 0x72)}
        texts: dict[int, str] = {}
        for tag, a, b, _ in fields(self.data, ((start, end),)):
            if tag in found:
                found[tag].append((a, b))
            elif tag in _FUNCTION_TEXTS:
                texts[tag] = self.text(a, b)
        inputs = tuple(self.text(a, b) for a, b in found[0x22])
        outputs = tuple(self.text(a, b) for a, b in found[0x2A])
        body = Graph(
            name=texts.get(0x0A, ""),
            inputs=tuple(ValueInfo(name, Type("")) for name in inputs),
            outputs=tuple(ValueInfo(name, Type("")) for name in outputs),
            nodes=tuple([self.node(a, b, index) for index, (a, b) in enumerate(found[0x3A])]),
            values=tuple([self.value_info(a, b) for a, b in found[0x62]]),
            doc=texts.get(0x42, ""),
            metadata=tuple(self.pair(a, b) for a, b in found[0x72]),
        )
        self.descend(-1, 0)
        self._note_repeats(f"function {body.name!r}", "node output", _outputs(body))
        return Function(
            texts.get(0x52, ""), body.name, texts.get(0x6A, ""), inputs, outputs,
            tuple(self.text(a, b) for a, b in found[0x32]),
            tuple(self.attribute(a, b) for a, b in found[0x5A]),
            tuple(self.opset(a, b) for a, b in found[0x4A]), body, Span(self.source, start, end - start),
        )  # fmt: skip

    def opset(self, start: int, end: int) -> tuple[str, int]:
        """An OperatorSetIdProto as (domain, version)."""
        domain, version = "", 0
        for tag, a, b, _ in fields(self.data, ((start, end),)):
            if tag == 0x0A:
                domain = self.text(a, b)
            elif tag == 0x10:
                version = signed(a)
        return domain, version

    def model(self) -> tuple[Model, bool]:
        """The ModelProto that the source holds, and whether it has a graph at all."""
        graphs: list[Piece] = []
        functions: list[Piece] = []
        others: list[Field] = []
        for field in fields(self.data, ((0, self.source.size),)):
            tag, a, b, _ = field
            if tag == 0x3A:
                graphs.append((a, b))
            elif tag == 0xCA:
                functions.append((a, b))
            else:
                others.append(field)
        self.descend(1, 0)
        found = replace(
            self.model_head(others),
            graph=self.graph(graphs),
            functions=tuple(self.function(a, b) for a, b in functions),
            path=self.source.name,
            file_bytes=self.source.size,
            rest=self._rest(others),
        )
        self._note_model(found)
        return found, bool(graphs)

    def model_head(self, others: Sequence[Field]) -> Model:
        """The small fields of a ModelProto."""
        return Model(
            graph=Graph(""),
            ir_version=_number(others, 0x08),
            opsets=tuple(self.opset(a, b) for tag, a, b, _ in others if tag == 0x42),
            metadata=self._pairs(others, 0x72),
            producer_name=self._last(others, 0x12),
            producer_version=self._last(others, 0x1A),
            domain=self._last(others, 0x22),
            model_version=_number(others, 0x28),
            doc=self._last(others, 0x32),
        )

    def _last(self, found: Iterable[Field], wanted: int) -> str:
        """A text field, of which the last one given holds."""
        texts = [self.text(a, b) for tag, a, b, _ in found if tag == wanted]
        return texts[-1] if texts else ""

    def _pairs(self, found: Iterable[Field], wanted: int) -> tuple[tuple[str, str], ...]:
        return tuple([self.pair(a, b) for tag, a, b, _ in found if tag == wanted])

    def _rest(self, others: Iterable[Field]) -> tuple[Span, ...]:
        """Fields with their tags; a row of fields of one number is one span."""
        rows: list[tuple[int, int, int]] = []
        for tag, _, end, begin in others:
            if rows and rows[-1][0] == tag >> 3 and rows[-1][2] == begin:
                rows[-1] = tag >> 3, rows[-1][1], end
            else:
                rows.append((tag >> 3, begin, end))
        return tuple([Span(self.source, begin, end - begin) for _, begin, end in rows])

    def _note_graph(self, graph: Graph) -> None:
        where = f"graph {graph.name!r}"
        stored = [tensor.name for tensor in graph.tensors] + [sparse.values.name for sparse in graph.sparse]
        self._note_repeats(where, "initializer", stored)
        self._note_repeats(where, "node output", _outputs(graph))
        self._note_repeats(where, "input", [value.name for value in graph.inputs])
        self._note_repeats(where, "output", [value.name for value in graph.outputs])
        self._note_repeats(where, "metadata key", [key for key, _ in graph.metadata])

    def _note_model(self, model: Model) -> None:
        if not model.ir_version:
            self.note("model", "gives no IR version")
        if not model.opsets:
            self.note("model", "imports no opset")
        self._note_repeats(
            "model", "opset import of domain", [domain_of(domain) for domain, _ in model.opsets]
        )
        self._note_repeats("model", "metadata key", [key for key, _ in model.metadata])
        names = [f"{item.domain}.{item.name}.{item.overload}" for item in model.functions]
        self._note_repeats("model", "function", names)

    def _note_repeats(self, where: str, what: str, names: Sequence[str]) -> None:
        if len(set(names)) == len(names):
            return
        for name, count in Counter(names).items():
            if count > 1:
                self.note(where, f"{what} {name!r} is given {count} times")


def _outputs(graph: Graph) -> list[str]:
    return [name for node in graph.nodes for name in node.outputs if name]


def _number(found: Iterable[Field], wanted: int) -> int:
    return ([0] + [signed(value) for tag, value, _, _ in found if tag == wanted])[-1]


def _pieces(held: Iterable[Field]) -> list[Piece]:
    return [(a, b) for _, a, b, _ in held]


def _float(decoder: Decoder, held: Sequence[Field]) -> float:
    return float(struct.unpack_from("<f", decoder.data, held[-1][1])[0]) if held else 0.0


def _bytes(decoder: Decoder, held: Sequence[Field]) -> bytes:
    return decoder.data[held[-1][1] : held[-1][2]] if held else b""


_VALUES: dict[int, Callable[[Decoder, Sequence[Field]], AttributeValue]] = {
    FLOAT: _float,
    INT: lambda decoder, held: signed(held[-1][1]) if held else 0,
    STRING: _bytes,
    TENSOR: lambda decoder, held: decoder.tensor(_pieces(held)) if held else None,
    GRAPH: lambda decoder, held: decoder.graph(_pieces(held)) if held else None,
    FLOATS: lambda decoder, held: decoder.floats(held),
    INTS: lambda decoder, held: decoder.integers(held),
    STRINGS: lambda decoder, held: tuple(decoder.data[a:b] for _, a, b, _ in held),
    TENSORS: lambda decoder, held: tuple(decoder.tensor((piece,)) for piece in _pieces(held)),
    GRAPHS: lambda decoder, held: tuple(decoder.graph((piece,)) for piece in _pieces(held)),
    SPARSE: lambda decoder, held: decoder.sparse(_pieces(held)) if held else None,
    SPARSES: lambda decoder, held: tuple(decoder.sparse((piece,)) for piece in _pieces(held)),
    TYPE: lambda decoder, held: decoder.type(_pieces(held)) if held else None,
    TYPES: lambda decoder, held: tuple(decoder.type((piece,)) for piece in _pieces(held)),
}
