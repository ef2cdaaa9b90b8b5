"""Rules about receptive fields and heads: what the network sees, and what pins the size of its input."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.analysis.receptive_field import Field, ReceptiveFields
from onnxscope.checks._walk import nodes, spatial
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import check
from onnxscope.rewrite.heads import HeadLayer

_JOINED = "only the head puts the parts of the image together"
_POOLED = "the head pools over parts of the image, and nothing puts them together"
_POOLS = ("GlobalAveragePool", "GlobalMaxPool", "AveragePool", "ReduceMean")
_FAR = 4
"""How many times larger than the input a receptive field must be to be called far larger."""


def _image(facts: Facts, fields: ReceptiveFields) -> tuple[int | None, ...]:
    """Spatial sizes of the image as the first convolution or pool reads it; () where that isn't the input.

    In front of it an exporter may have moved the channels (Transpose, Reshape), so the input itself won't do.
    """
    for fact in facts.main.nodes:
        window = fact.inferred.window
        if window is not None and fact.node.inputs:
            axes = fields.axes.get(fact.node.inputs[0], ())
            seen = axes[1:-1] if window.channels_last else axes[2:]
            untouched = all(field is not None and (field.size, field.stride) == (1, 1) for field in seen)
            return spatial(facts.value(fact.node.inputs[0]).shape, window) if seen and untouched else ()
    return ()


def _last_map(
    facts: Facts, fields: ReceptiveFields, heads: tuple[HeadLayer, ...]
) -> Iterator[tuple[str, Field, int, int]]:
    """(map, field, size of the image, spatial axis) of the last map in front of a head, where all is known.

    Only the last one: networks pool and flatten on the way too (squeeze and excitation, mixers).
    """
    image, made = (
        _image(facts, fields),
        {name: i for i, f in enumerate(facts.main.nodes) for name in f.node.outputs},
    )
    pools = nodes(facts, "GlobalAveragePool", "GlobalMaxPool")
    maps = [head.feature_map for head in heads if head.feature_map]
    maps += [fact.node.inputs[0] for fact in pools if not fact.scope]
    name = max(maps, key=lambda name: made.get(name, -1), default="")
    axes = fields.axes.get(name, ())
    if len(axes) != len(image) + 2 or not _is_last(facts, name):
        return
    for axis, (field, size) in enumerate(zip(axes[2:], image, strict=True)):
        if field is not None and size is not None:
            yield name, field, size, axis


def _is_last(facts: Facts, name: str) -> bool:
    """Whether a map is read once: a squeeze-and-excitation branch pools a map that others read too."""
    return len(facts.main.graph.consumers.get(name, ())) == 1


@check("OX631", "receptive-field-smaller-than-input", severity="note")
def small_field(facts: Facts, fields: ReceptiveFields, heads: tuple[HeadLayer, ...]) -> Iterator[Finding]:
    """No unit in front of the classifier sees the whole image.

    What it flags:
        A map in front of a fully connected layer or a global pool whose cells see less of the input than its
        size along an axis.

    Why it matters:
        What is larger than the receptive field is only put together by the head: a flattened head can, an
        average over cells can't. A global pool over small fields classifies texture.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,16,16] x) => (float[1,1,1,1] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          a = Conv (x, w)
          y = GlobalAveragePool (a)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,3,3] x) => (float[1,1,1,1] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          a = Conv (x, w)
          y = GlobalAveragePool (a)
        }

    Fix and its safety:
        More layers, strides or dilation in front of the head; needs retraining.

    Source:
        Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.
    """
    for name, field, size, axis in _last_map(facts, fields, heads):
        if field.size < size:
            (reader,) = facts.main.graph.consumers[name]
            yield small_field.finding(
                name,
                f"receptive field {field.size} is smaller than the input of {size} pixels along spatial "
                f"axis {axis}: {_POOLED if reader.op in _POOLS else _JOINED}",
                "add layers, strides or dilation in front of the head",
                field=field.size,
                input=size,
            )
            return


@check("OX632", "receptive-field-far-larger-than-input", severity="note")
def large_field(facts: Facts, fields: ReceptiveFields, heads: tuple[HeadLayer, ...]) -> Iterator[Finding]:
    """The last map looks far beyond the image: mostly at padding.

    What it flags:
        A map in front of the head whose receptive field is more than 4 times the input's size.

    Why it matters:
        The network was laid out for larger images; on this size its deep layers work on a few cells and their
        kernels mostly multiply zeros.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,2,2] x) => (float[1,1,1,1] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          a = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (x, w)
          b = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (a, w)
          y = GlobalAveragePool (b)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,8,8] x) => (float[1,1,1,1] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> {
          a = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (x, w)
          b = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (a, w)
          y = GlobalAveragePool (b)
        }

    Fix and its safety:
        Feed the size that the network was made for, or drop early strides; needs retraining.

    Source:
        Richter et al., "Should You Go Deeper? Optimizing Convolutional Neural Network Architectures", 2021.
    """
    for name, field, size, axis in _last_map(facts, fields, heads):
        if field.size > _FAR * size:
            yield large_field.finding(
                name,
                f"receptive field {field.size} is far larger than the input of {size} pixels along "
                f"spatial axis {axis}",
                "feed larger images, or drop early strides",
                field=field.size,
                input=size,
            )
            return


@check("OX633", "misaligned-branches", severity="warning")
def misaligned(fields: ReceptiveFields) -> Iterator[Finding]:
    """Branches that meet look at different places of the image.

    What it flags:
        An Add, Concat or other joining node whose inputs have different strides against the input, or cells
        centred at different pixels.

    Why it matters:
        The network adds features of one place to those of another. Usually a padding was forgotten in one
        branch.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,8,8] x) => (float[1,1,8,8] y)
        <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}, float[1,1,1,1] v = {1}> {
          a = Conv <pads = [2, 2, 0, 0]> (x, w)
          b = Conv (x, v)
          y = Add (a, b)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,8,8] x) => (float[1,1,8,8] y)
        <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}, float[1,1,1,1] v = {1}> {
          a = Conv <pads = [1, 1, 1, 1]> (x, w)
          b = Conv (x, v)
          y = Add (a, b)
        }

    Fix and its safety:
        Pad both branches alike; the outputs change, so retrain or measure.

    Source:
        Araujo et al., Distill 2019, "Alignment issues".
    """
    for problem in fields.problems:
        yield misaligned.finding(problem.where, problem.message, "pad the branches alike")


@check("OX634", "head-that-pins-input-size", severity="warning")
def pinned(heads: tuple[HeadLayer, ...]) -> Iterator[Finding]:
    """Height and width are declared free, but a fully connected layer takes one size.

    What it flags:
        A fully connected layer on a flattened map whose size is free, though the layer's weight fits one size
        only. (With a declared size the two agree, and OX521 says what the layer could become.)

    Why it matters:
        Every other image size fails at run time, in a Gemm far from the input. As a convolution the same
        weights slide over larger images and give a map of answers.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,H,W] x) => (float[1,2] y) <float[2,4] f = {1,2,3,4,5,6,7,8}> {
          a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
          b = Flatten (a)
          y = Gemm <transB = 1> (b, f)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,H,W] x) => (float[1,2,P,Q] y) <float[2,1,2,2] f = {1,2,3,4,5,6,7,8}> {
          a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
          y = Conv (a, f)
        }

    Fix and its safety:
        `onnxscope convert MODEL -o OUT` writes the layer as a convolution with the same weights, and proves
        it; or declare the one size.

    Source:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015.
    """
    for head in heads:
        if head.size_note:
            yield pinned.finding(
                head.layer,
                f"the input size is declared free and pinned by a fully connected layer: {head.size_note}",
                "onnxscope convert makes it a convolution",
                kernel=list(head.kernel or ()),
            )


@check("OX635", "dense-evaluation-that-padding-breaks", severity="note")
def inexact(facts: Facts, heads: tuple[HeadLayer, ...]) -> Iterator[Finding]:
    """Zero padding in front of the head: the dense map differs from cropped images.

    What it flags:
        A model with a convertible head and padded convolutions or pools in front of it.

    Why it matters:
        Made fully convolutional, each cell of the answer map sees its neighbours' pixels where a cropped
        image had zeros: cells and crops agree only roughly. Without padding they are equal.

    Bad:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,2,2] x) => (float[1,2] y)
        <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}, float[2,4] f = {1,2,3,4,5,6,7,8}> {
          a = Conv <pads = [1, 1, 1, 1]> (x, w)
          b = Flatten (a)
          y = Gemm <transB = 1> (b, f)
        }

    Good:
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1,1,4,4] x) => (float[1,2] y)
        <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}, float[2,4] f = {1,2,3,4,5,6,7,8}> {
          a = Conv (x, w)
          b = Flatten (a)
          y = Gemm <transB = 1> (b, f)
        }

    Fix and its safety:
        `onnxscope verify --dense HxW` measures the effect; only training without padding removes it.

    Source:
        cs231n, "Converting FC layers to CONV layers", which is exact without padding only (measured: 81 of 81
        cells equal without, 0 of 81 with pad 1).
    """
    head = next((head for head in heads[::-1] if head.replaceable and head.feature_map), None)
    padded = [fact for fact in facts.main.nodes if _zero_padded(fact)]
    if head is not None and padded:
        yield inexact.finding(
            head.layer,
            f"{len(padded)} padded layers in front (first: {padded[0].label}): as a convolution on larger "
            "images it gives other numbers than crops do",
            "onnxscope verify --dense measures by how much",
            padded_layers=len(padded),
        )


def _zero_padded(fact: NodeFact) -> bool:
    window = fact.inferred.window
    return window is not None and not window.transposed and any(pad != 0 for pad in window.pads)
