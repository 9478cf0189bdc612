#include <fmt/core.h>

#include <algorithm>

#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/stages.h"
#include "backend/cpu/kernels/views.h"
#include "ops/contraction.h"
#include "ops/movement.h"
#include "ops/reduction.h"
#include "ops/views.h"

namespace sinter::cpu {
namespace {

bool reads(const Stage& stage, uint16_t value) {
  return std::find(stage.inputs.begin(), stage.inputs.end(), value) != stage.inputs.end();
}

bool is_reduction(const Stage& stage) { return std::string_view(stage.op->name).substr(0, 6) == "Reduce"; }

// Reductions go over whole rows of weights and keep their axis.
Answer rows_fit(const Problem& problem, const AttentionForm& form) {
  const Shape& whole = *problem.types[form.weights].shape;
  for (size_t s : form.between) {
    const Stage& stage = problem.stages[s];
    if (problem.types[problem.first_result[s]].shape->size() > whole.size())
      return Answer::no("a stage between the products has a higher rank than the weights");
    if (!is_reduction(stage)) continue;
    const Shape& x = *problem.types[stage.inputs[0]].shape;
    const auto axes = reduced_axes(problem, stage);
    if (!axes || axes->size() != 1 || (*axes)[0] + 1 != x.size() || !stage.attrs.as<ReduceAttrs>().keep_dims)
      return Answer::no("a reduction over other than the keys");
    if (!(x.back() == whole.back())) return Answer::no("a reduction over other rows than those of the weights");
  }
  return Answer::yes();
}

}  // namespace

Answer find_attention(const Problem& problem, AttentionForm& form) {
  if (Answer a = plain_problem(problem); !a) return a;
  if (problem.results.size() != 1) return Answer::no("not one result");
  std::vector<size_t> products;
  for (size_t s = 0; s < problem.stages.size(); ++s)
    if (is_op(problem.stages[s], "MatMul")) products.push_back(s);
  if (products.size() != 2) return Answer::no("not two MatMuls");
  form.first = products[0];
  form.second = products[1];
  const Stage &first = problem.stages[form.first], &second = problem.stages[form.second];
  if (first.inputs.size() != 2 || second.inputs.size() != 2) return Answer::no("not two operands of a MatMul");
  form.q = first.inputs[0];
  form.k = first.inputs[1];
  form.v = second.inputs[1];
  form.scores = problem.first_result[form.first];
  form.weights = second.inputs[0];
  form.y = problem.first_result[form.second];
  form.transpose_k = first.attrs.as<MatMulAttrs>().transpose_b;
  form.transpose_v = second.attrs.as<MatMulAttrs>().transpose_b;
  for (uint16_t v : {form.q, form.k, form.v, form.scores, form.weights, form.y}) {
    const Type& type = problem.types[v];
    if (!type.is_plain() || type.dtype != DType::f32) return Answer::no("the products are not of f32");
    if (type.shape->size() < 2) return Answer::no("a vector as a factor");
  }
  // Stages that the scores reach lie between the products, those that y reaches behind them.
  std::vector<bool> from_scores(problem.types.size(), false);
  from_scores[form.scores] = true;
  uint16_t last = form.y;
  std::vector<bool> two_strides(problem.types[form.y].shape->size(), true);  // batch axes
  two_strides[two_strides.size() - 2] = two_strides.back() = false;
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    if (s == form.first) continue;
    const Stage& stage = problem.stages[s];
    const uint16_t made = problem.first_result[s];
    const bool scored = std::any_of(stage.inputs.begin(), stage.inputs.end(),
                                    [&](uint16_t v) { return v != absent_operand && from_scores[v]; });
    if (s == form.second) {
      if (!from_scores[form.weights] || from_scores[form.v]) return Answer::no("the products do not follow each other");
    } else if (reads(stage, last)) {
      if (stage.outputs != 1 || stage.inputs[0] != last) return Answer::no("the result is more than moved");
      if (Answer a = is_strided_target(*stage.op, stage.attrs, problem.types[last], problem.types[made],
                                       contents_of(problem, stage), two_strides);
          !a)
        return a;
      form.behind.push_back(s);
      last = made;
    } else if (scored) {
      if (stage.outputs != 1 || (!stage.op->pointwise && !is_op(stage, "Cast") && !is_reduction(stage)))
        return Answer::no(fmt::format("{} between the products", stage.op->name));
      if (is_reduction(stage) && !from_scores[stage.inputs[0]]) return Answer::no("a reduction of no scores");
      from_scores[made] = true;
      form.between.push_back(s);
    } else if (!is_movement_view(*stage.op)) {
      return Answer::no(fmt::format("{} before the products", stage.op->name));
    }
  }
  if (form.between.empty()) return Answer::no("nothing between the products");
  if (form.weights == form.scores || problem.results[0].value != last) return Answer::no("an inner value is a result");
  return rows_fit(problem, form);
}

Problem problem_between(const Problem& problem, const AttentionForm& form, std::vector<uint16_t>& sources) {
  sources = {form.scores};
  Problem out = part_of(problem, form.between, form.weights, sources);
  for (Operand& operand : out.operands) operand.layout = Layout();
  return out;
}

}  // namespace sinter::cpu
