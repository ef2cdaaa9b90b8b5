"""Which convolutions of a candidate stand where the original has fully connected layers, by structure.

For conversions that don't say so themselves: other tools', or ours after an optimizer renamed values. What
our own conversion of the original would declare is the guess; it counts where the candidate bears it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from onnxscope.errors import OnnxscopeError
from onnxscope.graph import Model, Node
from onnxscope.proof import links, weights
from onnxscope.proof.links import HeadLink, LayerLink
from onnxscope.rewrite.plan import Options


def heads(original: Model, candidate: Model) -> tuple[HeadLink, ...]:
    """The heads of a conversion: what it declares, as far as its values exist, else what its structure tells.

    () for any other pair. Raises FileError where the declaration can't be understood.
    """
    declared = tuple(head for head in links.read(candidate) if _exists(candidate, head))
    if declared or not weights.converted(original, candidate):
        return declared
    return tuple(_matched(original, candidate))


def _exists(candidate: Model, head: HeadLink) -> bool:
    """Whether the candidate still has every value and weight that the head names."""
    graph = candidate.graph
    known = set(graph.producers) | set(graph.initializers) | {info.name for info in graph.inputs}
    named = {head.feature_map}
    for layer in head.layers:
        named |= {layer.candidate_input, layer.candidate_output, layer.weight.candidate}
        named |= {layer.bias.candidate} if layer.bias else set()
    return named <= known


def _matched(original: Model, candidate: Model) -> Iterator[HeadLink]:
    """The heads that our own conversion makes and the candidate has in full."""
    free = _fresh(original, candidate)
    for head in _planned(original):
        found = [_layer(original, candidate, layer, head, free) for layer in head.layers]
        layers = tuple(layer for layer in found if layer is not None)
        if layers and len(layers) == len(found):
            kernel = _pool_kernel(candidate, head)
            yield replace(head, layers=layers, pool_kernel=kernel)


def _planned(original: Model) -> tuple[HeadLink, ...]:
    from onnxscope.rewrite import fc_to_conv  # a third of what a proof imports, and seldom needed

    for output in ("map", "vector"):
        try:
            record = fc_to_conv.plan(original, Options(output=output)).provenance
        except OnnxscopeError:
            continue
        if record:
            return links.of_record(record)
    return ()


def _fresh(original: Model, candidate: Model) -> list[Node]:
    """The candidate's convolutions that the original doesn't have, in order."""
    known = {node.outputs[0] for node in original.graph.nodes if node.op == "Conv"}
    return [node for node in candidate.graph.order if node.op == "Conv" and node.outputs[0] not in known]


def _layer(
    original: Model, candidate: Model, layer: LayerLink, head: HeadLink, free: list[Node]
) -> LayerLink | None:
    """The layer with the names of the convolution that has its shape; that one is no longer free."""
    fits = [node for node in free if _fits(original, candidate, layer, head, node)]
    same = [node for node in fits if node.outputs[0] in (layer.candidate_output, layer.output)]
    node = next(iter(same or fits), None)
    if node is None:
        return None
    free.remove(node)
    bias = layer.bias and replace(layer.bias, candidate=node.inputs[2])
    return replace(
        layer,
        candidate_input=node.inputs[0],
        candidate_output=node.outputs[0],
        weight=replace(layer.weight, candidate=node.inputs[1]),
        bias=bias,
    )


def _fits(original: Model, candidate: Model, layer: LayerLink, head: HeadLink, node: Node) -> bool:
    """Whether a convolution has the weight's shape, a bias where the layer has one, and no factor to fold."""
    weight = weights.weights_of(candidate).get(node.inputs[1])
    moves = [layer.weight, *([layer.bias] if layer.bias else [])]
    stored = weights.weights_of(original).get(layer.weight.original)
    if weight is None or stored is None or any(move.how == "folded" for move in moves):
        return False
    wide = prod(layer.kernel) > 1
    channels = head.channels if wide else weight.dims[1]
    plain = tuple(weight.dims[1:]) == (channels, *layer.kernel) and weight.count == stored.count
    return plain and bool(layer.bias) == (len(node.inputs) > 2)


def _pool_kernel(candidate: Model, head: HeadLink) -> tuple[int, ...] | None:
    """The window of the pool in front, as the candidate has it; None where it is global."""
    readers: Sequence[Node] = candidate.graph.consumers.get(head.feature_map, ())
    found = next((node for node in readers if node.op in ("AveragePool", "MaxPool")), None)
    kernel = found.attribute("kernel_shape") if found is not None else None
    return tuple(size for size in kernel if isinstance(size, int)) if isinstance(kernel, tuple) else None
