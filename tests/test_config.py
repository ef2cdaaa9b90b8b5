"""The audit's configuration: where it is found, what it may hold, what goes before what."""

import pytest

from onnxscope.checks.settings import Budget, Settings
from onnxscope.config import read
from onnxscope.errors import UsageError


def write(folder, text, name="onnxscope.toml"):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_nearest_file_counts(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(tmp_path, '[tool.onnxscope.audit]\nfail-on = "note"\n', "pyproject.toml")
    assert read(folder=inner).fail_on == "note"
    write(tmp_path / "a", '[project]\nname = "other"\n', "pyproject.toml")  # has no table: the next one above
    assert read(folder=inner).fail_on == "note"
    write(inner, '[audit]\nfail-on = "never"\n')
    assert read(folder=inner).fail_on == "never"


def test_budgets_and_amounts(tmp_path):
    text = """[audit]
max-params = "25M"
max-macs = "4.25 G"
max-bytes = 100
opset-min = 13
required-metadata = ["author"]
"""
    found = read(write(tmp_path, text)).settings("m.onnx").budget
    assert found == Budget(25_000_000, 4_250_000_000, 100, None, 13, ("author",))


def test_overrides_by_pattern_and_options_first(tmp_path):
    text = """[audit]
ignore = ["OX5"]
target = ["CUDA"]
severity = {OX301 = "error", OX302 = "note"}
[[audit.overrides]]
models = ["legacy/*.onnx"]
ignore = ["OX105"]
opset-min = 9
severity = {OX302 = "warning"}
"""
    config = read(write(tmp_path, text))
    plain = config.settings(str(tmp_path / "m.onnx"))
    legacy = config.settings(str(tmp_path / "legacy" / "m.onnx"))
    assert (plain.ignore, plain.targets, plain.budget.opset_min) == (("OX5",), ("cuda",), None)
    assert legacy.ignore == ("OX5", "OX105")
    assert legacy.severity == {"OX301": "error", "OX302": "warning"}
    assert legacy.budget.opset_min == 9
    given = config.settings("m.onnx", Settings(select=("OX3",), targets=("cpu",)))
    assert (given.select, given.targets) == (("OX3",), ("cpu",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[audit]\nfail_on = 1\n", "did you mean 'fail-on'"),
        ('[audit]\nfail-on = "bad"\n', "fail-on must be one of error, warning, note, never"),
        ("[audit]\nselect = 3\n", "select must be a list of texts"),
        ('[audit]\nmax-params = "many"\n', "max-params must be a whole number"),
        ('[audit]\nseverity = {OX1 = "fatal"}\n', "severity must be a table"),
        ('[audit]\ntarget = ["toaster"]\n', "unknown target 'toaster'; known: cpu"),
        ("[audit]\njobs = -1\n", "jobs must be a whole number"),
        ("[[audit.overrides]]\nignore = []\n", "an override needs models"),
        ('[[audit.overrides]]\nmodels = ["*"]\njobs = 2\n', "unknown key 'jobs'"),
        ("[other]\n", "there is no table for the audit"),
        ("[audit\n", "this is no TOML"),
    ],
)
def test_mistakes(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read(write(tmp_path, text))


def test_no_file_at_all(tmp_path):
    assert read(folder=tmp_path / "nowhere").settings("m.onnx") == Settings()
    with pytest.raises(UsageError, match="can't be read"):
        read(str(tmp_path / "absent.toml"))
