"""OX520-OX525: where parameters go, and what could be folded away."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks._walk import nodes, producer, tensor
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check
from onnxscope.checks.rules_graph import together
from onnxscope.graph import Node, domain_of
from onnxscope.rewrite.heads import HeadLayer


@check("OX520", "fc-dominates", severity="note")
def fc_dominates(heads: tuple[HeadLayer, ...]) -> Iterator[Finding]:
    """One fully connected layer holds most of the parameters.

    What it flags:
        A fully connected layer with at least half of all parameters, in a model with more than one layer.

    Why it matters:
        Size and memory traffic of the whole model are that one layer's; a global pool or a convolution in its
        place is far smaller.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 2] y) <
            float[1, 1, 1, 1] k = {1}, float[16, 2] w =
            {0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1}
        > {
            h = Conv(x, k)
            f = Flatten(h)
            y = MatMul(f, w)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 2, 2] x) => (float[1, 1] y) <
            float[1, 1, 3, 3] k = {0,1,2,3,4,5,6,7,8}, float[1, 1] w = {1}
        > {
            h = Conv <pads = [1, 1, 1, 1]> (x, k)
            p = GlobalAveragePool(h)
            f = Flatten(p)
            y = MatMul(f, w)
        }

    Fix and its safety:
        A design choice: retrain with a global pool. `onnxscope convert` keeps the parameters and frees the
        size.

    Source:
        Lin, Chen, Yan, "Network In Network", 2014, section 3.2.
    """
    for layer in heads:
        share = layer.share_of_params
        if share is not None and 0.5 <= share < 1:
            text = f"fully connected layer {layer.layer} holds {share:.0%} of all parameters"
            yield fc_dominates.finding(layer.layer, text, share=share)


@check("OX521", "convertible-fc", severity="note", fix="onnxscope convert MODEL -o OUT")
def convertible_fc(heads: tuple[HeadLayer, ...]) -> Iterator[Finding]:
    """The fully connected head can become convolutions.

    What it flags:
        Fully connected layers on a flattened feature map with more than one cell; one finding.

    Why it matters:
        As convolutions the same weights take any larger image and give a map of answers in one pass.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 2, 2] x) => (float[1, 2] y) <
            float[1, 1, 1, 1] k = {1}, float[4, 2] w = {0, 1, 2, 3, 4, 5, 6, 7}
        > {
            h = Conv(x, k)
            f = Flatten(h)
            y = MatMul(f, w)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 4] x) => (float[1, 2] y) <float[4, 2] w = {0, 1, 2, 3, 4, 5, 6, 7}> {
            y = MatMul(x, w)
        }

    Fix and its safety:
        `onnxscope convert MODEL -o OUT`: the weights' bits stay, and the result is proved before it is saved.

    Source:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015, section 3.1.
    """
    wide = [layer for layer in heads if layer.replaceable and any(size > 1 for size in layer.kernel or ())]
    if wide:
        text = f"fully connected layer {wide[0].layer} pins the input size; it could be {wide[0].becomes}"
        more = f", and {len(wide) - 1} more" if len(wide) > 1 else ""
        yield convertible_fc.finding(wide[0].layer, text + more, layers=len(wide))


@check("OX522", "foldable-constants", severity="note", fix="onnxslim MODEL OUT")
def foldable_constants(facts: Facts) -> Iterator[Finding]:
    """Nodes that compute the same constant in every run.

    What it flags:
        Nodes that read stored numbers only (Constant itself, Identity and dequantized weights apart) and make
        tensors; one finding.

    Why it matters:
        Runtimes fold them at each load; those that don't compute them at each run. Tools see a computed value
        where a weight is.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
            h = Neg(w)
            y = Add(x, h)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }

    Fix and its safety:
        Fold them (onnxsim, onnxslim, onnxruntime's optimized model); exact up to the folding tool's
        arithmetic.

    Source:
        onnxruntime, ConstantFolding.
    """
    plain = ("Constant", "Identity", "DequantizeLinear", "ConstantOfShape")
    found = [
        fact
        for fact in facts.nodes()
        if fact.folded and fact.node.op not in plain and not _makes_containers(facts, fact)
    ]
    yield from together(foldable_constants, found, "node that computes a constant")


def _makes_containers(facts: Facts, fact: NodeFact) -> bool:
    """Whether a node makes a sequence or an optional value, which no initializer holds."""
    return any(facts.value(name, fact.scope).container for name in fact.node.outputs if name)


def _folds(facts: Facts, fact: NodeFact) -> Node | None:
    """The convolution or fully connected layer right before a node, that nobody else reads."""
    first = producer(facts, fact.scope, fact.node.inputs[0]) if fact.node.inputs else None
    if (
        first is None
        or first.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        or domain_of(first.domain)
    ):
        return None
    graph = facts.scopes[fact.scope].graph
    alone = len(graph.consumers.get(fact.node.inputs[0], ())) == 1
    handed_out = any(info.name == fact.node.inputs[0] for info in graph.outputs)
    weighted = len(first.inputs) > 1 and facts.value(first.inputs[1], fact.scope).constant
    return first if alone and weighted and not handed_out else None


@check("OX523", "batchnorm-not-folded", severity="note", fix="onnxslim MODEL OUT")
def batchnorm_not_folded(facts: Facts) -> Iterator[Finding]:
    """BatchNormalization right behind a convolution.

    What it flags:
        BatchNormalization (inference) that alone reads a convolution or fully connected layer; one finding.

    Why it matters:
        Its scale and shift fit into the weights: one pass over the map less.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <
            float[1, 1, 1, 1] k = {2}, float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}
        > {
            h = Conv(x, k)
            y = BatchNormalization(h, s, b, m, v)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <
            float[1, 1, 1, 1] k = {2}, float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}
        > {
            h = BatchNormalization(x, s, b, m, v)
            y = Conv(h, k)
        }

    Fix and its safety:
        Fold at export (torch: evaluation mode and constant folding) or with onnxsim; results differ in the
        last digits. onnxruntime folds when it loads the model.

    Source:
        Jacob et al., "Quantization and Training of Neural Networks", 2018, section 3.2; onnxruntime,
        ConvBNFusion.
    """
    ready = [fact for fact in nodes(facts, "BatchNormalization") if not fact.node.attribute("training_mode")]
    found = [fact for fact in ready if _folds(facts, fact) is not None]
    yield from together(batchnorm_not_folded, found, "BatchNormalization that the layer before it could hold")


@check("OX524", "bias-before-batchnorm", severity="note", fix="onnxslim MODEL OUT")
def bias_before_batchnorm(facts: Facts) -> Iterator[Finding]:
    """A bias that BatchNormalization's own shift makes redundant.

    What it flags:
        Convolutions with a bias whose only reader is a BatchNormalization; one finding.

    Why it matters:
        Training can't tell the two shifts apart: the bias is a parameter for nothing.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 1, 1, 1] k = {2}, float[1] c = {3},
            float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}
        > {
            h = Conv(x, k, c)
            y = BatchNormalization(h, s, b, m, v)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 1, 1, 1] k = {2},
            float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}
        > {
            h = Conv(x, k)
            y = BatchNormalization(h, s, b, m, v)
        }

    Fix and its safety:
        Train without it (torch: `bias=False`), or fold the BatchNormalization.

    Source:
        Ioffe, Szegedy, "Batch Normalization", 2015, section 3.2.
    """
    found = []
    for fact in nodes(facts, "BatchNormalization"):
        first = _folds(facts, fact)
        if first is not None and first.op != "MatMul" and len(first.inputs) > 2 and first.inputs[2]:
            found.append(fact)
    yield from together(
        bias_before_batchnorm, found, "BatchNormalization behind a layer with a bias of its own"
    )


@check("OX525", "scale-not-folded", severity="note")
def scale_not_folded(facts: Facts) -> Iterator[Finding]:
    """A constant factor right behind a convolution.

    What it flags:
        Mul and Div by a constant that alone read a convolution or fully connected layer, where the constant
        is one number or one per channel; one finding.

    Why it matters:
        The factor fits into the weights: one pass over the map less.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 1, 1, 1] k = {2}, float c = {3}> {
            h = Conv(x, k)
            y = Mul(h, c)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 1, 1, 1] k = {6}> { y = Conv(x, k) }

    Fix and its safety:
        Multiply weight and bias by it; results differ in the last digits.

    Source:
        onnxruntime, ConvMulFusion.
    """
    found = []
    for fact in nodes(facts, "Mul", "Div"):
        stored = tensor(facts, fact, 1)
        if stored is None or _folds(facts, fact) is None:
            continue
        wide = [size for size in stored.dims if size != 1]
        shape = facts.value(fact.node.outputs[0], fact.scope).shape or ()
        per_channel = len(wide) == 1 and len(shape) - 2 == len(stored.dims) - 1 - stored.dims.index(wide[0])
        if not wide or per_channel:
            found.append(fact)
    yield from together(scale_not_folded, found, "constant factor that the layer before it could hold")
