"""What decoders do with tokens, and sequences of different lengths packed into one."""

import numpy as np
from harness import Case


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
    case("CausalConvWithState dilation", [real(2, 6, 7), real(6, 1, 3), real(6), real(2, 6, 4)], {"dilation": 2}, 2)
    case("CausalConvWithState last", [real(2, 7, 2, 3), real(6, 1, 3), real(6), real(2, 2, 2, 3)],
         {"channels_last": 1, "activation": "silu"}, 2)
    return all_cases
