"""Einsum: sums of products written as an equation.

Source: ONNX Operators.md, Einsum-12, -28; numpy's einsum, whose notation it follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from onnxscope.expr import Size, worked_product
from onnxscope.ops._broadcast import broadcast
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered, one


@op("Einsum", since=12, multiplies=True)
def einsum(n: View, *, equation: str = "") -> Inferred:
    """Output[out] = sum over all other indices of the product of the inputs, for "in0,in1,...->out".

    Without "->" the output has the ellipsis axes, then every letter that occurs once, in ASCII order. MACs:
    the sizes of all distinct indices multiplied, ellipsis axes included, where two or more inputs are
    multiplied and an index is summed; it is the count of one pass over all indices, and no smaller
    intermediate results are assumed. Otherwise nothing is accumulated and there are none. Source: Einsum-28.
    """
    terms, out = parse(equation)
    shapes = [n.shape(i) for i in range(len(n.inputs))]
    if len(terms) != len(shapes):
        raise Unanswered(f"the equation {equation!r} has {len(terms)} terms for {len(shapes)} inputs")
    letters, ellipsis = _sizes(terms, shapes)
    if set(out) - set(letters) - {"."}:
        raise Unanswered(f"the output of {equation!r} has an index that no input has")
    y = tuple(size for letter in out for size in (ellipsis if letter == "." else (letters[letter],)))
    summed = set(letters) - set(out) or (ellipsis and "." not in out)
    if len(terms) < 2 or not summed:
        return one(y, n.dtype(0))
    return one(y, n.dtype(0), macs=worked_product((*ellipsis, *letters.values())))


def parse(equation: str) -> tuple[list[str], str]:
    """The input terms and the output term, the ellipsis as one ".". Raises Unanswered for another notation.

    >>> parse("b i d, j d"), parse("...ij->...ji")
    ((['bid', 'jd'], 'bij'), (['.ij'], '.ji'))
    """
    left, arrow, right = equation.replace(" ", "").replace("...", ".").partition("->")
    terms = left.split(",")
    if not arrow:
        counts = Counter(letter for term in terms for letter in term if letter != ".")
        once = sorted(letter for letter, count in counts.items() if count == 1)
        right = ("." if "." in left else "") + "".join(once)
    for term in (*terms, right):
        if not all(letter.isalpha() or letter == "." for letter in term) or term.count(".") > 1:
            raise Unanswered(f"the equation {equation!r} is not in einsum's notation")
    if len(set(right)) < len(right):
        raise Unanswered(f"the output of {equation!r} names an index twice")
    return terms, right


def _sizes(terms: Sequence[str], shapes: Sequence[Shape]) -> tuple[dict[str, Size], Shape]:
    """Size per letter in order of first use, and the shape of the ellipsis axes; sizes of 1 stretch."""
    letters: dict[str, Size] = {}
    ellipses: list[Shape] = []
    for term, shape in zip(terms, shapes, strict=True):
        named = len(term) - term.count(".")
        dots = len(shape) - named
        if dots < 0 or (dots and "." not in term):
            raise Unanswered(
                f"the term {term.replace('.', '...')!r} doesn't fit an input of rank {len(shape)}"
            )
        at = term.find(".")
        if at >= 0:
            ellipses.append(shape[at : at + dots])
            shape = shape[:at] + shape[at + dots :]
        for letter, size in zip(term.replace(".", ""), shape, strict=True):
            letters[letter] = broadcast((letters[letter],), (size,))[0] if letter in letters else size
    return letters, broadcast(*ellipses) if ellipses else ()
