"""Heads that read several things one behind the other: flattened maps of unlike sizes, numbers from outside.

W [x1; x2; ...] = W1 x1 + W2 x2 + ..., so a layer on them is a sum of convolutions, one per part, each with
its own columns of W. A vector that comes from no map is a map of one cell, which the sum broadcasts to every
window. Cells of the parts' results must look at the same places: their maps grow alike, cell by cell.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from onnxscope.graph import captures
from onnxscope.rewrite.layout import OVERRIDABLE, operands
from onnxscope.rewrite.lift import Layer, Lift, Step, Tensors, Unliftable
from onnxscope.rewrite.moving import reshape
from onnxscope.rewrite.views import Joined, View, count, shown
from onnxscope.rewrite.weights import FOLDED, PERMUTED, Piece, Source


def joined(lift: Lift, step: Step) -> Joined:
    """The parts of a Concat of vectors [N, F] along their features."""
    rank = len(step.target or ())
    if rank != 2 or step.integer("axis", 1) % rank != 1:
        raise Unliftable
    rank_of_maps = max((view.rank for view in step.views if isinstance(view, View)), default=4)
    parts: list[View] = []
    for index, view in enumerate(step.views):
        if isinstance(view, Joined):
            parts += view.parts
        elif isinstance(view, View):
            parts.append(view)
        else:
            parts.append(foreign(lift, step, index, rank_of_maps))
    for part in parts:
        if len(part.groups) != 2 or part.groups[0] != (0,):
            raise Unliftable(f"{step.fact.label} joins values that are no vector per image")
    return Joined(tuple(parts))


def foreign(lift: Lift, step: Step, index: int, rank: int) -> View:
    """A vector [N, F] that comes from no map, as a map of one cell. Raises Unliftable where it isn't one."""
    name, shape = step.node.inputs[index], step.shape(index)
    check_outside(lift, step, name)
    if step.overridable(index):
        raise Unliftable(f"{step.node.op} {step.fact.label} reads {name}, which is {OVERRIDABLE}")
    if step.constant(index) or shape is None or len(shape) != 2 or not isinstance(shape[1], int):
        raise Unliftable(
            f"{step.node.op} {step.fact.label} joins the features with {name}, which is no vector per image"
        )
    ones = (1,) * (rank - 2)
    twin = reshape(lift, step.place, name, (0, shape[1], *ones))
    return View(twin, ((0,), (1,)), shape[1], ones, ones)


def check_outside(lift: Lift, step: Step, name: str) -> None:
    """Raise Unliftable where a value may change with the size of an image, and that may change."""
    image = _image_behind(lift, name)
    if image and lift.options.size != "fixed":
        raise Unliftable(
            f"{step.node.op} {step.fact.label} joins the features with {name}, which comes from {image} by "
            "another way and may change with its size; --size fixed converts it"
        )


def _image_behind(lift: Lift, name: str) -> str:
    """An image that a value depends on; "" where there is none."""
    graph, seen, waiting = lift.model.graph, set[str](), [name]
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        node = graph.producers.get(value)
        if node is not None:
            waiting += [source for source in (*node.inputs, *captures(node)) if source]
        elif value in lift.views:
            return value
    return ""


def connected_parts(lift: Lift, step: Step, parts: Joined) -> View:
    """A layer on joined vectors: one convolution per part, and their sum."""
    from onnxscope.rewrite.rules import connected as rules

    places = operands(lift.native, step.fact)
    if places.data > places.weight or step.node.attribute("transA"):
        raise Unliftable("its weight is the left operand, which is read for one map only")
    rows_first = bool(step.node.attribute("transB"))
    matrix = rules.matrix_of(lift, step.node.inputs[places.weight])
    name, beta = rules.offset(step)
    made: list[View] = []
    layers: list[Layer] = []
    start = 0
    for part in parts.parts:
        rules.check_floats(lift, step, part)
        width = _width(part)
        source = _piece(matrix, start, width, rows_first=rows_first)
        kernel = rules.kernel_of(part, width)
        weight, features = rules.weight_of(
            lift, step, part, source, kernel, rules.number(step.node, "alpha"), rows_first=rows_first
        )
        bias = rules.bias_of(lift, step, name, features, beta) if name and not made else None
        made.append(rules.convolution(lift, step, part, kernel, features, (weight, bias)))
        layers.append(lift.layers.pop(lift.builder.inner(made[-1].twin)))
        start += width
    if start != matrix.dims[-1 if rows_first else -2]:
        raise Unliftable(f"its weight takes {matrix.dims[-1 if rows_first else -2]} inputs, not {start}")
    return _sum(lift, step, made, layers)


def _width(part: View) -> int:
    width = count(part, part.groups[-1])
    if not isinstance(width, int):
        raise Unliftable(f"the native size of {part.base} {shown(part)} is unknown; give --native HxW")
    return width


def _piece(matrix: Source, start: int, width: int, *, rows_first: bool) -> Source:
    """Columns start..start+width of W as a matrix of its own."""
    rank = len(matrix.dims)
    place = rank - 1 if rows_first else rank - 2
    dims = tuple(width if axis == place else size for axis, size in enumerate(matrix.dims))
    stored, axis = matrix.dims, place
    if matrix.turned:
        stored, axis = (*stored[:-2], *stored[:-3:-1]), 2 * rank - 3 - place
    return matrix._replace(dims=dims, piece=Piece(stored, axis, start, start + width))


def _sum(lift: Lift, step: Step, made: list[View], layers: list[Layer]) -> View:
    """The sum of the parts' results, and the layer that it is."""
    wide = [view for view in made if not view.single]
    main = layers[made.index(wide[0])] if wide else max(layers, key=lambda layer: prod(layer.kernel))
    for view in wide:
        if view.free != wide[0].free:
            raise Unliftable(_apart(wide[0], view))
    twin = made[0].twin
    for view in made[1:]:
        last = view is made[-1]
        twin = lift.builder.emit(step.place, "Add", (twin, view.twin), like=step.output if last else "")
    folded = any(layer.weight.move == FOLDED for layer in layers)
    weight = Tensors(
        main.weight.original, main.weight.candidate, FOLDED if folded else PERMUTED, main.weight.axes
    )
    bias = next((layer.bias for layer in layers if layer.bias), None)
    result = lift.builder.inner(twin)
    lift.layers[result] = main._replace(result=result, weight=weight, bias=bias, parts=tuple(layers))
    shape = wide[0] if wide else made[0]
    return replace(
        shape,
        twin=twin,
        layers=frozenset[int]().union(*(view.layers for view in made)),
        pools=frozenset[int]().union(*(view.pools for view in made)),
        base=main.source.base,
    )


def _apart(one: View, other: View) -> str:
    """Why two parts don't fit at other sizes."""
    sizes = [f"{view.base} has {' x '.join(map(str, view.free))} windows" for view in (one, other)]
    return f"its maps move in different steps: at other sizes {' and '.join(sizes)}; --size fixed converts it"
