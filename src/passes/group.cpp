// group: nodes become fragments, as large as structure allows.
//
// An attention (passes/attention.h) is one fragment; a contraction takes the pointwise chain behind it; pointwise work
// and reductions over the same last axes form one row program; other pointwise work over one shape forms a pointwise
// program, also such of the same operands with nothing else in common (both halves that a rotary embedding makes); both
// take the views before them that they alone read; what makes floats of bytes (passes/dequantizing.h) is in the
// fragment that reads them; everything else is a fragment of one stage. A depthwise convolution is one fragment with
// the dense one that it alone reads and the 1x1 one that alone reads it. Whether a kernel takes a fragment whole is not
// decided here (builder/cut.cpp).

#include <algorithm>
#include <map>

#include "ops/cast.h"
#include "ops/contraction.h"
#include "ops/movement.h"
#include "ops/views.h"
#include "passes/attention.h"
#include "passes/dequantizing.h"
#include "passes/passes.h"

namespace sinter {
namespace {

enum class Kind : uint8_t { single, pointwise, row, contraction, attention, chain };

// Limits keep programs within registers and caches; larger regions gain nothing.
constexpr size_t max_stages = 48;

struct Region {
  Kind kind = Kind::single;
  std::vector<NodeId> nodes;
  Shape shape;          // iteration space
  size_t row_axes = 0;  // trailing axes of a row, of a row region
  bool alive = true;
  bool dequantizes = false;  // does nothing else
};

bool is_pointwise(const Node& node) { return node.op->pointwise || std::string_view(node.op->name) == "Cast"; }

// Attributes without what only passes before this one read, so that equal work is equal.
Attrs plain(const Node& node) {
  if (std::string_view(node.op->name) != "Cast" || !node.attrs.as<CastAttrs>().loose) return node.attrs;
  CastAttrs attrs = node.attrs.as<CastAttrs>();
  attrs.loose = false;
  return attrs;
}

bool is_contraction(const Node& node) {
  const std::string_view name = node.op->name;
  return name == "Conv" || name == "MatMul" || name == "ConvTranspose" || name == "ConvInteger" ||
         name == "MatMulInteger";
}

class Grouping {
 public:
  explicit Grouping(Graph& graph) : graph_(graph) {}

  void run() {
    divide_bands(graph_);
    divide_dequantizing(graph_);
    dequantizing_ = dequantizing(graph_);
    find_makers();
    constexpr uint32_t none = UINT32_MAX;
    region_of_.assign(graph_.nodes.size(), none);
    const std::vector<std::vector<NodeId>> attentions = find_attentions(graph_);
    std::vector<uint32_t> attention_of(graph_.nodes.size(), none);
    for (uint32_t a = 0; a < attentions.size(); ++a)
      for (NodeId n : attentions[a]) attention_of[n] = a;
    for (NodeId n = 0; n < graph_.nodes.size(); ++n) {
      if (region_of_[n] != none) continue;
      if (attention_of[n] != none) {
        Region region;
        region.kind = Kind::attention;
        region.nodes = attentions[attention_of[n]];
        for (NodeId k : region.nodes) region_of_[k] = static_cast<uint32_t>(regions_.size());
        regions_.push_back(std::move(region));
        continue;
      }
      region_of_[n] = static_cast<uint32_t>(regions_.size());
      regions_.push_back(classify(n));
      join(n, false);
    }
    for (NodeId n = 0; n < graph_.nodes.size(); ++n)
      if (dequantizing_[n]) join(n, true);
    find_readers();
    chain_convolutions();
    join_siblings();
    take_views();
    rebuild();
  }

 private:
  // Nodes that find out an extent that known contents speak of come before those that read the contents, though no
  // value says so.
  void find_makers() {
    std::vector<SymbolId> ids;
    for (ValueId v : graph_.inputs) collect_symbols(graph_[v].type, ids);
    std::map<SymbolId, NodeId> maker;
    for (SymbolId id : ids) maker.emplace(id, no_id);
    makers_.assign(graph_.nodes.size(), {});
    for (NodeId n = 0; n < graph_.nodes.size(); ++n) {
      for (ValueId v : graph_.nodes[n].inputs) {
        const auto* dims = v == no_id ? nullptr : std::get_if<std::vector<Dim>>(&graph_[v].contents);
        ids.clear();
        if (dims)
          for (const Dim& d : *dims) d.collect_symbols(ids);
        for (SymbolId id : ids)
          if (const auto at = maker.find(id); at != maker.end() && at->second != no_id)
            makers_[n].push_back(at->second);
      }
      for (ValueId v : graph_.nodes[n].outputs) {
        ids.clear();
        collect_symbols(graph_[v].type, ids);
        for (SymbolId id : ids) maker.emplace(id, n);
      }
    }
  }

  // Trailing axes that a reduction with kept extents runs over, 0 when it is of another form.
  size_t reduced_axes(const Node& node) const {
    const std::string_view name = node.op->name;
    if (name.substr(0, 6) != "Reduce" || node.inputs.size() != 2) return 0;
    const Value& x = graph_[node.inputs[0]];
    const Value& y = graph_[node.outputs[0]];
    if (!x.type.has_shape() || !y.type.has_shape()) return 0;
    const Tensor* axes = graph_.constant(node.inputs[1]);
    const size_t rank = x.type.shape->size();
    if (!axes || axes->count() == 0 || y.type.shape->size() != rank || !is_float(x.type.dtype)) return 0;
    std::vector<int64_t> sorted = axes->to_integers();
    for (int64_t& a : sorted) a = a < 0 ? a + static_cast<int64_t>(rank) : a;
    std::sort(sorted.begin(), sorted.end());
    for (size_t k = 0; k < sorted.size(); ++k)
      if (sorted[k] != static_cast<int64_t>(rank - sorted.size() + k)) return 0;
    return sorted.size();
  }

  Region classify(NodeId n) const {
    const Node& node = graph_.nodes[n];
    Region region;
    region.nodes = {n};
    if (node.outputs.size() != 1 || !graph_[node.outputs[0]].type.is_plain()) return region;
    for (ValueId v : node.inputs)
      if (v != no_id && !graph_[v].type.is_plain()) return region;
    const Shape& result = *graph_[node.outputs[0]].type.shape;
    if (is_contraction(node)) {
      region.kind = Kind::contraction;
      region.shape = result;
    } else if (is_pointwise(node)) {
      region.kind = Kind::pointwise;
      region.shape = result;
      region.dequantizes = dequantizing_[n];
    } else if (const size_t axes = reduced_axes(node)) {
      region.kind = Kind::row;
      region.shape = *graph_[node.inputs[0]].type.shape;
      region.row_axes = axes;
    }
    return region;
  }

  // The shape of one value per row.
  static Shape row_shape(const Shape& shape, size_t axes) {
    Shape out = shape;
    for (size_t k = shape.size() - axes; k < shape.size(); ++k) out[k] = 1;
    return out;
  }

  // Whether region b, which reads from a, may become part of it.
  bool compatible(const Region& a, const Region& b) const {
    if (a.nodes.size() + b.nodes.size() > max_stages) return false;
    if (a.kind == Kind::single || b.kind == Kind::single) return false;
    if (a.kind == Kind::attention || b.kind == Kind::attention) return false;
    if (b.kind == Kind::contraction) return a.dequantizes && a.shape == b.shape;
    if (a.kind == Kind::contraction) {
      // Inner values may be read again outside: the kernel then stores them as well.
      return b.kind == Kind::pointwise && b.shape == a.shape;
    }
    if (a.kind == Kind::pointwise && b.kind == Kind::pointwise) return a.shape == b.shape;
    const size_t axes = std::max(a.row_axes, b.row_axes);
    if (a.row_axes && b.row_axes && a.row_axes != b.row_axes) return false;
    const Shape& full = a.kind == Kind::row ? a.shape : b.shape;
    const Shape rows = row_shape(full, axes);
    const auto fits = [&](const Region& r) { return r.shape == full || r.shape == rows; };
    return full.size() >= axes && fits(a) && fits(b);
  }

  // Whether a path leads from region a to region b through another region.
  bool path_around(uint32_t a, uint32_t b) const {
    std::vector<uint32_t> stack;
    std::vector<bool> seen(regions_.size(), false);
    const auto push_operands = [&](uint32_t r, bool skip_a) {
      const auto push = [&](NodeId def) {
        // Nodes without a region come later: they feed the end of an attention, which nothing so far reads.
        const uint32_t from = region_of_[def];
        if (from == UINT32_MAX || from == r || seen[from] || (skip_a && from == a)) return;
        seen[from] = true;
        stack.push_back(from);
      };
      for (NodeId n : regions_[r].nodes) {
        for (ValueId v : graph_.nodes[n].inputs)
          if (v != no_id && graph_[v].def != no_id) push(graph_[v].def);
        for (NodeId maker : makers_[n]) push(maker);
      }
    };
    push_operands(b, true);
    while (!stack.empty()) {
      const uint32_t r = stack.back();
      stack.pop_back();
      if (r == a) return true;
      push_operands(r, false);
    }
    return false;
  }

  // Dequantizing joins its readers before (late) what it reads.
  void join(NodeId n, bool late) {
    if (is_contraction(graph_.nodes[n])) return;
    for (ValueId v : Ids(graph_.nodes[n].inputs)) {
      if (v == no_id || graph_[v].def == no_id) continue;
      if (!late && dequantizing_[n] && !dequantizing_[graph_[v].def]) continue;
      const uint32_t a = region_of_[graph_[v].def], b = region_of_[n];
      if (a == b || !compatible(regions_[a], regions_[b]) || path_around(a, b)) continue;
      merge(a, b);
    }
  }

  void merge(uint32_t a, uint32_t b) {
    Region& into = regions_[a];
    Region& from = regions_[b];
    for (NodeId n : from.nodes) region_of_[n] = a;
    into.nodes.insert(into.nodes.end(), from.nodes.begin(), from.nodes.end());
    std::sort(into.nodes.begin(), into.nodes.end());
    into.dequantizes = into.dequantizes && from.dequantizes;
    if (from.kind == Kind::contraction) into.kind = Kind::contraction;
    if (from.kind == Kind::row && into.kind != Kind::row) {
      into.kind = Kind::row;
      into.shape = from.shape;
      into.row_axes = from.row_axes;
    }
    from.alive = false;
    from.nodes.clear();
  }

  // The one value of a region that is read outside of it, when one node reads it there and as its first operand.
  NodeId only_reader(uint32_t region) const {
    NodeId reader = no_id;
    for (NodeId n : regions_[region].nodes)
      for (ValueId v : graph_.nodes[n].outputs)
        for (NodeId other : readers_[v]) {
          if (other != no_id && region_of_[other] == region) continue;
          if (other == no_id || reader != no_id || graph_.nodes[other].inputs[0] != v) return no_id;
          reader = other;
        }
    return reader;
  }

  struct ConvForm {
    bool dense = false, depthwise = false, single_pixel = false;
  };
  ConvForm conv_form(NodeId n) const {
    const Node& node = graph_.nodes[n];
    ConvForm form;
    if (std::string_view(node.op->name) != "Conv") return form;
    const Type& weights = graph_[node.inputs[1]].type;
    if (!weights.has_shape() || weights.shape->size() != 4) return form;
    const Shape& w = *weights.shape;
    const auto& attrs = node.attrs.as<ConvAttrs>();
    if (!is_float(graph_[node.inputs[0]].type.dtype)) return form;
    const auto each = [](const std::vector<int64_t>& values, int64_t wanted) {
      return std::all_of(values.begin(), values.end(), [&](int64_t value) { return value == wanted; });
    };
    form.depthwise = attrs.group > 1 && w[0] == Dim(attrs.group) && w[1] == Dim(1);
    form.dense = attrs.group == 1;
    form.single_pixel = form.dense && w[2] == Dim(1) && w[3] == Dim(1) && each(attrs.strides, 1) && each(attrs.pads, 0);
    return form;
  }

  void find_readers() {
    readers_.assign(graph_.values.size(), {});
    for (NodeId n = 0; n < graph_.nodes.size(); ++n)
      for (ValueId v : graph_.nodes[n].inputs)
        if (v != no_id) readers_[v].push_back(n);
    for (ValueId v : graph_.outputs) readers_[v].push_back(no_id);
  }

  // What a pointwise region reads of its own shape from outside, if that is known only when it runs; ascending.
  std::vector<ValueId> wide_operands(uint32_t r, const std::vector<bool>& built) const {
    std::vector<ValueId> out;
    for (NodeId n : regions_[r].nodes)
      for (ValueId v : graph_.nodes[n].inputs) {
        if (v == no_id || built[v] || !graph_[v].type.is_plain()) continue;
        const bool own = graph_[v].def != no_id && region_of_[graph_[v].def] == r;
        if (!own && is_float(graph_[v].type.dtype) && *graph_[v].type.shape == regions_[r].shape) out.push_back(v);
      }
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
  }

  // Pointwise regions of the same wide operands: these are read once.
  void join_siblings() {
    const std::vector<bool> built = built_values(graph_);
    std::map<std::vector<ValueId>, std::vector<uint32_t>> alike;
    for (uint32_t r = 0; r < regions_.size(); ++r) {
      if (!regions_[r].alive || regions_[r].kind != Kind::pointwise) continue;
      std::vector<ValueId> operands = wide_operands(r, built);
      if (operands.empty()) continue;
      std::vector<uint32_t>& others = alike[std::move(operands)];
      const auto other = std::find_if(others.begin(), others.end(), [&](uint32_t a) {
        return compatible(regions_[a], regions_[r]) && !path_around(a, r) && !path_around(r, a);
      });
      if (other != others.end())
        merge(*other, r);
      else
        others.push_back(r);
    }
  }

  // Whether elements next to each other in the result are evenly apart in what it is a view of.
  bool keeps_last_axis(const Node& node) const {
    const Shape &x = *graph_[node.inputs[0]].type.shape, &y = *graph_[node.outputs[0]].type.shape;
    if (x.empty() || y.empty()) return false;
    const std::string_view name = node.op->name;
    if (name == "Transpose") {
      const std::vector<int64_t>& perm = node.attrs.as<TransposeAttrs>().perm;
      return !perm.empty() && (perm.back() == -1 || perm.back() + 1 == static_cast<int64_t>(x.size()));
    }
    if (name == "Identity" || name == "Expand" || name == "Slice" || name == "Split") return true;
    if (y.back() == x.back() || y.back() == Dim(1)) return true;
    const auto before = x.back().as_constant(), behind = y.back().as_constant();
    return before && behind && *behind > 0 && *before % *behind == 0;
  }

  bool is_view(const Node& node) const {
    if (!is_movement_view(*node.op) || node.inputs.empty() || node.inputs[0] == no_id) return false;
    std::vector<const Contents*> contents;
    for (ValueId v : node.inputs) contents.push_back(v == no_id ? nullptr : &graph_[v].contents);
    const Type& x = graph_[node.inputs[0]].type;
    return std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) {
      const Type& y = graph_[v].type;
      if (!x.is_plain() || !y.is_plain()) return false;
      std::vector<bool> two_strides(y.shape->size(), false);
      return is_strided_view(*node.op, node.attrs, x, y, contents, two_strides) && keeps_last_axis(node);
    });
  }

  // Views before pointwise and row regions that nothing else reads. Not Slice, Split and Reshape by themselves: those
  // become parts and views of values (builder/parts.h).
  void take_views() {
    constexpr uint32_t none = UINT32_MAX;
    constexpr int64_t shortest_row = 16;  // elements: a vector
    const std::vector<bool> built = built_values(graph_);
    std::vector<uint32_t> taker(graph_.nodes.size(), none);  // of views
    const auto reader_of = [&](NodeId n) { return n == no_id ? none : taker[n] != none ? taker[n] : region_of_[n]; };
    const auto only_taker = [&](const Node& node) {
      uint32_t only = none;
      for (ValueId v : node.outputs)
        for (NodeId other : readers_[v]) {
          const uint32_t r = reader_of(other);
          if (r == none || (only != none && r != only)) return none;
          only = r;
        }
      if (only == none) return none;
      const Region& into = regions_[only];
      if ((into.kind != Kind::pointwise && into.kind != Kind::row) || into.shape.empty()) return none;
      // Rows of several axes lie one after the other, and short ones are moved faster by themselves.
      const auto row = into.shape.back().as_constant();
      return into.row_axes <= 1 && (!row || *row >= shortest_row) ? only : none;
    };
    std::vector<size_t> room;
    for (const Region& region : regions_) room.push_back(max_stages - std::min(max_stages, region.nodes.size()));
    for (NodeId n = static_cast<NodeId>(graph_.nodes.size()); n-- > 0;) {
      const Node& node = graph_.nodes[n];
      if (regions_[region_of_[n]].kind != Kind::single || !is_view(node) || built[node.outputs[0]]) continue;
      const uint32_t r = only_taker(node);
      if (r != none && room[r] > 0) taker[n] = r, --room[r];
    }
    std::vector<bool> worth(graph_.nodes.size(), false);
    for (NodeId n = 0; n < graph_.nodes.size(); ++n) {
      if (taker[n] == none) continue;
      const std::string_view name = graph_.nodes[n].op->name;
      const NodeId before = graph_[graph_.nodes[n].inputs[0]].def;
      const bool follows = before != no_id && taker[before] == taker[n];
      if (follows) worth[before] = true;
      worth[n] = worth[n] || follows || name == "Transpose" || name == "Expand";
    }
    for (NodeId n = 0; n < graph_.nodes.size(); ++n) {
      if (!worth[n]) continue;
      regions_[region_of_[n]].alive = false;
      regions_[region_of_[n]].nodes.clear();
      region_of_[n] = taker[n];
      std::vector<NodeId>& nodes = regions_[taker[n]].nodes;
      nodes.insert(std::lower_bound(nodes.begin(), nodes.end(), n), n);
    }
  }

  void chain_convolutions() {
    // Whether region b, of a contraction and what is behind it, may follow region a.
    const auto follows = [&](uint32_t a, uint32_t b) {
      return regions_[a].nodes.size() + regions_[b].nodes.size() <= max_stages && !path_around(a, b);
    };
    const auto led_by = [&](NodeId n) {
      const Region& region = regions_[region_of_[n]];
      return region.kind == Kind::contraction && region.nodes[0] == n;
    };
    for (NodeId n = 0; n < graph_.nodes.size(); ++n) {
      if (!led_by(n) || !conv_form(n).depthwise) continue;
      const uint32_t own = region_of_[n];
      const NodeId before = graph_[graph_.nodes[n].inputs[0]].def;
      if (before != no_id) {
        const uint32_t a = region_of_[before];
        const NodeId head = regions_[a].nodes[0];
        if (led_by(head) && conv_form(head).dense && only_reader(a) == n && follows(a, own)) merge(a, own);
      }
      const NodeId behind = only_reader(region_of_[n]);
      if (behind != no_id && led_by(behind) && conv_form(behind).single_pixel &&
          follows(region_of_[n], region_of_[behind]))
        merge(region_of_[n], region_of_[behind]);
      size_t convolutions = 0;
      for (NodeId k : regions_[region_of_[n]].nodes) convolutions += is_contraction(graph_.nodes[k]);
      if (convolutions > 1) regions_[region_of_[n]].kind = Kind::chain;
    }
  }

  Node fragment_of(const Region& region, const std::vector<bool>& is_output) {
    Node fragment;
    fragment.op = &op_named("Fragment");
    fragment.attrs = fragment.op->fields ? Attrs::defaults(fragment.op->fields()) : Attrs();
    Graph body;
    std::vector<ValueId> inner(graph_.values.size(), no_id);
    for (NodeId n : region.nodes) {
      const Node& node = graph_.nodes[n];
      for (uint32_t source : node.sources)
        if (std::find(fragment.sources.begin(), fragment.sources.end(), source) == fragment.sources.end())
          fragment.sources.push_back(source);
      Node stage{node.op, plain(node), {}, {}, {}, node.sources};
      // What a contraction reads twice, or what is read again behind it, may have to lie in several ways: each is an
      // operand of its own.
      const bool apart = region.kind == Kind::single || is_contraction(node);
      std::vector<ValueId> own;
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const ValueId v = node.inputs[i];
        if (v == no_id) {
          stage.inputs.push_back(no_id);
          continue;
        }
        const bool host = i < 64 && (node.op->host_inputs >> i & 1);
        if (host && graph_[v].has_contents()) {
          // Known host operands stand in the fragment itself.
          stage.inputs.push_back(static_cast<ValueId>(body.values.size()));
          Value copy = graph_[v];
          copy.def = no_id;
          body.values.push_back(std::move(copy));
          continue;
        }
        if (inner[v] == no_id || std::find(own.begin(), own.end(), v) != own.end()) {
          if (apart) own.push_back(v);
          inner[v] = static_cast<ValueId>(body.values.size());
          Value parameter{graph_[v].type, {}, no_id, graph_[v].name, {}};
          body.values.push_back(std::move(parameter));
          body.inputs.push_back(inner[v]);
          fragment.inputs.push_back(v);
        }
        stage.inputs.push_back(inner[v]);
      }
      for (ValueId v : own) inner[v] = no_id;
      for (ValueId v : node.outputs) {
        inner[v] = static_cast<ValueId>(body.values.size());
        body.values.push_back({graph_[v].type, {}, static_cast<NodeId>(body.nodes.size()), graph_[v].name, {}});
        stage.outputs.push_back(inner[v]);
        if (is_output[v] || region.kind == Kind::single) {
          body.outputs.push_back(inner[v]);
          fragment.outputs.push_back(v);
        }
      }
      body.nodes.push_back(std::move(stage));
    }
    fragment.bodies.push_back(std::move(body));
    return fragment;
  }

  void rebuild() {
    // Values read outside their region leave it.
    std::vector<bool> is_output(graph_.values.size(), false);
    for (NodeId n = 0; n < graph_.nodes.size(); ++n)
      for (ValueId v : graph_.nodes[n].inputs)
        if (v != no_id && graph_[v].def != no_id && region_of_[graph_[v].def] != region_of_[n]) is_output[v] = true;
    for (ValueId v : graph_.outputs) is_output[v] = true;
    std::vector<Node> nodes;
    for (Region& region : regions_) {
      if (!region.alive) continue;
      const Node& first = graph_.nodes[region.nodes[0]];
      if (region.kind == Kind::single && (!first.bodies.empty() || is_control(*first.op))) {
        Node control = first;
        nodes.push_back(std::move(control));
      } else {
        nodes.push_back(fragment_of(region, is_output));
      }
    }
    graph_.nodes = std::move(nodes);
    define_values(graph_);
    tidy(graph_);
    for (Node& node : graph_.nodes)
      if (is_control(*node.op))
        for (Graph& body : node.bodies) Grouping(body).run();
  }

  static bool is_control(const Op& op) {
    const std::string_view name = op.name;
    return name == "If" || name == "Loop";
  }

  Graph& graph_;
  std::vector<std::vector<NodeId>> makers_;   // by node
  std::vector<bool> dequantizing_;            // by node
  std::vector<std::vector<NodeId>> readers_;  // by value; no_id: a result of the graph
  std::vector<uint32_t> region_of_;
  std::vector<Region> regions_;
};

}  // namespace

bool group(Module& module, const PassContext&) {
  // Nodes that nothing reads would become stages, and what they read operands.
  tidy(*module.main);
  Grouping(*module.main).run();
  return true;
}

}  // namespace sinter
