import numpy as np
import onnx
import proof_kit as kit
import pytest
from onnx import helper, numpy_helper

from onnxscope.analysis.shapes import infer
from onnxscope.files.read import loads
from onnxscope.files.write import dumps
from onnxscope.proof import dense, links, local, noise

HEADS = {spec.name: spec for spec in kit.heads()}
LARGER = {1: (15,), 2: (9, 11), 3: (3, 5, 4)}


def at_larger_size(spec, candidate, runner, family="signed", count=2):
    window = tuple(max(size, wide) for size, wide in zip(spec.window, LARGER[spec.spatial], strict=True))
    given = kit.inputs(spec, family, count, window=window)
    names = [f"t{place}" for place in range(len(spec.layers))]
    return {"map": given, **runner.run(dumps(candidate), {"map": given}, names)}


@pytest.fixture(params=[False, True], ids=["drawn", "large"])
def large(request, monkeypatch):
    """Whether every weight passes for a large one, none of whose numbers is drawn."""
    if request.param:
        monkeypatch.setattr(noise, "LARGE", 1)
    return request.param


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_right_on_every_window(name, large, tmp_path):
    spec, runner = HEADS[name], kit.Runner()
    original, candidate = kit.original(spec), kit.candidate(spec)
    (head,) = links.read(candidate)
    values = at_larger_size(spec, candidate, runner)
    cells = values[spec.last].shape[2:]
    found = dense.window_check(
        original, head, values["map"], {spec.last: values[spec.last]}, runner, folder=str(tmp_path)
    )
    assert found.windows == 2 * int(np.prod(cells))
    assert found.comparison.ok
    assert found.comparison.values == values[spec.last].size
    assert ("inputs of their sums" in found.limit_from) == large
    steps = local.plan(infer(original), candidate, (head,))
    layers = local.check(original, steps, [values], runner)
    assert layers.ok
    assert layers.comparison.values == sum(values[f"t{place}"].size for place in range(len(spec.layers)))


@pytest.mark.parametrize("label", ["rows permuted", "height and width swapped", "channels first for last"])
@pytest.mark.parametrize("name", ["lenet5", "onet", "keras"])
def test_a_wrong_layout_fails_on_the_windows(name, label, large, tmp_path):
    spec, runner = HEADS[name], kit.Runner()
    wrong = {kind: model for kind, model, _ in kit.sabotages(spec)}[label]
    values = at_larger_size(spec, wrong, runner)
    results = {spec.last: values[spec.last]}
    found = dense.window_check(
        kit.original(spec), links.read(wrong)[0], values["map"], results, runner, folder=str(tmp_path)
    )
    assert not found.comparison.ok


@pytest.mark.parametrize("name", ["lasagne", "keras"])
def test_softmax_on_the_wrong_axis_shows_on_a_map_only(name, tmp_path):
    spec, runner = HEADS[name], kit.Runner()
    wrong = kit.candidate(spec, softmax_axis=-1)
    values = at_larger_size(spec, wrong, runner)
    steps = local.plan(infer(kit.original(spec)), wrong, links.read(wrong))
    assert local.check(kit.original(spec), steps, [values], runner).first_divergence == spec.last


def test_a_baked_batch_is_filled_up(tmp_path):
    spec, runner = HEADS["lenet5"], kit.Runner()
    original, candidate = kit.original(spec), kit.candidate(spec)
    proto = onnx.load_from_string(dumps(original))
    flatten = next(node for node in proto.graph.node if node.op_type == "Flatten")
    flatten.op_type = "Reshape"
    flatten.input.append("shape")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([4, 400]), "shape"))
    values = at_larger_size(spec, candidate, runner, count=1)
    found = dense.window_check(
        loads(proto.SerializeToString()),
        links.read(candidate)[0],
        values["map"],
        {spec.last: values[spec.last]},
        runner,
        folder=str(tmp_path),
        batch=4,
    )
    assert found.windows == 5 * 7  # no multiple of 4
    assert found.comparison.ok


def network(pad):
    """Conv 3x3 (stride 2), Relu, then a 3x3 head of 4 classes; native size 7x7 without padding, 5x5 with."""
    rng = np.random.default_rng(0)
    weights = {
        "k": rng.standard_normal((6, 3, 3, 3)),
        "w": rng.standard_normal((4, 54)),
        "b": rng.standard_normal(4),
    }
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    body = [
        helper.make_node("Conv", ["x", "k"], ["c"], strides=[2, 2], pads=[pad] * 4),
        helper.make_node("Relu", ["c"], ["map"]),
    ]
    tail = [
        helper.make_node("Flatten", ["map"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    given = helper.make_tensor_value_info("x", 1, ["N", 3, "H", "W"])

    def model(nodes, tensors):
        graph = helper.make_graph(nodes, "g", [given], [onnx.ValueInfoProto(name="y")], tensors)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return made.SerializeToString()

    shaped = numpy_helper.from_array(weights["w"].astype(np.float32).reshape(4, 6, 3, 3), "w")
    conv = helper.make_node("Conv", ["map", "w", "b"], ["y"])
    return model(body + tail, stored), model([*body, conv], [stored[0], shaped, stored[2]])


def test_without_padding_every_crop_gives_its_cell():
    original, candidate = network(0)
    runner, image = kit.Runner(), np.random.default_rng(1).standard_normal((1, 3, 15, 17)).astype(np.float32)
    value = runner.run(candidate, {"x": image}, ["y"])["y"]
    assert value.shape == (1, 4, 5, 6)  # (15 - 7)//2 + 1 by (17 - 7)//2 + 1
    found = dense.border_effect(original, "x", image, "y", value, (7, 7), (2, 2), runner)
    assert found.equal == 30
    assert found.largest < 1e-4
    assert found.argmax_agreement == 1.0
    assert found.by_cell.shape == (5, 6)


def test_padding_shows_as_a_border_effect():
    original, candidate = network(1)
    runner, image = kit.Runner(), np.random.default_rng(1).standard_normal((1, 3, 13, 13)).astype(np.float32)
    value = runner.run(candidate, {"x": image}, ["y"])["y"]
    assert value.shape == (1, 4, 5, 5)
    found = dense.border_effect(original, "x", image, "y", value, (5, 5), (2, 2), runner)
    assert found.largest > 0.1
    assert found.equal < 25


def test_cells_keep_the_order_of_the_map():
    value = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    found = dense.cells(value, 2)
    assert found.shape == (8, 3)
    assert np.array_equal(found[1], value[0, :, 0, 1])
    assert np.array_equal(found[6], value[1, :, 1, 0])


def test_speed_up_is_the_ratio_of_multiplications():
    original, candidate = (loads(data) for data in network(0))
    found = dense.predicted_speedup(original, candidate, {"x": (1, 3, 7, 7)}, {"x": (1, 3, 15, 17)}, 30)
    crop = 3 * 3 * 27 * 6 + 54 * 4  # 3x3 cells of the convolution, then the matrix
    whole = 7 * 8 * 27 * 6 + 30 * 54 * 4
    assert found == pytest.approx(30 * crop / whole)
