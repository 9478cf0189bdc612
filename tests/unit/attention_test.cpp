// Attention rows on infinities and NaN; views by strides: which movement is one, and where its elements lie.
#include <cmath>

#include "amx_emulator.h"
#include "backend/accept.h"
#include "backend/cpu/kernels/views.h"
#include "op_testing.h"
#include "ops/contraction.h"

namespace sinter {
namespace {

// ---- special values

// Scores with an addend, softmax over keys, weights times values.
Problem attention_problem(Numerics numerics) {
  Problem problem = parse_problem(
      "(f32[2, 40, 32], f32[2, 33, 32], f32[2, 33, 20], f32[40, 33], host [2]) { MatMul{transpose_b=true}(0, 1); "
      "Add(5, 3); ReduceMax(6, 4); Sub(6, 7); Exp(8); ReduceSum(9, 4); Div(9, 10); MatMul(11, 2); } -> (12)");
  for (Stage& stage : problem.stages)
    if (numerics_of(stage.attrs)) stage.attrs = with_numerics(stage.attrs, numerics);
  return problem;
}

std::vector<DeviceSpec> all_devices() {
  std::vector<DeviceSpec> devices = {this_machine(1), testing::machine_with_tiles()};
  if (devices[0].level == devices[1].level) devices.pop_back();
  return devices;
}

// Rows that take the problem, each compared with the reference; `low` to `high` elements are infinite or NaN.
int compare_rows(const Problem& problem, const std::vector<Tensor>& operands, double tolerance, int64_t low,
                 int64_t high) {
  int rows = 0;
  const std::vector<Tensor> expected = run_reference(problem, {}, operands);
  const float* wanted = expected[0].as<float>();
  int64_t special = 0;
  for (int64_t i = 0; i < expected[0].count(); ++i) special += !std::isfinite(wanted[i]);
  EXPECT_GE(special, low);
  EXPECT_LE(special, high);
  for (const DeviceSpec& device : all_devices())
    for (const Kernel* kernel : cpu_backend().kernels()) {
      if (!kernel->supports(*kernel, problem, device)) continue;
      ++rows;
      const std::vector<Tensor> made = run_kernel(problem, *kernel, device, {}, operands);
      const auto* got = reinterpret_cast<const float*>(made[0].as<std::byte>());
      int64_t wrong = 0, first = -1;
      for (int64_t i = 0; i < expected[0].count(); ++i) {
        const bool good = std::isnan(wanted[i])   ? std::isnan(got[i])
                          : std::isinf(wanted[i]) ? got[i] == wanted[i]
                                                  : std::abs(got[i] - wanted[i]) <= tolerance;
        wrong += !good;
        if (!good && first < 0) first = i;
      }
      EXPECT_EQ(wrong, 0) << kernel->name << " level " << int{device.level} << ", first at " << first;
    }
  return rows;
}

TEST(Attention, infinities_and_nan_come_out_as_defined) {
  int rows = 0;
  for (const Numerics numerics : {Numerics::strict, Numerics::tf32, Numerics::bf16}) {
    const Problem problem = attention_problem(numerics);
    std::vector<Tensor> operands = sample_operands(problem, {}, 1);
    float* q = operands[0].as_mutable<float>();
    float* k = operands[1].as_mutable<float>();
    float* v = operands[2].as_mutable<float>();
    float* mask = operands[3].as_mutable<float>();
    for (int64_t key = 0; key < 33; ++key) mask[3 * 33 + key] = -INFINITY;          // a query that sees nothing
    for (int64_t key = 0; key < 33; key += 2) mask[5 * 33 + key] = -INFINITY;       // and one that sees half
    for (int64_t query = 0; query < 40; ++query) mask[query * 33 + 6] = -INFINITY;  // a key that nothing sees
    q[7 * 32 + 4] = NAN;
    q[9 * 32 + 1] = INFINITY;
    k[(33 + 2) * 32] = -INFINITY;  // of the second matrix: sees its sign
    v[6 * 20 + 3] = INFINITY;      // of the key that nothing sees: 0 times infinity
    v[(33 + 30) * 20 + 2] = NAN;
    v[(33 + 31) * 20 + 4] = -INFINITY;
    rows += compare_rows(problem, operands, numerics == Numerics::bf16 ? 0.05 : 1e-4, 201, 799);
  }
  EXPECT_GE(rows, 3 * std::ssize(all_devices()));
}

// Query r of matrix b sees keys from r - 60 to r + last[b].
Problem band_problem(Numerics numerics, int64_t queries) {
  const std::string m = std::to_string(queries);
  Problem problem = parse_problem(
      "(f32[2, " + m + ", 32], f32[2, 133, 32], f32[2, 133, 20], host [" + m +
      ", 133], i64[], i64[2, 1, 1], f32[], host [2]) { MatMul{transpose_b=true}(0, 1); Band(3, 4, 5); Where(9, 8, 6); "
      "ReduceMax(10, 7); Sub(10, 11); Exp(12); ReduceSum(13, 7); Div(13, 14); MatMul(15, 2); } -> (16)");
  for (Stage& stage : problem.stages)
    if (numerics_of(stage.attrs)) stage.attrs = with_numerics(stage.attrs, numerics);
  return problem;
}

std::vector<Tensor> band_operands(const Problem& problem, float fill) {
  std::vector<Tensor> operands = sample_operands(problem, {}, 1);
  operands[4].as_mutable<int64_t>()[0] = -60;
  operands[5].as_mutable<int64_t>()[0] = 0;
  operands[5].as_mutable<int64_t>()[1] = -3;  // the first queries see nothing
  operands[6].as_mutable<float>()[0] = fill;
  return operands;
}

TEST(Attention, keys_that_are_left_out_change_nothing) {
  int rows = 0;
  for (const Numerics numerics : {Numerics::strict, Numerics::tf32, Numerics::bf16}) {
    const double tolerance = numerics == Numerics::bf16 ? 0.05 : 1e-4;
    const Problem problem = band_problem(numerics, 140);
    std::vector<Tensor> operands = band_operands(problem, -INFINITY);
    float* k = operands[1].as_mutable<float>();
    float* v = operands[2].as_mutable<float>();
    rows += compare_rows(problem, operands, tolerance, 60, 60);
    // Queries that weigh all keys alike, where the fill is no infinity.
    operands[6].as_mutable<float>()[0] = -3e38f;
    compare_rows(problem, operands, tolerance, 0, 0);
    operands[6].as_mutable<float>()[0] = -2;
    compare_rows(problem, operands, tolerance, 0, 0);
    operands[6].as_mutable<float>()[0] = -INFINITY;
    // Seen by the later queries alone: scores of what is hidden are none.
    k[120 * 32] = NAN;
    k[(133 + 110) * 32 + 1] = INFINITY;
    compare_rows(problem, operands, tolerance, 400, 1500);
    // 0 times infinity where the key is hidden.
    v[131 * 20 + 3] = INFINITY;
    v[(133 + 1) * 20 + 4] = NAN;
    compare_rows(problem, operands, tolerance, 600, 1700);
    // A fill that is no number.
    operands[6].as_mutable<float>()[0] = NAN;
    compare_rows(problem, operands, tolerance, 5000, 5600);
    operands[6].as_mutable<float>()[0] = INFINITY;
    compare_rows(problem, operands, tolerance, 5000, 5600);
    // So few queries that keys are read as they lie.
    const Problem few = band_problem(numerics, 5);
    std::vector<Tensor> its = band_operands(few, -INFINITY);
    compare_rows(few, its, tolerance, 60, 60);
    its[2].as_mutable<float>()[132 * 20 + 2] = INFINITY;
    compare_rows(few, its, tolerance, 65, 65);
  }
  EXPECT_GE(rows, 3 * std::ssize(all_devices()));
}

// Bounds are numbers that a run reads: whatever they are, masks stay within their memory.
TEST(Attention, bounds_may_be_any_numbers) {
  const Problem problem = band_problem(Numerics::strict, 70);
  for (const int64_t first : {INT64_MIN, int64_t{-1}, INT64_MAX})
    for (const int64_t last : {INT64_MIN, int64_t{200}, INT64_MAX}) {
      std::vector<Tensor> operands = band_operands(problem, -2);
      operands[4].as_mutable<int64_t>()[0] = first;
      operands[5].as_mutable<int64_t>()[0] = operands[5].as_mutable<int64_t>()[1] = last;
      EXPECT_GE(compare_rows(problem, operands, 1e-4, 0, 0), 1);
    }
}

// ---- views

// Elements of value `view` of the problem, read through its strides.
std::vector<float> through_strides(const Problem& problem, uint16_t view, const std::vector<int64_t>& symbols,
                                   const std::vector<Tensor>& operands) {
  std::vector<Dims> dims;
  std::vector<const Tensor*> host;
  for (size_t i = 0; i < operands.size(); ++i) {
    dims.push_back(operands[i].dims());
    host.push_back(problem.operands[i].host ? &operands[i] : nullptr);
  }
  const cpu::StridedView v = cpu::strided_view({problem, symbols, dims, {}, host, 1}, view);
  const float* from = operands[v.operand].as<float>();
  std::vector<float> out;
  Dims at(v.dims.size(), 0);
  for (int64_t n = Tensor(DType::u8, v.dims).count(); n > 0; --n) {
    int64_t offset = v.offset;
    for (size_t k = 0; k < at.size(); ++k)
      offset +=
          v.inner[k] == 0 ? at[k] * v.strides[k] : at[k] / v.inner[k] * v.outer[k] + at[k] % v.inner[k] * v.strides[k];
    out.push_back(from[offset]);
    for (size_t k = at.size(); k-- > 0;) {
      if (++at[k] < v.dims[k]) break;
      at[k] = 0;
    }
  }
  return out;
}

void expect_view(const char* text, std::vector<int64_t> symbols, size_t matrix) {
  SCOPED_TRACE(text);
  const Problem problem = parse_problem(text);
  const uint16_t view = problem.results[0].value;
  const Answer supported = cpu::view_supported(problem, view, matrix);
  ASSERT_TRUE(supported) << supported.reason();
  const std::vector<Tensor> operands = sample_operands(problem, symbols, 3);
  const std::vector<Tensor> expected = run_reference(problem, symbols, operands);
  const float* wanted = expected[0].as<float>();
  EXPECT_EQ(through_strides(problem, view, symbols, operands),
            std::vector<float>(wanted, wanted + expected[0].count()));
}

void expect_no_view(const char* text, size_t matrix, const std::string& reason) {
  SCOPED_TRACE(text);
  const Problem problem = parse_problem(text);
  const Answer supported = cpu::view_supported(problem, problem.results[0].value, matrix);
  ASSERT_FALSE(supported);
  EXPECT_NE(supported.reason().find(reason), std::string::npos) << supported.reason();
}

TEST(Views, axes_are_cut_moved_and_sliced) {
  expect_view("(f32[s0, 12], host [s0, 3, 4]) { Reshape(0, 1); Transpose{perm=[1, 0, 2]}(2); } -> (3)", {5}, 2);
  expect_view("(f32[2, 7, 5], host [1], host [6], host [1], host [2]) { Slice(0, 1, 2, 3, 4); } -> (5)", {}, 3);
  expect_view("(f32[2, 1, 5], host [2, 3, 5]) { Expand(0, 1); } -> (2)", {}, 3);
  expect_view("(f32[2, 9], host [4, 5], host [2, 5, 1]) { Split{axis=1}(0, 1) x 2; Reshape(4, 2); } -> (5)", {}, 3);
}

TEST(Views, an_axis_joined_of_two_has_two_strides) {
  const char* text =
      "(f32[5, s0, 18], host [2], host [14], host [2], host [5, 3*s0, 4]) { Slice(0, 1, 2, 3); "
      "Reshape(5, 4); Transpose{perm=[1, 0, 2]}(6); } -> (7)";
  for (int64_t batch : {1, 2, 7}) expect_view(text, {batch}, 2);
  expect_no_view(text, 3, "joins axes");
  // Joined and cut again at another place.
  expect_no_view("(f32[4, 6], host [24], host [8, 3]) { Reshape(0, 1); Reshape(3, 2); } -> (4)", 0, "joins axes");
}

TEST(Views, extents_may_be_equal_by_the_count_of_elements_alone) {
  expect_view("(f32[s0, 8], host [s1, 2, 4]) { Reshape(0, 1); } -> (2)", {5, 5}, 2);
  expect_view("(f32[5, 12], host [5, 3*s0, 4]) { Reshape(0, 1); } -> (2)", {1}, 2);
  expect_no_view("(f32[s0, s1], host [s2, s3]) { Reshape(0, 1); } -> (2)", 0, "joins axes");
}

TEST(Views, what_is_no_view_says_why) {
  expect_no_view("(f32[7], host [6], host [-8], host [0], host [-1]) { Slice(0, 1, 2, 3, 4); } -> (5)", 1, "backwards");
  expect_no_view("(f32[7]) { Relu(0); } -> (1)", 1, "no view");
  expect_no_view("(f32[2, 3], host [6]) { Reshape(0, 1); } -> (2)", 1, "joins axes");
}

}  // namespace
}  // namespace sinter
