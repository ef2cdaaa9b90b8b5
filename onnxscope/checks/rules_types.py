"""OX229: operands whose element types an op doesn't take."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.checks import schemas
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, places
from onnxscope.checks.registry import check
from onnxscope.graph import domain_of


@check("OX229", "operand-types-that-do-not-fit", severity="error")
def operand_types(facts: Facts) -> Iterator[Finding]:
    """Operands of a node have types that its op doesn't take, or that must be equal and aren't.

    What it flags:
        Nodes of ONNX's own ops with an operand of an element type that the op's schema excludes, or with two
        operands of one type variable whose types differ; both are named. Function bodies are left out.

    Why it matters:
        onnxruntime refuses the model ("Type parameter (T) bound to different types").

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x) => (float[2] y) <float16[2] w = {1, 2}> { y = Add(x, w) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }

    Fix and its safety:
        Cast one of the two, or store the constant in the other's type; check with `onnxscope verify`.

    Source:
        ONNX Operators.md, "Type Constraints" of each op.
    """
    paths = {place.path for place in places(facts.model) if place.function is None}
    opset = facts.model.opset
    for fact in facts.nodes():
        domain = domain_of(fact.node.domain)
        if fact.scope in paths and domain in schemas.KNOWN_DOMAINS and domain in opset:
            text = _misfit(facts, fact, schemas.operands(fact.node.op, domain, opset[domain]))
            if text:
                yield at(operand_types.finding(fact.label, text), fact.node)


def _misfit(facts: Facts, fact: NodeFact, operands: tuple[schemas.Operand, ...]) -> str:
    """The first operand that doesn't fit; "" where all do or their types aren't known."""
    bound: dict[str, tuple[int, str]] = {}
    for index, name in enumerate(fact.node.inputs):
        value = facts.value(name, fact.scope) if name and operands else None
        if value is None or value.container or not value.dtype:
            continue
        operand = operands[min(index, len(operands) - 1)]
        shown = dtypes.name_of(value.dtype)
        if value.dtype not in operand.dtypes:
            return f"{fact.node.op} takes no {shown} as {operand.name} ({name!r})"
        if operand.variable:
            dtype, other = bound.setdefault(operand.variable, (value.dtype, name))
            if dtype != value.dtype:
                return (
                    f"operands of {fact.node.op} must have one type: {other!r} is {dtypes.name_of(dtype)}, "
                    f"{name!r} is {shown}"
                )
    return ""
