"""Shapes of every value: one walk in execution order, one rule per op, unknown where no rule can answer.

Declared shapes in the file are used only where no rule answers: exporters leave stale ones behind, and onnx's
own inference is wrong for some pools (ceil_mode below opset 22).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from onnxscope.analysis.answers import Answers
from onnxscope.analysis.bindings import Bindings
from onnxscope.analysis.facts import Facts, NodeFact, Problem, ScopeFacts
from onnxscope.errors import FileError
from onnxscope.expr import Size, TooComplex, Worked
from onnxscope.graph import Attribute, Function, Graph, Model, Node, Tensor, domain_of
from onnxscope.ops import registry
from onnxscope.ops.registry import Branch, Rule, View
from onnxscope.ops.value import UNKNOWN, Inferred, Unanswered, ValueFact, possible

MAX_DEPTH = 40
"""Nesting of subgraphs and function calls that is followed; deeper ones are a Problem (functions may
recurse)."""
MAX_INSIDE = 200_000
"""Nodes looked at inside nested graphs and calls, each time anew: thirty functions that each call the next
one twice are a billion."""


def infer(
    model: Model,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Facts:
    """Shapes, types and small constants of every value of the model.

    `shapes` binds whole inputs (a name in place of a number makes that axis a symbol), `dims` binds symbols
    by name. Raises UsageError for a binding that names no input or symbol, or has the wrong rank.
    """
    engine = _Engine(model, Bindings.of(model, shapes or {}, dims or {}))
    engine.run_main()
    return engine.facts()


class _Engine:
    """State of one walk; everything that leaves it is frozen."""

    def __init__(self, model: Model, bindings: Bindings) -> None:
        self.model = model
        self.bindings = bindings
        self.scopes: dict[str, ScopeFacts] = {}
        self.owners: dict[str, tuple[str, int]] = {}
        self.inside = 0
        """Nodes looked at inside nested graphs and calls so far."""
        self.problems: list[Problem] = [Problem(o.where, o.message) for o in model.oddities]
        self.answers = Answers()
        self.functions = {(domain_of(f.domain), f.name, f.overload): f for f in model.functions}

    def facts(self) -> Facts:
        ordered = {"": self.scopes[""], **self.scopes}
        return Facts(
            self.model, ordered, tuple(dict.fromkeys(self.problems)), self.bindings.dims, owners=self.owners
        )

    def run_main(self) -> None:
        graph = self.model.graph
        values = self._stored(graph)
        defaults = set(values) if self.model.ir_version >= 4 else set()
        for info in graph.inputs:
            if info.name not in values:
                values[info.name] = self.bindings.input_fact(info)
            elif info.name in defaults:  # a default that the caller may override: not a constant
                fact = values[info.name]
                values[info.name] = fact._replace(
                    constant=False, overridable=True, default=fact.tensor, tensor=None
                )
        self.problems += self.bindings.problems
        _Scope(self, "", graph, values, None, self.model.opset, 0).run()

    @staticmethod
    def _stored(graph: Graph) -> dict[str, ValueFact]:
        values = {tensor.name: stored(tensor) for tensor in graph.tensors}
        for sparse in graph.sparse:
            values[sparse.values.name] = ValueFact(
                sparse.values.dtype, sparse.dims, origin="stored", constant=True, default=sparse.values
            )
        return values


def stored(tensor: Tensor) -> ValueFact:
    """The fact of an initializer or constant."""
    if not _possible(tensor.dims):
        return ValueFact(tensor.dtype, None, origin="stored", constant=True)
    return ValueFact(tensor.dtype, tensor.dims, "", "stored", True, None, tensor)


_possible = lru_cache(maxsize=1024)(possible)
"""Stored tensors have few distinct shapes."""


class _Callee(NamedTuple):
    """Who answers for an op: a function of the model, a rule, or neither."""

    function: Function | None
    rule: Rule | None
    version: int
    """Opset version of the op's domain; 0 where the model imports none."""


class _Scope:
    """The walk over one graph."""

    def __init__(
        self,
        engine: _Engine,
        path: str,
        graph: Graph,
        values: dict[str, ValueFact],
        parent: _Scope | None,
        opset: Mapping[str, int],
        depth: int,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> None:
        self.engine = engine
        self.path = path
        self.graph = graph
        self.values = values
        self.parent = parent
        self.opset = opset
        self.depth = depth
        self.attributes = attributes
        self.nodes: list[NodeFact] = []
        self.callees: dict[tuple[str, str, str], _Callee] = {}
        self.random: set[int] = set()
        """Places of the nodes that draw random numbers, in themselves or in a graph inside."""
        self.declared = {v.name: v.type for v in (*graph.values, *graph.outputs)}

    def run(self) -> None:
        order = self.graph.order
        for node in order:
            self._step(node)
        if len(order) < len(self.graph.nodes):
            self._report_cycle(order)
        self.engine.scopes[self.path] = ScopeFacts(
            self.path,
            self.graph,
            self.values,
            tuple(self.nodes),
            None if self.parent is None else self.parent.path,
        )

    def _report_cycle(self, order: tuple[Node, ...]) -> None:
        reached = {id(node) for node in order}
        stuck = [node for node in self.graph.nodes if id(node) not in reached]
        names = ", ".join(self.label(node) for node in stuck[:5])
        self._problem(
            self.label(stuck[0]), f"{len(stuck)} nodes are on a cycle or behind one and never run: {names}"
        )
        for node in stuck:
            rule = registry.find(domain_of(node.domain), node.op, self.opset.get(domain_of(node.domain)))
            inferred = Inferred(unknown_macs=rule is None or rule.multiplies)
            self._keep(node, rule, inferred, (None,) * len(node.inputs), answered=False)

    def _problem(self, where: str, message: str, kind: str = "") -> None:
        self.engine.problems.append(Problem(f"{self.path}{where}", message, kind))

    def label(self, node: Node) -> str:
        return self.graph.labels[node.index]

    def lookup(self, name: str) -> ValueFact | None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        return None

    def _step(self, node: Node) -> None:
        node = self._with_attributes(node)
        known = self.values.get
        inputs = tuple([known(name) or self._input(node, name) if name else None for name in node.inputs])
        call = self._callee(node)
        if call.rule is not None and not call.rule.deterministic:
            self.random.add(node.index)
        try:
            inferred, answered = self._answer(call, node, inputs), True
        except (Unanswered, FileError) as stop:
            answered = False
            inferred = Inferred(unknown_macs=call.rule is None or call.rule.multiplies)
            kind = stop.kind if isinstance(stop, Unanswered) else ""
            self._problem(self.label(node), f"{node.op}: {stop}", kind)
        for what, left, right in inferred.agree:
            if left != right and isinstance(left, int) and isinstance(right, int):
                self._problem(self.label(node), f"{node.op}: {what} don't match: {left} and {right}")
        constant, fixed = self._constancy(node, inputs) if answered else (False, False)
        self._keep(node, call.rule, inferred, inputs, answered=answered, constant=constant, fixed=fixed)

    def _callee(self, node: Node) -> _Callee:
        key = node.domain, node.op, node.overload
        found = self.callees.get(key)
        if found is None:
            domain = domain_of(node.domain)
            version = self.opset.get(domain)
            function = self.engine.functions.get((domain, node.op, node.overload))
            rule = None if function else registry.find(domain, node.op, version)
            self.callees[key] = found = _Callee(function, rule, version or 0)
        return found

    def _answer(self, call: _Callee, node: Node, inputs: tuple[ValueFact | None, ...]) -> Inferred:
        """The answer of the node's function, rule or fallback. Raises Unanswered and FileError."""
        answers, question = self.engine.answers, None
        if call.rule is not None:
            question = answers.question(call.rule, node, call.version, inputs)
            known = answers.known(question)
            if known is not None:
                return known
        view = View(node, call.version, inputs, self._runner(node), [], self.path, self.label(node))
        if call.function is not None:
            return self._call(call.function, view).checked()
        if call.rule is None:
            return self._fallback(view).checked()
        try:
            return answers.ask(question, call.rule, view)
        except TooComplex as bad:
            raise Unanswered(f"its sizes need {bad}") from bad
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as bad:
            raise Unanswered(f"the node doesn't fit its specification ({type(bad).__name__}: {bad})") from bad

    def _constancy(self, node: Node, inputs: Sequence[ValueFact | None]) -> tuple[bool, bool]:
        """Whether a node's outputs are constants, and whether they are fixed (`ValueFact.fixed`).

        They depend on its inputs, on what its graphs capture, and on random numbers.
        """
        if node.index in self.random:
            return False, False
        constant = True
        captured = self.graph.captured.get(node.index)
        if captured:
            inputs = (*inputs, *(self.lookup(name) or UNKNOWN for name in captured))
        for fact in inputs:
            if fact is not None and not fact.constant:
                if not fact.overridable:
                    return False, False
                constant = False
        return constant, True

    def _with_attributes(self, node: Node) -> Node:
        """Inside a function body, attributes that refer to the call's get its values."""
        if self.attributes is None or not any(a.reference for a in node.attributes):
            return node
        given = self.attributes
        kept = [
            replace(given[a.reference], name=a.name) if a.reference else a
            for a in node.attributes
            if not a.reference or a.reference in given
        ]
        return replace(node, attributes=tuple(kept))

    def _input(self, node: Node, name: str) -> ValueFact:
        found = self.lookup(name)
        if found is None:
            if name not in self.graph.producers:
                self._problem(
                    self.label(node),
                    f"{node.op}: input {name!r} is produced by no node, input or initializer",
                )
            return UNKNOWN
        return found

    def _fallback(self, view: View) -> Inferred:
        from onnxscope.ops import fallback

        return fallback.infer(view, self.engine.model.ir_version)

    def _call(self, function: Function, view: View) -> Inferred:
        """Analyse a model-local function through its body."""
        given = {a.name: a for a in (*function.defaults, *view.node.attributes)}
        inputs = [view.inputs[i] if i < len(view.inputs) else None for i in range(len(function.inputs))]
        values = {name: fact or UNKNOWN for name, fact in zip(function.inputs, inputs, strict=True)}
        opset = {domain_of(domain): version for domain, version in function.opsets}
        path = f"{self.path}{view.label}.{function.name}/"
        scope = self._enter(path, view.node, function.body, values, opset, attributes=given, captures=False)
        outputs = [scope.values.get(name, UNKNOWN) for name in function.outputs]
        return outputs_of(outputs, macs_of(scope.nodes))

    def _runner(self, node: Node) -> Callable[[Graph, str, Sequence[ValueFact]], Branch]:
        def run(graph: Graph, attribute: str, inputs: Sequence[ValueFact]) -> Branch:
            values = self.engine._stored(graph)
            for info, fact in zip(graph.inputs, inputs, strict=False):
                values[info.name] = fact
            for info in graph.inputs[len(inputs) :]:
                values[info.name] = self.engine.bindings.declared_fact(
                    info, f"{self.path}{self.label(node)}.{attribute}/"
                )
            path = f"{self.path}{self.label(node)}.{attribute}/"
            scope = self._enter(
                path, node, graph, values, self.opset, attributes=self.attributes, captures=True
            )
            outputs = tuple(scope.lookup(info.name) or UNKNOWN for info in graph.outputs)
            return Branch(outputs, macs_of(scope.nodes))

        return run

    def _enter(
        self,
        path: str,
        node: Node,
        graph: Graph,
        values: dict[str, ValueFact],
        opset: Mapping[str, int],
        *,
        attributes: Mapping[str, Attribute] | None,
        captures: bool,
    ) -> _Scope:
        if self.depth >= MAX_DEPTH:
            raise Unanswered(f"nested deeper than {MAX_DEPTH} graphs and calls; does a function call itself?")
        if self.engine.inside + len(graph.nodes) > MAX_INSIDE:
            raise Unanswered(f"there are more than {MAX_INSIDE:,} nodes inside nested graphs and calls")
        self.engine.inside += len(graph.nodes)
        parent = self if captures else None
        scope = _Scope(self.engine, path, graph, values, parent, opset, self.depth + 1, attributes)
        self.engine.owners[path] = (self.path, node.index)
        scope.run()
        if scope.random:
            self.random.add(node.index)
        return scope

    def _keep(
        self,
        node: Node,
        rule: Rule | None,
        inferred: Inferred,
        inputs: tuple[ValueFact | None, ...],
        *,
        answered: bool,
        constant: bool = False,
        fixed: bool = False,
    ) -> None:
        overridable = fixed and not constant
        outputs: list[ValueFact | None] = []
        for index, name in enumerate(node.outputs):
            if not name:
                outputs.append(None)
                continue
            fact = self.engine.answers.fact(inferred, index, constant, overridable)
            if name in self.declared:
                fact = self.engine.bindings.completed(fact, self.declared[name], f"{self.path}{name}")
            outputs.append(fact)
            if self.graph.producers[name].index == node.index:  # of two with one name the first
                self.values[name] = fact
        label = f"{self.path}{self.label(node)}"
        named = any(node.outputs)
        folded, fixed = named and constant, named and fixed
        self.nodes.append(
            NodeFact(node, self.path, rule, inferred, answered, label, inputs, tuple(outputs), folded, fixed)
        )


def outputs_of(facts: Sequence[ValueFact], macs: Worked | None) -> Inferred:
    """The answer of a node whose outputs are those of its body; `macs` None means unknown."""
    return Inferred(
        shapes=tuple(fact.shape for fact in facts),
        dtypes=tuple(fact.dtype for fact in facts),
        data=tuple(fact.data for fact in facts),
        containers=tuple(fact.container for fact in facts),
        macs=macs,
        unknown_macs=macs is None,
    )


def macs_of(nodes: Sequence[NodeFact]) -> Worked | None:
    """Sum of the nodes' MACs; None where one of them is unknown."""
    total: Size = 0
    for fact in nodes:
        if fact.inferred.unknown_macs:
            return None
        if fact.inferred.macs is not None:
            total = total + fact.inferred.macs.value
    return Worked.of(total)
