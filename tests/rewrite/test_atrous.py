"""Denser maps: every common cell equals the strided map's, for each layer in front of a head and each trap.

The oracle is onnxruntime on the conversion without `stride`: cells of the dense map at every `factor`-th
place against it, with a limit from a float64 run where sums are long. Sizes are worked by hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from nets import net

from onnxscope.errors import UsageError
from onnxscope.expr import bind
from onnxscope.files.read import load, loads
from onnxscope.files.write import dumps
from onnxscope.graph import Model
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options, Plan

MODELS = Path(__file__).parents[2] / "models"
RNG = np.random.default_rng(77)


def normal(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def run(model: Model, x: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(dumps(model), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def converted(model: Model, **options: object) -> tuple[Plan, Model]:
    made = plan(model, Options(**options))  # type: ignore[arg-type]
    assert made.edit is not None, made.refusals
    candidate = convert(made)
    onnx.checker.check_model(onnx.load_from_string(dumps(candidate)), full_check=True)
    return made, candidate


def typed(model: Model) -> Model:
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(dumps(model)), strict_mode=True)
    return loads(proto.SerializeToString())


def network(lines: list[str], size: tuple[int, ...], *, opset: int = 17, head: str = "", **given) -> Model:
    """Layers from x [1, 2, *size] to `f`, and a head of 5 classes on it, flattened or as `head` says."""
    name = lines[-1].split(" = ")[0]
    front = net(lines, x=",".join(map(str, (1, 2, *size))), opset=opset, **given)
    shape = run(front, np.zeros((1, 2, *size), np.float32))[0].shape
    pooled = head or f"v = Flatten({name})"
    count = int(np.prod(shape[1:])) if not head else shape[1]
    rest = [pooled, *(["v = Flatten(g)"] if head else []), "y = Gemm(v, wy, by)"]
    weights = {"wy": normal(count, 5), "by": normal(5)}
    return typed(net([*lines, *rest], x=",".join(map(str, (1, 2, *size))), opset=opset, **given, **weights))


def assert_common(model: Model, stride: int, own: int, *, grown: tuple[int, ...] = (0, 3, 7, 16)) -> Model:
    """The dense map holds the strided one, at the native size and at larger ones, square or not."""
    _, strided = converted(model)
    made, dense = converted(model, stride=stride)
    place = made.geometry[0]
    assert place.stride is not None
    assert set(place.stride) == {stride}
    native = [int(n) for n in model.graph.inputs[0].type.shape[2:]]
    names = [str(n) for n in dense.graph.inputs[0].type.shape[2:]]
    for more in grown:
        size = [n + more * (1 + axis % 2) for axis, n in enumerate(native)]
        x = RNG.standard_normal((1, 2, *size)).astype(np.float32)
        before, after = run(strided, x)[0], run(dense, x)[0]
        assert after.shape[2:] == tuple(bind(e, dict(zip(names, size, strict=True))) for e in place.size)
        common = after[(..., *(slice(None, None, own // stride) for _ in size))]
        assert common.shape == before.shape, (before.shape, after.shape, size)
        np.testing.assert_allclose(common, before, rtol=0, atol=2e-6 * max(1.0, np.abs(before).max()))
    return dense


C3 = {"w1": normal(4, 2, 3, 3), "w2": normal(4, 4, 3, 3), "w3": normal(4, 4, 3, 3)}
TRAPS = {
    # pads behind a lost stride grow with the dilation
    "padded": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "b = Conv(a, w2) strides=[2,2] pads=[1,1,1,1]",
        "f = Conv(b, w3) pads=[1,1,1,1]",
    ],
    "asymmetric": [
        "a = Conv(x, w1) strides=[2,2] pads=[0,1,1,0]",
        "f = Conv(a, w2) strides=[2,2] pads=[1,0,0,1]",
    ],
    # onnxruntime refuses pads as large as the kernel: they become a Pad, of -inf in front of a maximum
    "padded pool": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = MaxPool(a) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1]",
        "c = Conv(b, w2) pads=[1,1,1,1]",
        "f = MaxPool(c) kernel_shape=[3,3] pads=[1,1,1,1]",
    ],
    # a remainder that the strided layer drops is seen by cells in between, never by common ones
    "remainder": ["a = MaxPool(x) kernel_shape=[3,3] strides=[2,2]", "f = Conv(a, w1) strides=[2,2]"],
    # windows that hang over the end are padding
    "ceil_mode": [
        "a = MaxPool(x) kernel_shape=[2,2] strides=[2,2] ceil_mode=1",
        "b = Conv(a, w1) pads=[1,1,1,1]",
        "f = MaxPool(b) kernel_shape=[3,3] strides=[2,2] ceil_mode=1",
    ],
    "ceil_mode, padded": [
        "a = MaxPool(x) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1] ceil_mode=1",
        "f = Conv(a, w1) strides=[2,2] pads=[1,1,1,1]",
    ],
    "ceil_mode mean": [
        "a = AveragePool(x) kernel_shape=[3,3] strides=[2,2] ceil_mode=1",
        "f = Conv(a, w1) strides=[2,2] pads=[1,1,1,1]",
    ],
    "stride above kernel": ["a = Conv(x, p1) strides=[2,2]", "f = Conv(a, w2) strides=[2,2]"],
    "residual": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "b = Conv(a, w2) strides=[2,2] pads=[1,1,1,1]",
        "c = Relu(b)",
        "d = Conv(c, w3) pads=[1,1,1,1]",
        "s = Conv(a, q1) strides=[2,2]",
        "f = Add(d, s)",
    ],
    "branches": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "b = MaxPool(a) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1]",
        "c = Conv(a, w2) strides=[2,2] pads=[1,1,1,1]",
        "f = Concat(b, c) axis=1",
    ],
    "channels last": [
        "a = Conv(x, w1) strides=[2,2]",
        "t = Transpose(a) perm=[0,2,3,1]",
        "u = Mul(t, m1)",
        "b = Transpose(u) perm=[0,3,1,2]",
        "f = Conv(b, w2) strides=[2,2]",
    ],
    # a global mean inside the network is the mean of the common cells
    "gate": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "g = GlobalAveragePool(a)",
        "h = Sigmoid(g)",
        "b = Mul(a, h)",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]",
    ],
    "explicit pad": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = Pad(a, pp)",
        "f = Conv(b, w2) strides=[2,2]",
    ],
    "grouped": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = Conv(a, g1) group=4 strides=[2,2] pads=[1,1,1,1]",
        "f = Conv(b, q1)",
    ],
    "dilated already": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = Conv(a, w2) dilations=[2,2] pads=[2,2,2,2]",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2]",
    ],
    "normalized": [
        "a = Conv(x, w1) strides=[2,2] pads=[1,1,1,1]",
        "b = LRN(a) size=3",
        "c = BatchNormalization(b, m1, m1, m1, m2)",
        "f = MaxPool(c) kernel_shape=[2,2] strides=[2,2]",
    ],
    "SAME at stride 1, VALID": [
        "a = Conv(x, w1) strides=[2,2] auto_pad=VALID",
        "b = Conv(a, w2) auto_pad=SAME_UPPER",
        "f = MaxPool(b) kernel_shape=[2,2] strides=[2,2] auto_pad=SAME_UPPER",
    ],
    "mean of a padded map": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = AveragePool(a) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1]",
        "f = AveragePool(b) kernel_shape=[3,3] pads=[1,1,1,1]",
    ],
    "mean that counts its padding": [
        "a = Conv(x, w1) strides=[2,2]",
        "b = AveragePool(a) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1] count_include_pad=1",
        "f = AveragePool(b) kernel_shape=[2,2] pads=[1,0,0,1] count_include_pad=1",
    ],
}
EXTRA = {
    "p1": normal(4, 2, 1, 1),
    "q1": normal(4, 4, 1, 1),
    "g1": normal(4, 1, 3, 3),
    "m1": normal(4),
    "m2": np.abs(normal(4)) + 1,
    "pp": np.array([0, 0, 1, 0, 0, 0, 1, 2], np.int64),
}


def built(lines: list[str], **more) -> Model:
    read = " ".join(lines)
    given = {k: v for k, v in {**C3, **EXTRA}.items() if f" {k}," in read or f" {k})" in read}
    return network(lines, (27, 30), **given, **more)


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
