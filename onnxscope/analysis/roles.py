"""Which inputs of an op hold parameters, and which are settings.

One row per group of ops: names, then input positions by role. Ops without a row: every constant float input
of more than one number is a weight. A name with a domain in front wins over the bare one.
"""

from __future__ import annotations

from functools import cache

from onnxscope.analysis.facts import NodeFact
from onnxscope.graph import domain_of

WEIGHT, BIAS, STATISTIC = "weight", "bias", "statistic"

_TABLE = """
Conv FusedConv NhwcConv NhwcFusedConv ConvTranspose CausalConvWithState : weight 1 bias 2
DeformConv                                                              : weight 1 bias 3
ConvInteger                                                             : weight 1
QLinearConv                                                             : weight 3 bias 8
Gemm FusedGemm                                                          : weight 0 1 bias 2
MatMulInteger                                                           : weight 0 1
QLinearMatMul QLinearAdd QLinearMul                                     : weight 0 3
QGemm                                                                   : weight 3 bias 6
MatMulIntegerToFloat                                                    : weight 1 bias 6
DynamicQuantizeMatMul                                                   : weight 1 bias 4
MatMulNBits                                                             : weight 1 bias 5
LayerNormalization InstanceNormalization GroupNormalization GroupNorm   : weight 1 bias 2
BatchNormalization                                           : weight 1 bias 2 statistic 3 4
SkipLayerNormalization                                                  : weight 2 bias 3 4
EmbedLayerNormalization                                                 : weight 2 3 4 5 bias 6
LSTM GRU RNN                                                            : weight 1 2 7 bias 3
DynamicQuantizeLSTM                                                     : weight 1 2 bias 3
com.microsoft:Attention com.microsoft:QAttention                        : weight 1 bias 2
BiasGelu FastGelu BiasAdd                                               : bias 1
PRelu                                                                   : weight 1
"""

_SETTINGS = frozenset(
    "Clip Resize Upsample Pad OneHot Dropout QuantizeLinear DequantizeLinear DynamicQuantizeLinear Range "
    "ConstantOfShape Shape Size NonMaxSuppression RoiAlign Tile TopK Greater Less Equal GreaterOrEqual Mod "
    "LessOrEqual Identity QLinearLeakyRelu QLinearSigmoid QLinearAveragePool QLinearGlobalAveragePool "
    "QLinearSoftmax QLinearConcat Loop If Scan".split()
)
"""Ops whose constant inputs are settings: bounds, scales, sizes."""


@cache
def _rows() -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    for line in _TABLE.strip().splitlines():
        names, _, fields = line.partition(" : ")
        roles: dict[int, str] = {}
        role = ""
        for field in fields.split():
            if field.isdigit():
                roles[int(field)] = role
            else:
                role = field
        found.update((name, roles) for name in names.split())
    return found


def roles_of(fact: NodeFact) -> dict[int, str] | None:
    """Input position -> role of an op with a row; {} for one that has settings only; None for any other."""
    return _roles(domain_of(fact.node.domain), fact.node.op)


@cache
def _roles(domain: str, op: str) -> dict[int, str] | None:
    found = _rows().get(f"{domain}:{op}", _rows().get(op))
    return {} if found is None and op in _SETTINGS else found
