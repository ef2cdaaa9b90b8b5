"""Wrong calls and unusable files: the exit code, and one line that says what, where and what to do next."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from onnxscope import documents
from onnxscope.cli.main import main

MNIST = str(Path(__file__).parents[1] / "models" / "mnist_conv.onnx")


@pytest.fixture
def run(capfd):
    """Run the command in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def assert_one_line(err, *parts):
    """Errors are one line with a fixed start, and no traceback."""
    assert err.startswith("onnxscope: error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["report"], ["Missing argument 'MODEL'", "onnxscope report --help"]),
        (["reprot", MNIST], ["reprot", "did you mean report?", "onnxscope --help"]),
        (["xyz"], ["no command 'xyz'; see onnxscope --help"]),
        (["report", MNIST, "--frmat", "json"], ["--frmat", "--format"]),
        (["report", MNIST, "--format", "yaml"], ["'yaml'", "markdown"]),
        (["report", MNIST, "--format", "html"], ["'html'"]),
        (["report", MNIST, "--top", "0"], ["--top"]),
        (["report", MNIST, "--depth", "x"], ["--depth"]),
        (["report", MNIST, "--sort", "size"], ["--sort", "params"]),
        (["report", MNIST, "extra"], ["extra"]),
        (["report", MNIST, "--shape"], ["--shape"]),
        (["report", MNIST, "--shape", "input"], ["'input'", "INPUT=1,3,224,224"]),
        (["report", MNIST, "--shape", "=1,2"], ["'=1,2'"]),
        (["report", MNIST, "--shape", "input=1,,28,28"], ["empty size"]),
        (["report", MNIST, "--shape", "input=1,1,-28,28"], ["'-28'"]),
        (["report", MNIST, "--shape", "input=1,1,2.5,28"], ["'2.5'"]),
        (["report", MNIST, "--shape", "input=1,1,28"], ["3 sizes given", "4 axes"]),
        (["report", MNIST, "--shape", "image=1,1,28,28"], ["'image'", "'input'"]),
        (["report", MNIST, "--shape", "input=1,1,9,9", "--shape", "input=1,1,8,8"], ["given twice"]),
        (["report", MNIST, "--dim", "N"], ["NAME=VALUE"]),
        (["report", MNIST, "--dim", "N=x"], ["'x'"]),
        (["report", MNIST, "--dim", "N=-1"], ["'-1'"]),
        (["report", MNIST, "--dim", f"N={2**63}"], ["2**63 - 1"]),
        (["report", MNIST, "--dim", f"N={'9' * 5000}"], ["not a whole number"]),
        (["report", MNIST, "--shape", f"input=1,1,28,{'9' * 5000}"], ["neither a whole number"]),
        (["report", MNIST, "--shape", f"input=1,1,28,{2**63}"], ["2**63 - 1"]),
        (["report", MNIST, "--dim", "N=1", "--dim", "N=2"], ["given twice"]),
        (["report", MNIST, "--dim", "N=1"], ["'N'", "no free size"]),
    ],
)
def test_a_wrong_call_is_exit_2(run, arguments, parts):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert_one_line(err, *parts)


FILES = {
    "missing": (None, ["no such file"]),
    "empty": (b"", ["empty"]),
    "text": (b"this is no model\n" * 20, ["not an ONNX model"]),
    "truncated": (Path(MNIST).read_bytes()[:5000], ["truncated"]),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_file_that_can_t_be_used_is_exit_3(run, tmp_path, kind, form):
    data, parts = FILES[kind]
    path = tmp_path / "model.onnx"
    if data is not None:
        path.write_bytes(data)
    code, out, err = run("report", path, "--format", form)
    assert (code, out) == (3, "")
    assert_one_line(err, str(path), *parts)


def test_a_directory_is_exit_3(run, tmp_path):
    code, out, err = run("report", tmp_path)
    assert (code, out) == (3, "")
    assert_one_line(err, "directory")


def test_an_error_holds_no_control_characters(run, tmp_path):
    code, _, err = run("report", tmp_path / "a\x1b[31mb.onnx")
    assert code == 3
    assert_one_line(err, "a\\x1b[31mb.onnx")


def test_debug_shows_the_traceback(run, tmp_path):
    for arguments in (("--debug", "report", tmp_path), ("report", tmp_path, "--debug")):
        code, _, err = run(*arguments)
        assert code == 3
        assert err.startswith("Traceback (most recent call last):")
        assert err.splitlines()[-1].startswith("onnxscope: error: ")


def test_a_bug_is_one_line_too(run, monkeypatch):
    def fail(*arguments, **options):
        raise KeyError("boom")

    monkeypatch.setattr(documents, "analyse", fail)
    code, out, err = run("report", MNIST)
    assert (code, out) == (70, "")
    assert_one_line(err, "KeyError: 'boom'", "bug", "--debug")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_error_that_an_interruption_turned_into_is_quiet(number):
    """As where numpy says that its import failed, because a signal came in the middle of it."""
    script = f"""
import os, sys, time
import onnxscope.cli.app
from onnxscope.cli.main import main
def swallowing(*_, **__):
    try:
        os.kill(os.getpid(), {int(number)})
        time.sleep(5)
    except BaseException:
        raise ImportError("the import failed") from None
onnxscope.cli.app.app.main = swallowing
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + number, "")
