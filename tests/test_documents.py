"""Report documents: their schema, their sums, and what they say where the analysis can't answer."""

import json
from pathlib import Path

import jsonschema
import onnx
import pytest
from onnx import TensorProto, helper

from onnxscope import documents
from onnxscope.documents import Selection
from onnxscope.files.read import load, loads

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
MODELS = sorted((ROOT / "models").rglob("*.onnx"))


def parsed(text):
    """A model in ONNX's textual syntax, as the loader sees it."""
    return loads(onnx.parser.parse_model(text).SerializeToString())


def report(text, selection=None, **bindings):
    return documents.report(parsed(text), selection=selection, **bindings)


def valid(document):
    """The document as JSON makes it, checked against the published schema."""
    plain = json.loads(json.dumps(document, allow_nan=False))
    jsonschema.Draft202012Validator(SCHEMA).validate(plain)
    assert plain == document  # nothing but dicts, lists, strings and numbers
    return document


def layer(document, name):
    return next(row for row in document["layers"] if row["name"] == name)


HEAD = '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
WEIGHTS = f"<float[8,3,3,3] w1 = {{{','.join('0' * 216)}}}, float[8] b = {{{','.join('0' * 8)}}}>"
FREE = f"{HEAD} g (float[N,3,H,W] x) => (float[N,8,h,w] y) {WEIGHTS}"
CHAIN = (
    FREE
    + """ {
    [first] a = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1, b)
    r = Relu (a)
    [pool] y = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r)
}"""
)


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "selection",
    [Selection(), Selection(all_ops=True), Selection(depth=1, sort="macs", top=3)],
    ids=["layers", "all", "groups"],
)
def test_models_follow_the_schema(path, selection):
    document = valid(documents.report(load(path), selection=selection))
    assert document["schema"] == "onnxscope.report/1"
    assert document["model"]["nodes"] == len(onnx.load(path).graph.node)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize("all_ops", [False, True])
def test_columns_add_up(path, all_ops):
    model = load(path)
    free = {
        size
        for value in documents.report(model)["inputs"]
        for size in value["shape"] or ()
        if isinstance(size, str)
    }
    dims = {name: 64 if name in ("H", "W", "height", "width") else 2 for name in free}
    document = documents.report(model, dims=dims, selection=Selection(all_ops=all_ops))
    rows, totals = document["layers"], document["totals"]
    assert sum(row["params"]["total"] for row in rows) == totals["trainable_params"]
    assert sum(totals["params_by_kind"].values()) == totals["trainable_params"]
    assert sum(row["macs"] for row in rows if not row["scope"]) == totals["macs"]
    assert all(row["params"]["weight"] + row["params"]["bias"] == row["params"]["total"] for row in rows)
    assert sum(totals["weight_bytes_by_dtype"].values()) == totals["weight_bytes"]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_groups_add_up_like_layers(path):
    document = documents.report(load(path), selection=Selection(depth=1))
    if all(isinstance(group["params"], int) for group in document["groups"]):
        assert sum(group["params"] for group in document["groups"]) == document["totals"]["trainable_params"]
    assert sum(group["layers"] for group in document["groups"]) == len(document["layers"])


def test_a_layer_by_hand():
    document = valid(report(CHAIN, dims={"H": 31, "W": 40}))
    first = layer(document, "first")
    assert first == {
        "name": "first",
        "op": "Conv",
        "kind": "conv",
        "scope": "",
        "input": "x",
        "output": "a",
        "input_shape": ["N", 3, 31, 40],
        "output_shape": ["N", 8, 16, 20],  # (31 + 2 - 3)//2 + 1, (40 + 2 - 3)//2 + 1
        "output_shapes": {"a": ["N", 8, 16, 20]},
        "kernel": [3, 3],
        "strides": [2, 2],
        "pads": [1, 1, 1, 1],
        "dilations": [1, 1],
        "group": 1,
        "params": {
            "weight": 216,
            "bias": 8,
            "total": 224,
            "shared_with": [],
            "dtype": "float32",
            "bytes": 896,
        },
        "macs": "69120*N",  # 16*20 positions, 8 channels, 27 products
        "receptive_field": {"size": [3, 3], "stride": [2, 2], "start": [-1, -1]},
        "formula": {
            "shape": [
                "(31 + 2*1 - 1*(3 - 1) - 1)//2 + 1 = 16",
                "(40 + 2*1 - 1*(3 - 1) - 1)//2 + 1 = 20",
            ],
            "params": "(3*3*3 + 1)*8 = 224",
            "macs": "N*8*16*20*3*3*3 = 69120*N",
        },
    }


def test_a_pool_has_a_window_and_no_group():
    pool = layer(report(CHAIN), "pool")
    assert (pool["kind"], pool["kernel"], pool["strides"], pool["group"]) == ("pool", [2, 2], [2, 2], None)
    assert (pool["macs"], pool["params"]["total"], pool["params"]["dtype"]) == (0, 0, None)


def test_only_layers_that_count_unless_asked():
    assert [row["op"] for row in report(CHAIN)["layers"]] == ["Conv", "MaxPool"]
    every = report(CHAIN, Selection(all_ops=True))["layers"]
    assert [row["op"] for row in every] == ["Conv", "Relu", "MaxPool"]
    assert every[1]["name"] == "Relu_1"


def test_free_sizes_stay_expressions():
    document = valid(report(CHAIN))
    assert document["outputs"] == [
        {"name": "y", "dtype": "float32", "shape": ["N", 8, "(H + 1)//4", "(W + 1)//4"]}
    ]
    assert document["spatial"]["closed_form"] == {"y": ["(H + 1)//4", "(W + 1)//4"]}
    # one cell needs two of the convolution's: (H - 1)//2 + 1 >= 2
    assert document["spatial"]["minimum_input"] == {"H": 3, "W": 3}


def test_free_sizes_that_meet_are_named_once():
    """A broadcast asks for equal sizes or a 1: the larger of H and A is the result of all that is allowed."""
    inputs = "float[N,3,H,8] x, float[N,3,A,8] z"
    text = f"{HEAD} g ({inputs}) => (float y) {{ [sum] a = Add (x, z) y = Mul (a, z) }}"
    document = report(text)
    assert document["outputs"][0]["shape"] == ["N", 3, "max(A, H)", 8]
    message = "sizes A and H must be equal or one of them 1; max(A, H) stands for both"
    assert document["problems"] == [{"where": "sum", "message": message}]
    assert report(text, dims={"A": 5, "H": 5})["problems"] == []


def test_model_entry():
    entry = report(CHAIN)["model"]
    assert entry["opsets"] == {"ai.onnx": 17, "my": 1}
    assert (entry["nodes"], entry["functions"], entry["ir_version"]) == (3, 0, 8)
    assert list(entry["op_counts"].items()) == [("Conv", 1), ("MaxPool", 1), ("Relu", 1)]
    assert entry["weight_bytes"] == 4 * 224


def test_formulas_can_be_left_out():
    document = documents.report(parsed(CHAIN), formulas=False)
    assert [row["formula"] for row in document["layers"]] == [None, None]


UNKNOWN = (
    FREE
    + """ {
    [first] a = Conv (x, w1, b)
    [odd] m = my.Magic (a)
    [last] l = Conv (m, w1)
    y = Relu (l)
}"""
)


def test_what_isn_t_known_is_null_and_a_problem():
    document = valid(report(UNKNOWN))
    odd, last = layer(document, "odd"), layer(document, "last")
    assert (odd["output_shape"], odd["output_shapes"], odd["macs"]) == (None, {"m": None}, None)
    assert (last["output_shape"], last["macs"], last["params"]["total"]) == (None, None, 216)
    assert document["totals"]["macs_coverage"] == pytest.approx(1 / 3)
    assert document["totals"]["activation_bytes"] is None
    assert {"odd", "last", "memory"} <= {problem["where"] for problem in document["problems"]}


def test_no_count_is_not_zero():
    text = HEAD + "g (float[1,3] x) => (float[1,3] y) { [only] y = my.Magic (x) }"
    totals = report(text)["totals"]
    assert (totals["macs"], totals["macs_coverage"]) == (None, 0.0)


def test_nothing_to_count_is_zero():
    totals = report(HEAD + "g (float[1,3] x) => (float[1,3] y) { y = Relu (x) }")["totals"]
    assert (totals["macs"], totals["macs_coverage"], totals["params"]) == (0, 1.0, 0)


def test_shared_weights_are_named_on_both_sides():
    document = report(
        FREE
        + """ {
        [one] a = Conv (x, w1, b)
        [two] c = Conv (x, w1)
        y = Add (a, c)
    }"""
    )
    assert layer(document, "one")["params"]["shared_with"] == ["two"]
    assert layer(document, "two")["params"]["shared_with"] == ["one"]
    assert (document["totals"]["params"], document["totals"]["trainable_params"]) == (224, 440)
    assert any(
        "440" in problem["message"] and "224" in problem["message"] for problem in document["problems"]
    )


def test_namesakes_get_their_place():
    document = report(FREE + " { [n] a = Conv (x, w1, b)\n [n] y = MaxPool <kernel_shape = [2,2]> (a) }")
    assert [row["name"] for row in document["layers"]] == ["n#0", "n#1"]
    expected = {"where": "n", "message": "2 nodes have this name; they are listed as n#0, n#1"}
    assert expected in document["problems"]


def test_names_are_unique_wherever_a_layer_is_named():
    """Two FC layers of one name that share a weight, and a third whose name looks like a place."""
    edges = (("x", "a", "fc"), ("a", "b", "fc"), ("b", "y", "fc#1"))
    nodes = [helper.make_node("MatMul", [source, "w"], [end], name=name) for source, end, name in edges]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8]) for name in ("x", "y")]
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [8, 8], [0.0] * 64)
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [tensor])
    document = documents.report(loads(helper.make_model(graph, ir_version=8).SerializeToString()))
    names = ["fc#0", "fc##1", "fc#1"]
    assert [row["name"] for row in document["layers"]] == names
    assert [row["layer"] for row in document["fully_connected"]] == names
    assert layer(document, "fc#0")["params"]["shared_with"] == names[1:]


def test_calls_of_one_name_keep_their_own_bodies():
    """Convs of 3x3 on 8x8, then 6x6: 36*9 and 16*9 MACs."""
    document = report(
        HEAD
        + """g (float[1,1,8,8] x, float[1,1,3,3] w) => (float[1,1,4,4] y) {
        [call] a = my.Block (x, w)
        [call] y = my.Block (a, w)
    }
    <domain: "my", opset_import: ["" : 17]> Block (x, w) => (y) { [conv] y = Conv (x, w) }"""
    )
    rows = {row["name"]: row["macs"] for row in document["layers"]}
    assert rows == {"call#0.Block/conv": 324, "call#1.Block/conv": 144}
    assert document["totals"]["macs"] == 468


def test_an_initializer_is_no_input():
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [8, 3, 3, 3], [0.0] * 216)
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("x", [1, 3, 9, 9]), ("w", [8, 3, 3, 3]))
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", infos, outputs, [tensor])
    model = helper.make_model(graph, ir_version=3, opset_imports=[helper.make_opsetid("", 8)])
    document = documents.report(loads(model.SerializeToString()))
    assert [value["name"] for value in document["inputs"]] == ["x"]
    assert document["totals"]["params"] == 216


def external(folder, **keep):
    """A model with two tensors in another file; `keep` says whether that file stays."""
    tensors = [
        helper.make_tensor(n, TensorProto.FLOAT, [3, 3, 1, 1], bytes(36), raw=True) for n in ("w1", "w2")
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("x", "y")]
    nodes = [helper.make_node("Conv", ["x", "w1"], ["a"]), helper.make_node("Conv", ["a", "w2"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "g", infos[:1], infos[1:], tensors), ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if not keep["keep"]:
        (folder / "weights.bin").unlink()
    return documents.report(load(path))


def test_missing_external_data_is_a_problem_not_an_error(tmp_path):
    document = external(tmp_path, keep=False)
    assert document["totals"]["params"] == 18
    assert [problem["where"] for problem in document["problems"]] == ["w1"]
    assert "'weights.bin' is missing" in document["problems"][0]["message"]
    assert document["problems"][0]["message"].endswith("(and 1 more)")


def test_present_external_data_is_no_problem(tmp_path):
    assert external(tmp_path, keep=True)["problems"] == []


FUNCTION = """<ir_version: 9, opset_import: ["" : 17, "my" : 1]>
g (float[1,3,8,8] x) => (float[1,3,4,4] y) <float[3,3,3,3] w = {ZEROS}> {
    [one] a = my.Block (x, w)
    [two] y = my.Block (a, w)
}
<domain: "my", opset_import: ["" : 17]>
Block (x, w) => (y) {
    [inner] t = Conv (x, w)
    y = Relu (t)
}""".replace("ZEROS", ",".join("0" * 81))


def test_a_function_s_layers_are_those_of_its_calls():
    document = valid(report(FUNCTION))
    assert [(row["name"], row["scope"]) for row in document["layers"]] == [
        ("one.Block/inner", "one.Block/"),
        ("two.Block/inner", "two.Block/"),
    ]
    assert [row["macs"] for row in document["layers"]] == [36 * 3 * 27, 16 * 3 * 27]
    assert document["totals"]["macs"] == 52 * 81
    assert document["model"]["functions"] == 1
    assert document["model"]["nodes"] == 4
    assert (document["totals"]["params"], document["totals"]["trainable_params"]) == (81, 162)


def loop(turns):
    """A Loop over a convolution that keeps the map's size."""
    conv = helper.make_node("Conv", ["v", "w"], ["v1"], name="inner", pads=[1, 1, 1, 1])
    same = helper.make_node("Identity", ["go"], ["went"])
    info = helper.make_tensor_value_info
    ins = [
        info("i", TensorProto.INT64, []),
        info("go", TensorProto.BOOL, []),
        info("v", TensorProto.FLOAT, [1, 2, 4, 4]),
    ]
    outs = [info("went", TensorProto.BOOL, []), info("v1", TensorProto.FLOAT, [1, 2, 4, 4])]
    node = helper.make_node(
        "Loop", ["turns", "", "x"], ["y"], "turn", body=helper.make_graph([conv, same], "b", ins, outs)
    )
    tensors = [
        helper.make_tensor("w", TensorProto.FLOAT, [2, 2, 3, 3], [0.0] * 36),
        helper.make_tensor("turns", TensorProto.INT64, [], [turns]),
    ]
    ends = [info(name, TensorProto.FLOAT, [1, 2, 4, 4]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], tensors)
    return loads(
        helper.make_model(
            graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
        ).SerializeToString()
    )


def test_a_loop_counts_its_turns_and_its_body_one():
    document = valid(documents.report(loop(5)))
    one = 16 * 2 * 18
    assert {row["name"]: row["macs"] for row in document["layers"]} == {
        "turn": 5 * one,
        "turn.body/inner": one,
    }
    assert document["totals"]["macs"] == 5 * one


def test_a_transposed_convolution_halves_the_stride():
    text = """g (float[1,1,4,4] x) => (float[1,1,8,8] y) <float[1,1,2,2] w = {0,0,0,0}> {
        [up] y = ConvTranspose <strides = [2,2]> (x, w)
    }"""
    up = layer(valid(report(HEAD + text)), "up")
    assert up["kind"] == "conv_transpose"
    assert up["receptive_field"]["stride"] == ["1/2", "1/2"]


def test_an_fc_head_that_other_sizes_would_break():
    document = valid(
        documents.report(load(ROOT / "models" / "net32.onnx"), shapes={"input": ("N", 1, "H", "W")})
    )
    heads = document["fully_connected"]
    assert [(head["kernel"], head["becomes"]) for head in heads] == [
        ([5, 5], "Conv 5x5x6 -> 100"),
        ([1, 1], "Conv 1x1x100 -> 10"),
    ]
    assert heads[0]["share_of_params"] == pytest.approx(15_100 / 16_644, abs=1e-6)
    assert ["(H - 12)//4", "(W - 12)//4"] in document["spatial"]["closed_form"].values()
    assert any(problem["where"] == heads[0]["layer"] for problem in document["problems"])
