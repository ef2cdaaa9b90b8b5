"""Constants that a graph computes: the same bits in both files, wherever their numbers lie in them.

onnxruntime's sums (Eigen's) group their terms by the address of the first one. A file puts a weight at any
address, and a conversion at another one: mapped there, the same ReduceSum gives other bits.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from proof_kit import Runner

import onnxscope
from onnxscope.files.read import load
from onnxscope.proof.extract import constant

CHANNELS, SIDE, HIDDEN, CLASSES = 3, 8, 40, 30
INPUTS = CHANNELS * SIDE * SIDE


def _sum(op):
    """The last axis of 67 numbers summed: rows that begin at every place of a vector register."""
    return lambda shape: ([(*shape, 67)], [(op, ["p", "last"], {"keepdims": 0})])


KINDS = {
    "ReduceSum": _sum("ReduceSum"),
    "ReduceMean": _sum("ReduceMean"),
    "ReduceSum behind a view": lambda shape: (
        [(67 * shape[0], *shape[1:])] if len(shape) == 1 else [(shape[0], shape[1] * 67)],
        [("Reshape", ["p", "split"], {}), ("ReduceSum", ["", "last"], {"keepdims": 0})],
    ),
    "Mul": lambda shape: ([shape, shape], [("Mul", ["p", "q"], {})]),
    "Softmax": lambda shape: ([shape], [("Softmax", ["p"], {"axis": -1})]),
    "MatMul": lambda shape: (
        [(*shape[:-1], 33), (33, shape[-1])] if len(shape) > 1 else [(33,), (33, shape[0])],
        [("MatMul", ["p", "q"], {})],
    ),
    "Cast": lambda shape: ([shape], [("Cast", ["p"], {"to": TensorProto.FLOAT})]),
}
"""Kind -> its stored tensors p, q and its nodes, for a constant of some shape; "" is the node before."""


def _made(kind, name, shape, dtype):
    """Nodes that compute the constant, and their tensors."""
    rng = np.random.default_rng(7)
    sizes, steps = KINDS[kind](shape)
    stored = [rng.standard_normal(size).astype(dtype) for size in sizes]
    tensors = [numpy_helper.from_array(array, f"{name}_{p}") for p, array in zip("pq", stored, strict=False)]
    tensors.append(numpy_helper.from_array(np.array([-1]), f"{name}_last"))
    tensors.append(numpy_helper.from_array(np.array([*shape, 67]), f"{name}_split"))
    nodes, before = [], ""
    for place, (op, inputs, attributes) in enumerate(steps):
        after = name if place == len(steps) - 1 else f"{name}_{place}"
        given = [before if not item else f"{name}_{item}" for item in inputs]
        nodes.append(helper.make_node(op, given, [after], **attributes))
        before = after
    used = {item for node in nodes for item in node.input}
    return nodes, [tensor for tensor in tensors if tensor.name in used]


def _net(kind, where, shift):
    """x -> Gemm -> Relu -> Gemm; the constant is the first one's weight, its bias, or multiplied behind it.

    `shift` moves every number of the file by so many bytes.
    """
    rng = np.random.default_rng(3)

    def weight(*shape):
        return (rng.standard_normal(shape) / 10).astype(np.float32)

    dtype = np.float16 if kind == "Cast" else np.float32
    shape = (INPUTS, HIDDEN) if where == "weight" else (HIDDEN,)
    nodes, tensors = _made(kind, "c", shape, dtype)
    if where != "weight":
        tensors.append(numpy_helper.from_array(weight(INPUTS, HIDDEN), "w1"))
    first = {"weight": ["f", "c"], "bias": ["f", "w1", "c"], "behind": ["f", "w1"]}[where]
    behind = "Mul" if where == "behind" else "Identity"
    tensors.append(numpy_helper.from_array(weight(HIDDEN, CLASSES), "w2"))
    nodes += [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", first, ["a"]),
        helper.make_node(behind, ["a", "c"] if where == "behind" else ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["h"]),
        helper.make_node("Gemm", ["h", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "computed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        tensors,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="-" * shift
    )


@pytest.mark.parametrize("where", ["weight", "bias", "behind"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_computed_constant_keeps_its_bits(kind, where, tmp_path):
    onnx.save(_net(kind, where, 1), tmp_path / "m.onnx")
    proof = onnxscope.convert(tmp_path / "m.onnx", tmp_path / "c.onnx").proof
    assert proof.equivalent
    assert proof.document["weights"]["changed"] == 0


def test_a_weight_that_a_sum_reads_may_lie_anywhere_in_an_external_file(tmp_path):
    """Writers put tensors one right behind the other: here the sum's begin at byte 1028."""
    model = _net("ReduceSum", "behind", 0)
    model.graph.initializer.insert(0, numpy_helper.from_array(np.ones(257, np.float32), "front"))
    model.graph.node.append(helper.make_node("Identity", ["front"], ["unread"]))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    stored = next(item for item in load(tmp_path / "m.onnx").graph.tensors if item.name == "c_p")
    assert dict(stored.external)["offset"] == "1028"
    assert onnxscope.convert(tmp_path / "m.onnx", tmp_path / "c.onnx").proof.equivalent


def test_the_constant_is_the_deployed_one(tmp_path):
    """Wherever its numbers lie, it is what onnxruntime makes of the whole file at its usual settings."""
    for shift in range(4):
        model = _net("ReduceSum", "behind", shift)
        model.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [HIDDEN]))
        onnx.save(model, tmp_path / "m.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
        x = np.zeros((1, CHANNELS, SIDE, SIDE), np.float32)
        deployed = session.run(["c"], {"x": x})[0]
        assert np.array_equal(constant(load(tmp_path / "m.onnx"), "c", Runner()), deployed)


@pytest.mark.parametrize("where", ["weight", "bias", "behind"])
@pytest.mark.parametrize("kind", ["ReduceSum", "MatMul", "Softmax", "Cast"])
def test_one_computed_number_off_fails(kind, where, tmp_path):
    onnx.save(_net(kind, where, 1), tmp_path / "m.onnx")
    onnxscope.convert(tmp_path / "m.onnx", tmp_path / "c.onnx")
    model = onnx.load(tmp_path / "c.onnx")
    place, maker = next((i, node) for i, node in enumerate(model.graph.node) if "c" in node.output)
    maker.output[0] = "right"
    shift = np.zeros((INPUTS, HIDDEN) if where == "weight" else HIDDEN, np.float32)
    shift.flat[5] = 1e-5
    model.graph.initializer.append(numpy_helper.from_array(shift, "shift"))
    model.graph.node.insert(place + 1, helper.make_node("Add", ["right", "shift"], ["c"]))
    onnx.save(model, tmp_path / "c.onnx")
    assert not onnxscope.verify(tmp_path / "m.onnx", tmp_path / "c.onnx", trials=1)


def test_one_summed_number_off_fails(tmp_path):
    onnx.save(_net("ReduceSum", "weight", 1), tmp_path / "m.onnx")
    onnxscope.convert(tmp_path / "m.onnx", tmp_path / "c.onnx")
    model = onnx.load(tmp_path / "c.onnx")
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == "c_p")
    numbers = numpy_helper.to_array(stored).copy()
    numbers[5, 5, 5] += 1e-4
    stored.CopyFrom(numpy_helper.from_array(numbers, "c_p"))
    onnx.save(model, tmp_path / "c.onnx")
    found = onnxscope.verify(tmp_path / "m.onnx", tmp_path / "c.onnx", trials=1)
    assert not found
    assert found.document["reason"] == "weights"
