"""Graphs made to be slow, deep or absurd: each gets its report, and what can't be answered is said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from nets import net, node, value
from onnx import parser

from onnxscope.analysis import shapes
from onnxscope.documents import build
from onnxscope.files.read import loads
from onnxscope.graph import Model
from onnxscope.render.text import text


def chain(line: str, count: int, start: str = "x") -> list[str]:
    """The line `count` times, each reading the value before: `{0}` the input, `{1}` the output."""
    names = [start, *(f"v{i}" for i in range(count))]
    return [line.format(names[i], names[i + 1]) for i in range(count)]


X = "N,3,H,W"
SLICE = {"s": np.array([-100]), "e": np.array([50]), "a": np.array([2])}
POOL = "{1} = MaxPool({0}) kernel_shape=[3,3] pads=[1,1,1,1] strides=[1,1] ceil_mode=1"
SHAPE = ["s = Shape(x)"]

ANSWERED: dict[str, Callable[[], Model]] = {
    "400 pools with minima in their sizes": lambda: net(chain(POOL, 400), x=X),
    "a constant that doubles 60 times": lambda: net(
        [*chain("{1} = Add({0}, {0})", 60, "w"), "y = MatMul(x, v59)"], x="N,8", w=(8, 8)
    ),
    "a chain of 20000 constants": lambda: net(
        [*chain("{1} = Identity({0})", 20_000, "w"), "y = MatMul(x, v19999)"], x="N,8", w=(8, 8)
    ),
    "3000 inputs of one Concat": lambda: net([f"y = Concat({', '.join(['x'] * 3000)}) axis=1"], x=X),
    "sizes beyond int64": lambda: net(
        ["t = Expand(c, s)", "y = Tile(t, s)"], c=(1, 1), s=np.array([10**9, 10**9])
    ),
    "a range of 10**15 numbers": lambda: net(
        ["y = Range(a, b, c)"], a=np.array(0), b=np.array(10**15), c=np.array(1)
    ),
}
TOO_COMPLEX: dict[str, Callable[[], Model]] = {
    "200 slices of undecided size": lambda: net(chain("{1} = Slice({0}, s, e, a)", 200), x=X, **SLICE),
    "300 inexact resizes": lambda: net(
        chain("{1} = Resize({0}, , f)", 300), x=X, f=np.array([1, 1, 0.75, 0.625], np.float32)
    ),
    "a size squared 40 times": lambda: net(
        [*SHAPE, *chain("{1} = Mul({0}, {0})", 40, "s"), "y = ConstantOfShape(v39)"], x="N,H,W"
    ),
    "a polynomial of 2**30 terms": lambda: net(
        [
            "s0 = Shape(x)",
            *(text for i in range(30) for text in (f"a{i} = Add(s{i}, o)", f"s{i + 1} = Mul(a{i}, s{i})")),
            "y = ConstantOfShape(s30)",
        ],
        x="N,H,W",
        o=np.array([3, 5, 7]),
    ),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_answered_all_the_same(name: str) -> None:
    document = build.report(ANSWERED[name]())
    assert document["outputs"][0]["shape"] is not None
    assert document["problems"] == []


@pytest.mark.parametrize("name", TOO_COMPLEX)
def test_what_is_too_complex_is_said(name: str) -> None:
    messages = [problem["message"] for problem in build.report(TOO_COMPLEX[name]())["problems"]]
    assert any("its sizes need" in message for message in messages)


def test_a_billion_calls_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty functions, each of which calls the next one twice."""
    monkeypatch.setattr(shapes, "MAX_INSIDE", 500)
    head = (
        '<ir_version: 8, opset_import: ["" : 17, "my" : 1]> g (float[1,8] x) => (float y) { y = my.f0 (x) }'
    )
    start = '<domain: "my", opset_import: ["" : 17, "my" : 1]>'
    bodies = [f"f{i} (x) => (y) {{ a = my.f{i + 1} (x) y = my.f{i + 1} (a) }}" for i in range(30)]
    text = " ".join([head, *(f"{start} {body}" for body in (*bodies, "f30 (x) => (y) { y = Relu (x) }"))])
    document = build.report(loads(parser.parse_model(text).SerializeToString()))
    messages = [problem["message"] for problem in document["problems"]]
    assert any("more than 500 nodes inside" in message for message in messages)
    assert document["totals"]["macs_coverage"] < 1


BEYOND: dict[str, Callable[[], Model]] = {
    "an input of 300 axes": lambda: net(["y = Relu(x)"], x=",".join(["9"] * 300)),
    "a size beyond int64": lambda: net(
        ["t = Expand(c, s)", "u = Tile(t, s)", "y = Tile(u, s)"], c=(1, 1), s=np.array([10**9, 10**9])
    ),
    "a target of 2**40 sizes": lambda: net(["s = my:Op(x)", "y = Reshape(x, t)"], x="3,4", t=f"i64:{2**40}"),
    "an expansion to 2**40 axes": lambda: net(["y = Expand(x, t)"], x="3,4", t=f"i64:{2**40}"),
    "a constant of 2**40 axes": lambda: net(["y = ConstantOfShape(t)"], t=f"i64:{2**40}"),
    "a slice of 2**40 axes": lambda: net(["y = Slice(x, t, t)"], x="3,4", t=f"i64:{2**40}"),
    "a rank beyond 64": lambda: net(["y = Unsqueeze(x, a)"], x="3,4", a=np.arange(70)),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_no_value_can_be_is_unknown(name: str) -> None:
    document = build.report(BEYOND[name]())
    assert document["outputs"][0]["shape"] is None
    assert document["totals"]["activation_bytes"] is None
    assert document["problems"] != []


def test_30_axes_of_the_largest_size_are_written_out() -> None:
    """(2**63 - 1)**30 floats of 4 bytes, twice: 8 * 2**1890 or 8 * 10**568.947, far beyond any float."""
    document = build.report(net(["y = Relu(x)"], x=",".join([str(2**63 - 1)] * 30)))
    assert document["totals"]["activation_bytes"] == 8 * (2**63 - 1) ** 30
    assert "7.1e+569 B" in text(document)


def test_a_negative_weight_size_counts_nothing() -> None:
    """-3*3*3*3 weights would be -81 parameters."""
    graph = "g (float[1,3,8,8] x) => (float[N,M,H,W] y) { y = Conv (x, w) }"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    model.graph.initializer.append(onnx.TensorProto(name="w", data_type=1, dims=[-3, 3, 3, 3]))
    document = build.report(loads(model.SerializeToString()))
    assert (document["totals"]["params"], document["totals"]["macs"]) == (0, None)
    assert "has a negative size" in document["problems"][0]["message"]
    assert document["problems"][1]["message"] == "Conv: the shape of input 1 (w) is unknown"


_ROWS = "r = Reshape(e, rows) allowzero=1"
EMPTY: dict[str, list[str]] = {
    "joined": [_ROWS, "y = Concat(r, r) axis=1"],
    "taken": [_ROWS, "y = Gather(r, i) axis=1"],
    "summed": [_ROWS, "y = ReduceSum(r, o) keepdims=0"],
    "turned": [_ROWS, "y = Transpose(r)"],
    "added": [_ROWS, "y = Add(r, r)"],
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty_values_of_many_rows_are_not_walked(name: str) -> None:
    """[2**40, 0] holds nothing; a walk over its rows would take hours."""
    model = net(
        EMPTY[name],
        e=np.zeros((0,), np.int64),
        rows=np.array([2**40, 0]),
        i=np.array([], np.int64),
        o=np.array([1]),
    )
    assert build.report(model)["outputs"][0]["shape"] is not None


def _declared(lines: list[str], shape: str, **values: str) -> Model:
    """A net whose output y declares a shape: what the file says counts where no rule answers."""
    inputs = [value(name, sizes) for name, sizes in values.items()]
    graph = onnx.helper.make_graph([*map(node, lines)], "net", inputs, [value("y", shape)])
    return loads(onnx.helper.make_model(graph, ir_version=8).SerializeToString())


ODD: dict[str, Callable[[], Model]] = {
    "a permutation of axes that aren't there": lambda: _declared(
        ["y = Transpose(x) perm=[7,0]"], "3,4", x="3,4"
    ),
    "a scalar whose name a later matrix takes": lambda: net(
        ["b, s, a = DynamicQuantizeLinear(x)", "a = Mul(x, x)", "y = Add(a, x)"], x="2,3"
    ),
    "a convolution whose map has no name": lambda: _declared(
        [", y = Conv(x, w)"], "", x="1,2,9,9", w="2,2,3,3"
    ),
    "60 free axes": lambda: net(["y = Relu(x)"], x=",".join(f"A{i}" for i in range(60))),
    "60 free axes of a generated weight": lambda: net(
        ["s = Shape(x)", "w = ConstantOfShape(s)", "y = Add(x, w)"], x=",".join(f"A{i}" for i in range(60))
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_a_report_all_the_same(name: str) -> None:
    """What the analysis can't follow is left open; the report stands."""
    document = build.report(ODD[name]())
    assert document["layers"] is not None
    assert "totals" in text(document)
