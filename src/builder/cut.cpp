// cut: fragments that no fast row takes whole become smaller ones: an attention into its products, each with the
// pointwise work behind it, and the rows between them; views apart from what reads them; the main operator apart from
// the pointwise work behind it; then stage by stage. A chain of convolutions stays whole only where rows make it faster
// than its parts.

#include <algorithm>
#include <cmath>

#include "builder/choose.h"
#include "builder/emit.h"
#include "builder/problem_of.h"
#include "ir/rewriter.h"
#include "ops/views.h"

namespace sinter {
namespace {

using Part = std::vector<size_t>;  // stages of a fragment, in order

class Cutter {
 public:
  Cutter(Module& module, const DeviceSpec& device) : module_(module), device_(device) {}

  void graph(Graph& graph) {
    std::vector<Node> nodes;
    known_ = known_values(graph);
    for (Node& node : graph.nodes) {
      if (node.bodies.size() != 1 || std::string_view(node.op->name) != "Fragment") {
        for (Graph& body : node.bodies) Cutter(module_, device_).graph(body);
        nodes.push_back(std::move(node));
        continue;
      }
      cut(graph, std::move(node), nodes);
    }
    graph.nodes = std::move(nodes);
    define_values(graph);
    tidy(graph);
  }

 private:
  // Estimated nanoseconds of the fast row that takes a fragment best.
  std::optional<double> taken(const Graph& graph, const Node& fragment) {
    std::vector<Type> types;
    std::vector<bool> constant;
    for (ValueId v : fragment.inputs) {
      types.push_back(graph[v].type);
      constant.push_back(v < known_.size() && known_[v]);
    }
    return cost_of_fragment(module_, fragment.bodies[0], types, constant, device_);
  }

  void cut(Graph& graph, Node node, std::vector<Node>& out) {
    const size_t stages = node.bodies[0].nodes.size();
    const std::optional<double> whole = stages == 1 ? 0 : taken(graph, node);
    if (std::vector<Part> parts = parts_of_chain(node.bodies[0]); !parts.empty()) {
      std::vector<Node> apart = split(graph, node, parts);
      double sum = 0;
      for (const Node& part : apart) sum += taken(graph, part).value_or(INFINITY);
      if (whole && *whole < sum) {
        out.push_back(std::move(node));
      } else {
        for (Node& part : apart) cut(graph, std::move(part), out);
      }
      return;
    }
    if (whole) {
      out.push_back(std::move(node));
      return;
    }
    std::vector<Part> parts = parts_of_attention(node.bodies[0]);
    if (parts.empty()) parts = parts_of_views(node.bodies[0]);
    if (parts.empty()) parts = parts_apart(node.bodies[0]);
    if (!parts.empty()) {
      // As they were without the attention, without the views, or without what reads the same operands.
    } else if (!node.bodies[0].nodes[0].op->pointwise && stages > 2) {
      Part rest;
      for (size_t s = 1; s < stages; ++s) rest.push_back(s);
      parts = {{0}, std::move(rest)};
    } else {
      for (size_t s = 0; s < stages; ++s) parts.push_back({s});
    }
    for (Node& part : split(graph, node, parts)) cut(graph, std::move(part), out);
  }

  // Stages that hang together by inner values; nothing where all do.
  static std::vector<Part> parts_apart(const Graph& body) {
    std::vector<size_t> with(body.nodes.size());  // an earlier stage of the same part, or the stage itself
    const auto first_of = [&](size_t s) {
      while (with[s] != s) s = with[s];
      return s;
    };
    for (size_t s = 0; s < body.nodes.size(); ++s) {
      with[s] = s;
      for (ValueId v : body.nodes[s].inputs) {
        if (v == no_id || body[v].def == no_id) continue;
        const size_t a = first_of(body[v].def), b = first_of(s);
        with[std::max(a, b)] = std::min(a, b);
      }
    }
    std::vector<Part> parts;
    std::vector<size_t> part_of(body.nodes.size());
    for (size_t s = 0; s < body.nodes.size(); ++s) {
      const size_t first = first_of(s);
      if (first == s) {
        part_of[s] = parts.size();
        parts.emplace_back();
      }
      parts[part_of[first]].push_back(s);
    }
    if (parts.size() < 2) parts.clear();
    return parts;
  }

  // Each convolution with what is behind it; nothing for a fragment of fewer than two.
  static std::vector<Part> parts_of_chain(const Graph& body) {
    std::vector<Part> parts;
    for (size_t s = 0; s < body.nodes.size(); ++s) {
      if (std::string_view(body.nodes[s].op->name) == "Conv") parts.emplace_back();
      if (parts.empty()) return {};
      parts.back().push_back(s);
    }
    if (parts.size() < 2) parts.clear();
    return parts;
  }

  // Each view, then the rest; nothing for a fragment without one of both.
  static std::vector<Part> parts_of_views(const Graph& body) {
    std::vector<Part> parts;
    Part rest;
    for (size_t s = 0; s < body.nodes.size(); ++s)
      if (is_movement_view(*body.nodes[s].op))
        parts.push_back({s});
      else
        rest.push_back(s);
    if (parts.empty() || rest.empty()) return {};
    parts.push_back(std::move(rest));
    return parts;
  }

  // Nothing for a fragment of fewer than two products.
  static std::vector<Part> parts_of_attention(const Graph& body) {
    std::vector<Part> parts, behind;
    Part first, between;  // the first product with what is pointwise over its shape; the rest up to the second
    std::vector<bool> in_first(body.values.size(), false), in_between(body.values.size(), false);
    bool ends = false;
    for (size_t s = 0; s < body.nodes.size(); ++s) {
      const Node& node = body.nodes[s];
      const auto reads = [&](const std::vector<bool>& values) {
        return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v != no_id && values[v]; });
      };
      const bool product = std::string_view(node.op->name) == "MatMul";
      if (product && first.empty()) {
        first.push_back(s);
        in_first[node.outputs[0]] = true;
      } else if (product || ends || !(reads(in_first) || reads(in_between))) {
        ends = ends || product;
        (ends ? behind : parts).push_back({s});
      } else if (node.op->pointwise && !reads(in_between) &&
                 *body[node.outputs[0]].type.shape == *body[body.nodes[first[0]].outputs[0]].type.shape) {
        first.push_back(s);
        in_first[node.outputs[0]] = true;
      } else {
        between.push_back(s);
        in_between[node.outputs[0]] = true;
      }
    }
    if (!ends) return {};
    parts.push_back(std::move(first));
    if (!between.empty()) parts.push_back(std::move(between));
    parts.insert(parts.end(), behind.begin(), behind.end());
    return parts;
  }

  // Inner values that cross parts become values of the graph.
  static std::vector<Node> split(Graph& graph, const Node& node, const std::vector<Part>& parts) {
    const Graph& body = node.bodies[0];
    std::vector<ValueId> outer(body.values.size(), no_id);
    for (size_t i = 0; i < body.inputs.size(); ++i) outer[body.inputs[i]] = node.inputs[i];
    for (size_t i = 0; i < body.outputs.size(); ++i) outer[body.outputs[i]] = node.outputs[i];
    std::vector<size_t> part_of(body.nodes.size());
    for (size_t p = 0; p < parts.size(); ++p)
      for (size_t s : parts[p]) part_of[s] = p;
    std::vector<bool> crosses(body.values.size(), false);
    for (ValueId v : body.outputs) crosses[v] = true;
    for (size_t s = 0; s < body.nodes.size(); ++s)
      for (ValueId v : body.nodes[s].inputs)
        if (v != no_id && body[v].def != no_id && part_of[body[v].def] != part_of[s]) crosses[v] = true;
    std::vector<Node> out;
    for (const Part& part : parts) {
      Node fragment{node.op, node.attrs, {}, {}, {}, {}};
      Graph inner;
      std::vector<ValueId> at(body.values.size(), no_id);
      const auto add = [&](ValueId v) {
        at[v] = static_cast<ValueId>(inner.values.size());
        Value copy = body[v];
        copy.def = no_id;
        inner.values.push_back(std::move(copy));
      };
      for (size_t s : part) {
        Node stage = body.nodes[s];
        for (uint32_t source : stage.sources)
          if (std::find(fragment.sources.begin(), fragment.sources.end(), source) == fragment.sources.end())
            fragment.sources.push_back(source);
        for (ValueId& v : stage.inputs) {
          if (v == no_id) continue;
          if (at[v] == no_id) {
            add(v);
            if (!body[v].has_contents()) {
              inner.inputs.push_back(at[v]);
              fragment.inputs.push_back(outer[v]);
            }
          }
          v = at[v];
        }
        for (ValueId& v : stage.outputs) {
          add(v);
          inner[at[v]].def = static_cast<NodeId>(inner.nodes.size());
          if (crosses[v] || part.size() == 1) {
            if (outer[v] == no_id) {
              outer[v] = static_cast<ValueId>(graph.values.size());
              graph.values.push_back({body[v].type, {}, no_id, body[v].name, {}});
            }
            inner.outputs.push_back(at[v]);
            fragment.outputs.push_back(outer[v]);
          }
          v = at[v];
        }
        inner.nodes.push_back(std::move(stage));
      }
      fragment.bodies.push_back(std::move(inner));
      out.push_back(std::move(fragment));
    }
    return out;
  }

  Module& module_;
  const DeviceSpec& device_;
  std::vector<bool> known_;  // by value, but for those that cutting makes
};

}  // namespace

void cut_fragments(Module& module, const DeviceSpec& device) { Cutter(module, device).graph(*module.main); }

}  // namespace sinter
