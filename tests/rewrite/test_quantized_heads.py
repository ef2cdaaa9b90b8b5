"""Quantized heads: what stays integers, where scales go, equality with the original on every window."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conversions import converted
from quantized_nets import CELLS, F32, MAP, RNG, equal_on_windows, integers, quantized, scales

from onnxscope.files.write import dumps
from onnxscope.graph import Model
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options


def qdq(axis: int | None, turned: bool) -> tuple[list[str], dict[str, np.ndarray]]:
    """QDQ Gemm 60 -> 6 and its result quantized; scales per tensor, or along the features."""
    weight = integers(*((6, CELLS) if turned else (CELLS, 6)))
    per = f" axis={axis}" if axis is not None else ""
    lines = [
        "f = Flatten(x)",
        "q = QuantizeLinear(f, s, z)",
        "d = DequantizeLinear(q, s, z)",
        f"w = DequantizeLinear(wi, ws, wz){per}",
        f"a = Gemm(d, w, b) transB={int(turned)}",
        "r = Relu(a)",
        "e = QuantizeLinear(r, s, z)",
        "y = DequantizeLinear(e, s, z)",
    ]
    count = None if axis is None else 6
    values = {
        "wi": weight,
        "ws": scales(6) if count else np.array(0.01, F32),
        "wz": np.zeros(6, np.int8) if count else np.array(0, np.int8),
        "b": RNG.standard_normal(6).astype(F32),
    }
    return lines, values


CASES = [(None, True), (None, False), (0, True), (1, False)]


@pytest.mark.parametrize("form", ["conv", "fold", "rows"])
@pytest.mark.parametrize(("axis", "turned"), CASES)
def test_qdq_per_tensor_and_per_channel(form: str, axis: int | None, turned: bool) -> None:
    lines, values = qdq(axis, turned)
    model = quantized(lines, **values)
    _, candidate = converted(model, form=form)
    equal_on_windows(model, candidate, steps=0.041)  # a tie may round the other way: one step


@pytest.mark.parametrize(("axis", "turned"), CASES)
def test_the_weight_of_a_qdq_convolution_stays_integers(axis: int | None, turned: bool) -> None:
    lines, values = qdq(axis, turned)
    _, candidate = converted(quantized(lines, **values), form="conv")
    (conv,) = [node for node in candidate.graph.nodes if node.op == "Conv"]
    dequantize = candidate.graph.producers[conv.inputs[1]]
    assert dequantize.op == "DequantizeLinear"
    assert dequantize.attribute("axis") == (None if axis is None else 0)
    weight = candidate.graph.initializers[dequantize.inputs[0]]
    expected = values["wi"] if turned else values["wi"].T
    np.testing.assert_array_equal(weight.array(), expected.reshape(6, *MAP))
    assert candidate.graph.initializers[dequantize.inputs[1]].dims == values["ws"].shape


def test_scales_along_the_inputs_of_a_layer() -> None:
    """They belong to no axis of the kernel: the dequantized weight is reshaped."""
    lines, values = qdq(0, False)
    values |= {"ws": scales(CELLS), "wz": np.zeros(CELLS, np.int8)}
    model = quantized(lines, **values)
    _, candidate = converted(model, form="conv")
    equal_on_windows(model, candidate, steps=0.041)


def test_activations_quantized_per_channel() -> None:
    lines = ["q = QuantizeLinear(x, cs, cz) axis=1", "d = DequantizeLinear(q, cs, cz) axis=1",
             "f = Flatten(d)", "a = Gemm(f, w)", "e = QuantizeLinear(a, fs, fz) axis=1",
             "y = DequantizeLinear(e, fs, fz) axis=1"]  # fmt: skip
    model = quantized(
        lines, cs=scales(3), cz=np.full(3, 128, np.uint8), w=RNG.standard_normal((CELLS, 6)).astype(F32),
        fs=scales(6), fz=np.full(6, 120, np.uint8),
    )  # fmt: skip
    for form in ("conv", "rows"):
        _, candidate = converted(model, form=form)
        equal_on_windows(model, candidate, steps=0.021)


def q_gemm(*, output_scale: bool = True, alpha: float = 1.0, channels: bool = False) -> Model:
    fixed = "f, s, z, wi, ws, wz, b" + (", ys, z" if output_scale else "")
    lines = [
        "q = QuantizeLinear(x, s, z)",
        "f = Flatten(q)",
        f"g = com.microsoft:QGemm({fixed}) transB=1 alpha={alpha}",
        *(["y = DequantizeLinear(g, ys, z)"] if output_scale else ["y = Relu(g)"]),
    ]
    return quantized(
        lines,
        wi=integers(6, CELLS),
        ws=scales(6) if channels else np.array(0.01, F32),
        wz=np.zeros(6, np.int8) if channels else np.array(3, np.int8),
        b=RNG.integers(-2000, 2000, 6).astype(np.int32),
        ys=np.array(0.1, F32),
    )


@pytest.mark.parametrize("channels", [False, True])
def test_q_gemm_is_a_q_linear_convolution(channels: bool) -> None:
    model = q_gemm(channels=channels)
    _, candidate = converted(model, form="conv")
    (conv,) = [node for node in candidate.graph.nodes if node.op == "QLinearConv"]
    weight = candidate.graph.initializers[conv.inputs[3]]
    assert weight.dims == (6, *MAP)
    assert weight.storage is model.graph.initializers["wi"].storage
    equal_on_windows(model, candidate, steps=0.101)


@pytest.mark.parametrize("options", [{}, {"output_scale": False}, {"alpha": 0.5}])
def test_q_gemm_on_rows_is_bit_equal(options: dict) -> None:
    model = q_gemm(**options)
    made, candidate = converted(model, form="auto")
    assert made.conversions[0].form_reason == "a quantized head keeps its integer kernels"
    equal_on_windows(model, candidate)


@pytest.mark.parametrize(
    ("options", "reason"), [({"output_scale": False}, "gives floats"), ({"alpha": 0.5}, "transA or alpha")]
)
def test_what_no_q_linear_convolution_does_is_refused(options: dict, reason: str) -> None:
    made = plan(q_gemm(**options), Options(form="conv"))
    assert made.edit is None
    assert reason in made.refusals[0].reason


@pytest.mark.parametrize("form", ["conv", "rows"])
def test_a_quantized_global_pool_is_a_window(form: str) -> None:
    """QLinearAveragePool of the native size, with the scales of the global one."""
    lines = [
        "q = QuantizeLinear(x, s, z)",
        "p = com.microsoft:QLinearGlobalAveragePool(q, s, z, ps, pz)",
        "f = Flatten(p)",
        "g = com.microsoft:QGemm(f, ps, pz, wi, ws, wz, c, ys, z)",
        "y = DequantizeLinear(g, ys, z)",
    ]
    model = quantized(
        lines,
        ps=np.array(0.013, F32),
        pz=np.array(121, np.uint8),
        wi=integers(3, 6),
        ws=np.array(0.01, F32),
        wz=np.array(0, np.int8),
        c=RNG.integers(-2000, 2000, 6).astype(np.int32),
        ys=np.array(0.02, F32),
    )
    _, candidate = converted(model, form=form)
    (pool,) = [node for node in candidate.graph.nodes if "Pool" in node.op]
    assert (pool.op, pool.domain, pool.attribute("kernel_shape")) == (
        "QLinearAveragePool", "com.microsoft", (4, 5)
    )  # fmt: skip
    equal_on_windows(model, candidate)
    still = convert(plan(model, Options(form=form, output="vector")))
    assert "QLinearGlobalAveragePool" in {node.op for node in still.graph.nodes}


BIG_QDQ = {
    "wi": np.zeros((CELLS, 20_000), np.int8),
    "ws": np.array(0.01, F32),
    "wz": np.array(0, np.int8),
    "b": np.zeros(20_000, F32),
}


@pytest.mark.parametrize(
    ("x", "form", "reason"),
    [
        ("1,3,4,5", "conv", "the batch is 1"),
        ("4,3,4,5", "interleave", "the batch is 4"),
        ("N,3,4,5", "rows", "the batch is free, and the layer between"),
    ],
)
def test_auto_for_a_layer_on_rounded_floats(x: str, form: str, reason: str) -> None:
    made, _ = converted(quantized(qdq(None, False)[0], x=x, **BIG_QDQ), form="auto")
    (layer,) = made.conversions
    assert (layer.form, layer.form_reason.startswith(reason)) == (form, True)


@pytest.mark.parametrize(("zero", "cut"), [(np.uint8(117), "Reshape"), (np.int8(-3), "QuantizeLinear")])
def test_windows_are_cut_out_of_integers_where_the_layer_stays_one_on_integers(
    zero: np.generic, cut: str
) -> None:
    """onnxruntime has an integer layer for unsigned activations; signed ones it makes unsigned only where
    QuantizeLinear and DequantizeLinear stand together."""
    lines, values = qdq(None, False)
    lines = ["c = DequantizeLinear(bi, bs)", *(line.replace(", b)", ", c)") for line in lines)]
    lines = [line.replace("(r,", "(a,") for line in lines if "Relu" not in line]
    values |= {"bi": RNG.integers(-9, 9, 6).astype(np.int32), "bs": np.array(0.04 * 0.01, F32)}
    model = quantized(lines, **values, z=np.array(zero))
    _, candidate = converted(model, form="rows")
    gemm = next(node for node in candidate.graph.nodes if node.op == "Gemm")
    maker = candidate.graph.producers[gemm.inputs[0]]
    assert (maker.op, candidate.graph.producers[maker.inputs[0]].op) == ("DequantizeLinear", cut)
    assert optimized_ops(candidate) >= {"QGemm"}
    equal_on_windows(model, candidate, steps=0.041)


def optimized_ops(model: Model) -> set[str]:
    """Ops of a model as onnxruntime runs it."""
    with TemporaryDirectory() as folder:
        settings = ort.SessionOptions()
        settings.optimized_model_filepath = f"{folder}/optimized.onnx"
        settings.log_severity_level = 3  # a file of this machine: that's what is wanted here
        ort.InferenceSession(dumps(model), settings, providers=["CPUExecutionProvider"])
        return {node.op_type for node in onnx.load(settings.optimized_model_filepath).graph.node}


def test_small_layers_on_rounded_floats_are_plain_convolutions() -> None:
    lines, values = qdq(None, False)
    made, _ = converted(quantized(lines, **values), form="auto")
    assert [(c.form, "small" in c.form_reason) for c in made.conversions] == [("conv", True)]


def test_weights_alone_that_are_integers_stay_with_their_layer() -> None:
    """onnxruntime dequantizes them in every run: a Conv would get no constant weight."""
    lines = ["f = Flatten(x)", "w = DequantizeLinear(wi, ws, wz)", "a = Gemm(f, w, b)"]
    made, _ = converted(quantized(lines, **BIG_QDQ), form="auto")
    assert [c.form for c in made.conversions] == ["rows"]


def q_mat_mul(*, channels: bool = False, zeros: np.ndarray | None = None) -> Model:
    lines = ["q = QuantizeLinear(x, s, z)", "f = Flatten(q)", "m = QLinearMatMul(f, s, z, wi, ws, wz, ys, z)",
             "y = DequantizeLinear(m, ys, z)"]  # fmt: skip
    zero = np.zeros(6, np.int8) if channels else np.array(3, np.int8)
    return quantized(
        lines, wi=integers(CELLS, 6), ws=scales(6) if channels else np.array(0.01, F32),
        wz=zero if zeros is None else zeros, ys=np.array(0.1, F32),
    )  # fmt: skip


@pytest.mark.parametrize("channels", [False, True])
def test_q_linear_mat_mul_is_a_q_linear_convolution(channels: bool) -> None:
    """Scales per column move to the output channels; the weight's columns become its first axis."""
    model = q_mat_mul(channels=channels)
    _, candidate = converted(model, form="conv")
    (conv,) = [node for node in candidate.graph.nodes if node.op == "QLinearConv"]
    expected = model.graph.initializers["wi"].array().T.reshape(6, *MAP)
    np.testing.assert_array_equal(candidate.graph.initializers[conv.inputs[3]].array(), expected)
    equal_on_windows(model, candidate, steps=0.101)  # a tie may round the other way


@pytest.mark.parametrize("channels", [False, True])
def test_q_linear_mat_mul_on_rows_is_bit_equal(channels: bool) -> None:
    model = q_mat_mul(channels=channels)
    made, candidate = converted(model, form="auto")
    assert made.conversions[0].form == "rows"
    equal_on_windows(model, candidate)


def test_zero_points_that_differ_are_no_q_linear_convolution() -> None:
    model = q_mat_mul(channels=True, zeros=np.arange(6).astype(np.int8))
    made = plan(model, Options(form="conv"))
    assert "has zero points that differ" in made.refusals[0].reason


def test_scales_that_depend_on_the_input_stay() -> None:
    lines = ["m = ReduceMax(x) keepdims=0", "f = Flatten(x)", "q = QuantizeLinear(f, m, z)",
             "d = DequantizeLinear(q, m, z)", "y = Gemm(d, w)"]  # fmt: skip
    model = quantized(lines, w=RNG.standard_normal((CELLS, 6)).astype(F32))
    made = plan(model, Options(form="conv"))
    assert made.edit is None
    assert "ReduceMax m" in made.refusals[0].reason
