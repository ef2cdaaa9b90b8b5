"""The kept text of `onnxscope --help` is what click would say.

`python tests/test_cli_help.py` writes it anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click import Context

from onnxscope.cli import main as entry
from onnxscope.cli.app import app


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


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    Path(entry.HELP).write_text(by_click(), encoding="utf-8")
