"""Four small networks, and inputs for them: an LSTM tagger, an MLP, a convolutional net, a transformer.

Weights are random with fixed seeds, and drawn so that activations keep their size and every input gives its own outputs.
Batch and length are open. Layers are few: see quantized_test.py for why.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Net:
    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def constant(self, value):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape, inputs):
        """Uniform with the variance that keeps a sum over `inputs` products at the size of its operand."""
        limit = np.sqrt(3 / inputs)
        return self.constant(self.random.uniform(-limit, limit, shape).astype(np.float32))

    def bias(self, *shape):
        return self.constant(self.random.uniform(-0.2, 0.2, shape).astype(np.float32))

    def op(self, kind, *operands, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, operands, names, f"{kind}_{len(self.nodes)}", **attributes))
        return names[0]

    def dense(self, x, inputs, outputs):
        return self.op("Add", self.op("MatMul", x, self.weight(inputs, outputs, inputs=inputs)), self.bias(outputs))

    def model(self, inputs, result, result_shape):
        infos = [helper.make_tensor_value_info(name, dtype, shape) for name, dtype, shape in inputs]
        last = self.op("Identity", result)
        graph = helper.make_graph(self.nodes, "net", infos, [helper.make_tensor_value_info(last, 1, result_shape)],
                                  self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def mlp():
    net = Net(1)
    x = "x"
    for inputs, outputs in ((40, 96), (96, 64)):
        weights = net.weight(inputs, outputs, inputs=inputs / 2)  # Relu takes half
        x = net.op("Relu", net.op("Gemm", x, weights, net.bias(outputs)))
    x = net.op("Gemm", x, net.weight(12, 64, inputs=64), net.bias(12), transB=1)
    return net.model([("x", TensorProto.FLOAT, ["N", 40])], x, ["N", 12])


def convnet():
    net = Net(2)

    def conv(x, inputs, outputs, kernel, group=1, stride=1):
        taps = inputs // group * kernel * kernel
        pad = kernel // 2
        y = net.op("Conv", x, net.weight(outputs, inputs // group, kernel, kernel, inputs=taps / 2), net.bias(outputs),
                   kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=group)
        return net.op("Relu", y)

    x = conv("x", 3, 16, 3, stride=2)
    y = conv(conv(x, 16, 16, 3, group=16), 16, 16, 1)
    x = conv(net.op("Add", x, y), 16, 24, 3, stride=2)
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Flatten", net.op("GlobalAveragePool", conv(x, 24, 32, 3)))
    x = net.op("Gemm", x, net.weight(32, 10, inputs=32), net.bias(10))
    return net.model([("x", TensorProto.FLOAT, ["N", 3, "H", "W"])], x, ["N", 10])


def lstm_tagger():
    net = Net(3)
    words, width, hidden, tags = 120, 32, 40, 9
    table = net.constant(net.random.uniform(-1, 1, (words, width)).astype(np.float32))
    x = net.op("Transpose", net.op("Gather", table, "ids"), perm=[1, 0, 2])
    x = net.op("LSTM", x, net.weight(2, 4 * hidden, width, inputs=width),
               net.weight(2, 4 * hidden, hidden, inputs=hidden), net.bias(2, 8 * hidden), outputs=3,
               direction="bidirectional", hidden_size=hidden)
    # [S, 2, N, hidden] to [N, S, 2 * hidden]
    x = net.op("Reshape", net.op("Transpose", x, perm=[2, 0, 1, 3]), net.constant(np.array([0, 0, -1], np.int64)))
    x = net.dense(x, 2 * hidden, tags)
    return net.model([("ids", TensorProto.INT64, ["N", "S"])], x, ["N", "S", tags])


def transformer():
    net = Net(4)
    words, places, width, heads, hidden, labels = 120, 32, 48, 4, 96, 7
    size = width // heads

    def table(rows):
        return net.constant(net.random.uniform(-1, 1, (rows, width)).astype(np.float32))

    def norm(x):
        scale = net.constant(net.random.uniform(0.8, 1.2, width).astype(np.float32))
        return net.op("LayerNormalization", x, scale, net.bias(width), axis=-1)

    def split(x, *perm):
        return net.op("Transpose", net.op("Reshape", x, net.constant(np.array([0, 0, heads, size]))), perm=perm)

    def attention(x):
        q = split(net.dense(x, width, width), 0, 2, 1, 3)
        k = split(net.dense(x, width, width), 0, 2, 3, 1)
        v = split(net.dense(x, width, width), 0, 2, 1, 3)
        scores = net.op("Div", net.op("MatMul", q, k), net.constant(np.float32(size ** 0.5)))
        mixed = net.op("MatMul", net.op("Softmax", net.op("Add", scores, "bias"), axis=-1), v)
        mixed = net.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return net.dense(net.op("Reshape", mixed, net.constant(np.array([0, 0, width]))), width, width)

    def gelu(x):
        erf = net.op("Erf", net.op("Div", x, net.constant(np.float32(2 ** 0.5))))
        x = net.op("Mul", x, net.op("Add", erf, net.constant(np.float32(1))))
        return net.op("Mul", x, net.constant(np.float32(0.5)))

    length = net.op("Shape", "ids", start=1, end=2)
    zero, step = net.constant(np.array([0])), net.constant(np.array([1]))
    place = net.op("Slice", table(places), zero, length, zero, step)
    x = norm(net.op("Add", net.op("Gather", table(words), "ids"), place))
    for _ in range(2):
        x = norm(net.op("Add", x, attention(x)))
        x = norm(net.op("Add", x, net.dense(gelu(net.dense(x, width, hidden)), hidden, width)))
    x = net.dense(x, width, labels)
    inputs = [("ids", TensorProto.INT64, ["N", "S"]), ("bias", TensorProto.FLOAT, ["N", 1, 1, "S"])]
    return net.model(inputs, x, ["N", "S", labels])


def _words(n, s):
    return lambda random: {"ids": random.integers(0, 120, (n, s))}


def _masked_words(n, s):
    def make(random):
        bias = np.zeros((n, 1, 1, s), np.float32)
        bias[-1, ..., s - s // 4:] = -20
        return {"ids": random.integers(0, 120, (n, s)), "bias": bias}
    return make


def _real(*shape):
    return lambda random: {"x": random.standard_normal(shape, dtype=np.float32)}


# name: (maker of the model, [maker of inputs])
NETWORKS = {
    "lstm_tagger": (lstm_tagger, [_words(1, 9), _words(3, 21)]),
    "mlp": (mlp, [_real(1, 40), _real(7, 40)]),
    "convnet": (convnet, [_real(1, 3, 32, 32), _real(2, 3, 48, 40)]),
    "transformer": (transformer, [_masked_words(1, 11), _masked_words(3, 28)]),
}


def points(name):
    return [make(np.random.default_rng(100 + k)) for k, make in enumerate(NETWORKS[name][1])]
