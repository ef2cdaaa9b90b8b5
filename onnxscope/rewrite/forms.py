"""Forms: how one planned convolution is written. The plan is the same for all; only the lowering differs.

A form is a function `(lift, layer) -> name of the result`, registered in `FORMS`. It gets the layer with its
weight already moved to [M, C, *K] and adds the nodes; the result it names must be [N, M, *S']. Where a form
makes one long image of a batch, the layers and tail ops behind run on that (`folding`), and the result is
restored where something needs it.

`rows` is none of these: it keeps the fully connected layer itself (`forms_rows`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import NamedTuple, TypeAlias

from onnxscope import dtypes
from onnxscope.graph import Tensor
from onnxscope.rewrite import opsets
from onnxscope.rewrite.builder import Folded, Frame
from onnxscope.rewrite.lift import Lift
from onnxscope.rewrite.moving import reshape, transpose


class Planned(NamedTuple):
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
    halved: bool = False
    """Whether kernel and channels are those of a weight seen as [M, (C, 2), K1/2, ..]."""


HEAVY, _PARTS = 100_000_000, 4
"""Bytes of a weight from which the memory that a session starts with matters; convolutions that share it."""
Steps: TypeAlias = "tuple[str, int] | None"
"""`strides` or `dilations`, and the number along the last axis."""
Form: TypeAlias = "Callable[[Lift, Planned], str]"


def conv(lift: Lift, planned: Planned) -> str:
    """One Conv: x [N, C, *S], W [M, C, *K], B [M] -> [N, M, *(S - K + 1)]; no padding, stride 1."""
    return _conv(lift, planned, planned.source, like=planned.like)


def _conv(lift: Lift, planned: Planned, source: str, *, like: str = "", steps: Steps = None) -> str:
    """The Conv itself; `steps` are its strides or dilations along the last axis."""
    inputs = (source, planned.weight, *([planned.bias] if planned.bias else []))
    kind, last = steps or ("", 1)
    along = (*(1,) * (len(planned.kernel) - 1), last)
    return lift.builder.emit(
        planned.place,
        "Conv",
        inputs,
        kernel_shape=planned.kernel,
        strides=along if kind == "strides" else None,
        dilations=along if kind == "dilations" else None,
        like=like,
        hint=planned.like,
    )


def fold(lift: Lift, planned: Planned) -> str:
    """The batch folded into the last spatial axis, which is unfolded: one image for the Conv, stride K there.

    x [N, C, S1.., W] -> [S1.., N, W', K*C] -> [1, C, S1.., N*W'*K] -> Conv with strides 1.., K ->
    [1, M, S1'.., N*W'], W' = W - K + 1; whatever acts on every position runs on that, `folding` says what,
    and at the end of it [N, M, S1'.., W'] is restored. An image's windows never reach into its neighbour:
    every K positions in a row are one window.
    """
    inside = _inside(lift, planned)
    if inside is not None:
        return inside
    planned = _halved(lift, planned)
    source = _entered(lift, planned, "fold", _fold)
    return _finished(lift, planned, source, ("strides", planned.kernel[-1]))


def _halved(lift: Lift, planned: Planned) -> Planned:
    """A kernel as one half as high on twice the channels, where that is quicker: the same numbers in order.

    For four images onnxruntime's Conv reads its weights twice, in blocks of 4 KB for each place of the kernel
    (16 by 64 channels): of 8 places they stay in a first-level cache of 32 KB, of 16 they don't. Measured at
    4x4 and batch 4: 1.10 against 1.15 times the Gemm with 8 MB, 0.82 against 0.91 with 134 MB. Half of 6x6
    doesn't fit either, and copying costs 4 % on larger maps.
    """
    weight, (first, *others) = lift.builder.tensors.get(planned.weight), planned.kernel
    if weight is None or not others or first % 2 or not 8 < prod(planned.kernel) <= 16:
        return planned
    kernel, channels = (first // 2, *others), 2 * planned.channels
    lift.builder.tensors[planned.weight] = replace(weight, dims=(planned.features, channels, *kernel))
    return planned._replace(kernel=kernel, channels=channels, halved=True)


def interleave(lift: Lift, planned: Planned) -> str:
    """The images of a batch of B interleaved along the last axis; the Conv is dilated by B there.

    x [B, C, S1.., W] -> [C, S1.., W, B] -> [1, C, S1.., W*B] -> Conv with dilations 1.., B ->
    [1, M, S1'.., W'*B], on which the rest runs as with `fold`. Every B-th position is of one image: none
    reaches another. Raises ValueError where the batch is no number above 1.
    """
    if planned.batch is None or planned.batch < 2:
        raise ValueError("interleave needs a batch that is a number above 1")
    inside = _inside(lift, planned)
    if inside is not None:
        return inside
    source = _entered(lift, planned, "interleave", _interleave)
    return _finished(lift, planned, source, ("dilations", planned.batch))


def _inside(lift: Lift, planned: Planned) -> str | None:
    """A Conv 1x1 on a batch that is one long image already; None where it isn't, or the kernel is larger."""
    found = lift.builder.folded.get(planned.source)
    if found is None or any(size != 1 for size in planned.kernel):
        return None
    return _finished(lift, planned, found)


def _finished(lift: Lift, planned: Planned, source: Folded, steps: Steps = None) -> str:
    parts = parts_of(lift.builder.tensors.get(planned.weight), planned.features)
    value = _in_parts(lift, planned, source.value, steps, parts)
    return lift.builder.unfolded(planned.place, value, source.frame, planned.like)


def parts_of(weight: Tensor | None, features: int) -> int:
    """How many convolutions share a weight's features, so that a session starts with less memory.

    onnxruntime holds four copies of each convolution's weight while it writes it in its blocked layout: for
    VGG's head 2.3 times the original's peak with one, 1.4 with four, for 2 % of time (measured). A part
    must be whole blocks of 64 features.
    """
    size = dtypes.byte_size(weight.dtype, prod(weight.dims)) if weight is not None else None
    return _PARTS if (size or 0) >= HEAVY and features % (64 * _PARTS) == 0 else 1


def _in_parts(lift: Lift, planned: Planned, source: str, steps: Steps, parts: int) -> str:
    """The Conv, or several that share its features; the weight stays one tensor, for a Split."""
    if parts == 1:
        return _conv(lift, planned, source, steps=steps)
    weights = opsets.split(lift, planned.place, planned.weight, parts, planned.features)
    biases = ("",) * parts
    if planned.bias:
        biases = opsets.split(lift, planned.place, planned.bias, parts, planned.features)
    made = [
        _conv(lift, planned._replace(weight=weight, bias=bias), source, steps=steps)
        for weight, bias in zip(weights, biases, strict=True)
    ]
    return lift.builder.emit(planned.place, "Concat", made, axis=1, hint=planned.like)


def _entered(lift: Lift, planned: Planned, layout: str, write: Callable[[Lift, Planned], Folded]) -> Folded:
    """The map as one long image, written once for all layers that read it with the same kernel."""
    cut = (planned.kernel[-1], planned.halved and planned.kernel[0]) if layout == "fold" else ()
    key = (layout, planned.source, len(planned.kernel), cut)
    found = lift.builder.frames
    if key not in found:
        found[key] = write(lift, planned)
    return found[key]


def _fold(lift: Lift, planned: Planned) -> Folded:
    """[N, *S, C] -> [N, S1.., W', K*C] -> [1, S1.., N, W', K*C] -> [1, C, S1.., N*W'*K].

    Cut with the channels last, so that what is copied lies together (up to 8 times quicker, measured). The
    reshape in the middle keeps onnxruntime from making one transposition of two, which would move numbers one
    by one (18 times as long, measured).
    """
    place, d, k = planned.place, len(planned.kernel), planned.kernel[-1]
    batch = opsets.sizes(lift, place, planned.source, 0, 1)
    value = _upper_and_lower(lift, planned) if planned.halved else planned.source
    value = transpose(lift, place, value, (0, *range(2, d + 2), 1))
    if k > 1:
        value = opsets.shifted(lift, place, value, d, k, d + 1)
    value = reshape(lift, place, value, (*(0,) * d, 1, -1, k * planned.channels))
    value = transpose(lift, place, value, (d, *range(1, d), 0, d + 1, d + 2))
    value = reshape(lift, place, value, (*(0,) * d, -1, planned.channels))
    lift.windows.add(value)
    value = transpose(lift, place, value, (0, d + 1, *range(1, d + 1)))

    def unfold(place: int, value: str, like: str) -> str:
        ints = lift.builder.ints
        shape = opsets.sizes_joined(lift, place, [ints((0,) * d, "shape"), batch, ints((-1,), "shape")])
        value = opsets.reshaped_to(lift, place, opsets.squeezed(lift, place, value, 0), shape)
        return transpose(lift, place, value, (d, *range(d), d + 1), like=like)

    return Folded(value, Frame("fold", d + 2, None, unfold))


def _upper_and_lower(lift: Lift, planned: Planned) -> str:
    """[N, C, S1, ..] -> [N, (C, 2), S1 - K1/2, ..]: each row beside the one K1/2 below it."""
    place, half = planned.place, planned.kernel[0]
    upper = opsets.sliced(lift, place, planned.source, 2, 0, -half)
    lower = opsets.sliced(lift, place, planned.source, 2, half, opsets.LAST)
    value = lift.builder.emit(place, "Concat", (upper, lower), axis=2, hint=planned.like)
    return reshape(lift, place, value, (0, planned.channels, -1, *(0,) * (len(planned.kernel) - 1)))


def _interleave(lift: Lift, planned: Planned) -> Folded:
    place, d, batch = planned.place, len(planned.kernel), planned.batch or 1
    value = transpose(lift, place, planned.source, (*range(1, d + 2), 0))
    value = opsets.unsqueezed(lift, place, reshape(lift, place, value, (*(0,) * d, -1)), 0)

    def unfold(place: int, value: str, like: str) -> str:
        value = opsets.squeezed(lift, place, value, 0)
        value = reshape(lift, place, value, (*(0,) * d, -1, batch))
        return transpose(lift, place, value, (d + 1, *range(d + 1)), like=like)

    return Folded(value, Frame("interleave", d + 2, batch, unfold))


ROWS = "rows"
FORMS: dict[str, Form] = {"conv": conv, "fold": fold, "interleave": interleave}
