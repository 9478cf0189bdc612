// Rows of the CPU backend that move, pick, scatter and select, against the definitions; hostile indices; empty tensors.
#include <cmath>

#include "backend/accept.h"
#include "op_testing.h"
#include "ops/indexing.h"
#include "ops/movement.h"
#include "ops/selection.h"

namespace sinter {
namespace {

using namespace testing;

DeviceSpec device(int threads) {
  DeviceSpec d = this_machine(threads);
  d.threads = threads;
  return d;
}

struct Case {
  std::string_view op;
  Attrs attrs;
  std::vector<Type> types;
  std::vector<std::optional<Tensor>> host = {};  // contents of operands
  uint16_t outputs = 1;
};

Problem problem_for(const Case& c) {
  Problem p;
  Stage stage{&op_named(c.op), c.attrs, {}, c.outputs};
  if (stage.attrs.empty() && stage.op->fields) stage.attrs = Attrs::defaults(stage.op->fields());
  for (size_t i = 0; i < c.types.size(); ++i) {
    if (c.types[i].kind == Type::Kind::invalid) {
      stage.inputs.push_back(absent_operand);
      continue;
    }
    Operand operand{c.types[i], Layout::any(), false, false, {}};
    if (i < c.host.size() && c.host[i]) {
      operand.host = true;
      operand.contents = *c.host[i];
      operand.layout = Layout();
    }
    stage.inputs.push_back(static_cast<uint16_t>(p.operands.size()));
    p.operands.push_back(std::move(operand));
  }
  p.stages.push_back(std::move(stage));
  for (uint16_t o = 0; o < c.outputs; ++o)
    p.results.push_back({static_cast<uint16_t>(p.operands.size() + o), Layout::any()});
  complete(p);
  return p;
}

void expect_accepted(std::string_view name, const Case& c) {
  const Kernel* kernel = find_kernel(name);
  ASSERT_NE(kernel, nullptr) << name;
  const Problem problem = problem_for(c);
  SCOPED_TRACE(to_text(problem));
  const Answer supported = kernel->supports(*kernel, problem, device(1));
  ASSERT_TRUE(supported) << supported.reason();
  for (int threads : {1, 3})
    for (uint64_t seed : {1, 2}) {
      const Answer answer = accept(problem, *kernel, device(threads), {}, seed);
      EXPECT_TRUE(answer) << answer.reason();
    }
}

Type type(DType dtype, Shape shape) { return Type::tensor(dtype, std::move(shape)); }
Type f32(Shape shape) { return type(DType::f32, std::move(shape)); }
Type i64(Shape shape) { return type(DType::i64, std::move(shape)); }

TEST(LineKernels, Copies) {
  const auto l = [](int64_t n) { return i64({Dim(n)}); };
  expect_accepted("cpu/copy", {"Transpose", TransposeAttrs{{2, 0, 1}}, {f32({5, 37, 41})}});
  expect_accepted("cpu/copy", {"Transpose", {}, {f32({})}});
  expect_accepted("cpu/copy", {"Transpose", {}, {f32({3, 0})}});
  expect_accepted("cpu/copy", {"Expand", {}, {type(DType::f16, {5, 1}), l(3)}, {{}, list({2, 1, 7})}});
  expect_accepted("cpu/copy", {"Expand", {}, {f32({1}), l(1)}, {{}, list({0})}});
  expect_accepted("cpu/copy", {"Tile", {}, {type(DType::u8, {3, 5}), l(2)}, {{}, list({2, 4})}});
  expect_accepted("cpu/copy", {"Tile", {}, {f32({3, 0}), l(2)}, {{}, list({2, 4})}});
  expect_accepted("cpu/copy", {"Concat", ConcatAttrs{-1}, {f32({2, 3}), f32({2, 0}), f32({2, 4})}});
  expect_accepted("cpu/copy", {"Split", SplitAttrs{0}, {f32({6, 3}), l(3)}, {{}, list({2, 0, 4})}, 3});
  for (int64_t start : {-7, -2, 0, 1, 6})
    for (int64_t end : {-7, -1, 0, 3, 9})
      for (int64_t step : {-2, -1, 1, 3})
        expect_accepted("cpu/copy", {"Slice",
                                     {},
                                     {f32({3, 5}), l(1), l(1), l(1), l(1)},
                                     {{}, list({start}), list({end}), list({-1}), list({step})}});
  expect_accepted("cpu/copy", {"Slice",
                               {},
                               {f32({0, 5}), l(1), l(1), l(1), l(1)},
                               {{}, list({-1}), list({INT64_MIN}), list({0}), list({INT64_MIN})}});
}

TEST(LineKernels, Pad) {
  for (const PadMode mode : {PadMode::constant, PadMode::reflect, PadMode::edge, PadMode::wrap})
    for (int64_t before : {-2, 0, 1, 9})
      for (int64_t after : {-1, 0, 7}) {
        expect_accepted("cpu/pad",
                        {"Pad", PadAttrs{mode}, {f32({2, 4}), i64({4}), f32({})}, {{}, list({1, before, 0, after})}});
        expect_accepted("cpu/pad", {"Pad",
                                    PadAttrs{mode},
                                    {type(DType::i8, {4, 2}), i64({2}), Type(), i64({1})},
                                    {{}, list({before, after}), {}, list({-2})}});
      }
  expect_accepted("cpu/pad", {"Pad", {}, {f32({0, 2}), i64({4}), f32({})}, {{}, list({1, 0, 1, 0})}});
  expect_accepted("cpu/pad", {"Pad", {}, {f32({}), i64({0}), f32({})}, {{}, list({})}});
  expect_accepted("cpu/pad", {"Pad", {}, {f32({3}), i64({0}), Type(), i64({0})}, {{}, list({}), {}, list({})}});
  expect_accepted("cpu/pad", {"Pad", PadAttrs{PadMode::edge}, {f32({0, 2}), i64({4})}, {{}, list({0, 1, 0, 1})}});
}

TEST(LineKernels, Triangles) {
  for (const bool upper : {false, true})
    for (int64_t k : {-9, -1, 0, 2, 9}) {
      expect_accepted("cpu/trilu", {"Trilu", TriluAttrs{upper}, {f32({3, 4, 6}), i64({})}, {{}, integers({}, {k})}});
      expect_accepted("cpu/trilu",
                      {"Trilu", TriluAttrs{upper}, {type(DType::boolean, {7, 2}), i64({})}, {{}, integers({}, {k})}});
    }
  expect_accepted("cpu/trilu", {"Trilu", {}, {f32({2, 0, 3})}});
  expect_accepted("cpu/trilu", {"Trilu", {}, {f32({2, 3, 0})}});
}

TEST(LineKernels, Gathers) {
  for (const DType dtype : {DType::u8, DType::f16, DType::f32, DType::i64, DType::c128}) {
    expect_accepted("cpu/gather", {"Gather", GatherAttrs{1}, {type(dtype, {3, 5, 7}), i64({4, 2})}});
    expect_accepted("cpu/gather_elements", {"GatherElements", GatherAttrs{-1}, {type(dtype, {3, 5}), i64({2, 90})}});
    expect_accepted("cpu/gather_nd", {"GatherND", GatherNDAttrs{1}, {type(dtype, {3, 5, 6, 2}), i64({3, 4, 2})}});
  }
  expect_accepted("cpu/gather", {"Gather", {}, {f32({5}), type(DType::i32, {})}});
  expect_accepted("cpu/gather", {"Gather", {}, {f32({5, 2}), i64({0})}});
  expect_accepted("cpu/gather_elements", {"GatherElements", {}, {f32({7, 40, 3}), type(DType::i32, {9, 40, 2})}});
  expect_accepted("cpu/gather_elements", {"GatherElements", GatherAttrs{1}, {f32({7, 4, 3}), i64({5, 9, 3})}});
  expect_accepted("cpu/gather_elements", {"GatherElements", {}, {f32({0, 3}), i64({0, 3})}});
  expect_accepted("cpu/gather_nd", {"GatherND", {}, {f32({4, 5}), i64({30, 2})}});
  expect_accepted("cpu/gather_nd", {"GatherND", {}, {f32({4, 5}), i64({3, 0})}});
  expect_accepted("cpu/gather_nd", {"GatherND", {}, {f32({4, 0}), i64({3, 1})}});
}

TEST(LineKernels, Scatters) {
  for (const Reduction r : {Reduction::none, Reduction::add, Reduction::mul, Reduction::max, Reduction::min})
    for (const DType dtype : {DType::f32, DType::f64, DType::i32, DType::i64}) {
      expect_accepted(
          "cpu/scatter_elements",
          {"ScatterElements", ScatterElementsAttrs{0, r}, {type(dtype, {5, 70}), i64({8, 70}), type(dtype, {8, 70})}});
      expect_accepted("cpu/scatter_elements", {"ScatterElements",
                                               ScatterElementsAttrs{-2, r},
                                               {type(dtype, {5, 7, 3}), i64({4, 9, 2}), type(dtype, {4, 9, 2})}});
      expect_accepted("cpu/scatter_nd",
                      {"ScatterND", ScatterNDAttrs{r}, {type(dtype, {6, 200}), i64({9, 1}), type(dtype, {9, 200})}});
      expect_accepted("cpu/scatter_nd",
                      {"ScatterND", ScatterNDAttrs{r}, {type(dtype, {6, 3}), i64({4, 3, 2}), type(dtype, {4, 3})}});
    }
  expect_accepted("cpu/scatter_elements",
                  {"ScatterElements", {}, {type(DType::boolean, {4}), i64({0}), type(DType::boolean, {0})}});
  expect_accepted("cpu/scatter_nd", {"ScatterND", {}, {f32({0, 3}), i64({0, 1}), f32({0, 3})}});
  expect_accepted("cpu/scatter_nd", {"ScatterND", {}, {f32({2}), i64({3, 0}), f32({3, 2})}});
}

TEST(LineKernels, Selections) {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8, DType::u8, DType::i32})
    for (const bool flag : {false, true}) {
      for (int64_t k : {0, 1, 3, 40})
        expect_accepted("cpu/top_k",
                        {"TopK", TopKAttrs{1, flag, true}, {type(dtype, {3, 40, 5}), i64({1})}, {{}, list({k})}, 2});
      for (std::string_view op : {"ArgMax", "ArgMin"}) {
        expect_accepted("cpu/arg_extreme", {op, ArgAttrs{1, true, flag}, {type(dtype, {3, 40, 70})}});
        expect_accepted("cpu/arg_extreme", {op, ArgAttrs{-1, false, flag}, {type(dtype, {3, 40})}});
      }
    }
  expect_accepted("cpu/top_k", {"TopK", {}, {f32({2, 500}), i64({1})}, {{}, list({4})}, 2});
  expect_accepted("cpu/arg_extreme", {"ArgMax", ArgAttrs{1, true, false}, {f32({0, 4})}});
  for (const DType dtype : {DType::f32, DType::f64, DType::i32, DType::i64})
    for (std::string_view op : {"CumSum", "CumProd"})
      for (const bool exclusive : {false, true})
        for (const bool reverse : {false, true}) {
          const CumulativeAttrs a{exclusive, reverse};
          expect_accepted("cpu/cumulative", {op, a, {type(dtype, {3, 9, 70}), i64({})}, {{}, integers({}, {1})}});
          expect_accepted("cpu/cumulative", {op, a, {type(dtype, {6, 9}), i64({1})}, {{}, list({-1})}});
        }
  expect_accepted("cpu/cumulative", {"CumSum", {}, {f32({3, 0}), i64({})}, {{}, integers({}, {0})}});
}

// Host operands in symbols: extents from inference and addresses from bind fit together for all values.
TEST(LineKernels, SymbolicHostOperands) {
  for (int64_t step : {-2, -1, 1, 2}) {
    Problem p;
    const Dim n = Dim::symbol(p.symbols.add({.name = "n"})), s = Dim::symbol(p.symbols.add({.name = "s"})),
              e = Dim::symbol(p.symbols.add({.name = "e"}));
    const auto known = [&](Contents contents) {
      p.operands.push_back({i64({1}), Layout(), false, true, std::move(contents)});
    };
    p.operands.push_back({f32({n, 3}), Layout(), false, false, {}});
    known(std::vector<Dim>{s - 5});
    known(std::vector<Dim>{e - 5});
    known(list({0}));
    known(list({step}));
    p.stages.push_back({&op_named("Slice"), {}, {0, 1, 2, 3, 4}, 1});
    p.results.push_back({5, Layout()});
    complete(p);
    const Kernel* kernel = find_kernel("cpu/copy");
    ASSERT_TRUE(kernel->supports(*kernel, p, device(1)));
    for (int64_t extent = 0; extent < 4; ++extent)
      for (int64_t start = 0; start < 11; ++start)
        for (int64_t end = 0; end < 11; ++end) {
          const int64_t symbols[] = {extent, start, end};
          const Answer answer = accept(p, *kernel, device(1), symbols, 1);
          EXPECT_TRUE(answer) << answer.reason() << " " << extent << " " << start - 5 << " " << end - 5 << " " << step;
        }
  }
}

// NaN, signed zeros and equal values go the same way as in the definition.
TEST(LineKernels, SpecialNumbers) {
  const Tensor x = reals({2, 6}, {0, NAN, -0.0, INFINITY, NAN, -INFINITY, 0, -0.0, 0, -INFINITY, -INFINITY, -0.0});
  const auto same = [&](std::string_view kernel, const Case& c) {
    const Kernel* k = find_kernel(kernel);
    ASSERT_NE(k, nullptr);
    const Problem p = settle(problem_for(c), *k, device(1));
    std::vector<Tensor> operands = {x};
    if (c.host.size() > 1) operands.push_back(*c.host[1]);
    const auto expected = run_reference(p, {}, operands);
    const auto made = run_kernel(p, *k, device(1), {}, operands);
    for (size_t r = 0; r < expected.size(); ++r) EXPECT_TRUE(made[r].identical(in_layout(expected[r], {}))) << r;
  };
  for (const bool flag : {false, true}) {
    for (int64_t axis : {0, 1}) {
      same("cpu/arg_extreme", {"ArgMax", ArgAttrs{axis, true, flag}, {f32({2, 6})}});
      same("cpu/arg_extreme", {"ArgMin", ArgAttrs{axis, true, flag}, {f32({2, 6})}});
    }
    for (int64_t k : {1, 4, 6})
      same("cpu/top_k", {"TopK", TopKAttrs{1, flag, true}, {f32({2, 6}), i64({1})}, {{}, list({k})}, 2});
  }
}

TEST(LineKernels, HostileIndices) {
  const auto fault = [](std::string_view kernel, const Case& c, std::vector<Tensor> operands) {
    const Kernel* k = find_kernel(kernel);
    ASSERT_NE(k, nullptr);
    const Problem p = settle(problem_for(c), *k, device(1));
    try {
      run_kernel(p, *k, device(1), {}, operands);
      ADD_FAILURE() << kernel << " reports no fault";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::fault) << error.what();
    }
  };
  const Tensor x = counting({2, 3});
  for (const int64_t bad : {int64_t{2}, int64_t{-3}, INT64_MAX, INT64_MIN}) {
    fault("cpu/gather", {"Gather", {}, {f32({2, 3}), i64({1})}}, {x, list({bad})});
    fault("cpu/gather_elements", {"GatherElements", {}, {f32({2, 3}), i64({1, 1})}}, {x, integers({1, 1}, {bad})});
    fault("cpu/gather_nd", {"GatherND", {}, {f32({2, 3}), i64({1, 2})}}, {x, integers({1, 2}, {bad, bad})});
    fault("cpu/scatter_elements", {"ScatterElements", {}, {f32({2, 3}), i64({1, 1}), f32({1, 1})}},
          {x, integers({1, 1}, {bad}), reals({1, 1}, {5})});
    fault("cpu/scatter_nd", {"ScatterND", {}, {f32({2, 3}), i64({1, 1}), f32({1, 3})}},
          {x, integers({1, 1}, {bad}), reals({1, 3}, {5, 6, 7})});
  }
  const Tensor none(DType::f32, {0});
  fault("cpu/gather", {"Gather", {}, {f32({0}), i64({1})}}, {none, list({0})});
  fault("cpu/gather_elements", {"GatherElements", {}, {f32({0}), i64({1})}}, {none, list({0})});
  fault("cpu/gather_nd", {"GatherND", {}, {f32({0}), i64({1, 1})}}, {none, integers({1, 1}, {0})});
  fault("cpu/scatter_elements", {"ScatterElements", {}, {f32({0}), i64({1}), f32({1})}},
        {none, list({0}), reals({1}, {5})});
  fault("cpu/scatter_nd", {"ScatterND", {}, {f32({0}), i64({1, 1}), f32({1})}},
        {none, integers({1, 1}, {0}), reals({1}, {5})});
}

}  // namespace
}  // namespace sinter
