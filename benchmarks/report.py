"""`onnxscope report` beside other tools: time and memory of whole processes, as ratios measured in one run.

    make bench                                          VGG-19 (574 MB) and a chain of 12,000 nodes
    python benchmarks/report.py --models vgg19,mlp1.9g  other networks; mlp1.9g needs 8 GB of memory to build
    python benchmarks/report.py --tools onnxscope       no other tools
    python benchmarks/report.py --growth                also the growth from 1,000 to 100,000 nodes

Every command runs in pairs with `python -c "import onnx"`, the least that a tool built on onnx can cost.
Columns give medians over the pairs, a ratio is the median of the pairs' ratios. CPU time and peak resident
memory come from the kernel (`wait4`). Tools that aren't installed are left out; `cpu,bench` bring them all.
"""

from __future__ import annotations

import argparse
import compileall
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "bench"
IMPORT = [sys.executable, "-c", "import onnx"]
REPORT = [sys.executable, "-m", "onnxscope", "report"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""So that our modules are compiled once, as pip does for a user and did for the other tools: an editable
installation would compile all of them in every run."""


@dataclass(frozen=True)
class Run:
    """One process."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system."""
    peak: float
    """MiB."""
    status: int
    """As `subprocess` gives it: negative for a signal."""

    @property
    def ok(self) -> bool:
        """Whether it ended well and in time."""
        return self.status == 0


@dataclass(frozen=True)
class Measured:
    """A command over its pairs: medians, then medians of the ratios to the baseline of the same pair."""

    wall: float
    cpu: float
    peak: float
    wall_ratio: float
    cpu_ratio: float
    peak_ratio: float
    ok: bool


Watch: TypeAlias = "Callable[[int], AbstractContextManager[list[float]]]"
"""Watches the memory of a process group while it runs; the one entry that it yields is the peak, in MiB."""


def run(command: Sequence[str], timeout: float, watch: Watch | None = None) -> Run:
    """Run a command to its end, in a session of its own, and ask the kernel what it took.

    Peak memory is that of the largest process, or what `watch` says.
    """
    compiled()
    begin = time.perf_counter()
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=null, stderr=null, start_new_session=True, env=ENVIRONMENT)
    stop = threading.Timer(timeout, os.killpg, (process.pid, signal.SIGKILL))
    stop.start()
    with watch(process.pid) if watch else nullcontext() as seen:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        stop.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = seen[0] if seen else usage.ru_maxrss / 1024
    return Run(wall, usage.ru_utime + usage.ru_stime, peak, process.returncode)


def compare(command: Sequence[str], baseline: Sequence[str], pairs: int, timeout: float) -> Measured:
    """Run `pairs` pairs, baseline first; the first pair warms the caches and isn't counted."""
    found = []
    for _ in range(pairs + 1):
        base = run(baseline, timeout)
        found.append((base, run(command, timeout)))
        if not found[-1][1].ok:
            break
    counted = found[1:] or found
    return Measured(
        wall=median(own.wall for _, own in counted),
        cpu=median(own.cpu for _, own in counted),
        peak=median(own.peak for _, own in counted),
        wall_ratio=median(own.wall / base.wall for base, own in counted),
        cpu_ratio=median(own.cpu / base.cpu for base, own in counted),
        peak_ratio=median(own.peak / base.peak for base, own in counted),
        ok=all(own.ok for _, own in counted),
    )


@cache
def compiled() -> None:
    """Compile this checkout, as pip does with what it installs, also where the environment forbids that."""
    compileall.compile_dir(ROOT / "onnxscope", quiet=1)


def model_file(name: str) -> Path:
    """The model of that name, built on first use by a process of its own: this one must stay small.

    (The kernel counts the parent's memory at the fork towards a child's peak.)
    """
    path = CACHE / f"{name}.onnx"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        networks = ROOT / "benchmarks" / "networks.py"
        subprocess.run([sys.executable, str(networks), name, str(part)], check=True)
        part.replace(path)
    return path


def commands(path: Path) -> dict[str, list[str]]:
    """Label -> command, for every tool that is installed."""
    python, file = sys.executable, str(path)
    infer = "import sys, onnx; onnx.shape_inference.infer_shapes(onnx.load(sys.argv[1]))"
    inspect = [script("polygraphy"), "inspect", "model", file, "--show", "layers"]
    every = {
        "onnxscope report": ("onnxscope", [*REPORT, file]),
        "onnx.load": ("onnx", [python, "-c", "import sys, onnx; onnx.load(sys.argv[1])", file]),
        "onnx.load + infer_shapes": ("onnx", [python, "-c", infer, file]),
        "onnx-tool profile": ("onnx_tool", [python, "-m", "onnx_tool", "-m", "profile", "-i", file]),
        "onnxslim --inspect": ("onnxslim", [script("onnxslim"), "--inspect", file]),
        "onnxsim": ("onnxsim", [script("onnxsim"), file, str(CACHE / "onnxsim-out.onnx")]),
        "polygraphy inspect": ("polygraphy", inspect),
    }
    return {label: command for label, (module, command) in every.items() if find_spec(module)}


def script(name: str) -> str:
    """A console script of this environment."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def table(name: str, options: argparse.Namespace) -> dict[str, Measured]:
    """Measure every tool on one model and print its rows."""
    path = model_file(name)
    print(f"\n{name}: {path.stat().st_size / 1e6:,.1f} MB")
    heads = f"{'wall s':>8} {'cpu s':>8} {'peak MiB':>9}"
    print(f"{'command':28} {heads}   ratios to import onnx: wall, cpu, peak")
    found = {}
    for label, command in {"import onnx": IMPORT, **commands(path)}.items():
        if not any(word in label for word in options.tools.split(",")):
            continue
        measured = compare(command, IMPORT, options.pairs, options.timeout)
        found[label] = measured
        note = "" if measured.ok else "   failed, or stopped after the time limit"
        times = f"{measured.wall:8.3f} {measured.cpu:8.3f} {measured.peak:9.0f}"
        ratios = f"{measured.wall_ratio:7.2f} {measured.cpu_ratio:7.2f} {measured.peak_ratio:7.2f}"
        print(f"{label:28} {times}   {ratios}{note}", flush=True)
    return found


def target(text: str, value: float, limit: float) -> None:
    """Print one target."""
    print(f"{'met   ' if value <= limit else 'missed'} {value:6.2f} (limit {limit:4.2f})  {text}")


def targets(tables: dict[str, dict[str, Measured]], options: argparse.Namespace) -> None:
    """Print the targets that the measured models allow."""
    print("\ntargets")
    ours = {name: rows["onnxscope report"] for name, rows in tables.items()}
    if "vgg19" in ours:
        target("report on VGG-19, wall / import onnx", ours["vgg19"].wall_ratio, 1.3)
        target("report on VGG-19, peak / import onnx", ours["vgg19"].peak_ratio, 1.6)
    if "chain12000" in ours:
        target("report on 12,000 nodes, wall / import onnx", ours["chain12000"].wall_ratio, 3.5)
    if {"vgg19", "mlp1.9g"} <= set(ours):
        files = str(model_file("mlp1.9g")), str(model_file("vgg19"))
        large, small = ([*REPORT, file] for file in files)
        measured = compare(large, small, options.pairs, options.timeout)
        target("report, 1.9 GB / 574 MB, wall", measured.wall_ratio, 1.25)
    nothing = [sys.executable, "-c", "pass"]
    measured = compare([*REPORT[:-1], "--help"], nothing, options.pairs, options.timeout)
    target("--help, wall / python -c pass", measured.wall_ratio, 4)


def growth(options: argparse.Namespace) -> None:
    """Print wall times over the node count, start-up subtracted, and the exponent between the ends."""
    print("\ngrowth with the number of nodes, seconds beyond a report on 100 nodes")
    small = [*REPORT, str(model_file("chain100"))]
    extra = {}
    for nodes in (1_000, 10_000, 100_000):
        large = [*REPORT, str(model_file(f"chain{nodes}"))]
        limit = options.timeout
        extra[nodes] = median(run(large, limit).wall - run(small, limit).wall for _ in range(options.pairs))
        print(f"{nodes:8} {extra[nodes]:8.3f}", flush=True)
    exponent = math.log(extra[100_000] / max(extra[1_000], 1e-3)) / math.log(100)
    target("growth exponent, 1,000 to 100,000 nodes", exponent, 1.1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="time and memory of a report, beside other tools")
    parser.add_argument("--models", default="vgg19,chain12000", help="comma-separated (default: %(default)s)")
    parser.add_argument("--tools", default="", help="comma-separated parts of names (default: every tool)")
    parser.add_argument("--pairs", type=int, default=5, help="counted pairs of runs per command (default: 5)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds per run (default: 120)")
    parser.add_argument("--growth", action="store_true", help="also the growth with the number of nodes")
    options = parser.parse_args(arguments)
    tables = {name: table(name, options) for name in options.models.split(",")}
    targets(tables, options)
    if options.growth:
        growth(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
