"""The Python API: what it exports, what it imports, and that a report shows itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import onnxscope

ROOT = Path(__file__).parents[1]
MNIST = ROOT / "models" / "mnist_conv.onnx"
NET32 = ROOT / "models" / "net32.onnx"


def modules_after(code):
    """Names of the modules that a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_the_package_imports_nothing_else():
    ours = {name for name in modules_after("import onnxscope") if name.startswith("onnxscope")}
    assert ours == {"onnxscope"}


def test_a_report_imports_neither_onnx_nor_a_runtime():
    loaded = modules_after(f"import onnxscope; onnxscope.report({str(MNIST)!r}).to_text()")
    assert {"onnx", "onnxruntime", "rich", "click", "google.protobuf"}.isdisjoint(loaded)


def test_every_public_name_is_there():
    assert set(onnxscope.__all__) <= set(dir(onnxscope))
    for name in onnxscope.__all__:
        assert getattr(onnxscope, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'reprot'"):
        onnxscope.reprot  # noqa: B018


def test_functions_are_not_hidden_by_modules():
    """A module `onnxscope.report` would replace the function as soon as anybody imports it."""
    package = Path(onnxscope.__file__).parent
    for name in onnxscope.__all__:
        assert not (package / f"{name}.py").exists()
        assert not (package / name).is_dir()


def test_report_of_a_path_or_a_model():
    by_path, by_text = onnxscope.report(MNIST), onnxscope.report(str(MNIST))
    by_model = onnxscope.report(onnxscope.load(MNIST))
    assert by_path.totals == by_text.totals == by_model.totals
    assert by_path.totals["params"] == 217_706
    assert by_path.totals["macs"] == 1_589_760
    assert [layer["name"] for layer in by_path.layers] == ["conv1", "pool1", "conv2", "pool2", "fc1", "fc2"]
    assert [layer["becomes"] for layer in by_path.fully_connected] == [
        "Conv 5x5x32 -> 256",
        "Conv 1x1x256 -> 10",
    ]
    assert by_path.problems == []


def test_shapes_and_dims():
    report = onnxscope.report(NET32, shapes={"input": ("N", 1, "H", "W")})
    assert ["(H - 12)//4", "(W - 12)//4"] in report.spatial["closed_form"].values()
    bound = onnxscope.report(NET32, shapes={"input": ("N", 1, "H", "W")}, dims={"N": 2, "H": 32, "W": 32})
    assert bound.totals["macs"] == 2 * 119_800  # 58,800 + 45,000 + 15,000 + 1,000


def test_rows_can_be_chosen():
    report = onnxscope.report(MNIST, sort="params", top=1)
    assert [layer["name"] for layer in report.layers] == ["fc1"]
    assert "groups" in onnxscope.report(MNIST, depth=1).document
    assert len(onnxscope.report(MNIST, all_ops=True).layers) == len(onnxscope.load(MNIST).graph.nodes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shapes": {"nope": (1,)}},
        {"shapes": {"input": (1, 2)}},
        {"shapes": {"input": 3}},
        {"shapes": {"input": "1,1,28,28"}},
        {"shapes": {"input": (1, 1, -28, 28)}},
        {"shapes": {"input": (1, 1, 28.5, 28)}},
        {"shapes": {"input": (1, 1, "", 28)}},
        {"shapes": {"input": ("N", 1, 28, 28)}, "dims": {"N": -1}},
        {"shapes": {"input": ("N", 1, 28, 28)}, "dims": {"N": "x"}},
        {"dims": {"nope": 1}},
        {"sort": "x"},
        {"top": 0},
    ],
)
def test_a_wrong_call_is_a_usage_error(wrong):
    with pytest.raises(onnxscope.UsageError):
        onnxscope.report(MNIST, **wrong)


def test_a_missing_file_is_a_file_error(tmp_path):
    with pytest.raises(onnxscope.FileError, match="no such file"):
        onnxscope.report(tmp_path / "no.onnx")


def test_a_report_shows_itself():
    report = onnxscope.report(MNIST)
    assert json.loads(report.to_json()) == report.document
    assert report.to_csv().startswith("name,op,kind,")
    assert report.to_markdown().startswith("# ")
    assert "## Worked formulas" in report.to_markdown(explain=True)
    assert "(5*5*1 + 1)*32 = 832" in report.to_text(explain=True)
    assert str(report) == report.to_text()
    assert report._repr_html_().startswith("<div>")
    assert "rows shown" not in report._repr_html_()
    grouped = onnxscope.report(MNIST, depth=1, sort="params", top=2)._repr_html_()
    assert "2 of 6 rows shown" in grouped
    assert '<th style="text-align: right">layers</th>' in grouped
    assert "pool1" not in grouped
    assert repr(report).endswith("mnist_conv.onnx': 6 layers, 217706 parameters, 1589760 MACs>")
    assert "\x1b[" in report.to_text(color=True)
    assert max(map(len, report.to_text(width=70).split("\n"))) <= 70


def test_the_example_of_the_docs(monkeypatch):
    """Every line of docs/report.md's example runs, and gives the value in its comment."""
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    lines = text.split("```python\n")[1].split("```")[0].splitlines()
    monkeypatch.chdir(ROOT)
    names = {}
    checked = 0
    for line in filter(None, lines):
        code, _, comment = line.partition("  #")
        if line.startswith(("import ", "report = ", "print(")):
            exec(code, names)
            continue
        value = eval(code, names)
        assert value
        if comment:
            assert repr(value) == comment.strip()
            checked += 1
    assert checked == 2
