// If and Loop over bodies that are random graphs themselves.

#include <fmt/format.h>

#include "random_graphs/maker.h"

namespace random_graphs {
namespace {

constexpr int deepest = 2;

int worse(int a, int b) { return a < 0 || b < 0 ? -1 : std::max(a, b); }

// A bool scalar that depends on data.
int condition(Maker& m) {
  int c = m.pick(DType::boolean);
  if (c >= 0 && m.size(c) > 0) return m.fit(c, {});
  const int n = m.data_number(0, 3);
  return n < 0 ? -1 : m.call("Less", {n, m.number(DType::i64, m.between(1, 3))}, 0);
}

// Values to capture: some that there are.
std::vector<int> captures(Maker& m) {
  std::vector<int> out;
  for (int k = m.between(1, 3); k > 0; --k) {
    const int v = m.pick_any();
    if (v >= 0) out.push_back(v);
  }
  return out;
}

Type shape_alone(const Maker& m, int v) { return Type::of(m.tensor(v)); }

// Nodes whose values a body may give back, newest first.
int late_value(Maker& body) {
  for (int v = body.count() - 1; v >= 0; --v)
    if (body.is_tensor(v) && body.below(3)) return v;
  return body.pick_any();
}

bool branch(Maker& m) {
  if (m.depth() >= deepest) return false;
  const int c = condition(m);
  const std::vector<int> passed = captures(m);
  if (c < 0 || passed.empty()) return false;
  Module modules[2];
  Graph graphs[2];
  Maker makers[2] = {{m.random(), modules[0], graphs[0], m.depth() + 1},
                     {m.random(), modules[1], graphs[1], m.depth() + 1}};
  for (Maker& inner : makers) {
    for (int v : passed) inner.parameter(shape_alone(m, v), m.known(v).box, m.grain(v));
    inner.grow(m.between(0, 4));
  }
  // The second branch's results take the dtypes of the first one's, and sometimes their shapes.
  const size_t results = static_cast<size_t>(m.between(1, 2));
  std::vector<int> inputs{c};
  inputs.insert(inputs.end(), passed.begin(), passed.end());
  int grain = 16;
  for (size_t o = 0; o < results; ++o) {
    const int yes = late_value(makers[0]);
    if (yes < 0) return false;
    int no = makers[1].cast(late_value(makers[1]), makers[0].dtype(yes));
    if (no < 0)
      no = makers[1].operand(makers[0].dtype(yes), makers[0].dims(yes));
    else if (m.below(4))
      no = makers[1].fit(no, makers[0].dims(yes));
    if (no < 0) return false;
    grain = worse(grain, worse(makers[0].grain(yes), makers[1].grain(no)));
    makers[0].recipe().results.push_back(makers[0].ref(yes));
    makers[1].recipe().results.push_back(makers[1].ref(no));
  }
  std::vector<Recipe> bodies;
  for (Maker& inner : makers) {
    Recipe body = inner.take();
    prune(body, true);
    bodies.push_back(std::move(body));
  }
  return m.call("If", inputs, grain, results, std::move(bodies)) >= 0;
}

// carried: extents that may change from one iteration to the next; stacked results; scanned operands.
bool loop(Maker& m) {
  if (m.depth() >= deepest) return false;
  const int state = m.pick_any(0, 4);
  if (state < 0 || m.dtype(state) == DType::string) return false;
  const std::vector<int> passed = captures(m);
  const int scanned =
      m.once_in(3)
          ? m.pick([&](int v) { return m.rank(v) > 0 && m.extent_of(v, 0) < 6 && m.dtype(v) != DType::string; })
          : -1;
  int trips;
  bool counted = m.once_in(2);
  if (scanned >= 0) {
    const int shape = m.call("Shape{start=0, end=1}", {scanned}, 0);
    trips = shape < 0 ? -1 : m.call("Squeeze", {shape, m.fixed_list({0})}, 0);
    counted = true;
  } else {
    trips = m.once_in(2) ? m.number(DType::i64, m.between(0, 3)) : m.data_number(0, 3);
  }
  if (trips < 0) return false;
  Module module;
  Graph graph;
  Maker inner(m.random(), module, graph, m.depth() + 1);
  const int i = inner.parameter(Type::tensor(DType::i64, Shape{}), Box(Tensor::scalar_i64(0)), 0);
  Tensor yes(DType::boolean, {});
  yes.set_integer(0, 1);
  const int go = inner.parameter(Type::of(yes), Box(yes), 0);
  // What rounding does to a carried value is not known before it settles.
  const bool whole = !is_float(m.dtype(state));
  const int carried = inner.parameter(shape_alone(m, state), m.known(state).box, whole ? 0 : -1);
  if (scanned >= 0) {
    Dims d(m.dims(scanned).begin() + 1, m.dims(scanned).end());
    Tensor slice(m.dtype(scanned), d);
    inner.parameter(Type::of(slice), Box(slice), m.grain(scanned));
  }
  for (int v : passed) inner.parameter(shape_alone(m, v), m.known(v).box, m.grain(v));
  inner.grow(m.between(1, 4));
  int next = carried;
  if (m.rank(state) > 0 && m.once_in(4)) {  // it grows
    Dims one = m.dims(state);
    one[0] = 1;
    const int more = inner.operand(m.dtype(state), one);
    next = more < 0 ? carried : inner.call("Concat", {carried, more}, -1);
  } else if (whole || is_sub_byte(m.dtype(state)) || bit_size(m.dtype(state)) == 8) {
    const int v = inner.fit(inner.pick([&](int u) { return inner.dtype(u) == m.dtype(state); }), m.dims(state));
    next = v < 0 ? carried : v;
  } else {
    int v = inner.pick([&](int u) { return is_float(inner.dtype(u)) && bit_size(inner.dtype(u)) > 8; });
    v = inner.fit(inner.cast(v, m.dtype(state)), m.dims(state));
    const int sum = v < 0 ? -1 : inner.call("Add", {carried, v}, -1);
    const int bound = sum < 0 ? -1 : inner.call("Tanh", {sum}, -1);
    next = bound < 0 ? carried : bound;
  }
  if (next < 0) return false;
  int again = go;
  if (!counted && m.once_in(2)) again = inner.call("Less", {i, inner.number(DType::i64, m.between(0, 2))}, 0);
  const int slice = late_value(inner);
  if (again < 0 || slice < 0) return false;
  const bool stack = m.below(3) != 0 && inner.dtype(slice) != DType::string;
  inner.recipe().results = {inner.ref(again), inner.ref(next)};
  if (stack) inner.recipe().results.push_back(inner.ref(slice));
  std::vector<int> inputs{trips, m.once_in(3) && !counted ? condition(m) : -1, state};
  if (scanned >= 0) inputs.push_back(scanned);
  inputs.insert(inputs.end(), passed.begin(), passed.end());
  std::string text = fmt::format("Loop{{carried=1, counted={}", counted);
  if (scanned >= 0) text += fmt::format(", scan_axes=[0], scan_reversed=[{}]", m.below(2));
  if (stack)
    text += fmt::format(", stack_axes=[{}], stack_reversed=[{}]", m.below(inner.rank(slice) + 1), m.once_in(4) ? 1 : 0);
  std::vector<Recipe> bodies;
  bodies.push_back(inner.take());
  prune(bodies[0], true);
  return m.call(text + "}", inputs, -1, stack ? 2 : 1, std::move(bodies)) >= 0;
}

// A sequence that grows in a loop, and what comes of it.
bool collect(Maker& m) {
  if (m.depth() >= deepest) return false;
  const int x =
      m.pick([&](int v) { return m.rank(v) > 0 && m.dtype(v) != DType::string && bit_size(m.dtype(v)) >= 8; });
  const int trips = m.data_number(1, 3);
  const int s = x < 0 || trips < 0 ? -1 : m.call("SequenceConstruct", {x}, m.grain(x));
  if (s < 0) return false;
  Module module;
  Graph graph;
  Maker inner(m.random(), module, graph, m.depth() + 1);
  inner.parameter(Type::tensor(DType::i64, Shape{}), Box(Tensor::scalar_i64(0)), 0);
  Tensor yes(DType::boolean, {});
  const int go = inner.parameter(Type::of(yes), Box(yes), 0);
  const int list = inner.parameter(Type::sequence(Type::tensor(m.dtype(x), std::nullopt)), m.known(s).box, -1);
  const int passed = inner.parameter(shape_alone(m, x), m.known(x).box, m.grain(x));
  inner.grow(2);
  int v = inner.fit(inner.pick([&](int u) { return inner.dtype(u) == m.dtype(x); }), m.dims(x));
  if (v < 0) v = passed;
  const int longer = inner.call("SequenceInsert", {list, v}, -1);
  if (longer < 0) return false;
  inner.recipe().results = {inner.ref(go), inner.ref(longer)};
  std::vector<Recipe> bodies;
  bodies.push_back(inner.take());
  prune(bodies[0], true);
  const int all = m.call("Loop{carried=1, counted=true}", {trips, -1, s, x}, -1, 1, std::move(bodies));
  return all >= 0 && m.call("ConcatFromSequence{axis=0}", {all}, -1) >= 0;
}

constexpr Family table[] = {{"if", 4, branch}, {"loop", 5, loop}, {"collect", 1, collect}};

}  // namespace

std::span<const Family> control_families() { return table; }

}  // namespace random_graphs
