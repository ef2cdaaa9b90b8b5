"""MACs and activation memory: expected values by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import net, node
from onnx import helper, parser

from onnxscope.analysis import cost, memory, params
from onnxscope.analysis.shapes import infer
from onnxscope.files.read import loads
from onnxscope.graph import Model


@pytest.mark.parametrize(
    ("line", "values", "macs"),
    [
        # outputs x products per output
        ("y = Conv(x, w)", {"x": "1,1,28,28", "w": (32, 1, 5, 5)}, 24 * 24 * 32 * 25),
        ("y = Conv(x, w) group=8", {"x": "1,8,9,9", "w": (8, 1, 3, 3)}, 7 * 7 * 8 * 9),
        # every input element meets M/group*kh*kw weights: 5*5*3 * 4*9 (semantics of ConvTranspose)
        ("y = ConvTranspose(x, w)", {"x": "1,3,5,5", "w": (3, 4, 3, 3)}, 5 * 5 * 3 * 4 * 9),
        ("y = Gemm(x, w)", {"x": "2,8", "w": (8, 4)}, 2 * 8 * 4),
        ("y = MatMul(x, w)", {"x": "2,5,8", "w": (8, 4)}, 2 * 5 * 8 * 4),
        ("y = Relu(x)", {"x": "2,5"}, 0),
        (
            "y = LSTM(x, w, r) hidden_size=4",
            {"x": "5,2,3", "w": (1, 16, 3), "r": (1, 16, 4)},
            5 * 2 * 4 * 4 * 7,
        ),
    ],
)
def test_macs(line: str, values: dict[str, object], macs: int) -> None:
    found = cost.count(infer(net([line], **values)))
    assert found.total == macs
    assert found.coverage == 1.0


def test_macs_stay_symbolic() -> None:
    found = cost.count(infer(net(["y = Conv(x, w)"], x="N,3,H,W", w=(8, 3, 3, 3))))
    assert str(found.total) == "216*N*(H - 2)*(W - 2)"  # 8*27 per cell


def test_an_unknown_op_lowers_the_coverage() -> None:
    found = cost.count(
        infer(net(["a = my:Op(x)", "y = Conv(a, w)", "z = Conv(x, w)"], x="1,3,9,9", w=(8, 3, 3, 3)))
    )
    assert (found.known, found.possible, found.unknown) == (1, 3, ("a", "y"))
    assert found.total == 7 * 7 * 8 * 27


def test_constant_products_are_folded_by_every_runtime() -> None:
    found = cost.count(infer(net(["c = MatMul(w, w)", "y = MatMul(x, c)"], x="1,6", w=(6, 6))))
    assert (found.total, found.possible) == (36, 1)


def _branch(line: str, output: str) -> onnx.GraphProto:
    return helper.make_graph([node(line)], "b", [], [helper.make_empty_tensor_value_info(output)])


def test_an_if_counts_its_larger_branch() -> None:
    choice = node(
        "y = If(c)",
        then_branch=_branch("t = MatMul(x, w)", "t"),
        else_branch=_branch("e = MatMul(x, v)", "e"),
    )
    found = cost.count(infer(net([choice], x="1,8", c="", w=(8, 5), v=(8, 50))))
    assert found.total == 400
    assert found.coverage == 1.0


# --- memory ---


def test_peak_is_the_largest_sum_of_live_values() -> None:
    """x [1, 8] 32 B; a 32 B, b 16 B, y 16 B. At a: x + a = 64. At b: a + b = 48. At y: b + y = 32."""
    model = net(["a = Relu(x)", "b = MatMul(a, w)", "y = Relu(b)"], x="1,8", w=(8, 4))
    found = memory.measure(infer(model))
    assert (found.activation_bytes, found.peak_activation_bytes, found.peak_node) == (96, 64, "a")


def test_a_value_lives_to_its_last_reader() -> None:
    """x and a are both read by the Add at the end: x + a + b + y = 4 x 32 B."""
    model = net(["a = Relu(x)", "b = Tanh(a)", "y = Sum(x, a, b)"], x="1,8")
    found = memory.measure(infer(model))
    assert (found.peak_activation_bytes, found.peak_node) == (128, "y")


def test_outputs_live_to_the_end() -> None:
    """y is an output made first: it is still there when z is made: x + y + z."""
    model = net(["y = Relu(x)", "z = Tanh(x)", "u = Relu(z)"], x="1,8", outputs=["y", "u"])
    assert memory.measure(infer(model)).peak_activation_bytes == 3 * 32


def test_an_unread_value_dies_at_once() -> None:
    model = net(["a = Relu(x)", "b = Relu(x)", "c = Relu(x)", "y = Relu(x)"], x="1,8")
    assert memory.measure(infer(model)).peak_activation_bytes == 64


def test_peak_with_a_symbolic_batch() -> None:
    found = memory.measure(infer(net(["a = Relu(x)", "y = MatMul(a, w)"], x="N,8", w=(8, 4))))
    assert (str(found.activation_bytes), str(found.peak_activation_bytes)) == ("80*N", "64*N")


def test_undecided_peaks_are_unknown() -> None:
    """Whether x + a or a + y is larger depends on H against 9."""
    found = memory.measure(infer(net(["a = MatMul(x, w)", "y = MatMul(a, v)"], x="1,H", w="H,4", v=(4, 9))))
    assert found.peak_activation_bytes is None


def test_unknown_sizes_are_counted_not_summed() -> None:
    found = memory.measure(infer(net(["a = my:Op(x)", "y = Relu(a)"], x="1,8")))
    assert (found.activation_bytes, found.peak_activation_bytes, found.unknown) == (32, None, 2)


def _text(graph: str) -> Model:
    return loads(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}').SerializeToString())


def test_a_branch_may_use_a_name_of_the_graph_around_it() -> None:
    """Inside `then` w is its own [4, 2] and a its own [1, 2]; `other` and the main graph have theirs.

    then: 4*2 MACs; other: 4*3. Forbidden by the ONNX IR, and written by exporters all the same.
    """
    branches = (
        "then_branch = then () => (t) <float[4,2] w = {1,1,1,1,1,1,1,1}> { a = MatMul (x, w) t = Relu (a) }"
    )
    branches += ", else_branch = other () => (t) { t = MatMul (a, w) }"
    outer = "<float[4,3] w = {1,1,1,1,1,1,1,1,1,1,1,1}>"
    nodes = f"a = Tanh (x) y = If (c) <{branches}> z = Relu (a)"
    facts = infer(_text(f"g (float[1,4] x, bool c) => (float y, float z) {outer} {{ {nodes} }}"))
    assert cost.count(facts).total == 12
    assert facts.value("a").shape == (1, 4) == facts.value("z").shape
    assert facts.value("a", "If_1.then_branch/").shape == (1, 2)
    assert facts.value("t", "If_1.else_branch/").shape == (1, 3)
    assert [str(used.total) for used in params.count(facts).layers.values()] == ["8", "12"]


def test_what_a_branch_makes_is_alive_with_what_is_around_it() -> None:
    """x, a, b 32 B, c 1; y, z and the branches' results 64. In the Concat of `then`: c, a, b, t = 129.

    In `other`: c, a, e = 97; at the If c, a, y = 97; at z y, z = 128. Results are the If's output.
    """
    branches = "then_branch = then () => (t) { b = Tanh (a) t = Concat <axis = 1> (b, a) }"
    branches += ", else_branch = other () => (e) { e = Concat <axis = 1> (a, a) }"
    nodes = f"a = Relu (x) y = If (c) <{branches}> z = Relu (y)"
    found = memory.measure(infer(_text(f"g (float[1,8] x, bool c) => (float z) {{ {nodes} }}")))
    assert found.activation_bytes == 32 + 1 + 32 + 64 + 64 + 32
    assert (found.peak_activation_bytes, found.peak_node) == (129, "If_1.then_branch/Concat_1")


def test_a_loop_holds_one_turn() -> None:
    """x, k, w, n, y 32 B, on 1. In the Exp: x, on, k, w = 97; n is the w of the last turn."""
    turn = "turn (int64 i, bool go, float[1,8] v) => (on, w) { on = Identity (go) k = Neg (v) w = Exp (k) }"
    given = "<bool always = {1}, int64 three = {3}>"
    nodes = f"n = Loop (three, always, x) <body = {turn}> y = Relu (n)"
    found = memory.measure(infer(_text(f"g (float[1,8] x) => (float y) {given} {{ {nodes} }}")))
    assert found.activation_bytes == 32 + 1 + 32 + 32 + 32
    assert (found.peak_activation_bytes, found.peak_node) == (97, "Loop_0.body/Exp_2")


def test_an_if_with_a_constant_condition_counts_what_it_captures() -> None:
    """1x1 conv 3 -> 4 on 16x16: 4*256*3; then 4 -> 5: 5*256*4."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [node(f"{name} = Conv(x, {weight})")], name, [], [helper.make_empty_tensor_value_info(name)]
        )
        for name, weight in (("then", "w"), ("else", "w"))
    }
    weights = {"w": (4, 3, 1, 1), "v": (5, 4, 1, 1), "c": np.array(True)}
    model = net([node("a = If(c)", **branches), "y = Conv(a, v)"], x="1,3,16,16", **weights)
    assert cost.count(infer(model)).total == 4 * 256 * 3 + 5 * 256 * 4
