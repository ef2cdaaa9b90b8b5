"""From views to an edit: which twins are used, which original nodes stay, and what everything is called.

Outputs ask for what they need; what nobody asks for goes. An original node that needs a value which only has
a twin gets it *restored* (flattened back), where that is legal; else the layers behind it must stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from onnxscope.edit import Edit
from onnxscope.graph import Node, Tensor, captures
from onnxscope.rewrite.builder import MARK, Draft
from onnxscope.rewrite.lift import Layer, Lift
from onnxscope.rewrite.moving import reshape, transpose
from onnxscope.rewrite.views import Lost, View


@dataclass
class Selection:
    """What the converted model is made of."""

    lift: Lift
    nodes: set[int] = field(default_factory=set)
    """Indexes of original nodes that stay."""
    drafts: dict[int, Draft] = field(default_factory=dict)
    """New nodes that are used, by identity."""
    used: set[str] = field(default_factory=set)
    """Original values, and provisional ones, that are used."""
    exported: dict[str, str] = field(default_factory=dict)
    """Output name -> provisional name of the twin that takes its place."""
    restored: dict[str, str] = field(default_factory=dict)
    """Original value -> provisional name of its twin brought back to the original axes."""
    barriers: dict[int, str] = field(default_factory=dict)
    """Index of a layer that must stay -> the op that asks for its original result."""
    names: dict[str, str] = field(default_factory=dict)
    """Provisional name -> final name."""

    @property
    def layers(self) -> list[Layer]:
        """The conversions in use, in execution order."""
        found = [layer for result, layer in self.lift.layers.items() if result in self.used]
        return sorted(found, key=lambda layer: layer.fact.node.index)

    def final(self, name: str) -> str:
        """The final name of a value or tensor."""
        return self.names.get(name, name)


def select(lift: Lift) -> Selection:
    """Walk back from the outputs."""
    chosen = Selection(lift)
    waiting: list[tuple[str, Node | None]] = []
    for info in lift.model.graph.outputs:
        view = lift.views.get(info.name)
        if lift.options.output == "map" and isinstance(view, View) and view.layers and not _turned(view):
            chosen.exported[info.name] = _own_twin(chosen, info.name, view)
            waiting.append((chosen.exported[info.name], None))
        else:
            waiting.append((info.name, None))
    while waiting:
        name, reader = waiting.pop()
        if name and name not in chosen.used:
            chosen.used.add(name)
            waiting += _needs(chosen, name, reader)
    if not chosen.barriers:
        _name(chosen)
    return chosen


def _turned(view: View) -> bool:
    """Whether an output is a map in another layout already, which it keeps."""
    return view.permuted and not view.plain


def _own_twin(chosen: Selection, name: str, view: View) -> str:
    """The twin behind an output; an Identity of it where it already serves another output."""
    if view.twin not in chosen.exported.values() and view.twin in chosen.lift.builder.drafts:
        return view.twin
    place = len(chosen.lift.model.graph.nodes)
    return chosen.lift.builder.emit(place, "Identity", (view.twin,), like=name)


def _needs(chosen: Selection, name: str, reader: Node | None) -> list[tuple[str, Node | None]]:
    """What a value needs in turn."""
    lift = chosen.lift
    if name.startswith(MARK):
        draft = lift.builder.drafts.get(name)
        if draft is None:
            return []
        chosen.drafts[id(draft)] = draft
        return [(source, draft.node) for source in draft.node.inputs]
    node = lift.model.graph.producers.get(name)
    if node is None:
        return []
    view = lift.views.get(name)
    if isinstance(view, View) and view.layers:
        if _restorable(view, lift):
            chosen.restored[name] = _restore(chosen, name, node, view)
            return [(chosen.restored[name], None)]
        if node.index in view.layers:
            chosen.barriers.setdefault(node.index, _barrier(chosen, name, reader))
        chosen.nodes.add(node.index)
        return [(source, reader) for source in (*node.inputs, *captures(node))]
    chosen.nodes.add(node.index)
    return [(source, node) for source in (*node.inputs, *captures(node))]


def _barrier(chosen: Selection, name: str, reader: Node | None) -> str:
    if reader is None:
        return f"output {name} keeps its shape"
    lost = (view for output in reader.outputs if isinstance(view := chosen.lift.views.get(output), Lost))
    why = next((f"{view.reason} (behind this layer)" for view in lost), "")
    why = why or f"{reader.op} {reader.label} needs {name} as a vector, which is a map at other sizes"
    if "--" in why:
        return why
    first = "without --stride, " if chosen.lift.options.stride else ""
    return f"{why}; {first}--output vector or --size fixed converts it"


def _restorable(view: View, lift: Lift) -> bool:
    return view.permuted or view.single or lift.options.size == "fixed"


def _restore(chosen: Selection, name: str, node: Node, view: View) -> str:
    """The original value from its twin: transposed where all axes are there, else reshaped."""
    lift, builder = chosen.lift, chosen.lift.builder
    perm = tuple(group[0] for group in view.groups if group)
    if view.permuted:
        if view.plain:
            return builder.emit(node.index, "Identity", (view.twin,), like=name)
        return transpose(lift, node.index, view.twin, perm, like=name)
    if view.groups == ((0,), (1,)):
        return builder.emit(node.index, "Flatten", (view.twin,), axis=1, like=name)
    flat = tuple(axis for group in view.groups for axis in group)
    missing = tuple(axis for axis in range(view.rank) if axis not in flat)
    value = view.twin
    if flat != tuple(sorted(flat)):
        value = transpose(lift, node.index, value, (*flat, *missing))
    dims = _dims(lift, name, view)
    return reshape(lift, node.index, value, dims, like=name)


def _dims(lift: Lift, name: str, view: View) -> list[int]:
    """Target dims of the original value: numbers where known; the batch copied, or inferred."""
    shape = lift.native.value(name).shape or ()
    dims = [size if isinstance(size, int) else -1 for size in shape]
    if view.groups and view.groups[0] == (0,):
        dims[0] = 0
    return dims


def _name(chosen: Selection) -> None:
    """Give every provisional name in use its final one."""
    graph = chosen.lift.model.graph
    taken = {name for name in chosen.used if not name.startswith(MARK)}
    taken |= {info.name for info in (*graph.inputs, *graph.outputs)}
    for name, value in (*chosen.exported.items(), *chosen.restored.items()):
        chosen.names[value] = name
    _name_twins(chosen, taken)
    known = taken | set(graph.producers) | set(graph.initializers) | set(chosen.names.values())
    drafted = {name: None for draft in chosen.drafts.values() for name in draft.node.outputs}
    for value in drafted:
        if value not in chosen.names:
            chosen.names[value] = _unique(value.partition(":")[2], known)
    for value, tensor in chosen.lift.builder.tensors.items():
        if value in chosen.used:
            free = tensor.name in graph.initializers and tensor.name not in taken
            chosen.names[value] = tensor.name if free else _unique(tensor.name, known)
            taken.add(chosen.names[value])
            known.add(chosen.names[value])


def _name_twins(chosen: Selection, taken: set[str]) -> None:
    """A twin gets the name of the original value, where that value is gone."""
    for name, view in chosen.lift.views.items():
        if not isinstance(view, View) or view.twin not in chosen.used or view.twin in chosen.names:
            continue
        draft = chosen.lift.builder.drafts.get(view.twin)
        if draft is not None and name not in taken and draft.like in ("", name):
            chosen.names[view.twin] = name
            taken.add(name)
    for value, name in chosen.lift.matrices.items():
        if value in chosen.used and name not in taken:
            chosen.names[value] = name
            taken.add(name)


def _unique(hint: str, known: set[str]) -> str:
    name, count = f"{hint}_map", 1
    while name in known:
        count += 1
        name = f"{hint}_map{count}"
    known.add(name)
    return name


def edit_of(chosen: Selection) -> Edit:
    """The edit that the selection amounts to, declarations of inputs and outputs apart."""
    graph = chosen.lift.model.graph
    added, tensors = _added(chosen), _tensors(chosen)
    removed = frozenset(_removed(chosen))
    reads = {
        name
        for place, node in enumerate(graph.nodes)
        if place not in removed
        for name in (*node.inputs, *captures(node))
    }
    reads |= {name for _, node in added for name in node.inputs} | {info.name for info in graph.outputs}
    before = {name for node in graph.nodes for name in (*node.inputs, *captures(node))}
    made = {tensor.name for tensor in tensors}
    gone = {t.name for t in graph.tensors if t.name in before and (t.name not in reads or t.name in made)}
    return Edit(
        removed=removed,
        added=tuple(added),
        tensors=tuple(tensors),
        dropped=frozenset(gone),
        why=f"{len(chosen.layers)} fully connected layers as convolutions",
    )


def _removed(chosen: Selection) -> set[int]:
    """Nodes that nothing needs any more; nodes that nothing needed before stay where they can run."""
    graph = chosen.lift.model.graph
    live: set[int] = set()
    waiting = [info.name for info in graph.outputs]
    while waiting:
        node = graph.producers.get(waiting.pop())
        if node is not None and node.index not in live:
            live.add(node.index)
            waiting += (*node.inputs, *captures(node))
    removed = live - chosen.nodes
    lost = {name for index in removed for name in graph.nodes[index].outputs if name} - chosen.used
    for node in graph.order:
        if node.index not in live and (lost & {*node.inputs, *captures(node)}):
            removed.add(node.index)
            lost.update(name for name in node.outputs if name)
    return removed


def _added(chosen: Selection) -> list[tuple[int, Node]]:
    found = []
    names = {node.name for node in chosen.lift.model.graph.nodes if node.index in chosen.nodes}
    order = {id(draft): i for i, draft in enumerate(chosen.lift.builder.drafts.values())}
    for draft in sorted(chosen.drafts.values(), key=lambda draft: (draft.place, order[id(draft)])):
        outputs = tuple(chosen.final(name) for name in draft.node.outputs)
        inputs = tuple(chosen.final(name) for name in draft.node.inputs)
        named = draft.node.name
        if not named or named in names:
            named = f"{outputs[0]}/{draft.node.op}"
        names.add(named)
        found.append((draft.place, replace(draft.node, name=named, inputs=inputs, outputs=outputs)))
    return found


def _tensors(chosen: Selection) -> list[Tensor]:
    return [
        replace(tensor, name=chosen.final(value))
        for value, tensor in chosen.lift.builder.tensors.items()
        if value in chosen.used
    ]
