"""Rules about stored tensors as wholes: copies, waste, types, and what quantization would do to them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.params import Params
from onnxscope.checks import alike
from onnxscope.checks._walk import nodes, tensor, whole
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check
from onnxscope.checks.rules_weights import LAYERS, layer_weights
from onnxscope.checks.weights import TensorStatistics, Weights
from onnxscope.errors import FileError
from onnxscope.graph import Tensor, captures

_CRUSHED_SHARE = 0.2
_SPARSE_SHARE = 0.5
_SMALL = 1024
"""Tensors with fewer numbers (or bytes) say little."""
_READ = 1 << 22
"""Numbers of a tensor that a rule reads once more itself."""


@check("OX311", "duplicate-tensors", severity="note")
def duplicate_tensors(weights: Weights) -> Iterator[Finding]:
    """The same numbers are stored several times.

    What it flags:
        Tensors of at least 1,024 bytes with equal type, shape and bytes.

    Why it matters:
        Every copy costs file size, download and memory; tied weights (embedding and output layer) that were
        split double their size.

    Bad: see tests/checks/test_rules_weights.py

    Good: see tests/checks/test_rules_weights.py

    Fix and its safety:
        Let all nodes read one initializer: bit-equal.

    Source:
        pytorch issue 108342; scs4onnx.
    """

    def key(found: TensorStatistics) -> tuple[str, int, tuple[int, ...]]:
        return (found.digest, found.tensor.dtype, found.tensor.dims) if found.tensor else ("", 0, ())

    stored = [f for f in weights if f.tensor is not None and f.count > 1 and _nbytes(f) >= _SMALL]
    for _, same in groupby(sorted(stored, key=key), key):
        group = list(same)
        if len(group) > 1:
            wasted = _nbytes(group[0]) * (len(group) - 1)
            names = ", ".join(found.label for found in group[1:4])
            yield duplicate_tensors.finding(
                group[0].label,
                f"stored {len(group)} times ({names}{', ...' if len(group) > 4 else ''}): {wasted:,} "
                "bytes wasted",
                "keep one initializer for all",
                copies=len(group),
                wasted_bytes=wasted,
            )


@check("OX318", "near-duplicate-tensors", severity="note")
def near_duplicates(weights: Weights) -> Iterator[Finding]:
    """The same numbers are stored several times, but for rounding.

    What it flags:
        Float tensors of at least 1,024 bytes with equal type and shape, whose bytes differ (equal ones are
        OX311's) though every number does so by 2**-8 of its magnitude plus 2**-24 at most: what a detour
        through float16 or bfloat16 does. Constant tensors are left out. Of tensors with almost equal sums of
        a sample, eight are compared with each other.

    Why it matters:
        Every copy costs file size, download and memory; tied weights of which one half went through a
        narrower type, or averaged weights beside the trained ones, are usually meant to be one tensor.

    Bad: see tests/checks/test_rules_weights.py

    Good: see tests/checks/test_rules_weights.py

    Fix and its safety:
        Let all nodes read one of them: outputs change by its rounding; measure with `onnxscope verify`.

    Source:
        IEEE 754 binary16; bfloat16, whose rounding is 2**-9 of a number at most.
    """
    stored = [f for f in weights if f.tensor is not None and _nbytes(f) >= _SMALL and f.largest > f.smallest]
    for first, copies in alike.groups(stored):
        names = ", ".join(found.label for found, _ in copies[:3])
        difference = max(difference for _, difference in copies)
        yield near_duplicates.finding(
            first.label,
            f"stored {len(copies) + 1} times but for rounding ({names}{', ...' if len(copies) > 3 else ''}): "
            f"numbers differ by {difference:.3g} at most, the largest is {first.largest:.3g}",
            "keep one initializer for all",
            copies=len(copies) + 1,
            largest_difference=difference,
        )


def _nbytes(found: TensorStatistics) -> int:
    return (found.tensor.nbytes or 0) if found.tensor is not None else 0


@check("OX312", "unused-initializer", severity="note", fix="onnxslim MODEL OUT")
def unused_initializer(facts: Facts) -> Iterator[Finding]:
    """A stored tensor that no node reads.

    What it flags:
        An initializer of the main graph that is no node's input, no output and read by no subgraph.

    Why it matters:
        Dead weight in the file, in its download, and in memory while it loads.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Relu (x) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }

    Fix and its safety:
        Remove it: bit-equal.

    Source:
        onnx-doctor SIM001.
    """
    graph = facts.main.graph
    read = {name for node in graph.nodes for name in (*node.inputs, *captures(node))}
    read |= {info.name for info in graph.outputs}
    for found in graph.tensors:
        if found.name not in read:
            yield unused_initializer.finding(
                found.name,
                f"no node reads it ({found.nbytes or 0:,} bytes)",
                bytes=found.nbytes or 0,
            )


@check("OX313", "weights-that-int8-crushes", severity="note")
def crushed(params: Params, weights: Weights) -> Iterator[Finding]:
    """One scale per tensor would quantize many weights to 0.

    What it flags:
        A float weight of a convolution or fully connected layer, of at least 1,024 numbers, where symmetric
        int8 with one scale per tensor rounds more than 20 % of the nonzero numbers to 0.

    Why it matters:
        A few large numbers set the scale and the rest drowns below half a step: such layers lose most
        accuracy in quantization. Depthwise layers with a folded BatchNorm are the usual case.

    Bad: see tests/checks/test_rules_weights.py

    Good: see tests/checks/test_rules_weights.py

    Fix and its safety:
        Quantize per channel, equalize the layers' ranges first, or leave this layer in float.

    Source:
        Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019.
    """
    for layer, found in layer_weights(params, weights, *LAYERS):
        if found.crushed is not None and found.count >= _SMALL and found.crushed > _CRUSHED_SHARE:
            yield crushed.finding(
                found.label,
                f"symmetric int8 per tensor would round {found.crushed:.0%} of the weights of {layer} to 0",
                "quantize it per channel",
                share=found.crushed,
            )


@check("OX314", "float64-weights", severity="warning")
def float64_weights(params: Params, weights: Weights) -> Iterator[Finding]:
    """A layer's weights are float64.

    What it flags:
        Weights of a layer that are stored as float64.

    Why it matters:
        Twice the bytes, half the speed or less, and no kernel at all on most accelerators (onnxruntime has no
        float64 convolution on the CPU either). Usually a numpy default that slipped in.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (double[1,2] x) => (double[1,2] y) <double[2,2] w = {0, 1, 1, 0}> { y = MatMul (x, w) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {0, 1, 1, 0}> { y = MatMul (x, w) }

    Fix and its safety:
        Export in float32; outputs change by rounding (relative 6e-8 per operation).

    Source:
        onnxruntime OperatorKernels.md: types of Conv and Gemm per provider.
    """
    for layer, found in layer_weights(params, weights):
        if found.tensor is not None and found.tensor.dtype == dtypes.DOUBLE:
            yield float64_weights.finding(
                found.label, f"float64 weights of {layer} ({_nbytes(found):,} bytes)", "export in float32"
            )


@check("OX315", "constant-weights", severity="note")
def constant_weights(params: Params, weights: Weights) -> Iterator[Finding]:
    """All weights of a layer are one and the same number.

    What it flags:
        The weight of a convolution or fully connected layer, of at least 16 numbers, that are all equal and
        not 0.

    Why it matters:
        The layer only averages; unless that is meant (a box filter), it was never trained.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,1,1] y)
        <float[1,1,4,4] w = {3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3}> { y = Conv (x, w) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,1,1,1] y)
        <float[1,1,4,4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}> { y = Conv (x, w) }

    Fix and its safety:
        Load the trained checkpoint; a box filter is cheaper as AveragePool (equal up to rounding).

    Source:
        onnxsim numeric lint, constant tensors.
    """
    for layer, found in layer_weights(params, weights, *LAYERS):
        equal = found.count >= 16 and found.largest == found.smallest > 0 and not (found.zeros or found.nan)
        if equal and not found.inf and found.tensor is not None and _all_equal(found.tensor):
            yield constant_weights.finding(
                found.label,
                f"all {found.count} weights of {layer} have magnitude {found.largest:.6g} and one sign",
                "was it trained?",
                value=found.largest,
            )


def _all_equal(stored: Tensor) -> bool:
    """Whether all numbers are equal, given that their magnitudes are."""
    try:
        numbers = stored.array().reshape(-1)[:_READ]
    except (FileError, TypeError, ValueError):
        return False
    return bool((numbers == numbers[0]).all())


@check("OX316", "sparse-weights", severity="note")
def sparse(params: Params, weights: Weights) -> Iterator[Finding]:
    """More than half of a layer's weights are 0.

    What it flags:
        A weight of a convolution or fully connected layer, of at least 1,024 numbers, that is mostly zeros,
        and whether every 4 neighbours along the input axis hold at least 2 zeros (the 2:4 pattern).

    Why it matters:
        A dense kernel multiplies the zeros all the same. NVIDIA's sparse tensor cores take the 2:4 pattern at
        up to twice the speed; whole zero channels can be pruned; the file compresses well.

    Bad: see tests/checks/test_rules_weights.py

    Good: see tests/checks/test_rules_weights.py

    Fix and its safety:
        TensorRT: build with sparsity enabled; elsewhere prune whole channels. Exact.

    Source:
        Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021; polygraphy `inspect sparsity`.
    """
    for layer, found in layer_weights(params, weights, *LAYERS):
        if found.count < _SMALL or found.zeros <= _SPARSE_SHARE * found.count or found.zeros == found.count:
            continue
        pattern = found.tensor is not None and _two_of_four(found.tensor)
        yield sparse.finding(
            found.label,
            f"{found.zeros / found.count:.0%} of the weights of {layer} are 0; the 2:4 pattern "
            f"{'holds' if pattern else 'does not hold'}",
            zeros=found.zeros,
            count=found.count,
            two_of_four=pattern,
        )


def _two_of_four(stored: Tensor) -> bool:
    """Whether of every 4 neighbours along axis 1 at least 2 are 0."""
    if stored.count > _READ or len(stored.dims) < 2 or stored.dims[1] % 4:
        return False
    try:
        numbers = stored.array()
    except (FileError, TypeError, ValueError):
        return False
    rows = numbers.reshape(stored.dims[0], stored.dims[1] // 4, 4, -1)
    return bool(((rows == 0).sum(axis=2) >= 2).all())


@check("OX317", "replicated-channel-filters", severity="note")
def replicated_channels(facts: Facts) -> Iterator[Finding]:
    """The filters of the three colour channels are equal: a grey-scale net inflated to RGB.

    What it flags:
        A convolution without groups on 3 channels whose weight has W[:,0] == W[:,1] == W[:,2].

    Why it matters:
        The layer only sees the sum of the channels. Feeding the sum (or the grey image times 3) to one filter
        does the same with a third of the weights and work.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,3,4,4] x) => (float[1,1,3,3] y)
        <float[1,3,2,2] w = {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4}> { y = Conv (x, w) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,3,4,4] x) => (float[1,1,3,3] y)
        <float[1,3,2,2] w = {1, 2, 3, 4, 4, 3, 2, 1, 2, 2, 3, 3}> { y = Conv (x, w) }

    Fix and its safety:
        Sum the weight over its channels and feed one channel: equal up to rounding for grey images times 3.

    Source:
        Wightman, timm `adapt_input_conv`, which makes such weights for grey input.
    """
    for fact in nodes(facts, "Conv"):
        stored = tensor(facts, fact, 1)
        small = stored is not None and len(stored.dims) > 2 and stored.dims[1] == 3 and stored.count <= _READ
        if stored is None or not small or whole(fact.node.attribute("group"), 1) != 1:
            continue
        try:
            numbers = stored.array()
        except (FileError, TypeError, ValueError):
            continue
        same = (numbers[:, 0] == numbers[:, 1]).all() and (numbers[:, 1] == numbers[:, 2]).all()
        if same and numbers.any():
            yield replicated_channels.finding(
                fact.label,
                f"{stored.name}[:,0] == [:,1] == [:,2]: replicated channel filters, it only sees the "
                "channels' sum",
                "sum the weight over its channels and feed one",
                weight=stored.name,
            )
