"""Saving: whole or not at all, without holding payloads, with weights in or beside the file."""

from __future__ import annotations

import os
import stat
import tracemalloc
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope.errors import ExternalDataError, FileError, UsageError
from onnxscope.files import write
from onnxscope.files.read import load, loads
from onnxscope.files.write import dumps, save
from onnxscope.graph import Model, Tensor

RNG = np.random.default_rng(0)
WEIGHT = RNG.random((64, 32), np.float32)
BIAS = RNG.random(32, np.float32)
INNER = RNG.random((32, 32), np.float32)


@dataclass(frozen=True)
class Broken:
    """Numbers that can't be read when their turn comes."""

    error: BaseException
    kind: str = "generated"
    location: str = "nowhere"

    def view(self) -> memoryview:
        raise self.error


def network() -> onnx.ModelProto:
    """Gemm, then an If whose branch has an initializer of its own, then an Add of a Constant."""
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["h", "inner"], ["r"])], "b", [],
        [helper.make_tensor_value_info("r", 1, None)], [numpy_helper.from_array(INNER, "inner")],
    )  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("If", ["c"], ["i"], then_branch=branch, else_branch=branch),
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(INNER[0], "k")),
        helper.make_node("Add", ["i", "k"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, ["N", 64]), helper.make_tensor_value_info("c", 9, [])]
    outputs = [helper.make_tensor_value_info("y", 1, ["N", 32])]
    weights = [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    return session.run(None, {"x": x, "c": np.array(True)})[0]


def broken(model: Model, error: BaseException) -> Model:
    """The model with one more initializer, the last to be written, that can't be read."""
    tensor = Tensor("bad", 1, (600,), Broken(error))
    return replace(model, graph=replace(model.graph, tensors=(*model.graph.tensors, tensor)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.onnx"
    path.write_bytes(network().SerializeToString())
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_copy_is_the_same_file(source: Path) -> None:
    target = source.with_name("copy.onnx")
    assert save(load(source), target) == [str(target)]
    assert target.read_bytes() == source.read_bytes()
    assert names(source.parent) == {"source.onnx", "copy.onnx"}


def test_a_textual_model_becomes_a_binary_one(source: Path) -> None:
    text = source.with_name("m.onnxtxt")
    text.write_text(onnx.printer.to_text(onnx.load(source)))
    with pytest.raises(UsageError, match="it is never written"):
        save(load(text), text, force=True)
    save(load(text), source.with_name("m.onnx"))
    np.testing.assert_array_equal(run(source.with_name("m.onnx")), run(source))


def test_a_new_file_has_the_permissions_that_others_have(source: Path) -> None:
    save(load(source), source.with_name("copy.onnx"))
    plain = source.with_name("plain")
    plain.touch()
    assert stat.S_IMODE(source.with_name("copy.onnx").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_an_existing_file_needs_force(source: Path) -> None:
    target = source.with_name("old.onnx")
    target.write_text("precious")
    with pytest.raises(UsageError, match=r"old.onnx: the file exists; give --force") as caught:
        save(load(source), target)
    assert caught.value.exit_code == 2
    assert target.read_text() == "precious"
    save(load(source), target, force=True)
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("force", [False, True])
def test_the_source_is_never_written(source: Path, force: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    before = source.read_bytes()
    source.with_name("soft.onnx").symlink_to(source)
    os.link(source, source.with_name("hard.onnx"))
    monkeypatch.chdir(source.parent)
    for target in (source, "source.onnx", "./source.onnx", "soft.onnx", "hard.onnx"):
        with pytest.raises(UsageError, match="it is never written"):
            save(load(source), target, force=force)
    with pytest.raises(UsageError, match="it is never written"):
        save(load(source.with_name("soft.onnx")), source, force=force)
    assert source.read_bytes() == before


def test_external_files_of_the_source_are_never_written(source: Path) -> None:
    save(load(source), source.with_name("a.onnx"), external_data=True)
    data = source.with_name("a.onnx.data")
    before = data.read_bytes()
    model = load(source.with_name("a.onnx"))
    with pytest.raises(UsageError, match="it is never written"):
        save(model, data, force=True)
    source.with_name("b.onnx.data").symlink_to(data)
    with pytest.raises(UsageError, match=r"b.onnx.data: .* it is never written"):
        save(model, source.with_name("b.onnx"), external_data=True, force=True)
    assert data.read_bytes() == before


def test_targets_that_are_no_files(source: Path) -> None:
    model, folder = load(source), source.parent
    os.mkfifo(folder / "pipe")
    cases = {
        folder: "this is no regular file",
        folder / "pipe": "this is no regular file",
        Path(os.devnull): "this is no regular file",
        folder / "gone" / "m.onnx": "the folder does not exist",
        source / "m.onnx": "the folder does not exist",
        folder / ("n" * 300): "can't be written: File name too long",
    }
    for target, message in cases.items():
        with pytest.raises(UsageError, match=message):
            save(model, target, force=True)
    assert names(folder) == {"source.onnx", "pipe"}


@pytest.mark.parametrize("external_data", [False, True])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileError("gone"), FileError),
        (OSError(28, "No space left on device"), UsageError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failure_leaves_nothing_and_keeps_what_was_there(
    source: Path, external_data: bool, error: BaseException, expected: type[BaseException]
) -> None:
    target = source.with_name("old.onnx")
    beside = source.with_name("old.onnx.data")
    target.write_text("precious")
    beside.write_text("too")
    model = broken(load(source), error)
    with pytest.raises(expected):
        save(model, target, external_data=external_data, force=True)
    assert (target.read_text(), beside.read_text()) == ("precious", "too")
    with pytest.raises(expected):
        save(model, source.with_name("new.onnx"), external_data=external_data)
    assert names(source.parent) == {"source.onnx", "old.onnx", "old.onnx.data"}


def test_a_source_that_shrinks_while_it_is_copied(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros(5 << 20, np.float32), "w")  # above the size that is read whole
    graph = helper.make_graph([], "g", [], [], [weight])
    onnx.save(helper.make_model(graph), tmp_path / "source.onnx")
    model = load(tmp_path / "source.onnx")
    os.truncate(tmp_path / "source.onnx", 10 << 20)
    with pytest.raises(FileError, match=r"source.onnx: the file has shrunk"):
        save(Model(replace(model.graph, rest=()), 8, path=model.path), tmp_path / "copy.onnx")
    assert names(tmp_path) == {"source.onnx"}


def test_a_kernel_that_takes_less_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """write(2) may be partial, for one above 2 GB."""

    class Slow(FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[: 1 + len(data) // 3])

    weight = numpy_helper.from_array(RNG.integers(0, 256, 1 << 18, np.uint8), "w")
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [], [weight])
    onnx.save(helper.make_model(graph), tmp_path / "source.onnx")
    model = load(tmp_path / "source.onnx")
    monkeypatch.setattr("builtins.open", lambda path, mode, buffering: Slow(path, mode.replace("b", "")))
    save(model, tmp_path / "copy.onnx")
    monkeypatch.undo()
    assert (tmp_path / "copy.onnx").read_bytes() == (tmp_path / "source.onnx").read_bytes()


def test_payloads_are_streamed(tmp_path: Path) -> None:
    size = 96 << 20
    weight = numpy_helper.from_array(RNG.integers(0, 256, size, np.uint8), "w")
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [], [weight])
    onnx.save(helper.make_model(graph), tmp_path / "source.onnx")
    model = load(tmp_path / "source.onnx")
    renamed = replace(model.graph, tensors=(replace(model.graph.tensors[0], name="v"),))
    del weight, graph
    tracemalloc.start()
    save(replace(model, graph=renamed), tmp_path / "inline.onnx")
    save(replace(model, graph=renamed), tmp_path / "external.onnx", external_data=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size // 16
    assert model.graph.tensors[0].storage.source.payload_bytes == 0
    expected = model.graph.tensors[0].array()
    for name in ("inline.onnx", "external.onnx"):
        np.testing.assert_array_equal(load(tmp_path / name).graph.tensors[0].array(), expected)


# External data


def test_external_data(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "m.onnx"
    target.parent.mkdir()
    assert save(load(source), target, external_data=True) == [str(target), f"{target}.data"]
    proto = onnx.load(target, load_external_data=False)
    entries = {
        tensor.name: {item.key: item.value for item in tensor.external_data} for tensor in initializers(proto)
    }
    # b has 128 bytes and stays, the others start on pages, in the order of the graph
    assert entries == {
        "w": {"location": "m.onnx.data", "offset": "0", "length": "8192"},
        "b": {},
        "inner": {"location": "m.onnx.data", "offset": entries["inner"]["offset"], "length": "4096"},
    }
    assert int(entries["inner"]["offset"]) % 4096 == 0
    onnx.checker.check_model(str(target))
    assert same_arrays(onnx.load(target), onnx.load(source))
    np.testing.assert_array_equal(run(target), run(source))


def initializers(proto: onnx.ModelProto) -> list[TensorProto]:
    found = list(proto.graph.initializer)
    for node in proto.graph.node:
        for attribute in node.attribute:
            found += attribute.g.initializer
    return found


def same_arrays(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    pairs = zip(initializers(a), initializers(b), strict=True)
    return all(np.array_equal(numpy_helper.to_array(x), numpy_helper.to_array(y)) for x, y in pairs)


def test_external_data_of_the_source_stays_where_the_folder_is_the_same(source: Path) -> None:
    save(load(source), source.with_name("a.onnx"), external_data=True)
    assert save(load(source.with_name("a.onnx")), source.with_name("b.onnx")) == [
        str(source.with_name("b.onnx"))
    ]
    assert source.with_name("b.onnx").read_bytes() == source.with_name("a.onnx").read_bytes()
    np.testing.assert_array_equal(run(source.with_name("b.onnx")), run(source))


@pytest.mark.parametrize("external_data", [False, True])
def test_external_data_of_the_source_moves_along_to_another_folder(
    source: Path, tmp_path: Path, external_data: bool
) -> None:
    save(load(source), source.with_name("a.onnx"), external_data=True)
    target = tmp_path / "out" / "m.onnx"
    target.parent.mkdir()
    save(load(source.with_name("a.onnx")), target, external_data=external_data)
    assert names(target.parent) == ({"m.onnx", "m.onnx.data"} if external_data else {"m.onnx"})
    source.with_name("a.onnx.data").unlink()
    np.testing.assert_array_equal(run(target), run(source))


def test_external_numbers_of_functions_and_sparse_tensors_move_along(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "w.bin").write_bytes(np.float32([1, 2]).tobytes())
    proto = TensorProto(name="v", data_type=1, dims=[2], data_location=1)
    proto.external_data.add(key="location", value="w.bin")
    ids = helper.make_tensor("i", TensorProto.INT64, [2], [0, 3])
    sparse = onnx.SparseTensorProto(values=proto, indices=ids, dims=[4])
    nodes = [
        helper.make_node("Constant", [], ["a"], value=proto),
        helper.make_node("Constant", [], ["b"], sparse_value=sparse, doc_string="kept"),
    ]
    function = helper.make_function("d", "F", [], ["a"], nodes, [helper.make_opsetid("", 18)])
    graph = helper.make_graph(nodes, "g", [], [], sparse_initializer=[sparse])
    (tmp_path / "in" / "m.onnx").write_bytes(
        helper.make_model(graph, functions=[function]).SerializeToString()
    )
    save(load(tmp_path / "in" / "m.onnx"), tmp_path / "out" / "m.onnx")
    assert names(tmp_path / "out") == {"m.onnx"}
    moved = load(tmp_path / "out" / "m.onnx")
    for graph in (moved.graph, moved.functions[0].body):
        assert graph.nodes[0].attribute("value").items() == (1.0, 2.0)
        assert graph.nodes[1].attribute("sparse_value").values.items() == (1.0, 2.0)
        assert graph.nodes[1].doc == "kept"
    assert moved.graph.sparse[0].values.items() == (1.0, 2.0)


def test_missing_external_data_may_stay_missing_but_not_move(source: Path, tmp_path: Path) -> None:
    save(load(source), source.with_name("a.onnx"), external_data=True)
    source.with_name("a.onnx.data").unlink()
    save(load(source.with_name("a.onnx")), source.with_name("b.onnx"))
    (tmp_path / "out").mkdir()
    with pytest.raises(ExternalDataError, match=r"'a\.onnx\.data' is missing"):
        save(load(source.with_name("a.onnx")), tmp_path / "out" / "c.onnx")
    assert names(tmp_path / "out") == set()


def test_a_renamed_external_tensor_still_refers_to_its_file(source: Path) -> None:
    save(load(source), source.with_name("a.onnx"), external_data=True)
    model = load(source.with_name("a.onnx"))
    first, second = model.graph.tensors
    graph = replace(model.graph, tensors=(replace(first, name="v"), second))
    save(replace(model, graph=graph), source.with_name("b.onnx"))
    again = load(source.with_name("b.onnx")).graph.tensors[0]
    assert (again.name, again.external) == ("v", first.external)
    np.testing.assert_array_equal(again.array(), WEIGHT)


def test_an_external_file_from_an_earlier_save_needs_force(source: Path) -> None:
    source.with_name("m.onnx.data").write_text("precious")
    with pytest.raises(UsageError, match=r"m\.onnx\.data: the file exists"):
        save(load(source), source.with_name("m.onnx"), external_data=True)
    assert names(source.parent) == {"source.onnx", "m.onnx.data"}


def test_beyond_the_limit_weights_go_beside_without_being_asked(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "SINGLE_FILE_LIMIT", 8000)
    target = source.with_name("m.onnx")
    assert save(load(source), target) == [str(target), f"{target}.data"]
    np.testing.assert_array_equal(run(target), run(source))
    with pytest.raises(FileError, match="save it with external data"):
        dumps(load(source))
    monkeypatch.setattr(write, "SINGLE_FILE_LIMIT", 100)
    with pytest.raises(FileError, match="only initializers can go"):
        save(load(source), source.with_name("n.onnx"))


def test_a_model_without_large_weights_gets_no_external_file(tmp_path: Path) -> None:
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(BIAS, "b")])
    model = loads(helper.make_model(graph).SerializeToString())
    assert save(model, tmp_path / "m.onnx", external_data=True) == [str(tmp_path / "m.onnx")]
    assert names(tmp_path) == {"m.onnx"}


def test_external_numbers_from_typed_fields_and_strings_that_stay(tmp_path: Path) -> None:
    ids = helper.make_tensor("ids", TensorProto.INT64, [300], range(300))
    texts = helper.make_tensor("texts", TensorProto.STRING, [400], [b"text"] * 400)
    model = loads(helper.make_model(helper.make_graph([], "g", [], [], [ids, texts])).SerializeToString())
    save(model, tmp_path / "m.onnx", external_data=True)
    assert (tmp_path / "m.onnx.data").read_bytes() == np.arange(300).tobytes()
    proto = onnx.load(tmp_path / "m.onnx")
    assert list(proto.graph.initializer[1].string_data) == [b"text"] * 400
