"""CUDA without a GPU: options, TF32 and fallback against an onnxruntime that only claims a device."""

import re
from pathlib import Path

import numpy as np
import pytest
import stub_cuda

from onnxscope import runtime
from onnxscope.errors import RuntimeFailure
from onnxscope.proof import worker
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify

MODEL = str(Path(__file__).parents[2] / "models" / "mnist_conv.onnx")


@pytest.fixture
def cuda(monkeypatch):
    """A worker whose onnxruntime claims CUDA; this process believes it too."""
    names = ("CUDAExecutionProvider", "CPUExecutionProvider")
    monkeypatch.setattr(runtime, "installed", lambda: names)
    stub = f"sys.path.append({str(Path(__file__).parent)!r}); import stub_cuda; stub_cuda.install(); "
    head, serve = worker._START.split("from onnxscope.proof.worker", 1)
    monkeypatch.setattr(worker, "_START", f"{head}{stub}from onnxscope.proof.worker{serve}")


def run_on(provider, candidate=MODEL):
    found = verify(Request(MODEL, candidate, providers=(provider,), trials=1))
    return found, found.runs[0]


def test_the_stub_rounds_to_eleven_bits():
    given = np.array([1 + 2**-11, 1 + 3 * 2**-11, 3.0, 0.0], np.float32)
    assert stub_cuda.rounded(given).tolist() == [1.0, 1 + 2**-9, 3.0, 0.0]


def test_tf32_is_off_unless_asked_for(cuda):
    found, run = run_on("cuda:device_id=0")
    assert found.equivalent
    assert run.provider.options == {"use_tf32": "0", "device_id": "0"}
    assert run.provider.used == "CUDAExecutionProvider"
    assert not any("TF32" in note for note in found.notes)


def test_nodes_that_ran_elsewhere_are_listed(cuda):
    _, run = run_on("cuda")
    assert len(run.provider.nodes_elsewhere) == 1
    assert run.provider.nodes_elsewhere[0].endswith("(CPUExecutionProvider)")
    assert run.provider.nodes_on_provider >= 5


def test_the_effect_of_tf32_is_said(cuda):
    found, _ = run_on("cuda:use_tf32=1")
    assert found.equivalent
    (note,) = [note for note in found.notes if "TF32" in note]
    moved, share = map(float, re.search(r"by up to (\S+), (\S+) of the largest", note).groups())
    # an operand moves by 2^-11 of itself at most: far above float32's own noise, below a few percent
    assert 2**-20 < share < 0.05
    assert moved > 0


def test_the_effect_of_tf32_on_the_candidate_alone(cuda):
    found, run = run_on("cpu/cuda:use_tf32=1")
    assert run.provider.used == "CPUExecutionProvider/CUDAExecutionProvider"
    assert run.outputs[0].max_abs > 0
    assert any(note.startswith("TF32 is on") for note in found.notes)


def test_cuda_that_falls_back_is_refused(cuda, monkeypatch):
    monkeypatch.setenv("STUB_NO_DEVICE", "1")
    with pytest.raises(
        RuntimeFailure, match="silently replaced CUDAExecutionProvider by CPUExecutionProvider"
    ):
        run_on("cuda")
