"""The internal graph: what an ONNX file says, as frozen values without I/O.

Edges are value names, as in the file. Nothing is repaired: duplicates, dangling names and unsorted nodes stay
as written, and what the reader stumbled over is listed in `Model.oddities`. Facts (shapes, counts) never sit
here. Source: onnx.proto and IR.md of the ONNX specification.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from onnxscope import dtypes, packing
from onnxscope.errors import FileError

if TYPE_CHECKING:
    import numpy as np


class Storage(Protocol):
    """Where the numbers of a tensor are; reading happens on `view` and `items`, never before."""

    @property
    def kind(self) -> str:
        """`raw` (little-endian bytes in the model file), `typed` (protobuf field) or `external`."""

    @property
    def location(self) -> str:
        """For people: file name and byte offset, or the name of the protobuf field."""

    def view(self) -> memoryview:
        """The little-endian packed bytes (`raw_data` layout), without a copy where the file allows it.

        Raises FileError where they can't be read (missing, short or refused external file).
        """


class Span(NamedTuple):
    """The bytes of one protobuf message in a source file, so that unchanged parts can be copied."""

    source: object
    """The open file (`files.source.Source`)."""
    offset: int
    """First byte of the message body."""
    length: int
    """Bytes of the message body."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A stored tensor: an initializer or the value of an attribute."""

    name: str
    dtype: int
    """Element type, a number of `TensorProto.DataType`."""
    dims: tuple[int, ...]
    storage: Storage | None
    """None where the file holds no numbers for it (a hollow tensor)."""
    doc: str = ""
    external: tuple[tuple[str, str], ...] = ()
    """External-data entries as written: location, offset, length, checksum."""
    origin: Span | None = field(default=None, compare=False, repr=False)
    """Where the message was read; None for a tensor made by a rewrite."""

    @property
    def count(self) -> int:
        """Number of elements; a scalar has one."""
        return prod(self.dims)

    @property
    def nbytes(self) -> int | None:
        """Bytes of the packed numbers, from dims and dtype; None for strings."""
        return dtypes.byte_size(self.dtype, self.count)

    def items(self) -> tuple[int | float | bool, ...]:
        """All numbers as plain Python values, in row-major order. Meant for small tensors.

        Raises FileError where the bytes can't be read, TypeError for strings, complex and unknown types.
        """
        if self.storage is None:
            return ()
        return packing.numbers(self.storage.view(), self.dtype, self.count)

    def array(self) -> np.ndarray:
        """A read-only array of shape `dims`: a view into the mapped file wherever the layout allows it.

        Raises FileError where there are no numbers or they can't be read, TypeError for strings and unknown
        types.
        """
        if self.storage is None and self.count:
            raise FileError(f"tensor {self.name!r} holds no numbers")
        data = self.storage.view() if self.storage else memoryview(b"")
        array = packing.array(data, self.dtype, self.count).reshape(self.dims)
        array.flags.writeable = False
        return array


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """A sparse initializer or attribute: non-zero values and their positions."""

    values: Tensor
    indices: Tensor
    dims: tuple[int, ...]


DimDecl: TypeAlias = "int | str | None"
"""A declared size: a number, an opaque symbol name (never parsed), or None where nothing is declared."""


@dataclass(frozen=True, slots=True)
class Type:
    """A declared type. `kind` is tensor, sparse, sequence, optional, map, opaque or "" (none given)."""

    kind: str = "tensor"
    dtype: int = 0
    """Element type of a tensor, key type of a map; 0 where undeclared."""
    shape: tuple[DimDecl, ...] | None = None
    """Declared sizes; None means that not even the rank is declared."""
    element: Type | None = None
    """Type of the elements of a sequence or optional, or of the values of a map."""


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """A graph input, output or declared intermediate value."""

    name: str
    type: Type
    origin: Span | None = field(default=None, compare=False, repr=False)


Plain: TypeAlias = "int | float | bytes | Tensor | SparseTensor | Graph | Type"
AttributeValue: TypeAlias = (
    "Plain | tuple[int, ...] | tuple[float, ...] | tuple[bytes, ...] | tuple[Tensor, ...]"
    " | tuple[SparseTensor, ...] | tuple[Graph, ...] | tuple[Type, ...] | None"
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a node."""

    name: str
    value: AttributeValue
    """Value in Python form; None where it refers to an attribute of the enclosing function."""
    type: int = 0
    """`AttributeProto.AttributeType`; lists and scalars are told apart by it even when empty."""
    reference: str = ""
    """Name of the function attribute that it takes its value from, inside function bodies."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator call. Its identity is (scope, index), never its name."""

    index: int
    """Position in the node list of its graph."""
    name: str
    """As written; may be empty or shared by several nodes."""
    op: str
    domain: str
    """As written; both "" and "ai.onnx" mean the default domain (see `domain_of`)."""
    inputs: tuple[str, ...]
    """Value names; "" is an absent optional input."""
    outputs: tuple[str, ...]
    attributes: tuple[Attribute, ...] = ()
    overload: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    doc: str = ""
    origin: Span | None = field(default=None, compare=False, repr=False)

    def attribute(self, name: str) -> AttributeValue:
        """Value of an attribute as written, or None where the node doesn't give it."""
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute.value
        return None

    def subgraphs(self) -> Iterator[tuple[str, Graph]]:
        """(attribute name, graph) of every nested graph, in file order."""
        for attribute in self.attributes:
            if isinstance(attribute.value, Graph):
                yield attribute.name, attribute.value
            elif isinstance(attribute.value, tuple) and isinstance((*attribute.value, 0)[0], Graph):
                for place, item in enumerate(attribute.value):
                    if isinstance(item, Graph):
                        yield f"{attribute.name}[{place}]", item

    @property
    def label(self) -> str:
        """For messages: the name, or `Op_3` (op and place in the file) where it has none."""
        return self.name or f"{self.op}_{self.index}"


@dataclass(frozen=True)
class Graph:
    """A graph as listed in the file, in file order."""

    name: str
    inputs: tuple[ValueInfo, ...] = ()
    outputs: tuple[ValueInfo, ...] = ()
    nodes: tuple[Node, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    """Initializers."""
    sparse: tuple[SparseTensor, ...] = ()
    values: tuple[ValueInfo, ...] = ()
    """Declared intermediate values (value_info)."""
    doc: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    rest: tuple[Span, ...] = field(default=(), compare=False, repr=False)
    """Every field but the long lists above, tag included: for the writer, which copies what still holds."""

    @cached_property
    def initializers(self) -> dict[str, Tensor]:
        """Initializers by name; of two with one name the last wins, as in onnxruntime."""
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def producers(self) -> dict[str, Node]:
        """Value name -> the first node that produces it."""
        found: dict[str, Node] = {}
        for node in self.nodes:
            for name in node.outputs:
                if name:
                    found.setdefault(name, node)
        return found

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """Value name -> the nodes of this graph that read it (or hold a graph that does), in file order."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys((*node.inputs, *self.captured.get(node.index, ()))):
                if name:
                    found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def captured(self) -> dict[int, tuple[str, ...]]:
        """Index of each node that holds graphs -> the names that these read from the graphs around them."""
        return {node.index: names for node in self.holders if (names := captures(node))}

    @cached_property
    def holders(self) -> tuple[Node, ...]:
        """The nodes that hold graphs (If, Loop, Scan), in file order."""
        distinct = {id(node.attributes): node for node in self.nodes}  # alike nodes share their attributes
        holding = {key for key, node in distinct.items() if next(node.subgraphs(), None) is not None}
        return tuple([node for node in self.nodes if id(node.attributes) in holding]) if holding else ()

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """For people, one per node: its label; of nodes that share one, each gets its place: `conv#3`."""
        given = [node.label for node in self.nodes]
        return tuple(given) if len(set(given)) == len(given) else _unique(given)

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """Nodes in execution order: file order where that is one, else sorted, ties by place in the file.

        Nodes on a cycle, and those behind one, are left out.
        """
        return _execution_order(self)


@dataclass(frozen=True, slots=True)
class Function:
    """A model-local function, found by (domain, name, overload)."""

    domain: str
    name: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    """Attributes without a default."""
    defaults: tuple[Attribute, ...]
    """Attributes with their defaults."""
    opsets: tuple[tuple[str, int], ...]
    body: Graph
    """Nodes and declared values; its inputs and outputs carry names only."""
    origin: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something in the file that a reader would not expect; none of these stops the reading."""

    where: str
    message: str
    kind: str = ""
    """What is odd, for those who look for it: `utf8` a text, `attribute` an attribute's type or value,
    `field` where a tensor's numbers stand; "" for the rest."""


@dataclass(frozen=True)
class Model:
    """A whole model file."""

    graph: Graph
    ir_version: int = 0
    opsets: tuple[tuple[str, int], ...] = ()
    """(domain, version) as listed; duplicates stay."""
    functions: tuple[Function, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    producer_name: str = ""
    producer_version: str = ""
    domain: str = ""
    model_version: int = 0
    doc: str = ""
    path: str = ""
    """As the user gave it; "-" for standard input, "" for a model made in memory."""
    file_bytes: int = 0
    oddities: tuple[Oddity, ...] = ()
    rest: tuple[Span, ...] = field(default=(), compare=False, repr=False)
    """Every field but graph and functions, tag included: for the writer, which copies what still holds."""

    @cached_property
    def opset(self) -> dict[str, int]:
        """Domain -> version, the default domain under ""; the last entry of a domain wins."""
        return {domain_of(domain): version for domain, version in self.opsets}


def domain_of(domain: str) -> str:
    """The domain's canonical name: "ai.onnx" is the default domain "".

    >>> domain_of("ai.onnx"), domain_of("com.microsoft")
    ('', 'com.microsoft')
    """
    return "" if domain == "ai.onnx" else domain


def captures(node: Node) -> tuple[str, ...]:
    """Names that the node's subgraphs read from the graphs around them, in order of first use."""
    found: dict[str, None] = {}
    for _, graph in node.subgraphs():
        known = {value.name for value in graph.inputs} | set(graph.initializers)
        for inner in graph.nodes:
            read = (*inner.inputs, *captures(inner))
            found.update((name, None) for name in read if name and name not in known)
            known.update(inner.outputs)
        found.update((value.name, None) for value in graph.outputs if value.name not in known)
    return tuple(found)


def _unique(labels: list[str]) -> tuple[str, ...]:
    """Labels with `#` and their place where several are equal; more signs where that is a name too.

    >>> _unique(["a", "b", "a", "a#2"])
    ('a#0', 'b', 'a##2', 'a#2')
    """
    counts = Counter(labels)
    found = []
    for place, label in enumerate(labels):
        sign = "#"
        while counts[label] > 1 and f"{label}{sign}{place}" in counts:
            sign += "#"
        found.append(f"{label}{sign}{place}" if counts[label] > 1 else label)
    return tuple(found)


def _execution_order(graph: Graph) -> tuple[Node, ...]:
    waiting = set(graph.producers)
    captured = graph.captured
    for node in graph.nodes:
        if not waiting.isdisjoint(node.inputs) or not waiting.isdisjoint(captured.get(node.index, ())):
            return _sorted_order(graph)
        waiting.difference_update(node.outputs)
    return graph.nodes


def _sorted_order(graph: Graph) -> tuple[Node, ...]:
    """Kahn's algorithm with a heap on the place in the file: stable, and linear but for the heap."""
    import heapq

    reads = [
        {name for name in (*node.inputs, *graph.captured.get(node.index, ())) if name in graph.producers}
        for node in graph.nodes
    ]
    place = {id(node): position for position, node in enumerate(graph.nodes)}
    needs = [{place[id(graph.producers[name])] for name in names} for names in reads]
    readers: dict[int, list[int]] = {}
    for position, producers in enumerate(needs):
        for producer in producers:
            readers.setdefault(producer, []).append(position)
    waiting = [len(producers) for producers in needs]
    ready = [position for position, count in enumerate(waiting) if not count]
    order: list[Node] = []
    while ready:
        position = heapq.heappop(ready)
        order.append(graph.nodes[position])
        for reader in readers.get(position, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    return tuple(order)
