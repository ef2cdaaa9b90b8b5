"""OX201-OX209: what inputs and outputs declare."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts
from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, given, real_inputs, several
from onnxscope.checks.registry import check
from onnxscope.graph import Model, ValueInfo


def interface(model: Model) -> list[tuple[str, ValueInfo]]:
    """("input" or "output", value) of everything that a caller feeds or fetches."""
    return [*(("input", info) for info in real_inputs(model)), *(("output", i) for i in model.graph.outputs)]


@check("OX201", "untyped-interface", severity="warning")
def untyped_interface(model: Model) -> Iterator[Finding]:
    """An input or output declares no type.

    What it flags:
        Graph inputs and outputs without a type or element type.

    Why it matters:
        Callers must guess what to feed; the checker refuses such a model, and many converters do.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Declare the type; nothing is computed differently.

    Source:
        ONNX IR.md, "Graphs": inputs and outputs must have a type.
    """
    for what, info in interface(model):
        kind = info.type
        if not kind.kind or (kind.kind in ("tensor", "sparse") and not kind.dtype):
            text = f"untyped {what}: {info.name!r} declares no element type"
            yield at(untyped_interface.finding(info.name, text), info)


@check("OX202", "shapeless-interface", severity="warning")
def shapeless_interface(model: Model) -> Iterator[Finding]:
    """An input or output declares no shape.

    What it flags:
        Tensors among graph inputs and outputs whose rank isn't declared (free sizes are fine).

    Why it matters:
        Neither callers nor tools know how many axes there are; all shapes behind an input stay unknown.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Declare the axes, free ones by name; nothing is computed differently.

    Source:
        ONNX IR.md, "Static tensor shapes".
    """
    for what, info in interface(model):
        if info.type.kind == "tensor" and info.type.shape is None:
            text = f"{what} {info.name!r} declares no shape"
            yield at(shapeless_interface.finding(info.name, text), info)


@check("OX203", "anonymous-dimension", severity="note")
def anonymous_dimension(model: Model) -> Iterator[Finding]:
    """A free size of an input has no name.

    What it flags:
        Axes of graph inputs that declare neither number nor name; one finding per input.

    Why it matters:
        Nothing says that two free sizes are the same, and there is no name by which to fix one.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[?, 3] x) => (float[?, 3] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }

    Fix and its safety:
        Name the axis (`N`); one name for two axes promises that they are equal.

    Source:
        ONNX IR.md, "Static tensor shapes"; onnxruntime, make_dynamic_shape_fixed.
    """
    for info in real_inputs(model):
        axes = [axis for axis, size in enumerate(info.type.shape or ()) if size in (None, "")]
        if axes:
            text = (
                f"anonymous dimension: axis {several(axes, 8)} of input {info.name!r} is free without a name"
            )
            yield at(anonymous_dimension.finding(info.name, text, axes=axes), info)


_INVENTED = re.compile(r"unk__\d+|dynamic_axes_\w+|.*_dim_\d+|\?|p2o\.DynamicDimension\.\d+")


@check("OX204", "placeholder-dimension-name", severity="note")
def placeholder_dimension_name(model: Model) -> Iterator[Finding]:
    """A free size of an input has a made-up name.

    What it flags:
        Names such as `unk__12`, `dynamic_axes_1` or `?`, which tools invent where the exporter was told
        nothing.

    Why it matters:
        The name says nothing and changes with every export, so scripts that bind it break.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[unk__12, 3] x) => (float[unk__12, 3] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[batch, 3] x) => (float[batch, 3] y) { y = Relu(x) }

    Fix and its safety:
        Rename everywhere in the file (torch: `dynamic_axes`, `dynamic_shapes`); safe.

    Source:
        tf2onnx and onnx shape inference (`unk__`), torch.onnx.
    """
    for info in real_inputs(model):
        made_up = [d for d in info.type.shape or () if isinstance(d, str) and _INVENTED.fullmatch(d)]
        if made_up:
            text = f"placeholder name of a free size: {several(map(repr, made_up))} of input {info.name!r}"
            yield at(placeholder_dimension_name.finding(info.name, text, names=made_up), info)


@check("OX205", "negative-dimension", severity="error")
def negative_dimension(model: Model) -> Iterator[Finding]:
    """An input or output declares a negative size.

    What it flags:
        Negative sizes of graph inputs and outputs, mostly -1 meant as "free" (0 is legal: an empty tensor).

    Why it matters:
        A runtime compares it with what is fed and refuses every real tensor.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[-1, 3] x) => (float[N, 3] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }

    Fix and its safety:
        Give the free axis a name in place of -1.

    Source:
        onnx.proto, TensorShapeProto: dim_value is the size; free is a name or nothing.
    """
    for what, info in interface(model):
        wrong = [d for d in info.type.shape or () if isinstance(d, int) and d < 0]
        if wrong:
            text = f"{what} {info.name!r} declares the size {several(wrong)}, which no tensor can have"
            yield at(negative_dimension.finding(info.name, text, sizes=wrong), info)


@check(
    "OX206",
    "initializer-is-input",
    severity="warning",
    fix="python -m onnxruntime.tools.remove_initializer_from_input --input MODEL --output OUT",
)
def initializer_is_input(model: Model) -> Iterator[Finding]:
    """Weights are inputs too, so callers may replace them.

    What it flags:
        From IR version 4: initializers that are also listed as graph inputs; one finding with their number.

    Why it matters:
        They are defaults, not constants: runtimes can't fold or repack them, and a caller may overwrite them.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x, float[2] w = {1, 2}) => (float[2] y) { y = Mul(x, w) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }

    Fix and its safety:
        Remove them from the inputs; safe unless a caller feeds them.

    Source:
        ONNX IR.md, "Graphs"; onnxruntime, remove_initializer_from_input.py; onnxruntime#6094.
    """
    stored = {tensor.name for tensor in model.graph.tensors}
    both = [info for info in model.graph.inputs if info.name in stored]
    if both and model.ir_version >= 4:
        names = several(info.name for info in both)
        text = f"{len(both)} initializers are graph inputs too, so they are no constants: {names}"
        text = text if len(both) > 1 else f"initializer {names} is a graph input too, so it is no constant"
        yield at(initializer_is_input.finding(both[0].name, text, initializers=len(both)), both[0])


@check("OX207", "output-never-computed", severity="error")
def output_never_computed(model: Model) -> Iterator[Finding]:
    """An output that nobody makes.

    What it flags:
        Outputs of a graph that are no output of a node, no input and no initializer.

    Why it matters:
        Runtimes refuse the model.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y, float[N] z) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Remove the output, or export again.

    Source:
        ONNX IR.md, "Graphs".
    """
    graph = model.graph
    known = given(graph) | set(graph.producers)
    for info in graph.outputs:
        if info.name and info.name not in known:
            yield at(
                output_never_computed.finding(
                    info.name, f"output {info.name!r} is made by no node, input or initializer"
                ),
                info,
            )


@check("OX208", "unused-input", severity="warning")
def unused_input(model: Model) -> Iterator[Finding]:
    """An input that nobody reads.

    What it flags:
        Graph inputs (without initializer) that no node, subgraph or output uses.

    Why it matters:
        Callers prepare and copy a tensor for nothing; often the part that used it was lost in the export.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x, float[N] mask) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N] x, float[N] mask) => (float[N] y) { y = Mul(x, mask) }

    Fix and its safety:
        Remove it, and from the callers too; or find out which part of the network is missing.

    Source:
        onnx-doctor; torch.onnx drops unused inputs only with `keep_initializers_as_inputs` off.
    """
    graph = model.graph
    read = set(graph.consumers) | {info.name for info in graph.outputs}
    for info in real_inputs(model):
        if info.name and info.name not in read:
            text = f"unused input: nothing reads {info.name!r}"
            yield at(unused_input.finding(info.name, text), info)


@check("OX209", "constant-output", severity="warning")
def constant_output(facts: Facts) -> Iterator[Finding]:
    """An output that doesn't depend on any input.

    What it flags:
        Graph outputs that are initializers, or that nodes compute from constants alone.

    Why it matters:
        It is the same in every run: traced code turned a value into a constant, or a branch was cut off.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x) => (float[2] y, float[2] z) <float[2] w = {1, 2}> {
            y = Relu(x)
            z = Neg(w)
        }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x) => (float[2] y, float[2] z) <float[2] w = {1, 2}> {
            y = Relu(x)
            z = Mul(x, w)
        }

    Fix and its safety:
        Remove the output, or export so that it depends on the input.

    Source:
        torch.onnx, "Tracing vs scripting": traced values become constants.
    """
    for info in facts.main.graph.outputs:
        value = facts.main.values.get(info.name)
        if value is not None and value.constant:
            kind = dtypes.name_of(value.dtype) or "unknown type"
            text = f"constant output: {info.name!r} ({kind}) depends on no input of the model"
            yield at(constant_output.finding(info.name, text), info)
