"""Operators of recent models (streams, sparse attention, rotary embeddings) and of accelerators (ordered matrices)."""

import numpy as np
from harness import Case


def softmax(v):
    e = np.exp(v - v.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def heads_first(v, heads):
    return v.reshape(*v.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def heads_last(v):
    return v.transpose(0, 2, 1, 3).reshape(v.shape[0], v.shape[2], -1)


def to_order(x, order):
    """Row-major to a storage order, by the index of every element."""
    rows, columns = x.shape
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    if order == 0:
        at = j * rows + i
    elif order == 1:
        at = i * columns + j
    elif order == 2:
        at = (j // 32) * 32 * rows + i * 32 + j % 32
    elif order == 3:
        tile = (i // 8) * 8 + (i % 2) * 4 + (j % 32) // 8
        at = (j // 32) * 32 * rows + tile * 32 + ((j % 8 >= 4) * 4 + (i % 8) // 2) * 4 + j % 4
    else:
        tile = (i // 32) * 32 + ((i % 8) // 2 * 4 + (i % 32) // 8) * 2 + i % 2
        at = (j // 32) * 32 * rows + tile * 32 + j % 32
    out = np.empty(rows * columns, x.dtype)
    out[at] = x
    return out.reshape(rows, columns)


def longformer(x, w, b, mask, gw, gb, flags, heads, window):
    def parts(weight, bias):
        return [heads_first(t, heads) for t in np.split(x.astype(np.float64) @ weight + bias, 3, -1)]

    tokens = x.shape[1]
    at = np.arange(tokens)
    near = np.abs(at[:, None] - at) <= window
    seen = near | (flags > 0)[:, None, None, :]

    def attended(q, k, v, bias):
        return heads_last(softmax(q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1]) + bias) @ v)

    hidden = mask[:, None, None, :]
    local = attended(*parts(w, b), np.where(seen, 0, -np.inf) + hidden)
    wide = attended(*parts(gw, gb), hidden)
    return np.where((flags > 0)[:, :, None], wide, local).astype(np.float32)


def cases():
    r = np.random.default_rng(6)
    all_cases = []

    def case(name, op, inputs, attributes=None, **more):
        all_cases.append(Case(name, op, inputs, attributes, **more))

    def real(*shape):
        return r.standard_normal(shape).astype(np.float32)

    # ---- images, words ----
    image = real(2, 3, 7, 9)
    boxes = np.array([[0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], [-0.2, 0.5, 0.5, 1.4], [0.8, 0.9, 0.2, 0.1]], np.float32)
    which = np.array([0, 1, 0, 1], np.int32)
    for mode in ("bilinear", "nearest"):
        for size in ([4, 5], [1, 3]):
            case(f"CropAndResize {mode} {size}", "CropAndResize", [image, boxes, which, np.array(size, np.int32)],
                 {"mode": mode, "extrapolation_value": 2.0}, constants=(3,))
    case("CropAndResize open", "CropAndResize", [image, boxes, which, np.array([3, 3], np.int32)],
         dynamic={0: (0, 2, 3), 1: (0,), 2: (0,)})
    mask = np.ones((1, 2, 6, 6), np.int32)
    mask[:, :, 4:] = 0
    case("MaxpoolWithMask", "MaxpoolWithMask", [real(1, 2, 6, 6), mask], {"kernel_shape": [2, 2], "strides": [2, 2]})
    letters = np.array([[1, 2, 3, 0, 0, 0], [4, 1, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]], np.int32)
    case("WordConvEmbedding", "WordConvEmbedding", [letters, real(5, 1, 3, 4), real(5), real(7, 4)],
         {"embedding_size": 5, "conv_window_size": 3, "char_embedding_size": 4}, constants=(1, 2, 3))
    case("SampleOp", "SampleOp", [real(2, 3)])
    case("BitmaskDropout", "BitmaskDropout", [real(2, 3)], formula=lambda v: v)
    case("FusedMatMulActivation", "FusedMatMulActivation", [real(3, 4), real(5, 4)],
         {"transB": 1, "alpha": 0.5, "activation": "LeakyRelu", "activation_alpha": 0.2},
         formula=lambda a, b: (np.where(a @ b.T < 0, 0.1, 0.5) * (a @ b.T)).astype(np.float32))

    # ---- rotary embeddings ----
    angle = np.arange(32)[:, None] / 10**(np.arange(8) / 4)
    cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    places = r.integers(0, 32, (3, 2, 5))
    for layout, sections in ((0, [4, 2, 2]), (1, [3, 3, 2])):
        for interleaved in (0, 1):
            case(f"MRotaryEmbedding layout={layout} interleaved={interleaved}", "MRotaryEmbedding",
                 [real(2, 5, 3 * 16), places, cosine, sine],
                 {"mrope_section": sections, "mrope_layout": layout, "interleaved": interleaved, "num_heads": 3,
                  "rotary_embedding_dim": 16}, constants=(2, 3))
    emb, half = real(2, 5, 8), [real(2, 3, 5, 8) for _ in range(4)]
    case("GemmaRotaryEmbedding", "GemmaRotaryEmbedding", [emb, *half], outputs=2,
         formula=lambda e, q, u, k, v: (q * np.cos(e)[:, None] + u * np.sin(e)[:, None],
                                        k * np.cos(e)[:, None] + v * np.sin(e)[:, None]))

    def norm_rotary(x, scale, start, c, s):
        v = x[..., 4:20].astype(np.float64)
        v = v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-6) * scale
        c, s = (t[3:8][None, :, None] for t in (c, s))
        a, b = v[..., :8], v[..., 8:]
        y = np.concatenate([a * c - b * s, b * c + a * s], -1)
        return y.reshape(1, 10, 48).astype(np.float16), v.astype(np.float32)

    halves = np.concatenate([real(1, 5, 3, 24)] * 2).astype(np.float16)
    case("RMSNormRotary", "RMSNormRotary", [halves, real(16), np.array([3], np.int64), cosine, sine],
         {"input_start": 4, "input_width": 16, "rotary_embedding_dim": 16, "output_fp16": 1, "flatten_batch": 1},
         outputs=2, formula=norm_rotary, tolerance=1e-3)

    # ---- attention of which a part is left out ----
    heads, kv, size, block = 4, 2, 16, 16
    rows = np.array([[0, 1, 3, 5], [0, 1, 2, 4]], np.int32)
    columns = np.array([[0, 0, 1, 1, 2], [0, 1, 0, 2, -1]], np.int32)

    def valid(count):
        return lambda results: [results[0], results[1][:, :, :count], results[2][:, :, :count]]

    def sparse(name, new, total, attributes=None, more=(), packed=False):
        q, k, v = real(1, new, heads * size), real(1, new, kv * size), real(1, new, kv * size)
        tokens = [np.concatenate([q, k, v], 2), None, None] if packed else [q, k, v]
        room = 48
        case(f"SparseAttention {name}", "SparseAttention",
             [*tokens, real(1, kv, room, size), real(1, kv, room, size), rows, columns,
              np.array([total], np.int32), np.array([total], np.int32), *more],
             {"num_heads": heads, "kv_num_heads": kv, "sparse_block_size": block, **(attributes or {})}, outputs=3,
             constants=(5, 6), compare=valid(total), shared={1: 3, 2: 4})

    sparse("prompt", 40, 40)
    sparse("token", 1, 38)
    sparse("token, rotary", 1, 20, {"do_rotary": 1}, (cosine, sine))
    sparse("packed", 24, 24, {"scale": 0.2}, packed=True)
    x, w, bias = real(2, 8, 12), real(12, 36) * 0.4, real(36)
    gw, gb = real(12, 36) * 0.4, real(36)
    keep = np.zeros((2, 8), np.float32)
    keep[1, 6:] = -10000
    flags = np.zeros((2, 8), np.int32)
    flags[0, 0] = flags[1, [0, 5]] = 1
    case("LongformerAttention", "LongformerAttention", [x, w, bias, keep, gw, gb, flags], {"num_heads": 3, "window": 2},
         constants=(1, 2, 4, 5), formula=lambda *a: longformer(*a, 3, 2))

    def decoder(query, key, qw, kvw, b, other, old=None, mask=None):
        source = key if other else query
        q = heads_first((query @ qw + b[:12]).transpose(1, 0, 2), 3)
        k, v = (heads_first(t.transpose(1, 0, 2), 3) for t in np.split(source @ kvw + b[12:], 2, -1))
        if old is not None:
            k, v = (old if other else [np.concatenate(t, 2) for t in zip(old, (k, v))])
        bias = 0 if mask is None else np.where(mask, -10000, 0)[:, None, None]
        y = softmax(q @ k.swapaxes(2, 3) / 2 + bias) @ v
        return heads_last(y).transpose(1, 0, 2).astype(np.float32), k.astype(np.float32), v.astype(np.float32)

    query, key = real(4, 2, 12), real(6, 2, 12)
    qw, kvw, b = real(12, 12) * 0.4, real(12, 24) * 0.4, real(36)
    old = [real(2, 3, 5, 4), real(2, 3, 5, 4)]
    hidden = r.integers(0, 2, (2, 6)).astype(bool)
    for name, other, cache, masked in (("self", False, False, False), ("cross, mask", True, False, True),
                                       ("self, cache", False, True, False), ("cross, cache", True, True, False)):
        case(f"DecoderAttention {name}", "DecoderAttention",
             [query, key, qw, kvw, b, hidden if masked else None, *(old if cache else [None, None]), np.array(other),
              np.array(cache), np.array(cache), np.array(masked)], {"num_heads": 3}, outputs=3,
             constants=(2, 3, 4, 8, 9, 10, 11),
             formula=lambda *a, o=other, c=cache, m=masked: decoder(*a[:5], o, old if c else None, hidden if m else None))

    def chosen(q, k, v, pk, pv, _, __, places, counts, *more):
        q, k, v = heads_first(q, 4), np.concatenate([pk, heads_first(k, 2)], 2), np.concatenate(
            [pv, heads_first(v, 2)], 2)
        seen = np.zeros((2, k.shape[2]), bool)
        for t in range(2):
            seen[t, places[t][:counts[t]]] = True
            seen[t, 6 + t:] = False
        wide_k, wide_v = (np.repeat(t, 2, 1) for t in (k, v))
        scores = np.where(seen, q @ wide_k.swapaxes(2, 3) / 4, -np.inf)
        return heads_last(softmax(scores) @ wide_v).astype(np.float32), k, v

    case("DynamicSparseAttention", "DynamicSparseAttention",
         [real(1, 2, 64), real(1, 2, 32), real(1, 2, 32), real(1, 2, 5, 16), real(1, 2, 5, 16), None, None,
          np.array([[0, 3, 5, 6], [2, 6, -1, -1]], np.int32), np.array([4, 2], np.int32), np.array([6], np.int32),
          np.array([7], np.int32)], {"num_heads": 4, "kv_num_heads": 2}, outputs=3, formula=chosen)

    # ---- residual streams, gates, hashes ----
    streams, flat = real(2, 3, 4, 6), real(2, 3, 24)
    case("BranchwiseRMSNorm", "BranchwiseRMSNorm", [streams, real(4, 6)])
    case("BranchwiseRMSNorm flat", "BranchwiseRMSNorm", [flat, real(24)], {"num_branches": 4})
    case("BranchwiseRMSNorm shared", "BranchwiseRMSNorm", [flat, real(6)], {"num_branches": 4})
    case("BranchwiseRMSNorm plain", "BranchwiseRMSNorm", [streams])
    for name, gate in (("branch", (2, 3, 4)), ("one", (2, 3, 4, 1)), ("all", (2, 3, 4, 6))):
        case(f"HyperConnectionPreMix {name}", "HyperConnectionPreMix", [streams, real(*gate)],
             {"reduction_scale": 0.5})
        case(f"HyperConnectionPostMix {name}", "HyperConnectionPostMix", [streams, real(2, 3, 6), real(*gate)])
    case("HyperConnectionPreMix flat", "HyperConnectionPreMix", [flat, real(2, 3, 24)], {"num_branches": 4})
    case("HyperConnectionPostMix mix", "HyperConnectionPostMix", [flat, real(2, 3, 6), real(2, 3, 4), real(2, 3, 4, 4)],
         {"num_branches": 4})

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    def low_rank(s, scale, down, up, inject, block, gate):
        s = s.reshape(2, 3, 4, 6).astype(np.float64) + gate[..., None] * block[:, :, None]
        hn = s / np.sqrt((s**2).mean(-1, keepdims=True) + 1e-5) * scale.reshape(4, 6)
        row = hn.reshape(2, 3, 24)
        z = 1.5 * (row @ down)
        g = sigmoid(z * sigmoid(z) @ up).reshape(2, 3, 4, 6)
        return tuple(v.astype(np.float32) for v in (0.5 * (hn * g).sum(2), sigmoid(row @ inject / 2) * 3,
                                                    s.reshape(2, 3, 24)))

    case("HyperConnectionLowRankMix", "HyperConnectionLowRankMix",
         [flat, real(24), real(24, 5), real(5, 24), real(24, 4), real(2, 3, 6), real(2, 3, 4)],
         {"num_branches": 4, "silu_alpha": 1.5, "reduction_scale": 0.5, "gate_div": 2.0, "gate_mul": 3.0}, outputs=3,
         formula=low_rank)
    case("EngramGate", "EngramGate", [streams, real(2, 3, 4, 6), real(2, 3, 6), real(4, 6), real(4, 6), real(4, 6)],
         outputs=2)
    case("LinearAttentionGate", "LinearAttentionGate", [real(2, 5, 3), real(3), -abs(real(3)), real(2, 5, 3)], outputs=2)
    state = real(2, 4, 6, 8)
    gate_inputs = [-abs(real(2, 5, 4)), real(2, 5, 4), state]
    of_gate = [abs(real(4)), real(4)]
    for name, inputs, attributes in (
        ("gated delta", [real(2, 5, 4, 8), real(2, 5, 4, 8), real(2, 5, 4, 6), None, *gate_inputs],
         {"beta_activation": "sigmoid"}),
        ("fewer query heads", [real(2, 5, 2, 8), real(2, 5, 2, 8), real(2, 5, 4, 6), None, *gate_inputs],
         {"beta_activation": "sigmoid", "scale": 0.5}),
        ("rank 3", [real(10, 2, 8), real(10, 2, 8), real(10, 4, 6), None,
                    *(v.reshape(10, 4) for v in gate_inputs[:2]), state], {"beta_activation": "sigmoid"}),
        ("packed", [real(10, 2 * 16 + 24), None, None, None, *(v.reshape(10, 4) for v in gate_inputs[:2]), state],
         {"beta_activation": "sigmoid"}),
        ("softplus", [real(2, 5, 2, 8), real(2, 5, 2, 8), real(2, 5, 4, 6), None, *gate_inputs, *of_gate],
         {"beta_activation": "sigmoid", "gate_activation": "softplus"}),
        ("bounded", [real(2, 5, 2, 8), real(2, 5, 2, 8), real(2, 5, 4, 6), None, *gate_inputs, *of_gate],
         {"beta_activation": "sigmoid", "gate_activation": "sigmoid"}),
        ("per key", [real(2, 5, 4, 8), real(2, 5, 4, 8), real(2, 5, 4, 6), None, -abs(real(2, 5, 4, 8)), None, state],
         {"update_rule": "gated"}),
        ("linear", [real(2, 5, 4, 8), real(2, 5, 4, 8), real(2, 5, 4, 6), None, None, None, state],
         {"update_rule": "linear"}),
    ):
        case(f"GatedDeltaNet {name}", "GatedDeltaNet", inputs, {"qk_l2_norm": 1, **attributes}, outputs=2)
    ids = r.integers(0, 9, (2, 7))
    tables = [np.array([3, 5, 7], np.int64), np.array([101, 103, 107, 109], np.int64)]
    rules = {"pad_id": 1, "n_head_per_ngram": 2, "max_ngram_size": 3}
    case("NGramHashMapping", "NGramHashMapping", [ids, *tables], rules, outputs=2)
    case("NGramHashMapping past", "NGramHashMapping", [ids, *tables, r.integers(0, 9, (2, 2))], rules, outputs=2)
    case("NGramHashMapping ends", "NGramHashMapping",
         [ids, *tables, None, np.array([0, 200, 400, 600], np.int64), np.array(4, np.int64)],
         {**rules, "reset_on_eos": 1}, outputs=2)
    case("NGramHashMapping segments", "NGramHashMapping",
         [ids, *tables, None, None, np.array(4, np.int64), np.array([[0, 0, 1, 1, 1, 2, 2]] * 2, np.int32)], rules,
         outputs=2)

    # ---- matrices in storage orders ----
    matrix, one = real(64, 64), np.array(0.02, np.float32)

    def rounded(v):
        return np.clip(np.round(v), -128, 127).astype(np.int8)

    for order in range(5):
        case(f"QuantizeWithOrder {order}", "QuantizeWithOrder", [matrix, one], {"order_input": 1, "order_output": order},
             formula=lambda v, s, o=order: to_order(rounded(v / s), o))
        case(f"DequantizeWithOrder {order}", "DequantizeWithOrder", [to_order(rounded(matrix / one), order), one],
             {"order_input": order, "order_output": 1, "to": 1},
             formula=lambda v, s: rounded(matrix / one) * np.float32(s))

    def eight(*shape):
        return r.integers(-128, 128, shape).astype(np.int8)

    def scales(*values):
        return [np.array(v, np.float32) for v in values]

    a, w8, c = eight(2, 32, 64), eight(64, 32), eight(2, 32, 32)
    sa, sb, sy, sc = scales(0.02, 0.01, 0.5, 0.1)

    def product(*_):
        y = a.astype(np.float64) @ w8 * sa * sb
        return rounded((y + row + c * sc) / sy), rounded((y + c * sc) / sy)

    row = real(32)
    case("QOrderedMatMul column", "QOrderedMatMul", [a, sa, to_order(w8, 0), sb, sy, row, c, sc],
         {"order_A": 1, "order_B": 0, "order_Y": 1}, constants=(1, 2, 3, 4, 5, 7), formula=lambda *_: product()[0])
    for order in (3, 4):
        case(f"QOrderedMatMul {order}", "QOrderedMatMul",
             [np.stack([to_order(v, 2) for v in a]), sa, to_order(w8.T.copy(), order).reshape(64, 32), sb, sy, None,
              np.stack([to_order(v, 2) for v in c]), sc], {"order_A": 2, "order_B": order, "order_Y": 2},
             constants=(1, 2, 3, 4, 7), formula=lambda *_: np.stack([to_order(v, 2) for v in product()[1]]))
    import math

    erf = np.vectorize(math.erf)
    case("QOrderedGelu", "QOrderedGelu", [a, *scales(0.05, 0.03)], {"order_X": 1},
         formula=lambda v, s, t: rounded(v * s * 0.5 * (1 + erf(v * s / np.sqrt(2))) / t))

    def normed(v, s, g, b, t):
        v = v.astype(np.float64) * s
        return rounded(((v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5) * g + b) / t)

    case("QOrderedLayerNormalization", "QOrderedLayerNormalization", [a, *scales(0.05), real(64), real(64), *scales(0.03)],
         formula=normed)
    six = real(5, 8).astype(np.float32)
    case("GemmFloat8", "GemmFloat8", [six, real(6, 8), real(6)], {"transB": 1, "alpha": 0.5, "beta": 2.0,
                                                                 "activation": "RELU"},
         formula=lambda a, b, c: np.maximum(0.5 * (a @ b.T) + 2 * c, 0))

    # ---- layouts of execution providers ----
    nhwc = {"domain": "com.ms.internal.nhwc"}
    case("MaxPool channels last", "MaxPool", [real(1, 6, 6, 3)], {"kernel_shape": [2, 2], "strides": [2, 2]},
         formula=lambda v: v.reshape(1, 3, 2, 3, 2, 3).max((2, 4)), **nhwc)
    return all_cases
