"""Weights of a conversion may stand in another order only where, and as, the layout asks for it."""

import numpy as np
import onnx
import pytest
from nets import net
from onnx import numpy_helper

import onnxscope
from onnxscope.files.write import save
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify


@pytest.fixture
def pair(tmp_path):
    """A head that flattens channels last, so that its weights are permuted, and its conversion."""
    draw = np.random.default_rng(2)
    lines = ["c = Conv(x, k)", "t = Transpose(c) perm=[0,2,3,1]", "f = Flatten(t)", "y = MatMul(f, w)"]
    sizes = {"k": (4, 3, 3, 3), "w": (36, 5)}
    stored = {name: draw.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    save(net(lines, x="1,3,5,5", **stored), before)
    onnxscope.convert(str(before), str(after), verify=False)
    return before, after


def swapped(path, chosen):
    """Exchange two weights of one tensor."""
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if chosen(t))
    array = numpy_helper.to_array(tensor).copy()
    array.flat[[3, 8]] = array.flat[[8, 3]]
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)


def checked(pair):
    return verify(Request(str(pair[0]), str(pair[1]), trials=1, rtol=1e9))


def test_the_order_that_the_layout_asks_for_passes(pair):
    found = checked(pair)
    assert (found.weights.permuted, found.weights.changed, found.equivalent) == (1, 0, True)


@pytest.mark.parametrize(("tensor", "rank"), [("head", 5), ("backbone", 4)])
def test_any_other_order_is_a_change(pair, tensor, rank):
    swapped(pair[1], lambda t: len(t.dims) == 4 and t.dims[0] == rank)
    found = checked(pair)
    assert (found.weights.changed, found.reason, found.equivalent) == (1, "weights", False)


INTEGER = {
    "MatMulInteger": [
        "q = QuantizeLinear(x, s, z)",
        "f = Flatten(q)",
        "g = MatMulInteger(f, w, z)",
        "y = Cast(g) to=1",
    ],
    "transB": [
        "q = QuantizeLinear(x, s, z)",
        "t = Transpose(q) perm=[0,2,3,1]",
        "f = Flatten(t)",
        "g = com.microsoft:QGemm(f, s, z, w, s, v, , s, z) transB=1",
        "y = DequantizeLinear(g, s, z)",
    ],
}


@pytest.mark.parametrize(
    ("form", "sizes"), [("MatMulInteger", (36, 5)), ("MatMulInteger", (4, 4)), ("transB", (5, 36))]
)
@pytest.mark.parametrize("wrong", [False, True])
def test_weights_of_integers_keep_their_order(tmp_path, form, sizes, wrong):
    weight = np.random.default_rng(5).permutation(np.arange(-90, 90).astype(np.int8))[: np.prod(sizes)]
    stored = {"w": weight.reshape(sizes), "s": np.float32(0.1), "z": np.uint8(9)}
    stored |= {"v": np.int8(0)} if form == "transB" else {}
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    save(net(INTEGER[form], opset=13, x="1,4,3,3" if 36 in sizes else "1,4,1,1", **stored), before)
    onnxscope.convert(str(before), str(after), verify=False)
    if wrong:
        swapped(after, lambda t: np.prod(t.dims) == np.prod(sizes))
    found = checked((before, after))
    assert (found.reason == "weights") == wrong, found
