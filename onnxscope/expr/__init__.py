"""Integer expressions for sizes: one object, three readings (value, canonical form, worked text).

A size is an `int` wherever all numbers are known, else an `Expr`: a polynomial over atoms (symbols, floors,
minima and maxima) kept in a canonical form, so that equal sizes compare equal. `Worked` wraps either and
remembers how it was computed, which gives the text that reports show:

>>> h = symbol("H")
>>> (h + 6 - 6 - 1)//2 + 1
Expr('(H + 1)//2')
>>> Worked.of(28) + 2*Worked.of(0) - 1
Worked('28 + 2*0 - 1 = 27')

Nested floors collapse, which turns a whole CNN into one closed form:

>>> (h//2 - 3)//2
Expr('(H - 6)//4')

Symbols stand for sizes and are taken to be at least 1 (an invented one, for a size that depends on data, at
least 0); this decides minima and maxima where it can. Names are opaque and never parsed.
Source of the floor rules: Graham, Knuth, Patashnik, Concrete Mathematics, section 3.2.
"""

from __future__ import annotations

from onnxscope.expr.bounds import (
    at_least,
    bind,
    larger_of,
    lower_bound,
    maximum,
    minimum,
    symbols,
)
from onnxscope.expr.polynomial import (
    Coefficient,
    Expr,
    Extremum,
    Floor,
    Monomial,
    Size,
    Symbol,
    TooComplex,
    ceil_div,
    constant_of,
    exact_div,
    floor,
    floor_div,
    integers,
    product,
    size_from,
    symbol,
    terms_of,
)
from onnxscope.expr.worked import (
    Worked,
    worked_min,
    worked_product,
)

__all__ = [
    "Coefficient",
    "Expr",
    "Extremum",
    "Floor",
    "Monomial",
    "Size",
    "Symbol",
    "TooComplex",
    "Worked",
    "at_least",
    "bind",
    "ceil_div",
    "constant_of",
    "exact_div",
    "floor",
    "floor_div",
    "integers",
    "larger_of",
    "lower_bound",
    "maximum",
    "minimum",
    "product",
    "size_from",
    "symbol",
    "symbols",
    "terms_of",
    "worked_min",
    "worked_product",
]
