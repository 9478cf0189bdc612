#include "random_graphs/maker.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "base/scanner.h"
#include "ir/evaluate.h"
#include "ops/text.h"

namespace random_graphs {
namespace {

constexpr double largest = 2000;         // a node that gives more is not kept
constexpr int64_t most_elements = 3000;  // of one value
constexpr int headroom = 8;              // how much larger other data may get than what was seen
constexpr size_t most_inputs = 5;        // of a graph
constexpr int first_nodes = 5, last_nodes = 40;

bool tame(const Box& box) {
  if (box.kind == Box::Kind::sequence) return std::all_of(box.items.begin(), box.items.end(), tame);
  if (box.kind == Box::Kind::none) return true;
  const Tensor& t = box.tensor;
  if (t.count() > most_elements || t.rank() > 8 || is_complex(t.dtype())) return false;
  if (!is_float(t.dtype())) return true;
  for (int64_t i = 0; i < t.count(); ++i)
    if (const double x = t.get_real(i); !std::isfinite(x) || std::abs(x) > largest) return false;
  return true;
}

// Types of a graph that evaluates one node by itself.
Type loose(const Type& type, const Box& box) {
  if (type.is_tensor()) return Type::of(box.tensor);
  if (type.kind == Type::Kind::sequence) return Type::sequence(Type::tensor(type.element->dtype, std::nullopt));
  if (type.kind == Type::Kind::optional && type.element->is_tensor())
    return Type::optional(Type::tensor(type.element->dtype, std::nullopt));
  return type;
}

const std::vector<Family>& families() {
  static const std::vector<Family> all = [] {
    std::vector<Family> out;
    for (const auto& some :
         {pointwise_families(), movement_families(), shape_families(), indexing_families(), selection_families(),
          contraction_families(), spatial_families(), composite_families(), box_families(), control_families()})
      for (const Family& f : some) out.insert(out.end(), static_cast<size_t>(f.weight), f);
    return out;
  }();
  return all;
}

}  // namespace

bool Maker::small(const Dims& dims) {
  int64_t n = 1;
  for (int64_t d : dims) {
    n *= d;
    if (n > most_elements) return false;
  }
  return dims.size() <= 7;
}

std::optional<Dims> Maker::broadcast(const Dims& a, const Dims& b) {
  Dims out(std::max(a.size(), b.size()));
  for (size_t k = 0; k < out.size(); ++k) {
    const int64_t x = k < out.size() - a.size() ? 1 : a[k - (out.size() - a.size())];
    const int64_t y = k < out.size() - b.size() ? 1 : b[k - (out.size() - b.size())];
    if (x != y && x != 1 && y != 1) return std::nullopt;
    out[k] = x == 1 ? y : x;
  }
  return out;
}

std::string Maker::text_of(std::span<const int64_t> list) {
  std::string out = "[";
  for (size_t i = 0; i < list.size(); ++i) out += (i ? ", " : "") + std::to_string(list[i]);
  return out + "]";
}

int64_t Maker::extent() {
  static constexpr int64_t some[] = {1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17};
  return once_in(40) ? 0 : one_of(some);
}

DType Maker::float_dtype() {
  static constexpr DType others[] = {DType::f16, DType::bf16, DType::f64};
  return below(4) ? DType::f32 : one_of(others);
}

DType Maker::integer_dtype() {
  static constexpr DType all[] = {DType::i64, DType::i64, DType::i32, DType::i32, DType::u8,
                                  DType::i8,  DType::i16, DType::u16, DType::u32, DType::u64};
  return one_of(all);
}

std::vector<int64_t> Maker::permutation(int n) {
  std::vector<int64_t> p;
  for (int k = 0; k < n; ++k) p.push_back(k);
  for (int k = n - 1; k > 0; --k) std::swap(p[static_cast<size_t>(k)], p[static_cast<size_t>(below(k + 1))]);
  return p;
}

bool Maker::bounded(int v, double bound) const {
  const Tensor& t = tensor(v);
  for (int64_t i = 0; i < t.count(); ++i)
    if (std::abs(t.get_real(i)) > bound) return false;
  return true;
}

int Maker::pick_float(int low_rank, int high_rank) {
  const DType wanted = float_dtype();
  const int v = pick(wanted, low_rank, high_rank);
  return v < 0 && wanted != DType::f32 ? pick(DType::f32, low_rank, high_rank) : v;
}

int Maker::pick_exact(int low_rank, int high_rank) {
  return pick([&](int v) {
    const DType d = dtype(v);
    const bool common =
        d == DType::f32 || d == DType::f16 || d == DType::bf16 || d == DType::f64 || (is_integer(d) && !is_sub_byte(d));
    return common && exact(v) && rank(v) >= low_rank && rank(v) <= high_rank;
  });
}

// ---- nodes ----

int Maker::settled_grain(const Tensor& t, int grain) const {
  if (!is_float(t.dtype())) return 0;
  if (grain < 0 || grain > 16) return -1;
  const double scale = std::ldexp(1, grain);
  double high = 0;
  for (int64_t i = 0; i < t.count(); ++i) {
    const double x = t.get_real(i) * scale;
    if (x != std::floor(x)) return -1;
    high = std::max(high, std::abs(x));
  }
  const int bits = t.dtype() == DType::f64 ? 50 : t.dtype() == DType::f32 ? 24 : t.dtype() == DType::f16 ? 11 : 8;
  return bit_size(t.dtype()) > 8 && high * headroom >= std::ldexp(1, bits) ? -1 : grain;
}

int Maker::append(Item item, Ids ids, std::vector<Box> boxes, std::vector<int> grains) {
  const int first = count();
  made_ += item.kind == Item::Kind::node;
  recipe_.items.push_back(std::move(item));
  for (size_t o = 0; o < boxes.size(); ++o) {
    const int grain = boxes[o].kind == Box::Kind::tensor ? settled_grain(boxes[o].tensor, grains[o]) : grains[o];
    known_.push_back({{static_cast<int>(recipe_.items.size()) - 1, static_cast<int>(o)}, ids[o], boxes[o], grain});
  }
  return first;
}

int Maker::constant(Tensor tensor) {
  Item item;
  item.kind = Item::Kind::constant;
  item.tensor = tensor;
  const ValueId id = builder.constant(tensor);
  const int grain = is_float(tensor.dtype()) ? 4 : 0;
  return append(std::move(item), {id}, {Box(std::move(tensor))}, {grain});
}

int Maker::parameter(Type type, Box box, int grain) {
  const ValueId id = builder.input(std::move(type));
  return append({}, {id}, {std::move(box)}, {grain});
}

int Maker::input(DType dtype, Dims dims) {
  if (depth_ > 0 || static_cast<size_t>(inputs_) >= most_inputs) return random_constant(dtype, std::move(dims));
  ++inputs_;
  Item item;
  item.dtype = dtype;
  item.dims = dims;
  item.salt = random_();
  for (size_t k = 0; k < dims.size(); ++k) item.open.push_back(below(5) != 0);
  Tensor data = input_data(item, data_seed_);
  const ValueId id = builder.input(Type::of(data));
  return append(std::move(item), {id}, {Box(std::move(data))}, {3});
}

int Maker::random_constant(DType dtype, Dims dims, double low, double high) {
  Tensor t(dtype, std::move(dims));
  for (int64_t i = 0; i < t.count(); ++i) {
    const double at = low + (high - low) * below(33) / 32.0;
    if (dtype == DType::string)
      t.strings()[static_cast<size_t>(i)] = std::string(static_cast<size_t>(below(3)), "ab "[below(3)]);
    else if (dtype == DType::boolean)
      t.set_integer(i, below(2));
    else if (is_float(dtype))
      t.set_real(i, std::round(at * 16) / 16);
    else
      t.set_integer(i, is_signed(dtype) ? between(-3, 3) : between(0, 5));
  }
  return constant(std::move(t));
}

int Maker::call(std::string text, std::vector<int> inputs, int grain, size_t outputs, std::vector<Recipe> bodies) {
  Item item;
  item.kind = Item::Kind::node;
  item.call = std::move(text);
  item.outputs = outputs;
  item.bodies = std::move(bodies);
  Ids ids;
  std::vector<const Box*> boxes;
  for (int v : inputs) {
    if (v < -1) return -1;
    item.inputs.push_back(v < 0 ? Ref{} : ref(v));
    ids.push_back(v < 0 ? no_id : known(v).id);
    boxes.push_back(v < 0 ? nullptr : &known(v).box);
  }
  Ids results;
  std::vector<Box> made;
  try {
    results = make_item(builder, item, ids, {});
    if (item.bodies.empty()) {
      Scanner scanner(item.call);
      const Call parsed = parse_call(scanner);
      while (!boxes.empty() && !boxes.back()) boxes.pop_back();
      made = evaluate_op(*parsed.op, parsed.attrs, boxes, outputs);
    } else {
      Module module;
      GraphBuilder b(module, *module.main);
      Ids alone;
      std::vector<Box> data;
      for (size_t k = 0; k < ids.size(); ++k) {
        alone.push_back(ids[k] == no_id ? no_id : b.input(loose(builder.type(ids[k]), *boxes[k])));
        if (ids[k] != no_id) data.push_back(*boxes[k]);
      }
      module.main->outputs = make_item(b, item, alone, {});
      made = Evaluation(module, data).outputs();
    }
  } catch (const Error& error) {
    if (error.code() == Code::internal) throw;
    return -1;
  }
  for (size_t o = 0; o < made.size(); ++o) {
    if (!tame(made[o])) return -1;
    const Type& type = builder.type(results[o]);
    if (!type.has_shape()) continue;
    const auto fixed = constant_dims(*type.shape);
    if (fixed && *fixed != made[o].tensor.dims())
      throw Error(Code::internal, fmt::format("{} is said to give {} and gives {}", item.call,
                                              to_text(type, builder.module.symbols), type_text(made[o].tensor)));
  }
  return append(std::move(item), std::move(results), std::move(made), std::vector<int>(outputs, grain));
}

int Maker::take_over(const Graph& graph, const std::vector<int>& inputs, ValueId result) {
  std::vector<int> by_value(graph.values.size(), -1);
  for (size_t i = 0; i < inputs.size(); ++i) by_value[graph.inputs[i]] = inputs[i];
  const auto of = [&](ValueId v) {
    if (v == no_id) return -1;
    int& out = by_value[v];
    if (out < 0)
      if (const Tensor* t = graph.constant(v)) out = constant(*t);
    return out < 0 ? -2 : out;
  };
  for (const Node& node : graph.nodes) {
    std::vector<int> operands;
    for (ValueId v : node.inputs) operands.push_back(of(v));
    const int first = call(call_text(*node.op, node.attrs), operands, -1, node.outputs.size());
    if (first < 0) return -1;
    for (size_t o = 0; o < node.outputs.size(); ++o) by_value[node.outputs[o]] = first + static_cast<int>(o);
  }
  return of(result);
}

// ---- values that are made to fit ----

int Maker::cast(int v, DType to) {
  if (v < 0) return v;
  const DType from = dtype(v);
  if (from == to) return v;
  if (from == DType::string || to == DType::string || is_complex(from)) return -2;
  const bool coarse = is_float(to) && bit_size(to) <= 8;
  if (is_float(from) && (!is_float(to) || coarse) && !exact(v)) return -2;
  // Out of range, conversions saturate or wrap by rules of their own: within it they must agree.
  if (is_float(from) && !is_float(to) && to != DType::boolean) {
    const double high = is_sub_byte(to) ? 1 : 100;
    if (!bounded(v, high)) return -2;
    if (!is_signed(to)) v = call("Abs", {v}, grain(v));
  }
  return call(fmt::format("Cast{{to={}}}", dtype_name(to)), {v}, is_float(from) ? grain(v) : 0);
}

int Maker::fit(int v, Dims wanted) {
  if (v < 0 || dims(v) == wanted) return v;
  const int g = grain(v);
  const auto reshaped = [&](const Dims& d) { return d == dims(v) ? v : call("Reshape", {v, list(d)}, g); };
  if (size(v) == element_count(wanted) && size(v) > 0) return reshaped(wanted);
  if (size(v) == 0) return -2;
  Dims d = dims(v);
  while (d.size() < wanted.size()) d.insert(d.begin(), 1);
  const Dims ones(wanted.size(), 1);
  if (d.size() > wanted.size()) {
    if (wanted.empty()) {
      v = reshaped({size(v)});
      return v < 0 ? -2 : call("Gather", {v, number(DType::i64, below(static_cast<int>(size(v))))}, g);
    }
    int64_t merged = 1;
    while (d.size() >= wanted.size()) {
      merged *= d.front();
      d.erase(d.begin());
    }
    d.insert(d.begin(), merged);
  }
  v = reshaped(d);
  if (v < 0) return -2;
  bool expand = false;
  std::vector<int64_t> starts, ends, axes, pads(2 * d.size(), 0);
  bool pad = false;
  for (size_t k = 0; k < d.size(); ++k) {
    if (d[k] > wanted[k]) {
      const int64_t start = below(static_cast<int>(d[k] - wanted[k]) + 1);
      starts.push_back(start);
      ends.push_back(start + wanted[k]);
      axes.push_back(static_cast<int64_t>(k));
    } else if (d[k] == 1 && wanted[k] != 1) {
      expand = true;
    } else if (d[k] < wanted[k]) {
      pad = true;
      pads[k] = below(static_cast<int>(wanted[k] - d[k]) + 1);
      pads[k + d.size()] = wanted[k] - d[k] - pads[k];
    }
  }
  if (!axes.empty()) v = call("Slice", {v, list(starts), list(ends), fixed_list(axes)}, g);
  if (v >= 0 && pad)
    v = call(dtype(v) != DType::string && once_in(2) ? "Pad" : "Pad{mode=edge}", {v, fixed_list(pads)}, g);
  if (v >= 0 && expand) v = call("Expand", {v, list(wanted)}, g);
  return v < 0 || dims(v) != wanted ? -2 : v;
}

int Maker::operand(DType wanted, Dims d) {
  const int way = below(8);
  if (way < 4) {
    const int v = pick([&](int u) { return dtype(u) == wanted && dims(u) == d; });
    if (v >= 0) return v;
  }
  if (way < 6) {
    const int v = fit(pick(wanted), d);
    if (v >= 0) return v;
  }
  if (way == 6) {
    const int v = fit(cast(pick_any(), wanted), d);
    if (v >= 0) return v;
  }
  return way == 7 ? input(wanted, d) : random_constant(wanted, d);
}

int Maker::broadcastable(DType wanted, Dims d) {
  if (below(3)) {
    const int v = pick([&](int u) {
      const auto both = broadcast(dims(u), d);
      return dtype(u) == wanted && both && small(*both);
    });
    if (v >= 0) return v;
  }
  Dims some = d;
  for (int64_t& e : some)
    if (once_in(3)) e = 1;
  if (!some.empty() && once_in(2)) some.erase(some.begin(), some.begin() + below(static_cast<int>(some.size()) + 1));
  return operand(wanted, some);
}

int Maker::list(std::vector<int64_t> numbers) {
  if (numbers.empty() || below(4)) return fixed_list(numbers);
  std::vector<int> parts;
  for (int64_t n : numbers) {
    int part = -1;
    const int v = pick([&](int u) { return std::find(dims(u).begin(), dims(u).end(), n) != dims(u).end(); });
    if (v >= 0 && below(4)) {
      const auto at = std::find(dims(v).begin(), dims(v).end(), n) - dims(v).begin();
      if (once_in(2)) {
        part = call(fmt::format("Shape{{start={}, end={}}}", at, at + 1), {v}, 0);
      } else {
        const int shape = call("Shape", {v}, 0);
        part = shape < 0 ? -1 : call("Gather", {shape, fixed_list({at})}, 0);
      }
    }
    parts.push_back(part < 0 ? fixed_list({n}) : part);
  }
  const int all = parts.size() == 1 ? parts[0] : call("Concat", parts, 0);
  return all < 0 ? fixed_list(numbers) : all;
}

int Maker::data_number(int64_t low, int64_t high) {
  int v = pick([&](int u) {
    return size(u) > 0 && (dtype(u) == DType::boolean || is_integer(dtype(u))) && !is_sub_byte(dtype(u));
  });
  v = v < 0 ? input(DType::i64, {}) : cast(v, DType::i64);
  if (v >= 0 && rank(v) > 0) v = call(once_in(2) ? "ReduceMax{keep_dims=false}" : "ReduceSum{keep_dims=false}", {v}, 0);
  if (v < 0) return -2;
  v = call("Mod", {v, number(DType::i64, static_cast<double>(high - low + 1))}, 0);
  return v >= 0 && low != 0 ? call("Add", {v, number(DType::i64, static_cast<double>(low))}, 0) : v;
}

int Maker::indices(int64_t extent, Dims d, bool negative) {
  if (extent < 1) return -2;
  const auto n = static_cast<int>(extent);
  const DType wanted = below(3) ? DType::i64 : DType::i32;
  if (below(2)) {
    const int v = operand(wanted, d);
    return v < 0 ? -2 : call("Mod", {v, number(wanted, n)}, 0);
  }
  Tensor t(wanted, d);
  for (int64_t i = 0; i < t.count(); ++i) t.set_integer(i, negative && once_in(2) ? below(n) - n : below(n));
  return constant(std::move(t));
}

// ---- graphs ----

void Maker::grow(int nodes) {
  const std::vector<Family>& all = families();
  const int wanted = made_ + nodes;
  for (int tries = 0; made_ < wanted && tries < 12 * nodes + 20; ++tries)
    all[static_cast<size_t>(below(static_cast<int>(all.size())))].make(*this);
}

namespace {

size_t top_nodes(const Recipe& recipe) {
  return static_cast<size_t>(std::count_if(recipe.items.begin(), recipe.items.end(), [](const Recipe::Item& item) {
    return item.kind == Recipe::Item::Kind::node;
  }));
}

Recipe drawn(std::mt19937_64& random, uint64_t data_seed) {
  Module module;
  Maker m(random, module, *module.main, 0, data_seed);
  for (int i = m.between(1, 3); i > 0; --i) {
    Dims d;
    for (int k = m.once_in(6) ? m.below(2) : m.between(1, 4); k > 0; --k) d.push_back(m.extent());
    if (d.size() == 4) d = {d[0] % 4, m.between(1, 8), d[2] % 8, d[3] % 8};
    const DType dtype = m.below(8) < 6 ? m.float_dtype() : m.once_in(3) ? DType::boolean : m.integer_dtype();
    m.input(dtype, Maker::small(d) ? d : Dims{d[0], 3});
  }
  // Many small ones: they are quick, and what they find is easy to read.
  const auto wanted = static_cast<size_t>(m.below(3) ? m.between(first_nodes, 14) : m.between(15, last_nodes));
  m.grow(static_cast<int>(wanted) + 4);
  const Recipe all = m.take();
  std::vector<std::vector<bool>> read;
  for (const Recipe::Item& item : all.items) read.emplace_back(item.outputs, item.kind != Recipe::Item::Kind::node);
  for (const Recipe::Item& item : all.items)
    for (const Ref& r : item.inputs)
      if (r.item >= 0) read[static_cast<size_t>(r.item)][static_cast<size_t>(r.output)] = true;
  std::vector<Ref> unread;
  for (size_t i = all.items.size(); i-- > 0;)
    for (size_t o = 0; o < read[i].size(); ++o)
      if (!read[i][o]) unread.push_back({static_cast<int>(i), static_cast<int>(o)});
  std::shuffle(unread.begin(), unread.end(), random);
  // As many of what nothing reads as it takes; sometimes a value in the middle, an input or a constant too.
  Recipe out = all;
  out.results.clear();
  if (m.once_in(3)) out.results.push_back({m.below(static_cast<int>(all.items.size())), 0});
  std::vector<Ref> results = out.results;
  for (const Ref& r : unread) {
    results.push_back(r);
    Recipe larger = all;
    larger.results = results;
    prune(larger, true);
    if (const size_t nodes = top_nodes(larger); nodes > static_cast<size_t>(last_nodes)) break;
    out = std::move(larger);
    if (top_nodes(out) >= wanted) break;
  }
  return out;
}

}  // namespace

Recipe random_recipe(uint64_t seed) {
  std::mt19937_64 random(seed * 0x9E3779B97F4A7C15u + 1);
  for (;;) {
    Recipe recipe = drawn(random, seed);
    const size_t nodes = top_nodes(recipe);
    if (nodes >= static_cast<size_t>(first_nodes) && nodes <= static_cast<size_t>(last_nodes)) return recipe;
  }
}

}  // namespace random_graphs
