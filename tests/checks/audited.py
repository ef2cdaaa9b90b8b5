"""Findings of single rules on small models."""

import onnx
import onnx.parser

from onnxscope.checks.registry import find, rules
from onnxscope.checks.runner import Context, run_rule
from onnxscope.checks.settings import Settings
from onnxscope.files.read import loads


def model_of(text, *, ir=8, opset=17, name="example.onnx"):
    """A Model from ONNX text; the header is made up where the text begins with the graph."""
    head = "" if text.lstrip().startswith("<") else f'<ir_version: {ir}, opset_import: ["" : {opset}]>\n'
    return loads(onnx.parser.parse_model(head + text).SerializeToString(), name)


def found(code, model, **settings):
    """Findings of the rule `code` on a model (or ONNX text)."""
    if isinstance(model, str):
        model = model_of(model)
    if isinstance(model, onnx.ModelProto):
        model = loads(model.SerializeToString(), "example.onnx")
    return run_rule(find(code), Context(model, Settings(**settings)))


def codes(model, prefixes=("",)):
    """Codes of every finding of the rules whose code begins with one of the prefixes."""
    context = Context(model, Settings())
    chosen = [info for info in rules() if info.code.startswith(tuple(prefixes))]
    return {finding.code for info in chosen for finding in run_rule(info, context)}
