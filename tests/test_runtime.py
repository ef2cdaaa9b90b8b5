"""Names and options of providers, and what this onnxruntime really offers."""

from types import SimpleNamespace

import onnxruntime
import pytest

from onnxscope import runtime
from onnxscope.errors import RuntimeFailure, UsageError
from onnxscope.packages import packages

F32_ON_CPU_AND_GPU = (
    '{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}, "GPU": {"INFERENCE_PRECISION_HINT": "f32"}}'
)


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("cpu", "CPUExecutionProvider", {}),
        ("CPUExecutionProvider", "CPUExecutionProvider", {}),
        ("cuda", "CUDAExecutionProvider", {"use_tf32": "0"}),
        (
            "cuda:device_id=0,use_tf32=1",
            "CUDAExecutionProvider",
            {"use_tf32": "1", "device_id": "0"},
        ),
        (
            "openvino",
            "OpenVINOExecutionProvider",
            {"load_config": F32_ON_CPU_AND_GPU},
        ),
        (
            "openvino:device_type=CPU,load_config={}",
            "OpenVINOExecutionProvider",
            {"device_type": "CPU", "load_config": "{}"},
        ),
        ("CANNExecutionProvider", "CANNExecutionProvider", {}),
    ],
)
def test_parse(text, name, options):
    found = runtime.parse(text)
    assert (found.name, found.options, found.asked) == (name, options, text)


def test_every_short_name_of_the_contract_is_known():
    names = "cpu cuda tensorrt openvino directml coreml rocm migraphx qnn webgpu".split()
    assert [runtime.parse(name).name.endswith("ExecutionProvider") for name in names] == [True] * 10


def test_tf32_is_off_unless_asked_for():
    assert not runtime.parse("cuda").tf32
    assert runtime.parse("cuda:use_tf32=1").tf32
    assert not runtime.parse("cpu").tf32


def test_a_plugin_names_its_library():
    found = runtime.parse("MyProvider:library=plugins/x.so,level=3")
    assert (found.name, found.plugin, found.options) == ("MyProvider", "plugins/x.so", {"level": "3"})


@pytest.mark.parametrize("text", ["gpu", "", "cuda:device_id", "cuda:=1", "cpu:use_arena=0"])
def test_bad_names_and_options(text):
    with pytest.raises(UsageError):
        runtime.parse(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cpu", ["CPUExecutionProvider"] * 2),
        ("cpu/cuda", ["CPUExecutionProvider", "CUDAExecutionProvider"]),
        ("cpu/cuda:device_id=1", ["CPUExecutionProvider", "CUDAExecutionProvider"]),
        ("P:library=/a/b.so/cpu", ["P", "CPUExecutionProvider"]),
    ],
)
def test_pairs(text, names):
    assert [provider.name for provider in runtime.parse_pair(text)] == names


@pytest.mark.parametrize("text", ["cpu/cuda/cpu", "cpu/", "/cpu"])
def test_bad_pairs(text):
    with pytest.raises(UsageError):
        runtime.parse_pair(text)


def test_version_is_that_of_the_module():
    assert runtime.version() == f"onnxruntime {onnxruntime.__version__}"


def test_a_provider_that_is_not_installed_comes_with_the_command():
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(RuntimeFailure, match="pip install onnxruntime-gpu"):
        runtime.resolved(runtime.parse("cuda"))
    runtime.resolved(runtime.parse("cpu"))


def package(name, version, **files):
    """A distribution as `importlib.metadata` gives it."""
    return SimpleNamespace(name=name, version=version, read_text=files.get)


def test_two_wheels_of_one_module_are_named(monkeypatch):
    both = [
        package("onnxruntime-gpu", "1.31.1", **{"top_level.txt": "onnxruntime\n"}),
        package("onnxruntime", "1.32.0", RECORD="onnxruntime/LICENSE,,\nonnxruntime/__init__.py,,\n"),
        package("onnxruntime-extensions", "0.1", **{"top_level.txt": "onnxruntime_extensions\n"}),
        package("other", "1.0", RECORD="other/onnxruntime/x.py,,\n"),
    ]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: [*both, both[0]])
    assert packages() == ("onnxruntime 1.32.0", "onnxruntime-gpu 1.31.1")
    assert runtime.version() == f"onnxruntime {onnxruntime.__version__}"  # what is really imported
    with pytest.raises(
        RuntimeFailure, match="pip uninstall onnxruntime onnxruntime-gpu, then install the one"
    ):
        runtime.resolved(runtime.parse("QNNExecutionProvider"))


def test_a_plugin_package_brings_its_library(monkeypatch, tmp_path):
    (tmp_path / "onnxruntime_ep_mine.py").write_text(
        "get_ep_names = lambda: ['MineExecutionProvider']\nget_library_path = lambda: 'plugins/mine.so'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert runtime.plugins()["MineExecutionProvider"] == ("onnxruntime_ep_mine", "plugins/mine.so")
    found = runtime.resolved(runtime.parse("MineExecutionProvider:level=3"))
    assert (found.plugin, found.options) == ("plugins/mine.so", {"level": "3"})
    row = next(row for row in runtime.providers() if row.name == "MineExecutionProvider")
    assert (row.installed, row.loads, row.plugin) == (True, False, "onnxruntime_ep_mine")
    assert "Failed to load library" in row.reason
    assert "plugins/mine.so" in row.reason


def test_a_broken_plugin_package_is_passed_over(monkeypatch, tmp_path):
    (tmp_path / "onnxruntime_ep_broken.py").write_text("raise OSError('no driver')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert not any(module == "onnxruntime_ep_broken" for module, _ in runtime.plugins().values())


def test_providers_are_tried_in_processes_of_their_own(monkeypatch):
    rows = {row.short: row for row in runtime.providers()}
    assert rows["cpu"] == runtime.Support("cpu", "CPUExecutionProvider", True, True, "", "")
    assert "cpu" in runtime.usable()
    absent = [row for row in rows.values() if not row.installed]
    assert all(row.install and not row.loads for row in absent)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crashes (signal 11)"),
        ("import time; time.sleep(60)", "hangs: no answer in 1 s"),
        ("print('note'); print('{\"error\": \"no device\"}')", "no device"),
        ("print('{\"used\": false}')", "the session silently uses another provider"),
        ("import sys; sys.exit('libcuda.so is missing')", "libcuda.so is missing"),
    ],
)
def test_why_a_provider_does_not_load(monkeypatch, code, reason):
    monkeypatch.setattr(runtime, "installed", lambda: ("CPUExecutionProvider",))
    monkeypatch.setattr(runtime, "_PROBE", code)
    rows = {row.short: row for row in runtime.providers(timeout=1)}
    assert (rows["cpu"].installed, rows["cpu"].loads, rows["cpu"].reason) == (True, False, reason)
    assert runtime.usable(timeout=1) == ()
