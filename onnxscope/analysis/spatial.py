"""Closed forms: output sizes as one expression of the input size, where height and width are free."""

from __future__ import annotations

from collections.abc import Iterable
from math import lcm
from typing import NamedTuple

from onnxscope.analysis.facts import Facts
from onnxscope.expr import Expr, Floor, Size, TooComplex, bind, symbol, symbols, terms_of
from onnxscope.ops.value import Shape

SEARCH_LIMIT = 1 << 20
"""Largest input size that is tried for `minimum_input`, in pixels."""


class Spatial(NamedTuple):
    """How map sizes follow from the free spatial sizes of the inputs."""

    closed_form: dict[str, tuple[Size, ...]]
    """Value name -> its axes that depend on a free spatial size, in order (all spatial axes of a map); ()
    where none does."""
    minimum_input: dict[str, int | None]
    """Symbol -> smallest size with every window of the model at least one position (the other symbols as
    large, where maps depend on several); None where none was found."""
    exact_input_step: dict[str, int | None]
    """Symbol -> smallest growth of the input by which the deepest map grows by whole cells and no stage drops
    a remainder; None where the map doesn't grow evenly."""


def closed_forms(facts: Facts, feature_maps: Iterable[str] = ()) -> Spatial:
    """Closed forms of every graph output and of `feature_maps` (the values in front of FC heads)."""
    slid = _slid_over(facts)
    free = _free(facts, slid)
    forms: dict[str, tuple[Size, ...]] = {}
    for name in dict.fromkeys((*feature_maps, *(info.name for info in facts.main.graph.outputs))):
        shape = facts.value(name).shape
        if shape is not None:
            forms[name] = _spatial_axes(shape, free)
    sizes = [size for form in forms.values() for size in form]
    stages = {name: _stages(facts, slid, name, free) for name in free}
    return Spatial(
        closed_form=forms if free else {},
        minimum_input={name: _minimum(free, stages[name]) for name in free},
        exact_input_step={name: _step(name, stages[name], sizes) for name in free},
    )


def free_spatial(facts: Facts) -> tuple[str, ...]:
    """Symbols that size an axis after the first of an input with at least 3 axes, in input order.

    The batch is no spatial axis: a symbol that sizes the first axis of some input is left out. Nor are the
    channels: where windows slide over some of an input's free axes, the others are left out.
    """
    return _free(facts, _slid_over(facts))


def _slid_over(facts: Facts) -> list[Expr]:
    """The free sizes of the maps that windows make, each once, in execution order."""
    made = (axis.value for fact in facts.nodes() for axis in fact.inferred.axes)
    return list(dict.fromkeys(size for size in made if isinstance(size, Expr)))


def _free(facts: Facts, slid: list[Expr]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    batch: set[str] = set()
    moving = {symbol.name for size in slid for symbol in symbols(size)}
    stored = facts.main.graph.initializers
    for info in facts.main.graph.inputs:
        shape = facts.value(info.name).shape
        if info.name in stored or shape is None or len(shape) < 3:
            continue
        batch |= {s.name for s in symbols(shape[0])}
        names = [s.name for size in shape[1:] for s in sorted(symbols(size), key=str)]
        found.update(dict.fromkeys([name for name in names if name in moving] or names))
    return tuple(name for name in found if name not in batch)


def _spatial_axes(shape: Shape, free: tuple[str, ...]) -> tuple[Size, ...]:
    depends = [bool({s.name for s in symbols(size)} & set(free)) for size in shape]
    if len(shape) > 2 and any(depends[2:]):
        return shape[2:]
    return tuple(size for size, yes in zip(shape, depends, strict=True) if yes)


def _stages(facts: Facts, slid: list[Expr], name: str, free: tuple[str, ...]) -> list[Expr]:
    """The map sizes that follow from one symbol, alone or with other free ones, and such graph outputs."""
    found = {size: None for size in slid if {s.name for s in symbols(size)} <= {*free}}
    for info in facts.main.graph.outputs:
        sizes = (size for size in facts.value(info.name).shape or () if isinstance(size, Expr))
        found.update((size, None) for size in sizes if len(symbols(size)) == 1)
    return [size for size in found if name in {s.name for s in symbols(size)}]


def _minimum(free: tuple[str, ...], stages: list[Expr]) -> int | None:
    """Smallest size with all stages >= 1, those of several symbols where all are as large.

    Sizes grow with it, so halving finds it.
    """

    def fits(value: int) -> bool:
        bound = [bind(size, dict.fromkeys(free, value)) for size in stages]
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
    stages = [size for size in stages if len(symbols(size)) == 1]
    step = lcm(1, *(d for size in stages for d in _denominators(size)))
    mine = [size for size in forms if {s.name for s in symbols(size)} == {name}] or stages[-1:]
    try:
        grown = [bind(size, {name: symbol(name) + step}) - size for size in mine]
    except TooComplex:
        return None
    return step if grown and all(isinstance(size, int) for size in grown) else None


def _denominators(size: Size) -> list[int]:
    found: list[int] = []
    for monomial, _ in terms_of(size):
        for atom in monomial:
            if isinstance(atom, Floor) and isinstance(atom.denominator, int):
                found += [atom.denominator, *_denominators(atom.numerator)]
    return found
