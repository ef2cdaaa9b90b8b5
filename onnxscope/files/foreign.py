"""Names for files that are not ONNX models, so that a message can say what they are instead.

Source: the formats' own first bytes ("magic numbers").
"""

from __future__ import annotations

_LFS = "a git-lfs pointer, a few lines in place of the model: run `git lfs pull`"
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", _LFS),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"PK\x03\x04", "a ZIP archive (PyTorch checkpoints and .npz files are ones)"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"(\xb5/\xfd", "a zstd archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file (a Keras model?)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF model"),
    (b"\x80\x02", "a Python pickle (a PyTorch checkpoint?)"),
    (b"\x80\x03", "a Python pickle (a PyTorch checkpoint?)"),
    (b"\x80\x04", "a Python pickle (a PyTorch checkpoint?)"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"%PDF", "a PDF document"),
    (b"ftrt", "a TensorRT engine"),
)


def foreign(head: bytes) -> str | None:
    """What a file is, from its first bytes (512 are plenty), where it is something well known, not ONNX.

    >>> foreign(b"GIF89a")
    'a GIF picture'
    """
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if head[4:8] == b"ORTM":
        return "a model in onnxruntime's own format (.ort): give the ONNX model that it was made from"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if head[8:10] == b'{"' and not any(head[5:8]):
        return "a safetensors file: weights without a graph"
    return _text(head)


def _text(head: bytes) -> str | None:
    """A name for readable text; an ONNX model has control characters in its first bytes."""
    start = head.lstrip()[:300].lower()
    if start.startswith((b"<!doctype", b"<html")) or b"<html" in start:
        return "a web page (a download that needed a login?)"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else only the last character is cut
            return None
        text = head[: error.start].decode("utf-8")
    readable = all(letter.isprintable() or letter in "\t\n\r\f" for letter in text)
    return "a text file" if readable else None
