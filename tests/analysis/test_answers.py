"""Answers are shared by nodes that ask alike, and by no others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from nets import net

from onnxscope.analysis.shapes import infer
from onnxscope.ops.registry import Rule, View
from onnxscope.ops.value import Inferred


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each op's rule was called."""
    calls: Counter[str] = Counter()
    ask = Rule.infer

    def counted(self: Rule, view: View) -> Inferred:
        calls[view.node.op] += 1
        return ask(self, view)

    monkeypatch.setattr(Rule, "infer", counted)
    return calls


def test_alike_layers_ask_once(asked: Counter[str]) -> None:
    lines = [f"x{i + 1} = Conv(x{i}, w{i}) pads=[1,1,1,1]" for i in range(20)]
    weights = {f"w{i}": (8, 8, 3, 3) for i in range(20)}
    facts = infer(net(lines, x0="N,8,H,W", **weights))
    assert asked == {"Conv": 1}
    assert [str(size) for size in facts.value("x20").shape or ()] == ["N", "8", "H", "W"]


@pytest.mark.parametrize(
    ("lines", "values", "shapes"),
    [
        (
            ["y = Conv(x, w) pads=[1,1,1,1]", "z = Conv(x, w) pads=[1,1,1,1] strides=[2,2]"],
            {"x": "1,8,6,6", "w": (8, 8, 3, 3)},
            {"y": (1, 8, 6, 6), "z": (1, 8, 3, 3)},
        ),
        (
            ["y = Reshape(x, s)", "z = Reshape(x, t)"],
            {"x": "4,6", "s": np.array([8, 3]), "t": np.array([2, 12])},
            {"y": (8, 3), "z": (2, 12)},
        ),
        (
            ["y, i = MaxPool(x) kernel_shape=[2,2]", "z = MaxPool(x) kernel_shape=[2,2]"],
            {"x": "1,2,4,4"},
            {"y": (1, 2, 3, 3), "i": (1, 2, 3, 3), "z": (1, 2, 3, 3)},
        ),
    ],
    ids=["attributes", "content", "outputs"],
)
def test_other_questions_get_other_answers(
    lines: list[str], values: dict[str, object], shapes: dict[str, tuple[int, ...]]
) -> None:
    facts = infer(net(lines, **values))
    assert {name: facts.value(name).shape for name in shapes} == shapes


def test_made_up_sizes_are_never_shared() -> None:
    """How many elements are non-zero differs from tensor to tensor, whatever their shapes."""
    facts = infer(net(["y = NonZero(a)", "z = NonZero(b)"], a="3,4", b="3,4"))
    one, other = facts.value("y").shape, facts.value("z").shape
    assert one
    assert other
    assert one[0] == other[0] == 2
    assert one[1] != other[1]


def test_content_is_folded_for_each_node() -> None:
    facts = infer(
        net(
            ["s = Add(a, b)", "t = Add(a, c)", "y = Reshape(x, s)", "z = Reshape(x, t)"],
            x="4,6",
            a=np.array([1, 2]),
            b=np.array([2, 6]),
            c=np.array([5, 2]),
        )
    )
    assert facts.value("y").shape == (3, 8)
    assert facts.value("z").shape == (6, 4)


def test_what_is_computed_from_stored_numbers_alone_stays_constant() -> None:
    facts = infer(net(["y = Relu(x)", "z = Relu(w)"], x="2,3", w=(2, 3)))
    assert [facts.value(name).constant for name in "yz"] == [False, True]
    assert [fact.folded for fact in facts.main.nodes] == [False, True]
