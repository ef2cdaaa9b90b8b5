"""The form of a report document: plain dicts, lists, strings and numbers, ready for JSON.

Source of the keys: docs/report.md; docs/report.schema.json is the same as a JSON schema. A size is an integer
wherever every size it depends on is known, else a string that holds an expression in the model's own symbols.
"""

from __future__ import annotations

from typing import NotRequired, TypeAlias, TypedDict

PlainSize: TypeAlias = "int | str"
"""A number, or an expression as text."""
PlainShape: TypeAlias = "list[PlainSize]"

REPORT = "onnxscope.report/1"
"""Name and version of the report document; the number grows when a key changes its meaning or goes."""


class ModelEntry(TypedDict):
    """What the file says of itself."""

    path: str
    """As the user gave it; "-" for standard input."""
    bytes: int
    """Size of the model file, external data apart."""
    weight_bytes: int
    """Bytes of all parameters and buffers as stored, each once, external data included."""
    ir_version: int
    opsets: dict[str, int]
    """Domain -> version; the default domain is listed as `ai.onnx`."""
    producer: str
    functions: int
    """Model-local functions."""
    nodes: int
    """Nodes stored in the file, those of nested graphs and functions included."""
    op_counts: dict[str, int]
    """Op -> how many of these nodes, most frequent first."""


class ValueEntry(TypedDict):
    """A graph input or output."""

    name: str
    dtype: str | None
    shape: PlainShape | None


class ParamsEntry(TypedDict):
    """Numbers that a layer uses; running statistics apart."""

    weight: PlainSize
    bias: PlainSize
    total: PlainSize
    shared_with: list[str]
    """Other layers that use one of its tensors."""
    dtype: str | None
    """Element type of the weight as stored."""
    bytes: int


class FieldEntry(TypedDict):
    """Receptive field in input pixels per spatial axis; a stride or start of 1/2 is the text "1/2"."""

    size: list[int]
    stride: list[PlainSize]
    start: list[PlainSize]
    """Coordinate of the first pixel of the first window; negative in the padding."""


class FormulaEntry(TypedDict):
    """Worked derivations."""

    shape: list[str]
    """One per spatial axis."""
    params: str | None
    macs: str | None


class LayerEntry(TypedDict):
    """One node."""

    name: str
    op: str
    kind: str
    scope: str
    """Path of the graph that holds it; "" for the main graph."""
    input: str | None
    output: str | None
    input_shape: PlainShape | None
    output_shape: PlainShape | None
    output_shapes: dict[str, PlainShape | None]
    kernel: PlainShape | None
    strides: list[int] | None
    pads: PlainShape | None
    dilations: list[int] | None
    group: int | None
    params: ParamsEntry
    macs: PlainSize | None
    receptive_field: FieldEntry | None
    formula: FormulaEntry | None
    """None only where the caller asked for no formulas; JSON always has them."""


class TotalsEntry(TypedDict):
    """Sums over the whole model, whatever rows are shown."""

    params: PlainSize
    """Each stored number once."""
    trainable_params: PlainSize
    """Sum of the layers' `params.total`."""
    buffers: PlainSize
    params_by_kind: dict[str, PlainSize]
    macs: PlainSize | None
    """A lower bound where the coverage is below 1; None where no count is known."""
    macs_coverage: float
    """Nodes with a known count / nodes that multiply."""
    weight_bytes: int
    weight_bytes_by_dtype: dict[str, int]
    activation_bytes: PlainSize | None
    peak_activation_bytes: PlainSize | None


class SpatialEntry(TypedDict):
    """Map sizes as a function of free input sizes."""

    closed_form: dict[str, PlainShape]
    minimum_input: dict[str, int | None]
    exact_input_step: dict[str, int | None]


class FullyConnectedEntry(TypedDict):
    """A fully connected layer and the convolution it could become."""

    layer: str
    replaceable: bool
    kernel: list[int] | None
    becomes: str | None
    reason: str | None
    share_of_params: float | None
    """Its part of `totals.trainable_params`, 0 to 1; None where that count is unknown."""


class ProblemEntry(TypedDict):
    """Something that could not be answered, doesn't fit, or that a reader must know."""

    where: str
    message: str


class GroupEntry(TypedDict):
    """Layers whose names share their first components."""

    name: str
    layers: int
    ops: dict[str, int]
    output: str | None
    """Output of its last layer."""
    output_shape: PlainShape | None
    params: PlainSize
    bytes: int
    macs: PlainSize | None
    """None where a layer's count is unknown; what is inside an If, Loop or Scan counts at that node."""


class ViewEntry(TypedDict):
    """What `depth`, `sort` and `top` left of the rows; absent where none was used."""

    depth: int | None
    sort: str
    top: int | None
    rows: int
    """Rows shown."""
    of: int
    """Rows there are."""


class ReportDocument(TypedDict):
    """The whole report."""

    schema: str
    model: ModelEntry
    inputs: list[ValueEntry]
    outputs: list[ValueEntry]
    layers: list[LayerEntry]
    totals: TotalsEntry
    spatial: SpatialEntry
    fully_connected: list[FullyConnectedEntry]
    problems: list[ProblemEntry]
    groups: NotRequired[list[GroupEntry]]
    view: NotRequired[ViewEntry]
