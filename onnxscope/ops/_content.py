"""Moving the elements of small known values about: what indexing, joining and layout rules share.

Not an op family: it registers nothing. Everything works on row-major tuples: shape arithmetic needs no numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from onnxscope.expr import Size, integers
from onnxscope.ops.value import DATA_LIMIT, Data, Scalar, Shape


def plain(sizes: Sequence[Size]) -> tuple[int, ...] | None:
    """The sizes as numbers, or None where one is symbolic.

    >>> plain((2, 3))
    (2, 3)
    """
    numbers = integers(tuple(sizes))
    return numbers if len(numbers) == len(sizes) else None


def reshaped(data: Data | None, shape: Shape) -> Data | None:
    """The same elements in another shape; None where the shape is symbolic or doesn't hold them."""
    sizes = plain(shape)
    if data is None or sizes is None or prod(sizes) != len(data.items):
        return None
    return Data(sizes, data.items)


def take(data: Data, axis: int, indices: Sequence[int]) -> Data:
    """The slices `indices` (0 <= i < size) of one axis, in that order.

    >>> take(Data((2, 2), (1, 2, 3, 4)), 1, [1]).items
    (2, 4)
    """
    inner, size = prod(data.shape[axis + 1 :]), data.shape[axis]
    items: list[Scalar] = []
    for outer in range(prod(data.shape[:axis]) if data.items else 0):  # an empty value may have 2**40 rows
        for index in indices:
            start = (outer * size + index) * inner
            items += data.items[start : start + inner]
    return Data((*data.shape[:axis], len(indices), *data.shape[axis + 1 :]), tuple(items))


def permuted(data: Data, order: Sequence[int]) -> Data:
    """The elements with axis i taken from axis order[i].

    >>> permuted(Data((2, 2), (1, 2, 3, 4)), (1, 0)).items
    (1, 3, 2, 4)
    """
    sizes = tuple(data.shape[axis] for axis in order)
    if not data.items:
        return Data(sizes, ())
    steps = [prod(data.shape[axis + 1 :]) for axis in order]
    places = product(*(range(0, size * step, step) for size, step in zip(sizes, steps, strict=True)))
    return Data(sizes, tuple(data.items[sum(place)] for place in places))


def joined(parts: Sequence[Data], axis: int) -> Data | None:
    """The parts one after the other along an axis; None where they don't fit or would be too many numbers.

    >>> joined([Data((1,), (7,)), Data((2,), (8, 9))], 0)
    Data(shape=(3,), items=(7, 8, 9))
    """
    others = {(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts}
    if len(others) != 1 or sum(len(part.items) for part in parts) > DATA_LIMIT:
        return None
    items: list[Scalar] = []
    for outer in range(prod(parts[0].shape[:axis]) if any(part.items for part in parts) else 0):
        for part in parts:
            run = prod(part.shape[axis:])
            items += part.items[outer * run : (outer + 1) * run]
    total = sum(part.shape[axis] for part in parts)
    return Data((*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :]), tuple(items))
