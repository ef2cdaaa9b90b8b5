"""Which ops, versions and types a provider has kernels for: writes a table of `onnxscope/checks/data`.

Run it in an environment with the provider's onnxruntime (1.24 or later) and onnx:

    cd onnxscope/checks/data
    python benchmarks/targets.py WebGpuExecutionProvider > webgpu.txt
    python benchmarks/targets.py CUDAExecutionProvider > cuda.txt

Each single-node case of ONNX's own node tests is loaded as it is, under every older version of its op, and
with every other element type in place of its floats; onnxruntime says which provider it gave the node to.
Nothing is run: CUDA was asked without a device, its libraries replaced by stubs whose functions return 0. An
op, version or type counts as taken where one case of it was; after TRIES cases that were not, no more are
tried.

Only for providers with kernels per node: those that compile subgraphs (OpenVINO, TensorRT) judge a node by
its neighbours and by which inputs are constant, so a graph of one node tells little (OpenVINO 1.24.1 leaves a
lone Reshape or Cast to the CPU and takes them inside a network).
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator

os.environ["ALLOW_RELEASED_ONNX_OPSETS_ONLY"] = "0"

import onnx
import onnxruntime
from onnx.backend.test.case.node import collect_testcases

TYPES = {1: "float32", 10: "float16", 11: "float64", 6: "int32", 7: "int64", 3: "int8", 2: "uint8", 9: "bool"}
TRIES = 2
OTHERS = (11, 7, 6)
"""The types that a float32 case is tried with too: float64, int64, int32."""
Known = dict[str, dict[int, bool]]
"""By op, and version or type: whether the provider took a case."""
Case = tuple[str, int, int, bytes]
"""(op, since version, element type of the first input, model)."""


def taken(model: bytes, provider: str, options: dict[str, str]) -> bool | None:
    """Whether the provider gets the node; None where the model doesn't load, or it isn't told.

    Kernels of CUDA and WebGPU aren't recorded, nor are float16 nodes that run on the CPU between casts.
    """
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    wanted = [(provider, options), "CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(model, settings, providers=wanted, enable_fallback=0)
    except Exception:  # no kernel anywhere, or an invalid combination
        return None
    names = {part.ep_name for part in session.get_provider_graph_assignment_info()}
    if provider in names or "CPUExecutionProvider" in names:
        return provider in names
    half = any(given.type == "tensor(float16)" for given in session.get_inputs())
    return None if half else True


def cases() -> Iterator[Case]:
    """Every single-node case, its older versions and its other types."""
    for case in collect_testcases(None):
        model = case.model
        assert model is not None
        if len(model.graph.node) != 1 or model.graph.node[0].domain:
            continue
        op, kind = model.graph.node[0].op_type, _first(model)
        newest = next(entry.version for entry in model.opset_import if not entry.domain)
        for since in sorted({_since(op, version) for version in range(7, newest + 1)} - {0}):
            yield op, since, kind, _under(model, max(since, 7) if since < _since(op, newest) else newest)
        for other in OTHERS if kind == 1 else ():
            yield op, _since(op, newest), other, _typed(model, other)


def _since(op: str, version: int) -> int:
    """The version of an op in an opset; 0 where it has none."""
    try:
        return int(onnx.defs.get_schema(op, version, "").since_version)
    except onnx.defs.SchemaError:
        return 0


def _first(model: onnx.ModelProto) -> int:
    return model.graph.input[0].type.tensor_type.elem_type if model.graph.input else 0


def _under(model: onnx.ModelProto, version: int) -> bytes:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for entry in copy.opset_import:
        if not entry.domain:
            entry.version = version
    copy.ir_version = min(copy.ir_version, 10)
    return bytes(copy.SerializeToString())


def _typed(model: onnx.ModelProto, kind: int) -> bytes:
    """The same node with another element type in place of float32."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for info in (*copy.graph.input, *copy.graph.output):
        if info.type.tensor_type.elem_type == 1:
            info.type.tensor_type.elem_type = kind
    return bytes(copy.SerializeToString())


def main(provider: str, *given: str) -> None:
    """Print the table, of what is known by then: op|versions taken|not taken|types taken|not taken."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))
    versions: dict[str, dict[int, bool]] = defaultdict(dict)
    types: dict[str, dict[int, bool]] = defaultdict(dict)
    try:
        ask(versions, types, provider, dict(option.split("=") for option in given))
    finally:
        show(versions, types, provider)


def ask(versions: Known, types: Known, provider: str, options: dict[str, str]) -> None:
    """Try every case that may still tell something."""
    tries: Counter[tuple[str, int, int]] = Counter()
    for op, since, kind, model in cases():
        key = op, since, kind
        if tries[key] >= TRIES or (versions[op].get(since) and types[op].get(kind)):
            continue
        tries[key] += 1
        found = taken(model, provider, options)
        if found is not None:
            versions[op][since] = versions[op].get(since, False) or found
            if versions[op][since]:  # else it's the version that is refused, not the type
                types[op][kind] = types[op].get(kind, False) or found


def show(versions: Known, types: Known, provider: str) -> None:
    """Print the table."""
    print(f"# {provider} of onnxruntime {onnxruntime.__version__}, the node cases of onnx {onnx.__version__}")
    for op in sorted(op for op, found in versions.items() if found):
        cells = [
            " ".join(str(version) for version, on in sorted(versions[op].items()) if on is want)
            for want in (True, False)
        ]
        cells += [
            " ".join(TYPES[kind] for kind, on in sorted(types[op].items()) if on is want and kind in TYPES)
            for want in (True, False)
        ]
        print("|".join([op, *cells]))


if __name__ == "__main__":
    main(*sys.argv[1:])
