"""No rule raises: on the onnx package's own models, on models of the corpus, on damaged models."""

import random
from pathlib import Path

import onnx
import pytest

from onnxscope.checks.runner import RULE_FAILED, Context, audit
from onnxscope.checks.settings import Settings
from onnxscope.errors import FileError
from onnxscope.files.read import load, loads

ROOT = Path(__file__).parents[2]
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))
OURS = sorted((ROOT / "models").glob("*.onnx"))


def failures(model, **settings):
    found = audit(Context(model, Settings(**settings)))
    return [finding.message for finding in found if finding.code == RULE_FAILED]


@pytest.mark.parametrize("path", [*OURS, *LIGHT], ids=lambda path: path.stem)
def test_models(path):
    assert failures(load(path)) == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_damaged_models(path):
    """Bytes changed at random: most such files still can be read, and say nonsense."""
    data = bytearray(path.read_bytes())
    rng = random.Random(7)
    read = 0
    for _ in range(40):
        bad = bytearray(data)
        for _ in range(3):
            bad[rng.randrange(min(len(bad), 4096))] = rng.randrange(256)
        try:
            model = loads(bytes(bad), "bad.onnx")
        except FileError:
            continue
        read += 1
        assert failures(model, ignore=("OX105",)) == []
    assert read


@pytest.mark.corpus
def test_corpus():
    paths = sorted((ROOT / ".cache" / "corpus").glob("*.onnx"))
    if not paths:
        pytest.skip("no corpus; make corpus writes it")
    for path in paths:
        if path.stat().st_size < 60 << 20:
            assert failures(load(path)) == [], path.name
