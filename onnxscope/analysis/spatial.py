"""Closed forms: output sizes as one expression of the input size, where height and width are free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import lcm

from onnxscope.analysis.facts import Facts
from onnxscope.expr import Expr, Floor, Size, Symbol, bind, symbol, symbols, terms_of
from onnxscope.ops.value import Shape

SEARCH_LIMIT = 1 << 20
"""Largest input size that is tried for `minimum_input`, in pixels."""


@dataclass(frozen=True, slots=True)
class Spatial:
    """How map sizes follow from the free spatial sizes of the inputs."""

    closed_form: dict[str, tuple[Size, ...]]
    """Value name -> its axes that depend on a free spatial size, in order (all spatial axes of a map); ()
    where none does."""
    minimum_input: dict[str, int | None]
    """Symbol -> smallest size with every window of the model at least one position; None where none was
    found."""
    exact_input_step: dict[str, int | None]
    """Symbol -> smallest growth of the input by which the deepest map grows by whole cells and no stage drops
    a remainder; None where the map doesn't grow evenly."""


def closed_forms(facts: Facts, feature_maps: Iterable[str] = ()) -> Spatial:
    """Closed forms of every graph output and of `feature_maps` (the values in front of FC heads)."""
    free = free_spatial(facts)
    forms: dict[str, tuple[Size, ...]] = {}
    for name in dict.fromkeys((*feature_maps, *(info.name for info in facts.main.graph.outputs))):
        shape = facts.value(name).shape
        if shape is not None:
            forms[name] = _spatial_axes(shape, free)
    sizes = [size for form in forms.values() for size in form]
    stages = {name: _stages(facts, name) for name in free}
    return Spatial(
        closed_form=forms if free else {},
        minimum_input={name: _minimum(name, stages[name]) for name in free},
        exact_input_step={name: _step(name, stages[name], sizes) for name in free},
    )


def free_spatial(facts: Facts) -> tuple[str, ...]:
    """Symbols that size an axis after the first of an input with at least 3 axes, in input order.

    The batch is no spatial axis: a symbol that sizes the first axis of some input is left out.
    """
    found: dict[str, None] = {}
    batch: set[Symbol] = set()
    stored = facts.main.graph.initializers
    for info in facts.main.graph.inputs:
        shape = facts.value(info.name).shape
        if info.name in stored or shape is None or len(shape) < 3:
            continue
        batch |= symbols(shape[0])
        for size in shape[1:]:
            found.update((s.name, None) for s in sorted(symbols(size), key=str))
    return tuple(name for name in found if name not in {s.name for s in batch})


def _spatial_axes(shape: Shape, free: tuple[str, ...]) -> tuple[Size, ...]:
    depends = [bool({s.name for s in symbols(size)} & set(free)) for size in shape]
    if len(shape) > 2 and any(depends[2:]):
        return shape[2:]
    return tuple(size for size, yes in zip(shape, depends, strict=True) if yes)


def _stages(facts: Facts, name: str) -> list[Expr]:
    """The sizes of every window op's output and every graph output that follow from one symbol alone."""
    found = {axis.value: None for fact in facts.nodes() for axis in fact.inferred.axes}
    for info in facts.main.graph.outputs:
        found.update(dict.fromkeys(facts.value(info.name).shape or ()))
    return [size for size in found if isinstance(size, Expr) and {s.name for s in symbols(size)} == {name}]


def _minimum(name: str, stages: list[Expr]) -> int | None:
    """Smallest size of one symbol with all stages >= 1; sizes grow with it, so halving finds it."""

    def fits(value: int) -> bool:
        bound = [bind(size, {name: value}) for size in stages]
        return all(isinstance(size, int) and size >= 1 for size in bound)

    high = 1
    while not fits(high):
        high *= 2
        if high > SEARCH_LIMIT:
            return None
    low = high // 2 + 1 if high > 1 else 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return high


def _step(name: str, stages: list[Expr], forms: list[Size]) -> int | None:
    """Least common multiple of what the stages divide by; None where no map follows the symbol evenly.

    The maps are `forms`, or the last stage where none of those depends on the symbol.
    """
    step = lcm(1, *(d for size in stages for d in _denominators(size)))
    mine = [size for size in forms if {s.name for s in symbols(size)} == {name}] or stages[-1:]
    grown = [bind(size, {name: symbol(name) + step}) - size for size in mine]
    return step if grown and all(isinstance(size, int) for size in grown) else None


def _denominators(size: Size) -> list[int]:
    found: list[int] = []
    for monomial, _ in terms_of(size):
        for atom in monomial:
            if isinstance(atom, Floor) and isinstance(atom.denominator, int):
                found += [atom.denominator, *_denominators(atom.numerator)]
    return found
