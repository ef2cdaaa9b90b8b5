"""The outcome of a verification: values only, in the terms of the verification document."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """What to verify and how; names and meaning as on the command line."""

    original: str
    candidate: str
    providers: tuple[str, ...] = ("cpu",)
    """Short or full names with options, `cuda:device_id=0,use_tf32=1`; `a/b` runs the original on a, the
    candidate on b; `all` runs every usable one."""
    trials: int = 3
    """Input draws per family."""
    seed: int = 0
    inputs: str | None = None
    """A .npz or .npy file, an image, or a folder of them."""
    shapes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)
    rtol: float | None = None
    atol: float | None = None
    layers: bool = False
    """Compare every intermediate value that both models have."""
    dense: tuple[tuple[int, int], ...] = ()
    """Input sizes (H, W) for the window check."""
    latency: bool = False
    timeout: float | None = None
    """Seconds for one worker call; None for no limit."""


@dataclass(frozen=True, slots=True)
class OutputResult:
    """One output over all trials."""

    name: str
    max_abs: float
    max_rel: float
    limit: float
    """Largest allowed absolute difference: at the element of `max_abs` where the output is ok, else at the
    one that is farthest beyond its limit. So `max_abs` <= `limit` exactly where it is ok."""
    limit_from: str
    """How the limit was computed, with lambda, u, K, n, N in it."""
    would_pass_at: float
    """The tolerance that would just have passed, as a multiple of the limit: the largest share of its own
    limit that any element reaches; inf where none would (NaN or Inf on one side, shapes, a limit of 0)."""
    argmax_agreement: float | None
    """Share of rows (or map cells) with the same largest class; None where there is no class axis."""
    ok: bool
    nan: tuple[int, int, int] = (0, 0, 0)
    """NaN in both, in the original only, in the candidate only."""
    inf: tuple[int, int, int] = (0, 0, 0)
    max_value: float = 0.0
    """Largest finite |original|, which says what a difference means."""


@dataclass(frozen=True, slots=True)
class LayerResult:
    """One intermediate value."""

    name: str
    max_abs: float
    limit: float
    """As for an output."""
    ok: bool
    would_pass_at: float = 0.0
    """As for an output."""
    limit_from: str = ""
    """How the limit was computed."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long something takes over interleaved runs, in milliseconds."""

    median_ms: float
    low_ms: float
    """First quartile."""
    high_ms: float
    """Third quartile."""


@dataclass(frozen=True, slots=True)
class DenseSpeed:
    """One dense pass of the candidate against the original on every image crop that a cell sees."""

    crops: int
    """Runs of the original at its native size that the dense pass stands for."""
    timed: int
    """Crops that were timed; where fewer, the time of all is that times crops / timed."""
    runs: int
    """Timed turns of each."""
    on_crops: Timing
    """The original on all crops."""
    dense: Timing
    """The candidate's one pass."""
    measured: float
    """Speed-up: medians, on crops over dense."""
    predicted: float | None
    """Speed-up by MACs alone; None where these aren't known."""


@dataclass(frozen=True, slots=True)
class DenseResult:
    """The head on every window of a larger map."""

    size: tuple[int, ...]
    """Spatial size of the input, in pixels: (H, W), or as many axes as it has."""
    windows: int
    max_abs: float
    limit: float
    border_effect: float | None
    """Largest difference between a cell and the original network on the cropped image; None where not
    measured."""
    ok: bool
    would_pass_at: float = 0.0
    """As for an output."""
    limit_from: str = ""
    """How the limit was computed."""
    speed: DenseSpeed | None = None
    """None where not measured."""


@dataclass(frozen=True, slots=True)
class BatchLatency:
    """Both models at one batch size."""

    batch: int | None
    """Size of the inputs' first axis; None where they have no axes."""
    runs: int
    """Timed runs of each."""
    original: Timing
    candidate: Timing
    ratio: float
    """Medians, candidate over original."""
    reason: str | None = None
    """Why the candidate is slower, as far as that is known, and what would help; None where it isn't."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Medians over interleaved runs, in milliseconds, at the first batch size; then each batch size."""

    original_ms: float
    candidate_ms: float
    ratio: float
    batches: tuple[BatchLatency, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderUse:
    """Which provider was asked for and which really ran."""

    asked: str
    used: str
    nodes_on_provider: int
    nodes_elsewhere: tuple[str, ...]
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class Trial:
    """One input."""

    seed: int
    family: str
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Run:
    """All checks on one provider."""

    equivalent: bool
    provider: ProviderUse
    trials: tuple[Trial, ...]
    outputs: tuple[OutputResult, ...]
    layers: tuple[LayerResult, ...] = ()
    first_divergence: str | None = None
    dense: tuple[DenseResult, ...] = ()
    latency: Latency | None = None


@dataclass(frozen=True, slots=True)
class WeightCounts:
    """Weight tensors by what happened to their bits."""

    identical: int
    permuted: int
    changed: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on two files."""

    equivalent: bool
    runtime: str
    """For example `onnxruntime 1.32.0`."""
    weights: WeightCounts
    reason: str | None
    """Why not, in a word or clause: weights, interface, outputs, layers, dense; None where equivalent."""
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()
