"""Spectra and windows of signals.

Layouts: a signal is [..., length, 1] (real) or [..., length, 2] (complex: real and imaginary parts).
Source: ONNX Operators.md, DFT-17, -20, STFT-17, MelWeightMatrix-17, HannWindow-17.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Size
from onnxscope.ops._folding import size_in
from onnxscope.ops.registry import View, axis_of, op
from onnxscope.ops.value import Inferred, Unanswered, one


@op("DFT", since=17)
def dft_17(n: View, *, axis: int = 1, inverse: int = 0, onesided: int = 0) -> Inferred:
    """As DFT-20, with `axis` as an attribute that defaults to 1. Source: DFT-17."""
    return _dft(n, axis, bool(inverse), bool(onesided))


@op("DFT", since=20)
def dft(n: View, *, inverse: int = 0, onesided: int = 0) -> Inferred:
    """Y is X with L along the axis (input 2, default -2) and 2 at the end, L = dft_length or the size of X.

    Forward and one-sided: L//2 + 1 along the axis. Inverse and one-sided: L = dft_length or 2*(size - 1) real
    numbers, 1 at the end. Source: DFT-20.
    """
    axis: Size | None = size_in(n, 2) if n.has(2) else -2
    if axis is None and not onesided and not n.has(1):
        return one((*n.shape(0)[:-1], 2), n.dtype(0))  # no axis changes its size
    if axis is None:
        raise Unanswered("the axis is computed from data")
    return _dft(n, axis, bool(inverse), bool(onesided))


def _dft(n: View, axis: Size, inverse: bool, onesided: bool) -> Inferred:
    x = n.shape(0)
    place = axis_of(axis, len(x))
    length = size_in(n, 1) if n.has(1) else 2 * (x[place] - 1) if inverse and onesided else x[place]
    if length is None:
        length = n.unknown(place)
    elif onesided and not inverse:
        length = length // 2 + 1
    sizes = (*x[:place], length, *x[place + 1 : -1])
    return one((*sizes, 1 if inverse and onesided else 2), n.dtype(0))


@op("STFT", since=17)
def stft(n: View, *, onesided: int = 1) -> Inferred:
    """Y [N, frames, bins, 2] for X [N, L, 1 or 2] with frames = (L - frame_length)//frame_step + 1.

    bins = frame_length//2 + 1 where one-sided, else frame_length, which is input 3, else the length of the
    window (input 2), else L. Stays unknown: lengths and steps computed from data. Source: STFT-17.
    """
    batch, length = n.shape(0)[:2]
    step = size_in(n, 1)
    frame: Size | None = length
    if n.has(3) and size_in(n, 3) is not None:
        frame = size_in(n, 3)
    elif n.has(2):
        (frame,) = n.shape(2, rank=1)
    elif n.has(3):
        frame = None
    frames = n.unknown(1) if frame is None or step is None else (length - frame) // step + 1
    bins = n.unknown(2) if frame is None else frame // 2 + 1 if onesided else frame
    return one((batch, frames, bins, 2), n.dtype(0))


@op("BlackmanWindow", "HammingWindow", "HannWindow", since=17)
def window(n: View, *, output_datatype: int = dtypes.FLOAT) -> Inferred:
    """Y [size] for the size that the input holds. Source: HannWindow-17."""
    size = size_in(n, 0)
    return one((n.unknown(0) if size is None else size,), output_datatype)


@op("MelWeightMatrix", since=17)
def mel_weight_matrix(n: View, *, output_datatype: int = dtypes.FLOAT) -> Inferred:
    """Y [dft_length//2 + 1, num_mel_bins] for num_mel_bins (input 0) and dft_length (input 1).

    Source: MelWeightMatrix-17.
    """
    bins, length = size_in(n, 0), size_in(n, 1)
    rows = n.unknown(0) if length is None else length // 2 + 1
    return one((rows, n.unknown(1) if bins is None else bins), output_datatype)
