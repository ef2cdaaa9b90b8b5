"""The networks of models/: totals by hand for the teaching nets, truth tables for the exporter graphs."""

import json
import runpy
from pathlib import Path

import pytest

from onnxscope.analysis import cost, params
from onnxscope.analysis.facts import Facts
from onnxscope.analysis.receptive_field import trace
from onnxscope.analysis.shapes import infer
from onnxscope.files.read import load

MODELS = Path(__file__).parents[1] / "models"
EXPORTED = sorted((MODELS / "exported").glob("*.onnx"))


def table(facts: Facts) -> dict[str, tuple[str, int, int]]:
    """Node -> (output shape without the batch, parameters, MACs), for nodes with any of the last two."""
    layers = params.count(facts).layers
    rows = {}
    for fact in facts.main.nodes:
        own = layers.get(("", fact.node.index))
        macs = fact.inferred.macs.value if fact.inferred.macs is not None else 0
        shape = facts.value(fact.node.outputs[0]).shape
        assert shape is not None
        if own or macs:
            rows[fact.node.name] = ("x".join(map(str, shape[1:])), own.total if own else 0, macs)
    return rows


# Every number below is worked by hand: parameters (k*k*in + 1)*out, MACs k*k*in*out per output position.
BY_HAND = {
    "mnist_conv": {
        "conv1": ("32x24x24", 832, 460_800),  # 28 - 5 + 1 = 24; (25*1 + 1)*32; 24*24*25*32
        "conv2": ("32x10x10", 9_248, 921_600),  # 12 - 3 + 1 = 10; (9*32 + 1)*32; 10*10*9*32*32
        "fc1": ("256", 205_056, 204_800),  # 32*5*5 = 800; (800 + 1)*256; 800*256
        "fc2": ("10", 2_570, 2_560),  # (256 + 1)*10; 256*10
    },
    "stride_twice": {
        "conv1": ("32x14x14", 832, 156_800),  # ceil(28/2) = 14; (25 + 1)*32; 14*14*25*32
        "conv2": ("64x7x7", 51_264, 2_508_800),  # ceil(14/2) = 7; (25*32 + 1)*64; 7*7*25*32*64
    },
    "net32": {
        "conv1": ("3x28x28", 78, 58_800),  # 32 - 5 + 1 = 28; (25 + 1)*3; 28*28*25*3
        "conv2": ("6x10x10", 456, 45_000),  # 14 - 5 + 1 = 10; (25*3 + 1)*6; 10*10*25*3*6
        "fc1": ("100", 15_100, 15_000),  # 6*5*5 = 150; (150 + 1)*100; 150*100
        "fc2": ("10", 1_010, 1_000),  # (100 + 1)*10; 100*10
    },
    "lenet5": {
        "conv1": ("6x28x28", 156, 117_600),  # 32 - 5 + 1 = 28; (25 + 1)*6; 28*28*25*6
        "conv2": ("16x10x10", 2_416, 240_000),  # 14 - 5 + 1 = 10; (25*6 + 1)*16; 10*10*25*6*16
        "fc1": ("120", 48_120, 48_000),  # 16*5*5 = 400; (400 + 1)*120; 400*120
        "fc2": ("84", 10_164, 10_080),  # (120 + 1)*84; 120*84
        "fc3": ("10", 850, 840),  # (84 + 1)*10; 84*10
    },
    "video3d": {
        "conv1": ("16x8x32x32", 1_312, 10_616_832),  # pad 1 keeps sizes; (27*3 + 1)*16; 8*32*32*27*3*16
        "conv2": ("32x8x16x16", 13_856, 28_311_552),  # pool 1x2x2; (27*16 + 1)*32; 8*16*16*27*16*32
        "fc1": ("10", 81_930, 81_920),  # 32*4*8*8 = 8192; (8192 + 1)*10; 8192*10
    },
    "bottleneck": {
        "conv1": ("64x28x28", 16_448, 12_845_056),  # (256 + 1)*64; 28*28*256*64
        "conv2": ("256x25x25", 262_400, 163_840_000),  # 28 - 4 + 1 = 25; (16*64 + 1)*256; 25*25*16*64*256
    },
    "direct": {
        "conv1": ("256x25x25", 1_048_832, 655_360_000),  # (16*256 + 1)*256; 25*25*16*256*256
    },
    "onet": {
        "conv1": ("32x46x46", 896, 1_828_224),  # 48 - 3 + 1 = 46; (27 + 1)*32; 46*46*27*32
        "prelu1": ("32x46x46", 32, 0),  # one slope a channel
        "conv2": ("64x21x21", 18_496, 8_128_512),  # ceil((46 - 3)/2) + 1 = 23, 23 - 2 = 21; (9*32 + 1)*64
        "prelu2": ("64x21x21", 64, 0),
        "conv3": ("64x8x8", 36_928, 2_359_296),  # (21 - 3)//2 + 1 = 10, 10 - 2 = 8; (9*64 + 1)*64; 64*9*64*64
        "prelu3": ("64x8x8", 64, 0),
        "conv4": ("128x3x3", 32_896, 294_912),  # 8/2 = 4, 4 - 1 = 3; (4*64 + 1)*128; 9*4*64*128
        "prelu4": ("128x3x3", 128, 0),
        "fc1": ("256", 295_168, 294_912),  # 128*3*3 = 1152; (1152 + 1)*256; 1152*256
        "prelu5": ("256", 256, 0),
        "face.fc1": ("2", 514, 512),  # (256 + 1)*2; 256*2
        "box.fc1": ("4", 1_028, 1_024),
        "points.fc1": ("10", 2_570, 2_560),
    },
}
TOTALS = {  # parameters, MACs: the columns above added up on paper
    "mnist_conv": (217_706, 1_589_760),
    "stride_twice": (52_096, 2_665_600),
    "net32": (16_644, 119_800),
    "lenet5": (61_706, 416_520),
    "video3d": (97_098, 39_010_304),
    "bottleneck": (278_848, 176_685_056),
    "direct": (1_048_832, 655_360_000),
    "onet": (389_040, 12_909_952),
}
MAPS = {  # sizes along the last axis, input to last map
    "mnist_conv": [28, 24, 12, 10, 5],
    "stride_twice": [28, 14, 7],
    "net32": [32, 28, 14, 10, 5],
    "lenet5": [32, 28, 14, 10, 5],
    "video3d": [32, 16, 8],
    "bottleneck": [28, 25],
    "direct": [28, 25],
    "onet": [48, 46, 23, 21, 10, 8, 4, 3],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_layers_by_hand(name):
    assert table(infer(load(MODELS / f"{name}.onnx"))) == BY_HAND[name]


@pytest.mark.parametrize("name", TOTALS)
def test_totals_by_hand(name):
    facts = infer(load(MODELS / f"{name}.onnx"))
    counted = params.count(facts)
    work = cost.count(facts)
    assert (counted.trainable, work.total) == TOTALS[name]
    assert counted.total == counted.trainable  # nothing is shared
    assert (counted.buffers, work.coverage, facts.problems) == (0, 1.0, ())


@pytest.mark.parametrize("name", MAPS)
def test_map_sizes_by_hand(name):
    facts = infer(load(MODELS / f"{name}.onnx"))
    values = [facts.main.graph.inputs[0].name, *(fact.node.outputs[0] for fact in facts.main.nodes)]
    sizes = [shape[-1] for value in values if (shape := facts.value(value).shape) and len(shape) > 2]
    changes = [size for size, before in zip(sizes, [None, *sizes], strict=False) if size != before]
    assert changes == MAPS[name]


def test_direct_convolution_costs_about_3_7_times_its_bottleneck():
    assert round(TOTALS["direct"][1] / TOTALS["bottleneck"][1], 1) == 3.7


def test_freed_sizes_give_the_closed_form_in_front_of_the_fc_head():
    # ((H - 4)//2 - 4)//2 = (H - 12)//4 by hand
    facts = infer(load(MODELS / "lenet5.onnx"), shapes={"input": ("N", 1, "H", "W")})
    (flatten,) = [fact for fact in facts.main.nodes if fact.node.op == "Flatten"]
    shape = facts.value(flatten.node.inputs[0]).shape
    assert shape is not None
    assert [str(size) for size in shape] == ["N", "16", "(H - 12)//4", "(W - 12)//4"]


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        # grows by (k - 1) * stride so far: +4 = 5, pool +1 = 6, stride 2; +2*2 = 10, pool +1*2 = 12, stride 4
        ("mnist_conv", "pool2_out", (12, 4, 0)),
        # +4 = 5, stride 2; +4*2 = 13, stride 4. SAME pads (14 - 1)*2 + 5 - 28 = 3, so 1 in front; then again
        # (7 - 1)*2 + 5 - 14 = 3, 1 in front, which is 2 pixels: start -1 - 2
        ("stride_twice", "conv2_out", (13, 4, -3)),
        # 3, pool +2 = 5 (2), +2*2 = 9, pool +2*2 = 13 (4), +2*4 = 21, pool +1*4 = 25 (8), +1*8 = 33
        ("onet", "prelu4_out", (33, 8, 0)),
    ],
)
def test_receptive_field_by_hand(name, value, field):
    facts = infer(load(MODELS / f"{name}.onnx"))
    (maker,) = [fact for fact in facts.main.nodes if value in fact.node.outputs]
    found = trace(facts).spatial(maker)
    assert found is not None
    assert [(axis.size, axis.stride, axis.start) for axis in found] == [field] * 2


@pytest.mark.parametrize("path", EXPORTED, ids=lambda path: path.stem)
def test_exported_graphs_match_what_the_runtime_measured(path):
    truth = json.loads(path.with_suffix(".truth.json").read_text())
    model = load(path)
    for run in truth["runs"]:
        values = infer(model, shapes=run["inputs"]).main.values
        assert {name: values[name].shape for name in run["values"]} == {
            name: tuple(shape) for name, shape in run["values"].items()
        }


def test_models_are_what_build_py_makes(tmp_path):
    build = runpy.run_path(str(MODELS / "build.py"))
    build["save_teaching"](tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in MODELS.glob("*.onnx")}
    assert {Path(name).stem for name in made} == set(BY_HAND)
    assert sorted(build["EXPORTED"]) == [path.stem for path in EXPORTED]
