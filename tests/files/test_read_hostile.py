"""Damaged and hostile files: a model or one FileError, never another exception, never a hang."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from protos import small

from onnxscope.errors import FileError
from onnxscope.files.read import loads
from onnxscope.files.wire import encode_bytes, encode_header, encode_int
from onnxscope.graph import Graph, Model, SparseTensor, Tensor

BYTES = small().SerializeToString()


def everything(model: Model) -> None:
    """Look at all that a model says; the only errors allowed are those that a caller expects."""
    for tensor in [
        *tensors(model.graph),
        *(t for function in model.functions for t in tensors(function.body)),
    ]:
        for ask in (tensor.items, tensor.array):
            try:
                ask()
            except (FileError, TypeError):
                continue


def tensors(graph: Graph) -> list[Tensor]:
    found = list(graph.tensors)
    for sparse in graph.sparse:
        found += [sparse.values, sparse.indices]
    for node in graph.nodes:
        for attribute in node.attributes:
            items = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
            for item in items:
                if isinstance(item, Tensor):
                    found.append(item)
                elif isinstance(item, SparseTensor):
                    found += [item.values, item.indices]
                elif isinstance(item, Graph):
                    found += tensors(item)
    return found


def readable(data: bytes) -> bool:
    try:
        model = loads(data)
    except FileError:
        return False
    everything(model)
    return True


def test_cut_at_every_byte() -> None:
    cuts = {length for length in range(1, len(BYTES)) if readable(BYTES[:length])}
    # Readable are the cuts between top-level fields behind the graph: there protobuf sees no fault either.
    start = BYTES.index(b"\x3a")
    assert cuts
    assert all(length > start + small().graph.ByteSize() for length in cuts)
    for length in cuts:
        onnx.ModelProto.FromString(BYTES[:length])


def test_a_cut_says_where() -> None:
    with pytest.raises(
        FileError, match=r"m.onnx, byte 5: the file is truncated: field 7 .* end of the file \(300 bytes\)"
    ):
        loads(BYTES[:300], "m.onnx")


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(BYTES) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes(flips: list[tuple[int, int]]) -> None:
    data = bytearray(BYTES)
    for place, byte in flips:
        data[place] = byte
    readable(bytes(data))


@settings(max_examples=200)
@given(st.integers(0, len(BYTES)), st.integers(0, len(BYTES)), st.binary(max_size=8))
def test_spliced_bytes(start: int, end: int, piece: bytes) -> None:
    readable(BYTES[:start] + piece + BYTES[end:])


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=200))
def test_random_bytes(data: bytes) -> None:
    readable(data)
    readable(b"\x08\x08\x3a" + encode_header(7, len(data))[1:] + data)  # as a graph


# Hostile files


def nested(levels: int) -> bytes:
    """A graph in a node in a graph, `levels` deep."""
    graph = b""
    for _ in range(levels):
        body = encode_bytes(1, b"g") + encode_bytes(6, graph) + encode_int(20, 5)
        graph = encode_bytes(1, encode_bytes(4, b"If") + encode_bytes(5, body))
    return encode_int(1, 8) + encode_bytes(7, graph)


def test_nesting_has_protobufs_limit() -> None:
    # Each level is three messages; protobuf's parsers stop at 100.
    assert onnx.ModelProto.FromString(nested(31))
    assert loads(nested(31)).graph.nodes[0].op == "If"
    for levels in (40, 20_000):
        with pytest.raises(FileError, match="nested more than 100 deep"):
            loads(nested(levels))


def test_types_nested_without_end() -> None:
    body = b""
    for _ in range(20_000):
        body = encode_bytes(4, encode_bytes(1, body))
    value = encode_bytes(1, b"x") + encode_bytes(2, body)
    with pytest.raises(FileError, match="nested more than 100 deep"):
        loads(encode_int(1, 8) + encode_bytes(7, encode_bytes(11, value)))


def test_a_billion_of_everything() -> None:
    dims = TensorProto(name="w", data_type=1, dims=[2**62] * 30, raw_data=b"\0" * 4)
    model = loads(helper.make_model(helper.make_graph([], "g", [], [], [dims])).SerializeToString())
    assert model.graph.tensors[0].count == 2 ** (62 * 30)
    with pytest.raises(FileError, match="'w' holds 4 bytes"):
        model.graph.tensors[0].array()
    length = b"\x3a" + b"\xff" * 9 + b"\x01"  # a graph of 2**64 - 1 bytes
    with pytest.raises(
        FileError, match=r"byte 13: the file is truncated: field 7 \(18446744073709551615 bytes\)"
    ):
        loads(b"\x08\x08" + length)


def test_a_million_empty_fields_take_no_time_and_little_room() -> None:
    unknown = encode_bytes(100, b"") * 1_000_000
    model = loads(BYTES + unknown)
    assert model.rest[-1].length == len(unknown)  # one span, not a million


def test_too_many_dims_to_multiply() -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[2**62] * 200_000)
    with pytest.raises(FileError, match="tensor 'w' has 200000 dims"):
        loads(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())


def test_one_type_in_a_hundred_thousand_pieces() -> None:
    value = encode_bytes(1, b"x") + encode_bytes(2, encode_bytes(1, encode_int(1, 7)) * 100_000)
    model = loads(encode_int(1, 8) + encode_bytes(7, encode_bytes(11, value)))
    assert model.graph.inputs[0].type.dtype == 7


def test_numbers_that_end_in_the_middle() -> None:
    tensor = encode_int(1, 2) + encode_int(2, 7) + encode_bytes(7, b"\x01\x80") + encode_bytes(8, b"w")
    model = loads(encode_int(1, 8) + encode_bytes(7, encode_bytes(5, tensor)), "m.onnx")
    with pytest.raises(
        FileError, match=r"m.onnx, int64_data at byte \d+: tensor 'w': a number runs past the end"
    ):
        model.graph.tensors[0].items()
