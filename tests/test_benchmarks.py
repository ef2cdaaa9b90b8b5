"""The benchmark program: its networks are what they say, ratios are those of pairs, failures are seen."""

import runpy
import sys
from pathlib import Path

import pytest

from onnxscope.analysis import cost, params
from onnxscope.analysis.shapes import infer
from onnxscope.files.read import loads

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    return runpy.run_path(str(FOLDER / "report.py"))


def test_the_chain_has_the_nodes_and_weights_it_promises():
    networks = runpy.run_path(str(FOLDER / "networks.py"))
    facts = infer(loads(networks["build"]("chain10").SerializeToString()))
    assert [node.op for node in facts.main.graph.nodes] == [
        "Conv", "Relu", *["Conv", "BatchNormalization", "Relu", "Add"] * 2,
    ]  # fmt: skip
    # (9*3 + 1)*8 + 2*((9*8 + 1)*8 + 2*8) parameters, 2*2*8 running statistics, 16*16*(9*3*8 + 2*9*8*8) MACs
    assert (params.count(facts).total, params.count(facts).buffers) == (1_424, 32)
    assert cost.count(facts).total == 350_208


@pytest.mark.parametrize(
    ("code", "limit", "ok"),
    [("pass", 60, True), ("raise SystemExit(3)", 60, False), ("while True: pass", 0.2, False)],
)
def test_a_run_that_fails_or_takes_too_long_is_not_ok(bench, code, limit, ok):
    assert bench["run"]([sys.executable, "-c", code], limit).ok is ok


def test_ratios_are_those_of_the_pairs(bench, monkeypatch):
    # baseline, command, baseline, ...; the first pair isn't counted
    walls = iter([1.0, 9.0, 2.0, 6.0, 1.0, 5.0, 4.0, 4.0])

    def fake(command, timeout):
        wall = next(walls)
        return bench["Run"](wall, wall, 10.0, 0)

    monkeypatch.setitem(bench["compare"].__globals__, "run", fake)
    measured = bench["compare"](["ours"], ["baseline"], 3, 1)
    assert (measured.wall, measured.wall_ratio, measured.peak_ratio) == (5.0, 3.0, 1.0)  # ratios 3, 5, 1


def test_the_memory_of_a_command_is_that_of_its_whole_tree(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    bench = runpy.run_path(str(FOLDER / "verify.py"))
    hold = "x = bytearray(b'1') * (64 << 20); import time; time.sleep(1)"
    both = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; p.wait()"
    found = bench["run"]([sys.executable, "-c", both], 60, bench["tree"])
    assert found.status == 0
    assert 128 < found.peak < 256  # two processes of 64 MiB and an interpreter each
