"""Numbers of tensors in every element type and field, against onnx's own `numpy_helper.to_array`."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope import dtypes
from onnxscope.errors import FileError
from onnxscope.files.read import loads
from onnxscope.graph import Tensor

NUMERIC = [dtype for dtype in dtypes.BY_CODE.values() if dtype.kind != "string"]


def read(proto: TensorProto) -> Tensor:
    """The tensor as it comes back as the initializer of a model."""
    graph = helper.make_graph([], "g", [], [], [proto])
    return loads(helper.make_model(graph).SerializeToString()).graph.tensors[0]


def sample(dtype: dtypes.DType, dims: tuple[int, ...]) -> np.ndarray:
    """Every bit pattern is as good as any: bytes 0, 37, 74, ... read as that type."""
    count = int(np.prod(dims))
    if dtype.bits is not None and dtype.bits < 8:
        codes = (np.arange(count) * 5 % (1 << dtype.bits)).astype(np.uint8)
        return (codes if dtype.kind == "uint" else codes.view(np.int8)).astype(dtype.numpy).reshape(dims)
    if dtype.kind == "bool":
        return (np.arange(count) % 3 == 0).reshape(dims)
    data = (np.arange(count * (dtype.bits or 8) // 8) * 37 % 256).astype(np.uint8)
    return data.view(dtype.numpy).reshape(dims)


def typed(dtype: dtypes.DType, array: np.ndarray) -> TensorProto:
    """The array in the typed field of its element type, as onnx.proto describes it."""
    packed = numpy_helper.from_array(array).raw_data if dtype.bits != 6 else b""
    proto = TensorProto(name="t", data_type=dtype.code, dims=array.shape)
    if dtype.name in ("float32", "complex64"):
        proto.float_data.extend(np.frombuffer(packed, "<f4"))
    elif dtype.name in ("float64", "complex128"):
        proto.double_data.extend(np.frombuffer(packed, "<f8"))
    elif dtype.name == "int64":
        proto.int64_data.extend(np.frombuffer(packed, "<i8"))
    elif dtype.name in ("uint32", "uint64"):
        proto.uint64_data.extend(np.frombuffer(packed, dtype.numpy))
    elif dtype.name in ("int8", "int16", "int32"):
        proto.int32_data.extend(np.frombuffer(packed, dtype.numpy))
    elif dtype.bits == 6:
        proto.int32_data.extend(array.view(np.uint8).ravel() & 0x3F)
    else:  # bit patterns; one byte with two (four) numbers for the narrow types
        proto.int32_data.extend(np.frombuffer(packed, "<u2" if dtype.bits == 16 else "u1"))
    return proto


def same_bits(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("dims", [(2, 3), (7,), (), (0, 4)])
@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda dtype: dtype.name)
def test_raw_numbers(dtype: dtypes.DType, dims: tuple[int, ...]) -> None:
    proto = numpy_helper.from_array(sample(dtype, dims), "t")
    assert proto.data_type == dtype.code
    tensor = read(proto)
    assert tensor.storage is not None
    assert tensor.storage.kind == "raw"
    assert bytes(tensor.storage.view()) == proto.raw_data
    assert same_bits(tensor.array(), numpy_helper.to_array(proto))


@pytest.mark.parametrize("dims", [(2, 3), (7,), ()])
@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda dtype: dtype.name)
def test_typed_numbers(dtype: dtypes.DType, dims: tuple[int, ...]) -> None:
    proto = typed(dtype, sample(dtype, dims))
    tensor = read(proto)
    assert tensor.storage is not None
    assert tensor.storage.kind == "typed"
    assert len(tensor.storage.view()) == tensor.nbytes
    assert same_bits(tensor.array(), numpy_helper.to_array(proto))


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda dtype: dtype.name)
def test_items_are_the_numbers_of_the_array(dtype: dtypes.DType) -> None:
    tensor = read(numpy_helper.from_array(sample(dtype, (7,)), "t"))
    if dtype.kind == "complex":
        with pytest.raises(TypeError, match="no plain numbers"):
            tensor.items()
        return
    kind = bool if dtype.kind == "bool" else float if dtype.kind == "float" else int
    np.testing.assert_array_equal(tensor.items(), [kind(item) for item in tensor.array()])
    assert {item.__class__ for item in tensor.items()} == {kind}


def test_packed_floats_are_a_view_at_their_place_in_the_file() -> None:
    proto = helper.make_tensor("t", TensorProto.FLOAT, (3,), [1.0, 2.0, 3.0])
    data = helper.make_model(helper.make_graph([], "g", [], [], [proto])).SerializeToString()
    stored = loads(data, "m.onnx").graph.tensors[0].storage
    place = data.index(np.float32([1, 2, 3]).tobytes())
    assert stored is not None
    assert stored.location == f"m.onnx, float_data at byte {place}"
    assert stored.view().obj is data


def unpacked(number: int, wire: int, items: list[bytes]) -> bytes:
    return b"".join(bytes([number << 3 | wire]) + item for item in items)


@pytest.mark.parametrize(
    ("dtype", "number", "wire", "items"),
    [
        (TensorProto.FLOAT, 4, 5, [np.float32(value).tobytes() for value in (1.5, -2.0, 3.0)]),
        (TensorProto.INT32, 5, 0, [b"\x01", b"\x96\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]),
        (TensorProto.INT64, 7, 0, [b"\x01", b"\x96\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]),
        (TensorProto.DOUBLE, 10, 1, [np.float64(value).tobytes() for value in (1.5, -2.0, 3.0)]),
        (TensorProto.UINT64, 11, 0, [b"\x01", b"\x96\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]),
    ],
)
def test_unpacked_and_mixed_lists(dtype: int, number: int, wire: int, items: list[bytes]) -> None:
    head = TensorProto(name="t", data_type=dtype, dims=[6]).SerializeToString()
    packed = b"".join(items)
    body = head + unpacked(number, wire, items[:2]) + bytes([number << 3 | 2, len(packed)]) + packed
    body += unpacked(number, wire, items[2:])
    proto = TensorProto.FromString(body)
    model = onnx.ModelProto(ir_version=8).SerializeToString()
    graph = b"\x2a" + bytes([len(body)]) + body
    tensor = loads(model + b"\x3a" + bytes([len(graph)]) + graph).graph.tensors[0]
    assert same_bits(tensor.array(), numpy_helper.to_array(proto))


def test_strings_have_bytes_but_no_numbers() -> None:
    tensor = read(helper.make_tensor("t", TensorProto.STRING, (2,), [b"ab", b"\xff\x00\x01"]))
    assert tensor.storage is not None
    assert tensor.storage.kind == "typed"
    assert "string_data at byte" in tensor.storage.location
    assert tensor.storage.strings() == (b"ab", b"\xff\x00\x01")
    with pytest.raises(TypeError, match="strings"):
        tensor.storage.view()
    with pytest.raises(TypeError, match="string"):
        tensor.array()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"data_type": 1, "dims": [3], "raw_data": b"\0" * 8},
            "holds 8 bytes of raw_data where .* ask for 12",
        ),
        (
            {"data_type": 22, "dims": [3], "raw_data": b"\0" * 3},
            "holds 3 bytes of raw_data where .* ask for 2",
        ),
        (
            {"data_type": 1, "dims": [10**9, 10**9], "raw_data": b"\0" * 8},
            "holds 8 bytes of raw_data .* ask for 4000000000000000000",
        ),
        (
            {"data_type": 1, "dims": [2], "float_data": [1.0]},
            "holds 4 bytes of float_data where .* ask for 8",
        ),
        ({"data_type": 11, "dims": [], "double_data": [1, 2]}, "holds 16 bytes of double_data .* ask for 8"),
    ],
)
def test_numbers_that_dont_fit_are_noted_at_once_and_refused_when_viewed(fields: dict, message: str) -> None:
    graph = helper.make_graph([], "g", [], [], [TensorProto(name="w", **fields)])
    model = loads(helper.make_model(graph).SerializeToString())
    assert [oddity.where for oddity in model.oddities] == ["tensor 'w'"]
    with pytest.raises(FileError, match=f"tensor 'w' {message}"):
        model.graph.tensors[0].storage.view()
    with pytest.raises(FileError, match="tensor 'w'"):
        model.graph.tensors[0].array()


@pytest.mark.parametrize("dims", [[-1], [-2, -3], [4, -9223372036854775808]])
@pytest.mark.parametrize("data", [{"raw_data": b"\0" * 24}, {"float_data": [0.0] * 6}, {"data_location": 1}])
def test_negative_sizes(dims: list[int], data: dict) -> None:
    graph = helper.make_graph([], "g", [], [], [TensorProto(name="w", data_type=1, dims=dims, **data)])
    model = loads(helper.make_model(graph).SerializeToString())
    assert model.oddities[0].message == f"has a negative size in its dims {dims}"
    for ask in (model.graph.tensors[0].array, model.graph.tensors[0].items):
        with pytest.raises(FileError):
            ask()


def test_varints_are_counted_only_when_they_are_viewed() -> None:
    graph = helper.make_graph([], "g", [], [], [TensorProto(name="w", data_type=7, dims=[3], int64_data=[1])])
    model = loads(helper.make_model(graph).SerializeToString())
    assert model.oddities == ()
    with pytest.raises(FileError, match="holds 8 bytes of numbers in int64_data where its dims ask for 24"):
        model.graph.tensors[0].items()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"data_type": 1, "float_data": [1.0], "double_data": [1.0]},
            "has numbers in double_data and float_data",
        ),
        ({"data_type": 1, "raw_data": b"\0\0\x80?", "float_data": [1.0]}, "in float_data and raw_data"),
        ({"data_type": 1, "double_data": [1.0]}, "has numbers in double_data, which float32 doesn't use"),
        ({"data_type": 99, "int32_data": [1]}, "has numbers in int32_data, which type 99 doesn't use"),
        ({"data_type": 1, "float_data": [1.0], "segment": TensorProto.Segment(begin=0, end=4)}, "segments"),
    ],
)
def test_numbers_in_the_wrong_field_are_noted(fields: dict, message: str) -> None:
    graph = helper.make_graph([], "g", [], [], [TensorProto(name="w", **fields)])
    model = loads(helper.make_model(graph).SerializeToString())
    assert message in model.oddities[0].message


def test_hollow_and_empty_tensors() -> None:
    hollow = read(TensorProto(name="w", data_type=1, dims=[2]))
    assert hollow.storage is None
    with pytest.raises(FileError, match="'w' holds no numbers"):
        hollow.array()
    empty = read(TensorProto(name="w", data_type=7, dims=[0]))
    assert empty.storage is not None
    assert empty.items() == ()
    assert empty.array().shape == (0,)
