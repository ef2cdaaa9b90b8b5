"""Columns that fit, and names that stay apart."""

import pytest

from onnxscope.render.table import Column, abbreviated, fitted, lines, middle, shortened, total_width, wrapped

COLUMNS = [
    Column("layer", ("a.long.name.of.a.layer", "total"), name=True),
    Column("op", ("Conv", "")),
    Column("MACs", ("1,234,567", "1,234,567"), right=True),
]


def test_natural_widths_where_there_is_room():
    assert fitted(COLUMNS, 80, [("layer", 5)]) == [22, 4, 9]


def test_only_as_narrow_as_needed():
    widths = fitted(COLUMNS, 30, [("layer", 5), ("MACs", 5)])
    assert widths == [13, 4, 9]
    assert total_width(widths) == 30


def test_squeezes_in_order_down_to_the_least():
    assert fitted(COLUMNS, 20, [("layer", 8), ("MACs", 4)]) == [8, 4, 4]


def test_a_column_is_never_narrower_than_its_title():
    assert fitted(COLUMNS, 10, [("layer", 1), ("op", 1), ("MACs", 1)]) == [5, 2, 4]


def test_lines_are_aligned_without_trailing_spaces():
    header, rows = lines(COLUMNS, [22, 4, 9])
    assert header == "layer                   op         MACs"
    assert rows == [["a.long.name.of.a.layer  Conv  1,234,567"], ["total                         1,234,567"]]


def test_a_wrapped_cell_makes_further_lines():
    columns = [Column("x", ("[12,34,56]",)), Column("y", ("a",))]
    assert lines(columns, [7, 1]) == ("x        y", [["[12,34,  a", "56]"]])


def test_wide_characters_take_two_columns():
    columns = [Column("n", ("图像", "ab")), Column("y", ("1", "2"))]
    assert lines(columns, [4, 1])[1] == [["图像  1"], ["ab    2"]]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("[1,64,224,224]", 14, ["[1,64,224,224]"]),
        ("[1,64,224,224]", 9, ["[1,64,", "224,224]"]),
        ("432*N*((H + 1)//2)", 16, ["432*N*", "((H + 1)//2)"]),
        ("1,200*N + 3,400*M", 12, ["1,200*N", "+ 3,400*M"]),
        ("1,200,300*NAME", 9, ["1,200,300", "*NAME"]),  # never inside thousands
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("abcdefghijklmnopqrstuvwxyz", 5, ["abcde", "fghij", "klmno", "pq..."]),
    ],
)
def test_wrapped(text, width, expected):
    assert wrapped(text, width) == expected


def test_wrapped_lines_are_never_wider():
    text = "16*batch*((height + 1)//2) + 1,024*batch*((width + 31)//32) + max(batch, 7)"
    for width in range(4, 80):
        assert max(map(len, wrapped(text, width, most=40))) <= width
        assert "".join(wrapped(text, width, most=40)).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("short", 5, "short"), ("features.0.Conv", 11, "feat...Conv"), ("图像输出图像输出", 9, "图...出")],
)
def test_middle(text, width, expected):
    assert middle(text, width) == expected


def test_initials_only_as_far_as_needed():
    name = "encoder.layers.encoder_layer_10.self_attention.MatMul"
    assert abbreviated(name, 60) == name
    assert abbreviated(name, 50) == "e.layers.encoder_layer_10.self_attention.MatMul"
    assert abbreviated(name, 20) == "e.l.e10.s.MatMul"
    assert abbreviated("/a/layer2/conv", 9) == "/a/l2/conv"


def test_more_initials_where_one_isn_t_enough():
    names = ["net/conv2_block1_3_bn/mul", "net/conv3_block1_3_bn/mul"]
    assert shortened(names, 16) == ["n/c2_b1_3_b/mul", "n/c3_b1_3_b/mul"]


def test_different_names_stay_different():
    names = [f"a_very_long_name_without_parts_{i}_and_an_end" for i in range(100)]
    for width in (12, 16, 24, 60):
        short = shortened(names, width)
        assert len(set(short)) == 100
        assert max(map(len, short)) <= width


def test_equal_names_stay_equal_and_order_is_kept():
    assert shortened(["same", "other", "same"], 10) == ["same", "other", "same"]
