"""The text report: widths, sums, and what it leaves out without saying less."""

import re

import pytest
from sample_documents import SAMPLES, layer, mnist, odd, params

from onnxscope.render import words
from onnxscope.render.markdown import markdown
from onnxscope.render.table import total_width
from onnxscope.render.text import text
from onnxscope.render.words import display_width

RULE = re.compile(r"^-+$")


def rows(report):
    """Lines of the table, between its rules, and the total line."""
    lines = report.split("\n")
    first, second = [place for place, line in enumerate(lines) if RULE.match(line)]
    return lines[first + 1 : second], lines[second + 1]


def column(report, title, lines):
    """The numbers that end where the title ends."""
    header = next(line for line in report.split("\n") if line.startswith("layer"))
    end = header.index(title) + len(title)
    found = [re.search(r"[\d,]+$|-$|\?$", line[:end]) for line in lines]
    return [0 if match[0] in "-?" else int(match[0].replace(",", "")) for match in found if match]


@pytest.mark.parametrize("width", [60, 70, 80, 100, 132, 200])
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("explain", [False, True])
def test_no_line_is_wider_than_asked(sample, width, explain):
    report = text(SAMPLES[sample](), width=width, explain=explain)
    assert max(map(display_width, report.split("\n"))) <= width
    assert not any(line != line.rstrip() for line in report.split("\n"))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_columns_add_up_to_the_totals(width):
    report = text(mnist(), width=width)
    lines, total = rows(report)
    assert column(report, "params", lines) == [832, 0, 9_248, 0, 205_056, 2_570]
    assert sum(column(report, "params", lines)) == column(report, "params", [total])[0] == 217_706
    assert sum(column(report, "MACs", lines)) == column(report, "MACs", [total])[0] == 1_589_760


def test_a_wide_terminal_shows_more():
    narrow, wide = text(mnist(), width=60), text(mnist(), width=120)
    assert "receptive field" not in narrow
    assert "receptive field  input" in wide
    assert "12 /4 @0" in wide


def test_a_shared_factor_moves_to_the_title_where_space_is_short():
    document = mnist()
    document["layers"] = [
        layer(
            f"a_name_of_a_layer_{i}", "Conv", "conv", ["batch", 64, 112, 112], params=params(9, 0), macs=macs
        )
        for i, macs in enumerate(("123456789*batch", 0, "5*batch"))
    ]
    document["totals"] |= {"macs": "123456794*batch", "trainable_params": 27}
    wide, narrow = text(document, width=100), text(document, width=65)
    assert "[batch, 64, 112, 112]" in wide
    assert "123,456,789*batch" in wide
    assert "batch x output" in narrow
    assert "batch x MACs" in narrow
    assert column(narrow, "MACs", rows(narrow)[0]) == [123_456_789, 0, 5]


def test_a_sum_is_no_factor():
    document = mnist()
    document["layers"] = [layer("n" * 30, "Conv", "conv", ["N", 1], macs="3*N*H - 5*N + 2*H")]
    document["totals"]["macs"] = "3*N*H - 5*N + 2*H"
    assert " x MACs" not in text(document, width=60)


def test_torch_names_lose_what_the_table_says_elsewhere():
    document = mnist()
    names = ["/layer1/layer1.0/conv1/Conv", "/layer1/layer1.0/add/Conv", "/layer1/layer1.0/add/Relu"]
    document["layers"] = [layer(name, "Conv", "conv", [1, 64, 112, 112], macs=10**14) for name in names]
    lines, _ = rows(text(document, width=68))
    assert [line.split()[0] for line in lines] == ["layer1.0.conv1", "layer1.0.add", "layer1.0.add.Relu"]


def test_a_brief_name_never_stands_for_two_layers():
    document = mnist()
    names = ["/layer1/layer1.0/conv/Conv", "/layer1/0/conv/Conv", "layer1.0.conv"]
    document["layers"] = [layer(name, "Conv", "conv", [1, 64, 112, 112], macs=10**14) for name in names]
    lines, _ = rows(text(document, width=68))
    assert len({line.split()[0] for line in lines}) == 3


def test_long_symbols_get_short_names_and_a_legend():
    report = text(odd(), width=200)
    assert "sizes   N = batch, H = input_height, W = input_width" in report
    assert "[N, 16, (H + 1)//2, (W + 1)//2]" in report
    assert "smallest input  H 1, W 1" in report


def test_a_name_that_is_also_a_symbol_is_left_alone():
    document = odd()
    document["layers"][0]["name"] = "input_height"
    document["inputs"][0]["name"] = "input_height"
    report = text(document, width=200)
    assert "\ninput_height  " in report
    assert "input   input_height" in report


def test_short_names_don_t_collide_with_the_model_s_own():
    document = odd()
    document["inputs"][0]["shape"] = ["H", 3, "input_height", "N"]
    assert "s1 = input_height" in text(document, width=200)


def test_alike_refusals_stand_together():
    document = mnist()
    entry = {"replaceable": False, "kernel": None, "becomes": None, "reason": "a", "share_of_params": 0.01}
    document["fully_connected"] = [entry | {"layer": f"fc{i}"} for i in range(40)]
    report = text(document, width=80)
    assert "40 layers, fc0 to fc39" in report
    assert "none can become a convolution" in report
    assert len(report.split("\n")) < 40


def test_lists_are_cut_with_a_count():
    document = mnist()
    document["problems"] = [{"where": f"n{i}", "message": "m"} for i in range(25)]
    document["fully_connected"] = [
        {
            "layer": f"fc{i}",
            "replaceable": True,
            "kernel": [1],
            "becomes": f"c{i}",
            "reason": None,
            "share_of_params": 0.01,
        }
        for i in range(23)
    ]
    report = text(document, width=80)
    assert "25 problems" in report
    assert "... and 5 more (--format json lists all)" in report
    assert "... and 3 more (--format json lists all)" in report


def test_no_layers():
    assert "no layer that counts (--all-ops lists every node)" in text(mnist() | {"layers": []})


def test_color_changes_no_column():
    plain, colored = text(odd(), width=80), text(odd(), width=80, color=True)
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[\d*m", "", colored) == plain
    assert "\x1b" not in plain


def test_total_width_counts_gaps():
    assert total_width([1, 2, 3]) == 10


def test_unknown_macs_are_no_lower_bound():
    document = mnist()
    document["totals"].update(macs=None, macs_coverage=0.0)
    for report in (text(document), markdown(document)):
        assert words.MACS_UNKNOWN in report
        assert "lower bound" not in report


def test_a_peak_that_free_sizes_leave_open_is_no_unknown_one():
    document = mnist()
    document["totals"].update(activation_bytes="4*H*W", peak_activation_bytes=None)
    for report in (text(document), markdown(document)):
        assert words.PEAK_OPEN in report
        assert "unknown" not in report


def test_a_node_without_input_shows_none():
    document = mnist()
    document["layers"][0] |= {"input": None, "input_shape": None}
    report = text(document, width=200)
    first = rows(report)[0][0]
    assert first.rstrip().endswith(words.field(document["layers"][0]["receptive_field"]))
