// bisect: which rewrite or which step makes an engine's results differ from the model's reference evaluation.
//
// First axis: optional rewrites are numbered; the largest number up to which the results agree is found by halving, so
// the next rewrite is the guilty one. Second axis: every step of the plan is judged by itself: what it read is run
// through the definitions of its operators, and what it left is compared with that.
#pragma once

#include "tune/compare.h"

namespace sinter {

struct Bisection {
  enum class Verdict : uint8_t {
    agrees,       // nothing to find
    rewrite,      // a rewrite changes the results
    step,         // a kernel computes something else than its problem says
    unexplained,  // results differ, yet no rewrite and no step does by itself
  } verdict = Verdict::agrees;
  Compared output;       // the output that differs most clearly, or the one that was compared
  Journal::Entry entry;  // of the guilty rewrite
  std::string nodes;     // of the model, behind rewrite or step
  Compared step;         // the guilty step: what it left against what it should have
  std::string problem;   // its text
  size_t step_number = 0, steps = 0;
  size_t builds = 0;
};

// `told` hears of each build: its limit of rewrites, and whether its results agree.
Bisection bisect(const Module& module, std::span<const Box> inputs, const BuildOptions& options,
                 const Tolerance& tolerance, void (*told)(void* user, uint32_t limit, bool agrees) = nullptr,
                 void* user = nullptr);

// Runs an engine once and judges each of its steps. Steps whose operands cannot be read back are passed over. The first
// step that fails is reported; none when all agree. `problem` and `number` say which.
struct StepFault {
  Compared compared;
  std::string problem, nodes;
  size_t number = 0;
};
std::optional<StepFault> judge_steps(std::shared_ptr<const Engine> engine, std::span<const Box> inputs, int threads,
                                     const Control* control, const Tolerance& tolerance);

}  // namespace sinter
