// narrow: values between fragments are held in bf16 in builds that allow it, where the rows that make and read them
// all take that.
//
// Half the bytes move, and contractions on tiles need not round their operands. A fragment ends with a Cast of what it
// gives away, and begins with one of what it reads, save for the first operand of a contraction, which may be bf16
// itself; operators that keep or select elements just have the other dtype. What such operators join is narrowed
// together or not at all. Within a chain, what a convolution leaves for the next is rounded the same way.

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "base/checked.h"
#include "builder/choose.h"
#include "builder/emit.h"
#include "builder/problem_of.h"
#include "ir/rewriter.h"
#include "ops/cast.h"

namespace sinter {
namespace {

constexpr DType narrow_dtype = DType::bf16;
// Elements below which there is nothing to gain.
constexpr int64_t few_elements = 4096;
// Beyond so much of a fragment's time, and as many nanoseconds, other rows are meant for it.
constexpr double clearly_slower = 1.3, little_time = 3000;

bool is_fragment(const Node& node) { return node.bodies.size() == 1 && std::string_view(node.op->name) == "Fragment"; }

// Whether a fragment's operands of real numbers and its results have one dtype, and any does.
bool keeps_dtype(const Node& fragment) {
  const Graph& body = fragment.bodies[0];
  if (body.nodes.size() != 1) return false;
  const Op& op = *body.nodes[0].op;
  constexpr std::string_view others[] = {"MaxPool", "AveragePool", "ReduceMean", "ReduceMax", "Resize"};
  return op.is.moves_only || std::find(std::begin(others), std::end(others), op.name) != std::end(others);
}

bool is_contraction(const Node& node) {
  const std::string_view name = node.op->name;
  return name == "Conv" || name == "MatMul" || name == "ConvTranspose";
}

class Narrower {
 public:
  Narrower(Module& module, Graph& graph, const DeviceSpec& device) : module_(module), graph_(graph), device_(device) {}

  void run() {
    for (Node& node : graph_.nodes)
      if (!is_fragment(node))
        for (Graph& body : node.bodies) Narrower(module_, body, device_).run();
    find_candidates();
    for (Node& node : graph_.nodes)
      if (is_fragment(node)) narrow_chain(node);
    join();
    while (refuse()) {
    }
    for (Node& node : graph_.nodes)
      if (is_fragment(node)) rewrite(node, [&](ValueId v) { return narrow(v); });
    for (ValueId v = 0; v < graph_.values.size(); ++v)
      if (narrow(v)) graph_[v].type.dtype = narrow_dtype;
  }

 private:
  // f32 that fragments make of what is not known while building, and fragments alone read.
  void find_candidates() {
    const size_t count = graph_.values.size();
    candidate_.assign(count, false);
    constant_ = known_values(graph_);
    for (const Node& node : graph_.nodes)
      for (ValueId v : node.outputs) {
        const Type& type = graph_[v].type;
        candidate_[v] = !constant_[v] && is_fragment(node) && type.is_plain() && type.dtype == DType::f32;
      }
    for (const Node& node : graph_.nodes)
      if (!is_fragment(node))
        for (ValueId v : node.inputs)
          if (v != no_id) candidate_[v] = false;
    for (ValueId v : graph_.outputs) candidate_[v] = false;
    keep_angles();
  }

  template <typename F>
  static bool any_stage(const Node& fragment, F is) {
    const Graph& body = fragment.bodies[0];
    return std::any_of(body.nodes.begin(), body.nodes.end(), [&](const Node& stage) { return is(body, stage); });
  }

  // What positions become on their way to sines and cosines stays wide: a large angle, rounded, is another one.
  void keep_angles() {
    std::vector<bool> counted(graph_.values.size(), false);  // made from integers
    for (const Node& node : graph_.nodes) {
      if (!is_fragment(node)) continue;
      const bool casts = any_stage(node, [](const Graph& body, const Node& stage) {
        return std::string_view(stage.op->name) == "Cast" && is_integer(body[stage.inputs[0]].type.dtype);
      });
      const bool all = casts || std::any_of(node.inputs.begin(), node.inputs.end(),
                                            [&](ValueId v) { return v != no_id && counted[v]; });
      for (ValueId v : node.outputs) counted[v] = all;
    }
    std::vector<bool> angle(graph_.values.size(), false);
    for (size_t n = graph_.nodes.size(); n-- > 0;) {
      const Node& node = graph_.nodes[n];
      if (!is_fragment(node)) continue;
      const bool waves = any_stage(node, [](const Graph&, const Node& stage) {
        const std::string_view name = stage.op->name;
        return name == "Sin" || name == "Cos";
      });
      if (!waves && std::none_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) { return angle[v]; }))
        continue;
      for (ValueId v : node.inputs)
        if (v != no_id && counted[v]) angle[v] = true, candidate_[v] = false;
    }
  }

  bool is_real(ValueId v) const {
    return v != no_id && graph_[v].type.is_tensor() && graph_[v].type.dtype == DType::f32;
  }

  void join() {
    group_.resize(graph_.values.size());
    std::iota(group_.begin(), group_.end(), ValueId{0});
    for (const Node& node : graph_.nodes) {
      if (!is_fragment(node) || !keeps_dtype(node)) continue;
      ValueId first = no_id;
      for (const Ids& ids : {node.inputs, node.outputs})
        for (ValueId v : ids) {
          if (!is_real(v)) continue;
          if (first == no_id) first = v;
          group_[root(v)] = root(first);
        }
    }
    wide_.assign(group_.size(), false);
    std::vector<bool> large(group_.size(), false);
    for (ValueId v = 0; v < group_.size(); ++v) {
      if (!is_real(v)) continue;
      if (!candidate_[v]) wide_[root(v)] = true;
      const auto dims = graph_[v].type.is_plain() ? constant_dims(*graph_[v].type.shape) : std::nullopt;
      if (!dims || element_count(*dims) >= few_elements) large[root(v)] = true;
    }
    for (ValueId v = 0; v < group_.size(); ++v)
      if (!large[root(v)]) wide_[root(v)] = true;
  }

  ValueId root(ValueId v) {
    while (group_[v] != v) v = group_[v] = group_[group_[v]];
    return v;
  }
  bool narrow(ValueId v) { return is_real(v) && !wide_[root(v)]; }

  // Keeps wide what some fragment's rows do not take narrow; true when that changed anything.
  bool refuse() {
    bool changed = false;
    for (const Node& node : graph_.nodes) {
      if (!is_fragment(node)) continue;
      Ids here;
      for (const Ids& ids : {node.inputs, node.outputs})
        for (ValueId v : ids)
          if (v != no_id && narrow(v)) here.push_back(v);
      if (here.empty() || taken(node, [&](ValueId v) { return narrow(v); })) continue;
      changed = true;
      // What is refused by itself, else all.
      bool found = false;
      for (ValueId v : here) {
        if (wide_[root(v)] || taken(node, [&](ValueId other) { return narrow(other) && root(other) == root(v); }))
          continue;
        wide_[root(v)] = found = true;
      }
      if (!found)
        for (ValueId v : here) wide_[root(v)] = true;
    }
    return changed;
  }

  // Of the best fast row for a fragment with these values narrow.
  template <typename F>
  std::optional<double> cost(const Node& node, F is_narrow) {
    Node copy = node;
    rewrite(copy, is_narrow);
    std::vector<Type> types;
    std::vector<bool> constant;
    for (ValueId v : copy.inputs) {
      types.push_back(graph_[v].type);
      if (is_narrow(v)) types.back().dtype = narrow_dtype;
      constant.push_back(constant_[v]);
    }
    return cost_of_fragment(module_, copy.bodies[0], types, constant, device_);
  }

  template <typename F>
  bool taken(const Node& node, F is_narrow) {
    const auto narrow = cost(node, is_narrow);
    return narrow && *narrow <= clearly_slower * cost_when_wide(node) + little_time;
  }

  double cost_when_wide(const Node& node) {
    const auto [at, fresh] = wide_cost_.try_emplace(&node, 0.0);
    if (fresh) at->second = cost(node, [](ValueId) { return false; }).value_or(std::numeric_limits<double>::infinity());
    return at->second;
  }

  // What convolutions of a fragment read of others in it is rounded where that is not clearly slower.
  void narrow_chain(Node& fragment) {
    Node rounded = fragment;
    Graph& body = rounded.bodies[0];
    bool any = false;
    for (size_t s = 1; s < body.nodes.size(); ++s) {
      if (std::string_view(body.nodes[s].op->name) != "Conv") continue;
      const ValueId v = body.nodes[s].inputs[0];
      if (v == no_id || body[v].def == no_id || body[v].type.dtype != DType::f32) continue;
      auto [cast, made] = cast_of(rounded, v, narrow_dtype);
      body.nodes[s].inputs[0] = made;
      body.nodes.insert(body.nodes.begin() + static_cast<ptrdiff_t>(s), std::move(cast));
      ++s;
      any = true;
    }
    if (!any) return;
    define_values(body);
    const auto none = [](ValueId) { return false; };
    const auto narrow = cost(rounded, none), wide = cost(fragment, none);
    if (narrow && (!wide || *narrow <= clearly_slower * *wide)) fragment = std::move(rounded);
  }

  static std::pair<Node, ValueId> cast_of(Node& fragment, ValueId from, DType to) {
    Graph& body = fragment.bodies[0];
    Type type = body[from].type;
    type.dtype = to;
    const auto made = static_cast<ValueId>(body.values.size());
    body.values.push_back({std::move(type), {}, no_id, body[from].name, {}});
    return {Node{&op_named("Cast"), CastAttrs{.to = to}, {from}, {made}, {}, fragment.sources}, made};
  }

  // The fragment with these operands and results narrow.
  template <typename F>
  static void rewrite(Node& fragment, F is_narrow) {
    Graph& body = fragment.bodies[0];
    if (keeps_dtype(fragment)) {
      for (size_t i = 0; i < fragment.inputs.size(); ++i)
        if (is_narrow(fragment.inputs[i])) body[body.inputs[i]].type.dtype = narrow_dtype;
      for (size_t i = 0; i < fragment.outputs.size(); ++i)
        if (is_narrow(fragment.outputs[i])) body[body.outputs[i]].type.dtype = narrow_dtype;
      return;
    }
    for (size_t i = 0; i < fragment.inputs.size(); ++i) {
      if (!is_narrow(fragment.inputs[i])) continue;
      const ValueId v = body.inputs[i];
      body[v].type.dtype = narrow_dtype;
      const bool factor = is_contraction(body.nodes[0]) && body.nodes[0].inputs[0] == v;
      for (size_t s = factor ? 1 : 0; s < body.nodes.size(); ++s) {
        const Ids& read = body.nodes[s].inputs;
        if (std::find(read.begin(), read.end(), v) == read.end()) continue;
        auto [widened, wide] = cast_of(fragment, v, DType::f32);
        for (size_t k = s; k < body.nodes.size(); ++k)
          std::replace(body.nodes[k].inputs.begin(), body.nodes[k].inputs.end(), v, wide);
        body.nodes.insert(body.nodes.begin() + static_cast<ptrdiff_t>(s), std::move(widened));
        break;
      }
    }
    for (size_t i = 0; i < fragment.outputs.size(); ++i) {
      if (!is_narrow(fragment.outputs[i])) continue;
      auto [rounded, made] = cast_of(fragment, body.outputs[i], narrow_dtype);
      body.nodes.push_back(std::move(rounded));
      body.outputs[i] = made;
    }
    define_values(body);
  }

  Module& module_;
  Graph& graph_;
  const DeviceSpec& device_;
  std::vector<bool> constant_;  // known while building
  std::vector<bool> candidate_;
  std::vector<ValueId> group_;  // values of one dtype: union-find
  std::vector<bool> wide_;      // by root
  std::map<const Node*, double> wide_cost_;
};

}  // namespace

void narrow_values(Module& module, const DeviceSpec& device) { Narrower(module, *module.main, device).run(); }

}  // namespace sinter
