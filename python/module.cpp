// The native half of the Python package: engines and contexts over the C interface, arrays in and out without copies.
// What is more easily said in Python (names, keyword arguments, strings, sequences) is in sinter/__init__.py. Maps
// become dicts here: a classifier gives one for each sample.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <sinter/sinter.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

namespace nb = nanobind;

namespace {

nb::object& error_type() {
  static auto* type = new nb::object();  // never destroyed: the interpreter may be gone first
  return *type;
}

// Raises sinter.Error with code, node, tensor and hint.
void check(sinter_code code) {
  if (code == SINTER_OK) return;
  const nb::object error = error_type()(sinter_error_message());
  error.attr("code") = sinter_code_name(code);
  error.attr("node") = sinter_error_node();
  error.attr("tensor") = sinter_error_tensor();
  error.attr("hint") = sinter_error_hint();
  PyErr_SetObject(error_type().ptr(), error.ptr());
  throw nb::python_error();
}

std::optional<sinter_dtype> from_dlpack(nb::dlpack::dtype d) {
  using Code = nb::dlpack::dtype_code;
  if (d.lanes != 1) return std::nullopt;
  switch (static_cast<Code>(d.code)) {
    case Code::Bool: return SINTER_BOOL;
    case Code::UInt:
      switch (d.bits) {
        case 8: return SINTER_U8;
        case 16: return SINTER_U16;
        case 32: return SINTER_U32;
        case 64: return SINTER_U64;
        default: return std::nullopt;
      }
    case Code::Int:
      switch (d.bits) {
        case 8: return SINTER_I8;
        case 16: return SINTER_I16;
        case 32: return SINTER_I32;
        case 64: return SINTER_I64;
        default: return std::nullopt;
      }
    case Code::Float:
      switch (d.bits) {
        case 16: return SINTER_F16;
        case 32: return SINTER_F32;
        case 64: return SINTER_F64;
        default: return std::nullopt;
      }
    case Code::Complex:
      return d.bits == 64 ? std::optional(SINTER_C64) : d.bits == 128 ? std::optional(SINTER_C128) : std::nullopt;
    case Code::Bfloat: return d.bits == 16 ? std::optional(SINTER_BF16) : std::nullopt;
    default: return std::nullopt;
  }
}

// How an output's bytes are shown to NumPy; narrow types come as unsigned bytes or words and are named by __init__.py.
nb::dlpack::dtype to_dlpack(sinter_dtype dtype) {
  using Code = nb::dlpack::dtype_code;
  const auto of = [](Code code, int bits) {
    return nb::dlpack::dtype{static_cast<uint8_t>(code), static_cast<uint8_t>(bits), 1};
  };
  const int bits = sinter_dtype_bits(dtype);
  switch (dtype) {
    case SINTER_BOOL: return of(Code::Bool, 8);
    case SINTER_I8:
    case SINTER_I16:
    case SINTER_I32:
    case SINTER_I64: return of(Code::Int, bits);
    case SINTER_F16:
    case SINTER_F32:
    case SINTER_F64: return of(Code::Float, bits);
    case SINTER_C64:
    case SINTER_C128: return of(Code::Complex, bits);
    default: return of(Code::UInt, bits < 8 ? 8 : bits);
  }
}

using Input = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<nb::numpy>;
using Given = nb::ndarray<nb::c_contig, nb::device::cpu>;

struct TensorInfo {
  std::string name;
  std::string kind, dtype, type;
  std::optional<std::vector<nb::object>> shape;
  std::optional<int64_t> under;
};

class Engine {
 public:
  explicit Engine(sinter_engine* handle) : handle_(handle) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() { sinter_engine_destroy(handle_); }
  const sinter_engine* handle() const { return handle_; }

  std::vector<TensorInfo> tensors(bool inputs) const {
    std::vector<TensorInfo> out;
    const size_t count = inputs ? sinter_engine_input_count(handle_) : sinter_engine_output_count(handle_);
    for (size_t i = 0; i < count; ++i) {
      sinter_tensor_info info{};
      info.size = sizeof info;
      check(inputs ? sinter_engine_input(handle_, i, &info) : sinter_engine_output(handle_, i, &info));
      static constexpr const char* kinds[] = {"tensor", "sequence", "optional", "map"};
      TensorInfo t{info.name, kinds[info.kind], sinter_dtype_name(info.dtype),
                   info.type, std::nullopt,     info.under < 0 ? std::nullopt : std::optional(info.under)};
      if (info.rank >= 0) {
        t.shape.emplace();
        for (int k = 0; k < info.rank; ++k)
          t.shape->push_back(info.dims[k] >= 0 ? nb::object(nb::int_(info.dims[k]))
                                               : nb::object(nb::str(info.dim_names[k])));
      }
      out.push_back(std::move(t));
    }
    return out;
  }

  void save(const std::string& path) const {
    sinter_code code;
    {
      nb::gil_scoped_release release;
      code = sinter_engine_save(handle_, path.c_str());
    }
    check(code);
  }

  // Weights, values, working memory, outputs, and whether that is all.
  std::tuple<int64_t, int64_t, int64_t, int64_t, bool> memory(bool largest) const {
    sinter_memory_info info{};
    info.size = sizeof info;
    check(sinter_engine_memory(handle_, largest ? SINTER_LARGEST_EXTENTS : SINTER_BEST_EXTENTS, &info));
    return {info.weights, info.values, info.working, info.outputs, info.complete != 0};
  }

  nb::bytes serialize() const {
    void* data = nullptr;
    size_t bytes = 0;
    check(sinter_engine_serialize(handle_, &data, &bytes));
    const std::unique_ptr<void, void (*)(void*)> owner(data, sinter_free);
    return nb::bytes(data, bytes);
  }

 private:
  sinter_engine* handle_;
};

// What the callbacks of a build need. Exceptions raised in them are kept and raised when the build has stopped.
struct Callbacks {
  nb::object log, progress;
  nb::object raised;
  bool stop = false;

  template <typename F>
  void guarded(F call) {
    nb::gil_scoped_acquire acquire;
    if (stop) return;
    try {
      call();
    } catch (nb::python_error& e) {
      raised = nb::borrow(e.value());
      stop = true;
    }
  }
};

Engine* build(const std::optional<std::string>& path, const std::optional<nb::bytes>& model, int threads,
              const std::optional<std::string>& level,
              const std::vector<std::tuple<std::string, int64_t, int64_t, int64_t>>& dims, bool tf32, bool bf16,
              bool fp16, const std::optional<std::string>& timing_cache,
              const std::optional<std::string>& external_data_root, nb::object log, int log_level,
              nb::object progress) {
  Callbacks callbacks{std::move(log), std::move(progress), {}, false};
  sinter_build_options options = SINTER_BUILD_OPTIONS_INIT;
  options.threads = threads;
  options.level = level ? level->c_str() : nullptr;
  std::vector<sinter_dim_range> ranges;
  for (const auto& [name, low, best, high] : dims) ranges.push_back({name.c_str(), low, best, high});
  options.dims = ranges.data();
  options.dim_count = ranges.size();
  options.allow_tf32 = tf32;
  options.allow_bf16 = bf16;
  options.allow_fp16 = fp16;
  options.timing_cache = timing_cache ? timing_cache->c_str() : nullptr;
  options.external_data_root = external_data_root ? external_data_root->c_str() : nullptr;
  options.log_level = static_cast<sinter_log_level>(log_level);
  options.user = &callbacks;
  if (!callbacks.log.is_none())
    options.log = [](void* user, sinter_log_level l, const char* message) {
      auto& c = *static_cast<Callbacks*>(user);
      c.guarded([&] { c.log(static_cast<int>(l), message); });
    };
  if (!callbacks.progress.is_none())
    options.progress = [](void* user, const char* stage, double fraction) {
      auto& c = *static_cast<Callbacks*>(user);
      c.guarded([&] { c.progress(stage, fraction); });
    };
  options.cancelled = [](void* user) -> int {
    auto& c = *static_cast<Callbacks*>(user);
    c.guarded([&] {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();  // Ctrl-C
    });
    return c.stop;
  };
  sinter_engine* engine = nullptr;
  sinter_code code;
  {
    nb::gil_scoped_release release;
    code = path ? sinter_build_file(path->c_str(), &options, &engine)
                : sinter_build_memory(model->data(), model->size(), &options, &engine);
  }
  if (callbacks.raised) {
    sinter_engine_destroy(engine);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(callbacks.raised.ptr())), callbacks.raised.ptr());
    throw nb::python_error();
  }
  check(code);
  return new Engine(engine);  // owned by Python
}

Engine* load(const std::optional<std::string>& path, const std::optional<nb::bytes>& bytes, int threads) {
  sinter_engine* engine = nullptr;
  sinter_code code;
  {
    nb::gil_scoped_release release;
    code = path ? sinter_engine_load(path->c_str(), threads, &engine)
                : sinter_engine_load_memory(bytes->data(), bytes->size(), threads, &engine);
  }
  check(code);
  return new Engine(engine);  // owned by Python
}

// Elements of a map's keys or values as numbers and texts of Python.
std::vector<nb::object> elements_of(const sinter_value* value) {
  sinter_dtype dtype{};
  int64_t dims[16];
  int rank = 0;
  const void* data = nullptr;
  check(sinter_value_tensor(value, &dtype, dims, &rank, &data, nullptr));
  std::vector<nb::object> out;
  const size_t count = rank == 1 ? static_cast<size_t>(dims[0]) : 0;
  for (size_t i = 0; i < count; ++i) {
    if (dtype == SINTER_STRING) {
      const char* text = nullptr;
      size_t bytes = 0;
      check(sinter_value_string(value, i, &text, &bytes));
      out.push_back(nb::steal(PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(bytes), "surrogateescape")));
      if (!out.back().is_valid()) throw nb::python_error();
    } else if (dtype == SINTER_I64) {
      out.push_back(nb::int_(static_cast<const int64_t*>(data)[i]));
    } else {
      out.push_back(nb::float_(dtype == SINTER_F64 ? static_cast<const double*>(data)[i]
                                                   : static_cast<double>(static_cast<const float*>(data)[i])));
    }
  }
  return out;
}

// Dicts, lists of them, or None.
nb::object python_value(const sinter_value* value) {
  switch (sinter_value_kind(value)) {
    case SINTER_MAP: {
      const std::vector<nb::object> keys = elements_of(sinter_value_item(value, 0));
      const std::vector<nb::object> values = elements_of(sinter_value_item(value, 1));
      nb::dict out;
      for (size_t i = 0; i < keys.size(); ++i) out[keys[i]] = values[i];
      return out;
    }
    case SINTER_SEQUENCE: {
      nb::list out;
      for (size_t i = 0; i < sinter_value_count(value); ++i) out.append(python_value(sinter_value_item(value, i)));
      return out;
    }
    default: return nb::none();
  }
}

class Context {
 public:
  Context(const Engine& engine, int threads) : outputs_(sinter_engine_output_count(engine.handle())) {
    check(sinter_context_create(engine.handle(), threads, &handle_));
    inputs_.resize(sinter_engine_input_count(engine.handle()));
    for (size_t i = 0; i < outputs_.size(); ++i) {
      sinter_tensor_info info{};
      info.size = sizeof info;
      check(sinter_engine_output(engine.handle(), i, &info));
      const bool maps = std::strstr(info.type, "map(") != nullptr;
      outputs_[i] = {info.kind == SINTER_TENSOR && info.dtype != SINTER_STRING, maps, info.dtype};
    }
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { sinter_context_destroy(handle_); }

  // The array is kept alive until the next one or the end of the context.
  void set_input(size_t index, const Input& array, const std::optional<std::string>& as) {
    std::optional<sinter_dtype> dtype = from_dlpack(array.dtype());
    if (as) {
      dtype.reset();
      for (int d = 0; d <= SINTER_STRING; ++d)
        if (*as == sinter_dtype_name(static_cast<sinter_dtype>(d))) dtype = static_cast<sinter_dtype>(d);
    }
    if (!dtype) throw nb::type_error("the array's dtype is not known");
    if (array.ndim() > 16) throw nb::value_error("arrays have at most 16 axes");
    set_array(index, array, *dtype);
    inputs_.at(index) = nb::cast(array);
  }

  // Runs on arrays in the order of the inputs; None, and nothing is set, where one of them is not as set_input takes
  // it.
  nb::object run_arrays(const nb::tuple& arrays) {
    if (arrays.size() != inputs_.size()) return nb::none();
    std::vector<std::pair<Input, sinter_dtype>> taken(inputs_.size());
    for (size_t i = 0; i < taken.size(); ++i) {
      Input& array = taken[i].first;
      if (!nb::try_cast<Input>(arrays[i], array, false) || array.ndim() > 16) return nb::none();
      const std::optional<sinter_dtype> dtype = from_dlpack(array.dtype());
      if (!dtype || reinterpret_cast<uintptr_t>(array.data()) % std::max<size_t>(1, array.itemsize()) != 0)
        return nb::none();
      taken[i].second = *dtype;
    }
    for (size_t i = 0; i < taken.size(); ++i) {
      set_array(i, taken[i].first, taken[i].second);
      inputs_[i] = nb::borrow(arrays[i]);
    }
    return nb::cast(run());
  }

  void set_packed_input(size_t index, const Input& bytes, const std::string& dtype, const std::vector<int64_t>& dims) {
    for (int d = 0; d <= SINTER_STRING; ++d) {
      if (dtype != sinter_dtype_name(static_cast<sinter_dtype>(d))) continue;
      check(sinter_context_set_input(handle_, index, static_cast<sinter_dtype>(d), dims.data(), dims.size(),
                                     bytes.data(), bytes.nbytes()));
      inputs_.at(index) = nb::cast(bytes);
      return;
    }
    throw nb::type_error("there is no such dtype");
  }

  void set_input_proto(size_t index, const nb::bytes& proto) {
    check(sinter_context_set_input_proto(handle_, index, proto.data(), proto.size()));
  }

  // Runs; results are fresh NumPy arrays that the kernels wrote into where extents were known before the run. Strings,
  // sequences and optionals come as serialized protos, maps as dicts. given: outputs that are written into arrays of
  // the caller's, and these; their results are None.
  std::vector<nb::object> run(const std::vector<std::pair<size_t, Given>>& given = {}) {
    struct Buffer {
      void* data = nullptr;
      size_t bytes = 0;
      int64_t dims[16] = {};
      int rank = -1;
    };
    std::vector<Buffer> buffers(outputs_.size());
    struct Guard {
      Context& context;
      std::vector<Buffer>& buffers;
      ~Guard() {
        for (size_t i = 0; i < buffers.size(); ++i) {
          sinter_context_set_output(context.handle_, i, nullptr, 0);
          std::free(buffers[i].data);
        }
      }
    } guard{*this, buffers};
    std::vector<bool> is_given(outputs_.size(), false);
    for (const auto& [i, array] : given) {
      is_given.at(i) = true;
      check(sinter_context_set_output(handle_, i, array.data(), array.nbytes()));
    }
    for (size_t i = 0; i < outputs_.size(); ++i) {
      Buffer& b = buffers[i];
      if (is_given[i] || !outputs_[i].numbers || sinter_dtype_bits(outputs_[i].dtype) < 8) continue;
      check(sinter_context_output_dims(handle_, i, b.dims, &b.rank));
      if (b.rank < 0) continue;
      b.bytes = static_cast<size_t>(sinter_dtype_bits(outputs_[i].dtype)) / 8;
      for (int k = 0; k < b.rank; ++k) b.bytes *= static_cast<size_t>(b.dims[k]);
      b.data = std::aligned_alloc(64, (b.bytes + 64) / 64 * 64);
      if (!b.data) throw std::bad_alloc();
      check(sinter_context_set_output(handle_, i, b.data, b.bytes));
    }
    sinter_code code;
    {
      nb::gil_scoped_release release;
      code = sinter_context_run(handle_);
    }
    check(code);
    std::vector<nb::object> results;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      Buffer& b = buffers[i];
      if (is_given[i]) {
        results.push_back(nb::none());
        continue;
      }
      if (outputs_[i].maps) {
        const sinter_value* value = nullptr;
        check(sinter_context_get_output_value(handle_, i, &value));
        results.push_back(python_value(value));
        continue;
      }
      if (!outputs_[i].numbers) {
        void* data = nullptr;
        size_t bytes = 0;
        check(sinter_context_get_output_proto(handle_, i, &data, &bytes));
        const std::unique_ptr<void, void (*)(void*)> owner(data, sinter_free);
        results.push_back(nb::bytes(data, bytes));
        continue;
      }
      const int bits = sinter_dtype_bits(outputs_[i].dtype);
      if (!b.data) {
        const void* data = nullptr;
        check(sinter_context_get_output(handle_, i, nullptr, b.dims, &b.rank, &data, &b.bytes));
        b.data = std::aligned_alloc(64, (b.bytes + 64) / 64 * 64);
        if (!b.data) throw std::bad_alloc();
        if (b.bytes > 0) std::memcpy(b.data, data, b.bytes);
      }
      void* data = std::exchange(b.data, nullptr);
      const nb::capsule owner(data, [](void* p) noexcept { std::free(p); });
      size_t shape[16];
      for (int k = 0; k < b.rank; ++k) shape[k] = static_cast<size_t>(b.dims[k]);
      if (bits < 8) {  // packed: bytes and the extents they stand for
        const size_t flat[] = {b.bytes};
        nb::list extents;
        for (int k = 0; k < b.rank; ++k) extents.append(b.dims[k]);
        results.push_back(
            nb::make_tuple(Output(data, 1, flat, owner, nullptr, to_dlpack(outputs_[i].dtype)).cast(), extents));
        continue;
      }
      results.push_back(
          Output(data, static_cast<size_t>(b.rank), shape, owner, nullptr, to_dlpack(outputs_[i].dtype)).cast());
    }
    return results;
  }

  // Calls tap(sources, array) with every value that a step of later runs leaves; None removes it.
  void set_tap(nb::object tap) {
    tap_ = std::move(tap);
    if (tap_.is_none()) {
      check(sinter_context_set_tap(handle_, nullptr, nullptr));
      return;
    }
    check(sinter_context_set_tap(
        handle_,
        [](void* user, const char* sources, sinter_dtype dtype, const int64_t* dims, int rank, const void* data,
           size_t bytes) {
          nb::gil_scoped_acquire acquire;
          const auto& self = *static_cast<Context*>(user);
          if (sinter_dtype_bits(dtype) < 8) return;
          void* copy = std::malloc(bytes > 0 ? bytes : 1);
          if (!copy) return;
          std::memcpy(copy, data, bytes);
          const nb::capsule owner(copy, [](void* p) noexcept { std::free(p); });
          std::vector<size_t> shape(dims, dims + rank);
          try {
            self.tap_(sources, Output(copy, shape.size(), shape.data(), owner, nullptr, to_dlpack(dtype)).cast());
          } catch (nb::python_error& e) {
            e.discard_as_unraisable("a tap");
          }
        },
        this));
  }

  int64_t memory() const { return sinter_context_memory(handle_); }

  // A tap often refers to its context: the garbage collector sees and breaks that cycle.
  static int traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    if (nb::inst_ready(self)) Py_VISIT(nb::inst_ptr<Context>(self)->tap_.ptr());
    return 0;
  }
  static int clear(PyObject* self) {
    Context& context = *nb::inst_ptr<Context>(self);
    sinter_context_set_tap(context.handle_, nullptr, nullptr);
    context.tap_ = nb::none();
    return 0;
  }

 private:
  void set_array(size_t index, const Input& array, sinter_dtype dtype) {
    int64_t dims[16];
    for (size_t k = 0; k < array.ndim(); ++k) dims[k] = static_cast<int64_t>(array.shape(k));
    check(sinter_context_set_input(handle_, index, dtype, dims, array.ndim(), array.data(), array.nbytes()));
  }

  struct OutputKind {
    bool numbers = false, maps = false;
    sinter_dtype dtype = SINTER_F32;
  };
  sinter_context* handle_ = nullptr;
  std::vector<nb::object> inputs_;
  std::vector<OutputKind> outputs_;
  nb::object tap_ = nb::none();
};

}  // namespace

PyType_Slot context_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(&Context::traverse)},
                               {Py_tp_clear, reinterpret_cast<void*>(&Context::clear)},
                               {0, nullptr}};

NB_MODULE(_sinter, m) {
  m.doc() = "Native half of the sinter package.";
  // Module globals of a script may outlive this module at exit; what its author sees then should not look like a bug.
  nb::set_leak_warnings(false);
  error_type() = nb::steal(PyErr_NewException("sinter.Error", PyExc_RuntimeError, nullptr));
  for (const char* part : {"code", "node", "tensor", "hint"}) error_type().attr(part) = "";
  m.attr("Error") = error_type();
  m.attr("version") = sinter_version();
  nb::class_<TensorInfo>(m, "TensorInfo")
      .def_ro("name", &TensorInfo::name)
      .def_ro("kind", &TensorInfo::kind)
      .def_ro("dtype", &TensorInfo::dtype)
      .def_ro("type", &TensorInfo::type)
      .def_ro("shape", &TensorInfo::shape)
      .def_ro("under", &TensorInfo::under);
  nb::class_<Engine>(m, "Engine")
      .def("tensors", &Engine::tensors)
      .def("save", &Engine::save)
      .def("memory", &Engine::memory)
      .def("serialize", &Engine::serialize);
  nb::class_<Context>(m, "Context", nb::type_slots(context_slots))
      .def(nb::init<const Engine&, int>(), nb::arg("engine"), nb::arg("threads") = 0, nb::keep_alive<1, 2>())
      .def("set_input", &Context::set_input, nb::arg("index"), nb::arg("array"), nb::arg("dtype").none() = nb::none())
      .def("set_packed_input", &Context::set_packed_input)
      .def("set_input_proto", &Context::set_input_proto)
      .def("set_tap", &Context::set_tap, nb::arg("tap").none())
      .def("run", &Context::run)
      .def("run_arrays", &Context::run_arrays)
      .def("memory", &Context::memory);
  m.def("build", &build, nb::arg("path").none(), nb::arg("model").none(), nb::arg("threads"), nb::arg("level").none(),
        nb::arg("dims"), nb::arg("tf32"), nb::arg("bf16"), nb::arg("fp16"), nb::arg("timing_cache").none(),
        nb::arg("external_data_root").none(), nb::arg("log").none(), nb::arg("log_level"), nb::arg("progress").none());
  m.def("load_plugins", [](const std::string& path) {
    sinter_code code;
    {
      nb::gil_scoped_release release;
      code = sinter_load_plugins(path.c_str());
    }
    check(code);
  });
  m.def("load", &load, nb::arg("path").none(), nb::arg("bytes").none(), nb::arg("threads"));
}
