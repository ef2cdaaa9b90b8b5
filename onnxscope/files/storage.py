"""The ways a TensorProto holds its numbers: raw bytes, typed fields, strings (external files: `external.py`).

Nothing is read before `view`, and a declaration that doesn't match the bytes is an error only then; `problem`
tells beforehand, without reading a payload.
Source: onnx.proto, TensorProto (which field serves which type, and how narrow types are packed).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from onnxscope import dtypes
from onnxscope.errors import FileError
from onnxscope.files import wire
from onnxscope.files.source import Source

Run: TypeAlias = tuple[int, int, int]
"""(tag, start, end): a packed payload, or a row of unpacked fields with their tags."""

FLOATS, INT32S, STRINGS, INT64S, DOUBLES, UINT64S = 4, 5, 6, 7, 10, 11
FIELD_NAMES = {
    4: "float_data",
    5: "int32_data",
    6: "string_data",
    7: "int64_data",
    10: "double_data",
    11: "uint64_data",
}
_FIELD_OF = {
    "float32": FLOATS, "complex64": FLOATS, "float64": DOUBLES, "complex128": DOUBLES, "string": STRINGS,
    "int64": INT64S, "uint32": UINT64S, "uint64": UINT64S,
}  # fmt: skip
"""Element type -> typed field, for those that don't use int32_data."""


def field_for(dtype: int) -> int | None:
    """Number of the typed field that holds this element type; None for a type that no release knows."""
    found = dtypes.BY_CODE.get(dtype)
    return _FIELD_OF.get(found.name, INT32S) if found else None


class RawData(NamedTuple):
    """`raw_data`: packed little-endian bytes in the model file."""

    source: Source
    offset: int
    length: int
    expected: int | None
    """Bytes that dims and type ask for; None where they can't be told, negative for impossible dims."""
    tensor: str

    @property
    def kind(self) -> str:
        """`raw`."""
        return "raw"

    @property
    def location(self) -> str:
        """File and byte offset."""
        return f"{self.source.label}, byte {self.offset}"

    def problem(self) -> str | None:
        """What is wrong with the declaration, or None; reads nothing."""
        if self.expected is None or self.length == self.expected:
            return None
        if self.expected < 0:
            return "has a negative size in its dims"
        return f"holds {self.length} bytes of raw_data where its type and dims ask for {self.expected}"

    def view(self) -> memoryview:
        """The bytes, without a copy. Raises FileError where their number isn't the declared one."""
        fail(self.problem(), self.tensor, self.location)
        return self.source.view(self.offset, self.offset + self.length)


@dataclass(frozen=True, slots=True)
class TypedData:
    """`float_data`, `int32_data`, `int64_data`, `double_data` or `uint64_data`."""

    source: Source
    field: int
    """Field number in TensorProto."""
    runs: tuple[Run, ...]
    dtype: int
    count: int
    """Elements that dims ask for; negative for impossible dims."""
    tensor: str

    @property
    def kind(self) -> str:
        """`typed`."""
        return "typed"

    @property
    def location(self) -> str:
        """File, field and byte offset."""
        return f"{self.source.label}, {FIELD_NAMES[self.field]} at byte {self.runs[0][1]}"

    def problem(self) -> str | None:
        """What is wrong with the declaration, or None; reads nothing, so varints are not counted."""
        width = _WIDTHS.get(self.field)
        if self.count < 0:
            return "has a negative size in its dims"
        if width is None or any(tag & 7 != 2 for tag, _, _ in self.runs):
            return None
        size = sum(end - start for _, start, end in self.runs)
        asked = dtypes.byte_size(self.dtype, self.count)
        return (
            None
            if size == asked
            else f"holds {size} bytes of {FIELD_NAMES[self.field]} where its dims ask for {asked}"
        )

    def view(self) -> memoryview:
        """The numbers in `raw_data` layout: floats in one run as they lie in the file, others converted.

        Raises FileError where their number isn't the declared one.
        """
        fail(self.problem(), self.tensor, self.location)
        data = self._fixed() if self.field in _WIDTHS else memoryview(self._converted())
        asked = dtypes.byte_size(self.dtype, self.count)
        if len(data) != asked:
            held = f"holds {len(data)} bytes of numbers in {FIELD_NAMES[self.field]}"
            fail(f"{held} where its dims ask for {asked}", self.tensor, self.location)
        return data

    def _fixed(self) -> memoryview:
        parts = [part for run in self.runs for part in self._parts(run)]
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def _parts(self, run: Run) -> list[memoryview]:
        tag, start, end = run
        if tag & 7 == 2:
            return [self.source.view(start, end)]
        return [
            self.source.view(at, stop) for _, at, stop, _ in wire.fields(self.source.data, ((start, end),))
        ]

    def _converted(self) -> bytes:
        numbers: list[int] = []
        try:
            for run in self.runs:
                numbers += self._varints(run)
        except wire.WireError as error:
            raise FileError(f"tensor {self.tensor!r}: {error.message}", where=self.location) from None
        return _pack(numbers, dtypes.BY_CODE[self.dtype])

    def _varints(self, run: Run) -> list[int]:
        tag, start, end = run
        self.source.payload_bytes += end - start
        if tag & 7 == 2:
            return wire.varints(self.source.data, (start, end))
        return [value for _, value, _, _ in wire.fields(self.source.data, ((start, end),))]


_WIDTHS = {FLOATS: 4, DOUBLES: 8}


class StringData(NamedTuple):
    """`string_data`: the elements of a string tensor."""

    source: Source
    runs: tuple[Run, ...]
    tensor: str

    @property
    def kind(self) -> str:
        """`typed`."""
        return "typed"

    @property
    def location(self) -> str:
        """File, field and byte offset."""
        return f"{self.source.label}, string_data at byte {self.runs[0][1]}"

    def problem(self) -> str | None:
        """None: any string is a string."""
        return None

    def strings(self) -> tuple[bytes, ...]:
        """The elements, in row-major order."""
        return tuple(bytes(self.source.view(start, end)) for _, start, end in self.runs)

    def view(self) -> memoryview:
        """Raises TypeError: strings have no packed form; `strings` gives them."""
        raise TypeError(f"tensor {self.tensor!r} holds strings, which have no raw form")


def fail(problem: str | None, tensor: str, location: str) -> None:
    """Raise FileError if there is a problem."""
    if problem is not None:
        raise FileError(f"tensor {tensor!r} {problem}", where=location)


def _pack(numbers: list[int], dtype: dtypes.DType) -> bytes:
    """Numbers of an integer field in `raw_data` layout.

    int32_data holds the bit pattern of halves and 8-bit floats, one byte with two (four) numbers of the 4-bit
    (2-bit) types, and one 6-bit float, whose `raw_data` form is a bit stream without gaps.
    """
    bits = dtype.bits or 8
    if dtype.kind == "bool":
        return bytes(map(bool, numbers))
    if bits == 6:
        return _pack_sixes(numbers)
    if bits <= 8:
        return bytes([number & 0xFF for number in numbers])
    mask = (1 << bits) - 1
    letter = {16: "H", 32: "I", 64: "Q"}[bits]
    return struct.pack(f"<{len(numbers)}{letter}", *[number & mask for number in numbers])


def _pack_sixes(numbers: list[int]) -> bytes:
    """Four numbers of six bits in three bytes, the first in the lowest bits; the end is cut."""
    out = bytearray()
    for at in range(0, len(numbers), 4):
        group = sum((number & 0x3F) << 6 * place for place, number in enumerate(numbers[at : at + 4]))
        out += group.to_bytes(3, "little")
    return bytes(out[: (6 * len(numbers) + 7) // 8])
