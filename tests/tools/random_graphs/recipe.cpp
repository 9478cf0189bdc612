#include "random_graphs/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/scanner.h"
#include "ops/control.h"
#include "ops/text.h"

namespace random_graphs {
namespace {

using Kind = Recipe::Item::Kind;

Ids make(GraphBuilder& b, const Recipe& recipe, const Ids& parameters, const Fault& fault,
         std::vector<Ids>* all = nullptr) {
  std::vector<Ids> made;
  size_t next = 0;
  for (const Recipe::Item& item : recipe.items) {
    if (item.kind == Kind::input) {
      made.push_back({parameters[next++]});
    } else if (item.kind == Kind::constant) {
      made.push_back({b.constant(item.tensor)});
    } else {
      Ids inputs;
      for (const Ref& r : item.inputs)
        inputs.push_back(r.item < 0 ? no_id : made[static_cast<size_t>(r.item)][static_cast<size_t>(r.output)]);
      made.push_back(make_item(b, item, inputs, fault));
    }
  }
  Ids results;
  for (const Ref& r : recipe.results)
    results.push_back(made[static_cast<size_t>(r.item)][static_cast<size_t>(r.output)]);
  if (all) *all = std::move(made);
  return results;
}

Graph body_of(Module& module, const Recipe& recipe, const std::vector<Type>& parameters, const Fault& fault) {
  Graph graph;
  GraphBuilder b(module, graph);
  Ids inside;
  for (const Type& type : parameters) inside.push_back(b.input(type));
  graph.outputs = make(b, recipe, inside, fault);
  return graph;
}

// Opens what differs between a carried value and what the body makes of it; false when nothing did.
bool open_up(Module& module, Type& declared, const Type& made, std::vector<SymbolId>& opened) {
  if (!declared.is_tensor()) return false;
  if (!declared.shape) return false;
  if (!made.shape || made.shape->size() != declared.shape->size()) {
    declared.shape.reset();
    return true;
  }
  bool changed = false;
  for (size_t k = 0; k < declared.shape->size(); ++k) {
    Dim& extent = (*declared.shape)[k];
    const auto id = extent.as_symbol();
    if (extent == (*made.shape)[k] || (id && std::find(opened.begin(), opened.end(), *id) != opened.end())) continue;
    opened.push_back(module.symbols.add({.name = "p", .bound = Symbol::Bound::body_parameter}));
    extent = Dim::symbol(opened.back());
    changed = true;
  }
  return changed;
}

Graph loop_body(Module& module, const Graph& graph, const Recipe& recipe, const LoopAttrs& attrs, const Ids& inputs,
                const Fault& fault) {
  const auto carried = static_cast<size_t>(attrs.carried);
  std::vector<Type> types{Type::tensor(DType::i64, Shape{}), Type::tensor(DType::boolean, Shape{})};
  for (size_t i = 2; i < inputs.size(); ++i) {
    Type type = graph[inputs[i]].type;
    if (const size_t s = i - 2 - carried; i >= 2 + carried && s < attrs.scan_axes.size() && type.shape) {
      const int64_t axis = attrs.scan_axes[s], rank = static_cast<int64_t>(type.shape->size());
      if (axis < -rank || axis >= rank) throw Error(Code::model_invalid, "a scan axis out of range");
      type.shape->erase(type.shape->begin() + (axis < 0 ? axis + rank : axis));
    }
    types.push_back(std::move(type));
  }
  std::vector<SymbolId> opened;
  for (;;) {
    Graph body = body_of(module, recipe, types, fault);
    bool changed = false;
    for (size_t j = 0; j < carried && 1 + j < body.outputs.size(); ++j)
      changed = open_up(module, types[2 + j], body[body.outputs[1 + j]].type, opened) || changed;
    if (!changed) return body;
  }
}

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15u;
  return x ^ (x >> 29);
}

}  // namespace

Ids make_item(GraphBuilder& b, const Recipe::Item& item, const Ids& inputs, const Fault& fault) {
  Scanner scanner(item.call);
  Call call = parse_call(scanner);
  std::vector<Graph> bodies;
  for (const Recipe& body : item.bodies) {
    if (item.op() == "Loop") {
      bodies.push_back(loop_body(b.module, b.graph, body, call.attrs.as<LoopAttrs>(), inputs, fault));
    } else {
      std::vector<Type> types;
      for (size_t k = 1; k < inputs.size(); ++k) types.push_back(b.type(inputs[k]));
      bodies.push_back(body_of(b.module, body, types, fault));
    }
  }
  Ids results = b.add(*call.op, std::move(call.attrs), inputs, item.outputs, std::move(bodies));
  if (fault.op.empty() || item.op() != fault.op) return results;
  if (fault.crash) std::abort();
  for (ValueId& v : results)
    if (const Type& type = b.type(v); type.is_tensor() && type.has_shape() && type.dtype != DType::string)
      v = type.dtype == DType::boolean ? b.op("Not", {v}) : b.op("Add", {v, b.scalar(type.dtype, 1)});
  return results;
}

Module module_of(const Recipe& recipe, bool dynamic, const Fault& fault, std::vector<Ids>* made) {
  Module module;
  GraphBuilder b(module, *module.main);
  Ids inputs;
  for (const Recipe::Item& item : recipe.items) {
    if (item.kind != Kind::input) continue;
    Shape shape;
    for (size_t k = 0; k < item.dims.size(); ++k)
      shape.push_back(dynamic && item.open[k]
                          ? Dim::symbol(module.symbols.add({.name = fmt::format("d{}_{}", inputs.size(), k)}))
                          : Dim(item.dims[k]));
    inputs.push_back(b.input(Type::tensor(item.dtype, std::move(shape)), fmt::format("x{}", inputs.size())));
  }
  module.main->outputs = make(b, recipe, inputs, fault, made);
  for (size_t o = 0; o < module.main->outputs.size(); ++o) module.output_names.push_back(fmt::format("y{}", o));
  return module;
}

Tensor input_data(const Recipe::Item& input, uint64_t seed) {
  static constexpr const char* words[] = {"", "a", "B c", "a b a", "\xc3\xa9t\xc3\xa9", "42", "x,y,,z", "ab"};
  std::mt19937_64 random(mix(seed) ^ input.salt);
  Tensor t(input.dtype, input.dims);
  for (int64_t n = 0; n < t.count(); ++n) {
    const uint64_t drawn = random();
    const auto number = static_cast<int64_t>(drawn % 33) - 16;
    if (input.dtype == DType::string)
      t.strings()[static_cast<size_t>(n)] = words[drawn % std::size(words)];
    else if (is_float(input.dtype))
      t.set_real(n, static_cast<double>(number) / 8);
    else if (input.dtype == DType::boolean)
      t.set_integer(n, number & 1);
    else
      t.set_integer(n, is_signed(input.dtype) ? number : number + 16);
  }
  return t;
}

std::vector<Box> data_for(const Recipe& recipe, uint64_t seed) {
  std::vector<Box> out;
  for (const Recipe::Item& item : recipe.items)
    if (item.kind == Kind::input) out.emplace_back(input_data(item, seed));
  return out;
}

void prune(Recipe& recipe, bool keep_inputs) {
  std::vector<bool> wanted(recipe.items.size(), false);
  for (const Ref& r : recipe.results) wanted[static_cast<size_t>(r.item)] = true;
  for (size_t i = recipe.items.size(); i-- > 0;) {
    Recipe::Item& item = recipe.items[i];
    if (keep_inputs && item.kind == Kind::input) wanted[i] = true;
    if (!wanted[i]) continue;
    for (const Ref& r : item.inputs)
      if (r.item >= 0) wanted[static_cast<size_t>(r.item)] = true;
    for (Recipe& body : item.bodies) prune(body, true);
  }
  std::vector<int> number(recipe.items.size(), -1);
  std::vector<Recipe::Item> kept;
  for (size_t i = 0; i < recipe.items.size(); ++i) {
    if (!wanted[i]) continue;
    number[i] = static_cast<int>(kept.size());
    kept.push_back(std::move(recipe.items[i]));
    for (Ref& r : kept.back().inputs)
      if (r.item >= 0) r.item = number[static_cast<size_t>(r.item)];
  }
  recipe.items = std::move(kept);
  for (Ref& r : recipe.results) r.item = number[static_cast<size_t>(r.item)];
}

size_t count_nodes(const Recipe& recipe) {
  size_t count = 0;
  for (const Recipe::Item& item : recipe.items) {
    count += item.kind == Kind::node;
    for (const Recipe& body : item.bodies) count += count_nodes(body);
  }
  return count;
}

}  // namespace random_graphs
