"""Fully connected layers on a view: the convolution whose kernel is the map's size, 1x1 on a lifted vector.

y = W x + b on the flattened map [C, *S] is the convolution with kernel S: the same weights under dims
[M, C, *S]. Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", 2015,
section 3.1.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import NamedTuple

from onnxscope import dtypes
from onnxscope.expr import Expr, Size, product
from onnxscope.graph import Attribute, Node
from onnxscope.rewrite.form_choice import batch_of, chosen
from onnxscope.rewrite.forms import FORMS, Planned
from onnxscope.rewrite.layout import operands
from onnxscope.rewrite.lift import Answer, Layer, Lift, Step, Tensors, Unliftable, rule
from onnxscope.rewrite.moving import place_constant, source
from onnxscope.rewrite.rules.joined import connected_parts
from onnxscope.rewrite.views import Group, Groups, Joined, View, shown
from onnxscope.rewrite.weights import FOLDED, PERMUTED, Recipe, Source

_FLOATS = {dtypes.FLOAT, dtypes.FLOAT16, dtypes.BFLOAT16}


@rule("Gemm FusedGemm MatMul FusedMatMul")
def connected(lift: Lift, step: Step) -> Answer:
    """[N, K] -> [N, M]: Conv with kernel S on a flattened map, Conv 1x1 on a lifted vector.

    alpha goes into the weight, beta into the bias, the activation of a FusedGemm behind.
    """
    if step.place in lift.refused:
        return stays(lift, step)
    parts = step.views[operands(lift.native, step.fact).data]
    if isinstance(parts, Joined):
        return _activated(lift, step, connected_parts(lift, step, parts))
    product = product_of(lift, step)
    view, rows_first = product.view, product.rows_first
    check_floats(lift, step, view)
    matrix = matrix_of(lift, step.node.inputs[product.weight])
    kernel = kernel_of(view, matrix.dims[-1 if rows_first else -2])
    weight, features = weight_of(
        lift, step, view, matrix, kernel, number(step.node, "alpha"), rows_first=rows_first
    )
    name, beta = offset(step)
    bias = None
    if name and _per_feature(lift, name, features, product):
        bias = bias_of(lift, step, name, features, beta)
    made = convolution(lift, step, view, kernel, features, (weight, bias))
    made = made.regrouped(product.result(made, len(step.target or ())))
    if name and bias is None:
        made = _added(lift, step, made, name, beta)
    return _activated(lift, step, made)


class Product(NamedTuple):
    """A matrix product as y = W x, whichever side its weight is on."""

    view: View
    """View of the data, its groups in another order: the axis that is summed over comes last."""
    place: int
    """Where the features of the result go among the other axes."""
    weight: int
    """Input with the weight."""
    rows_first: bool
    """Whether the weight is stored [M, K], one row per feature."""

    def result(self, made: View, rank: int) -> Groups:
        """The result's groups from those of the convolution; leading 1s that the weight adds are empty."""
        *rest, features = made.groups
        rest.insert(self.place, features)
        return (*((),) * max(0, rank - len(rest)), *rest)


def product_of(lift: Lift, step: Step) -> Product:
    """The product x W or W x, transposed or not. Raises Unliftable for batches inside a transposition."""
    places, node = operands(lift.native, step.fact), step.node
    view = step.view_of(places.data)
    if any(node.attribute(name) for name in ("transBatchA", "transBatchB")):
        raise Unliftable(f"{node.op} {step.fact.label} transposes over its batches")
    left = places.data < places.weight
    groups = list(view.groups)
    if node.attribute("transA" if left else "transB") and len(groups) > 1:
        groups[-2:] = groups[:-3:-1]
    if left or len(groups) < 2:
        return Product(
            view.regrouped(tuple(groups)), len(groups) - 1, places.weight, bool(node.attribute("transB"))
        )
    taken = groups.pop(-2)
    turned = view.regrouped((*groups, taken))
    return Product(turned, len(groups) - 1, places.weight, not node.attribute("transA"))


def matrix_of(lift: Lift, name: str) -> Source:
    """A weight as one matrix. Raises Unliftable where it is several, or its shape is unknown."""
    matrix = source(lift, name)
    if matrix is None or len(matrix.dims) < 2:
        raise Unliftable("the shape of its weight is unknown")
    if any(size != 1 for size in matrix.dims[:-2]):
        raise Unliftable(f"its weight {name} is a stack of matrices")
    return matrix


def offset(step: Step) -> tuple[str, float]:
    """Name and factor of C; "" where there is none or its factor is 0."""
    beta = number(step.node, "beta")
    given = step.node.op in ("Gemm", "FusedGemm") and step.has(2) and beta != 0
    return (step.node.inputs[2], beta) if given else ("", beta)


def _per_feature(lift: Lift, name: str, features: int, product: Product) -> bool:
    """Whether C is one number, or one per feature, so that it is the bias of a convolution."""
    stored = source(lift, name)
    if stored is None:
        raise Unliftable("its bias has not one number per feature")
    sizes = (1, 1, *stored.dims)[-2:]
    other = sizes[0] if product.place else sizes[1]
    return prod(stored.dims) == 1 or (other == 1 and prod(sizes) == features)


def _added(lift: Lift, step: Step, made: View, name: str, beta: float) -> View:
    """C with a number per image, behind the convolution; the layer ends there."""
    from onnxscope.rewrite.rules.pointwise import constant_twin

    if lift.options.batch == "free":
        raise Unliftable("its bias differs per row of the batch, which --batch free would change")
    twin = constant_twin(lift, step, name, made, step.target or (), beta)
    result = lift.builder.emit(step.place, "Add", (made.twin, twin), like=step.output)
    bias = Tensors(name, twin, PERMUTED if beta == 1 else FOLDED)
    layer = lift.layers.pop(lift.builder.inner(made.twin))
    key = lift.builder.inner(result)
    lift.layers[key] = layer._replace(result=key, bias=bias)
    return replace(made, twin=result)


def stays(lift: Lift, step: Step) -> Answer:
    """The result of a layer that isn't converted: unflattened for the next one where that is allowed."""
    from onnxscope.rewrite.lift import lost_at
    from onnxscope.rewrite.rules.layouts import unflattened

    if lift.entered and step.target is not None and len(step.target) == 2:
        return unflattened(lift, step)
    label, asked = step.fact.label, lift.options.layers
    if asked and label not in asked:
        other = "" if lift.options.stride else ", or take --output vector or --size fixed"
        help = f"name it too (--layer {label}){other}"
        return lost_at(step, f"{label} stays fully connected; {help}")
    return lost_at(step, f"{label} stays fully connected")


def check_floats(lift: Lift, step: Step, view: View) -> None:
    """Raise Unliftable where a Conv has no kernel for the type, or the view is no vector per image."""
    dtype = lift.native.value(step.output).dtype
    if dtype == dtypes.DOUBLE:
        raise Unliftable("onnxruntime's CPU Conv has no float64 kernel (--form rows keeps its Gemm)")
    if dtype == dtypes.BFLOAT16 and lift.opset < 22:
        raise Unliftable(f"a Conv takes no bfloat16 below opset 22, this model has {lift.opset}")
    if dtype not in _FLOATS:
        raise Unliftable(f"a Conv takes no {dtypes.name_of(dtype)}")
    check_view(view)


def check_view(view: View) -> None:
    """Raise Unliftable where a layer's inner axis isn't the features of one image."""
    if view.groups[-1] == (0,):
        raise Unliftable("it sums over the batch")
    if 0 in view.groups[-1]:
        raise Unliftable("the reshape in front of it merges the batch with its features")
    if not view.groups or (1 not in view.groups[-1] and view.channels != 1):
        raise Unliftable("its inner axis is no feature axis of a map")
    if any(len(group) > 1 for group in view.groups[:-1]):
        raise Unliftable("its rows are merged axes of a map")


def kernel_of(view: View, inputs: int) -> tuple[int, ...]:
    """The spatial kernel: the map's native size along the axes that the layer takes in, else 1.

    Where that size is free, the weight alone tells it: inputs/channels cells, as many on each free axis.
    """
    taken = view.groups[-1]
    sizes = tuple(size if 2 + i in taken else 1 for i, size in enumerate(view.spatial))
    fixed = product((view.channels, *(size for size in sizes if isinstance(size, int))))
    free = sum(isinstance(size, Expr) for size in sizes)
    side = 1
    if free and isinstance(fixed, int) and fixed and inputs % fixed == 0:
        side = round((inputs // fixed) ** (1 / free))
    if free and (not isinstance(fixed, int) or side**free * fixed != inputs):
        option = "--shape" if isinstance(view.channels, Expr) else "--native"
        why = f"its weight takes {inputs} inputs, which no square map {view.base} {shown(view)} gives"
        raise Unliftable(f"{why}; {option} gives the size that it was made for")
    return tuple(size if isinstance(size, int) else side for size in sizes)


def weight_of(
    lift: Lift,
    step: Step,
    view: View,
    matrix: Source,
    kernel: tuple[int, ...],
    alpha: float,
    *,
    rows_first: bool,
) -> tuple[Tensors, int]:
    """The weight [K, M], or [M, K] with `rows_first`, as [M, C, *kernel], and M."""
    inputs, features = matrix.dims[-2:][::-1] if rows_first else matrix.dims[-2:]
    if matrix.turned:
        rows_first = not rows_first
    taken = view.groups[-1]
    order = (*taken, *(axis for axis in range(1, view.rank) if axis not in taken))
    sizes = {1: view.channels, **{2 + i: size for i, size in enumerate(kernel)}}
    dims = tuple(size for axis in order if isinstance(size := sizes[axis], int))
    whole = 1
    for size in dims:
        whole *= size
    if whole != inputs or len(dims) != len(order):
        raise Unliftable(f"its weight takes {inputs} inputs, the map {view.base} {shown(view)} gives {whole}")
    first = 1 if rows_first else 0
    axes = (0 if rows_first else len(dims), *(first + order.index(axis) for axis in range(1, view.rank)))
    seen = (features, *dims) if rows_first else (*dims, features)
    final = tuple(seen[axis] for axis in axes)
    made = place_constant(lift, step.place, matrix, Recipe(seen, axes, alpha), final)
    return made._replace(axes=_axes(taken)), features


def _axes(taken: Group) -> tuple[int, ...]:
    return taken if 1 in taken else (1,)


def bias_of(lift: Lift, step: Step, name: str, features: int, beta: float = 1.0) -> Tensors:
    """A bias of M numbers, or of one, as [M]."""
    stored = source(lift, name)
    numbers = 0
    if stored is not None:
        numbers = 1
        for size in stored.dims:
            numbers *= size
    if stored is None or numbers not in (1, features):
        raise Unliftable("its bias has not one number per feature")
    fill = features if numbers == 1 else 1
    return place_constant(lift, step.place, stored, Recipe((numbers,), None, beta, fill), (features,))


def convolution(
    lift: Lift,
    step: Step,
    view: View,
    kernel: tuple[int, ...],
    features: int,
    tensors: tuple[Tensors, Tensors | None],
    owner: Layer | None = None,
) -> View:
    """Write the convolution in the form asked for and give the view of its result [N, M]."""
    weight, bias = tensors
    channels = view.channels if isinstance(view.channels, int) else 0
    form, reason = (owner.form, owner.reason) if owner else chosen(lift, step, view)
    result = FORMS.get(form, FORMS["conv"])(
        lift,
        Planned(
            step.place,
            view.twin,
            weight.candidate,
            bias.candidate if bias else "",
            kernel,
            channels,
            features,
            step.output,
            batch_of(lift, view),
        ),
    )
    read = view.twin if any(size != 1 for size in kernel) else lift.builder.inner(view.twin)
    made = lift.builder.inner(result)
    fact = owner.fact if owner else step.fact
    source_name = owner.input if owner else step.node.inputs[operands(lift.native, step.fact).data]
    lift.layers[made] = Layer(
        fact, view, made, source_name, step.output, kernel, channels, features, weight, bias, form, reason,
        read=read,
    )  # fmt: skip
    return replace(
        view,
        twin=result,
        groups=(*view.groups[:-1], (1,)),
        channels=features,
        spatial=tuple(1 if 2 + i in view.groups[-1] else size for i, size in enumerate(view.spatial)),
        free=tuple(_shrunk(s, k) for s, k in zip(view.free, kernel, strict=True)),
        layers=view.layers | {fact.node.index},
    )


def _shrunk(size: Size, kernel: int) -> Size:
    return size - kernel + 1


def number(node: Node, name: str) -> float:
    """A factor, 1 where it isn't given."""
    value = node.attribute(name)
    return float(value) if isinstance(value, (int, float)) else 1.0


def _activated(lift: Lift, step: Step, view: View) -> View:
    """The activation inside a FusedGemm, as a node of its own. Source: onnxruntime ContribOperators.md."""
    name = step.node.attribute("activation")
    if step.node.op != "FusedGemm" or not isinstance(name, bytes):
        return view
    given = tuple(
        Attribute(key, value)
        for key in ("alpha", "beta", "gamma")
        if (value := step.node.attribute(f"activation_{key}")) is not None
    )
    node = Node(0, "", name.decode(), "", (view.twin,), (), given)
    twin = lift.builder.add(step.place, node, like=step.output)
    return replace(view, twin=twin)
