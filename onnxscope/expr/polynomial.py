"""Polynomials over symbols, floors and extrema, in canonical form: the arithmetic of sizes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import gcd
from typing import NamedTuple, TypeAlias

Coefficient: TypeAlias = int | Fraction


MAX_ATOMS = 256
"""Atoms in one floor, minimum or maximum, and terms in one product; real networks stay below 40."""
MAX_DEGREE = 24
"""Sizes multiplied in one term; a tensor has that many axes at most."""


class TooComplex(ArithmeticError):
    """An expression grew beyond what any network needs: hostile or pointless shape arithmetic."""


class Symbol(NamedTuple):
    """A size that is not known."""

    name: str
    invented: bool = False
    """True for a size that depends on data; the name then tells the value and axis."""

    def __str__(self) -> str:
        return self.name


class Floor(NamedTuple):
    """floor(numerator / denominator)."""

    numerator: Expr
    denominator: Size

    def __str__(self) -> str:
        from onnxscope.expr.text import bracketed

        return f"{bracketed(self.numerator)}//{bracketed(self.denominator)}"


class Extremum(NamedTuple):
    """The smallest (`min`) or largest (`max`) of the arguments."""

    kind: str
    args: tuple[Size, ...]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(str, self.args))})"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Expr:
    """A polynomial over atoms with at least one atom; one without is an int.

    Coefficients are whole, but for fractions between a Mul and a Floor of a file's shape arithmetic.
    Made by arithmetic on `symbol(...)`, never by hand.
    """

    terms: tuple[tuple[Monomial, Coefficient], ...]
    _hash: int = field(default=0, init=False)
    """The hash once it was asked for, else 0: shapes are compared and looked up all the time."""

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Expr) and hash(self) == hash(other) and self.terms == other.terms

    def __hash__(self) -> int:
        if not self._hash:
            object.__setattr__(self, "_hash", hash(self.terms) or 1)
        return self._hash

    def __add__(self, other: Size | Fraction) -> Size:
        return _combine(self, other, 1)

    __radd__ = __add__

    def __sub__(self, other: Size | Fraction) -> Size:
        return _combine(self, other, -1)

    def __rsub__(self, other: Size) -> Size:
        return _combine(scaled(self, -1), other, 1)

    def __neg__(self) -> Size:
        return scaled(self, -1)

    def __mul__(self, other: Size | Fraction) -> Size:
        if isinstance(other, (int, Fraction)):
            return scaled(self, other)
        return _product(self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return floor_div(self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return floor_div(other, self)

    def __mod__(self, other: Size) -> Size:
        return self - other * floor_div(self, other)

    def __rmod__(self, other: Size) -> Size:
        return other - self * floor_div(other, self)

    def __str__(self) -> str:
        from onnxscope.expr.text import text  # which needs the arithmetic of this module

        return text(self)

    def __repr__(self) -> str:
        return f"Expr({str(self)!r})"


Size: TypeAlias = int | Expr
"""A size: a number wherever all symbols are known."""
Atom: TypeAlias = Symbol | Floor | Extremum
Monomial: TypeAlias = tuple[Atom, ...]
"""A product of atoms in sorted order; the empty product is 1."""


def symbol(name: str, *, invented: bool = False) -> Expr:
    """A size known only by name."""
    return Expr((((Symbol(name, invented),), 1),))


def whole(value: Coefficient) -> Coefficient:
    """A fraction without denominator as an int."""
    return value if isinstance(value, int) or value.denominator != 1 else value.numerator


def size_from(terms: dict[Monomial, Coefficient]) -> Size:
    """The sum of the terms, in canonical order; terms with a coefficient of 0 fall away."""
    kept = [(monomial, coefficient) for monomial, coefficient in terms.items() if coefficient]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0] and isinstance(kept[0][1], int):
        return kept[0][1]
    if len(kept) > 1:
        kept.sort(key=lambda term: _order(term[0]))
    return Expr(tuple(kept))


def _atom_order(atom: Atom) -> tuple[bool, str]:
    return not isinstance(atom, Symbol), str(atom)


def _order(monomial: Monomial) -> tuple[int, tuple[tuple[bool, str], ...]]:
    """Highest degree first, then by atoms, symbols before floors: admissible, as exact division needs."""
    return -len(monomial), tuple(map(_atom_order, monomial))


def terms_of(size: Size | Fraction) -> tuple[tuple[Monomial, Coefficient], ...]:
    """The terms of a polynomial; a number has one term without atoms, zero has none."""
    if isinstance(size, Expr):
        return size.terms
    return (((), size),) if size else ()


def _combine(left: Size, right: Size | Fraction, sign: int) -> Size:
    if isinstance(right, int) and isinstance(left, Expr):
        return _shifted(left, sign * right)
    if not isinstance(right, (int, Expr, Fraction)):
        return NotImplemented
    terms = dict(terms_of(left))
    for monomial, coefficient in terms_of(right):
        terms[monomial] = whole(terms.get(monomial, 0) + sign * coefficient)
    return size_from(terms)


def _shifted(expr: Expr, number: int) -> Size:
    """The size plus a number: only the last term can change."""
    last, constant = expr.terms[-1]
    if last:
        return Expr((*expr.terms, ((), number))) if number else expr
    if len(expr.terms) == 1:
        return size_from({(): whole(constant + number)})
    kept = expr.terms[:-1]
    return Expr((*kept, ((), whole(constant + number)))) if constant + number else Expr(kept)


def integers(value: object) -> tuple[int, ...]:
    """The integers of a list, for example of an attribute; () for anything else.

    >>> integers((1, 2)), integers(b"SAME"), integers(None)
    ((1, 2), (), ())
    """
    return tuple([item for item in value if isinstance(item, int)]) if isinstance(value, tuple) else ()


def scaled(size: Size | Fraction, factor: Coefficient) -> Size:
    """The size times a number."""
    if isinstance(size, Expr) and factor and (size.terms[0][0] or len(size.terms) > 1):
        return Expr(tuple((monomial, whole(coefficient * factor)) for monomial, coefficient in size.terms))
    return size_from({monomial: whole(coefficient * factor) for monomial, coefficient in terms_of(size)})


def _product(left: Expr, right: Expr) -> Size:
    if (
        len(left.terms) * len(right.terms) > MAX_ATOMS
        or len(left.terms[0][0]) + len(right.terms[0][0]) > MAX_DEGREE
    ):
        raise TooComplex("a product of too many terms or sizes")
    terms: dict[Monomial, Coefficient] = {}
    for a, ca in left.terms:
        for b, cb in right.terms:
            monomial = tuple(sorted(a + b, key=_atom_order)) if a and b else a + b
            terms[monomial] = whole(terms.get(monomial, 0) + ca * cb)
    return size_from(terms)


def constant_of(size: Size) -> Coefficient:
    """The term without atoms."""
    return dict(terms_of(size)).get((), 0)


def floor_div(left: Size, right: Size) -> Size:
    """floor(left / right) in canonical form. Raises ZeroDivisionError for a divisor of 0."""
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    if isinstance(right, int) and isinstance(left, Expr):
        return _floor_by_number(left, right)
    exact = exact_div(left, right)
    if exact is not None and is_whole(exact):
        return exact
    if isinstance(left, int):
        left = Expr((((), left),))
    return size_of(Floor(left, right))


def ceil_div(left: Size, right: Size) -> Size:
    """ceil(left / right), as -((-left)//right); for a whole divisor above 0 as (left + right - 1)//right.

    >>> ceil_div(symbol("H"), 2)
    Expr('(H + 1)//2')
    """
    if isinstance(right, int) and right > 0:
        return (left + right - 1) // right
    return -((-left) // right)


def floor(size: Size | Fraction) -> Size:
    """The largest whole size not above a rational one."""
    if isinstance(size, Fraction):
        return size.numerator // size.denominator
    if isinstance(size, int):
        return size
    scale = _common_denominator(size)
    return floor_div(scaled(size, scale), scale)


def _common_denominator(size: Size) -> int:
    scale = 1
    for _, coefficient in terms_of(size):
        scale *= coefficient.denominator // gcd(scale, coefficient.denominator)
    return scale


def is_whole(size: Size) -> bool:
    """Whether every coefficient is an integer."""
    return all(isinstance(coefficient, int) for _, coefficient in terms_of(size))


def _floor_by_number(left: Expr, right: int) -> Size:
    """floor(left/right): take out what divides, cancel the common factor, collapse an inner floor."""
    if right <= 0:
        if right == 0:
            raise ZeroDivisionError(f"({left}) // 0")
        return floor_div(-left, -right)
    if not is_whole(left):
        scale = _common_denominator(left)
        return floor_div(scaled(left, scale), right * scale)
    outside: dict[Monomial, Coefficient] = {}
    inside: dict[Monomial, Coefficient] = {}
    for monomial, coefficient in left.terms:
        quotient, remainder = divmod(int(coefficient), right)
        if monomial and remainder:
            quotient, remainder = 0, int(coefficient)
        outside[monomial], inside[monomial] = quotient, remainder
    whole, rest = size_from(outside), size_from(inside)
    if isinstance(rest, int):
        return whole + rest // right
    return whole + _cancelled_floor(rest, right)


def _cancelled_floor(left: Expr, right: int) -> Size:
    shared = gcd(right, *(int(coefficient) for monomial, coefficient in left.terms if monomial))
    if shared > 1:  # floor((g*E + r)/(g*m)) = floor((E + floor(r/g))/m) for a whole E
        reduced: dict[Monomial, Coefficient] = {m: int(c) // shared for m, c in left.terms}
        return floor_div(size_from(reduced), right // shared)
    inner = [(m, c) for m, c in left.terms if len(m) == 1 and isinstance(m[0], Floor) and c == 1]
    if len(inner) == 1:
        floor_atom = inner[0][0][0]
        assert isinstance(floor_atom, Floor)
        if isinstance(floor_atom.denominator, int):  # (x//b + r)//d = (x + b*r)//(b*d)
            others = size_from({m: c for m, c in left.terms if m != inner[0][0]})
            return floor_div(
                floor_atom.numerator + floor_atom.denominator * others, floor_atom.denominator * right
            )
    return size_of(Floor(left, right))


def size_of(atom: Atom) -> Expr:
    """An atom as a size. Raises TooComplex for floors and extrema of more than MAX_ATOMS atoms."""
    if not isinstance(atom, Symbol):
        parts = (atom.numerator, atom.denominator) if isinstance(atom, Floor) else atom.args
        if sum(map(atoms_in, parts)) > MAX_ATOMS:
            raise TooComplex(f"an expression of more than {MAX_ATOMS} atoms")
    return Expr((((atom,), 1),))


@lru_cache(maxsize=4096)
def atoms_in(size: Size) -> int:
    """How many atoms the size is written with, those inside floors and extrema included."""
    total = 0
    for monomial, _ in terms_of(size):
        for atom in monomial:
            total += 1
            if isinstance(atom, Floor):
                total += atoms_in(atom.numerator) + atoms_in(atom.denominator)
            elif isinstance(atom, Extremum):
                total += sum(map(atoms_in, atom.args))
    return total


def exact_div(left: Size, right: Size) -> Size | None:
    """The polynomial q with q*right == left, or None where there is none.

    >>> exact_div(6*symbol("H")*symbol("W"), 2*symbol("W"))
    Expr('3*H')
    """
    if isinstance(left, int) and isinstance(right, int):
        return left // right if right and left % right == 0 else None
    divisor = terms_of(right)
    if not divisor:
        raise ZeroDivisionError(f"{left} // 0")
    quotient: Size = 0
    rest = left
    for _ in range(64):
        if rest == 0:
            return quotient
        step = _divide_term(terms_of(rest)[0], divisor[0])
        if step is None:
            return None
        quotient, rest = quotient + step, rest - step * right
    return None


def _divide_term(left: tuple[Monomial, Coefficient], right: tuple[Monomial, Coefficient]) -> Size | None:
    atoms = list(left[0])
    for atom in right[0]:
        if atom not in atoms:
            return None
        atoms.remove(atom)
    ratio = whole(Fraction(left[1]) / right[1])
    return size_from({tuple(atoms): ratio}) if isinstance(ratio, int) else None


def as_floor(size: Size) -> tuple[Size, int] | None:
    """(x, d) where the size is x//d for a number d: one floor with coefficient 1 plus a constant."""
    if isinstance(size, int):
        return None
    constant = constant_of(size)
    match terms_of(size - constant):
        case (((Floor(numerator, int() as denominator),), 1),):
            return numerator + scaled(denominator, constant), denominator
    return None


def product(sizes: Iterable[Size]) -> Size:
    """The product of all sizes; 1 where there are none."""
    number = 1
    total: Size = 1
    for size in sizes:
        if isinstance(size, int):
            number *= size
        else:
            total = total * size
    return total * number
