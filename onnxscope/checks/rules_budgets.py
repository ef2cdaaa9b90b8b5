"""Budgets: what a user's configuration allows a model to have. Each rule is silent where nothing is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil

from onnxscope.analysis.cost import Cost
from onnxscope.analysis.memory import Memory
from onnxscope.analysis.params import Params
from onnxscope.checks.finding import Finding
from onnxscope.checks.registry import RuleInfo, check
from onnxscope.checks.settings import Settings
from onnxscope.checks.streaming import stored_tensors
from onnxscope.expr import Size, at_least, lower_bound
from onnxscope.graph import Model


def _over(rule: RuleInfo, what: str, size: Size, limit: int | None, help: str) -> Iterator[Finding]:
    """A finding where a size is above its limit for every value of its symbols."""
    if limit is None:
        return
    least = _least(size)
    if least is not None and least > limit:
        shown = f"{size:,}" if isinstance(size, int) else f"{size} (at least {least:,})"
        yield rule.finding(
            "", f"{what}: {shown} where the budget is {limit:,}", help, actual=least, limit=limit
        )


def _least(size: Size) -> int | None:
    """The smallest value that the size can have; None where there is no bound."""
    bound = lower_bound(size)
    return None if bound is None else ceil(bound)


def _undecided(what: str, size: Size | None, limit: int | None, complete: bool = True) -> str:
    """Why a budget can't be decided; "" where it can."""
    if limit is None:
        return ""
    if size is None:
        return f"{what} can't be worked out"
    least = _least(size)
    if least is not None and least > limit:
        return ""
    if not complete:
        return f"{what} is only known in part"
    return "" if at_least(limit, size) else f"{what} is {size}: it depends on free sizes"


@check("OX901", "params-over-budget", severity="error")
def params_over_budget(params: Params, settings: Settings) -> Iterator[Finding]:
    """The model has more parameters than `max-params` allows.

    What it flags:
        A parameter count (each stored number once, running statistics apart) above the budget.

    Why it matters:
        A model that grew unnoticed misses the device's memory or the download size that was agreed on.

    Bad: see tests/checks/test_budgets.py

    Good: see tests/checks/test_budgets.py

    Fix and its safety:
        Make the model smaller, or raise `max-params` in the configuration in the same review.

    Source:
        The project's own configuration.
    """
    limit, help = settings.budget.max_params, "onnxscope report --sort params lists the largest layers"
    yield from _over(params_over_budget, "parameters", params.total, limit, help)


@check("OX902", "macs-over-budget", severity="error")
def macs_over_budget(cost: Cost, settings: Settings) -> Iterator[Finding]:
    """One run takes more multiply-accumulates (MACs) than `max-macs` allows.

    What it flags:
        A MAC count above the budget for every value of the free sizes; `dims` in the configuration binds
        them.

    Why it matters:
        MACs bound the latency and the energy of a run from below.

    Bad: see tests/checks/test_budgets.py

    Good: see tests/checks/test_budgets.py

    Fix and its safety:
        Make the model cheaper, or raise `max-macs` in the configuration in the same review.

    Source:
        The project's own configuration.
    """
    limit, help = settings.budget.max_macs, "onnxscope report --sort macs lists the dearest layers"
    yield from _over(macs_over_budget, "MACs", cost.total, limit, help)


@check("OX903", "file-over-budget", severity="error")
def file_over_budget(model: Model, settings: Settings) -> Iterator[Finding]:
    """The model's files take more bytes than `max-bytes` allows.

    What it flags:
        The model file and the external data that its tensors name, together above the budget.

    Why it matters:
        Package, flash and download sizes have limits that a new export can pass unnoticed.

    Bad: see tests/checks/test_budgets.py

    Good: see tests/checks/test_budgets.py

    Fix and its safety:
        Quantize or shrink the model, or raise `max-bytes` in the configuration in the same review.

    Source:
        The project's own configuration.
    """
    limit, help = settings.budget.max_bytes, "onnxscope report --sort bytes lists the largest layers"
    yield from _over(file_over_budget, "bytes of all files", file_bytes(model), limit, help)


def file_bytes(model: Model) -> int:
    """Bytes of the model file and of every external file that its tensors name and that is there."""
    folder = os.path.dirname(os.path.realpath(model.path)) if model.path not in ("", "-") else ""
    names = {
        value
        for _, _, tensor in stored_tensors(model)
        for key, value in tensor.external
        if key == "location" and folder
    }
    paths = {os.path.realpath(os.path.join(folder, name)) for name in names if "\0" not in name}
    inside = [path for path in paths if path.startswith(folder + os.sep) and os.path.isfile(path)]
    return model.file_bytes + sum(map(os.path.getsize, inside))


@check("OX904", "activations-over-budget", severity="error")
def activations_over_budget(memory: Memory, settings: Settings) -> Iterator[Finding]:
    """The values alive at one node take more bytes than `max-peak-activation` allows.

    What it flags:
        A peak of activation memory above the budget (file order, no in-place reuse, weights apart).

    Why it matters:
        The peak decides whether a run fits a device's memory at all.

    Bad: see tests/checks/test_budgets.py

    Good: see tests/checks/test_budgets.py

    Fix and its safety:
        Make maps smaller around the named node, or raise `max-peak-activation` in the same review.

    Source:
        The project's own configuration.
    """
    if memory.peak_activation_bytes is not None:
        limit, help = settings.budget.max_peak_activation, "onnxscope report shows the shapes there"
        what = f"peak activation bytes (at {memory.peak_node})"
        yield from _over(activations_over_budget, what, memory.peak_activation_bytes, limit, help)


@check("OX905", "opset-below-minimum", severity="error")
def opset_below_minimum(model: Model, settings: Settings) -> Iterator[Finding]:
    """The model's opset is older than `opset-min` asks for.

    What it flags:
        A version of the default operator set below the configured one, or none imported at all.

    Why it matters:
        Tools further down the line were tested from that version on.

    Bad: see tests/checks/test_budgets.py

    Good: see tests/checks/test_budgets.py

    Fix and its safety:
        Export again with the newer opset, or convert with onnx.version_converter and compare the outputs with
        `onnxscope verify`.

    Source:
        The project's own configuration.
    """
    least, actual = settings.budget.opset_min, model.opset.get("")
    if least is not None and (actual is None or actual < least):
        held = f"is {actual}" if actual is not None else "isn't imported"
        yield opset_below_minimum.finding(
            "",
            f"the default operator set {held} where at least {least} is asked for",
            f"export again with opset {least}",
            actual=actual,
            limit=least,
        )


@check("OX906", "missing-metadata", severity="error")
def missing_metadata(model: Model, settings: Settings) -> Iterator[Finding]:
    """The model's metadata lacks a key that `required-metadata` names.

    What it flags:
        A required key that is absent or has an empty value, one finding per key.

    Why it matters:
        Who made the model, from which data and under which licence can't be told later from the file.

    Bad: see tests/checks/test_budgets.py

    Good: see tests/checks/test_budgets.py

    Fix and its safety:
        Add the entry to `metadata_props`; it changes no output.

    Source:
        ONNX documentation, "MetadataProps"; the project's own configuration.
    """
    held = dict(model.metadata)
    for key in settings.budget.required_metadata:
        if not held.get(key, "").strip():
            yield missing_metadata.finding(
                key, f"metadata key {key!r} is required and {'empty' if key in held else 'absent'}", key=key
            )


@check("OX907", "undecided-budget", severity="note")
def undecided_budget(params: Params, cost: Cost, memory: Memory, settings: Settings) -> Iterator[Finding]:
    """A budget that can't be decided, because the count is unknown or depends on free sizes.

    What it flags:
        A configured budget whose count is a formula that may lie on either side, or is known only in part.

    Why it matters:
        A gate that silently lets everything through is worse than none.

    Bad: see tests/checks/test_budgets.py

    Good: see tests/checks/test_budgets.py

    Fix and its safety:
        Give the free sizes a number in the configuration: `dims = {batch = 1}`.

    Source:
        onnxscope.
    """
    budget = settings.budget
    rows = (
        ("max-params", _undecided("the parameter count", params.total, budget.max_params)),
        ("max-macs", _undecided("the MAC count", cost.total, budget.max_macs, cost.coverage == 1)),
        (
            "max-peak-activation",
            _undecided(
                "the peak of activation memory", memory.peak_activation_bytes, budget.max_peak_activation
            ),
        ),
    )
    for key, reason in rows:
        if reason:
            yield undecided_budget.finding(
                key,
                f"{key} can't be decided: {reason}",
                "bind free sizes with dims in the configuration",
                key=key,
            )
