#include "backend/definition.h"

namespace sinter {

void evaluate_stages(const Problem& problem, std::vector<const Box*>& values, std::vector<Box>& made) {
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    const Stage& stage = problem.stages[s];
    std::vector<const Box*> inputs;
    for (uint16_t v : stage.inputs) inputs.push_back(v == absent_operand ? nullptr : values[v]);
    std::vector<Box> results = evaluate_op(*stage.op, stage.attrs, inputs, stage.outputs);
    for (size_t o = 0; o < stage.outputs; ++o) {
      const size_t v = problem.first_result[s] + o;
      made[v] = std::move(results[o]);
      values[v] = &made[v];
    }
  }
}

}  // namespace sinter
