"""Denser maps: layers in front of a head lose their stride, and what follows them is dilated (a trous).

Along one axis let S be the input pixels between neighbouring cells of a value, and N the wanted distance at
the end. In the dense network the value has a cell every gcd(S, N) pixels, so that its *common* cells, those
that the strided network has too, are every `factor` = S / gcd(S, N) cells. A window layer that turns S into
S*t keeps the stride gcd(S*t, N) / gcd(S, N); its dilation and its pads grow by its input's factor, since it
must read common cells only. Sizes L (strided) and L' (dense) then always fit: L = ceil(L' / factor), so the
end padding, too, begins behind the same cell. Source: Holschneider et al., "A real-time algorithm for signal
analysis with the help of the wavelet transform", 1990; as used on classifiers: Giusti et al., "Fast image
scanning with deep max-pooling convolutional neural networks", 2013.

An op without a rule reads the common cells alone: a global mean inside the network stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import TypeAlias

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.edit import Edit
from onnxscope.graph import Attribute, AttributeValue, Node, Tensor, captures
from onnxscope.ops.value import Shape
from onnxscope.rewrite.builder import packed

END = 2**63 - 1
"""End of a Slice that goes to the end of the axis."""
ONE_CELL = "the map has one cell, whatever the input size"


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the cells of a value lie along one of its axes."""

    stride: int | None
    """Input pixels between neighbouring cells of the strided network; None where that isn't known."""
    factor: int = 1
    """Every `factor`-th cell of the dense network is one of the strided network."""


Grids: TypeAlias = "tuple[Grid, ...]"
"""One entry per axis of a value."""


class NoDenseTwin(Exception):
    """Raised by a rule: the op can't be dilated; its text says why."""


@dataclass
class Walk:
    """One pass over a model, in execution order."""

    facts: Facts
    step: int
    """N, in input pixels; 0 changes nothing and only finds the strides."""
    wanted: Collection[int]
    """Indexes of the nodes that may become denser."""
    exported: Collection[str] = ()
    """Outputs that may become denser; others get the common cells back."""

    def __post_init__(self) -> None:
        self.grids: dict[str, Grids] = {}
        self.lost: dict[str, str] = {}
        """Value -> why it isn't as dense as it should be."""
        self.changed: list[str] = []
        """Labels of layers that lost their stride or were dilated."""
        self.removed: set[int] = set()
        self.added: list[tuple[int, Node]] = []
        self.tensors: list[Tensor] = []
        self.renamed: dict[str, str] = {}
        """See `Dense.renamed`."""
        self._thin: dict[str, str] = {}
        self._made: list[Node] = []
        graph = self.facts.main.graph
        self._held = {info.name for info in graph.outputs} - set(self.exported)
        self._taken = set(graph.producers) | set(graph.initializers) | {info.name for info in graph.inputs}

    @property
    def opset(self) -> int:
        """Version of the default domain."""
        return self.facts.model.opset.get("", 1)

    def run(self) -> Walk:
        """Give every value its grids and every node its dense twin; returns itself."""
        stored = self.facts.main.graph.initializers
        for info in self.facts.main.graph.inputs:
            shape = self.facts.value(info.name).shape
            if info.name not in stored and shape is not None:
                self.grids[info.name] = (Grid(1),) * len(shape)
        for fact in self.facts.main.nodes:
            if not all(self.facts.value(name).constant for name in fact.node.outputs if name):
                self._node(fact)
        return self

    # what rules use

    def grids_of(self, name: str) -> Grids | None:
        """The grids of a value; None for a constant, an absent one, and one of unknown rank."""
        return self.grids.get(name) if name else None

    def first(self, node: Node) -> Grids:
        """The grids of a node's first input. Raises NoDenseTwin where there are none."""
        grids = self.grids.get(node.inputs[0])
        if grids is None:
            raise NoDenseTwin("has an input of unknown shape")
        return grids

    def shape(self, name: str) -> Shape:
        """Sizes in the strided network. Raises NoDenseTwin where they aren't known."""
        found = self.facts.value(name).shape
        if found is None:
            raise NoDenseTwin("has an unknown shape")
        return found

    def kept(self, stride: int, grid: Grid) -> tuple[int, Grid]:
        """What is left of a layer's stride along an axis, and the grid behind it."""
        if grid.stride is None:
            return stride, Grid(None, grid.factor)
        behind, finest = grid.stride * stride, gcd(grid.stride, self.step)
        if grid.factor != grid.stride // finest:  # density was lost on the way
            return stride, Grid(behind, grid.factor)
        after = gcd(behind, self.step)
        return after // finest, Grid(behind, behind // after)

    def keep(self, node: Node, **attributes: AttributeValue) -> None:
        """The node itself, with other attributes (None: without)."""
        rest = tuple(a for a in node.attributes if a.name not in attributes)
        new = tuple(Attribute(key, value) for key, value in attributes.items() if value is not None)
        self._made.append(replace(node, attributes=(*rest, *new), origin=None) if attributes else node)

    def emit(
        self, op: str, inputs: Sequence[str], like: str, output: str = "", **attributes: AttributeValue
    ) -> str:
        """A new node; returns its output, which has a new name unless one is given."""
        name = output or self.name(like)
        given = tuple(Attribute(key, value) for key, value in attributes.items() if value is not None)
        self._made.append(Node(0, f"{name}/{op}", op, "", tuple(inputs), (name,), given))
        return name

    def constant(self, like: str, numbers: Sequence[int | float], dims: Sequence[int], dtype: int) -> str:
        """A new small constant."""
        name = self.name(like)
        self.tensors.append(Tensor(name, dtype, tuple(dims), packed(numbers, dtype)))
        return name

    def ints(self, like: str, numbers: Sequence[int]) -> str:
        """A new list of int64."""
        return self.constant(like, numbers, (len(numbers),), dtypes.INT64)

    def name(self, like: str) -> str:
        """A name that nothing has."""
        found, count = f"{like}_dense", 1
        while found in self._taken:
            count += 1
            found = f"{like}_dense{count}"
        self._taken.add(found)
        return found

    # one node

    def _node(self, fact: NodeFact) -> None:
        node, self._made, tensors = fact.node, [], len(self.tensors)
        reads = [name for name in (*node.inputs, *captures(node)) if name]
        dilated = any(grid.factor > 1 for name in reads for grid in self.grids.get(name, ()))
        try:
            found = self._by_rule(fact, dilated)
        except NoDenseTwin as stop:
            self._made, found = [], None
            del self.tensors[tensors:]
            self._inherit(node, reads)  # the first reason on the way is the cause of those behind it
            for name in node.outputs:
                self.lost.setdefault(name, f"{node.op} {fact.label} {stop}")
        if found is None:
            found = self._thinned(fact, dilated)
        self._inherit(node, reads)
        for name, grids in zip(node.outputs, found, strict=False):
            if name and grids is not None:
                self.grids[name] = grids
        self._finish(node)

    def _by_rule(self, fact: NodeFact, dilated: bool) -> list[Grids | None] | None:
        """The grids of the outputs; None where no rule is asked."""
        from onnxscope.rewrite.atrous_rules import RULES

        if fact.node.index not in self.wanted:
            return None
        rule = RULES.get(fact.node.op) if fact.node.domain in ("", "ai.onnx", "com.microsoft") else None
        if rule is None and dilated:
            raise NoDenseTwin("looks at the map in a way that can't be dilated")
        grids = rule(self, fact) if rule is not None else None
        return None if grids is None else [grids] * len(fact.node.outputs)

    def _thinned(self, fact: NodeFact, dilated: bool) -> list[Grids | None]:
        """The node on the common cells of its inputs."""
        node = fact.node
        if dilated:
            if any(g.factor > 1 for name in captures(node) for g in self.grids.get(name, ())):
                raise Unwritable(f"{node.op} {fact.label} reads a denser map from inside a branch or loop")
            inputs = tuple(self._common(name) for name in node.inputs)
            self._made.append(replace(node, inputs=inputs, origin=None))
        else:
            self._made.append(node)
        return [self._same_places(fact, name) for name in node.outputs]

    def _same_places(self, fact: NodeFact, name: str) -> Grids | None:
        """Axes keep their stride where their size stays, and all inputs with such axes agree."""
        shape = self.facts.value(name).shape if name else None
        if shape is None:
            return None
        first = next((n for n in fact.node.inputs if self.grids.get(n)), "")
        before, grids = self.facts.value(first).shape, self.grids.get(first, ())
        if before is None or len(before) != len(shape) or len(grids) != len(shape):
            if len(shape) > 2 and any(grid.stride for grid in grids[2:]):
                text = f"{fact.node.op} {fact.label} rearranges the map, so the stride behind it is unknown"
                self.lost.setdefault(name, text)
            return (Grid(None),) * len(shape)
        rows = list(zip(grids, before, shape, strict=True))
        if any(a != b and b != 1 and grid.stride for grid, a, b in rows[2:]):
            text = (
                f"{fact.node.op} {fact.label} changes the size of the map, so the stride behind it is unknown"
            )
            self.lost.setdefault(name, text)
        return tuple(Grid(grid.stride if a == b else None) for grid, a, b in rows)

    def _common(self, name: str) -> str:
        """The common cells of a value. Raises Unwritable below opset 10, whose Slice has no steps."""
        grids = self.grids.get(name, ())
        axes = [axis for axis, grid in enumerate(grids) if grid.factor > 1]
        if not axes:
            return name
        if name not in self._thin:
            self._thin[name] = self._slice(name, self.renamed.get(name, name), axes)
        return self._thin[name]

    def _slice(self, like: str, value: str, axes: list[int], output: str = "") -> str:
        if self.opset < 10:
            raise Unwritable(
                f"{like} is needed at its common cells, which opset {self.opset} can't slice out"
            )
        steps = [self.grids[like][axis].factor for axis in axes]
        lists = ([0] * len(axes), [END] * len(axes), axes, steps)
        inputs = [value, *(self.ints(f"{like}_common", numbers) for numbers in lists)]
        return self.emit("Slice", inputs, f"{like}_common", output)

    def _inherit(self, node: Node, reads: Iterable[str]) -> None:
        """Outputs behind a value that lost its density lost theirs for the same reason."""
        reason = next((self.lost[name] for name in reads if name in self.lost), None)
        if reason:
            for name in node.outputs:
                self.lost.setdefault(name, reason)

    def _finish(self, node: Node) -> None:
        """Put what was made in place of the node; an output that must not be denser is thinned."""
        made = [self._renamed(item) for item in self._made]
        self._made = []
        for name in node.outputs:
            axes = [i for i, grid in enumerate(self.grids.get(name, ())) if grid.factor > 1]
            if name in self._held and axes:
                self.renamed[name] = dense = self.name(name)
                made = [_output(item, name, dense) for item in made]
                self._slice(name, dense, axes, output=name)
        made += self._made
        if made != [node]:
            self.removed.add(node.index)
            self.added += [(node.index, item) for item in made]

    def _renamed(self, node: Node) -> Node:
        inputs = tuple(self.renamed.get(name, name) for name in node.inputs)
        return node if inputs == node.inputs else replace(node, inputs=inputs, origin=None)


def _output(node: Node, name: str, new: str) -> Node:
    if name not in node.outputs:
        return node
    return replace(node, outputs=tuple(new if o == name else o for o in node.outputs), origin=None)


Rule: TypeAlias = "Callable[[Walk, NodeFact], Grids | None]"


class Unwritable(Exception):
    """The whole model can't be made denser; its text says why."""


@dataclass(frozen=True, slots=True)
class Dense:
    """What makes a converted model denser."""

    edit: Edit
    """A change to the converted model."""
    factors: dict[str, tuple[int, ...]]
    """Value -> per axis, every how many cells the strided network has one; only where one is above 1."""
    renamed: dict[str, str]
    """Output that must not be denser -> the denser value that later layers read in its place."""
    changed: tuple[str, ...]
    """Labels of layers that lost their stride or were dilated."""


def strides(facts: Facts, outputs: Collection[str]) -> dict[str, tuple[int, ...] | str]:
    """Input pixels between the cells of each of `outputs`, per spatial axis, or why that isn't known."""
    walk = Walk(facts, 0, _leading(facts, outputs), outputs).run()
    found: dict[str, tuple[int, ...] | str] = {}
    for name in outputs:
        axes = [grid.stride for grid in walk.grids.get(name, ())[2:]]
        known = tuple(stride for stride in axes if stride is not None)
        found[name] = known if axes and len(known) == len(axes) else walk.lost.get(name, ONE_CELL)
    return found


def dense(facts: Facts, step: int, outputs: Collection[str]) -> Dense | str:
    """The change after which `outputs` have a cell every `step` input pixels, or why there is none.

    `facts` are those of the converted model; `step` divides the strides of its maps.
    """
    walk = Walk(facts, step, _leading(facts, outputs), outputs)
    try:
        walk.run()
    except Unwritable as stop:
        return next(iter(walk.lost.values()), str(stop))
    for name in outputs:
        for grid in walk.grids.get(name, ())[2:]:
            if grid.stride is None or grid.stride != step * grid.factor:
                return walk.lost.get(name, ONE_CELL)
    edit = Edit(frozenset(walk.removed), tuple(walk.added), tuple(walk.tensors))
    factors = {
        walk.renamed.get(name, name): tuple(grid.factor for grid in grids)
        for name, grids in walk.grids.items()
        if any(grid.factor > 1 for grid in grids)
    }
    return Dense(edit, factors, walk.renamed, tuple(walk.changed))


def _leading(facts: Facts, outputs: Collection[str]) -> set[int]:
    """Indexes of the nodes that lead to outputs."""
    graph, found, waiting = facts.main.graph, set[int](), list(outputs)
    while waiting:
        node = graph.producers.get(waiting.pop())
        if node is not None and node.index not in found:
            found.add(node.index)
            waiting += [*node.inputs, *captures(node)]
    return found
