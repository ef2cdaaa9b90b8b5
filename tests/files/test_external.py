"""External data: found beside the model and nowhere else, and every way in which it can be wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

from onnxscope.errors import ExternalDataError
from onnxscope.files.external import problem
from onnxscope.files.read import load, loads
from onnxscope.graph import Tensor

NUMBERS = np.arange(6, dtype=np.float32)


def external_model(path: Path, dims: list[int], **entries: object) -> Path:
    """A model whose one initializer `w` has these external-data entries."""
    tensor = TensorProto(name="w", data_type=1, dims=dims, data_location=TensorProto.EXTERNAL)
    tensor.external_data.extend(
        StringStringEntryProto(key=key, value=str(value))
        for key, value in entries.items()
        if value is not None
    )
    path.write_bytes(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())
    return path


def weight(path: Path) -> Tensor:
    return load(path).graph.tensors[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `m` for models with the file w.bin of 24 bytes, beside a file that is not their business."""
    (tmp_path / "secret.bin").write_bytes(b"\0" * 24)
    (tmp_path / "m" / "sub").mkdir(parents=True)
    (tmp_path / "m" / "w.bin").write_bytes(NUMBERS.tobytes())
    (tmp_path / "m" / "sub" / "w.bin").write_bytes(NUMBERS[::-1].tobytes())
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({}, NUMBERS),
        ({"offset": 0, "length": 24}, NUMBERS),
        ({"offset": 8, "length": 16}, NUMBERS[2:]),
        ({"offset": 8}, NUMBERS[2:]),
        ({"length": 8}, NUMBERS[:2]),
        ({"location": "sub/w.bin"}, NUMBERS[::-1]),
        ({"location": "./w.bin"}, NUMBERS),
        ({"checksum": "0" * 40}, NUMBERS),
    ],
)
def test_ranges(folder: Path, entries: dict[str, object], expected: np.ndarray) -> None:
    path = external_model(folder / "a.onnx", [len(expected)], **{"location": "w.bin", **entries})
    tensor = weight(path)
    assert tensor.storage is not None
    assert tensor.storage.kind == "external"
    assert problem(tensor) is None
    np.testing.assert_array_equal(tensor.array(), expected)
    assert tensor.items() == tuple(expected)


def test_the_place_is_relative_to_the_model_and_not_to_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    external_model(folder / "a.onnx", [6], location="w.bin")
    (folder / "sub" / "deep").mkdir()
    monkeypatch.chdir(folder / "sub")  # has another w.bin
    np.testing.assert_array_equal(weight(Path("../a.onnx")).array(), NUMBERS)


@pytest.mark.parametrize(
    ("dims", "entries", "message"),
    [
        ([6], {"location": None}, "without a location"),
        ([6], {"location": ""}, "without a location"),
        ([6], {"location": "nowhere.bin"}, "'nowhere.bin' is missing"),
        ([6], {"location": "../secret.bin"}, r"'../secret.bin' leaves the model's folder by '\.\.'"),
        ([6], {"location": "sub/../../secret.bin"}, "leaves the model's folder"),
        ([6], {"location": "sub\\..\\..\\secret.bin"}, "leaves the model's folder"),
        ([6], {"location": "/etc/passwd"}, "'/etc/passwd' is an absolute path"),
        ([6], {"location": "\\\\host\\share"}, "is an absolute path"),
        ([6], {"location": "C:\\w.bin"}, "is an absolute path"),
        ([6], {"location": "w\0.bin"}, "is an absolute path|null"),
        ([6], {"location": "sub"}, "'sub' is not a regular file"),
        ([6], {"offset": -8}, "offset '-8', which is no natural number"),
        ([6], {"offset": "1e3"}, "offset '1e3', which is no natural number"),
        ([6], {"offset": "٣"}, "which is no natural number"),
        ([6], {"length": -1}, "length '-1', which is no natural number"),
        ([6], {"length": 20}, "has 20 bytes where its type and dims ask for 24"),
        ([6], {"offset": 8}, "has 24 bytes, not the range 8 to 32"),
        ([6], {"offset": 2**70}, f"not the range {2**70} to {2**70 + 24}"),
        ([7], {}, "has 24 bytes, not the range 0 to 28"),
        ([10**9, 10**9], {}, "not the range 0 to 4000000000000000000"),
        ([-6], {}, "negative size"),
    ],
)
def test_what_is_refused(folder: Path, dims: list[int], entries: dict[str, object], message: str) -> None:
    path = external_model(folder / "a.onnx", dims, **{"location": "w.bin", **entries})
    tensor = weight(path)
    found = problem(tensor)
    assert found is not None
    assert found.startswith("tensor 'w'")
    for ask in (tensor.array, tensor.items):
        with pytest.raises(ExternalDataError, match=message) as caught:
            ask()
        assert found == caught.value.message
        assert "\n" not in str(caught.value)


def test_links_out_of_the_folder(folder: Path) -> None:
    path = external_model(folder / "a.onnx", [6], location="link.bin")
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    with pytest.raises(ExternalDataError, match="leaves the model's folder by a symbolic link"):
        weight(path).array()
    (folder / "link.bin").unlink()
    (folder / "out").symlink_to(folder.parent)
    path = external_model(folder / "a.onnx", [6], location="out/secret.bin")
    with pytest.raises(ExternalDataError, match="leaves the model's folder by a symbolic link"):
        weight(path).array()
    (folder / "in.bin").symlink_to(folder / "w.bin")
    np.testing.assert_array_equal(
        weight(external_model(folder / "a.onnx", [6], location="in.bin")).array(), NUMBERS
    )


def test_hard_links(folder: Path) -> None:
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    path = external_model(folder / "a.onnx", [6], location="hard.bin")
    with pytest.raises(ExternalDataError, match="hard link"):
        weight(path).array()


def test_a_pipe_is_refused_without_waiting_for_it(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    path = external_model(folder / "a.onnx", [6], location="pipe")
    with pytest.raises(ExternalDataError, match="not a regular file"):
        weight(path).array()


def test_a_hub_cache_where_model_and_data_are_links(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    external_model(blobs / "0a1b", [6], location="model.onnx_data")
    (blobs / "2c3d").write_bytes(NUMBERS.tobytes())
    (snapshot / "model.onnx").symlink_to("../../blobs/0a1b")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/2c3d")
    np.testing.assert_array_equal(weight(snapshot / "model.onnx").array(), NUMBERS)


def test_a_linked_model_finds_the_data_beside_the_file_behind_the_link(folder: Path, tmp_path: Path) -> None:
    external_model(folder / "a.onnx", [6], location="w.bin")
    (tmp_path / "link.onnx").symlink_to(folder / "a.onnx")
    np.testing.assert_array_equal(weight(tmp_path / "link.onnx").array(), NUMBERS)


def test_a_model_without_a_folder(folder: Path) -> None:
    data = external_model(folder / "a.onnx", [6], location="w.bin").read_bytes()
    with pytest.raises(ExternalDataError, match="without a folder"):
        loads(data).graph.tensors[0].array()


def test_a_file_that_grows_after_it_was_opened(folder: Path) -> None:
    first = TensorProto(name="w", data_type=1, dims=[6], data_location=1)
    first.external_data.add(key="location", value="w.bin")
    second = TensorProto(name="v", data_type=1, dims=[6], data_location=1)
    second.external_data.extend(
        [
            StringStringEntryProto(key="location", value="w.bin"),
            StringStringEntryProto(key="offset", value="24"),
        ]
    )
    graph = helper.make_graph([], "g", [], [], [first, second])
    (folder / "a.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    mine, other = load(folder / "a.onnx").graph.tensors
    mine.array()  # opens the file
    (folder / "w.bin").write_bytes(bytes(48))
    assert other.storage is not None
    assert other.storage.location == "w.bin, byte 24"
    with pytest.raises(ExternalDataError, match=r"tensor 'v': its external file .*w\.bin' has changed"):
        other.array()


def test_closing_a_model_closes_its_external_files(folder: Path) -> None:
    tensor = weight(external_model(folder / "a.onnx", [6], location="w.bin"))
    tensor.array()
    source = tensor.storage.source
    (neighbour,) = (source.neighbour(os.path.realpath(folder / "w.bin")),)
    assert neighbour.fd is not None
    source.close()
    assert (source.fd, neighbour.fd) == (None, None)


def test_an_external_file_that_cannot_be_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = weight(external_model(folder / "a.onnx", [6], location="w.bin"))
    monkeypatch.setattr(
        os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(
        ExternalDataError, match=r"tensor 'w': its external file .* can't be opened: Permission denied"
    ):
        tensor.array()


def test_a_file_that_shrinks_after_the_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = external_model(folder / "a.onnx", [6], location="w.bin")
    tensor = weight(path)
    tensor.array()  # opens the file
    (folder / "w.bin").write_bytes(b"")
    with pytest.raises(ExternalDataError, match="not the range"):
        tensor.array()


def test_empty_tensors_need_no_bytes(folder: Path) -> None:
    (folder / "empty.bin").write_bytes(b"")
    assert weight(external_model(folder / "a.onnx", [0], location="empty.bin")).array().shape == (0,)


def test_several_files_written_by_onnx(tmp_path: Path) -> None:
    arrays = {f"w{place}": np.random.default_rng(place).random((64, 64), np.float32) for place in range(3)}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    node = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.arange(300.0), "c"))
    model = helper.make_model(helper.make_graph([node], "g", [], [], tensors))
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=False,
        size_threshold=0, convert_attribute=True,
    )  # fmt: skip
    graph = load(tmp_path / "m.onnx").graph
    assert len({dict(tensor.external)["location"] for tensor in graph.tensors}) == 3
    for tensor in graph.tensors:
        np.testing.assert_array_equal(tensor.array(), arrays[tensor.name])
    np.testing.assert_array_equal(graph.nodes[0].attribute("value").array(), np.arange(300.0))


def test_entries_without_the_flag_are_kept_but_not_used() -> None:
    tensor = numpy_helper.from_array(NUMBERS, "w")
    tensor.external_data.add(key="location", value="nowhere.bin")
    found = loads(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())
    assert found.graph.tensors[0].external == (("location", "nowhere.bin"),)
    np.testing.assert_array_equal(found.graph.tensors[0].array(), NUMBERS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"raw_data": b"\0\0\0\0"}, "tensor 'w' holds 4 bytes of raw_data where its type and dims ask for 8"),
        ({}, "tensor 'w' holds no numbers"),
        ({"float_data": [1.0, 2.0]}, None),
    ],
)
def test_problem_tells_of_tensors_in_the_model_file_too(fields: dict, message: str | None) -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[2], **fields)
    model = loads(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())
    assert problem(model.graph.tensors[0]) == message
