"""Sizes that a network bakes in: found, lifted where the graph can compute them, and named where not.

An exporter that traced one size writes `Reshape(x, [-1, 1, 28, 28])` where the network said "the same height
and width", `Resize(x, sizes=[1, 8, 56, 56])` for "twice as large", `Expand(x, [1, 8, 28, 28])` for "one map
for every channel". Such a Reshape copies those axes from its input, the others get scales and repeats.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from onnxscope import dtypes
from onnxscope import edit as edits
from onnxscope.analysis.facts import Facts, NodeFact
from onnxscope.edit import Edit
from onnxscope.expr import Expr, Size, symbols
from onnxscope.graph import Attribute, Model, Node, Tensor, Type, ValueInfo
from onnxscope.ops.value import Shape
from onnxscope.rewrite.builder import packed
from onnxscope.rewrite.lift import listed
from onnxscope.rewrite.rules.pointwise import BROADCAST

_INT_LISTS = 7


class Block(NamedTuple):
    """Axes of a reshape's input and output that hold the same numbers; 1s in none."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def blocks(before: Shape, after: Shape) -> list[Block] | None:
    """The smallest runs of axes with equal products, in order; None where the shapes don't fit."""
    found: list[Block] = []
    left = [axis for axis, size in enumerate(before) if size != 1]
    right = [axis for axis, size in enumerate(after) if size != 1]
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        have, want = before[a[0]], after[b[0]]
        while have != want:
            if isinstance(have, Expr) or isinstance(want, Expr):
                return None
            if have < want and left:
                a.append(left.pop(0))
                have = have * before[a[-1]]
            elif want < have and right:
                b.append(right.pop(0))
                want = want * after[b[-1]]
            else:
                return None
        found.append(Block(tuple(a), tuple(b)))
    return None if left or right else found


def lifted(model: Model, native: Facts, free: Facts) -> tuple[Model, tuple[str, ...]]:
    """The model with nodes that bake a size rewritten, and their labels; itself where there are none.

    Only the first ones on each path are found: what lies behind them shows with the next facts.
    """
    names = _free_names(free) | _free_batches(free, native)
    removed: set[int] = set()
    added: list[tuple[int, Node]] = []
    tensors: list[Tensor] = []
    labels: list[str] = []
    for fact in free.main.nodes:
        node = fact.node
        if node.op == "Reshape" and model.opset.get("", 1) >= 5:
            new = _copying(node, native, free, names, tensors)
        elif node.op in _REPEATS and node.domain in ("", "ai.onnx") and _bakes(fact, free, names):
            new = _REPEATS[node.op](node, native, tensors)
        else:
            continue
        if new:
            removed.add(node.index)
            added += [(node.index, item) for item in new]
            labels.append(fact.label)
    if not removed:
        return model, ()
    listed = tuple(
        ValueInfo(tensor.name, Type("tensor", tensor.dtype, tensor.dims))
        for tensor in (tensors if model.ir_version < 4 else ())
    )
    dropped = _unused(model, removed) - {name for _, item in added for name in item.inputs}
    change = Edit(frozenset(removed), tuple(added), tuple(tensors), dropped, inputs=listed)
    return edits.apply(model, change), tuple(labels)


def _unused(model: Model, removed: set[int]) -> frozenset[str]:
    """Targets and sizes that only the rewritten nodes read."""
    graph = model.graph
    names = {name for index in removed for name in graph.nodes[index].inputs[1:]}
    readers = {name: {node.index for node in graph.consumers.get(name, ())} for name in names}
    stored = {tensor.name for tensor in graph.tensors} - {info.name for info in graph.outputs}
    return frozenset(name for name in names & stored if readers[name] <= removed)


def _free_names(facts: Facts) -> set[str]:
    stored = facts.main.graph.initializers
    shapes = [facts.value(i.name).shape or () for i in facts.main.graph.inputs if i.name not in stored]
    return {s.name for shape in shapes for size in shape[1:] for s in symbols(size)}


def _free_batches(free: Facts, native: Facts) -> set[str]:
    """Names of batch sizes that the file fixes and the conversion frees."""
    stored = free.main.graph.initializers
    names = [info.name for info in free.main.graph.inputs if info.name not in stored]
    pairs = [(free.value(name).shape, native.value(name).shape) for name in names]
    return {
        s.name for one, other in pairs if one and other and isinstance(other[0], int) for s in symbols(one[0])
    }


def _depends(shape: Shape | None, names: set[str]) -> bool:
    return any(s.name in names for size in shape or () for s in symbols(size))


def _bakes(fact: NodeFact, facts: Facts, names: set[str]) -> bool:
    """Whether a node's input follows the input size and its output doesn't."""
    outputs = [facts.value(name).shape for name in fact.node.outputs if name]
    first = facts.value(fact.node.inputs[0]).shape if fact.node.inputs else None
    return _depends(first, names) and all(s is not None and not _depends(s, names) for s in outputs)


def _copying(node: Node, native: Facts, free: Facts, names: set[str], tensors: list[Tensor]) -> list[Node]:
    """Nodes that reshape alike at every size; [] where axes that follow the size are merged or torn."""
    before, after = native.value(node.inputs[0]).shape, native.value(node.outputs[0]).shape
    moving = free.value(node.inputs[0]).shape
    parts = None if before is None or after is None else blocks(before, after)
    if before is None or after is None or moving is None or parts is None:
        return []
    copied: dict[int, int] = {}
    if before[:1] == after[:1] == (1,):  # a batch of one is in no block
        copied[0] = 0
    for part in parts:
        if len(part.before) == len(part.after) == 1:
            copied[part.after[0]] = part.before[0]
        elif any(_depends((moving[axis],), names) for axis in part.before):
            return []
    if any(isinstance(size, Expr) and axis not in copied for axis, size in enumerate(after)):
        return []
    if not _strays(free.value(node.outputs[0]).shape, moving, copied):
        return []
    if len(before) == len(after) == len(_perm(before, after, copied)) and _ones_only(parts):
        perm = Attribute("perm", _perm(before, after, copied), _INT_LISTS)
        return [Node(0, node.name, "Transpose", "", node.inputs[:1], node.outputs, (perm,))]
    return _computed(node, before, after, copied, tensors)


def _strays(shape: Shape | None, moving: Shape, copied: dict[int, int]) -> bool:
    """Whether an axis that should follow the input doesn't."""
    return shape is not None and any(shape[axis] != moving[source] for axis, source in copied.items())


def _ones_only(parts: list[Block]) -> bool:
    return all(len(part.before) == len(part.after) == 1 for part in parts)


def _perm(before: Shape, after: Shape, copied: dict[int, int]) -> tuple[int, ...]:
    ones = iter(axis for axis in range(len(before)) if axis not in copied.values())
    return tuple(copied[axis] if axis in copied else next(ones) for axis in range(len(after)))


def _computed(
    node: Node, before: Shape, after: Shape, copied: dict[int, int], tensors: list[Tensor]
) -> list[Node]:
    """Shape(x) and the fixed sizes in one list, then the wanted ones in order: the target of the Reshape."""
    fixed = [size for axis, size in enumerate(after) if axis not in copied and isinstance(size, int)]
    places: list[int] = []
    for axis in range(len(after)):
        done = sum(1 for other in range(axis) if other not in copied)
        places.append(copied[axis] if axis in copied else len(before) + done)
    name = node.outputs[0]
    tensors += [_ints(f"{name}_fixed", fixed), _ints(f"{name}_places", places)]
    sizes, both, target = f"{name}_sizes", f"{name}_all_sizes", f"{name}_target"
    return [
        Node(0, f"{name}/Shape", "Shape", "", node.inputs[:1], (sizes,)),
        Node(0, f"{name}/Concat", "Concat", "", (sizes, f"{name}_fixed"), (both,), (Attribute("axis", 0),)),
        Node(0, f"{name}/Gather", "Gather", "", (both, f"{name}_places"), (target,)),
        Node(0, node.name, "Reshape", "", (node.inputs[0], target), node.outputs),
    ]


def _ints(name: str, numbers: list[int]) -> Tensor:
    return Tensor(name, dtypes.INT64, (len(numbers),), packed(numbers, dtypes.INT64))


WHOLE_IMAGE = b"align_corners", b"tf_crop_and_resize"
"""Ways of placing samples that read the size of the whole map: a window of a larger one has other samples."""


def _scaling(node: Node, native: Facts, tensors: list[Tensor]) -> list[Node]:
    """A Resize to whole multiples of its input, by scales; [] where a size is no whole multiple.

    X, roi, scales, sizes (Resize-11 on). A runtime divides sizes by the input's: the same scale.
    """
    before, after = native.value(node.inputs[0]).shape, native.value(node.outputs[0]).shape
    policy = node.attribute("keep_aspect_ratio_policy") or b"stretch"
    mode = node.attribute("coordinate_transformation_mode")
    if len(node.inputs) < 4 or before is None or after is None or policy != b"stretch" or mode in WHOLE_IMAGE:
        return []
    axes = node.attribute("axes")
    given = axes if isinstance(axes, tuple) else tuple(range(len(before)))
    named = [axis % len(before) for axis in given if isinstance(axis, int)]
    scales = [_multiple(before[axis], after[axis]) for axis in named]
    known = [scale for scale in scales if scale is not None]
    if len(known) < len(scales):
        return []
    name = f"{node.outputs[0]}_scales"
    tensors.append(Tensor(name, dtypes.FLOAT, (len(known),), packed(known, dtypes.FLOAT)))
    return [replace(node, inputs=(node.inputs[0], node.inputs[1], name))]


def _multiple(before: Size, after: Size) -> int | None:
    """What `before` is taken times, where that is a whole number at every size."""
    if before == after:
        return 1
    if isinstance(before, int) and isinstance(after, int) and before and after % before == 0:
        return after // before
    return None


def _repeating(node: Node, native: Facts, tensors: list[Tensor]) -> list[Node]:
    """An Expand that leaves the axes alone that already have their size: a 1 in its shape says so."""
    before, after = native.value(node.inputs[0]).shape, native.value(node.outputs[0]).shape
    if before is None or after is None:
        return []
    padded = (1,) * (len(after) - len(before)) + before
    wanted = [1 if old == new else new for old, new in zip(padded, after, strict=True)]
    known = [size for size in wanted if isinstance(size, int)]
    if len(known) < len(wanted):
        return []
    name = f"{node.outputs[0]}_shape"
    tensors.append(_ints(name, known))
    return [replace(node, inputs=(node.inputs[0], name))]


_REPEATS = {"Resize": _scaling, "Expand": _repeating}


_SIZED = frozenset("Reshape Resize Upsample Expand Tile ConstantOfShape".split())


def baked(after: Facts, rows: Collection[str] = ()) -> Iterator[str]:
    """What in a converted model fits the native size only, one clause each; `rows` are windows as rows."""
    names = _free_names(after)
    for fact in after.main.nodes:
        if not (fact.node.outputs and fact.node.outputs[0] in rows):
            yield from _fixing(fact, after, names, "size")


def demands(after: Facts) -> Iterator[str]:
    """Where two sizes that follow the input must be equal, once per pair: not every larger size runs."""
    names = _free_names(after)
    told: set[tuple[Size, Size]] = set()
    for fact in after.main.nodes:
        if fact.node.op not in BROADCAST:
            continue
        shapes = [after.value(name).shape or () for name in fact.node.inputs if name]
        for sizes in zip(*(reversed(shape) for shape in shapes), strict=False):
            moving = [size for size in sizes if _depends((size,), names)]
            for pair in ((moving[0], other) for other in moving[1:] if other != moving[0]):
                if pair not in told:
                    told.add(pair)
                    met = f"{fact.node.op} {fact.label} needs {pair[0]} = {pair[1]}"
                    yield f"{met}: other input sizes do not run"


def baked_batches(after: Facts, before: Facts) -> Iterator[str]:
    """What in a converted model fits the batch only that the file fixed and the conversion frees."""
    names = _free_batches(after, before)
    for fact in after.main.nodes if names else ():
        yield from _fixing(fact, after, names, "batch")


def _fixing(fact: NodeFact, after: Facts, names: set[str], what: str) -> Iterator[str]:
    """Where a node's result doesn't follow its input, in a clause."""
    node = fact.node
    if node.op in _SIZED and (_bakes(fact, after, names) or (what == "size" and _folds(fact, after, names))):
        yield f"{node.op} {fact.label} fixes the {what} to {listed(after.value(node.outputs[0]).shape or ())}"
    elif pair := next(((a, b) for _, a, b in fact.inferred.agree if _half_free(a, b, names)), None):
        yield f"{node.op} {fact.label} needs {pair[0]} = {pair[1]}, which holds at the native {what} only"
    elif what == "size" and (lost := _dropped(fact, after, names)):
        yield f"{node.op} {fact.label} needs {lost} = 1, which holds at the native {what} only"
    elif node.op in BROADCAST and (name := _clashing(fact, after, names)):
        fixed = listed(after.value(name).shape or ())
        yield f"{node.op} {fact.label} meets {name}, whose {what} is fixed: {fixed}"


def _dropped(fact: NodeFact, facts: Facts, names: set[str]) -> Size | None:
    """The size of an axis that follows the input and is left out, which it can be while it is 1."""
    if fact.node.op not in ("Squeeze", "Reshape") or not fact.node.outputs:
        return None
    before, after = (facts.value(name).shape for name in (fact.node.inputs[0], fact.node.outputs[0]))
    lost = [size for size in before or () if after is not None and size not in after]
    moving = [size for size in lost if _depends((size,), names)]
    rest = [size for size in before or () if size not in moving and size != 1]
    return moving[0] if moving and rest == [size for size in after or () if size != 1] else None


def _folds(fact: NodeFact, facts: Facts, names: set[str]) -> bool:
    """Whether a reshape takes extra cells into the batch."""
    shapes = [facts.value(name).shape or () for name in (fact.node.inputs[0], fact.node.outputs[0])]
    return fact.node.op == "Reshape" and not _depends(shapes[0][:1], names) and _depends(shapes[1][:1], names)


def _half_free(one: Size, other: Size, names: set[str]) -> bool:
    return _depends((one,), names) != _depends((other,), names)


def _clashing(fact: NodeFact, facts: Facts, names: set[str]) -> str:
    """The operand with a fixed size other than 1 on an axis where another follows the input; "" for none."""
    shapes = {name: facts.value(name).shape or () for name in fact.node.inputs if name}
    for place in range(1, max(map(len, shapes.values()), default=0) + 1):
        sizes = {name: shape[-place] for name, shape in shapes.items() if len(shape) >= place}
        fixed = [name for name, size in sizes.items() if isinstance(size, int) and size != 1]
        if fixed and any(_depends((size,), names) for size in sizes.values()):
            return fixed[0]
    return ""
