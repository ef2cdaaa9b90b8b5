"""Rules about stored numbers: what the one pass over the weights found."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.params import Params
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import places
from onnxscope.checks.registry import check
from onnxscope.checks.weights import TensorStatistics, Weights
from onnxscope.graph import Model

_SUBNORMAL_SHARE = 0.001
_UNDERFLOW_SHARE = 0.01
_SMALL = 1024
"""Tensors with fewer numbers are settings and biases: shares of them say little."""
_EXPLODED = 1e6


def layer_weights(
    params: Params, weights: Weights, *kinds: str, role: str = "weight"
) -> Iterator[tuple[str, TensorStatistics]]:
    """(layer, statistics) of every stored tensor that layers of these kinds use, each tensor once."""
    stored = {id(found.tensor): found for found in weights if found.tensor is not None}
    seen: set[int] = set()
    for layer in params.layers.values():
        kind = layer.fact.rule.kind if layer.fact.rule else "other"
        for parameter in layer.parameters:
            found = stored.get(parameter.key) if isinstance(parameter.key, int) else None
            wanted = (not kinds or kind in kinds) and (not role or parameter.role == role)
            if found is not None and wanted and id(found) not in seen:
                seen.add(id(found))
                yield layer.fact.label, found


def _kind(found: TensorStatistics) -> str:
    dtype = dtypes.BY_CODE.get(found.tensor.dtype) if found.tensor is not None else None
    return dtype.kind if dtype else ""


LAYERS = ("conv", "conv_transpose", "fc")


@check("OX301", "nan-weights", severity="error")
def nan_weights(model: Model, weights: Weights) -> Iterator[Finding]:
    """Stored numbers are NaN.

    What it flags:
        A stored tensor with at least one NaN. Trees of ai.onnx.ml, whose NaN separates sets, are left out.

    Why it matters:
        One NaN in a weight makes every output that depends on it NaN, silently. It comes from diverged
        training or from a conversion to a narrower type.

    Bad: see tests/checks/test_rules_weights.py

    Good: see tests/checks/test_rules_weights.py

    Fix and its safety:
        Export from a checkpoint before the training diverged; nothing in the file can restore the number.

    Source:
        IEEE 754, section 6.2: operations on NaN give NaN.
    """
    trees = {
        id(attribute.value)
        for place in places(model)
        for node in place.graph.nodes
        if node.domain == "ai.onnx.ml"
        for attribute in node.attributes
    }
    for found in weights:
        if found.nan and id(found.tensor) not in trees:
            at = f", the first at flat index {found.first_bad}" if found.first_bad is not None else ""
            yield nan_weights.finding(
                found.label,
                f"{found.nan} of {found.count} numbers are NaN{at}",
                "export again from a sound checkpoint",
                nan=found.nan,
                count=found.count,
            )


@check("OX302", "infinite-weights", severity="error")
def infinite_weights(params: Params, weights: Weights) -> Iterator[Finding]:
    """Weights of a layer are infinite.

    What it flags:
        Infinities in the weights, biases or statistics of a convolution, fully connected layer or
        normalization. Masks that are added elsewhere may hold -inf on purpose and aren't flagged.

    Why it matters:
        Inf times 0 and Inf minus Inf are NaN: outputs break for most inputs. Typical after a conversion to
        float16.

    Bad: see tests/checks/test_rules_weights.py

    Good: see tests/checks/test_rules_weights.py

    Fix and its safety:
        Export again; when converting to float16, keep that layer in float32.

    Source:
        IEEE 754, sections 6.1 and 7.2.
    """
    for layer, found in layer_weights(params, weights, *LAYERS, "norm", role=""):
        if found.inf:
            yield infinite_weights.finding(
                found.label,
                f"{found.inf} of {found.count} numbers are infinite (used by {layer})",
                "export again, or keep the layer in float32",
                inf=found.inf,
                count=found.count,
            )


@check("OX303", "subnormal-weights", severity="warning")
def subnormal_weights(weights: Weights) -> Iterator[Finding]:
    """Many weights are subnormal: products with them are slow on CPUs.

    What it flags:
        A float32 or float64 tensor of at least 1,024 numbers with more than 0.1 % subnormal ones.

    Why it matters:
        CPUs handle subnormal numbers in microcode: slow-downs of 5 to 34 times have been reported. They are
        so small (below 1.2e-38) that 0 gives the same answers.

    Bad: see tests/checks/test_rules_weights.py

    Good: see tests/checks/test_rules_weights.py

    Fix and its safety:
        Set them to 0 (changes products by less than 1.2e-38 times the input), or run with onnxruntime's
        session option `session.set_denormal_as_zero` = 1.

    Source:
        onnxruntime issues 7448, 6865, 5117.
    """
    for found in weights:
        wide = found.tensor is not None and found.tensor.dtype in (dtypes.FLOAT, dtypes.DOUBLE)
        if wide and found.count >= _SMALL and found.subnormal > _SUBNORMAL_SHARE * found.count:
            yield subnormal_weights.finding(
                found.label,
                f"{found.subnormal} of {found.count} numbers ({found.subnormal / found.count:.1%}) are "
                "subnormal",
                "set them to 0, or run with session.set_denormal_as_zero",
                subnormal=found.subnormal,
                count=found.count,
            )


@check("OX304", "weights-beyond-float16", severity="note")
def beyond_float16(weights: Weights) -> Iterator[Finding]:
    """Numbers that float16 can't hold become infinite when converted.

    What it flags:
        Finite numbers of magnitude 65520 or more in a float tensor.

    Why it matters:
        A float16 conversion turns them into infinities; a mask of -3.4e38 becomes -inf, and a row that is
        masked whole gives NaN in Softmax.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float[2] m = {0, -1000000000}> { y = Add (x, m) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <float[2] m = {0, -10000}> { y = Add (x, m) }

    Fix and its safety:
        Before converting, lower masks to -1e4 (as good for Softmax), or keep the node in float32.

    Source:
        IEEE 754 binary16: largest number 65504; onnxconverter-common issue 323.
    """
    for found in weights:
        if found.fp16_overflow and _kind(found) == "float":
            yield beyond_float16.finding(
                found.label,
                f"{found.fp16_overflow} of {found.count} numbers are beyond float16 (largest "
                f"{found.largest:.3g})",
                "keep it in float32 when converting to float16",
                overflow=found.fp16_overflow,
                largest=found.largest,
            )


@check("OX305", "weights-below-float16", severity="note")
def below_float16(params: Params, weights: Weights) -> Iterator[Finding]:
    """Many weights become 0 in float16.

    What it flags:
        A weight tensor of at least 1,024 numbers of which more than 1 % are too small for float16 (magnitude
        below 3e-8) though not 0.

    Why it matters:
        A conversion to float16 drops them. Often whole channels died in training and hold only such crumbs.

    Bad: see tests/checks/test_rules_weights.py

    Good: see tests/checks/test_rules_weights.py

    Fix and its safety:
        Prune what is dead; scale the layer (and the next one back) where the numbers matter.

    Source:
        IEEE 754 binary16: smallest subnormal number 2**-24, halves of it round to 0.
    """
    for layer, found in layer_weights(params, weights):
        tiny = found.fp16_underflow
        if found.count >= _SMALL and _kind(found) == "float" and tiny > _UNDERFLOW_SHARE * found.count:
            yield below_float16.finding(
                found.label,
                f"{tiny} of {found.count} numbers ({tiny / found.count:.1%}) become 0 in float16 (used by "
                f"{layer})",
                underflow=tiny,
                count=found.count,
            )


@check("OX306", "all-zero-weights", severity="warning")
def all_zero(params: Params, weights: Weights) -> Iterator[Finding]:
    """A layer's weight is zero throughout.

    What it flags:
        The weight of a convolution or fully connected layer whose numbers are all 0.

    Why it matters:
        The layer ignores its input. Usually the checkpoint wasn't loaded, or a zero-initialized branch was
        never trained.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {0, 0, 0, 0}> { y = MatMul (x, w) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {0, 1, 1, 0}> { y = MatMul (x, w) }

    Fix and its safety:
        Load the right checkpoint and export again; a branch that is zero on purpose can be removed, bit-equal
        up to signs of zero.

    Source:
        onnxsim numeric lint, "dead op".
    """
    for layer, found in layer_weights(params, weights, *LAYERS):
        if found.count and found.zeros == found.count:
            yield all_zero.finding(
                found.label,
                f"all {found.count} weights of {layer} are zero",
                "was the checkpoint loaded?",
                count=found.count,
            )


@check("OX307", "zero-filters", severity="note")
def zero_filters(params: Params, weights: Weights) -> Iterator[Finding]:
    """Some filters of a convolution are zero throughout.

    What it flags:
        A convolution's weight with output channels that hold only zeros (not all of them).

    Why it matters:
        Those channels are constant: they can be removed with everything that reads them, which saves work in
        two layers.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,3,3] x) => (float[1,2,2,2] y)
        <float[2,1,2,2] w = {1, 2, 3, 4, 0, 0, 0, 0}> { y = Conv (x, w) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,3,3] x) => (float[1,2,2,2] y)
        <float[2,1,2,2] w = {1, 2, 3, 4, 4, 3, 2, 1}> { y = Conv (x, w) }

    Fix and its safety:
        Prune them, and add their constant (bias, activation) to the next layer's bias; exact without padding.

    Source:
        Li et al., "Pruning Filters for Efficient ConvNets", 2017.
    """
    for layer, found in layer_weights(params, weights, "conv"):
        if found.zero_filter_count > 0 and found.zeros < found.count:
            first = ", ".join(map(str, found.zero_filters[:5]))
            yield zero_filters.finding(
                found.label,
                f"{found.zero_filter_count} filters of {layer} are all zero (channels {first}"
                f"{', ...' if found.zero_filter_count > 5 else ''})",
                "prune them",
                filters=list(found.zero_filters),
                number=found.zero_filter_count,
            )


@check("OX308", "duplicate-filters", severity="note")
def duplicate_filters(params: Params, weights: Weights) -> Iterator[Finding]:
    """Filters of a convolution repeat each other bit for bit.

    What it flags:
        A convolution with a kernel of more than one number per filter, where output channels equal an earlier
        one (all-zero ones apart).

    Why it matters:
        The same map is computed twice; trained filters never are equal, so this hints at a copied, tied or
        untrained layer.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,3,3] x) => (float[1,2,2,2] y)
        <float[2,1,2,2] w = {1, 2, 3, 4, 1, 2, 3, 4}> { y = Conv (x, w) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,3,3] x) => (float[1,2,2,2] y)
        <float[2,1,2,2] w = {1, 2, 3, 4, 4, 3, 2, 1}> { y = Conv (x, w) }

    Fix and its safety:
        Where the biases are equal too, compute the channel once and add up the columns of the next layer's
        weight that read it: exact up to rounding.

    Source:
        RoyChowdhury et al., "Reducing Duplicate Filters in Deep Neural Networks", 2017.
    """
    for layer, found in layer_weights(params, weights, "conv"):
        dims = found.tensor.dims if found.tensor is not None else ()
        grouped = layer and len(dims) > 1 and dims[1] == 1 and dims[0] > 1 and _depthwise(params, found)
        if found.duplicate_filters and not grouped and found.count > (dims[0] if dims else 0):
            yield duplicate_filters.finding(
                found.label,
                f"{found.duplicate_filters} filters of {layer} repeat an earlier one bit for bit",
                duplicates=found.duplicate_filters,
            )


def _depthwise(params: Params, found: TensorStatistics) -> bool:
    """Whether the tensor is the weight of a grouped convolution: equal filters then read other channels."""
    users = (
        layer for layer in params.layers.values() if any(p.key == id(found.tensor) for p in layer.parameters)
    )
    return any(isinstance(n := layer.fact.node.attribute("group"), int) and n > 1 for layer in users)


@check("OX309", "exploded-weights", severity="warning")
def exploded(params: Params, weights: Weights) -> Iterator[Finding]:
    """Weights are far beyond any trained size.

    What it flags:
        A float weight of a convolution or fully connected layer with a number beyond a million.

    Why it matters:
        Trained weights are around 1. Such numbers come from diverged training, or from a BatchNorm with
        almost no variance folded in; they drown everything else and overflow narrower types.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1, 0, 0, 5000000}> { y = MatMul (x, w) }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1, 0, 0, 5}> { y = MatMul (x, w) }

    Fix and its safety:
        Look at the channel in the checkpoint; retrain or prune it.

    Source:
        Experience; He et al., "Delving Deep into Rectifiers", 2015, for the size of healthy weights.
    """
    for layer, found in layer_weights(params, weights, *LAYERS):
        if _kind(found) == "float" and found.largest > _EXPLODED:
            yield exploded.finding(
                found.label, f"weights of {layer} reach {found.largest:.3g}", largest=found.largest
            )
