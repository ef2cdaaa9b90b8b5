"""Which provider ran which node, read from profiles."""

import json

import pytest

from onnxscope import runtime
from onnxscope.errors import RuntimeFailure
from onnxscope.proof import providers
from onnxscope.proof.providers import Placement, combined, placement, use_of

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def event(name, provider, cat="Node"):
    return {"cat": cat, "name": name, "args": {"provider": provider, "op_name": "Conv"}}


def test_placement_counts_kernel_calls_once_per_node():
    events = [
        event("session_initialization", "", cat="Session"),
        event("conv_fence_before", CUDA),
        event("conv_kernel_time", CUDA),
        event("conv_kernel_time", CUDA),
        event("topk_kernel_time", CPU),
    ]
    found = placement(json.dumps(events), (CUDA, CPU))
    assert found == Placement((CUDA, CPU), (("conv", CUDA), ("topk", CPU)))
    cut = json.dumps(events)[:-1] + ","
    assert placement(cut, (CUDA, CPU)) == found


def test_a_profile_that_is_no_json_is_an_error():
    with pytest.raises(RuntimeFailure, match="profile"):
        placement("{", ())


def test_nodes_elsewhere_are_listed():
    placed = Placement((CUDA, CPU), (("conv", CUDA), ("topk", CPU)))
    use = use_of("cuda", runtime.parse("cuda:device_id=1"), placed)
    assert (use.used, use.nodes_on_provider, use.nodes_elsewhere) == (
        CUDA,
        1,
        ("topk (CPUExecutionProvider)",),
    )
    assert use.options == {"use_tf32": "0", "device_id": "1"}


@pytest.mark.parametrize(
    "placed",
    [
        Placement((CUDA, CPU), (("conv", CPU), ("gemm", CPU))),  # registered, and ran nothing
        Placement((CPU,), (("conv", CPU),)),  # replaced
        Placement((CPU,), ()),
    ],
)
def test_a_silent_fallback_is_an_error(placed):
    with pytest.raises(RuntimeFailure, match=r"CUDAExecutionProvider was asked for and ran no node"):
        use_of("cuda", runtime.parse("cuda"), placed)


def test_a_pair_names_both_providers():
    first = use_of("cpu/cuda", runtime.parse("cpu"), Placement((CPU,), (("a", CPU),)))
    second = use_of("cpu/cuda", runtime.parse("cuda"), Placement((CUDA, CPU), (("b", CUDA), ("c", CPU))))
    both = combined("cpu/cuda", first, second)
    assert both.used == f"{CPU}/{CUDA}"
    assert both.nodes_on_provider == 2
    assert both.nodes_elsewhere == (f"c ({CPU})",)
    assert both.options == {"candidate.use_tf32": "0"}
    assert providers.combined("cpu", first, first) == first.__class__("cpu", CPU, 1, (), {})
