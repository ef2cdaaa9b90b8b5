"""Dense passes against image crops, and both models at several batch sizes: what is timed, never how fast."""

from pathlib import Path

import numpy as np
import pytest

from onnxscope import runtime
from onnxscope.api import convert
from onnxscope.errors import RuntimeFailure
from onnxscope.proof import latency, speed, timing
from onnxscope.proof.inputs import Draw
from onnxscope.proof.larger import Larger
from onnxscope.proof.result import Request, Timing
from onnxscope.proof.setting import Pair, opened
from onnxscope.proof.verify import verify
from onnxscope.proof.worker import Worker

LENET = str(Path(__file__).parents[2] / "models" / "lenet5.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """LeNet-5 converted, once with its batch of 1 and once for any batch, and the original for any batch."""
    import onnx

    home = tmp_path_factory.mktemp("speed")
    proto = onnx.load(LENET)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del proto.graph.value_info[:]
    onnx.save(proto, home / "any.onnx")
    convert(LENET, str(home / "one-map.onnx"), verify=False)
    for form in ("conv", "fold", "rows"):
        convert(str(home / "any.onnx"), str(home / f"any-{form}.onnx"), verify=False, form=form)
    return home


@pytest.fixture
def paired(folder, tmp_path):
    """A pair of files whose timings are what the test says, and the jobs that were timed."""
    opened_workers = []

    def made(original, candidate, *answers, provider="cpu", **options):
        worker = Timed(answers)
        request = Request(str(original), str(folder / candidate), **options)
        given = runtime.parse(provider)
        setting = opened(request, str(tmp_path))
        opened_workers.append(worker)
        return Pair(setting, Runs(worker, given), Runs(worker, given)), worker

    return made


class Runs:
    """A runner that only has a worker and a provider."""

    def __init__(self, worker, provider):
        self.worker, self.provider = worker, provider


class Timed:
    """A worker that answers with times of the test's."""

    alive = True

    def __init__(self, answers):
        self.answers, self.jobs = list(answers), []

    def call(self, method, jobs, runs, warm, seconds, provider):
        assert (method, provider) == ("timed", jobs[1][2].name)
        self.jobs.append(jobs)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def one_image(batch=1):
    return Draw(0, "signed", {"input": (batch, 1, 32, 32)})


def test_a_free_batch_is_timed_at_one_and_eight(paired, folder):
    times = [[2.0, 1.0, 3.0], [1.0, 1.0, 1.0]], [[4.0, 5.0, 6.0], [20.0, 21.0, 22.0]]
    pair, worker = paired(folder / "any.onnx", "any-conv.onnx", *times)
    found = latency.measure(pair, one_image(3), [])
    assert [row.batch for row in found.batches] == [1, 8]
    assert (found.original_ms, found.candidate_ms, found.ratio) == (2.0, 1.0, 0.5)
    # quartiles by hand: 4, 5, 6 has 4.5 and 5.5
    assert found.batches[1].original == Timing(5.0, 4.5, 5.5)
    assert found.batches[1].ratio == pytest.approx(21 / 5)
    for (first, second), size in zip(worker.jobs, (1, 8), strict=True):
        assert [job[1][0]["input"].shape for job in (first, second)] == [(size, 1, 32, 32)] * 2
        assert np.array_equal(first[1][0]["input"], second[1][0]["input"])


@pytest.mark.parametrize(
    ("candidate", "words"),
    [("any-conv.onnx", "--form auto"), ("any-fold.onnx", None), ("any-rows.onnx", None)],
)
def test_a_plain_head_that_is_slower_in_batches_is_told_why(paired, folder, candidate, words):
    slow = [[1.0, 1.1, 1.2], [4.0, 4.1, 4.2]]
    pair, _ = paired(folder / "any.onnx", candidate, [[1.0] * 3, [0.9] * 3], slow)
    one, eight = latency.measure(pair, one_image(), []).batches
    assert one.reason is None
    assert (words is None) == (eight.reason is None)
    assert words is None or words in eight.reason


@pytest.mark.parametrize("form", ["fold", "rows"])
def test_a_head_that_moves_maps_is_told_so_at_batch_one(paired, folder, form):
    slow = [[1.0, 1.1, 1.2], [4.0, 4.1, 4.2]]
    pair, _ = paired(folder / "any.onnx", f"any-{form}.onnx", slow, slow)
    assert "--form conv" in latency.measure(pair, one_image(), []).batches[0].reason


def test_times_that_overlap_are_no_slower(paired):
    pair, _ = paired(LENET, "one-map.onnx", [[1.0, 2.0, 9.0, 9.5], [5.0, 6.0, 7.0, 8.0]])
    (row,) = latency.measure(pair, one_image(), []).batches
    assert (row.batch, row.reason) == (1, None)


def test_a_batch_that_fails_is_a_note_unless_it_is_the_first(paired, folder):
    broken = RuntimeFailure("no kernel")
    pair, _ = paired(folder / "any.onnx", "any-conv.onnx", [[1.0] * 3, [1.0] * 3], broken)
    notes = []
    assert len(latency.measure(pair, one_image(), notes).batches) == 1
    assert notes == ["latency at batch 8 not measured: no kernel"]
    pair, _ = paired(folder / "any.onnx", "any-conv.onnx", broken)
    with pytest.raises(RuntimeFailure):
        latency.measure(pair, one_image(), [])


@pytest.mark.parametrize(("original", "sizes"), [("any.onnx", [8, 8, 8, 6]), (LENET, [1] * 30)])
def test_every_crop_is_run_and_mac_counts_predict(paired, folder, original, sizes):
    times = [[30.0, 33.0, 36.0], [10.0, 11.0, 12.0]]
    candidate = "any-conv.onnx" if original == "any.onnx" else "one-map.onnx"
    pair, worker = paired(folder / original, candidate, times)
    grown = Larger("input", (2, 3), Draw(0, "signed", {"input": (1, 1, 48, 52)}))
    image = np.arange(48 * 52, dtype=np.float32).reshape(1, 1, 48, 52)
    batch = None if original == "any.onnx" else 1
    found = speed.measured(pair, grown, {"input": image}, one_image(), (5, 6), (4, 4), batch=batch)
    first, second = worker.jobs[0]
    crops = [feeds["input"] for feeds in first[1]]
    assert [len(crop) for crop in crops] == sizes
    # cell (i, j) sees the 32x32 crop that begins at pixel (4 i, 4 j)
    expected = [image[0, 0, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32] for i in range(5) for j in range(6)]
    assert np.array_equal(np.concatenate(crops)[:, 0], np.stack(expected))
    assert [feeds["input"].shape for feeds in second[1]] == [(1, 1, 48, 52)]
    assert (found.crops, found.timed, found.measured) == (30, 30, 3.0)
    # LeNet-5 by hand: 5x5 convolutions to 6 and 16 channels, three layers; 3x3 more where the map is 5x6
    native = 28 * 28 * 25 * 6 + 10 * 10 * 150 * 16 + 400 * 120 + 120 * 84 + 84 * 10
    whole = 44 * 48 * 25 * 6 + 18 * 20 * 150 * 16 + 30 * (400 * 120 + 120 * 84 + 84 * 10)
    # 44x48 after the first convolution, 22x24 pooled, 18x20 after the second, 9x10 pooled, 5x6 cells
    assert found.predicted == pytest.approx(30 * native / whole)


def test_many_crops_are_timed_in_part_and_scaled(paired):
    pair, worker = paired(LENET, "one-map.onnx", [[32.0, 32.0, 32.0], [8.0, 8.0, 8.0]])
    grown = Larger("input", (2, 3), Draw(0, "signed", {"input": (1, 1, 60, 60)}))
    image = {"input": np.zeros((1, 1, 60, 60), np.float32)}
    found = speed.measured(pair, grown, image, one_image(), (8, 8), (4, 4), batch=1)
    assert (found.crops, found.timed, len(worker.jobs[0][0][1])) == (64, 32, 32)
    assert (found.on_crops.median_ms, found.measured) == (64.0, 8.0)


def test_jobs_take_turns_and_end_when_time_is_over():
    image = {"input": np.zeros((1, 1, 32, 32), np.float32)}
    job = (LENET, [image, image], runtime.parse("cpu"))
    with Worker(60) as worker:
        assert [len(times) for times in worker.call("timed", (job, job), 5, 1, 60.0)] == [5, 5]
        assert [len(times) for times in worker.call("timed", (job, job), 50, 1, 0.0)] == [3, 3]


def test_a_verification_times_what_it_is_asked_for(folder):
    request = Request(LENET, str(folder / "one-map.onnx"), trials=1, dense=((60, 52),), latency=True)
    found = verify(request).runs[0]
    pace = found.dense[0].speed
    assert (pace.crops, pace.timed) == (48, 32)
    assert pace.measured == pytest.approx(pace.on_crops.median_ms / pace.dense.median_ms)
    assert 0 < pace.runs <= timing.RUNS
    assert [row.batch for row in found.latency.batches] == [1]
    assert found.latency.ratio == pytest.approx(found.latency.candidate_ms / found.latency.original_ms)


def test_nothing_is_timed_unasked(folder):
    found = verify(Request(LENET, str(folder / "one-map.onnx"), trials=1)).runs[0]
    assert found.latency is None
    assert [row.speed for row in found.dense] == [None]
