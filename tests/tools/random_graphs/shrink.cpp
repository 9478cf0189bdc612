#include "random_graphs/shrink.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <set>

#include "ir/evaluate.h"
#include "ops/elements.h"

namespace random_graphs {
namespace {

using Item = Recipe::Item;
using Kind = Item::Kind;

// What gets smaller, most important first; every step makes it less, so shrinking ends.
using Measure = std::array<size_t, 5>;

void add_to(Measure& m, const Recipe& recipe, bool top) {
  m[0] += count_nodes(recipe);
  m[1] += recipe.results.size() + recipe.items.size();
  for (const Item& item : recipe.items) {
    m[1] += item.inputs.size();
    if (item.kind == Kind::input && top)
      for (size_t k = 0; k < item.dims.size(); ++k) {
        m[2] += static_cast<size_t>(item.dims[k]);
        m[4] += item.open[k];
      }
    if (item.kind == Kind::constant)
      for (int64_t d : item.tensor.dims()) m[2] += static_cast<size_t>(d);
    m[3] += item.call.size();
    for (const Recipe& body : item.bodies) {
      Measure inner{};
      add_to(inner, body, false);
      for (size_t k = 1; k < inner.size(); ++k) m[k] += inner[k];
    }
  }
}

Measure measure(const Recipe& recipe) {
  Measure m{};
  add_to(m, recipe, true);
  return m;
}

Item constant_item(Tensor tensor) {
  Item item;
  item.kind = Kind::constant;
  item.tensor = std::move(tensor);
  return item;
}

Tensor cropped(const Tensor& x, const Dims& dims) {
  Tensor out(x.dtype(), dims);
  if (x.count() == 0) return out;
  for (int64_t i = 0; i < out.count(); ++i) {
    int64_t rest = i, from = 0, step = 1;
    for (size_t k = dims.size(); k-- > 0;) {
      from += std::min(rest % dims[k], x.dims()[k] - 1) * step;
      rest /= dims[k];
      step *= x.dims()[k];
    }
    copy_element(out, i, x, from);
  }
  return out;
}

// Every operand of the recipe itself, results included, through f(Ref&).
template <typename F>
void each_ref(Recipe& recipe, F f) {
  for (Item& item : recipe.items)
    for (Ref& r : item.inputs) f(r);
  for (Ref& r : recipe.results) f(r);
}

// Items put in the place of item `at`; by output, what stands for it (into the new items, or earlier ones).
Recipe replaced(Recipe recipe, size_t at, std::vector<Item> items, const std::vector<Ref>& outputs) {
  const int added = static_cast<int>(items.size()) - 1, place = static_cast<int>(at);
  each_ref(recipe, [&](Ref& r) {
    if (r.item == place)
      r = outputs[static_cast<size_t>(r.output)];
    else if (r.item > place)
      r.item += added;
  });
  recipe.items.erase(recipe.items.begin() + place);
  recipe.items.insert(recipe.items.begin() + place, std::make_move_iterator(items.begin()),
                      std::make_move_iterator(items.end()));
  return recipe;
}

// Attributes of a call, split where their commas are.
std::vector<std::string> attributes(const std::string& call) {
  std::vector<std::string> out;
  const size_t open = call.find('{');
  if (open == std::string::npos) return out;
  int depth = 0;
  bool quoted = false;
  out.emplace_back();
  for (size_t i = open + 1; i + 1 < call.size(); ++i) {
    const char c = call[i];
    if (c == '"') quoted = !quoted;
    if (!quoted) depth += c == '[' ? 1 : c == ']' ? -1 : 0;
    if (c == ',' && depth == 0 && !quoted) {
      out.emplace_back();
      ++i;  // the space
    } else {
      out.back() += c;
    }
  }
  return out;
}

std::string without_attribute(const Item& item, size_t dropped) {
  const std::vector<std::string> all = attributes(item.call);
  std::string text;
  for (size_t k = 0; k < all.size(); ++k)
    if (k != dropped) text += (text.empty() ? "" : ", ") + all[k];
  const std::string name(item.op());
  return text.empty() ? name : name + "{" + text + "}";
}

class Shrinker {
 public:
  Shrinker(Recipe recipe, Failure failure, uint64_t seed, const Test& test, double seconds)
      : best_{std::move(recipe), std::move(failure), 0}, seed_(seed), test_(test), start_(now()), seconds_(seconds) {}

  Shrunk run() {
    if (!is_sound(best_.recipe, seed_)) return std::move(best_);
    Recipe pruned = best_.recipe;
    take(std::move(pruned));
    for (bool changed = true; changed && !late();) {
      changed = false;
      for (const auto step : {&Shrinker::results, &Shrinker::nodes, &Shrinker::inside_bodies,
                              &Shrinker::unread_operands, &Shrinker::texts, &Shrinker::extents, &Shrinker::open_axes})
        changed = (this->*step)() || changed;
    }
    return std::move(best_);
  }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  bool late() const { return now() - start_ > seconds_; }

  bool take(Recipe candidate) {
    if (late()) return false;
    prune(candidate, false);
    if (!(measure(candidate) < measure(best_.recipe)) || !is_sound(candidate, seed_)) return false;
    ++best_.tries;
    const std::optional<Failure> failure = test_(candidate);
    if (!failure || failure->phase != best_.failure.phase) return false;
    best_.recipe = std::move(candidate);
    best_.failure = *failure;
    return true;
  }

  bool results() {
    const std::vector<Ref> all = best_.recipe.results;
    for (size_t keep = 0; keep < all.size() && all.size() > 1; ++keep) {
      Recipe candidate = best_.recipe;
      candidate.results = {all[keep]};
      if (take(std::move(candidate))) return true;
    }
    bool changed = false;
    for (size_t drop = best_.recipe.results.size(); drop-- > 0 && best_.recipe.results.size() > 1;) {
      Recipe candidate = best_.recipe;
      candidate.results.erase(candidate.results.begin() + static_cast<int64_t>(drop));
      changed = take(std::move(candidate)) || changed;
    }
    return changed;
  }

  // Values of every item by definition.
  std::vector<std::vector<Box>> values() const {
    std::vector<Ids> ids;
    const Module module = module_of(best_.recipe, false, {}, &ids);
    const std::vector<Box> data = data_for(best_.recipe, seed_);
    const Evaluation evaluation(module, data);
    std::vector<std::vector<Box>> out;
    for (const Ids& item : ids) {
      out.emplace_back();
      for (ValueId v : item) {
        const Tensor* known = module.main->constant(v);
        out.back().push_back(known ? Box(*known) : evaluation.value(v));
      }
    }
    return out;
  }

  bool nodes() {
    bool changed = false;
    for (size_t at = best_.recipe.items.size(); at-- > 0;) {
      if (at >= best_.recipe.items.size() || best_.recipe.items[at].kind != Kind::node || !node_goes(at)) continue;
      changed = true;
      at = std::min(at + 1, best_.recipe.items.size());
    }
    return changed;
  }

  bool node_goes(size_t at) {
    const std::vector<Box> made = values()[at];
    const bool tensors =
        std::all_of(made.begin(), made.end(), [](const Box& b) { return b.kind == Box::Kind::tensor; });
    for (const bool constant : {false, true}) {
      if (!tensors) break;
      std::vector<Item> items;
      std::vector<Ref> outputs;
      for (size_t o = 0; o < made.size(); ++o) {
        Item item;
        item.dtype = made[o].tensor.dtype();
        item.dims = made[o].tensor.dims();
        item.open.assign(item.dims.size(), true);
        item.salt = at * 31 + o;
        items.push_back(constant ? constant_item(made[o].tensor) : std::move(item));
        outputs.push_back({static_cast<int>(at + o), 0});
      }
      if (take(replaced(best_.recipe, at, std::move(items), outputs))) return true;
    }
    const Item& node = best_.recipe.items[at];
    std::vector<Ref> tried;
    for (const Ref& r : node.inputs) {
      if (r.item < 0 || std::find(tried.begin(), tried.end(), r) != tried.end()) continue;
      tried.push_back(r);
      if (take(replaced(best_.recipe, at, {}, std::vector<Ref>(node.outputs, r)))) return true;
    }
    for (size_t body = 0; body < node.bodies.size(); ++body)
      if (take(inlined(best_.recipe, at, body))) return true;
    return false;
  }

  // A body in the place of its node; of a loop, its first iteration.
  static Recipe inlined(const Recipe& recipe, size_t at, size_t which) {
    const Item& node = recipe.items[at];
    const bool loop = node.op() == "Loop";
    const Recipe& body = node.bodies[which];
    std::vector<Item> items;
    std::vector<Ref> parameters;
    if (loop) {
      Tensor yes(DType::boolean, {});
      yes.set_integer(0, 1);
      items.push_back(constant_item(Tensor::scalar_i64(0)));
      items.push_back(constant_item(std::move(yes)));
      for (int k = 0; k < 2; ++k) parameters.push_back({static_cast<int>(at) + k, 0});
    }
    for (size_t k = loop ? 2 : 1; k < node.inputs.size(); ++k) parameters.push_back(node.inputs[k]);
    std::vector<Ref> by_item(body.items.size());  // of the body, to items of the recipe
    size_t next = 0;
    const auto mapped = [&](Ref r) {
      if (r.item < 0) return r;
      const Ref to = by_item[static_cast<size_t>(r.item)];
      return Ref{to.item, body.items[static_cast<size_t>(r.item)].kind == Kind::input ? to.output : r.output};
    };
    for (size_t i = 0; i < body.items.size(); ++i) {
      if (body.items[i].kind == Kind::input) {
        by_item[i] = parameters[next++];
        continue;
      }
      Item item = body.items[i];
      for (Ref& r : item.inputs) r = mapped(r);
      by_item[i] = {static_cast<int>(at + items.size()), 0};
      items.push_back(std::move(item));
    }
    std::vector<Ref> outputs;
    for (size_t o = loop ? 1 : 0; o < body.results.size(); ++o) outputs.push_back(mapped(body.results[o]));
    // Replacing moves what lies behind the node alone: operands of the new items lie before it or among them.
    return replaced(recipe, at, std::move(items), outputs);
  }

  // Recipes inside of the best one, by path: item and body numbers in turns.
  using Path = std::vector<size_t>;
  static void bodies_of(const Recipe& recipe, Path path, std::vector<Path>& out) {
    for (size_t i = 0; i < recipe.items.size(); ++i)
      for (size_t b = 0; b < recipe.items[i].bodies.size(); ++b) {
        Path inner = path;
        inner.insert(inner.end(), {i, b});
        out.push_back(inner);
        bodies_of(recipe.items[i].bodies[b], std::move(inner), out);
      }
  }
  static Recipe& at_path(Recipe& recipe, const Path& path) {
    Recipe* at = &recipe;
    for (size_t k = 0; k + 1 < path.size(); k += 2) at = &at->items[path[k]].bodies[path[k + 1]];
    return *at;
  }

  bool inside_bodies() {
    std::vector<Path> paths;
    bodies_of(best_.recipe, {}, paths);
    for (const Path& path : paths) {
      Recipe& body = at_path(best_.recipe, path);
      for (size_t i = body.items.size(); i-- > 0;) {
        const Item& node = body.items[i];
        if (node.kind != Kind::node) continue;
        for (const Ref& r : node.inputs) {
          if (r.item < 0) continue;
          Recipe candidate = best_.recipe;
          Recipe& inner = at_path(candidate, path);
          inner = replaced(inner, i, {}, std::vector<Ref>(node.outputs, r));
          if (take(std::move(candidate))) return true;
        }
        for (size_t b = 0; b < node.bodies.size(); ++b) {
          Recipe candidate = best_.recipe;
          Recipe& inner = at_path(candidate, path);
          inner = inlined(inner, i, b);
          if (take(std::move(candidate))) return true;
        }
      }
      // Results of the body read one of its parameters instead.
      for (size_t o = 0; o < body.results.size(); ++o)
        for (size_t p = 0; p < body.items.size(); ++p) {
          if (body.items[p].kind != Kind::input) continue;
          Recipe candidate = best_.recipe;
          at_path(candidate, path).results[o] = {static_cast<int>(p), 0};
          if (take(std::move(candidate))) return true;
        }
    }
    return false;
  }

  // Trailing operands that may be absent, and captures that no body reads.
  bool unread_operands() {
    for (size_t i = 0; i < best_.recipe.items.size(); ++i) {
      const Item& node = best_.recipe.items[i];
      for (size_t k = node.inputs.size(); k-- > 0;) {
        if (node.inputs[k].item < 0) continue;
        Recipe candidate = best_.recipe;
        Item& item = candidate.items[i];
        if (node.bodies.empty()) {
          item.inputs[k] = Ref{};
          while (!item.inputs.empty() && item.inputs.back().item < 0) item.inputs.pop_back();
        } else {
          const bool loop = node.op() == "Loop";
          if (k < (loop ? 3u : 1u)) continue;
          const size_t parameter = loop ? k : k - 1;
          bool read = false;
          for (Recipe& body : item.bodies) {
            if (body.items.size() <= parameter || body.items[parameter].kind != Kind::input) read = true;
            each_ref(body, [&](Ref& r) { read = read || r.item == static_cast<int>(parameter); });
          }
          if (read) continue;
          for (Recipe& body : item.bodies) {
            body.items.erase(body.items.begin() + static_cast<int64_t>(parameter));
            each_ref(body, [&](Ref& r) { r.item -= r.item > static_cast<int>(parameter); });
          }
          item.inputs.erase(item.inputs.begin() + static_cast<int64_t>(k));
        }
        if (take(std::move(candidate))) return true;
      }
    }
    return false;
  }

  bool texts() {
    bool changed = false;
    for (size_t i = 0; i < best_.recipe.items.size(); ++i)
      for (size_t k = attributes(best_.recipe.items[i].call).size(); k-- > 0;) {
        Recipe candidate = best_.recipe;
        candidate.items[i].call = without_attribute(candidate.items[i], k);
        changed = take(std::move(candidate)) || changed;
      }
    return changed;
  }

  static void set_extent(Item& item, size_t axis, int64_t to) {
    if (item.kind == Kind::input) {
      item.dims[axis] = to;
    } else {
      Dims d = item.tensor.dims();
      d[axis] = to;
      item.tensor = cropped(item.tensor, d);
    }
  }
  static const Dims& extents_of(const Item& item) { return item.kind == Kind::input ? item.dims : item.tensor.dims(); }

  // One extent everywhere at once, in lists of numbers too; then each by itself; then axes of extent 1.
  bool extents() {
    bool changed = false;
    std::set<int64_t, std::greater<>> all;
    for (const Item& item : best_.recipe.items)
      if (item.kind != Kind::node)
        for (int64_t d : extents_of(item))
          if (d > 1) all.insert(d);
    for (int64_t from : all)
      for (int64_t to : {int64_t{1}, int64_t{2}, from / 2, from - 1}) {
        if (to >= from) continue;
        Recipe candidate = best_.recipe;
        for (Item& item : candidate.items) {
          if (item.kind == Kind::node) continue;
          for (size_t k = 0; k < extents_of(item).size(); ++k)
            if (extents_of(item)[k] == from) set_extent(item, k, to);
          if (item.kind == Kind::constant && item.tensor.dtype() == DType::i64 && item.tensor.rank() == 1) {
            item.tensor = item.tensor.clone();
            for (int64_t e = 0; e < item.tensor.count(); ++e)
              if (item.tensor.get_integer(e) == from) item.tensor.set_integer(e, to);
          }
        }
        if (take(std::move(candidate))) {
          changed = true;
          break;
        }
      }
    for (size_t i = 0; i < best_.recipe.items.size(); ++i) {
      if (best_.recipe.items[i].kind == Kind::node) continue;
      for (size_t k = 0; k < extents_of(best_.recipe.items[i]).size(); ++k) {
        const int64_t from = extents_of(best_.recipe.items[i])[k];
        for (int64_t to : {int64_t{0}, int64_t{1}, from / 2, from - 1}) {
          if (to < 0 || to >= from) continue;
          Recipe candidate = best_.recipe;
          set_extent(candidate.items[i], k, to);
          if (!take(std::move(candidate))) continue;
          changed = true;
          break;
        }
        if (axis_goes(i, k)) {
          changed = true;
          break;
        }
      }
      if (late()) break;
    }
    return changed;
  }

  bool axis_goes(size_t i, size_t axis) {
    if (extents_of(best_.recipe.items[i])[axis] != 1) return false;
    Recipe candidate = best_.recipe;
    Item& item = candidate.items[i];
    if (item.kind == Kind::input) {
      item.dims.erase(item.dims.begin() + static_cast<int64_t>(axis));
      item.open.erase(item.open.begin() + static_cast<int64_t>(axis));
    } else {
      Dims d = item.tensor.dims();
      d.erase(d.begin() + static_cast<int64_t>(axis));
      item.tensor = item.tensor.reshaped(d);
    }
    return take(std::move(candidate));
  }

  bool open_axes() {
    bool changed = false;
    for (size_t i = 0; i < best_.recipe.items.size(); ++i)
      for (size_t k = 0; k < best_.recipe.items[i].open.size(); ++k) {
        if (!best_.recipe.items[i].open[k]) continue;
        Recipe candidate = best_.recipe;
        candidate.items[i].open[k] = false;
        changed = take(std::move(candidate)) || changed;
      }
    return changed;
  }

  Shrunk best_;
  uint64_t seed_;
  const Test& test_;
  double start_, seconds_;
};

}  // namespace

Shrunk shrink(Recipe recipe, Failure failure, uint64_t seed, const Test& test, double seconds) {
  return Shrinker(std::move(recipe), std::move(failure), seed, test, seconds).run();
}

}  // namespace random_graphs
