"""Resize and Upsample: output sizes from scales or given sizes.

A scale is a float32 number, and onnxruntime multiplies in float32 before it cuts off the fraction: 10 * 0.7f
is 7, although 0.7f is below 0.7. The rules do the same; for a symbolic size they answer only where the
product is exact. Source: ONNX Operators.md and Changelog.md; onnxruntime's kernel (checked by running it) for
the rounding.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

from onnxscope.expr import Expr, Size, floor, terms_of
from onnxscope.ops._content import plain
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import Inferred, Scalar, Shape, Unanswered, one

Ints = tuple[int, ...]
EXACT_BITS = 8
"""A scale of at most this many significant bits times a size up to 2**16 is exact in float32 (24 bits)."""


@op("Resize", since=10)
def resize(
    n: View,
    *,
    axes: Ints = (),
    coordinate_transformation_mode: str = "half_pixel",
    keep_aspect_ratio_policy: str = "stretch",
) -> Inferred:
    """Y[i] = floor(X[i]*scales[i]), or sizes[i]; axes that `axes` (Resize-18) doesn't name stay.

    Inputs: X, scales in Resize-10; X, roi, scales, sizes from Resize-11 on, of which one of the last two
    counts. keep_aspect_ratio_policy turns sizes into one scale, the smallest (not_larger) or largest
    (not_smaller) of sizes[i]/X[i], and Y[i] = round(X[i]*scale). Stays unknown: axes whose scale or size
    isn't known, a symbolic size times a scale such as 0.7, sizes under a policy where X is symbolic, scales
    with tf_crop_and_resize and a roi (onnxruntime ignores it there, the specification doesn't). Source:
    Resize-10, -11, -13, -18, -19.
    """
    x = n.shape(0)
    places = [axis_of(axis, len(x)) for axis in axes] or list(range(len(x)))
    scales_at, sizes_at = (1, None) if n.version == 10 or len(n.inputs) == 2 else (2, 3)
    y = list(x)
    if sizes_at is not None and _given(n, sizes_at):
        found = _from_sizes(n, sizes_at, [x[axis] for axis in places], keep_aspect_ratio_policy)
    elif coordinate_transformation_mode == "tf_crop_and_resize" and not _whole_roi(n):
        found = [None] * len(places)
    elif _given(n, scales_at):
        found = _from_scales(n, scales_at, [x[axis] for axis in places])
    else:
        raise Unanswered("neither scales nor sizes are given")
    if len(found) != len(places):
        raise Unanswered(f"{len(found)} scales or sizes for {len(places)} axes")
    for axis, size in zip(places, found, strict=True):
        y[axis] = n.unknown(axis) if size is None else size
    return one(y, n.dtype(0))


def _given(n: View, index: int) -> bool:
    """Whether an input is there and not an empty tensor (how Resize-11 says "not this one")."""
    return n.has(index) and n.shape_or_none(index) != (0,)


def _whole_roi(n: View) -> bool:
    """Whether the region of interest is the whole input: starts 0, ends 1, or none given."""
    if not _given(n, 1):
        return True
    data = n.content(1)
    half = len(data.items) // 2 if data else 0
    return data is not None and data.items == (0,) * half + (1,) * half


def _from_sizes(n: View, index: int, x: Sequence[Size], policy: str) -> Sequence[Size | None]:
    if n.content(index) is None:
        return [None] * len(x)
    sizes = n.sizes(index)
    if policy == "stretch" or len(sizes) != len(x):
        return sizes
    wanted, given = plain(sizes), plain(x)
    if wanted is None or given is None or 0 in (*wanted, *given):
        return [None] * len(x)
    choose = min if policy == "not_larger" else max
    scale = choose(_float32(size / old) for size, old in zip(wanted, given, strict=True))
    return [int(_float32(scale * old) + 0.5) for old in given]


def _from_scales(n: View, index: int, x: Sequence[Size]) -> Sequence[Size | None]:
    data = n.content(index)
    if data is None:
        return [None] * len(x)
    if len(data.items) != len(x):
        raise Unanswered(f"{len(data.items)} scales for {len(x)} axes")
    return [scaled(size, scale) for size, scale in zip(x, data.items, strict=True)]


def scaled(size: Size, scale: Scalar) -> Size | None:
    """floor(size*scale) as onnxruntime computes it in float32, None where that can't be told.

    >>> scaled(10, 0.7), scaled(5, 1.5)
    (7, 7)
    """
    if isinstance(scale, Expr):
        exact = size * scale
        return exact if all(isinstance(c, int) for _, c in terms_of(exact)) else None
    if not isinstance(scale, (int, float)):
        return None
    if isinstance(size, int):
        return int(_float32(size * _float32(scale)))
    ratio = Fraction(_float32(scale))
    if ratio.numerator.bit_length() > EXACT_BITS:
        return None
    return floor(size * ratio)


def _float32(number: float) -> float:
    """The nearest float32. Raises OverflowError for a number beyond its range."""
    rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return rounded


@op("Upsample")
def upsample(
    n: View, *, scales: tuple[float, ...] = (), height_scale: float = 0.0, width_scale: float = 0.0
) -> Inferred:
    """Y[i] = floor(X[i]*scales[i]); scales is input 1 in Upsample-9, an attribute in -7, split in two in -1.

    Source: Upsample-1, -7, -9 (deprecated by Resize-10).
    """
    x = n.shape(0)
    if n.has(1):
        found = _from_scales(n, 1, x)
        return one([n.unknown(i) if size is None else size for i, size in enumerate(found)], n.dtype(0))
    factors = scales or (1.0, 1.0, height_scale, width_scale)
    if len(factors) != len(x):
        raise Unanswered(f"{len(factors)} scales for rank {len(x)}")
    return one(_all_scaled(n, x, factors), n.dtype(0))


def _all_scaled(n: View, x: Shape, factors: Sequence[float]) -> list[Size]:
    found = [scaled(size, factor) for size, factor in zip(x, factors, strict=True)]
    return [n.unknown(i) if size is None else size for i, size in enumerate(found)]
