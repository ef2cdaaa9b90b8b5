"""Ops on strings.

Source: ONNX Operators.md, the versions named at each rule.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.ops._broadcast import broadcast
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Unanswered, one

Ints = tuple[int, ...]


@op("StringConcat", since=20)
def string_concat(n: View) -> Inferred:
    """Z = broadcast(X, Y). Source: StringConcat-20."""
    return one(broadcast(n.shape(0), n.shape(1)), dtypes.STRING)


@op("StringNormalizer", since=10)
def string_normalizer(n: View, *, stopwords: tuple[str, ...] = ()) -> Inferred:
    """X [C] or [1, C] with stopwords left out: C stays only where there are none.

    Source: StringNormalizer-10.
    """
    x = n.shape(0)
    if len(x) not in (1, 2):
        raise Unanswered(f"StringNormalizer needs [C] or [1, C]; got rank {len(x)}")
    last = n.unknown(len(x) - 1) if stopwords else x[-1]
    return one((*x[:-1], last), dtypes.STRING)


@op("StringSplit", since=20)
def string_split(n: View) -> Inferred:
    """X [*S] -> parts [*S, most parts], numbers of parts [*S] as int64; the most parts are unknown.

    Source: StringSplit-20.
    """
    x = n.shape(0)
    return Inferred(((*x, n.unknown(len(x))), x), (dtypes.STRING, dtypes.INT64))


@op("RegexFullMatch", since=20)
def regex_full_match(n: View) -> Inferred:
    """Bool of the shape of X. Source: RegexFullMatch-20."""
    return one(n.shape(0), dtypes.BOOL)


@op("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(n: View, *, ngram_indexes: Ints = ()) -> Inferred:
    """X [C] -> [max(ngram_indexes) + 1], X [N, C] -> [N, max(ngram_indexes) + 1], float.

    Source: TfIdfVectorizer-9.
    """
    x = n.shape(0)
    if not ngram_indexes or len(x) not in (1, 2):
        raise Unanswered("TfIdfVectorizer needs ngram_indexes and an input [C] or [N, C]")
    return one((*x[:-1], max(ngram_indexes) + 1), dtypes.FLOAT)
