"""The corpus of exporter graphs against what the frameworks and onnxruntime measured.

    make corpus                               every graph, then totals; exit 1 where a bar is missed
    python tests/corpus.py [--hollow] [NAME]  graphs whose name holds NAME; --hollow: without large weights

The corpus is a folder with `index.csv`, `hydrate.py` (skeleton to full model), `skeletons/` and `truth/`; the
environment variable ONNXSCOPE_CORPUS names it. Full models are kept in `.cache/corpus` (about 7 GB for all).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx

from onnxscope.analysis import cost, params
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.shapes import infer
from onnxscope.expr import Expr, Size, Symbol, symbols, terms_of
from onnxscope.files.read import load, loads
from onnxscope.graph import Model
from onnxscope.ops.value import bind_shape

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "corpus"
KNOWN_SHARE = 0.995
"""Bar: the share of measured shapes that must be answered."""
RECURRENT = {"LSTM", "GRU", "RNN"}
DROPPED = {"vit_b_16.dynamo.op18.batch": 12 * 768}
"""Numbers that an exporter left out: output biases of 12 attention layers of 768, zero in a fresh network."""


def find() -> Path | None:
    """The corpus folder, or None where there is none."""
    folder = Path(os.environ.get("ONNXSCOPE_CORPUS") or ROOT / "../shared/corpus")
    return folder.resolve() if (folder / "index.csv").is_file() else None


@dataclass(frozen=True)
class Entry:
    """One graph of the corpus."""

    corpus: Path
    name: str
    hydrated_bytes: int
    framework_macs: int | None
    """MACs at batch 1 as torch counts them; None where no framework told."""

    @property
    def truth(self) -> dict[str, Any]:
        """What was measured: `runs`, and the framework's own counts."""
        return _truth(self.corpus, self.name)

    def model(self, *, hollow: bool = False) -> Model:
        """The full model, hydrated into the cache on first use; or in memory, its large weights left out."""
        skeleton = self.corpus / "skeletons" / f"{self.name}.skeleton.onnx"
        if hollow:
            return loads(_hollow(self.corpus).hydrate_model(onnx.load_model(skeleton)).SerializeToString())
        path = CACHE / f"{self.name}.onnx"
        if not path.exists() or path.stat().st_size != self.hydrated_bytes:
            CACHE.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            onnx.save_model(_hydrate(self.corpus).hydrate_model(onnx.load_model(skeleton)), part)
            part.replace(path)
        return load(path)


def entries(corpus: Path) -> list[Entry]:
    """Every graph, smallest first."""
    with (corpus / "index.csv").open(newline="") as file:
        rows = [
            Entry(corpus, row["name"], int(row["hydrated_bytes"]), int(row["framework_macs"] or 0) or None)
            for row in csv.DictReader(file)
        ]
    return sorted(rows, key=lambda entry: entry.hydrated_bytes)


@cache
def _truth(corpus: Path, name: str) -> dict[str, Any]:
    plain = corpus / "truth" / f"{name}.truth.json"
    packed = plain.with_suffix(".json.gz")
    text = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def _hydrate(corpus: Path) -> ModuleType:
    return _module(corpus)


@cache
def _hollow(corpus: Path) -> ModuleType:
    """The hydrating program without its numbers: each large weight becomes an absent external tensor."""
    module = _module(corpus)
    vars(module)["make_array"] = lambda record: record
    vars(module)["numpy_helper"] = SimpleNamespace(from_array=_absent)
    return module


def _absent(record: Mapping[str, Any], name: str) -> onnx.TensorProto:
    dtype = onnx.TensorProto.DataType.Value(record["dtype"])
    tensor = onnx.TensorProto(name=name, dims=record["shape"], data_type=dtype)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="left-out.bin")
    return tensor


def _module(corpus: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("hydrate", corpus / "hydrate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Tally:
    """Answers about measured shapes."""

    known: int = 0
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """value: ours against measured."""

    def add(self, name: str, ours: Sequence[Size] | None, measured: Sequence[int]) -> None:
        """Judge one shape; one that is partly known is wrong where a known part differs, else unknown."""
        if ours is not None and tuple(ours) == tuple(measured):
            self.known += 1
        elif ours is None or _could_be(ours, measured):
            self.unknown.append(name)
        else:
            self.wrong.append(f"{name}: {tuple(map(str, ours))} against {tuple(measured)}")


def _could_be(ours: Sequence[Size], measured: Sequence[int]) -> bool:
    same_rank = len(ours) == len(measured)
    return same_rank and all(isinstance(a, Expr) or a == b for a, b in zip(ours, measured, strict=True))


@dataclass
class Count:
    """One of our counts against the framework's."""

    ours: Size
    expected: int | None
    reason: str = ""
    """Why there is nothing to compare with."""

    @property
    def ok(self) -> bool:
        """True where equal, or where there is nothing to compare with."""
        return self.expected is None or self.ours == self.expected


@dataclass
class Result:
    """Everything checked on one graph."""

    name: str
    given: Tally
    """Every input size given (`--shape`)."""
    bound: Tally
    """Free sizes left as symbols, then replaced in the answer."""
    dims: Tally | None
    """Free sizes bound by name (`--dim`); None where the file names none."""
    params: Count
    macs: Count
    problems: int

    @property
    def tallies(self) -> list[Tally]:
        """Those that were taken."""
        return [tally for tally in (self.given, self.bound, self.dims) if tally is not None]


def check(entry: Entry, *, hollow: bool = False) -> Result:
    """Answer every measured run of a graph in each way of binding its free sizes."""
    model, truth = entry.model(hollow=hollow), entry.truth
    free = infer(model)
    given, bound, dims = Tally(), Tally(), Tally()
    first: Facts | None = None
    for run in truth["runs"]:
        facts = infer(model, shapes=run["inputs"])
        first = first or facts
        sizes = free_sizes(free, run["inputs"])
        named = infer(model, dims={name: sizes[name] for name in named_sizes(model) if name in sizes})
        for name, shape in run["values"].items():
            given.add(name, facts.value(name).shape, shape)
            bound.add(name, bind_shape(free.value(name).shape, dict(sizes)), shape)
            dims.add(name, named.value(name).shape, shape)
    assert first is not None
    all_named = set(free_sizes(free, truth["runs"][0]["inputs"])) <= set(named_sizes(model))
    return Result(
        entry.name,
        given,
        bound,
        dims if all_named and named_sizes(model) else None,
        Count(params.count(first).trainable, *expected_params(entry)),
        Count(cost.count(first).total, *expected_macs(entry)),
        len(first.problems),
    )


def free_sizes(facts: Facts, inputs: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Symbol -> size, from the symbolic input shapes and the sizes a run was fed with."""
    found: dict[str, int] = {}
    for name, sizes in inputs.items():
        for ours, measured in zip(facts.value(name).shape or (), sizes, strict=False):
            if symbols(ours):
                found[_lone_symbol(ours).name] = measured
    return found


def _lone_symbol(size: Size) -> Symbol:
    ((monomial, _),) = terms_of(size)
    (atom,) = monomial
    assert isinstance(atom, Symbol)
    return atom


def named_sizes(model: Model) -> set[str]:
    """Names that the file gives to the free sizes of its inputs."""
    return {d for info in model.graph.inputs for d in info.type.shape or () if isinstance(d, str) and d}


def expected_params(entry: Entry) -> tuple[int | None, str]:
    """The trainable count to be met, or None and why there is none.

    A folded BatchNorm leaves the convolution's weight and one bias: its scale is gone, and so is the bias
    that the convolution may have had. Source: torch's and Keras's own counts in the truth files.
    """
    truth = entry.truth
    for framework in ("torch", "keras", "sklearn"):
        if framework in truth:
            break
    else:
        return None, "no framework told"
    counts = truth[framework]
    trainable = counts.get("trainable_params", counts["total_params"])
    if not (counts.get("buffers") or trainable != counts["total_params"]):
        return trainable - DROPPED.get(entry.name, 0), ""
    layers = _layers(entry)
    if framework == "keras" or truth["ops"].get("BatchNormalization") or not layers:
        return None, "some BatchNorm folded"
    return trainable - sum(_folded(layers)), ""


def _layers(entry: Entry) -> list[dict[str, Any]]:
    """The framework's layers in execution order; a derived graph (quantized, float16) has its origin's."""
    name = entry.name
    while name.count(".") >= 3:
        framework = _truth(entry.corpus, name)
        layers: list[dict[str, Any]] = framework.get("torch", {}).get("layers", [])
        if layers:
            return layers
        name = name.rpartition(".")[0]
    return []


def _folded(layers: list[dict[str, Any]]) -> Iterator[int]:
    """Per folded BatchNorm, the numbers that disappear."""
    for before, layer in pairwise(layers):
        if layer["type"].startswith("BatchNorm"):
            (channels,) = layer["shapes"]["weight"]
            yield channels * (2 if "bias" in before.get("shapes", {}) else 1)


def expected_macs(entry: Entry) -> tuple[int | None, str]:
    """The MACs to be met at batch 1, or None and why there are none."""
    if entry.framework_macs is None:
        return None, "no framework told"
    if RECURRENT & set(entry.truth["ops"]):
        return None, "recurrent: the framework counts none"
    return entry.framework_macs, ""


def row(result: Result) -> str:
    """One line of the table."""
    shapes = " ".join(_tally(tally) for tally in (result.given, result.bound, result.dims))
    counts = f"{_count(result.params):>26} {_count(result.macs):>34}"
    return f"{result.name:48} {shapes} {counts} {result.problems:>4}"


def _tally(tally: Tally | None) -> str:
    return f"{'-':>14}" if tally is None else f"{tally.known:5}/{len(tally.unknown):3}/{len(tally.wrong):3} "


def _count(count: Count) -> str:
    if count.expected is None:
        return f"{count.ours} ({count.reason.split(':')[0]})"
    return f"{count.ours} =" if count.ok else f"{count.ours} not {count.expected}"


def failures(results: Sequence[Result]) -> list[str]:
    """What misses a bar, in words; empty where all is well."""
    found = [f"{r.name}: {text}" for r in results for tally in r.tallies for text in tally.wrong[:3]]
    for r in results:
        counts = (("parameters", r.params), ("MACs", r.macs))
        found += [f"{r.name}: {c.ours} {what}, not {c.expected}" for what, c in counts if not c.ok]
    for way in ("given", "bound", "dims"):
        tallies = [tally for r in results if (tally := getattr(r, way)) is not None]
        known, unknown = sum(t.known for t in tallies), sum(len(t.unknown) for t in tallies)
        if known < KNOWN_SHARE * (known + unknown):
            found.append(f"sizes {way}: only {known} of {known + unknown} shapes known")
    return found


def summary(results: Sequence[Result]) -> str:
    """Totals over all graphs."""
    lines = []
    for way, text in (("given", "by --shape"), ("bound", "symbolic, then bound"), ("dims", "by --dim")):
        tallies = [tally for r in results if (tally := getattr(r, way)) is not None]
        known, unknown = sum(t.known for t in tallies), sum(len(t.unknown) for t in tallies)
        wrong = sum(len(t.wrong) for t in tallies)
        share = known / max(known + unknown + wrong, 1)
        lines.append(f"shapes {text}: {known} known ({share:.2%}), {unknown} unknown, {wrong} wrong")
    for what in ("params", "macs"):
        counts = [count for r in results if (count := getattr(r, what)).expected is not None]
        equal = sum(count.ok for count in counts)
        lines.append(f"{what}: {equal} of {len(counts)} equal to the framework's")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="check every graph of the corpus against its truth")
    parser.add_argument("name", nargs="?", default="", help="only graphs whose name holds this")
    parser.add_argument("--hollow", action="store_true", help="leave large weights out: quick, no cache")
    options = parser.parse_args(arguments)
    corpus = find()
    if corpus is None:
        print("no corpus: set ONNXSCOPE_CORPUS to its folder", file=sys.stderr)
        return 2
    print("shapes: known/unknown/wrong, sizes given by --shape, symbolic then bound, by --dim")
    results = []
    for entry in entries(corpus):
        if options.name in entry.name:
            results.append(check(entry, hollow=options.hollow))
            print(row(results[-1]), flush=True)
    missed = failures(results)
    print(summary(results), *missed, sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
