"""What a conversion asks for, what it would do, and why not where it can't: values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from onnxscope.edit import Edit
from onnxscope.expr import Size
from onnxscope.graph import Model
from onnxscope.ops.value import Shape

NOT_ASKED = "not asked for (--layer)"
"""Why a layer stays that `--layer` doesn't name."""
PROVENANCE = "onnxscope.conversion"
"""Key of the metadata entry that a converted model carries; its value is `Plan.provenance` as JSON."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asks of a conversion; names and meaning as on the command line."""

    output: str = "map"
    """map: outputs become [N, classes, *S']; vector: the interface stays."""
    size: str = "dynamic"
    """dynamic: any input at least as large as the native size; fixed: declared sizes stay."""
    native: tuple[int, ...] | None = None
    """Native input size (H, W) where the file holds none."""
    pool: str = "window"
    """window: a global pool becomes a stride-1 window of the native size; global: it stays."""
    batch: str = "keep"
    """keep: a declared batch number stays; free: it becomes a symbol."""
    form: str = "conv"
    """conv, auto, fold, interleave or rows."""
    target: str = "cpu"
    """Provider that `auto` chooses for."""
    stride: int | None = None
    """Input pixels between cells of the map; None keeps the network's own."""
    layers: tuple[str, ...] = ()
    """Labels of the only layers to convert; empty for all."""
    shapes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    """Sizes given for inputs."""
    dims: dict[str, int] = field(default_factory=dict)
    """Sizes given for symbols."""


class Conversion(NamedTuple):
    """One fully connected layer and the convolution that replaces it."""

    layer: str
    """Label of the original node."""
    before: str
    """For example `Gemm 25088 -> 4096`."""
    after: str
    """For example `Conv 7x7x512 -> 4096`."""
    kernel: tuple[int, ...]
    form: str
    """conv, fold, interleave or rows."""
    form_reason: str
    weight: str
    """same bytes, permuted or folded."""


class Refusal(NamedTuple):
    """One fully connected layer that stays."""

    layer: str
    reason: str


class Geometry(NamedTuple):
    """Where the cells of one output map look, per spatial axis, in input pixels."""

    output: str
    """Name of the output."""
    size: Shape
    """Map size as a closed form of the input size."""
    stride: tuple[int, ...] | None
    """Input pixels between neighbouring cells; None where branches disagree."""
    offset: tuple[int, ...] | None
    """First pixel that the first cell sees; negative in the padding."""
    field: tuple[int, ...] | None
    """Receptive field of one cell."""
    minimum: dict[str, int | None]
    """Symbol of an input size -> smallest value with a map of one cell."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a conversion would do to a model; nothing is changed yet."""

    model: Model
    options: Options
    conversions: tuple[Conversion, ...]
    """In execution order."""
    refusals: tuple[Refusal, ...]
    """Every other fully connected layer, with its reason."""
    edit: Edit | None
    """The whole change; None where nothing converts."""
    geometry: tuple[Geometry, ...] = ()
    """One entry per output that becomes a map."""
    params_before: Size = 0
    params_after: Size = 0
    notes: tuple[str, ...] = ()
    """What a user must know: sizes that the backbone bakes in, what another form would gain, exactness."""
    provenance: dict[str, object] = field(default_factory=dict)
    """Which layer became which; see docs/heads.md for its keys."""
