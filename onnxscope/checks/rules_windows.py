"""Rules about windows: what a convolution or pool reads of its map, and what it never reads."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import (
    CONVOLUTIONS,
    POOLS,
    by,
    connected,
    dense,
    items,
    operand,
    producer,
    spatial,
)
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check
from onnxscope.ops.value import Window


def windows(facts: Facts) -> Iterator[tuple[NodeFact, Window]]:
    """Every convolution and pool (transposed ones apart) with its window, kernel and pads as numbers."""
    for fact in facts.nodes():
        window = fact.inferred.window
        if window is None or window.transposed or not connected(fact):
            continue
        if dense((*window.kernel, *window.pads)) is not None:
            yield fact, window


def _lost(window: Window, axis: int, size: int | None, cells: int | None) -> int:
    """Pixels behind the last window along an axis; 0 where sizes are free or none is lost."""
    begin = window.pads[axis]
    if size is None or cells is None or not isinstance(begin, int):
        return 0
    end = (cells - 1) * window.strides[axis] - begin + _cover(window, axis)
    return size - end if 0 < end < size else 0


@check("OX601", "unread-border-pixels", severity="warning")
def unread_border(facts: Facts) -> Iterator[Finding]:
    """The last rows or columns of a map are never read.

    What it flags:
        A convolution or pool whose stride doesn't divide (size + pads - kernel): the windows stop before the
        end, and pixels behind the last window reach nothing. Only pixels that no other node reads are
        counted; padding that goes unread is no loss.

    Why it matters:
        Whatever the lost rows show, the network can't see it; two images that differ only there get one
        answer. It also shifts the centre of the map.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,6,6] x) => (float[1,1,2,2] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <strides = [2, 2]> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,7,7] x) => (float[1,1,3,3] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <strides = [2, 2]> (x, w)
        }

    Fix and its safety:
        Choose an input size that fits (`onnxscope report` prints `exact_input_step`), pad at the end, or crop
        the image on purpose. Padding and size change the outputs: retrain or measure.

    Source:
        ONNX Operators.md, Conv: output size is rounded down; cs231n, "Convolutional Networks", constraints on
        strides.
    """
    for fact, window in windows(facts):
        if len(_readers(facts, fact)) > 1:
            continue
        before = spatial(facts.value(fact.node.inputs[0], fact.scope).shape, window)
        after = spatial(facts.value(fact.node.outputs[0], fact.scope).shape, window)
        for axis, (size, cells) in enumerate(zip(before, after, strict=False)):
            lost, step = _lost(window, axis, size, cells), window.strides[axis]
            lost -= min(lost, _appended(facts, fact, axis, window))
            if size and lost and step <= _cover(window, axis):
                unread = f"pixel {size - 1}" if lost == 1 else f"pixels {size - lost} to {size - 1}"
                yield unread_border.finding(
                    fact.label,
                    f"discarded border pixels: {unread} of {size} along spatial axis {axis} never read "
                    f"((size + pads - kernel) leaves a remainder at stride {step})",
                    "choose a size without remainder, or pad at the end",
                    axis=axis,
                    size=size,
                    lost=lost,
                    stride=step,
                )


def _appended(facts: Facts, fact: NodeFact, axis: int, window: Window) -> int:
    """Pixels at the end of the map that a Pad in front of the window added: nothing is lost with them."""
    node = producer(facts, fact.scope, fact.node.inputs[0])
    if node is None or node.op != "Pad" or window.channels_last:
        return 0
    given = node.attribute("pads") or items(facts, fact.scope, operand(node, 1))
    ends = given[len(given) // 2 :][2:] if isinstance(given, tuple) else ()
    found = ends[axis] if axis < len(ends) == len(window.kernel) else 0
    return max(found, 0) if isinstance(found, int) else 0


def _readers(facts: Facts, fact: NodeFact) -> tuple[object, ...]:
    return facts.scopes[fact.scope].graph.consumers.get(fact.node.inputs[0], ())


def _cover(window: Window, axis: int) -> int:
    kernel = window.kernel[axis]
    return window.dilations[axis] * (kernel - 1) + 1 if isinstance(kernel, int) else 1


@check("OX602", "stride-larger-than-kernel", severity="warning")
def stride_larger(facts: Facts) -> Iterator[Finding]:
    """A stride larger than the kernel skips pixels between windows.

    What it flags:
        A convolution or pool whose stride exceeds what its window covers, where no other node reads the same
        map (in a residual block the other branch often does).

    Why it matters:
        The pixels between the windows are computed and thrown away: work without effect, and information that
        the rest of the network never gets.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,8,8] x) => (float[1,1,4,4] y) <float[1,1,1,1] w = {2}> {
          y = Conv <strides = [2, 2]> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,8,8] x) => (float[1,1,4,4] y) <float[1,1,2,2] w = {1,2,3,4}> {
          y = Conv <strides = [2, 2]> (x, w)
        }

    Fix and its safety:
        Use a kernel at least as wide as the stride, or average before subsampling; needs retraining.

    Source:
        He et al., "Bag of Tricks for Image Classification with CNNs", 2019, section 4.1 (ResNet-B, -D).
    """
    for fact, window in windows(facts):
        gaps = [i for i, step in enumerate(window.strides) if step > _cover(window, i)]
        sizes = spatial(facts.value(fact.node.inputs[0], fact.scope).shape, window)
        if any(sizes[i] == 1 for i in gaps if i < len(sizes)):
            continue
        if gaps and len(_readers(facts, fact)) == 1:
            axis = gaps[0]
            share = prod(min(1.0, _taps(window, i) / step) for i, step in enumerate(window.strides))
            yield stride_larger.finding(
                fact.label,
                f"stride {window.strides[axis]} is larger than the window of {_cover(window, axis)}: "
                f"about {share:.0%} of the map is read",
                "use a kernel at least as wide as the stride",
                stride=window.strides[axis],
                window=_cover(window, axis),
                share_read=share,
            )


def _taps(window: Window, axis: int) -> int:
    kernel = window.kernel[axis]
    return kernel if isinstance(kernel, int) else 1


@check("OX603", "kernel-wider-than-map", severity="warning")
def kernel_wider(facts: Facts) -> Iterator[Finding]:
    """Some weights of a kernel only ever meet padding.

    What it flags:
        A padded convolution on a map so small that rows or columns of its kernel never lie on a real pixel.

    Why it matters:
        Those weights are stored and multiplied with zeros: work and bytes without effect.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,1,1] x) => (float[1,1,1,1] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <pads = [1, 1, 1, 1]> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,3,3] x) => (float[1,1,3,3] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <pads = [1, 1, 1, 1]> (x, w)
        }

    Fix and its safety:
        At this input size the kernel can be cropped to its live part and the pads lowered with it: bit-equal
        up to the order of sums. For other sizes keep it.

    Source:
        ONNX Operators.md, Conv: padding adds zeros.
    """
    for fact, window in windows(facts):
        if fact.node.op not in CONVOLUTIONS:
            continue
        before = spatial(facts.value(fact.node.inputs[0], fact.scope).shape, window)
        after = spatial(facts.value(fact.node.outputs[0], fact.scope).shape, window)
        sizes = enumerate(zip(before, after, strict=False))
        live = [_live(window, i, size, cells) for i, (size, cells) in sizes]
        if len(live) == len(window.kernel) and any(n < _taps(window, i) for i, n in enumerate(live)):
            yield kernel_wider.finding(
                fact.label,
                f"kernel {by(window.kernel)} is wider than its map {by(before)} needs: only "
                f"{by(tuple(live))} "
                "of it ever meets real pixels, the rest padding",
                "crop the kernel for this input size, or use a larger input",
                kernel=list(window.kernel),
                live=live,
                map=list(before),
            )


def _live(window: Window, axis: int, size: int | None, cells: int | None) -> int:
    """Taps of the kernel along an axis that meet a pixel at some position."""
    taps, begin, step = _taps(window, axis), window.pads[axis], window.strides[axis]
    if size is None or cells is None or not isinstance(begin, int):
        return taps
    gap = window.dilations[axis]
    return sum(_meets(tap * gap - begin, step, cells, size) for tap in range(min(taps, 4096)))


def _meets(first: int, step: int, cells: int, size: int) -> bool:
    """Whether one of first, first + step, ... (`cells` of them) lies in [0, size)."""
    skipped = max(0, -(first // step)) if first < 0 else 0
    return skipped < cells and 0 <= first + skipped * step < size


@check("OX604", "pad-beyond-kernel", severity="warning")
def pad_beyond_kernel(facts: Facts) -> Iterator[Finding]:
    """Whole windows lie in the padding.

    What it flags:
        A pad at least as wide as the window: the outermost windows see no pixel at all.

    Why it matters:
        A convolution gives its bias there, a maximum the lowest number, an average 0/0; onnxruntime refuses
        such pools.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,8,8] y) <float[1,1,2,2] w = {1,2,3,4}> {
          y = Conv <pads = [3, 3, 2, 2]> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,5,5] y) <float[1,1,2,2] w = {1,2,3,4}> {
          y = Conv <pads = [1, 1, 1, 1]> (x, w)
        }

    Fix and its safety:
        Lower the pads below the window; the map shrinks by the windows that saw nothing.

    Source:
        onnxruntime, PoolAttributes: "Pad should be smaller than kernel"; PyTorch: at most half of the kernel.
    """
    for fact, window in windows(facts):
        rank = len(window.kernel)
        wide = [
            i for i, pad in enumerate(window.pads)
            if isinstance(pad, int) and _taps(window, i % rank) > 1 and pad >= _cover(window, i % rank)
        ]  # fmt: skip
        if wide:
            axis = wide[0] % rank
            yield pad_beyond_kernel.finding(
                fact.label,
                f"pad {window.pads[wide[0]]} is as wide as the window of {_cover(window, axis)} along "
                "spatial axis "
                f"{axis}: the outermost windows see padding only",
                "lower the pads",
                pads=list(window.pads),
                kernel=list(window.kernel),
            )


@check("OX605", "pointwise-with-pads", severity="warning")
def pointwise_with_pads(facts: Facts) -> Iterator[Finding]:
    """A 1x1 convolution with padding adds a rim of bias.

    What it flags:
        A convolution whose kernel is 1 along every axis and whose pads aren't all 0.

    Why it matters:
        Padding serves windows that reach over the edge; a 1x1 window never does. The map grows by a rim that
        holds only the bias, which later layers take for data.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,6,6] y) <float[1,1,1,1] w = {2}> {
          y = Conv <pads = [1, 1, 1, 1]> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[1,1,1,1] w = {2}> {
          y = Conv (x, w)
        }

    Fix and its safety:
        Set the pads to 0 and check what the layers behind expect; the outputs change.

    Source:
        ONNX Operators.md, Conv: pads add zeros at both ends.
    """
    for fact, window in windows(facts):
        if fact.node.op in CONVOLUTIONS and set(window.kernel) == {1} and any(window.pads):
            yield pointwise_with_pads.finding(
                fact.label,
                f"a {by(window.kernel)} convolution with pads {list(window.pads)}: the rim of its map "
                "holds only "
                "the bias",
                "set the pads to 0",
                pads=list(window.pads),
            )


@check("OX606", "kernel-of-one-pool", severity="note")
def kernel_of_one(facts: Facts) -> Iterator[Finding]:
    """A pool with a window of one pixel pools nothing.

    What it flags:
        MaxPool, AveragePool or LpPool whose kernel is 1 along every axis.

    Why it matters:
        With stride 1 it is a copy; with a larger stride it only drops pixels, which a stride in the layer
        before does for less work.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y) {
          y = MaxPool <kernel_shape = [1, 1]> (x)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,2,2] y) {
          y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        }

    Fix and its safety:
        Remove it (stride 1, no pads: bit-equal), or move its stride into the layer before.

    Source:
        ONNX Operators.md, MaxPool.
    """
    for fact, window in windows(facts):
        if fact.node.op in POOLS and set(window.kernel) == {1}:
            does = "drops pixels only" if max(window.strides) > 1 else "changes nothing"
            yield kernel_of_one.finding(
                fact.label,
                f"{fact.node.op} with kernel {by(window.kernel)} and stride {by(window.strides)} {does}",
                "remove it, or stride the layer before",
                strides=list(window.strides),
            )
