"""The cases of bench/operators: models of one operator, or of the few nodes that are one in practice, at sizes that
networks have.

CASES maps a name to a function of a Draw that makes the model and its inputs by name; the same numbers every time,
whichever cases are asked for.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


class Draw:
    """Random arrays, one sequence per case."""

    def __init__(self):
        self.rng = np.random.default_rng(1)

    def normal(self, *dims):
        return self.rng.standard_normal(dims, dtype=np.float32)

    def uniform(self, low, high, *dims):
        return self.rng.uniform(low, high, dims).astype(np.float32)

    def whole(self, high, *dims, dtype=np.int64, low=0):
        return self.rng.integers(low, high, dims).astype(dtype)

    def flags(self, chance, *dims):
        return self.rng.random(dims) < chance

    def u8(self, *dims):
        return self.whole(256, *dims, dtype=np.uint8)

    def i8(self, *dims):
        return self.whole(128, *dims, dtype=np.int8, low=-127)

    def boxes(self, count):
        corner = self.rng.random((1, count, 2)) * 600
        return np.concatenate([corner, corner + 10 + self.rng.random((1, count, 2)) * 80], 2).astype(np.float32)


def i64(value):
    return np.array(value, np.int64)


def f32(value):
    return np.array(value, np.float32)


def model(nodes, feeds, weights, opset):
    """A model of these nodes; all results of the last one are the model's."""
    inputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
              for name, x in feeds.items()]
    results = [helper.make_empty_tensor_value_info(name) for name in nodes[-1].output]
    graph = helper.make_graph(nodes, "operator", inputs, results,
                              [numpy_helper.from_array(x, name) for name, x in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), feeds


def one(op, operands, outputs=1, constants=(), opset=21, **attributes):
    """One operator. operands: arrays, None where left out; constants: numbers of those that are initializers."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(operands)]
    given = {name: x for name, x in zip(names, operands) if x is not None}
    weights = {f"x{i}": operands[i] for i in constants}
    node = helper.make_node(op, names, [f"y{o}" for o in range(outputs)], **attributes)
    return model([node], {name: x for name, x in given.items() if name not in weights}, weights, opset)


def open_extents(made):
    """Every extent of every input left open, each by a name of its own."""
    for i in made.graph.input:
        for k, dim in enumerate(i.type.tensor_type.shape.dim):
            dim.dim_param = f"{i.name}_{k}"


# What several cases share, or what takes more than a line.

def dynamic_matmul(d, m, k, n):
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
             helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
             helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
             helper.make_node("Mul", ["f", "s"], ["y"])]
    return model(nodes, {"x": d.normal(m, k)}, {"w": d.i8(k, n), "wz": np.array(0, np.int8)}, opset=21)


def matmul_integer(d, m, k, n):
    return one("MatMulInteger", [d.u8(m, k), d.i8(k, n), np.array(120, np.uint8)], constants=(1, 2))


def conv_integer(d, channels, size, filters, kernel):
    return one("ConvInteger", [d.u8(1, channels, size, size), d.u8(filters, channels, kernel, kernel),
                               np.array(120, np.uint8)], constants=(1, 2), pads=[kernel // 2] * 4)


def qlinear_conv(d, channels, size, filters, kernel):
    zero, scale = np.array(120, np.uint8), f32(0.02)
    return one("QLinearConv", [d.u8(1, channels, size, size), scale, zero, d.i8(filters, channels, kernel, kernel), scale,
                               np.array(0, np.int8), f32(1), zero], constants=range(1, 8), pads=[kernel // 2] * 4)


def recurrent(d, op, gates, steps, batch, inputs, hidden, lengths=False, both=False):
    count = 2 if both else 1
    operands = [d.normal(steps, batch, inputs), 0.1 * d.normal(count, gates * hidden, inputs),
                0.1 * d.normal(count, gates * hidden, hidden), 0.1 * d.normal(count, 2 * gates * hidden)]
    if lengths:
        operands.append(d.whole(steps + 1, batch, dtype=np.int32, low=1))
    return one(op, operands, 2, (1, 2, 3), hidden_size=hidden, direction="bidirectional" if both else "forward")


def grid_sample(d, mode, channels, size):
    return one("GridSample", [d.normal(1, channels, size, size), d.uniform(-1, 1, 1, size, size, 2)], mode=mode,
               padding_mode="zeros")


def resize(d, size, to, antialias):
    return one("Resize", [d.normal(1, 3, size, size), None, None, i64([1, 3, to, to])], constants=(3,), mode="cubic",
               antialias=antialias)


def stft(d, samples, length, step):
    return one("STFT", [d.normal(1, samples, 1), i64(step), np.hanning(length).astype(np.float32)], constants=(1, 2))


def roi_align(d, channels, size, count):
    start = d.uniform(0, size * 8, count, 2)
    boxes = np.concatenate([start, start + d.uniform(20, size * 8, count, 2)], 1)
    return one("RoiAlign", [d.normal(1, channels, size, size), boxes, np.zeros(count, np.int64)], output_height=7,
               output_width=7, sampling_ratio=2, spatial_scale=1 / 16)


def deform_conv(d, channels, size):
    return one("DeformConv", [d.normal(1, channels, size, size), 0.1 * d.normal(channels, channels, 3, 3),
                              d.normal(1, 18, size, size), d.normal(channels), d.uniform(0, 1, 1, 9, size, size)],
               constants=(1, 3), opset=22, kernel_shape=[3, 3], pads=[1] * 4)


def nms(d, boxes, scores, most, overlap, score=None):
    limits = [i64([most]), f32([overlap])] + ([] if score is None else [f32([score])])
    return one("NonMaxSuppression", [d.boxes(boxes), scores, *limits], constants=range(2, 2 + len(limits)))


def topk(x, k, **attributes):
    return one("TopK", [x, i64([k])], 2, (1,), **attributes)


CASES = {
    # Integers and quantization.
    "MatMulInteger 128x768x3072": lambda d: matmul_integer(d, 128, 768, 3072),
    "MatMulInteger 1x768x3072": lambda d: matmul_integer(d, 1, 768, 3072),
    "MatMulInteger dynamic 128x768x768": lambda d: dynamic_matmul(d, 128, 768, 768),
    "MatMulInteger dynamic 1x768x768": lambda d: dynamic_matmul(d, 1, 768, 768),
    "ConvInteger 64x56x56, 3x3": lambda d: conv_integer(d, 64, 56, 64, 3),
    "ConvInteger 256x28x28, 1x1": lambda d: conv_integer(d, 256, 28, 256, 1),
    "QLinearConv 64x56x56, 3x3": lambda d: qlinear_conv(d, 64, 56, 64, 3),

    # Recurrence.
    "LSTM 100x8x128, 256, both, lengths": lambda d: recurrent(d, "LSTM", 4, 100, 8, 128, 256, lengths=True, both=True),
    "GRU 100x8x128, 256, both, lengths": lambda d: recurrent(d, "GRU", 3, 100, 8, 128, 256, lengths=True, both=True),
    "RNN 100x8x128, 256": lambda d: recurrent(d, "RNN", 1, 100, 8, 128, 256),

    # Sampling, signals, vision.
    "GridSample linear 64x64x64": lambda d: grid_sample(d, "linear", 64, 64),
    "GridSample cubic 16x64x64": lambda d: grid_sample(d, "cubic", 16, 64),
    "Resize cubic 128 to 256": lambda d: resize(d, 128, 256, antialias=0),
    "Resize cubic 512 to 224, antialias": lambda d: resize(d, 512, 224, antialias=1),
    "STFT 16000, frames of 400": lambda d: stft(d, 16000, 400, 160),
    "STFT 16000, frames of 512": lambda d: stft(d, 16000, 512, 128),
    "DFT 32x509, one-sided": lambda d: one("DFT", [d.normal(32, 509, 1)], onesided=1),
    "LRN 64x56x56": lambda d: one("LRN", [d.normal(1, 64, 56, 56)], size=5),
    "RoiAlign 256x50x50, 100 boxes": lambda d: roi_align(d, 256, 50, 100),
    "DeformConv 64x28x28, 3x3": lambda d: deform_conv(d, 64, 28),

    # Contractions by equation.
    "Einsum bhid,bhjd->bhij": lambda d: one("Einsum", [d.normal(2, 8, 128, 64), d.normal(2, 8, 128, 64)],
                                            equation="bhid,bhjd->bhij"),
    "Einsum ibnd,jbnd->ijbn": lambda d: one("Einsum", [d.normal(128, 2, 8, 64), d.normal(128, 2, 8, 64)],
                                            equation="ibnd,jbnd->ijbn"),

    # Extents that are found by running.
    "NonZero f32 10% of 1M": lambda d: one("NonZero", [d.normal(1000, 1000) * d.flags(0.1, 1000, 1000)]),
    "NonZero bool 50% of 1M": lambda d: one("NonZero", [d.flags(0.5, 1000, 1000)]),
    "NonZero bool 1% of 100k": lambda d: one("NonZero", [d.flags(0.01, 100000)]),
    "NonZero i64 8x128": lambda d: one("NonZero", [d.whole(2, 8, 128)]),
    "Compress f32 100k flat": lambda d: one("Compress", [d.normal(100000), d.flags(0.3, 100000)]),
    "Compress f32 1000x256 axis 0": lambda d: one("Compress", [d.normal(1000, 256), d.flags(0.3, 1000)], axis=0),
    "Compress f32 256x1000 axis 1": lambda d: one("Compress", [d.normal(256, 1000), d.flags(0.3, 1000)], axis=1),
    "Unique i64 100k of 1000": lambda d: one("Unique", [d.whole(1000, 100000)], 4),
    "Unique f32 100k": lambda d: one("Unique", [d.normal(100000)], 4),
    "Unique i64 512, unsorted": lambda d: one("Unique", [d.whole(50, 512)], 4, sorted=0),
    "Unique i64 1000x8 axis 0": lambda d: one("Unique", [d.whole(3, 1000, 8)], 4, axis=0),
    "NMS 8400 boxes, 80 classes": lambda d: nms(d, 8400, d.uniform(0, 1, 1, 80, 8400) ** 8, 100, 0.5, 0.25),
    "NMS 1000 boxes, 1 class, all": lambda d: nms(d, 1000, d.uniform(0, 1, 1, 1, 1000), 1000, 0.7),
    "NMS 25200 boxes, 1 class": lambda d: nms(d, 25200, d.uniform(0, 1, 1, 1, 25200), 300, 0.45, 0.25),
    "Range f32, 10k, at run time": lambda d: one("Range", [f32(0), f32(10000), f32(1)]),
    "Range i64, 10k, at run time": lambda d: one("Range", [i64(0), i64(10000), i64(1)]),

    # Selection.
    "TopK f32 1x100000, 100": lambda d: topk(d.normal(1, 100000), 100),
    "TopK f32 1x100000, 5000": lambda d: topk(d.normal(1, 100000), 5000),
    "TopK f32 64x1000, 5": lambda d: topk(d.normal(64, 1000), 5),
    "TopK f32 64x1000, 1": lambda d: topk(d.normal(64, 1000), 1),
    "TopK f32 8x1000x32 axis 1, 10": lambda d: topk(d.normal(8, 1000, 32), 10, axis=1),
    "TopK f32 1x32000 all": lambda d: topk(d.normal(1, 32000), 32000),
    "TopK i64 1x100000, 100": lambda d: topk(d.whole(1 << 40, 1, 100000), 100),
    "TopK i64 4x8400, k at run time": lambda d: one("TopK", [d.whole(1 << 40, 4, 8400), i64([300])], 2),
    "ArgMax f32 128x32000": lambda d: one("ArgMax", [d.normal(128, 32000)], axis=-1),
    "ArgMax f32 1x19x512x512 axis 1": lambda d: one("ArgMax", [d.normal(1, 19, 512, 512)], axis=1),
    "ArgMin i64 128x1000": lambda d: one("ArgMin", [d.whole(1 << 40, 128, 1000)], axis=-1, opset=13),
    "ArgMax u8 64x4096": lambda d: one("ArgMax", [d.u8(64, 4096)], axis=-1),
    "CumSum f32 128x1024 axis 1": lambda d: one("CumSum", [d.normal(128, 1024), i64(1)], constants=(1,)),
    "CumSum f32 128x1024 axis 0": lambda d: one("CumSum", [d.normal(128, 1024), i64(0)], constants=(1,)),
    "CumSum i64 1x4096": lambda d: one("CumSum", [d.whole(100, 1, 4096), i64(1)], constants=(1,)),
    "CumSum i64 128x128, axis at run time": lambda d: one("CumSum", [d.whole(100, 128, 128), i64(1)]),

    # Indexing.
    "Gather f32 30522x768, 128": lambda d: one("Gather", [d.normal(30522, 768), d.whole(30522, 128)], constants=(0,)),
    "Gather f32, i32 from the end": lambda d: one(
        "Gather", [d.normal(30522, 768), -1 - d.whole(30522, 128, dtype=np.int32)]),
    "Gather u8 1000x1000 axis 1, 500": lambda d: one("Gather", [d.u8(1000, 1000), d.whole(1000, 500)], axis=1),
    "Gather i64 100k, 10k": lambda d: one("Gather", [d.whole(100, 100000), d.whole(100000, 10000)]),
    "Gather bool 64x128x16 axis 1, 32": lambda d: one("Gather", [d.flags(0.5, 64, 128, 16), d.whole(128, 32)], axis=1),
    "GatherElements f32 100x1000": lambda d: one("GatherElements", [d.normal(100, 1000), d.whole(1000, 100, 1000)], axis=1),
    "GatherND f32 1000x256, 500": lambda d: one("GatherND", [d.normal(1000, 256), d.whole(1000, 500, 1)]),
    "GatherND i64 100x100, 10k pairs": lambda d: one("GatherND", [d.whole(9, 100, 100), d.whole(100, 10000, 2)]),
    "GatherND f32 batch 8": lambda d: one("GatherND", [d.normal(8, 100, 64), d.whole(100, 8, 50, 1)], batch_dims=1),
    "ScatterND f32 1000x256, 500": lambda d: one(
        "ScatterND", [d.normal(1000, 256), d.whole(1000, 500, 1), d.normal(500, 256)]),
    "ScatterND f32 add": lambda d: one(
        "ScatterND", [d.normal(1000, 256), d.whole(1000, 500, 1), d.normal(500, 256)], reduction="add"),
    "ScatterND i64 10k single": lambda d: one(
        "ScatterND", [d.whole(9, 100, 100), d.whole(100, 10000, 2), d.whole(9, 10000)]),
    "ScatterND bool 4x128, 64": lambda d: one("ScatterND", [d.flags(0.5, 4, 128), d.whole(4, 64, 1), d.flags(0.5, 64, 128)]),
    "ScatterElements f32 100x1000 axis 1": lambda d: one(
        "ScatterElements", [d.normal(100, 1000), d.whole(1000, 100, 500), d.normal(100, 500)], axis=1),
    "ScatterElements f32 add axis 0": lambda d: one(
        "ScatterElements", [d.normal(1000, 100), d.whole(1000, 500, 100), d.normal(500, 100)], axis=0, reduction="add"),
    "ScatterElements i64 axis 0": lambda d: one(
        "ScatterElements", [d.whole(9, 1000, 100), d.whole(1000, 500, 100), d.whole(9, 500, 100)], axis=0),

    # Choice and movement.
    "Where f32 1x64x112x112": lambda d: one(
        "Where", [d.flags(0.5, 1, 64, 112, 112), d.normal(1, 64, 112, 112), d.normal(1, 64, 112, 112)]),
    "Where f32 mask [1,1,112,112]": lambda d: one(
        "Where", [d.flags(0.5, 1, 1, 112, 112), d.normal(1, 64, 112, 112), f32(-1e9)]),
    "Where i64 128x1024": lambda d: one("Where", [d.flags(0.5, 128, 1024), d.whole(9, 128, 1024), d.whole(9, 128, 1024)]),
    "Where bool 128x1024": lambda d: one(
        "Where", [d.flags(0.5, 128, 1024), d.flags(0.5, 128, 1024), d.flags(0.5, 128, 1024)]),
    "Where u8 128x1024": lambda d: one("Where", [d.flags(0.5, 128, 1024), d.u8(128, 1024), d.u8(128, 1024)]),
    "OneHot f32 64x1000": lambda d: one("OneHot", [d.whole(1000, 64), i64(1000), f32([0, 1])], constants=(1, 2)),
    "Slice f32 64x1000 at run time": lambda d: one("Slice", [d.normal(64, 1000), i64([100]), i64([900]), i64([1])]),
    "Reshape f32 64x1000 at run time": lambda d: one("Reshape", [d.normal(64, 1000), i64([100, 640])]),
    "Expand f32 64x1 at run time": lambda d: one("Expand", [d.normal(64, 1), i64([64, 1000])]),
    "Pad f32 64x1000 at run time": lambda d: one("Pad", [d.normal(64, 1000), i64([1, 1, 1, 1])]),
    "Tile f32 64x100 at run time": lambda d: one("Tile", [d.normal(64, 100), i64([2, 3])]),
    "Concat i64 3 of 1000": lambda d: one("Concat", [d.whole(9, 1000), d.whole(9, 1000), d.whole(9, 1000)], axis=0),
    "ReverseSequence f32 128x32x64": lambda d: one("ReverseSequence", [d.normal(128, 32, 64), 1 + d.whole(128, 32)]),
    "Trilu f32 8x512x512": lambda d: one("Trilu", [d.normal(8, 512, 512)], upper=0),
}
