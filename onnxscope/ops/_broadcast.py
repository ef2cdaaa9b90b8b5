"""Multidirectional broadcasting of symbolic shapes.

Not an op family: it registers nothing. Source: ONNX Broadcasting.md (numpy's rules).
"""

from __future__ import annotations

from onnxscope.expr import Size, at_least, maximum
from onnxscope.ops.value import Shape, Unanswered


def broadcast(*shapes: Shape) -> Shape:
    """The common shape of operands that are aligned at their last axes; sizes of 1 stretch.

    Along an axis a valid model has equal sizes and ones, so a number other than 1 decides, and so does a size
    that can't be 1; of two free symbols the larger one is right whichever of them is 1. Raises Unanswered for
    two numbers that differ.

    >>> from onnxscope.expr import symbol
    >>> broadcast((symbol("N"), 3, 1), (symbol("W"),))
    (Expr('N'), 3, Expr('W'))
    """
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(_stretched(sizes) for sizes in zip(*padded, strict=True))


def _stretched(sizes: tuple[Size, ...]) -> Size:
    found = [size for size in dict.fromkeys(sizes) if size != 1]
    numbers = [size for size in found if isinstance(size, int)]
    if len(numbers) > 1:
        raise Unanswered(
            f"sizes {' and '.join(map(str, numbers))} don't broadcast: they differ and none is 1"
        )
    if numbers or len(found) < 2:
        return (numbers or found or [1])[0]
    return next((size for size in found if at_least(size, 2)), None) or maximum(*found)


def unified(*shapes: Shape) -> Shape:
    """The shape of operands that all have the same one; per axis a number is taken before a symbol.

    Raises Unanswered for different ranks or numbers.
    """
    if len(set(map(len, shapes))) != 1:
        raise Unanswered(
            f"the operands must have one shape, their ranks are {', '.join(str(len(s)) for s in shapes)}"
        )
    return tuple(_same(sizes) for sizes in zip(*shapes, strict=True))


def _same(sizes: tuple[Size, ...]) -> Size:
    numbers = list(dict.fromkeys(size for size in sizes if isinstance(size, int)))
    if len(numbers) > 1:
        raise Unanswered(
            f"the operands must have one shape, but have sizes {' and '.join(map(str, numbers))}"
        )
    return numbers[0] if numbers else sizes[0]
