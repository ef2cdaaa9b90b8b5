"""Closed forms of map sizes: the textbook networks, worked by hand."""

from __future__ import annotations

import pytest
from nets import net

from onnxscope.analysis.shapes import infer
from onnxscope.analysis.spatial import Spatial, closed_forms, free_spatial
from onnxscope.expr import bind
from onnxscope.graph import Model

W5, W3 = {"w": (2, 1, 5, 5), "v": (2, 2, 5, 5)}, {"w": (2, 2, 3, 3)}
LENET = [
    "a = Conv(x, w)",
    "b = MaxPool(a) kernel_shape=[2,2] strides=[2,2]",
    "c = Conv(b, v)",
    "y = MaxPool(c) kernel_shape=[2,2] strides=[2,2]",
]
RESNET = ["a = Conv(x, w) strides=[2,2] pads=[1,1,1,1]", "y = MaxPool(a) kernel_shape=[3,3] strides=[2,2]"]


def spatial(model: Model, *maps: str) -> Spatial:
    return closed_forms(infer(model), maps)


@pytest.mark.parametrize(
    ("lines", "values", "form", "least", "step"),
    [
        # (H - 4)//2, then (that - 4)//2; 16 is the first size with one cell: (16 - 12)//4 = 1
        (LENET, {"x": "N,1,H,W", **W5}, "(H - 12)//4", 16, 4),
        # (H + 2 - 3)//2 + 1 = (H + 1)//2, then (that - 3)//2 + 1 = ((H + 1)//2 - 1)//2 = (H - 1)//4
        (RESNET, {"x": "N,2,H,W", **W3}, "(H - 1)//4", 5, 4),
        (["y = Conv(x, w)"], {"x": "N,2,H,W", **W3}, "H - 2", 3, 1),
        (["a = Conv(x, w) strides=[3,3]", "y = Relu(a)"], {"x": "N,2,H,W", **W3}, "H//3", 3, 3),
    ],
)
def test_closed_forms(lines: list[str], values: dict[str, object], form: str, least: int, step: int) -> None:
    found = spatial(net(lines, **values))
    assert str(found.closed_form["y"][0]) == form
    assert found.minimum_input == {"H": least, "W": least}
    assert found.exact_input_step == {"H": step, "W": step}


def test_the_minimum_is_the_first_size_that_works() -> None:
    model = net(RESNET, x="N,2,H,W", **W3)
    least = spatial(model).minimum_input["H"]
    assert least is not None
    sizes = [size for fact in infer(model).main.nodes for size in (fact.inferred.axes[0].value,)]
    assert all(bind(size, {"H": least}) >= 1 for size in sizes)  # type: ignore[operator]  # all bound: numbers
    assert any(bind(size, {"H": least - 1}) < 1 for size in sizes)  # type: ignore[operator]  # as above


def test_maps_in_front_of_heads_are_listed_with_the_outputs() -> None:
    found = spatial(net(["a = Conv(x, w)", "y = GlobalAveragePool(a)"], x="N,2,H,W", **W3), "a")
    assert {name: [str(s) for s in sizes] for name, sizes in found.closed_form.items()} == {
        "a": ["H - 2", "W - 2"],
        "y": [],
    }


def test_the_batch_is_no_spatial_axis() -> None:
    assert free_spatial(infer(net(["y = Relu(x)"], x="N,3,8,8"))) == ()
    assert free_spatial(infer(net(["y = Relu(x)"], x="N,3,H,8"))) == ("H",)


def test_free_channels_are_no_spatial_axis() -> None:
    """Nothing slides over C; without a window nothing tells the axes apart."""
    assert free_spatial(infer(net(["y = Conv(x, w)"], x="N,C,H,W", **W3))) == ("H", "W")
    assert free_spatial(infer(net(["y = Relu(x)"], x="N,C,H,W"))) == ("C", "H", "W")
    tokens = net(["a = Conv(x, w)", "b = Relu(t)"], x="N,2,H,W", t="N,S,8", outputs=["a", "b"], **W3)
    assert free_spatial(infer(tokens)) == ("H", "W", "S")


def test_the_minimum_of_maps_that_depend_on_two_inputs() -> None:
    """H and A must be equal (or one of them 1), then conv 3 and conv 3 need 5 cells of the larger."""
    lines = ["s = Add(x, z)", "a = Conv(s, w)", "y = Conv(a, w)"]
    found = spatial(net(lines, x="N,2,H,W", z="N,2,A,W", **W3))
    assert found.minimum_input == {"H": 5, "W": 5, "A": 5}


def test_fixed_models_have_no_closed_forms() -> None:
    found = spatial(net(["y = Relu(x)"], x="1,3,8,8"))
    assert (found.closed_form, found.minimum_input, found.exact_input_step) == ({}, {}, {})
