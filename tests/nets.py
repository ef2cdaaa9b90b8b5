"""Small models for the analysis tests, from one line of text per node.

`net(["y = Conv(x, w) strides=[2,2]"], x="N,3,H,W", w=(8, 3, 3, 3))` gives a Model. Keyword values: a text is
a graph input's shape (float32; `i64:` in front for int64), a tuple the shape of a zero-filled initializer, an
array is stored as it is.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxscope.files.read import loads
from onnxscope.graph import Model

_LINE = re.compile(r"(?P<out>[^=]*) = (?:(?P<domain>[\w.]+):)?(?P<op>\w+)\((?P<inputs>[^)]*)\)(?P<rest>.*)")


def node(line: str, **attributes: Any) -> Any:
    """`a, b = Op(x, y) name=value` as a NodeProto; attribute values are Python literals or bare words."""
    match = _LINE.fullmatch(line)
    assert match, line
    for word in match["rest"].split():
        name, _, value = word.partition("=")
        try:
            attributes[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            attributes[name] = value
    label = attributes.pop("name", "")
    names = [name.strip() for name in match["inputs"].split(",")] if match["inputs"] else []
    outputs = [name.strip() for name in match["out"].split(",")]
    return helper.make_node(
        match["op"], names, outputs, name=label or outputs[0], domain=match["domain"] or "", **attributes
    )


def value(name: str, text: str) -> Any:
    """`N,3,H,W` as a ValueInfoProto; `?` is an axis without name, the empty text a scalar."""
    kind, _, sizes = text.rpartition(":")
    dtype = TensorProto.INT64 if kind == "i64" else TensorProto.FLOAT
    shape = [_size(size) for size in sizes.split(",")] if sizes else []
    return helper.make_tensor_value_info(name, dtype, shape)


def _size(text: str) -> int | str | None:
    return None if text == "?" else int(text) if text.lstrip("-").isdigit() else text


def net(
    lines: list[Any], *, opset: int = 17, outputs: list[str] | None = None, ir: int = 8, **values: Any
) -> Model:
    """A model; its outputs are the last node's unless named."""
    nodes = [node(line) if isinstance(line, str) else line for line in lines]
    inputs = [value(name, text) for name, text in values.items() if isinstance(text, str)]
    stored = [
        numpy_helper.from_array(np.zeros(v, np.float32) if isinstance(v, tuple) else v, name)
        for name, v in values.items()
        if not isinstance(v, str)
    ]
    ends = outputs or [name for name in nodes[-1].output if name]
    infos = [helper.make_empty_tensor_value_info(name) for name in ends]
    graph = helper.make_graph(nodes, "net", inputs, infos, stored)
    imports = [
        helper.make_opsetid("", opset),
        helper.make_opsetid("com.microsoft", 1),
        helper.make_opsetid("my", 1),
    ]
    return loads(helper.make_model(graph, opset_imports=imports, ir_version=ir).SerializeToString())
