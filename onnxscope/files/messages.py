"""Tensors, types and other leaves of onnx.proto, decoded from the wire.

Tags below are `field number << 3 | wire type`, as they stand in the file.
Source: onnx.proto, TensorProto, SparseTensorProto, TypeProto, ValueInfoProto, StringStringEntryProto.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from math import prod

from onnxscope import dtypes
from onnxscope.files import storage
from onnxscope.files.external import ExternalData
from onnxscope.files.making import maker
from onnxscope.files.source import Source
from onnxscope.files.wire import MAX_DEPTH, Field, Piece, WireError, fields, signed, varint, varints
from onnxscope.graph import DimDecl, Oddity, Span, SparseTensor, Storage, Tensor, Type, ValueInfo

_DATA = {
    0x22: 4,
    0x25: 4,
    0x2A: 5,
    0x28: 5,
    0x32: 6,
    0x3A: 7,
    0x38: 7,
    0x52: 10,
    0x51: 10,
    0x5A: 11,
    0x58: 11,
}
"""Tag -> number of the typed field, packed and unpacked."""
MAX_RANK = 1000
"""Dims of a tensor at which reading stops: their product alone could take hours."""
_KINDS = {0x0A: "tensor", 0x22: "sequence", 0x2A: "map", 0x3A: "opaque", 0x42: "sparse", 0x4A: "optional"}


_tensor = maker(Tensor)
_HEAD = re.compile(rb"((?:\x08[\x80-\xff]{0,9}[\x00-\x7f])*\x10[\x00-\x7f])\x42[\x00-\x7f]", re.DOTALL).match
"""Dims, one-byte type, and the length of a short name: how nearly every initializer begins."""


class _Texts(dict[bytes, str]):
    """Decoded texts. Bytes that are no UTF-8 become lone surrogates, to be written back, and are noted."""

    def __init__(self, oddities: list[Oddity]) -> None:
        self.oddities = oddities

    def __missing__(self, body: bytes) -> str:
        try:
            text = str(body, "utf-8")
        except UnicodeDecodeError:
            text = str(body, "utf-8", "surrogateescape")
            self.oddities.append(Oddity("model", f"a text is not UTF-8: {body[:60]!r}", "utf8"))
        self[body] = text
        return text


class Messages:
    """Decodes messages of one source; `oddities` fills as it goes."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.data = source.data
        self.oddities: list[Oddity] = []
        self.depth = 0
        self.texts = _Texts(self.oddities)
        """UTF-8 bytes -> text. Names come again and again: as output, as input, in the value infos."""
        self._heads: dict[bytes, tuple[int, tuple[int, ...], int | None]] = {}
        """Bytes of a tensor's dims and type -> type, dims, bytes of raw_data that they ask for."""

    def note(self, where: str, message: str, kind: str = "") -> None:
        """Record something that a reader would not expect."""
        self.oddities.append(Oddity(where, message, kind))

    def descend(self, levels: int, position: int) -> None:
        """Count `levels` of nesting (negative on the way back). Raises WireError beyond protobuf's limit."""
        self.depth += levels
        if self.depth > MAX_DEPTH:
            raise WireError(f"messages are nested more than {MAX_DEPTH} deep", position)

    def span(self, pieces: Sequence[Piece]) -> Span | None:
        """Where a message is; None where it is the merge of several."""
        if len(pieces) != 1:
            return None
        start, end = pieces[0]
        return Span(self.source, start, end - start)

    def text(self, start: int, end: int) -> str:
        """A string."""
        return self.texts[self.data[start:end]]

    def pair(self, start: int, end: int) -> tuple[str, str]:
        """A StringStringEntryProto."""
        found = {
            tag: self.text(a, b) for tag, a, b, _ in fields(self.data, ((start, end),)) if tag in (0x0A, 0x12)
        }
        return found.get(0x0A, ""), found.get(0x12, "")

    def integers(self, found: Sequence[Field]) -> tuple[int, ...]:
        """A list of int64 from its fields, packed or not."""
        numbers: list[int] = []
        for tag, a, b, _ in found:
            if tag & 7:
                numbers += map(signed, varints(self.data, (a, b)))
            else:
                numbers.append(signed(a))
        return tuple(numbers)

    def floats(self, found: Sequence[Field]) -> tuple[float, ...]:
        """A list of floats from its fields, packed or not."""
        numbers: list[float] = []
        for _, a, b, _ in found:
            if (b - a) % 4:
                raise WireError(f"a packed list of floats has {b - a} bytes", a)
            numbers += struct.unpack(f"<{(b - a) // 4}f", self.data[a:b])
        return tuple(numbers)

    def initializer(self, start: int, end: int) -> Tensor:
        """A TensorProto, of which there are thousands: dims, type, name and raw_data in the usual order.

        Dims and type have the bytes that they had in the tensors before, so what these say is kept.
        """
        data = self.data
        head = _HEAD(data, start, end)
        named = head.end() + data[head.end() - 1] if head else end
        if head is None or named + 1 >= end or data[named] != 0x4A:
            return self.tensor(((start, end),))
        size, first = data[named + 1], named + 2
        if size >= 0x80:
            size, first = varint(data, named + 1, end)
        kept = self._heads.get(head[1])
        if kept is None or kept[2] != size or first + size != end:
            found = self.tensor(((start, end),))
            if first + size == end and isinstance(found.storage, storage.RawData):
                self._heads[head[1]] = found.dtype, found.dims, found.storage.expected
            return found
        name = self.texts[data[head.end() : named]]
        stored = storage.RawData(self.source, first, size, size, name)
        return _tensor(name, kept[0], kept[1], stored, "", (), Span(self.source, start, end - start))

    def tensor(self, pieces: Sequence[Piece]) -> Tensor:
        """A TensorProto."""
        sizes: list[int] = []
        name, dtype = "", 0
        raw: Field | None = None
        others: list[Field] = []
        data = self.data
        for field in fields(data, pieces):
            tag, a, b, _ = field
            if tag == 0x08:
                sizes.append(a)
            elif tag == 0x10:
                dtype = _int32(a)
            elif tag == 0x42:
                name = self.texts[data[a:b]]
            elif tag == 0x4A:
                raw = field
            elif tag == 0x0A:
                sizes += varints(data, (a, b))
            else:
                others.append(field)
        if len(sizes) > MAX_RANK:
            raise WireError(f"tensor {name!r} has {len(sizes)} dims", pieces[0][0])
        dims = tuple(map(signed, sizes)) if sizes and max(sizes) >> 63 else tuple(sizes)
        origin = self.span(pieces)
        if raw is None or others or (dims and min(dims) < 0):
            return self._rare_tensor(name, dtype, dims, raw, others, origin)
        _, start, end, _ = raw
        expected = dtypes.byte_size(dtype, prod(dims))
        stored = storage.RawData(self.source, start, end - start, expected, name)
        if expected != end - start:
            self._note_raw(stored, name, dtype, raw)
        return Tensor(name, dtype, dims, stored, "", (), origin)

    def _rare_tensor(
        self,
        name: str,
        dtype: int,
        dims: tuple[int, ...],
        raw: Field | None,
        others: Sequence[Field],
        origin: Span | None,
    ) -> Tensor:
        """A tensor that isn't just raw_data: typed fields, external data, a doc, or hollow."""
        docs = [self.text(a, b) for tag, a, b, _ in others if tag == 0x62]
        held = [field for field in others if field[0] in _DATA]
        held = [raw, *held] if raw else held
        external, located = self._elsewhere(others, name)
        count = prod(dims) if not dims or min(dims) >= 0 else -1
        if count < 0:
            self.note(f"tensor {name!r}", f"has a negative size in its dims {list(dims)}")
        stored: Storage | None
        if located:
            if held:
                inside = " and ".join(_field_names(held))
                self._note_field(name, f"has numbers in {inside} and outside the file")
            stored = ExternalData(self.source, external, dtypes.byte_size(dtype, count), name)
        else:
            stored = self._storage(name, dtype, count, held)
        return Tensor(name, dtype, dims, stored, docs[-1] if docs else "", external, origin)

    def _elsewhere(self, others: Sequence[Field], name: str) -> tuple[tuple[tuple[str, str], ...], bool]:
        """External-data entries, and whether the tensor says that they hold its numbers."""
        entries, located = [], False
        for tag, a, b, _ in others:
            if tag == 0x6A:
                entries.append(self.pair(a, b))
            elif tag == 0x70:
                located = _int32(a) == 1
            elif tag == 0x1A:
                self._note_field(name, "is stored in segments, which no reader supports")
        return tuple(entries), located

    def _storage(self, name: str, dtype: int, count: int, held: Sequence[Field]) -> Storage | None:
        """Where the numbers are: raw_data where it is given, else the field for the element type."""
        stored: storage.RawData | storage.TypedData | storage.StringData | None
        raw = bool(held) and held[0][0] == 0x4A
        if raw:
            _, a, b, _ = held[0]
            stored = storage.RawData(self.source, a, b - a, dtypes.byte_size(dtype, count), name)
        else:
            stored = self._typed(name, dtype, count, held)
            if stored is None and count == 0:
                stored = storage.RawData(self.source, 0, 0, 0, name)
        if len(held) > 1 or (held and (not raw or storage.field_for(dtype) == storage.STRINGS)):
            self._note_fields(name, dtype, held)
        problem = stored.problem() if stored and count >= 0 else None
        if problem:
            self.note(f"tensor {name!r}", problem)
        return stored

    def _typed(
        self, name: str, dtype: int, count: int, held: Sequence[Field]
    ) -> storage.TypedData | storage.StringData | None:
        number = storage.field_for(dtype)
        runs = _runs([field for field in held if _DATA.get(field[0]) == number])
        if not runs or number is None:
            return None
        if number == storage.STRINGS:
            return storage.StringData(self.source, runs, name)
        return storage.TypedData(self.source, number, runs, dtype, count, name)

    def _note_fields(self, name: str, dtype: int, held: Sequence[Field]) -> None:
        """Note numbers that stand in a field that the element type doesn't use, or in two fields."""
        names, own = _field_names(held), storage.field_for(dtype)
        allowed = {storage.FIELD_NAMES.get(own or 0), "" if own == storage.STRINGS else "raw_data"}
        if len(names) > 1:
            self._note_field(name, f"has numbers in {' and '.join(names)}")
        elif names[0] not in allowed:
            self._note_field(name, f"has numbers in {names[0]}, which {dtypes.name_of(dtype)} doesn't use")

    def _note_raw(self, stored: storage.RawData, name: str, dtype: int, raw: Field) -> None:
        """Note raw_data of another size than the type and dims ask for."""
        problem = stored.problem()
        if problem is None and storage.field_for(dtype) == storage.STRINGS:
            self._note_fields(name, dtype, [raw])
        else:
            self.note(f"tensor {name!r}", problem or f"has an unknown element type, {dtypes.name_of(dtype)}")

    def _note_field(self, name: str, message: str) -> None:
        self.note(f"tensor {name!r}", message, "field")

    def sparse(self, pieces: Sequence[Piece]) -> SparseTensor:
        """A SparseTensorProto."""
        parts: dict[int, list[Piece]] = {0x0A: [], 0x12: []}
        dims = []
        for field in fields(self.data, pieces):
            tag, a, b, _ = field
            if tag in parts:
                parts[tag].append((a, b))
            elif tag in (0x18, 0x1A):
                dims.append(field)
        return SparseTensor(self.tensor(parts[0x0A]), self.tensor(parts[0x12]), self.integers(dims))

    def value_info(self, start: int, end: int) -> ValueInfo:
        """A ValueInfoProto."""
        name, types = "", []
        for tag, a, b, _ in fields(self.data, ((start, end),)):
            if tag == 0x0A:
                name = self.text(a, b)
            elif tag == 0x12:
                types.append((a, b))
        return ValueInfo(name, self.type(types), Span(self.source, start, end - start))

    def type(self, pieces: Sequence[Piece]) -> Type:
        """A TypeProto; of its kinds the last one given holds."""
        last = 0
        body: list[Piece] = []
        for tag, a, b, _ in fields(self.data, pieces):
            if tag in _KINDS:
                if tag != last:
                    last, body = tag, []
                body.append((a, b))
        if last in (0x0A, 0x42):
            return self._tensor_type(_KINDS[last], body)
        if last in (0x22, 0x2A, 0x4A):
            return self._container_type(_KINDS[last], body)
        return Type(_KINDS.get(last, ""))

    def _tensor_type(self, kind: str, pieces: Sequence[Piece]) -> Type:
        dtype, shape = 0, []
        for tag, a, b, _ in fields(self.data, pieces):
            if tag == 0x08:
                dtype = _int32(a)
            elif tag == 0x12:
                shape.append((a, b))
        if not shape:
            return Type(kind, dtype)
        dims = [self._dim(a, b) for tag, a, b, _ in fields(self.data, shape) if tag == 0x0A]
        return Type(kind, dtype, tuple(dims))

    def _container_type(self, kind: str, pieces: Sequence[Piece]) -> Type:
        key, element = 0, []
        inner = 0x12 if kind == "map" else 0x0A
        for tag, a, b, _ in fields(self.data, pieces):
            if tag == inner:
                element.append((a, b))
            elif tag == 0x08 and kind == "map":
                key = _int32(a)
        self.descend(2, pieces[0][0])
        found = self.type(element) if element else None
        self.descend(-2, 0)
        return Type(kind, key, None, found)

    def _dim(self, start: int, end: int) -> DimDecl:
        found: DimDecl = None
        for tag, a, b, _ in fields(self.data, ((start, end),)):
            if tag == 0x08:
                found = signed(a)
            elif tag == 0x12:
                found = self.text(a, b) or None
        return found


def _field_names(held: Iterable[Field]) -> list[str]:
    """The fields that hold numbers, by name."""
    return sorted({storage.FIELD_NAMES.get(_DATA.get(field[0], 0), "raw_data") for field in held})


def _int32(value: int) -> int:
    """The low 32 bits as a signed number: what protobuf makes of an int32 or enum."""
    return ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def _runs(held: Sequence[Field]) -> tuple[storage.Run, ...]:
    """Fields of one list as runs: each packed payload, and each unbroken row of unpacked fields."""
    runs: list[storage.Run] = []
    for tag, start, end, begin in held:
        if tag & 7 == 2:
            runs.append((tag, start, end))
        elif runs and runs[-1][0] == tag and runs[-1][2] == begin:
            runs[-1] = (tag, runs[-1][1], end)
        else:
            runs.append((tag, begin, end))
    return tuple(runs)
