// The two functions of a plugin's operator as inference and evaluation of a CustomOperator.

#include <fmt/core.h>

#include <cstdarg>
#include <cstdio>
#include <deque>

#include "api/plugins.h"
#include "base/checked.h"
#include "base/scanner.h"

struct sinter_extent {
  sinter::Dim dim;
};

namespace sinter {
namespace {

static_assert(SINTER_TEXTS + 1 == std::variant_size_v<CustomValue>);

class PluginOperator final : public CustomOperator {
 public:
  void infer(InferContext& c, const CustomValues& values) const override;
  void compute(const CustomRun& run) const override;
  bool same_as(const CustomOperator& other) const override;

  int (*infer_function)(sinter_call*) = nullptr;
  int (*compute_function)(sinter_call*) = nullptr;
  void* user_data = nullptr;
};

// One call of one of the two. Functions of the call note the first error and then do nothing.
struct Call : sinter_call {
  Call(const PluginOperator& op, const CustomValues& values, size_t inputs, size_t outputs);

  const PluginOperator& op;
  const CustomValues& values;
  bool failed = false;
  std::optional<Error> error;
  std::vector<sinter_tensor> input_views, output_views;
  std::deque<Dims> extents;  // behind the views
  std::deque<std::vector<const char*>> texts_given;

  InferContext* context = nullptr;
  std::deque<sinter_extent> dims;
  bool open_rank = false;  // an extent of an input of unknown rank was asked for
  struct Found {
    size_t output, axis;
    Dim dim;
  };
  std::vector<Found> finds;

  const CustomRun* run = nullptr;

  void note(Error e) {
    if (failed) return;
    failed = true;
    error.emplace(std::move(e));
  }
  void finish(int (*function)(sinter_call*), const char* which, Code code);
  sinter_dim give(Dim d) { return &dims.emplace_back(sinter_extent{std::move(d)}); }
  InferContext& inferring() const {
    if (!context) throw Error(Code::invalid_argument, "compute calls a function that only infer may call");
    return *context;
  }
  const CustomRun& running() const {
    if (!run) throw Error(Code::invalid_argument, "infer calls a function that only compute may call");
    return *run;
  }
  size_t output_at(size_t output) const {
    if (output >= output_count)
      throw Error(Code::invalid_argument, fmt::format("there is no output {}, there are {}", output, output_count));
    return output;
  }
};

// No exception may pass through a plugin's own frames.
template <typename F>
auto attempt(sinter_call* c, F body) noexcept -> decltype(body(static_cast<Call&>(*c))) {
  Call& call = static_cast<Call&>(*c);
  try {
    if (!call.failed) return body(call);
  } catch (const Error& e) {
    call.note(e);
  } catch (const std::exception& e) {
    call.note(Error(Code::internal, e.what()));
  }
  return decltype(body(call))();
}

int fail(sinter_call* c, const char* format, ...) {
  if (!format) format = "";
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  attempt(c, [&](Call& call) {
    std::string text;
    if (const int length = std::vsnprintf(nullptr, 0, format, arguments); length > 0) {
      text.resize(static_cast<size_t>(length) + 1);
      std::vsnprintf(text.data(), text.size(), format, again);
      text.pop_back();
    }
    call.note(Error(call.context ? Code::model_invalid : Code::fault, text.empty() ? "it failed" : text));
  });
  va_end(again);
  va_end(arguments);
  return 1;
}

// ---- Attributes ----

template <typename T>
const T& attribute(const Call& call, const char* name) {
  const std::string_view wanted = name ? name : "";
  for (size_t i = 0; i < call.values.size(); ++i) {
    if (call.op.attributes[i].name != wanted) continue;
    if (const T* value = std::get_if<T>(&call.values[i])) return *value;
    throw Error(Code::invalid_argument, fmt::format("attribute '{}' is {} and is read as something else", wanted,
                                                    custom_kind_name(call.op.attributes[i].kind)));
  }
  throw Error(Code::invalid_argument, fmt::format("it has no attribute '{}' in its table", printable(wanted)));
}

int64_t integer(sinter_call* c, const char* name) {
  return attempt(c, [&](Call& call) { return attribute<int64_t>(call, name); });
}

double real(sinter_call* c, const char* name) {
  return attempt(c, [&](Call& call) { return attribute<double>(call, name); });
}

const char* text(sinter_call* c, const char* name, size_t* bytes) {
  if (bytes) *bytes = 0;
  const char* found = attempt(c, [&](Call& call) {
    const std::string& value = attribute<std::string>(call, name);
    if (bytes) *bytes = value.size();
    return value.c_str();
  });
  return found ? found : "";
}

template <typename T>
const T* list(sinter_call* c, const char* name, size_t* count) {
  if (count) *count = 0;
  return attempt(c, [&](Call& call) {
    const auto& value = attribute<std::vector<T>>(call, name);
    if (count) *count = value.size();
    return value.data();
  });
}

const char* const* texts(sinter_call* c, const char* name, size_t* count) {
  if (count) *count = 0;
  return attempt(c, [&](Call& call) -> const char* const* {
    const auto& value = attribute<std::vector<std::string>>(call, name);
    std::vector<const char*>& out = call.texts_given.emplace_back();
    for (const std::string& s : value) out.push_back(s.c_str());
    if (count) *count = out.size();
    return out.data();
  });
}

// ---- infer ----

DType dtype_of(int dtype) {
  if (dtype < 0 || dtype >= dtype_count)
    throw Error(Code::invalid_argument, fmt::format("there is no dtype {}", dtype));
  return static_cast<DType>(dtype);
}

void set_output(sinter_call* c, size_t output, int dtype, const sinter_dim* dims, int rank) {
  attempt(c, [&](Call& call) {
    InferContext& infer = call.inferring();
    call.output_at(output);
    infer.set(output, dtype_of(dtype));
    if (rank < 0) return;
    if (static_cast<size_t>(rank) > max_rank_of_values)
      throw Error(Code::limit, fmt::format("output {} of rank {}, more than {}", output, rank, max_rank_of_values));
    if (rank > 0 && !dims) throw Error(Code::invalid_argument, fmt::format("output {} has no extents", output));
    Shape shape;
    for (int k = 0; k < rank; ++k) {
      if (!dims[k]) {
        if (call.open_rank) return;
        throw Error(Code::invalid_argument, fmt::format("extent {} of output {} is null", k, output));
      }
      const Dim& d = dims[k]->dim;
      if (d.is_constant() && d.constant() < 0)
        throw Error(Code::model_invalid, fmt::format("extent {} of output {} would be {}", k, output, d.constant()));
      shape.push_back(d);
    }
    infer.set(output, dtype_of(dtype), std::move(shape));
  });
}

void set_like(sinter_call* c, size_t output, int dtype, size_t input) {
  attempt(c, [&](Call& call) {
    InferContext& infer = call.inferring();
    if (!infer.has(input)) throw Error(Code::model_invalid, fmt::format("input {} is missing", input));
    infer.set(call.output_at(output), Type::tensor(dtype_of(dtype), infer.type(input).shape));
  });
}

sinter_dim extent(sinter_call* c, size_t input, int axis) {
  return attempt(c, [&](Call& call) -> sinter_dim {
    InferContext& infer = call.inferring();
    if (!infer.has(input)) throw Error(Code::model_invalid, fmt::format("input {} is missing", input));
    const auto& shape = infer.type(input).shape;
    if (!shape) {
      call.open_rank = true;
      return nullptr;
    }
    const auto rank = static_cast<int>(shape->size());
    if (axis < -rank || axis >= rank)
      throw Error(Code::model_invalid, fmt::format("input {} has rank {}, it is asked for axis {}", input, rank, axis));
    return call.give((*shape)[static_cast<size_t>(axis < 0 ? axis + rank : axis)]);
  });
}

sinter_dim number(sinter_call* c, int64_t value) {
  return attempt(c, [&](Call& call) {
    call.inferring();
    return call.give(Dim(value));
  });
}

template <Dim (*operation)(const Dim&, const Dim&)>
sinter_dim combined(sinter_call* c, sinter_dim a, sinter_dim b) {
  return attempt(c, [&](Call& call) -> sinter_dim {
    call.inferring();
    if (!a || !b) {
      if (call.open_rank) return nullptr;
      throw Error(Code::invalid_argument, "an extent to compute with is null");
    }
    return call.give(operation(a->dim, b->dim));
  });
}

Dim divided(const Dim& a, const Dim& b) {
  if (b == Dim(0)) throw Error(Code::model_invalid, "an extent is divided by 0");
  return floordiv(a, b);
}

Dim divided_up(const Dim& a, const Dim& b) {
  if (b == Dim(0)) throw Error(Code::model_invalid, "an extent is divided by 0");
  return ceildiv(a, b);
}

sinter_dim found(sinter_call* c, size_t output, int axis, int64_t low, sinter_dim high) {
  return attempt(c, [&](Call& call) -> sinter_dim {
    InferContext& infer = call.inferring();
    call.output_at(output);
    if (axis < 0 || static_cast<size_t>(axis) >= max_rank_of_values)
      throw Error(Code::invalid_argument, fmt::format("output {} has no axis {}", output, axis));
    // Extents of outputs of unknown rank are not named.
    for (size_t i = 0; i < infer.inputs(); ++i)
      call.open_rank = call.open_rank || (infer.has(i) && !infer.type(i).shape);
    if (call.open_rank) return nullptr;
    const auto k = static_cast<size_t>(axis);
    const Dim d =
        infer.found_by_running(output, k, std::max<int64_t>(low, 0), high ? std::optional(high->dim) : std::nullopt);
    call.finds.push_back({output, k, d});
    return call.give(d);
  });
}

void require_rank(sinter_call* c, size_t input, int low, int high) {
  attempt(c, [&](Call& call) {
    InferContext& infer = call.inferring();
    if (!infer.has(input)) throw Error(Code::model_invalid, fmt::format("input {} is missing", input));
    const auto& shape = infer.type(input).shape;
    if (!shape) {
      call.open_rank = true;
      return;
    }
    const auto rank = static_cast<int>(shape->size());
    if (rank < low || rank > high)
      throw Error(Code::model_invalid,
                  low == high ? fmt::format("input {} has rank {}, it must have {}", input, rank, low)
                              : fmt::format("input {} has rank {}, it must have {} to {}", input, rank, low, high));
  });
}

void require_equal(sinter_call* c, sinter_dim a, sinter_dim b, const char* what) {
  attempt(c, [&](Call& call) {
    InferContext& infer = call.inferring();
    if (!a || !b) {
      if (call.open_rank) return;
      throw Error(Code::invalid_argument, "an extent to compare is null");
    }
    const SymbolTable& symbols = infer.host.symbols();
    const Fact fact{Fact::Kind::equal, a->dim, b->dim,
                    fmt::format("{}: {}", printable(call.op.full_name()), what ? what : "extents must be equal")};
    const Proof proof = a->dim == b->dim ? Proof::yes : prove(symbols, fact);
    if (proof == Proof::no)
      throw Error(Code::model_invalid, fmt::format("{}: {} and {} differ", what ? what : "extents must be equal",
                                                   to_string(a->dim, symbols), to_string(b->dim, symbols)));
    if (proof == Proof::unknown) infer.host.require(fact);
  });
}

// ---- compute ----

alignas(64) std::byte nothing[64];  // where tensors without elements lie

sinter_tensor view_of(const Tensor& t) {
  void* data = const_cast<void*>(t.data());
  if (t.dtype() == DType::string)
    data = nullptr;
  else if (t.count() == 0)
    data = nothing;
  return {1, static_cast<sinter_dtype>(t.dtype()), static_cast<int>(t.rank()), t.dims().data(), data, t.count()};
}

void* make(sinter_call* c, size_t output, const int64_t* dims, int rank) {
  return attempt(c, [&](Call& call) -> void* {
    const CustomRun& run = call.running();
    CustomRun::Output& out = run.outputs[call.output_at(output)];
    if (rank < 0 || static_cast<size_t>(rank) > max_rank_of_values || (rank > 0 && !dims))
      throw Error(Code::fault, fmt::format("output {} is made with rank {}", output, rank));
    const Dims wanted(dims, dims + rank);
    bool fits = !out.dims || out.dims->size() == wanted.size();
    for (size_t k = 0; fits && k < wanted.size(); ++k)
      fits = wanted[k] >= 0 && (!out.dims || (*out.dims)[k] < 0 || (*out.dims)[k] == wanted[k]);
    if (!fits) {
      std::string given;
      for (int64_t d : wanted) given += fmt::format("{}{}", given.empty() ? "" : ", ", d);
      throw Error(Code::fault, fmt::format("output {} is made with extents [{}], infer excludes them", output, given));
    }
    if (!out.tensor) out.tensor = &run.make(run.user, output, out.dtype, wanted);
    if (out.tensor->dims() != wanted)
      throw Error(Code::fault, fmt::format("output {} is made a second time with other extents", output));
    call.output_views[output] = view_of(*out.tensor);
    return call.output_views[output].data;
  });
}

const char* string(sinter_call* c, size_t input, int64_t element, size_t* bytes) {
  if (bytes) *bytes = 0;
  const char* given = attempt(c, [&](Call& call) {
    const CustomRun& run = call.running();
    const Tensor* t = input < run.inputs.size() ? run.inputs[input] : nullptr;
    if (!t || t->dtype() != DType::string || element < 0 || element >= t->count())
      throw Error(Code::invalid_argument, fmt::format("input {} has no string {}", input, element));
    const std::string& s = t->strings()[static_cast<size_t>(element)];
    if (bytes) *bytes = s.size();
    return s.c_str();
  });
  return given ? given : "";
}

void set_string(sinter_call* c, size_t output, int64_t element, const char* text, size_t bytes) {
  attempt(c, [&](Call& call) {
    Tensor* t = call.running().outputs[call.output_at(output)].tensor;
    if (!t || t->dtype() != DType::string || element < 0 || element >= t->count() || (bytes > 0 && !text))
      throw Error(Code::invalid_argument, fmt::format("output {} has no string {}", output, element));
    t->strings()[static_cast<size_t>(element)] = std::string(text ? text : "", bytes);
  });
}

// ---- calls ----

Call::Call(const PluginOperator& o, const CustomValues& v, size_t inputs_given, size_t outputs_given)
    : sinter_call{}, op(o), values(v), input_views(inputs_given), output_views(outputs_given) {
  size = sizeof(sinter_call);
  user = o.user_data;
  input_count = inputs_given;
  output_count = outputs_given;
  part_count = 1;
  inputs = input_views.data();
  outputs = output_views.data();
  sinter_call::fail = sinter::fail;
  sinter_call::integer = sinter::integer;
  sinter_call::real = sinter::real;
  sinter_call::text = sinter::text;
  integers = list<int64_t>;
  reals = list<double>;
  sinter_call::texts = sinter::texts;
  sinter_call::set_output = sinter::set_output;
  sinter_call::set_like = sinter::set_like;
  sinter_call::extent = sinter::extent;
  sinter_call::number = sinter::number;
  add = combined<(operator+)>;
  sub = combined<(operator-)>;
  mul = combined<(operator*)>;
  div = combined<divided>;
  div_up = combined<divided_up>;
  sinter_call::min = combined<sinter::min>;
  sinter_call::max = combined<sinter::max>;
  sinter_call::found = sinter::found;
  sinter_call::require_rank = sinter::require_rank;
  sinter_call::require_equal = sinter::require_equal;
  sinter_call::make = sinter::make;
  sinter_call::string = sinter::string;
  sinter_call::set_string = sinter::set_string;
}

void Call::finish(int (*function)(sinter_call*), const char* which, Code code) {
  try {
    if (const int result = function(this); result != 0)
      note(Error(code, fmt::format("{} failed ({}) without saying why", which, result)));
  } catch (const std::exception& e) {
    note(Error(code, fmt::format("{} threw an exception: {}", which, e.what())));
  } catch (...) {
    note(Error(code, fmt::format("{} threw an exception", which)));
  }
  if (failed)
    throw Error(error ? error->code() : Code::out_of_memory,
                fmt::format("{}: {}", printable(op.full_name()), error ? error->message() : "out of memory"));
}

void PluginOperator::infer(InferContext& c, const CustomValues& values) const {
  Call call(*this, values, c.inputs(), c.outputs());
  for (size_t i = 0; i < c.inputs(); ++i) {
    if (!c.has(i)) continue;
    const Type& type = c.type(i);
    sinter_tensor& view = call.input_views[i];
    view.present = 1;
    view.dtype = static_cast<sinter_dtype>(type.dtype);
    view.rank = -1;
    if (!type.shape) continue;
    Dims& dims = call.extents.emplace_back();
    for (const Dim& d : *type.shape) dims.push_back(d.as_constant().value_or(-1));
    view.rank = static_cast<int>(dims.size());
    view.dims = dims.data();
  }
  call.context = &c;
  call.finish(infer_function, "infer", Code::model_invalid);
  const auto wrong = [&](const std::string& what) {
    throw Error(Code::model_invalid, fmt::format("{}: infer {}", printable(full_name()), what));
  };
  for (size_t o = 0; o < c.outputs(); ++o)
    if (c.results[o].kind == Type::Kind::invalid) wrong(fmt::format("gives output {} no type", o));
  for (const Call::Found& f : call.finds) {
    const auto& shape = c.results[f.output].shape;
    if (!shape || f.axis >= shape->size() || !((*shape)[f.axis] == f.dim))
      wrong(fmt::format("has axis {} of output {} found out and gives it another extent", f.axis, f.output));
  }
}

void PluginOperator::compute(const CustomRun& run) const {
  Call call(*this, run.values, run.inputs.size(), run.outputs.size());
  for (size_t i = 0; i < run.inputs.size(); ++i)
    if (run.inputs[i]) call.input_views[i] = view_of(*run.inputs[i]);
  for (size_t o = 0; o < run.outputs.size(); ++o) {
    const CustomRun::Output& out = run.outputs[o];
    sinter_tensor& view = call.output_views[o];
    if (out.tensor) {
      view = view_of(*out.tensor);
      continue;
    }
    view = {1, static_cast<sinter_dtype>(out.dtype), -1, nullptr, nullptr, 0};
    if (!out.dims) continue;
    view.rank = static_cast<int>(out.dims->size());
    view.dims = out.dims->data();
  }
  call.run = &run;
  call.part = run.part;
  call.part_count = run.parts;
  call.finish(compute_function, "compute", Code::fault);
}

bool PluginOperator::same_as(const CustomOperator& other) const {
  const auto* o = dynamic_cast<const PluginOperator*>(&other);
  if (!o || plugin != o->plugin || infer_function != o->infer_function || compute_function != o->compute_function ||
      user_data != o->user_data || splits != o->splits || least_inputs != o->least_inputs ||
      most_inputs != o->most_inputs || least_outputs != o->least_outputs || most_outputs != o->most_outputs ||
      attributes.size() != o->attributes.size())
    return false;
  for (size_t i = 0; i < attributes.size(); ++i) {
    const CustomAttribute &a = attributes[i], &b = o->attributes[i];
    if (a.name != b.name || a.kind != b.kind || a.initial != b.initial) return false;
  }
  return true;
}

size_t most_of(int most) { return most < 0 ? SIZE_MAX : static_cast<size_t>(most); }

}  // namespace

std::unique_ptr<const CustomOperator> plugin_operator(const sinter_plugin_op& op, std::string plugin) {
  auto out = std::make_unique<PluginOperator>();
  const auto refuse = [&](const std::string& why) {
    throw Error(Code::invalid_argument, fmt::format("plugin '{}', operator '{}': {}", printable(plugin),
                                                    printable(op.name ? op.name : ""), why));
  };
  if (!op.name || !*op.name) refuse("it has no name");
  if (!op.domain) refuse("its domain is null; \"\" is the default domain");
  if (!op.infer || !op.compute) refuse("it has no infer or no compute");
  if (op.since_version < 1) refuse("its version must be 1 or more");
  const auto sound = [](int low, int high) { return low >= 0 && (high < 0 ? high == -1 : high >= low); };
  if (!sound(op.min_inputs, op.max_inputs) || !sound(op.min_outputs, op.max_outputs) || op.min_outputs < 1)
    refuse("its numbers of inputs or outputs make no sense");
  if (op.attribute_count > 0 && !op.attributes) refuse("its attributes are null");
  out->domain = std::string_view(op.domain) == "ai.onnx" ? "" : op.domain;
  out->name = op.name;
  out->version = op.since_version;
  out->least_inputs = most_of(op.min_inputs);
  out->most_inputs = most_of(op.max_inputs);
  out->least_outputs = most_of(op.min_outputs);
  out->most_outputs = most_of(op.max_outputs);
  for (size_t i = 0; i < op.attribute_count; ++i) {
    const sinter_attribute& a = op.attributes[i];
    CustomAttribute attribute{a.name ? a.name : "", static_cast<size_t>(static_cast<unsigned>(a.kind)), std::nullopt};
    Scanner name(attribute.name);
    if (!name.at_identifier() || name.identifier() != attribute.name)
      refuse(fmt::format("attribute {} has no name of letters, digits, '_' and '.'", i));
    for (const CustomAttribute& other : out->attributes)
      if (other.name == attribute.name) refuse(fmt::format("attribute '{}' is there twice", attribute.name));
    if (attribute.kind >= std::variant_size_v<CustomValue>)
      refuse(fmt::format("attribute '{}' is of unknown kind", attribute.name));
    try {
      if (a.initial && a.kind == SINTER_TEXT)
        attribute.initial = std::string(a.initial);
      else if (a.initial)
        attribute.initial = parse_custom(attribute.kind, a.initial);
    } catch (const Error& error) {
      refuse(fmt::format("the initial value of attribute '{}' is not {}: {}", attribute.name,
                         custom_kind_name(attribute.kind), error.message()));
    }
    out->attributes.push_back(std::move(attribute));
  }
  out->plugin = std::move(plugin);
  out->infer_function = op.infer;
  out->compute_function = op.compute;
  out->user_data = op.user;
  out->splits = op.splits != 0;
  return out;
}

}  // namespace sinter
