"""Tests of `sinter` with libraries of plugins; cli_test.py runs them."""

import os
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper

from harness import (ROOT, SINTER, FAILURE, USAGE, BAD_MODEL, INCOMPATIBLE, test, sinter, save, value)

PLUGIN = os.path.join(os.path.dirname(SINTER), "examples/example_plugin_swish_nms.so")
EXAMPLE = {"domain": "com.example"}


def swish(folder, name="swish.onnx", version=1, **attributes):
    """x [N, 3] -> Swish: y"""
    return save(os.path.join(folder, name), [helper.make_node("Swish", ["x"], ["y"], "s", **attributes, **EXAMPLE)],
                [value("x", ["N", 3])], [value("y", ["N", 3])], domains=[("com.example", version)])


def library(folder, name, old, new):
    """The example with a part of its source changed."""
    with open(os.path.join(ROOT, "examples/plugin/swish_nms.c"), encoding="utf-8") as file:
        source = file.read()
    assert old in source
    with open(os.path.join(folder, name + ".c"), "w", encoding="utf-8") as file:
        file.write(source.replace(old, new))
    path = os.path.join(folder, name + ".so")
    subprocess.run(["cc", "-shared", "-fPIC", "-I", os.path.join(ROOT, "include"), file.name, "-o", path, "-lm"], check=True)
    return path


@test
def plugins(folder):
    model, engine = swish(folder, beta=2.0), f"{folder}/swish.engine"
    x = np.random.default_rng(1).standard_normal((4, 3), np.float32)
    np.save(f"{folder}/x.npy", x)
    sinter("build", model, "-o", engine, "--plugins", PLUGIN, "--plugins", PLUGIN)
    for network in (model, engine):
        sinter("run", network, "--plugins", PLUGIN, "--inputs", f"{folder}/x.npy", "--output-dir", f"{folder}/out", "--npy")
        np.testing.assert_allclose(np.load(f"{folder}/out/output_0.npy"), x / (1 + np.exp(-2 * x)), rtol=1e-5, atol=1e-6)
    assert "cpu/custom" in sinter("inspect", engine, "--plugins", PLUGIN)[0]
    sinter("compare", model, "--plugins", PLUGIN)
    sinter("bench", engine, "--plugins", PLUGIN, "--duration", "0.05", "--warm-up", "0")
    out, _ = sinter("list", "ops", "--plugins", PLUGIN)
    assert "com.example.Nms" in out and "iou, score=0" in out and "plugin example 1.0" in out
    # A name without a folder is a file of this one.
    os.symlink(PLUGIN, f"{folder}/link.so")
    sinter("run", engine, "--plugins", "link.so", cwd=folder)


@test
def plugins_with_extents_found_out(folder):
    boxes = np.array([[0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6], [0, 1, 2, 3]], np.float32)
    scores = np.array([0.5, 0.9, 0.1, 0.8], np.float32)
    np.save(f"{folder}/b.npy", boxes)
    np.save(f"{folder}/s.npy", scores)
    nodes = [helper.make_node("Nms", ["b", "s"], ["k"], iou=0.5, score=0.3, **EXAMPLE),
             helper.make_node("Gather", ["b", "k"], ["kept"])]
    branches = [helper.make_graph([node], "branch", [], [value("r", None)]) for node in (
        helper.make_node("Gather", ["b", "k"], ["r"]), helper.make_node("Swish", ["b"], ["r"], **EXAMPLE))]
    nodes += [helper.make_node("If", ["c"], ["chosen"], then_branch=branches[0], else_branch=branches[1])]
    model = save(f"{folder}/nms.onnx", nodes, [value("b", ["N", 4]), value("s", ["M"]), value("c", [], TensorProto.BOOL)],
                 [value("k", ["K"], TensorProto.INT64), value("kept", ["K", 4]), value("chosen", None)],
                 domains=["com.example"])
    sinter("build", model, "-o", f"{folder}/e", "--plugins", PLUGIN)
    for condition, expected in ((True, boxes[[1, 3]]), (False, boxes / (1 + np.exp(-boxes)))):
        np.save(f"{folder}/c.npy", np.array(condition))
        inputs = ("--inputs", *(f"{folder}/{n}.npy" for n in "bsc"))
        sinter("run", f"{folder}/e", "--plugins", PLUGIN, *inputs, "--output-dir", f"{folder}/out", "--npy")
        np.testing.assert_array_equal(np.load(f"{folder}/out/output_0.npy"), [1, 3])
        np.testing.assert_array_equal(np.load(f"{folder}/out/output_1.npy"), boxes[[1, 3]])
        np.testing.assert_allclose(np.load(f"{folder}/out/output_2.npy"), expected, rtol=1e-6)
    sinter("compare", model, "--plugins", PLUGIN)
    np.save(f"{folder}/s.npy", scores[:3])
    _, err = sinter("run", f"{folder}/e", "--plugins", PLUGIN, *inputs, code=FAILURE)
    assert "as many boxes as scores" in err, err


@test
def plugins_that_are_missing(folder):
    unknown = save(f"{folder}/two.onnx", [helper.make_node("Swish", ["x"], ["a"], "first", **EXAMPLE),
                                          helper.make_node("Other", ["a"], ["y"], "second", **EXAMPLE)],
                   [value("x", [3])], [value("y", [3])], domains=["com.example"])
    _, err = sinter("build", unknown, code=BAD_MODEL)
    assert "com.example.Other (1 node: 'second'), com.example.Swish (1 node: 'first')" in err, err
    assert "--plugins" in err and "docs/plugins.md" in err
    assert "'first'" not in sinter("build", unknown, "--plugins", PLUGIN, code=BAD_MODEL)[1]
    engine = f"{folder}/e"
    sinter("build", swish(folder), "-o", engine, "--plugins", PLUGIN)
    _, err = sinter("run", engine, code=INCOMPATIBLE)
    assert "com.example.Swish (version 1) of plugin 'example 1.0' is not there" in err and "--plugins" in err, err
    newer = library(folder, "newer", '"1.0"', '"1.1"')
    _, err = sinter("run", engine, "--plugins", newer, code=INCOMPATIBLE)
    assert "of plugin 'example 1.0', loaded is plugin 'example 1.1'" in err, err
    _, err = sinter("run", engine, "--plugins", PLUGIN, "--plugins", newer, code=USAGE)
    assert "com.example.Swish (version 1) of plugin 'example 1.1' is already there, from plugin 'example 1.0'" in err, err
    _, err = sinter("run", engine, "--plugins", library(folder, "abi", "SINTER_PLUGIN_ABI,", "9,"), code=USAGE)
    assert "compiled for plugin interface 9" in err and "sinter/plugin.h" in err, err
    _, err = sinter("run", engine, "--plugins", library(folder, "none", "sinter_plugin_entry(void)", "other(void)"), code=USAGE)
    assert "exports no sinter_plugin_entry()" in err, err
    _, err = sinter("run", engine, "--plugins", library(folder, "null", "return &plugin;", "return 0;"), code=USAGE)
    assert "the plugin is null" in err, err
    for path in (f"{folder}/missing.so", engine, folder):
        assert "cannot load plugins" in sinter("run", engine, "--plugins", path, code=FAILURE)[1]


@test
def plugins_that_fail_halfway(folder):
    """What is refused leaves nothing behind; what a library registered itself before that still works."""
    shared = os.path.join(os.path.dirname(SINTER), "libsinter.so")
    with open(shared, "rb") as file:
        if b"__asan_init" in file.read():
            return  # Python cannot load it
    half = library(folder, "half", "nms_infer, nms_compute", "0, nms_compute")
    registers = library(folder, "registers", "return &plugin;", "sinter_register_plugin(&plugin); return 0;")
    script = """
import ctypes, sys
sinter = ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
sinter.sinter_error_message.restype = ctypes.c_char_p
model, (half, registers, example) = sys.argv[2].encode(), (path.encode() for path in sys.argv[3:])

def works():
    engine = ctypes.c_void_p()
    return sinter.sinter_build_file(model, None, ctypes.byref(engine)) == 0

def mapped(path):
    return path.decode() in open("/proc/self/maps").read()

assert sinter.sinter_load_plugins(half) and b"'Nms': it has no infer" in sinter.sinter_error_message(), sinter.sinter_error_message()
assert not mapped(half) and not works()
assert sinter.sinter_load_plugins(registers) and b"the plugin is null" in sinter.sinter_error_message()
assert mapped(registers) and works()
assert sinter.sinter_load_plugins(example) and b"already there" in sinter.sinter_error_message()
assert not mapped(example) and works()
"""
    run = subprocess.run([sys.executable, "-c", script, shared, swish(folder), half, registers, PLUGIN],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"exit {run.returncode}: {run.stderr}"


@test
def plugins_and_attributes(folder):
    _, err = sinter("build", swish(folder, betta=1.0), "--plugins", PLUGIN, code=BAD_MODEL)
    assert "knows no attribute 'betta' of this operator; it has beta" in err, err
    _, err = sinter("build", swish(folder, beta="1"), "--plugins", PLUGIN, code=BAD_MODEL)
    assert "attribute 'beta' is a string, it must be a float" in err, err
    for iou, part in ((None, "attribute 'iou' is missing"), (2.0, "com.example.Nms: iou is 2, it must be from 0 to 1")):
        nms = save(f"{folder}/nms.onnx", [helper.make_node("Nms", ["b", "s"], ["k"], iou=iou, **EXAMPLE)],
                   [value("b", ["N", 4]), value("s", ["N"])], [value("k", ["K"], TensorProto.INT64)],
                   domains=["com.example"])
        _, err = sinter("build", nms, "--plugins", PLUGIN, code=BAD_MODEL)
        assert part in err, err
    late = library(folder, "late", '"Swish", 1', '"Swish", 3')
    _, err = sinter("build", swish(folder, version=2), "--plugins", late, code=BAD_MODEL)
    assert "imports version 2 of its domain, the plugin has it from 3 on" in err, err
    sinter("build", swish(folder, version=4), "-o", f"{folder}/e", "--plugins", late)


@test
def plugins_come_before_functions(folder):
    """A function of the model is what an operator is, unless a plugin has it."""
    minus = helper.make_function("com.example", "Swish", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])],
                                 [helper.make_opsetid("", 21)], ["beta"])
    model = onnx.load(swish(folder))
    model.functions.append(minus)
    onnx.save(model, f"{folder}/f.onnx")
    np.save(f"{folder}/x.npy", np.ones((1, 3), np.float32))
    for options, expected in (((), -1.0), (("--plugins", PLUGIN), 1 / (1 + np.exp(-1)))):
        sinter("run", f"{folder}/f.onnx", *options, "--inputs", f"{folder}/x.npy", "--output-dir", f"{folder}/out", "--npy")
        np.testing.assert_allclose(np.load(f"{folder}/out/output_0.npy"), np.full((1, 3), expected), rtol=1e-6)
