"""Stored numbers compared in pieces: in order by several threads, in any order by their fingerprint."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxscope.errors import FileError
from onnxscope.files.read import load
from onnxscope.proof import fingerprint


def tensor(folder, array, *, outside=False):
    """The array as an initializer of a file, or of one beside it."""
    folder.mkdir(exist_ok=True)
    graph = onnx.helper.make_graph([], "g", [], [], [numpy_helper.from_array(array, "a")])
    given = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0} if outside else {}
    onnx.save(onnx.helper.make_model(graph), folder / "m.onnx", **given)
    return load(folder / "m.onnx").graph.initializers["a"]


@pytest.mark.parametrize("outside", [False, True], ids=["inside", "external"])
@pytest.mark.parametrize("place", [0, 40_000, 65_536, 99_999], ids=["first", "within", "second half", "last"])
def test_large_tensors_are_compared_whole_by_several_threads(place, outside, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "_STRETCH", 1 << 17)
    numbers = np.arange(100_000, dtype=np.float32)  # 400,000 bytes: four stretches, the last one shorter
    changed = numbers.copy()
    changed[place] = -1
    first, second = tensor(tmp_path / "a", numbers), tensor(tmp_path / "b", numbers, outside=outside)
    assert fingerprint.same(first, second)
    assert not fingerprint.same(first, tensor(tmp_path / "c", changed, outside=outside))


@pytest.mark.parametrize("outside", [False, True], ids=["inside", "external"])
def test_a_file_that_ends_early_meanwhile_is_an_error(outside, tmp_path):
    numbers = np.arange(3_000_000, dtype=np.float32)  # a smaller file is held in memory from the start
    first, second = (tensor(tmp_path / name, numbers, outside=outside) for name in "ab")
    with open(tmp_path / "b" / ("m.data" if outside else "m.onnx"), "r+b") as file:
        file.truncate(8_000_000)
    with pytest.raises(FileError, match=r"became shorter|has 8000000 bytes"):
        fingerprint.same(first, second)


def test_the_fingerprint_tells_multisets_apart():
    a = np.array([1, 1, 2], np.float32)
    arrays = a, a[::-1].copy(), np.array([1, 2, 2], np.float32)
    prints = [fingerprint.fingerprint_of(array) for array in arrays]
    assert prints[0].same_multiset(prints[1])
    assert prints[0].ordered != prints[1].ordered
    assert not prints[0].same_multiset(prints[2])
