"""Every rule's page: its sections, and its Bad and Good run through the rules."""

from pathlib import Path

import onnx.parser
import pytest

from onnxscope.checks.pages import page_of
from onnxscope.checks.registry import rules
from onnxscope.checks.runner import Context, run_rule
from onnxscope.checks.settings import Settings
from onnxscope.files.read import loads

ROOT = Path(__file__).parents[2]
RULES = rules()
EVERY = pytest.mark.parametrize("info", RULES, ids=[f"{info.code}-{info.name}" for info in RULES])


def codes(info, example):
    """Codes that the rule and the rules about the audit find in an example."""
    model = loads(onnx.parser.parse_model(example.text).SerializeToString(), "example.onnx")
    return {finding.code for finding in run_rule(info, Context(model, Settings(targets=example.targets)))}


def named_in(test, info):
    text = (ROOT / test).read_text()
    return info.code in text or info.name in text


@EVERY
def test_bad_is_found(info):
    example = page_of(info).bad
    if example.test:
        assert named_in(example.test, info)
    else:
        assert codes(info, example) == {info.code}


@EVERY
def test_good_is_not_found(info):
    example = page_of(info).good
    if example.test:
        assert named_in(example.test, info)
    else:
        assert codes(info, example) == set()


@EVERY
def test_page_is_whole(info):
    page = page_of(info)
    assert page.summary
    assert all(page.sections.values())
    assert info.name == info.name.lower()
    assert info.code.startswith("OX")
    assert len(info.code) == 5


def test_findings_keep_the_code_of_their_rule():
    assert len({info.code for info in RULES}) == len(RULES)
