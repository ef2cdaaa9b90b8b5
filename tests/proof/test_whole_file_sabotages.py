"""Wrong conversions through `verify` as a whole: each fails, and the place of the change is named.

`proof_sweep.py` does the same on the corpus, with every sabotage.
"""

from pathlib import Path

import onnx
import pytest
from proof_sweep import named
from sabotages import sabotages

import onnxscope
from onnxscope.errors import RuntimeFailure
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
