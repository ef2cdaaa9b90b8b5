"""What one verification works on: both models, what they share, and how they are run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from onnxscope import dtypes
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.errors import RuntimeFailure
from onnxscope.files.encode import model_tensors
from onnxscope.files.external import ExternalData
from onnxscope.files.read import load
from onnxscope.graph import Model, Node
from onnxscope.proof import inputs, limits, links, local, matching
from onnxscope.proof.extract import is_constant
from onnxscope.proof.inputs import Feeds
from onnxscope.proof.interface import InputPair, Interface, compare, declared, fed
from onnxscope.proof.limits import Arithmetic
from onnxscope.proof.result import Request
from onnxscope.proof.runner import Optimization
from onnxscope.proof.weights import weights_of
from onnxscope.proof.worker import ProviderRunner

HEAVY = 256 << 20
"""Models with more bytes of weights than this are run without prepacking, so that weights stay mapped."""
_INTEGER_OPS = frozenset(
    "DequantizeLinear QLinearConv QLinearMatMul QGemm MatMulInteger ConvInteger DynamicQuantizeLinear "
    "MatMulIntegerToFloat DynamicQuantizeMatMul QLinearGlobalAveragePool QLinearAdd".split()
)
_RANDOM_OPS = frozenset(
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli".split()
)


@dataclass(frozen=True)
class Setting:
    """Both models of a request."""

    request: Request
    original: Model
    candidate: Model
    interface: Interface
    heads: tuple[links.HeadLink, ...]
    """What the candidate's provenance entry declares or its structure tells; () for any other pair."""
    folder: str
    """A scratch folder that goes with the verification."""
    progress: Callable[[str], None] = lambda _: None
    """Told what begins."""

    @cached_property
    def common(self) -> dict[str, tuple[int, ...]]:
        """For a candidate with denser maps: value -> per axis, every how many cells the original has one."""
        return links.common(self.candidate)

    def at_common(self, values: dict[str, Any]) -> dict[str, Any]:
        """Values of the candidate at the cells that the original has, too."""
        return {name: _thinned(value, self.common.get(name, ())) for name, value in values.items()}

    @cached_property
    def inputs(self) -> tuple[InputPair, ...]:
        """The inputs with the user's sizes bound. Raises UsageError where these don't fit."""
        return inputs.bound(self.interface.inputs, self.request.shapes, self.request.dims)

    @cached_property
    def facts(self) -> Facts:
        """Shapes of the original, free sizes left free."""
        return infer(self.original)

    @cached_property
    def candidate_facts(self) -> Facts:
        """Shapes of the candidate, free sizes left free."""
        return infer(self.candidate)

    @cached_property
    def baked_batch(self) -> int | None:
        """The batch number that the original declares; None where it is free."""
        for info in fed(self.original).values():
            sizes = declared(info)
            if sizes and isinstance(sizes[0], int):
                return sizes[0]
        return None

    @cached_property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Lowest and highest value of integer inputs that are indices."""
        return inputs.ranges_of(self.facts, self.inputs)

    @cached_property
    def steps(self) -> tuple[local.Step, ...]:
        """What the local check recomputes; () for any other pair than a conversion."""
        return local.plan(self.facts, self.candidate, self.heads) if self.heads else ()

    @cached_property
    def shared(self) -> dict[str, Node]:
        """Values that a node of each model makes under one name, outputs left out: the original's nodes."""
        declared = {info.name for model in (self.original, self.candidate) for info in model.graph.outputs}
        made = self.candidate.graph.producers
        nodes = ((name, node) for node in self.original.graph.order for name in node.outputs)
        return {name: node for name, node in nodes if name and name in made and name not in declared}

    def size_of(self, name: str) -> int:
        """Bytes of a value of the original as float32; free sizes count as 1."""
        shape = self.facts.value(name).shape or ()
        return 4 * prod(size for size in shape if isinstance(size, int))

    @cached_property
    def heavy(self) -> bool:
        """Whether the weights of either model are too many to be copied by a runtime."""
        return any(
            sum(tensor.nbytes or 0 for tensor in weights_of(model).values()) > HEAVY
            for model in (self.original, self.candidate)
        )

    @cached_property
    def quantized(self) -> bool:
        """Whether both models compute in integers somewhere: weights alone that are stored so are floats."""
        return all(
            any(
                node.op in _INTEGER_OPS and not is_constant(model, node.outputs[0])
                for node in model.graph.nodes
            )
            for model in (self.original, self.candidate)
        )

    @cached_property
    def random(self) -> tuple[Node, ...]:
        """Nodes of either model whose results differ from run to run."""
        models = self.original, self.candidate
        return tuple(n for model in models for n in model.graph.nodes if n.op in _RANDOM_OPS)

    def level(self, on_cpu: bool) -> Optimization:
        """The runtime's optimisation level for whole files.

        `all`, as deployed; `steps` for integer models, whose fused kernels round ties their own way; `basic`
        without prepacking for heavy models on the CPU.
        """
        if self.quantized:
            return "steps"
        return "basic" if self.heavy and on_cpu else "all"

    def arithmetic(self, *, tf32: bool) -> Arithmetic:
        """How the weights of the original are multiplied: the coarsest of its float types."""
        kinds = {tensor.dtype for tensor in weights_of(self.original).values()}
        kinds |= {tensor.dtype for tensor in weights_of(self.candidate).values()}
        for code in (dtypes.BFLOAT16, dtypes.FLOAT16, dtypes.FLOAT, dtypes.DOUBLE):
            found = limits.arithmetic_of(code, tf32=tf32) if code in kinds else None
            if found is not None:
                return found
        return limits.FLOAT32


def _thinned(value: Any, steps: tuple[int, ...]) -> Any:
    if getattr(value, "ndim", None) != len(steps) or not steps:
        return value
    return value[tuple(slice(None, None, step) for step in steps)]


def opened(request: Request, folder: str, progress: Callable[[str], None] | None = None) -> Setting:
    """Read both models.

    Raises FileError for one that can't be used, ExternalDataError where weights are missing.
    """
    original, candidate = load(request.original), load(request.candidate)
    for model in (original, candidate):
        for tensor, _ in model_tensors(model):
            if isinstance(tensor.storage, ExternalData):
                tensor.storage.resolve()
    heads = matching.heads(original, candidate)
    setting = Setting(request, original, candidate, compare(original, candidate), heads, folder)
    return replace(setting, progress=progress) if progress else setting


@dataclass(frozen=True, slots=True)
class Pair:
    """Both models, each with the runner of its provider."""

    setting: Setting
    first: ProviderRunner
    """Runs the original."""
    second: ProviderRunner
    """Runs the candidate."""

    @property
    def tf32(self) -> bool:
        """Whether either provider rounds operands to TensorFloat-32."""
        return self.first.provider.tf32 or self.second.provider.tf32

    @property
    def on_cpu(self) -> bool:
        """Whether both run on onnxruntime's CPU provider."""
        return self.first.provider.on_cpu and self.second.provider.on_cpu

    @property
    def level(self) -> Optimization:
        """The optimisation level for whole files."""
        return self.setting.level(self.on_cpu)

    @property
    def mapped(self) -> bool:
        """Whether the models are heavy and run so that their weights stay in their files."""
        return self.level == "basic"

    def relieve(self) -> None:
        """Drop the sessions of heavy models, which hold or map their weights."""
        if self.setting.heavy:
            self.first.worker.call("forget")

    def original(
        self,
        feeds: Feeds,
        names: list[str] | None,
        level: Optimization,
        *,
        watch: bool = False,
        marked: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Values of the original, marks of those in `marked`; `watch` keeps its placement.

        Raises RuntimeFailure, naming the file.
        """
        scratch = self.setting.folder if watch else ""
        return named(self.first, self.setting.request.original, feeds, names, level, scratch, marked)

    def candidate(
        self,
        feeds: Feeds,
        names: list[str] | None,
        level: Optimization,
        *,
        watch: bool = False,
        marked: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Values of the candidate; see `original`."""
        scratch = self.setting.folder if watch else ""
        return named(self.second, self.setting.request.candidate, feeds, names, level, scratch, marked)


def named(
    runner: ProviderRunner,
    path: str,
    feeds: Feeds,
    names: list[str] | None,
    level: Optimization,
    watch: str = "",
    marked: Sequence[str] = (),
) -> dict[str, Any]:
    """One run of a file. Raises RuntimeFailure, naming the file and, where it fails unfused too, the node."""
    try:
        return runner.run(path, feeds, names, optimization=level, watch=watch, marked=marked)
    except RuntimeFailure as error:
        failure = error
    if level not in ("none", "steps") and runner.worker.alive:
        try:
            runner.run(path, feeds, names, optimization="none")
        except RuntimeFailure as error:
            failure = error  # a fused node's name is the runtime's own
    failure.where = failure.where or os.fspath(path)
    raise failure
