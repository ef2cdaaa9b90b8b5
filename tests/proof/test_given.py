"""Inputs from files: whatever is wrong with one is told in a line that names the file."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from onnxscope import dtypes
from onnxscope.errors import UsageError
from onnxscope.proof import given
from onnxscope.proof.interface import InputPair

IMAGE = np.random.default_rng(3).standard_normal((1, 1, 4, 5)).astype(np.float32)


def archive(**members: np.ndarray) -> bytes:
    """The bytes of a .npz."""
    file = io.BytesIO()
    np.savez_compressed(file, **members)
    return file.getvalue()


def array(value: np.ndarray) -> bytes:
    """The bytes of a .npy."""
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def unpacked(name: str, data: bytes) -> bytes:
    """A zip archive with one member, as it is."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(name, data)
    return file.getvalue()


def huge() -> bytes:
    """The head of a .npy of 4 exabytes."""
    file = io.BytesIO()
    head = {"descr": "<f4", "fortran_order": False, "shape": (1, 1, 2**30, 2**30)}
    np.lib.format.write_array_header_1_0(file, head)
    return file.getvalue() + bytes(64)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


def drawn(folder: Path, name: str, data: bytes, dtype: int = dtypes.FLOAT) -> np.ndarray:
    """What a file gives for an input [1, 1, 4, 5]."""
    (folder / name).write_bytes(data)
    pair = InputPair("x", dtype, (1, 1, 4, 5))
    (draw,) = given.trials(str(folder / name), [pair], 0)
    assert draw.given is not None
    return draw.given["x"]


BROKEN = {
    "cut off.npz": archive(x=IMAGE)[:120],
    "a wrong checksum.npz": flipped(unpacked("x.npy", array(IMAGE)), 170),
    "a broken stream.npz": flipped(archive(x=IMAGE), 60),
    "objects.npz": archive(x=np.array([1, None], object)),
    "no array.npz": unpacked("x.txt", b"text"),
    "cut off.npy": array(IMAGE)[:150],
    "empty.npy": b"",
    "text.npy": b"1 2 3\n",
    "huge.npy": huge(),
    "a torn header.npy": array(IMAGE).replace(b"}", b" "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        drawn(tmp_path, name, BROKEN[name])
    assert name in error.value.where
    assert "pickle" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (IMAGE.astype(np.complex64), dtypes.FLOAT, "x holds complex64, the model takes float32"),
        (np.full((1, 1, 4, 5), "a"), dtypes.FLOAT, "x holds <U1, the model takes float32"),
        (IMAGE, dtypes.UINT8, "x holds float32, the model takes uint8"),
        (np.full((1, 1, 4, 5), 300), dtypes.UINT8, "x holds numbers that uint8 can't hold"),
        (np.full((1, 1, 4, 5), -1), dtypes.UINT8, "x holds numbers that uint8 can't hold"),
    ],
)
def test_numbers_that_an_input_can_not_take(value: np.ndarray, dtype: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        drawn(tmp_path, "a.npy", array(value), dtype)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(IMAGE.astype(np.float64), dtypes.FLOAT), (np.full((1, 1, 4, 5), 200), dtypes.UINT8),
     (np.full((1, 1, 4, 5), True), dtypes.FLOAT), (np.full((1, 1, 4, 5), 3), dtypes.FLOAT)],
)  # fmt: skip
def test_numbers_that_it_can(value: np.ndarray, dtype: int, tmp_path: Path) -> None:
    found = drawn(tmp_path, "a.npz", archive(x=value), dtype)
    assert found.dtype == dtypes.BY_CODE[dtype].numpy
    np.testing.assert_array_equal(found, value.astype(found.dtype))
