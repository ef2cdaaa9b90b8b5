"""Ops that draw random numbers: their shapes are certain, their contents never constant.

Source: ONNX Operators.md, RandomNormal-1, -22, Bernoulli-15, -22, Multinomial-7, -22.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, one


@op("RandomNormal", "RandomUniform", deterministic=False)
def random(n: View, *, shape: tuple[int, ...] = (), dtype: int = dtypes.FLOAT) -> Inferred:
    """Y has the shape and type of the attributes (float32 where none is given). Source: RandomNormal-1."""
    return one(shape, dtype)


@op("RandomNormalLike", "RandomUniformLike", deterministic=False)
@op("Bernoulli", since=15, deterministic=False)
def random_like(n: View, *, dtype: int = 0) -> Inferred:
    """Y has the shape of X, and its type where `dtype` gives none. Source: RandomNormalLike-1."""
    return one(n.shape(0), dtype or n.dtype(0))


@op("Multinomial", since=7, deterministic=False)
def multinomial(n: View, *, sample_size: int = 1, dtype: int = dtypes.INT32) -> Inferred:
    """Y [N, sample_size] for X [N, classes]. Source: Multinomial-7."""
    return one((n.shape(0, rank=2)[0], sample_size), dtype)
