// The C and C++ interfaces on arguments that make no sense, and the parts of them that no example shows. Prints what
// went wrong and ends with 1, or "the interface holds".
//
//   interface MODEL.onnx (an Add of a and b, f32[N]) ANY_RANK.onnx (a Relu of x, f32 of unknown rank)
//             MAPS.onnx (a ZipMap of x, f32[N, 2], with labels b and a, and a DictVectorizer of map m, vocabulary y, x)
#include <sinter/plugin.h>
#include <cstddef>
#include <cstdio>
#include <map>
#include <sinter/sinter.hpp>
#include <string>
#include <vector>

namespace {

int wrong = 0;

void expect(bool good, const char* what) {
  if (good) return;
  std::printf("not so: %s (%s)\n", what, sinter_error_message());
  ++wrong;
}

// The call fails with this code, and says something.
void refused(sinter_code got, sinter_code expected, const char* what) {
  expect(got == expected && sinter_error_message()[0] != 0, what);
}

template <typename T>
T* stale() {
  return reinterpret_cast<T*>(size_t{64});
}

}  // namespace

#define REFUSED(call) refused(call, SINTER_INVALID_ARGUMENT, #call)
#define EXPECT(what) expect(what, #what)

namespace {

void maps(const char* path) {
  const sinter::engine engine = sinter::engine::build(path);
  sinter_tensor_info info = engine.output(0);
  EXPECT(info.kind == SINTER_SEQUENCE && std::string(info.type) == "seq(map(string, f32))");
  EXPECT(engine.input(1).kind == SINTER_MAP && std::string(engine.input(1).type) == "map(string, f32)");
  EXPECT(std::string(engine.input(0).type) == "f32[N, 2]");
  info.size = offsetof(sinter_tensor_info, type);
  info.type = nullptr;
  EXPECT(sinter_engine_output(engine.handle(), 0, &info) == SINTER_OK && info.type == nullptr);

  sinter::context context(engine);
  sinter_context* c = context.handle();
  const sinter::tensor<float> x{{2, 2}, {1, 2, 3, 4}};
  context.set_input(0, x);
  const char* const keys[] = {"x", "x"};
  const float values[] = {5, 6};
  REFUSED(sinter_context_set_input_map(c, 1, SINTER_STRING, keys, SINTER_F32, values, 2));
  REFUSED(sinter_context_set_input_map(c, 1, SINTER_STRING, keys, SINTER_F64, values, 1));
  REFUSED(sinter_context_set_input_map(c, 1, SINTER_F32, values, SINTER_F32, values, 1));
  REFUSED(sinter_context_set_input_map(c, 1, SINTER_STRING, nullptr, SINTER_F32, values, 1));
  REFUSED(sinter_context_set_input_map(c, 0, SINTER_STRING, keys, SINTER_F32, values, 1));
  REFUSED(sinter_context_set_input_map(c, 2, SINTER_STRING, keys, SINTER_F32, values, 1));
  context.set_input(1, std::map<std::string, float>{{"x", 5.0f}, {"other", 6.0f}});
  const sinter_value* none = stale<const sinter_value>();
  REFUSED(sinter_context_get_output_value(c, 0, &none));
  EXPECT(none == nullptr);
  context.run();
  using Map = std::map<std::string, float>;
  EXPECT((context.output_maps<std::string, float>(0) == std::vector<Map>{{{"a", 2}, {"b", 1}}, {{"a", 4}, {"b", 3}}}));
  EXPECT(context.output<float>(1).data == std::vector<float>({0, 5}));
  EXPECT(context.output_value(1).elements<float>() == std::vector<float>({0, 5}));
  const sinter::value list = context.output_value(0);
  EXPECT(list.kind() == SINTER_SEQUENCE && list.size() == 2 && list[1].kind() == SINTER_MAP && list[1].size() == 2);
  const sinter_value* map = nullptr;
  EXPECT(sinter_context_get_output_value(c, 0, &map) == SINTER_OK);
  EXPECT(sinter_value_item(map, 2) == nullptr);
  REFUSED(sinter_value_tensor(map, nullptr, nullptr, nullptr, nullptr, nullptr));
  map = sinter_value_item(map, 0);
  EXPECT(map && sinter_value_item(map, 2) == nullptr);
  const char* text = nullptr;
  REFUSED(sinter_value_string(sinter_value_item(map, 0), 2, &text, nullptr));
  REFUSED(sinter_value_string(sinter_value_item(map, 1), 0, &text, nullptr));
  EXPECT(sinter_value_string(sinter_value_item(map, 0), 1, &text, nullptr) == SINTER_OK && std::string(text) == "b");
  context.set_input(1, std::map<std::string, float>());
  context.run();
  EXPECT(context.output<float>(1).data == std::vector<float>({0, 0}));
  EXPECT(!context.output_proto(0).empty());
  EXPECT(sinter_value_count(nullptr) == 0 && sinter_value_item(nullptr, 0) == nullptr);
  REFUSED(sinter_value_tensor(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr));
}

}  // namespace

namespace {

void large_input(sinter::context& context, const std::vector<float>& values) {
  const std::vector<int64_t> dims = {static_cast<int64_t>(values.size())};
  for (size_t i = 0; i < 2; ++i) context.set_input(i, dims, values.data(), values.size());
}

// The sum may lie over a, and over nothing else.
void in_place(const char* path) {
  const sinter::engine engine = sinter::engine::build(path);
  sinter_tensor_info info = engine.output(0);
  EXPECT(info.under == 0 && engine.input(0).under == -1);
  info.size = offsetof(sinter_tensor_info, under);
  info.under = 7;
  EXPECT(sinter_engine_output(engine.handle(), 0, &info) == SINTER_OK && info.under == 7 && info.type != nullptr);
  sinter::context context(engine);
  std::vector<float> a = {1, 2, 3}, b = {10, 20, 30};
  context.set_input(0, {3}, a.data(), 3);
  context.set_input(1, {3}, b.data(), 3);
  context.set_output(0, b.data(), 3);
  REFUSED(sinter_context_run(context.handle()));
  EXPECT(std::string(sinter_error_hint()).find("input 'a'") != std::string::npos);
  EXPECT((b == std::vector<float>{10, 20, 30}));
  context.set_output(0, a.data(), 3);
  context.run();
  context.run();
  EXPECT((a == std::vector<float>{21, 42, 63}));
}

// Threads of the caller, of a context and of the process.
void threads(const char* path) {
  REFUSED(sinter_context_set_threads(nullptr, nullptr));
  sinter::engine engine = sinter::engine::build(path);
  sinter::context context(engine, 4);
  sinter_context* c = context.handle();
  const std::vector<float> values(1 << 20, 1.5f), sums(1 << 20, 3.0f);
  large_input(context, values);

  const sinter_threads none = SINTER_THREADS_INIT;
  REFUSED(sinter_context_set_threads(c, &none));
  REFUSED(sinter_set_default_threads(&none));
  sinter_threads given = none;
  given.run = [](void* user, sinter_task task, void* task_context, int workers) {
    *static_cast<int*>(user) = workers;
    for (int w = 0; w < workers; ++w) task(task_context, w);
  };
  int workers = 0;
  given.user = &workers;
  for (const int count : {0, -1, 4097}) {
    given.count = count;
    REFUSED(sinter_context_set_threads(c, &given));
  }
  given.count = 3;
  given.size = 8;
  REFUSED(sinter_context_set_threads(c, &given));
  given.size = sizeof given;
  context.run();
  EXPECT(workers == 0);  // whatever was refused is not used
  context.set_threads(given);
  context.run();
  EXPECT(workers == 3 && context.output<float>(0).data == sums);

  // Each of these breaks a rule.
  const auto run_with = [&](void (*run)(void*, sinter_task, void*, int)) {
    sinter_threads wrong = given;
    wrong.run = run;
    context.set_threads(wrong);
    return sinter_context_run(c);
  };
  REFUSED(run_with([](void*, sinter_task, void*, int) {}));
  REFUSED(run_with([](void*, sinter_task task, void* t, int n) {
    for (int w = 1; w < n; ++w) task(t, w);
  }));
  REFUSED(run_with([](void*, sinter_task task, void* t, int n) {
    for (int w = 0; w < 2 * n; ++w) task(t, w / 2);
  }));
  REFUSED(run_with([](void*, sinter_task task, void* t, int n) {
    for (int w = -1; w < n + 1; ++w) task(t, w);
  }));
  REFUSED(run_with([](void*, sinter_task task, void*, int n) {
    for (int w = 0; w < n; ++w) task(nullptr, w);
  }));
  refused(run_with([](void*, sinter_task, void*, int) { throw 5; }), SINTER_INTERNAL, "an exception of the threads");
  sinter_threads again = given;
  again.user = c;
  again.run = [](void* user, sinter_task task, void* t, int n) {
    auto* busy = static_cast<sinter_context*>(user);
    refused(sinter_context_run(busy), SINTER_BUSY, "a run inside a run");
    refused(sinter_context_set_threads(busy, nullptr), SINTER_BUSY, "other threads inside a run");
    for (int w = 0; w < n; ++w) task(t, w);
  };
  context.set_threads(again);
  context.run();
  context.set_threads(nullptr);
  workers = 0;
  context.run();
  EXPECT(workers == 0 && context.output<float>(0).data == sums);

  // A class of one's own; contexts from now on.
  struct Backwards {
    int calls = 0;
    void run(const sinter::task& task, int n) {
      ++calls;
      for (int w = n - 1; w >= 0; --w) task(w);
    }
  } pool;
  sinter::set_default_threads(sinter::threads_of(pool, 2));
  sinter::context other(engine, 4);
  sinter::set_default_threads(nullptr);
  large_input(other, values);
  other.run();
  EXPECT(pool.calls > 0 && other.output<float>(0).data == sums);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) return 2;
  auto* engine = stale<sinter_engine>();
  REFUSED(sinter_build_file(nullptr, nullptr, &engine));
  EXPECT(engine == nullptr);
  REFUSED(sinter_build_file("", nullptr, &engine));
  REFUSED(sinter_build_file(argv[1], nullptr, nullptr));
  REFUSED(sinter_build_memory(nullptr, 0, nullptr, &engine));
  refused(sinter_build_memory("x", 0, nullptr, &engine), SINTER_MODEL_INVALID, "an empty model");
  REFUSED(sinter_engine_load(argv[1], -1, &engine));
  REFUSED(sinter_engine_load(argv[1], 1 << 30, &engine));
  refused(sinter_engine_load(argv[1], 0, &engine), SINTER_ENGINE_INVALID, "a model where an engine is expected");
  sinter::build_options options;
  options.threads = -1;
  REFUSED(sinter_build_file(argv[1], &options, &engine));
  options = {};
  options.size = 1;
  REFUSED(sinter_build_file(argv[1], &options, &engine));
  options = {};
  options.allow_tf32 = 0;
  options.allow_bf16 = 1;
  REFUSED(sinter_build_file(argv[1], &options, &engine));
  options.allow_bf16 = 0;
  EXPECT(sinter_build_file(argv[1], &options, &engine) == SINTER_OK);
  sinter_engine_destroy(engine);
  options = {};
  options.dim_count = 1;
  REFUSED(sinter_build_file(argv[1], &options, &engine));
  const sinter_dim_range twice[] = {{"N", 5, 5, 5}, {"N", 6, 6, 6}};
  options.dims = twice;
  options.dim_count = 2;
  REFUSED(sinter_build_file(argv[1], &options, &engine));
  options = {};
  options.progress = [](void*, const char*, double) { throw 5; };
  refused(sinter_build_file(argv[1], &options, &engine), SINTER_INTERNAL, "an exception of a callback");

  REFUSED(sinter_load_plugins(nullptr));
  REFUSED(sinter_load_plugins(""));
  refused(sinter_load_plugins("missing.so"), SINTER_IO, "plugins of a missing file");
  try {
    sinter::load_plugins(argv[1]);
    EXPECT(false);
  } catch (const sinter::error& e) {
    EXPECT(e.code() == SINTER_IO);
  }
  REFUSED(sinter_register_plugin(nullptr));
  const auto like_x = [](sinter_call* c) {
    c->set_like(c, 0, SINTER_F32, 0);
    return 0;
  };
  const sinter_plugin_op op = {"interface", "Op", 1, 1, 1, 1, 1, nullptr, 0, like_x, like_x, nullptr, 0};
  const sinter_plugin other = {SINTER_PLUGIN_ABI + 1, "interface", "1", &op, 1};
  const sinter_plugin plugin = {SINTER_PLUGIN_ABI, "interface", "1", &op, 1};
  REFUSED(sinter_register_plugin(&other));
  EXPECT(sinter_register_plugin(&plugin) == SINTER_OK);
  EXPECT(sinter_register_plugin(&plugin) == SINTER_OK);

  auto* raw = stale<sinter_context>();
  REFUSED(sinter_context_create(nullptr, 0, &raw));
  EXPECT(raw == nullptr);
  const std::string bytes = sinter::engine::build(argv[1]).serialize();
  sinter::engine add = sinter::engine::load(bytes.data(), bytes.size());
  REFUSED(sinter_context_create(add.handle(), -1, &raw));
  sinter_tensor_info info{};
  REFUSED(sinter_engine_input(add.handle(), 0, &info));
  info.size = sizeof info;
  REFUSED(sinter_engine_output(add.handle(), static_cast<size_t>(-1), &info));

  const sinter_dim_range eight = {"N", 1, 4, 8};
  sinter_build_options bounded = SINTER_BUILD_OPTIONS_INIT;
  bounded.dims = &eight;
  bounded.dim_count = 1;
  const sinter::engine within = sinter::engine::build(argv[1], bounded);
  EXPECT(within.memory().outputs == 16 && within.memory().complete);
  EXPECT(within.memory(SINTER_LARGEST_EXTENTS).outputs == 32);
  EXPECT(add.memory().weights == 0 && add.memory().values == -1 && !add.memory().complete);
  sinter_memory_info memory{};
  REFUSED(sinter_engine_memory(add.handle(), SINTER_BEST_EXTENTS, &memory));
  memory.size = sizeof memory;

  sinter::context context(add);
  sinter_context* c = context.handle();
  { const sinter::engine gone = std::move(add); }  // a context keeps its engine alive
  const int64_t two[] = {2}, below[] = {-2}, huge[] = {INT64_MAX};
  const float values[] = {1, 2};
  REFUSED(sinter_context_run(c));
  REFUSED(sinter_context_set_input(c, 0, SINTER_F32, two, 1, values, 7));
  REFUSED(sinter_context_set_input(c, 0, SINTER_F32, two, 1, nullptr, 8));
  REFUSED(sinter_context_set_input(c, 0, SINTER_F32, nullptr, 1, values, 8));
  REFUSED(sinter_context_set_input(c, 0, SINTER_F64, two, 1, values, 8));
  REFUSED(sinter_context_set_input(c, 9, SINTER_F32, two, 1, values, 8));
  REFUSED(sinter_context_set_input(c, 0, SINTER_F32, below, 1, values, 8));
  REFUSED(sinter_context_set_input_proto(c, 0, "\xff\xff", 2));
  sinter::tensor<float> a{{2}, {1, 2}}, b{{2}, {10, 20}};
  context.set_input(0, a);
  context.set_input(1, b);
  std::vector<int64_t> dims;
  EXPECT(context.output_dims(0, dims) && dims == std::vector<int64_t>{2});
  float out[2] = {};
  context.set_output(0, out, 1);
  REFUSED(sinter_context_run(c));
  EXPECT(out[0] == 0);
  context.set_output(0, out, 2);
  int taps = 0;
  context.set_tap([](void* user, const char*, sinter_dtype, const int64_t*, int, const void*,
                     size_t) { ++*static_cast<int*>(user); },
                  &taps);
  context.run();
  EXPECT(taps == 1 && out[0] == 11 && out[1] == 22);
  int64_t extent = 0;
  EXPECT(sinter_context_get_output(c, 0, nullptr, &extent, nullptr, nullptr, nullptr) == SINTER_OK && extent == 2);
  EXPECT(!context.output_proto(0).empty());
  context.set_tap(nullptr, nullptr);
  context.set_cancel([](void*) { return 1; }, nullptr);
  refused(sinter_context_run(c), SINTER_CANCELLED, "a run that is cancelled");
  context.set_cancel(nullptr, nullptr);
  context.set_output<float>(0, nullptr, 0);
  context.set_allocator([](void*, size_t, sinter_dtype, const int64_t*, int, size_t) -> void* { return nullptr; }, c);
  refused(sinter_context_run(c), SINTER_OUT_OF_MEMORY, "an allocator that has nothing");
  context.set_allocator(nullptr, nullptr);
  context.run();
  EXPECT(context.output<float>(0).data == std::vector<float>({11, 22}));
  try {
    context.output<bool>(0);
    EXPECT(!"f32 is no bool");
  } catch (const sinter::error& e) {
    EXPECT(e.code() == SINTER_INVALID_ARGUMENT);
  }

  const sinter::engine relu = sinter::engine::build(argv[2]);
  sinter::context any(relu);
  const std::vector<int64_t> ones(20, 1);
  REFUSED(sinter_context_set_input(any.handle(), 0, SINTER_F32, ones.data(), 20, values, 4));
  REFUSED(sinter_context_set_input(any.handle(), 0, SINTER_F32, two, 1, nullptr, 8));
  REFUSED(sinter_context_set_input(any.handle(), 0, SINTER_F32, two, 1, values, 7));
  refused(sinter_context_set_input(any.handle(), 0, SINTER_F32, huge, 1, values, 8), SINTER_LIMIT, "2^63 elements");
  any.set_input(0, std::vector<int64_t>(ones.begin(), ones.begin() + 16), values, 1);
  EXPECT(!any.output_dims(0, dims));
  any.run();
  EXPECT(any.output_dims(0, dims) && dims.size() == 16);

  maps(argv[3]);
  threads(argv[1]);
  in_place(argv[1]);

  sinter_engine_destroy(nullptr);
  sinter_context_destroy(nullptr);
  sinter_free(nullptr);
  EXPECT(sinter_engine_input_count(nullptr) == 0 && sinter_context_memory(nullptr) == 0);
  if (wrong == 0) std::printf("the interface holds\n");
  return wrong == 0 ? 0 : 1;
} catch (const sinter::error& e) {
  std::printf("%s: %s\n", sinter_code_name(e.code()), e.what());
  return 1;
}
