"""OX139-OX141: what the IR version asks for, and models that compute nothing."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import count_of, several, tensors
from onnxscope.checks.registry import check
from onnxscope.graph import Model


@check("OX139", "initializer-not-input", severity="error")
def initializer_not_input(model: Model) -> Iterator[Finding]:
    """An initializer of an old model is no input.

    What it flags:
        Below IR version 4, initializers of the main graph that are not listed as graph inputs.

    Why it matters:
        That version demands it; the checker refuses the model.

    Bad:
        <ir_version: 3, opset_import: ["" : 8]>
        agraph (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }

    Good:
        <ir_version: 4, opset_import: ["" : 8]>
        agraph (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }

    Fix and its safety:
        Set the IR version to 4 or more: initializers then are constants, as meant.

    Source:
        ONNX IR.md, "Graphs"; onnx.proto, IR_VERSION_2019_1_22.
    """
    inputs = {info.name for info in model.graph.inputs}
    missing = [t.name for t in model.graph.tensors if t.name not in inputs]
    if missing and 0 < model.ir_version < 4:
        text = f"IR version {model.ir_version} wants every initializer listed as an input; "
        text += f"{count_of(len(missing), 'initializer')} not listed: {several(missing)}"
        yield initializer_not_input.finding(missing[0], text, initializers=len(missing))


@check("OX140", "nothing-computed", severity="error")
def nothing_computed(model: Model) -> Iterator[Finding]:
    """The main graph has no outputs or no nodes.

    What it flags:
        A model without graph outputs, or without a single node.

    Why it matters:
        A run gives nothing; runtimes refuse a graph without outputs.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => () { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Export again; list the values that callers want as outputs.

    Source:
        ONNX IR.md, "Graphs".
    """
    lacking = [
        what for what, found in (("nodes", model.graph.nodes), ("outputs", model.graph.outputs)) if not found
    ]
    if lacking:
        yield nothing_computed.finding(model.graph.name, f"the main graph has no {' and no '.join(lacking)}")


_SINCE_IR = {
    "functions": 8, "float8_e4m3fn": 9, "float8_e4m3fnuz": 9, "float8_e5m2": 9, "float8_e5m2fnuz": 9,
    "uint4": 10, "int4": 10, "float4_e2m1fn": 11, "float8_e8m0fnu": 12, "uint2": 13, "int2": 13,
}  # fmt: skip
"""Feature or element type -> IR version that brought it."""


@check("OX141", "feature-newer-than-ir", severity="warning")
def feature_newer_than_ir(model: Model) -> Iterator[Finding]:
    """The file uses what its IR version doesn't have yet.

    What it flags:
        Functions, function overloads or element types (8-bit floats, 4-bit integers, ...) that came with a
        later IR version than the file claims.

    Why it matters:
        A reader of that version skips what it doesn't know or refuses the file.

    Bad:
        <ir_version: 7, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Relu(a) }

    Good:
        <ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        agraph (float[N] x) => (float[N] y) { y = my.f(x) }
        <domain: "my", opset_import: ["" : 17]>
        f (a) => (b) { b = Relu(a) }

    Fix and its safety:
        Raise `ir_version` to the version named; readers of that version read the rest alike.

    Source:
        onnx.proto, enum Version: what each version added.
    """
    used = {dtypes.name_of(tensor.dtype) or "" for _, tensor in tensors(model)}
    used |= {"functions"} if model.functions else set()
    newer = {name: since for name, since in _SINCE_IR.items() if name in used and since > model.ir_version}
    if model.ir_version > 0 and newer:
        name = max(newer, key=lambda key: newer[key])
        text = f"{name} came with IR version {newer[name]}; the file says {model.ir_version}"
        yield feature_newer_than_ir.finding("", text, needed=newer[name], ir_version=model.ir_version)
