// Custom: operators of plugins. One row gives them the memory of operands and results as it lies; the other, for
// extents that they find out and values that are boxed, is their definition, which is the same function of the plugin.

#include "ops/custom.h"

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/dynamic.h"
#include "backend/cpu/kernels/families.h"

namespace sinter::cpu {
namespace {

struct Prepared {
  const CustomOperator& op;
  CustomValues values;
};

struct Extents {
  std::vector<Dims> operands, results;  // of all of the stage's results, also of those that nobody reads
};

Answer plain_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = row_major_problem(problem, "Custom"); !a) return a;
  for (size_t v = problem.operands.size(); v < problem.types.size(); ++v)
    if (!problem.types[v].is_plain()) return Answer::no("a result is no plain tensor");
  return Answer::yes();
}

Answer boxed_supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "Custom")) return Answer::no("another operator");
  if (plain_supports(kernel, problem, device)) return Answer::no("all is plain");
  return reference_backend().kernels()[0]->supports(kernel, problem, device);
}

// Nobody knows what a plugin does.
double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  double elements = 1;
  for (const Type& type : problem.types)
    if (type.is_plain()) elements += elements_at(type, symbols);
  return 1000 + 5 * elements;
}

std::shared_ptr<const void> prepare(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  const auto& attrs = problem.stages[0].attrs.as<CustomAttrs>();
  const CustomOperator& op = custom_named(attrs);
  return std::make_shared<const Prepared>(Prepared{op, parse_custom(op, attrs.attributes)});
}

void bind(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  Extents& extents = emplace<Extents>(bound);
  extents.operands.assign(c.operands.begin(), c.operands.end());
  for (size_t v = c.problem.operands.size(); v < c.problem.types.size(); ++v)
    extents.results.push_back(evaluate(*c.problem.types[v].shape, c.symbols));
  if (static_cast<const Prepared*>(prepared)->op.splits) bound.chunks[0] = std::max(c.threads, 1);
}

Status run(const Launch& launch) {
  const Prepared& prepared = *static_cast<const Prepared*>(launch.prepared);
  const Extents& extents = launch.bound->as<Extents>();
  const Problem& problem = *launch.problem;
  const Stage& stage = problem.stages[0];
  const size_t operands = problem.operands.size();
  try {
    std::vector<Tensor> tensors;
    tensors.reserve(stage.inputs.size() + stage.outputs);  // pointers to them are kept
    std::vector<const Tensor*> inputs;
    for (const uint16_t v : stage.inputs) {
      if (v == absent_operand) {
        inputs.push_back(nullptr);
        continue;
      }
      inputs.push_back(&tensors.emplace_back(problem.types[v].dtype, extents.operands[v], launch.operands[v], nullptr));
    }
    std::vector<CustomRun::Output> outputs;
    for (size_t o = 0; o < stage.outputs; ++o) {
      const DType dtype = problem.types[operands + o].dtype;
      const Dims& dims = extents.results[o];
      size_t r = 0;
      while (r < problem.results.size() && problem.results[r].value != operands + o) ++r;
      tensors.push_back(r < problem.results.size() ? Tensor(dtype, dims, launch.operands[operands + r], nullptr)
                                                   : Tensor(dtype, dims));
      outputs.push_back({dtype, dims, &tensors.back()});
    }
    const auto make = [](void*, size_t, DType, const Dims&) -> Tensor& {
      throw Error(Code::internal, "an output is there already");
    };
    prepared.op.compute({prepared.values, inputs, outputs, nullptr, make, launch.chunk, launch.bound->chunks[0]});
  } catch (const Error& error) {
    return Status(error);
  }
  return {};
}

Status run_boxed(const Launch& launch) { return reference_backend().kernels()[0]->run(launch); }

constexpr Kernel rows[] = {{.name = "custom",
                            .supports = plain_supports,
                            .needs = row_major_needs,
                            .cost = cost,
                            .prepare = prepare,
                            .bind = bind,
                            .run = run,
                            .cost_is_guess = true},
                           {.name = "custom_boxed",
                            .supports = boxed_supports,
                            .needs = row_major_needs,
                            .cost = cost,
                            .bind = boxed_bind,
                            .run = run_boxed,
                            .takes_boxes = true}};

}  // namespace

std::span<const Kernel> custom_kernels() { return rows; }

}  // namespace sinter::cpu
