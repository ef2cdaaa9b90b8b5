"""The walk that gives every value its view, one lifting rule per op.

A rule is a function `(lift, step) -> View | Lost | tuple of them`, registered with `@rule`. It sees the views
of its node's inputs, adds the twin's nodes to `lift.builder` where the view alone doesn't say it, and returns
the view of each output. Rules never decide whether a twin is used: `select` does.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple, TypeAlias

from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.expr import integers
from onnxscope.graph import Model, Node
from onnxscope.ops.value import Data, Shape
from onnxscope.rewrite.builder import Builder
from onnxscope.rewrite.plan import Options
from onnxscope.rewrite.views import Joined, Lost, View, entered, fresh

WHOLE = (
    "{label} takes its scale from all windows together: on larger maps cells are close to the original on "
    "each window, not equal"
)
"""What a user must know where a scale is computed from a map that has several windows."""
Answer: TypeAlias = "View | Joined | Lost | None"


class Tensors(NamedTuple):
    """What happened to one weight or bias of a layer."""

    original: str
    """Value name in the original."""
    candidate: str
    """Provisional name in the converted model."""
    move: str
    """same bytes, permuted or folded."""
    axes: tuple[int, ...] = ()
    """Axes of the map in the order in which the weight's inputs list them."""


class Layer(NamedTuple):
    """One fully connected layer and the convolution that stands for it."""

    fact: NodeFact
    source: View
    """View of its input."""
    result: str
    """Provisional name of the convolution's output."""
    input: str
    """Original name of the 2-D input."""
    output: str
    """Original name of the 2-D result, bias included."""
    kernel: tuple[int, ...]
    channels: int
    features: int
    weight: Tensors
    bias: Tensors | None
    form: str = "conv"
    reason: str = "asked for"
    window: tuple[int, ...] = ()
    """The window of the head where `kernel` doesn't say it."""
    read: str = ""
    """Provisional name of what it reads, where that isn't the source's twin."""
    parts: tuple[Layer, ...] = ()
    """The convolutions whose sum it is, in the order of the inputs, where it reads several maps or vectors;
    the other fields are then those of the first map's."""


class RowsOf(NamedTuple):
    """A 2-D value of the original as a matrix with one row per window; see `forms_rows`."""

    matrix: str
    """Name of the value [P, F] in the converted model."""
    sizes: str
    """Name of [N, *S'], whose product is P."""
    view: View
    """View of the map behind it."""
    kernel: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    """Axes of the window in the order of its features."""
    source: View | None = None
    """The map that the windows come from; None behind a layer."""
    scalar: bool = False
    """Whether it is one number for all rows."""


@dataclass
class Lift:
    """State of one walk."""

    native: Facts
    """Facts at the native input size."""
    free: Facts
    """Facts with the input size as symbols; the same as `native` where sizes stay."""
    options: Options
    builder: Builder
    refused: dict[int, str]
    """Index of a fully connected layer that stays -> why."""
    still: frozenset[int]
    """Indexes of global pools that stay global."""
    entered: bool = False
    """Whether a vector behind a layer that stays may be unflattened for the next one."""
    views: dict[str, View | Joined | Lost] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    """Provisional name of a convolution's result -> the layer; an Add that takes in the bias makes a second
    one, and `select` keeps the one that is used."""
    rows: dict[str, RowsOf] = field(default_factory=dict)
    """Provisional name of a twin -> the matrix that it is the map of."""
    matrices: dict[str, str] = field(default_factory=dict)
    """Provisional name of a matrix -> the original value that it stands for."""
    forms: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Index of a node where a head begins, or of a layer -> form and reason."""
    windows: set[str] = field(default_factory=set)
    """Provisional names of values that hold every window, its cells merged."""
    reasons: dict[int, str] = field(default_factory=dict)
    remarks: dict[int, str] = field(default_factory=dict)
    """Index of a node -> what a user must know about its twin."""
    meetings: set[int] = field(default_factory=set)
    """Windowed global pools whose cells met a map of another size: they must stay global."""

    @property
    def model(self) -> Model:
        """The original model."""
        return self.native.model

    @property
    def opset(self) -> int:
        """Version of the default domain."""
        return self.builder.opset

    def run(self) -> None:
        """Give every value of the main graph its view."""
        stored = self.native.main.graph.initializers
        for info in self.native.main.graph.inputs:
            shape = self.native.value(info.name).shape
            if info.name not in stored and shape is not None and len(shape) >= 3:
                self.views[info.name] = self.fresh(info.name, shape)
        for fact in self.native.main.nodes:
            names = fact.node.outputs
            if names and not self._skipped(fact):
                answers = self._answer(fact)
                self.views.update((n, a) for n, a in zip(names, answers, strict=False) if n and a is not None)

    def _skipped(self, fact: NodeFact) -> bool:
        outputs = [name for name in fact.node.outputs if name]
        constant = all(self.native.value(name).constant for name in outputs)
        return constant or fact.node.op in ("Shape", "Size")

    def fresh(self, name: str, shape: Shape, pooled: str = "") -> View:
        """The view of a map of the original graph."""
        free = self.free.value(name).shape
        return fresh(
            name, shape, free[2:] if free is not None and len(free) == len(shape) else shape[2:], pooled
        )

    def _answer(self, fact: NodeFact) -> tuple[Answer, ...]:
        step = Step(self, fact)
        maps = [view for view in step.views if isinstance(view, (View, Joined))]
        own = find(fact)
        stays = bool(maps) and all(map(_untouched, maps)) and step.mapped
        if fact.inferred.window is not None or (stays and (own is None or not own.moves)):
            return self._kept(step)
        lost = next((view for view in step.views if isinstance(view, Lost)), None)
        if lost is not None and not (self.options.size == "fixed" and fact.node.op == "Concat"):
            return (lost,) * len(fact.node.outputs)
        if not maps:
            return ()
        on_rows = _on_rows(self, step)
        if on_rows is not None:
            return on_rows
        if own is None:
            return (lost_at(step),) * len(fact.node.outputs)
        first = step.views[0]
        return tuple(
            entered(first, answer, step.node.inputs[0])
            if isinstance(first, View) and isinstance(answer, View)
            else answer
            for answer in own(self, step)
        )

    def _kept(self, step: Step) -> tuple[Answer, ...]:
        """A node that stays as it is and makes maps from maps."""
        found: list[Answer] = []
        for name in step.node.outputs:
            shape = self.native.value(name).shape if name else None
            found.append(self.fresh(name, shape) if shape is not None and len(shape) >= 3 else None)
        return tuple(found)


def _on_rows(lift: Lift, step: Step) -> tuple[Answer, ...] | None:
    from onnxscope.rewrite.forms_rows import answer

    return answer(lift, step)


def _untouched(view: View | Joined) -> bool:
    return isinstance(view, View) and not view.layers and view.plain and view.twin == view.base


class Step(NamedTuple):
    """A node as its lifting rule sees it."""

    lift: Lift
    fact: NodeFact

    @property
    def node(self) -> Node:
        """The original node."""
        return self.fact.node

    @property
    def place(self) -> int:
        """Its index."""
        return self.fact.node.index

    @property
    def output(self) -> str:
        """Name of its first output."""
        return self.fact.node.outputs[0]

    @property
    def views(self) -> tuple[View | Joined | Lost | None, ...]:
        """One entry per input; None for constants, absent inputs and values without a view."""
        return tuple(self.lift.views.get(name) if name else None for name in self.fact.node.inputs)

    @property
    def view(self) -> View:
        """The view of the first input. Raises Unliftable where it has none."""
        return self.view_of(0)

    def view_of(self, index: int) -> View:
        """The view of an input. Raises Unliftable where it has none."""
        found = self.views[index] if index < len(self.views) else None
        if not isinstance(found, View):
            raise Unliftable
        return found

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.fact.node.inputs) and bool(self.fact.node.inputs[index])

    def shape(self, index: int = 0) -> Shape | None:
        """Native shape of an input."""
        return self.lift.native.value(self.fact.node.inputs[index]).shape

    @property
    def target(self) -> Shape | None:
        """Native shape of the first output."""
        return self.lift.native.value(self.output).shape

    @property
    def mapped(self) -> bool:
        """Whether the first output has at least three axes."""
        return self.target is not None and len(self.target) >= 3

    def constant(self, index: int) -> bool:
        """Whether an input is given and never depends on the model's inputs."""
        return self.has(index) and self.lift.native.value(self.fact.node.inputs[index]).constant

    def overridable(self, index: int) -> bool:
        """Whether an input is stored, but listed among the model's inputs, too (IR 4 and later)."""
        return self.has(index) and self.lift.native.value(self.fact.node.inputs[index]).overridable

    def known(self, index: int) -> Data | None:
        """Content of a small constant input."""
        return self.lift.native.value(self.fact.node.inputs[index]).known() if self.has(index) else None

    def ints(self, attribute: str, index: int) -> tuple[int, ...] | None:
        """Integers given as an attribute or, in later opsets, as an input; None where neither is known."""
        given = self.fact.node.attribute(attribute)
        if isinstance(given, tuple):
            return integers(given)
        if isinstance(given, int):
            return (given,)
        data = self.known(index)
        found = integers(None if data is None else data.items)
        return found if data is not None and len(found) == len(data.items) else None

    def integer(self, attribute: str, default: int) -> int:
        """An integer attribute."""
        given = self.fact.node.attribute(attribute)
        return given if isinstance(given, int) else default


class Unliftable(Exception):
    """A rule can't say: the value is lost at this op."""


NO_TWIN = "has no convolutional twin"
"""What is said of an op without a rule for maps; windows as rows may carry it."""


def lost_at(step: Step, because: str = "") -> Lost:
    """The value is lost here."""
    base = next(
        (view.base for view in step.views if isinstance(view, (View, Joined, Lost)) and view.base), ""
    )
    return Lost(because or _why(step), base)


def _why(step: Step) -> str:
    """What an op does that no map can follow, in a clause that names it."""
    op, target = step.node.op, step.target or ()
    label, before = f"{op} {step.fact.label}", (step.shape() if step.node.inputs else None) or ()
    if step.target is None:
        found = (problem.message for problem in step.lift.native.problems if problem.where == step.fact.label)
        return f"{label} makes a value of unknown shape{''.join(f': {text}' for text in [*found][:1])}"
    if op in ("LSTM", "GRU", "RNN"):
        return f"{label} runs along a sequence: each place of its result depends on all others"
    if op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") and target and before:
        made = f"{label} makes {listed(target)} of {listed(before)}"
        if len(before) == 2 and len(target) > 2:
            return f"{made}: of a vector a map again, as a decoder does"
        return f"{made}, which splits or merges the axes of a map in another way than flattening it"
    if op == "Concat" and len(target) > 2:
        return f"{label} joins values along axis {step.integer('axis', 1)}: a sequence, no map any more"
    if op in ("MatMul", "Gemm", "Einsum") and not any(map(step.constant, range(len(step.node.inputs)))):
        return f"{label} multiplies values that both depend on the input, as attention does"
    return f"{label} {NO_TWIN} here"


def listed(shape: Shape) -> str:
    """A shape for messages: `[N, 48]`."""
    return f"[{', '.join(map(str, shape))}]"


Function: TypeAlias = "Callable[[Lift, Step], Answer | tuple[Answer, ...]]"


class LiftingRule(NamedTuple):
    """One row of the table."""

    function: Function
    moves: bool
    """Whether it is asked even about a map that stays: transposes, reshapes and global pools."""

    def __call__(self, lift: Lift, step: Step) -> tuple[Answer, ...]:
        """The views of the node's outputs."""
        try:
            answer = self.function(lift, step)
        except Unliftable as stop:
            return (lost_at(step, str(stop)),) * len(step.node.outputs)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as bad:  # a bad model
            reason = f"{step.fact.label} doesn't fit its specification ({type(bad).__name__})"
            return (lost_at(step, reason),) * len(step.node.outputs)
        return answer if isinstance(answer, tuple) else (answer,)


_RULES: dict[str, LiftingRule] = {}


def rule(names: str | Iterable[str], *, moves: bool = False) -> Callable[[Function], Function]:
    """Register a lifting rule for ops; see `LiftingRule.moves`."""

    def register(function: Function) -> Function:
        for name in names.split() if isinstance(names, str) else names:
            assert name not in _RULES, f"two lifting rules for {name}"
            _RULES[name] = LiftingRule(function, moves)
        return function

    return register


@cache
def _load() -> None:
    for name in sorted(os.listdir(os.path.join(os.path.dirname(__file__), "rules"))):
        stem, ending = os.path.splitext(name)
        if ending == ".py" and not stem.startswith("_"):
            importlib.import_module(f"onnxscope.rewrite.rules.{stem}")


def find(fact: NodeFact) -> LiftingRule | None:
    """The lifting rule of a node's op; None for a barrier."""
    _load()
    return _RULES.get(fact.node.op)
