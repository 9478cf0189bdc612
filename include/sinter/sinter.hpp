// Sinter for C++17 and later: a header over the C interface. Objects own their handles and move; errors are exceptions
// of type sinter::error, which carry code, node, tensor and hint.
#pragma once

#include <sinter/sinter.h>

#include <cstddef>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace sinter {

class error : public std::runtime_error {
 public:
  error(sinter_code code, const char* message, const char* node, const char* tensor, const char* hint)
      : std::runtime_error(message), code_(code), node_(node), tensor_(tensor), hint_(hint) {}
  sinter_code code() const { return code_; }
  const std::string& node() const { return node_; }  // of the model, or empty
  const std::string& tensor() const { return tensor_; }
  const std::string& hint() const { return hint_; }  // what to do

 private:
  sinter_code code_;
  std::string node_, tensor_, hint_;
};

inline void check(sinter_code code) {
  if (code != SINTER_OK)
    throw error(code, sinter_error_message(), sinter_error_node(), sinter_error_tensor(), sinter_error_hint());
}

// See sinter_load_plugins.
inline void load_plugins(const std::string& path) { check(sinter_load_plugins(path.c_str())); }

// A task of sinter_threads::run: calling it with each worker's number once is what has to be done.
class task {
 public:
  task(sinter_task run, void* context) : run_(run), context_(context) {}
  void operator()(int worker) const noexcept { run_(context_, worker); }

 private:
  sinter_task run_;
  void* context_;
};

// Threads of your own, of any class with run(sinter::task, int workers), as sinter_threads says; `pool` must outlive
// what uses them. An exception of its `run` ends the run of the network.
template <typename Pool>
sinter_threads threads_of(Pool& pool, int count) {
  sinter_threads out = SINTER_THREADS_INIT;
  out.count = count;
  out.run = [](void* user, sinter_task run, void* context, int workers) {
    static_cast<Pool*>(user)->run(task(run, context), workers);
  };
  out.user = &pool;
  return out;
}

// See sinter_set_default_threads.
inline void set_default_threads(const sinter_threads& threads) { check(sinter_set_default_threads(&threads)); }
inline void set_default_threads(std::nullptr_t) { check(sinter_set_default_threads(nullptr)); }

template <typename T>
struct dtype_of;
template <>
struct dtype_of<bool> {
  static constexpr sinter_dtype value = SINTER_BOOL;
};
template <>
struct dtype_of<float> {
  static constexpr sinter_dtype value = SINTER_F32;
};
template <>
struct dtype_of<double> {
  static constexpr sinter_dtype value = SINTER_F64;
};
template <>
struct dtype_of<int8_t> {
  static constexpr sinter_dtype value = SINTER_I8;
};
template <>
struct dtype_of<uint8_t> {
  static constexpr sinter_dtype value = SINTER_U8;
};
template <>
struct dtype_of<int16_t> {
  static constexpr sinter_dtype value = SINTER_I16;
};
template <>
struct dtype_of<uint16_t> {
  static constexpr sinter_dtype value = SINTER_U16;
};
template <>
struct dtype_of<int32_t> {
  static constexpr sinter_dtype value = SINTER_I32;
};
template <>
struct dtype_of<uint32_t> {
  static constexpr sinter_dtype value = SINTER_U32;
};
template <>
struct dtype_of<int64_t> {
  static constexpr sinter_dtype value = SINTER_I64;
};
template <>
struct dtype_of<uint64_t> {
  static constexpr sinter_dtype value = SINTER_U64;
};

struct build_options : sinter_build_options {
  build_options() : sinter_build_options(SINTER_BUILD_OPTIONS_INIT) {}
};

// A tensor in memory of its own; bools are bytes, since std::vector<bool> has none.
template <typename T>
struct tensor {
  using element = std::conditional_t<std::is_same_v<T, bool>, unsigned char, T>;
  std::vector<int64_t> dims;
  std::vector<element> data;
};

// A piece of an output: see sinter_value. It belongs to its context and lives until the next run.
class value {
 public:
  explicit value(const sinter_value* handle) : handle_(handle) {}
  sinter_kind kind() const { return sinter_value_kind(handle_); }
  // Elements of a sequence, and how to get them.
  size_t size() const { return sinter_value_count(handle_); }
  value operator[](size_t i) const { return value(sinter_value_item(handle_, i)); }
  // Elements of a tensor of any extents; T is a number or std::string. Throws when its dtype is not T's.
  template <typename T>
  std::vector<T> elements() const {
    std::vector<T> out;
    sinter_dtype dtype{};
    int64_t dims[16];
    int rank = 0;
    const void* data = nullptr;
    size_t bytes = 0;
    check(sinter_value_tensor(handle_, &dtype, dims, &rank, &data, &bytes));
    if constexpr (std::is_same_v<T, std::string>) {
      size_t count = 1;
      for (int k = 0; k < rank; ++k) count *= static_cast<size_t>(dims[k]);
      for (size_t i = 0; i < count; ++i) {
        const char* text = nullptr;
        size_t length = 0;
        check(sinter_value_string(handle_, i, &text, &length));
        out.emplace_back(text, length);
      }
    } else {
      if (dtype != dtype_of<T>::value)
        throw error(SINTER_INVALID_ARGUMENT, (std::string("the tensor is ") + sinter_dtype_name(dtype)).c_str(), "", "",
                    "");
      const auto* first = static_cast<const T*>(data);
      out.assign(first, first + bytes / sizeof(T));
    }
    return out;
  }
  // A map: K is int64_t or std::string, V int64_t, float, double or std::string.
  template <typename K, typename V>
  std::map<K, V> entries() const {
    if (kind() != SINTER_MAP) throw error(SINTER_INVALID_ARGUMENT, "the value is no map", "", "", "");
    std::vector<K> keys = (*this)[0].elements<K>();
    std::vector<V> values = (*this)[1].elements<V>();
    std::map<K, V> out;
    for (size_t i = 0; i < keys.size(); ++i) out.emplace_hint(out.end(), std::move(keys[i]), std::move(values[i]));
    return out;
  }

 private:
  const sinter_value* handle_;
};

class engine {
 public:
  // Builds from an ONNX file.
  static engine build(const std::string& path, const sinter_build_options& options = build_options()) {
    engine e;
    check(sinter_build_file(path.c_str(), &options, &e.handle_));
    return e;
  }
  static engine build(const void* model, size_t bytes, const sinter_build_options& options = build_options()) {
    engine e;
    check(sinter_build_memory(model, bytes, &options, &e.handle_));
    return e;
  }
  static engine load(const std::string& path, int threads = 0) {
    engine e;
    check(sinter_engine_load(path.c_str(), threads, &e.handle_));
    return e;
  }
  static engine load(const void* data, size_t bytes, int threads = 0) {
    engine e;
    check(sinter_engine_load_memory(data, bytes, threads, &e.handle_));
    return e;
  }
  engine(engine&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  engine& operator=(engine&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~engine() { sinter_engine_destroy(handle_); }

  void save(const std::string& path) const { check(sinter_engine_save(handle_, path.c_str())); }
  // The engine file's bytes.
  std::string serialize() const {
    void* data = nullptr;
    size_t bytes = 0;
    check(sinter_engine_serialize(handle_, &data, &bytes));
    return taken(data, bytes);
  }
  size_t inputs() const { return sinter_engine_input_count(handle_); }
  size_t outputs() const { return sinter_engine_output_count(handle_); }
  sinter_tensor_info input(size_t i) const {
    sinter_tensor_info info{};
    info.size = sizeof info;
    check(sinter_engine_input(handle_, i, &info));
    return info;
  }
  sinter_tensor_info output(size_t i) const {
    sinter_tensor_info info{};
    info.size = sizeof info;
    check(sinter_engine_output(handle_, i, &info));
    return info;
  }
  // What a run holds; see sinter_engine_memory.
  sinter_memory_info memory(sinter_extents extents = SINTER_BEST_EXTENTS) const {
    sinter_memory_info info{};
    info.size = sizeof info;
    check(sinter_engine_memory(handle_, extents, &info));
    return info;
  }
  const sinter_engine* handle() const { return handle_; }

 private:
  friend class context;
  static std::string taken(void* data, size_t bytes) {
    struct owner {
      void* data;
      ~owner() { sinter_free(data); }
    } guard{data};
    return std::string(static_cast<const char*>(data), bytes);
  }
  engine() = default;
  sinter_engine* handle_ = nullptr;
};

class context {
 public:
  explicit context(const engine& e, int threads = 0) { check(sinter_context_create(e.handle(), threads, &handle_)); }
  context(context&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  context& operator=(context&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~context() { sinter_context_destroy(handle_); }

  // The data must live until the run ends.
  template <typename T>
  void set_input(size_t i, const std::vector<int64_t>& dims, const T* data, size_t count) {
    check(sinter_context_set_input(handle_, i, dtype_of<T>::value, dims.data(), dims.size(), data, count * sizeof(T)));
  }
  template <typename T>
  void set_input(size_t i, const tensor<T>& t) {
    set_input(i, t.dims, reinterpret_cast<const T*>(t.data.data()), t.data.size());
  }
  template <typename T>
  void set_input(size_t i, const tensor<T>&& t) = delete;  // it would be gone before the run
  // A map, copied; K is int64_t or std::string, V int64_t, float, double or std::string.
  template <typename K, typename V>
  void set_input(size_t i, const std::map<K, V>& entries) {
    column<K> keys;
    column<V> values;
    for (const auto& entry : entries) {
      keys.push_back(entry.first);
      values.push_back(entry.second);
    }
    check(sinter_context_set_input_map(handle_, i, column<K>::dtype(), keys.data(), column<V>::dtype(), values.data(),
                                       entries.size()));
  }
  // Strings, sequences and optionals, as serialized ONNX protos; copied.
  void set_input_proto(size_t i, const std::string& proto) {
    check(sinter_context_set_input_proto(handle_, i, proto.data(), proto.size()));
  }
  template <typename T>
  void set_output(size_t i, T* data, size_t count) {
    check(sinter_context_set_output(handle_, i, data, count * sizeof(T)));
  }
  // Called for outputs without a buffer as soon as their extents are known; see sinter_context_set_allocator.
  void set_allocator(sinter_allocate allocate, void* user) {
    check(sinter_context_set_allocator(handle_, allocate, user));
  }
  // Sees every value that a step of later runs leaves; null removes it.
  void set_tap(sinter_tap tap, void* user) { check(sinter_context_set_tap(handle_, tap, user)); }
  // Threads of your own for later runs (threads_of above); null: the process's.
  void set_threads(const sinter_threads& threads) { check(sinter_context_set_threads(handle_, &threads)); }
  void set_threads(std::nullptr_t) { check(sinter_context_set_threads(handle_, nullptr)); }
  // Polled during runs; nonzero ends one. Null removes it.
  void set_cancel(int (*cancelled)(void*), void* user) { check(sinter_context_set_cancel(handle_, cancelled, user)); }
  void run() { check(sinter_context_run(handle_)); }

  // Extents that an output has after a run, or will have with the inputs set; false when only running finds them out.
  bool output_dims(size_t i, std::vector<int64_t>& dims) {
    int64_t extents[16];
    int rank = -1;
    check(sinter_context_output_dims(handle_, i, extents, &rank));
    if (rank >= 0) dims.assign(extents, extents + rank);
    return rank >= 0;
  }
  // Any kind of output as a serialized ONNX proto.
  std::string output_proto(size_t i) {
    void* data = nullptr;
    size_t bytes = 0;
    check(sinter_context_get_output_proto(handle_, i, &data, &bytes));
    return engine::taken(data, bytes);
  }
  // Any kind of output piece by piece, until the next run.
  value output_value(size_t i) {
    const sinter_value* v = nullptr;
    check(sinter_context_get_output_value(handle_, i, &v));
    return value(v);
  }
  // The maps of an output "seq(map(...))", such as the class probabilities of each sample.
  template <typename K, typename V>
  std::vector<std::map<K, V>> output_maps(size_t i) {
    const value list = output_value(i);
    std::vector<std::map<K, V>> out;
    for (size_t k = 0; k < list.size(); ++k) out.push_back(list[k].entries<K, V>());
    return out;
  }
  int64_t memory() const { return sinter_context_memory(handle_); }

  // A copy of an output; throws when its dtype is not T's.
  template <typename T>
  tensor<T> output(size_t i) {
    sinter_dtype dtype{};
    int64_t dims[16];
    int rank = 0;
    const void* data = nullptr;
    size_t bytes = 0;
    check(sinter_context_get_output(handle_, i, &dtype, dims, &rank, &data, &bytes));
    if (dtype != dtype_of<T>::value)
      throw error(SINTER_INVALID_ARGUMENT, (std::string("the output is ") + sinter_dtype_name(dtype)).c_str(), "", "",
                  "");
    tensor<T> t;
    t.dims.assign(dims, dims + rank);
    t.data.resize(bytes / sizeof(T));
    if (bytes > 0) std::memcpy(t.data.data(), data, bytes);
    return t;
  }
  sinter_context* handle() const { return handle_; }

 private:
  // Keys or values of a map as the C interface takes them.
  template <typename T>
  struct column : std::vector<T> {
    static constexpr sinter_dtype dtype() { return dtype_of<T>::value; }
  };
  sinter_context* handle_ = nullptr;
};

template <>
struct context::column<std::string> : std::vector<const char*> {
  static constexpr sinter_dtype dtype() { return SINTER_STRING; }
  void push_back(const std::string& text) { std::vector<const char*>::push_back(text.c_str()); }
};

}  // namespace sinter
