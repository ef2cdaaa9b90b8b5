"""Conversions and verifications: schemas, golden files that were checked by eye, widths, hostile names."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from sample_conversions import CONVERSIONS, PROOFS, failed, mixed_plan, run

from onnxscope.documents.conversion import conversion
from onnxscope.documents.providers import providers
from onnxscope.documents.verification import verification
from onnxscope.expr import symbol
from onnxscope.proof.result import LayerResult, OutputResult, Verification, WeightCounts
from onnxscope.render import conversion as conversions
from onnxscope.render import measures
from onnxscope.render import providers as provider_table
from onnxscope.render import verification as verifications
from onnxscope.render.json import json as as_json
from onnxscope.render.markdown_verification import markdown
from onnxscope.rewrite.plan import Geometry, Options, Plan
from onnxscope.runtime import Support

DOCS = Path(__file__).parents[2] / "docs"


def schema(name):
    return json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions_follow_the_schema(name):
    document = json.loads(as_json(CONVERSIONS[name]()))
    jsonschema.Draft202012Validator(schema("conversion")).validate(document)


@pytest.mark.parametrize("name", PROOFS)
def test_verifications_follow_the_schema(name):
    document = json.loads(as_json(PROOFS[name]()))
    jsonschema.Draft202012Validator(schema("verification")).validate(document)


@pytest.mark.parametrize("name", ["conversion", "verification"])
def test_the_schemas_are_schemas_and_refuse_other_documents(name):
    found = schema(name)
    jsonschema.Draft202012Validator.check_schema(found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(found).validate({"schema": found["properties"]["schema"]["const"]})


def test_numbers_that_json_lacks_are_null_and_counted():
    output = json.loads(as_json(failed()))["runs"][1]["outputs"][0]
    assert (output["max_abs"], output["max_rel"], output["would_pass_at"]) == (None, None, None)
    assert output["nan"] == {"both": 3, "original": 0, "candidate": 1}
    assert output["inf"] == {"both": 0, "original": 2, "candidate": 0}


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", CONVERSIONS)
def test_golden_conversion(name, width, golden):
    golden(f"convert-{name}.{width}.txt", conversions.text(CONVERSIONS[name](), width=width))


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", PROOFS)
def test_golden_verification(name, width, golden):
    golden(f"verify-{name}.{width}.txt", verifications.text(PROOFS[name](), width=width))


@pytest.mark.parametrize("name", PROOFS)
def test_golden_verification_in_markdown(name, golden):
    golden(f"verify-{name}.md", markdown(PROOFS[name]()))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_asked(width):
    texts = [conversions.text(make(), width=width) for make in CONVERSIONS.values()]
    texts += [verifications.text(make(), width=width) for make in PROOFS.values()]
    limit = max(width, 78)  # a table of numbers can't be narrower
    assert max(len(line) for text in texts for line in text.split("\n")) <= limit


def test_colors_are_for_terminals_that_want_them():
    for render, make in ((conversions.text, CONVERSIONS["vgg"]), (verifications.text, PROOFS["failed"])):
        assert "\x1b[" not in render(make())
        assert "\x1b[" in render(make(), color=True)


HOSTILE = "\x1b[31mred|<b>`x`\n"


def test_names_from_a_file_do_not_reach_terminal_or_markdown():
    output = OutputResult(HOSTILE, 0.0, 0.0, 1.0, HOSTILE, 0.0, None, True)
    found = Verification(
        True, "onnxruntime 1", WeightCounts(0, 0, 0), None, (run(outputs=(output,)),), (HOSTILE,)
    )
    document = verification(found, HOSTILE, HOSTILE)
    assert "\x1b" not in verifications.text(document)
    shown = markdown(document)
    assert "\x1b" not in shown
    assert "<b>" not in shown.replace("\\<b\\>", "").replace("red\\|<b>", "")
    plan, after = mixed_plan()
    done = conversion(
        Plan(plan.model, Options(), plan.conversions, (), plan.edit, (), 1, 1, (HOSTILE,)), after
    )
    assert "\x1b" not in conversions.text(done)


def test_the_worst_output_is_the_one_in_the_summary():
    assert measures.summary(failed()) == (
        "NOT equivalent: a converted layer has other weights on cuda (onnxruntime-gpu 1.31.1): 18 trials,"
        " largest difference ? in logits, NaN or infinite on one side, first divergence at fc6 (Conv)"
    )


def many_layers(count, failing):
    rows = tuple(LayerResult(f"v{i}", 0.5, 1.0, i != failing) for i in range(count))
    found = Verification(False, "onnxruntime 1", WeightCounts(1, 0, 0), "layers", (run(False, layers=rows),))
    return verification(found, "a.onnx", "b.onnx")


def test_a_long_list_is_cut_but_never_its_failures():
    document = many_layers(100, 77)
    shown = verifications.text(document)
    assert "\nv29 " in shown
    assert "\nv30 " not in shown
    assert re.search(r"\nv77 .* FAIL\n", shown)
    assert "... and 69 more" in shown
    assert markdown(document).count("| `v") == 31
    assert re.search(r"\| `v77` .* \*\*FAIL\*\* \|", markdown(document))
    assert "\n\n... and 69 more" in markdown(document)
    assert "<details><summary>100 values, 1 beyond their limit</summary>\n\n| value" in markdown(document)
    assert "<details>" not in markdown(many_layers(20, 7))


def geometry(**more):
    size = ((symbol("H") - 4) // 2,)
    plan, after = mixed_plan()
    place = Geometry(
        **{
            "output": "y",
            "size": size,
            "stride": (2,),
            "offset": (0,),
            "field": (6,),
            "minimum": {"H": 6},
            **more,
        }
    )
    return conversion(Plan(plan.model, Options(), plan.conversions, (), plan.edit, (place,), 1, 1), after)[
        "maps"
    ][0]


def test_examples_are_the_smallest_map_and_a_larger_one():
    assert geometry()["examples"] == [{"input": {"H": 6}, "map": [1]}, {"input": {"H": 16}, "map": [6]}]


@pytest.mark.parametrize("more", [{"minimum": {"H": None}}, {"minimum": {}}, {"size": (symbol("K"),)}])
def test_no_example_where_a_size_is_open(more):
    assert geometry(**more)["examples"] == []


def test_a_map_of_branches_with_different_strides_says_so():
    entry = geometry(stride=None, offset=None, field=None)
    assert dict(conversions.geometry(entry))["one cell every"].startswith("no fixed distance")
    alone = geometry(stride=None, offset=None, field=None, size=(1,))
    assert "one cell every" not in dict(conversions.geometry(alone))


def test_providers_come_usable_first_with_the_command_that_helps():
    rows = [
        Support("cuda", "CUDAExecutionProvider", False, False, "not in this onnxruntime", "pip install x"),
        Support("webgpu", "WebGpuExecutionProvider", True, False, "no adapter", ""),
        Support("cpu", "CPUExecutionProvider", True, True, "", ""),
    ]
    document = providers("onnxruntime 1.32.0", ["onnxruntime 1.32.0"], rows)
    assert document["providers"][0]["install"] == "pip install x"
    assert provider_table.text(document) == (
        "onnxruntime 1.32.0\n"
        "  cpu     usable         CPUExecutionProvider\n"
        "  webgpu  does not load  WebGpuExecutionProvider: no adapter\n"
        "  cuda    not installed  CUDAExecutionProvider; pip install x\n"
    )
    document = providers("onnxruntime 1.24.1", ["onnxruntime-openvino 1.24.1"], rows[:1])
    assert provider_table.text(document).startswith("onnxruntime 1.24.1 (onnxruntime-openvino)\n")
