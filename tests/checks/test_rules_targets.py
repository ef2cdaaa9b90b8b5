"""Deployment targets: kernels against what onnxruntime really loads, tables, partitions."""

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from onnxscope.analysis.shapes import infer
from onnxscope.checks import targets, targets_known, targets_table
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


@pytest.mark.parametrize("beyond", [0, 1])
def test_ir_versions_that_onnxruntime_loads(beyond):
    """OX711: the newest it loads, and one more."""
    model = onnx.parser.parse_model(HEAD + "g (float[1] x) => (float[1] y) { y = Relu (x) }")
    model.ir_version = targets.registry().newest_ir + beyond
    data, options = model.SerializeToString(), onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        loads_it = True
    except STATE.Fail:
        loads_it = False
    assert loads_it is not bool(beyond)
    flagged = run_rule(find("OX711"), Context(loads(data, "example.onnx"), Settings(targets=("cpu",))))
    assert bool(flagged) is not loads_it


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


# Runs: Relu, Tanh. Stays: Atanh. Unknown: my.U, which may run or stay.
@pytest.mark.parametrize(
    ("body", "pieces"),
    [
        ("a = my.U (x) b = Atanh (a) y = my.U (b)", None),  # nothing is known to run
        ("a = Relu (x) b = Atanh (a) y = my.U (b)", None),  # one piece, or two
        ("a = Relu (x) b = my.U (a) y = Relu (b)", None),
        ("a = Relu (x) b = Atanh (a) c = my.U (b) d = Atanh (c) y = Relu (d)", 2),  # 2 or 3
        ("a = Relu (x) b = my.U (a) c = Atanh (b) d = my.U (c) y = Tanh (d)", 2),
    ],
)
def test_partitions_with_unknown_nodes(body, pieces):
    """OX703 counts what is sure."""
    head = '<ir_version: 8, opset_import: ["": 17, "my": 1]>\n'
    text = f"{head}g (float[2] x) => (float[2] y) {{ {body} }}"
    model = loads(onnx.parser.parse_model(text).SerializeToString(), "example.onnx")
    given = run_rule(find("OX703"), Context(model, Settings(targets=("coreml",))))
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
    for target in targets_known.TARGETS:
        assert target.source
        assert target.provider.endswith("ExecutionProvider")


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


MEASURED = ["cuda", "openvino", "webgpu"]


@pytest.mark.parametrize("name", MEASURED)
def test_measured_tables_name_ops_and_versions_of_onnx(name):
    table = targets_table.table(name)
    assert table.source.startswith(targets_known.find(name).provider)
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
    assert table.refusal("Atanh", None, "float32") == "Atanh"
    assert table.refusal("Atanh", 22, "int64") is None  # a version that wasn't asked about
    assert table.refusal("Sin", 7, "float32") is None


GRU = """g (float[2,3,4] x, float[2,9,4] w, float[2,9,3] r) => (float[2,2,3,3] y) {
  y = GRU <hidden_size = 3, linear_before_reset = 1> (x, w, r)
}"""


# What WebGPU did with these when they ran (profiles of onnxruntime-webgpu 1.27.0); what OpenVINO's wheel and
# plugin took inside networks (tests/providers asks them); the others by their lists.
@pytest.mark.parametrize(
    ("target", "body", "flagged"),
    [
        ("webgpu", "g (float[1,2,4] x) => (float[1,2,4] y) { y = Tanh (x) }", False),
        ("webgpu", "g (float[2,2] x) => (float y) { y = Det (x) }", True),
        ("openvino", "g (float[2] x) => (float[2] y) { y = Atanh (x) }", False),
        ("openvino", "g (float[1,2] x, int64[2] s) => (float[2] y) { y = Reshape (x, s) }", False),
        ("openvino", "g (float[2,2] x) => (float y) { y = Det (x) }", True),
        ("openvino", "g (float[1,1,4] x) => (float[1,1,3] y) { y = LpPool <kernel_shape = [2]> (x) }", True),
        ("directml", "g (float[2,2] x) => (float y) { y = Det (x) }", True),
        ("directml", "g (float[2] x) => (float[2] y) { y = Atanh (x) }", False),
        ("migraphx", "g (float[2,2] x) => (float y) { y = Det (x) }", True),
        ("tensorrt", "g (float[2,2] x) => (float y) { y = Det (x) }", True),
        ("tensorrt", "g (int64 n) => (float[N] y) { y = HannWindow (n) }", False),  # since TensorRT 10
        ("migraphx", "g (float[2] x) => (float[2] y) { y = Atanh (x) }", False),
        ("cuda", "g (float[2] x) => (float[2] y) { y = Atanh (x) }", True),
        ("webgpu", 'g (float[2,3] x) => (float[2] y) { y = Einsum <equation = "ij->i"> (x) }', False),
        ("cuda", GRU, False),
        ("cuda", "g (int8[1,2] x, int8[2,2] w) => (int32[1,2] y) { y = MatMulInteger (x, w) }", False),
        ("cuda", "g (float[1,2] x, float[2,2] w) => (float[1,2] y) { y = MatMul (x, w) }", False),
        ("qnn", "g (float[2] x) => (float[2] y) { y = Atanh (x) }", True),
        ("qnn", "g (float[2] x) => (float[2] y) { y = Tanh (x) }", False),
        ("qnn", "g (float a, float b, float c) => (float[N] y) { y = Range (a, b, c) }", False),
        ("coreml", "g (float a, float b, float c) => (float[N] y) { y = Range (a, b, c) }", False),
    ],
)
def test_ops_outside_a_target(target, body, flagged):
    """OX702."""
    assert bool(found("OX702", body, target)) is flagged


CALL = """<ir_version: 8, opset_import: ["": 17, "my": 1, "com.microsoft": 1]>
g (float[2] x) => (float[2] y) {
  a = my.twice (x)
  b = com.microsoft.FastGelu (a)
  c = HardSwish (b)
  d = my.Swirl (c)
  y = Relu (d)
}
<domain: "my", opset_import: ["": 17]> twice (p) => (q) { q = Add (p, p) }"""


def test_what_is_not_known_is_said():
    """OX718: a custom op and one of another domain; not the model's own function, not what is expanded."""
    model = loads(onnx.parser.parse_model(CALL).SerializeToString(), "example.onnx")
    (finding,) = run_rule(find("OX718"), Context(model, Settings(targets=("openvino",))))
    # the type of what Swirl makes isn't known, so nothing is known of the Relu behind it either
    custom = ("com.microsoft.FastGelu of float32", "my.Swirl of float32")
    assert finding.data["ops"] == dict.fromkeys((*custom, "Relu as of opset 14"), 1)


def test_cpu_without_onnxruntime_is_said(monkeypatch):
    """OX717: the audit must not look as if it had asked."""
    monkeypatch.setattr(targets, "registry", lambda: None)
    body = "g (float[2] x) => (float[2] y) { y = Relu (x) }"
    (finding,) = found("OX717", body, "cpu")
    assert "no onnxruntime is installed" in finding.message
    assert found("OX717", body, "coreml") == []


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


FUNCTION = """<ir_version: 10, opset_import: ["": 17, "my": 1]>
g (float[1,4] x) => (float[1,4] y) { a = my.F (x) y = Relu (a) }
<domain: "my", opset_import: ["": 17, "other": 1]> F (x) => (y) { z = Acosh (x) y = other.Op (z) }"""


def test_bodies_of_functions_are_asked_of_a_target():
    """OX702, OX718: onnxruntime runs the nodes of a body, not the call."""
    model = loads(onnx.parser.parse_model(FUNCTION).SerializeToString())
    context = Context(model, Settings(targets=("cuda",)))
    (refused,) = run_rule(find("OX702"), context)
    assert "Acosh" in refused.message
    assert "F" in refused.where
    (unknown,) = run_rule(find("OX718"), context)
    assert any(name.startswith("other.Op") for name in unknown.data["ops"])
