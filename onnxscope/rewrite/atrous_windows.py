"""The dense twin of window ops: strides, pads and dilations of convolutions and pools.

Rules as in `atrous_rules`. What onnxruntime or an opset can't dilate is written with Pad, Slice, Max and Sum.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from onnxscope import dtypes
from onnxscope.analysis.facts import NodeFact
from onnxscope.expr import integers
from onnxscope.ops._windows import SAME
from onnxscope.ops.value import Window
from onnxscope.rewrite.atrous import END, Grid, Grids, NoDenseTwin, Walk

_LOWEST = {dtypes.UINT8: 0, dtypes.INT8: -128}
"""Element type -> its lowest number, for the padding of a maximum."""


class Sliding:
    """A window op on its way: what it reads, and how it is written in the dense network."""

    def __init__(self, walk: Walk, fact: NodeFact, window: Window) -> None:
        self.walk, self.fact, self.node = walk, fact, fact.node
        self.rank, self.first = len(window.kernel), 1 if window.channels_last else 2
        grids = walk.first(fact.node)
        before = grids[self.first : self.first + self.rank]
        if any(g.factor > 1 for i, g in enumerate(grids) if not self.first <= i < self.first + self.rank):
            raise NoDenseTwin("mixes an axis that gets denser")
        self.kernel = integers(window.kernel)
        if len(self.kernel) < self.rank:
            raise NoDenseTwin("has a kernel of unknown size")
        pairs = [walk.kept(t, grid) for t, grid in zip(window.strides, before, strict=True)]
        self.strides = tuple(stride for stride, _ in pairs)
        self.factors = tuple(grid.factor for grid in before)
        rows = zip(self.kernel, window.dilations, self.factors, strict=True)
        self.dilations = tuple(d * f if k > 1 else d for k, d, f in rows)
        behind = [grid for _, grid in pairs]
        batch, none = grids[0], Grid(None)
        self.grids = (batch, *behind, none) if self.first == 1 else (batch, none, *behind)
        self.same = self.strides == window.strides and self.dilations == window.dilations
        still = self.same and (max(self.factors) == 1 or not any(window.pads))
        self.pads = () if still else self._pads(window)
        self.same = still or (self.same and self.pads == window.pads)

    def _pads(self, window: Window) -> tuple[int, ...]:
        ends = [self._ends(window, axis) for axis in range(self.rank)]
        return (*(begin for begin, _ in ends), *(end for _, end in ends))

    def _ends(self, window: Window, axis: int) -> tuple[int, int]:
        """Pads of one axis in the dense network, at its begin and end.

        SAME: as many cells at the begin as ever, and at the end so many that the map has ceil(L'/stride)
        cells. ceil_mode: the windows that hang over, or begin in the image at least, get their padding.
        """
        reach = window.dilations[axis] * (self.kernel[axis] - 1)
        factor, stride = self.factors[axis], window.strides[axis]
        given = self.node.attribute("auto_pad")
        kind = given.decode() if isinstance(given, bytes) else ""
        begin, end = window.pads[axis], window.pads[axis + self.rank]
        if kind in SAME:
            first = begin if isinstance(begin, int) else _constant_begin(reach, stride, kind)
            return first * factor, (reach - first) * factor
        if not isinstance(begin, int) or not isinstance(end, int):
            raise NoDenseTwin("has pads of unknown size")
        if self.node.attribute("ceil_mode"):
            if kind == "VALID":
                raise NoDenseTwin("combines auto_pad VALID and ceil_mode")
            end = max(end, min(end + stride - 1, reach))
        return begin * factor, end * factor

    @property
    def hangs(self) -> bool:
        """Whether windows hang over the declared padding."""
        window = self.fact.inferred.window
        given = [] if window is None else window.pads[self.rank :]
        ends = zip(given, self.factors, self.pads[self.rank :], strict=True)
        return bool(self.node.attribute("ceil_mode")) and any(
            isinstance(pad, int) and pad * factor != now for pad, factor, now in ends
        )

    def plain(self, source: str = "", *, pads: tuple[int, ...] | None = None) -> None:
        """The node itself with its dense strides, pads and dilations."""
        node = (
            replace(self.node, inputs=(source, *self.node.inputs[1:]), origin=None) if source else self.node
        )
        pads = self.pads if pads is None else pads
        self.walk.keep(
            node,
            strides=self.strides,
            pads=pads if any(pads) else None,
            dilations=self.dilations if max(self.dilations) > 1 else None,
            auto_pad=None,
            ceil_mode=None,
        )

    def done(self) -> Grids:
        """The grids behind it, and the layer counted."""
        self.walk.changed.append(self.fact.label)
        return self.grids


def _constant_begin(reach: int, stride: int, kind: str) -> int:
    """Pixels that SAME puts in front at every input size. Raises NoDenseTwin where sizes differ in it."""
    totals = [max(reach - rest, 0) for rest in range(stride)]
    begins = {total // 2 if kind == "SAME_UPPER" else total - total // 2 for total in totals}
    if len(begins) > 1:
        raise NoDenseTwin(f"pads {kind}, by an amount that changes with the input size")
    return begins.pop()


def _sliding(walk: Walk, fact: NodeFact) -> Sliding:
    window = fact.inferred.window
    if window is None or window.transposed:
        if any(grid.factor > 1 for grid in walk.first(fact.node)):
            raise NoDenseTwin("can't be dilated")
        raise NoDenseTwin("has a window of unknown size")
    return Sliding(walk, fact, window)


def convolution(walk: Walk, fact: NodeFact) -> Grids | None:
    """Conv in all its forms: strides, pads and dilations are attributes."""
    found = _sliding(walk, fact)
    added = fact.node.inputs[3] if fact.node.op == "FusedConv" and len(fact.node.inputs) > 3 else ""
    other = walk.grids_of(added)
    if other is not None and [g.factor for g in other] != [g.factor for g in found.grids]:
        raise NoDenseTwin("adds a branch that can't be made equally dense")
    if found.same:
        walk.keep(fact.node)
        return found.grids
    found.plain()
    return found.done()


def pool(walk: Walk, fact: NodeFact) -> Grids | None:
    """MaxPool, AveragePool, LpPool: dilated from opsets 10, 19 and 18 on; below, maxima and sums of shifts.

    onnxruntime refuses pads as large as the undilated kernel, so that padding becomes a Pad of its own.
    """
    found, node = _sliding(walk, fact), fact.node
    if found.same:
        walk.keep(node)
        return found.grids
    if len([name for name in node.outputs if name]) > 1:
        raise NoDenseTwin("gives the places of its maxima")
    since = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[node.op]
    native = walk.opset >= since or max(found.dilations) == 1
    outside = any(pad >= found.kernel[i % found.rank] for i, pad in enumerate(found.pads))
    if node.op == "AveragePool" and found.hangs and node.attribute("count_include_pad"):
        raise NoDenseTwin("counts its padding, but not where windows hang over it")
    if native and not outside:
        found.plain()
        return found.done()
    counts = node.op != "AveragePool" or node.attribute("count_include_pad") or not any(found.pads)
    source = node.inputs[0]
    if node.op == "LpPool" and not native:
        raise NoDenseTwin("has no dilation below opset 18")
    padded = _padded(found, source)
    if counts and native:
        found.plain(source=padded, pads=(0,) * (2 * found.rank))
    elif counts:
        _shifts(found, padded, node.outputs[0])
    else:
        ones = _padded(found, _ones(walk, source))
        parts = [_shifts(found, value, "") for value in (padded, ones)]
        walk.emit("Div", parts, node.outputs[0], node.outputs[0])
    return found.done()


def _padded(found: Sliding, source: str) -> str:
    """The pool's input with its padding: zeros, or below every number for a maximum."""
    walk, node = found.walk, found.node
    if not any(found.pads):
        return source
    dtype = walk.facts.value(node.inputs[0]).dtype or dtypes.FLOAT
    floating = dtype in (dtypes.FLOAT, dtypes.FLOAT16, dtypes.DOUBLE)
    fill: float = 0 if node.op != "MaxPool" else -inf if floating else _LOWEST.get(dtype, 1)
    if fill == 1 or (walk.opset < 11 and not floating):
        raise NoDenseTwin("would need padding of a type that has none")
    pads = (0, 0, *found.pads[: found.rank], 0, 0, *found.pads[found.rank :])
    if walk.opset < 11:
        return walk.emit("Pad", (source,), source, pads=pads, value=float(fill))
    if not floating:
        value = _byte(walk, source, int(fill), dtype)
    else:
        value = walk.constant(f"{source}_fill", (float(fill),), (), dtype)
    return walk.emit("Pad", (source, walk.ints(f"{source}_pads", pads), value), source)


def _byte(walk: Walk, source: str, fill: int, dtype: int) -> str:
    wide = walk.constant(f"{source}_fill", (fill,), (), dtypes.INT64)
    return walk.emit("Cast", (wide,), f"{source}_fill", to=dtype)


def _ones(walk: Walk, source: str) -> str:
    """A map of ones as large as `source`; from opset 9 on."""
    if walk.opset < 9:
        raise NoDenseTwin(f"leaves its padding out of the mean, which opset {walk.opset} can't do dilated")
    sizes = walk.emit("Shape", (source,), f"{source}_sizes")
    dtype = walk.facts.value(source).dtype or dtypes.FLOAT
    one = walk.constant(f"{source}_one", (1.0,), (1,), dtype)
    return walk.emit("Expand", (one, sizes), f"{source}_ones")


def _shifts(found: Sliding, value: str, output: str) -> str:
    """A dilated pool without a dilated kernel: maxima or means of shifted stretches, axis by axis."""
    walk, like = found.walk, found.node.outputs[0]
    op = "Max" if found.node.op == "MaxPool" else "Sum"
    if max(found.strides) > 1 and walk.opset < 10:
        raise NoDenseTwin(f"needs stride and dilation at once, which opset {walk.opset} can't do")
    count = 1
    for axis, (kernel, dilation) in enumerate(zip(found.kernel, found.dilations, strict=True), 2):
        count *= kernel
        reach = dilation * (kernel - 1)
        stretches = [
            _stretch(walk, like, value, axis, at, END if at == reach else at - reach)
            for at in range(0, reach + 1, dilation)
        ]
        value = walk.emit(op, stretches, like) if kernel > 1 else value
        if found.strides[axis - 2] > 1:
            value = _stretch(walk, like, value, axis, 0, END, found.strides[axis - 2])
    if op == "Max":
        return walk.emit("Identity", (value,), like, output)
    dtype = walk.facts.value(found.node.inputs[0]).dtype or dtypes.FLOAT
    share = walk.constant(f"{like}_share", (1.0 / count,), (), dtype)
    if walk.opset < 7:
        return walk.emit("Mul", (value, share), like, output, broadcast=1)
    return walk.emit("Mul", (value, share), like, output)


def _stretch(walk: Walk, like: str, value: str, axis: int, start: int, end: int, step: int = 1) -> str:
    """Cells start, start + step.. up to `end` of one axis; steps from opset 10 on."""
    if walk.opset < 10:
        return walk.emit("Slice", (value,), like, starts=(start,), ends=(end,), axes=(axis,))
    parts = (walk.ints(f"{like}_cut", (number,)) for number in (start, end, axis, step))
    return walk.emit("Slice", (value, *parts), like)


def quantized_pool(walk: Walk, fact: NodeFact) -> Grids | None:
    """QLinearAveragePool, which has no dilation."""
    found = _sliding(walk, fact)
    if found.same:
        walk.keep(fact.node)
        return found.grids
    fits = all(pad < found.kernel[i % found.rank] for i, pad in enumerate(found.pads))
    if max(found.dilations) > 1 or found.hangs or not fits:
        raise NoDenseTwin("has no dilation")
    found.plain()
    return found.done()
