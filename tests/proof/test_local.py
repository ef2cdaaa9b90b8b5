import json

import numpy as np
import onnx
import proof_kit as kit
import pytest
from onnx import helper, numpy_helper

from onnxscope.analysis.shapes import infer
from onnxscope.errors import FileError, UsageError
from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.proof import extract, limits, links, local, recompute, tails
from onnxscope.proof.links import HeadLink
from onnxscope.proof.windows import row_blocks, rows, windows
from onnxscope.rewrite.plan import PROVENANCE


def node(op, **attributes):
    text = helper.make_node(op, ["x"], ["y"], **attributes)
    graph = helper.make_graph(
        [text], "g", [helper.make_tensor_value_info("x", 1, [1])], [onnx.ValueInfoProto(name="y")]
    )
    return loads(helper.make_model(graph).SerializeToString()).graph.nodes[0]


Z = np.array([[-3.0, -0.5, 0.0, 0.25, 2.0]])
ROW = np.array([1.0, 2.0, 0.5, 4.0, 1.0])


@pytest.mark.parametrize(
    ("op", "attributes", "constants", "expected"),
    [
        ("Relu", {}, [], [0, 0, 0, 0.25, 2]),
        ("LeakyRelu", {"alpha": 0.5}, [], [-1.5, -0.25, 0, 0.25, 2]),
        ("PRelu", {}, [np.full(5, 0.25)], [-0.75, -0.125, 0, 0.25, 2]),
        ("Clip", {}, [np.array(-1.0), np.array(1.0)], [-1, -0.5, 0, 0.25, 1]),
        ("Clip", {"min": 0.0, "max": 1.0}, [], [0, 0, 0, 0.25, 1]),
        ("Clip", {}, [np.zeros(0), np.array(1.0)], [-3, -0.5, 0, 0.25, 1]),
        ("HardSigmoid", {}, [], [0, 0.4, 0.5, 0.55, 0.9]),
        ("Tanh", {}, [], np.tanh(Z[0])),
        ("Add", {}, [ROW], [-2, 1.5, 0.5, 4.25, 3]),
        ("Sub", {}, [ROW], [-4, -2.5, -0.5, -3.75, 1]),
        ("Mul", {}, [ROW], [-3, -1, 0, 1, 2]),
        ("Div", {}, [ROW], [-3, -0.25, 0, 0.0625, 2]),
        ("Softplus", {}, [], np.log1p(np.exp(Z[0]))),
        ("Softmax", {}, [], np.exp(Z[0]) / np.exp(Z[0]).sum()),
        ("LogSoftmax", {}, [], Z[0] - np.log(np.exp(Z[0]).sum())),
        ("BatchNormalization", {"epsilon": 0.0}, [ROW, ROW, ROW, ROW**2], Z[0]),  # (z - m) m/m + m
    ],
)
def test_tail_ops_by_hand(op, attributes, constants, expected):
    found, limit = tails.evaluate(node(op, **attributes), [Z, *constants], limits.FLOAT32)
    assert np.allclose(found[0], expected, rtol=1e-6, atol=1e-12)
    assert limit.shape == found.shape
    assert (limit >= 0).all()
    assert (limit < 1e-4).all()


def test_an_op_without_a_rule_is_none():
    assert tails.evaluate(node("Sin"), [Z], limits.FLOAT32) is None


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Softmax", "LogSoftmax", "Tanh"])
def test_float16_allows_a_rounded_input_and_result(op):
    exact, limit = tails.evaluate(node(op), [Z], limits.FLOAT16)
    rounded = tails.evaluate(node(op), [Z.astype(np.float16).astype(np.float64)], limits.FLOAT32)[0]
    assert limits.compare(rounded.astype(np.float16), exact, limit).ok


def test_windows_are_rows_in_the_order_of_the_weight():
    value = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    view = windows(value, (2, 3))
    assert view.shape == (2, 3, 3, 3, 2, 3)
    ((first, block),) = row_blocks(view, (1, 2, 3))
    assert (first, block.shape) == (0, (18, 18))
    assert np.array_equal(block[4], value[0, :, 1:3, 1:4].ravel())
    ((_, block),) = row_blocks(view, (2, 3, 1))
    assert np.array_equal(block[4], value[0, :, 1:3, 1:4].transpose(1, 2, 0).ravel())
    spread = windows(value, (2, 2), (1, 3))
    assert np.array_equal(spread[1, 0, 1], value[1][:, 0:2, 1:5:3])


def test_rows_take_the_class_axis_last():
    value = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    assert np.array_equal(rows(value)[5], value[1, :, 0, 1])
    assert np.array_equal(rows(value[:, :, 0, 0]), value[:, :, 0, 0])


@pytest.mark.parametrize(("kind", "function"), [("average", np.mean), ("max", np.max), ("sum", np.sum)])
def test_pools_of_a_window(kind, function):
    value = np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32)
    right = function(np.lib.stride_tricks.sliding_window_view(value, (3, 3), axis=(2, 3)), axis=(4, 5))
    head = HeadLink("map", 3, (3, 3), kind, (3, 3), ())
    assert recompute.pool(head, [(value, right)], limits.FLOAT32).ok
    assert not recompute.pool(head, [(value, right * 1.0001)], limits.FLOAT32).ok
    assert not recompute.pool(head, [(value, right[:, :, 1:])], limits.FLOAT32).ok
    whole = HeadLink("map", 3, (5, 6), kind, None, ())
    assert recompute.pool(whole, [(value, function(value, axis=(2, 3), keepdims=True))], limits.FLOAT32).ok


def test_a_constant_map_rounds_one_way_and_keeps_the_limit():
    value = np.full((1, 1, 120, 120), 0.1, np.float32)
    computed = np.add.accumulate(value.ravel(), dtype=np.float32)[-1:] / np.float32(value.size)
    head = HeadLink("map", 1, (120, 120), "average", None, ())
    assert abs(float(computed[0]) - float(value[0, 0, 0, 0])) > 1e-5
    assert recompute.pool(head, [(value, computed.reshape(1, 1, 1, 1))], limits.FLOAT32).ok


def test_blocks_of_a_wide_layer_agree_with_one_block(monkeypatch):
    spec = kit.head("wide", 16, (5, 5), "HWC", (37,))
    candidate, runner = kit.candidate(spec), kit.Runner()
    given = kit.inputs(spec, "signed", 3, window=(6, 7))
    trial = {"map": given, **runner.run(dumps(candidate), {"map": given}, ["t0"])}
    original = kit.original(spec)
    steps = local.plan(infer(original), candidate, links.read(candidate))
    whole = local.check(original, steps, [trial], runner).comparison
    monkeypatch.setattr("onnxscope.proof.layers._BLOCK", 2000)
    monkeypatch.setattr("onnxscope.proof.windows._BLOCK", 2000)
    parts = local.check(original, steps, [trial], runner).comparison
    assert parts.values == whole.values == 3 * 37 * 2 * 3
    assert parts.ratio == pytest.approx(whole.ratio, rel=1e-6)


def test_the_text_names_every_number():
    spec = kit.head("small", 4, (3, 3), "CHW", (6, "relu", 2))
    candidate, runner, original = kit.candidate(spec), kit.Runner(), kit.original(spec)
    given = kit.inputs(spec, "signed", 5)
    trial = {"map": given, **runner.run(dumps(candidate), {"map": given}, ["t0", "t1", "t2"])}
    steps = local.plan(infer(original), candidate, links.read(candidate))
    text = local.check(original, steps, [trial], runner).limit_from
    for part in ("lambda = 6.12", "u = 2^-24", "K <= 36", "N = 70", "delta = 1e-06"):
        assert part in text


def test_a_layer_of_another_shape_fails_and_is_named():
    spec = kit.head("small", 4, (3, 3), "CHW", (6,))
    candidate, runner, original = kit.candidate(spec), kit.Runner(), kit.original(spec)
    given = kit.inputs(spec, "signed", 5)
    trial = {"map": given, "t0": np.zeros((5, 7, 1, 1), np.float32)}
    steps = local.plan(infer(original), candidate, links.read(candidate))
    found = local.check(original, steps, [trial], runner)
    assert (found.ok, found.first_divergence, found.layers[0].max_abs) == (False, "t0", np.inf)


def test_a_broken_entry_is_a_file_error():
    spec = kit.head("small", 4, (3, 3), "CHW", (6,))
    proto = onnx.load_from_string(dumps(kit.candidate(spec, note=False)))
    assert links.read(loads(proto.SerializeToString())) == ()
    for text in ("{", json.dumps({"heads": [{"feature_map": "map"}]}), json.dumps({"heads": [3]})):
        del proto.metadata_props[:]
        proto.metadata_props.add(key=PROVENANCE, value=text)
        with pytest.raises(FileError, match=PROVENANCE):
            links.read(loads(proto.SerializeToString()))


def graph_with_constants():
    stored = [
        numpy_helper.from_array(np.array([[1, 2], [3, 4]], np.float32), "a"),
        numpy_helper.from_array(np.array([5, 6], np.float32), "b"),
    ]
    nodes = [
        helper.make_node("Transpose", ["a"], ["at"]),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array([7.0], np.float32))),
        helper.make_node("MatMul", ["x", "at"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    values = [helper.make_tensor_value_info(name, 1, ["N", 2]) for name in "xz"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    return loads(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
        ).SerializeToString()
    )


def test_constants_are_read_or_computed():
    model, runner = graph_with_constants(), kit.Runner()
    assert np.array_equal(extract.constant(model, "b", runner), [5, 6])
    assert np.array_equal(extract.constant(model, "c", runner), [7])
    assert np.array_equal(extract.constant(model, "at", runner), [[1, 3], [2, 4]])
    with pytest.raises(UsageError, match="m is no constant"):
        extract.constant(model, "m", runner)


def test_a_cut_keeps_what_its_outputs_need():
    part = extract.cut(graph_with_constants(), {"m": 1}, ["z", "y"])
    assert [each.op for each in part.graph.nodes] == ["Add", "Relu"]
    assert [tensor.name for tensor in part.graph.tensors] == ["b"]
    found = kit.Runner().run(dumps(part), {"m": np.array([[-9, 1]], np.float32)})
    assert np.array_equal(found["z"], [[0, 7]])
    with pytest.raises(UsageError, match="no such value: q"):
        extract.cut(graph_with_constants(), {}, ["q"])


def test_large_parts_are_given_as_files(tmp_path, monkeypatch):
    monkeypatch.setattr(extract, "INLINE_LIMIT", 8)
    path = extract.runnable(graph_with_constants(), str(tmp_path))
    found = kit.Runner().run(path, {"x": np.array([[1, 1]], np.float32)})
    assert np.array_equal(found["z"], [[8, 13]])
