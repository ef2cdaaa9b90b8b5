"""Which layer of the original became which values of a conversion: its provenance entry, read.

The entry says only where to look. What each layer computes is taken from the original file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from onnxscope.errors import FileError
from onnxscope.graph import Model
from onnxscope.rewrite.plan import PROVENANCE

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array


@dataclass(frozen=True, slots=True)
class Move:
    """A weight or bias on its way from one file to the other."""

    original: str
    candidate: str
    how: str
    """same bytes, permuted or folded."""
    axes: tuple[int, ...] = ()
    """Axes of the map in the order that the weight's inputs are flattened in, batch axis 0 left out."""


@dataclass(frozen=True, slots=True)
class LayerLink:
    """One fully connected layer and the convolution in its place."""

    node: str
    """Label of the original node."""
    input: str
    """The original 2-D input value."""
    output: str
    """The original 2-D result, bias included."""
    candidate_input: str
    candidate_output: str
    kernel: tuple[int, ...]
    weight: Move
    bias: Move | None
    dilations: tuple[int, ...] = ()
    """Steps between the cells of a window; () for 1."""
    images: int = 1
    """Images that the layer takes at once: more than one where the batch is built into it."""
    parts: tuple[LayerLink, ...] = ()
    """The convolutions whose sum it is, where the layer reads several maps or vectors."""
    feature_map: str = ""
    """The map that a part reads; "" for a vector from outside, and for a layer that is no part."""


@dataclass(frozen=True, slots=True)
class Folding:
    """Values of a head whose batch lies in the candidate as one long image."""

    layout: str
    """fold: [1, C, S1.., N*W], image after image; interleave: [1, C, S1.., W*N], images cell by cell."""
    values: dict[str, str]
    """The original's value -> the candidate's."""

    def unfolded(self, value: Array, batch: int) -> Array:
        """The maps [N, C, *S] in a value that is folded. Raises ValueError where N doesn't divide it."""
        fold = self.layout == "fold"
        parts = (batch, -1) if fold else (-1, batch)
        return np.moveaxis(value[0].reshape(*value.shape[1:-1], *parts), -2 if fold else -1, 0)


@dataclass(frozen=True, slots=True)
class HeadLink:
    """One head: the layers behind one feature map."""

    feature_map: str
    """Value that both models have, [N, C, *S] in the candidate."""
    channels: int
    window: tuple[int, ...]
    """Native spatial size of the map."""
    pool: str | None
    """average, max or sum where a pool of the window stands in front of the layers; None for a flatten."""
    pool_kernel: tuple[int, ...] | None
    """Kernel of the pool in the candidate; None where it stayed global."""
    layers: tuple[LayerLink, ...]
    folding: Folding | None = None
    dilations: tuple[int, ...] = ()
    """Steps between the cells of the window on a map that was made denser; () for 1."""
    pool_output: str = ""
    """The candidate's result of the pool, where it isn't one node; "" for the pool behind the map."""

    candidate_map: str = ""
    """The candidate's map under another name, such as a denser one where `feature_map` is an output that
    keeps the original's cells; else ""."""
    axes: tuple[int, ...] = ()
    """Axes of the candidate's map in the order in which the original has them; () for the same."""

    def original(self, value: Array) -> Array:
        """A map of the candidate, or windows of one, with the original's order of axes."""
        return value.transpose(self.axes) if self.axes else value

    def candidate(self, value: Array) -> Array:
        """A map of the original with the candidate's order of axes, [N, C, *S]."""
        return value.transpose(np.argsort(self.axes)) if self.axes else value

    @property
    def read_map(self) -> str:
        """The candidate's value in front of the head."""
        return self.candidate_map or self.feature_map

    @property
    def several(self) -> bool:
        """Whether a layer reads more than one map, so that windows of the first don't say it all."""
        return any(len({p.feature_map for p in layer.parts if p.feature_map}) > 1 for layer in self.layers)


def common(model: Model) -> dict[str, tuple[int, ...]]:
    """What a denser conversion declares: value -> per axis, every how many cells the original has one.

    Raises FileError where the entry is no JSON of the expected form.
    """
    return _parsed(
        model,
        lambda entry: {
            name: tuple(int(step) for step in steps) for name, steps in entry.get("common", {}).items()
        },
    )


def read(model: Model) -> tuple[HeadLink, ...]:
    """The heads that a conversion declares; () for a model without the entry.

    Raises FileError where the entry is no JSON of the expected form.
    """
    return _parsed(model, of_record)


_T = TypeVar("_T")


def _parsed(model: Model, read_entry: Callable[[dict[str, Any]], _T]) -> _T:
    """What a function makes of the entry, {} where there is none."""
    try:
        return read_entry(json.loads(dict(model.metadata).get(PROVENANCE) or "{}"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"the metadata entry {PROVENANCE} can't be understood: {error!r}"
        raise FileError(problem, where=model.path) from None


def of_record(record: dict[str, Any]) -> tuple[HeadLink, ...]:
    """The heads of a provenance record, `Plan.provenance` of a conversion."""
    return tuple(_head(head) for head in record.get("heads", ()))


def _head(head: dict[str, Any]) -> HeadLink:
    pool, folded = head.get("pool") or {}, head.get("folded")
    kernel = pool.get("kernel")
    return HeadLink(
        head["feature_map"],
        int(head["channels"]),
        tuple(head["window"]),
        pool.get("kind"),
        None if kernel is None else tuple(kernel),
        tuple(_layer(layer, folded or {}) for layer in head["layers"]),
        Folding(folded["layout"], dict(folded["values"])) if folded else None,
        tuple(head.get("dilations") or ()),
        pool.get("output", ""),
        head.get("candidate_map", ""),
        tuple(head.get("axes") or ()),
    )


def _layer(layer: dict[str, Any], folded: dict[str, Any]) -> LayerLink:
    weight, bias = layer["weight"], layer.get("bias")
    return LayerLink(
        layer["node"],
        layer["input"],
        layer["output"],
        layer["candidate_input"],
        layer["candidate_output"],
        tuple(layer["kernel"]),
        _move(weight),
        _move(bias) if bias else None,
        tuple(layer.get("dilations") or ()),
        1 if layer["candidate_input"] in folded.get("values", {}).values() else folded.get("batch") or 1,
        tuple(_layer(part, folded) for part in layer.get("parts") or ()),
        layer.get("feature_map", ""),
    )


def _move(move: dict[str, Any]) -> Move:
    return Move(
        move["original"], move["candidate"], move.get("move", "same bytes"), tuple(move.get("axes") or ())
    )
