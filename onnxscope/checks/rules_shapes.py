"""OX220-OX225: shapes that contradict each other, sizes baked into the graph."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.analysis.spatial import free_spatial
from onnxscope.checks._walk import connected, items, nodes
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, several
from onnxscope.checks.registry import check
from onnxscope.expr import Expr, Size, product, symbol, symbols
from onnxscope.graph import DimDecl, ValueInfo
from onnxscope.ops.value import ValueFact


def disagreement(info: ValueInfo, value: ValueFact) -> str:
    """How a declared shape and the computed one differ; "" where they may be the same."""
    declared, computed = info.type.shape, value.shape
    if info.type.kind != "tensor" or declared is None or computed is None or value.origin == "declared":
        return ""
    if value.container:
        return ""
    if len(declared) != len(computed):
        return f"declared with {len(declared)} axes, computed with {len(computed)}"
    wrong = [
        f"axis {axis} declared {want}, computed {size}"
        for axis, (want, size) in enumerate(zip(declared, computed, strict=True))
        if _differ(want, size)
    ]
    return several(wrong)


def _differ(declared: DimDecl, computed: Size) -> bool:
    """Whether a number is declared where another one, or a size of the caller's choice, comes out."""
    if not isinstance(declared, int):
        return False
    if isinstance(computed, int):
        return declared != computed
    free = list(symbols(computed))  # an expression may have that value for all sizes that work
    return len(free) == 1 and not free[0].invented and computed == symbol(free[0].name)


@check("OX220", "output-shape-contradiction", severity="error")
def output_shape_contradiction(facts: Facts) -> Iterator[Finding]:
    """An output declares a shape that the graph doesn't give.

    What it flags:
        Graph outputs whose declared rank or size differs from the computed one; both are named. A number that
        is declared where a free size comes out counts too.

    Why it matters:
        The checker passes, onnxruntime warns or refuses, and callers allocate the wrong buffer.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3] x) => (float[3, 3] y) { y = Transpose <perm = [1, 0]> (x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3] x) => (float[3, 2] y) { y = Transpose <perm = [1, 0]> (x) }

    Fix and its safety:
        Declare what is computed; nothing is computed differently.

    Source:
        onnx#5974; onnxruntime, "Mismatch between number of inferred and declared dimensions".
    """
    for info in facts.main.graph.outputs:
        text = disagreement(info, facts.value(info.name))
        if text:
            message = f"shape contradiction of output {info.name!r}: {text}"
            yield at(output_shape_contradiction.finding(info.name, message), info)


@check("OX221", "stale-value-info", severity="warning")
def stale_value_info(facts: Facts) -> Iterator[Finding]:
    """Declared shapes between the nodes are wrong.

    What it flags:
        value_info entries of the main graph whose declared rank or size differs from the computed one.

    Why it matters:
        Tools that trust them (quantizers, converters, viewers) plan with wrong sizes. Usual cause: the
        file was edited, or a batch size changed, after shape inference.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3] x) => (float[3, 2] y) <float[2, 4] h> {
            h = Relu(x)
            y = Transpose <perm = [1, 0]> (h)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3] x) => (float[3, 2] y) <float[2, 3] h> {
            h = Relu(x)
            y = Transpose <perm = [1, 0]> (h)
        }

    Fix and its safety:
        Remove value_info and infer shapes again; nothing is computed differently.

    Source:
        ONNX IR.md, "Static tensor shapes"; onnx#5974.
    """
    found = [(info, disagreement(info, facts.value(info.name))) for info in facts.main.graph.values]
    wrong = [(info, text) for info, text in found if text]
    if wrong:
        info, text = wrong[0]
        more = f"; so are {len(wrong) - 1} more" if len(wrong) > 1 else ""
        message = f"stale value_info: {info.name!r} is wrong ({text}){more}"
        yield at(stale_value_info.finding(info.name, message, values=len(wrong)), info)


@check("OX222", "type-contradiction", severity="error")
def type_contradiction(facts: Facts) -> Iterator[Finding]:
    """A value declares another element type than the graph gives.

    What it flags:
        Outputs and value_info entries whose declared element type differs from the computed one, and
        value_info entries of tensors without an element type.

    Why it matters:
        onnxruntime refuses the model ("Type Error"); other tools read the bytes wrongly.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Cast <to = 7> (x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (int64[N] y) { y = Cast <to = 7> (x) }

    Fix and its safety:
        Declare what is computed, or cast to what was meant.

    Source:
        ONNX IR.md, "Graphs"; onnxruntime, Graph::InferAndVerifyTypeMatch.
    """
    for info in (*facts.main.graph.outputs, *facts.main.graph.values):
        value = facts.value(info.name)
        same = value.dtype is None or not info.type.dtype or info.type.kind != "tensor" or value.container
        if not same and value.origin != "declared" and value.dtype != info.type.dtype:
            text = f"type contradiction of {info.name!r}: declared {dtypes.name_of(info.type.dtype)}, "
            text += f"computed {dtypes.name_of(value.dtype)}"
            yield at(type_contradiction.finding(info.name, text), info)
    for info in facts.main.graph.values:
        if info.type.kind == "tensor" and not info.type.dtype:
            text = f"type contradiction of {info.name!r}: declared as a tensor without an element type"
            yield at(type_contradiction.finding(info.name, text, "remove the entry"), info)


@check("OX223", "sizes-that-do-not-fit", severity="error")
def sizes_that_do_not_fit(facts: Facts) -> Iterator[Finding]:
    """Operands of a node don't fit each other.

    What it flags:
        Sizes that must be equal and are two different numbers: inner dimensions of a matrix product, channels
        of map and weight, numbers of elements across a Reshape.

    Why it matters:
        The node fails when it runs, or when the model loads.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3] x, float[4, 5] w) => (float[2, 5] y) { y = MatMul(x, w) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3] x, float[3, 5] w) => (float[2, 5] y) { y = MatMul(x, w) }

    Fix and its safety:
        Check the declared input sizes; else export again.

    Source:
        ONNX Operators.md, shapes of each op.
    """
    for fact in facts.nodes():
        for what, left, right in fact.inferred.agree:
            if isinstance(left, int) and isinstance(right, int) and left != right:
                text = f"sizes don't fit in {fact.node.op}: {what} are {left} and {right}"
                yield at(sizes_that_do_not_fit.finding(fact.label, text), fact.node)


def batch_symbols(facts: Facts) -> set[str]:
    """Free sizes of the first axis of inputs with at least two axes."""
    stored = facts.main.graph.initializers
    shapes = [facts.value(info.name).shape for info in facts.main.graph.inputs if info.name not in stored]
    return {atom.name for shape in shapes if shape and len(shape) > 1 for atom in symbols(shape[0])}


def _names(size: Size) -> set[str]:
    return {atom.name for atom in symbols(size)}


_BROADCASTING = frozenset("Add Sub Mul Div Where Pow PRelu Max Min Sum".split())


def _meetings(facts: Facts, fact: NodeFact) -> Iterator[tuple[Expr, int, str]]:
    """(free size, number, what) of every place where a node wants the two to be equal."""
    for what, left, right in fact.inferred.agree:
        if isinstance(left, Expr) and isinstance(right, int):
            yield left, right, what
        elif isinstance(right, Expr) and isinstance(left, int):
            yield right, left, what
    if fact.node.op == "Reshape" and connected(fact):
        yield from _counts(facts, fact)
    if fact.node.op not in _BROADCASTING:
        return
    values = [facts.value(name, fact.scope) for name in fact.node.inputs if name]
    shapes = [(value.shape[::-1], value.constant) for value in values if value.shape is not None]
    for shape, constant in shapes:
        for other, _ in shapes if constant else ():
            for size, free in zip(shape, other, strict=False):
                if isinstance(size, int) and size > 1 and isinstance(free, Expr):
                    yield free, size, "the constant operand and the map"


def _counts(facts: Facts, fact: NodeFact) -> Iterator[tuple[Expr, int, str]]:
    before = facts.value(fact.node.inputs[0], fact.scope).shape
    after = facts.value(fact.node.outputs[0], fact.scope).shape
    if before is not None and after is not None:
        size, wanted = product(before), product(after)
        if isinstance(size, Expr) and isinstance(wanted, int):
            yield size, wanted, "the numbers before and after"


def _pinned(facts: Facts, names: set[str]) -> Iterator[tuple[NodeFact, Expr, int, str]]:
    """First place of every node where a number meets a free size made of these symbols."""
    for fact in facts.nodes():
        if fact.folded or (fact.rule and fact.rule.kind == "fc"):
            continue
        for size, wanted, what in _meetings(facts, fact):
            if _names(size) & names:
                yield fact, size, wanted, what
                break


def _swallowed(facts: Facts, fact: NodeFact, batch: set[str]) -> str:
    """For a Reshape with a number in front where the batch was and -1 behind; "" for any other."""
    shape = facts.value(fact.node.inputs[0], fact.scope).shape if fact.node.inputs else None
    target = items(facts, fact.scope, fact.node.inputs[1]) if len(fact.node.inputs) > 1 else None
    if not shape or not target or -1 not in target[1:]:
        return ""
    front = target[0]
    if not isinstance(front, int) or front < 1 or not _names(shape[0]) & batch:
        return ""
    return (
        f"Reshape to {[str(i) for i in target]} fixes the first axis to {front}: the batch {shape[0]} goes "
    )


@check("OX224", "batch-baked-in", severity="warning")
def batch_baked_in(facts: Facts) -> Iterator[Finding]:
    """The graph holds the batch size as a number, though the input declares it free.

    What it flags:
        Reshapes to a constant shape, constants and other operands that fit one batch size only, and Reshapes
        that push the batch into another axis (`[1, -1]`).

    Why it matters:
        Any other batch size fails at run time, or, with -1, silently mixes images.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 3, 4] x) => (float[1, 12] y) <int64[2] s = {1, 12}> { y = Reshape(x, s) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 3, 4] x) => (float[N, 12] y) <int64[2] s = {0, 12}> { y = Reshape(x, s) }

    Fix and its safety:
        Write the target with 0 or -1 in front (0 copies the batch), or export with `x.flatten(1)`.

    Source:
        ONNX Operators.md, Reshape; onnxruntime#6424, #10463.
    """
    batch = batch_symbols(facts)
    if not batch:
        return
    for fact, size, wanted, what in _pinned(facts, batch):
        text = f"batch baked in at {fact.node.op}: {what} want {size} = {wanted}"
        yield at(batch_baked_in.finding(fact.label, text, number=wanted), fact.node)
    for fact in nodes(facts, "Reshape"):
        text = _swallowed(facts, fact, batch)
        if text:
            yield at(batch_baked_in.finding(fact.label, f"batch baked in: {text}to another axis"), fact.node)


@check("OX225", "spatial-size-baked-in", severity="warning")
def spatial_size_baked_in(facts: Facts) -> Iterator[Finding]:
    """The graph holds height or width as a number, though the input declares them free.

    What it flags:
        Reshapes to a constant shape, position embeddings and other constants that fit one image size only
        (fully connected heads: OX634).

    Why it matters:
        Other image sizes fail at run time.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, H, 2] x) => (float[1, 1, H, 2] y)
        <float[1, 1, 2, 2] p = {1, 2, 3, 4}> { y = Add(x, p) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, H, 2] x) => (float[1, 1, H, 2] y) <float[1, 1, 1, 2] p = {1, 2}> { y = Add(x, p) }

    Fix and its safety:
        Declare the size as fixed, or export with sizes computed from Shape; position embeddings
        need resizing.

    Source:
        onnxruntime#2779; PINTO_model_zoo#289.
    """
    free = set(free_spatial(facts)) - batch_symbols(facts)
    for fact, size, wanted, what in _pinned(facts, free) if free else ():
        text = f"spatial size baked in at {fact.node.op}: {what} want {size} = {wanted}"
        yield at(spatial_size_baked_in.finding(fact.label, text, number=wanted), fact.node)
