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

TEST(Attention, infinities_and_nan_come_out_as_defined) {
  int rows = 0;
  std::vector<DeviceSpec> devices = {this_machine(1), testing::machine_with_tiles()};
  if (devices[0].level == devices[1].level) devices.pop_back();
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
    const std::vector<Tensor> expected = run_reference(problem, {}, operands);
    const float* wanted = expected[0].as<float>();
    int64_t special = 0;
    for (int64_t i = 0; i < expected[0].count(); ++i) special += !std::isfinite(wanted[i]);
    ASSERT_GT(special, 200);
    ASSERT_LT(special, expected[0].count() / 2);
    for (const DeviceSpec& device : devices)
      for (const Kernel* kernel : cpu_backend().kernels()) {
        if (!kernel->supports(*kernel, problem, device)) continue;
        ++rows;
        const std::vector<Tensor> made = run_kernel(problem, *kernel, device, {}, operands);
        const auto* got = reinterpret_cast<const float*>(made[0].as<std::byte>());
        for (int64_t i = 0; i < expected[0].count(); ++i) {
          SCOPED_TRACE(std::string(kernel->name) + " level " + std::to_string(device.level) + " element " +
                       std::to_string(i));
          if (std::isnan(wanted[i])) {
            ASSERT_TRUE(std::isnan(got[i]));
          } else if (std::isinf(wanted[i])) {
            ASSERT_EQ(got[i], wanted[i]);
          } else {
            ASSERT_NEAR(got[i], wanted[i], numerics == Numerics::bf16 ? 0.05 : 1e-4);
          }
        }
      }
  }
  EXPECT_GE(rows, 3 * std::ssize(devices));
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
