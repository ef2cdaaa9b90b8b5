"""Detection: boxes chosen from many, and regions of interest cut from a map.

Source: ONNX Operators.md, NonMaxSuppression-10, -11, RoiAlign-10..22, MaxRoiPool-1, -22; onnxruntime
ContribOperators.md.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Unanswered, one


@op("NonMaxSuppression", since=10)
def non_max_suppression(n: View) -> Inferred:
    """Y [selected, 3] of int64: batch, class and box index of every box kept.

    How many are kept only running the model tells; none without max_output_boxes_per_class (input 2) or where
    it is 0. Source: NonMaxSuppression-11.
    """
    most = n.known(2)
    none = not n.has(2) or (most is not None and most.items[:1] == (0,))
    return one((0 if none else n.unknown(0), 3), dtypes.INT64)


@op("RoiAlign", since=10)
def roi_align(n: View, *, output_height: int = 1, output_width: int = 1) -> Inferred:
    """X [N, C, H, W], rois [R, 4], batch_indices [R] -> Y [R, C, output_height, output_width].

    Source: RoiAlign-22.
    """
    x, rois, indices = n.shape(0, 4), n.shape(1, 2), n.shape_or_none(2)
    agree = (("rois and batch_indices", rois[0], indices[0]),) if indices else ()
    return one((rois[0], x[1], output_height, output_width), n.dtype(0), agree=agree)


@op("MaxRoiPool")
def max_roi_pool(n: View, *, pooled_shape: tuple[int, ...] = ()) -> Inferred:
    """X [N, C, H, W], rois [R, 5] -> Y [R, C, *pooled_shape]. Source: MaxRoiPool-22."""
    x, rois = n.shape(0, 4), n.shape(1, 2)
    if len(pooled_shape) != 2:
        raise Unanswered(f"pooled_shape needs a height and a width, it has {len(pooled_shape)} entries")
    return one((rois[0], x[1], *pooled_shape), n.dtype(0))


@op("CropAndResize", domain="com.microsoft")
def crop_and_resize(n: View) -> Inferred:
    """X [N, C, H, W], rois [R, 4], crop_size (height, width) as input 3 -> Y [R, C, height, width].

    Source: onnxruntime ContribOperators.md.
    """
    x, rois, sizes = n.shape(0, 4), n.shape(1, 2), n.sizes(3)
    if len(sizes) != 2:
        raise Unanswered(f"crop_size needs a height and a width, it has {len(sizes)} entries")
    return one((rois[0], x[1], *sizes), n.dtype(0))
