"""What is inside an ONNX file: every shape, parameter and multiply-accumulate, with the formula that gave it.

    import onnxscope

    report = onnxscope.report("model.onnx", dims={"batch": 1})
    print(report)                    # or report.to_json(), report.to_markdown(), report.to_csv()
    onnxscope.convert("model.onnx", "fcn.onnx")  # fully connected head -> convolutions, proved in onnxruntime
    proof = onnxscope.verify("model.onnx", "fcn.onnx")

Importing this package imports nothing else: the names below arrive with their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxscope.api import audit, convert, diff, load, plan, report, verify
    from onnxscope.errors import (
        ConversionFailed,
        ExternalDataError,
        FileError,
        OnnxscopeError,
        RuntimeFailure,
        UsageError,
    )
    from onnxscope.graph import Model
    from onnxscope.results import Audit, Conversion, Difference, Plan, Proof, Report

__version__ = "0.1.0"

__all__ = [
    "Audit",
    "Conversion",
    "ConversionFailed",
    "Difference",
    "ExternalDataError",
    "FileError",
    "Model",
    "OnnxscopeError",
    "Plan",
    "Proof",
    "Report",
    "RuntimeFailure",
    "UsageError",
    "__version__",
    "audit",
    "convert",
    "diff",
    "load",
    "plan",
    "report",
    "verify",
]

_HOMES = {
    "audit": "onnxscope.api",
    "convert": "onnxscope.api",
    "diff": "onnxscope.api",
    "load": "onnxscope.api",
    "plan": "onnxscope.api",
    "report": "onnxscope.api",
    "verify": "onnxscope.api",
    "Audit": "onnxscope.results",
    "Conversion": "onnxscope.results",
    "Difference": "onnxscope.results",
    "Plan": "onnxscope.results",
    "Proof": "onnxscope.results",
    "Report": "onnxscope.results",
    "Model": "onnxscope.graph",
    "OnnxscopeError": "onnxscope.errors",
    "ConversionFailed": "onnxscope.errors",
    "FileError": "onnxscope.errors",
    "ExternalDataError": "onnxscope.errors",
    "RuntimeFailure": "onnxscope.errors",
    "UsageError": "onnxscope.errors",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
