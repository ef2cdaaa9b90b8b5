"""Weights and constants moved to where a convolution wants them: other dims, other order, the same numbers.

Nothing is read here. Where only the dims change, the new tensor shares the storage of the old one, so that
the writer streams the bytes from file to file; else the numbers are permuted or scaled when they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts
from onnxscope.graph import Tensor

if TYPE_CHECKING:
    import numpy as np

SAME, PERMUTED, FOLDED = "same bytes", "permuted", "folded"


class Recipe(NamedTuple):
    """How new numbers follow from stored ones."""

    dims: tuple[int, ...]
    """Dims under which the stored numbers are seen first."""
    axes: tuple[int, ...] | None = None
    """Then transposed so."""
    scale: float = 1.0
    """Then multiplied."""
    fill: int = 0
    """Then, for a lone number: repeated so often."""

    @property
    def move(self) -> str:
        """`same bytes`, `permuted` or `folded`."""
        if self.scale != 1.0 or self.fill > 1:
            return FOLDED
        return SAME if self.axes is None or self._trivial else PERMUTED

    @property
    def _trivial(self) -> bool:
        """Whether the order of the numbers stays: only axes of size 1 change places."""
        kept = [axis for axis in self.axes or () if self.dims[axis] != 1]
        return kept == sorted(kept)


class Piece(NamedTuple):
    """A stretch of a stored constant along one axis: taken before anything else."""

    dims: tuple[int, ...]
    """Dims of the whole."""
    axis: int
    start: int
    stop: int


class Moved(NamedTuple):
    """Numbers that are computed from another tensor's when they are read."""

    source: Tensor
    recipe: Recipe
    piece: Piece | None = None

    @property
    def kind(self) -> str:
        """`raw`."""
        return "raw"

    @property
    def location(self) -> str:
        """Where the stored numbers are."""
        return self.source.storage.location if self.source.storage else "nowhere"

    def view(self) -> memoryview:
        """The bytes; the stored numbers are read now. Raises FileError where they can't be."""
        import numpy as np

        array = self.source.array()
        if self.piece is not None:
            inside = (slice(None),) * self.piece.axis
            array = array.reshape(self.piece.dims)[(*inside, slice(self.piece.start, self.piece.stop))]
        array = array.reshape(self.recipe.dims)
        if self.recipe.scale != 1.0:
            array = (array.astype(np.float64) * self.recipe.scale).astype(array.dtype)
        if self.recipe.axes is not None:
            array = array.transpose(self.recipe.axes)
        if self.recipe.fill > 1:
            array = np.broadcast_to(array.reshape(-1), (self.recipe.fill,))
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def moved(
    tensor: Tensor, recipe: Recipe, dims: Sequence[int], name: str, piece: Piece | None = None
) -> Tensor:
    """The tensor, or a piece of it, with its numbers moved, under new dims and another name."""
    made = replace(tensor, name=name, dims=tuple(dims), origin=None)
    if recipe.move == SAME and piece is None:
        return made
    return replace(made, storage=Moved(tensor, recipe, piece), external=())


class Source(NamedTuple):
    """Where the numbers of a constant come from."""

    name: str
    """Value at the start of the chain of constant nodes: an initializer, or the output of a node."""
    tensor: Tensor | None
    """Its stored numbers; None where a node makes them at run time."""
    dims: tuple[int, ...]
    """Dims of the constant itself."""
    turned: bool = False
    """Whether the constant is the stored matrix transposed."""
    filled: bool = False
    """Whether all numbers are one (ConstantOfShape)."""
    piece: Piece | None = None
    """The stretch of them that is meant, where it isn't all; `dims` are then its own."""

    def moved_by(self, recipe: Recipe) -> str:
        """`same bytes`, `permuted` or `folded`; a piece has other bytes."""
        return PERMUTED if self.piece is not None and recipe.move == SAME else recipe.move


def source_of(facts: Facts, name: str) -> Source | None:
    """The stored numbers behind a constant: through Identity and Transpose of a matrix, Reshape, Squeeze.

    None where its shape is unknown.
    """
    fact, shape = facts.value(name), facts.value(name).shape
    if shape is None or not all(isinstance(size, int) for size in shape):
        return None
    dims = tuple(size for size in shape if isinstance(size, int))
    producer = facts.main.graph.producers.get(name)
    if fact.tensor is not None:
        return Source(name, fact.tensor, dims)
    if producer is None:
        return None
    if producer.op == "ConstantOfShape":
        return Source(name, None, dims, filled=True)
    inner = source_of(facts, producer.inputs[0]) if producer.inputs and producer.op in _VIEWS else None
    if inner is None or (inner.tensor is None and not inner.filled):
        return Source(name, None, dims)
    if producer.op == "Transpose":
        if len(dims) != 2 or inner.turned:
            return Source(name, None, dims)
        turned = producer.attribute("perm") != (0, 1) and 1 not in dims
        return inner._replace(dims=dims, turned=turned)
    return Source(name, None, dims) if inner.turned else inner._replace(dims=dims)


_VIEWS = frozenset("Identity Transpose Reshape Squeeze Unsqueeze Flatten".split())


def numbers(facts: Facts, name: str) -> np.ndarray | None:
    """The content of a small constant as an array of its own type; None where unknown."""
    import numpy as np

    known, dtype = facts.value(name).known(), facts.value(name).dtype
    kind = dtypes.BY_CODE.get(dtype or 0)
    if known is None or kind is None or kind.bits is None:
        return None
    return np.array(known.items, dtype=kind.numpy).reshape(known.shape)


def count(dims: Sequence[int]) -> int:
    """Numbers in a tensor of these dims."""
    return prod(dims)
