"""Denser maps: every common cell equals the strided map's, for each layer in front of a head and each trap.

The oracle is onnxruntime on the conversion without `stride`: cells of the dense map at every `factor`-th
place against it, with a limit from a float64 run where sums are long. Sizes are worked by hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from atrous_nets import C3, EXTRA, RNG, TRAPS, assert_common, built, network, normal, run, typed
from conversions import converted

from onnxscope.expr import bind
from onnxscope.files.read import load, loads
from onnxscope.files.write import dumps
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize("opset", [11, 13, 19, 22])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("trap", TRAPS)
def test_common_cells_equal_the_strided_map(trap, stride, opset):
    assert_common(built(TRAPS[trap], opset=opset), stride, 4)


@pytest.mark.parametrize("trap", ["padded", "padded pool", "residual", "branches", "ceil_mode"])
@pytest.mark.parametrize("opset", [8, 9])
def test_older_opsets(trap, opset):
    lines = TRAPS[trap]
    if opset < 10:
        lines = [line.replace(" ceil_mode=1", "") for line in lines]
    assert_common(built(lines, opset=opset), 1, 4)


@pytest.mark.parametrize("opset", [9, 11, 18, 19])
@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
def test_the_window_of_a_global_pool_is_dilated(kind, opset):
    lines = ["a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]", "f = Conv(a, w2) strides=[2,2] pads=[1,1,1,1]"]
    made = network(lines, (27, 30), opset=opset, head=f"g = {kind}(f)", w1=C3["w1"], w2=C3["w2"])
    for stride in (1, 2):
        assert_common(made, stride, 4)


SHUFFLE = [
    "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
    "q = Reshape(a, t5)",
    "r = Transpose(q) perm=[0,2,1,3,4]",
    "b = Reshape(r, t4)",
    "c = Conv(b, g1) group=4 strides=[2,2] pads=[1,1,1,1]",
    "f = Conv(c, w2) pads=[1,1,1,1]",
]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("baked", [True, False])
def test_channels_are_shuffled_in_a_denser_map_as_well(stride, baked):
    # 27x30 with stride 2 and padding 1 is 14x15; a baked size is computed from Shape by the conversion
    size = [14, 15] if baked else [0, 0]
    targets = {"t5": [1, 2, 2, *size], "t4": [1, 4, *size]}
    if not baked:
        targets = {"t5": [0, 2, -1, 14, 15], "t4": [0, 4, 14, 15]}
    given = {name: np.array(numbers, np.int64) for name, numbers in targets.items()}
    more = {name: {**C3, **EXTRA}[name] for name in ("w1", "w2", "g1")}
    assert_common(network(SHUFFLE, (27, 30), **given, **more), stride, 4)


def test_sizes_that_are_computed_with_are_not_those_of_a_denser_map():
    lines = [
        "a = Conv(x, w1) strides=[2,2]",
        "s = Shape(a)",
        "n = ReduceProd(s) keepdims=0",
        "m = Cast(n) to=1",
        "b = Div(a, m)",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]",
    ]
    assert_common(built(lines), 1, 4)


def test_strides_of_two_and_three():
    # cells every 6 pixels; 3 keeps the second stride, of input dilated by 2
    lines = ["a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]", "f = Conv(a, w2) strides=[3,3] pads=[1,1,1,1]"]
    for stride in (1, 2, 3):
        assert_common(network(lines, (27, 30), w1=C3["w1"], w2=C3["w2"]), stride, 6)


@pytest.mark.parametrize("stride", [1, 4, 16])
def test_a_network_like_vgg(stride):
    # five blocks of padded 3x3 convolutions and a pool of 2: a cell every 32 pixels
    lines, given, last = [], {}, "x"
    for block in range(5):
        given[f"k{block}"] = normal(4, 4 if block else 2, 3, 3)
        lines += [f"c{block} = Conv({last}, k{block}) pads=[1,1,1,1]", f"r{block} = Relu(c{block})"]
        lines += [f"p{block} = MaxPool(r{block}) kernel_shape=[2,2] strides=[2,2]"]
        last = f"p{block}"
    model = network(lines, (64, 96), **given)
    made, _ = converted(model, stride=stride)
    # 64 pixels make 2 cells and the head reads 2: (H - 64)//N + 1, and likewise for 96
    assert [bind(size, {"height": 131, "width": 201}) for size in made.geometry[0].size] == [
        (131 - 64) // stride + 1,
        (201 - 96) // stride + 1,
    ]
    assert_common(model, stride, 32, grown=(0, 35))


@pytest.mark.parametrize("size", [(41,), (13, 15, 17)])
def test_one_and_three_dimensions(size):
    d = len(size)
    ones, twos, threes = (str([n] * d).replace(" ", "") for n in (1, 2, 3))
    lines = [
        f"a = Conv(x, w1) strides={twos} pads={str([1] * 2 * d).replace(' ', '')}",
        f"b = MaxPool(a) kernel_shape={threes} strides={twos}",
        f"f = Conv(b, w2) strides={ones}",
    ]
    assert_common(
        network(lines, size, w1=normal(4, 2, *[3] * d), w2=normal(4, 4, *[2] * d)), 2, 4, grown=(0, 5)
    )


def test_sizes_of_lenet_by_hand():
    # 5x5, pool 2, 5x5, pool 2, 5x5: a cell sees 32 pixels. Without strides every layer slides by a pixel.
    for stride, form in ((4, "(height - 28)//4"), (2, "(height - 30)//2"), (1, "height - 31")):
        made, _ = converted(load(MODELS / "lenet5.onnx"), stride=stride)
        assert str(made.geometry[0].size[0]) == form
        assert (made.geometry[0].stride, made.geometry[0].field) == ((stride, stride), (32, 32))


def test_layers_that_read_one_cell_stay_as_they_are():
    made, dense = converted(load(MODELS / "lenet5.onnx"), stride=1)
    assert [row.after for row in made.conversions][:2] == [
        "Conv 5x5x16 -> 120, dilation 4",
        "Conv 1x1x120 -> 84",
    ]
    dilated = {
        node.outputs[0] for node in dense.graph.nodes if node.attribute("dilations") not in (None, (1, 1))
    }
    assert dilated == {"conv2_out", "fc1_out"}  # pool2 is a mean of opset 13: sums of shifts


def test_its_own_stride_changes_nothing():
    model = load(MODELS / "lenet5.onnx")
    assert convert(plan(model, Options(stride=4))).graph.nodes == convert(plan(model)).graph.nodes


def test_a_map_without_padding_answers_for_every_crop():
    model = load(MODELS / "lenet5.onnx")
    _, dense = converted(model, stride=2)
    x = RNG.standard_normal((1, 1, 40, 38)).astype(np.float32)
    found = run(dense, x)[0]
    assert found.shape == (1, 10, 5, 4)
    for i, j in np.ndindex(5, 4):
        crop = np.ascontiguousarray(x[:, :, 2 * i : 2 * i + 32, 2 * j : 2 * j + 32])
        np.testing.assert_allclose(found[:, :, i, j], run(model, crop)[0], rtol=0, atol=2e-6)


def test_an_output_in_front_of_the_head_stays():
    lines = ["a = Conv(x, w1) strides=[2,2]", "f = Conv(a, w2) strides=[2,2]"]
    whole = network(lines, (27, 30), w1=C3["w1"], w2=C3["w2"])
    proto = onnx.load_from_string(dumps(whole))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("f", 1, None))
    model = typed(loads(proto.SerializeToString()))
    _, strided = converted(model)
    _, dense = converted(model, stride=1)
    x = RNG.standard_normal((1, 2, 35, 37)).astype(np.float32)
    for before, after in zip(run(strided, x), run(dense, x), strict=True):
        common = after[:, :, ::4, ::4] if after.shape[2:] != before.shape[2:] else after
        np.testing.assert_allclose(common, before, rtol=0, atol=2e-6)
    assert run(dense, x)[1].shape == run(strided, x)[1].shape
