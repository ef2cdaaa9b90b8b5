"""The Python API: load a model, report on it, convert its head, verify that two are equal, audit, compare."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypedDict, Unpack

from onnxscope.errors import (
    ConversionFailed,
    ExternalDataError,
    FileError,
    OnnxscopeError,
    RuntimeFailure,
    UsageError,
)
from onnxscope.graph import Model
from onnxscope.results import Audit, Conversion, Difference, Plan, Proof, Report

if TYPE_CHECKING:
    from onnxscope.proof.result import Request
    from onnxscope.rewrite.plan import Options
    from onnxscope.rewrite.plan import Plan as Planned

Path: TypeAlias = "str | os.PathLike[str]"
Source: TypeAlias = "Model | Path"
Progress: TypeAlias = "Callable[[str], None]"


class ConversionOptions(TypedDict, total=False):
    """What `plan` and `convert` take beside the model; meaning and defaults as on the command line."""

    output: str
    """map (default): outputs become [N, classes, *S']; vector: inputs and outputs stay as they are."""
    size: str
    """dynamic (default with map): any input from the native size up; fixed: declared sizes stay."""
    native: Sequence[int]
    """Native input size (H, W) in pixels, where the file doesn't tell."""
    pool: str
    """window (default with map): a global pool becomes a stride-1 window; global: it stays."""
    batch: str
    """keep (default): a declared batch number stays; free: it becomes a symbol."""
    form: str
    """conv (default), auto, fold, interleave or rows."""
    target: str
    """Provider that `auto` chooses for, cpu by default."""
    stride: int
    """Input pixels between cells of the map; the network's own where absent."""
    layers: Sequence[str]
    """The only layers to convert; all where absent or empty."""
    shapes: Mapping[str, Sequence[int | str]]
    """Sizes of inputs, as in `report`."""
    dims: Mapping[str, int]
    """Numbers for free sizes, as in `report`."""


def load(path: str | os.PathLike[str]) -> Model:
    """The model in a file; "-" is standard input. Weights stay on disk until one is touched.

    Raises FileError where there is no such file, or it is no ONNX model.
    """
    from onnxscope.files.read import load as read

    return read(path)


def report(
    model_or_path: Source,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    dims: Mapping[str, int] | None = None,
    *,
    all_ops: bool = False,
    depth: int | None = None,
    sort: str = "order",
    top: int | None = None,
) -> Report:
    """Shapes, parameters, MACs, memory and receptive fields of a model, with the formulas that gave them.

    `shapes` gives whole inputs their sizes: `{"x": (1, 3, 224, 224)}`; a name in place of a number makes that
    axis a symbol. `dims` binds the model's own symbols: `{"batch": 1}`. What neither binds stays a symbol in
    the answer. `all_ops` lists every node, `depth` groups layers by the first components of their names,
    `sort` (see `onnxscope.documents.SORT_KEYS`) and `top` order and cut the rows; totals always cover the
    whole model.

    Raises FileError for a file that can't be used, UsageError for a binding or option that doesn't fit. A
    model that can be answered only in parts still gets its report: `problems` says what is missing.
    """
    model = model_or_path if isinstance(model_or_path, Model) else load(model_or_path)
    from onnxscope import documents

    selection = documents.Selection(all_ops=all_ops, depth=depth, sort=sort, top=top)
    return Report(documents.report(model, shapes, dims, selection))


def plan(model_or_path: Source, **options: Unpack[ConversionOptions]) -> Plan:
    """What `convert` would do: which fully connected layers become convolutions, which stay and why.

    Nothing is written and no runtime is needed. Raises FileError for a file that can't be used, UsageError
    for an option that doesn't fit.
    """
    model = model_or_path if isinstance(model_or_path, Model) else load(model_or_path)
    return _plan_of(*_planned(model, options))


def convert(
    model_or_path: Source,
    path: Path,
    *,
    external_data: bool = False,
    force: bool = False,
    verify: bool = True,
    provider: str = "cpu",
    progress: Progress | None = None,
    **options: Unpack[ConversionOptions],
) -> Conversion:
    """Turn the fully connected head of a model into convolutions and write the new model to `path`.

    With `verify` (needs onnxruntime) the finished file is compared with the original on `provider` before it
    gets its name: where that fails nothing appears at `path`, and `<path>.proof.json` says what differs.
    `external_data` puts weights into `<path>.data`, `force` replaces an existing file; the model's own file
    is never written. `progress` is told in a few words what begins.

    Raises ConversionFailed where nothing converts or the proof fails (its `conversion` holds the result),
    UsageError for an option or path that doesn't fit, FileError for a model that can't be used and
    RuntimeFailure where onnxruntime is missing or can't do it.
    """
    from onnxscope.files.stage import check_target, staged

    model = model_or_path if isinstance(model_or_path, Model) else load(model_or_path)
    target = os.fspath(path)
    check_target(model, target, force=force)
    planned, converted = _planned(model, options)
    if converted is None:
        raise nothing_converts(_plan_of(planned, None))
    if verify:
        try:
            _check_runtime(converted, provider)
        except RuntimeFailure as error:
            _keep(_impossible(error, model.path, target), target)
            raise
    with staged(converted, target, external_data=external_data, force=force) as file:
        proof = _proved(planned, file.path, target, provider, progress) if verify else None
        if proof is not None and not proof.equivalent:
            failed = _conversion_of(planned, converted, None, proof)
            reason = f"the converted model failed its proof ({proof.document['reason']})"
            kept = f"nothing was written but {target}.proof.json, which says what differs"
            raise ConversionFailed(reason, conversion=failed, where=target, help=kept)
        file.commit()
    return _conversion_of(planned, converted, target, proof)


def verify(
    original: Path,
    candidate: Path,
    *,
    provider: str | Sequence[str] = "cpu",
    trials: int = 3,
    seed: int = 0,
    inputs: Path | None = None,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    dims: Mapping[str, int] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    layers: bool = False,
    dense: Sequence[tuple[int, int]] = (),
    latency: bool = False,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Run two models on the same inputs in onnxruntime and say whether they are equivalent.

    `provider` is one or more of onnxruntime's, as on the command line (`cpu`, `cuda:device_id=0`, `cpu/cuda`,
    `all`). `trials` input draws per family come from `seed`, or `inputs` names a file or folder with them.
    Limits are computed from the arithmetic unless `rtol` or `atol` gives one. `layers` compares every
    intermediate value that both models have, `dense` lists input sizes (H, W) in pixels for the check on
    every window, `latency` measures both models, `timeout` is in seconds per call of the runtime,
    `progress` is told in a few words what begins.

    The result is true where the models are equivalent. Raises FileError for a file that can't be used,
    UsageError for an argument that doesn't fit, RuntimeFailure where onnxruntime can't do it.
    """
    from onnxscope.proof.result import Request

    request = Request(
        original=os.fspath(original),
        candidate=os.fspath(candidate),
        providers=(provider,) if isinstance(provider, str) else tuple(provider),
        trials=trials,
        seed=seed,
        inputs=None if inputs is None else os.fspath(inputs),
        shapes={name: tuple(sizes) for name, sizes in (shapes or {}).items()},
        dims=dict(dims or {}),
        rtol=rtol,
        atol=atol,
        layers=layers,
        dense=tuple(dense),
        latency=latency,
        timeout=timeout,
    )
    return _verified(request, request.candidate, progress)


def nothing_converts(found: Plan) -> ConversionFailed:
    """The error for a plan without a layer to convert."""
    from onnxscope.render.blocks import plural
    from onnxscope.rewrite.plan import NOT_ASKED

    rows, message = found.refused, "no fully connected layer"
    if rows:
        first = next((row for row in rows if row["reason"] != NOT_ASKED), rows[0])
        named = f"{first['layer']}: {first['reason']}" if len(rows) > 1 else first["reason"]
        message = f"none of {plural(len(rows), 'FC layer')} can become a convolution: {named}"
    return ConversionFailed(f"nothing to convert: {message}", conversion=found, where=found.document["input"])


_CHOICES = {
    "output": ("map", "vector"),
    "size": ("dynamic", "fixed"),
    "pool": ("window", "global"),
    "batch": ("keep", "free"),
    "form": ("conv", "auto", "fold", "interleave", "rows"),
}


def _planned(model: Model, given: ConversionOptions) -> tuple[Planned, Model | None]:
    """The plan and the model after it, None where nothing converts. Raises FileError for missing weights."""
    from onnxscope.rewrite import fc_to_conv

    _check_weights(model)
    planned = fc_to_conv.plan(model, _options(given))
    return planned, None if planned.edit is None else fc_to_conv.convert(planned)


def _options(given: ConversionOptions) -> Options:
    """The options with defaults; raises UsageError for what doesn't go together."""
    from onnxscope.rewrite.plan import Options

    vector = given.get("output") == "vector"
    for key, wanted in (("size", "fixed"), ("pool", "global")):
        asked = given.get(key)
        if vector and asked not in (None, wanted):
            raise UsageError(
                f"output vector keeps inputs and outputs as they are, which {key} {asked} does not",
                help=f"leave out {key}, or take output map",
            )
    for key, choices in _CHOICES.items():
        if given.get(key, choices[0]) not in choices:
            raise UsageError(f"{key} {given.get(key)!r} is unknown", help=f"one of {', '.join(choices)}")
    native, target = given.get("native"), given.get("target", "cpu")
    if target != "cpu":
        from onnxscope.config import target_names

        (target,) = target_names((target,))
    return Options(
        output=given.get("output", "map"),
        size=given.get("size", "fixed" if vector else "dynamic"),
        native=None if native is None else tuple(native),
        pool=given.get("pool", "global" if vector else "window"),
        batch=given.get("batch", "keep"),
        form=given.get("form", "conv"),
        target=target,
        stride=given.get("stride"),
        layers=tuple(given.get("layers", ())),
        shapes={name: tuple(sizes) for name, sizes in given.get("shapes", {}).items()},
        dims=dict(given.get("dims", {})),
    )


def _plan_of(planned: Planned, converted: Model | None) -> Plan:
    from onnxscope.documents.conversion import conversion

    return Plan(conversion(planned, converted))


def _conversion_of(planned: Planned, converted: Model, path: str | None, proof: Proof | None) -> Conversion:
    from onnxscope.documents.conversion import conversion

    shown = None if proof is None else proof.document
    return Conversion(conversion(planned, converted, output=path, proof=shown), path, proof)


def _check_weights(model: Model) -> None:
    """Raise FileError for weights that can't be had: a conversion needs them all."""
    from onnxscope.files.external import problem

    for tensor in model.graph.tensors:
        if reason := (problem(tensor) if tensor.storage else None):
            raise (ExternalDataError if tensor.external else FileError)(reason, where=model.path)


def _check_runtime(model: Model, provider: str) -> None:
    """Raise UsageError for an unknown provider, RuntimeFailure for one that is missing or unfit."""
    from onnxscope.proof.halves import holds_bfloat16
    from onnxscope.runtime import parse_pair, resolved

    pair = parse_pair(provider)
    try:
        for one in pair:
            resolved(one)
    except RuntimeFailure as error:
        raise _hinted(error) from None
    if all(one.on_cpu for one in pair) and holds_bfloat16(model):
        raise RuntimeFailure(
            "the proof could not be done: onnxruntime's CPU provider has no bfloat16 kernels",
            where=model.path,
            help="--no-verify (verify=False) writes the file, for providers that have them",
        )


def _hinted(error: RuntimeFailure) -> RuntimeFailure:
    """The same failure, saying that a conversion needs no runtime."""
    text = (f"{error.help}, or " if error.help else "") + "skip the proof (--no-verify, verify=False)"
    return RuntimeFailure(error.message, where=error.where, help=text)


def _proved(planned: Planned, path: str, target: str, provider: str, progress: Progress | None) -> Proof:
    """The verification of a finished file; where it fails its document goes to `<target>.proof.json`."""
    from onnxscope.proof.result import Request

    original, options = planned.model.path, planned.options
    request = Request(original, path, (provider,), trials=1, shapes=options.shapes, dims=options.dims)
    try:
        proof = _verified(request, target, progress)
    except RuntimeFailure as error:
        _keep(_impossible(error, original, target), target)
        message = str(error).replace(path, target)
        raise _hinted(RuntimeFailure(f"the proof could not be done: {message}")) from None
    if not proof.equivalent:
        _keep(proof, target)
    return proof


def audit(
    model_or_path: Source,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    targets: Sequence[str] = (),
    config: Path | None = None,
) -> Audit:
    """What must be known about a model before it ships: the findings of every rule, worst first.

    `select` and `ignore` choose rules by code, prefix of codes or name; `targets` names deployment targets;
    `config` is a file with settings and budgets (without it none is read, so that the answer depends on the
    model alone). Rules: `onnxscope rules`, docs/rules.

    Raises FileError for a file that can't be used, UsageError for an unknown code or a bad configuration.
    """
    from onnxscope.checks.registry import chosen
    from onnxscope.checks.settings import Settings
    from onnxscope.config import Config, read, target_names
    from onnxscope.documents import audit as audits

    model = model_or_path if isinstance(model_or_path, Model) else load(model_or_path)
    for pattern in (*select, *ignore):
        chosen(pattern)
    base = Settings(tuple(select), tuple(ignore), targets=target_names(targets))
    found = read(os.fspath(config)) if config is not None else Config()
    return Audit(audits.audit([audits.of_model(model, found.settings(model.path, base))]))


def diff(old: Source, new: Source) -> Difference:
    """What differs between two models; nodes are paired by structure and weights, not by name alone.

    Raises FileError for a file that can't be used.
    """
    from onnxscope.documents.diff import diff as document

    before, after = (model if isinstance(model, Model) else load(model) for model in (old, new))
    return Difference(document(before, after))


def _impossible(error: OnnxscopeError, original: str, target: str) -> Proof:
    from onnxscope.documents.verification import verification
    from onnxscope.proof.result import Verification, WeightCounts
    from onnxscope.runtime import version

    try:
        runtime = version()
    except RuntimeFailure:
        runtime = "no onnxruntime"
    found = Verification(False, runtime, WeightCounts(0, 0, 0), f"not run: {error.message}", ())
    return Proof(verification(found, original, target))


def _keep(proof: Proof, target: str) -> None:
    from onnxscope.files.write import save_text

    save_text(proof.to_json(), f"{target}.proof.json")


def _verified(request: Request, shown: str, progress: Progress | None) -> Proof:
    """Run a verification; `shown` is the candidate's path for readers."""
    from onnxscope.proof.worker import started

    with started(request.timeout) as worker:
        from onnxscope.documents.verification import verification
        from onnxscope.proof.verify import verify

        return Proof(verification(verify(request, progress, worker), request.original, shown))
