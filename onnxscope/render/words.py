"""How numbers, shapes and names are written for people; shared by text, Markdown and notebooks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from onnxscope.documents.schema import FieldEntry, LayerEntry, PlainShape, PlainSize, TotalsEntry
from onnxscope.documents.verdict import percent

Sizes: TypeAlias = tuple[PlainSize, ...]

MACS = "multiply-accumulates, bias adds apart"
MACS_UNKNOWN = "no node that multiplies has a known count"
PEAK_OPEN = "which node has most of them alive depends on the free sizes"
_LONG_NUMBER = re.compile(r"(?<![\w.])\d{4,}(?![\w.])")
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))


def clean(text: str) -> str:
    r"""The text with everything that a terminal would act on, or that can't be seen, written as an escape.

    Names come from a file that anybody may have made: a control sequence in one must not reach the terminal.

    >>> clean("conv\x1b[31m\n")
    'conv\\x1b[31m\\n'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSEEN else char
        for char in text
    )


def display_width(text: str) -> int:
    """Terminal columns that the text takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def number(size: PlainSize | None) -> str:
    """With thousands separators, inside expressions too; `?` where unknown.

    >>> number(1234567), number("58800*batch"), number(None)
    ('1,234,567', '58,800*batch', '?')
    """
    if size is None:
        return "?"
    if isinstance(size, int):
        return f"{size:,}"
    return _LONG_NUMBER.sub(lambda found: f"{int(found[0]):,}", clean(size))


def count(size: PlainSize | None) -> str:
    """As `number`, with `-` for 0: a table of many zeros hides the rest."""
    return "-" if size == 0 else number(size)


def shape(sizes: PlainShape | None, *, tight: bool = False) -> str:
    """`[N, 3, 224, 224]`, or `?` where the rank is unknown; `tight` leaves out the spaces."""
    if sizes is None:
        return "?"
    return _listed(tuple(sizes), "," if tight else ", ")


@lru_cache(maxsize=1024)
def _listed(sizes: tuple[PlainSize, ...], comma: str) -> str:
    return f"[{comma.join(clean(str(size)) for size in sizes)}]"


def macs_remark(totals: TotalsEntry) -> str:
    """What the MACs count, and that they are a lower bound where some aren't known."""
    if totals["macs"] is None:
        return MACS_UNKNOWN
    share = totals["macs_coverage"]
    bound = f"a lower bound: counted for {percent(share)} of the nodes that multiply; " if share < 1 else ""
    return f"{bound}{MACS}"


def opsets(versions: dict[str, int]) -> str:
    """The default domain by its version alone, others by name; of more than two others only how many.

    >>> opsets({"ai.onnx": 17, "com.microsoft": 1})
    '17, com.microsoft 1'
    """
    others = [f"{clean(domain)} {version}" for domain, version in versions.items() if domain != "ai.onnx"]
    if len(others) > 2:
        others = [f"{len(others)} other domains"]
    own = [str(versions["ai.onnx"])] if "ai.onnx" in versions else []
    return ", ".join(own + others) or "unknown"


def times(sizes: Sequence[PlainSize]) -> str:
    """`3x3`; expressions in brackets."""
    return "x".join(str(s) if isinstance(s, int) or s.isidentifier() else f"({clean(s)})" for s in sizes)


def same(sizes: Sequence[PlainSize]) -> str:
    """One number where all are equal, else all of them: `2` or `2,1`."""
    return clean(",".join(map(str, sizes[:1] if len(set(sizes)) == 1 else sizes)))


def window(layer: LayerEntry) -> str:
    """Kernel, then what differs from the default: stride, pads, dilation, groups; for example `3x3 s2 p1`."""
    if layer["kernel"] is None:
        return ""
    strides, pads, dilations = layer["strides"] or (), layer["pads"] or (), layer["dilations"] or ()
    return _window(tuple(layer["kernel"]), tuple(strides), tuple(pads), tuple(dilations), layer["group"] or 1)


@lru_cache(maxsize=1024)
def _window(kernel: Sizes, strides: Sizes, pads: Sizes, dilations: Sizes, group: int) -> str:
    parts = [times(kernel)]
    for letter, sizes, default in (("s", strides, 1), ("p", _per_axis(pads), 0), ("d", dilations, 1)):
        if sizes and set(sizes) != {default}:
            parts.append(f"{letter}{same(sizes)}")
    if group != 1:
        parts.append(f"g{group}")
    return " ".join(parts)


def _per_axis(pads: Sizes) -> Sizes:
    """Pads per axis where begin and end are the same, else all begins, then all ends."""
    half = len(pads) // 2
    return pads[:half] if pads[:half] == pads[half:] else pads


def worked(layer: LayerEntry) -> list[tuple[str, str]]:
    """(what, formula) for every formula of a layer that was worked out, and who shares its weights."""
    formula = layer["formula"]
    if formula is None:
        return []
    rows = [("size", text) for text in dict.fromkeys(formula["shape"])]
    rows += [
        (word, text) for word, text in (("params", formula["params"]), ("MACs", formula["macs"])) if text
    ]
    shared = layer["params"]["shared_with"]
    return [*rows, *([("shared", f"weights with {', '.join(shared)}")] if shared else [])]


def field(entry: FieldEntry | None) -> str:
    """Receptive field: size, stride and start in input pixels, for example `36 /4 @-2`."""
    if entry is None:
        return ""
    return f"{same(entry['size'])} /{same(entry['stride'])} @{same(entry['start'])}"


def size_in_bytes(size: PlainSize | None) -> str:
    """Decimal units for a number (`553.4 MB`), the expression and `bytes` else.

    >>> size_in_bytes(999), size_in_bytes(553438379), size_in_bytes("32104*batch"), size_in_bytes(None)
    ('999 bytes', '553.4 MB', '32,104*batch bytes', 'unknown')
    """
    if size is None:
        return "unknown"
    return f"{number(size)} bytes" if isinstance(size, str) or size < 1000 else scaled(size, "B")


def scaled(size: int, unit: str) -> str:
    """Four digits at most and a decimal prefix.

    >>> scaled(15346630656, "MAC"), scaled(999999, "B")
    ('15.3 GMAC', '1.0 MB')
    """
    scale = 1
    for prefix in ("", *"kMGTPEZY"):
        if 20 * size < 19999 * scale:  # shown below 1000.0
            return f"{size / scale:.1f} {prefix}{unit}"
        scale *= 1000
    from decimal import Decimal  # beyond what a float holds

    return f"{Decimal(size):.1e} {unit}"
