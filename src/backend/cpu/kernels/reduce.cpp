#include "backend/cpu/kernels/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/stages.h"
#include "backend/cpu/tile_executor.h"
#include "backend/cpu/tile_plan.h"
#include "base/checked.h"
#include "ops/reduction.h"

namespace sinter::cpu {
namespace {

constexpr int64_t segment = 1024;  // elements that are folded or added at a time
constexpr int64_t batch = 64;      // f32 sums over more numbers than this are sums of sums

struct Axis {
  int64_t extent, from, to;  // strides in operand and result
};

struct Reduction {
  std::vector<Axis> kept, reduced;   // outermost first
  bool folds = false;                // the innermost axis is reduced, and stands in `row` instead
  int64_t row = 1;                   // elements that follow each other: reduced when it folds, else kept
  int64_t row_from = 1, row_to = 0;  // strides of a kept row
  int64_t block = 1, blocks = 1;     // a kept row in parts
  int64_t count = 1;                 // numbers behind each result
  int64_t units = 0, chunks = 0;
  Lane lane = Lane::f32;
  TileFold fold = TileFold::add;
  bool mean = false;
  DType dtype = DType::f32;
  const TileTable* table = nullptr;
};

TileFold fold_of(const Stage& stage) {
  return is_op(stage, "ReduceMax")    ? TileFold::max
         : is_op(stage, "ReduceMin")  ? TileFold::min
         : is_op(stage, "ReduceProd") ? TileFold::mul
                                      : TileFold::add;
}

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || !reduced_axes(problem, problem.stages[0]))
    return Answer::no("not one reduction of numbers over known axes");
  if (Answer a = plain_problem(problem); !a) return a;
  const Operand& x = problem.operands[problem.stages[0].inputs[0]];
  if (tile_memory(x.type.dtype) == TileMemory::none) return Answer::no("fp8");
  if (x.host || !strided_or_any(x.layout) || !strided_or_any(problem.results[0].layout))
    return Answer::no("a packed layout");
  return Answer::yes();
}

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  Needs out;
  for (const Operand& operand : problem.operands) out.operands.push_back(settled(operand.layout));
  const Stage& stage = problem.stages[0];
  const Layout& result = problem.results[0].layout;
  out.results.push_back(result.kind != Layout::Kind::any          ? result
                        : stage.attrs.as<ReduceAttrs>().keep_dims ? out.operands[stage.inputs[0]]
                                                                  : Layout());
  return out;
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  const Type& x = problem.operands[problem.stages[0].inputs[0]].type;
  return 500 + elements_at(x, symbols) * (0.15 + 0.05 * bit_size(x.dtype) / 8);
}

std::shared_ptr<const void> prepare(const Kernel&, const Problem&, const Config&, const DeviceSpec& device) {
  return std::make_shared<uint8_t>(device.level);
}

void bind(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const uint16_t x = stage.inputs[0];
  const Dims& dims = c.operands[x];
  const std::vector<size_t> axes = *reduced_axes(c.problem, stage);
  Reduction& r = emplace<Reduction>(bound);
  r.table = &tile_table(*static_cast<const uint8_t*>(prepared));
  r.dtype = c.problem.operands[x].type.dtype;
  r.lane = r.dtype == DType::f64 ? Lane::f64 : is_integer(r.dtype) ? Lane::i64 : Lane::f32;
  r.fold = fold_of(stage);
  r.mean = is_op(stage, "ReduceMean");
  const Dims from = layout_strides(c.problem.operands[x].layout, dims);
  const Dims result = layout_strides(c.problem.results[0].layout, c.results[0]);
  const bool keeps = stage.attrs.as<ReduceAttrs>().keep_dims;
  const auto is_reduced = [&](size_t axis) { return std::binary_search(axes.begin(), axes.end(), axis); };
  const std::vector<uint8_t>& order = c.problem.operands[x].layout.order;
  struct Tagged {
    Axis axis;
    bool reduced;
  };
  std::vector<Tagged> list;  // in the operand's physical order
  for (size_t k = 0; k < dims.size(); ++k) {
    const size_t axis = order.empty() ? k : order[k];
    const bool reduced = is_reduced(axis);
    int64_t to = 0;
    if (!reduced) {
      const auto before = static_cast<size_t>(std::lower_bound(axes.begin(), axes.end(), axis) - axes.begin());
      to = result[keeps ? axis : axis - before];
    } else {
      r.count *= dims[axis];
    }
    if (dims[axis] == 1) continue;
    const Axis a{dims[axis], from[axis], to};
    if (!list.empty() && list.back().reduced == reduced && list.back().axis.from == a.from * a.extent &&
        (reduced || list.back().axis.to == a.to * a.extent))
      list.back().axis = {list.back().axis.extent * a.extent, a.from, a.to};
    else
      list.push_back({a, reduced});
  }
  if (!list.empty() && list.back().axis.from == 1) {
    const Tagged last = list.back();
    list.pop_back();
    r.row = last.axis.extent;
    r.row_to = last.axis.to;
    r.folds = last.reduced;
    constexpr int64_t short_row = 16;
    if (r.folds && r.row <= short_row && !list.empty() && list.back().axis.extent > r.row) {
      // Too little for a loop: rows are made beside each other instead.
      const Axis beside = list.back().axis;
      list.back() = {{r.row, 1, 0}, true};
      r.row = beside.extent;
      r.row_from = beside.from;
      r.row_to = beside.to;
      r.folds = false;
    }
  }
  int64_t kept = 1;
  for (const Tagged& t : list) {
    (t.reduced ? r.reduced : r.kept).push_back(t.axis);
    if (!t.reduced) kept *= t.axis.extent;
  }
  // Parts of a kept row are computed alike wherever they are cut.
  r.block = r.folds ? 1 : std::min(segment, r.row);
  if (!r.folds && c.threads > 1 && kept < c.threads)
    r.block = std::min(r.block, std::max<int64_t>(64, r.row / c.threads / 64 * 64));
  r.block = std::max<int64_t>(r.block, 1);
  r.blocks = r.folds ? 1 : (r.row + r.block - 1) / r.block;
  r.units = kept * r.blocks;
  const int64_t bytes = product(dims) * bit_size(r.dtype) / 8;
  r.chunks = bound.chunks[0] = chunks_for(bytes, r.units, c.threads);
  bound.scratch = 3 * segment * 8 + 64;
}

// Goes through positions of axes; offsets follow.
class Position {
 public:
  explicit Position(const std::vector<Axis>& axes) : axes_(axes) {}
  void seek(int64_t index) {
    from = to = 0;
    for (size_t k = axes_.size(); k-- > 0;) {
      at_[k] = index % axes_[k].extent;
      index /= axes_[k].extent;
      from += at_[k] * axes_[k].from;
      to += at_[k] * axes_[k].to;
    }
  }
  bool next() {
    for (size_t k = axes_.size(); k-- > 0;) {
      from += axes_[k].from;
      to += axes_[k].to;
      if (++at_[k] < axes_[k].extent) return true;
      from -= at_[k] * axes_[k].from;
      to -= at_[k] * axes_[k].to;
      at_[k] = 0;
    }
    return false;
  }
  int64_t from = 0, to = 0;

 private:
  const std::vector<Axis>& axes_;
  int64_t at_[max_rank_of_values] = {};
};

void fill_neutral(const Reduction& r, void* out, int64_t n) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const double real = r.fold == TileFold::add ? 0 : r.fold == TileFold::mul ? 1 : r.fold == TileFold::min ? inf : -inf;
  if (r.lane == Lane::f32) {
    std::fill_n(static_cast<float*>(out), n, static_cast<float>(real));
  } else if (r.lane == Lane::f64) {
    std::fill_n(static_cast<double*>(out), n, real);
  } else {
    const int bits = bit_size(r.dtype) - (is_signed(r.dtype) ? 1 : 0);
    const int64_t high = bits >= 63 ? std::numeric_limits<int64_t>::max() : (int64_t{1} << bits) - 1;
    const int64_t low = is_signed(r.dtype) ? -high - 1 : 0;
    const int64_t v = r.fold == TileFold::add ? 0 : r.fold == TileFold::mul ? 1 : r.fold == TileFold::min ? high : low;
    std::fill_n(static_cast<int64_t*>(out), n, v);
  }
}

class Worker {
 public:
  Worker(const Reduction& r, const void* x, void* y, std::byte* scratch)
      : r_(r), x_(static_cast<const std::byte*>(x)), y_(static_cast<std::byte*>(y)) {
    total_ = scratch;
    partial_ = scratch + segment * 8;
    loaded_ = scratch + 2 * segment * 8;
    width_ = bit_size(r.dtype) / 8;
    const int memory = static_cast<int>(tile_memory(r.dtype)), lane = static_cast<int>(r.lane);
    in_place_ = (r.lane == Lane::f32 && r.dtype == DType::f32) || (r.lane == Lane::f64) ||
                (r.lane == Lane::i64 && bit_size(r.dtype) == 64);
    load_ = r.table->load[memory][lane];
    store_ = r.table->store[lane][memory];
    fold_ = r.table->fold[lane][static_cast<int>(r.fold)];
    constexpr TileBinary operators[] = {TileBinary::add, TileBinary::mul, TileBinary::min, TileBinary::max};
    combine_ = r.table->binary[lane][static_cast<int>(operators[static_cast<int>(r.fold)])][form_vv];
  }

  void unit(int64_t index) {
    Position kept(r_.kept);
    kept.seek(index / r_.blocks);
    const int64_t begin = index % r_.blocks * r_.block;
    const int64_t n = r_.folds ? 1 : std::min(r_.block, r_.row - begin);
    fill_neutral(r_, total_, n);
    if (r_.count > 0) r_.folds ? fold(kept.from) : stack(kept.from + begin * r_.row_from, n);
    if (r_.mean) divide(n);
    TileArgs t;
    t.a = total_;
    t.out = y_ + (kept.to + begin * r_.row_to) * width_;
    t.out_col = r_.folds ? 1 : r_.row_to;
    t.rows = 1;
    t.cols = n;
    store_(t);
  }

 private:
  // n elements of the operand as registers, without a copy where possible.
  const void* read(int64_t at, int64_t n) {
    const std::byte* p = x_ + at * width_;
    const int64_t step = r_.folds ? 1 : r_.row_from;
    if (in_place_ && step == 1) return p;
    TileArgs t;
    t.a = p;
    t.a_col = step;
    t.out = loaded_;
    t.rows = 1;
    t.cols = n;
    load_(t);
    return loaded_;
  }

  void fold(int64_t at) {
    Position p(r_.reduced);
    do {
      for (int64_t i = 0; i < r_.row; i += segment) {
        TileArgs t;
        t.rows = 1;
        t.cols = std::min(segment, r_.row - i);
        t.a = read(at + p.from + i, t.cols);
        t.out = total_;
        fold_(t);
      }
    } while (p.next());
  }

  void add(void* sum, const void* numbers, int64_t n) {
    TileArgs t;
    t.out = sum;
    t.a = sum;
    t.b = numbers;
    t.rows = 1;
    t.cols = n;
    combine_(t);
  }

  void stack(int64_t at, int64_t n) {
    Position p(r_.reduced);
    const bool batches = r_.fold == TileFold::add && r_.lane == Lane::f32 && r_.count > batch;
    int64_t in_batch = 0;
    do {
      const void* numbers = read(at + p.from, n);
      if (!batches) {
        add(total_, numbers, n);
        continue;
      }
      if (in_batch == 0)
        std::memcpy(partial_, numbers, static_cast<size_t>(n) * sizeof(float));
      else
        add(partial_, numbers, n);
      if (++in_batch == batch) {
        add(total_, partial_, n);
        in_batch = 0;
      }
    } while (p.next());
    if (in_batch > 0) add(total_, partial_, n);
  }

  void divide(int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      if (r_.lane == Lane::f32)
        reinterpret_cast<float*>(total_)[i] /= static_cast<float>(r_.count);
      else
        reinterpret_cast<double*>(total_)[i] /= static_cast<double>(r_.count);
    }
  }

  const Reduction& r_;
  const std::byte* x_;
  std::byte *y_, *total_, *partial_, *loaded_;
  int64_t width_;
  bool in_place_;
  TileLoop load_, store_, fold_, combine_;
};

Status run(const Launch& launch) {
  const Reduction& r = launch.bound->as<Reduction>();
  Worker worker(r, launch.operands[launch.problem->stages[0].inputs[0]],
                launch.operands[launch.problem->operands.size()], launch.scratch);
  const auto [begin, end] = part(r.units, r.chunks, launch.chunk);
  for (int64_t i = begin; i < end; ++i) worker.unit(i);
  return {};
}

}  // namespace

const Kernel reduce_kernel = {
    .name = "reduce", .supports = supports, .needs = needs, .cost = cost, .prepare = prepare, .bind = bind, .run = run};

}  // namespace sinter::cpu
