"""Third-party imports: only declared ones, and only inside functions where a command should start fast.

Which floor may import which module is import-linter's part (`[tool.importlinter]` in pyproject.toml).
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "onnxscope").rglob("*.py"))
BROUGHT_ALONG = {"ml_dtypes"}  # onnx depends on it


def imported(nodes):
    """Top-level names of absolute imports."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def at_import_time(node):
    """Nodes that run when the module is imported: neither function bodies nor TYPE_CHECKING blocks."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import_time(child)


def third_party(nodes):
    return set(imported(nodes)) - sys.stdlib_module_names - {"onnxscope", "__future__"}


def test_every_third_party_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    extras = {re.match(r"[\w-]+", line)[0] for line in project["optional-dependencies"]["cpu"]}
    used = set().union(*(third_party(ast.walk(ast.parse(path.read_text()))) for path in SOURCES))
    assert used <= needed | extras | BROUGHT_ALONG
    assert used >= needed | extras  # and nothing is declared in vain


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_modules_are_imported_inside_functions(path):
    eager = third_party(at_import_time(ast.parse(path.read_text())))
    allowed = {"cli": {"click"}, "proof": {"numpy"}}.get(path.parent.name, set())  # itself imported late
    assert eager <= allowed


def test_the_map_of_the_proof_floor_names_every_room():
    folder = ROOT / "onnxscope" / "proof"
    named = re.findall(r"`(\w+)`", ast.get_docstring(ast.parse((folder / "__init__.py").read_text())))
    assert set(named) == {path.stem for path in folder.glob("*.py")} - {"__init__"}
