"""How far apart two right computations of the same sums may be: limits that are computed, never picked.

The model: addition k of a sum leaves an error delta_k s_k, s_k the partial sum so far and |delta_k| <= u,
with mean 0 given the past. Azuma's inequality then gives
P(|error| > lambda u sqrt(sum s_k^2)) <= 2 exp(-lambda^2/2):
Ipsen and Zhou, "Probabilistic Error Analysis for Inner Products", 2020 (arXiv 1906.10465). Q below estimates
the sum of squared partial sums for whatever order a runtime may add in; docs/limits.md has the derivation.
A coarser form with sum |p| in place of the partial sums: Higham and Mary, "A New Approach to Probabilistic
Rounding Error Analysis", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxscope import dtypes

Floats: TypeAlias = npt.NDArray[np.float64]
Array: TypeAlias = npt.NDArray[Any]

DELTA = 1e-6
"""Chance of one false alarm in a whole verification, under the model above."""
TINY = 2.0**-126
"""Smallest normal float32: what one flushed or gradually underflowed term may cost."""
PIECES = 64
"""Cuts at which partial sums are taken."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a runtime computes a layer in some element type."""

    name: str
    unit: float
    """u, unit roundoff of the accumulation."""
    stored: float = 0.0
    """Unit roundoff of the format that results are stored in, where it is coarser; 0 where it isn't."""
    operands: float = 0.0
    """Unit roundoff that both operands are rounded to before they are multiplied; 0 where they aren't."""
    absolute: bool = False
    """Whether tanh and erf are accurate against 1 only, not against results near 0: kernels that build them
    from exp, as WebGPU's and OpenVINO's do."""

    @property
    def text(self) -> str:
        """For `limit_from`: the name and its units."""
        parts = [f"u = 2^{np.log2(self.unit):.0f}"]
        if self.stored or self.operands:
            parts.append(f"v = 2^{np.log2(self.stored or self.operands):.0f}")
        return f"{self.name} ({', '.join(parts)})"


FLOAT32 = Arithmetic("float32", 2.0**-24)
FLOAT64 = Arithmetic("float64", 2.0**-53)
FLOAT16 = Arithmetic("float16", 2.0**-24, stored=2.0**-11)
"""onnxruntime's CPU kernels add float16 products in float32 and round what they store."""
BFLOAT16 = Arithmetic("bfloat16", 2.0**-24, stored=2.0**-8)
TF32 = Arithmetic("TF32", 2.0**-24, operands=2.0**-11)
"""TensorFloat-32 on NVIDIA GPUs: operands with 10 stored mantissa bits, float32 sums."""


def arithmetic_of(dtype: int, *, tf32: bool = False) -> Arithmetic | None:
    """The arithmetic of an ONNX element type; None for types that are no floats.

    >>> arithmetic_of(1).name, arithmetic_of(1, tf32=True).name, arithmetic_of(7)
    ('float32', 'TF32', None)
    """
    if tf32 and dtype == dtypes.FLOAT:
        return TF32
    known = {
        dtypes.FLOAT: FLOAT32,
        dtypes.DOUBLE: FLOAT64,
        dtypes.FLOAT16: FLOAT16,
        dtypes.BFLOAT16: BFLOAT16,
    }
    return known.get(dtype)


def confidence(values: int, delta: float = DELTA) -> float:
    """Factor lambda = sqrt(2 ln(2 N/delta)): all N values keep their limits with probability 1 - delta.

    >>> round(confidence(1000), 2)
    6.54
    """
    return sqrt(2 * log(2 * max(1, values) / delta))


@dataclass(frozen=True, slots=True)
class Sums:
    """Weighted sums y = W a + b of R rows and F outputs in float64, and what their rounding depends on."""

    y: Floats
    """[R, F]."""
    squares: Floats
    """P = sum of the squared products, [R, F]."""
    quadratic: Floats
    """Q, an estimate from above of the sum of squared partial sums, [R, F]."""
    terms: Floats
    """n = number of nonzero inputs, [R, 1]."""


def sums(weight: Floats, bias: Floats | None, rows: Floats, split: tuple[int, int]) -> Sums:
    """The sums of `rows` [R, K] with `weight` [F, K] and `bias` [F], all float64.

    `split` = (A, B) with A B = K says how the K terms are stored: A groups of B. A runtime may add them in
    that order or with groups and members exchanged (channels and positions), so Q is the largest of three:
    both orders, measured at up to 64 cuts, and a random order. Products, bias and the last rounding come on
    top.
    """
    return weighted(weight, bias, prepared(rows, split))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of inputs cut into pieces, ready for the weights of any number of outputs."""

    split: tuple[int, int]
    orders: tuple[tuple[Floats, Floats], ...]
    """Per order of the terms: the pieces [P, R, k] and the number of nonzero terms in each, [P, R, 1]."""
    squares: Floats
    """The squared terms in their stored order, [P, R, k]."""
    terms: Floats
    """n, [R, 1]."""


def pieces_of(count: int) -> int:
    """P, the number of pieces that K terms are cut into: up to 64, of 8 terms and more."""
    return min(PIECES, max(1, count // 8))


def prepared(rows: Floats, split: tuple[int, int]) -> Rows:
    """Rows [R, K] for `weighted`; see `sums`."""
    stored = [rows] if 1 in split else [rows, _exchanged(rows, split)]
    pieces = [_pieces(order).swapaxes(1, 2) for order in stored]
    orders = tuple((part, np.count_nonzero(part, axis=2)[:, :, None].astype(np.float64)) for part in pieces)
    terms = np.count_nonzero(rows, axis=1)[:, None].astype(np.float64)
    return Rows(split, orders, pieces[0] * pieces[0], terms)


@np.errstate(invalid="ignore", over="ignore")
def weighted(weight: Floats, bias: Floats | None, rows: Rows) -> Sums:
    """The sums of prepared rows with `weight` [F, K] and `bias` [F]; see `sums`.

    Every product is a stack of small ones, which a linear algebra library leaves to one thread.
    """
    stored = _pieces(weight)
    products: Floats = np.matmul(rows.squares, stored * stored).sum(axis=0)
    y, quadratic = _walk(stored, rows.orders[0], rows.terms, products)
    for order in rows.orders[1:]:
        turned = _walk(_pieces(_exchanged(weight, rows.split)), order, rows.terms, products)[1]
        quadratic = np.maximum(quadratic, turned)
    return _finished(y, products, quadratic, bias, rows.terms)


@np.errstate(invalid="ignore", over="ignore")
def shuffled(weight: Floats, bias: Floats | None, rows: Rows) -> Sums:
    """As `weighted`, with Q for a random order alone: never larger, and sooner had. `weight` is spent."""
    y: Floats = np.matmul(rows.orders[0][0], _pieces(weight)).sum(axis=0)
    np.multiply(weight, weight, out=weight)  # in place: two blocks would not stay in a cache
    products: Floats = np.matmul(rows.squares, _pieces(weight)).sum(axis=0)
    return _finished(y, products, np.zeros_like(y), bias, rows.terms)


def _finished(y: Floats, products: Floats, quadratic: Floats, bias: Floats | None, terms: Floats) -> Sums:
    """The sums with all that rounds them: a random order at least, products, bias and the last rounding."""
    quadratic = np.maximum(quadratic, terms * products / 6 + terms * y * y / 3)
    offset = np.zeros(y.shape[1]) if bias is None else bias
    y = y + offset
    quadratic = quadratic + products + (terms / 16 + 1) * offset**2 + y * y
    return Sums(y, products, quadratic, terms)


def _exchanged(matrix: Floats, split: tuple[int, int]) -> Floats:
    return matrix.reshape(-1, *split).swapaxes(1, 2).reshape(matrix.shape)


def _pieces(matrix: Floats) -> Floats:
    """A matrix [M, K] as P pieces of its columns, [P, k, M]; the last ones may be filled up with zeros."""
    count = matrix.shape[1]
    pieces = pieces_of(count)
    missing = -count % pieces
    filled = np.pad(matrix, ((0, 0), (0, missing))) if missing else matrix
    return filled.reshape(len(matrix), pieces, (count + missing) // pieces).transpose(1, 2, 0)


def _walk(
    weight: Floats, rows: tuple[Floats, Floats], count: Floats, products: Floats
) -> tuple[Floats, Floats]:
    """The sums without bias, and their squared partial sums.

    Between two cuts: a straight line, plus the random walk that the terms of a piece make around it.
    """
    pieces, terms = rows
    after = np.matmul(pieces, weight)
    np.cumsum(after, axis=0, out=after)
    before = np.concatenate([np.zeros_like(after[:1]), after[:-1]])
    quadratic = (terms * (before * before + before * after + after * after)).sum(axis=0) / 3
    return after[-1], quadratic + np.maximum(1, count / len(pieces)) * products / 6


@np.errstate(invalid="ignore", over="ignore")
def of_sums(found: Sums, arithmetic: Arithmetic, factor: float) -> Floats:
    """Largest allowed |computed - y|, [R, F]; `factor` is lambda.

    lambda sqrt(u^2 Q + v^2 P) + v |y|: the v terms only where results or operands are rounded to a coarser
    format. For rounded operands v^2 P counts twice, once for each of them.
    """
    rounded = arithmetic.stored**2 + 2 * arithmetic.operands**2
    limit = factor * np.sqrt(arithmetic.unit**2 * found.quadratic + rounded * found.squares)
    if arithmetic.stored:
        limit = limit + arithmetic.stored * np.abs(found.y) + 2.0**-24
    tiny = TINY if arithmetic.unit > 2.0**-40 else 2.0**-1022
    return limit + (found.terms + 1) * tiny


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome of an elementwise comparison against limits."""

    values: int = 0
    max_abs: float = 0.0
    """Largest absolute difference; inf where exactly one is NaN or infinite."""
    ratio: float = 0.0
    """Largest difference as a multiple of its limit: the tolerance that would just have passed."""
    limit: float = 0.0
    """The limit to show beside `max_abs`, so that the larger of the two says `ok`: at the same element where
    every difference keeps its limit, else at the element that is farthest beyond it."""

    @property
    def ok(self) -> bool:
        """Whether every difference keeps its limit."""
        return self.ratio <= 1.0

    def merged(self, other: Comparison) -> Comparison:
        """Both comparisons as one."""
        if not (self.values and other.values):
            return self if self.values else other
        if self.ok and other.ok:
            shown = max(self, other, key=lambda one: (one.max_abs, one.limit))
        else:
            shown = max(self, other, key=lambda one: one.ratio)
        return Comparison(
            self.values + other.values,
            max(self.max_abs, other.max_abs),
            max(self.ratio, other.ratio),
            shown.limit,
        )


def compare(computed: Array, expected: Array, limit: Array | float) -> Comparison:
    """Differences of two arrays of one shape (complex numbers apart) against limits that broadcast to it.

    NaN equals NaN and an infinity itself; where only one side is NaN or infinite, the difference is infinite.
    """
    if computed.size == 0:
        return Comparison()
    left, right = np.asarray(computed, np.float64), np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        gap = np.abs(left - right)
        gap[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
        gap[~np.isfinite(gap)] = np.inf
        bound = np.broadcast_to(np.asarray(limit, np.float64), gap.shape)
        usable = np.where(np.isfinite(bound), bound, 0.0)
        ratio = np.where(gap == 0, 0.0, np.where(np.isfinite(gap), gap / usable, np.inf))
    place = int(np.argmax(ratio if ratio.max() > 1 else gap if gap.any() else usable))
    return Comparison(gap.size, float(gap.max()), float(ratio.max()), float(usable.flat[place]))


def steps(computed: Array, expected: Array, scale: float = 1.0, allowed: int = 0) -> tuple[Comparison, float]:
    """Quantized values (or dequantized ones, with their `scale`) in steps, and the share that differs.

    `allowed` is 0 where the graph runs as written and 1 where the runtime may fuse integer kernels, which
    requantize ties their own way (observed, not derived).
    """
    left, right = (np.rint(np.asarray(side, np.float64) / scale) for side in (computed, expected))
    share = float(np.mean(left != right)) if left.size else 0.0
    return compare(left, right, float(allowed) + 0.5 * (allowed == 0)), share
