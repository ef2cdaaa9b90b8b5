"""Rules about the graph: what a declaration alone doesn't prove."""

from audited import found

EXPAND = "g (float[1, 3, 1] x, int64[2] s) => (float[1, 3, 1] y) { y = Expand(x, s) }"
KNOWN = "g (float[1, 3, 1] x) => (float[1, 3, 1] y) <int64[2] s = {3, 1}> { y = Expand(x, s) }"


def test_a_declared_shape_does_not_make_an_expand_idle_OX508():
    assert found("OX508", EXPAND) == []
    (finding,) = found("OX508", KNOWN)
    assert finding.data["nodes"] == 1
