"""Everything else: layouts, sums followed by something, old names."""

import math

import numpy as np
from harness import Case

erf = np.vectorize(math.erf)


def gelu(x):
    return (x * 0.5 * (1 + erf(x / np.sqrt(2)))).astype(np.float32)


def fast_gelu(x):
    return x * 0.5 * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def group_norm(x, gamma, beta, groups, silu):
    n, h, w, c = x.shape
    g = x.reshape(n, h * w, groups, c // groups)
    g = (g - g.mean((1, 3), keepdims=True)) / np.sqrt(g.var((1, 3), keepdims=True) + 1e-5)
    y = g.reshape(x.shape) * gamma + beta
    return (y / (1 + np.exp(-y)) if silu else y).astype(np.float32)


def product(a, b, conjugate):
    b = b[..., 0] + 1j * b[..., 1] * (-1 if conjugate else 1)
    y = (a[..., 0] + 1j * a[..., 1]) * b
    return np.stack([y.real, y.imag], -1).astype(np.float32)


def cases():
    r = np.random.default_rng(3)
    all_cases = []

    def case(name, op, inputs, attributes=None, **more):
        all_cases.append(Case(name, op, inputs, attributes, **more))

    def real(*shape):
        return r.standard_normal(shape).astype(np.float32)

    def old(name, *arguments, **more):
        case(name, name, *arguments, domain="", **more)

    x = real(2, 3, 4)
    old("Affine", [x], {"alpha": 2.0, "beta": 0.5}, formula=lambda v: v * 2 + np.float32(0.5))
    old("Crop", [real(1, 2, 6, 7)], {"border": [1, 2, 1, 1]}, formula=lambda v: v[:, :, 2:-1, 1:-1].copy())
    old("ImageScaler", [real(1, 2, 3, 3)], {"scale": 2.0, "bias": [0.5, 1.5]},
        formula=lambda v: v * 2 + np.array([0.5, 1.5], np.float32)[:, None, None])
    old("ParametricSoftplus", [x], {"alpha": 2.0, "beta": 0.5},
        formula=lambda v: (2 * np.log1p(np.exp(0.5 * v))).astype(np.float32))
    old("Scale", [x], {"scale": 3.0}, formula=lambda v: v * 3)
    old("ScaledTanh", [x], {"alpha": 2.0, "beta": 0.5}, formula=lambda v: 2 * np.tanh(v * np.float32(0.5)))

    w, first = real(5, 4, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 1]}

    def conv(image, weight, bias):
        from onnx.reference.ops.op_conv import _conv_implementation

        y = _conv_implementation(image.transpose(0, 3, 1, 2), weight, bias, "NOTSET", [1, 1], 1, [3, 3],
                                 [1, 1, 1, 1], [2, 1])
        return y.transpose(0, 2, 3, 1).astype(np.float32)

    image, bias = real(1, 6, 5, 4), real(5)
    case("NhwcConv", "NhwcConv", [image, w, bias], first, constants=(1, 2), formula=conv)
    case("NhwcFusedConv", "NhwcFusedConv", [image, w, bias], {**first, "activation": "Relu"}, constants=(1, 2),
         formula=lambda *a: np.maximum(conv(*a), 0))
    case("NhwcFusedConv sum", "NhwcFusedConv", [image, w, bias, real(1, 3, 5, 5)], first, constants=(1, 2),
         formula=lambda a, b, c, z: conv(a, b, c) + z)
    case("FusedConv", "FusedConv", [real(1, 4, 6, 5), w, bias], {**first, "activation": "LeakyRelu",
                                                                "activation_params": [0.1]}, constants=(1, 2))
    case("NhwcMaxPool", "NhwcMaxPool", [r.integers(0, 256, (1, 7, 6, 4), dtype=np.uint8)],
         {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1]})
    case("ConvTransposeWithDynamicPads", "ConvTransposeWithDynamicPads",
         [real(1, 4, 5, 5), real(4, 3, 3, 3), np.array([1, 0, 1, 2], np.int64), real(3)], {"strides": [2, 2]},
         constants=(1, 3))
    for batch_a, batch_b in ((0, 0), (1, 0), (0, 1), (1, 1)):
        for trans_a, trans_b in ((0, 0), (1, 1)):
            a, b = real(2, 3, 4), real(2, 4, 5)
            a, b = (a.swapaxes(1, 2) if trans_a else a), (b.swapaxes(1, 2) if trans_b else b)
            a, b = (a.swapaxes(0, 1) if batch_a else a), (b.swapaxes(0, 1) if batch_b else b)
            case(f"FusedMatMul {batch_a}{batch_b}{trans_a}{trans_b}", "FusedMatMul",
                 [np.ascontiguousarray(a), np.ascontiguousarray(b)],
                 {"transA": trans_a, "transB": trans_b, "transBatchA": batch_a, "transBatchB": batch_b, "alpha": 0.5})
    case("TransposeMatMul", "TransposeMatMul", [real(2, 4, 3), real(2, 4, 5)], {"transA": 1, "alpha": 2.0})
    case("GemmFastGelu", "GemmFastGelu", [real(2, 3, 4), real(4, 5), bias],
         formula=lambda a, b, c: fast_gelu(a @ b + c).astype(np.float32))
    for metric in ("sqeuclidean", "euclidean"):
        case(f"CDist {metric}", "CDist", [real(5, 4), real(3, 4)], {"metric": metric})
    a, b = real(3, 4, 2), real(3, 4, 2)
    case("ComplexMul", "ComplexMul", [a, b], formula=lambda a, b: product(a, b, False))
    case("ComplexMulConj", "ComplexMulConj", [a, b], formula=lambda a, b: product(a, b, True))
    plain = {"signal_ndim": 1, "normalized": 0, "onesided": 1}

    def rfft(v):
        y = np.fft.rfft(v)
        return np.stack([y.real, y.imag], -1).astype(np.float32)

    case("Rfft", "Rfft", [real(2, 8)], plain, formula=rfft)
    case("Irfft", "Irfft", [rfft(real(2, 8))], plain,
         formula=lambda v: np.fft.irfft(v[..., 0] + 1j * v[..., 1]).astype(np.float32))

    def softmax(v):
        e = np.exp(v - v.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    case("BiasSoftmax", "BiasSoftmax", [real(2, 3, 4, 5), real(2, 1, 1, 5)], {"axis": 3, "is_inner_broadcast": 1},
         formula=lambda v, b: softmax(v + b))
    case("BiasSplitGelu", "BiasSplitGelu", [real(2, 3, 8), real(8)],
         formula=lambda v, b: (v + b)[..., :4] * gelu((v + b)[..., 4:]))
    case("BiasAdd", "BiasAdd", [real(2, 3, 8), real(8), real(2, 3, 8)], formula=lambda v, b, s: v + b + s)
    case("BiasDropout", "BiasDropout", [real(3, 8), real(8), real(3, 8)], formula=lambda v, b, s: v + b + s)
    image, gamma, beta = real(2, 3, 4, 8), real(8), real(8)
    for silu in (0, 1):
        a = {"groups": 4, "activation": silu, "epsilon": 1e-5}
        case(f"GroupNorm silu={silu}", "GroupNorm", [image, gamma, beta], a,
             formula=lambda v, g, b, s=silu: group_norm(v, g, b, 4, s))
        case(f"SkipGroupNorm silu={silu}", "SkipGroupNorm", [image, gamma, beta, real(2, 8), real(8)], a, outputs=2,
             formula=lambda v, g, b, k, c, s=silu: (group_norm(v + k[:, None, None] + c, g, b, 4, s),
                                                    v + k[:, None, None] + c))
    case("GatedRMSNorm", "GatedRMSNorm", [real(2, 3, 8), real(4), real(2, 3, 8)], {"epsilon": 1e-5},
         formula=lambda v, s, g: ((v.reshape(2, 3, 2, 4) / np.sqrt((v.reshape(2, 3, 2, 4)**2).mean(-1, keepdims=True)
                                                                  + 1e-5) * s).reshape(2, 3, 8)
                                  * g / (1 + np.exp(-g))).astype(np.float32))
    def silu(v, alpha=1):
        return v / (1 + np.exp(-alpha * v))

    case("SwiGLU", "SwiGLU", [real(3, 8)], {"limit": 1.0, "activation_alpha": 1.702, "activation_beta": 1.0},
         formula=lambda v: (silu(np.minimum(v[:, :4], 1), 1.702) * (np.clip(v[:, 4:], -1, 1) + 1)).astype(np.float32))
    case("SwiGLU two", "SwiGLU", [real(3, 4), real(3, 4)], formula=lambda g, u: silu(g) * u)
    half = real(3, 8).astype(np.float16)

    def rounded(v):
        gate, up = v[:, :4].astype(np.float32), v[:, 4:].astype(np.float32)
        return (silu(gate).astype(np.float16).astype(np.float32) * up).astype(np.float16)

    case("SwiGLU rounded", "SwiGLU", [half], {"round_activation": 1}, formula=rounded, tolerance=1e-3)
    case("SwiGLU opset 28", "SwiGLU", [real(3, 4), real(3, 4)], {"alpha": 1.5}, domain="", opset=28,
         formula=lambda g, u: silu(g, 1.5) * u)
    case("ScaledSiLU", "ScaledSiLU", [x], {"alpha": 2.0}, formula=lambda v: silu(2 * v))
    case("GatedAdd", "GatedAdd", [real(3, 4), real(3, 4), real(3, 1)], formula=lambda a, b, g: a + b * g)
    case("GatedAdd projected", "GatedAdd", [real(3, 4), real(3, 4), real(3, 5), real(5, 1)],
         formula=lambda a, b, g, w: a + b / (1 + np.exp(-(g @ w))))
    case("UnfoldTensor", "UnfoldTensor", [real(2, 9, 3)], {"dim": 1, "size": 3, "step": 2},
         formula=lambda v: np.lib.stride_tricks.sliding_window_view(v, 3, 1)[:, ::2].copy())
    case("IsAllFinite", "IsAllFinite", [x, real(2)], formula=lambda *a: np.array(True))
    case("IsAllFinite infinity", "IsAllFinite", [x, np.array([np.inf, 0], np.float32)],
         formula=lambda *a: np.array(False))
    for dtype in (np.int32, np.uint32, np.float32, np.int64, np.float64):
        values = (real(6) * 1000).astype(dtype) if dtype != np.uint32 else r.integers(0, 2**32, 6, dtype=np.uint32)
        for positive in (0, 1):
            case(f"MurmurHash3 {np.dtype(dtype).name} positive={positive}", "MurmurHash3", [values],
                 {"positive": positive, "seed": 7})
    case("Inverse", "Inverse", [real(2, 4, 4) + 3 * np.eye(4, dtype=np.float32)])
    case("ExpandDims", "ExpandDims", [x, np.array([-1], np.int32)], constants=(1,))
    case("GatherND", "GatherND", [x, np.array([[0, 1], [1, 2]], np.int64)])
    case("GridSample", "GridSample", [real(1, 2, 4, 4), r.uniform(-1, 1, (1, 3, 3, 2)).astype(np.float32)])
    case("Pad", "Pad", [x, np.array([0, 1, 0, 0, 0, 2], np.int64), np.array([5], np.float32)], constants=(1,))
    case("Range", "Range", [np.array([1], np.float32), np.array([4], np.float32)])
    case("Range step", "Range", [np.array(9, np.int64), np.array(1, np.int64), np.array(-3, np.int64)])
    case("Trilu", "Trilu", [real(3, 4), np.array(1, np.int64)], {"upper": 0})
    case("TorchEmbedding", "TorchEmbedding", [real(5, 3), np.array([[1, 4], [0, 2]], np.int64)],
         formula=lambda w, i: w[i])
    case("Unique", "Unique", [np.array([2, 1, 1, 3, 4, 3], np.float32)], outputs=3)

    v, rows = real(8), real(2, 3, 8)
    case("BiasGelu", "BiasGelu", [rows, v])
    case("FastGelu", "FastGelu", [rows, v])
    case("FastGelu alone", "FastGelu", [rows])
    case("Gelu", "Gelu", [rows])
    case("QuickGelu", "QuickGelu", [rows], {"alpha": 1.702})
    case("QuickGelu alpha", "QuickGelu", [rows], {"alpha": 1.0})
    case("SkipLayerNormalization", "SkipLayerNormalization", [rows, real(2, 3, 8), v, real(8), real(8)],
         {"epsilon": 1e-5}, outputs=["y", "", "", "s"])
    case("SkipLayerNormalization broadcast", "SkipLayerNormalization", [rows, real(1, 3, 8), v])
    case("SkipSimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", [rows, real(2, 3, 8), v, real(8)],
         {"epsilon": 1e-5}, outputs=["y", "", "", "s"])
    case("SimplifiedLayerNormalization", "SimplifiedLayerNormalization", [rows, v], {"epsilon": 1e-5}, domain="")
    case("LayerNormalization opset 12", "LayerNormalization", [rows, v, real(8)], domain="", opset=12)
    case("FusedGemm", "FusedGemm", [real(3, 4), real(4, 5), real(5)],
         {"activation": "LeakyRelu", "activation_alpha": 0.2, "alpha": 0.5})
    for dtype in (np.uint8, np.int8, np.uint16, np.int16):
        scale, zero = np.array([0.02, 0.05, 0.03], np.float32), np.array([3, 0, 1], dtype)
        case(f"QuantizeLinear {np.dtype(dtype).name}", "QuantizeLinear", [real(2, 3, 4), scale, zero], {"axis": 1},
             constants=(1, 2))
        case(f"DequantizeLinear {np.dtype(dtype).name}", "DequantizeLinear",
             [r.integers(0, 100, (2, 3, 4)).astype(dtype), scale, zero], {"axis": 1}, constants=(1, 2))
    return all_cases
