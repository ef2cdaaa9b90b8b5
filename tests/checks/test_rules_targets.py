"""Deployment targets: kernels against what onnxruntime really loads, tables, partitions."""

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from onnxscope.analysis.shapes import infer
from onnxscope.checks import targets, targets_table
from onnxscope.checks.registry import find
from onnxscope.checks.runner import Context, run_rule
from onnxscope.checks.settings import Settings
from onnxscope.files.read import loads

STATE = onnxruntime.capi.onnxruntime_pybind11_state
HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'


def found(code, body, target=""):
    model = loads(onnx.parser.parse_model(HEAD + body).SerializeToString(), "example.onnx")
    return run_rule(find(code), Context(model, Settings(targets=(target,) if target else ())))


# One node each: op, type, opset. What onnxruntime loads is the oracle.
KERNELS = [
    *(
        ("Neg", kind, n)
        for kind in ("float", "double", "int8", "int16", "int32", "float16")
        for n in (7, 13, 17)
    ),
    *(("Neg", "bfloat16", opset) for opset in (13, 17)),
    *(
        (op, kind, 17)
        for op in ("Acos", "Ceil", "Cosh", "Exp", "Round")
        for kind in ("float", "double", "float16")
    ),
    *((op, kind, 17) for op in ("Abs", "Sign", "Relu") for kind in ("float", "double", "int32", "float16")),
]


@pytest.mark.parametrize(("op", "kind", "opset"), KERNELS)
def test_registry_agrees_with_onnxruntime(op, kind, opset):
    """OX701: flagged where, and only where, a session fails for want of a kernel."""
    model = f"g ({kind}[2,2] x) => ({kind}[2,2] y) {{ y = {op} (x) }}"
    whole = f'<ir_version: 8, opset_import: ["": {opset}]> {model}'
    data = onnx.parser.parse_model(whole).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        fails = False
    except STATE.NotImplemented:
        fails = True
    facts = infer(loads(data))
    lacks = targets.lacking(facts, facts.main.nodes[0], "CPUExecutionProvider", widened=True)
    if facts.main.nodes[0].node.op not in targets.FUNCTIONS:  # nothing is said about those
        assert (lacks is not None) == fails
    else:
        assert lacks is None


def test_kernel_versions():
    """An open end serves its own version only: the op changed since."""
    assert targets.Kernel(13, 2**31 - 1, {}).serves(13)
    assert not targets.Kernel(13, 2**31 - 1, {}).serves(14)
    assert targets.Kernel(6, 12, {}).serves(9)
    assert not targets.Kernel(6, 12, {}).serves(13)


LOOP = """g (float[2] x, bool c) => (float[2] y) {
  y = If (c) <
    then_branch = t () => (float[2] a) { a = Relu (x) },
    else_branch = e () => (float[2] b) { b = Abs (x) }
  >
}"""


@pytest.mark.parametrize(("target", "flagged"), [("coreml", True), ("nnapi", True), ("cpu", False)])
def test_control_flow(target, flagged):
    """OX706."""
    assert bool(found("OX706", LOOP, target)) is flagged


# Relu and Tanh run on coreml, Atanh doesn't.
@pytest.mark.parametrize(
    ("body", "pieces"),
    [
        ("a = Relu (x) b = Atanh (a) y = Relu (b)", 2),
        ("a = Relu (x) b = Atanh (a) c = Relu (b) d = Atanh (c) y = Relu (d)", 3),
        ("a = Relu (x) b = Atanh (a) c = Tanh (a) y = Add (b, c)", 2),
        ("a = Atanh (x) b = Relu (a) y = Atanh (b)", None),
        ("a = Relu (x) y = Tanh (a)", None),
    ],
)
def test_partitions(body, pieces):
    given = found("OX703", f"g (float[2] x) => (float[2] y) {{ {body} }}", "coreml")
    assert [finding.data["pieces"] for finding in given] == ([] if pieces is None else [pieces])


# 1000x1000 weights of 4 bytes, used once: 1e6 MACs over 4.0e6 bytes; with batch 64 it is 64e6 over 4.5e6.
@pytest.mark.parametrize(("batch", "flagged"), [(1, True), (64, False)])
def test_memory_bound(batch, flagged):
    """OX715."""
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [batch, 1000])],
        [helper.make_tensor_value_info("y", kind, [batch, 1000])],
        [numpy_helper.from_array(np.zeros((1000, 1000), np.float32), "w")],
    )
    model = loads(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    assert bool(run_rule(find("OX715"), Context(model))) is flagged


def test_every_target_names_its_source():
    assert all(target.source and target.provider.endswith("ExecutionProvider") for target in targets.TARGETS)


def test_an_onnxruntime_that_crashes_when_asked_is_not_asked(monkeypatch):
    """As the wheels for OpenVINO and for CUDA without its libraries do."""
    monkeypatch.setattr(targets, "registry", targets.registry.__wrapped__)
    monkeypatch.setattr(targets.sys, "path", ["/nowhere"])  # the child can't import onnxscope: it fails
    assert targets.registry() is None
    assert (
        found(
            "OX701",
            "g (double[1,1,2,2] x, double[1,1,1,1] w) => (double[1,1,2,2] y) { y = Conv (x, w) }",
            "cpu",
        )
        == []
    )


MEASURED = ["cuda", "webgpu"]


@pytest.mark.parametrize("name", MEASURED)
def test_measured_tables_name_ops_and_versions_of_onnx(name):
    table = targets_table.table(name)
    assert table.source.startswith(targets.find(name).provider)
    assert len(table.lines) > 100
    for op, line in table.lines.items():
        assert line.versions | line.refused <= {
            s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == op
        }
        assert not line.versions & line.refused
        assert not line.types & line.refused_types


def test_what_a_table_says_of_a_node():
    """Taken, refused as an op, as a version, as a type; and silence where nothing was asked."""
    some = frozenset({"float32"})
    line = targets_table.Line(frozenset({13}), frozenset({22}), some, frozenset({"int64"}))
    never = targets_table.Line(frozenset(), frozenset({9}), frozenset(), some)
    table = targets_table.Table("asked", {"Neg": line, "Atanh": never})
    assert table.refusal("Neg", 13, "float32") == ""
    assert table.refusal("Neg", None, "float32") == ""
    assert table.refusal("Neg", 22, "float32") == "Neg as of opset 22"
    assert table.refusal("Neg", 13, "int64") == "Neg of int64"
    assert table.refusal("Neg", 13, "float64") is None
    assert table.refusal("Neg", 6, "float32") is None
    assert table.refusal("Atanh", 9, "float32") == "Atanh"
    assert table.refusal("Sin", 7, "float32") is None


# What WebGPU did with these when they ran (profiles of onnxruntime-webgpu 1.27.0); qnn by its list.
@pytest.mark.parametrize(
    ("target", "body", "flagged"),
    [
        ("webgpu", "g (float[1,2,4] x) => (float[1,2,4] y) { y = Tanh (x) }", False),
        ("webgpu", "g (float[2,2] x) => (float y) { y = Det (x) }", True),
        ("openvino", "g (float[2] x) => (float[2] y) { y = Atanh (x) }", False),  # nothing is known
        ("cuda", "g (float[2] x) => (float[2] y) { y = Atanh (x) }", True),
        ("cuda", "g (float[1,2] x, float[2,2] w) => (float[1,2] y) { y = MatMul (x, w) }", False),
        ("qnn", "g (float[2] x) => (float[2] y) { y = Atanh (x) }", True),
        ("qnn", "g (float[2] x) => (float[2] y) { y = Tanh (x) }", False),
    ],
)
def test_ops_outside_a_target(target, body, flagged):
    """OX702."""
    assert bool(found("OX702", body, target)) is flagged


QUANTIZED = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>\n'
PAIR = "(float[2] x) => ({0}[2] y) <float s = {{0.1}}, {0} z = {{{1}}}> {{ y = QuantizeLinear (x, s, z) }}"


@pytest.mark.parametrize(
    "op", ["QGemm", "QLinearAdd", "MatMulIntegerToFloat", "QAttention", "DynamicQuantizeMatMul", "QuickGelu"]
)
def test_contrib_ops_of_the_operator_form(op):
    """OX707: QuickGelu computes with floats and is the one that isn't meant."""
    body = f"g (uint8[1,4] x, float s) => (float[1,2] y) {{ y = com.microsoft.{op} (x, s) }}"
    model = loads(onnx.parser.parse_model(QUANTIZED + body).SerializeToString(), "example.onnx")
    flagged = run_rule(find("OX707"), Context(model, Settings(targets=("tensorrt",))))
    assert [finding.where for finding in flagged] == ([] if op == "QuickGelu" else [f"{op}_0"])


@pytest.mark.parametrize(
    ("kind", "zero", "why"),
    [
        ("int8", 0, None),
        ("int8", 3, "1 node with a zero point other than 0 or to uint8 (QuantizeLinear_0)"),
        ("uint8", 0, "1 node with a zero point other than 0 or to uint8 (QuantizeLinear_0)"),
    ],
)
def test_zero_points_name_the_target(kind, zero, why):
    """OX708."""
    messages = [finding.message for finding in found("OX708", "g " + PAIR.format(kind, zero), "tensorrt")]
    assert messages == ([] if why is None else [f"{why}: tensorrt quantizes symmetrically, to int8"])
