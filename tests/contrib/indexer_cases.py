"""SparseAttentionIndexer and the operators that replay states, beside formulas: ONNX Runtime has none of them on CPUs."""

import ml_dtypes
import numpy as np
from harness import Case


def normed(x, weight, epsilon=1e-6):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + epsilon) * weight


def table_row(table, b, at):
    rows = table if table.ndim == 2 else table[b]
    return rows[min(max(at, 0), len(rows) - 1)].astype(np.float64)


def ranked(scores, count):
    """Indices of the largest scores, ties by index."""
    return sorted(range(len(scores)), key=lambda e: (-scores[e], e))[:count]


def by_tokens(ratio, budget, size):
    def turned(x, cosine, sine):
        width = len(cosine)
        half, y = width // 2, x.copy()
        for i in range(half):
            y[i] = x[i] * cosine[i] - x[i + half] * sine[i]
            y[i + half] = x[i + half] * cosine[i + half] + x[i] * sine[i + half]
        return y

    def run(query, key, q_weight, k_weight, cos, sin, mask, past_key, *rest):
        valid = int(rest[-1][0]) if rest else past_key.shape[1]
        if key is None:
            query, key = query[..., :-size], query[..., -size:]
        batch, steps, _ = query.shape
        present = past_key.copy() if rest else np.concatenate([past_key, key], 1)
        present[:, valid:valid + steps] = key
        out = np.full((batch, steps, budget + ratio - 1), -1, np.int32)
        for b in range(batch):
            for s in range(steps):
                visible = [t for t in range(valid + s + 1) if mask is None or mask[b, t]]
                blocks = [visible[j:j + ratio] for j in range(0, len(visible) // ratio * ratio, ratio)]
                scores = []
                for block in blocks:
                    k = normed(present[b, block].astype(np.float64).mean(0), k_weight)
                    k = turned(k, table_row(cos, b, block[0]), table_row(sin, b, block[0]))
                    score = 0
                    for q in query[b, s].astype(np.float64).reshape(-1, size):
                        q = turned(normed(q, q_weight), table_row(cos, b, valid + s), table_row(sin, b, valid + s))
                        score += max(q @ k, 0)
                    scores.append(score / np.sqrt(size))
                chosen = [t for j in ranked(scores, budget // ratio) for t in blocks[j]]
                chosen += visible[len(blocks) * ratio:]
                out[b, s, :len(chosen)] = chosen
        return out, present

    return run


def by_entries(ratio, most, size):
    def turned(x, cosine, sine):
        y, start = x.copy(), size - 2 * len(cosine)
        for i in range(len(cosine)):
            a, b = x[start + 2 * i], x[start + 2 * i + 1]
            y[start + 2 * i], y[start + 2 * i + 1] = a * cosine[i] - b * sine[i], b * cosine[i] + a * sine[i]
        return y

    def run(query, key, q_weight, k_weight, cos, sin, _, past_key, gate, bias, head_weights, positions, length, buffer):
        batch, steps, _ = query.shape
        valid = past_key.shape[1] if length is None else int(length[0])
        keys, gates = (np.concatenate([buffer[i], x], 1) for i, x in enumerate((key, gate)))
        held = buffer.shape[2]
        before = ratio if held >= ratio else 0
        windows = (held - before + steps) // ratio
        made = np.zeros((batch, windows, size))
        for b in range(batch):
            for w in range(windows):
                start = before + w * ratio
                slots = [(keys[b, t, size:], gates[b, t, size:] + bias[i, size:])
                         for i, t in enumerate(range(start, start + ratio))]
                if start >= ratio:
                    slots += [(keys[b, t, :size], gates[b, t, :size] + bias[i, :size])
                              for i, t in enumerate(range(start - ratio, start))]
                v, g = (np.array(x, np.float64) for x in zip(*slots))
                with np.errstate(invalid="ignore"):
                    e = np.exp(g - g.max(0))
                total = e.sum(0)
                sound = (total > 0) & np.isfinite(total)
                pooled = np.where(sound, (e * v).sum(0) / np.where(sound, total, 1), 0)
                at = (valid + w) * ratio
                made[b, w] = turned(normed(pooled, k_weight), table_row(cos, b, at), table_row(sin, b, at))
        if length is None:
            present = np.concatenate([past_key, made.astype(np.float32)], 1)
        else:
            present = past_key.copy()
            present[:, valid:valid + windows] = made
        out = np.full((batch, steps, most), -1, np.int32)
        heads = query.shape[2] // size
        for b in range(batch):
            for s in range(steps):
                at = int(positions[b, s])
                scores = np.zeros(valid + windows)
                for h, q in enumerate(query[b, s].astype(np.float64).reshape(heads, size)):
                    q = turned(normed(q, q_weight), table_row(cos, b, at), table_row(sin, b, at))
                    for e in range(len(scores)):
                        scores[e] += head_weights[b, s, h] / np.sqrt(heads) * max(q @ present[b, e], 0) / np.sqrt(size)
                scores[(at + 1) // ratio:] = -np.inf
                chosen = [e if e < (at + 1) // ratio else -1 for e in ranked(scores, most)]
                out[b, s, :len(chosen)] = chosen
        start = before + (windows - 1) * ratio if windows else 0
        return out, present, np.stack([keys[:, start:], gates[:, start:]])

    return run


def conv_replay(source, capture, destination, metadata):
    a, to, taken, batch, channels, width, capacity, kept = (int(n) for n in metadata)
    each, out = source.itemsize, destination.copy()
    for b in range(batch):
        for c in range(channels):
            history = [source[a // each + (b * channels + c) * width + p] for p in range(width)]
            history += [capture[taken // each + (b * capacity + t) * channels + c] for t in range(kept)]
            for p in range(width):
                out[to // each + (b * channels + c) * width + p] = history[p + kept]
    return out


def delta_replay(source, capsule, destination, metadata):
    a, to, decay, key, delta, heads, values, size, keys, capacity, kept = (int(n) for n in metadata)
    wide, out = key - decay == capacity * heads * size, destination.copy()
    for h in range(heads):
        for v in range(values):
            for i in range(size):
                s = float(source[a + (h * values + v) * size + i])
                for t in range(kept):
                    s *= capsule[decay + ((t * heads + h) * size + i if wide else t * heads + h)]
                    s += float(capsule[key + (t * keys + h * keys // heads) * size + i]) * capsule[delta + (t * heads + h) * values + v]
                out[to + (h * values + v) * size + i] = s
    return out


def mamba(heads, groups, states, each, floor):
    def bf16(x):
        return x.astype(ml_dtypes.bfloat16)

    def silu(x):
        return x / (1 + np.exp(-x))

    def run(projection, conv, ssm, weight, bias, dt_bias, a, d, norm, state_row):
        tokens, slots, row, inner = len(projection), len(conv), int(state_row[0]), heads * each
        channels = inner + 2 * groups * states
        wide = projection.astype(np.float64)
        conv_out, ssm_out, ok = conv.copy(), ssm.copy(), 0 <= row < slots
        history, state = conv[row if ok else 0].astype(np.float64), ssm[row if ok else 0].astype(np.float64)
        y, xbc, read = np.zeros((tokens, inner)), np.zeros((tokens, channels)), np.zeros((tokens, inner))
        for t in range(tokens):
            window = np.concatenate([history, wide[t, inner:inner + channels, None]], 1)
            history = window[:, 1:]
            mixed = silu((window * weight.reshape(channels, 4).astype(np.float64)).sum(1) + bias.astype(np.float64))
            xbc[t] = mixed = bf16(mixed).astype(np.float64)
            for h in range(heads):
                x = mixed[h * each:(h + 1) * each]
                at = inner + h * groups // heads * states
                into, out = mixed[at:at + states], mixed[at + groups * states:][:states]
                step = max(np.log1p(np.exp(wide[t, inner + channels + h] + dt_bias[h])), floor)
                state[h] = np.exp(a[h] * step) * state[h] + np.outer(into, step * x)
                read[t, h * each:(h + 1) * each] = d[h] * x + out @ state[h]
            gated = (read[t] * silu(wide[t, :inner])).reshape(groups, -1)
            y[t] = normed(gated, norm.reshape(groups, -1), 1e-5).ravel()
            slot = t - max(tokens - slots, 0)
            if slot >= 0:
                conv_out[slot], ssm_out[slot] = bf16(history), state
                if not ok:
                    conv_out[slot], ssm_out[slot] = np.nan, np.nan
        if not ok:
            y[:], xbc[:], read[:] = np.nan, np.nan, np.nan
        return bf16(y), conv_out, ssm_out, bf16(xbc), read.astype(np.float32)

    return run


def cases():
    r = np.random.default_rng(33)
    all_cases = []

    def real(*shape):
        return r.standard_normal(shape).astype(np.float32)

    def tables(*shape):
        angle = r.uniform(0, 6, shape).astype(np.float32)
        return [np.cos(angle), np.sin(angle)]

    def case(name, inputs, attributes, outputs, formula, **more):
        while inputs[-1] is None:
            inputs.pop()
        all_cases.append(Case(name, name.split()[0], inputs, attributes, outputs, formula=formula, **more))

    size = 8
    weights = [1 + real(size) / 4, 1 + real(size) / 4]

    def tokens(name, batch, steps, past, heads=2, ratio=4, budget=8, mask=None, packed=False, room=None, shared=True, width=6,
               **more):
        q, k = real(batch, steps, heads * size), real(batch, steps, size)
        cosine_sine = tables(*([] if shared else [batch]), 40, width)
        first = [np.concatenate([q, k], 2), None] if packed else [q, k]
        inputs = [*first, *weights, *cosine_sine, mask, real(batch, room or past, size)]
        if room:
            inputs += [None] * 4 + [np.array([past], np.int32)]
        case(f"SparseAttentionIndexer qsa {name}", inputs,
             {"policy_mode": "qsa", "compress_ratio": ratio, "token_budget": budget}, 2, by_tokens(ratio, budget, size), **more)

    tokens("plain", 2, 7, 13)
    tokens("first", 2, 9, 0, dynamic={0: (0, 1), 1: (0, 1), 7: (0, 1)})
    tokens("packed", 1, 3, 20, packed=True, heads=3)
    tokens("tables", 2, 5, 6, shared=False, width=8)
    tokens("mask", 2, 6, 12, mask=r.integers(0, 2, (2, 18)))
    tokens("mask open", 3, 5, 9, ratio=3, budget=6, mask=r.integers(0, 2, (3, 14)),
           dynamic={0: (0, 1), 1: (0, 1), 6: (0, 1), 7: (0, 1)})
    tokens("nothing seen", 1, 3, 2, mask=np.zeros((1, 5), np.int64))
    tokens("room", 2, 3, 11, room=16, dynamic={7: (1,)})
    tokens("room masked", 2, 3, 11, room=16, mask=r.integers(0, 2, (2, 14)))
    tokens("one by one", 1, 4, 3, ratio=1, budget=3)
    tokens("full", 2, 3, 14, room=16, refused="past_key has no room for the new entries")

    def entries(name, batch, steps, past, held, ratio=3, most=4, heads=2, room=None, first=None, blocked=(), **more):
        key, gate = real(batch, steps, 2 * size), real(batch, steps, 2 * size)
        gate[:, :, list(blocked)] = -np.inf
        start = past * ratio + (held - ratio if held >= ratio else held) if first is None else first
        inputs = [real(batch, steps, heads * size), key, *weights, *tables(40, 3), None, real(batch, room or past, size), gate,
                  real(ratio, 2 * size), real(batch, steps, heads), np.arange(start, start + steps)[None].repeat(batch, 0),
                  np.array([past], np.int32) if room else None, real(2, batch, held, 2 * size)]
        case(f"SparseAttentionIndexer csa {name}", inputs,
             {"policy_mode": "csa", "compress_ratio": ratio, "index_topk": most}, 3, by_entries(ratio, most, size), **more)

    entries("first", 2, 7, 0, 0)
    entries("open window", 2, 5, 0, 2)
    entries("window before", 2, 4, 3, 5)
    entries("nothing closes", 1, 1, 2, 3, dynamic={0: (1,), 1: (1,), 7: (1,), 8: (1,), 10: (1,), 11: (1,), 13: (2,)})
    entries("open extents", 2, 8, 4, 4, dynamic={i: (0, 1) for i in (0, 1, 7, 8, 10, 11)} | {13: (1, 2)})
    entries("channels without weight", 1, 6, 0, 0, blocked=(1, 9))
    entries("room", 2, 6, 5, 3, room=9)
    entries("full", 1, 6, 8, 3, room=9, refused="past_key has no room for the new entries")

    for dtype in (np.float16, np.float32):
        for batch, width, capacity, kept in ((2, 3, 4, 2), (1, 3, 5, 5), (2, 4, 4, 0), (2, 0, 3, 1), (0, 3, 2, 1), (2, 3, 0, 0)):
            channels, each = 5, np.dtype(dtype).itemsize
            state, taken = batch * channels * width, batch * capacity * channels
            backing = [real(n + 9).astype(dtype) for n in (state, taken, state)]
            metadata = np.array([each * 3, each * 4, each * 5, batch, channels, width, capacity, kept])
            case(f"ConvStateReplay {np.dtype(dtype)} {batch} {width} {capacity} {kept}", [*backing, metadata], {}, 1, conv_replay,
                 tolerance=0, dynamic={0: (0,), 1: (0,), 2: (0,)} if kept == 2 else {})
    sound = np.array([0, 0, 0, 2, 5, 3, 4, 2])
    for at, n, name in ((0, 1, "bytes"), (0, 4000, "offset"), (3, 2**62, "wraps"), (7, 5, "kept"), (2, -4, "negative"), (4, 0, "channels")):
        metadata = sound.copy()
        metadata[at] = n
        case(f"ConvStateReplay refused {name}", [real(30), real(40), real(30), metadata], {}, 1, None,
             refused="metadata speaks of elements that the tensors do not have")
    for name, wide, kept in (("plain", False, 3), ("one", False, 1), ("wide", True, 4)):
        heads, values, size_k, keys, capacity = 4, 3, 6, 2, 4
        decays = capacity * heads * (size_k if wide else 1)
        key = 2 + decays
        delta = key + capacity * keys * size_k
        state, all_of = heads * values * size_k, delta + capacity * heads * values
        metadata = np.array([1, 5, 2, key, delta, heads, values, size_k, keys, capacity, kept])
        inputs = [real(state + 3), real(all_of), real(state + 8), metadata]
        case(f"GatedDeltaNetStateReplay {name}", inputs, {}, 1, delta_replay, dynamic={1: (0,)} if wide else {})
        short = [inputs[0], inputs[1][:-1], *inputs[2:]]
        case(f"GatedDeltaNetStateReplay short {name}", short, {}, 1, None, refused="metadata speaks of elements")

    def verify(name, tokens, slots, row, heads=4, groups=2, states=6, each=3, floor=0.001, outputs=5, **more):
        inner = heads * each
        channels = inner + 2 * groups * states

        def short(*shape):
            return real(*shape).astype(ml_dtypes.bfloat16)

        inputs = [short(tokens, inner + channels + heads), short(slots, channels, 3), real(slots, heads, states, each),
                  short(channels, 1, 4), short(channels), real(heads), -np.abs(real(heads)), real(heads), 1 + real(inner) / 4,
                  np.array([row], np.int32)]
        case(f"Mamba2Verify {name}", inputs, {"heads": heads, "n_groups": groups, "d_state": states, "head_dim": each,
                                              "time_step_min": floor}, outputs, mamba(heads, groups, states, each, floor),
             tolerance=1e-2, **more)

    verify("fewer tokens", 3, 5, 2)
    verify("more tokens", 7, 4, 3, dynamic={0: (0,), 1: (0,), 2: (0,)})
    verify("one", 1, 1, 0, groups=4)
    verify("as many", 4, 4, 1, groups=1, floor=0.9)
    for row in (-1, 5):
        verify(f"no row {row}", 3, 5, row)
    return all_cases
