"""`onnxscope verify` and `providers` as a user meets them: verdicts, formats, exit codes, progress."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from nets import net
from onnx import numpy_helper

from onnxscope.cli.main import main
from onnxscope.files.write import save

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
LENET = str(ROOT / "models" / "lenet5.onnx")
ONET = str(ROOT / "models" / "onet.onnx")
SCHEMA = json.loads((ROOT / "docs" / "verification.schema.json").read_text(encoding="utf-8"))
QUICK = ("--trials", "1")


@pytest.fixture
def run(capfd, monkeypatch):
    """Run a command in this process: (exit code, standard output, standard error)."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """LeNet and the same with one weight of its last layer moved by a thousandth."""
    folder = tmp_path_factory.mktemp("pair")
    model = onnx.load(LENET)
    last = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2][-1]
    values = numpy_helper.to_array(last).copy()
    values.flat[0] += 1e-3
    last.CopyFrom(numpy_helper.from_array(values, last.name))
    onnx.save(model, folder / "moved.onnx")
    return LENET, str(folder / "moved.onnx")


def test_a_model_is_equivalent_to_itself(run):
    code, out, err = run("verify", LENET, LENET, *QUICK)
    assert (code, err) == (0, "")
    assert out.startswith(f"equivalent\n  original   {LENET}\n")
    assert "CPUExecutionProvider" in out
    assert max(map(len, out.split("\n"))) <= max(100, len(LENET) + 13)


def test_a_conversion_converts_proves_and_verifies(run, tmp_path):
    path = tmp_path / "fcn.onnx"
    code, out, _ = run("convert", LENET, "-o", path, "--format", "json")
    assert code == 0
    assert json.loads(out)["proof"]["equivalent"] is True
    assert os.listdir(tmp_path) == ["fcn.onnx"]
    code, out, _ = run("verify", LENET, path, *QUICK, "--format", "json")
    document = json.loads(out)
    assert (code, document["equivalent"], document["reason"]) == (0, True, None)
    assert document["weights"]["changed"] == 0


def test_another_weight_is_1_and_says_where(run, pair):
    code, out, err = run("verify", *pair, *QUICK)
    assert (code, err) == (1, "")
    assert out.startswith("NOT equivalent: ")
    assert "FAIL" in out


@pytest.mark.parametrize("second", [0, 1])
def test_json_follows_the_schema(run, pair, second):
    code, out, _ = run("verify", pair[0], pair[second], *QUICK, "--format", "json")
    document = json.loads(out)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert code == second
    assert document["equivalent"] is (second == 0)
    (only,) = document["runs"]
    assert only["provider"]["asked"] == "cpu"
    assert only["provider"]["used"] == "CPUExecutionProvider"
    assert {
        "name",
        "max_abs",
        "max_rel",
        "limit",
        "limit_from",
        "would_pass_at",
        "argmax_agreement",
        "ok",
    } <= set(only["outputs"][0])


def test_every_limit_says_how_it_was_computed(run, tmp_path):
    """With lambda, u, K, n and N, for outputs, intermediate values and larger inputs alike."""
    target = tmp_path / "map.onnx"
    assert run("convert", LENET, "-o", target, "--no-verify")[0] == 0
    code, out, _ = run("verify", LENET, target, "--trials", 1, "--layers", "--format", "json")
    (found,) = json.loads(out)["runs"]
    assert code == 0
    rows = found["outputs"] + found["layers"] + found["dense"]
    assert all(row["limit_from"] for row in rows)
    sums = [row["limit_from"] for row in found["layers"] if "sqrt(Q)" in row["limit_from"]]
    assert all(part in sums[0] for part in ("lambda = ", "u = 2^-24", "K = ", "n the inputs", "N = "))
    for format_ in ("text", "markdown"):
        shown = " ".join(run("verify", LENET, target, "--trials", 1, "--format", format_)[1].split())
        assert "sqrt(2) lambda sigma" in shown
        assert "lambda u sqrt(Q)" in shown.replace("\\", "")


@pytest.mark.parametrize(
    ("name", "start"), [("p.md", "## Equivalent"), ("p.json", "{"), ("p.txt", "equivalent")]
)
def test_the_file_decides_the_format(run, tmp_path, name, start):
    code, out, _ = run("verify", LENET, LENET, *QUICK, "-o", tmp_path / name)
    assert (code, out) == (0, "")
    assert (tmp_path / name).read_text().startswith(start)


def test_a_seed_makes_the_same_run_again(run, pair):
    runs = [run("verify", *pair, *QUICK, "--seed", seed, "--format", "json")[1] for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_a_given_tolerance_replaces_the_limit(run, pair):
    code, out, _ = run("verify", *pair, *QUICK, "--atol", "100", "--rtol", "0", "--format", "json")
    (output,) = json.loads(out)["runs"][0]["outputs"]
    assert (output["limit"], output["ok"]) == (100.0, True)
    assert code == 0


def test_inputs_from_a_file(run, tmp_path):
    np.savez(tmp_path / "x.npz", input=np.zeros((1, 1, 32, 32), np.float32))
    code, out, _ = run("verify", LENET, LENET, "--inputs", tmp_path / "x.npz", "--format", "json")
    assert code == 0
    assert "x.npz" in json.loads(out)["runs"][0]["trials"][0]["family"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((LENET,), 2, "CANDIDATE"),
        (("-", LENET), 2, "standard input"),
        ((LENET, LENET, "--provider", "gnu"), 2, "gnu"),
        ((LENET, LENET, "--trials", "0"), 2, "--trials"),
        ((LENET, LENET, "--dense", "3"), 2, "HxW"),
        ((LENET, LENET, "--dense", "axb"), 2, "HxW"),
        ((LENET, LENET, "--inputs", "/no/such.npz"), 2, "no such"),
        ((LENET, LENET, "--timeout", "0"), 2, "--timeout"),
        ((LENET, "/no/such.onnx"), 3, "no such file"),
        ((str(ROOT), LENET), 3, "directory"),
        ((LENET, LENET, "--provider", "directml"), 4, "pip install"),
    ],
)
def test_errors_are_one_line_with_their_code(run, arguments, code, said):
    got, out, err = run("verify", *arguments)
    assert (got, out) == (code, "")
    assert err.startswith("onnxscope: error: ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("size", "told"), [("31x40", True), ("32x31", True), ("32x32", False)])
def test_a_dense_size_below_the_smallest_input(run, tmp_path, size, told):
    candidate = tmp_path / "fcn.onnx"
    assert run("convert", LENET, "-o", candidate, "--no-verify")[0] == 0
    code, _, err = run("verify", LENET, candidate, *QUICK, "--dense", size)
    assert code == (2 if told else 0)
    assert (f"--dense {size}: the smallest input is 32x32" in err) == told


def test_a_batch_of_minus_one_is_free(run, tmp_path):
    """As Paddle writes it: any batch can be asked for, timed, and drawn for a larger map."""
    original, candidate = tmp_path / "m.onnx", tmp_path / "fcn.onnx"
    draw = np.random.default_rng(0)
    stored = {"k": draw.standard_normal((4, 2, 3, 3), np.float32), "w": draw.random((4, 5), np.float32)}
    lines = ["c = Conv(x, k)", "p = GlobalAveragePool(c)", "f = Flatten(p)", "y = Gemm(f, w)"]
    save(net(lines, x="-1,2,?,?", **stored), original)
    assert run("convert", original, "-o", candidate, "--no-verify")[0] == 0
    pair = ("verify", original, candidate, *QUICK, "--format", "json")
    code, out, err = run(*pair, "--dense", "16x12", "--latency")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)["runs"]
    assert found["dense"][0]["windows"] == 1
    assert [row["batch"] for row in found["latency"]["batches"]] == [1, 8]
    code, out, _ = run(*pair, "--shape", "x=2,2,9,9")
    assert code == 0
    assert {tuple(trial["shapes"]["x"]) for trial in json.loads(out)["runs"][0]["trials"]} == {(2, 2, 9, 9)}


def test_missing_weights_are_3(run, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(onnx.load(LENET), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    (tmp_path / "m.bin").unlink()
    code, out, err = run("verify", LENET, path, *QUICK)
    assert (code, out) == (3, "")
    assert "m.bin" in err


@pytest.mark.parametrize("place", [0, 1])
def test_the_models_are_never_written(run, tmp_path, place):
    names = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for name in names:
        name.write_bytes(Path(LENET).read_bytes())
    code, _, err = run("verify", *names, *QUICK, "-o", names[place])
    assert code == 2
    assert "replace" in err
    assert names[place].read_bytes() == Path(LENET).read_bytes()


def test_progress_is_for_terminals_only():
    """The same command with its standard error on a pipe, and on a terminal."""
    command = [sys.executable, "-c", SLOW]
    piped = subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
    assert piped.stderr == b""
    ours, theirs = pty.openpty()
    subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT, check=True)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "verifying x: weights 1 s" in shown
    assert shown.endswith("\r\x1b[K")


SLOW = """
import time
from onnxscope.cli.progress import working
with working("verifying x") as say:
    say("weights")
    time.sleep(1.7)
"""


def test_providers_list_what_works(run):
    code, out, err = run("providers")
    assert (code, err) == (0, "")
    assert out.startswith("onnxruntime ")
    assert "  cpu       usable         CPUExecutionProvider\n" in out
    document = json.loads(run("providers", "--format", "json")[1])
    assert document["schema"] == "onnxscope.providers/1"
    cpu = next(row for row in document["providers"] if row["short"] == "cpu")
    assert cpu == {
        "short": "cpu",
        "name": "CPUExecutionProvider",
        "installed": True,
        "usable": True,
        "reason": None,
        "install": None,
        "plugin": None,
    }
    assert document["packages"]
    assert document["problems"] == []


def test_providers_name_two_wheels_of_one_module(run, monkeypatch):
    monkeypatch.setattr(
        "onnxscope.packages.packages", lambda: ("onnxruntime 1.32.0", "onnxruntime-gpu 1.31.1")
    )
    code, out, _ = run("providers")
    assert code == 0
    assert "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 overwrite each other" in " ".join(out.split())


@pytest.mark.parametrize("command", [["verify", LENET, LENET], ["providers"]])
def test_without_onnxruntime_the_answer_is_4_and_how_to_get_it(command):
    script = f"""
import sys
sys.modules["onnxruntime"] = None
from onnxscope.cli.main import main
sys.exit(main({command!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("onnxscope: error: onnxruntime is not installed; pip install")
    assert done.stderr.count("\n") == 1


def test_a_textual_model_runs_on_its_own_numbers(run, tmp_path):
    """Offsets into the binary form of a text are no offsets into the text file."""
    path = tmp_path / "lenet.onnxtxt"
    path.write_text(onnx.printer.to_text(onnx.load(LENET)))
    code, out, _ = run("verify", LENET, path, *QUICK, "--format", "json")
    assert code == 0
    (output,) = json.loads(out)["runs"][0]["outputs"]
    assert (output["max_abs"], output["argmax_agreement"]) == (0, 1)
