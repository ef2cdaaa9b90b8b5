"""Forms of a converted head in onnxruntime: time at native size and on larger maps, memory and start.

    python benchmarks/heads.py                               every head, 1 thread
    python benchmarks/heads.py --heads vgg,alex --threads 1,2
    python benchmarks/heads.py --memory --heads vgg          one process per form: start, heap, peak

Every head stands behind a random map, its input; `alexnet` is a whole network. The files are those that
`onnxscope convert --form ...` writes. All sessions of a row run one after the other, again and again; a
number is the median of the ratios within one round: to the original head at its native size (below 1 is
faster), to `--form conv` on larger maps, or to `rows` where there is no conv. `auto` is named per row: for a
declared batch, then for a free one. With one thread times are CPU times of that thread.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from networks import Builder
from onnx import ModelProto, save_model

import onnxscope

FORMS = ("conv", "fold", "interleave", "rows")
FREE = "N"


@dataclass(frozen=True)
class Head:
    """Fully connected layers behind a map [N, channels, side, side]."""

    channels: int
    side: int
    widths: tuple[int, ...]
    pool: bool = False
    """A global average pool in front, in place of the window."""
    kind: str = "float"
    """float, qdq, qoperator (QGemm) or dynamic (DynamicQuantizeLinear and MatMulInteger)."""
    network: bool = False
    """AlexNet in front of it: the input is an image."""

    @property
    def weight(self) -> float:
        """MB of the first layer in float32."""
        return 4e-6 * self.channels * (1 if self.pool else self.side**2) * self.widths[0]


HEADS = {
    "vgg": Head(512, 7, (4096, 4096, 1000)),
    "alex": Head(256, 6, (4096, 4096, 1000)),
    "gap": Head(512, 7, (1000,), pool=True),
    "six": Head(6, 5, (100, 10)),
    "lenet": Head(16, 5, (120, 84, 10)),
    "w0.8MB": Head(32, 5, (256, 10)),
    "w3MB": Head(64, 5, (512, 10)),
    "w8MB": Head(128, 4, (1024, 10)),
    "w19MB": Head(128, 6, (1024, 10)),
    "w38MB": Head(256, 6, (1024, 10)),
    "int8-19MB": Head(128, 6, (1024, 10), kind="dynamic"),
    "qdq-19MB": Head(128, 6, (1024, 10), kind="qdq"),
    "qop-19MB": Head(128, 6, (1024, 10), kind="qoperator"),
    "alexnet": Head(256, 6, (4096, 4096, 1000), network=True),
}
PIXELS, STEP = 224, 32
"""AlexNet: pixels for the native 6x6 map, and for one more cell of its map."""


def original(head: Head, batch: int | str) -> ModelProto:
    """The head as exporters write it: Flatten, then Gemm and Relu in turn."""
    net = Builder()
    value = _alexnet(net) if head.network else "input"
    side = PIXELS if head.network else head.side
    value = net.node("GlobalAveragePool", value) if head.pool else value
    value = net.node("Flatten", value)
    before = head.channels * (1 if head.pool else head.side**2)
    for place, width in enumerate(head.widths):
        value = net.node("Gemm", value, net.weight(width, before), net.weight(width), transB=1)
        value = net.node("Relu", value) if place + 1 < len(head.widths) else value
        before = width
    channels = 3 if head.network else head.channels
    return net.model("head", [batch, channels, side, side], value, [batch, before])


def _alexnet(net: Builder) -> str:
    value, channels = "input", 3
    for width, kernel, stride, pad, pool in (
        (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False),
        (256, 3, 1, 1, True),
    ):  # fmt: skip
        weights = net.weight(width, channels, kernel, kernel), net.weight(width)
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        value = net.node("Conv", value, *weights, **sizes)
        value = net.node("Relu", value)
        value = net.node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2]) if pool else value
        channels = width
    return value


class Files:
    """The original and its conversions, written to a folder when they are asked for."""

    def __init__(self, head: Head, folder: Path) -> None:
        self.head, self.folder = head, folder
        self.forms: dict[str, str] = {}
        """What `auto` took, by batch."""

    def original(self, batch: int | str = FREE) -> Path:
        """The original with a free or declared batch."""
        path = self.folder / f"original-{batch}.onnx"
        if not path.exists():
            save_model(original(self.head, batch), path)
            self._quantized(path, batch if isinstance(batch, int) else 1)
        return path

    def _quantized(self, path: Path, batch: int) -> None:
        from onnxruntime import quantization

        logging.disable(logging.WARNING)  # advice on preprocessing
        if self.head.kind == "dynamic":
            quantization.quantize_dynamic(path, path)
        formats = {"qdq": quantization.QuantFormat.QDQ, "qoperator": quantization.QuantFormat.QOperator}
        if self.head.kind in formats:
            calibration = _Calibration(self.head, batch)
            quantization.quantize_static(path, path, calibration, quant_format=formats[self.head.kind])

    def converted(self, form: str, batch: int | str = FREE) -> Path | None:
        """The conversion in that form; None where the head, or a layer of it, takes another one."""
        path = self.folder / f"{form}-{batch}.onnx"
        if not path.exists():
            try:
                found = onnxscope.convert(str(self.original(batch)), path, form=form, verify=False)
            except onnxscope.ConversionFailed:
                return None
            taken = {layer["form"] for layer in found.converted}
            self.forms[f"{form}-{batch}"] = "+".join(sorted(taken))
        return path if form == "auto" or self.forms[f"{form}-{batch}"] == form else None


class _Calibration:
    """One random map."""

    def __init__(self, head: Head, batch: int) -> None:
        self.waiting = [{"input": image(head, batch, head.side, head.side)}]

    def get_next(self) -> dict[str, Any] | None:
        """The next input, or None."""
        return self.waiting.pop() if self.waiting else None


def image(head: Head, batch: int, height: int, width: int) -> Any:
    """Random numbers behind a Relu whose map has that size; an image for a whole network."""
    shape = (batch, head.channels, height, width)
    if head.network:
        height, width = (PIXELS + STEP * (size - head.side) for size in (height, width))
        shape = (batch, 3, height, width)
    return np.maximum(np.random.default_rng(3).standard_normal(shape, np.float32), 0)


def session(path: Path, threads: int) -> Any:
    """A session with onnxruntime's defaults, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def sizes(side: int) -> list[tuple[int, int, int]]:
    """(batch, height, width) of the maps: native, a little larger, 12x12 and 20x20."""
    native = [(batch, side, side) for batch in (1, 4, 8)]
    near = [(batch, side + 2, side + 4) for batch in (1, 4)]
    return [*native, *near, (1, 12, 12), (4, 12, 12), (1, 20, 20), (4, 20, 20)]


class Bench:
    """The sessions of one head; those of a declared batch are held for one batch at a time."""

    def __init__(self, files: Files, threads: int) -> None:
        self.files, self.threads = files, threads
        self.free = {"original": session(files.original(), threads)}
        for form in ("conv", "fold", "rows"):
            self._open(self.free, form, FREE)
        self.declared: dict[str, Any] = {}
        self.batch = 1
        files.converted("auto")
        files.converted("auto", 1)

    def _open(self, sessions: dict[str, Any], form: str, batch: int | str) -> None:
        path = self.files.converted(form, batch)
        if path is not None:
            sessions[form] = session(path, self.threads)

    def sessions(self, batch: int, native: bool) -> dict[str, Any]:
        """All that take such a map."""
        if batch != self.batch:
            self.declared, self.batch = {}, batch
            self._open(self.declared, "interleave", batch)
            self.files.converted("auto", batch)
        found = {**self.free, **self.declared}
        return found if native else {name: one for name, one in found.items() if name != "original"}

    def row(self, batch: int, height: int, width: int, rounds: int) -> dict[str, float]:
        """Median ratios to the first session, whose own entry holds milliseconds."""
        head = self.files.head
        found = self.sessions(batch, (height, width) == (head.side, head.side))
        base = next(iter(found))
        feed = {"input": image(head, batch, height, width)}
        calls: dict[str, Callable[[], Any]] = {
            name: partial(one.run, None, feed) for name, one in found.items()
        }
        times = interleaved(calls, rounds, time.thread_time if self.threads == 1 else time.perf_counter)
        ratios = {
            name: median(a / b for a, b in zip(taken, times[base], strict=True))
            for name, taken in times.items()
        }
        return ratios | {base: 1e3 * median(times[base])}


def interleaved(
    calls: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each call, one after the other in every round; the first round isn't counted.

    With one thread `clock` is that thread's CPU time, which other work on the machine hardly touches.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            begin = clock()
            call()
            if turn:
                times[name].append(clock() - begin)
    return times


def timed(name: str, threads: int, rounds: int, folder: Path, widest: int) -> None:
    """Print the rows of one head."""
    head = HEADS[name]
    bench = Bench(Files(head, folder), threads)
    print(f"\n{name}: first weight {head.weight:.2g} MB, {head.kind}, {threads} threads\n")
    print(f"| map | base, ms | {' | '.join(FORMS)} | auto: declared batch, free |")
    print("|--" * (3 + len(FORMS)) + "|")
    for batch, height, width in sizes(head.side):
        if width > widest:
            continue
        found = bench.row(batch, height, width, rounds if head.weight > 4 else 8 * rounds)
        base = next(iter(found))
        cells = [f"{found[form]:.2f}" if form in found and form != base else "-" for form in FORMS]
        taken = [bench.files.forms.get(f"auto-{n}", "-") for n in (batch, FREE)]
        shown = f"{batch} x {height}x{width} | {base} {found[base]:.3g} | {' | '.join(cells)}"
        print(f"| {shown} | {', '.join(taken)} |", flush=True)


def resident() -> dict[str, int]:
    """MiB of this process: heap, mapped files, and the peak of both. Source: proc(5), /proc/[pid]/status."""
    lines = [line.split(":") for line in Path("/proc/self/status").read_text().splitlines()]
    wanted = {"RssAnon": "heap", "RssFile": "mapped", "VmHWM": "peak"}
    return {wanted[key]: int(value.split()[0]) // 1024 for key, value in lines if key in wanted}


def started(path: str) -> None:
    """In a process of its own: start a session and say what that took, as JSON."""
    import_module("onnxruntime")  # not counted

    begin = time.perf_counter()
    kept = session(Path(path), 1)
    print(json.dumps({"seconds": time.perf_counter() - begin, **resident()}))
    del kept


def memory(name: str, rounds: int, folder: Path) -> None:
    """Print start and memory of every form of one head, as ratios to the original in the same round."""
    files = Files(HEADS[name], folder)
    paths = {"original": files.original(4), **{form: files.converted(form, 4) for form in FORMS}}
    given = {form: path for form, path in paths.items() if path is not None}
    found: dict[str, list[dict[str, float]]] = {form: [] for form in given}
    for _ in range(rounds):
        for form, path in given.items():
            child = [sys.executable, __file__, "--start", str(path)]
            found[form].append(json.loads(subprocess.run(child, check=True, capture_output=True).stdout))
    print(
        f"\n{name}: one session, 1 thread, batch 4\n\n| form | start s | heap MiB | peak MiB |\n|--|--|--|--|"
    )
    for form, runs in found.items():
        cells = [_beside(runs, found["original"], key) for key in ("seconds", "heap", "peak")]
        print(f"| {form} | {' | '.join(cells)} |", flush=True)


def _beside(runs: Sequence[dict[str, float]], base: Sequence[dict[str, float]], key: str) -> str:
    ratio = median(run[key] / one[key] for run, one in zip(runs, base, strict=True))
    return f"{median(run[key] for run in runs):.3g} ({ratio:.2f}x)"


def main(given: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", default=",".join(HEADS), help=", ".join(HEADS))
    parser.add_argument("--threads", default="1", help="numbers of threads, for example 1,2")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--widest", type=int, default=20, help="leave out wider maps (default: %(default)s)")
    parser.add_argument("--memory", action="store_true", help="start and memory in place of times")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    asked = parser.parse_args(given)
    if asked.start:
        started(asked.start)
        return 0
    for name in asked.heads.split(","):
        with tempfile.TemporaryDirectory() as folder:
            if asked.memory:
                memory(name, asked.rounds, Path(folder))
                continue
            for threads in asked.threads.split(","):
                timed(name, int(threads), asked.rounds, Path(folder), asked.widest)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
