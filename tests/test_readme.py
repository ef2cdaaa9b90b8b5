"""Every command and every Python example of the documents runs, and answers what they say.

`python tests/test_readme.py` writes the present output of the commands into the documents: read the diff.
"""

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "models").rglob("*.md"))]
FENCE = re.compile(r"^```(console|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind):
    """(page, block) of every fenced block of that kind."""
    texts = [(page, FENCE.findall(page.read_text())) for page in PAGES]
    return [(page.relative_to(ROOT), body) for page, found in texts for name, body in found if name == kind]


def run(line, folder):
    """What a command prints, errors included; run beside a copy of models/."""
    program, *arguments = shlex.split(line)
    assert program == "onnxscope"
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "onnxscope", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def commands(body):
    """(command, output) of a console block."""
    parts = re.split(r"^\$ (.*)\n", body, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def folder_with_models(path):
    """A folder to run in, so that commands may write files."""
    shutil.copytree(ROOT / "models", path / "models")
    return path


@pytest.mark.parametrize(("page", "body"), blocks("console"))
def test_commands_answer_what_the_page_says(page, body, tmp_path):
    folder = folder_with_models(tmp_path)
    for line, expected in commands(body):
        assert run(line, folder) == expected


@pytest.mark.parametrize(("page", "body"), blocks("pycon"))
def test_python_examples_answer_what_the_page_says(page, body, monkeypatch):
    monkeypatch.chdir(ROOT)
    test = doctest.DocTestParser().get_doctest(body, {}, str(page), str(page), 0)
    said: list[str] = []
    assert doctest.DocTestRunner().run(test, out=said.append).failed == 0, "".join(said)


def test_readme_shows_commands_and_python():
    assert len(blocks("console")) >= 3
    assert blocks("pycon")


def test_links_between_documents_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_make_targets_named_in_the_readme_exist():
    named = set(re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text()))
    defined = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"report", "test"} <= named <= defined


def write_outputs(folder):
    """Put the present output of every command into its page."""
    for page in PAGES:
        text = page.read_text()
        for kind, body in FENCE.findall(text):
            if kind == "console":
                fresh = "".join(f"$ {line}\n{run(line, folder)}" for line, _ in commands(body))
                text = text.replace(f"```console\n{body}```", f"```console\n{fresh}```")
        page.write_text(text)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        write_outputs(folder_with_models(Path(name)))
