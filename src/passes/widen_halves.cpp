// widen halves: what a device computes fast in f32 alone is done in f32 where the model says f16 or bf16.
//
// A node whose operands are halves (f16, bf16) and that no fast row takes so gets them by Cast, which is exact, and its
// result is rounded behind it, as the definition rounds it. What reads the result and can be done in f32 as well takes
// it as it was before rounding: pointwise work, movement and further nodes of this kind, and a Cast to f32 that the
// model has. So values between have more digits than the model asks for, and none of them overflows beyond 65504; only
// what leaves a chain is rounded. What jumps where rounding decides (comparisons, places of the largest, conversions to
// integers, Floor and its like, what finds out an extent) reads the rounded value.
//
// A Cast of the model from f32 or f64 to a half rounds, always. One that ends a composite of the frontend (`loose`) is
// a result of this kind already. One from a half to another float is given the value before rounding.

#include <algorithm>
#include <map>

#include "ops/cast.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule widen_rule = {"compute halves in f32", Effect::rounding};

// A Cast to another float of what was rounded to a half: it takes the value of before.
Rule cast_rule(DType half) { return {"read halves before rounding", Effect::rounding, half}; }

bool is_half(DType d) { return d == DType::f16 || d == DType::bf16; }
bool is_wide(DType d) { return d == DType::f32 || d == DType::f64; }
bool is_half(const Type& type) { return type.is_tensor() && is_half(type.dtype); }

// Of operands beyond the bits, the last one speaks: no operator tells them apart.
bool has_bit(uint64_t operands, size_t i) { return operands >> std::min<size_t>(i, 63) & 1; }

// Whether contents of this operand decide types: it stays as it is.
bool is_host(const Op& op, size_t operand) { return operand < 64 && has_bit(op.host_inputs, operand); }

constexpr uint64_t every_operand = UINT64_MAX;

// Operands (bit by bit) that make results which are halves jump: where they differ by a rounding, these are others.
// Operators whose results are no halves, or whose extents data decide, need no line: those jump by all operands.
constexpr struct {
  std::string_view op;
  uint64_t operands;
} jumps[] = {
    {"Ceil", every_operand},
    {"Floor", every_operand},
    {"GridSample", 0b10},  // places
    {"Lookup", 0b1},
    {"MaxRoiPool", 0b10},  // boxes, rounded to whole elements
    {"Mod", every_operand},
    {"OneHot", 0b1},
    {"Pow", 0b10},       // of a negative number there is a power where the exponent is whole
    {"RoiAlign", 0b10},  // boxes, whose extents decide how many samples there are
    {"Round", every_operand},
    {"Sign", every_operand},
    {"ThresholdedRelu", every_operand},
    {"TreeEnsemble", 0b1},
};

// Operators that make operand 0 with something else in some places: mostly movement.
constexpr std::string_view writes[] = {"PutRows", "ScatterElements", "ScatterND"};

class Widener {
 public:
  Widener(Site& site, const FastRows& fast) : site_(site), fast_(fast) {}

  void visit(NodeId n) {
    const Node& node = site_.graph.nodes[n];
    if (std::string_view(node.op->name) == "Cast") return visit_cast(n);
    if (may_widen(node) && wants_f32(n)) widen(n);
  }

 private:
  // The value in f32 from which v was rounded; no_id when there is none.
  ValueId wide(ValueId v) const {
    const auto at = wide_.find(v);
    return at == wide_.end() ? no_id : at->second;
  }

  // A half in f32: exactly, or as it was before rounding.
  ValueId in_f32(ValueId v, bool rounded) {
    if (const ValueId w = wide(v); w != no_id && !rounded) return w;
    const auto at = exact_.find(v);
    if (at != exact_.end()) return at->second;
    const ValueId made = site_.rw.build.op("Cast", CastAttrs{.to = DType::f32}, {v});
    exact_.emplace(v, made);
    return made;
  }

  // Operands that a node reads as they were rounded, bit by bit.
  uint64_t rounded_operands(NodeId n) const {
    const Node& node = site_.graph.nodes[n];
    const bool halves = std::all_of(node.outputs.begin(), node.outputs.end(),
                                    [&](ValueId v) { return site_.rw.uses(v) == 0 || is_half(site_.type(v)); });
    if (!halves || (!node.op->is.moves_only && !site_.extents_known(n))) return every_operand;
    for (const auto& [op, operands] : jumps)
      if (op == node.op->name) return operands;
    return 0;
  }

  void visit_cast(NodeId n) {
    const ValueId x = site_.in(n, 0), y = site_.out(n);
    const CastAttrs attrs = site_.graph.nodes[n].attrs.as<CastAttrs>();
    if (attrs.loose && site_.type(x).dtype == DType::f32 && is_half(attrs.to)) {
      wide_[y] = x;
      return;
    }
    const ValueId w = wide(x);
    if (w == no_id || !(is_half(attrs.to) || is_wide(attrs.to))) return;
    site_.at({n});
    const ValueId made = attrs.to == DType::f32 ? w : site_.rw.build.op("Cast", attrs, {w});
    site_.replace(y, made, cast_rule(site_.type(x).dtype));
  }

  bool may_widen(const Node& node) const {
    const std::string_view name = node.op->name;
    // Quantization divides in the dtype of the scale; what a plugin does with other dtypes only it knows.
    if (name == "QuantizeLinear" || name == "DequantizeLinear" || name == "BitCast" || name == "Custom") return false;
    if (!node.bodies.empty() || !node.op->is.deterministic || node.op->is.never_fold) return false;
    const auto plain = [&](ValueId v) { return v == no_id || site_.type(site_.rw.resolve(v)).is_plain(); };
    return std::all_of(node.inputs.begin(), node.inputs.end(), plain) &&
           std::all_of(node.outputs.begin(), node.outputs.end(), plain);
  }

  bool wants_f32(NodeId n) const {
    const Node& node = site_.graph.nodes[n];
    const uint64_t rounded = rounded_operands(n);
    // behind: some operand is there in f32; at_hand: all are, now or when the engine is built.
    bool reads = false, behind = false, at_hand = true;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = site_.in(n, i);
      if (v == no_id || is_host(*node.op, i) || !is_half(site_.type(v))) continue;
      reads = true;
      const bool there = !has_bit(rounded, i) && wide(v) != no_id;
      behind = behind || there;
      at_hand = at_hand && (there || site_.is_built(v));
    }
    if (!reads) return false;
    // Movement alone is no reason to widen what is not: it would move twice the bytes.
    const bool moves =
        node.op->is.moves_only || std::find(std::begin(writes), std::end(writes), node.op->name) != std::end(writes);
    const bool follows = behind && (at_hand || !moves);
    return (follows || !is_fast(n, false)) && is_fast(n, true);
  }

  // Whether the device has a fast row for the node by itself, in f32 or as it is.
  bool is_fast(NodeId n, bool in_f32) const {
    const Alone alone = cut_out(n, in_f32);
    return fast_(site_.module, alone.graph, alone.built);
  }

  struct Alone {
    Graph graph;
    std::vector<bool> built;  // by parameter
  };

  Alone cut_out(NodeId n, bool in_f32) const {
    const Node& node = site_.graph.nodes[n];
    Alone out;
    Graph& body = out.graph;
    Node copy{node.op, node.attrs, {}, {}, {}, {}};
    const auto add = [&](const Value& value, bool may_change) {
      Type type = value.type;
      if (in_f32 && may_change && is_half(type)) type.dtype = DType::f32;
      body.values.push_back({std::move(type), {}, no_id, {}, {}});
      return static_cast<ValueId>(body.values.size() - 1);
    };
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = site_.in(n, i);
      if (v == no_id) {
        copy.inputs.push_back(no_id);
        continue;
      }
      const bool host = is_host(*node.op, i);
      copy.inputs.push_back(add(site_.graph[v], !host));
      if (host && site_.graph[v].has_contents()) {
        body.values.back().contents = site_.graph[v].contents;
        continue;
      }
      body.inputs.push_back(copy.inputs.back());
      out.built.push_back(site_.is_built(v));
    }
    for (ValueId v : node.outputs) {
      copy.outputs.push_back(add(site_.graph[v], true));
      body.values.back().def = 0;
      body.outputs.push_back(copy.outputs.back());
    }
    body.nodes.push_back(std::move(copy));
    return out;
  }

  void widen(NodeId n) {
    const Op& op = *site_.graph.nodes[n].op;
    const Attrs attrs = site_.graph.nodes[n].attrs;
    const Ids results = site_.graph.nodes[n].outputs;
    const uint64_t rounded = rounded_operands(n);
    site_.at({n});
    Ids inputs;
    for (size_t i = 0; i < site_.graph.nodes[n].inputs.size(); ++i) {
      const ValueId v = site_.in(n, i);
      const bool changes = v != no_id && !is_host(op, i) && is_half(site_.type(v));
      inputs.push_back(changes ? in_f32(v, has_bit(rounded, i)) : v);
    }
    const Ids made = site_.rw.build.add(op, attrs, std::move(inputs), results.size());
    for (size_t o = 0; o < results.size(); ++o) {
      if (site_.rw.uses(results[o]) == 0) continue;
      const DType was = site_.type(results[o]).dtype, now = site_.type(made[o]).dtype;
      if (was == now) {
        site_.replace(results[o], made[o], widen_rule, op.name);
        continue;
      }
      site_.graph[made[o]].name = site_.graph[results[o]].name;
      const ValueId half = site_.rw.build.op("Cast", CastAttrs{.to = was}, {made[o]});
      if (site_.replace(results[o], half, widen_rule, op.name)) wide_[half] = made[o];
    }
  }

  Site& site_;
  const FastRows& fast_;
  std::map<ValueId, ValueId> wide_, exact_;
};

void visit(Site& site, void* user) {
  Widener widener(site, *static_cast<const FastRows*>(user));
  const auto nodes = static_cast<NodeId>(site.graph.nodes.size());
  for (NodeId n = 0; n < nodes; ++n) widener.visit(n);
}

}  // namespace

bool widen_halves(Module& module, const PassContext& context) {
  if (!context.fast) return false;
  Rounds rounds(context.journal);
  FastRows fast = context.fast;
  return rewrite_graphs(module, rounds, visit, &fast);
}

}  // namespace sinter
