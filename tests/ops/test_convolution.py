"""Conv and kin, ConvTranspose, Col2Im. Expected sizes by hand from the specification."""

import pytest
from rules import answer

MS, BLOCKED, NHWC = "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"
Q = ["f32:0.1", "u8:1"]

SHAPES = [
    # --- Conv
    ("conv", "Conv", 11, ["1,1,28,28", "32,1,5,5"], {}, "1,32,24,24"),
    ("conv opset 1", "Conv", 1, ["1,1,28,28", "32,1,5,5"], {"kernel_shape": [5, 5]}, "1,32,24,24"),
    ("conv opset 22", "Conv", 22, ["1,1,28,28", "32,1,5,5"], {"pads": [2, 2, 2, 2]}, "1,32,28,28"),
    ("conv stride", "Conv", 11, ["1,1,28,28", "32,1,5,5"], {"strides": [2, 2]}, "1,32,12,12"),
    ("conv dilation", "Conv", 11, ["1,1,28,28", "32,1,5,5"], {"dilations": [2, 3]}, "1,32,20,16"),
    ("conv pads are begins, then ends", "Conv", 11, ["1,1,9,9", "1,1,3,3"], {"pads": [1, 0, 2, 0]},
     "1,1,10,7"),
    ("conv 1-D", "Conv", 11, ["N,8,T", "16,8,3"], {"pads": [1, 1]}, "N,16,T"),
    ("conv 3-D", "Conv", 11, ["N,3,T,H,W", "64,3,3,7,7"], {"pads": [1, 3, 3, 1, 3, 3], "strides": [1, 2, 2]},
     "N,64,T,(H + 1)//2,(W + 1)//2"),
    ("conv depthwise", "Conv", 11, ["N,32,H,W", "32,1,3,3"], {"group": 32, "pads": [1, 1, 1, 1]}, "N,32,H,W"),
    ("conv symbols", "Conv", 11, ["N,3,H,W", "64,3,7,7"], {"strides": [2, 2], "pads": [3, 3, 3, 3]},
     "N,64,(H + 1)//2,(W + 1)//2"),
    ("conv symbolic weight", "Conv", 11, ["N,C,H", "M,C,K"], {}, "N,M,H - K + 1"),
    ("conv unnamed axis", "Conv", 11, ["?,3,8,8", "4,3,3,3"], {}, "x0.dim0,4,6,6"),
    ("conv empty batch", "Conv", 11, ["0,3,8,8", "4,3,3,3"], {}, "0,4,6,6"),
    ("conv exact fit", "Conv", 11, ["1,3,3,3", "4,3,3,3"], {}, "1,4,1,1"),
    ("conv unknown weight", "Conv", 11, ["N,3,8,8", "*"], {"kernel_shape": [3, 3]}, "N,y0.dim1,6,6"),
    ("conv unknown weight and kernel", "Conv", 11, ["N,3,8,8", "*"], {}, "*"),
    ("conv unknown input", "Conv", 11, ["*", "4,3,3,3"], {}, "*"),
    ("conv rank 2", "Conv", 11, ["N,3", "4,3"], {}, "*"),
    ("conv ranks differ", "Conv", 11, ["N,3,8,8", "4,3,3"], {}, "*"),
    ("conv short strides", "Conv", 11, ["N,3,8,8", "4,3,3,3"], {"strides": [2]}, "*"),
    ("conv short pads", "Conv", 11, ["N,3,8,8", "4,3,3,3"], {"pads": [1, 1]}, "*"),
    ("conv stride 0", "Conv", 11, ["N,3,8,8", "4,3,3,3"], {"strides": [0, 1]}, "*"),
    ("conv window too large", "Conv", 11, ["1,3,8,8", "4,3,9,9"], {}, "*"),
    ("conv window fits by its pads", "Conv", 11, ["1,3,8,8", "4,3,9,9"], {"pads": [1, 0, 0, 1]}, "1,4,1,1"),
    # --- Conv with auto_pad: ceil(size/stride), whatever the kernel
    ("same upper", "Conv", 11, ["1,3,7,8", "4,3,3,4"], {"auto_pad": "SAME_UPPER"}, "1,4,7,8"),
    ("same stride", "Conv", 11, ["1,3,7,8", "4,3,3,4"], {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
     "1,4,4,3"),
    ("same dilated", "Conv", 11, ["1,3,7,7", "4,3,3,3"], {"auto_pad": "SAME_UPPER", "dilations": [2, 2]},
     "1,4,7,7"),
    ("same symbols", "Conv", 11, ["N,3,H,W", "4,3,3,3"], {"auto_pad": "SAME_UPPER", "strides": [2, 1]},
     "N,4,(H + 1)//2,W"),
    ("same small kernel", "Conv", 11, ["1,3,7,7", "4,3,1,1"], {"auto_pad": "SAME_UPPER", "strides": [3, 3]},
     "1,4,3,3"),
    ("valid", "Conv", 11, ["1,3,7,8", "4,3,3,4"], {"auto_pad": "VALID", "strides": [2, 2]}, "1,4,3,3"),
    ("notset uses pads", "Conv", 11, ["1,3,7,7", "4,3,3,3"], {"auto_pad": "NOTSET", "pads": [1, 1, 1, 1]},
     "1,4,7,7"),
    ("kernel of 0", "Conv", 11, ["1,3,7,7", "4,3,3,3"], {"kernel_shape": [0, 0]}, "*"),
    ("unknown weight", "Conv", 11, ["1,3,7,7", "*"], {}, "*"),
    ("unknown auto_pad", "Conv", 11, ["1,3,7,7", "4,3,3,3"], {"auto_pad": "FULL"}, "*"),
    # --- quantized
    ("integer", "ConvInteger", 10, ["u8 1,1,4,4", "u8 2,1,2,2"], {"pads": [1, 1, 1, 1]}, "1,2,5,5"),
    ("qlinear", "QLinearConv", 10, ["u8 1,3,7,7", *Q, "u8 4,3,3,3", *Q, *Q], {"strides": [2, 2]}, "1,4,3,3"),
    # --- DeformConv
    ("deform", "DeformConv", 19, ["1,4,6,7", "6,2,3,2", "1,24,4,6"], {"group": 2, "offset_group": 2},
     "1,6,4,6"),
    ("deform strides", "DeformConv", 22, ["N,4,H,W", "6,4,3,3", "N,18,?,?"],
     {"strides": [2, 2], "pads": [1, 1, 1, 1]}, "N,6,(H + 1)//2,(W + 1)//2"),
    ("deform rank", "DeformConv", 22, ["N,4", "6,4", "N,18"], {}, "*"),
    # --- ConvTranspose: stride*(S - 1) + output_padding + dilation*(K - 1) + 1 - pads
    ("transpose", "ConvTranspose", 11, ["1,3,5,5", "3,4,3,3"], {}, "1,4,7,7"),
    ("transpose opset 1", "ConvTranspose", 1, ["1,3,5,5", "3,4,2,2"], {"strides": [2, 2]}, "1,4,10,10"),
    ("transpose opset 22", "ConvTranspose", 22, ["1,3,5,5", "3,4,3,3"], {"pads": [1, 1, 1, 1]}, "1,4,5,5"),
    ("transpose group", "ConvTranspose", 11, ["1,4,5,5", "4,3,3,3"], {"group": 2}, "1,6,7,7"),
    ("transpose output_padding", "ConvTranspose", 11, ["1,3,5,5", "3,4,3,3"],
     {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]}, "1,4,10,9"),
    ("transpose dilation", "ConvTranspose", 11, ["1,3,5,5", "3,4,3,3"], {"dilations": [2, 3]}, "1,4,9,11"),
    ("transpose symbols", "ConvTranspose", 11, ["N,3,H,W", "3,4,2,2"], {"strides": [2, 2]}, "N,4,2*H,2*W"),
    ("transpose 1-D", "ConvTranspose", 11, ["N,3,T", "3,4,4"], {"strides": [2], "pads": [1, 1]}, "N,4,2*T"),
    ("transpose output_shape", "ConvTranspose", 11, ["1,3,3,3", "3,2,3,3"],
     {"strides": [3, 2], "output_shape": [10, 8]}, "1,2,10,8"),
    ("transpose output_shape, all axes", "ConvTranspose", 11, ["1,3,3,3", "3,2,3,3"],
     {"strides": [3, 2], "output_shape": [1, 2, 10, 8]}, "1,2,10,8"),
    ("transpose output_shape over SAME", "ConvTranspose", 11, ["1,3,3,3", "3,2,3,3"],
     {"strides": [3, 2], "output_shape": [8, 7], "auto_pad": "SAME_UPPER"}, "1,2,8,7"),
    ("transpose same", "ConvTranspose", 11, ["1,1,3,3", "1,2,3,3"],
     {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
     "1,2,6,6"),
    ("transpose same symbols", "ConvTranspose", 11, ["N,1,H,W", "1,2,3,3"],
     {"strides": [2, 3], "auto_pad": "SAME_LOWER"}, "N,2,2*H,3*W"),
    ("transpose same, window below the stride", "ConvTranspose", 11, ["1,1,8", "1,2,2"],
     {"strides": [3], "auto_pad": "SAME_UPPER"}, "1,2,y0.dim2"),
    ("transpose valid ignores pads", "ConvTranspose", 11, ["1,3,5", "3,4,3"],
     {"auto_pad": "VALID", "pads": [0, 0]}, "1,4,7"),
    ("transpose all cut away", "ConvTranspose", 11, ["1,3,2", "3,4,2"], {"pads": [2, 2]}, "*"),
    ("transpose short output_shape", "ConvTranspose", 11, ["1,3,5,5", "3,4,3,3"], {"output_shape": [9]}, "*"),
    ("transpose rank", "ConvTranspose", 11, ["N,3", "3,4"], {}, "*"),
    ("transpose unknown", "ConvTranspose", 11, ["*", "3,4,3,3"], {}, "*"),
    # --- Col2Im
    ("col2im", "Col2Im", 18, ["1,5,5", "i64:[5,5]", "i64:[1,5]"], {}, "1,1,5,5"),
    ("col2im symbols", "Col2Im", 18, ["N,12,L", "size:[H,W]", "i64:[2,2]"], {}, "N,3,H,W"),
    ("col2im 3-D", "Col2Im", 18, ["1,10,12", "i64:[3,4,5]", "i64:[1,1,5]"], {}, "1,2,3,4,5"),
    ("col2im block that doesn't divide", "Col2Im", 18, ["1,10,12", "i64:[4,4]", "i64:[2,2]"], {}, "*"),
    ("col2im unknown block", "Col2Im", 18, ["1,12,9", "i64:[4,4]", "i64 2"], {}, "*"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "shape"), [r[1:] for r in SHAPES],
                         ids=[r[0] for r in SHAPES])  # fmt: skip
def test_shape(name, opset, inputs, attributes, shape):
    assert answer(name, opset, inputs, attributes).shape == shape


OTHER_DOMAINS = [
    ("FusedConv", MS, ["1,3,8,8", "4,3,3,3"], {"activation": "Relu"}, "1,4,6,6"),
    ("NhwcConv", MS, ["1,7,6,3", "4,3,3,2"], {}, "1,5,5,4"),
    ("NhwcFusedConv", MS, ["1,7,6,3", "4,5,2,3"], {"strides": [2, 1]}, "1,2,5,4"),  # weight [M, *K, C]
    ("NhwcConv", MS, ["1,7,7,3", "4,3,3,3"], {"pads": [1, 1, 1, 1]}, "1,7,7,4"),
    ("QLinearConv", MS, ["u8 1,7,6,3", *Q, "u8 4,3,3,2", *Q, *Q], {"channels_last": 1}, "1,5,5,4"),
    ("QLinearConv", MS, ["u8 1,3,7,6", *Q, "u8 4,3,3,2", *Q, *Q], {}, "1,4,5,5"),
    ("Conv", BLOCKED, ["1,16,8,8", "32,16,3,3"], {"pads": [1, 1, 1, 1]}, "1,32,8,8"),
    ("Conv", NHWC, ["N,H,W,3", "8,3,3,3"], {}, "N,H - 2,W - 2,8"),
    ("ConvTransposeWithDynamicPads", MS, ["1,3,5,5", "3,2,3,3", "i64:[1,1,1,0]"], {"strides": [2, 2]},
     "1,2,9,10"),
    ("ConvTransposeWithDynamicPads", MS, ["1,3,5,5", "3,2,3,3", "i64 4"], {}, "*"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "domain", "inputs", "attributes", "shape"), OTHER_DOMAINS)
def test_shape_in_other_domains(name, domain, inputs, attributes, shape):
    assert answer(name, 1, inputs, attributes, domain=domain).shape == shape


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "macs"),
    [
        ("Conv", ["1,1,28,28", "32,1,5,5"], {}, "1*32*24*24*5*5*1 = 460800"),
        ("Conv", ["N,32,H,W", "32,1,3,3"], {"group": 32, "pads": [1, 1, 1, 1]}, "N*32*H*W*3*3*1 = 288*H*N*W"),
        ("Conv", ["N,3,8,8", "*"], {"kernel_shape": [3, 3]}, "unknown"),
        ("Conv", ["*", "4,3,3,3"], {}, "unknown"),
        # by input positions: 75 inputs, each with 4*9 weights; by output positions it would be 6*2,700
        ("ConvTranspose", ["1,3,5,5", "3,4,3,3"], {"strides": [2, 2]}, "1*3*5*5*3*3*4 = 2700"),
        ("ConvTranspose", ["1,4,5", "4,3,2"], {"group": 2}, "1*4*5*2*3 = 120"),
        ("DeformConv", ["1,4,6,7", "6,2,3,2", "1,12,4,6"], {"group": 2}, "1*6*4*6*3*2*2 = 1728"),
        ("Col2Im", ["1,5,5", "i64:[5,5]", "i64:[1,5]"], {}, None),
    ],
)
def test_macs(name, inputs, attributes, macs):
    assert answer(name, 22, inputs, attributes).macs == macs


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "axes"),
    [
        ("Conv", ["1,1,28,28", "9,1,5,5"], {}, ["(28 + 2*0 - 1*(5 - 1) - 1)//1 + 1 = 24"] * 2),
        ("Conv", ["1,1,9", "9,1,3"], {"pads": [1, 2], "dilations": [2], "strides": [3]},
         ["(9 + 1 + 2 - 2*(3 - 1) - 1)//3 + 1 = 3"]),
        ("Conv", ["1,1,9", "9,1,3"], {"auto_pad": "SAME_UPPER", "strides": [2]}, ["(9 + 2 - 1)//2 = 5"]),
        ("ConvTranspose", ["1,1,5", "1,1,3"], {"strides": [2], "pads": [1, 1], "output_padding": [1]},
         ["2*(5 - 1) + 1 + 1*(3 - 1) + 1 - 2*1 = 10"]),
        ("ConvTranspose", ["1,1,5", "1,1,3"], {"strides": [2], "auto_pad": "SAME_UPPER"}, ["5*2 = 10"]),
    ],
)  # fmt: skip
def test_worked_sizes(name, inputs, attributes, axes):
    assert list(answer(name, 11, inputs, attributes).axes) == axes


@pytest.mark.parametrize(
    ("name", "size", "kernel", "attributes", "pads"),
    [
        # total = (ceil(7/1) - 1)*1 + 2*(3 - 1) + 1 - 7 = 4
        ("Conv", 7, 3, {"auto_pad": "SAME_UPPER", "dilations": [2]}, (2, 2)),
        ("Conv", 7, 4, {"auto_pad": "SAME_UPPER"}, (1, 2)),
        ("Conv", 7, 4, {"auto_pad": "SAME_LOWER"}, (2, 1)),
        ("Conv", 7, 1, {"auto_pad": "SAME_UPPER", "strides": [4]}, (0, 0)),  # never negative
        ("Conv", 7, 3, {"auto_pad": "VALID"}, (0, 0)),
        ("Conv", 7, 3, {"pads": [2, 0]}, (2, 0)),
        # without pads 2*(3 - 1) + 3 = 7; 7 - 6 = 1 is one odd pixel
        ("ConvTranspose", 3, 3, {"strides": [2], "output_shape": [6]}, (1, 0)),
        ("ConvTranspose", 3, 3, {"strides": [2], "auto_pad": "SAME_UPPER"}, (0, 1)),
        ("ConvTranspose", 3, 3, {"strides": [2], "auto_pad": "SAME_LOWER"}, (1, 0)),
        ("ConvTranspose", 3, 3, {"strides": [2], "pads": [1, 2]}, (1, 2)),
    ],
)
def test_resolved_pads(name, size, kernel, attributes, pads):
    window = answer(name, 11, [f"1,1,{size}", f"1,1,{kernel}"], attributes).inferred.window
    assert window.pads == pads


def test_window_of_a_group_convolution():
    window = answer("Conv", 11, ["1,4,9,9", "8,2,3,5"], {"group": 2, "strides": [2, 1]}).inferred.window
    assert (window.kernel, window.strides, window.dilations) == ((3, 5), (2, 1), (1, 1))
    assert (window.group, window.transposed, window.channels_last) == (2, False, False)
    assert answer("ConvTranspose", 11, ["1,3,5", "3,4,3"]).inferred.window.transposed
    assert answer("NhwcConv", 1, ["1,7,6,3", "4,3,3,2"], domain=MS).inferred.window.channels_last


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "problem"),
    [
        ("Conv", ["1,4,8,8", "4,3,3,3"], {},
         "Conv: input channels and weight channels x group don't match: 4 and 3"),
        ("Conv", ["1,3,8,8", "4,3,3,3"], {"kernel_shape": [5, 3]},
         "Conv: kernel_shape and the weight don't match: 5 and 3"),
        ("Conv", ["1,3,4,9", "4,3,3,3"], {"dilations": [2, 2]},
         "Conv: no window fits: it covers 5 pixels, the padded input has 4"),
        ("ConvTranspose", ["1,4,5", "3,2,3"], {},
         "ConvTranspose: input channels and weight don't match: 4 and 3"),
        ("DeformConv", ["1,2,6,6", "4,2,3,3", "1,9,4,4"], {},
         "DeformConv: offset channels don't match: 9 and 18"),
    ],
)  # fmt: skip
def test_problem(name, inputs, attributes, problem):
    assert answer(name, 22, inputs, attributes).problems == (problem,)


@pytest.mark.parametrize(
    ("name", "opset", "inputs", "dtype"),
    [
        ("Conv", 11, ["f16 1,1,8,8", "f16 1,1,3,3"], "float16"),
        ("ConvInteger", 10, ["u8 1,1,8,8", "u8 1,1,3,3"], "int32"),
        ("QLinearConv", 10, ["u8 1,1,8,8", *Q, "i8 1,1,3,3", *Q, "f32:0.1", "i8:1"], "int8"),
        ("ConvTranspose", 22, ["bf16 1,1,8", "bf16 1,1,3"], "bfloat16"),
    ],
)
def test_dtype(name, opset, inputs, dtype):
    assert answer(name, opset, inputs).dtype == dtype


@pytest.mark.parametrize(
    ("domain", "opset", "inputs", "attributes", "shapes", "macs"),
    [
        ("", 27, ["N,C,L", "C,1,4"], {}, ("N,C,L", "N,C,3"), "N*C*L*4 = 4*C*L*N"),
        ("", 27, ["2,3,7", "3,1,4", None, "2,3,3"], {}, ("2,3,7", "2,3,3"), "2*3*7*4 = 168"),
        (MS, 1, ["2,3,7", "3,1,4"], {"dilation": 2}, ("2,3,7", "2,3,6"), "2*3*7*4 = 168"),
        (MS, 1, ["2,7,3", "3,1,4"], {"channels_last": 1}, ("2,7,3", "2,3,3"), "2*7*3*4 = 168"),
        (MS, 1, ["2,3,7", "3,1,4"], {"state_window": 5}, ("2,3,7", "5,2,3,3"), "2*3*7*4 = 168"),
        (MS, 1, ["2,3,7,7", "3,1,4,4"], {"ndim": 2}, ("2,3,7,7", "*"), "unknown"),
    ],
)
def test_causal_conv_with_state(domain, opset, inputs, attributes, shapes, macs):
    found = answer("CausalConvWithState", opset, inputs, attributes, outputs=2, domain=domain)
    assert (found.shapes, found.macs) == (shapes, macs)
