"""Sizes of a conversion: given, declared or freed; what bakes a size or a batch in; empty batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from nets import net
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from test_fc_to_conv import POOL, assert_near, converted, normal, run, shapes, small

from onnxscope.errors import UsageError
from onnxscope.expr import bind, lower_bound, minimum, symbol
from onnxscope.expr.bounds import assuming
from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.graph import Model
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options

W = {"w": normal(192, 6)}
FLAT, FC = "f = Flatten(r)", "y = Gemm(f, w)"


def test_a_native_size_that_the_file_contradicts_is_an_error() -> None:
    with pytest.raises(UsageError, match="--native 9x9 contradicts x, which has 8x8"):
        plan(small(), Options(native=(9, 9)))
    with pytest.raises(UsageError, match="--native 8 has 1 size, x has 2 spatial axes"):
        plan(small(), Options(native=(8,)))
    with pytest.raises(UsageError, match="--native 8x9 contradicts x, which has freex8"):
        plan(small(x="N,3,H,8"), Options(native=(8, 9)))


def test_a_native_size_that_the_file_has_too_is_accepted() -> None:
    _, candidate = converted(small(), native=(8, 8))
    assert shapes(candidate)["y"] == ("N", 5, "(height - 6)//2", "(width - 6)//2")


def test_a_native_size_that_no_window_fits_into_is_an_error() -> None:
    with pytest.raises(
        UsageError, match=r"--native 1x1 is too small: .*it covers 2 pixels, the padded input"
    ):
        plan(small(x="N,3,H,W"), Options(native=(1, 1)))


def test_a_name_given_with_its_number_is_that_number() -> None:
    _, candidate = converted(small(), shapes={"x": ("many", 3, 8, 8)}, dims={"many": 2})
    assert shapes(candidate) == {
        "x": (2, 3, "height", "width"),
        "y": (2, 5, "(height - 6)//2", "(width - 6)//2"),
    }


def test_sizes_of_a_free_input_are_no_smaller_than_the_native_ones_given() -> None:
    # opset 17 has no dilated means: slices stand in, which smaller inputs would cut short
    lines = ["p = MaxPool(x) kernel_shape=[2,2] strides=[2,2]", "g = GlobalAveragePool(p)", "f = Flatten(g)"]
    given, fixed = (
        plan(net([*lines, "y = Gemm(f, w)"], x=x, w=normal(3, 5)), Options(native=native, stride=1))
        for x, native in (("1,3,height,width", (8, 8)), ("1,3,8,8", None))
    )
    assert [*map(str, given.geometry[0].size)] == [*map(str, fixed.geometry[0].size)]
    assert [*map(str, given.geometry[0].size)] == ["height - 7", "width - 7"]  # windows of 2 and 7


def test_padding_that_changes_with_the_size_has_a_distance_of_cells_and_no_first_pixel() -> None:
    # kernel 3, stride 2, SAME: begins at -1 or 0, by the parity of the size; its map is ceil(H / 2) cells
    lines = ["c = Conv(x, k) strides=[2,2] auto_pad=SAME_UPPER", "g = GlobalAveragePool(c)", "f = Flatten(g)"]
    model = net([*lines, "y = Gemm(f, v)"], x="N,3,H,W", k=normal(4, 3, 3, 3), v=normal(4, 5))
    (found,) = plan(model, Options(native=(8, 8))).geometry
    assert (found.stride, found.offset, found.field) == ((2, 2), None, None)


FRONTS = {
    # 8x8 -> 10x10 -> 8x8 cells behind the convolution, as large as the window of the mean
    "Pad": ("a = Pad(x, n)", np.array([0, 1, 1, 0, 0, 1, 1, 0]), ("height - 7", "width - 7")),
    # 8x8 -> 7x6 -> 5x4 cells
    "Slice": ("a = Slice(x, n, e, n)", np.array([1, 2]), ("height - 7", "width - 7")),
    # 8x8 -> 16x16 -> 14x14 cells
    "Resize": ("a = Resize(x, , n)", np.array([1, 2, 2, 1], np.float32), ("2*height - 15", "2*width - 15")),
}


@pytest.mark.parametrize("op", FRONTS)
def test_a_channels_last_image_is_known_behind_what_changes_its_size(op: str) -> None:
    line, n, cells = FRONTS[op]
    given = {"n": n, "e": np.array([2**40, 2**40]), "k": normal(4, 3, 3, 3), "v": normal(4, 5)}
    tail = ["c = Conv(t, k)", "g = GlobalAveragePool(c)", "f = Flatten(g)", "y = Gemm(f, v)"]
    model = net([line, "t = Transpose(a) perm=[0,3,1,2]", *tail], x="1,8,8,3", **given)
    assert shapes(convert(plan(model))) == {"x": (1, "height", "width", 3), "y": (1, 5, *cells)}


GIVEN: list[dict[str, Any]] = [
    {"shapes": {"x": ("N", 3, 8, 8)}},
    {"dims": {"H": 8, "W": 8}},
    {"native": (8, 8)},
    {},
]


@pytest.mark.parametrize("options", GIVEN)
def test_a_free_size_keeps_its_name_however_the_native_one_is_given(options: dict[str, Any]) -> None:
    _, candidate = converted(small(x="N,3,H,W"), **options)
    assert shapes(candidate) == {"x": ("N", 3, "H", "W"), "y": ("N", 5, "(H - 6)//2", "(W - 6)//2")}


def test_a_shape_that_frees_a_fixed_size() -> None:
    """The file's own size stays the native one; the names given become those of the input."""
    model = small()
    made, candidate = converted(model, shapes={"x": ("N", 3, "rows", "columns")})
    wanted = ("(rows - 6)//2", "(columns - 6)//2")
    assert shapes(candidate) == {"x": ("N", 3, "rows", "columns"), "y": ("N", 5, *wanted)}
    assert tuple(map(str, made.geometry[0].size)) == wanted
    assert made.geometry[0].minimum == {"rows": 8, "columns": 8}
    x = normal(1, 3, 12, 10)
    (found,) = run(candidate, x)
    assert found.shape == (1, 5, 3, 2)
    assert_near(found[:, :, 2, 1], run(model, np.ascontiguousarray(x[:, :, 4:12, 2:10]))[0])


def test_a_resize_to_sizes_that_are_no_exact_multiple_is_named() -> None:
    # 4x4 to 7x7: 7/4 would do, but floor(H * 7/4) is no closed form of this product; 6 maps of 7x7
    lines = [POOL, "r = Resize(p, , , s) mode=nearest", FLAT, "y = Gemm(f, u)"]
    model = small(lines, x="2,3,8,8", s=np.array([2, 3, 7, 7]), u=normal(147, 6))
    (refusal,) = plan(model).refusals
    assert refusal.reason == (
        "with other sizes, Resize r fixes the size to [2, 3, 7, 7]; --size fixed converts it"
    )
    x = normal(2, 3, 8, 8)
    _, fixed = converted(model, size="fixed")
    assert_near(run(fixed, x)[0][:, :, 0, 0], run(model, x)[0])


RESIZES: list[tuple[str, str, dict[str, Any]]] = [
    ("r = Resize(p, , , s) mode=nearest", "2,3,8,8", {"s": np.array([2, 3, 8, 8])}),
    ("r = Resize(p, , , s) mode=nearest coordinate_transformation_mode=asymmetric", "N,3,8,8",
     {"s": np.array([8, 8])}),
    ("r = Resize(p, e, e, s) mode=nearest coordinate_transformation_mode=asymmetric nearest_mode=floor",
     "2,3,8,8",
     {"s": np.array([2, 3, 8, 8]), "e": np.zeros(0, np.float32)}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "x", "values"), RESIZES)
def test_a_resize_to_a_whole_multiple_follows_the_input(line: str, x: str, values: dict[str, Any]) -> None:
    """Sizes in the file become the scales that they are: each cell is the original on its crop."""
    named = x[0] == "N"
    lines = [POOL, f"{line} axes=[2,3]" if named else line, FLAT, FC]
    model = small(lines, x=x, opset=18 if named else 17, **values, **W)
    made, candidate = converted(model)
    assert "sizes that r fixed are now taken from the input" in made.notes
    assert "s" not in candidate.graph.initializers
    image = normal(2, 3, 12, 10)
    (found,) = run(candidate, image)
    assert found.shape == (
        2,
        6,
        5,
        3,
    )  # a map of 6x5 becomes 12x10: windows of 8x8, 12 - 8 + 1 by 3
    crop = np.ascontiguousarray(image[:, :, 4:12, 2:10])
    assert_near(found[:, :, 4, 2], run(model, crop)[0])
    native = normal(2, 3, 8, 8)
    assert_near(run(candidate, native)[0][:, :, 0, 0], run(model, native)[0])


@pytest.mark.parametrize("mode", ["align_corners", "tf_crop_and_resize"])
def test_a_resize_that_reads_the_whole_image_is_named(mode: str) -> None:
    """align_corners places its samples by the size of the whole map: no cell of a larger one is a crop's."""
    line = f"r = Resize(p, o, , s) mode=linear coordinate_transformation_mode={mode}"
    roi = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
    model = small([POOL, line, FLAT, FC], x="2,3,8,8", o=roi, s=np.array([2, 3, 8, 8]), **W)
    (refusal,) = plan(model).refusals
    assert "Resize r fixes the size to [2, 3, 8, 8]" in refusal.reason


def test_an_expand_to_the_native_size_follows_the_input() -> None:
    """A trace writes the whole shape where the network only repeated channels."""
    lines = ["a = ReduceMean(x) axes=[1]", "e = Expand(a, s)", "r = Mul(x, e)", FLAT, FC]
    model = small(lines, x="2,3,8,8", s=np.array([2, 3, 8, 8]), **W)
    _, candidate = converted(model)
    image = normal(2, 3, 10, 9)
    (found,) = run(candidate, image)
    assert found.shape == (2, 6, 3, 2)
    assert_near(found[:, :, 2, 1], run(model, np.ascontiguousarray(image[:, :, 2:, 1:]))[0])


def test_a_resize_by_scales_follows_the_input() -> None:
    model = small([POOL, "r = Resize(p, , s) mode=nearest", FLAT, FC],
                  s=np.array([1, 1, 2, 2], np.float32), **W)  # fmt: skip
    _, candidate = converted(model)
    x = normal(1, 3, 12, 10)
    (found,) = run(candidate, x)
    assert found.shape == (1, 6, 5, 3)
    assert_near(found[:, :, 4, 2], run(model, np.ascontiguousarray(x[:, :, 4:12, 2:10]))[0])


def test_the_operand_that_fixes_the_size_is_named() -> None:
    lines = ["g = GlobalAveragePool(x)", "e = Expand(g, s)", "r = Mul(x, e)", FLAT, FC]
    (refusal,) = plan(small(lines, s=np.array([1, 3, 8, 8]), **W)).refusals
    assert "Mul r meets e, whose size is fixed: [N, 3, 8, 8]" in refusal.reason


BATCHES = [
    ("a reshape", ["r = Reshape(x, s)", FLAT, FC], {"s": np.array([1, 3, 8, 8])}),
    ("a shuffle", ["u = Reshape(x, s)", "t = Transpose(u) perm=[0,2,1,3,4]", "r = Reshape(t, q)", FLAT, FC],
     {"s": np.array([1, 3, 1, 8, 8]), "q": np.array([1, 3, 8, 8])}),
    ("the flattening", ["r = Relu(x)", "f = Reshape(r, s)", FC], {"s": np.array([1, -1])}),
    ("the result", ["r = Relu(x)", FLAT, "a = Gemm(f, w)", "y = Reshape(a, s)"], {"s": np.array([1, 6])}),
]  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"size": "fixed"}, {"output": "vector"}])
@pytest.mark.parametrize(("lines", "values"), [b[1:] for b in BATCHES], ids=[b[0] for b in BATCHES])
def test_a_baked_batch_is_freed(
    lines: list[str], values: dict[str, np.ndarray], options: dict[str, str]
) -> None:
    """Three images at once are three images, one after the other: none is folded into another."""
    model = small(lines, x="1,3,8,8", **values, **W)
    _, candidate = converted(model, batch="free", **options)
    assert shapes(candidate)["y"][0] == "batch"
    x = normal(3, 3, 8, 8)
    expected = np.concatenate([run(model, x[i : i + 1])[0] for i in range(3)])
    assert_near(run(candidate, x)[0].reshape(3, 6), expected)


def test_a_baked_batch_that_can_not_be_freed_is_named() -> None:
    """Taken as it is, three images would be resized to one."""
    lines = [POOL, "r = Resize(p, , , s) mode=nearest", FLAT, "y = Gemm(f, u)"]
    model = small(lines, x="1,3,8,8", s=np.array([1, 3, 7, 7]), u=normal(147, 6))
    (refusal,) = plan(model, Options(batch="free", size="fixed")).refusals
    assert refusal.reason == (
        "with a free batch, Resize r fixes the batch to [1, 3, 7, 7]; --batch keep converts it"
    )
    assert plan(model, Options(size="fixed")).refusals == ()


@pytest.mark.parametrize("options", [{}, {"output": "vector"}, {"form": "rows"}])
def test_an_empty_batch(options: dict[str, str]) -> None:
    model, empty = small(), normal(0, 3, 8, 8)
    _, candidate = converted(model, **options)
    assert run(model, empty)[0].shape == (0, 5)
    assert run(candidate, empty)[0].shape[:2] == (0, 5)


def half(opset: int) -> Model:
    """A head in bfloat16."""
    proto = onnx.load_from_string(dumps(small(["r = Relu(x)", FLAT, FC], **W)))
    proto.opset_import[0].version = opset
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        value.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    numbers = onnx.numpy_helper.to_array(proto.graph.initializer[0]).astype(ml_dtypes.bfloat16)
    made = onnx.helper.make_tensor("w", onnx.TensorProto.BFLOAT16, (192, 6), numbers.tobytes(), raw=True)
    proto.graph.initializer[0].CopyFrom(made)
    return loads(proto.SerializeToString())


def test_bfloat16_is_said_to_run_elsewhere() -> None:
    """Its Conv has no kernel on the CPU; the file is written for providers that have one."""
    model = half(22)
    done, candidate = converted(model)
    assert "no bfloat16 kernels" in done.notes[0]
    before, after = (m.graph.initializers["w"].array().view(np.uint16) for m in (model, candidate))
    np.testing.assert_array_equal(after, before.T.reshape(6, 3, 8, 8))


def test_bfloat16_is_no_type_of_an_older_conv() -> None:
    assert plan(half(17)).refusals[0].reason == ("a Conv takes no bfloat16 below opset 22, this model has 17")


def test_fold_takes_no_empty_batch() -> None:
    """Its reshapes infer a size, which nothing tells where there are no numbers; docs/forms.md says so."""
    _, candidate = converted(small(), form="fold")
    with pytest.raises(Fail):
        run(candidate, normal(0, 3, 8, 8))


def test_a_slice_that_leaves_images_out_stays() -> None:
    cut = {"s": np.array([0, 0]), "e": np.array([2**31 - 1, 4]), "a": np.array([0, 1]), "t": np.array([2, 1])}
    lines = ["f = Flatten(x)", "g = Gemm(f, w)", "y = Slice(g, s, e, a, t)"]
    model = net(lines, x="4,3,8,8", w=normal(192, 6), **cut)
    assert plan(model).edit is None


def test_sizes_at_least_the_native_one_decide_minima() -> None:
    size = (symbol("H") - 28) // 4
    assert minimum(0, size) != 0
    with assuming({"H": 32}):
        assert minimum(0, size) == 0
        assert lower_bound(size) == 1
        with ThreadPoolExecutor() as pool:
            assert pool.submit(minimum, 0, size).result() != 0  # another thread assumes nothing
    assert minimum(0, size) != 0  # forgotten again
    assert bind(size, {"H": 20}) == -2


@pytest.mark.parametrize(
    ("x", "w", "reason"),
    [
        ("0,3,8,8", (48, 6), "its input [0, 48] holds no numbers"),
        ("1,3,8,8", (48, 0), "its weight [48, 0] holds no numbers"),
    ],
)
def test_a_layer_of_no_numbers_stays(x: str, w: tuple[int, int], reason: str) -> None:
    """Its proof would have nothing to compare."""
    (refusal,) = plan(net([POOL, "f = Flatten(p)", "y = Gemm(f, w)"], x=x, w=normal(*w))).refusals
    assert refusal.reason == reason


UNKNOWN = [
    ("N,3,8,8", "kernel_shape=[2,2] strides=[0,0]", "p: MaxPool: strides and dilations must be at least 1"),
    (
        "N,3,8,8",
        "kernel_shape=[9,9]",
        "p: MaxPool: no window fits: it covers 9 pixels, the padded input has 8",
    ),
]


@pytest.mark.parametrize(("x", "pool", "said"), UNKNOWN)
def test_an_unknown_shape_is_traced_to_what_made_it_so(x: str, pool: str, said: str) -> None:
    # the second input has a problem of its own, which says nothing about this layer
    lines = ["o = MaxPool(z) kernel_shape=[99,99]", f"p = MaxPool(x) {pool}", FLAT.replace("(r)", "(p)"), FC]
    (refusal,) = plan(net(lines, x=x, z="N,3,8,8", w=normal(48, 6))).refusals
    assert refusal.reason == f"its shapes are unknown: {said}"


def test_a_native_size_that_no_square_map_gives_is_asked_for() -> None:
    model = net([POOL, "f = Flatten(p)", "y = Gemm(f, w)"], x="N,3,H,W", w=normal(72, 6))  # 3 maps of 4x6
    (refusal,) = plan(model).refusals
    assert refusal.reason == (
        "its weight takes 72 inputs, which no square map p 3x(H//2)x(W//2) gives; --native gives the size "
        "that it was made for"
    )
    assert [c.kernel for c in plan(model, Options(native=(8, 12))).conversions] == [(4, 6)]
    free = net([POOL, "f = Flatten(p)", "y = Gemm(f, w)"], x="N,C,H,W", w=normal(48, 6))
    assert "; --shape gives" in plan(free).refusals[0].reason
    assert plan(free, Options(shapes={"x": ("N", 3, "H", "W")})).refusals == ()


def test_branches_that_meet_at_some_sizes_only_are_told() -> None:
    # 2 * (H // 4) is H // 2 for 8 and 12, and 4 against 5 for 10
    lines = [POOL, "q = MaxPool(p) kernel_shape=[2,2] strides=[2,2]", "u = Resize(q, , , s) mode=nearest",
             "m = Add(u, p)", "f = Flatten(m)", "y = Gemm(f, w)"]  # fmt: skip
    made, candidate = converted(small(lines, x="2,3,8,8", s=np.array([2, 3, 4, 4])))
    told = "Add m needs 2*(height//4) = height//2: other input sizes do not run"
    assert told in made.notes
    assert run(candidate, normal(2, 3, 12, 8))[0].shape == (2, 6, 3, 1)
    with pytest.raises(Exception, match="4 by 5"):
        run(candidate, normal(2, 3, 10, 8))


@pytest.mark.parametrize("line", ["r = Reshape(c, s)", "r = Squeeze(c, a)"])
def test_an_axis_that_is_dropped_fixes_its_size(line: str) -> None:
    """[1, 5, 1, 8] -> [1, 5, 8]: at another height there are more rows than one to drop."""
    values = {"s": np.array([1, 5, 8]), "a": np.array([2])}
    stored = {"k": normal(5, 3, 4, 1), "j": normal(5, 5, 3), "w": normal(30, 4), **values}
    tail = ["q = Conv(r, j)", "f = Flatten(q)", "y = Gemm(f, w)"]
    made = plan(net(["c = Conv(x, k)", line, *tail], x="1,3,4,8", **stored))
    assert made.edit is None
    said = f"{line[4:].split('(')[0]} r needs height - 3 = 1, which holds at the native size only"
    assert said in made.refusals[0].reason
    assert plan(made.model, Options(size="fixed")).edit is not None


def test_an_axis_of_one_that_follows_nothing_may_be_dropped() -> None:
    """The mean over the height is one row at every height."""
    lines = ["c = ReduceMean(x) axes=[2] keepdims=1", "r = Squeeze(c, a)", "q = Conv(r, j)", "f = Flatten(q)"]
    stored = {"a": np.array([2]), "j": normal(5, 3, 3), "w": normal(30, 4)}
    made = plan(net([*lines, "y = Gemm(f, w)"], x="1,3,4,8", **stored))
    assert made.edit is not None
    assert shapes(convert(made))["x"] == (1, 3, "height", "width")
