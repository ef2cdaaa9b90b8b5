"""A small sound model, and how to change it."""

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

MODEL = """<ir_version: 8, opset_import: ["" : 17], producer_name: "planter">
digits (float[N, 1, H, W] image) => (float[N, 10] scores) {
    [conv1] c1 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w1, b1)
    [relu1] r1 = Relu(c1)
    [conv2] c2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r1, w2, b2)
    [relu2] r2 = Relu(c2)
    [pool] p = GlobalAveragePool(r2)
    [flatten] f = Flatten(p)
    [fc] scores = Gemm <transB = 1> (f, w3, b3)
}"""


def sound_model():
    model = onnx.parser.parse_model(MODEL)
    draw = np.random.default_rng(0)
    shapes = {"w1": (8, 1, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (10, 8), "b3": (10,)}
    for name, shape in shapes.items():
        array = draw.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"planted_{op}", **attributes)


def stored(model, name, array):
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))


def between(model, place, *nodes):
    """Put nodes, the last of which makes `new`, in front of node `place`, whose first input becomes `new`."""
    model.graph.node[place].input[0] = "new"
    for offset, added in enumerate(nodes):
        model.graph.node.insert(place + offset, added)
