"""Which ops, versions and types a provider takes: writes a table of `onnxscope/checks/data`.

Run it in an environment with the provider's onnxruntime (1.24 or later) and onnx:

    python benchmarks/targets.py WebGpuExecutionProvider > onnxscope/checks/data/webgpu.txt
    python benchmarks/targets.py OpenVINOExecutionProvider > wheel.txt
    python benchmarks/targets.py OpenVINOExecutionProvider plugin=onnxruntime_ep_openvino > plugin.txt
    python benchmarks/targets.py join wheel.txt plugin.txt > onnxscope/checks/data/openvino.txt

Each single-node case of ONNX's own node tests is loaded as it is, under every older version of its op, and
with every other element type in place of its floats; onnxruntime says which provider it gave the node to.
Nothing is run: CUDA was asked without a device, its libraries replaced by stubs whose functions return 0. An
op, version or type counts as taken where one case of it was; after TRIES cases that were not, no more are
tried. If, Loop and Scan are not asked about: the answer depends on their bodies.

A provider that compiles subgraphs judges a node by its neighbours and by which inputs are constant (OpenVINO
leaves a lone Reshape or Cast to the CPU and takes them inside a network). So a case that isn't taken alone is
put between other nodes, with its second and later inputs free, then constant: only what is refused in all
three counts as not taken. Its releases differ more than kernels do: `join` keeps as refused what no table
takes, and of an op that is taken at all neither versions nor types.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

os.environ["ALLOW_RELEASED_ONNX_OPSETS_ONLY"] = "0"

import numpy as np
import onnx
import onnxruntime
from onnx.backend.test.case.node import collect_testcases

TYPES = {1: "float32", 10: "float16", 11: "float64", 6: "int32", 7: "int64", 3: "int8", 2: "uint8", 9: "bool"}
TRIES = 6
OTHERS = (1, 11, 10, 7, 6)
"""The types that a float32 or float64 case is tried with too: both of these, float16, int64, int32."""
COMPILING = ("OpenVINOExecutionProvider",)
"""Providers that compile subgraphs; the others have a kernel per node, whatever stands around it."""
HALF = 10
UNASKED = ("GRU", "MatMulInteger", "OneHot")
"""Ops whose cases leave out what CUDA takes: linear_before_reset = 1, int8 inputs, depths of type int64."""
Known = dict[str, dict[int, bool]]
"""By op, and version: whether the provider took a case."""
Case = tuple[str, int, int, list[bytes]]
"""(op, since version, element type of the first input, the model alone and between other nodes)."""
ASKED = "asked"
"""Name of the node that a model asks about."""


def taken(model: bytes, provider: str, options: dict[str, str]) -> bool | None:
    """Whether the provider gets the node; None where the model doesn't load, or it isn't told.

    Kernels of CUDA and WebGPU aren't recorded, nor are float16 nodes that run on the CPU between casts.
    """
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = _session(model, settings, provider, options)
    except Exception:  # no kernel anywhere, or an invalid combination
        return None
    parts = session.get_provider_graph_assignment_info()
    if provider in COMPILING:
        parts = [part for part in parts if any(node.name == ASKED for node in part.get_nodes())]
    names = {part.ep_name for part in parts}
    if provider in names or "CPUExecutionProvider" in names:  # the latter alone: it, or what it expands to
        return provider in names
    half = any(given.type == "tensor(float16)" for given in session.get_inputs())
    return None if half else True


def _session(
    model: bytes, settings: onnxruntime.SessionOptions, provider: str, options: dict[str, str]
) -> onnxruntime.InferenceSession:
    """With a provider of the wheel, or the plugin's device for this machine's processor."""
    for device in onnxruntime.get_ep_devices():
        if device.ep_name == provider and device.device.type == onnxruntime.OrtHardwareDeviceType.CPU:
            settings.add_provider_for_devices([device], options)
            return onnxruntime.InferenceSession(model, settings)
    wanted = [(provider, options), "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model, settings, providers=wanted, enable_fallback=0)


def cases() -> Iterator[Case]:
    """Every single-node case, its older versions and its other types."""
    for case in collect_testcases(None):
        model = case.model
        assert model is not None
        node = model.graph.node[0]
        if len(model.graph.node) != 1 or node.domain or node.op_type in UNASKED or _has_body(node):
            continue
        node.name = ASKED
        op, kind = node.op_type, _first(model)
        stored = case.data_sets[0][0] if case.data_sets else []
        newest = next(entry.version for entry in model.opset_import if not entry.domain)
        for since in sorted({_since(op, version) for version in range(7, newest + 1)} - {0}):
            under = max(since, 7) if since < _since(op, newest) else newest
            older = _under(model, under)
            yield op, since, kind, list(_forms(older, stored))
            for other in OTHERS if kind in OTHERS[:2] else ():
                yield op, since, other, list(_forms(_typed(older, kind, other), stored))


def _forms(model: onnx.ModelProto, stored: Sequence[Any]) -> Iterator[bytes]:
    """The model as it is, and its node between others with later inputs free, then constant.

    Values are renamed: OpenVINO 2025.4 refuses an Unsqueeze whose second input is named `axes`.
    """
    yield bytes(model.SerializeToString())
    for constant in (False, True):
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        graph, node = copy.graph, copy.graph.node[0]
        for position, info in enumerate(list(graph.input)):
            fixed = constant and position and isinstance(stored[position], np.ndarray | np.generic)
            if fixed:
                kind = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
                array = np.asarray(stored[position]).astype(kind)
                graph.initializer.append(onnx.numpy_helper.from_array(array, f"given{position}"))
                graph.input.remove(info)
            chained = not fixed and _mapped(info)
            inner = f"lead{position}" if chained else f"given{position}"
            _rename(node.input, info.name, inner)
            info.name = f"given{position}"
            for place, link in enumerate(_chain(info.name, inner) if chained else ()):
                graph.node.insert(place, link)
        node = next(one for one in graph.node if one.name == ASKED)
        for position, info in enumerate(graph.output):
            inner = f"trail{position}" if _mapped(info) else f"made{position}"
            _rename(node.output, info.name, inner)
            info.name = f"made{position}"
            graph.node.extend(_chain(inner, info.name) if _mapped(info) else ())
        yield bytes(copy.SerializeToString())


def _has_body(node: onnx.NodeProto) -> bool:
    """Whether a node has a graph, on which the answer would depend."""
    return any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)


def _rename(names: Any, old: str, new: str) -> None:
    names[:] = [new if name == old else name for name in names]


def _mapped(info: onnx.ValueInfoProto) -> bool:
    """Whether a value is a tensor with axes, of numbers or truth values."""
    kind = info.type.tensor_type
    return bool(kind.elem_type not in (0, onnx.TensorProto.STRING) and kind.shape.dim)


def _chain(first: str, last: str) -> list[onnx.NodeProto]:
    """Two nodes from value to value: transposed and back, which every type allows."""
    half = f"{first}_{last}"
    return [
        onnx.helper.make_node("Transpose", [first], [half]),
        onnx.helper.make_node("Transpose", [half], [last]),
    ]


def _since(op: str, version: int) -> int:
    """The version of an op in an opset; 0 where it has none."""
    try:
        return int(onnx.defs.get_schema(op, version, "").since_version)
    except onnx.defs.SchemaError:
        return 0


def _first(model: onnx.ModelProto) -> int:
    return model.graph.input[0].type.tensor_type.elem_type if model.graph.input else 0


def _under(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    copy: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    for entry in copy.opset_import:
        if not entry.domain:
            entry.version = version
    copy.ir_version = min(copy.ir_version, 10)
    return copy


def _typed(model: onnx.ModelProto, kind: int, other: int) -> onnx.ModelProto:
    """The same node with another element type in place of its floats."""
    copy: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    for info in (*copy.graph.input, *copy.graph.output):
        if info.type.tensor_type.elem_type == kind:
            info.type.tensor_type.elem_type = other
    return copy


def main(provider: str, *given: str) -> None:
    """Print the table, of what is known by then: op|versions taken|not taken|types taken|not taken."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))
    options = dict(option.split("=") for option in given)
    plugin = options.pop("plugin", None)
    if plugin:
        library = importlib.import_module(plugin).get_library_path()
        onnxruntime.register_execution_provider_library(provider, library)
    versions: dict[str, dict[int, bool]] = defaultdict(dict)
    types: dict[str, dict[int, bool]] = defaultdict(dict)
    try:
        ask(versions, types, provider, options)
    finally:
        show(versions, types, provider)


def ask(versions: Known, types: Known, provider: str, options: dict[str, str]) -> None:
    """Try every case that may still tell something."""
    tries: Counter[tuple[str, int, int]] = Counter()
    for op, since, kind, forms in cases():
        key = op, since, kind
        if tries[key] >= TRIES or (versions[op].get(since) and types[op].get(kind)):
            continue
        tries[key] += 1
        asked = forms if provider in COMPILING else forms[:1]
        told = [taken(form, provider, options) for form in asked]
        found = any(told)
        if found or (None not in told and kind != HALF):  # float16 depends on the device, not on kernels
            versions[op][since] = versions[op].get(since, False) or found
            if versions[op][since]:  # else it's the version that is refused, not the type
                types[op][kind] = types[op].get(kind, False) or found


def show(versions: Known, types: Known, provider: str) -> None:
    """Print the table."""
    today = datetime.now(tz=UTC).date()
    print(f"# {provider} of {_release()}, node cases of onnx {onnx.__version__}, {today}")
    for op in sorted(op for op, found in versions.items() if found):
        named = {TYPES[kind]: on for kind, on in types[op].items() if kind in TYPES}
        print(_line(op, versions[op], named))


def _release() -> str:
    """The wheels of onnxruntime that are installed, with their versions."""
    found = {entry.name: entry.version for entry in distributions() if entry.name.startswith("onnxruntime")}
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def _line(op: str, *columns: dict[Any, bool]) -> str:
    """A line of a table: what is taken and what isn't, per column."""
    cells = [
        " ".join(str(key) for key, on in sorted(known.items()) if on is want)
        for known in columns
        for want in (True, False)
    ]
    return "|".join([op, *cells])


def join(paths: Sequence[str]) -> None:
    """Print one table from several: taken is what one takes, refused what none does."""
    versions: Known = defaultdict(dict)
    types: dict[str, dict[str, bool]] = defaultdict(dict)
    sources = []
    for path in paths:
        source, *rows = Path(path).read_text(encoding="utf-8").splitlines()
        provider, _, release = source.partition(" of ")
        release, _, cases_of = release.partition(", node cases")
        sources.append(release)
        for op, *cells in (row.split("|") for row in rows):
            taken, refused, kinds, refused_kinds = (cell.split() for cell in cells)
            _add(versions[op], [int(cell) for cell in taken], [int(cell) for cell in refused])
            _add(types[op], kinds, refused_kinds)
    print(f"{provider} of {'; '.join(sources)}, node cases{cases_of}")
    for op, found in sorted(versions.items()):
        some = any(found.values())
        columns = (found, types[op])
        print(_line(op, *({key: on for key, on in known.items() if on or not some} for known in columns)))


def _add(known: dict[Any, bool], taken: Sequence[Any], refused: Sequence[Any]) -> None:
    known.update({key: known.get(key, False) for key in refused})
    known.update({key: True for key in taken})


if __name__ == "__main__":
    if sys.argv[1] == "join":
        join(sys.argv[2:])
    else:
        main(*sys.argv[1:])
