import numpy as np
import onnx
import proof_kit as kit
import pytest
from nets import net
from onnx import numpy_helper

import onnxscope
from onnxscope.files.write import save
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


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_give_nan_in_both(number, tmp_path):
    """0 times NaN or infinity is NaN, so what else but them stands in a row doesn't show."""
    weight = np.random.default_rng(0).standard_normal((48, 5)).astype(np.float32)
    weight[3, 2] = number
    original, converted = str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")
    save(net(["f = Flatten(x)", "y = Gemm(f, w)"], opset=13, x="N,3,4,4", w=weight), original)
    onnxscope.convert(original, converted, verify=False)
    assert onnxscope.verify(original, converted, trials=1)

    model = onnx.load(converted)
    (kernel,) = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
    numbers = numpy_helper.to_array(kernel).copy()
    numbers[2, 0, 0, 0] = number  # one more, in the same row: no output tells
    kernel.CopyFrom(numpy_helper.from_array(numbers, kernel.name))
    onnx.save(model, converted)
    assert onnxscope.verify(original, converted, trials=1).document["reason"] == "weights"
