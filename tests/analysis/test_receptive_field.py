"""Receptive fields against the recurrence worked by hand, and against an experiment with the real model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import net
from onnx.reference import ReferenceEvaluator

from onnxscope.analysis.receptive_field import ReceptiveFields, trace
from onnxscope.analysis.shapes import infer
from onnxscope.files.write import dumps
from onnxscope.graph import Model


def fields(model: Model) -> tuple[ReceptiveFields, dict[str, tuple[int | float, ...]]]:
    facts = infer(model)
    found = trace(facts)
    shown = {}
    for fact in facts.main.nodes:
        axes = found.spatial(fact)
        shown[fact.label] = None if axes is None else (axes[0].size, axes[0].stride, axes[0].start)
    return found, shown


X = {"x": "1,2,24,24"}
W = {"w": (2, 2, 3, 3)}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["y = Conv(x, w)"], (3, 1, 0)),
        (["y = Conv(x, w) pads=[1,1,1,1]"], (3, 1, -1)),
        (["a = Conv(x, w)", "y = Conv(a, w)"], (5, 1, 0)),
        (["a = Conv(x, w) strides=[2,2]", "y = Conv(a, w)"], (7, 2, 0)),
        (["y = Conv(x, w) dilations=[2,2]"], (5, 1, 0)),
        (["a = Conv(x, w)", "y = MaxPool(a) kernel_shape=[2,2] strides=[2,2]"], (4, 2, 0)),
        (["a = Conv(x, w)", "y = Relu(a)"], (3, 1, 0)),
        (["a = Conv(x, w) pads=[1,1,1,1]", "b = Conv(a, w) pads=[1,1,1,1]", "y = Add(b, x)"], (5, 1, -2)),
        (["a = ConvTranspose(x, w) strides=[2,2]", "y = Conv(a, w) strides=[2,2]"], (3, 1, -1)),
        (["y = GlobalAveragePool(x)"], None),
        (["g = GlobalAveragePool(x)", "y = Mul(x, g)"], None),
        (["t = Transpose(x) perm=[0,1,3,2]", "y = Conv(t, w)"], (3, 1, 0)),
        (["a = Conv(x, w)", "c = Concat(a, a) axis=1", "y = Relu(c)"], (3, 1, 0)),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_against_the_recurrence(lines: list[str], expected: tuple[int, int, int] | None) -> None:
    assert fields(net(lines, **X, **W))[1]["y"] == expected


def test_parts_of_a_split_map_start_where_the_ones_before_end() -> None:
    """Conv 3 stride 2 on 24 gives 11 rows at 0, 2, ..., 20; the second part begins with row 5, pixel 10."""
    lines = ["a = Conv(x, w) strides=[2,2]", "b, c = Split(a, n) axis=2", "y = Relu(c)"]
    model = net(lines, **X, **W, n=np.array([5, 6], np.int64))
    _, shown = fields(model)
    assert shown["b"] == (3, 2, 0)
    assert shown["y"] == (3, 2, 10)


def test_misaligned_branches_are_said() -> None:
    lines = ["a = Conv(x, w) pads=[1,1,1,1]", "b = Conv(x, w) pads=[0,0,2,2]", "y = Add(a, b)"]
    found, shown = fields(net(lines, **X, **W))
    assert shown["y"] == (4, 1, -1)  # [-1, 1] and [0, 2] together
    assert "misaligned" in found.problems[0].message
    assert "0.0, 1.0" in found.problems[0].message


def test_branches_with_different_strides_are_said() -> None:
    lines = [
        "a = Conv(x, w) strides=[2,2]",
        "b = MaxPool(x) kernel_shape=[4,4] strides=[2,2]",
        "c = Conv(x, w) dilations=[6,6]",
        "d = MaxPool(c) kernel_shape=[2,2]",
        "y = Add(a, d)",
    ]
    found, shown = fields(net(lines, **X, **W))
    assert shown["y"] is None
    assert "different strides" in found.problems[0].message


@pytest.mark.parametrize(
    "lines",
    [
        ["a = Conv(x, w) strides=[2,2] pads=[1,1,1,1]", "y = Conv(a, w) dilations=[2,2] pads=[2,2,2,2]"],
        ["a = MaxPool(x) kernel_shape=[3,3] strides=[2,2] ceil_mode=1", "y = Conv(a, w) pads=[1,1,1,1]"],
        ["a = ConvTranspose(x, w) strides=[3,3]", "y = Conv(a, w) strides=[2,2]"],
        ["a = ConvTranspose(x, w) strides=[2,2] pads=[1,1,1,1]", "y = Relu(a)"],
        ["a = Conv(x, w) auto_pad=SAME_UPPER strides=[2,2]", "y = AveragePool(a) kernel_shape=[2,2]"],
    ],
    ids=lambda v: " ".join(v),
)
def test_against_an_experiment(lines: list[str]) -> None:
    """Oracle: change one pixel at a time and see which cells of the real output change (weights all 1)."""
    model = net(lines, x="1,2,24,24", w=np.ones((2, 2, 3, 3), np.float32))
    found = trace(infer(model)).axes["y"][2]
    assert found is not None
    changes = _changes(model)
    for cell, seen in enumerate(changes):
        first = found.start + cell * found.stride
        assert min(seen) >= first - 1
        assert max(seen) <= first + found.size
        if isinstance(found.stride, int):
            assert all(first <= pixel < first + found.size for pixel in seen)
    middle = len(changes) // 2
    if isinstance(found.stride, int) and "dilations" not in lines[-1]:
        first = found.start + middle * found.stride
        assert changes[middle] == list(range(first, first + found.size))


def _changes(model: Model) -> list[list[int]]:
    """Per cell of the output's third axis: the rows of the input that change it."""
    run = ReferenceEvaluator(onnx.ModelProto.FromString(dumps(model)))
    image = np.zeros((1, 2, 24, 24), np.float32)
    base = run.run(None, {"x": image})[0]
    seen: list[list[int]] = [[] for _ in range(base.shape[2])]
    for row in range(24):
        image[:] = 0
        image[0, 0, row, :] = 1
        moved = (run.run(None, {"x": image})[0] != base).any(axis=(0, 1, 3))
        for cell in np.flatnonzero(moved):
            seen[cell].append(row)
    return seen
