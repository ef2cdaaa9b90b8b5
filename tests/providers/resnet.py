"""ResNet-18 (He et al. 2015, table 1) with seeded weights, BatchNorm folded, for 64x64 images."""

from math import sqrt

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model


def save(path):
    """Write the model: 20 convolutions, 8 residual sums, input [1, 3, 64, 64], output [1, 1000]."""
    draw = np.random.default_rng(18)
    nodes, weights = [], []

    def tensor(name, *shape, spread):
        values = (spread * draw.standard_normal(shape)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(x, name, channels, filters, kernel, stride):
        spread = sqrt(2 / (channels * kernel * kernel))
        parts = [
            tensor(f"{name}.w", filters, channels, kernel, kernel, spread=spread),
            tensor(f"{name}.b", filters, spread=0.1),
        ]
        pads = [kernel // 2] * 4
        return node("Conv", [x, *parts], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    x = node("Relu", [conv("x", "stem", 3, 64, 7, 2)], "stem.relu")
    x = node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            short = conv(x, f"{name}.short", channels, filters, 1, stride) if stride == 2 else x
            y = node("Relu", [conv(x, f"{name}.1", channels, filters, 3, stride)], f"{name}.relu")
            y = node("Add", [conv(y, f"{name}.2", filters, filters, 3, 1), short], f"{name}.sum")
            x, channels = node("Relu", [y], f"{name}.out"), filters
    x = node("Flatten", [node("GlobalAveragePool", [x], "mean")], "flat")
    fc = [tensor("fc.w", 1000, 512, spread=1 / sqrt(512)), tensor("fc.b", 1000, spread=0.1)]
    node("Gemm", [x, *fc], "y", transB=1)
    float32 = TensorProto.FLOAT
    ends = [
        [helper.make_tensor_value_info(name, float32, shape)]
        for name, shape in (("x", [1, 3, 64, 64]), ("y", [1, 1000]))
    ]
    graph = helper.make_graph(nodes, "resnet18", *ends, weights)
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
