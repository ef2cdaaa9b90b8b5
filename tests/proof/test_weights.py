"""Weights by their bits: identical, permuted, changed."""

from dataclasses import replace

import numpy as np
import onnx
import proof_kit as kit
import pytest
from nets import net
from onnx import numpy_helper

import onnxscope
from onnxscope.files.read import load, loads
from onnxscope.files.write import dumps, save
from onnxscope.proof import links, weights
from onnxscope.proof.result import WeightCounts

HEADS = {spec.name: spec for spec in kit.heads()}


@pytest.fixture(scope="module")
def runner():
    return kit.Runner()


def model(tmp_path=None, **arrays):
    """y = x + every array, each an initializer."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Identity(x) }'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    if tmp_path is None:
        return loads(proto.SerializeToString())
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    return load(path)


def counts(before, after, runner, heads=()):
    return weights.compare(before, after, heads, runner).counts


def test_identical_permuted_and_changed(runner):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((40, 30)).astype(np.float32)
    before = model(a=a, b=a + 1, c=a + 2, shape=np.array([1, 2]))
    swapped = (a + 1).copy()
    swapped.flat[[0, 1]] = swapped.flat[[1, 0]]
    zeroed = (a + 2).copy()
    zeroed.flat[5] = 0
    after = model(a=a.reshape(40, 30, 1, 1), b=swapped, c=zeroed, shape=np.array([9]))
    found = weights.compare(before, after, (), runner)
    assert found.counts == WeightCounts(1, 1, 1)
    assert found.changed == ("c",)
    assert found.ok  # these are no conversion of one another: information only


def test_renamed_tensors_are_found_by_their_numbers(runner):
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert counts(model(a=a, b=a + 9), model(z=a.T.copy(), y=a + 9), runner) == WeightCounts(1, 1, 0)


def test_the_sign_of_zero_and_the_type_are_bits_too(runner):
    a = np.array([0.0, 1.0], np.float32)
    assert counts(model(a=a), model(a=np.array([-0.0, 1.0], np.float32)), runner) == WeightCounts(0, 0, 1)
    assert counts(model(a=a), model(a=a.astype(np.float16)), runner) == WeightCounts(0, 0, 1)


def test_external_data(tmp_path, runner):
    a = np.arange(1 << 19, dtype=np.float32)
    assert counts(model(tmp_path, a=a), model(a=a), runner) == WeightCounts(1, 0, 0)
    assert counts(model(tmp_path, a=a), model(a=a[::-1].copy()), runner) == WeightCounts(0, 1, 0)


def _declared_as_permuted(head):
    moved = [replace(layer, weight=replace(layer.weight, how="permuted")) for layer in head.layers]
    return replace(head, layers=tuple(moved))


def test_an_order_that_should_have_stayed(runner):
    before, after = kit.original(HEADS["lenet5"]), kit.candidate(HEADS["lenet5"])
    (head,) = links.read(after)
    name = head.layers[0].weight.candidate
    turned = loads(_reversed(after, name))
    assert weights.compare(before, turned, (head,), runner).changed == (head.layers[0].weight.original,)
    declared = (_declared_as_permuted(head),)  # which may not be any order either
    assert weights.compare(before, turned, declared, runner).changed == (head.layers[0].weight.original,)


def _reversed(model, name):
    proto = onnx.load_from_string(dumps(model))
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(array[::-1].copy(), name))
    return proto.SerializeToString()


@pytest.mark.parametrize("name", HEADS)
def test_right_conversions_change_no_bit(name, runner):
    before, after = kit.original(HEADS[name]), kit.candidate(HEADS[name])
    heads = links.read(after)
    if HEADS[name].order != "CHW" or "stored" in HEADS[name].options or "matmul" in HEADS[name].options:
        heads = tuple(_declared_as_permuted(head) for head in heads)
    found = weights.compare(before, after, heads, runner)
    assert found.changed == ()
    assert found.binding
    assert found.ok


def test_weights_of_a_conversion_decide(runner):
    spec = HEADS["lenet5"]
    before = kit.original(spec)
    wrong = {label: candidate for label, candidate, _ in kit.sabotages(spec)}
    label = next(label for label in wrong if "smallest" in label or "zero" in label)
    after = wrong[label]
    found = weights.compare(before, after, links.read(after), runner)
    assert found.changed
    assert not found.ok
    stripped = replace(after, metadata=())
    assert not weights.compare(before, stripped, (), runner).ok  # by structure, without the entry


def test_a_quantized_weight_in_a_file_of_its_own_is_computed_from_there(tmp_path):
    """Sums of such a head are rounded another way in a convolution: no integers run in it."""
    weight = np.random.default_rng(0).integers(-127, 128, (256, 20), np.int8)
    numbers = {"w": weight, "s": np.float32(0.1), "z": np.int8(3)}
    lines = ["r = Relu(x)", "f = Flatten(r)", "d = DequantizeLinear(w, s, z)", "y = Gemm(f, d)"]
    made = net(lines, x="1,4,8,8", **{name: np.asarray(value) for name, value in numbers.items()})
    save(made, tmp_path / "net.onnx", external_data=True)
    proof = onnxscope.convert(tmp_path / "net.onnx", tmp_path / "map.onnx", external_data=True).proof
    assert (tmp_path / "net.onnx.data").stat().st_size >= 256 * 20
    assert proof.equivalent, proof.document["reason"]
    assert proof.document["weights"]["changed"] == 0
