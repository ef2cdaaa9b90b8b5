"""Denser maps: what is refused, and calls that don't fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from atrous_nets import C3, RNG, assert_common, built, network, normal, run, typed
from conversions import converted
from nets import net

from onnxscope.errors import UsageError
from onnxscope.files.read import load
from onnxscope.rewrite.fc_to_conv import plan
from onnxscope.rewrite.plan import Options

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["a = Conv(x, w1) strides=[2,2]", "b = InstanceNormalization(a, m1, m1)"],
            "InstanceNormalization b",
        ),
        (
            ["a = Conv(x, w1) strides=[2,2]", "i = InstanceNormalization(a, m1, m1)", "b = Add(i, a)"],
            "InstanceNormalization i",
        ),
        (["a = Conv(x, w1) strides=[2,2]", "b = Pad(a, pp) mode=reflect"], "repeats what lies at the border"),
        (["a = Conv(x, w1) strides=[2,2] auto_pad=SAME_UPPER", "b = Relu(a)"], "changes with the input size"),
        (
            [
                "a = AveragePool(x) kernel_shape=[3,3] strides=[2,2] ceil_mode=1 count_include_pad=1",
                "b = Relu(a)",
            ],
            "hang over",
        ),
        (
            ["a = Conv(x, w1) strides=[2,2]", "b = ConvTranspose(a, w2)"],
            "ConvTranspose b changes the size of the map",
        ),
    ],
)
def test_what_cannot_be_dilated_is_refused_with_its_name(lines, said):
    lines = [*lines, "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]"]
    made = plan(built(lines, opset=18), Options(stride=1))
    assert made.edit is None
    assert said in made.refusals[0].reason
    assert "without --stride it converts" in made.refusals[0].reason
    assert plan(built(lines, opset=18)).edit is not None


@pytest.mark.parametrize("stride", [1, 2])
def test_a_window_that_would_begin_behind_the_image_is_none(stride):
    # its cell is padding of the next layer; opset 22, since onnx's shape inference of 12 to 21 counts it
    lines = [
        "a = Conv(x, w1) strides=[2,2]",
        "b = MaxPool(a) kernel_shape=[1,1] strides=[2,2] ceil_mode=1",
        "f = Conv(b, w2) pads=[1,1,1,1]",
    ]
    assert_common(built(lines, opset=22), stride, 4)


def test_a_number_per_place_has_none_for_new_places():
    lines = [
        "a = Conv(x, w1) strides=[2,2]",
        "b = Add(a, mp)",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]",
    ]
    model = network(lines, (27, 30), w1=C3["w1"], mp=normal(13, 14))
    made = plan(model, Options(stride=1, size="fixed"))
    assert made.edit is None
    assert "Add b has one number per place of the map (mp)" in made.refusals[0].reason


def test_same_padding_of_a_fixed_size():
    # 27 and 30 pixels: SAME_UPPER with stride 2 and kernel 3 puts 1 and 0 in front; cell 0, 0 is common
    lines = ["a = Conv(x, w1) strides=[2,2] auto_pad=SAME_UPPER", "f = Conv(a, w2) strides=[2,2]"]
    model = network(lines, (27, 30), w1=C3["w1"], w2=C3["w2"])
    _, dense = converted(model, stride=1, size="fixed")
    x = RNG.standard_normal((1, 2, 27, 30)).astype(np.float32)
    np.testing.assert_allclose(run(dense, x)[0][:, :, 0, 0], run(model, x)[0], rtol=0, atol=2e-6)


def test_a_map_of_one_cell_at_a_fixed_size_keeps_its_distance_behind_an_activation():
    lines = [
        "a = Conv(x, w1) strides=[2,2]",
        "b = Relu(a)",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]",
    ]
    model = net(
        [*lines, "v = Flatten(f)", "h = Gemm(v, wh)", "r = Relu(h)", "y = Gemm(r, wy)"],
        x="1,2,23,23", w1=C3["w1"], wh=normal(C3["w1"].shape[0] * 25, 6), wy=normal(6, 5),
    )  # fmt: skip
    made, dense = converted(typed(model), stride=2, size="fixed")
    assert made.geometry[0].stride == (2, 2)
    x = RNG.standard_normal((1, 2, 23, 23)).astype(np.float32)
    np.testing.assert_allclose(run(dense, x)[0][:, :, 0, 0], run(model, x)[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stride": 3}, "does not divide the map's own stride of 4 pixels; possible: 1, 2, 4"),
        ({"stride": 8}, "possible: 1, 2, 4"),
        ({"stride": 0}, "no distance"),
        ({"stride": 2, "form": "rows"}, "take form conv"),
        ({"stride": 2, "output": "vector"}, "take output map"),
        ({"stride": 2, "pool": "global"}, "take pool window"),
    ],
)
def test_calls_that_do_not_fit(options, said):
    with pytest.raises(UsageError) as error:
        plan(load(MODELS / "lenet5.onnx"), Options(**options))
    assert said in str(error.value)


def test_a_pool_whose_native_size_nobody_tells_is_named():
    """Not "without --stride it converts": without a native size the map has one cell either way."""
    lines = ["a = Conv(x, k) strides=[2,2]", "g = GlobalAveragePool(a)", "f = Flatten(g)", "y = Gemm(f, w)"]
    model = net(lines, x="N,3,H,W", k=normal(4, 3, 3, 3), w=normal(4, 5))
    (refusal,) = plan(model, Options(stride=1)).refusals
    assert "give --native HxW" in refusal.reason
    assert "without --stride" not in refusal.reason
    assert plan(model, Options(stride=1, native=(9, 9))).edit is not None


@pytest.mark.parametrize(
    ("opset", "softmax", "said"),
    [
        (11, "Softmax(a) axis=1", "acts along the map"),  # over channels and all places together
        (11, "Softmax(a)", "acts along the map"),  # the same: axis 1 is the default
        (11, "LogSoftmax(a) axis=2", "acts along the map"),
        (13, "Softmax(a) axis=1", ""),
        (13, "Softmax(a)", "acts along the map"),  # the default is the last axis
        (13, "LpNormalization(a) axis=1", ""),
    ],
)
def test_a_softmax_takes_in_all_later_axes_below_opset_13(opset, softmax, said):
    lines = [
        "a = Conv(x, w1) strides=[2,2]",
        f"b = {softmax}",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]",
    ]
    model = built(lines, opset=opset)
    if not said:
        assert_common(model, 1, 4)
    else:
        assert said in plan(model, Options(stride=1)).refusals[0].reason


@pytest.mark.parametrize(("axis", "said"), [(1, ""), (2, "has scales along the map")])
def test_scales_along_the_map_have_none_for_new_places(axis, said):
    sizes = {1: 4, 2: 9}
    lines = [
        "a = Conv(x, w1) strides=[2,2]",
        f"q = QuantizeLinear(a, qs, qz) axis={axis}",
        f"b = DequantizeLinear(q, qs, qz) axis={axis}",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]",
    ]
    scales = {"qs": np.full(sizes[axis], 0.1, np.float32), "qz": np.full(sizes[axis], 128, np.uint8)}
    model = network(lines, (19, 19), opset=13, w1=C3["w1"], **scales)
    made = plan(model, Options(stride=1, size="fixed"))
    assert [said in refusal.reason for refusal in made.refusals] == ([True] if said else [])


@pytest.mark.parametrize("options", [{}, {"size": "fixed"}])
def test_where_specification_and_runtime_round_another_way_nothing_is_dilated(options):
    """auto_pad VALID with ceil_mode: the specification rounds down, onnxruntime up."""
    lines = [
        "a = Conv(x, w1)",
        "f = MaxPool(a) kernel_shape=[3,3] strides=[2,2] auto_pad=VALID ceil_mode=1",
    ]
    model = network(lines, (10, 10), w1=C3["w1"])
    (refusal,) = plan(model, Options(stride=1, **options)).refusals
    assert "MaxPool f combines auto_pad VALID and ceil_mode" in refusal.reason


def test_what_does_not_go_with_a_stride_is_not_advised_beside_it():
    """--output vector is refused beside --stride, and a vector of --size fixed has no cells."""
    lines = ["c = Conv(x, k) strides=[2,2]", "f = Flatten(c)", "a = Gemm(f, w)", "b = Gemm(a, v)"]
    given = {"k": normal(4, 3, 2, 2), "w": normal(64, 5), "v": normal(5, 3), "one": np.array(1)}
    barred = net([*lines, "y = CumSum(b, one)"], x="1,3,8,8", **given)
    for refusal in plan(barred, Options(stride=1)).refusals:
        assert refusal.reason.endswith("; without --stride, --output vector or --size fixed converts it")
    assert plan(barred, Options(stride=1, size="fixed")).edit is None
    assert plan(barred, Options(size="fixed")).edit is not None
    alone = plan(net(lines, x="1,3,8,8", **given), Options(stride=1, layers=("b",)))
    assert alone.refusals[-1].reason == "a stays fully connected; name it too (--layer a)"
