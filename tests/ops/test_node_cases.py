"""onnx's generated node cases (about 1,900 one-op models with inputs and outputs) as an oracle for rules.

The shapes that the cases declare for their outputs are taken away first: only what is inferred counts.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import helper, shape_inference

from onnxscope.analysis.shapes import infer
from onnxscope.files.read import loads
from onnxscope.ops.value import UNKNOWN


@dataclass
class Score:
    """Answers about the tensors that the cases expect."""

    known: int = 0
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, name, shape, expected):
        if shape is not None and tuple(shape) == tuple(expected):
            self.known += 1
        else:
            (self.unknown if could_be(shape, expected) else self.wrong).append(
                f"{name}: {shape}, not {expected}"
            )


def could_be(shape, expected):
    """Whether a shape with unknown parts may still be the expected one."""
    if shape is None:
        return True
    same_rank = len(shape) == len(expected)
    return same_rank and all(not isinstance(a, int) or a == b for a, b in zip(shape, expected, strict=True))


@dataclass
class Case:
    name: str
    model: onnx.ModelProto
    inputs: list[object]
    outputs: list[tuple[str, object]]


@pytest.fixture(scope="session")
def cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [
        Case(case.name, stripped(case.model), inputs, list(zip(names(case.model), outputs, strict=False)))
        for case in found
        for inputs, outputs in case.data_sets[:1]
    ]


def names(model):
    return [output.name for output in model.graph.output]


def stripped(model):
    """The model without any shape that it declares for what its nodes produce."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.value_info[:]
    for output in model.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    return model


@pytest.fixture(scope="session")
def answers(cases):
    """Our facts about each case."""
    return [(case, infer(loads(case.model.SerializeToString()))) for case in cases]


@pytest.fixture(scope="session")
def ours(answers):
    score = Score()
    for case, facts in answers:
        for name, expected in case.outputs:
            if isinstance(expected, np.ndarray):
                score.add(f"{case.name}.{name}", facts.main.values[name].shape, expected.shape)
    return score


@pytest.fixture(scope="session")
def theirs(cases):
    """What onnx's own inference tells of the same cases, at its most eager."""
    score = Score()
    for case in cases:
        shapes = onnx_shapes(case.model)
        for name, expected in case.outputs:
            if isinstance(expected, np.ndarray):
                score.add(f"{case.name}.{name}", shapes.get(name), expected.shape)
    return score


def onnx_shapes(model):
    try:
        found = shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except Exception:
        return {}
    types = {output.name: output.type.tensor_type for output in found.graph.output}
    return {
        name: tuple(d.dim_value if d.HasField("dim_value") else "?" for d in kind.shape.dim)
        for name, kind in types.items()
        if kind.HasField("shape")
    }


def test_the_cases_are_there(cases):
    assert len(cases) >= 1500
    assert len({case.model.graph.node[0].op_type for case in cases}) >= 190


def test_no_shape_is_wrong(ours):
    assert ours.wrong == []


def test_more_is_known_than_onnx_knows(ours, theirs):
    assert theirs.known > 1000
    assert ours.known >= theirs.known


def test_what_onnx_knows_we_know_too(ours, theirs):
    lost = [{row.partition(":")[0] for row in score.unknown + score.wrong} for score in (ours, theirs)]
    assert lost[0] <= lost[1]


def test_no_element_type_is_wrong(answers):
    for case, facts in answers:
        for name, expected in case.outputs:
            if isinstance(expected, np.ndarray):
                dtype = helper.np_dtype_to_tensor_dtype(expected.dtype)
                assert facts.main.values[name].dtype in (None, dtype), case.name


def test_sequences_are_sequences_of_their_elements(answers):
    for case, facts in answers:
        for name, expected in case.outputs:
            if isinstance(expected, list):
                value = facts.main.values[name]
                kinds = ("sequence", "optional of sequence")
                assert value.container in kinds or value == UNKNOWN, case.name
                score = Score()
                for element in expected:
                    score.add(case.name, value.shape, np.shape(element))
                assert score.wrong == []


def test_an_unknown_rank_comes_with_a_reason(answers):
    """A problem row says why, or branches or turns differ in what they give."""
    for case, facts in answers:
        lost = [name for name, _ in case.outputs if facts.main.values[name] == UNKNOWN]
        merged = {"If", "Loop"} & {node.op for node in facts.main.graph.nodes}
        assert not lost or facts.problems or merged, case.name


# --- the same cases with every input stored in the model: what depends on content is known too ---


@pytest.fixture(scope="session")
def stored(cases):
    """Facts about each case with its inputs as initializers; cases with sequences are left out."""
    found = []
    for case in cases:
        model = onnx.ModelProto.FromString(case.model.SerializeToString())
        tensors = [
            onnx.numpy_helper.from_array(array, info.name)
            for info, array in zip(model.graph.input, case.inputs, strict=True)
            if isinstance(array, np.ndarray)
        ]
        if len(tensors) == len(case.inputs):
            del model.graph.input[:]
            model.graph.initializer.extend(tensors)
            found.append((case, infer(loads(model.SerializeToString()))))
    return found


def test_no_shape_of_stored_inputs_is_wrong(stored):
    score = Score()
    for case, facts in stored:
        for name, expected in case.outputs:
            if isinstance(expected, np.ndarray):
                score.add(f"{case.name}.{name}", facts.main.values[name].shape, expected.shape)
    assert score.wrong == []
    assert score.known >= 0.95 * (score.known + len(score.unknown))


def test_folded_content_is_what_the_op_computes(stored):
    """Numbers that we compute instead of the runtime; float16 results may differ in their last place."""
    folded = 0
    for case, facts in stored:
        for name, expected in case.outputs:
            data = facts.main.values[name].known()
            if data is None or not isinstance(expected, np.ndarray):
                continue
            folded += 1
            ours = np.array(data.items, dtype=object).reshape(expected.shape)
            if expected.dtype.kind in "biu":
                assert (ours == expected).all(), case.name
            else:
                np.testing.assert_allclose(
                    ours.astype(float), expected.astype(float), rtol=1e-3, err_msg=case.name
                )
    assert folded > 200
