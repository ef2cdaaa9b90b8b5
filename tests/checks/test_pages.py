"""docs/rules is what the docstrings say. `python tests/checks/test_pages.py` writes it again."""

from pathlib import Path

import pytest

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


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for file_name, text in wanted().items():
        (FOLDER / file_name).write_text(text)
