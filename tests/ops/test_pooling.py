"""Pools. Expected sizes by hand from the specification; those with ceil_mode were run in onnxruntime too."""

import pytest
from rules import answer

MS, BLOCKED, NHWC = "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"
Q = ["f32:0.1", "u8:1"]
K2, K3 = {"kernel_shape": [2, 2], "strides": [2, 2]}, {"kernel_shape": [3, 3], "strides": [2, 2]}

SHAPES = [
    ("max", "MaxPool", 12, ["1,32,24,24"], K2, "1,32,12,12"),
    ("max opset 1", "MaxPool", 1, ["1,32,25,25"], K2, "1,32,12,12"),
    ("max opset 8", "MaxPool", 8, ["1,32,25,25"], K2, "1,32,12,12"),
    ("max stride 1", "MaxPool", 12, ["1,3,8,8"], {"kernel_shape": [3, 2]}, "1,3,6,7"),
    ("max pads", "MaxPool", 12, ["1,64,112,112"], {**K3, "pads": [1, 1, 1, 1]}, "1,64,56,56"),
    ("max dilation", "MaxPool", 10, ["1,1,4,4"], {"kernel_shape": [2, 2], "dilations": [2, 2]}, "1,1,2,2"),
    ("max 1-D", "MaxPool", 12, ["N,C,T"], {"kernel_shape": [4], "strides": [4]}, "N,C,T//4"),
    ("max 3-D", "MaxPool", 12, ["N,C,8,9,10"], {"kernel_shape": [2, 2, 2], "strides": [1, 2, 3]},
     "N,C,7,4,3"),
    ("max symbols", "MaxPool", 12, ["N,64,H,W"], {**K3, "pads": [1, 1, 1, 1]}, "N,64,(H + 1)//2,(W + 1)//2"),
    ("average", "AveragePool", 1, ["N,3,H,W"], {"kernel_shape": [7, 7]}, "N,3,H - 6,W - 6"),
    ("average pads counted", "AveragePool", 7, ["1,3,8,8"],
     {**K3, "pads": [1, 1, 0, 0], "count_include_pad": 1},
     "1,3,4,4"),
    ("average dilation", "AveragePool", 19, ["1,3,8,8"], {"kernel_shape": [3, 3], "dilations": [2, 3]},
     "1,3,4,2"),
    ("lp opset 1", "LpPool", 1, ["1,3,8,8"], {"kernel_shape": [2, 2], "p": 2.0}, "1,3,7,7"),
    ("lp opset 2", "LpPool", 2, ["1,3,8,8"], {"kernel_shape": [2, 2], "p": 3}, "1,3,7,7"),
    ("lp opset 22", "LpPool", 22, ["1,3,8,8"], {"kernel_shape": [2, 2], "dilations": [2, 1]}, "1,3,6,7"),
    # --- ceil_mode: the last window may hang over, one that would start in the end padding is dropped
    ("ceil", "MaxPool", 10, ["1,1,4,4"], {**K3, "ceil_mode": 1}, "1,1,2,2"),
    ("ceil starts in the padding", "MaxPool", 10, ["1,1,3,3"], {**K2, "pads": [1, 1, 1, 1], "ceil_mode": 1},
     "1,1,2,2"),
    ("ceil starts in the padding, 22", "MaxPool", 22, ["1,1,3,3"],
     {**K2, "pads": [1, 1, 1, 1], "ceil_mode": 1},
     "1,1,2,2"),
    ("ceil average", "AveragePool", 10, ["1,1,3,3"], {**K2, "pads": [1, 1, 1, 1], "ceil_mode": 1}, "1,1,2,2"),
    ("ceil lp", "LpPool", 18, ["1,1,3,3"], {**K2, "pads": [1, 1, 1, 1], "ceil_mode": 1}, "1,1,2,2"),
    ("ceil symbols", "MaxPool", 10, ["N,C,H,W"], {**K3, "ceil_mode": 1}, "N,C,H//2,W//2"),
    ("ceil padded symbols", "MaxPool", 10, ["N,C,H"], {"kernel_shape": [2], "strides": [2], "pads": [1, 1],
                                                        "ceil_mode": 1}, "N,C,(H + 2)//2"),
    ("ceil window hangs over", "MaxPool", 10, ["1,1,2"],
     {"kernel_shape": [3], "strides": [2], "ceil_mode": 1},
     "1,1,1"),
    # --- auto_pad
    ("same", "MaxPool", 12, ["1,3,7,8"], {**K3, "auto_pad": "SAME_UPPER"}, "1,3,4,4"),
    ("same ceil", "MaxPool", 12, ["1,3,7,8"], {**K3, "auto_pad": "SAME_LOWER", "ceil_mode": 1}, "1,3,4,4"),
    ("same symbols", "AveragePool", 11, ["N,3,H,W"], {**K3, "auto_pad": "SAME_UPPER"},
     "N,3,(H + 1)//2,(W + 1)//2"),
    ("same dilated is contested", "MaxPool", 12, ["1,3,8,8"], {"kernel_shape": [3, 1], "dilations": [2, 2],
                                                                "auto_pad": "SAME_UPPER"}, "1,3,y0.dim2,8"),
    ("valid", "MaxPool", 12, ["1,3,8,8"], {**K3, "auto_pad": "VALID"}, "1,3,3,3"),
    ("valid ceil is contested", "MaxPool", 12, ["1,3,8,7"], {**K3, "auto_pad": "VALID", "ceil_mode": 1},
     "1,3,y0.dim2,3"),
    # --- what can't be answered
    ("no kernel", "LpPool", 1, ["1,3,8,8"], {}, "*"),
    ("kernel of another rank", "MaxPool", 12, ["1,3,8"], K2, "*"),
    ("rank 2", "MaxPool", 12, ["1,3"], {"kernel_shape": []}, "*"),
    ("unknown", "MaxPool", 12, ["*"], K2, "*"),
    ("window too large", "MaxPool", 12, ["1,3,2,2"], K3, "*"),
    # --- global
    ("global average", "GlobalAveragePool", 1, ["N,512,H,W"], {}, "N,512,1,1"),
    ("global average 22", "GlobalAveragePool", 22, ["N,512,T"], {}, "N,512,1"),
    ("global max", "GlobalMaxPool", 1, ["2,3,4,5,6"], {}, "2,3,1,1,1"),
    ("global lp 1", "GlobalLpPool", 1, ["2,3,4,5"], {"p": 2.0}, "2,3,1,1"),
    ("global lp 2", "GlobalLpPool", 2, ["2,3,4,5"], {"p": 2}, "2,3,1,1"),
    ("global rank 1", "GlobalMaxPool", 1, ["3"], {}, "*"),
    ("global unknown", "GlobalMaxPool", 1, ["*"], {}, "*"),
    # --- MaxUnpool: stride*(S - 1) + kernel - pads
    ("unpool", "MaxUnpool", 9, ["1,1,2,2", "i64 1,1,2,2"], K2, "1,1,4,4"),
    ("unpool pads", "MaxUnpool", 11, ["1,1,2,2", "i64 1,1,2,2"], {"kernel_shape": [3, 2], "strides": [2, 3],
                                                                  "pads": [1, 0, 1, 0]}, "1,1,3,5"),
    ("unpool symbols", "MaxUnpool", 22, ["N,C,H", "i64 N,C,H"], {"kernel_shape": [2], "strides": [2]},
     "N,C,2*H"),
    ("unpool output_shape", "MaxUnpool", 11, ["1,1,2,2", "i64 1,1,2,2", "i64:[1,1,5,6]"], K2, "1,1,5,6"),
    ("unpool unknown output_shape", "MaxUnpool", 11, ["1,1,2,2", "i64 1,1,2,2", "i64 4"], K2, "*"),
    ("unpool no kernel", "MaxUnpool", 11, ["1,1,2,2", "i64 1,1,2,2"], {}, "*"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "shape"), [r[1:] for r in SHAPES],
                         ids=[r[0] for r in SHAPES])  # fmt: skip
def test_shape(name, opset, inputs, attributes, shape):
    assert answer(name, opset, inputs, attributes).shape == shape


@pytest.mark.parametrize(
    ("name", "domain", "inputs", "attributes", "shape"),
    [
        ("NhwcMaxPool", MS, ["u8 1,7,6,3"], {**K2, "ceil_mode": 1}, "1,4,3,3"),
        (
            "QLinearAveragePool",
            MS,
            ["u8 1,5,7,3", *Q, *Q],
            {**K2, "ceil_mode": 1, "channels_last": 1},
            "1,3,4,3",
        ),
        ("QLinearAveragePool", MS, ["u8 1,3,5,7", *Q, *Q], K2, "1,3,2,3"),
        ("QLinearGlobalAveragePool", MS, ["u8 N,5,7,3", *Q, *Q], {"channels_last": 1}, "N,1,1,3"),
        ("QLinearGlobalAveragePool", MS, ["u8 N,5,7,3", *Q, *Q], {}, "N,5,1,1"),
        ("MaxpoolWithMask", MS, ["1,3,8,8", "i32 1,3,8,8"], K2, "1,3,4,4"),
        ("MaxPool", BLOCKED, ["1,16,8,8"], K2, "1,16,4,4"),
        ("AveragePool", BLOCKED, ["1,16,7,7"], {"kernel_shape": [7, 7]}, "1,16,1,1"),
        ("GlobalAveragePool", BLOCKED, ["1,16,7,7"], {}, "1,16,1,1"),
        ("MaxPool", NHWC, ["1,8,8,16"], K2, "1,4,4,16"),
        ("GlobalMaxPool", NHWC, ["N,H,W,16"], {}, "N,1,1,16"),
    ],
)
def test_shape_in_other_domains(name, domain, inputs, attributes, shape):
    assert answer(name, 1, inputs, attributes, domain=domain).shape == shape


@pytest.mark.parametrize(
    ("name", "domain", "inputs", "attributes", "shape"),
    [
        ("ReorderInput", BLOCKED, ["1,32,8,8"], {}, "1,32,8,8"),
        ("ReorderInput", BLOCKED, ["N,H,W,32"], {"channels_last": 1}, "N,32,H,W"),
        ("ReorderInput", BLOCKED, ["1,3,8,8"], {}, "1,y0.dim1,8,8"),  # 8 or 16, as the machine's vectors are
        ("ReorderInput", BLOCKED, ["1,9,8,8"], {}, "1,16,8,8"),
        ("ReorderOutput", BLOCKED, ["1,32,8,8"], {"channels": 30}, "1,30,8,8"),
        ("ReorderOutput", BLOCKED, ["1,32,8,9"], {"channels": 30, "channels_last": 1}, "1,8,9,30"),
        ("ReorderOutput", BLOCKED, ["1,32,8,8"], {}, "*"),
        ("Upsample", BLOCKED, ["1,32,H,W"], {"scales": [1, 1, 2, 3]}, "1,32,2*H,3*W"),
        ("Upsample", BLOCKED, ["1,32,H,W"], {"scales": [2, 3]}, "*"),
    ],
)
def test_blocked_layout(name, domain, inputs, attributes, shape):
    assert answer(name, 1, inputs, attributes, domain=domain).shape == shape


def test_second_output_of_max_pool_holds_indices():
    found = answer("MaxPool", 8, ["f16 1,3,8,8"], K2, outputs=2)
    assert (found.shapes, found.dtypes) == (("1,3,4,4",) * 2, ("float16", "int64"))


@pytest.mark.parametrize(
    ("attributes", "axes"),
    [
        ({"kernel_shape": [2], "strides": [2]}, ("(9 + 2*0 - 1*(2 - 1) - 1)//2 + 1 = 4",)),
        ({"kernel_shape": [2], "strides": [2], "pads": [1, 0], "ceil_mode": 1},
         ("min((9 + 1 + 0 - 1*(2 - 1) - 1 + (2 - 1))//2 + 1, (9 + 1 - 1)//2 + 1) = 5",)),
    ],
)  # fmt: skip
def test_worked_sizes(attributes, axes):
    found = answer("MaxPool", 12, ["1,1,9"], attributes)
    assert (found.axes, found.macs) == (axes, None)


def test_contested_sizes_are_explained():
    contested = {**K3, "auto_pad": "VALID", "ceil_mode": 1}
    assert "onnxruntime rounds up" in answer("MaxPool", 12, ["1,3,8,7"], contested).inferred.note
    assert answer("MaxPool", 12, ["1,3,7,7"], contested).inferred.note == ""
    contested = {"kernel_shape": [3], "dilations": [2], "auto_pad": "SAME_UPPER"}
    assert "undilated" in answer("MaxPool", 12, ["1,3,8"], contested).inferred.note


def test_window_of_a_pool():
    window = answer("MaxPool", 12, ["1,3,8,8"], {**K3, "pads": [0, 1, 1, 0]}).inferred.window
    assert (window.kernel, window.strides, window.pads) == ((3, 3), (2, 2), (0, 1, 1, 0))
    assert answer("NhwcMaxPool", 1, ["u8 1,7,6,3"], K2, domain=MS).inferred.window.channels_last
    assert answer("GlobalMaxPool", 1, ["2,3,4,5"]).inferred.window is None


def test_output_type_of_quantized_pools():
    inputs = ["i8 1,3,8,8", *Q, "f32:0.1", "i8:0"]
    assert answer("QLinearAveragePool", 1, inputs, K2, domain=MS).dtype == "int8"
    assert answer("QLinearGlobalAveragePool", 1, ["u8 1,3,8,8", *Q, *Q], domain=MS).dtype == "uint8"
