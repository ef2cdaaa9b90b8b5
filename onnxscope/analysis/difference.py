"""Which node of one graph is which of another: by weights and structure first, then by name.

Exporters number nodes and values, so a name says little: a graph with one node more has other names from
there on. Nodes are paired in rounds, each over what the rounds before left: same history and same weights (a
hash over everything that leads to the node); same large weights; same history with other weights; same name;
same small weights; neighbours that are paired; same local form, in order. Each round is linear in nodes and
edges.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from onnxscope.errors import FileError
from onnxscope.graph import Attribute, Graph, Node, SparseTensor, Tensor, Type, domain_of
from onnxscope.ops import registry

SAMPLE = 1 << 14
"""Bytes from the start, the middle and the end of a tensor that stand for it while nodes are paired."""
LARGE = 64
"""Elements from which a tensor tells a node from others; shape constants and scalars are shared by many."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which nodes of two graphs are the same."""

    pairs: tuple[tuple[Node, Node], ...]
    """(old, new), in the order of the new file."""
    removed: tuple[Node, ...]
    added: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """Two graphs that stand in for each other: the main ones, or those in one attribute of paired nodes."""

    old: Graph
    new: Graph
    pairing: Pairing
    paths: tuple[str, str] = ("", "")
    """In front of the names inside, in the old and the new model: "", or `if_3.then_branch/`."""
    names: dict[str, str] = field(default_factory=dict)
    """Old value -> new value, those of the graphs around included."""
    stored: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    """Initializers that are seen from here, in the old and the new model."""


def levels(old: Graph, new: Graph, around: Level | None = None) -> Iterator[Level]:
    """The pairing of two graphs, then that of the graphs nested in paired nodes, from the outside in."""
    level = _level(old, new, around)
    yield level
    for before, after in level.pairing.pairs:
        inside = dict(after.subgraphs())
        for name, graph in before.subgraphs():
            if name in inside:
                one, two = level.paths
                paths = f"{one}{before.label}.{name}/", f"{two}{after.label}.{name}/"
                yield from levels(graph, inside[name], replace(level, paths=paths))


def _level(old: Graph, new: Graph, around: Level | None) -> Level:
    pairing = pair(old, new)
    names = {} if around is None else dict(around.names)
    if (
        around is not None
    ):  # the names inside are nobody's business; those of the main graph are its interface
        names |= zip([info.name for info in old.inputs], [info.name for info in new.inputs], strict=False)
    for before, after in pairing.pairs:
        names |= zip(before.outputs, after.outputs, strict=False)
    outer = around.stored if around else (frozenset(), frozenset())
    stored = outer[0] | old.initializers.keys(), outer[1] | new.initializers.keys()
    return Level(old, new, pairing, around.paths if around else ("", ""), names, stored)


@dataclass
class _Side:
    """One graph and the hashes of its nodes, by index."""

    graph: Graph
    strong: dict[int, str] = field(default_factory=dict)
    weak: dict[int, str] = field(default_factory=dict)
    weights: dict[int, tuple[str, ...]] = field(default_factory=dict)
    left: dict[int, Node] = field(default_factory=dict)
    partner: dict[int, int] = field(default_factory=dict)


def pair(old: Graph, new: Graph) -> Pairing:
    """Pair the nodes of two graphs."""
    one, two = _side(old), _side(new)
    for key in _ROUNDS:
        _round(one, two, key)
        if not one.left or not two.left:
            break
    _spread(one, two)
    _round(one, two, _local)
    pairs = sorted(((other, index) for index, other in one.partner.items()))
    return Pairing(
        tuple((old.nodes[index], new.nodes[other]) for other, index in pairs),
        tuple(one.left[index] for index in sorted(one.left)),
        tuple(two.left[index] for index in sorted(two.left)),
    )


def _side(graph: Graph) -> _Side:
    side = _Side(graph, left={place: node for place, node in enumerate(graph.nodes)})
    places = {id(node): place for place, node in enumerate(graph.nodes)}
    samples = {name: sample(tensor) for name, tensor in graph.initializers.items()}
    strong = {info.name: f"input {place}" for place, info in enumerate(graph.inputs)}
    weak = dict(strong)
    strong |= samples
    weak |= {name: f"{tensor.dtype}{tensor.dims}" for name, tensor in graph.initializers.items()}
    for node in graph.order:
        place = places[id(node)]
        own = (domain_of(node.domain), node.op, *(_attribute(item, True) for item in node.attributes))
        shape = (domain_of(node.domain), node.op, *(_attribute(item, False) for item in node.attributes))
        side.strong[place] = _hash(
            *sorted(own[2:]), own[:2], [strong.get(name, name) for name in node.inputs]
        )
        side.weak[place] = _hash(*sorted(shape[2:]), own[:2], [weak.get(name, name) for name in node.inputs])
        side.weights[place] = tuple(samples[name] for name in node.inputs if name in samples)
        for position, name in enumerate(node.outputs):
            strong[name] = f"{side.strong[place]}.{position}"
            weak[name] = f"{side.weak[place]}.{position}"
    return side


def _round(one: _Side, two: _Side, key: Callable[[_Side, int], Hashable]) -> None:
    """Pair what is left and has equal keys; of several with one key the first with the first."""
    waiting: dict[Hashable, list[int]] = defaultdict(list)
    for place in two.left:
        found = key(two, place)
        if found is not None:
            waiting[found].append(place)
    queues = {found: iter(places) for found, places in waiting.items()}
    for place in list(one.left):
        other = next(queues.get(key(one, place), iter(())), None)
        if other is not None:
            _join(one, two, place, other)


def _join(one: _Side, two: _Side, place: int, other: int) -> None:
    one.partner[place] = other
    two.partner[other] = place
    del one.left[place], two.left[other]


def _by_weights(side: _Side, place: int) -> Hashable:
    found = side.weights.get(place, ())
    return (side.graph.nodes[place].op, found) if found else None


def _by_large_weights(side: _Side, place: int) -> Hashable:
    tensors = (side.graph.initializers.get(name) for name in side.graph.nodes[place].inputs)
    large = any(tensor is not None and tensor.count >= LARGE for tensor in tensors)
    return _by_weights(side, place) if large else None


def _by_name(side: _Side, place: int) -> Hashable:
    node = side.graph.nodes[place]
    return (node.op, node.name) if node.name else None


def _by_outputs(side: _Side, place: int) -> Hashable:
    node = side.graph.nodes[place]
    return node.op, node.outputs


def _local(side: _Side, place: int) -> Hashable:
    node = side.graph.nodes[place]
    tensors = (side.graph.initializers.get(name) for name in node.inputs)
    return node.op, domain_of(node.domain), tuple(tensor.dims if tensor else None for tensor in tensors)


_ROUNDS: tuple[Callable[[_Side, int], Hashable], ...] = (
    lambda side, place: side.strong.get(place),
    _by_large_weights,
    lambda side, place: side.weak.get(place),
    _by_name,
    _by_outputs,
    _by_weights,
)


def _spread(one: _Side, two: _Side) -> None:
    """Pair nodes of one op that read from, or write to, nodes that are paired; forwards, then backwards."""
    for back in (False, True):
        for place in sorted(one.left, reverse=back):
            node = one.graph.nodes[place]
            for near in _near(one, node, back):
                for other in (
                    _near(two, two.graph.nodes[one.partner[near]], not back) if near in one.partner else ()
                ):
                    if other in two.left and two.graph.nodes[other].op == node.op:
                        _join(one, two, place, other)
                        break
                if place not in one.left:
                    break


MOST_NEAR = 8
"""Neighbours of a node that are looked at."""


def _near(side: _Side, node: Node, forward: bool) -> Iterable[int]:
    """Places of the nodes that read this one's outputs, or (not `forward`) make its inputs."""
    if forward:
        users = (user for name in node.outputs for user in side.graph.consumers.get(name, ())[:MOST_NEAR])
        return [user.index for user in users][:MOST_NEAR]
    makers = (side.graph.producers.get(name) for name in node.inputs[:MOST_NEAR])
    return [maker.index for maker in makers if maker]


def sample(tensor: Tensor) -> str:
    """A hash over type, dims and some of the bytes: tensors with different ones are different."""
    digest = hashlib.sha256(f"{tensor.dtype} {tensor.dims}".encode())
    try:
        data = tensor.storage.view() if tensor.storage else memoryview(b"")
    except (FileError, TypeError):
        return digest.hexdigest()[:32]
    middle = len(data) // 2
    for part in (data[:SAMPLE], data[middle : middle + SAMPLE], data[-SAMPLE:]):
        digest.update(part)
    return digest.hexdigest()[:32]


_NEUTRAL = {"strides": 1, "dilations": 1, "pads": 0, "storage_order": 0, "output_padding": 0}
"""What every number of an attribute is where leaving it out says the same."""


def attributes(node: Node, opset: int | None) -> dict[str, str]:
    """Attribute -> text that is equal where the values are; what an op takes by default is left out."""
    rule = registry.find(domain_of(node.domain), node.op, opset)
    found = {}
    for attribute in node.attributes:
        default = rule.attributes.get(attribute.name) if rule else None
        items = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
        neutral = attribute.name in _NEUTRAL and set(items) == {_NEUTRAL[attribute.name]}
        text = _value(attribute.value, True)
        if isinstance(attribute.value, Graph):
            sides = f"{len(attribute.value.inputs)} inputs and {len(attribute.value.outputs)} outputs"
            found[attribute.name] = f"graph with {sides}"  # what is in it has rows of its own
        elif not neutral and (default is None or text != _value(default, True)):
            found[attribute.name] = f"{text}{attribute.reference}"
    return found


def graph_hash(graph: Graph) -> str:
    """A hash over a nested graph that doesn't depend on the names in it."""
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers)) if name else -1

    parts: list[object] = [[number(info.name) for info in graph.inputs]]
    parts += [(number(tensor.name), sample(tensor)) for tensor in graph.tensors]
    for node in graph.nodes:
        given = sorted(_attribute(item, True) for item in node.attributes)
        parts.append(
            (
                domain_of(node.domain),
                node.op,
                given,
                [*map(number, node.inputs)],
                [*map(number, node.outputs)],
            )
        )
    parts.append([number(info.name) for info in graph.outputs])
    return _hash(*parts)


def _attribute(attribute: Attribute, contents: bool) -> str:
    return f"{attribute.name}={_value(attribute.value, contents)}{attribute.reference}"


def _value(value: object, contents: bool) -> str:
    if isinstance(value, Tensor):
        return sample(value) if contents else f"{value.dtype}{value.dims}"
    if isinstance(value, SparseTensor):
        return f"{value.dims}{_value(value.values, contents)}{_value(value.indices, contents)}"
    if isinstance(value, Graph):
        return graph_hash(value)
    if isinstance(value, tuple):
        return f"({', '.join(_value(item, contents) for item in value)})"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value
    return repr(value) if not isinstance(value, Type) else f"{value.kind}{value.dtype}{value.shape}"


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
