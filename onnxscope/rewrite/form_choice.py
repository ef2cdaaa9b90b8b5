"""Which form a head is written in, and why: what was asked for, or what `auto` finds fastest.

The thresholds come from timings of onnxruntime on CPU (docs/forms.md has them).
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxscope import dtypes
from onnxscope.analysis.facts import NodeFact
from onnxscope.expr import product
from onnxscope.graph import Node
from onnxscope.rewrite.forms import HEAVY, parts_of
from onnxscope.rewrite.layout import FULLY_CONNECTED, operands
from onnxscope.rewrite.lift import Layer, Lift, Step, find
from onnxscope.rewrite.views import Joined, View

SMALL = 4_000_000
"""Bytes of a first weight below which rereading it for every image costs less than extra nodes."""
_NO_RULE_BUT_ROWS = frozenset("CumSum FastGelu BiasGelu QLinearSoftmax RMSNormalization".split())
"""Row-wise ops that have no lifting rule."""
_QUANTIZED = frozenset("QGemm QLinearMatMul MatMulInteger MatMulIntegerToFloat DynamicQuantizeMatMul".split())
ASKED = "asked for"


def quantizing(op: str) -> bool:
    """Whether an op turns numbers into integers or back."""
    return op in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def chosen(lift: Lift, step: Step, view: View) -> tuple[str, str]:
    """Form and reason for a layer that becomes a convolution; `rows` never comes out here twice."""
    asked = lift.options.form
    if view.layers and asked != "conv":
        known = lift.forms.get(max(view.layers))
        if known is not None:
            lift.forms[step.place] = known
            return known
    form, reason = (asked, ASKED) if asked != "auto" else _fastest(lift, step, view)
    form, reason = _possible(lift, step, view, form, reason)
    lift.forms[step.place] = (form, reason)
    return form, reason


def wants_rows(lift: Lift, step: Step, view: View) -> bool:
    """Whether the head that begins at a node is to run on rows; the reason is kept for its first layer."""
    if step.node.op not in FULLY_CONNECTED and not _layers(lift, step):
        return False
    form, reason = chosen(lift, step, view)
    lift.reasons[step.place] = reason
    return form == "rows"


def _possible(lift: Lift, step: Step, view: View, form: str, reason: str) -> tuple[str, str]:
    """The form, or `conv` where that form can't be written for this head."""
    if form == "conv":
        return form, reason
    if lift.options.stride is not None:
        return "conv", "a denser map (--stride) is written as conv only"
    if lift.opset < 5:
        return "conv", f"{form} needs shapes that are computed, from opset 5 on; this model has {lift.opset}"
    if form == "interleave" and not (batch_of(lift, view) or 0) > 1:
        return "conv", "interleave needs a batch that is a number above 1"
    if form == "rows" and len(view.groups) != 2:
        return "conv", "rows needs a layer on a 2-D value"
    if form == "rows" and any(isinstance(joined, Joined) for joined in step.views):
        return "conv", "rows cuts windows out of one map, and this layer reads several maps or vectors"
    if form == "rows" and not _weight_right(lift, step):
        return "conv", "rows needs a layer whose weight is the right operand"
    if form in ("fold", "interleave") and any(_kept(view)):
        return "conv", f"{form} needs a layer that takes in all spatial axes"
    return form, reason


def _weight_right(lift: Lift, step: Step) -> bool:
    if step.node.op not in FULLY_CONNECTED:
        return True
    places = operands(lift.native, step.fact)
    return places.data < places.weight and not step.node.attribute("transA")


def _kept(view: View) -> list[bool]:
    return [2 + i not in view.groups[-1] and size != 1 for i, size in enumerate(view.spatial)]


def batch_of(lift: Lift, view: View) -> int | None:
    """The batch size where it is a number that stays."""
    shape = lift.free.value(view.base).shape
    size = shape[0] if shape and lift.options.batch != "free" else None
    return size if isinstance(size, int) else None


def _fastest(lift: Lift, step: Step, view: View) -> tuple[str, str]:
    """What `auto` takes."""
    quantized = _quantized(lift, step)
    if quantized == "integers":
        return "rows", "a quantized head keeps its integer kernels"
    if lift.native.value(step.output).dtype == dtypes.DOUBLE:
        return "rows", "the CPU provider has no float64 Conv; rows keeps the Gemm"
    barrier = _barrier(lift, step)
    if barrier:
        return "rows", f"{barrier} acts on rows and has no form on maps"
    if lift.options.target not in ("cpu", "auto"):
        return "rows", f"for {lift.options.target}: the Gemm kernels of the original head"
    batch = batch_of(lift, view)
    if batch == 1:
        return "conv", "the batch is 1: a plain Conv reads its weights once"
    if all(size == 1 for size in view.spatial):
        return "rows", "a pool in front leaves one cell per window: the Gemm stays as fast as it was"
    if _bytes(lift, step) < SMALL:
        return "conv", "its first weight is small (below 4 MB): rereading it costs less than extra nodes"
    if batch is not None:
        return "interleave", f"the batch is {batch}: one Conv reads the weights once for all images"
    if quantized:
        return (
            "rows",
            "the batch is free, and the layer between QuantizeLinear and DequantizeLinear keeps its kernel",
        )
    return "fold", "the batch is free: one Conv reads the weights once for all images"


_MEASURED = {
    "fold": "at batch 8 its head takes 0.8 to 1.0 times the original's time, conv 3.2 to 4.5 times",
    "interleave": "at batch 8 its head takes 0.8 times the original's time, conv 3.2 to 4.5 times",
    "qdq": "at batch 8 its head takes 1.1 to 1.2 times the original's time, conv 3.6 times and more",
    "quantized": "at batch 8 its head takes 1.0 to 1.2 times the original's time, conv 4 times and more",
    "pool": "at batch 8 its head takes 1.0 times the original's time, conv 2.2 times",
}
"""What a form gains at native size, from the table in docs/forms.md (first weights of 8 MB and more)."""


def starts(lift: Lift, layers: Sequence[Layer]) -> list[str]:
    """What a session with a heavy weight in one Conv needs when it starts (VGG's head, from docs/forms.md).

    `fold` and `interleave` share it among several, where it is stored and its features can be shared.
    """
    if lift.options.target not in ("cpu", "auto"):
        return []
    heavy: dict[str, bool] = {}
    for layer in layers:
        weight = lift.builder.tensors.get(layer.weight.candidate)
        shared = parts_of(weight, layer.features) > 1
        alone = layer.form == "conv" or (layer.form != "rows" and not shared)
        if alone and _bytes(lift, Step(lift, layer.fact)) >= HEAVY:
            heavy[layer.fact.label] = shared
    if not heavy:
        return []
    less = "1.4 with --form fold, 1.0 with rows" if all(heavy.values()) else "1.0 with --form rows"
    return [
        f"when a session starts, onnxruntime writes the weights of {', '.join(heavy)} anew: its peak memory "
        f"is up to 2.3 times the original's, 1.9 with --external-data; {less}"
    ]


def gains(lift: Lift, layers: Sequence[Layer]) -> list[str]:
    """For heads written as plain convolutions: what `auto` would take instead, and what that gains."""
    found: dict[str, dict[str, None]] = {}
    if lift.options.form != "conv" or lift.options.stride is not None:
        return []
    for layer in layers:
        step = Step(lift, layer.fact)
        if layer.source.layers or _bytes(lift, step) < SMALL:
            continue
        form, reason = _possible(lift, step, layer.source, *_fastest(lift, step, layer.source))
        if form != "conv":
            measured = _on_rows(lift, step, layer.source)
            if form in _MEASURED:
                measured = _MEASURED[_quantized(lift, step) or form]
            found.setdefault(f"{form} ({reason}): {measured}", {})[layer.fact.label] = None
    return [f"--form auto would write {', '.join(labels)} as {text}" for text, labels in found.items()]


def _on_rows(lift: Lift, step: Step, view: View) -> str:
    """What `rows` gains, where that was measured."""
    if _quantized(lift, step):
        return _MEASURED["quantized"]
    pooled = lift.options.target in ("cpu", "auto") and all(size == 1 for size in view.spatial)
    return _MEASURED["pool"] if pooled else "not measured"


def _bytes(lift: Lift, step: Step) -> int:
    """Bytes of the first weight, that of the layer behind a quantizing node."""
    node = next(iter(_layers(lift, step)), None)
    if node is None:
        return 0
    places = FULLY_CONNECTED[node.op]
    shapes = (lift.native.value(node.inputs[i]) for i in (places.weight, places.data))
    fact = next((fact for fact in shapes if fact.fixed), None)
    count = product(fact.shape or ()) if fact is not None else None
    dtype = fact.dtype if fact is not None else None
    return (dtypes.byte_size(dtype or dtypes.FLOAT, count) or 0) if isinstance(count, int) else 0


def _quantized(lift: Lift, step: Step) -> str:
    """integers: a layer on such, or with such weights; qdq: one on floats rounded to them; "": neither."""
    op, graph = step.node.op, lift.model.graph
    if quantizing(op):
        layers = {node.op for node in _layers(lift, step)}
        return "integers" if op.startswith("Dynamic") or layers & _QUANTIZED else "qdq"
    places = operands(lift.native, step.fact)
    data, weight = (graph.producers.get(step.node.inputs[i]) for i in (places.data, places.weight))
    if data is not None and quantizing(data.op) and op not in _QUANTIZED:
        return "qdq"
    stored = weight is not None and quantizing(weight.op)
    return "integers" if op in _QUANTIZED or stored else ""


def _layers(lift: Lift, step: Step) -> list[Node]:
    """The layer itself, or those behind a quantizing node, by other such nodes."""
    if step.node.op in FULLY_CONNECTED:
        return [step.node]
    return [node for node in _behind(lift, step.fact, quantizing) if node.op in FULLY_CONNECTED]


def _barrier(lift: Lift, step: Step) -> str:
    """An op behind a layer that only rows can take."""
    nodes = lift.native.main.nodes
    labels = {fact.node.index: fact for fact in nodes}
    for node in _behind(lift, step.fact, lambda op: True):
        fact = labels.get(node.index)
        if fact is not None and node.op in _NO_RULE_BUT_ROWS and find(fact) is None:
            return f"{node.op} {fact.label}"
    return ""


def _behind(lift: Lift, fact: NodeFact, through: object) -> list[Node]:
    """Nodes reached from a node, through ops that `through` accepts."""
    graph, found, seen = lift.model.graph, [], set[int]()
    waiting = list(fact.node.outputs)
    while waiting:
        for node in graph.consumers.get(waiting.pop(), ()):
            if node.index not in seen:
                seen.add(node.index)
                found.append(node)
                if callable(through) and through(node.op):
                    waiting += [name for name in node.outputs if name]
    return found
