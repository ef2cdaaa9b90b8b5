"""Forms: how one planned convolution is written. The plan is the same for all; only the lowering differs.

A form is a function `(lift, layer) -> name of the result`, registered in `FORMS`. It gets the layer with its
weight already moved to [M, C, *K] and adds the nodes; the result it names must be [N, M, *S'].

`rows` is none of these: it keeps the fully connected layer itself (`forms_rows`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from onnxscope.rewrite import opsets
from onnxscope.rewrite.lift import Lift
from onnxscope.rewrite.moving import reshape, transpose


@dataclass(frozen=True, slots=True)
class Planned:
    """A convolution to be written."""

    place: int
    """Index of the original node."""
    source: str
    """Provisional name of the map [N, C, *S]."""
    weight: str
    """Provisional name of the weight [M, C, *K]."""
    bias: str
    """Provisional name of the bias [M]; "" for none."""
    kernel: tuple[int, ...]
    channels: int
    features: int
    like: str
    """Original value whose twin the result is."""
    batch: int | None = None
    """N where it is a number."""


Form: TypeAlias = "Callable[[Lift, Planned], str]"


def conv(lift: Lift, planned: Planned) -> str:
    """One Conv: x [N, C, *S], W [M, C, *K], B [M] -> [N, M, *(S - K + 1)]; no padding, stride 1."""
    return _conv(lift, planned, planned.source, like=planned.like)


def _conv(
    lift: Lift,
    planned: Planned,
    source: str,
    *,
    like: str = "",
    strides: tuple[int, ...] | None = None,
    dilations: tuple[int, ...] | None = None,
) -> str:
    inputs = (source, planned.weight, *([planned.bias] if planned.bias else []))
    return lift.builder.emit(
        planned.place,
        "Conv",
        inputs,
        kernel_shape=planned.kernel,
        strides=strides,
        dilations=dilations,
        like=like,
        hint=planned.like,
    )


def fold(lift: Lift, planned: Planned) -> str:
    """The batch folded into the last spatial axis, which is unfolded: one image for the Conv, stride K there.

    x [N, C, S1.., W] -> [C, S1.., N, W', K] -> [1, C, S1.., N*W'*K] -> Conv with strides 1.., K ->
    [1, M, S1'.., N*W'] -> [N, M, S1'.., W'], W' = W - K + 1. An image's windows never reach into its
    neighbour: every K positions in a row are one window.
    """
    place, d, k = planned.place, len(planned.kernel), planned.kernel[-1]
    value = transpose(lift, place, planned.source, (1, *range(2, d + 1), 0, d + 1))
    if k > 1:
        value = opsets.unsqueezed(lift, place, value, d + 2)
        value = opsets.shifted(lift, place, value, d + 1, k, d + 2)
    pair = opsets.sizes(lift, place, value, d, d + 2)
    value = opsets.unsqueezed(lift, place, reshape(lift, place, value, (*(0,) * d, -1)), 0)
    value = _conv(lift, planned, value, strides=(*(1,) * (d - 1), k))
    shape = opsets.sizes_joined(lift, place, [lift.builder.ints((0,) * d, "shape"), pair])
    value = opsets.reshaped_to(lift, place, opsets.squeezed(lift, place, value, 0), shape)
    return transpose(lift, place, value, (d, *range(d), d + 1), like=planned.like)


def interleave(lift: Lift, planned: Planned) -> str:
    """The images of a batch of B interleaved along the last axis; the Conv is dilated by B there.

    x [B, C, S1.., W] -> [C, S1.., W, B] -> [1, C, S1.., W*B] -> Conv with dilations 1.., B ->
    [1, M, S1'.., W'*B] -> [B, M, S1'.., W']. Every B-th position is of one image: none reaches another.
    Raises ValueError where the batch is no number above 1.
    """
    if planned.batch is None or planned.batch < 2:
        raise ValueError("interleave needs a batch that is a number above 1")
    place, d, batch = planned.place, len(planned.kernel), planned.batch
    value = transpose(lift, place, planned.source, (*range(1, d + 2), 0))
    value = opsets.unsqueezed(lift, place, reshape(lift, place, value, (*(0,) * d, -1)), 0)
    value = _conv(lift, planned, value, dilations=(*(1,) * (d - 1), batch))
    value = opsets.squeezed(lift, place, value, 0)
    value = reshape(lift, place, value, (*(0,) * d, -1, batch))
    return transpose(lift, place, value, (d + 1, *range(d + 1)), like=planned.like)


ROWS = "rows"
FORMS: dict[str, Form] = {"conv": conv, "fold": fold, "interleave": interleave}
AVAILABLE = (*FORMS, ROWS)
"""Names of all forms but `auto`."""
