"""Attributes that no sound model has: each gives an error that says what is wrong, and nothing worse."""

import numpy as np
from onnx import TensorProto, helper

HUGE = 2**62
X = np.zeros((2, 3), np.float32)
WORDS = np.array(["a", "b"], dtype=object)

# A root with two leaves.
TREE = {"nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.0, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0]}
CLASSES = {"class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 1], "class_weights": [1.0, 1.0],
           "classlabels_int64s": [0, 1]}
TARGETS = {"target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.0, 1.0]}


def tensor(dtype, values):
    return helper.make_tensor("t", dtype, [len(values)], values)


# One node with two leaves, as opset 5 writes it.
NEW = {"nodes_modes": tensor(TensorProto.UINT8, [0]), "nodes_splits": tensor(TensorProto.FLOAT, [0.0]),
       "nodes_featureids": [0], "nodes_truenodeids": [0], "nodes_falsenodeids": [1], "nodes_trueleafs": [1],
       "nodes_falseleafs": [1], "tree_roots": [0], "leaf_targetids": [0, 0],
       "leaf_weights": tensor(TensorProto.FLOAT, [1.0, 2.0]), "n_targets": 1}
GRAMS = {"mode": "TF", "min_gram_length": 1, "max_gram_length": 1, "max_skip_count": 0, "ngram_counts": [0],
         "ngram_indexes": [0, 1], "pool_int64s": [5, 6]}
SVM = {"kernel_type": "RBF", "kernel_params": [1.0, 0.0, 0.0], "coefficients": [1.0, 1.0], "rho": [0.0],
       "support_vectors": [0.0] * 6, "vectors_per_class": [1, 1], "classlabels_ints": [0, 1]}


def trees():
    """(operator, attributes, part of the message, more)"""
    def classifier(part, **changed):
        yield "TreeEnsembleClassifier", {**TREE, **CLASSES, **changed}, part, {}

    yield from classifier("a tree runs in a circle", nodes_truenodeids=[0, 0, 0], nodes_falsenodeids=[0, 0, 0])
    yield from classifier("node 0 of tree 0 leads to 7, which is not there", nodes_truenodeids=[7, 0, 0])
    yield from classifier("leads to -1", nodes_falsenodeids=[-1, 0, 0])
    yield from classifier(f"leads to {HUGE}", nodes_falsenodeids=[HUGE, 0, 0])
    yield from classifier("node 1 of tree 0 is given twice", nodes_nodeids=[0, 1, 1])
    yield from classifier("leads to 1, which is not there", nodes_treeids=[0, 1, 0])
    yield from classifier("node 0 reads feature 3 of 3", nodes_featureids=[3, 0, 0])
    yield from classifier("reads feature", nodes_featureids=[HUGE, 0, 0])
    yield from classifier("reads feature -1", nodes_featureids=[-1, 0, 0])
    yield from classifier("a leaf adds to target 2 of 2", class_ids=[0, 2])
    yield from classifier("a leaf adds to target", class_ids=[0, HUGE])
    yield from classifier("a leaf adds to target -1", class_ids=[-1, 1])
    yield from classifier("'nodes_values' has 2 elements, 3 are needed", nodes_values=[0.0, 0.0])
    yield from classifier("'nodes_modes' has 2 elements", nodes_modes=["LEAF", "LEAF"])
    yield from classifier("which is no mode", nodes_modes=["BRANCH_XX", "LEAF", "LEAF"])
    yield from classifier("the leaves' weights", class_weights=[1.0])
    yield from classifier("tracks_true' has 1 elements", nodes_missing_value_tracks_true=[1])
    yield from classifier("labels are given as integers and as strings", classlabels_strings=["a", "b"])
    yield from classifier("base values", base_values=[1.0, 2.0, 3.0])
    yield from classifier("post_transform", post_transform="OTHER")
    without = {k: v for k, v in {**TREE, **CLASSES}.items() if k != "classlabels_int64s"}
    yield "TreeEnsembleClassifier", without, "there are no class labels", {}
    for part, changed in (("targets", {"n_targets": 0}), ("targets", {"n_targets": HUGE}),
                          ("a leaf adds to target 5 of 1", {"target_ids": [0, 5]}),
                          ("aggregate_function", {"aggregate_function": "MEDIAN"}),
                          ("base values", {"base_values": [1.0, 2.0]})):
        yield "TreeEnsembleRegressor", {**TREE, **TARGETS, **changed}, part, {}
    for part, changed in (("leads to leaf 2, which is not there", {"nodes_truenodeids": [2]}),
                          ("leads to leaf", {"nodes_falsenodeids": [HUGE]}),
                          ("leads to node 1, which is not there", {"nodes_trueleafs": [0], "nodes_truenodeids": [1]}),
                          ("a tree runs in a circle", {"nodes_trueleafs": [0], "nodes_falseleafs": [0],
                                                       "nodes_falsenodeids": [0]}),
                          ("tree_roots has 1", {"tree_roots": [1]}), ("tree_roots has -1", {"tree_roots": [-1]}),
                          ("nodes_modes has 9", {"nodes_modes": tensor(TensorProto.UINT8, [9])}),
                          ("membership_values has fewer sets", {"nodes_modes": tensor(TensorProto.UINT8, [6])}),
                          ("a leaf adds to target", {"leaf_targetids": [0, HUGE]}),
                          ("aggregate_function", {"aggregate_function": HUGE}),
                          ("post_transform", {"post_transform": -HUGE}),
                          ("targets", {"n_targets": -HUGE})):
        yield "TreeEnsemble", {**NEW, **changed}, part, {"version": 5}


def features():
    for part, changed in (("2 support vectors", {"coefficients": [1.0]}),
                          ("vectors_per_class has -1", {"vectors_per_class": [-1, 3]}),
                          ("support vectors", {"vectors_per_class": [HUGE, HUGE]}),
                          ("support vectors", {"vectors_per_class": [HUGE, 1]}),
                          ("rho", {"rho": [0.0, 0.0]}), ("support vectors", {"support_vectors": [0.0] * 5}),
                          ("kernel_type", {"kernel_type": "OTHER"}), ("kernel_params", {"kernel_params": [1.0]}),
                          ("prob_a has 1, prob_b has 0", {"prob_a": [1.0]}),
                          ("labels", {"classlabels_ints": [1, 2, 3]})):
        yield "SVMClassifier", {**SVM, **changed}, part, {}
    yield "SVMRegressor", {"coefficients": [1.0], "n_supports": HUGE, "rho": [0.0]}, "support vectors", {}
    yield "SVMRegressor", {"coefficients": [1.0], "n_supports": -1, "rho": [0.0]}, "n_supports is -1", {}
    yield "LinearRegressor", {"coefficients": [1.0] * 4, "targets": 3}, "4 coefficients for 3 results", {}
    yield "LinearRegressor", {"coefficients": [1.0] * 3, "targets": 0}, "results", {}
    yield "LinearRegressor", {"coefficients": [1.0] * 3, "targets": -HUGE}, "results", {}
    yield "LinearClassifier", {"coefficients": [1.0] * 6, "classlabels_ints": [1, 2, 3]}, "3 labels for 2 scores", {}
    yield "Normalizer", {"norm": "L3"}, "norm 'L3' is none of", {}
    yield "Imputer", {}, "no imputed values", {}
    yield "FeatureVectorizer", {"inputdimensions": [HUGE]}, "a width of", {}
    yield "FeatureVectorizer", {"inputdimensions": [-1]}, "a width of -1", {}
    yield "LabelEncoder", {"keys_int64s": [1], "values_int64s": [1, 2]}, "keys for", {"inputs": [np.array([1])]}
    yield "LabelEncoder", {"keys_int64s": [1]}, "values are given in 0 ways", {"inputs": [np.array([1])]}
    yield ("OneHotEncoder", {"cats_int64s": [1], "zeros": 0}, "none of", {"inputs": [np.array([[2]])]})
    yield "OneHotEncoder", {}, "categories", {"inputs": [np.array([[2]])]}
    yield "ZipMap", {}, "there are no class labels", {}
    yield "ZipMap", {"classlabels_int64s": [1, 2, 1]}, "key 1 of a map is there twice", {}
    yield "ZipMap", {"classlabels_strings": ["a", "b"]}, "number of keys and columns", {}
    yield "ZipMap", {"classlabels_strings": ["a"]}, "rank 3", {"inputs": [X[None]]}
    yield "DictVectorizer", {"int64_vocabulary": [1]}, "the operand is no map", {}
    yield "CastMap", {}, "the operand is no map", {}


def texts():
    for pattern, part in (("a{1001}", "repe"), ("((a{1000}){1000}){1000}", "pattern"), ("(){1000}" * 2000, "pattern"),
                          ("(" * 300 + ")" * 300, "nested deeper"), ("(a", "("), ("a)", "a ) without a ("),
                          ("[a", "a [ without a ]"), ("a**", "repetition"), ("[z-a]", "backwards"), ("(?=a)", "RE2"),
                          ("(a)\\1", "reference"), ("\\p{L}", "not supported"), ("\\x{110000}", "code point"),
                          ("a" * 70000, "a pattern of 70000 bytes"), ("\\", "too early"), ("a{3,2}", "repe"),
                          ("*", "repe"), ("(?i)" + "[a-\\x{10ffff}]{1000}" * 60, "pattern")):
        yield "RegexFullMatch", {"pattern": pattern}, part, {"inputs": [WORDS], "domain": ""}
    for part, changed in (("n-grams of length", {"max_gram_length": -HUGE}), ("n-grams of length", {"min_gram_length": 0}),
                          ("left out", {"max_skip_count": -1}), ("column", {"ngram_indexes": [0, HUGE]}),
                          ("column", {"ngram_indexes": [0, -1]}), ("columns for", {"ngram_indexes": [0]}),
                          ("pool of 2", {"ngram_counts": [HUGE]}), ("from 2 to 0", {"ngram_counts": [2, 0]}),
                          ("from -1", {"ngram_counts": [-1]}), ("whole number", {"ngram_counts": [0, 1]}),
                          ("weights", {"weights": [1.0]})):
        yield "TfIdfVectorizer", {**GRAMS, **changed}, part, {"inputs": [np.array([5, 6])], "domain": ""}
    yield "StringNormalizer", {}, "rank 3", {"inputs": [WORDS.reshape(1, 1, 2)], "domain": ""}
    yield "StringNormalizer", {"case_change_action": "X"}, "case_change_action", {"inputs": [WORDS], "domain": ""}
    yield "StringSplit", {"maxsplit": -HUGE}, "splits", {"inputs": [WORDS], "domain": "", "outputs": 2}


def all_refusals():
    for family in (trees, features, texts):
        yield from family()
