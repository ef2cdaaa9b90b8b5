"""Sequences and optionals. Expected sizes by hand from the specification."""

import pytest
from rules import answer

from onnxscope.analysis.shapes import infer
from onnxscope.graph import Graph, Model, Node, Type, ValueInfo

SHAPES = [
    ("construct", "SequenceConstruct", 11, ["N,3", "N,3"], {}, "N,3", "sequence"),
    ("construct, sizes differ", "SequenceConstruct", 11, ["N,3", "N,4"], {}, "N,y0.dim1", "sequence"),
    ("construct, ranks differ", "SequenceConstruct", 11, ["N,3", "N"], {}, "*", "sequence"),
    ("construct, one unknown", "SequenceConstruct", 11, ["N,3", "*"], {}, "*", "sequence"),
    ("empty", "SequenceEmpty", 11, [], {}, "*", "sequence"),
    ("split", "SplitToSequence", 11, ["N,6", "i64:2"], {"axis": 1}, "N,2", "sequence"),
    ("split, last smaller", "SplitToSequence", 11, ["N,7", "i64:2"], {"axis": 1}, "N,y0.dim1", "sequence"),
    ("split, equal list", "SplitToSequence", 11, ["N,6", "i64:[3,3]"], {"axis": -1}, "N,3", "sequence"),
    ("split, list", "SplitToSequence", 11, ["N,6", "i64:[2,4]"], {"axis": 1}, "N,y0.dim1", "sequence"),
    ("split, unknown", "SplitToSequence", 11, ["N,6", "i64 2"], {"axis": 1}, "N,y0.dim1", "sequence"),
    ("split ones", "SplitToSequence", 11, ["N,6"], {"axis": 1}, "N,1", "sequence"),
    ("split ones, dropped", "SplitToSequence", 24, ["N,6"], {"axis": 1, "keepdims": 0}, "N", "sequence"),
    ("split, outside", "SplitToSequence", 11, ["N,6"], {"axis": 2}, "*", ""),
    ("optional", "Optional", 15, ["N,3"], {}, "N,3", "optional"),
    ("optional, declared", "Optional", 15, [], {"type": Type("tensor", 7)}, "*", "optional"),
    ("optional sequence, declared", "Optional", 15, [],
     {"type": Type("sequence", element=Type("tensor", 7))}, "*", "optional of sequence"),
    ("optional, nothing", "Optional", 15, [], {}, "*", ""),
    ("element of a tensor", "OptionalGetElement", 18, ["N,3"], {}, "N,3", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "shape", "container"),
                         [r[1:] for r in SHAPES], ids=[r[0] for r in SHAPES])  # fmt: skip
def test_shape(name, opset, inputs, attributes, shape, container):
    found = answer(name, opset, inputs, attributes)
    assert (found.shape, found.containers) == (shape, (container,))


def chain(*steps, given=()):
    """Facts of a model of several nodes: (op, inputs, output, attributes) each; told of the last output."""
    nodes = tuple(
        Node(i, "", op, "", inputs, (output,), tuple(more))
        for i, (op, inputs, output, *more) in enumerate(steps)
    )
    facts = infer(Model(Graph("g", tuple(given), (), nodes), 8, (("", 18),)))
    value = facts.main.values[steps[-1][2]]
    return None if value.shape is None else ",".join(map(str, value.shape)), value.container, value.dtype


A = ValueInfo("a", Type("tensor", 1, ("N", 3)))
B = ValueInfo("b", Type("tensor", 1, ("N", 4)))
I = ValueInfo("i", Type("tensor", 7, ()))  # noqa: E741 - an index, as in the specification
CONSTRUCT = ("SequenceConstruct", ("a", "b"), "s")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([CONSTRUCT, ("SequenceAt", ("s", "i"), "y")], ("N,y.dim1", "", 1)),
        ([CONSTRUCT, ("SequenceLength", ("s",), "y")], ("", "", 7)),
        ([CONSTRUCT, ("SequenceErase", ("s", "i"), "y")], ("N,s.dim1", "sequence", 1)),
        ([CONSTRUCT, ("SequenceInsert", ("s", "a"), "y")], ("N,y.dim1", "sequence", 1)),
        ([CONSTRUCT, ("ConcatFromSequence", ("s",), "y")], ("y.dim0,s.dim1", "", 1)),
        ([("SequenceConstruct", ("a", "a"), "s"), ("SequenceAt", ("s", "i"), "y")], ("N,3", "", 1)),
        ([CONSTRUCT, ("Optional", ("s",), "y")], ("N,s.dim1", "optional of sequence", 1)),
        (
            [CONSTRUCT, ("Optional", ("s",), "o"), ("OptionalGetElement", ("o",), "y")],
            ("N,s.dim1", "sequence", 1),
        ),
        ([("Optional", ("a",), "o"), ("OptionalGetElement", ("o",), "y")], ("N,3", "", 1)),
        ([("Optional", ("a",), "o"), ("OptionalHasElement", ("o",), "y")], ("", "", 9)),
        ([("SequenceEmpty", (), "s"), ("SequenceInsert", ("s", "a"), "y")], (None, "sequence", 1)),
    ],
)
def test_containers(steps, expected):
    assert chain(*steps, given=(A, B, I)) == expected


def test_two_elements_are_not_taken_for_equal():
    """Elements of one sequence may differ, so the same unknown must not stand for both."""
    first = chain(CONSTRUCT, ("SequenceAt", ("s", "i"), "y"), given=(A, B, I))
    second = chain(CONSTRUCT, ("SequenceAt", ("s", "i"), "z"), given=(A, B, I))
    assert (first[0], second[0]) == ("N,y.dim1", "N,z.dim1")


def test_stacked_elements():
    from onnxscope.graph import Attribute

    new_axis, axis = Attribute("new_axis", 1, 2), Attribute("axis", -1, 2)
    steps = [("SequenceConstruct", ("a", "a"), "s"), ("ConcatFromSequence", ("s",), "y", new_axis, axis)]
    assert chain(*steps, given=(A,)) == ("N,3,y.dim2", "", 1)


def test_an_input_that_is_an_optional_sequence():
    kind = Type("optional", element=Type("sequence", element=Type("tensor", 1, (None, 3))))
    given = (ValueInfo("o", kind), I)
    steps = [("OptionalGetElement", ("o",), "s"), ("SequenceAt", ("s", "i"), "y")]
    assert chain(*steps[:1], given=given) == ("o.dim0,3", "sequence", 1)
    assert chain(*steps, given=given) == ("y.dim0,3", "", 1)


@pytest.mark.parametrize(
    ("inputs", "expected"), [([], "False"), ([None], "False"), (["N,3"], "True"), (["*"], None)]
)
def test_has_element(inputs, expected):
    assert answer("OptionalHasElement", 18, inputs).value == expected
