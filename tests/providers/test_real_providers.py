"""Real providers other than the CPU, through the installed command, each in an environment of its own.

`make test-providers` makes them; elsewhere these tests are skipped: one environment holds one onnxruntime.
"""

import json
import os
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

import pytest
import resnet

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
MNIST, LENET = (str(ROOT / "models" / f"{name}.onnx") for name in ("mnist_conv", "lenet5"))
ONNXSCOPE = Path(sysconfig.get_path("scripts")) / "onnxscope"
OPENVINO, WEBGPU, CUDA = (f"{name}ExecutionProvider" for name in ("OpenVINO", "WebGpu", "CUDA"))
HERE = os.environ.get("ONNXSCOPE_PROVIDER", "")


def only(*names):
    """For the environments of that name."""
    return pytest.mark.skipif(
        HERE not in names, reason=f"needs the environment {' or '.join(names)} of its own"
    )


def run(*arguments, **environment):
    """(exit code, standard output, standard error) of the installed command; None unsets a variable."""
    changed = {key: value for key, value in (os.environ | environment).items() if value is not None}
    done = subprocess.run(
        [ONNXSCOPE, *arguments], capture_output=True, text=True, env=changed, cwd=ROOT, check=False
    )
    return done.returncode, done.stdout, done.stderr


def verified(original, candidate, provider, *options):
    """(exit code, the one run) of a verification."""
    code, out, err = run(
        "verify", original, candidate, "--provider", provider, "--trials", "1", "--format", "json", *options
    )
    assert out, err
    return code, json.loads(out)["runs"][0]


@cache
def rows():
    code, out, _ = run("providers", "--format", "json")
    assert code == 0
    return {row["short"]: row for row in json.loads(out)["providers"]}


def refused(*arguments, **environment):
    """The one line of an exit 4."""
    code, out, err = run("verify", *arguments, **environment)
    assert (code, out) == (4, "")
    assert err.startswith("onnxscope: error: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "fcn.onnx"
    code, _, err = run("convert", MNIST, "-o", str(path), "--no-verify")
    assert code == 0, err
    return str(path)


@only("openvino", "plugin")
def test_openvino_runs_the_graph_as_one_node(converted):
    assert rows()["openvino"]["usable"]
    asked = "openvino:device_type=CPU" if HERE == "openvino" else "openvino"
    code, found = verified(MNIST, converted, asked)
    assert code == 0, found
    used = found["provider"]
    assert (used["used"], used["nodes_on_provider"], used["nodes_elsewhere"]) == (OPENVINO, 1, [])


@only("openvino", "plugin")
def test_original_on_the_cpu_against_candidate_on_openvino(converted):
    code, found = verified(MNIST, converted, "cpu/openvino")
    assert code == 0, found
    assert found["provider"]["used"] == f"CPUExecutionProvider/{OPENVINO}"
    assert found["outputs"][0]["max_abs"] > 0  # another order of sums


@only("openvino", "plugin")
def test_all_runs_openvino_too(converted):
    _, out, _ = run("verify", MNIST, converted, "--provider", "all", "--trials", "1", "--format", "json")
    found = json.loads(out)
    assert found["equivalent"]
    assert [run["provider"]["asked"] for run in found["runs"]] == ["cpu", "openvino"]


@only("plugin")
def test_a_plugin_package_is_found_and_named():
    assert rows()["openvino"]["plugin"] == "onnxruntime_ep_openvino"
    assert "OpenVINOExecutionProvider (plugin onnxruntime_ep_openvino)" in run("providers")[1]


@only("openvino")
def test_an_option_that_openvino_does_not_know_is_refused():
    assert "Invalid OpenVINO EP option: nonsense" in refused(
        MNIST, MNIST, "--provider", "openvino:nonsense=1"
    )


@only("openvino")
def test_a_device_that_openvino_lacks_is_a_silent_fallback():
    error = refused(MNIST, MNIST, "--provider", "openvino:device_type=GPU")
    assert f"silently replaced {OPENVINO} by CPUExecutionProvider" in error


LEFT_TO_THE_CPU = """<ir_version: 8, opset_import: ["": 17]>
g (float[1,4,4] x, int64[3] shape) => (float[1,4,4] y, float[1] d) {
  [a] a = Atanh (x)
  [b] b = Neg (a)
  [c] c = Relu (b)
  [pool] p = LpPool <kernel_shape = [1]> (c)
  [e] e = Reshape (p, shape)
  [f] f = Neg (e)
  [h] y = Relu (f)
  [det] d = Det (y)
}"""


def assigned(data):
    """Node -> the provider that onnxruntime gives it to, OpenVINO as wheel or as plugin."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if HERE == "plugin":
        import onnxruntime_ep_openvino as plugin

        onnxruntime.register_execution_provider_library(OPENVINO, plugin.get_library_path())
        cpu = onnxruntime.OrtHardwareDeviceType.CPU
        devices = [d for d in onnxruntime.get_ep_devices() if (d.ep_name, d.device.type) == (OPENVINO, cpu)]
        settings.add_provider_for_devices(devices[:1], {})
        session = onnxruntime.InferenceSession(data, settings)
    else:
        session = onnxruntime.InferenceSession(data, settings, providers=[OPENVINO, "CPUExecutionProvider"])
    parts = session.get_provider_graph_assignment_info()
    return {node.name: part.ep_name for part in parts for node in part.get_nodes()}


@only("openvino", "plugin")
def test_the_audit_knows_what_openvino_leaves_to_the_cpu(tmp_path):
    """OX702's table against onnxruntime: the nodes it names, and no others."""
    import onnx.parser

    data = onnx.parser.parse_model(LEFT_TO_THE_CPU).SerializeToString()
    (tmp_path / "some.onnx").write_bytes(data)
    arguments = ("--target", "openvino", "--select", "OX702", "--format", "json")
    code, out, err = run("audit", str(tmp_path / "some.onnx"), *arguments)
    assert code == 0, err
    findings = json.loads(out)["models"][0]["findings"]
    named = {node for finding in findings for node in finding["data"]["nodes"]}
    left = {name for name, provider in assigned(data).items() if provider != OPENVINO}
    assert named == left == {"pool", "det"}


@only("webgpu")
def test_webgpu_runs_node_by_node(converted):
    assert rows()["webgpu"]["usable"]
    code, found = verified(MNIST, converted, "cpu/webgpu")
    assert code == 0, found
    assert found["provider"]["used"] == f"CPUExecutionProvider/{WEBGPU}"
    assert found["provider"]["nodes_elsewhere"] == []
    assert found["provider"]["nodes_on_provider"] >= 16
    assert 0 < found["outputs"][0]["max_abs"] < 1e-6  # probabilities


@only("webgpu")
def test_both_models_on_webgpu(converted):
    code, found = verified(MNIST, converted, "webgpu")
    assert code == 0, found
    assert found["provider"]["used"] == WEBGPU
    assert {layer["name"] for layer in found["layers"]} >= {"fc1_out", "fc2_out"}


@only("webgpu")
def test_resnet18_on_webgpu(tmp_path):
    path = str(tmp_path / "resnet18.onnx")
    resnet.save(path)
    code, found = verified(path, path, "cpu/webgpu")
    assert code == 0, found
    assert found["provider"]["nodes_elsewhere"] == []
    assert found["provider"]["nodes_on_provider"] >= 2 * 20  # convolutions, in either model
    assert found["outputs"][0]["max_abs"] > 0


@only("webgpu")
def test_a_convolution_that_webgpu_gets_wrong_is_found_by_name():
    """onnxruntime-webgpu 1.27.0: 6 input channels to 8 or more come out wrong (onnxruntime issue 29651)."""
    code, found = verified(LENET, LENET, "cpu/webgpu", "--layers")
    assert code == 1
    assert found["first_divergence"] == "conv2_out"
    assert not found["outputs"][0]["ok"]


@only("webgpu")
def test_webgpu_without_a_device_is_no_silent_fallback():
    """onnxruntime prints a note and runs the session on the CPU."""
    error = refused(MNIST, MNIST, "--provider", "webgpu", VK_ICD_FILENAMES=None)
    assert f"{WEBGPU}: failed while creating the session: Failed to get a WebGPU adapter" in error
    _, out, _ = run("providers", "--format", "json", VK_ICD_FILENAMES=None)
    row = next(row for row in json.loads(out)["providers"] if row["short"] == "webgpu")
    assert (row["installed"], row["usable"]) == (True, False)
    assert "Failed to get a WebGPU adapter" in row["reason"]


@only("cuda")
def test_cuda_with_and_without_tf32(converted):
    if not rows()["cuda"]["usable"]:
        pytest.skip(f"CUDA doesn't load: {rows()['cuda']['reason']}")
    code, found = verified(MNIST, converted, "cpu/cuda")
    assert code == 0, found
    assert found["provider"]["used"] == f"CPUExecutionProvider/{CUDA}"
    assert found["provider"]["options"]["candidate.use_tf32"] == "0"
    code, out, _ = run("verify", MNIST, converted, "--provider", "cuda:use_tf32=1", "--trials", "1")
    assert code == 0, out
    assert "TF32 is on" in out


@only("cuda")
def test_cuda_without_a_device_is_no_silent_fallback():
    if rows()["cuda"]["usable"]:
        pytest.skip("CUDA loads")
    assert rows()["cuda"]["installed"]
    assert rows()["cuda"]["reason"]
    error = refused(MNIST, MNIST, "--provider", "cuda")
    assert f"silently replaced {CUDA} by CPUExecutionProvider" in error
    refused(MNIST, MNIST, "--provider", "tensorrt")


@only("openvino", "plugin", "webgpu", "cuda")
def test_a_provider_of_another_wheel_comes_with_the_command():
    error = refused(MNIST, MNIST, "--provider", "qnn")
    assert "has no QNNExecutionProvider; it has" in error
    assert "pip install onnxruntime-qnn" in error
