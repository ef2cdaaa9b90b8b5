"""Ops on strings. Expected sizes by hand from the specification."""

import pytest
from rules import answer

SHAPES = [
    ("concat", "StringConcat", 20, ["str N,1", "str 3"], {}, ["N,3"], "string"),
    ("concat, misfit", "StringConcat", 20, ["str 2", "str 3"], {}, ["*"], None),
    ("split", "StringSplit", 20, ["str N,2"], {"delimiter": " "}, ["N,2,y0.dim2", "N,2"], "string"),
    ("split, scalar", "StringSplit", 20, ["str ()"], {}, ["y0.dim0", "()"], "string"),
    ("normalizer", "StringNormalizer", 10, ["str C"], {}, ["C"], "string"),
    ("normalizer, batch", "StringNormalizer", 10, ["str 1,C"], {}, ["1,C"], "string"),
    ("stopwords", "StringNormalizer", 10, ["str 1,C"], {"stopwords": ["a"]}, ["1,y0.dim1"], "string"),
    ("normalizer, rank 3", "StringNormalizer", 10, ["str 1,C,2"], {}, ["*"], None),
    ("match", "RegexFullMatch", 20, ["str N,2"], {"pattern": "a"}, ["N,2"], "bool"),
    ("tf-idf", "TfIdfVectorizer", 9, ["i64 C"], {"ngram_indexes": [0, 3, 1]}, ["4"], "float32"),
    ("tf-idf, batch", "TfIdfVectorizer", 9, ["i32 N,C"], {"ngram_indexes": [0, 3, 1]}, ["N,4"], "float32"),
    ("tf-idf, no indexes", "TfIdfVectorizer", 9, ["i32 N,C"], {}, ["*"], None),
]


@pytest.mark.parametrize(("name", "opset", "inputs", "attributes", "shapes", "dtype"),
                         [r[1:] for r in SHAPES], ids=[r[0] for r in SHAPES])  # fmt: skip
def test_shape(name, opset, inputs, attributes, shapes, dtype):
    found = answer(name, opset, inputs, attributes, outputs=len(shapes))
    assert list(found.shapes) == shapes
    assert found.dtype == dtype


def test_number_of_parts_is_int64():
    assert answer("StringSplit", 20, ["str N"], outputs=2).dtypes == ("string", "int64")
