"""Sums of byte products on x86-64 CPUs without VNNI: two of uint8 x int8 are added in 16 bits, and cut off.

MatMulInteger, QGemm and others then give wrong sums, each kernel its own, so that a right conversion gives
other outputs. With `session.x64quantprecision` onnxruntime takes the weights as uint8 instead, whose kernels
are exact; a graph optimizer does that, so the levels without optimizers don't.
Source: onnxruntime's documentation, "Quantize ONNX models", on U8S8 with AVX2 and AVX512; its header
onnxruntime_session_options_config_keys.h. Measured: the probe below gives 65,534 in place of 129,540.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscope import dtypes
from onnxscope.files.write import dumps
from onnxscope.graph import Graph, Model, Node, Tensor, Type, ValueInfo

if TYPE_CHECKING:
    from onnxscope.proof.setting import Pair

PRECISE = ("session.x64quantprecision", "1")
"""Session option for exact sums; without effect on CPUs whose sums are exact anyway."""
OTHERS = (
    "ConstantFolding CommonSubexpressionElimination MatMulAddFusion MatMulIntegerToFloatFusion "
    "DynamicQuantizeMatMulFusion QDQSelectorActionTransformer QDQPropagationTransformer GemmActivationFusion "
    "ConvActivationFusion EnsureUniqueDQForNodeUnit WhereDummyDq TransposeOptimizer MatMulTransposeFusion"
).split()
"""Optimizers of the level `extended` that would fuse what is to run as it is written."""
SUMS = frozenset(
    "MatMulInteger ConvInteger QLinearMatMul QLinearConv QGemm MatMulIntegerToFloat "
    "DynamicQuantizeMatMul".split()
)
_CUT_OFF = "this CPU cuts off sums of uint8 x int8 products at 16 bits (no VNNI; audit rule OX418)"
NOTES = {
    "": "",
    "exact": f"{_CUT_OFF}: models ran on it with exact sums (session.x64quantprecision=1), but for times; "
    "without that option either may give other outputs here",
    "cut off": f"{_CUT_OFF}, and onnxruntime could not run a model with exact sums: a difference may come "
    "from that alone; verify on a CPU with VNNI",
}
"""What `Sessions.sums` answers -> what a reader must know."""
_QUANTIZE = frozenset(("QuantizeLinear", "DynamicQuantizeLinear"))
_SIZES = (4, 4)


def found(ort: Any) -> bool:
    """Whether onnxruntime's sums are cut off on this CPU: 4 x 255 x 127 asked for."""
    left, right, sums = (
        ValueInfo(name, Type(dtype=code, shape=_SIZES))
        for name, code in (("a", dtypes.UINT8), ("b", dtypes.INT8), ("y", dtypes.INT32))
    )
    product = Node(0, "probe", "MatMulInteger", "", ("a", "b"), ("y",))
    graph = Graph("probe", (left, right), (sums,), (product,))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = dumps(Model(graph, ir_version=7, opsets=(("", 13),)))
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    given = {"a": np.full(_SIZES, 255, np.uint8), "b": np.full(_SIZES, 127, np.int8)}
    return bool((session.run(None, given)[0] != 4 * 255 * 127).any())


def concerns(model: Model, level: str) -> bool:
    """Whether a model may add products of bytes at an optimisation level.

    As it is written (`steps`) by its own nodes; fused also between QuantizeLinear and DequantizeLinear. The
    levels `none` and `basic` are for floats, and `deployed` asks for nothing but onnxruntime's defaults.
    """
    ops = {"steps": SUMS, "extended": SUMS | _QUANTIZE, "all": SUMS | _QUANTIZE}.get(level, frozenset())
    return bool(ops) and any(node.op in ops for node in model.graph.nodes)


def unshared(model: Model) -> Model:
    """The model with an int8 initializer of its own for each node that reads one.

    The optimizer behind PRECISE fails where two nodes share one, as zero points often are: "Attempt to
    replace the existing tensor" (onnxruntime 1.32).
    """
    graph = model.graph
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    shared = {t.name: t for t in graph.tensors if t.dtype == dtypes.INT8 and readers[t.name] > 1}
    if not shared:
        return model
    copies: dict[str, Tensor] = {}
    nodes: list[Node] = []
    for place, node in enumerate(graph.nodes):
        own = {name: f"{name}/{place}" for name in node.inputs if name in shared}
        copies |= {new: replace(shared[name], name=new) for name, new in own.items()}
        inputs = tuple(own.get(name, name) for name in node.inputs)
        nodes.append(replace(node, inputs=inputs) if own else node)
    tensors = (*graph.tensors, *copies.values())
    return replace(model, graph=replace(graph, nodes=tuple(nodes), tensors=tensors))


def note(pair: Pair) -> str:
    """What a reader must know where integer models met such a CPU; else "". To be asked after the runs."""
    on_cpu = [one for one in (pair.first, pair.second) if one.provider.on_cpu]
    return NOTES[on_cpu[0].worker.call("sums")] if pair.setting.quantized and on_cpu else ""
