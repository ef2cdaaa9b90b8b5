"""New nodes and constants of a conversion, collected under provisional names.

Rules add nodes freely; what nothing needs in the end is dropped by `select`, which also gives the values
their final names: the original one wherever it is free.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from onnxscope import dtypes
from onnxscope.graph import Attribute, AttributeValue, Graph, Model, Node, Tensor

MARK = "\0"
"""First character of a provisional name; no file has it in a name of use."""
_INT, _FLOAT, _INTS = 2, 1, 7
_FORMATS = {dtypes.INT64: "q", dtypes.INT32: "i", dtypes.FLOAT: "f", dtypes.DOUBLE: "d", dtypes.FLOAT16: "e"}


class Draft(NamedTuple):
    """A new node under provisional names."""

    place: int
    """Index of the original node in front of which it goes."""
    node: Node
    like: str = ""
    """Original value whose twin the first output is; "" for one in between."""


class Stored(NamedTuple):
    """Numbers of a new tensor, held in memory: shapes, axes and the like."""

    data: bytes

    @property
    def kind(self) -> str:
        """`raw`."""
        return "raw"

    @property
    def location(self) -> str:
        """Where the numbers are, for people."""
        return "made by onnxscope"

    def view(self) -> memoryview:
        """The packed bytes."""
        return memoryview(self.data)


def packed(numbers: Sequence[int | float], dtype: int) -> Stored:
    """Numbers in `raw_data` layout. Raises KeyError for a type other than int32, int64 and the floats."""
    return Stored(struct.pack(f"<{len(numbers)}{_FORMATS[dtype]}", *numbers))


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One way in which a batch of maps lies in one long image; two values share it or can't meet."""

    layout: str
    """fold: [1, C, S1.., N*W], image after image; interleave: [1, C, S1.., W*N], images cell by cell."""
    rank: int
    """Axes of the maps, and of the long image."""
    batch: int | None
    """N where the layout fixes it."""
    unfold: Callable[[int, str, str], str]
    """(place, value, original value that it stands for) -> the map [N, C, *S]."""


class Folded(NamedTuple):
    """A twin's batch as one long image."""

    value: str
    frame: Frame


class Builder:
    """Collects drafts and tensors for one edit."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.opset = model.opset.get("", 1)
        self.drafts: dict[str, Draft] = {}
        """Provisional value name -> the draft that makes it."""
        self.tensors: dict[str, Tensor] = {}
        """Provisional name -> new tensor; its `name` is the one it would like to have."""
        self.folded: dict[str, Folded] = {}
        """Name of a twin -> the same numbers as one long image; that image -> itself."""
        self.frames: dict[object, Folded] = {}
        """What a map was folded for -> the folded map."""
        self.groups: dict[str, tuple[str, ...]] = {}
        """First of several twins that one folded node makes -> all of them."""
        self.dims: dict[str, tuple[int, ...]] = {}
        """Sizes of constants that stand beside twins."""
        self._constants: dict[object, str] = {}
        self._count = 0

    @property
    def graph(self) -> Graph:
        """The original main graph."""
        return self.model.graph

    def name(self, hint: str) -> str:
        """A new provisional name."""
        self._count += 1
        return f"{MARK}{self._count}:{hint.rpartition(':')[2] if hint.startswith(MARK) else hint}"

    def emit(
        self,
        place: int,
        op: str,
        inputs: Sequence[str],
        *,
        like: str = "",
        hint: str = "",
        outputs: int = 1,
        domain: str = "",
        **attributes: AttributeValue,
    ) -> str:
        """Add a node in front of the original node `place`; returns its first output's provisional name.

        Attributes that are None are left out. `like` names the original value whose twin it makes.
        """
        given = tuple(
            Attribute(key, value, _type_of(value)) for key, value in attributes.items() if value is not None
        )
        return self.add(
            place, Node(0, "", op, domain, tuple(inputs), (), given), like=like, hint=hint, outputs=outputs
        )

    def add(self, place: int, node: Node, *, like: str = "", hint: str = "", outputs: int = 1) -> str:
        """Add a ready node, its outputs named anew; returns the first one's provisional name."""
        names = tuple(self.name(like or hint or node.op.lower()) for _ in range(outputs))
        made = Node(0, node.name, node.op, node.domain, node.inputs, names, node.attributes, node.overload)
        draft = Draft(place, made, like)
        self.drafts.update(dict.fromkeys(names, draft))
        return names[0]

    def unfolded(self, place: int, value: str, frame: Frame, like: str) -> str:
        """The twin behind a long image; nodes that nothing reads are dropped in the end."""
        twin = frame.unfold(place, value, like)
        self.folded[value] = self.folded[twin] = Folded(value, frame)
        return twin

    def inner(self, twin: str) -> str:
        """The long image of a twin that has one, else the twin."""
        found = self.folded.get(twin)
        return found.value if found else twin

    def outputs_of(self, first: str) -> tuple[str, ...]:
        """All outputs of the draft that makes a value."""
        return self.drafts[first].node.outputs

    def constant(self, numbers: Sequence[int | float], dtype: int, dims: Sequence[int], hint: str) -> str:
        """A small constant; equal ones are stored once."""
        key = (tuple(numbers), dtype, tuple(dims))
        if key not in self._constants:
            self._constants[key] = self.tensor(Tensor(hint, dtype, tuple(dims), packed(numbers, dtype)))
        return self._constants[key]

    def ints(self, numbers: Sequence[int], hint: str = "axes") -> str:
        """A 1-D int64 constant."""
        return self.constant(numbers, dtypes.INT64, (len(numbers),), hint)

    def tensor(self, tensor: Tensor) -> str:
        """Add a tensor; its name is the one it would like to have."""
        name = self.name(tensor.name)
        self.tensors[name] = tensor
        return name


def _type_of(value: AttributeValue) -> int:
    """The attribute type, also for empty lists, of which only lists of integers are made here."""
    if isinstance(value, tuple) and not value:
        return _INTS
    return 0
