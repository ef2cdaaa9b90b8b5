"""Textual models: the onnx package's own syntax, protobuf's text format and JSON.

The only place where reading needs the onnx package.
"""

from __future__ import annotations

from onnxscope.errors import FileError
from onnxscope.files.source import Source

FORMATS = {
    ".onnxtxt": "onnxtxt", ".onnxtext": "onnxtxt", ".onnx.txt": "onnxtxt", ".textproto": "textproto",
    ".prototxt": "textproto", ".pbtxt": "textproto", ".json": "json", ".onnxjson": "json",
}  # fmt: skip
"""Endings of textual models, and what the onnx package calls their formats."""


def format_of(source: Source) -> str | None:
    """The textual format of a source, by its name's ending or its first characters; None where binary."""
    for ending, name in FORMATS.items():
        if source.name.lower().endswith(ending):
            return name
    head = source.data[:512].lstrip()
    return "onnxtxt" if head.startswith(b"<") and b"ir_version" in head else None


def binary(source: Source, text_format: str) -> Source:
    """The same model in binary form. Raises FileError where the text isn't one."""
    import onnx
    import onnx.parser

    data = source.data[:]
    try:
        if text_format == "onnxtxt":
            model = onnx.parser.parse_model(data.decode())
        else:
            model = onnx.load_model_from_string(data, format=text_format)
    except Exception as error:  # each format has its own kinds of error, some of them no ValueErrors
        told = error.args[0] if error.args else error
        text = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
        reason = " ".join(text.split())[:200]
        raise FileError(f"this is no ONNX model in {text_format} form: {reason}", where=source.name) from None
    return Source(model.SerializeToString(), source.name, real=source.real)
