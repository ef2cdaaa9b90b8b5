"""Answers that come again: a network asks the same few questions of its rules over and over.

A rule's answer follows from the op, its attributes, the types and shapes of its inputs, and what it reads of
their content. Where it read nothing and named nothing after the node, the answer holds for every node that
asks alike, and those nodes share one `Inferred` and the facts of its outputs.
"""

from __future__ import annotations

from collections.abc import Hashable

from onnxscope.graph import Attribute, Node
from onnxscope.ops.registry import Rule, View
from onnxscope.ops.value import Inferred, ValueFact


class Answers:
    """The answers of one analysis; what a key names by its `id` is kept alive beside it."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[Inferred, Rule, tuple[Attribute, ...]]] = {}
        self._facts: dict[Hashable, tuple[ValueFact, Inferred]] = {}

    @staticmethod
    def question(rule: Rule, node: Node, version: int, inputs: tuple[ValueFact | None, ...]) -> Hashable:
        """What the answer follows from, but for the content of the inputs."""
        asked = [
            # whether content may be had from it: `fact.holds`, without the call
            f and (f.dtype, f.shape, f.container, f.tensor is not None or f.data is not None)
            for f in inputs
        ]
        return id(rule), version, len(node.outputs), *map(id, node.attributes), *asked

    def known(self, question: Hashable) -> Inferred | None:
        """The answer that an earlier node got, where it holds for every node."""
        found = self._known.get(question)
        return None if found is None else found[0]

    def ask(self, question: Hashable, rule: Rule, view: View) -> Inferred:
        """What the rule says about the node. Raises as rules do."""
        found = rule.infer(view).checked()
        if not view.particular:
            self._known[question] = found, rule, view.node.attributes
        return found

    def fact(self, inferred: Inferred, index: int, constant: bool, overridable: bool) -> ValueFact:
        """The fact of one output of a node with that answer."""
        key = id(inferred), index, constant, overridable
        known = self._facts.get(key)
        if known is None:
            self._facts[key] = known = inferred.fact(index, constant, overridable), inferred
        return known[0]
