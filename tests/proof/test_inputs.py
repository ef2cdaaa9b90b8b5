"""Seeded inputs: the same everywhere, within range, at the right sizes."""

import numpy as np
import onnx
import pytest

from onnxscope.analysis.shapes import infer
from onnxscope.errors import RuntimeFailure, UsageError
from onnxscope.files.read import loads
from onnxscope.proof import inputs
from onnxscope.proof.inputs import Draw, Stream, axes_of, bound, draws, feeds, ranges_of, shapes_at
from onnxscope.proof.interface import InputPair

IMAGE = InputPair("x", 1, ("N", 3, "H", None))
IDS = InputPair("ids", 7, ("N", "L"))


def test_numbers_follow_from_raw_bits_alone():
    """Worked from PCG64's documented output: 12 uniform 16-bit parts, summed and centred."""
    key = [7, 0, 0x0, 0x0]
    stream = Stream(7, "", "")  # crc32 of nothing is 0
    words = np.random.PCG64(np.random.SeedSequence(key)).random_raw(3).tolist()
    parts = [word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)]
    assert stream.normal(1)[0] == (2 * sum(parts) - 12 * 65535) / 2**17


def test_draws_have_the_moments_of_their_family():
    normal = Stream(1, "signed", "x").normal(200_000)
    assert abs(normal.mean()) < 0.01
    assert abs(normal.var() - 1) < 0.01
    assert np.abs(normal).max() <= 6
    uniform = Stream(1, "positive", "x").uniform(200_000)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01
    whole = Stream(1, "integers", "x").integers(10_000, -2, 2)
    assert set(whole.tolist()) == {-2, -1, 0, 1, 2}


def test_another_seed_family_or_name_gives_other_numbers():
    base = Stream(1, "signed", "x").normal(4).tolist()
    assert base == Stream(1, "signed", "x").normal(4).tolist()
    for other in (
        Stream(2, "signed", "x"),
        Stream(1, "tiny", "x"),
        Stream(1, "signed", "y"),
        Stream(1 << 32, "signed", "x"),
    ):
        assert other.normal(4).tolist() != base


def test_axes_by_meaning():
    axes = axes_of([IMAGE, IDS])
    assert (axes.batch, axes.spatial, axes.other) == (("N",), ("H", "x.3"), ("L",))


def test_sizes_bind_by_name_and_by_shape():
    pairs = bound([IMAGE, IDS], {"x": ("N", 3, 40, 50)}, {"L": 9})
    assert [pair.sizes for pair in pairs] == [("N", 3, 40, 50), ("N", 9)]
    assert shapes_at(pairs, {"N": 2}) == {"x": (2, 3, 40, 50), "ids": (2, 9)}


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 3, 8)])
def test_sizes_that_do_not_fit(shape):
    with pytest.raises(UsageError):
        bound([IMAGE], {"x": shape}, {})


def test_an_unknown_input_is_refused():
    with pytest.raises(UsageError, match="'y'"):
        bound([IMAGE], {"y": (1,)}, {})


def test_trials_cover_families_batches_and_sizes():
    sizes = [{"H": 32, "x.3": 32}, {"H": 64, "x.3": 96}]
    found = list(draws([IMAGE], 2, 5, sizes))
    assert [draw.family for draw in found] == [*inputs.DRAWN, *inputs.FIXED, *inputs.DRAWN]
    assert {draw.seed for draw in found} == {5, 6}
    assert {draw.shapes["x"] for draw in found} == {
        (batch, 3, *size) for batch in (1, 3) for size in ((32, 32), (64, 96))
    }


def test_families_of_one_trial():
    made = {}
    for family in (*inputs.DRAWN, *inputs.FIXED):
        draw = Draw(0, family, {"x": (1, 3, 8, 8)})
        made[family] = feeds(draw, [IMAGE], {})["x"]
        assert made[family].dtype == np.float32
        assert made[family].shape == (1, 3, 8, 8)
    assert (made["signed"] < 0).any()
    assert (made["positive"] >= 0).all()
    assert np.abs(made["large"]).max() > 1000
    assert 0 < np.abs(made["tiny"]).max() < 1e-3
    assert not made["zeros"].any()
    assert (made["constant"] == 0.5).all()


def test_models_without_floats_are_given_integers():
    found = list(draws([IDS], 3, 0, [{"L": 8}]))
    assert [draw.family for draw in found] == ["integers"] * 3
    assert [draw.shapes["ids"] for draw in found] == [(1, 8), (3, 8), (1, 8)]


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(2, 0, 255), (3, -128, 127), (9, 0, 1), (7, 0, 1)],
    ids=["uint8", "int8", "bool", "int64"],
)
def test_ranges_without_a_meaning(dtype, low, high):
    pair = InputPair("x", dtype, (4096,))
    array = feeds(Draw(0, "integers", {"x": (4096,)}), [pair], {})["x"]
    assert (array.min(), array.max()) == (low, high)


def test_strings_are_drawn_and_containers_are_not():
    words = feeds(Draw(0, "integers", {"x": (6,)}), [InputPair("x", 8, (6,))], {})["x"]
    assert words.dtype == object
    assert all(isinstance(word, str) for word in words)
    with pytest.raises(RuntimeFailure, match="sequence"):
        feeds(Draw(0, "signed", {"x": ()}), [InputPair("x", 1, (), "sequence")], {})
    with pytest.raises(RuntimeFailure, match="bfloat16"):
        feeds(Draw(0, "signed", {"x": (1,)}), [InputPair("x", 16, (1,))], {})


def test_indices_stay_within_what_they_index():
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (int64[N, L] ids, int64[N] free) => (float[N, L, 2] y, int64[N] z)
    <float[3, 2] table = {1, 2, 3, 4, 5, 6}, float[2, 2] types = {1, 2, 3, 4}> {
        wide = Cast<to = 7>(ids)
        one = Gather<axis = 0>(table, wide)
        two = Gather(types, ids)
        y = Add(one, two)
        z = Identity(free)
    }
    """
    facts = infer(loads(onnx.parser.parse_model(text).SerializeToString()))
    pairs = [InputPair("ids", 7, ("N", "L")), InputPair("free", 7, ("N",))]
    assert ranges_of(facts, pairs) == {"ids": (0, 1)}


def test_an_input_that_this_machine_does_not_hold_is_refused_by_name(monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(inputs, "_array", full)
    with pytest.raises(RuntimeFailure, match="input x of 1x3x8x8 is too large to run"):
        feeds(Draw(0, "signed", {"x": (1, 3, 8, 8)}), [InputPair("x", 1, (1, 3, 8, 8))], {})


def test_an_input_that_no_machine_holds_is_refused_by_name():
    draw = Draw(0, "signed", {"x": (1, 3, 1 << 30, 1 << 30)})
    with pytest.raises(RuntimeFailure, match="input x of 1x3x1073741824x1073741824 is too large to run"):
        feeds(draw, [InputPair("x", 1, (1, 3, 1 << 30, 1 << 30))], {})
