"""Every operator that onnx knows, at every version it had: a rule of ours or onnx's inference answers."""

from functools import cache

import onnx.defs
import pytest
from rules import answer

from onnxscope.graph import Graph, Node, Tensor, Type, ValueInfo
from onnxscope.ops import registry
from onnxscope.ops.registry import find

LEFT_TO_ONNX: set[tuple[str, str]] = set()
"""Standard ops without a rule of ours; every other one has a rule."""
ADDED_BY_ONNXRUNTIME = {
    "Affine", "Crop", "ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh",  # experimental in opset 1
    "SimplifiedLayerNormalization",  # its optimizer writes this into the default domain
}  # fmt: skip
INPUTS = ("2,4,6,6", "N,C,H,W", "3", "()", "0,2", "*", "i64 N,3", "i64:[1,2]", "f32:0.5", "size:[N,H]")


@cache
def schemas():
    found = {(s.domain, s.name, s.since_version): s for s in onnx.defs.get_all_schemas_with_history()}
    return [found[key] for key in sorted(found)]


def test_only_these_ops_are_left_to_onnx():
    without = {(s.domain, s.name) for s in schemas() if find(s.domain, s.name, s.since_version) is None}
    assert without == LEFT_TO_ONNX


def test_every_rule_of_a_standard_domain_is_a_standard_op():
    """A misspelt name would never be asked."""
    domains = {s.domain for s in schemas()}
    names = {(s.domain, s.name) for s in schemas()} | {("", name) for name in ADDED_BY_ONNXRUNTIME}
    assert {(r.domain, r.name) for r in registry.rules() if r.domain in domains} <= names


def body(inputs, outputs):
    """A subgraph that hands its inputs on; more outputs than inputs repeat the first."""
    names = [f"in{i}" for i in range(inputs)]
    node = Node(0, "", "Identity", "", (names[0],), ("out",))
    infos = tuple(ValueInfo(name, Type("tensor", 1, None)) for name in names)
    results = tuple(ValueInfo("out", Type("tensor", 1, None)) for _ in range(outputs))
    return Graph("body", infos, results, (node,))


VALUES = {
    "INT": 1, "FLOAT": 0.5, "STRING": b"text", "INTS": (1, 1), "FLOATS": (0.5, 0.5), "STRINGS": (b"a", b"b"),
    "TENSOR": Tensor("t", 1, (2,), None), "GRAPH": body(3, 3), "TYPE_PROTO": Type("tensor", 1, (2,)),
}  # fmt: skip


def minimal(schema):
    """The attributes that the op can't do without, of the right type and a made-up value."""
    required = [a for a in schema.attributes.values() if a.required and a.type.name in VALUES]
    return {a.name: VALUES[a.type.name] for a in required}


@pytest.mark.parametrize("text", INPUTS)
def test_no_op_crashes(text):
    for schema in schemas():
        counts = {max(schema.min_input, 0), min(schema.max_input, schema.min_input + 2)}
        outputs = max(1, schema.min_output)
        for count in sorted(counts):
            for attributes in ({}, minimal(schema)):
                found = _answer(schema, [text] * count, attributes, outputs)
                assert len(found.shapes) == outputs
                assert not any("no rule for" in problem for problem in found.problems), schema.name


def _answer(schema, inputs, attributes, outputs):
    try:
        return answer(
            schema.name, schema.since_version, inputs, attributes, outputs=outputs, domain=schema.domain
        )
    except Exception as crash:
        crash.add_note(f"{schema.domain}:{schema.name}-{schema.since_version} {inputs} {attributes}")
        raise
