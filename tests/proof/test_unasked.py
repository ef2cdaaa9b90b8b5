"""What only a map of more than one cell can show is checked without being asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import net
from proof_kit import converted_map, small_classifier

import onnxscope
from onnxscope.errors import UsageError
from onnxscope.files.write import save
from onnxscope.proof import setting
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify


@pytest.fixture(params=["light", "heavy"])
def heavy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether every model passes for one with large weights."""
    if request.param == "heavy":
        monkeypatch.setattr(setting, "HEAVY", 0)
    return request.param == "heavy"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A small classifier of opset 11, whose Softmax coerces to two axes."""
    return small_classifier(tmp_path, "y = Softmax(g) axis=1", 11)


@pytest.fixture
def converted(original: Path) -> Path:
    """Its conversion to a map."""
    return converted_map(original)


def test_a_softmax_over_the_wrong_axis_of_the_map_is_caught(
    original: Path, converted: Path, heavy: bool
) -> None:
    """At one cell per image a softmax over (W, C) below opset 13 is the one over C; at 2x3 cells it isn't."""
    model = onnx.load(converted)
    (softmax,) = [node for node in model.graph.node if node.op_type == "Softmax"]
    softmax.attribute[0].i = 2
    wrong = converted.with_name("wrong.onnx")
    onnx.save(model, wrong)
    found = verify(Request(str(original), str(wrong), trials=1))
    assert (found.equivalent, found.reason) == (False, "layers")
    assert found.runs[0].first_divergence == "y"
    assert [row.ok for row in found.runs[0].dense] == ([] if heavy else [False])
    assert all(output.ok for output in found.runs[0].outputs)  # the native size shows nothing


def test_the_right_conversion_passes_on_a_small_map(original: Path, converted: Path) -> None:
    found = verify(Request(str(original), str(converted), trials=1))
    assert found.equivalent
    (dense,) = found.runs[0].dense
    assert (dense.windows, dense.ok, dense.border_effect) == (6, True, None)


def test_the_head_of_a_large_conversion_passes_on_a_small_map(
    original: Path, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting, "HEAVY", 0)
    found = verify(Request(str(original), str(converted), trials=1))
    assert found.equivalent
    assert "compared on a map of 4x5 cells, too, layer by layer" in " ".join(found.notes)


@pytest.mark.parametrize(("key", "value"), [("strides", 2), ("pads", 1)])
def test_a_stride_or_a_pad_of_the_head_is_caught(
    original: Path, converted: Path, heavy: bool, key: str, value: int
) -> None:
    """A stride shows nothing at one cell; a pad, on a map smaller than the kernel, makes cells of its own."""
    model = onnx.load(converted)
    conv = next(node for node in model.graph.node if "g" in node.output)
    sizes = [value] * (2 if key == "strides" else 4)
    kept = [attribute for attribute in conv.attribute if attribute.name != key]
    del conv.attribute[:]
    conv.attribute.extend([*kept, onnx.helper.make_attribute(key, sizes)])
    wrong = converted.with_name("wrong.onnx")
    onnx.save(model, wrong)
    found = verify(Request(str(original), str(wrong), trials=1))
    assert not found.equivalent
    assert found.runs[0].first_divergence in ("g", "g (impulses)")


GATE = [
    "c = Conv(x, k) strides=[2,2]", "a = GlobalAveragePool(c)", "v = Flatten(a)", "e = Gemm(v, s)",
    "h = Sigmoid(e)", "u = Unsqueeze(h) axes=[2,3]", "m = Mul(c, u)",
]  # fmt: skip
"""Squeeze and excitation: a fully connected layer inside the backbone, which is a head of its own."""
BATCH = [
    "c = Conv(x, k) strides=[2,2]", "t = Shape(x)", "n = Slice(t, i, o)", "r = Concat(n, l) axis=0",
    "f = Reshape(c, r)", "y = Gemm(f, w, b)",
]  # fmt: skip
"""A head that asks the image for its batch: no map alone says it all."""


@pytest.mark.parametrize(
    "lines",
    [[*GATE, "d = Conv(m, p)", "f = Flatten(d)", "y = Gemm(f, w, b)"], BATCH],
    ids=["a layer inside the backbone", "an answer that asks the image for its sizes"],
)
def test_the_small_map_is_that_of_the_last_head(lines: list[str], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    sizes = {"k": (4, 3, 3, 3), "s": (4, 4), "p": (4, 4, 1, 1), "w": (36, 5), "b": (5,)}
    read = " ".join(lines)
    stored = {
        name: draw.standard_normal(size).astype(np.float32)
        for name, size in sizes.items()
        if f" {name}," in read or f" {name})" in read
    }
    numbers = {"i": 0, "o": 1, "l": -1} if lines is BATCH else {}
    stored |= {name: np.array([number]) for name, number in numbers.items()}
    save(net(lines, opset=11, x="1,3,7,7", **stored), tmp_path / "net.onnx")
    onnxscope.convert(str(tmp_path / "net.onnx"), str(tmp_path / "map.onnx"), verify=False)
    found = verify(Request(str(tmp_path / "net.onnx"), str(tmp_path / "map.onnx"), trials=1))
    assert found.equivalent
    assert [row.windows for row in found.runs[0].dense] == [6], found.notes


BESIDE = [
    *("z = Conv(x, j) strides=[2,2]", "i = Flatten(z)", "c = Conv(x, k) strides=[2,2]", "f = Flatten(c)"),
    *("g = Gemm(f, w)", "y = Add(g, i)"),
]
"""A second branch makes its one cell per window from the image: no map alone says it all."""


def beside(folder: Path) -> tuple[str, str]:
    """That net, and its conversion."""
    draw = np.random.default_rng(4)
    sizes = {"k": (4, 3, 3, 3), "w": (36, 5), "j": (5, 3, 7, 7)}
    stored = {name: draw.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    before, after = str(folder / "net.onnx"), str(folder / "map.onnx")
    save(net(BESIDE, opset=13, x="N,3,7,7", **stored), before)
    onnxscope.convert(before, after, verify=False)
    return before, after


def test_what_no_map_alone_tells_is_not_checked_and_said(tmp_path: Path) -> None:
    before, after = beside(tmp_path)
    found = verify(Request(before, after, trials=1))
    assert found.equivalent
    assert found.runs[0].dense == ()
    (said,) = [text for text in found.notes if "not run at" in text]
    assert "behind the map c the outputs read x" in said
    assert str(tmp_path) not in said  # names of scratch files change from run to run


def test_what_no_map_alone_tells_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = beside(tmp_path)
    monkeypatch.setattr("onnxscope.proof.verify.Worker", None)
    with pytest.raises(UsageError, match="behind the map c the outputs read x in another way"):
        verify(Request(before, after, dense=((9, 9),)))


LAYOUTS = {
    "channels last": (["t = Transpose(x) perm=[0,3,1,2]", "c = Conv(t, k) strides=[2,2]"], "1,7,7,3", 2),
    "1-D": (["c = Conv(x, k) strides=[2]"], "1,3,7", 1),
    "3-D": (["c = Conv(x, k) strides=[2,2,2]"], "1,3,7,7,7", 3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_are_checked_on_a_small_map_too(tmp_path: Path, layout: str) -> None:
    front, shape, spatial = LAYOUTS[layout]
    draw = np.random.default_rng(1)
    sizes = {"k": (4, 3, *(3,) * spatial), "w": (4 * 3**spatial, 5), "b": (5,)}
    stored = {name: draw.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    lines = [*front, "r = Relu(c)", "f = Flatten(r)", "g = Gemm(f, w, b)", "y = Softmax(g) axis=1"]
    before, after = tmp_path / "net.onnx", tmp_path / "map.onnx"
    save(net(lines, opset=13, x=shape, **stored), before)
    onnxscope.convert(str(before), str(after), verify=False)
    found = verify(Request(str(before), str(after), trials=1))
    (dense,) = found.runs[0].dense
    assert (found.equivalent, dense.ok, dense.windows) == (True, True, {1: 3, 2: 6, 3: 12}[spatial])
    model = onnx.load(after)
    (softmax,) = [node for node in model.graph.node if node.op_type == "Softmax"]
    softmax.attribute[0].i = 2
    onnx.save(model, after)
    wrong = verify(Request(str(before), str(after), trials=1)).runs[0]
    assert (wrong.first_divergence, [row.ok for row in wrong.dense]) == ("y", [False])


def test_a_long_sound_is_checked_on_a_small_map_too(tmp_path: Path) -> None:
    """A map of several cells takes more samples than any picture has pixels."""
    draw = np.random.default_rng(5)
    sizes = {"k": (2, 1, 9), "w": (6, 4), "b": (4,)}
    stored = {name: draw.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    lines = ["c = Conv(x, k) strides=[4000]", "f = Flatten(c)", "y = Gemm(f, w, b)"]
    before, after = tmp_path / "net.onnx", tmp_path / "map.onnx"
    save(net(lines, opset=13, x="1,1,8009", **stored), before)
    onnxscope.convert(str(before), str(after), verify=False)
    (dense,) = verify(Request(str(before), str(after), trials=1)).runs[0].dense
    assert (dense.size, dense.windows, dense.ok) == ((16009,), 3, True)


@pytest.mark.parametrize(("stride", "windows"), [(None, 6), (2, 15), (1, 45)])
def test_a_map_that_is_an_output_of_its_own_is_no_answer_about_windows(
    tmp_path: Path, stride: int | None, windows: int
) -> None:
    """It keeps its cells, of which a denser conversion makes more: the head reads a value of another name."""
    draw = np.random.default_rng(1)
    lines = ["c = Conv(x, k) strides=[2,2] pads=[1,1,1,1]", "m = MaxPool(c) kernel_shape=[2,2] strides=[2,2]"]
    weights = {"k": (4, 3, 3, 3), "w": (16, 5)}
    stored = {name: draw.standard_normal(size).astype(np.float32) for name, size in weights.items()}
    model = net([*lines, "f = Flatten(m)", "y = Gemm(f, w)"], outputs=["c", "m", "y"], x="1,3,8,8", **stored)
    save(model, tmp_path / "net.onnx")
    given = {} if stride is None else {"stride": stride}
    proof = onnxscope.convert(tmp_path / "net.onnx", tmp_path / "map.onnx", **given).proof
    assert proof.equivalent, proof.document["reason"]
    (run,) = proof.document["runs"]
    assert [row["windows"] for row in run["dense"]] == [windows]  # 2x3 common cells: 3x5 and 5x9 in all
    assert {row["name"] for row in run["outputs"]} == {"c", "m", "y"}
    wrong = onnx.load(tmp_path / "map.onnx")
    head = next(node for node in wrong.graph.node if "y" in node.output)
    kept = [attribute for attribute in head.attribute if attribute.name != "strides"]
    del head.attribute[:]
    head.attribute.extend([*kept, onnx.helper.make_attribute("strides", [2, 2])])
    onnx.save(wrong, tmp_path / "wrong.onnx")
    assert not verify(Request(str(tmp_path / "net.onnx"), str(tmp_path / "wrong.onnx"), trials=1)).equivalent


def test_a_sequence_of_class_scores_is_no_map(tmp_path: Path) -> None:
    """[N, T, F] has as many axes as a map [N, F, L], in another order; it was once compared as one."""
    draw = np.random.default_rng(3)
    weights = {name: draw.standard_normal(size).astype(np.float32) for name, size in
               (("k", (6, 3, 3)), ("w", (6, 5)))}  # fmt: skip
    lines = ["c = Conv(x, k)", "t = Transpose(c) perm=[0,2,1]", "m = MatMul(t, w)", "y = Softmax(m) axis=2"]
    original, converted = tmp_path / "sequence.onnx", tmp_path / "vector.onnx"
    save(net(lines, opset=13, x="N,3,L", **weights), original)
    onnxscope.convert(original, converted, output="vector", verify=False)
    found = verify(Request(str(original), str(converted), trials=1))
    assert found.equivalent, found
    assert found.runs[0].dense == ()
