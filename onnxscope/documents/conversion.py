"""The conversion document: what becomes what, what is refused and why, and where the cells of a map look.

Source of the keys: docs/convert.md; docs/conversion.schema.json is the same as a JSON schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.documents.plain import plain, shape, value_entry
from onnxscope.documents.schema import PlainShape, PlainSize, ValueEntry
from onnxscope.documents.verification import VerificationDocument
from onnxscope.expr import Size, bind, symbols
from onnxscope.expr.bounds import assuming
from onnxscope.graph import Model
from onnxscope.rewrite.plan import Conversion, Geometry, Options, Plan

CONVERSION = "onnxscope.conversion/1"
"""Name and version of the document; the number grows when a key changes its meaning or goes."""
LARGER = 5
"""Cells that the second example of a map has beyond the first."""


class OptionsEntry(TypedDict):
    """What was asked for, defaults filled in."""

    output: str
    size: str
    native: list[int] | None
    pool: str
    batch: str
    form: str
    target: str
    stride: int | None
    layers: list[str]


# Keys of the contract that are words of Python need this form.
ConvertedEntry = TypedDict(
    "ConvertedEntry",
    {
        "layer": str,
        "from": str,
        "to": str,
        "kernel": list[int],
        "form": str,
        "form_reason": str,
        "weight": str,
    },
)


class RefusedEntry(TypedDict):
    """A fully connected layer that stays."""

    layer: str
    reason: str


class InterfaceEntry(ValueEntry):
    """An input or output of the converted model."""

    shape_before: PlainShape | None
    """Its shape in the original."""


class InterfacesEntry(TypedDict):
    """What a caller of the converted model gives and gets."""

    inputs: list[InterfaceEntry]
    outputs: list[InterfaceEntry]


class ExampleEntry(TypedDict):
    """A map for one input size."""

    input: dict[str, int]
    """Symbol -> size in pixels."""
    map: list[int]


class MapEntry(TypedDict):
    """Where the cells of one output map look, per spatial axis, in input pixels."""

    output: str
    size: PlainShape
    """Cells, as an expression of the input size."""
    stride: list[int] | None
    """Distance of neighbouring cells."""
    offset: list[int] | None
    """First pixel that the first cell sees; negative in the padding."""
    field: list[int] | None
    """Pixels that one cell sees (receptive field)."""
    minimum: dict[str, int | None]
    """Symbol -> smallest size with a map of one cell."""
    examples: list[ExampleEntry]


class BeforeAfterEntry(TypedDict):
    """Parameters, each stored number once."""

    before: PlainSize
    after: PlainSize


class ConversionDocument(TypedDict):
    """The whole document."""

    schema: str
    input: str
    """Path as the user gave it."""
    output: str | None
    """Path of the file that was written; None where none was."""
    options: OptionsEntry
    converted: list[ConvertedEntry]
    refused: list[RefusedEntry]
    io: InterfacesEntry
    maps: list[MapEntry]
    params: BeforeAfterEntry
    exactness: str | None
    """bit-equal, reassociated or approximate; None where nothing converts."""
    notes: list[str]
    proof: VerificationDocument | None


def conversion(
    plan: Plan,
    converted: Model | None,
    *,
    output: str | None = None,
    proof: VerificationDocument | None = None,
) -> ConversionDocument:
    """The document of a plan, or of what came of it.

    `converted` is the model after the plan, None where nothing converts; `output` the file that was written.
    """
    return {
        "schema": CONVERSION,
        "input": plan.model.path,
        "output": output,
        "options": _options(plan.options),
        "converted": [_converted(layer) for layer in plan.conversions],
        "refused": [{"layer": layer.layer, "reason": layer.reason} for layer in plan.refusals],
        "io": _interfaces(plan, converted),
        "maps": [_map(geometry) for geometry in plan.geometry],
        "params": {"before": plain(plan.params_before), "after": plain(plan.params_after)},
        "exactness": None if plan.edit is None else plan.edit.exactness,
        "notes": list(plan.notes),
        "proof": proof,
    }


def _options(options: Options) -> OptionsEntry:
    return {
        "output": options.output,
        "size": options.size,
        "native": None if options.native is None else list(options.native),
        "pool": options.pool,
        "batch": options.batch,
        "form": options.form,
        "target": options.target,
        "stride": options.stride,
        "layers": list(options.layers),
    }


def _converted(layer: Conversion) -> ConvertedEntry:
    return {
        "layer": layer.layer,
        "from": layer.before,
        "to": layer.after,
        "kernel": list(layer.kernel),
        "form": layer.form,
        "form_reason": layer.form_reason,
        "weight": layer.weight,
    }


def _interfaces(plan: Plan, converted: Model | None) -> InterfacesEntry:
    before = infer(plan.model, plan.options.shapes, plan.options.dims)
    after = before if converted is None else _facts_of(converted, plan)
    graph = after.model.graph
    inputs = [info.name for info in graph.inputs if info.name not in graph.initializers]
    return {
        "inputs": [_interface(name, before, after) for name in inputs],
        "outputs": [_interface(info.name, before, after) for info in graph.outputs],
    }


def _facts_of(converted: Model, plan: Plan) -> Facts:
    """Shapes for inputs that give a map of a cell at least, as the file declares them."""
    minima = (pair for geometry in plan.geometry for pair in geometry.minimum.items())
    with assuming({name: size for name, size in minima if size is not None}):
        return infer(converted)


def _interface(name: str, before: Facts, after: Facts) -> InterfaceEntry:
    now = value_entry(name, after.value(name))
    return {
        "name": now["name"],
        "dtype": now["dtype"],
        "shape": now["shape"],
        "shape_before": shape(before.value(name).shape),
    }


def _map(geometry: Geometry) -> MapEntry:
    return {
        "output": geometry.output,
        "size": shape(geometry.size) or [],
        "stride": _whole(geometry.stride),
        "offset": _whole(geometry.offset),
        "field": _whole(geometry.field),
        "minimum": dict(geometry.minimum),
        "examples": _examples(geometry),
    }


def _whole(sizes: tuple[int, ...] | None) -> list[int] | None:
    return None if sizes is None else list(sizes)


def _examples(geometry: Geometry) -> list[ExampleEntry]:
    """The map for the smallest input, and for one that is a few strides larger; none where a size is open."""
    least = {name: size for name, size in geometry.minimum.items() if size is not None}
    if not least or len(least) < len(geometry.minimum):
        return []
    steps = _steps(geometry)
    larger = {name: size + LARGER * steps.get(name, 1) for name, size in least.items()}
    found = [(sizes, _bound(geometry.size, sizes)) for sizes in (least, larger)]
    return [{"input": sizes, "map": cells} for sizes, cells in found if cells is not None]


def _steps(geometry: Geometry) -> dict[str, int]:
    """Symbol -> stride of the axis that it sizes."""
    if geometry.stride is None or len(geometry.stride) != len(geometry.size):
        return {}
    pairs = zip(geometry.size, geometry.stride, strict=True)
    return {found.name: stride for size, stride in pairs for found in symbols(size)}


def _bound(sizes: tuple[Size, ...], values: Mapping[str, int]) -> list[int] | None:
    bound = [bind(size, values) for size in sizes]
    numbers = [size for size in bound if isinstance(size, int)]
    return numbers if len(numbers) == len(bound) else None
