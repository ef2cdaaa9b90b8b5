"""Domain ai.onnx.ml. Expected by hand and from one-node runs of onnxruntime (concrete rows)."""

import pytest
from rules import answer, constant, is_concrete, measured

TREE = {
    "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
}  # fmt: skip
VOTES = {"class_ids": [0, 1], "class_nodeids": [1, 2], "class_treeids": [0, 0], "class_weights": [1.0, 1.0]}
TARGETS = {
    "target_ids": [0, 1],
    "target_nodeids": [1, 2],
    "target_treeids": [0, 0],
    "target_weights": [1.0, 1.0],
}
TEXT2, TEXT3 = {"classlabels_strings": ["a", "b"]}, {"classlabels_strings": ["a", "b", "c"]}
RBF = {"kernel_type": "RBF", "kernel_params": [0.1, 0.0, 3.0], "rho": [0.0, 0.0, 0.0]}
LINEAR3 = {"coefficients": [1.0] * 9, "intercepts": [0.0] * 3, "classlabels_ints": [0, 1, 2]}
LINEAR2 = {"coefficients": [1.0] * 3, "intercepts": [0.0], **TEXT2}
TREE3 = {**TREE, **VOTES, "classlabels_int64s": [0, 1, 2]}
VECTORS3 = {"coefficients": [1.0] * 8, "support_vectors": [1.0] * 12, "vectors_per_class": [1, 1, 2]}
VECTORS3["classlabels_ints"] = [0, 1, 2]
VECTOR = {"coefficients": [1.0], "support_vectors": [1.0] * 3}

CLASSIFIERS = [
    ("linear", "LinearClassifier", "4,3", LINEAR3, ("4", "4,3"), "int64"),
    ("linear, one sample", "LinearClassifier", "3", LINEAR3, ("1", "1,3"), "int64"),
    ("linear, two classes of text", "LinearClassifier", "N,3", LINEAR2, ("N", "N,2"), "string"),
    ("linear, one label", "LinearClassifier", "N,3", {"classlabels_ints": [1]}, ("N", "N,y1.dim1"), "int64"),
    ("linear, no labels", "LinearClassifier", "N,3", {}, ("N", "N,y1.dim1"), None),
    ("linear, unknown", "LinearClassifier", "*", LINEAR3, ("*", "*"), None),
    ("linear, rank 3", "LinearClassifier", "2,3,4", LINEAR3, ("*", "*"), None),
    ("svm", "SVMClassifier", "4,3", {**RBF, **VECTORS3}, ("4", "4,3"), "int64"),
    ("svm of text", "SVMClassifier", "N,3", TEXT3, ("N", "N,3"), "string"),
    ("tree", "TreeEnsembleClassifier", "4,3", TREE3, ("4", "4,3"), "int64"),
    ("tree of text", "TreeEnsembleClassifier", "N,3", TEXT2, ("N", "N,2"), "string"),
]  # fmt: skip

ROWS = [
    ("linear", "LinearRegressor", 1, ["4,3"], {"coefficients": [1.0] * 6, "targets": 2}, "4,2", "float32"),
    ("linear, one sample", "LinearRegressor", 1, ["3"], {"coefficients": [1.0] * 3}, "1,1", "float32"),
    ("svm", "SVMRegressor", 1, ["N,3"], VECTOR, "N,1", "float32"),
    ("tree", "TreeEnsembleRegressor", 3, ["4,3"], {**TREE, **TARGETS, "n_targets": 2}, "4,2", "float32"),
    ("tree 5", "TreeEnsemble", 5, ["f64 N,3"], {"n_targets": 2}, "N,2", "float64"),
    ("normalizer", "Normalizer", 1, ["4,3"], {}, "4,3", "float32"),
    ("normalizer of integers", "Normalizer", 1, ["i64 N,3"], {}, "N,3", "float32"),
    ("scaler", "Scaler", 1, ["4,3"], {"offset": [0.0], "scale": [1.0]}, "4,3", "float32"),
    ("scaler of doubles", "Scaler", 1, ["f64 3"], {"offset": [0.0], "scale": [1.0]}, "3", "float32"),
    ("binarizer", "Binarizer", 1, ["4,3"], {}, "4,3", "float32"),
    ("imputer", "Imputer", 1, ["i64 4,3"], {"imputed_value_int64s": [0]}, "4,3", "int64"),
    ("extractor", "ArrayFeatureExtractor", 1, ["4,3", "i64:[0,2]"], {}, "4,2", "float32"),
    ("extractor, matrix", "ArrayFeatureExtractor", 1, ["2,4,3", "i64:[[0],[2]]"], {}, "2,4,2", "float32"),
    ("extractor of a vector", "ArrayFeatureExtractor", 1, ["3", "i64:[0,2]"], {}, "1,2", "float32"),
    ("extractor in symbols", "ArrayFeatureExtractor", 1, ["F", "i64 N,2"], {}, "1,2*N", "float32"),
    ("extractor of a scalar", "ArrayFeatureExtractor", 1, ["()", "i64:[0]"], {}, "*", None),
    ("vectorizer", "FeatureVectorizer", 1, ["4,3", "4,2"], {"inputdimensions": [3, 2]}, "4,5", "float32"),
    ("vectorizer of one", "FeatureVectorizer", 1, ["3", "2"], {"inputdimensions": [3, 2]}, "1,5", "float32"),
    ("vectorizer without sizes", "FeatureVectorizer", 1, ["N,3"], {}, "*", None),
    ("one hot", "OneHotEncoder", 1, ["4,3"], {"cats_int64s": [1, 2, 3, 4]}, "4,3,4", "float32"),
    ("one hot of text", "OneHotEncoder", 1, ["str N"], {"cats_strings": ["a", "b"]}, "N,2", "float32"),
    ("categories to text", "CategoryMapper", 1, ["i64 N,2"], {}, "N,2", "string"),
    ("categories of text", "CategoryMapper", 1, ["str N,2"], {}, "N,2", "int64"),
    ("labels 1", "LabelEncoder", 1, ["str N"], {"classes_strings": ["a"]}, "N", "int64"),
    ("labels 2", "LabelEncoder", 2, ["i64 2"], {"keys_int64s": [1], "values_floats": [1.0]}, "2", "float32"),
    ("labels to text", "LabelEncoder", 2, ["i64 N"], {"values_strings": ["a"]}, "N", "string"),
    ("labels 4", "LabelEncoder", 4, ["i64 N"], {"values_tensor": constant("i16:[1]")}, "N", "int16"),
    ("map, sparse", "CastMap", 1, ["i64 *"], {"map_form": "SPARSE", "max_map": 5}, "1,5", "float32"),
    ("map, dense", "CastMap", 1, ["i64 *"], {"cast_to": "TO_INT64"}, "1,y0.dim1", "int64"),
    ("dictionary", "DictVectorizer", 1, ["f32 *"], {"string_vocabulary": ["a", "b", "c"]}, "1,3", "float32"),
]  # fmt: skip

COLUMNS = ("_", "op", "version", "inputs", "attributes", "shape", "dtype")
ML = "ai.onnx.ml"


def ids(rows):
    return [row[0].replace(" ", "-") for row in rows]


@pytest.mark.parametrize(("_", "op", "x", "attributes", "shapes", "label"), CLASSIFIERS, ids=ids(CLASSIFIERS))
def test_classifier(_, op, x, attributes, shapes, label):
    found = answer(op, 3, [x], attributes, outputs=2, domain=ML)
    assert found.shapes == shapes
    assert found.dtypes == (label, None if shapes[0] == "*" else "float32")


@pytest.mark.parametrize(COLUMNS, ROWS, ids=ids(ROWS))
def test_shape_and_type(_, op, version, inputs, attributes, shape, dtype):
    found = answer(op, version, inputs, attributes, domain=ML)
    assert (found.shape, found.dtype) == (shape, dtype)
    assert found.answered == (shape != "*")


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("LinearClassifier", LINEAR3, "4*9 = 36"),
        ("LinearRegressor", {"coefficients": [1.0] * 6, "targets": 2}, "4*6 = 24"),
        ("SVMClassifier", VECTORS3, "4*20 = 80"),
        ("SVMRegressor", {"coefficients": [1.0, 1.0], "support_vectors": [1.0] * 6}, "4*(6 + 2) = 32"),
        ("TreeEnsembleRegressor", {}, None),
    ],
)
def test_macs(op, attributes, expected):
    assert answer(op, 1, ["4,3"], attributes, domain=ML).macs == expected


def test_zip_map_is_a_sequence_of_maps():
    found = answer("ZipMap", 1, ["N,3"], {"classlabels_int64s": [0, 1, 2]}, domain=ML)
    assert (found.containers, found.dtype) == (("sequence of map",), "float32")


@pytest.mark.parametrize(
    ("_", "op", "x", "attributes", "shapes", "label"),
    [row for row in CLASSIFIERS if row[2][0].isdigit() and row[4][0] != "*"],
)
def test_onnxruntime_classifies_alike(_, op, x, attributes, shapes, label):
    results = measured(op, 1, [x], attributes, outputs=2, domain=ML)
    assert [result[:2] for result in results] == [(shapes[0], label), (shapes[1], "float32")]


MEASURED = [row for row in ROWS if is_concrete(row[3]) and row[5] != "*"]


@pytest.mark.parametrize(COLUMNS, MEASURED, ids=ids(MEASURED))
def test_onnxruntime_agrees(_, op, version, inputs, attributes, shape, dtype):
    assert measured(op, version, inputs, attributes, domain=ML)[0][:2] == (shape, dtype)
