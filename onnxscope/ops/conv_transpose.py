"""Transposed convolutions and Col2Im: ops whose strides enlarge the map.

Layouts: X [N, C, *S], W [C, M/group, *K], Y [N, M, *S'].
Source: ONNX Operators.md, ConvTranspose-1, -11, -22, Col2Im-18.
"""

from __future__ import annotations

from onnxscope.expr import Size, Worked, at_least, product, worked_product
from onnxscope.ops._windows import SAME, halves, spread
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered, Window, one

Ints = tuple[int, ...]


@op("ConvTranspose", kind="conv_transpose", multiplies=True)
@op("ConvTransposeWithDynamicPads", domain="com.microsoft", kind="conv_transpose", multiplies=True)
def conv_transpose(
    n: View,
    *,
    kernel_shape: Ints = (),
    strides: Ints = (),
    pads: Ints = (),
    dilations: Ints = (),
    output_padding: Ints = (),
    output_shape: Ints = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Inferred:
    """Y [N, M, *S'] with S' = stride*(S - 1) + output_padding + dilation*(kernel - 1) + 1 - pads.

    MACs: every *input* element meets M/group*prod(K) weights. `output_shape` (spatial axes, or all of them)
    overrides pads; SAME gives S' = stride*S. Pads are then derived: total = the size without pads - S', the
    odd pixel at the end for SAME_UPPER, else at the start. SAME with a window smaller than its stride stays
    unknown: the specification fills up to stride*S, onnxruntime doesn't. The form with dynamic pads has them
    as input 2. Source: ConvTranspose-22.
    """
    x, w = n.shape(0), n.shape(1)
    if len(x) < 3 or len(w) != len(x):
        raise Unanswered(
            f"{n.node.op} needs X and W of one rank, at least 3; got ranks {len(x)} and {len(w)}"
        )
    rank = len(x) - 2
    if n.node.op == "ConvTransposeWithDynamicPads" and n.has(2):
        pads = n.ints(2)
    steps, gaps = spread(strides, rank, 1), spread(dilations, rank, 1)
    kernel: Shape = tuple(kernel_shape) or w[2:]
    if len(kernel) != rank or (pads and len(pads) != 2 * rank):
        raise Unanswered(
            f"kernel_shape has {len(kernel)} and pads {len(pads)} entries for {rank} spatial axes"
        )
    full = _without_pads(x[2:], steps, spread(output_padding, rank, 0), gaps, kernel)
    axes, sides = _padded(n, x[2:], full, steps, tuple(pads), _wanted(output_shape, rank), auto_pad)
    if any(isinstance(axis.value, int) and axis.value < 1 for axis in axes):
        raise Unanswered(f"pads leave nothing of the output: {', '.join(map(str, axes))}")
    y = (x[0], w[1] * group, *(axis.value for axis in axes))
    macs = worked_product(x) * worked_product((*w[2:], w[1]))
    window = Window(kernel, steps, sides, gaps, group, transposed=True)
    agree: tuple[tuple[str, Size, Size], ...] = (("input channels and weight", x[1], w[0]),)
    agree += tuple(("kernel_shape and the weight", k, s) for k, s in zip(kernel, w[2:], strict=True))
    return one(y, n.dtype(0), macs=macs, axes=axes, window=window, agree=agree)


def _without_pads(spatial: Shape, steps: Ints, extra: Ints, gaps: Ints, kernel: Shape) -> tuple[Worked, ...]:
    rows = zip(spatial, steps, extra, gaps, kernel, strict=True)
    return tuple(
        Worked.of(step) * (Worked.of(size) - 1) + more + Worked.of(gap) * (Worked.of(k) - 1) + 1
        for size, step, more, gap, k in rows
    )


def _wanted(output_shape: Ints, rank: int) -> Ints:
    """Sizes asked for per spatial axis; () where none are."""
    if output_shape and len(output_shape) not in (rank, rank + 2):
        raise Unanswered(f"output_shape has {len(output_shape)} entries for {rank} spatial axes")
    return tuple(output_shape)[-rank:] if output_shape else ()


def _padded(
    n: View, spatial: Shape, full: tuple[Worked, ...], steps: Ints, pads: Ints, wanted: Ints, auto_pad: str
) -> tuple[tuple[Worked, ...], Shape]:
    """(output sizes, pads): from pads, or the other way round."""
    rank = len(spatial)
    if wanted:
        axes = tuple(Worked.of(size) for size in wanted)
    elif auto_pad in SAME:
        axes = tuple(_same(n, i, spatial[i], steps[i], full[i]) for i in range(rank))
    else:
        sides = pads if pads and auto_pad in ("NOTSET", "") else (0,) * (2 * rank)
        return tuple(_cut(full[i], sides[i], sides[i + rank]) for i in range(rank)), sides
    totals = [whole.value - axis.value for whole, axis in zip(full, axes, strict=True)]
    return axes, halves(totals, auto_pad)


def _cut(full: Worked, begin: int, end: int) -> Worked:
    return full - (2 * Worked.of(begin) if begin == end else Worked.of(begin) + end)


def _same(n: View, axis: int, size: Size, stride: int, full: Worked) -> Worked:
    """stride*size where the window is at least as large as the stride, else unknown (readings differ)."""
    wanted = Worked.of(size) * stride
    return wanted if at_least(full.value, wanted.value) else Worked.of(n.unknown(axis + 2))


@op("Col2Im", since=18)
def col2im(n: View) -> Inferred:
    """X [N, C*prod(block), L] -> Y [N, C, *image_shape]; blocks that overlap are added. Source: Col2Im-18."""
    x, image, block = n.shape(0, 3), n.sizes(1), n.sizes(2)
    cells = product(block)
    if isinstance(x[1], int) and isinstance(cells, int) and (cells < 1 or x[1] % cells):
        raise Unanswered(f"a block of {cells} cells doesn't divide the {x[1]} columns")
    return one((x[0], x[1] // cells, *image), n.dtype(0))
