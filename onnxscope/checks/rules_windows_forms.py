"""Rules about how windows are written: padding conventions, pools, transposed and dilated convolutions."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.analysis.facts import Facts
from onnxscope.checks._walk import (
    CONVOLUTIONS,
    POOLS,
    by,
    connected,
    nodes,
    spatial,
    text,
    whole,
)
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check

SAME = ("SAME_UPPER", "SAME_LOWER")
_PADDED = (*CONVOLUTIONS, *POOLS, "ConvTranspose")


@check("OX611", "even-kernel-with-same-size", severity="note")
def even_kernel(facts: Facts) -> Iterator[Finding]:
    """An even kernel that keeps the map's size shifts it by half a pixel.

    What it flags:
        A stride-1 convolution or pool with an even window whose output is as large as its input: one side is
        padded by one pixel more than the other.

    Why it matters:
        Every such layer moves the map by half a pixel against the image; boxes and masks drift, and branches
        with odd kernels no longer meet.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[1,1,2,2] w = {1,2,3,4}> {
          y = Conv <auto_pad = "SAME_UPPER"> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <auto_pad = "SAME_UPPER"> (x, w)
        }

    Fix and its safety:
        Use an odd kernel; needs retraining. Two such layers with opposite sides (SAME_UPPER, SAME_LOWER)
        cancel.

    Source:
        ONNX Operators.md, Conv, auto_pad; Wu et al., "Convolution with even-sized kernels", 2019.
    """
    for fact in facts.nodes():
        window = fact.inferred.window
        if window is None or window.transposed or set(window.strides) != {1} or not connected(fact):
            continue
        before = spatial(facts.value(fact.node.inputs[0], fact.scope).shape, window)
        after = spatial(facts.value(fact.node.outputs[0], fact.scope).shape, window)
        for axis, kernel in enumerate(window.kernel):
            same = (
                axis < len(before) == len(after) and before[axis] is not None and before[axis] == after[axis]
            )
            odd_total = isinstance(kernel, int) and window.dilations[axis] * (kernel - 1) % 2
            if same and odd_total:
                yield even_kernel.finding(
                    fact.label,
                    f"even kernel {by(window.kernel)} keeps the size {before[axis]}: the map shifts by "
                    "half a pixel",
                    "use an odd kernel",
                    kernel=list(window.kernel),
                )
                break


@check("OX612", "asymmetric-pads", severity="note")
def asymmetric_pads(facts: Facts) -> Iterator[Finding]:
    """Pads differ between the two sides of an axis.

    What it flags:
        A convolution or pool with explicit pads whose begin and end differ (typical of strided layers that
        were exported from TensorFlow's SAME).

    Why it matters:
        The map is centred off the image by half of the difference; some runtimes (NNAPI, older TensorRT,
        cuDNN convolutions) add a separate Pad in front, which copies the map.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,2,2] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <pads = [0, 0, 1, 1], strides = [2, 2]> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,5,5] x) => (float[1,1,3,3] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)
        }

    Fix and its safety:
        None without retraining; convert weights that were trained with asymmetric pads as they are.

    Source:
        ONNX Operators.md, Conv, pads; tensorflow-onnx issue 1028; cuDNN takes one pad per axis.
    """
    for fact in nodes(facts, *CONVOLUTIONS, *POOLS):
        pads = fact.node.attribute("pads")
        if text(fact.node.attribute("auto_pad"), "NOTSET") not in ("NOTSET", "") or not isinstance(
            pads, tuple
        ):
            continue
        half = len(pads) // 2
        if pads[:half] != pads[half:]:
            yield asymmetric_pads.finding(
                fact.label,
                f"asymmetric pads: {list(pads[:half])} at the begin, {list(pads[half:])} at the end",
                pads=list(pads),
            )


@check("OX613", "auto-pad-with-pads", severity="warning")
def auto_pad_with_pads(facts: Facts) -> Iterator[Finding]:
    """auto_pad and pads are both given.

    What it flags:
        A window op with auto_pad other than NOTSET and a pads attribute too.

    Why it matters:
        The specification forbids the pair; runtimes ignore the pads, other tools may ignore auto_pad: two
        shapes for one file.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <auto_pad = "SAME_UPPER", pads = [0, 0, 0, 0]> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <pads = [1, 1, 1, 1]> (x, w)
        }

    Fix and its safety:
        Keep explicit pads alone; safe where they are what auto_pad resolves to (`onnxscope report` prints
        it).

    Source:
        ONNX Operators.md, Conv: "pads cannot be used simultaneously with auto_pad attribute".
    """
    for fact in nodes(facts, *_PADDED):
        mode, pads = text(fact.node.attribute("auto_pad"), "NOTSET"), fact.node.attribute("pads")
        if mode not in ("NOTSET", "") and isinstance(pads, tuple) and pads:
            yield auto_pad_with_pads.finding(
                fact.label,
                f"auto_pad {mode} and pads {list(pads)} are both given",
                auto_pad=mode,
                pads=list(pads),
            )


@check("OX614", "auto-pad-on-pool", severity="note")
def auto_pad_on_pool(facts: Facts) -> Iterator[Finding]:
    """A pool uses the deprecated attribute auto_pad.

    What it flags:
        MaxPool, AveragePool or LpPool with auto_pad other than NOTSET.

    Why it matters:
        The attribute is deprecated for pools, and its sizes with dilation or ceil_mode differ between the
        specification and onnxruntime. The pads also change with the input size.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,2,2] y) {
          y = MaxPool <auto_pad = "VALID", kernel_shape = [2, 2], strides = [2, 2]> (x)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,2,2] y) {
          y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        }

    Fix and its safety:
        Write the pads that auto_pad resolves to (VALID: zeros); bit-equal at that input size.

    Source:
        ONNX Operators.md, MaxPool: "auto_pad is a DEPRECATED attribute".
    """
    for fact in nodes(facts, *POOLS):
        mode = text(fact.node.attribute("auto_pad"), "NOTSET")
        if mode not in ("NOTSET", ""):
            yield auto_pad_on_pool.finding(
                fact.label, f"{fact.node.op} uses auto_pad {mode}, deprecated for pools", auto_pad=mode
            )


@check("OX615", "same-padding-with-dilation", severity="error")
def same_dilated(facts: Facts) -> Iterator[Finding]:
    """auto_pad SAME with a dilated kernel: onnxruntime refuses it or pads for another window.

    What it flags:
        Conv or a pool with auto_pad SAME_UPPER or SAME_LOWER, a dilation above 1 and a kernel above 1 on that
        axis.

    Why it matters:
        onnxruntime's CPU convolution fails at run time; its pools pad for the undilated window, so the map is
        smaller than the specification says.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,8,8] x) => (float[1,1,8,8] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <auto_pad = "SAME_UPPER", dilations = [2, 2]> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,8,8] x) => (float[1,1,8,8] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (x, w)
        }

    Fix and its safety:
        Write the pads out: dilation*(kernel - 1), halved, the odd pixel at the end for SAME_UPPER (stride 1).
        Equal to the specification at every size for stride 1.

    Source:
        onnxruntime issue 20582; measured with onnxruntime 1.32 on the CPU.
    """
    for fact in nodes(facts, *CONVOLUTIONS, *POOLS):
        window, mode = fact.inferred.window, text(fact.node.attribute("auto_pad"))
        dilations = fact.node.attribute("dilations")
        if window is None or mode not in SAME or not isinstance(dilations, tuple):
            continue
        pairs = zip(window.kernel, window.dilations, strict=True)
        if any(dilation > 1 and kernel != 1 for kernel, dilation in pairs):
            yield same_dilated.finding(
                fact.label,
                f"auto_pad {mode} with dilations {list(window.dilations)}: onnxruntime's CPU kernels "
                "don't follow "
                "the specification",
                "write explicit pads",
                auto_pad=mode,
                dilations=list(window.dilations),
            )


@check("OX616", "global-pool-of-one-pixel", severity="note")
def global_pool_of_one(facts: Facts) -> Iterator[Finding]:
    """A global pool on a map of one pixel changes nothing.

    What it flags:
        GlobalAveragePool or GlobalMaxPool whose input is 1 along every spatial axis.

    Why it matters:
        It is a copy. Often the sign of an input smaller than the network was made for: there is nothing left
        to average.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,8,1,1] x) => (float[1,8,1,1] y) { y = GlobalAveragePool (x) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,8,7,7] x) => (float[1,8,1,1] y) { y = GlobalAveragePool (x) }

    Fix and its safety:
        Remove it (bit-equal), or feed the size that the network was trained for.

    Source:
        ONNX Operators.md, GlobalAveragePool.
    """
    for fact in nodes(facts, "GlobalAveragePool", "GlobalMaxPool"):
        shape = facts.value(fact.node.inputs[0], fact.scope).shape
        if shape is not None and len(shape) > 2 and all(size == 1 for size in shape[2:]):
            message = f"{fact.node.op} on a map of {by(shape[2:])}: there is nothing to pool"
            yield global_pool_of_one.finding(fact.label, message, "remove it, or feed a larger input")


@check("OX617", "padding-in-averages", severity="note")
def padding_in_averages(facts: Facts) -> Iterator[Finding]:
    """An average pool counts padding zeros as data.

    What it flags:
        AveragePool with pads and count_include_pad=1.

    Why it matters:
        Averages at the rim are pulled towards zero: a constant image gives a map with a darker border.
        Runtimes differ on it where ceil_mode adds windows.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y) {
          y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y) {
          y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)
        }

    Fix and its safety:
        Keep it where the network was trained so (PyTorch's default); for a new one set
        count_include_pad=False.

    Source:
        ONNX Operators.md, AveragePool, count_include_pad; onnx issue 4958.
    """
    for fact in nodes(facts, "AveragePool"):
        window = fact.inferred.window
        if window is not None and whole(fact.node.attribute("count_include_pad"), 0) and any(window.pads):
            yield padding_in_averages.finding(
                fact.label,
                f"averages at the rim count {list(window.pads)} pads as zeros (count_include_pad=1)",
                pads=list(window.pads),
            )


@check("OX618", "checkerboard-upsampling", severity="note")
def checkerboard(facts: Facts) -> Iterator[Finding]:
    """A transposed convolution whose kernel is no multiple of its stride paints a checkerboard.

    What it flags:
        ConvTranspose with a stride above 1 that doesn't divide the kernel: output pixels get sums of
        unequally many products.

    Why it matters:
        The overlap alternates from pixel to pixel, and with it brightness: a pattern that training rarely
        removes whole.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,9,9] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          y = ConvTranspose <strides = [2, 2]> (x, w)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,8,8] y) <float[1,1,2,2] w = {1,2,3,4}> {
          y = ConvTranspose <strides = [2, 2]> (x, w)
        }

    Fix and its safety:
        Use a kernel that is a multiple of the stride, or Resize and a convolution; needs retraining.

    Source:
        Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016.
    """
    for fact in nodes(facts, "ConvTranspose"):
        window = fact.inferred.window
        if window is None:
            continue
        pairs = zip(window.kernel, window.strides, strict=True)
        if any(isinstance(kernel, int) and kernel % stride for kernel, stride in pairs):
            yield checkerboard.finding(
                fact.label,
                f"kernel {by(window.kernel)} is no multiple of stride {by(window.strides)}: uneven overlap "
                "(checkerboard)",
                kernel=list(window.kernel),
                strides=list(window.strides),
            )
