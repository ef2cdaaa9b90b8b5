"""Defects planted, each by a few lines, into one small sound model: its code must be found, and only then."""

import onnx
import planted_file
import planted_graph
import planted_structure
import pytest
from audited import codes
from planting import sound_model

from onnxscope.files.read import loads

MINE = ("OX0", "OX1", "OX2", "OX5", "OX8")
ROWS = [
    (code, plant)
    for planted in (planted_file.PLANTED, planted_graph.PLANTED, planted_structure.PLANTED)
    for code, plants in planted.items()
    for plant in plants
]


def found(model):
    return codes(loads(model.SerializeToString(), "planted.onnx"), MINE)


def test_the_sound_model_has_no_findings():
    model = sound_model()
    onnx.checker.check_model(model, full_check=True)
    assert found(model) == set()


def test_there_are_enough_rows():
    assert len({plant for _, plant in ROWS}) >= 60


@pytest.mark.parametrize(("code", "plant"), ROWS, ids=[f"{code}-{plant.__name__}" for code, plant in ROWS])
def test_planted_defect_is_found(code, plant):
    model = sound_model()
    plant(model)
    assert code in found(model)
