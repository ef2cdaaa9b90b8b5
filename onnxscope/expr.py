"""Integer expressions for sizes: one object, three readings (value, canonical form, worked text).

A size is an `int` wherever all numbers are known, else an `Expr`: a polynomial over atoms (symbols, floors, minima and
maxima) kept in a canonical form, so that equal sizes compare equal. `Worked` wraps either and remembers how it was
computed, which gives the text that reports show:

>>> h = symbol("H")
>>> (h + 6 - 6 - 1)//2 + 1
Expr('(H + 1)//2')
>>> Worked.of(28) + 2*Worked.of(0) - 1
Worked('28 + 2*0 - 1 = 27')

Nested floors collapse, which turns a whole CNN into one closed form:

>>> (h//2 - 3)//2
Expr('(H - 6)//4')

Symbols stand for sizes and are taken to be at least 1 (an invented one, for a size that depends on data, at least 0);
this decides minima and maxima where it can. Names are opaque and never parsed.
Source of the floor rules: Graham, Knuth, Patashnik, Concrete Mathematics, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd
from typing import TypeAlias

Size: TypeAlias = "int | Expr"
Atom: TypeAlias = "Symbol | Floor | Extremum"
Monomial: TypeAlias = "tuple[Atom, ...]"
"""A product of atoms in sorted order; the empty product is 1."""
Coefficient: TypeAlias = "int | Fraction"


@dataclass(frozen=True, slots=True)
class Symbol:
    """A size that is not known."""

    name: str
    invented: bool = False
    """True where the file gave no name, or the size depends on data; the name then tells the value and axis."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Floor:
    """floor(numerator / denominator)."""

    numerator: Expr
    denominator: Size

    def __str__(self) -> str:
        return f"{_inside(self.numerator)}//{_inside(self.denominator)}"


@dataclass(frozen=True, slots=True)
class Extremum:
    """The smallest (`min`) or largest (`max`) of the arguments."""

    kind: str
    args: tuple[Size, ...]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(str, self.args))})"


@dataclass(frozen=True, slots=True, repr=False)
class Expr:
    """A polynomial over atoms with integer coefficients (fractions between a Mul and a Floor of a file's shape
    arithmetic). Made by arithmetic on `symbol(...)`, never by hand: an expression without atoms is an int.
    """

    terms: tuple[tuple[Monomial, Coefficient], ...]

    def __add__(self, other: Size) -> Size:
        return _combine(self, other, 1)

    __radd__ = __add__

    def __sub__(self, other: Size) -> Size:
        return _combine(self, other, -1)

    def __rsub__(self, other: Size) -> Size:
        return _combine(_scaled(self, -1), other, 1)

    def __neg__(self) -> Size:
        return _scaled(self, -1)

    def __mul__(self, other: Size | Fraction) -> Size:
        if isinstance(other, (int, Fraction)):
            return _scaled(self, other)
        return _product(self, other) if isinstance(other, Expr) else NotImplemented

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
        return _text(self)

    def __repr__(self) -> str:
        return f"Expr({str(self)!r})"


def symbol(name: str, *, invented: bool = False) -> Expr:
    """A size known only by name.

    >>> symbol("batch size") + 1
    Expr('batch size + 1')
    """
    return Expr((((Symbol(name, invented),), 1),))


def _whole(value: Coefficient) -> Coefficient:
    return value if isinstance(value, int) or value.denominator != 1 else value.numerator


def _build(terms: dict[Monomial, Coefficient]) -> Size:
    kept = [(monomial, coefficient) for monomial, coefficient in terms.items() if coefficient]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0] and isinstance(kept[0][1], int):
        return kept[0][1]
    if len(kept) > 1:
        kept.sort(key=lambda term: _order(term[0]))
    return Expr(tuple(kept))


def _order(monomial: Monomial) -> tuple[int, tuple[str, ...]]:
    return -len(monomial), tuple(map(str, monomial))


def terms_of(size: Size | Fraction) -> tuple[tuple[Monomial, Coefficient], ...]:
    """The terms of a polynomial; a number has one term without atoms, zero has none."""
    if isinstance(size, Expr):
        return size.terms
    return (((), size),) if size else ()


def _combine(left: Size, right: Size | Fraction, sign: int) -> Size:
    if not isinstance(right, (int, Expr, Fraction)):
        return NotImplemented
    terms = dict(terms_of(left))
    for monomial, coefficient in terms_of(right):
        terms[monomial] = _whole(terms.get(monomial, 0) + sign * coefficient)
    return _build(terms)


def _scaled(expr: Size, factor: Coefficient) -> Size:
    return _build({monomial: _whole(coefficient * factor) for monomial, coefficient in terms_of(expr)})


def _product(left: Expr, right: Expr) -> Size:
    terms: dict[Monomial, Coefficient] = {}
    for a, ca in left.terms:
        for b, cb in right.terms:
            monomial = tuple(sorted(a + b, key=str)) if a and b else a + b
            terms[monomial] = _whole(terms.get(monomial, 0) + ca * cb)
    return _build(terms)


def constant_of(size: Size) -> Coefficient:
    """The term without atoms.

    >>> constant_of(symbol("H") + 3)
    3
    """
    return dict(terms_of(size)).get((), 0)


# --- floors ---------------------------------------------------------------------------------------------------------


def floor_div(left: Size, right: Size) -> Size:
    """floor(left / right) in canonical form. Raises ZeroDivisionError for a divisor of 0."""
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    exact = exact_div(left, right)
    if exact is not None and _integral(exact):
        return exact
    if isinstance(right, int) and isinstance(left, Expr):
        return _floor_by_number(left, right)
    if isinstance(left, int):
        left = Expr((((), left),))
    return _atom(Floor(left, right))


def ceil_div(left: Size, right: Size) -> Size:
    """ceil(left / right), as -((-left)//right); for a positive whole divisor in the form (left + right - 1)//right.

    >>> ceil_div(symbol("H"), 2)
    Expr('(H + 1)//2')
    """
    if isinstance(right, int) and right > 0:
        return (left + right - 1) // right
    return -((-left) // right)


def floor(size: Size | Fraction) -> Size:
    """The largest whole size not above a rational expression.

    >>> floor(symbol("H")*Fraction(1, 2))
    Expr('H//2')
    """
    if isinstance(size, Fraction):
        return size.numerator // size.denominator
    if isinstance(size, int):
        return size
    scale = _common_denominator(size)
    return floor_div(_scaled(size, scale), scale)


def _common_denominator(size: Size) -> int:
    scale = 1
    for _, coefficient in terms_of(size):
        scale *= coefficient.denominator // gcd(scale, coefficient.denominator)
    return scale


def _integral(size: Size) -> bool:
    return all(isinstance(coefficient, int) for _, coefficient in terms_of(size))


def _floor_by_number(left: Expr, right: int) -> Size:
    """floor(left/right): take out what divides, cancel the common factor, collapse an inner floor."""
    if right < 0:
        return floor_div(-left, -right)
    if not _integral(left):
        scale = _common_denominator(left)
        return floor_div(_scaled(left, scale), right * scale)
    outside: dict[Monomial, Coefficient] = {}
    inside: dict[Monomial, Coefficient] = {}
    for monomial, coefficient in left.terms:
        quotient, remainder = divmod(int(coefficient), right)
        if monomial and remainder:
            quotient, remainder = 0, int(coefficient)
        outside[monomial], inside[monomial] = quotient, remainder
    whole, rest = _build(outside), _build(inside)
    if isinstance(rest, int):
        return whole + rest // right
    return whole + _cancelled_floor(rest, right)


def _cancelled_floor(left: Expr, right: int) -> Size:
    shared = gcd(right, *(int(coefficient) for monomial, coefficient in left.terms if monomial))
    if shared > 1:  # floor((g*E + r)/(g*m)) = floor((E + floor(r/g))/m) for a whole E
        reduced = {m: int(c) // shared for m, c in left.terms}
        return floor_div(_build(reduced), right // shared)
    inner = [(m, c) for m, c in left.terms if len(m) == 1 and isinstance(m[0], Floor) and c == 1]
    if len(inner) == 1:
        floor_atom = inner[0][0][0]
        assert isinstance(floor_atom, Floor)
        if isinstance(floor_atom.denominator, int):  # (x//b + r)//d = (x + b*r)//(b*d)
            others = _build({m: c for m, c in left.terms if m != inner[0][0]})
            return floor_div(
                floor_atom.numerator + floor_atom.denominator * others, floor_atom.denominator * right
            )
    return _atom(Floor(left, right))


def _atom(atom: Atom) -> Expr:
    return Expr((((atom,), 1),))


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
    ratio = _whole(Fraction(left[1]) / right[1])
    return _build({tuple(atoms): ratio}) if isinstance(ratio, int) else None


# --- bounds, minima, maxima -----------------------------------------------------------------------------------------


def minimum(*sizes: Size) -> Size:
    """The smallest size, decided where symbols >= 1 suffices, else kept as `min(...)`.

    >>> minimum(symbol("H"), symbol("H") + 2), minimum(symbol("H"), 5)
    (Expr('H'), Expr('min(5, H)'))
    """
    return _extremum("min", sizes, lambda a, b: at_least(b, a))


def maximum(*sizes: Size) -> Size:
    """The largest size, decided where symbols >= 1 suffices, else kept as `max(...)`.

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
    return _atom(Extremum(kind, tuple(sorted(kept, key=lambda s: (isinstance(s, Expr), str(s))))))


def _lone(size: Size, kind: str) -> tuple[Size, ...]:
    """The arguments of a size that is one minimum or maximum and nothing else; () for any other size."""
    if isinstance(size, Expr) and len(size.terms) == 1 and size.terms[0][1] == 1 and len(size.terms[0][0]) == 1:
        atom = size.terms[0][0][0]
        if isinstance(atom, Extremum) and atom.kind == kind:
            return atom.args
    return ()


def at_least(left: Size, right: Size) -> bool:
    """True where left >= right for every value of the symbols; False where it isn't known.

    >>> at_least(symbol("H"), symbol("H")//2), at_least(symbol("H"), 2)
    (True, False)
    """
    if isinstance(left, int) and isinstance(right, int):
        return left >= right
    if any(at_least(arg, right) for arg in _lone(left, "max")) or any(at_least(left, arg) for arg in _lone(right, "min")):
        return True
    a, b = _as_floor(left), _as_floor(right)
    if a and b and a[1] == b[1] and _nonnegative(a[0] - b[0]):
        return True  # a floor grows with its numerator
    return _nonnegative(left - right)


def _as_floor(size: Size) -> tuple[Size, int] | None:
    """(x, d) where the size is x//d for a number d: one floor with coefficient 1 plus a constant."""
    terms = terms_of(size)
    atoms = [m for m, c in terms if m]
    if len(atoms) != 1 or len(atoms[0]) != 1 or dict(terms)[atoms[0]] != 1:
        return None
    atom = atoms[0][0]
    if not isinstance(atom, Floor) or not isinstance(atom.denominator, int):
        return None
    return atom.numerator + atom.denominator * constant_of(size), atom.denominator  # type: ignore[operator]


def _nonnegative(size: Size) -> bool:
    bound = lower_bound(size)
    return bound is not None and bound >= 0


def lower_bound(size: Size) -> Coefficient | None:
    """A number that the size never falls below while symbols are >= 1 (invented ones >= 0), or None."""
    if isinstance(size, int):
        return size
    whole = _integral(size)
    for _ in range(8):
        relaxed = _relaxed(size)
        if relaxed is None:
            break
        size = relaxed
    total: Coefficient = 0
    for monomial, coefficient in terms_of(size):
        bound = _monomial_bound(monomial)
        if monomial and (coefficient < 0 or bound is None):
            return None
        total += coefficient * (bound or 0)
    return -(-total // 1) if whole else total  # a whole number above -1/2 is at least 0


def _monomial_bound(monomial: Monomial) -> Coefficient | None:
    """A number that a product of sizes never falls below; None where one of them may be negative."""
    total: Coefficient = 1
    for atom in monomial:
        bound = int(not atom.invented) if isinstance(atom, Symbol) else None
        if bound is None and len(monomial) > 1:
            bound = lower_bound(_atom(atom))  # type: ignore[assignment]
        if bound is None or bound < 0:
            return None
        total *= bound
    return total


def _relaxed(size: Size) -> Size | None:
    """A smaller rational expression with one floor, min or max less; None where there is none to take away."""
    for monomial, coefficient in terms_of(size):
        if len(monomial) != 1 or isinstance(monomial[0], Symbol):
            continue
        bound = _linear_bound(monomial[0], below=coefficient > 0)
        if bound is not None:
            return size - _scaled(_atom(monomial[0]), coefficient) + _scaled(bound, coefficient)
    return None


def _linear_bound(atom: Atom, *, below: bool) -> Size | None:
    if isinstance(atom, Floor):
        if not isinstance(atom.denominator, int):
            return None
        shifted = atom.numerator - (atom.denominator - 1) if below else atom.numerator
        return _scaled(shifted, Fraction(1, atom.denominator))
    if isinstance(atom, Extremum):
        if below == (atom.kind == "max"):
            return atom.args[-1]
        bounds = [lower_bound(arg) for arg in atom.args] if below else [None]
        if all(bound is not None for bound in bounds):
            return min(bound for bound in bounds if bound is not None)  # type: ignore[return-value]
    return None


# --- reading --------------------------------------------------------------------------------------------------------


def bind(size: Size, values: Mapping[str, Size]) -> Size:
    """The size with symbols replaced by name; symbols not named stay.

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
        total = total + (product * coefficient if isinstance(product, Expr) else _whole(product * coefficient))
    return total


def _bind_atom(atom: Atom, values: Mapping[str, Size]) -> Size:
    if isinstance(atom, Symbol):
        return values.get(atom.name, _atom(atom))
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


@lru_cache(maxsize=4096)
def _text(expr: Expr) -> str:
    absorbed = _as_floor(expr)
    if absorbed is not None and constant_of(expr):
        return f"{_inside(absorbed[0])}//{absorbed[1]}"
    parts: list[str] = []
    for monomial, coefficient in expr.terms:
        sign = "-" if coefficient < 0 else "+"
        body = _term_text(monomial, abs(coefficient))
        parts.append(f"{sign} {body}" if parts else body if sign == "+" else f"-{body}")
    return " ".join(parts)


def _term_text(monomial: Monomial, coefficient: Coefficient) -> str:
    factors = [f"({atom})" if isinstance(atom, Floor) and (len(monomial) > 1 or coefficient != 1) else str(atom) for atom in monomial]
    if coefficient != 1 or not factors:
        number = str(coefficient) if isinstance(coefficient, int) else f"({coefficient})"
        factors.insert(0, number)
    return "*".join(factors)


def _inside(size: Size) -> str:
    """Text of an operand: sums, products and floors in brackets."""
    text = str(size)
    simple = isinstance(size, int) or (len(size.terms) == 1 and size.terms[0][1] == 1 and isinstance(size.terms[0][0], tuple) and len(size.terms[0][0]) == 1 and not isinstance(size.terms[0][0][0], Floor))
    return text if simple else f"({text})"


# --- worked text ----------------------------------------------------------------------------------------------------

_RANK = {"+": 1, "-": 1, "*": 2, "//": 2}


class Worked:
    """A size that remembers its derivation. Arithmetic on it computes value and text from one tree.

    >>> n = Worked.of(5)
    >>> (n*n*1 + 1)*32
    Worked('(5*5*1 + 1)*32 = 832')
    """

    __slots__ = ("args", "op", "value")

    def __init__(self, op: str, args: tuple[Worked, ...], value: Size) -> None:
        self.op = op
        self.args = args
        self.value = value

    @classmethod
    def of(cls, size: Size | Worked) -> Worked:
        """A leaf: a number or size that is given, not computed here."""
        return size if isinstance(size, Worked) else cls("", (), size)

    def __add__(self, other: Size | Worked) -> Worked:
        right = Worked.of(other)
        return Worked("+", (self, right), self.value + right.value)

    def __radd__(self, other: Size) -> Worked:
        return Worked.of(other) + self

    def __sub__(self, other: Size | Worked) -> Worked:
        right = Worked.of(other)
        return Worked("-", (self, right), self.value - right.value)

    def __rsub__(self, other: Size) -> Worked:
        return Worked.of(other) - self

    def __mul__(self, other: Size | Worked) -> Worked:
        right = Worked.of(other)
        return Worked("*", (self, right), self.value * right.value)

    def __rmul__(self, other: Size) -> Worked:
        return Worked.of(other) * self

    def __floordiv__(self, other: Size | Worked) -> Worked:
        right = Worked.of(other)
        return Worked("//", (self, right), floor_div(self.value, right.value))

    @property
    def text(self) -> str:
        """The derivation without its result."""
        if not self.op:
            return str(self.value)
        if self.op in ("min", "max"):
            return f"{self.op}({', '.join(arg.text for arg in self.args)})"
        left, right = self.args
        gap = " " if _RANK[self.op] == 1 else ""
        return f"{left._operand(self.op, False)}{gap}{self.op}{gap}{right._operand(self.op, True)}"

    def _operand(self, outer: str, right: bool) -> str:
        if not self.op:
            return _inside(self.value) if isinstance(self.value, Expr) else self._number()
        if self.op in ("min", "max"):
            return self.text
        tighter = _RANK[self.op] - _RANK[outer]
        same = tighter == 0 and (not right or (outer == self.op and outer in "+*")) and not (outer == "*" and self.op == "//")
        return self.text if tighter > 0 or same else f"({self.text})"

    def _number(self) -> str:
        return f"({self.value})" if isinstance(self.value, int) and self.value < 0 else str(self.value)

    def __str__(self) -> str:
        result = str(self.value)
        return result if self.text == result else f"{self.text} = {result}"

    def __repr__(self) -> str:
        return f"Worked({str(self)!r})"


def worked_min(*sizes: Worked) -> Worked:
    """The smallest of several derivations, with `min(...)` in the text."""
    return Worked("min", sizes, minimum(*(size.value for size in sizes)))


def worked_product(factors: Iterable[Size | Worked]) -> Worked:
    """The product of all factors, in order; 1 where there are none.

    >>> worked_product([2, 3, symbol("N")])
    Worked('2*3*N = 6*N')
    """
    result: Worked | None = None
    for factor in factors:
        result = Worked.of(factor) if result is None else result * factor
    return result or Worked.of(1)


def product(sizes: Iterable[Size]) -> Size:
    """The product of all sizes; 1 where there are none."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total
