"""A fully connected layer or a pool in float64, on every window of its own input, against a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from onnxscope.proof import limits
from onnxscope.proof.layers import FullyConnected
from onnxscope.proof.limits import Arithmetic, Comparison
from onnxscope.proof.links import HeadLink, LayerLink
from onnxscope.proof.windows import row_blocks, rows, rows_of, windows

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array, Floats

_TILE = 1 << 18
"""Multiplications in one product of a piece."""


def connected(
    layer: FullyConnected,
    link: LayerLink,
    pairs: Sequence[tuple[Array, Array]],
    arithmetic: Arithmetic,
    factor: float,
) -> Comparison:
    """A fully connected layer against pairs of (map [N, C, *S], result [N, F, *S']), each window a row."""
    found = placed(link, pairs, (layer.outputs, layer.inputs))
    if found is None:
        return misfit(pairs[0][1])
    views, results = found
    total, extra = Comparison(), layer.alpha != 1.0 or link.weight.how == "folded"
    split, axes = _split(layer.inputs, link), link.weight.axes if prod(link.kernel) > 1 else ()
    height = tile_rows(layer.inputs, layer.step)
    for stack, given in _stacked(views, results, axes):
        tiles = [
            (limits.prepared(stack[first : first + height], split), given[first : first + height])
            for first in range(0, len(stack), height)
        ]
        check = _Check(layer, tiles, extra, arithmetic, factor)
        for blocks in layer.each(check.block):
            total = total.merged(check.compared(blocks))
    return total


def placed(
    link: LayerLink, pairs: Sequence[tuple[Array, Array]], shape: tuple[int, int]
) -> tuple[list[Array], list[Array]] | None:
    """Windows [N, *S', C, *kernel] of each map, and its results as rows; None where these don't fit.

    `shape` is (F, K) of the layer.
    """
    spatial = len(link.kernel)
    maps = [_as_map(given, spatial) for given, _ in pairs]
    results = [rows(result) for _, result in pairs]
    if any(_smaller(value, link.kernel, link.dilations) for value in maps):
        return None
    views = [windows(value, link.kernel, link.dilations) for value in maps]
    for view, result in zip(views, results, strict=True):
        places, inner = view.shape[: 1 + spatial], view.shape[1 + spatial :]
        if (*result.shape, prod(inner)) != (prod(places), *shape):
            return None
    return views, results


@dataclass(frozen=True, slots=True)
class _Block:
    """Outputs `start` to `stop` of every tile: y and its limit, [R, stop - start] each."""

    start: int
    stop: int
    sums: tuple[tuple[Floats, Floats], ...]


@dataclass(frozen=True, slots=True)
class _Check:
    """A layer against results, the rows of each tile at once."""

    layer: FullyConnected
    tiles: Sequence[tuple[limits.Rows, Array]]
    extra: bool
    """Whether a folded factor rounds every weight once more."""
    arithmetic: Arithmetic
    factor: float

    def block(self, start: int, stop: int) -> _Block:
        """The sums with the sharper limit, that of terms in a random order."""
        return _Block(start, stop, tuple(self._sums(tile, start, stop) for tile, _ in self.tiles))

    def _sums(
        self, tile: limits.Rows, start: int, stop: int, *, walked: bool = False
    ) -> tuple[Floats, Floats]:
        bias = None if self.layer.bias is None else self.layer.bias[start:stop]
        weight = self.layer.block(start, stop)
        found = limits.weighted(weight, bias, tile) if walked else limits.shuffled(weight, bias, tile)
        if self.extra:
            found.quadratic[...] += found.squares
        return found.y, limits.of_sums(found, self.arithmetic, self.factor)

    def compared(self, blocks: Sequence[_Block]) -> Comparison:
        """Neighbouring blocks against the results, together, since a comparison has a price; else alone."""
        total, rest = Comparison(), slice(blocks[0].start, blocks[-1].stop)
        for place, (_, result) in enumerate(self.tiles):
            parts = zip(*(block.sums[place] for block in blocks), strict=True)
            outcome = limits.compare(result[:, rest], *(np.concatenate(part, 1) for part in parts))
            total = total.merged(outcome if outcome.ok else self._alone(blocks, place))
        return total

    def _alone(self, blocks: Sequence[_Block], place: int) -> Comparison:
        """Each block of a tile, with the wider limit where the sharper one is broken."""
        total, (tile, result) = Comparison(), self.tiles[place]
        for block in blocks:
            part = result[:, block.start : block.stop]
            outcome = limits.compare(part, *block.sums[place])
            if not outcome.ok:
                outcome = limits.compare(part, *self._sums(tile, block.start, block.stop, walked=True))
            total = total.merged(outcome)
        return total


def tile_rows(inputs: int, outputs: int) -> int:
    """Rows of a tile, so that the products of its pieces stay small enough for a cache and one thread."""
    return max(1, _TILE * limits.pieces_of(inputs) // max(1, inputs * outputs))


def _stacked(
    views: Sequence[Array], results: Sequence[Array], axes: Sequence[int]
) -> Iterator[tuple[Floats, Array]]:
    """The rows of all trials in float64 with their results, as many at once as fit a block.

    A weight is read once per stack, so a large one, which has few rows, is read once.
    """
    held: list[tuple[Floats, Array]] = []
    count = 0
    for view, result in zip(views, results, strict=True):
        for first, block in row_blocks(view, axes, result.shape[1]):
            if held and count + len(block) > rows_of(max(block.shape[1], result.shape[1])):
                yield _joined(held)
                held, count = [], 0
            held.append((np.asarray(block, np.float64), result[first : first + len(block)]))
            count += len(block)
    if held:
        yield _joined(held)


def _joined(held: Sequence[tuple[Floats, Array]]) -> tuple[Floats, Array]:
    stack, results = zip(*held, strict=True)
    return np.concatenate(stack), np.concatenate(results)


def _smaller(value: Array, kernel: Sequence[int], dilations: Sequence[int]) -> bool:
    """Whether a map [N, C, *S] has no window of a kernel (its result then came from a pad)."""
    steps = dilations or (1,) * len(kernel)
    spans = [step * (wide - 1) + 1 for wide, step in zip(kernel, steps, strict=True)]
    return any(size < span for size, span in zip(value.shape[2:], spans, strict=True))


def misfit(result: Array) -> Comparison:
    """Shapes that don't fit: different, whatever the limit."""
    return Comparison(result.size, np.inf, np.inf, 0.0)


def _as_map(value: Array, spatial: int) -> Array:
    return value.reshape(*value.shape, *(1,) * (2 + spatial - value.ndim))


def _split(inputs: int, link: LayerLink) -> tuple[int, int]:
    """(groups, members) of the flattened axis: channels and positions, in their stored order."""
    cells = prod(link.kernel)
    channels = inputs // cells
    last = link.weight.axes[-1:] == (1,)
    return (cells, channels) if last else (channels, cells)


def joined(
    layer: FullyConnected,
    link: LayerLink,
    trials: Sequence[tuple[Sequence[Array], Array]],
    arithmetic: Arithmetic,
    factor: float,
) -> Comparison:
    """A layer on several maps, or on maps and vectors from outside, against the sum of its convolutions.

    A trial holds the value that each part reads, [N, C, *S] or [N, F], and the result [N, F, *S'].
    """
    pairs = []
    for values, result in trials:
        given = rows(result)
        parts = [_part(value, part, len(given)) for value, part in zip(values, link.parts, strict=True)]
        if any(part is None for part in parts):
            return misfit(given)
        stack = np.concatenate([part for part in parts if part is not None], axis=1)
        pairs.append((stack[:, :, None], given[:, :, None]))
    flat = replace(link, kernel=(1,), dilations=(), weight=replace(link.weight, axes=()), parts=())
    return connected(layer, flat, pairs, arithmetic, factor)


def _part(value: Array, part: LayerLink, count: int) -> Array | None:
    """What a part reads for each of `count` cells, [R, K]: the same for all where it has one cell."""
    found = _as_map(value, len(part.kernel))
    if _smaller(found, part.kernel, part.dilations):
        return None
    view = windows(found, part.kernel, part.dilations)
    axes = part.weight.axes if prod(part.kernel) > 1 else ()
    own = np.concatenate([block for _, block in row_blocks(view, axes)])
    return np.repeat(own, count // len(own), 0) if len(own) and count % len(own) == 0 else None


def pool(head: HeadLink, pairs: Sequence[tuple[Array, Array]], arithmetic: Arithmetic) -> Comparison:
    """The pool in front of a head: map [N, C, *S] -> [N, C, *S'], over its window or the whole map."""
    total = Comparison()
    for given, result in pairs:
        spatial = given.ndim - 2
        kernel = head.pool_kernel or given.shape[2:]
        if head.pool_kernel is None and result.shape[2:] not in ((), (1,) * spatial):
            return misfit(result)
        if _smaller(given, kernel, head.dilations):
            return misfit(result)
        view = windows(given, kernel, head.dilations).reshape(-1, given.shape[1], prod(kernel))
        flat = rows(result)
        if flat.shape != view.shape[:2]:
            return misfit(result)
        for start in range(0, len(view), 64):
            block = np.asarray(view[start : start + 64], np.float64)
            expected, limit = _pooled(head, block, arithmetic)
            total = total.merged(limits.compare(flat[start : start + 64], expected, limit))
    return total


def _pooled(head: HeadLink, block: Floats, arithmetic: Arithmetic) -> tuple[Floats, Floats]:
    """Result and limit of windows [r, C, n].

    The limit of sums is the worst case (n + 1) u sum |p|: the inputs may be all alike (a constant image), and
    then every addition rounds the same way. There are no weights that a wide limit could hide.
    """
    count = block.shape[-1]
    if head.pool == "max":
        expected: Floats = block.max(-1)
        return expected, arithmetic.stored * np.abs(expected)
    share = 1.0 if head.pool == "sum" else 1.0 / count
    expected = share * block.sum(-1)
    magnitude = share * np.abs(block).sum(-1)
    # a runtime may hand the pool its inputs before they are rounded to the stored format
    limit = ((count + 1) * arithmetic.unit + arithmetic.stored) * magnitude
    limit += arithmetic.stored * np.abs(expected) + (2.0**-24 if arithmetic.stored else limits.TINY)
    return expected, limit
