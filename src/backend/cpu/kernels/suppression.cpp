// NonMaxSuppression in f32. Candidates are sorted only as far as they are looked at, and a candidate is compared with
// the boxes kept so far until one of them suppresses it. Numbers are those of the definition: rectangles and overlaps
// in double.

#include <cmath>
#include <limits>

#include "backend/cpu/kernels/dynamic.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/ordered.h"
#include "backend/storage.h"
#include "base/checked.h"
#include "ops/selection.h"

namespace sinter::cpu {
namespace {

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = boxed_problem(problem, "NonMaxSuppression"); !a) return a;
  const Stage& stage = problem.stages[0];
  for (size_t i = 0; i < 2; ++i)
    if (problem.types[stage.inputs[i]].dtype != DType::f32) return Answer::no("boxes and scores in f32 only");
  return Answer::yes();
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return 500 + 20 * elements_at(problem.types[problem.stages[0].inputs[1]], symbols);
}

// One of the boxes kept overlaps this one by more than the threshold.
bool suppressed(const Rectangle& r, const std::vector<Rectangle>& kept, double threshold) {
  if (!(r.area > 0)) return false;
  for (const Rectangle& k : kept) {
    const double height = std::min(r.y2, k.y2) - std::max(r.y1, k.y1);
    const double width = std::min(r.x2, k.x2) - std::max(r.x1, k.x1);
    if (!((height > 0) & (width > 0))) continue;  // most of them; one branch that is foreseen
    const double common = height * width;
    if (k.area > 0 && common / (r.area + k.area - common) > threshold) return true;
  }
  return false;
}

// A number that sorts as candidates do: highest score first (NaN as the lowest there is), then lowest index.
uint64_t candidate(float score, int64_t index) {
  const int64_t key = sort_key(score != score ? -std::numeric_limits<float>::infinity() : score);
  return static_cast<uint64_t>(INT32_MAX - key) << 32 | static_cast<uint64_t>(index);
}

void find_candidates(const float* scores, int64_t count, const double* least, std::vector<uint64_t>& out) {
  out.resize(static_cast<size_t>(count));
  size_t n = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (least && !(static_cast<double>(scores[i]) > *least)) continue;
    out[n++] = candidate(scores[i], i);
  }
  out.resize(n);
}

// Sorts candidates in pieces, each four times as long as the one before.
class Sorted {
 public:
  explicit Sorted(std::vector<uint64_t>& all) : all_(all) {}
  size_t index(size_t n) {
    if (n >= sorted_) {
      const auto at = [&](size_t k) { return all_.begin() + static_cast<int64_t>(k); };
      const size_t end = std::min(all_.size(), sorted_ + piece_);
      if (end < all_.size()) std::nth_element(at(sorted_), at(end), all_.end());
      std::sort(at(sorted_), at(end));
      sorted_ = end;
      piece_ *= 4;
    }
    return all_[n] & UINT32_MAX;
  }

 private:
  std::vector<uint64_t>& all_;
  size_t sorted_ = 0, piece_ = 128;
};

Status run(const Launch& launch) {
  try {
    const Tensor &boxes = *boxed_input(launch, 0), &scores = *boxed_input(launch, 1);
    const bool center_point = launch.problem->stages[0].attrs.as<NonMaxSuppressionAttrs>().center_point;
    const auto first = [&](size_t i) -> const Tensor* {
      const Tensor* t = boxed_input(launch, i);
      if (t && t->count() == 0) throw Error(Code::fault, "a threshold of NonMaxSuppression is empty");
      return t;
    };
    const Tensor *limit = first(2), *iou = first(3), *floor = first(4);
    const int64_t most = limit ? limit->get_integer(0) : 0;
    const double threshold = iou ? iou->get_real(0) : 0, least = floor ? floor->get_real(0) : 0;
    const int64_t batches = scores.dims()[0], classes = scores.dims()[1], count = boxes.dims()[1];
    if (boxes.dims()[0] != batches || scores.dims()[2] != count || boxes.dims()[2] != 4)
      return Status(Code::fault, "boxes and scores do not fit together");
    if (count > UINT32_MAX) return Status(Code::limit, "NonMaxSuppression of more than 2^32 boxes");
    std::vector<int64_t> found;
    std::vector<uint64_t> candidates;
    std::vector<Rectangle> kept;
    for (int64_t b = 0; b < batches && most > 0 && count > 0; ++b) {
      const float* box = boxes.as<float>() + b * count * 4;
      for (int64_t c = 0; c < classes; ++c) {
        find_candidates(scores.as<float>() + (b * classes + c) * count, count, floor ? &least : nullptr, candidates);
        kept.clear();
        Sorted sorted(candidates);
        for (size_t n = 0; n < candidates.size() && static_cast<int64_t>(kept.size()) < most; ++n) {
          const auto i = static_cast<int64_t>(sorted.index(n));
          const float* at = box + i * 4;
          const Rectangle r = rectangle(at[0], at[1], at[2], at[3], center_point);
          if (suppressed(r, kept, threshold)) continue;
          kept.push_back(r);
          found.insert(found.end(), {b, c, i});
        }
      }
    }
    Tensor& y = storage_for(*boxed_output(launch, 0), DType::i64, {static_cast<int64_t>(found.size()) / 3, 3});
    if (!found.empty()) std::memcpy(y.mutable_data(), found.data(), found.size() * sizeof(int64_t));
  } catch (const Error& error) {
    return Status(error);
  }
  return {};
}

constexpr Kernel rows[] = {{.name = "non_max_suppression_f32",
                            .supports = supports,
                            .needs = row_major_needs,
                            .cost = cost,
                            .bind = boxed_bind,
                            .run = run,
                            .takes_boxes = true}};

}  // namespace

std::span<const Kernel> suppression_kernels() { return rows; }

}  // namespace sinter::cpu
