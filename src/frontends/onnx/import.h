// import: an onnx::Model becomes a Module of core operators.
//
// Entries turn one node each; the newest entry not above the model's opset is used, and entries exist back to opset 1.
// They build through GraphBuilder and wiring/, so results are typed at once. All nodes that are broken or unsupported
// are reported in one error. Plugins come first; functions are inlined unless an entry knows the name better.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/control.h"
#include "base/log.h"
#include "frontends/onnx/model.h"
#include "ir/builder.h"

namespace sinter::onnx {

struct ImportOptions {
  Logger logger;
  Control control;
  int64_t max_nodes = 1000000;                             // after functions and bodies are written out
  std::map<std::string, Tensor, std::less<>> frozen = {};  // inputs that become constants, by name
  bool open_extents = false;  // whatever extents the model declares: each extent of an input is a symbol of its own
};

Module import(std::shared_ptr<const Model> model, const ImportOptions& options = {});

class Importer;  // import.cpp

constexpr std::string_view training_domain = "ai.onnx.preview.training";

// One node on its way into the graph.
class NodeContext {
 public:
  NodeContext(GraphBuilder& b, const Node& node, int64_t opset, Ids inputs, Importer& importer)
      : b(b), node(node), opset(opset), inputs_(std::move(inputs)), importer_(importer) {}

  GraphBuilder& b;
  const Node& node;
  const int64_t opset;  // imported version of the node's domain

  size_t inputs() const { return inputs_.size(); }
  bool has(size_t i) const { return i < inputs_.size() && inputs_[i] != no_id; }
  ValueId in(size_t i) const;  // throws when absent
  ValueId maybe(size_t i) const { return i < inputs_.size() ? inputs_[i] : no_id; }
  const Ids& all() const { return inputs_; }
  size_t outputs() const;           // written in the model, absent ones included
  bool wants(size_t output) const;  // named in the model

  bool has_attr(std::string_view name) const;
  int64_t integer(std::string_view name, int64_t otherwise) const;
  double real(std::string_view name, double otherwise) const;
  std::string string(std::string_view name, std::string_view otherwise) const;
  std::vector<int64_t> integers(std::string_view name, std::vector<int64_t> otherwise = {}) const;
  std::vector<double> reals(std::string_view name, std::vector<double> otherwise = {}) const;
  std::vector<std::string> strings(std::string_view name) const;
  const Tensor* tensor(std::string_view name) const;          // null when absent
  DType dtype(std::string_view name, DType otherwise) const;  // an attribute holding a TensorProto data type
  const Graph* graph(std::string_view name) const;            // a subgraph attribute

  // Axes given as an attribute in old opsets and as operand `input` in new ones; no_id when neither.
  ValueId axes_operand(std::string_view attribute, size_t input) const;

  // The same node with other operands, read as an operator of another opset version.
  NodeContext with(Ids inputs, int64_t version) const {
    return NodeContext(b, node, version, std::move(inputs), importer_);
  }

  void out(size_t output, ValueId value);
  void out(Ids values);

  // A body of If, Loop, Scan: closed over what it captures. `parameters` are the types of its own inputs; captured
  // outer values are appended to `captures` (shared by all bodies of the node) and become further parameters. Constants
  // are copied in and not captured.
  sinter::Graph body(const Graph& graph, std::span<const Type> parameters, Ids& captures) const;
  // What leads from the values named in attributes `from` to the one named in attribute `to`, as a closed graph: a body
  // whose parameters, of these types, stand for the former, and whose result is the latter. Everything else that it
  // reads is captured.
  sinter::Graph path(std::initializer_list<std::string_view> from, std::string_view to,
                     std::span<const Type> parameters, Ids& captures) const;
  // A body written into this graph, its own inputs being these values: the branch of an If that is known to be taken.
  Ids inlined(const Graph& graph, const Ids& parameters = {}) const;
  // Bodies that share `captures`: an earlier one does not know what a later one captured. Appends the missing
  // parameters, so that every body takes its own[i] parameters and then all captures. Call it after the last body().
  void complete_captures(std::vector<sinter::Graph>& bodies, std::span<const size_t> own, const Ids& captures) const;

  [[noreturn]] void fail(std::string message) const;  // Code::model_invalid
  [[noreturn]] void unsupported(std::string message) const;

  const Ids& results() const { return results_; }

 private:
  Ids inputs_, results_;
  Importer& importer_;
};

struct Entry {
  std::string_view name;
  int since;  // first opset version this entry is for
  void (*import)(NodeContext&);
  std::string_view domain = "";  // "" is the default domain
};

// All of them, by domain, name and opset.
std::span<const Entry> all_entries();

// Families of entries, each in its own file; import.cpp joins them.
std::span<const Entry> pointwise_entries();
std::span<const Entry> shape_entries();  // Shape .. Transpose, Concat, Slice, Pad, Split, Tile, ...
std::span<const Entry> indexing_entries();
std::span<const Entry> generation_entries();  // Constant, ConstantOfShape, Range, random, windows, ...
std::span<const Entry> selection_entries();
std::span<const Entry> reduction_entries();
std::span<const Entry>
contraction_entries();  // MatMul, Gemm, Conv*, ConvTranspose, integer and quantized forms, Einsum
std::span<const Entry> pooling_entries();
std::span<const Entry> normalization_entries();
std::span<const Entry> recurrent_entries();
std::span<const Entry> resize_entries();
std::span<const Entry> signal_entries();
std::span<const Entry> attention_entries();
std::span<const Entry> control_entries();
std::span<const Entry> sequence_entries();
std::span<const Entry> string_entries();
std::span<const Entry> ml_entries();  // domain ai.onnx.ml
std::span<const Entry> quantization_entries();
std::span<const Entry> contrib_quantized_entries();  // domain com.microsoft: quantized operators
std::span<const Entry> contrib_attention_entries();
std::span<const Entry> contrib_misc_entries();
std::span<const Entry> loss_entries();             // NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss
std::span<const Entry> training_entries();         // domain ai.onnx.preview.training
std::span<const Entry> experimental_entries();     // operators dropped from ONNX
std::span<const Entry> contrib_weights_entries();  // domain com.microsoft: products with weights of few bits
std::span<const Entry> contrib_experts_entries();  // mixtures of experts
std::span<const Entry>
contrib_ordered_entries();  // matrices in layouts of their own, 8-bit floats, blocks that share an exponent
std::span<const Entry> contrib_positions_entries();  // rotary embeddings, position biases
std::span<const Entry> contrib_sparse_entries();     // attention of which a part is left out
std::span<const Entry> contrib_state_entries();      // hyper-connections, gates, recurrences over packed tokens
std::span<const Entry> contrib_varlen_entries();     // sequences of different lengths packed into one
std::span<const Entry> contrib_replay_entries();     // states after the accepted part of a draft
std::span<const Entry> contrib_indexer_entries();    // which keys sparse attention reads
std::span<const Entry> contrib_recurrent_entries();  // LSTM with attention
std::span<const Entry> contrib_decoding_entries();   // what decoders do with tokens
std::span<const Entry> contrib_search_entries();     // search for sequences of tokens
std::span<const Entry> contrib_rules_entries();      // what searches do to scores
std::span<const Entry> contrib_layout_entries();     // images, and channels in blocks (com.microsoft.nchwc)

}  // namespace sinter::onnx
