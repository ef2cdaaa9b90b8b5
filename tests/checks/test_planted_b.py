"""Defects planted into one sound network, one change at a time, and the code that must find it."""

import pytest
from planted_network import FOR_TARGETS, PLANTED, network

from onnxscope.checks.registry import find
from onnxscope.checks.runner import Context, run_rule
from onnxscope.checks.settings import Settings
from onnxscope.files.read import loads


def codes(code, model, target=""):
    read = loads(model.SerializeToString(), "planted.onnx")
    found = run_rule(find(code), Context(read, Settings(targets=(target,) if target else ())))
    return {finding.code for finding in found}


@pytest.mark.parametrize(("code", "replaced", "change"), PLANTED, ids=[row[0] for row in PLANTED])
def test_planted_defect_is_found(code, replaced, change):
    assert codes(code, network()) == set()
    assert codes(code, network(replaced, change)) == {code}


@pytest.mark.parametrize(("code", "target", "replaced"), FOR_TARGETS, ids=[row[0] for row in FOR_TARGETS])
def test_planted_defect_for_a_target(code, target, replaced):
    assert codes(code, network(), "cpu" if target == "abacus" else target) == set()
    assert codes(code, network(replaced), target) == {code}
