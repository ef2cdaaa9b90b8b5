"""Form `rows`: every window of the map becomes a row of a matrix, and the original head runs on it as it is.

The matrix is [P, F], P = N times the cells of the map, in row-major order of (image, cell). Whatever treats
the rows of a 2-D value one by one keeps its node, attributes and weights; so do quantized layers. Behind each
such value stands its map [N, F, *S'], written as nodes too: an op that isn't row-wise, or an output, takes
that; where nothing does, `select` drops it.
"""

from __future__ import annotations

from dataclasses import replace

from onnxscope import dtypes
from onnxscope.expr import Expr
from onnxscope.graph import Node
from onnxscope.ops.value import Shape
from onnxscope.rewrite import opsets
from onnxscope.rewrite.form_choice import ASKED, wants_rows
from onnxscope.rewrite.layout import FULLY_CONNECTED, operands
from onnxscope.rewrite.lift import WHOLE, Answer, Layer, Lift, RowsOf, Step, Tensors, Unliftable, lost_at
from onnxscope.rewrite.moving import reshape, source, transpose
from onnxscope.rewrite.rules.connected import kernel_of
from onnxscope.rewrite.views import View
from onnxscope.rewrite.weights import SAME

_UNARY = frozenset(
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid "
    "HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not QuickGelu Reciprocal Relu Round Selu "
    "Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu FastGelu BiasGelu "
    "QLinearSigmoid QLinearLeakyRelu QLinearAdd QLinearMul "
    "Add And Clip Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub "
    "Sum Where Xor QuantizeLinear DequantizeLinear DynamicQuantizeLinear".split()
)
_ALONG = {"Softmax": 1, "LogSoftmax": 1, "Hardmax": 1, "LayerNormalization": -1, "LpNormalization": -1,
          "QLinearSoftmax": -1, "RMSNormalization": -1}  # fmt: skip
"""Ops along one axis, and its default; for the softmaxes that of opset 1 and 13 agree on 2-D values."""


def answer(lift: Lift, step: Step) -> tuple[Answer, ...] | None:
    """The views of a node's outputs where it runs on rows; None where the ordinary rules are asked."""
    if step.place in lift.refused or lift.options.form not in ("rows", "auto") or lift.opset < 5:
        return None
    inputs = [_rows_of(lift, view) for view in step.views]
    frame = next((rows for rows in inputs if rows is not None and not rows.scalar), None)
    if frame is None:
        frame = _entered(lift, step)
        if frame is None and not any(inputs):
            return None
        if frame is not None:
            inputs[_data(step)] = frame
    try:
        names = _operands(step, inputs)
    except Unliftable:
        return None
    if frame is not None and not _row_wise(step, frame):
        return None
    return _emitted(lift, step, inputs, names, frame)


def _rows_of(lift: Lift, view: object) -> RowsOf | None:
    """The matrix that a view's twin is the map of, or one number of a map: a dynamic quantization's scale."""
    if not isinstance(view, View):
        return None
    found = lift.rows.get(view.twin)
    return RowsOf(view.twin, "", view, scalar=True) if found is None and not view.groups else found


def _data(step: Step) -> int:
    places = FULLY_CONNECTED.get(step.node.op)
    return places.data if places else 0


def _entered(lift: Lift, step: Step) -> RowsOf | None:
    """The matrix of windows behind a flattened value: at a layer, or at the rounding in front of it."""
    op, data = step.node.op, _data(step)
    if op not in FULLY_CONNECTED and (step.mapped or not _rounding(lift, step)):
        return None
    if op in FULLY_CONNECTED and operands(lift.native, step.fact).data != data:
        return None
    view = step.views[data] if data < len(step.views) else None
    if not isinstance(view, View) or len(view.groups) != 2 or view.groups[0] != (0,):
        return None
    if 1 not in view.groups[1] or not isinstance(view.channels, int) or not wants_rows(lift, step, view):
        return None
    kernel = _kernel(lift, step, view)
    return None if kernel is None else _matrix(lift, step, view, kernel)


def _rounding(lift: Lift, step: Step) -> bool:
    """Whether windows are cut in front of an op that rounds, though windows of integers are smaller.

    Where DequantizeLinear begins, what stands in front is integers. onnxruntime makes signed ones unsigned,
    for which it has an integer layer, only where QuantizeLinear and DequantizeLinear stand together (8 times
    the time without, measured).
    """
    if step.node.op != "QuantizeLinear":
        return step.node.op == "DequantizeLinear"
    signed = lift.native.value(step.output).dtype == dtypes.INT8
    readers = lift.model.graph.consumers.get(step.output, ())
    return signed and any(node.op == "DequantizeLinear" for node in readers)


def _kernel(lift: Lift, step: Step, view: View) -> tuple[int, ...] | None:
    weight = _weight(lift, step)
    if weight is None:
        known = tuple(size for size in view.spatial if isinstance(size, int))
        return known if len(known) == len(view.spatial) else None
    try:
        return kernel_of(view, weight[0])
    except Unliftable:
        return None


def _weight(lift: Lift, step: Step) -> tuple[int, int] | None:
    """Inputs and outputs of a layer's stored matrix."""
    places = FULLY_CONNECTED.get(step.node.op)
    if places is None:
        return None
    shape = lift.native.value(step.node.inputs[places.weight]).shape
    sizes = [size for size in shape or () if isinstance(size, int)]
    if len(sizes) != 2 or step.node.op == "MatMulNBits":
        return None
    return (sizes[1], sizes[0]) if step.node.attribute("transB") else (sizes[0], sizes[1])


def _matrix(lift: Lift, step: Step, view: View, kernel: tuple[int, ...]) -> RowsOf:
    """Windows as rows: x [N, C, *S] -> [N, *S', C*prod(K)] -> [P, C*prod(K)], features in original order."""
    place, d, channels = step.place, len(kernel), view.channels
    assert isinstance(channels, int)
    value = transpose(lift, place, view.twin, (0, *range(2, d + 2), 1))
    for axis in range(d, 0, -1):
        if kernel[axis - 1] > 1:
            value = opsets.shifted(lift, place, value, axis, kernel[axis - 1], d + 1)
    sizes = opsets.sizes(lift, place, value, 0, d + 1)
    features = channels
    for size in kernel:
        features *= size
    wide = [axis for axis in range(2, d + 2) if kernel[axis - 2] > 1]
    order = [axis for axis in view.groups[1] if axis == 1 or axis in wide]
    if order != [*wide, 1]:
        value = reshape(lift, place, value, (*(0,) * (d + 1), *(kernel[a - 2] for a in wide), channels))
        stored = [*wide, 1]
        value = transpose(lift, place, value, (*range(d + 1), *(d + 1 + stored.index(a) for a in order)))
    matrix = reshape(lift, place, value, (-1, features))
    lift.windows.add(matrix)
    free = tuple(size - k + 1 for size, k in zip(view.free, kernel, strict=True))
    base = replace(view, groups=((0,), (1,)), spatial=(1,) * d, free=free)
    return RowsOf(matrix, sizes, base, kernel, view.groups[1], view)


def _operands(step: Step, inputs: list[RowsOf | None]) -> tuple[str, ...]:
    """What the node reads instead. Raises Unliftable for a value that isn't the same for every row."""
    frames = {rows.sizes for rows in inputs if rows is not None and not rows.scalar}
    if len(frames) > 1:
        raise Unliftable
    names = []
    for index, (name, rows) in enumerate(zip(step.node.inputs, inputs, strict=True)):
        if rows is None and name and not (step.views[index] is None and _shared(step, index)):
            raise Unliftable
        names.append(name if rows is None else rows.matrix)
    return tuple(names)


def _shared(step: Step, index: int) -> bool:
    """Whether an operand has no axis of rows: a constant, or one number that is computed elsewhere."""
    shape = step.shape(index)
    if shape is None:
        return False
    if step.constant(index):
        places = FULLY_CONNECTED.get(step.node.op)
        return len(shape) < 2 or shape[0] == 1 or (places is not None and index == places.weight)
    return shape in ((), (1,))


def _row_wise(step: Step, frame: RowsOf) -> bool:
    """Whether the node makes each row of its result from the same row, and keeps two axes."""
    node, target = step.node, step.target
    if target is None or len(target) != 2:
        return False
    if node.op in FULLY_CONNECTED:
        places = operands(step.lift.native, step.fact)
        return (
            places.data < places.weight
            and not node.attribute("transA")
            and _weight(step.lift, step) is not None
        )
    if node.op in _ALONG:
        return step.integer("axis", _ALONG[node.op]) % 2 == 1
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return all(step.shape(i) in ((), (1,)) for i in range(1, len(node.inputs)) if step.has(i)) or (
            step.integer("axis", 1) % 2 == 1
        )
    if node.op == "BatchNormalization":
        fixed = all(step.constant(i) for i in range(1, 5)) and len(node.outputs) == 1
        return fixed and not step.integer("training_mode", 0) and step.lift.opset >= 7
    if node.op == "CumSum":
        axis = step.known(1)
        return axis is not None and all(isinstance(a, int) and a % 2 == 1 for a in axis.items)
    return node.op in _UNARY


def _emitted(
    lift: Lift, step: Step, inputs: list[RowsOf | None], names: tuple[str, ...], frame: RowsOf | None
) -> tuple[Answer, ...] | None:
    """The node on rows, and the map behind its first output."""
    if frame is None:
        return _scalars(lift, step, inputs, names)
    if isinstance((step.target or ())[1], Expr):
        return None
    node = replace(step.node, inputs=names, origin=None)
    first = lift.builder.add(step.place, node, hint=step.output, outputs=len(step.node.outputs))
    weight = _weight(lift, step)
    layers = frozenset[int]().union(*(rows.view.layers for rows in inputs if rows is not None))
    layers |= {step.place} if weight is not None else set()
    if step.node.op in ("DynamicQuantizeLinear", "DynamicQuantizeMatMul") and lift.options.size != "fixed":
        lift.remarks[step.place] = WHOLE.format(label=step.fact.label)
    kept = frame._replace(kernel=(), source=None) if weight is not None else frame
    kept = kept._replace(view=replace(kept.view, layers=layers))
    made = zip(step.node.outputs, lift.builder.outputs_of(first), strict=True)
    views = tuple(_output(lift, step, kept, name, matrix) for name, matrix in made)
    if weight is not None:
        _record(lift, step, frame, first, weight)
    return views


def _output(lift: Lift, step: Step, frame: RowsOf, name: str, matrix: str) -> Answer:
    """One number for all rows, or a matrix [P, F] with its map [N, F, *S']: P x F -> [N, *S', F] -> that."""
    shape = lift.native.value(name).shape if name else None
    if shape in ((), (1,)):
        return _scalar(lift, frame._replace(matrix=matrix), matrix)
    features = shape[1] if shape is not None and len(shape) == 2 else None
    if not isinstance(features, int):
        return lost_at(step)
    place, d = step.place, len(frame.view.spatial)
    sizes = opsets.sizes_joined(lift, place, [frame.sizes, lift.builder.ints((features,), "shape")])
    value = opsets.reshaped_to(lift, place, matrix, sizes)
    twin = transpose(lift, place, value, (0, d + 1, *range(1, d + 1)), like=name)
    view = replace(frame.view, channels=features, twin=twin)
    lift.rows[twin] = frame._replace(matrix=matrix, view=view)
    lift.matrices[matrix] = name
    return view


def _scalar(lift: Lift, frame: RowsOf, name: str, shape: Shape = ()) -> View:
    """Numbers for all rows.

    One, the scale of a dynamic quantization; or one per feature, which no map takes as it is: such a scale
    times those of a weight's columns.
    """
    groups = ((1,),) if shape not in ((), (1,)) else ()
    view = replace(frame.view, twin=name, groups=groups, channels=(*shape, 1)[0], spatial=(), free=())
    lift.rows[name] = frame._replace(matrix=name, view=view, scalar=True)
    return view


def _scalars(
    lift: Lift, step: Step, inputs: list[RowsOf | None], names: tuple[str, ...]
) -> tuple[Answer, ...] | None:
    """An elementwise op on such numbers only."""
    shape = step.target
    if shape is None or len(shape) > 1 or step.node.op not in _UNARY or len(step.node.outputs) != 1:
        return None
    rows = next(rows for rows in inputs if rows is not None)
    node = replace(step.node, inputs=names, origin=None)
    return (_scalar(lift, rows, lift.builder.add(step.place, node, hint=step.output), shape),)


def _record(lift: Lift, step: Step, frame: RowsOf, result: str, weight: tuple[int, int]) -> None:
    """The layer, for the plan and the verifier: its weight stays where it is."""
    places = FULLY_CONNECTED[step.node.op]
    name, data = step.node.inputs[places.weight], step.node.inputs[places.data]
    raw = frame.source is not None and frame.matrix not in lift.matrices
    viewed = frame.source if raw and frame.source is not None else replace(frame.view, twin=frame.matrix)
    kernel = frame.kernel if raw else ()
    channels = weight[0]
    for size in kernel:
        channels //= size
    axes = tuple(axis for axis in frame.order if axis == 1 or len(kernel) > axis - 2) if raw else (1,)
    bias = _bias(lift, step.node, places.bias)
    lift.layers[result] = Layer(
        step.fact, viewed, result, data, step.output, kernel, channels, weight[1],
        Tensors(_stored(lift, name), name, SAME, axes), bias, "rows", _reason(lift, step), frame.kernel,
    )  # fmt: skip


def _reason(lift: Lift, step: Step) -> str:
    """Why the head that the layer belongs to runs on rows."""
    known = lift.reasons.get(step.place)
    if known is None:
        known = next((lift.reasons[place] for place in reversed(lift.reasons) if place < step.place), ASKED)
    lift.forms[step.place] = ("rows", known)
    return known


def _bias(lift: Lift, node: Node, place: int | None) -> Tensors | None:
    if place is None or len(node.inputs) <= place or not node.inputs[place]:
        return None
    if node.op in ("Gemm", "FusedGemm") and node.attribute("beta") == 0.0:
        return None
    name = node.inputs[place]
    return Tensors(_stored(lift, name), name, SAME)


def _stored(lift: Lift, name: str) -> str:
    found = source(lift, name)
    return found.name if found is not None else name
