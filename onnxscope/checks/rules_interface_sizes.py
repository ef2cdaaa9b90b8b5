"""OX210-OX216: free and fixed sizes of inputs, containers, wide types."""

from __future__ import annotations

from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.spatial import closed_forms
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, count_of, real_inputs, several, tensors
from onnxscope.checks.registry import check
from onnxscope.checks.rules_interface import interface
from onnxscope.graph import Model, ValueInfo

_STATE_INPUTS = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
_WIDE_ENOUGH = 64
"""Numbers from which a 64-bit tensor is more than a shape or an index."""


@check("OX210", "fixed-batch", severity="note")
def fixed_batch(model: Model) -> Iterator[Finding]:
    """The batch size is a number.

    What it flags:
        Inputs with at least two axes whose first one is fixed; one finding.

    Why it matters:
        Only that many images per call: servers can't batch requests. For devices it may be what is wanted.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 3] x) => (float[1, 3] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }

    Fix and its safety:
        Export with a free batch axis; renaming the axis in the file isn't enough where a Reshape holds the
        number (`batch-baked-in`).

    Source:
        torch.onnx, `dynamic_axes`; onnxruntime, make_dynamic_shape_fixed.
    """
    infos = [info for info in real_inputs(model) if len(info.type.shape or ()) >= 2]
    fixed = [info for info in infos if info.type.shape and isinstance(info.type.shape[0], int)]
    if fixed and len(fixed) == len(infos):
        sizes = [f"{info.type.shape[0]} (input {info.name!r})" for info in fixed if info.type.shape]
        text = f"the batch size is fixed: {several(sizes)}"
        yield at(fixed_batch.finding(fixed[0].name, text), fixed[0])


@check("OX211", "batch-mismatch", severity="note")
def batch_mismatch(model: Model) -> Iterator[Finding]:
    """Inputs disagree about the batch.

    What it flags:
        Inputs with at least two axes of which some declare a free first axis and others a number above 1.
        Left out are states of recurrent ops, and inputs that have the free axis further back.

    Why it matters:
        Only one batch size fits all of them.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 3] x, float[8, 3] z) => (float[N, 3] y) { y = Add(x, z) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 3] x, float[N, 3] z) => (float[N, 3] y) { y = Add(x, z) }

    Fix and its safety:
        Declare the same name for the first axis of all inputs, if they really share it.

    Source:
        ONNX IR.md, "Static tensor shapes": one name is one size.
    """
    states = {
        name
        for node in model.graph.nodes
        for place in _STATE_INPUTS.get(node.op, ())
        for name in node.inputs[place : place + 1]
    }
    firsts: dict[object, ValueInfo] = {}
    for info in real_inputs(model):
        if info.name not in states and len(info.type.shape or ()) >= 2 and info.type.shape:
            firsts.setdefault(info.type.shape[0], info)
    free = {size for size in firsts if not isinstance(size, int)}
    fixed = [
        size
        for size, info in firsts.items()
        if isinstance(size, int) and size > 1 and free.isdisjoint((info.type.shape or ())[1:])
    ]
    if fixed and free:
        sizes = [f"{info.name} {'free' if size is None else size}" for size, info in firsts.items()]
        text = f"inputs disagree about the first axis: {several(sizes, 5)}"
        yield at(batch_mismatch.finding(firsts[fixed[0]].name, text), firsts[fixed[0]])


@check("OX212", "size-below-minimum", severity="note")
def size_below_minimum(facts: Facts) -> Iterator[Finding]:
    """A free height or width has a lower bound that the file doesn't tell.

    What it flags:
        Free spatial sizes of inputs for which some window of the network needs more than one pixel; the
        smallest size that works is named.

    Why it matters:
        The declaration promises any size; a smaller image fails in the middle of the network.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, H, W] x, float[1, 1, 5, 5] w) => (float[1, 1, P, Q] y) { y = Conv(x, w) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, H, W] x, float[1, 1, 1, 1] w) => (float[1, 1, H, W] y) { y = Conv(x, w) }

    Fix and its safety:
        Check the size before the call, or resize; `onnxscope report` shows closed form and minimum.

    Source:
        ONNX Operators.md, Conv and pools: output size formula.
    """
    minimum = {name: size for name, size in closed_forms(facts).minimum_input.items() if size and size > 1}
    if minimum:
        sizes = ", ".join(f"{name} {size}" for name, size in minimum.items())
        text = f"free sizes have a minimum: {sizes}; the declaration promises any"
        yield size_below_minimum.finding(next(iter(minimum)), text, minimum=minimum)


@check("OX213", "empty-map", severity="error")
def empty_map(facts: Facts) -> Iterator[Finding]:
    """A map has no cells left.

    What it flags:
        Convolutions and pools whose output has a spatial size of 0 or less at the declared input size.

    Why it matters:
        The input is too small for the kernels; runtimes fail there.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 4, 4] x, float[1, 1, 5, 5] w) => (float[1, 1, P, Q] y) { y = Conv(x, w) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 1, 5, 5] x, float[1, 1, 5, 5] w) => (float[1, 1, P, Q] y) { y = Conv(x, w) }

    Fix and its safety:
        Declare the input size that the network was trained for.

    Source:
        ONNX Operators.md, Conv and pools: output size formula.
    """
    for problem in facts.problems:
        if problem.kind == "no-window":
            yield empty_map.finding(problem.where, f"empty map: {problem.message}")


@check("OX214", "container-output", severity="note")
def container_output(model: Model) -> Iterator[Finding]:
    """An input or output is no tensor.

    What it flags:
        Sequences, maps and optionals among graph inputs and outputs.

    Why it matters:
        Many runtimes and converters (TensorRT, CoreML, servers) take tensors only; a ZipMap behind a
        classifier costs more than the classifier.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (seq(float[N]) y) { y = SequenceConstruct(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Export tensors (skl2onnx: `zipmap=False`); callers must read them by position then.

    Source:
        skl2onnx, "Choose appropriate output of a classifier".
    """
    for what, info in interface(model):
        if info.type.kind in ("sequence", "map", "optional", "opaque"):
            text = f"{what} {info.name!r} is a {info.type.kind}, not a tensor"
            yield at(container_output.finding(info.name, text), info)


@check("OX215", "double-precision-interface", severity="warning")
def double_precision_interface(model: Model) -> Iterator[Finding]:
    """An input or output holds 64-bit floats.

    What it flags:
        Graph inputs and outputs of type float64 (stored weights: OX314).

    Why it matters:
        Most accelerators have no float64 kernels, or slow ones; everything computed from such an input is
        float64 too, or cast first.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (double[N] x) => (double[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Export in float32; results change in the last digits, compare with `onnxscope verify`.

    Source:
        onnx-tensorrt, "Supported data types"; CUDA programming guide, arithmetic throughput.
    """
    wide = [info for _, info in interface(model) if info.type.dtype == dtypes.DOUBLE]
    if wide:
        text = f"double precision (float64): {several(info.name for info in wide)}"
        yield at(double_precision_interface.finding(wide[0].name, text, values=len(wide)), wide[0])


@check("OX216", "int64-data", severity="note")
def int64_data(model: Model) -> Iterator[Finding]:
    """Large tensors are stored in 64-bit integers.

    What it flags:
        Stored int64 and uint64 tensors of at least 64 numbers (shapes and axes are smaller).

    Why it matters:
        Accelerators cast them to int32, with a copy, or refuse them; they take twice the bytes.

    Bad: see tests/checks/test_rules_interface.py

    Good: see tests/checks/test_rules_interface.py

    Fix and its safety:
        Store int32 where the ops around allow it and the values fit.

    Source:
        onnx-tensorrt#542: "model has been generated with INT64 weights".
    """
    wide = [(n, t) for n, t in tensors(model) if t.dtype in (dtypes.INT64, 13) and t.count >= _WIDE_ENOUGH]
    if wide:
        total = sum(tensor.nbytes or 0 for _, tensor in wide)
        text = f"{count_of(len(wide), 'tensor')} of 64-bit integers ({total} bytes): "
        text += several(f"{label} {list(tensor.dims)}" for label, tensor in wide)
        yield at(int64_data.finding(wide[0][0], text, tensors=len(wide), bytes=total), wide[0][1])
