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

// The corners of boxes and their areas, one array each.
struct Rectangles {
  std::vector<double> y1, x1, y2, x2, area;
  void clear() {
    for (std::vector<double>* v : {&y1, &x1, &y2, &x2, &area}) v->clear();
  }
  void push(double top, double left, double bottom, double right) {
    y1.push_back(top);
    x1.push_back(left);
    y2.push_back(bottom);
    x2.push_back(right);
    area.push_back((bottom - top) * (right - left));
  }
  void push(const Rectangles& from, size_t i) { push(from.y1[i], from.x1[i], from.y2[i], from.x2[i]); }
};

void read_rectangles(const float* boxes, int64_t count, bool center_point, Rectangles& out) {
  out.clear();
  for (int64_t i = 0; i < count; ++i, boxes += 4) {
    const double a = boxes[0], b = boxes[1], p = boxes[2], q = boxes[3];
    if (center_point)
      out.push(b - q / 2, a - p / 2, b + q / 2, a + p / 2);
    else
      out.push(std::min(a, p), std::min(b, q), std::max(a, p), std::max(b, q));
  }
}

bool suppressed(const Rectangles& all, size_t i, const Rectangles& kept, double threshold) {
  const double y1 = all.y1[i], x1 = all.x1[i], y2 = all.y2[i], x2 = all.x2[i], area = all.area[i];
  if (!(area > 0)) return false;
  const size_t count = kept.y1.size();
  for (size_t k = 0; k < count; ++k) {
    const double height = std::min(y2, kept.y2[k]) - std::max(y1, kept.y1[k]);
    if (!(height > 0)) continue;
    const double width = std::min(x2, kept.x2[k]) - std::max(x1, kept.x1[k]);
    if (!(width > 0 && kept.area[k] > 0)) continue;
    const double common = height * width;
    if (common / (area + kept.area[k] - common) > threshold) return true;
  }
  return false;
}

// A number that sorts as candidates do: highest score first (NaN as the lowest there is), then lowest index.
uint64_t candidate(float score, int64_t index) {
  const int64_t key = sort_key(score != score ? -std::numeric_limits<float>::infinity() : score);
  return static_cast<uint64_t>(INT32_MAX - key) << 32 | static_cast<uint64_t>(index);
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
    Rectangles all, kept;
    for (int64_t b = 0; b < batches && most > 0 && count > 0; ++b) {
      read_rectangles(boxes.as<float>() + b * count * 4, count, center_point, all);
      for (int64_t c = 0; c < classes; ++c) {
        const float* score = scores.as<float>() + (b * classes + c) * count;
        candidates.clear();
        for (int64_t i = 0; i < count; ++i)
          if (!floor || static_cast<double>(score[i]) > least) candidates.push_back(candidate(score[i], i));
        kept.clear();
        Sorted sorted(candidates);
        for (size_t n = 0; n < candidates.size() && static_cast<int64_t>(kept.y1.size()) < most; ++n) {
          const size_t i = sorted.index(n);
          if (suppressed(all, i, kept, threshold)) continue;
          kept.push(all, i);
          found.insert(found.end(), {b, c, static_cast<int64_t>(i)});
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
                            .needs = boxed_needs,
                            .cost = cost,
                            .bind = boxed_bind,
                            .run = run,
                            .takes_boxes = true}};

}  // namespace

std::span<const Kernel> suppression_kernels() { return rows; }

}  // namespace sinter::cpu
