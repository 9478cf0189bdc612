"""Operators of the default domain as old opsets had them, and those that ONNX 1.0 to 1.4 had as experiments."""

import numpy as np
from harness import Case
from onnx import TensorProto, helper


def softmax(v, axis=-1):
    e = np.exp(v - v.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def flat_softmax(v, axis):
    rows = v.reshape(int(np.prod(v.shape[:axis])), -1)
    return softmax(rows).reshape(v.shape)


def running_sum():
    """A body: sum + x, and the sum as a result."""
    f = TensorProto.FLOAT
    nodes = [helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Identity", ["t"], ["y"])]
    inputs = [helper.make_tensor_value_info(n, f, [2]) for n in ("s", "x")]
    return helper.make_graph(nodes, "body", inputs, [helper.make_tensor_value_info(n, f, [2]) for n in ("t", "y")])


def cases():
    r = np.random.default_rng(7)
    all_cases = []

    def case(name, opset, inputs, attributes, formula, outputs=1, constants=(), tolerance=1e-4, dynamic=None):
        all_cases.append(Case(f"{name} opset {opset}", name.split()[0], inputs, attributes, outputs, constants,
                              tolerance, formula, "", dynamic, opset=opset))

    def real(*shape):
        return r.standard_normal(shape).astype(np.float32)

    x, image = real(2, 3, 4), real(2, 3, 4, 4)

    # broadcasting by attributes
    for name, op in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide)):
        for opset in (1, 6):
            case(f"{name} axis", opset, [image, abs(real(3, 4)) + 1], {"broadcast": 1, "axis": 1},
                 lambda a, b, f=op: f(a, b[:, :, None]))
            case(f"{name} suffix", opset, [image, abs(real(4)) + 1], {"broadcast": 1}, op)
    case("Pow axis", 1, [abs(image), real(3)], {"broadcast": 1, "axis": 1}, lambda a, b: a**b[:, None, None])
    for name, op in (("Less", np.less), ("Greater", np.greater)):
        case(f"{name} axis", 1, [image, real(3, 1)], {"broadcast": 1, "axis": 1}, lambda a, b, f=op: f(a, b[..., None]))
    case("And axis", 1, [image > 0, real(3) > 0], {"broadcast": 1, "axis": 1}, lambda a, b: a & b[:, None, None])
    for opset in (1, 6):
        case("Gemm broadcast", opset, [real(4, 3), real(5, 4), real(5)],
             {"broadcast": 1, "transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0},
             lambda a, b, c: 0.5 * (a.T @ b.T) + 2 * c)

    # normalisations
    scale, bias, mean, variance = real(3), real(3), real(3), abs(real(3)) + 0.5

    def normed(v, s, b, m, d):
        s, b, m, d = (t[:, None, None] for t in (s, b, m, d))
        return (v - m) / np.sqrt(d + np.float32(1e-5)) * s + b

    for opset, extra in ((1, {"is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1]}), (6, {"is_test": 1}), (7, {}), (9, {})):
        case("BatchNormalization", opset, [image, scale, bias, mean, variance], extra, normed)
    for opset in (1, 6, 7):
        each = [real(3, 4, 4) for _ in range(3)] + [abs(real(3, 4, 4)) + 0.5]
        case("BatchNormalization not spatial", opset, [image, *each], {"spatial": 0, "is_test": 1},
             lambda v, s, b, m, d: (v - m) / np.sqrt(d + np.float32(1e-5)) * s + b)
    case("InstanceNormalization", 1, [image, scale, bias], {"consumed_inputs": [0]},
         lambda v, s, b: (v - v.mean((2, 3), keepdims=True)) / np.sqrt(v.var((2, 3), keepdims=True) + 1e-5)
         * s[:, None, None] + b[:, None, None])
    for across in (0, 1):
        for scaled in (0, 1):
            axes = (0, 1, 2, 3) if across else (0, 2, 3)
            case(f"MeanVarianceNormalization {across}{scaled}", 1, [image],
                 {"across_channels": across, "normalize_variance": scaled},
                 lambda v, a=axes, n=scaled: (v - v.mean(a, keepdims=True)) / (v.std(a, keepdims=True) if n else 1))
    for opset in (1, 11):
        case("Softmax", opset, [x], {}, lambda v: flat_softmax(v, 1))
        case("Softmax axis 0", opset, [x], {"axis": 0}, lambda v: flat_softmax(v, 0))
        case("LogSoftmax", opset, [x], {"axis": 2}, lambda v: np.log(flat_softmax(v, 2)))
    case("Softmax", 13, [x], {}, softmax)
    case("Hardmax", 1, [x], {}, lambda v: np.eye(12, dtype=np.float32)[v.reshape(2, 12).argmax(1)].reshape(2, 3, 4))

    # pointwise
    ones = {1: lambda v: (v, np.ones_like(v)), 10: lambda v: (v, np.ones(v.shape, bool))}
    case("Dropout", 1, [x], {"is_test": 1, "consumed_inputs": [0]}, ones[1], outputs=2)
    case("Dropout", 6, [x], {"ratio": 0.3, "is_test": 1}, ones[1], outputs=2)
    case("Dropout", 10, [x], {"ratio": 0.3}, ones[10], outputs=2)
    case("Cast name", 1, [x * 3], {"to": "INT32"}, lambda v: v.astype(np.int32))
    case("Cast", 6, [x * 3], {"to": TensorProto.INT64}, lambda v: v.astype(np.int64))
    case("Clip", 1, [x], {"min": -0.5, "max": 0.5}, lambda v: np.clip(v, -0.5, 0.5))
    case("Clip one side", 6, [x], {"max": 0.5}, lambda v: np.minimum(v, np.float32(0.5)))
    case("Selu", 1, [x], {}, lambda v: np.where(v > 0, v, 1.6732 * (np.exp(v) - 1)).astype(np.float32)
         * np.float32(1.0507))
    case("PRelu channels", 1, [image, real(3)], {}, lambda v, s: np.where(v < 0, s[:, None, None] * v, v))
    case("PRelu one", 6, [image, real(1)], {}, lambda v, s: np.where(v < 0, s * v, v))
    case("ThresholdedRelu", 1, [x], {"alpha": 0.3}, lambda v: np.where(v > 0.3, v, 0).astype(np.float32))
    for name, op in (("Max", np.maximum), ("Min", np.minimum), ("Sum", np.add)):
        case(name, 1, [x, real(2, 3, 4)], {"consumed_inputs": [0, 0]}, op)
    case("Mean", 6, [x, real(2, 3, 4)], {}, lambda a, b: (a + b) / 2)

    # data movement
    case("Reshape attribute", 1, [x], {"shape": [0, -1]}, lambda v: v.reshape(2, 12))
    case("Concat axis 1", 1, [x, real(2, 2, 4)], {}, lambda a, b: np.concatenate([a, b], 1))
    case("Slice", 1, [x], {"starts": [1, -3], "ends": [3, 1000], "axes": [1, 2]}, lambda v: v[:, 1:3, -3:].copy())
    case("Slice no axes", 1, [x], {"starts": [0, 1], "ends": [1, 3]}, lambda v: v[:1, 1:3].copy())
    case("Split operand", 1, [x, np.array([1, 3], np.float32)], {"axis": 2},
         lambda v, s: (v[..., :1].copy(), v[..., 1:].copy()), outputs=2, constants=(1,))
    case("Split attribute", 2, [x], {"axis": 2, "split": [1, 3]}, lambda v: (v[..., :1].copy(), v[..., 1:].copy()), 2)
    case("Split equal", 2, [x], {"axis": 2}, lambda v: (v[..., :2].copy(), v[..., 2:].copy()), 2)
    for opset, name in ((1, "paddings"), (2, "pads")):
        case(f"Pad {name}", opset, [x], {name: [0, 1, 0, 1, 0, 2], "value": 3.0},
             lambda v: np.pad(v, ((0, 1), (1, 0), (0, 2)), constant_values=3))
        case(f"Pad {name} reflect", opset, [x], {name: [0, 1, 0, 0, 0, 2], "mode": "reflect"},
             lambda v: np.pad(v, ((0, 0), (1, 0), (0, 2)), mode="reflect"))
    case("Tile", 1, [x, np.array([2], np.int64), np.array([1], np.int64)], {}, lambda v, n, a: np.tile(v, (1, 2, 1)),
         constants=(1, 2))
    case("Squeeze", 1, [real(2, 1, 3)], {"axes": [1]}, lambda v: v[:, 0])
    case("Unsqueeze", 1, [x], {"axes": [0, 3]}, lambda v: v[None, :, :, None])
    case("Flatten", 1, [x], {"axis": 2}, lambda v: v.reshape(6, 4))
    case("Gather negative", 11, [x, np.array([-1, 0], np.int64)], {"axis": 1}, lambda v, i: v[:, i])
    case("Upsample scales", 1, [image], {"height_scale": 2.0, "width_scale": 3.0, "mode": "nearest"},
         lambda v: v.repeat(2, 2).repeat(3, 3))
    case("Upsample scales", 7, [image], {"scales": [1.0, 1.0, 2.0, 1.0]}, lambda v: v.repeat(2, 2))
    case("Upsample operand", 9, [image, np.array([1, 1, 1, 2], np.float32)], {}, lambda v, s: v.repeat(2, 3),
         constants=(1,))
    case("Scatter", 9, [np.zeros((3, 3), np.float32), np.array([[1, 0, 2]]), real(1, 3)], {},
         lambda v, i, u: np.put_along_axis(v, i, u, 0) or v)

    # reductions, selection
    for name, op in (("ReduceSum", np.sum), ("ReduceMean", np.mean), ("ReduceMax", np.max), ("ReduceProd", np.prod)):
        case(name, 1, [x], {"axes": [0, 2], "keepdims": 0}, lambda v, f=op: f(v, (0, 2)))
        case(f"{name} all", 11, [x], {}, lambda v, f=op: np.asarray(f(v, (0, 1, 2), keepdims=True)))
    case("ArgMax", 1, [x], {"axis": 1}, lambda v: v.argmax(1)[:, None])
    order = lambda v: np.argsort(-v, 2, kind="stable")[..., :2]
    case("TopK attribute", 1, [x], {"k": 2}, lambda v: (np.take_along_axis(v, order(v), 2), order(v)), 2)
    case("TopK operand", 10, [x, np.array([2])], {}, lambda v, k: (np.take_along_axis(v, order(v), 2), order(v)), 2,
         constants=(1,))

    # pooling
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    blocks = lambda v: v.reshape(2, 3, 2, 2, 2, 2)
    case("MaxPool", 1, [image], window, lambda v: blocks(v).max((3, 5)))
    case("AveragePool", 1, [image], window, lambda v: blocks(v).mean((3, 5)))
    for opset, p in ((1, 2.0), (2, 2)):
        case("LpPool", opset, [image], {**window, "p": p}, lambda v: np.sqrt((blocks(v)**2).sum((3, 5))))
        case("GlobalLpPool", opset, [image], {"p": p}, lambda v: np.sqrt((v**2).sum((2, 3), keepdims=True)))

    # recurrent: results that are not wanted may be left out
    w, u = real(1, 5, 4), real(1, 5, 5)

    def simple(v, w, u):
        h, all_h = np.zeros((3, 5), np.float32), []
        for t in range(2):
            h = np.tanh(v[t] @ w[0].T + h @ u[0].T)
            all_h.append(h)
        return np.stack(all_h)[:, None], h[None]

    case("RNN", 1, [x, w, u], {"hidden_size": 5, "output_sequence": 1}, simple, 2)
    case("RNN last", 1, [x, w, u], {"hidden_size": 5}, lambda *a: simple(*a)[1], outputs=["", "h"])

    # Scan over a batch, with sequences of different lengths
    start, rows = real(3, 2), real(3, 4, 2)

    def scanned(_, s, v, lengths=(4, 4, 4)):
        y = np.zeros_like(v)
        last = s.copy()
        for k, n in enumerate(lengths):
            for t in range(n):
                last[k] = last[k] + v[k, t]
                y[k, t] = last[k]
        return last, y

    attributes = {"body": running_sum(), "num_scan_inputs": 1}
    case("Scan batch", 8, [None, start, rows], attributes, scanned, 2)
    case("Scan lengths", 8, [np.array([2, 4, 0]), start, rows], attributes,
         lambda n, s, v: scanned(n, s, v, (2, 4, 0)), 2)

    # experiments
    case("ConstantFill shape", 1, [], {"shape": [2, 3], "value": 1.5}, lambda: np.full((2, 3), 1.5, np.float32))
    case("ConstantFill like", 1, [x], {"value": 2.0, "extra_shape": [2]}, lambda v: np.full((2, 3, 4, 2), 2, np.float32))
    case("ConstantFill elements", 1, [np.array([3, 2])], {"input_as_shape": 1, "dtype": 7, "value": 4.0},
         lambda v: np.full((3, 2), 4, np.int64), constants=(0,))
    case("GivenTensorFill", 1, [], {"shape": [2, 2], "values": [1.0, 2.0, 3.0, 4.0]},
         lambda: np.array([[1, 2], [3, 4]], np.float32))
    case("DynamicSlice", 1, [x, np.array([1, -3], np.int32), np.array([3, 9], np.int32), np.array([1, 2], np.int32)], {},
         lambda v, *_: v[:, 1:3, -3:].copy())
    sigmoid = lambda v: 1 / (1 + np.exp(-v))

    def unit(h, g, lengths, t, dropped=False):
        update, fresh = sigmoid(g[..., 4:8]), np.tanh(g[..., 8:])
        runs = (t < lengths)[None, :, None]
        return np.where(runs, update * h + (1 - update) * fresh, 0 if dropped else h).astype(np.float32)

    state = [real(1, 3, 4), real(1, 3, 12), np.array([1, 3, 2], np.int32), np.array(2, np.int32)]
    case("GRUUnit", 1, state, {}, unit)
    case("GRUUnit dropped", 1, state, {"drop_states": 1}, lambda *a: unit(*a, True))
    return all_cases
