"""Whether two models have the same inputs and outputs by name, up to declared sizes and trailing 1x1 axes."""

from __future__ import annotations

from dataclasses import dataclass

from onnxscope.dtypes import name_of
from onnxscope.graph import DimDecl, Model, Type, ValueInfo

Sizes = tuple[DimDecl, ...]


@dataclass(frozen=True, slots=True)
class InputPair:
    """One input as both models declare it."""

    name: str
    dtype: int
    sizes: Sizes
    """A number where either model fixes it, else the original's symbol, else the candidate's, else None."""
    kind: str = "tensor"


@dataclass(frozen=True, slots=True)
class Interface:
    """What both models have in common, and where they differ."""

    inputs: tuple[InputPair, ...]
    outputs: tuple[str, ...]
    """Outputs that both have, in the original's order."""
    problems: tuple[str, ...]
    """Differences that decide: the candidate is no replacement."""
    notes: tuple[str, ...]
    """Differences that don't: another order, added outputs."""


def compare(original: Model, candidate: Model) -> Interface:
    """Match inputs and outputs by exact name.

    An input that only the candidate has, or that has another element type or fixed size, and an output that
    the candidate lacks or that changed its kind are problems.
    """
    problems: list[str] = []
    inputs = _inputs(fed(original), fed(candidate), problems)
    before = {info.name: info for info in original.graph.outputs}
    after = {info.name: info for info in candidate.graph.outputs}
    added = [name for name in after if name not in before]
    for name, info in before.items():
        problems += _output(info, after.get(name), added)
    outputs = tuple(name for name in before if name in after)
    notes = [f"the candidate has an output more: {name}" for name in added]
    if set(before) == set(after) and list(before) != list(after):
        notes.append("the outputs stand in another order")
    return Interface(inputs, outputs, tuple(problems), tuple(notes))


def fed(model: Model) -> dict[str, ValueInfo]:
    """Inputs that must be given: those without an initializer of the same name."""
    stored = model.graph.initializers
    return {info.name: info for info in model.graph.inputs if info.name not in stored}


def declared(info: ValueInfo) -> Sizes | None:
    """The declared sizes; a negative number, as some exporters write for a free axis, is None."""
    sizes = info.type.shape
    return sizes and tuple(None if isinstance(size, int) and size < 0 else size for size in sizes)


def _inputs(
    before: dict[str, ValueInfo], after: dict[str, ValueInfo], problems: list[str]
) -> tuple[InputPair, ...]:
    pairs: list[InputPair] = []
    for name, info in before.items():
        twin = after.get(name)
        if twin is None:
            others = ", ".join(after) or "none"
            problems.append(f"input {name} is missing from the candidate (it has {others})")
        elif twin.type.dtype != info.type.dtype or twin.type.kind != info.type.kind:
            kinds = f"{_kind(info.type)} and {_kind(twin.type)}"
            problems.append(f"input {name} has different types: {kinds}")
        else:
            sizes = _sizes(name, declared(info), declared(twin), problems)
            pairs.append(InputPair(name, info.type.dtype, sizes, info.type.kind))
    problems += [f"input {name} is not in the original" for name in after if name not in before]
    return tuple(pairs)


def _sizes(name: str, before: Sizes | None, after: Sizes | None, problems: list[str]) -> Sizes:
    if before is None or after is None:
        return before or after or ()
    if len(before) != len(after):
        problems.append(f"input {name} has {len(before)} axes in the original, {len(after)} in the candidate")
        return before
    return tuple(
        _size(name, axis, *pair, problems) for axis, pair in enumerate(zip(before, after, strict=True))
    )


def _size(name: str, axis: int, before: DimDecl, after: DimDecl, problems: list[str]) -> DimDecl:
    if isinstance(before, int) and isinstance(after, int):
        if before != after:
            problems.append(f"input {name}, axis {axis}: {before} in the original, {after} in the candidate")
        return before
    if isinstance(before, int):
        return before
    return after if isinstance(after, int) else before or after


def _output(info: ValueInfo, twin: ValueInfo | None, added: list[str]) -> list[str]:
    if twin is None:
        renamed = f" (renamed to {added[0]}?)" if len(added) == 1 else ""
        return [f"output {info.name} is missing from the candidate{renamed}"]
    if info.type.kind and twin.type.kind and info.type.kind != twin.type.kind:
        return [
            f"output {info.name} is a {info.type.kind} in the original, a {twin.type.kind} in the candidate"
        ]
    if info.type.dtype and twin.type.dtype and info.type.dtype != twin.type.dtype:
        return [f"output {info.name} has different types: {_kind(info.type)} and {_kind(twin.type)}"]
    return []


def _kind(type_: Type) -> str:
    return f"{name_of(type_.dtype)}" if type_.kind == "tensor" else f"{type_.kind} of {name_of(type_.dtype)}"
