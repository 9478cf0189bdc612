// assign precision: contractions of f32 are told how they may multiply, before fusing hides their names.

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

void visit(Site& site, void* user) {
  const Numerics numerics = *static_cast<const Numerics*>(user);
  const auto nodes = static_cast<NodeId>(site.graph.nodes.size());
  for (NodeId n = 0; n < nodes; ++n) {
    const Node& node = site.graph.nodes[n];
    const std::optional<Numerics> now = numerics_of(node.attrs);
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
