"""Every worked formula of every corpus graph: what stands left of its = sign gives what stands right of it.

Python evaluates the texts, with numbers in place of the symbols; nothing of the expression code takes part.
"""

import re

import corpus
import pytest

from onnxscope import documents

LIMIT = 50_000_000
"""Bytes from which a graph is read without its large weights."""
FOLDER = corpus.find()
ENTRIES = {entry.name: entry for entry in (corpus.entries(FOLDER) if FOLDER else [])}

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(FOLDER is None, reason="no corpus: set ONNXSCOPE_CORPUS to its folder"),
]


class Numbers:
    """Symbols as numbers: sizes that no stride divides, each symbol another one."""

    def __init__(self, document):
        sizes = [size for value in document["inputs"] for size in value["shape"] or ()]
        names = sorted({size for size in sizes if isinstance(size, str)}, key=len, reverse=True)
        self.values = {name: 227 + 34 * place for place, name in enumerate(names)}
        names = "|".join(rf"(?<![\w.]){re.escape(name)}(?![\w.])" for name in names)
        self.pattern = re.compile(names or "$^")

    def of(self, text):
        """The number that a text or size stands for."""
        if isinstance(text, int):
            return text
        bound = self.pattern.sub(lambda found: str(self.values[found[0]]), text)
        return eval(
            bound, {"__builtins__": {}, "min": min, "max": max}
        )  # our own text, one line of arithmetic

    def sides(self, formula):
        """Both sides of a formula; one that is a lone number is its own result."""
        left, _, right = formula.rpartition(" = ")
        return self.of(left or right), self.of(right)


def free(entry):
    """Height and width left open for every image-like input."""
    found = {}
    for name, sizes in entry.truth["runs"][0]["inputs"].items():
        if len(sizes) == 4:
            last = name.startswith("keras") or sizes[-1] == 3
            found[name] = ["N", "H", "W", sizes[3]] if last else ["N", sizes[1], "H", "W"]
    return found


@pytest.mark.parametrize("freed", [False, True])
@pytest.mark.parametrize("name", ENTRIES or ["none"])
def test_formulas_are_true(name, freed):
    entry = ENTRIES[name]
    model = entry.model(hollow=entry.hydrated_bytes >= LIMIT)
    document = documents.report(
        model, free(entry) if freed else None, selection=documents.Selection(all_ops=True)
    )
    numbers = Numbers(document)
    for row in document["layers"]:
        formula = row["formula"]
        results = [numbers.sides(text) for text in formula["shape"]]
        assert all(left == right for left, right in results), row
        if results:
            sizes = tuple(map(numbers.of, row["output_shape"]))
            assert tuple(right for _, right in results) in (sizes[2:], sizes[1:-1]), row
        for key, size in (("params", row["params"]["total"]), ("macs", row["macs"])):
            if formula[key] is not None:
                assert numbers.sides(formula[key]) == (numbers.of(size),) * 2, row
            else:
                assert size in (0, None), row
        if row["kind"] in ("conv", "conv_transpose", "pool") and row["output_shape"] is not None:
            assert len(results) == len(row["output_shape"]) - 2, row
    columns = [row["params"]["total"] for row in document["layers"]]
    assert sum(map(numbers.of, columns)) == numbers.of(document["totals"]["trainable_params"])
    names = [row["name"] for row in document["layers"]]
    assert len(set(names)) == len(names)
