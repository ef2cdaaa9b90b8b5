"""docs/rules is what the docstrings say. `python tests/checks/test_pages.py` writes it again."""

import re
from pathlib import Path

import pytest

from onnxscope import checks
from onnxscope.checks.registry import rules as registered
from onnxscope.documents.rules import rules
from onnxscope.render.rules import index, page

FOLDER = Path(__file__).parents[2] / "docs" / "rules"


def wanted():
    document = rules()
    pages = {f"{rule['code']}.md": page(rule) for rule in document["rules"]}
    return {"README.md": index(document), **pages}


@pytest.mark.parametrize("name", sorted(wanted()))
def test_page_is_up_to_date(name):
    path = FOLDER / name
    assert path.exists(), "run: python tests/checks/test_pages.py"
    assert path.read_text() == wanted()[name], "run: python tests/checks/test_pages.py"


def test_no_page_without_a_rule():
    assert {path.name for path in FOLDER.iterdir()} == set(wanted())


def test_the_package_says_where_rules_are():
    """Its docstring's table: first digit of the code -> the files that hold such rules."""
    table = dict(re.findall(r"^    OX(\d)  (\w+(?:, \w+)*) ", checks.__doc__, re.MULTILINE))
    files = {(rule.code[2], rule.function.__module__.split(".rules_")[1]) for rule in registered()}
    homes = {(digit, file.split("_")[0]) for digit, file in files}
    assert homes == {(digit, word) for digit, words in table.items() for word in words.split(", ")}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for file_name, text in wanted().items():
        (FOLDER / file_name).write_text(text)
