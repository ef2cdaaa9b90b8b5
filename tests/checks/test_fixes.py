"""The commands that findings name are run on the Bad examples: what was found is gone."""

import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import onnx
import onnx.parser
import onnxslim
import pytest

from onnxscope.checks.pages import page_of
from onnxscope.checks.registry import rules
from onnxscope.checks.runner import Context, run_rule
from onnxscope.checks.settings import Settings
from onnxscope.files.read import load

SCRIPTS = Path(sysconfig.get_path("scripts"))
FIXED = [info for info in rules() if info.fix or info.name == "free-sizes-on-target"]


def run(command, model, out):
    """As a shell would; onnxslim's command in this process, which has imported it already."""
    words = {"MODEL": str(model), "OUT": str(out), "SIZES": "1,2", "python": sys.executable}
    program, *arguments = [words.get(word, word) for word in shlex.split(command)]
    if program == "onnxslim":
        assert (SCRIPTS / program).exists()
        onnxslim.slim(*arguments)
        return
    path = program if program == sys.executable else SCRIPTS / program
    subprocess.run([path, *arguments], capture_output=True, timeout=60, check=False)


def findings(info, path):
    return run_rule(info, Context(load(path), Settings(targets=page_of(info).bad.targets)))


@pytest.mark.parametrize("info", FIXED, ids=[info.code for info in FIXED])
def test_the_command_mends_it(info, tmp_path):
    model, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save_model(onnx.parser.parse_model(page_of(info).bad.text), model)
    (found, *_) = findings(info, model)
    run(found.help, model, out)
    assert findings(info, out) == []


def test_many_findings_name_a_command():
    assert len(FIXED) >= 15
