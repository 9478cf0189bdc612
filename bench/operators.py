"""Single operators beside ONNX Runtime on one thread: selection, indexing, and operators whose extents are found by
running, at sizes that networks have.

    .venv/bin/python bench/operators.py [--sinter build/sinter] [--open] [FILTER]...

Printed are the shortest run of each, their ratio (above 1: Sinter is faster) and the rows that were chosen. --open
leaves all extents of all inputs open.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I64, I32, B, U8, I8, F16 = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL,
                               TensorProto.UINT8, TensorProto.INT8, TensorProto.FLOAT16)
rng = np.random.default_rng(1)


def normal(*dims, dtype=np.float32):
    return rng.standard_normal(dims).astype(dtype)


def whole(high, *dims, dtype=np.int64):
    return rng.integers(0, high, dims).astype(dtype)


def flags(chance, *dims):
    return rng.random(dims) < chance


def boxes(count):
    corner = rng.random((1, count, 2)) * 600
    return np.concatenate([corner, corner + 10 + rng.random((1, count, 2)) * 80], 2).astype(np.float32)


def case(name, op, inputs, outputs=1, constants=(), opset=21, **attributes):
    """inputs: arrays; constants: numbers of those that are initializers."""
    return {"name": name, "op": op, "inputs": inputs, "outputs": outputs, "constants": set(constants),
            "attributes": attributes, "opset": opset}


def list_of(*values, dtype=np.int64):
    return np.array(values, dtype)


def number(value, dtype=np.int64):
    return np.array(value, dtype)


CASES = [
    case("NonZero f32 10% of 1M", "NonZero", [normal(1000, 1000) * flags(0.1, 1000, 1000)]),
    case("NonZero bool 50% of 1M", "NonZero", [flags(0.5, 1000, 1000)]),
    case("NonZero bool 1% of 100k", "NonZero", [flags(0.01, 100000)]),
    case("NonZero i64 8x128", "NonZero", [whole(2, 8, 128)]),
    case("Compress f32 100k flat", "Compress", [normal(100000), flags(0.3, 100000)]),
    case("Compress f32 1000x256 axis 0", "Compress", [normal(1000, 256), flags(0.3, 1000)], axis=0),
    case("Compress f32 256x1000 axis 1", "Compress", [normal(256, 1000), flags(0.3, 1000)], axis=1),
    case("Unique i64 100k of 1000", "Unique", [whole(1000, 100000)], 4),
    case("Unique f32 100k", "Unique", [normal(100000)], 4),
    case("Unique i64 512, unsorted", "Unique", [whole(50, 512)], 4, sorted=0),
    case("Unique i64 1000x8 axis 0", "Unique", [whole(3, 1000, 8)], 4, axis=0),
    case("NMS 8400 boxes, 80 classes", "NonMaxSuppression",
         [boxes(8400), (rng.random((1, 80, 8400)) ** 8).astype(np.float32), list_of(100), list_of(0.5, dtype=np.float32),
          list_of(0.25, dtype=np.float32)], constants=(2, 3, 4)),
    case("NMS 1000 boxes, 1 class, all", "NonMaxSuppression",
         [boxes(1000), rng.random((1, 1, 1000)).astype(np.float32), list_of(1000), list_of(0.7, dtype=np.float32)],
         constants=(2, 3)),
    case("NMS 25200 boxes, 1 class", "NonMaxSuppression",
         [boxes(25200), rng.random((1, 1, 25200)).astype(np.float32), list_of(300), list_of(0.45, dtype=np.float32),
          list_of(0.25, dtype=np.float32)], constants=(2, 3, 4)),
    case("Range f32, 10k, at run time", "Range", [number(0, np.float32), number(10000, np.float32), number(1, np.float32)]),
    case("Range i64, 10k, at run time", "Range", [number(0), number(10000), number(1)]),
    case("TopK f32 1x100000, 100", "TopK", [normal(1, 100000), list_of(100)], 2, (1,)),
    case("TopK f32 1x100000, 5000", "TopK", [normal(1, 100000), list_of(5000)], 2, (1,)),
    case("TopK f32 64x1000, 5", "TopK", [normal(64, 1000), list_of(5)], 2, (1,)),
    case("TopK f32 64x1000, 1", "TopK", [normal(64, 1000), list_of(1)], 2, (1,)),
    case("TopK f32 8x1000x32 axis 1, 10", "TopK", [normal(8, 1000, 32), list_of(10)], 2, (1,), axis=1),
    case("TopK f32 1x32000 all", "TopK", [normal(1, 32000), list_of(32000)], 2, (1,)),
    case("TopK i64 1x100000, 100", "TopK", [whole(1 << 40, 1, 100000), list_of(100)], 2, (1,)),
    case("TopK i64 4x8400, k at run time", "TopK", [whole(1 << 40, 4, 8400), list_of(300)], 2),
    case("ArgMax f32 128x32000", "ArgMax", [normal(128, 32000)], axis=-1),
    case("ArgMax f32 1x19x512x512 axis 1", "ArgMax", [normal(1, 19, 512, 512)], axis=1),
    case("ArgMin i64 128x1000", "ArgMin", [whole(1 << 40, 128, 1000)], axis=-1) | {"opset": 13},
    case("ArgMax u8 64x4096", "ArgMax", [whole(256, 64, 4096, dtype=np.uint8)], axis=-1),
    case("CumSum f32 128x1024 axis 1", "CumSum", [normal(128, 1024), number(1)], constants=(1,)),
    case("CumSum f32 128x1024 axis 0", "CumSum", [normal(128, 1024), number(0)], constants=(1,)),
    case("CumSum i64 1x4096", "CumSum", [whole(100, 1, 4096), number(1)], constants=(1,)),
    case("CumSum i64 128x128, axis at run time", "CumSum", [whole(100, 128, 128), number(1)]),
    case("Gather f32 30522x768, 128", "Gather", [normal(30522, 768), whole(30522, 128)], constants=(0,)),
    case("Gather f32, i32 from the end", "Gather", [normal(30522, 768), -1 - whole(30522, 128, dtype=np.int32)]),
    case("Gather u8 1000x1000 axis 1, 500", "Gather", [whole(256, 1000, 1000, dtype=np.uint8), whole(1000, 500)], axis=1),
    case("Gather i64 100k, 10k", "Gather", [whole(100, 100000), whole(100000, 10000)]),
    case("Gather bool 64x128x16 axis 1, 32", "Gather", [flags(0.5, 64, 128, 16), whole(128, 32)], axis=1),
    case("GatherElements f32 100x1000", "GatherElements", [normal(100, 1000), whole(1000, 100, 1000)], axis=1),
    case("GatherND f32 1000x256, 500", "GatherND", [normal(1000, 256), whole(1000, 500, 1)]),
    case("GatherND i64 100x100, 10k pairs", "GatherND", [whole(9, 100, 100), whole(100, 10000, 2)]),
    case("GatherND f32 batch 8", "GatherND", [normal(8, 100, 64), whole(100, 8, 50, 1)], batch_dims=1),
    case("ScatterND f32 1000x256, 500", "ScatterND", [normal(1000, 256), whole(1000, 500, 1), normal(500, 256)]),
    case("ScatterND f32 add", "ScatterND", [normal(1000, 256), whole(1000, 500, 1), normal(500, 256)], reduction="add"),
    case("ScatterND i64 10k single", "ScatterND", [whole(9, 100, 100), whole(100, 10000, 2), whole(9, 10000)]),
    case("ScatterND bool 4x128, 64", "ScatterND", [flags(0.5, 4, 128), whole(4, 64, 1), flags(0.5, 64, 128)]),
    case("ScatterElements f32 100x1000 axis 1", "ScatterElements",
         [normal(100, 1000), whole(1000, 100, 500), normal(100, 500)], axis=1),
    case("ScatterElements f32 add axis 0", "ScatterElements",
         [normal(1000, 100), whole(1000, 500, 100), normal(500, 100)], axis=0, reduction="add"),
    case("ScatterElements i64 axis 0", "ScatterElements",
         [whole(9, 1000, 100), whole(1000, 500, 100), whole(9, 500, 100)], axis=0),
    case("Where f32 1x64x112x112", "Where", [flags(0.5, 1, 64, 112, 112), normal(1, 64, 112, 112), normal(1, 64, 112, 112)]),
    case("Where f32 mask [1,1,112,112]", "Where", [flags(0.5, 1, 1, 112, 112), normal(1, 64, 112, 112), number(-1e9, np.float32)]),
    case("Where i64 128x1024", "Where", [flags(0.5, 128, 1024), whole(9, 128, 1024), whole(9, 128, 1024)]),
    case("Where bool 128x1024", "Where", [flags(0.5, 128, 1024), flags(0.5, 128, 1024), flags(0.5, 128, 1024)]),
    case("Where u8 128x1024", "Where", [flags(0.5, 128, 1024), whole(9, 128, 1024, dtype=np.uint8), whole(9, 128, 1024, dtype=np.uint8)]),
    case("OneHot f32 64x1000", "OneHot", [whole(1000, 64), number(1000), list_of(0, 1, dtype=np.float32)], constants=(1, 2)),
    case("Slice f32 64x1000 at run time", "Slice", [normal(64, 1000), list_of(100), list_of(900), list_of(1)]),
    case("Reshape f32 64x1000 at run time", "Reshape", [normal(64, 1000), list_of(100, 640)]),
    case("Expand f32 64x1 at run time", "Expand", [normal(64, 1), list_of(64, 1000)]),
    case("Pad f32 64x1000 at run time", "Pad", [normal(64, 1000), list_of(1, 1, 1, 1)]),
    case("Tile f32 64x100 at run time", "Tile", [normal(64, 100), list_of(2, 3)]),
    case("Concat i64 3 of 1000", "Concat", [whole(9, 1000), whole(9, 1000), whole(9, 1000)], axis=0),
    case("ReverseSequence f32 128x32x64", "ReverseSequence", [normal(128, 32, 64), 1 + whole(128, 32)]),
    case("Trilu f32 8x512x512", "Trilu", [normal(8, 512, 512)], upper=0),
]


def model_of(c, open_extents):
    inputs, initializers, names = [], [], []
    for i, array in enumerate(c["inputs"]):
        names.append(f"x{i}")
        if i in c["constants"]:
            initializers.append(numpy_helper.from_array(array, names[-1]))
            continue
        dims = [f"d{i}_{k}" for k in range(array.ndim)] if open_extents else list(array.shape)
        inputs.append(helper.make_tensor_value_info(names[-1], helper.np_dtype_to_tensor_dtype(array.dtype), dims))
    outputs = [f"y{o}" for o in range(c["outputs"])]
    node = helper.make_node(c["op"], names, outputs, **c["attributes"])
    graph = helper.make_graph([node], "g", inputs, [helper.ValueInfoProto(name=o) for o in outputs], initializers)
    for o in graph.output:
        o.type.tensor_type.elem_type = 0
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", c["opset"])], ir_version=10))


def shortest(run, seconds):
    best, end = float("inf"), time.perf_counter() + seconds
    for _ in range(100000):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return best


def measure(c, arguments, folder):
    import onnxruntime as ort

    model = model_of(c, arguments.open)
    for o in model.graph.output:
        if o.type.tensor_type.elem_type == 0:
            o.type.tensor_type.elem_type = I64
    path = os.path.join(folder, "m.onnx")
    onnx.save(model, path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    feeds = {f"x{i}": x for i, x in enumerate(c["inputs"]) if i not in c["constants"]}
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for name, x in feeds.items():
            binding.bind_cpu_input(name, x)
        for o in model.graph.output:
            binding.bind_output(o.name)
        theirs = shortest(lambda: session.run_with_iobinding(binding), arguments.seconds)
    except Exception as error:  # an operator or type that it lacks
        theirs = float("nan")
    files = []
    for name, x in feeds.items():
        files.append(os.path.join(folder, name + ".npy"))
        np.save(files[-1], x)
    command = [arguments.sinter, "bench", path, "--threads", "1", "--duration", str(arguments.seconds), "--warm-up", "0.05",
               "--json", "-", "--inputs", *files]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        return theirs, float("nan"), made.stderr.strip().splitlines()[0]
    ours = json.loads(made.stdout)["latency_ms"]["min"] / 1e3
    engine = os.path.join(folder, "m.engine")
    subprocess.run([arguments.sinter, "build", path, "-o", engine], capture_output=True)
    shown = subprocess.run([arguments.sinter, "inspect", engine, "--json"], capture_output=True, text=True)
    try:
        rows = ", ".join(json.loads(shown.stdout)["kernels"])
    except (ValueError, KeyError):
        rows = "?"
    return theirs, ours, rows


def main():
    parser = argparse.ArgumentParser(prog="bench/operators.py", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("filters", nargs="*", metavar="FILTER", help="parts of names of cases")
    parser.add_argument("--sinter", default="build/sinter", help="the command line tool")
    parser.add_argument("--open", action="store_true", help="extents of inputs are open")
    parser.add_argument("--seconds", type=float, default=0.3, help="time of one case and candidate")
    arguments = parser.parse_args()
    print(f"{'case':<40}{'ORT us':>10}{'Sinter us':>11}{'ORT/Sinter':>12}  rows")
    with tempfile.TemporaryDirectory() as folder:
        for c in CASES:
            if arguments.filters and not any(f in c["name"] for f in arguments.filters):
                continue
            theirs, ours, rows = measure(c, arguments, folder)
            print(f"{c['name']:<40}{1e6 * theirs:>10.1f}{1e6 * ours:>11.1f}{theirs / ours:>12.2f}  {rows}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
