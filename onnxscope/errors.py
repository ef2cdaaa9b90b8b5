"""Everything that onnxscope raises on purpose.

    OnnxscopeError            message, where, help; `exit_code` for the command line
    |-- ConversionFailed (1)  nothing converts, or the proof failed: nothing was written
    |-- UsageError       (2)  the call is wrong: a bad option value, an unknown layer, an output that exists
    |-- FileError        (3)  the model can't be used: not found, truncated, not ONNX, weights missing
    |   `-- ExternalDataError external weights missing, outside their folder, or shorter than declared
    `-- RuntimeFailure   (4)  onnxruntime is missing or can't do what was asked

A bad model is data (`Problem` rows beside the result), a bad call is an exception, a bug is an assertion.
"""

from __future__ import annotations


class OnnxscopeError(Exception):
    """Base of every deliberate error.

    `message` says what is wrong, `where` the place (file, offset, node or tensor), `help` the next step.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.help = help

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        text = f"{text}; {self.help}" if self.help else text
        return " ".join(text.split())


class ConversionFailed(OnnxscopeError):
    """No file was written: no layer converts, or the proof failed; `conversion` holds what is known."""

    def __init__(self, message: str, *, conversion: object, where: str = "", help: str = "") -> None:
        super().__init__(message, where=where, help=help)
        self.conversion = conversion


class UsageError(OnnxscopeError):
    """The call is wrong: unknown name, bad binding, output exists."""

    exit_code = 2


class FileError(OnnxscopeError):
    """The model can't be used as it is; `where` names the file and, where known, the byte offset."""

    exit_code = 3


class ExternalDataError(FileError):
    """A tensor's weights are in another file that is missing, too short or outside the model's folder.

    `kind` is `missing`, `outside` or `range` (offset and length don't fit the file or the tensor).
    """

    def __init__(self, message: str, *, kind: str = "range", where: str = "", help: str = "") -> None:
        super().__init__(message, where=where, help=help)
        self.kind = kind


class RuntimeFailure(OnnxscopeError):
    """onnxruntime is not installed, failed, or silently used another provider."""

    exit_code = 4
