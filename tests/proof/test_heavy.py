"""Models with large weights: every check still made, with one run of each model per input."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from proof_kit import converted_map, small_classifier

import onnxscope
from onnxscope.proof import jitter, jitter_runs, noise, setting, trials
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify
from onnxscope.proof.worker import Worker


@pytest.fixture
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small classifier that passes for a large one."""
    monkeypatch.setattr(setting, "HEAVY", 0)
    return small_classifier(tmp_path, "y = Softmax(g)", 13)


@pytest.fixture
def converted(original: Path) -> Path:
    """Its conversion to a map."""
    return converted_map(original)


def changed(path: Path, weight: str) -> Path:
    """The model with one number of a weight moved by 1e-3."""
    model = onnx.load(path)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == weight]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[3] += 1e-3
    tensor.CopyFrom(numpy_helper.from_array(array, weight))
    onnx.save(model, path.with_name("changed.onnx"))
    return path.with_name("changed.onnx")


def test_limits_come_from_the_head_where_the_maps_agree_in_every_bit(original: Path, converted: Path) -> None:
    found = verify(Request(str(original), str(converted), trials=1))
    assert found.equivalent
    (output,) = found.runs[0].outputs
    assert "only behind r, where both models still have the same bits" in output.limit_from
    assert {row.name for row in found.runs[0].layers} >= {"g", "g (zeros)", "g (impulses)", "y"}


def test_jittered_runs_read_large_weights_once(
    original: Path, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them in one run, with the limits that one after the other gives, up to rounding of the runs."""
    monkeypatch.setattr(noise, "LARGE", 1)
    limits = []
    for at_once in (True, False):
        monkeypatch.setattr(jitter_runs, "STACKED_BYTES", 1 << 20 if at_once else 0)
        said: list[str] = []
        found = verify(Request(str(original), str(converted), trials=2), said.append)
        assert found.equivalent
        assert len([word for word in said if word.startswith("jittered")]) == (1 if at_once else jitter.RUNS)
        limits.append(found.runs[0].outputs[0].limit)
    assert limits[0] == pytest.approx(limits[1], rel=0.3)


def test_a_changed_backbone_is_caught_by_the_limits_of_the_whole_file(
    original: Path, converted: Path
) -> None:
    found = verify(Request(str(original), str(changed(converted, "k")), trials=1))
    assert not found.equivalent
    (output,) = found.runs[0].outputs
    assert "only behind" not in output.limit_from
    assert not output.ok


def test_a_changed_head_is_caught(original: Path, converted: Path) -> None:
    found = verify(Request(str(original), str(changed(converted, "b")), trials=1))
    assert (found.equivalent, found.runs[0].first_divergence) == (False, "g (zeros)")


@pytest.mark.parametrize("layers", [False, True])
def test_every_file_runs_once_per_input(
    original: Path, converted: Path, monkeypatch: pytest.MonkeyPatch, layers: bool
) -> None:
    asked: list[object] = []
    call = Worker.call

    def counting(self: Worker, method: str, *arguments: object, provider: str = "") -> object:
        asked.append(arguments[0] if method in ("run", "profile") else method)
        return call(self, method, *arguments, provider=provider)

    monkeypatch.setattr(Worker, "call", counting)
    monkeypatch.setattr(trials, "planned", lambda pair: _first(pair))
    assert verify(Request(str(original), str(converted), trials=1, layers=layers)).equivalent
    for path in (original, converted):
        assert asked.count(str(path)) == 2  # the run, and where its nodes ran


_planned = trials.planned


def _first(pair: setting.Pair) -> list[trials.Draw]:
    return _planned(pair)[:1]


def test_every_value_is_compared_and_a_changed_backbone_named(original: Path, converted: Path) -> None:
    right = verify(Request(str(original), str(converted), trials=1, layers=True))
    assert right.equivalent
    assert {"c", "r"} <= {row.name for row in right.runs[0].layers}
    wrong = verify(Request(str(original), str(changed(converted, "k")), trials=1, layers=True))
    assert wrong.runs[0].first_divergence == "c"


@pytest.mark.parametrize("draws", ["one", "several"])
@pytest.mark.parametrize("output", ["map", "vector"])
def test_layers_of_a_conversion_of_many_heads_are_compared(
    original: Path, monkeypatch: pytest.MonkeyPatch, draws: str, output: str
) -> None:
    """Of more than HEADS heads the trials don't hand out the maps: only marks, which no check may read."""
    monkeypatch.setattr(trials, "HEADS", 0)
    candidate = original.with_name("vector.onnx")
    onnxscope.convert(original, candidate, output=output)
    if draws == "one":
        monkeypatch.setattr(trials, "planned", _first)
    found = verify(Request(str(original), str(candidate), trials=1, layers=True))
    assert found.equivalent
    assert {"c", "r"} <= {row.name for row in found.runs[0].layers}


@pytest.mark.parametrize("seed", range(4))
def test_limits_of_values_come_from_the_trial_that_is_compared(
    original: Path, converted: Path, seed: int
) -> None:
    """Jittered runs of the first trial say nothing of another one, in which an output fails most."""
    wrong = changed(converted, "b")
    found = verify(Request(str(original), str(wrong), trials=2, layers=True, seed=seed))
    assert [row.ok for row in found.runs[0].layers if row.name == "g"] == [False, False]  # in float64, value


def test_values_that_no_jittered_run_has_get_runs_of_their_own(
    original: Path, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in front of a head stay in the worker, so the runs for the outputs were not asked for them."""
    monkeypatch.setattr(trials, "planned", _first)
    wrong = changed(converted, "k")
    found = verify(Request(str(original), str(wrong), trials=1, layers=True))
    assert (found.runs[0].first_divergence, found.reason) == ("c", "weights")
