"""Declarations of the converted model: inputs with free sizes, outputs with closed forms, nothing stale."""

from __future__ import annotations

from dataclasses import replace

from onnxscope import edit as edits
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.edit import Edit
from onnxscope.expr import Expr
from onnxscope.graph import Model, Type, ValueInfo
from onnxscope.ops.value import Shape
from onnxscope.rewrite.native import Sizes
from onnxscope.rewrite.select import Selection


def declared(chosen: Selection, sizes: Sizes, change: Edit) -> Edit:
    """The edit with its declarations."""
    model, options = chosen.lift.model, chosen.lift.options
    inputs = _inputs(model, sizes)
    if model.ir_version < 4:  # there, an initializer must be an input too (IR.md, before version 4)
        inputs += [
            ValueInfo(tensor.name, Type("tensor", tensor.dtype, tensor.dims)) for tensor in change.tensors
        ]
    change = change._replace(inputs=tuple(inputs))
    after = infer(edits.apply(model, change))
    outputs = tuple(
        replace(info, type=_type(info, after))
        for info in model.graph.outputs
        if _differs(info, after) or (info.name in chosen.exported and info.type.shape is None)
    )
    unsure = {
        info.name
        for info in model.graph.values
        if options.size == "dynamic" and after.value(info.name).shape is None
    }
    stale = unsure | {info.name for info in model.graph.values if _differs(info, after)}
    return change._replace(outputs=outputs, stale=frozenset(stale))


def _inputs(model: Model, sizes: Sizes) -> list[ValueInfo]:
    found = []
    for info in model.graph.inputs:
        shape = sizes.shapes.get(info.name, info.type.shape)
        if info.name in model.graph.initializers or shape is None:
            continue
        if tuple(shape) != info.type.shape:
            found.append(replace(info, type=replace(info.type, shape=tuple(shape))))
    return found


def _differs(info: ValueInfo, after: Facts) -> bool:
    """Whether what the file declares isn't what the converted model computes."""
    if info.name not in after.main.values:
        return True
    shape, before = after.value(info.name).shape, info.type.shape
    if shape is None or before is None:
        return False
    return (
        len(shape) != len(before)
        or any(
            isinstance(size, Expr) if isinstance(dim, int) else isinstance(size, int) or _formula(size)
            for size, dim in zip(shape, before, strict=True)
        )
        or any(
            isinstance(d, int) and isinstance(s, int) and d != s for s, d in zip(shape, before, strict=True)
        )
    )


def _formula(size: Expr) -> bool:
    """Whether a size is more than one symbol."""
    return not str(size).isidentifier()


def _type(info: ValueInfo, after: Facts) -> Type:
    shape: Shape = after.value(info.name).shape or ()
    return replace(info.type, shape=tuple(size if isinstance(size, int) else str(size) for size in shape))
