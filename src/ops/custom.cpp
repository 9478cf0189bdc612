#include "ops/custom.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <tuple>

#include "base/scanner.h"
#include "ops/families.h"

namespace sinter {
namespace {

// ---- The registry ----

using Key = std::tuple<std::string, std::string, int64_t>;

struct Registry {
  std::shared_mutex mutex;
  std::map<Key, std::unique_ptr<const CustomOperator>> operators;
};

Registry& registry() {
  static auto* all = new Registry();  // engines of other threads may outlive main
  return *all;
}

Key key_of(const CustomOperator& op) { return {op.domain, op.name, op.version}; }

const char* const how_to_load =
    "load the plugin first: --plugins LIBRARY, sinter_load_plugins() or sinter.load_plugins(); see docs/plugins.md";

// ---- Texts of values ----

std::string text_of(int64_t v) { return std::to_string(v); }
std::string text_of(double v) { return number_text(v); }
std::string text_of(const std::string& v) { return quoted(v); }

template <typename T>
std::string text_of(const std::vector<T>& list) {
  std::string out = "[";
  for (size_t i = 0; i < list.size(); ++i) out += (i ? ", " : "") + text_of(list[i]);
  return out + "]";
}

void read(Scanner& s, int64_t& v) { v = s.integer(); }
void read(Scanner& s, double& v) { v = s.number(); }
void read(Scanner& s, std::string& v) { v = s.string(); }

template <typename T>
void read(Scanner& s, std::vector<T>& list) {
  s.expect("[");
  if (s.accept("]")) return;
  do {
    read(s, list.emplace_back());
  } while (s.accept(","));
  s.expect("]");
}

template <size_t kind = 0>
CustomValue read_value(Scanner& s, size_t wanted) {
  if constexpr (kind < std::variant_size_v<CustomValue>) {
    if (kind != wanted) return read_value<kind + 1>(s, wanted);
    std::variant_alternative_t<kind, CustomValue> v{};
    read(s, v);
    return v;
  } else {
    s.fail("an attribute of unknown kind");
  }
}

// ---- Custom ----

[[noreturn]] void fail(const CustomOperator& op, const std::string& message) {
  throw Error(Code::model_invalid, fmt::format("{}: {}", printable(op.full_name()), message));
}

std::string between(size_t low, size_t high) {
  if (high == SIZE_MAX) return fmt::format("at least {}", low);
  return low == high ? std::to_string(low) : fmt::format("{} to {}", low, high);
}

// Bounds of the extents that an operator finds out, for inputs as they are.
class BoundsHost final : public InferHost {
 public:
  Dim symbol(size_t output, size_t axis, Symbol::Bound bound, int64_t low, std::optional<Dim> high) override {
    const SymbolId id = symbols_.add({.name = "n", .bound = bound, .low = low});
    found.push_back({output, axis, low, high ? high->as_constant() : std::nullopt});
    return Dim::symbol(id);
  }
  void require(Fact) override {}  // about such extents: whoever reads the results finds out
  const SymbolTable& symbols() const override { return symbols_; }
  std::vector<Type> infer_body(size_t, std::span<const Type>) override { return {}; }

  struct Found {
    size_t output, axis;
    int64_t low;
    std::optional<int64_t> high;
  };
  std::vector<Found> found;

 private:
  SymbolTable symbols_;
};

// What was proved from the bounds that a plugin gave rests on its keeping them.
void check_bounds(const EvalContext& c, const CustomOperator& op, const CustomValues& values,
                  std::span<const Tensor* const> inputs) {
  std::vector<Type> types;
  for (const Tensor* t : inputs) types.push_back(t ? Type::of(*t) : Type());
  std::vector<const Type*> pointers;
  for (size_t i = 0; i < inputs.size(); ++i) pointers.push_back(inputs[i] ? &types[i] : nullptr);
  const Contents nothing;
  const std::vector<const Contents*> contents(inputs.size(), &nothing);
  BoundsHost host;
  InferContext infer(c.op, c.raw_attrs(), pointers, contents, c.outputs.size(), host);
  op.infer(infer, values);
  for (const BoundsHost::Found& f : host.found) {
    const Dims& dims = c.outputs[f.output].tensor.dims();
    const int64_t extent = f.axis < dims.size() ? dims[f.axis] : -1;
    if (extent < f.low || extent > f.high.value_or(INT64_MAX))
      throw Error(Code::fault, fmt::format("{}: extent {} of output {} was found to be {}, infer said {} to {}",
                                           printable(op.full_name()), f.axis, f.output, extent, f.low,
                                           f.high ? std::to_string(*f.high) : "any number"));
  }
}

void infer_custom(InferContext& c) {
  const auto& attrs = c.attrs<CustomAttrs>();
  const CustomOperator& op = custom_named(attrs);
  const CustomValues values = parse_custom(op, attrs.attributes);
  if (c.inputs() < op.least_inputs || c.inputs() > op.most_inputs)
    fail(op, fmt::format("{} inputs, it takes {}", c.inputs(), between(op.least_inputs, op.most_inputs)));
  if (c.outputs() < op.least_outputs || c.outputs() > op.most_outputs)
    fail(op, fmt::format("{} outputs, it has {}", c.outputs(), between(op.least_outputs, op.most_outputs)));
  for (size_t i = 0; i < c.inputs(); ++i) {
    if (!c.has(i) && i < op.least_inputs) fail(op, fmt::format("input {} is missing", i));
    if (c.has(i) && !c.type(i).is_tensor())
      fail(op, fmt::format("input {} is no tensor; plugins take nothing else", i));
  }
  op.infer(c, values);
}

void eval_custom(EvalContext& c) {
  const auto& attrs = c.attrs<CustomAttrs>();
  const CustomOperator& op = custom_named(attrs);
  const CustomValues values = parse_custom(op, attrs.attributes);
  std::vector<const Tensor*> inputs;
  for (size_t i = 0; i < c.inputs(); ++i) inputs.push_back(c.has(i) ? &c.in(i) : nullptr);
  std::vector<CustomRun::Output> outputs;
  for (size_t o = 0; o < c.outputs.size(); ++o) {
    const Type& type = c.type(o);
    CustomRun::Output& out = outputs.emplace_back(CustomRun::Output{type.dtype, std::nullopt});
    if (!type.shape) continue;
    out.dims.emplace();
    for (const Dim& d : *type.shape) out.dims->push_back(d.as_constant().value_or(-1));
    if (constant_dims(*type.shape)) out.tensor = &c.out(o);
  }
  op.compute({values, inputs, outputs, &c, [](void* user, size_t o, DType dtype, const Dims& dims) -> Tensor& {
                return static_cast<EvalContext*>(user)->out(o, dtype, dims);
              }});
  check_made(op, outputs);
  for (const CustomRun::Output& out : outputs)
    if (out.dims && std::find(out.dims->begin(), out.dims->end(), -1) != out.dims->end())
      return check_bounds(c, op, values, inputs);
}

constexpr Op table[] = {{.name = "Custom",
                         .fields = fields<CustomAttrs>,
                         .inputs = {0, Arity::any},
                         .outputs = {1, Arity::any},
                         .infer = infer_custom,
                         .eval = eval_custom}};

}  // namespace

std::span<const Op> custom_ops() { return table; }

const Fields& fields_of(const CustomAttrs*) {
  static const Fields f =
      describe<CustomAttrs>({field<&CustomAttrs::domain>("domain"), field<&CustomAttrs::name>("name"),
                             field<&CustomAttrs::version>("version"), field<&CustomAttrs::plugin>("plugin"),
                             field<&CustomAttrs::attributes>("attributes")});
  return f;
}

const char* custom_kind_name(size_t kind) {
  static constexpr const char* names[] = {"an integer",         "a float",          "a text",
                                          "a list of integers", "a list of floats", "a list of texts"};
  static_assert(std::size(names) == std::variant_size_v<CustomValue>);
  return kind < std::size(names) ? names[kind] : "nothing";
}

void register_custom(std::vector<std::unique_ptr<const CustomOperator>> operators) {
  Registry& all = registry();
  const std::unique_lock lock(all.mutex);
  std::map<Key, std::unique_ptr<const CustomOperator>> fresh;
  for (auto& op : operators) {
    Key key = key_of(*op);
    const auto known = all.operators.find(key);
    if (known != all.operators.end() && known->second->same_as(*op)) continue;
    const auto twice = fresh.find(key);
    if (known != all.operators.end() || twice != fresh.end())
      throw Error(Code::invalid_argument,
                  fmt::format("operator {} (version {}) of plugin '{}' is already there, from plugin '{}'",
                              printable(op->full_name()), op->version, printable(op->plugin),
                              printable((twice != fresh.end() ? twice->second : known->second)->plugin)))
          .with_hint("load one of the two, or give one of them another domain");
    fresh.emplace(std::move(key), std::move(op));
  }
  all.operators.merge(fresh);
}

const CustomOperator* find_custom(std::string_view domain, std::string_view name, int64_t version, int64_t& oldest) {
  Registry& all = registry();
  oldest = 0;
  const std::shared_lock lock(all.mutex);
  const CustomOperator* found = nullptr;
  for (auto at = all.operators.lower_bound(Key(domain, name, INT64_MIN)); at != all.operators.end(); ++at) {
    const auto& [d, n, v] = at->first;
    if (d != domain || n != name) break;
    if (oldest == 0) oldest = v;
    if (v <= version) found = at->second.get();
  }
  return found;
}

std::vector<const CustomOperator*> all_custom() {
  Registry& all = registry();
  const std::shared_lock lock(all.mutex);
  std::vector<const CustomOperator*> out;
  for (const auto& [key, op] : all.operators) out.push_back(op.get());
  return out;
}

const CustomOperator& custom_named(const CustomAttrs& attrs) {
  Registry& all = registry();
  const std::shared_lock lock(all.mutex);
  const auto at = all.operators.find(Key(attrs.domain, attrs.name, attrs.version));
  const std::string full = printable(attrs.domain.empty() ? attrs.name : attrs.domain + "." + attrs.name);
  if (at == all.operators.end())
    throw Error(Code::engine_incompatible, fmt::format("operator {} (version {}) of plugin '{}' is not there", full,
                                                       attrs.version, printable(attrs.plugin)))
        .with_hint(how_to_load);
  if (at->second->plugin != attrs.plugin)
    throw Error(Code::engine_incompatible, fmt::format("operator {} is wanted of plugin '{}', loaded is plugin '{}'",
                                                       full, printable(attrs.plugin), printable(at->second->plugin)))
        .with_hint("build the engine again with the plugin that is loaded, or load the other one");
  return *at->second;
}

CustomValue parse_custom(size_t kind, std::string_view text) {
  Scanner s(text);
  CustomValue v = read_value(s, kind);
  if (!s.at_end()) s.fail("text after the value");
  return v;
}

CustomValues parse_custom(const CustomOperator& op, std::string_view text) {
  std::vector<std::optional<CustomValue>> found(op.attributes.size());
  Scanner s(text);
  if (!s.at_end()) {
    do {
      const std::string_view name = s.identifier();
      const auto at = std::find_if(op.attributes.begin(), op.attributes.end(),
                                   [&](const CustomAttribute& a) { return a.name == name; });
      if (at == op.attributes.end()) fail(op, fmt::format("no attribute is named '{}'", printable(name)));
      std::optional<CustomValue>& value = found[static_cast<size_t>(at - op.attributes.begin())];
      if (value) fail(op, fmt::format("attribute '{}' is given twice", printable(name)));
      s.expect("=");
      value = read_value(s, at->kind);
    } while (s.accept(","));
    if (!s.at_end()) s.fail("text after the attributes");
  }
  CustomValues out;
  for (size_t i = 0; i < found.size(); ++i) {
    const CustomAttribute& a = op.attributes[i];
    if (!found[i] && !a.initial) fail(op, fmt::format("attribute '{}' is missing", printable(a.name)));
    out.push_back(found[i] ? *std::move(found[i]) : *a.initial);
  }
  return out;
}

std::string custom_text(const CustomOperator& op, const CustomValues& values) {
  std::string out;
  for (size_t i = 0; i < values.size(); ++i)
    out += fmt::format("{}{}={}", i ? ", " : "", op.attributes[i].name, custom_text(values[i]));
  return out;
}

std::string custom_text(const CustomValue& value) {
  return std::visit([](const auto& v) { return text_of(v); }, value);
}

void check_made(const CustomOperator& op, std::span<const CustomRun::Output> outputs) {
  const auto wrong = [&](size_t o, const std::string& what) {
    throw Error(Code::fault, fmt::format("{}: output {} {}", printable(op.full_name()), o, what));
  };
  for (size_t o = 0; o < outputs.size(); ++o) {
    const CustomRun::Output& out = outputs[o];
    if (!out.tensor) wrong(o, "was not made");
    if (out.tensor->dtype() != out.dtype)
      wrong(o, fmt::format("is {}, not {}", type_text(*out.tensor), dtype_name(out.dtype)));
    bool fits = !out.dims || out.dims->size() == out.tensor->rank();
    for (size_t k = 0; fits && out.dims && k < out.dims->size(); ++k)
      fits = (*out.dims)[k] < 0 || (*out.dims)[k] == out.tensor->dims()[k];
    if (!fits) wrong(o, fmt::format("is {}, its shape function says otherwise", type_text(*out.tensor)));
  }
}

}  // namespace sinter
