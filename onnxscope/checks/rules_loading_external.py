"""OX150-OX157: weights in other files, and files that are too large."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from onnxscope.checks.finding import Finding
from onnxscope.checks.places import at, count_of, docs, metadata, several, tensors
from onnxscope.checks.registry import check
from onnxscope.errors import FileError
from onnxscope.files.external import ExternalData
from onnxscope.graph import Model, Tensor

PROTOBUF_LIMIT = 1 << 31
"""Bytes that one protobuf message may have."""
_PAGE = 4096
_WORTH_MAPPING = 1 << 16
"""Bytes from which a tensor's alignment matters: smaller ones are copied."""


def external(model: Model) -> Iterator[tuple[str, Tensor, ExternalData]]:
    """(label, tensor, storage) of every tensor whose numbers are in another file."""
    for label, tensor in tensors(model):
        if isinstance(tensor.storage, ExternalData):
            yield label, tensor, tensor.storage


def location(tensor: Tensor) -> str:
    """The file that a tensor names."""
    return dict(tensor.external).get("location", "")


def broken(model: Model, kind: str) -> Iterator[tuple[str, list[str], Tensor, str]]:
    """(file, labels, first tensor, problem) of the external files with a problem of this kind."""
    found: dict[str, tuple[list[str], Tensor, str]] = {}
    for label, tensor, storage in external(model):
        failure = storage.failure()
        if failure is not None and failure.kind == kind:
            text = failure.message.removeprefix(f"tensor {tensor.name!r}: ")
            found.setdefault(location(tensor), ([], tensor, text))[0].append(label)
    for file, (labels, tensor, text) in found.items():
        yield file, labels, tensor, text


def resolved(model: Model) -> Iterator[tuple[str, Tensor, str, int, int]]:
    """(label, tensor, real path, offset, length) of the external tensors whose bytes can be had."""
    for label, tensor, storage in external(model):
        try:
            yield label, tensor, *storage.resolve()
        except FileError:
            continue


@check("OX150", "missing-external-data", severity="error")
def missing_external_data(model: Model) -> Iterator[Finding]:
    """An external file with weights isn't there.

    What it flags:
        Files that tensors refer to and that aren't beside the model; one finding per file.

    Why it matters:
        The model loads only on the disk of whoever exported it.

    Bad:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[4] x) => (float[4] y) <float[4] w = ["location" : "lost.bin"]> { y = Add(x, w) }

    Good:
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { y = Add(x, w) }

    Fix and its safety:
        Put the file beside the model under the name given, or export again into one file.

    Source:
        ONNX ExternalData.md: the location is relative to the model's folder.
    """
    for file, labels, tensor, text in broken(model, "missing"):
        yield at(
            missing_external_data.finding(
                labels[0],
                f"missing external data: {text}; {count_of(len(labels), 'tensor')}: {several(labels)}",
                "put the file beside the model, or export again",
                file=file,
                tensors=len(labels),
            ),
            tensor,
        )


@check("OX151", "external-data-range", severity="error")
def external_data_range(model: Model) -> Iterator[Finding]:
    """A range of external data lies outside its file or doesn't fit its tensor.

    What it flags:
        Offsets and lengths beyond the end of the file, lengths that differ from what dims and type ask for,
        and entries that are no natural numbers.

    Why it matters:
        Weights are cut off, shifted or garbage; careless readers run past the end.

    Bad: see tests/checks/test_rules_loading_external.py

    Good: see tests/checks/test_rules_loading_external.py

    Fix and its safety:
        Copy both files again, from the same export.

    Source:
        ONNX ExternalData.md, "offset", "length".
    """
    for file, labels, tensor, text in broken(model, "range"):
        more = f", and {len(labels) - 1} more tensors" if len(labels) > 1 else ""
        message = f"external data range of tensor {tensor.name!r}: {text}{more}"
        yield at(external_data_range.finding(labels[0], message, file=file, tensors=len(labels)), tensor)


@check("OX152", "unaligned-external-data", severity="note")
def unaligned_external_data(model: Model) -> Iterator[Finding]:
    """Large external tensors don't begin at a page of memory.

    What it flags:
        External tensors of 64 KiB and more whose offset is no multiple of 4096; one finding per file.

    Why it matters:
        A runtime can map aligned weights into memory and share them; others it must copy.

    Bad: see tests/checks/test_rules_loading_external.py

    Good: see tests/checks/test_rules_loading_external.py

    Fix and its safety:
        Save the external data again with aligned offsets; the numbers stay.

    Source:
        ONNX ExternalData.md: offsets should be multiples of 4096 (64 KiB on Windows).
    """
    found: dict[str, list[tuple[str, Tensor]]] = {}
    for label, tensor, _, offset, length in resolved(model):
        if offset % _PAGE and length >= _WORTH_MAPPING:
            found.setdefault(location(tensor), []).append((label, tensor))
    for file, users in found.items():
        names = several(label for label, _ in users)
        text = f"unaligned external data in {file!r}: {count_of(len(users), 'tensor')} ({names})"
        yield at(unaligned_external_data.finding(users[0][0], text, tensors=len(users)), users[0][1])


@check("OX153", "overlapping-external-data", severity="warning")
def overlapping_external_data(model: Model) -> Iterator[Finding]:
    """Two tensors share a part of an external file.

    What it flags:
        Ranges of one file that overlap without being the same (the same range is a shared weight).

    Why it matters:
        One of the two reads the other's numbers: an offset is wrong.

    Bad: see tests/checks/test_rules_loading_external.py

    Good: see tests/checks/test_rules_loading_external.py

    Fix and its safety:
        Export again; which offset is right can't be told.

    Source:
        ONNX ExternalData.md.
    """
    found = sorted(resolved(model), key=lambda row: (row[2], row[3], row[4]))
    last: tuple[str, str, int, int] | None = None
    for label, tensor, path, offset, length in found:
        if (
            last is not None
            and last[1] == path
            and offset < last[3]
            and (offset, offset + length) != last[2:]
        ):
            text = f"overlapping external data: bytes {offset} to {offset + length} of {location(tensor)!r}"
            text += f" belong to {last[0]!r} too (bytes {last[2]} to {last[3]})"
            yield at(overlapping_external_data.finding(label, text), tensor)
        if length and (last is None or last[1] != path or offset + length > last[3]):
            last = (label, path, offset, offset + length)


@check("OX154", "external-checksum-mismatch", severity="error")
def external_checksum_mismatch(model: Model) -> Iterator[Finding]:
    """An external file isn't the one that was exported.

    What it flags:
        Files whose SHA-1 differs from the `checksum` that a tensor gives; both are named.

    Why it matters:
        The weights were changed or belong to another export.

    Bad: see tests/checks/test_rules_loading_external.py

    Good: see tests/checks/test_rules_loading_external.py

    Fix and its safety:
        Copy both files again, from the same export.

    Source:
        ONNX ExternalData.md, "checksum": SHA1 digest of the file.
    """
    digests: dict[str, str] = {}
    told: set[tuple[str, str]] = set()
    for label, tensor, path, _, _ in resolved(model):
        given = dict(tensor.external).get("checksum", "").strip().lower()
        if not given or (path, given) in told:
            continue
        told.add((path, given))
        if path not in digests:
            digests[path] = digest_of(path, "sha1")
        if digests[path] and digests[path] != given:
            text = (
                f"checksum mismatch: {location(tensor)!r} has SHA-1 {digests[path]}, the model says {given}"
            )
            yield at(external_checksum_mismatch.finding(label, text), tensor)


def digest_of(path: str, algorithm: str) -> str:
    """Hexadecimal digest of a file, read in chunks; "" where it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(
                file, lambda: hashlib.new(algorithm, usedforsecurity=False)
            ).hexdigest()
    except OSError:
        return ""


@check("OX155", "unused-external-bytes", severity="note")
def unused_external_bytes(model: Model) -> Iterator[Finding]:
    """An external file holds bytes that no tensor refers to.

    What it flags:
        External files of which more than a hundredth, and more than 64 KiB, belongs to no tensor.

    Why it matters:
        Left-overs of an earlier save (saving appends to the file), or something hidden: both are shipped.

    Bad: see tests/checks/test_rules_loading_external.py

    Good: see tests/checks/test_rules_loading_external.py

    Fix and its safety:
        Save the model into a fresh external file; the numbers in use stay.

    Source:
        ONNX ExternalData.md; onnx#3157 (saving appends).
    """
    ranges: dict[str, set[tuple[int, int]]] = {}
    files: dict[str, str] = {}
    for _, tensor, path, offset, length in resolved(model):
        ranges.setdefault(path, set()).add((offset, offset + length))
        files[path] = location(tensor)
    for path, found in ranges.items():
        size, used, end = os.path.getsize(path), 0, 0
        for start, stop in sorted(found):
            used += max(0, stop - max(start, end))
            end = max(end, stop)
        if size - used > max(size // 100, _WORTH_MAPPING):
            text = (
                f"unused external bytes: {size - used} of {size} bytes of {files[path]!r} belong to no tensor"
            )
            yield unused_external_bytes.finding(files[path], text, unused=size - used, bytes=size)


@check("OX156", "near-2-gib", severity="warning")
def near_2_gib(model: Model) -> Iterator[Finding]:
    """The file is close to, or above, what protobuf can hold.

    What it flags:
        Model files (without external data) of more than nine tenths of 2 GiB.

    Why it matters:
        protobuf stops at 2 GiB: the next tool that adds a name or a weight can't save the model, and some
        write a damaged one.

    Bad: see tests/checks/test_rules_loading_external.py

    Good: see tests/checks/test_rules_loading_external.py

    Fix and its safety:
        Save with external data; the numbers stay.

    Source:
        protobuf "Overview": messages below 2 GiB; onnxsim#158, pytorch#111984.
    """
    if model.file_bytes > 0.9 * PROTOBUF_LIMIT:
        share = model.file_bytes / PROTOBUF_LIMIT
        text = f"the file has {model.file_bytes} bytes, {share:.0%} of the 2 GiB that protobuf can hold"
        yield near_2_gib.finding("", text, "save it with external data", bytes=model.file_bytes)


@check("OX157", "documentation-bloat", severity="note")
def documentation_bloat(model: Model) -> Iterator[Finding]:
    """Documentation strings and metadata take a large part of the file.

    What it flags:
        More than 16 KiB of documentation and metadata that make up more than a tenth of the file.

    Why it matters:
        Exporters write stack traces and source paths there: dead bytes on a device, and private ones.

    Bad: see tests/checks/test_rules_loading_external.py

    Good: see tests/checks/test_rules_loading_external.py

    Fix and its safety:
        Strip documentation and metadata of nodes; nothing is computed differently.

    Source:
        onnx.proto, doc_string and metadata_props; PINTO0309/sde4onnx.
    """
    texts = sum(len(text) for _, text in docs(model))
    entries = sum(len(key) + len(value) for _, key, value in metadata(model))
    total = texts + entries
    if total > 16 << 10 and 10 * total > model.file_bytes > 0:
        text = f"documentation ({texts} characters) and metadata ({entries}) make up "
        text += f"{total / model.file_bytes:.0%} of the file's {model.file_bytes} bytes"
        yield documentation_bloat.finding("", text, characters=total, bytes=model.file_bytes)
