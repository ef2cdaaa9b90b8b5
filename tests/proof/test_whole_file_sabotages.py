"""Wrong conversions through `verify` as a whole: each fails, and the place of the change is named.

`proof_sweep.py` does the same on the corpus, with every sabotage.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import net
from proof_sweep import named
from sabotages import sabotages

import onnxscope
from onnxscope.errors import RuntimeFailure
from onnxscope.files.write import save
from onnxscope.proof.result import Request
from onnxscope.proof.verify import verify

LENET = Path(__file__).parents[2] / "models" / "lenet5.onnx"
CHOSEN = [
    "two weights swapped (first layer)",
    "smallest weight zeroed (last layer)",
    "one weight off by one bit (first layer)",
    "bias dropped (first layer)",
    "strides of 2 (first layer)",
    "strides of 2 (last layer)",
    "pads of 1 (first layer)",
    "backbone: two weights swapped",
    "backbone: kernel transposed",
]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    target = tmp_path_factory.mktemp("lenet") / "map.onnx"
    onnxscope.convert(str(LENET), str(target), verify=False)
    return target, {sabotage.what: sabotage for sabotage in sabotages(str(target), seed=3)}


@pytest.mark.parametrize("what", CHOSEN)
def test_the_place_of_a_change_is_named(wrong, what):
    target, found = wrong
    broken = target.with_name("wrong.onnx")
    onnx.save(found[what].model, broken)
    proof = verify(Request(str(LENET), str(broken), trials=1))
    assert not proof.equivalent
    assert set(named(proof)) & set(found[what].places)


def test_a_file_that_the_runtime_refuses_is_named_with_its_node(wrong):
    """A dilated kernel no longer fits into the native map: exit code 4, and the node is not a fused one."""
    target, found = wrong
    broken = target.with_name("wrong.onnx")
    onnx.save(found["dilations of 2 (first layer)"].model, broken)
    node = next(
        n
        for n in found["dilations of 2 (first layer)"].model.graph.node
        if n.op_type == "Conv" and any(a.name == "dilations" and list(a.ints) == [2, 2] for a in n.attribute)
    )
    with pytest.raises(RuntimeFailure, match=node.name) as caught:
        verify(Request(str(LENET), str(broken), trials=1))
    assert caught.value.where == str(broken)


POOLS = {"GlobalAveragePool(r)": "average", "GlobalMaxPool(r)": "max", "ReduceMean(r) axes=[2,3]": "mean"}


@pytest.fixture(scope="module", params=POOLS, ids=POOLS.values())
def pooled(request, tmp_path_factory):
    """A network with a global pool in front of its head, and its conversion, which has a window instead."""
    folder, draw = tmp_path_factory.mktemp("pool"), np.random.default_rng(6)
    lines = ["c = Conv(x, k)", "r = Relu(c)", f"p = {request.param}", "f = Flatten(p)", "y = Gemm(f, w, b)"]
    sizes = {"k": (4, 3, 3, 3), "w": (4, 5), "b": (5,)}
    stored = {name: draw.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    before, after = folder / "net.onnx", folder / "map.onnx"
    save(net(lines, opset=13, x="1,3,8,8", **stored), before)
    onnxscope.convert(str(before), str(after), verify=False)
    return before, after, {sabotage.what: sabotage for sabotage in sabotages(str(after), seed=4)}


@pytest.mark.parametrize("what", ["window", "stride", "kind"])
def test_another_pool_in_front_of_a_head_is_caught(pooled, what):
    before, after, found = pooled
    sabotage = found[f"wrong {what} of the head's pool"]
    broken = after.with_name("wrong.onnx")
    onnx.save(sabotage.model, broken)
    proof = verify(Request(str(before), str(broken), trials=1))
    assert not proof.equivalent
    assert set(named(proof)) & set(sabotage.places)


def test_the_right_pool_passes(pooled):
    before, after, found = pooled
    assert len(found) >= 12
    assert verify(Request(str(before), str(after), trials=2)).equivalent
