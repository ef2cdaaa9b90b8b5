"""Conversions and verifications made by hand, for the renderers: two plans, three verdicts."""

from onnxscope.documents.conversion import conversion
from onnxscope.documents.verification import verification
from onnxscope.edit import Edit
from onnxscope.expr import symbol
from onnxscope.graph import Graph, Model, Node, Type, ValueInfo
from onnxscope.proof.result import (
    BatchLatency,
    DenseResult,
    DenseSpeed,
    Latency,
    LayerResult,
    OutputResult,
    ProviderUse,
    Run,
    Timing,
    Trial,
    Verification,
    WeightCounts,
)
from onnxscope.rewrite.plan import Conversion, Geometry, Options, Plan, Refusal

H, W = symbol("H"), symbol("W")
LOCAL = "in float64 from its own input: lambda u sqrt(Q); lambda = 7.20, K = 25088"
JITTER = "jitter check: 2 reruns of the original with rounded weights; lambda 7.2, u 2^-24, K 25088, N 18000"


def model(path, shape_in, shape_out):
    x, y = ValueInfo("image", Type("tensor", 1, shape_in)), ValueInfo("logits", Type("tensor", 1, shape_out))
    whole = Node(0, "net", "Net", "my", ("image",), ("logits",))
    return Model(Graph("g", (x,), (y,), (whole,)), ir_version=8, opsets=(("", 17), ("my", 1)), path=path)


def vgg_plan():
    """VGG-16 as a map: three layers, all convert."""
    before = model("models/vgg16.onnx", (1, 3, 224, 224), (1, 1000))
    layers = (
        Conversion(
            "classifier.0", "Gemm 25088 -> 4096", "Conv 7x7x512 -> 4096", (7, 7), "conv", "", "same bytes"
        ),
        Conversion(
            "classifier.3", "Gemm 4096 -> 4096", "Conv 1x1x4096 -> 4096", (1, 1), "conv", "", "same bytes"
        ),
        Conversion(
            "classifier.6", "Gemm 4096 -> 1000", "Conv 1x1x4096 -> 1000", (1, 1), "conv", "", "same bytes"
        ),
    )
    size = ((H - 192) // 32, (W - 192) // 32)
    where = Geometry("logits", size, (32, 32), (-90, -90), (404, 404), {"H": 224, "W": 224})
    notes = ("plain Conv reads the weights again for every image of a batch; --form fold does not",)
    return Plan(
        before, Options(), layers, (), Edit(why="head"), (where,), 138_357_544, 138_357_544, notes
    ), model("models/vgg16.onnx", (1, 3, "H", "W"), (1, 1000, "h", "w"))


def mixed_plan():
    """A drop-in where most layers stay: three for one reason, one for another."""
    before = model("encoder.onnx", ("N", 3, 32, 32), ("N", 10))
    done = (
        Conversion(
            "head",
            "MatMul+Add 8192 -> 10",
            "Conv 8x8x128 -> 10",
            (8, 8),
            "rows",
            "the head is int8",
            "permuted",
        ),
    )
    stays = "its input tokens [N, 197, 768] is no vector per image: it already acts on every position"
    kept = (
        *(Refusal(f"encoder.{i}.mlp.fc1", stays) for i in range(4)),
        Refusal("gate", "its weight is computed"),
    )
    options = Options(output="vector", size="fixed", pool="global", form="auto")
    return Plan(before, options, done, kept, Edit(exactness="bit-equal"), (), "10*N", 81930), before


def run(equivalent=True, **more):
    use = ProviderUse("cpu", "CPUExecutionProvider", 38, (), {})
    families = ("signed", "positive", "large", "tiny", "zeros", "constant")
    trials = tuple(Trial(seed, name, {"image": (1, 3, 224, 224)}) for seed in range(3) for name in families)
    output = OutputResult("logits", 4.77e-6, 1.1e-6, 1.1e-4, JITTER, 0.0437, 1.0, True, max_value=4.34)
    return Run(equivalent, more.pop("use", use), trials, more.pop("outputs", (output,)), **more)


def passed():
    return verification(
        Verification(True, "onnxruntime 1.32.0", WeightCounts(32, 0, 0), None, (run(),)),
        "models/vgg16.onnx",
        "fcn.onnx",
    )


def failed():
    """A changed weight that one provider sees in the outputs; NaN on one side; nodes elsewhere."""
    broken = OutputResult(
        "logits",
        float("nan"),
        float("inf"),
        1.1e-4,
        JITTER,
        float("inf"),
        0.99999,
        False,
        (3, 0, 1),
        (0, 2, 0),
    )
    second = OutputResult(
        "detections_with_quite_a_long_name_of_the_head", 312.5, 2.0, 1.0, JITTER, 312.5, None, False
    )
    layers = (
        LayerResult("conv1_out", 0.0, 1e-6, True),
        LayerResult("fc6_out", 0.5, 5.9e-5, False, 8475.0, LOCAL),
    )
    use = ProviderUse("cuda", "CUDAExecutionProvider", 36, ("Shape_3", "Gather_4"), {"use_tf32": "0"})
    bad = run(False, use=use, outputs=(broken, second), layers=layers, first_divergence="fc6 (Conv)")
    return verification(
        Verification(
            False, "onnxruntime-gpu 1.31.1", WeightCounts(31, 0, 1), "weights", (run(), bad), ("TF32 is off",)
        ),
        "models/vgg16.onnx",
        "broken.onnx",
    )


def dense():
    """Windows of larger inputs, and latency."""
    pace = DenseSpeed(36, 32, 7, Timing(1960.0, 1900.0, 2100.0), Timing(412.0, 390.0, 431.0), 4.76, 5.12)
    found = (
        DenseResult((384, 384), 36, 3.1e-6, 5.9e-5, 2.31, True, 0.06, JITTER, pace),
        DenseResult((256, 320), 8, 3.0e-6, 5.9e-5, None, True, 0.051),
    )
    single = BatchLatency(1, 15, Timing(41.7, 40.2, 43.0), Timing(40.1, 39.0, 44.4), 0.96)
    eight = BatchLatency(
        8, 9, Timing(51.2, 50.2, 53.0), Timing(205.8, 204, 212), 4.02, "Conv rereads its weights"
    )
    one = run(dense=found, latency=Latency(41.7, 40.1, 0.96, (single, eight)))
    return verification(
        Verification(True, "onnxruntime 1.32.0", WeightCounts(32, 0, 0), None, (one,)), "a.onnx", "b.onnx"
    )


def converted():
    plan, after = vgg_plan()
    return conversion(plan, after, output="fcn.onnx", proof=passed())


def refused():
    """Nothing converts."""
    plan, _ = mixed_plan()
    return conversion(Plan(plan.model, Options(), (), plan.refusals, None, (), 5, 5), None)


CONVERSIONS = {
    "vgg": converted,
    "dryrun": lambda: conversion(*vgg_plan()),
    "mixed": lambda: conversion(*mixed_plan()),
    "refused": refused,
}
PROOFS = {"passed": passed, "failed": failed, "dense": dense}
