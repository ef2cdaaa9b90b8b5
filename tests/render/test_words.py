"""Numbers, shapes and names as people read them."""

import pytest
from sample_documents import field, layer, window

from onnxscope.render import words


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, "?"),
        (0, "0"),
        (1234567, "1,234,567"),
        ("15346630656*batch + 1000", "15,346,630,656*batch + 1,000"),
        ("12*dim_1000 + x1000", "12*dim_1000 + x1000"),  # digits of a name are no number
    ],
)
def test_number(size, expected):
    assert words.number(size) == expected


def test_a_zero_in_a_table_is_a_dash():
    assert (words.count(0), words.count(None), words.count(7)) == ("-", "?", "7")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, "unknown"),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (4 * 10**24, "4.0 YB"),
        (10**400, "1.0e+400 B"),  # beyond any float
        ("4096*N", "4,096*N bytes"),
    ],
)
def test_size_in_bytes(size, expected):
    assert words.size_in_bytes(size) == expected


@pytest.mark.parametrize(
    ("sizes", "loose", "tight"),
    [
        (None, "?", "?"),
        ([], "[]", "[]"),
        ([1, 64, "H", "W"], "[1, 64, H, W]", "[1,64,H,W]"),
        (["N", "(H + 1)//2"], "[N, (H + 1)//2]", "[N,(H + 1)//2]"),
    ],
)
def test_shape(sizes, loose, tight):
    assert words.shape(sizes) == loose
    assert words.shape(sizes, tight=True) == tight


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ""),
        (window(3), "3x3"),
        (window(7, 2, 3) | {"group": 1}, "7x7 s2 p3"),
        (window(3, 1, 1) | {"group": 32}, "3x3 p1 g32"),
        (window(2, 2) | {"strides": [2, 1]}, "2x2 s2,1"),
        (window(3) | {"pads": [0, 1, 0, 1]}, "3x3 p0,1"),
        (window(3) | {"pads": [0, 0, 1, 1]}, "3x3 p0,0,1,1"),  # begins, then ends
        (window(3) | {"dilations": [2, 2]}, "3x3 d2"),
        ({"kernel": [5], "strides": [1], "pads": [2, 2], "dilations": [1]}, "5 p2"),
        ({"kernel": ["K", 3], "strides": [1, 1], "pads": ["p", 0, "p", 0], "dilations": [1, 1]}, "Kx3 pp,0"),
    ],
)
def test_window(more, expected):
    assert words.window(layer("n", "Conv", "conv", [1], **more)) == expected


def test_receptive_field():
    assert words.field(None) == ""
    assert words.field(field(212, 32, -90)) == "212 /32 @-90"
    assert words.field({"size": [10, 8], "stride": [4, "1/2"], "start": [-3, -3]}) == "10,8 /4,1/2 @-3"


@pytest.mark.parametrize("code", [0x00, 0x07, 0x1B, 0x7F, 0x9B, 0x200B, 0x202E, 0x2028, 0xD800, 0xE000])
def test_nothing_that_a_terminal_acts_on_comes_through(code):
    cleaned = words.clean(f"a{chr(code)}b")
    assert chr(code) not in cleaned
    assert cleaned.startswith("a\\")
    assert cleaned.endswith("b")


def test_other_text_stays_as_it_is():
    assert words.clean("図/conv-1 é") == "図/conv-1 é"


def test_only_own_domain_is_left_unnamed():
    assert words.opsets({"ai.onnx": 13, "a": 1, "b": 2, "c": 3}) == "13, 3 other domains"
    assert words.opsets({"com.microsoft": 1}) == "com.microsoft 1"
    assert words.opsets({}) == "unknown"
