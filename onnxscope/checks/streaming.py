"""One pass over every stored number: counts, extremes and digests, in blocks, so that memory stays flat.

A number's magnitude is looked at as an unsigned integer (the bits without the sign, which order like the
numbers themselves), so that a block costs four light passes in the processor's cache: mask, maximum, compare,
count. Only the few numbers near zero are looked at again. Pages of the file are let go block by block.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from onnxscope.checks.magnitudes import tally_of
from onnxscope.checks.rows import Rows
from onnxscope.checks.weights import TensorStatistics, Weights
from onnxscope.errors import FileError
from onnxscope.files.mapped import Pages
from onnxscope.graph import Graph, Model, SparseTensor, Tensor

BLOCK = 1 << 20
"""Bytes that are looked at together: they fit the processor's second-level cache."""
Counts: TypeAlias = "tuple[object, ...]"


def measure(model: Model) -> Weights:
    """Statistics of every stored tensor of a model; strings are left out. Reads every payload byte once.

    Tensors whose counts agree are read once more, to tell whether they are equal.
    """
    found: list[TensorStatistics] = []
    unread: list[tuple[str, str]] = []
    for scope, name, tensor in stored_tensors(model):
        try:
            statistics = measure_tensor(tensor, name, scope)
        except (FileError, TypeError, ValueError) as error:
            unread.append((f"{scope}{name}", str(error)))
            continue
        found += [] if statistics is None else [statistics]
    return Weights(tuple(_with_digests(found)), tuple(unread))


def _with_digests(found: list[TensorStatistics]) -> Iterator[TensorStatistics]:
    counts = [_counts(statistics) for statistics in found]
    often = Counter(counts)
    for statistics, key in zip(found, counts, strict=True):
        shared = often[key] > 1 and statistics.tensor is not None
        digest = digest_of(statistics.tensor) if shared and statistics.tensor else _short(key)
        yield replace(statistics, digest=digest)


def _counts(found: TensorStatistics) -> Counts:
    """What equal tensors have in common, whatever their names; shapes apart."""
    assert found.tensor is not None
    nan_safe = (
        found.count,
        found.nan,
        found.inf,
        found.subnormal,
        found.zeros,
        found.largest,
        found.smallest,
    )
    return (found.tensor.dtype, *nan_safe, found.fp16_overflow, found.fp16_underflow)


def _short(key: Counts) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()


def digest_of(tensor: Tensor) -> str:
    """SHA-256 of the packed bytes. Raises FileError where they can't be read."""
    data = tensor.storage.view() if tensor.storage else memoryview(b"")
    pages = Pages(data)
    digest = hashlib.sha256()
    for start in range(0, len(data), BLOCK):
        digest.update(data[start : start + BLOCK])
        pages.release(start, start + BLOCK)
    return digest.hexdigest()


def stored_tensors(model: Model) -> Iterator[tuple[str, str, Tensor]]:
    """(scope, name, tensor) of every stored tensor: initializers, then attributes, graph by graph.

    A Constant's tensor bears the name of its output; that of another attribute without a name of its own the
    node's label and the attribute's name.
    """
    yield from _of_graph("", model.graph)
    for function in model.functions:
        yield from _of_graph(f"{function.domain}.{function.name}/", function.body)


def _of_graph(scope: str, graph: Graph) -> Iterator[tuple[str, str, Tensor]]:
    yield from ((scope, tensor.name, tensor) for tensor in graph.tensors)
    yield from ((scope, sparse.values.name, sparse.values) for sparse in graph.sparse)
    for node in graph.nodes:
        for attribute in node.attributes:
            items = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
            for item in items:
                tensor = item.values if isinstance(item, SparseTensor) else item
                if isinstance(tensor, Tensor):
                    own = node.outputs[0] if node.op == "Constant" and node.outputs else tensor.name
                    yield scope, own or f"{node.label}.{attribute.name}", tensor
        for name, inner in node.subgraphs():
            yield from _of_graph(f"{scope}{node.label}.{name}/", inner)


def measure_tensor(tensor: Tensor, name: str = "", scope: str = "") -> TensorStatistics | None:
    """Statistics of one tensor, without a digest; None for strings and for a tensor of no known type.

    Raises FileError where its bytes can't be read.
    """
    tally = tally_of(tensor)
    if tally is None:
        return None
    if tensor.storage is None:
        if tensor.count:
            raise FileError(f"tensor {tensor.name!r} holds no numbers")
        data = memoryview(b"")
    else:
        data = tensor.storage.view()
    pages = Pages(data)
    rows = Rows.of(tensor, data, BLOCK)
    step = rows.step if rows else BLOCK // 24 * 24  # whole numbers of every type, of 6 bits too
    for start in range(0, len(data), step):
        block = data[start : start + step]
        zeros = tally.zeros
        magnitudes = tally.add(block)
        if rows:
            rows.add(start, block, magnitudes, tally.zeros - zeros)
        pages.release(start, start + len(block))
    zero_filters, repeated = rows.finish() if rows else ((), 0)
    pages.release(0, len(data))
    return tally.statistics(tensor, name or tensor.name, scope, zero_filters, repeated)
