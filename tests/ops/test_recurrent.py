"""LSTM, GRU, RNN. S steps, B sequences, I inputs, H hidden units; MACs by hand: S*B*D*gates*H*(I + H)."""

import pytest
from rules import answer

ROWS = [
    ("LSTM", 7, ["S,B,3", "1,32,3", "1,32,8"], {"hidden_size": 8}, ("S,1,B,8", "1,B,8", "1,B,8"),
     "S*B*1*4*8*(3 + 8) = 352*B*S"),
    ("LSTM", 1, ["5,2,3", "1,32,3", "1,32,8"], {"output_sequence": 1}, ("5,1,2,8", "1,2,8", "1,2,8"),
     "5*2*1*4*8*(3 + 8) = 3520"),
    ("LSTM", 14, ["5,2,3", "2,32,3", "2,32,8"], {"direction": "bidirectional"},
     ("5,2,2,8", "2,2,8", "2,2,8"), "5*2*2*4*8*(3 + 8) = 7040"),
    ("LSTM", 14, ["2,5,3", "1,32,3", "1,32,8"], {"layout": 1}, ("2,5,1,8", "2,1,8", "2,1,8"),
     "5*2*1*4*8*(3 + 8) = 3520"),
    ("LSTM", 22, ["5,2,3", "1,32,3", "1,32,8"], {"direction": "reverse"}, ("5,1,2,8", "1,2,8", "1,2,8"),
     "5*2*1*4*8*(3 + 8) = 3520"),
    ("LSTM", 22, ["5,2,3", "*", "*"], {"hidden_size": 8}, ("5,1,2,8", "1,2,8", "1,2,8"),
     "5*2*1*4*8*(3 + 8) = 3520"),
    ("LSTM", 22, ["5,0,3", "1,32,3", "1,32,8"], {}, ("5,1,0,8", "1,0,8", "1,0,8"), "5*0*1*4*8*(3 + 8) = 0"),
    ("LSTM", 22, ["5,2,3", "*", "*"], {}, ("*", "*", "*"), "unknown"),
    ("LSTM", 22, ["*", "1,32,3", "1,32,8"], {}, ("*", "*", "*"), "unknown"),
    ("LSTM", 22, ["5,3", "1,32,3", "1,32,8"], {}, ("*", "*", "*"), "unknown"),
    ("GRU", 1, ["5,2,3", "1,24,3", "1,24,8"], {}, ("5,1,2,8", "1,2,8"), "5*2*1*3*8*(3 + 8) = 2640"),
    ("GRU", 14, ["B,S,3", "2,24,3", "2,24,8"], {"layout": 1, "direction": "bidirectional"},
     ("B,S,2,8", "B,2,8"), "S*B*2*3*8*(3 + 8) = 528*B*S"),
    ("RNN", 7, ["5,2,3", "1,8,3", "1,8,8"], {}, ("5,1,2,8", "1,2,8"), "5*2*1*1*8*(3 + 8) = 880"),
    ("RNN", 22, ["2,5,3", "1,8,3", "1,8,8"], {"layout": 1}, ("2,5,1,8", "2,1,8"), "5*2*1*1*8*(3 + 8) = 880"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "shapes", "macs"), ROWS)
def test_shapes_and_macs(name, opset, inputs, attributes, shapes, macs):
    found = answer(name, opset, inputs, attributes, outputs=len(shapes))
    assert (found.shapes, found.macs) == (shapes, macs)


def test_quantized_lstm_has_transposed_weights():
    inputs = ["f32 5,2,3", "i8 1,3,32", "i8 1,8,32", *[None] * 5, "1", "i8 1", "1", "i8 1"]
    found = answer("DynamicQuantizeLSTM", 1, inputs, {"hidden_size": 8}, outputs=3, domain="com.microsoft")
    assert found.shapes == ("5,1,2,8", "1,2,8", "1,2,8")
    assert (found.dtype, found.macs, found.problems) == ("float32", "5*2*1*4*8*(3 + 8) = 3520", ())


def test_outputs_have_the_type_of_the_input():
    found = answer("LSTM", 22, ["f16 5,2,3", "f16 1,32,3", "f16 1,32,8"], outputs=3)
    assert found.dtypes == ("float16",) * 3


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (["5,2,4", "1,32,3", "1,32,8"], "LSTM: inputs and weight don't match: 4 and 3"),
        (["5,2,3", "2,32,3", "1,32,8"], "LSTM: directions and weight don't match: 1 and 2"),
        (["5,2,3", "1,32,3", "1,24,8"],
         "LSTM: gates x hidden size and recurrent weight don't match: 32 and 24"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(inputs, problem):
    assert answer("LSTM", 22, inputs).problems == (problem,)
