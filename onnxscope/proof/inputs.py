"""Seeded inputs: families of numbers, sizes for free axes, indices within range.

The numbers come from the bits of PCG64 by integer arithmetic alone, so a seed gives the same input with every
numpy on every machine (numpy's own normal numbers may change between releases: NEP 19).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts
from onnxscope.errors import RuntimeFailure, UsageError
from onnxscope.expr import Expr, Size, bind, symbols
from onnxscope.graph import Node
from onnxscope.proof.interface import InputPair

Array: TypeAlias = npt.NDArray[Any]
Feeds: TypeAlias = dict[str, Array]

DRAWN = ("signed", "positive", "large", "tiny")
FIXED = ("zeros", "constant")
"""One draw of these is all there is."""
BATCHES = (1, 3)
"""Sizes that a free batch axis takes in turn."""
LENGTH = 8
"""Size of a free axis that is neither batch nor spatial: a sequence."""
SEARCHED = 1 << 20
"""Input size in pixels (or samples of a sound) up to which a size that makes a map is looked for."""
LARGEST = 1 << 36
"""Numbers of one input, at most: their random bits alone are 24 bytes each."""
_SCALES = {"signed": 1.0, "large": 1000.0, "tiny": 1e-4}
_WORDS = ("", "a", "onnx", "Größe", "0.5", "two words")


@dataclass(frozen=True, slots=True)
class Draw:
    """One trial to be: what to draw and at which sizes."""

    seed: int
    family: str
    shapes: dict[str, tuple[int, ...]]
    given: Feeds = field(default_factory=dict)
    """Inputs from the user's files."""

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two draws of one size."""
        return tuple(self.shapes.items())


@dataclass(frozen=True, slots=True)
class Axes:
    """The free axes of the inputs, by what they mean."""

    batch: tuple[str, ...]
    spatial: tuple[str, ...]
    other: tuple[str, ...]


def axes_of(inputs: Sequence[InputPair]) -> Axes:
    """Sort the symbols: those of a first axis are the batch, those of inputs with 3 axes and more spatial.

    An axis without a name counts as `<input>.<axis>`.
    """
    batch: dict[str, None] = {}
    spatial: dict[str, None] = {}
    other: dict[str, None] = {}
    for pair in inputs:
        for axis, size in enumerate(pair.sizes):
            if not isinstance(size, int):
                kind = batch if axis == 0 else spatial if len(pair.sizes) >= 3 else other
                kind[symbol_of(pair, axis)] = None
    first = tuple(batch)
    rest = tuple(name for name in spatial if name not in batch)
    return Axes(first, rest, tuple(name for name in other if name not in batch and name not in spatial))


def symbol_of(pair: InputPair, axis: int) -> str:
    """The name of a free axis."""
    size = pair.sizes[axis]
    return size if isinstance(size, str) and size else f"{pair.name}.{axis}"


def solved(size: Size, wanted: int) -> tuple[str, int] | None:
    """(symbol, smallest number) that makes a size of a map what is wanted; None where none does."""
    free = {symbol.name for symbol in symbols(size)} if isinstance(size, Expr) else set()
    if len(free) != 1:
        return None
    (name,) = free
    numbers = range(1, SEARCHED)  # a map never shrinks where its input grows
    found = numbers[bisect_left(numbers, wanted, hi=len(numbers) - 1, key=lambda n: _at(size, name, n))]
    return (name, found) if _at(size, name, found) == wanted else None


def _at(size: Size, name: str, number: int) -> int:
    """A size of the map at one input size; 0 where that is none."""
    bound = bind(size, {name: number})
    return bound if isinstance(bound, int) else 0


def bound(
    inputs: Sequence[InputPair], shapes: Mapping[str, Sequence[int | str]], dims: Mapping[str, int]
) -> tuple[InputPair, ...]:
    """The inputs with the user's sizes in place of symbols. Raises UsageError where these don't fit."""
    unknown = [name for name in shapes if name not in {pair.name for pair in inputs}]
    if unknown:
        raise UsageError(f"--shape names {unknown[0]!r}, which is no input of both models")
    sizes = {name: size for name, size in dims.items()}
    for pair in inputs:
        given = shapes.get(pair.name)
        if given is None:
            continue
        if pair.sizes and len(given) != len(pair.sizes):
            raise UsageError(f"--shape {pair.name}: {len(given)} sizes for {len(pair.sizes)} axes")
        for axis, size in enumerate(given[: len(pair.sizes)]):
            if isinstance(size, int) and not isinstance(pair.sizes[axis], int):
                sizes[symbol_of(pair, axis)] = size
    return tuple(_bound(pair, shapes.get(pair.name), sizes) for pair in inputs)


def _bound(pair: InputPair, given: Sequence[int | str] | None, sizes: Mapping[str, int]) -> InputPair:
    declared = pair.sizes or tuple(given or ())
    pair = InputPair(pair.name, pair.dtype, tuple(declared), pair.kind)
    found: list[int | str | None] = []
    for axis, size in enumerate(pair.sizes):
        asked = given[axis] if given is not None else None
        if isinstance(size, int) and isinstance(asked, int) and asked != size:
            raise UsageError(f"--shape {pair.name}: axis {axis} is fixed at {size}, not {asked}")
        fixed = size if isinstance(size, int) else sizes.get(symbol_of(pair, axis))
        found.append(fixed if fixed is not None else size)
    return InputPair(pair.name, pair.dtype, tuple(found), pair.kind)


def shapes_at(inputs: Sequence[InputPair], sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Every input's shape with its symbols bound; axes of no known size get 1."""
    return {
        pair.name: tuple(
            size if isinstance(size, int) else sizes.get(symbol_of(pair, axis), 1)
            for axis, size in enumerate(pair.sizes)
        )
        for pair in inputs
    }


def draws(
    inputs: Sequence[InputPair],
    trials: int,
    seed: int,
    sizes: Sequence[Mapping[str, int]],
    batches: Sequence[int] = BATCHES,
) -> Iterator[Draw]:
    """Every trial: `trials` draws of each family, batch and sizes taking turns.

    Models without float inputs have the one family `integers`. A trial's seed alone reproduces its input.
    """
    floats = any(pair.dtype in _FLOATS for pair in inputs)
    drawn, fixed = (DRAWN, FIXED) if floats else (("integers",), ())
    batch = axes_of(inputs).batch
    turn = 0
    for number in range(trials):
        for family in (*drawn, *(fixed if number == 0 else ())):
            bindings = dict(sizes[(turn // len(batches)) % len(sizes)]) if sizes else {}
            bindings.update(dict.fromkeys(batch, batches[turn % len(batches)]))
            yield Draw(seed + number, family, shapes_at(inputs, bindings))
            turn += 1


_FLOATS = frozenset({dtypes.FLOAT, dtypes.FLOAT16, dtypes.DOUBLE, dtypes.BFLOAT16})


def feeds(draw: Draw, inputs: Sequence[InputPair], ranges: Mapping[str, tuple[int, int]]) -> Feeds:
    """The arrays of a trial, by input name; `ranges` holds (lowest, highest) of integer inputs.

    Raises RuntimeFailure for an input type that can't be fed.
    """
    made: Feeds = {}
    for pair in inputs:
        if pair.name in draw.given:
            made[pair.name] = draw.given[pair.name]
            continue
        stream = Stream(draw.seed, draw.family, pair.name)
        if prod(draw.shapes[pair.name]) > LARGEST:
            raise _too_large(pair.name, draw.shapes[pair.name])
        try:
            made[pair.name] = _array(pair, draw, stream, ranges.get(pair.name))
        except MemoryError:
            raise _too_large(pair.name, draw.shapes[pair.name]) from None
    return made


def _too_large(name: str, shape: tuple[int, ...]) -> RuntimeFailure:
    """The error for an input that this machine, or none, holds."""
    sizes = "x".join(map(str, shape))
    return RuntimeFailure(f"input {name} of {sizes} is too large to run", help="give it smaller sizes")


def _array(pair: InputPair, draw: Draw, stream: Stream, span: tuple[int, int] | None) -> Array:
    shape = draw.shapes[pair.name]
    kind = dtypes.BY_CODE.get(pair.dtype)
    if pair.kind != "tensor" or kind is None or kind.kind == "complex":
        raise RuntimeFailure(f"input {pair.name} can't be drawn: it is a {pair.kind or 'value of no type'}")
    if kind.name == "bfloat16":
        raise RuntimeFailure(f"input {pair.name} is bfloat16, which onnxruntime can't be given from Python")
    if kind.kind == "string":
        return np.array(
            [_WORDS[i] for i in stream.integers(prod(shape), 0, len(_WORDS) - 1)], object
        ).reshape(shape)
    if kind.kind == "float":
        return _floats(draw.family, prod(shape), stream).astype(kind.numpy).reshape(shape)
    low, high = span or default_range(pair.dtype)
    return stream.integers(prod(shape), low, high).astype(kind.numpy).reshape(shape)


def _floats(family: str, count: int, stream: Stream) -> Array:
    if family == "zeros":
        return np.zeros(count)
    if family == "constant":
        return np.full(count, 0.5)
    if family == "positive":
        return stream.uniform(count)
    return stream.normal(count) * _SCALES.get(family, 1.0)


def default_range(dtype: int) -> tuple[int, int]:
    """Lowest and highest value for an integer input of no known meaning: bytes whole, others 0 and 1."""
    return {dtypes.UINT8: (0, 255), dtypes.INT8: (-128, 127)}.get(dtype, (0, 1))


class Stream:
    """Numbers from raw PCG64 bits; the same seed, family and name give the same ones everywhere."""

    def __init__(self, seed: int, family: str, name: str) -> None:
        key = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, crc32(family.encode()), crc32(name.encode())]
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def _words(self, count: int) -> npt.NDArray[np.uint64]:
        return np.asarray(self._bits.random_raw(count), np.uint64)

    def normal(self, count: int) -> Array:
        """Mean 0, variance 1, within 6: the sum of twelve 16-bit uniform numbers, exact in integers."""
        parts = self._words(3 * count).astype("<u8").view("<u2").reshape(count, 12)
        total = parts.sum(axis=1, dtype=np.int64) * 2 - 12 * 65535
        result: Array = total.astype(np.float64) / 131072.0
        return result

    def uniform(self, count: int) -> Array:
        """In [0, 1), multiples of 2^-24."""
        result: Array = (self._words(count) >> np.uint64(40)).astype(np.float64) / 16777216.0
        return result

    def integers(self, count: int, low: int, high: int) -> Array:
        """Whole numbers from low to high, both included."""
        result: Array = low + (self._words(count) % np.uint64(high - low + 1)).astype(np.int64)
        return result


_INDEXING = {
    "Gather": (1, 0), "GatherElements": (1, 0), "Embedding": (1, 0), "OneHot": (0, -1),
}  # fmt: skip
"""Op -> (place of the indices, place of the data that they point into); -1: the depth is a number."""
_PASSING = frozenset("Cast Identity Reshape Squeeze Unsqueeze Flatten Transpose Slice Expand Concat".split())


def ranges_of(facts: Facts, inputs: Sequence[InputPair]) -> dict[str, tuple[int, int]]:
    """(0, highest) for every integer input that some Gather (or the like) reads as an index."""
    found: dict[str, tuple[int, int]] = {}
    for pair in inputs:
        kind = dtypes.BY_CODE.get(pair.dtype)
        if kind is None or kind.kind not in ("int", "uint") or kind.bits == 8:
            continue
        sizes = list(_reached(facts, pair.name, set()))
        if sizes:
            found[pair.name] = (0, min(sizes) - 1)
    return found


def _reached(facts: Facts, name: str, seen: set[str]) -> Iterator[int]:
    """Sizes of every axis that the value indexes, followed through ops that only pass it on."""
    if name in seen:
        return
    seen.add(name)
    for node in facts.main.graph.consumers.get(name, ()):
        if node.op in _PASSING and node.inputs[0] == name:
            yield from _reached(facts, node.outputs[0], seen)
        size = _indexed(facts, node, name)
        if size is not None and size > 0:
            yield size


def _indexed(facts: Facts, node: Node, name: str) -> int | None:
    place, data = _INDEXING.get(node.op, (-1, -1))
    if place < 0 or len(node.inputs) <= place or node.inputs[place] != name:
        return None
    if data < 0:
        depth = facts.value(node.inputs[1]).data
        return int(depth.items[0]) if depth is not None and isinstance(depth.items[0], int) else None
    shape = facts.value(node.inputs[data]).shape
    axis = node.attribute("axis")
    size = shape[axis if isinstance(axis, int) else 0] if shape else None
    return size if isinstance(size, int) else None
