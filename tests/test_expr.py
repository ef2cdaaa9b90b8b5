"""Size expressions: the arithmetic of Expr is that of Python's integers under every binding."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscope.expr import (
    Expr,
    Size,
    Worked,
    at_least,
    bind,
    ceil_div,
    exact_div,
    floor,
    floor_div,
    lower_bound,
    maximum,
    minimum,
    product,
    symbol,
    symbols,
    worked_min,
    worked_product,
)

H, W, N = symbol("H"), symbol("W"), symbol("N")


def window(size: Size, kernel: int, pad: int, stride: int) -> Size:
    """The formula of a convolution's output size."""
    return (size + 2 * pad - kernel) // stride + 1


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (H, "H"),
        (H + 0, "H"),
        (H - H, "0"),
        (2 * H + 3 - H, "H + 3"),
        (3 - H, "-H + 3"),
        (H * W * N, "H*N*W"),
        ((H + 1) * (H - 1), "H*H - 1"),
        (H // 2, "H//2"),
        ((2 * H) // 2, "H"),
        ((4 * H + 2) // 4, "H"),
        ((H + 4) // 2, "(H + 4)//2"),
        ((H // 2) // 2, "H//4"),
        (((H - 1) // 2) // 3 + 1, "(H + 5)//6"),
        ((2 * (H // 3) + 1) // 2, "H//3"),
        (-H // 2, "(-H)//2"),
        (H % 2, "H - 2*(H//2)"),
        (N * (H // 2), "N*(H//2)"),
        (H // W, "H//W"),
        (symbol("batch size") + 1, "batch size + 1"),
        (8 * N * (H - 2) * (W - 3), "8*N*(H - 2)*(W - 3)"),
        (N * ((H - 3) // 4) * ((W - 3) // 4), "N*((H - 3)//4)*((W - 3)//4)"),
        (5 * N * (H - 1) * (W - 1) + 3 * N * (H // 2 + 1) + 7, "5*N*(H - 1)*(W - 1) + 3*N*((H + 2)//2) + 7"),
        (symbol("?") * 2, "2*?"),
        (symbol("dim-1") - 1, "dim-1 - 1"),
    ],
)
def test_canonical_text(size: Size, text: str) -> None:
    assert str(size) == text


def test_equal_sizes_compare_equal_however_they_were_made() -> None:
    assert 1 + N == N + 1
    assert hash((H + 1) // 2) == hash(ceil_div(H, 2))
    assert (H // 2) // 3 == H // 6
    assert (H - 2) // 2 == H // 2 - 1


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        # kernel, pad, stride of every stage; the closed forms of the papers' networks, worked by hand
        (
            [(11, 2, 4), (3, 0, 2), (5, 2, 1), (3, 0, 2), (3, 1, 1), (3, 0, 2)],
            "(H - 31)//32",
        ),  # AlexNet's feature map
        ([(3, 1, 1), (2, 0, 2)] * 5, "H//32"),  # VGG
        ([(5, 0, 1), (2, 0, 2), (5, 0, 1), (2, 0, 2)], "(H - 12)//4"),  # LeNet-5
        (
            [(5, 0, 1), (2, 0, 2), (5, 0, 1), (2, 0, 2), (5, 0, 1)],
            "(H - 28)//4",
        ),  # LeNet-5, head as convolution
    ],
)
def test_whole_networks_collapse_into_one_floor(layers: list[tuple[int, int, int]], text: str) -> None:
    size: Size = H
    for kernel, pad, stride in layers:
        size = window(size, kernel, pad, stride)
    assert str(size) == text


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (6 * H * W, 2 * W, 3 * H),
        ((H + 1) * (W + 2), H + 1, W + 2),
        (N * 256 * (H // 2), N * (H // 2), 256),
        (H, W, None),
        (H + 1, 2, None),
        (7, 2, None),
        (0, H, 0),
    ],
)
def test_exact_division(left: Size, right: Size, expected: Size | None) -> None:
    assert exact_div(left, right) == expected


def test_division_by_zero_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        floor_div(H, 0)
    with pytest.raises(ZeroDivisionError):
        floor_div(4, 0)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (H, 1, True),
        (H, 2, False),
        (H, H // 2, True),
        (H // 2, H, False),
        (H // 2 + 1, (H - 1) // 2, True),
        (H - H // 3, 0, True),
        (2 * H * W, H * W, True),
        (symbol("boxes", invented=True), 1, False),
        (symbol("boxes", invented=True), 0, True),
        (minimum(H, 7), 1, True),
        (7, minimum(H, 7), True),
        (maximum(H, 7), 7, True),
    ],
)
def test_at_least(left: Size, right: Size, expected: bool) -> None:
    assert at_least(left, right) is expected


def test_minima_and_maxima_are_decided_where_they_can_be() -> None:
    assert minimum(3, 5) == 3
    assert maximum(0, H - 1) == H - 1
    assert minimum(H // 2 + 1, (H - 1) // 2 + 1) == (H - 1) // 2 + 1
    assert str(minimum(H, W)) == "min(H, W)"
    assert str(maximum(H, 5)) == "max(5, H)"
    assert bind(maximum(H, 5), {"H": 9}) == 9
    assert minimum(H, W) == minimum(W, H)


def test_rational_sizes_between_a_product_and_a_floor() -> None:
    half = H * Fraction(1, 2)
    assert str(half) == "(1/2)*H"
    assert floor(half) == H // 2
    assert half * 2 == H
    assert floor(Fraction(7, 2)) == 3
    assert floor(half + Fraction(1, 2)) == (H + 1) // 2


def test_symbols_are_found_inside_floors_and_minima() -> None:
    assert {s.name for s in symbols(N * (H // 2) + minimum(W, 3))} == {"N", "H", "W"}
    assert symbols(7) == frozenset()


def test_binding_a_symbol_by_another_renames_it() -> None:
    assert bind(H // 2, {"H": W}) == W // 2


# --- the property that everything rests on: Expr arithmetic is integer arithmetic ---

Pair = tuple[Size, int]
VALUES = {"H": 37, "W": 11, "N": 2}


@st.composite
def trees(draw: st.DrawFn, depth: int = 4) -> tuple[Size, dict[str, int], int]:
    """(expression, values, the same computed with Python's integers)."""
    values = {name: draw(st.integers(1, 60)) for name in "HWN"}

    def build(level: int) -> Pair:
        kind = draw(st.sampled_from("snnaumfcixX" if level else "sn"))
        if kind == "s":
            name = draw(st.sampled_from("HWN"))
            return symbol(name), values[name]
        if kind == "n":
            number = draw(st.integers(-9, 9))
            return number, number
        (a, x), (b, y) = build(level - 1), build(level - 1)
        if kind == "a":
            return a + b, x + y
        if kind == "u":
            return a - b, x - y
        if kind == "m":
            return a * b, x * y
        if kind in "fc":
            d = draw(st.integers(1, 8))
            return (floor_div(a, d), x // d) if kind == "f" else (ceil_div(a, d), -((-x) // d))
        if kind == "i":
            return minimum(a, b), min(x, y)
        return (maximum(a, b), max(x, y)) if kind == "x" else (floor_div(a, 7), x // 7)

    size, value = build(depth)
    return size, values, value


@given(trees())
def test_expressions_agree_with_integers(tree: tuple[Size, dict[str, int], int]) -> None:
    size, values, expected = tree
    assert bind(size, values) == expected


@given(trees())
def test_text_is_an_expression_of_the_same_value(tree: tuple[Size, dict[str, int], int]) -> None:
    size, values, expected = tree
    assert eval(str(size), {"min": min, "max": max}, values) == expected


@given(trees(), trees())
def test_bounds_are_never_above_the_value(
    left: tuple[Size, dict[str, int], int], right: tuple[Size, dict[str, int], int]
) -> None:
    size, values, expected = left
    bound = lower_bound(size)
    assert bound is None or bound <= expected
    if at_least(size, right[0]):
        assert bind(size, values) >= bind(right[0], values)  # type: ignore[operator]


@given(trees(depth=3), trees(depth=3))
def test_a_product_divides_exactly(
    left: tuple[Size, dict[str, int], int], right: tuple[Size, dict[str, int], int]
) -> None:
    a, b = left[0], right[0]
    if b != 0:
        assert exact_div(a * b, b) == a


# --- worked text ---


@pytest.mark.parametrize(
    ("worked", "text"),
    [
        (
            (Worked.of(28) + 2 * Worked.of(0) - Worked.of(1) * (Worked.of(5) - 1) - 1) // 1 + 1,
            "(28 + 2*0 - 1*(5 - 1) - 1)//1 + 1 = 24",
        ),
        ((worked_product([5, 5, 1]) + 1) * 32, "(5*5*1 + 1)*32 = 832"),
        (Worked.of(H) // 2 + 1, "H//2 + 1 = (H + 2)//2"),
        ((Worked.of(H + 1) - 1) // 2, "((H + 1) - 1)//2 = H//2"),
        (Worked.of(10) - (Worked.of(3) - 1), "10 - (3 - 1) = 8"),
        (Worked.of(10) - (Worked.of(3) + 1), "10 - (3 + 1) = 6"),
        (Worked.of(3) * (Worked.of(10) // 4), "3*(10//4) = 6"),
        (Worked.of(10) // 4 * 3, "(10//4)*3 = 6"),
        (Worked.of(5) + Worked.of(-1), "5 + (-1) = 4"),
        (worked_min(Worked.of(5) - 1, Worked.of(9)), "min(5 - 1, 9) = 4"),
        (worked_min(Worked.of(5), Worked.of(9)) + 1, "min(5, 9) + 1 = 6"),
        (Worked.of(7), "7"),
        (worked_product([]), "1"),
        (2 * Worked.of(N), "2*N"),
    ],
)
def test_worked_text(worked: Worked, text: str) -> None:
    assert str(worked) == text


@given(trees())
def test_worked_text_of_numbers_evaluates_to_its_value(tree: tuple[Size, dict[str, int], int]) -> None:
    _, values, _ = tree
    h, w = Worked.of(values["H"]), Worked.of(values["W"])
    worked = (h + 2 * w - w * (h - 1)) // 3 * 2 - (h - w)
    assert eval(worked.text) == worked.value  # the text is a Python expression of numbers made right here


def test_expressions_are_values() -> None:
    assert isinstance(H + 1, Expr)
    assert {H + 1: "a"}[1 + H] == "a"
    assert product([2, H, 3]) == 6 * H
