"""Numbers out of `raw_data` bytes: little-endian, sub-byte types packed without gaps, lowest bits first.

Source: `TensorProto.raw_data` and the sub-byte sections in onnx.proto (onnx 1.23).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from onnxscope import dtypes

if TYPE_CHECKING:
    import numpy as np

_FORMATS = dict(zip((1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13), "fBbHhiq?edIQ", strict=True))
"""Element type -> letter of the struct module."""


def numbers(data: memoryview, code: int, count: int) -> tuple[int | float | bool, ...]:
    """The first `count` numbers as plain Python values, without numpy for the common types.

    Raises TypeError for strings, complex and unknown types, struct.error where the bytes are too few.
    """
    letter = _FORMATS.get(code)
    if letter:
        form = f"<{count}{letter}"
        return struct.unpack(form, data[: struct.calcsize(form)])
    dtype = dtypes.BY_CODE.get(code)
    if dtype is None or dtype.bits is None or dtype.kind == "complex":
        raise TypeError(f"elements of type {dtypes.name_of(code)} are no plain numbers")
    if dtype.bits < 8 and dtype.kind in ("int", "uint"):
        return _narrow_integers(data, count, dtype)
    return tuple(float(item) for item in array(data, code, count))


def array(data: memoryview, code: int, count: int) -> np.ndarray:
    """The first `count` numbers as a flat array: a view of the bytes, a copy for sub-byte types.

    Raises TypeError for strings and unknown types, ValueError where the bytes are too few.
    """
    import numpy as np

    dtype = dtypes.BY_CODE.get(code)
    if dtype is None or dtype.bits is None:
        raise TypeError(f"elements of type {dtypes.name_of(code)} have no array form")
    if dtype.bits < 8:
        return _narrow_array(data, count, dtype)
    return np.frombuffer(data, dtype=dtype.numpy.newbyteorder("<"), count=count)


def _narrow_integers(data: memoryview, count: int, dtype: dtypes.DType) -> tuple[int, ...]:
    """Sub-byte integers: a stream of bits without gaps, lowest first."""
    bits = dtype.bits or 8
    sign = 1 << (bits - 1) if dtype.kind == "int" else 0
    codes = (data[bits * i // 8] >> (bits * i % 8) & ((1 << bits) - 1) for i in range(count))
    return tuple((code ^ sign) - sign for code in codes)


def _narrow_array(data: memoryview, count: int, dtype: dtypes.DType) -> np.ndarray:
    """Sub-byte numbers, one per byte, in the types of ml_dtypes."""
    import numpy as np

    width = dtype.bits or 8
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width, bitorder="little")
    codes = np.packbits(bits.reshape(count, width), axis=1, bitorder="little").reshape(count)
    if dtype.kind == "int":
        sign = np.uint8(1 << (width - 1))
        return ((codes ^ sign).astype(np.int8) - np.int8(sign)).astype(dtype.numpy)
    return codes.astype(dtype.numpy) if dtype.kind == "uint" else codes.view(dtype.numpy)
