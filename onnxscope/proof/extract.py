"""Parts of a model as models of their own, and the values of constants: what the checks run.

Weights of the new model are the old one's, unread until it is written.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from onnxscope.errors import UsageError
from onnxscope.files.external import ExternalData
from onnxscope.files.write import dumps, save
from onnxscope.graph import Model, Node, Tensor, Type, ValueInfo, captures
from onnxscope.proof.skeleton import Skeleton, skeleton

if TYPE_CHECKING:
    from onnxscope.proof.limits import Array
    from onnxscope.proof.runner import Runner

INLINE_LIMIT = 1 << 25
"""Models with more bytes of weights than this are given to the runtime as files, which it maps."""


def cut(model: Model, inputs: Mapping[str, int], outputs: Sequence[str]) -> Model:
    """The part of the main graph that computes `outputs` from `inputs` (value name -> element type).

    The new inputs have no declared shape. Inputs of the model that are still needed stay inputs. Raises
    UsageError where an output is no value of the graph.
    """
    graph = model.graph
    kept, named = _needed(model, frozenset(inputs), outputs)
    unknown = [name for name in outputs if name not in named and name not in inputs]
    if unknown:
        raise UsageError(f"no such value: {', '.join(unknown)}", where=model.path)
    fresh = tuple(ValueInfo(name, Type(dtype=code)) for name, code in inputs.items())
    stay = tuple(value for value in graph.inputs if value.name in named and value.name not in inputs)
    part = replace(
        graph,
        nodes=tuple(
            replace(node, index=place)
            for place, node in enumerate(node for node in graph.nodes if node.index in kept)
        ),
        tensors=tuple(
            tensor for tensor in graph.tensors if tensor.name in named and tensor.name not in inputs
        ),
        sparse=tuple(item for item in graph.sparse if item.values.name in named),
        inputs=(*fresh, *stay),
        outputs=tuple(ValueInfo(name, Type(kind="")) for name in outputs),
        values=(),
        rest=(),
    )
    return replace(model, graph=part)


def _needed(model: Model, given: frozenset[str], outputs: Sequence[str]) -> tuple[set[int], set[str]]:
    """Indexes of the nodes and names of the values that the outputs depend on."""
    graph = model.graph
    known = {value.name for value in graph.inputs} | set(graph.initializers)
    known |= {item.values.name for item in graph.sparse}
    kept: set[int] = set()
    named: set[str] = set()
    waiting = [name for name in outputs if name not in given]
    while waiting:
        name = waiting.pop()
        node = graph.producers.get(name)
        if node is None:
            named |= {name} & known
            continue
        named.add(name)
        if node.index not in kept:
            kept.add(node.index)
            waiting += [source for source in reads(node) if source not in given]
    return kept, named


def sources(model: Model, names: Sequence[str]) -> set[str]:
    """Everything that values depend on, themselves included: other values, inputs and stored tensors."""
    return _needed(model, frozenset(), names)[1]


def reads(node: Node) -> tuple[str, ...]:
    """Names of all values that a node needs, those of its nested graphs included."""
    return tuple(name for name in (*node.inputs, *captures(node)) if name)


def is_constant(model: Model, name: str) -> bool:
    """Whether a value of the main graph depends on no input of the model."""
    _, named = _needed(model, frozenset(), [name])
    fed = {value.name for value in model.graph.inputs} - set(model.graph.initializers)
    return bool(named) and not named & fed


def constant(model: Model, name: str, runner: Runner) -> Array:
    """The value of a constant: read where it is stored, computed by the runtime where it is an expression.

    Raises UsageError where it depends on an input of the model.
    """
    stored = stored_tensor(model, name)
    if stored is not None:
        return stored.array()
    if not is_constant(model, name):
        raise UsageError(f"{name} is no constant", where=model.path)
    part = cut(model, {}, [name])
    return np.asarray(runner.run(skeleton(part) or dumps(part), {}, [name], optimization="none")[name])


def stored_tensor(model: Model, name: str) -> Tensor | None:
    """The tensor of an initializer or of a Constant node's `value`; None for any other value."""
    found = model.graph.initializers.get(name)
    if found is not None:
        return found
    node = model.graph.producers.get(name)
    value = node.attribute("value") if node is not None and node.op == "Constant" else None
    return value if isinstance(value, Tensor) else None


def runnable(model: Model, folder: str) -> bytes | str | Skeleton:
    """What a runner takes: bytes for a small model, a skeleton where its weights lie in a file already.

    Else the path of a new file in `folder`, which holds weights that were made in memory.
    """
    weights = model.graph.tensors
    outside = any(isinstance(tensor.storage, ExternalData) for tensor in weights)
    if not outside and sum(tensor.nbytes or 0 for tensor in weights) <= INLINE_LIMIT:
        return dumps(model)
    lean = skeleton(model)
    if lean is not None and len(lean.data) <= INLINE_LIMIT:
        return lean
    path = os.path.join(folder, f"{secrets.token_hex(6)}.onnx")
    save(model, path, external_data=True)
    return path
