#include "common.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "api/compile.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/scanner.h"
#include "engine/file.h"
#include "tensor/npy.h"
#include "tensor/tensor_proto.h"
#include "tune/compare.h"

namespace sinter::cli {
namespace {

volatile std::sig_atomic_t interrupted = 0;
bool bar_drawn = false;

Exit exit_of(Code code) {
  switch (code) {
    case Code::ok: return exit_ok;
    case Code::invalid_argument: return exit_usage;
    case Code::model_invalid:
    case Code::unsupported: return exit_bad_model;
    case Code::mismatch: return exit_differs;
    case Code::engine_invalid:
    case Code::engine_incompatible: return exit_incompatible;
    default: return exit_failure;
  }
}

int say(const Error& error, Exit exit) {
  end_progress();
  const Origin& origin = error.origin();
  std::string_view what = error.what();
  const std::string hint = fmt::format(" ({})", origin.hint);
  if (what.size() > hint.size() && what.substr(what.size() - hint.size()) == hint) what.remove_suffix(hint.size());
  fmt::print(stderr, "sinter: {}: {}\n", code_name(error.code()), what);
  if (!origin.node.empty()) fmt::print(stderr, "  node:   {}\n", shown(origin.node));
  if (!origin.tensor.empty()) fmt::print(stderr, "  tensor: {}\n", printable(origin.tensor));
  if (!origin.hint.empty()) fmt::print(stderr, "  hint:   {}\n", origin.hint);
  return exit;
}

void draw(std::string_view stage, double fraction) {
  constexpr int width = 30;
  const int full = static_cast<int>(std::lround(std::clamp(fraction, 0.0, 1.0) * width));
  fmt::print(stderr, "\r\033[K[{}{}] {:3.0f}% {}", std::string(static_cast<size_t>(full), '#'),
             std::string(static_cast<size_t>(width - full), '.'), 100 * std::clamp(fraction, 0.0, 1.0), stage);
  std::fflush(stderr);
  bar_drawn = true;
}

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Whole text as an integer.
int64_t number(const std::string& text, const std::string& where) {
  Scanner scanner(text);
  try {
    const int64_t value = scanner.integer();
    if (scanner.at_end()) return value;
  } catch (const Error&) {
  }
  throw Error(Code::invalid_argument, fmt::format("{}: '{}' is no number", where, printable(text)));
}

std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> out{""};
  for (char c : text)
    if (c == by)
      out.emplace_back();
    else
      out.back() += c;
  return out;
}

DimRange parse_dim_range(const std::string& text) {
  const size_t equals = text.rfind('=');
  const auto parts = split(equals == std::string::npos ? "" : text.substr(equals + 1), ':');
  const std::string where = fmt::format("--dim {}", printable(text));
  if (equals == 0 || equals == std::string::npos || (parts.size() != 1 && parts.size() != 3))
    throw Error(Code::invalid_argument, where + ": the form is NAME=MIN:OPT:MAX or NAME=N");
  DimRange range;
  range.name = text.substr(0, equals);
  range.low = number(parts.front(), where);
  range.best = number(parts.size() == 3 ? parts[1] : parts[0], where);
  range.high = number(parts.back(), where);
  return range;
}

LogLevel level_of(const std::string& name) {
  constexpr const char* names[] = {"error", "warning", "info", "verbose", "debug"};
  for (uint8_t k = 0; k < 5; ++k)
    if (name == names[k]) return static_cast<LogLevel>(k);
  return LogLevel::warning;
}

// NumPy has no name for some types; their elements come as bytes.
Tensor as_wanted(Tensor tensor, DType wanted) {
  const DType got = tensor.dtype();
  if (got == wanted || bit_size(wanted) > 8 || bit_size(wanted) == 0 || (got != DType::u8 && got != DType::i8))
    return tensor;
  const bool nameless = is_sub_byte(wanted) || (is_float(wanted) && bit_size(wanted) == 8);
  if (!nameless) return tensor;
  if (bit_size(wanted) == 8) return Tensor(wanted, tensor.dims(), tensor.data(), tensor.owner());
  Tensor out(wanted, tensor.dims());
  const int bits = bit_size(wanted);
  auto* to = out.as_mutable<uint8_t>();
  for (int64_t i = 0; i < tensor.count(); ++i) {
    const int64_t bit = i * bits;
    const auto value = static_cast<unsigned>(tensor.as<uint8_t>()[i]) & ((1u << bits) - 1);
    to[bit / 8] = static_cast<uint8_t>(to[bit / 8] | value << (bit % 8));
  }
  return out;
}

Box read_input(const std::string& path, const SampledInput& input) {
  const auto file = MappedFile::open(path);
  try {
    const std::span<const std::byte> bytes = file->bytes();
    constexpr unsigned char magic[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    const bool npy = bytes.size() >= sizeof magic && std::equal(std::begin(magic), std::end(magic),
                                                                reinterpret_cast<const unsigned char*>(bytes.data()));
    if (!npy) return decode_value(bytes, input.type);
    Tensor tensor = read_npy(bytes);
    if (!input.type.is_tensor() && input.type.kind != Type::Kind::optional)
      throw Error(Code::invalid_argument,
                  fmt::format("a {} is wanted; .npy files hold tensors",
                              input.type.kind == Type::Kind::map ? "map (a MapProto)" : "sequence (a SequenceProto)"));
    return Box(as_wanted(std::move(tensor), input.type.is_tensor() ? input.type.dtype : input.type.element->dtype));
  } catch (Error& error) {
    error.add_context(fmt::format("reading {} for input '{}'", printable(path), printable(input.name)));
    // Exit codes speak of the model, and this file is not the model.
    if (error.code() == Code::model_invalid || error.code() == Code::unsupported)
      throw Error(Code::io, error.what()).at_tensor(input.name);
    throw;
  }
}

}  // namespace

// The second one does not wait.
void on_interrupt(int) {
  if (interrupted) _exit(130);
  interrupted = 1;
}

Control control(bool progress) {
  Control out;
  out.cancelled = [](void*) { return interrupted != 0; };
  if (progress && isatty(STDERR_FILENO))
    out.progress = [](void*, std::string_view stage, double fraction) { draw(stage, fraction); };
  return out;
}

void end_progress() {
  if (bar_drawn) fmt::print(stderr, "\r\033[K");
  bar_drawn = false;
}

int guarded(const std::function<int()>& run) {
  try {
    return run();
  } catch (const Failed& failed) {
    return say(failed.error, failed.exit);
  } catch (const Error& error) {
    return say(error, exit_of(error.code()));
  } catch (const std::bad_alloc&) {
    return say(Error(Code::out_of_memory, "not enough memory"), exit_failure);
  } catch (const std::exception& error) {
    return say(Error(Code::internal, error.what()), exit_failure);
  }
}

std::vector<std::string>& plugin_files() {
  static std::vector<std::string> files;
  return files;
}

void declare_plugins(Options& o) {
  o.repeated("--plugins", plugin_files(), "LIBRARY", "load operators of plugins (docs/plugins.md)");
}

void BuildFlags::declare(Options& o, bool with_threads) {
  o.choice("--device", device, {"cpu"}, "device to build for");
  if (with_threads) o.value("--threads", threads, "N", "threads; 0: all usable CPUs");
  o.repeated("--dim", dims, "NAME=MIN:OPT:MAX",
             "bounds of a named dimension, fastest at OPT (without: batches at 1, others at 64); NAME=N fixes it");
  o.choice("--level", level, {"portable", "avx2", "avx512", "avx512_bf16", "amx"},
           "instruction set; default: this machine's best");
  o.flag("--strict-fp32", strict, "multiply f32 as f32 (default: TF32 precision or better; see docs/precision.md)");
  o.flag("--bf16", bf16, "contractions may round their operands to bf16");
  o.flag("--fp16", fp16, "contractions may round their operands to fp16");
  o.value("--timing-cache", timing_cache, "FILE",
          "measure kernels, and keep the times in this file (without: models choose; see docs/timing.md)");
  o.choice("--verbose", verbose, {"error", "warning", "info", "verbose", "debug"}, "what is logged to stderr");
  o.value("--external-data-root", external_data_root, "DIR", "where external tensor data may lie");
  o.repeated("--disable-pass", disabled, "NAME", "leave out a pass (see: sinter list passes)");
  o.flag("--check", check, "evaluate both sides of every rewrite");
  o.flag("--reference", reference, "run every step by its definition");
  o.value("--dump", dump, "DIR", "write the graph after every pass");
  declare_plugins(o);
}

BuildOptions BuildFlags::options(bool progress) const {
  BuildOptions out;
  if (threads < 0 || threads > 4096)
    throw Error(Code::invalid_argument, fmt::format("--threads {}: must be from 0 to 4096", threads));
  out.threads = threads;
  if (!level.empty()) out.level = level;
  for (const std::string& text : dims) out.dims.push_back(parse_dim_range(text));
  out.passes = {!strict, bf16, fp16};
  for (const std::string& name : disabled) {
    const auto list = pass_list();
    const auto at = std::find_if(list.begin(), list.end(), [&](const PassEntry& e) { return e.name == name; });
    if (at == list.end())
      throw Error(Code::invalid_argument, fmt::format("--disable-pass {}: there is no such pass", printable(name)))
          .with_hint("sinter list passes");
    if (!at->optional)
      throw Error(Code::invalid_argument, fmt::format("--disable-pass {}: this pass is needed", printable(name)));
    out.disabled_passes.push_back(name);
  }
  out.check = check;
  out.reference_only = reference;
  out.dump_directory = dump;
  out.timing_cache = timing_cache;
  out.logger.level = level_of(verbose);
  out.logger.sink = [](void*, LogLevel, std::string_view message) {
    end_progress();
    fmt::print(stderr, "{}\n", message);
  };
  out.control = control(progress);
  return out;
}

std::string BuildFlags::set_for_building() const {
  std::string out;
  const auto name = [&](bool set, const char* flag) {
    if (set) out += (out.empty() ? "" : ", ") + std::string(flag);
  };
  name(!dims.empty(), "--dim");
  name(!level.empty(), "--level");
  name(strict, "--strict-fp32");
  name(bf16, "--bf16");
  name(fp16, "--fp16");
  name(!timing_cache.empty(), "--timing-cache");
  name(!external_data_root.empty(), "--external-data-root");
  name(!disabled.empty(), "--disable-pass");
  name(check, "--check");
  name(reference, "--reference");
  name(!dump.empty(), "--dump");
  return out;
}

void InputFlags::declare(Options& o) {
  o.several("--inputs", files, "FILE", "inputs in the model's order: .npy, or ONNX protobuf (.pb)");
  o.repeated("--shapes", shapes, "NAME:1x3x224x224", "extents of an input that is made up");
  o.value("--seed", seed, "N", "seed of made-up inputs");
}

std::pair<std::string, Dims> parse_shape(const std::string& text) {
  const size_t colon = text.rfind(':');
  const std::string where = fmt::format("--shapes {}", printable(text));
  if (colon == std::string::npos || colon == 0)
    throw Error(Code::invalid_argument, where + ": the form is NAME:1x3x224x224");
  Dims dims;
  const std::string extents = text.substr(colon + 1);
  if (!extents.empty())
    for (const std::string& part : split(extents, 'x')) {
      dims.push_back(number(part, where));
      if (dims.back() < 0) throw Error(Code::invalid_argument, where + ": an extent is negative");
    }
  return {text.substr(0, colon), dims};
}

std::string output_path(const std::string& path) {
  const auto refuse = [&](const char* why) {
    throw Error(Code::io, fmt::format("cannot write '{}': {}", printable(path), why));
  };
  if (path.empty()) refuse("the name is empty");
  std::string out = path;
  struct stat st;
  if (::stat(path.c_str(), &st) == 0) {
    if (S_ISDIR(st.st_mode)) refuse("it is a directory");
    if (!S_ISREG(st.st_mode)) refuse("it is not a regular file");
    if (char* real = ::realpath(path.c_str(), nullptr)) {
      out = real;
      std::free(real);
    }
  }
  const size_t slash = out.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : out.substr(0, slash + 1);
  if (::access(folder.c_str(), W_OK | X_OK) != 0) refuse(std::strerror(errno));
  return out;
}

void make_directories(const std::string& path) {
  for (size_t end = path.find('/', 1); !path.empty(); end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    struct stat st;
    if (::mkdir(part.c_str(), 0777) != 0 && (errno != EEXIST || ::stat(part.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)))
      throw Error(Code::io, fmt::format("cannot make directory '{}': {}", printable(part),
                                        errno == EEXIST ? "a file has this name" : std::strerror(errno)));
    if (end == std::string::npos) return;
  }
}

std::map<size_t, size_t> set_values(Context& context, std::vector<Box>& inputs, bool in_place) {
  const Engine& engine = context.engine();
  if (in_place)
    for (size_t o = 0; o < engine.outputs().size(); ++o)
      if (const auto under = engine.input_under(o))
        inputs[*under].tensor = inputs[*under].tensor.clone();  // may be a file
  for (size_t i = 0; i < inputs.size(); ++i) context.set_input(i, inputs[i]);
  std::map<size_t, size_t> over;
  for (size_t o = 0; in_place && o < engine.outputs().size(); ++o) {
    const auto under = engine.input_under(o);
    if (!under) continue;
    Tensor& own = inputs[*under].tensor;
    const auto extents = context.output_extents(o);
    if (extents && byte_size(own.dtype(), element_count(*extents)) != own.bytes()) continue;
    context.set_output(o, own.mutable_data(), static_cast<size_t>(own.bytes()));
    over.emplace(o, *under);
  }
  return over;
}

void with_values(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    if (error.code() != Code::model_invalid) throw;
    throw Error(Code::fault, error.what()).with_hint("the inputs do not suit the network: see --inputs and --shapes");
  }
}

Module read_model(const std::string& path, const BuildFlags& flags, const BuildOptions& options) {
  ModelSource source;
  source.path = path;
  source.external_data_root = flags.external_data_root;
  return import_model(source, options);
}

Built build_model(Module module, const BuildOptions& options) {
  try {
    return build(std::move(module), options);
  } catch (const Error& error) {
    switch (error.code()) {
      case Code::model_invalid:
      case Code::unsupported:
      case Code::invalid_argument:
      case Code::cancelled: throw;
      default: throw Failed{exit_build_failed, error};
    }
  }
}

bool is_engine_file(const std::string& path) { return is_engine(MappedFile::open(path)->bytes()); }

Loaded load(const std::string& path, const BuildFlags& flags) {
  Loaded out;
  const LoadOptions load_options{flags.threads, true};
  if (is_engine_file(path)) {
    if (const std::string ignored = flags.set_for_building(); !ignored.empty())
      fmt::print(stderr, "sinter: warning: '{}' is built already, these have no effect: {}\n", printable(path),
                 ignored);
    const double start = now_ms();
    out.engine = std::make_shared<const Engine>(load_engine(path, load_options));
    out.load_ms = now_ms() - start;
    out.file_bytes = MappedFile::open(path)->bytes().size();
    return out;
  }
  const BuildOptions options = flags.options(true);
  const double start = now_ms();
  Built built = build_model(read_model(path, flags, options), options);
  out.build_ms = now_ms() - start;
  out.built = true;
  out.report = std::move(built.report);
  end_progress();
  // Loaded from the bytes of its file, as another process would.
  const Target* targets[] = {&built.target};
  auto bytes = std::make_shared<const std::vector<std::byte>>(save_engine(targets));
  built.target = Target();
  const double loading = now_ms();
  out.engine = std::make_shared<const Engine>(load_engine(*bytes, bytes, load_options));
  out.load_ms = now_ms() - loading;
  out.file_bytes = bytes->size();
  return out;
}

std::vector<SampledInput> inputs_of(const Engine& engine) {
  std::vector<SampledInput> out;
  for (const Binding& binding : engine.inputs()) out.push_back({binding.name, binding.type});
  return out;
}

std::vector<SampledInput> inputs_of(const Module& module) {
  std::vector<SampledInput> out;
  for (ValueId v : module.main->inputs) out.push_back({(*module.main)[v].name, (*module.main)[v].type});
  return out;
}

std::vector<int64_t> best_of(const Engine& engine) {
  std::vector<int64_t> out(engine.target().symbols.size(), -1);
  for (const Profile& profile : engine.target().profiles)
    if (profile.symbol < out.size()) out[profile.symbol] = profile.best;
  return out;
}

std::vector<int64_t> best_of(const Module& module, const BuildOptions& options) {
  std::vector<int64_t> out(module.symbols.size(), -1);
  for (const DimRange& range : options.dims)
    if (const auto id = module.symbols.find(range.name)) out[*id] = range.best;
  return out;
}

std::vector<Box> read_inputs(const std::vector<SampledInput>& inputs, const SymbolTable& symbols,
                             const std::vector<int64_t>& best, const InputFlags& flags) {
  if (flags.files.size() > inputs.size())
    throw Error(Code::invalid_argument,
                fmt::format("{} input files are given, the model has {} inputs", flags.files.size(), inputs.size()));
  SampleOptions sample;
  sample.seed = flags.seed;
  for (const std::string& text : flags.shapes) {
    const auto [name, dims] = parse_shape(text);
    if (!sample.shapes.emplace(name, dims).second)
      throw Error(Code::invalid_argument, fmt::format("--shapes gives input '{}' twice", printable(name)));
    for (size_t i = 0; i < flags.files.size(); ++i)
      if (inputs[i].name == name)
        throw Error(Code::invalid_argument, fmt::format("--shapes {}: the input has the extents of its file '{}'",
                                                        printable(text), printable(flags.files[i])));
  }
  std::vector<Box> given;
  std::vector<int64_t> values = best;
  for (size_t i = 0; i < flags.files.size(); ++i) {
    given.push_back(read_input(flags.files[i], inputs[i]));
    require_fits(given.back(), inputs[i].type, inputs[i].name);
    // Extents that the files decide hold for what is made up too.
    if (!inputs[i].type.has_shape() || given.back().kind != Box::Kind::tensor) continue;
    const Dims& dims = given.back().tensor.dims();
    for (size_t k = 0; k < dims.size() && k < inputs[i].type.shape->size(); ++k)
      if (const auto id = (*inputs[i].type.shape)[k].as_symbol()) values[*id] = dims[k];
  }
  std::vector<Box> out = sample_inputs(inputs, symbols, values, sample);
  for (size_t i = 0; i < out.size(); ++i) {
    // Another input may have the same dimension and have been given another extent for it.
    if (const auto asked = sample.shapes.find(inputs[i].name);
        asked != sample.shapes.end() && out[i].tensor.dims() != asked->second)
      throw Error(Code::invalid_argument, fmt::format("the shapes contradict each other: input '{}' would be {}",
                                                      printable(inputs[i].name), type_of(out[i])))
          .at_tensor(inputs[i].name);
    if (i < given.size())
      out[i] = std::move(given[i]);
    else
      fmt::print(stderr, "input '{}' is random data: {} (seed {})\n", printable(inputs[i].name), type_of(out[i]),
                 flags.seed);
  }
  return out;
}

std::string type_of(const Box& box) {
  switch (box.kind) {
    case Box::Kind::none: return "nothing";
    case Box::Kind::tensor: return type_text(box.tensor);
    case Box::Kind::map:
      return fmt::format("map({}, {}) of {}", dtype_name(box.keys().dtype()), dtype_name(box.values().dtype()),
                         box.keys().count());
    case Box::Kind::sequence: break;
  }
  std::string out = "[";
  for (size_t i = 0; i < box.items.size() && i < 4; ++i) out += (i ? ", " : "") + type_of(box.items[i]);
  return out + (box.items.size() > 4 ? fmt::format(", ... {} in all]", box.items.size()) : "]");
}

}  // namespace sinter::cli
