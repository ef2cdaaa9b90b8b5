"""Files that are complete before they get their name, and leave nothing where they never get it."""

import os
from pathlib import Path

import onnx
import pytest

from onnxscope.errors import UsageError
from onnxscope.files.read import load
from onnxscope.files.stage import check_target, staged

LENET = Path(__file__).parents[2] / "models" / "lenet5.onnx"


@pytest.fixture
def external(tmp_path):
    """A model whose weights are in a file beside it."""
    onnx.save(
        onnx.load(LENET), tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0
    )
    return load(tmp_path / "m.onnx")


@pytest.mark.parametrize("external_data", [False, True])
def test_committed(tmp_path, external_data):
    model = load(LENET)
    with staged(model, tmp_path / "out.onnx", external_data=external_data) as file:
        assert "out.onnx" not in os.listdir(tmp_path)
        onnx.checker.check_model(file.path, full_check=True)
        names = file.commit()
    assert sorted(os.listdir(tmp_path)) == sorted(map(os.path.basename, names))
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)


def test_left_without_a_commit(tmp_path):
    with staged(load(LENET), tmp_path / "out.onnx"):
        pass
    with pytest.raises(KeyboardInterrupt), staged(load(LENET), tmp_path / "out.onnx"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_external_weights_of_the_source_are_shared_where_they_can_be(tmp_path, external):
    with staged(external, tmp_path / "out.onnx") as file:
        onnx.checker.check_model(file.path, full_check=True)
        file.commit()
    assert sorted(os.listdir(tmp_path)) == ["m.bin", "m.onnx", "out.onnx"]
    assert (tmp_path / "out.onnx").stat().st_size < 10_000
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)


@pytest.mark.parametrize(("folder", "external_data"), [("", True), ("other", False), ("other", True)])
def test_external_weights_of_the_source_are_taken_along_elsewhere(tmp_path, external, folder, external_data):
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    with staged(external, place / "out.onnx", external_data=external_data) as file:
        onnx.checker.check_model(file.path, full_check=True)
        file.commit()
    (tmp_path / "m.bin").unlink()
    onnx.checker.check_model(str(place / "out.onnx"), full_check=True)


def test_what_exists_stays_until_the_commit(tmp_path):
    target = tmp_path / "out.onnx"
    target.write_text("old")
    with pytest.raises(UsageError, match="exists"):
        check_target(load(LENET), target)
    with staged(load(LENET), target, force=True) as file:
        assert target.read_text() == "old"
        file.commit()
    assert target.read_bytes() == LENET.read_bytes()


def test_an_existing_data_file_is_not_replaced(tmp_path):
    (tmp_path / "out.onnx.data").write_text("old")
    with (
        pytest.raises(UsageError, match="exists"),
        staged(load(LENET), tmp_path / "out.onnx", external_data=True) as file,
    ):
        file.commit()
    assert os.listdir(tmp_path) == ["out.onnx.data"]


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="folder"), staged(load(LENET), tmp_path / "no" / "out.onnx"):
        pass
