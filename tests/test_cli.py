"""The command line as a user meets it: output, exit codes, one-line errors, nothing heavy for --help."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onnxscope import __version__, documents
from onnxscope.cli import reporting
from onnxscope.cli.main import main

ROOT = Path(__file__).parents[1]
MNIST = str(ROOT / "models" / "mnist_conv.onnx")
NET32 = str(ROOT / "models" / "net32.onnx")
HEAVY = {"numpy", "onnx", "onnxruntime", "rich", "ml_dtypes", "google.protobuf"}


@pytest.fixture
def run(capfd, monkeypatch):
    """Run the command in this process: (exit code, standard output, standard error)."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def process(*arguments, **options):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "onnxscope", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, cwd=ROOT, timeout=60, **options)


# --- help and version ---


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["--version"], [], ["report", "--help"], ["report", "-h"]]
)
def test_help_and_version_are_light(arguments):
    script = f"""
import sys
from onnxscope.cli.main import main
code = main({arguments!r})
print(code, *sys.modules)
"""
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    code, *loaded = out.splitlines()[-1].split()
    assert code == "0"
    assert HEAVY.isdisjoint(loaded)
    ours = {name for name in loaded if name.startswith("onnxscope.")}
    assert {name for name in ours if not name.startswith("onnxscope.cli")} <= {"onnxscope.errors"}


def test_version(run):
    assert run("--version") == (0, f"onnxscope {__version__}\n", "")


def test_help_lists_what_there_is(run):
    _, out, _ = run("--help")
    commands = out.split("Commands:")[1].split()
    assert {"report", "providers"} <= set(commands)
    assert {"explain", "sketch"}.isdisjoint(commands)


def test_options_of_the_contract(run):
    _, out, _ = run("report", "--help")
    for option in "--format -o --shape --dim --explain --all-ops --depth --sort --top".split():
        assert option in out


@pytest.mark.parametrize("command", ["report", "convert", "verify"])
def test_examples_in_the_help_keep_their_lines(run, command):
    _, out, _ = run(command, "--help")
    examples = [line for line in out.splitlines() if line.startswith(f"  onnxscope {command} ")]
    assert len(examples) >= 3
    assert "\\" not in out
    assert "\b" not in out


def test_sort_keys_are_those_of_the_documents():
    assert reporting.SORT_KEYS == documents.SORT_KEYS


# --- results ---


def test_text_by_default(run):
    code, out, err = run("report", MNIST)
    assert (code, err) == (0, "")
    assert "217,706" in out
    assert "2 FC layers with 95.4 % of the parameters: all can become convolutions" in out
    assert max(map(len, out.split("\n"))) <= 100


def test_json(run):
    code, out, err = run("report", MNIST, "--format", "json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "onnxscope.report/1"
    assert document["model"]["path"] == MNIST
    assert document["layers"][0]["formula"]["params"] == "(5*5*1 + 1)*32 = 832"


@pytest.mark.parametrize(("form", "start"), [("markdown", "# "), ("csv", "name,op,"), ("text", "")])
def test_other_formats(run, form, start):
    code, out, _ = run("report", MNIST, "--format", form)
    assert code == 0
    assert out.startswith(start)


def test_explain_shows_formulas(run):
    _, out, _ = run("report", MNIST, "--explain")
    assert "    size    (28 + 2*0 - 1*(5 - 1) - 1)//1 + 1 = 24\n    params  (5*5*1 + 1)*32 = 832\n" in out
    assert "(800 + 1)*256 = 205056" in out


def test_rows(run):
    _, out, _ = run("report", MNIST, "--format", "json", "--sort", "params", "--top", "1")
    assert [layer["name"] for layer in json.loads(out)["layers"]] == ["fc1"]
    _, out, _ = run("report", MNIST, "--format", "json", "--depth", "1")
    assert len(json.loads(out)["groups"]) == 6
    _, out, _ = run("report", MNIST, "--format", "json", "--all-ops")
    assert {layer["op"] for layer in json.loads(out)["layers"]} >= {"Relu", "Flatten"}


def test_shape_and_dim(run):
    _, out, _ = run("report", NET32, "--format", "json", "--shape", "input=N,1,H,W", "--dim", "N=3")
    document = json.loads(out)
    assert document["inputs"][0]["shape"] == [3, 1, "H", "W"]
    assert ["(H - 12)//4", "(W - 12)//4"] in document["spatial"]["closed_form"].values()


def test_standard_input():
    done = process("report", "-", "--format", "json", input=Path(MNIST).read_bytes())
    assert done.returncode == 0
    assert json.loads(done.stdout)["model"]["path"] == "-"


def test_general_options_stand_before_and_behind(run):
    for arguments in (("-v", "report", MNIST), ("report", MNIST, "-v")):
        code, out, err = run(*arguments)
        assert code == 0
        assert "217,706" in out
        assert [line.startswith("onnxscope: ") for line in err.splitlines()] == [True, True]


def test_csv_tells_of_problems_that_it_can_t_hold(run, tmp_path):
    text = (
        '<ir_version: 8, opset_import: ["": 17, "my": 1]> g (float[1] x) => (float[1] y) { y = my.Magic (x) }'
    )
    import onnx

    path = tmp_path / "odd.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    code, out, err = run("report", path, "--format", "csv")
    assert code == 0
    assert out.startswith("name,")
    assert err == "onnxscope: 1 problem that a CSV can't hold; --format json lists them\n"
    assert run("-q", "report", path, "--format", "csv")[2] == ""


# --- width and color ---


def test_columns_are_respected(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    _, narrow, _ = run("report", MNIST)
    monkeypatch.setenv("COLUMNS", "150")
    _, wide, _ = run("report", MNIST)
    assert max(map(len, narrow.split("\n"))) <= 70
    assert "receptive field  input" in wide


# --- files ---


def test_output_file(run, tmp_path):
    target = tmp_path / "report.txt"
    assert run("report", MNIST, "-o", target) == (0, "", "")
    assert "217,706" in target.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.txt"]


@pytest.mark.parametrize(
    ("name", "start"), [("r.json", "{"), ("r.MD", "# "), ("r.csv", "name,"), ("r.out", str(ROOT))]
)
def test_the_ending_tells_the_format(run, tmp_path, name, start):
    run("report", MNIST, "-o", tmp_path / name)
    assert (tmp_path / name).read_text().startswith(start)


def test_a_given_format_wins_over_the_ending(run, tmp_path):
    run("report", MNIST, "-o", tmp_path / "r.json", "--format", "csv")
    assert (tmp_path / "r.json").read_text().startswith("name,")


def test_output_replaces_an_older_one_and_keeps_its_mode(run, tmp_path):
    target = tmp_path / "report.txt"
    target.write_text("old")
    target.chmod(0o640)
    assert run("report", MNIST, "-o", target)[0] == 0
    assert "217,706" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o640


def test_output_through_a_link_leaves_the_link(run, tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    assert run("report", MNIST, "-o", tmp_path / "link.txt")[0] == 0
    assert (tmp_path / "link.txt").is_symlink()
    assert "217,706" in (tmp_path / "real.txt").read_text()


def test_output_to_a_device_leaves_the_device(run):
    before = os.stat(os.devnull)
    assert run("report", MNIST, "-o", os.devnull)[0] == 0
    assert os.stat(os.devnull).st_rdev == before.st_rdev


@pytest.mark.parametrize("way", ["same", "link"])
def test_the_model_is_never_written(run, tmp_path, way):
    model = tmp_path / "model.onnx"
    model.write_bytes(Path(MNIST).read_bytes())
    target = model if way == "same" else tmp_path / "link.onnx"
    if way == "link":
        target.symlink_to(model)
    code, out, err = run("report", model, "-o", target)
    assert (code, out) == (2, "")
    assert "would replace the model" in err
    assert model.read_bytes() == Path(MNIST).read_bytes()


def test_an_output_that_can_t_be_written(run, tmp_path):
    code, _, err = run("report", MNIST, "-o", tmp_path / "no" / "report.txt")
    assert code == 2
    assert "can't be written: No such file or directory" in err


# --- names that hold signs ---


def named(path, name, free="N"):
    """A model whose input bears `name`."""
    from onnx import TensorProto, helper

    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [free, 3]) for n in (name, "y")]
    graph = helper.make_graph([helper.make_node("Relu", [name], ["y"])], "g", infos[:1], infos[1:])
    path.write_bytes(helper.make_model(graph, ir_version=8).SerializeToString())
    return path


@pytest.mark.parametrize("name", ["x:0", "a=b", "a b", "serving/input:0", "=", "入力"])
def test_names_may_hold_signs(run, tmp_path, name):
    path = named(tmp_path / "m.onnx", name)
    code, out, _ = run("report", path, "--shape", f"{name}=4,3", "--format", "json")
    assert code == 0
    assert json.loads(out)["inputs"] == [{"name": name, "dtype": "float32", "shape": [4, 3]}]


@pytest.mark.parametrize("symbol", ["batch size", "?", "dim-1", "a=b", "N,M"])
def test_symbols_are_opaque(run, tmp_path, symbol):
    path = named(tmp_path / "m.onnx", "x", symbol)
    code, out, _ = run("report", path, "--dim", f"{symbol}=7", "--format", "json")
    assert code == 0
    assert json.loads(out)["inputs"][0]["shape"] == [7, 3]


def test_a_scalar_input(run, tmp_path):
    from onnx import TensorProto, helper

    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", infos[:1], infos[1:])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, ir_version=8).SerializeToString())
    code, out, _ = run("report", tmp_path / "m.onnx", "--shape", "x=", "--format", "json")
    assert code == 0
    assert json.loads(out)["outputs"][0]["shape"] == []


# --- pipes, signals, encodings ---


def test_a_reader_that_leaves_is_no_error(tmp_path):
    started = subprocess.Popen(
        [sys.executable, "-m", "onnxscope", "report", MNIST],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert started.stdout is not None
    assert started.stderr is not None
    started.stdout.close()
    assert started.stderr.read() == b""
    started.stderr.close()
    assert started.wait(60) == 141


def test_interrupted_is_quiet():
    started = subprocess.Popen(
        [sys.executable, "-c", "from onnxscope.cli.main import main; import sys; print('up', flush=True);"
         "sys.exit(main(['report', '-']))"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline() == b"up\n"
    time.sleep(0.5)  # until it waits for a model on standard input
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)
    assert (started.returncode, out.strip(), err.strip()) == (130, b"", b"")


def test_an_ascii_terminal_gets_escapes(tmp_path):
    path = named(tmp_path / "m.onnx", "入力")
    done = process("report", path, env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0
    assert b"\\u5165\\u529b" in done.stdout


def test_run_as_a_module_is_the_command(run):
    done = process("report", MNIST)
    assert done.returncode == 0
    assert done.stdout.decode() == run("report", MNIST)[1]


# --- documentation ---


def test_the_docs_commands_run(run, tmp_path, monkeypatch):
    """The commands at the top of docs/report.md, on a model of their names."""
    (tmp_path / "model.onnx").write_bytes(named(tmp_path / "m.onnx", "input", "batch").read_bytes())
    monkeypatch.chdir(tmp_path)
    block = (ROOT / "docs" / "report.md").read_text(encoding="utf-8").split("```")[1]
    commands = [line.split()[1:] for line in block.splitlines() if line.startswith("onnxscope ")]
    assert len(commands) == 4
    for arguments in commands:
        code, _, err = run(*(argument.replace("N,3,H,W", "N,3") for argument in arguments))
        assert (code, err) == (0, "")


@pytest.mark.parametrize(("page", "command"), [("report.md", ["report"]), ("command-line.md", [])])
def test_the_docs_options_exist(run, page, command):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `-")]
    options = {word.strip("`,") for row in rows for word in row.split() if word.startswith("`-")}
    _, shown, _ = run(*command, "--help")
    assert len(options) >= 7
    assert {option for option in options if option not in shown} == set()


def test_completion():
    words = {
        "COMP_WORDS": "onnxscope report --exp",
        "COMP_CWORD": "2",
        "_ONNXSCOPE_COMPLETE": "bash_complete",
    }
    done = process(env={**os.environ, **words})
    assert done.stdout == b"plain,--explain\n"


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("name", ["crnn.script.op13.batch", "lasagne_mnist.script.op17.fixed.qdq"])
def test_every_run_says_the_same(name, form):
    """Whatever order sets and dicts hash in."""
    command = [sys.executable, "-m", "onnxscope", "report", f"models/exported/{name}.onnx", "--all-ops"]
    runs = [
        subprocess.run(
            [*command, "--format", form],
            capture_output=True,
            cwd=ROOT,
            timeout=60,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout
    assert runs[0].stdout == runs[1].stdout
