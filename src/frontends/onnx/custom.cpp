// Nodes of operators that plugins bring.

#include <fmt/core.h>

#include <algorithm>

#include "base/scanner.h"
#include "frontends/onnx/importer.h"
#include "frontends/onnx/wire.h"

namespace sinter::onnx {
namespace {

CustomValue value_of(NodeContext& c, const CustomAttribute& a) {
  switch (a.kind) {
    case 0: return c.integer(a.name, 0);
    case 1: return c.real(a.name, 0);
    case 2: return c.string(a.name, "");
    case 3: return c.integers(a.name);
    case 4: return c.reals(a.name);
    default: return c.strings(a.name);
  }
}

}  // namespace

void import_custom(NodeContext& c, const CustomOperator& op) {
  for (const auto& given : c.node.attributes) {
    const auto is_it = [&](const CustomAttribute& a) { return a.name == given->name; };
    if (std::any_of(op.attributes.begin(), op.attributes.end(), is_it)) continue;
    std::string list;
    for (const CustomAttribute& a : op.attributes) list += (list.empty() ? "" : ", ") + a.name;
    c.fail(fmt::format("plugin '{}' knows no attribute '{}' of this operator; {}", shown(op.plugin), shown(given->name),
                       list.empty() ? "it has none" : "it has " + list));
  }
  CustomValues values;
  for (const CustomAttribute& a : op.attributes) {
    const bool given = c.has_attr(a.name);
    if (!given && !a.initial)
      c.fail(fmt::format("attribute '{}' is missing; plugin '{}' wants {}", a.name, shown(op.plugin),
                         custom_kind_name(a.kind)));
    values.push_back(given ? value_of(c, a) : *a.initial);
  }
  CustomAttrs attrs{op.domain, op.name, op.version, op.plugin, custom_text(op, values)};
  c.out(c.b.add(op_named("Custom"), std::move(attrs), c.all(), c.outputs()));
}

// A plugin is asked before anything else: who loads it wants it.
const CustomOperator* Importer::plugin_of(const Node& node, const std::vector<OpsetImport>& opsets,
                                          int64_t& oldest) const {
  oldest = 0;
  if (!node.overload.empty()) return nullptr;
  return find_custom(node.domain, node.op_type, opset_of(opsets, node.domain), oldest);
}

}  // namespace sinter::onnx
