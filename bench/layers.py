"""Layers of real networks by themselves: latency beside ONNX Runtime in interleaved rounds, as bench/cpu does it for
networks, and with --rows the kernels that an engine of each takes.

A ratio above 1 means that Sinter is faster. Outputs are compared before anything is timed.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cpu import timer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def model(nodes, feeds, weights=(), outputs=1, opset=20):
    """A model of these nodes; the last one's results are the model's."""
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64,
             np.dtype(np.int32): TensorProto.INT32, np.dtype(np.uint8): TensorProto.UINT8,
             np.dtype(np.int8): TensorProto.INT8}
    inputs = [helper.make_tensor_value_info(k, kinds[v.dtype], v.shape) for k, v in feeds.items()]
    results = [helper.make_empty_tensor_value_info(o) for o in nodes[-1].output[:outputs]]
    graph = helper.make_graph(nodes, "operator", inputs, results,
                              [numpy_helper.from_array(v, k) for k, v in dict(weights).items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), feeds


def real(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def byte(rng, *shape, signed=False):
    return rng.integers(-127, 128, shape).astype(np.int8) if signed else rng.integers(0, 256, shape).astype(np.uint8)


def scalar(value, dtype):
    return np.array(value, dtype)


def dynamic_matmul(rng, m, k, n):
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
             helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
             helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
             helper.make_node("Mul", ["f", "s"], ["y"])]
    return model(nodes, {"x": real(rng, m, k)}, {"w": byte(rng, k, n, signed=True), "wz": scalar(0, np.int8)})


def matmul_integer(rng, m, k, n):
    node = helper.make_node("MatMulInteger", ["x", "w", "z"], ["y"])
    return model([node], {"x": byte(rng, m, k)}, {"w": byte(rng, k, n, signed=True), "z": scalar(120, np.uint8)})


def conv_integer(rng, channels, size, filters, kernel):
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], pads=[kernel // 2] * 4)
    return model([node], {"x": byte(rng, 1, channels, size, size)},
                 {"w": byte(rng, filters, channels, kernel, kernel), "z": scalar(120, np.uint8)})


def qlinear_conv(rng, channels, size, filters, kernel):
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "s", "wz", "ys", "z"], ["y"], pads=[kernel // 2] * 4)
    return model([node], {"x": byte(rng, 1, channels, size, size)},
                 {"w": byte(rng, filters, channels, kernel, kernel, signed=True), "z": scalar(120, np.uint8),
                  "wz": scalar(0, np.int8), "s": scalar(0.02, np.float32), "ys": scalar(1, np.float32)})


def recurrent(rng, op, gates, steps, batch, inputs, hidden, lengths, both):
    d = 2 if both else 1
    names = ["x", "w", "r", "b"] + (["n"] if lengths else [])
    feeds = {"x": real(rng, steps, batch, inputs)}
    if lengths:
        feeds["n"] = rng.integers(1, steps + 1, batch).astype(np.int32)
    node = helper.make_node(op, names, ["y", "h"], hidden_size=hidden,
                            direction="bidirectional" if both else "forward")
    return model([node], feeds, {"w": 0.1 * real(rng, d, gates * hidden, inputs),
                                 "r": 0.1 * real(rng, d, gates * hidden, hidden),
                                 "b": 0.1 * real(rng, d, 2 * gates * hidden)}, outputs=2)


def grid_sample(rng, mode, channels, size):
    node = helper.make_node("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode="zeros")
    return model([node], {"x": real(rng, 1, channels, size, size),
                          "g": rng.uniform(-1, 1, (1, size, size, 2)).astype(np.float32)})


def resize(rng, antialias, size, to):
    node = helper.make_node("Resize", ["x", "", "", "n"], ["y"], mode="cubic", antialias=int(antialias))
    return model([node], {"x": real(rng, 1, 3, size, size)}, {"n": np.array([1, 3, to, to], np.int64)})


def stft(rng, samples, length, step):
    node = helper.make_node("STFT", ["x", "step", "window"], ["y"])
    return model([node], {"x": real(rng, 1, samples, 1)},
                 {"step": scalar(step, np.int64), "window": np.hanning(length).astype(np.float32)})


def dft(rng, rows, length):
    node = helper.make_node("DFT", ["x"], ["y"], onesided=1)
    return model([node], {"x": real(rng, rows, length, 1)})


def lrn(rng, channels, size):
    return model([helper.make_node("LRN", ["x"], ["y"], size=5)], {"x": real(rng, 1, channels, size, size)})


def roi_align(rng, channels, size, count):
    start = rng.uniform(0, size * 8, (count, 2))
    boxes = np.concatenate([start, start + rng.uniform(20, size * 8, (count, 2))], 1).astype(np.float32)
    node = helper.make_node("RoiAlign", ["x", "r", "n"], ["y"], output_height=7, output_width=7, sampling_ratio=2,
                            spatial_scale=1 / 16)
    return model([node], {"x": real(rng, 1, channels, size, size), "r": boxes, "n": np.zeros(count, np.int64)})


def deform_conv(rng, channels, size):
    node = helper.make_node("DeformConv", ["x", "w", "o", "b", "m"], ["y"], kernel_shape=[3, 3], pads=[1] * 4)
    return model([node], {"x": real(rng, 1, channels, size, size), "o": real(rng, 1, 18, size, size),
                          "m": rng.uniform(0, 1, (1, 9, size, size)).astype(np.float32)},
                 {"w": 0.1 * real(rng, channels, channels, 3, 3), "b": real(rng, channels)}, opset=22)


def einsum(rng, equation, *shapes):
    names = ["x", "z"][:len(shapes)]
    return model([helper.make_node("Einsum", names, ["y"], equation=equation)],
                 {n: real(rng, *s) for n, s in zip(names, shapes)})


CASES = {
    "matmul_integer_128": lambda r: matmul_integer(r, 128, 768, 3072),
    "matmul_integer_1": lambda r: matmul_integer(r, 1, 768, 3072),
    "dynamic_matmul_128": lambda r: dynamic_matmul(r, 128, 768, 768),
    "dynamic_matmul_1": lambda r: dynamic_matmul(r, 1, 768, 768),
    "conv_integer_3x3": lambda r: conv_integer(r, 64, 56, 64, 3),
    "conv_integer_1x1": lambda r: conv_integer(r, 256, 28, 256, 1),
    "qlinear_conv_3x3": lambda r: qlinear_conv(r, 64, 56, 64, 3),
    "lstm_lengths": lambda r: recurrent(r, "LSTM", 4, 100, 8, 128, 256, True, True),
    "gru_lengths": lambda r: recurrent(r, "GRU", 3, 100, 8, 128, 256, True, True),
    "rnn": lambda r: recurrent(r, "RNN", 1, 100, 8, 128, 256, False, False),
    "grid_sample_linear": lambda r: grid_sample(r, "linear", 64, 64),
    "grid_sample_cubic": lambda r: grid_sample(r, "cubic", 16, 64),
    "resize_cubic_up": lambda r: resize(r, False, 128, 256),
    "resize_cubic_antialias": lambda r: resize(r, True, 512, 224),
    "stft_400": lambda r: stft(r, 16000, 400, 160),
    "stft_512": lambda r: stft(r, 16000, 512, 128),
    "dft_509": lambda r: dft(r, 32, 509),
    "lrn": lambda r: lrn(r, 64, 56),
    "roi_align": lambda r: roi_align(r, 256, 50, 100),
    "deform_conv": lambda r: deform_conv(r, 64, 28),
    "einsum_bhid_bhjd": lambda r: einsum(r, "bhid,bhjd->bhij", (2, 8, 128, 64), (2, 8, 128, 64)),
    "einsum_ibnd_jbnd": lambda r: einsum(r, "ibnd,jbnd->ijbn", (128, 2, 8, 64), (128, 2, 8, 64)),
}


def close(got, wanted):
    return max(float(np.max(np.abs(g.astype(np.float64) - w), initial=0)) / (float(np.ptp(w)) or 1.0)
               for g, w in zip(got, wanted))


def main():
    import onnxruntime as ort
    import sinter

    parser = argparse.ArgumentParser(prog="bench/layers", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2, help="time of one case, both candidates together")
    parser.add_argument("--rows", action="store_true", help="print the kernels of each engine instead of timing it")
    arguments = parser.parse_args()
    if not arguments.rows:
        print(f"{'layer':<24}{'ORT ms':>10}{'Sinter ms':>11}{'ORT / Sinter':>14}{'p10':>7}{'p90':>7}"
              f"{'error / range':>15}")
    for name in arguments.names or CASES:
        made, feeds = CASES[name](np.random.default_rng(1))
        data = made.SerializeToString()
        if arguments.rows:
            with tempfile.TemporaryDirectory() as folder:
                sinter.build(data, threads=1).save(os.path.join(folder, "e"))
                text = subprocess.run([os.path.join(ROOT, "build", "sinter"), "inspect", os.path.join(folder, "e")],
                                      check=True, capture_output=True, text=True).stdout
            print(f"== {name}\n{text}")
            continue
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = arguments.threads
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        engine = sinter.build(data, threads=arguments.threads)
        context = engine.context(arguments.threads)
        names = [o.name for o in engine.outputs]
        ordered = [feeds[i.name] for i in engine.inputs]
        error = close(context.run(*ordered), session.run(names, feeds))

        def ours():
            context.run(*ordered)

        def theirs():
            session.run(names, feeds)

        pairs = []
        for round_ in range(8):
            runs = (ours, theirs) if round_ % 2 else (theirs, ours)
            times = [timer(run, arguments.seconds / 16) for run in runs]
            if round_ > 0:
                pairs.append(times if round_ % 2 else times[::-1])
        times = np.array(pairs)
        ratios = times[:, 1] / times[:, 0]
        print(f"{name:<24}{1e3 * np.median(times[:, 1]):>10.3f}{1e3 * np.median(times[:, 0]):>11.3f}"
              f"{np.median(ratios):>14.2f}{np.percentile(ratios, 10):>7.2f}{np.percentile(ratios, 90):>7.2f}"
              f"{error:>15.1e}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
