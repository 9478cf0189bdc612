"""Operators of domain ai.onnx.ml and on strings.

usage: ml_test.py [SUBSTRING]
"""

import os
import sys
import zlib

import numpy as np
from onnx import MapProto, SequenceProto, TensorProto, helper, numpy_helper

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "contrib"))
import harness  # noqa: E402
from refused_cases import X, all_refusals  # noqa: E402


def numbers(results):
    """Strings as numbers, which the harness compares exactly."""
    return [np.vectorize(lambda s: zlib.crc32(str(s).encode()), otypes=[np.int64])(r) if r.dtype.kind in "OUS" else r
            for r in results]


class MlCase(harness.Case):
    def __init__(self, name, op, inputs, attributes=None, version=3, opset=20, judge="runtime", domain="ai.onnx.ml",
                 **more):
        super().__init__(name, op, inputs, attributes, domain=domain, compare=numbers, **more)
        self.version, self.opset = version, opset
        if judge == "reference":
            self.formula = self.by_reference

    def model(self, form="as it is"):
        model = super().model(form)
        del model.opset_import[:]
        for domain, version in (("", self.opset), ("ai.onnx.ml", self.version), ("com.microsoft", 1)):
            model.opset_import.append(helper.make_opsetid(domain, version))
        return model

    def by_reference(self, *_):
        from onnx.reference import ReferenceEvaluator

        model = self.model()
        return tuple(np.asarray(r) for r in ReferenceEvaluator(model).run(None, self.fed()))


class MapCase(MlCase):
    """Operands and results may be dicts, results lists of dicts; map_type says which (key, value) a dict is."""

    def __init__(self, *arguments, map_type=(TensorProto.INT64, TensorProto.FLOAT), **more):
        self.map_type = map_type
        super().__init__(*arguments, **more)
        self.compare = lambda results: numbers(part for result in results for part in arrays(result))

    def type_of(self, i, value, is_open):
        if not isinstance(value, dict):
            return super().type_of(i, value, is_open)
        key, element = self.map_type
        return helper.make_map_type_proto(key, helper.make_tensor_type_proto(element, []))

    def encoded(self, value, name):
        if not isinstance(value, dict):
            return super().encoded(value, name)
        key, element = self.map_type
        dtype = object if element == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(element)
        values = [numpy_helper.from_array(np.array(v, dtype=dtype)) for v in value.values()]
        sequence = SequenceProto(elem_type=SequenceProto.TENSOR, tensor_values=values)
        proto = MapProto(name=name, key_type=key, values=sequence)
        if key == TensorProto.STRING:
            proto.string_keys.extend(k.encode() for k in value)
        else:
            proto.keys.extend(value)
        return proto.SerializeToString()

    def decoded(self, data):
        if self.op != "ZipMap":
            return super().decoded(data)
        sequence = SequenceProto.FromString(data)
        assert sequence.elem_type == SequenceProto.MAP, sequence
        maps = []
        for proto in sequence.map_values:
            keys = [k.decode() for k in proto.string_keys] if proto.key_type == TensorProto.STRING else list(proto.keys)
            values = [numpy_helper.to_array(v) for v in proto.values.tensor_values]
            assert all(v.dtype == np.float32 and v.shape == () for v in values) and len(keys) == len(values)
            maps.append({k: float(v) for k, v in zip(keys, values)})
        return maps


def arrays(result):
    """A list of dicts as their keys and their values."""
    if not isinstance(result, list):
        return [result]
    keys = [list(m) for m in result]
    return [np.array(keys, dtype=object if keys and isinstance(keys[0][0], str) else np.int64),
            np.array([list(m.values()) for m in result], dtype=np.float32)]


def tree_nodes(r, depth, features, first_id, tree):
    """A full random tree as rows (tree, node, feature, value, mode, true, false), and its leaves."""
    rows, leaves = [], []
    modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
    for node in range(2 ** (depth + 1) - 1):
        if node >= 2**depth - 1:
            rows.append((tree, first_id + node, 0, 0.0, "LEAF", 0, 0))
            leaves.append((tree, first_id + node))
        else:
            rows.append((tree, first_id + node, int(r.integers(features)), float(r.integers(-3, 4)),
                         modes[int(r.integers(6))], first_id + 2 * node + 1, first_id + 2 * node + 2))
    return rows, leaves


def forest(r, features, trees=3, depth=3):
    rows, leaves = [], []
    for tree in range(trees):
        more, ends = tree_nodes(r, depth, features, 10 * tree, tree)
        rows += more
        leaves += ends
    names = ["treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids"]
    attributes = {f"nodes_{name}": [row[k] for row in rows] for k, name in enumerate(names)}
    attributes["nodes_missing_value_tracks_true"] = [int(v) for v in r.integers(0, 2, len(rows))]
    return attributes, leaves


def tree_cases(case, r):
    def x(rows=20, missing=False):
        v = r.integers(-4, 5, (rows, 4)).astype(np.float32)
        if missing:
            v[3, 1] = v[5, 0] = np.nan
        return v

    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        nodes, leaves = forest(r, 4)
        targets = {"target_treeids": [t for t, _ in leaves for _ in range(2)],
                   "target_nodeids": [n for _, n in leaves for _ in range(2)],
                   "target_ids": [k for _ in leaves for k in range(2)],
                   "target_weights": [float(v) for v in r.standard_normal(2 * len(leaves))],
                   "n_targets": 2, "aggregate_function": aggregate, "base_values": [0.5, -1.0]}
        case(f"TreeEnsembleRegressor {aggregate}", "TreeEnsembleRegressor", [x()], {**nodes, **targets},
             dynamic={0: (0,)})
        if aggregate == "SUM":
            case("TreeEnsembleRegressor NaN", "TreeEnsembleRegressor", [x(missing=True)], {**nodes, **targets})
            case("TreeEnsembleRegressor f64", "TreeEnsembleRegressor", [x().astype(np.float64)], {**nodes, **targets})
    for how in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        nodes, leaves = forest(r, 4)
        classes = {"class_treeids": [t for t, _ in leaves for _ in range(3)],
                   "class_nodeids": [n for _, n in leaves for _ in range(3)],
                   "class_ids": [k for _ in leaves for k in range(3)],
                   "class_weights": [float(v) for v in r.standard_normal(3 * len(leaves))], "post_transform": how}
        case(f"TreeEnsembleClassifier {how}", "TreeEnsembleClassifier", [x()],
             {**nodes, **classes, "classlabels_int64s": [5, 7, 11]}, outputs=2)
        case(f"TreeEnsembleClassifier strings {how}", "TreeEnsembleClassifier", [x()],
             {**nodes, **classes, "classlabels_strings": ["a", "b", "c"]}, outputs=2, dynamic={0: (0,)})
    for how in ("NONE", "LOGISTIC"):
        nodes, leaves = forest(r, 4)
        for name, weights in (("mixed", r.standard_normal(len(leaves))), ("positive", r.random(len(leaves)) / 3)):
            if how == "LOGISTIC" and name == "positive":
                continue
            binary = {"class_treeids": [t for t, _ in leaves], "class_nodeids": [n for _, n in leaves],
                      "class_ids": [0 for _ in leaves], "class_weights": [float(v) for v in weights],
                      "post_transform": how, "classlabels_int64s": [0, 1]}
            case(f"TreeEnsembleClassifier binary {name} {how}", "TreeEnsembleClassifier", [x()], {**nodes, **binary},
                 outputs=2)


def linear_cases(case, r):
    x = r.standard_normal((9, 4)).astype(np.float32)
    reals = lambda n: [float(v) for v in r.standard_normal(n)]  # noqa: E731
    case("LinearRegressor", "LinearRegressor", [x], {"coefficients": reals(8), "intercepts": reals(2), "targets": 2},
         dynamic={0: (0,)})
    case("LinearRegressor without intercepts", "LinearRegressor", [x], {"coefficients": reals(4)})
    for how in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        case(f"LinearClassifier {how}", "LinearClassifier", [x],
             {"coefficients": reals(12), "intercepts": reals(3), "classlabels_ints": [3, 5, 8], "post_transform": how},
             outputs=2, dynamic={0: (0,)})
        case(f"LinearClassifier binary {how}", "LinearClassifier", [x],
             {"coefficients": reals(4), "intercepts": reals(1), "classlabels_strings": ["no", "yes"],
              "post_transform": how}, outputs=2, judge="reference")
    case("LinearClassifier PROBIT", "LinearClassifier", [r.random((5, 2)).astype(np.float32)],
         {"coefficients": [0.5, 0.2, 0.1, 0.4], "intercepts": [0.1, 0.2], "classlabels_ints": [1, 2],
          "post_transform": "PROBIT"}, outputs=2)
    for kernel, parameters in (("LINEAR", [0, 0, 0]), ("RBF", [0.3, 0, 0]), ("POLY", [0.5, 1.0, 3.0]),
                               ("SIGMOID", [0.2, 0.1, 0])):
        base = {"kernel_type": kernel, "kernel_params": [float(v) for v in parameters]}
        case(f"SVMRegressor {kernel}", "SVMRegressor", [x],
             {**base, "coefficients": reals(6), "support_vectors": reals(24), "n_supports": 6, "rho": reals(1)},
             dynamic={0: (0,)})
        three = {**base, "coefficients": reals(2 * 9), "support_vectors": reals(36), "vectors_per_class": [2, 4, 3],
                 "rho": reals(3), "classlabels_ints": [4, 6, 9]}
        case(f"SVMClassifier {kernel}", "SVMClassifier", [x], three, outputs=2)
        case(f"SVMClassifier {kernel} probabilities", "SVMClassifier", [x],
             {**three, "prob_a": [-1.0, -0.7, -1.2], "prob_b": [0.1, 0.0, -0.2]}, outputs=2, dynamic={0: (0,)})
        two = {**base, "coefficients": reals(6), "support_vectors": reals(24), "vectors_per_class": [2, 4],
               "rho": reals(1), "classlabels_ints": [0, 1]}
        case(f"SVMClassifier {kernel} two", "SVMClassifier", [x], two, outputs=2)
        case(f"SVMClassifier {kernel} two, probabilities", "SVMClassifier", [x],
             {**two, "prob_a": [-1.0], "prob_b": [0.1]}, outputs=2)
    line = {"kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0]}
    case("SVMRegressor linear", "SVMRegressor", [x], {**line, "coefficients": reals(4), "rho": reals(1)})
    case("SVMRegressor one class", "SVMRegressor", [x],
         {**line, "coefficients": reals(6), "support_vectors": reals(24), "n_supports": 6, "rho": [0.0],
          "one_class": 1})
    case("SVMClassifier linear", "SVMClassifier", [x],
         {**line, "coefficients": reals(12), "rho": [0.3, 0.3, 0.3], "classlabels_ints": [1, 2, 3]}, outputs=2)


def feature_cases(case, r):
    x = r.standard_normal((5, 4)).astype(np.float32)
    whole = r.integers(-3, 4, (5, 4))
    for norm in ("MAX", "L1", "L2"):
        case(f"Normalizer {norm}", "Normalizer", [np.abs(x) if norm == "MAX" else x], {"norm": norm},
             dynamic={0: (0, 1)})
        case(f"Normalizer {norm} i64", "Normalizer", [np.abs(whole) + 1], {"norm": norm})
    offsets = {"offset": [1.0, 2.0, 3.0, 4.0], "scale": [0.5, 1.0, 2.0, 4.0]}
    case("Scaler", "Scaler", [x], offsets)
    case("Scaler i64", "Scaler", [whole], offsets)
    case("Scaler one", "Scaler", [x], {"offset": [0.5], "scale": [2.0]})
    missing = x.copy()
    missing[1, 2] = missing[3, 0] = np.nan
    case("Imputer NaN", "Imputer", [missing], {"imputed_value_floats": [1.0, 2.0, 3.0, 4.0],
                                               "replaced_value_float": float("nan")})
    case("Imputer i64", "Imputer", [whole], {"imputed_value_int64s": [9], "replaced_value_int64": -1})
    for dtype in (np.float32, np.float64, np.int64, np.int32):
        case(f"Binarizer {np.dtype(dtype)}", "Binarizer", [whole.astype(dtype)], {"threshold": 0.5},
             judge="runtime" if dtype == np.float32 else "reference")
    case("ArrayFeatureExtractor", "ArrayFeatureExtractor", [x, np.array([2, 0, 2])], dynamic={0: (0, 1)})
    case("ArrayFeatureExtractor vector", "ArrayFeatureExtractor", [x[0], np.array([[3, 1]])])
    words = np.array([["a", "b"], ["c", "x"]], dtype=object)
    case("ArrayFeatureExtractor strings", "ArrayFeatureExtractor", [words, np.array([1])])
    case("FeatureVectorizer", "FeatureVectorizer", [x, x[:, :2].copy()], {"inputdimensions": [4, 2]})
    case("FeatureVectorizer cut and filled", "FeatureVectorizer", [x, x[:, :2].copy()], {"inputdimensions": [3, 4]},
         judge="reference")
    case("OneHotEncoder", "OneHotEncoder", [whole], {"cats_int64s": [-1, 0, 2]}, dynamic={0: (0,)})
    case("OneHotEncoder strings", "OneHotEncoder", [words], {"cats_strings": ["a", "b", "c"]})
    case("CategoryMapper", "CategoryMapper", [words], {"cats_int64s": [5, 6], "cats_strings": ["a", "c"]})
    case("CategoryMapper back", "CategoryMapper", [np.array([6, 7])],
         {"cats_int64s": [5, 6], "cats_strings": ["a", "c"], "default_string": "none"})
    case("LabelEncoder 1", "LabelEncoder", [words], {"classes_strings": ["b", "c"], "default_int64": 8}, version=1)
    case("LabelEncoder 1 back", "LabelEncoder", [np.array([0, 5, 1])], {"classes_strings": ["b", "c"]}, version=1)
    case("LabelEncoder floats", "LabelEncoder", [x], {"keys_floats": [float("nan"), float(x[0, 0])],
                                                          "values_strings": ["nan", "first"]}, version=2)
    case("LabelEncoder ints", "LabelEncoder", [whole], {"keys_int64s": [0, 1], "values_floats": [0.5, 1.5],
                                                       "default_float": -7.0}, version=2, dynamic={0: (0, 1)})


def string_cases(case, r):
    def text(name, op, inputs, attributes=None, **more):
        case(name, op, inputs, attributes, domain="", **more)

    words = np.array(["one two", " three  four five ", "", "six"], dtype=object)
    text("StringSplit", "StringSplit", [words], outputs=2, dynamic={0: (0,)})
    text("StringSplit limited", "StringSplit", [words], {"maxsplit": 1}, outputs=2)
    text("StringSplit delimiter", "StringSplit", [np.array([["a--b", "--"], ["c", "d--e--f"]], dtype=object)],
         {"delimiter": "--"}, outputs=2)
    text("StringConcat", "StringConcat", [words[:, None], np.array(["x", "é"], dtype=object)])
    subjects = np.array(["a@b.com", "ab", "aab", "", "ab\ncd", "ÄÖ", "äö", "2024-01-31", "x-y", "\\", "aaaa"],
                        dtype=object)
    for pattern in (r"\w+@\w+\.com", r"a*b?", r"(a|b)+", r".+", r"(?s).+", r"(?i)äö", r"\d{4}-\d\d-\d{2}", r"[^a]*",
                    r"[\w-]+", r"\\", r"(?:a{2}){2}", r"^a+b$", r"\bab\b", r"(?P<n>a)+b", r"[[:alpha:]]{2,}",
                    r"\x61+b", r"a+?b*?", r"\Qa@b\E.*", r"(?i:AA)b", r"()|ab", r"\D+", r"[a-c@.-]*[^x]"):
        text(f"RegexFullMatch {pattern}", "RegexFullMatch", [subjects], {"pattern": pattern})
    lines = np.array(["Hello World", "I love it !", "", "ab12cd,äö;aab", "aXXbXc a"], dtype=object)

    def tokens(name, x=lines, **attributes):
        case(f"Tokenizer {name}", "Tokenizer", [x], {"mark": 0, "mincharnum": 1, "pad_value": "#", **attributes},
             domain="com.microsoft", dynamic={0: (0,)})

    for separators in ([" "], [",", ";", " "], ["[,; ]"], [""], ["X*"], ["^a"], ["\\b"], ["[0-9]", "b"], ["ä|äö"]):
        for mark in (0, 1):
            tokens(f"{separators} {mark}", separators=separators, mark=mark)
        if separators != [""]:
            tokens(f"{separators} long", separators=separators, mincharnum=2)
    for form in (".", "[a-z]+", "a|ab", "[a-c]*", "^a", "a|bcd|b", "ab|12cd|abc|d,"):
        for mark in (0, 1):
            tokens(f"{form} {mark}", tokenexp=form, mark=mark)
        if form != ".":
            tokens(f"{form} long", tokenexp=form, mincharnum=3)
    tokens("rows", np.array([["a b", "c"], ["d e f", ""]], dtype=object), separators=[" "])
    tokens("nothing", np.array(["", " "], dtype=object), separators=[" "], mark=1)
    for action in ("NONE", "LOWER", "UPPER"):
        for sensitive in (0, 1):
            text(f"StringNormalizer {action} {sensitive}", "StringNormalizer",
                 [np.array(["Monday", "monday", "tuesday", "WEDNESDAY"], dtype=object)],
                 {"case_change_action": action, "is_case_sensitive": sensitive, "stopwords": ["monday"],
                  "locale": "C"})
    ids = r.integers(0, 4, (3, 12))
    for mode in ("TF", "IDF", "TFIDF"):
        for low, high, skip in ((1, 1, 0), (1, 3, 2), (2, 3, 1), (2, 2, 5)):
            pool = [0, 1, 2] + [0, 1, 1, 2, 3, 3] + [0, 1, 2, 3, 2, 1]
            text(f"TfIdfVectorizer {mode} {low} {high} {skip}", "TfIdfVectorizer", [ids],
                 {"mode": mode, "min_gram_length": low, "max_gram_length": high, "max_skip_count": skip,
                  "ngram_counts": [0, 3, 9], "ngram_indexes": [7, 0, 1, 2, 3, 4, 5, 6], "pool_int64s": pool,
                  "weights": [float(v) for v in r.random(8)]}, dynamic={0: (0, 1)})


# ONNX Runtime takes a dict from Python only where its values are floats, and writes numbers as %f; the definition then
# judges.

def vectorized(vocabulary, nothing):
    return lambda entries: np.array([[entries.get(k, nothing) for k in vocabulary]],
                                    dtype=object if nothing == "" else None)


def casted(to, max_map):
    convert, nothing, dtype = {"TO_FLOAT": (float, 0, np.float32), "TO_INT64": (int, 0, np.int64),
                               "TO_STRING": (str, "", object)}[to]

    def formula(entries):
        values = [entries[k] for k in sorted(entries)] if max_map is None else map(entries.get, range(max_map))
        return np.array([[nothing if v is None else convert(v) for v in values]], dtype=dtype)

    return formula


def map_cases(case, r):
    x = r.random((5, 3)).astype(np.float32)
    for name, labels in (("integers", {"classlabels_int64s": [7, -1, 3]}),
                         ("strings", {"classlabels_strings": ["b", "é", "a"]})):
        case(f"ZipMap {name}", "ZipMap", [x], labels, dynamic={0: (0, 1)})
        case(f"ZipMap {name}, one sample", "ZipMap", [x[0]], labels)
        case(f"ZipMap {name}, no sample", "ZipMap", [x[:0]], labels, dynamic={0: (0,)})
    words = {"vocabulary": {"string_vocabulary": ["one", "two", "three"]},
             "entries": [("three", 3), ("none", 5), ("one", 1)], "key": TensorProto.STRING}
    places = {"vocabulary": {"int64_vocabulary": [1, 2, -3]}, "entries": [(-3, 3), (9, 5), (1, 1)],
              "key": TensorProto.INT64}
    for keys in (words, places):
        for element, convert in ((TensorProto.FLOAT, np.float32), (TensorProto.DOUBLE, float), (TensorProto.INT64, int),
                                 (TensorProto.STRING, str)):
            if keys["key"] == element:
                continue   # ONNX has no such map here
            name = f"DictVectorizer {TensorProto.DataType.Name(keys['key'])} {TensorProto.DataType.Name(element)}"
            entries = {k: convert(v) for k, v in keys["entries"]}
            by_definition = vectorized(*keys["vocabulary"].values(), convert())
            case(name, "DictVectorizer", [entries], keys["vocabulary"], map_type=(keys["key"], element),
                 formula=None if element == TensorProto.FLOAT else by_definition)
            case(name + ", empty", "DictVectorizer", [{}], keys["vocabulary"], map_type=(keys["key"], element),
                 formula=by_definition)
    for element, entries in ((TensorProto.FLOAT, {5: 1.5, 0: -2.25, 3: 0.75}),
                             (TensorProto.STRING, {5: "15", 0: "-2", 3: "7"})):
        for to in ("TO_FLOAT", "TO_INT64", "TO_STRING"):
            for form in ({"map_form": "DENSE"}, {"map_form": "SPARSE", "max_map": 8},
                         {"map_form": "SPARSE", "max_map": 4}):
                name = " ".join(["CastMap", TensorProto.DataType.Name(element), to, *map(str, form.values())])
                judged = element == TensorProto.FLOAT and to != "TO_STRING"
                case(name, "CastMap", [entries], {"cast_to": to, **form}, map_type=(TensorProto.INT64, element),
                     formula=None if judged else casted(to, form.get("max_map")))


def cases():
    r = np.random.default_rng(7)
    all_cases = []

    def case(*arguments, **more):
        all_cases.append((MapCase if arguments[1] in ("ZipMap", "DictVectorizer", "CastMap") else MlCase)(
            *arguments, **more))

    tree_cases(case, r)
    linear_cases(case, r)
    feature_cases(case, r)
    string_cases(case, r)
    map_cases(case, r)
    return all_cases


def refusals(pattern):
    """Models that must be refused, as they are and with their inputs frozen: how many are, and how many are not."""
    passed = failed = 0
    for number, (op, attributes, part, more) in enumerate(all_refusals()):
        name = f"refused {number} {op}"
        if pattern not in name:
            continue
        two = op in ("TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier")
        case = MlCase(name, op, attributes=attributes, **{"inputs": [X], "outputs": 2 if two else 1, **more})
        for form in ("as it is", "frozen"):
            try:
                harness.by_sinter(case, form)
                problem = "it runs"
            except RuntimeError as error:
                said = str(error)
                problem = None if part in said and said.startswith("sinter: ") and "internal" not in said else said
            passed, failed = passed + (problem is None), failed + (problem is not None)
            if problem:
                print(f"FAIL {name}, {form}, expected '{part}': {problem}")
    return passed, failed


if __name__ == "__main__":
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.exit(0 if harness.run(cases(), word, ("as it is", "frozen", "open", "reloaded"), refusals(word)) else 1)
