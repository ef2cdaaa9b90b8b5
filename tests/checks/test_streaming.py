"""Counts of stored numbers, against numpy on the whole array; values worked by hand where they are few."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope.checks import streaming
from onnxscope.checks.streaming import measure
from onnxscope.files.read import load, loads


def model_of(*tensors, nodes=()):
    graph = helper.make_graph(list(nodes), "g", [], [], list(tensors))
    return loads(helper.make_model(graph).SerializeToString())


def statistics(array, name="w"):
    (found,) = measure(model_of(numpy_helper.from_array(array, name))).tensors
    return found


def test_special_numbers_by_hand():
    tiny = np.float32(2.0**-140)
    array = np.array(
        [0, -0.0, np.nan, np.inf, -np.inf, tiny, -3, 65520, 65519, 2.0**-25, 2.0**-24], np.float32
    )
    found = statistics(array)
    assert (found.count, found.zeros, found.nan, found.inf, found.subnormal) == (11, 2, 1, 2, 1)
    assert (found.largest, found.smallest) == (65520.0, float(tiny))
    assert found.fp16_overflow == 1  # 65519 rounds to 65504
    assert found.fp16_underflow == 2  # the subnormal one and 2**-25, a tie that goes to zero
    assert found.first_bad == 2


# float16 itself is the oracle of what float16 does to a number.
@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e5, 1e-40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16, np.float16])
def test_against_numpy(dtype, scale):
    rng = np.random.default_rng(5)
    with np.errstate(all="ignore"):
        array = (rng.standard_normal((70, 33)) * scale).astype(dtype)
        array[::7, ::3] = 0
        wide = array.astype(np.float64)
        half = wide.astype(np.float16)
    size = np.abs(wide)
    found = statistics(array)
    finite = np.isfinite(wide)
    assert found.nan == np.isnan(wide).sum()
    assert found.inf == np.isinf(wide).sum()
    assert found.zeros == (wide == 0).sum()
    assert found.subnormal == ((size > 0) & (size < float(ml_dtypes.finfo(dtype).smallest_normal))).sum()
    assert found.largest == size[finite].max()
    assert found.smallest == (size[size > 0].min() if (size > 0).any() else 0)
    if dtype is not np.float16:
        assert found.fp16_overflow == (np.isinf(half) & finite).sum()
        assert found.fp16_underflow == ((half == 0) & (wide != 0)).sum()
    limit = found.largest / 254
    assert found.crushed == ((size > 0) & (size <= limit)).sum() / size.size


@pytest.mark.parametrize("signs", [[1.0], [-1.0], [1.0, -1.0], [-1.0, 1.0, 1.0]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16, np.float16])
def test_ordinary_numbers_of_either_sign(dtype, signs):
    size = np.linspace(0.5, 3, 60)
    array = (size * np.resize(signs, 60)).astype(dtype)
    found = statistics(array)
    kept = np.abs(array.astype(np.float64))
    assert (found.smallest, found.largest) == (kept.min(), kept.max())
    assert (found.zeros, found.nan, found.inf, found.fp16_overflow, found.crushed) == (0, 0, 0, 0, 0.0)


@pytest.mark.parametrize("dtype", "int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool".split())
def test_integers(dtype):
    array = np.array([[0, 1, 1], [0, 0, 0], [0, 1, 1]], dtype)
    if dtype.startswith("int"):
        array[0, 1] = np.iinfo(dtype).min
    found = statistics(array)
    assert (found.zeros, found.zero_filters, found.crushed) == (5, (1,), None)
    assert found.largest == (-float(np.iinfo(dtype).min) if dtype.startswith("int") else 1)
    assert found.smallest == 1
    assert found.duplicate_filters == (0 if dtype.startswith("int") else 1)


NARROW = "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz int4 uint4 float4_e2m1fn".split()


@pytest.mark.parametrize("name", NARROW)
def test_narrow_types(name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    array = np.array([0, 1, -2, 3, 1] if name != "uint4" else [0, 1, 2, 3, 1], np.float32).astype(dtype)
    found = statistics(array)  # five numbers: the last byte of a 4-bit type is half padding
    assert (found.count, found.zeros, found.nan, found.inf) == (5, 1, 0, 0)
    assert (found.largest, found.smallest) == (3.0, 1.0)


def test_filters():
    array = np.zeros((6, 3, 3), np.float32)
    array[1], array[3], array[4] = 2, 2, 5
    found = statistics(array)
    assert found.zero_filters == (0, 2, 5)
    assert found.zero_filter_count == 3
    assert found.duplicate_filters == 1  # row 3 repeats row 1; rows of zeros are counted apart


def test_rows_that_agree_only_at_sampled_places_are_no_duplicates():
    array = np.ones((3, 1000), np.float32)
    array[1, 300] = 2
    assert statistics(array).duplicate_filters == 1  # rows 0 and 2


@pytest.mark.parametrize("block", [24, 96, 4096])
def test_blocks_don_t_change_the_answer(monkeypatch, block):
    rng = np.random.default_rng(1)
    array = rng.standard_normal((9, 40)).astype(np.float32)
    array[4], array[7], array[2, 5] = 0, array[1], np.nan
    whole = statistics(array)
    monkeypatch.setattr(streaming, "BLOCK", block)
    assert statistics(array) == whole
    assert whole.zero_filters == (4,)
    assert whole.duplicate_filters == 1


def test_equal_tensors_have_equal_digests():
    array = np.arange(300, dtype=np.float32)
    other = array[::-1].copy()  # the same counts, other bytes
    names = ("a", "b", "c")
    found = measure(model_of(*map(numpy_helper.from_array, (array, array, other), names)))
    a, b, c = (found.find(name) for name in names)
    assert a.digest == b.digest != c.digest


def test_every_place_that_holds_numbers():
    tensor = numpy_helper.from_array(np.float32([1, 2]), "")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor)], "then", [], [],
        [numpy_helper.from_array(np.float32([3]), "inside")],
    )  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["k"], value=tensor),
        helper.make_node("If", ["cond"], ["y"], name="if", then_branch=inner, else_branch=inner),
    ]
    found = measure(model_of(numpy_helper.from_array(np.float32([4]), "w"), nodes=nodes))
    assert {(row.scope, row.name) for row in found} == {
        ("", "w"), ("", "k"),
        ("if.then_branch/", "inside"), ("if.then_branch/", "c"),
        ("if.else_branch/", "inside"), ("if.else_branch/", "c"),
    }  # fmt: skip


def test_strings_are_left_out_and_hollow_tensors_told():
    text = helper.make_tensor("s", TensorProto.STRING, [1], [b"x"])
    hollow = TensorProto(name="h", data_type=1, dims=[4])
    found = measure(model_of(text, hollow))
    assert found.tensors == ()
    assert [name for name, _ in found.unread] == ["h"]


def test_external_and_mapped_data_stay_flat(tmp_path):
    """Pages of a mapped file are let go: resident memory doesn't grow with the file."""
    rows = np.ones((24, 1 << 18), np.float32)  # 24 MiB, above the size below which files are read whole
    rows[3, 5] = np.nan
    path = tmp_path / "m.onnx"
    proto = helper.make_model(helper.make_graph([], "g", [], [], [numpy_helper.from_array(rows, "w")]))
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (found,) = measure(load(path)).tensors
    assert (found.nan, found.first_bad) == (1, 3 * (1 << 18) + 5)
    assert found.duplicate_filters == 22


def test_missing_external_data_is_told(tmp_path):
    path = tmp_path / "m.onnx"
    tensor = numpy_helper.from_array(np.ones(99, np.float32), "w")
    onnx.save(
        helper.make_model(helper.make_graph([], "g", [], [], [tensor])), path,
        save_as_external_data=True, location="w.bin", size_threshold=0,
    )  # fmt: skip
    (tmp_path / "w.bin").unlink()
    found = measure(load(path))
    assert found.tensors == ()
    assert "w.bin" in found.unread[0][1]


def test_first_of_empty_and_scalar():
    assert statistics(np.zeros((0, 3), np.float32)).count == 0
    assert statistics(np.float32(-2)).largest == 2.0
