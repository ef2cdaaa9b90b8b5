"""Model-local functions: a report says of a call what it says of the same model with the call written out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import inliner, numpy_helper, parser

from onnxscope.documents import ReportDocument, report
from onnxscope.files.read import loads

_HEAD = '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
_FUNCTION = '<domain: "my", opset_import: ["" : 17, "my" : 1]>'
_BLOCK = f"""{_FUNCTION}
block <s> (x, w) => (y) {{
    a = Conv <strides: ints = @s> (x, w)
    b = Relu (a)
    y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
}}"""
_CASES = {
    "two calls of one function": f"""{_HEAD}
        g (float[N,3,H,W] x) => (float y) {{
            a = my.block <s = [2, 2]> (x, w)
            b = my.block <s = [1, 1]> (a, v)
            y = ConvTranspose (b, u)
        }} {_BLOCK}""",
    "a call inside a call, outputs read twice": f"""{_HEAD}
        g (float[N,3,H,W] x) => (float y, float p) {{
            p, q = my.outer (x, w)
            y = Add (p, q)
        }} {_BLOCK} {_FUNCTION}
        outer (x, w) => (p, q) {{ p = my.block <s = [2, 1]> (x, w) q = Sigmoid (p) }}""",
    "an output that nobody reads": f"""{_HEAD}
        g (float[2,3,20,20] x) => (float y) {{
            y, rest = my.both (x, w)
        }} {_FUNCTION}
        both (x, w) => (a, b) {{ a = Conv (x, w) b = Neg (a) }}""",
}
_WEIGHTS = {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3), "u": (4, 2, 5, 5)}


def _proto(text: str) -> onnx.ModelProto:
    """The model with the weights that it names."""
    model = parser.parse_model(text)
    for name in _WEIGHTS.keys() & {name for node in model.graph.node for name in node.input}:
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(_WEIGHTS[name], np.float32), name))
    onnx.checker.check_model(model)
    return model


def _both(text: str) -> tuple[ReportDocument, ReportDocument]:
    """Reports on the model as it is, and with its functions written out by onnx."""
    model = _proto(text)
    return _report(model), _report(inliner.inline_local_functions(model))


def _report(model: onnx.ModelProto) -> ReportDocument:
    return report(loads(model.SerializeToString()))


@pytest.mark.parametrize("text", _CASES.values(), ids=_CASES.keys())
def test_a_call_counts_as_its_body(text: str) -> None:
    called, flat = _both(text)
    for key in ("totals", "spatial", "outputs"):
        assert called[key] == flat[key]  # type: ignore[literal-required]  # three keys of the TypedDict


@pytest.mark.parametrize("text", _CASES.values(), ids=_CASES.keys())
def test_layers_in_a_body_have_the_receptive_fields_of_the_flat_model(text: str) -> None:
    called, flat = (
        [(row["op"], row["output_shape"], row["receptive_field"]) for row in document["layers"]]
        for document in _both(text)
    )
    assert called == flat
    assert any(row[2] for row in flat)


def test_the_smallest_input_is_that_of_the_windows_inside() -> None:
    """The second call (conv 3, pool 2) needs 4 cells; the first one makes them of 17."""
    called, _ = _both(_CASES["two calls of one function"])
    assert called["spatial"]["minimum_input"] == {"H": 17, "W": 17}


def test_an_input_handed_through_is_one_value() -> None:
    """x 9600 B, less 3200, r 9600, t 3200, y 3200; the most at r: x (as `same`), less and r.

    onnx's inliner loses such an output, so it is no oracle here.
    """
    called = _report(
        _proto(
            f"""{_HEAD}
            g (float[2,3,20,20] x) => (float y) {{
                same, less = my.both (x, w)
                r = Relu (same)
                t = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (r, w)
                y = Add (less, t)
            }} {_FUNCTION}
            both (x, w) => (x, y) {{ y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w) }}"""
        )
    )
    assert called["totals"]["activation_bytes"] == 28800
    assert called["totals"]["peak_activation_bytes"] == 22400
    assert called["layers"][-1]["receptive_field"] == {"size": [3, 3], "stride": [2, 2], "start": [-1, -1]}
