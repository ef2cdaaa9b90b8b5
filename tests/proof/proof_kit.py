"""Heads for the tests of the proofs: an original with Gemm, a right conversion with Conv, and wrong ones."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from nets import net
from onnx import helper, numpy_helper

import onnxscope
from onnxscope.files.read import loads
from onnxscope.files.write import save
from onnxscope.proof.skeleton import Skeleton
from onnxscope.rewrite.plan import PROVENANCE

FAMILIES = ("signed", "positive", "uniform", "onehot", "large", "tiny", "zeros", "aligned", "halves")
AXES = {"CHW": (1, 2, 3), "HWC": (2, 3, 1), "WHC": (3, 2, 1)}
_LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "steps": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class Runner:
    """onnxruntime on one thread, sessions kept; the protocol of `onnxscope.proof.runner`."""

    def __init__(self):
        self.sessions = {}

    def run(self, model, feeds, outputs=None, *, optimization="all"):
        key = (model, tuple(outputs or ()), optimization)
        if key not in self.sessions:
            self.sessions[key] = self._session(model, outputs, optimization)
        session = self.sessions[key]
        wanted = [value.name for value in session.get_outputs()] if outputs is None else list(outputs)
        return dict(zip(wanted, session.run(wanted, feeds), strict=True))

    @staticmethod
    def _session(model, outputs, optimization):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = _LEVELS[optimization]
        if isinstance(model, Skeleton):
            key = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(key, model.folder)
            model = model.data
        if isinstance(model, bytes) and outputs is not None:
            proto = onnx.load_from_string(model)
            declared = {value.name: value for value in proto.graph.output}
            del proto.graph.output[:]
            proto.graph.output.extend(
                declared.get(name) or onnx.ValueInfoProto(name=name) for name in dict.fromkeys(outputs)
            )
            model = proto.SerializeToString()
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Head:
    """A feature map [N, C, *window] and the layers behind it.

    `layers`: ("fc", W [F, K], b [F] or None), ("bn", gain, bias, mean, variance), ("prelu", slope) or (op,).
    """

    name: str
    channels: int
    window: tuple
    order: str
    layers: tuple
    options: dict = field(default_factory=dict)
    """alpha, beta, matmul (MatMul and Add), stored (K, F) weights."""

    @property
    def spatial(self):
        return len(self.window)

    @property
    def last(self):
        return f"t{len(self.layers) - 1}"


OPS = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "logsoftmax": "LogSoftmax",
}


def head(name, channels, window, order, spec, seed=0, **options):
    """A head with seeded weights; `spec` such as (120, "tanh", 10)."""
    rng = np.random.default_rng([seed, channels, *window])
    width, layers = channels * math.prod(window), []
    for item in spec:
        if isinstance(item, int):
            bound = 1 / math.sqrt(width)
            layers.append(("fc", _uniform(rng, bound, (item, width)), _uniform(rng, bound, item)))
            width = item
        elif item == "bn":
            layers.append(("bn", *(rng.uniform(0.5, 1.5, width).astype(np.float32) for _ in range(4))))
        elif item == "prelu":
            layers.append(("prelu", np.full(width, 0.25, np.float32)))
        else:
            layers.append((item,))
    return Head(name, channels, window, order, tuple(layers), options)


def _uniform(rng, bound, shape):
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def heads():
    """Heads with the shapes of common networks."""
    return [
        head("lenet5", 16, (5, 5), "CHW", (120, "tanh", 84, "tanh", 10)),
        head("lasagne", 32, (5, 5), "CHW", (256, "relu", 10, "softmax")),
        head("onet", 128, (3, 3), "WHC", (256, "prelu", 2, "softmax")),
        head("batch_norm", 32, (8, 8), "CHW", (128, "bn", "relu", 64, "relu", "bn", 10)),
        head("keras", 64, (5, 5), "HWC", (32, "relu", 10, "softmax"), stored=True, matmul=True),
        head("two_head", 32, (8, 8), "CHW", (64, "relu", 4, "sigmoid"), stored=True),
        head("pooled", 512, (1, 1), "CHW", (100,)),
        head("audio", 64, (12,), "CHW", (50, "relu", 5, "logsoftmax")),
        head("video", 16, (2, 3, 3), "CHW", (40, "relu", 6)),
        head("folded", 24, (4, 4), "CHW", (32, "relu", 7), alpha=0.75, beta=0.5),
    ]


def axes_of(spec):
    return AXES[spec.order] if spec.spatial == 2 else tuple(range(1, 2 + spec.spatial))


def kernel(weight, spec):
    """[F, K] as the original flattens -> [F, C, *window]."""
    axes = axes_of(spec)
    sizes = (spec.channels, *spec.window)
    stored = weight.reshape(-1, *(sizes[axis - 1] for axis in axes))
    return np.ascontiguousarray(np.moveaxis(stored, range(1, 1 + len(axes)), axes))


def original(spec):
    """The head as exporters write it: (Transpose,) Flatten, Gemm or MatMul and Add, activations."""
    nodes, stored, value = [], [], "map"
    if spec.order != "CHW":
        nodes.append(helper.make_node("Transpose", ["map"], ["turned"], perm=(0, *axes_of(spec))))
        value = "turned"
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    value = "flat"
    for place, (kind, *arrays) in enumerate(spec.layers):
        output = f"t{place}"
        if kind == "fc":
            nodes += _connected(spec, place, value, output, arrays, stored)
        else:
            nodes.append(_activation(kind, place, value, output, arrays, stored, 0))
        value = output
    return _model(spec, nodes, stored)


def _connected(spec, place, value, output, arrays, stored):
    weight, bias = arrays
    rows = spec.options.get("stored")
    stored.append(numpy_helper.from_array(np.ascontiguousarray(weight.T) if rows else weight, f"w{place}"))
    if bias is not None:
        stored.append(numpy_helper.from_array(bias, f"b{place}"))
    if spec.options.get("matmul"):
        return [
            helper.make_node("MatMul", [value, f"w{place}"], [f"p{place}"]),
            helper.make_node("Add", [f"p{place}", f"b{place}"], [output]),
        ]
    extra = {key: spec.options[key] for key in ("alpha", "beta") if key in spec.options}
    inputs = [value, f"w{place}"] + ([f"b{place}"] if bias is not None else [])
    return [helper.make_node("Gemm", inputs, [output], transB=0 if rows else 1, **extra)]


def _activation(kind, place, value, output, arrays, stored, spatial, axis=1):
    if kind in ("softmax", "logsoftmax"):
        return helper.make_node(OPS[kind], [value], [output], axis=axis)
    if kind == "bn":
        names = [f"n{place}{index}" for index in range(4)]
        stored += [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]
        return helper.make_node("BatchNormalization", [value, *names], [output])
    if kind == "prelu":
        stored.append(numpy_helper.from_array(arrays[0].reshape(-1, *(1,) * spatial), f"s{place}"))
        return helper.make_node("PRelu", [value, f"s{place}"], [output])
    return helper.make_node(OPS.get(kind, kind), [value], [output])


def candidate(spec, *, first=None, softmax_axis=1, without=(), note=True):
    """The conversion: Conv with the window as kernel, then 1x1; the options break it."""
    nodes, stored, links, value, kernels = [], [], [], "map", spec.window
    alpha, beta = (np.float32(spec.options.get(name, 1.0)) for name in ("alpha", "beta"))
    for place, (kind, *arrays) in enumerate(spec.layers):
        output = f"t{place}"
        if kind == "fc":
            weight, bias = arrays
            ones = (*weight.shape, *(1,) * spec.spatial)
            shaped = kernel(weight, spec) if value == "map" else weight.reshape(ones)
            if value == "map" and first is not None:
                shaped = first
            stored.append(numpy_helper.from_array(np.ascontiguousarray(shaped * alpha), f"w{place}"))
            stored.append(numpy_helper.from_array(bias * beta, f"b{place}"))
            nodes.append(helper.make_node("Conv", [value, f"w{place}", f"b{place}"], [output]))
            links.append(_link(spec, place, value, output, kernels))
            kernels = (1,) * spec.spatial
        else:
            shown = "identity" if kind in without else kind
            OPS.setdefault("identity", "Identity")
            nodes.append(_activation(shown, place, value, output, arrays, stored, spec.spatial, softmax_axis))
        value = output
    entry = {
        "version": 1,
        "heads": [
            {
                "feature_map": "map",
                "channels": spec.channels,
                "window": spec.window,
                "pool": None,
                "layers": links,
            }
        ],
    }
    return _model(spec, nodes, stored, entry if note else None)


def _link(spec, place, value, output, kernels):
    move = "folded" if "alpha" in spec.options else "same bytes"
    names = {"original": f"w{place}", "candidate": f"w{place}", "move": move}
    return {
        "node": f"fc{place}",
        "op": "Gemm",
        "input": "flat" if value == "map" else value,
        "output": output,
        "candidate_input": value,
        "candidate_output": output,
        "kernel": list(kernels),
        "weight": {**names, "axes": list(axes_of(spec))},
        "bias": {"original": f"b{place}", "candidate": f"b{place}", "move": move},
    }


def _model(spec, nodes, stored, entry=None):
    free = ["N", spec.channels, *("HWD"[axis] for axis in range(spec.spatial))]
    given = helper.make_tensor_value_info("map", 1, free)
    graph = helper.make_graph(nodes, "head", [given], [onnx.ValueInfoProto(name=spec.last)], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if entry is not None:
        model.metadata_props.add(key=PROVENANCE, value=json.dumps(entry))
    return loads(model.SerializeToString())


def inputs(spec, family, count, seed=0, window=None):
    """Feature maps [count, C, *window].

    aligned: every product of the first output is positive; halves: positive, then negative (the worst order).
    """
    rng = np.random.default_rng([seed, FAMILIES.index(family)])
    shape = (spec.channels, *(window or spec.window))
    value = rng.standard_normal((count, *shape))
    if family == "onehot":
        flat = np.zeros((count, math.prod(shape)))
        flat[np.arange(count), rng.integers(0, flat.shape[1], count)] = 1
        value = flat.reshape(count, *shape)
    if family in ("aligned", "halves"):
        sign = np.sign(kernel(spec.layers[0][1][:1], spec))
        value = np.abs(value) * np.where(sign == 0, 1, sign)
        if family == "halves":
            value[:, spec.channels // 2 :] *= -1
    changes = {
        "positive": lambda: np.abs(value),
        "uniform": lambda: rng.random((count, *shape)),
        "large": lambda: value * 1e3,
        "tiny": lambda: value * 1e-3,
        "zeros": lambda: value * 0,
    }
    return changes.get(family, lambda: value)().astype(np.float32)


def changed(spec, place, *arrays):
    """The head with other numbers in one layer."""
    layers = list(spec.layers)
    layers[place] = (layers[place][0], *arrays)
    return replace(spec, layers=tuple(layers))


def sabotages(spec, seed=5):
    """(name, wrong conversion, value where the local check must see it or None for bits only)."""
    rng = np.random.default_rng(seed)
    _, weight, bias = spec.layers[0]
    last = max(place for place, layer in enumerate(spec.layers) if layer[0] == "fc")
    _, top, offset = spec.layers[last]

    def put(at, number):
        other = weight.copy()
        other.flat[at] = number
        return candidate(changed(spec, 0, other, bias))

    swapped = weight.copy()
    row, (one, two) = rng.integers(len(weight)), rng.choice(weight.shape[1], 2, replace=False)
    swapped[row, [one, two]] = swapped[row, [two, one]]
    shifted = bias.copy()
    shifted[rng.integers(len(bias))] += np.float32(1e-3)
    mixed, moved = top.copy(), offset.copy()
    mixed[[0, 1]] = mixed[[1, 0]]
    moved[0] += np.float32(1e-5)
    narrow = weight.astype(np.float16).astype(np.float32)
    yield "largest weight zeroed", put(np.abs(weight).argmax(), 0), "t0"
    yield "one weight zeroed", put(rng.integers(weight.size), 0), "t0"
    yield "smallest weight zeroed", put(np.abs(weight).argmin(), 0), None
    yield "two weights swapped", candidate(changed(spec, 0, swapped, bias)), "t0"
    yield "weights through float16", candidate(changed(spec, 0, narrow, bias)), "t0"
    yield "bias off by 1e-3", candidate(changed(spec, 0, weight, shifted)), "t0"
    yield "rows permuted", candidate(changed(spec, 0, weight[::-1].copy(), bias)), "t0"
    yield "two rows of the last layer", candidate(changed(spec, last, mixed, offset)), f"t{last}"
    yield "last bias off by 1e-5", candidate(changed(spec, last, top, moved)), f"t{last}"
    if spec.layers[-1][0] in ("softmax", "logsoftmax"):
        yield "softmax on the wrong axis", candidate(spec, softmax_axis=2), spec.last
    if any(layer[0] == "relu" for layer in spec.layers):
        place = next(place for place, layer in enumerate(spec.layers) if layer[0] == "relu")
        yield "relu dropped", candidate(spec, without=("relu",)), f"t{place}"
    if spec.spatial == 2 and spec.window[0] > 1:
        other = replace(spec, order="HWC" if spec.order == "CHW" else "CHW")
        yield "channels first for last", candidate(spec, first=kernel(weight, other)), "t0"
        turned = np.ascontiguousarray(kernel(weight, spec).swapaxes(2, 3))
        yield "height and width swapped", candidate(spec, first=turned), "t0"


def small_classifier(folder: Path, last: str, opset: int) -> Path:
    """A file with a convolution, a head of 36 -> 5 and the op `last`, which makes `y` of `g`."""
    draw = np.random.default_rng(0)
    lines = ["c = Conv(x, k) strides=[2,2]", "r = Relu(c)", "f = Flatten(r)", "g = Gemm(f, w, b)", last]
    weights = {"k": (4, 3, 3, 3), "w": (36, 5), "b": (5,)}
    stored = {name: draw.standard_normal(size).astype(np.float32) for name, size in weights.items()}
    save(net(lines, opset=opset, x="1,3,7,7", **stored), folder / "net.onnx")
    return folder / "net.onnx"


def saved(folder: Path, lines: Sequence[str], x: str, **stored: Any) -> Path:
    """A small network as a file, with those of the stored values that its lines read."""
    read = set(re.findall(r"\w+", " ".join(line.partition("(")[2].partition(")")[0] for line in lines)))
    used = {name: value for name, value in stored.items() if name in read}
    save(net(list(lines), opset=13, x=x, **used), folder / "net.onnx")
    return folder / "net.onnx"


def converted_map(original: Path) -> Path:
    """Its conversion to a map, beside it."""
    onnxscope.convert(str(original), str(original.with_name("map.onnx")), verify=False)
    return original.with_name("map.onnx")
