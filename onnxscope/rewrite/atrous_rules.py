"""The dense twin of each op: `(walk, fact) -> grids of its outputs`, or None where it needs no rule.

A rule adds the twin's nodes with `walk.keep` and `walk.emit`, or raises NoDenseTwin with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxscope.analysis.facts import NodeFact
from onnxscope.expr import Expr, Size, integers
from onnxscope.graph import Node
from onnxscope.rewrite.atrous import Grid, Grids, NoDenseTwin, Rule, Walk
from onnxscope.rewrite.atrous_windows import convolution, pool, quantized_pool
from onnxscope.rewrite.baked import blocks

_OWN_CONSTANTS = frozenset("BatchNormalization QuantizeLinear DequantizeLinear LRN Dropout".split())
"""Ops whose constants don't broadcast over the map."""
_POINTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BatchNormalization BiasGelu BitShift Cast CastLike Ceil "
    "Celu Clip Cos Cosh DequantizeLinear Div Dropout Elu Equal Erf Exp FastGelu Floor Gelu Greater "
    "GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log LRN Max Mean "
    "Min Mish Mod Mul Neg Not Or PRelu Pow QLinearAdd QLinearLeakyRelu QLinearMul QLinearSigmoid "
    "QuantizeLinear QuickGelu Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign "
    "Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
_ALONG = "Hardmax LogSoftmax Softmax QLinearSoftmax LpNormalization Split"
_REDUCING = (
    "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)


def pointwise(walk: Walk, fact: NodeFact) -> Grids | None:
    """One number per place from the numbers at that place, with numpy broadcasting."""
    node = fact.node
    after = walk.shape(node.outputs[0])
    found: list[Grid | None] = [None] * len(after)
    _check_axis(walk, node)
    for name in node.inputs:
        grids = walk.grids_of(name)
        if grids is not None:
            _meet(found, grids, walk.shape(name), after)
    for name in node.inputs:
        if name and walk.grids_of(name) is None and node.op not in _OWN_CONSTANTS:
            _check_constant(walk, node, name, found)
    walk.keep(node)
    return tuple(grid or Grid(None) for grid in found)


def _meet(found: list[Grid | None], grids: Grids, shape: Sequence[Size], after: Sequence[Size]) -> None:
    """Merge the grids of an input; an axis of size 1 that isn't denser broadcasts to larger or known ones."""
    for axis, (grid, size) in enumerate(zip(grids, shape, strict=True), len(after) - len(shape)):
        if axis < 0 or (size == 1 and grid.factor == 1 and (after[axis] != 1 or grid.stride is None)):
            continue
        other = found[axis]
        if other is not None and other.factor != grid.factor:
            raise NoDenseTwin("joins branches of which only one can be made denser")
        known = other is None or other.stride == grid.stride
        found[axis] = grid if known else Grid(None, grid.factor)


def _check_constant(walk: Walk, node: Node, name: str, found: Sequence[Grid | None]) -> None:
    shape = walk.facts.value(name).shape
    axis = node.attribute("axis") if walk.opset < 7 and node.attribute("broadcast") else None
    if shape is None:
        return
    first = axis if isinstance(axis, int) else len(found) - len(shape)
    for place, size in enumerate(shape, first):
        grid = found[place] if 0 <= place < len(found) else None
        if grid is not None and grid.factor > 1 and size != 1:
            raise NoDenseTwin(f"has one number per place of the map ({name})")


def _check_axis(walk: Walk, node: Node) -> None:
    """Scales along an axis that gets denser have no numbers for its new cells."""
    if node.op not in ("QuantizeLinear", "DequantizeLinear"):
        return
    grids = walk.grids_of(node.inputs[0]) or ()
    axis = node.attribute("axis")
    place = axis if isinstance(axis, int) else 1
    if len(walk.shape(node.inputs[1])) == 1 and -len(grids) <= place < len(grids) and grids[place].factor > 1:
        raise NoDenseTwin("has scales along the map")


def along(walk: Walk, fact: NodeFact) -> Grids | None:
    """Softmax and the like, and Split: on one axis, which must not get denser."""
    node = fact.node
    grids = walk.first(node)
    version = node.attribute("opset") if node.op == "QLinearSoftmax" else walk.opset
    coerces = isinstance(version, int) and version < 13 and "max" in node.op.lower()
    given = node.attribute("axis")
    default = {"LpNormalization": -1, "Split": 0}.get(node.op, 1 if coerces else -1)
    axis = (given if isinstance(given, int) else default) % len(grids)
    for grid in grids[axis:] if coerces else grids[axis : axis + 1]:
        if grid.factor > 1:
            raise NoDenseTwin("acts along the map")
    walk.keep(node)
    return grids


def reducing(walk: Walk, fact: NodeFact) -> Grids | None:
    """Reductions over axes that don't get denser."""
    node = fact.node
    grids = walk.first(node)
    axes = _axes(walk, node)
    if any(grid.factor > 1 for axis, grid in enumerate(grids) if axes is None or axis in axes):
        raise NoDenseTwin("acts over the whole map")
    walk.keep(node)
    held = node.attribute("keepdims") != 0
    if axes is None:
        return (Grid(None),) * (len(grids) if held else 0)
    whole = [Grid(None) if axis in axes else grid for axis, grid in enumerate(grids)]
    return tuple(grid for axis, grid in enumerate(whole) if held or axis not in axes)


def _axes(walk: Walk, node: Node) -> set[int] | None:
    """The axes that a node names, from 0 on; None for all. Raises NoDenseTwin where they aren't known."""
    rank = len(walk.shape(node.inputs[0]))
    given = node.attribute("axis" if node.op.startswith("Arg") else "axes")
    if node.op.startswith("Arg"):
        given = (given if isinstance(given, int) else 0,)
    if given is None and len(node.inputs) > 1 and node.inputs[1]:
        data = walk.facts.value(node.inputs[1]).known()
        if data is None:
            raise NoDenseTwin("computes its axes")
        return {axis % rank for axis in integers(data.items)} or None
    return {axis % rank for axis in integers(given)} or None


def squeeze(walk: Walk, fact: NodeFact) -> Grids | None:
    """Axes of size 1 go."""
    node = fact.node
    grids, axes = walk.first(node), _axes(walk, node)
    if axes is None:
        sizes = walk.shape(node.inputs[0])
        axes = {axis for axis, size in enumerate(sizes) if size == 1}
    if any(grids[axis].factor > 1 for axis in axes):
        raise NoDenseTwin("drops an axis that gets denser")
    walk.keep(node)
    return tuple(grid for axis, grid in enumerate(grids) if axis not in axes)


def unsqueeze(walk: Walk, fact: NodeFact) -> Grids | None:
    """Axes of size 1 come."""
    node = fact.node
    grids, rank = walk.first(node), len(walk.shape(node.outputs[0]))
    given = node.attribute("axes")
    data = walk.facts.value(node.inputs[1]).known() if len(node.inputs) > 1 else None
    listed = given if isinstance(given, tuple) else data.items if data is not None else ()
    axes = {axis % rank for axis in integers(listed)}
    if len(axes) + len(grids) != rank:
        raise NoDenseTwin("computes its axes")
    walk.keep(node)
    rest = iter(grids)
    return tuple(Grid(1) if axis in axes else next(rest) for axis in range(rank))


def transpose(walk: Walk, fact: NodeFact) -> Grids | None:
    """Axes change places."""
    grids = walk.first(fact.node)
    perm = fact.node.attribute("perm")
    walk.keep(fact.node)
    return tuple(grids[axis] for axis in integers(perm)) if perm else grids[::-1]


def concat(walk: Walk, fact: NodeFact) -> Grids | None:
    """Maps one behind the other; all other axes must get equally dense."""
    node = fact.node
    parts = [walk.grids_of(name) for name in node.inputs]
    if node.op != "Concat":  # scales and zero points stand between
        parts = [grids for grids in parts if grids is not None]
    known = [grids for grids in parts if grids is not None]
    axis = node.attribute("axis")
    joined = (axis if isinstance(axis, int) else 1) % len(known[0])
    ones = (Grid(None),) * len(known[0])
    factors = {
        tuple(1 if i == joined else grid.factor for i, grid in enumerate(grids or ones)) for grids in parts
    }
    if len(factors) > 1 or any(grids[joined].factor > 1 for grids in known):
        raise NoDenseTwin("joins branches of which only some can be made denser")
    walk.keep(node)
    return tuple(
        Grid(g[0].stride if len({grid.stride for grid in g}) == 1 and i != joined else None, g[0].factor)
        for i, g in enumerate(zip(*known, strict=True))
    )


def pad(walk: Walk, fact: NodeFact) -> Grids | None:
    """Constant padding: `factor` times as many cells."""
    node = fact.node
    grids = walk.first(node)
    pads = [p * grids[i % len(grids)].factor for i, p in enumerate(_pads_of(walk, node, len(grids)))]
    mode = node.attribute("mode")
    if all(grid.factor == 1 for grid in grids):
        walk.keep(node)
    elif mode not in (None, b"constant"):
        raise NoDenseTwin("repeats what lies at the border, which is another cell there")
    elif walk.opset < 11:
        walk.keep(node, **{"pads" if node.attribute("paddings") is None else "paddings": tuple(pads)})
    else:
        inputs = (node.inputs[0], walk.ints(f"{node.outputs[0]}_pads", pads), *node.inputs[2:])
        walk.keep(replace(node, inputs=inputs, origin=None))
    return grids


def _pads_of(walk: Walk, node: Node, rank: int) -> list[int]:
    given = node.attribute("pads") or node.attribute("paddings")
    data = walk.facts.value(node.inputs[1]).known() if len(node.inputs) > 1 and walk.opset >= 11 else None
    items = given if isinstance(given, tuple) else data.items if data is not None else ()
    numbers = [item for item in items if isinstance(item, int)]
    if len(numbers) != 2 * rank or (len(node.inputs) > 3 and node.inputs[3]):
        raise NoDenseTwin("computes its pads, or names some axes only")
    return numbers


def cutting(walk: Walk, fact: NodeFact) -> Grids | None:
    """Slice, Gather, TopK: along axes that don't get denser, the others untouched."""
    node = fact.node
    grids = walk.first(node)
    shapes = walk.shape(node.inputs[0]), walk.shape(node.outputs[0])
    if any(grid.factor > 1 for grid in grids) and len(shapes[0]) != len(shapes[1]):
        raise NoDenseTwin("changes the axes of the map")
    touched = _touched(walk, node, len(grids))
    if any(grids[axis].factor > 1 for axis in touched):
        raise NoDenseTwin("cuts pieces out of the map")
    if len(shapes[0]) != len(shapes[1]):
        return None
    walk.keep(node)
    return tuple(Grid(None) if axis in touched else grid for axis, grid in enumerate(grids))


def _touched(walk: Walk, node: Node, rank: int) -> set[int]:
    if node.op != "Slice":
        axis = node.attribute("axis")
        return {(axis if isinstance(axis, int) else 0 if node.op == "Gather" else -1) % rank}
    given = node.attribute("axes")
    if walk.opset >= 10 and len(node.inputs) > 3 and node.inputs[3]:
        data = walk.facts.value(node.inputs[3]).known()
        return {axis % rank for axis in (integers(data.items) if data is not None else range(rank))}
    return {axis % rank for axis in (integers(given) if isinstance(given, tuple) else range(rank))}


def reshape(walk: Walk, fact: NodeFact) -> Grids | None:
    """Reshape that copies the sizes of axes that get denser: by a 0, or from its own input's Shape."""
    node = fact.node
    grids = walk.first(node)
    moving = {axis for axis, grid in enumerate(grids) if grid.factor > 1}
    if not moving:
        return _regrouped(walk, node, grids)
    given = node.attribute("shape")
    data = walk.facts.value(node.inputs[1]).known() if len(node.inputs) > 1 else None
    items = given if isinstance(given, tuple) else data.items if data is not None else ()
    if all(axis < len(items) and items[axis] == 0 for axis in moving) and not node.attribute("allowzero"):
        walk.keep(node)
        return tuple(grids[axis] if axis in moving else Grid(None) for axis in range(len(items)))
    free = all(isinstance(walk.shape(node.inputs[0])[axis], Expr) for axis in moving)
    own = free and not isinstance(given, tuple) and _own_sizes(walk, node)
    found = _regrouped(walk, node, grids) if own else None
    if found is None or sum(grid.factor > 1 for grid in found) < len(moving):
        raise NoDenseTwin("merges axes of the map or fixes their size")
    return found


def _regrouped(walk: Walk, node: Node, grids: Grids) -> Grids | None:
    """The grids after a reshape that merges or splits other axes only; None where sizes don't tell."""
    before, after = walk.shape(node.inputs[0]), walk.shape(node.outputs[0])
    parts = blocks(before, after)
    if parts is None:
        return None
    single = {part.after[0]: part.before[0] for part in parts if len(part.before) == len(part.after) == 1}
    moved = [grids[single[axis]] if axis in single else Grid(None) for axis in range(len(after))]
    walk.keep(node)
    return tuple(moved)


_SIZE_OPS = frozenset("Concat Gather Slice Cast Identity Squeeze Unsqueeze".split())
"""Ops that put sizes in order, none that computes with them."""


def _own_sizes(walk: Walk, node: Node) -> bool:
    """Whether a Reshape's target consists of constants and sizes of its own input."""
    graph, waiting = walk.facts.main.graph, [node.inputs[1]]
    while waiting:
        name = waiting.pop()
        maker = graph.producers.get(name)
        if walk.facts.value(name).constant or (maker is not None and _is_size(maker, node.inputs[0])):
            continue
        if maker is None or maker.op not in _SIZE_OPS:
            return False
        waiting += [source for source in maker.inputs if source]
    return True


def _is_size(maker: Node, source: str) -> bool:
    return maker.op == "Shape" and maker.inputs[0] == source


def _for_reshapes(walk: Walk, name: str, source: str) -> bool:
    """Whether sizes of a value only go, put in order, into reshapes of that value."""
    graph, waiting = walk.facts.main.graph, [name]
    ends = {info.name for info in graph.outputs}
    while waiting:
        value = waiting.pop()
        for reader in graph.consumers.get(value, ()):
            if reader.op in _SIZE_OPS:
                waiting += reader.outputs
            elif reader.op != "Reshape" or reader.inputs[0] != source or value in reader.inputs[:1]:
                return False
        if value in ends:
            return False
    return True


def sizes(walk: Walk, fact: NodeFact) -> Grids | None:
    """Shape and Size answer for the strided network, but for reshapes of their own input."""
    node = fact.node
    if all(grid.factor == 1 for grid in walk.first(node)):
        return None
    if node.op != "Shape" or not _for_reshapes(walk, node.outputs[0], node.inputs[0]):
        raise NoDenseTwin("asks for the size of a map that gets denser")
    walk.keep(node)
    return (Grid(None),)


def _table() -> dict[str, Rule]:
    rows: dict[str, Rule] = {
        _POINTWISE: pointwise,
        _ALONG: along,
        _REDUCING: reducing,
        "Conv FusedConv QLinearConv ConvInteger": convolution,
        "MaxPool AveragePool LpPool": pool,
        "Slice Gather TopK": cutting,
        "Concat QLinearConcat": concat,
        "QLinearAveragePool": quantized_pool,
        "Transpose": transpose,
        "Squeeze": squeeze,
        "Unsqueeze": unsqueeze,
        "Reshape": reshape,
        "Pad": pad,
        "Shape Size": sizes,
    }
    return {op: rule for ops, rule in rows.items() for op in ops.split()}


RULES = _table()
"""Op -> rule. Ops without one read the common cells of denser inputs."""
