"""`onnxscope audit`, `rules` and `diff` as a user meets them: exit codes, forms, gates, folders, jobs."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope.cli.main import main
from onnxscope.documents import audit as audits

ROOT = Path(__file__).parents[1]
MNIST = ROOT / "models" / "mnist_conv.onnx"
SARIF = json.loads((ROOT / "tests" / "data" / "sarif-2.1.0-rtm.5.json").read_text())
AUDIT = json.loads((ROOT / "docs" / "audit.schema.json").read_text())
DIFF = json.loads((ROOT / "docs" / "diff.schema.json").read_text())


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Run the command in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def gemm(metadata=(), scale=1.0):
    """A Gemm of a batch that is free, without anything that a rule of the 900s finds."""
    weights = [numpy_helper.from_array(np.full((3, 4), scale, np.float32), "w")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], "g", [x], [y], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata))
    return model


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(gemm(), path)
    return path


@pytest.fixture
def budget(tmp_path):
    """A configuration under which the Gemm has one error and one warning."""
    text = '[audit]\nselect = ["OX9"]\nmax-params = 11\nopset-min = 18\nseverity = {OX905 = "warning"}\n'
    (tmp_path / "onnxscope.toml").write_text(text)


# --- exit codes and thresholds ---


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 1),
        (["--fail-on", "never"], 0),
        (["--ignore", "OX901"], 0),
        (["--ignore", "OX901", "--fail-on", "warning"], 1),
        (["--ignore", "OX901,OX905", "--fail-on", "note"], 0),
        (["--select", "opset-below-minimum"], 0),
        (["--select", "OX901"], 1),
    ],
)
def test_threshold(run, model, budget, arguments, code):
    assert run("audit", model, *arguments)[0] == code


def test_configuration_says_the_threshold(run, model, budget, tmp_path):
    other = tmp_path / "strict.toml"
    other.write_text(
        '[audit]\nselect = ["OX905"]\nopset-min = 18\nfail-on = "error"\nseverity = {OX905 = "note"}\n'
    )
    assert run("audit", model, "--config", other)[0] == 0
    assert run("audit", model, "--config", other, "--fail-on", "note")[0] == 1


def test_clean_model(run, model):
    code, out, err = run("audit", model, "--select", "OX9")
    assert (code, err) == (0, "")
    assert out == f"{model}: no findings\n"


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github", "markdown"])
def test_file_that_can_t_be_read(run, form):
    code, out, err = run("audit", "nope.onnx", "--format", form)
    assert code == 3
    assert err == "onnxscope: error: nope.onnx: no such file; check the path\n"
    assert "no such file" in out
    assert "OX002" in out


def test_wrong_calls(run, model):
    assert run("audit")[0] == 2
    code, _, err = run("audit", model, "--select", "OX9O1")
    assert code == 2
    assert "did you mean OX90" in err
    assert run("audit", model, "--config", "absent.toml")[0] == 2
    assert "known: cpu" in run("audit", model, "--target", "toaster")[2]
    assert run("audit", model, "--target", "CPUExecutionProvider,cuda", "--select", "OX9")[0] == 0
    assert run("audit", model, "--baseline", "absent.json")[0] == 2
    assert run("audit", model, "-o", model)[0] == 2
    (model.parent / "empty").mkdir()
    assert "no .onnx file" in run("audit", model.parent / "empty")[2]


def test_standard_input():
    command = [sys.executable, "-m", "onnxscope", "audit", "-", "--format", "json", "--select", "OX9"]
    found = subprocess.run(command, input=MNIST.read_bytes(), capture_output=True, cwd=ROOT, check=True)
    assert json.loads(found.stdout)["models"][0]["path"] == "-"


# --- forms ---


def test_json(run, model, budget):
    code, out, _ = run("audit", model, "--format", "json")
    document = json.loads(out)
    jsonschema.validate(document, AUDIT)
    assert code == 1
    (entry,) = document["models"]
    assert entry["summary"] == {"error": 1, "warning": 1, "note": 0}
    first = entry["findings"][0]
    assert list(first) == ["code", "name", "severity", "where", "message", "help", "data"]
    assert (first["code"], first["name"], first["severity"]) == ("OX901", "params-over-budget", "error")
    assert first["data"]["actual"] == 12


def test_sarif_is_valid_and_points_at_bytes(run, tmp_path):
    onnx.save(gemm(scale=np.nan), tmp_path / "a model.onnx")
    _code, out, _ = run("audit", "a model.onnx", "nope.onnx", "--format", "sarif", "-o", "found.sarif")
    assert out == ""
    document = json.loads((tmp_path / "found.sarif").read_text())
    jsonschema.Draft4Validator(SARIF).validate(document)
    (log,) = document["runs"]
    assert {row["ruleId"] for row in log["results"]} >= {"OX002"}
    for row in log["results"]:
        rule = log["tool"]["driver"]["rules"][row["ruleIndex"]]
        assert rule["id"] == row["ruleId"]
        assert row["level"] in ("error", "warning", "note")
        assert len(row["partialFingerprints"]["onnxscope/v1"]) == 32
    places = [row["locations"][0]["physicalLocation"] for row in log["results"]]
    assert {place["artifactLocation"]["uri"] for place in places} >= {"a%20model.onnx", "nope.onnx"}
    data = (tmp_path / "a model.onnx").read_bytes()
    named = [row for row in log["results"] if row["locations"][0].get("logicalLocations")]
    regions = [
        (
            row["locations"][0]["logicalLocations"][0]["name"],
            row["locations"][0]["physicalLocation"]["region"],
        )
        for row in named
        if "region" in row["locations"][0]["physicalLocation"]
    ]
    assert regions
    for name, region in regions:
        stretch = data[region["byteOffset"] : region["byteOffset"] + region["byteLength"]]
        assert name.encode() in stretch


def test_github_annotations_escape_what_would_end_them(run, tmp_path):
    (tmp_path / "onnxscope.toml").write_text('[audit]\nselect = ["OX906"]\nrequired-metadata = ["a%b,c:d"]\n')
    onnx.save(gemm(), tmp_path / "x,y.onnx")
    _code, out, _ = run("audit", "x,y.onnx", "--format", "github")
    line = out.splitlines()[0]
    assert line.startswith("::error file=x%2Cy.onnx,title=OX906 missing-metadata::a%25b,c:d: ")
    assert out.splitlines()[1] == "onnxscope audit: x,y.onnx: 1 error"


def test_markdown(run, model, budget):
    out = run("audit", model, "--format", "markdown")[1]
    assert "| error | OX901 params-over-budget |" in out


@pytest.mark.parametrize("columns", ["80", "200"])
def test_text_keeps_the_width(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    code, out, _ = run("audit", MNIST, "nope.onnx")
    assert code == 3
    assert max(map(len, out.splitlines())) <= int(columns)
    assert "2 models:" in out


# --- baseline and suppression ---


def test_only_new_findings_fail(run, model, budget, tmp_path):
    assert run("audit", model, "--format", "json", "-o", "known.json")[0] == 1
    code, out, _ = run("audit", model, "--baseline", "known.json", "--fail-on", "note")
    assert code == 0
    assert "2 known from the baseline" in out
    (tmp_path / "onnxscope.toml").write_text(
        '[audit]\nbaseline = "known.json"\nselect = ["OX9"]\nmax-params = 11\nrequired-metadata = ["by"]\n'
    )
    code, out, _ = run("audit", model, "--format", "json")
    entry = json.loads(out)["models"][0]
    assert code == 1
    assert [row["code"] for row in entry["findings"]] == ["OX906"]
    assert entry["known"] == 1


def test_baseline_that_is_none(run, model):
    model.with_name("b.json").write_text("[]")
    code, _, err = run("audit", model, "--baseline", "b.json")
    assert code == 2
    assert "onnxscope.audit/1" in err


def test_metadata_allows(run, tmp_path, budget):
    onnx.save(gemm({"onnxscope.ignore": "OX901"}), tmp_path / "m.onnx")
    code, out, _ = run("audit", "m.onnx", "--fail-on", "error")
    assert code == 0
    assert "1 allowed by the model's metadata" in out


# --- many models ---


def test_folder_with_a_bad_file(run, tmp_path, model):
    inner = tmp_path / "in" / "deep"
    inner.mkdir(parents=True)
    shutil.copy(model, inner / "good.ONNX")
    (tmp_path / "in" / "bad.onnx").write_bytes(b"\x08")
    (tmp_path / "in" / "note.txt").write_text("no model")
    code, out, err = run("audit", "in", "--select", "OX9", "--format", "json", "--jobs", "2")
    paths = [entry["path"] for entry in json.loads(out)["models"]]
    assert paths == ["in/bad.onnx", "in/deep/good.ONNX"]
    assert code == 3
    assert err.startswith("onnxscope: error: in/bad.onnx: ")


def test_a_thousand_models_with_one_bad_one(run, tmp_path, model):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number:04}.onnx").hardlink_to(model)
    (folder / "0500.onnx").unlink()
    (folder / "0500.onnx").write_bytes(b"not a model")
    code, out, _ = run("audit", folder, "--select", "OX9", "--format", "json", "--jobs", "2")
    entries = json.loads(out)["models"]
    assert code == 3
    assert len(entries) == 1000
    assert [entry["path"] for entry in entries if entry["findings"]] == [str(folder / "0500.onnx")]


def die(task):
    if "killer" in task.path:
        import os

        os._exit(9)
    return audits.of_model(audits.load(task.path))


def test_a_process_that_dies_costs_one_file(monkeypatch, tmp_path, model):
    from onnxscope.documents import processes

    monkeypatch.setattr(processes, "START", "fork")
    monkeypatch.setattr(processes, "of_task", die)
    tasks = [audits.Task(str(path)) for path in (model, tmp_path / "killer.onnx", model)]
    found = list(processes.spread(tasks, 2))
    codes = [{row["code"] for row in entry["findings"]} for entry in found]
    assert ["OX002" in each for each in codes] == [False, True, False]
    assert "ended suddenly" in found[1]["findings"][0]["message"]


def test_processes_that_die_leave_the_others_a_pool(monkeypatch, tmp_path, model):
    from onnxscope.documents import processes

    made = []

    def counted(jobs, context):
        made.append(jobs)
        return ProcessPoolExecutor(jobs, context)

    monkeypatch.setattr(processes, "START", "fork")
    monkeypatch.setattr(processes, "of_task", die)
    monkeypatch.setattr(processes, "ProcessPoolExecutor", counted)
    names = [tmp_path / "killer.onnx" if place in (3, 20) else model for place in range(40)]
    found = list(processes.spread([audits.Task(str(name)) for name in names], 2))
    dead = [
        place for place, entry in enumerate(found) if any(r["code"] == "OX002" for r in entry["findings"])
    ]
    assert dead == [3, 20]
    assert len(found) == 40
    assert made.count(2) <= 5  # at first, and after each of the dead
    assert made.count(1) <= 4 * (2 * 2 + 1)  # what was under way beside them


# --- rules ---


def test_rules(run):
    code, out, _ = run("rules")
    assert code == 0
    assert "OX901" in out
    assert "What it flags" in run("rules", "params-over-budget")[1]
    assert (
        json.loads(run("rules", "OX901", "--format", "json")[1])["rules"][0]["name"] == "params-over-budget"
    )
    assert run("rules", "OX9", "--format", "markdown")[1].count("\n| OX90") == 7
    assert run("rules", "OX000")[0] == 2


# --- diff ---


def test_diff(run, tmp_path, model):
    other = gemm(scale=1.5)
    other.graph.node[0].name = "renamed"
    onnx.save(other, tmp_path / "n.onnx")
    code, out, _ = run("diff", "m.onnx", "n.onnx", "--format", "json")
    document = json.loads(out)
    jsonschema.validate(document, DIFF)
    assert code == 0
    assert document["equal"] is False
    assert document["nodes"] == {"paired": 1, "renamed": 1, "added": [], "removed": [], "changed": []}
    (row,) = document["weights"]["changed"]
    assert (row["changed"], row["elements"], row["max_change"]) == (12, 12, 0.5)
    assert run("diff", "m.onnx", "n.onnx", "--exit-code")[0] == 1
    assert run("diff", "m.onnx", "m.onnx", "--exit-code")[0] == 0
    assert "12 of 12" in run("diff", "m.onnx", "n.onnx")[1]
    assert "| w | float32" in run("diff", "m.onnx", "n.onnx", "--format", "markdown")[1]
    assert run("diff", "m.onnx", "nope.onnx")[0] == 3
