"""What ONNX text can't express: sparse tensors (OX144), an IR version that doesn't exist yet (OX147)."""

import numpy as np
import onnx
import pytest
from audited import found
from onnx import numpy_helper
from planting import sound_model


def with_sparse(positions, dims):
    model = sound_model()
    added = model.graph.sparse_initializer.add(dims=dims)
    count = len(positions)
    added.values.CopyFrom(numpy_helper.from_array(np.ones(count, np.float32), "few"))
    added.indices.CopyFrom(numpy_helper.from_array(np.array(positions, np.int64), "positions"))
    return model


GOOD = [([0, 3], [2, 2]), ([[0, 1], [1, 0]], [2, 2]), ([[0, 1], [0, 2]], [1, 3]), ([2], [4])]
BAD = [
    ([0, 4], [2, 2], "position 1 is [4], beyond [4]"),
    ([-1], [4], "position 0 is [-1], beyond [4]"),
    ([3, 0], [2, 2], "position 1 doesn't come after"),
    ([1, 1], [4], "position 1 doesn't come after"),
    ([[0, 1], [1, 2]], [2, 2], "position 1 is [1, 2], beyond [2, 2]"),
    ([[1, 0], [0, 1]], [2, 2], "position 1 doesn't come after"),
    ([[0, 1, 0]], [2, 2], "positions of shape [1, 3] for 1 values"),
]


@pytest.mark.parametrize(("positions", "dims"), GOOD)
def test_sound_sparse_tensor(positions, dims):
    model = with_sparse(positions, dims)
    onnx.checker.check_model(model)
    assert found("OX144", model) == []


@pytest.mark.parametrize(("positions", "dims", "words"), BAD)
def test_broken_sparse_tensor_OX144(positions, dims, words):
    model = with_sparse(positions, dims)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    (finding,) = found("OX144", model)
    assert words in finding.message
    assert finding.where == "few"


def test_ir_version_of_the_future_OX147():
    model = sound_model()
    model.ir_version = onnx.IR_VERSION
    assert found("OX147", model) == []
    model.ir_version += 1
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    (finding,) = found("OX147", model)
    assert f"IR version {onnx.IR_VERSION + 1} is newer than {onnx.IR_VERSION}" in finding.message
