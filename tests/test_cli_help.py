"""How the command starts and ends: the kept text of `--help` is what click would say.

`python tests/test_cli_help.py` writes it anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context

from onnxscope.cli import main as entry
from onnxscope.cli.app import app

ROOT = Path(__file__).parents[1]


def by_click(width: int = 80) -> str:
    context = Context(
        app, info_name="onnxscope", terminal_width=min(width, 80) - 2, help_option_names=["-h", "--help"]
    )
    return f"{app.get_help(context)}\n"


def test_the_kept_help_is_what_click_says() -> None:
    assert Path(entry.HELP).read_text(encoding="utf-8") == by_click()


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_fits_the_terminal(
    arguments: list[str], columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert entry.main(arguments) == 0
    assert capsys.readouterr().out == by_click(columns)


@pytest.mark.parametrize("name", sorted(app.list_commands(Context(app))))
def test_examples_stand_on_lines_of_their_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "\\b" not in shown
    examples = [line for line in shown.splitlines() if line.startswith("  onnxscope ")]
    assert all(line.count("onnxscope ") == 1 for line in examples)


@pytest.mark.parametrize("module", [None, "tempfile", "multiprocessing"])
def test_the_process_ends_at_once_where_nothing_is_left_to_clean_up(module: str | None) -> None:
    script = f"""
import atexit, sys
atexit.register(print, "cleaned up")
sys.argv = ["onnxscope", "report", "models/mnist_conv.onnx", "--all-ops"]
if {module!r}:
    __import__({module!r})
from onnxscope.cli.main import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert "217,706" in done.stdout
    assert ("cleaned up" in done.stdout) == (module is not None)


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    Path(entry.HELP).write_text(by_click(), encoding="utf-8")
