"""One-node models from compact text, for the tables that test op rules.

An input is written as

    "N,3,H,W"         float32 of these sizes; a name is a symbol, "?" an axis without name or number
    "i64 N,3"         the same with an element type in front;  "()" is a scalar,  "*" a value of unknown rank
    "i64:[2,3]"       a stored constant, lists nested as the tensor is;  "f32:0.5" is a scalar, "i64:[]" empty
    "size:[N,H//2]"   int64 content known only in symbols (as Shape and its followers make); + - * // min max
    None              an absent optional input

and an answer is read back as the same kind of text: `answer("Relu", 14, ["N,3"]).shape == "N,3"`.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.expr import Size, maximum, minimum, symbol
from onnxscope.graph import Attribute, Graph, Model, Node, SparseTensor, Tensor, Type, ValueInfo
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Data, Inferred, one

SHORT = {
    **{"f32": 1, "u8": 2, "i8": 3, "u16": 4, "i16": 5, "i32": 6, "i64": 7, "str": 8, "bool": 9, "f16": 10},
    **{"f64": 11, "u32": 12, "u64": 13, "c64": 14, "c128": 15, "bf16": 16, "f8": 17, "u4": 21, "i4": 22},
    "size": 7,
}
_LETTERS = dict(zip((1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13), "fBbHhiq?edIQ", strict=True))
_TEST_DOMAIN = "test.onnxscope"


@dataclass(frozen=True)
class Memory:
    """Tensor numbers held in memory (a `Storage`)."""

    data: bytes
    kind: str = "raw"
    location: str = "memory"

    def view(self) -> memoryview:
        """The packed bytes."""
        return memoryview(self.data)


@dataclass(frozen=True)
class Answer:
    """What inference says about the one node, as text; one entry per output in each tuple."""

    shapes: tuple[str, ...]
    """As "N,64,(H + 1)//2", "()" for a scalar, "*" where even the rank is unknown."""
    dtypes: tuple[str | None, ...]
    """Element types by their long names."""
    data: tuple[str | None, ...]
    """Known content, nested lists with symbols: "[N, 3, 7]"; None where unknown."""
    containers: tuple[str, ...]
    macs: str | None
    """Worked MACs, "2*3*4 = 24"; None for an op without, "unknown" where they can't be counted."""
    axes: tuple[str, ...]
    """Worked output sizes per spatial axis."""
    problems: tuple[str, ...]
    facts: Facts
    inferred: Inferred

    @property
    def answered(self) -> bool:
        """Whether a rule had an answer about the node; where not, `problems` says why."""
        return self.facts.main.nodes[-1].answered

    @property
    def shape(self) -> str:
        """Shape of the first output."""
        return self.shapes[0]

    @property
    def dtype(self) -> str | None:
        """Element type of the first output."""
        return self.dtypes[0]

    @property
    def value(self) -> str | None:
        """Known content of the first output."""
        return self.data[0]


def answer(
    name: str,
    opset: int,
    inputs: Sequence[str | None] = (),
    attributes: Mapping[str, object] | None = None,
    *,
    outputs: int = 1,
    domain: str = "",
    dims: Mapping[str, int] | None = None,
) -> Answer:
    """Infer a model of one node, behind content makers. Inputs are named x0, x1, ..., outputs y0, y1, ..."""
    model = build(name, opset, inputs, attributes, outputs=outputs, domain=domain)
    facts = infer(model, dims=dims)
    fact = facts.main.nodes[-1]
    values = [facts.main.values[f"y{i}"] for i in range(outputs)]
    worked = fact.inferred.macs
    return Answer(
        shapes=tuple(shape_text(value.shape) for value in values),
        dtypes=tuple(dtypes.name_of(value.dtype) for value in values),
        data=tuple(data_text(value.known()) for value in values),
        containers=tuple(value.container for value in values),
        macs="unknown" if fact.inferred.unknown_macs else None if worked is None else str(worked),
        axes=tuple(str(axis) for axis in fact.inferred.axes),
        problems=tuple(problem.message for problem in facts.problems),
        facts=facts,
        inferred=fact.inferred,
    )


def build(
    name: str,
    opset: int,
    inputs: Sequence[str | None] = (),
    attributes: Mapping[str, object] | None = None,
    *,
    outputs: int = 1,
    domain: str = "",
) -> Model:
    """The one-node model itself, behind one content maker per `size:` input."""
    given: list[ValueInfo] = []
    stored: list[Tensor] = []
    nodes: list[Node] = []
    for i, text in enumerate(inputs):
        if text is None:
            continue
        if text.startswith("size:"):
            made = (Attribute("text", text[5:].encode(), 3),)
            nodes.append(Node(len(nodes), f"make{i}", "Content", _TEST_DOMAIN, (), (f"x{i}",), made))
        elif ":" in text:
            stored.append(constant(text, f"x{i}"))
        else:
            given.append(ValueInfo(f"x{i}", declared(text)))
    names = tuple("" if text is None else f"x{i}" for i, text in enumerate(inputs))
    results = tuple(f"y{i}" for i in range(outputs))
    extra = tuple(attribute(key, value) for key, value in (attributes or {}).items())
    nodes.append(Node(len(nodes), "node", name, domain, names, results, extra))
    graph = Graph(
        "g", tuple(given), tuple(ValueInfo(y, Type("")) for y in results), tuple(nodes), tuple(stored)
    )
    opsets = [("", opset)] if domain in ("", "ai.onnx") else [("", 21), (domain, opset)]
    return Model(graph, ir_version=10, opsets=(*opsets, (_TEST_DOMAIN, 1)))


def declared(text: str) -> Type:
    """The declared type of an input such as "i64 N,3"."""
    kind, _, rest = text.partition(" ")
    dtype, sizes = (SHORT[kind], rest) if kind in SHORT else (dtypes.FLOAT, text)
    if sizes == "*":
        return Type("tensor", dtype, None)
    names = [] if sizes == "()" else sizes.split(",")
    return Type("tensor", dtype, tuple(int(n) if n.isdigit() else None if n == "?" else n for n in names))


def constant(text: str, name: str = "") -> Tensor:
    """A stored tensor such as "i64:[2,3]"."""
    kind, _, body = text.partition(":")
    value = ast.literal_eval(body)
    dtype, sizes, items = SHORT[kind], list_shape(value), tuple(flatten(value))
    if kind == "str":
        return Tensor(name, dtype, sizes, None)
    return Tensor(name, dtype, sizes, Memory(struct.pack(f"<{len(items)}{_LETTERS[dtype]}", *items)))


def attribute(name: str, value: object) -> Attribute:
    """An attribute in the form that the reader gives: text as bytes, lists as tuples."""
    if isinstance(value, str):
        return Attribute(name, value.encode(), 3)
    if isinstance(value, (list, tuple)):
        items = tuple(item.encode() if isinstance(item, str) else item for item in value)
        first = items[0] if items else 0
        lists = ((bytes, 8), (float, 6), (Tensor, 9))
        kind = next((number for cls, number in lists if isinstance(first, cls)), 7)
        return Attribute(name, items, kind)  # type: ignore[arg-type]  # items are of one kind
    kinds = ((int, 2), (float, 1), (bytes, 3), (Tensor, 4), (SparseTensor, 11), (Graph, 5), (Type, 13))
    kind = next(number for cls, number in kinds if isinstance(value, cls))
    return Attribute(name, value, kind)  # type: ignore[arg-type]  # from ONNX text


def shape_text(shape: Sequence[Size] | None) -> str:
    """A shape as the tables write it."""
    return "*" if shape is None else ",".join(map(str, shape)) or "()"


def data_text(data: Data | None) -> str | None:
    """Content as nested lists."""
    return None if data is None else _nested(data.shape, [str(item) for item in data.items])


def _nested(shape: tuple[int, ...], items: list[str]) -> str:
    if not shape:
        return items[0]
    step = len(items) // shape[0] if shape[0] else 0
    return f"[{', '.join(_nested(shape[1:], items[i * step : (i + 1) * step]) for i in range(shape[0]))}]"


def list_shape(value: object) -> tuple[int, ...]:
    """Sizes of a nested list; () for a number."""
    if not isinstance(value, list):
        return ()
    return (len(value), *(list_shape(value[0]) if value else ()))


def flatten(value: object) -> list[object]:
    """Items of a nested list, in row-major order."""
    return list(chain.from_iterable(map(flatten, value))) if isinstance(value, list) else [value]


def is_concrete(inputs: Sequence[str | None]) -> bool:
    """Whether every input has known sizes, so that a runtime can run the row."""
    return all(text is None or ":" in text or _numbers(declared(text)) for text in inputs) and not any(
        text is not None and text.startswith(("size:", "str")) for text in inputs
    )


def _numbers(declared_type: Type) -> bool:
    return declared_type.shape is not None and all(isinstance(size, int) for size in declared_type.shape)


def measured(
    name: str,
    opset: int,
    inputs: Sequence[str | None] = (),
    attributes: Mapping[str, object] | None = None,
    *,
    outputs: int = 1,
    domain: str = "",
) -> list[tuple[str, str, list[object]]]:
    """What onnxruntime gives for the same row: (shape text, element type, items) per output; inputs are ones.

    Skips the test where onnxruntime is missing or has no such kernel.
    """
    runtime = pytest.importorskip("onnxruntime")
    feeds = {f"x{i}": _ones(text) for i, text in enumerate(inputs) if text is not None}
    names = ["" if text is None else f"x{i}" for i, text in enumerate(inputs)]
    content = _one_node(name, opset, names, feeds, attributes or {}, outputs, domain)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as missing:
        if "NOT_IMPLEMENTED" in str(missing) or "under development" in str(missing):
            pytest.skip(str(missing))
        raise
    found = session.run(None, feeds)
    return [(shape_text(array.shape), str(array.dtype), array.reshape(-1).tolist()) for array in found]


def _one_node(name, opset, names, feeds, attributes, outputs, domain) -> bytes:  # type: ignore[no-untyped-def]  # one caller
    import onnx
    from onnx import helper

    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(name, names, results, domain=domain)
    for key, value in attributes.items():
        kind = onnx.AttributeProto.INTS if value == [] else None
        node.attribute.append(helper.make_attribute(key, value, attr_type=kind))
    given = [
        helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for key, array in feeds.items()
    ]
    graph = helper.make_graph([node], "g", given, [onnx.ValueInfoProto(name=y) for y in results])
    versions = {"": min(opset, 17), domain: opset}
    imports = [helper.make_opsetid(key, value) for key, value in versions.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    return onnx.shape_inference.infer_shapes(model).SerializeToString()


def _ones(text: str) -> Any:
    import numpy as np

    if ":" in text:
        tensor = constant(text)
        return np.array(tensor.items(), dtype=dtypes.BY_CODE[tensor.dtype].numpy).reshape(tensor.dims)
    kind = declared(text)
    return np.ones([int(size) for size in kind.shape or ()], dtype=dtypes.BY_CODE[kind.dtype].numpy)


@op("Content", domain=_TEST_DOMAIN)
def content(n: View, *, text: str = "") -> Inferred:
    """Test-only: a value whose content is written in symbols."""
    value = _evaluated(ast.parse(text, mode="eval").body)
    sizes = list_shape(value)
    return one(sizes, dtypes.INT64, Data(sizes, tuple(flatten(value))))  # type: ignore[arg-type]  # numbers


def _evaluated(tree: ast.expr) -> Any:
    if isinstance(tree, ast.List):
        return [_evaluated(item) for item in tree.elts]
    if isinstance(tree, ast.Constant):
        return tree.value
    if isinstance(tree, ast.Name):
        return symbol(tree.id)
    if isinstance(tree, ast.UnaryOp):
        return -_evaluated(tree.operand)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        return {"min": minimum, "max": maximum}[tree.func.id](*map(_evaluated, tree.args))
    assert isinstance(tree, ast.BinOp)
    left, right = _evaluated(tree.left), _evaluated(tree.right)
    results = {ast.Add: lambda: left + right, ast.Sub: lambda: left - right, ast.Mult: lambda: left * right}
    return results.get(type(tree.op), lambda: left // right)()
