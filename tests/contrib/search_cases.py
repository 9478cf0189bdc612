"""Searches: a small decoder with a growing state, run to the end."""

import numpy as np
from harness import Case
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, HIDDEN = 13, 6


def decoder(seed):
    """Scores from the tokens, their places, what was there before, and how much of it counts."""
    r = np.random.default_rng(seed)
    tables = {"words": r.standard_normal((VOCABULARY, HIDDEN)), "places": r.standard_normal((32, HIDDEN)),
              "out": r.standard_normal((HIDDEN, VOCABULARY)) * 2}
    initializers = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in tables.items()]
    initializers += [numpy_helper.from_array(np.array(v, np.int64), k)
                     for k, v in (("axes", [0, 2]), ("last", [3]), ("first", [0]), ("back", [1]), ("counted", [1]))]
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["w"]),
        helper.make_node("Gather", ["places", "position_ids"], ["p"]),
        helper.make_node("Add", ["w", "p"], ["x"]),
        helper.make_node("Unsqueeze", ["x", "axes"], ["k"]),  # [1, B, 1, S, H]
        helper.make_node("Tanh", ["k"], ["v"]),
        helper.make_node("Concat", ["k", "v"], ["new"], axis=0),
        helper.make_node("Concat", ["past_0", "new"], ["present_0"], axis=3),
        helper.make_node("ReduceMean", ["present_0"], ["mean"], axes=[0, 2, 3], keepdims=0),  # [B, H]
        helper.make_node("Unsqueeze", ["mean", "back"], ["m"]),
        helper.make_node("Cast", ["attention_mask"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["c", "counted"], ["n"], keepdims=1),
        helper.make_node("Sin", ["n"], ["s"]),
        helper.make_node("Unsqueeze", ["s", "back"], ["t"]),
        helper.make_node("Add", ["x", "m"], ["y"]),
        helper.make_node("Mul", ["y", "t"], ["z"]),
        helper.make_node("MatMul", ["z", "out"], ["logits"]),
    ]
    i, f = TensorProto.INT32, TensorProto.FLOAT
    state = [2, "batch", 1, "past", HIDDEN]
    inputs = [helper.make_tensor_value_info("input_ids", i, ["batch", "new"]),
              helper.make_tensor_value_info("position_ids", i, ["batch", "new"]),
              helper.make_tensor_value_info("attention_mask", i, ["batch", "all"]),
              helper.make_tensor_value_info("past_0", f, state)]
    outputs = [helper.make_tensor_value_info("logits", f, ["batch", "new", VOCABULARY]),
               helper.make_tensor_value_info("present_0", f, [2, "batch", 1, "all", HIDDEN])]
    return helper.make_graph(nodes, "decoder", inputs, outputs, initializers)


def cases():
    r = np.random.default_rng(8)
    all_cases = []

    def case(name, op, inputs, attributes=None, **more):
        all_cases.append(Case(name, op, inputs, attributes, **more))

    def number(value, dtype=np.int32):
        return np.array([value], dtype)

    prompt = np.array([[1, 4, 2, 7], [1, 3, 8, 5]], np.int32)
    base = {"decoder": decoder(1), "pad_token_id": 0, "eos_token_id": 12, "vocab_size": VOCABULARY}
    some = np.ones(VOCABULARY, np.int32)
    some[[2, 5, 6]] = 0
    for name, inputs, attributes in (
        ("plain", [prompt, number(16)], {}),
        ("other end", [prompt, number(16)], {"eos_token_id": 3}),
        ("padded", [np.array([[0, 0, 2, 7], [1, 3, 8, 5]], np.int32), number(14)], {}),
        ("penalty", [prompt, number(16), None, number(1.7, np.float32)], {}),
        ("least length", [prompt, number(16), number(12)], {"eos_token_id": 3}),
        ("n-grams", [prompt, number(20)], {"no_repeat_ngram_size": 2}),
        ("single tokens", [prompt, number(12)], {"no_repeat_ngram_size": 1}),
        ("words masked", [prompt, number(16), None, None, some], {}),
        ("first word masked", [prompt, number(16), None, None, None, np.stack([some, 1 - some])], {}),
        ("mask given", [prompt, number(16), None, None, None, None, np.array([[0, 1, 1, 1], [1, 1, 1, 1]], np.int32)],
         {}),
        ("first run apart", [prompt, number(12)], {"init_decoder": decoder(2)}),
    ):
        case(f"GreedySearch {name}", "GreedySearch", inputs, {**base, **attributes}, constants=(3, 4, 5))
    case("GreedySearch open", "GreedySearch", [prompt, number(16)], base, dynamic={0: (0, 1)})
    # Where one token has all the probability that counts, sampling is greedy.
    case("Sampling of one", "Sampling", [prompt, number(16)], {**base, "top_p": 1e-6, "min_tokens_to_keep": 1})
    case("Sampling of one, seed", "Sampling", [prompt, number(12), None, None, None, None, None, None, number(5)],
         {**base, "top_p": 1e-6, "min_tokens_to_keep": 1, "temperature": 0.5}, constants=(8,))
    for name, beams, wanted, inputs, attributes in (
        ("plain", 3, 2, [], {}),
        ("one beam", 1, 1, [], {}),
        ("last of three", 3, 3, [], {"eos_token_id": 9}),
        ("early", 3, 2, [], {"eos_token_id": 3, "early_stopping": 1}),
        ("length penalty", 4, 2, [number(2.0, np.float32)], {"eos_token_id": 3}),
        ("short ones", 4, 4, [number(-1.0, np.float32)], {"eos_token_id": 3}),
        ("repetition penalty", 3, 2, [None, number(1.3, np.float32)], {"eos_token_id": 3}),
        ("n-grams", 3, 2, [], {"no_repeat_ngram_size": 2}),
        ("words masked", 3, 2, [None, None, some], {}),
        ("first word masked", 3, 2, [None, None, None, np.stack([some, 1 - some])], {}),
    ):
        length, *more = inputs or [None]
        length = number(1.0, np.float32) if length is None else length
        case(f"BeamSearch {name}", "BeamSearch",
             [prompt, number(14), number(0), number(beams), number(wanted), length, *more], {**base, **attributes},
             outputs=2, constants=(3, 4, 5, 6, 7))
    # Whether an entry can still improve ONNX Runtime judges by scores of the entry before it: so one alone.
    case("BeamSearch other end", "BeamSearch",
         [prompt[1:], number(14), number(0), number(3), number(3), number(1.0, np.float32)],
         {**base, "eos_token_id": 3}, outputs=2, constants=(3, 4, 5))
    case("BeamSearch least length, open", "BeamSearch", [prompt, number(14), number(10), number(3), number(2), number(1.0, np.float32)],
         {**base, "eos_token_id": 3}, outputs=2, constants=(3, 4), dynamic={0: (0, 1)})
    tokens = r.integers(0, 4, (3, 9))
    for n in (1, 2, 3):
        case(f"NGramRepeatBlock {n}", "NGramRepeatBlock", [tokens, r.standard_normal((3, 5)).astype(np.float32)],
             {"ngram_size": n})
    case("NGramRepeatBlock short", "NGramRepeatBlock", [tokens[:, :2], r.standard_normal((3, 5)).astype(np.float32)],
         {"ngram_size": 4})
    return all_cases
