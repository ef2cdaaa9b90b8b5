"""Build the models that benchmarks run on: `python benchmarks/networks.py NAME FILE`.

    lenet     0.25 MB, 12 nodes: LeNet-5's size, where only the start counts
    vgg16     553 MB, 40 nodes: VGG-16, batch 1
    vgg19     574 MB, 46 nodes: VGG-19, batch 1
    vggconv   65 MB: VGG-16's convolutions with a small head, which does 0.01 % of the MACs
    mlp1.9g   1.88 GB, 56 nodes: 28 square matrix products, near protobuf's limit for one file
    chainN    N nodes of Conv, BatchNormalization, Relu, Add on 8 channels: many tiny tensors

Weights are noise; only their number and size matter here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, save_model


class Builder:
    """Nodes and weights so far; every node has one output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.random = np.random.default_rng(0)

    def weight(self, *dims: int) -> str:
        """Append a float32 weight."""
        name = f"w{len(self.weights)}"
        data = (self.random.random(prod(dims), dtype=np.float32) - 0.5).tobytes()
        self.weights.append(helper.make_tensor(name, TensorProto.FLOAT, dims, data, raw=True))
        return name

    def node(self, op: str, *inputs: str, **attributes: int | list[int]) -> str:
        """Append a node."""
        output = f"v{len(self.nodes)}"
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name, None, None, None, **attributes))
        return output

    def conv(self, value: str, before: int, after: int) -> str:
        """A 3x3 convolution that keeps the size."""
        weights = self.weight(after, before, 3, 3), self.weight(after)
        return self.node("Conv", value, *weights, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def model(
        self, name: str, input_shape: Sequence[int | str], output: str, output_shape: Sequence[int | str]
    ) -> ModelProto:
        """Everything as a model with an input called `input`; texts are free sizes."""
        given = helper.make_tensor_value_info("input", TensorProto.FLOAT, input_shape)
        found = helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)
        graph = helper.make_graph(self.nodes, name, [given], [found], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def vgg16() -> ModelProto:
    """138,357,544 parameters, 15,470,264,320 MACs."""
    return vgg("vgg16", 3)


def vgg19() -> ModelProto:
    """143,667,240 parameters, 19,632,062,464 MACs."""
    return vgg("vgg19", 4)


def vggconv() -> ModelProto:
    """VGG-16 with layers of 64, 64 and 10 in place of 4096, 4096 and 1000."""
    return vgg("vggconv", 3, (64, 64, 10))


def vgg(name: str, deep: int, head: Sequence[int] = (4096, 4096, 1000)) -> ModelProto:
    """Five blocks of 3x3 convolutions, `deep` of them in each of the last three, and three Gemm layers."""
    net, value, channels = Builder(), "input", 3
    for repeats, width in ((2, 64), (2, 128), (deep, 256), (deep, 512), (deep, 512)):
        for _ in range(repeats):
            value = net.node("Relu", net.conv(value, channels, width))
            channels = width
        value = net.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = net.node("Flatten", value)
    for place, (before, after) in enumerate(zip((25088, *head), head, strict=False)):
        value = net.node("Gemm", value, net.weight(after, before), net.weight(after), transB=1)
        value = net.node("Relu", value) if place < len(head) - 1 else value
    return net.model(name, [1, 3, 224, 224], value, [1, head[-1]])


def lenet() -> ModelProto:
    """Two convolutions without padding and three Gemm layers on a 32x32 image."""
    net, value, channels = Builder(), "input", 1
    for width in (6, 16):
        weights = net.weight(width, channels, 5, 5), net.weight(width)
        value = net.node("Relu", net.node("Conv", value, *weights, kernel_shape=[5, 5]))
        value = net.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
        channels = width
    value = net.node("Flatten", value)
    for before, after in ((400, 120), (120, 84), (84, 10)):
        value = net.node("Gemm", value, net.weight(after, before), net.weight(after), transB=1)
        value = net.node("Relu", value) if after > 10 else value
    return net.model("lenet", [1, 1, 32, 32], value, [1, 10])


def mlp(width: int = 4096, layers: int = 28) -> ModelProto:
    """One matrix product after the other."""
    net, value = Builder(), "input"
    for _ in range(layers):
        value = net.node("Relu", net.node("MatMul", value, net.weight(width, width)))
    return net.model("mlp", [1, width], value, [1, width])


def chain(nodes: int, width: int = 8) -> ModelProto:
    """Blocks of four nodes; `nodes` is rounded down to whole blocks and two nodes in front."""
    net = Builder()
    value = net.node("Relu", net.conv("input", 3, width))
    for _ in range((nodes - 2) // 4):
        statistics = [net.weight(width) for _ in range(4)]
        inner = net.node("BatchNormalization", net.conv(value, width, width), *statistics)
        value = net.node("Add", value, net.node("Relu", inner))
    return net.model(f"chain{nodes}", [1, 3, 16, 16], value, [1, width, 16, 16])


def build(name: str) -> ModelProto:
    """The model of that name."""
    if name.startswith("chain"):
        return chain(int(name.removeprefix("chain")))
    return {"lenet": lenet, "vgg16": vgg16, "vgg19": vgg19, "vggconv": vggconv, "mlp1.9g": mlp}[name]()


if __name__ == "__main__":
    save_model(build(sys.argv[1]), sys.argv[2])
