"""Loading: where models come from, what isn't read, what is said of files that are no models."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import json_format, text_format
from onnx import TensorProto, helper
from protos import same_model, small

from onnxscope.errors import FileError
from onnxscope.files import source as source_module
from onnxscope.files.read import load, loads
from onnxscope.files.source import Source
from onnxscope.files.wire import encode_bytes, encode_header, encode_int
from onnxscope.graph import Model

BYTES = small().SerializeToString()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(BYTES)
    return path


def sources(model: Model) -> set[Source]:
    return {node.origin.source for node in model.graph.nodes if node.origin}


# Where models come from


def test_a_path_as_text_or_object(file: Path) -> None:
    for path in (file, str(file)):
        model = load(path)
        same_model(model, small())
        assert (model.path, model.file_bytes) == (str(file), len(BYTES))


def test_a_linked_model(file: Path) -> None:
    link = file.with_name("link.onnx")
    link.symlink_to(file)
    model = load(link)
    assert model.path == str(link)
    assert {source.real for source in sources(model)} == {os.path.realpath(file)}


def test_bytes() -> None:
    model = loads(BYTES, "there.onnx")
    same_model(model, small())
    assert (model.path, model.file_bytes) == ("there.onnx", len(BYTES))


def test_standard_input(file: Path) -> None:
    piped = load("-", stdin=io.BytesIO(BYTES))
    with file.open("rb") as stream:
        redirected = load("-", stdin=stream)
    for model in (piped, redirected):
        same_model(model, small())
        assert (model.path, model.file_bytes) == ("-", len(BYTES))


@pytest.mark.parametrize("command", ["cat {} | {}", "{1} < {0}"])
def test_standard_input_of_a_process(file: Path, command: str) -> None:
    code = "from onnxscope.files.read import load; print(len(load('-').graph.nodes))"
    shell = command.format(file, f'{sys.executable} -c "{code}"')
    assert subprocess.run(shell, shell=True, check=True, capture_output=True).stdout == b"4\n"


def test_a_named_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(BYTES,))
    writer.start()
    model = load(tmp_path / "pipe")
    writer.join()
    same_model(model, small())


def test_a_pipe_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "PIPE_LIMIT", 1 << 16)
    with pytest.raises(FileError, match="more than 2 GiB came through the pipe"):
        load("-", stdin=io.BytesIO(bytes(1 << 22)))


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (".onnxtxt", onnx.printer.to_text(small())),
        (".onnx.txt", onnx.printer.to_text(small())),
        (".textproto", text_format.MessageToString(small())),
        (".pbtxt", text_format.MessageToString(small())),
        (".json", json_format.MessageToJson(small())),
        (".model", onnx.printer.to_text(small())),
    ],
)
def test_textual_models(tmp_path: Path, ending: str, text: str) -> None:
    path = tmp_path / f"m{ending}"
    path.write_text(text)
    model = load(path)
    assert [node.op for node in model.graph.nodes] == ["MatMul", "If", "Constant", "F"]
    assert model.graph.tensors[0].array().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (model.path, model.file_bytes) == (str(path), len(text.encode()))


def test_a_textual_model_finds_its_external_data(tmp_path: Path) -> None:
    proto = TensorProto(name="w", data_type=1, dims=[2], data_location=1)
    proto.external_data.add(key="location", value="w.bin")
    model = helper.make_model(helper.make_graph([], "g", [], [], [proto]))
    (tmp_path / "w.bin").write_bytes(np.float32([1, 2]).tobytes())
    (tmp_path / "m.textproto").write_text(text_format.MessageToString(model))
    assert load(tmp_path / "m.textproto").graph.tensors[0].items() == (1.0, 2.0)


# What is not read


def large(path: Path, size: int) -> None:
    """A model whose one initializer is a hole of `size` bytes: any length, and no room on disk."""
    tensor = TensorProto(name="w", data_type=2, dims=[size]).SerializeToString()
    raw = encode_header(9, size)
    node = encode_bytes(1, helper.make_node("Identity", ["w"], ["y"]).SerializeToString())
    initializer = encode_header(5, len(tensor) + len(raw) + size) + tensor + raw
    opset = encode_bytes(8, encode_int(2, 18))
    with path.open("wb") as file:
        file.write(encode_int(1, 8) + opset + encode_header(7, len(node) + len(initializer) + size))
        file.write(node + initializer)
        file.seek(size - 1, os.SEEK_CUR)
        file.write(b"\x07")


def test_a_file_beyond_2_gib_is_not_read(tmp_path: Path) -> None:
    size = 2_500_000_000
    large(tmp_path / "large.onnx", size)
    model = load(tmp_path / "large.onnx")
    (tensor,) = model.graph.tensors
    assert model.oddities == ()
    assert model.file_bytes > 1 << 31
    assert (tensor.count, tensor.nbytes) == (size, size)
    (source,) = sources(model)
    assert source.payload_bytes == 0
    assert tensor.storage is not None
    view = tensor.storage.view()
    assert (len(view), view[0], view[-1]) == (size, 0, 7)
    assert source.payload_bytes == size


def test_a_large_file_is_mapped_and_its_arrays_are_views(tmp_path: Path) -> None:
    large(tmp_path / "large.onnx", source_module.WHOLE)
    tensor = load(tmp_path / "large.onnx").graph.tensors[0]
    array = tensor.array()
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert array[-1] == 7
    del tensor
    assert array[-1] == 7  # the array keeps the map alive


def test_payload_bytes_counts_what_was_looked_at() -> None:
    model = loads(BYTES)
    (source,) = sources(model)
    assert source.payload_bytes == 0
    model.graph.tensors[0].array()
    assert source.payload_bytes == 8 * 4
    model.graph.tensors[1].items()
    assert source.payload_bytes == 8 * 4 + 3  # 1 and 300 as varints


def test_loading_imports_neither_onnx_nor_numpy(file: Path) -> None:
    code = (
        "import sys; from onnxscope.files.read import load; from onnxscope.files.write import dumps\n"
        f"dumps(load({str(file)!r}))\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'onnx', 'numpy', 'google'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_closing(tmp_path: Path) -> None:
    large(tmp_path / "large.onnx", source_module.WHOLE)
    model = load(tmp_path / "large.onnx")
    array = model.graph.tensors[0].array()
    (source,) = sources(model)
    assert source.fd is not None
    fd = source.fd
    source.close()
    source.close()  # twice does no harm
    assert array[-1] == 7
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts the open files of Linux")
def test_files_are_closed_with_the_last_value(file: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    model = load(file)
    assert len(os.listdir("/proc/self/fd")) > before
    del model
    assert len(os.listdir("/proc/self/fd")) == before


# What is no model


def archive(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"x")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "a JPEG picture, not an ONNX model"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a PNG picture"),
        (gzip.compress(BYTES), "a gzip archive: unpack it first"),
        (b"PK\x03\x04\x14\x00\x00\x00", "a ZIP archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "a TensorFlow Lite model"),
        (b"\x1c\x00\x00\x00ORTM\x14\x00", "onnxruntime's own format"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00" + b'{"w":{"dtype":"F32"}}', "a safetensors file"),
        (b"\x80\x02}q\x00.", "a Python pickle"),
        (b"<!DOCTYPE html>\n<html><head>", "a web page"),
        (b"\n\n  <html lang='en'>", "a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a git-lfs pointer.*git lfs pull",
        ),
        (b"hello\n", "a text file"),
        (b"name,op\nconv1,Conv\n", "a text file"),
        ("ein Text über Modelle".encode(), "a text file"),
        (b"{}", "a text file"),
        (b"\0" * 100, "not an ONNX model"),
        (bytes(range(256)), "not an ONNX model"),
        (b"\x08\x08", "no ONNX model"),
        (
            TensorProto(dims=[2], data_type=1, name="w", raw_data=b"\0" * 8).SerializeToString(),
            "n.* ONNX model",
        ),
        (helper.make_graph([], "g", [], []).SerializeToString(), "n.* ONNX model"),
        (helper.make_node("Relu", ["x"], ["y"]).SerializeToString(), "n.* ONNX model"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_an_archive_from_torch(tmp_path: Path) -> None:
    archive(tmp_path / "m.pt")
    with pytest.raises(FileError, match="PyTorch"):
        load(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        (".onnxtxt", b"this is nothing", "no ONNX model in onnxtxt form"),
        (".onnxtxt", b"\xff\xfe", "no ONNX model in onnxtxt form"),
        (".onnxtxt", b"hello {", "form: .ParseError at position .line: 1 column: 7.. Error context"),
        (".textproto", b"node {", "no ONNX model in textproto form"),
        (".json", b"[1, 2]", "no ONNX model in json form"),
        (".textproto", b"", "empty"),
        (".onnx", b"<ir_version: 8, opset_import: [18]> g (float x) => {", "no ONNX model in onnxtxt form"),
    ],
)
def test_texts_that_are_no_models(tmp_path: Path, ending: str, content: bytes, message: str) -> None:
    path = tmp_path / f"m{ending}"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_nothing_to_open(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "file").write_bytes(BYTES)
    cases = {
        "gone.onnx": "no such file",
        "dangling": "no such file",
        "bad\0name": "no such file",
        "": "this is a directory",
        "empty.onnx": "the file is empty",
        "loop": "can't be opened: Too many levels of symbolic links",
        "file/m.onnx": "can't be opened: Not a directory",
    }
    for name, message in cases.items():
        with pytest.raises(FileError, match=message) as caught:
            load(os.path.join(tmp_path, name))
        assert caught.value.exit_code == 3


@pytest.mark.parametrize("stream", [io.BytesIO(), open(os.devnull, "rb")])  # noqa: SIM115 (closed by the test)
def test_empty_standard_input(stream: io.BufferedIOBase) -> None:
    with stream, pytest.raises(FileError, match="standard input is empty"):
        load("-", stdin=stream)


def test_a_terminal_as_standard_input() -> None:
    pty = pytest.importorskip("pty")
    main, terminal = pty.openpty()
    try:
        with open(terminal, "rb", buffering=0) as stream, pytest.raises(FileError, match="a terminal"):
            load("-", stdin=stream)
    finally:
        os.close(main)


def test_devices_and_no_bytes() -> None:
    with pytest.raises(FileError, match="a device"):
        load("/dev/zero")
    with pytest.raises(FileError, match="no bytes"):
        loads(b"")


def test_a_file_without_permission(file: Path) -> None:
    file.chmod(0)
    try:
        with pytest.raises(FileError, match="can't be opened: Permission denied"):
            load(file)
    except BaseException:
        if os.getuid() == 0:  # root may read anything, so there is nothing to see
            pytest.skip("run as root")
        raise
