"""Rules about stored numbers: cases that need large or special tensors.

Each row plants numbers in the weight of one fully connected layer [64, 64].
"""

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscope.checks import alike
from onnxscope.checks.registry import find
from onnxscope.checks.runner import Context, run_rule
from onnxscope.files.read import loads

SHAPE = (64, 64)


def sound():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def model_of(*weights):
    """x [1, 64] times one weight after the other."""
    names = [f"w{i}" for i in range(len(weights))]
    ends = ["x", *(f"v{i}" for i in range(len(weights) - 1)), "y"]
    nodes = [helper.make_node("MatMul", [ends[i], names[i]], [ends[i + 1]]) for i in range(len(names))]
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 64])],
        [helper.make_tensor_value_info("y", kind, [1, 64])],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, names, strict=True)],
    )
    return loads(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


def found(code, *weights):
    return run_rule(find(code), Context(model_of(*weights)))


def planted(number, share):
    weight = sound().reshape(-1)
    weight[: int(share * weight.size)] = number
    return weight.reshape(SHAPE)


ROWS = [
    # code, a weight that breaks the rule, one at the edge that doesn't
    ("OX301", planted(np.nan, 1 / 4096), planted(np.inf, 1 / 4096)),
    ("OX302", planted(np.inf, 1 / 4096), planted(3e38, 1 / 4096)),
    ("OX303", planted(1e-40, 0.01), planted(1e-37, 0.01)),
    ("OX304", planted(65520, 1 / 4096), planted(65504, 1 / 4096)),
    ("OX305", planted(1e-9, 0.02), planted(1e-7, 0.02)),
    ("OX309", planted(-2e6, 1 / 4096), planted(-9e5, 1 / 4096)),
    ("OX313", planted(1000.0, 1 / 4096), sound()),
    ("OX316", planted(0.0, 0.6), planted(0.0, 0.4)),
]


@pytest.mark.parametrize(("code", "bad", "good"), ROWS, ids=[row[0] for row in ROWS])
def test_planted_numbers(code, bad, good):
    assert [(f.code, f.where) for f in found(code, bad)] == [(code, "w0")]
    assert found(code, good) == []


def test_nan_names_its_place():
    weight = sound()
    weight[1, 3] = np.nan
    (finding,) = found("OX301", weight)
    assert finding.data == {"nan": 1, "count": 4096}
    assert "flat index 67" in finding.message


def test_duplicate_tensors_count_wasted_bytes():
    weight, other = sound(), sound() + 1
    (finding,) = found("OX311", weight, other, weight, weight)
    assert finding.data == {"copies": 3, "wasted_bytes": 2 * 64 * 64 * 4}
    assert found("OX311", weight, other) == []


def test_infinite_masks_are_no_weights():
    """OX302: an infinite constant that is added is a mask."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "mask"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.array([0, -np.inf], np.float32), "mask")],
    )
    model = loads(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    assert run_rule(find("OX302"), Context(model)) == []


def test_two_of_four_pattern():
    """OX316 tells whether the zeros fit sparse tensor cores."""
    weight = sound()
    weight[:, ::2] = 0
    weight[0, 1] = 0  # more than half
    (finding,) = found("OX316", weight)
    assert finding.data["two_of_four"] is True
    (finding,) = found("OX316", planted(0.0, 0.6))
    assert finding.data["two_of_four"] is False


# One weight and another, and how often they count as one; 2**-8 of a number is the bound, plus 2**-24.
BASE = sound()
NEAR = {
    "through bfloat16": (BASE.astype(ml_dtypes.bfloat16).astype(np.float32), 2),
    "through float16": (BASE.astype(np.float16).astype(np.float32), 2),
    "a column within the bound": (np.where(np.arange(64) == 3, BASE * 1.0039, BASE).astype(np.float32), 2),
    "one number beyond it": (np.where(np.eye(64) * (np.arange(64) == 3), BASE * 1.004, BASE), 0),
    "the same bytes": (BASE, 0),
    "another sign": (-BASE, 0),
    "other weights": (np.random.default_rng(1).normal(size=SHAPE), 0),
}


@pytest.mark.parametrize("name", NEAR)
def test_near_duplicates(name):
    """OX318: every number near its fellow; equal bytes are OX311's."""
    other, copies = NEAR[name]
    findings = found("OX318", BASE, other.astype(np.float32))
    assert [finding.data["copies"] for finding in findings] == ([copies] if copies else [])
    for finding in findings:
        assert finding.where == "w0" or "w0" in finding.message
        assert finding.data["largest_difference"] == float(abs(BASE.astype(float) - other).max())


def test_near_duplicates_of_many():
    """Copies are found among fifty tensors of their shape, as one finding; constants are no copies."""
    generator = np.random.default_rng(2)
    many = [generator.normal(size=SHAPE).astype(np.float32) for _ in range(50)]
    copies = [many[7] * np.float32(1.001), many[7] * np.float32(0.999)]
    ones = [np.ones(SHAPE, np.float32), np.full(SHAPE, 1.001, np.float32), np.zeros(SHAPE, np.float32)]
    (finding,) = found("OX318", *many, *copies, *ones)
    assert finding.data["copies"] == 3
    assert {name for name in ("w7", "w50", "w51") if name in f"{finding.where} {finding.message}"} == {
        "w7", "w50", "w51"
    }  # fmt: skip


def test_what_near_duplicates_look_at_is_let_go(monkeypatch):
    """Else a file of 1.9 GB holds 700 MB: around each number of a sample the system maps megabytes."""
    kept = {}

    class Watched(alike.Pages):
        def __init__(self, data):
            super().__init__(data)
            self.end = len(data)
            kept[id(self)] = (self, [])

        def release(self, start, end):
            kept[id(self)][1].append((start, end))

    monkeypatch.setattr(alike, "Pages", Watched)
    weights = [sound(), sound() + np.float32(1e-6), 3 * sound()]
    assert len(found("OX318", *weights)) == 1
    assert len(kept) >= 5  # three samples, and the pair that is compared throughout
    for pages, released in kept.values():
        assert released[0][0] == 0
        assert released[-1][1] >= pages.end
