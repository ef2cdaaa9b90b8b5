"""Chains on one long image: an op that acts on every position runs on the folded batch, between two folds.

`forms` makes of a batch of maps one image [1, C, S1.., N*W]. An op on single numbers, or along the channels,
is the same op there, so it is written there, and the map behind its result [N, C, *S] only as nodes that
nothing may need: what leaves the chain takes that map, what stays in it never does. Rules know nothing of it.
"""

from __future__ import annotations

from dataclasses import replace

from onnxscope.graph import Node
from onnxscope.rewrite.builder import Builder, Frame
from onnxscope.rewrite.rules.pointwise import BROADCAST, UNARY

_ELEMENTWISE = frozenset((*UNARY.split(), *BROADCAST.split()))
_ALONG = frozenset(
    "Softmax LogSoftmax Hardmax LpNormalization ArgMax ArgMin TopK Split Concat Gather".split()
)
"""Ops whose attribute `axis` says along which axis they act."""
_AXES = {"Slice": 3} | dict.fromkeys(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp "
    "ReduceSumSquare".split(),
    1,
)
"""Ops with several axes, and the input that lists them where no attribute does."""
_QUANTIZING = frozenset(("QuantizeLinear", "DequantizeLinear"))


class Folder(Builder):
    """A builder that keeps a folded batch folded for as long as it can."""

    def add(self, place: int, node: Node, *, like: str = "", hint: str = "", outputs: int = 1) -> str:
        """As `Builder.add`; on the long image where every input has one, or is the same at every place."""
        frame = self._frame(node)
        if frame is None:
            return super().add(place, node, like=like, hint=hint, outputs=outputs)
        inner = replace(node, inputs=tuple(self.inner(name) for name in node.inputs))
        first = super().add(place, inner, hint=like or hint, outputs=outputs)
        names = super().outputs_of(first)
        twins = tuple(self.unfolded(place, name, frame, "" if i else like) for i, name in enumerate(names))
        self.groups[twins[0]] = twins
        return twins[0]

    def outputs_of(self, first: str) -> tuple[str, ...]:
        """As `Builder.outputs_of`."""
        return self.groups.get(first) or super().outputs_of(first)

    def _frame(self, node: Node) -> Frame | None:
        """The frame that all inputs share; None where the op must run on the maps."""
        frames = {folded.frame for name in node.inputs if (folded := self.folded.get(name))}
        if len(frames) != 1:
            return None
        frame = frames.pop()
        others = [name for name in node.inputs if name and name not in self.folded]
        if node.op in _ELEMENTWISE:
            return frame if all(self._even(name, frame) for name in others) else None
        if node.op == "Concat" and others:
            return None
        return frame if self._along_channels(node) else None

    def _even(self, name: str, frame: Frame) -> bool:
        """Whether a constant differs along the channels at most."""
        tensor = self.tensors.get(name) or self.graph.initializers.get(name)
        dims = self.dims.get(name) if tensor is None else tensor.dims
        channels = frame.rank - 1
        return dims is not None and all(
            size == 1 for place, size in enumerate(dims) if len(dims) - place != channels
        )

    def _along_channels(self, node: Node) -> bool:
        if node.op == "BatchNormalization":
            return True
        if node.op in _QUANTIZING:
            return node.attribute("axis") in (None, 1) and not node.attribute("block_size")
        if node.op in _AXES:
            return self._axes(node, _AXES[node.op]) == (1,)
        return node.op in _ALONG and node.attribute("axis") == 1

    def _axes(self, node: Node, index: int) -> tuple[int, ...]:
        given = node.attribute("axes")
        if isinstance(given, tuple):
            return tuple(axis for axis in given if isinstance(axis, int))
        tensor = self.tensors.get(node.inputs[index]) if len(node.inputs) > index else None
        return tuple(int(axis) for axis in tensor.items()) if tensor is not None else ()
