"""Which rows a report shows: sorted, cut, grouped by the scopes of names; and the line on FC layers."""

from pathlib import Path

import onnx
import pytest

from onnxscope import documents
from onnxscope.documents import SORT_KEYS, Selection
from onnxscope.documents.arrange import components, torch_module
from onnxscope.documents.verdict import verdict
from onnxscope.errors import UsageError
from onnxscope.files.read import load, loads
from onnxscope.graph import Node

MNIST = Path(__file__).parents[1] / "models" / "mnist_conv.onnx"
HEAD = '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
WEIGHTS = f"<float[8,3,3,3] w1 = {{{','.join('0' * 216)}}}, float[8] b = {{{','.join('0' * 8)}}}>"
FREE = f"{HEAD} g (float[N,3,H,W] x) => (float[N,8,h,w] y) {WEIGHTS}"
UNKNOWN = (
    FREE
    + """ {
    [first] a = Conv (x, w1, b)
    [odd] m = my.Magic (a)
    [last] l = Conv (m, w1)
    y = Relu (l)
}"""
)


def report(text, selection):
    return documents.report(loads(onnx.parser.parse_model(text).SerializeToString()), selection=selection)


ROWS = {
    "order": ["conv1", "pool1", "conv2", "pool2", "fc1", "fc2"],
    "name": ["conv1", "conv2", "fc1", "fc2", "pool1", "pool2"],
    "op": ["conv1", "conv2", "fc1", "fc2", "pool1", "pool2"],  # Conv, Gemm, MaxPool
    "kind": ["conv1", "conv2", "fc1", "fc2", "pool1", "pool2"],  # conv, fc, pool
    "params": ["fc1", "conv2", "fc2", "conv1", "pool1", "pool2"],  # 205,056, 9,248, 2,570, 832, 0, 0
    "bytes": ["fc1", "conv2", "fc2", "conv1", "pool1", "pool2"],
    "macs": ["conv2", "conv1", "fc1", "fc2", "pool1", "pool2"],  # 921,600, 460,800, 204,800, 2,560, 0, 0
}


def mnist(**selection):
    return documents.report(load(MNIST), selection=Selection(**selection))


@pytest.mark.parametrize("key", SORT_KEYS)
def test_sorted_rows(key):
    assert [row["name"] for row in mnist(sort=key)["layers"]] == ROWS[key]


@pytest.mark.parametrize("key", ["macs", "params"])
def test_expressions_sort_by_size_and_unknown_comes_last(key):
    first = report(UNKNOWN, Selection(sort=key))["layers"]
    assert first[0]["name"] == "first"
    if key == "macs":
        assert [row["macs"] for row in first[1:]] == [None, None]


def test_cut_rows_leave_the_totals():
    document = mnist(sort="params", top=2)
    assert [row["name"] for row in document["layers"]] == ["fc1", "conv2"]
    assert document["view"] == {"depth": None, "sort": "params", "top": 2, "rows": 2, "of": 6}
    assert document["totals"]["params"] == 217_706


def test_an_ordinary_document_has_no_view():
    assert {"view", "groups"}.isdisjoint(mnist())


def test_groups_follow_the_scopes_of_names():
    model = onnx.parser.parse_model(
        FREE
        + """ {
        a = Conv (x, w1, b)
        c = MaxPool <kernel_shape = [2,2]> (a)
        d = MaxPool <kernel_shape = [2,2]> (c)
        y = MaxPool <kernel_shape = [2,2]> (d)
    }"""
    )
    for node, name in zip(
        model.graph.node, ("/stem/conv/Conv", "/stem/pool/MaxPool", "plain", "/stem/late"), strict=True
    ):
        node.name = name
    loaded = loads(model.SerializeToString())
    document = documents.report(loaded, dims={"N": 1, "H": 8, "W": 8}, selection=Selection(depth=1))
    stem, plain = document["groups"]
    assert stem == {
        "name": "stem",
        "layers": 3,
        "ops": {"MaxPool": 2, "Conv": 1},
        "output": "y",
        "output_shape": [1, 8, 3, 3],
        "params": 224,
        "bytes": 896,
        "macs": 36 * 8 * 27,
    }
    assert (plain["name"], plain["layers"]) == ("plain", 1)
    assert document["view"]["of"] == 2


def test_an_unknown_count_makes_its_group_unknown():
    groups = report(UNKNOWN, Selection(depth=1))["groups"]
    assert [group["macs"] is None for group in groups] == [False, True, True]


@pytest.mark.parametrize("wrong", [{"sort": "size"}, {"depth": 0}, {"top": 0}, {"top": -3}])
def test_a_selection_that_can_t_be(wrong):
    with pytest.raises(UsageError):
        mnist(**wrong)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/layer1/layer1.0/conv1/Conv", ("layer1", "0", "conv1", "Conv")),
        ("/features/features.10/Conv", ("features", "10", "Conv")),
        ("model.layers.3.mlp", ("model", "layers", "3", "mlp")),
        (
            "StatefulPartitionedCall/block1_conv1/Conv2D",
            ("StatefulPartitionedCall", "block1_conv1", "Conv2D"),
        ),
        ("Conv_12", ("Conv_12",)),
        ("/", ("/",)),
        ("..", ("..",)),
    ],
)
def test_components(name, expected):
    assert components(name) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']", "layer1.0.conv1"),
        ("['', 'relu']", ""),
        ("['only']", ""),
        ("not a list", ""),
        ("__import__('os')", ""),
        ("[1, 2, 3]", ""),
        ("[" * 10_000, ""),
    ],
)
def test_torch_module(text, expected):
    node = Node(0, "n", "Conv", "", (), (), metadata=(("pkg.torch.onnx.name_scopes", text),))
    assert torch_module(node) == expected


def heads(*able):
    entry = {"layer": "fc", "kernel": None, "becomes": None, "reason": None, "share_of_params": 0.25}
    return {"fully_connected": [entry | {"replaceable": one} for one in able]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (heads(), "no fully connected (FC) layer"),
        (heads(True), "1 FC layer with 25.0 % of the parameters: it can become a convolution"),
        (heads(False), "1 FC layer with 25.0 % of the parameters: it can't become a convolution"),
        (heads(True, True), "2 FC layers with 50.0 % of the parameters: all can become convolutions"),
        (heads(True, False), "2 FC layers with 50.0 % of the parameters: 1 of them can become a convolution"),
        (heads(False, False), "2 FC layers with 50.0 % of the parameters: none can become a convolution"),
    ],
)
def test_verdict(document, expected):
    assert verdict(document) == expected


def test_verdict_without_shares():
    document = heads(True, True)
    document["fully_connected"][0]["share_of_params"] = None
    assert verdict(document) == "2 FC layers: all can become convolutions"


def test_a_group_counts_a_loop_once():
    """Conv 3x3 on 8x8 with 4 to 4 channels: 64*4*36 MACs a turn, 5 turns; the body's row has one."""
    body = "on = Identity (go) s = Conv <pads=[1,1,1,1]> (v, k)"
    turn = f"turn (int64 i, bool go, float[1,4,8,8] v) => (on, s) {{ {body} }}"
    given = f"<bool always = {{1}}, int64 five = {{5}}, float[4,4,3,3] k = {{{','.join('0' * 144)}}}>"
    nodes = f"n = Loop (five, always, x) <body = {turn}> y = Relu (n)"
    text = f"{HEAD} g (float[1,4,8,8] x) => (float y) {given} {{ {nodes} }}"
    (group,) = report(text, Selection(depth=1))["groups"]
    assert (group["layers"], group["params"], group["macs"]) == (2, 144, 5 * 64 * 4 * 36)
    assert group["output"] == "n"


def test_two_nodes_with_one_output_name_show_what_each_makes():
    """Without pads 8 - 2 = 6, with pads of 1 the 8 stays; readers get the first (ONNX forbids the second)."""
    text = (
        FREE.replace("[N,3,H,W]", "[1,3,8,8]")
        + " { a = Conv (x, w1) a = Conv <pads = [1,1,1,1]> (x, w1) y = Relu (a) }"
    )
    rows = report(text, Selection(all_ops=True))["layers"]
    assert [row["output_shape"] for row in rows] == [[1, 8, 6, 6], [1, 8, 8, 8], [1, 8, 6, 6]]
    assert [row["receptive_field"]["start"] for row in rows] == [[0, 0], [-1, -1], [0, 0]]


def test_weights_of_a_wrong_size_are_said_once():
    proto = onnx.parser.parse_model(
        f"{HEAD} g (float[1,3,8,8] x) => (float[N,M,H,W] y) {{ y = Conv (x, w) }}"
    )
    proto.graph.initializer.append(
        onnx.TensorProto(name="w", data_type=1, dims=[4, 3, 3, 3], raw_data=b"\0" * 4)
    )
    problems = documents.report(loads(proto.SerializeToString()))["problems"]
    assert [problem["where"] for problem in problems] == ["tensor 'w'"]
    assert "432" in problems[0]["message"]  # 4*3*3*3 floats of 4 bytes
