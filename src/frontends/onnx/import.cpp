#include "frontends/onnx/import.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "base/scanner.h"
#include "frontends/onnx/importer.h"
#include "frontends/onnx/wire.h"
#include "ops/cast.h"
#include "tensor/tensor_proto.h"

namespace sinter::onnx {
namespace {

constexpr int64_t newest_opset = 27;

struct Key {
  std::string_view domain, name;
  int since;
  bool operator<(const Key& other) const {
    return std::tie(domain, name, since) < std::tie(other.domain, other.name, other.since);
  }
};

const std::vector<Entry>& entries() {
  static const std::vector<Entry> all = [] {
    std::vector<Entry> list;
    for (const std::span<const Entry> family : {pointwise_entries(),
                                                shape_entries(),
                                                indexing_entries(),
                                                generation_entries(),
                                                selection_entries(),
                                                reduction_entries(),
                                                contraction_entries(),
                                                pooling_entries(),
                                                normalization_entries(),
                                                recurrent_entries(),
                                                resize_entries(),
                                                signal_entries(),
                                                attention_entries(),
                                                control_entries(),
                                                sequence_entries(),
                                                quantization_entries(),
                                                string_entries(),
                                                ml_entries(),
                                                loss_entries(),
                                                training_entries(),
                                                contrib_quantized_entries(),
                                                contrib_attention_entries(),
                                                contrib_misc_entries(),
                                                experimental_entries(),
                                                contrib_weights_entries(),
                                                contrib_experts_entries(),
                                                contrib_ordered_entries(),
                                                contrib_positions_entries(),
                                                contrib_sparse_entries(),
                                                contrib_state_entries(),
                                                contrib_varlen_entries(),
                                                contrib_replay_entries(),
                                                contrib_indexer_entries(),
                                                contrib_decoding_entries(),
                                                contrib_recurrent_entries(),
                                                contrib_search_entries(),
                                                contrib_rules_entries(),
                                                contrib_layout_entries()})
      list.insert(list.end(), family.begin(), family.end());
    std::stable_sort(list.begin(), list.end(), [](const Entry& a, const Entry& b) {
      return Key{a.domain, a.name, a.since} < Key{b.domain, b.name, b.since};
    });
    return list;
  }();
  return all;
}

std::string function_key(std::string_view domain, std::string_view name, std::string_view overload) {
  std::string key(domain);
  key.append(1, '\0').append(name).append(1, '\0').append(overload);
  return key;
}

std::string operator_name(const Node& node) {
  return node.domain.empty() ? shown(node.op_type) : shown(node.domain) + "." + shown(node.op_type);
}

// How messages call a node: by its name, else by what it makes.
std::string label_of(const Node& node, size_t index) {
  if (!node.name.empty()) return shown(node.name);
  for (std::string_view output : node.outputs)
    if (!output.empty()) return shown(output);
  return fmt::format("#{}", index);
}

// A symbol's name must read as an identifier wherever expressions are printed.
std::string symbol_name(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 64)) {
    const bool word =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
    out += word ? c : '_';
  }
  const bool letter = !out.empty() && out[0] != '.' && !(out[0] >= '0' && out[0] <= '9');
  if (!letter) out = "d" + out;
  for (const char* function : {"min", "max", "step", "broadcast"})
    if (out == function) out += "_";
  return out;
}

}  // namespace

std::span<const Entry> all_entries() { return entries(); }

const Entry* find_entry(std::string_view domain, std::string_view name, int64_t opset, int& oldest) {
  const std::vector<Entry>& all = entries();
  const int version = static_cast<int>(std::min<int64_t>(opset, INT32_MAX));
  oldest = 0;
  const auto less = [](const Key& key, const Entry& e) { return key < Key{e.domain, e.name, e.since}; };
  auto after = std::upper_bound(all.begin(), all.end(), Key{domain, name, version}, less);
  if (after != all.begin()) {
    const Entry& found = *(after - 1);
    if (found.domain == domain && found.name == name) return &found;
  }
  if (after != all.end() && after->domain == domain && after->name == name) oldest = after->since;
  return nullptr;
}

Importer::Importer(const Model& model, const ImportOptions& options) : model_(model), options_(options) {
  for (const Function& f : model.functions)
    if (!functions_.emplace(function_key(f.domain, f.name, f.overload), &f).second)
      report(Error(Code::model_invalid, fmt::format("function '{}' is defined twice", shown(f.name))));
}

void Importer::give_up(Error error) {
  giving_up_ = true;
  throw error;
}

void Importer::report(Error error) {
  // A body may be imported several times; its errors count once.
  if (!reported_.insert(error.what()).second) return;
  problems_.add(error);
  if (problems_.size() >= 1000) {
    giving_up_ = true;
    problems_.check("the model cannot be compiled; the first problems are listed");
  }
}

ValueId Importer::poison(Building& building) {
  std::vector<Value>& values = building.b.graph.values;
  values.push_back({.type = {}, .contents = {}, .def = no_id, .name = {}, .weight = {}});
  return static_cast<ValueId>(values.size() - 1);
}

bool Importer::is_poison(const Building& building, ValueId v) const {
  return v != no_id && building.b.graph[v].type.kind == Type::Kind::invalid;
}

int64_t Importer::opset_of(const std::vector<OpsetImport>& opsets, std::string_view domain) const {
  if (const int64_t version = Model::version_of(opsets, domain)) return version;
  if (const int64_t version = Model::version_of(model_.opsets, domain)) return version;
  if (!domain.empty()) return 1;
  throw Error(Code::model_invalid, "no version of the default operator set is imported");
}

const Function* Importer::find_function(const Node& node) const {
  const auto found = functions_.find(function_key(node.domain, node.op_type, node.overload));
  return found == functions_.end() ? nullptr : found->second;
}

const std::vector<uint32_t>& Importer::order_of(const std::vector<Node>& nodes) {
  const auto [at, fresh] = orders_.try_emplace(&nodes);
  if (!fresh) return at->second;
  at->second = import_order(nodes);
  return at->second;
}

uint32_t Importer::source_of(const Scope& scope, const Node& node, size_t index) {
  const auto [at, fresh] = sources_.try_emplace({&node, scope.prefix}, static_cast<uint32_t>(module_.sources.size()));
  if (fresh) module_.sources.push_back({scope.prefix + label_of(node, index), operator_name(node), node.metadata});
  return at->second;
}

// ---- Inputs ----

Dim Importer::input_extent(const ValueInfo& info, size_t axis) {
  const ValueType::Extent& extent = (*info.type.shape)[axis];
  if (options_.open_extents)
    return Dim::symbol(module_.symbols.add({.name = symbol_name(fmt::format("{}_{}", info.name, axis))}));
  if (extent.value) return Dim(*extent.value);
  const std::string_view param = extent.param;
  if (param.empty() || param == "?" || param == "None")
    return Dim::symbol(module_.symbols.add({.name = symbol_name(fmt::format("{}_{}", info.name, axis))}));
  const auto [at, fresh] = dims_.try_emplace(std::string(param), SymbolId{0});
  if (fresh) at->second = module_.symbols.add({.name = symbol_name(param)});
  return Dim::symbol(at->second);
}

Type Importer::input_type(const ValueInfo& info) {
  using Kind = ValueType::Kind;
  const auto dtype_of = [](const ValueType& t) {
    const std::optional<DType> dtype = dtype_from_onnx(t.element_type);
    if (!dtype)
      throw Error(t.element_type == 0 ? Code::model_invalid : Code::unsupported,
                  t.element_type == 0 ? "it has no element type"
                                      : fmt::format("it has the unknown element type {}", t.element_type));
    return *dtype;
  };
  if (info.type.kind == Kind::tensor) {
    const DType dtype = dtype_of(info.type);
    if (!info.type.shape) return Type::tensor(dtype, std::nullopt);
    if (info.type.shape->size() > max_rank_of_values)
      throw Error(Code::unsupported, fmt::format("it has rank {}, at most {} can be computed with",
                                                 info.type.shape->size(), max_rank_of_values));
    Shape shape;
    for (size_t axis = 0; axis < info.type.shape->size(); ++axis) shape.push_back(input_extent(info, axis));
    return Type::tensor(dtype, std::move(shape));
  }
  // Elements of sequences and optionals differ in shape, whatever the model says of them.
  std::vector<const ValueType*> around;
  const ValueType* t = &info.type;
  while (t && (t->kind == Kind::sequence || t->kind == Kind::optional)) {
    around.push_back(t);
    t = t->element.get();
  }
  if (!t || (t->kind != Kind::tensor && t->kind != Kind::map))
    throw Error(Code::unsupported,
                "it is a sparse tensor or of no stated type; tensors, maps, sequences and optionals "
                "of them can be computed with");
  Type type;
  if (t->kind == Kind::map) {
    const DType key = dtype_of(*t);
    const bool tensors = t->element && t->element->kind == Kind::tensor;
    const DType value = tensors ? dtype_of(*t->element) : DType::boolean;
    if (!is_map_key(key) || !is_map_value(value))
      throw Error(Code::unsupported,
                  "it is a map that no operator takes; maps from i64 or strings to i64, f32, f64 or strings can be "
                  "computed with");
    type = Type::map(key, value);
  } else {
    type = Type::tensor(dtype_of(*t), std::nullopt);
  }
  for (size_t i = around.size(); i-- > 0;)
    type = around[i]->kind == Kind::sequence ? Type::sequence(std::move(type)) : Type::optional(std::move(type));
  return type;
}

void Importer::set_initializers(Scope& scope, const Graph& graph) {
  for (const Initializer& initializer : graph.initializers)
    if (!scope.initializers.emplace(initializer.name, &initializer).second)
      report(Error(Code::model_invalid, fmt::format("initializer '{}' is given twice", shown(initializer.name))));
}

void Importer::define(Scope& scope, std::string_view name, ValueId value) {
  if (scope.initializers.count(name) || !scope.values.emplace(name, value).second)
    report(Error(Code::model_invalid, fmt::format("value '{}' is made twice", shown(name))));
}

void Importer::main_inputs(Scope& scope) {
  for (const ValueInfo& info : model_.graph.inputs) {
    // An input with a default value: what the model carries is what is compiled.
    if (scope.initializers.count(info.name)) continue;
    if (const auto frozen = options_.frozen.find(info.name); frozen != options_.frozen.end()) {
      define(scope, info.name, scope.building.b.constant(frozen->second, std::string(info.name)));
      continue;
    }
    Type type;
    try {
      type = input_type(info);
    } catch (Error& error) {
      error.add_context(fmt::format("input '{}'", shown(info.name)));
      report(error);
    }
    define(scope, info.name, scope.building.b.input(std::move(type), std::string(info.name)));
  }
}

// ---- Operators that nothing imports ----

// The entry that serves a node; an overload asks for the model's function.
const Entry* Importer::entry_of(const Node& node, const std::vector<OpsetImport>& opsets, int& oldest) const {
  oldest = 0;
  if (find_function(node) && !node.overload.empty()) return nullptr;
  return find_entry(node.domain, node.op_type, opset_of(opsets, node.domain), oldest);
}

void Importer::find_unknown() {
  std::vector<const Function*> called;
  find_unknown(model_.graph.nodes, model_.opsets, called);
  std::set<const Function*> seen;
  while (!called.empty()) {
    const Function* function = called.back();
    called.pop_back();
    if (seen.insert(function).second) find_unknown(function->nodes, function->opsets, called);
  }
}

void Importer::find_unknown(const std::vector<Node>& nodes, const std::vector<OpsetImport>& opsets,
                            std::vector<const Function*>& called) {
  constexpr int shown_nodes = 5;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    for (const auto& attribute : node.attributes)
      for (const auto& graph : attribute->graphs) find_unknown(graph->nodes, opsets, called);
    int oldest = 0;
    int64_t oldest_plugin = 0;
    if (plugin_of(node, opsets, oldest_plugin) || entry_of(node, opsets, oldest)) continue;
    if (const Function* function = find_function(node)) {
      called.push_back(function);
      continue;
    }
    Unknown& unknown = unknown_[operator_name(node)];
    if (++unknown.count <= shown_nodes)
      unknown.nodes += fmt::format("{}'{}'", unknown.count > 1 ? ", " : "", label_of(node, i));
    else if (unknown.count == shown_nodes + 1)
      unknown.nodes += ", ...";
    if (oldest > 0)
      unknown.remark =
          fmt::format("; the model imports opset {}, it exists from {} on", opset_of(opsets, node.domain), oldest);
    else if (oldest_plugin > 0)
      unknown.remark = fmt::format("; the model imports version {} of its domain, the plugin has it from {} on",
                                   opset_of(opsets, node.domain), oldest_plugin);
  }
}

void Importer::report_unknown() {
  if (unknown_.empty()) return;
  std::string list;
  for (const auto& [name, use] : unknown_)
    list += fmt::format("{}{} ({} node{}: {}{})", list.empty() ? "" : ", ", name, use.count, use.count == 1 ? "" : "s",
                        use.nodes, use.remark);
  report(Error(Code::unsupported, fmt::format("the model uses operators that are not known: {}", list))
             .with_hint("load a plugin that has them (--plugins LIBRARY, sinter_load_plugins(), sinter.load_plugins(); "
                        "docs/plugins.md says how to write one), put each into the model as a function made of known "
                        "operators (ModelProto.functions), or export the model without them"));
}

// ---- Nodes ----

void Importer::import_nodes(Scope& scope, const std::vector<Node>& nodes) {
  scope.nodes = &nodes;
  const std::vector<uint32_t>& order = order_of(nodes);
  for (const uint32_t n : order) import_node(scope, nodes[n], n);
  if (order.size() == nodes.size()) return;
  std::vector<bool> done(nodes.size(), false);
  for (const uint32_t n : order) done[n] = true;
  std::string list;
  int count = 0;
  for (size_t n = 0; n < nodes.size(); ++n) {
    if (done[n]) continue;
    if (++count <= 5) list += fmt::format("{}'{}'", count > 1 ? ", " : "", label_of(nodes[n], n));
    for (std::string_view name : nodes[n].outputs)
      if (!name.empty()) scope.values.emplace(name, poison(scope.building));
  }
  report(Error(Code::model_invalid, fmt::format("{} nodes depend on themselves in a circle or on such nodes: {}{}",
                                                count, list, count > 5 ? ", ..." : "")));
}

void Importer::count_nodes(size_t more) {
  imported_ += static_cast<int64_t>(more);
  if (imported_ > options_.max_nodes)
    give_up(Error(Code::limit,
                  fmt::format("more than {} nodes after functions and bodies are written out", options_.max_nodes)));
}

void Importer::import_node(Scope& scope, const Node& node, size_t index) {
  options_.control.poll();
  count_nodes(1);
  Ids inputs;
  bool sound = true;
  for (std::string_view name : node.inputs) {
    if (name.empty()) {
      inputs.push_back(no_id);
      continue;
    }
    const std::optional<ValueId> v = resolve(scope, name);
    if (!v) {
      report(Error(Code::model_invalid,
                   fmt::format("node '{}' ({}) reads '{}', which nothing makes", scope.prefix + label_of(node, index),
                               operator_name(node), shown(name)))
                 .at_node(scope.prefix + label_of(node, index)));
      sound = false;
      continue;
    }
    sound = sound && !is_poison(scope.building, *v);
    inputs.push_back(*v);
  }
  std::optional<Ids> results;
  if (sound) {
    const Within<Scope*> within(scope_, &scope);
    const size_t problems = reported_.size();
    const uint64_t poisonings = poisonings_;
    results = results_of(scope, node, index, std::move(inputs));
    // What a body could not make, the node around it cannot either.
    if (reported_.size() != problems || poisonings_ != poisonings) results.reset();
  }
  if (!results) ++poisonings_;
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const std::string_view name = node.outputs[i];
    if (name.empty()) continue;
    const ValueId v = results ? (*results)[i] : poison(scope.building);
    define(scope, name, v);
    Value& value = scope.building.b.graph[v];
    if (results && value.name.empty()) value.name = scope.prefix + std::string(name);
  }
}

namespace {

// Says of each Cast from f32 among these results, made by nodes from `built` on, that it ends what computes in f32.
void loosen(sinter::Graph& graph, const Ids& results, size_t built) {
  for (ValueId v : results) {
    const NodeId def = v == no_id ? no_id : graph[v].def;
    if (def == no_id || def < built || std::string_view(graph.nodes[def].op->name) != "Cast") continue;
    CastAttrs attrs = graph.nodes[def].attrs.as<CastAttrs>();
    const Type& from = graph[graph.nodes[def].inputs[0]].type;
    if (from.dtype != DType::f32 || (attrs.to != DType::f16 && attrs.to != DType::bf16)) continue;
    attrs.loose = true;
    graph.nodes[def].attrs = attrs;
  }
}

}  // namespace

std::optional<Ids> Importer::results_of(Scope& scope, const Node& node, size_t index, Ids inputs) {
  const std::string label = scope.prefix + label_of(node, index);
  int64_t opset = 0;
  const size_t problems = reported_.size();
  const uint64_t poisonings = poisonings_;
  try {
    Ids results;
    const Function* function = find_function(node);
    int oldest = 0;
    int64_t oldest_plugin = 0;
    const CustomOperator* plugin = plugin_of(node, scope.opsets, oldest_plugin);
    const Entry* entry = plugin ? nullptr : entry_of(node, scope.opsets, oldest);
    if (!plugin && !entry && !function) return std::nullopt;  // find_unknown has seen it
    if (plugin || entry) opset = opset_of(scope.opsets, node.domain);
    scope.building.b.set_sources({source_of(scope, node, index)});
    if (plugin) {
      NodeContext context(scope.building.b, node, opset, std::move(inputs), *this);
      import_custom(context, *plugin);
      results = context.results();
    } else if (entry) {
      check_attributes(node);
      rank_trials_ = 0;
      const size_t built = scope.building.b.graph.nodes.size();
      results = entry_results(scope, *entry, node, opset, std::move(inputs));
      if (node.op_type != "Cast" && node.op_type != "CastLike") loosen(scope.building.b.graph, results, built);
    } else {
      results = inline_call(scope, node, *function, inputs);
    }
    results.resize(std::max(results.size(), node.outputs.size()), no_id);
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (!node.outputs[i].empty() && results[i] == no_id)
        throw Error(Code::unsupported,
                    fmt::format("output {} ('{}') is not computed by this operator", i, shown(node.outputs[i])));
    return results;
  } catch (Error& error) {
    if (giving_up_ || error.code() == Code::cancelled || error.code() == Code::out_of_memory) throw;
    if (reported_.size() == problems && poisonings_ == poisonings) {
      error.at_node(label);
      error.add_context(opset > 0 ? fmt::format("node '{}' ({}, opset {})", label, operator_name(node), opset)
                                  : fmt::format("node '{}' ({})", label, operator_name(node)));
      report(error);
    }
    return std::nullopt;
  }
}

Module Importer::run() {
  for (const OpsetImport& o : model_.opsets)
    if (o.domain.empty() && o.version > newest_opset)
      options_.logger.log(LogLevel::warning,
                          fmt::format("the model uses opset {}, newer than {}: operators that changed since may differ",
                                      o.version, newest_opset));
  Building building{GraphBuilder(module_, *module_.main)};
  Scope scope{building, nullptr, model_.opsets};
  set_initializers(scope, model_.graph);
  find_unknown();
  main_inputs(scope);
  import_nodes(scope, model_.graph.nodes);
  if (model_.graph.outputs.empty()) report(Error(Code::model_invalid, "the graph has no outputs"));
  for (const ValueInfo& info : model_.graph.outputs) {
    const std::optional<ValueId> v = resolve(scope, info.name);
    if (!v) {
      report(Error(Code::model_invalid, fmt::format("output '{}' is made by no node", shown(info.name))));
      continue;
    }
    module_.main->outputs.push_back(*v);
    module_.output_names.emplace_back(info.name);
  }
  report_unknown();
  problems_.check("the model cannot be compiled");
  return std::move(module_);
}

Module import(std::shared_ptr<const Model> model, const ImportOptions& options) {
  return Importer(*model, options).run();
}

}  // namespace sinter::onnx
