"""What tests of the command line tool share: the binary in $SINTER_BUILD, how it is run, small models."""

import os
import subprocess

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SINTER = os.path.join(os.environ.get("SINTER_BUILD", os.path.join(ROOT, "build")), "sinter")
DATA = os.path.join(ROOT, ".cache/onnx-1.22.0/data")
OK, FAILURE, USAGE, BAD_MODEL, DIFFERS, BUILD_FAILED, INCOMPATIBLE = range(7)
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def sinter(*args, code=OK, cwd=None):
    """Runs the tool; gives stdout and stderr."""
    run = subprocess.run([SINTER, *map(str, args)], capture_output=True, text=True, cwd=cwd, timeout=120,
                         check=False)
    assert run.returncode == code, (f"sinter {' '.join(map(str, args))}: exit {run.returncode}, expected {code}\n"
                                    f"{run.stdout}{run.stderr}")
    return run.stdout, run.stderr


def save(path, nodes, inputs, outputs, constants=(), opset=21, domains=()):
    tensors = [numpy_helper.from_array(value, name) for name, value in constants]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset),
              *(helper.make_opsetid(*((d, 1) if isinstance(d, str) else d)) for d in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def mlp(folder):
    """x [N, 8] -> Relu(x @ w + b) @ v: y [N, 4]."""
    random = np.random.default_rng(0)
    constants = [("w", random.standard_normal((8, 16), np.float32)), ("b", random.standard_normal(16, np.float32)),
                 ("v", random.standard_normal((16, 4), np.float32))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], "first"), helper.make_node("Add", ["h", "b"], ["s"], "bias"),
             helper.make_node("Relu", ["s"], ["r"], "act"), helper.make_node("MatMul", ["r", "v"], ["y"], "last")]
    path = save(os.path.join(folder, "mlp.onnx"), nodes, [value("x", ["N", 8])], [value("y", ["N", 4])], constants)
    w, b, v = (c[1] for c in constants)
    return path, lambda x: np.maximum(x @ w + b, 0) @ v


def add(folder, dtype=TensorProto.FLOAT, name="add.onnx"):
    nodes = [helper.make_node("Add", ["a", "b"], ["c"], "sum")]
    return save(os.path.join(folder, name), nodes, [value("a", ["N"], dtype), value("b", ["N"], dtype)],
                [value("c", ["N"], dtype)])
