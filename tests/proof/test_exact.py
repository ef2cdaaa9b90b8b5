import proof_kit as kit
import pytest

from onnxscope.proof import exact, links


@pytest.mark.parametrize("spec", kit.heads(), ids=lambda spec: spec.name)
def test_zeros_and_impulses_are_bit_for_bit(spec, tmp_path):
    candidate = kit.candidate(spec)
    found = exact.check(
        kit.original(spec), candidate, links.read(candidate), kit.Runner(), folder=str(tmp_path)
    )
    assert len(found) == sum(layer[0] == "fc" for layer in spec.layers)
    folded = "alpha" in spec.options
    for layer in found:
        assert layer.ok
        assert folded or (layer.zeros.max_abs, layer.impulses.max_abs) == (0.0, 0.0)
        assert ("bit for bit" in layer.limit_from) != folded


def test_positions_name_the_corners_first():
    found = exact.positions((8, 3, 5), 40, 0)
    assert found[:5] == [(0, 0, 0), (0, 2, 0), (0, 0, 4), (0, 2, 4), (0, 0, 1)]
    assert (7, 2, 4) in found
    assert len(found) == len(set(found)) == 40


def test_positions_of_a_small_map_are_all_there_is():
    assert sorted(exact.positions((2, 1, 1), 40, 0)) == [(0, 0, 0), (1, 0, 0)]


def test_the_first_wrong_place_is_named(tmp_path):
    spec = kit.head("small", 4, (3, 3), "CHW", (6,))
    weight = spec.layers[0][1].copy()
    weight[2, 8] += 1e-6  # channel 0, last cell: a change of a few bits
    wrong = kit.candidate(kit.changed(spec, 0, weight, spec.layers[0][2]))
    (found,) = exact.check(kit.original(spec), wrong, links.read(wrong), kit.Runner(), folder=str(tmp_path))
    assert not found.ok
    assert found.wrong == (0, 2, 2)
    assert found.zeros.ok


class Counted(kit.Runner):
    """A runner that counts its runs."""

    runs = 0

    def run(self, *arguments, **options):
        self.runs += 1
        return super().run(*arguments, **options)


@pytest.mark.parametrize("spec", kit.heads(), ids=lambda spec: spec.name)
def test_one_run_with_every_impulse_side_by_side_says_the_same(spec, tmp_path, monkeypatch):
    candidate = kit.candidate(spec)
    given = kit.original(spec), candidate, links.read(candidate)
    once, often = Counted(), Counted()
    found = exact.check(*given, once, folder=str(tmp_path))
    monkeypatch.setattr(exact, "_alone", lambda *_: False)
    assert found == exact.check(*given, often, folder=str(tmp_path))
    assert once.runs < often.runs / 30  # 40 impulses and zeros
