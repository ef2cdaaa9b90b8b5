"""Text of sizes, as reports show them."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from onnxscope.expr.polynomial import (
    Coefficient,
    Expr,
    Floor,
    Size,
    as_floor,
    product,
    scaled,
    size_from,
    size_of,
    terms_of,
    whole,
)


@lru_cache(maxsize=4096)
def text(expr: Expr) -> str:
    """The expression as people write it: floors with `//`, sums of products drawn together."""
    match expr.terms:
        case (((atom,), 1),):
            return str(atom)
    absorbed = as_floor(expr)
    if absorbed is not None:
        return f"{bracketed(absorbed[0])}//{absorbed[1]}"
    parts: list[str] = []
    rest: Size = expr
    while isinstance(rest, Expr):
        (monomial, coefficient), rest = _leading_product(rest)
        body = _term_text(monomial, -coefficient if coefficient < 0 else coefficient)
        if parts:
            parts.append(f"- {body}" if coefficient < 0 else f"+ {body}")
        else:  # a leading minus binds tighter than //
            minus = f"-({body})" if coefficient == -1 and "//" in body else f"-{body}"
            parts.append(minus if coefficient < 0 else body)
    if rest:
        parts.append(f"{'-' if rest < 0 else '+'} {abs(rest)}")
    return " ".join(parts)


def _leading_product(expr: Expr) -> tuple[tuple[tuple[Size, ...], Coefficient], Size]:
    """The leading term, drawn together with others to a product of sums where that is shorter; the rest.

    For example N*H*W - 2*N*H - 2*N*W + 4*N is N*(H - 2)*(W - 2).
    """
    monomial, coefficient = expr.terms[0]
    known = dict(expr.terms)
    factors: list[Size] = []
    for place, atom in enumerate(monomial):
        partner = known.get(monomial[:place] + monomial[place + 1 :], 0)
        shift = whole(Fraction(partner) / coefficient)
        alone = monomial.count(atom) == 1 and isinstance(shift, int) and len(monomial) > 1
        factors.append(size_of(atom) + shift if alone else size_of(atom))
    drawn = expr - scaled(product(factors), coefficient)
    if len(terms_of(drawn)) < len(expr.terms) - 1:
        return (tuple(factors), coefficient), drawn
    return (tuple(map(size_of, monomial)), coefficient), size_from(dict(expr.terms[1:]))


def _term_text(factors: tuple[Size, ...], coefficient: Coefficient) -> str:
    if coefficient == 1 and len(factors) == 1 and len(terms_of(factors[0])) == 1:
        return str(factors[0])
    texts = [bracketed(factor) for factor in factors]
    texts.sort(key=lambda text: text.startswith("("))  # plain symbols first
    if coefficient != 1 or not factors:
        texts.insert(0, str(coefficient) if isinstance(coefficient, int) else f"({coefficient})")
    return "*".join(texts)


def bracketed(size: Size) -> str:
    """Text of a size as an operand: sums, products and floors in brackets, numbers and symbols without."""
    if isinstance(size, int):
        return str(size)
    monomial, coefficient = size.terms[0]
    lone = len(size.terms) == 1 and coefficient == 1 and len(monomial) == 1
    return str(size) if lone and not isinstance(monomial[0], Floor) else f"({size})"
