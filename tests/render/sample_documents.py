"""Report documents written by hand, for the renderers: what they show is checked against these numbers."""

from __future__ import annotations

from typing import Any

NO_PARAMS = {"weight": 0, "bias": 0, "total": 0, "shared_with": [], "dtype": None, "bytes": 0}


def layer(name: str, op: str, kind: str, output: list[Any] | None, **more: Any) -> dict[str, Any]:
    """A layer entry with the keys that a test names; the rest is empty."""
    entry: dict[str, Any] = {
        "name": name,
        "op": op,
        "kind": kind,
        "scope": "",
        "input": "x",
        "output": f"{name}_out",
        "input_shape": None,
        "output_shape": output,
        "output_shapes": {f"{name}_out": output},
        "kernel": None,
        "strides": None,
        "pads": None,
        "dilations": None,
        "group": None,
        "params": NO_PARAMS,
        "macs": 0,
        "receptive_field": None,
        "formula": {"shape": [], "params": None, "macs": None},
    }
    return entry | more


def params(weight: int, bias: int, **more: Any) -> dict[str, Any]:
    """A params entry of float32 numbers."""
    total = weight + bias
    entry = {"weight": weight, "bias": bias, "total": total, "shared_with": [], "dtype": "float32"}
    return entry | {"bytes": 4 * total} | more


def window(kernel: int, stride: int = 1, pad: int = 0) -> dict[str, Any]:
    """The keys of a square 2-D window."""
    sizes = {"kernel": kernel, "strides": stride, "dilations": 1}
    return {key: [size, size] for key, size in sizes.items()} | {"pads": [pad] * 4}


def field(size: int, stride: int, start: int = 0) -> dict[str, Any]:
    """The same receptive field along both axes."""
    return {"size": [size, size], "stride": [stride, stride], "start": [start, start]}


def mnist() -> dict[str, Any]:
    """28x28 -> conv 32@5x5 -> pool 2 -> conv 32@3x3 -> pool 2 -> FC 256 -> FC 10, batch 1.

    A relu stands behind both convolutions and the first FC layer.

    Maps 24, 12, 10, 5; parameters 832 + 9,248 + 205,056 + 2,570 = 217,706; MACs 24*24*25*32, 10*10*9*32*32,
    800*256 and 256*10. Activations: 784 inputs + 2*18432 + 4608 + 2*3200 + 800 + 800 + 2*256 + 10 = 50,778
    floats; most are alive at the first relu: 2*18432 = 36,864 floats.
    """
    layers = [
        layer(
            "conv1",
            "Conv",
            "conv",
            [1, 32, 24, 24],
            input_shape=[1, 1, 28, 28],
            group=1,
            params=params(800, 32),
            macs=460_800,
            receptive_field=field(5, 1),
            formula={
                "shape": ["(28 + 2*0 - 1*(5 - 1) - 1)//1 + 1 = 24"] * 2,
                "params": "(5*5*1 + 1)*32 = 832",
                "macs": "1*32*24*24*5*5*1 = 460800",
            },
            **window(5),
        ),
        layer(
            "pool1",
            "MaxPool",
            "pool",
            [1, 32, 12, 12],
            input_shape=[1, 32, 24, 24],
            receptive_field=field(6, 2),
            formula={"shape": ["(24 + 2*0 - 1*(2 - 1) - 1)//2 + 1 = 12"] * 2, "params": None, "macs": None},
            **window(2, 2),
        ),
        layer(
            "conv2",
            "Conv",
            "conv",
            [1, 32, 10, 10],
            input_shape=[1, 32, 12, 12],
            group=1,
            params=params(9216, 32),
            macs=921_600,
            receptive_field=field(10, 2),
            formula={
                "shape": ["(12 + 2*0 - 1*(3 - 1) - 1)//1 + 1 = 10"] * 2,
                "params": "(3*3*32 + 1)*32 = 9248",
                "macs": "1*32*10*10*3*3*32 = 921600",
            },
            **window(3),
        ),
        layer(
            "pool2",
            "MaxPool",
            "pool",
            [1, 32, 5, 5],
            input_shape=[1, 32, 10, 10],
            receptive_field=field(12, 4),
            formula={"shape": ["(10 + 2*0 - 1*(2 - 1) - 1)//2 + 1 = 5"] * 2, "params": None, "macs": None},
            **window(2, 2),
        ),
        layer(
            "fc1",
            "Gemm",
            "fc",
            [1, 256],
            input_shape=[1, 800],
            params=params(204_800, 256),
            macs=204_800,
            formula={"shape": [], "params": "(800 + 1)*256 = 205056", "macs": "1*256*800 = 204800"},
        ),
        layer(
            "fc2",
            "Gemm",
            "fc",
            [1, 10],
            input_shape=[1, 256],
            params=params(2560, 10),
            macs=2_560,
            formula={"shape": [], "params": "(256 + 1)*10 = 2570", "macs": "1*10*256 = 2560"},
        ),
    ]
    return {
        "schema": "onnxscope.report/1",
        "model": {
            "path": "mnist.onnx",
            "bytes": 871_900,
            "weight_bytes": 870_824,
            "ir_version": 8,
            "opsets": {"ai.onnx": 17},
            "producer": "by hand",
            "functions": 0,
            "nodes": 10,
            "op_counts": {"Relu": 3, "Conv": 2, "Gemm": 2, "MaxPool": 2, "Flatten": 1},
        },
        "inputs": [{"name": "image", "dtype": "float32", "shape": [1, 1, 28, 28]}],
        "outputs": [{"name": "scores", "dtype": "float32", "shape": [1, 10]}],
        "layers": layers,
        "totals": {
            "params": 217_706,
            "trainable_params": 217_706,
            "buffers": 0,
            "params_by_kind": {"conv": 10_080, "fc": 207_626},
            "macs": 1_589_760,
            "macs_coverage": 1.0,
            "weight_bytes": 870_824,
            "weight_bytes_by_dtype": {"float32": 870_824},
            "activation_bytes": 203_112,
            "peak_activation_bytes": 147_456,
        },
        "spatial": {"closed_form": {}, "minimum_input": {}, "exact_input_step": {}},
        "fully_connected": [
            {
                "layer": "fc1",
                "replaceable": True,
                "kernel": [5, 5],
                "becomes": "Conv 5x5x32 -> 256",
                "reason": None,
                "share_of_params": 0.941894,
            },
            {
                "layer": "fc2",
                "replaceable": True,
                "kernel": [1, 1],
                "becomes": "Conv 1x1x256 -> 10",
                "reason": None,
                "share_of_params": 0.011805,
            },
        ],
        "problems": [],
    }


def odd() -> dict[str, Any]:
    """What makes a renderer stumble.

    Free sizes with long names, hostile and long names, unknown shapes and counts, shared weights, several
    element types, a refused FC layer, a share that isn't known, problems.
    """
    height, width = "((input_height + 1)//2)", "((input_width + 1)//2)"
    layers = [
        layer(
            "/backbone/stage1/block0/conv",
            "Conv",
            "conv",
            ["batch", 16, "(input_height + 1)//2", "(input_width + 1)//2"],
            input_shape=["batch", 3, "input_height", "input_width"],
            group=1,
            params=params(432, 0, shared_with=["/backbone/stage1/block1/conv"]),
            macs=f"432*batch*{height}*{width}",
            receptive_field=field(3, 2, -1),
            formula={
                "shape": [
                    "(input_height + 2*1 - 1*(3 - 1) - 1)//2 + 1 = (input_height + 1)//2",
                    "(input_width + 2*1 - 1*(3 - 1) - 1)//2 + 1 = (input_width + 1)//2",
                ],
                "params": "3*3*3*16 = 432",
                "macs": None,
            },
            **window(3, 2, 1),
        ),
        layer("a|b`c\x1b[31m<i>_*", "Secret", "other", None, macs=None),
        layer(
            "图像.输出",
            "QLinearConv",
            "conv",
            ["batch", 8, 1, "dim-1"],
            params=params(128, 8, dtype="int8", bytes=160),
            macs="128*batch",
            kernel=[1, 1],
            strides=[2, 1],
            pads=[0, 0, 1, 1],
            dilations=[1, 2],
            group=4,
        ),
        layer("head", "Gemm", "fc", ["batch", 4], params=params(32, 4), macs="32*batch"),
    ]
    return {
        "schema": "onnxscope.report/1",
        "model": {
            "path": "-",
            "bytes": 4_321,
            "weight_bytes": 2_032,
            "ir_version": 9,
            "opsets": {"ai.onnx": 19, "com.microsoft": 1},
            "producer": "",
            "functions": 1,
            "nodes": 1_234,
            "op_counts": {"Secret": 1_230, "Conv": 1, "Gemm": 1, "Greater|": 1, "QLinearConv": 1},
        },
        "inputs": [
            {"name": "input", "dtype": "float32", "shape": ["batch", 3, "input_height", "input_width"]},
            {"name": "table", "dtype": "sequence(float32)", "shape": None},
        ],
        "outputs": [{"name": "result", "dtype": None, "shape": ["batch", 4]}],
        "layers": layers,
        "totals": {
            "params": 604,
            "trainable_params": 604,
            "buffers": 24,
            "params_by_kind": {"conv": 568, "fc": 36},
            "macs": f"432*batch*{height}*{width} + 160*batch",
            "macs_coverage": 0.75,
            "weight_bytes": 2_032,
            "weight_bytes_by_dtype": {"float32": 1_872, "int8": 160},
            "activation_bytes": None,
            "peak_activation_bytes": None,
        },
        "spatial": {
            "closed_form": {"feature map": ["(input_height + 1)//2", "(input_width + 1)//2"]},
            "minimum_input": {"input_height": 1, "input_width": 1},
            "exact_input_step": {"input_height": 2, "input_width": None},
        },
        "fully_connected": [
            {
                "layer": "head",
                "replaceable": False,
                "kernel": None,
                "becomes": None,
                "reason": "its input table|x [batch, 8] comes from no feature map",
                "share_of_params": None,
            }
        ],
        "problems": [
            {
                "where": "a|b`c\x1b[31m<i>_*",
                "message": "Secret: no rule for <Secret>; its shapes are unknown",
            },
            {
                "where": "w",
                "message": "external data 'gone.bin' is missing from the model's folder (and 2 more)",
            },
        ],
    }


def grouped() -> dict[str, Any]:
    """The first network by the first component of its names, sorted by MACs, two of three groups."""
    document = mnist()
    document["groups"] = [
        {
            "name": "convs",
            "layers": 4,
            "ops": {"Conv": 2, "MaxPool": 2},
            "output": "pool2_out",
            "output_shape": [1, 32, 5, 5],
            "params": 10_080,
            "bytes": 40_320,
            "macs": 1_382_400,
        },
        {
            "name": "fc1",
            "layers": 1,
            "ops": {"Gemm": 1},
            "output": "fc1_out",
            "output_shape": [1, 256],
            "params": 205_056,
            "bytes": 820_224,
            "macs": 204_800,
        },
    ]
    document["view"] = {"depth": 1, "sort": "macs", "top": 2, "rows": 2, "of": 3}
    return document


SAMPLES = {"mnist": mnist, "odd": odd, "grouped": grouped}
