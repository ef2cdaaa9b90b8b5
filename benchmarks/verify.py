"""`onnxscope verify` beside the naive way: time and memory of whole processes, as ratios measured in one run.

    python benchmarks/verify.py vgg16 vgg19                networks of `networks.py`, built on first use
    python benchmarks/verify.py model.onnx                 any file that can be converted
    python benchmarks/verify.py vgg16 --layers             every intermediate value compared, too
    python benchmarks/verify.py vgg16 --dense 384x384      instead: what a dense pass gains

The naive way is what everybody writes: both whole files in sessions with default options, one run each, all
outputs compared with a tolerance somebody picked. Beside it stand `verify` on that one input (`--inputs`)
and `verify --trials 1` (a seeded input of every family). Peak memory is that of the tree, parent and worker
together at one moment, sampled every 5 ms from /proc (Linux only). Columns are medians over the pairs, a
ratio is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from report import CACHE, Run, model_file, run, target

PAGE = os.sysconf("SC_PAGE_SIZE")
VERIFY = [sys.executable, "-m", "onnxscope", "verify"]


@contextmanager
def tree(session: int) -> Iterator[list[float]]:
    """Keep the largest sum of resident memory of a session's processes, in MiB."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], sum(_resident(session)) / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _resident(session: int) -> Iterator[int]:
    """Resident bytes of every process of a session. Source: proc(5), /proc/[pid]/stat, fields 6 and 24."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) >= session:
            try:
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[3]) == session:
                yield int(fields[21]) * PAGE


def naive(original: str, candidate: str, array: str) -> int:
    """Both files in default sessions, one run each; 0 where all outputs are close."""
    import numpy as np
    import onnxruntime

    value = np.load(array)
    sessions = [onnxruntime.InferenceSession(path) for path in (original, candidate)]
    found = [session.run(None, {session.get_inputs()[0].name: value}) for session in sessions]
    flat = [[np.ravel(output) for output in outputs] for outputs in found]
    return int(not all(np.allclose(a, b, 1e-3, 1e-5) for a, b in zip(*flat, strict=True)))


def prepared(name: str) -> tuple[str, str, str]:
    """(original, its conversion, one input), each made on first use by a process of its own."""
    original = Path(name) if name.endswith(".onnx") else model_file(name)
    CACHE.mkdir(parents=True, exist_ok=True)
    candidate, array = CACHE / f"{original.stem}.fcn.onnx", CACHE / f"{original.stem}.npy"
    if not candidate.exists():
        part = [sys.executable, "-m", "onnxscope", "convert", str(original), "--no-verify"]
        subprocess.run([*part, "-o", str(candidate)], check=True, stdout=subprocess.DEVNULL)
    if not array.exists():
        subprocess.run([sys.executable, __file__, "--draw", str(original), str(array)], check=True)
    return str(original), str(candidate), str(array)


def draw(path: str, array: str) -> int:
    """Write one seeded input of a model: batch 1, free sizes as `verify` would take them for images."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = onnxruntime.InferenceSession(path, options).get_inputs()[0]
    shape = [n if isinstance(n, int) else 1 if axis == 0 else 224 for axis, n in enumerate(given.shape)]
    np.save(array, np.random.default_rng(0).standard_normal(shape, np.float32))
    return 0


def measured(name: str, options: argparse.Namespace) -> dict[str, tuple[float, float, float]]:
    """Print one model's rows; label -> ratios of wall, cpu and peak to the naive way."""
    original, candidate, array = prepared(name)
    more = ["--layers"] if options.layers else []
    commands = {
        "naive": [sys.executable, __file__, "--naive", original, candidate, array],
        "verify, that input": [*VERIFY, original, candidate, "--inputs", array, *more],
        "verify --trials 1": [*VERIFY, original, candidate, "--trials", "1", *more],
    }
    turns = [
        {label: run(command, options.timeout, tree) for label, command in commands.items()}
        for _ in range(options.pairs)
    ]
    print(f"\n{name}: {os.path.getsize(original) / 1e6:,.1f} MB, {options.pairs} pairs")
    print(f"{'':20} {'wall s':>8} {'cpu s':>8} {'peak MiB':>9}   ratios to naive: wall, cpu, peak")
    return {label: row(label, turns) for label in commands}


def dense(name: str, size: str, timeout: float) -> None:
    """Print what one dense pass gains over the original on all crops, as predicted and as measured."""
    original, candidate, array = prepared(name)
    command = [*VERIFY, original, candidate, "--inputs", array, "--dense", size, "--format", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=timeout, check=True)
    found = json.loads(done.stdout)["runs"][0]["dense"][0]["speed"]
    crops, whole = found["on_crops"], found["dense"]
    print(f"\n{name} at {size}: {found['crops']} crops, {found['timed']} timed, {found['runs']} turns")
    for label, part in (("all crops", crops), ("one dense pass", whole)):
        print(f"{label:20} {part['median_ms']:9.1f} ms ({part['low_ms']:.1f} to {part['high_ms']:.1f})")
    print(f"speed-up             {found['predicted']:.2f} predicted, {found['measured']:.2f} measured")
    gap = abs(found["measured"] / found["predicted"] - 1)
    target(f"speed-up of {name} at {size}, |measured / predicted - 1|", gap, 0.15)


def row(label: str, turns: Sequence[dict[str, Run]]) -> tuple[float, float, float]:
    """Print the medians of one command over the pairs, and give its ratios to the naive way."""
    own, base = [turn[label] for turn in turns], [turn["naive"] for turn in turns]
    wall, cpu, peak = (median(getattr(one, part) for one in own) for part in ("wall", "cpu", "peak"))
    ratios = (
        median(a.wall / b.wall for a, b in zip(own, base, strict=True)),
        median(a.cpu / b.cpu for a, b in zip(own, base, strict=True)),
        median(a.peak / max(b.peak, 1) for a, b in zip(own, base, strict=True)),
    )
    failed = [one.status for one in own if one.status]
    note = f"   exit {failed}" if failed else ""
    shown = " ".join(f"{ratio:7.2f}" for ratio in ratios)
    print(f"{label:20} {wall:8.2f} {cpu:8.2f} {peak:9.0f}   {shown}{note}", flush=True)
    return ratios


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="time and memory of a verification, beside the naive way")
    parser.add_argument("models", nargs="+", help="a network of networks.py, or an .onnx file")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each command (default: 5)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds per run (default: 300)")
    parser.add_argument("--layers", action="store_true", help="compare every intermediate value")
    parser.add_argument("--dense", metavar="HxW", help="measure a dense pass at this size instead")
    parser.add_argument("--naive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--draw", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.naive:
        return naive(*options.models)
    if options.draw:
        return draw(*options.models)
    if options.dense:
        for name in options.models:
            dense(name, options.dense, options.timeout)
        return 0
    found = {name: measured(name, options) for name in options.models}
    for name, ratios in found.items():
        wall, _, peak = ratios["verify, that input"]
        target(f"verify on {name}, one trial, wall / naive", wall, 0.3)
        target(f"verify on {name}, one trial, peak / naive", peak, 0.45)
    return 0


if __name__ == "__main__":
    sys.exit(main())
