"""Pairing of nodes: renumbered, inserted, changed, retrained; what changed in a tensor, by hand."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from onnxscope.analysis.difference import pair
from onnxscope.analysis.tensor_difference import compare
from onnxscope.documents.diff import diff
from onnxscope.files.read import loads

NET = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 1, 8, 8] x) => (float[N, 2] y)
<float[2, 1, 3, 3] a = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18},
 float[2, 2, 3, 3] b = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,10}>
{ [n0] c1 = Conv(x, a) [n1] r1 = Relu(c1) [n2] c2 = Conv(r1, b) [n3] r2 = Relu(c2)
  [n4] p = GlobalAveragePool(r2) [n5] y = Flatten(p) }
"""


def read(text):
    return loads(onnx.parser.parse_model(text).SerializeToString(), "m.onnx")


def ops(text):
    """(pairs as (old name, new name), removed, added)."""
    found = pair(read(NET).graph, read(text).graph)
    pairs = [(old.name, new.name) for old, new in found.pairs]
    return pairs, [node.name for node in found.removed], [node.name for node in found.added]


def test_same_model():
    pairs, removed, added = ops(NET)
    assert pairs == [(f"n{i}", f"n{i}") for i in range(6)]
    assert removed == added == []


def test_names_that_moved_up_mislead_nobody():
    """One node in front; every name is the one of the node before."""
    text = NET.replace("[n0] c1 = Conv(x, a)", "[n0] i = Identity(x) [n1] c1 = Conv(i, a)")
    for old, new in ((5, 6), (4, 5), (3, 4), (2, 3)):
        text = text.replace(f"[n{old}]", f"[n{new}]")
    text = text.replace("[n1] r1", "[n2] r1")
    pairs, removed, added = ops(text)
    assert (removed, added) == ([], ["n0"])
    assert pairs == [(f"n{i}", f"n{i + 1}") for i in range(6)]


def test_node_taken_out_of_the_middle():
    pairs, removed, added = ops(NET.replace("[n1] r1 = Relu(c1)", "").replace("(r1, b)", "(c1, b)"))
    assert removed == ["n1"]
    assert added == []
    assert ("n2", "n2") in pairs
    assert ("n3", "n3") in pairs


def test_two_layers_that_changed_places_follow_their_weights():
    ones, twos = ",".join("1" * 256), ",".join("2" * 256)
    first = f"<float[2, 2, 8, 8] a = {{{ones}}}, float[2, 2, 8, 8] b = {{{twos}}}>"
    text = '<ir_version: 8, opset_import: ["" : 17]>\ng (float[1,2,99,99] x) => (float[1,2,W,H] z)\n'
    body = "{ [p] y = Conv(x, %s) [q] z = Conv(y, %s) }"
    old, new = (read(text + first + body % order).graph for order in (("a", "b"), ("b", "a")))
    assert {(one.name, two.name) for one, two in pair(old, new).pairs} == {("p", "q"), ("q", "p")}


def test_changed_attribute_and_edge():
    text = NET.replace("Conv(r1, b)", "Conv<pads = [1,1,1,1]>(r1, b)").replace(
        "Flatten(p)", "Flatten<axis=1>(p)"
    )
    found = diff(read(NET), read(text))
    (row,) = found["nodes"]["changed"]  # axis 1 is what Flatten takes by default
    assert (row["old"], row["new"]) == ("n2", "n2")
    assert row["what"] == [{"what": "attribute pads", "old": None, "new": "(1, 1, 1, 1)"}]
    assert [(row["old_name"], row["old"], row["new"]) for row in found["shapes"]] == [
        ("c2", ["N", 2, 4, 4], ["N", 2, 6, 6]),
        ("r2", ["N", 2, 4, 4], ["N", 2, 6, 6]),
    ]
    totals = {row["what"]: (row["old"], row["new"]) for row in found["totals"]}
    assert totals["params"] == (54, 54)  # 2*1*9 + 2*2*9
    # 6*6*2 outputs of 9 products, then 4*4*2 (6*6*2) outputs of 18
    assert totals["macs"] == ("1224*N", "1944*N")


def test_interface_and_opset():
    found = diff(
        read(NET),
        read(NET.replace('"" : 17', '"" : 18').replace("float[N, 1, 8, 8] x", "float[2, 1, 8, 8] x")),
    )
    assert found["interface"][0] == {
        "what": "input x",
        "old": "float32 [N, 1, 8, 8]",
        "new": "float32 [2, 1, 8, 8]",
    }
    assert found["model"] == [{"what": "opset ai.onnx", "old": "17", "new": "18"}]
    assert not found["equal"]


def test_nothing_but_names():
    text = (
        NET.replace("[n", "[other")
        .replace("c1", "value7")
        .replace("(x, a)", "(x, w)")
        .replace("] a =", "] w =")
    )
    found = diff(read(NET), read(text))
    assert found["equal"]
    assert found["nodes"]["renamed"] == 6
    assert found["weights"]["identical"] == 2


def test_findings_gained_and_lost_follow_the_pairs():
    found = diff(read(NET), read(NET.replace("[n", "[other")))["findings"]
    assert found == {"gained": [], "lost": []}


def tensors(*arrays):
    return [
        loads(
            onnx.helper.make_model(
                onnx.helper.make_graph([], "g", [], [], [numpy_helper.from_array(array, "w")])
            ).SerializeToString()
        ).graph.tensors[0]
        for array in arrays
    ]


def test_tensor_difference_by_hand():
    old = np.array([1, 2, 0.0, np.nan, np.inf, 5], np.float32)
    new = np.array([1, 2.5, -0.0, np.nan, 4, 4.75], np.float32)
    found = compare(*tensors(old, new))
    assert (found.changed, found.max_change, found.nonfinite) == (4, 0.5, 1)  # 2.5, -0, inf -> 4, 4.75


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float16", "float64", "bool"])
def test_tensor_difference_of_other_types(dtype):
    old = np.array([0, 1, 1, 0], dtype)
    new = np.array([0, 1, 0, 0], dtype)
    found = compare(*tensors(old, new))
    assert (found.changed, found.max_change) == (1, 1.0)
    assert compare(*tensors(old, old)).changed == 0
    assert compare(*tensors(old, old.reshape(2, 2))).changed == 0
    assert compare(*tensors(old, new.reshape(2, 2))) is None
    assert compare(*tensors(old, old[:3])) is None


def test_large_tensor_in_blocks():
    old = np.zeros(1_000_003, np.float32)
    new = old.copy()
    new[[0, 262_144, 1_000_002]] = [1, -3, 2]
    found = compare(*tensors(old, new))
    assert (found.changed, found.max_change) == (3, 3.0)


def test_a_reshaped_weight_keeps_its_bits():
    """As where a fully connected layer becomes a convolution: Gemm [2, 8] on a 2x2 map of 2 channels."""
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,2,2] x) => (float[1,2] y) '
    numbers = "{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}"
    gemm = f"{head} <float[2,8] w = {numbers}> {{ f = Flatten (x) y = Gemm <transB = 1> (f, w) }}"
    conv = f"{head} <float[2,2,2,2] w = {numbers}> {{ f = Conv (x, w) y = Flatten (f) }}"
    (row,) = diff(read(gemm), read(conv))["weights"]["changed"]
    assert (row["changed"], row["shape"]) == (0, [[2, 8], [2, 2, 2, 2]])
    assert row["note"] == "the same bits in another shape"
    (row,) = diff(read(gemm), read(conv.replace("16}", "17}")))["weights"]["changed"]
    assert (row["changed"], row["note"]) == (None, None)


BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, bool c) => (float[2] y) {
  [pre] h = Abs(x)
  [if] y = If(c) <
    then_branch = yes () => (float[2] a) <float[2] w = {1, 2}> { [t0] s = Mul(h, w) [t1] a = Relu(s) },
    else_branch = no () => (float[2] b) { [e0] b = Neg(h) }
  >
}
"""


def difference(text):
    found = diff(read(BRANCHES), read(text))
    return found["nodes"], found["weights"], found["equal"]


def test_the_same_branches_differ_in_nothing():
    nodes, weights, equal = difference(BRANCHES)
    assert (nodes["paired"], weights["identical"], equal) == (5, 1, True)


def test_other_names_inside_a_branch_are_no_difference():
    text = BRANCHES.replace(" s", " inner").replace("(s)", "(inner)").replace("[t0]", "[first]")
    nodes, _, equal = difference(text.replace("h = Abs", "k = Abs").replace("(h", "(k"))
    assert (nodes["paired"], nodes["renamed"], equal) == (5, 1, True)


def test_what_changed_inside_a_branch_has_its_place():
    nodes, weights, equal = difference(BRANCHES.replace("{1, 2}", "{1, 4}"))
    assert (nodes["changed"], equal) == ([], False)
    (row,) = weights["changed"]
    assert (row["old"], row["changed"], row["max_change"]) == ("if.then_branch/w", 1, 2.0)
    nodes, _, _ = difference(BRANCHES.replace("[e0] b = Neg(h)", "[e0] n = Neg(h) [e1] b = Neg(n)"))
    assert [row["name"] for row in nodes["added"]] == ["if.else_branch/e1"]
    nodes, _, _ = difference(BRANCHES.replace("a = Relu(s)", "a = LeakyRelu <alpha = 0.5> (s)"))
    assert [row["name"] for row in nodes["removed"]] == ["if.then_branch/t1"]


def test_a_branch_that_hands_out_another_value_is_a_change():
    nodes, _, equal = difference(BRANCHES.replace("yes () => (float[2] a)", "yes () => (float[2] s)"))
    assert not equal
    (row,) = [row for row in nodes["changed"] if row["op"] == "graph"]
    assert row["what"] == [{"what": "output 0", "old": "a", "new": "s"}]
