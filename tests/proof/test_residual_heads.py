"""Blocks with fully connected layers and a residual around them (as in ConvNeXt), then a head."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import net

import onnxscope
from onnxscope.files.read import load
from onnxscope.files.write import save
from onnxscope.proof import links
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify

FRONT = ["c = Conv(x, k) strides=[2,2]", "d = Conv(c, g) pads=[1,1,1,1] group=4"]
FIRST = [*FRONT, "t = Transpose(d) perm=[0,2,3,1]", "m = MatMul(t, v)", "u = Transpose(m) perm=[0,3,1,2]",
         "e = Relu(u)", "r = Add(e, c)"]  # fmt: skip
LAST = [*FRONT, "t = Transpose(d) perm=[0,2,3,1]", "s = Transpose(c) perm=[0,2,3,1]", "m = MatMul(t, v)",
        "e = Relu(m)", "r = Add(e, s)"]  # fmt: skip
NETS = {
    "mean": [*FIRST, "p = GlobalAveragePool(r)", "f = Flatten(p)", "y = Gemm(f, a)"],
    "maximum": [*FIRST, "p = GlobalMaxPool(r)", "f = Flatten(p)", "y = Gemm(f, a)"],
    "flattened": [*FIRST, "f = Flatten(r)", "h = Gemm(f, w)", "y = MatMul(h, b)"],
    "channels last, mean": [*LAST, "p = ReduceMean(r) axes=[1,2] keepdims=0", "y = MatMul(p, a)"],
    "channels last, flattened": [*LAST, "f = Flatten(r)", "y = Gemm(f, w)"],
    "an output of its own": [*LAST, "p = ReduceMean(r) axes=[1,2] keepdims=0", "y = MatMul(p, a)"],
}
POOLS = {
    "mean": "average",
    "maximum": "max",
    "channels last, mean": "average",
    "an output of its own": "average",
}
SIZES = {"k": (4, 3, 3, 3), "g": (4, 1, 3, 3), "v": (4, 4), "a": (4, 6), "w": (36, 5), "b": (5, 6)}


def written(name: str, folder: Path, **options: object) -> tuple[str, str]:
    draw = np.random.default_rng(3)
    text = " ".join(NETS[name])
    stored = {
        key: draw.standard_normal(size).astype(np.float32)
        for key, size in SIZES.items()
        if f" {key})" in text
    }
    outputs = ["r", "y"] if name == "an output of its own" else ["y"]
    before, after = str(folder / "net.onnx"), str(folder / "map.onnx")
    save(net(NETS[name], x="N,3,7,7", outputs=outputs, opset=13, **stored), before)
    onnxscope.convert(before, after, verify=False, **options)
    return before, after


@pytest.mark.parametrize("form", ["conv", "fold", "rows"])
@pytest.mark.parametrize("name", NETS)
def test_the_windows_are_those_of_the_map_in_front_of_the_head(name: str, form: str, tmp_path: Path) -> None:
    before, after = written(name, tmp_path, form=form)
    *_, head = links.read(load(after))
    assert (head.feature_map, head.window) == ("r", (3, 3))
    assert head.pool == POOLS.get(name)
    proof = verify(Request(before, after, trials=1, dense=((13, 11),)))
    assert proof.equivalent, proof.notes
    (row,) = proof.runs[0].dense
    assert (row.windows, row.ok) == (4 * 3, True)  # the map is (13 - 3)//2 + 1 = 6 by 5


@pytest.mark.parametrize("name", ["mean", "flattened", "channels last, mean"])
def test_denser_maps_are_compared_from_the_image_on(name: str, tmp_path: Path) -> None:
    before, after = written(name, tmp_path, stride=1)
    proof = verify(Request(before, after, trials=1, dense=((13, 11),)))
    assert proof.equivalent, proof.notes
    assert proof.runs[0].dense[0].windows == 7 * 5  # one per pixel: 13 - 7 + 1 by 11 - 7 + 1
    assert any("12 cells equal the original's own map" in note for note in proof.notes), proof.notes


@pytest.mark.parametrize("name", ["mean", "flattened", "channels last, mean", "channels last, flattened"])
def test_a_stride_of_the_head_is_caught(name: str, tmp_path: Path) -> None:
    before, after = written(name, tmp_path)
    model = onnx.load(after)
    head = next(node for node in model.graph.node if "r" in node.input)
    kept = [attribute for attribute in head.attribute if attribute.name != "strides"]
    del head.attribute[:]
    head.attribute.extend([*kept, onnx.helper.make_attribute("strides", [2, 2])])
    onnx.save(model, after)
    found = verify(Request(before, after, trials=1))  # the small map, unasked
    assert [row.ok for row in found.runs[0].dense] == [False]
