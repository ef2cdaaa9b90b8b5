"""Input sizes of a conversion: the native one, at which the head sees one window, and the free one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from onnxscope.analysis import params as parameters
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.errors import UsageError
from onnxscope.expr import Expr, Size, bind, symbols
from onnxscope.graph import Model, Node
from onnxscope.ops.value import Shape
from onnxscope.rewrite import heads
from onnxscope.rewrite.plan import Options

SEARCH_LIMIT = 1 << 14
"""Largest native input size that is tried, in pixels."""
BATCH = "batch"
"""Name of a batch size that becomes free."""
_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class Sizes(NamedTuple):
    """Facts at the native size and with free sizes."""

    native: Facts
    free: Facts
    shapes: dict[str, tuple[int | str, ...]]
    """Input name -> the shape that it gets declared with; only inputs whose sizes become free."""
    window: dict[str, tuple[int, ...]]
    """Input name -> its native spatial size, where known."""

    @property
    def least(self) -> dict[str, int]:
        """Symbol of a free input size -> the native size: a converted model takes nothing smaller."""
        found: dict[str, int] = {}
        for name in self.window:
            shape, known = self.free.value(name).shape or (), self.native.value(name).shape or ()
            pairs = zip(map(str, shape[1:]), known[1:], strict=False)
            found |= {free: size for free, size in pairs if free.isidentifier() and isinstance(size, int)}
        return found


def sizes_of(model: Model, options: Options) -> Sizes:
    """Bind the model's sizes as the options ask. Raises UsageError for a binding that doesn't fit."""
    first = infer(model, options.shapes, options.dims)
    images = {name: axes for name, axes in _images(first)}
    native = _native(model, first, images, options)
    window: dict[str, tuple[int, ...]] = {}
    for name, axes in images.items():
        shape = native.value(name).shape or ()
        sizes = tuple(size for axis in axes if isinstance(size := shape[axis], int))
        if len(sizes) == len(axes):
            window[name] = sizes
    shapes = {} if options.size == "fixed" else _free_shapes(model, first, images, window)
    if options.batch == "free":
        shapes |= _batched(first, shapes)
    if options.size == "fixed" and not shapes:
        return Sizes(native, native, {}, window)
    gone = {size for shape in shapes.values() for size in shape}
    given = {size for name in shapes for size in options.shapes.get(name, ())}
    gone |= given - {size for info in model.graph.inputs for size in info.type.shape or ()}
    dims = {name: size for name, size in options.dims.items() if name not in gone}
    free = infer(model, {**options.shapes, **shapes}, dims)
    return Sizes(native, free, shapes, window)


def _batched(facts: Facts, shapes: dict[str, tuple[int | str, ...]]) -> dict[str, tuple[int | str, ...]]:
    """Input name -> its shape with a symbol for a batch that is a number."""
    graph = facts.main.graph
    known = {info.name: facts.value(info.name).shape or () for info in graph.inputs}
    return {
        name: (BATCH, *(shapes.get(name) or bound(shape))[1:])
        for name, shape in known.items()
        if name not in graph.initializers and shape and isinstance(shape[0], int)
    }


def _images(facts: Facts) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Inputs with spatial axes, and which axes those are."""
    stored = facts.main.graph.initializers
    for info in facts.main.graph.inputs:
        shape = facts.value(info.name).shape
        if info.name not in stored and shape is not None and len(shape) >= 3:
            yield info.name, spatial_axes(facts, info.name, len(shape))


def spatial_axes(facts: Facts, name: str, rank: int) -> tuple[int, ...]:
    """The axes of an input that the first window op behind it slides over; all from 2 on where none tells.

    Transposes, reshapes that move 1s only, and ops that keep the shape or pad, cut or resize are followed: a
    Keras export begins with [N, H, W, C].
    """
    nodes = {fact.node.index: fact for fact in facts.main.nodes}
    waiting: list[tuple[str, Tags]] = [(name, tuple(range(rank)))]
    seen: set[str] = set()
    while waiting:
        value, tags = waiting.pop(0)
        if value in seen:
            continue
        seen.add(value)
        for node in facts.main.graph.consumers.get(value, ()):
            fact = nodes.get(node.index)
            window = fact.inferred.window if fact else None
            if window is not None and node.inputs[0] == value:
                first = 1 if window.channels_last else 2
                found = [tag for tag in tags[first : first + len(window.kernel)] if tag is not None]
                return tuple(sorted(found))
            after = _followed(facts, node, value, tags)
            if after is not None:
                waiting.append((node.outputs[0], after))
    return tuple(range(2, rank))


_RESIZING = frozenset(("Pad", "Slice", "Resize", "Upsample"))
"""Ops that change sizes and leave every axis what it is."""
Tags: TypeAlias = "tuple[int | None, ...]"
"""Per axis of a value: the axis of the input that it is."""


def _followed(facts: Facts, node: Node, value: str, tags: Tags) -> Tags | None:
    before = facts.value(value).shape
    after = facts.value(node.outputs[0]).shape if node.outputs else None
    if before is None or after is None or node.inputs[:1] != (value,):
        return None
    perm = node.attribute("perm")
    if node.op == "Transpose" and isinstance(perm, tuple) and len(perm) == len(tags):
        return tuple(tags[axis] for axis in perm if isinstance(axis, int))
    if node.op in ("Reshape", "Squeeze", "Unsqueeze"):
        kept = [tag for tag, size in zip(tags, before, strict=True) if size != 1]
        if [size for size in before if size != 1] != [size for size in after if size != 1]:
            return None
        rest = iter(kept)
        return tuple(next(rest) if size != 1 else None for size in after)
    return tags if before == after or (node.op in _RESIZING and len(before) == len(after)) else None


def _native(model: Model, facts: Facts, images: dict[str, tuple[int, ...]], options: Options) -> Facts:
    """The facts at the native size: given, declared, or implied by a weight behind a flattening.

    Raises UsageError where the size given isn't the one that the file fixes.
    """
    shapes = dict(options.shapes)
    for name, axes in images.items():
        shape = facts.value(name).shape or ()
        fixed = tuple(_fixed(model, name, axis, shape) for axis in axes)
        if options.native is not None:
            shapes[name] = _given(name, shape, axes, fixed, options.native)
        elif any(isinstance(shape[axis], Expr) and size for axis, size in zip(axes, fixed, strict=True)):
            shapes[name] = _with(shape, dict(zip(axes, fixed, strict=True)))
    if shapes != options.shapes:
        facts = infer(model, shapes, options.dims)
    if options.native is not None:
        _check_fits(facts, options.native)
    free = any(isinstance((facts.value(n).shape or ())[a], Expr) for n, axes in images.items() for a in axes)
    implied = _implied(facts) if free else {}
    return infer(model, shapes, {**options.dims, **implied}) if implied else facts


def _fixed(model: Model, name: str, axis: int, shape: Shape) -> int | None:
    """A spatial size that was given, else the one that the file declares; None for a free one."""
    size = shape[axis]
    declared = _declared(model, name)
    own = declared[axis] if axis < len(declared) else None
    return size if isinstance(size, int) else own if isinstance(own, int) else None


def _declared(model: Model, name: str) -> tuple[int | str | None, ...]:
    found = next((info for info in model.graph.inputs if info.name == name), None)
    return (found.type.shape if found else None) or ()


def _with(shape: Shape, sizes: dict[int, int | None]) -> tuple[int | str, ...]:
    return tuple(sizes.get(axis) or _named(size) for axis, size in enumerate(shape))


def _check_fits(facts: Facts, native: tuple[int, ...]) -> None:
    """Raise UsageError for a native size given that no window of some layer fits into."""
    small = next((found for found in facts.problems if found.kind == "no-window"), None)
    if small is not None:
        asked = "x".join(map(str, native))
        raise UsageError(f"--native {asked} is too small: {small.where}: {small.message}")


def _given(
    name: str, shape: Shape, axes: tuple[int, ...], fixed: tuple[int | None, ...], native: tuple[int, ...]
) -> tuple[int | str, ...]:
    asked = "x".join(map(str, native))
    if len(native) != len(axes):
        sizes = "1 size" if len(native) == 1 else f"{len(native)} sizes"
        many = "1 spatial axis" if len(axes) == 1 else f"{len(axes)} spatial axes"
        raise UsageError(f"--native {asked} has {sizes}, {name} has {many}", help="give one size per axis")
    if any(size not in (None, other) for size, other in zip(fixed, native, strict=True)):
        have = "x".join(str(size or "free") for size in fixed)
        raise UsageError(
            f"--native {asked} contradicts {name}, which has {have}",
            help="leave --native out: the size in the file is the native one",
        )
    return _with(shape, dict(zip(axes, native, strict=True)))


def _implied(facts: Facts) -> dict[str, int]:
    """Free symbol -> the size at which a flattened map has the size that a weight demands."""
    found: dict[str, int] = {}
    named = {d for info in facts.main.graph.inputs for d in info.type.shape or () if isinstance(d, str)}
    for head in heads.find(facts, parameters.count(facts)):
        if head.kernel is None or head.feature_map is None or head.size_note is None:
            continue
        shape = facts.value(head.feature_map).shape or ()
        for size, wanted in zip(shape[2:], head.kernel, strict=False):
            free = symbols(size)
            if len(free) == 1 and (name := next(iter(free)).name) in named and name not in found:
                at = _solve(size, name, wanted)
                found |= {name: at} if at is not None else {}
    return found


def _solve(size: Size, name: str, wanted: int) -> int | None:
    """The smallest value of a symbol with which a size is `wanted`; sizes grow with it."""
    low, high = 1, SEARCH_LIMIT

    def at(value: int) -> int:
        bound = bind(size, {name: value})
        return bound if isinstance(bound, int) else wanted

    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) >= wanted else (middle + 1, high)
    return low if at(low) == wanted else None


def _free_shapes(
    model: Model, facts: Facts, images: dict[str, tuple[int, ...]], window: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int | str, ...]]:
    """Input name -> its shape with a symbol for every fixed spatial axis: the name in the file, if any."""
    known = {
        s.name
        for info in facts.main.graph.inputs
        for d in facts.value(info.name).shape or ()
        for s in symbols(d)
    }
    by_size: dict[tuple[int, ...], int] = {}
    shapes: dict[str, tuple[int | str, ...]] = {}
    for name, axes in images.items():
        shape, declared = facts.value(name).shape or (), _declared(model, name)
        if declared == bound(shape) and not any(isinstance(shape[axis], int) for axis in axes):
            continue
        serial = by_size.setdefault(window.get(name, (len(by_size),)), len(by_size))
        base = _NAMES.get(len(axes), tuple(f"size{i}" for i in range(len(axes))))
        tags = {
            axis: _own(declared, axis) or _tag(tag, serial, known)
            for axis, tag in zip(axes, base, strict=True)
        }
        shapes[name] = tuple(
            tags[axis] if axis in tags and isinstance(size, int) else _named(size)
            for axis, size in enumerate(shape)
        )
    return shapes


def _own(declared: tuple[int | str | None, ...], axis: int) -> str:
    """The name that the file gives to an axis; "" where it has a number or none."""
    name = declared[axis] if axis < len(declared) else None
    return name if isinstance(name, str) else ""


def _named(size: Size) -> int | str:
    return size if isinstance(size, int) else str(size)


def _tag(tag: str, serial: int, known: set[str]) -> str:
    name = f"{tag}_{serial + 1}" if serial else tag
    return f"{name}_free" if name in known else name


def bound(shape: Shape) -> tuple[int | str, ...]:
    """A shape as declared dims."""
    return tuple(_named(size) for size in shape)


__all__ = ["Sizes", "bound", "sizes_of", "spatial_axes"]
