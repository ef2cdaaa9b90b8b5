"""Rules about the graph: what a declaration alone doesn't prove."""

from audited import found

EXPAND = "g (float[1, 3, 1] x, int64[2] s) => (float[1, 3, 1] y) { y = Expand(x, s) }"
KNOWN = "g (float[1, 3, 1] x) => (float[1, 3, 1] y) <int64[2] s = {3, 1}> { y = Expand(x, s) }"


def test_a_declared_shape_does_not_make_an_expand_idle_OX508():
    assert found("OX508", EXPAND) == []
    (finding,) = found("OX508", KNOWN)
    assert finding.data["nodes"] == 1


def test_a_sequence_is_no_constant_that_a_file_could_hold_OX522():
    """It can't be an initializer: what starts as an empty one is left alone."""
    text = (
        "g (float[2] x) => (float[2] y) <int64 at = {0}> "
        "{ empty = SequenceEmpty () s = SequenceInsert (empty, x) y = SequenceAt (s, at) }"
    )
    assert found("OX522", text) == []
