"""A conversion of a model in memory, checked by onnx."""

from __future__ import annotations

from typing import Any

import onnx

from onnxscope.files.write import dumps
from onnxscope.graph import Model
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options, Plan


def converted(model: Model, **options: Any) -> tuple[Plan, Model]:
    made = plan(model, Options(**options))
    assert made.edit is not None, made.refusals
    candidate = convert(made)
    onnx.checker.check_model(onnx.load_from_string(dumps(candidate)), full_check=True)
    return made, candidate
