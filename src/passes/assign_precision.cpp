// assign precision: contractions of f32 are told how they may multiply, before fusing hides their names.
//
// A logarithm makes absolute errors of what is near zero relative ones, as in networks that begin with a spectrogram:
// the contractions that it is taken of are strict where others may round to TF32. (In bf16 what lies behind errs more
// anyway.)

#include <algorithm>
#include <array>

#include "ops/contraction.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule precision_rule = {"multiply in lower precision", Effect::rounding};

// The cheapest way that is allowed; bf16 keeps the range of f32, so it goes before fp16.
Numerics wanted(const PassOptions& options) {
  if (options.allow_bf16) return Numerics::bf16;
  if (options.allow_fp16) return Numerics::fp16;
  return options.allow_tf32 ? Numerics::tf32 : Numerics::strict;
}

// A logarithm of these bears an absolute error of their operands.
bool grows_exponentially(const Node& node) {
  constexpr std::array<std::string_view, 3> names = {"Exp", "Sigmoid", "Softplus"};
  return std::find(names.begin(), names.end(), node.op->name) != names.end();
}

// The contractions that logarithms are taken of, with anything but contractions and exponentials between, and numbers
// all the way: what decides extents, conditions and indices is neither.
std::vector<bool> below_logarithms(const Graph& graph) {
  std::vector<bool> found(graph.nodes.size(), false), seen(graph.nodes.size(), false);
  std::vector<NodeId> open;
  for (NodeId n = 0; n < graph.nodes.size(); ++n)
    if (std::string_view(graph.nodes[n].op->name) == "Log") open.push_back(n);
  while (!open.empty()) {
    const NodeId n = open.back();
    open.pop_back();
    const Node& reader = graph.nodes[n];
    const size_t operands = std::string_view(reader.op->name) == "Pow" ? 1 : reader.inputs.size();  // not its exponent
    for (size_t i = 0; i < operands; ++i) {
      const ValueId v = reader.inputs[i];
      const NodeId def =
          v != no_id && graph[v].type.is_tensor() && is_float(graph[v].type.dtype) ? graph[v].def : no_id;
      if (def == no_id || seen[def]) continue;
      seen[def] = true;
      const Node& node = graph.nodes[def];
      if (numerics_of(node.attrs))
        found[def] = true;
      else if (!grows_exponentially(node))
        open.push_back(def);
    }
  }
  return found;
}

void visit(Site& site, void* user) {
  const Numerics usual = *static_cast<const Numerics*>(user);
  const auto nodes = static_cast<NodeId>(site.graph.nodes.size());
  const bool may_round = usual == Numerics::tf32;
  const std::vector<bool> below = may_round ? below_logarithms(site.graph) : std::vector<bool>(nodes, false);
  for (NodeId n = 0; n < nodes; ++n) {
    const Node& node = site.graph.nodes[n];
    const std::optional<Numerics> now = numerics_of(node.attrs);
    const Numerics numerics = below[n] ? Numerics::strict : usual;
    if (!now || *now == numerics || site.rw.uses(site.out(n)) == 0) continue;
    if (!site.type(site.out(n)).is_tensor() || site.type(site.out(n)).dtype != DType::f32) continue;
    const Op& op = *node.op;
    Ids inputs;
    for (size_t i = 0; i < node.inputs.size(); ++i) inputs.push_back(site.in(n, i));
    Attrs attrs = with_numerics(node.attrs, numerics);
    site.at({n});
    const ValueId made = site.rw.build.add(op, std::move(attrs), std::move(inputs), 1)[0];
    site.replace(site.out(n), made, precision_rule, enum_names(numerics)[static_cast<size_t>(numerics)]);
  }
}

}  // namespace

bool assign_precision(Module& module, const PassContext& context) {
  Rounds rounds(context.journal);
  Numerics numerics = wanted(context.options);
  return rewrite_graphs(module, rounds, visit, &numerics);
}

}  // namespace sinter
