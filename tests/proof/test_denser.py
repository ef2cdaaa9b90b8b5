"""Denser maps: right ones are proved from the image on, wrong dilations, pads and strides are caught."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import net

import onnxscope
from onnxscope.errors import RuntimeFailure
from onnxscope.files.write import save
from onnxscope.proof.result import Request, Verification
from onnxscope.proof.verify import verify
from onnxscope.rewrite.plan import PROVENANCE

LINES = [
    "a = Conv(x, k1) strides=[2,2] pads=[1,1,1,1]",
    "b = MaxPool(a) kernel_shape=[2,2] strides=[2,2] pads=[1,1,0,0]",
    "c = Conv(b, k2) pads=[1,1,1,1]",
    "d = Relu(c)",
    "f = Flatten(d)",
    "g = Gemm(f, w, v)",
    "y = Softmax(g) axis=1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A padded network with a stride of 4 pixels, and its conversion with a cell at every pixel."""
    folder = tmp_path_factory.mktemp("denser")
    draw = np.random.default_rng(4)
    sizes = {"k1": (4, 3, 3, 3), "k2": (4, 4, 3, 3), "w": (4 * 4 * 5, 5), "v": (5,)}
    stored = {name: draw.standard_normal(size).astype(np.float32) / 3 for name, size in sizes.items()}
    save(net(LINES, opset=13, x="1,3,15,17", **stored), folder / "net.onnx")
    onnxscope.convert(str(folder / "net.onnx"), str(folder / "map.onnx"), stride=1, verify=False)
    return folder


def proof(folder: Path, candidate: str = "map.onnx", **options: object) -> Verification:
    return verify(Request(str(folder / "net.onnx"), str(folder / candidate), trials=1, **options))


def test_a_denser_map_is_proved_at_its_common_cells_and_its_head_at_all(folder):
    found = proof(folder, layers=True, dense=((31, 33),))
    assert found.equivalent, found
    (row,) = found.runs[0].dense
    # 15x17 makes 4x5 cells at stride 4, 31x33 8x9: a head of 4x5 fits 5x5 times. Dense, its common cells are
    # every fourth: the head spans (4 - 1)*4 + 1 = 13 and 17 cells of a map of 31x33, that is 19x17 times.
    assert row.windows == 19 * 17
    assert "dense 31x33: 25 cells equal the original's own map, from the image on" in found.notes


def test_the_small_map_that_is_checked_unasked_has_several_common_cells(folder):
    found = proof(folder)
    (row,) = found.runs[0].dense
    assert any("6 cells equal the original's own map" in note for note in found.notes)  # 2x3
    assert row.windows == 5 * 9


def _set(model: onnx.ModelProto, output: str, **attributes: list[int]) -> None:
    (node,) = [node for node in model.graph.node if output in node.output]
    kept = [attribute for attribute in node.attribute if attribute.name not in attributes]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in attributes.items())


def _constant(model: onnx.ModelProto, op: str, place: int, number: float) -> None:
    """Fill a constant input of the only node of an op."""
    (node,) = [node for node in model.graph.node if node.op_type == op]
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[place]]
    array = onnx.numpy_helper.to_array(tensor)
    changed = np.where(array == 0, array, number).astype(array.dtype)
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))


def _record(model: onnx.ModelProto, **entries: object) -> None:
    (entry,) = [entry for entry in model.metadata_props if entry.key == PROVENANCE]
    entry.value = json.dumps({**json.loads(entry.value), **entries})


SABOTAGES = {
    "dilation of a pool as it was": lambda m: _set(m, "b", dilations=[1, 1]),
    "dilation of a convolution as it was": lambda m: _set(m, "c", dilations=[1, 1]),
    "dilation halved": lambda m: _set(m, "c", dilations=[2, 2]),
    "dilation on one axis": lambda m: _set(m, "c", dilations=[4, 1]),
    "dilation of the head as it was": lambda m: _set(m, "g", dilations=[1, 1]),
    "pads as they were": lambda m: _set(m, "c", pads=[1, 1, 1, 1]),
    "pads shifted": lambda m: _set(m, "c", pads=[3, 4, 5, 4]),
    "no padding at the end": lambda m: _set(m, "c", pads=[4, 4, 0, 0]),
    "pads of the image doubled": lambda m: _set(m, "a", pads=[2, 2, 2, 2]),
    "pads of the pool as they were": lambda m: _constant(m, "Pad", 1, 1),
    "zeros in front of the maximum": lambda m: _constant(m, "Pad", 2, 0),
    "stride kept": lambda m: _set(m, "a", strides=[2, 2]),
    "stride of a later layer": lambda m: _set(m, "c", strides=[1, 2]),
    "other common cells": lambda m: _record(m, common={}),
    "fewer common cells": lambda m: _record(m, common={"y": [1, 1, 8, 8], "d": [1, 1, 8, 8]}),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_every_sabotage_of_the_layers_in_front_is_caught(folder, name):
    model = onnx.load(folder / "map.onnx")
    SABOTAGES[name](model)
    onnx.save(model, folder / "wrong.onnx")
    try:
        found = proof(folder, "wrong.onnx")
    except RuntimeFailure:  # no window fits any more: the runtime refuses the native size
        return
    assert not found.equivalent


def test_the_averages_of_shifts_are_checked_in_place_of_a_pool(tmp_path):
    draw = np.random.default_rng(6)
    stored = {"k1": draw.standard_normal((4, 3, 3, 3)), "w": draw.standard_normal((4, 5))}
    stored = {name: array.astype(np.float32) for name, array in stored.items()}
    lines = ["a = Conv(x, k1) strides=[2,2]", "p = GlobalAveragePool(a)", "f = Flatten(p)", "y = Gemm(f, w)"]
    save(net(lines, opset=13, x="1,3,15,17", **stored), tmp_path / "net.onnx")
    onnxscope.convert(str(tmp_path / "net.onnx"), str(tmp_path / "map.onnx"), stride=1, verify=False)
    found = proof(tmp_path)
    assert found.equivalent
    assert {"p", "y"} <= {row.name for row in found.runs[0].layers}
    model = onnx.load(tmp_path / "map.onnx")
    _constant(model, "Mul", 1, 1 / 48)  # 7x8 = 56 cells
    onnx.save(model, tmp_path / "wrong.onnx")
    found = proof(tmp_path, "wrong.onnx")
    assert (found.equivalent, found.runs[0].first_divergence) == (False, "p")
