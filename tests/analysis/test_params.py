"""Parameter counts: every number here is worked by hand in the row that expects it."""

from __future__ import annotations

import numpy as np
import pytest
from nets import net, node
from onnx import TensorProto, helper, numpy_helper

from onnxscope.analysis import params
from onnxscope.analysis.params import Params
from onnxscope.analysis.shapes import infer
from onnxscope.files.read import loads
from onnxscope.graph import Model


def count(model: Model) -> Params:
    return params.count(infer(model))


def layer(model: Model, index: int = 0) -> params.LayerParams:
    return count(model).layers["", index]


@pytest.mark.parametrize(
    ("line", "values", "formula"),
    [
        ("y = Conv(x, w, b)", {"x": "1,1,28,28", "w": (32, 1, 5, 5), "b": (32,)}, "(5*5*1 + 1)*32 = 832"),
        ("y = Conv(x, w)", {"x": "1,1,28,28", "w": (32, 1, 5, 5)}, "5*5*1*32 = 800"),
        (
            "y = Conv(x, w, b) group=8",
            {"x": "1,8,9,9", "w": (16, 1, 3, 3), "b": (16,)},
            "(3*3*1 + 1)*16 = 160",
        ),
        ("y = Conv(x, w, b)", {"x": "1,3,50", "w": (4, 3, 7), "b": (4,)}, "(7*3 + 1)*4 = 88"),
        ("y = Conv(x, w, b)", {"x": "1,2,9,9,9", "w": (4, 2, 3, 3, 3), "b": (4,)}, "(3*3*3*2 + 1)*4 = 220"),
        ("y = ConvTranspose(x, w)", {"x": "1,8,9,9", "w": (8, 4, 2, 2)}, "2*2*8*4 = 128"),
        (
            "y = Gemm(x, w, b) transB=1",
            {"x": "1,800", "w": (256, 800), "b": (256,)},
            "(800 + 1)*256 = 205056",
        ),
        ("y = Gemm(x, w, b)", {"x": "1,800", "w": (800, 256), "b": (256,)}, "(800 + 1)*256 = 205056"),
        ("y = Gemm(x, w, b)", {"x": "1,8", "w": (8, 4), "b": (1,)}, "8*4 + 1 = 33"),
        ("y = MatMul(x, w)", {"x": "N,5,8", "w": (8, 4)}, "8*4 = 32"),
        ("y = LayerNormalization(x, w, b)", {"x": "N,5,8", "w": (8,), "b": (8,)}, "2*8 = 16"),
        ("y = Mul(x, w)", {"x": "N,8,4,4", "w": (8, 1, 1)}, "8*1*1 = 8"),
        ("y = PRelu(x, w)", {"x": "N,8", "w": (1,)}, "1"),
        (
            "y = LSTM(x, w, r, b) hidden_size=4",
            {"x": "5,1,3", "w": (1, 16, 3), "r": (1, 16, 4), "b": (1, 32)},
            "1*16*3 + 1*16*4 + 1*32 = 144",
        ),
    ],
)
def test_formulas(line: str, values: dict[str, object], formula: str) -> None:
    assert layer(net([line], **values)).formula == formula


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("y = Mul(x, w)", {"x": "N,8", "w": np.float32(0.5)}),  # a scalar is a setting
        ("y = Reshape(x, w)", {"x": "N,8", "w": np.array([-1, 4])}),  # shapes aren't parameters
        ("y = Clip(x, lo, hi)", {"x": "N,8", "lo": np.float32(0), "hi": np.float32(6)}),
        ("y = Resize(x, , w)", {"x": "N,8,4,4", "w": np.array([1, 1, 2, 2], np.float32)}),
        ("y = Pad(x, w)", {"x": "N,8", "w": np.array([0, 1, 0, 1])}),
        ("y = Add(x, w)", {"x": "i64:N,8", "w": np.arange(8)}),  # integers aren't learned
        ("y = QuantizeLinear(x, s, z)", {"x": "N,8", "s": (8,), "z": np.zeros(8, np.int8)}),
    ],
)
def test_settings_are_no_parameters(line: str, values: dict[str, object]) -> None:
    found = count(net([line], **values))
    assert (found.total, found.layers) == (0, {})


def test_running_statistics_are_buffers() -> None:
    model = net(["y = BatchNormalization(x, s, b, m, v)"], x="N,8,4,4", s=(8,), b=(8,), m=(8,), v=(8,))
    found = count(model)
    assert (found.total, found.trainable, found.buffers) == (16, 16, 16)
    assert found.layers["", 0].statistics == 16
    assert found.weight_bytes == 32 * 4


def test_a_shared_weight_is_stored_once_and_used_twice() -> None:
    found = count(net(["a = MatMul(x, w)", "y = MatMul(a, w)"], x="N,8", w=(8, 8)))
    assert (found.total, found.trainable) == (64, 128)
    assert found.layers["", 0].shared_with == ("y",)
    assert found.layers["", 1].shared_with == ("a",)
    assert "the file stores 64" in found.notes[0]


@pytest.mark.parametrize(
    "chain",
    [
        ["t = Transpose(w)"],
        ["t = Identity(w)"],
        ["t = Cast(w) to=1"],
        ["a = Identity(w)", "t = Transpose(a)"],
        ["t = DequantizeLinear(w8, s, z)"],
        ["a = Unsqueeze(w, ax)", "t = Squeeze(a, ax)"],
    ],
    ids=lambda lines: " ".join(lines),
)
def test_a_weight_behind_constant_nodes_belongs_to_its_user(chain: list[str]) -> None:
    model = net(
        [*chain, "y = MatMul(x, t)"],
        x="N,6",
        w=(6, 6),
        w8=np.zeros((6, 6), np.int8),
        s=np.float32(0.1),
        z=np.int8(0),
        ax=np.array([0]),
    )
    found = count(model)
    assert [(key[1], used.total) for key, used in found.layers.items()] == [(len(chain), 36)]


def test_weights_in_constant_nodes() -> None:
    stored = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32))
    model = net([helper.make_node("Constant", [], ["w"], value=stored), "y = Conv(x, w)"], x="1,3,8,8")
    assert count(model).total == 4 * 3 * 3 * 3


def test_generated_weights_are_counted_and_said() -> None:
    fill = helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5])
    made = helper.make_node("ConstantOfShape", ["s"], ["w"], value=fill)
    found = count(net([made, "y = Conv(x, w)"], x="1,3,8,8", s=np.array([4, 3, 3, 3])))
    assert (found.total, found.weight_bytes) == (108, 0)
    assert found.notes == ("108 of 108 parameters are generated by ConstantOfShape, not stored in the file",)


def test_an_add_behind_a_product_is_its_bias() -> None:
    found = count(net(["a = MatMul(x, w)", "y = Add(b, a)"], x="N,8", w=(8, 4), b=(4,)))
    assert found.layers["", 0].formula == "(8 + 1)*4 = 36"
    assert list(found.layers) == [("", 0)]


def test_an_add_is_no_bias_where_the_product_has_other_readers() -> None:
    found = count(net(["a = MatMul(x, w)", "y = Add(b, a)", "z = Relu(a)"], x="N,8", w=(8, 4), b=(4,)))
    assert [used.total for used in found.layers.values()] == [32, 4]


def test_an_add_of_a_map_is_no_bias() -> None:
    found = count(net(["a = MatMul(x, w)", "y = Add(a, p)"], x="N,5,8", w=(8, 4), p=(5, 4)))
    assert [used.total for used in found.layers.values()] == [32, 20]


def test_quantized_weights_count_and_scales_do_not() -> None:
    model = net(
        ["y = QLinearConv(x, s, z, w, s, z, s, z, b)"],
        x="1,3,8,8",
        s=np.float32(0.1),
        z=np.uint8(0),
        w=np.zeros((4, 3, 3, 3), np.uint8),
        b=np.zeros(4, np.int32),
    )
    found = count(model)
    assert (found.total, found.bytes_by_dtype) == (112, {"int32": 16, "uint8": 108})


@pytest.mark.parametrize(
    ("dtype", "name", "nbytes"),
    [  # 15 numbers: two or four in a byte, rounded up
        (TensorProto.INT4, "int4", 8),
        (TensorProto.UINT4, "uint4", 8),
        (TensorProto.FLOAT4E2M1, "float4_e2m1fn", 8),
        (TensorProto.INT2, "int2", 4),
        (TensorProto.UINT2, "uint2", 4),
        (TensorProto.FLOAT8E4M3FN, "float8_e4m3fn", 15),
        (TensorProto.FLOAT8E8M0, "float8_e8m0fnu", 15),
    ],
)
def test_sub_byte_weights_are_packed(dtype: int, name: str, nbytes: int) -> None:
    weight = TensorProto(name="w", data_type=dtype, dims=[5, 3], raw_data=b"\0" * nbytes)
    scale = numpy_helper.from_array(np.float32(1), "s")
    graph = [node("d = DequantizeLinear(w, s)"), node("y = MatMul(x, d)")]
    proto = helper.make_model(
        helper.make_graph(
            graph,
            "g",
            [helper.make_tensor_value_info("x", 1, ["N", 5])],
            [helper.make_empty_tensor_value_info("y")],
            [weight, scale],
        ),
        opset_imports=[helper.make_opsetid("", 25)],
    )
    found = count(loads(proto.SerializeToString()))
    assert (found.total, found.bytes_by_dtype) == (15, {name: nbytes})


def test_columns_add_up() -> None:
    model = net(
        ["a = Conv(x, w, b)", "n = BatchNormalization(a, s, s, m, m)", "f = Flatten(n)", "y = Gemm(f, g)"],
        x="1,3,6,6",
        w=(8, 3, 3, 3),
        b=(8,),
        s=(8,),
        m=(8,),
        g=(128, 10),
    )
    found = count(model)
    assert found.by_kind == {"conv": 224, "fc": 1280, "norm": 8}
    assert found.trainable == sum(used.total for used in found.layers.values()) == sum(found.by_kind.values())


def _listed(lines: list[str], ir: int, **stored: tuple[int, ...]) -> Model:
    """A model on x [1, 3, 4, 4] whose initializers are inputs too."""
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])]
    infos += [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in stored.items()]
    tensors = [numpy_helper.from_array(np.zeros(dims, np.float32), name) for name, dims in stored.items()]
    nodes = [node(line) for line in lines]
    ends = [helper.make_empty_tensor_value_info(nodes[-1].output[0])]
    graph = helper.make_graph(nodes, "g", infos, ends, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir)
    return loads(proto.SerializeToString())


@pytest.mark.parametrize("ir", [3, 4, 8])
def test_initializers_that_are_inputs_too_are_parameters(ir: int) -> None:
    """Conv (1*1*3 + 1)*8, BatchNorm 2*8 and 2*8 statistics, MatMul 4*5 behind a Transpose."""
    lines = ["a = Conv(x, w, b)", "n = BatchNormalization(a, s, o, m, v)"]
    lines += ["t = Transpose(f)", "y = MatMul(n, t)"]
    stored = {"w": (8, 3, 1, 1), "b": (8,), "f": (5, 4), **{name: (8,) for name in "somv"}}
    counted = count(_listed(lines, ir, **stored))
    assert {layer.formula for layer in counted.layers.values()} == {
        "(1*1*3 + 1)*8 = 32",
        "2*8 = 16",
        "5*4 = 20",
    }
    assert (counted.total, counted.trainable, counted.buffers) == (68, 68, 16)


def test_a_sparse_initializer_counts_the_numbers_that_it_stores() -> None:
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    sparse = helper.make_sparse_tensor(
        values, helper.make_tensor("i", TensorProto.INT64, [2], [0, 5]), [4, 3]
    )
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 4), ("y", 3))]
    graph = helper.make_graph(
        [node("y = MatMul(x, w)")], "g", infos[:1], infos[1:], sparse_initializer=[sparse]
    )
    model = loads(helper.make_model(graph, ir_version=8).SerializeToString())
    assert (count(model).total, layer(model).formula) == (2, "2")
