"""The GitHub Action and the pre-commit hook, run as their hosts would run them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1]
MNIST = ROOT / "models" / "mnist_conv.onnx"
ACTION = (ROOT / "action.yml").read_text()
HOOK = (ROOT / ".pre-commit-hooks.yaml").read_text()


@pytest.fixture
def machine(tmp_path):
    """Run a script in bash, with `onnxscope` on the path, as a runner does."""
    if not shutil.which("bash"):
        pytest.skip("no bash")
    binary = tmp_path / "bin" / "onnxscope"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m onnxscope "$@"\n')
    binary.chmod(0o755)
    shutil.copy(MNIST, tmp_path / "m n.onnx")
    files = {"GITHUB_OUTPUT": tmp_path / "output", "GITHUB_STEP_SUMMARY": tmp_path / "summary"}

    def run(script, **variables):
        path = f"{binary.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, **{key: str(value) for key, value in files.items()}, "PATH": path}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**environment, **variables},
            timeout=60,
        )

    return run


def audit_step():
    """(script of the step, names of the variables it is given, with the input each comes from)."""
    step = ACTION[ACTION.index("- name: Audit") :]
    script = dedent(step[step.index("run: |") :].partition("\n")[2])
    return script, dict(re.findall(r"(\w+): \$\{\{ inputs\.([\w-]+) \}\}", step))


def variables(**given):
    _, names = audit_step()
    return {name: given.get(source.replace("-", "_"), "") for name, source in names.items()}


def test_inputs_are_declared_and_used():
    declared = set(
        re.findall(r"^  ([\w-]+):$", ACTION[ACTION.index("inputs:") : ACTION.index("outputs:")], re.M)
    )
    used = set(re.findall(r"inputs\.([\w-]+)", ACTION))
    assert declared == used
    script, names = audit_step()
    assert "${{" not in script  # a value in the text of a script could run commands
    assert all(f"${name}" in script for name in names)


def test_action_passes_and_writes_a_summary_and_sarif(machine, tmp_path):
    done = machine(audit_step()[0], **variables(models="m n.onnx\n", sarif="found.sarif", select="OX9 OX6"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_text() == "exit-code=0\n"
    assert "# Audit" in (tmp_path / "summary").read_text()
    assert json.loads((tmp_path / "found.sarif").read_text())["version"] == "2.1.0"
    assert "onnxscope audit: m n.onnx: " in done.stdout


def test_action_fails_at_the_threshold_and_annotates(machine, tmp_path):
    (tmp_path / "strict.toml").write_text("[audit]\nmax-params = 1\n")
    given = variables(models="m n.onnx", config="strict.toml", fail_on="error", ignore="OX6,OX2")
    done = machine(audit_step()[0], **given)
    assert done.returncode == 1
    assert (tmp_path / "output").read_text() == "exit-code=1\n"
    assert done.stdout.startswith("::error file=m n.onnx,title=OX901 params-over-budget::")


def test_action_tells_an_unreadable_model(machine, tmp_path):
    done = machine(audit_step()[0], **variables(models="nope.onnx"))
    assert done.returncode == 3
    assert (tmp_path / "output").read_text() == "exit-code=3\n"


def test_action_takes_names_as_names(machine, tmp_path):
    done = machine(audit_step()[0], **variables(models="$(touch owned)\n--fail-on\n`touch owned`"))
    assert done.returncode == 3
    assert not (tmp_path / "owned").exists()


def test_hook(machine):
    entry = re.search(r"entry: (.*)", HOOK)[1]
    pattern = re.search(r"files: (.*)", HOOK)[1]
    assert re.search(pattern, "models/a.onnx")
    assert re.search(pattern, "models/a.onnxtxt")
    assert not re.search(pattern, "a.onnx.txt")
    assert machine(f"{entry} 'm n.onnx' --select OX9").returncode == 0  # pre-commit appends file names
    assert machine(f"{entry} nope.onnx").returncode == 3
