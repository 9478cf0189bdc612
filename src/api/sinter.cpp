// The C interface. Every exception stops here and becomes a code and the thread's last error.
// One file, as the header is one, and all its functions are wrapped and check their arguments in one way.

#include "sinter/sinter.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#include "api/compile.h"
#include "api/plugins.h"
#include "backend/verify.h"
#include "base/caller_threads.h"
#include "base/checked.h"
#include "engine/file.h"
#include "runtime/engine.h"
#include "runtime/memory.h"
#include "tensor/tensor_proto.h"

using namespace sinter;

struct sinter_engine {
  std::shared_ptr<const Engine> engine;
  std::vector<std::vector<std::string>> extents;  // texts behind sinter_tensor_info, by binding
  std::vector<std::string> types;
};

struct sinter_context {
  std::unique_ptr<Context> context;
  std::atomic<bool> ran{false};
  std::vector<std::optional<Box>> values;  // outputs that were asked for piece by piece, until the next run
  sinter_tap tap = nullptr;
  void* tap_user = nullptr;
  Control control;
  int (*cancelled)(void*) = nullptr;
  void* cancel_user = nullptr;
  sinter_allocate allocate = nullptr;
  void* allocate_user = nullptr;
};

namespace {

struct LastError {
  std::string message, node, tensor, hint;
};
thread_local LastError last_error;

template <typename F>
sinter_code guard(F body) noexcept {
  try {
    body();
    return SINTER_OK;
  } catch (const Error& e) {
    try {
      last_error = {e.what(), e.origin().node, e.origin().tensor, e.origin().hint};
    } catch (...) {
    }
    return static_cast<sinter_code>(e.code());
  } catch (const std::bad_alloc&) {
    last_error = {};
    last_error.message = "out of memory";  // short enough to need none
    return SINTER_OUT_OF_MEMORY;
  } catch (const std::exception& e) {
    try {
      last_error = {e.what(), "", "", ""};
    } catch (...) {
    }
    return SINTER_INTERNAL;
  } catch (...) {
    last_error = {};
    last_error.message = "unknown failure";
    return SINTER_INTERNAL;
  }
}

void need(const void* pointer, const char* what) {
  if (!pointer) throw Error(Code::invalid_argument, fmt::format("{} is null", what));
}

void need_path(const char* path) {
  need(path, "path");
  if (!*path) throw Error(Code::invalid_argument, "path is empty");
}

void need_threads(int threads) {
  if (threads < 0 || threads > 4096)
    throw Error(Code::invalid_argument, fmt::format("{} threads: must be from 0 to 4096", threads));
}

// None for NULL.
CallerThreads caller_threads(const sinter_threads* given) {
  if (!given) return {};
  if (given->size < sizeof *given)
    throw Error(Code::invalid_argument, "threads->size is not set; use SINTER_THREADS_INIT");
  if (given->count < 1 || given->count > 4096)
    throw Error(Code::invalid_argument, fmt::format("threads->count is {}: must be from 1 to 4096", given->count));
  if (!given->run) throw Error(Code::invalid_argument, "threads->run is null");
  return {static_cast<unsigned>(given->count), given->run, given->user};
}

// What a failed call leaves behind an object's pointer is null, whatever failed.
template <typename T>
void clear(T** object) {
  if (object) *object = nullptr;
}

BuildOptions build_options(const sinter_build_options* given, sinter_build_options& copy, ModelSource& source) {
  const sinter_build_options defaults = SINTER_BUILD_OPTIONS_INIT;
  copy = defaults;
  if (given) {
    if (given->size < sizeof(size_t) || given->size > 4096)
      throw Error(Code::invalid_argument, "options.size is not set; use SINTER_BUILD_OPTIONS_INIT");
    std::memcpy(&copy, given, std::min(given->size, sizeof copy));
  }
  BuildOptions options;
  need_threads(copy.threads);
  options.threads = copy.threads;
  if (copy.level) options.level = copy.level;
  for (size_t i = 0; i < copy.dim_count; ++i) {
    need(copy.dims, "options.dims");
    need(copy.dims[i].name, "the name of a dimension");
    options.dims.push_back({copy.dims[i].name, copy.dims[i].min, copy.dims[i].opt, copy.dims[i].max});
  }
  options.passes = {copy.allow_tf32 != 0, copy.allow_bf16 != 0, copy.allow_fp16 != 0};
  if (copy.timing_cache) options.timing_cache = copy.timing_cache;
  if (copy.external_data_root) source.external_data_root = copy.external_data_root;
  options.logger.level = static_cast<LogLevel>(copy.log_level);
  options.logger.user = &copy;
  if (copy.log)
    options.logger.sink = [](void* user, LogLevel level, std::string_view message) {
      const auto& o = *static_cast<const sinter_build_options*>(user);
      o.log(o.user, static_cast<sinter_log_level>(level), std::string(message).c_str());
    };
  options.control.user = &copy;
  if (copy.cancelled)
    options.control.cancelled = [](void* user) {
      const auto& o = *static_cast<const sinter_build_options*>(user);
      return o.cancelled(o.user) != 0;
    };
  if (copy.progress)
    options.control.progress = [](void* user, std::string_view stage, double fraction) {
      const auto& o = *static_cast<const sinter_build_options*>(user);
      o.progress(o.user, std::string(stage).c_str(), fraction);
    };
  return options;
}

sinter_engine* wrap(std::shared_ptr<const Executable> executable) {
  auto out = std::make_unique<sinter_engine>();
  out->engine = std::make_shared<const Engine>(std::move(executable));
  for (const Binding& binding : out->engine->target().bindings) {
    out->extents.push_back(out->engine->extents_text(binding).value_or(std::vector<std::string>()));
    out->types.push_back(to_text(binding.type, out->engine->target().symbols));
  }
  return out.release();
}

void build(ModelSource source, const sinter_build_options* given, sinter_engine** engine) {
  need(engine, "engine");
  sinter_build_options copy;
  const BuildOptions options = build_options(given, copy, source);
  Built built = compile(source, options);
  DeviceSpec device = this_machine(options.threads);
  device.level = built.target.needs.level;
  verify_target(built.target, device);
  *engine = wrap(make_executable(std::move(built.target), device));
}

sinter_code describe(const sinter_engine* engine, size_t binding, size_t count, size_t index,
                     sinter_tensor_info* info) {
  return guard([&] {
    need(engine, "engine");
    need(info, "info");
    if (index >= count)
      throw Error(Code::invalid_argument, fmt::format("there are {} of them, none numbered {}", count, index));
    if (info->size < offsetof(sinter_tensor_info, type)) throw Error(Code::invalid_argument, "info->size is not set");
    const Binding& b = engine->engine->target().bindings[binding];
    info->name = b.name.c_str();
    info->kind = b.type.kind == Type::Kind::sequence   ? SINTER_SEQUENCE
                 : b.type.kind == Type::Kind::optional ? SINTER_OPTIONAL
                 : b.type.kind == Type::Kind::map      ? SINTER_MAP
                                                       : SINTER_TENSOR;
    if (info->size >= offsetof(sinter_tensor_info, under)) info->type = engine->types[binding].c_str();
    if (info->size >= sizeof(sinter_tensor_info)) {
      const auto under = b.is_output ? engine->engine->input_under(index) : std::nullopt;
      info->under = under ? static_cast<int64_t>(*under) : -1;
    }
    info->dtype = static_cast<sinter_dtype>(b.type.dtype);
    info->rank = -1;
    if (!b.type.has_shape()) return;
    info->rank = static_cast<int>(b.type.shape->size());
    for (size_t k = 0; k < b.type.shape->size(); ++k) {
      info->dims[k] = (*b.type.shape)[k].as_constant().value_or(-1);
      info->dim_names[k] = engine->extents[binding][k].c_str();
    }
  });
}

// Copies for the caller, released with sinter_free.
void give(std::span<const std::byte> bytes, void** data, size_t* size) {
  *data = std::malloc(std::max<size_t>(bytes.size(), 1));
  if (!*data) throw std::bad_alloc();
  if (!bytes.empty()) std::memcpy(*data, bytes.data(), bytes.size());
  *size = bytes.size();
}

// What sinter_context_set_input_map was given, as a tensor.
Tensor column(sinter_dtype dtype, const void* data, size_t count, const char* what) {
  if (count > 0) need(data, what);
  if (dtype != SINTER_I64 && dtype != SINTER_F32 && dtype != SINTER_F64 && dtype != SINTER_STRING)
    throw Error(Code::invalid_argument, fmt::format("{} of a map cannot be {}", what, sinter_dtype_name(dtype)));
  if (count > static_cast<size_t>(INT32_MAX)) throw Error(Code::limit, fmt::format("{} entries in a map", count));
  Tensor out(static_cast<DType>(dtype), {static_cast<int64_t>(count)});
  if (dtype != SINTER_STRING) {
    if (count > 0) std::memcpy(out.mutable_data(), data, static_cast<size_t>(out.bytes()));
    return out;
  }
  for (size_t i = 0; i < count; ++i) {
    const char* text = static_cast<const char* const*>(data)[i];
    need(text, what);
    out.strings()[i] = text;
  }
  return out;
}

const Box& box_of(const sinter_value* value) {
  need(value, "value");
  return *reinterpret_cast<const Box*>(value);
}

const sinter_value* value_of(const Box& box) { return reinterpret_cast<const sinter_value*>(&box); }

void fill_dims(const Dims& from, int64_t* dims, int* rank) {
  *rank = static_cast<int>(from.size());
  for (size_t k = 0; k < from.size(); ++k) dims[k] = from[k];
}

class Tap final : public StepObserver {
 public:
  explicit Tap(const sinter_context& context) : context_(context) {}
  void after(const Frame& frame, const Step& step, uint32_t) override {
    std::string sources;
    for (uint32_t s : step.sources) {
      if (s >= frame.executable().target.sources.size()) continue;
      sources += (sources.empty() ? "" : ", ") + frame.executable().target.sources[s].name;
    }
    for (uint32_t s : step.results) {
      const Box box = frame.snapshot(s);
      if (box.kind != Box::Kind::tensor || box.tensor.dtype() == DType::string) continue;
      context_.tap(context_.tap_user, sources.c_str(), static_cast<sinter_dtype>(box.tensor.dtype()),
                   box.tensor.dims().data(), static_cast<int>(box.tensor.rank()), box.tensor.data(),
                   static_cast<size_t>(box.tensor.bytes()));
    }
  }

 private:
  const sinter_context& context_;
};

}  // namespace

extern "C" {

const char* sinter_version(void) { return SINTER_VERSION; }
const char* sinter_error_message(void) { return last_error.message.c_str(); }
const char* sinter_error_node(void) { return last_error.node.c_str(); }
const char* sinter_error_tensor(void) { return last_error.tensor.c_str(); }
const char* sinter_error_hint(void) { return last_error.hint.c_str(); }
const char* sinter_code_name(sinter_code code) { return code_name(static_cast<Code>(code)); }
const char* sinter_dtype_name(sinter_dtype dtype) {
  return static_cast<unsigned>(dtype) < static_cast<unsigned>(dtype_count) ? dtype_name(static_cast<DType>(dtype))
                                                                           : "unknown";
}
int sinter_dtype_bits(sinter_dtype dtype) {
  return static_cast<unsigned>(dtype) < static_cast<unsigned>(dtype_count) ? bit_size(static_cast<DType>(dtype)) : 0;
}

sinter_code sinter_load_plugins(const char* path) {
  return guard([&] {
    need_path(path);
    load_plugins(path);
  });
}

sinter_code sinter_register_plugin(const sinter_plugin* plugin) {
  return guard([&] { register_plugin(plugin); });
}

sinter_code sinter_build_file(const char* path, const sinter_build_options* options, sinter_engine** engine) {
  clear(engine);
  return guard([&] {
    need_path(path);
    ModelSource source;
    source.path = path;
    build(std::move(source), options, engine);
  });
}

sinter_code sinter_build_memory(const void* model, size_t bytes, const sinter_build_options* options,
                                sinter_engine** engine) {
  clear(engine);
  return guard([&] {
    need(model, "model");
    // Weights of the engine may point into the model, so its bytes are kept.
    auto copy = std::make_shared<std::vector<std::byte>>(static_cast<const std::byte*>(model),
                                                         static_cast<const std::byte*>(model) + bytes);
    ModelSource source;
    source.bytes = *copy;
    source.owner = copy;
    build(std::move(source), options, engine);
  });
}

sinter_code sinter_engine_save(const sinter_engine* engine, const char* path) {
  return guard([&] {
    need(engine, "engine");
    need_path(path);
    const Target* target = &engine->engine->target();
    save_engine(std::span(&target, 1), path);
  });
}

sinter_code sinter_engine_serialize(const sinter_engine* engine, void** data, size_t* bytes) {
  return guard([&] {
    need(engine, "engine");
    need(data, "data");
    need(bytes, "bytes");
    const Target* target = &engine->engine->target();
    give(save_engine(std::span(&target, 1)), data, bytes);
  });
}

void sinter_free(void* data) { std::free(data); }

sinter_code sinter_engine_load(const char* path, int threads, sinter_engine** engine) {
  clear(engine);
  return guard([&] {
    need_path(path);
    need(engine, "engine");
    need_threads(threads);
    *engine = wrap(load_engine(path, {.threads = threads}));
  });
}

sinter_code sinter_engine_load_memory(const void* data, size_t bytes, int threads, sinter_engine** engine) {
  clear(engine);
  return guard([&] {
    need(data, "data");
    need(engine, "engine");
    need_threads(threads);
    Tensor copy(DType::u8, {static_cast<int64_t>(bytes)});
    if (bytes > 0) std::memcpy(copy.mutable_data(), data, bytes);
    *engine = wrap(load_engine({copy.as<std::byte>(), bytes}, copy.owner(), {.threads = threads}));
  });
}

void sinter_engine_destroy(sinter_engine* engine) { delete engine; }

size_t sinter_engine_input_count(const sinter_engine* engine) { return engine ? engine->engine->inputs().size() : 0; }
size_t sinter_engine_output_count(const sinter_engine* engine) { return engine ? engine->engine->outputs().size() : 0; }

sinter_code sinter_engine_input(const sinter_engine* engine, size_t index, sinter_tensor_info* info) {
  return describe(engine, index, sinter_engine_input_count(engine), index, info);
}

sinter_code sinter_engine_output(const sinter_engine* engine, size_t index, sinter_tensor_info* info) {
  return describe(engine, sinter_engine_input_count(engine) + index, sinter_engine_output_count(engine), index, info);
}

sinter_code sinter_engine_memory(const sinter_engine* engine, sinter_extents extents, sinter_memory_info* info) {
  return guard([&] {
    need(engine, "engine");
    need(info, "info");
    if (info->size < sizeof(sinter_memory_info)) throw Error(Code::invalid_argument, "info->size is not set");
    if (extents != SINTER_BEST_EXTENTS && extents != SINTER_LARGEST_EXTENTS)
      throw Error(Code::invalid_argument, "extents are neither the best nor the largest");
    const Executable& executable = engine->engine->executable();
    const auto use = memory_at(executable, extents == SINTER_BEST_EXTENTS ? Extents::best : Extents::largest);
    info->weights = weight_bytes(executable.target);
    info->values = use ? use->values : -1;
    info->working = use ? use->working : -1;
    info->outputs = use ? use->outputs : -1;
    info->complete = use && use->complete;
  });
}

sinter_code sinter_context_create(const sinter_engine* engine, int threads, sinter_context** context) {
  clear(context);
  return guard([&] {
    need(engine, "engine");
    need(context, "context");
    need_threads(threads);
    auto out = std::make_unique<sinter_context>();
    out->context = std::make_unique<Context>(engine->engine, threads);
    *context = out.release();
  });
}

void sinter_context_destroy(sinter_context* context) { delete context; }

sinter_code sinter_context_set_input(sinter_context* context, size_t index, sinter_dtype dtype, const int64_t* dims,
                                     size_t rank, const void* data, size_t bytes) {
  return guard([&] {
    need(context, "context");
    if (rank > 0) need(dims, "dims");
    Context& c = *context->context;
    const auto inputs = c.engine().inputs();
    if (index >= inputs.size()) return c.set_input(index, {dims, 0}, data, bytes);  // says so
    const std::string& name = inputs[index].name;
    const Type& type = inputs[index].type;
    if (!type.is_tensor() || (type.dtype == DType::string && dtype == SINTER_STRING))
      throw Error(Code::invalid_argument,
                  fmt::format("input '{}' is no tensor of numbers; sinter_context_set_input_proto sets it", name))
          .at_tensor(name);
    if (static_cast<unsigned>(dtype) != static_cast<unsigned>(type.dtype))
      throw Error(Code::invalid_argument, fmt::format("input '{}' is {}, the engine wants {}", name,
                                                      sinter_dtype_name(dtype), dtype_name(type.dtype)))
          .at_tensor(name);
    context->ran = false;
    if (!type.has_shape()) {
      if (rank > max_rank_of_values)
        throw Error(Code::invalid_argument,
                    fmt::format("input '{}' has rank {}, at most {} are allowed", name, rank, max_rank_of_values))
            .at_tensor(name);
      const Tensor view(type.dtype, Dims(dims, dims + rank), data, nullptr);
      if (view.bytes() > 0 && (!data || static_cast<size_t>(view.bytes()) > bytes))
        throw Error(Code::invalid_argument,
                    fmt::format("input '{}' needs {} bytes, its buffer has {}", name, view.bytes(), data ? bytes : 0))
            .at_tensor(name);
      return c.set_input(index, Box(view.clone()));
    }
    c.set_input(index, {dims, rank}, data, bytes);
  });
}

sinter_code sinter_context_set_input_proto(sinter_context* context, size_t index, const void* data, size_t bytes) {
  return guard([&] {
    need(context, "context");
    need(data, "data");
    Context& c = *context->context;
    if (index >= c.engine().inputs().size())
      throw Error(Code::invalid_argument, fmt::format("the engine has no input numbered {}", index));
    context->ran = false;
    const Binding& input = c.engine().inputs()[index];
    Box value;
    try {
      value = decode_value({static_cast<const std::byte*>(data), bytes}, input.type);
    } catch (const Error& error) {
      throw Error(Code::invalid_argument, fmt::format("input '{}': {}", input.name, error.what()))
          .at_tensor(input.name);
    }
    c.set_input(index, std::move(value));
  });
}

sinter_code sinter_context_set_input_map(sinter_context* context, size_t index, sinter_dtype key_dtype,
                                         const void* keys, sinter_dtype value_dtype, const void* values, size_t count) {
  return guard([&] {
    need(context, "context");
    Context& c = *context->context;
    if (index >= c.engine().inputs().size())
      throw Error(Code::invalid_argument, fmt::format("the engine has no input numbered {}", index));
    const std::string& name = c.engine().inputs()[index].name;
    context->ran = false;
    try {
      c.set_input(index,
                  Box::map(column(key_dtype, keys, count, "keys"), column(value_dtype, values, count, "values")));
    } catch (Error& error) {
      if (error.origin().tensor.empty()) error.add_context(fmt::format("input '{}'", name));
      throw;
    }
  });
}

sinter_code sinter_context_set_output(sinter_context* context, size_t index, void* data, size_t bytes) {
  return guard([&] {
    need(context, "context");
    context->context->set_output(index, data, bytes);
  });
}

sinter_code sinter_context_set_allocator(sinter_context* context, sinter_allocate allocate, void* user) {
  return guard([&] {
    need(context, "context");
    context->allocate = allocate;
    context->allocate_user = user;
    Context::Allocator allocator;
    if (allocate) {
      allocator.user = context;
      allocator.allocate = [](void* c, size_t output, DType dtype, const Dims& extents, int64_t bytes) {
        const auto& self = *static_cast<const sinter_context*>(c);
        return self.allocate(self.allocate_user, output, static_cast<sinter_dtype>(dtype), extents.data(),
                             static_cast<int>(extents.size()), static_cast<size_t>(bytes));
      };
    }
    context->context->set_allocator(allocator);
  });
}

sinter_code sinter_context_output_dims(sinter_context* context, size_t index, int64_t* dims, int* rank) {
  return guard([&] {
    need(context, "context");
    need(dims, "dims");
    need(rank, "rank");
    *rank = -1;
    if (context->ran && index < context->context->engine().outputs().size())
      return fill_dims(context->context->extents(index), dims, rank);
    if (const auto known = context->context->output_extents(index)) fill_dims(*known, dims, rank);
  });
}

sinter_code sinter_context_run(sinter_context* context) {
  return guard([&] {
    need(context, "context");
    context->ran = false;
    context->values.clear();
    Tap tap(*context);
    try {
      context->context->run(context->cancelled ? &context->control : nullptr, context->tap ? &tap : nullptr);
    } catch (const Error& error) {
      // Operators judge the values of this run as they judged the model; it is these values that are wrong.
      if (error.code() != Code::model_invalid) throw;
      throw Error(Code::fault, error.what());
    }
    context->ran = true;
  });
}

sinter_code sinter_context_get_output(sinter_context* context, size_t index, sinter_dtype* dtype, int64_t* dims,
                                      int* rank, const void** data, size_t* bytes) {
  return guard([&] {
    need(context, "context");
    Context& c = *context->context;
    if (index >= c.engine().outputs().size())
      throw Error(Code::invalid_argument, fmt::format("the engine has no output numbered {}", index));
    const Type& type = c.engine().outputs()[index].type;
    if (!type.is_tensor() || type.dtype == DType::string)
      throw Error(Code::invalid_argument, fmt::format("output '{}' is no tensor of numbers; read it as a proto",
                                                      c.engine().outputs()[index].name));
    const Dims& extents = c.extents(index);
    int64_t n = 1;
    for (int64_t d : extents) n *= d;
    if (dtype) *dtype = static_cast<sinter_dtype>(type.dtype);
    if (dims) std::copy(extents.begin(), extents.end(), dims);
    if (rank) *rank = static_cast<int>(extents.size());
    if (data) *data = c.data(index);
    if (bytes) *bytes = static_cast<size_t>(byte_size(type.dtype, n));
  });
}

sinter_code sinter_context_get_output_proto(sinter_context* context, size_t index, void** data, size_t* bytes) {
  return guard([&] {
    need(context, "context");
    need(data, "data");
    need(bytes, "bytes");
    Context& c = *context->context;
    if (index >= c.engine().outputs().size())
      throw Error(Code::invalid_argument, fmt::format("the engine has no output numbered {}", index));
    const std::string proto = encode_value(c.output(index), c.engine().outputs()[index].type);
    give(std::as_bytes(std::span(proto)), data, bytes);
  });
}

sinter_code sinter_context_get_output_value(sinter_context* context, size_t index, const sinter_value** value) {
  clear(value);
  return guard([&] {
    need(context, "context");
    need(value, "value");
    Context& c = *context->context;
    const size_t outputs = c.engine().outputs().size();
    if (index >= outputs)
      throw Error(Code::invalid_argument, fmt::format("the engine has no output numbered {}", index));
    context->values.resize(outputs);
    std::optional<Box>& kept = context->values[index];
    if (!kept) kept = c.output(index);
    *value = value_of(*kept);
  });
}

sinter_kind sinter_value_kind(const sinter_value* value) {
  if (!value) return SINTER_OPTIONAL;
  switch (box_of(value).kind) {
    case Box::Kind::none: return SINTER_OPTIONAL;
    case Box::Kind::tensor: return SINTER_TENSOR;
    case Box::Kind::sequence: return SINTER_SEQUENCE;
    case Box::Kind::map: return SINTER_MAP;
  }
  return SINTER_OPTIONAL;
}

size_t sinter_value_count(const sinter_value* value) { return value ? box_of(value).items.size() : 0; }

const sinter_value* sinter_value_item(const sinter_value* value, size_t item) {
  return item < sinter_value_count(value) ? value_of(box_of(value).items[item]) : nullptr;
}

sinter_code sinter_value_tensor(const sinter_value* value, sinter_dtype* dtype, int64_t* dims, int* rank,
                                const void** data, size_t* bytes) {
  return guard([&] {
    const Box& box = box_of(value);
    if (box.kind != Box::Kind::tensor) throw Error(Code::invalid_argument, "the value is no tensor");
    const Tensor& t = box.tensor;
    if (dtype) *dtype = static_cast<sinter_dtype>(t.dtype());
    if (dims) std::copy(t.dims().begin(), t.dims().end(), dims);
    if (rank) *rank = static_cast<int>(t.rank());
    if (data) *data = t.dtype() == DType::string ? nullptr : t.data();
    if (bytes) *bytes = static_cast<size_t>(t.bytes());
  });
}

sinter_code sinter_value_string(const sinter_value* value, size_t element, const char** text, size_t* bytes) {
  clear(text);
  return guard([&] {
    const Box& box = box_of(value);
    need(text, "text");
    if (box.kind != Box::Kind::tensor || box.tensor.dtype() != DType::string)
      throw Error(Code::invalid_argument, "the value is no tensor of strings");
    if (element >= static_cast<size_t>(box.tensor.count()))
      throw Error(Code::invalid_argument, fmt::format("the tensor has no string numbered {}", element));
    const std::string& found = box.tensor.strings()[element];
    *text = found.c_str();
    if (bytes) *bytes = found.size();
  });
}

sinter_code sinter_context_set_tap(sinter_context* context, sinter_tap tap, void* user) {
  return guard([&] {
    need(context, "context");
    context->tap = tap;
    context->tap_user = user;
  });
}

sinter_code sinter_set_default_threads(const sinter_threads* threads) {
  return guard([&] { set_default_threads(caller_threads(threads)); });
}

sinter_code sinter_context_set_threads(sinter_context* context, const sinter_threads* threads) {
  return guard([&] {
    need(context, "context");
    context->context->set_threads(caller_threads(threads));
  });
}

sinter_code sinter_context_set_cancel(sinter_context* context, int (*cancelled)(void* user), void* user) {
  return guard([&] {
    need(context, "context");
    context->cancelled = cancelled;
    context->cancel_user = user;
    context->control.user = context;
    context->control.cancelled = [](void* c) {
      const auto& self = *static_cast<const sinter_context*>(c);
      return self.cancelled && self.cancelled(self.cancel_user) != 0;
    };
  });
}

int64_t sinter_context_memory(const sinter_context* context) { return context ? context->context->memory_bytes() : 0; }

}  // extern "C"
