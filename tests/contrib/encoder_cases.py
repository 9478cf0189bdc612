"""Beam searches with an encoder: small networks with one head, as ONNX Runtime's T5 and Whisper are laid out."""

import numpy as np
from harness import Case
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, HIDDEN, FEATURES = 11, 6, 5
I, F = TensorProto.INT32, TensorProto.FLOAT


def value(name, dtype, *shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def tables(seed):
    r = np.random.default_rng(seed)
    made = {"words": r.standard_normal((VOCABULARY, HIDDEN)), "source": r.standard_normal((VOCABULARY, HIDDEN)),
            "project": r.standard_normal((FEATURES, HIDDEN)), "out": r.standard_normal((HIDDEN, VOCABULARY)) * 2}
    initializers = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in made.items()]
    return initializers + [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in
                           (("head", [1]), ("last", [3]), ("middle", [2]), ("counted", [1]))]


def decoding(ids, past=True, masked=False):
    """Logits of ids from words, the mean of what was decoded and that of the source; new states of one layer."""
    node = helper.make_node
    nodes = [
        node("Gather", ["words", ids], ["x"]),  # [B, T, H]
        node("Unsqueeze", ["x", "head"], ["key"]),
        node("Tanh", ["key"], ["worth"]),
    ]
    if past:
        nodes += [node("Concat", ["past_key_self_0", "key"], ["present_key_self_0"], axis=2),
                  node("Concat", ["past_value_self_0", "worth"], ["present_value_self_0"], axis=2)]
    else:
        nodes += [node("Identity", ["key"], ["present_key_self_0"]), node("Identity", ["worth"], ["present_value_self_0"])]
    nodes += [
        node("Mul", ["present_key_self_0", "present_value_self_0"], ["own"]),
        node("ReduceMean", ["own"], ["own_mean"], axes=[1, 2], keepdims=0),  # [B, H]
        node("Unsqueeze", ["own_mean", "head"], ["own_row"]),
    ]
    keys = "past_key_cross_0" if past else "present_key_cross_0"
    values = "past_value_cross_0" if past else "present_value_cross_0"
    nodes.append(node("Mul", [keys, values], ["read"]))
    if masked:
        nodes += [node("Cast", ["encoder_attention_mask"], ["m"], to=F), node("Unsqueeze", ["m", "head"], ["m3"]),
                  node("Unsqueeze", ["m3", "last"], ["m4"]), node("Mul", ["read", "m4"], ["seen"])]
    else:
        nodes.append(node("Identity", ["read"], ["seen"]))
    nodes += [
        node("ReduceMean", ["seen"], ["seen_mean"], axes=[1, 2], keepdims=0),
        node("Unsqueeze", ["seen_mean", "head"], ["seen_row"]),
        node("Add", ["x", "own_row"], ["y"]),
        node("Add", ["y", "seen_row"], ["z"]),
        node("MatMul", ["z", "out"], ["logits"]),
    ]
    return nodes


def state(name, *tokens):
    return [value(f"{name}_{i}", F, "batch", 1, *tokens, HIDDEN) for i in (0,)]


def encoder(seed, whisper=False, decodes=True):
    node = helper.make_node
    if whisper:
        nodes = [node("Transpose", ["encoder_input_ids"], ["t"], perm=[0, 2, 1]), node("MatMul", ["t", "project"], ["e"])]
        inputs = [value("encoder_input_ids", F, "batch", FEATURES, "length")]
    else:
        nodes = [node("Gather", ["source", "encoder_input_ids"], ["e"])]
        inputs = [value("encoder_input_ids", I, "batch", "length"), value("encoder_attention_mask", I, "batch", "length")]
    nodes += [node("Unsqueeze", ["e", "head"], ["present_key_cross_0"]),
              node("Sin", ["present_key_cross_0"], ["present_value_cross_0"])]
    crossed = [value(f"present_{k}_cross_0", F, "batch", 1, "length", HIDDEN) for k in ("key", "value")]
    if not decodes:
        return helper.make_graph(nodes, "encoder", inputs, crossed, tables(seed))
    inputs.append(value("decoder_input_ids", I, "batch", "first"))
    nodes.append(node("Identity", ["e"], ["encoder_hidden_states"]))
    nodes += decoding("decoder_input_ids", past=False, masked=not whisper)
    own = [value(f"present_{k}_self_0", F, "batch", 1, "first", HIDDEN) for k in ("key", "value")]
    results = [value("logits", F, "batch", "first", VOCABULARY), value("encoder_hidden_states", F, "batch", "length", HIDDEN)]
    return helper.make_graph(nodes, "encoder", inputs, results + own + crossed, tables(seed))


def decoder(seed, whisper=False, hidden=False):
    inputs = [value("input_ids", I, "batch", 1)]
    if not whisper:
        inputs.append(value("encoder_attention_mask", I, "batch", "length"))
    if hidden:
        inputs.append(value("encoder_hidden_states", F, "batch", "length", HIDDEN))
    inputs += [value(f"past_{k}_self_0", F, "batch", 1, "past", HIDDEN) for k in ("key", "value")]
    inputs += [value(f"past_{k}_cross_0", F, "batch", 1, "length", HIDDEN) for k in ("key", "value")]
    results = [value("logits", F, "batch", 1, VOCABULARY)]
    results += [value(f"present_{k}_self_0", F, "batch", 1, "all", HIDDEN) for k in ("key", "value")]
    return helper.make_graph(decoding("input_ids", masked=not whisper), "decoder", inputs, results, tables(seed))


def cases():
    r = np.random.default_rng(31)
    all_cases = []

    def number(v, dtype=np.int32):
        return np.array([v], dtype)

    def search(name, first, beams=3, wanted=2, length=12, penalty=1.0, more=(), op="BeamSearch", outputs=2, **attributes):
        inputs = [first, number(length), number(0), number(beams), number(wanted), number(penalty, np.float32), *more]
        dynamic = attributes.pop("dynamic", None)
        all_cases.append(Case(f"{op} {name}", op, inputs, {"pad_token_id": 0, "vocab_size": VOCABULARY,
                                                           "decoder_start_token_id": 1, **attributes},
                              outputs=outputs, constants=(3, 4, 5), dynamic=dynamic))

    ids = np.array([[3, 5, 2, 7], [4, 1, 6, 9]], np.int32)
    padded = np.array([[0, 0, 3, 5], [4, 1, 6, 0]], np.int32)
    t5 = {"model_type": 1, "encoder": encoder(1), "decoder": decoder(1)}
    search("encoder", ids, eos_token_id=10, **t5)
    search("encoder other end", ids[:1], eos_token_id=3, **t5)
    search("encoder padded", padded, eos_token_id=10, **t5)
    search("encoder padded one", padded[:1], eos_token_id=10, **t5)
    search("encoder open", ids, eos_token_id=10, **t5, dynamic={0: (0, 1)})
    search("encoder one beam", ids, 1, 1, eos_token_id=10, **t5)
    search("encoder hidden", ids, eos_token_id=10, model_type=1, encoder=encoder(1), decoder=decoder(1, hidden=True))
    mask = np.array([[1, 0, 1, 1], [1, 1, 1, 0]], np.int32)
    search("encoder mask", ids, more=[None, None, None, mask], eos_token_id=10, **t5)
    search("encoder penalty", ids, more=[number(1.5, np.float32)], eos_token_id=10, no_repeat_ngram_size=2, **t5)
    search("encoder apart", ids, eos_token_id=10, model_type=1, encoder=encoder(1, decodes=False), decoder=decoder(1))
    features = r.standard_normal((2, FEATURES, 7)).astype(np.float32)
    whisper = {"model_type": 2, "encoder": encoder(2, True), "decoder": decoder(2, True)}
    search("Whisper", features, op="WhisperBeamSearch", eos_token_id=10, **whisper, dynamic={0: (0, 2)})
    prompt = np.array([[1, 4, 2], [1, 4, 2]], np.int32)
    search("Whisper prompt", features, op="WhisperBeamSearch", more=[None, None, None, None, prompt], eos_token_id=10,
           **whisper)
    search("Whisper hidden", features, op="WhisperBeamSearch", eos_token_id=10, model_type=2, encoder=encoder(2, True),
           decoder=decoder(2, True, True))
    search("Whisper prompt in old form", features, more=[None, None, None, None, prompt], eos_token_id=10, **whisper)
    # ONNX Runtime's kernel for CPUs leaves these probabilities unset.
    words = {t.name: numpy_helper.to_array(t) for t in tables(2)}

    def silent(x, *_):
        e = x.transpose(0, 2, 1) @ words["project"]
        word = words["words"][1]
        z = word + (word * np.tanh(word)) + (e * np.sin(e)).mean(1)
        p = np.exp(z @ words["out"])
        return None, None, (p / p.sum(1, keepdims=True))[:, 4].astype(np.float32)

    search("Whisper silent", features, op="WhisperBeamSearch", outputs=["y", "s", "", "", "n"], eos_token_id=10,
           no_speech_token_id=4, **whisper)
    all_cases[-1].formula, all_cases[-1].compare = silent, lambda results: results[2:]
    search("Whisper warm", features, op="WhisperBeamSearch",
           more=[None] * 8 + [number(0.5, np.float32)], eos_token_id=10, **whisper)
    return all_cases
