"""`onnxscope convert` as a user meets it: plans, files, refusals, exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import onnx
import pytest
from nets import net

from onnxscope import api
from onnxscope.cli.main import main
from onnxscope.documents.verification import verification
from onnxscope.errors import RuntimeFailure
from onnxscope.files.write import dumps
from onnxscope.proof.result import Verification, WeightCounts
from onnxscope.results import Proof

ROOT = Path(__file__).parents[1]
LENET = str(ROOT / "models" / "lenet5.onnx")
NO_FC = str(ROOT / "models" / "direct.onnx")
SCHEMA = json.loads((ROOT / "docs" / "conversion.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def run(capfd, monkeypatch):
    """Run the command in this process: (exit code, standard output, standard error)."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments):
        code = main(["convert", *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def verdict(equivalent):
    """A stand-in for the verification, which sees a finished file; the paths it was asked about are kept."""
    seen = []

    def verified(request, shown, progress):
        onnx.checker.check_model(request.candidate)
        seen.append(request)
        result = Verification(
            equivalent, "onnxruntime 9", WeightCounts(1, 0, 0), None if equivalent else "outputs", ()
        )
        return Proof(verification(result, request.original, shown))

    return verified, seen


def test_a_plan_says_what_becomes_what(run):
    code, out, err = run(LENET, "--dry-run")
    assert (code, err) == (0, "")
    assert "3 FC layers become convolutions; the output is a map, the input may be larger" in out
    assert "fc1    Gemm 400 -> 120  Conv 5x5x16 -> 120  conv  same bytes" in out
    assert "  one cell every  4 pixels\n  a cell sees     32x32 pixels\n  the first from  pixel 0\n" in out
    assert "1x1 for 32x32, 6x6 for 52x52" in out  # (52 - 28)//4 = 6


def test_a_plan_as_json_follows_the_schema(run):
    code, out, err = run(LENET, "--dry-run", "--format", "json")
    document = json.loads(out)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert (code, err) == (0, "")
    assert document["schema"] == "onnxscope.conversion/1"
    assert (document["input"], document["output"], document["proof"]) == (LENET, None, None)
    assert document["converted"][0] == {
        "layer": "fc1",
        "from": "Gemm 400 -> 120",
        "to": "Conv 5x5x16 -> 120",
        "kernel": [5, 5],
        "form": "conv",
        "form_reason": document["converted"][0]["form_reason"],
        "weight": "same bytes",
    }
    assert [row["layer"] for row in document["converted"]] == ["fc1", "fc2", "fc3"]
    assert document["refused"] == []
    (output,) = document["io"]["outputs"]
    assert (output["shape_before"], output["shape"][:2]) == ([1, 10], [1, 10])


def test_the_file_is_a_model_with_a_map(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    out_path = tmp_path / "fcn.onnx"
    code, out, _ = run(LENET, "-o", out_path, "--no-verify")
    assert code == 0
    assert out.startswith(f"{LENET} -> {out_path}\n")
    assert "proof       none was asked for (--no-verify)" in out
    model = onnx.load(out_path)
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.output[0].type.tensor_type.shape.dim) == 4
    assert os.listdir(tmp_path) == ["fcn.onnx"]


def test_external_data_goes_beside_the_file(run, tmp_path):
    code, _, _ = run(LENET, "-o", tmp_path / "fcn.onnx", "--no-verify", "--external-data")
    assert code == 0
    assert sorted(os.listdir(tmp_path)) == ["fcn.onnx", "fcn.onnx.data"]
    onnx.checker.check_model(str(tmp_path / "fcn.onnx"), full_check=True)


def test_nothing_to_convert_is_1(run, tmp_path):
    code, out, err = run(NO_FC, "-o", tmp_path / "x.onnx", "--no-verify")
    assert code == 1
    assert "nothing to convert" in out
    assert err.startswith("onnxscope: error: ")
    assert err.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_dry_run_exits_as_the_conversion_would(run):
    code, out, err = run(NO_FC, "--dry-run", "--format", "json")
    assert code == 1
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(out))
    assert "nothing to convert: no fully connected layer" in err


def test_converting_twice_finds_nothing(run, tmp_path):
    assert run(LENET, "-o", tmp_path / "once.onnx", "--no-verify")[0] == 0
    assert run(tmp_path / "once.onnx", "-o", tmp_path / "twice.onnx", "--no-verify")[0] == 1
    assert os.listdir(tmp_path) == ["once.onnx"]


@pytest.mark.parametrize("output", ["map", "vector"])
def test_layers_on_rows_are_converted_once(run, tmp_path, output):
    lines = ["g = GlobalAveragePool(x)", "f = Flatten(g)", "y = Gemm(f, w) name=fc"]
    pooled = net(lines, x="N,3,H,W", w=(3, 5))
    (tmp_path / "m.onnx").write_bytes(dumps(pooled))
    asked = ("--form", "rows", "--output", output, "--format", "json")
    assert run(tmp_path / "m.onnx", "-o", tmp_path / "once.onnx", "--no-verify", *asked)[0] == 0
    code, out, err = run(tmp_path / "once.onnx", "--dry-run", *asked)
    assert (code, "nothing to convert" in err) == (1, True)
    (refused,) = json.loads(out)["refused"]
    assert refused["layer"] == "fc"
    assert "an earlier conversion made it" in refused["reason"]


def test_every_layer_that_stays_is_listed_with_its_reason(run, tmp_path):
    """Two layers per token, [N, 5, 8] x [8, 8]: no vector per image."""
    weights = ", ".join(["0.5"] * 64)
    model = onnx.parser.parse_model(f"""
<ir_version: 8, opset_import: ["" : 17]>
tokens (float[N, 5, 8] x) => (float[N, 5, 8] y)
<float[8, 8] w = {{{weights}}}, float[8, 8] v = {{{weights}}}>
{{
    [first] h = MatMul (x, w)
    [second] y = MatMul (h, v)
}}""")
    path = tmp_path / "tokens.onnx"
    onnx.save(model, path)
    code, out, _ = run(path, "--dry-run", "--format", "json")
    assert code == 1
    refused = json.loads(out)["refused"]
    assert [row["layer"] for row in refused] == ["first", "second"]
    assert all(row["reason"] for row in refused)
    text = run(path, "--dry-run")[1]
    assert "2 FC layers stay" in text
    assert "first" in text
    assert "second" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((LENET,), "give -o OUT"),
        ((LENET, "--dry-run", "--output", "vector", "--size", "dynamic"), "size dynamic"),
        ((LENET, "--dry-run", "--output", "vector", "--pool", "window"), "pool window"),
        ((LENET, "--dry-run", "--native", "0x3"), "HxW"),
        ((LENET, "--dry-run", "--layer", "nope"), "nope"),
        ((LENET, "--dry-run", "--stride", "0"), "--stride"),
        ((LENET, "--dry-run", "--stride", "3"), "possible: 1, 2, 4"),
        ((LENET, "--dry-run", "--stride", "2", "--form", "fold"), "take form conv"),
        ((LENET, "--dry-run", "--form", "fancy"), "--form"),
        (("-", "--dry-run"), "standard input"),
        ((LENET, "-o", "/no/such/folder/x.onnx", "--no-verify"), "folder"),
        ((LENET, "-o", "x.onnx", "--provider", "gnu"), "gnu"),
        ((LENET, "--dry-run", "--provider", "gnu"), "gnu"),
    ],
)
def test_a_wrong_call_is_2(run, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("onnxscope: error: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_denser_map_in_text_and_json(run):
    code, out, err = run(LENET, "--dry-run", "--stride", "2")
    assert (code, err) == (0, "")
    assert "fc1    Gemm 400 -> 120  Conv 5x5x16 -> 120, dilation 2  conv  same bytes" in out
    assert "  one cell every  2 pixels\n  a cell sees     32x32 pixels\n" in out
    assert "1x1 for 32x32, 6x6 for 42x42" in out  # (42 - 30)//2 = 6
    document = json.loads(run(LENET, "--dry-run", "--stride", "2", "--format", "json")[1])
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["options"]["stride"] == 2
    assert document["maps"][0]["size"] == ["(height - 30)//2", "(width - 30)//2"]
    assert document["params"]["before"] == document["params"]["after"] == 61706


def test_an_existing_file_stays_without_force(run, tmp_path):
    path = tmp_path / "fcn.onnx"
    path.write_text("mine")
    code, _, err = run(LENET, "-o", path, "--no-verify")
    assert code == 2
    assert "--force" in err
    assert path.read_text() == "mine"
    assert run(LENET, "-o", path, "--no-verify", "--force")[0] == 0
    onnx.checker.check_model(str(path))


def test_the_model_itself_is_never_written(run, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(Path(LENET).read_bytes())
    os.link(path, tmp_path / "again.onnx")
    for target in (path, tmp_path / "again.onnx"):
        assert run(path, "-o", target, "--no-verify", "--force")[0] == 2
    assert path.read_bytes() == Path(LENET).read_bytes()


def test_a_missing_model_is_3(run, tmp_path):
    code, out, err = run(tmp_path / "no.onnx", "--dry-run")
    assert (code, out) == (3, "")
    assert "no such file" in err


@pytest.mark.parametrize("arguments", [("--dry-run",), ("-o", "out.onnx", "--no-verify")])
def test_missing_weights_are_3(run, tmp_path, monkeypatch, arguments):
    model = onnx.load(LENET)
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    (tmp_path / "m.bin").unlink()
    monkeypatch.chdir(tmp_path)
    code, out, err = run(path, *arguments)
    assert (code, out) == (3, "")
    assert "m.bin" in err
    assert os.listdir(tmp_path) == ["m.onnx"]


# --- the proof ---


def test_the_file_is_proved_before_it_gets_its_name(run, tmp_path, monkeypatch):
    verified, seen = verdict(True)
    monkeypatch.setattr(api, "_verified", verified)
    path = tmp_path / "fcn.onnx"
    code, out, _ = run(LENET, "-o", path, "--format", "json")
    assert code == 0
    assert seen[0].original == LENET
    assert seen[0].candidate != str(path)
    assert seen[0].providers == ("cpu",)
    document = json.loads(out)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["output"] == str(path)
    assert document["proof"]["candidate"] == str(path)
    assert os.listdir(tmp_path) == ["fcn.onnx"]


def test_a_failed_proof_leaves_only_its_document(run, tmp_path, monkeypatch):
    monkeypatch.setattr(api, "_verified", verdict(False)[0])
    path = tmp_path / "fcn.onnx"
    path.write_text("mine")
    code, out, err = run(LENET, "-o", path, "--force", "--format", "json")
    assert code == 1
    assert "failed its proof (outputs)" in err
    assert f"{path}.proof.json" in err
    assert err.count("\n") == 1
    assert json.loads(out)["output"] is None
    assert path.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["fcn.onnx", "fcn.onnx.proof.json"]
    assert json.loads(Path(f"{path}.proof.json").read_text())["schema"] == "onnxscope.verification/1"


def test_an_impossible_proof_is_4(run, tmp_path, monkeypatch):
    def fails(request, shown, progress):
        raise RuntimeFailure("the session crashed", where=request.candidate)

    monkeypatch.setattr(api, "_verified", fails)
    path = tmp_path / "fcn.onnx"
    code, out, err = run(LENET, "-o", path)
    assert (code, out) == (4, "")
    assert "the session crashed" in err
    assert "--no-verify" in err
    assert ".part" not in err
    assert os.listdir(tmp_path) == ["fcn.onnx.proof.json"]
    assert json.loads(Path(f"{path}.proof.json").read_text())["equivalent"] is False


def test_without_onnxruntime_the_message_says_how_to_get_it_or_do_without(tmp_path):
    """In a process where onnxruntime can't be imported: no model, only the document that says why."""
    script = f"""
import sys
sys.modules["onnxruntime"] = None
from onnxscope.cli.main import main
sys.exit(main(["convert", {LENET!r}, "-o", {str(tmp_path / "x.onnx")!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert "pip install" in done.stderr
    assert "--no-verify" in done.stderr
    assert os.listdir(tmp_path) == ["x.onnx.proof.json"]
    proof = json.loads((tmp_path / "x.onnx.proof.json").read_text())
    assert proof["equivalent"] is False
    assert proof["reason"].startswith("not run: ")


@pytest.mark.parametrize("swallowed", ["", "by a handler", "by a finalizer"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, number, code, swallowed):
    """The proof is made to wait; the finished file is there by then, under another name.

    Some C functions clear every error they meet (PyDict_GetItem, for one), and what a finalizer raises is
    printed and lost: once is not enough then.
    """
    script = f"""
import sys, time
from onnxscope import api
from onnxscope.cli.main import main
def sleep(*_):
    print("waiting", flush=True)
    time.sleep(60)
def wait(*given):
    try:
        type("Finalized", (), {{"__del__": sleep}})() if {"finalizer" in swallowed} else sleep()
    except BaseException:
        if not {"handler" in swallowed}:
            raise
    time.sleep(60)
api._verified = wait
sys.argv = ["onnxscope", "convert", {LENET!r}, "-o", {str(tmp_path / "x.onnx")!r}]
sys.exit(main())
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, **pipes) as started:
        assert started.stdout.readline() == b"waiting\n"
        assert len(os.listdir(tmp_path)) == 1
        started.send_signal(number)
        assert started.wait(30) == code
        assert started.stderr.read().strip() == b""  # click ends the line that ^C stands on
    assert os.listdir(tmp_path) == []


def test_bfloat16_is_written_only_where_no_proof_is_asked_for(run, tmp_path):
    """The CPU provider can't run it: a proof is impossible, which is exit 4."""
    proto = onnx.load_from_string(
        dumps(net(["f = Flatten(x)", "y = MatMul(f, w)"], opset=22, x="1,2,4,4", w=(32, 3)))
    )
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    proto.graph.initializer[0].CopyFrom(
        onnx.helper.make_tensor("w", onnx.TensorProto.BFLOAT16, (32, 3), bytes(192), raw=True)
    )
    onnx.save(proto, tmp_path / "half.onnx")
    out = tmp_path / "map.onnx"
    code, shown, err = run(tmp_path / "half.onnx", "-o", out)
    assert (code, shown, out.exists()) == (4, "", False)
    assert "no bfloat16 kernels" in err
    assert "--no-verify" in err
    proof = json.loads((tmp_path / "map.onnx.proof.json").read_text(encoding="utf-8"))
    assert (proof["equivalent"], "bfloat16" in proof["reason"]) == (False, True)
    code, shown, err = run(tmp_path / "half.onnx", "-o", out, "--no-verify")
    assert (code, err, out.exists()) == (0, "", True)
    assert "this file runs on other providers only" in " ".join(shown.split())


@pytest.mark.parametrize("form", ["conv", "fold", "rows"])
def test_every_form_shows_the_shape_that_the_file_declares(run, tmp_path, form):
    """Sizes of slices know nothing of the smallest input: (height - 28)//4 needs height >= 32."""
    out = tmp_path / "map.onnx"
    code, shown, _ = run(LENET, "-o", out, "--form", form, "--no-verify", "--format", "json")
    assert code == 0
    (output,) = json.loads(shown)["io"]["outputs"]
    assert output["shape"] == [1, 10, "(height - 28)//4", "(width - 28)//4"]
    dims = onnx.load(out).graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == output["shape"]
