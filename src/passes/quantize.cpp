// quantize: quantized computations keep one form, DequantizeLinear → float operator → QuantizeLinear, without detours
// through floats where nothing is computed.

#include <algorithm>

#include "ops/cast.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule back_rule = {"drop DequantizeLinear and QuantizeLinear", Effect::rounding};
constexpr Rule moved_rule = {"move quantized data", Effect::rounding};

bool same_constant(const Site& site, ValueId a, ValueId b) {
  if (a == b) return true;
  const Tensor *x = site.rw.peek(a), *y = site.rw.peek(b);
  return x && y && x->identical(*y);
}

// Zero points may be absent on one side and 0 on the other.
bool is_zero(const Site& site, ValueId v) {
  if (v == no_id) return true;
  const auto value = pattern::splat_value(site.rw, v);
  return value && *value == 0;
}

struct Pair {
  NodeId dequantize;
  ValueId q;
};

// The DequantizeLinear behind `v` whose parameters are those of QuantizeLinear n.
std::optional<Pair> inverse(Site& site, NodeId n, ValueId v, bool one_scale) {
  const auto def = site.def(v, "DequantizeLinear");
  if (!def) return std::nullopt;
  const Rule& rule = one_scale ? moved_rule : back_rule;
  const QuantizeAttrs to = site.graph.nodes[n].attrs.as<QuantizeAttrs>();
  const DequantizeAttrs from = site.graph.nodes[*def].attrs.as<DequantizeAttrs>();
  const ValueId q = site.in(*def, 0);
  const auto refuse = [&](const char* reason) {
    site.refuse(rule, n, reason);
    return std::nullopt;
  };
  const Type& scale = site.type(site.in(n, 1));
  const bool single = scale.has_shape() &&
                      std::all_of(scale.shape->begin(), scale.shape->end(), [](const Dim& d) { return d == Dim(1); });
  if (site.type(q).dtype != site.type(site.out(n)).dtype) return refuse("the integer types differ");
  if (!same_constant(site, site.in(n, 1), site.in(*def, 1))) return refuse("the scales differ");
  const ValueId z = site.in(n, 2), w = site.in(*def, 2);
  if (!(is_zero(site, z) && is_zero(site, w)) && (z == no_id || w == no_id || !same_constant(site, z, w)))
    return refuse("the zero points differ");
  if (!single && (one_scale || to.axis != from.axis || to.block != from.block))
    return refuse("the scales lie along another axis");
  return Pair{*def, q};
}

bool drop_pair(Site& site, NodeId n) {
  const auto pair = inverse(site, n, site.in(n, 0), false);
  if (!pair || !site.same_type(pair->q, site.out(n))) return false;
  return site.replace(site.out(n), pair->q, back_rule);
}

// Whether a maximum of what v quantizes is the maximum of its integers.
bool keeps_order(const Site& site, ValueId scale) {
  const auto step = pattern::splat_value(site.rw, scale);
  return step && *step > 0;
}

// QuantizeLinear(move(DequantizeLinear(q))) with one scale: the integers move, or are compared.
bool move_integers(Site& site, NodeId n) {
  std::vector<NodeId> moves;
  ValueId at = site.in(n, 0);
  while (at != no_id && site.graph[at].def != no_id && !site.graph[at].has_contents()) {
    const NodeId def = site.graph[at].def;
    const Node& node = site.graph.nodes[def];
    const std::string_view name = node.op->name;
    // Only bytes have fast rows.
    const bool pools = name == "MaxPool" && bit_size(site.type(site.out(n)).dtype) == 8 &&
                       is_integer(site.type(site.out(n)).dtype) && keeps_order(site, site.in(n, 1));
    // Pad brings in a value of its own, Concat more operands.
    if (!(node.op->is.moves_only || pools) || node.outputs.size() != 1 || name == "Pad" ||
        node.op->inputs.high == Arity::any)
      break;
    if (!site.single_use(at)) {
      site.refuse(moved_rule, n, "the moved value is read elsewhere too");
      return false;
    }
    moves.push_back(def);
    at = site.in(def, 0);
  }
  if (moves.empty()) return false;
  const auto pair = inverse(site, n, at, true);
  if (!pair) return false;
  ValueId made = pair->q;
  for (size_t k = moves.size(); k-- > 0;) {
    const NodeId m = moves[k];
    const Op& op = *site.graph.nodes[m].op;
    const Attrs attrs = site.graph.nodes[m].attrs;
    Ids inputs = {made};
    for (size_t i = 1; i < site.graph.nodes[m].inputs.size(); ++i) inputs.push_back(site.in(m, i));
    site.at({m, n});
    made = site.rw.build.add(op, attrs, std::move(inputs), 1)[0];
  }
  if (!site.same_type(made, site.out(n))) return false;
  return site.replace(site.out(n), made, moved_rule);
}

void visit(Site& site, void*) {
  const auto nodes = static_cast<NodeId>(site.graph.nodes.size());
  for (NodeId n = 0; n < nodes; ++n) {
    if (site.graph.nodes[n].op->name != std::string_view("QuantizeLinear")) continue;
    if (site.rw.uses(site.out(n)) == 0 || site.rw.resolve(site.out(n)) != site.out(n)) continue;
    if (!drop_pair(site, n)) move_integers(site, n);
  }
}

}  // namespace

bool quantize(Module& module, const PassContext& context) {
  Rounds rounds(context.journal);
  bool changed = false;
  for (int round = 0; round < 8 && rewrite_graphs(module, rounds, visit, nullptr); ++round) changed = true;
  return changed;
}

}  // namespace sinter
