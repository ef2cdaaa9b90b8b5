"""The protobuf wire format: reading fields out of a buffer, and the few encodings that the writer needs.

A message is a run of fields. Each starts with a tag, `field number << 3 | wire type`; four wire types are
legal here: 0 a varint, 1 eight bytes, 2 a length and that many bytes, 5 four bytes. Groups (3 and 4) were
never used by ONNX.
Source: protobuf's "Encoding" page.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from mmap import mmap
from typing import TypeAlias

from onnxscope.errors import FileError

Buffer: TypeAlias = "bytes | mmap"
Piece: TypeAlias = tuple[int, int]
"""First byte and end of a stretch of the file, for example the body of one message."""

MAX_DEPTH = 100
"""Nesting at which reading stops, the limit of protobuf's own parsers."""
_MASK = (1 << 64) - 1
_MAX_TAG = (1 << 32) - 1


class WireError(FileError):
    """The bytes are not a message. `offset` is the place in the file; `cut`: the file ended too early."""

    def __init__(self, message: str, offset: int, *, cut: bool = False) -> None:
        super().__init__(message, where=f"byte {offset}")
        self.offset = offset
        self.cut = cut


def varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """The unsigned 64-bit varint at `position` and the position behind it.

    Raises WireError where it doesn't end before `end` or takes more than ten bytes.

    >>> varint(bytes([0x96, 0x01]), 0, 2)
    (150, 2)
    """
    value = 0
    for place in range(10):
        at = position + place
        if at >= end:
            raise _overrun(buffer, "a number", position, at + 1)
        byte = buffer[at]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & _MASK, at + 1
    raise WireError("a number takes more than ten bytes", position)


def signed(value: int) -> int:
    """A varint's value as int64, the way protobuf stores negative numbers.

    >>> signed(2**64 - 1), signed(7)
    (-1, 7)
    """
    return value - (1 << 64) if value >> 63 else value


Field: TypeAlias = tuple[int, int, int, int]
"""(tag, value, end, begin) of a varint, (tag, start, end, begin) of anything else; the tag is at `begin`."""


def fields(buffer: Buffer, pieces: Iterable[Piece]) -> Iterator[Field]:
    """The fields of a message, in file order.

    `pieces` are the bodies of the message: a message that is given twice is the merge of both, which is what
    reading one after the other yields. Raises WireError at the first byte that can't be right.
    """
    shapes = _SHAPES
    for position, end in pieces:
        while position < end:
            begin = position
            tag = buffer[position]
            shape = shapes[tag]
            if not shape:
                tag, start, position = _rare_field(buffer, begin, end)
                yield tag, start, position, begin
                continue
            start = position + 2
            value = buffer[position + 1] if start <= end else 0x80
            if value >= 0x80:
                value, start = varint(buffer, position + 1, end)
            if shape == 2:
                position = start + value
                if position > end:
                    raise _overrun(buffer, f"field {tag >> 3} ({value} bytes)", start, position)
                yield tag, start, position, begin
            else:
                position = start
                yield tag, value, position, begin


_SHAPES = bytes({0: 1, 2: 2}.get(tag & 0x87, 0) if tag >= 8 else 0 for tag in range(256))
"""What a byte is as a tag: 1 that of a number, 2 that of a field with a length, 0 something rarer."""
_SIZES = {1: 8, 5: 4}
"""Wire type -> bytes of a field of fixed size."""


def _rare_field(buffer: Buffer, position: int, end: int) -> tuple[int, int, int]:
    """A field with a long tag or of fixed size, as (tag, value or start, end)."""
    tag, start = varint(buffer, position, end)
    wire = tag & 7
    if not 8 <= tag <= _MAX_TAG:
        raise WireError(f"field number {tag >> 3} does not exist", position)
    if wire == 0:
        value, after = varint(buffer, start, end)
        return tag, value, after
    if wire == 2:
        size, start = varint(buffer, start, end)
    elif wire in _SIZES:
        size = _SIZES[wire]
    else:
        raise WireError(f"wire type {wire} does not occur in ONNX", position)
    if start + size > end:
        raise _overrun(buffer, f"field {tag >> 3} ({size} bytes)", start, start + size)
    return tag, start, start + size


def _overrun(buffer: Buffer, what: str, position: int, end: int) -> WireError:
    size = len(buffer)
    if end > size:
        return WireError(f"{what} runs past the end of the file ({size} bytes)", position, cut=True)
    return WireError(f"{what} runs past the end of the message around it", position)


def varints(buffer: Buffer, piece: Piece) -> list[int]:
    """The unsigned numbers of a packed run of varints.

    >>> varints(bytes([1, 0x96, 0x01]), (0, 3))
    [1, 150]
    """
    position, end = piece
    body = buffer[position:end]
    if not body or max(body) < 0x80:
        return list(body)
    found = []
    while position < end:
        value, position = varint(buffer, position, end)
        found.append(value)
    return found


def encode_varint(value: int) -> bytes:
    """A number as varint; negative ones take ten bytes, as protobuf writes int64.

    >>> encode_varint(150).hex(), len(encode_varint(-1))
    ('9601', 10)
    """
    value &= _MASK
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_int(number: int, value: int) -> bytes:
    """A varint field."""
    return encode_varint(number << 3) + encode_varint(value)


def encode_float(number: int, value: float) -> bytes:
    """A float field: four bytes, little-endian."""
    return encode_varint(number << 3 | 5) + struct.pack("<f", value)


def encode_header(number: int, size: int) -> bytes:
    """Tag and length in front of `size` bytes."""
    return encode_varint(number << 3 | 2) + encode_varint(size)


def encode_bytes(number: int, body: bytes) -> bytes:
    """A field of bytes: a string, a packed list or a message."""
    return encode_header(number, len(body)) + body
