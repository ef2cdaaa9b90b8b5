"""The rounding errors of activation kernels: where the factors in `onnxscope.proof.tails` come from.

    python benchmarks/tails.py

Every op that the local check recomputes runs in onnxruntime on the CPU over seeded inputs of several ranges,
on rows of 1 to 1000 classes. The table gives the largest error as a share of the bound that `tails` grants:
about one half is intended, above 1 the bound is too small for this machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from onnxscope.files.read import loads
from onnxscope.proof import limits, tails

Array = npt.NDArray[Any]
WIDTHS = (1, 10, 257, 1000)
SCALES = (1e-4, 0.1, 1.0, 4.0, 20.0, 300.0)
CONSTANTS = {"PRelu": 1, "Add": 1, "Sub": 1, "Mul": 1, "Div": 1, "BatchNormalization": 4}
"""Op -> how many constant vectors it takes beside its input."""
POSITIVE = frozenset(("Sqrt",))


def inputs(op: str, seeds: int) -> Iterator[Array]:
    """Rows [64, F] of normal and uniform numbers in every width and scale."""
    for width in WIDTHS:
        for scale in SCALES:
            for seed in range(seeds):
                generator = np.random.default_rng([seed, width])
                values: list[Array] = [
                    generator.standard_normal((64, width)),
                    generator.uniform(-1, 1, (64, width)),
                ]
                for value in values:
                    rows: Array = np.asarray(scale * value, np.float32)
                    yield np.abs(rows) if op in POSITIVE else rows


def share(op: str, opset: int, seeds: int) -> tuple[float, float]:
    """Largest error as a share of its bound, and the input where it was."""
    worst, where = 0.0, 0.0
    sessions: dict[int, tuple[onnxruntime.InferenceSession, list[Array], Any]] = {}
    for rows in inputs(op, seeds):
        width = rows.shape[1]
        if width not in sessions:
            generator = np.random.default_rng(width)
            vectors = [
                generator.uniform(0.5, 1.5, (width,)).astype(np.float32) for _ in range(CONSTANTS.get(op, 0))
            ]
            data = model(op, vectors, opset)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            sessions[width] = session, vectors, loads(data).graph.nodes[0]
        session, vectors, node = sessions[width]
        computed = session.run(None, {"x": rows})[0]
        wide = [rows.astype(np.float64), *(vector.astype(np.float64) for vector in vectors)]
        found = tails.evaluate(node, wide, limits.FLOAT32)
        if found is None:
            raise ValueError(f"no rule for {op}")
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(computed == found[0], 0, np.abs(computed - found[0]) / found[1])
        if ratio.max() > worst:
            worst, where = float(ratio.max()), float(rows.flat[int(ratio.argmax())])
    return worst, where


def model(op: str, vectors: list[Array], opset: int) -> bytes:
    """The op alone."""
    names = [f"c{place}" for place in range(len(vectors))]
    stored = [numpy_helper.from_array(vector, name) for vector, name in zip(vectors, names, strict=True)]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"])],
        "op",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", "F"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", "F"])],
        stored,
    )
    opsets = [helper.make_opsetid("", opset)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def main() -> None:
    """Measure every rule and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--opset", type=int, default=20)
    given = parser.parse_args()
    print(
        f"onnxruntime {onnxruntime.__version__}, CPU\n\n| op | largest error / bound | at z = |\n|--|--|--|"
    )
    for op in tails.RULES:
        found, where = share(op, given.opset, given.seeds)
        print(f"| {op} | {found:.2f} | {where:.6g} |")


if __name__ == "__main__":
    main()
