"""The seam between the checks, which are numpy on arrays, and whatever runs a model for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import os

    import numpy as np

    from onnxscope.proof.skeleton import Skeleton

Runnable: TypeAlias = "bytes | str | os.PathLike[str] | Skeleton"
"""A model for a runner: whole bytes, a path, or bytes whose weights lie in files of a folder."""
Optimization = Literal["none", "steps", "basic", "extended", "all"]
"""onnxruntime's graph optimisation level; `none` also turns weight prepacking off, for exact checks.

`steps`: as `none`, with exact sums of integers on every CPU (`saturation`)."""


class Runner(Protocol):
    """Runs a model on one provider; the worker process implements it.

    `model` is a file path, a skeleton, or the bytes of a model whose external weights (if any) lie in the
    folder that the runner was started for. `outputs` may name any value of the main graph, intermediate ones
    too; None means the declared outputs. Sessions are kept by (model, outputs, optimization): asking again
    costs one run. Raises RuntimeFailure where the runtime can't do it.
    """

    def run(
        self,
        model: Runnable,
        feeds: dict[str, np.ndarray[Any, Any]],
        outputs: Sequence[str] | None = None,
        *,
        optimization: Optimization = "all",
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Values by name. A sequence, map or optional comes back as its nested Python value."""
        ...
