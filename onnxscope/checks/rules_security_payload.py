"""OX808-OX811: programs and archives in a model, texts that deceive, and what the model consists of."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator

from onnxscope.checks.finding import Finding
from onnxscope.checks.places import count_of, docs, metadata, names, places, several, tensors
from onnxscope.checks.registry import check
from onnxscope.checks.rules_loading_external import digest_of, location, resolved
from onnxscope.errors import FileError
from onnxscope.files.storage import RawData, StringData
from onnxscope.graph import Model, Tensor

_HEAD = 4096
LONG_NAME = 1 << 10
"""Characters from which a name is no name any more."""
LONG_TEXT = 1 << 20


def program_in(head: bytes) -> str:
    """What kind of program or archive begins like this; "" for none. Needs at most 4 KiB.

    >>> program_in(b"#!/bin/sh"), program_in(b"MZ, initials")
    ('a script', '')
    """
    if head.startswith(b"\x7fELF") and head[4:5] in (b"\x01", b"\x02") and head[5:6] in (b"\x01", b"\x02"):
        return "an ELF program"
    if head.startswith(b"MZ") and len(head) >= 64:
        start = int.from_bytes(head[60:64], "little")
        return "a Windows program" if head[start : start + 4] == b"PE\0\0" else ""
    if head.startswith((b"\xcf\xfa\xed\xfe\x07\x00\x00", b"\xcf\xfa\xed\xfe\x0c\x00\x00")):
        return "a macOS program"
    if head[:2] in (b"\x80\x04", b"\x80\x05") and head[2:3] == b"\x95" and head[8:11] == b"\0\0\0":
        return "a Python pickle"
    if head.startswith((b"PK\x03\x04\x14\0", b"PK\x03\x04\x0a\0", b"PK\x03\x04\0\0", b"PK\x03\x04-\0")):
        return "a ZIP archive"
    if head.startswith((b"#!/bin/", b"#!/usr/bin/", b"#! /bin/", b"#! /usr/bin/")):
        return "a script"
    if head.startswith(b"\x1f\x8b\x08") and head[3:4] < b"\x20" and head[8:9] in (b"\0", b"\x02", b"\x04"):
        return "a gzip archive"
    return "a PHP or web script" if head.lstrip()[:16].lower().startswith((b"<?php", b"<script")) else ""


def _heads(model: Model) -> Iterator[tuple[str, bytes]]:
    """(where, first bytes) of everything that can hold bytes of its own."""
    for label, tensor in tensors(model):
        yield from ((f"tensor {label!r}", head) for head in _tensor_heads(tensor))
    for place in places(model):
        for node in place.graph.nodes:
            for item in node.attributes:
                values = item.value if isinstance(item.value, tuple) else (item.value,)
                for value in values:
                    if isinstance(value, bytes) and len(value) > 4:
                        yield f"attribute {item.name!r} of {place.path}{node.label}", value[:_HEAD]
    for where, key, text in metadata(model):
        yield f"metadata {key!r} of {where}", text[:_HEAD].encode("utf-8", "surrogateescape")


def _tensor_heads(tensor: Tensor) -> Iterator[bytes]:
    storage = tensor.storage
    try:
        if isinstance(storage, StringData):
            yield from (text[:_HEAD] for text in storage.strings())
        elif isinstance(storage, RawData) or tensor.external:
            yield bytes(storage.view()[:_HEAD]) if storage is not None else b""
    except (FileError, TypeError):
        return


@check("OX808", "embedded-program", severity="error")
def embedded_program(model: Model) -> Iterator[Finding]:
    """A program or archive is hidden in the model.

    What it flags:
        Tensors, strings, attributes and metadata that begin as an ELF, Windows or macOS program, a Python
        pickle, a ZIP or gzip archive or a script.

    Why it matters:
        Weights are a good hiding place: scanners pass over large numbers. A pickle runs code when it is
        loaded.

    Bad:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["setup" : "#!/bin/sh rm -rf"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Good:
        <ir_version: 8, opset_import: ["" : 17], metadata_props: ["setup" : "run it in a shell"]>
        agraph (float[N] x) => (float[N] y) { y = Relu(x) }

    Fix and its safety:
        Find out where the file comes from; don't extract it on a machine that matters.

    Source:
        Wang, Liu, Cui, "EvilModel", 2021; the formats' own first bytes.
    """
    for where, head in _heads(model):
        kind = program_in(head)
        if kind:
            yield embedded_program.finding(where, f"embedded program or archive: {where} begins as {kind}")


def _deceiving(text: str, plain: str = "") -> list[str]:
    """Control, direction and invisible characters of a text."""
    if text.isascii() and text.isprintable():
        return []
    return [c for c in text if c not in plain and unicodedata.category(c) in ("Cc", "Cf")]


@check("OX809", "control-characters", severity="warning")
def control_characters(model: Model) -> Iterator[Finding]:
    """Names or texts hold characters that don't show.

    What it flags:
        Control characters (escape sequences of terminals among them), text direction overrides and invisible
        characters in names, keys, metadata and documentation; tabs and line ends are fine in the last two.

    Why it matters:
        Printed on a terminal they can move the cursor, hide lines or fake results; two names that look alike
        can differ.

    Bad: see tests/checks/test_rules_security.py

    Good: see tests/checks/test_rules_security.py

    Fix and its safety:
        Rename; nothing is computed differently.

    Source:
        CWE-150; Unicode Technical Report 36; "Trojan Source", 2021.
    """
    found = [(kind, repr(name), _deceiving(name)) for kind, name in names(model)]
    found += [
        (f"metadata {key!r} of {w}", "", _deceiving(text, "\t\n\r")) for w, key, text in metadata(model)
    ]
    found += [(f"documentation of {where}", "", _deceiving(text, "\t\n\r")) for where, text in docs(model)]
    hits = [(f"{where} {name}".strip()[:80], letters) for where, name, letters in found if letters]
    if hits:
        letters = sorted({f"U+{ord(letter):04X}" for _, found_here in hits for letter in found_here})
        text = f"control or invisible characters ({several(letters, 5)}) in {count_of(len(hits), 'text')}: "
        finding = control_characters.finding(hits[0][0], text + several(where for where, _ in hits))
        yield finding


@check("OX810", "oversized-text", severity="warning")
def oversized_text(model: Model) -> Iterator[Finding]:
    """A name or text is far longer than one.

    What it flags:
        Names of more than 1,024 characters, and metadata, documentation or string attributes of more than
        1 MiB.

    Why it matters:
        Data is smuggled where nobody looks, or a tool that copies names everywhere runs out of memory.

    Bad: see tests/checks/test_rules_security.py

    Good: see tests/checks/test_rules_security.py

    Fix and its safety:
        Rename, or strip the text; keep data in tensors.

    Source:
        CWE-400.
    """
    found = [(f"{kind} {name[:20]!r}...", len(name)) for kind, name in names(model) if len(name) > LONG_NAME]
    entries = [(f"metadata {key[:20]!r} of {where}", len(text)) for where, key, text in metadata(model)]
    entries += [(f"documentation of {where}", len(text)) for where, text in docs(model)]
    for place in places(model):
        for node in place.graph.nodes:
            for item in node.attributes:
                if isinstance(item.value, bytes):
                    entries.append((f"attribute {item.name!r} of {place.path}{node.label}", len(item.value)))
    found += [(where, size) for where, size in entries if size > LONG_TEXT]
    for where, size in found:
        yield oversized_text.finding(where, f"oversized text: {where} has {size} characters", size=size)


@check("OX811", "bill-of-materials", severity="note", default=False)
def bill_of_materials(model: Model) -> Iterator[Finding]:
    """What the model consists of: every file with its size and SHA-256.

    What it flags:
        Nothing bad: one note per file, the model's own and those with external data. A model from memory or
        standard input has no file and no note.

    Why it matters:
        A bill of materials: whoever gets the model can check that it is the one that was audited.

    Bad: see tests/checks/test_rules_security.py

    Good: see tests/checks/test_rules_security.py

    Fix and its safety:
        Nothing to fix; keep it with the release (`--ignore OX811` leaves it out).

    Source:
        NTIA, "The Minimum Elements For a Software Bill of Materials", 2021.
    """
    files = {os.path.realpath(model.path): os.path.basename(model.path)} if os.path.isfile(model.path) else {}
    if not files:
        return
    files.update((path, location(tensor)) for _, tensor, path, _, _ in resolved(model))
    for path, name in files.items():
        digest, size = digest_of(path, "sha256"), os.path.getsize(path)
        yield bill_of_materials.finding(
            name, f"{name}: {size} bytes, SHA-256 {digest}", file=name, bytes=size, sha256=digest
        )
