"""The table of op rules, and the view of a node that a rule gets.

A rule is a function `(view, *, attribute=default, ...) -> Inferred`. Its keyword defaults are the attribute
defaults of the specification; the engine passes what the node says. Register it with `@op`, once per name and
first opset:

    @op("Gemm", since=1, kind="fc", multiplies=True)
    def gemm(n: View, *, transA: int = 0, transB: int = 0) -> Inferred: ...

A rule never raises on a bad model: an accessor of `View` that can't answer raises `Unanswered`, and the
engine turns that into unknown shapes and a `Problem` row.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from onnxscope.errors import FileError
from onnxscope.expr import Expr, Size, Worked, symbol
from onnxscope.graph import AttributeValue, Graph, Node
from onnxscope.ops.value import MAX_RANK, Data, Inferred, Shape, Unanswered, ValueFact


class Rule(NamedTuple):
    """One row of the table."""

    name: str
    domain: str
    since: int
    function: Callable[..., Inferred]
    kind: str
    """Kind of the layer in reports: conv, conv_transpose, pool, global_pool, fc, norm or other."""
    multiplies: bool
    """True for matrix-like ops, whose MACs are counted; a failed rule then means an unknown count, not
    zero."""
    deterministic: bool
    """False for random ops, whose output is never a constant."""
    attributes: dict[str, Any]
    """Attribute names the rule asks for, with the specification's defaults."""

    def infer(self, view: View) -> Inferred:
        """Call the rule with the node's attributes. Raises Unanswered."""
        attributes = {}
        for name, default in self.attributes.items():
            value = view.node.attribute(name)
            attributes[name] = default if value is None else _plain(value)
        return self.function(view, **attributes)


def _plain(value: AttributeValue) -> object:
    """Strings of an attribute as text; everything else as it is."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, tuple):
        return tuple(item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value)
    return value


class Branch(NamedTuple):
    """The answer about a subgraph."""

    outputs: tuple[ValueFact, ...]
    macs: Worked | None
    """Sum over its nodes; None where one of them is unknown."""


class View(NamedTuple):
    """A node as its rule sees it: attributes apart, inputs as facts."""

    node: Node
    version: int
    """Opset version of the node's domain."""
    inputs: tuple[ValueFact | None, ...]
    """One fact per input; None for an absent optional input."""
    run: Callable[[Graph, str, Sequence[ValueFact]], Branch]
    """Analyse a subgraph: (graph, attribute name, facts of its inputs)."""
    used: list[int]
    """Inputs whose content the rule looked at, and outputs that it named sizes after."""
    scope: str = ""
    label: str = ""
    """Name of the node for people, unique in its graph."""

    @property
    def particular(self) -> bool:
        """Whether the rule looked at more than types and shapes, so that its answer is for this node only."""
        return bool(self.used)

    def has(self, index: int) -> bool:
        """Whether input `index` is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def fact(self, index: int) -> ValueFact:
        """The fact of an input. Raises Unanswered where it is absent."""
        self.used.append(index)
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise Unanswered(f"input {index} is missing")
        return found

    def shape(self, index: int, rank: int | None = None) -> Shape:
        """Sizes of an input. Raises Unanswered where unknown, or where the rank isn't `rank`."""
        shape = self.shape_or_none(index)
        if shape is None and not self.has(index):
            raise Unanswered(f"input {index} is missing")
        if shape is None:
            raise Unanswered(f"the shape of input {index} ({self.node.inputs[index]}) is unknown")
        if rank is not None and len(shape) != rank:
            raise Unanswered(f"input {index} ({self.node.inputs[index]}) has rank {len(shape)}, not {rank}")
        return shape

    def shape_or_none(self, index: int) -> Shape | None:
        """Sizes of an input; None where it is absent or unknown."""
        return fact.shape if index < len(self.inputs) and (fact := self.inputs[index]) is not None else None

    def dtype(self, index: int) -> int | None:
        """Element type of an input; None where it is absent or unknown."""
        return fact.dtype if index < len(self.inputs) and (fact := self.inputs[index]) is not None else None

    def known(self, index: int) -> Data | None:
        """Content of an input where it is known, small and readable, else None.

        For content that is only passed on: a missing external file must not cost a shape.
        """
        try:
            return self.content(index)
        except FileError:
            return None

    def content(self, index: int) -> Data | None:
        """Content that the answer depends on, None where unknown. Raises FileError if unreadable."""
        fact = self.inputs[index] if index < len(self.inputs) else None
        if fact is None or not fact.holds:
            return None
        self.used.append(index)
        return fact.known()

    def data(self, index: int) -> Data:
        """Content of an input. Raises Unanswered where unknown, FileError where it can't be read."""
        found = self.content(index)
        if found is None:
            name = self.node.inputs[index] if index < len(self.node.inputs) else ""
            raise Unanswered(f"the content of input {index} ({name or 'absent'}) is not a known constant")
        return found

    def sizes(self, index: int) -> tuple[Size, ...]:
        """Content of an input as whole sizes (a shape, axes, repeats). Raises Unanswered where it is none."""
        items = self.data(index).items
        whole = tuple([item for item in items if isinstance(item, (int, Expr))])
        if len(whole) < len(items):
            raise Unanswered(f"input {index} ({self.node.inputs[index]}) does not hold whole numbers")
        return whole

    def ints(self, index: int) -> tuple[int, ...]:
        """Content of an input as plain integers. Raises Unanswered where one is unknown or symbolic."""
        items = self.sizes(index)
        known = tuple([int(item) for item in items if isinstance(item, int)])
        if len(known) < len(items):
            raise Unanswered(f"input {index} ({self.node.inputs[index]}) depends on unknown sizes")
        return known

    def unknown(self, axis: int, output: int = 0) -> Expr:
        """A new symbol for a size that only running the model tells; named after the value and axis."""
        self.used.append(output)
        name = self.node.outputs[output] if output < len(self.node.outputs) else self.label
        return symbol(f"{self.scope}{name}.dim{axis}", invented=True)

    def unknowns(self, rank: Size, first: int = 0) -> list[Expr]:
        """New symbols for `rank` axes from axis `first` on. Raises Unanswered where the rank isn't known."""
        if not isinstance(rank, int) or not 0 <= rank <= MAX_RANK:
            raise Unanswered(
                f"the number of axes is {rank}"
                if isinstance(rank, int)
                else "not even the number of axes is known"
            )
        return [self.unknown(axis) for axis in range(first, first + rank)]

    def subgraph(self, attribute: str, inputs: Sequence[ValueFact]) -> Branch:
        """Analyse the subgraph in an attribute. Raises Unanswered where there is none."""
        self.used.append(0)
        graph = self.node.attribute(attribute)
        if not isinstance(graph, Graph):
            raise Unanswered(f"attribute {attribute} holds no graph")
        return self.run(graph, attribute, inputs)


def axis_of(axis: Size, rank: int) -> int:
    """An axis counted from the front. Raises Unanswered where it is outside [-rank, rank).

    >>> axis_of(-1, 4)
    3
    """
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise Unanswered(f"axis {axis} is outside rank {rank}")
    return axis % rank


_RULES: dict[tuple[str, str], list[Rule]] = {}


def op(
    *names: str,
    since: int = 1,
    domain: str = "",
    kind: str = "other",
    multiplies: bool = False,
    deterministic: bool = True,
) -> Callable[[Callable[..., Inferred]], Callable[..., Inferred]]:
    """Register a rule for the ops `names` of `domain`, from opset `since` until a newer rule takes over."""

    def register(function: Callable[..., Inferred]) -> Callable[..., Inferred]:
        for name in names:
            rows = _RULES.setdefault((domain, name), [])
            assert since not in [row.since for row in rows], f"two rules for {domain}:{name}-{since}"
            defaults = getattr(function, "__kwdefaults__", None) or {}
            rows.append(Rule(name, domain, since, function, kind, multiplies, deterministic, defaults))
            rows.sort(key=lambda row: -row.since)
        return function

    return register


@cache
def _load() -> None:
    """Import every family module of this package, so that each registers its rules: no list to keep."""
    skip = {"registry", "value", "fallback"}
    for name in sorted(os.listdir(os.path.dirname(__file__))):
        stem, ending = os.path.splitext(name)
        if ending == ".py" and stem not in skip and not stem.startswith("_"):
            importlib.import_module(f"onnxscope.ops.{stem}")


def find(domain: str, name: str, version: int | None) -> Rule | None:
    """The newest rule not above `version` (any version where None), or None where there is no rule."""
    _load()
    for rule in _RULES.get((domain, name), ()):
        if version is None or rule.since <= version:
            return rule
    return None


def rules() -> tuple[Rule, ...]:
    """Every registered rule, sorted by domain, name and opset."""
    _load()
    return tuple(
        sorted((r for rows in _RULES.values() for r in rows), key=lambda r: (r.domain, r.name, r.since))
    )
