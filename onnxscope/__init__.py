"""What is inside an ONNX file: every shape, parameter and multiply-accumulate, with the formula that gave it.

    import onnxscope

    report = onnxscope.report("model.onnx", dims={"batch": 1})
    print(report)                    # or report.to_json(), report.to_markdown(), report.to_csv()

Importing this package imports nothing else: the names below arrive with their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxscope.api import Report, load, report
    from onnxscope.errors import ExternalDataError, FileError, OnnxscopeError, UsageError
    from onnxscope.graph import Model

__version__ = "0.1.0"

__all__ = [
    "ExternalDataError",
    "FileError",
    "Model",
    "OnnxscopeError",
    "Report",
    "UsageError",
    "__version__",
    "load",
    "report",
]

_HOMES = {
    "load": "onnxscope.api",
    "report": "onnxscope.api",
    "Report": "onnxscope.api",
    "Model": "onnxscope.graph",
    "OnnxscopeError": "onnxscope.errors",
    "FileError": "onnxscope.errors",
    "ExternalDataError": "onnxscope.errors",
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
