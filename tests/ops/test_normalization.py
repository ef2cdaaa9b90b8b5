"""Normalizations and onnxruntime's fusions of them. Expected sizes by hand from the specification."""

import pytest
from rules import answer

MS, NHWC = "com.microsoft", "com.ms.internal.nhwc"
C3 = ["3"] * 4

ROWS = [
    ("BatchNormalization", 1, ["N,3,H,W", *C3], {"is_test": 1}, ("N,3,H,W",)),
    ("BatchNormalization", 6, ["N,3,H,W", *C3], {}, ("N,3,H,W", "3", "3", "3", "3")),
    ("BatchNormalization", 7, ["N,3,4,5", *["3,4,5"] * 4], {"spatial": 0}, ("N,3,4,5", "3,4,5")),
    ("BatchNormalization", 9, ["N,3", *C3], {}, ("N,3",)),
    ("BatchNormalization", 9, ["N", *["1"] * 4], {}, ("N",)),
    ("BatchNormalization", 14, ["N,3,H", *C3], {"training_mode": 1}, ("N,3,H", "3", "3")),
    ("BatchNormalization", 15, ["0,3,4,4", *C3], {}, ("0,3,4,4",)),
    ("BatchNormalization", 15, ["N,3,H,W", "*", "*", "*", "*"], {"training_mode": 1}, ("N,3,H,W", "*", "*")),
    ("BatchNormalization", 15, ["*", *C3], {}, ("*",)),
    ("InstanceNormalization", 1, ["N,3,H,W", "3", "3"], {}, ("N,3,H,W",)),
    ("InstanceNormalization", 22, ["N,3,T", "3", "3"], {}, ("N,3,T",)),
    ("GroupNormalization", 18, ["N,4,H,W", "2", "2"], {"num_groups": 2}, ("N,4,H,W",)),
    ("GroupNormalization", 21, ["N,4,H,W", "4", "4"], {"num_groups": 2}, ("N,4,H,W",)),
    ("LpNormalization", 1, ["N,3"], {"axis": 1, "p": 1}, ("N,3",)),
    ("LpNormalization", 22, ["N,3"], {}, ("N,3",)),
    ("LRN", 1, ["N,96,55,55"], {"size": 5}, ("N,96,55,55",)),
    ("LRN", 13, ["*"], {"size": 5}, ("*",)),
    ("MeanVarianceNormalization", 9, ["N,3,H,W"], {}, ("N,3,H,W",)),
    ("MeanVarianceNormalization", 13, ["N,3"], {"axes": [1]}, ("N,3",)),
    # --- statistics keep the axes before `axis` and are 1 from there on
    ("LayerNormalization", 17, ["N,S,768", "768", "768"], {}, ("N,S,768", "N,S,1", "N,S,1")),
    ("LayerNormalization", 17, ["N,S,768", "S,768"], {"axis": 1}, ("N,S,768", "N,1,1", "N,1,1")),
    ("LayerNormalization", 17, ["2,3,4", "3,4"], {"axis": -2}, ("2,3,4", "2,1,1", "2,1,1")),
    ("LayerNormalization", 11, ["2,3,4", "4"], {}, ("2,3,4", "2,3,1")),  # onnxruntime's older op
    ("LayerNormalization", 17, ["2,3,4", "4"], {"axis": 3}, ("*", "*")),
    ("RMSNormalization", 23, ["N,S,768", "768"], {}, ("N,S,768",)),
    ("SimplifiedLayerNormalization", 17, ["N,S,768", "768"], {"axis": -1}, ("N,S,768", "N,S,1")),
]


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "shapes"), ROWS)
def test_shapes(name, opset, inputs, attributes, shapes):
    found = answer(name, opset, inputs, attributes, outputs=len(shapes))
    assert (found.shapes, found.macs) == (shapes, None)


MICROSOFT = [
    ("GroupNorm", MS, ["N,H,W,320", "320", "320"], {"groups": 32, "activation": 1}, ("N,H,W,320",)),
    ("SkipGroupNorm", MS, ["N,H,W,320", "320", "320", "N,320"], {"groups": 32, "activation": 1},
     ("N,H,W,320", "N,H,W,320")),
    ("SkipLayerNormalization", MS, ["N,S,768", "S,768", "768", "768"], {},
     ("N,S,768", "N,S,1", "N,S,1", "N,S,768")),
    ("SkipSimplifiedLayerNormalization", MS, ["N,S,768", "N,S,768", "768"], {},
     ("N,S,768", "N,S,1", "N,S,1", "N,S,768")),
    ("SkipLayerNormalization", MS, ["*", "S,768", "768"], {}, ("*",)),
    ("EmbedLayerNormalization", MS, ["i32 N,S", "i32 N,S", "30522,768", "512,768", "2,768", "768", "768"], {},
     ("N,S,768", "N", "N,S,768")),
    ("EmbedLayerNormalization", MS, ["i32 N,S,1", None, "30522,768", "512,768"], {}, ("*",)),
    ("BiasGelu", MS, ["N,S,3072", "3072"], {}, ("N,S,3072",)),
    ("FastGelu", MS, ["N,S,3072"], {}, ("N,S,3072",)),
    ("Gelu", MS, ["N,S,3072"], {}, ("N,S,3072",)),
    ("QuickGelu", MS, ["N,S,3072"], {"alpha": 1.702}, ("N,S,3072",)),
    ("BiasSplitGelu", MS, ["N,S,2560", "2560"], {}, ("N,S,1280",)),
    ("BiasSplitGelu", MS, ["()", "1"], {}, ("*",)),
    ("BiasAdd", MS, ["N,S,320", "320", "N,S,320"], {}, ("N,S,320",)),
    ("BiasSoftmax", MS, ["N,12,S,S", "N,1,1,S"], {"axis": 3, "is_inner_broadcast": 1}, ("N,12,S,S",)),
    ("BiasDropout", MS, ["N,S", "S"], {}, ("N,S", "N,S")),
    ("Inverse", MS, ["N,4,4"], {}, ("N,4,4",)),
    ("SimplifiedLayerNormalization", MS, ["N,S,768", "768"], {}, ("N,S,768",)),
    ("BatchNormalization", NHWC, ["N,H,W,3", *C3], {}, ("N,H,W,3",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "domain", "inputs", "attributes", "shapes"), MICROSOFT)
def test_shapes_in_other_domains(name, domain, inputs, attributes, shapes):
    found = answer(name, 1, inputs, attributes, outputs=len(shapes), domain=domain)
    assert (found.shapes, found.macs) == (shapes, None)


@pytest.mark.parametrize(
    ("name", "opset", "inputs", "attributes", "dtypes"),
    [
        ("BatchNormalization", 15, ["f16 N,3,H", "f16 3", "f16 3", "3", "3"], {"training_mode": 1},
         ("float16", "float32", "float32")),
        ("LayerNormalization", 17, ["f16 N,3", "f16 3"], {}, ("float16", "float32", "float32")),
        ("LayerNormalization", 17, ["f64 N,3", "f64 3"], {"stash_type": 11},
         ("float64", "float64", "float64")),
        ("RMSNormalization", 23, ["f16 N,3", "bf16 3"], {}, ("bfloat16",)),
        ("InstanceNormalization", 6, ["f16 N,3,H", "f16 3", "f16 3"], {}, ("float16",)),
    ],
)  # fmt: skip
def test_dtypes(name, opset, inputs, attributes, dtypes):
    assert answer(name, opset, inputs, attributes, outputs=len(dtypes)).dtypes == dtypes


def test_scale_must_fit_the_channels():
    found = answer("BatchNormalization", 15, ["N,4,H,W", *C3])
    assert found.problems == ("BatchNormalization: channels and scale don't match: 4 and 3",)
    assert answer("BatchNormalization", 1, ["N,4,H", *C3], domain=NHWC).problems != found.problems


def test_mask_of_a_dropout_is_boolean():
    assert answer("BiasDropout", 1, ["f16 N,S", "f16 S"], outputs=2, domain=MS).dtypes == ("float16", "bool")
