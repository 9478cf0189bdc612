"""What decoders do with tokens, and sequences of different lengths packed into one."""

import numpy as np
from harness import Case


def paged(table, past, heads, kv_heads, causal=True, window=-1, sink=None, softcap=0.0, angles=None, slots=None,
          values=None):
    """PagedAttention, one token at a time. values: the leading channels of a cache for both."""

    def run(q, k, v, keys, worths, ends, *_):
        q, keys = q.reshape(len(q), heads, -1).astype(np.float64), keys.astype(np.float64)
        k = k.reshape(len(k), kv_heads, -1).astype(np.float64)
        worths = keys if v is None else worths.astype(np.float64)
        size = keys.shape[1]

        def turned(x, at):
            if angles is None:
                return x
            half = angles[0].shape[1]
            a, b = x[..., :half], x[..., half:]
            cosine, sine = angles[0][at], angles[1][at]
            return np.concatenate([a * cosine - b * sine, b * cosine + a * sine], -1)

        rows = [(b, t, past[b] + t - ends[b]) for b in range(len(past)) for t in range(ends[b], ends[b + 1])]
        for b, t, at in rows:
            q[t], k[t] = turned(q[t], at), turned(k[t], at)
            slot = table[b, at // size] * size + at % size if slots is None else slots[t]
            if slot >= 0:
                keys[slot // size, slot % size] = k[t]
                if v is not None:
                    worths[slot // size, slot % size] = v[t].reshape(kv_heads, -1)
        out = []
        for b, t, at in rows:
            total = past[b] + ends[b + 1] - ends[b]
            seen = [j for j in range(total) if (not causal or j <= at) and (window < 0 or j > at - window)]
            for h in range(heads):
                g = h * kv_heads // heads
                ks = np.array([keys[table[b, j // size], j % size, g] for j in seen])
                vs = np.array([worths[table[b, j // size], j % size, g] for j in seen])
                s = ks @ q[t, h] / np.sqrt(q.shape[-1])
                s = softcap * np.tanh(s / softcap) if softcap else s
                e = np.exp(s)
                out.append(e / (e.sum() + (0 if sink is None else np.exp(sink[h]))) @ vs[:, :values])
        y = np.array(out).reshape(len(q), -1).astype(np.float16)
        keys = keys.astype(np.float16)
        return (y, keys) if v is None else (y, keys, worths.astype(np.float16))

    return run


def chosen(heads, kv_heads, source, local, causal, window):
    """SparsePagedAttention, one token at a time."""

    def run(q, k, v, keys, worths, ends, past, table, _, indices, counts, *more):
        more = [*more, *[None] * (6 - len(more))]
        more_keys, more_worths, lengths, _, _, sink = more
        if more_worths is None:
            more_worths = more_keys
        caches = [keys.copy(), worths.copy()]
        size, each = keys.shape[1], keys.shape[3]
        tokens = [(b, t, past[b] + t - ends[b]) for b in range(len(past)) for t in range(ends[b], ends[b + 1])]
        for b, t, at in tokens:
            for cache, new in zip(caches, (k, v)):
                cache[table[b, at // size], at % size] = new[t].reshape(kv_heads, -1)
        out = np.zeros((len(q), heads, each))
        for b, t, at in tokens:
            total = past[b] + ends[b + 1] - ends[b]
            picked = [int(j) for j in indices[t, :counts[t]]]
            for h in range(heads):
                g, rows = h * kv_heads // heads, []
                for j in range(total):
                    allowed = (not causal or j <= at) and (not local or window < 0 or j > at - window)
                    if allowed and (local or source == "main" and j in picked):
                        rows.append([cache[table[b, j // size], j % size, g] for cache in caches])
                if source == "auxiliary":
                    rows += [[more_keys[b, j, 0], more_worths[b, j, 0]] for j in picked if 0 <= j < lengths[b]]
                if not rows:
                    continue
                ks, vs = (np.array(x, np.float64) for x in zip(*rows))
                e = np.exp(ks @ q[t].astype(np.float64).reshape(heads, -1)[h] / np.sqrt(each))
                out[t, h] = e / (e.sum() + (0 if sink is None else np.exp(float(sink[h])))) @ vs
        return (out.reshape(len(q), -1).astype(np.float16), *caches)

    return run


def cases():
    r = np.random.default_rng(21)
    all_cases = []

    def case(name, inputs, attributes=None, outputs=1, **more):
        all_cases.append(Case(name, name.split()[0], inputs, attributes, outputs, **more))

    def real(*shape):
        return r.standard_normal(shape).astype(np.float32)

    for rows, columns in ((1, 1), (1, 5), (4, 1), (5, 9), (13, 7)):
        case(f"DynamicTimeWarping {rows}x{columns}", [real(rows, columns)])
    case("DynamicTimeWarping batch", [real(1, 6, 8)], dynamic={0: (1, 2)})
    case("DynamicTimeWarping whole", [r.integers(0, 3, (9, 9)).astype(np.float32)])

    def tokens(*values):
        return np.array(values, np.int64)

    source = tokens(2, 3, 1, 4, 1, 5, 9, 2, 6)
    now = {"outputs": 2, "dynamic": {0: (0,), 1: (0,)}}
    case("BifurcationDetector first", [source, tokens(7, 1, 4), tokens(0), None], **now)
    case("BifurcationDetector twice", [source, tokens(7, 1), tokens(0), None], **now)
    case("BifurcationDetector none", [source, tokens(7), tokens(0), None], **now)
    case("BifurcationDetector short", [source, tokens(2), tokens(0), None], {"min_ngram_size": 2}, **now)
    case("BifurcationDetector long", [source, tokens(3, 1), tokens(0), None], {"min_ngram_size": 2, "max_ngram_size": 4},
         **now)
    for at in (0, 4, 9):
        for alike in (0, 2, 5):
            same = source[at:at + alike]
            predicted = np.concatenate([same, r.integers(10, 20, len(source) + 1 - at - len(same))])
            case(f"BifurcationDetector predicted {at} {alike}", [source, tokens(2, 3), tokens(at), predicted], outputs=2,
                 dynamic={0: (0,), 1: (0,), 3: (0,)})
    for k in range(4):
        case(f"BifurcationDetector random {k}", [r.integers(0, 4, 12), r.integers(0, 4, 5), tokens(0), None],
             {"min_ngram_size": 1 + k % 2, "max_ngram_size": 4}, outputs=2)

    # packed sequences
    ends = np.array([0, 3, 4, 9], np.int32)
    x, state = real(9, 6), real(3, 6, 3)
    case("VarlenCausalConvWithState", [x, real(6, 1, 4), ends, real(6), None, state][:4] + [state],
         {"activation": "silu"}, 2, dynamic={0: (0,), 2: (0,), 4: (0,)})
    case("VarlenCausalConvWithState dilation", [x, real(6, 1, 3), ends, None, real(3, 6, 4)], {"dilation": 2}, 2)
    case("VarlenCausalConvWithState captured", [x, real(6, 1, 4), ends, None, state, np.array([2, 5, 0], np.int32)],
         {"state_update_capacity": 4}, 3)
    ids = r.integers(0, 1000, 9).astype(np.int64)
    multipliers, sizes = np.array([31, 17, 101], np.int64), np.array([97, 89, 83, 79], np.int64)
    hashing = {"max_ngram_size": 3, "n_head_per_ngram": 2, "pad_id": 7}
    case("VarlenNGramHashMapping", [ids, multipliers, sizes, ends], hashing, 2, dynamic={0: (0,), 3: (0,)})
    past = r.integers(0, 1000, (3, 2)).astype(np.int64)
    case("VarlenNGramHashMapping past", [ids, multipliers, sizes, ends, past, np.arange(4) * 100], hashing, 2)
    ids[[1, 5]] = 11
    case("VarlenNGramHashMapping ends", [ids, multipliers, sizes, ends, past, None, np.array(11)],
         {**hashing, "reset_on_eos": 1}, 2)
    segments = np.array([0, 0, 1, 5, 2, 2, 3, 3, 3], np.int32)
    before = np.array([[0, 0], [4, 5], [1, 2]], np.int32)
    case("VarlenNGramHashMapping segments", [ids, multipliers, sizes, ends, past, None, None, segments, before], hashing,
         3)
    case("VarlenNGramHashMapping captured",
         [ids, multipliers, sizes, ends, past, None, None, None, None, np.array([2, 1, 9], np.int32)],
         {**hashing, "state_update_capacity": 3}, ["hashes", "present", "", "update"])
    def half(*shape):
        return real(*shape).astype(np.float16)

    table, past = np.array([[5, 2, 0], [1, -1, -1], [4, 3, 6]], np.int32), np.array([5, 0, 3], np.int32)
    caches = [half(7, 4, 2, 8), half(7, 4, 2, 8)]
    tokens_of = [half(9, 32), half(9, 16), half(9, 16)]
    shown = {"num_heads": 4, "kv_num_heads": 2}

    def attention(name, more=(), attributes=(), formula=(), first=tokens_of, stored=caches, outputs=3, heads=(4, 2), **how):
        inputs = [*first, *stored, ends, past, table, *more]
        while inputs[-1] is None:
            inputs.pop()
        case(f"PagedAttention {name}", inputs, {**shown, **dict(attributes)}, outputs, tolerance=2e-3,
             formula=paged(table, past, *heads, **dict(formula)), **how)

    attention("plain", dynamic={0: (0,), 1: (0,), 2: (0,), 3: (0,), 4: (0,), 5: (0,), 6: (0,), 7: (0, 1)})
    attention("both ways", attributes={"is_causal": 0, "softcap": 2.0}, formula={"causal": False, "softcap": 2.0})
    attention("window", attributes={"local_window_size": 3}, formula={"window": 3})
    turns = [np.cos(np.arange(48).reshape(12, 4)).astype(np.float16), np.sin(np.arange(48).reshape(12, 4)).astype(np.float16)]
    attention("rotary", turns, {"do_rotary": 1}, {"angles": [t.astype(np.float64) for t in turns]})
    narrow = [*tokens_of, *caches, ends, past, table[:, :1]]
    message = "node 'y0' (com.microsoft.PagedAttention): a sequence has more tokens, past and new, than the columns"
    for open_axes in ({}, {0: (0,), 3: (0,), 7: (0, 1)}):
        case(f"PagedAttention narrow {len(open_axes)}", narrow, shown, 3, dynamic=open_axes, refused=message)
    case("PagedAttention narrow and known", narrow, shown, 3, constants=range(8), refused=message)
    slots = np.array([21, -1, 8, 4, 19, 12, 13, 14, -1], np.int32)
    attention("slots", [None, None, slots], formula={"slots": slots})
    sink = half(4)
    attention("sink", [None, None, None, sink], formula={"sink": sink.astype(np.float64)})
    attention("latent", attributes={"kv_cache_layout": "LATENT", "kv_num_heads": 1, "v_head_size": 6},
              formula={"values": 6}, first=[half(9, 32), half(9, 8), None], stored=[half(7, 4, 1, 8), None], outputs=2,
              heads=(4, 1))
    for name, source, local, causal, sink, shared in (("main", "main", False, 1, None, False), ("not causal", "main", False, 0, None, False),
                                                     ("sink", "main", False, 1, half(4), False), ("auxiliary", "auxiliary", False, 1, None, False),
                                                     ("window", "auxiliary", True, 1, None, True), ("all seen", "auxiliary", True, 0, half(4), False)):
        counts = np.array([2, 0, 4, 1, 3, 4, 2, 4, 1], np.int32)
        extent = 6 if source == "auxiliary" else 8
        indices = np.full((9, 4), -1, np.int32)
        for t, count in enumerate(counts):
            indices[t, :count] = r.permutation(extent)[:count]
        indices[5, 0] = extent + 3  # beyond all: not read
        beside = [half(3, 6, 1, 8), None if shared else half(3, 6, 1, 8), np.array([6, 2, 5], np.int32)]
        inputs = [*tokens_of, *caches, ends, past, table, None, indices, counts,
                  *(beside if source == "auxiliary" else [None] * 3), None, None, sink]
        while inputs[-1] is None:
            inputs.pop()
        attributes = {**shown, "selected_kv_source": source, "is_causal": causal, "auxiliary_kv_shared": int(shared),
                      "attention_mode": "local_plus_selected" if local else "selected_only"}
        window = 3 if name == "window" else -1
        case(f"SparsePagedAttention {name}", inputs, {**attributes, "local_window_size": window}, 3, tolerance=2e-3,
             formula=chosen(4, 2, source, local, bool(causal), window),
             dynamic={0: (0,), 1: (0,), 2: (0,), 5: (0,), 6: (0,), 7: (0, 1), 9: (0, 1), 10: (0,)} if name == "main" else {})
    # an LSTM that reads a memory
    def lstm(name, direction="forward", layer=True, lengths=None, memory_lengths=None, states=False, peepholes=False,
             **attributes):
        count, steps, batch, size, hidden, depth, attention, read = 2 if direction == "bidirectional" else 1, 5, 3, 4, 6, 7, 5, 3
        seen = read if layer else depth
        inputs = [real(steps, batch, size), real(count, 4 * hidden, size + seen), real(count, 4 * hidden, hidden),
                  real(count, 8 * hidden), lengths, real(count, batch, hidden) if states else None,
                  real(count, batch, hidden) if states else None, real(count, 3 * hidden) if peepholes else None,
                  real(count, hidden, attention), real(count, depth, attention), real(count, attention),
                  real(batch, 8, depth), memory_lengths, real(count, depth + hidden, read) if layer else None]
        while inputs[-1] is None:
            inputs.pop()
        activations = ["sigmoid", "tanh", "tanh"] * count
        case(f"AttnLSTM {name}", inputs, {"direction": direction, "hidden_size": hidden, "activations": activations,
                                          **attributes}, 3)

    short, some = np.array([5, 2, 3], np.int32), np.array([8, 1, 4], np.int32)
    lstm("plain")
    lstm("context alone", layer=False)
    lstm("lengths", lengths=short, memory_lengths=some)
    lstm("backwards", "reverse", lengths=short, memory_lengths=some, states=True)
    lstm("both ways", "bidirectional", lengths=short, memory_lengths=some, states=True, peepholes=True)
    lstm("both ways whole", "bidirectional", layer=False, clip=2.0)
    case("CausalConvWithState dilation", [real(2, 6, 7), real(6, 1, 3), real(6), real(2, 6, 4)], {"dilation": 2}, 2)
    case("CausalConvWithState last", [real(2, 7, 2, 3), real(6, 1, 3), real(6), real(2, 2, 2, 3)],
         {"channels_last": 1, "activation": "silu"}, 2)
    return all_cases
