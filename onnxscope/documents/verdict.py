"""One line about the fully connected layers of a report."""

from __future__ import annotations

from onnxscope.documents.schema import ReportDocument


def verdict(document: ReportDocument) -> str:
    """How many fully connected layers there are, their part of the parameters, how many are replaceable."""
    found = document["fully_connected"]
    if not found:
        return "no fully connected (FC) layer"
    shares = [layer["share_of_params"] for layer in found]
    known = [share for share in shares if share is not None]
    part = f" with {percent(sum(known))} of the parameters" if known and len(known) == len(shares) else ""
    layers = "1 FC layer" if len(found) == 1 else f"{len(found)} FC layers"
    return f"{layers}{part}: {_able(sum(layer['replaceable'] for layer in found), len(found))}"


def _able(able: int, count: int) -> str:
    if count == 1:
        return "it can become a convolution" if able else "it can't become a convolution"
    if able == count:
        return "all can become convolutions"
    if able == 0:
        return "none can become a convolution"
    return f"{able} of them can become {'a convolution' if able == 1 else 'convolutions'}"


def percent(share: float) -> str:
    """A share of 0 to 1 with one decimal; what is neither 0 nor 1 never reads as 0.0 % or 100.0 %.

    >>> percent(0.8937), percent(1.0), percent(0.99999), percent(0.00001)
    ('89.4 %', '100 %', '99.9 %', '< 0.1 %')
    """
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{min(share, 0.999) if share < 1 else share:.1%}".replace("%", " %")
