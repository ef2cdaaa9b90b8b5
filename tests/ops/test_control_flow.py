"""If, Loop, Scan and SequenceMap, as small models in ONNX text. Expected sizes and MACs by hand."""

import pytest
from onnx import parser

from onnxscope.analysis.shapes import infer
from onnxscope.files.read import loads

HEAD = '<ir_version: 8, opset_import: ["": {opset}]>\ng ({inputs}) => ({outputs})'


def facts(body, inputs="", outputs="y", *, opset=17, **bound):
    # in ONNX text `float` is a scalar, `float[]` a tensor of any rank
    kinds = ", ".join(f"float[] {name}" if " " not in name else name for name in outputs.split(", "))
    text = f"{HEAD.format(opset=opset, inputs=inputs, outputs=kinds)} {{ {body} }}"
    return infer(loads(parser.parse_model(text).SerializeToString()), **bound)


def text(found, name):
    value = found.main.values[name]
    return "*" if value.shape is None else ",".join(map(str, value.shape))


def last(found):
    return found.main.nodes[-1].inferred


def macs(found):
    inferred = last(found)
    return "unknown" if inferred.unknown_macs else inferred.macs and str(inferred.macs.value)


# --- If ---

IF = """y = If (c) <
    then_branch = t () => (float[] p) {{ {then} }},
    else_branch = e () => (float[] q) {{ {other} }}
>"""


@pytest.mark.parametrize(
    ("then", "other", "shape"),
    [
        ("p = Relu (x)", "q = Abs (x)", "N,4"),
        ("p = Relu (x)", "q = Transpose (x)", "y.dim0,y.dim1"),
        ("p = Relu (x)", "q = Concat <axis = 1> (x, x)", "N,y.dim1"),
        ("p = Relu (x)", "q = Flatten <axis = 0> (x)", "y.dim0,y.dim1"),
        ("p = Relu (x)", "q = ReduceMax <keepdims = 0> (x)", "*"),
        ("p = Relu (x)", "q = some.where.Custom (x)", "*"),
    ],
)
def test_if_keeps_what_both_branches_agree_on(then, other, shape):
    found = facts(IF.format(then=then, other=other), "float[N, 4] x, bool c")
    assert text(found, "y") == shape


@pytest.mark.parametrize(
    ("then", "other", "total", "note"),
    [
        # x [N, 4] times its transpose [4, N]: 4*N*N; the other way round: [4, N] x [N, 4]: 16*N
        ("t1 = Transpose (x) p = MatMul (x, t1)", "q = Abs (x)", "4*N*N",
         "If: counted then_branch, the larger of 4*N*N and 0 MACs"),
        ("p = Abs (x)", "t1 = Transpose (x) q = MatMul (t1, x)", "16*N",
         "If: counted else_branch, the larger of 0 and 16*N MACs"),
        ("t1 = Transpose (x) p = MatMul (x, t1)", "t1 = Transpose (x) q = MatMul (t1, x)", "max(16*N, 4*N*N)",
         "If: counted the larger branch, 4*N*N or 16*N MACs"),
        ("t1 = Transpose (x) p = MatMul (x, t1)", "t1 = Transpose (x) q = MatMul (x, t1)", "4*N*N",
         "If: counted then_branch, both take 4*N*N MACs"),
        ("p = Relu (x)", "q = Abs (x)", None, ""),
        ("p = Relu (x)", "q = some.where.Custom (x)", "unknown", ""),
    ],
)  # fmt: skip
def test_if_counts_the_larger_branch(then, other, total, note):
    found = facts(IF.format(then=then, other=other), "float[N, 4] x, bool c")
    assert (macs(found), last(found).note) == (total, note)


@pytest.mark.parametrize(("condition", "shape", "total"), [("1", "N,N", "4*N*N"), ("0", "N,4", None)])
def test_constant_condition_takes_its_branch(condition, shape, total):
    then, other = "t1 = Transpose (x) p = MatMul (x, t1)", "q = Abs (x)"
    body = f"c = Constant <value = bool {{{condition}}}> () " + IF.format(then=then, other=other)
    found = facts(body, "float[N, 4] x")
    assert (text(found, "y"), macs(found)) == (shape, total)
    assert set(found.scopes) == {"", "If_1.then_branch/" if condition == "1" else "If_1.else_branch/"}


def test_if_carries_content():
    branches = IF.format(then="p = Shape (x)", other="q = Shape (x)").replace("float", "int64")
    found = facts(f"{branches} z = Reshape (x, y)", "float[N, 4] x, bool c", "z")
    assert text(found, "z") == "N,4"


# --- Loop ---

LOOP = """{before} {y} = Loop ({m}, {c}, {v}) <
    body = b (int64 i, bool go, float[] a) => (bool going, float[] r{scans}) {{ {body} }}
>"""
GO = "c = Constant <value = bool {1}> () "
TRIPS = "m = Constant <value = int64 {5}> () " + GO


def loop(body, *, scans="", before=TRIPS, m="m", c="c", inputs="float[N, 4] x", **bound):
    outputs = ["y", *(f"s{i}" for i in range(scans.count(",")))]
    model = LOOP.format(before=before, y=", ".join(outputs), m=m, c=c, v="x", scans=scans, body=body)
    return facts(model, inputs, ", ".join(outputs), **bound)


GOES_ON = "going = Identity (go)"
STACK = f"{GOES_ON} r = Relu (a) s = Transpose (a)"


def test_loop_keeps_a_constant_shape():
    found = loop(STACK, scans=", float[] s")
    assert (text(found, "y"), text(found, "s0")) == ("N,4", "5,4,N")


def test_loop_forgets_a_size_that_grows():
    found = loop(f"{GOES_ON} r = Concat <axis = 1> (a, a)")
    assert text(found, "y") == "N,y.dim1"


def test_loop_forgets_a_rank_that_grows():
    found = loop(f"{GOES_ON} ax = Constant <value = int64[1] {{0}}> () r = Unsqueeze (a, ax)")
    assert text(found, "y") == "*"


def test_loop_that_surely_runs_ends_with_what_its_body_gives():
    cut = "k = Constant <value = int64[2] {0, 3}> () r = Reshape (a, k)"
    assert text(loop(f"{GOES_ON} {cut}", inputs="float[N, 3] x"), "y") == "N,3"
    fixed = "k = Constant <value = int64[2] {2, 6}> () r = Reshape (a, k)"
    assert text(loop(f"{GOES_ON} {fixed}", inputs="float[3, 4] x"), "y") == "2,6"
    maybe = loop(f"{GOES_ON} {fixed}", inputs="float[3, 4] x, int64 m", before=GO)
    assert text(maybe, "y") == "y.dim0,y.dim1"  # no turn at all leaves 3,4


def test_scan_output_with_sizes_of_the_turn_is_unknown():
    found = loop(f"{GOES_ON} r = Concat <axis = 0> (a, a) s = Identity (a)", scans=", float[] s")
    assert text(found, "s0") == "5,s0.dim1,4"


@pytest.mark.parametrize(
    ("before", "m", "c", "body", "turns"),
    [
        (TRIPS, "m", "c", GOES_ON, "5"),
        (TRIPS, "m", "", GOES_ON, "5"),
        (TRIPS, "m", "c", "going = Constant <value = bool {1}> ()", "5"),
        (TRIPS, "m", "c", "going = Not (go)", "s0.dim0"),
        (TRIPS, "", "c", GOES_ON, "s0.dim0"),
        (TRIPS.replace("bool {1}", "bool {0}"), "m", "c", GOES_ON, "0"),
        (TRIPS.replace("bool {1}", "bool[1] {1}"), "m", "c", GOES_ON, "5"),
        (TRIPS.replace("int64 {5}", "int64 {-5}"), "m", "c", GOES_ON, "0"),
        ("m = Shape <end = 1> (x)", "m", "", GOES_ON, "N"),
    ],
)
def test_turns(before, m, c, body, turns):
    found = loop(f"{body} r = Relu (a) s = Relu (a)", scans=", float[] s", before=before, m=m, c=c)
    assert text(found, "s0") == f"{turns},N,4"


@pytest.mark.parametrize(
    ("m", "body", "total", "note"),
    [
        ("m", "t = Transpose (a) u = MatMul (a, t) r = MatMul (u, a)", "40*N*N",
         "Loop: counted 5 turns of 8*N*N MACs"),
        ("", "t = Transpose (a) u = MatMul (a, t) r = MatMul (u, a)", "unknown",
         "Loop: a turn takes 8*N*N MACs, the number of turns is unknown"),
        ("m", "t = Transpose (a) u = MatMul (t, a) r = Concat <axis = 0> (a, a)", "unknown",
         "Loop: the MACs of a turn depend on sizes that change from turn to turn"),
        ("", "r = Relu (a)", None, ""),
        ("m", "r = some.where.Custom (a)", "unknown", ""),
    ],
)  # fmt: skip
def test_loop_macs(m, body, total, note):
    found = loop(f"{GOES_ON} {body}", m=m)
    assert (macs(found), last(found).note) == (total, note)


def test_loop_carries_content_that_does_not_change():
    body = f"{GOES_ON} r = Identity (a) s = Reshape (x, a)"
    before = TRIPS + "k = Constant <value = int64[3] {0, 2, 2}> ()"
    model = LOOP.format(before=before, y="y, s0", m="m", c="c", v="k", scans=", float[] s", body=body)
    model = model.replace("float[] a", "int64[] a").replace("float[] r", "int64[] r")
    found = facts(model, "float[N, 4] x", "int64[] y, s0")
    assert text(found, "s0") == "5,N,2,2"


def test_loop_forgets_content_that_changes():
    body = f"{GOES_ON} one = Constant <value = int64[2] {{1, 1}}> () r = Add (a, one) s = Expand (one, a)"
    model = LOOP.format(before=TRIPS + "k = Constant <value = int64[2] {1, 1}> ()", y="y, s0", m="m", c="c",
                        v="k", scans=", float[] s", body=body)  # fmt: skip
    model = (
        model.replace("float[] a", "int64[] a")
        .replace("float[] r", "int64[] r")
        .replace("float[] s", "int64[] s")
    )
    found = facts(model, "", "int64[] y, int64[] s0")
    assert found.main.values["y"].known() is None
    assert text(found, "s0").startswith("5,")
    assert "1" not in text(found, "s0").split(",")[1:]


def test_nested_loops_and_captured_values():
    inner = """r = Loop (m, c, a) <body = d (int64 j, bool h, float[] e) => (bool k, float[] o)
        {k = Identity (h) t = Transpose (x) u = MatMul (e, t) o = MatMul (u, x)}>"""
    assert macs(loop(f"{GOES_ON} {inner}")) == "200*N*N"  # 5 * 5 * (4*N*N + 4*N*N)


# --- Scan ---

SCAN = """y, s = Scan ({first}h, x) <num_scan_inputs = 1{more},
    body = b (float[] a, float[] z) => (float[] r, float[] w) {{ {body} }}
>"""


@pytest.mark.parametrize(
    ("more", "shapes"),
    [
        ("", ("4", "T,4")),
        (", scan_input_axes = [1]", ("4", "4,T")),
        (", scan_output_axes = [1]", ("4", "4,T")),
        (", scan_output_axes = [-1]", ("4", "4,T")),
        (", scan_input_directions = [1]", ("4", "T,4")),
    ],
)
def test_scan(more, shapes):
    inputs = "float[4] h, float[T, 4] x"
    if "input_axes" in more:
        inputs, shapes = "float[4] h, float[4, T] x", ("4", "T,4")
    found = facts(SCAN.format(more=more, first="", body="r = Add (a, z) w = Mul (a, z)"), inputs, "y, s")
    assert (text(found, "y"), text(found, "s")) == shapes


def test_scan_macs():
    body = "k = Constant <value = int64[2] {1, -1}> () p = Reshape (a, k) q = Reshape (z, k) "
    body += "t = Transpose (q) d = MatMul (p, t) r = Identity (a) w = Identity (d)"
    found = facts(SCAN.format(more="", first="", body=body), "float[4] h, float[T, 4] x", "y, s")
    assert (text(found, "s"), macs(found)) == ("T,1,1", "4*T")  # 1x4 times 4x1, each turn
    assert last(found).note == "Scan: counted T turns of 4 MACs"


def test_scan_8_has_a_batch_axis():
    body = SCAN.format(more="", first=", ", body="r = Add (a, z) w = Mul (a, z)").replace("(, ", '("", ')
    found = facts(body, "float[B, 4] h, float[B, T, 4] x", "y, s", opset=8)
    assert (text(found, "y"), text(found, "s")) == ("B,4", "B,T,4")


# --- SequenceMap ---


def test_sequence_map():
    body = """q = SequenceConstruct (x, z) s = SequenceMap (q, x) <
        body = b (float[] a, float[] c) => (float[] r, float[] w)
            { r = Concat <axis = 0> (a, c) w = Transpose (a) }
    > y = SequenceAt (s, i)"""
    body = body.replace(" s = ", " s, s2 = ")
    found = facts(body, "float[2, 4] x, float[3, 4] z, int64 i")
    value = found.main.values["s"]
    assert (value.container, text(found, "y")) == ("sequence", "y.dim0,4")
    assert found.main.values["s2"].shape[0] == 4
