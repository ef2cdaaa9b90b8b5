"""What onnxruntime says when something fails, made readable: one line, without places in its C++ source."""

from __future__ import annotations

import re

_LOG = re.compile(
    r"\x1b\[[0-9;]*m|^[\d :.-]*\[[A-Z]:onnxruntime:[^\]]*\] |\[ONNXRuntimeError\] : |\b\d+ : [A-Z_]+ : "
)
_PLACE = re.compile(r"(?:(?<!\w)[A-Za-z]:)?[\\/]\S+\.(?:cc|cpp|h|hpp):\d+ ")


def plain(text: str) -> str:
    """An error text or a line of the log, without colours, prefixes and C++ signatures.

    >>> plain("[ONNXRuntimeError] : 1 : FAIL : /src/gpu.cc:65 bool Open(const Config&) ok was false. No GPU")
    'No GPU'
    """
    text = _LOG.sub("", _LOG.sub("", " ".join(text.split())))
    place = _PLACE.search(text)
    if place is None:
        return text
    said = text[_signature(text, place.end()) :].removeprefix("const ")
    said = said.partition(" was false. ")[2] or said
    return (text[: place.start()] + _LOG.sub("", said)).strip()


def _signature(text: str, start: int) -> int:
    """Where a C++ function's signature ends that begins at `start`; `start` where no end is found."""
    depth, called = 0, False
    for place in range(start, len(text)):
        letter = text[place]
        if letter == " " and depth == 0 and called and text[place - 1] in ")>":
            return place + 1
        called = called or letter == "("
        depth += (letter in "(<") - (letter in ")>")
    return start
