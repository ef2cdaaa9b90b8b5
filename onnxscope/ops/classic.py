"""Classical machine learning, domain ai.onnx.ml: linear models, trees, support vectors, encoders, maps.

A batch is [N, F], or [F] for one sample. Source: ONNX Operators-ml.md; onnxruntime for outputs whose shape it
leaves open.
"""

from __future__ import annotations

from onnxscope import dtypes
from onnxscope.expr import Size, Worked, product
from onnxscope.graph import Tensor
from onnxscope.ops.registry import View, op
from onnxscope.ops.value import Inferred, Shape, Unanswered, one

ML = "ai.onnx.ml"
Ints = tuple[int, ...]
Floats = tuple[float, ...]
Texts = tuple[str, ...]


# --- models ---


@op("LinearClassifier", domain=ML, multiplies=True)
def linear_classifier(
    n: View, *, coefficients: Floats = (), classlabels_ints: Ints = (), classlabels_strings: Texts = ()
) -> Inferred:
    """Labels [N] and scores [N, classes]. MACs: every coefficient once per sample."""
    return _classified(n, classlabels_ints, classlabels_strings, len(coefficients))


@op("SVMClassifier", domain=ML, multiplies=True)
def svm_classifier(
    n: View,
    *,
    coefficients: Floats = (),
    support_vectors: Floats = (),
    classlabels_ints: Ints = (),
    classlabels_strings: Texts = (),
) -> Inferred:
    """Labels [N] and scores [N, classes], as onnxruntime gives them (one score per class, not per pair).

    MACs: every number of every support vector (its product with the sample), then every coefficient.
    """
    numbers = len(support_vectors) + len(coefficients)
    return _classified(n, classlabels_ints, classlabels_strings, numbers)


@op("TreeEnsembleClassifier", domain=ML)
def tree_classifier(n: View, *, classlabels_int64s: Ints = (), classlabels_strings: Texts = ()) -> Inferred:
    """Labels [N] and scores [N, classes]. Source: TreeEnsembleClassifier-1, -3."""
    return _classified(n, classlabels_int64s, classlabels_strings, 0)


def _classified(n: View, numbers: Ints, texts: Texts, products: int) -> Inferred:
    batch = _batch(n)
    labels = len(numbers) or len(texts)
    classes: Size = (
        labels if labels > 1 else n.unknown(1, 1)
    )  # one label: runtimes differ about a second column
    macs = Worked.of(batch) * products if products else None
    label = dtypes.INT64 if numbers else dtypes.STRING if texts else None
    return Inferred(((batch,), (batch, classes)), (label, dtypes.FLOAT), macs=macs)


@op("LinearRegressor", domain=ML, multiplies=True)
def linear_regressor(n: View, *, coefficients: Floats = (), targets: int = 1) -> Inferred:
    """Y [N, targets]. MACs: every coefficient once per sample."""
    batch = _batch(n)
    return one((batch, targets), dtypes.FLOAT, macs=Worked.of(batch) * len(coefficients))


@op("SVMRegressor", domain=ML, multiplies=True)
def svm_regressor(n: View, *, coefficients: Floats = (), support_vectors: Floats = ()) -> Inferred:
    """Y [N, 1]. MACs: as SVMClassifier."""
    batch = _batch(n)
    macs = Worked.of(batch) * (Worked.of(len(support_vectors)) + len(coefficients))
    return one((batch, 1), dtypes.FLOAT, macs=macs)


@op("TreeEnsembleRegressor", domain=ML)
def tree_regressor(n: View, *, n_targets: int = 1) -> Inferred:
    """Y [N, n_targets], float32. Source: TreeEnsembleRegressor-1, -3."""
    return one((_batch(n), n_targets), dtypes.FLOAT)


@op("TreeEnsemble", since=5, domain=ML)
def tree_ensemble(n: View, *, n_targets: int = 1) -> Inferred:
    """Y [N, n_targets], of the type of X. Source: TreeEnsemble-5."""
    return one((_batch(n), n_targets), n.dtype(0))


def _batch(n: View) -> Size:
    """N of X [N, F]; 1 for one sample X [F]."""
    x = n.shape(0)
    if len(x) not in (1, 2):
        raise Unanswered(f"a batch of samples has rank 1 or 2; got rank {len(x)}")
    return x[0] if len(x) == 2 else 1


# --- features ---


@op("Normalizer", "Scaler", domain=ML)
def scaled(n: View) -> Inferred:
    """Y has the shape of X and is float32."""
    return one(n.shape(0), dtypes.FLOAT)


@op("Binarizer", "Imputer", domain=ML)
def replaced(n: View) -> Inferred:
    """Y has the shape and type of X."""
    return one(n.shape(0), n.dtype(0))


@op("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(n: View) -> Inferred:
    """Z [*, K] for X [*, F] and K indices in any shape; [1, K] for X [F], as onnxruntime gives it."""
    x = n.shape(0)
    if not x:
        raise Unanswered("its input is a scalar, which has no last axis")
    return one((*(x[:-1] or (1,)), product(n.shape(1))), n.dtype(0))


@op("FeatureVectorizer", domain=ML)
def feature_vectorizer(n: View, *, inputdimensions: Ints = ()) -> Inferred:
    """Y [N, sum of the input dimensions], float32."""
    if not inputdimensions:
        raise Unanswered("it has no inputdimensions")
    return one((_batch(n), sum(inputdimensions)), dtypes.FLOAT)


@op("OneHotEncoder", domain=ML)
def one_hot_encoder(n: View, *, cats_int64s: Ints = (), cats_strings: Texts = ()) -> Inferred:
    """Y [*X, categories], float32."""
    return one((*n.shape(0), len(cats_int64s) or len(cats_strings)), dtypes.FLOAT)


@op("CategoryMapper", domain=ML)
def category_mapper(n: View) -> Inferred:
    """Y has the shape of X: integers for text, text for integers."""
    flipped = {dtypes.STRING: dtypes.INT64, dtypes.INT64: dtypes.STRING}
    return one(n.shape(0), flipped.get(n.dtype(0) or 0))


@op("LabelEncoder", domain=ML)
def label_encoder(n: View) -> Inferred:
    """As CategoryMapper: text to integers or back. Source: LabelEncoder-1."""
    return category_mapper(n)


@op("LabelEncoder", since=2, domain=ML)
def label_encoder_2(
    n: View,
    *,
    values_int64s: Ints | None = None,
    values_floats: Floats | None = None,
    values_strings: Texts | None = None,
    values_tensor: Tensor | None = None,
) -> Inferred:
    """Y has the shape of X and the type of the values. Source: LabelEncoder-2, -4 (values_tensor)."""
    forms = ((values_int64s, dtypes.INT64), (values_floats, dtypes.FLOAT), (values_strings, dtypes.STRING))
    given = [dtype for values, dtype in forms if values is not None]
    dtype = values_tensor.dtype if values_tensor is not None else given[0] if given else None
    return one(n.shape(0), dtype)


# --- maps ---


@op("ZipMap", domain=ML)
def zip_map(n: View) -> Inferred:
    """A sequence with one map per sample, from label to float32 score; each value is a scalar."""
    return Inferred(((),), (dtypes.FLOAT,), containers=("sequence of map",))


@op("CastMap", domain=ML)
def cast_map(n: View, *, cast_to: str = "TO_FLOAT", map_form: str = "DENSE", max_map: int = 1) -> Inferred:
    """Y [1, max_map] for map_form SPARSE; else [1, entries], which only the data tells."""
    kinds = {"TO_FLOAT": dtypes.FLOAT, "TO_STRING": dtypes.STRING, "TO_INT64": dtypes.INT64}
    return one((1, max_map if map_form == "SPARSE" else n.unknown(1)), kinds.get(cast_to))


@op("DictVectorizer", domain=ML)
def dict_vectorizer(n: View, *, int64_vocabulary: Ints = (), string_vocabulary: Texts = ()) -> Inferred:
    """Y [1, vocabulary]: one row, as onnxruntime makes it, where the specification says 1-D."""
    shape: Shape = (1, len(int64_vocabulary) or len(string_vocabulary))
    return one(shape, n.dtype(0))
