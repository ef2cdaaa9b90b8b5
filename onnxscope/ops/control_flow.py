"""If, Loop, Scan and SequenceMap: the answers of their subgraphs, merged or carried from turn to turn.

Values that a loop carries are followed until nothing changes: what differs between two turns becomes unknown,
and the body is looked at again. Source: ONNX Operators.md, the versions named at each rule; IR.md, "Graphs".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from onnxscope import dtypes
from onnxscope.expr import Expr, Size, Symbol, Worked, at_least, maximum, symbol, symbols
from onnxscope.graph import Graph
from onnxscope.ops._merging import answer, fresh, merged
from onnxscope.ops.registry import Branch, View, axis_of, op
from onnxscope.ops.value import Data, Inferred, Shape, Unanswered, ValueFact

Ints = tuple[int, ...]
MAX_RUNS = 8
"""Looks at a loop body; each widens at least one axis, so that real models need two or three."""


# --- If ---


@op("If")
def if_(n: View) -> Inferred:
    """Outputs that both branches agree on; sizes that differ are unknown, ranks that differ leave no shape.

    MACs: the larger branch. A constant condition takes its branch and the other one is not looked at.
    Source: If-1, -11, -21.
    """
    condition = _flag(n.content(0))
    if condition is not None:
        taken = "then_branch" if condition else "else_branch"
        found = n.subgraph(taken, ())
        return answer(found.outputs, found.macs, _counted(found.macs, f"{taken}, its condition is constant"))
    then, other = n.subgraph("then_branch", ()), n.subgraph("else_branch", ())
    outputs = [
        merged(a, b, partial(n.unknown, output=i))
        for i, (a, b) in enumerate(zip(then.outputs, other.outputs, strict=True))
    ]
    return answer(outputs, *_larger(then.macs, other.macs))


def _flag(data: Data | None) -> bool | None:
    """A condition (a bool of shape () or (1,)) where it is known."""
    if data is None or len(data.items) != 1 or isinstance(data.items[0], Expr):
        return None
    return bool(data.items[0])


def _counted(macs: Worked | None, what: str) -> str:
    return f"If: counted {what}" if macs is not None and macs.value != 0 else ""


def _larger(then: Worked | None, other: Worked | None) -> tuple[Worked | None, str]:
    """The MACs of the larger branch and a note that says which."""
    if then is None or other is None:
        return None, ""
    if then.value == other.value:
        return then, _counted(then, f"then_branch, both take {then.value} MACs")
    if at_least(then.value, other.value):
        return then, f"If: counted then_branch, the larger of {then.value} and {other.value} MACs"
    if at_least(other.value, then.value):
        return other, f"If: counted else_branch, the larger of {then.value} and {other.value} MACs"
    largest = Worked("max", (then, other), maximum(then.value, other.value))
    return largest, f"If: counted the larger branch, {then.value} or {other.value} MACs"


# --- Loop ---


@op("Loop")
def loop(n: View) -> Inferred:
    """Final values of what the loop carries, then its scan outputs [turns, *shape of one turn].

    Inputs: most turns M (optional), condition (optional), carried values. The turns are known where M is and
    both conditions are constant true. MACs: those of the body times the turns. Stays unknown: carried sizes
    that change from turn to turn; turns, and with them the MACs, of a loop that may end early. Source:
    Loop-1, -11, -13.
    """
    body = _graph(n, "body")
    start = _flag(n.content(1)) if n.has(1) else True
    first = [
        ValueFact(dtypes.INT64, ()),
        ValueFact(dtypes.BOOL, (), data=Data((), (True,)) if start else None),
    ]
    carried = [_start(n, i) for i in range(2, len(n.inputs))]
    state, branch, inner = _settled(n, body, "body", lambda values: [*first, *values], carried, skip=1)
    goes_on = start and _flag(branch.outputs[0].known())
    turns = 0 if start is False else _turns(n) if goes_on else None
    finals = [
        _final(n, i, *row, inner, once=turns is not None and at_least(turns, 1))
        for i, row in enumerate(zip(state, branch.outputs[1:], strict=False))
    ]
    scans = [
        _stacked(n, len(state) + i, fact, turns, 0, inner)
        for i, fact in enumerate(branch.outputs[1 + len(state) :])
    ]
    return answer([*finals, *scans], *_repeated("Loop", branch.macs, turns, inner))


def _graph(n: View, attribute: str) -> Graph:
    graph = n.node.attribute(attribute)
    if not isinstance(graph, Graph):
        raise Unanswered(f"attribute {attribute} holds no graph")
    return graph


def _start(n: View, index: int) -> ValueFact:
    """An input as the first turn finds it; not a constant for the body, as it may change."""
    fact = n.fact(index)
    return ValueFact(fact.dtype, fact.shape, fact.container, data=n.known(index))


def _turns(n: View) -> Size | None:
    """The trip count M where its content is known."""
    if not n.has(0) or n.content(0) is None:
        return None
    (turns,) = n.sizes(0)
    return 0 if isinstance(turns, int) and turns < 0 else turns


def _settled(
    n: View,
    body: Graph,
    attribute: str,
    arguments: Callable[[Sequence[ValueFact]], Sequence[ValueFact]],
    carried: Sequence[ValueFact],
    *,
    skip: int,
) -> tuple[list[ValueFact], Branch, set[Symbol]]:
    """Carried values as any turn may find them, the body's answer about such a turn, symbols made for them.

    `arguments` puts the other inputs of the body around the carried values; its first `skip` outputs are not
    carried.
    """
    names = [info.name for info in body.inputs]
    inner: set[Symbol] = set()
    state = list(carried)
    for _ in range(MAX_RUNS):
        inputs = arguments(state)
        branch = n.subgraph(attribute, inputs)
        results = branch.outputs[skip : skip + len(state)]
        if len(results) < len(state):
            raise Unanswered(
                f"the body gives {len(branch.outputs)} outputs, too few for {len(state)} carried values"
            )
        offset = len(inputs) - len(state) if skip else 0
        widened = [
            merged(one, other, partial(_turn_size, n, f"{attribute}/{names[offset + i]}", inner))
            for i, (one, other) in enumerate(zip(state, results, strict=True))
        ]
        widened = [fact._replace(constant=False) for fact in widened]
        if widened == state:
            return state, branch, inner
        state = widened
    raise Unanswered(f"carried values still change after {MAX_RUNS} looks at the body")


def _turn_size(n: View, name: str, made: set[Symbol], axis: int) -> Expr:
    """The size of a carried value at the start of some turn."""
    size = symbol(f"{n.scope}{n.label}.{name}.dim{axis}", invented=True)
    made.update(symbols(size))
    return size


def _final(
    n: View, index: int, state: ValueFact, result: ValueFact, inner: set[Symbol], *, once: bool
) -> ValueFact:
    """A carried value after the loop: what the last turn gave, or its start where there may be no turn."""
    fact = result if once else state
    data = fact.data
    if data is not None and any(isinstance(item, Expr) and symbols(item) & inner for item in data.items):
        data = None
    return fact._replace(shape=_outside(fact.shape, inner, partial(n.unknown, output=index)), data=data)


def _outside(shape: Shape | None, inner: set[Symbol], unknown: Callable[[int], Expr]) -> Shape | None:
    """The shape as seen after the loop: sizes that depend on the turn are unknown there."""
    if shape is None:
        return None
    return tuple(unknown(axis) if symbols(size) & inner else size for axis, size in enumerate(shape))


def _stacked(
    n: View, index: int, fact: ValueFact, turns: Size | None, axis: int, inner: set[Symbol]
) -> ValueFact:
    """A scan output: one turn's value with a new axis for the turns."""
    if fact.shape is None:
        return ValueFact(fact.dtype)
    unknown = partial(n.unknown, output=index)
    shape = list(fact.shape)
    place = axis_of(axis, len(shape) + 1)
    shape.insert(place, unknown(place) if turns is None else turns)
    return ValueFact(fact.dtype, _outside(tuple(shape), inner, unknown))


def _repeated(
    what: str, macs: Worked | None, turns: Size | None, inner: set[Symbol]
) -> tuple[Worked | None, str]:
    """MACs of all turns and a note on how they were counted."""
    if macs is None or macs.value == 0:
        return macs, ""
    if symbols(macs.value) & inner:
        return None, f"{what}: the MACs of a turn depend on sizes that change from turn to turn"
    if turns is None:
        return None, f"{what}: a turn takes {macs.value} MACs, the number of turns is unknown"
    return Worked.of(turns) * macs.value, f"{what}: counted {turns} turns of {macs.value} MACs"


# --- Scan ---


@op("Scan", since=9)
def scan(
    n: View,
    *,
    num_scan_inputs: int = 0,
    scan_input_axes: Ints = (),
    scan_output_axes: Ints = (),
) -> Inferred:
    """Final states, then scan outputs with an axis for the turns; each turn sees a slice of every scan input.

    Directions change no size. MACs: those of the body times the size of the scanned axis. Source: Scan-9,
    -11.
    """
    body = _graph(n, "body")
    states = len(n.inputs) - num_scan_inputs
    if num_scan_inputs < 1 or states < 0:
        raise Unanswered(f"num_scan_inputs is {num_scan_inputs}, the node has {len(n.inputs)} inputs")
    slices: list[ValueFact] = []
    sizes: list[Size] = []
    for i in range(num_scan_inputs):
        x = n.shape(states + i)
        place = axis_of(scan_input_axes[i] if scan_input_axes else 0, len(x))
        sizes.append(x[place])
        slices.append(ValueFact(n.dtype(states + i), (*x[:place], *x[place + 1 :])))
    turns = _scan_length(sizes)
    carried = [_start(n, i) for i in range(states)]
    state, branch, inner = _settled(n, body, "body", lambda values: [*values, *slices], carried, skip=0)
    once = at_least(turns, 1)
    finals = [
        _final(n, i, *row, inner, once=once) for i, row in enumerate(zip(state, branch.outputs, strict=False))
    ]
    scans = [
        _stacked(n, states + i, fact, turns, scan_output_axes[i] if scan_output_axes else 0, inner)
        for i, fact in enumerate(branch.outputs[states:])
    ]
    result = answer([*finals, *scans], *_repeated("Scan", branch.macs, turns, inner))
    return result._replace(agree=tuple(("lengths of the scan inputs", turns, size) for size in sizes))


def _scan_length(sizes: Sequence[Size]) -> Size:
    return next((size for size in sizes if isinstance(size, int)), sizes[0])


@op("Scan", since=8)
def scan_batched(n: View, *, num_scan_inputs: int = 0) -> Inferred:
    """Scan-8: inputs sequence_lens (optional), states [B, ...], scan inputs [B, T, ...]; outputs likewise.

    MACs: those of the body times B*T (shorter sequences are not told apart). Source: Scan-8.
    """
    body = _graph(n, "body")
    states = len(n.inputs) - 1 - num_scan_inputs
    if num_scan_inputs < 1 or states < 0:
        raise Unanswered(f"num_scan_inputs is {num_scan_inputs}, the node has {len(n.inputs)} inputs")
    rows = [n.shape(1 + states + i) for i in range(num_scan_inputs)]
    if any(len(row) < 2 for row in rows):
        raise Unanswered("a scan input needs a batch and a sequence axis")
    batch, turns = rows[0][0], _scan_length([row[1] for row in rows])
    slices = [ValueFact(n.dtype(1 + states + i), row[2:]) for i, row in enumerate(rows)]
    carried = [ValueFact(n.dtype(1 + i), n.shape(1 + i)[1:]) for i in range(states)]
    state, branch, inner = _settled(n, body, "body", lambda values: [*values, *slices], carried, skip=0)
    finals = [
        _batched(_final(n, i, *row, inner, once=at_least(turns, 1)), batch)
        for i, row in enumerate(zip(state, branch.outputs, strict=False))
    ]
    scans = [
        _batched(_stacked(n, states + i, fact, turns, 0, inner), batch)
        for i, fact in enumerate(branch.outputs[states:])
    ]
    return answer([*finals, *scans], *_repeated("Scan", branch.macs, batch * turns, inner))


def _batched(fact: ValueFact, batch: Size) -> ValueFact:
    return ValueFact(fact.dtype, None if fact.shape is None else (batch, *fact.shape))


# --- SequenceMap ---


@op("SequenceMap", since=17)
def sequence_map(n: View) -> Inferred:
    """The body on each element of the first sequence; further sequences give one element, tensors pass whole.

    Stays unknown: MACs, unless the body does none (the length of a sequence isn't followed).
    Source: SequenceMap-17.
    """
    body = _graph(n, "body")
    inputs = []
    for i, info in enumerate(body.inputs):
        fact = n.fact(i)
        name = f"{n.scope}{n.label}.body/{info.name}"
        element = fact.container == "sequence"
        made = partial(_element_size, name)
        inputs.append(fact._replace(container="", shape=fresh(fact.shape, made)) if element else fact)
    branch = n.subgraph("body", inputs)
    shapes = tuple(fact.shape for fact in branch.outputs)
    macs = branch.macs if branch.macs is not None and branch.macs.value == 0 else None
    note = f"SequenceMap: {branch.macs.value} MACs per element" if branch.macs and macs is None else ""
    result = answer(branch.outputs, macs, note)
    return result._replace(shapes=shapes, data=(), containers=("sequence",) * len(shapes))


def _element_size(name: str, axis: int) -> Expr:
    return symbol(f"{name}.dim{axis}", invented=True)
