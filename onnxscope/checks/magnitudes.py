"""Tallies of numbers by their magnitudes: one for each way that numbers are stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from onnxscope import dtypes, packing
from onnxscope.checks.weights import MOST_LISTED, TensorStatistics
from onnxscope.graph import Tensor

if TYPE_CHECKING:
    import numpy as np

FP16_OVERFLOW = 65520.0
"""The first number that float16 rounds to infinity: halfway between 65504 and 65536."""
FP16_UNDERFLOW = 2.0**-25
"""The last one that it rounds to zero: half the smallest subnormal number, a tie that goes to even."""
SAMPLE = 1 << 17
"""Numbers of a tensor that `crushed` looks at; larger tensors give every k-th one."""
INT8_STEPS = 127
"""Steps of symmetric int8 quantization; half a step and less is rounded to zero."""


class Tally(ABC):
    """Counts of one tensor's numbers, block by block."""

    zeros = nan = inf = subnormal = overflow = underflow = 0
    first_bad: int | None = None

    @abstractmethod
    def add(self, block: memoryview) -> np.ndarray:
        """Count a block; returns something that is nonzero where its numbers are, to look for rows in."""

    @abstractmethod
    def _finish(self) -> tuple[float, float, float | None]:
        """Largest and smallest magnitude and the crushed share, once every block is counted."""

    def statistics(
        self, tensor: Tensor, name: str, scope: str, zero_filters: tuple[int, ...], repeated: int
    ) -> TensorStatistics:
        """The statistics of all blocks."""
        largest, smallest, crushed = self._finish()
        return TensorStatistics(
            name=name, scope=scope, count=tensor.count, nan=self.nan, inf=self.inf,
            subnormal=self.subnormal, zeros=self.zeros, largest=largest, smallest=smallest,
            fp16_overflow=self.overflow, fp16_underflow=self.underflow,
            zero_filters=zero_filters[:MOST_LISTED], zero_filter_count=len(zero_filters),
            duplicate_filters=repeated, digest="", crushed=crushed, tensor=tensor, first_bad=self.first_bad,
        )  # fmt: skip


def tally_of(tensor: Tensor) -> Tally | None:
    """An empty tally for the type of a tensor; None for strings and types that no release knows."""
    dtype = dtypes.BY_CODE.get(tensor.dtype)
    if dtype is None or dtype.bits is None:
        return None
    if dtype.bits < 8 or dtype.name.startswith("float8"):
        return Codes(dtype, tensor.count)
    return Magnitudes(dtype, tensor.count)


class Magnitudes(Tally):
    """Numbers of 8 to 64 bits (complex ones count as two)."""

    def __init__(self, dtype: dtypes.DType, count: int) -> None:
        import numpy as np

        self.dtype = dtype
        self.parts = 2 if dtype.kind == "complex" else 1
        bits = (dtype.bits or 8) // self.parts
        self.floating = dtype.kind in ("float", "complex")
        real = dtypes.BY_NAME[f"float{bits}"] if self.parts == 2 else dtype
        self.type = real.numpy.newbyteorder("<") if real.name != "bfloat16" else real.numpy
        self.unsigned, self.signed = np.dtype(f"<u{bits // 8}"), np.dtype(f"<i{bits // 8}")
        self.mask = self.unsigned.type((1 << (bits - 1)) - 1)
        self.infinity = self._bits(float("inf")) if self.floating else 1 << bits
        self.normal = 1 << {16: 10, 32: 23, 64: 52}[bits] if self.floating else 0
        if dtype.name == "bfloat16":
            self.normal = 1 << 7
        self.over = min(self._bits(FP16_OVERFLOW), self.infinity) if self.floating else 1 << bits
        self.under = self._underflow() if self.floating else 0
        self.small = max(self.under, self.normal - 1)
        self.stride = -(-self.parts * count // SAMPLE) | 1
        self.sample: list[np.ndarray] = []
        self.scratch = np.empty(0, self.unsigned)
        self.near = np.empty(0, np.bool_)
        self.seen = self.top = 0
        self.least: int | None = None

    def _bits(self, number: float) -> int:
        """The magnitude of the first number of this type that is not below `number`."""
        import numpy as np

        with np.errstate(over="ignore"):
            near = np.array([number]).astype(self.type)
        bits = int(near.view(self.unsigned)[0])
        return bits + (float(near[0]) < number)

    def _underflow(self) -> int:
        """The largest magnitude that float16 rounds to zero; 0 where this type has none but zero."""
        first_above = self._bits(FP16_UNDERFLOW * (1 + 2**-52))
        return 0 if self.dtype.name == "float16" else first_above - 1

    def add(self, block: memoryview) -> np.ndarray:
        """Count a block; returns the magnitudes, or the bits with their signs where no number is zero."""
        import numpy as np

        raw = np.frombuffer(block, self.unsigned)
        found: np.ndarray = raw
        if raw.size:
            least, top = self._range(raw)
            if least <= self.small or top >= self.over:
                found = self._magnitudes(raw)
                top = self._counted(found, top)
            else:
                self._lower(least)
            self.top = max(self.top, top)
        if self.floating:
            self.sample.append(raw[-self.seen % self.stride :: self.stride] & self.mask)
        self.seen += raw.size
        return found

    def _range(self, raw: np.ndarray) -> tuple[int, int]:
        """Smallest and largest magnitude of a block (0 for the smallest where that isn't known).

        Straight from the bits: two's complement orders positive floats upwards and negative ones downwards,
        so that no mask, which would write, is needed.
        """
        if self.dtype.kind in ("uint", "bool"):
            return int(raw.min()), int(raw.max())
        signed, mask = raw.view(self.signed), int(self.mask)
        low, high = int(signed.min()), int(signed.max())
        if low >= 0:
            return low, high
        if not self.floating:
            return 0 if high >= 0 else -high, max(high, -low)
        largest = int(raw.max()) & mask
        return (low & mask, largest) if high < 0 else (min(low & mask, int(raw.min())), max(high, largest))

    def _magnitudes(self, raw: np.ndarray) -> np.ndarray:
        import numpy as np

        found: np.ndarray = raw
        if self.floating:
            if self.scratch.size < raw.size:
                self.scratch = np.empty(raw.size, self.unsigned)
            found = np.bitwise_and(raw, self.mask, out=self.scratch[: raw.size])
        elif self.dtype.kind == "int":
            found = np.abs(raw.view(self.signed)).view(self.unsigned)
        return found

    def _counted(self, found: np.ndarray, top: int) -> int:
        """Count what is special in a block that holds such numbers; returns its largest finite magnitude."""
        import numpy as np

        if top >= self.infinity:
            top = self._specials(found)
        if top >= self.over:
            self.overflow += int(np.count_nonzero((found >= self.over) & (found < self.infinity)))
        near = np.less_equal(found, self.unsigned.type(self.small), out=self._near(found.size))
        if np.count_nonzero(near):
            self._near_zero(found, found[near])
        else:
            self._lower(int(found.min()))
        return top

    def _near(self, size: int) -> np.ndarray:
        """Room for the answers about a block: taking new memory for each would cost as much as the look."""
        import numpy as np

        if self.near.size < size:
            self.near = np.empty(size, np.bool_)
        return self.near[:size]

    def _near_zero(self, found: np.ndarray, few: np.ndarray) -> None:
        import numpy as np

        zeros = few.size - int(np.count_nonzero(few))
        self.zeros += zeros
        self.underflow += int(np.count_nonzero(few <= self.under)) - zeros
        if self.normal:
            self.subnormal += int(np.count_nonzero(few < self.normal)) - zeros
        if zeros < few.size:
            self._lower(int(few[few > 0].min()))
        elif zeros < found.size:
            self._lower(int(found[found > 0].min()))

    def _lower(self, magnitude: int) -> None:
        if magnitude < self.infinity:
            self.least = magnitude if self.least is None else min(self.least, magnitude)

    def _specials(self, found: np.ndarray) -> int:
        """Count NaN and infinity; returns the largest finite magnitude."""
        import numpy as np

        bad = found >= self.infinity
        infinite = int(np.count_nonzero(found == self.infinity))
        self.inf += infinite
        self.nan += int(np.count_nonzero(bad)) - infinite
        if self.first_bad is None:
            self.first_bad = (self.seen + int(bad.argmax())) // self.parts
        finite = found[~bad]
        return int(finite.max()) if finite.size else 0

    def _number(self, magnitude: int) -> float:
        import numpy as np

        if not self.floating:
            return float(magnitude)
        return float(np.array([magnitude], self.unsigned).view(self.type)[0])

    def _crushed(self, largest: float) -> float | None:
        """Share of the sample that rounds to zero at a step of `largest / 127`, counted on magnitudes."""
        import numpy as np

        if not self.floating:
            return None
        sample = np.concatenate(self.sample) if self.sample else np.zeros(0, self.unsigned)
        if not sample.size:
            return 0.0
        limit = largest / (2 * INT8_STEPS)
        bits = self._bits(limit)
        last = bits if self._number(bits) <= limit else bits - 1
        held = sample <= self.unsigned.type(last) if last >= 0 else sample < 0
        return (int(np.count_nonzero(held)) - int(np.count_nonzero(sample == 0))) / sample.size

    def _finish(self) -> tuple[float, float, float | None]:
        largest = self._number(self.top)
        return largest, self._number(self.least or 0), self._crushed(largest)


class Codes(Tally):
    """Numbers below a byte, and 8-bit floats: few enough values to count each."""

    def __init__(self, dtype: dtypes.DType, count: int) -> None:
        import numpy as np

        self.dtype = dtype
        self.width = dtype.bits or 8
        self.left = count
        self.seen = 0
        self.histogram = np.zeros(1 << self.width, np.int64)
        codes = np.arange(1 << self.width, dtype=np.uint8)
        self.values = _values(codes, dtype)

    def add(self, block: memoryview) -> np.ndarray:
        """Count a block; returns its bytes."""
        import numpy as np

        raw = np.frombuffer(block, np.uint8)
        count = min(self.left - self.seen, raw.size * 8 // self.width)
        if self.width == 6:
            unpacked = packing.array(block, self.dtype.code, count).view(np.uint8)
            counts = np.bincount(unpacked & 63, minlength=64)
        else:
            counts = self._split(np.bincount(raw, minlength=256))
            counts[0] -= raw.size * 8 // self.width - count  # the padding of the last byte
        self.histogram += counts
        self._find_bad(raw, counts)
        self.seen += count
        self.zeros = int(self.histogram[self.values == 0].sum())
        return raw

    def _split(self, whole: np.ndarray) -> np.ndarray:
        """Counts of codes, from counts of bytes."""
        import numpy as np

        codes = np.arange(256)
        found = np.zeros(1 << self.width, np.int64)
        for shift in range(0, 8, self.width):
            found += np.bincount(codes >> shift & ((1 << self.width) - 1), whole, 1 << self.width).astype(
                np.int64
            )
        return found

    def _find_bad(self, raw: np.ndarray, counts: np.ndarray) -> None:
        import numpy as np

        bad = ~np.isfinite(self.values)
        if self.first_bad is None and self.width == 8 and counts[bad].any():
            self.first_bad = self.seen + int(bad[raw].argmax())

    def _finish(self) -> tuple[float, float, float | None]:
        import numpy as np

        sizes = np.abs(self.values)
        finite = np.isfinite(sizes)
        held = sizes[(self.histogram > 0) & finite]
        largest, nonzero = float(held.max(initial=0)), held[held > 0]
        smallest = float(nonzero.min()) if nonzero.size else 0.0
        self.nan, self.inf = self._total(np.isnan(sizes)), self._total(np.isinf(sizes))
        self.subnormal = self._total((sizes > 0) & (sizes < _normal(self.dtype)))
        if self.dtype.kind != "float":
            return largest, smallest, None
        self.overflow = self._total(finite & (sizes >= FP16_OVERFLOW))
        self.underflow = self._total((sizes > 0) & (sizes <= FP16_UNDERFLOW))
        crushed = self._total((sizes > 0) & (sizes <= largest / (2 * INT8_STEPS)))
        return largest, smallest, crushed / max(int(self.histogram.sum()), 1)

    def _total(self, which: np.ndarray) -> int:
        """How many numbers have one of these codes."""
        return int(self.histogram[which].sum())


def _values(codes: np.ndarray, dtype: dtypes.DType) -> np.ndarray:
    """The number of every code, as float64."""
    import numpy as np

    if dtype.kind == "float":
        return codes.view(dtype.numpy).astype(np.float64)
    numbers = codes.astype(np.float64)
    half = 1 << ((dtype.bits or 8) - 1)
    return np.where(codes >= half, numbers - 2 * half, numbers) if dtype.kind == "int" else numbers


def _normal(dtype: dtypes.DType) -> float:
    """The smallest normal number of a narrow float type; 0 for integers and e8m0, which has no other."""
    if dtype.kind != "float" or dtype.name == "float8_e8m0fnu":
        return 0.0
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).smallest_normal)  # type: ignore[no-untyped-call]  # its stub has none
