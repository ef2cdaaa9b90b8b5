"""False alarms and misses of `onnxscope verify` over whole files: right conversions, then every sabotage.

    make sweep                                            both, every graph under 60 MB, 20 seeds
    python tests/proof_sweep.py --right --seed 500 MODEL...
    python tests/proof_sweep.py --wrong --behind PRelu    heads that get one more op, and sabotages of that op
    python tests/proof_sweep.py --table sweep.jsonl       the counts of what was run so far

Graphs are those of the corpus (see `corpus.py`) or the files named. Each is converted to a map and to a
vector and verified with many seeds: whatever fails is a false alarm. Then the map is broken, one change at a
time (`sabotages.py`): whatever passes is a miss, and the proof must name the broken place. Every verification
is one line of JSON in --out, flushed at once; one that stands there is not run again, so a sweep that was cut
off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import onnx
from onnx import helper, numpy_helper
from sabotages import Sabotage, sabotages

import onnxscope
import onnxscope.proof.verify as proving
from onnxscope.errors import ConversionFailed, OnnxscopeError
from onnxscope.proof.result import Request, Verification
from onnxscope.proof.verify import verify
from onnxscope.proof.worker import Worker

MODES = ("map", "vector")
DESIGN = (
    *(
        "one weight zeroed (f",
        "two weights swapped (f",
        "smallest weight zeroed (f",
        "weights through float16 (f",
    ),
    *(
        "one bias off by 0.001 (f",
        "rows permuted (f",
        "Softmax",
        "LogSoftmax",
        "strides of 2 (f",
        "kernel transposed",
    ),
)
"""Beginnings of the sabotages that every head must catch, for --design."""
BEHIND = {
    "Softmax": "Softmax",
    "LogSoftmax": "LogSoftmax",
    "Tanh": "Tanh",
    "Sigmoid": "Sigmoid",
    "PRelu": "PRelu",
    "BatchNormalization": "batch norm",
}
"""Ops that --behind puts behind outputs -> the beginning of their sabotages."""
PARAMETERS = {"PRelu": ("slope",), "BatchNormalization": ("scale", "bias", "mean", "variance")}
LEFT_OUT = (
    "largest",
    "channels swapped",
    "one weight off",
    "kernel turned",
    "one bias off by 1e-05",
    "dilations",
)
"""Sabotages that --less leaves out, with all of the last layer: neighbours of others."""


class Log:
    """Lines of JSON, one per verification, keyed by what was verified."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.done = {self._key(json.loads(line)) for line in lines}

    @staticmethod
    def _key(row: dict[str, Any]) -> tuple[object, ...]:
        return tuple(row.get(name) for name in ("kind", "model", "mode", "seed", "what"))

    def has(self, **row: object) -> bool:
        return self._key(row) in self.done

    def add(self, **row: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.done.add(self._key(row))


class Shared(Worker):
    """One worker process for all verifications: starting one costs more than most of them."""

    kept: Shared | None = None

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def shared(timeout: float | None) -> Iterator[Worker]:
    """In place of `worker.started`."""
    if Shared.kept is None or not Shared.kept.alive:
        Shared.kept = Shared(timeout)
    with tempfile.TemporaryDirectory(prefix="onnxscope-") as Shared.kept.folder:
        yield Shared.kept


def right(path: Path, name: str, given: argparse.Namespace, log: Log, folder: str) -> None:
    """Both conversions of one graph, verified with `seeds` seeds in runs of `per_run`."""
    for mode in given.modes:
        seeds = range(given.seed, given.seed + given.seeds, given.per_run)
        wanted = [s for s in seeds if not log.has(kind="right", model=name, mode=mode, seed=s, what=None)]
        target = converted(path, mode, folder) if wanted else None
        if wanted and target is None:
            log.add(kind="right", model=name, mode=mode, seed=wanted[0], ok=None)
            continue
        for seed in wanted:
            row = {"kind": "right", "model": name, "mode": mode, "seed": seed, "trials": given.per_run}
            log.add(**row, **judged(path, target or "", seed, given.per_run))


def converted(path: Path, mode: str, folder: str) -> str | None:
    """The conversion's path; None where there is nothing to convert."""
    target = f"{folder}/{mode}.onnx"
    try:
        onnxscope.convert(str(path), target, verify=False, force=True, output=mode)
    except ConversionFailed:
        return None
    return target


def judged(path: Path, target: str, seed: int, trials: int) -> dict[str, Any]:
    """The verdict in short."""
    start = time.perf_counter()
    try:
        found = verify(Request(str(path), target, trials=trials, seed=seed))
    except OnnxscopeError as error:  # exit code 4: the runtime refuses the file, and says at which node
        nodes = re.findall(r"Name:'([^']*?)(?:/Conv)?'", str(error))
        return {"ok": False, "reason": f"error: {error}"[:300], "named": nodes}
    except Exception as error:  # our own mistake: counted, and never taken for a catch
        return {"ok": True, "reason": f"CRASH {error!r}"[:300], "named": []}
    outputs = [row for run in found.runs for row in run.outputs]
    worst = max((row.would_pass_at for row in outputs), default=0.0)
    seconds = round(time.perf_counter() - start, 2)
    return {
        "ok": found.equivalent,
        "reason": found.reason,
        "named": named(found),
        "worst": round(worst, 3),
        "seconds": seconds,
    }


def named(found: Verification) -> list[str]:
    """Every place that a failed proof names: the first divergence, and the weights that changed."""
    places = [run.first_divergence.split(" (")[0] for run in found.runs if run.first_divergence]
    for note in found.notes:
        if note.startswith("weights changed: "):
            places += note.removeprefix("weights changed: ").split(", ")
    return places


def wrong(path: Path, name: str, given: argparse.Namespace, log: Log, folder: str) -> None:
    """Every sabotage of the map, else of the vector."""
    target = converted(path, "map", folder)
    alone = target is None  # a vector has one cell at every size that it takes: a stride changes nothing
    target = target or converted(path, "vector", folder)
    if target is None:
        return
    for sabotage in sabotages(target, given.seed):
        if alone and sabotage.what.startswith("strides"):
            continue
        if given.design and not sabotage.what.startswith(DESIGN):
            continue
        if given.behind and not sabotage.what.startswith(BEHIND[given.behind]):
            continue
        if given.less and (sabotage.what.startswith(LEFT_OUT) or "(last" in sabotage.what):
            continue
        row = {"kind": "sabotage", "model": name, "mode": "map", "seed": given.seed, "what": sabotage.what}
        if not log.has(**row):
            log.add(**row, **_broken(path, sabotage, given, folder))


def _broken(path: Path, sabotage: Sabotage, given: argparse.Namespace, folder: str) -> dict[str, Any]:
    target = f"{folder}/wrong.onnx"
    onnx.save_model(sabotage.model, target)
    found = judged(path, target, given.seed, 1)
    numbers = sabotage.places[0] in found["named"][:1]
    return {**found, "place": bool(set(found["named"]) & set(sabotage.places)), "numbers": numbers}


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Both counts: false alarms, then misses per sabotage."""
    good = [row for row in rows if row["kind"] == "right" and row["ok"] is not None]
    alarms = [row for row in good if not row["ok"] or (row["reason"] or "").startswith("CRASH")]
    seeds = sum(row["trials"] for row in good)
    files = {(row["model"], row["mode"]) for row in good}
    yield f"right conversions: {len(files)} of {len({name for name, _ in files})} graphs"
    yield f"verifications: {len(good)} with {seeds} seeds in all; false alarms: {len(alarms)}"
    yield from (
        f"  FALSE ALARM {row['model']} {row['mode']} seed {row['seed']}: {row['reason']}" for row in alarms
    )
    bad = [row for row in rows if row["kind"] == "sabotage"]
    heads, missed = {row["model"] for row in bad}, sum(row["ok"] for row in bad)
    yield f"sabotages: {len(bad)} on {len(heads)} graphs; missed: {missed}"
    by: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in bad:
        by[row["what"]].append(row)
    yield "\n| sabotage | tried | caught | place named | numbers alone name it |\n|--|--|--|--|--|"
    for what, found in by.items():
        caught, place = sum(not r["ok"] for r in found), sum(r["place"] for r in found)
        yield f"| {what} | {len(found)} | {caught} | {place} | {sum(r['numbers'] for r in found)} |"
    for row in bad:
        if row["ok"] or not row["place"]:
            state = "MISSED" if row["ok"] else "place not named"
            yield f"  {state} {row['model']}: {row['what']} ({row['reason']}; named {row['named']})"


def graphs(given: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """(name, file) of every graph asked for."""
    files = [Path(name) for name in given.models if name.endswith(".onnx")]
    if files:
        yield from ((file.stem, file) for file in files)
        return
    home = corpus.find()
    if home is None:
        sys.exit("no corpus: set ONNXSCOPE_CORPUS to its folder, or name .onnx files")
    yield from ((file.stem, file) for file in sorted((home / "real").glob("*.onnx")))
    for entry in corpus.entries(home):
        if entry.hydrated_bytes <= given.below * 1e6 and all(word in entry.name for word in given.models):
            yield entry.name, Path(entry.model().path)


def behind(path: Path, op: str, folder: str) -> Path:
    """The graph with one more op behind every output [N, F] that a layer makes: few heads have each."""
    model = onnx.load(path)
    made = {output: node for node in model.graph.node for output in node.output}
    draw = np.random.default_rng(0)
    for info in model.graph.output:
        node = made.get(info.name)
        dims = info.type.tensor_type.shape.dim
        if node is None or node.op_type not in ("Gemm", "MatMul", "Add") or len(dims) != 2:
            continue
        sums, width = f"{info.name}_sums", dims[1].dim_value
        if op in PARAMETERS and not width:
            continue
        for each in model.graph.node:
            for names in (each.input, each.output):
                names[:] = [sums if name == info.name else name for name in names]
        named = [f"{info.name}_{name}" for name in PARAMETERS.get(op, ())]
        arrays = [draw.uniform(0.1, 1, width).astype(np.float32) for _ in named]
        model.graph.initializer.extend(map(numpy_helper.from_array, arrays, named))
        options = {"axis": 1} if op.endswith("Softmax") else {}
        model.graph.node.append(helper.make_node(op, [sums, *named], [info.name], **options))
    target = Path(folder, "behind.onnx")
    onnx.save_model(model, target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", help="files, or words that a corpus name must hold")
    parser.add_argument("--right", action="store_true", help="right conversions only")
    parser.add_argument("--wrong", action="store_true", help="sabotages only")
    parser.add_argument("--design", action="store_true", help="the ten most telling sabotages alone")
    parser.add_argument(
        "--behind", metavar="OP", choices=BEHIND, help="only sabotages of this op, put behind outputs"
    )
    parser.add_argument("--less", action="store_true", help="one sabotage of each kind, on the first layer")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000 * 1000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--per-run", type=int, default=5, help="seeds per verification")
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--below", type=float, default=60.0, help="largest file in MB")
    parser.add_argument("--out", type=Path, default=corpus.ROOT / ".cache" / "sweep.jsonl")
    parser.add_argument("--table", type=Path, nargs="+", help="print the counts of these files and stop")
    given = parser.parse_args()
    if given.table is None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        print(f"seed {given.seed}", file=sys.stderr)
        log = Log(given.out)
        proving.started = shared  # type: ignore[attr-defined]  # one worker for all
        for name, path in graphs(given):
            with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
                print(name, file=sys.stderr, flush=True)
                if given.behind:
                    name, path = f"{name} and {given.behind}", behind(path, given.behind, folder)
                if not given.wrong:
                    right(path, name, given, log, folder)
                if not given.right:
                    wrong(path, name, given, log, folder)
    rows = [json.loads(line) for file in given.table or [given.out] for line in file.read_text().splitlines()]
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
