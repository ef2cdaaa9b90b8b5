"""In a worker: an onnxruntime that claims a CUDA device. Sessions run on the CPU; with `use_tf32` on, inputs
are rounded to 11 bits first, as the hardware rounds operands. Softmax stays on the CPU.
"""

import json
import os

import numpy as np
import onnxruntime

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
REAL = onnxruntime.InferenceSession


def rounded(array):
    """Float32 with 10 stored mantissa bits, ties to even."""
    if array.dtype != np.float32:
        return array
    mantissa, exponent = np.frexp(array.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 2**11), exponent - 11).astype(np.float32)


class Session:
    def __init__(self, source, options=None, providers=(), enable_fallback=1):
        assert enable_fallback == 0, "a fallback behind our back was allowed"
        asked = dict(entry if isinstance(entry, tuple) else (entry, {}) for entry in providers)
        self.cuda = CUDA in asked and "STUB_NO_DEVICE" not in os.environ
        self.tf32 = self.cuda and asked[CUDA].get("use_tf32") != "0"
        self.real = REAL(source, options, providers=[CPU])

    def __getattr__(self, name):
        return getattr(self.real, name)

    def run(self, names, feeds):
        if self.tf32:
            feeds = {name: rounded(array) for name, array in feeds.items()}
        return self.real.run(names, feeds)

    def get_providers(self):
        return [CUDA, CPU] if self.cuda else [CPU]

    def end_profiling(self):
        path = self.real.end_profiling()
        with open(path) as file:
            events = json.load(file)
        for event in events:
            if self.cuda and event.get("args", {}).get("op_name") not in (None, "Softmax"):
                event["args"]["provider"] = CUDA
        with open(path, "w") as file:
            json.dump(events, file)
        return path


def install():
    onnxruntime.InferenceSession = Session
    onnxruntime.get_available_providers = lambda: [CUDA, CPU]
