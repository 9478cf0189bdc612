"""Mixtures of experts, and weights of few bits."""

import numpy as np
from harness import Case


def silu(v, alpha=1):
    return v / (1 + np.exp(-alpha * v))


def softmax(v):
    e = np.exp(v - v.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def expert_mix(x, scores, k, expert, weights=None, normalize=False):
    """expert(e, rows) gives what expert e makes of rows."""
    flat = x.reshape(-1, x.shape[-1]).astype(np.float64)
    chosen = np.argsort(-scores, 1, kind="stable")[:, :k]
    share = np.take_along_axis(softmax(scores) if weights is None else weights, chosen, 1)
    if normalize:
        share = share / share.sum(1, keepdims=True)
    every = np.stack([expert(e, flat) for e in range(scores.shape[1])], 1)
    y = (np.take_along_axis(every, chosen[:, :, None], 1) * share[:, :, None]).sum(1)
    return y.reshape(x.shape).astype(np.float32)


def packed(values, bits):
    """Numbers along the last axis as bytes, the lowest bits first."""
    n = values.shape[-1]
    stream = ((values[..., None] >> np.arange(bits)) & 1).reshape(*values.shape[:-1], n * bits)
    stream = np.pad(stream, [(0, 0)] * (stream.ndim - 1) + [(0, -n * bits % 8)])
    return np.packbits(stream.astype(np.uint8), axis=-1, bitorder="little")


FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def cases():
    r = np.random.default_rng(5)
    all_cases = []

    def case(name, op, inputs, attributes=None, **more):
        all_cases.append(Case(name, op, inputs, attributes, **more))

    def real(*shape):
        return r.standard_normal(shape).astype(np.float32)

    tokens, hidden, inner, count = 7, 8, 6, 4
    x, scores = real(tokens, hidden), real(tokens, count)
    fc1, b1, fc2, b2 = real(count, inner, hidden), real(count, inner), real(count, hidden, inner), real(count, hidden)
    weights = (2, 3, 4, 5, 6, 7)
    for activation in ("relu", "gelu", "silu", "identity"):
        for k in (1, 2):
            case(f"MoE {activation} k={k}", "MoE", [x, scores, fc1, b1, fc2, b2],
                 {"activation_type": activation, "k": k}, constants=weights)
    case("MoE normalized", "MoE", [x, scores, fc1, b1, fc2, b2], {"k": 2, "normalize_routing_weights": 1},
         constants=weights)
    case("MoE rank 3, open", "MoE", [x.reshape(1, 7, 8), scores, fc1, None, fc2, None], {"k": 2}, constants=weights,
         dynamic={0: (0, 1), 1: (0,)})
    gates, gate_bias = real(count, 2 * inner, hidden), real(count, 2 * inner)
    gated = {"activation_type": "swiglu", "k": 2, "activation_alpha": 1.702, "activation_beta": 1.0,
             "swiglu_limit": 1.5}
    case("MoE swiglu interleaved", "MoE", [x, scores, gates, gate_bias, fc2, b2], {**gated, "swiglu_fusion": 1},
         constants=weights)

    def unit(g, u):
        return silu(np.minimum(g, 1.5), 1.702) * (np.clip(u, -1.5, 1.5) + 1)

    def halves(e, v):
        y = v @ gates[e].T + gate_bias[e]
        return unit(y[:, :inner], y[:, inner:]) @ fc2[e].T + b2[e]

    case("MoE swiglu halves", "MoE", [x, scores, gates, gate_bias, fc2, b2], {**gated, "swiglu_fusion": 2},
         constants=weights, formula=lambda *a: expert_mix(x, scores, 2, halves))
    case("MoE swiglu apart", "MoE",
         [x, scores, gates[:, :inner].copy(), gate_bias[:, :inner].copy(), fc2, b2, gates[:, inner:].copy(),
          gate_bias[:, inner:].copy()], gated, constants=weights,
         formula=lambda *a: expert_mix(x, scores, 2, halves))
    case("MoE relu2", "MoE", [x, scores, fc1, b1, fc2, b2], {"activation_type": "relu2"}, constants=weights,
         formula=lambda *a: expert_mix(x, scores, 1, lambda e, v: np.maximum(v @ fc1[e].T + b1[e], 0)**2 @ fc2[e].T
                                       + b2[e]))
    apart = np.array([[5, 1, 0, -1], [1, 5, 0.9, -1], [0, 1, 5, -2], [5, 4.97, 1, 0]], np.float32)

    def mixer(scores):
        y = np.zeros_like(scores, np.float64)
        for t, s in enumerate(scores.astype(np.float64)):
            left = s.copy()
            for _ in range(2):
                high = left.max()
                near = (high - s) / np.maximum(np.abs(s), high) <= 0.02
                best = left.argmax()
                y[t, best] = softmax(np.where(near, left, -np.inf))[best]
                left[best] = -np.inf
        return y

    def mixed(v, s, *_):
        every = np.stack([np.maximum(v @ fc1[e].T + b1[e], 0) @ fc2[e].T + b2[e] for e in range(count)], 1)
        return (every * mixer(s)[:, :, None]).sum(1).astype(np.float32)

    case("MoE sparse mixer", "MoE", [x[:4], apart, fc1, b1, fc2, b2], {"k": 2, "use_sparse_mixer": 1},
         constants=weights, formula=mixed)

    # QMoE: integers in blocks or rows
    h, n = 64, 32
    rows, wide = real(5, h) * 0.3, real(5, count)

    def quantized(bits, block, n, k, zeros):
        q = r.integers(0, 1 << bits, (count, n, k))
        scale = (r.uniform(0.01, 0.05, (count, n, k // block)) if block else r.uniform(0.01, 0.05, (count, n)))
        zero = r.integers(1, (1 << bits) - 1, scale.shape) if zeros else None
        return packed(q, bits), scale.astype(np.float32), None if zero is None else packed(zero, bits), (q, zero)

    def dense(scale, parts, bits, block):
        q, zero = parts
        zero = np.full(scale.shape, 1 << (bits - 1)) if zero is None else zero
        if not block:
            return (q - zero[..., None]) * scale[..., None]
        return (q - np.repeat(zero, block, 2)) * np.repeat(scale, block, 2)

    for bits, block, zeros, judged in ((4, 0, False, True), (8, 0, False, True), (4, 32, False, True),
                                       (4, 32, True, True), (8, 32, True, False), (2, 0, False, False),
                                       (4, 0, True, False), (3, 32, False, False)):
        w1, s1, z1, p1 = quantized(bits, block, n, h, zeros)
        w2, s2, z2, p2 = quantized(bits, block, h, n, zeros)
        a = {"expert_weight_bits": bits, "k": 2, "activation_type": "silu", "normalize_routing_weights": 1}
        if block:
            a["block_size"] = block
        if bits == 3:
            a["weights_prepacked"] = 0

        def formula(*_, s1=s1, p1=p1, s2=s2, p2=p2, bits=bits, block=block):
            d1, d2 = dense(s1, p1, bits, block), dense(s2, p2, bits, block)
            return expert_mix(rows, wide, 2, lambda e, v: silu(v @ d1[e].T) @ d2[e].T, normalize=True)

        inputs = [rows, wide, w1, s1, None, w2, s2, None, None, None, None]
        if zeros:
            inputs += [z1, z2]
        case(f"QMoE bits={bits} block={block} zeros={zeros}", "QMoE", inputs, a,
             constants=(2, 3, 5, 6, 11, 12), formula=None if judged else formula, tolerance=2e-3)

    own = np.abs(real(5, count)) + 0.1
    w1, s1, _, p1 = quantized(4, 0, n, h, False)
    w2, s2, _, p2 = quantized(4, 0, h, n, False)
    d1, d2 = dense(s1, p1, 4, 0), dense(s2, p2, 4, 0)
    case("QMoE weights of their own", "QMoE",
         [rows, wide, w1, s1, None, w2, s2] + [None] * 7 + [own], {"k": 2, "activation_type": "silu"},
         constants=(2, 3, 5, 6),
         formula=lambda *_: expert_mix(rows, wide, 2, lambda e, v: silu(v @ d1[e].T) @ d2[e].T, own))
    case("MoEGroupRouter", "MoEGroupRouter", [real(3, 5, 8), real(8)],
         {"top_k": 2, "n_group": 4, "topk_group": 2, "group_topk": 2})
    case("MoEGroupRouter one group", "MoEGroupRouter", [real(6, 8), real(8)], {"top_k": 3})
    case("RouterGateUpProj", "RouterGateUpProj", [real(3, 6), real(6, 2 + 8)], {"router_size": 2}, outputs=2,
         formula=lambda v, w: ((v @ w)[:, :2], silu((v @ w)[:, 2:6]) * (v @ w)[:, 6:]))

    # MatMulNBits: groups of columns in any order, every number of bits, every form of zero points
    k, n, block = 64, 6, 16
    v = real(3, k)
    order = np.repeat(np.arange(4), 16).astype(np.int32)
    r.shuffle(order)

    def bits_case(name, bits, zero=None, group=None, **more):
        q = r.integers(0, 1 << bits, (n, k // block, block))
        scale = r.uniform(0.01, 0.1, (n, k // block)).astype(np.float32)
        points, stored = np.full((n, k // block), float(1 << (bits - 1))), None
        if zero == "packed":
            points = r.integers(0, 1 << bits, points.shape)
            stored = packed(points, bits).reshape(-1)
        elif zero == "real":
            points = r.uniform(0, 1 << bits, points.shape)
            stored = points.astype(np.float32).reshape(-1)
        which = np.arange(k) // block if group is None else group

        def formula(a, *_):
            w = (q.reshape(n, k) - points[:, which]) * scale[:, which]
            return (a.astype(np.float64) @ w.T).astype(np.float32)

        case(f"MatMulNBits {name}", "MatMulNBits", [v, packed(q, bits), scale.reshape(-1), stored, group],
             {"K": k, "N": n, "bits": bits, "block_size": block}, constants=(1, 2, 3, 4), formula=formula, **more)

    for bits in (2, 3, 4, 5, 8):
        bits_case(f"bits={bits}", bits)
        bits_case(f"bits={bits} zero points", bits, "packed")
    bits_case("real zero points", 4, "real")
    bits_case("groups", 4, None, order)
    bits_case("groups, zero points", 4, "packed", order)
    ask = {"K": k, "N": n, "bits": 4, "block_size": block}
    case("MatMulNBits groups, judged", "MatMulNBits",
         [v, packed(r.integers(0, 16, (n, 4, block)), 4), r.uniform(0.01, 0.1, n * 4).astype(np.float32), None, order],
         ask, constants=(1, 2, 3, 4))

    def few(rows, columns, bits=4, size=32):
        q = r.integers(0, 1 << bits, (rows, -(-columns // size) * size))
        scale = r.uniform(0.01, 0.1, (rows, q.shape[1] // size)).astype(np.float32)
        w = (q - (1 << (bits - 1))) * np.repeat(scale, size, 1)
        return packed(q.reshape(rows, -1, size), bits), scale.reshape(-1), w[:, :columns]

    (g, gs, gw), (u, us, uw), (o, os, ow) = few(6, k), few(6, k), few(10, k)
    norm, skip = real(k), real(3, k)

    def rms(t):
        return t / np.sqrt((t.astype(np.float64)**2).mean(-1, keepdims=True) + 1e-5) * norm

    case("MatMulNBitsMlp", "MatMulNBitsMlp", [v, skip, norm, g, gs, None, u, us, real(6)],
         {"K": k, "N": 6, "bits": 4, "block_size": 32, "activation": "silu"}, outputs=2, constants=(2, 3, 4, 6, 7, 8),
         formula=lambda *a: ((silu(rms(v + skip) @ gw.T) * (rms(v + skip) @ uw.T + a[8])).astype(np.float32), v + skip))
    case("MatMulNBitsQkv", "MatMulNBitsQkv", [v, None, norm, o, os, None, g, gs, None, u, us, None],
         {"K": k, "Nq": 10, "Nkv": 6, "bits": 4, "block_size": 32, "epsilon": 1e-5}, outputs=3,
         constants=(2, 3, 4, 6, 7, 9, 10),
         formula=lambda *a: tuple((rms(v) @ w.T).astype(np.float32) for w in (ow, gw, uw)))
    (down, ds, dw), (up, ups, upw) = few(5, k, 8), few(6, 5, 8)
    case("MatMulNBitsQLoRA", "MatMulNBitsQLoRA", [v, g, gs, down, ds, up, ups], {"K": k, "N": 6},
         constants=tuple(range(1, 7)), formula=lambda *a: (v @ gw.T + v @ dw.T @ upw.T).astype(np.float32))
    import ml_dtypes

    eight = real(6, 40).astype(ml_dtypes.float8_e4m3fn)
    scale = r.uniform(0.1, 1, (6, 3)).astype(np.float32)
    spread = np.repeat(scale, 16, 1)[:, :40]
    case("MatMulBlockQuantizedFp8Weight", "MatMulBlockQuantizedFp8Weight",
         [real(3, 40).astype(np.float16), eight, scale], {"block_size": 16}, constants=(1, 2),
         formula=lambda a, w, s: (a.astype(np.float64) @ (w.astype(np.float64) * spread).T).astype(np.float16),
         tolerance=1e-3)
    nibbles = r.integers(0, 16, (6, 32))
    bytes_of = r.uniform(0.1, 2, (6, 2)).astype(ml_dtypes.float8_e4m3fn)
    case("MatMulBlockQuantizedFp4Weight", "MatMulBlockQuantizedFp4Weight",
         [real(3, 32).astype(np.float16), packed(nibbles, 4), bytes_of.view(np.uint8), np.array(0.5, np.float32)],
         constants=(1, 2, 3), tolerance=1e-3,
         formula=lambda a, *_: (a.astype(np.float64) @ (FP4[nibbles] * np.repeat(bytes_of.astype(np.float64), 16, 1)
                                                        * 0.5).T).astype(np.float16))
    for kind, size, points in ((0, 32, False), (1, 32, True), (2, 32, True)):
        deep = 70
        blocks = -(-deep // size)
        blob = b""
        for _ in range(n * blocks):
            blob += np.float32(r.uniform(0.01, 0.1)).tobytes()
            if points:
                blob += bytes([int(r.integers(0, 16))])
            blob += r.integers(0, 256, size // 2, dtype=np.uint8).tobytes()
        case(f"MatMulFpQ4 {kind}", "MatMulFpQ4", [real(3, deep), np.frombuffer(blob, np.uint8), np.array([deep, n], np.int64)],
             {"blk_quant_type": kind}, constants=(1, 2))
    return all_cases
