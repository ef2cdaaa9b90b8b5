"""Property test: random nets, converted, equal the original on its native size and on every crop.

The seeds are fixed, so a failure names the net: `python -c "from random_heads import build; ..."`. More:
ONNXSCOPE_RANDOM_HEADS=5000 pytest tests/rewrite/test_random_heads.py
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from random_heads import Case, build

import onnxscope
from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options

CASES = int(os.environ.get("ONNXSCOPE_RANDOM_HEADS", "520"))
GROUPS = 20
CROPS = 3


def session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def close(expected: np.ndarray, found: np.ndarray) -> bool:
    expected, found = expected.reshape(-1), found.reshape(-1)
    if expected.dtype.kind != "f":
        return bool((expected == found).all())
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    return expected.shape == found.shape and bool(np.allclose(expected, found, rtol=0, atol=2e-5 * scale))


def converted(case: Case, options: Options) -> bytes:
    made = plan(loads(case.model.SerializeToString()), options)
    assert made.refusals == ()
    assert len(made.conversions) == case.layers
    data = dumps(convert(made))
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    if options.output == "map":
        assert plan(loads(data), options).conversions == ()
    return data


def check(seed: int) -> None:
    case = build(seed)
    rng = np.random.default_rng([seed, 1])
    original = session(case.model.SerializeToString())
    mapped = session(converted(case, Options()))
    batch = case.batch or int(rng.integers(1, 4))
    x = rng.standard_normal((batch, case.channels, *case.native)).astype(np.float32)
    for expected, found in zip(original.run(None, {"x": x}), mapped.run(None, {"x": x}), strict=True):
        assert close(expected, found), "native size"
    vector = session(converted(case, Options(output="vector")))
    for expected, found in zip(original.run(None, {"x": x}), vector.run(None, {"x": x}), strict=True):
        assert expected.shape == found.shape
        assert close(expected, found), "vector"
    check_crops(case, original, mapped, batch, rng)


def check_crops(case: Case, original, mapped, batch: int, rng: np.random.Generator) -> None:  # type: ignore[no-untyped-def]
    more = [int(rng.integers(0, 4)) for _ in case.native]
    size = [n + m * s for n, m, s in zip(case.native, more, case.stride, strict=True)]
    image = rng.standard_normal((batch, case.channels, *size)).astype(np.float32)
    maps = mapped.run(None, {"x": image})
    cells = list(itertools.product(*(range(m + 1) for m in more)))
    assert all(m.shape[2:] == tuple(n + 1 for n in more) for m in maps)
    for place in rng.permutation(len(cells))[:CROPS]:
        cell = cells[place]
        cut = tuple(slice(c * s, c * s + n) for c, s, n in zip(cell, case.stride, case.native, strict=True))
        crop = np.ascontiguousarray(image[(slice(None), slice(None), *cut)])
        for expected, found in zip(original.run(None, {"x": crop}), maps, strict=True):
            assert close(expected, found[(slice(None), slice(None), *cell)]), f"cell {cell} of {more}"


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_converted_net_is_the_original_at_every_place(group: int) -> None:
    for seed in range(group, CASES, GROUPS):
        try:
            check(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {build(seed).trail}: {error}") from error


PROOFS = {
    (91000, "conv"): "one number for all features, through an Identity",
    (91002, "rows"): "alpha times a weight that all but cancels C",
    (91003, "conv"): "beta times a C that nodes compute",
    (91004, "conv"): "C times 0",
    (91006, "conv"): "a window with axes of size 1, three-dimensional",
    (91007, "conv"): "alpha times a weight that keeps its name",
    (91010, "conv"): "a window with an axis of size 1, channels last",
    (91015, "conv"): "a bias behind a product that has a beta of its own",
}
"""Nets whose right conversion a proof once refused, or broke on."""


@pytest.mark.parametrize(("seed", "form"), PROOFS, ids=PROOFS.values())
def test_the_proof_of_a_right_conversion_holds(seed: int, form: str, tmp_path: Path) -> None:
    original, candidate = str(tmp_path / "net.onnx"), str(tmp_path / "map.onnx")
    onnx.save_model(build(seed).model, original)
    proof = onnxscope.convert(original, candidate, form=form).proof
    assert proof is not None
    assert proof.equivalent
