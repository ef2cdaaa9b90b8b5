"""OX110-OX113: attributes, inputs and outputs of nodes against the specification."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from onnxscope.checks import schemas
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, count_of, places, several
from onnxscope.checks.registry import check
from onnxscope.checks.rules_format_versions import calls
from onnxscope.graph import Model, Node, domain_of


def _specified(model: Model) -> Iterator[tuple[str, Node, int, schemas.Schema]]:
    """(label, node, opset version, schema) of every node whose op the specification knows."""
    for label, node, version in calls(model):
        domain = domain_of(node.domain)
        schema = schemas.schema(node.op, domain, version) if version else None
        if version and schema is not None and domain in schemas.KNOWN_DOMAINS:
            yield label, node, version, schema


@check("OX110", "unknown-attribute", severity="error")
def unknown_attribute(model: Model) -> Iterator[Finding]:
    """A node gives an attribute that its op doesn't have.

    What it flags:
        An attribute that the op doesn't list at the imported opset, for example the `axes` of a Squeeze at
        opset 13, where it is an input.

    Why it matters:
        onnxruntime refuses the model ("Unrecognized attribute"); tools that ignore it compute something else.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu <alpha = 0.5> (x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = LeakyRelu <alpha = 0.5> (x) }

    Fix and its safety:
        Export again with matching opset and attributes.

    Source:
        ONNX Operators.md, "Attributes" of each op; checker of the onnx package.
    """
    for label, node, version, schema in _specified(model):
        extra = [item.name for item in node.attributes if item.name not in schema.attributes]
        if extra:
            text = f"unknown attribute {several(extra)!r}: {node.op} of opset {version} has none of that name"
            yield at(unknown_attribute.finding(label, text, attributes=extra), node)


@check("OX111", "missing-attribute", severity="error")
def missing_attribute(model: Model) -> Iterator[Finding]:
    """A node lacks an attribute that its op must have.

    What it flags:
        A required attribute that is absent, for example the `to` of a Cast.

    Why it matters:
        What the node computes isn't defined; runtimes refuse the model.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (int64[N] y) { y = Cast(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (int64[N] y) { y = Cast <to = 7> (x) }

    Fix and its safety:
        Export again; the value can't be guessed.

    Source:
        ONNX Operators.md, "(required)" attributes.
    """
    for label, node, version, schema in _specified(model):
        names = {item.name for item in node.attributes}
        absent = [name for name, required in schema.attributes.items() if required and name not in names]
        if absent:
            text = f"missing attribute {several(absent)!r}, which {node.op} of opset {version} must have"
            yield at(missing_attribute.finding(label, text, attributes=absent), node)


@check("OX112", "wrong-operand-count", severity="error")
def wrong_operand_count(model: Model) -> Iterator[Finding]:
    """A node has too few or too many inputs or outputs.

    What it flags:
        A count outside what the op allows at the imported opset, for example a Clip with three inputs at
        opset 6, where the bounds are attributes.

    Why it matters:
        Runtimes refuse the model; usually the opset import doesn't match the nodes.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x, x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Add(x, x) }

    Fix and its safety:
        Export again with the opset that the nodes were written for.

    Source:
        ONNX Operators.md, "Inputs" and "Outputs" of each op.
    """
    for label, node, version, schema in _specified(model):
        for what, count, (least, most) in (
            ("input", len(node.inputs), schema.inputs),
            ("output", len(node.outputs), schema.outputs),
        ):
            if not least <= count <= most:
                allowed = f"{least}" if least == most else f"{least} to {most if most < 2**30 else 'any'}"
                text = f"{node.op} has {count_of(count, what)}; opset {version} allows {allowed}"
                yield at(wrong_operand_count.finding(label, text, count=count), node)


@check("OX113", "repeated-attribute", severity="error")
def repeated_attribute(model: Model) -> Iterator[Finding]:
    """A node gives one attribute twice.

    What it flags:
        Two attributes of one name on one node.

    Why it matters:
        Readers disagree about which one holds; the checker refuses the model.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = LeakyRelu <alpha = 0.5, alpha = 0.1> (x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = LeakyRelu <alpha = 0.5> (x) }

    Fix and its safety:
        Remove one; which one can't be told from the file unless both are equal.

    Source:
        ONNX IR.md, "Attributes": names are unique within a node.
    """
    for place in places(model):
        for node in place.graph.nodes:
            if len(node.attributes) < 2:
                continue
            repeated = [n for n, c in Counter(item.name for item in node.attributes).items() if c > 1]
            if repeated:
                text = f"attribute {several(repeated)!r} of {node.op} is given more than once"
                yield at(repeated_attribute.finding(f"{place.path}{node.label}", text), node)
