"""What an encoded model is made of: small bytes, and stretches of files that are copied when written.

Source: onnx.proto, TypeProto, OperatorSetIdProto, StringStringEntryProto.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from onnxscope.files.wire import encode_bytes, encode_header, encode_int
from onnxscope.graph import Span, Tensor, Type


class Numbers(NamedTuple):
    """The packed numbers of a tensor, to be viewed when their turn to be written comes."""

    tensor: Tensor
    length: int


Chunk: TypeAlias = "bytes | Span | Numbers"
Part: TypeAlias = tuple[int, list[Chunk]]
"""A field number and the whole field, tag included."""


def size_of(chunks: Iterable[Chunk]) -> int:
    """Bytes that the chunks take."""
    return sum(len(chunk) if isinstance(chunk, bytes) else chunk.length for chunk in chunks)


def in_order(parts: list[Part]) -> list[Chunk]:
    """The chunks of (field number, chunks) parts, by field number as protobuf writes them."""
    return [chunk for _, chunks in sorted(parts, key=lambda part: part[0]) for chunk in chunks]


def message(number: int, chunks: list[Chunk]) -> list[Chunk]:
    """A field that holds a message: tag and length, then the chunks."""
    return [encode_header(number, size_of(chunks)), *chunks]


def utf8(text: str) -> bytes:
    """The bytes of a text; those that were no UTF-8 when they were read come back as they were."""
    return text.encode("utf-8", "surrogateescape")


def text(number: int, value: str) -> list[Chunk]:
    """A text field; none at all for an empty text."""
    return [encode_bytes(number, utf8(value))] if value else []


def pairs(number: int, entries: Iterable[tuple[str, str]]) -> list[Chunk]:
    """A StringStringEntryProto field for each pair."""
    return [
        encode_bytes(number, encode_bytes(1, utf8(key)) + encode_bytes(2, utf8(value)))
        for key, value in entries
    ]


def opset(number: int, domain: str, version: int) -> list[Chunk]:
    """An OperatorSetIdProto field."""
    return [encode_bytes(number, encode_bytes(1, utf8(domain)) + encode_int(2, version))]


def encode_type(type: Type) -> bytes:
    """A TypeProto."""
    numbers = {"tensor": 1, "sequence": 4, "map": 5, "opaque": 7, "sparse": 8, "optional": 9}
    if type.kind not in numbers:
        return b""
    body = encode_int(1, type.dtype) if type.dtype else b""
    if type.kind in ("sequence", "optional"):
        body = encode_bytes(1, encode_type(type.element)) if type.element else b""
    elif type.kind == "map":
        body += encode_bytes(2, encode_type(type.element)) if type.element else b""
    elif type.shape is not None:
        body += encode_bytes(2, b"".join(encode_bytes(1, _dim(size)) for size in type.shape))
    return encode_bytes(numbers[type.kind], body)


def _dim(size: int | str | None) -> bytes:
    if size is None:
        return b""
    return encode_int(1, size) if isinstance(size, int) else encode_bytes(2, utf8(size))
