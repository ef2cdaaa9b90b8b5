"""Real providers other than the CPU, where this onnxruntime has one: `make test-providers` sees to that."""

import os
from pathlib import Path

import onnxruntime
import pytest

from onnxscope import runtime
from onnxscope.errors import RuntimeFailure
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify

MODELS = Path(__file__).parents[2] / "models"
FULL = {
    "openvino": "OpenVINOExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
ASKED = {"openvino": "openvino:device_type=CPU", "webgpu": "webgpu", "cuda": "cuda"}


@pytest.fixture(params=FULL)
def name(request):
    """A provider that is installed and loads."""
    if FULL[request.param] not in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has no {FULL[request.param]}")
    rows = {row.short: row for row in runtime.providers()}
    if not rows[request.param].loads:
        pytest.skip(f"{FULL[request.param]} doesn't load: {rows[request.param].reason}")
    return request.param


@pytest.fixture
def candidate(tmp_path):
    import onnxscope

    path = tmp_path / "fcn.onnx"
    onnxscope.convert(str(MODELS / "lenet5.onnx"), str(path), verify=False)
    return str(path)


def test_a_conversion_on_the_provider(name, candidate):
    found = verify(Request(str(MODELS / "lenet5.onnx"), candidate, providers=(ASKED[name],), trials=1))
    (run,) = found.runs
    assert run.provider.used == FULL[name]
    assert run.provider.nodes_on_provider >= 1
    assert found.equivalent, found
    assert any(output.max_abs > 0 for output in run.outputs) or run.layers


def test_original_on_the_cpu_against_candidate_on_the_provider(name, candidate):
    asked = f"cpu/{ASKED[name]}"
    found = verify(Request(str(MODELS / "lenet5.onnx"), candidate, providers=(asked,), trials=1))
    (run,) = found.runs
    assert run.provider.used == f"CPUExecutionProvider/{FULL[name]}"
    assert found.equivalent, found


def test_all_runs_it_too(name):
    model = str(MODELS / "lenet5.onnx")
    found = verify(Request(model, model, providers=("all",), trials=1))
    assert {"cpu", name} <= {run.provider.asked for run in found.runs}


def test_webgpu_without_a_device_is_a_silent_fallback(monkeypatch):
    if FULL["webgpu"] not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no WebGpuExecutionProvider")
    if "VK_ICD_FILENAMES" not in os.environ:
        pytest.skip("VK_ICD_FILENAMES isn't set, so nothing tells that a device would be there")
    monkeypatch.setenv("VK_ICD_FILENAMES", "/nonexistent.json")
    model = str(MODELS / "lenet5.onnx")
    with pytest.raises(RuntimeFailure) as caught:
        verify(Request(model, model, providers=("webgpu",), trials=1))
    assert "WebGpuExecutionProvider" in str(caught.value)
    assert not {row.short: row for row in runtime.providers()}["webgpu"].loads
