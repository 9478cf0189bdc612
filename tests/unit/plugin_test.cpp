// Plugins: what tables may say, and what their functions may do. One file, as the tests share one table of operators.

#include <sinter/plugin.h>

#include <atomic>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "backend/accept.h"
#include "base/scanner.h"
#include "engines.h"
#include "ir/evaluate.h"
#include "ir/text.h"
#include "ops/custom.h"

namespace sinter {
namespace {

using namespace testing;

// ---- Operators of the tests ----

int like_x(sinter_call* c) {
  c->set_like(c, 0, c->inputs[0].dtype, 0);
  return 0;
}

// y = x * by, of any rank.
int scale(sinter_call* c) {
  const auto by = static_cast<float>(c->real(c, "by"));
  for (int64_t i = c->part; i < c->inputs[0].count; i += c->part_count)
    static_cast<float*>(c->outputs[0].data)[i] = static_cast<const float*>(c->inputs[0].data)[i] * by;
  return 0;
}

// Extents by every function there is: [(N + 1) * 2, floor(N / 2), ceil(N / 2), min(N, 3), max(N, 3) - 1].
int extents_infer(sinter_call* c) {
  const sinter_dim n = c->extent(c, 0, -1), two = c->number(c, 2), three = c->number(c, 3), one = c->number(c, 1);
  const sinter_dim dims[] = {c->mul(c, c->add(c, n, one), two), c->div(c, n, two), c->div_up(c, n, two),
                             c->min(c, n, three), c->sub(c, c->max(c, n, three), one)};
  c->set_output(c, 0, SINTER_I64, dims, 5);
  return 0;
}

int extents_compute(sinter_call* c) {
  for (int64_t i = 0; i < c->outputs[0].count; ++i) static_cast<int64_t*>(c->outputs[0].data)[i] = i;
  return 0;
}

// Positive elements and their number twice; `lie` makes it misbehave.
int positive_infer(sinter_call* c) {
  c->require_rank(c, 0, 1, 1);
  const sinter_dim n = c->extent(c, 0, 0);
  const sinter_dim found = c->found(c, 0, 0, 0, n);
  const sinter_dim pair[] = {c->number(c, 2), found};
  c->set_output(c, 0, SINTER_F32, c->integer(c, "lie") == 5 ? &n : &found, 1);
  if (c->output_count > 1) c->set_output(c, 1, SINTER_F32, pair, 2);
  if (c->output_count > 2) c->set_output(c, 2, SINTER_F32, nullptr, 0);
  return 0;
}

int positive_compute(sinter_call* c) {
  const auto* x = static_cast<const float*>(c->inputs[0].data);
  const int64_t lie = c->integer(c, "lie");
  int64_t n = 0;
  for (int64_t i = 0; i < c->inputs[0].count; ++i) n += x[i] > 0;
  if (lie == 1) return 0;                    // makes nothing
  if (lie == 2) n = c->inputs[0].count + 1;  // more than it said
  const int64_t one[] = {n, 1}, two[] = {2, n}, negative[] = {-1};
  if (lie == 3) c->make(c, 0, one, 2);  // another rank
  if (lie == 4) c->make(c, 0, negative, 1);
  auto* y = static_cast<float*>(c->make(c, 0, one, 1));
  if (lie == 6) c->make(c, 0, two, 1);  // twice, with other extents
  if (!y) return 7;                     // the first error counts
  n = 0;
  for (int64_t i = 0; i < c->inputs[0].count && lie != 2; ++i)
    if (x[i] > 0) y[n++] = x[i];
  if (c->output_count > 1) {
    auto* twice = static_cast<float*>(c->make(c, 1, two, 2));
    for (int64_t i = 0; twice && i < 2 * n; ++i) twice[i] = y[i % n];
  }
  if (c->output_count > 2) *static_cast<float*>(c->outputs[2].data) = static_cast<float*>(c->outputs[0].data) == y;
  return 0;
}

// Strings joined by a text; an optional input goes in front.
int join_infer(sinter_call* c) {
  if (c->inputs[0].dtype != SINTER_STRING)
    return c->fail(c, "input 0 has dtype %d", static_cast<int>(c->inputs[0].dtype));
  c->set_output(c, 0, SINTER_STRING, nullptr, 0);
  return 0;
}

int join_compute(sinter_call* c) {
  size_t bytes = 0;
  const char* between = c->text(c, "between", &bytes);
  std::string all;
  if (c->input_count > 1 && c->inputs[1].present) all = c->string(c, 1, 0, nullptr);
  for (int64_t i = 0; i < c->inputs[0].count; ++i) {
    size_t length = 0;
    const char* text = c->string(c, 0, i, &length);
    all += (i ? std::string(between, bytes) : "") + std::string(text, length);
  }
  c->set_string(c, 0, 0, all.data(), all.size());
  return 0;
}

// Attributes of every kind, written into the output.
int kinds_compute(sinter_call* c) {
  size_t integers = 0, reals = 0, texts = 0, bytes = 0;
  const int64_t* i = c->integers(c, "integers", &integers);
  const double* r = c->reals(c, "reals", &reals);
  const char* const* t = c->texts(c, "texts", &texts);
  auto* y = static_cast<double*>(c->outputs[0].data);
  y[0] = static_cast<double>(c->integer(c, "integer"));
  y[1] = c->real(c, "real");
  y[2] = static_cast<double>(std::strlen(c->text(c, "text", &bytes))) + 100 * static_cast<double>(bytes);
  y[3] = static_cast<double>(integers) + (integers ? static_cast<double>(i[integers - 1]) : 0);
  y[4] = static_cast<double>(reals) + (reals ? r[0] : 0);
  y[5] = static_cast<double>(texts) + (texts ? static_cast<double>(std::strlen(t[0])) : 0);
  return 0;
}

int six_doubles(sinter_call* c) {
  const sinter_dim six = c->number(c, 6);
  c->set_output(c, 0, SINTER_F64, &six, 1);
  return 0;
}

// Errors of every kind, in either function.
int troubled(sinter_call* c) {
  const bool computes = c->inputs && c->inputs[0].data;
  if (!computes) like_x(c);
  const int64_t how = c->integer(c, computes ? "compute" : "infer");
  switch (how) {
    case 1: return c->fail(c, "number %d of %s", 7, "x");
    case 2: return 3;
    case 3: throw std::runtime_error("thrown");
    case 4: throw 1;
    case 5: return static_cast<int>(c->real(c, "infer")) * 0;
    case 6: return static_cast<int>(c->integer(c, "nothing")) * 0;
    case 7: c->make(c, 0, nullptr, 0); return 0;
    case 8: c->set_like(c, 0, SINTER_F32, 0); return 0;
    case 9: c->set_like(c, 9, SINTER_F32, 0); return 0;
    case 10: c->set_output(c, 0, static_cast<int>(how + 89), nullptr, 0); return 0;
    case 11: c->set_output(c, 0, SINTER_F32, nullptr, 17); return 0;
    case 12: c->extent(c, 0, 5); return 0;
    case 13: c->div(c, c->extent(c, 0, 0), c->number(c, 0)); return 0;
    case 14: {
      const sinter_dim d = c->number(c, -2);
      c->set_output(c, 0, SINTER_F32, &d, 1);
      return 0;
    }
    case 15: c->add(c, nullptr, nullptr); return 0;
    case 16: c->set_string(c, 0, 0, "x", 1); return 0;
    case 17: c->string(c, 0, 0, nullptr); return 0;
    case 18: c->require_equal(c, c->extent(c, 0, 0), c->number(c, 77), "extent 0 is 77"); return 0;
    case 19: return c->fail(c, nullptr);
    case 20: {
      sinter_dim d = c->number(c, INT64_MAX);
      d = c->mul(c, d, c->mul(c, d, c->extent(c, 0, 0)));
      c->set_output(c, 0, SINTER_F32, &d, 1);
      return 0;
    }
  }
  return 0;
}

int nothing_set(sinter_call*) { return 0; }

constexpr sinter_attribute by[] = {{"by", SINTER_REAL, "2"}};
constexpr sinter_attribute lie[] = {{"lie", SINTER_INTEGER, "0"}};
constexpr sinter_attribute between[] = {{"between", SINTER_TEXT, ", "}};
constexpr sinter_attribute kinds[] = {{"integer", SINTER_INTEGER, "-3"},     {"real", SINTER_REAL, "inf"},
                                      {"text", SINTER_TEXT, "[not a list]"}, {"integers", SINTER_INTEGERS, "[4, 5]"},
                                      {"reals", SINTER_REALS, "[]"},         {"texts", SINTER_TEXTS, "[\"ab\"]"}};
constexpr sinter_attribute troubles[] = {{"infer", SINTER_INTEGER, "0"}, {"compute", SINTER_INTEGER, "0"}};

constexpr sinter_plugin_op operators[] = {
    {"t", "Scale", 1, 1, 1, 1, 1, by, 1, like_x, scale, nullptr, 1},
    {"t", "Scale", 3, 1, 1, 1, 1, nullptr, 0, like_x, scale, nullptr, 0},
    {"t", "Extents", 1, 1, 1, 1, 1, nullptr, 0, extents_infer, extents_compute, nullptr, 0},
    {"t", "Positive", 1, 1, 1, 1, 3, lie, 1, positive_infer, positive_compute, nullptr, 0},
    {"t", "Join", 1, 1, 2, 1, 1, between, 1, join_infer, join_compute, nullptr, 0},
    {"t", "Kinds", 1, 0, -1, 1, 1, kinds, 6, six_doubles, kinds_compute, nullptr, 0},
    {"t", "Troubled", 1, 1, 1, 1, 1, troubles, 2, troubled, troubled, nullptr, 0},
    {"t", "Unset", 1, 1, 1, 1, 1, nullptr, 0, nothing_set, nothing_set, nullptr, 0},
};
constexpr sinter_plugin plugin = {SINTER_PLUGIN_ABI, "tests", "1", operators, std::size(operators)};

class Plugin : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(sinter_register_plugin(&plugin), SINTER_OK) << sinter_error_message(); }
};

std::string call(const std::string& name, const std::string& attributes = "", int version = 1) {
  return "Custom{domain=\"t\", name=\"" + name + "\", version=" + std::to_string(version) +
         ", plugin=\"tests 1\", attributes=" + sinter::quoted(attributes) + "}";
}

std::shared_ptr<const Engine> loaded(const std::vector<std::byte>& bytes) {
  return std::make_shared<const Engine>(
      load_engine(bytes, std::make_shared<std::vector<std::byte>>(bytes), {1, false}));
}

std::vector<std::byte> saved(const std::string& graph) {
  const Target target = build_target(parse_module(graph));
  const Target* targets[] = {&target};
  return save_engine(targets);
}

std::vector<Tensor> run(const std::shared_ptr<const Engine>& engine, const std::vector<Tensor>& inputs) {
  Context context(engine);
  for (size_t i = 0; i < inputs.size(); ++i) context.set_input(i, Box(inputs[i]));
  context.run();
  std::vector<Tensor> out;
  for (size_t o = 0; o < engine->outputs().size(); ++o) out.push_back(context.output(o).tensor);
  return out;
}

// By definition, and as an engine that was saved and loaded: the same results.
std::vector<Tensor> results(const std::string& graph, const std::vector<Tensor>& inputs) {
  const Module module = parse_module(graph);
  std::vector<Box> boxes(inputs.begin(), inputs.end());
  const std::vector<Box> expected = Evaluation(module, boxes).outputs();
  std::vector<Tensor> made = run(loaded(saved(graph)), inputs);
  for (size_t o = 0; o < made.size(); ++o) EXPECT_TRUE(made[o].identical(expected[o].tensor)) << "output " << o;
  return made;
}

template <typename F>
Error error_of(F body) {
  try {
    body();
  } catch (const Error& e) {
    return e;
  }
  return Error(Code::ok, "no error");
}

void expect_error(const Error& e, Code code, std::string_view part) {
  EXPECT_EQ(e.code(), code) << e.what();
  EXPECT_NE(std::string_view(e.what()).find(part), std::string_view::npos) << e.what();
}

// ---- Tables ----

void expect_table_refused(const sinter_plugin& table, std::string_view part) {
  EXPECT_EQ(sinter_register_plugin(&table), SINTER_INVALID_ARGUMENT) << part;
  EXPECT_NE(std::string_view(sinter_error_message()).find(part), std::string_view::npos) << sinter_error_message();
}

TEST_F(Plugin, TablesThatMakeNoSense) {
  EXPECT_EQ(sinter_register_plugin(nullptr), SINTER_INVALID_ARGUMENT);
  const sinter_plugin_op good = {"u", "Good", 1, 1, 1, 1, 1, nullptr, 0, like_x, scale, nullptr, 0};
  expect_table_refused({SINTER_PLUGIN_ABI + 1, "p", "1", &good, 1}, "plugin interface 2");
  expect_table_refused({SINTER_PLUGIN_ABI, nullptr, "1", &good, 1}, "name is missing");
  expect_table_refused({SINTER_PLUGIN_ABI, "p", "", &good, 1}, "version is missing");
  expect_table_refused({SINTER_PLUGIN_ABI, "p", "1", nullptr, 1}, "no operators");
  expect_table_refused({SINTER_PLUGIN_ABI, "p", "1", &good, 0}, "no operators");
  expect_table_refused({SINTER_PLUGIN_ABI, "p", "1", &good, SIZE_MAX}, "operators");
  const auto refused = [&](auto change, std::string_view part) {
    sinter_plugin_op two[] = {good, good};
    change(two[1]);
    expect_table_refused({SINTER_PLUGIN_ABI, "p", "1", two, 2}, part);
  };
  refused([](sinter_plugin_op& op) { op.name = nullptr; }, "no name");
  refused([](sinter_plugin_op& op) { op.domain = nullptr; }, "domain is null");
  refused([](sinter_plugin_op& op) { op.infer = nullptr; }, "no infer or no compute");
  refused([](sinter_plugin_op& op) { op.compute = nullptr; }, "no infer or no compute");
  refused([](sinter_plugin_op& op) { op.since_version = 0; }, "version must be 1 or more");
  refused([](sinter_plugin_op& op) { op.min_inputs = 2; }, "numbers of inputs");
  refused([](sinter_plugin_op& op) { op.min_outputs = 0; }, "numbers of inputs");
  refused([](sinter_plugin_op& op) { op.max_inputs = -2; }, "numbers of inputs");
  refused([](sinter_plugin_op& op) { op.attribute_count = 1; }, "attributes are null");
  refused([](sinter_plugin_op&) {}, "already there");
  refused(
      [](sinter_plugin_op& op) {
        op.domain = "";
        op.name = "Relu";
      },
      "an operator of ONNX");
  refused(
      [](sinter_plugin_op& op) {
        op.domain = "ai.onnx";
        op.name = "Relu";
      },
      "an operator of ONNX");
  const auto attribute_refused = [&](sinter_attribute a, std::string_view part) {
    refused(
        [&](sinter_plugin_op& op) {
          op.name = "Other";
          op.attributes = &a;
          op.attribute_count = 1;
        },
        part);
  };
  attribute_refused({nullptr, SINTER_INTEGER, "1"}, "no name of letters");
  attribute_refused({"a b", SINTER_INTEGER, "1"}, "no name of letters");
  attribute_refused({"a", SINTER_INTEGER, "1.5"}, "initial value of attribute 'a' is not an integer");
  attribute_refused({"a", SINTER_INTEGERS, "[1"}, "initial value of attribute 'a' is not a list of integers");
  attribute_refused({"a", 6, "1"}, "unknown kind");
  // Nothing of any of them was kept.
  int64_t oldest = 1;
  EXPECT_EQ(find_custom("u", "Good", 1, oldest), nullptr);
  EXPECT_EQ(oldest, 0);
}

TEST_F(Plugin, AgainIsHarmlessAnotherIsNot) {
  EXPECT_EQ(sinter_register_plugin(&plugin), SINTER_OK);
  sinter_plugin_op changed[] = {operators[2], operators[0]};
  changed[0].name = "NotKept";
  changed[1].compute = extents_compute;
  expect_table_refused({SINTER_PLUGIN_ABI, "others", "2", changed, 2}, "t.Scale (version 1) of plugin 'others 2' is");
  int64_t oldest = 0;
  EXPECT_EQ(find_custom("t", "NotKept", 1, oldest), nullptr);
}

TEST_F(Plugin, NewestVersionThatIsNotTooNew) {
  int64_t oldest = 0;
  EXPECT_EQ(find_custom("t", "Scale", 2, oldest)->version, 1);
  EXPECT_EQ(find_custom("t", "Scale", 3, oldest)->version, 3);
  EXPECT_EQ(find_custom("t", "Scale", 99, oldest)->version, 3);
  EXPECT_EQ(find_custom("t", "Scale", 0, oldest), nullptr);
  EXPECT_EQ(oldest, 1);
}

TEST_F(Plugin, LibrariesThatAreNone) {
  const auto refused = [](const char* path, sinter_code code, std::string_view part) {
    EXPECT_EQ(sinter_load_plugins(path), code);
    EXPECT_NE(std::string_view(sinter_error_message()).find(part), std::string_view::npos) << sinter_error_message();
  };
  refused(nullptr, SINTER_INVALID_ARGUMENT, "path is null");
  refused("", SINTER_INVALID_ARGUMENT, "path is empty");
  refused("missing.so", SINTER_IO, "cannot load plugins: ./missing.so");
  refused(SINTER_SOURCE_DIR "/README.md", SINTER_IO, "cannot load plugins");
}

// ---- Shapes ----

TEST_F(Plugin, ExtentsOfEveryForm) {
  for (const int64_t n : {5, 2, 1, 0}) {
    const std::string extent = std::to_string(n);
    for (const std::string& shape : {std::string("N"), extent}) {
      const Tensor y = results("graph(%x : f32[" + shape + "]) -> (%y) { %y = " + call("Extents") + "(%x) }",
                               {random_tensor({n})})[0];
      EXPECT_EQ(y.dims(),
                (Dims{(n + 1) * 2, n / 2, (n + 1) / 2, std::min<int64_t>(n, 3), std::max<int64_t>(n, 3) - 1}));
    }
  }
}

TEST_F(Plugin, OneContextManyShapesAndRanks) {
  const auto engine = loaded(saved("graph(%x : f32[N, M]) -> (%y) { %a = Relu(%x)\n %b = " + call("Scale", "by=3") +
                                   "(%a)\n %y = Add(%b, %b) }"));
  EXPECT_EQ(engine->target().kernels.size() >= 2, true);
  Context context(engine);
  for (const Dims& dims : {Dims{2, 3}, Dims{1, 1}, Dims{0, 4}, Dims{33, 7}, Dims{2, 3}}) {
    const Tensor x = random_tensor(dims, 7);
    context.set_input(0, Box(x));
    context.run();
    const Tensor y = context.output(0).tensor;
    ASSERT_EQ(y.dims(), dims);
    for (int64_t i = 0; i < x.count(); ++i) EXPECT_FLOAT_EQ(y.as<float>()[i], 6 * std::max(0.0f, x.as<float>()[i]));
  }
  const std::string any = "graph(%x : f32[..]) -> (%y) { %y = " + call("Scale") + "(%x) }";
  for (const Dims& dims : {Dims{}, Dims{3}, Dims{2, 1, 2}}) {
    const Tensor x = random_tensor(dims), y = results(any, {x})[0];
    ASSERT_EQ(y.dims(), dims);
    for (int64_t i = 0; i < x.count(); ++i) EXPECT_EQ(y.as<float>()[i], 2 * x.as<float>()[i]);
  }
  // Where the rank is unknown, what infer says of extents is said when it runs.
  const std::string open = "graph(%x : f32[..]) -> (%y) { %y = " + call("Positive") + "(%x) }";
  EXPECT_EQ(results(open, {reals({4}, {1, -1, 2, 0})})[0].dims(), (Dims{2}));
  expect_error(error_of([&] {
                 run(loaded(saved(open)), {reals({1, 1}, {1})});
               }),
               Code::model_invalid, "t.Positive: input 0 has rank 2, it must have 1");
}

TEST_F(Plugin, ExtentsThatAreFoundOut) {
  const Tensor x = reals({5}, {-1, 2, 0, 3, 4});
  const auto graph = [](const std::string& made, const std::string& outputs) {
    return "graph(%x : f32[N]) -> (" + outputs + ") { " + made + " = " + call("Positive") + "(%x) }";
  };
  EXPECT_TRUE(results(graph("%a", "%a"), {x})[0].identical(reals({3}, {2, 3, 4})));
  const std::vector<Tensor> all = results(graph("%a, %b, %c", "%a, %b, %c"), {x});
  EXPECT_TRUE(all[1].identical(reals({2, 3}, {2, 3, 4, 2, 3, 4})));
  EXPECT_TRUE(all[2].identical(reals({}, {1})));
  // Outputs that nobody reads, the one with the extent among them.
  EXPECT_EQ(results(graph("%a, %b", "%b"), {x})[0].dims(), (Dims{2, 3}));
  EXPECT_TRUE(results(graph("%a, %b, %c", "%c"), {x})[0].identical(reals({}, {1})));
  // What follows is sized when it runs.
  const std::string more = "graph(%x : f32[N]) -> (%y) { %a = " + call("Positive") + "(%x)\n %b = " + call("Scale") +
                           "(%a)\n %y = Concat{axis=0}(%b, %x) }";
  const auto engine = loaded(saved(more));
  EXPECT_TRUE(run(engine, {x})[0].identical(reals({8}, {4, 6, 8, -1, 2, 0, 3, 4})));
  EXPECT_EQ(run(engine, {reals({2}, {-1, -1})})[0].dims(), (Dims{2}));
}

TEST_F(Plugin, ResultsThatAreNotAsSaid) {
  const auto failing = [](int how) {
    return error_of([&] {
      run(loaded(
              saved("graph(%x : f32[N]) -> (%y) { %y = " + call("Positive", "lie=" + std::to_string(how)) + "(%x) }")),
          {reals({3}, {1, 2, 3})});
    });
  };
  expect_error(failing(1), Code::fault, "output 0 was not made");
  expect_error(failing(2), Code::fault, "extent 0 of output 0 was found to be 4, infer said 0 to 3");
  expect_error(failing(3), Code::fault, "output 0 is made with extents [3, 1], infer excludes them");
  expect_error(failing(4), Code::fault, "made with extents [-1]");
  expect_error(failing(5), Code::model_invalid, "found out and gives it another extent");
  expect_error(failing(6), Code::fault, "a second time");
  expect_error(error_of([] { parse_module("graph(%x : f32[2]) -> (%y) { %y = " + call("Unset") + "(%x) }"); }),
               Code::model_invalid, "gives output 0 no type");
}

// ---- Errors ----

TEST_F(Plugin, ErrorsOfInfer) {
  const auto failing = [](int how) {
    return error_of([&] {
      parse_module("graph(%x : f32[3]) -> (%y) { %y = " + call("Troubled", "infer=" + std::to_string(how)) + "(%x) }");
    });
  };
  expect_error(failing(1), Code::model_invalid, "t.Troubled: number 7 of x");
  expect_error(failing(2), Code::model_invalid, "infer failed (3) without saying why");
  expect_error(failing(3), Code::model_invalid, "infer threw an exception: thrown");
  expect_error(failing(4), Code::model_invalid, "infer threw an exception");
  expect_error(failing(5), Code::invalid_argument, "attribute 'infer' is an integer and is read as something else");
  expect_error(failing(6), Code::invalid_argument, "no attribute 'nothing'");
  expect_error(failing(7), Code::invalid_argument, "only compute may call");
  expect_error(failing(9), Code::invalid_argument, "there is no output 9");
  expect_error(failing(10), Code::invalid_argument, "no dtype 99");
  expect_error(failing(11), Code::limit, "rank 17");
  expect_error(failing(12), Code::model_invalid, "input 0 has rank 1, it is asked for axis 5");
  expect_error(failing(13), Code::model_invalid, "divided by 0");
  expect_error(failing(14), Code::model_invalid, "would be -2");
  expect_error(failing(15), Code::invalid_argument, "is null");
  expect_error(failing(16), Code::invalid_argument, "only compute may call");
  expect_error(failing(18), Code::model_invalid, "extent 0 is 77: 3 and 77 differ");
  expect_error(failing(19), Code::model_invalid, "it failed");
  expect_error(failing(20), Code::limit, "");
}

TEST_F(Plugin, ErrorsOfCompute) {
  const auto failing = [](int how) {
    return error_of([&] {
      run(loaded(saved("graph(%x : f32[N]) -> (%y) { %y = " + call("Troubled", "compute=" + std::to_string(how)) +
                       "(%x) }")),
          {reals({3}, {1, 2, 3})});
    });
  };
  expect_error(failing(1), Code::fault, "t.Troubled: number 7 of x");
  expect_error(failing(2), Code::fault, "compute failed (3) without saying why");
  expect_error(failing(3), Code::fault, "compute threw an exception: thrown");
  expect_error(failing(4), Code::fault, "compute threw an exception");
  expect_error(failing(7), Code::fault, "made with extents []");
  expect_error(failing(8), Code::invalid_argument, "only infer may call");
  expect_error(failing(16), Code::invalid_argument, "output 0 has no string 0");
  expect_error(failing(17), Code::invalid_argument, "input 0 has no string 0");
  // Extents that must be equal are judged when they are known.
  const auto engine = loaded(saved("graph(%x : f32[N]) -> (%y) { %y = " + call("Troubled", "infer=18") + "(%x) }"));
  EXPECT_EQ(run(engine, {random_tensor({77})})[0].dims(), (Dims{77}));
  expect_error(error_of([&] { run(engine, {random_tensor({3})}); }), Code::invalid_argument, "extent 0 is 77");
}

TEST_F(Plugin, NumbersAndKindsOfInputs) {
  const auto failing = [](const std::string& text) { return error_of([&] { parse_module(text); }); };
  expect_error(failing("graph(%x : f32[2]) -> (%y) { %y = " + call("Scale") + "(%x, %x) }"), Code::model_invalid,
               "t.Scale: 2 inputs, it takes 1");
  expect_error(failing("graph(%x : f32[2]) -> (%y) { %y = " + call("Scale") + "() }"), Code::model_invalid,
               "0 inputs, it takes 1");
  expect_error(failing("graph(%x : f32[2]) -> (%y) { %y, %z = " + call("Scale") + "(%x) }"), Code::model_invalid,
               "2 outputs, it has 1");
  expect_error(failing("graph(%x : string[2]) -> (%y) { %y = " + call("Join") + "(_, %x) }"), Code::model_invalid,
               "input 0 is missing");
  expect_error(failing("graph(%x : seq(f32[2])) -> (%y) { %y = " + call("Scale") + "(%x) }"), Code::model_invalid,
               "input 0 is no tensor");
  expect_error(failing("graph(%x : f32[2]) -> (%y) { %y = " + call("Join") + "(%x) }"), Code::model_invalid,
               "input 0 has dtype 11");
}

// ---- Values ----

TEST_F(Plugin, Strings) {
  const std::string graph =
      "graph(%x : string[N], %z : string[]) -> (%y, %w) { %y = " + call("Join", "between=" + sinter::quoted("\"+\"")) +
      "(%x)\n %w = " + call("Join") + "(%x, %z) }";
  const std::vector<Tensor> y = results(graph, {texts({3}, {"a", "", "c"}), texts({}, {"z:"})});
  EXPECT_EQ(y[0].strings()[0], "a\"+\"\"+\"c");
  EXPECT_EQ(y[1].strings()[0], "z:a, , c");
}

TEST_F(Plugin, AttributesOfEveryKind) {
  const auto kinds_of = [](const std::string& attributes) {
    const std::vector<double> y =
        results("graph(%x : f32[N]) -> (%y) { %y = " + call("Kinds", attributes) + "(%x) }", {random_tensor({1})})[0]
            .to_reals();
    return y;
  };
  EXPECT_EQ(kinds_of(""), (std::vector<double>{-3, INFINITY, 1212, 7, 0, 3}));
  EXPECT_EQ(kinds_of("reals=[-inf, 1e300], text=\"a\\x00b\\\"\", integers=[], integer=9223372036854775807, texts=[]"),
            (std::vector<double>{0x1p63, INFINITY, 401, 0, -INFINITY, 0}));
  const auto failing = [](const std::string& attributes) {
    return error_of([&] { parse_module("graph(%x : f32[1]) -> (%y) { %y = " + call("Kinds", attributes) + "(%x) }"); });
  };
  expect_error(failing("nothing=1"), Code::model_invalid, "t.Kinds: no attribute is named 'nothing'");
  expect_error(failing("integer=1, integer=1"), Code::model_invalid, "'integer' is given twice");
  expect_error(failing("integer=x"), Code::invalid_argument, "expected an integer");
  expect_error(failing("integer=1 2"), Code::invalid_argument, "text after the attributes");
  expect_error(failing("texts=[\"a\""), Code::invalid_argument, "expected ']'");
  // Texts of values read back.
  int64_t oldest = 0;
  const CustomOperator& op = *find_custom("t", "Kinds", 1, oldest);
  const CustomValues values = parse_custom(op, "reals=[0.1, nan], text=\"\\n\\xff\"");
  EXPECT_EQ(custom_text(op, parse_custom(op, custom_text(op, values))), custom_text(op, values));
}

TEST_F(Plugin, ConstantsAreComputedWhileBuilding) {
  const Module module =
      parse_module("graph(%x : f32[2]) -> (%y) { %a = " + call("Scale") + "(f32[2](1, 2))\n %y = Add(%a, %x) }");
  const Target target = build_target(parse_module(to_text(module)));
  for (const Problem& problem : target.problems) EXPECT_EQ(to_text(problem).find("Custom"), std::string::npos);
  EXPECT_TRUE(run(engine_of(parse_module(to_text(module))), {reals({2}, {1, 1})})[0].identical(reals({2}, {3, 5})));
}

// In bodies, whose values are sized in each iteration.
TEST_F(Plugin, InLoopsAndBranches) {
  const std::string graph =
      "graph(%x : f32[N], %n : i64[], %c : bool[]) -> (%y, %z) {\n"
      "  %y = Loop{carried=1, counted=true}(%n, _, %x, %x)\n"
      "    graph(%i : i64[], %k : bool[], %v : f32[..], %o : f32[N]) -> (%k, %w) {\n"
      "      %p = " +
      call("Positive") + "(%v)\n      %w = Concat{axis=0}(%p, %o)\n    }\n  %z = If(%c, %x)\n" +
      "    graph(%a : f32[N]) -> (%b) {\n      %b = " + call("Scale") + "(%a)\n    }\n" +
      "    graph(%a : f32[N]) -> (%b) {\n      %b = " + call("Positive") + "(%a)\n    }\n}";
  const Tensor x = reals({3}, {1, -1, 2});
  const auto flag = [](bool b) { return integers({}, {b}, DType::boolean); };
  const std::vector<Tensor> yes = results(graph, {x, integers({}, {2}), flag(true)});
  EXPECT_TRUE(yes[0].identical(reals({7}, {1, 2, 1, 2, 1, -1, 2})));
  EXPECT_TRUE(yes[1].identical(reals({3}, {2, -2, 4})));
  EXPECT_TRUE(results(graph, {x, integers({}, {0}), flag(false)})[1].identical(reals({2}, {1, 2})));
}

TEST_F(Plugin, RowsComputeWhatTheDefinitionDoes) {
  for (const char* text :
       {"(f32[s0, 7]) { %(0); } -> (1)", "(f32[3, s0, 2]) { %(0); } -> (1)", "(f32[0, 5]) { %(0); } -> (1)"}) {
    std::string problem = text;
    problem.replace(problem.find('%'), 1, call("Scale", "by=0.5"));
    const Problem p = parse_problem(problem);
    const int64_t symbols[] = {6};
    int rows = 0;
    for (const Kernel* kernel : cpu_backend().kernels())
      for (const int threads : {1, 3})
        if (kernel->supports(*kernel, p, this_machine(threads))) {
          ++rows;
          const Answer answer = accept(p, *kernel, this_machine(threads), symbols, 1);
          EXPECT_TRUE(answer) << kernel->name << ": " << answer.reason();
        }
    EXPECT_EQ(rows, 2);
  }
}

TEST_F(Plugin, ManyThreadsAtOnce) {
  const auto engine = loaded(
      saved("graph(%x : f32[N]) -> (%y) { %a = " + call("Scale") + "(%x)\n %y = " + call("Positive") + "(%a) }"));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      Context context(engine);
      for (int64_t n = 1; n < 60; ++n) {
        const Tensor x = random_tensor({n}, static_cast<uint64_t>(n * 4 + t));
        int64_t positive = 0;
        for (int64_t i = 0; i < n; ++i) positive += x.as<float>()[i] > 0;
        context.set_input(0, Box(x));
        context.run();
        wrong += context.extents(0) != Dims{positive};
        wrong += sinter_register_plugin(&plugin) != SINTER_OK;
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

// ---- Engines ----

std::vector<std::byte> changed(std::vector<std::byte> bytes, std::string_view from, std::string_view to) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_EQ(from.size(), to.size());
  size_t n = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, at + 1), ++n)
    std::memcpy(bytes.data() + at, to.data(), to.size());
  EXPECT_GT(n, 0u) << from;
  rehash_engine(bytes);
  return bytes;
}

TEST_F(Plugin, EnginesSayWhatIsMissing) {
  const std::vector<std::byte> bytes = saved("graph(%x : f32[N]) -> (%y, %z) { %y = " + call("Scale", "by=2") +
                                             "(%x)\n %z = " + call("Positive") + "(%x) }");
  const Error missing = error_of([&] { loaded(changed(changed(bytes, "Scale", "Skale"), "Positive", "Pozitive")); });
  expect_error(missing, Code::engine_incompatible,
               "t.Skale (version 1) of plugin 'tests 1' is not there; operator t.Pozitive");
  EXPECT_NE(missing.origin().hint.find("--plugins"), std::string::npos);
  expect_error(error_of([&] { loaded(changed(bytes, "plugin=\"tests 1\"", "plugin=\"tests 0\"")); }),
               Code::engine_incompatible, "wanted of plugin 'tests 0', loaded is plugin 'tests 1'");
  expect_error(error_of([&] { loaded(changed(bytes, "by=2", "bi=2")); }), Code::engine_invalid,
               "no attribute is named 'bi'");
}

// Plans that somebody made up: whatever they say of operators, types and attributes, they load or are refused.
TEST_F(Plugin, MadeUpEnginesAreRefusedOrRun) {
  const std::vector<std::byte> bytes =
      saved("graph(%x : f32[N]) -> (%y, %z, %w) { %y = " + call("Scale", "by=0.25") +
            "(%x)\n %z = " + call("Positive") + "(%y)\n %w = " + call("Extents") + "(%z) }");
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t start = text.find("problems {"), end = text.find("sources {", start);
  ASSERT_NE(end, std::string_view::npos);
  std::mt19937_64 random(1);
  constexpr std::string_view letters = "0123456789{}[](),;=\"@_ \\-abefilnostSEPCu";
  int refused = 0, ran = 0, failed = 0;
  for (int n = 0; n < 3000; ++n) {
    std::vector<std::byte> copy = bytes;
    for (uint64_t k = 0; k <= random() % 3; ++k)
      copy[start + random() % (end - start)] = static_cast<std::byte>(letters[random() % letters.size()]);
    rehash_engine(copy);
    std::shared_ptr<const Engine> engine;
    try {
      engine = loaded(copy);
    } catch (const Error&) {
      ++refused;
      continue;
    }
    try {
      run(engine, {random_tensor({9})});
      ++ran;
    } catch (const Error&) {
      ++failed;
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(ran, 10);
  EXPECT_EQ(refused + ran + failed, 3000);
}

}  // namespace
}  // namespace sinter
