"""What is known of a value, and what a rule answers about a node: the vocabulary of every op rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from onnxscope import dtypes
from onnxscope.expr import Expr, Size, Worked, bind
from onnxscope.graph import Tensor

if TYPE_CHECKING:
    import numpy as np

Shape: TypeAlias = tuple[Size, ...]
Scalar: TypeAlias = int | float | bool | str | Expr

MAX_RANK = 64
"""Axes that a value may have, as in numpy; hostile files declare hundreds."""
MAX_SIZE = 2**63 - 1
"""Largest size of an axis: ONNX stores sizes as int64."""
DATA_LIMIT = 4096
"""Numbers that a value may have to be followed through shape arithmetic; larger tensors are weights, never
read."""


def possible(shape: Sequence[Size]) -> bool:
    """Whether a value may have these sizes: at most MAX_RANK of them, each from 0 to MAX_SIZE."""
    if len(shape) > MAX_RANK:
        return False
    return all([0 <= size <= MAX_SIZE if isinstance(size, int) else True for size in shape])


class Unanswered(Exception):
    """A rule can't answer; the text says why. Raised by accessors of `View`, caught by the engine."""

    kind = ""
    """As in `Problem.kind`."""


class NoWindow(Unanswered):
    """A convolution or pool whose kernel is larger than its padded input."""

    kind = "no-window"


@dataclass(frozen=True)
class Data:
    """The content of a small value in row-major order: numbers, or sizes in the model's symbols."""

    shape: tuple[int, ...]
    items: tuple[Scalar, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> Data:
        """From a numpy array (of objects or numbers)."""
        return cls(tuple(int(n) for n in array.shape), tuple(array.reshape(-1).tolist()))

    @cached_property
    def array(self) -> np.ndarray:
        """As an object array of shape `shape`, ready for numpy's indexing and broadcasting."""
        import numpy as np

        array = np.empty(len(self.items), dtype=object)
        array[:] = self.items
        return array.reshape(self.shape)


class ValueFact(NamedTuple):
    """What is known of one value."""

    dtype: int | None = None
    """Element type, a number of `TensorProto.DataType`; None where unknown."""
    shape: Shape | None = None
    """Sizes per axis; None where not even the rank is known."""
    container: str = ""
    """"" for a tensor; sequence, optional or map, whose element `dtype` and `shape` then describe.
    Containers in containers are named from the outside in: `optional of sequence`."""
    origin: str = "inferred"
    """stored (an initializer), given (a graph input), inferred, or declared (only the file says so)."""
    constant: bool = False
    """True where the value never depends on the model's inputs."""
    data: Data | None = None
    """Content found by shape arithmetic."""
    tensor: Tensor | None = None
    """The stored tensor itself; its numbers are read only when `known` is asked."""
    overridable: bool = False
    """True for a default that a caller may override, and what is computed from it: fixed, but no constant."""
    default: Tensor | None = None
    """The stored tensor of such a default, or the non-zero numbers of a sparse one: counted, never read."""

    @property
    def holds(self) -> bool:
        """Whether content may be had from here, read or not."""
        return self.data is not None or self.tensor is not None

    @property
    def fixed(self) -> bool:
        """Whether the value depends on stored numbers alone, whoever may override them."""
        return self.constant or self.overridable

    def known(self) -> Data | None:
        """The content where it is known and small (at most DATA_LIMIT numbers), else None.

        Raises FileError where stored numbers can't be read.
        """
        if self.data is not None or self.tensor is None:
            return self.data
        if self.tensor.storage is None and self.tensor.count:
            return None  # hollow: the file holds no numbers for it
        dtype = dtypes.BY_CODE.get(self.tensor.dtype)
        if (
            dtype is None
            or dtype.kind in ("string", "complex")
            or not 0 <= prod(self.tensor.dims) <= DATA_LIMIT
        ):
            return None
        return Data(self.tensor.dims, self.tensor.items())


UNKNOWN = ValueFact()


class Window(NamedTuple):
    """How a convolution or pool reads its input, per spatial axis; auto_pad is resolved."""

    kernel: Shape
    strides: tuple[int, ...]
    pads: Shape
    """All begins, then all ends (ONNX order); negative pads crop."""
    dilations: tuple[int, ...]
    group: int = 1
    transposed: bool = False
    """True for ConvTranspose, whose strides enlarge the map."""
    channels_last: bool = False
    """True where the spatial axes are 1.. instead of 2.. (onnxruntime's NHWC ops)."""


class Inferred(NamedTuple):
    """A rule's answer about one node; one entry per output in each tuple, missing entries mean unknown."""

    shapes: tuple[Shape | None, ...] = ()
    dtypes: tuple[int | None, ...] = ()
    data: tuple[Data | None, ...] = ()
    containers: tuple[str, ...] = ()
    macs: Worked | None = None
    """Multiply-accumulates of the node; None for an op that does none."""
    axes: tuple[Worked, ...] = ()
    """Worked output sizes, one per spatial axis (for a matrix product: the inner dimension's check is in
    `agree`)."""
    window: Window | None = None
    agree: tuple[tuple[str, Size, Size], ...] = ()
    """(what, one, other): sizes that must be equal in a valid model."""
    note: str = ""
    """Something a reader must know, for example which branch of an If was counted."""
    unknown_macs: bool = False
    """True where the node multiplies but the count isn't known."""
    tensors: tuple[Tensor | None, ...] = ()
    """The stored tensor that an output is (Constant); its numbers are read only when asked for."""

    def checked(self) -> Inferred:
        """The answer itself. Raises Unanswered for what no value can be: numbers would grow beyond bounds."""
        for shape in (*self.shapes, *(tensor.dims for tensor in self.tensors if tensor)):
            if shape and not possible(shape):
                raise Unanswered(f"an output with a size beyond int64 or more than {MAX_RANK} axes")
        return self

    def fact(self, index: int, constant: bool = False, overridable: bool = False) -> ValueFact:
        """The fact of output `index`."""
        tensor = self.tensors[index] if index < len(self.tensors) else None
        if tensor is not None:
            return ValueFact(
                tensor.dtype,
                tensor.dims,
                origin="stored",
                constant=constant,
                tensor=tensor,
                overridable=overridable,
            )
        data = self.data[index] if index < len(self.data) else None
        shape = self.shapes[index] if index < len(self.shapes) else None
        return ValueFact(
            dtype=self.dtypes[index] if index < len(self.dtypes) else None,
            shape=data.shape if data is not None else shape,
            container=self.containers[index] if index < len(self.containers) else "",
            constant=constant,
            data=data,
            overridable=overridable,
        )


def one(
    shape: Sequence[Size] | None,
    dtype: int | None,
    data: Data | None = None,
    *,
    macs: Worked | None = None,
    axes: tuple[Worked, ...] = (),
    window: Window | None = None,
    agree: tuple[tuple[str, Size, Size], ...] = (),
    note: str = "",
) -> Inferred:
    """The answer for a node with one output of interest."""
    return Inferred(
        shapes=(None if shape is None else tuple(shape),),
        dtypes=(dtype,),
        data=(data,),
        macs=macs,
        axes=axes,
        window=window,
        agree=agree,
        note=note,
    )


def bind_shape(shape: Shape | None, values: dict[str, Size]) -> Shape | None:
    """The shape with symbols replaced by name."""
    return None if shape is None else tuple(bind(size, values) for size in shape)
