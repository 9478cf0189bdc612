"""Operators of operands whose rank the model does not say: what they do is found out by running."""

import numpy as np
from harness import Case
from onnx import TensorProto, helper


def swapped():
    """A body that swaps what it carries and stacks the first."""
    f = TensorProto.FLOAT
    nodes = [helper.make_node("Identity", [a], [b])
             for a, b in (("go", "goes"), ("q", "next_p"), ("p", "next_q"), ("p", "kept"), ("q", "other"))]
    value = helper.make_tensor_value_info
    inputs = [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("p", f, None),
              value("q", f, None)]
    results = [value("goes", TensorProto.BOOL, [])]
    results += [value(n, f, None) for n in ("next_p", "next_q", "kept", "other")]
    return helper.make_graph(nodes, "body", inputs, results)


def cases():
    r = np.random.default_rng(11)
    all_cases = []

    def case(name, inputs, attributes=None, outputs=1, opset=23, **more):
        all_cases.append(Case(f"{name} of unknown rank", name.split()[0], inputs, attributes, outputs, domain="",
                              opset=opset, rankless=range(len(inputs)), **more))

    def real(*shape):
        return r.standard_normal(shape).astype(np.float32)

    def u8(*shape):
        return r.integers(0, 256, shape, dtype=np.uint8)

    image = real(1, 3, 8, 8)
    case("Conv", [image, real(4, 3, 3, 3), real(4)])
    case("Conv constants", [image, real(4, 3, 3, 3), real(4)], {"pads": [1, 1, 1, 1]}, constants=(1, 2))
    case("Conv line", [real(2, 3, 8), real(4, 3, 3)], {"kernel_shape": [3], "strides": [2]})
    case("ConvTranspose", [image, real(3, 4, 3, 3)])
    case("ConvInteger", [u8(1, 3, 8, 8), u8(4, 3, 3, 3)])
    case("Attention 4", [real(1, 2, 4, 8), real(1, 2, 5, 8), real(1, 2, 5, 8)])
    case("Attention 3", [real(1, 4, 16), real(1, 5, 16), real(1, 5, 16)], {"q_num_heads": 2, "kv_num_heads": 2})
    case("BatchNormalization", [image, real(3), real(3), real(3), abs(real(3))], opset=15)
    case("DepthToSpace", [real(1, 4, 8, 8)], {"blocksize": 2})
    case("GlobalAveragePool", [image])
    case("GlobalMaxPool line", [real(1, 3, 8)])
    case("Hardmax", [real(3, 4)])
    case("InstanceNormalization", [image, real(3), real(3)])
    case("LayerNormalization", [real(2, 3, 8), real(8), real(8)])
    case("LpNormalization", [real(3, 4)])
    case("LSTM", [real(4, 2, 3), real(1, 20, 3), real(1, 20, 5)], {"hidden_size": 5}, 3)
    case("MaxPool", [image], {"kernel_shape": [2, 2]})
    case("NegativeLogLikelihoodLoss", [real(3, 5), np.array([1, 2, 3])])
    case("Reshape", [real(3, 4), np.array([2, -1])], constants=(1,))
    case("SoftmaxCrossEntropyLoss", [real(3, 5), np.array([1, 2, 3])])
    case("SpaceToDepth", [real(1, 4, 8, 8)], {"blocksize": 2})

    # A loop without turns: stacked results have the extents that the first turn would give, known or not.
    for a, b in (((2, 3), (3, 2)), ((3, 3), (3, 3)), ((2, 3), (4, 3))):
        stacked = tuple(np.zeros((0, *s), np.float32) for s in (a, b))
        for dynamic in ({}, {2: (0, 1), 3: (0, 1)}):
            all_cases.append(Case(f"Loop without turns {a} {b}{' open' if dynamic else ''}", "Loop",
                                  [np.array(0), None, real(*a), real(*b)], {"body": swapped()}, 4, domain="",
                                  dynamic=dynamic, formula=lambda n, c, p, q, w=stacked: (p, q, *w)))
    return all_cases
