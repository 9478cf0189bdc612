"""The package as a user meets it: build, load, run, errors. Needs onnx to make models and onnxruntime as a judge."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import sinter


def model(nodes, inputs, outputs, initializers=(), opset=17):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made.SerializeToString()


def value(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


@pytest.fixture
def affine():
    w = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    return model([helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])],
                 [value("x", TensorProto.FLOAT, ["N", 4])], [value("y", TensorProto.FLOAT, ["N", 3])],
                 [onnx.numpy_helper.from_array(w, "w")])


def judge(data, inputs):
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, inputs)


def test_build_call_and_describe(affine):
    engine = sinter.build(affine)
    assert [(i.name, i.kind, i.dtype, i.shape) for i in engine.inputs] == [("x", "tensor", "float32", ("N", 4))]
    assert [(o.name, o.shape) for o in engine.outputs] == [("y", ("N", 3))]
    for n in (1, 5, 0):
        x = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32)
        y = engine(x)
        assert isinstance(y, np.ndarray) and y.dtype == np.float32 and y.shape == (n, 3)
        np.testing.assert_allclose(y, judge(affine, {"x": x})[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(engine(x=x), y)
    assert list(engine.run({"x": x})) == ["y"]


def test_precision():
    random = np.random.default_rng(5)
    x, w = random.standard_normal((64, 768)).astype(np.float32), random.standard_normal((768, 64)).astype(np.float32)
    product = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", TensorProto.FLOAT, ["N", 768])],
                    [value("y", TensorProto.FLOAT, ["N", 64])], [onnx.numpy_helper.from_array(w, "w")])
    exact = x.astype(np.float64) @ w
    for options, most in (({"tf32": False}, 1e-6), ({}, 1e-5), ({"fp16": True}, 5e-4), ({"bf16": True}, 4e-3)):
        error = sinter.build(product, **options)(x) - exact
        assert np.sqrt(np.mean(error ** 2) / np.mean(exact ** 2)) <= most, options
    with pytest.raises(sinter.Error, match="asked for at once"):
        sinter.build(product, tf32=False, bf16=True)


def test_save_and_load_in_a_new_process(affine, tmp_path):
    path = tmp_path / "a.engine"
    engine = sinter.build(affine)
    engine.save(path)
    x = np.ones((2, 4), np.float32)
    np.save(tmp_path / "x.npy", x)
    code = ("import numpy, sinter, sys; e = sinter.load(sys.argv[1]);"
            "numpy.save(sys.argv[3], e(numpy.load(sys.argv[2])))")
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "x.npy", tmp_path / "y.npy"], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), engine(x))
    np.testing.assert_array_equal(sinter.load(engine.serialize())(x), engine(x))


def test_memory_is_told_without_a_run(affine):
    engine = sinter.build(affine, dims={"N": (1, 2, 8)}, threads=1)
    best, largest = engine.memory(), engine.memory(largest=True)
    assert best.complete and largest.complete and best.weights == largest.weights > 0
    assert largest.outputs == 4 * best.outputs > 0 and largest.values >= best.values >= 0 <= best.working
    unknown = sinter.build(affine, threads=1).memory()
    assert unknown == sinter.Memory(best.weights, None, None, None, False)


def test_same_bytes_from_the_same_model(affine):
    assert sinter.build(affine, threads=1).serialize() == sinter.build(affine, threads=1).serialize()


def test_outputs_are_the_callers_own(affine):
    engine = sinter.build(affine)
    first = engine(np.ones((1, 4), np.float32))
    kept = first.copy()
    engine(np.full((1, 4), 7, np.float32))
    np.testing.assert_array_equal(first, kept)


def test_caches_are_written_in_place():
    shape = [1, 2, 6, 4]
    scatter = helper.make_node("TensorScatter", ["past", "rows", "at"], ["present"])
    total = helper.make_node("ReduceSum", ["present", "axes"], ["sum"], keepdims=0)
    engine = sinter.build(model(
        [scatter, total], [value("past", TensorProto.FLOAT, shape), value("rows", TensorProto.FLOAT, [1, 2, "S", 4]),
                           value("at", TensorProto.INT64, [1])],
        [value("present", TensorProto.FLOAT, shape), value("sum", TensorProto.FLOAT, [1, 2, 4])],
        [onnx.numpy_helper.from_array(np.array([2]), "axes")], opset=24))
    assert [o.under for o in engine.outputs] == ["past", None] and engine.inputs[0].under is None
    random = np.random.default_rng(3)
    cache = random.standard_normal(shape).astype(np.float32)
    past, apart, shared = cache.copy(), engine.context(), engine.context(in_place=True)
    for token in range(6):
        rows, at = random.standard_normal((1, 2, 1, 4)).astype(np.float32), np.array([token])
        past, expected = apart.run(past, rows, at)
        present, sums = shared.run(cache, rows, at)
        assert present is cache
        np.testing.assert_array_equal(present, past)
        np.testing.assert_array_equal(sums, expected)
    frozen = cache.copy()
    frozen.flags.writeable = False
    for wrong in (frozen, cache[..., ::-1], cache.astype(np.float64), cache.tolist()):
        with pytest.raises((TypeError, sinter.Error)):
            shared.run(wrong, rows, at)
    with pytest.raises(sinter.Error, match="shares memory with input 'rows'"):
        shared.run(cache, cache, np.array([0]))


def test_arrays_that_are_not_contiguous_or_writable(affine):
    engine = sinter.build(affine)
    x = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2].T.copy().T
    x = np.concatenate([x, x[:, :1]], axis=1)[::-1]
    expected = judge(affine, {"x": np.ascontiguousarray(x)})[0]
    np.testing.assert_allclose(engine(x), expected, rtol=1e-5)
    frozen = np.ascontiguousarray(x)
    frozen.flags.writeable = False
    np.testing.assert_allclose(engine(frozen), expected, rtol=1e-5)


def test_dlpack(affine):
    class Wrapped:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **kwargs):
            return self.array.__dlpack__()

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    x = np.ones((2, 4), np.float32)
    engine = sinter.build(affine)
    np.testing.assert_array_equal(engine(Wrapped(x)), engine(x))


def test_errors_say_where_and_what(affine):
    engine = sinter.build(affine)
    with pytest.raises(sinter.Error) as caught:
        engine(np.ones((2, 5), np.float32))
    assert caught.value.code == "invalid argument" and caught.value.tensor == "x" and "extent 5" in str(caught.value)
    with pytest.raises(sinter.Error, match="f64"):
        engine(np.ones((2, 4)))
    with pytest.raises(TypeError, match="missing"):
        engine()
    with pytest.raises(TypeError, match="no input named 'z'"):
        engine(z=1)
    with pytest.raises(sinter.Error):
        sinter.build(b"dummy")
    with pytest.raises(sinter.Error) as caught:
        sinter.build("/nowhere/model.onnx")
    assert "/nowhere/model.onnx" in str(caught.value)
    with pytest.raises(sinter.Error):
        sinter.load(b"not an engine")


def test_every_broken_node_is_reported():
    data = model([helper.make_node("Frobnicate", ["x"], ["a"], name="first", domain="custom"),
                  helper.make_node("Relu", ["x"], ["b"]),
                  helper.make_node("Transmogrify", ["b"], ["y"], name="second", domain="custom")],
                 [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])])
    with pytest.raises(sinter.Error) as caught:
        sinter.build(data)
    assert caught.value.code == "unsupported"
    assert "Frobnicate" in str(caught.value) and "Transmogrify" in str(caught.value)


def test_dims_are_bounds(affine):
    engine = sinter.build(affine, dims={"N": (1, 2, 4)})
    engine(np.ones((4, 4), np.float32))
    with pytest.raises(sinter.Error, match="outside"):
        engine(np.ones((5, 4), np.float32))
    with pytest.raises(sinter.Error, match="no dimension named 'M'"):
        sinter.build(affine, dims={"M": (1, 1, 1)})


def test_data_dependent_output():
    data = model([helper.make_node("NonZero", ["x"], ["y"])], [value("x", TensorProto.FLOAT, ["N"])],
                 [value("y", TensorProto.INT64, [1, "K"])])
    engine = sinter.build(data)
    np.testing.assert_array_equal(engine(np.array([0, 3, 0, 5], np.float32)), [[1, 3]])
    assert engine(np.zeros(3, np.float32)).shape == (1, 0)


def test_a_fault_names_its_node():
    data = model([helper.make_node("Gather", ["x", "i"], ["y"], name="pick")],
                 [value("x", TensorProto.FLOAT, [3]), value("i", TensorProto.INT64, [1])],
                 [value("y", TensorProto.FLOAT, [1])])
    engine = sinter.build(data)
    x = np.arange(3, dtype=np.float32)
    with pytest.raises(sinter.Error) as caught:
        engine(x, np.array([3]))
    assert caught.value.code == "fault at run time" and caught.value.node == "pick" and "out of range" in str(caught.value)
    assert engine(x, np.array([2])).tolist() == [2]


def test_strings_and_sequences():
    data = model([helper.make_node("Identity", ["x"], ["y"])], [value("x", TensorProto.STRING, [2])],
                 [value("y", TensorProto.STRING, [2])])
    assert sinter.build(data)(np.array(["a", "ö"])).tolist() == ["a", "ö"]
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    data = model([helper.make_node("SequenceInsert", ["s", "x"], ["t"])], [sequence, value("x", TensorProto.FLOAT, [2])],
                 [helper.make_tensor_sequence_value_info("t", TensorProto.FLOAT, None)])
    out = sinter.build(data)([np.ones(3, np.float32)], np.zeros(2, np.float32))
    assert [a.tolist() for a in out] == [[1, 1, 1], [0, 0]]


def ml_model(nodes, inputs, outputs):
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def map_type(key, element):
    return helper.make_map_type_proto(key, helper.make_tensor_type_proto(element, []))


@pytest.mark.parametrize("labels", [[30, 10, 20], ["red", "grün", "blue"]])
def test_probabilities_of_a_classifier_are_dicts(labels, tmp_path):
    ml, words = {"domain": "ai.onnx.ml"}, isinstance(labels[0], str)
    key = TensorProto.STRING if words else TensorProto.INT64
    kind = "strings" if words else "int64s"
    leaves = [(tree, node, c) for tree in (0, 1) for node in (1, 2) for c in range(3)]
    trees = dict(
        nodes_treeids=[0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2, 0, 1, 2], nodes_featureids=[0, 0, 0, 1, 0, 0],
        nodes_values=[0.5, 0, 0, -0.5, 0, 0], nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
        nodes_truenodeids=[1, 0, 0] * 2, nodes_falsenodeids=[2, 0, 0] * 2, class_treeids=[l[0] for l in leaves],
        class_nodeids=[l[1] for l in leaves], class_ids=[l[2] for l in leaves],
        class_weights=np.random.default_rng(3).random(12, np.float32).tolist())
    data = ml_model(
        [helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "votes"], **trees, **{f"classlabels_{kind}": labels},
                          **ml),
         helper.make_node("Normalizer", ["votes"], ["p"], norm="L1", **ml),
         helper.make_node("ZipMap", ["p"], ["probabilities"], **{f"classlabels_{kind}": labels}, **ml)],
        [value("x", TensorProto.FLOAT, ["N", 2])],
        [value("label", key, ["N"]), helper.make_value_info("probabilities", helper.make_sequence_type_proto(
            map_type(key, TensorProto.FLOAT)))])
    engine = sinter.build(data)
    info = engine.outputs[1]
    assert (info.kind, info.dtype, info.shape) == ("sequence", None, None)
    assert info.type == ("seq(map(string, f32))" if words else "seq(map(i64, f32))")
    assert repr(info) == f"<probabilities: {info.type}>"
    engine.save(tmp_path / "classifier.engine")
    for network in (engine, sinter.load(tmp_path / "classifier.engine")):
        for n in (1, 7, 0):
            x = np.random.default_rng(n).standard_normal((n, 2)).astype(np.float32)
            label, dicts = network(x)
            wanted_label, wanted = judge(data, {"x": x})
            assert label.tolist() == wanted_label.tolist()
            assert isinstance(dicts, list) and len(dicts) == n
            for got, want in zip(dicts, wanted):
                assert type(got) is dict and list(got) == list(want)
                assert all(type(v) is float for v in got.values())
                assert got == pytest.approx(want, rel=1e-5)


def test_dicts_as_inputs():
    def vectorizer(key, element, **vocabulary):
        return sinter.build(ml_model([helper.make_node("DictVectorizer", ["m"], ["y"], domain="ai.onnx.ml", **vocabulary)],
                                     [helper.make_value_info("m", map_type(key, element))],
                                     [value("y", element, [1, None])]))

    engine = vectorizer(TensorProto.STRING, TensorProto.FLOAT, string_vocabulary=["b", "ä", "c"])
    assert (engine.inputs[0].kind, engine.inputs[0].type) == ("map", "map(string, f32)")
    y = engine({"ä": 1.5, "b": 2, "other": 3})
    assert y.dtype == np.float32 and y.tolist() == [[2, 1.5, 0]]
    assert engine(m={}).tolist() == [[0, 0, 0]]
    assert engine.run({"m": {"c": 1}})["y"].tolist() == [[0, 0, 1]]
    assert engine({b"b": np.float32(4)}).tolist() == [[4, 0, 0]]
    engine = vectorizer(TensorProto.INT64, TensorProto.STRING, int64_vocabulary=[7, -1])
    assert engine({-1: "x", 3: "y"}).tolist() == [["", "x"]]
    engine = vectorizer(TensorProto.INT64, TensorProto.DOUBLE, int64_vocabulary=[7, -1])
    assert engine({np.int64(7): 0.1}).tolist() == [[0.1, 0]]
    for wrong in ({"a": 1.0}, {1.5: 1.0}, {1: "a"}, {1: [1.0, 2.0]}, [1.0], None):
        with pytest.raises(TypeError, match="input 'm'"):
            engine.run([wrong])
    passing = sinter.build(ml_model([helper.make_node("Identity", ["m"], ["y"])],
                                    [helper.make_value_info("m", map_type(TensorProto.INT64, TensorProto.INT64))],
                                    [helper.make_value_info("y", map_type(TensorProto.INT64, TensorProto.INT64))]))
    assert passing({3: 4, -2: 2**40}) == {-2: 2**40, 3: 4}


def test_bfloat16_and_four_bits():
    data = model([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)], [value("x", TensorProto.FLOAT, [2])],
                 [value("y", TensorProto.BFLOAT16, [2])], opset=21)
    y = sinter.build(data)(np.array([1, -2], np.float32))
    assert y.dtype.itemsize == 2 and y.view(np.uint16).tolist() == [0x3F80, 0xC000]
    data = model([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT4)], [value("x", TensorProto.FLOAT, [3])],
                 [value("y", TensorProto.INT4, [3])], opset=21)
    assert [int(v) for v in sinter.build(data)(np.array([1, -2, 7], np.float32)).astype(np.int32)] == [1, -2, 7]


def test_progress_and_log(affine):
    stages, messages = [], []
    sinter.build(affine, progress=lambda stage, fraction: stages.append((stage, fraction)),
                 log=lambda level, message: messages.append((level, message)), log_level="verbose")
    assert stages and all(0 <= f <= 1 for _, f in stages) and stages[-1][1] == 1
    assert any("simplify" in message for _, message in messages)


def test_an_exception_in_a_callback_stops_the_build(affine):
    def progress(stage, fraction):
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        sinter.build(affine, progress=progress)


def test_ctrl_c_stops_a_build(affine):
    def progress(stage, fraction):
        os.kill(os.getpid(), signal.SIGINT)

    # Python ignores the signal where its parent does, as shells do for what they start in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            sinter.build(affine, progress=progress)
    finally:
        signal.signal(signal.SIGINT, before)


def test_contexts_in_threads(affine):
    engine = sinter.build(affine)
    x = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
    expected = engine(x)
    wrong = []

    def work():
        context = engine.context(1)
        for _ in range(200):
            if not np.array_equal(context.run(x)[0], expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_the_gil_is_released_while_running():
    n = 384
    data = model([helper.make_node("MatMul", ["x", "x"], ["a"]), helper.make_node("MatMul", ["a", "x"], ["y"])],
                 [value("x", TensorProto.FLOAT, [n, n])], [value("y", TensorProto.FLOAT, [n, n])])
    context = sinter.build(data).context(1)
    x = np.ones((n, n), np.float32)
    counted = [0]
    done = threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    for _ in range(20):
        context.run(x)
    seen = counted[0] - before
    done.set()
    thread.join()
    assert seen > 0


def test_values_can_be_watched(affine):
    context = sinter.build(affine).context()
    seen = []
    context.on_value(lambda sources, array: seen.append((sources, array.shape)))
    context.run(np.ones((2, 4), np.float32))
    assert seen and seen[-1][1] == (2, 3)
    context.on_value(None)
    seen.clear()
    context.run(np.ones((2, 4), np.float32))
    assert not seen


def test_threads_that_share_an_engine_take_turns(affine):
    engine = sinter.build(affine)
    xs = [np.full((8, 4), k, np.float32) for k in range(4)]
    expected = [engine(x) for x in xs]
    wrong = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(k):
        for _ in range(500):
            if not np.array_equal(engine(xs[k]), expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    sys.setswitchinterval(interval)
    assert not wrong


def test_elements_of_sequences_and_optionals_have_their_dtype():
    # A kernel would read four bytes an element, also of these.
    optional = helper.make_value_info("o", helper.make_optional_type_proto(
        helper.make_tensor_type_proto(TensorProto.FLOAT, ["N"])))
    engine = sinter.build(model([helper.make_node("OptionalGetElement", ["o"], ["g"]),
                                 helper.make_node("Exp", ["g"], ["y"])], [optional],
                                [value("y", TensorProto.FLOAT, ["N"])], opset=18))
    np.testing.assert_array_equal(engine(np.zeros(3, np.float32)), [1, 1, 1])
    with pytest.raises(sinter.Error, match="input 'o' is u8, the engine wants f32 or nothing"):
        engine(np.zeros(1000, np.uint8))
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["N"])
    engine = sinter.build(model([helper.make_node("ConcatFromSequence", ["s"], ["g"], axis=0),
                                 helper.make_node("Exp", ["g"], ["y"])], [sequence],
                                [value("y", TensorProto.FLOAT, ["M"])]))
    with pytest.raises(sinter.Error, match="a sequence of u8, the engine wants a sequence of f32"):
        engine([np.zeros(1000, np.uint8)])
    with pytest.raises(TypeError, match="a sequence of arrays is wanted"):
        engine(None)


def test_arguments_that_make_no_sense(affine):
    engine = sinter.build(affine, dims={"N": 2})
    assert engine(np.zeros((2, 4), np.float32)).shape == (2, 3)
    with pytest.raises(sinter.Error, match="outside"):
        engine(np.zeros((3, 4), np.float32))
    for wrong, error in (({"dims": {"N": (1, 2)}}, ValueError), ({"log_level": "loud"}, ValueError),
                         ({"threads": -1}, sinter.Error)):
        with pytest.raises(error):
            sinter.build(affine, **wrong)
    with pytest.raises(sinter.Error, match="threads"):
        engine.context(-1)
    with pytest.raises(TypeError, match="input 'x'"):
        engine(None)
    with pytest.raises(TypeError, match="cannot be called"):
        engine.context().on_value(5)
    assert sinter.Error("mine").code == ""


def test_numbers_of_python_take_the_inputs_dtype(affine):
    engine = sinter.build(affine)
    np.testing.assert_array_equal(engine([[1, 2, 3, 4]]), engine(np.float32([[1, 2, 3, 4]])))


def test_ranks_beyond_what_is_computed_with():
    data = model([helper.make_node("Relu", ["x"], ["y"])],
                 [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
                 [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    engine = sinter.build(data)
    assert engine(np.ones((1,) * 16, np.float32)).ndim == 16
    with pytest.raises((ValueError, sinter.Error)):
        engine(np.ones((1,) * 17, np.float32))


def test_command_line_tool_is_in_the_package():
    tool = os.path.join(os.path.dirname(sys.executable), "sinter")
    out = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    assert sinter.__version__ in out


PLUGIN = r"""
#include <sinter/plugin.h>
static int infer(sinter_call* c) { c->set_like(c, 0, SINTER_F32, 0); return 0; }
static int compute(sinter_call* c) {
  const float* x = c->inputs[0].data;
  float* y = c->outputs[0].data;
  if (c->inputs[0].count == 13) return c->fail(c, "13 elements bring bad luck");
  for (int64_t i = 0; i < c->inputs[0].count; ++i) y[i] = x[i] + (float)c->integer(c, "more");
  return 0;
}
static const sinter_attribute attributes[] = {{"more", SINTER_INTEGER, "1"}};
static const sinter_plugin_op operators[] = {{"python.tests", "More", 1, 1, 1, 1, 1, attributes, 1, infer, compute, 0, 0}};
static const sinter_plugin plugin = {SINTER_PLUGIN_ABI, "more", "1", operators, 1};
const sinter_plugin* sinter_plugin_entry(void) { return &plugin; }
"""


def test_plugins(tmp_path):
    graph = helper.make_graph([helper.make_node("More", ["x"], ["y"], "plus", domain="python.tests", more=5)], "g",
                              [value("x", TensorProto.FLOAT, ["N"])], [value("y", TensorProto.FLOAT, ["N"])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("python.tests", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    with pytest.raises(sinter.Error, match=r"not known: python.tests.More \(1 node: 'plus'\)") as unknown:
        sinter.build(data)
    assert "sinter.load_plugins()" in unknown.value.hint
    for path in (tmp_path, tmp_path / "missing.so"):
        with pytest.raises(sinter.Error, match="cannot load plugins") as missing:
            sinter.load_plugins(path)
        assert missing.value.code == "input/output"
    source, library = tmp_path / "plugin.c", tmp_path / "plugin.so"
    source.write_text(PLUGIN, encoding="utf-8")
    include = os.path.join(os.path.dirname(__file__), "../../include")
    subprocess.run(["cc", "-shared", "-fPIC", "-I", include, source, "-o", library], check=True)
    sinter.load_plugins(library)
    sinter.load_plugins(str(library))
    engine = sinter.build(data)
    np.testing.assert_array_equal(engine(np.arange(3, dtype=np.float32)), [5, 6, 7])
    with pytest.raises(sinter.Error, match=r"node 'plus' \(python.tests.More\): python.tests.More: 13 elements bring bad luck") as fault:
        engine(np.zeros(13, np.float32))
    assert fault.value.code == "fault at run time"
    # A new process lacks it, then has it.
    engine.save(tmp_path / "more.engine")
    script = """import sys, numpy, sinter
if len(sys.argv) > 2: sinter.load_plugins(sys.argv[2])
print(sinter.load(sys.argv[1])(numpy.ones(2, numpy.float32)))"""
    alone = subprocess.run([sys.executable, "-c", script, tmp_path / "more.engine"], capture_output=True, text=True,
                           check=False)
    assert alone.returncode == 1 and "python.tests.More (version 1) of plugin 'more 1' is not there" in alone.stderr
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "more.engine", library], capture_output=True,
                         text=True, check=True)
    assert run.stdout.strip() == "[6. 6.]"
