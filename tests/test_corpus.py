"""Every graph of the corpus: hydrated where it is small, else without its large weights.

`make corpus` hydrates them all and prints a table.
"""

import csv
from functools import cache

import corpus
import pytest

from onnxscope.analysis import params
from onnxscope.analysis.shapes import infer
from onnxscope.analysis.spatial import closed_forms
from onnxscope.rewrite import heads

LIMIT = 50_000_000
"""Bytes up to which a graph is hydrated here; larger ones are read without their large weights."""
FOLDER = corpus.find()
ENTRIES = {entry.name: entry for entry in (corpus.entries(FOLDER) if FOLDER else [])}

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(FOLDER is None, reason="no corpus: set ONNXSCOPE_CORPUS to its folder"),
]
each_graph = pytest.mark.parametrize("name", ENTRIES or ["none"])


@cache
def result(name):
    entry = ENTRIES[name]
    return corpus.check(entry, hollow=entry.hydrated_bytes >= LIMIT)


@cache
def facts(name, height="H", width="W"):
    """Facts with the batch at 1 and height and width as given."""
    entry = ENTRIES[name]
    model = entry.model(hollow=True)
    shapes = {}
    for value, sizes in entry.truth["runs"][0]["inputs"].items():
        last = value.startswith("keras") or sizes[-1] == 3
        shapes[value] = [1, height, width, sizes[-1]] if last else [1, sizes[1], height, width]
    return infer(model, shapes=shapes)


@each_graph
def test_no_shape_is_wrong(name):
    assert [tally.wrong for tally in result(name).tallies] == [[] for _ in result(name).tallies]


@each_graph
def test_trainable_parameters_equal_the_frameworks(name):
    count = result(name).params
    assert count.expected is None or count.ours == count.expected


@each_graph
def test_macs_equal_the_frameworks(name):
    count = result(name).macs
    assert count.expected is None or count.ours == count.expected


@pytest.mark.parametrize("way", ["given", "bound", "dims"])
def test_nearly_every_shape_is_known(way):
    tallies = [tally for name in ENTRIES if (tally := getattr(result(name), way)) is not None]
    known, unknown = sum(t.known for t in tallies), sum(len(t.unknown) for t in tallies)
    assert known >= corpus.KNOWN_SHARE * (known + unknown)


def test_most_counts_have_something_to_be_compared_with():
    compared = [name for name in ENTRIES if result(name).params.expected is not None]
    assert len(compared) >= 90  # all but real graphs, Keras and partly folded BatchNorms
    assert len([name for name in ENTRIES if result(name).macs.expected is not None]) >= 85


def published():
    """(graph, row) of torchvision's own table, for the networks that the corpus holds as published."""
    if FOLDER is None:
        return {}
    with (FOLDER / "ground_truth.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    # other sizes than torchvision's (fcn, r3d), or without an auxiliary head that it counts (inception)
    left_out = {"fcn_resnet50", "r3d_18", "inception_v3"}
    names = {name: name.partition(".")[0] for name in ENTRIES}
    return {name: rows[model] for name, model in names.items() if model in rows and model not in left_out}


@pytest.mark.parametrize("name", published() or ["none"])
def test_torchvisions_published_figures(name):
    row = published()[name]
    digits = len(row["gflops"].partition(".")[2])
    assert round(result(name).macs.ours / 1e9, digits) == float(row["gflops"])
    if result(name).params.expected == ENTRIES[name].truth["torch"]["total_params"]:  # no BatchNorm folded
        assert result(name).params.ours == int(row["num_params"])


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("alexnet", "(H - 31)//32"),  # stem (H + 4 - 11)//4 + 1, then three pools of 3 by 2
        ("vgg16", "H//32"),  # five pools by 2
        ("lenet5_32", "(H - 12)//4"),  # ((H - 4)//2 - 4)//2
    ],
)
def test_closed_form_in_front_of_the_fc_head(model, form):
    for name in [name for name in ENTRIES if name.startswith(f"{model}.")]:
        found = facts(name)
        layers = heads.find(found, params.count(found))
        maps = [layer.feature_map for layer in layers if layer.feature_map]
        sizes = closed_forms(found, maps).closed_form[maps[0]]
        assert [str(size) for size in sizes] == [form, form.replace("H", "W")]


@pytest.mark.parametrize("model", ["alexnet", "vgg16", "resnet18", "densenet121", "squeezenet1_1"])
def test_minimum_input_is_torchvisions(model):
    row = next(row for name, row in published().items() if name.startswith(f"{model}."))
    height, width = map(int, row["min_size"].split("x"))
    for name in [name for name in ENTRIES if name.startswith(f"{model}.") and name.count(".") == 3]:
        assert closed_forms(facts(name)).minimum_input == {"H": height, "W": width}


def test_committed_graphs_are_those_of_the_corpus():
    committed = sorted((corpus.ROOT / "models" / "exported").glob("*.onnx"))
    assert committed
    for path in committed:
        entry = ENTRIES[path.stem]
        entry.model()
        assert path.read_bytes() == (corpus.CACHE / path.name).read_bytes()
        assert (
            path.with_suffix(".truth.json").read_bytes()
            == (entry.corpus / "truth" / f"{path.stem}.truth.json").read_bytes()
        )
