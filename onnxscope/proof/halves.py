"""float16 and bfloat16 models by their float32 twins, where roundings are small and limits sharp."""

from __future__ import annotations

import os
from dataclasses import replace

from onnxscope import dtypes
from onnxscope.files.write import save
from onnxscope.graph import Model
from onnxscope.proof import twin
from onnxscope.proof.result import OutputResult
from onnxscope.proof.setting import Pair, opened
from onnxscope.proof.weights import weights_of

NOTE = (
    "float16: the saved files are compared with the limits of float16, and their float32 twins (the same "
    "numbers in a wider type) with those of float32"
)
ROUNDED = (
    "only one model is in half precision: in the float32 twins the other's weights are rounded as its are: "
    "they show everything else; what rounding the weights costs shows in the saved files"
)
UNRUNNABLE = (
    "bfloat16: onnxruntime has no kernels for it on the CPU, so the saved files were not run; their float32 "
    "twins (the same numbers in a wider type) were"
)


def narrow(pair: Pair) -> bool:
    """Whether either model computes in float16 or bfloat16."""
    return twin.is_narrow(pair.setting.original) or twin.is_narrow(pair.setting.candidate)


def mixed(pair: Pair) -> bool:
    """Whether only one of the models is narrow."""
    return twin.is_narrow(pair.setting.original) != twin.is_narrow(pair.setting.candidate)


def unrunnable(pair: Pair) -> bool:
    """Whether either model holds bfloat16 and runs on the CPU, which has no kernels for it."""
    return pair.on_cpu and any(holds_bfloat16(m) for m in (pair.setting.original, pair.setting.candidate))


def holds_bfloat16(model: Model) -> bool:
    """Whether an input, an output or a weight of a model is bfloat16."""
    declared = {info.type.dtype for info in (*model.graph.inputs, *model.graph.outputs)}
    return dtypes.BFLOAT16 in declared | {tensor.dtype for tensor in weights_of(model).values()}


def twins(pair: Pair) -> Pair:
    """The pair of float32 twins, written to the scratch folder and read again.

    Where only one model is narrow, the other's weights are rounded as its are.
    """
    setting = pair.setting
    paths = [os.path.join(setting.folder, f"{name}.twin.onnx") for name in ("original", "candidate")]
    original, candidate = setting.original, setting.candidate
    both = twin.rounded_like(original, candidate), twin.rounded_like(candidate, original)
    for model, path in zip(both, paths, strict=True):
        save(twin.float32_twin(model), path, force=True)
    request = replace(setting.request, original=paths[0], candidate=paths[1])
    return replace(pair, setting=opened(request, setting.folder, setting.progress))


def labelled(outputs: tuple[OutputResult, ...]) -> tuple[OutputResult, ...]:
    """The twins' outputs under names of their own."""
    return tuple(replace(output, name=f"{output.name} (float32 twin)") for output in outputs)
