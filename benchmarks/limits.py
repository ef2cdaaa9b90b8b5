"""False alarms and misses of the local and exact checks on converted models.

    python benchmarks/limits.py models/*.onnx models/exported/*.onnx
    python benchmarks/limits.py --seeds 20 MODEL...

Each model is converted without a proof. The head of the conversion runs on seeded feature maps of seven
families, at its native size and two cells larger, batch 2; every layer must keep its limit and every zero and
impulse must come out bit for bit. Then the weights are changed in memory, one sabotage at a time, and each
must fail at the changed layer. Models with nothing to convert are left out. Needs onnxruntime, on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import onnxscope
from onnxscope import dtypes, runtime
from onnxscope.analysis.shapes import infer
from onnxscope.errors import ConversionFailed
from onnxscope.files.read import load
from onnxscope.graph import Model, Tensor
from onnxscope.proof import exact, extract, limits, links, local
from onnxscope.proof.runner import Runner
from onnxscope.proof.worker import Worker

Array = npt.NDArray[Any]
FAMILIES = ("signed", "positive", "uniform", "onehot", "large", "tiny", "zeros")


@dataclass(frozen=True)
class InMemory:
    """Changed numbers of a tensor."""

    array: Array

    @property
    def kind(self) -> str:
        """`raw`."""
        return "raw"

    @property
    def location(self) -> str:
        """In memory."""
        return "in memory"

    def view(self) -> memoryview:
        """Packed little-endian bytes."""
        return np.ascontiguousarray(self.array).reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class Pair:
    """A model, its conversion, and how the head is fed."""

    original: Model
    candidate: Model
    heads: tuple[links.HeadLink, ...]
    steps: tuple[local.Step, ...]
    maps: dict[str, tuple[tuple[int, ...], int, bool]]
    """Feature map -> (shape of one window with channels, element type, whether larger maps are legal)."""
    arithmetic: limits.Arithmetic


def opened(path: str, folder: str) -> Pair | None:
    """The pair of a model file; None where nothing converts or the head reads more than feature maps."""
    target = f"{folder}/{Path(path).name}"
    try:
        onnxscope.convert(path, target, verify=False, force=True)
    except ConversionFailed:
        return None
    original, candidate = load(path), load(target)
    heads, facts = links.read(candidate), infer(original)
    maps = {}
    for head in heads:
        window = head.window or (7,) * len(head.layers[0].kernel)
        code = facts.value(head.feature_map).dtype or dtypes.FLOAT
        grows = head.pool is None or head.pool_kernel is not None
        maps[head.feature_map] = ((head.channels, *window), code, grows)
    arithmetic = limits.arithmetic_of(next(iter(maps.values()))[1]) or limits.FLOAT32
    pair = Pair(original, candidate, heads, local.plan(facts, candidate, heads), maps, arithmetic)
    part = cut(pair)
    return None if any(value.name not in maps for value in part.graph.inputs) else pair


def fetched(pair: Pair) -> list[str]:
    """The candidate's values that the local check reads, feature maps left out."""
    return [name for name in local.names(pair.steps) if name not in pair.maps]


def cut(pair: Pair) -> Model:
    """The candidate's head alone."""
    return extract.cut(
        pair.candidate, {name: code for name, (_, code, _) in pair.maps.items()}, fetched(pair)
    )


def draw(family: str, shape: tuple[int, ...], seed: int) -> Array:
    """A seeded feature map [N, C, *S]."""
    generator = np.random.default_rng([seed, FAMILIES.index(family)])
    value = generator.standard_normal(shape)
    if family == "onehot":
        value = np.zeros((shape[0], int(np.prod(shape[1:]))))
        value[np.arange(shape[0]), generator.integers(0, value.shape[1], shape[0])] = 1
        value = value.reshape(shape)
    changes: dict[str, Callable[[], Array]] = {
        "positive": lambda: np.abs(value),
        "uniform": lambda: generator.random(shape),
        "large": lambda: value * 1e3,
        "tiny": lambda: value * 1e-3,
        "zeros": lambda: value * 0,
    }
    return changes.get(family, lambda: value)()


def checked(pair: Pair, runner: Runner, folder: str, families: Sequence[str], seeds: int) -> local.LocalCheck:
    """The local check over families, seeds and sizes, as one verification."""
    given = extract.runnable(cut(pair), folder)
    trials = []
    for family in families:
        for seed in range(seeds):
            for more in (0, 2):
                feeds = {
                    name: draw(
                        family, (2, shape[0], *(size + more * grows for size in shape[1:])), seed
                    ).astype(dtypes.BY_CODE[code].numpy)
                    for name, (shape, code, grows) in pair.maps.items()
                }
                trials.append({**feeds, **runner.run(given, feeds, fetched(pair))})
    return local.check(pair.original, pair.steps, trials, runner, pair.arithmetic)


def sabotages(pair: Pair) -> Iterator[tuple[str, str, Model]]:
    """(what, the layer that it breaks, the broken candidate)."""
    layers = [layer for head in pair.heads for layer in head.layers]
    generator = np.random.default_rng(5)
    for link in dict.fromkeys((layers[0], layers[-1])):
        weight = pair.candidate.graph.initializers.get(link.weight.candidate)
        if weight is None or sum(link.weight.candidate == other.weight.candidate for other in layers) > 1:
            continue
        for what, array in broken(weight.array(), generator):
            if not np.array_equal(array, weight.array()):
                yield what, link.output, changed(pair.candidate, weight, array)
        bias = link.bias and pair.candidate.graph.initializers.get(link.bias.candidate)
        if bias:
            array = bias.array().copy()
            array.flat[generator.integers(array.size)] += 1e-3
            yield "bias off by 1e-3", link.output, changed(pair.candidate, bias, array)


def broken(weight: Array, generator: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Wrong copies of a weight [F, C, *kernel]."""
    zeroed, swapped = weight.copy(), weight.copy()
    zeroed.flat[np.argmax(np.abs(weight))] = 0
    yield "largest weight zeroed", zeroed
    random = weight.copy()
    random.flat[generator.integers(weight.size)] = 0
    yield "one weight zeroed", random
    row = swapped[generator.integers(len(weight))].reshape(-1)
    one, two = generator.choice(row.size, 2, replace=False)
    row[one], row[two] = row[two], row[one]
    yield "two weights swapped", swapped
    yield "rows permuted", weight[::-1].copy()
    if weight.dtype == np.float32:
        yield "weights through float16", weight.astype(np.float16).astype(np.float32)
    if weight.ndim == 4 and weight.shape[2] > 1 and weight.shape[2] == weight.shape[3]:
        yield "height and width swapped", np.ascontiguousarray(weight.swapaxes(2, 3))


def changed(model: Model, tensor: Tensor, array: Array) -> Model:
    """The model with other numbers in one initializer."""
    other = replace(tensor, storage=InMemory(array), external=(), origin=None)
    tensors = tuple(other if each.name == tensor.name else each for each in model.graph.tensors)
    return replace(model, graph=replace(model.graph, tensors=tensors))


def measured(
    path: str, runner: Runner, folder: str, seeds: int
) -> tuple[Counter[str], Counter[str], str] | None:
    """(sabotage tried, sabotage caught, a line about the right conversion); None where nothing converts."""
    pair = opened(path, folder)
    if pair is None:
        return None
    right = checked(pair, runner, folder, FAMILIES, seeds)
    precise = exact.check(pair.original, pair.candidate, pair.heads, runner, folder=folder)
    alarm = not right.ok or not all(layer.ok for layer in precise)
    line = f"{right.comparison.ratio:.2f} of the limit, {len(precise)} layers exact" + " ALARM" * alarm
    tried: Counter[str] = Counter({"right": 1})
    caught: Counter[str] = Counter({"right": int(alarm)})
    for what, where, model in sabotages(pair):
        wrong = replace(pair, candidate=model)
        found = checked(wrong, runner, folder, ("signed", "positive", "zeros"), 1)
        layers = exact.check(pair.original, model, pair.heads, runner, folder=folder)
        named = {found.first_divergence} | {layer.layer for layer in layers if not layer.ok}
        tried[what] += 1
        caught[what] += where in named
        if where not in named:
            line += f"; missed: {what} in {where}"
    return tried, caught, line


def main() -> None:
    """Measure every model and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    tried: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    for path in given.models:
        with tempfile.TemporaryDirectory() as folder, Worker() as worker:
            runner = worker.runner(runtime.parse("cpu"), folder)
            found = measured(path, runner, folder, given.seeds)
        if found is None:
            continue
        tried += found[0]
        caught += found[1]
        print(f"{Path(path).name}: {found[2]}", file=sys.stderr, flush=True)
    print(f"right conversions: {tried.pop('right', 0)}, false alarms: {caught.pop('right', 0)}")
    print("\n| sabotage | tried | caught at its layer |\n|--|--|--|")
    for what, count in tried.items():
        print(f"| {what} | {count} | {caught[what]} |")


if __name__ == "__main__":
    main()
