"""Right conversions pass, every wrong one fails at the right place."""

import proof_kit as kit
import pytest

from onnxscope.analysis.shapes import infer
from onnxscope.files.write import dumps
from onnxscope.proof import exact, links, local

HEADS = {spec.name: spec for spec in kit.heads()}
SABOTAGE_FAMILIES = ("signed", "positive", "tiny", "zeros")


@pytest.fixture(scope="module")
def runner():
    return kit.Runner()


def checked(spec, candidate, runner, families, count, seed=0):
    """The local check of a candidate over all families, one trial each."""
    original = kit.original(spec)
    steps = local.plan(infer(original), candidate, links.read(candidate))
    blob = dumps(candidate)
    fetched = [name for name in local.names(steps) if name != "map"]
    trials = []
    for family in families:
        given = kit.inputs(spec, family, count, seed)
        trials.append({"map": given, **runner.run(blob, {"map": given}, fetched)})
    return local.check(original, steps, trials, runner)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("batch", [1, 20])
def test_right_conversions_pass_the_local_check(name, batch, runner):
    spec = HEADS[name]
    seeds = range(20) if batch == 1 else range(1)
    for seed in seeds:
        found = checked(spec, kit.candidate(spec), runner, kit.FAMILIES, batch, seed)
        assert found.ok, (seed, found.first_divergence, found.comparison)
        assert [layer.name for layer in found.layers] == [f"t{place}" for place in range(len(spec.layers))]
        assert found.notes == ()


@pytest.mark.parametrize("name", HEADS)
def test_every_sabotage_fails_at_its_layer(name, runner):
    spec = HEADS[name]
    seen = []
    for label, wrong, place in kit.sabotages(spec):
        found = checked(spec, wrong, runner, SABOTAGE_FAMILIES, 5)
        if place is not None:
            assert found.first_divergence == place, (label, found.comparison)
            seen.append(label)
    assert len(seen) >= 8


@pytest.mark.parametrize("name", ["lenet5", "onet", "keras", "audio", "video"])
@pytest.mark.parametrize(
    "label", ["rows permuted", "bias off by 1e-3", "height and width swapped", "channels first for last"]
)
def test_exact_checks_see_layout_and_bias(name, label, runner, tmp_path):
    spec = HEADS[name]
    wrong = {kind: model for kind, model, _ in kit.sabotages(spec)}.get(label)
    if wrong is None:
        assert spec.spatial != 2
        return
    found = exact.check(kit.original(spec), wrong, links.read(wrong), runner, folder=str(tmp_path))
    assert not found[0].ok
    assert all(layer.ok for layer in found[1:])
    assert (found[0].wrong is None) == (label == "bias off by 1e-3" and found[0].impulses.ok)


def test_the_smallest_weight_escapes_the_numbers(runner):
    spec = HEADS["onet"]
    wrong = {label: model for label, model, _ in kit.sabotages(spec)}["smallest weight zeroed"]
    assert checked(
        spec, wrong, runner, SABOTAGE_FAMILIES, 5
    ).ok  # so the bits of weights are compared as well
