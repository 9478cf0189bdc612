// Custom: one core operator for all operators that plugins bring, and the registry of those.
//
// A plugin's operator is a CustomOperator, known by domain, name and version. Registered ones stay for the life of the
// process, so pointers to them may be kept. Attribute values travel as text in the attributes of Custom, in the order
// of the operator's own table, and are read against that table each time: the text may come from a hostile engine.
// What a plugin says of types is checked as inference checks any operator, what it computes by whoever calls it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ops/op.h"

namespace sinter {

struct CustomAttrs {
  std::string domain, name;
  int64_t version = 1;
  std::string plugin;      // name and version of the plugin that the engine was built with
  std::string attributes;  // "alpha=0.5, axes=[0, 1]"
};
const Fields& fields_of(const CustomAttrs*);

using CustomValue =
    std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;
using CustomValues = std::vector<CustomValue>;  // in the order of the operator's table

struct CustomAttribute {
  std::string name;
  size_t kind;                         // index of a CustomValue's alternative
  std::optional<CustomValue> initial;  // none: it must be given
};
const char* custom_kind_name(size_t kind);  // "an integer", "a list of texts"

struct CustomRun {
  struct Output {
    DType dtype;
    std::optional<Dims> dims;  // -1: found out by running; none: the rank too
    Tensor* tensor = nullptr;  // null until made, where extents are found out
  };
  const CustomValues& values;
  std::span<const Tensor* const> inputs;  // null: absent
  std::span<Output> outputs;
  void* user;
  Tensor& (*make)(void* user, size_t output, DType dtype, const Dims& dims);
  int64_t part = 0, parts = 1;  // of an operator that splits
};

class CustomOperator {
 public:
  virtual ~CustomOperator() = default;
  std::string domain, name, plugin;
  int64_t version = 1;
  size_t least_inputs = 1, most_inputs = 1, least_outputs = 1, most_outputs = 1;  // SIZE_MAX: any number
  bool splits = false;  // compute may be called for parts of the outputs, where all of them have a tensor
  std::vector<CustomAttribute> attributes;

  // Sets every result; throws Error. May be called by several threads at once, as compute may.
  virtual void infer(InferContext& c, const CustomValues& values) const = 0;
  // Writes every output, making those that have no tensor yet; throws Error.
  virtual void compute(const CustomRun& run) const = 0;
  // The same operator in every respect: registering it again changes nothing.
  virtual bool same_as(const CustomOperator& other) const = 0;

  std::string full_name() const { return domain.empty() ? name : domain + "." + name; }
};

// All of them or, when one is in the way of another, none: Error(Code::invalid_argument). Thread-safe, as are lookups.
void register_custom(std::vector<std::unique_ptr<const CustomOperator>> operators);
// The newest version not above `version`; null when there is none, with the oldest version there is (0: none at all).
const CustomOperator* find_custom(std::string_view domain, std::string_view name, int64_t version, int64_t& oldest);
std::vector<const CustomOperator*> all_custom();  // by domain, name and version

// The operator that the attributes name; Error(Code::engine_incompatible) when it, or its plugin's version, is not
// registered.
const CustomOperator& custom_named(const CustomAttrs& attrs);
// Throws Error for text that is no list of the operator's attributes.
CustomValues parse_custom(const CustomOperator& op, std::string_view text);
CustomValue parse_custom(size_t kind, std::string_view text);  // one value
std::string custom_text(const CustomOperator& op, const CustomValues& values);
std::string custom_text(const CustomValue& value);

// What must hold after compute; throws Error(Code::fault).
void check_made(const CustomOperator& op, std::span<const CustomRun::Output> outputs);

}  // namespace sinter
