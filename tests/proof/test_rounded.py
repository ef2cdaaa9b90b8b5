"""Quantized heads at larger sizes, piece by piece: right ones pass, and every wrong piece shows."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import proof_kit as kit
import pytest
from nets import net
from onnx import numpy_helper

import onnxscope
from onnxscope.analysis.shapes import infer
from onnxscope.files.read import load, loads
from onnxscope.files.write import dumps, save
from onnxscope.proof import links, rounded
from onnxscope.proof.limits import FLOAT32
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options

LAYERS = [
    "q = QuantizeLinear(f, s, z)", "d = DequantizeLinear(q, s, z)",
    "w = DequantizeLinear(wi, ws, wz)", "a = Gemm(d, w, b)", "r = Relu(a)",
    "e = QuantizeLinear(r, s, z)", "g = DequantizeLinear(e, s, z)",
    "v = DequantizeLinear(vi, ws, wz)", "h = MatMul(g, v)",
    "i = QuantizeLinear(h, t, z)", "y = DequantizeLinear(i, t, z)",
]  # fmt: skip
HEADS = {
    "flattened": ["m = Relu(x)", "f = Flatten(m)", *LAYERS],
    "mean": ["m = Relu(x)", "p = GlobalAveragePool(m)", "f = Flatten(p)", *LAYERS],
}


def built(name: str, **options: Any) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The head and its conversion."""
    draw = np.random.default_rng(8)
    inputs = 60 if name == "flattened" else 3
    values = {
        "s": np.float32(0.03), "t": np.float32(0.2), "z": np.uint8(110), "ws": np.float32(0.01),
        "wz": np.int8(0), "wi": draw.integers(-128, 128, (inputs, 6)).astype(np.int8),
        "vi": draw.integers(-128, 128, (6, 4)).astype(np.int8),
        "b": draw.standard_normal(6).astype(np.float32),
    }  # fmt: skip
    model = net(HEADS[name], opset=13, x="N,3,4,5", **{k: np.asarray(v) for k, v in values.items()})
    made = plan(model, Options(**options))
    return onnx.load_from_string(dumps(model)), onnx.load_from_string(dumps(convert(made)))


def judged(original: onnx.ModelProto, candidate: onnx.ModelProto, folder: Path) -> object:
    """What the pieces say of an image of 9x8."""
    before, after = (loads(model.SerializeToString()) for model in (original, candidate))
    (head,) = links.read(after)
    parts = rounded.pieces(before, after, head, ["y"])
    assert [list(part.ends) for part in parts] == [["d"], ["g"], ["y"]]
    x = np.random.default_rng(9).standard_normal((2, 3, 9, 8)).astype(np.float32)
    runner, facts = kit.Runner(), infer(before)
    wanted = [head.read_map, *rounded.names(parts)]
    found = runner.run(
        candidate.SerializeToString(), {"x": x}, list(dict.fromkeys(wanted)), optimization="none"
    )
    ranks = {part.start: len(facts.value(part.start).shape or ()) for part in parts}
    return rounded.check(
        before, head, parts, found, runner, ranks, folder=str(folder), batch=None, arithmetic=FLOAT32
    )


@pytest.mark.parametrize("form", ["conv", "rows", "fold"])
@pytest.mark.parametrize("name", HEADS)
def test_a_right_head_passes_piece_by_piece(name: str, form: str, tmp_path: Path) -> None:
    outcome = judged(*built(name, form=form), tmp_path)
    assert outcome.ok
    assert outcome.values > 2 * 6 * 4 * (
        6 + 4
    )  # both layers on each of 2 x 6x4 windows, and what lies between


def twin(model: onnx.ModelProto, name: str) -> str:
    """The candidate's name of a value: another one where it is folded."""
    (head,) = links.read(loads(model.SerializeToString()))
    return head.folding.values.get(name, name) if head.folding else name


def number(model: onnx.ModelProto, name: str, value: float) -> None:
    """Another scale for the node that makes a value."""
    name = twin(model, name)
    fresh = f"{name}_wrong"
    tensor = numpy_helper.from_array(np.asarray(value, np.float32), fresh)
    model.graph.initializer.append(tensor)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.output[0] == name:
            node.input[1] = fresh


def weight(model: onnx.ModelProto) -> None:
    """One step more in one weight."""
    tensor = next(
        t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4
    )
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[7 % array.size] ^= 1
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def unrectified(model: onnx.ModelProto) -> None:
    """Without the activation between the layers."""
    name = twin(model, "r")
    relu = next(node for node in model.graph.node if node.op_type == "Relu" and name in node.output)
    relu.op_type = "Identity"


@pytest.mark.parametrize(
    "sabotage",
    [lambda m: number(m, "d", 0.031), lambda m: number(m, "g", 0.031), lambda m: number(m, "i", 0.21), weight,
     unrectified],
    ids=["scale of the input", "of the hidden layer", "of the output", "a weight", "the activation"],
)  # fmt: skip
@pytest.mark.parametrize("form", ["conv", "fold"])
@pytest.mark.parametrize("name", HEADS)
def test_a_wrong_piece_shows(name: str, form: str, sabotage: object, tmp_path: Path) -> None:
    original, candidate = built(name, form=form)
    sabotage(candidate)
    assert not judged(original, candidate, tmp_path).ok


def test_a_head_with_layers_side_by_side_is_no_chain() -> None:
    """Both read the map: none of the pieces would hold the sum."""
    draw = np.random.default_rng(8)
    stored = {name: draw.standard_normal((60, 4)).astype(np.float32) for name in ("v", "w")}
    lines = ["f = Flatten(x)", "a = MatMul(f, v)", "g = MatMul(f, w)", "y = Add(a, g)"]
    model = net(lines, opset=13, x="N,3,4,5", **stored)
    after = convert(plan(model, Options()))
    (head,) = links.read(after)
    assert rounded.pieces(model, after, head, ["y"]) == ()


def wide(name: str, seed: int, folder: Path, *more: str) -> str:
    """A head of a few hundred channels and units: of as many sums some lie near a tie. `more` are outputs."""
    draw = np.random.default_rng(seed)
    channels = int(draw.integers(100, 400))
    inputs = channels * 20 if name == "flattened" else channels
    hidden, outputs = int(draw.integers(200, 600)), int(draw.integers(40, 120))
    values = {
        "s": np.float32(draw.uniform(0.01, 0.05)), "t": np.float32(draw.uniform(0.05, 0.3)),
        "z": np.uint8(110), "ws": np.float32(0.01), "wz": np.int8(0),
        "wi": draw.integers(-128, 128, (inputs, hidden)).astype(np.int8),
        "vi": draw.integers(-128, 128, (hidden, outputs)).astype(np.int8),
        "b": draw.standard_normal(hidden).astype(np.float32),
    }  # fmt: skip
    shape = f"N,{channels},4,5"
    path = folder / "wide.onnx"
    stored = {k: np.asarray(v) for k, v in values.items()}
    save(net(HEADS[name], opset=13, x=shape, outputs=["y", *more], **stored), path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "seed", "what"),
    [
        ("mean", 5018, "outputs differ by"),  # a tie at the native size
        ("mean", 5102, "they move the original by"),  # two steps where kernels are fused
    ],
)
def test_wide_heads_with_sums_near_a_tie_are_no_false_alarm(
    name: str, seed: int, what: str, tmp_path: Path
) -> None:
    original, converted = wide(name, seed, tmp_path), str(tmp_path / "map.onnx")
    onnxscope.convert(original, converted, verify=False)
    found = verify(Request(original, converted, seed=seed, trials=1))
    assert found.equivalent
    said = (*found.notes, *(output.limit_from for output in found.runs[0].outputs))
    assert any(what in text for text in said)


@pytest.mark.parametrize(("more", "scale"), [("g", "e"), ("h", "e"), ("a", "d")])
def test_outputs_of_an_earlier_layer_are_pieces_too(more: str, scale: str, tmp_path: Path) -> None:
    original, converted = wide("mean", 5018, tmp_path, more), str(tmp_path / "map.onnx")
    onnxscope.convert(original, converted, verify=False)
    request = Request(original, converted, seed=5018, trials=1)
    found = verify(request)
    assert found.equivalent, (found.reason, found.notes)
    assert any("outputs differ by" in note for note in found.notes)
    model = onnx.load(converted)
    number(model, scale, 0.031)
    onnx.save(model, converted)
    assert not verify(request).equivalent


def test_what_a_layer_reads_is_a_piece_where_it_is_an_output_too(tmp_path: Path) -> None:
    """A drop-in has both: `g_map`, which its second layer reads, and `g`, the output that is made of it."""
    original, converted = wide("mean", 5018, tmp_path, "g"), str(tmp_path / "vector.onnx")
    onnxscope.convert(original, converted, output="vector", verify=False)
    before, after = load(original), load(converted)
    (head,) = links.read(after)
    found = [dict(part.ends) for part in rounded.pieces(before, after, head, ["y", "g"])]
    assert found == [{"d": "d"}, {"g": "g_map"}, {"g": "g"}, {"y": "y"}]


def another(path: str, output: str, op: str) -> None:
    """Change the op of the node that makes a value."""
    model = onnx.load(path)
    (node,) = [node for node in model.graph.node if output in node.output]
    node.op_type = op
    onnx.save(model, path)


def test_a_tie_excuses_no_change_in_front_of_the_head(tmp_path: Path) -> None:
    """The pieces begin at the candidate's own map, so that has to be the original's in every bit."""
    original, converted = wide("mean", 5018, tmp_path), str(tmp_path / "map.onnx")
    onnxscope.convert(original, converted, verify=False)
    another(converted, "m", "Elu")
    found = verify(Request(original, converted, seed=5018, trials=1))
    assert (found.equivalent, found.reason) == (False, "outputs")
    assert not any(row.ok for row in found.runs[0].outputs)


def test_a_tie_excuses_no_other_output(tmp_path: Path) -> None:
    """`o` is made of the image; a wrong one stays wrong beside one that differs by ties."""
    original, converted = wide("mean", 5018, tmp_path), str(tmp_path / "map.onnx")
    model = onnx.load(original)
    model.graph.node.append(onnx.helper.make_node("Neg", ["x"], ["o"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("o", 1, None))
    onnx.save(model, original)
    onnxscope.convert(original, converted, verify=False)
    another(converted, "o", "Abs")
    found = verify(Request(original, converted, seed=5018, trials=1))
    assert {row.name: row.ok for row in found.runs[0].outputs}["o"] is False
    assert (found.equivalent, found.reason) == (False, "outputs")


def test_ties_behind_a_pool_that_stays_global_are_no_false_alarm(tmp_path: Path) -> None:
    """A drop-in (--output vector) keeps the pool, which then is a piece over the whole map."""
    original, converted = wide("mean", 5018, tmp_path), str(tmp_path / "vector.onnx")
    onnxscope.convert(original, converted, output="vector", verify=False)
    found = verify(Request(original, converted, seed=5018, trials=1))
    assert found.equivalent
    assert any("outputs differ by" in note for note in found.notes)
