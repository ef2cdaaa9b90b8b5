"""Receptive fields: how much of the input one cell of a map sees, and where.

Per axis of a value: `size` (input pixels that one cell depends on), `stride` (input pixels between
neighbouring cells) and `start` (coordinate of the first pixel that the first cell sees; negative: in the
padding). A window op turns (r, j, s) into r + dilation*(k - 1)*j, stride*j, s - pad*j. Source: Araujo,
Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, equations for
single-path networks; branches are merged to the smallest interval that covers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from onnxscope.analysis.facts import Facts, NodeFact, Place, Problem, Step
from onnxscope.ops.value import UNKNOWN, Shape


class Field(NamedTuple):
    """Receptive field along one axis, in input pixels."""

    size: int
    stride: int | Fraction
    """A fraction behind a ConvTranspose."""
    start: int | Fraction

    @property
    def centre(self) -> Fraction:
        """Centre of the first cell's field."""
        return self.start + Fraction(self.size - 1, 2)


Axes: TypeAlias = "tuple[Field | None, ...]"
"""One entry per axis of a value; None where a cell sees the whole axis or it isn't known."""


class ReceptiveFields(NamedTuple):
    """Receptive fields of the values of a model."""

    axes: dict[Place, Axes]
    """Those inside calls of model-local functions included, those inside If, Loop and Scan not."""
    nodes: dict[tuple[str, int], Axes]
    """(scope, node index) -> fields of the first output."""
    problems: tuple[Problem, ...]
    """Branches that meet with different strides or centres."""

    def spatial(self, fact: NodeFact) -> tuple[Field, ...] | None:
        """Fields along the spatial axes of a node's first output; None past a global op."""
        axes = self.nodes.get((fact.scope, fact.node.index), ())
        last = fact.inferred.window is not None and fact.inferred.window.channels_last
        found = axes[1:-1] if last else axes[2:]
        return tuple(filter(None, found)) if found and all(found) else None


class _Seen(NamedTuple):
    """A node with what its tracer needs."""

    fact: NodeFact
    inputs: tuple[Axes | None, ...]
    """Fields of each input; None for a constant or absent one."""
    shapes: tuple[Shape | None, ...]
    output: Shape


def trace(facts: Facts) -> ReceptiveFields:
    """Follow every axis of every input through the main graph and the functions that it calls."""
    found: dict[Place, Axes] = {}
    nodes: dict[tuple[str, int], Axes] = {}
    problems: list[Problem] = []
    stored = facts.main.graph.initializers
    for info in facts.main.graph.inputs:
        shape = facts.value(info.name).shape
        if info.name not in stored and shape is not None:
            found[info.name] = (Field(1, 1, 0),) * len(shape)
    for step in facts.steps():
        fact = step.fact
        made = next(filter(None, fact.outputs), UNKNOWN)
        if fact.fixed or made.shape is None:
            continue
        tracer = _TRACERS.get(fact.node.op, _unknown) if fact.node.inputs else _unknown
        axes = _passed_on(step, made.shape, found) if tracer is _pointwise else None
        if axes is None:
            seen = _seen(step, made.shape, found)
            axes = tracer(seen)
            if tracer in _MEETING:
                problems += _misaligned(seen)
        nodes[fact.scope, fact.node.index] = axes
        found.setdefault(step.outputs[0] or next(place for place in step.outputs if place), axes)
        if len(step.outputs) > 1:
            found.update(_further(step, axes))
    return ReceptiveFields(found, nodes, tuple(problems))


def _passed_on(step: Step, shape: Shape, found: dict[Place, Axes]) -> Axes | None:
    """The fields of the one input of a pointwise op that isn't stored and has its shape: most nodes' case."""
    source: Place = ""
    for place, value in zip(step.inputs, step.fact.inputs, strict=True):
        if value is None or value.constant or value.overridable:
            continue
        if source or value.shape != shape:
            return None
        source = place
    return found.get(source)


def _further(step: Step, axes: Axes) -> Iterator[tuple[Place, Axes]]:
    """The further outputs of ops that have several maps."""
    if step.fact.node.op == "MaxPool":  # the indices are laid out like the maxima
        return ((place, axes) for place in step.outputs[1:])
    return _parts(step, axes) if step.fact.node.op == "Split" else iter(())


def _parts(step: Step, axes: Axes) -> Iterator[tuple[Place, Axes]]:
    """The further outputs of a Split: along its axis they start where the ones before them end."""
    given = step.fact.node.attribute("axis")
    joined = given % len(axes) if isinstance(given, int) and axes else 0
    first: int | None = 0
    for before, place in zip(step.fact.outputs, step.outputs[1:], strict=False):
        size = before.shape[joined] if before and before.shape else None
        first = first + size if isinstance(first, int) and isinstance(size, int) else None
        moved = None if first is None else axes[joined]
        if moved is not None and first is not None:
            moved = Field(moved.size, moved.stride, moved.start + first * moved.stride)
        yield place, (*axes[:joined], moved, *axes[joined + 1 :])


def _seen(step: Step, shape: Shape, found: dict[Place, Axes]) -> _Seen:
    fields: list[Axes | None] = []
    shapes: list[Shape | None] = []
    for place, value in zip(step.inputs, step.fact.inputs, strict=True):
        if value is None or value.shape is None or value.constant or value.overridable:
            fields.append(None)
        else:
            known, rank = found.get(place), len(value.shape)
            fields.append(known if known and len(known) == rank else (None,) * rank)
        shapes.append(None if value is None else value.shape)
    return _Seen(step.fact, tuple(fields), tuple(shapes), shape)


def _pads(fact: NodeFact) -> tuple[object, ...]:
    given = fact.node.attribute("pads")
    if isinstance(given, tuple):
        return given
    partial = len(fact.inputs) > 3 and fact.inputs[3]  # axes: pads then name some axes only
    pads = None if partial or len(fact.inputs) < 2 else fact.inputs[1]
    data = None if pads is None else pads.known()
    return () if data is None else data.items


def _unknown(step: _Seen) -> Axes:
    return (None,) * len(step.output)


def _window(step: _Seen) -> Axes:
    """Conv, pools and ConvTranspose: windows on the spatial axes, all channels mixed."""
    window, source = step.fact.inferred.window, step.inputs[0]
    if window is None or source is None:
        return _unknown(step)
    rank = len(window.kernel)
    if len(step.output) != rank + 2:  # another node's value, where two have one name
        return _unknown(step)
    first = 1 if window.channels_last else 2
    change = _transposed_axis if window.transposed else _window_axis
    out: list[Field | None] = [None] * len(step.output)
    out[0] = source[0]
    rows = zip(
        source[first:], window.kernel, window.pads[:rank], window.strides, window.dilations, strict=False
    )
    last = None
    for place, row in enumerate(rows, first):
        field, kernel, begin, stride, dilation = row
        if row == last:  # most windows are square
            out[place] = out[place - 1]
        elif field is not None and isinstance(kernel, int) and isinstance(begin, int):
            out[place] = change(field, kernel, begin, stride, dilation)
        last = row
    return tuple(out)


def _window_axis(field: Field, kernel: int, begin: int, stride: int, dilation: int) -> Field:
    reach = dilation * (kernel - 1) * field.stride
    return Field(field.size + _ceil(reach), field.stride * stride, field.start - begin * field.stride)


def _transposed_axis(field: Field, kernel: int, begin: int, stride: int, dilation: int) -> Field:
    """Output o reads the inputs i with o = i*stride - begin + m*dilation for some 0 <= m < kernel.

    That is at most reach//stride + 1 of them, with reach = dilation*(kernel - 1).
    """
    reach = dilation * (kernel - 1)
    first = -((reach - begin) // stride)
    return Field(
        field.size + _ceil(reach // stride * field.stride),
        _plain(Fraction(field.stride) / stride),
        field.start + first * field.stride,
    )


def _plain(value: Fraction) -> int | Fraction:
    return value.numerator if value.denominator == 1 else value


def _ceil(value: Fraction | int) -> int:
    return -int(-value // 1)


def _pointwise(step: _Seen) -> Axes:
    """Each output element depends on the elements at its own place of every input (numpy broadcasting)."""
    moving = [
        (f, s) for f, s in zip(step.inputs, step.shapes, strict=True) if f is not None and s is not None
    ]
    if moving and [shape for _, shape in moving] == [step.output] * len(moving):
        return _merged([*zip(*[field for field, _ in moving], strict=True)])
    rank = len(step.output)
    merged: list[list[Field | None]] = [[] for _ in range(rank)]
    for field, shape in moving:
        offset = rank - len(shape)
        for axis, (entry, size) in enumerate(zip(field, shape, strict=True)):
            if offset + axis >= 0 and (size != 1 or step.output[offset + axis] == 1 or entry is None):
                merged[offset + axis].append(entry)
    return _merged(merged)


def _merged(entries: Sequence[Sequence[Field | None]]) -> Axes:
    """Per axis the merge of its fields; neighbours are often alike, and then share theirs."""
    found: list[Field | None] = []
    for place, fields in enumerate(entries):
        found.append(found[-1] if place and fields == entries[place - 1] else _merge(fields))
    return tuple(found)


def _merge(entries: Sequence[Field | None]) -> Field | None:
    """The smallest interval that covers all fields; None where one is unknown or the strides differ."""
    if not entries or entries[0] is None or entries.count(entries[0]) == len(entries):
        return entries[0] if entries else None
    first = entries[0]
    start, end = first.start, first.start + first.size
    for field in entries[1:]:
        if field is None or field.stride != first.stride:
            return None
        start, end = min(start, field.start), max(end, field.start + field.size)
    return Field(_ceil(end - start), first.stride, start)


def _misaligned(step: _Seen) -> list[Problem]:
    fields = [field for field in step.inputs if field is not None]
    if len(fields) < 2 or fields.count(fields[0]) == len(fields):
        return []
    same = [f[2:] for f in fields if len(f) == len(step.output)]
    last = None
    for row in zip(*same, strict=True):
        message = None if row == last else _disagreement([field for field in row if field is not None])
        if message:
            return [Problem(step.fact.label, message)]
        last = row
    return []


def _disagreement(fields: list[Field]) -> str | None:
    if len({field.stride for field in fields}) > 1:
        strides = ", ".join(sorted({str(field.stride) for field in fields}))
        return f"branches with different strides meet here ({strides} input pixels)"
    if len({2 * field.start + field.size for field in fields}) > 1:  # twice the centre, plus 1
        centres = ", ".join(str(float(centre)) for centre in sorted({field.centre for field in fields}))
        return f"misaligned branches meet here: their first cells are centred at {centres}"
    return None


def _transpose(step: _Seen) -> Axes:
    perm = step.fact.node.attribute("perm")
    source = step.inputs[0]
    if source is None:
        return _unknown(step)
    order = perm if isinstance(perm, tuple) else range(len(source))[::-1]
    if set(order) != set(range(len(source))):
        return _unknown(step)
    return tuple(source[axis] for axis in order if isinstance(axis, int))


def _concat(step: _Seen) -> Axes:
    axis = step.fact.node.attribute("axis")
    fields = [field for field in step.inputs if field is not None]
    joined = axis % len(step.output) if isinstance(axis, int) else 1
    same = [field for field in fields if len(field) == len(step.output)]
    if not same:
        return _unknown(step)
    merged = _merged(list(zip(*same, strict=True)))
    return (*merged[:joined], None, *merged[joined + 1 :])


def _pad(step: _Seen) -> Axes:
    """Padding in front moves the first cell out of the image; only constant pads are followed."""
    source, pads = step.inputs[0], [pad for pad in _pads(step.fact) if isinstance(pad, int)]
    if source is None or len(pads) != 2 * len(source):
        return _same_sizes(step)
    return tuple(
        Field(f.size, f.stride, f.start - pad * f.stride) if f else None
        for f, pad in zip(source, pads[: len(source)], strict=True)
    )


def _same_sizes(step: _Seen) -> Axes:
    """Ops that mix along some axes: axes whose size stays are followed, the others aren't."""
    source, before = step.inputs[0], step.shapes[0]
    if source is None or before is None or len(before) != len(step.output):
        return _unknown(step)
    return tuple(f if a == b else None for f, a, b in zip(source, before, step.output, strict=True))


def _reshape(step: _Seen) -> Axes:
    """Squeeze, Unsqueeze, Reshape: axes keep their field, in order, while only 1s come and go."""
    source, before = step.inputs[0], step.shapes[0]
    if source is None or before is None:
        return _unknown(step)
    kept = [(size, field) for size, field in zip(before, source, strict=True) if size != 1]
    wanted = [size for size in step.output if size != 1]
    if [size for size, _ in kept] != wanted:
        return _unknown(step)
    fields = iter(field for _, field in kept)
    return tuple(next(fields) if size != 1 else None for size in step.output)


_POINTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BatchNormalization BiasGelu BitShift Cast CastLike Ceil "
    "Celu Clip Cos Cosh DequantizeLinear Div Dropout Elu Equal Erf Exp FastGelu Floor Gelu Greater "
    "GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean "
    "Min Mish Mod Mul Neg Not Or PRelu Pow QLinearAdd QLinearLeakyRelu QLinearMul QLinearSigmoid "
    "QuantizeLinear QuickGelu Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign "
    "Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor LRN Split"
).split()
_WINDOWS = (
    "Conv FusedConv QLinearConv ConvInteger NhwcConv NhwcFusedConv ConvTranspose MaxPool AveragePool LpPool "
    "QLinearAveragePool NhwcMaxPool"
).split()
_TRACERS: dict[str, Callable[[_Seen], Axes]] = {
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(_WINDOWS, _window),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Reshape", "Flatten"), _reshape),
    "Transpose": _transpose,
    "Concat": _concat,
    "QLinearConcat": _concat,
    "Pad": _pad,
    **dict.fromkeys(("LayerNormalization", "LpNormalization"), _same_sizes),
}
"""Op -> how its output's fields follow from its inputs'. Other ops end the trace (global pools, Resize,
Slice, InstanceNormalization, which looks at the whole map)."""
_MEETING = (_pointwise, _concat)
"""Where branches meet."""
