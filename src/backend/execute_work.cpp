// Whether a segment of a plan has work for more threads than the caller's.

#include <algorithm>
#include <cmath>

#include "backend/execute.h"

namespace sinter {

// Steps that take little all together lose more by waking and waiting than threads save. Sizes that have hardly changed
// since are not judged again: a loop may bind in every trip.
void Frame::judge_segment(size_t index) {
  const PlanInfo::Segment& segment = info_.segments[index];
  SegmentState& state = segments_[index];
  double bytes = 0;
  for (uint32_t s : segment.slots) bytes += static_cast<double>(bytes_[s]);
  if (state.judged >= 0 && std::abs(bytes - state.judged) <= state.judged / 4) return;
  state.judged = bytes;
  try {
    state.alone = state_.threads > 1 && has_little_to_do(segment);
  } catch (const Error&) {
    state.alone = false;  // binding says what is wrong, and where
  }
}

// By the rows' cost models, of the rows chosen.
bool Frame::has_little_to_do(const PlanInfo::Segment& segment) {
  constexpr double little = 60e3;  // nanoseconds
  double expected = 0;
  for (uint32_t i = segment.begin; i < segment.end; ++i) {
    const Step& step = info_.plan->steps[i];
    if (step.kind != Step::Kind::kernel) continue;
    const Choice& choice = step.choices[choice_[i]];
    const Kernel& kernel = *executable_.kernels[choice.kernel];
    if (kernel.cost_is_guess) return false;
    if (kernel.takes_boxes) continue;  // does its work in one chunk
    expected +=
        kernel.cost(kernel, executable_.target.problems[choice.problem], bind_symbols(choice), executable_.device);
    if (expected >= little) return false;
  }
  return true;
}

// Runs that are watched try nothing, so that what is seen is what there is else.
bool Frame::goes_alone(const SegmentState& segment) const {
  if (segment.alone || state_.own_threads) return segment.alone;
  return state_.observer ? segment.company.found_alone() : segment.company.alone();
}

bool Frame::splits_work() const {
  return std::any_of(segments_.begin(), segments_.end(),
                     [this](const SegmentState& s) { return s.bound && !goes_alone(s); }) ||
         std::any_of(bodies_.begin(), bodies_.end(), [](const auto& body) { return body && body->splits_work(); });
}

int Frame::threads_wanted() const {
  const bool known = std::all_of(segments_.begin(), segments_.end(), [](const SegmentState& s) { return s.bound; }) &&
                     std::all_of(bodies_.begin(), bodies_.end(), [](const auto& body) { return body != nullptr; });
  return known && !splits_work() ? 1 : state_.threads;
}

}  // namespace sinter
