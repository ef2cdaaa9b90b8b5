"""Whole verifications of files: a clear verdict for each kind of pair."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxscope
from onnxscope.errors import ExternalDataError, FileError, RuntimeFailure, UsageError
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """TMPDIR, to be empty after every verification."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture
def write(tmp_path):
    """Write a model in ONNX's text form; returns its path."""

    def text(name, inputs, outputs, body, **arrays):
        head = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>'
        proto = onnx.parser.parse_model(f"{head} g ({inputs}) => ({outputs}) {{ {body} }}")
        proto.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in arrays.items())
        path = tmp_path / f"{name}.onnx"
        onnx.save(proto, path)
        return str(path)

    return text


def request(original, candidate, **options):
    return Request(str(original), str(candidate), trials=options.pop("trials", 1), **options)


def rewritten(source, target, change):
    """A copy of a model file after `change(proto, arrays)`, where arrays are its initializers by name."""
    proto = onnx.load(source)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    arrays = {name: numpy_helper.to_array(tensor).copy() for name, tensor in tensors.items()}
    change(proto, arrays)
    for name, array in arrays.items():
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(proto, target)
    return str(target)


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    """LeNet-5 with an odd smallest weight, and its conversion."""
    folder = tmp_path_factory.mktemp("lenet")

    def random(proto, arrays):
        rng = np.random.default_rng(0)
        for name, array in arrays.items():
            if array.dtype == np.float32:
                arrays[name] = (rng.standard_normal(array.shape) / np.sqrt(array[0].size + 1)).astype("f4")

    original = rewritten(MODELS / "lenet5.onnx", folder / "lenet.onnx", random)
    candidate = str(folder / "fcn.onnx")
    onnxscope.convert(original, candidate, verify=False)
    return original, candidate


def test_a_model_is_equivalent_to_itself(scratch):
    found = verify(request(MODELS / "net32.onnx", MODELS / "net32.onnx"))
    (run,) = found.runs
    assert (found.equivalent, found.reason, run.first_divergence) == (True, None, None)
    assert all(output.max_abs == 0 and output.limit > 0 for output in run.outputs)
    assert run.provider.used == "CPUExecutionProvider"
    assert run.provider.nodes_on_provider > 0
    assert run.provider.nodes_elsewhere == ()
    assert list(scratch.iterdir()) == []


def test_a_right_conversion_passes_with_many_seeds(lenet):
    for seed in (0, 20):
        found = verify(request(*lenet, trials=4, seed=seed))
        assert found.equivalent, found
        assert found.weights.changed == 0
        names = [layer.name for layer in found.runs[0].layers]
        assert any("zeros" in name for name in names)
        assert any("impulses" in name for name in names)


def test_layers_with_nothing_in_between(write, tmp_path):
    rng = np.random.default_rng(2)
    arrays = {"u": rng.standard_normal((12, 5)).astype("f4"), "v": rng.standard_normal((5, 3)).astype("f4")}
    body = "m = Relu(x) f = Flatten(m) a = Gemm(f, u) y = Gemm(a, v)"
    original = write("a", "float[N,3,2,2] x", "float[N,3] y, float[N,5] a", body, **arrays)
    onnxscope.convert(original, str(tmp_path / "b.onnx"), verify=False, output="vector")
    found = verify(request(original, tmp_path / "b.onnx"))
    assert found.equivalent, found
    assert [layer.name for layer in found.runs[0].layers if "zeros" in layer.name] == [
        "a (zeros)",
        "y (zeros)",
    ]


def _zeroed(index):
    def change(proto, arrays):
        weight = arrays["fc1.weight"]
        weight.flat[np.argsort(np.abs(weight), axis=None)[index]] = 0

    return change


def _swapped(proto, arrays):
    weight = arrays["fc1.weight"].reshape(-1)
    weight[[0, 7]] = weight[[7, 0]]


def _halved(proto, arrays):
    arrays["fc1.weight"] = arrays["fc1.weight"].astype("f2").astype("f4")


def _bias(proto, arrays):
    arrays["fc3.bias"][4] += np.float32(1e-3)


def _rows(proto, arrays):
    arrays["fc2.weight"] = arrays["fc2.weight"][::-1].copy()


def _turned(proto, arrays):
    arrays["fc1.weight"] = arrays["fc1.weight"].swapaxes(2, 3).copy()


def _backbone(proto, arrays):
    arrays["conv1.weight"].flat[3] = 0


SABOTAGE = {
    "one weight zeroed": (_zeroed(-1), "fc1_out"),
    "the smallest weight zeroed": (_zeroed(0), None),
    "two weights swapped": (_swapped, "fc1_out (impulses)"),
    "weights through float16": (_halved, "fc1_out"),
    "one bias off by 1e-3": (_bias, "output (zeros)"),
    "rows reversed": (_rows, "fc2_out"),
    "height and width exchanged": (_turned, "fc1_out (impulses)"),
    "a weight of the backbone zeroed": (_backbone, None),
}


@pytest.mark.parametrize("label", SABOTAGE)
def test_every_sabotage_of_a_conversion_fails(lenet, tmp_path, label):
    change, place = SABOTAGE[label]
    wrong = rewritten(lenet[1], tmp_path / "wrong.onnx", change)
    found = verify(request(lenet[0], wrong))
    assert (found.equivalent, found.reason) == (False, "weights")
    layers = {layer.name: layer.ok for layer in found.runs[0].layers}
    if place is not None:
        assert not layers[place], layers
        first = found.runs[0].first_divergence
        assert first is not None
        assert first.split(" ")[0] == place.split(" ")[0]


def test_softmax_on_the_wrong_axis_fails(write):
    rng = np.random.default_rng(1)
    arrays = {"w": rng.standard_normal((4, 3)).astype("f4")}
    parts = "float[2,4] x", "float[2,3] y"
    right = write("a", *parts, "z = MatMul(x, w) y = Softmax<axis = 1>(z)", **arrays)
    wrong = write("b", *parts, "z = MatMul(x, w) y = Softmax<axis = 0>(z)", **arrays)
    found = verify(request(right, wrong, layers=True))
    assert (found.equivalent, found.reason) == (False, "outputs")
    assert found.runs[0].first_divergence == "y"  # z, the only common value inside, is right


def chain(write, outputs, end):
    """Three products, and the same with another weight in the second, `b`."""
    rng = np.random.default_rng(1)
    arrays = {name: rng.standard_normal((4, 4)).astype("f4") for name in "uvw"}
    body = f"a = MatMul(x, u) b = MatMul(a, v) c = MatMul(b, w) {end}"
    right = write("a", "float[N,4] x", outputs, body, **arrays)
    arrays["v"] = arrays["v"] * np.float32(1.001)
    return right, write("b", "float[N,4] x", outputs, body, **arrays)


def test_the_first_divergence_is_named_with_its_cause(write):
    found = verify(request(*chain(write, "float[N,4] y", "y = Relu(c)"), layers=True))
    (run,) = found.runs
    assert [(layer.name, layer.ok) for layer in run.layers] == [("a", True), ("b", False), ("c", False)]
    assert run.first_divergence == "b"
    assert any("the node makes the error" in note for note in found.notes)


@pytest.mark.parametrize("layers", [True, False])
def test_an_output_in_the_middle_is_the_first_divergence(write, layers):
    """It is compared as an output, not among the values between, and what reads it passes its error on."""
    pair = chain(write, "float[N,4] y, float[N,4] b", "d = Abs(c) y = Neg(d)")
    found = verify(request(*pair, layers=layers))
    assert found.runs[0].first_divergence == "b"
    (said,) = [note for note in found.notes if "diverges first" in note]
    assert said.startswith("b diverges first, behind MatMul ")
    assert "the node makes the error (inputs reach 0 of their limits" in said


def test_a_dense_map_equals_the_head_on_every_window(lenet):
    found = verify(request(*lenet, dense=((60, 52),)))
    (dense,) = found.runs[0].dense
    # LeNet-5 without padding: (60 - 28)//4 by (52 - 28)//4 cells, each equal to the network on its crop
    assert (dense.size, dense.windows, dense.ok) == ((60, 52), 8 * 6, True)
    assert dense.border_effect is not None
    assert dense.border_effect < 1e-5


def test_tolerances_override_the_limit(write):
    right = write("a", "float[N,4] x", "float[N,4] y", "y = Identity(x)")
    wrong = write("b", "float[N,4] x", "float[N,4] y", "y = Add(x, d)", d=np.float32([0.5]))
    assert not verify(request(right, wrong)).equivalent
    assert verify(request(right, wrong, atol=0.6)).equivalent
    found = verify(request(right, wrong, atol=0.25))
    assert not found.equivalent
    assert found.runs[0].outputs[0].would_pass_at == pytest.approx(2, rel=1e-3)


NAN_BODY = "s = Sqrt(x) y = Mul(s, one)"  # negative inputs give NaN


@pytest.mark.parametrize(
    ("left", "right", "equivalent"),
    [
        (NAN_BODY, NAN_BODY, True),
        (NAN_BODY, "a = Abs(x) s = Sqrt(a) y = Mul(s, one)", False),
        ("z = Sub(x, x) y = Div(one, z)", "z = Sub(x, x) y = Div(one, z)", True),
        ("z = Sub(x, x) y = Div(one, z)", "z = Sub(x, x) w = Add(z, one) y = Div(one, w)", False),
    ],
)
def test_nan_and_inf(write, left, right, equivalent):
    one = np.float32([1])
    parts = "float[N,4] x", "float[N,4] y"
    found = verify(request(write("a", *parts, left, one=one), write("b", *parts, right, one=one)))
    output = found.runs[0].outputs[0]
    assert found.equivalent is equivalent
    assert sum(output.nan) + sum(output.inf) > 0


def test_strings_sequences_and_empty_outputs(write):
    body = "t = Identity(s) q = SequenceConstruct(x, x) e = Slice(x, zero, zero, zero)"
    outputs = "string[N] t, seq(float[N,4]) q, float[a,4] e"
    path = write("a", "string[N] s, float[N,4] x", outputs, body, zero=np.array([0]))
    found = verify(request(path, path))
    assert found.equivalent, found
    assert [output.name for output in found.runs[0].outputs] == ["t", "q", "e"]


def test_random_ops_are_said(write):
    body = "r = RandomUniformLike(x) y = Add(x, r)"
    path = write("a", "float[N,4] x", "float[N,4] y", body)
    found = verify(request(path, path))
    assert (found.equivalent, found.reason) == (False, "random")
    assert any("RandomUniformLike" in note for note in found.notes)


def test_another_interface_is_the_reason(write):
    first = write("a", "float[N,4] x", "float[N,4] y, float[N,4] z", "y = Relu(x) z = Neg(x)")
    missing = write("b", "float[N,4] x", "float[N,4] y", "y = Relu(x)")
    turned = write("c", "float[N,4] x", "float[N,4] z, float[N,4] y", "y = Relu(x) z = Neg(x)")
    renamed = write("d", "float[N,4] v", "float[N,4] y, float[N,4] z", "y = Relu(v) z = Neg(v)")
    found = verify(request(first, missing))
    assert (found.equivalent, found.reason) == (False, "interface")
    assert [output.ok for output in found.runs[0].outputs] == [True]  # what both have is still compared
    assert verify(request(first, turned)).equivalent
    found = verify(request(first, renamed))
    assert (found.equivalent, found.reason, found.runs) == (False, "interface", ())


def test_indices_stay_in_range_and_batches_vary(write):
    table = np.arange(20, dtype=np.float32).reshape(5, 4)
    path = write("a", "int64[N,L] i", "float[N,L,4] y", "y = Gather(t, i)", t=table)
    found = verify(request(path, path, trials=2, dims={"L": 3}))
    assert found.equivalent
    assert {trial.shapes["i"] for trial in found.runs[0].trials} == {(1, 3), (3, 3)}


def test_given_inputs(write, tmp_path):
    path = write("a", "float[N,4] x", "float[N,4] y", "y = Relu(x)")
    np.savez(tmp_path / "in.npz", x=np.ones((5, 4), np.float32))
    np.save(tmp_path / "in.npy", np.ones((2, 4), np.float32))
    for name, rows in (("in.npz", 5), ("in.npy", 2)):
        (trial,) = verify(request(path, path, inputs=str(tmp_path / name))).runs[0].trials
        assert trial.shapes == {"x": (rows, 4)}
        assert trial.family == f"file {name}"
    np.savez(tmp_path / "bad.npz", x=np.ones((5, 3), np.float32))
    with pytest.raises(UsageError, match=r"shape \[5, 3\]"):
        verify(request(path, path, inputs=str(tmp_path / "bad.npz")))


def test_a_provider_that_is_not_installed(write):
    import onnxruntime

    if "WebGpuExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has WebGPU")
    path = write("a", "float[N,4] x", "float[N,4] y", "y = Relu(x)")
    with pytest.raises(RuntimeFailure, match="pip install onnxruntime-webgpu"):
        verify(request(path, path, providers=("webgpu",)))
    with pytest.raises(UsageError, match="unknown provider"):
        verify(request(path, path, providers=("gpu",)))


def test_every_usable_provider(write):
    path = write("a", "float[N,4] x", "float[N,4] y", "y = Relu(x)")
    found = verify(request(path, path, providers=("all",)))
    assert found.equivalent
    assert "cpu" in [run.provider.asked for run in found.runs]


def test_a_model_that_onnxruntime_refuses(write, scratch):
    right = write("a", "float[N,4] x", "float[N,4] y", "y = Relu(x)")
    wrong = write("b", "float[N,4] x", "float[N,4] y", "y = NoSuchOp(x)")
    with pytest.raises(RuntimeFailure, match="NoSuchOp") as caught:
        verify(request(right, wrong))
    assert caught.value.where == wrong
    assert list(scratch.iterdir()) == []


def test_files_that_can_not_be_used(write, tmp_path):
    right = write("a", "float[N,4] x", "float[N,4] y", "y = Add(x, w)", w=np.ones(4, np.float32))
    with pytest.raises(FileError, match=r"no such file|not found"):
        verify(request(right, tmp_path / "nothing.onnx"))
    proto = onnx.load(right)
    onnx.save(proto, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0)
    assert verify(request(right, tmp_path / "e.onnx")).equivalent
    os.unlink(tmp_path / "e.data")
    with pytest.raises(ExternalDataError):
        verify(request(right, tmp_path / "e.onnx"))


def test_the_seed_reproduces_the_run(lenet):
    first, again = (verify(request(*lenet, seed=3)) for _ in range(2))
    assert first.runs[0].outputs == again.runs[0].outputs
    assert replace(first, runs=()) == replace(again, runs=())


def test_a_model_that_only_an_optimizer_changed(lenet, tmp_path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(lenet[0], options, providers=["CPUExecutionProvider"])
    found = verify(request(lenet[0], tmp_path / "fused.onnx", layers=True))
    assert found.equivalent, found


def test_a_model_in_another_opset(lenet, tmp_path):
    converted = onnx.version_converter.convert_version(onnx.load(lenet[0]), 21)
    onnx.save(converted, tmp_path / "newer.onnx")
    found = verify(request(lenet[0], tmp_path / "newer.onnx"))
    assert found.equivalent, found
    assert found.weights.changed == 0
