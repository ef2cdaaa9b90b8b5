"""What the runner does with rules: OX001 where one stops; order, choice and severities of findings."""

import onnx.parser
import pytest

from onnxscope.checks import registry, runner
from onnxscope.checks.registry import RuleInfo, chosen, find
from onnxscope.checks.runner import Context, audit, run_rule, selected
from onnxscope.checks.settings import Settings
from onnxscope.errors import UsageError
from onnxscope.files.read import loads

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) { y = Relu(x) }
"""


def model():
    return loads(onnx.parser.parse_model(TEXT).SerializeToString(), "m.onnx")


def rule(code, name, severity, function, wants=()):
    return RuleInfo(code, name, severity, function, wants)


def test_rule_that_raises_is_a_finding_and_the_others_go_on(monkeypatch):
    def broken(graph):
        yield find("OX001").finding("", "never seen")
        raise ZeroDivisionError("oh")

    fine = rule(
        "OX999", "fine", "note", lambda: iter([rule("OX999", "fine", "note", None).finding("y", "ok")])
    )
    bad = rule("OX998", "bad", "error", broken, ("graph",))
    monkeypatch.setattr(runner, "rules", lambda: (bad, fine))
    found = audit(Context(model()))
    assert [finding.code for finding in found] == ["OX001", "OX001", "OX999"]
    assert "OX998" in found[1].message
    assert "ZeroDivisionError: oh" in found[1].message


def test_fact_that_can_t_be_worked_out_is_told_once(monkeypatch):
    def broken(model, dims):
        raise ValueError("no facts")

    monkeypatch.setattr(runner, "infer", broken)
    table = tuple(rule(f"OX98{i}", f"r{i}", "note", lambda facts: iter(()), ("facts",)) for i in range(5))
    monkeypatch.setattr(runner, "rules", lambda: table)
    (found,) = audit(Context(model()))
    assert "ValueError: no facts" in found.message


def test_findings_are_ordered_by_severity_then_code_then_file(monkeypatch):
    def some(code, severity, *places):
        info = rule(code, code.lower(), severity, None)
        return rule(code, code.lower(), severity, lambda: iter([info.finding(at, "m") for at in places]))

    table = (some("OX991", "note", "a"), some("OX992", "error", "z", "b"), some("OX993", "error", "a"))
    monkeypatch.setattr(runner, "rules", lambda: table)
    found = [(finding.code, finding.where) for finding in audit(Context(model()))]
    assert found == [("OX992", "z"), ("OX992", "b"), ("OX993", "a"), ("OX991", "a")]


def test_target_rules_run_once_per_target():
    def each(target):
        yield info.finding(target, "m")

    info = rule("OX990", "each", "note", each, ("target",))
    assert run_rule(info, Context(model())) == []
    found = run_rule(info, Context(model(), Settings(targets=("cpu", "cuda"))))
    assert [finding.where for finding in found] == ["cpu", "cuda"]


@pytest.mark.parametrize(
    ("select", "ignore", "code", "runs"),
    [
        ((), (), "OX901", True),
        (("OX9",), (), "OX901", True),
        (("OX9",), (), "OX002", False),
        (("params-over-budget",), (), "OX901", True),
        ((), ("ox9",), "OX901", False),
        (("OX901",), ("OX9",), "OX901", True),  # the closer pattern wins
        (("OX9",), ("OX901",), "OX901", False),
        (("OX901",), ("params-over-budget",), "OX901", False),  # equally close: ignored
    ],
)
def test_choice(select, ignore, code, runs):
    codes = {info.code for info in selected(Settings(select=select, ignore=ignore))}
    assert (code in codes) == runs


def test_rules_that_are_no_default_run_by_their_own_code(monkeypatch):
    info = RuleInfo("OX989", "rare", "note", None, (), default=False)
    monkeypatch.setattr(runner, "rules", lambda: (info,))
    choices = ((), ("OX9",), ("OX989",), ("rare",))
    assert [selected(Settings(select=select)) for select in choices] == [[], [], [info], [info]]


def test_severity_of_the_closest_pattern_counts():
    from onnxscope.checks.settings import Budget

    settings = Settings(
        severity={"OX9": "note", "OX905": "warning"},
        budget=Budget(opset_min=18, required_metadata=("author",)),
        select=("OX9",),
    )
    found = {finding.code: finding.severity for finding in audit(Context(model(), settings))}
    assert found == {"OX905": "warning", "OX906": "note"}


def test_weights_are_not_read_unless_a_rule_wants_them():
    context = Context(model())
    run_rule(find("OX905"), context)
    assert "weights" not in context.__dict__
    assert "facts" not in context.__dict__


def test_unknown_code_names_a_near_one():
    with pytest.raises(UsageError, match="OX901"):
        chosen("OX9O1")
    assert [info.code for info in chosen("params-over-budget")] == ["OX901"]


def test_every_rule_module_is_found():
    assert {info.code for info in registry.rules()} >= {"OX001", "OX002", "OX901"}
