"""Primitives of the wire format, against bytes worked by hand and against protobuf's own encoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, OperatorSetIdProto

from onnxscope.files.wire import (
    WireError,
    encode_bytes,
    encode_float,
    encode_int,
    encode_varint,
    fields,
    signed,
    varint,
    varints,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


def walk(data: bytes) -> list[tuple[int, int, int, int]]:
    return list(fields(data, ((0, len(data)),)))


@given(INT64)
def test_integers_are_written_as_protobuf_writes_them(value: int) -> None:
    message = OperatorSetIdProto(version=value).SerializeToString()
    assert encode_int(2, value) == message
    assert signed(walk(message)[0][1]) == value


@given(st.floats(width=32, allow_nan=False))
def test_floats_are_written_as_protobuf_writes_them(value: float) -> None:
    assert encode_float(2, value) == AttributeProto(f=value).SerializeToString()


@given(st.binary(max_size=300))
def test_bytes_are_written_as_protobuf_writes_them(value: bytes) -> None:
    assert encode_bytes(4, value) == AttributeProto(s=value).SerializeToString()


@given(st.lists(INT64))
def test_packed_lists_come_back(values: list[int]) -> None:
    data = b"".join(encode_varint(value) for value in values)
    assert [signed(value) for value in varints(data, (0, len(data)))] == values


def test_every_wire_type_gives_its_place() -> None:
    # 1: varint 300; 2: eight bytes; 3: three bytes "abc"; 4: four bytes; 20: varint 1
    data = bytes.fromhex("08ac02 11 0102030405060708 1a03 616263 25 01020304 a00101")
    assert walk(data) == [
        (0x08, 300, 3, 0),
        (0x11, 4, 12, 3),
        (0x1A, 14, 17, 12),
        (0x25, 18, 22, 17),
        (0xA0, 1, 25, 22),
    ]


def test_a_message_given_twice_is_read_as_one() -> None:
    data = bytes.fromhex("0801 ffff 0802")
    assert [field[1] for field in fields(data, ((0, 2), (4, 6)))] == [1, 2]


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        ("0a05 6162", r"field 1 \(5 bytes\) runs past the end of the file \(4 bytes\)", 2),
        ("0a", "a number runs past the end", 1),
        ("08", "a number runs past the end", 1),
        ("0880", "a number runs past the end", 1),
        ("0affffffffffffffffff01", r"runs past the end of the file", 11),
        ("08 8080808080808080808001", "more than ten bytes", 1),
        ("0a 8080808080808080808001", "more than ten bytes", 1),
        ("0b 0c", "wire type 3", 0),
        ("0c", "wire type 4", 0),
        ("0e", "wire type 6", 0),
        ("0f", "wire type 7", 0),
        ("0201 61", "field number 0", 0),
        ("0001", "field number 0", 0),
        ("0d 010203", "field 1", 1),
        ("09 01020304050607", "field 1", 1),
        ("fa ffffffff 7f 00", "does not exist", 0),  # a field number of 36 bits
    ],
)
def test_bytes_that_are_no_message(data: str, message: str, offset: int) -> None:
    with pytest.raises(WireError, match=message) as caught:
        walk(bytes.fromhex(data))
    assert caught.value.offset == offset


def test_a_length_may_not_leave_the_message_around_it() -> None:
    data = bytes.fromhex("0a02 0a05 0102030405")
    outer = walk(data[:4])[0]
    with pytest.raises(WireError, match="past the end of the message around it") as caught:
        list(fields(data, ((outer[1], outer[2]),)))
    assert not caught.value.cut


def test_a_cut_file_is_told_from_a_damaged_one() -> None:
    with pytest.raises(WireError) as caught:
        walk(bytes.fromhex("0a7f 00"))
    assert caught.value.cut


def test_ten_byte_numbers_wrap_at_64_bits() -> None:
    # protobuf keeps the low 64 bits of the 70 that ten bytes can say
    assert varint(b"\xff" * 9 + b"\x7f", 0, 10) == (2**64 - 1, 10)


@given(st.binary(max_size=40))
def test_any_bytes_are_walked_or_refused(data: bytes) -> None:
    try:
        found = walk(data)
    except WireError:
        return
    assert found == [] or found[-1][2] == len(data)
