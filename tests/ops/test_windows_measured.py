"""Sizes of windowed ops against arrays that onnxruntime returned, over seeded combinations of attributes.

Not an expectation by hand: the oracle is the runtime. Combinations that it refuses are left out, and so are
sizes that we leave open because the specification and the runtime differ (their rows are in the op tables).
"""

import random

import pytest
from rules import answer

np = pytest.importorskip("numpy")
helper = pytest.importorskip("onnx.helper")
onnxruntime = pytest.importorskip("onnxruntime")

DILATED = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}
"""First opset with dilations."""
ROUNDED = {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}
"""First opset with ceil_mode."""
OPSETS = {"MaxPool": (8, 10, 12, 22), "AveragePool": (7, 10, 19, 22), "LpPool": (11, 18, 22)}


def geometry(draw, rank):
    """Strides and padding in one of the three forms."""
    attributes = {"strides": [draw.randint(1, 3) for _ in range(rank)]}
    padding = draw.choice(["pads", "pads", "none", "VALID", "SAME_UPPER", "SAME_LOWER"])
    if padding == "pads":
        attributes["pads"] = [draw.randint(0, 2) for _ in range(2 * rank)]
    elif padding != "none":
        attributes["auto_pad"] = padding
    return attributes


def pool(draw):
    rank, name = draw.randint(1, 3), draw.choice(sorted(OPSETS))
    opset = draw.choice(OPSETS[name])
    attributes = {"kernel_shape": [draw.randint(1, 4) for _ in range(rank)], **geometry(draw, rank)}
    if opset >= DILATED[name] and draw.random() < 0.4:
        attributes["dilations"] = [draw.randint(1, 2) for _ in range(rank)]
    if opset >= ROUNDED[name] and draw.random() < 0.6:
        attributes["ceil_mode"] = 1
    return name, opset, [(2, 3, *(draw.randint(1, 14) for _ in range(rank)))], attributes


def convolution(draw):
    rank, group = draw.randint(1, 3), draw.randint(1, 2)
    channels, kernel = group * draw.randint(1, 2), [draw.randint(1, 4) for _ in range(rank)]
    attributes = {"group": group, "dilations": [draw.randint(1, 2) for _ in kernel], **geometry(draw, rank)}
    x = (2, channels, *(draw.randint(1, 12) for _ in kernel))
    w = (2 * group, channels // group, *kernel)
    return "Conv", draw.choice([1, 11, 22]), [x, w], attributes


def transposed(draw):
    _, opset, (x, w), attributes = convolution(draw)
    if draw.random() < 0.4:
        attributes["output_padding"] = [draw.randint(0, 1) for _ in x[2:]]
    if draw.random() < 0.3:
        attributes["output_shape"] = [draw.randint(1, 20) for _ in x[2:]]
    return "ConvTranspose", opset, [x, (x[1], 2, *w[2:])], attributes


def measured(name, opset, shapes, attributes):
    """The shape that onnxruntime returns, or None where it refuses the node."""
    names = [f"x{i}" for i in range(len(shapes))]
    graph = helper.make_graph(
        [helper.make_node(name, names, ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info(n, 1, shape) for n, shape in zip(names, shapes, strict=True)],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        feeds = {n: np.zeros(shape, np.float32) for n, shape in zip(names, shapes, strict=True)}
        return session.run(None, feeds)[0].shape
    except Exception:  # every refusal has a class of its own
        return None


@pytest.mark.parametrize("make", [pool, convolution, transposed])
def test_sizes_are_those_that_onnxruntime_returns(make):
    draw = random.Random(7)
    compared = 0
    for _ in range(120):
        name, opset, shapes, attributes = make(draw)
        found = answer(name, opset, [",".join(map(str, shape)) for shape in shapes], attributes)
        truth = measured(name, opset, shapes, attributes)
        if truth is None or found.shape == "*":  # a window larger than its input: runtimes differ
            continue
        sizes = found.shape.split(",")
        assert len(sizes) == len(truth)
        for size, true in zip(sizes, truth, strict=True):
            assert size.startswith("y0.dim") or int(size) == true, (name, opset, shapes, attributes, truth)
            compared += not size.startswith("y0.dim")
    assert compared > 150
