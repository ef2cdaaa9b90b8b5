"""Every graph of the corpus through `convert`: what becomes a convolution, what stays and why, the errors.

    make corpus-convert                            every graph; exit 1 where a conversion misses its limit
    python tests/corpus_convert.py [--markdown FILE] [NAME]   graphs whose name holds NAME, smallest first

At native size the whole files are compared in onnxruntime (batch 1, and 3 where the batch is free), in map
and in vector mode. At larger sizes each cell of the map is compared with the original's own head on that
window of the feature map: nothing of the conversion takes part in what is expected. The limit is that of the
jitter check (docs/limits.md): the original's head, rerun with weights moved by their rounding.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import corpus
import numpy as np

from onnxscope import dtypes, runtime
from onnxscope.errors import OnnxscopeError
from onnxscope.files.write import save
from onnxscope.graph import Model
from onnxscope.proof import jitter, limits, links
from onnxscope.proof.extract import cut, runnable
from onnxscope.proof.limits import Arithmetic, Comparison, compare
from onnxscope.proof.links import HeadLink
from onnxscope.proof.windows import windows
from onnxscope.proof.worker import Worker
from onnxscope.rewrite.fc_to_conv import convert, plan
from onnxscope.rewrite.plan import Options, Plan

GROWTH = {"+1": (1, 1, 1), "+3": (3, 3, 3), "non-square": (1, 2, 0)}
"""Larger sizes, in strides of the map per spatial axis, counted from the last one."""
CHUNK = 16
"""Windows that the original's head sees at once, where its batch is free."""
QUANTIZED = "Quant", "QLinear", "QGemm", "Integer"
"""Parts of the names of ops that round to integers."""

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class Case:
    """One graph under test."""

    entry: corpus.Entry
    original: Model
    shapes: dict[str, list[int]]
    """Input shapes of the first measured run: batch 1, native size."""
    runner: Any
    folder: str

    @property
    def native(self) -> tuple[int, ...] | None:
        """Native spatial size of the image, for graphs that leave it free."""
        for info in self.original.graph.inputs:
            declared = info.type.shape or ()
            last = not isinstance(declared[1], int) if len(declared) >= 3 else False
            axes = range(1, len(declared) - 1) if last else range(2, len(declared))
            if any(not isinstance(declared[axis], int) for axis in axes):
                return tuple(self.shapes[info.name][axis] for axis in axes)
        return None

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes to try."""
        fixed = any(isinstance((self._declared(name) or [1])[0], int) for name in self.shapes)
        return (1,) if fixed else (1, 3)

    def _declared(self, name: str) -> Sequence[object] | None:
        return next((i.type.shape for i in self.original.graph.inputs if i.name == name), None)

    @property
    def level(self) -> str:
        """Optimisation for whole files: none where fusing integer layers would round in other places."""
        mixed = any(part in node.op for node in self.original.graph.nodes for part in QUANTIZED)
        return "none" if mixed else "all"

    @property
    def arithmetic(self) -> Arithmetic:
        """That of the coarsest stored weights."""
        kinds = {tensor.dtype for tensor in self.original.graph.tensors}
        code = dtypes.FLOAT16 if dtypes.FLOAT16 in kinds else dtypes.FLOAT
        return limits.arithmetic_of(code) or limits.FLOAT32


@dataclass
class Row:
    """What was found on one graph."""

    name: str
    pattern: str = ""
    layers: int = 0
    converted: dict[str, int] = field(default_factory=dict)
    """Mode -> fully connected layers that became convolutions."""
    reasons: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, Comparison] = field(default_factory=dict)
    """Place (mode and batch, or size) -> difference and limit."""
    failed: list[str] = field(default_factory=list)
    approximate: bool = False
    """Whether the plan says that windows share what the original takes from each, so that no limit holds."""

    @property
    def ok(self) -> bool:
        """Whether everything that ran kept its limit."""
        judged = (c for label, c in self.errors.items() if not (self.approximate and label in GROWTH))
        return not self.failed and all(found.ok for found in judged)


def check(entry: corpus.Entry, pattern: str, runner: Any, folder: str) -> Row:
    """Convert in both modes and compare."""
    case = Case(entry, entry.model(), entry.truth["runs"][0]["inputs"], runner, folder)
    row = Row(entry.name, pattern)
    for mode in ("map", "vector"):
        made = plan(case.original, Options(output=mode, native=case.native if mode == "map" else None))
        row.layers = len(made.conversions) + len(made.refusals)
        row.converted[mode] = len(made.conversions)
        row.reasons[mode] = list(dict.fromkeys(refusal.reason for refusal in made.refusals))
        if made.edit is None:
            continue
        try:
            _compare(case, made, mode, row)
        except (OnnxscopeError, ValueError, LookupError) as error:
            row.failed.append(f"{mode}: {type(error).__name__} {error}")
    return row


def _compare(case: Case, made: Plan, mode: str, row: Row) -> None:
    candidate = convert(made)
    path = Path(case.folder) / f"{mode}.onnx"
    save(candidate, path, force=True)
    head = links.read(candidate)[-1]
    for batch in case.batches:
        row.errors[f"{mode} b{batch}"] = _native(case, candidate, path, head, batch)
    if mode == "map":
        row.approximate = made.edit is not None and made.edit.exactness == "approximate"
        for label, steps in GROWTH.items():
            shapes = _grown(case, candidate, made, steps)
            if shapes is not None:
                row.errors[label] = _on_windows(case, candidate, path, head, shapes)
    path.unlink()


def _feeds(case: Case, shapes: Mapping[str, Sequence[int]], batch: int) -> Arrays:
    generator = np.random.default_rng(len(case.entry.name))
    found: Arrays = {}
    for info in case.original.graph.inputs:
        if info.name in shapes:
            shape = (batch, *shapes[info.name][1:])
            kind = dtypes.BY_CODE[info.type.dtype or dtypes.FLOAT].numpy
            found[info.name] = generator.standard_normal(shape).astype(kind)
    return found


def _native(case: Case, candidate: Model, path: Path, head: HeadLink, batch: int) -> Comparison:
    """Whole files at native size; the limit is that of the head behind its feature map."""
    feeds, names = _feeds(case, case.shapes, batch), _outputs(case.original)
    source = corpus.CACHE / f"{case.entry.name}.onnx"
    expected = case.runner.run(str(source), feeds, names, optimization=case.level)
    found = case.runner.run(str(path), feeds, [head.read_map, *names], optimization=case.level)
    _, allowed = _expected(case, head, found[head.read_map], names, feeds, whole=True)
    total = Comparison()
    for name in names:
        total = total.merged(
            compare(found[name].reshape(expected[name].shape), expected[name], allowed[name])
        )
    return total


def _outputs(model: Model) -> list[str]:
    return [info.name for info in model.graph.outputs]


def _on_windows(
    case: Case, candidate: Model, path: Path, head: HeadLink, shapes: Mapping[str, Sequence[int]]
) -> Comparison:
    """Every cell of the map against the original's head on its window of the feature map."""
    feeds, names = _feeds(case, shapes, 1), _outputs(case.original)
    found = case.runner.run(str(path), feeds, [head.read_map, *names], optimization=case.level)
    feature_map = found[head.read_map]
    whole = _everywhere(head)
    expected, allowed = _expected(case, head, feature_map, names, feeds, whole=whole)
    total = Comparison()
    for name, value in expected.items():
        given = found[name] if whole else _cells(found[name], feature_map.ndim - 2)
        total = total.merged(compare(given.reshape(value.shape), value, allowed[name]))
    return total


def _everywhere(head: HeadLink) -> bool:
    """Whether the layers act on every position of a larger map in the original too."""
    narrow = all(size == 1 for layer in head.layers for size in layer.kernel)
    return narrow and not head.pool and any(size > 1 for size in head.window)


def _cells(value: np.ndarray[Any, Any], spatial: int) -> np.ndarray[Any, Any]:
    """[N, F, *S'] as [N * cells, F]."""
    last = tuple(range(value.ndim - spatial, value.ndim))
    moved = np.moveaxis(value, last, tuple(range(1, 1 + spatial)))
    return moved.reshape(-1, *moved.shape[1 + spatial :])


def _expected(
    case: Case, head: HeadLink, value: np.ndarray[Any, Any], names: list[str], feeds: Arrays, *, whole: bool
) -> tuple[Arrays, Arrays]:
    """The original's head on the map `value`, or on each of its windows; and the jitter limits."""
    parts = value if whole else windows(value, head.window).reshape(-1, value.shape[1], *head.window)
    code = dtypes.FLOAT16 if value.dtype == np.float16 else _code(value)
    part = cut(case.original, {head.feature_map: code}, names)
    others = {i.name: _at_native(case, i.name, feeds) for i in part.graph.inputs if i.name in feeds}

    def over_all(model: Model) -> Arrays:
        given = runnable(model, case.folder)
        step = CHUNK if 3 in case.batches else 1
        results = [
            case.runner.run(
                given,
                {
                    head.feature_map: head.original(chunk),
                    **{n: _repeated(a, len(chunk)) for n, a in others.items()},
                },
                names,
                optimization=case.level,
            )
            for start in range(0, len(parts), step)
            if len(chunk := np.ascontiguousarray(parts[start : start + step]))
        ]
        if isinstance(given, str):
            for file in Path(case.folder).glob(f"{Path(given).name}*"):
                file.unlink()
        return {name: np.concatenate([result[name] for result in results]) for name in names}

    expected = over_all(part)
    runs = max(jitter.runs_for(found.size) for found in expected.values())
    moved = [over_all(jitter.jittered(part, case.arithmetic, run=run)) for run in range(runs)]
    count = sum(found.size for found in expected.values())
    allowed = {
        name: jitter.limit(found, [run[name] for run in moved], values=count, arithmetic=case.arithmetic)
        for name, found in expected.items()
    }
    return expected, allowed


def _at_native(case: Case, name: str, feeds: Arrays) -> np.ndarray[Any, Any]:
    """What the head still reads of an input: of an image only its batch size, behind a Shape."""
    image = len(case.shapes[name]) > 2
    return np.zeros([len(feeds[name]), *case.shapes[name][1:]], feeds[name].dtype) if image else feeds[name]


def _code(value: np.ndarray[Any, Any]) -> int:
    return next(code for code, kind in dtypes.BY_CODE.items() if kind.numpy == value.dtype)


def _repeated(value: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    return value if len(value) == count else np.repeat(value[:1], count, 0)


def _grown(
    case: Case, candidate: Model, made: Plan, steps: tuple[int, ...]
) -> dict[str, Sequence[int]] | None:
    """Input shapes larger by so many strides; None where no input is free."""
    stride = next((g.stride for g in made.geometry if g.stride), None)
    shapes: dict[str, Sequence[int]] = dict(case.shapes)
    grew = False
    for info in candidate.graph.inputs:
        if info.name not in shapes or len(info.type.shape or ()) < 3:
            continue
        free = [i for i, size in enumerate(info.type.shape or ()) if i and not isinstance(size, int)]
        shape = list(shapes[info.name])
        for place, axis in enumerate(free):
            shape[axis] += steps[place - len(free)] * (stride[place] if stride else 32)
            grew = True
        shapes[info.name] = shape
    return shapes if grew else None


def patterns(folder: Path) -> dict[str, str]:
    """Graph -> how its network ends, from the corpus's HEADS.md, without sizes."""
    found: dict[str, str] = {}
    name = ""
    for line in (folder / "HEADS.md").read_text().splitlines():
        if line.startswith("- `"):
            name = line.strip("- `")
        elif line.startswith("  - `") and name:
            ops = re.sub(r"\([^>]*?\)|\[[^\]]*\]", "", line.strip("- `"))
            found[name] = f"{found[name]}; {ops}" if name in found else ops
    return found


HEADER = (
    "| graph | head | layers | map | vector | refused because | native: error / limit "
    "| larger windows: error / limit |\n|--|--|--|--|--|--|--|--|"
)


def line(row: Row) -> str:
    """One line of the markdown table."""
    reasons = [f"{mode}: {text}" for mode in row.reasons for text in row.reasons[mode][:3]]
    if row.reasons.get("map") == row.reasons.get("vector"):
        reasons = row.reasons.get("map", [])[:3]
    sizes = {label: found for label, found in row.errors.items() if label in GROWTH}
    native = {label: found for label, found in row.errors.items() if label not in GROWTH}
    cells = (
        row.name,
        row.pattern if len(row.pattern) < 160 else f"...{row.pattern[-157:]}",
        str(row.layers),
        str(row.converted.get("map", 0)),
        str(row.converted.get("vector", 0)),
        "; ".join((*reasons, *row.failed)) or "-",
        _errors(native),
        _errors(sizes, judged=not row.approximate),
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _errors(found: Mapping[str, Comparison], *, judged: bool = True) -> str:
    if not judged:
        texts = [f"{label} {c.max_abs:.1e}" for label, c in found.items()]
        return f"approximate, as the plan says: {'; '.join(texts)}"
    texts = [
        f"{label} {c.max_abs:.1e} / {c.limit:.1e}{'' if c.ok else ' **MISSED**'}"
        for label, c in found.items()
    ]
    return "; ".join(texts) or "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="convert every graph of the corpus and compare")
    parser.add_argument("name", nargs="?", default="", help="only graphs whose name holds this")
    parser.add_argument("--markdown", type=Path, help="also write the table here, line by line")
    parser.add_argument("--largest", type=int, default=1 << 40, help="only graphs of fewer bytes")
    parser.add_argument("--smallest", type=int, default=0, help="only graphs of at least so many bytes")
    options = parser.parse_args(arguments)
    folder = corpus.find()
    if folder is None:
        print("no corpus: set ONNXSCOPE_CORPUS to its folder", file=sys.stderr)
        return 2
    rows = []
    with options.markdown.open("w") if options.markdown else nullcontext() as file:
        for text, row in _table(folder, options.name, range(options.smallest, options.largest)):
            for target in (sys.stdout, file) if file else (sys.stdout,):
                print(text, file=target, flush=True)
            rows += [row] if row else []
    missed = [row.name for row in rows if not row.ok]
    whole = sum(1 for row in rows if row.layers and row.converted.get("map") == row.layers)
    print(f"{len(rows)} graphs, {whole} with every layer as a map, {len(missed)} missed: {missed}")
    return 1 if missed else 0


def _table(folder: Path, name: str, sizes: range) -> Iterator[tuple[str, Row | None]]:
    """Lines of the table, each with its row."""
    yield HEADER, None
    known = patterns(folder)
    for entry in corpus.entries(folder):
        if name in entry.name and entry.hydrated_bytes in sizes:
            with tempfile.TemporaryDirectory() as scratch, Worker(None) as worker:
                runner = worker.runner(runtime.parse("cpu"), scratch)
                row = check(entry, known.get(entry.name, ""), runner, scratch)
            yield line(row), row


if __name__ == "__main__":
    sys.exit(main())
