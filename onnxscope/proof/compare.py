"""Two models' outputs side by side: shapes aligned, NaN and Inf counted apart, differences against limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxscope.proof import limits
from onnxscope.proof.result import OutputResult

Array: TypeAlias = npt.NDArray[Any]


ASKED = "atol + rtol |original|, as asked for"
"""Where the limits of --rtol and --atol come from."""


@dataclass
class Tally:
    """One output over all trials."""

    name: str
    limit_from: str = ""
    values: int = 0
    found: limits.Comparison = field(default_factory=limits.Comparison)
    """All finite numbers so far."""
    max_rel: float = 0.0
    largest: float = 0.0
    """Largest finite number of the original."""
    same: int = 0
    """Rows with the same largest class."""
    rows: int = 0
    nan: list[int] = field(default_factory=lambda: [0, 0, 0])
    inf: list[int] = field(default_factory=lambda: [0, 0, 0])
    differs: str = ""
    """A difference that is no number: shape, type, text, length."""

    def add(self, original: Any, candidate: Any, limit: Array | float) -> None:
        """Compare one trial; `limit` broadcasts to the original's shape.

        Tensors of numbers are compared with the limit; strings, sequences and maps item by item.
        """
        if isinstance(original, np.ndarray) and isinstance(candidate, np.ndarray):
            self._arrays(original, candidate, limit)
        elif isinstance(original, list) and isinstance(candidate, list):
            self._lists(original, candidate, limit)
        elif isinstance(original, Mapping) and isinstance(candidate, Mapping):
            self._maps(original, candidate, limit)
        elif isinstance(original, int | float) and isinstance(candidate, int | float):
            self._arrays(np.asarray(original), np.asarray(candidate), limit)
        else:
            self.values += 1
            if original != candidate:
                self._note(f"{_shown(original)} against {_shown(candidate)}")

    def result(self) -> OutputResult:
        """The finished row; not ok where a limit is broken, NaN or Inf is on one side, or shapes differ."""
        one_sided = any(self.nan[1:]) or any(self.inf[1:])
        failed = bool(self.differs) or one_sided
        source = f"{self.differs}; {self.limit_from}" if self.differs else self.limit_from
        return OutputResult(
            self.name,
            self.found.max_abs,
            self.max_rel,
            self.found.limit,
            source,
            inf if failed else self.found.ratio,
            self.same / self.rows if self.rows else None,
            not failed and self.found.ok,
            (self.nan[0], self.nan[1], self.nan[2]),
            (self.inf[0], self.inf[1], self.inf[2]),
            self.largest,
        )

    def _note(self, text: str) -> None:
        self.differs = self.differs or text

    def _lists(self, original: list[Any], candidate: list[Any], limit: Array | float) -> None:
        if len(original) != len(candidate):
            self._note(f"{len(original)} items against {len(candidate)}")
        scalar = limit if np.ndim(limit) == 0 else float(np.max(limit)) if np.size(limit) else 0.0
        for left, right in zip(original, candidate, strict=False):
            self.add(left, right, scalar)

    def _maps(self, original: Mapping[Any, Any], candidate: Mapping[Any, Any], limit: Array | float) -> None:
        if list(original) != list(candidate) and set(original) != set(candidate):
            self._note("different keys")
        for key in original:
            if key in candidate:
                self.add(original[key], candidate[key], limit)

    def _arrays(self, original: Array, candidate: Array, limit: Array | float) -> None:
        shapes = original.shape, candidate.shape
        pair = aligned(original, candidate)
        if pair is None:
            self._note(f"shape {list(shapes[0])} against {list(shapes[1])}")
            return
        left, right = pair
        self.values += left.size
        if left.dtype.kind in "OUS" or right.dtype.kind in "OUS":
            if not np.array_equal(left, right):
                self._note(f"{int(np.count_nonzero(left != right))} of {left.size} strings differ")
            return
        if left.dtype.kind == "c" or right.dtype.kind == "c":
            left, right = _parts(left), _parts(right)
            limit = np.repeat(limit, 2, axis=-1) if np.ndim(limit) else limit
        bound = np.reshape(limit, left.shape) if np.size(limit) == left.size else np.asarray(limit)
        self._agreement(left, right)
        self._numbers(left, right, bound)

    def _numbers(self, left: Array, right: Array, limit: Array) -> None:
        if left.dtype.kind in "iub" and right.dtype.kind in "iub":
            exact = left == right  # 64-bit integers don't fit a float64
        else:
            exact = np.zeros(left.shape, bool)
        one, two = left.astype(np.float64), right.astype(np.float64)
        self.largest = max(self.largest, float(np.abs(one[np.isfinite(one)]).max(initial=0.0)))
        self._count(self.nan, np.isnan(one), np.isnan(two))
        same_infinity = np.isinf(one) & (one == two)
        self._count(self.inf, np.isinf(one) & ~np.isnan(two), np.isinf(two) & ~np.isnan(one), same_infinity)
        finite = np.isfinite(one) & np.isfinite(two) & ~exact
        bounds = np.broadcast_to(np.nan_to_num(np.asarray(limit, np.float64), posinf=inf), one.shape)
        if not finite.any():
            known = float(np.max(bounds)) if bounds.size else 0.0
            self.found = self.found.merged(limits.Comparison(exact.size, 0.0, 0.0, known))
            return
        one, two = one[finite], two[finite]
        self.found = self.found.merged(limits.compare(two, one, bounds[finite]))
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(one == 0, 0.0, np.abs(one - two) / np.abs(one))
        self.max_rel = max(self.max_rel, float(relative.max()))

    @staticmethod
    def _count(counts: list[int], left: Array, right: Array, both: Array | None = None) -> None:
        shared = left & right if both is None else both
        counts[0] += int(np.count_nonzero(shared))
        counts[1] += int(np.count_nonzero(left & ~shared))
        counts[2] += int(np.count_nonzero(right & ~shared))

    def _agreement(self, left: Array, right: Array) -> None:
        """Rows (or map cells) with the same largest class, where axis 1 holds more than one class."""
        if left.dtype.kind != "f" or left.ndim < 2 or left.shape[1] < 2 or not left.size:
            return
        same = np.argmax(left, axis=1) == np.argmax(right, axis=1)
        self.same += int(np.count_nonzero(same))
        self.rows += same.size


def aligned(original: Array, candidate: Array) -> tuple[Array, Array] | None:
    """Both with one shape, trailing axes of size 1 being nothing; None where they differ otherwise."""
    if original.shape == candidate.shape:
        return original, candidate
    short, long = sorted((original.shape, candidate.shape), key=len)
    if long[: len(short)] == short and all(size == 1 for size in long[len(short) :]):
        return original.reshape(short), candidate.reshape(short)
    return None


def tolerance(original: Any, rtol: float | None, atol: float | None) -> Array | float:
    """The limit that --rtol and --atol ask for: atol + rtol |original|."""
    if not isinstance(original, np.ndarray) or original.dtype.kind not in "fiub":
        return float(atol or 0.0)
    magnitude = np.abs(np.nan_to_num(original.astype(np.float64), posinf=0.0, neginf=0.0))
    return np.asarray((atol or 0.0) + (rtol or 0.0) * magnitude)


def _parts(array: Array) -> Array:
    """Real and imaginary parts side by side."""
    return np.stack([array.real, array.imag], -1).reshape(*array.shape[:-1], -1)


def _shown(value: Any) -> str:
    return repr(value)[:60]
