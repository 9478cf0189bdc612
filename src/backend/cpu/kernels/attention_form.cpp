#include <fmt/core.h>

#include <algorithm>

#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/stages.h"
#include "backend/cpu/kernels/views.h"
#include "ops/cast.h"
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

bool widens_bf16(const Problem& problem, const Stage& stage, uint16_t made) {
  return is_op(stage, "Cast") && problem.types[made].dtype == DType::f32 &&
         problem.types[stage.inputs[0]].dtype == DType::bf16;
}

// Stages that lead to a factor.
void mark_way(const Problem& problem, uint16_t value, std::vector<bool>& marked) {
  while (value >= problem.operands.size()) {
    const size_t s = stage_of(problem, value);
    if (problem.stages[s].inputs.empty() || problem.stages[s].inputs[0] == absent_operand) return;
    marked[s] = true;
    value = problem.stages[s].inputs[0];
  }
}

// Where a softmax ends: e = Exp(x - its largest), s = ReduceSum(e), weights = e / s. Every e is at most 1 and one is.
struct Ending {
  size_t exp = 0, sum = 0, division = 0, largest = 0;  // stages
  uint16_t x = 0;
};
std::optional<Ending> softmax_ending(const Problem& problem, const AttentionForm& form) {
  const auto made_by = [&](uint16_t v, std::string_view name) -> std::optional<size_t> {
    if (v == absent_operand || v < problem.operands.size()) return std::nullopt;
    const size_t s = stage_of(problem, v);
    return problem.stages[s].op->name == name ? std::optional(s) : std::nullopt;
  };
  const auto input = [&](size_t s, size_t i) { return problem.stages[s].inputs[i]; };
  const auto division = made_by(form.weights, "Div");
  if (!division) return std::nullopt;
  const auto sum = made_by(input(*division, 1), "ReduceSum"), exp = made_by(input(*division, 0), "Exp");
  if (!sum || !exp || input(*sum, 0) != input(*division, 0)) return std::nullopt;
  const auto centred = made_by(input(*exp, 0), "Sub");
  if (!centred) return std::nullopt;
  const auto largest = made_by(input(*centred, 1), "ReduceMax");
  if (!largest || input(*largest, 0) != input(*centred, 0)) return std::nullopt;
  for (size_t s : {*exp, *sum})
    if (problem.types[problem.first_result[s]].dtype != DType::f32) return std::nullopt;
  for (size_t t : form.between)
    if ((t != *division && reads(problem.stages[t], problem.first_result[*sum])) ||
        reads(problem.stages[t], form.weights))
      return std::nullopt;
  return Ending{*exp, *sum, *division, *largest, input(*largest, 0)};
}

// Bounds are views of operands.
Answer band_fits(const Problem& problem, const Stage& stage) {
  for (size_t i = 1; i < stage.inputs.size(); ++i) {
    const uint16_t v = stage.inputs[i];
    if (v == absent_operand) continue;
    if (Answer a = view_supported(problem, v, 2); !a) return a;
  }
  return Answer::yes();
}

// A Band that nothing reads is no stage between the products, and nothing else bounds its rank.
Answer lies_over_weights(const Problem& problem, const AttentionForm& form, size_t s) {
  const Stage& stage = problem.stages[s];
  const size_t rank = problem.types[form.weights].shape->size();
  const auto fits = [&](uint16_t v) { return v == absent_operand || problem.types[v].shape->size() <= rank; };
  if (!fits(problem.first_result[s]) || !std::all_of(stage.inputs.begin() + 1, stage.inputs.end(), fits))
    return Answer::no("a Band of a higher rank than the scores");
  return Answer::yes();
}

// What hides keys last of all; nothing where other reductions than the softmax's see them.
std::optional<AttentionForm::Hidden> hidden_keys(const Problem& problem, const AttentionForm& form) {
  const std::optional<Ending> ending = softmax_ending(problem, form);
  if (!ending || ending->x < problem.operands.size()) return std::nullopt;
  const Stage& where = problem.stages[stage_of(problem, ending->x)];
  if (!is_op(where, "Where") || problem.types[ending->x].dtype != DType::f32) return std::nullopt;
  for (size_t s : form.between)
    if (is_reduction(problem.stages[s]) && s != ending->sum && s != ending->largest) return std::nullopt;
  const uint16_t fill = where.inputs[2];
  if (fill >= problem.operands.size() || problem.operands[fill].type.shape->size() > 0) return std::nullopt;
  for (size_t i = 0; i < form.bands.size(); ++i)
    if (where.inputs[0] == problem.first_result[form.bands[i]]) return AttentionForm::Hidden{i, fill, ending->largest};
  return std::nullopt;
}

// A stage of the whole problem whose result is one number a row, as a further result.
void add_row_result(Problem& part, std::span<const size_t> stages, size_t stage) {
  const auto at = static_cast<size_t>(std::find(stages.begin(), stages.end(), stage) - stages.begin());
  part.results.push_back({static_cast<uint16_t>(part.operands.size() + at), {}});
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
  std::vector<bool> on_way(problem.stages.size(), false);
  for (uint16_t v : {form.q, form.k, form.v}) mark_way(problem, v, on_way);
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
      if (stage.outputs != 1 || stage.inputs[0] != last || form.rounds)
        return Answer::no("the result is more than moved");
      if (is_op(stage, "Cast") && problem.types[made].dtype == DType::bf16) {
        form.rounds = true;
        last = made;
        continue;
      }
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
    } else if (is_op(stage, "Band")) {
      if (Answer a = band_fits(problem, stage); !a) return a;
      form.bands.push_back(s);
    } else if (!is_movement_view(*stage.op) && !(on_way[s] && widens_bf16(problem, stage, made))) {
      return Answer::no(fmt::format("{} before the products", stage.op->name));
    }
  }
  if (form.between.empty()) return Answer::no("nothing between the products");
  if (form.weights == form.scores || problem.results[0].value != last) return Answer::no("an inner value is a result");
  if (Answer a = rows_fit(problem, form); !a) return a;
  for (size_t s : form.bands)
    if (Answer a = lies_over_weights(problem, form, s); !a) return a;
  form.hidden = hidden_keys(problem, form);
  return Answer::yes();
}

Problem problem_between(const Problem& problem, const AttentionForm& form, std::vector<uint16_t>& sources) {
  sources = {form.scores};
  Problem out = part_of(problem, form.between, form.weights, sources);
  if (form.hidden) add_row_result(out, form.between, form.hidden->largest);
  for (Operand& operand : out.operands) operand.layout = Layout();
  complete(out);
  return out;
}

Problem problem_between(const Problem& problem, const AttentionForm& form, bool narrow, bool& sums,
                        std::vector<uint16_t>& sources) {
  const std::optional<Ending> ending = softmax_ending(problem, form);
  std::vector<size_t> stages = form.between;
  if (ending) std::erase(stages, ending->division);
  sums = ending.has_value();
  sources = {form.scores};
  Problem out = part_of(problem, stages, ending ? problem.first_result[ending->exp] : form.weights, sources);
  if (ending) add_row_result(out, stages, ending->sum);
  if (form.hidden) add_row_result(out, stages, form.hidden->largest);
  if (narrow) {
    const auto rounded = static_cast<uint16_t>(out.operands.size() + stages.size());
    out.stages.push_back({&op_named("Cast"), CastAttrs{.to = DType::bf16}, {out.results[0].value}});
    out.results[0].value = rounded;
  }
  for (Operand& operand : out.operands) operand.layout = Layout();
  complete(out);
  return out;
}

}  // namespace sinter::cpu
