// In which order the nodes of a graph can be imported. Files should be sorted; some are not.

#include <queue>
#include <unordered_map>

#include "frontends/onnx/importer.h"

namespace sinter::onnx {
namespace {

// Names that a subgraph reads and does not make.
void free_names(const Graph& graph, Names& out) {
  Names read, made;
  for (const ValueInfo& v : graph.inputs) made.insert(v.name);
  for (const Initializer& i : graph.initializers) made.insert(i.name);
  for (const Node& node : graph.nodes) {
    names_read(node, read);
    made.insert(node.outputs.begin(), node.outputs.end());
  }
  for (const ValueInfo& v : graph.outputs) read.insert(v.name);
  for (std::string_view name : read)
    if (!made.count(name)) out.insert(name);
}

}  // namespace

void names_read(const Node& node, Names& out) {
  out.insert(node.inputs.begin(), node.inputs.end());
  for (const auto& attribute : node.attributes)
    for (const auto& graph : attribute->graphs) free_names(*graph, out);
  if (node.domain != training_domain || node.op_type != "Gradient") return;
  if (const Attribute* y = node.attribute("y")) out.insert(y->s);
}

std::vector<uint32_t> import_order(const std::vector<Node>& nodes) {
  std::unordered_map<std::string_view, uint32_t> producer;
  for (uint32_t n = 0; n < nodes.size(); ++n)
    for (std::string_view name : nodes[n].outputs)
      if (!name.empty()) producer.emplace(name, n);
  std::vector<uint32_t> missing(nodes.size(), 0);
  std::vector<std::vector<uint32_t>> readers(nodes.size());
  for (uint32_t n = 0; n < nodes.size(); ++n) {
    Names read;
    names_read(nodes[n], read);
    for (std::string_view name : read) {
      const auto found = producer.find(name);
      if (found == producer.end()) continue;
      readers[found->second].push_back(n);
      ++missing[n];
    }
  }
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ready;
  for (uint32_t n = 0; n < nodes.size(); ++n)
    if (missing[n] == 0) ready.push(n);
  std::vector<uint32_t> order;
  order.reserve(nodes.size());
  while (!ready.empty()) {
    const uint32_t n = ready.top();
    ready.pop();
    order.push_back(n);
    for (uint32_t reader : readers[n])
      if (--missing[reader] == 0) ready.push(reader);
  }
  return order;
}

}  // namespace sinter::onnx
