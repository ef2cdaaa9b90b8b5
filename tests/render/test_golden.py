"""Each format of hand-written documents against a file that was checked by eye."""

import pytest
from sample_documents import SAMPLES

from onnxscope.render.csv import csv
from onnxscope.render.json import json
from onnxscope.render.markdown import markdown
from onnxscope.render.notebook import notebook
from onnxscope.render.text import text

FORMS = {
    "80.txt": lambda document: text(document, width=80),
    "200.txt": lambda document: text(document, width=200),
    "explain.txt": lambda document: text(document, width=80, explain=True),
    "color.txt": lambda document: text(document, width=80, color=True),
    "md": lambda document: markdown(document),
    "explain.md": lambda document: markdown(document, explain=True),
    "json": json,
    "csv": lambda document: csv(document),
    "explain.csv": lambda document: csv(document, explain=True),
    "html": notebook,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_golden(sample, form, golden):
    golden(f"{sample}.{form}", FORMS[form](SAMPLES[sample]()))
