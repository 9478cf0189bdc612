// compare: an engine against the reference evaluation of the model it was built from, value by value.
//
// The model is evaluated by the definitions of its operators. The engine is built as asked and run once on the same
// inputs; every step result that still stands for a value of the model is compared with it, in the order in which steps
// ran, and the outputs at the end. Nothing about the run changes by being watched.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "builder/pipeline.h"
#include "ir/copy.h"
#include "runtime/engine.h"

namespace sinter {

// |got - expected| may be rtol * |expected| + atol * max(1, largest |expected| of the tensor): sums lose digits against
// their largest terms.
struct Tolerance {
  double rtol = 1e-3, atol = 1e-4;
  bool bf16_between = false;  // bf16 may stand for f32 and f16
};

struct Compared {
  std::string tensor, node, kernel, type;
  bool is_output = false;
  bool agrees = true;
  double max_error = 0;     // largest |got - expected|
  double max_relative = 0;  // the same over the largest |expected|
  int64_t at = 0;           // flat index of the element that is furthest beyond the tolerance
  double expected = 0, got = 0;
  std::string note;  // what cannot be told in numbers: types that differ
};

struct Comparison {
  std::vector<Compared> values;
  size_t hidden = 0;  // values of the model that the engine never makes by themselves
  const Compared* first_difference() const;
};

// Two values, whatever they hold.
Compared compare_values(const Box& got, const Box& expected, const Tolerance& tolerance);

Comparison compare(const Module& module, std::span<const Box> inputs, const BuildOptions& options,
                   const Tolerance& tolerance);

// Built, verified and ready to run in this process.
std::shared_ptr<const Engine> make_engine(Target target, int threads);
// Sets all inputs and runs once.
std::vector<Box> run_once(std::shared_ptr<const Engine> engine, std::span<const Box> inputs, int threads,
                          const Control* control, StepObserver* observer = nullptr);
// "conv1 (Conv), bn1 (BatchNormalization)" of a step.
std::string sources_text(const Target& target, std::span<const uint32_t> sources);

}  // namespace sinter
