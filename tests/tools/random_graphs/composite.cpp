// Normalizations and attention as frontends wire them, recurrent networks; sequences, optionals, strings.

#include <fmt/core.h>

#include "random_graphs/maker.h"
#include "wiring/wiring.h"

namespace random_graphs {
namespace {

bool softmax(Maker& m) {
  const int x = m.pick_float(1, 5);
  if (x < 0) return false;
  const int64_t axis = m.below(2) ? -1 : m.below(m.rank(x));
  const bool log = m.once_in(3);
  return m.wired({x}, [&](GraphBuilder& b, const Ids& v) {
    return log ? wiring::log_softmax(b, v[0], axis) : wiring::softmax(b, v[0], axis);
  }) >= 0;
}

// Epsilons are large: rounding in rows that are all but constant is not blown up.
bool norm(Maker& m) {
  const int x = m.pick(m.below(5) ? DType::f32 : m.float_dtype(), 2, 5);
  if (x < 0 || m.size(x) == 0) return false;
  const DType d = m.dtype(x);
  constexpr double epsilon = 0.25;
  const int64_t last = m.dims(x).back(), channels = m.extent_of(x, 1);
  const int scale = m.operand(d, {last}), bias = m.operand(d, {last});
  const int channel_scale = m.operand(d, {channels}), channel_bias = m.operand(d, {channels});
  if (scale < 0 || bias < 0 || channel_scale < 0 || channel_bias < 0) return false;
  switch (m.below(5)) {
    case 0:
      return m.wired({x, scale, bias}, [&](GraphBuilder& b, const Ids& v) {
        return wiring::layer_norm(b, v[0], v[1], v[2], -1, epsilon).y;
      }) >= 0;
    case 1:
      return m.wired({x, scale},
                     [&](GraphBuilder& b, const Ids& v) { return wiring::rms_norm(b, v[0], v[1], -1, epsilon); }) >= 0;
    case 2:
      return m.rank(x) > 2 && m.wired({x, channel_scale, channel_bias}, [&](GraphBuilder& b, const Ids& v) {
        return wiring::instance_norm(b, v[0], v[1], v[2], epsilon);
      }) >= 0;
    case 3: {
      const int64_t groups = channels % 2 == 0 ? 2 : 1;
      return m.rank(x) > 2 && m.wired({x, channel_scale, channel_bias}, [&](GraphBuilder& b, const Ids& v) {
        return wiring::group_norm(b, v[0], v[1], v[2], groups, epsilon, false);
      }) >= 0;
    }
    default: {
      const int mean = m.operand(d, {channels}), variance = m.random_constant(d, {channels}, 0.25, 2);
      return mean >= 0 && m.wired({x, channel_scale, channel_bias, mean, variance}, [&](GraphBuilder& b, const Ids& v) {
        return wiring::batch_norm(b, v[0], v[1], v[2], v[3], v[4], epsilon);
      }) >= 0;
    }
  }
}

// Queries, keys or values [batch, heads, length, wide], as they are or cut out of [batch, length, heads * wide].
int split_heads(Maker& m, DType d, int64_t batch, int64_t heads, int64_t length, int64_t wide) {
  if (m.once_in(3)) return m.operand(d, {batch, heads, length, wide});
  const int x = m.operand(d, {batch, length, heads * wide});
  const int cut = x < 0 ? -1 : m.call("Reshape", {x, m.list({batch, length, heads, wide})}, m.grain(x));
  return cut < 0 ? -1 : m.call("Transpose{perm=[0, 2, 1, 3]}", {cut}, m.grain(x));
}

bool attention(Maker& m) {
  const DType d = m.below(4) ? DType::f32 : m.float_dtype();
  const int64_t batch = m.between(1, 2), heads = m.between(1, 3), wide = m.between(1, 2) * 4;
  const int64_t queries = m.between(1, 12), keys = m.once_in(3) ? queries : m.between(1, 6);
  const int64_t shared = m.once_in(4) ? 1 : heads;  // heads of keys and values
  const int q = split_heads(m, d, batch, heads, queries, wide), k = split_heads(m, d, batch, shared, keys, wide);
  const int v = split_heads(m, d, batch, shared, keys, m.between(1, 5));
  if (q < 0 || k < 0 || v < 0) return false;
  int s;
  if (m.once_in(2)) {
    s = m.call("MatMul{transpose_b=true}", {q, k});
  } else {
    const int t = m.call("Transpose{perm=[0, 1, 3, 2]}", {k}, m.grain(k));
    s = t < 0 ? -1 : m.call("MatMul", {q, t});
  }
  if (s >= 0 && m.below(3)) s = m.call(m.once_in(2) ? "Mul" : "Div", {s, m.number(d, 0.375)});
  if (s >= 0 && m.once_in(4)) s = m.call("Tanh", {s});
  if (s >= 0 && m.once_in(2)) s = m.call("Add", {s, m.broadcastable(d, m.dims(s))});
  if (s >= 0 && m.once_in(3)) s = m.call("Where", {m.broadcastable(DType::boolean, m.dims(s)), s, m.number(d, -8)});
  if (s >= 0 && m.once_in(3)) {
    const Dims dims = m.dims(s);
    const int first = m.once_in(3) ? m.number(DType::i64, m.between(-5, 0)) : -1;
    const int last = m.once_in(4) ? -1 : m.number(DType::i64, m.between(-1, 4));
    const int seen = m.call("Band", {m.list({dims[dims.size() - 2], dims.back()}), first, last}, 0);
    if (seen >= 0) s = m.call("Where", {seen, s, m.number(d, m.once_in(2) ? -8 : -1000)});
  }
  if (s < 0) return false;
  const int p = m.wired({s}, [](GraphBuilder& b, const Ids& x) { return wiring::softmax(b, x[0], -1); });
  const int y = p < 0 ? -1 : m.call("MatMul", {p, v});
  if (y < 0 || m.once_in(2)) return y >= 0;
  return m.call("Transpose{perm=[0, 2, 1, 3]}", {y}) >= 0;
}

bool recurrent(Maker& m) {
  const DType d = m.below(6) ? DType::f32 : m.float_dtype();
  static constexpr const char* directions[] = {"forward", "reverse", "bidirectional"};
  const int way = m.below(3), kind = m.below(3);
  const int64_t both = way == 2 ? 2 : 1, hidden = m.between(1, 5), gates = kind == 0 ? 4 : kind == 1 ? 3 : 1;
  int x = m.pick([&](int v) { return m.dtype(v) == d && m.rank(v) == 3 && m.size(v) > 0 && m.extent_of(v, 0) < 6; });
  if (x < 0) x = m.operand(d, {m.between(1, 4), m.between(1, 3), m.between(1, 6)});
  if (x < 0 || m.size(x) == 0) return false;
  const int64_t steps = m.extent_of(x, 0), batch = m.extent_of(x, 1), in = m.extent_of(x, 2);
  if (!Maker::small({both, gates * hidden, in})) return false;
  std::vector<int> inputs{x, m.random_constant(d, {both, gates * hidden, in}, -0.5, 0.5),
                          m.random_constant(d, {both, gates * hidden, hidden}, -0.5, 0.5)};
  inputs.push_back(m.once_in(2) ? m.random_constant(d, {both, 2 * gates * hidden}, -0.5, 0.5) : -1);
  if (m.once_in(3)) {
    Tensor lengths(DType::i32, {batch});
    for (int64_t b = 0; b < batch; ++b) lengths.set_integer(b, m.between(1, static_cast<int>(steps)));
    inputs.push_back(m.constant(std::move(lengths)));
  } else {
    inputs.push_back(-1);
  }
  inputs.push_back(m.once_in(2) ? m.operand(d, {both, batch, hidden}) : -1);
  if (kind == 0) inputs.push_back(m.once_in(2) ? m.operand(d, {both, batch, hidden}) : -1);
  if (kind == 0) inputs.push_back(m.once_in(4) ? m.random_constant(d, {both, 3 * hidden}, -0.5, 0.5) : -1);
  std::string text = kind == 0 ? "LSTM" : kind == 1 ? "GRU" : "RNN";
  text += fmt::format("{{direction={}", directions[way]);
  if (kind == 1 && m.once_in(2)) text += ", linear_before_reset=true";
  if (m.once_in(6)) text += ", clip=0.75";
  return m.call(text + "}", inputs, -1, kind == 0 ? 3 : 2) >= 0;
}

// ---- sequences and optionals ----

int some_sequence(Maker& m) {
  for (int tries = 0; tries < 12; ++tries)
    if (const int v = m.below(m.count()); m.type(v).kind == Type::Kind::sequence) return v;
  const int x = m.pick([&](int v) { return m.dtype(v) != DType::string && bit_size(m.dtype(v)) >= 8; });
  if (x < 0) return -1;
  switch (m.below(3)) {
    case 0: {
      if (m.rank(x) < 1) return -1;
      const int axis = m.below(m.rank(x));
      const auto n = m.extent_of(x, axis);
      std::vector<int> inputs{x};
      if (n > 0 && m.once_in(2))
        inputs.push_back(m.once_in(2) ? m.number(DType::i64, 2) : m.fixed_list({n - n / 2, n / 2}));
      return m.call(fmt::format("SplitToSequence{{axis={}, keep_dims={}}}", axis, m.once_in(2)), inputs, m.grain(x));
    }
    case 1: {
      const int empty = m.call(fmt::format("SequenceEmpty{{dtype={}}}", dtype_name(m.dtype(x))), {}, 16);
      return empty < 0 ? -1 : m.call("SequenceInsert", {empty, x}, m.grain(x));
    }
    default: {
      std::vector<int> parts{x};
      bool exact = m.exact(x);
      for (int more = m.between(0, 2); more > 0; --more) {
        const int y = m.operand(m.dtype(x), m.dims(x));
        if (y < 0) continue;
        exact = exact && m.exact(y);
        parts.push_back(y);
      }
      return m.call("SequenceConstruct", parts, exact ? 4 : -1);
    }
  }
}

bool sequence(Maker& m) {
  const int s = some_sequence(m);
  if (s < 0) return false;
  const std::vector<Box>& items = m.known(s).box.items;
  const int g = m.grain(s);
  const auto n = static_cast<int>(items.size());
  switch (m.below(6)) {
    case 0: return m.call("SequenceLength", {s}, 0) >= 0;
    case 1: {
      if (n == 0) return false;
      const int at = m.once_in(2) ? m.data_number(0, n - 1) : m.number(DType::i64, m.between(-n, n - 1));
      return at >= 0 && m.call("SequenceAt", {s, at}, g) >= 0;
    }
    case 2:
      return m.call("SequenceErase",
                    n > 0 && m.once_in(2) ? std::vector<int>{s, m.number(DType::i64, m.below(n))} : std::vector<int>{s},
                    g) >= 0;
    case 3: {
      if (n == 0) return false;
      const int x = m.operand(items[0].tensor.dtype(), items[0].tensor.dims());
      if (x < 0) return false;
      const int grain = g < 0 || !m.exact(x) ? -1 : std::max(g, m.grain(x));
      return m.call(
                 "SequenceInsert",
                 m.once_in(2) ? std::vector<int>{s, x} : std::vector<int>{s, x, m.number(DType::i64, m.below(n + 1))},
                 grain) >= 0;
    }
    case 4: return m.call("ConcatFromSequence{axis=0, new_axis=true}", {s}, g) >= 0;
    default: return m.call("ConcatFromSequence{axis=-1}", {s}, g) >= 0;
  }
}

bool optional(Maker& m) {
  const int x = m.pick_any();
  if (x < 0) return false;
  if (m.once_in(4)) {
    const int none = m.call("OptionalNone", {}, 0);
    return none >= 0 && m.call("OptionalHasElement", {none}, 0) >= 0;
  }
  const int o = m.call("OptionalSome", {x}, m.grain(x));
  if (o < 0) return false;
  return m.once_in(3) ? m.call("OptionalHasElement", {o}, 0) >= 0 : m.call("OptionalGet", {o}, m.grain(x)) >= 0;
}

bool strings(Maker& m) {
  int x = m.pick(DType::string, 0, 4);
  if (x < 0) x = m.input(DType::string, {m.extent()});
  switch (m.below(7)) {
    case 6: {
      const char* tokens[] = {"Tokenizer", "Tokenizer{token=\"[a-z]+\", mark=true}", "Tokenizer{separators=[\" \"]}"};
      return m.call(tokens[m.below(3)], {x}, 0) >= 0;
    }
    case 0:
    case 1: return m.call("StringConcat", {x, m.broadcastable(DType::string, m.dims(x))}, 0) >= 0;
    case 2: return m.call(m.once_in(2) ? "StringSplit" : "StringSplit{delimiter=\",\"}", {x}, 0, 2) >= 0;
    case 3: return m.call("RegexFullMatch{pattern=\"[a-z ]*\"}", {x}, 0) >= 0;
    case 4: {
      const int row = m.operand(DType::string, {m.between(1, 4)});
      return row >= 0 && m.call("StringNormalizer{change=upper, stop_words=[\"a\"]}", {row}, 0) >= 0;
    }
    default: {
      const int row =
          m.once_in(2) ? m.operand(DType::i64, {m.between(2, 6)}) : m.operand(DType::i64, {2, m.between(2, 6)});
      return row >= 0 &&
             m.call("TfIdfVectorizer{max_length=2, counts=[0, 3], columns=[0, 1, 2, 3], integers=[0, 1, 2, 1, 2]}",
                    {row}, 0) >= 0;
    }
  }
}

constexpr Family composites[] = {
    {"softmax", 3, softmax},
    {"norm", 3, norm},
    {"attention", 1, attention},
    {"recurrent", 2, recurrent},
};
constexpr Family boxes[] = {
    {"sequence", 3, sequence},
    {"optional", 1, optional},
    {"strings", 2, strings},
};

}  // namespace

std::span<const Family> composite_families() { return composites; }
std::span<const Family> box_families() { return boxes; }

}  // namespace random_graphs
