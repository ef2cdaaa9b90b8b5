"""Build the teaching networks of this folder from one line of text each.

    python models/build.py [FOLDER]                    the teaching networks, into FOLDER (default: this one)
    python models/build.py --exported CORPUS [FOLDER]  exporter graphs with their truth, into FOLDER/exported

A network is a list of chains, one a line. The first starts with the input (`CxHxW`) and is the trunk; each
other one has a name, starts where the trunk ends and is an output of its own:

    3x48x48 > conv 32@3x3 > prelu > pool 3 stride 2 ceil > flatten > fc 256 > prelu
    box: fc 4
    face: fc 2 > softmax

The same text gives the same bytes on every machine: weights come from SHAKE-256 of the tensor's name, each
takes one of 256 values (which lets Git pack them well), and their spread keeps activations near 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, load_model, save_model

OPSET = 17
IR_VERSION = 8

NETS = {
    "mnist_conv": "1x28x28 > conv 32@5x5 > relu > pool 2 > conv 32@3x3 > relu > pool 2 > flatten"
    " > fc 256 > relu > fc 10 > softmax",
    "stride_twice": "1x28x28 > conv 32@5x5 stride 2 same > relu > conv 64@5x5 stride 2 same > relu",
    "net32": "1x32x32 > conv 3@5x5 > relu > pool 2 > conv 6@5x5 > relu > pool 2 > flatten"
    " > fc 100 > relu > fc 10",
    "lenet5": "1x32x32 > conv 6@5x5 > tanh > avgpool 2 > conv 16@5x5 > tanh > avgpool 2 > flatten"
    " > fc 120 > tanh > fc 84 > tanh > fc 10",
    "video3d": "3x8x32x32 > conv 16@3x3x3 pad 1 > relu > pool 1x2x2 > conv 32@3x3x3 pad 1 > relu > pool 2x2x2"
    " > flatten > fc 10",
    "bottleneck": "256x28x28 > conv 64@1x1 > conv 256@4x4",
    "direct": "256x28x28 > conv 256@4x4",
    "onet": "3x48x48 > conv 32@3x3 > prelu > pool 3 stride 2 ceil > conv 64@3x3 > prelu > pool 3 stride 2"
    " > conv 64@3x3 > prelu > pool 2 > conv 128@2x2 > prelu > flatten > fc 256 > prelu\n"
    "face: fc 2 > softmax\n"
    "box: fc 4\n"
    "points: fc 10",
}
"""File name -> text; models/README.md says what each teaches, tests/test_models.py has its totals by hand."""

EXPORTED = (
    "autoencoder.dynamo.op18.batch",
    "crnn.script.op13.batch",
    "gap_mean.dynamo.op18.hw",
    "image_tabular.dynamo.op18.batch",
    "keras_conv1d.tf2onnx.op13.fixed",
    "keras_gap_free_size.kexport.op15.hw",
    "keras_small_cnn.kexport.op15.batch",
    "lasagne_mnist.script.op17.fixed.dynamic",
    "lasagne_mnist.script.op17.fixed.qdq",
    "lasagne_mnist.script.op17.fixed.qoperator",
    "lenet5_32.dynamo.op18.batch",
    "lenet5_32.script.op11.fixed",
    "linear_nhwc.script.op17.hw",
    "onet.script.op11.batch.fp16_common",
    "pnet.script.op11.hw",
    "se_linear.script.op13.batch",
    "skl_mlp_classifier.skl2onnx.op17.batch",
)
"""Graphs of the corpus that are small enough to be kept here."""


@dataclass
class Net:
    """One network while it is built: nodes and weights so far, and the value at its end."""

    name: str
    value: str = "input"
    shape: tuple[int, ...] = ()
    """Channels and spatial sizes of `value`, without the batch axis (always 1); features after a flatten."""
    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    prefix: str = ""
    """Of the node names, so that two heads stay apart."""
    counts: dict[str, int] = field(default_factory=dict)

    def label(self, word: str) -> str:
        """A new node name: the word, numbered within its chain."""
        self.counts[word] = self.counts.get(word, 0) + 1
        return f"{self.prefix}{word}{self.counts[word]}"

    def add(self, op: str, label: str, *weights: str, **attributes: Any) -> None:
        """Append a node that reads the last value."""
        output = f"{label}_out"
        self.nodes.append(helper.make_node(op, [self.value, *weights], [output], label, **attributes))
        self.value = output

    def weight(self, name: str, dims: tuple[int, ...], spread: float) -> str:
        """Append a float32 weight with values k/128 * spread, k = -128 ... 127; returns its name."""
        digest = hashlib.shake_256(f"{self.name}/{name}".encode()).digest(prod(dims))
        levels = np.frombuffer(digest, np.uint8).astype(np.float32) - 128
        data = (levels * np.float32(spread / 128)).astype("<f4").tobytes()
        self.weights.append(helper.make_tensor(name, TensorProto.FLOAT, dims, data, raw=True))
        return name


def spread_of(fan_in: int) -> float:
    """The power of two at or below sqrt(6 / fan_in) (He's bound for uniform weights): exact in any type."""
    return float(2.0 ** np.floor(np.log2(np.sqrt(6 / fan_in))))


def conv(net: Net, words: list[str]) -> None:
    """`conv 32@5x5 [stride 2] [pad 1 | same]`: out = (in + 2 pad - k)//stride + 1; same: ceil(in/stride)."""
    filters, _, kernel_text = words[0].partition("@")
    options = options_of(words[1:])
    kernel = sizes(kernel_text)
    stride, pad = int(options.get("stride", 1)), int(options.get("pad", 0))
    out = int(filters)
    label = net.label("conv")
    fan_in = net.shape[0] * prod(kernel)
    weight = net.weight(f"{label}.weight", (out, net.shape[0], *kernel), spread_of(fan_in))
    bias = net.weight(f"{label}.bias", (out,), 1 / 16)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [stride] * len(kernel)}
    if "same" in options:
        attributes["auto_pad"] = "SAME_UPPER"
        spatial = tuple(-(-size // stride) for size in net.shape[1:])
    else:
        attributes["pads"] = [pad] * 2 * len(kernel)
        spatial = tuple((s + 2 * pad - k) // stride + 1 for s, k in zip(net.shape[1:], kernel, strict=True))
    net.add("Conv", label, weight, bias, **attributes)
    net.shape = (out, *spatial)


def pool(net: Net, words: list[str], op: str = "MaxPool") -> None:
    """`pool 2`, `pool 1x2x2`, `pool 3 stride 2 ceil`: the stride is the kernel unless given."""
    kernel = sizes(words[0])
    kernel = kernel * (len(net.shape) - 1) if len(kernel) == 1 else kernel
    options = options_of(words[1:])
    strides = (int(options["stride"]),) * len(kernel) if "stride" in options else kernel
    up = int("ceil" in options)
    net.add(op, net.label("pool"), kernel_shape=kernel, strides=strides, ceil_mode=up)
    windows = zip(net.shape[1:], kernel, strides, strict=True)
    net.shape = (net.shape[0], *((size - k + up * (s - 1)) // s + 1 for size, k, s in windows))


def avgpool(net: Net, words: list[str]) -> None:
    """`avgpool 2`: as `pool`, averaging."""
    pool(net, words, "AveragePool")


def fc(net: Net, words: list[str]) -> None:
    """`fc 256`: fully connected, weights stored as [out, in] like torch does."""
    (features,) = net.shape
    out = int(words[0])
    label = net.label("fc")
    weight = net.weight(f"{label}.weight", (out, features), spread_of(features))
    bias = net.weight(f"{label}.bias", (out,), 1 / 16)
    net.add("Gemm", label, weight, bias, transB=1)
    net.shape = (out,)


def prelu(net: Net, words: list[str]) -> None:
    """`prelu`: max(x, 0) + slope * min(x, 0), one slope per channel or feature."""
    label = net.label("prelu")
    dims = (net.shape[0],) + (1,) * (len(net.shape) - 1)
    net.add("PRelu", label, net.weight(f"{label}.slope", dims, 1 / 4))


def flatten(net: Net, words: list[str]) -> None:
    """`flatten`: everything behind the batch axis becomes one axis, in C, H, W order."""
    net.add("Flatten", net.label("flatten"), axis=1)
    net.shape = (prod(net.shape),)


def plain(op: str) -> Callable[[Net, list[str]], None]:
    """An activation without weights."""

    def build(net: Net, words: list[str]) -> None:
        net.add(op, net.label(op.lower()))

    return build


LAYERS: dict[str, Callable[[Net, list[str]], None]] = {
    "conv": conv,
    "pool": pool,
    "avgpool": avgpool,
    "fc": fc,
    "prelu": prelu,
    "flatten": flatten,
    "relu": plain("Relu"),
    "tanh": plain("Tanh"),
    "softmax": plain("Softmax"),
}


def options_of(words: list[str]) -> dict[str, str]:
    """`stride 2 pad 1 same` -> {"stride": "2", "pad": "1", "same": ""}."""
    options: dict[str, str] = {}
    last = ""
    for word in words:
        if word.isdigit():
            options[last] = word
        else:
            last = word
            options[word] = ""
    return options


def sizes(text: str) -> tuple[int, ...]:
    """`3x28x28` -> (3, 28, 28)."""
    return tuple(int(word) for word in text.split("x"))


def append(net: Net, chain: str) -> None:
    """Append the layers of `a > b > c`."""
    for step in chain.split(">"):
        word, *rest = step.split()
        LAYERS[word](net, rest)


def build(name: str, text: str) -> ModelProto:
    """The network as a model: one float32 input with batch 1, one output per head (or the trunk's end)."""
    trunk, *heads = text.splitlines()
    first, _, chain = trunk.partition(">")
    net = Net(name, shape=sizes(first))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, *net.shape])
    append(net, chain)
    outputs = [add_head(net, *head.split(":")) for head in heads] or [close(net, "output")]
    graph = helper.make_graph(net.nodes, name, [given], outputs, net.weights, doc_string=text)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "onnxscope models/build.py"
    checker.check_model(model, full_check=True)
    return model


def add_head(net: Net, name: str, chain: str) -> ValueInfoProto:
    """Append a chain that starts where the trunk ends; the trunk's end stays where it is."""
    value, shape, counts = net.value, net.shape, net.counts
    net.prefix, net.counts = f"{name}.", {}
    append(net, chain)
    output = close(net, name)
    net.value, net.shape, net.prefix, net.counts = value, shape, "", counts
    return output


def close(net: Net, name: str) -> ValueInfoProto:
    """Make the last value an output of that name."""
    net.nodes[-1].output[0] = name
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *net.shape])


def save_teaching(folder: Path) -> None:
    """Write every network of `NETS` into `folder`."""
    for name, text in NETS.items():
        save_model(build(name, text), folder / f"{name}.onnx")


def save_exported(corpus: Path, folder: Path) -> None:
    """Hydrate the graphs of `EXPORTED` from a corpus into `folder`, each with its truth table."""
    spec = importlib.util.spec_from_file_location("hydrate", corpus / "hydrate.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"no hydrate.py in {corpus}")
    hydrate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hydrate)
    folder.mkdir(exist_ok=True)
    for name in EXPORTED:
        model = hydrate.hydrate_model(load_model(corpus / "skeletons" / f"{name}.skeleton.onnx"))
        save_model(model, folder / f"{name}.onnx")
        shutil.copyfile(corpus / "truth" / f"{name}.truth.json", folder / f"{name}.truth.json")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description="build the networks of models/")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--exported", metavar="CORPUS", type=Path, help="hydrate the exporter graphs")
    options = parser.parse_args(arguments)
    if options.exported:
        save_exported(options.exported, options.folder / "exported")
    else:
        save_teaching(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
