"""Forms: how one planned convolution is written. The plan is the same for all; only the lowering differs.

A form is a function `(lift, layer) -> name of the result`, registered in `FORMS`. It gets the layer with its
weight already moved to [M, C, *K] and adds the nodes; the result it names must be [N, M, *S'].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from onnxscope.rewrite.lift import Lift


@dataclass(frozen=True, slots=True)
class Planned:
    """A convolution to be written."""

    place: int
    """Index of the original node."""
    source: str
    """Provisional name of the map [N, C, *S]."""
    weight: str
    """Provisional name of the weight [M, C, *K]."""
    bias: str
    """Provisional name of the bias [M]; "" for none."""
    kernel: tuple[int, ...]
    channels: int
    features: int
    like: str
    """Original value whose twin the result is."""


Form: TypeAlias = "Callable[[Lift, Planned], str]"


def conv(lift: Lift, planned: Planned) -> str:
    """One Conv: x [N, C, *S], W [M, C, *K], B [M] -> [N, M, *(S - K + 1)]; no padding, stride 1."""
    inputs = (planned.source, planned.weight, *([planned.bias] if planned.bias else []))
    return lift.builder.emit(planned.place, "Conv", inputs, kernel_shape=planned.kernel, like=planned.like)


FORMS: dict[str, Form] = {"conv": conv}
