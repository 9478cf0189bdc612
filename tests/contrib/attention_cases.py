"""Attention and what comes with it."""

import numpy as np
from harness import Case


def softmax(v):
    e = np.exp(v - v.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def multi_head(q, k, v):
    """[B, S, H, D] each."""
    q, k, v = (t.transpose(0, 2, 1, 3) for t in (q, k, v))
    y = softmax(q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1])) @ v
    return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1).astype(np.float32)


def position_bias(table, queries, keys, both, furthest):
    buckets = table.shape[0] // 2 if both else table.shape[0]
    exact = buckets // 2
    ahead = np.arange(keys)[None] - np.arange(queries)[:, None]
    start = (ahead > 0) * buckets if both else 0
    distance = np.abs(ahead) if both else np.maximum(-ahead, 0)
    far = exact + (np.log(np.maximum(distance, 1) / exact) / np.log(furthest / exact) * (buckets - exact)).astype(int)
    bucket = start + np.where(distance < exact, distance, np.minimum(far, buckets - 1))
    return table[bucket].transpose(2, 0, 1)[None]


def cases():
    r = np.random.default_rng(2)
    all_cases = []

    def case(name, op, inputs, attributes=None, **more):
        all_cases.append(Case(name, op, inputs, attributes, **more))

    def real(*shape):
        return r.standard_normal(shape).astype(np.float32)

    batch, tokens, heads, size = 2, 5, 3, 8
    hidden = heads * size
    x, w, bias = real(batch, tokens, 12), real(12, 3 * hidden) * 0.3, real(3 * hidden)
    ends = np.array([3, 5], np.int32)
    keys_mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    base = {"num_heads": heads}

    def attention(name, inputs, attributes=None, **more):
        case(f"Attention {name}", "Attention", inputs, {**base, **(attributes or {})}, constants=(1, 2), **more)

    dynamic = {0: (0, 1)}
    attention("plain", [x, w, bias], dynamic=dynamic)
    attention("without bias", [x, w])
    attention("lengths", [x, w, bias, ends])
    attention("ends and starts", [x, w, bias, np.concatenate([ends, np.array([1, 0], np.int32)])])
    attention("mask of keys", [x, w, bias, keys_mask], dynamic={0: (0, 1), 3: (0, 1)})
    attention("mask of pairs", [x, w, bias, r.integers(0, 2, (batch, tokens, tokens)).astype(np.int32)])
    attention("unidirectional", [x, w, bias], {"unidirectional": 1}, dynamic=dynamic)
    attention("unidirectional, mask", [x, w, bias, keys_mask], {"unidirectional": 1})
    attention("scale, filter", [x, w, bias, keys_mask], {"scale": 0.2, "mask_filter_value": -5.0})
    past = real(2, batch, heads, 4, size)
    attention("past", [x, w, bias, None, past], outputs=2)
    attention("past, unidirectional", [x, w, bias, None, past], {"unidirectional": 1}, outputs=2,
              dynamic={0: (0, 1), 4: (1, 3)})
    attention("past, mask", [x, w, bias, np.ones((batch, 9), np.int32), past], outputs=2)
    attention("present alone", [x, w, bias], outputs=2)
    attention("bias of scores", [x, w, bias, None, None, real(batch, heads, tokens, tokens)])
    attention("bias of scores, broadcast", [x, w, bias, None, None, real(1, 1, tokens, tokens)])
    sizes = [hidden, hidden, 2 * hidden]
    attention("sizes", [x, real(12, sum(sizes)) * 0.3, real(sum(sizes))], {"qkv_hidden_sizes": sizes})

    def q8(*shape):
        return r.integers(0, 256, shape, dtype=np.uint8)

    scalar = np.array(0.02, np.float32)
    case("QAttention", "QAttention",
         [q8(batch, tokens, 12), r.integers(-128, 128, (12, 3 * hidden)).astype(np.int8), bias, scalar,
          np.array(0.01, np.float32), keys_mask, np.array(120, np.uint8), np.array(0, np.int8)], base,
         constants=(1, 2, 3, 4, 6, 7))

    # MultiHeadAttention
    q, k, v = real(batch, tokens, hidden), real(batch, 7, hidden), real(batch, 7, hidden)

    def multi(name, inputs, attributes=None, **more):
        case(f"MultiHeadAttention {name}", "MultiHeadAttention", inputs, {**base, **(attributes or {})}, **more)

    multi("plain", [q, k, v], dynamic={0: (0, 1), 1: (0, 1), 2: (0, 1)})
    multi("bias", [q, k, v, bias], constants=(3,))
    multi("wide values", [q, k, real(batch, 7, 2 * hidden)])
    multi("packed", [real(batch, tokens, heads, 3, size)],
          formula=lambda t: multi_head(t[:, :, :, 0], t[:, :, :, 1], t[:, :, :, 2]))
    multi("packed keys", [q, real(batch, 7, heads, 2, size)],
          formula=lambda a, t: multi_head(a.reshape(batch, tokens, 3, 8), t[:, :, :, 0], t[:, :, :, 1]))
    multi("keys of another sequence", [q, real(batch, heads, 7, size), real(batch, heads, 7, size)],
          dynamic={0: (0, 1), 1: (0, 1, 2), 2: (0, 1, 2)})
    multi("key lengths", [q, k, v, None, np.array([4, 7], np.int32)], dynamic={0: (0, 1), 4: (0,)})
    multi("key mask", [q, k, v, None, r.integers(0, 2, (batch, 7)).astype(np.int32)])
    multi("bias of scores", [q, k, v, None, None, real(batch, heads, tokens, 7)])
    multi("scale", [q, k, v], {"scale": 0.1})
    own = real(batch, tokens, hidden)
    old = [real(batch, heads, 4, size), real(batch, heads, 4, size)]
    multi("past", [q, own, own * 2, None, None, None, *old], outputs=3, dynamic={6: (2,), 7: (2,)})
    multi("past, unidirectional", [q, own, own * 2, None, None, None, *old], {"unidirectional": 1}, outputs=3)
    multi("unidirectional", [q, own, own * 2], {"unidirectional": 1})
    multi("bias and mask", [q, own, own * 2, bias, keys_mask], outputs=3)

    token = real(batch, 1, hidden)

    def with_past(q, k, v, m, a, old_k, old_v, l, w, i, d):
        q, k, v = ((t + d[n * 24:n * 24 + 24]).reshape(2, 1, 3, 8) for n, t in enumerate((q, k, v)))
        k, v = np.concatenate([old_k, k.swapaxes(1, 2)], 2), np.concatenate([old_v, v.swapaxes(1, 2)], 2)
        return multi_head(q, k.swapaxes(1, 2), v.swapaxes(1, 2)), k, v

    case("DecoderMaskedMultiHeadAttention", "DecoderMaskedMultiHeadAttention",
         [token, token * 2, token * 3, None, None, *old, None, None, None, bias], {"num_heads": heads}, outputs=3,
         formula=with_past)

    # Buffers of fixed room, of which `been` tokens are filled.
    room, been = 9, 4
    buffer = [real(batch, heads, room, size), real(batch, heads, room, size)]

    def filled(results):
        return [results[0], *(v[:, :, :been + 1] for v in results[1:])]

    buffered = [token, token * 2, token * 3, None, None, *buffer, np.array([been], np.int32)]
    case("DecoderMaskedMultiHeadAttention buffers", "DecoderMaskedMultiHeadAttention", buffered,
         {"num_heads": heads, "past_present_share_buffer": 1}, outputs=3, compare=filled, shared={1: 5, 2: 6},
         constants=(7,))
    lines = r.integers(0, 2, (1, 2, room)).astype(np.int32)
    case("DecoderMaskedMultiHeadAttention beams", "DecoderMaskedMultiHeadAttention",
         [*buffered, np.array([2], np.int32), lines], {"num_heads": heads, "past_present_share_buffer": 1}, outputs=3,
         compare=filled, shared={1: 5, 2: 6}, constants=(7, 8))
    whole = real(2, batch, heads, room, size)

    def in_buffer(t, m, d, mask, past, _, length):
        q, k, v = (heads_first(x) for x in np.split(t @ m + d, 3, -1))
        k, v = (np.concatenate([past[n][:, :, :been], x], 2) for n, x in enumerate((k, v)))
        y = multi_head(*(x.transpose(0, 2, 1, 3) for x in (q, k, v)))
        return y, np.stack([k, v])

    def heads_first(v, count=heads):
        return v.reshape(*v.shape[:2], count, -1).transpose(0, 2, 1, 3)

    one = real(batch, 1, 12)
    for name in ("Attention buffers", "Attention buffers, mask"):
        case(name, "Attention",
             [one, w, bias, np.ones((batch, been + 1), np.int32) if "mask" in name else None, whole, None,
              np.array([been], np.int32)], {"num_heads": heads, "past_present_share_buffer": 1}, outputs=2,
             constants=(1, 2), compare=lambda v: [v[0], v[1][:, :, :, :been + 1]], formula=in_buffer)
    case("DecoderMaskedSelfAttention", "DecoderMaskedSelfAttention",
         [one, w, bias, None, whole[:, :, :, :been].copy(), None, np.array([been], np.int32)], {"num_heads": heads},
         outputs=2, constants=(1, 2), formula=in_buffer)

    def turned(v):
        angle = np.arange(v.shape[2])[:, None] / 10000**(np.arange(0, v.shape[3], 2) / v.shape[3])
        a, b = np.split(v, 2, -1)
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    def rotary(t, m, d):
        q, k, v = (heads_first(a) for a in np.split(t @ m + d, 3, -1))
        return multi_head(*(a.transpose(0, 2, 1, 3) for a in (turned(q), turned(k), v)))

    case("Attention rotary", "Attention", [x, w, bias], {"num_heads": heads, "do_rotary": 1}, constants=(1, 2),
         formula=rotary)
    lengths = np.concatenate([ends, np.array([0, 5, 10], np.int32), np.array([0, 5, 10], np.int32)])
    case("Attention cumulated lengths", "Attention", [x, w, bias, lengths], {"num_heads": heads}, constants=(1, 2))

    # GroupQueryAttention
    heads, kv, size = 4, 2, 16
    base = {"num_heads": heads, "kv_num_heads": kv}
    angles = np.arange(32)[:, None] / 10 ** (np.arange(size // 2) / 4)
    cosine, sine = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def integers(*values):
        return np.array(values, np.int32)

    def group(name, new, past, lengths, total, attributes=None, more=(), packed=False, room=None,
              batch=2, shown=False, **options):
        room = past if room is None else room
        query = real(batch, new, heads * size)
        key, value = real(batch, new, kv * size), real(batch, new, kv * size)
        new_values = [np.concatenate([query, key, value], 2), None, None] if packed else [query, key, value]
        old_values = [real(batch, kv, room, size), real(batch, kv, room, size)]
        inputs = [*new_values, *old_values, integers(*lengths), np.array(total, np.int32), *more]

        # What lies behind the valid tokens is left open.
        def valid(results):
            y, *present = results[:3]
            for b, n in enumerate(lengths):
                for p in present:
                    p = p.copy()
                kept = min(n + 1, total)
                present = [np.concatenate([p[:b], np.where(np.arange(p.shape[2])[:, None] < kept, p[b:b + 1], 0),
                                           p[b + 1:]]) for p in present]
                if past == 0:
                    y = np.concatenate([y[:b], np.where(np.arange(new)[:, None] < kept, y[b:b + 1], 0), y[b + 1:]])
            return [y, *present, *results[3:]]

        case(f"GroupQueryAttention {name}", "GroupQueryAttention", inputs, {**base, **(attributes or {})},
             outputs=4 if shown else 3, compare=valid, constants=options.pop("constants", (6,)), **options)

    rotary = {"do_rotary": 1}
    caches = (cosine, sine)
    group("prompt", 6, 0, (5, 5), 6)
    group("prompt, room", 6, 0, (5, 5), 6, room=10)
    group("prompt, short entries", 6, 0, (3, 5), 6, room=6)
    group("packed", 6, 0, (5, 5), 6, packed=True)
    group("token", 1, 7, (7, 7), 8)
    group("token, total as an input", 1, 7, (7, 7), 8, constants=())
    group("token, open extents", 1, 7, (7, 7), 8, dynamic={0: (0, 1), 1: (0, 1), 2: (0, 1), 3: (0, 2), 4: (0, 2)},
          constants=())
    group("token, room", 1, 7, (7, 7), 8, room=12)
    group("token, entries differ", 1, 7, (4, 7), 8, room=12)
    group("token, rotary", 1, 7, (4, 7), 8, rotary, caches, room=12)
    group("prompt, rotary", 6, 0, (5, 5), 6, rotary, caches)
    group("prompt, rotary, interleaved", 6, 0, (5, 5), 6, {**rotary, "rotary_interleaved": 1}, caches, packed=True)
    group("prompt, window", 6, 0, (5, 5), 6, {"local_window_size": 3})
    group("token, window", 1, 7, (7, 7), 8, {"local_window_size": 3})
    group("softcap", 6, 0, (5, 5), 6, {"softcap": 2.0})
    group("scale", 6, 0, (5, 5), 6, {"scale": 0.5})
    group("smooth softmax", 6, 0, (5, 5), 6, {"smooth_softmax": 1})
    group("sink", 6, 0, (5, 5), 6, more=(None, None, None, None, real(heads)))
    group("bias of scores", 6, 0, (5, 5), 6, more=(None, None, None, real(batch, heads, 6, 6)))
    group("bias of scores, softcap", 6, 0, (5, 5), 6, {"softcap": 2.0},
          more=(None, None, None, real(1, 1, 6, 6)), dynamic={0: (0, 1), 10: (0, 1, 2, 3)})
    group("several tokens after others", 3, 5, (7,), 8, batch=1)
    group("several tokens after others, room, rotary", 3, 5, (7,), 8, rotary, caches, batch=1, room=9)
    group("token of one entry, room, rotary", 1, 7, (7,), 8, rotary, caches, batch=1, room=12)
    places = np.broadcast_to(np.arange(6, dtype=np.int64), (batch, 6)).copy()
    group("position_ids", 6, 0, (5, 5), 6, rotary, (*caches, places))

    group("scores shown", 6, 0, (5, 5), 6, {"qk_output": 1, "softcap": 2.0}, shown=True)
    group("weights shown", 6, 0, (5, 5), 6, {"qk_output": 2}, shown=True)
    for width, dtype in ((8, np.int8), (4, np.uint8)):
        for per, scale in (("TENSOR", np.array([0.02], np.float32)),
                           ("CHANNEL", r.uniform(0.01, 0.04, (kv, 1, size)).astype(np.float32))):
            bytes_of = size * width // 8
            caches_of = [r.integers(*((-128, 128) if width == 8 else (0, 256)), (2, kv, 5, bytes_of)).astype(dtype)
                         for _ in range(2)]
            case(f"GroupQueryAttention cache of {width} bits per {per}", "GroupQueryAttention",
                 [real(2, 1, heads * size), real(2, 1, kv * size), real(2, 1, kv * size), *caches_of, integers(5, 5),
                  np.array(6, np.int32), *[None] * 5, scale, scale],
                 {**base, "k_quant_type": f"PER_{per}", "v_quant_type": f"PER_{per}", "kv_cache_bit_width": width},
                 outputs=3, constants=(12, 13), tolerance=2e-3)

    def rows_that_count(results):
        y, k, v = (t.copy() for t in results)
        y[1, 2:] = 0
        return [y, k[:, :, :5], v[:, :, :5]]

    case("GroupQueryAttention query_seqlens", "GroupQueryAttention",
         [real(2, 3, heads * size), real(2, 3, kv * size), real(2, 3, kv * size), real(2, kv, 8, size),
          real(2, kv, 8, size), integers(4, 5), np.array(8, np.int32), *[None] * 9, integers(3, 2)], base, outputs=3,
         compare=rows_that_count)

    # RotaryEmbedding
    for interleaved in (0, 1):
        a = {"interleaved": interleaved}
        case(f"RotaryEmbedding rank 3 interleaved={interleaved}", "RotaryEmbedding",
             [real(2, 5, 3 * size), np.array([2], np.int64), cosine, sine], a, dynamic={0: (0, 1)}, constants=(2, 3))
        case(f"RotaryEmbedding rank 4 interleaved={interleaved}", "RotaryEmbedding",
             [real(2, 3, 5, size), r.integers(0, 32, (2, 5)), cosine, sine], a)
    case("RotaryEmbedding part of the head", "RotaryEmbedding",
         [real(2, 5, 3 * 24), r.integers(0, 32, (2, 5)), cosine, sine], {"num_heads": 3, "rotary_embedding_dim": size})

    # RelativePositionBias
    for both in (0, 1):
        case(f"RelativePositionBias both={both}", "RelativePositionBias",
             [real(16, 3), np.array([20], np.int64), np.array([20], np.int64)],
             {"max_distance": 12, "is_bidirectional": both}, constants=(1, 2),
             formula=lambda t, q, k, b=both: position_bias(t, 20, 20, b, 12))

    def gated(query, query_bias, positions, weight, bias, eco):
        b, s, _ = query.shape
        q = (query + query_bias).reshape(b, s, 3, 8).transpose(0, 2, 1, 3)
        gates = (q @ weight + bias).reshape(b, 3, s, 2, 4).sum(-1)
        u, g = np.split(1 / (1 + np.exp(-gates)), 2, -1)
        return (u * (g * eco - 1) + 2) * positions

    case("GatedRelativePositionBias", "GatedRelativePositionBias",
         [real(2, 5, 24), real(24), real(1, 3, 5, 5), real(8, 8), real(8), real(1, 3, 1, 1)], {"num_heads": 3},
         formula=gated)

    # EmbedLayerNormalization
    words, places, kinds = real(20, 16), real(9, 16), real(2, 16)
    ids = r.integers(0, 20, (2, 5)).astype(np.int32)
    which = r.integers(0, 2, (2, 5)).astype(np.int32)
    gamma, beta = real(16), real(16)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    tables = (2, 3, 4, 5, 6)
    case("EmbedLayerNormalization", "EmbedLayerNormalization", [ids, which, words, places, kinds, gamma, beta, mask],
         outputs=2, constants=tables, dynamic={0: (0, 1), 1: (0, 1), 7: (0, 1)})
    case("EmbedLayerNormalization no mask, sum", "EmbedLayerNormalization",
         [ids, which, words, places, kinds, gamma, beta], outputs=3, constants=tables)
    case("EmbedLayerNormalization no segments, positions", "EmbedLayerNormalization",
         [ids, None, words, places, None, gamma, beta, None, np.broadcast_to(np.array([4, 2, 0, 1, 3], np.int32),
                                                                           (2, 5)).copy()],
         {"epsilon": 1e-5}, outputs=2, constants=tables)

    def table(*shape):
        return r.integers(0, 256, shape, dtype=np.uint8)

    scales = [np.array(v, np.float32) for v in (0.02, 0.03, 0.01, 0.015, 0.012)]
    zeros = [np.array(v, np.uint8) for v in (120, 128, 130, 100, 90)]
    case("QEmbedLayerNormalization", "QEmbedLayerNormalization",
         [ids, which, table(20, 16), table(9, 16), table(2, 16), table(16), table(16), mask, *scales, *zeros],
         outputs=2, constants=(2, 3, 4, 5, 6, *range(8, 18)))
    a = {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "gated_delta"}
    case("LinearAttention", "LinearAttention",
         [real(2, 5, 8), real(2, 5, 8) * 0.3, real(2, 5, 12), real(2, 2, 4, 6), -abs(real(2, 5, 2)),
          r.uniform(0, 1, (2, 5, 2)).astype(np.float32)], a, outputs=2)
    case("CausalConvWithState", "CausalConvWithState", [real(2, 3, 6), real(3, 1, 4), real(3), real(2, 3, 3)],
         {"activation": "silu"}, outputs=2)

    # Sequences of 3 and 5 tokens without padding.
    offsets = np.array([[0, 1, 2, 5, 6], [7, 8, 9, 3, 4]], np.int32)
    marks = np.array([0, 3, 8], np.int32)

    def packed(q, k, v):
        return np.concatenate([multi_head(*(t[None, a:z].reshape(1, z - a, 3, 8) for t in (q, k, v)))[0]
                               for a, z in ((0, 3), (3, 8))])

    case("PackedAttention", "PackedAttention", [real(8, 12), w[:, :72], bias, offsets, marks], {"num_heads": 3},
         constants=(1, 2), formula=lambda t, m, d, o, s: packed(*np.split(t @ m + d, 3, 1)))
    case("PackedMultiHeadAttention", "PackedMultiHeadAttention",
         [real(8, 24), real(8, 24), real(8, 24), bias, offsets, marks], {"num_heads": 3},
         formula=lambda q, k, v, d, o, s: packed(q + d[:24], k + d[24:48], v + d[48:]))
    case("PackedMultiHeadAttention together", "PackedMultiHeadAttention",
         [real(8, 3, 3, 8), None, None, None, offsets, marks], {"num_heads": 3},
         formula=lambda t, k, v, d, o, s: packed(*(t[:, :, i].reshape(8, 24) for i in range(3))))
    case("RemovePadding", "RemovePadding", [real(2, 5, 4), np.array([3, 5], np.int32)], outputs=4,
         formula=lambda t, n: (np.concatenate([t[0, :3], t[1]]),
                               np.array([[0, 1, 2, 5, 6], [7, 8, 9, 3, 4]], np.int32), marks,
                               np.array([5], np.int32)))
    case("RestorePadding", "RestorePadding", [real(8, 4), offsets],
         formula=lambda t, o: np.concatenate([t[:3], np.zeros((2, 4), np.float32), t[3:]]).reshape(2, 5, 4))

    # Half precision: what is computed must not be rounded more often than the judge's.
    named = {c.name: c for c in all_cases}
    for name in ("MultiHeadAttention past", "GroupQueryAttention token, rotary", "RotaryEmbedding rank 3 interleaved=0"):
        c = named[name]
        halves = [v.astype(np.float16) if v is not None and v.dtype == np.float32 else v for v in c.inputs]
        all_cases.append(Case(name + " f16", c.op, halves, c.attributes, c.outputs, c.constants, 3e-3,
                              compare=c.compare))
    return all_cases
