"""A quantization in front of a head whose scale is another one: a change too small for outputs to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxscope


def saved(
    folder: Path, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], channels: int = 3
) -> Path:
    """A net from images [1, C, 6, 6] to classes."""
    images = helper.make_tensor_value_info("x", 1, [1, channels, 6, 6])
    classes = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph(nodes, "net", [images], [classes], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = folder / "original.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """x > quantize > dequantize > global pool > flatten > Gemm."""
    draw = np.random.default_rng(3)
    tensors = [
        numpy_helper.from_array(np.float32(0.05), "s"),
        numpy_helper.from_array(np.uint8(128), "z"),
        numpy_helper.from_array(draw.standard_normal((4, 3)).astype(np.float32), "w"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="dequantize"),
        helper.make_node("GlobalAveragePool", ["d"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w"], ["y"], name="fc", transB=1),
    ]
    return saved(tmp_path, nodes, tensors)


@pytest.mark.parametrize("factor", [1.0, 1.0005])
@pytest.mark.parametrize("node", ["quantize", "dequantize"])
def test_another_scale_is_a_changed_weight(original: Path, tmp_path: Path, node: str, factor: float) -> None:
    converted = tmp_path / "converted.onnx"
    onnxscope.convert(original, converted, verify=False)
    model = onnx.load(converted)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.05 * factor), "s2"))
    (found,) = [each for each in model.graph.node if each.name == node]
    found.input[1] = "s2"
    onnx.save(model, converted)
    proof = onnxscope.verify(original, converted).document
    if factor == 1.0:  # the same number under another name
        assert proof["equivalent"], proof
    else:
        assert (proof["equivalent"], proof["reason"]) == (False, "weights")
        assert "weights changed: s" in proof["notes"]


def test_a_pool_of_integers_in_front_of_a_denser_map_is_no_mean_of_floats(tmp_path: Path) -> None:
    """QLinearGlobalAveragePool rounds its mean to a scale of its own; the whole head is compared in steps."""
    draw = np.random.default_rng(5)
    tensors = [
        numpy_helper.from_array(np.float32(0.05), "s"),
        numpy_helper.from_array(np.uint8(128), "z"),
        numpy_helper.from_array(draw.integers(0, 255, (3, 4)).astype(np.uint8), "w"),
    ]
    microsoft = {"domain": "com.microsoft"}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node(
            "QLinearGlobalAveragePool", ["q", "s", "z", "s", "z"], ["p"], name="pool", **microsoft
        ),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("QLinearMatMul", ["f", "s", "z", "w", "s", "z", "s", "z"], ["m"], name="fc"),
        helper.make_node("DequantizeLinear", ["m", "s", "z"], ["y"], name="dequantize"),
    ]
    original = saved(tmp_path, nodes, tensors)
    assert onnxscope.convert(original, tmp_path / "converted.onnx", stride=1).proof


def pooled_integers(folder: Path, seed: int, *, matrix: bool) -> Path:
    """x > quantize > QLinearGlobalAveragePool to half of the scale > flatten > layer > dequantize."""
    draw = np.random.default_rng(seed)
    scales = {"s": 0.04, "ps": 0.02, "ws": 0.01, "os": 0.06}
    zeros = {"z": 120, "pz": 100, "wz": 128, "oz": 128}
    tensors = [
        *(numpy_helper.from_array(np.float32(value), name) for name, value in scales.items()),
        *(numpy_helper.from_array(np.uint8(value), name) for name, value in zeros.items()),
        numpy_helper.from_array(draw.integers(0, 255, (150, 60)).astype(np.uint8), "w"),
        numpy_helper.from_array(draw.integers(-900, 900, 60).astype(np.int32), "b"),
    ]
    microsoft = {"domain": "com.microsoft"}
    bias = [] if matrix else ["b"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node(
            "QLinearGlobalAveragePool", ["q", "s", "z", "ps", "pz"], ["p"], name="pool", **microsoft
        ),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node(
            "QLinearMatMul" if matrix else "QGemm",
            ["f", "ps", "pz", "w", "ws", "wz", *bias, "os", "oz"],
            ["m"],
            name="fc",
            **({} if matrix else microsoft),
        ),
        helper.make_node("DequantizeLinear", ["m", "os", "oz"], ["y"], name="dequantize"),
    ]
    return saved(folder, nodes, tensors, 150)


@pytest.mark.parametrize("matrix", [False, True], ids=["QGemm", "QLinearMatMul"])
def test_ties_of_a_pool_of_integers_are_no_false_alarm(tmp_path: Path, matrix: bool) -> None:
    """A mean of 36 integers times 2 is half a step in one of 18 windows; two kernels round it two ways."""
    original, converted = pooled_integers(tmp_path, 5, matrix=matrix), tmp_path / "converted.onnx"
    onnxscope.convert(original, converted, verify=False)
    excused = 0
    for seed in range(12):
        proof = onnxscope.verify(original, converted, trials=1, seed=seed).document
        assert proof["equivalent"], proof
        excused += any("near a tie" in note for note in proof["notes"])
    assert excused  # without the pieces these seeds fail


def test_a_wrong_pool_of_integers_is_not_excused(tmp_path: Path) -> None:
    """With the zero point of its input for that of its output."""
    original, converted = pooled_integers(tmp_path, 5, matrix=False), tmp_path / "converted.onnx"
    onnxscope.convert(original, converted, verify=False)
    model = onnx.load(converted)
    (pool,) = [node for node in model.graph.node if node.op_type == "QLinearAveragePool"]
    pool.input[4] = "z"
    onnx.save(model, converted)
    proof = onnxscope.verify(original, converted, trials=1).document
    assert (proof["equivalent"], proof["reason"]) == (False, "outputs")
    assert not any("near a tie" in note for note in proof["notes"])


def test_a_stride_of_a_pool_of_integers_is_named(tmp_path: Path) -> None:
    """At the native size it changes nothing; on a larger map the pool is the first value that differs."""
    original, converted = pooled_integers(tmp_path, 5, matrix=False), tmp_path / "converted.onnx"
    onnxscope.convert(original, converted, verify=False)
    model = onnx.load(converted)
    (pool,) = [node for node in model.graph.node if node.op_type == "QLinearAveragePool"]
    (strides,) = [attribute for attribute in pool.attribute if attribute.name == "strides"]
    strides.ints[:] = [2, 2]
    onnx.save(model, converted)
    proof = onnxscope.verify(original, converted, trials=1).document
    assert (proof["equivalent"], proof["reason"]) == (False, "layers")
    assert [run["first_divergence"] for run in proof["runs"]] == ["p"]
