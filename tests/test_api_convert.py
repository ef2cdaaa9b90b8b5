"""Plans, conversions and proofs from Python."""

import json
import os
from pathlib import Path

import onnx
import pytest

import onnxscope
from onnxscope.cli.main import main

ROOT = Path(__file__).parents[1]
LENET = ROOT / "models" / "lenet5.onnx"
NO_FC = ROOT / "models" / "direct.onnx"


def test_a_plan_of_a_path_or_a_model():
    plan = onnxscope.plan(LENET)
    assert plan.document == onnxscope.plan(onnxscope.load(LENET)).document
    assert [row["to"] for row in plan.converted] == [
        "Conv 5x5x16 -> 120",
        "Conv 1x1x120 -> 84",
        "Conv 1x1x84 -> 10",
    ]
    assert plan.refused == []
    (place,) = plan.maps
    assert (place["stride"], place["offset"], place["field"]) == ([4, 4], [0, 0], [32, 32])
    assert place["examples"][1]["map"] == [6, 6]  # (52 - 28)//4


def test_a_plan_without_a_layer_is_an_answer_and_a_conversion_an_error(tmp_path):
    plan = onnxscope.plan(NO_FC)
    assert plan.converted == []
    with pytest.raises(onnxscope.ConversionFailed, match="nothing to convert") as caught:
        onnxscope.convert(NO_FC, tmp_path / "x.onnx", verify=False)
    assert caught.value.conversion == plan
    assert caught.value.exit_code == 1
    assert os.listdir(tmp_path) == []


def test_a_plan_shows_itself():
    plan = onnxscope.plan(LENET)
    assert json.loads(plan.to_json()) == plan.document
    assert str(plan) == plan.to_text()
    assert max(map(len, plan.to_text(width=70).split("\n"))) <= 70
    assert "\x1b[" in plan.to_text(color=True)
    assert repr(plan).endswith("lenet5.onnx': 3 layers become convolutions, 0 stay>")
    assert plan._repr_html_().startswith("<pre>")
    assert "25088 -> " not in plan._repr_html_()
    assert "400 -&gt; 120" in plan._repr_html_()


def test_a_conversion_without_proof(tmp_path):
    result = onnxscope.convert(LENET, tmp_path / "fcn.onnx", verify=False)
    assert isinstance(result, onnxscope.Conversion)
    assert (result.path, result.proof) == (str(tmp_path / "fcn.onnx"), None)
    assert result.document["output"] == result.path
    assert repr(result).startswith("<Conversion ")
    onnx.checker.check_model(result.path, full_check=True)


def test_vector_output_keeps_the_interface(tmp_path):
    onnxscope.convert(LENET, tmp_path / "v.onnx", output="vector", verify=False)
    before, after = onnx.load(LENET), onnx.load(tmp_path / "v.onnx")
    assert list(before.graph.input) == list(after.graph.input)
    assert list(before.graph.output) == list(after.graph.output)
    assert {"Gemm", "MatMul"}.isdisjoint(node.op_type for node in after.graph.node)


def test_only_the_layers_asked_for():
    plan = onnxscope.plan(LENET, layers=["fc1"], output="vector")
    assert [row["layer"] for row in plan.converted] == ["fc1"]
    assert [row["layer"] for row in plan.refused] == ["fc2", "fc3"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output": "vector", "size": "dynamic"}, "leave out size"),
        ({"output": "vector", "pool": "window"}, "leave out pool"),
        ({"output": "both"}, "output 'both'"),
        ({"form": "fancy"}, "conv, auto, fold, interleave, rows"),
        ({"batch": 3}, "batch 3"),
        ({"stride": 3}, "possible: 1, 2, 4"),
        ({"layers": ["nope"]}, "nope"),
        ({"form": "auto", "target": "gpu"}, "unknown target 'gpu'"),
        ({"shapes": {"nope": (1,)}}, "nope"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(options, said):
    with pytest.raises(onnxscope.UsageError, match=said):
        onnxscope.plan(LENET, **options)


def test_a_target_goes_by_the_names_of_its_provider_too():
    plans = [onnxscope.plan(LENET, form="auto", target=name) for name in ("cpu", "CPUExecutionProvider")]
    assert [plan.converted[0]["form"] for plan in plans] == ["conv", "conv"]  # rows on other targets


def test_a_proved_conversion(tmp_path):
    pytest.importorskip("onnxruntime")
    result = onnxscope.convert(LENET, tmp_path / "fcn.onnx")
    assert result.proof
    assert result.proof.document == result.document["proof"]
    assert result.proof.document["candidate"] == result.path
    assert result.proof.runs[0]["provider"]["used"] == "CPUExecutionProvider"


def test_a_proof_is_true_or_false_and_shows_itself(tmp_path):
    pytest.importorskip("onnxruntime")
    said = []
    same = onnxscope.verify(LENET, LENET, trials=1, progress=said.append)
    assert same
    assert said
    assert json.loads(same.to_json()) == same.document
    assert str(same).startswith("equivalent\n")
    assert same._repr_markdown_() == same.to_markdown()
    assert same.to_markdown().startswith("## Equivalent\n")
    assert repr(same).startswith("<Proof equivalent on cpu (onnxruntime ")
    other = onnxscope.verify(LENET, NO_FC, trials=1)
    assert not other
    assert other.document["reason"] == "interface"


@pytest.mark.parametrize("page", ["convert.md", "verify.md"])
def test_the_examples_of_the_docs(page, monkeypatch, tmp_path):
    """Every line runs, and gives the value in its comment where there is one."""
    pytest.importorskip("onnxruntime")
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    os.symlink(ROOT / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    names = {}
    checked = 0
    for line in filter(None, text.split("```python\n")[1].split("```")[0].splitlines()):
        code, _, comment = line.partition("  #")
        if line.startswith(("import ", "print(")) or " = " in code:
            exec(code, names)
        else:
            assert repr(eval(code, names)) == comment.strip()
            checked += 1
    assert checked == 2


@pytest.mark.parametrize("page", ["convert.md", "verify.md"])
def test_the_pages_name_every_option(page, capsys):
    main([page.removesuffix(".md"), "--help"])
    options = {
        word for word in capsys.readouterr().out.split() if word.startswith("--") and word[2:3].isalpha()
    }
    general = {"--quiet", "--verbose", "--no-color", "--debug", "--help", "--output"}
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert {option for option in options - general if option.rstrip(".,") not in text} == set()
