// LSTM, GRU, RNN over whole sequences.

#include "ops/recurrent.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

std::span<const char* const> enum_names(Direction) {
  static constexpr const char* names[] = {"forward", "reverse", "bidirectional"};
  return names;
}

const Fields& fields_of(const RecurrentAttrs*) {
  static const Fields f = describe<RecurrentAttrs>(
      {field<&RecurrentAttrs::activations>("activations"), field<&RecurrentAttrs::alpha>("alpha"),
       field<&RecurrentAttrs::beta>("beta"), field<&RecurrentAttrs::clip>("clip"),
       field<&RecurrentAttrs::direction>("direction"), field<&RecurrentAttrs::input_forget>("input_forget"),
       field<&RecurrentAttrs::linear_before_reset>("linear_before_reset")});
  return f;
}

namespace {

enum class Cell { lstm, gru, rnn };

constexpr int64_t gates_of(Cell cell) { return cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 1; }
constexpr size_t activations_of(Cell cell) { return cell == Cell::lstm ? 3 : cell == Cell::gru ? 2 : 1; }

struct Activation {
  double (*function)(double x, double alpha, double beta);
  const char* text;
  double alpha = 0, beta = 0;
  double operator()(double x) const { return function(x, alpha, beta); }
};

// What it computes, and the same as an expression for kernels.
struct KnownActivation {
  const char* name;
  double (*function)(double x, double alpha, double beta);
  const char* text;
  double alpha, beta;
  bool takes_alpha, takes_beta;
};

const KnownActivation known_activations[] = {
    {"relu", [](double x, double, double) { return x < 0 ? 0.0 : x; }, "select(x < 0, 0, x)", 0, 0, false, false},
    {"tanh", [](double x, double, double) { return std::tanh(x); }, "tanh(x)", 0, 0, false, false},
    {"sigmoid", [](double x, double, double) { return 1 / (1 + std::exp(-x)); }, "sigmoid(x)", 0, 0, false, false},
    {"affine", [](double x, double a, double b) { return a * x + b; }, "y * x + z", 1, 0, true, true},
    {"leakyrelu", [](double x, double a, double) { return x < 0 ? a * x : x; }, "select(x < 0, y * x, x)", 0.01, 0,
     true, false},
    {"thresholdedrelu", [](double x, double a, double) { return x >= a ? x : 0.0; }, "select(x >= y, x, 0)", 1, 0, true,
     false},
    {"scaledtanh", [](double x, double a, double b) { return a * std::tanh(b * x); }, "y * tanh(z * x)", 1, 1, true,
     true},
    {"hardsigmoid", [](double x, double a, double b) { return std::min(std::max(a * x + b, 0.0), 1.0); },
     "min(max(y * x + z, 0), 1)", 0.2, 0.5, true, true},
    {"elu", [](double x, double a, double) { return x < 0 ? a * std::expm1(x) : x; }, "select(x < 0, y * expm1(x), x)",
     1, 0, true, false},
    {"softsign", [](double x, double, double) { return x / (1 + std::abs(x)); }, "x / (1 + abs(x))", 0, 0, false,
     false},
    {"softplus",
     [](double x, double, double) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); },
     "max(x, 0) + log1p(exp(-abs(x)))", 0, 0, false, false},
};

size_t directions_of(const RecurrentAttrs& a) { return a.direction == Direction::bidirectional ? 2 : 1; }

// Activations of all directions, one after another. fail: takes a message and throws.
template <typename Fail>
std::vector<Activation> resolve_activations(Cell cell, const RecurrentAttrs& a, Fail fail) {
  const size_t directions = directions_of(a), wanted = directions * activations_of(cell);
  std::vector<std::string> names = a.activations;
  if (names.empty()) {
    static const std::vector<std::string> defaults[] = {{"sigmoid", "tanh", "tanh"}, {"sigmoid", "tanh"}, {"tanh"}};
    for (size_t d = 0; d < directions; ++d)
      names.insert(names.end(), defaults[static_cast<int>(cell)].begin(), defaults[static_cast<int>(cell)].end());
  }
  if (names.size() != wanted) fail(fmt::format("{} activations are named, it takes {}", names.size(), wanted));
  std::vector<Activation> out;
  size_t alphas = 0, betas = 0;
  for (const std::string& name : names) {
    const auto* known = std::find_if(std::begin(known_activations), std::end(known_activations),
                                     [&](const KnownActivation& k) { return name == k.name; });
    if (known == std::end(known_activations)) fail(fmt::format("no activation is named '{}'", name));
    Activation activation{known->function, known->text, known->alpha, known->beta};
    if (known->takes_alpha && alphas < a.alpha.size()) activation.alpha = a.alpha[alphas++];
    if (known->takes_beta && betas < a.beta.size()) activation.beta = a.beta[betas++];
    out.push_back(activation);
  }
  return out;
}

template <Cell cell>
void infer(InferContext& c) {
  const auto& a = c.attrs<RecurrentAttrs>();
  const DType dtype = c.dtype(0);
  for (size_t o = 0; o < 3; ++o) c.set(o, dtype);
  if (!is_float(dtype)) c.fail(fmt::format("the operand is {}, it must be a float", dtype_name(dtype)));
  for (size_t i : {1, 2, 3, 5, 6, 7})
    if (c.has(i) && c.dtype(i) != dtype)
      c.fail(fmt::format("operand {} is {}, operand 0 is {}: they must be equal", i, dtype_name(c.dtype(i)),
                         dtype_name(dtype)));
  if (c.has(4) && !is_integer(c.dtype(4))) c.fail("lengths must be integers");
  if (!(a.clip >= 0)) c.fail(fmt::format("clip is {}, it must not be negative", a.clip));
  resolve_activations(cell, a, [&](std::string message) { c.fail(std::move(message)); });
  const auto shape = [&](size_t i, size_t rank) -> const Shape& {
    const Shape& s = c.shape(i);
    if (s.size() != rank) c.fail(fmt::format("operand {} has rank {}, it must have {}", i, s.size(), rank));
    return s;
  };
  const Shape &x = shape(0, 3), &r = shape(2, 3);
  const auto directions = static_cast<int64_t>(directions_of(a));
  const Dim &steps = x[0], &batch = x[1], &hidden = r[2];
  const auto check = [&](size_t i, std::initializer_list<Dim> wanted) {
    if (!c.has(i)) return;
    const Shape& s = shape(i, wanted.size());
    for (size_t k = 0; k < s.size(); ++k)
      c.require_equal(s[k], wanted.begin()[k], i == 4 ? "lengths and batch" : "extents of a recurrent network");
  };
  const Dim gates = hidden * gates_of(cell);
  check(1, {directions, gates, x[2]});
  check(2, {directions, gates, hidden});
  check(3, {directions, gates * 2});
  check(4, {batch});
  check(5, {directions, batch, hidden});
  check(6, {directions, batch, hidden});
  check(7, {directions, hidden * 3});
  c.set(0, dtype, {steps, directions, batch, hidden});
  c.set(1, dtype, {directions, batch, hidden});
  c.set(2, dtype, {directions, batch, hidden});
}

double dot(const double* a, const double* b, int64_t n) {
  double sum[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int k = 0; k < 4; ++k) sum[k] += a[i + k] * b[i + k];
  for (; i < n; ++i) sum[0] += a[i] * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// One direction of one network: its parameters and the state of one sequence.
template <Cell cell>
struct Network {
  const RecurrentAttrs& attrs;
  int64_t hidden;
  std::span<const Activation> act;
  std::vector<double> recurrent, bias_w, bias_r, peepholes;
  std::vector<double> h, c, gate, product, next;

  double clip(double v) const { return attrs.clip > 0 ? std::min(std::max(v, -attrs.clip), attrs.clip) : v; }

  // x: this step's products with the input weights, per gate.
  void step(const double* x) {
    const int64_t n = hidden;
    const auto at = [&](int64_t g, int64_t j) { return static_cast<size_t>(g * n + j); };
    const auto times_state = [&](const std::vector<double>& state, int64_t first, int64_t count) {
      for (int64_t g = first; g < first + count; ++g)
        for (int64_t j = 0; j < n; ++j) product[at(g, j)] = dot(recurrent.data() + (g * n + j) * n, state.data(), n);
    };
    const auto input = [&](int64_t g, int64_t j) {
      const size_t k = at(g, j);
      return x[k] + product[k] + bias_w[k] + bias_r[k];
    };
    if constexpr (cell == Cell::rnn) {
      times_state(h, 0, 1);
      for (int64_t j = 0; j < n; ++j) next[static_cast<size_t>(j)] = act[0](clip(input(0, j)));
      h.swap(next);
    } else if constexpr (cell == Cell::lstm) {
      times_state(h, 0, 4);
      for (int64_t j = 0; j < n; ++j) {
        const auto u = static_cast<size_t>(j);
        const double i = act[0](clip(input(0, j) + peepholes[at(0, j)] * c[u]));
        const double f = attrs.input_forget ? 1 - i : act[0](clip(input(2, j) + peepholes[at(2, j)] * c[u]));
        const double candidate = act[1](clip(input(3, j)));
        c[u] = f * c[u] + i * candidate;
        const double o = act[0](clip(input(1, j) + peepholes[at(1, j)] * c[u]));
        h[u] = o * act[2](c[u]);
      }
    } else {
      times_state(h, 0, attrs.linear_before_reset ? 3 : 2);
      for (int64_t g = 0; g < 2; ++g)
        for (int64_t j = 0; j < n; ++j) gate[at(g, j)] = act[0](clip(input(g, j)));
      if (attrs.linear_before_reset) {
        for (int64_t j = 0; j < n; ++j) {
          const size_t k = at(2, j);
          const double reset = gate[at(1, j)] * (product[k] + bias_r[k]);
          next[static_cast<size_t>(j)] = act[1](clip(x[k] + reset + bias_w[k]));
        }
      } else {
        for (int64_t j = 0; j < n; ++j) next[static_cast<size_t>(j)] = gate[at(1, j)] * h[static_cast<size_t>(j)];
        times_state(next, 2, 1);
        for (int64_t j = 0; j < n; ++j) next[static_cast<size_t>(j)] = act[1](clip(input(2, j)));
      }
      for (int64_t j = 0; j < n; ++j) {
        const auto u = static_cast<size_t>(j);
        const double z = gate[at(0, j)];
        h[u] = (1 - z) * next[u] + z * h[u];
      }
    }
  }
};

std::vector<double> part(const EvalContext& c, size_t input, int64_t start, int64_t count) {
  std::vector<double> out(static_cast<size_t>(count), 0);
  if (c.has(input)) read_numbers(c.in(input), start, count, out.data());
  return out;
}

template <Cell cell>
void eval(EvalContext& c) {
  const auto& a = c.attrs<RecurrentAttrs>();
  const Tensor& x = c.in(0);
  const int64_t steps = x.dims()[0], batch = x.dims()[1], width = x.dims()[2], hidden = c.in(2).dims()[2];
  const int64_t gates = gates_of(cell) * hidden;
  const auto directions = static_cast<int64_t>(directions_of(a));
  const std::vector<Activation> activations =
      resolve_activations(cell, a, [&](std::string message) { c.fail(std::move(message)); });
  std::vector<int64_t> lengths(static_cast<size_t>(batch), steps);
  if (c.has(4)) {
    lengths = c.in(4).to_integers();
    for (int64_t l : lengths)
      if (l < 0 || l > steps) c.fail(fmt::format("a sequence of length {}, there are {} steps", l, steps));
  }
  c.out(0);
  for (size_t o = 1; o < c.outputs.size(); ++o) c.out(o);
  if (batch == 0 || hidden == 0) return;
  const LeftFactor<double> inputs(steps * batch, width,
                                  [&](int64_t m, double* to) { read_numbers(x, m * width, width, to); });
  for (int64_t d = 0; d < directions; ++d) {
    const bool reverse = a.direction == Direction::reverse || d == 1;
    std::vector<double> from_input(static_cast<size_t>(steps * batch * gates));
    const std::vector<double> weights = part(c, 1, d * gates * width, gates * width);
    multiply(
        inputs, gates,
        [&](int64_t k, int64_t column, int64_t count, double* to) {
          for (int64_t i = 0; i < count; ++i) to[i] = weights[static_cast<size_t>((column + i) * width + k)];
        },
        [&](int64_t m, int64_t column, int64_t count, const double* values) {
          std::copy_n(values, count, from_input.begin() + m * gates + column);
        });
    const auto n = static_cast<size_t>(hidden), all = static_cast<size_t>(gates);
    Network<cell> net{a,
                      hidden,
                      std::span(activations).subspan(static_cast<size_t>(d) * activations_of(cell)),
                      part(c, 2, d * gates * hidden, gates * hidden),
                      part(c, 3, d * 2 * gates, gates),
                      part(c, 3, d * 2 * gates + gates, gates),
                      part(c, 7, d * 3 * hidden, 3 * hidden),
                      {},
                      {},
                      std::vector<double>(all),
                      std::vector<double>(all),
                      std::vector<double>(n)};
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t state = (d * batch + b) * hidden, length = lengths[static_cast<size_t>(b)];
      net.h = part(c, 5, state, hidden);
      net.c = part(c, 6, state, hidden);
      for (int64_t s = 0; s < length; ++s) {
        const int64_t t = reverse ? length - 1 - s : s;
        net.step(from_input.data() + (t * batch + b) * gates);
        write_numbers(c.out(0), ((t * directions + d) * batch + b) * hidden, hidden, net.h.data());
      }
      if (c.outputs.size() > 1) write_numbers(c.out(1), state, hidden, net.h.data());
      if (c.outputs.size() > 2) write_numbers(c.out(2), state, hidden, net.c.data());
    }
  }
}

Tensor sample(const Op&, const Attrs&, size_t input, std::span<const Type> types, uint64_t seed) {
  if (input == 4) {
    const auto steps = static_cast<double>((*types[0].shape)[0].constant());
    return sample_uniform(types[4], seed, std::min(1.0, steps), steps + 1);
  }
  return sample_uniform(types[input], seed, -1, 1);
}

constexpr Op table[] = {
    {.name = "LSTM",
     .fields = fields<RecurrentAttrs>,
     .inputs = {3, 8},
     .outputs = {1, 3},
     .infer = infer<Cell::lstm>,
     .eval = eval<Cell::lstm>,
     .sample = sample},
    {.name = "GRU",
     .fields = fields<RecurrentAttrs>,
     .inputs = {3, 6},
     .outputs = {1, 2},
     .infer = infer<Cell::gru>,
     .eval = eval<Cell::gru>,
     .sample = sample},
    {.name = "RNN",
     .fields = fields<RecurrentAttrs>,
     .inputs = {3, 6},
     .outputs = {1, 2},
     .infer = infer<Cell::rnn>,
     .eval = eval<Cell::rnn>,
     .sample = sample},
};

}  // namespace

std::vector<ActivationText> recurrent_activations(std::string_view op, const RecurrentAttrs& attrs) {
  const Cell cell = op == "LSTM" ? Cell::lstm : op == "GRU" ? Cell::gru : Cell::rnn;
  std::vector<ActivationText> out;
  for (const Activation& a : resolve_activations(
           cell, attrs, [](std::string message) { throw Error(Code::invalid_argument, std::move(message)); }))
    out.push_back({a.text, a.alpha, a.beta});
  return out;
}

std::span<const Op> recurrent_ops() { return table; }

}  // namespace sinter
