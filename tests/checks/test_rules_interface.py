"""Defects of inputs and outputs that need more than a line of text."""

import pytest
from audited import found


def test_large_int64_tensor_OX216():
    def text(count):
        numbers = ", ".join(["1"] * count)
        kind = f"int64[{count}]"
        return f"g ({kind} x) => ({kind} y) <{kind} w = {{{numbers}}}> {{ y = Add(x, w) }}"

    assert found("OX216", text(63)) == []
    (finding,) = found("OX216", text(64))
    assert finding.data == {"tensors": 1, "bytes": 512}


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("OX205", "g (float[-1, 3] x) => (float[N, 3] y) { y = Relu(x) }", 1),
        ("OX208", "g (float[N] x, float[N] z) => (float[N] y, float[N] z) { y = Relu(x) }", 0),
        ("OX209", "g (float[2] x) => (float[2] w) <float[2] w = {1, 2}> { y = Relu(x) }", 1),
        ("OX210", "g (float[3] x) => (float[3] y) { y = Relu(x) }", 0),
        ("OX220", "g (float[N, 3] x) => (float[1, 3] y) { y = Relu(x) }", 1),
        ("OX220", "g (float[N, 3] x) => (float[M, 3] y) { y = Relu(x) }", 0),
        (
            "OX220",
            "g (float[1, 1, H, 1] x) => (float[1, 1, 1, 1] y) { y = MaxPool <kernel_shape=[2, 1]>(x) }",
            0,
        ),
        ("OX211", "g (float[1, 3] x, float[8, 3] z) => (float[8, 3] y) { y = Add(x, z) }", 0),
    ],
)
def test_edges(code, text, expected):
    assert len(found(code, text)) == expected


# The state of a recurrent net, [layers, batch, size], that reaches its LSTM by way of other nodes.
@pytest.mark.parametrize(
    ("first", "second", "flagged"),
    [
        ("N, 4", "2, N, 3", False),  # its second axis is the batch
        ("?, 4", "2, ?, 3", False),  # it may be: both are free without a name
        ("N, 4", "2, M, 3", True),
        ("N, 4", "2, 5, 3", True),
    ],
)
def test_a_batch_on_another_axis_is_no_mismatch_OX211(first, second, flagged):
    text = f"g (float[{first}] x, float[{second}] s) => (float[{first}] y) {{ z = Shape (s) y = Relu (x) }}"
    assert bool(found("OX211", text)) is flagged
