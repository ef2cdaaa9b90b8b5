"""Fully connected layers: which a convolution can replace, with which kernel, and why not where it can't.

A layer y = W x + b on a vector that is a flattened map [C, *S] is a convolution with kernel S: the same
weights, in another shape. On a vector that an earlier such layer computed it is a 1x1 convolution. Source:
Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015, section 3.1.

The verdict is that of the walk that plans a conversion (`onnxscope.rewrite.lift`), so a report says of no
layer what a conversion wouldn't do.
"""

from __future__ import annotations

from typing import NamedTuple

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.analysis.params import Params
from onnxscope.expr import Expr
from onnxscope.graph import Model
from onnxscope.rewrite.folding import Folder
from onnxscope.rewrite.layout import OVERRIDABLE, is_fully_connected, operands
from onnxscope.rewrite.lift import Layer, Lift, listed
from onnxscope.rewrite.plan import PROVENANCE, Options
from onnxscope.rewrite.views import Lost, View, shown

DONE = "an earlier conversion made it, on rows; convert the original for another form"


class HeadLayer(NamedTuple):
    """The verdict on one fully connected layer."""

    layer: str
    """Label of the node."""
    replaceable: bool
    kernel: tuple[int, ...] | None
    """Spatial kernel of the convolution, one entry per spatial axis; None where it isn't replaceable."""
    becomes: str | None
    """For example `Conv 7x7x512 -> 4096`."""
    reason: str | None
    """Why not, in one clause; None where it is replaceable."""
    share_of_params: float | None
    """Its part of all parameters as layers use them, 0..1; None where the count is unknown."""
    feature_map: str | None
    """The map [N, C, *S] whose flattened or globally pooled form it reads; None behind another such layer,
    or where there is none."""
    size_note: str | None
    """Where the input size is free: the map size that the weights demand."""


def find(facts: Facts, params: Params, form: str = "conv", size: str = "dynamic") -> tuple[HeadLayer, ...]:
    """The verdict on every fully connected layer, in execution order, for a conversion so asked for."""
    connected = [fact for fact in facts.nodes() if fact.node.outputs and is_fully_connected(facts, fact)]
    if not connected:
        return ()
    unfit = {fact.node.index: why for fact in connected if not fact.scope and (why := _unfit(facts, fact))}
    done = _converted(facts.model)
    unfit |= {fact.node.index: DONE for fact in connected if not fact.scope and fact.node.outputs[0] in done}
    lift = Lift(facts, facts, Options(form=form, size=size), Folder(facts.model), dict(unfit), frozenset())
    lift.run()
    layers = {layer.fact.node.index: layer for layer in lift.layers.values()}
    return tuple(_verdict(lift, fact, layers, unfit, _share(fact, params)) for fact in connected)


def _converted(model: Model) -> frozenset[str]:
    """Results of the layers that the file says an earlier conversion made: on rows they are layers still."""
    text = dict(model.metadata).get(PROVENANCE)
    if not text:
        return frozenset()
    import json

    try:
        heads = json.loads(text)["heads"]
        return frozenset(layer["candidate_output"] for head in heads for layer in head["layers"])
    except (LookupError, RecursionError, TypeError, ValueError):  # not ours, or damaged
        return frozenset()


def _share(fact: NodeFact, params: Params) -> float | None:
    layer = params.layers.get((fact.scope, fact.node.index))
    if layer is None:
        return 0.0
    if not isinstance(layer.total, int) or not isinstance(params.trainable, int) or not params.trainable:
        return None
    return layer.total / params.trainable


def _verdict(
    lift: Lift, fact: NodeFact, layers: dict[int, Layer], unfit: dict[int, str], share: float | None
) -> HeadLayer:
    layer = None if fact.scope else layers.get(fact.node.index)
    if layer is None:
        reason = _reason(lift, fact, unfit)
        return HeadLayer(fact.label, False, None, None, reason, share, _map_before(lift, fact), None)
    return HeadLayer(
        fact.label,
        True,
        layer.kernel,
        _becomes(layer),
        None,
        share,
        None if layer.source.layers else layer.source.base,
        _size_note(layer),
    )


def _becomes(layer: Layer) -> str:
    if layer.parts:
        return " + ".join(dict.fromkeys(map(_becomes, layer.parts)))
    return f"Conv {'x'.join(map(str, layer.kernel))}x{layer.channels} -> {layer.features}"


def _map_before(lift: Lift, fact: NodeFact) -> str | None:
    """The map that the features of a layer come from, where that much is known and it has spatial axes."""
    if fact.scope:
        return None
    view = lift.views.get(fact.node.inputs[operands(lift.native, fact).data])
    if view is None or (isinstance(view, View) and view.layers):
        return None
    return view.base if len(lift.native.value(view.base).shape or ()) > 2 else None


def _reason(lift: Lift, fact: NodeFact, unfit: dict[int, str]) -> str:
    if fact.scope:
        return _inside(lift.native, fact.scope)
    if fact.node.index in unfit:
        return unfit[fact.node.index]
    operand = fact.node.inputs[operands(lift.native, fact).data]
    view, shape = lift.views.get(operand), lift.native.value(operand).shape or ()
    if isinstance(view, Lost):
        return f"{view.reason} (between {view.base} and this layer)"
    named = f"{operand} [{', '.join(map(str, shape))}]"
    if isinstance(view, View) and len(shape) > 2 and 1 not in view.groups[-1]:
        return f"its input {named} is no vector per image: it already acts on every position"
    if view is None:
        return _viewless(named, len(shape))
    result = lift.views.get(fact.node.outputs[0])
    return result.reason if isinstance(result, Lost) else f"its input {named} isn't a flattened map"


def _inside(facts: Facts, scope: str) -> str:
    """Why a layer in a nested graph stays, and how a model-local function is taken apart."""
    reason = f"it is inside {scope.rstrip('/')}, not in the main graph"
    bodies = {id(function.body): function.name for function in facts.model.functions}
    path: str | None = scope
    while path is not None:
        found = facts.scopes[path]
        if id(found.graph) in bodies:
            name = bodies[id(found.graph)]
            return f"{reason}; inline the function {name} first (onnx.inliner.inline_local_functions)"
        path = found.parent
    return reason


def _viewless(named: str, rank: int) -> str:
    if rank > 2:
        return f"its input {named} is no vector per image: it already acts on every position"
    return f"its input {named} comes from no feature map"


def _unfit(facts: Facts, fact: NodeFact) -> str | None:
    """Attributes and operands that rule a convolution out."""
    places = operands(facts, fact)
    operand, weight = fact.node.inputs[places.data], fact.node.inputs[places.weight]
    if facts.value(operand, fact.scope).fixed:
        return f"the weight of this {fact.node.op} is its left operand, which is read for float layers only"
    if facts.value(weight).overridable:
        return f"its weight is {OVERRIDABLE}"
    if facts.value(weight).shape is None or facts.value(operand).shape is None:
        return _unknown(facts, operand)
    for what, name in (("input", operand), ("weight", weight)):
        if 0 in (facts.value(name).shape or ()):
            return f"its {what} {listed(facts.value(name).shape or ())} holds no numbers"
    if places.bias is not None and places.bias < len(fact.node.inputs) and fact.node.inputs[places.bias]:
        bias = facts.value(fact.node.inputs[places.bias])
        if bias.overridable:
            return f"its bias is {OVERRIDABLE}"
        if not bias.constant:
            return "its bias is computed from the input"
    return None


def _unknown(facts: Facts, operand: str) -> str:
    """Why the shape of a layer's input is unknown: the first problem on the way to it."""
    graph = facts.main.graph
    seen, waiting = {""}, [operand]
    on_the_way = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        node = graph.producers.get(name)
        on_the_way.add(name if node is None else node.label)
        waiting += node.inputs if node is not None else ()
    first = next((found for found in facts.problems if found.where in on_the_way), None)
    return "its shapes are unknown" + (f": {first.where}: {first.message}" if first is not None else "")


def _size_note(layer: Layer) -> str | None:
    view = layer.source
    if not any(isinstance(view.spatial[axis - 2], Expr) for axis in view.groups[-1] if axis > 1):
        return None
    kernel = "x".join(map(str, layer.kernel))
    return f"its weight fits a {kernel} map only; {view.base} is {shown(view)}: convert it for other sizes"
