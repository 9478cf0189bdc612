"""Tests of `sinter`. Each test is a function, here or in plugin_cases.py; the last line is "N passed, N failed". One file,
as its cases are short and of one kind: run the tool, look at what it says."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import traceback

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import (SINTER, DATA, OK, FAILURE, USAGE, BAD_MODEL, DIFFERS, INCOMPATIBLE, TESTS, test, sinter,
                     save, value, mlp, add)
import plugin_cases  # noqa: F401  pylint: disable=unused-import


@test
def help_and_version(_):
    out, _ = sinter("--help")
    assert "Exit codes" in out and "Examples" in out and "bisect" in out
    for command in ("build", "run", "bench", "inspect", "compare", "bisect", "list", "doctor"):
        out, _ = sinter(command, "--help")
        assert "Examples:\n  sinter " + command in out, out
    assert sinter("--version")[0].startswith("sinter ")


@test
def wrong_usage(folder):
    sinter(code=USAGE)
    sinter("frobnicate", code=USAGE)
    sinter("build", code=USAGE)
    model, _ = mlp(folder)
    sinter("build", model, "--nonsense", code=USAGE)
    sinter("build", model, "--device", "toaster", code=USAGE)
    sinter("list", "nothing", code=USAGE)
    _, err = sinter("build", model, "--dim", "M=1:2:3", "-o", f"{folder}/e", code=USAGE)
    assert "no dimension named 'M'" in err and "N" in err, err
    _, err = sinter("build", model, "--dim", "N=3:2:1", "-o", f"{folder}/e", code=USAGE)
    assert "min <= best <= max" in err, err
    sinter("build", model, "--dim", "N", "-o", f"{folder}/e", code=USAGE)
    sinter("build", model, "--disable-pass", "none", "-o", f"{folder}/e", code=USAGE)
    sinter("build", model, "--threads", "-1", "-o", f"{folder}/e", code=USAGE)
    sinter("build", model, "-o", model, code=USAGE)
    assert not os.path.exists(f"{folder}/e")


@test
def build_then_run(folder):
    model, expected = mlp(folder)
    engine = f"{folder}/mlp.engine"
    out, _ = sinter("build", model, "-o", engine, "--dim", "N=1:4:8", "--threads", 1)
    assert engine in out and "a run holds " in out, out
    x = np.random.default_rng(1).standard_normal((4, 8), np.float32)
    np.save(f"{folder}/x.npy", x)
    for network in (engine, model):
        sinter("run", network, "--inputs", f"{folder}/x.npy", "--output-dir", f"{folder}/out", "--npy")
        np.testing.assert_allclose(np.load(f"{folder}/out/output_0.npy"), expected(x), rtol=1e-4, atol=1e-5)
    np.save(f"{folder}/x.npy", np.zeros((9, 8), np.float32))
    _, err = sinter("run", engine, "--inputs", f"{folder}/x.npy", code=USAGE)
    assert "outside the engine's bounds [1, 8]" in err and "tensor: x" in err, err
    np.save(f"{folder}/x.npy", np.zeros((4, 8), np.float64))
    _, err = sinter("run", engine, "--inputs", f"{folder}/x.npy", code=USAGE)
    assert "f64" in err and "f32" in err, err


@test
def engine_beside_the_model(folder):
    model, _ = mlp(folder)
    sinter("build", model)
    assert os.path.exists(f"{folder}/mlp.engine")


@test
def report_says_why(folder):
    model, _ = mlp(folder)
    sinter("build", model, "-o", f"{folder}/e", "--report", f"{folder}/r.json")
    with open(f"{folder}/r.json", encoding="utf-8") as file:
        report = json.load(file)
    names = [p["name"] for p in report["passes"]]
    assert names[0] == "simplify" and "group" in names, names
    assert any("first" in k["nodes"] for k in report["kernels"])
    assert all(k["kernel"] and isinstance(k["others"], list) for k in report["kernels"])
    assert any(r["rule"] and r["nodes"] for r in report["rewrites"])
    assert report["engine"]["steps"] >= 1


@test
def missing_inputs_are_made_up(folder):
    model = add(folder)
    np.save(f"{folder}/a.npy", np.float32([1, 2, 3]))
    _, err = sinter("run", model, "--inputs", f"{folder}/a.npy", "--output-dir", f"{folder}/1", "--npy")
    assert "input 'b' is random data: f32[3] (seed 1)" in err, err
    sinter("run", model, "--inputs", f"{folder}/a.npy", "--output-dir", f"{folder}/2", "--npy")
    sinter("run", model, "--inputs", f"{folder}/a.npy", "--output-dir", f"{folder}/3", "--npy", "--seed", 2)
    first, again, other = (np.load(f"{folder}/{k}/output_0.npy") for k in (1, 2, 3))
    assert (first == again).all() and not (first == other).all()
    _, err = sinter("run", model, "--shapes", "a:7")
    assert "input 'a' is random data: f32[7]" in err and "input 'b' is random data: f32[7]" in err, err
    _, err = sinter("run", model, "--shapes", "z:7", code=USAGE)
    assert "no input named 'z'" in err
    sinter("run", model, "--shapes", "a:7x1", code=USAGE)
    sinter("run", model, "--shapes", "a", code=USAGE)
    _, err = sinter("run", model, "--inputs", *[f"{folder}/a.npy"] * 3, code=USAGE)
    assert "3 input files are given, the model has 2 inputs" in err


@test
def protobuf_inputs_and_outputs(folder):
    case = f"{DATA}/node/test_relu"
    sinter("run", f"{case}/model.onnx", "--inputs", f"{case}/test_data_set_0/input_0.pb", "--output-dir", folder)
    got, wanted = (onnx.load_tensor(f) for f in (f"{folder}/output_0.pb", f"{case}/test_data_set_0/output_0.pb"))
    assert got.name == "y"
    np.testing.assert_array_equal(numpy_helper.to_array(got), numpy_helper.to_array(wanted))


@test
def sequences(folder):
    case = f"{DATA}/node/test_sequence_insert_at_back"
    data = f"{case}/test_data_set_0"
    sinter("run", f"{case}/model.onnx", "--inputs", f"{data}/input_0.pb", f"{data}/input_1.pb", "--output-dir", folder)
    lists = []
    for path in (f"{folder}/output_0.pb", f"{data}/output_0.pb"):
        proto = onnx.SequenceProto()
        with open(path, "rb") as file:
            proto.ParseFromString(file.read())
        lists.append(numpy_helper.to_list(proto))
    assert len(lists[0]) == len(lists[1])
    for a, b in zip(*lists):
        np.testing.assert_array_equal(a, b)
    _, err = sinter("run", f"{case}/model.onnx", "--inputs", f"{data}/input_0.pb", f"{data}/input_1.pb", "--output-dir",
                    folder, "--npy", code=USAGE)
    assert ".npy cannot hold it" in err and "leave out --npy" in err


def classifier(folder, labels):
    """What converters of scikit-learn write: scores, L1 norm, one dict a sample."""
    ml = {"domain": "ai.onnx.ml"}
    words = isinstance(labels[0], str)
    own = {"classlabels_strings" if words else "classlabels_ints": labels}
    zipped = {"classlabels_strings" if words else "classlabels_int64s": labels}
    nodes = [helper.make_node("LinearClassifier", ["x"], ["label", "scores"], coefficients=[1.0, 0, 0, 1, -1, -1],
                              intercepts=[0.5, 0.25, 0.0], post_transform="LOGISTIC", multi_class=1, **own, **ml),
             helper.make_node("Normalizer", ["scores"], ["p"], norm="L1", **ml),
             helper.make_node("ZipMap", ["p"], ["probabilities"], **zipped, **ml)]
    key = TensorProto.STRING if words else TensorProto.INT64
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, [])))
    return save(f"{folder}/classifier.onnx", nodes, [value("x", ["N", 2])],
                [value("label", ["N"], key), helper.make_value_info("probabilities", maps)],
                domains=[("ai.onnx.ml", 3)])


def probabilities(x):
    scores = 1 / (1 + np.exp(-(x @ np.float32([[1, 0], [0, 1], [-1, -1]]).T + np.float32([0.5, 0.25, 0]))))
    return scores / scores.sum(axis=1, keepdims=True)


@test
def maps_of_a_classifier(folder):
    x = np.float32([[2, 0], [0, 2], [-2, -2], [1, 1]])
    np.save(f"{folder}/x.npy", x)
    for labels in ([30, 10, 20], ["red", "green", "blue"]):
        order = np.argsort(np.array(labels))
        wanted = probabilities(x)[:, order]
        model = classifier(folder, labels)
        key = "i64" if labels[0] == 30 else "string"
        engine = f"{folder}/classifier.engine"
        sinter("build", model, "-o", engine)
        for network in (model, engine):
            out, _ = sinter("inspect", network)
            assert f"seq(map({key}, f32))" in out, out
            out, _ = sinter("run", network, "--inputs", f"{folder}/x.npy", "--print")
            first = ", ".join(f"{json.dumps(labels[k])}: {probabilities(x)[0, k]:.6g}" for k in order)
            assert f"0: {{{first}}}" in out and "3: {" in out, out
            sinter("run", network, "--inputs", f"{folder}/x.npy", "--output-dir", f"{folder}/out", "--npy")
            got = np.load(f"{folder}/out/output_1.values.npy")
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, wanted, rtol=1e-4)
            assert np.load(f"{folder}/out/output_1.keys.npy").tolist() == [labels[k] for k in order]
            assert np.load(f"{folder}/out/output_0.npy").tolist() == [labels[k] for k in np.argmax(probabilities(x), 1)]
            sinter("run", network, "--inputs", f"{folder}/x.npy", "--output-dir", f"{folder}/out")
            with open(f"{folder}/out/output_1.pb", "rb") as file:
                proto = onnx.SequenceProto.FromString(file.read())
            assert proto.name == "probabilities" and len(proto.map_values) == 4
        sinter("compare", model, "--shapes", "x:3x2")


@test
def maps_as_inputs(folder):
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    model = save(f"{folder}/words.onnx",
                 [helper.make_node("DictVectorizer", ["m"], ["y"], domain="ai.onnx.ml", string_vocabulary=["w1", "a"])],
                 [helper.make_value_info("m", helper.make_map_type_proto(TensorProto.STRING, number))],
                 [value("y", [1, 2])], domains=[("ai.onnx.ml", 1)])
    values = onnx.SequenceProto(elem_type=1, tensor_values=[numpy_helper.from_array(np.float32(v)) for v in (3, 4)])
    proto = onnx.MapProto(key_type=TensorProto.STRING, string_keys=[b"b", b"a"], values=values)
    with open(f"{folder}/m.pb", "wb") as file:
        file.write(proto.SerializeToString())
    out, _ = sinter("run", model, "--inputs", f"{folder}/m.pb", "--print")
    assert "[[0, 4]]" in out, out
    out, err = sinter("run", model)
    assert "map(string, f32) of 3" in err
    out, _ = sinter("inspect", model, "--json")
    assert json.loads(out)["inputs"] == [{"name": "m", "type": "map(string, f32)"}]
    sinter("compare", model)
    proto.key_type = TensorProto.INT64
    proto.ClearField("string_keys")
    proto.keys.extend([1, 2])
    with open(f"{folder}/m.pb", "wb") as file:
        file.write(proto.SerializeToString())
    _, err = sinter("run", model, "--inputs", f"{folder}/m.pb", code=USAGE)
    assert "input 'm' is a map from i64 to f32, the engine wants a map from string to f32" in err, err
    np.save(f"{folder}/x.npy", np.float32([1]))
    _, err = sinter("run", model, "--inputs", f"{folder}/x.npy", code=USAGE)
    assert "a map (a MapProto) is wanted" in err, err


@test
def types_that_numpy_lacks(folder):
    model = add(folder, TensorProto.BFLOAT16)
    one = np.frombuffer(np.uint16([0x3F80, 0x4000]).tobytes(), "V2")
    np.save(f"{folder}/x.npy", one)
    sinter("run", model, "--inputs", f"{folder}/x.npy", f"{folder}/x.npy", "--output-dir", folder, "--npy")
    got = np.load(f"{folder}/output_0.npy")
    assert got.dtype == np.dtype("V2") and (got.view(np.uint16) == [0x4000, 0x4080]).all(), got


@test
def printing(folder):
    model = add(folder)
    np.save(f"{folder}/a.npy", np.float32([1, 2]))
    np.save(f"{folder}/b.npy", np.float32([10, 20]))
    out, _ = sinter("run", model, "--inputs", f"{folder}/a.npy", f"{folder}/b.npy", "--print")
    assert "c f32[2]" in out and "[11, 22]" in out, out
    out, _ = sinter("run", model, "--inputs", f"{folder}/a.npy", f"{folder}/b.npy")
    assert "from 11 to 22, mean 16.5" in out, out


@test
def outputs_over_inputs(folder):
    model = add(folder)
    np.save(f"{folder}/a.npy", np.float32([1, 2]))
    np.save(f"{folder}/b.npy", np.float32([10, 20]))
    files = ("--inputs", f"{folder}/a.npy", f"{folder}/b.npy")
    out, _ = sinter("run", model, *files, "--in-place", "--print")
    assert "[11, 22]" in out, out
    out, _ = sinter("run", model, *files, "--in-place")
    assert "f32[2], over a" in out and "from 11 to 22" in out, out
    assert (np.load(f"{folder}/a.npy") == [1, 2]).all()
    out, _ = sinter("bench", model, *files, "--in-place", "--duration", 0.01, "--warm-up", 0)
    assert "output c over a" in out, out
    out, _ = sinter("bench", model, *files, "--in-place", "--duration", 0.01, "--warm-up", 0, "--json", "-")
    assert json.loads(out)["in_place"] == {"c": "a"}, out
    engine = f"{folder}/add.engine"
    sinter("build", model, "-o", engine)
    out, _ = sinter("inspect", engine)
    assert "may lie over" in out and out.split("may lie over")[1].split("output")[1].split("\n")[0].rstrip().endswith(" a"), out
    facts = json.loads(sinter("inspect", engine, "--json")[0])
    assert facts["outputs"][0]["under"] == "a" and "under" not in facts["inputs"][0], facts


@test
def bench_numbers(folder):
    model, _ = mlp(folder)
    out, _ = sinter("bench", model, "--duration", 0.1, "--warm-up", 0, "--json", f"{folder}/b.json", "--shapes", "x:3x8")
    assert "throughput" in out and "median" in out
    with open(f"{folder}/b.json", encoding="utf-8") as file:
        numbers = json.load(file)
    latency = numbers["latency_ms"]
    assert list(latency) == ["min", "mean", "median", "p90", "p95", "p99"]
    assert 0 < latency["min"] <= latency["median"] <= latency["p90"] <= latency["p95"] <= latency["p99"]
    assert numbers["throughput"] > 0 and numbers["load_ms"] > 0 and numbers["inputs"] == {"x": "f32[3, 8]"}
    out, _ = sinter("bench", model, "--duration", 0.05, "--warm-up", 0, "--json", "-")
    assert json.loads(out)["runs"] >= 3
    sinter("bench", model, "--duration", 0, code=USAGE)


@test
def inspecting(folder):
    model, _ = mlp(folder)
    engine = f"{folder}/mlp.engine"
    sinter("build", model, "-o", engine, "--dim", "N=1:4:8")
    out, _ = sinter("inspect", model)
    assert "f32[N, 8]" in out and "MatMul" in out, out
    out, _ = sinter("inspect", model, "--graph")
    assert out.startswith("graph(%x : f32[N, 8])") and "Relu(" in out, out
    out, _ = sinter("inspect", model, "--plan")
    assert "steps {" in out
    facts = json.loads(sinter("inspect", model, "--json")[0])
    assert facts["kind"] == "model" and facts["inputs"] == [{"name": "x", "type": "f32[N, 8]"}]
    assert facts["parameters"] == 8 * 16 + 16 + 16 * 4
    facts = json.loads(sinter("inspect", model, "--json", "--graph", "--plan")[0])
    assert facts["graph"].startswith("graph(") and "steps {" in facts["plan"]
    facts = json.loads(sinter("inspect", engine, "--json", "--graph", "--plan")[0])
    assert "MatMul" in facts["graph"] and "steps {" in facts["plan"]
    facts = json.loads(sinter("inspect", engine, "--json")[0])
    assert facts["kind"] == "engine" and facts["outputs"] == [{"name": "y", "type": "f32[N, 4]"}]
    assert facts["profiles"] == [{"name": "N", "min": 1, "opt": 4, "max": 8}]
    memory = facts["memory"]
    assert memory["weights"] == facts["weight_bytes"] and memory["outputs"] == 4 * 4 * 4 and memory["complete"], memory
    assert memory["values"] >= 4 * 16 * 4, memory
    largest = facts["memory_at_largest"]
    assert largest["weights"] == memory["weights"] and largest["outputs"] == 8 * 4 * 4, largest
    assert largest["values"] >= 8 * 16 * 4 and largest["complete"], largest
    out, _ = sinter("inspect", engine)
    assert "dimension" in out and "kernel" in out and " at the best extents: " in out and " at the largest" in out, out
    report = f"{folder}/report.json"
    sinter("build", model, "-o", engine, "--dim", "N=4", "--report", report)
    with open(report) as file:
        told = json.load(file)
    assert told["memory"] == told["memory_at_largest"] == memory, (told["memory"], memory)
    assert "at the" not in sinter("inspect", engine)[0]
    sinter("build", model, "-o", engine, "--dim", f"N=1:4:{2 ** 30}")
    assert "at the largest" in sinter("inspect", engine)[0]  # told, not held
    out, _ = sinter("build", model, "-o", engine, "--report", report)
    assert "what depends on extents that no --dim bounds" in out, out
    with open(report) as file:
        told = json.load(file)
    facts = json.loads(sinter("inspect", engine, "--json")[0])
    for name in ("memory", "memory_at_largest"):
        assert name not in facts and name not in told, name
    assert "steps {" in sinter("inspect", engine, "--plan")[0]
    assert "MatMul" in sinter("inspect", engine, "--graph")[0]


@test
def bad_models(folder):
    path = f"{folder}/bad.onnx"
    with open(path, "wb") as file:
        file.write(b"this is no model")
    _, err = sinter("build", path, code=BAD_MODEL)
    assert err.startswith("sinter: "), err
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], "odd", domain="my.domain")]
    save(path, nodes, [value("x", [3])], [value("y", [3])], domains=["my.domain"])
    _, err = sinter("build", path, code=BAD_MODEL)
    assert "my.domain.Frobnicate" in err, err
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], "wrong")]
    save(path, nodes, [value("x", [3])], [value("y", [3])], [("w", np.zeros(4, np.float32))])
    _, err = sinter("build", path, code=BAD_MODEL)
    assert "wrong" in err and "broadcast" in err, err
    _, err = sinter("build", f"{folder}/absent.onnx", code=FAILURE)
    assert "absent.onnx" in err, err
    sinter("inspect", f"{folder}/absent.onnx", code=FAILURE)


@test
def flags_that_contradict(folder):
    model = add(folder)
    np.save(f"{folder}/a.npy", np.float32([1, 2]))
    _, err = sinter("build", model, "-o", f"{folder}/e", "--dim", "N=5", "--dim", "N=6", code=USAGE)
    assert "'N' is given bounds twice" in err, err
    _, err = sinter("run", model, "--shapes", "a:2", "--shapes", "b:3", code=USAGE)
    assert "contradict" in err, err
    sinter("run", model, "--shapes", "a:2", "--shapes", "a:3", code=USAGE)
    _, err = sinter("run", model, "--inputs", f"{folder}/a.npy", "--shapes", "a:9", code=USAGE)
    assert "extents of its file" in err, err
    for seed in ("-1", "x", "9" * 30):
        sinter("run", model, "--seed", seed, code=USAGE)
    for tolerance in ("nan", "-1"):
        sinter("compare", model, "--rtol", tolerance, code=USAGE)
    sinter("build", model, "-o", f"{folder}/e")
    _, err = sinter("run", f"{folder}/e", "--dim", "N=1:2:3", "--bf16")
    assert "no effect: --dim, --bf16" in err, err


@test
def places_that_cannot_be_written(folder):
    model = add(folder)
    if os.geteuid() == 0:
        device = f"{folder}/full"
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
    else:
        device = "/dev/full"
    for path in (device, folder, f"{folder}/absent/e"):
        sinter("build", model, "-o", path, code=FAILURE)
        sinter("build", model, "-o", f"{folder}/e", "--report", path, code=FAILURE)
        sinter("bench", model, "--duration", 0.01, "--json", path, code=FAILURE)
        assert not os.path.exists(f"{folder}/e")  # said before the work is done
    assert stat.S_ISCHR(os.stat(device).st_mode)
    os.symlink("e", f"{folder}/link")
    sinter("build", model, "-o", f"{folder}/e")
    sinter("build", model, "-o", f"{folder}/link")
    assert os.path.islink(f"{folder}/link")
    os.symlink("add.onnx", f"{folder}/to_model")
    sinter("build", model, "-o", f"{folder}/to_model", code=USAGE)
    sinter("run", model, "--output-dir", f"{folder}/new/deep")
    assert os.listdir(f"{folder}/new/deep") == ["output_0.pb"]
    _, err = sinter("run", model, "--output-dir", f"{folder}/e/x", code=FAILURE)
    assert "a file has this name" in err, err


@test
def bad_inputs_are_not_bad_models(folder):
    model = add(folder)
    for name, content in (("garbage.pb", b"\xff" * 50), ("cut.npy", b"\x93NUMPY\x01\x00\xff\xff{"), ("empty.pb", b"")):
        with open(f"{folder}/{name}", "wb") as file:
            file.write(content)
        for command in ("run", "bench", "compare", "bisect"):
            _, err = sinter(command, model, "--inputs", f"{folder}/{name}", code=FAILURE)
            assert name in err and "input 'a'" in err, err
    np.save(f"{folder}/u8.npy", np.zeros(3, np.uint8))
    for command in ("run", "compare"):
        _, err = sinter(command, model, "--inputs", f"{folder}/u8.npy", code=USAGE)
        assert "input 'a' is u8, the engine wants f32" in err, err


@test
def values_that_do_not_suit_are_not_bad_models(folder):
    # The window does not fit into 2 x 2; whether it fits is known only when the extents are.
    path = save(f"{folder}/c.onnx", [helper.make_node("Conv", ["x", "w"], ["y"], "conv")],
                [value("x", [1, 1, "H", "W"])], [value("y", [1, 1, "a", "b"])], [("w", np.ones((1, 1, 5, 5), np.float32))])
    for command in ("run", "bench", "compare", "bisect"):
        sinter(command, path, "--shapes", "x:1x1x8x8", *(["--duration", 0.01] if command == "bench" else []))
        run = subprocess.run([SINTER, command, path, "--shapes", "x:1x1x2x2"], capture_output=True, text=True, check=False)
        assert run.returncode in (FAILURE, USAGE) and "invalid model" not in run.stderr, (command, run)


def branches(folder):
    """y = a convolution of x [1, 1, H] when c, else -x."""
    y = [onnx.ValueInfoProto(name="y")]
    yes = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], "conv")], "yes", [], y)
    no = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "no", [], y)
    node = helper.make_node("If", ["c"], ["z"], "choice", then_branch=yes, else_branch=no)
    return save(f"{folder}/if.onnx", [node], [value("c", None, TensorProto.BOOL), value("x", [1, 1, "H"])],
                [onnx.ValueInfoProto(name="z")], [("w", np.ones((1, 1, 5), np.float32))])


@test
def branches_that_cannot_be_right(folder):
    path = branches(folder)
    np.save(f"{folder}/x.npy", np.ones((1, 1, 3), np.float32))
    for chosen in (False, True):
        np.save(f"{folder}/c.npy", np.array(chosen))
        # The window fits into none of the extents that are allowed: an error where the branch is taken.
        out, err = sinter("run", path, "--dim", "H=3", "--print", "--inputs", f"{folder}/c.npy", f"{folder}/x.npy",
                          code=FAILURE if chosen else OK)
        assert "the then branch of 'choice' cannot be computed" in err, err
        assert ("node 'choice' (If): this branch cannot be taken: node 'conv'" in err) == chosen, err
        assert chosen or "[-1, -1, -1]" in out, out


@test
def branches_of_nodes_that_share_a_name(folder):
    """The node that cannot be right is known where others of its name are fine: before the branch, in it, in the other."""
    y = [onnx.ValueInfoProto(name="y")]

    def conv(weights, name="conv", operand="x", result="y"):
        return helper.make_node("Conv", [operand, weights], [result], name)

    def branch(*nodes):
        return helper.make_graph(nodes, "branch", [], y)

    inner = helper.make_node("If", ["d"], ["y"], "inner", then_branch=branch(conv("short")), else_branch=branch(conv("long")))
    cases = (("then", "choice", branch(conv("long")), branch(conv("short"))),
             ("else", "choice", branch(conv("short")), branch(conv("long"))),
             ("else", "inner", branch(inner), branch(conv("short"))))
    weights = [("short", np.ones((1, 1, 1), np.float32)), ("long", np.ones((1, 1, 5), np.float32))]
    inputs = [value("c", None, TensorProto.BOOL), value("d", None, TensorProto.BOOL), value("v", [1, 1, "H"])]
    for which, of, yes, no in cases:
        choice = helper.make_node("If", ["c"], ["z"], "choice", then_branch=yes, else_branch=no)
        path = save(f"{folder}/shared.onnx", [conv("short", operand="v", result="x"), choice], inputs,
                    [onnx.ValueInfoProto(name="z")], weights)
        np.save(f"{folder}/x.npy", np.ones((1, 1, 3), np.float32))
        for c in (False, True):
            for d in (False, True):
                np.save(f"{folder}/c.npy", np.array(c))
                np.save(f"{folder}/d.npy", np.array(d))
                taken = c == (which == "then") if of == "choice" else c and not d
                _, err = sinter("run", path, "--dim", "H=3", "--inputs", *(f"{folder}/{n}.npy" for n in "cdx"),
                                code=FAILURE if taken else OK)
                assert f"the {which} branch of '{of}' cannot be computed" in err and "'conv'" in err, err


@test
def errors_of_runs_name_nodes(folder):
    path = branches(folder)
    np.save(f"{folder}/x.npy", np.ones((1, 1, 8), np.float32))
    np.save(f"{folder}/c.npy", np.zeros(0, bool))
    _, err = sinter("run", path, "--inputs", f"{folder}/c.npy", f"{folder}/x.npy", code=FAILURE)
    assert "node 'choice' (If): the condition of If is empty" in err, err
    nodes = [helper.make_node("Relu", ["x"], ["r"], "act"), helper.make_node("Reshape", ["r", "s"], ["y"], "shaped")]
    for shape in (["s"], []):  # read when it runs, or known
        path = save(f"{folder}/r.onnx", nodes, [value("x", ["N"]), *(value(s, [2], TensorProto.INT64) for s in shape)],
                    [onnx.ValueInfoProto(name="y")], [] if shape else [("s", np.array([3, -1]))])
        np.save(f"{folder}/x.npy", np.ones(8, np.float32))
        np.save(f"{folder}/s.npy", np.array([5, 5]))
        _, err = sinter("run", path, "--inputs", f"{folder}/x.npy", *(f"{folder}/{s}.npy" for s in shape),
                        code=FAILURE if shape else USAGE)
        assert "node 'shaped' (Reshape): " in err, err


@test
def errors_of_sizes_say_where_they_are(folder):
    nodes = [helper.make_node("MaxPool", ["x"], ["p"], "pool", kernel_shape=[5]), helper.make_node("Exp", ["p"], ["y"], "last")]
    path = save(f"{folder}/pool.onnx", nodes, [value("x", [1, 1, "N"])], [value("y", [1, 1, "M"])])
    _, err = sinter("run", path, "--shapes", "x:1x1x3", code=USAGE)
    assert ": node 'pool' (MaxPool): dimension 2 of tensor f32[1, 1, N - 4] with N = 3: negative extent -1\n" in err, err
    assert "\n  node:   pool\n  hint:   " in err, err
    path = save(f"{folder}/pad.onnx", [helper.make_node("Pad", ["x", "p"], ["y"], "cut")], [value("x", ["N"])],
                [value("y", ["M"])], [("p", np.array([-1, -3]))])
    _, err = sinter("run", path, "--shapes", "x:3", code=USAGE)
    assert ": node 'cut' (Pad): dimension 0 of tensor f32[N - 4] with N = 3: negative extent -1\n" in err, err
    assert "\n  node:   cut\n  tensor: y\n  hint:   " in err, err
    path = save(f"{folder}/big.onnx", [helper.make_node("Expand", ["x", "s"], ["y"], "wide")],
                [value("x", ["N", 1])], [value("y", ["N", 1 << 40])], [("s", np.array([1, 1 << 40]))])
    _, err = sinter("run", path, "--shapes", f"x:{1 << 23}x1", code=FAILURE)
    assert "node 'wide' (Expand)" in err and "tensor f32[N, 1099511627776] with N = 8388608: " in err, err


@test
def names_are_escaped_once(folder):
    odd = 'a\\b"c\n'
    pool = helper.make_node("MaxPool", ["x"], ["y"], odd, kernel_shape=[5])
    wrong = helper.make_node("MaxPool", ["x"], ["y"], odd, kernel_shape=[-5])
    for node, code in ((pool, USAGE), (wrong, BAD_MODEL)):
        path = save(f"{folder}/odd.onnx", [node], [value("x", [1, 1, "N"])], [value("y", [1, 1, "M"])])
        _, err = sinter("run", path, "--shapes", "x:1x1x3", code=code)
        assert "\n  node:   a\\b\"c\\x0a\n" in err and "node 'a\\b\"c\\x0a' (MaxPool" in err, err


@test
def elements_of_optionals_have_their_dtype(folder):
    # A kernel would read four bytes an element, also of these.
    optional = helper.make_value_info("o", helper.make_optional_type_proto(
        helper.make_tensor_type_proto(TensorProto.FLOAT, ["N"])))
    nodes = [helper.make_node("OptionalGetElement", ["o"], ["g"]), helper.make_node("Exp", ["g"], ["y"])]
    path = save(f"{folder}/o.onnx", nodes, [optional], [value("y", ["N"])])
    np.save(f"{folder}/u8.npy", np.zeros(1000, np.uint8))
    _, err = sinter("run", path, "--inputs", f"{folder}/u8.npy", code=USAGE)
    assert "the engine wants f32 or nothing" in err, err


@test
def control_characters_stay_off_the_terminal(folder):
    odd = "x\n\x1b[31m"
    path = save(f"{folder}/odd.onnx", [helper.make_node("Relu", [odd], ["y\x07"], odd)], [value(odd, ["N"])],
                [value("y\x07", ["N"])])
    for command in (["run"], ["run", "--print"], ["inspect"], ["bench", "--duration", 0.01, "--warm-up", 0],
                    ["compare", "--all"], ["build"]):
        out, err = sinter(command[0], path, *command[1:])
        assert "\x1b" not in out + err and "\x07" not in out + err, out + err


@test
def bad_engines(folder):
    model, _ = mlp(folder)
    engine = f"{folder}/mlp.engine"
    sinter("build", model, "-o", engine)
    with open(engine, "rb") as file:
        good = file.read()
    for bad in (good[:-1], good[:40], good[:len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1:]):
        with open(engine, "wb") as file:
            file.write(bad)
        for command in ("run", "bench", "inspect"):
            _, err = sinter(command, engine, code=INCOMPATIBLE)
            assert "engine" in err, err
    with open(engine, "wb") as file:
        file.write(good)
    sinter("build", engine, "-o", f"{folder}/again.engine", code=BAD_MODEL)
    sinter("compare", engine, code=USAGE)
    sinter("bisect", engine, code=USAGE)


@test
def comparing(folder):
    model, _ = mlp(folder)
    out, _ = sinter("compare", model, "--shapes", "x:3x8", "--all")
    assert "0 differ" in out and "y" in out and "f32[3, 4]" in out, out
    # No arithmetic is exact.
    out, _ = sinter("compare", model, "--shapes", "x:64x8", "--rtol", 0, "--atol", 0, code=DIFFERS)
    assert "the first that differs" in out and "kernel" in out and "element" in out, out


@test
def bisecting(folder):
    model, _ = mlp(folder)
    out, _ = sinter("bisect", model, "--shapes", "x:3x8")
    assert "the results agree" in out, out
    out, err = sinter("bisect", model, "--shapes", "x:64x8", "--rtol", 0, "--atol", 0, code=DIFFERS)
    assert "all rewrites: differs" in err and "step" in out and "problem" in out, out + err


@test
def bisecting_to_a_rewrite(folder):
    # Steps run by their definitions, so only rewrites change digits: the factor goes into the weights.
    random = np.random.default_rng(0)
    constants = [("w", random.standard_normal((8, 3, 3, 3), np.float32)),
                 ("s", random.standard_normal((8, 1, 1), np.float32))]
    nodes = [helper.make_node("Relu", ["x"], ["a"], "act"), helper.make_node("Conv", ["a", "w"], ["c"], "conv"),
             helper.make_node("Mul", ["c", "s"], ["y"], "scale")]
    path = save(f"{folder}/conv.onnx", nodes, [value("x", [1, 3, 8, 8])], [value("y", [1, 8, 6, 6])], constants)
    out, err = sinter("bisect", path, "--reference", "--rtol", 0, "--atol", 0, code=DIFFERS)
    assert "a rewrite changes the results" in out and "scale into convolution" in out and "scale (Mul)" in out, out
    assert "with 0 rewrites: agrees" in err, err


@test
def lists(_):
    out, _ = sinter("list", "ops")
    assert "Conv" in out and "max(x, 0)" in out
    out, _ = sinter("list", "ops", "--markdown")
    assert "| Conv | 2 to 3 | 1 |" in out and "`max(x, 0)`" in out and "| Upsample | " in out
    sinter("list", "passes", "--markdown", code=USAGE)
    out, _ = sinter("list", "kernels")
    assert "reference/any" in out and "cpu/" in out
    out, _ = sinter("list", "passes")
    assert {"simplify", "quantize", "assign precision", "group"} <= {line.split("  ")[0] for line in out.splitlines()}
    out, _ = sinter("list", "settings")
    assert "--timing-cache" in out and "--duration" in out


@test
def doctor(_):
    out, _ = sinter("doctor")
    assert "all is well" in out and "bad" not in out, out


@test
def switches_change_no_result(folder):
    model, expected = mlp(folder)
    x = np.random.default_rng(3).standard_normal((5, 8), np.float32)
    np.save(f"{folder}/x.npy", x)
    for extra in ([], ["--strict-fp32"], ["--fp16"], ["--check"], ["--reference"], ["--level", "portable"], ["--threads", 2],
                  ["--disable-pass", "simplify"], ["--disable-pass", "assign precision"]):
        sinter("run", model, "--inputs", f"{folder}/x.npy", "--output-dir", f"{folder}/out", "--npy", *extra)
        np.testing.assert_allclose(np.load(f"{folder}/out/output_0.npy"), expected(x), rtol=1e-3, atol=1e-3)


@test
def classes_of_precision(folder):
    # docs/precision.md promises these; a machine without tiles does better in every class.
    random = np.random.default_rng(4)
    x, w = random.standard_normal((128, 768), np.float32), random.standard_normal((768, 64), np.float32)
    model = save(f"{folder}/product.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", [128, 768])],
                 [value("y", [128, 64])], [("w", w)])
    np.save(f"{folder}/x.npy", x)
    exact = x.astype(np.float64) @ w
    for flag, numerics, most in (("--strict-fp32", "strict", 1e-6), ("--threads=1", "tf32", 1e-5),
                                 ("--fp16", "fp16", 5e-4), ("--bf16", "bf16", 4e-3)):
        sinter("run", model, "--inputs", f"{folder}/x.npy", "--output-dir", f"{folder}/out", "--npy", flag)
        error = np.load(f"{folder}/out/output_0.npy") - exact
        part = np.sqrt(np.mean(error ** 2) / np.mean(exact ** 2))
        assert part <= most, f"{flag}: relative rms {part:.2e}"
        plan, _ = sinter("inspect", model, "--plan", flag)
        assert f"numerics={numerics}" in plan, plan
    for lower in ("--bf16", "--fp16"):
        _, said = sinter("run", model, "--inputs", f"{folder}/x.npy", "--strict-fp32", lower, code=USAGE)
        assert "asked for at once" in said, said


@test
def graphs_after_every_pass(folder):
    model, _ = mlp(folder)
    os.mkdir(f"{folder}/dump")
    sinter("build", model, "-o", f"{folder}/e", "--dump", f"{folder}/dump", "--verbose", "verbose")
    assert sorted(os.listdir(f"{folder}/dump"))[0].endswith("simplify.txt")


@test
def halves_within_what_they_resolve(folder):
    """Networks of f16 run on rows of f32; what compare allows by itself is what such numbers resolve."""
    random = np.random.default_rng(1)
    weights = [(f"w{k}", random.standard_normal((64, 64)).astype(np.float16) / 8) for k in range(3)]
    nodes = []
    for k in range(3):
        nodes.append(helper.make_node("MatMul", [f"s{k - 1}" if k else "x", f"w{k}"], [f"p{k}"]))
        nodes.append(helper.make_node("Relu", [f"p{k}"], [f"s{k}"]))
    model = save(f"{folder}/half.onnx", nodes, [value("x", [4, 64], TensorProto.FLOAT16)],
                 [value("s2", [4, 64], TensorProto.FLOAT16)], weights)
    out, _ = sinter("compare", model, "--all")
    assert "cpu/matmul_f32" in out and "reference" not in out, out
    sinter("compare", model, "--rtol", "1e-9", "--atol", "1e-9", code=DIFFERS)


@test
def halves_in_branches_alone(folder):
    """Numbers of f16 that only bodies have count for what compare allows, too."""
    random = np.random.default_rng(1)
    layers = [numpy_helper.from_array(random.standard_normal((64, 64)).astype(np.float16) / 8, f"w{k}")
              for k in range(3)]
    nodes = [helper.make_node("Cast", ["x"], ["s0"], to=TensorProto.FLOAT16)]
    for k in range(3):
        nodes.append(helper.make_node("MatMul", [f"s{k}", f"w{k}"], [f"s{k + 1}"]))
    nodes.append(helper.make_node("Cast", ["s3"], ["r"], to=TensorProto.FLOAT))
    branches = [helper.make_graph(nodes, name, [], [value("r", [4, 64])], layers) for name in ("yes", "no")]
    model = save(f"{folder}/branches.onnx",
                 [helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])],
                 [value("c", [], TensorProto.BOOL), value("x", [4, 64])], [value("y", [4, 64])])
    sinter("compare", model)
    # What compare allows by itself of float32, almost to the digit.
    sinter("compare", model, "--rtol", "1.01e-3", "--atol", "1.01e-4", code=DIFFERS)


def main():
    passed = failed = 0
    for function in TESTS:
        if not all(word in function.__name__ for word in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                function(folder)
                passed += 1
            except Exception:  # pylint: disable=broad-exception-caught
                failed += 1
                print(f"FAILED {function.__name__} (again: tests/cli/run {function.__name__})")
                traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
