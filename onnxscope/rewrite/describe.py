"""What a plan says for people and for the verifier: conversions, window geometry, provenance, notes."""

from __future__ import annotations

from onnxscope import __version__, dtypes
from onnxscope.analysis import receptive_field
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.receptive_field import Field
from onnxscope.analysis.spatial import closed_forms
from onnxscope.rewrite.atrous import Dense, strides
from onnxscope.rewrite.form_choice import gains, starts
from onnxscope.rewrite.lift import Layer, Tensors
from onnxscope.rewrite.native import Sizes
from onnxscope.rewrite.plan import Conversion, Geometry
from onnxscope.rewrite.select import Selection
from onnxscope.rewrite.views import Front, View


def conversions(chosen: Selection, thicker: Dense | None = None) -> tuple[Conversion, ...]:
    """One entry per converted layer, in execution order; `thicker` is what a denser map takes."""
    return tuple(
        Conversion(
            layer.fact.label,
            f"{layer.fact.node.op} {_inputs(layer)} -> {layer.features}",
            _after(layer) + _spread(_steps(thicker, chosen.final(layer.source.twin)), layer.kernel),
            _window_of(layer),
            layer.form,
            layer.reason,
            _move(layer),
        )
        for layer in chosen.layers
    )


def _steps(thicker: Dense | None, name: str) -> tuple[int, ...]:
    """Per spatial axis, every how many cells of a value are those of the strided network; () for each."""
    return thicker.factors.get(thicker.renamed.get(name, name), ())[2:] if thicker else ()


def _window_of(layer: Layer) -> tuple[int, ...]:
    return layer.kernel or layer.window or (1,) * (layer.source.rank - 2)


def _after(layer: Layer) -> str:
    kernel = "x".join(map(str, _window_of(layer)))
    if layer.parts:
        return " + ".join(dict.fromkeys(_after(part) for part in layer.parts))
    if layer.form == "rows":
        return f"{layer.fact.node.op} {_inputs(layer)} -> {layer.features} on every {kernel} window"
    return f"Conv {kernel}x{layer.channels} -> {layer.features}"


def _spread(dilations: tuple[int, ...], kernel: tuple[int, ...]) -> str:
    """How far apart the kernel's cells lie, where that isn't 1."""
    if not dilations or all(size == 1 for size in kernel):
        return ""
    shown = dilations[:1] if len(set(dilations)) == 1 else dilations
    return f", dilation {'x'.join(map(str, shown))}"


def _inputs(layer: Layer) -> int:
    if layer.parts:
        return sum(map(_inputs, layer.parts))
    count = layer.channels
    for size in layer.kernel:
        count *= size
    return count


def _move(layer: Layer) -> str:
    moves = [layer.weight.move]
    return "folded" if layer.bias and layer.bias.move == "folded" and moves == ["folded"] else moves[0]


def geometry(chosen: Selection, sizes: Sizes, after: Facts) -> tuple[Geometry, ...]:
    """Where the cells of each output map look, in input pixels."""
    fields = receptive_field.trace(sizes.free).axes
    minimum = closed_forms(after).minimum_input
    found = []
    for name in chosen.exported:
        view = chosen.lift.views[name]
        if isinstance(view, View):
            axes = _window(view, fields.get(view.base, ()), sizes)
            shown = (
                None
                if axes is None
                or not all(isinstance(f.stride, int) and isinstance(f.start, int) for f in axes)
                else axes
            )
            step = chosen.lift.options.stride
            shape = after.value(name).shape
            size = shape[2:] if step and shape else view.free
            stride = tuple(int(f.stride) for f in shown) if shown else _strides(after, name)
            found.append(
                Geometry(
                    name,
                    size,
                    (step,) * len(size) if step else stride,
                    tuple(int(f.start) for f in shown) if shown else None,
                    tuple(f.size for f in shown) if shown else None,
                    dict(minimum),
                )
            )
    return tuple(found)


def _strides(after: Facts, name: str) -> tuple[int, ...] | None:
    """Distances of cells where what one sees isn't known, as behind padding that changes with the size."""
    found = strides(after, [name])[name]
    return None if isinstance(found, str) else found


def _window(view: View, axes: receptive_field.Axes, sizes: Sizes) -> tuple[Field, ...] | None:
    """The field of one cell: the map's own, widened by the window of the head."""
    shape = sizes.native.value(view.base).shape
    if len(axes) != view.rank or shape is None:
        return None
    found = []
    for field, before, after in zip(axes[2:], shape[2:], view.spatial, strict=True):
        if field is None or not isinstance(before, int) or not isinstance(after, int):
            return None
        reach = (before - after) * field.stride
        found.append(Field(field.size + int(reach), field.stride, field.start))
    return tuple(found)


NO_NATIVE = (
    "nothing tells the native size, so the global pool stays and the map has one cell; give --native HxW"
)


def stays_global(chosen: Selection) -> bool:
    """Whether a global pool in front of a layer was to become a window and didn't."""
    options = chosen.lift.options
    wanted = options.pool == "window" and options.output == "map"
    return wanted and any(layer.source.pooled and not layer.source.pools for layer in chosen.layers)


def notes(chosen: Selection, thicker: Dense | None = None) -> tuple[str, ...]:
    """What a user must know; `thicker` is what a denser map takes."""
    lift = chosen.lift
    nodes = lift.model.graph.nodes
    found = [f"{nodes[i].label} gates a map inside the network and stays global" for i in sorted(lift.still)]
    if stays_global(chosen) and not found:
        found.append(NO_NATIVE)
    if any(lift.native.value(layer.output).dtype == dtypes.BFLOAT16 for layer in chosen.layers):
        found.append(
            "onnxruntime's CPU provider has no bfloat16 kernels: this file runs on other providers only, "
            "and without a proof on those it is written with --no-verify only"
        )
    found += [*gains(lift, chosen.layers), *starts(lift, chosen.layers)]
    return (*found, *_dense_notes(chosen, thicker), *remarks(chosen))


def _dense_notes(chosen: Selection, thicker: Dense | None) -> list[str]:
    """Which cells of a denser map are those of the map without --stride, and what the others see."""
    factors = {_steps(thicker, name) for name in chosen.exported} - {()}
    if thicker is None or not factors:
        return []
    steps = " and ".join("x".join(map(str, axes)) for axes in sorted(factors))
    count = len(thicker.changed)
    layers = "1 layer loses its stride or is" if count == 1 else f"{count} layers lose their stride or are"
    return [
        f"{layers} dilated; every {steps}-th cell is one of the map without --stride, "
        "and cells between see a border of padding (where layers pad) that is shifted with them"
    ]


def remarks(chosen: Selection) -> tuple[str, ...]:
    """Where cells of a larger map are not what the original gives on their window."""
    used = {draft.place for draft in chosen.drafts.values()}
    return tuple(text for place, text in sorted(chosen.lift.remarks.items()) if place in used)


def provenance(chosen: Selection, thicker: Dense | None = None) -> dict[str, object]:
    """Which layer became which, for the verifier; docs/heads.md describes the keys."""
    factors = thicker.factors if thicker else {}
    options = chosen.lift.options
    by_map: dict[Front, list[Layer]] = {}
    for layer in chosen.layers:
        by_map.setdefault(_front(chosen, layer.source), []).append(layer)
    return {
        "version": 1,
        "tool": f"onnxscope {__version__}",
        "options": {
            key: getattr(options, key)
            for key in ("output", "size", "pool", "batch", "form", "target", "stride")
        },
        "heads": [_head(chosen, front, layers, thicker) for front, layers in by_map.items()],
        **({"common": {name: list(steps) for name, steps in factors.items()}} if factors else {}),
    }


def _front(chosen: Selection, view: View) -> Front:
    """The map in front of the head that a view belongs to."""
    front = view.front
    if front is not None and front.twin in chosen.used:
        return front
    shape = chosen.lift.native.value(view.base).shape or ()
    return Front(view.base, view.base, tuple(range(len(shape))), shape[1] if len(shape) > 1 else 0, shape[2:])


def _head(chosen: Selection, front: Front, layers: list[Layer], thicker: Dense | None) -> dict[str, object]:
    window = [size for size in front.spatial if isinstance(size, int)]
    name = chosen.final(front.twin)
    read = thicker.renamed.get(name, name) if thicker else name
    return {
        "feature_map": front.value,
        "channels": front.channels if isinstance(front.channels, int) else None,
        "window": window,
        "pool": _pool(chosen, layers, window),
        "layers": [_layer(chosen, layer, thicker) for layer in layers],
        **({"candidate_map": read} if read != front.value else {}),
        **({"axes": list(front.axes)} if front.axes != tuple(range(len(front.axes))) else {}),
        **_dilations(thicker, name),
        **_folded(chosen, front),
    }


def _folded(chosen: Selection, front: Front) -> dict[str, object]:
    """Where values of the head lie folded in the converted model; nothing where none does."""
    folded = chosen.lift.builder.folded
    values, frames = {}, []
    for name, view in chosen.lift.views.items():
        found = folded.get(view.twin) if isinstance(view, View) and _front(chosen, view) == front else None
        if found is not None and found.value in chosen.used:
            values[name] = chosen.final(found.value)
            frames.append(found.frame)
    if not frames:
        return {}
    return {"folded": {"layout": frames[0].layout, "batch": frames[0].batch, "values": values}}


_KINDS = {
    "QLinearGlobalAveragePool": "average",
    "GlobalAveragePool": "average", "ReduceMean": "average", "GlobalMaxPool": "max", "ReduceMax": "max",
    "ReduceSum": "sum",
}  # fmt: skip


def _pool(chosen: Selection, layers: list[Layer], window: list[int]) -> dict[str, object] | None:
    source = next((layer.source for layer in layers if layer.source.pooled), None)
    if source is None:
        return None
    graph = chosen.lift.model.graph
    nodes = [graph.nodes[index] for index in source.pools] or [
        node for node in graph.consumers.get(source.pooled, ()) if node.op in _KINDS
    ]
    kind = _KINDS.get(nodes[0].op, "average") if nodes else "average"
    twins = [chosen.lift.views.get(node.outputs[0]) for node in nodes] if source.pools else []
    made = [chosen.final(view.twin) for view in twins if isinstance(view, View)]
    return {
        "kind": kind,
        "kernel": window if source.pools else None,
        **({"output": made[0]} if made and chosen.lift.options.stride else {}),
    }


def _dilations(thicker: Dense | None, name: str) -> dict[str, object]:
    """Cells of a denser map between those that one window reads."""
    steps = _steps(thicker, name)
    return {"dilations": list(steps)} if steps else {}


def _layer(chosen: Selection, layer: Layer, thicker: Dense | None) -> dict[str, object]:
    made = _link(chosen, layer, thicker)
    return made | {"parts": [_part(chosen, part, thicker) for part in layer.parts]} if layer.parts else made


def _part(chosen: Selection, part: Layer, thicker: Dense | None) -> dict[str, object]:
    return {**_link(chosen, part, thicker), "feature_map": part.source.base}


def _link(chosen: Selection, layer: Layer, thicker: Dense | None) -> dict[str, object]:
    source = chosen.final(layer.read or layer.source.twin)
    return {
        "node": layer.fact.label,
        "op": layer.fact.node.op,
        "input": layer.input,
        "output": layer.output,
        "candidate_input": thicker.renamed.get(source, source) if thicker else source,
        "candidate_output": chosen.final(layer.result),
        "kernel": list(layer.kernel),
        "weight": {**_tensor(chosen, layer.weight), "axes": list(layer.weight.axes)},
        "bias": _tensor(chosen, layer.bias) if layer.bias else None,
        **(_dilations(thicker, source) if layer.kernel else {}),
    }


def _tensor(chosen: Selection, tensors: Tensors) -> dict[str, object]:
    return {"original": tensors.original, "candidate": chosen.final(tensors.candidate), "move": tensors.move}
