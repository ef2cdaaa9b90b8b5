"""Random convolutional nets with fully connected heads, from a seed: for the property test.

`build(seed)` gives a model without padding, so that the converted model on a large image must equal the
original on every crop. Everything is drawn from numpy's generator: the same seed is the same net anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


@dataclass
class Case:
    """One net."""

    model: onnx.ModelProto
    native: tuple[int, ...]
    stride: tuple[int, ...]
    batch: int | None
    channels: int
    layers: int
    trail: list[str]


@dataclass
class Net:
    """A net under construction."""

    rng: np.random.Generator
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)
    count: int = 0
    layers: int = 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def op(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op}{self.count}", **attributes))
        return names[0]

    def store(self, array: np.ndarray) -> str:
        name = self.name()
        self.stored.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def ints(self, *numbers: int) -> str:
        return self.store(np.array(numbers, np.int64))

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def pick(self, *choices):
        return choices[int(self.rng.integers(len(choices)))]

    def constant(self, array: np.ndarray) -> str:
        """The array as an initializer, a Constant, or behind constant nodes."""
        kind = self.pick("stored", "stored", "node", "identity", "turned", "reshaped")
        if kind == "node":
            return self.op("Constant", value=numpy_helper.from_array(np.array(array, order="C")))
        if kind == "identity":
            return self.op("Identity", self.store(array))
        if kind == "turned" and array.ndim == 2:
            return self.op("Transpose", self.store(array.T), perm=[1, 0])
        if kind == "reshaped":
            return self.op("Reshape", self.store(array.reshape(-1)), self.ints(*array.shape))
        return self.store(array)

    def axes(self, op: str, x: str, axes: list[int], since: int, **attributes: object) -> str:
        """An op whose axes are an attribute below opset `since`, an input from there on."""
        if self.opset < since:
            return self.op(op, x, axes=axes, **attributes)
        return self.op(op, x, self.ints(*axes), **attributes)

    def computed_flatten(self, x: str) -> str:
        batch = self.op("Gather", self.op("Shape", x), self.store(np.array(0, np.int64)))
        batch = self.axes("Unsqueeze", batch, [0], 13)
        return self.op("Reshape", x, self.op("Concat", batch, self.ints(-1), axis=0))


def flatten(net: Net, x: str, channels: int, spatial: tuple[int, ...], batch: int | None) -> tuple[str, int]:
    """The map as a vector [N, K]; the name and K."""
    d = len(spatial)
    whole = channels * int(np.prod(spatial))
    kind = net.pick("Flatten", "negative", "0,-1", "-1,K", "computed", "turned", "pool", "pool", "mean")
    net.trail.append(kind)
    axes = list(range(2, d + 2))
    if kind == "pool":
        x = net.op(net.pick("GlobalAveragePool", "GlobalMaxPool"), x)
        return _drop_ones(net, x, axes, channels), channels
    if kind == "mean":
        op = net.pick("ReduceMean", "ReduceMax", "ReduceSum")
        keep = int(net.rng.integers(2))
        order = axes if net.rng.integers(2) else [a - d - 2 for a in axes]
        x = net.axes(op, x, order, 13 if op == "ReduceSum" else 18, keepdims=keep)
        return (_drop_ones(net, x, axes, channels) if keep else x), channels
    if kind == "turned":
        perm = [0, *axes, 1] if net.rng.integers(2) else [0, *axes[::-1], 1]
        x = net.op("Transpose", x, perm=perm)
        if net.rng.integers(2):
            x = net.op("Relu", x)
    if kind == "negative" and net.opset >= 11:
        return net.op("Flatten", x, axis=-(d + 1)), whole
    if kind == "computed":
        return net.computed_flatten(x), whole
    target = {"0,-1": (0, -1), "-1,K": (-1, whole)}.get(kind)
    if target is None and batch is not None and net.rng.integers(2):
        target = (batch, -1)
    return (net.op("Reshape", x, net.ints(*target)) if target else net.op("Flatten", x)), whole


def _drop_ones(net: Net, x: str, axes: list[int], channels: int) -> str:
    kind = net.pick("squeeze", "flatten", "reshape")
    if kind == "squeeze":
        return net.axes("Squeeze", x, axes, 13)
    return net.op("Flatten", x) if kind == "flatten" else net.op("Reshape", x, net.ints(-1, channels))


def connected(net: Net, x: str, inputs: int, outputs: int) -> str:
    """A fully connected layer in one of its spellings."""
    net.layers += 1
    weight = net.normal(inputs, outputs) / np.float32(np.sqrt(inputs))
    kind = net.pick("gemm", "gemm", "gemm", "matmul", "filled")
    net.trail.append(kind)
    if kind == "gemm":
        across = int(net.rng.integers(2))
        w = net.constant(weight.T if across else weight)
        shapes = [(), (1,), (outputs,), (1, outputs), (1, 1)]
        if net.opset >= 11:
            shapes.append(None)
        shape = shapes[int(net.rng.integers(len(shapes)))]
        given: dict[str, object] = {"transB": across} if across or net.rng.integers(2) else {}
        if net.rng.integers(3) == 0:
            given["alpha"] = 0.75
        if net.rng.integers(3) == 0:
            given["beta"] = float(net.pick(0.0, 2.0, 0.5))
        bias = [] if shape is None else [net.constant(net.normal(*shape))]
        return net.op("Gemm", x, w, *bias, **given)
    if kind == "filled":
        value = numpy_helper.from_array(np.array([0.125], np.float32))
        w = net.op("ConstantOfShape", net.ints(inputs, outputs), value=value)
    else:
        w = net.constant(weight)
    y = net.op("MatMul", x, w)
    if net.rng.integers(3):
        bias = net.constant(net.normal(*net.pick((outputs,), (1, outputs), (1,), ())))
        y = net.op("Add", bias, y) if net.rng.integers(2) else net.op("Add", y, bias)
    return y


def _prelu(net: Net, x: str, f: int) -> str:
    return net.op("PRelu", x, net.store(net.normal(*net.pick((f,), (1,), (1, f)))))


def _norm(net: Net, x: str, f: int) -> str:
    positive = np.abs(net.normal(f)) + np.float32(0.5)
    inputs = [net.store(a) for a in (net.normal(f), net.normal(f), net.normal(f), positive)]
    return net.op("BatchNormalization", x, *inputs)


def _binary(net: Net, x: str, f: int) -> str:
    op = net.pick("Add", "Sub", "Mul", "Div")
    values = np.abs(net.normal(*net.pick((f,), (1, f), (1, 1), (), (1,)))) + np.float32(0.5)
    c = net.constant(np.float32(values))
    first = op in ("Add", "Sub", "Mul") and net.rng.integers(2)
    return net.op(op, c, x) if first else net.op(op, x, c)


def _clip(net: Net, x: str, f: int) -> str:
    if net.opset < 11:
        return net.op("Clip", x, min=-0.5, max=0.5)
    return net.op("Clip", x, net.store(np.float32(-0.5)), net.store(np.float32(0.5)))


def _residual(net: Net, x: str, f: int) -> str:
    return net.op(net.pick("Add", "Mul", "Max"), x, net.op("Tanh", connected(net, x, f, f)))


def _root(net: Net, x: str, f: int) -> str:
    return net.op(
        "Pow",
        net.op("Sqrt", net.op("Abs", x)),
        net.store(net.pick(np.float32(3.0), np.float32(np.full(f, 2)))),
    )


def _where(net: Net, x: str, f: int) -> str:
    zero = net.store(np.float32(0))
    return net.op("Where", net.op("Greater", x, zero), x, net.constant(net.normal(f)))


def _dropout(net: Net, x: str, f: int) -> str:
    return net.op("Dropout", x) if net.opset >= 12 else net.op("Dropout", x, ratio=0.4)


def _around(net: Net, x: str, f: int) -> str:
    axis = net.pick(1, 2)
    return net.axes("Squeeze", net.op("Sigmoid", net.axes("Unsqueeze", x, [axis], 13)), [axis], 13)


def _layer_norm(net: Net, x: str, f: int) -> str:
    if net.opset < 17:
        return net.op("LpNormalization", x, axis=net.pick(-1, 1), p=net.pick(1, 2))
    return net.op(
        "LayerNormalization", x, net.store(net.normal(f)), net.store(net.normal(f)), axis=net.pick(-1, 1)
    )


def _halves(net: Net, x: str, f: int) -> str:
    if f < 2:
        return x
    axis = net.pick(1, -1)
    if net.opset < 13:
        first = net.op("Split", x, axis=axis, split=[1, f - 1], outputs=2)
    else:
        first = net.op("Split", x, net.ints(1, f - 1), axis=axis, outputs=2)
    second = f"v{net.count}"
    return net.op("Concat", second, first, axis=net.pick(1, -1))


def _slices(net: Net, x: str, f: int) -> str:
    if f < 2:
        return x
    if net.opset < 10:
        parts = [net.op("Slice", x, starts=[a], ends=[b], axes=[1]) for a, b in ((0, 1), (1, f))]
    else:
        axis = net.pick(1, -1)
        parts = [
            net.op("Slice", x, net.ints(a), net.ints(b), net.ints(axis)) for a, b in ((0, 1), (1, 2**31 - 1))
        ]
    order = net.rng.permutation(f)
    return net.op("Gather", net.op("Concat", *parts, axis=1), net.ints(*order), axis=net.pick(1, -1))


def _unary(op: str) -> Callable[[Net, str, int], str]:
    return lambda net, x, f: net.op(op, x)


_BETWEEN: list[Callable[[Net, str, int], str]] = [
    _prelu, _norm, _binary, _binary, _clip, _residual, _root, _where, _dropout, _around, _layer_norm, _halves,
    _slices, *[_unary(op) for op in ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Identity", "Softplus")],
]  # fmt: skip


def tail(net: Net, x: str, f: int) -> list[str]:
    """What follows the last layer: the names of the outputs."""
    kind = net.pick(
        "none", "none", "Softmax", "Softmax", "LogSoftmax", "ArgMax", "TopK", "reduce", "two", "index"
    )
    net.trail.append(kind)
    if kind in ("Softmax", "LogSoftmax"):
        given = net.pick({}, {"axis": 1}, {"axis": -1} if net.opset >= 11 else {"axis": 1})
        return [net.op(kind, x, **given)]
    if kind in ("ArgMax", "TopK"):
        x = net.op("Add", x, net.store(net.normal(f)))  # no ties
    if kind == "ArgMax":
        return [net.op(kind, x, axis=net.pick(1, -1) if net.opset >= 11 else 1, keepdims=net.pick(0, 1))]
    if kind == "TopK" and net.opset >= 10:
        first = net.op("TopK", x, net.ints(min(2, f)), axis=net.pick(1, -1), outputs=2)
        return [first, f"v{net.count}"]
    if kind == "reduce":
        op = net.pick("ReduceMax", "ReduceMean", "ReduceSum", "ReduceL2", "ReduceLogSumExp")
        axis = net.pick(1, -1) if net.opset >= 11 else 1
        return [net.axes(op, x, [axis], 13 if op == "ReduceSum" else 18, keepdims=net.pick(0, 1))]
    if kind == "index":
        return [net.op("Gather", x, net.store(np.array(f - 1, np.int64)), axis=1)]
    return [x, net.op("Sigmoid", x)] if kind == "two" else [x]


def build(seed: int) -> Case:
    """The net of a seed."""
    rng = np.random.default_rng(seed)
    net = Net(rng, int(rng.integers(9, 22)))
    d = int(net.pick(1, 2, 2, 2, 2, 3))
    batch = net.pick(None, None, 1, 2)
    channels, maps = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    spatial = tuple(int(rng.integers(1, 5 if d < 3 else 3)) for _ in range(d))
    kernel = tuple(int(rng.integers(1, 4)) for _ in range(d))
    stride = tuple(int(rng.integers(1, 3)) for _ in range(d))
    native = tuple((s - 1) * t + k for s, t, k in zip(spatial, stride, kernel, strict=True))
    weight = net.store(net.normal(maps, channels, *kernel))
    x = net.op("Conv", "x", weight, kernel_shape=list(kernel), strides=list(stride))
    if rng.integers(2):
        x = net.op("Relu", x)
    x, features = flatten(net, x, maps, spatial, batch)
    ends: list[str] = []
    for head in range(int(net.pick(1, 1, 1, 2))):
        y, f = x, features
        for _ in range(int(rng.integers(1, 4))):
            wide = int(rng.integers(1, 7))
            y, f = connected(net, y, f, wide), wide
            for _ in range(int(rng.integers(0, 3))):
                y = _BETWEEN[int(rng.integers(len(_BETWEEN)))](net, y, f)
        net.trail.append(f"head {head}")
        ends += tail(net, y, f)
    return Case(
        _model(net, ends, channels, native, batch), native, stride, batch, channels, net.layers, net.trail
    )


def _model(
    net: Net, ends: list[str], channels: int, native: tuple[int, ...], batch: int | None
) -> onnx.ModelProto:
    size = "N" if batch is None else batch
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, channels, *native])]
    ends = list(dict.fromkeys(ends))
    graph = helper.make_graph(
        net.nodes, "random", given, [helper.make_empty_tensor_value_info(e) for e in ends], net.stored
    )
    ir = {9: 4, 10: 5, 11: 6}.get(net.opset, 7 if net.opset < 15 else 8)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)], ir_version=ir)
    feed = {"x": np.zeros((batch or 3, channels, *native), np.float32)}
    results = ort.InferenceSession(model.SerializeToString()).run(None, feed)
    for info, result in zip(model.graph.output, results, strict=True):  # onnx can't infer all of them
        sizes = [size if batch is None and axis == 0 else n for axis, n in enumerate(result.shape)]
        kind = helper.np_dtype_to_tensor_dtype(result.dtype)
        info.CopyFrom(helper.make_tensor_value_info(info.name, kind, sizes))
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)
