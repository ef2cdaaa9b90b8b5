"""What can be said of a size whatever its symbols stand for, and what it is once they are bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

from onnxscope.expr.polynomial import (
    Atom,
    Coefficient,
    Expr,
    Extremum,
    Floor,
    Monomial,
    Size,
    Symbol,
    as_floor,
    floor_div,
    is_whole,
    scaled,
    size_of,
    terms_of,
)


def minimum(*sizes: Size) -> Size:
    """The smallest size, decided where symbols >= 1 suffices, else kept as `min(...)`.

    >>> from onnxscope.expr import symbol
    >>> minimum(symbol("H"), symbol("H") + 2), minimum(symbol("H"), 5)
    (Expr('H'), Expr('min(5, H)'))
    """
    return _extremum("min", sizes, lambda a, b: at_least(b, a))


def maximum(*sizes: Size) -> Size:
    """The largest size, decided where symbols >= 1 suffices, else kept as `max(...)`.

    >>> from onnxscope.expr import symbol
    >>> maximum(symbol("H") - 1, 0)
    Expr('H - 1')
    """
    return _extremum("max", sizes, at_least)


def _extremum(kind: str, sizes: Iterable[Size], wins: Callable[[Size, Size], bool]) -> Size:
    kept: list[Size] = []
    for size in (inner for outer in sizes for inner in _lone(outer, kind) or (outer,)):
        if any(wins(other, size) for other in kept):
            continue
        kept = [other for other in kept if not wins(size, other)] + [size]
    if len(kept) == 1:
        return kept[0]
    return size_of(Extremum(kind, tuple(sorted(kept, key=lambda s: (isinstance(s, Expr), str(s))))))


def _lone(size: Size, kind: str) -> tuple[Size, ...]:
    """The arguments of a size that is one minimum or maximum and nothing else; () for any other size."""
    match size:
        case Expr(terms=(((Extremum() as atom,), 1),)) if atom.kind == kind:
            return atom.args
    return ()


def larger_of(size: Size) -> tuple[Size, ...]:
    """The sizes of which this one is the undecided maximum; () for any other size.

    >>> from onnxscope.expr import symbol
    >>> larger_of(maximum(symbol("A"), symbol("H"))), larger_of(symbol("H"))
    ((Expr('A'), Expr('H')), ())
    """
    return _lone(size, "max")


def at_least(left: Size, right: Size) -> bool:
    """True where left >= right for every value of the symbols; False where it isn't known.

    >>> from onnxscope.expr import symbol
    >>> at_least(symbol("H"), symbol("H")//2), at_least(symbol("H"), 2)
    (True, False)
    """
    if isinstance(left, int) and isinstance(right, int):
        return left >= right
    return _at_least(left, right, _ASSUMED.get())


@lru_cache(maxsize=4096)
def _at_least(left: Size, right: Size, assumed: Least) -> bool:
    if any(at_least(arg, right) for arg in _lone(left, "max")):
        return True
    if any(at_least(left, arg) for arg in _lone(right, "min")):
        return True
    a, b = as_floor(left), as_floor(right)
    if a and b and a[1] == b[1] and _nonnegative(a[0] - b[0]):
        return True  # a floor grows with its numerator
    return _nonnegative(left - right)


Least: TypeAlias = frozenset[tuple[str, int]]
"""Symbol names and what they are at least. What is kept of earlier answers is kept apart for each."""
_ASSUMED: ContextVar[Least] = ContextVar("assumed", default=frozenset())


@contextmanager
def assuming(least: Mapping[str, int]) -> Iterator[None]:
    """Within it, symbols are at least these numbers: a converted model's input at least the native size.

    Holds for the thread that says so, as a decimal context does.
    """
    token = _ASSUMED.set(frozenset({**dict(_ASSUMED.get()), **least}.items()))
    try:
        yield
    finally:
        _ASSUMED.reset(token)


def _nonnegative(size: Size) -> bool:
    bound = lower_bound(size)
    return bound is not None and bound >= 0


def lower_bound(size: Size) -> Coefficient | None:
    """A number that the size never falls below while symbols are >= 1 (invented ones >= 0), or None."""
    return size if isinstance(size, int) else _lower_bound(size, _ASSUMED.get())


@lru_cache(maxsize=4096)
def _lower_bound(size: Size, assumed: Least) -> Coefficient | None:
    whole = is_whole(size)
    for _ in range(8):
        relaxed = _relaxed(size)
        if relaxed is None:
            break
        size = relaxed
    total: Coefficient = 0
    for monomial, coefficient in terms_of(size):
        bound = _monomial_bound(monomial, dict(assumed))
        if monomial and (coefficient < 0 or bound is None):
            return None
        total += coefficient * (bound or 0)
    return -(-total // 1) if whole else total  # a whole number above -1/2 is at least 0


def _monomial_bound(monomial: Monomial, least: Mapping[str, int]) -> Coefficient | None:
    """A number that a product of sizes never falls below; None where one of them may be negative."""
    total: Coefficient = 1
    for atom in monomial:
        bound: Coefficient | None = None
        if isinstance(atom, Symbol):
            bound = least.get(atom.name, int(not atom.invented))
        elif len(monomial) > 1:
            bound = lower_bound(size_of(atom))
        if bound is None or bound < 0:
            return None
        total *= bound
    return total


def _relaxed(size: Size) -> Size | None:
    """A smaller rational expression with one floor, min or max less; None where none can be taken away."""
    for monomial, coefficient in terms_of(size):
        if len(monomial) != 1 or isinstance(monomial[0], Symbol):
            continue
        bound = _linear_bound(monomial[0], below=coefficient > 0)
        if bound is not None:
            return size - scaled(size_of(monomial[0]), coefficient) + scaled(bound, coefficient)
    return None


def _linear_bound(atom: Atom, *, below: bool) -> Size | Fraction | None:
    if isinstance(atom, Floor):
        if not isinstance(atom.denominator, int):
            return None
        shifted = atom.numerator - (atom.denominator - 1) if below else atom.numerator
        return scaled(shifted, Fraction(1, atom.denominator))
    if isinstance(atom, Extremum):
        if below == (atom.kind == "max"):
            return atom.args[-1]
        bounds = [bound for arg in atom.args if below and (bound := lower_bound(arg)) is not None]
        if len(bounds) == len(atom.args):
            return min(bounds)
    return None


def bind(size: Size, values: Mapping[str, Size]) -> Size:
    """The size with symbols replaced by name; symbols not named stay.

    >>> from onnxscope.expr import symbol
    >>> bind((symbol("H") + 1)//2, {"H": 224})
    112
    """
    if isinstance(size, int):
        return size
    total: Size = 0
    for monomial, coefficient in size.terms:
        product: Size = 1
        for atom in monomial:
            product = product * _bind_atom(atom, values)
        total = total + scaled(product, coefficient)
    return total


def _bind_atom(atom: Atom, values: Mapping[str, Size]) -> Size:
    if isinstance(atom, Symbol):
        return values.get(atom.name, size_of(atom))
    if isinstance(atom, Floor):
        return floor_div(bind(atom.numerator, values), bind(atom.denominator, values))
    choose = minimum if atom.kind == "min" else maximum
    return choose(*(bind(arg, values) for arg in atom.args))


def symbols(size: Size) -> frozenset[Symbol]:
    """Every symbol in the size, those inside floors and minima included."""
    found: set[Symbol] = set()
    for monomial, _ in terms_of(size):
        for atom in monomial:
            if isinstance(atom, Symbol):
                found.add(atom)
            elif isinstance(atom, Floor):
                found |= symbols(atom.numerator) | symbols(atom.denominator)
            else:
                found = found.union(*(symbols(arg) for arg in atom.args))
    return frozenset(found)
