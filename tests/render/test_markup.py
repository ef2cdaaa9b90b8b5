"""JSON, CSV, Markdown and HTML: whatever a name holds, the form stays whole."""

import csv as reader
import io
import json as parser
from html.parser import HTMLParser

import pytest
from sample_documents import SAMPLES, mnist, odd

from onnxscope.render.csv import csv
from onnxscope.render.json import json
from onnxscope.render.markdown import code, escaped, markdown
from onnxscope.render.notebook import notebook


@pytest.mark.parametrize("sample", SAMPLES)
def test_json_is_the_document(sample):
    document = SAMPLES[sample]()
    written = json(document)
    assert parser.loads(written) == document
    assert list(parser.loads(written)) == list(document)
    assert written.isascii()


def test_json_has_a_line_per_layer():
    layers = [line for line in json(mnist()).split("\n") if '"kernel": ' in line and '"op": ' in line]
    assert [parser.loads(line.rstrip(","))["name"] for line in layers[:2]] == ["conv1", "pool1"]
    assert len(layers) == 6


def test_json_refuses_what_is_no_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json({"x": float("nan")})


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("sample", SAMPLES)
def test_csv_rows_have_one_cell_per_column(sample, explain):
    header, *rows = reader.reader(io.StringIO(csv(SAMPLES[sample](), explain=explain)))
    assert rows
    assert {len(row) for row in rows} == {len(header)}


def test_csv_columns_add_up():
    rows = list(reader.DictReader(io.StringIO(csv(mnist()))))
    assert sum(int(row["params"]) for row in rows) == 217_706
    assert sum(int(row["weight"]) + int(row["bias"]) for row in rows) == 217_706
    assert sum(int(row["macs"]) for row in rows) == 1_589_760
    assert sum(int(row["bytes"]) for row in rows) == 870_824
    assert rows[0]["output_shape"] == "[1, 32, 24, 24]"


def test_csv_tells_unknown_from_zero():
    rows = list(reader.DictReader(io.StringIO(csv(odd()))))
    assert (rows[1]["macs"], rows[1]["params"]) == ("", "0")


def test_csv_holds_no_control_characters():
    assert "\x1b" not in csv(odd())


def cells(line):
    """Cells of a Markdown table row: bars behind a backslash don't divide."""
    return line.replace("\\|", "").strip("|").split("|")


@pytest.mark.parametrize("sample", SAMPLES)
def test_markdown_tables_have_straight_columns(sample):
    count = 0
    for line in markdown(SAMPLES[sample](), explain=True).split("\n"):
        if not line.startswith("|"):
            count = 0
            continue
        count = count or len(cells(line))
        assert len(cells(line)) == count


def test_markdown_sums():
    total = next(line for line in markdown(mnist()).split("\n") if line.startswith("| total"))
    assert [cell.strip() for cell in cells(total)[4:]] == ["217,706", "1,589,760"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a_b", "`a_b`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("a``b|c", "```a``b\\|c```"), ("", "")],
)
def test_markdown_code(name, expected):
    assert code(name) == expected


def test_markdown_text_is_escaped():
    assert escaped("<b>*x* [a](b) `c`") == "\\<b\\>\\*x\\* \\[a\\](b) \\`c\\`"


def test_markdown_windows_of_free_sizes_are_escaped():
    """A SAME pad of a free size is an expression with stars, and a symbol may hold a bar."""
    document = mnist()
    document["layers"][0] |= {"pads": ["2*H", "a|b", "2*H", "a|b"]}
    row = next(line for line in markdown(document).split("\n") if "`conv1`" in line)
    assert "5x5 p2\\*H,a\\|b" in row


def test_markdown_formulas_only_when_asked():
    assert "(5*5*1 + 1)*32 = 832" in markdown(mnist(), explain=True)
    assert "832 =" not in markdown(mnist())
    assert "= 832" not in markdown(mnist())


class Tags(HTMLParser):
    """Checks that every tag is closed in order, and collects the names of tags and their attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen |= {tag} | {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("sample", SAMPLES)
def test_notebook_html_is_whole_and_safe(sample):
    document = SAMPLES[sample]()
    document["layers"][0]["name"] = '<script>alert("1")</script>'
    document["model"]["path"] = "<img src=x onerror=alert(1)>"
    document["problems"] = [{"where": "<b>", "message": "<svg/onload=1>"}]
    tags = Tags()
    tags.feed(notebook(document))
    tags.close()
    assert tags.open == []
    assert tags.seen <= {"div", "p", "b", "table", "tr", "th", "td", "ul", "li", "style"}


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+x", "'+x"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("a=1", "a=1"),
    ],
)
def test_csv_holds_nothing_that_a_spreadsheet_runs(name, cell):
    document = mnist()
    document["layers"][0]["name"] = name
    assert next(reader.DictReader(io.StringIO(csv(document))))["name"] == cell
