// Importer: the state of one import, shared by the files that do it. Nobody else includes this.
//
// Names live in Scopes: one for the main graph, one for each body and each call of a function on the way. A Building is
// a graph under construction; bodies have their own, calls share their caller's. A value that failed to be made has the
// invalid type; nodes that read it are passed over silently, so that only causes are reported.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "frontends/onnx/import.h"
#include "ops/custom.h"

namespace sinter::onnx {

struct Building {
  GraphBuilder b;
  Building* outer = nullptr;  // null for the main graph
  Ids* captures = nullptr;    // values of `outer` that this graph takes after its own parameters
  std::unordered_map<ValueId, ValueId> brought = {};  // value of `outer` → value here
};

// One call of a function: what attribute references in its nodes mean.
struct Call {
  std::unordered_map<std::string_view, std::shared_ptr<const Attribute>> attributes;
};

struct Scope {
  Building& building;
  Scope* parent = nullptr;  // where names are looked up that are not found here
  const std::vector<OpsetImport>& opsets;
  const Call* call = nullptr;
  std::string prefix = {};  // of names made here
  int functions = 0, depth = 0;
  std::unordered_map<std::string_view, ValueId> values = {};  // no_id: an input of a function that the call leaves out
  std::unordered_map<std::string_view, const Initializer*> initializers = {};
  std::unordered_map<std::string_view, ValueId> borrowed = {};  // initializers of outer scopes, copied in
  const std::vector<Node>* nodes = nullptr;                     // that make its values
};

// Names that a node needs to have been made: operands, what its bodies read, what it differentiates.
using Names = std::unordered_set<std::string_view>;
void names_read(const Node& node, Names& out);

// Sets a place for as long as it lives.
template <typename T>
class Within {
 public:
  Within(T& place, T value) : place_(place), before_(std::exchange(place, std::move(value))) {}
  ~Within() { place_ = std::move(before_); }
  Within(const Within&) = delete;
  Within& operator=(const Within&) = delete;

 private:
  T& place_;
  T before_;
};

// Nodes of an operator that nothing imports.
struct Unknown {
  int count = 0;
  std::string nodes, remark;  // some of them by name; why
};

class Importer {
 public:
  Importer(const Model& model, const ImportOptions& options);
  Module run();

  // For NodeContext.
  std::shared_ptr<const Attribute> attribute(const Node& node, std::string_view name) const;
  sinter::Graph body(const Graph& graph, std::span<const Type> parameters, Ids& captures);
  // path.cpp: see NodeContext::path.
  sinter::Graph path(const std::vector<std::string_view>& from, std::string_view to, std::span<const Type> parameters,
                     Ids& captures);
  Ids inlined(const Graph& graph, const Ids& parameters);

 private:
  void main_inputs(Scope& scope);
  Type input_type(const ValueInfo& info);
  Dim input_extent(const ValueInfo& info, size_t axis);
  void set_initializers(Scope& scope, const Graph& graph);
  void define(Scope& scope, std::string_view name, ValueId value);

  // Collects nodes of operators that are not known, in bodies and called functions too, whatever else is wrong.
  void find_unknown();
  void find_unknown(const std::vector<Node>& nodes, const std::vector<OpsetImport>& opsets,
                    std::vector<const Function*>& called);
  void report_unknown();
  const Entry* entry_of(const Node& node, const std::vector<OpsetImport>& opsets, int& oldest) const;
  // custom.cpp. The operator of a plugin that serves a node; `oldest` as for find_custom.
  const CustomOperator* plugin_of(const Node& node, const std::vector<OpsetImport>& opsets, int64_t& oldest) const;
  void import_nodes(Scope& scope, const std::vector<Node>& nodes);
  void import_node(Scope& scope, const Node& node, size_t index);
  // Results of the node, or nothing when it failed (which has been reported).
  std::optional<Ids> results_of(Scope& scope, const Node& node, size_t index, Ids inputs);
  // ranks.cpp. What an entry makes of a node. Where it must know a rank that is not known, it is imported once for each
  // rank that it takes, under an If on the rank that running finds.
  Ids entry_results(Scope& scope, const Entry& entry, const Node& node, int64_t opset, Ids inputs);
  Ids results_by_rank(Scope& scope, const Entry& entry, const Node& node, int64_t opset, const Ids& inputs,
                      size_t operand);
  Ids inline_call(Scope& scope, const Node& node, const Function& function, const Ids& inputs);
  uint32_t source_of(const Scope& scope, const Node& node, size_t index);
  int64_t opset_of(const std::vector<OpsetImport>& opsets, std::string_view domain) const;
  const Function* find_function(const Node& node) const;
  const std::vector<uint32_t>& order_of(const std::vector<Node>& nodes);
  // path.cpp. The node that makes a name, seen from a scope; null for inputs, initializers and what nothing makes.
  using Makers = std::unordered_map<std::string_view, const Node*>;
  const Makers& makers_of(const std::vector<Node>& nodes);
  const Node* maker_of(const Scope& scope, std::string_view name);
  std::vector<Node> upstream(std::string_view to, const Names& from);
  void count_nodes(size_t more);

  void check_depth(const Scope& scope);
  // The inputs of a body that are no initializers; there must be `count`.
  std::vector<const ValueInfo*> own_inputs(Scope& scope, const Graph& graph, size_t count) const;
  // The value of a name in the scope's building; none when nothing makes it, no_id when it is left out.
  std::optional<ValueId> resolve(Scope& scope, std::string_view name);
  // The graph's outputs; what nothing makes is reported and the invalid value.
  Ids results_of_graph(Scope& scope, const Graph& graph);
  ValueId bring(Building& inner, ValueId outer);
  ValueId poison(Building& building);
  bool is_poison(const Building& building, ValueId v) const;
  void report(Error error);
  // Ends the import at once.
  [[noreturn]] void give_up(Error error);

  const Model& model_;
  const ImportOptions& options_;
  Module module_;
  Problems problems_;
  std::set<std::string> reported_;
  std::map<std::string, Unknown> unknown_;  // by operator
  std::map<std::string, const Function*> functions_;
  std::map<std::string, SymbolId> dims_;  // dim_param → symbol
  std::map<std::pair<const Node*, std::string>, uint32_t> sources_;
  std::unordered_map<const void*, std::vector<uint32_t>> orders_;
  std::deque<Graph> paths_;  // made by path(); orders_, makers_ and sources_ know their nodes by address
  std::unordered_map<const void*, Makers> makers_;
  Scope* scope_ = nullptr;  // of the node that is being imported
  int64_t imported_ = 0;    // nodes so far, repeated ones too
  uint64_t poisonings_ = 0;
  int rank_trials_ = 0;  // of the node that is being imported
  bool giving_up_ = false;
};

// custom.cpp. A node as one Custom: attributes are read as the plugin's table says, names that it lacks are errors.
void import_custom(NodeContext& c, const CustomOperator& op);

// Order in which nodes can be imported (stable; producers first). Nodes on a cycle are left out.
std::vector<uint32_t> import_order(const std::vector<Node>& nodes);

// The newest entry not above `opset`; null when there is none. `oldest` becomes the first version that has one (0: the
// name is not known).
const Entry* find_entry(std::string_view domain, std::string_view name, int64_t opset, int& oldest);

// Refuses attributes that the node's operator does not have in any version (attribute_names.cpp).
void check_attributes(const Node& node);

}  // namespace sinter::onnx
