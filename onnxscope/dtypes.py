"""ONNX element types: their names, bits and numpy twins.

Source: `TensorProto.DataType` in onnx.proto (onnx 1.23), sections "DataType" and "int4/uint4 packing".
Types narrower than a byte are packed without gaps and the last byte is padded: 3 x int4 take 2 bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class DType(NamedTuple):
    """One ONNX element type."""

    code: int
    """Number in `TensorProto.DataType`."""
    name: str
    """Lower-case name as reports show it, for example `float32`."""
    bits: int | None
    """Bits per element in `raw_data`; None for strings, whose size varies."""
    kind: str
    """One of `float`, `int`, `uint`, `bool`, `complex`, `string`."""

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type of an unpacked array (ml_dtypes for the types that numpy lacks); imports numpy.

        Strings become objects.
        """
        import numpy as np

        if self.kind == "string":
            return np.dtype(object)
        if self.name in _ML_DTYPES:
            import ml_dtypes

            found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, self.name))
            return found
        return np.dtype(self.name)


_TABLE = (
    (1, "float32", 32, "float"),
    (2, "uint8", 8, "uint"),
    (3, "int8", 8, "int"),
    (4, "uint16", 16, "uint"),
    (5, "int16", 16, "int"),
    (6, "int32", 32, "int"),
    (7, "int64", 64, "int"),
    (8, "string", None, "string"),
    (9, "bool", 8, "bool"),
    (10, "float16", 16, "float"),
    (11, "float64", 64, "float"),
    (12, "uint32", 32, "uint"),
    (13, "uint64", 64, "uint"),
    (14, "complex64", 64, "complex"),
    (15, "complex128", 128, "complex"),
    (16, "bfloat16", 16, "float"),
    (17, "float8_e4m3fn", 8, "float"),
    (18, "float8_e4m3fnuz", 8, "float"),
    (19, "float8_e5m2", 8, "float"),
    (20, "float8_e5m2fnuz", 8, "float"),
    (21, "uint4", 4, "uint"),
    (22, "int4", 4, "int"),
    (23, "float4_e2m1fn", 4, "float"),
    (24, "float8_e8m0fnu", 8, "float"),
    (25, "uint2", 2, "uint"),
    (26, "int2", 2, "int"),
    (27, "float6_e2m3fn", 6, "float"),
    (28, "float6_e3m2fn", 6, "float"),
)
_ML_DTYPES = frozenset(
    "bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz uint4 int4 float4_e2m1fn "
    "float8_e8m0fnu uint2 int2 float6_e2m3fn float6_e3m2fn".split()
)

BY_CODE: dict[int, DType] = {row[0]: DType(*row) for row in _TABLE}
BY_NAME: dict[str, DType] = {dtype.name: dtype for dtype in BY_CODE.values()}

FLOAT, UINT8, INT8, INT32, INT64, STRING, BOOL = 1, 2, 3, 6, 7, 8, 9
FLOAT16, DOUBLE, BFLOAT16 = 10, 11, 16


def name_of(code: int | None) -> str | None:
    """Name of an element type; `type 99` for a number that no ONNX release knows, None for None.

    >>> name_of(1), name_of(99), name_of(None)
    ('float32', 'type 99', None)
    """
    if code is None:
        return None
    found = BY_CODE.get(code)
    return found.name if found else f"type {code}"


@lru_cache(maxsize=1024)
def byte_size(code: int, count: int) -> int | None:
    """Bytes that `count` elements take in `raw_data`; None where the size varies or the type is unknown.

    >>> byte_size(22, 3), byte_size(1, 3), byte_size(8, 3)
    (2, 12, None)
    """
    found = BY_CODE.get(code)
    if found is None or found.bits is None:
        return None
    return (count * found.bits + 7) // 8
