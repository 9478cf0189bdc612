// Op: one row that says everything about a core operator; and the contexts its functions see.
//
// Rows are listed in ops/registry.cpp. `infer` gives types (and symbols and facts), `eval` is the definition: slow,
// obvious, floats in double and rounded once, integers wrapping in 64 bits. Both throw Error; who calls adds the node.
// Pointwise operators have only an expression: inference, evaluation and kernels follow from it. Every member has a
// default. Index values and attribute values are hostile: infer checks attributes and types, eval clamps or throws
// Code::fault for data met at run time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fields.h"
#include "ops/scalar.h"
#include "tensor/symbols.h"
#include "tensor/type.h"

namespace sinter {

struct Op;

// What inference needs from whoever runs it: a graph, a plan being verified, or concrete evaluation.
class InferHost {
 public:
  virtual ~InferHost() = default;
  // A symbol for an extent that the operator finds out when it runs (bound = run), or that known contents of host
  // operands would give (bound = host_element). The same (output, position) gives the same symbol when asked again.
  virtual Dim symbol(size_t output, size_t position, Symbol::Bound bound, int64_t low, std::optional<Dim> high) = 0;
  // Something that must hold when shapes are bound; throws if it is known not to hold.
  virtual void require(Fact fact) = 0;
  virtual const SymbolTable& symbols() const = 0;
  // Result types of a body for these parameter types.
  virtual std::vector<Type> infer_body(size_t body, std::span<const Type> parameters) = 0;
  virtual size_t bodies() const { return 0; }
  // Types of a body's parameters as it stands.
  virtual std::vector<Type> body_parameters(size_t) const { return {}; }
};

class InferContext {
 public:
  InferContext(const Op& op, const Attrs& attrs, std::span<const Type* const> inputs,
               std::span<const Contents* const> contents, size_t outputs, InferHost& host);

  const Op& op;
  InferHost& host;
  const Attrs& raw_attrs() const { return attrs_; }

  template <typename S>
  const S& attrs() const {
    return attrs_.as<S>();
  }
  size_t inputs() const { return inputs_.size(); }
  size_t outputs() const { return results.size(); }
  bool has(size_t input) const { return input < inputs_.size() && inputs_[input] != nullptr; }
  const Type& type(size_t input) const;  // throws when absent
  DType dtype(size_t input) const;       // throws when absent or not a tensor
  // Throws RankUnknown (caught by the caller of infer: outputs keep what was set so far) when the rank is unknown.
  const Shape& shape(size_t input) const;
  size_t rank(size_t input) const { return shape(input).size(); }
  // Known elements, or none. A constant float tensor has no integers.
  std::optional<std::vector<Dim>> integers(size_t input) const;
  std::optional<std::vector<int64_t>> constant_integers(size_t input) const;
  const Tensor* constant(size_t input) const;  // null when not constant

  // Results. Set the dtype first, then the shape, so that an unknown rank on the way leaves the dtype behind.
  void set(size_t output, Type type);
  void set(size_t output, DType dtype) { set(output, Type::tensor(dtype, std::nullopt)); }
  void set(size_t output, DType dtype, Shape shape) { set(output, Type::tensor(dtype, std::move(shape))); }
  // Elements that follow from types alone (Shape, Size) or in ways that only this operator knows.
  void set_contents(size_t output, Contents contents) { known[output] = std::move(contents); }

  // An extent decided by host operands whose contents are not known here.
  Dim host_decided(size_t output, size_t axis, int64_t low = 0, std::optional<Dim> high = {}) {
    return host.symbol(output, axis, Symbol::Bound::host_element, low, std::move(high));
  }
  // An extent that only running finds out.
  Dim found_by_running(size_t output, size_t axis, int64_t low, std::optional<Dim> high) {
    return host.symbol(output, axis, Symbol::Bound::run, low, std::move(high));
  }
  void require_equal(const Dim& a, const Dim& b, const char* what);
  void require_at_least(const Dim& a, const Dim& b, const char* what);
  // ONNX multidirectional broadcasting; extents not provably compatible become a fact.
  Shape broadcast(const Shape& a, const Shape& b);
  int64_t axis(int64_t value, size_t rank) const;  // in [-rank, rank) → [0, rank); throws otherwise
  std::vector<int64_t> axes(std::span<const int64_t> values, size_t rank) const;  // each as above, duplicates refused
  [[noreturn]] void fail(std::string message) const;

  std::vector<Type> results;  // invalid until set
  std::vector<Contents> known;

 private:
  const Attrs& attrs_;
  std::span<const Type* const> inputs_;
  std::span<const Contents* const> contents_;
};

struct RankUnknown {};

// Runs a body of If, Loop, Scan with the given parameters.
class BodyRunner {
 public:
  virtual ~BodyRunner() = default;
  virtual std::vector<Box> run(size_t body, std::vector<Box> parameters) = 0;
  // A result of the body with extents of 0 where only running would tell: what a loop without iterations stacks.
  virtual Tensor without_running(size_t body, size_t result) = 0;
};

class EvalContext {
 public:
  EvalContext(const Op& op, const Attrs& attrs, std::span<const Box* const> inputs, std::vector<Type> types,
              BodyRunner* bodies)
      : op(op), outputs(types.size()), attrs_(attrs), inputs_(inputs), types_(std::move(types)), bodies_(bodies) {}

  const Op& op;
  std::vector<Box> outputs;

  template <typename S>
  const S& attrs() const {
    return attrs_.as<S>();
  }
  const Attrs& raw_attrs() const { return attrs_; }
  size_t inputs() const { return inputs_.size(); }
  bool has(size_t i) const { return i < inputs_.size() && inputs_[i] != nullptr; }
  const Tensor& in(size_t i) const;  // throws when absent or no tensor
  const Box& box(size_t i) const;
  // Output tensor of the inferred type; an output nobody wants may still be written.
  Tensor& out(size_t o);
  // Output tensor whose extents running found out (or whose type inference could not know).
  Tensor& out(size_t o, DType dtype, Dims dims);
  const Type& type(size_t o) const { return types_[o]; }
  BodyRunner& bodies() const;
  [[noreturn]] void fail(std::string message) const;  // Code::fault

 private:
  const Attrs& attrs_;
  std::span<const Box* const> inputs_;
  std::vector<Type> types_;
  BodyRunner* bodies_;
};

// Work of one execution, for ranking kernels and sharing out time.
struct Cost {
  double flops = 0, bytes = 0;
};

struct Arity {
  uint8_t low = 1, high = 1;
  static constexpr uint8_t any = 255;
};

enum class ResultType : uint8_t { like_x, like_y, boolean };  // dtype of a pointwise result

// Inputs that mean something for tests and kernel acceptance: contents for operand `input` of this type.
using SampleInputs = Tensor (*)(const Op& op, const Attrs& attrs, size_t input, std::span<const Type> types,
                                uint64_t seed);

struct Op {
  const char* name;
  const Fields* (*fields)() = nullptr;  // attributes; null: none
  Arity inputs = {1, 1}, outputs = {1, 1};
  uint64_t host_inputs = 0;  // bit i: contents of operand i decide types; they live on the host
  struct {
    bool deterministic = true;
    bool moves_only = false;  // every output element is some input element of operand 0 (or of any for Concat)
    bool commutative = false;
    bool never_fold = false;
    bool compact = false;  // says its result in less room: kept as it is where operands are known, made while building
    bool compact_matrices = false;  // the same of results with two extents above 1, or more
  } is = {};
  void (*infer)(InferContext&) = nullptr;
  void (*eval)(EvalContext&) = nullptr;
  const char* pointwise = nullptr;         // scalar expression
  ResultType result = ResultType::like_x;  // of a pointwise operator
  SampleInputs sample = nullptr;
  Cost (*cost)(const Attrs& attrs, std::span<const Type> inputs, std::span<const Type> outputs,
               std::span<const int64_t> symbols) = nullptr;
};

// All rows, sorted by name; find_op returns null for an unknown name.
std::span<const Op* const> all_ops();
const Op* find_op(std::string_view name);
const Op& op_named(std::string_view name);  // throws Error(Code::internal) for an unknown name
const Scalar& scalar_of(const Op& op);      // precondition: op.pointwise; parsed once

// Runs infer with the row's rules: arity, invalid operands give invalid results, unknown ranks leave dtypes, pointwise
// inference, and known contents of outputs where they follow (Shape, data movement and arithmetic on small integers).
struct Inferred {
  std::vector<Type> types;
  std::vector<Contents> contents;
};
Inferred infer_op(const Op& op, const Attrs& attrs, std::span<const Type* const> inputs,
                  std::span<const Contents* const> contents, size_t outputs, InferHost& host);

// The definition: evaluates one operator on concrete values. Absent operands are null. Throws Error.
std::vector<Box> evaluate_op(const Op& op, const Attrs& attrs, std::span<const Box* const> inputs, size_t outputs,
                             BodyRunner* bodies = nullptr);

}  // namespace sinter
