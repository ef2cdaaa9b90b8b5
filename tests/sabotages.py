"""Wrong conversions: one change of a converted file at a time, and the place that a proof has to name.

Used by `proof_sweep.py` on the corpus and by tests. Every change works on the protobuf, not on our own model
classes, so that it can't share a mistake with what it tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

PROVENANCE = "onnxscope.conversion"
ACTIVATIONS = {"Relu", "Tanh", "Sigmoid", "PRelu", "LeakyRelu", "Clip", "HardSwish", "Gelu", "Elu", "Selu"}


@dataclass(frozen=True)
class Sabotage:
    """One wrong file."""

    what: str
    model: onnx.ModelProto
    places: tuple[str, ...]
    """Names of which a proof must give one: the value that is wrong first, or the weight that changed."""


def sabotages(path: str, seed: int) -> Iterator[Sabotage]:
    """Every change that the converted file at `path` allows; the same for one seed on every machine."""
    data = onnx.load(path).SerializeToString()

    def fresh() -> onnx.ModelProto:
        return onnx.ModelProto.FromString(data)

    heads = json.loads(next(e.value for e in fresh().metadata_props if e.key == PROVENANCE))["heads"]
    layers = {layer["output"]: layer for head in heads for layer in head["layers"]}.values()
    lone = {layer["output"] for head in heads if _stays_global(head) for layer in head["layers"]}
    ends = list({layer["output"]: layer for layer in (next(iter(layers)), list(layers)[-1])}.values())
    for layer in ends:
        label = "first layer" if layer is ends[0] else "last layer"
        yield from _weights(fresh, layer, label, np.random.default_rng(seed))
        yield from _biases(fresh, layer, label, np.random.default_rng(seed))
        yield from _geometry(fresh, layer, label, one_cell=layer["output"] in lone)
    yield from _tails(
        fresh, {layer["candidate_output"] for layer in layers}, one_cell=all(map(_stays_global, heads))
    )
    yield from _pools(fresh, heads)
    yield from _backbone(fresh, heads, np.random.default_rng(seed))


Fresh = Callable[[], onnx.ModelProto]


def _stored(model: onnx.ModelProto, name: str) -> onnx.TensorProto | None:
    return next((tensor for tensor in model.graph.initializer if tensor.name == name), None)


def _with(fresh: Fresh, name: str, array: np.ndarray) -> onnx.ModelProto:
    model = fresh()
    stored = _stored(model, name)
    assert stored is not None
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return model


def _alone(model: onnx.ModelProto, name: str) -> bool:
    """Whether one node reads the tensor: a shared one would break several layers."""
    return sum(name in node.input for node in model.graph.node) == 1


def _weights(fresh: Fresh, layer: dict, label: str, draw: np.random.Generator) -> Iterator[Sabotage]:
    name, base = layer["weight"]["candidate"], fresh()
    maker = _maker(base, name)
    if maker is not None and maker.op_type == "DequantizeLinear":
        name = maker.input[0]
    stored = _stored(base, name)
    if stored is None or not _alone(base, name):
        return
    weight = numpy_helper.to_array(stored)
    places = (layer["output"], layer["weight"]["original"], name)
    for what, array in _wrong_weights(weight, draw):
        if array.shape == weight.shape and not np.array_equal(array, weight):
            yield Sabotage(f"{what} ({label})", _with(fresh, name, array), places)


def _wrong_weights(weight: np.ndarray, draw: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Wrong copies of a weight [F, C, *kernel]."""

    def put(at: int) -> np.ndarray:
        other = weight.copy()
        other.flat[at] = 0
        return other

    size = np.abs(weight.astype(np.float64))
    yield "largest weight zeroed", put(int(size.argmax()))
    yield "one weight zeroed", put(int(draw.choice(np.flatnonzero(weight))))
    yield "smallest weight zeroed", put(int(np.where(size == 0, np.inf, size).argmin()))
    swapped = weight.copy()
    row = swapped[draw.integers(len(weight))].reshape(-1)
    one, two = draw.choice(row.size, 2, replace=False) if row.size > 1 else (0, 0)
    row[one], row[two] = row[two], row[one]
    yield "two weights swapped", swapped
    yield "rows permuted", weight[::-1]
    yield "channels swapped", weight[:, [1, 0, *range(2, weight.shape[1])]] if weight.shape[1] > 1 else weight
    if weight.dtype == np.float32:
        yield "weights through float16", weight.astype(np.float16).astype(np.float32)
    if weight.dtype.kind == "f":
        nudged = weight.copy()
        at = int(draw.choice(np.flatnonzero(weight)))
        nudged.flat[at] = np.nextafter(weight.flat[at], np.asarray(np.inf, weight.dtype))
        yield "one weight off by one bit", nudged
    if prod(weight.shape[2:]) > 1:
        yield "kernel turned by 180 degrees", weight[(..., *(slice(None, None, -1),) * (weight.ndim - 2))]
        flat = weight.reshape(len(weight), -1)
        yield (
            "channels last for first",
            flat.reshape(len(weight), -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape),
        )
    if weight.ndim == 4 and weight.shape[2] == weight.shape[3] > 1:
        yield "kernel transposed", weight.swapaxes(2, 3)


def _biases(fresh: Fresh, layer: dict, label: str, draw: np.random.Generator) -> Iterator[Sabotage]:
    move, base = layer.get("bias"), fresh()
    stored = _stored(base, move["candidate"]) if move else None
    if stored is None or not _alone(base, stored.name):
        return
    bias = numpy_helper.to_array(stored)
    places = (layer["output"], move["original"])
    if bias.dtype.kind != "f":
        return
    for step in (1e-3, 1e-5):
        other = bias.copy()
        other.flat[draw.integers(bias.size)] += np.asarray(step, bias.dtype)
        if not np.array_equal(other, bias):
            yield Sabotage(f"one bias off by {step:g} ({label})", _with(fresh, stored.name, other), places)
    for node in base.graph.node:
        if len(node.input) > 2 and node.input[2] == stored.name and node.op_type == "Conv" and bias.any():
            del node.input[2:]
            yield Sabotage(f"bias dropped ({label})", base, places)


def _stays_global(head: dict) -> bool:
    """Whether a pool in front gives one cell at every size, on which a stride changes nothing."""
    return bool(head.get("pool")) and not head["pool"].get("kernel")


def _geometry(fresh: Fresh, layer: dict, label: str, one_cell: bool) -> Iterator[Sabotage]:
    """Strides, pads and dilations of the convolution in place of a layer."""
    for key, value in (("strides", 2), ("dilations", 2), ("pads", 1)):
        if key == "strides" and one_cell:
            continue
        model = fresh()
        node = _maker(model, layer["candidate_output"])
        if node is None or node.op_type != "Conv":
            return
        spatial = len(layer["kernel"])
        _set(node, key, [value] * (2 * spatial if key == "pads" else spatial))
        if key != "dilations" or prod(layer["kernel"]) > 1:
            yield Sabotage(f"{key} of {value} ({label})", model, (layer["output"],))


def _views(model: onnx.ModelProto, name: str) -> tuple[str, ...]:
    """A value, and its names behind ops that only move it."""
    names = [name]
    for node in model.graph.node:
        if node.op_type in ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"):
            names += [node.output[0]] if node.input[0] in names else []
    return tuple(names)


def _maker(model: onnx.ModelProto, output: str) -> onnx.NodeProto | None:
    return next((node for node in model.graph.node if output in node.output), None)


def _set(node: onnx.NodeProto, name: str, value: object) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _get(node: onnx.NodeProto, name: str, default: object = None) -> object:
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _behind(model: onnx.ModelProto, values: set[str]) -> list[int]:
    """Indexes of the nodes that depend on one of the values."""
    found, reached = [], set(values)
    for index, node in enumerate(model.graph.node):
        if reached & set(node.input):
            reached |= set(node.output)
            found.append(index)
    return found


def _tails(fresh: Fresh, made: set[str], one_cell: bool) -> Iterator[Sabotage]:
    """A softmax over another axis, an activation left out, a batch norm that forgets its mean.

    Below opset 13 a softmax takes all axes from its own on together: where there is one cell at every size,
    each of them is the right one.
    """
    base = fresh()
    coerces = next(each.version for each in base.opset_import if each.domain in ("", "ai.onnx")) < 13
    seen: set[str] = set()
    for index in _behind(base, made):
        op = base.graph.node[index].op_type
        if "Softmax" in op and coerces and one_cell:
            continue
        if op in seen or op not in ACTIVATIONS | {"Softmax", "LogSoftmax", "BatchNormalization"}:
            continue
        seen.add(op)
        model = fresh()
        node = model.graph.node[index]
        places = _views(model, node.output[0])
        if "Softmax" in op:
            before = _get(node, "axis", 1 if coerces else -1)
            _set(node, "axis", 2 if before == 1 else 1)
            yield Sabotage(f"{op} over another axis", model, places)
        elif op == "BatchNormalization":
            node.input[3], node.input[2] = node.input[2], node.input[3]
            yield Sabotage("batch norm: mean and bias exchanged", model, places)
        else:
            del node.attribute[:], node.input[1:]
            node.op_type, node.domain = "Identity", ""
            yield Sabotage(f"{op} left out", model, places)


def _pools(fresh: Fresh, heads: list[dict]) -> Iterator[Sabotage]:
    """Another window of the pool in front of a head, another stride, the other kind."""
    for head in heads:
        pool = head.get("pool") or {}
        if not pool.get("kernel"):
            continue
        for what in ("window", "stride", "kind"):
            model = fresh()
            readers = [node for node in model.graph.node if head["feature_map"] in node.input]
            node = next((node for node in readers if "Pool" in node.op_type), None)
            if node is None:
                return
            kernel = list(_get(node, "kernel_shape"))
            if what == "window":
                _set(node, "kernel_shape", [size - 1 for size in kernel] if min(kernel) > 1 else kernel)
            elif what == "stride":
                _set(node, "strides", [2] * len(kernel))
            elif node.domain:  # an integer pool: it has no other kind
                continue
            else:
                kept = [a for a in node.attribute if a.name != "count_include_pad"]
                del node.attribute[:]
                node.attribute.extend(kept)
                node.op_type = "MaxPool" if node.op_type == "AveragePool" else "AveragePool"
            if model.SerializeToString() != fresh().SerializeToString():
                yield Sabotage(f"wrong {what} of the head's pool", model, (node.output[0],))
        return


def _backbone(fresh: Fresh, heads: list[dict], draw: np.random.Generator) -> Iterator[Sabotage]:
    """The part that a conversion must leave alone: a weight, a pad, a pool."""
    base = fresh()
    front = _front(base, [head["feature_map"] for head in heads])
    convs = [i for i in front if base.graph.node[i].op_type == "Conv"]
    convs = [i for i in convs if _stored(base, base.graph.node[i].input[1])]
    if convs:
        node = base.graph.node[convs[len(convs) // 2]]
        weight = numpy_helper.to_array(_stored(base, node.input[1]))
        for what, array in _wrong_weights(weight, draw):
            chosen = what.startswith(("largest", "one weight z", "two", "kernel tr"))
            if chosen and not np.array_equal(array, weight):
                model = _with(fresh, node.input[1], array)
                yield Sabotage(f"backbone: {what}", model, (node.output[0], node.input[1]))
    yield from _moved_pads(fresh, convs)
    yield from _other_pool(fresh, front)


def _moved_pads(fresh: Fresh, convs: list[int]) -> Iterator[Sabotage]:
    """All padding at the end in place of both sides: every shape stays."""
    for index in convs:
        model = fresh()
        node = model.graph.node[index]
        pads = list(_get(node, "pads", []))
        if any(pads) and pads[: len(pads) // 2] == pads[len(pads) // 2 :]:
            half = len(pads) // 2
            _set(node, "pads", [0] * half + [2 * size for size in pads[:half]])
            yield Sabotage("backbone: pads moved to the end", model, (node.output[0],))
            return


def _other_pool(fresh: Fresh, front: list[int]) -> Iterator[Sabotage]:
    for index in front:
        model = fresh()
        node = model.graph.node[index]
        if node.op_type == "MaxPool" and len(node.output) == 1:
            kept = [a for a in node.attribute if a.name in ("kernel_shape", "strides", "pads", "auto_pad")]
            if _get(node, "ceil_mode"):
                continue
            del node.attribute[:]
            node.attribute.extend(kept)
            node.op_type = "AveragePool"
            yield Sabotage("backbone: an average for a max pool", model, (node.output[0],))
            return


def _front(model: onnx.ModelProto, maps: list[str]) -> list[int]:
    """Indexes of the nodes that the feature maps depend on, in file order."""
    wanted, found = set(maps), []
    for index in range(len(model.graph.node) - 1, -1, -1):
        node = model.graph.node[index]
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.append(index)
    return found[::-1]
